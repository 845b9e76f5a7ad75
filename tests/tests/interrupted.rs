//! Being stopped: by a signal, by `kill -9`, and by another writer.

#![allow(clippy::unwrap_used)]

use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use snapkit_tests::compare::same_tree;
use snapkit_tests::{Machine, Run, every_kind};

/// Enough data that a snapshot is still running when a signal arrives.
fn much_data() -> Machine {
    let machine = Machine::new();
    for index in 0..64 {
        let contents = every_kind::noise(2 << 20, index);
        machine.write(&format!("tree/{index}"), contents);
    }
    machine.ok(&["init", "store"]);
    machine
}

/// Starts a snapshot, sends the signal once it has stored something, and waits for the end; with a store of its own again
/// when it was faster than the signal.
fn signalled(signal: Signal) -> (Machine, Run) {
    for _ in 0..20 {
        let machine = much_data();
        let mut command = machine.command(&["snapshot", "--store", "store", "tree"]);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        let packs = || walkdir::WalkDir::new(machine.path("store/packs")).into_iter().count();
        while packs() < 2 && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(2));
        }
        let _ = kill_process(Pid::from_child(&child), signal);
        let run = Run::from_output("snapshot".to_owned(), child.wait_with_output().unwrap());
        if run.code != 0 {
            return (machine, run);
        }
    }
    panic!("no snapshot was there to be signalled");
}

fn nothing_half_done_is_visible(machine: &Machine) {
    let log = machine.ok(&["log", "--store", "store", "--json"]).json("snapkit.log/1");
    assert_eq!(log["snapshots"].as_array().unwrap().len(), 0);
    machine.ok(&["verify", "--store", "store", "--data"]);
    machine.ok(&["snapshot", "--store", "store", "tree"]);
    machine.ok(&["restore", "--store", "store", "latest", "back"]);
    same_tree(&machine.path("tree"), &machine.path("back"));
}

#[test]
fn an_interrupt_ends_a_snapshot_cleanly() {
    let (machine, run) = signalled(Signal::INT);
    run.expect(130);
    nothing_half_done_is_visible(&machine);
}

#[test]
fn a_request_to_terminate_ends_a_snapshot_cleanly() {
    let (machine, run) = signalled(Signal::TERM);
    run.expect(143);
    nothing_half_done_is_visible(&machine);
}

#[test]
fn a_killed_snapshot_leaves_nothing_to_repair() {
    let (machine, run) = signalled(Signal::KILL);
    run.expect(128 + 9);
    nothing_half_done_is_visible(&machine);
}

#[test]
fn two_writers_at_once_commit_one_snapshot_each_or_say_so() {
    let machine = Machine::new();
    machine.write("one/file", "1");
    machine.write("two/file", "2");
    machine.ok(&["init", "store"]);
    let runs: Vec<Run> = thread::scope(|scope| {
        let start = |tree: &'static str| {
            let machine = &machine;
            scope.spawn(move || machine.run(&["snapshot", "--store", "store", tree]))
        };
        let running = [start("one"), start("two")];
        running.into_iter().map(|run| run.join().unwrap()).collect()
    });
    let committed = runs.iter().filter(|run| run.code == 0).count();
    assert!(committed >= 1, "{runs:?}");
    let log = machine.ok(&["log", "--store", "store", "--json"]).json("snapkit.log/1");
    assert_eq!(log["snapshots"].as_array().unwrap().len(), committed);
    machine.ok(&["verify", "--store", "store", "--data"]);
}

/// The bytes of all packs in a store, perhaps while it grows: staged files come and go.
fn stored_bytes(machine: &Machine, store: &str) -> u64 {
    walkdir::WalkDir::new(machine.path(store).join("packs"))
        .into_iter()
        .filter_map(|entry| entry.ok())
        .filter(|entry| entry.file_type().is_file() && !entry.file_name().to_string_lossy().contains('#'))
        .filter_map(|entry| Some(entry.metadata().ok()?.len()))
        .sum()
}

/// A machine whose first snapshot was killed, and the bytes of a whole one; `None` when it was faster than the signal.
fn killed_at_nine_tenths() -> Option<(Machine, u64)> {
    let machine = much_data();
    // What the whole state comes to, stored once.
    machine.ok(&["init", "other"]);
    machine.ok(&["snapshot", "--store", "other", "tree"]);
    let whole = stored_bytes(&machine, "other");
    let mut command = machine.command(&["snapshot", "--store", "store", "tree"]);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    while stored_bytes(&machine, "store") * 10 < whole * 9 && child.try_wait().unwrap().is_none() {
        thread::sleep(Duration::from_millis(1));
    }
    let _ = child.kill();
    let ended = child.wait().unwrap();
    assert!(ended.success() || ended.signal() == Some(9), "{ended}");
    (!ended.success()).then_some((machine, whole))
}

#[test]
fn a_first_snapshot_killed_at_nine_tenths_uploads_less_than_15_percent_when_run_again() {
    let (machine, whole) =
        (0..20).find_map(|_| killed_at_nine_tenths()).expect("a snapshot that is killed before its end");
    let log = machine.ok(&["log", "--store", "store", "--json"]).json("snapkit.log/1");
    assert_eq!(log["snapshots"].as_array().unwrap().len(), 0);
    let before = stored_bytes(&machine, "store");
    assert!(before * 10 >= whole * 9, "{before} of {whole} bytes were stored");
    machine.ok(&["snapshot", "--store", "store", "tree"]);
    let uploaded = stored_bytes(&machine, "store") - before;
    println!("{before} of {whole} bytes were stored when it was killed, {uploaded} when it was run again");
    assert!(uploaded * 100 < whole * 15, "{uploaded} of {whole} bytes were uploaded again");
    machine.ok(&["restore", "--store", "store", "latest", "back"]);
    same_tree(&machine.path("tree"), &machine.path("back"));
}
