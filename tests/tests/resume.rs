//! A restore that was interrupted goes on, believes nothing it finds, and brings back the snapshot it had chosen.

#![allow(clippy::unwrap_used)]

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, PermissionsExt, symlink};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use serde_json::Value;
use snapkit_tests::compare::same_tree;
use snapkit_tests::{Machine, disk, every_kind};

const RESTORE: &[&str] = &["restore", "--store", "store", "latest", "back"];
/// Exit code of a target that cannot be used.
const TARGET: i32 = 85;

fn chain() -> Machine {
    let machine = Machine::new();
    for i in 0..400 {
        machine.write(&format!("tree/d{}/f{i}", i % 20), every_kind::noise(40_000, i));
    }
    machine.write("tree/large", every_kind::noise(9_000_000, 1000));
    fs::hard_link(machine.path("tree/large"), machine.path("tree/linked")).unwrap();
    symlink("d1", machine.path("tree/link")).unwrap();
    fs::set_permissions(machine.path("tree/d3"), fs::Permissions::from_mode(0o555)).unwrap();
    machine.ok(&["init", "store"]);
    machine.ok(&["snapshot", "--store", "store", "tree"]);
    machine
}

fn staging(machine: &Machine) -> PathBuf {
    machine.path(".snapkit-restore-back")
}

/// Restores until something is staged, and kills it; again when it was faster than whoever kills it.
fn interrupt(machine: &Machine) {
    interrupt_once(machine, || staging(machine).join("tree/d1").exists() && staged_bytes(machine) >= 4_000_000);
}

fn interrupt_once(machine: &Machine, is_staged: impl Fn() -> bool) {
    for _ in 0..20 {
        let mut child = machine.command(RESTORE).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        while !is_staged() && child.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_micros(200));
        }
        let _ = child.kill();
        let ended = child.wait().unwrap();
        if ended.signal() == Some(9) && !machine.path("back").exists() {
            return;
        }
        // Whatever was not killed was done, and what it made is right.
        assert!(ended.success() || ended.signal() == Some(9), "{ended}");
        same_tree(&machine.path("tree"), &machine.path("back"));
        fs::remove_dir_all(machine.path("back")).unwrap();
        let _ = fs::remove_dir_all(staging(machine));
    }
    panic!("no restore was killed while it staged");
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = walkdir::WalkDir::new(directory).into_iter().filter_map(Result::ok);
    entries.filter(|entry| entry.file_type().is_file()).map(walkdir::DirEntry::into_path).collect()
}

fn staged_bytes(machine: &Machine) -> u64 {
    files(&staging(machine).join("tree")).iter().filter_map(|file| Some(file.metadata().ok()?.len())).sum()
}

/// Files that are staged as they should be.
fn staged_right(machine: &Machine) -> Vec<PathBuf> {
    let top = staging(machine).join("tree");
    let is_right = |file: &PathBuf| {
        let original = machine.path("tree").join(file.strip_prefix(&top).unwrap());
        fs::read(file).unwrap() == fs::read(original).unwrap()
    };
    files(&top).into_iter().filter(is_right).collect()
}

fn restored(machine: &Machine) -> Value {
    let json = machine.ok(&[RESTORE, &["--json"]].concat()).json("snapkit.restore/1");
    same_tree(&machine.path("tree"), &machine.path("back"));
    assert!(!staging(machine).exists(), "nothing is left beside the target");
    json
}

#[test]
fn what_was_finished_is_kept_and_not_fetched_again() {
    let machine = chain();
    interrupt(&machine);
    let kept: u64 = staged_right(&machine).iter().map(|file| file.metadata().unwrap().len()).sum();
    assert!(kept > 0);
    let json = restored(&machine);
    assert_eq!(json["resumed"], true);
    assert!(json["reused_bytes"].as_u64().unwrap() >= kept, "{json}");
    let all = json["bytes"].as_u64().unwrap();
    // A file is finished piece by piece: frames around what was kept come once more.
    assert!(json["fetched_bytes"].as_u64().unwrap() <= all - kept + (8 << 20), "{json}");
}

#[test]
fn a_large_file_goes_on_where_it_stopped() {
    let machine = Machine::new();
    machine.write("tree/large", every_kind::noise(60_000_000, 5));
    machine.ok(&["init", "store"]);
    machine.ok(&["snapshot", "--store", "store", "tree"]);
    interrupt_once(&machine, || staged_bytes(&machine) >= 20_000_000);
    let staged = staged_bytes(&machine);
    let json = restored(&machine);
    let reused = json["reused_bytes"].as_u64().unwrap();
    assert!(reused + (1 << 20) >= staged, "of {staged} bytes {reused} were kept");
    assert!(json["fetched_bytes"].as_u64().unwrap() <= 60_000_000 - staged + (4 << 20), "{json}");
}

#[test]
fn nothing_that_was_staged_is_believed() {
    let machine = chain();
    interrupt(&machine);
    let right = staged_right(&machine);
    let [flipped, cut, grown, replaced, ..] = &right[..] else { panic!("some files were staged") };
    let file = OpenOptions::new().read(true).write(true).open(flipped).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, 77).unwrap();
    file.write_all_at(&[byte[0] ^ 1], 77).unwrap();
    File::options().write(true).open(cut).unwrap().set_len(100).unwrap();
    File::options().write(true).open(grown).unwrap().set_len(1 << 20).unwrap();
    let outside = machine.write("outside", "not to be touched");
    fs::remove_file(replaced).unwrap();
    symlink(&outside, replaced).unwrap();
    fs::create_dir(staging(&machine).join("tree/link")).unwrap_or_default();
    let _ = restored_or_refused(&machine);
    assert_eq!(fs::read_to_string(outside).unwrap(), "not to be touched");
}

/// A directory where a link belongs is a thing no run of ours leaves: refused and cleared, then right.
fn restored_or_refused(machine: &Machine) -> Value {
    let first = machine.run(RESTORE);
    if first.code != 0 {
        assert!(!machine.path("back").exists());
        assert!(!staging(machine).exists(), "what was refused is removed");
        return restored(machine);
    }
    same_tree(&machine.path("tree"), &machine.path("back"));
    Value::Null
}

#[test]
fn it_goes_on_with_the_snapshot_it_had_chosen_though_the_head_has_moved() {
    let machine = chain();
    let before = machine.path("before");
    assert!(
        std::process::Command::new("cp").arg("-a").arg(machine.path("tree")).arg(&before).status().unwrap().success()
    );
    interrupt(&machine);
    machine.write("tree/d1/f1", "changed");
    machine.ok(&["snapshot", "--store", "store", "tree"]);
    let json = machine.ok(&[RESTORE, &["--json"]].concat()).json("snapkit.restore/1");
    assert_eq!(json["seq"], 1);
    same_tree(&before, &machine.path("back"));
}

#[test]
fn another_snapshot_asked_for_by_name_begins_anew() {
    let machine = chain();
    interrupt(&machine);
    machine.write("tree/d1/f1", "changed");
    machine.ok(&["snapshot", "--store", "store", "tree"]);
    let json = machine.ok(&["restore", "--store", "store", "#2", "back", "--json"]).json("snapkit.restore/1");
    assert_eq!((&json["seq"], &json["resumed"]), (&Value::from(2), &Value::from(false)));
    same_tree(&machine.path("tree"), &machine.path("back"));
}

#[test]
fn a_store_that_fails_midway_leaves_what_was_staged_for_the_next_run() {
    let machine = chain();
    let packs: Vec<PathBuf> = files(&machine.path("store/packs"));
    let largest = packs.iter().max_by_key(|pack| pack.metadata().unwrap().len()).unwrap();
    let aside = machine.path("aside");
    fs::rename(largest, &aside).unwrap();
    let failed = machine.run(RESTORE);
    assert_ne!(failed.code, 0);
    assert!(!machine.path("back").exists());
    fs::rename(&aside, largest).unwrap();
    restored(&machine);
}

#[test]
fn two_restores_to_one_target_do_not_meet() {
    let machine = chain();
    fs::DirBuilder::new().mode(0o700).create(staging(&machine)).unwrap();
    let held = File::open(staging(&machine)).unwrap();
    flock(&held, FlockOperation::LockExclusive).unwrap();
    machine.run(RESTORE).expect(TARGET).stderr_names("another restore is using");
    drop(held);
    restored(&machine);
}

#[test]
fn a_staging_directory_that_others_may_enter_is_refused_and_left_alone() {
    let machine = chain();
    fs::DirBuilder::new().mode(0o755).create(staging(&machine)).unwrap();
    fs::set_permissions(staging(&machine), fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(staging(&machine).join("planted"), "x").unwrap();
    machine.run(RESTORE).expect(TARGET).stderr_names(".snapkit-restore-back");
    assert!(staging(&machine).join("planted").exists());
    assert!(!machine.path("back").exists());
}

#[test]
fn a_seed_gives_what_hashes_right_and_is_never_linked() {
    let machine = chain();
    machine.ok(&["restore", "--store", "store", "latest", "seed"]);
    // One file lies: same length and time, other bytes. One is a link out of the seed.
    let lying = machine.path("seed/d1/f1");
    let mut bytes = fs::read(&lying).unwrap();
    bytes[5] ^= 1;
    fs::write(&lying, bytes).unwrap();
    let outside = machine.write("outside", every_kind::noise(40_000, 2));
    fs::remove_file(machine.path("seed/d2/f2")).unwrap();
    symlink(&outside, machine.path("seed/d2/f2")).unwrap();
    let large = OpenOptions::new().write(true).open(machine.path("seed/large")).unwrap();
    large.write_all_at(b"edited in the middle", 5_000_000).unwrap();
    let dry = machine.ok(&[RESTORE, &["--seed", "seed", "--dry-run", "--json"]].concat()).json("snapkit.restore/1");
    assert!(dry["seed_bytes"].as_u64().unwrap() > 20_000_000, "{dry}");
    let json = machine.ok(&[RESTORE, &["--seed", "seed", "--json"]].concat()).json("snapkit.restore/1");
    same_tree(&machine.path("tree"), &machine.path("back"));
    let reused = json["reused_bytes"].as_u64().unwrap();
    let all = json["bytes"].as_u64().unwrap() - 9_000_000;
    assert!(reused > all - 2 * 40_000 - (1 << 20), "all but two small files and some chunks of {all}: {reused}");
    for name in ["d1/f21", "d5/f5", "large"] {
        let inode = |top: &str| machine.path(top).join(name).metadata().unwrap().ino();
        assert_ne!(inode("seed"), inode("back"), "{name} is a copy");
    }
}

#[test]
fn a_proof_past_the_page_cache_accepts_what_is_on_the_device() {
    let machine = chain();
    let json = machine.ok(&[RESTORE, &["--proof", "device", "--json"]].concat()).json("snapkit.restore/1");
    assert_eq!(json["proof"], "device");
    same_tree(&machine.path("tree"), &machine.path("back"));
}

#[test]
fn without_root_what_its_owner_may_not_read_is_proved_too() {
    let machine = Machine::new();
    machine.write("tree/closed/file", "inside");
    machine.write("tree/unreadable", "secret");
    machine.write("tree/only-readable/file", "x");
    let mode = |name: &str, mode| fs::set_permissions(machine.path(name), fs::Permissions::from_mode(mode)).unwrap();
    mode("tree/unreadable", 0o000);
    mode("tree/closed", 0o000);
    mode("tree/only-readable", 0o555);
    mode("tree", 0o555);
    machine.ok(&["init", "store"]);
    machine.ok(&["snapshot", "--store", "store", "tree"]);
    machine.run_as_nobody(&[RESTORE, &["--proof", "reread"]].concat()).expect(0);
    let found = |name: &str| machine.path("back").join(name).metadata().unwrap().mode() & 0o7777;
    assert_eq!((found("closed"), found("unreadable"), found("only-readable"), found("")), (0, 0, 0o555, 0o555));
    mode("back", 0o755);
    mode("back/closed", 0o755);
    assert_eq!(fs::read_to_string(machine.path("back/closed/file")).unwrap(), "inside");
}

#[test]
fn what_does_not_fit_is_refused_before_anything_is_written() {
    if !disk::can_run("what_does_not_fit_is_refused_before_anything_is_written") {
        return;
    }
    let machine = chain();
    let room = disk::Filesystem::tmpfs("size=2m,mode=755");
    let back = room.path().join("back");
    let run = machine.run(&["restore", "--store", "store", "latest", back.to_str().unwrap()]);
    run.expect(3).stderr_names("room for");
    assert_eq!(fs::read_dir(room.path()).unwrap().count(), 0);
}
