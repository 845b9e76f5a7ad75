//! Disks that are full, read-only or broken, and targets that change while a restore runs: a clear error that names the
//! place, the right exit code, and what was there before is still there.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use snapkit_tests::compare::same_tree;
use snapkit_tests::disk::{Disk, Fault, Filesystem, Mounted, Since, can_run, ext4};
use snapkit_tests::{Machine, Run, every_kind};

/// Could not run: the machine failed, not the snapshot.
const COULD_NOT_RUN: i32 = 5;
/// Refused, and nothing was touched.
const REFUSED: i32 = 3;
/// Room for the larger snapshot.
const DISK_BYTES: u64 = 96 << 20;
/// What a broken place of a disk holds.
const MARK: &[u8] = b"here the disk is broken, and nothing can be read or written any more";

/// A machine with a snapshot of about 3 MiB in its store.
fn with_snapshot() -> Machine {
    let machine = Machine::new();
    for number in 0..300 {
        machine.write(&format!("tree/many/{number}"), every_kind::noise(3000, number));
    }
    machine.write("tree/large", every_kind::noise(2_000_000, 1000));
    machine.ok(&["init", "store"]);
    machine.ok(&["snapshot", "--store", "store", "tree"]);
    machine
}

/// The same with a file whose place on the disk can be broken, and so many others that what was written first reaches the
/// disk long before the last is there.
fn with_broken_file() -> Machine {
    let machine = with_snapshot();
    machine.write("tree/a-broken", [MARK, &every_kind::noise(50_000, 5)[..]].concat());
    for number in 0..4000 {
        machine.write(&format!("tree/more/{number}"), every_kind::noise(2000, number));
    }
    machine.ok(&["snapshot", "--store", "store", "tree"]);
    machine
}

fn restore(machine: &Machine, target: &Path) -> Run {
    machine.run(&["restore", "--store", &machine.arg("store"), "latest", target.to_str().unwrap()])
}

/// A restore that fails with this code and says why, and leaves the target as it was, missing.
fn expect_failure(machine: &Machine, target: &Path, code: i32, says: &str) {
    let run = restore(machine, target).expect(code).stderr_names(says);
    assert!(run.stderr.contains("next: ") || run.stderr.contains("cause: "), "{}", run.stderr);
    assert!(fs::symlink_metadata(target).is_err(), "nothing is at the target");
}

#[test]
fn a_restore_to_a_full_disk_leaves_nothing_and_works_when_there_is_room() {
    if !can_run("restores to full disks") {
        return;
    }
    let machine = with_snapshot();
    // Too little room is seen before anything is written; too few inodes only when they are used up.
    let full = [("size=1m", REFUSED, "has room for"), ("nr_inodes=50", COULD_NOT_RUN, "No space left on device")];
    for (limit, code, says) in full {
        let small = Filesystem::tmpfs(limit);
        let target = small.path().join("back");
        expect_failure(&machine, &target, code, says);
        small.remount("size=64m,nr_inodes=10000");
        restore(&machine, &target).expect(0);
        same_tree(&machine.path("tree"), &target);
    }
    let disk = Mounted::new(&ext4(16 << 20));
    let (target, ballast) = (disk.path().join("back"), disk.path().join("ballast"));
    fs::write(&ballast, every_kind::noise(8 << 20, 1)).unwrap();
    expect_failure(&machine, &target, REFUSED, "has room for");
    assert_eq!(fs::read(&ballast).unwrap(), every_kind::noise(8 << 20, 1), "what was there before is untouched");
}

#[test]
fn a_user_whose_quota_ends_gets_an_error_and_no_target() {
    if !can_run("restores beyond a quota") {
        return;
    }
    let Some(small) = Filesystem::try_tmpfs("size=64m,usrquota_block_hardlimit=1m") else {
        eprintln!("LEFT OUT: restores beyond a quota: this kernel has no quotas on tmpfs");
        return;
    };
    let machine = with_snapshot();
    fs::set_permissions(small.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let target = small.path().join("back");
    let args = ["restore", "--store", &machine.arg("store"), "latest", target.to_str().unwrap()];
    machine.run_as_nobody(&args).expect(COULD_NOT_RUN).stderr_names("quota");
    assert!(!target.exists());
}

#[test]
fn a_read_only_target_is_named_and_nothing_is_written() {
    if !can_run("restores to a read-only file system") {
        return;
    }
    let machine = with_snapshot();
    let small = Filesystem::tmpfs("size=64m");
    fs::write(small.path().join("bystander"), "here before").unwrap();
    small.remount("ro");
    let target = small.path().join("back");
    let run = restore(&machine, &target).expect(COULD_NOT_RUN).stderr_names("Read-only file system");
    run.stderr_names(target.to_str().unwrap());
    small.remount("rw");
    let left: Vec<_> = fs::read_dir(small.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["bystander"]);
}

#[test]
fn a_target_on_another_file_system_than_what_is_above_it_is_whole_or_untouched() {
    if !can_run("restores to a mount point") {
        return;
    }
    let machine = with_snapshot();
    let small = Filesystem::tmpfs("size=64m");
    // Inside the other file system nothing is special.
    let inside = small.path().join("back");
    restore(&machine, &inside).expect(0);
    same_tree(&machine.path("tree"), &inside);
    fs::remove_dir_all(&inside).unwrap();
    // The mount point itself cannot be replaced by a rename; what is staged in it moves up.
    let run = restore(&machine, &small.path());
    run.expect(0);
    same_tree(&machine.path("tree"), &small.path());
}

#[test]
fn a_file_that_the_disk_cannot_write_fails_the_restore_however_early_the_disk_noticed() {
    if !can_run("restores to a broken disk") {
        return;
    }
    let machine = with_broken_file();
    let disk = Disk::new(ext4(DISK_BYTES));
    fs::write(disk.path().join("bystander"), "here before").unwrap();
    disk.settle();
    let target = disk.path().join("back");
    disk.fail(Some(Fault::Write(MARK.to_vec())));
    let run = restore(&machine, &target).expect(COULD_NOT_RUN).stderr_names("Input/output error");
    run.stderr_names(target.parent().unwrap().to_str().unwrap());
    assert!(!target.exists(), "what the disk does not hold does not appear");
    assert_eq!(fs::read_to_string(disk.path().join("bystander")).unwrap(), "here before");
    // On a disk that works again the next run succeeds, and not because memory still holds what the disk never got.
    disk.fail(None);
    restore(&machine, &target).expect(0);
    let recording = disk.recording();
    let mounted = Mounted::new(&recording.cut(recording.len(), Since::Lost));
    same_tree(&machine.path("tree"), &mounted.path().join("back"));
}

#[test]
fn a_file_that_the_disk_cannot_write_fails_a_restore_in_place() {
    if !can_run("restores in place on a broken disk") {
        return;
    }
    let machine = with_broken_file();
    let disk = Disk::new(ext4(DISK_BYTES));
    let target = disk.path().join("back");
    restore(&machine, &target).expect(0);
    fs::write(target.join("a-broken"), "an older state").unwrap();
    fs::remove_dir_all(target.join("more")).unwrap();
    disk.settle();
    let args = ["restore", "--in-place", "--store", &machine.arg("store"), "latest", target.to_str().unwrap()];
    disk.fail(Some(Fault::Write(MARK.to_vec())));
    machine.run(&args).expect(COULD_NOT_RUN).stderr_names("Input/output error");
    let before = fs::read_to_string(target.join("a-broken"));
    assert_eq!(before.unwrap(), "an older state", "a file that cannot be written is not replaced");
    disk.fail(None);
    machine.ok(&args);
    let recording = disk.recording();
    let mounted = Mounted::new(&recording.cut(recording.len(), Since::Lost));
    same_tree(&machine.path("tree"), &mounted.path().join("back"));
}

#[test]
fn the_proof_by_device_finds_a_file_that_the_disk_cannot_read() {
    if !can_run("proofs on a broken disk") {
        return;
    }
    let machine = with_broken_file();
    let disk = Disk::new(ext4(DISK_BYTES));
    let target = disk.path().join("back");
    disk.fail(Some(Fault::Read(MARK.to_vec())));
    let args = ["restore", "--store", &machine.arg("store"), "latest", target.to_str().unwrap(), "--proof", "device"];
    machine.run(&args).expect(COULD_NOT_RUN).stderr_names("a-broken");
    assert!(!target.exists());
    disk.fail(None);
    machine.ok(&args);
    same_tree(&machine.path("tree"), &target);
}

/// A restore that was stopped between its first and its last write to the directory of the target.
struct Stopped {
    child: Child,
}

impl Stopped {
    /// Starts a restore and stops it once it stages; again when it was faster than whoever stops it.
    fn new(machine: &Machine, target: &Path) -> Self {
        let parent = target.parent().unwrap();
        let given = target.exists();
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let args = ["restore", "--store", &machine.arg("store"), "latest", target.to_str().unwrap()];
            let mut command = machine.command(&args);
            let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
            let mut stopped = Self { child };
            while staged(parent).is_none() && stopped.child.try_wait().unwrap().is_none() {}
            if stopped.stop() && staged(parent).is_some() {
                return stopped;
            }
            assert!(Instant::now() < deadline, "no restore was stopped while it stages");
            let _ = stopped.child.kill();
            stopped.child.wait().unwrap();
            for left in [Some(target.to_owned()), staged(parent)].into_iter().flatten() {
                fs::remove_dir_all(left).unwrap();
            }
            if given {
                fs::create_dir(target).unwrap();
            }
        }
    }

    /// Stops it, unless it has ended; whether it stands still.
    fn stop(&mut self) -> bool {
        let pid = Pid::from_child(&self.child);
        // A child that was not waited for keeps its number, so this reaches no other process.
        if self.child.try_wait().unwrap().is_some() || kill_process(pid, Signal::STOP).is_err() {
            return false;
        }
        let stopped = waitid(WaitId::Pid(pid), WaitIdOptions::STOPPED | WaitIdOptions::EXITED | WaitIdOptions::NOWAIT);
        stopped.unwrap().is_some_and(|status| status.stopped())
    }

    /// Lets it go on to its end.
    fn finish(self) -> Run {
        kill_process(Pid::from_child(&self.child), Signal::CONT).unwrap();
        Run::from_output("restore".to_owned(), self.child.wait_with_output().unwrap())
    }
}

/// The private directory in which something was staged.
fn staged(parent: &Path) -> Option<PathBuf> {
    let entries = fs::read_dir(parent).ok()?.flatten();
    let staging = entries
        .map(|entry| entry.path())
        .find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(".snapkit-restore")));
    staging.filter(|path| path.join("tree/many").exists() || path.join("tree").exists())
}

#[test]
fn a_target_that_was_removed_meanwhile_appears_all_the_same() {
    let machine = with_snapshot();
    let target = machine.path("in/back");
    fs::create_dir_all(&target).unwrap();
    let stopped = Stopped::new(&machine, &target);
    fs::remove_dir(&target).unwrap();
    stopped.finish().expect(0);
    same_tree(&machine.path("tree"), &target);
}

#[test]
fn a_target_that_somebody_filled_meanwhile_is_left_alone() {
    let machine = with_snapshot();
    let target = machine.path("in/back");
    fs::create_dir_all(&target).unwrap();
    let stopped = Stopped::new(&machine, &target);
    fs::write(target.join("precious"), "precious").unwrap();
    let run = stopped.finish();
    assert_ne!(run.code, 0);
    run.stderr_names(target.to_str().unwrap());
    assert_eq!(fs::read_to_string(target.join("precious")).unwrap(), "precious");
    assert_eq!(fs::read_dir(&target).unwrap().count(), 1);
}

#[test]
fn a_directory_above_the_target_that_was_removed_meanwhile_is_an_error() {
    let machine = with_snapshot();
    let target = machine.path("in/back");
    fs::create_dir_all(target.parent().unwrap()).unwrap();
    let stopped = Stopped::new(&machine, &target);
    let removed = Command::new("rm").arg("-rf").arg(machine.path("in")).status();
    assert!(removed.unwrap().success());
    stopped.finish().expect(COULD_NOT_RUN).stderr_names("No such file or directory");
    assert!(!target.exists());
}

#[test]
fn a_disk_that_somebody_fills_meanwhile_leaves_no_target() {
    if !can_run("restores to a disk that fills up") {
        return;
    }
    let machine = with_snapshot();
    let small = Filesystem::tmpfs("size=8m");
    let target = small.path().join("back");
    let stopped = Stopped::new(&machine, &target);
    let ballast = small.path().join("ballast");
    assert!(fs::write(&ballast, vec![1; 8 << 20]).is_err(), "the disk is full now");
    let run = stopped.finish().expect(COULD_NOT_RUN).stderr_names("No space left on device");
    assert!(run.stderr.contains("cannot write"), "it names the path: {}", run.stderr);
    assert!(!target.exists());
    fs::remove_file(ballast).unwrap();
    restore(&machine, &target).expect(0);
    same_tree(&machine.path("tree"), &target);
}
