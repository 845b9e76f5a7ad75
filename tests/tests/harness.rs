//! The harness itself: its comparison sees what it must see.

#![allow(clippy::unwrap_used)]

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use snapkit_tests::compare::{b3sum_check, differences, same_tree};
use snapkit_tests::every_kind::{deep, read_deep};
use snapkit_tests::{EveryKind, Machine};

/// A tree of every kind and its copy by `cp -a`.
fn copied(machine: &Machine) -> (EveryKind, PathBuf) {
    let tree = EveryKind::create(&machine.path("tree"));
    let copy = machine.path("copy");
    let status = Command::new("cp").arg("-a").arg(&tree.path).arg(&copy).status();
    assert!(status.unwrap().success());
    (tree, copy)
}

#[test]
fn a_copy_by_cp_is_the_same_tree_until_it_is_changed() {
    let machine = Machine::new();
    let (tree, copy) = copied(&machine);
    same_tree(&tree.path, &copy);

    let changed = copy.join("text");
    let time = fs::metadata(&changed).unwrap().modified().unwrap();
    fs::write(&changed, "a line\nanother lime\n").unwrap();
    File::open(&changed).unwrap().set_modified(time).unwrap();
    assert!(differences(&tree.path, &copy).contains("text"));
}

#[test]
#[should_panic(expected = "time of text")]
fn a_nanosecond_is_a_difference() {
    let machine = Machine::new();
    let (tree, copy) = copied(&machine);
    let file = File::open(copy.join("text")).unwrap();
    let time = file.metadata().unwrap().modified().unwrap();
    file.set_modified(time + Duration::from_nanos(1)).unwrap();
    same_tree(&tree.path, &copy);
}

#[test]
#[should_panic(expected = "lost its holes")]
fn a_filled_hole_is_a_difference() {
    let machine = Machine::new();
    let (tree, copy) = copied(&machine);
    let sparse = copy.join("sparse");
    let time = fs::metadata(&sparse).unwrap().modified().unwrap();
    fs::write(&sparse, fs::read(&sparse).unwrap()).unwrap();
    File::open(&sparse).unwrap().set_modified(time).unwrap();
    same_tree(&tree.path, &copy);
}

#[test]
#[should_panic(expected = "b3sum does not agree")]
fn b3sum_refuses_a_wrong_list() {
    let machine = Machine::new();
    machine.write("file", "contents");
    let list = format!("{}  file\n", "0".repeat(64));
    b3sum_check(list.as_bytes(), &machine.path(""));
}

#[test]
fn paths_longer_than_a_system_call_takes_can_be_made_and_read() {
    let machine = Machine::new();
    let top = machine.path("top");
    fs::create_dir(&top).unwrap();
    deep(&top, 25, b"at the end");
    assert_eq!(read_deep(&top, 25), b"at the end");
}
