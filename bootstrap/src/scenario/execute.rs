//! Doing a plan: step by step, each journalled before and after, stopped at the first that fails.
//!
//! A step's begin is durable before it is acted and its end before the next one begins, so whoever finds the journal of a
//! killed orchestrator knows what may have happened: every step before, and perhaps the one that was begun, which is acted
//! again with [`Attempt::Again`]. After the first failure nothing more is changed; what is left is `not_run`, and only the
//! plan's `always` steps are still done. Layer: acts through [`Actor`], writes through [`Journal`].

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::grammar::{Effect, Unless};
use super::plan::{Plan, Step};
use crate::evidence::event::{Actor as By, CheckResult, CheckStatus, Failure, Mode, StepStatus, What};
use crate::evidence::timeline::{Event, Timeline};

/// The longest note in characters.
const NOTE_CAP: usize = 4000;

/// What became of a step.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// How it ended.
    pub status: StepStatus,
    /// Why it failed or was left out.
    pub error: Option<Failure>,
    /// Files of the run directory that it wrote.
    pub evidence: Vec<String>,
    /// The checks that it decided.
    pub checks: Vec<CheckResult>,
    /// What was seen or done, for people; empty where the step says it all.
    pub note: String,
}

impl Outcome {
    fn of(status: StepStatus, error: Option<Failure>, note: String) -> Self {
        Self { status, error, evidence: Vec::new(), checks: Vec::new(), note }
    }

    /// It did what it says; `note` is what was seen or done.
    pub fn ok(note: impl Into<String>) -> Self {
        Self::of(StepStatus::Ok, None, note.into())
    }

    /// It did not. `code` is a stable word: `timeout`, `refused`, `unreachable`, `not-so`, ….
    pub fn failed(code: &str, text: impl Into<String>) -> Self {
        Self::of(StepStatus::Failed, Some(Failure { code: code.to_owned(), text: text.into() }), String::new())
    }

    /// It has nothing to do, or was left out.
    pub fn skipped(text: impl Into<String>) -> Self {
        Self::of(StepStatus::Skipped, Some(Failure { code: "skipped".to_owned(), text: text.into() }), String::new())
    }

    /// The same, with one check more.
    pub fn with(mut self, check: CheckResult) -> Self {
        self.checks.push(check);
        self
    }

    /// The same, with a file of the run directory as evidence.
    pub fn evidence(mut self, path: impl Into<String>) -> Self {
        self.evidence.push(path.into());
        self
    }

    /// Whether what follows may be done.
    pub fn is_good(&self) -> bool {
        matches!(self.status, StepStatus::Ok | StepStatus::Skipped | StepStatus::Waived)
    }
}

/// Whether a step may have been acted before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attempt {
    /// It is begun for the first time.
    First,
    /// An orchestrator was killed or stopped between its begin and its end: what it does may be done, or half done.
    Again,
}

/// One step's turn.
pub struct Turn<'t> {
    /// The plan.
    pub plan: &'t Plan,
    /// The step.
    pub step: &'t Step,
    /// Whether it may have been acted before.
    pub attempt: Attempt,
    /// Its limit.
    pub within: Duration,
    /// Where an actor writes what must be durable before it goes on: faults, probers, debts.
    pub journal: &'t mut dyn Journal,
}

/// Does steps.
///
/// An act is not begun before its begin is durable, and may be called again for the same step after a crash, so what it
/// changes it must change once: it looks first. It keeps to the step's limit, and never panics on what a node answers.
pub trait Actor {
    /// Does a step.
    fn act(&mut self, turn: &mut Turn<'_>) -> Outcome;

    /// Goes through a step of a simulated plan without changing anything: what only looks looks, the rest says what it would
    /// do.
    fn rehearse(&mut self, turn: &mut Turn<'_>) -> Outcome;

    /// Whether a step has nothing to do. What cannot be found out is not so.
    fn is_so(&mut self, plan: &Plan, unless: &Unless) -> bool;
}

/// Keeps what happened. What was added is durable when `add` returns.
pub trait Journal {
    /// Adds an event.
    ///
    /// # Errors
    /// When it cannot be made durable; nothing may be acted then.
    fn add(&mut self, by: By, step: Option<&str>, what: What) -> io::Result<()>;

    /// The events so far with their steps, the oldest first.
    fn past(&self) -> Vec<(Option<&str>, &What)>;
}

/// A timeline with what stood in it when it was opened.
#[derive(Debug)]
pub struct Kept {
    timeline: Timeline,
    events: Vec<Event>,
}

impl Kept {
    /// Begins the timeline of the run in `directory`; `node` names this machine.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn create(directory: &Path, node: &str) -> io::Result<Self> {
        Ok(Self { timeline: Timeline::create(directory, node)?, events: Vec::new() })
    }

    /// Goes on with it.
    ///
    /// # Errors
    /// When there is none, or it was edited.
    pub fn resume(directory: &Path, node: &str) -> io::Result<Self> {
        let (events, timeline) = Timeline::resume(directory, node)?;
        Ok(Self { timeline, events })
    }
}

impl Journal for Kept {
    fn add(&mut self, by: By, step: Option<&str>, what: What) -> io::Result<()> {
        let event = self.timeline.add(by, step, what)?;
        self.events.push(event);
        Ok(())
    }

    fn past(&self) -> Vec<(Option<&str>, &What)> {
        self.events.iter().map(|event| (event.step.as_deref(), &event.what)).collect()
    }
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Every step ended well, and no check failed.
    Passed,
    /// A step or a check failed.
    Failed,
    /// It was taken back.
    Aborted,
    /// It was taken back, and the way back failed, too.
    AbortFailed,
}

/// What became of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Finished {
    /// How it ended; `None` if it was interrupted between two steps and can be resumed or aborted.
    pub verdict: Option<Verdict>,
    /// The first step that failed.
    pub failed_step: Option<String>,
    /// Every step with what became of it, in the order in which they stand in the plan.
    pub steps: Vec<(String, Outcome)>,
}

/// Why a run could not go on. What was acted is in the journal.
#[derive(Debug, thiserror::Error)]
pub enum ExecuteError {
    /// The journal cannot be kept; nothing may be acted then.
    #[error("the timeline cannot be kept")]
    Journal(#[from] io::Error),
    /// It has an end.
    #[error("this run has ended already, and it {0}")]
    Ended(&'static str),
    /// It is being taken back.
    #[error("this run is being taken back, and cannot be gone on with")]
    Aborting,
    /// The plan is not what its digest says.
    #[error("the stored plan was changed: its digest is not the one that stands in it")]
    Edited,
}

impl ExecuteError {
    /// The run has an end.
    pub fn ended(passed: bool) -> Self {
        Self::Ended(if passed { "passed" } else { "did not pass" })
    }
}

/// Does a plan from wherever its journal ends, to its end or to the first step that fails.
///
/// `stopped` is asked between steps; once it says yes, nothing more is begun, and the run can be resumed or aborted.
///
/// # Errors
/// [`ExecuteError`] when nothing may be acted.
pub fn run(
    plan: &Plan,
    journal: &mut dyn Journal,
    actor: &mut dyn Actor,
    stopped: &dyn Fn() -> bool,
) -> Result<Finished, ExecuteError> {
    let past = Past::of(plan, &journal.past())?.going_on()?;
    if past.aborting {
        return Err(ExecuteError::Aborting);
    }
    let mut run = Run { plan, journal, actor, stopped, past, finished: Finished::new() };
    let forward = run.go(&plan.steps)?;
    run.conclude(forward, Verdict::Passed, Verdict::Failed)
}

/// Takes a run back from wherever its journal ends: what was begun counts as failed, the rest as not run, and the stored way
/// back is gone to its end.
///
/// # Errors
/// [`ExecuteError`] when nothing may be acted.
pub fn abort(
    plan: &Plan,
    reason: &str,
    journal: &mut dyn Journal,
    actor: &mut dyn Actor,
    stopped: &dyn Fn() -> bool,
) -> Result<Finished, ExecuteError> {
    let past = Past::of(plan, &journal.past())?.going_on()?;
    let mut run = Run { plan, journal, actor, stopped, past, finished: Finished::new() };
    if !run.past.aborting {
        run.journal.add(By::Tool, None, What::Abort { reason: reason.to_owned() })?;
    }
    let changes = |step: &&Step| step.effect != Effect::Read && run.past.begun.contains(&step.id);
    let is_changed = plan.steps.iter().any(|step| changes(&step));
    run.leave_off(&plan.steps, reason)?;
    let back = match is_changed {
        true => run.go(&plan.rollback)?,
        // Whatever is so now was not done by this run, and is not its to undo.
        false => run.leave_out(&plan.rollback, "this run had changed nothing")?,
    };
    run.conclude(back, Verdict::Aborted, Verdict::AbortFailed)
}

/// What became of a run, by its events: its orchestrator may have been killed between the end and the seal. `None` for one that
/// goes on.
///
/// # Errors
/// [`ExecuteError::Edited`]
pub fn concluded(plan: &Plan, past: &[(Option<&str>, &What)]) -> Result<Option<Finished>, ExecuteError> {
    let past = Past::of(plan, past)?;
    let Some(passed) = past.passed else { return Ok(None) };
    let all = || plan.steps.iter().chain(&plan.rollback).chain(&plan.always);
    let is_bad = |step: &&Step| past.outcome(&step.id).is_some_and(|outcome| !outcome.is_good());
    // As `conclude` judges: a way back by its own steps, and by those at the end that change something.
    let changing = plan.always.iter().filter(|step| step.effect != Effect::Read);
    let back_failed = plan.rollback.iter().chain(changing).any(|step| is_bad(&step));
    let verdict = match (passed, past.aborting) {
        (true, _) => Verdict::Passed,
        (false, false) => Verdict::Failed,
        (false, true) if back_failed => Verdict::AbortFailed,
        (false, true) => Verdict::Aborted,
    };
    let failed = |step: &&Step| past.outcome(&step.id).is_some_and(|outcome| outcome.status == StepStatus::Failed);
    let steps = all().filter_map(|step| Some((step.id.clone(), past.outcome(&step.id)?.clone())));
    Ok(Some(Finished {
        verdict: Some(verdict),
        failed_step: all().find(failed).map(|step| step.id.clone()),
        steps: steps.collect(),
    }))
}

impl Finished {
    fn new() -> Self {
        Self { verdict: None, failed_step: None, steps: Vec::new() }
    }

    /// What became of a step.
    pub fn step(&self, id: &str) -> Option<&Outcome> {
        self.steps.iter().find(|(step, _)| step == id).map(|(_, outcome)| outcome)
    }
}

/// What a journal says of an earlier orchestrator of this run.
#[derive(Debug, Default)]
struct Past {
    begun: Vec<String>,
    ended: Vec<(String, Outcome)>,
    checks: BTreeMap<String, Vec<CheckResult>>,
    aborting: bool,
    /// Whether it passed; `None` while it has no end.
    passed: Option<bool>,
}

impl Past {
    fn going_on(self) -> Result<Self, ExecuteError> {
        match self.passed {
            None => Ok(self),
            Some(passed) => Err(ExecuteError::ended(passed)),
        }
    }

    fn of(plan: &Plan, events: &[(Option<&str>, &What)]) -> Result<Self, ExecuteError> {
        if !plan.is_sound() {
            return Err(ExecuteError::Edited);
        }
        let mut past = Self::default();
        for (step, what) in events.iter().copied() {
            match (what, step) {
                (What::StepBegin { .. }, Some(step)) => past.begun.push(step.to_owned()),
                (What::StepEnd { status, error, evidence }, Some(step)) => {
                    let outcome = Outcome::of(*status, error.clone(), String::new());
                    let checks = past.checks.remove(step).unwrap_or_default();
                    let outcome = Outcome { evidence: evidence.clone(), checks, ..outcome };
                    past.ended.push((step.to_owned(), outcome));
                }
                (What::Check(check), Some(step)) => {
                    // A step that is acted again decides its checks again.
                    let checks = past.checks.entry(step.to_owned()).or_default();
                    checks.retain(|before| before.id != check.id);
                    checks.push(check.clone());
                }
                (What::Abort { .. }, _) => past.aborting = true,
                (What::End { passed }, _) => past.passed = Some(*passed),
                _ => {}
            }
        }
        Ok(past)
    }

    fn outcome(&self, step: &str) -> Option<&Outcome> {
        self.ended.iter().find(|(id, _)| id == step).map(|(_, outcome)| outcome)
    }
}

/// How a list of steps ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Gone {
    Well,
    Badly,
    Interrupted,
}

struct Run<'r> {
    plan: &'r Plan,
    journal: &'r mut dyn Journal,
    actor: &'r mut dyn Actor,
    stopped: &'r dyn Fn() -> bool,
    past: Past,
    finished: Finished,
}

impl Run<'_> {
    /// Does steps in order up to the first that fails.
    fn go(&mut self, steps: &[Step]) -> Result<Gone, ExecuteError> {
        let mut gone = Gone::Well;
        for step in steps {
            let before = self.past.outcome(&step.id).cloned();
            let outcome = match before {
                Some(outcome) => outcome,
                None if gone == Gone::Badly => self.leave(step, "an earlier step failed")?,
                None if (self.stopped)() => return Ok(Gone::Interrupted),
                None => self.take(step)?,
            };
            if !outcome.is_good() && gone == Gone::Well {
                gone = Gone::Badly;
                self.finished.failed_step.get_or_insert_with(|| step.id.clone());
            }
            self.finished.steps.push((step.id.clone(), outcome));
        }
        Ok(gone)
    }

    /// Does one step: its begin, the act, its checks, its end.
    fn take(&mut self, step: &Step) -> Result<Outcome, ExecuteError> {
        let attempt = if self.past.begun.contains(&step.id) { Attempt::Again } else { Attempt::First };
        let timebox_ms = Some(step.timeout_seconds.saturating_mul(1000));
        let (phase, title) = (step.phase.clone(), step.title.clone());
        self.journal.add(By::Tool, Some(&step.id), What::StepBegin { phase, title, timebox_ms })?;
        let within = Duration::from_secs(step.timeout_seconds);
        let idle = step.unless.as_ref().filter(|unless| self.actor.is_so(self.plan, unless));
        let mut turn = Turn { plan: self.plan, step, attempt, within, journal: &mut *self.journal };
        let outcome = match idle {
            Some(unless) => Outcome::skipped(format!("nothing to do: {} {} already", unless.on, unless.is)),
            None if self.plan.mode == Mode::Simulated => self.actor.rehearse(&mut turn),
            None => self.actor.act(&mut turn),
        };
        for check in &outcome.checks {
            self.journal.add(By::Tool, Some(&step.id), What::Check(check.clone()))?;
        }
        if !outcome.note.is_empty() {
            let text = outcome.note.chars().take(NOTE_CAP).collect();
            self.journal.add(By::Tool, Some(&step.id), What::Note { text })?;
        }
        self.end(step, &outcome)?;
        Ok(outcome)
    }

    /// Notes that a step was not done.
    fn leave(&mut self, step: &Step, why: &str) -> Result<Outcome, ExecuteError> {
        let error = Failure { code: "not-run".to_owned(), text: why.to_owned() };
        let outcome = Outcome::of(StepStatus::NotRun, Some(error), String::new());
        self.end(step, &outcome)?;
        Ok(outcome)
    }

    /// Closes the steps of a run that is taken back: one that was begun may be half done.
    fn leave_off(&mut self, steps: &[Step], reason: &str) -> Result<(), ExecuteError> {
        for step in steps {
            let outcome = match self.past.outcome(&step.id).cloned() {
                Some(outcome) => outcome,
                None if self.past.begun.contains(&step.id) => {
                    let mut outcome = Outcome::failed("interrupted", format!("taken back: {reason}"));
                    // What it had decided before it was killed stands in the journal.
                    outcome.checks = self.past.checks.remove(&step.id).unwrap_or_default();
                    self.end(step, &outcome)?;
                    outcome
                }
                None => self.leave(step, &format!("taken back: {reason}"))?,
            };
            if outcome.status == StepStatus::Failed {
                self.finished.failed_step.get_or_insert_with(|| step.id.clone());
            }
            self.finished.steps.push((step.id.clone(), outcome));
        }
        Ok(())
    }

    /// Notes that steps have nothing to do.
    fn leave_out(&mut self, steps: &[Step], why: &str) -> Result<Gone, ExecuteError> {
        for step in steps {
            let outcome = match self.past.outcome(&step.id).cloned() {
                Some(outcome) => outcome,
                None => {
                    let outcome = Outcome::skipped(why);
                    self.end(step, &outcome)?;
                    outcome
                }
            };
            self.finished.steps.push((step.id.clone(), outcome));
        }
        Ok(Gone::Well)
    }

    fn end(&mut self, step: &Step, outcome: &Outcome) -> Result<(), ExecuteError> {
        let (status, error, evidence) = (outcome.status, outcome.error.clone(), outcome.evidence.clone());
        Ok(self.journal.add(By::Tool, Some(&step.id), What::StepEnd { status, error, evidence })?)
    }

    /// Does what is done always, and ends the run.
    fn conclude(mut self, gone: Gone, good: Verdict, bad: Verdict) -> Result<Finished, ExecuteError> {
        if gone == Gone::Interrupted {
            return Ok(self.finished);
        }
        // Each of them is tried, whatever became of the others.
        let mut all_well = gone == Gone::Well;
        for step in &self.plan.always {
            match self.go(std::slice::from_ref(step))? {
                Gone::Well => {}
                // What only looks judges a run, not its way back: what it would look at may never have been begun.
                Gone::Badly if good == Verdict::Aborted && step.effect == Effect::Read => {}
                Gone::Badly => all_well = false,
                Gone::Interrupted => return Ok(self.finished),
            }
        }
        let failed = |(_, outcome): &(String, Outcome)| {
            outcome.checks.iter().any(|check| check.status == CheckStatus::Failed && self.plan.requires(&check.id))
        };
        // A run that is taken back is judged by its way back alone.
        let failed_check = good == Verdict::Passed && self.finished.steps.iter().any(failed);
        let verdict = if all_well && !failed_check { good } else { bad };
        self.journal.add(By::Tool, None, What::End { passed: verdict == Verdict::Passed })?;
        self.finished.verdict = Some(verdict);
        Ok(self.finished)
    }
}

#[cfg(test)]
mod tests;
