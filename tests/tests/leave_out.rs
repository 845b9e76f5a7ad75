//! What a snapshot leaves out because it was told to, and what it could not read.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::PermissionsExt;

use snapkit_tests::{EveryKind, Machine};

/// The paths that a snapshot of `tree`, taken with these options, lists.
fn taken(machine: &Machine, options: &[&str]) -> Vec<String> {
    machine.ok(&["init", "store"]);
    let mut args = vec!["snapshot", "--store", "store", "tree"];
    args.extend(options);
    machine.ok(&args);
    let list = machine.ok(&["ls", "--store", "store", "latest", "--b3sum"]);
    let lines = list.text().lines();
    lines.map(|line| line.split_once("  ").unwrap().1.to_owned()).collect()
}

fn tree() -> Machine {
    let machine = Machine::new();
    machine.write("tree/keep.txt", "x");
    machine.write("tree/drop.tmp", "x");
    machine.write("tree/sub/drop.tmp", "x");
    machine.write("tree/sub/important.tmp", "x");
    machine.write("tree/cache/CACHEDIR.TAG", "Signature: 8a477f597d28d172789f06886806bc55\n");
    machine.write("tree/cache/derived", "x");
    machine
}

#[test]
fn patterns_are_in_gitignore_syntax() {
    let machine = tree();
    let options = ["--exclude", "*.tmp", "--exclude", "!important.tmp"];
    let taken = taken(&machine, &options);
    assert!(taken.contains(&"sub/important.tmp".to_owned()), "{taken:?}");
    assert!(taken.contains(&"keep.txt".to_owned()));
    assert!(!taken.iter().any(|path| path.ends_with("drop.tmp")), "{taken:?}");
}

#[test]
fn patterns_come_from_files_and_from_the_configuration() {
    let machine = tree();
    machine.write("patterns", "# not these\n*.tmp\n");
    let by_flag = taken(&machine, &["--exclude-from", "patterns"]);
    assert!(!by_flag.iter().any(|path| path.ends_with(".tmp")), "{by_flag:?}");

    let machine = tree();
    machine.write("snapkit.toml", "[snapshot]\nexcludes = [\"sub\"]\n");
    let by_file = taken(&machine, &[]);
    assert!(by_file.contains(&"drop.tmp".to_owned()), "{by_file:?}");
    assert!(!by_file.iter().any(|path| path.starts_with("sub/")), "{by_file:?}");
}

#[test]
fn a_tagged_cache_is_left_out_when_asked_for() {
    let with = taken(&tree(), &[]);
    assert!(with.contains(&"cache/derived".to_owned()), "{with:?}");
    let taken = taken(&tree(), &["--exclude-caches"]);
    assert!(!taken.contains(&"cache/derived".to_owned()), "{taken:?}");
    assert!(taken.contains(&"keep.txt".to_owned()));
}

#[test]
fn devices_are_taken_only_when_asked_for() {
    if !snapkit_tests::is_root() {
        return;
    }
    let machine = Machine::new();
    EveryKind::create(&machine.path("tree"));
    machine.ok(&["init", "store"]);
    machine.ok(&["snapshot", "--store", "store", "tree"]);
    let without = machine.ok(&["ls", "--store", "store", "latest", "devices"]);
    assert!(!without.text().contains("fifo"), "{}", without.text());
    machine.ok(&["snapshot", "--store", "store", "--devices", "tree"]);
    let with = machine.ok(&["ls", "--store", "store", "latest", "devices"]);
    assert!(with.text().contains("fifo"), "{}", with.text());
}

#[test]
fn an_unreadable_file_is_named_and_the_rest_is_taken() {
    let machine = Machine::new();
    machine.write("tree/readable", "x");
    let closed = machine.write("tree/closed", "x");
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o000)).unwrap();
    machine.run_as_nobody(&["init", "store"]).expect(0);
    let run = machine.run_as_nobody(&["snapshot", "--store", "store", "tree"]);
    run.expect(11).stderr_names("closed");
    let list = machine.run_as_nobody(&["ls", "--store", "store", "latest", "--b3sum"]).expect(0);
    assert!(list.text().contains("readable"));
    let shown = machine.run_as_nobody(&["show", "--store", "store", "latest", "--json"]);
    assert_eq!(shown.expect(0).json("snapkit.show/1")["complete"], false);
}

#[test]
fn a_directory_that_is_missing_is_no_snapshot() {
    let machine = tree();
    machine.ok(&["init", "store"]);
    let run = machine.run(&["snapshot", "--store", "store", "absent"]);
    run.expect(5).stderr_names("absent");
    let log = machine.ok(&["log", "--store", "store", "--json"]).json("snapkit.log/1");
    assert_eq!(log["snapshots"].as_array().unwrap().len(), 0);
}
