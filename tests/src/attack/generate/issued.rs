//! Manifests in the hands of whoever has the store, or the key of manifests: A05 to A07, A10, H01, H02.
//!
//! The reader begins from the bootstrap string, with `snapkit verify --from`.

use std::fs;

use jiff::SignedDuration;
use manifests::document::manifest::{Manifest, PAYLOAD_TYPE};
use manifests::envelope;
use manifests::keys::SecretKey;
use manifests::refusal::Class;

use super::super::prebuilt::FROM_MANIFEST;
use super::{Making, Recipe, with_signatures};
use crate::Issuer;
use crate::issuer::PINS;

pub(super) const RECIPES: &[Recipe] = &[
    Recipe { name: "a05-a-manifest-that-stands-still-until-it-expires", make: |making| expired(making, true) },
    Recipe { name: "a05-an-expired-manifest-for-a-cold-reader", make: |making| expired(making, false) },
    Recipe { name: "a06-an-old-state-under-an-unexpired-manifest", make: old_state },
    Recipe { name: "a06-an-older-state-than-the-pin-asks-for", make: below_the_minimum },
    Recipe { name: "a07-a-manifest-of-another-chain", make: foreign },
    Recipe { name: "a07-a-manifest-signed-for-another-chain", make: signed_for_another },
    Recipe { name: "a07-a-head-that-the-chain-does-not-have", make: other_head },
    Recipe { name: "a07-a-new-manifest-over-an-old-chain", make: old_chain },
    Recipe { name: "a07-a-manifest-that-says-what-the-record-does-not", make: other_facts },
    Recipe { name: "a07-pins-by-the-key-of-manifests", make: |making| pins(making, false) },
    Recipe { name: "a07-pins-of-another-name", make: |making| pins(making, true) },
    Recipe { name: "a10-a-version-below-the-one-that-was-seen", make: |making| driven_up(making, false) },
    Recipe { name: "a10-a-rotated-key-forgets-the-versions-of-a-stolen-one", make: |making| driven_up(making, true) },
    Recipe { name: "h01-another-store-behind-the-address-that-was-seen", make: |making| other_store(making, true) },
    Recipe { name: "h01-another-store-behind-the-right-address", make: |making| other_store(making, false) },
    Recipe { name: "h02-a-manifest-of-a-newer-format", make: |making| newer(making, "manifest:0-draft", "manifest:9") },
    Recipe {
        name: "h02-a-manifest-that-needs-what-is-not-known",
        make: |making| newer(making, r#""pins":{"#, r#""critical":["witness"],"pins":{"#),
    },
    Recipe { name: "h02-a-manifest-without-signatures", make: unsigned },
];

fn key() -> String {
    format!("manifests/{FROM_MANIFEST}.json")
}

/// An issuer whose manifest names no path of the machine on which it was made.
fn issuer() -> Issuer {
    let config = PINS.replacen("[manifest]", "[manifest]\nstores = [\"../\"]", 1);
    let issuer = Issuer::without_pins(&config);
    for command in [&["pins", "edit"][..], &["pins", "sign"]] {
        issuer.machine.ok(command);
    }
    issuer.generate();
    issuer
}

/// A chain with a manifest, which the reader has seen or not.
fn issued(making: &mut Making, seen: bool) -> Issuer {
    let issuer = issuer();
    making.issued_by(&issuer);
    if seen {
        making.seen();
    }
    issuer
}

/// Puts a changed manifest, signed by this key, into the place of the newest.
fn serve(making: &Making, issuer: &Issuer, signer: &SecretKey, change: impl FnOnce(&mut Manifest)) {
    making.forge.put(&key(), &issuer.forged_by(signer, change));
}

/// Nothing new comes any more, and the key of manifests is not asked.
fn expired(making: &mut Making, seen: bool) {
    issued(making, seen);
    making.judged_at(making.now() + SignedDuration::from_hours(24 * 8));
    making.refused(Class::Stale, "manifest");
}

/// Everything is signed and has not expired; only the age of the newest snapshot tells.
fn old_state(making: &mut Making) {
    issued(making, false);
    making.judged_at(making.now() + SignedDuration::from_hours(30));
    making.refused(Class::Stale, "snapshot");
}

fn below_the_minimum(making: &mut Making) {
    let issuer = issued(making, false);
    issuer.snapshots(1);
    let newest = issuer.machine.ok(&["show", "latest", "--json"]).json("snapkit.show/1");
    making.at_least(newest["seq"].as_u64().unwrap(), &newest["id"].as_str().unwrap().parse().unwrap());
    making.refused(Class::Rollback, "chain/00000000000000000002.json");
}

fn foreign(making: &mut Making) {
    issued(making, false);
    making.forge.put(&key(), &fs::read(issuer().file()).unwrap());
    making.refused(Class::SigUntrusted, "manifest");
}

fn signed_for_another(making: &mut Making) {
    let issuer = issued(making, false);
    let chain = issuer.manifest().head.digest;
    serve(making, &issuer, &issuer.node, |manifest| manifest.chain = chain);
    making.refused(Class::Origin, "manifest");
}

fn other_head(making: &mut Making) {
    let issuer = issued(making, false);
    let other = issuer.manifest().chain;
    serve(making, &issuer, &issuer.node, |manifest| {
        (manifest.head.digest, manifest.snapshot.digest) = (other, other);
    });
    making.refused(Class::Mix, "record 1");
}

fn old_chain(making: &mut Making) {
    let issuer = issued(making, false);
    issuer.snapshots(1);
    issuer.generate();
    making.forge.put(&key(), &fs::read(issuer.file()).unwrap());
    making.refused(Class::Rollback, "record 2");
}

fn other_facts(making: &mut Making) {
    let issuer = issued(making, true);
    serve(making, &issuer, &issuer.node, |manifest| {
        manifest.version = 2;
        manifest.snapshot.captured = Issuer::hours(1);
    });
    making.refused(Class::Manifest, "manifest");
}

/// The key of manifests can neither make pins nor bring those of another manifest.
fn pins(making: &mut Making, by_owner: bool) {
    let issuer = issued(making, true);
    let signer = if by_owner { &issuer.owner } else { &issuer.node };
    let pins = issuer.forged_pins(signer, |pins| {
        pins.version = 2;
        if by_owner {
            pins.name = "other".into();
        }
    });
    serve(making, &issuer, &issuer.node, |manifest| (manifest.version, manifest.pins) = (2, pins));
    making.refused(if by_owner { Class::Origin } else { Class::Role }, "pins");
}

/// A stolen key of manifests drove the version up to the end; a new root is the whole remedy.
fn driven_up(making: &mut Making, rotated: bool) {
    let issuer = issued(making, false);
    serve(making, &issuer, &issuer.node, |manifest| manifest.version = (1 << 53) - 1);
    making.seen();
    if rotated {
        let new = issuer.rotate("manifest");
        making.forge.put("root/2.json", &fs::read(issuer.machine.path("store/root/2.json")).unwrap());
        serve(making, &issuer, &new, |manifest| manifest.version = 2);
        making.moves_on();
    } else {
        serve(making, &issuer, &issuer.node, |manifest| manifest.version = 2);
        making.refused(Class::Rollback, "manifest");
    }
}

fn other_store(making: &mut Making, seen: bool) {
    issued(making, seen);
    making.replace_store(&issuer().machine.path("store"));
    making.refused(Class::RootPin, "root/1.json");
}

fn newer(making: &mut Making, from: &str, to: &str) {
    let issuer = issued(making, true);
    let text = String::from_utf8(issuer.manifest().payload().unwrap()).unwrap();
    let changed = text.replacen(from, to, 1);
    assert_ne!(text, changed);
    making.forge.put(&key(), &envelope::sign(PAYLOAD_TYPE, changed.as_bytes(), &[&issuer.node]).unwrap());
    making.refused(Class::Newer, "manifest");
}

fn unsigned(making: &mut Making) {
    let issuer = issued(making, true);
    making.forge.put(&key(), &with_signatures(&fs::read(issuer.file()).unwrap(), Vec::clear));
    making.refused(Class::SigMissing, "manifest");
}
