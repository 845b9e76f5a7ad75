//! Roots, keys and signatures: B01 to B06 and B08 to B11. B12 is about key files, of which a store has none.

use std::fs;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use manifests::digest::Digest;
use manifests::document::root::{Key, PAYLOAD_TYPE, Role, RootDocument};
use manifests::document::{genesis, snapshot};
use manifests::envelope;
use manifests::keys::{SecretKey, Signer};
use manifests::refusal::Class;
use serde_json::Value;

use super::super::Content;
use super::{Making, Recipe, document, with_signatures};

pub(super) const RECIPES: &[Recipe] = &[
    Recipe { name: "b01-one-key-listed-nine-times", make: listed_nine_times },
    Recipe { name: "b01-one-signature-nine-times", make: signed_nine_times },
    Recipe { name: "b02-a-key-under-the-id-of-another", make: other_id },
    Recipe { name: "b02-one-key-under-two-ids", make: two_ids },
    Recipe { name: "b03-a-key-of-another-type", make: |making| named(making, |key| key.keytype = "rsa".into()) },
    Recipe { name: "b03-a-key-of-another-scheme", make: |making| named(making, |key| key.scheme = "ed25519ph".into()) },
    Recipe { name: "b04-the-order-of-the-group-added-to-s", make: |making| encoded(making, add_order) },
    Recipe { name: "b05-the-identity-as-a-key", make: |making| weak(making, &format!("01{}", "00".repeat(31))) },
    Recipe {
        name: "b05-a-point-of-order-8-as-a-key",
        make: |making| weak(making, "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"),
    },
    Recipe { name: "b06-an-r-that-is-not-canonical", make: |making| encoded(making, non_canonical) },
    Recipe {
        name: "b06-a-key-that-is-not-canonical",
        make: |making| weak(making, &format!("ee{}7f", "ff".repeat(30))),
    },
    Recipe { name: "b08-33-signatures", make: flooded },
    Recipe { name: "b09-what-a-revoked-writer-signs-counts-for-nothing", make: revoked },
    Recipe { name: "b10-a-snapshot-by-a-key-of-another-role-counts-for-nothing", make: snapshot_by_drill },
    Recipe { name: "b10-a-root-by-a-key-of-another-role", make: root_by_drill },
    Recipe { name: "b10-a-genesis-by-a-key-of-another-role", make: genesis_by_node },
    Recipe { name: "b11-a-root-by-its-new-owner-alone", make: |making| taken(making, true) },
    Recipe { name: "b11-a-root-by-its-old-owner-alone", make: |making| taken(making, false) },
];

fn key(seed: u8) -> SecretKey {
    SecretKey::from_seed(&[seed; 32])
}

/// The owner's key, for use beside the forge.
fn owner(making: &Making) -> SecretKey {
    SecretKey::parse(&making.forge.owner.to_pem()).unwrap()
}

fn root_role(document: &mut RootDocument) -> &mut Role {
    document.roles.iter_mut().find(|role| role.name == "root").unwrap()
}

/// Puts a root after `after`, changed and signed by these keys; it need not be one that a writer would make.
fn put(making: &mut Making, after: u64, change: impl FnOnce(&mut RootDocument), signers: &[&SecretKey]) -> Vec<u8> {
    let mut root = document(&fs::read(making.forge.object(&format!("root/{after}.json"))).unwrap());
    root.version = after + 1;
    change(&mut root);
    let signers: Vec<&dyn Signer> = signers.iter().map(|key| *key as &dyn Signer).collect();
    let bytes = envelope::sign(PAYLOAD_TYPE, &serde_json::to_vec(&root).unwrap(), &signers).unwrap();
    making.forge.put(&format!("root/{}.json", after + 1), &bytes);
    bytes
}

/// Puts root 2, signed by the owner and refused with this class.
fn refused_two(making: &mut Making, change: impl FnOnce(&mut RootDocument), class: Class) -> Vec<u8> {
    making.seen();
    let owner = owner(making);
    let bytes = put(making, 1, change, &[&owner]);
    making.refused(class, "root/2.json");
    bytes
}

fn listed_nine_times(making: &mut Making) {
    let nine = |root: &mut RootDocument| {
        let role = root_role(root);
        role.keys = vec![role.keys[0]; 9];
        role.threshold = 2;
    };
    refused_two(making, nine, Class::Threshold);
}

fn signed_nine_times(making: &mut Making) {
    let owner = owner(making);
    let two = |root: &mut RootDocument| {
        root.add_key(&key(7).public(), "root").unwrap();
        root.set_threshold("root", 2).unwrap();
    };
    put(making, 1, two, &[&owner, &key(7)]);
    making.seen();
    let three = put(making, 2, |_| {}, &[&owner]);
    let nine = |signatures: &mut Vec<Value>| *signatures = vec![signatures[0].clone(); 9];
    making.forge.put("root/3.json", &with_signatures(&three, nine));
    making.refused(Class::Root, "root/3.json");
}

fn other_id(making: &mut Making) {
    let swapped = |root: &mut RootDocument| {
        let id = root.keys[0].id;
        root.keys[0].id = root.keys[1].id;
        root.keys[1].id = id;
    };
    refused_two(making, swapped, Class::KeyId);
}

fn two_ids(making: &mut Making) {
    let twin = |root: &mut RootDocument| {
        let twin = Key { id: Digest([0xff; 32]), ..root.keys[0].clone() };
        root_role(root).keys.push(twin.id);
        root.keys.push(twin);
    };
    refused_two(making, twin, Class::KeyId);
}

fn named(making: &mut Making, change: fn(&mut Key)) {
    refused_two(making, |root| change(&mut root.keys[0]), Class::Alg);
}

fn weak(making: &mut Making, public: &str) {
    let weak = |root: &mut RootDocument| {
        let json = format!(r#"{{"keytype":"ed25519","keyval":{{"public":"{public}"}},"scheme":"ed25519"}}"#);
        let id = Digest::sha256(json.as_bytes());
        root.keys.push(Key { id, public: public.to_owned(), ..root.keys[0].clone() });
        root.keys.sort_by_key(|key| key.id);
        root_role(root).keys.push(id);
        root_role(root).keys.sort();
    };
    refused_two(making, weak, Class::WeakKey);
}

/// The order of the group, little-endian.
const ORDER: [u8; 32] = [
    0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 0, 0, 0, 0, 0, 0,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
];

fn add_order(signature: &mut [u8]) {
    let mut carry = 0;
    for (byte, order) in signature[32..].iter_mut().zip(ORDER) {
        let sum = u16::from(*byte) + u16::from(order) + carry;
        *byte = sum as u8;
        carry = sum >> 8;
    }
}

/// The identity with y above the prime in the place of R.
fn non_canonical(signature: &mut [u8]) {
    signature[0] = 0xee;
    signature[1..31].fill(0xff);
    signature[31] = 0x7f;
}

/// Another encoding of the one signature on root 1, which a cold reader asks for.
fn encoded(making: &mut Making, change: fn(&mut [u8])) {
    let root = fs::read(making.forge.object("root/1.json")).unwrap();
    let changed = with_signatures(&root, |signatures| {
        let mut signature = STANDARD.decode(signatures[0]["sig"].as_str().unwrap()).unwrap();
        change(&mut signature);
        signatures[0]["sig"] = STANDARD.encode(signature).into();
    });
    making.forge.put("root/1.json", &changed);
    making.refused(Class::Sig, "root/1.json");
}

/// One more than may be there; floods that are longer than a root are A15.
fn flooded(making: &mut Making) {
    let good = refused_two(making, |_| {}, Class::TooMany);
    let flooded = with_signatures(&good, |signatures| *signatures = vec![signatures[0].clone(); 33]);
    making.forge.put("root/2.json", &flooded);
}

fn revoked(making: &mut Making) {
    making.seen();
    let owner = owner(making);
    let retire = |root: &mut RootDocument| {
        let writer = root.writers[0].key;
        root.retire_writer(&writer, 2).unwrap();
    };
    // The thief goes on as if nothing had happened.
    making.grow();
    put(making, 1, retire, &[&owner]);
    making.keeps_roots(2);
}

fn with_drill(making: &mut Making) {
    let owner = owner(making);
    put(making, 1, |root| root.add_key(&key(7).public(), "drill").unwrap(), &[&owner]);
    making.seen();
}

fn snapshot_by_drill(making: &mut Making) {
    with_drill(making);
    let mut content = Content::new();
    content.file("file", b"evil\n");
    let payload = making.forge.snapshot(content);
    let bytes = envelope::sign(snapshot::PAYLOAD_TYPE, payload.as_bytes(), &[&key(7)]).unwrap();
    making.forge.put_slot(&bytes);
}

fn payload(envelope: &[u8]) -> Vec<u8> {
    let envelope: Value = serde_json::from_slice(envelope).unwrap();
    STANDARD.decode(envelope["payload"].as_str().unwrap()).unwrap()
}

fn root_by_drill(making: &mut Making) {
    with_drill(making);
    put(making, 2, |_| {}, &[&key(7)]);
    making.refused(Class::Root, "root/3.json");
}

fn genesis_by_node(making: &mut Making) {
    let payload = payload(&making.forge.slot(0));
    let bytes = envelope::sign(genesis::PAYLOAD_TYPE, &payload, &[&making.forge.node]).unwrap();
    making.forge.replace_slot(0, &bytes);
    making.refused(Class::Role, "record 0");
}

fn taken(making: &mut Making, by_new: bool) {
    making.seen();
    let owner = owner(making);
    let taken = |root: &mut RootDocument| {
        let old = root_role(root).keys[0];
        root.add_key(&key(7).public(), "root").unwrap();
        root.remove_key(&old, "root").unwrap();
    };
    let signer = if by_new { key(7) } else { owner };
    put(making, 1, taken, &[&signer]);
    making.refused(Class::Root, "root/2.json");
}
