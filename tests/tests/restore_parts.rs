//! Restoring a part, looking before restoring, and targets that are refused.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;

use snapkit_tests::Machine;
use snapkit_tests::compare::same_tree;

fn chain() -> Machine {
    let machine = Machine::new();
    machine.write("tree/a/one.txt", "1");
    machine.write("tree/a/two.bin", "2");
    machine.write("tree/b/three.txt", "3");
    machine.ok(&["init", "store"]);
    machine.ok(&["snapshot", "--store", "store", "tree"]);
    machine
}

fn files_below(directory: &Path) -> Vec<String> {
    let mut files: Vec<_> = walkdir::WalkDir::new(directory)
        .into_iter()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.file_type().is_file())
        .map(|entry| {
            let relative = entry.path().strip_prefix(directory).unwrap();
            relative.to_str().unwrap().to_owned()
        })
        .collect();
    files.sort();
    files
}

#[test]
fn a_subtree_is_restored_alone() {
    let machine = chain();
    machine.ok(&["restore", "--store", "store", "latest", "back", "--path", "a"]);
    assert_eq!(files_below(&machine.path("back")), ["a/one.txt", "a/two.bin"]);
}

#[test]
fn patterns_choose_files() {
    let machine = chain();
    machine.ok(&["restore", "--store", "store", "latest", "back", "--include", "*.txt"]);
    assert_eq!(files_below(&machine.path("back")), ["a/one.txt", "b/three.txt"]);
    let none = machine.run(&["restore", "--store", "store", "latest", "none", "--path", "absent"]);
    none.expect(1);
    assert!(!machine.path("none").exists());
}

#[test]
fn a_dry_run_writes_nothing() {
    let machine = chain();
    let plan = machine.ok(&["restore", "--store", "store", "latest", "back", "--dry-run"]);
    assert!(!plan.stdout.is_empty());
    assert!(!machine.path("back").exists());
    assert_eq!(fs::read_dir(machine.path("")).unwrap().count(), 2, "store and tree");
}

#[test]
fn an_empty_target_is_filled_and_a_full_one_refused() {
    let machine = chain();
    fs::create_dir(machine.path("empty")).unwrap();
    machine.ok(&["restore", "--store", "store", "latest", "empty"]);
    same_tree(&machine.path("tree"), &machine.path("empty"));

    machine.write("full/mine", "precious");
    let run = machine.run(&["restore", "--store", "store", "latest", "full"]);
    run.expect(85).stderr_names("full");
    assert_eq!(files_below(&machine.path("full")), ["mine"]);

    machine.write("a-file", "precious");
    machine.run(&["restore", "--store", "store", "latest", "a-file"]).expect(85);
    assert_eq!(fs::read(machine.path("a-file")).unwrap(), b"precious");
}

#[test]
fn a_restore_leaves_nothing_beside_its_target() {
    let machine = chain();
    machine.ok(&["restore", "--store", "store", "latest", "back"]);
    let mut names: Vec<_> = fs::read_dir(machine.path(""))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["back", "store", "tree"]);
}
