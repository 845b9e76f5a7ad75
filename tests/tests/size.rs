//! Sizes that break naive code: many names in one directory, and offsets beyond 32 bits.

#![allow(clippy::unwrap_used)]

use std::fs::{self, File};
use std::os::unix::fs::FileExt;

use snapkit_tests::Machine;
use snapkit_tests::compare::same_tree;

#[test]
fn a_hundred_thousand_files_in_one_directory_come_back() {
    let machine = Machine::new();
    fs::create_dir(machine.path("tree")).unwrap();
    for index in 0..100_000 {
        File::create(machine.path(format!("tree/{index}"))).unwrap();
    }
    machine.ok(&["init", "store"]);
    machine.ok(&["snapshot", "--store", "store", "tree"]);
    machine.ok(&["restore", "--store", "store", "latest", "back"]);
    same_tree(&machine.path("tree"), &machine.path("back"));
}

#[test]
fn data_beyond_four_gigabytes_in_a_sparse_file_comes_back() {
    let machine = Machine::new();
    fs::create_dir(machine.path("tree")).unwrap();
    let file = File::create(machine.path("tree/sparse")).unwrap();
    for offset in [0, (4 << 30) - 5, (4 << 30) + (1 << 20)] {
        file.write_all_at(b"eleven byte", offset).unwrap();
    }
    file.set_len((4 << 30) + (8 << 20)).unwrap();
    machine.ok(&["init", "store"]);
    machine.ok(&["snapshot", "--store", "store", "tree"]);
    machine.ok(&["restore", "--store", "store", "latest", "back"]);
    same_tree(&machine.path("tree"), &machine.path("back"));
}
