//! One history: nodes with clocks of their own, a network between them and the store, and a seed that decides what breaks.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use bootstrap::clock::BootTime;
use bootstrap::lease::LeaseWish;
use bootstrap::lease::machine::{Action, Answer, Event, Machine, Member, Request, Rules};
use bootstrap::lease::timing::Timing;
use fastrand::Rng;
use jiff::Timestamp;
use manifests::digest::Digest;
use manifests::document::lease::Holder;
use manifests::document::record::Nonce;

use crate::chain::{Chain, Record};
use crate::history::History;
use crate::schedule::{Due, Time};
use crate::store::LogStore;
use crate::way::{self, Leg};

const TTL: u64 = 15_000_000;
/// The most that a clock may be off: less than drift / ttl, which is a tenth.
const SKEW: f64 = 0.09;

/// A node, and the run of its agent.
struct Node {
    machine: Machine,
    instance: Nonce,
    /// Which run of the agent this is: what belongs to an earlier one reaches nobody.
    run: u64,
    rate: f64,
    offset: u64,
    alive: bool,
    stopped: bool,
    /// What came while the process was stopped.
    deferred: Vec<What>,
    cut_until: Time,
    /// When the last wake-up that counts was ordered.
    wake: u64,
    /// Until when, in true time, this node's service may run.
    may_act_until: Time,
    leading: Option<Leading>,
}

struct Leading {
    term: u64,
    fenced: bool,
    /// The length of the chain as last read.
    known: usize,
}

#[derive(Clone)]
enum What {
    Wake { wake: u64 },
    Wish(LeaseWish),
    Arrive { id: u64, request: Box<Request>, answers_after: Option<Time>, denies: bool },
    Deliver { id: u64, answer: Answer },
    ChainRead,
    ChainWork,
    ChainArrive { slot: usize, record: Record, answers: bool },
    ChainAnswer,
    Stop { lasts: Time },
    Continue,
    Crash { lasts: Time },
    Start,
    Cut { lasts: Time },
    GiveBack,
    Litter,
    Tear,
    Empty,
    Collect,
}

struct World {
    now: Time,
    order: u64,
    due: BinaryHeap<Reverse<Due<What>>>,
    nodes: Vec<Node>,
    log: LogStore,
    chain: Chain,
    rng: Rng,
    rules: Rules,
    timing: Timing,
    healed: bool,
    /// When somebody deleted the log, which no protocol inside of it survives: only the chain is safe then.
    emptied: Option<Time>,
    /// Pairs that began to lead beside each other because the entry of one was deleted before the other could see it.
    beside: Vec<(usize, usize)>,
    highest_term: u64,
    torn_claim: bool,
    /// Whether the log will be emptied. What hung for long could then land ahead of the new log, in a slot that nobody
    /// has reached: no numbering survives that either.
    will_be_emptied: bool,
    history: History,
    trace: bool,
}

/// Lives the history of `seed`; the error says which invariant broke.
pub(crate) fn run(seed: u64, rules: Rules) -> Result<History, String> {
    let mut world = World::new(seed, rules);
    let chaos = TTL * world.rng.u64(8..40);
    world.plan_faults(chaos);
    world.run_until(chaos)?;
    world.heal();
    let bound = (world.timing.worst_case().as_micros() as f64 / (1.0 - SKEW)) as u64;
    let healed = world.now;
    while world.now < healed + bound {
        if world.leads() {
            world.history.recovery = (world.now - healed) * 1000 / bound;
            // It stays so.
            world.run_until(world.now + 3 * TTL)?;
            return if world.leads() { Ok(world.history) } else { Err("the leader did not stay".into()) };
        }
        world.step()?;
    }
    Err(format!("nobody leads {} ms after the faults ended", bound / 1000))
}

impl World {
    fn new(seed: u64, rules: Rules) -> World {
        let mut rng = Rng::with_seed(seed);
        let timing = Timing { ttl: Duration::from_micros(TTL), gc_min_age: Duration::from_micros(12 * TTL) };
        let count = rng.usize(2..=5);
        let chain = Chain::default();
        let nodes = (0..count)
            .map(|number| {
                let instance = Nonce(rng.u128(..).to_le_bytes());
                let rate = 1.0 + SKEW * (2.0 * rng.f64() - 1.0);
                let rate = if rng.u8(..4) == 0 { if rng.bool() { 1.0 + SKEW } else { 1.0 - SKEW } } else { rate };
                let offset = rng.u64(..1 << 40);
                let now = BootTime::after_boot(Duration::from_micros(offset));
                Node {
                    machine: Machine::new(member(number, instance, &timing), rules, chain.head(), now),
                    instance,
                    run: 0,
                    rate,
                    offset,
                    alive: true,
                    stopped: false,
                    deferred: Vec::new(),
                    cut_until: 0,
                    wake: 0,
                    may_act_until: 0,
                    leading: None,
                }
            })
            .collect();
        let mut world = World {
            now: 0,
            order: 0,
            due: BinaryHeap::new(),
            nodes,
            log: LogStore::default(),
            chain,
            rng,
            rules,
            timing,
            healed: false,
            emptied: None,
            beside: Vec::new(),
            highest_term: 0,
            torn_claim: false,
            will_be_emptied: false,
            history: History::default(),
            trace: std::env::var_os("SNAPKIT_SIM_TRACE").is_some(),
        };
        for node in 0..count {
            let at = world.rng.u64(..TTL);
            world.push(at, node, What::Wish(LeaseWish::Lead));
            world.push(at, node, What::ChainRead);
        }
        world
    }

    fn plan_faults(&mut self, until: Time) {
        let count = self.nodes.len();
        for _ in 0..self.rng.u64(0..12) {
            let (at, node) = (self.rng.u64(..until), self.rng.usize(..count));
            // Around the deadlines is where it hurts.
            let lasts = if self.rng.bool() { self.rng.u64(..TTL * 2) } else { self.rng.u64(..TTL * 30) };
            let what = match self.rng.u8(..10) {
                0..=2 => What::Stop { lasts },
                3 | 4 => What::Crash { lasts: lasts / 4 },
                5..=7 => What::Cut { lasts },
                _ => What::GiveBack,
            };
            self.push(at, node, what);
        }
        for _ in 0..self.rng.u64(0..5) {
            let at = self.rng.u64(..until);
            let what = if self.rng.bool() { What::Litter } else { What::Tear };
            self.push(at, 0, what);
        }
        if self.rng.u8(..8) == 0 {
            let at = self.rng.u64(..until);
            self.will_be_emptied = true;
            self.push(at, 0, What::Empty);
        }
        for at in (0..until).step_by(TTL as usize) {
            self.push(at, 0, What::Collect);
        }
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
        match what {
            // What happens to the store and on the way to it depends on no process.
            What::Arrive { id, request, answers_after, denies } => {
                let answer = self.log.serve(&request, at);
                if let Some(after) = answers_after.filter(|_| run == self.nodes[node].run) {
                    // The store, or something before it, says that the slot is taken: by this very request.
                    let answer = if denies && matches!(answer, Answer::Created(_)) { Answer::Exists } else { answer };
                    self.push(at + after, node, What::Deliver { id, answer });
                }
                if answers_after.is_none() {
                    self.history.late_landings += 1;
                }
            }
            What::ChainArrive { slot, record, answers } => {
                self.history.records += u64::from(self.chain.create(slot, record)?);
                if answers && run == self.nodes[node].run {
                    let after = self.rng.u64(1_000..200_000);
                    self.push(at + after, node, What::ChainAnswer);
                }
            }
            // An emptied log whose first new entries are void, too, has no beginning: its group needs a new name.
            What::Litter | What::Tear if self.emptied.is_some() => {}
            What::Litter if !self.healed => {
                self.history.voids += 1;
                self.log.litter(at);
            }
            What::Tear if !self.healed => {
                self.history.voids += 1;
                self.torn_claim |= self.log.tear();
            }
            What::Empty if !self.healed => {
                self.history.emptied += 1;
                self.emptied = Some(at);
                self.log.empty();
            }
            What::Collect => self.history.collected += self.log.collect(at, 12 * TTL),
            What::Litter | What::Tear | What::Empty => {}
            What::Start => self.start(node),
            What::Continue if run == self.nodes[node].run => {
                self.nodes[node].stopped = false;
                for what in std::mem::take(&mut self.nodes[node].deferred) {
                    self.handle(node, what)?;
                }
            }
            What::Continue => {}
            what if run != self.nodes[node].run || !self.nodes[node].alive => drop(what),
            what if self.nodes[node].stopped => self.nodes[node].deferred.push(what),
            what => self.handle(node, what)?,
        }
        Ok(())
    }

    /// Something happens in a process that runs.
    fn handle(&mut self, node: usize, what: What) -> Result<(), String> {
        let now = self.now;
        match what {
            What::Wake { wake } if wake == self.nodes[node].wake => self.tell(node, Event::Tick),
            What::Wake { .. } => Ok(()),
            What::Wish(wish) => self.tell(node, Event::Wish(wish)),
            What::Deliver { answer, .. }
                if self.nodes[node].cut_until > now && !matches!(answer, Answer::Unknown(_) | Answer::Failed(_)) =>
            {
                self.history.lost_answers += 1;
                Ok(())
            }
            What::Deliver { id, answer } => self.tell(node, Event::Answer { id, answer }),
            What::ChainRead => {
                let after = self.rng.u64(TTL / 4..TTL);
                self.push(now + after, node, What::ChainRead);
                let head = self.chain.head();
                if self.nodes[node].cut_until > now { Ok(()) } else { self.tell(node, Event::Chain(head)) }
            }
            What::ChainWork => self.work(node),
            What::ChainAnswer => self.read_chain(node),
            What::Stop { lasts } if !self.healed => {
                self.history.stops += 1;
                self.nodes[node].stopped = true;
                self.push(now + lasts, node, What::Continue);
                Ok(())
            }
            What::Crash { lasts } if !self.healed => {
                self.history.crashes += 1;
                // The guard outlives the agent by less than a moment.
                let crashed = &mut self.nodes[node];
                crashed.alive = false;
                crashed.may_act_until = crashed.may_act_until.min(now);
                crashed.leading = None;
                crashed.run += 1;
                self.push(now + lasts, node, What::Start);
                Ok(())
            }
            What::Cut { lasts } if !self.healed => {
                self.history.cuts += 1;
                self.nodes[node].cut_until = now + lasts;
                Ok(())
            }
            What::GiveBack if !self.healed && self.nodes[node].leading.is_some() => self.give_back(node),
            _ => Ok(()),
        }
    }

    fn start(&mut self, node: usize) {
        if self.nodes[node].alive {
            return;
        }
        let instance = Nonce(self.rng.u128(..).to_le_bytes());
        let now = self.local(node);
        let me = member(node, instance, &self.timing);
        // What a process knows of the chain when it starts may be old.
        let head = if self.rng.bool() || self.healed { self.chain.head() } else { Chain::default().head() };
        let started = &mut self.nodes[node];
        started.machine = Machine::new(me, self.rules, head, now);
        (started.instance, started.alive, started.stopped) = (instance, true, false);
        started.deferred.clear();
        self.push(self.now, node, What::Wish(LeaseWish::Lead));
        self.push(self.now, node, What::ChainRead);
    }

    fn local(&self, node: usize) -> BootTime {
        let Node { rate, offset, .. } = self.nodes[node];
        BootTime::after_boot(Duration::from_micros(offset + (self.now as f64 * rate) as u64))
    }

    /// When, in true time, the clock of a node shows this.
    fn truly(&self, node: usize, local: BootTime) -> Time {
        let Node { rate, offset, .. } = self.nodes[node];
        let elapsed = (local.since_boot().as_micros() as u64).saturating_sub(offset);
        (elapsed as f64 / rate).ceil() as Time + 1
    }

    fn tell(&mut self, node: usize, event: Event) -> Result<(), String> {
        let now = self.local(node);
        // The wall clock steps as it likes.
        let wall = Timestamp::from_second(self.rng.i64(0..4_000_000_000)).unwrap();
        if self.trace {
            println!("{:>12} node {node} {event:?}", self.now);
        }
        let actions = self.nodes[node].machine.on(now, wall, event);
        for action in actions {
            if self.trace {
                println!("{:>12} node {node}     {action:?}", self.now);
            }
            self.act(node, action)?;
        }
        let wake_at = self.nodes[node].machine.wake_at();
        if let Some(wake_at) = wake_at {
            let at = self.truly(node, wake_at).max(self.now + 1);
            self.nodes[node].wake += 1;
            let wake = self.nodes[node].wake;
            self.push(at, node, What::Wake { wake });
        }
        Ok(())
    }

    fn act(&mut self, node: usize, action: Action) -> Result<(), String> {
        let kill = self.timing.kill_budget();
        match action {
            Action::Ask { id, request } => self.send(node, id, request),
            Action::Claimed { claim, until } => {
                self.history.claims += 1;
                let falls = claim.term < self.highest_term + u64::from(!self.torn_claim);
                if falls && self.emptied.is_none() {
                    return Err(format!("the term fell from {} to {}", self.highest_term, claim.term));
                }
                self.highest_term = self.highest_term.max(claim.term);
                self.extend(node, until.expect("claims expire here") + kill)?;
                self.nodes[node].leading = Some(Leading { term: claim.term, fenced: false, known: self.chain.len() });
                let after = self.rng.u64(1_000..TTL / 4);
                self.push(self.now + after, node, What::ChainWork);
            }
            Action::Renewed { until } => {
                self.history.renewals += 1;
                // A renewal that was under way when the service was stopped brings it back to nobody.
                if self.nodes[node].leading.is_some() {
                    self.extend(node, until + kill)?;
                }
            }
            Action::Expired => {
                self.history.expiries += 1;
                self.stand_down(node);
            }
            Action::Superseded(_) => {
                self.history.superseded += 1;
                self.stand_down(node);
            }
            Action::Released => {
                self.history.releases += 1;
                self.nodes[node].leading = None;
                let after = if self.healed { 0 } else { self.rng.u64(..TTL * 2) };
                self.push(self.now + after, node, What::Wish(LeaseWish::Lead));
            }
            Action::Unfit(_) => self.history.unfit += 1,
            Action::Late(_) | Action::Seen(_) => {}
        }
        Ok(())
    }

    fn stand_down(&mut self, node: usize) {
        self.nodes[node].leading = None;
        self.push(self.now, node, What::Wish(LeaseWish::Follow));
        let after = if self.healed { 0 } else { self.rng.u64(..TTL) };
        self.push(self.now + after, node, What::Wish(LeaseWish::Lead));
    }

    /// A node may act for longer: nobody else may, now.
    fn extend(&mut self, node: usize, until: BootTime) -> Result<(), String> {
        let until = self.truly(node, until);
        self.nodes[node].may_act_until = until;
        let others: Vec<(usize, Time)> = self
            .nodes
            .iter()
            .map(|other| other.may_act_until)
            .enumerate()
            .filter(|(other, _)| *other != node)
            .collect();
        for (number, other) in others {
            if other > self.now && until > self.now {
                let both = other.min(until) - self.now;
                if self.excused(node, number) {
                    continue;
                }
                return Err(format!("two leaders at {}: {node} and {number}, for {} ms", self.now, both / 1000));
            }
        }
        Ok(())
    }

    /// Whether two lead at once because the log was deleted under one of them. Its fence ends that.
    fn excused(&mut self, node: usize, other: usize) -> bool {
        let since = self.emptied.map(|emptied| self.now - emptied);
        if since.is_some_and(|since| since < TTL) {
            self.beside.push((node, other));
        }
        // Whoever follows one of the two, after a release, stands beside the other.
        !self.beside.is_empty() && since.is_some_and(|since| since < 5 * TTL)
    }

    fn leads(&self) -> bool {
        self.nodes.iter().any(|node| node.leading.as_ref().is_some_and(|leading| leading.fenced))
    }

    /// The way of a request to the store and of its answer back.
    fn send(&mut self, node: usize, id: u64, request: Request) {
        let now = self.now;
        let creates = matches!(request, Request::Create { .. });
        let request_time = self.timing.request().as_micros() as f64 / self.nodes[node].rate;
        self.push(now + request_time as u64, node, What::Deliver { id, answer: way::gave_up(creates, "timed out") });
        let is_cut = self.nodes[node].cut_until > now;
        let conditions = way::Conditions { ttl: TTL, is_cut, healed: self.healed, may_hang: !self.will_be_emptied };
        let (legs, lost) = way::of(creates, &conditions, &mut self.rng);
        self.history.lost_answers += u64::from(lost);
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

    /// A leader puts its fence or its next record into the chain.
    fn work(&mut self, node: usize) -> Result<(), String> {
        let by = self.nodes[node].instance;
        let Some(leading) = &self.nodes[node].leading else {
            return Ok(());
        };
        let record = Record { term: leading.term, by, is_fence: !leading.fenced };
        let slot = leading.known;
        // A fence must go above the term that was read: whose claim does not is fenced off itself.
        if record.is_fence && self.chain.term_of(slot) >= record.term {
            self.history.fenced_off += 1;
            return self.give_back(node);
        }
        let after = self.rng.u64(TTL / 8..TTL / 2);
        self.push(self.now + after, node, What::ChainWork);
        if self.nodes[node].cut_until > self.now {
            return Ok(());
        }
        let hangs = !self.healed && self.rng.u8(..12) == 0;
        let there = if hangs { self.rng.u64(..TTL * 10) } else { self.rng.u64(1_000..200_000) };
        self.push(self.now + there, node, What::ChainArrive { slot, record, answers: !hangs });
        Ok(())
    }

    /// A leader reads the chain again, whatever became of its record.
    fn read_chain(&mut self, node: usize) -> Result<(), String> {
        let (head, len, fence) = (self.chain.head(), self.chain.len(), self.chain.leader());
        let by = self.nodes[node].instance;
        let Some(leading) = &mut self.nodes[node].leading else {
            return Ok(());
        };
        leading.known = len;
        leading.fenced = fence.is_some_and(|fence| (fence.term, fence.by) == (leading.term, by));
        // The chain has a term that this claim does not go beyond: it can never fence.
        let is_late = !leading.fenced && head.term >= leading.term;
        self.tell(node, Event::Chain(head))?;
        if is_late && self.nodes[node].leading.is_some() {
            self.history.fenced_off += 1;
            return self.give_back(node);
        }
        Ok(())
    }

    /// The service was stopped in order and is proven dead.
    fn give_back(&mut self, node: usize) -> Result<(), String> {
        self.nodes[node].leading = None;
        self.nodes[node].may_act_until = self.nodes[node].may_act_until.min(self.now);
        self.tell(node, Event::Wish(LeaseWish::Release))
    }

    /// From here on nothing breaks any more, and what was under way to the store is gone.
    fn heal(&mut self) {
        self.healed = true;
        let due: Vec<Due<What>> = std::mem::take(&mut self.due).into_iter().map(|Reverse(due)| due).collect();
        let lost = |what: &What| matches!(what, What::Arrive { .. } | What::ChainArrive { .. } | What::Start);
        self.due.extend(due.into_iter().filter(|due| !lost(&due.what)).map(Reverse));
        for node in 0..self.nodes.len() {
            self.nodes[node].cut_until = 0;
            self.push(self.now, node, What::Start);
            self.push(self.now, node, What::Continue);
            self.push(self.now + 1, node, What::ChainRead);
            self.push(self.now + 2, node, What::ChainAnswer);
            self.push(self.now + 2, node, What::Wish(LeaseWish::Lead));
        }
    }
}

pub(crate) fn member(number: usize, instance: Nonce, timing: &Timing) -> Member {
    let key = Digest([number as u8; 32]);
    let holder = Holder { node: format!("node-{number}"), instance, key, writer: Some(key), api: None };
    Member { chain: Digest([7; 32]), group: "app".into(), holder, expires: true, timing: timing.clone() }
}
