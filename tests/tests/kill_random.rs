//! Real processes killed at random moments, round after round, over a chain that grows.
//!
//! The seed is printed; `SNAPKIT_TEST_SEED` and `SNAPKIT_TEST_ROUNDS` choose others.

#![allow(clippy::unwrap_used)]

mod after;

use std::fs;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use after::{Noted, digest, expect_restores, listed, note_what_landed, snapshot};
use rustix::process::{Pid, Signal, kill_process};
use snapkit_tests::numbers::setting;
use snapkit_tests::{Machine, Numbers, every_kind};

const ROUNDS: u64 = 200;
/// Every so many rounds all data is read.
const DATA_EVERY: u64 = 20;

/// Changes the tree a little: some files are written, some go away.
fn change(machine: &Machine, numbers: &mut Numbers, round: u64) {
    for _ in 0..=numbers.below(4) {
        let name = format!("tree/d{}/f{}", numbers.below(5), numbers.below(8));
        let length = match numbers.below(6) {
            0 => 400_000,
            length => 100 * length as usize,
        };
        machine.write(&name, every_kind::noise(length, numbers.below(1000)));
    }
    let _ = fs::remove_file(machine.path(format!("tree/d{}/f{}", numbers.below(5), numbers.below(8))));
    machine.write("tree/round", round.to_string());
}

/// Starts a snapshot and kills it after `delay`. Whether it was still running.
fn killed_after(machine: &Machine, delay: Duration) -> bool {
    let mut command = machine.command(&["snapshot", "--store", "store", "tree"]);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    thread::sleep(delay);
    // A child that was not waited for keeps its number, so this reaches no other process.
    let _ = kill_process(Pid::from_child(&child), Signal::KILL);
    let status = child.wait().unwrap();
    assert!(status.success() || status.code().is_none(), "{status}");
    !status.success()
}

#[test]
fn runs_killed_at_random_moments_never_lose_a_snapshot_and_never_show_half_of_one() {
    let rounds = setting("SNAPKIT_TEST_ROUNDS").unwrap_or(ROUNDS);
    let mut numbers = Numbers::seeded();
    let machine = Machine::new();
    let mut noted = Noted::new();
    change(&machine, &mut numbers, 0);
    machine.ok(&["init", "store"]);
    let began = Instant::now();
    machine.ok(&["snapshot", "--store", "store", "tree"]);
    let mut usual = began.elapsed();
    noted.insert(1, digest(&machine, "tree"));
    let (mut killed, mut landed) = (0, 0);
    for round in 1..=rounds {
        change(&machine, &mut numbers, round);
        let state = digest(&machine, "tree");
        let delay = usual.mul_f64(numbers.below(1100) as f64 / 1000.0);
        let was_killed = killed_after(&machine, delay);
        killed += u64::from(was_killed);
        let committed = note_what_landed(&machine, &mut noted, &state);
        assert!(committed || was_killed, "round {round}: a run that ended well is in the chain");
        landed += u64::from(was_killed && committed);
        let depth: &[&str] = if round % DATA_EVERY == 0 { &["--data"] } else { &[] };
        machine.ok(&[&["verify", "--store", "store"], depth].concat());
        let newest = *noted.keys().last().unwrap();
        expect_restores(&machine, &noted, newest);
        let any = *noted.keys().nth(numbers.below(noted.len() as u64) as usize).unwrap();
        expect_restores(&machine, &noted, any);
        if round % 4 == 0 {
            let began = Instant::now();
            snapshot(&machine, &mut noted);
            usual = began.elapsed().max(Duration::from_millis(1));
        }
    }
    println!("{killed} of {rounds} runs were killed, {landed} of them after their commit; {} snapshots", noted.len());
    assert!(killed > rounds / 4, "{killed} of {rounds} runs were still running when they were to be killed");
    // The next run works, and everything that was ever committed is as it was.
    snapshot(&machine, &mut noted);
    assert_eq!(listed(&machine), noted.keys().copied().collect::<Vec<_>>());
    machine.ok(&["verify", "--store", "store", "--data"]);
    for seq in noted.keys() {
        expect_restores(&machine, &noted, *seq);
    }
}
