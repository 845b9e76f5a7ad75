//! Restoring into a directory that is there: only what differs is written, and nothing of the operator's goes without
//! being asked for.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use serde_json::Value;
use snapkit_tests::compare::{differences, same_tree};
use snapkit_tests::{Machine, every_kind};

const UPDATE: &[&str] = &["restore", "--store", "store", "latest", "live", "--in-place"];

/// A chain, and `live` with the state of its snapshot.
fn chain() -> Machine {
    let machine = Machine::new();
    machine.write("tree/app/config", "one");
    machine.write("tree/app/data", every_kind::noise(3_000_000, 9));
    machine.write("tree/first", "linked");
    fs::hard_link(machine.path("tree/first"), machine.path("tree/second")).unwrap();
    machine.ok(&["init", "store"]);
    machine.ok(&["snapshot", "--store", "store", "tree", "--devices"]);
    machine.ok(&["restore", "--store", "store", "latest", "live", "--devices"]);
    machine
}

fn update(machine: &Machine, options: &[&str]) -> Value {
    machine.ok(&[UPDATE, &["--devices", "--json"], options].concat()).json("snapkit.restore/1")
}

fn written(report: &Value) -> u64 {
    report["targets"][0]["in_place"]["written"].as_u64().unwrap()
}

/// Every path with what changes when it is written to.
fn stamps(directory: &Path) -> BTreeMap<String, (u64, i64, i64)> {
    let entries = walkdir::WalkDir::new(directory).into_iter().map(Result::unwrap);
    let stamp = |entry: walkdir::DirEntry| {
        let meta = fs::symlink_metadata(entry.path()).unwrap();
        (entry.path().display().to_string(), (meta.ino(), meta.ctime(), meta.ctime_nsec()))
    };
    entries.map(stamp).collect()
}

#[test]
fn what_is_as_it_should_be_is_not_touched() {
    let machine = chain();
    let before = stamps(&machine.path("live"));
    let report = update(&machine, &["--delete"]);
    assert_eq!((written(&report), &report["fetched_bytes"]), (0, &Value::from(0)));
    assert_eq!(stamps(&machine.path("live")), before);
}

#[test]
fn every_kind_of_entry_is_put_where_it_is_missing() {
    let machine = Machine::new();
    every_kind::EveryKind::create(&machine.path("tree"));
    machine.ok(&["init", "store"]);
    machine.ok(&["snapshot", "--store", "store", "tree", "--devices"]);
    fs::create_dir(machine.path("live")).unwrap();
    update(&machine, &[]);
    same_tree(&machine.path("tree"), &machine.path("live"));
}

#[test]
fn every_kind_of_difference_is_put_right() {
    let machine = chain();
    let live = |name: &str| machine.path("live").join(name);
    fs::write(live("app/config"), "two").unwrap();
    let mut data = fs::read(live("app/data")).unwrap();
    data[1_500_000] ^= 1;
    fs::write(live("app/data"), data).unwrap();
    fs::remove_file(live("first")).unwrap();
    fs::write(live("first"), "linked").unwrap();
    fs::set_permissions(live("second"), fs::Permissions::from_mode(0o600)).unwrap();
    fs::set_permissions(live("app"), fs::Permissions::from_mode(0o700)).unwrap();
    let report = update(&machine, &[]);
    same_tree(&machine.path("tree"), &machine.path("live"));
    assert_eq!(written(&report), 4);
    let fetched = report["fetched_bytes"].as_u64().unwrap();
    assert!(fetched < 2_500_000, "the file of 3 MB was taken from what is there, but for a frame or two: {fetched}");
    assert!(!machine.path(".snapkit-restore-live").exists());
}

#[test]
fn a_type_that_changed_is_replaced() {
    let machine = chain();
    let live = |name: &str| machine.path("live").join(name);
    fs::remove_file(live("app/config")).unwrap();
    fs::create_dir(live("app/config")).unwrap();
    fs::remove_file(live("first")).unwrap();
    symlink("second", live("first")).unwrap();
    update(&machine, &[]);
    same_tree(&machine.path("tree"), &machine.path("live"));
    fs::remove_dir_all(live("app")).unwrap();
    fs::write(live("app"), "a file where a directory belongs").unwrap();
    update(&machine, &[]);
    same_tree(&machine.path("tree"), &machine.path("live"));
}

#[test]
fn what_is_not_in_the_snapshot_stays_unless_it_is_to_be_deleted() {
    let machine = chain();
    machine.write("live/mine/keep", "mine");
    machine.write("live/app/config", "two");
    let report = update(&machine, &[]);
    assert_eq!(report["targets"][0]["in_place"]["extra"], 2);
    assert_eq!(fs::read_to_string(machine.path("live/mine/keep")).unwrap(), "mine");
    assert_eq!(fs::read_to_string(machine.path("live/app/config")).unwrap(), "one");
    update(&machine, &["--delete"]);
    same_tree(&machine.path("tree"), &machine.path("live"));
}

#[test]
fn a_directory_with_something_of_the_operators_does_not_give_way_unasked() {
    let machine = chain();
    fs::remove_file(machine.path("live/app/config")).unwrap();
    machine.write("live/app/config/mine", "mine");
    let before = stamps(&machine.path("live"));
    machine.run(&[UPDATE, &["--devices"]].concat()).expect(85).stderr_names("app/config");
    assert_eq!(stamps(&machine.path("live")), before);
    update(&machine, &["--delete"]);
    same_tree(&machine.path("tree"), &machine.path("live"));
}

#[test]
fn a_dry_run_says_what_would_be_written_and_writes_nothing() {
    let machine = chain();
    machine.write("live/app/config", "two");
    machine.write("live/mine", "mine");
    let before = stamps(&machine.path(""));
    let report = update(&machine, &["--dry-run"]);
    assert_eq!((written(&report), &report["targets"][0]["in_place"]["extra"]), (1, &Value::from(1)));
    assert_eq!(stamps(&machine.path("")), before);
}

#[test]
fn a_link_in_the_place_of_a_directory_leads_nowhere() {
    let machine = chain();
    machine.write("victim/config", "not to be touched");
    fs::remove_dir_all(machine.path("live/app")).unwrap();
    symlink(machine.path("victim"), machine.path("live/app")).unwrap();
    update(&machine, &[]);
    same_tree(&machine.path("tree"), &machine.path("live"));
    assert_eq!(fs::read_to_string(machine.path("victim/config")).unwrap(), "not to be touched");
}

#[test]
fn a_target_that_is_missing_is_not_made() {
    let machine = chain();
    machine.run(&["restore", "--store", "store", "latest", "nowhere", "--in-place"]).expect(5).stderr_names("nowhere");
    assert!(!differences(&machine.path("tree"), &machine.path("live")).contains("nowhere"));
    assert!(!machine.path("nowhere").exists());
}
