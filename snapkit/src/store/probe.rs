//! Proves what a store enforces, because some answer 200 to a condition they ignore.
//!
//! The chain rests on `create`: of all writers of one slot exactly one may win. A store that checks and then writes
//! keeps that rule most of the time, so the race is run many times with many writers, and one violation is enough to
//! refuse. Passing is strong evidence, not a proof of the server's code. Everything happens below `probe/<random>/`
//! and is deleted afterwards. Why each ability is needed: `docs/format/store.md`. Layer: uses any store.

use std::time::{Duration, Instant};

use serde::Serialize;

use super::conformance::{self, tell};
use super::{Ability, Store};

/// Rounds and writers of the create race.
const ROUNDS: u32 = 40;
const WRITERS: usize = 24;
/// The race ends after this time when at least [`ROUNDS_LEAST`] rounds were run.
const RACE_TIME: Duration = Duration::from_secs(60);
const ROUNDS_LEAST: u32 = 10;

/// What a check found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// The store does it.
    Passed,
    /// The store does not do it.
    Failed,
    /// It was not tried; this proves nothing.
    Skipped,
}

/// One line of the report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ProbeCheck {
    /// What was tried.
    pub name: &'static str,
    /// What came of it.
    pub verdict: Verdict,
    /// Why it failed or was skipped, or what was done.
    pub reason: String,
    /// Whether a store without it must not be written to.
    pub needed_for_writing: bool,
}

/// What a store enforces.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ProbeReport {
    /// The store, without secrets.
    pub store: String,
    /// What was tried, in order.
    pub checks: Vec<ProbeCheck>,
    /// Whether everything that writing needs was tried and passed.
    pub fit_for_writing: bool,
}

type Try = fn(&dyn Store, &str) -> Result<(), String>;

/// What is tried before the race: name, whether writing needs it, and how.
const CHECKS: [(&str, bool, Try); 7] = [
    ("read after write", true, conformance::read_after_write),
    ("missing objects are told as missing", true, conformance::missing),
    ("list after write", true, conformance::list_after_write),
    ("list after a given key", true, conformance::list_after_key),
    ("ranges", false, conformance::ranges),
    (CREATE_ONCE, true, conformance::create_once),
    ("delete", false, conformance::delete),
];
const CREATE_ONCE: &str = "create refuses an existing key";
const RACE: &str = "create race";
const CLEANUP: &str = "cleanup";

/// Tries what `store` enforces, below `prefix` (empty, or ending with `/`).
///
/// Never fails: whatever goes wrong is a line of the report.
pub fn probe(store: &dyn Store, prefix: &str) -> ProbeReport {
    let mut checks = Vec::new();
    let mut add = |name, verdict, reason: String, needed_for_writing| {
        checks.push(ProbeCheck { name, verdict, reason, needed_for_writing });
    };
    if store.abilities().can_write == Ability::No {
        for (name, needed, _) in CHECKS {
            add(name, Verdict::Skipped, "the store is read only".to_owned(), needed);
        }
        add(RACE, Verdict::Skipped, "the store is read only".to_owned(), true);
        return ProbeReport { store: store.url().to_owned(), checks, fit_for_writing: false };
    }
    let mut random = [0; 16];
    if let Err(error) = getrandom::fill(&mut random) {
        add(RACE, Verdict::Skipped, format!("no random name for the probe: {error}"), true);
        return ProbeReport { store: store.url().to_owned(), checks, fit_for_writing: false };
    }
    let below = format!("{prefix}probe/{:032x}/", u128::from_le_bytes(random));
    let mut broken = false;
    for (number, (name, needed, run)) in CHECKS.into_iter().enumerate() {
        if broken {
            add(name, Verdict::Skipped, "an earlier check failed".to_owned(), needed);
            continue;
        }
        match run(store, &format!("{below}{number}/")) {
            Ok(()) => add(name, Verdict::Passed, String::new(), needed),
            Err(why) => {
                // Without these two, nothing that follows would mean anything.
                broken = name == CHECKS[0].0 || name == CREATE_ONCE;
                add(name, Verdict::Failed, why, needed);
            }
        }
    }
    if broken {
        add(RACE, Verdict::Skipped, "an earlier check failed".to_owned(), true);
    } else {
        let (verdict, reason) = race(store, &below);
        add(RACE, verdict, reason, true);
    }
    let (verdict, reason) = clean_up(store, &below);
    add(CLEANUP, verdict, reason, false);
    let fit_for_writing = checks.iter().all(|check| !check.needed_for_writing || check.verdict == Verdict::Passed);
    ProbeReport { store: store.url().to_owned(), checks, fit_for_writing }
}

fn race(store: &dyn Store, below: &str) -> (Verdict, String) {
    let started = Instant::now();
    for round in 0..ROUNDS {
        if let Err(why) = conformance::create_race(store, &format!("{below}race/{round:020}"), WRITERS) {
            return (Verdict::Failed, format!("round {} of {WRITERS} writers: {why}", round + 1));
        }
        if round + 1 >= ROUNDS_LEAST && started.elapsed() > RACE_TIME {
            return (Verdict::Passed, format!("{} rounds of {WRITERS} writers, one winner each", round + 1));
        }
    }
    (Verdict::Passed, format!("{ROUNDS} rounds of {WRITERS} writers, one winner each"))
}

fn clean_up(store: &dyn Store, below: &str) -> (Verdict, String) {
    let mut left = Vec::new();
    let listed = store.list(below, None, &mut |key, _| left.push(key.to_owned()));
    let deleted = left.iter().try_for_each(|key| store.delete(key));
    match listed.and(deleted) {
        Ok(()) => (Verdict::Passed, format!("{} objects deleted", left.len())),
        Err(error) => (Verdict::Failed, format!("objects below {below} are left: {}", tell(error))),
    }
}
