//! `snapkit manifest check`: the gate for pipelines.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::Args;
use jiff::{SignedDuration, Timestamp};
use manifests::freshness::{Freshness, Verdict};
use manifests::refusal::{Class, exit};
use serde::Serialize;
use snapkit::drills;
use snapkit::manifest::{Expiry, Followed, ManifestError, write_file};
use snapkit::span::{Said, Span};

use super::junit;
use super::target::{Summary, Target, TargetArgs};
use crate::cli::exit_code::{CliError, Exit};
use crate::cli::output::Report;
use crate::cli::session::Session;

#[derive(Debug, Args)]
pub(in crate::cli) struct CheckArgs {
    #[command(flatten)]
    pub(super) target: TargetArgs,
    /// It must stay unexpired for this long: 90s, 15m, 72h, 7d
    #[arg(long, value_name = "SPAN", default_value = "0s")]
    within: Span,
    /// There must be a drill that was executed and passed within this time: 7d, 31d
    ///
    /// Exit code 25 where all else is well and there is none. A run that began and never said how it ended is warned of.
    #[arg(long, value_name = "SPAN")]
    last_good_drill: Option<Span>,
    /// Write the result as JUnit XML too
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
}

/// The answer, and what it rests on.
#[derive(Debug, Serialize)]
struct Checked {
    verdict: &'static str,
    exit_code: u8,
    address: String,
    within_seconds: u64,
    class: Option<&'static str>,
    reason: Option<String>,
    manifest: Option<Summary>,
    checks: Vec<Check>,
    /// What the chain says of drills, where it was asked.
    drills: Option<Drilled>,
}

/// What the chain says of drills.
#[derive(Debug, Serialize)]
struct Drilled {
    within_seconds: u64,
    /// The newest one that was executed and passed.
    last_good: Option<GoodDrill>,
    /// Runs that began within that time and never said how they ended.
    gaps: Vec<Gap>,
}

/// A drill that passed.
#[derive(Debug, Serialize)]
struct GoodDrill {
    id: String,
    seq: u64,
    time: Timestamp,
    age_seconds: i64,
    bundle: String,
    rto_ms: Option<u64>,
    rpo_events: Option<u64>,
}

/// A run without an end.
#[derive(Debug, Serialize)]
struct Gap {
    id: String,
    seq: u64,
    time: Timestamp,
}

/// The name of the warning about a run without an end.
const W_GAP: &str = "W_GAP";
/// How long a run may take before it counts as one that never said how it ended.
const UNDER_WAY: SignedDuration = SignedDuration::from_hours(6);

/// One question that was asked.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Check {
    /// What must hold.
    pub(super) name: &'static str,
    /// Why it does not; `null` when it does.
    pub(super) problem: Option<String>,
    /// Whether it could not be asked, because something before it does not hold.
    pub(super) skipped: bool,
}

/// The questions, in the order of the report.
const QUESTIONS: [&str; 5] = ["verified", "unexpired", "head-near", "snapshot-young", "not-expiring"];

pub(super) fn run(args: &CheckArgs, session: &mut Session<'_>) -> Result<Exit, CliError> {
    let address = args.target.shown(session);
    let checked = match args.target.find(session) {
        Ok(target) => {
            let found = target.follow(Expiry::Tell);
            answer(found, args.within, target.address.clone()).and_then(|checked| match args.last_good_drill {
                Some(within) => checked.drilled(&target, within),
                None => Ok(checked),
            })
        }
        // No root is known to judge it by: that, too, is not to be verified.
        Err(error) => match error.class() {
            Some(class) if is_answer(class) => Ok(Checked::unverifiable(class, error.to_string(), address)),
            _ => Err(error),
        },
    };
    let checked = match checked {
        Ok(checked) => checked,
        Err(error) => {
            if let Some(path) = &args.junit {
                write_file(path, junit::of_error(&error.to_string()).as_bytes())?;
            }
            return Err(error);
        }
    };
    if let Some(path) = &args.junit {
        write_file(path, junit::of_checks(checked.name(), &checked.checks).as_bytes())?;
    }
    for gap in checked.drills.iter().flat_map(|drills| &drills.gaps) {
        let Gap { id, seq, time } = gap;
        session
            .out
            .warn(format_args!("the drill {id} began at {time} (record {seq}) and never said how it ended ({W_GAP})"));
    }
    session.out.report(&checked)?;
    Ok(Exit::of_code(checked.exit_code))
}

/// Whether a class says something about the manifest; a slow store says nothing.
fn is_answer(class: Class) -> bool {
    !matches!(class, Class::Slow | Class::Store | Class::KeyFile | Class::Clock)
}

fn answer(found: Result<Followed, ManifestError>, within: Span, address: String) -> Result<Checked, CliError> {
    match found {
        Ok(followed) => Ok(Checked::of(&followed, within, address)),
        Err(error) => match error.class().filter(|class| is_answer(*class)) {
            Some(class) => {
                let error = super::super::pins::explained(error);
                Ok(Checked::unverifiable(class, error.to_string(), address))
            }
            None => Err(super::super::pins::explained(error)),
        },
    }
}

impl Checked {
    fn of(followed: &Followed, within: Span, address: String) -> Self {
        let freshness = &followed.freshness;
        let verdict = freshness.verdict(SignedDuration::from(within));
        let check = |name, problem| Check { name, problem, skipped: false };
        let expires = |freshness: &Freshness| format!("the {} {}", freshness.expires_first, expiry(freshness));
        let expiring = !freshness.is_expired() && freshness.remaining <= SignedDuration::from(within);
        let checks = vec![
            check(QUESTIONS[0], None),
            check(QUESTIONS[1], freshness.is_expired().then(|| expires(freshness))),
            check(QUESTIONS[2], freshness.lags().then(|| near(freshness))),
            check(QUESTIONS[3], freshness.is_old().then(|| young(freshness))),
            check(QUESTIONS[4], expiring.then(|| format!("{}, which is within {within}", expires(freshness)))),
        ];
        let reason = checks.iter().find_map(|check| check.problem.clone());
        Self {
            verdict: verdict.word(),
            exit_code: verdict.exit_code(),
            address,
            within_seconds: within.seconds(),
            class: None,
            reason: if verdict == Verdict::Fresh { None } else { reason },
            manifest: Some(Summary::of(followed)),
            checks,
            drills: None,
        }
    }

    fn unverifiable(class: Class, reason: String, address: String) -> Self {
        // An expired root leaves nothing to judge by, and is what it says: expired.
        let (verdict, exit_code, failed) = match class {
            Class::Stale => ("expired", exit::MANIFEST_EXPIRED, 1),
            _ => ("unverifiable", exit::MANIFEST_UNVERIFIABLE, 0),
        };
        let check = |at: usize| Check {
            name: QUESTIONS[at],
            problem: (at == failed).then(|| reason.clone()),
            skipped: at != failed,
        };
        let checks = (0..QUESTIONS.len()).map(check).collect();
        Self {
            verdict,
            exit_code,
            address,
            within_seconds: 0,
            class: Some(class.name()),
            reason: Some(reason),
            manifest: None,
            checks,
            drills: None,
        }
    }

    /// The same, with what the chain says of drills; only a manifest that is fresh is asked for them.
    fn drilled(mut self, target: &Target, within: Span) -> Result<Self, CliError> {
        let name = "drilled";
        if self.exit_code != exit::DONE {
            self.checks.push(Check { name, problem: None, skipped: true });
            return Ok(self);
        }
        let chain = target.opened.chain()?;
        let newest = chain.head()?;
        let since = chain.now().checked_sub(SignedDuration::from(within)).unwrap_or(Timestamp::MIN);
        let runs = drills::history(&chain, &newest, since)?;
        let drilled = Drilled::of(&runs, within, chain.now());
        let problem = match &drilled.last_good {
            Some(_) => None,
            None => Some(format!("no drill was executed and passed within {within}")),
        };
        if let Some(problem) = &problem {
            (self.verdict, self.exit_code) = ("undrilled", exit::DRILLS_OLD);
            self.reason = Some(problem.clone());
        }
        self.checks.push(Check { name, problem, skipped: false });
        self.drills = Some(drilled);
        Ok(self)
    }

    /// What test reports call it: the same from version to version.
    fn name(&self) -> &str {
        self.manifest.as_ref().map_or(&self.address, |manifest| &manifest.name)
    }

    fn title(&self) -> String {
        match &self.manifest {
            Some(manifest) => format!("{} v{}", manifest.name, manifest.version),
            None => self.address.clone(),
        }
    }
}

impl Drilled {
    fn of(runs: &[drills::Run], within: Span, now: Timestamp) -> Self {
        let good = |run: &drills::Run| {
            let (place, time, ended) = run.ended.clone().filter(|_| run.is_good())?;
            Some(GoodDrill {
                id: ended.id,
                seq: place.seq,
                time,
                age_seconds: now.duration_since(time).as_secs(),
                bundle: ended.bundle.to_string(),
                rto_ms: ended.rto_ms,
                rpo_events: ended.rpo_events,
            })
        };
        let gap = |run: &drills::Run| {
            let (place, time, _) = run.begun.clone().filter(|_| run.is_gap())?;
            let over = now.duration_since(time) > UNDER_WAY;
            over.then(|| Gap { id: run.id.clone(), seq: place.seq, time })
        };
        Self {
            within_seconds: within.seconds(),
            last_good: runs.iter().find_map(good),
            gaps: runs.iter().filter_map(gap).collect(),
        }
    }
}

fn expiry(freshness: &Freshness) -> String {
    match freshness.is_expired() {
        true => format!("expired {} ago, at {}", Said(freshness.remaining), freshness.expires),
        false => format!("expires in {}, at {}", Said(freshness.remaining), freshness.expires),
    }
}

fn near(freshness: &Freshness) -> String {
    let limit = freshness.max_lag.map_or_else(String::new, |max| format!(" (limit {max})"));
    match freshness.lag {
        0 => "its head is the newest".to_owned(),
        lag => format!("its head is {lag} behind the newest{limit}"),
    }
}

fn young(freshness: &Freshness) -> String {
    format!("the newest snapshot is {} old (limit {})", Said(freshness.age), Said(freshness.max_age))
}

impl Report for Checked {
    const SCHEMA: &'static str = "snapkit.manifest-check/1";

    fn write_text(&self, out: &mut dyn Write) -> io::Result<()> {
        let Some(manifest) = &self.manifest else {
            let reason = self.reason.as_deref().unwrap_or_default();
            let verdict = if self.verdict == "expired" { "EXPIRED" } else { "NOT VERIFIED" };
            return writeln!(out, "{}: {verdict}: {reason}", self.title());
        };
        let word = if self.exit_code == exit::DONE { "fresh".to_owned() } else { self.verdict.to_uppercase() };
        let freshness = Freshness {
            expires_first: manifest.expires_first,
            expires: manifest.expires,
            remaining: SignedDuration::from_secs(manifest.remaining_seconds),
            lag: manifest.lag,
            max_lag: manifest.max_lag,
            age: SignedDuration::from_secs(manifest.age_seconds),
            max_age: SignedDuration::from_secs(manifest.max_age_seconds),
        };
        let what = match manifest.expires_first {
            "manifest" => expiry(&freshness),
            other => format!("its {other} {}", expiry(&freshness)),
        };
        writeln!(out, "{}: {word}; {}; {}; {what}", self.title(), near(&freshness), young(&freshness))?;
        match self.drills.as_ref().map(|drills| &drills.last_good) {
            Some(Some(drill)) => {
                let age = Said(SignedDuration::from_secs(drill.age_seconds));
                writeln!(out, "  the last good drill, {}, ended {age} ago", drill.id)
            }
            Some(None) => writeln!(out, "  {}", self.reason.as_deref().unwrap_or_default()),
            None => Ok(()),
        }
    }
}
