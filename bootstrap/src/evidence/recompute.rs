//! Recomputing: from the files of a run to what it amounts to, by one pure function.
//!
//! The same function runs when a bundle is sealed and when somebody verifies it, with nothing but the bundle. What the
//! program that ran the drill says about a check counts only where nothing in the bundle shows it, and is marked so.
//! Documented in `docs/format/bundle.md`. Layer: pure.

use std::collections::{BTreeMap, BTreeSet};

use manifests::document::drill::PROBERS_CAP;
use manifests::document::evidence::CHECKS_CAP;
use manifests::document::is_name;
use manifests::keys::KeyId;
use manifests::refusal::{Class, Refusal};
use serde_json::Value;

use super::begun::{self, Anchor};
use super::documents::Documents;
use super::event::{Begin, StepStatus, What};
use super::excerpt;
use super::facts::{Environment, Health, PlanFacts, plan_digest};
use super::files::Files;
use super::measure::{self, MS};
use super::result::{
    Attestation, Change, Debt, Fault, Head, Leader, ManifestFacts, Measured, Prober, Problem, RunResult, SCHEMA, Waiver,
};
use super::run_dir;
use super::series::{self, Series};
use super::timeline::{self, Event, strict};

mod judged;

/// The largest plan, environment or health report in bytes.
const JSON_CAP: usize = 4 * 1024 * 1024;
/// The schema of a plan.
const PLAN_SCHEMA: &str = "bootstrap.plan/1";
/// The most steps of a plan, and the most that a timeline has beside them.
const STEPS_CAP: usize = 1000;
/// The most faults of one run.
const FAULTS_CAP: usize = 256;
/// The longest limit of a plan in seconds: a year and a day.
const LIMIT_CAP_SECONDS: u64 = 367 * 86_400;
/// The most changes of who answers that one run sees.
const CHANGES_CAP: usize = 10_000;

/// Everything that the files of a run say, read and verified.
#[derive(Debug)]
pub(super) struct Run<'f> {
    pub files: &'f Files,
    pub plan: PlanFacts,
    pub begin: Begin,
    pub events: Vec<Event>,
    /// The series of the probers.
    pub series: Vec<Series>,
    /// The series of the sentinel.
    pub sentinel: Option<Series>,
    pub documents: Documents,
    /// The record of the chain with which it began.
    pub begun: Option<Anchor>,
    /// The key that seals it, where that is known.
    pub sealer: Option<KeyId>,
    pub environment: Option<Environment>,
    pub health_after: Option<Health>,
    /// Changes of who answers at the ingress, in order of time.
    pub changes: Vec<Change>,
    /// What does not hold.
    pub problems: Vec<Problem>,
}

/// What the files of a run amount to.
///
/// # Errors
/// What makes the files no run at all: a plan or timeline that is missing, broken, or of another run.
pub fn recompute(files: &Files) -> Result<RunResult, Refusal> {
    Run::read(files, None).map(|run| run.result())
}

fn missing(file: &str) -> Refusal {
    Refusal::new(Class::Evidence, file, "the file", "none").with_hint("the bundle is not complete; run it again")
}

impl<'f> Run<'f> {
    /// Reads the files. What rests on the word of `sealer` alone is not proven by it.
    pub(super) fn read(files: &'f Files, sealer: Option<KeyId>) -> Result<Run<'f>, Refusal> {
        let plan = read_plan(files)?;
        let bytes = files.get(timeline::FILE).ok_or_else(|| missing(timeline::FILE))?;
        let events = timeline::read(bytes, timeline::FILE)?;
        let begin = read_begin(&events, &plan)?;
        check_count(&events, &plan)?;
        let group = begin.group.clone();
        let mut run = Run {
            files,
            documents: Documents::read(files, &begin.root, &begin.chain, &group),
            plan,
            begin,
            events,
            series: Vec::new(),
            sentinel: None,
            begun: None,
            sealer,
            environment: None,
            health_after: None,
            changes: Vec::new(),
            problems: Vec::new(),
        };
        let wrong = std::mem::take(&mut run.documents.problems);
        run.problems.extend(wrong.into_iter().map(|(file, why)| Problem { file, why }));
        match begun::find(&run.plan, &run.events, &run.documents) {
            Ok(begun) => run.begun = begun,
            Err(why) => run.problems.push(Problem { file: timeline::FILE.to_owned(), why }),
        }
        run.check_reach();
        run.read_all_series();
        run.environment = run.read_json(run_dir::ENVIRONMENT);
        run.health_after = run.read_json("collect/health-after.json");
        run.changes = run.ingress().flat_map(measure::changes).collect();
        if run.changes.len() > CHANGES_CAP {
            let expected = format!("at most {CHANGES_CAP} changes of who answers");
            return Err(Refusal::new(Class::TooMany, run_dir::PROBES, expected, run.changes.len()));
        }
        run.changes.sort_by(|a, b| (a.first_good_us, &a.prober).cmp(&(b.first_good_us, &b.prober)));
        Ok(run)
    }

    /// The records reach as far as what others had seen of the chain: none was cut off behind.
    fn check_reach(&mut self) {
        let Some(head) = self.documents.head.as_ref().map(|head| (head.epoch, head.seq)) else {
            return;
        };
        let of_lease = self.documents.lease.iter().map(|entry| (entry.entry.head.epoch, entry.entry.head.seq));
        let of_receipts = self.documents.receipts.values().map(|receipt| (receipt.head.epoch, receipt.head.seq));
        if let Some(seen) = of_lease.chain(of_receipts).max().filter(|seen| *seen > head) {
            let why = format!("the records end at {}, and one of the nodes had seen record {}", head.1, seen.1);
            self.problems.push(Problem { file: run_dir::CHAIN.to_owned(), why });
        }
    }

    fn read_all_series(&mut self) {
        let files = self.files;
        let mut named = BTreeSet::new();
        for one in begun::announced(&self.events) {
            let file = match one.name.as_str() {
                "sentinel" => run_dir::SENTINEL.to_owned(),
                name => format!("{}/{name}.jsonl", run_dir::PROBES),
            };
            if files.get(&file).is_none() {
                let why = format!("the timeline names the prober {}, and its series is not there", one.name);
                self.problems.push(Problem { file: file.clone(), why });
            }
            if !named.insert(one.name.clone()) {
                let why = format!("the timeline names the prober {} twice", one.name);
                self.problems.push(Problem { file, why });
            }
        }
        for (file, bytes) in files.below(run_dir::PROBES, ".jsonl") {
            match self.read_series(file, bytes) {
                Ok(series) => self.series.push(series),
                Err(refusal) => self.problems.push(Problem { file: file.to_owned(), why: refusal.to_string() }),
            }
        }
        if let Some(bytes) = files.get(run_dir::SENTINEL) {
            match self.read_series(run_dir::SENTINEL, bytes) {
                Ok(series) => self.sentinel = Some(series),
                Err(refusal) => {
                    self.problems.push(Problem { file: run_dir::SENTINEL.to_owned(), why: refusal.to_string() });
                }
            }
        }
    }

    /// Reads a series; it must be of this run, and by the key that the timeline was told.
    fn read_series(&self, file: &str, bytes: &[u8]) -> Result<Series, Refusal> {
        let beside = series::signature_of(file);
        let signature = self.files.get(&beside).ok_or_else(|| {
            missing(&beside).with_hint("a prober that dies signs nothing, and what it saw proves nothing")
        })?;
        let series = Series::read(bytes, signature, file)?;
        let refuse = |expected: String, found: String| {
            Err(Refusal::new(Class::Evidence, format!("{file} line 1"), expected, found))
        };
        if series.head.drill != self.plan.id {
            return refuse(format!("a series of the run {}", self.plan.id), series.head.drill);
        }
        if series.head.challenge != self.plan.challenge.clone().unwrap_or_default() {
            return refuse("the challenge of the plan".into(), format!("`{}`", series.head.challenge));
        }
        let name = file.rsplit('/').next().unwrap_or(file).trim_end_matches(".jsonl");
        let kind = if file == run_dir::SENTINEL { "sentinel" } else { "prober" };
        if (series.head.kind.as_str(), series.head.prober.as_str()) != (kind, name) {
            return refuse(format!("the {kind} {name}"), format!("the {} {}", series.head.kind, series.head.prober));
        }
        let announced = self.events.iter().find_map(|event| match &event.what {
            What::Prober { name: told, of, key } if told == name => Some((of, key)),
            _ => None,
        });
        match announced {
            None => refuse(format!("a prober that the timeline names {name}"), "none".into()),
            Some((_, key)) if *key != series.head.key => {
                refuse(format!("the key {key} that the timeline was told"), series.head.key)
            }
            Some((of, _)) if *of != series.head.of => refuse(format!("a series of {of}, as announced"), series.head.of),
            Some(_) => Ok(series),
        }
    }

    fn read_json<T: serde::de::DeserializeOwned>(&mut self, file: &str) -> Option<T> {
        match strict(self.files.get(file)?, JSON_CAP, file) {
            Ok(value) => Some(value),
            Err(refusal) => {
                self.problems.push(Problem { file: file.to_owned(), why: refusal.to_string() });
                None
            }
        }
    }

    /// The series of probers that ask the ingress.
    pub(super) fn ingress(&self) -> impl Iterator<Item = &Series> {
        self.series.iter().filter(|series| series.head.of == "ingress")
    }

    /// The boot in which the run began.
    pub(super) fn boot(&self) -> &str {
        &self.events[0].boot_id
    }

    /// Milliseconds after the beginning, of a moment in the same boot.
    fn after_begin(&self, boot_id: &str, us: u64) -> Option<u64> {
        (boot_id == self.boot()).then(|| us.saturating_sub(self.events[0].mono_us) / MS)
    }

    /// The time between two events: by the clock since boot, or by wall clocks where the machine was started anew; nothing
    /// where they went back.
    pub(super) fn between(from: &Event, to: &Event) -> Option<u64> {
        if from.boot_id == to.boot_id {
            return Some(measure::ms(from.mono_us, to.mono_us));
        }
        u64::try_from(to.wall.duration_since(from.wall).as_millis()).ok()
    }

    /// The first fault.
    pub(super) fn fault(&self) -> Option<(&Event, &str)> {
        self.events.iter().find_map(|event| match &event.what {
            What::Fault { node, .. } => Some((event, node.as_str())),
            _ => None,
        })
    }

    /// Whether a fault was undone after it was made; nothing for another event.
    pub(super) fn is_healed(&self, event: &Event) -> Option<bool> {
        let What::Fault { fault, node, .. } = &event.what else {
            return None;
        };
        let heals = |later: &Event| {
            later.i > event.i
                && matches!(&later.what, What::Heal { fault: healed, node: at, .. } if (healed, at) == (fault, node))
        };
        Some(self.events.iter().any(heals))
    }

    /// What it amounts to.
    pub(super) fn result(&self) -> RunResult {
        let steps = self.steps();
        let last = self.events.last().expect("a timeline has its beginning");
        let measured = self.measured();
        let checks = self.checks(&measured, &steps);
        let verdict = self.verdict(&steps, &checks);
        let failed_step = steps.iter().find(|step| step.status == StepStatus::Failed).map(|step| step.id.clone());
        let head = self.documents.head.as_ref();
        let manifest = self.documents.manifest.as_ref();
        let mut problems = self.problems.clone();
        problems.sort_by(|a, b| a.file.cmp(&b.file));
        RunResult {
            schema: SCHEMA.to_owned(),
            id: self.plan.id.clone(),
            kind: self.plan.kind.clone(),
            scenario: self.plan.scenario.clone(),
            group: self.plan.group.clone(),
            mode: self.plan.mode,
            grade: self.grade(verdict, &checks),
            verdict,
            failed_step,
            operator: self.begin.operator.clone(),
            approver: Some(self.begin.approver.clone()).filter(|approver| !approver.is_empty()),
            reason: self.begin.reason.clone(),
            challenge: self.plan.challenge.clone().filter(|challenge| !challenge.is_empty()),
            plan_sha256: self.plan.plan_sha256,
            chain: self.begin.chain,
            root: self.begin.root,
            begun: self.begun.map(|begun| begun.place),
            head: head.map(|head| Head { seq: head.seq, epoch: head.epoch, term: head.term, sha256: head.digest }),
            manifest: manifest.map(|(manifest, _)| ManifestFacts {
                name: manifest.manifest.name.clone(),
                version: manifest.manifest.version,
                sha256: manifest.digest,
                key: manifest.manifest.key,
                expires: manifest.manifest.expires,
            }),
            tool: self.begin.tool.clone(),
            started: self.events[0].wall,
            ended: last.wall.max(self.events[0].wall),
            duration_ms: Self::between(&self.events[0], last).unwrap_or(0),
            measured,
            limits: self.plan.thresholds.clone(),
            phases: self.phases(&steps),
            steps,
            checks,
            faults: self.faults(),
            leaders: self.leaders(),
            probers: self.series.iter().chain(&self.sentinel).map(prober).collect(),
            prober_boots: self.ingress().map(|series| &series.head.boot_id).collect::<BTreeSet<_>>().len() as u64,
            nodes: self.environment.as_ref().map(|environment| environment.nodes.clone()).unwrap_or_default(),
            waivers: self.collect(|event| match &event.what {
                What::Waive { id, who, reason } => {
                    Some(Waiver { id: id.clone(), who: who.clone(), reason: reason.clone() })
                }
                _ => None,
            }),
            deviations: self.collect(|event| match &event.what {
                What::Manual { text } => Some(text.clone()),
                _ => None,
            }),
            attestations: self.collect(|event| match &event.what {
                What::Attest { who, text, file } => {
                    Some(Attestation { who: who.clone(), text: text.clone(), at: event.wall, file: file.clone() })
                }
                _ => None,
            }),
            debts: self.debts(),
            after_action: self.events.iter().rev().find_map(|event| match &event.what {
                What::AfterAction(found) => Some(found.clone()),
                _ => None,
            }),
            problems,
        }
    }

    fn collect<T>(&self, pick: impl Fn(&Event) -> Option<T>) -> Vec<T> {
        self.events.iter().filter_map(pick).collect()
    }

    fn measured(&self) -> Measured {
        let worst = self.changes.iter().max_by_key(|change| change.gap_ms);
        let interval = |change: &Change| {
            let series = self.series.iter().find(|series| series.head.prober == change.prober)?;
            Some(series.head.interval_ms)
        };
        let lost = self.sentinel.as_ref().and_then(measure::loss);
        let receipts = self.documents.receipts.values();
        let newest = receipts.clone().max_by_key(|receipt| receipt.finished);
        let between = |from: Option<jiff::Timestamp>, to: Option<jiff::Timestamp>| {
            u64::try_from(to?.duration_since(from?).as_millis()).ok()
        };
        let fault = self.fault().map(|(event, _)| event.wall);
        let claim = self.documents.lease.iter().map(|entry| &entry.entry);
        let claim = claim.filter(|entry| entry.kind == manifests::document::lease::Kind::Claim);
        let claimed = claim.filter(|entry| entry.time >= self.events[0].wall).map(|entry| entry.time).max();
        let captured = newest.and_then(|receipt| {
            let record = self.documents.snapshot(&receipt.record.digest)?;
            match &record.body {
                manifests::document::record::Body::Snapshot(snapshot) => Some(snapshot.private.started),
                _ => None,
            }
        });
        let answered = worst.and_then(|change| {
            let series = self.series.iter().find(|series| series.head.prober == change.prober)?;
            let sample = series.samples().find(|sample| sample.done_us == change.first_good_us)?;
            Some(sample.wall)
        });
        Measured {
            rto_ms: worst.map(|change| change.gap_ms),
            rto_error_ms: worst.and_then(interval),
            rpo_events: lost.map(|lost| lost.0),
            rpo_ms: lost.map(|lost| lost.1),
            rpo_chain_ms: between(captured, fault),
            fault_to_claim_ms: between(fault, claimed),
            claim_to_answer_ms: between(claimed, answered),
            changes: self.changes.clone(),
            restored_bytes: newest.map(|_| sum(&mut receipts.clone().map(|receipt| receipt.restored.bytes))),
            restored_files: newest.map(|_| sum(&mut receipts.clone().map(|receipt| receipt.restored.files))),
        }
    }

    fn faults(&self) -> Vec<Fault> {
        self.collect(|event| match &event.what {
            What::Fault { fault, node, at_mono_us, boot_id } => Some(Fault {
                fault: fault.clone(),
                node: node.clone(),
                at_ms: self.after_begin(boot_id, *at_mono_us),
                healed: self.is_healed(event) == Some(true),
            }),
            _ => None,
        })
    }

    fn leaders(&self) -> Vec<Leader> {
        let mut leaders: Vec<Leader> = Vec::new();
        for found in &self.documents.lease {
            let entry = &found.entry;
            let released = entry.kind == manifests::document::lease::Kind::Release;
            match leaders.last_mut().filter(|leader| leader.term == entry.term) {
                Some(leader) => (leader.until, leader.released) = (entry.time, released),
                None => leaders.push(Leader {
                    term: entry.term,
                    node: entry.holder.node.clone(),
                    from: entry.time,
                    until: entry.time,
                    released,
                }),
            }
        }
        leaders
    }

    fn debts(&self) -> Vec<Debt> {
        let mut debts: BTreeMap<String, Debt> = BTreeMap::new();
        for event in &self.events {
            if let What::Debt { id, text, open } = &event.what {
                debts.insert(id.clone(), Debt { id: id.clone(), text: text.clone(), open: *open });
            }
        }
        debts.into_values().collect()
    }
}

/// A sum that does not overflow.
fn sum(numbers: &mut dyn Iterator<Item = u64>) -> u64 {
    numbers.fold(0, u64::saturating_add)
}

fn prober(series: &Series) -> Prober {
    let good = match series.head.kind.as_str() {
        "sentinel" => series.acknowledged().count(),
        _ => series.samples().filter(|sample| sample.ok).count(),
    };
    let recovered = series.recovered().count();
    Prober {
        name: series.head.prober.clone(),
        kind: series.head.kind.clone(),
        of: series.head.of.clone(),
        file: series.file.clone(),
        interval_ms: series.head.interval_ms,
        asked: (series.lines.len() - recovered) as u64,
        good: good as u64,
        longest_gap_ms: measure::longest_gap_ms(series),
    }
}

fn read_plan(files: &Files) -> Result<PlanFacts, Refusal> {
    let bytes = files.get(run_dir::PLAN).ok_or_else(|| missing(run_dir::PLAN))?;
    let value: Value = strict(bytes, JSON_CAP, run_dir::PLAN)?;
    let plan: PlanFacts = strict(bytes, JSON_CAP, run_dir::PLAN)?;
    if plan.schema != PLAN_SCHEMA {
        return Err(Refusal::new(Class::Newer, run_dir::PLAN, PLAN_SCHEMA, plan.schema));
    }
    let digest = plan_digest(&value);
    if digest != plan.plan_sha256 {
        let object = format!("{}#/plan_sha256", run_dir::PLAN);
        return Err(Refusal::new(Class::Hash, object, digest, plan.plan_sha256)
            .with_hint("the plan was edited after it was approved"));
    }
    check_plan(&plan)?;
    Ok(plan)
}

/// Names that say what they are, steps to do, and limits that a result can hold.
fn check_plan(plan: &PlanFacts) -> Result<(), Refusal> {
    let at = |field: &str| format!("{}#/{field}", run_dir::PLAN);
    for (field, name) in [("id", &plan.id), ("scenario", &plan.scenario), ("group", &plan.group)] {
        if !is_name(name) {
            return Err(Refusal::new(Class::Json, at(field), "1 to 64 of [a-z0-9._-]", excerpt(name)));
        }
    }
    if !matches!(plan.kind.as_str(), "drill" | "failover") {
        return Err(Refusal::new(Class::Json, at("kind"), "`drill` or `failover`", excerpt(&plan.kind)));
    }
    if plan.steps.is_empty() {
        return Err(Refusal::new(Class::Evidence, at("steps"), "steps", "none")
            .with_hint("a run without a step shows nothing; run it with its scenario"));
    }
    let steps = || plan.steps.iter().chain(&plan.always);
    for (field, count, cap) in [("steps", steps().count(), STEPS_CAP), ("checks", plan.checks.len(), CHECKS_CAP)] {
        if count > cap {
            return Err(Refusal::new(Class::TooMany, at(field), format!("at most {cap}"), count));
        }
    }
    let mut ids = BTreeSet::new();
    if let Some(twice) = steps().find(|step| !ids.insert(&step.id)) {
        return Err(Refusal::new(Class::Evidence, at("steps"), "each step once", excerpt(&twice.id)));
    }
    let limits = steps().map(|step| step.timeout_seconds).chain(plan.thresholds.values().copied());
    if let Some(long) = limits.max().filter(|seconds| *seconds > LIMIT_CAP_SECONDS) {
        return Err(Refusal::new(Class::TooBig, run_dir::PLAN, format!("limits up to {LIMIT_CAP_SECONDS}"), long));
    }
    Ok(())
}

/// What a timeline may have beside its plan is bounded.
fn check_count(events: &[Event], plan: &PlanFacts) -> Result<(), Refusal> {
    let (mut checks, mut steps, mut probers, mut faults) = (BTreeSet::new(), BTreeSet::new(), 0, 0);
    for event in events {
        match &event.what {
            What::Check(check) => drop(checks.insert(check.id.as_str())),
            What::StepBegin { .. } => drop(steps.insert(event.step.as_deref())),
            What::Prober { .. } => probers += 1,
            What::Fault { .. } => faults += 1,
            _ => {}
        }
    }
    checks.extend(plan.checks.iter().map(|check| check.id.as_str()));
    let counts = [
        ("checks", checks.len(), CHECKS_CAP),
        ("steps", steps.len(), STEPS_CAP),
        ("probers", probers, PROBERS_CAP),
        ("faults", faults, FAULTS_CAP),
    ];
    for (what, count, cap) in counts {
        if count > cap {
            return Err(Refusal::new(Class::TooMany, timeline::FILE, format!("at most {cap} {what}"), count));
        }
    }
    Ok(())
}

/// The first event; what it says of the plan must be so.
fn read_begin(events: &[Event], plan: &PlanFacts) -> Result<Begin, Refusal> {
    let What::Begin(begin) = &events[0].what else {
        let object = format!("{} line 1", timeline::FILE);
        return Err(Refusal::new(Class::Evidence, object, "the event `begin`", "another"));
    };
    let challenge = plan.challenge.clone().unwrap_or_default();
    let same = [
        ("id", &begin.id, &plan.id),
        ("run", &begin.run, &plan.kind),
        ("scenario", &begin.scenario, &plan.scenario),
        ("group", &begin.group, &plan.group),
        ("challenge", &begin.challenge, &challenge),
        ("mode", &begin.mode.word().to_owned(), &plan.mode.word().to_owned()),
        ("plan", &begin.plan.to_string(), &plan.plan_sha256.to_string()),
    ];
    for (field, found, expected) in same {
        if found != expected {
            let object = format!("{} line 1#/data/{field}", timeline::FILE);
            return Err(Refusal::new(
                Class::Evidence,
                object,
                format!("`{expected}`, as in the plan"),
                format!("`{found}`"),
            ));
        }
    }
    if let Some(again) = events[1..].iter().find(|event| matches!(event.what, What::Begin(_))) {
        let object = format!("{} line {}", timeline::FILE, again.i + 1);
        return Err(Refusal::new(Class::Evidence, object, "one beginning", "a second one"));
    }
    if let Some(end) = events.iter().position(|event| matches!(event.what, What::End { .. }))
        && end + 1 != events.len()
    {
        let object = format!("{} line {}", timeline::FILE, end + 2);
        return Err(Refusal::new(Class::Evidence, object, "nothing after the end", "an event"));
    }
    Ok((**begin).clone())
}
