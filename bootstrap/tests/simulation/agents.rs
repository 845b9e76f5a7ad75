//! One history of a group of agents: on each node the real machine of the agent, its lease, a service and its guard.
//!
//! What the two machines say to each other goes the way it goes in the agent; store, chain, service, guard, hooks and the
//! operator are modelled. Rules: `docs/agent.md`.

#[path = "agents/directory.rs"]
mod directory;
#[path = "agents/invariants.rs"]
mod invariants;
#[path = "agents/operator.rs"]
mod operator;
#[path = "agents/service.rs"]
mod service;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use bootstrap::agent::machine::{Action, Event, Fenced, Hook, Leadership, Machine, Setup};
use bootstrap::agent::persist::Kept;
use bootstrap::agent::view::{Mode, Reply, RequestKind};
use bootstrap::clock::BootTime;
use bootstrap::driver::ServiceRole;
use bootstrap::lease::machine::{self as lease, Answer, Request, Rules};
use bootstrap::lease::timing::Timing;
use bootstrap::lease::{LeaseNote, LeaseWish};
use fastrand::Rng;
use jiff::Timestamp;
use manifests::document::record::Nonce;

use crate::chain::{Chain, Record};
use crate::schedule::{Due, Time};
use crate::store::LogStore;
use crate::tally::Tally;
use crate::way::{self, Leg};
use crate::world::member;
use directory::{Chore, Directory, For, Mark};
use service::{Job, Keep, Keeper, Order, Service};

const TTL: Time = 15_000_000;
/// The most that a clock may be off.
const SKEW: f64 = 0.09;
/// How often an agent looks around when nothing happens.
const TICK: Time = 600_000;

/// Which rule is taken out: none, except in tests that prove that the net catches it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Broken {
    Nothing,
    /// The lease is given back while the service is being stopped.
    ReleasedWhileStopping,
    /// The fence is taken to stand once it was sent.
    StartedBeforeFence,
    /// What an earlier agent left is taken to be dead.
    ReclaimedUnproven,
    /// A service that does not die is taken to be dead.
    AliveTakenForDead,
    /// The guard has no deadline of its own.
    GuardAsleep,
}

struct Node {
    agent: Machine,
    lease: lease::Machine,
    instance: Nonce,
    /// Those of all its runs.
    instances: Vec<Nonce>,
    /// Which run of the agent this is: what belongs to an earlier one reaches nobody.
    run: u64,
    boot: u64,
    rate: f64,
    /// When, in true time, it was booted.
    born: Time,
    alive: bool,
    stopped: bool,
    off_until: Time,
    /// Until when the whole machine is suspended, with agent, guard and service; its clock goes on.
    asleep_until: Time,
    /// What came while the process was stopped.
    deferred: Vec<What>,
    cut_until: Time,
    full_until: Time,
    wake: u64,
    /// What is on the disk of it.
    kept: Kept,
    directory: Directory,
    service: Option<Service>,
    keeper: Keeper,
    is_probed: bool,
    /// The furthest end of its lease that the agent was told.
    told_until: Option<BootTime>,
    begins_again: bool,
}

#[derive(Clone)]
enum What {
    Tick,
    Wake { wake: u64 },
    Wish(LeaseWish),
    Note(LeaseNote),
    Arrive { id: u64, request: Box<Request>, answers_after: Option<Time>, denies: bool },
    Deliver { id: u64, answer: Answer },
    Event(Box<Event>),
    Keep(Keep),
    Asked { id: u64 },
    Dies { id: u64 },
    Crashes { id: u64 },
    Guard { id: u64 },
    Overruled { term: u64 },
    Chore(Chore),
    Put { term: u64, waits: For },
    Lands { slot: usize, record: Record, waits: For, answers: bool },
    Told { waits: For, result: Result<Fenced, &'static str> },
    Snapshot,
    Stop { lasts: Time },
    Continue,
    Crash { lasts: Time },
    PowerOff { lasts: Time },
    Suspend { lasts: Time },
    Start,
    Cut { lasts: Time },
    FullDisk { lasts: Time },
    Litter,
    OtherPins,
    Shutdown,
    Request(RequestKind),
    Appoint,
}

impl What {
    /// Whether a machine that is suspended does not see it. The others happen to the store, or to the machine from outside.
    fn is_of_the_machine(&self) -> bool {
        !matches!(
            self,
            What::Arrive { .. }
                | What::Lands { .. }
                | What::Overruled { .. }
                | What::Litter
                | What::PowerOff { .. }
                | What::Suspend { .. }
                | What::Cut { .. }
                | What::FullDisk { .. }
                | What::Appoint
        )
    }
}

struct World {
    now: Time,
    order: u64,
    due: BinaryHeap<Reverse<Due<What>>>,
    nodes: Vec<Node>,
    log: LogStore,
    chain: Chain,
    rng: Rng,
    broken: Broken,
    timing: Timing,
    leadership: Leadership,
    follower_runs: bool,
    hooks: Vec<Hook>,
    dies_with_agent: bool,
    healed: bool,
    highest_term: u64,
    /// Services that were started.
    ids: u64,
    /// Until when an operator keeps nodes off for what was asked of another one.
    operator_until: Time,
    /// An operator forces a claim without having looked whether the holder is dead.
    errs: bool,
    /// Until when one whose lease was taken by such a claim may go on.
    overruled_until: Time,
    tally: Tally,
    trace: bool,
}

/// Lives the history of `seed`; the error says which invariant broke.
pub(crate) fn run(seed: u64, broken: Broken) -> Result<Tally, String> {
    let mut world = World::new(seed, broken);
    let chaos = TTL * world.rng.u64(6..24);
    world.plan(chaos);
    world.run_until(chaos)?;
    world.heal();
    let (healed, bound) = (world.now, world.bound());
    while world.now < healed + bound {
        if world.leads() {
            world.tally.recovery_ms = (world.now - healed) / 1000;
            // It stays so.
            world.run_until(world.now + 3 * TTL)?;
            return if world.leads() { Ok(world.tally) } else { Err("the leader did not stay".into()) };
        }
        world.step()?;
    }
    let why = |node: usize| world.nodes[node].agent.why(world.local(node));
    let whys: Vec<String> = (0..world.nodes.len()).map(why).collect();
    Err(format!("nobody leads {} ms after the faults ended: {}", bound / 1000, whys.join("; ")))
}

impl World {
    fn new(seed: u64, broken: Broken) -> World {
        let mut rng = Rng::with_seed(seed);
        let timing = Timing { ttl: Duration::from_micros(TTL), gc_min_age: Duration::from_micros(12 * TTL) };
        let count = rng.usize(2..=4);
        let leadership = if rng.u8(..4) == 0 { Leadership::Static } else { Leadership::Auto };
        let hooks = [Hook::Drain, Hook::Save, Hook::PrePromote, Hook::PostPromote, Hook::PostDemote, Hook::Reload];
        let hooks = hooks.into_iter().filter(|_| rng.u8(..3) == 0).collect();
        let mut world = World {
            now: 0,
            order: 0,
            due: BinaryHeap::new(),
            nodes: Vec::new(),
            log: LogStore::default(),
            chain: Chain::default(),
            broken,
            timing,
            leadership,
            follower_runs: rng.u8(..3) == 0,
            hooks,
            dies_with_agent: rng.bool(),
            healed: false,
            highest_term: 0,
            ids: 0,
            operator_until: 0,
            errs: false,
            overruled_until: 0,
            tally: Tally::default(),
            trace: std::env::var_os("SNAPKIT_SIM_TRACE").is_some(),
            rng,
        };
        for number in 0..count {
            let rate = 1.0 + SKEW * (2.0 * world.rng.f64() - 1.0);
            let instance = Nonce(world.rng.u128(..).to_le_bytes());
            let now = BootTime::after_boot(Duration::ZERO);
            let agent = Machine::new(world.setup(number, instance, 0), Kept::default(), now);
            let lease = world.lease_of(number, instance, now);
            world.nodes.push(Node {
                agent,
                lease,
                instance,
                instances: Vec::new(),
                run: 0,
                boot: 0,
                rate,
                born: 0,
                alive: false,
                stopped: false,
                off_until: 0,
                asleep_until: 0,
                deferred: Vec::new(),
                cut_until: 0,
                full_until: 0,
                wake: 0,
                kept: Kept::default(),
                directory: Directory::default(),
                service: None,
                keeper: Keeper::default(),
                is_probed: false,
                told_until: None,
                begins_again: false,
            });
            let at = world.rng.u64(..TTL);
            world.push(at, number, What::Start);
        }
        world
    }

    fn setup(&self, number: usize, instance: Nonce, boot: u64) -> Setup {
        Setup {
            node: format!("node-{number}"),
            instance: instance.to_string(),
            boot: format!("boot-{boot}"),
            leadership: self.leadership,
            barred: None,
            leader_runs: true,
            follower_runs: self.follower_runs,
            no_failover: false,
            max_lag: 1,
            ttl: self.timing.ttl,
            poll: Duration::from_secs(5),
            grace: Duration::from_secs(3),
            start: Duration::from_secs(60),
            hooks: self.hooks.clone(),
        }
    }

    fn lease_of(&self, number: usize, instance: Nonce, now: BootTime) -> lease::Machine {
        let mut me = member(number, instance, &self.timing);
        me.expires = self.leadership == Leadership::Auto;
        lease::Machine::new(me, Rules::ALL, self.chain.head(), now)
    }

    /// From the end of the faults to a service that leads: what the lease takes, by the slowest clock, then the ways of one
    /// agent from a death that could not be proven to a follower, and from the claim to a service that is ready.
    fn bound(&self) -> Time {
        let lease = self.timing.worst_case().as_micros() as f64 / (1.0 - SKEW);
        lease as Time + 30_000_000
    }

    fn plan(&mut self, until: Time) {
        let count = self.nodes.len();
        for _ in 0..self.rng.u64(0..10) {
            let (at, node) = (self.rng.u64(..until), self.rng.usize(..count));
            // Around the deadlines is where it hurts.
            let lasts = if self.rng.bool() { self.rng.u64(..TTL * 2) } else { self.rng.u64(..TTL * 10) };
            let what = match self.rng.u8(..14) {
                0..=2 => What::Stop { lasts },
                3 | 4 => What::Crash { lasts: lasts / 4 },
                5 => What::PowerOff { lasts: lasts / 2 },
                6..=8 => What::Cut { lasts },
                9 => What::FullDisk { lasts },
                10 => What::Shutdown,
                // It is over when the faults are.
                11 | 12 => What::Suspend { lasts: lasts.min(until - at) },
                _ => What::OtherPins,
            };
            self.push(at, node, what);
        }
        if self.rng.u8(..4) == 0 {
            let at = self.rng.u64(..until);
            self.push(at, 0, What::Litter);
        }
        self.plan_requests(until);
    }

    fn push(&mut self, at: Time, node: usize, what: What) {
        self.order += 1;
        let run = self.nodes[node].run;
        self.due.push(Reverse(Due { at, order: self.order, node, run, what }));
    }

    fn run_until(&mut self, end: Time) -> Result<(), String> {
        while self.due.peek().is_some_and(|Reverse(due)| due.at <= end) {
            self.step()?;
        }
        self.now = end;
        Ok(())
    }

    fn step(&mut self) -> Result<(), String> {
        let Reverse(Due { at, node, run, what, .. }) = self.due.pop().expect("nodes always have something to do");
        self.now = at;
        if self.nodes[node].asleep_until > at && what.is_of_the_machine() {
            self.order += 1;
            let at = self.nodes[node].asleep_until;
            self.due.push(Reverse(Due { at, order: self.order, node, run, what }));
            return Ok(());
        }
        match what {
            // What happens to the store, to the service and to the machine depends on no agent.
            What::Arrive { id, request, answers_after, denies } => {
                let answer = self.log.serve(&request, at);
                self.is_dead_when_released(node, &request, &answer)?;
                if let Some(after) = answers_after.filter(|_| run == self.nodes[node].run) {
                    let answer = if denies && matches!(answer, Answer::Created(_)) { Answer::Exists } else { answer };
                    self.push(at + after, node, What::Deliver { id, answer });
                }
            }
            What::Lands { slot, record, waits, answers } => self.lands(node, run, (slot, record, waits, answers))?,
            What::Asked { id } => self.asked(node, id),
            What::Dies { id } | What::Crashes { id } => self.dies(node, id),
            What::Guard { id } => self.guard(node, id),
            What::Overruled { term } => self.is_gone(node, term)?,
            What::Litter if !self.healed => self.log.litter(at),
            What::PowerOff { lasts } if !self.healed => self.power_off(node, lasts),
            What::Suspend { lasts } => {
                self.tally.suspends += 1;
                self.nodes[node].asleep_until = self.nodes[node].asleep_until.max(at + lasts);
            }
            What::Cut { lasts } if !self.healed => {
                self.tally.cuts += 1;
                self.nodes[node].cut_until = at + lasts;
            }
            What::FullDisk { lasts } if !self.healed => self.nodes[node].full_until = at + lasts,
            What::Litter | What::PowerOff { .. } | What::Cut { .. } | What::FullDisk { .. } => {}
            What::Appoint => self.appoint()?,
            What::Start => self.start(node)?,
            What::Crash { lasts } if !self.healed && self.nodes[node].alive => {
                self.tally.crashes += 1;
                self.ends(node, at + lasts);
            }
            What::Continue if run == self.nodes[node].run => {
                self.nodes[node].stopped = false;
                for what in std::mem::take(&mut self.nodes[node].deferred) {
                    // It may have ended by one of them.
                    if run == self.nodes[node].run {
                        self.handle(node, what)?;
                    }
                }
            }
            What::Continue | What::Crash { .. } => {}
            what if run != self.nodes[node].run || !self.nodes[node].alive => self.lost(node, what),
            what if self.nodes[node].stopped => self.nodes[node].deferred.push(what),
            what => self.handle(node, what)?,
        }
        Ok(())
    }

    /// What was planned for an earlier run of the agent comes over this one.
    fn lost(&mut self, node: usize, what: What) {
        let is_planned = matches!(what, What::Stop { .. } | What::Shutdown | What::OtherPins | What::Request(_));
        if is_planned && self.nodes[node].alive {
            self.push(self.now, node, what);
        }
    }

    /// Something happens in an agent that runs.
    fn handle(&mut self, node: usize, what: What) -> Result<(), String> {
        let now = self.now;
        match what {
            What::Tick => {
                self.push(now + TICK, node, What::Tick);
                if self.nodes[node].begins_again && self.nodes[node].agent.is_idle(self.local(node)) {
                    self.nodes[node].begins_again = false;
                    self.tally.other_pins += 1;
                    return self.tell(node, Event::Shutdown);
                }
                self.tell(node, Event::Tick)?;
                self.observe(node)
            }
            What::Wake { wake } if wake == self.nodes[node].wake => self.tell_lease(node, lease::Event::Tick),
            What::Wake { .. } => Ok(()),
            What::Wish(wish) => self.tell_lease(node, lease::Event::Wish(wish)),
            What::Note(note) => self.tell(node, Event::Lease(note)),
            What::Deliver { answer, .. }
                if self.nodes[node].cut_until > now && !matches!(answer, Answer::Unknown(_) | Answer::Failed(_)) =>
            {
                Ok(())
            }
            What::Deliver { id, answer } => self.tell_lease(node, lease::Event::Answer { id, answer }),
            What::Event(event) => self.tell(node, *event),
            What::Keep(keep) => self.keep(node, keep),
            What::Chore(chore) => self.finish(node, chore),
            What::Put { term, waits } => self.put(node, term, waits),
            What::Told { waits, result } => self.told(node, waits, result),
            What::Snapshot => {
                let after = self.rng.u64(TTL / 4..TTL);
                self.push(now + after, node, What::Snapshot);
                let agent = &self.nodes[node].agent;
                match agent.holds().filter(|_| agent.mode() == Mode::Leader) {
                    Some(term) => self.put(node, term, For::Nobody),
                    None => Ok(()),
                }
            }
            What::Stop { lasts } if !self.healed => {
                self.tally.stops += 1;
                self.nodes[node].stopped = true;
                self.push(now + lasts, node, What::Continue);
                Ok(())
            }
            What::OtherPins => {
                self.nodes[node].begins_again = true;
                Ok(())
            }
            What::Shutdown if !self.healed => {
                self.tally.shutdowns += 1;
                self.tell(node, Event::Shutdown)
            }
            What::Request(kind) => self.request(node, kind),
            _ => Ok(()),
        }
    }

    fn start(&mut self, node: usize) -> Result<(), String> {
        if self.nodes[node].alive || self.now < self.nodes[node].off_until {
            return Ok(());
        }
        let instance = Nonce(self.rng.u128(..).to_le_bytes());
        let now = self.local(node);
        let setup = self.setup(node, instance, self.nodes[node].boot);
        let lease = self.lease_of(node, instance, now);
        let started = &mut self.nodes[node];
        started.agent = Machine::new(setup, started.kept.clone(), now);
        (started.lease, started.instance) = (lease, instance);
        (started.alive, started.stopped, started.is_probed) = (true, false, false);
        started.instances.push(instance);
        (started.told_until, started.begins_again) = (None, false);
        started.directory.begin();
        started.deferred.clear();
        let after = self.rng.u64(..TTL);
        self.push(self.now + after, node, What::Snapshot);
        self.push(self.now + TICK, node, What::Tick);
        self.tell_lease(node, lease::Event::Tick)?;
        self.tell(node, Event::Tick)
    }

    /// The agent ends, whatever it was doing, and is started again.
    fn ends(&mut self, node: usize, again: Time) {
        let ended = &mut self.nodes[node];
        (ended.alive, ended.stopped) = (false, false);
        ended.run += 1;
        self.orphaned(node);
        self.push(again, node, What::Start);
    }

    fn power_off(&mut self, node: usize, lasts: Time) {
        self.tally.power_offs += 1;
        self.nodes[node].asleep_until = 0;
        self.nodes[node].service = None;
        self.ends(node, self.now + lasts);
        let (now, off) = (self.now, &mut self.nodes[node]);
        off.off_until = off.off_until.max(now + lasts);
        off.boot += 1;
        off.born = off.off_until;
        let again = off.off_until;
        self.push(again, node, What::Start);
    }

    fn local(&self, node: usize) -> BootTime {
        let Node { rate, born, .. } = self.nodes[node];
        BootTime::after_boot(Duration::from_micros((self.now.saturating_sub(born) as f64 * rate) as u64))
    }

    /// When, in true time, the clock of a node shows this.
    fn truly(&self, node: usize, local: BootTime) -> Time {
        let Node { rate, born, .. } = self.nodes[node];
        born + (local.since_boot().as_micros() as f64 / rate).ceil() as Time + 1
    }

    /// Tells the agent, writes down what it must know after a crash, and does what it says.
    fn tell(&mut self, node: usize, event: Event) -> Result<(), String> {
        let now = self.local(node);
        let trace = self.trace.then(|| format!("{event:?}"));
        let told = &mut self.nodes[node];
        let actions = told.agent.step(event, now);
        let is_full = told.full_until > self.now;
        let written = *told.agent.kept() == told.kept || !is_full;
        if written {
            if told.agent.kept().term < told.kept.term {
                return Err(format!("the term that node {node} keeps fell"));
            }
            told.kept = told.agent.kept().clone();
        }
        if let Some(event) = trace.filter(|event| event != "Tick" || !actions.is_empty()) {
            println!("{:>12} node {node} {event}: {:?}", self.now, self.nodes[node].agent.mode());
        }
        let run = self.nodes[node].run;
        for action in actions {
            if self.trace {
                println!("{:>12} node {node}     {action:?}", self.now);
            }
            if run == self.nodes[node].run {
                self.act(node, action, written)?;
            }
        }
        Ok(())
    }

    fn act(&mut self, node: usize, action: Action, written: bool) -> Result<(), String> {
        let now = self.now;
        match action {
            Action::Wish(wish) => self.push(now + 1_000, node, What::Wish(wish)),
            Action::Reclaim => self.job(node, Job::Reclaim),
            // A leadership that could not be written down must not begin.
            Action::Start { role: ServiceRole::Leader, term, .. } if !written => {
                self.starts_on(node, term, Mark::Memory)?;
                self.tally.unwritten += 1;
                let event = Event::Started(Err("the disk is full".into()));
                self.push(now, node, What::Event(Box::new(event)));
            }
            Action::Start { role, term, until } => {
                if role == ServiceRole::Leader {
                    self.starts_on(node, term, Mark::Disk)?;
                }
                self.nodes[node].is_probed = true;
                self.job(node, Job::Start(Order { role, term, until }));
            }
            Action::Extend(until) => self.job(node, Job::Extend(until)),
            Action::Stop { grace } => {
                self.nodes[node].is_probed = false;
                let demotes = self.nodes[node].agent.mode() == Mode::Demoting;
                if demotes && self.broken == Broken::ReleasedWhileStopping {
                    self.push(now, node, What::Wish(LeaseWish::Release));
                }
                self.job(node, Job::Stop(grace));
            }
            Action::Kill => {
                self.nodes[node].is_probed = false;
                self.job(node, Job::Kill);
            }
            Action::Look(apply) => self.chore(node, Chore::Look(apply)),
            Action::Materialize { afresh } => self.chore(node, Chore::Materialize { afresh }),
            Action::SetAside(led) => self.chore(node, Chore::SetAside(led)),
            Action::Fence { term, .. } => {
                self.push(now, node, What::Put { term, waits: For::Fence });
                if self.broken == Broken::StartedBeforeFence {
                    let fenced = Event::Fenced(Ok(self.chain.fenced(term)));
                    self.push(now, node, What::Event(Box::new(fenced)));
                }
            }
            Action::Run { hook, term, within } => self.hook(node, hook, term, within),
            Action::Reply(_, Reply::Accepted(_)) => self.tally.accepted += 1,
            Action::Reply(..) | Action::Record(..) => {}
            Action::Exit => {
                let again = if self.rng.bool() || self.healed { 0 } else { self.rng.u64(..TTL) };
                self.ends(node, now + again);
            }
        }
        Ok(())
    }

    /// A hook runs, fails, or hangs until it is killed.
    fn hook(&mut self, node: usize, hook: Hook, term: u64, within: Duration) {
        let within = Time::try_from(within.as_micros()).unwrap_or(TTL * 4).min(TTL * 4);
        let chance = if self.healed { 99 } else { self.rng.u8(..24) };
        let takes = if chance == 0 { within } else { self.rng.u64(1_000..1_000_000).min(within) };
        if hook == Hook::Save && chance > 1 {
            return self.push(self.now + takes, node, What::Put { term, waits: For::Save });
        }
        let result = if chance > 1 { Ok(()) } else { Err("it says no".to_owned()) };
        self.push(self.now + takes, node, What::Event(Box::new(Event::Hooked(hook, result))));
    }

    fn tell_lease(&mut self, node: usize, event: lease::Event) -> Result<(), String> {
        let now = self.local(node);
        // The wall clock steps as it likes.
        let wall = Timestamp::from_second(self.rng.i64(0..4_000_000_000)).unwrap();
        if self.trace && !matches!(event, lease::Event::Tick) {
            println!("{:>12} node {node} lease: {event:?}", self.now);
        }
        let actions = self.nodes[node].lease.on(now, wall, event);
        for action in actions {
            self.act_lease(node, action)?;
        }
        if let Some(wake_at) = self.nodes[node].lease.wake_at() {
            let at = self.truly(node, wake_at).max(self.now + 1);
            self.nodes[node].wake += 1;
            let wake = self.nodes[node].wake;
            self.push(at, node, What::Wake { wake });
        }
        Ok(())
    }

    fn act_lease(&mut self, node: usize, action: lease::Action) -> Result<(), String> {
        let note = match action {
            lease::Action::Ask { id, request } => {
                self.send(node, id, request);
                return Ok(());
            }
            lease::Action::Seen(holder) => LeaseNote::Seen(holder),
            lease::Action::Claimed { claim, until } => {
                self.tally.claims += 1;
                if claim.term <= self.highest_term {
                    return Err(format!("the term fell from {} to {}", self.highest_term, claim.term));
                }
                self.highest_term = claim.term;
                self.is_free(node, claim.term, claim.reason.is_some())?;
                self.nodes[node].told_until = until;
                LeaseNote::Claimed { term: claim.term, claim: Vec::new(), until }
            }
            lease::Action::Renewed { until } => {
                self.nodes[node].told_until = Some(until);
                LeaseNote::Renewed { until }
            }
            lease::Action::Late(why) => LeaseNote::Late { why },
            lease::Action::Expired => {
                self.tally.expiries += 1;
                LeaseNote::Expired
            }
            lease::Action::Superseded(by) => {
                self.tally.superseded += 1;
                LeaseNote::Superseded { by }
            }
            lease::Action::Released => LeaseNote::Released,
            lease::Action::Unfit(why) => LeaseNote::Unfit(why),
        };
        if self.trace {
            println!("{:>12} node {node}     {note:?}", self.now);
        }
        // From one thread to the other.
        self.push(self.now + 1_000, node, What::Note(note));
        Ok(())
    }

    fn send(&mut self, node: usize, id: u64, request: Request) {
        let (now, creates) = (self.now, matches!(request, Request::Create { .. }));
        let request_time = self.timing.request().as_micros() as f64 / self.nodes[node].rate;
        let timed_out = way::gave_up(creates, "timed out");
        self.push(now + request_time as u64, node, What::Deliver { id, answer: timed_out });
        let is_cut = self.nodes[node].cut_until > now;
        let conditions = way::Conditions { ttl: TTL, is_cut, healed: self.healed, may_hang: true };
        let (legs, _) = way::of(creates, &conditions, &mut self.rng);
        let request = Box::new(request);
        for leg in legs {
            match leg {
                Leg::Arrive { after, answers_after, denies } => {
                    let request = request.clone();
                    self.push(now + after, node, What::Arrive { id, request, answers_after, denies });
                }
                Leg::Tell { after, answer } => self.push(now + after, node, What::Deliver { id, answer }),
            }
        }
    }

    /// From here on nothing breaks any more, what hung ends, and an operator takes back what was asked.
    fn heal(&mut self) {
        (self.healed, self.operator_until) = (true, 0);
        let (now, soon) = (self.now, self.now + 1_000_000);
        for mut due in std::mem::take(&mut self.due).into_iter().map(|Reverse(due)| due) {
            match due.what {
                What::Arrive { .. } | What::Crashes { .. } => continue,
                What::Lands { .. } | What::Chore(_) | What::Event(_) | What::Start => due.at = due.at.min(soon),
                _ => {}
            }
            self.due.push(Reverse(due));
        }
        for node in 0..self.nodes.len() {
            let healed = &mut self.nodes[node];
            (healed.cut_until, healed.full_until, healed.off_until) = (0, 0, 0);
            healed.born = healed.born.min(now);
            healed.directory.free_at = healed.directory.free_at.min(soon);
            if let Some(service) = &mut healed.service {
                service.heal(soon);
            }
            self.push(now, node, What::Start);
            self.push(now, node, What::Continue);
            self.push(soon, node, What::Request(RequestKind::Resume));
        }
        self.push(soon, 0, What::Appoint);
    }
}
