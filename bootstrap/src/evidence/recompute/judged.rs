//! Judging: what became of steps, phases and checks, how the run ended, and how far it went. Layer: pure.

use std::collections::BTreeMap;

use super::super::event::{CheckResult, CheckStatus, Claim, Failure, Mode, StepStatus, What};
use super::super::facts::PlannedStep;
use super::super::measure::MS;
use super::super::result::{Check, Grade, Measured, Phase, Step, Verdict};
use super::super::rules;
use super::super::timeline::{self, Event};
use super::Run;

impl Run<'_> {
    /// The steps of the plan, and what is done at the end, each as its last attempt ended.
    pub(super) fn steps(&self) -> Vec<Step> {
        // When each began first, and ended last.
        let mut ends: BTreeMap<&str, (Option<&Event>, Option<&Event>)> = BTreeMap::new();
        for event in &self.events {
            let Some(id) = event.step.as_deref() else { continue };
            match event.what {
                What::StepBegin { .. } => drop(ends.entry(id).or_default().0.get_or_insert(event)),
                What::StepEnd { .. } => ends.entry(id).or_default().1 = Some(event),
                _ => {}
            }
        }
        let mut steps = Vec::new();
        for planned in self.plan.steps.iter().chain(&self.plan.always) {
            let timebox_ms = planned.timeout_seconds.saturating_mul(1000);
            let (begun, ended) = ends.remove(planned.id.as_str()).unwrap_or_default();
            steps.push(self.step(&planned.id, &planned.phase, &planned.title, timebox_ms, begun, ended));
        }
        // The way back is in the timeline only when it was gone.
        let mut others: Vec<(&str, &Event, Option<&Event>)> =
            ends.into_iter().filter_map(|(id, (begun, ended))| Some((id, begun?, ended))).collect();
        others.sort_by_key(|(_, begun, _)| begun.i);
        for (id, begun, ended) in others {
            if let What::StepBegin { phase, title, timebox_ms } = &begun.what {
                let timebox_ms = timebox_ms.unwrap_or(u64::MAX / MS);
                steps.push(self.step(id, phase, title, timebox_ms, Some(begun), ended));
            }
        }
        steps
    }

    fn step(
        &self,
        id: &str,
        phase: &str,
        title: &str,
        timebox_ms: u64,
        begun: Option<&Event>,
        ended: Option<&Event>,
    ) -> Step {
        let in_order = begun.zip(ended).is_some_and(|(begun, ended)| begun.i < ended.i);
        let (status, error, evidence) = match ended.map(|event| &event.what) {
            Some(What::StepEnd { status: StepStatus::Ok | StepStatus::Skipped | StepStatus::Waived, .. })
                if !in_order =>
            {
                let text = "it ended before it began".to_owned();
                (StepStatus::Failed, Some(Failure { code: "never-begun".to_owned(), text }), Vec::new())
            }
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
            start_ms: begun.and_then(|event| self.after_begin(&event.boot_id, event.mono_us)),
            duration_ms: begun.zip(ended).and_then(|(begun, ended)| Self::between(begun, ended)),
            timebox_ms,
            error,
            evidence,
        }
    }

    pub(super) fn phases(&self, steps: &[Step]) -> Vec<Phase> {
        let mut phases: Vec<Phase> = Vec::new();
        for step in steps {
            let ends = step.start_ms.zip(step.duration_ms).map(|(start, took)| start.saturating_add(took));
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
    pub(super) fn checks(&self, measured: &Measured, steps: &[Step]) -> Vec<Check> {
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
                check(status, found.claim, found.observed, found.expected, found.source)
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

    pub(super) fn verdict(&self, steps: &[Step], checks: &[Check]) -> Verdict {
        if self.events.iter().any(|event| matches!(event.what, What::Abort { .. })) {
            return Verdict::Aborted;
        }
        let ended = self.events.iter().rev().find_map(|event| match &event.what {
            What::End { passed } => Some(*passed),
            _ => None,
        });
        let simulated = self.plan.mode == Mode::Simulated;
        let planned = || self.plan.steps.iter().chain(&self.plan.always);
        let may_be_skipped = |id: &str| planned().find(|step| step.id == id).is_none_or(PlannedStep::may_be_skipped);
        let done = |step: &Step| match step.status {
            StepStatus::Ok => true,
            StepStatus::Skipped => simulated || may_be_skipped(&step.id),
            StepStatus::Waived => self.is_waived(&step.id),
            StepStatus::Failed | StepStatus::NotRun => false,
        };
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

    /// How far it went, by what others than whoever ran it show. What did not pass went nowhere.
    pub(super) fn grade(&self, verdict: Verdict, checks: &[Check]) -> Grade {
        let passed = |id: &str| checks.iter().any(|check| check.id == id && check.status == CheckStatus::Passed);
        let proven = |id: &str| passed(id) && checks.iter().any(|check| check.id == id && check.claim == Claim::Proven);
        let by_hand = self.events.iter().any(|event| matches!(event.what, What::Manual { .. } | What::Waive { .. }));
        let another = self.changes.iter().any(|change| change.from_node != change.to_node);
        // Where nobody measured before the leader was lost, the lease tells who led, and whom clients were led to.
        let took_over = proven("lease-flips") && (another || passed("traffic-at-holder"));
        match self.plan.mode {
            Mode::Simulated => Grade::Simulated,
            Mode::Execute if verdict != Verdict::Passed => Grade::None,
            Mode::Execute if took_over && proven("cold-restore") => {
                let best = passed("tool-unchanged") && passed("teardown") && !by_hand;
                if best { Grade::Aaa } else { Grade::Full }
            }
            Mode::Execute if took_over => Grade::LiveTakeover,
            Mode::Execute if proven("cold-restore") => Grade::IsolatedRestore,
            Mode::Execute => Grade::None,
        }
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
