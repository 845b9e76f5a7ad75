//! Trust: nothing is believed because a store says it.

#![allow(clippy::unwrap_used)]

use std::fs;

use snapkit_tests::Machine;
use snapkit_tests::compare::same_tree;

/// Every command that reads a store, with arguments that would otherwise succeed.
const READING: &[&[&str]] = &[
    &["log"],
    &["show", "latest"],
    &["ls", "latest"],
    &["cat", "latest", "file"],
    &["find", "*"],
    &["digest", "latest"],
    &["verify"],
    &["restore", "latest", "back"],
];

/// A machine with one snapshot in `store`, and the bootstrap string that `init` gave.
fn origin() -> (Machine, String) {
    let machine = Machine::new();
    machine.write("tree/file", "x");
    let init = machine.ok(&["init", "store", "--json"]).json("snapkit.init/1");
    machine.ok(&["snapshot", "--store", "store", "tree"]);
    let bootstrap = init["bootstrap"].as_str().unwrap().to_owned();
    (machine, bootstrap)
}

#[test]
fn every_reading_command_refuses_a_store_without_a_pin() {
    let (origin, _) = origin();
    let cold = Machine::new();
    let store = origin.arg("store");
    for command in READING {
        let mut args = vec!["--store", &store];
        args.extend(*command);
        let run = cold.run(&args).expect(50);
        // It shows the digest that is to be compared.
        run.stderr_names("sha256:");
    }
    assert!(!cold.path("back").exists());
    assert!(!cold.home().join("trust").exists());
}

#[test]
fn the_bootstrap_string_is_all_a_cold_machine_needs() {
    let (origin, bootstrap) = origin();
    let cold = Machine::new();
    cold.ok(&["trust", "add", &bootstrap]);
    cold.ok(&["trust", "show"]);
    let store = origin.arg("store");
    cold.ok(&["verify", "--store", &store, "--data"]);
    cold.ok(&["restore", "--store", &store, "latest", "back"]);
    same_tree(&origin.path("tree"), &cold.path("back"));

    // Or the string itself, for one command.
    let once = Machine::new();
    once.ok(&["restore", "--store", &bootstrap, "latest", "back"]);
    same_tree(&origin.path("tree"), &once.path("back"));
}

#[test]
fn a_consistent_store_made_with_other_keys_is_refused() {
    let (machine, _) = origin();
    let (other, _) = origin();
    fs::rename(machine.path("store"), machine.path("real")).unwrap();
    let status =
        std::process::Command::new("cp").arg("-a").arg(other.path("store")).arg(machine.path("store")).status();
    assert!(status.unwrap().success());
    for command in READING {
        let mut args = vec!["--store", "store"];
        args.extend(*command);
        machine.run(&args).expect(51);
    }
    machine.run(&["snapshot", "--store", "store", "tree"]).expect(51);
    assert!(!machine.path("back").exists());
}

#[test]
fn a_wrong_pin_is_not_added() {
    let (_origin, bootstrap) = origin();
    let (url, digest) = bootstrap.split_once("#root=sha256:").unwrap();
    let flipped = if digest.starts_with('0') { "1" } else { "0" };
    let wrong = format!("{url}#root=sha256:{flipped}{}", &digest[1..]);
    let cold = Machine::new();
    cold.run(&["trust", "add", &wrong]).expect(51);
    cold.run(&["--store", url, "log"]).expect(50);
}

#[test]
fn an_older_state_of_the_store_is_refused() {
    let (machine, _) = origin();
    let copy = |from: &str, to: &str| {
        let status = std::process::Command::new("cp").args(["-a", from, to]).current_dir(machine.path("")).status();
        assert!(status.unwrap().success());
    };
    copy("store", "older");
    machine.ok(&["snapshot", "--store", "store", "tree"]);
    machine.ok(&["log", "--store", "store"]);
    fs::rename(machine.path("store"), machine.path("newer")).unwrap();
    fs::rename(machine.path("older"), machine.path("store")).unwrap();
    machine.run(&["log", "--store", "store"]).expect(55);
}
