//! Moving the lead: what each kind of step does to a fleet.
//!
//! Every act looks before it changes anything and again after an answer that did not come, so that it may be called again
//! for a step that was interrupted. Waiting asks every node of the step until all of them hold, or time is over; then the
//! last answer is the error. Kinds: `docs/scenarios.md`, "Kinds". Layer: acts through [`Field`], writes into the run
//! directory.
#![expect(clippy::result_large_err, reason = "an outcome that ends a step early is the rule here, and never hot")]

mod ingress;
#[cfg(test)]
mod killed;
mod looks;
#[cfg(test)]
mod tests;

pub use ingress::{deployed, in_force, leads_there, settle_up};

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use super::condition::{Condition, Measure, leaders};
use super::debts::Debts;
use super::execute::{Actor, Attempt, Outcome, Turn};
use super::field::Field;
use super::grammar::{Unless, word};
use super::moves::{Expected, Move, Request, Wait};
use super::plan::{Plan, Step};
use super::resolve::nodes_of;
use crate::agent::view::{Mode, RequestKind};
use crate::client::Asked;
use crate::clock::BootTime;
use crate::evidence::event::{Actor as By, CheckResult, CheckStatus, Claim, What};
use crate::evidence::run_dir::{COLLECT, RunDir};
use crate::surfaces::state::State;

/// How often a request that was refused is put again before it counts as refused.
const TRIES: u32 = 3;

/// Moves the lead of a fleet.
pub struct Mover<'f> {
    field: &'f dyn Field,
    /// Where what was seen is kept.
    directory: Option<RunDir>,
    debts: Debts,
    /// What people said they did, by step.
    attested: BTreeMap<String, String>,
    /// What was done at the ingress in this run.
    reloaded: bool,
}

/// The end of a step's time.
#[derive(Debug, Clone, Copy)]
struct Limit(BootTime);

impl Limit {
    fn after(within: Duration) -> Self {
        Self(BootTime::now() + within)
    }

    fn left(self) -> Duration {
        BootTime::now().until(self.0)
    }

    fn is_over(self) -> bool {
        self.left().is_zero()
    }
}

impl<'f> Mover<'f> {
    /// Moves the lead of the fleet behind `field`. What is seen goes into `directory`; `shared` has the debts.
    pub fn new(field: &'f dyn Field, directory: Option<RunDir>, shared: &std::path::Path) -> Self {
        let debts = Debts::below(shared);
        Self { field, directory, debts, attested: BTreeMap::new(), reloaded: false }
    }

    /// What people did for steps that are done by hand.
    pub fn attested(mut self, attested: BTreeMap<String, String>) -> Self {
        self.attested = attested;
        self
    }

    /// The nodes of a step; `leader` is found out now.
    fn nodes(&self, plan: &Plan, step: &Step) -> Result<Vec<String>, Outcome> {
        if step.place.as_deref() != Some("leader") {
            return Ok(step.on.clone());
        }
        let states: Vec<State> = plan.nodes.iter().filter_map(|node| self.field.state(node).ok()).collect();
        match leaders(&states)[..] {
            [one] => Ok(vec![one.to_owned()]),
            ref found => Err(Outcome::failed("not-so", format!("expected one leader, found {}", found.len()))),
        }
    }

    fn measure(&self, node: &str, condition: Condition, max_lag: u64) -> Result<Measure, String> {
        let work = if condition == Condition::Drained { self.field.work(node)? } else { None };
        Ok(Measure { max_lag, work })
    }

    fn holds(&self, node: &str, condition: Condition, max_lag: u64) -> Result<State, String> {
        let state = self.field.state(node)?;
        condition.holds(&state, self.measure(node, condition, max_lag)?)?;
        Ok(state)
    }

    /// Looks again and again until it holds; what was seen last.
    fn until<T>(&self, limit: Limit, mut look: impl FnMut() -> Result<T, String>) -> Result<T, String> {
        loop {
            match look() {
                Ok(seen) => return Ok(seen),
                Err(why) if limit.is_over() => return Err(why),
                Err(_) => self.field.pause(),
            }
        }
    }

    /// Keeps something that was seen; the name of its file.
    fn keep(&self, name: &str, seen: &impl Serialize) -> Result<Option<String>, Outcome> {
        let Some(directory) = &self.directory else { return Ok(None) };
        let file = format!("{COLLECT}/{name}.json");
        match directory.write_json(&file, seen) {
            Ok(()) => Ok(Some(file)),
            Err(error) => Err(Outcome::failed("not-kept", format!("{file} cannot be written: {error}"))),
        }
    }

    /// An outcome with the check of its step, and what was seen as evidence.
    fn decided(&self, step: &Step, seen: &impl Serialize, result: Result<String, (String, String)>) -> Outcome {
        let file = match self.keep(&step.id, seen) {
            Ok(file) => file,
            Err(outcome) => return outcome,
        };
        let (mut outcome, status, observed) = match result {
            Ok(observed) => (Outcome::ok(""), CheckStatus::Passed, observed),
            Err((code, why)) => (Outcome::failed(&code, &why), CheckStatus::Failed, why),
        };
        if let Some(id) = &step.check {
            let source = file.clone().unwrap_or_default();
            let (id, expected) = (id.clone(), step.title.clone());
            outcome = outcome.with(CheckResult { id, status, claim: Claim::Asserted, observed, expected, source });
        } else {
            outcome.note = observed;
        }
        match file {
            Some(file) => outcome.evidence(file),
            None => outcome,
        }
    }

    fn request(&self, turn: &Turn<'_>, request: &Request, nodes: &[String]) -> Outcome {
        let limit = Limit::after(turn.within);
        let reason = format!("{}: {}", turn.plan.id, turn.plan.reason);
        let mut said = Vec::new();
        for node in nodes {
            let looks = match (request.unreachable_is_fine, request.kind()) {
                // In an emergency nobody waits for who is lost.
                (true, RequestKind::Demote) => 1,
                (true, _) => TRIES,
                (false, _) => u32::MAX,
            };
            match self.request_one(node, request.kind(), &reason, (turn.attempt, looks), limit) {
                Ok(what) => said.push(format!("{node}: {what}")),
                Err((code, why)) if code == "unreachable" && request.unreachable_is_fine => {
                    said.push(format!("{node} was left out: {why}"));
                }
                Err((code, why)) => {
                    let done =
                        if said.is_empty() { String::new() } else { format!("; before that: {}", said.join("; ")) };
                    return Outcome::failed(code, format!("{node}: {why}{done}"));
                }
            }
        }
        Outcome::ok(said.join("; "))
    }

    /// Asks one node, unless what is asked for is so already. One that did not answer so many looks is left alone.
    fn request_one(
        &self,
        node: &str,
        kind: RequestKind,
        reason: &str,
        (attempt, looks): (Attempt, u32),
        limit: Limit,
    ) -> Result<String, (&'static str, String)> {
        let (mut tries, mut silent) = (0, 0);
        loop {
            let state = self.field.state(node).map_err(|why| ("unreachable", why));
            match state.map(|state| standing(&state, kind, attempt)) {
                Ok(Standing::Done(why)) => return Ok(format!("nothing to do: {why}")),
                Ok(Standing::Wait(why)) if limit.is_over() => return Err(("timeout", why)),
                Ok(Standing::Wait(_)) => {
                    self.field.pause();
                    continue;
                }
                Ok(Standing::Ask) => {}
                Err(error) if limit.is_over() || silent + 1 >= looks => return Err(error),
                Err(_) => {
                    silent += 1;
                    self.field.pause();
                    continue;
                }
            }
            tries += 1;
            match self.field.request(node, kind, reason) {
                Ok(Asked::Accepted(what)) => return Ok(what),
                Ok(Asked::Refused(why)) if tries >= TRIES || limit.is_over() => return Err(("refused", why)),
                // No answer: it may be done. The next look says so.
                Err(why) if tries >= TRIES || limit.is_over() => return Err(("unreachable", why)),
                Ok(Asked::Refused(_)) | Err(_) => (0..5).for_each(|_| self.field.pause()),
            }
        }
    }

    fn wait(&self, turn: &Turn<'_>, wait: &Wait, nodes: &[String]) -> Outcome {
        let limit = Limit::after(turn.within);
        let condition = wait.condition();
        let mut seen: BTreeMap<&str, Result<State, String>> = BTreeMap::new();
        let result = self.until(limit, || {
            let mut missing = Vec::new();
            let mut holding = Vec::new();
            for node in nodes {
                match self.holds(node, condition, wait.max_lag) {
                    Ok(state) => {
                        seen.insert(node, Ok(state));
                        holding.push(node.as_str());
                    }
                    Err(why) => {
                        missing.push(format!("{node}: {why}"));
                        seen.insert(node, Err(why));
                    }
                }
            }
            match (wait.any, holding.as_slice(), missing.is_empty()) {
                (true, [one], _) => Ok(format!("{one} {condition}")),
                (true, [], _) | (false, _, false) => Err(missing.join("; ")),
                (true, ..) => Err(format!("{} at once: {}", condition, holding.join(", "))),
                (false, ..) => Ok(format!("{} {condition}", holding.join(", "))),
            }
        });
        self.decided(turn.step, &shown(&seen), result.map_err(|why| ("timeout".to_owned(), why)))
    }

    fn command(&self, turn: &Turn<'_>, argv: &[String], nodes: &[String]) -> Outcome {
        let limit = Limit::after(turn.within);
        let places: Vec<Option<&str>> = match nodes {
            [] => vec![None],
            nodes => nodes.iter().map(|node| Some(node.as_str())).collect(),
        };
        let mut said = Vec::new();
        for place in places {
            let name = place.unwrap_or("here");
            match self.field.run(place, argv, limit.left()) {
                Ok(ended) if ended.is_good() => {
                    said.push(format!("{name}: {}", ended.said().unwrap_or("it ended well")));
                }
                Ok(ended) => return Outcome::failed("command", format!("{name}: {}", ended.why())),
                Err(why) => return Outcome::failed("unreachable", format!("{name}: {why}")),
            }
        }
        Outcome::ok(said.join("; "))
    }

    fn node(&self, turn: &Turn<'_>, up: bool, nodes: &[String]) -> Outcome {
        let limit = Limit::after(turn.within);
        let mut said = Vec::new();
        for node in nodes {
            let done = if up { self.field.up(node, limit.left()) } else { self.field.down(node, limit.left()) };
            match done {
                Ok(what) => said.push(format!("{node}: {what}")),
                Err(why) => return Outcome::failed("node", format!("{node}: {why}")),
            }
        }
        Outcome::ok(said.join("; "))
    }

    fn manual(&self, turn: &mut Turn<'_>, text: &str) -> Outcome {
        let Some(said) = self.attested.get(&turn.step.id) else {
            let why = format!("a person must say what was done: --attest {}='…'; to do: {text}", turn.step.id);
            return Outcome::failed("not-attested", why);
        };
        let attest = What::Attest { who: turn.plan.actor.clone(), text: said.clone(), file: None };
        match turn.journal.add(By::Human, Some(&turn.step.id), attest) {
            Ok(()) => Outcome::ok(said.clone()),
            Err(error) => Outcome::failed("not-kept", error.to_string()),
        }
    }
}

/// What a node's state says about something that is to be asked of it.
enum Standing {
    /// It is so already.
    Done(String),
    /// It cannot be asked yet.
    Wait(String),
    /// It is to be asked.
    Ask,
}

fn standing(state: &State, kind: RequestKind, attempt: Attempt) -> Standing {
    let view = &state.view;
    let released = || Condition::Released.holds(state, Measure::default());
    match kind {
        RequestKind::Drain if view.drained.is_some() => Standing::Done("it is drained".to_owned()),
        RequestKind::Pause if view.paused.is_some() => Standing::Done("it is paused".to_owned()),
        // Who is giving the lease back holds it still, and will not when it is asked for.
        RequestKind::Promote | RequestKind::ForceClaim if view.mode == Mode::Demoting => {
            Standing::Wait("it is demoting".to_owned())
        }
        RequestKind::Promote | RequestKind::ForceClaim if state.holds => Standing::Done("it leads".to_owned()),
        RequestKind::Demote if view.demoted.is_some() && released().is_ok() => {
            Standing::Done("it is demoted".to_owned())
        }
        // Who gave the lease back before a crash has nothing to give back; at the first try, something is wrong.
        RequestKind::Handoff if attempt == Attempt::Again && !state.holds => {
            Standing::Done("it holds no lease".to_owned())
        }
        RequestKind::Handoff if !state.leader.ok && view.drained.is_none() => {
            Standing::Wait(format!("it cannot hand off: {}", state.leader.why))
        }
        _ => Standing::Ask,
    }
}

/// States by node, or why there is none.
fn shown(seen: &BTreeMap<&str, Result<State, String>>) -> serde_json::Value {
    let one = |(node, state): (&&str, &Result<State, String>)| {
        let value = match state {
            Ok(state) => serde_json::to_value(state).unwrap_or_default(),
            Err(why) => serde_json::json!({ "not_so": why }),
        };
        ((*node).to_owned(), value)
    };
    serde_json::Value::Object(seen.iter().map(one).collect())
}

impl Actor for Mover<'_> {
    fn act(&mut self, turn: &mut Turn<'_>) -> Outcome {
        let known = match Move::of(&turn.step.action) {
            Ok(Some(known)) => known,
            Ok(None) => {
                return Outcome::failed("unknown", format!("no kind {:?} is known here", turn.step.action.kind));
            }
            Err(why) => return Outcome::failed("unknown", why),
        };
        let nodes = match self.nodes(turn.plan, turn.step) {
            Ok(nodes) => nodes,
            Err(outcome) => return outcome,
        };
        match known {
            Move::Probe(probe) => self.probe(turn, &probe),
            Move::Request(request) => self.request(turn, &request, &nodes),
            Move::Wait(wait) => self.wait(turn, &wait, &nodes),
            Move::Down(down) => self.down(turn, &down, &nodes),
            Move::Command(command) => self.command(turn, &command.argv, &nodes),
            Move::Snapshot(snapshot) => self.command(turn, &snapshot.argv, &nodes),
            Move::NodeUp => self.node(turn, true, &nodes),
            Move::NodeDown => self.node(turn, false, &nodes),
            Move::ChainFresh(fresh) => self.chain_fresh(turn, &fresh, &nodes),
            Move::NothingLost(lost) => self.nothing_lost(turn, &lost, &nodes),
            Move::IngressCheck(check) => self.ingress_check(turn, check.reaches),
            Move::IngressSwap => self.ingress_swap(turn),
            Move::IngressRestore => self.ingress_restore(turn),
            Move::IngressSettle => self.ingress_settle(turn),
            Move::DebtsClosed => self.debts_closed(turn),
            Move::Manual(manual) => self.manual(turn, &manual.text),
            Move::Collect(collect) => self.collect(turn, &collect),
            Move::AfterAction => self.after_action(turn),
        }
    }

    fn rehearse(&mut self, turn: &mut Turn<'_>) -> Outcome {
        // What comes after the first change would look at something that was not done.
        let before = turn.plan.steps.iter().take_while(|step| step.effect == super::Effect::Read);
        let looks = before.into_iter().any(|step| step.id == turn.step.id);
        if looks {
            return self.act(turn);
        }
        let on = if turn.step.on.is_empty() { String::new() } else { format!(" on {}", turn.step.on.join(", ")) };
        let what = format!("not done: {}{on}, which would {}", turn.step.action.kind, word(turn.step.effect));
        Outcome::skipped(what)
    }

    fn is_so(&mut self, plan: &Plan, unless: &Unless) -> bool {
        let Ok(condition) = unless.is.parse::<Condition>() else { return false };
        let nodes = nodes_of(plan, &unless.on);
        !nodes.is_empty() && nodes.iter().all(|node| self.holds(node, condition, 1).is_ok())
    }
}

/// Where the run directory is, for files of other modules.
impl Mover<'_> {
    /// The run directory.
    pub fn directory(&self) -> Option<PathBuf> {
        self.directory.as_ref().map(|directory| directory.path().to_owned())
    }
}

fn expected(plan: &Plan, who: Expected) -> Option<&str> {
    match who {
        Expected::OldLeader => plan.old_leader.as_deref(),
        Expected::Target => plan.target.as_deref(),
        Expected::NotOldLeader | Expected::Anybody => None,
    }
}
