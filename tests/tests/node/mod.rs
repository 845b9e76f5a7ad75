//! A machine with a chain of snapshots and a node directory, for the tests of nodes.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "each test uses a part of it")]

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use snapkit_tests::compare::same_tree;
use snapkit_tests::{Machine, Run};

/// A machine that is to run from what is restored into `node`.
pub struct Node {
    pub machine: Machine,
    /// Names of the snapshots, oldest first; `state-N` is what number N holds.
    pub snapshots: Vec<String>,
}

impl Node {
    /// A chain with `count` snapshots of one tree, each with another `data` and the same `config`.
    pub fn new(count: usize) -> Self {
        let machine = Machine::new();
        machine.ok(&["init", "store"]);
        let mut node = Self { machine, snapshots: Vec::new() };
        for _ in 0..count {
            node.snapshot();
        }
        node
    }

    /// Takes one more snapshot, after changing what it holds.
    pub fn snapshot(&mut self) -> usize {
        let number = self.snapshots.len();
        self.machine.write("tree/data", format!("state {number}"));
        self.machine.write("tree/config", "the same");
        self.machine.write(&format!("tree/only-{number}"), "");
        if number > 0 {
            fs::remove_file(self.machine.path(format!("tree/only-{}", number - 1))).unwrap();
        }
        let taken = self.machine.ok(&["snapshot", "--store", "store", "tree", "--json"]);
        self.snapshots.push(taken.json("snapkit.snapshot/1")["name"].as_str().unwrap().to_owned());
        let kept = self.machine.path(format!("state-{number}"));
        let status = std::process::Command::new("cp").arg("-a").arg(self.machine.path("tree")).arg(kept).status();
        assert!(status.unwrap().success());
        number
    }

    /// Restores a snapshot into the node.
    pub fn restore(&self, number: usize, more: &[&str]) -> Run {
        let snapshot = &self.snapshots[number];
        let mut args = vec!["restore", "--store", "store", snapshot, "--into", "node", "--json"];
        args.extend(more);
        self.machine.run(&args)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.machine.path("node").join(name)
    }

    pub fn config(&self, text: &str) {
        self.machine.write("node/node.toml", text);
    }

    pub fn status(&self) -> Value {
        let run = self.machine.bootstrap(&["status", "node", "--json"]);
        assert!(run.code == 0 || run.code == 4, "{run:?}");
        run.json("bootstrap.status/1")
    }

    pub fn undo(&self) -> Run {
        self.machine.bootstrap(&["undo", "node", "--json"])
    }

    /// Expects that `current` leads to exactly what snapshot `number` holds.
    #[track_caller]
    pub fn expect_active(&self, number: usize) {
        same_tree(&self.machine.path(format!("state-{number}")), &self.path("current"));
        let target = fs::read_link(self.path("current")).unwrap();
        let name = target.file_name().unwrap().to_str().unwrap().to_owned();
        assert!(name.starts_with(&self.snapshots[number]), "{name}");
        assert_eq!(self.status()["active"], name);
    }

    /// The names in `generations/`, with whatever else lies there.
    pub fn in_generations(&self) -> Vec<String> {
        names(&self.path("generations"))
    }
}

/// The names in a directory, ascending.
pub fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}
