//! The README's first command: a directory goes into a chain and comes back, and nothing is left.

#![allow(clippy::unwrap_used)]

use std::fs;

use snapkit_tests::compare::same_tree;
use snapkit_tests::{EveryKind, Machine};

#[test]
fn the_tour_shows_each_command_and_leaves_nothing() {
    let machine = Machine::new();
    machine.write("tree/file", "x");
    fs::create_dir(machine.path("temporary")).unwrap();
    let mut command = machine.command(&["tour", "tree"]);
    command.env("TMPDIR", machine.path("temporary"));
    let run = snapkit_tests::Run::of(command).expect(0);
    for shown in ["$ snapkit init", "$ snapkit snapshot", "$ snapkit verify", "$ snapkit restore", "are the same"] {
        assert!(run.text().contains(shown), "{shown}: {}", run.text());
    }
    assert_eq!(fs::read_dir(machine.path("temporary")).unwrap().count(), 0);
    assert!(!machine.home().exists());
}

#[test]
fn a_kept_tour_can_be_looked_at() {
    let machine = Machine::new();
    let tree = EveryKind::create(&machine.path("tree"));
    // Devices are not taken by default, and the tour uses no options.
    let _ = fs::remove_dir_all(tree.path.join("devices"));
    let run = machine.ok(&["tour", "tree", "--keep", "kept", "--json"]);
    let toured = run.json("snapkit.tour/1");
    assert_eq!(toured["same_content"], true);
    assert_eq!(toured["same_metadata"], true);
    same_tree(&tree.path, &machine.path("kept/restored"));
    machine.run(&["tour", "tree", "--keep", "kept"]).expect(3);
}
