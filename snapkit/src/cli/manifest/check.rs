//! `snapkit manifest check`: the gate for pipelines.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::Args;
use jiff::SignedDuration;
use manifests::freshness::{Freshness, Verdict};
use manifests::refusal::{Class, exit};
use serde::Serialize;
use snapkit::manifest::{Expiry, Followed, ManifestError, write_file};
use snapkit::span::{Said, Span};

use super::junit;
use super::target::{Summary, TargetArgs};
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
}

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
            answer(found, args.within, target.address.clone())
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
        }
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
        writeln!(out, "{}: {word}; {}; {}; {what}", self.title(), near(&freshness), young(&freshness))
    }
}
