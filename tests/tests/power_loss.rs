//! Power is cut while a restore writes: what was not made durable is gone, and the target is still all or nothing.
//!
//! One run is recorded below the file system, then cut at many moments: `snapkit_tests::disk`.
//! `SNAPKIT_TEST_SEED` repeats the random choices, `SNAPKIT_TEST_ROUNDS` says how many there are.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::Path;

use snapkit_tests::compare::{differences, same_tree};
use snapkit_tests::disk::{Disk, Mounted, Recording, Since, can_run, ext4};
use snapkit_tests::numbers::setting;
use snapkit_tests::{Machine, Numbers, every_kind};

const DISK_BYTES: u64 = 32 << 20;
/// At most so many moments are tried, those around flushes the likelier.
const MOMENTS: usize = 24;
/// How often any of the open writes are kept.
const ROUNDS: u64 = 16;

/// A machine with a snapshot of a small tree in its store, which is on another disk.
fn with_snapshot() -> Machine {
    let machine = Machine::new();
    for number in 0..40 {
        machine.write(&format!("tree/many/{number}"), every_kind::noise(3000 + 500 * number, number as u64));
    }
    machine.write("tree/large", every_kind::noise(1_500_000, 7));
    machine.write("tree/empty", "");
    fs::hard_link(machine.path("tree/large"), machine.path("tree/many/linked")).unwrap();
    symlink("many/1", machine.path("tree/link")).unwrap();
    machine.ok(&["init", "store"]);
    machine.ok(&["snapshot", "--store", "store", "tree"]);
    machine
}

/// Runs a restore of the snapshot on a disk that `prepare` filled, and gives what the disk was told until it ended.
fn record(machine: &Machine, prepare: impl Fn(&Path), args: impl Fn(&Path) -> Vec<String>) -> Recording {
    let disk = Disk::new(ext4(DISK_BYTES));
    prepare(&disk.path());
    disk.settle();
    machine.ok(&args(&disk.path()));
    let events = disk.now();
    let recording = disk.recording();
    assert_eq!(recording.len(), events, "the disk was quiet once the command had ended");
    println!("{} events, {} of them flushes", recording.len(), recording.flushes().len());
    recording
}

/// Cuts the power at many moments, with all open writes lost and with all of them kept, and at random moments with any of
/// them kept, and has `check` look at what is left. It is told whether the command had ended.
fn cut(recording: &Recording, check: impl Fn(&Path, bool)) {
    let mut numbers = Numbers::seeded();
    let end = recording.len();
    let look = |at: usize, since: Since<'_>| {
        println!("power cut before event {at} of {end}, open writes: {since:?}");
        let mounted = Mounted::new(&recording.cut(at, since));
        check(&mounted.path(), at == end);
    };
    let flushes = recording.flushes().into_iter().flat_map(|flush| [flush, flush + 1]);
    let mut candidates: Vec<usize> = flushes.chain(0..end).collect();
    let mut moments = BTreeSet::from([0, end]);
    while moments.len() < MOMENTS && !candidates.is_empty() {
        moments.insert(candidates.swap_remove(numbers.below(candidates.len() as u64) as usize));
    }
    for at in moments {
        look(at, Since::Lost);
        look(at, Since::Kept);
    }
    for _ in 0..setting("SNAPKIT_TEST_ROUNDS").unwrap_or(ROUNDS) {
        let at = numbers.below(end as u64 + 1) as usize;
        look(at, Since::Some(&mut numbers));
    }
}

/// Arguments of a restore of the newest snapshot to `back` on the disk.
fn restore_to(machine: &Machine, target: &Path) -> Vec<String> {
    let target = target.to_str().unwrap();
    ["restore", "--store", &machine.arg("store"), "latest", target].map(str::to_owned).to_vec()
}

#[test]
fn the_disk_loses_what_was_not_flushed_and_keeps_what_was() {
    if !can_run("the disk itself") {
        return;
    }
    let disk = Disk::new(ext4(DISK_BYTES));
    fs::write(disk.path().join("old"), "old").unwrap();
    disk.settle();
    let safe = disk.path().join("safe");
    fs::write(&safe, every_kind::noise(100_000, 1)).unwrap();
    File::open(&safe).unwrap().sync_all().unwrap();
    fs::write(disk.path().join("unsafe"), every_kind::noise(100_000, 2)).unwrap();
    let recording = disk.recording();
    assert!(!recording.flushes().is_empty(), "an fsync reaches the disk as a flush");
    let names = |image: &[u8]| {
        let mounted = Mounted::new(image);
        let read = |name: &str| fs::read(mounted.path().join(name)).ok();
        (read("old"), read("safe"), read("unsafe"))
    };
    let (old, safe, unsafe_) = names(&recording.cut(recording.len(), Since::Lost));
    assert_eq!(old.as_deref(), Some(&b"old"[..]));
    assert_eq!(safe, Some(every_kind::noise(100_000, 1)), "what was synced survives");
    assert_ne!(unsafe_, Some(every_kind::noise(100_000, 2)), "what was not synced is lost");
    let (old, safe, _) = names(&recording.cut(0, Since::Kept));
    assert_eq!((old.as_deref(), safe), (Some(&b"old"[..]), None), "before the first event nothing is there");
}

#[test]
fn a_rename_without_a_sync_before_it_is_seen_as_half_a_target() {
    // What a restore would do that forgot to sync: the cuts of this file must find it.
    if !can_run("a rename without a sync") {
        return;
    }
    let machine = with_snapshot();
    let disk = Disk::new(ext4(DISK_BYTES));
    disk.settle();
    let (staged, target) = (disk.path().join("staged"), disk.path().join("back"));
    let copied = std::process::Command::new("cp").arg("-a").arg(machine.path("tree")).arg(&staged).status();
    assert!(copied.unwrap().success());
    fs::rename(&staged, &target).unwrap();
    // Only the directory is synced, so the names are durable and the contents are not.
    File::open(disk.path()).unwrap().sync_all().unwrap();
    let recording = disk.recording();
    let mounted = Mounted::new(&recording.cut(recording.len(), Since::Lost));
    let target = mounted.path().join("back");
    assert!(target.exists(), "the rename was made durable");
    assert!(!differences(&machine.path("tree"), &target).is_empty(), "the contents were not");
}

#[test]
fn a_restore_to_a_missing_target_leaves_it_missing_or_whole() {
    if !can_run("power loss during a restore") {
        return;
    }
    let machine = with_snapshot();
    let recording = record(
        &machine,
        |disk| fs::write(disk.join("bystander"), "here before").unwrap(),
        |disk| restore_to(&machine, &disk.join("back")),
    );
    cut(&recording, |disk, ended| missing_or_whole(&machine, disk, &disk.join("back"), ended));
}

#[test]
fn a_restore_to_an_empty_target_leaves_it_empty_or_whole() {
    if !can_run("power loss during a restore to an empty directory") {
        return;
    }
    let machine = with_snapshot();
    let recording = record(
        &machine,
        |disk| {
            fs::write(disk.join("bystander"), "here before").unwrap();
            fs::create_dir(disk.join("back")).unwrap();
        },
        |disk| restore_to(&machine, &disk.join("back")),
    );
    cut(&recording, |disk, ended| {
        let target = disk.join("back");
        assert!(target.is_dir(), "the directory that was there before is there");
        missing_or_whole(&machine, disk, &target, ended);
    });
}

/// The target is what it was, missing or empty, or what it is to be, and then the restore can be run again.
fn missing_or_whole(machine: &Machine, disk: &Path, target: &Path, ended: bool) {
    assert_eq!(fs::read_to_string(disk.join("bystander")).unwrap(), "here before");
    let entries = fs::read_dir(target).map_or(0, Iterator::count);
    if entries == 0 {
        assert!(!ended, "a restore that ended well outlives a power cut");
        machine.ok(&restore_to(machine, target));
    }
    same_tree(&machine.path("tree"), target);
}

#[test]
fn a_receipt_is_whole_or_missing_and_never_there_before_the_target() {
    if !can_run("power loss while a receipt is written") {
        return;
    }
    let machine = with_snapshot();
    let receipt = |disk: &Path| disk.join("receipt.json").to_str().unwrap().to_owned();
    let recording = record(
        &machine,
        |disk| fs::write(disk.join("bystander"), "here before").unwrap(),
        |disk| [restore_to(&machine, &disk.join("back")), vec!["--receipt".to_owned(), receipt(disk)]].concat(),
    );
    cut(&recording, |disk, ended| {
        if !disk.join("receipt.json").exists() {
            assert!(!ended, "a receipt outlives a power cut after the restore has ended");
            return;
        }
        let against = disk.join("back").to_str().unwrap().to_owned();
        machine.ok(&["receipt", "verify", &receipt(disk), "--against", &against]);
    });
}

#[test]
fn a_restore_to_a_mount_point_leaves_it_marked_as_begun_or_whole() {
    if !can_run("power loss during a restore to a mount point") {
        return;
    }
    let machine = with_snapshot();
    let recording = record(&machine, |_| {}, |disk| restore_to(&machine, disk));
    cut(&recording, |disk, ended| {
        let begun = fs::read_dir(disk)
            .unwrap()
            .any(|entry| entry.unwrap().file_name().to_string_lossy().starts_with(".snapkit-restore"));
        let untouched = fs::read_dir(disk).unwrap().all(|entry| entry.unwrap().file_name() == "lost+found");
        if begun || untouched {
            assert!(!ended, "a restore that ended well outlives a power cut");
            machine.ok(&restore_to(&machine, disk));
        }
        let _ = fs::remove_dir(disk.join("lost+found"));
        assert_eq!(differences(&machine.path("tree"), disk).lines().filter(|line| !line.ends_with(" ./")).count(), 0);
    });
}

#[test]
fn a_restore_in_place_leaves_each_file_old_or_new() {
    if !can_run("power loss during a restore in place") {
        return;
    }
    let machine = with_snapshot();
    // The older state differs in some files; one of them is missing and one too many.
    let older = Machine::new();
    for number in 0..40 {
        older.write(&format!("tree/many/{number}"), every_kind::noise(3000 + 500 * number, number as u64 / 2 * 2));
    }
    older.write("tree/empty", "not empty then");
    older.write("tree/many/gone", "gone");
    let in_place = |disk: &Path| {
        let options = ["--in-place", "--delete"].map(str::to_owned).to_vec();
        [restore_to(&machine, &disk.join("back")), options].concat()
    };
    let recording = record(
        &machine,
        |disk| {
            let copied =
                std::process::Command::new("cp").arg("-a").arg(older.path("tree")).arg(disk.join("back")).status();
            assert!(copied.unwrap().success());
        },
        in_place,
    );
    cut(&recording, |disk, ended| {
        let target = disk.join("back");
        if ended {
            same_tree(&machine.path("tree"), &target);
        }
        let names = (0..40).map(|number| format!("many/{number}"));
        for name in names.chain(["empty", "large", "many/linked", "many/gone"].map(str::to_owned)) {
            let read = |directory: &Path| fs::read(directory.join(&name)).ok();
            let now = read(&target);
            let is_old_or_new = now == read(&older.path("tree")) || now == read(&machine.path("tree"));
            assert!(is_old_or_new, "{name} is neither old nor new, {:?} bytes", now.map(|bytes| bytes.len()));
        }
        machine.ok(&in_place(disk));
        same_tree(&machine.path("tree"), &target);
    });
}

#[test]
fn a_new_generation_is_active_and_whole_or_the_one_before_it_is() {
    if !can_run("power loss during a switch of generations") {
        return;
    }
    let machine = with_snapshot();
    let copied =
        std::process::Command::new("cp").arg("-a").arg(machine.path("tree")).arg(machine.path("older")).status();
    assert!(copied.unwrap().success());
    machine.write("tree/many/1", every_kind::noise(9000, 99));
    fs::remove_file(machine.path("tree/many/2")).unwrap();
    machine.ok(&["snapshot", "--store", "store", "tree"]);
    let into = |snapshot: &str, disk: &Path| {
        let node = disk.join("node").to_str().unwrap().to_owned();
        let args = ["restore", "--store", &machine.arg("store"), snapshot, "--into", &node];
        args.map(str::to_owned).to_vec()
    };
    let prepare = |disk: &Path| {
        machine.ok(&into("#1", disk));
    };
    let recording = record(&machine, prepare, |disk| into("latest", disk));
    cut(&recording, |disk, ended| {
        let current = disk.join("node/current");
        let is_new = differences(&machine.path("tree"), &current).is_empty();
        if !is_new {
            assert!(!ended, "a switch that ended well outlives a power cut");
            same_tree(&machine.path("older"), &current);
        }
        let generation = fs::read_link(&current).unwrap();
        let name = generation.file_name().unwrap().to_str().unwrap();
        let receipt = disk.join(format!("node/.node/receipts/{name}.json"));
        let against = current.to_str().unwrap();
        machine.ok(&["receipt", "verify", receipt.to_str().unwrap(), "--against", against]);
        if !is_new {
            machine.ok(&into("latest", disk));
        }
        same_tree(&machine.path("tree"), &current);
    });
}
