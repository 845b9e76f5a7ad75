//! An orchestrator that is killed anywhere: every scenario that moves the lead, done by its real actor on a group that is a
//! model, killed at every event of its journal, before and after every act, and after every single change; then gone on
//! with, or taken back, by another one that knows only what is on the disk.

use std::cell::RefCell;
use std::fs;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use tempfile::TempDir;

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

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Promoting,
    Serving,
    Demoting,
}

#[derive(Debug, Clone, Default)]
struct Member {
    dead: bool,
    paused: Option<String>,
    drained: Option<String>,
    demoted: Option<String>,
    handed_off: bool,
    /// The last term in which it led, and the last one that it gave up in order.
    led: Option<u64>,
    ended: Option<u64>,
}

/// A moment of a term.
fn at(term: u64) -> jiff::Timestamp {
    jiff::Timestamp::from_second(i64::try_from(term).unwrap()).unwrap()
}

impl Member {
    /// The same, with nothing that a person asked for.
    fn free(&self) -> Self {
        Self { led: self.led, ended: self.ended, ..Self::default() }
    }

    fn is_free(&self) -> bool {
        self.paused.is_none() && self.drained.is_none() && self.demoted.is_none()
    }
}

/// What goes on whether an orchestrator lives or not.
struct World {
    members: BTreeMap<&'static str, Member>,
    lease: Option<(&'static str, Phase)>,
    holder: &'static str,
    term: u64,
    /// The first upstream that the ingress has loaded.
    loaded: String,
    changes: usize,
    kill: Kill,
    /// Where the one before was killed.
    killed: Kill,
    looks: u32,
}

/// A group of three with an ingress.
struct Model {
    inventory: Inventory,
    leadership: Leadership,
    /// The ingress leads to whoever leads; otherwise only to the first of its file.
    finds: bool,
    world: RefCell<World>,
    place: TempDir,
}

impl World {
    /// A moment passes.
    fn tick(&mut self, leadership: Leadership) {
        self.lease = match self.lease {
            Some((node, _)) if self.members[node].dead => None,
            Some((node, Phase::Demoting)) => {
                self.members.get_mut(node).unwrap().ended = Some(self.term);
                None
            }
            Some((node, _)) => Some((node, Phase::Serving)),
            None if leadership == Leadership::Auto => {
                // Whoever may lead does; the last one, who is nobody's first choice.
                let may = |member: &Member| !member.dead && !member.handed_off && member.is_free();
                let next = NODES.into_iter().rev().find(|node| may(&self.members[node]));
                next.map(|node| self.claim(node))
            }
            None => None,
        };
    }

    fn claim(&mut self, node: &'static str) -> (&'static str, Phase) {
        self.term += 1;
        self.holder = node;
        let member = self.members.get_mut(node).unwrap();
        (member.led, member.ended) = (Some(self.term), None);
        (node, Phase::Promoting)
    }

    fn changed(&mut self) {
        self.changes += 1;
        if self.kill == Kill::Change(self.changes) {
            die();
        }
    }

    fn serves(&self) -> Option<&'static str> {
        self.lease.filter(|(node, phase)| *phase == Phase::Serving && !self.members[node].dead).map(|(node, _)| node)
    }
}

fn name(node: &str) -> &'static str {
    NODES.into_iter().find(|known| *known == node).expect("a node of the model")
}

fn ended(stdout: String) -> Ended {
    Ended { status: Some(ExitStatus::from_raw(0)), stdout, stderr: String::new() }
}

impl Model {
    /// `leader` leads; with `lost` it is dead, and the ingress still leads there.
    fn new(leadership: Leadership, leader: &'static str, lost: bool) -> Self {
        let place = tempfile::tempdir().unwrap();
        let config = place.path().join("app.conf");
        fs::write(&config, "server 10.0.0.1:80;\nserver 10.0.0.2:80;\nserver 10.0.0.3:80;\n").unwrap();
        let node = |(number, name): (usize, &str)| {
            let preferred = if number == 0 { "leader" } else { "follower" };
            let service = format!("http://10.0.0.{}:80/", number + 1);
            format!("[[node]]\nname = \"{name}\"\npreferred = \"{preferred}\"\nservice = \"{service}\"\nreach = []\n")
        };
        let nodes: String = NODES.into_iter().enumerate().map(node).collect();
        let text = format!(
            "name = \"model\"\n[ingress]\nurl = \"http://app.example/\"\nconfig = \"{}\"\nvalidate = [\"validate\"]\n\
             reload = [\"reload\"]\nreach = []\n{nodes}",
            config.display()
        );
        let mut members: BTreeMap<&str, Member> = NODES.into_iter().map(|node| (node, Member::default())).collect();
        members.get_mut(leader).unwrap().dead = lost;
        let world = World {
            members,
            lease: Some((leader, Phase::Serving)),
            holder: leader,
            term: 7,
            loaded: "a".to_owned(),
            changes: 0,
            kill: Kill::Never,
            killed: Kill::Never,
            looks: 0,
        };
        let inventory = inventory::parse(&text).unwrap();
        Self { inventory, leadership, finds: !lost, world: RefCell::new(world), place }
    }

    fn config(&self) -> PathBuf {
        self.place.path().join("app.conf")
    }

    fn view(&self, node: &'static str) -> View {
        let world = self.world.borrow();
        let member = &world.members[node];
        let (mode, like) = match world.lease {
            Some((by, Phase::Serving)) if by == node && member.drained.is_some() => (Mode::Draining, "draining"),
            Some((by, Phase::Serving)) if by == node => (Mode::Leader, "leader"),
            Some((by, Phase::Promoting)) if by == node => (Mode::Promoting, "promoting"),
            Some((by, Phase::Demoting)) if by == node => (Mode::Demoting, "demoting"),
            _ if member.paused.is_some() => (Mode::Paused, "paused"),
            _ if self.leadership == Leadership::Static || member.handed_off || member.demoted.is_some() => {
                (Mode::Follower, "follower")
            }
            _ => (Mode::Candidate, "candidate"),
        };
        let mut view = EXAMPLES.with(|examples| examples[like].clone());
        view.mode = mode;
        view.node = node.to_owned();
        view.instance = format!("instance-{node}");
        view.term = world.term;
        view.holder = Some(Holder {
            node: world.holder.to_owned(),
            instance: format!("instance-{}", world.holder),
            term: world.term,
            api: None,
            since: None,
            released: world.lease.is_none(),
        });
        (view.paused, view.drained) = (member.paused.clone(), member.drained.clone());
        view.demoted = member.demoted.clone();
        view.saves = true;
        view.ended = member.ended.map(|term| EndedView { term, stopped: at(term), saved: Some(at(term)) });
        view.takeover = member.led.map(|term| TakeoverView {
            term,
            claimed: at(term),
            ready: Some(at(term)),
            snapshot: format!("snap-{term}"),
            // The last snapshot of the term before.
            captured: at(term - 1),
            lost_seconds: 0,
            phases: Vec::new(),
        });
        if self.leadership == Leadership::Static {
            view.lease.mode = Some("static".to_owned());
        }
        view
    }

    fn sight(&self, ingress_driver: bool) -> Sight {
        let seen = |node: &str| Seen {
            name: node.to_owned(),
            preferred: node == "a",
            state: self.state(node).ok(),
            silence: None,
        };
        Sight { ingress_driver, ..sight(NODES.into_iter().map(seen).collect()) }
    }

    fn plan(&self, scenario: &str, ingress_driver: bool) -> Plan {
        let parsed = builtin::scenario(scenario, &Deeds).unwrap().unwrap();
        let wish = Wish { id: format!("{scenario}-1"), ..wish() };
        let text = builtin::text(scenario).unwrap();
        let mut plan = resolve(&parsed, text, &self.sight(ingress_driver), &wish).unwrap();
        // An ingress that finds the leader by itself is waited for by the clock; that of the model never does.
        plan.steps.iter_mut().filter(|step| step.id == "ingress-swap").for_each(|step| step.timeout_seconds = 0);
        plan.sealed()
    }

    fn pass(&self, moments: u32) {
        (0..moments).for_each(|_| self.world.borrow_mut().tick(self.leadership));
    }
}

thread_local! {
    /// Parsed once: they are copied for every look.
    static EXAMPLES: BTreeMap<String, View> = examples::all().into_iter().collect();
}

impl Field for Model {
    fn inventory(&self) -> &Inventory {
        &self.inventory
    }

    fn state(&self, node: &str) -> Result<State, String> {
        let node = name(node);
        if self.world.borrow().members[node].dead {
            return Err("no answer".to_owned());
        }
        let reading = Reading { view: self.view(node), ticked_ago: Duration::ZERO };
        Ok(State::of(reading, &Limits::default(), "/srv/node", examples::now()))
    }

    fn request(&self, node: &str, kind: RequestKind, reason: &str) -> Result<Asked, String> {
        let (node, reason) = (name(node), Some(reason.to_owned()));
        let mut world = self.world.borrow_mut();
        if world.members[node].dead {
            return Err("no answer".to_owned());
        }
        let serving = world.serves();
        let is_static = self.leadership == Leadership::Static;
        let demoting = world.lease == Some((node, Phase::Demoting));
        let member = world.members.get_mut(node).unwrap();
        match kind {
            RequestKind::Drain => member.drained = reason,
            RequestKind::Pause => member.paused = reason,
            RequestKind::Resume => *member = member.free(),
            RequestKind::Handoff if is_static || serving != Some(node) => {
                return Ok(Asked::Refused("it does not lead".to_owned()));
            }
            RequestKind::Handoff => {
                member.handed_off = true;
                world.lease = Some((node, Phase::Demoting));
            }
            RequestKind::Demote => {
                member.demoted = reason;
                if world.lease.is_some_and(|(by, _)| by == node) {
                    world.lease = Some((node, Phase::Demoting));
                }
            }
            RequestKind::Promote if demoting => return Ok(Asked::Refused("it is demoting".to_owned())),
            RequestKind::Promote if serving != Some(node) => {
                assert!(is_static, "nobody is promoted where a lease decides");
                assert_eq!(serving, None, "{node} is made to lead while another one does");
                *member = member.free();
                let claimed = world.claim(node);
                world.lease = Some(claimed);
            }
            RequestKind::Promote => {}
            RequestKind::ForceClaim => panic!("no scenario claims by force"),
        }
        world.changed();
        Ok(Asked::Accepted("done".to_owned()))
    }

    fn run(&self, _: Option<&str>, argv: &[String], _: Duration) -> Result<Ended, String> {
        panic!("no scenario runs {argv:?}")
    }

    fn at_ingress(&self, args: &[String], stdin: &[u8], _: Duration) -> Result<Ended, String> {
        let path = Path::new(&args[2]);
        if args[1] == "read" {
            let read = File::read(path).map_err(|error| error.to_string())?;
            return Ok(ended(serde_json::to_string(&read).unwrap()));
        }
        let (text, expected) = (std::str::from_utf8(stdin).unwrap(), args[4].parse().unwrap());
        let replaced =
            File::replace(path, expected, text, args[6].parse().unwrap()).map_err(|error| error.to_string())?;
        self.world.borrow_mut().changed();
        Ok(ended(serde_json::to_string(&replaced).unwrap()))
    }

    fn run_at_ingress(&self, argv: &[String], _: Duration) -> Result<Ended, String> {
        if argv[0] == "reload" {
            let text = fs::read_to_string(self.config()).unwrap();
            let first = NODES
                .into_iter()
                .enumerate()
                .find(|(number, _)| text.starts_with(&format!("server 10.0.0.{}:", number + 1)));
            let mut world = self.world.borrow_mut();
            world.loaded = first.map(|(_, node)| node.to_owned()).unwrap();
            world.changed();
        }
        Ok(ended(String::new()))
    }

    fn probe(&self, expect: Option<&str>, skip: &[&str]) -> Result<ProbeReport, String> {
        let asked = NODES.into_iter().filter(|node| !skip.contains(node));
        let surfaces: Vec<Surface> = asked.map(|node| surface(node, self.state(node).ok().as_ref())).collect();
        let leaders: Vec<&str> = (surfaces.iter())
            .filter(|surface| surface.is == Some(Role::Leader))
            .map(|surface| surface.name.as_str())
            .collect();
        let good = leaders.len() == 1
            && expect.is_none_or(|expect| leaders[0] == expect)
            && surfaces.iter().all(|surface| matches!(surface.is, Some(Role::Leader | Role::Follower)));
        Ok(ProbeReport {
            fleet: "model".to_owned(),
            inventory: self.inventory.digest(),
            vantage: "here".to_owned(),
            at: examples::now(),
            expected_leader: expect.map(str::to_owned),
            surfaces,
            control: None,
            own_identity: false,
            assertions: Vec::new(),
            passed: 1,
            failed: usize::from(!good),
            skipped: 0,
            verdict: if good { Probed::Passed } else { Probed::Failed },
            warnings: Vec::new(),
            explanations: Vec::new(),
            vantages: Vec::new(),
        })
    }

    fn ingress(&self) -> Result<String, String> {
        let world = self.world.borrow();
        match world.serves().filter(|node| self.finds || *node == world.loaded) {
            Some(node) => Ok(node.to_owned()),
            None => Err("status 503".to_owned()),
        }
    }

    fn port(&self, node: &str) -> Port {
        let serves = self.world.borrow().lease.is_some_and(|(by, _)| by == node);
        match serves && !self.world.borrow().members[name(node)].dead {
            true => Port::Open,
            false => Port::Closed("refused".to_owned()),
        }
    }

    fn work(&self, _: &str) -> Result<Option<u64>, String> {
        Ok(Some(0))
    }

    fn up(&self, _: &str, _: Duration) -> Result<String, String> {
        panic!("no scenario starts an agent")
    }

    fn down(&self, _: &str, _: Duration) -> Result<String, String> {
        panic!("no scenario ends an agent")
    }

    fn pause(&self) {
        let mut world = self.world.borrow_mut();
        world.looks += 1;
        assert!(
            world.looks < FOR_EVER,
            "something is waited for that never comes, killed at {:?}: {:?} holds the lease: {:#?}",
            world.killed,
            world.lease,
            world.members
        );
        world.tick(self.leadership);
    }
}

fn surface(node: &str, state: Option<&State>) -> Surface {
    let is = state.map(|state| match state.leader.ok {
        true => Role::Leader,
        false if state.role == "standby" => Role::Follower,
        false => Role::Other(state.role.clone()),
    });
    Surface {
        name: node.to_owned(),
        of: Of::Node,
        url: None,
        skipped: None,
        health: Default::default(),
        ready: Default::default(),
        role: Default::default(),
        is,
        who: Who::default(),
        service: None,
        ips: Vec::new(),
        certificates: Vec::new(),
    }
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

#[test]
fn a_move_killed_anywhere_is_gone_on_with_and_done_once() {
    for case in CASES {
        for kill in case.kills() {
            for moments in [0, 10] {
                let told = case.told(&kill, moments);
                let mut story = case.story();
                let before = story.term();
                assert!(story.orchestrate(&kill, false).is_none(), "{told}: it was not killed");
                story.model.pass(moments);
                let finished = story.orchestrate(&Kill::Never, false).unwrap().unwrap();
                assert_eq!(finished.verdict, Some(Verdict::Passed), "{told}: {finished:#?}");
                story.settled(&told);
                assert_eq!(story.term(), before + 1, "{told}: the lead moved once");
                match &story.plan.target {
                    Some(target) => assert_eq!(story.leader(), Some(target.as_str()), "{told}"),
                    None => assert_ne!(story.leader(), Some(case.leader), "{told}"),
                }
                let again = story.orchestrate(&Kill::Never, false).unwrap();
                assert!(matches!(again, Err(ExecuteError::Ended(_))), "{told}");
            }
        }
    }
}

#[test]
fn a_move_killed_anywhere_is_taken_back_to_where_it_began() {
    for case in CASES {
        for kill in case.kills() {
            for moments in [0, 10] {
                let told = case.told(&kill, moments);
                let mut story = case.story();
                let before = story.term();
                assert!(story.orchestrate(&kill, false).is_none(), "{told}: it was not killed");
                story.model.pass(moments);
                let finished = story.orchestrate(&Kill::Never, true).unwrap().unwrap();
                taken_back(&mut story, case, before, &finished, &told);
            }
        }
    }
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
