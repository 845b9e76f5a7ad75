//! The loop: takes what happens, asks the machine, does what it says, and shows what became of it.
//!
//! One thread owns machine and view. Everything that can take long has a thread of its own: the store (`follow`), the driver
//! (`keeper`), each hook, the probes, the lease. What the next agent must know is written before it is acted on.
//! Layer: joins everything of the agent.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, never, select, unbounded};
use manifests::document::pins::Pins;
use manifests::document::service::Service;
use serde_json::json;
use snapkit::cancel::Cancel;
use snapkit::config::Config;

use super::begin::{Begun, Joining};
use super::environment::{Surroundings, of_service};
use super::follow::{Follower, Look};
use super::keeper::{self, Job};
use super::machine::{Action, Apply, Event, Hook, Machine, Setup, Trouble};
use super::notify::Notify;
use super::persist::{AgentDir, Kept};
use super::shown::Shown;
use super::view::{HookView, IngressView, LeaseView, Mode, Reply, Request};
use super::{hooks, orphan, reconcile};
use crate::clock::BootTime;
use crate::config::AgentConfig;
use crate::driver::{ServiceRole, Start};
use crate::lease::LeaseNote;
use crate::lease::log::Trusted;
use crate::lease::runner::Runner;
use crate::probe;
use crate::surfaces::{Board, Surfaces};

/// How often the loop turns when nothing happens.
const TICK: Duration = Duration::from_millis(200);
/// How often a running service is asked.
const PROBE: Duration = Duration::from_secs(1);

/// What an agent is started with.
pub struct Order<'a> {
    /// The node directory.
    pub node: &'a Path,
    /// Where keys, trust and caches are, and how stores are opened.
    pub config: Config,
    /// The variables of the agent.
    pub variables: &'a Surroundings,
    /// Asks the agent to end.
    pub cancel: Cancel,
    /// Told one line for every event.
    pub tell: &'a mut dyn FnMut(&str),
}

/// Something that comes back from an edge.
enum Input {
    Event(Event),
    Looked(Result<Box<Look>, Trouble>),
    Materialized(Result<Box<Look>, Trouble>),
    Hooked(Option<Hook>, HookView, Result<(), String>),
    Probed(Probed),
    Ingress(IngressView),
    Joined(Result<Box<Runner>, String>),
}

/// What the probes said of one start of the service.
struct Probed {
    start: u64,
    healthy: Option<bool>,
    ready: bool,
    role: Option<String>,
}

/// What an agent did until it ended.
#[derive(Debug, Clone)]
pub struct Ended {
    /// The name of the node.
    pub node: String,
    /// This run.
    pub instance: String,
    /// The highest term seen.
    pub term: u64,
    /// Takeovers of this node that ended with a running leader.
    pub takeovers: u64,
    /// Times another leader beside this one was seen.
    pub conflicts: u64,
    /// What only this node has of its last leadership, by its term.
    pub unshared: Option<u64>,
}

/// Keeps a node until it is asked to end.
///
/// # Errors
/// [`super::begin::BeginError`]: nothing was started, and nothing of an earlier agent was touched.
pub fn run(order: Order<'_>) -> Result<Ended, super::begin::BeginError> {
    let Order { node, config, variables, cancel, tell } = order;
    let mut directory = None;
    loop {
        let begun = super::begin::begin(node, config.clone(), &cancel, directory.take())?;
        directory = Some(Arc::clone(&begun.directory));
        let (ended, again) = keep(begun, variables, &cancel, tell)?;
        if !again || cancel.is_requested() {
            return Ok(ended);
        }
        tell("begin: other pins are in force");
    }
}

/// Keeps a node by the pins it begins with: until the agent is asked to end, or other pins can be used.
fn keep(
    begun: Begun,
    variables: &Surroundings,
    cancel: &Cancel,
    tell: &mut dyn FnMut(&str),
) -> Result<(Ended, bool), super::begin::BeginError> {
    let (inputs, happened) = unbounded();
    let (asks, asked) = unbounded::<(Request, Sender<Reply>)>();
    let Begun { agent, directory, follower, pins, pins_digest, setup, driver, joining, lease, surfaces, unfit } = begun;
    let kept = directory.kept()?;
    let now = BootTime::now();
    let mut shown = Shown { group: pins.lease.as_ref().map(|lease| lease.group.clone()), ..Shown::default() };
    shown.service.driver = pins.service.as_ref().map(|service| service.driver.clone());
    shown.chain.store.clone_from(&follower.from.url);
    shown.orphaned = orphan::list(&follower.node);
    let machine = Machine::new(setup.clone(), kept.clone(), now);
    let view = shown.view(&setup, &machine, LeaseView::default(), now);
    let board = Arc::new(Board::new(view));
    let _surfaces = Surfaces::start(surfaces, Arc::clone(&board), asks)?;
    let (events, of_keeper) = unbounded();
    let jobs = keeper::start(driver, Arc::clone(&directory), events);
    forward(of_keeper, inputs.clone());
    let probing = Arc::new(Mutex::new(None));
    if let Some(service) = pins.service.clone() {
        probe(service, Arc::clone(&probing), inputs.clone(), follower.node.clone());
    }
    let follower = Arc::new(follower);
    let mut turning = Loop {
        machine,
        chores: chores(Arc::clone(&follower), inputs.clone()),
        setup,
        agent,
        pins,
        pins_digest,
        directory,
        follower,
        variables: variables.clone(),
        kept,
        shown,
        inputs,
        jobs,
        lease,
        joining,
        is_joining: false,
        begins_again: false,
        replies: Vec::new(),
        tickets: 0,
        starts: 0,
        probing,
        reconciling: false,
        asking_ingress: false,
        next_ingress: now,
        notifying: false,
        said: None,
        ended: false,
        tell,
        notify: Notify::from_environment(),
    };
    if let Some(why) = unfit {
        turning.step(Event::Lease(LeaseNote::Unfit(why)));
    }
    turning.turn(&happened, &asked, &board, cancel);
    let kept = turning.machine.kept();
    let ended = Ended {
        node: turning.setup.node.clone(),
        instance: turning.setup.instance.clone(),
        term: kept.term,
        takeovers: kept.takeovers,
        conflicts: kept.conflicts,
        unshared: kept.led.as_ref().map(|led| led.term),
    };
    Ok((ended, turning.begins_again))
}

/// Something to do with the node directory and its chain.
type Chore = Box<dyn FnOnce(&Follower) -> Input + Send>;

/// Starts the one thread that changes the node directory, one thing after the other.
fn chores(follower: Arc<Follower>, inputs: Sender<Input>) -> Sender<Chore> {
    let (chores, asked) = unbounded::<Chore>();
    thread::spawn(move || {
        for chore in asked {
            if inputs.send(chore(&follower)).is_err() {
                return;
            }
        }
    });
    chores
}

fn forward(events: Receiver<Event>, inputs: Sender<Input>) {
    thread::spawn(move || {
        for event in events {
            if inputs.send(Input::Event(event)).is_err() {
                return;
            }
        }
    });
}

/// What is asked while a service runs: its role, which start it is, and its variables.
type Probing = Arc<Mutex<Option<(u64, Vec<(String, String)>)>>>;

/// Asks the running service, again and again.
fn probe(service: Service, probing: Probing, inputs: Sender<Input>, node: PathBuf) {
    thread::spawn(move || {
        loop {
            let asked = probing.lock().unwrap_or_else(PoisonError::into_inner).clone();
            if let Some((start, environment)) = asked {
                let ask = |one: &Option<manifests::document::service::Probe>| {
                    one.as_ref().map(|one| probe::ask(one, &environment, &node))
                };
                let (healthy, ready, role) = (ask(&service.health), ask(&service.ready), ask(&service.role));
                let healthy = healthy.map(|answer| answer.holds);
                // Without a question the fact that it runs must do.
                let ready = ready.map_or(healthy.unwrap_or(true), |answer| answer.holds && healthy != Some(false));
                let role = role.map(|answer| if answer.holds { answer.text } else { answer.why });
                if inputs.send(Input::Probed(Probed { start, healthy, ready, role })).is_err() {
                    return;
                }
            }
            thread::sleep(PROBE.min(TICK * 3));
        }
    });
}

struct Loop<'a> {
    machine: Machine,
    setup: Setup,
    agent: AgentConfig,
    pins: Pins,
    pins_digest: manifests::digest::Digest,
    directory: Arc<AgentDir>,
    follower: Arc<Follower>,
    chores: Sender<Chore>,
    variables: Surroundings,
    kept: Kept,
    shown: Shown,
    inputs: Sender<Input>,
    jobs: Sender<Job>,
    lease: Option<Runner>,
    joining: Option<Arc<Joining>>,
    is_joining: bool,
    begins_again: bool,
    replies: Vec<(u64, Sender<Reply>)>,
    tickets: u64,
    starts: u64,
    probing: Probing,
    reconciling: bool,
    asking_ingress: bool,
    next_ingress: BootTime,
    notifying: bool,
    said: Option<Mode>,
    ended: bool,
    tell: &'a mut dyn FnMut(&str),
    notify: Notify,
}

impl Loop<'_> {
    fn turn(
        &mut self,
        happened: &Receiver<Input>,
        asked: &Receiver<(Request, Sender<Reply>)>,
        board: &Board,
        cancel: &Cancel,
    ) {
        let (mut leaving, mut alive) = (false, BootTime::now());
        while !self.ended {
            let notes = self.lease.as_ref().map_or_else(never, |lease| lease.notes.clone());
            select! {
                recv(happened) -> input => if let Ok(input) = input { self.take(input) },
                recv(notes) -> note => if let Ok(note) = note { self.step(Event::Lease(note)) },
                recv(asked) -> request => if let Ok((request, reply)) = request { self.ask(request, reply) },
                default(TICK) => self.step(Event::Tick),
            }
            if cancel.is_requested() && !leaving {
                leaving = true;
                self.notify.tell("STOPPING=1");
                self.step(Event::Shutdown);
            }
            if self.begins_again && !leaving && self.machine.is_idle(BootTime::now()) {
                leaving = true;
                self.record("pins_changed", "what this node runs is ended, and it begins by the new pins");
                self.step(Event::Shutdown);
            }
            self.reconcile();
            self.say();
            let now = BootTime::now();
            let lease = self.lease.as_ref().map_or_else(LeaseView::default, Runner::view);
            board.post(self.shown.view(&self.setup, &self.machine, lease, now));
            if self.notify.watchdog.is_some_and(|every| now.since(alive) >= every) {
                alive = now;
                self.notify.tell("WATCHDOG=1");
            }
        }
    }

    fn take(&mut self, input: Input) {
        let event = match input {
            Input::Event(Event::SetAside(led, result)) => {
                self.shown.orphaned = orphan::list(&self.follower.node);
                Event::SetAside(led, result)
            }
            Input::Event(event) => event,
            Input::Looked(result) => Event::Looked(self.looked(result)),
            Input::Materialized(result) => Event::Materialized(self.looked(result)),
            Input::Hooked(Some(hook), view, result) => {
                self.shown.ran(view);
                Event::Hooked(hook, result)
            }
            Input::Hooked(None, view, _) => {
                match view.hook.as_str() {
                    "reconcile" => self.reconciling = false,
                    _ => self.notifying = false,
                }
                self.shown.ran(view);
                return;
            }
            // An answer of a service that was stopped meanwhile says nothing of the next one.
            Input::Probed(probed) if probed.start != self.starts => return,
            Input::Probed(probed) => {
                self.shown.service.healthy = probed.healthy;
                self.shown.service.role = probed.role;
                Event::Probed { ready: probed.ready }
            }
            Input::Ingress(view) => {
                self.asking_ingress = false;
                self.shown.ingress = Some(view);
                return;
            }
            Input::Joined(result) => {
                self.is_joining = false;
                match result {
                    Ok(runner) => {
                        self.lease = Some(*runner);
                        self.record("joined", "the lease can be followed");
                        return;
                    }
                    Err(why) => Event::Lease(LeaseNote::Unfit(why)),
                }
            }
        };
        self.step(event);
    }

    fn looked(&mut self, result: Result<Box<Look>, Trouble>) -> Result<super::machine::Sight, Trouble> {
        let look = result?;
        self.shown.looked(&look);
        self.other_pins(&look);
        self.join(&look);
        if let Some(lease) = &self.lease {
            let members = self.pins.lease.as_ref().map(|lease| lease.members.clone()).unwrap_or_default();
            lease.trust(Trusted { root: look.standing.root.clone(), members });
            lease.chain(look.standing.head);
        }
        Ok(look.sight)
    }

    /// Joins the lease where that could not be done before.
    fn join(&mut self, look: &Look) {
        let Some(joining) = self.joining.clone().filter(|_| self.lease.is_none() && !self.is_joining) else { return };
        self.is_joining = true;
        let (inputs, standing) = (self.inputs.clone(), look.standing.clone());
        thread::spawn(move || {
            // The loop may have ended meanwhile.
            let _ = inputs.send(Input::Joined(joining.join(standing).map(Box::new)));
        });
    }

    /// Other pins are used at once where nothing leads, if what they name can run here.
    fn other_pins(&mut self, look: &Look) {
        self.begins_again = false;
        self.shown.other_pins = (look.pins != self.pins_digest).then(|| {
            if self.machine.holds().is_some() {
                return "it leads by those before".to_owned();
            }
            match super::begin::driver_of(&look.document, &self.agent, self.directory.path()) {
                Ok(_) => {
                    self.begins_again = true;
                    "they are used in a moment".to_owned()
                }
                Err(error) => keeper::told(&error),
            }
        });
    }

    fn ask(&mut self, request: Request, reply: Sender<Reply>) {
        self.tickets += 1;
        self.replies.push((self.tickets, reply));
        self.record("request", &format!("{} by {}: {}", request.kind.as_str(), request.by, request.reason));
        self.step(Event::Asked(self.tickets, request));
    }

    /// Tells the machine, writes down what must be known after a crash, and does what follows.
    fn step(&mut self, event: Event) {
        let mut events = vec![event];
        while let Some(event) = events.pop() {
            let actions = self.machine.step(event, BootTime::now());
            let mut written = true;
            if *self.machine.kept() != self.kept {
                let result = self.directory.keep(self.machine.kept());
                written = result.is_ok();
                self.shown.unwritten = result.err().map(|error| keeper::told(&error));
                if written {
                    self.kept = self.machine.kept().clone();
                }
            }
            for action in actions {
                match action {
                    // A leadership that could not be written down must not begin.
                    Action::Start { role: ServiceRole::Leader, .. } if !written => {
                        let why = self.shown.unwritten.clone().unwrap_or_default();
                        events.push(Event::Started(Err(format!("its start cannot be written down: {why}"))));
                    }
                    action => self.act(action),
                }
            }
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Wish(wish) => {
                if let Some(lease) = &self.lease {
                    let _ = lease.wishes.send(wish);
                }
            }
            Action::Reclaim => self.job(Job::Reclaim),
            Action::Start { role, term, until } => {
                self.starts += 1;
                self.shown.service.starts += 1;
                self.shown.service.healthy = None;
                self.shown.service.role = None;
                let environment =
                    of_service(&self.variables, &self.pins, &self.setup.node, &self.follower.node, role, term);
                *self.probing.lock().unwrap_or_else(PoisonError::into_inner) = Some((self.starts, environment.clone()));
                let directory = self.follower.node.clone();
                self.job(Job::Start(Box::new(Start { role, term, until, directory, environment })));
            }
            Action::Extend(until) => self.job(Job::Extend(until)),
            Action::Stop { grace } => {
                self.unprobed();
                self.job(Job::Stop(grace));
            }
            Action::Kill => {
                self.unprobed();
                self.job(Job::Kill);
            }
            Action::Look(apply) => self.work(move |follower| Input::Looked(follower.look(apply).map(Box::new))),
            Action::Materialize { afresh } => {
                let apply = Apply::Switch { afresh };
                self.work(move |follower| Input::Materialized(follower.look(apply).map(Box::new)));
            }
            Action::SetAside(led) => self.work(move |follower| {
                let result = follower.set_aside(&led);
                Input::Event(Event::SetAside(led, result))
            }),
            Action::Fence { claim, .. } => {
                // Not behind a restore: what an earlier leader still writes ends with the fence.
                let (follower, inputs) = (Arc::clone(&self.follower), self.inputs.clone());
                thread::spawn(move || {
                    let _ = inputs.send(Input::Event(Event::Fenced(follower.fence(&claim))));
                });
            }
            Action::Run { hook, term, within } => self.hook(hook.as_str(), Some(hook), term, within),
            Action::Reply(ticket, reply) => {
                if let Some(at) = self.replies.iter().position(|(known, _)| *known == ticket) {
                    let _ = self.replies.swap_remove(at).1.send(reply);
                }
            }
            Action::Record(event, what) => {
                self.shown.recorded(event, &self.machine, BootTime::now());
                self.record(event, &what);
            }
            Action::Exit => self.ended = true,
        }
    }

    fn job(&self, job: Job) {
        self.jobs.send(job).expect("the keeper lives as long as the loop");
    }

    fn unprobed(&mut self) {
        *self.probing.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.starts += 1;
    }

    fn work(&self, work: impl FnOnce(&Follower) -> Input + Send + 'static) {
        self.chores.send(Box::new(work)).expect("the thread of the node directory lives as long as the loop");
    }

    fn hook(&self, name: &str, hook: Option<Hook>, term: u64, within: Duration) {
        let Some(config) = self.agent.hooks.get(name).cloned() else { return };
        let role = if self.machine.holds().is_some() { ServiceRole::Leader } else { ServiceRole::Follower };
        let node = self.follower.node.clone();
        let mut environment = of_service(&self.variables, &self.pins, &self.setup.node, &node, role, term);
        let mode = serde_json::to_value(self.machine.mode()).unwrap_or_default();
        let sight = self.machine.sight();
        environment.extend([
            ("SNAPKIT_HOOK".to_owned(), name.to_owned()),
            ("SNAPKIT_MODE".to_owned(), mode.as_str().unwrap_or_default().to_owned()),
            ("SNAPKIT_WHY".to_owned(), self.machine.why(BootTime::now())),
            ("SNAPKIT_HEAD".to_owned(), sight.map_or_else(String::new, |sight| sight.head.to_string())),
            ("SNAPKIT_SNAPSHOT".to_owned(), sight.map_or_else(String::new, |sight| sight.snapshot.clone())),
            ("SNAPKIT_HOLDER".to_owned(), self.machine.holder().map_or_else(String::new, |by| by.node.clone())),
        ]);
        let (inputs, name) = (self.inputs.clone(), name.to_owned());
        thread::spawn(move || {
            let (view, result) = hooks::run(&name, &config, within, &environment, &node);
            let _ = inputs.send(Input::Hooked(hook, view, result));
        });
    }

    /// Asks where ingress leads, and corrects it while this node leads.
    fn reconcile(&mut self) {
        let Some(ingress) = &self.agent.ingress else { return };
        let now = BootTime::now();
        let agrees = self.shown.ingress.as_ref().is_none_or(|view| view.agrees);
        let leads = self.machine.mode() == Mode::Leader && self.machine.is_ready();
        if !self.asking_ingress && now >= self.next_ingress {
            self.asking_ingress = true;
            self.next_ingress = now + Duration::from_secs(ingress.every_seconds);
            let (ingress, inputs) = (ingress.clone(), self.inputs.clone());
            let holder = self.machine.holder().filter(|holder| !holder.released).map(|holder| holder.node.clone());
            thread::spawn(move || {
                let _ = inputs.send(Input::Ingress(reconcile::ask(&ingress, holder.as_deref())));
            });
            if leads && !agrees && !self.reconciling && self.agent.hooks.contains_key("reconcile") {
                self.reconciling = true;
                let term = self.machine.holds().unwrap_or(0);
                self.record("reconcile", "ingress does not lead here");
                self.hook("reconcile", None, term, Duration::MAX);
            }
        }
    }

    /// Tells a change of the mode to whoever wants to know.
    fn say(&mut self) {
        let mode = self.machine.mode();
        if self.said == Some(mode) || self.notifying {
            return;
        }
        let first = self.said.is_none_or(|said| said == Mode::Starting);
        self.said = Some(mode);
        let ready = if first && mode != Mode::Starting { "READY=1\n" } else { "" };
        let word = mode.role();
        let why = self.machine.why(BootTime::now());
        self.notify.tell(&format!("{ready}STATUS={word}: {why}"));
        self.record(
            "mode",
            &format!("{}: {why}", serde_json::to_value(mode).unwrap_or_default().as_str().unwrap_or(word)),
        );
        if self.agent.hooks.contains_key("notify") {
            self.notifying = true;
            self.hook("notify", None, self.machine.kept().term, Duration::MAX);
        }
    }

    fn record(&mut self, event: &str, what: &str) {
        let details = json!({ "what": what, "mode": self.machine.mode(), "term": self.machine.kept().term });
        self.directory.record(event, &details);
        (self.tell)(&format!("{event}: {what}"));
    }
}
