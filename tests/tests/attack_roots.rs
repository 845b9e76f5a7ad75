//! Hostile roots, keys and signatures: B01 to B06 and B08 to B12.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::PermissionsExt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use manifests::document::root::{PAYLOAD_TYPE, RootDocument};
use manifests::envelope;
use manifests::keys::{SecretKey, Signer};
use manifests::refusal::Class;
use serde_json::Value;
use snapkit_tests::attack::{Forge, Victim};

fn key(seed: u8) -> SecretKey {
    SecretKey::from_seed(&[seed; 32])
}

fn decoded(envelope: &[u8], field: &str) -> Vec<u8> {
    let envelope: Value = serde_json::from_slice(envelope).unwrap();
    STANDARD.decode(envelope.pointer(field).unwrap().as_str().unwrap()).unwrap()
}

/// The root after the newest in the store, changed; it need not be one that a writer would make.
fn next_root(forge: &Forge, after: u64, change: impl FnOnce(&mut RootDocument), signers: &[&SecretKey]) -> Vec<u8> {
    let bytes = fs::read(forge.object(&format!("root/{after}.json"))).unwrap();
    let mut document: RootDocument = serde_json::from_slice(&decoded(&bytes, "/payload")).unwrap();
    document.version = after + 1;
    change(&mut document);
    let signers: Vec<&dyn Signer> = signers.iter().map(|key| *key as &dyn Signer).collect();
    envelope::sign(PAYLOAD_TYPE, &serde_json::to_vec(&document).unwrap(), &signers).unwrap()
}

/// Everybody who pinned the chain refuses this as root 2, and all is well once it is gone.
#[track_caller]
fn refused_as_root_two(forge: &Forge, bytes: &[u8], class: Class) {
    let victim = Victim::of(forge);
    forge.put("root/2.json", bytes);
    victim.every_command_refuses(class, "root/2.json");
    let cold = Victim::without_pin(forge);
    cold.machine.run(&["trust", "add", &forge.bootstrap]).expect(class.exit_code().into());
    assert!(!cold.machine.home().join("trust").exists());
    forge.machine.run(&["snapshot", "--store", "store", "tree"]).expect(class.exit_code().into());
    fs::remove_file(forge.object("root/2.json")).unwrap();
    assert_eq!(victim.newest(), 1);
}

fn root_role(document: &mut RootDocument) -> &mut manifests::document::root::Role {
    document.roles.iter_mut().find(|role| role.name == "root").unwrap()
}

#[test]
fn b01_one_key_listed_or_signing_several_times_counts_once() {
    let forge = Forge::new();
    let listed = |document: &mut RootDocument| {
        let role = root_role(document);
        role.keys = vec![role.keys[0]; 9];
        role.threshold = 2;
    };
    refused_as_root_two(&forge, &next_root(&forge, 1, listed, &[&forge.owner]), Class::Threshold);
    // Two of two from root 2 on; then one signature, nine times.
    let two = |document: &mut RootDocument| {
        document.add_key(&key(7).public(), "root").unwrap();
        document.set_threshold("root", 2).unwrap();
    };
    forge.put("root/2.json", &next_root(&forge, 1, two, &[&forge.owner, &key(7)]));
    let victim = Victim::of(&forge);
    let single = next_root(&forge, 2, |_| {}, &[&forge.owner]);
    let mut copied: Value = serde_json::from_slice(&single).unwrap();
    let signature = copied["signatures"][0].clone();
    copied["signatures"] = Value::Array(vec![signature; 9]);
    forge.put("root/3.json", &serde_json::to_vec(&copied).unwrap());
    victim.every_command_refuses(Class::Root, "root/3.json");
}

#[test]
fn b02_a_key_under_another_id_is_refused() {
    let forge = Forge::new();
    let swapped = |document: &mut RootDocument| {
        let id = document.keys[0].id;
        document.keys[0].id = document.keys[1].id;
        document.keys[1].id = id;
    };
    refused_as_root_two(&forge, &next_root(&forge, 1, swapped, &[&forge.owner]), Class::KeyId);
    let twin = |document: &mut RootDocument| {
        let mut twin = document.keys[0].clone();
        twin.id = manifests::digest::Digest([0xff; 32]);
        root_role(document).keys.push(twin.id);
        root_role(document).threshold = 2;
        document.keys.push(twin);
    };
    refused_as_root_two(&forge, &next_root(&forge, 1, twin, &[&forge.owner]), Class::KeyId);
}

#[test]
fn b03_no_message_chooses_an_algorithm() {
    let forge = Forge::new();
    for name in ["none", "rsa", "ed25519ph", "ecdsa", "Ed25519", ""] {
        let keytype = |document: &mut RootDocument| document.keys[0].keytype = name.into();
        refused_as_root_two(&forge, &next_root(&forge, 1, keytype, &[&forge.owner]), Class::Alg);
    }
    let scheme = |document: &mut RootDocument| document.keys[0].scheme = "ed25519ph".into();
    refused_as_root_two(&forge, &next_root(&forge, 1, scheme, &[&forge.owner]), Class::Alg);
}

/// The order of the group, as it is added to S; little-endian.
const ORDER: [u8; 32] = [
    0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 0, 0, 0, 0, 0, 0,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
];

fn with_signature(envelope: &[u8], change: impl FnOnce(&mut [u8])) -> Vec<u8> {
    let mut signature = decoded(envelope, "/signatures/0/sig");
    change(&mut signature);
    let mut envelope: Value = serde_json::from_slice(envelope).unwrap();
    envelope["signatures"][0]["sig"] = STANDARD.encode(signature).into();
    serde_json::to_vec(&envelope).unwrap()
}

fn add_order(signature: &mut [u8]) {
    let mut carry = 0;
    for (byte, order) in signature[32..].iter_mut().zip(ORDER) {
        let sum = u16::from(*byte) + u16::from(order) + carry;
        *byte = sum as u8;
        carry = sum >> 8;
    }
    assert_eq!(carry, 0);
}

#[test]
fn b04_and_b06_other_encodings_of_a_good_signature_are_refused() {
    let forge = Forge::new();
    let good = fs::read(forge.object("root/1.json")).unwrap();
    let next = next_root(&forge, 1, |_| {}, &[&forge.owner]);
    let genesis = forge.slot(0);
    let non_canonical = |signature: &mut [u8]| {
        // The identity with y above the prime, which a verifier that reduces it takes for the identity.
        signature[0] = 0xee;
        signature[1..31].fill(0xff);
        signature[31] = 0x7f;
    };
    let changes: [fn(&mut [u8]); 3] = [add_order, non_canonical, |signature| signature[31] ^= 0x80];
    for change in changes {
        refused_as_root_two(&forge, &with_signature(&next, change), Class::Root);
        // Root 1 has the pinned digest; its signature is asked for all the same.
        forge.put("root/1.json", &with_signature(&good, change));
        let cold = Victim::without_pin(&forge);
        cold.machine.run(&["trust", "add", &forge.bootstrap]).expect(Class::Sig.exit_code().into());
        forge.put("root/1.json", &good);
        forge.replace_slot(0, &with_signature(&genesis, change));
        cold.machine.run(&["trust", "add", &forge.bootstrap]).expect(Class::Sig.exit_code().into());
        forge.replace_slot(0, &genesis);
    }
    // In a slot it is void, and the chain goes on.
    let mut forge = forge;
    forge.machine.write("tree/newer", "newer");
    forge.honest();
    let record = with_signature(&forge.slot(2), add_order);
    forge.replace_slot(2, &record);
    assert_eq!(Victim::of(&forge).newest(), 1);
}

#[test]
fn b05_keys_with_which_everybody_can_sign_are_refused_wherever_they_enter() {
    let forge = Forge::new();
    let order_8 = "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a";
    for public in [
        format!("01{}", "00".repeat(31)),
        "00".repeat(32),
        format!("ec{}7f", "ff".repeat(30)),
        format!("ee{}7f", "ff".repeat(30)),
        order_8.to_owned(),
    ] {
        let weak = |document: &mut RootDocument| {
            let id = format!(r#"{{"keytype":"ed25519","keyval":{{"public":"{public}"}},"scheme":"ed25519"}}"#);
            let id = manifests::digest::Digest::sha256(id.as_bytes());
            let key = manifests::document::root::Key { id, public: public.clone(), ..document.keys[0].clone() };
            document.keys.push(key);
            document.keys.sort_by_key(|key| key.id);
            root_role(document).keys.push(id);
            root_role(document).keys.sort();
        };
        refused_as_root_two(&forge, &next_root(&forge, 1, weak, &[&forge.owner]), Class::WeakKey);
    }
    let weak = format!("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAEA{} weak\n", "A".repeat(40));
    forge.machine.write("weak.pub", weak);
    let args = ["--store", "store", "root", "add-key", "weak.pub", "--role", "root"];
    forge.machine.run(&args).expect(Class::WeakKey.exit_code().into());
}

#[test]
fn b08_a_flood_of_signatures_is_refused() {
    let forge = Forge::new();
    let good = next_root(&forge, 1, |_| {}, &[&forge.owner]);
    let flooded = |count: usize| {
        let mut envelope: Value = serde_json::from_slice(&good).unwrap();
        let signature = envelope["signatures"][0].clone();
        envelope["signatures"] = Value::Array(vec![signature; count]);
        serde_json::to_vec(&envelope).unwrap()
    };
    refused_as_root_two(&forge, &flooded(33), Class::TooMany);
    refused_as_root_two(&forge, &flooded(100_000), Class::TooBig);
}

#[test]
fn b09_what_a_revoked_writer_signs_is_void_and_what_it_signed_stays() {
    let mut forge = Forge::new();
    let victim = Victim::of(&forge);
    let retire = |document: &mut RootDocument| {
        let writer = document.writers[0].key;
        document.retire_writer(&writer, 2).unwrap();
    };
    // The thief knows nothing of it yet, and goes on.
    forge.machine.write("tree/newer", "newer");
    let root = next_root(&forge, 1, retire, &[&forge.owner]);
    forge.honest();
    forge.put("root/2.json", &root);
    assert_eq!(victim.newest(), 1);
    assert_eq!(fs::read(victim.restores("1").join("file")).unwrap(), b"honest\n");
    victim.refuses(&["show", "2"], Class::Revoked, "record 2");
    let cold = Victim::of(&forge);
    assert_eq!(cold.newest(), 1);
    // All that is left of it is the hint at the newest record, which the next commit writes again.
    let report = cold.run(&["verify", "--data"]).expect(1).json("snapkit.verify/1");
    let objects: Vec<&Value> = report["findings"].as_array().unwrap().iter().map(|found| &found["object"]).collect();
    assert_eq!(objects, ["checkpoint"], "{report}");
    // Nor can the program be made to sign with it.
    let honest = forge.machine.run(&["snapshot", "--store", "store", "tree"]);
    assert!([Class::Revoked, Class::Rollback].map(|class| i32::from(class.exit_code())).contains(&honest.code));
}

#[test]
fn b10_no_key_signs_beyond_its_role() {
    let forge = Forge::new();
    let roles = |document: &mut RootDocument| {
        let node = document.writers[0].key;
        for (seed, role) in [(7, "drill"), (8, "manifest"), (9, "release")] {
            document.add_key(&key(seed).public(), role).unwrap();
        }
        document.remove_key(&node, "drill").unwrap();
    };
    forge.put("root/2.json", &next_root(&forge, 1, roles, &[&forge.owner]));
    let victim = Victim::of(&forge);
    let snapshot = String::from_utf8(decoded(&forge.slot(1), "/payload")).unwrap();
    for signer in [&key(7), &key(8), &key(9)] {
        // A snapshot by a key that is listed, for another role.
        let bytes = envelope::sign("application/vnd.snapkit.snapshot+json", snapshot.as_bytes(), &[signer]).unwrap();
        let seq = forge.next_seq();
        forge.replace_slot(seq, &bytes);
        assert_eq!(victim.newest(), 1);
        fs::remove_file(forge.object(&format!("chain/{seq:020}.json"))).unwrap();
        // A root by a key that is listed, and genesis by the node.
        let root = next_root(&forge, 2, |_| {}, &[signer]);
        forge.put("root/3.json", &root);
        victim.every_command_refuses(Class::Root, "root/3.json");
        fs::remove_file(forge.object("root/3.json")).unwrap();
    }
    let genesis = decoded(&forge.slot(0), "/payload");
    let forged = envelope::sign("application/vnd.snapkit.genesis+json", &genesis, &[&forge.node]).unwrap();
    forge.replace_slot(0, &forged);
    Victim::without_pin(&forge).machine.run(&["trust", "add", &forge.bootstrap]).expect(44);
}

#[test]
fn b11_a_root_by_the_old_or_by_the_new_owner_alone_is_refused() {
    let forge = Forge::new();
    let taken = |document: &mut RootDocument| {
        let owner = root_role(document).keys[0];
        document.add_key(&key(7).public(), "root").unwrap();
        document.remove_key(&owner, "root").unwrap();
    };
    for signer in [&key(7), &forge.owner, &forge.node, &key(9)] {
        refused_as_root_two(&forge, &next_root(&forge, 1, taken, &[signer]), Class::Root);
    }
    // Nor does the thief of every other key get further with the program itself.
    let machine = &forge.machine;
    machine.write("root-2.json", next_root(&forge, 1, taken, &[&key(7), &forge.node]));
    machine.run(&["--store", "store", "root", "publish", "root-2.json"]).expect(52);
    assert!(!forge.object("root/2.json").exists());
}

#[test]
fn b12_a_key_file_that_others_can_read_or_of_another_form_is_not_used() {
    let forge = Forge::new();
    let machine = &forge.machine;
    let node = machine.home().join("keys").join(forge.pin().to_string()).join("node.key");
    let good = fs::read(&node).unwrap();
    let snapshot = || machine.run(&["snapshot", "--store", "store", "tree"]);
    fs::set_permissions(&node, fs::Permissions::from_mode(0o640)).unwrap();
    snapshot().expect(49).stderr_names("chmod 600");
    fs::set_permissions(&node, fs::Permissions::from_mode(0o600)).unwrap();
    for text in ["", "-----BEGIN RSA PRIVATE KEY-----\n", "-----BEGIN ENCRYPTED PRIVATE KEY-----\n"] {
        fs::write(&node, text).unwrap();
        snapshot().expect(49).stderr_names("node.key");
    }
    fs::write(&node, good).unwrap();
    snapshot().expect(0);
    let run = machine.command(&["snapshot", "--store", "store", "tree", "--signer", "env:KEY"]);
    let mut run = run;
    run.env("KEY", "-----BEGIN EC PRIVATE KEY-----\n");
    snapkit_tests::Run::of(run).expect(49).stderr_names("the variable KEY");
}
