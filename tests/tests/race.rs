//! Somebody with the rights of the restore swaps directories of the staged tree for links while it is written.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use snapkit_tests::compare::same_tree;
use snapkit_tests::{Machine, every_kind};

/// Swaps each of some directories for a link to `victim` and back, as fast as it can.
fn swap(tree: &Path, victim: &Path, stop: &AtomicBool) -> u64 {
    let mut swapped = 0;
    while !stop.load(Ordering::Relaxed) {
        for i in 0..20 {
            let (directory, aside) = (tree.join(format!("d{i}")), tree.join(format!("aside{i}")));
            if fs::rename(&directory, &aside).is_ok() {
                swapped += u64::from(symlink(victim, &directory).is_ok());
                let _ = fs::remove_file(&directory);
                let _ = fs::rename(&aside, &directory);
            }
        }
    }
    swapped
}

/// F02, F06, F07.
#[test]
fn directories_that_are_swapped_for_links_meanwhile_lead_nowhere() {
    let machine = Machine::new();
    for i in 0..4000 {
        machine.write(&format!("tree/d{}/f{i}", i % 20), every_kind::noise(3000, i));
    }
    machine.ok(&["init", "store"]);
    machine.ok(&["snapshot", "--store", "store", "tree"]);
    machine.write("victim/f1", "not to be touched");
    let (mut refused, mut swapped) = (0, 0);
    for _ in 0..8 {
        let stop = AtomicBool::new(false);
        let (tree, victim) = (machine.path(".snapkit-restore-back/tree"), machine.path("victim"));
        let run = std::thread::scope(|scope| {
            let racer = scope.spawn(|| swap(&tree, &victim, &stop));
            let run = machine.run(&["restore", "--store", "store", "latest", "back"]);
            stop.store(true, Ordering::Relaxed);
            swapped += racer.join().unwrap();
            run
        });
        assert_eq!(fs::read_to_string(machine.path("victim/f1")).unwrap(), "not to be touched");
        assert_eq!(fs::read_dir(machine.path("victim")).unwrap().count(), 1, "nothing was written through a link");
        if run.code == 0 {
            same_tree(&machine.path("tree"), &machine.path("back"));
            fs::remove_dir_all(machine.path("back")).unwrap();
        } else {
            refused += 1;
            assert!(!machine.path("back").exists());
        }
        let _ = fs::remove_dir_all(machine.path(".snapkit-restore-back"));
    }
    println!("{swapped} swaps, {refused} of 8 restores refused");
    assert!(swapped > 0, "the racer met the restore");
}
