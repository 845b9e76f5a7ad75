//! Recomputing: from the files of a run to what it amounts to, by one pure function.
//!
//! The same function runs when a bundle is sealed and when somebody verifies it, with nothing but the bundle. What the
//! program that ran the drill says about a check counts only where nothing in the bundle shows it, and is marked so.
//! Documented in `docs/format/bundle.md`. Layer: pure.

use std::collections::{BTreeMap, BTreeSet};

use manifests::document::record::Pointer;
use manifests::refusal::{Class, Refusal};
use serde_json::Value;

use super::documents::Documents;
use super::event::{Begin, CheckResult, CheckStatus, Claim, Mode, StepStatus, What};
use super::facts::{Environment, Health, PlanFacts, plan_digest};
use super::files::Files;
use super::measure::{self, MS};
use super::result::{
    Attestation, Change, Check, Debt, Fault, Grade, Head, Leader, ManifestFacts, Measured, Phase, Prober, Problem,
    RunResult, SCHEMA, Step, Verdict, Waiver,
};
use super::rules;
use super::run_dir;
use super::series::{self, Series};
use super::timeline::{self, Event, strict};

/// The largest plan, environment or health report in bytes.
const JSON_CAP: usize = 4 * 1024 * 1024;
/// The schema of a plan.
const PLAN_SCHEMA: &str = "bootstrap.plan/1";

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
    Run::read(files).map(|run| run.result())
}

fn missing(file: &str) -> Refusal {
    Refusal::new(Class::Evidence, file, "the file", "none").with_hint("the bundle is not complete; run it again")
}

impl<'f> Run<'f> {
    /// Reads the files.
    pub(super) fn read(files: &'f Files) -> Result<Run<'f>, Refusal> {
        let plan = read_plan(files)?;
        let bytes = files.get(timeline::FILE).ok_or_else(|| missing(timeline::FILE))?;
        let events = timeline::read(bytes, timeline::FILE)?;
        let begin = read_begin(&events, &plan)?;
        let group = begin.group.clone();
        let mut run = Run {
            files,
            documents: Documents::read(files, &begin.root, &begin.chain, &group),
            plan,
            begin,
            events,
            series: Vec::new(),
            sentinel: None,
            environment: None,
            health_after: None,
            changes: Vec::new(),
            problems: Vec::new(),
        };
        let wrong = std::mem::take(&mut run.documents.problems);
        run.problems.extend(wrong.into_iter().map(|(file, why)| Problem { file, why }));
        run.read_all_series();
        run.environment = run.read_json(run_dir::ENVIRONMENT);
        run.health_after = run.read_json("collect/health-after.json");
        run.changes = run.ingress().flat_map(measure::changes).collect();
        run.changes.sort_by_key(|change| (change.first_good_ns, change.prober.clone()));
        Ok(run)
    }

    fn read_all_series(&mut self) {
        let files = self.files;
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
        let announced = self.events.iter().find_map(|event| match &event.what {
            What::Prober { name: told, key, .. } if told == name => Some((event, key)),
            _ => None,
        });
        match announced {
            None => refuse(format!("a prober that the timeline names {name}"), "none".into()),
            Some((_, key)) if *key != series.head.key => {
                refuse(format!("the key {key} that the timeline was told"), series.head.key)
            }
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
    fn after_begin(&self, boot_id: &str, ns: u64) -> Option<u64> {
        (boot_id == self.boot()).then(|| ns.saturating_sub(self.events[0].mono_ns) / MS)
    }

    /// The time between two events: by the clock since boot, or by wall clocks where the machine was started anew.
    pub(super) fn between(from: &Event, to: &Event) -> u64 {
        if from.boot_id == to.boot_id {
            return measure::ms(from.mono_ns, to.mono_ns);
        }
        u64::try_from(to.wall.duration_since(from.wall).as_millis()).unwrap_or(0)
    }

    /// The first fault.
    pub(super) fn fault(&self) -> Option<(&Event, &str)> {
        self.events.iter().find_map(|event| match &event.what {
            What::Fault { node, .. } => Some((event, node.as_str())),
            _ => None,
        })
    }

    /// What was reported of a check last.
    fn reported(&self, id: &str) -> Option<&CheckResult> {
        self.events.iter().rev().find_map(|event| match &event.what {
            What::Check(check) if check.id == id => Some(check),
            _ => None,
        })
    }

    /// Whether somebody let a step or check off.
    fn is_waived(&self, id: &str) -> bool {
        self.events.iter().any(|event| matches!(&event.what, What::Waive { id: waived, .. } if waived == id))
    }

    /// What it amounts to.
    pub(super) fn result(&self) -> RunResult {
        let steps = self.steps();
        let last = self.events.last().expect("a timeline has its beginning");
        let measured = self.measured();
        let checks = self.checks(&measured, &steps);
        let verdict = self.verdict(&steps, &checks);
        let failed_step = steps.iter().find(|step| step.status == StepStatus::Failed).map(|step| step.id.clone());
        let begun = self.events.iter().find_map(|event| match &event.what {
            What::Recorded { phase, seq, digest } if phase == "begun" => Some(Pointer { seq: *seq, digest: *digest }),
            _ => None,
        });
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
            grade: self.grade(&checks),
            verdict,
            failed_step,
            operator: self.begin.operator.clone(),
            approver: Some(self.begin.approver.clone()).filter(|approver| !approver.is_empty()),
            reason: self.begin.reason.clone(),
            challenge: self.plan.challenge.clone().filter(|challenge| !challenge.is_empty()),
            plan_sha256: self.plan.plan_sha256,
            chain: self.begin.chain,
            root: self.begin.root,
            begun,
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
            duration_ms: Self::between(&self.events[0], last),
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
        let lost = self.sentinel.as_ref().map(measure::lost);
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
            let sample = series.samples().find(|sample| sample.done_ns == change.first_good_ns)?;
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
            restored_bytes: newest.map(|_| receipts.clone().map(|receipt| receipt.restored.bytes).sum()),
            restored_files: newest.map(|_| receipts.clone().map(|receipt| receipt.restored.files).sum()),
        }
    }

    /// The steps of the plan, and what is done at the end, each as its last attempt ended.
    fn steps(&self) -> Vec<Step> {
        let planned = self.plan.steps.iter().chain(&self.plan.always);
        let of_plan: Vec<Step> = planned
            .map(|planned| {
                self.step(&planned.id, &planned.phase, &planned.title, planned.timeout_seconds.saturating_mul(1000))
            })
            .collect();
        // The way back is in the timeline only when it was gone.
        let mut others = Vec::new();
        for event in &self.events {
            if let (What::StepBegin { phase, title, timebox_ms }, Some(id)) = (&event.what, &event.step)
                && of_plan.iter().chain(&others).all(|step: &Step| step.id != *id)
            {
                others.push(self.step(id, phase, title, timebox_ms.unwrap_or(u64::MAX / MS)));
            }
        }
        of_plan.into_iter().chain(others).collect()
    }

    fn step(&self, id: &str, phase: &str, title: &str, timebox_ms: u64) -> Step {
        let of = |event: &&Event| event.step.as_deref() == Some(id);
        let begun = self.events.iter().filter(of).find(|event| matches!(event.what, What::StepBegin { .. }));
        let ended = self.events.iter().rev().filter(of).find(|event| matches!(event.what, What::StepEnd { .. }));
        let (status, error, evidence) = match ended.map(|event| &event.what) {
            Some(What::StepEnd { status, error, evidence }) => (*status, error.clone(), evidence.clone()),
            // Begun and never ended: whoever did it is gone.
            _ if begun.is_some() => (StepStatus::Failed, None, Vec::new()),
            _ => (StepStatus::NotRun, None, Vec::new()),
        };
        Step {
            id: id.to_owned(),
            phase: phase.to_owned(),
            title: title.to_owned(),
            status,
            start_ms: begun.and_then(|event| self.after_begin(&event.boot_id, event.mono_ns)),
            duration_ms: begun.zip(ended).map(|(begun, ended)| Self::between(begun, ended)),
            timebox_ms,
            error,
            evidence,
        }
    }

    fn phases(&self, steps: &[Step]) -> Vec<Phase> {
        let mut phases: Vec<Phase> = Vec::new();
        for step in steps {
            let ends = step.start_ms.zip(step.duration_ms).map(|(start, took)| start + took);
            match phases.iter_mut().find(|phase| phase.id == step.phase) {
                Some(phase) => {
                    phase.status = worse(phase.status, step.status);
                    phase.start_ms = phase.start_ms.or(step.start_ms);
                    if let (Some(start), Some(ends)) = (phase.start_ms, ends) {
                        phase.duration_ms = Some(phase.duration_ms.unwrap_or(0).max(ends.saturating_sub(start)));
                    }
                }
                None => phases.push(Phase {
                    id: step.phase.clone(),
                    status: step.status,
                    start_ms: step.start_ms,
                    duration_ms: step.duration_ms,
                    timebox_ms: self
                        .plan
                        .thresholds
                        .get(&format!("{}_seconds", step.phase))
                        .map(|seconds| seconds.saturating_mul(1000)),
                }),
            }
        }
        phases
    }

    /// Every check of the plan and every one that was reported, by id.
    fn checks(&self, measured: &Measured, steps: &[Step]) -> Vec<Check> {
        let mut ids: BTreeMap<&str, bool> = BTreeMap::new();
        for event in &self.events {
            if let What::Check(check) = &event.what {
                ids.insert(&check.id, false);
            }
        }
        for check in &self.plan.checks {
            let required = ids.entry(&check.id).or_default();
            *required = *required || check.required;
        }
        ids.into_iter().map(|(id, required)| self.check(id, required, measured, steps)).collect()
    }

    fn check(&self, id: &str, required: bool, measured: &Measured, steps: &[Step]) -> Check {
        let reported = self.reported(id);
        // A dry run has nothing that could be computed from, and shows nothing.
        let computed = match self.plan.mode {
            Mode::Simulated => None,
            Mode::Execute => rules::judge(id, self, measured, steps),
        };
        let check = |status, claim, observed: String, expected: String, source: String| Check {
            id: id.to_owned(),
            required,
            status,
            claim,
            observed,
            expected,
            source,
        };
        if self.is_waived(id) {
            let observed = "it was waived".to_owned();
            return check(CheckStatus::Skipped, Claim::Unproven, observed, String::new(), timeline::FILE.to_owned());
        }
        match (computed, reported) {
            (Some(found), Some(said)) if found.holds && said.status == CheckStatus::Failed => check(
                CheckStatus::Failed,
                Claim::Asserted,
                said.observed.clone(),
                said.expected.clone(),
                said.source.clone(),
            ),
            (Some(found), _) => {
                let status = if found.holds { CheckStatus::Passed } else { CheckStatus::Failed };
                // That somebody said all that has to be said does not make it true.
                let claim = if id == "after-action" { Claim::Asserted } else { Claim::Proven };
                check(status, claim, found.observed, found.expected, found.source)
            }
            (None, Some(said)) => self.asserted(said, check),
            (None, None) => {
                let why = "nothing in the bundle speaks of it".to_owned();
                check(CheckStatus::Skipped, Claim::Unproven, why, String::new(), String::new())
            }
        }
    }

    /// What somebody says and nothing in the bundle lets compute: asserted, and only with the file that it names.
    fn asserted(
        &self,
        said: &CheckResult,
        check: impl Fn(CheckStatus, Claim, String, String, String) -> Check,
    ) -> Check {
        let file = said.source.split('#').next().unwrap_or_default();
        let is_file =
            file.contains('/') && !file.contains("://") || file.ends_with(".json") || file.ends_with(".jsonl");
        if is_file && !file.starts_with('/') && self.files.get(file).is_none() {
            let observed = format!("{}; {file}, which should show it, is not in the bundle", said.observed);
            let (expected, source) = (said.expected.clone(), said.source.clone());
            return check(CheckStatus::Skipped, Claim::Unproven, observed, expected, source);
        }
        let claim = match said.status {
            CheckStatus::Skipped => Claim::Unproven,
            _ => said.claim.max(Claim::Asserted),
        };
        check(said.status, claim, said.observed.clone(), said.expected.clone(), said.source.clone())
    }

    fn verdict(&self, steps: &[Step], checks: &[Check]) -> Verdict {
        if self.events.iter().any(|event| matches!(event.what, What::Abort { .. })) {
            return Verdict::Aborted;
        }
        let ended = self.events.iter().rev().find_map(|event| match &event.what {
            What::End { passed } => Some(*passed),
            _ => None,
        });
        let done = |step: &Step| !matches!(step.status, StepStatus::Failed | StepStatus::NotRun);
        let simulated = self.plan.mode == Mode::Simulated;
        let holds = |check: &Check| match check.status {
            CheckStatus::Passed => true,
            CheckStatus::Failed => false,
            // C75: skipped is not proven, and not proven is failed. A dry run proves nothing anyway.
            CheckStatus::Skipped => simulated,
        };
        let good = ended == Some(true)
            && steps.iter().all(done)
            && checks.iter().filter(|check| check.required).all(holds)
            && self.problems.is_empty();
        if good { Verdict::Passed } else { Verdict::Failed }
    }

    fn grade(&self, checks: &[Check]) -> Grade {
        let passed = |id: &str| checks.iter().any(|check| check.id == id && check.status == CheckStatus::Passed);
        let proven = |id: &str| passed(id) && checks.iter().any(|check| check.id == id && check.claim == Claim::Proven);
        let by_hand = self.events.iter().any(|event| matches!(event.what, What::Manual { .. } | What::Waive { .. }));
        let took_over = !self.changes.is_empty();
        match self.plan.mode {
            Mode::Simulated => Grade::Simulated,
            Mode::Execute if took_over && passed("cold-restore") => {
                let best = proven("tool-unchanged") && proven("teardown") && !by_hand;
                if best { Grade::Aaa } else { Grade::Full }
            }
            Mode::Execute if took_over => Grade::LiveTakeover,
            Mode::Execute => Grade::IsolatedRestore,
        }
    }

    fn faults(&self) -> Vec<Fault> {
        self.collect(|event| match &event.what {
            What::Fault { fault, node, at_mono_ns, boot_id } => {
                let heals = |event: &Event| {
                    matches!(&event.what, What::Heal { fault: healed, node: at, .. } if (healed, at) == (fault, node))
                };
                Some(Fault {
                    fault: fault.clone(),
                    node: node.clone(),
                    at_ms: self.after_begin(boot_id, *at_mono_ns),
                    healed: self.events.iter().any(heals),
                })
            }
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

/// The worse of two ends.
fn worse(a: StepStatus, b: StepStatus) -> StepStatus {
    let rank = |status: StepStatus| match status {
        StepStatus::Ok => 0,
        StepStatus::Skipped => 1,
        StepStatus::Waived => 2,
        StepStatus::NotRun => 3,
        StepStatus::Failed => 4,
    };
    if rank(a) >= rank(b) { a } else { b }
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
    Ok(plan)
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
