//! Trees at fixed paths: directories change places, and what lay there before the first switch is kept.

#![allow(clippy::unwrap_used)]

mod node;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::Command;

use node::{Node, names};
use snapkit_tests::{Run, is_root};

fn fixed(count: usize) -> (Node, PathBuf) {
    let node = Node::new(count);
    let place = node.machine.path("place");
    node.config(&format!("[require]\nfiles = [\"tree/config\"]\n[fixed]\ntree = \"{}\"\n", place.display()));
    (node, place)
}

fn data(place: &std::path::Path) -> String {
    fs::read_to_string(place.join("data")).unwrap()
}

#[test]
fn a_tree_at_a_fixed_path_goes_with_every_switch() {
    let (node, place) = fixed(2);
    node.restore(0, &[]).expect(0);
    assert_eq!(data(&place), "state 0");
    assert!(names(&node.path("current")).is_empty(), "its place in the generation is empty while it is active");
    let done = node.restore(1, &[]).expect(0).json("snapkit.restore-into/1");
    assert!(done["requirements"].to_string().contains("file tree/config"), "{done}");
    assert_eq!(data(&place), "state 1");
    let old = node.path("generations").join(&node.snapshots[0]).join("tree");
    assert_eq!(data(&old), "state 0");
    node.undo().expect(0);
    assert_eq!(data(&place), "state 0");
    node.machine.bootstrap(&["check", "node"]).expect(0);
    // What the service wrote goes with its generation.
    fs::write(place.join("data"), "written since").unwrap();
    node.undo().expect(0);
    node.undo().expect(0);
    assert_eq!(data(&place), "written since");
    let again = node.restore(0, &[]).expect(0).json("snapkit.restore-into/1");
    assert_eq!(again["restored"], true);
    assert_eq!(data(&place), "state 0");
}

#[test]
fn what_lay_there_before_is_a_generation_that_stays() {
    let (node, place) = fixed(5);
    node.machine.write("place/mine", "precious");
    node.restore(0, &[]).expect(0);
    assert!(!place.join("mine").exists());
    node.undo().expect(13).stderr_names("file tree/config");
    node.config(&format!("[fixed]\ntree = \"{}\"\n", place.display()));
    node.undo().expect(0);
    assert_eq!(names(&place), ["mine"]);
    node.undo().expect(0);
    for number in 1..5 {
        node.restore(number, &[]).expect(0);
    }
    let found: Vec<_> = node.in_generations().into_iter().filter(|name| name.starts_with("found-")).collect();
    assert_eq!(found.len(), 1);
    let kept = node.path("generations").join(&found[0]).join("tree/mine");
    assert_eq!(fs::read(kept).unwrap(), b"precious");
    assert_eq!(data(&place), "state 4");
}

#[test]
fn a_switch_that_does_not_hold_brings_the_tree_back() {
    let (node, place) = fixed(2);
    node.restore(0, &[]).expect(0);
    let link = node.machine.path("link");
    symlink(place.join("only-0"), &link).unwrap();
    let links = format!("[require.links]\n\"{}\" = \"{}\"\n", link.display(), place.join("only-0").display());
    node.config(&format!("[fixed]\ntree = \"{}\"\n{links}", place.display()));
    node.restore(1, &[]).expect(13);
    assert_eq!(data(&place), "state 0");
    node.machine.bootstrap(&["check", "node"]).expect(0);
    let new = node.path("generations").join(&node.snapshots[1]).join("tree");
    assert_eq!(data(&new), "state 1");
}

#[test]
fn an_exchange_that_fails_changes_nothing() {
    let (node, place) = fixed(2);
    node.restore(0, &[]).expect(0);
    node.restore(1, &[]).expect(0);
    let undo = node.machine.bootstrap_command(&["undo", "node"]);
    for from in ["1", "2"] {
        let mut traced = Command::new("strace");
        traced.args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=renameat2"]);
        traced.args(["-e", &format!("inject=renameat2:error=EIO:when={from}")]);
        traced.arg(undo.get_program()).args(undo.get_args()).current_dir(node.machine.path(""));
        Run::of(traced).expect(5).stderr_names("nothing was changed");
        assert_eq!(data(&place), "state 1");
        node.machine.bootstrap(&["check", "node"]).expect(0);
    }
    node.undo().expect(0);
    assert_eq!(data(&place), "state 0");
}

#[test]
fn fixed_paths_that_cannot_be_exchanged_are_refused_before_anything_is_restored() {
    let node = Node::new(1);
    let refuse = |path: PathBuf, says: &str| {
        node.config(&format!("[fixed]\ntree = \"{}\"\n", path.display()));
        node.restore(0, &[]).expect(3).stderr_names(says);
        assert!(node.in_generations().is_empty());
    };
    refuse(node.machine.write("file", "x"), "not a directory");
    symlink("store", node.machine.path("link")).unwrap();
    refuse(node.machine.path("link"), "not a directory");
    refuse(node.machine.path("absent/below"), "missing");
    refuse(node.path("inside"), "in the node directory");
    refuse(PathBuf::from("/dev/shm/snapkit-test-other"), "another file system");
    node.config("[fixed]\nother = \"/x\"\n");
    node.restore(0, &[]).expect(3).stderr_names("no such tree");
    node.config("[fixed]\ntree = \"relative\"\n");
    node.restore(0, &[]).expect(2).stderr_names("absolute");
    if is_root() {
        let mounted = node.machine.path("mounted");
        fs::create_dir(&mounted).unwrap();
        let mount = Command::new("mount").args(["-t", "tmpfs", "none"]).arg(&mounted).status();
        if mount.is_ok_and(|mount| mount.success()) {
            node.config(&format!("[fixed]\ntree = \"{}\"\n", mounted.display()));
            let run = node.restore(0, &[]);
            assert!(Command::new("umount").arg(&mounted).status().unwrap().success());
            run.expect(3).stderr_names("mount point");
        }
    }
}

#[test]
fn a_fixed_path_is_not_forgotten_while_a_generation_is_there() {
    let (node, place) = fixed(2);
    node.restore(0, &[]).expect(0);
    node.config("");
    node.restore(1, &[]).expect(3).stderr_names("the active generation is activated there");
    assert_eq!(data(&place), "state 0");
}
