//! The owner forks a chain: a stolen writer key, and a copy that lost its newest records, are left behind.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use snapkit_tests::Machine;
use snapkit_tests::every_kind::noise;

fn copy(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg("-a").args([from, to]).status().unwrap().success());
}

struct Chain {
    machine: Machine,
    bootstrap: String,
    owner: String,
    node: String,
}

impl Chain {
    /// A chain with three snapshots of a file with their number; the owner's key is in a safe place.
    fn new() -> Self {
        let machine = Machine::new();
        let init = machine.ok(&["init", "store", "--json"]).json("snapkit.init/1");
        let text = |field: &str| init[field].as_str().unwrap().to_owned();
        fs::create_dir(machine.path("safe")).unwrap();
        let owner = machine.arg("safe/owner.key");
        fs::rename(text("owner_key"), &owner).unwrap();
        let chain = Self { bootstrap: text("bootstrap"), owner, node: text("node_key"), machine };
        chain.machine.write("tree/large", noise(1 << 20, 1));
        (1..=3).for_each(|number| chain.snapshot(number));
        chain
    }

    fn snapshot(&self, number: u32) {
        self.machine.write("tree/file", format!("{number}\n"));
        self.machine.ok(&["snapshot", "--store", "store", "tree"]);
    }

    /// Somebody with a copy of the node's key, who adds a snapshot.
    fn thief(&self) -> Machine {
        let thief = Machine::new();
        copy(&self.machine.home(), &thief.home());
        thief.write("tree/file", "evil\n");
        thief
    }

    /// What a machine sees as the newest content.
    fn latest(&self, machine: &Machine) -> String {
        machine.ok(&["cat", "--store", &self.bootstrap, "latest", "file"]).text().to_owned()
    }
}

#[test]
fn b09_a_stolen_writer_key_is_retired_and_what_it_signed_is_left_behind() {
    let chain = Chain::new();
    let (machine, store) = (&chain.machine, chain.machine.arg("store"));
    let (careful, fooled) = (Machine::new(), Machine::new());
    assert_eq!(chain.latest(&careful), "3\n");
    let thief = chain.thief();
    for _ in 0..2 {
        thief.ok(&["snapshot", "--store", &store, "tree"]);
        thief.write("tree/file", "evil again\n");
    }
    assert_eq!(chain.latest(&fooled), "evil again\n");

    // The owner gives the node a new key and retires the old one from record 4 on.
    machine.ok(&["key", "generate", "new.key"]);
    machine.ok(&["root", "add-key", "new.key", "--role", "writer", "--store", "store", "--draft", "root-2.json"]);
    let remove = ["root", "remove-key", &chain.node, "--role", "writer", "--until", "4"];
    machine.ok(&[&remove[..], &["--store", "store", "--draft", "root-2.json"]].concat());
    machine.ok(&["root", "sign", "root-2.json", "--store", "store", "--signer", &chain.owner]);
    machine.run(&["root", "publish", "root-2.json", "--store", "store"]).expect(3).stderr_names("--void-records");
    machine.ok(&["root", "publish", "root-2.json", "--store", "store", "--void-records"]);
    // Who saw the thief's records waits for the owner's word on them.
    fooled.run(&["log", "--store", &chain.bootstrap]).expect(45);

    let fork =
        ["root", "fork", "--store", "store", "--keep", "3", "--reason", "node key stolen", "--signer", &chain.owner];
    machine.ok(&[&fork[..], &["--dry-run"]].concat());
    let forked = machine.ok(&[&fork[..], &["--json"]].concat()).json("snapkit.root-fork/1");
    assert_eq!((&forked["seq"], &forked["epoch"]), (&Value::from(6), &Value::from(1)));

    // Everybody follows, whatever they saw; and the next snapshot stores nothing anew.
    let cold = Machine::new();
    for reader in [&careful, &fooled, &cold] {
        assert_eq!(chain.latest(reader), "3\n");
        reader.ok(&["verify", "--store", &chain.bootstrap, "--data"]);
        reader.run(&["cat", "--store", &chain.bootstrap, "#5", "file"]).expect(45);
    }
    machine.write("tree/file", "3\n");
    let taken = machine.ok(&["snapshot", "--store", "store", "tree", "--signer", "new.key", "--json"]);
    let taken = taken.json("snapkit.snapshot/1");
    assert_eq!(taken["seq"], 7);
    assert!(taken["new_bytes"].as_u64().unwrap() < 10_000, "{taken}");
    machine.write("tree/file", "7\n");
    machine.ok(&["snapshot", "--store", "store", "tree", "--signer", "new.key"]);
    for reader in [&careful, &fooled, &cold] {
        assert_eq!(chain.latest(reader), "7\n");
    }
    let verified = cold.ok(&["verify", "--store", &chain.bootstrap, "--json"]).json("snapkit.verify/1");
    assert_eq!((&verified["forks"], &verified["left_behind_slots"]), (&Value::from(1), &Value::from(2)));
    // The thief is out.
    thief.run(&["snapshot", "--store", &store, "tree"]).expect(45);
    let log = cold.ok(&["log", "--store", &chain.bootstrap]);
    assert!(log.text().contains("node key stolen"), "{}", log.text());
}

#[test]
fn a_copy_that_lost_its_newest_records_goes_on() {
    let chain = Chain::new();
    let (machine, mirror) = (&chain.machine, chain.machine.arg("mirror"));
    copy(&machine.path("store"), &machine.path("mirror"));
    let follower = Machine::new();
    chain.snapshot(4);
    assert_eq!(chain.latest(&follower), "4\n");
    // The store is gone, and the mirror is one snapshot behind.
    fs::remove_dir_all(machine.path("store")).unwrap();
    let there = chain.bootstrap.replacen("/store#", "/mirror#", 1);
    follower.run(&["cat", "--store", &there, "latest", "file"]).expect(55);

    let fork = ["root", "fork", "--store", &there, "--keep", "3", "--reason", "the store is gone"];
    machine.ok(&[&fork[..], &["--signer", &chain.owner]].concat());
    assert_eq!(follower.ok(&["cat", "--store", &there, "latest", "file"]).text(), "3\n");
    machine.write("tree/file", "5\n");
    let taken = machine.ok(&["snapshot", "--store", &there, "tree", "--json"]).json("snapkit.snapshot/1");
    assert_eq!(taken["seq"], 5);
    assert_eq!(follower.ok(&["cat", "--store", &there, "latest", "file"]).text(), "5\n");
    follower.ok(&["verify", "--store", &there, "--data"]);
    drop(mirror);
}

#[test]
fn a_fork_is_prepared_here_signed_there_and_published() {
    let chain = Chain::new();
    let machine = &chain.machine;
    let prepare = ["root", "fork", "--store", "store", "--keep", "2", "--reason", "three was wrong"];
    machine.ok(&[&prepare[..], &["--draft", "fork.json", "--first-signer", &chain.owner]].concat());
    // Not signed yet, and not signed by somebody who may.
    machine.run(&["root", "publish", "fork.json", "--store", "store"]).expect(40);
    let elsewhere = Machine::new();
    copy(&machine.path("fork.json"), &elsewhere.path("fork.json"));
    elsewhere.ok(&["root", "sign", "fork.json", "--signer", &chain.node]);
    copy(&elsewhere.path("fork.json"), &machine.path("by-node.json"));
    machine.run(&["root", "publish", "by-node.json", "--store", "store"]).expect(44);
    assert_eq!(fs::read_dir(machine.path("store/chain")).unwrap().count(), 4);
    elsewhere.ok(&["root", "sign", "fork.json", "--signer", &chain.owner]);
    copy(&elsewhere.path("fork.json"), &machine.path("signed.json"));
    machine.ok(&["root", "publish", "signed.json", "--store", "store"]);
    assert_eq!(chain.latest(&Machine::new()), "2\n");
    // Published twice is not forked twice.
    machine.run(&["root", "publish", "signed.json", "--store", "store"]);
    assert_eq!(fs::read_dir(machine.path("store/chain")).unwrap().count(), 5);
}

#[test]
fn only_the_owner_forks_and_only_what_is_there() {
    let chain = Chain::new();
    let fork = |keep: &str, signer: &str| {
        chain.machine.run(&["root", "fork", "--store", "store", "--keep", keep, "--reason", "x", "--signer", signer])
    };
    fork("2", &chain.node).expect(44);
    fork("9", &chain.owner).expect(70);
    assert_eq!(fs::read_dir(chain.machine.path("store/chain")).unwrap().count(), 4);
}
