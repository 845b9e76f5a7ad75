//! Histories that are split, rewritten, spliced or knotted, and tiles that lie: D01 to D05.

use manifests::document::snapshot;
use manifests::log::Tile;
use manifests::refusal::Class;

use super::super::Content;
use super::{Making, Recipe};

const SECOND: &str = "chain/00000000000000000002.json";

pub(super) const RECIPES: &[Recipe] = &[
    Recipe { name: "d01-two-valid-records-for-one-slot", make: split },
    Recipe { name: "d02-a-history-that-was-rewritten-and-linked-anew", make: rewritten },
    Recipe { name: "d02-a-slot-below-the-mark-that-was-changed-later", make: changed_below },
    Recipe { name: "d03-a-record-of-another-chain-of-the-same-keys", make: spliced },
    Recipe { name: "d04-a-record-that-follows-itself", make: itself },
    Recipe { name: "d04-a-record-that-is-copied-into-the-next-slot", make: copied },
    Recipe { name: "d05-tiles-that-lie", make: |making| tiles(making, |bytes| bytes[5] ^= 1) },
    Recipe { name: "d05-tiles-that-are-cut-short", make: |making| tiles(making, |bytes| bytes.truncate(33)) },
    Recipe { name: "d05-tiles-with-a-hash-too-many", make: |making| tiles(making, |bytes| bytes.extend([7; 32])) },
];

fn evil() -> Content {
    let mut content = Content::new();
    content.file("file", b"evil\n");
    content
}

/// The writer signs another second record than the one that was seen.
fn split(making: &mut Making) {
    let first = making.forge.slot(1);
    making.grow();
    making.seen();
    making.forge.restart();
    making.forge.put_slot(&first);
    making.forge.follow();
    making.forge.commit(evil());
    making.refused(Class::Fork, SECOND);
}

/// All records after genesis are made anew, and each is right by itself.
fn rewritten(making: &mut Making) {
    making.grow();
    making.seen();
    making.forge.restart();
    for _ in 0..3 {
        making.forge.commit(evil());
    }
    making.refused(Class::Fork, SECOND);
}

/// The record that was seen stays, another one is put before it, and what follows goes by that.
fn changed_below(making: &mut Making) {
    making.grow();
    making.seen();
    let second = making.forge.slot(2);
    making.forge.restart();
    making.forge.commit(evil());
    making.forge.commit(evil());
    making.forge.commit(evil());
    making.forge.replace_slot(2, &second);
    making.refused(Class::Mix, "record 3");
}

/// The next slot of a chain with other bytes in genesis, whose keys are the same.
fn spliced(making: &mut Making) {
    making.grow();
    making.seen();
    let payload = making.forge.snapshot(evil());
    let chain = making.forge.digest_of(0).to_string();
    let other = "0".repeat(64);
    let payload = payload.replacen(&format!(r#""chain":"{chain}""#), &format!(r#""chain":"{other}""#), 1);
    making.forge.put_record(snapshot::PAYLOAD_TYPE, &payload);
}

fn itself(making: &mut Making) {
    making.grow();
    making.seen();
    let payload = making.forge.snapshot(evil());
    let previous = making.forge.digest_of(2).to_string();
    let own = manifests::digest::Digest::sha256(payload.as_bytes()).to_string();
    let payload = payload.replacen(&format!(r#""previous":"{previous}""#), &format!(r#""previous":"{own}""#), 1);
    making.forge.put_record(snapshot::PAYLOAD_TYPE, &payload);
    making.refused(Class::Mix, "record 3");
}

fn copied(making: &mut Making) {
    making.grow();
    making.seen();
    let second = making.forge.slot(2);
    making.forge.put_slot(&second);
}

/// Tiles prove nothing then, and the records are walked instead.
fn tiles(making: &mut Making, change: fn(&mut Vec<u8>)) {
    making.seen();
    // Beyond this a reader asks for tiles.
    let newest = (0..6).map(|_| making.grow()).last().unwrap();
    let width = u16::try_from(newest).unwrap() + 1;
    let tile = Tile { level: 0, index: 0, width }.path();
    let mut bytes = std::fs::read(making.forge.object(&tile)).unwrap();
    change(&mut bytes);
    making.forge.put(&tile, &bytes);
    making.moves_on();
}
