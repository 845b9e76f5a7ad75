//! A restore of many files, killed over and over at random moments: the target is missing or whole, and every run goes
//! on from where the last one was stopped.
//!
//! The seed is printed; `SNAPKIT_TEST_SEED` and `SNAPKIT_TEST_ROUNDS` choose others.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use snapkit_tests::compare::same_tree;
use snapkit_tests::numbers::setting;
use snapkit_tests::{Machine, Numbers, every_kind};

const ROUNDS: u64 = 300;
/// Every so many rounds a whole restore is measured: the machine has not the same load all the time.
const MEASURED_EVERY: u64 = 50;
const FILES: usize = 20_000;
const FILE_BYTES: usize = 2_000;
/// What the state takes as it is, stored, staged and restored, several times over.
const ROOM: u64 = 2 << 30;
const RESTORE: &[&str] = &["restore", "--store", "store", "latest", "back", "--json"];

fn staged_bytes(directory: &Path) -> u64 {
    let files = walkdir::WalkDir::new(directory).into_iter().filter_map(Result::ok);
    let whole = files.filter_map(|entry| entry.metadata().ok()).filter(|meta| meta.is_file());
    whole.map(|meta| meta.len()).filter(|len| *len == FILE_BYTES as u64).sum()
}

/// Runs a restore and kills it after `delay`. Gives its report when it came to its end before.
fn killed_after(machine: &Machine, delay: Duration) -> Option<serde_json::Value> {
    let mut command = machine.command(RESTORE);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    std::thread::sleep(delay);
    let _ = kill_process(Pid::from_child(&child), Signal::KILL);
    let status = child.wait().unwrap();
    assert!(status.success() || status.code().is_none(), "{status}");
    let mut report = Vec::new();
    std::io::Read::read_to_end(&mut child.stdout.take().unwrap(), &mut report).unwrap();
    status.success().then(|| serde_json::from_slice(&report).unwrap())
}

#[test]
fn restores_killed_at_random_moments_show_nothing_or_all_and_fetch_nothing_twice() {
    let rounds = setting("SNAPKIT_TEST_ROUNDS").unwrap_or(ROUNDS);
    let mut numbers = Numbers::seeded();
    let machine = Machine::in_memory(ROOM);
    for i in 0..FILES {
        machine.write(&format!("tree/d{}/f{i}", i % 100), every_kind::noise(FILE_BYTES, i as u64));
    }
    machine.ok(&["init", "store"]);
    machine.ok(&["snapshot", "--store", "store", "tree"]);
    let packs = walkdir::WalkDir::new(machine.path("store/packs")).into_iter().filter_map(Result::ok);
    let largest_pack = packs.filter_map(|entry| Some(entry.metadata().ok()?.len())).max().unwrap();
    let all = (FILES * FILE_BYTES) as u64;
    let target = machine.path("back");
    let staging = machine.path(".snapkit-restore-back");
    let (mut killed, mut ended, mut went_on) = (0, 0, 0);
    let mut usual = Duration::ZERO;
    for round in 1..=rounds {
        if round % MEASURED_EVERY == 1 {
            let _ = fs::remove_dir_all(&staging);
            let began = Instant::now();
            machine.ok(RESTORE);
            usual = began.elapsed();
            fs::remove_dir_all(&target).unwrap();
        }
        let staged = staged_bytes(&staging.join("tree"));
        let report = killed_after(&machine, usual.mul_f64(numbers.below(1100) as f64 / 1000.0));
        killed += u64::from(report.is_none());
        went_on += u64::from(staged > 0);
        if let Some(report) = report {
            // Workers of a directory store: two. What they had in flight when they were stopped may come again.
            let fetched = report["fetched_bytes"].as_u64().unwrap();
            assert!(
                fetched <= all - staged + 2 * largest_pack,
                "round {round}: {staged} were staged, {fetched} fetched"
            );
            assert!(
                report["reused_bytes"].as_u64().unwrap() + 64 * 1024 >= staged,
                "round {round}: {staged}, {report}"
            );
            assert!(target.exists());
        }
        if target.exists() {
            same_tree(&machine.path("tree"), &target);
            ended += 1;
            fs::remove_dir_all(&target).unwrap();
            if staging.exists() {
                // Killed after the rename, before it had cleared up: the next run takes it for its own.
                assert!(!staging.join("tree").exists());
            }
        }
    }
    println!("{killed} of {rounds} runs were killed, {went_on} went on with what another had staged, {ended} targets");
    assert!(killed > rounds / 4 && went_on > rounds / 4 && ended > 0);
    machine.ok(RESTORE);
    same_tree(&machine.path("tree"), &target);
}
