//! Roots and keys: A01, A02, A08, A11, A12, A13, A16, B07.

use manifests::document::root::STEPS_CAP;
use manifests::keys::{SecretKey, Signer};
use manifests::refusal::Class;
use serde_json::json;

use super::super::{Content, Forge, resigned};
use super::{Making, Recipe, with_signatures};

const GENESIS: &str = "chain/00000000000000000000.json";
const FIRST: &str = "chain/00000000000000000001.json";

pub(super) const RECIPES: &[Recipe] = &[
    Recipe { name: "a01-a-store-of-other-keys-in-the-place-of-one-that-was-seen", make: other_store_seen },
    Recipe { name: "a01-a-store-of-other-keys-for-a-cold-reader", make: other_store_cold },
    Recipe { name: "a01-records-of-other-keys-below-the-right-root", make: other_records },
    Recipe { name: "a02-a-first-root-without-signatures", make: |making| stripped(making, "root/1.json") },
    Recipe { name: "a02-a-genesis-without-signatures", make: |making| stripped(making, GENESIS) },
    Recipe { name: "a02-a-next-root-without-signatures", make: next_root_stripped },
    Recipe { name: "a02-a-next-root-with-an-unknown-signature-alone", make: next_root_by_a_stranger },
    Recipe { name: "a02-a-newest-record-without-signatures-counts-for-nothing", make: head_stripped },
    Recipe { name: "a08-a-chain-of-another-genesis-under-the-same-root", make: other_genesis },
    Recipe { name: "a11-a-record-in-the-place-of-a-root", make: record_as_root },
    Recipe { name: "a11-a-root-in-the-place-of-genesis", make: root_as_genesis },
    Recipe { name: "a12-a-root-that-skips-a-version", make: |making| root_of_version(making, 3) },
    Recipe { name: "a12-a-root-that-comes-again", make: root_again },
    Recipe { name: "a13-a-refused-root-after-a-good-one-is-not-kept", make: refused_after_good },
    Recipe { name: "a16-more-new-roots-than-one-run-follows", make: endless_roots },
    Recipe { name: "b07-bad-signatures-beside-a-good-one", make: bad_beside_good },
];

fn stranger() -> SecretKey {
    SecretKey::from_seed(&[9; 32])
}

fn other_store_seen(making: &mut Making) {
    making.seen();
    making.replace_by(&Forge::new());
    making.refused(Class::RootPin, "root/1.json");
}

fn other_store_cold(making: &mut Making) {
    making.replace_by(&Forge::new());
    making.refused(Class::RootPin, "root/1.json");
}

fn other_records(making: &mut Making) {
    let other = Forge::new();
    [0, 1].into_iter().for_each(|seq| making.forge.replace_slot(seq, &other.slot(seq)));
    making.refused(Class::SigUntrusted, "record 0");
}

fn stripped(making: &mut Making, key: &str) {
    let bytes = std::fs::read(making.forge.object(key)).unwrap();
    making.forge.put(key, &with_signatures(&bytes, Vec::clear));
    let object = if key == GENESIS { "record 0" } else { key };
    making.refused(Class::SigMissing, object);
}

fn next_root_stripped(making: &mut Making) {
    making.seen();
    let root = making.root(1, |_| {}, &[&making.forge.owner]);
    making.forge.put("root/2.json", &with_signatures(&root, Vec::clear));
    making.refused(Class::Root, "root/2.json");
}

fn next_root_by_a_stranger(making: &mut Making) {
    making.seen();
    let root = making.root(1, |_| {}, &[&stranger()]);
    making.forge.put("root/2.json", &root);
    making.refused(Class::Root, "root/2.json");
}

fn head_stripped(making: &mut Making) {
    making.seen();
    let mut content = Content::new();
    content.file("file", b"evil\n");
    let payload = making.forge.snapshot(content);
    let seq = making.forge.put_snapshot(&payload);
    let bytes = with_signatures(&making.forge.slot(seq), Vec::clear);
    making.forge.replace_slot(seq, &bytes);
}

/// The chain "staging" in the place of the chain "production", both below one root.
fn other_genesis(making: &mut Making) {
    making.seen();
    let owner = &making.forge.owner;
    let nonce = |payload: &str| payload.split(r#""nonce":""#).nth(1).unwrap()[..32].to_owned();
    let genesis = resigned(&making.forge.slot(0), owner, |payload| {
        let old = nonce(&payload);
        payload.replacen(&old, &"7".repeat(32), 1)
    });
    making.forge.replace_slot(0, &genesis);
    making.forge.restart();
    let mut content = Content::new();
    content.file("file", b"staging\n");
    let payload = making.forge.snapshot(content);
    making.forge.put_snapshot(&payload);
    making.forge.follow();
    making.forge.hint();
    making.refused(Class::Origin, "record 1");
}

fn record_as_root(making: &mut Making) {
    making.seen();
    making.forge.put("root/2.json", &making.forge.slot(1));
    making.refused(Class::Type, "root/2.json");
}

fn root_as_genesis(making: &mut Making) {
    let root = std::fs::read(making.forge.object("root/1.json")).unwrap();
    making.forge.put(GENESIS, &root);
    making.withhold(FIRST);
    making.withhold("checkpoint");
    making.refused(Class::Type, "record 0");
}

fn root_of_version(making: &mut Making, version: u64) {
    making.seen();
    let root = making.root(1, |root| root.version = version, &[&making.forge.owner]);
    making.forge.put("root/2.json", &root);
    making.refused(Class::Version, "root/2.json");
}

fn root_again(making: &mut Making) {
    making.seen();
    let root = std::fs::read(making.forge.object("root/1.json")).unwrap();
    making.forge.put("root/2.json", &root);
    making.refused(Class::Version, "root/2.json");
}

fn refused_after_good(making: &mut Making) {
    making.seen();
    let good = making.root(1, |_| {}, &[&making.forge.owner]);
    making.forge.put("root/2.json", &good);
    let bad = making.root(2, |_| {}, &[&stranger()]);
    making.forge.put("root/3.json", &bad);
    making.refused(Class::Root, "root/3.json");
    making.keeps_roots(2);
}

fn endless_roots(making: &mut Making) {
    making.seen();
    let steps = u64::from(STEPS_CAP);
    for version in 1..=steps + 1 {
        let root = making.root(version, |_| {}, &[&making.forge.owner]);
        making.forge.put(&format!("root/{}.json", version + 1), &root);
    }
    making.refused_once(Class::TooMany, &format!("root/{}.json", steps + 2));
    making.keeps_roots(steps + 1);
}

fn bad_beside_good(making: &mut Making) {
    for key in ["root/1.json", GENESIS, FIRST] {
        let bytes = std::fs::read(making.forge.object(key)).unwrap();
        let garbage = "A".repeat(86) + "==";
        let stranger = stranger().public().id().to_string();
        let bytes = with_signatures(&bytes, |signatures| {
            let good = signatures[0]["keyid"].clone();
            signatures.insert(0, json!({ "keyid": good, "sig": garbage }));
            signatures.push(json!({ "keyid": stranger, "sig": garbage }));
            signatures.push(json!({ "keyid": stranger, "sig": "AAAA" }));
        });
        making.forge.put(key, &bytes);
    }
}
