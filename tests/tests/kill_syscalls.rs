//! The kill matrix of system calls: a command is killed before each call that changes something on disk, one run each.

#![allow(clippy::unwrap_used)]

mod after;

use std::fs;
use std::path::{Path, PathBuf};

use after::{Noted, copy, digest, expect_restores, note_what_landed, snapshot};
use snapkit_tests::compare::{differences, same_tree};
use snapkit_tests::kill::{KILLED, every_call, stopped};
use snapkit_tests::{Machine, disk, every_kind};

fn write_tree(machine: &Machine) {
    machine.write("tree/large", every_kind::noise(300_000, 3));
    machine.write("tree/sub/small", "small");
    machine.write("tree/empty", "");
}

/// Brings keys, trust, caches and the store back to what `saved` has; the tree stays, so that scan caches do too.
fn bring_back(machine: &Machine, saved: &Path) {
    copy(&saved.join("home"), &machine.home());
    copy(&saved.join("cache"), &machine.cache());
    copy(&saved.join("store"), &machine.path("store"));
}

fn save(machine: &Machine) -> PathBuf {
    let saved = machine.path("saved");
    fs::create_dir(&saved).unwrap();
    copy(&machine.home(), &saved.join("home"));
    fs::create_dir_all(machine.cache()).unwrap();
    copy(&machine.cache(), &saved.join("cache"));
    copy(&machine.path("store"), &saved.join("store"));
    saved
}

/// Kills `snapkit snapshot` before each call, and looks at what it left.
fn kill_snapshots(machine: &Machine, noted: &Noted) {
    let saved = save(machine);
    let state = digest(machine, "tree");
    let mut landed = 0;
    let mut left_out = 0;
    every_call(
        machine,
        &["snapshot", "--store", "store", "tree"],
        || bring_back(machine, &saved),
        |ended| {
            let mut noted = noted.clone();
            machine.ok(&["verify", "--store", "store", "--data"]);
            let committed = note_what_landed(machine, &mut noted, &state);
            assert!(committed || !ended);
            if committed {
                landed += 1
            } else {
                left_out += 1
            }
            for seq in noted.keys() {
                expect_restores(machine, &noted, *seq);
            }
            // The next run needs no repair.
            snapshot(machine, &mut noted);
            let newest = *noted.keys().last().unwrap();
            expect_restores(machine, &noted, newest);
            machine.ok(&["verify", "--store", "store", "--data"]);
        },
    );
    assert!(landed > 1 && left_out > 1, "killed on both sides of the commit: {landed} and {left_out}");
}

#[test]
fn a_first_snapshot_killed_before_any_call_leaves_all_or_nothing() {
    let machine = Machine::new();
    write_tree(&machine);
    machine.ok(&["init", "store"]);
    kill_snapshots(&machine, &Noted::new());
}

#[test]
fn a_later_snapshot_killed_before_any_call_leaves_all_or_nothing() {
    let machine = Machine::new();
    write_tree(&machine);
    machine.ok(&["init", "store"]);
    let mut noted = Noted::new();
    snapshot(&machine, &mut noted);
    machine.write("tree/sub/small", "changed");
    machine.write("tree/new", every_kind::noise(20_000, 4));
    kill_snapshots(&machine, &noted);
}

#[test]
fn an_init_killed_before_any_call_is_completed_by_the_next() {
    let machine = Machine::new();
    write_tree(&machine);
    let clear = || {
        for directory in [machine.home(), machine.cache(), machine.path("store")] {
            let _ = fs::remove_dir_all(directory);
        }
    };
    every_call(&machine, &["init", "store"], clear, |ended| {
        let again = machine.run(&["init", "store"]);
        if ended || again.code != 0 {
            // It was complete already, and this machine trusts it.
            again.stderr_names("there is a chain");
        }
        let keys = fs::read_dir(machine.home().join("keys")).unwrap().count();
        assert!(keys >= 1);
        let mut noted = Noted::new();
        snapshot(&machine, &mut noted);
        machine.ok(&["verify", "--store", "store", "--data"]);
        expect_restores(&machine, &noted, 1);
    });
}

/// Kills `snapkit restore` before each call; `prepare` makes the target as it is before.
fn kill_restores(machine: &Machine, prepare: impl Fn(&Path)) {
    let target = machine.path("back");
    let was_there = {
        prepare(&target);
        target.exists()
    };
    every_call(
        machine,
        &["restore", "--store", "store", "latest", "back"],
        || {
            let _ = fs::remove_dir_all(&target);
            prepare(&target);
        },
        |ended| {
            let entries = fs::read_dir(&target).map(Iterator::count).ok();
            match entries {
                None => assert!(!was_there && !ended, "the target was there before"),
                Some(0) => assert!(was_there && !ended, "the target was not there before"),
                Some(_) => same_tree(&machine.path("tree"), &target),
            }
            if entries.unwrap_or(0) == 0 {
                machine.ok(&["restore", "--store", "store", "latest", "back"]);
                same_tree(&machine.path("tree"), &target);
            }
        },
    );
}

fn with_snapshot() -> Machine {
    let machine = Machine::new();
    write_tree(&machine);
    fs::hard_link(machine.path("tree/large"), machine.path("tree/sub/linked")).unwrap();
    std::os::unix::fs::symlink("large", machine.path("tree/link")).unwrap();
    machine.ok(&["init", "store"]);
    machine.ok(&["snapshot", "--store", "store", "tree"]);
    machine
}

#[test]
fn a_restore_killed_before_any_call_leaves_the_target_missing_or_whole() {
    kill_restores(&with_snapshot(), |_| {});
}

#[test]
fn a_restore_to_an_empty_directory_killed_before_any_call_leaves_it_empty_or_whole() {
    kill_restores(&with_snapshot(), |target| fs::create_dir(target).unwrap());
}

#[test]
fn a_restore_that_goes_on_and_is_killed_before_any_call_leaves_the_target_missing_or_whole() {
    let machine = with_snapshot();
    let staged = machine.path(".snapkit-restore-back");
    let saved = machine.path("interrupted");
    let (run, calls) = stopped(&machine, RESTORE, restore_calls(&machine) * 2 / 3);
    assert_eq!(run.code, KILLED, "{calls:?}");
    copy(&staged, &saved);
    fs::remove_dir_all(&staged).unwrap();
    kill_restores(&machine, |_| {
        let _ = fs::remove_dir_all(&staged);
        copy(&saved, &staged);
    });
}

const RESTORE: &[&str] = &["restore", "--store", "store", "latest", "back"];

/// The number of calls that a whole restore makes.
fn restore_calls(machine: &Machine) -> usize {
    let (run, calls) = stopped(machine, RESTORE, usize::MAX >> 1);
    run.expect(0);
    fs::remove_dir_all(machine.path("back")).unwrap();
    calls.len()
}

#[test]
fn an_update_in_place_killed_before_any_call_leaves_every_file_old_or_new_and_goes_on() {
    let machine = with_snapshot();
    machine.write("old/large", every_kind::noise(250_000, 8));
    machine.write("old/sub/small", "before");
    machine.write("old/gone/below", "before");
    let live = machine.path("live");
    let either = |name: &str| {
        let now = fs::read(live.join(name)).ok();
        let is_old = now == fs::read(machine.path("old").join(name)).ok();
        let is_new = now == fs::read(machine.path("tree").join(name)).ok();
        assert!(is_old || is_new, "{name} is neither old nor new: {:?} bytes", now.map(|now| now.len()));
    };
    let update = ["restore", "--store", "store", "latest", "live", "--in-place", "--delete"];
    every_call(
        &machine,
        &update,
        || {
            let _ = fs::remove_dir_all(&live);
            let _ = fs::remove_dir_all(machine.path(".snapkit-restore-live"));
            copy(&machine.path("old"), &live);
        },
        |_| {
            for name in ["large", "sub/small", "sub/linked", "empty", "gone/below"] {
                either(name);
            }
            machine.ok(&update);
            same_tree(&machine.path("tree"), &live);
            assert!(!machine.path(".snapkit-restore-live").exists());
        },
    );
}

#[test]
fn a_restore_to_a_mount_point_killed_before_any_call_is_whole_or_says_that_it_is_not() {
    if !disk::can_run("a_restore_to_a_mount_point_killed_before_any_call") {
        return;
    }
    let machine = with_snapshot();
    let mounted = disk::Filesystem::tmpfs("size=16m");
    let target = mounted.path();
    let restore = ["restore", "--store", "store", "latest", target.to_str().unwrap()];
    every_call(
        &machine,
        &restore,
        || {
            for entry in fs::read_dir(&target).unwrap() {
                let path = entry.unwrap().path();
                let _ = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
            }
        },
        |ended| {
            let is_begun = target.join(".snapkit-restore").exists();
            let is_empty = fs::read_dir(&target).unwrap().next().is_none();
            assert!(!ended || !is_begun && !is_empty);
            if is_begun || is_empty {
                let is_whole = is_begun && !target.join(".snapkit-restore/tree").exists();
                let again = machine.run(&restore);
                assert!(again.code == 0 || is_whole && again.code == 85, "{}", again.stderr);
            }
            // Nothing can take the private directory away and leave the time of the mount point as it is, in one step.
            let differs = differences(&machine.path("tree"), &target);
            assert!(differs.is_empty() || differs == ".d..t...... ./\n" && !ended, "{differs}");
        },
    );
}
