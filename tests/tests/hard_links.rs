//! Hard links whose file changes, or loses a name, while the snapshot is taken.

#![allow(clippy::unwrap_used)]

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};

use snapkit_tests::Machine;

/// Ends the writing also when the test fails.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn every_snapshot_of_a_linked_file_that_is_being_written_can_be_restored() {
    let machine = Machine::new();
    machine.write("tree/a", "0");
    for name in 0..400 {
        machine.write(&format!("tree/between/{name}"), vec![b'x'; 5000]);
    }
    fs::hard_link(machine.path("tree/a"), machine.path("tree/z")).unwrap();
    machine.ok(&["init", "store"]);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _stop = Stop(&stop);
        scope.spawn(|| {
            let mut file = OpenOptions::new().append(true).open(machine.path("tree/a")).unwrap();
            while !stop.load(Ordering::Relaxed) {
                file.write_all(b"more").unwrap();
                std::thread::sleep(std::time::Duration::from_micros(200));
            }
        });
        let mut torn = 0;
        for _ in 0..8 {
            let run = machine.run(&["snapshot", "--store", "store", "tree"]);
            assert!(matches!(run.code, 0 | 10), "{run:?}");
            torn += usize::from(run.code == 10);
            let restored = machine.run(&["restore", "--store", "store", "latest", "back"]);
            restored.expect(0);
            fs::remove_dir_all(machine.path("back")).unwrap();
        }
        assert!(torn > 0, "no run met the change, so this test tried nothing");
    });
}

#[test]
fn every_snapshot_of_a_linked_file_that_loses_names_can_be_restored() {
    let machine = Machine::new();
    for name in 0..300 {
        machine.write(&format!("tree/a{name:03}"), format!("{name}"));
        fs::hard_link(machine.path(format!("tree/a{name:03}")), machine.path(format!("tree/z{name:03}"))).unwrap();
    }
    machine.ok(&["init", "store"]);
    std::thread::scope(|scope| {
        let snapshot = scope.spawn(|| machine.run(&["snapshot", "--store", "store", "tree"]));
        for name in 0..300 {
            fs::remove_file(machine.path(format!("tree/a{name:03}"))).unwrap();
            std::thread::sleep(std::time::Duration::from_micros(300));
        }
        let run = snapshot.join().unwrap();
        assert!(matches!(run.code, 0 | 10 | 11), "{run:?}");
    });
    machine.ok(&["restore", "--store", "store", "latest", "back"]);
    machine.ok(&["verify", "--store", "store", "--data"]);
}
