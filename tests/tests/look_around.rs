//! Looking at a chain: log, show, ls, cat, find, digest, and how a snapshot is named.

#![allow(clippy::unwrap_used)]

use std::fs;

use snapkit_tests::compare::b3sum_check;
use snapkit_tests::{EveryKind, Machine};

/// A chain with three snapshots of one file that says `1`, `2` and `3`.
fn three_snapshots() -> Machine {
    let machine = Machine::new();
    machine.ok(&["init", "store"]);
    for version in ["1", "2", "3"] {
        machine.write("tree/version", version);
        machine.ok(&["snapshot", "--store", "store", "tree"]);
    }
    machine
}

fn version_in(machine: &Machine, selector: &str) -> String {
    let run = machine.ok(&["cat", "--store", "store", selector, "version"]);
    run.text().to_owned()
}

#[test]
fn a_snapshot_is_named_by_place_number_id_prefix_or_time() {
    let machine = three_snapshots();
    let log = machine.ok(&["log", "--store", "store", "--json"]).json("snapkit.log/1");
    let snapshots = log["snapshots"].as_array().unwrap();
    assert_eq!(snapshots.len(), 3, "{log}");
    assert_eq!(version_in(&machine, "latest"), "3");
    assert_eq!(version_in(&machine, "latest~2"), "1");
    // Newest first, as people read logs.
    for (snapshot, version) in snapshots.iter().zip(["3", "2", "1"]) {
        let seq = snapshot["seq"].as_u64().unwrap().to_string();
        let id = snapshot["id"].as_str().unwrap();
        assert_eq!(version_in(&machine, &seq), version);
        assert_eq!(version_in(&machine, id), version);
        assert_eq!(version_in(&machine, &id[..12]), version);
        let time = snapshot["time"].as_str().unwrap();
        assert_eq!(version_in(&machine, &format!("@{time}")), version);
    }
    assert_eq!(version_in(&machine, "@2999-01-01T00:00"), "3");
    machine.run(&["cat", "--store", "store", "latest~3", "version"]).expect(5);
    machine.run(&["cat", "--store", "store", "@1999-01-01T00:00", "version"]).expect(5);
    machine.run(&["cat", "--store", "store", "no such name", "version"]).expect(2);
}

#[test]
fn log_shows_as_many_as_asked_for() {
    let machine = three_snapshots();
    let log = machine.ok(&["log", "--store", "store", "-n", "2", "--json"]);
    let log = log.json("snapkit.log/1");
    assert_eq!(log["snapshots"].as_array().unwrap().len(), 2);
    machine.ok(&["log", "--store", "store"]);
    let shown = machine.ok(&["show", "--store", "store", "latest", "--json"]);
    let shown = shown.json("snapkit.show/1");
    assert_eq!(shown["seq"], log["snapshots"][0]["seq"]);
    machine.ok(&["show", "--store", "store", "latest"]);
}

#[test]
fn ls_lists_hashes_that_b3sum_confirms() {
    let machine = Machine::new();
    let tree = EveryKind::create(&machine.path("tree"));
    machine.ok(&["init", "store"]);
    machine.ok(&["snapshot", "--store", "store", "tree"]);
    let list = machine.ok(&["ls", "--store", "store", "latest", "--b3sum"]);
    // A check file cannot name what is not UTF-8, so these two files are named on stderr instead.
    let regular = walkdir::WalkDir::new(&tree.path)
        .into_iter()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.file_type().is_file() && entry.path().to_str().is_some())
        .count();
    assert_eq!(list.text().lines().count(), regular);
    assert!(list.stderr.contains("2 "), "{}", list.stderr);
    b3sum_check(&list.stdout, &tree.path);

    let below = machine.ok(&["ls", "--store", "store", "latest", "small"]);
    assert!(below.text().contains("049"));
    assert!(!below.text().contains("several-chunks"));
    machine.run(&["ls", "--store", "store", "latest", "absent"]).expect(1);
}

#[test]
fn cat_gives_exactly_the_bytes() {
    let machine = Machine::new();
    let bytes = snapkit_tests::every_kind::noise(3_000_001, 3);
    machine.write("tree/big", &bytes);
    machine.write("tree/directory/inside", "x");
    machine.ok(&["init", "store"]);
    machine.ok(&["snapshot", "--store", "store", "tree"]);
    let run = machine.ok(&["cat", "--store", "store", "latest", "big"]);
    assert!(run.stdout == bytes);
    machine.run(&["cat", "--store", "store", "latest", "absent"]).expect(1);
    machine.run(&["cat", "--store", "store", "latest", "directory"]).expect(1);
}

#[test]
fn find_names_snapshot_and_path() {
    let machine = three_snapshots();
    machine.write("tree/deep/needle.txt", "x");
    machine.ok(&["snapshot", "--store", "store", "tree"]);
    let found = machine.ok(&["find", "--store", "store", "*.txt"]);
    assert_eq!(found.text().lines().count(), 1, "{}", found.text());
    assert!(found.text().contains("deep/needle.txt"));
    machine.run(&["find", "--store", "store", "no-such-*"]).expect(1);
}

#[test]
fn the_digests_of_a_directory_its_snapshot_and_its_restore_agree() {
    let machine = Machine::new();
    EveryKind::create(&machine.path("tree"));
    machine.ok(&["init", "store"]);
    machine.ok(&["snapshot", "--store", "store", "--devices", "tree"]);
    machine.ok(&["restore", "--store", "store", "latest", "back", "--devices"]);
    let digests = |args: &[&str]| {
        let run = machine.ok(args).json("snapkit.digest/1");
        (run["content_digest"].clone(), run["full_digest"].clone())
    };
    let of_tree = digests(&["digest", "--json", "--devices", "tree"]);
    assert_eq!(digests(&["digest", "--json", "--devices", "back"]), of_tree);
    assert_eq!(digests(&["digest", "--json", "--store", "store", "latest"]), of_tree);

    // A time is no content; a byte is.
    let touched = fs::File::open(machine.path("back/text")).unwrap();
    touched.set_modified(std::time::SystemTime::now()).unwrap();
    let of_touched = digests(&["digest", "--json", "--devices", "back"]);
    assert_eq!(of_touched.0, of_tree.0);
    assert_ne!(of_touched.1, of_tree.1);
    fs::write(machine.path("back/text"), "other").unwrap();
    assert_ne!(digests(&["digest", "--json", "--devices", "back"]).0, of_tree.0);
}

#[test]
fn a_list_that_nobody_reads_to_its_end_ends_quietly() {
    let machine = three_snapshots();
    for index in 0..3000 {
        machine.write(&format!("tree/many/{index:0>60}"), "");
    }
    machine.ok(&["snapshot", "--store", "store", "tree"]);
    let mut list = machine
        .command(&["ls", "--store", "store", "latest"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    drop(list.stdout.take());
    let output = list.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(141));
    assert!(output.stderr.is_empty());
}
