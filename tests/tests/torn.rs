//! Files that change while they are read, and files whose content changed in silence.

#![allow(clippy::unwrap_used)]

use std::fs::OpenOptions;
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use snapkit_tests::Machine;

#[test]
fn a_file_that_will_not_hold_still_is_torn_counted_and_has_its_exit_code() {
    let machine = Machine::new();
    machine.write("tree/quiet", "x");
    let path = machine.write("tree/busy", vec![1; 64 << 20]);
    machine.ok(&["init", "store"]);
    let stop = AtomicBool::new(false);
    let run = thread::scope(|scope| {
        scope.spawn(|| {
            let mut file = OpenOptions::new().append(true).open(&path).unwrap();
            while !stop.load(Ordering::Relaxed) {
                file.write_all(b"more").unwrap();
            }
        });
        // The writer has to run whenever the file is read again.
        let mut runs = (0..8).map(|_| machine.run(&["snapshot", "--store", "store", "tree", "--json"]));
        let run = runs.find(|run| run.code != 0);
        stop.store(true, Ordering::Relaxed);
        run
    });
    let report = run.expect("a torn file is seen").expect(10).stderr_names("busy").json("snapkit.snapshot/1");
    assert_eq!(report["torn"].as_array().unwrap().len(), 1);
    assert_eq!(report["complete"], true);
    let shown = machine.ok(&["show", "--store", "store", "latest", "--json"]).json("snapkit.show/1");
    assert_eq!(shown["torn"], 1);
    // What was captured is a consistent entry: it restores, and the listing says that it is torn.
    machine.ok(&["restore", "--store", "store", "latest", "back"]);
    assert!(machine.ok(&["ls", "--store", "store", "latest"]).text().contains("busy  (torn)"));
    // Once it holds still it is whole again.
    machine.ok(&["snapshot", "--store", "store", "tree"]);
}
