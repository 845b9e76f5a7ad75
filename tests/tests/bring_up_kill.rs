//! A bring-up that is killed before each call that changes something on disk, and brought up again by the same command.

#![allow(clippy::unwrap_used)]

use std::fs;

use snapkit_tests::compare::same_tree;
use snapkit_tests::kill::every_call_of;
use snapkit_tests::{Issuer, Machine};

#[test]
fn a_bring_up_killed_anywhere_is_completed_by_the_same_command() {
    let machine = Machine::new();
    let issuer = Issuer::without_pins(&format!(
        "[manifest]\nname = \"app\"\nfile = \"deploy/manifest.json\"\npins = \"deploy/pins.json\"\n\
         [pins]\nmax_head_age = \"26h\"\n\
         [[pins.trees]]\nname = \"tree\"\npath = \"{}\"\nactivation = \"current\"\nmust_match = [\"etc/app.conf\"]\n",
        machine.arg("above/state")
    ));
    for command in [&["pins", "edit"][..], &["pins", "sign"], &["manifest", "generate"]] {
        issuer.machine.ok(command);
    }
    let (_, pin) = issuer.bootstrap.split_once("#root=").unwrap();
    let from = format!("{}#root={pin}", issuer.machine.arg("store"));
    let args = ["--from", &from, "--manifest", "app", "node", "--quiet"];
    let command = machine.bootstrap_command(&args);
    let prepare = || {
        for directory in [machine.path("node"), machine.path("above"), machine.home(), machine.cache()] {
            let _ = fs::remove_dir_all(directory);
        }
    };
    every_call_of(&machine, &command, prepare, |_ended| {
        // Whatever is there is nothing, or whole.
        if machine.path("node/current").exists() {
            same_tree(&issuer.machine.path("tree"), &machine.path("node/current"));
        }
        machine.bootstrap(&args).expect(0);
        same_tree(&issuer.machine.path("tree"), &machine.path("node/current"));
        assert_eq!(fs::read_to_string(machine.path("above/state/file")).unwrap(), "honest\n");
        machine.bootstrap(&["check", "node"]).expect(0);
        let left: Vec<_> = fs::read_dir(machine.path("node"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| !["bootstrap.toml", "node.toml", "generations", ".node", "current"].contains(&name.as_str()))
            .collect();
        assert!(left.is_empty(), "{left:?}");
    });
}
