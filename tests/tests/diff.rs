//! What differs between two states: paths, fields, renames, policies, and the two stores it may take.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Command;
use std::time::{Duration, SystemTime};

use serde_json::Value;
use snapkit_tests::compare::differences;
use snapkit_tests::every_kind::noise;
use snapkit_tests::{EveryKind, Machine};

const SCHEMA: &str = "snapkit.diff/1";

fn diff(machine: &Machine, code: i32, args: &[&str]) -> Value {
    let mut all = vec!["diff", "--json"];
    all.extend(args);
    machine.run(&all).expect(code).json(SCHEMA)
}

/// The differences by path.
fn by_path(report: &Value) -> BTreeMap<String, &Value> {
    let all = report["differences"].as_array().unwrap().iter();
    all.map(|one| (one["path"].as_str().unwrap().to_owned(), one)).collect()
}

fn fields(difference: &Value) -> BTreeSet<&str> {
    let fields = difference["fields"].as_array().into_iter().flatten();
    fields.map(|field| field["field"].as_str().unwrap()).collect()
}

#[test]
fn a_snapshot_its_directory_and_its_restore_are_the_same() {
    let machine = Machine::new();
    let tree = EveryKind::create(&machine.path("tree"));
    machine.ok(&["init", "store"]);
    machine.ok(&["snapshot", "--store", "store", "--devices", "tree"]);
    machine.ok(&["restore", "--store", "store", "latest", "back", "--devices"]);
    let paths = walkdir::WalkDir::new(&tree.path).into_iter().count() as u64;
    for sides in [["latest", "./tree"], ["./back", "latest"], ["./tree", "./back"], ["latest", "latest"]] {
        let report = diff(&machine, 0, &["--store", "store", "--devices", sides[0], sides[1]]);
        assert_eq!(report["summary"]["answer"], "same", "{sides:?}: {report}");
        assert_eq!(report["summary"]["classes"]["must-match"]["identical"], paths, "{sides:?}");
    }
    // Fifos and devices are no part of it unless they were asked for, on either side.
    diff(&machine, 0, &["--store", "store", "latest", "./tree"]);
    let text = machine.ok(&["diff", "--store", "store", "latest", "./tree"]);
    assert!(text.text().lines().last().unwrap().starts_with("same: "), "{}", text.text());
}

#[test]
fn each_field_is_named_with_both_values() {
    let machine = Machine::new();
    machine.write("tree/mode", "x");
    machine.write("tree/time", "x");
    machine.write("tree/content", "one");
    machine.write("tree/attribute", "x");
    machine.write("tree/kind", "x");
    machine.write("tree/owner", "x");
    machine.write("tree/linked-1", "together");
    fs::hard_link(machine.path("tree/linked-1"), machine.path("tree/linked-2")).unwrap();
    symlink("here", machine.path("tree/link")).unwrap();
    machine.ok(&["init", "store"]);
    machine.ok(&["snapshot", "--store", "store", "tree"]);

    let path = |name: &str| machine.path("tree").join(name);
    let time = fs::metadata(path("content")).unwrap().modified().unwrap();
    fs::set_permissions(path("mode"), PermissionsExt::from_mode(0o600)).unwrap();
    fs::File::open(path("time"))
        .unwrap()
        .set_modified(SystemTime::UNIX_EPOCH + Duration::new(1_000_000_000, 7))
        .unwrap();
    fs::write(path("content"), "two").unwrap();
    fs::File::open(path("content")).unwrap().set_modified(time).unwrap();
    rustix::fs::setxattr(path("attribute"), "user.note", b"\x00new", rustix::fs::XattrFlags::empty()).unwrap();
    fs::remove_file(path("kind")).unwrap();
    fs::create_dir(path("kind")).unwrap();
    fs::remove_file(path("link")).unwrap();
    symlink("there", path("link")).unwrap();
    fs::remove_file(path("linked-2")).unwrap();
    fs::write(path("linked-2"), "together").unwrap();
    if snapkit_tests::is_root() {
        std::os::unix::fs::lchown(path("owner"), Some(12345), Some(54321)).unwrap();
    }

    machine.ok(&["snapshot", "--store", "store", "tree"]);
    for sides in [["latest~1", "latest"], ["latest~1", "./tree"]] {
        let report = diff(&machine, 1, &["--store", "store", sides[0], sides[1]]);
        let found = by_path(&report);
        let value = |path: &str, field: &str| {
            let all = found[path]["fields"].as_array().unwrap();
            let found = all.iter().find(|one| one["field"] == field).unwrap_or_else(|| panic!("{path}: {field}"));
            (found["a"].clone(), found["b"].clone())
        };
        assert_eq!(fields(found["mode"]), BTreeSet::from(["mode"]));
        assert_eq!(value("mode", "mode"), ("0644".into(), "0600".into()));
        assert_eq!(value("time", "mtime").1, "2001-09-09T01:46:40.000000007Z");
        assert_eq!(fields(found["content"]), BTreeSet::from(["content"]), "same length, same time, other bytes");
        assert_eq!(found["content"]["ranges"], serde_json::json!([[0, 3, 0, 3]]));
        assert_eq!(found["attribute"]["fields"][0]["name"], "user.note");
        assert_eq!(found["attribute"]["fields"][0]["a"], Value::Null);
        assert_eq!(found["attribute"]["fields"][0]["b"], "%00new");
        assert_eq!(value("kind", "type"), ("file".into(), "directory".into()));
        assert_eq!(value("link", "target"), ("here".into(), "there".into()));
        assert!(fields(found["linked-2"]).contains("link"));
        if snapkit_tests::is_root() {
            assert_eq!(value("owner", "uid"), ("0".into(), "12345".into()));
            assert_eq!(value("owner", "gid"), ("0".into(), "54321".into()));
        }
    }
    let report = diff(&machine, 1, &["--store", "store", "--content", "latest~1", "latest"]);
    let paths: Vec<String> = by_path(&report).into_keys().collect();
    assert_eq!(paths, ["content", "kind", "link", "mode"], "what the content digest covers");
}

#[test]
fn what_rsync_would_change_is_what_differs() {
    let machine = Machine::new();
    EveryKind::create(&machine.path("a"));
    machine.ok(&["init", "store"]);
    machine.ok(&["snapshot", "--store", "store", "--devices", "a"]);
    machine.ok(&["restore", "--store", "store", "latest", "b", "--devices"]);
    // Times are kept where that matters: rsync compares whole seconds, so each change is a second away.
    let path = |name: &str| machine.path("b").join(name);
    let at = |name: &str, seconds: u64| {
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        fs::File::open(path(name)).unwrap().set_modified(time).unwrap();
    };
    fs::write(path("text"), "other").unwrap();
    fs::write(path("small/new"), "new").unwrap();
    fs::remove_file(path("small/007")).unwrap();
    fs::remove_dir_all(path("empty-directory")).unwrap();
    fs::set_permissions(path("mode-777"), PermissionsExt::from_mode(0o700)).unwrap();
    fs::remove_file(path("link-dangling")).unwrap();
    symlink("elsewhere", path("link-dangling")).unwrap();
    at("one-byte", 1_234_567_890);
    rustix::fs::setxattr(path("with-attributes"), "user.comment", b"another", rustix::fs::XattrFlags::empty()).unwrap();
    at("text", 1_500_000_000);
    at("small", 1_500_000_001);
    at("", 1_500_000_002);
    let touched = Command::new("touch").args(["-h", "-d", "@1500000003"]).arg(path("link-dangling")).status();
    assert!(touched.unwrap().success());
    if snapkit_tests::is_root() {
        std::os::unix::fs::lchown(path("zeros"), Some(3), Some(4)).unwrap();
    }
    let report = diff(&machine, 1, &["--devices", "./a", "./b"]);
    let found = by_path(&report);

    // `YXcstpoguax PATH`, or `*deleting PATH`: rsync says what would make b of a.
    let listed = differences(&machine.path("b"), &machine.path("a"));
    let mut expected: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    for line in listed.lines() {
        let (what, rest) = line.split_once(' ').unwrap();
        let path = rest.trim_start().split(" -> ").next().unwrap().trim_end_matches('/').replace("./", "");
        let path = if path == "." { String::new() } else { path };
        let what = what.as_bytes();
        if what.starts_with(b"*deleting") {
            expected.insert(path, BTreeSet::from(["removed"]));
        } else if what[2] == b'+' {
            expected.insert(path, BTreeSet::from(["added"]));
        } else {
            // A symlink with another target has all of its letters, as it would be made anew.
            let flags = [(2, "content"), (4, "mtime"), (5, "mode"), (6, "uid"), (7, "gid"), (10, "xattr")];
            let set = |(at, name): &(usize, &'static str)| (what[*at] != b'.').then_some(*name);
            expected.insert(path, flags.iter().filter_map(set).collect());
        }
    }
    let ours: BTreeMap<String, BTreeSet<&str>> = found
        .iter()
        .map(|(path, one)| match one["change"].as_str().unwrap() {
            "changed" => {
                let mut fields = fields(one);
                fields.remove("size");
                if fields.remove("target") {
                    fields.insert("content");
                }
                (path.clone(), fields)
            }
            change => (path.clone(), BTreeSet::from([change])),
        })
        .collect();
    assert!(expected.len() >= 9, "{listed}");
    assert_eq!(ours, expected, "{listed}");
}

#[test]
fn a_renamed_file_is_recognised_by_its_content() {
    let machine = Machine::new();
    machine.write("tree/old/name", noise(10_000, 1));
    machine.write("tree/old/moved", noise(10_000, 2));
    machine.write("tree/twin-1", noise(5_000, 3));
    machine.write("tree/twin-2", noise(5_000, 3));
    machine.write("tree/empty", "");
    machine.ok(&["init", "store"]);
    machine.ok(&["snapshot", "--store", "store", "tree"]);
    let rename = |from: &str, to: &str| {
        fs::create_dir_all(machine.path(to).parent().unwrap()).unwrap();
        fs::rename(machine.path("tree").join(from), machine.path("tree").join(to)).unwrap();
    };
    fs::create_dir(machine.path("tree/new")).unwrap();
    rename("old/name", "new/other-name");
    rename("old/moved", "new/moved");
    rename("twin-2", "new/twin-3");
    rename("empty", "void");
    fs::remove_dir(machine.path("tree/old")).unwrap();
    machine.ok(&["snapshot", "--store", "store", "tree"]);
    for sides in [["latest~1", "latest"], ["latest~1", "./tree"]] {
        let report = diff(&machine, 1, &["--store", "store", sides[0], sides[1]]);
        let expected = [("old/moved", "new/moved"), ("old/name", "new/other-name"), ("twin-2", "new/twin-3")];
        assert_eq!(renamed(&report), expected, "{report}");
        assert_eq!(report["summary"]["paths"]["renamed"], 3);
        assert_eq!(by_path(&report)["void"]["change"], "added", "nothing tells empty files apart");
    }
    let back = diff(&machine, 1, &["--store", "store", "./tree", "latest~1"]);
    let expected = [("new/moved", "old/moved"), ("new/other-name", "old/name"), ("new/twin-3", "twin-2")];
    assert_eq!(renamed(&back), expected, "{back}");
}

/// From where to where files were renamed.
fn renamed(report: &Value) -> Vec<(&str, &str)> {
    let all = report["differences"].as_array().unwrap().iter().filter(|one| one["change"] == "renamed");
    all.map(|one| (one["from"]["path"].as_str().unwrap(), one["path"].as_str().unwrap())).collect()
}

#[test]
fn a_policy_says_what_may_differ() {
    let machine = Machine::new();
    for name in ["fixed", "db/CURRENT", "db/000001.sst", "var/service.log", "var/cache/x"] {
        machine.write(&format!("a/{name}"), name);
        machine.write(&format!("b/{name}"), name);
    }
    let policy = "compare = \"content\"\n\
                  [[rule]]\npaths = [\"/db/\"]\nclass = \"may-advance\"\n\
                  [[rule]]\npaths = [\"*.log\", \"/var/cache\"]\nclass = \"ignore\"\n";
    machine.write("policy.toml", policy);
    let args = ["--policy", "policy.toml", "./a", "./b"];
    assert_eq!(diff(&machine, 0, &args)["summary"]["answer"], "same");

    machine.write("b/db/CURRENT", "advanced");
    machine.write("b/db/000002.sst", "more");
    machine.write("b/var/service.log", "noise");
    machine.write("b/var/cache/y", "noise");
    let report = diff(&machine, 0, &args);
    assert_eq!(report["summary"]["answer"], "allowed");
    let found = by_path(&report);
    assert_eq!(found["db/CURRENT"]["verdict"], "advanced");
    assert_eq!(found["db/000002.sst"]["verdict"], "extra");
    assert_eq!(found.len(), 2, "{report}");
    assert_eq!(report["summary"]["ignored"], 4, "{report}");
    let text = machine.ok(&["diff", "--policy", "policy.toml", "./a", "./b"]);
    let last = text.text().lines().last().unwrap().to_owned();
    assert!(last.starts_with("they differ only where the policy allows: 1 advanced, 1 extra"), "{last}");

    // What may advance may not be gone, and may not have other permissions.
    fs::remove_file(machine.path("b/db/000001.sst")).unwrap();
    let report = diff(&machine, 1, &args);
    assert_eq!(by_path(&report)["db/000001.sst"]["verdict"], "missing");
    machine.write("b/db/000001.sst", "db/000001.sst");
    fs::set_permissions(machine.path("b/db/CURRENT"), PermissionsExt::from_mode(0o600)).unwrap();
    let report = diff(&machine, 1, &args);
    assert_eq!(by_path(&report)["db/CURRENT"]["verdict"], "differs");
    fs::set_permissions(machine.path("b/db/CURRENT"), PermissionsExt::from_mode(0o644)).unwrap();
    diff(&machine, 0, &args);

    // What no rule names must match.
    machine.write("b/fixed", "changed");
    let report = diff(&machine, 1, &args);
    assert_eq!(by_path(&report)["fixed"]["class"], "must-match");
    machine.write("bad.toml", "[[rule]]\npaths = [\"x\"]\nclass = \"may\"\n");
    machine.run(&["diff", "--policy", "bad.toml", "./a", "./b"]).expect(2).stderr_names("bad.toml");
}

#[test]
fn a_snapshot_of_another_store_needs_a_pin_of_its_own() {
    let machine = Machine::new();
    machine.write("tree/same", noise(100_000, 1));
    machine.write("tree/other", "1");
    machine.ok(&["init", "store"]);
    machine.ok(&["snapshot", "--store", "store", "tree"]);
    let elsewhere = Machine::new();
    elsewhere.write("copy/same", noise(100_000, 1));
    elsewhere.write("copy/other", "22");
    let made = elsewhere.ok(&["init", "store", "--json"]).json("snapkit.init/1");
    elsewhere.ok(&["snapshot", "--store", "store", "copy"]);

    let other = elsewhere.arg("store");
    let args = ["diff", "--content", "--json", "--store", "store", "latest", "latest", "--other-store"];
    let with = |store: &str| machine.run(&[&args[..], &[store]].concat());
    with(&other).expect(50).stderr_names("E_NO_PIN");
    let report = with(made["bootstrap"].as_str().unwrap()).expect(1).json(SCHEMA);
    let found = by_path(&report);
    assert_eq!(found.keys().collect::<Vec<_>>(), ["other"], "{report}");
    assert_eq!(found["other"]["ranges"], serde_json::json!([[0, 1, 0, 2]]));
    assert_ne!(report["a"]["store"], report["b"]["store"]);
    // A directory against the other store's snapshot needs no store but that.
    let bootstrap = made["bootstrap"].as_str().unwrap();
    machine.run(&["diff", "--content", "./tree", "latest", "--other-store", bootstrap]).expect(1);
    machine.run(&["diff", "latest", "./tree", "--store", "store", "--other-store", bootstrap]).expect(2);
}

#[test]
fn several_trees_are_compared_by_name() {
    let machine = Machine::new();
    machine.write("db/table", "rows");
    machine.write("etc/service.conf", "port = 1");
    machine.ok(&["init", "store"]);
    machine.ok(&["snapshot", "--store", "store", "db=db", "conf=etc"]);
    machine.ok(&["restore", "--store", "store", "latest", "back"]);
    diff(&machine, 0, &["--store", "store", "latest", "./back"]);
    fs::write(machine.path("back/conf/service.conf"), "port = 2").unwrap();
    let report = diff(&machine, 1, &["--store", "store", "--content", "latest", "./back"]);
    assert_eq!(by_path(&report).into_keys().collect::<Vec<_>>(), ["conf/service.conf"]);
    assert_eq!(report["trees"], serde_json::json!(["conf", "db"]));
    // One tree is the directory itself.
    diff(&machine, 0, &["--store", "store", "--tree", "db", "latest", "./db"]);
    machine.run(&["diff", "--store", "store", "--tree", "nope", "latest", "./db"]).expect(2);
    // A tree that one side lacks.
    machine.ok(&["snapshot", "--store", "store", "db=db"]);
    diff(&machine, 0, &["--store", "store", "--tree", "db", "latest~1", "latest"]);
    let report = diff(&machine, 1, &["--store", "store", "latest~1", "latest"]);
    assert_eq!(by_path(&report).into_keys().collect::<Vec<_>>(), ["conf", "conf/service.conf"]);
    fs::remove_dir_all(machine.path("back/db")).unwrap();
    let report = diff(&machine, 1, &["--store", "store", "--content", "latest~1", "./back"]);
    assert_eq!(by_path(&report)["db/table"]["verdict"], "missing");
}

#[test]
fn the_same_states_give_the_same_bytes() {
    let machine = Machine::new();
    EveryKind::create(&machine.path("tree"));
    machine.ok(&["init", "store"]);
    machine.ok(&["snapshot", "--store", "store", "tree"]);
    for index in 0..300 {
        machine.write(&format!("tree/new/{index}"), noise(1000, index % 7));
    }
    fs::write(machine.path("tree/several-chunks"), noise((5 << 20) + 3, 8)).unwrap();
    machine.ok(&["snapshot", "--store", "store", "tree"]);
    let run = |args: &[&str]| machine.run(args).expect(1).stdout;
    for args in [
        ["diff", "--store", "store", "latest~1", "latest", "--json"],
        ["diff", "--store", "store", "latest~1", "./tree", "--json"],
        ["diff", "--store", "store", "latest~1", "latest", "--hex"],
    ] {
        assert!(run(&args) == run(&args), "{args:?}");
    }
}

#[test]
fn a_word_that_is_a_directory_gets_told_how_to_write_it() {
    let machine = Machine::new();
    fs::create_dir(machine.path("tree")).unwrap();
    machine.run(&["diff", "tree", "./tree"]).expect(2).stderr_names("./tree");
    machine.ok(&["diff", "dir:tree", "./tree"]);
    machine.run(&["diff", "./absent", "./tree"]).expect(5).stderr_names("absent");
}

#[test]
fn what_is_excluded_counts_on_neither_side() {
    let machine = Machine::new();
    for name in ["keep", "x.tmp", "drop/inside"] {
        machine.write(&format!("a/{name}"), name);
    }
    machine.write("b/keep", "keep");
    machine.write("b/y.tmp", "y");
    let args = ["diff", "--content", "--exclude", "*.tmp", "--exclude", "/drop", "./a", "./b"];
    machine.ok(&args);
    machine.run(&args[..4].iter().chain(&args[6..]).copied().collect::<Vec<_>>()).expect(1);
}
