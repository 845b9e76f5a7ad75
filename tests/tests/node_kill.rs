//! The kill matrix of switches: a restore into a node and an undo are killed before each call that changes something on
//! disk. `current` is entirely the old or the new generation, and the next command needs no repair.

#![allow(clippy::unwrap_used)]

mod after;
mod node;

use std::fs;
use std::path::Path;

use after::copy;
use node::Node;
use snapkit_tests::compare::differences;
use snapkit_tests::kill::every_call_of;

/// Which snapshot a directory holds, entirely.
fn held(node: &Node, directory: &Path) -> usize {
    let is_same = |number: &usize| differences(&node.machine.path(format!("state-{number}")), directory).is_empty();
    (0..node.snapshots.len()).find(is_same).expect("it holds one snapshot and nothing else")
}

/// Kills a command that switches from snapshot 0 to 1 at every call; `place` is what changes hands.
fn kill_switches(node: &Node, command: &std::process::Command, place: &Path, then: impl Fn(usize)) {
    let (saved, at) = (node.machine.path("saved"), node.path(""));
    let fixed = node.machine.path("place");
    fs::create_dir(&saved).unwrap();
    copy(&at, &saved.join("node"));
    if fixed.exists() {
        copy(&fixed, &saved.join("place"));
    }
    let (mut old, mut new) = (0, 0);
    every_call_of(
        &node.machine,
        command,
        || {
            copy(&saved.join("node"), &at);
            if fixed.exists() {
                copy(&saved.join("place"), &fixed);
            }
        },
        |ended| {
            let before = held(node, place);
            if before == 0 {
                old += 1
            } else {
                new += 1
            }
            assert!(before == 1 || !ended);
            // Looking changes nothing and needs no repair.
            node.status();
            assert_eq!(held(node, place), before);
            then(before);
        },
    );
    assert!(old > 5 && new > 3, "killed on both sides of the flip: {old} and {new}");
}

fn after_a_restore(node: &Node, place: &Path) {
    node.restore(1, &[]).expect(0);
    assert_eq!(held(node, place), 1);
    assert_eq!(node.status()["interrupted"], serde_json::Value::Null);
    node.machine.bootstrap(&["check", "node"]).expect(0);
    node.undo().expect(0);
    assert_eq!(held(node, place), 0);
    assert!(node.in_generations().iter().all(|name| name.starts_with("snap-")), "nothing half done is left");
}

#[test]
fn a_restore_killed_before_any_call_leaves_the_old_or_the_new_generation() {
    let node = Node::new(2);
    node.config("[require]\nfiles = [\"config\"]\n");
    node.restore(0, &[]).expect(0);
    let snapshot = &node.snapshots[1];
    let command = node.machine.command(&["restore", "--store", "store", snapshot, "--into", "node"]);
    let current = node.path("current");
    kill_switches(&node, &command, &current, |_| after_a_restore(&node, &current));
}

#[test]
fn a_restore_to_a_fixed_path_killed_before_any_call_leaves_the_old_or_the_new_tree() {
    let node = Node::new(2);
    let place = node.machine.path("place");
    node.config(&format!("[require]\nfiles = [\"tree/config\"]\n[fixed]\ntree = \"{}\"\n", place.display()));
    node.restore(0, &[]).expect(0);
    let snapshot = &node.snapshots[1];
    let command = node.machine.command(&["restore", "--store", "store", snapshot, "--into", "node"]);
    kill_switches(&node, &command, &place, |_| after_a_restore(&node, &place));
}

#[test]
fn an_undo_killed_before_any_call_leaves_the_old_or_the_new_generation() {
    let node = Node::new(2);
    node.restore(1, &[]).expect(0);
    node.restore(0, &[]).expect(0);
    let command = node.machine.bootstrap_command(&["undo", "node"]);
    let current = node.path("current");
    kill_switches(&node, &command, &current, |before| {
        let undone = node.undo().expect(0).json("bootstrap.undo/1");
        // Either it undid what the killed one had finished, or it took it back, or nothing had been begun.
        let now = held(&node, &current);
        assert_eq!(undone["active"], node.snapshots[now].as_str());
        if undone["interrupted"] == true {
            assert_eq!(now, 0);
        } else {
            assert_ne!(now, before, "one undo, one step");
        }
        node.machine.bootstrap(&["check", "node"]).expect(0);
    });
}

#[test]
fn a_first_restore_killed_before_any_call_is_completed_by_the_next() {
    let node = Node::new(1);
    let at = node.path("");
    let command = node.machine.command(&["restore", "--store", "store", "latest", "--into", "node"]);
    let clear = || drop(fs::remove_dir_all(&at));
    every_call_of(&node.machine, &command, clear, |ended| {
        let current = node.path("current");
        let is_active = current.exists();
        assert!(is_active || !ended);
        if is_active {
            assert_eq!(held(&node, &current), 0);
        }
        node.restore(0, &[]).expect(0);
        node.expect_active(0);
    });
}
