//! What must hold after a switch does not: back to the old generation, or, where that cannot be, degraded until
//! somebody acknowledges it. Everything that fails here fails on the file system.

#![allow(clippy::unwrap_used)]

mod node;

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use node::Node;
use snapkit_tests::{Run, is_root};

const SWITCHED_BACK: i32 = 13;
const DEGRADED: i32 = 4;

/// A node that requires a link of the machine to lead to something in the active generation: `only-N` is in
/// snapshot N alone.
fn requiring(count: usize, number: usize) -> Node {
    let node = Node::new(count);
    require(&node, number);
    node
}

fn require(node: &Node, number: usize) {
    let link = node.machine.path("link");
    let target = node.path(&format!("current/only-{number}"));
    let _ = fs::remove_file(&link);
    symlink(&target, &link).unwrap();
    node.config(&format!("[require.links]\n\"{}\" = \"{}\"\n", link.display(), target.display()));
}

#[test]
fn a_switch_that_does_not_hold_is_taken_back() {
    let node = requiring(2, 0);
    node.restore(0, &[]).expect(0);
    let failed = node.restore(1, &[]).expect(SWITCHED_BACK);
    failed.stderr_names("leads to nothing").stderr_names(&format!("{} is active again", node.snapshots[0]));
    node.expect_active(0);
    let status = node.status();
    assert_eq!(status["degraded"], serde_json::Value::Null);
    let last = status["events"].as_array().unwrap().last().unwrap().clone();
    assert_eq!((&last["what"], &last["to"]), (&"switched-back".into(), &node.snapshots[0].as_str().into()));
    // It is no obstacle to the next switch, which reuses what was restored.
    require(&node, 1);
    let done = node.restore(1, &[]).expect(0).json("snapkit.restore-into/1");
    assert_eq!(done["restored"], false);
    node.expect_active(1);
    node.undo().expect(SWITCHED_BACK);
    node.expect_active(1);
}

#[test]
fn a_load_bearing_file_that_the_snapshot_lacks_stops_before_anything_is_restored() {
    let node = Node::new(2);
    node.config("[require]\nfiles = [\"config\", \"only-0\"]\n");
    let done = node.restore(0, &[]).expect(0).json("snapkit.restore-into/1");
    assert_eq!(done["requirements"], serde_json::json!(["file config", "file only-0"]));
    node.restore(1, &[]).expect(3).stderr_names("only-0");
    node.expect_active(0);
    assert_eq!(node.in_generations().len(), 1, "nothing is left of it");
}

#[test]
fn going_back_to_a_generation_with_a_changed_load_bearing_file_is_taken_back() {
    let node = Node::new(2);
    node.config("[require]\nfiles = [\"config\"]\n");
    node.restore(0, &[]).expect(0);
    node.restore(1, &[]).expect(0);
    let old = node.path("generations").join(&node.snapshots[0]).join("config");
    fs::write(&old, "tampered").unwrap();
    node.undo().expect(SWITCHED_BACK).stderr_names("file config: content");
    node.expect_active(1);
    fs::remove_file(&old).unwrap();
    symlink("/etc/hostname", &old).unwrap();
    node.undo().expect(SWITCHED_BACK).stderr_names("file config: type");
    node.expect_active(1);
}

#[test]
fn a_first_switch_that_does_not_hold_has_nothing_to_go_back_to() {
    let node = requiring(2, 1);
    node.restore(0, &[]).expect(DEGRADED).stderr_names("leads to nothing").stderr_names("none to go back to");
    let status = node.machine.bootstrap(&["status", "node"]).expect(DEGRADED);
    assert!(status.text().contains("DEGRADED"), "{}", status.text());
}

/// A node whose generation before was removed by somebody, so that a switch that does not hold cannot be taken back.
fn degraded() -> Node {
    let node = requiring(3, 0);
    node.restore(0, &[]).expect(0);
    fs::remove_dir_all(node.path("generations").join(&node.snapshots[0])).unwrap();
    node.restore(1, &[]).expect(DEGRADED).stderr_names("leads to nothing").stderr_names("not there any more");
    node
}

fn files_of(node: &Node) -> String {
    let list = Command::new("find").arg(node.path("")).args(["-printf", "%p %l %s\n"]).output().unwrap();
    String::from_utf8(list.stdout).unwrap()
}

#[test]
fn a_degraded_node_refuses_every_switch_until_it_is_acknowledged() {
    let node = degraded();
    let before = files_of(&node);
    let both = |run: Run| run.expect(DEGRADED).stderr_names("leads to nothing").stderr_names("not there any more");
    // Every command is a process of its own: what it refuses with, it read from the disk.
    both(node.restore(2, &[]));
    both(node.restore(2, &["--dry-run"]));
    both(node.undo());
    let status = node.status();
    let mark = &status["degraded"];
    assert!(mark["failure"].as_str().unwrap().contains("leads to nothing"), "{mark}");
    assert!(mark["rollback"].as_str().unwrap().contains("not there any more"), "{mark}");
    node.machine.bootstrap(&["check", "node"]).expect(1);
    let ack = node.machine.bootstrap(&["ack", "node", "--reason", "I hope"]);
    ack.expect(1).stderr_names("leads to nothing");
    node.machine.bootstrap(&["ack", "node"]).expect(2);
    node.machine.bootstrap(&["ack", "node", "--reason", ""]).expect(2);
    assert_eq!(files_of(&node), before, "nothing changed");

    require(&node, 1);
    node.undo().expect(DEGRADED);
    node.machine.bootstrap(&["check", "node"]).expect(0);
    let ack = node.machine.bootstrap(&["ack", "node", "--reason", "link repaired", "--json"]).expect(0);
    assert_eq!(ack.json("bootstrap.ack/1")["reason"], "link repaired");
    node.expect_active(1);
    let status = node.status();
    assert_eq!(status["degraded"], serde_json::Value::Null);
    let last = status["events"].as_array().unwrap().last().unwrap().clone();
    assert_eq!((&last["what"], &last["why"]), (&"acknowledged".into(), &"link repaired".into()));
    node.machine.bootstrap(&["ack", "node", "--reason", "again"]).expect(3).stderr_names("not degraded");
    node.config("");
    node.restore(2, &[]).expect(0);
    node.expect_active(2);
}

#[test]
fn a_damaged_mark_refuses_as_well() {
    let node = degraded();
    fs::write(node.path(".node/degraded.json"), "{").unwrap();
    node.restore(2, &[]).expect(5).stderr_names("degraded.json is damaged");
    node.undo().expect(5);
    node.machine.bootstrap(&["ack", "node", "--reason", "x"]).expect(5);
}

#[test]
fn an_acknowledged_node_may_have_been_set_by_hand() {
    let node = requiring(3, 0);
    node.restore(0, &[]).expect(0);
    let first = node.path("generations").join(&node.snapshots[0]);
    let away = node.machine.path("away");
    fs::rename(&first, &away).unwrap();
    node.restore(1, &[]).expect(DEGRADED);
    fs::rename(&away, &first).unwrap();
    fs::remove_file(node.path("current")).unwrap();
    symlink(format!("generations/{}", node.snapshots[0]), node.path("current")).unwrap();
    node.machine.bootstrap(&["ack", "node", "--reason", "set back by hand"]).expect(0);
    node.expect_active(0);
}

/// Runs a command whose `nth` system call of a kind fails.
fn with_failing(node: &Node, command: &Command, call: &str, nth: u32) -> Run {
    let mut traced = Command::new("strace");
    traced.args(["-f", "-qq", "-o", "/dev/null", "-e", &format!("trace={call}")]);
    traced.args(["-e", &format!("inject={call}:error=EIO:when={nth}")]);
    traced.arg(command.get_program()).args(command.get_args()).current_dir(node.machine.path("")).env_clear();
    traced.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    Run::of(traced)
}

#[test]
fn a_flip_that_fails_is_fatal_before_anything_is_checked() {
    let node = Node::new(2);
    node.restore(0, &[]).expect(0);
    node.restore(1, &[]).expect(0);
    // It would not hold either; that it is not even looked at is what is said.
    require(&node, 1);
    let undo = node.machine.bootstrap_command(&["undo", "node"]);
    // The first rename is that of the written intent.
    for (call, nth) in [("symlinkat", 1), ("renameat", 2)] {
        let failed = with_failing(&node, &undo, call, nth).expect(5);
        assert!(failed.stderr.contains("nothing was changed") && !failed.stderr.contains("leads to"), "{failed:?}");
        node.expect_active(1);
        assert_eq!(node.status()["interrupted"], serde_json::Value::Null);
    }
    node.config("");
    node.undo().expect(0);
    node.expect_active(0);
}

#[test]
fn a_flip_back_that_fails_leaves_the_mark_with_both_causes() {
    let node = Node::new(2);
    node.restore(0, &[]).expect(0);
    node.restore(1, &[]).expect(0);
    require(&node, 1);
    let undo = node.machine.bootstrap_command(&["undo", "node"]);
    // The second rename makes the flip, the third would take it back.
    with_failing(&node, &undo, "renameat", 3)
        .expect(DEGRADED)
        .stderr_names("leads to nothing")
        .stderr_names("os error 5");
    let mark = node.status()["degraded"].clone();
    assert_eq!((&mark["from"], &mark["to"]), (&node.snapshots[1].as_str().into(), &node.snapshots[0].as_str().into()));
    node.undo().expect(DEGRADED);
}

#[test]
fn a_node_directory_that_cannot_be_changed_keeps_its_generation() {
    if !is_root() {
        return;
    }
    let node = Node::new(2);
    node.restore(0, &[]).expect(0);
    let attribute =
        |flag: &str| Command::new("chattr").arg(flag).arg(node.path("")).status().is_ok_and(|s| s.success());
    if !attribute("+i") {
        println!("this file system has no immutable directories");
        return;
    }
    let failed = node.restore(1, &[]);
    assert!(attribute("-i"));
    failed.expect(5).stderr_names("nothing was changed").stderr_names("not permitted");
    node.expect_active(0);
    node.restore(1, &[]).expect(0);
    node.expect_active(1);
}
