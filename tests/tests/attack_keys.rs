//! A complete, self-consistent store that was made with other keys.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::process::Command;

use manifests::refusal::Class;
use snapkit_tests::attack::{Forge, Victim};

/// Replaces the store of one forge by that of another.
fn replace(forge: &Forge, by: &Forge) {
    fs::remove_dir_all(forge.object("")).unwrap();
    let copied = Command::new("cp").arg("-a").arg(by.object("")).arg(forge.object("")).status();
    assert!(copied.unwrap().success());
}

#[test]
fn a01_a_consistent_store_made_with_other_keys_is_refused_by_every_command() {
    let (forge, other) = (Forge::new(), Forge::new());
    let victim = Victim::of(&forge);
    let cold = Victim::without_pin(&forge);
    replace(&forge, &other);
    victim.every_command_refuses(Class::RootPin, "root/1.json");
    cold.every_command_refuses(Class::NoPin, "store");
    // The pin given on the command line is no less a pin.
    let once = Victim::without_pin(&forge);
    for command in [&["log"][..], &["restore", "latest", "missing"]] {
        let mut args = vec!["--store", forge.bootstrap.as_str()];
        args.extend(command);
        once.machine.run(&args).expect(51);
    }
    assert!(!once.machine.home().join("trust").exists());
    once.machine.run(&["trust", "add", &forge.bootstrap]).expect(51);
    forge.machine.run(&["snapshot", "--store", "store", "tree"]).expect(51);
}

#[test]
fn a01_a_chain_of_other_keys_under_the_right_root_is_refused() {
    let (forge, other) = (Forge::new(), Forge::new());
    let victim = Victim::of(&forge);
    for seq in [0, 1] {
        forge.replace_slot(seq, &other.slot(seq));
    }
    // Without a memory and with one, of which the caches were lost.
    let cold = Victim::without_pin(&forge);
    cold.machine.run(&["trust", "add", &forge.bootstrap]).expect(41);
    fs::remove_dir_all(victim.machine.cache()).unwrap();
    victim.every_command_refuses(Class::SigUntrusted, "record");
}

#[test]
fn a03_a_store_that_lost_its_newest_records_is_refused_by_who_saw_them() {
    let mut forge = Forge::new();
    forge.machine.write("tree/newer", "newer");
    forge.honest();
    let victim = Victim::of(&forge);
    assert_eq!(victim.newest(), 2);
    fs::remove_file(forge.object("chain/00000000000000000002.json")).unwrap();
    forge.put("checkpoint", b"");
    victim.every_command_refuses(Class::Rollback, "chain/00000000000000000002.json");
}

#[test]
fn d03_a_record_of_another_chain_by_the_same_keys_is_void() {
    let mut forge = Forge::new();
    let victim = Victim::of(&forge);
    let header = forge.header();
    let other = "0".repeat(64);
    let body = r#""body":{}"#;
    let text = serde_json::to_string(&header).unwrap().replace(&header.chain.unwrap().to_string(), &other);
    let payload = format!("{},{body}}}", text.strip_suffix('}').unwrap());
    let seq = forge.put_snapshot(&payload);
    assert_eq!((victim.newest(), seq), (1, 2));
    forge.honest();
    assert_eq!(victim.newest(), 3);
    victim.verify_is_clean();
}
