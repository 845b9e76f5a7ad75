//! The actor of drills: does each deed by commands on nodes and by asking their agents, and says what it saw.
//!
//! Whatever it knows of the beginning lies in the run directory, so that another process can go on: `baseline.json` for what was
//! before, `environment.json` for what runs. An act that may have been done before is looked for first. Layer: the edge.

#![expect(clippy::result_large_err, reason = "an outcome that ends a step early is the rule here, and never hot")]

mod compare;
mod environment;
mod faults;
mod node_up;
mod watching;

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::thread;
use std::time::Duration;

use manifests::refusal::{Class, exit};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::deeds::Deed;
use crate::clock::BootTime;
use crate::command::Finished;
use crate::evidence::event::{CheckResult, CheckStatus, Claim};
use crate::evidence::run_dir::RunDir;
use crate::fleet::inventory::Inventory;
use crate::fleet::node::Handle;
use crate::scenario::execute::Turn;
use crate::scenario::grammar::Unless;
use crate::scenario::{Actor, Outcome, Plan};
use crate::surfaces::state::State;

/// How often is looked whether something is so.
const LOOK: Duration = Duration::from_millis(100);
/// How long one answer of an agent may take.
const ANSWER: Duration = Duration::from_secs(5);
/// What was before, in the run directory.
const BASELINE: &str = "baseline.json";

/// What was before anything was touched.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Baseline {
    /// The term of the old leader.
    term: u64,
    /// Takeovers that each node had tried.
    attempts: BTreeMap<String, u64>,
    /// Refused consumers that were counted.
    conflicts: u64,
}

/// Does the deeds of one run.
pub struct Drill<'d> {
    inventory: &'d Inventory,
    handles: BTreeMap<String, Handle>,
    run: RunDir,
    origin: String,
    inner: Box<dyn Actor + 'd>,
}

impl<'d> Drill<'d> {
    /// An actor of a run; `origin` is the one string, and `inner` does what only moves of the lead have.
    pub fn new(inventory: &'d Inventory, run: RunDir, origin: String, inner: Box<dyn Actor + 'd>) -> Self {
        let handles = Handle::all(inventory).into_iter().map(|handle| (handle.name().to_owned(), handle)).collect();
        Self { inventory, handles, run, origin, inner }
    }

    fn handle(&self, node: &str) -> Result<&Handle, Outcome> {
        self.handles.get(node).ok_or_else(|| Outcome::failed("no-node", format!("the inventory has no node {node}")))
    }

    /// What an agent says now.
    fn state(&self, node: &str) -> Result<State, String> {
        let handle = self.handles.get(node).ok_or_else(|| format!("the inventory has no node {node}"))?;
        handle.state(ANSWER).map_err(|error| error.to_string())
    }

    /// Runs the `bootstrap` command of a node with its JSON answer.
    fn bootstrap(&self, node: &str, args: &[&str], within: Duration) -> Result<Value, Ran> {
        let handle = self.handles.get(node).ok_or_else(|| Ran::of(format!("the inventory has no node {node}")))?;
        let args: Vec<&str> = args.iter().copied().chain(["--json"]).collect();
        let ended = handle.bootstrap(&args, b"", within).map_err(|error| Ran::of(error.to_string()))?;
        answer(&ended)
    }

    fn baseline(&self) -> io::Result<Baseline> {
        let bytes = std::fs::read(self.run.file(BASELINE))?;
        serde_json::from_slice(&bytes).map_err(io::Error::other)
    }

    fn deed(&mut self, deed: &Deed, turn: &mut Turn<'_>) -> Result<Outcome, Outcome> {
        match deed {
            Deed::Facts(when) => self.facts(*when, turn),
            Deed::NodeHealth(when) => self.health(*when, turn),
            Deed::Measured(measured) => self.measured(measured, turn),
            Deed::Manifest => self.manifest(turn),
            Deed::Prerequisites => self.prerequisites(turn),
            Deed::BringUp(up) => self.bring_up(up, turn),
            Deed::Soak => self.soak(turn),
            Deed::TakeSnapshot => self.take_snapshot(turn),
            Deed::Fault(broken) => self.break_it(broken, turn),
            Deed::Heal(broken) => self.heal_it(broken, turn),
            Deed::TookOver => self.took_over(turn),
            Deed::StillDown => self.still_down(turn),
            Deed::Traffic => self.traffic(turn),
            Deed::Compare => self.compare(turn),
            Deed::OneLeader => self.one_leader(turn),
            Deed::SomebodyLeads => self.somebody_leads(turn),
            Deed::Remove => self.remove(turn),
        }
    }
}

impl Actor for Drill<'_> {
    fn act(&mut self, turn: &mut Turn<'_>) -> Outcome {
        match Deed::of(&turn.step.action) {
            Ok(Some(deed)) => self.deed(&deed, turn).unwrap_or_else(|outcome| outcome),
            Ok(None) => self.inner.act(turn),
            Err(why) => Outcome::failed("usage", why),
        }
    }

    fn rehearse(&mut self, turn: &mut Turn<'_>) -> Outcome {
        match Deed::of(&turn.step.action) {
            Ok(Some(deed)) if deed.is_looked_at_beforehand() => {
                self.deed(&deed, turn).unwrap_or_else(|outcome| outcome)
            }
            Ok(Some(_)) => Outcome::skipped(format!("only gone through: {}", turn.step.title)),
            Ok(None) => self.inner.rehearse(turn),
            Err(why) => Outcome::failed("usage", why),
        }
    }

    fn is_so(&mut self, plan: &Plan, unless: &Unless) -> bool {
        self.inner.is_so(plan, unless)
    }
}

/// A command on a node that did not do what it was asked to.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Ran {
    /// The exit code; `None` where nothing was run or it was killed.
    code: Option<u8>,
    /// The class of a refusal.
    class: Option<String>,
    /// Why.
    why: String,
}

impl Ran {
    fn of(why: String) -> Self {
        Self { code: None, class: None, why }
    }

    /// The word for it in a timeline.
    fn word(&self) -> &str {
        self.class.as_deref().unwrap_or("command")
    }

    /// Refused for what stands there now, and not for what a document says: another process may be at it.
    fn is_in_the_way(&self) -> bool {
        match self.class.as_deref() {
            Some(class) => class == Class::Target.name(),
            None => self.code == Some(exit::REFUSED),
        }
    }

    fn outcome(&self, what: &str) -> Outcome {
        Outcome::failed(self.word(), format!("{what}: {}", self.why))
    }
}

/// The JSON answer of one of our commands, or why there is none.
fn answer(ended: &Finished) -> Result<Value, Ran> {
    if ended.is_good() {
        return serde_json::from_str(&ended.stdout).map_err(|error| Ran::of(format!("its answer is no JSON: {error}")));
    }
    let last = ended.stderr.trim().lines().last().unwrap_or_default();
    let said: Option<Value> = serde_json::from_str(last).ok();
    let text = |name: &str| Some(said.as_ref()?.get(name)?.as_str()?.to_owned());
    let causes = said.as_ref().and_then(|said| said.get("causes")?.as_array().cloned()).unwrap_or_default();
    let causes = causes.iter().filter_map(|cause| cause.as_str()).map(|cause| format!(": {cause}"));
    Err(Ran {
        code: ended.status.and_then(|status| status.code()).and_then(|code| u8::try_from(code).ok()),
        class: text("class"),
        why: match text("error") {
            Some(error) => [error].into_iter().chain(causes).collect(),
            None => ended.why(),
        },
    })
}

/// A check that was decided by what was seen.
fn check(id: &str, holds: bool, observed: impl Into<String>, expected: &str, source: &str) -> CheckResult {
    CheckResult {
        id: id.to_owned(),
        status: if holds { CheckStatus::Passed } else { CheckStatus::Failed },
        claim: Claim::Asserted,
        observed: observed.into(),
        expected: expected.to_owned(),
        source: source.to_owned(),
    }
}

/// A step that failed with the check that it decides.
fn failed(id: &str, code: &str, observed: &str, expected: &str, source: &str) -> Outcome {
    Outcome::failed(code, format!("{observed}; expected: {expected}"))
        .with(check(id, false, observed, expected, source))
}

/// Looks until it is so; what was found last otherwise.
fn until<T>(within: Duration, mut look: impl FnMut() -> Result<T, String>) -> Result<T, String> {
    let end = BootTime::now() + within;
    loop {
        match look() {
            Ok(found) => return Ok(found),
            Err(why) if BootTime::now() >= end => return Err(why),
            Err(_) => thread::sleep(LOOK),
        }
    }
}

fn kept(written: io::Result<()>, name: &str) -> Result<(), Outcome> {
    written.map_err(|error| Outcome::failed("run-directory", format!("cannot write {name}: {error}")))
}

/// The `snapkit` command beside a `bootstrap` command.
pub(super) fn snapkit_beside(program: &str) -> String {
    let beside = Path::new(program).parent().filter(|parent| !parent.as_os_str().is_empty());
    beside.map_or_else(|| "snapkit".to_owned(), |parent| parent.join("snapkit").display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_another_process_may_cause_is_tried_again() {
        let ran = |code, class: Option<&str>| Ran { code, class: class.map(str::to_owned), why: String::new() };
        assert!(ran(Some(exit::REFUSED), None).is_in_the_way(), "another process is restoring into the node");
        assert!(ran(Some(Class::Target.exit_code()), Some("E_TARGET")).is_in_the_way());
        assert!(!ran(Some(Class::Stale.exit_code()), Some("E_STALE")).is_in_the_way());
        assert!(!ran(Some(exit::COULD_NOT_RUN), None).is_in_the_way());
        assert!(!ran(None, None).is_in_the_way());
    }

    #[test]
    fn the_engine_is_looked_for_beside_the_program() {
        assert_eq!(snapkit_beside("/opt/bootstrap/bin/bootstrap"), "/opt/bootstrap/bin/snapkit");
        assert_eq!(snapkit_beside("bootstrap"), "snapkit");
    }
}
