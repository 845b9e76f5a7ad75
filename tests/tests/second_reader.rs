//! A reader of our stores that shares no line with snapkit: `tests/second_reader/`, written from `docs/format/` alone.
//!
//! Where the two disagree, one of them or a page is wrong.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;
use std::process::Output;

use snapkit_tests::compare::same_tree;
use snapkit_tests::python::{is_left_out, second_reader};
use snapkit_tests::{EveryKind, Machine, is_root};

/// The pin that `machine` keeps for its one store.
fn pin(machine: &Machine) -> String {
    let stores = fs::read(machine.home().join("trust/stores.json")).unwrap();
    let stores: serde_json::Value = serde_json::from_slice(&stores).unwrap();
    stores.as_object().unwrap().values().next().unwrap().as_str().unwrap().to_owned()
}

#[track_caller]
fn read(machine: &Machine, args: &[&str]) -> String {
    let output = second_reader(&machine.path(""), args);
    assert!(output.status.success(), "{args:?}: {}", said(&output));
    String::from_utf8(output.stdout).unwrap()
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn it_judges_every_example_as_snapkit_does() {
    if is_left_out() {
        return;
    }
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let output = second_reader(workspace, &["cases", "testdata"]);
    assert!(output.status.success(), "{}", said(&output));
}

#[test]
fn it_restores_what_snapkit_stored_and_agrees_on_every_number() {
    if is_left_out() {
        return;
    }
    let machine = Machine::new();
    EveryKind::create(&machine.path("tree"));
    machine.ok(&["init", "store"]);
    let devices = if is_root() { &["--devices"][..] } else { &[] };
    let snapshot = [&["snapshot", "--store", "store", "tree"], devices].concat();
    machine.ok(&snapshot);
    fs::write(machine.path("tree/text"), "changed").unwrap();
    machine.ok(&snapshot);
    machine.write("other/file", "another tree");
    machine.ok(&[&snapshot[..], &["other"]].concat());
    let pin = pin(&machine);

    let verified = read(&machine, &["verify", "store", "--root", &pin, "--data"]);
    assert!(verified.starts_with("slots=4 records=4 states=3 "), "{verified}");
    read(&machine, &["restore", "store", "--root", &pin, "--snapshot", "2", "back"]);
    same_tree(&machine.path("tree"), &machine.path("back"));
    read(&machine, &["restore", "store", "--root", &pin, "both"]);
    same_tree(&machine.path("tree"), &machine.path("both/tree"));
    same_tree(&machine.path("other"), &machine.path("both/other"));

    machine.ok(&[&["restore", "--store", "store", "#2", "ours", "--receipt", "receipt.json"], devices].concat());
    let receipt = read(&machine, &["receipt", "store", "--root", &pin, "receipt.json"]);
    assert_eq!(receipt, "restored #2 exact=true proof=written\n");
}

#[test]
fn it_follows_a_rollback_and_void_slots() {
    if is_left_out() {
        return;
    }
    let machine = Machine::new();
    machine.ok(&["init", "store"]);
    for number in 1..=2 {
        machine.write("tree/file", format!("{number}\n"));
        machine.ok(&["snapshot", "--store", "store", "tree"]);
    }
    machine.write("store/chain/00000000000000000003.json", "nobody signed this");
    machine.ok(&["rollback", "--store", "store", "--to", "#1", "--reason", "a test"]);
    let pin = pin(&machine);
    let verified = read(&machine, &["verify", "store", "--root", &pin, "--data"]);
    assert!(
        verified.starts_with("slots=5 records=4 states=2 tiles=") && verified.contains(" wrong_tiles=0 "),
        "{verified}"
    );
    read(&machine, &["restore", "store", "--root", &pin, "back"]);
    assert_eq!(fs::read(machine.path("back/file")).unwrap(), b"1\n");
}

#[test]
fn it_follows_another_root_and_a_fork() {
    if is_left_out() {
        return;
    }
    let machine = Machine::new();
    machine.ok(&["init", "store"]);
    for number in 1..=3 {
        machine.write("tree/file", format!("{number}\n"));
        machine.ok(&["snapshot", "--store", "store", "tree"]);
    }
    machine.ok(&["key", "generate", "second.key"]);
    machine.ok(&["root", "add-key", "--store", "store", "second.key", "--role", "release", "--draft", "draft.json"]);
    machine.ok(&["root", "sign", "--store", "store", "draft.json"]);
    machine.ok(&["root", "publish", "--store", "store", "draft.json"]);
    machine.ok(&["root", "fork", "--store", "store", "--keep", "1", "--reason", "a test"]);
    machine.write("tree/file", "5\n");
    machine.ok(&["snapshot", "--store", "store", "tree"]);
    let pin = pin(&machine);
    assert!(machine.path("store/root/2.json").exists());
    let verified = read(&machine, &["verify", "store", "--root", &pin, "--data"]);
    assert!(verified.starts_with("slots=6 records=4 states=2 "), "{verified}");
    read(&machine, &["restore", "store", "--root", &pin, "back"]);
    assert_eq!(fs::read(machine.path("back/file")).unwrap(), b"5\n");
    let left_behind = second_reader(&machine.path(""), &["ls", "store", "--root", &pin, "--snapshot", "3"]);
    assert_eq!(left_behind.status.code(), Some(3), "{}", said(&left_behind));
}

#[test]
fn it_refuses_a_store_that_is_not_the_pinned_one_and_one_that_was_changed() {
    if is_left_out() {
        return;
    }
    let machine = Machine::new();
    machine.write("tree/file", "content ".repeat(1000));
    machine.ok(&["init", "store"]);
    machine.ok(&["snapshot", "--store", "store", "tree"]);
    let pin = pin(&machine);
    let refused = |pin: &str| {
        let output = second_reader(&machine.path(""), &["restore", "store", "--root", pin, "back"]);
        assert_eq!(output.status.code(), Some(3), "{}", said(&output));
        assert!(!machine.path("back").exists());
        said(&output)
    };
    assert!(refused(&"0".repeat(64)).contains("E_ROOT_PIN"));
    for pack in walkdir::WalkDir::new(machine.path("store/packs")) {
        let pack = pack.unwrap();
        if pack.file_type().is_file() {
            let mut bytes = fs::read(pack.path()).unwrap();
            bytes[20] ^= 1;
            fs::write(pack.path(), bytes).unwrap();
        }
    }
    assert!(refused(&pin).contains("E_HASH"));
}
