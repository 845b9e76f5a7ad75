use std::collections::BTreeSet;
use std::io;

use jiff::Timestamp;
use serde_json::Map;

use super::*;
use crate::drill::deeds::{self, Deeds};
use crate::evidence::event::Claim;
use crate::scenario::builtin;
use crate::scenario::grammar::Scenario;
use crate::scenario::grammar::{Action, Effect, Leadership};
use crate::scenario::plan::{Required, SCHEMA};
use crate::scenario::resolve::tests::{seen, sight, wish};
use crate::scenario::resolve::{Sight, Wish, resolve};

/// Keeps events in memory, and fails from the `n`th on: the orchestrator is killed there.
#[derive(Debug, Default, Clone)]
struct Memory {
    events: Vec<(Option<String>, What)>,
    killed_at: Option<usize>,
}

impl Journal for Memory {
    fn add(&mut self, _: By, step: Option<&str>, what: What) -> io::Result<()> {
        if self.killed_at == Some(self.events.len()) {
            return Err(io::Error::other("killed"));
        }
        self.events.push((step.map(str::to_owned), what));
        Ok(())
    }

    fn past(&self) -> Vec<(Option<&str>, &What)> {
        self.events.iter().map(|(step, what)| (step.as_deref(), what)).collect()
    }
}

impl Memory {
    fn ends(&self) -> Vec<(&str, &str)> {
        let end = |(step, what): &'_ (Option<&'_ str>, &'_ What)| match what {
            What::StepEnd { status, .. } => Some(status.word()),
            _ => step.and(None),
        };
        let mut ends = Vec::new();
        for event in self.past() {
            if let (Some(status), Some(step)) = (end(&event), event.0) {
                ends.push((step, status));
            }
        }
        ends
    }

    fn begun(&self) -> BTreeSet<&str> {
        let begin = |(step, what): &(Option<String>, What)| matches!(what, What::StepBegin { .. }) && step.is_some();
        self.events.iter().filter(|event| begin(event)).filter_map(|event| event.0.as_deref()).collect()
    }
}

/// Notes what it was asked, and fails the steps it is told to.
#[derive(Debug, Default)]
struct Scripted {
    acted: Vec<(String, Attempt)>,
    rehearsed: Vec<String>,
    fails: BTreeSet<&'static str>,
    fails_check: bool,
}

impl Actor for Scripted {
    fn act(&mut self, turn: &mut Turn<'_>) -> Outcome {
        let step = turn.step;
        self.acted.push((step.id.clone(), turn.attempt));
        if self.fails.contains(step.id.as_str()) {
            return Outcome::failed("not-so", "it is not so");
        }
        let status = if self.fails_check { CheckStatus::Failed } else { CheckStatus::Passed };
        let (claim, text) = (Claim::Asserted, String::new());
        match &step.check {
            Some(id) => Outcome::ok("").with(CheckResult {
                id: id.clone(),
                status,
                claim,
                observed: text.clone(),
                expected: text.clone(),
                source: text,
            }),
            None => Outcome::ok(""),
        }
    }

    fn rehearse(&mut self, turn: &mut Turn<'_>) -> Outcome {
        self.rehearsed.push(turn.step.id.clone());
        Outcome::ok("")
    }

    fn is_so(&mut self, _: &Plan, unless: &Unless) -> bool {
        unless.is == "so"
    }
}

fn step(id: &str, phase: &str) -> Step {
    Step {
        id: id.into(),
        phase: phase.into(),
        title: id.into(),
        effect: Effect::Mutate,
        on: Vec::new(),
        place: None,
        unless: None,
        action: Action { kind: "test".into(), with: Map::new() },
        timeout_seconds: 1,
        check: None,
        next: None,
    }
}

fn plan() -> Plan {
    let checked = Step { check: Some("baseline".into()), ..step("one", "precheck") };
    Plan {
        schema: SCHEMA.into(),
        id: "run".into(),
        mode: Mode::Execute,
        challenge: None,
        made: Timestamp::UNIX_EPOCH,
        actor: "test".into(),
        reason: "test".into(),
        kind: "failover".into(),
        scenario: "test".into(),
        title: "a test".into(),
        scenario_sha256: String::new(),
        group: "app".into(),
        leadership: Leadership::Auto,
        inventory_sha256: String::new(),
        nodes: Vec::new(),
        old_leader: None,
        target: None,
        steps: vec![checked, step("two", "demote-primary"), step("three", "verify")],
        rollback: vec![step("back-one", "rollback"), step("back-two", "rollback")],
        always: vec![step("collect", "always"), step("teardown", "always")],
        checks: vec![Required { id: "baseline".into(), required: true }],
        thresholds: [].into(),
        scope_stop: Vec::new(),
        plan_sha256: String::new(),
    }
    .sealed()
}

fn go(plan: &Plan, journal: &mut Memory, actor: &mut Scripted) -> Result<Finished, ExecuteError> {
    run(plan, journal, actor, &|| false)
}

#[test]
fn every_step_is_journalled_before_and_after() {
    let (mut journal, mut actor) = (Memory::default(), Scripted::default());
    let finished = go(&plan(), &mut journal, &mut actor).unwrap();
    assert_eq!(finished.verdict, Some(Verdict::Passed));
    let kinds = journal.events.iter().map(|(_, what)| match what {
        What::StepBegin { .. } => "begin",
        What::StepEnd { .. } => "end",
        What::Check(_) => "check",
        What::End { passed: true } => "passed",
        other => panic!("{other:?}"),
    });
    let pair = ["begin", "end"];
    let expected = [&["begin", "check", "end"][..], &pair, &pair, &pair, &pair, &["passed"]].concat();
    assert_eq!(kinds.collect::<Vec<_>>(), expected);
}

#[test]
fn the_first_failing_step_leaves_the_rest_not_run_and_still_cleans_up() {
    let (mut journal, mut actor) = (Memory::default(), Scripted { fails: ["two"].into(), ..Scripted::default() });
    let finished = go(&plan(), &mut journal, &mut actor).unwrap();
    assert_eq!((finished.verdict, finished.failed_step.as_deref()), (Some(Verdict::Failed), Some("two")));
    let expected = [("one", "ok"), ("two", "failed"), ("three", "not_run"), ("collect", "ok"), ("teardown", "ok")];
    assert_eq!(journal.ends(), expected);
    let error = finished.step("two").unwrap().error.clone().unwrap();
    assert_eq!(error.code, "not-so");
}

#[test]
fn a_required_check_that_fails_fails_the_run() {
    let (mut journal, mut actor) = (Memory::default(), Scripted { fails_check: true, ..Scripted::default() });
    assert_eq!(go(&plan(), &mut journal, &mut actor).unwrap().verdict, Some(Verdict::Failed));
    let optional = Plan { checks: Vec::new(), ..plan() }.sealed();
    assert_eq!(go(&optional, &mut Memory::default(), &mut actor).unwrap().verdict, Some(Verdict::Passed));
}

/// Killed at every write of the journal and resumed: every step ends once, none that ended is acted again, and the one that
/// was under way is told so.
#[test]
fn a_run_killed_anywhere_is_resumed() {
    let whole = {
        let mut journal = Memory::default();
        go(&plan(), &mut journal, &mut Scripted::default()).unwrap();
        journal.events.len()
    };
    for at in 0..whole {
        let mut journal = Memory { killed_at: Some(at), ..Memory::default() };
        let mut first = Scripted::default();
        assert!(matches!(go(&plan(), &mut journal, &mut first), Err(ExecuteError::Journal(_))), "killed at {at}");
        let before = journal.clone();
        let ended: BTreeSet<&str> = before.ends().into_iter().map(|(step, _)| step).collect();
        journal.killed_at = None;
        let mut second = Scripted::default();
        let finished = go(&plan(), &mut journal, &mut second).unwrap();
        assert_eq!(finished.verdict, Some(Verdict::Passed), "killed at {at}");
        for (step, attempt) in &second.acted {
            assert!(!ended.contains(step.as_str()), "{step} had ended; killed at {at}");
            assert_eq!(*attempt == Attempt::Again, before.begun().contains(step.as_str()), "{step}; killed at {at}");
        }
        assert_eq!(journal.ends().len(), 5, "{:?}", journal.ends());
        assert!(matches!(go(&plan(), &mut journal, &mut second), Err(ExecuteError::Ended(_))));
    }
}

/// Killed at every write and aborted, the abort killed at every write and taken up again.
#[test]
fn a_run_killed_anywhere_is_taken_back() {
    for at in 0..8 {
        for back_at in 0..12 {
            let mut journal = Memory { killed_at: Some(at), ..Memory::default() };
            go(&plan(), &mut journal, &mut Scripted::default()).unwrap_err();
            let is_changed = journal.begun().iter().any(|step| ["one", "two", "three"].contains(step));
            journal.killed_at = Some(at + back_at);
            let mut actor = Scripted::default();
            let first = abort(&plan(), "no", &mut journal, &mut actor, &|| false);
            journal.killed_at = None;
            let finished = match first {
                Ok(finished) => finished,
                Err(_) => abort(&plan(), "no", &mut journal, &mut actor, &|| false).unwrap(),
            };
            assert_eq!(finished.verdict, Some(Verdict::Aborted), "{at} {back_at}");
            let ends = journal.ends();
            assert_eq!(ends.len(), 7, "{ends:?}");
            // A run that had changed nothing undoes nothing: what is so by then is somebody else's.
            assert!(ends.contains(&("back-two", if is_changed { "ok" } else { "skipped" })), "{at} {back_at} {ends:?}");
            assert!(is_changed || actor.acted.iter().all(|(step, _)| step != "back-two"), "{at} {back_at}");
            assert!(actor.acted.iter().all(|(step, _)| !["one", "two", "three"].contains(&step.as_str())));
        }
    }
}

/// Plans of every scenario that is built in, those of drills among them.
fn built_in() -> Vec<Plan> {
    let group = |leader: &str| {
        let node = |name: &str| seen(name, Some(if name == leader { "leader" } else { "candidate" }));
        Sight { ingress_driver: true, ..sight(["a", "b", "c"].map(node).into()) }
    };
    let plan = |scenario: Scenario, text: &str| {
        let leader = if scenario.name == "switchback" { "b" } else { "a" };
        let wish = Wish { old_leader: Some(leader.to_owned()).filter(|_| scenario.name == "emergency"), ..wish() };
        let mut group = group(leader);
        group.nodes.iter_mut().filter(|node| node.name == leader && scenario.name == "emergency").for_each(|node| {
            node.state = None;
        });
        resolve(&scenario, text, &group, &wish).unwrap()
    };
    let moves = builtin::ALL.iter().map(|(name, text)| plan(Scenario::parse(name, text, &Deeds).unwrap(), text));
    let drills = deeds::BUILT_IN.iter().map(|(name, _)| {
        let text = deeds::text(name, "c").unwrap();
        plan(Scenario::parse(name, &text, &Deeds).unwrap(), &text)
    });
    moves.chain(drills).collect()
}

/// Every built-in scenario, killed at every write of its journal: gone on with, each step ends once and what was under way is
/// told so; taken back, nothing of the way there is acted any more, and all of the way back and of the end is.
#[test]
fn every_built_in_scenario_killed_anywhere_is_gone_on_with_or_taken_back() {
    for plan in built_in() {
        let whole = {
            let mut journal = Memory::default();
            let finished = go(&plan, &mut journal, &mut Scripted::default()).unwrap();
            assert_eq!(finished.verdict, Some(Verdict::Passed), "{}", plan.scenario);
            journal.events.len()
        };
        let forward: BTreeSet<&str> = plan.steps.iter().map(|step| step.id.as_str()).collect();
        for at in 0..whole {
            let told = format!("{}, killed at {at}", plan.scenario);
            let mut killed = Memory { killed_at: Some(at), ..Memory::default() };
            assert!(go(&plan, &mut killed, &mut Scripted::default()).is_err(), "{told}");
            killed.killed_at = None;
            let before = killed.clone();
            let ended: BTreeSet<&str> = before.ends().into_iter().map(|(step, _)| step).collect();

            let (mut journal, mut actor) = (killed.clone(), Scripted::default());
            let finished = go(&plan, &mut journal, &mut actor).unwrap();
            assert_eq!(finished.verdict, Some(Verdict::Passed), "{told}");
            assert_eq!(journal.ends().len(), plan.steps.len() + plan.always.len(), "{told}");
            for (step, attempt) in &actor.acted {
                assert!(!ended.contains(step.as_str()), "{told}: {step} had ended");
                assert_eq!(*attempt == Attempt::Again, before.begun().contains(step.as_str()), "{told}: {step}");
            }

            let (mut journal, mut actor) = (killed, Scripted::default());
            let finished = abort(&plan, "no", &mut journal, &mut actor, &|| false).unwrap();
            assert_eq!(finished.verdict, Some(Verdict::Aborted), "{told}");
            assert!(actor.acted.iter().all(|(step, _)| !forward.contains(step.as_str())), "{told}: {:?}", actor.acted);
            let steps = [&plan.steps, &plan.rollback, &plan.always];
            assert_eq!(journal.ends().len(), steps.into_iter().map(Vec::len).sum::<usize>(), "{told}");
        }
    }
}

#[test]
fn what_became_of_a_run_is_read_from_its_journal() {
    for fails in [None, Some("two"), Some("collect"), Some("back-one"), Some("teardown")] {
        for aborts in [false, true] {
            let actor = || Scripted { fails: fails.into_iter().collect(), ..Scripted::default() };
            let mut journal = Memory { killed_at: Some(2), ..Memory::default() };
            go(&plan(), &mut journal, &mut actor()).unwrap_err();
            assert_eq!(concluded(&plan(), &journal.past()).unwrap(), None, "it has no end");
            journal.killed_at = None;
            let told = match aborts {
                false => go(&plan(), &mut journal, &mut actor()).unwrap(),
                true => abort(&plan(), "no", &mut journal, &mut actor(), &|| false).unwrap(),
            };
            assert_eq!(concluded(&plan(), &journal.past()).unwrap(), Some(told), "{fails:?} {aborts}");
        }
    }
}

#[test]
fn what_is_being_taken_back_is_not_gone_on_with() {
    let mut journal = Memory { killed_at: Some(2), ..Memory::default() };
    go(&plan(), &mut journal, &mut Scripted::default()).unwrap_err();
    journal.killed_at = Some(4);
    abort(&plan(), "no", &mut journal, &mut Scripted::default(), &|| false).unwrap_err();
    journal.killed_at = None;
    assert!(matches!(go(&plan(), &mut journal, &mut Scripted::default()), Err(ExecuteError::Aborting)));
}

#[test]
fn a_simulated_plan_acts_nothing() {
    let simulated = Plan { mode: Mode::Simulated, ..plan() };
    assert!(simulated.is_sound(), "a dry run has the digest of what it rehearses");
    let mut actor = Scripted::default();
    let finished = go(&simulated, &mut Memory::default(), &mut actor).unwrap();
    assert_eq!(finished.verdict, Some(Verdict::Passed));
    assert!(actor.acted.is_empty());
    assert_eq!(actor.rehearsed, ["one", "two", "three", "collect", "teardown"]);
}

#[test]
fn a_step_with_nothing_to_do_is_skipped() {
    let mut plan = plan();
    plan.steps[1].unless = Some(Unless { on: "target".into(), is: "so".into() });
    let mut actor = Scripted::default();
    let finished = go(&plan.sealed(), &mut Memory::default(), &mut actor).unwrap();
    assert_eq!(finished.step("two").unwrap().status, StepStatus::Skipped);
    assert!(actor.acted.iter().all(|(step, _)| step != "two"));
}

#[test]
fn an_interrupted_run_has_no_end() {
    let (mut journal, mut actor) = (Memory::default(), Scripted::default());
    let plan = plan();
    let finished = run(&plan, &mut journal, &mut actor, &|| true).unwrap();
    assert_eq!((finished.verdict, actor.acted.len()), (None, 0));
    assert_eq!(go(&plan, &mut journal, &mut actor).unwrap().verdict, Some(Verdict::Passed));
}

#[test]
fn an_edited_plan_is_not_executed() {
    let mut plan = plan();
    plan.steps.remove(0);
    let mut actor = Scripted::default();
    assert!(matches!(go(&plan, &mut Memory::default(), &mut actor), Err(ExecuteError::Edited)));
    assert!(actor.acted.is_empty());
}

#[test]
fn what_only_looks_does_not_judge_a_way_back_and_a_teardown_does() {
    for (effect, expected) in [(Effect::Read, Verdict::Aborted), (Effect::Mutate, Verdict::AbortFailed)] {
        let mut plan = plan();
        plan.always[1].effect = effect;
        let mut actor = Scripted { fails: ["teardown"].into(), ..Scripted::default() };
        let finished = abort(&plan.sealed(), "no", &mut Memory::default(), &mut actor, &|| false).unwrap();
        assert_eq!(finished.verdict, Some(expected), "{effect:?}");
    }
}
