//! Doing a plan: step by step, each journalled before and after, stopped at the first that fails.
//!
//! A step's begin is durable before it is acted and its end before the next one begins, so whoever finds the journal of a
//! killed orchestrator knows what may have happened: every step before, and perhaps the one that was begun, which is acted
//! again with [`Attempt::Again`]. After the first failure nothing more is changed; what is left is `not_run`, and only the
//! plan's `always` steps are still done. Layer: acts through [`Actor`], writes through [`Journal`].

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::grammar::Unless;
use super::plan::{Plan, RunMode, Step};

/// How a step ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// It did what it says.
    Ok,
    /// It did not.
    Failed,
    /// It was left out, for a reason.
    Skipped,
    /// It was not begun, because an earlier one failed.
    NotRun,
    /// A person decided that it is not needed.
    Waived,
}

/// Why a step failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepError {
    /// A stable word: `timeout`, `refused`, `unreachable`, `not-so`, ….
    pub code: String,
    /// What was expected and found.
    pub text: String,
}

/// What an actor saw that decides a check.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Checked {
    /// The check.
    pub id: String,
    /// `passed`, `failed` or `skipped`.
    pub status: CheckStatus,
    /// How strong that is.
    pub claim: Claim,
    /// What was seen.
    pub observed: Value,
    /// What was to be seen.
    pub expected: Value,
    /// Where it was seen: a file of the run with a pointer, a URL, a command.
    pub source: String,
}

/// Whether a check holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckStatus {
    /// It holds.
    Passed,
    /// It does not.
    Failed,
    /// It was not looked at.
    Skipped,
}

/// How strong a claim is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Claim {
    /// It follows from what was measured.
    Proven,
    /// Somebody says so.
    Asserted,
    /// Nothing shows it.
    Unproven,
}

/// What became of a step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// How it ended.
    pub status: Status,
    /// Why it failed or was left out.
    pub error: Option<StepError>,
    /// Files of the run directory that it wrote.
    pub evidence: Vec<String>,
    /// The checks that it decided.
    pub checks: Vec<Checked>,
    /// What was seen, for the timeline.
    pub observed: Value,
}

impl Outcome {
    /// It did what it says.
    pub fn ok(observed: Value) -> Self {
        Self { status: Status::Ok, error: None, evidence: Vec::new(), checks: Vec::new(), observed }
    }

    /// It did not.
    pub fn failed(code: &str, text: impl Into<String>, observed: Value) -> Self {
        let error = Some(StepError { code: code.to_owned(), text: text.into() });
        Self { status: Status::Failed, error, ..Self::ok(observed) }
    }

    /// It has nothing to do.
    pub fn skipped(text: impl Into<String>) -> Self {
        let error = Some(StepError { code: "skipped".to_owned(), text: text.into() });
        Self { status: Status::Skipped, error, ..Self::ok(Value::Null) }
    }

    /// The same, with one check more.
    pub fn with(mut self, check: Checked) -> Self {
        self.checks.push(check);
        self
    }

    /// The same, with a file of the run directory as evidence.
    pub fn evidence(mut self, path: impl Into<String>) -> Self {
        self.evidence.push(path.into());
        self
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

/// Does steps.
///
/// An act is not begun before its begin is durable, and may be called again for the same step after a crash, so what it
/// changes it must change once: it looks first. It keeps to the step's limit, and never panics on what a node answers.
pub trait Actor {
    /// Does a step. `within` is what is left of its limit.
    fn act(&mut self, plan: &Plan, step: &Step, attempt: Attempt, within: Duration) -> Outcome;

    /// Goes through a step without changing anything: the same looks, and what would be done as `observed`.
    ///
    /// Called for steps with [`super::Effect::Read`] and others alike while a plan is simulated.
    fn rehearse(&mut self, plan: &Plan, step: &Step, within: Duration) -> Outcome;

    /// Whether a step has nothing to do. What cannot be found out is not so.
    fn is_so(&mut self, plan: &Plan, unless: &Unless) -> bool;
}

/// Keeps what happened. What was added is durable when `add` returns.
pub trait Journal {
    /// Adds an event.
    ///
    /// # Errors
    /// When it cannot be made durable; nothing may be acted then.
    fn add(&mut self, step: Option<&str>, kind: &str, data: Value) -> std::io::Result<()>;

    /// The events so far, as `(step, kind, data)`, the oldest first.
    ///
    /// # Errors
    /// When they cannot be read.
    fn events(&self) -> std::io::Result<Vec<(Option<String>, String, Value)>>;
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
    Journal(#[from] std::io::Error),
    /// It has an end.
    #[error("this run has ended already: {0}")]
    Ended(String),
    /// It is being taken back.
    #[error("this run is being taken back, and cannot be gone on with")]
    Aborting,
    /// The plan is not what its digest says.
    #[error("the stored plan was changed: its digest is not the one that stands in it")]
    Edited,
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
    let past = Past::of(plan, journal)?;
    if past.aborting {
        return Err(ExecuteError::Aborting);
    }
    let mut run = Run { plan, journal, actor, stopped, past, finished: Finished::new() };
    run.enter()?;
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
    let past = Past::of(plan, journal)?;
    let aborting = past.aborting;
    let mut run = Run { plan, journal, actor, stopped, past, finished: Finished::new() };
    if aborting {
        run.enter()?;
    } else {
        run.journal.add(None, "abort", json!({ "reason": reason }))?;
    }
    run.leave_off(&plan.steps, reason)?;
    let back = run.go(&plan.rollback)?;
    run.conclude(back, Verdict::Aborted, Verdict::AbortFailed)
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
    aborting: bool,
}

impl Past {
    fn of(plan: &Plan, journal: &dyn Journal) -> Result<Self, ExecuteError> {
        if !plan.is_sound() {
            return Err(ExecuteError::Edited);
        }
        let mut past = Self::default();
        for (step, kind, data) in journal.events()? {
            match (kind.as_str(), step) {
                ("step-begin", Some(step)) => past.begun.push(step),
                ("step-end", Some(step)) => past.ended.push((step, read_back(&data))),
                ("abort", _) => past.aborting = true,
                ("end", _) => {
                    let verdict = data.get("verdict").and_then(Value::as_str).unwrap_or("without a verdict");
                    return Err(ExecuteError::Ended(verdict.to_owned()));
                }
                _ => {}
            }
        }
        Ok(past)
    }

    fn is_new(&self) -> bool {
        self.begun.is_empty() && self.ended.is_empty() && !self.aborting
    }

    fn outcome(&self, step: &str) -> Option<&Outcome> {
        self.ended.iter().find(|(id, _)| id == step).map(|(_, outcome)| outcome)
    }
}

/// A step's end as it was written. Its checks stand in events of their own.
fn read_back(data: &Value) -> Outcome {
    let field = |name: &str| data.get(name).cloned().unwrap_or(Value::Null);
    Outcome {
        status: serde_json::from_value(field("status")).unwrap_or(Status::Failed),
        error: serde_json::from_value(field("error")).unwrap_or_default(),
        evidence: serde_json::from_value(field("evidence")).unwrap_or_default(),
        checks: serde_json::from_value(field("checks")).unwrap_or_default(),
        observed: field("observed"),
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
    fn enter(&mut self) -> Result<(), ExecuteError> {
        if !self.past.is_new() {
            self.journal.add(None, "resume", json!({ "steps_ended": self.past.ended.len() }))?;
        }
        Ok(())
    }

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
            if !is_good(&outcome) && gone == Gone::Well {
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
        let begin = json!({ "phase": step.phase, "effect": step.effect, "on": step.on, "kind": step.action.kind,
            "again": attempt == Attempt::Again });
        self.journal.add(Some(&step.id), "step-begin", begin)?;
        let within = Duration::from_secs(step.timeout_seconds);
        let outcome = match &step.unless {
            Some(unless) if self.actor.is_so(self.plan, unless) => {
                Outcome::skipped(format!("nothing to do: {} {} already", unless.on, unless.is))
            }
            _ if self.plan.mode == RunMode::Simulated => self.actor.rehearse(self.plan, step, within),
            _ => self.actor.act(self.plan, step, attempt, within),
        };
        for check in &outcome.checks {
            let data = serde_json::to_value(check).map_err(std::io::Error::other)?;
            self.journal.add(Some(&step.id), "check", data)?;
        }
        self.end(step, &outcome)?;
        Ok(outcome)
    }

    /// Notes that a step was not done.
    fn leave(&mut self, step: &Step, why: &str) -> Result<Outcome, ExecuteError> {
        let error = Some(StepError { code: "not-run".to_owned(), text: why.to_owned() });
        let outcome = Outcome { status: Status::NotRun, error, ..Outcome::ok(Value::Null) };
        self.end(step, &outcome)?;
        Ok(outcome)
    }

    /// Closes the steps of a run that is taken back: one that was begun may be half done.
    fn leave_off(&mut self, steps: &[Step], reason: &str) -> Result<(), ExecuteError> {
        for step in steps {
            let outcome = match self.past.outcome(&step.id).cloned() {
                Some(outcome) => outcome,
                None if self.past.begun.contains(&step.id) => {
                    let outcome = Outcome::failed("interrupted", format!("taken back: {reason}"), Value::Null);
                    self.end(step, &outcome)?;
                    outcome
                }
                None => self.leave(step, &format!("taken back: {reason}"))?,
            };
            if outcome.status == Status::Failed {
                self.finished.failed_step.get_or_insert_with(|| step.id.clone());
            }
            self.finished.steps.push((step.id.clone(), outcome));
        }
        Ok(())
    }

    fn end(&mut self, step: &Step, outcome: &Outcome) -> Result<(), ExecuteError> {
        let data = serde_json::to_value(outcome).map_err(std::io::Error::other)?;
        Ok(self.journal.add(Some(&step.id), "step-end", data)?)
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
        let data = json!({ "verdict": verdict, "failed_step": self.finished.failed_step });
        self.journal.add(None, "end", data)?;
        self.finished.verdict = Some(verdict);
        Ok(self.finished)
    }
}

fn is_good(outcome: &Outcome) -> bool {
    matches!(outcome.status, Status::Ok | Status::Skipped | Status::Waived)
}

#[cfg(test)]
mod tests;
