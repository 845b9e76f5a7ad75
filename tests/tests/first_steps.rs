//! A newcomer's first run: nothing is configured, and a directory goes in and comes back.

#![allow(clippy::unwrap_used)]

use std::fs;

use snapkit_tests::compare::same_tree;
use snapkit_tests::{EveryKind, Machine};

#[test]
fn a_directory_goes_into_a_new_store_and_comes_back() {
    let machine = Machine::new();
    machine.write("notes/today.txt", "remember the milk");
    machine.write("notes/deep/er/list", "one\ntwo\n");

    machine.ok(&["init", "store"]);
    machine.ok(&["snapshot", "--store", "store", "notes"]);
    machine.ok(&["verify", "--store", "store", "--data"]);
    machine.ok(&["restore", "--store", "store", "latest", "back"]);
    same_tree(&machine.path("notes"), &machine.path("back"));
}

#[test]
fn every_kind_of_entry_comes_back() {
    let machine = Machine::new();
    let tree = EveryKind::create(&machine.path("tree"));
    machine.ok(&["init", "store"]);
    machine.ok(&["snapshot", "--store", "store", "--devices", "tree"]);
    machine.ok(&["restore", "--store", "store", "latest", "back", "--devices"]);
    same_tree(&tree.path, &machine.path("back"));
    // The same holds when every file is read back from the file system for the proof.
    machine.ok(&["restore", "--store", "store", "latest", "again", "--devices", "--proof", "reread"]);
    same_tree(&tree.path, &machine.path("again"));
}

#[test]
fn an_empty_directory_comes_back() {
    let machine = Machine::new();
    fs::create_dir(machine.path("nothing")).unwrap();
    machine.ok(&["init", "store"]);
    machine.ok(&["snapshot", "--store", "store", "nothing"]);
    machine.ok(&["restore", "--store", "store", "latest", "back"]);
    same_tree(&machine.path("nothing"), &machine.path("back"));
}

#[test]
fn an_unchanged_snapshot_stores_no_data_and_says_the_same_digests() {
    let machine = Machine::new();
    machine.write("tree/file", vec![7; 1 << 20]);
    machine.ok(&["init", "store"]);
    let snapshot = || {
        let run = machine.ok(&["snapshot", "--store", "store", "tree", "--json"]);
        run.json("snapkit.snapshot/1")
    };
    let packs = || walkdir::WalkDir::new(machine.path("store/packs")).into_iter().count();
    let first = snapshot();
    let packs_before = packs();
    let second = snapshot();
    assert_eq!(packs(), packs_before);
    assert_eq!(first["content_digest"], second["content_digest"]);
    assert_eq!(first["full_digest"], second["full_digest"]);
    assert_eq!(second["seq"].as_u64().unwrap(), first["seq"].as_u64().unwrap() + 1);
}

#[test]
fn init_refuses_a_store_that_has_a_chain() {
    let machine = Machine::new();
    machine.ok(&["init", "store"]);
    let before = fs::read(machine.path("store/root/1.json")).unwrap();
    machine.run(&["init", "store"]).expect(3);
    assert_eq!(fs::read(machine.path("store/root/1.json")).unwrap(), before);
}

#[test]
fn without_a_store_the_error_says_how_to_name_one() {
    let machine = Machine::new();
    machine.write("tree/file", "x");
    let run = machine.run(&["snapshot", "tree"]).expect(2);
    run.stderr_names("--store").stderr_names("SNAPKIT_STORE").stderr_names("snapkit.toml");
}

#[test]
fn paths_longer_than_a_system_call_takes_come_back() {
    use snapkit_tests::every_kind::{deep, read_deep};
    let machine = Machine::new();
    fs::create_dir(machine.path("tree")).unwrap();
    deep(&machine.path("tree"), 25, b"at the end");
    machine.ok(&["init", "store"]);
    machine.ok(&["snapshot", "--store", "store", "tree"]);
    machine.ok(&["restore", "--store", "store", "latest", "back"]);
    assert_eq!(read_deep(&machine.path("back"), 25), b"at the end");
}
