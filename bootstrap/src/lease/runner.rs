//! The runner: the thread that gives the lease machine its time, its store and its listeners.
//!
//! It never waits for the store: each request has a thread of its own, and is given up when its time is over. Deadlines are
//! therefore told in time whatever the store does; that the service is dead by then is the guard's doing.
//! Layer: the edge; `machine` decides.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded, select, unbounded};
use jiff::Timestamp;
use manifests::digest::Digest;
use manifests::document::lease::{ChainHead, Holder as EntryHolder};
use manifests::document::pins::Lease;
use manifests::document::record::Nonce;
use manifests::keys::{KeyId, Signer};
use snapkit::store::Store;

use super::collect::Marks;
use super::log::{Log, Trusted};
use super::machine::{Action, Answer, Event, Machine, Member, Request, Rules};
use super::timing::Timing;
use super::{Holder, LeaseNote, LeaseWish, capability};
use crate::agent::view::LeaseView;
use crate::clock::BootTime;

/// Requests that may hang at once. More of them are not even begun.
const HANGING_MOST: usize = 8;
/// The longest sleep: the clock by which channels wait stops while the machine sleeps, and ours does not.
const NAP: Duration = Duration::from_millis(250);
/// How many entries one round deletes at most.
const COLLECTED_MOST: usize = 2000;

/// What a runner needs.
pub struct Config {
    /// The store of the log, from [`super::log::open_store`].
    pub store: Arc<dyn Store>,
    /// The digest of the genesis payload.
    pub chain: Digest,
    /// Whose word counts.
    pub trusted: Trusted,
    /// What the pins say of the lease.
    pub lease: Lease,
    /// The name of this node in them.
    pub node: String,
    /// The one run of its agent: random, new with every start.
    pub instance: Nonce,
    /// The node's key.
    pub signer: Arc<dyn Signer + Send + Sync>,
    /// The id of the key that will sign fence and records.
    pub writer: Option<KeyId>,
    /// Where the agent answers.
    pub api: Option<String>,
    /// The newest record of the chain that was verified.
    pub head: ChainHead,
    /// The file where the result of the store's probe is kept.
    pub capability: PathBuf,
    /// Only reads the log, and asks the store for nothing else.
    pub observes: bool,
}

/// A running lease. Dropping it ends the thread; what is held is not given back by that.
pub struct Runner {
    /// What the agent wants.
    pub wishes: Sender<LeaseWish>,
    /// What the lease tells, in the order it happened.
    pub notes: Receiver<LeaseNote>,
    orders: Sender<Order>,
    view: Arc<RwLock<LeaseView>>,
}

enum Order {
    Chain(ChainHead),
    Trust(Box<Trusted>),
}

impl Runner {
    /// Starts the thread. In `auto` mode the store is probed first, unless a signed result is kept; until then nothing is
    /// claimed.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start(config: Config) -> std::io::Result<Runner> {
        let (wishes, wished) = unbounded();
        let (noting, notes) = unbounded();
        let (orders, ordered) = unbounded();
        let timing = Timing::new(Duration::from_secs(config.lease.ttl_seconds));
        let expires = config.lease.mode == "auto";
        let view = LeaseView {
            mode: Some(config.lease.mode.clone()),
            ttl_ms: expires.then_some(config.lease.ttl_seconds * 1000),
            worst_case_ms: expires.then(|| timing.worst_case().as_millis().try_into().unwrap_or(u64::MAX)),
            ..LeaseView::default()
        };
        let view = Arc::new(RwLock::new(view));
        let loop_ = Loop::new(config, timing, expires, noting, Arc::clone(&view));
        thread::Builder::new().name("lease".into()).spawn(move || loop_.run(&wished, &ordered))?;
        Ok(Runner { wishes, notes, orders, view })
    }

    /// How the lease stands, for surfaces.
    pub fn view(&self) -> LeaseView {
        self.view.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Tells the newest record of the chain that was verified: claims go above its term, and a higher one ends a leadership.
    pub fn chain(&self, head: ChainHead) {
        // The thread ends only after this value.
        let _ = self.orders.send(Order::Chain(head));
    }

    /// Tells a newer root or newer pins.
    pub fn trust(&self, trusted: Trusted) {
        let _ = self.orders.send(Order::Trust(Box::new(trusted)));
    }
}

/// A request by its number, and how it ended.
type Answered = (u64, Answer);

struct Asked {
    id: u64,
    creates: bool,
    renews: bool,
    sent: BootTime,
}

struct Loop {
    observes: bool,
    machine: Machine,
    log: Arc<Log>,
    store: Arc<dyn Store>,
    timing: Timing,
    notes: Sender<LeaseNote>,
    view: Arc<RwLock<LeaseView>>,
    answers: (Sender<Answered>, Receiver<Answered>),
    asked: Option<Asked>,
    hanging: HashSet<u64>,
    marks: Marks,
    collecting: Option<Receiver<()>>,
    /// The probe that a wish waits for; `None` when the store was found fit, or nothing needs it.
    probing: Option<Probing>,
    /// Why the last probe failed.
    unfit: Option<String>,
    /// Who was seen last.
    seen: Option<Holder>,
}

/// A probe of the store, and what waits for it. One that fails is made again: the store may only have been away.
struct Probing {
    probe: Arc<dyn Fn() -> Result<(), String> + Send + Sync>,
    result: Receiver<Result<(), String>>,
    again: Option<BootTime>,
    wish: LeaseWish,
}

impl Probing {
    fn start(probe: Arc<dyn Fn() -> Result<(), String> + Send + Sync>, wish: LeaseWish) -> Self {
        let (done, result) = bounded(1);
        let tried = Arc::clone(&probe);
        thread::spawn(move || done.send(tried()));
        Self { probe, result, again: None, wish }
    }
}

impl Loop {
    fn new(
        config: Config,
        timing: Timing,
        expires: bool,
        notes: Sender<LeaseNote>,
        view: Arc<RwLock<LeaseView>>,
    ) -> Loop {
        let Config { store, chain, trusted, lease, node, instance, signer, writer, api, head, capability, observes } =
            config;
        let probing = (expires && !observes).then(|| {
            let (store, signer) = (Arc::clone(&store), Arc::clone(&signer));
            let probe = move || capability::ensure(&*store, &*signer, &capability, Timestamp::now());
            Probing::start(Arc::new(probe), LeaseWish::Follow)
        });
        let holder = EntryHolder { node, instance, key: signer.public().id(), writer, api };
        let me = Member { chain, group: lease.group.clone(), holder, expires, timing: timing.clone() };
        let log = Arc::new(Log::new(Arc::clone(&store), chain, lease.group, trusted, signer));
        let machine = Machine::new(me, Rules::ALL, head, BootTime::now());
        let (answers, asked, hanging) = (unbounded(), None, HashSet::new());
        let marks = Marks::default();
        let (collecting, unfit, seen) = (None, None, None);
        Loop {
            observes,
            machine,
            log,
            store,
            timing,
            notes,
            view,
            answers,
            asked,
            hanging,
            marks,
            collecting,
            probing,
            unfit,
            seen,
        }
    }

    fn run(mut self, wishes: &Receiver<LeaseWish>, orders: &Receiver<Order>) {
        let answers = self.answers.1.clone();
        self.tell(Event::Tick);
        loop {
            let nap = self.nap();
            // The lists are served one message at a time; a closed one means that the agent is gone.
            select! {
                recv(wishes) -> wish => match wish {
                    Ok(wish) => self.wish(wish),
                    Err(_) => return,
                },
                recv(orders) -> order => match order {
                    Ok(Order::Chain(head)) => self.tell(Event::Chain(head)),
                    Ok(Order::Trust(trusted)) => self.log.trust(*trusted),
                    Err(_) => return,
                },
                recv(answers) -> answer => {
                    let (id, answer) = answer.expect("a sender is kept here");
                    self.hanging.remove(&id);
                    self.answered(id, answer);
                },
                default(nap) => {}
            }
            self.give_up_in_time();
            self.look_at_probe();
            if self.machine.wake_at().is_some_and(|at| BootTime::now() >= at) {
                self.tell(Event::Tick);
            }
            self.collect();
        }
    }

    fn nap(&self) -> Duration {
        let now = BootTime::now();
        let request = self.asked.as_ref().map(|asked| asked.sent + self.timing.request());
        let next = [self.machine.wake_at(), request].into_iter().flatten().min();
        next.map_or(NAP, |at| now.until(at).min(NAP))
    }

    /// Leading waits until the store is known to be fit for it; giving back and following do not.
    fn wish(&mut self, wish: LeaseWish) {
        if self.observes {
            return;
        }
        match &mut self.probing {
            Some(probing) if matches!(wish, LeaseWish::Lead | LeaseWish::Force { .. }) => probing.wish = wish,
            Some(probing) => {
                probing.wish = LeaseWish::Follow;
                self.tell(Event::Wish(wish));
            }
            None => self.tell(Event::Wish(wish)),
        }
    }

    fn look_at_probe(&mut self) {
        let Some(mut probing) = self.probing.take() else {
            return;
        };
        let now = BootTime::now();
        if probing.again.is_some_and(|at| now >= at) {
            probing = Probing::start(probing.probe, probing.wish);
        }
        match probing.result.try_recv() {
            Ok(Ok(())) => {
                if self.unfit.take().is_some() {
                    // Who listens takes it that what kept this node from taking part is over.
                    self.note(LeaseNote::Seen(self.seen.clone()));
                }
                return self.tell(Event::Wish(probing.wish));
            }
            Ok(Err(why)) => {
                let store = self.store.url().to_owned();
                probing.again = Some(now + self.timing.ttl * 2);
                let why = format!("{store} is not fit for automatic leadership: {why}");
                self.note(LeaseNote::Unfit(why.clone()));
                self.unfit = Some(why);
            }
            // Not ready, or unfit as was told: then nothing is claimed.
            Err(_) => {}
        }
        self.probing = Some(probing);
    }

    fn tell(&mut self, event: Event) {
        let actions = self.machine.on(BootTime::now(), Timestamp::now(), event);
        for action in actions {
            self.act(action);
        }
        // Before the log was read to its end once, nothing is known of it, not even that it is empty.
        if self.machine.knows_the_log() {
            let (seq, seen) = (self.machine.position().next_seq() - 1, self.machine.seen_at());
            self.show(|view| (view.seq, view.seen) = (Some(seq), Some(seen)));
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Ask { id, request } => self.ask(id, request),
            Action::Seen(holder) => {
                self.seen.clone_from(&holder);
                self.note(LeaseNote::Seen(holder));
                if let Some(why) = &self.unfit {
                    self.note(LeaseNote::Unfit(why.clone()));
                }
            }
            Action::Claimed { claim, until } => match self.log.envelope_of(&claim) {
                Ok(bytes) => self.note(LeaseNote::Claimed { term: claim.term, claim: bytes, until }),
                // It was signed a moment ago; if it cannot be shown, it cannot be fenced with.
                Err(refusal) => self.note(LeaseNote::Unfit(refusal.to_string())),
            },
            Action::Renewed { until } => {
                self.show(|view| view.renewals += 1);
                self.note(LeaseNote::Renewed { until });
            }
            Action::Late(why) => self.note(LeaseNote::Late { why }),
            Action::Expired => self.note(LeaseNote::Expired),
            Action::Superseded(by) => self.note(LeaseNote::Superseded { by }),
            Action::Released => self.note(LeaseNote::Released),
            Action::Unfit(why) => self.note(LeaseNote::Unfit(why)),
        }
    }

    fn ask(&mut self, id: u64, request: Request) {
        let creates = matches!(request, Request::Create { .. });
        let renews =
            matches!(&request, Request::Create { entry } if entry.reason.is_none() && self.machine.held().is_some());
        self.asked = Some(Asked { id, creates, renews, sent: BootTime::now() });
        if self.hanging.len() >= HANGING_MOST {
            let why = format!("{HANGING_MOST} requests to {} hang", self.log.url());
            // Nothing was sent: the time of this request passes, and then it failed.
            self.show(|view| view.failure = Some(why));
            return;
        }
        let (log, answers) = (Arc::clone(&self.log), self.answers.0.clone());
        let asked = thread::Builder::new().name("lease-request".into()).spawn(move || {
            // Nobody may listen any more.
            let _ = answers.send((id, log.serve(&request)));
        });
        match asked {
            Ok(_) => drop(self.hanging.insert(id)),
            Err(error) => self.show(|view| view.failure = Some(format!("no thread for a request: {error}"))),
        }
    }

    /// A request that has not ended in time may end in any way: for the machine it ended now.
    fn give_up_in_time(&mut self) {
        let Some(asked) = &self.asked else {
            return;
        };
        if BootTime::now() < asked.sent + self.timing.request() {
            return;
        }
        let why = format!("{} did not answer within {:?}", self.log.url(), self.timing.request());
        let answer = if asked.creates { Answer::Unknown(why) } else { Answer::Failed(why) };
        self.answered(asked.id, answer);
    }

    fn answered(&mut self, id: u64, answer: Answer) {
        let Some(asked) = self.asked.take_if(|asked| asked.id == id) else {
            return;
        };
        let took = BootTime::now().since(asked.sent);
        let failure = match &answer {
            Answer::Unknown(why) | Answer::Failed(why) => Some(why.clone()),
            _ => None,
        };
        self.show(|view| {
            view.failures += u64::from(failure.is_some());
            view.failure = failure;
            if asked.renews {
                view.last_renewal_ms = Some(took.as_millis().try_into().unwrap_or(u64::MAX));
            }
        });
        self.tell(Event::Answer { id, answer });
    }

    /// Rule 9, by whoever holds the lease, in a thread of its own: nothing depends on when it ends.
    fn collect(&mut self) {
        if self.collecting.as_ref().is_some_and(|done| done.try_recv().is_ok()) {
            self.collecting = None;
        }
        let (now, head) = (BootTime::now(), self.machine.position().next_seq() - 1);
        if !self.machine.knows_the_log() || !self.marks.note(now, head) || self.collecting.is_some() {
            return;
        }
        let last = self.marks.collectable(now, self.timing.gc_min_age, head);
        if let Some(last) = last.filter(|_| self.machine.held().is_some()) {
            let (done, ended) = bounded(1);
            let log = Arc::clone(&self.log);
            let collect = move || {
                // What stays is collected another time.
                let _ = log.collect(last, COLLECTED_MOST);
                let _ = done.send(());
            };
            self.collecting = thread::Builder::new().name("lease-collect".into()).spawn(collect).ok().map(|_| ended);
        }
    }

    fn note(&self, note: LeaseNote) {
        // The agent that would listen is ending, and the wishes will end this thread.
        let _ = self.notes.send(note);
    }

    fn show(&self, change: impl FnOnce(&mut LeaseView)) {
        change(&mut self.view.write().unwrap_or_else(PoisonError::into_inner));
    }
}
