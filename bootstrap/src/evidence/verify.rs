//! Verifying: whether a bundle shows what it says, with nothing but the bundle, the pin of the root and a policy.
//!
//! Digests, signatures and chains are checked; the result is computed again from the raw files and compared, field by
//! field; then the policy is asked. Every refusal names the file, and every answer the metric, its value and its limit.
//! Documented in `docs/evidence.md`. Layer: pure.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use manifests::digest::Digest;
use manifests::document::evidence::{Evidence, VerifiedEvidence};
use manifests::document::root::Root;
use manifests::refusal::{Class, Refusal};
use serde::Serialize;
use serde_json::Value;

use super::event::{CheckStatus, Claim, Mode, StepStatus};
use super::excerpt;
use super::files::Files;
use super::policy::Policy;
use super::recompute::Run;
use super::result::{RunResult, Verdict};
use super::seal::{
    INDEX, Index, NOT_LISTED, RENDERING, RESULT, RESULT_CAP, RESULT_ENV, SCHEMA, STATEMENT, TEST_RESULT, evidence_of,
    role_of,
};
use super::timeline::strict;
use super::{redact, report};

/// What a bundle was found to be.
#[derive(Debug)]
pub struct Report {
    /// SHA-256 of the index, where there is one.
    pub bundle: Option<Digest>,
    /// The statement, if its signature is good.
    pub statement: Option<VerifiedEvidence>,
    /// The version of the newest root, of the bundle or of the verifier: it says whose keys count.
    pub root_version: Option<u64>,
    /// What the run amounts to, if that can be computed.
    pub result: Option<RunResult>,
    /// Why it is not believed, the gravest first.
    pub refused: Vec<Refusal>,
    /// What the policy asks, and whether it is so.
    pub answers: Vec<Answer>,
}

/// One thing that is asked, and the answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Answer {
    /// What is asked.
    pub metric: String,
    /// What was found.
    pub value: String,
    /// What is allowed.
    pub limit: String,
    /// The file, and where in it.
    pub file: String,
    /// Whether it is so.
    pub holds: bool,
}

/// What a report comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It shows a good run that the policy accepts.
    Good,
    /// It is what it says, and the answer is no: the run did not pass, or not within the limits.
    No,
    /// It is what it says, and shows a run that changed nothing.
    Simulated,
    /// It is not believed.
    Refused(Class),
}

impl Report {
    /// What it comes to.
    pub fn outcome(&self) -> Outcome {
        if let Some(refusal) = self.refused.first() {
            return Outcome::Refused(refusal.class());
        }
        let simulated = self.answers.iter().any(|answer| answer.metric == "mode" && !answer.holds);
        match (simulated, self.answers.iter().all(|answer| answer.holds)) {
            (true, _) => Outcome::Simulated,
            (false, true) => Outcome::Good,
            (false, false) => Outcome::No,
        }
    }
}

/// Checks the bundle in `files`. `pin` is the digest of the first root; `newest` a newer root than the bundle holds, if
/// the verifier has one.
pub fn verify(files: &Files, pin: &Digest, newest: Option<&Root>, policy: &Policy, now: Timestamp) -> Report {
    let mut report = Report {
        bundle: None,
        statement: None,
        root_version: None,
        result: None,
        refused: Vec::new(),
        answers: Vec::new(),
    };
    report.check_seal(files, pin, newest, policy);
    report.check_files(files);
    let sealer = report.statement.as_ref().map(|statement| statement.evidence.node);
    match Run::read(files, sealer) {
        Ok(run) => {
            let result = run.result();
            report.check_result(&run, &result);
            report.ask(&run, &result, policy, now);
            report.result = Some(result);
        }
        Err(refusal) => report.refused.push(refusal),
    }
    // What is not what was sealed is not worth looking through.
    if !report.refused.is_empty() {
        return report;
    }
    for (name, bytes) in files.iter() {
        if let Some(line) = redact::find(bytes) {
            let object = format!("{name} line {line}");
            report.refused.push(Refusal::new(Class::Evidence, object, "no secret", "what looks like one"));
        }
    }
    report
}

/// The newest root that the bundle holds, from the pinned one on.
fn root_of(files: &Files, pin: &Digest) -> Result<Root, Refusal> {
    let missing =
        |file: &str| Refusal::new(Class::Missing, file, "the file", "none").with_hint("the bundle is not complete");
    let mut root = Root::parse_first(files.get("chain/root/1.json").ok_or_else(|| missing("chain/root/1.json"))?, pin)?;
    while let Some(bytes) = files.get(&format!("chain/root/{}.json", root.version() + 1)) {
        root = root.parse_next(bytes)?;
    }
    Ok(root)
}

impl Report {
    /// Index and statements.
    fn check_seal(&mut self, files: &Files, pin: &Digest, newest: Option<&Root>, policy: &Policy) {
        for name in NOT_LISTED {
            if files.get(name).is_none() {
                self.refused.push(
                    Refusal::new(Class::Missing, *name, "the file", "none")
                        .with_hint("the bundle is not complete, or the run was never sealed"),
                );
            }
        }
        let (Some(index), Some(statement)) = (files.get(INDEX), files.get(STATEMENT)) else {
            return;
        };
        let digest = Digest::sha256(index);
        self.bundle = Some(digest);
        let root = match root_of(files, pin) {
            Ok(root) => root,
            Err(refusal) => return self.refused.push(refusal),
        };
        // A key that has left the role since is believed no more, where the verifier knows of it.
        let root = newest.filter(|newest| newest.version() > root.version()).unwrap_or(&root);
        self.root_version = Some(root.version());
        if let Some(least) = policy.root_min_version.filter(|least| root.version() < *least) {
            let expected = format!("version {least} or newer");
            self.refused.push(
                Refusal::new(Class::Rollback, "the newest root", expected, format!("version {}", root.version()))
                    .with_hint(
                        "keys may have been taken out since; run `snapkit trust add` with the store of the chain",
                    ),
            );
        }
        let verified = match Evidence::verify(statement, root, pin, None, STATEMENT) {
            Ok(verified) => verified,
            Err(refusal) => return self.refused.push(refusal),
        };
        if verified.bundle != digest {
            self.refused.push(
                Refusal::new(Class::Hash, INDEX, format!("the SHA-256 {} that was signed", verified.bundle), digest)
                    .with_hint("the index was edited; get an unchanged copy of the bundle"),
            );
        }
        if let Some(bytes) = files.get(TEST_RESULT)
            && let Err(refusal) = verified.evidence.verify_test_result(bytes, verified.bundle, root, TEST_RESULT)
        {
            self.refused.push(refusal);
        }
        self.statement = Some(verified);
    }

    /// Every file that the index lists is there, as it is listed, and there is no other.
    fn check_files(&mut self, files: &Files) {
        let Some(bytes) = files.get(INDEX) else {
            return;
        };
        let index: Index = match strict(bytes, RESULT_CAP, INDEX) {
            Ok(index) => index,
            Err(refusal) => return self.refused.push(refusal),
        };
        if index.schema != SCHEMA {
            return self.refused.push(Refusal::new(Class::Newer, INDEX, SCHEMA, index.schema));
        }
        let mut listed: BTreeSet<&str> = NOT_LISTED.iter().copied().collect();
        for (at, file) in index.files.iter().enumerate() {
            let object = &file.path;
            let place = |field: &str| format!("{INDEX}#/files/{at}/{field}");
            if !listed.insert(object) {
                self.refused.push(Refusal::new(Class::Extra, place("path"), "each file once", object));
                continue;
            }
            if file.role != role_of(object) {
                let expected = format!("`{}`", role_of(object));
                self.refused.push(Refusal::new(Class::Evidence, place("role"), expected, format!("`{}`", file.role)));
            }
            let edited = "the file was edited; get an unchanged copy of the bundle";
            match files.get(object) {
                None => self.refused.push(
                    Refusal::new(Class::Missing, object, "the file that the index lists", "none")
                        .with_hint("the bundle is not complete"),
                ),
                Some(content) if content.len() as u64 != file.bytes => self.refused.push(
                    Refusal::new(Class::Size, object, format!("{} bytes", file.bytes), content.len()).with_hint(edited),
                ),
                Some(content) => {
                    let digest = Digest::sha256(content);
                    if digest != file.sha256 {
                        let expected = format!("the SHA-256 {}", file.sha256);
                        self.refused.push(Refusal::new(Class::Hash, object, expected, digest).with_hint(edited));
                    }
                }
            }
        }
        for (name, _) in files.iter() {
            if !listed.contains(name) {
                self.refused.push(
                    Refusal::new(Class::Extra, name, "only files that the index lists", "another one")
                        .with_hint("it was put there after the bundle was sealed; take it away"),
                );
            }
        }
    }

    /// What was written as the result is what follows from the files.
    fn check_result(&mut self, run: &Run<'_>, result: &RunResult) {
        let files = run.files;
        let computed = serde_json::to_value(result).expect("plain fields always encode");
        self.compare(files, RESULT, &computed);
        if let (Some(index), Some(bytes)) = (self.bundle, files.get(INDEX))
            && let Ok(written) = strict::<Index>(bytes, RESULT_CAP, INDEX)
        {
            let mut expected = super::seal::index(result, files);
            expected.rendering = written.rendering;
            expected.files.clone_from(&written.files);
            let expected = serde_json::to_value(&expected).expect("plain fields always encode");
            self.compare(files, INDEX, &expected);
            self.check_rendered(run, result, &index, written.rendering);
        }
        if let Some(statement) = &self.statement {
            let said = &statement.evidence;
            let expected = evidence_of(result, said.tool.clone(), said.host.clone(), said.node);
            let (said, expected) = (serde_json::to_value(said), serde_json::to_value(&expected));
            let (said, expected) = (said.unwrap_or_default(), expected.unwrap_or_default());
            if let Some(differs) = difference("/predicate", &said, &expected) {
                self.refused.push(differs.refusal(STATEMENT));
            }
        }
    }

    /// The renderings are those of the result. Another version of them cannot be compared, so it is not believed.
    fn check_rendered(&mut self, run: &Run<'_>, result: &RunResult, bundle: &Digest, rendering: u64) {
        if rendering != RENDERING {
            let (expected, found) = (RENDERING.to_string(), rendering.to_string());
            self.refused.push(
                Refusal::new(Class::Newer, "the rendering of the reports", expected, found)
                    .with_hint("verify it with the version of bootstrap that sealed it"),
            );
            return;
        }
        let env = report::env(result, Some(bundle)).into_bytes();
        let rendered = report::computed(run, result);
        let files = run.files;
        let all = rendered.iter().map(|(name, bytes)| (*name, bytes)).chain([(RESULT_ENV, &env)]);
        for (name, bytes) in all.filter(|(name, _)| *name != RESULT) {
            let Some(found) = files.get(name) else {
                self.refused.push(
                    Refusal::new(Class::Missing, name, "the file", "none").with_hint("the bundle is not complete"),
                );
                continue;
            };
            if found != bytes.as_slice() {
                let line = found.split(|b| *b == b'\n').zip(bytes.split(|b| *b == b'\n')).position(|(a, b)| a != b);
                let object = format!("{name} line {}", line.map_or(0, |line| line + 1));
                self.refused.push(
                    Refusal::new(Class::Evidence, object, "what follows from the result", "another text")
                        .with_hint("it was edited; `bootstrap evidence show` shows what the files say"),
                );
            }
        }
    }

    fn compare(&mut self, files: &Files, name: &str, expected: &Value) {
        let Some(bytes) = files.get(name) else {
            return self
                .refused
                .push(Refusal::new(Class::Missing, name, "the file", "none").with_hint("the bundle is not complete"));
        };
        match strict::<Value>(bytes, RESULT_CAP, name) {
            Err(refusal) => self.refused.push(refusal),
            Ok(found) => {
                if let Some(differs) = difference("", &found, expected) {
                    self.refused.push(differs.refusal(name));
                }
            }
        }
    }

    /// Asks what every run must answer, and what the policy asks beside it.
    fn ask(&mut self, run: &Run<'_>, result: &RunResult, policy: &Policy, now: Timestamp) {
        self.ask_hollow(result, policy);
        self.ask_replayed(run, result, policy, now);
        let mut answers = Vec::new();
        let mut ask = |metric: &str, value: String, limit: String, file: &str, holds: bool| {
            answers.push(Answer { metric: metric.to_owned(), value, limit, file: file.to_owned(), holds });
        };
        if result.mode == Mode::Simulated {
            let limit = if policy.allow_simulated { "execute or simulated" } else { "execute" };
            let file = format!("{RESULT}#/mode");
            ask("mode", "simulated".into(), limit.into(), &file, policy.allow_simulated);
        }
        let file = |field: &str| format!("{RESULT}#/{field}");
        ask(
            "verdict",
            result.verdict.word().into(),
            "passed".into(),
            &file("verdict"),
            result.verdict == Verdict::Passed,
        );
        for (at, problem) in result.problems.iter().enumerate() {
            let file = format!("{RESULT}#/problems/{at}");
            ask(&problem.file, problem.why.clone(), "nothing wrong with it".into(), &file, false);
        }
        for (at, step) in result.steps.iter().enumerate().filter(|(_, step)| step.status != StepStatus::Ok) {
            if result.mode == Mode::Execute && result.verdict != Verdict::Passed {
                let why = step.error.as_ref().map_or_else(String::new, |error| format!(": {}", error.text));
                let value = format!("{}{why}", step.status.word());
                ask(&format!("step {}", step.id), value, "ok".into(), &format!("{RESULT}#/steps/{at}"), false);
            }
        }
        for (at, check) in result.checks.iter().enumerate() {
            let file = format!("{RESULT}#/checks/{at}");
            let must = check.required || policy.required.contains(&check.id);
            if must && check.status != CheckStatus::Passed && result.mode == Mode::Execute {
                let value = format!("{}: {}", check.status.word(), check.observed);
                ask(&format!("check {}", check.id), value, format!("passed: {}", check.expected), &file, false);
            }
        }
        let has = |id: &&String| result.checks.iter().any(|check| check.id == **id);
        for id in policy.required.iter().filter(|id| !has(id)) {
            ask(&format!("check {id}"), "not made".into(), "passed".into(), &file("checks"), false);
        }
        for id in &policy.proven {
            // What failed can be proven, too: that is not what is asked for.
            let passed = result.check(id).filter(|check| check.status == CheckStatus::Passed);
            let claim = passed.map_or(Claim::Unproven, |check| check.claim);
            ask(&format!("claim {id}"), claim.word().into(), "proven".into(), &file("checks"), claim == Claim::Proven);
        }
        if let Some(limit) = policy.max_failover_seconds {
            let (value, holds) = match result.measured.rto_ms {
                Some(ms) => (format!("{}.{:03}", ms / 1000, ms % 1000), ms <= limit.saturating_mul(1000)),
                None => ("not measured".to_owned(), false),
            };
            ask("max_failover_seconds", value, limit.to_string(), &file("measured/rto_ms"), holds);
        }
        if let Some(limit) = policy.max_data_lag_events {
            let lost = result.measured.rpo_events;
            let value = lost.map_or("not measured".to_owned(), |lost| lost.to_string());
            let holds = lost.is_some_and(|lost| lost <= limit);
            ask("max_data_lag_events", value, limit.to_string(), &file("measured/rpo_events"), holds);
        }
        let ingress: Vec<_> = result
            .probers
            .iter()
            .filter(|prober| (prober.kind.as_str(), prober.of.as_str()) == ("prober", "ingress"))
            .collect();
        if let Some(least) = policy.probers {
            let count = ingress.len() as u64;
            ask("probers", count.to_string(), format!("at least {least}"), &file("probers"), count >= least);
        }
        if let Some(least) = policy.hosts {
            let boots = result.prober_boots;
            ask("hosts", boots.to_string(), format!("at least {least}"), &file("prober_boots"), boots >= least);
        }
        if let Some(least) = policy.grade {
            let holds = result.grade >= least;
            ask("grade", result.grade.word().into(), format!("at least {}", least.word()), &file("grade"), holds);
        }
        if !policy.scenarios.is_empty() {
            let holds = policy.scenarios.contains(&result.scenario);
            ask("scenario", result.scenario.clone(), policy.scenarios.join(" or "), &file("scenario"), holds);
        }
        self.answers = answers;
    }

    /// I01: a pass without the checks that make it one.
    fn ask_hollow(&mut self, result: &RunResult, policy: &Policy) {
        let required = |id: &&str| result.check(id).is_some_and(|check| check.required);
        let needed = policy.required_of(&result.kind, &result.scenario);
        let lacking: Vec<&str> = needed.into_iter().filter(|id| !required(id)).collect();
        if !lacking.is_empty() {
            self.refused.push(
                Refusal::new(
                    Class::Evidence,
                    "plan.json#/checks",
                    format!("the checks of a {} {}", result.scenario, result.kind),
                    format!("none of {}", lacking.join(", ")),
                )
                .with_hint(
                    "a pass without its checks shows nothing; run it with a plan that requires them, or name a scenario of \
                     your own in `scenarios` of the policy",
                ),
            );
        }
    }

    /// I02: another run's bundle in the place of the one that was asked for.
    fn ask_replayed(&mut self, run: &Run<'_>, result: &RunResult, policy: &Policy, now: Timestamp) {
        let stale = |object: String, expected: String, found: String, hint: &str| {
            Refusal::new(Class::Stale, object, expected, found).with_hint(hint)
        };
        if let Some(challenge) = &policy.challenge {
            let found = result.challenge.clone().unwrap_or_default();
            if found != *challenge {
                let object = format!("{RESULT}#/challenge");
                let hint = "it was made for another question; run the drill with this challenge";
                let found = excerpt(&found);
                self.refused.push(stale(object, format!("the challenge `{challenge}`"), found, hint));
            } else if run.begun.is_none() && result.mode == Mode::Execute {
                let expected = format!("a record of the chain with the challenge `{challenge}`");
                let hint = "whoever sealed it could have written the challenge in afterwards; run it where the chain can be told";
                self.refused.push(stale(format!("{RESULT}#/begun"), expected, "none".to_owned(), hint));
            }
        }
        if let Some(most) = policy.max_age {
            // From its beginning, which the chain was told: an end is only as good as who wrote it.
            let began = run.begun.map_or(result.started, |begun| begun.time.min(result.started));
            let age = now.duration_since(began);
            let hint = "run the drill again; old evidence shows nothing of today";
            if age > SignedDuration::from(most) {
                let found = format!("it began at {began}, {} s ago", age.as_secs());
                self.refused.push(stale(format!("{RESULT}#/started"), format!("at most {most} ago"), found, hint));
            }
        }
        if result.ended.duration_since(now) > SignedDuration::from_mins(5) {
            let object = format!("{RESULT}#/ended");
            let found = result.ended.to_string();
            self.refused.push(Refusal::new(Class::Clock, object, format!("a time before {now}"), found));
        }
    }
}

/// Where two values differ.
struct Differs {
    pointer: String,
    expected: String,
    found: String,
}

impl Differs {
    fn refusal(self, file: &str) -> Refusal {
        let object = format!("{file}#{}", self.pointer);
        Refusal::new(Class::Evidence, object, format!("{}, which follows from the files", self.expected), self.found)
            .with_hint("it says what its own files do not show; do not rely on it")
    }
}

/// The first place where two values differ, as a JSON pointer.
fn difference(at: &str, found: &Value, expected: &Value) -> Option<Differs> {
    let shown = |value: &Value| value.to_string().chars().take(120).collect::<String>();
    match (found, expected) {
        (Value::Object(a), Value::Object(b)) => {
            let names: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            names.into_iter().find_map(|name| {
                let none = Value::String("nothing".to_owned());
                difference(&format!("{at}/{name}"), a.get(name).unwrap_or(&none), b.get(name).unwrap_or(&none))
            })
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            a.iter().zip(b).enumerate().find_map(|(i, (a, b))| difference(&format!("{at}/{i}"), a, b))
        }
        (a, b) if a == b => None,
        (a, b) => Some(Differs { pointer: at.to_owned(), expected: shown(b), found: shown(a) }),
    }
}
