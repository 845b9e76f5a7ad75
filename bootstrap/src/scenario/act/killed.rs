//! An orchestrator that is killed anywhere: every scenario that moves the lead, done by its real actor on a group that is a
//! model, killed at every event of its journal, before and after every act, and after every single change; then gone on
//! with, or taken back, by another one that knows only what is on the disk.

mod model;

use std::cell::RefCell;
use std::fs;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use tempfile::TempDir;

use self::model::Model;
use super::*;
use crate::agent::view::{EndedView, TakeoverView, View};
use crate::command::Finished as Ended;
use crate::drill::deeds::Deeds;
use crate::evidence::event::StepStatus;
use crate::fleet::inventory::{self, Inventory};
use crate::fleet::probe::{Of, ProbeReport, Role, Surface, Verdict as Probed, Who};
use crate::lease::Holder;
use crate::scenario::builtin;
use crate::scenario::execute::{self, ExecuteError, Finished, Journal, Verdict};
use crate::scenario::field::Port;
use crate::scenario::grammar::Leadership;
use crate::scenario::ingress::File;
use crate::scenario::resolve::tests::{sight, wish};
use crate::scenario::resolve::{Seen, Sight, Wish, resolve};
use crate::surfaces::board::Reading;
use crate::surfaces::examples;
use crate::surfaces::state::Limits;

const NODES: [&str; 3] = ["a", "b", "c"];
/// Looks after which nothing comes any more.
const FOR_EVER: u32 = 2000;

/// The orchestrator was killed.
struct Killed;

fn die() -> ! {
    // No hook is told: this is no failure of a test.
    resume_unwind(Box::new(Killed))
}

/// Where it is killed.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Kill {
    Never,
    /// Before this event of the journal is durable.
    Event(usize),
    /// Between the begin of this step and its act.
    Before(String),
    /// Between the act of this step and its end.
    After(String),
    /// After so many changes were made, before the answer is there.
    Change(usize),
}

/// A journal on a disk: what was added outlives whoever added it.
#[derive(Default)]
struct Disk(Vec<(Option<String>, What)>, Option<usize>);

impl Journal for Disk {
    fn add(&mut self, _: By, step: Option<&str>, what: What) -> io::Result<()> {
        if self.1 == Some(self.0.len()) {
            die();
        }
        self.0.push((step.map(str::to_owned), what));
        Ok(())
    }

    fn past(&self) -> Vec<(Option<&str>, &What)> {
        self.0.iter().map(|(step, what)| (step.as_deref(), what)).collect()
    }
}

/// The real actor, and death beside it.
struct Mortal<'m> {
    mover: Mover<'m>,
    kill: &'m Kill,
}

impl Actor for Mortal<'_> {
    fn act(&mut self, turn: &mut Turn<'_>) -> Outcome {
        if *self.kill == Kill::Before(turn.step.id.clone()) {
            die();
        }
        let outcome = match turn.step.action.kind.as_str() {
            // Of drills, not of moves; it only looks.
            "facts" => Outcome::ok("seen"),
            _ => self.mover.act(turn),
        };
        if *self.kill == Kill::After(turn.step.id.clone()) {
            die();
        }
        outcome
    }

    fn rehearse(&mut self, turn: &mut Turn<'_>) -> Outcome {
        self.mover.rehearse(turn)
    }

    fn is_so(&mut self, plan: &Plan, unless: &Unless) -> bool {
        self.mover.is_so(plan, unless)
    }
}

/// A run on a model, with one orchestrator after the other.
struct Story {
    model: Model,
    plan: Plan,
    disk: Disk,
}

impl Story {
    /// One orchestrator, until its end or until it is killed: then `None`.
    fn orchestrate(&mut self, kill: &Kill, aborts: bool) -> Option<Result<Finished, ExecuteError>> {
        self.disk.1 = match kill {
            Kill::Event(at) => Some(*at),
            _ => None,
        };
        let mut world = self.model.world.borrow_mut();
        world.killed = std::mem::replace(&mut world.kill, kill.clone());
        world.looks = 0;
        drop(world);
        let Self { model, plan, disk } = self;
        let run = || {
            let mover = Mover::new(model, None, &model.place.path().join("runs"));
            let mut actor = Mortal { mover, kill };
            match aborts {
                false => execute::run(plan, disk, &mut actor, &|| false),
                true => execute::abort(plan, "changed our minds", disk, &mut actor, &|| false),
            }
        };
        match catch_unwind(AssertUnwindSafe(run)) {
            Ok(finished) => Some(finished),
            Err(payload) if payload.is::<Killed>() => None,
            Err(payload) => resume_unwind(payload),
        }
    }

    fn leader(&self) -> Option<&'static str> {
        self.model.world.borrow().serves()
    }

    fn term(&self) -> u64 {
        self.model.world.borrow().term
    }

    /// Nobody is held back, one leads unless only an operator could make one, each step ended once, and what was noted of the ingress is what is there.
    #[track_caller]
    fn settled(&mut self, told: &str) {
        self.model.pass(10);
        let world = self.model.world.borrow();
        let may_be_nobody = self.plan.old_leader.as_ref().is_some_and(|old| world.members[old.as_str()].dead)
            && self.model.leadership == Leadership::Static;
        assert!(world.serves().is_some() || may_be_nobody, "{told}: nobody leads");
        for (node, member) in &world.members {
            assert!(member.dead || member.is_free(), "{told}: {node} is held back: {member:?}");
        }
        let ends = |id: &str| {
            let is_end = |(step, what): &&(Option<String>, What)| {
                step.as_deref() == Some(id) && matches!(what, What::StepEnd { .. })
            };
            self.disk.0.iter().filter(is_end).count()
        };
        for step in self.plan.steps.iter().chain(&self.plan.always) {
            assert_eq!(ends(&step.id), 1, "{told}: {} ended so often", step.id);
        }
        let debts = Debts::below(&self.model.place.path().join("runs")).all().unwrap();
        let deployed = fs::read_to_string(self.model.config()).unwrap();
        let is_canonical = deployed.starts_with("server 10.0.0.1:");
        let open: Vec<&super::super::debts::Debt> = debts.iter().filter(|debt| debt.closed.is_none()).collect();
        assert_eq!(open.is_empty(), is_canonical, "{told}: {debts:#?}");
        for debt in open {
            let backup = debt.backup.as_ref().unwrap_or_else(|| panic!("{told}: a hotfix without a backup"));
            assert_eq!(fs::read_to_string(backup).unwrap(), debt.canonical, "{told}");
        }
        // The evidence says of each debt what the disk says.
        for debt in &debts {
            let said = self.disk.0.iter().rev().find_map(|(_, what)| match what {
                What::Debt { id, open, .. } if *id == debt.id => Some(*open),
                _ => None,
            });
            assert_eq!(said, Some(debt.closed.is_none()), "{told}: {debt:#?}");
        }
    }
}

/// A scenario on a model of its own.
#[derive(Clone, Copy)]
struct Case {
    scenario: &'static str,
    leadership: Leadership,
    leader: &'static str,
    lost: bool,
}

const CASES: [Case; 6] = [
    Case { scenario: "planned", leadership: Leadership::Auto, leader: "a", lost: false },
    Case { scenario: "planned", leadership: Leadership::Static, leader: "a", lost: false },
    Case { scenario: "switchback", leadership: Leadership::Auto, leader: "b", lost: false },
    Case { scenario: "switchback", leadership: Leadership::Static, leader: "b", lost: false },
    Case { scenario: "emergency", leadership: Leadership::Auto, leader: "a", lost: true },
    Case { scenario: "emergency", leadership: Leadership::Static, leader: "a", lost: true },
];

impl Case {
    fn story(self) -> Story {
        let model = Model::new(self.leadership, self.leader, self.lost);
        let plan = model.plan(self.scenario, self.lost);
        Story { model, plan, disk: Disk::default() }
    }

    fn told(self, kill: &Kill, moments: u32) -> String {
        format!("{} ({:?}), killed at {kill:?}, {moments} moments", self.scenario, self.leadership)
    }

    /// Everywhere where an orchestrator of this scenario can be killed.
    fn kills(self) -> Vec<Kill> {
        let mut whole = self.story();
        let finished = whole.orchestrate(&Kill::Never, false).unwrap().unwrap();
        assert_eq!(finished.verdict, Some(Verdict::Passed), "{}: {finished:#?}", self.scenario);
        whole.settled(self.scenario);
        let steps: Vec<String> = (finished.steps.iter())
            .filter(|(_, outcome)| outcome.status != StepStatus::Skipped)
            .map(|(step, _)| step.clone())
            .collect();
        let events = (0..whole.disk.0.len()).map(Kill::Event);
        let changes = (1..=whole.model.world.borrow().changes).map(Kill::Change);
        let acts = steps.iter().flat_map(|step| [Kill::Before(step.clone()), Kill::After(step.clone())]);
        let all: Vec<Kill> = events.chain(changes).chain(acts).collect();
        assert!(all.len() > 3 * steps.len(), "{all:?}");
        all
    }
}

/// Kills every scenario everywhere; what another orchestrator then does, at once or a while later, is `then`.
fn each_killed(then: impl Fn(&mut Story, Case, u64, &str)) {
    for case in CASES {
        for kill in case.kills() {
            for moments in [0, 10] {
                let told = case.told(&kill, moments);
                let mut story = case.story();
                let before = story.term();
                assert!(story.orchestrate(&kill, false).is_none(), "{told}: it was not killed");
                story.model.pass(moments);
                then(&mut story, case, before, &told);
            }
        }
    }
}

#[test]
fn a_move_killed_anywhere_is_gone_on_with_and_done_once() {
    each_killed(|story, case, before, told| {
        let finished = story.orchestrate(&Kill::Never, false).unwrap().unwrap();
        assert_eq!(finished.verdict, Some(Verdict::Passed), "{told}: {finished:#?}");
        story.settled(told);
        assert_eq!(story.term(), before + 1, "{told}: the lead moved once");
        match &story.plan.target {
            Some(target) => assert_eq!(story.leader(), Some(target.as_str()), "{told}"),
            None => assert_ne!(story.leader(), Some(case.leader), "{told}"),
        }
        let again = story.orchestrate(&Kill::Never, false).unwrap();
        assert!(matches!(again, Err(ExecuteError::Ended(_))), "{told}");
    });
}

#[test]
fn a_move_killed_anywhere_is_taken_back_to_where_it_began() {
    each_killed(|story, case, before, told| {
        let finished = story.orchestrate(&Kill::Never, true).unwrap().unwrap();
        taken_back(story, case, before, &finished, told);
    });
}

/// Whoever takes a run back is killed, too, and another one takes it back.
#[test]
fn a_way_back_killed_anywhere_is_gone_to_its_end() {
    for case in CASES.into_iter().filter(|case| case.scenario != "switchback") {
        let changing = |kill: &Kill| matches!(kill, Kill::Change(_));
        for kill in case.kills().into_iter().filter(changing) {
            for event in 0.. {
                let mut story = case.story();
                let before = story.term();
                assert!(story.orchestrate(&kill, false).is_none());
                let second = Kill::Event(story.disk.0.len() + event);
                let told = format!("{}, and at {second:?} of the way back", case.told(&kill, 0));
                let first = story.orchestrate(&second, true);
                let over = first.is_some();
                let finished = match first {
                    Some(finished) => finished,
                    None => story.orchestrate(&Kill::Never, true).unwrap(),
                };
                taken_back(&mut story, case, before, &finished.unwrap(), &told);
                if over {
                    break;
                }
            }
        }
    }
}

#[track_caller]
fn taken_back(story: &mut Story, case: Case, before: u64, finished: &Finished, told: &str) {
    assert_eq!(finished.verdict, Some(Verdict::Aborted), "{told}: {finished:#?}");
    story.settled(told);
    if case.lost {
        // There is no way back to a leader that is lost: whoever leads goes on.
        assert!(story.term() <= before + 1, "{told}");
    } else {
        assert_eq!(story.leader(), Some(case.leader), "{told}");
        // Not at all, there and back, or given away and taken again before anybody else did.
        assert!(story.term() <= before + 2, "{told}: {} after {before}", story.term());
    }
    let passed = |what: &What| matches!(what, What::End { passed: true });
    assert!(!story.disk.0.iter().any(|(_, what)| passed(what)), "{told}: a run that was taken back passed");
}
