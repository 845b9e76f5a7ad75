//! The lease machine: (state, event, time) in, requests and notes out.
//!
//! One request is under way at a time. Nothing here waits, reads a clock or asks a store, so that a simulation can drive
//! thousands of years of it. Rules are numbered as in `docs/leadership.md`. Layer: pure; `runner` gives it time and answers.

mod reading;
mod sending;

use std::collections::VecDeque;
use std::time::Duration;

use jiff::Timestamp;
use manifests::digest::Digest;
use manifests::document::lease::{ChainHead, Entry, Holder as EntryHolder, Kind, VerifiedEntry};
use manifests::document::record::Nonce;
use manifests::lease::{Position, Slot};
use manifests::refusal::Refusal;

use super::timing::Timing;
use super::{Holder, LeaseWish};
use crate::clock::BootTime;

/// Who this is, and in which group.
#[derive(Debug, Clone)]
pub struct Member {
    /// The digest of the genesis payload.
    pub chain: Digest,
    /// The group.
    pub group: String,
    /// What every entry says of its holder. The instance is new with every start (rule 2).
    pub holder: EntryHolder,
    /// Whether claims expire (`auto`), or only an operator moves the lease (`static`).
    pub expires: bool,
    /// The times.
    pub timing: Timing,
}

/// Which safeguards are on: all of them, except in tests that prove that each is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// Rule 4: validity counts from before the request was sent, not from its answer.
    pub from_before_sent: bool,
    /// Rule 6: a candidate waits for the whole ttl and the drift.
    pub whole_patience: bool,
    /// Rule 7: an unclear answer is cleared up by reading the slot.
    pub read_back: bool,
    /// Rule 8: listings before and after a claim show whether the log ends where this node thinks.
    pub look_beyond: bool,
    /// Rule 10: a void slot is waited for like a claim.
    pub void_waits: bool,
}

impl Rules {
    /// The protocol.
    pub const ALL: Rules =
        Rules { from_before_sent: true, whole_patience: true, read_back: true, look_beyond: true, void_waits: true };
}

/// What happened.
#[derive(Debug, Clone)]
pub enum Event {
    /// Time passed.
    Tick,
    /// The agent wants something else.
    Wish(LeaseWish),
    /// The newest record of the chain that was seen.
    Chain(ChainHead),
    /// A request ended.
    Answer {
        /// Which.
        id: u64,
        /// How.
        answer: Answer,
    },
}

/// How a request ended.
#[derive(Debug, Clone)]
pub enum Answer {
    /// A listing: the highest slot, if there is any.
    Highest(Option<u64>),
    /// A slot and what is in it.
    Slot(Box<Slot>),
    /// What a member signed for the slot and what this reader cannot accept.
    Refused(Refusal),
    /// There is nothing in the slot.
    Missing,
    /// The entry was written by this request; the digest of its payload.
    Created(Digest),
    /// The slot was taken. The entry in it may be one's own.
    Exists,
    /// Nobody knows: it may have happened, may happen yet, or not.
    Unknown(String),
    /// Certainly nothing happened.
    Failed(String),
}

/// What to ask of the store.
#[derive(Debug, Clone, PartialEq)]
pub enum Request {
    /// The highest slot of the log above this one.
    List {
        /// 0 for the whole log.
        after: u64,
    },
    /// What is in a slot.
    Get {
        /// The slot.
        seq: u64,
    },
    /// Sign the entry and create its slot, once.
    Create {
        /// The entry. Asked for again with equal bytes.
        entry: Box<Entry>,
    },
}

/// What follows from an event.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Ask the store this, with an answer by the request timeout.
    Ask {
        /// Comes back with the answer.
        id: u64,
        /// What.
        request: Request,
    },
    /// The newest claim is another one than before.
    Seen(Option<Holder>),
    /// The lease is held from now on.
    Claimed {
        /// The claim.
        claim: Box<Entry>,
        /// When the service must be dead.
        until: Option<BootTime>,
    },
    /// The lease holds longer.
    Renewed {
        /// When the service must be dead.
        until: BootTime,
    },
    /// Two thirds of the ttl passed without a renewal.
    Late(String),
    /// The service must be dead.
    Expired,
    /// Somebody claimed a higher term.
    Superseded(Holder),
    /// Nothing is held, by own wish.
    Released,
    /// Something in the log or the store keeps this node from taking part.
    Unfit(String),
}

/// The lease, held.
#[derive(Debug, Clone)]
struct Held {
    claim: Entry,
    /// Before the request of the newest entry was sent.
    since: BootTime,
    late_told: bool,
}

/// An entry that was sent and whose fate is not clear, or not clear enough.
#[derive(Debug, Clone)]
struct Pending {
    entry: Entry,
    /// Before it was sent for the first time (rule 7).
    sent: BootTime,
    stage: Stage,
    /// Of its payload, once it is certain that it stands in its slot.
    digest: Option<Digest>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The log is to be listed before anything is sent: it must end where it was left.
    LookFirst,
    /// The newest slot is to be read again: it must hold what was seen in it.
    LookAgain,
    /// It is to be sent, for the first time or again.
    Send,
    /// The slot is to be read.
    ReadBack,
    /// It is written; the log is to be listed beyond it.
    LookBeyond,
}

/// What the agent wants, as long as it wants nothing else.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Wish {
    Follow,
    Lead,
    /// An operator's word on whoever led in the term that was seen then, and on nobody who claims after that; `None` until
    /// the log was known once.
    Force {
        reason: String,
        over: Option<u64>,
    },
}

/// What the machine knows of the log.
#[derive(Debug, Clone, Default)]
struct View {
    position: Position,
    /// When the claim of the present term was made, by its holder's wall clock.
    claimed: Option<(u64, Timestamp)>,
    /// The highest term seen, and who held it: it never falls.
    floor: Option<(u64, EntryHolder)>,
    shown: Option<Option<Holder>>,
    /// The entry by which that was found out.
    shown_seq: Option<Option<u64>>,
}

/// See the module.
#[derive(Debug, Clone)]
pub struct Machine {
    me: Member,
    rules: Rules,
    wish: Wish,
    /// Whether what is held is to be given back, which no later wish takes back: the service is dead.
    giving_back: bool,
    view: View,
    /// The reading from the newest slot backwards, until the log is known.
    reading: Option<reading::Reading>,
    /// When what is newest in the log was first seen, at the end of the answer.
    seen_at: BootTime,
    /// When the last request that looked at the next slot was sent.
    looked_at: BootTime,
    held: Option<Held>,
    pending: Option<Pending>,
    chain: ChainHead,
    busy: Option<(u64, Request, BootTime)>,
    next_id: u64,
    poll_at: BootTime,
    pause_until: BootTime,
    failure: Option<String>,
    unfit: Option<String>,
    /// Whether the log was known once.
    began: bool,
    random: u64,
    wall: Timestamp,
}

impl Machine {
    /// A machine that has just been started and has seen nothing; `chain` is the newest record that was verified.
    pub fn new(me: Member, rules: Rules, chain: ChainHead, now: BootTime) -> Machine {
        let seed = me.holder.instance.0;
        let random = u64::from_le_bytes(seed[..8].try_into().expect("eight of sixteen"));
        Machine {
            me,
            rules,
            wish: Wish::Follow,
            giving_back: false,
            view: View::default(),
            reading: Some(reading::Reading::Start),
            seen_at: now,
            looked_at: now,
            held: None,
            pending: None,
            chain,
            busy: None,
            next_id: 0,
            poll_at: now,
            pause_until: now,
            failure: None,
            unfit: None,
            began: false,
            random,
            wall: Timestamp::UNIX_EPOCH,
        }
    }

    /// Takes an event at `now`; `wall` only goes into what is written. The answer to an abandoned request counts for nothing.
    pub fn on(&mut self, now: BootTime, wall: Timestamp, event: Event) -> VecDeque<Action> {
        let mut out = VecDeque::new();
        self.wall = wall;
        // Rule 5: nothing may come before the end of the lease, whatever else the event brings.
        self.check_deadline(now, &mut out);
        match event {
            Event::Tick => {}
            Event::Wish(wish) => self.want(wish),
            Event::Chain(head) => self.see_chain(head, &mut out),
            Event::Answer { id, answer } => {
                if self.busy.as_ref().is_some_and(|(asked, _, _)| *asked == id) {
                    let (_, request, sent) = self.busy.take().expect("it is busy");
                    self.answered(now, &request, sent, answer, &mut out);
                }
            }
        }
        self.check_deadline(now, &mut out);
        self.check_word();
        self.show(&mut out);
        self.ask_next(now, &mut out);
        out
    }

    /// When the machine has something to do without any event.
    pub fn wake_at(&self) -> Option<BootTime> {
        let mut times = Vec::new();
        if let Some(held) = self.held.as_ref().filter(|_| self.me.expires) {
            times.push(held.since + self.me.timing.service());
            if !held.late_told {
                times.push(held.since + self.me.timing.late());
            }
        }
        if self.busy.is_none() {
            times.push(self.next_at().max(self.pause_until));
        }
        times.into_iter().min()
    }

    /// When the service must be dead; `None` without a lease, or where nothing limits it.
    pub fn until(&self) -> Option<BootTime> {
        self.held.as_ref().filter(|_| self.me.expires).map(|held| held.since + self.me.timing.service())
    }

    /// Until when nobody else may lead: later than [`Machine::until`] by the kill budget.
    pub fn valid_until(&self) -> Option<BootTime> {
        self.held.as_ref().filter(|_| self.me.expires).map(|held| held.since + self.me.timing.validity())
    }

    /// The claim that is held.
    pub fn held(&self) -> Option<&Entry> {
        self.held.as_ref().map(|held| &held.claim)
    }

    /// How far the log was read.
    pub fn position(&self) -> &Position {
        &self.view.position
    }

    /// Whether the log was read to its end at least once.
    pub fn knows_the_log(&self) -> bool {
        self.reading.is_none()
    }

    /// When what is newest in the log was first seen.
    pub fn seen_at(&self) -> BootTime {
        self.seen_at
    }

    /// When a claim may be made, if nothing happens until then; `None` where time alone does not bring it.
    pub fn may_claim_at(&self) -> Option<BootTime> {
        if self.reading.is_some() {
            return None;
        }
        self.free_at(self.is_mine())
    }

    /// What the last request said, if it failed.
    pub fn failure(&self) -> Option<&str> {
        self.failure.as_deref()
    }

    fn want(&mut self, wish: LeaseWish) {
        self.wish = match wish {
            LeaseWish::Lead => Wish::Lead,
            LeaseWish::Force { .. } if self.held.is_some() && !self.giving_back => Wish::Lead,
            LeaseWish::Force { reason } => Wish::Force { reason, over: self.began.then(|| self.floor()) },
            LeaseWish::Follow => Wish::Follow,
            LeaseWish::Release => {
                self.giving_back = true;
                Wish::Follow
            }
        };
    }

    /// The highest term that was seen in the log.
    fn floor(&self) -> u64 {
        self.view.floor.as_ref().map_or(0, |(term, _)| *term)
    }

    /// Who claimed after an operator proved somebody else dead is alive: that word does not go beyond the term it was about.
    fn check_word(&mut self) {
        let (term, claimed_here) =
            (self.floor(), self.view.floor.as_ref().is_some_and(|(_, by)| *by == self.me.holder));
        let Wish::Force { over, .. } = &mut self.wish else {
            return;
        };
        match over {
            _ if self.reading.is_some() => {}
            Some(over) if term > *over && !claimed_here => self.wish = Wish::Lead,
            over => *over = Some(term),
        }
    }

    fn see_chain(&mut self, head: ChainHead, out: &mut VecDeque<Action>) {
        if (head.epoch, head.seq) > (self.chain.epoch, self.chain.seq) {
            self.chain = ChainHead { term: head.term.max(self.chain.term), ..head };
        }
        // Somebody's fence is above this term: whatever the log says, this leadership is over.
        if self.held.as_ref().is_some_and(|held| held.claim.term < self.chain.term) {
            self.lose(out);
        }
    }

    fn check_deadline(&mut self, now: BootTime, out: &mut VecDeque<Action>) {
        let Some(held) = self.held.as_mut().filter(|_| self.me.expires) else {
            return;
        };
        if now >= held.since + self.me.timing.service() {
            return self.lose(out);
        }
        if now >= held.since + self.me.timing.late() && !held.late_told && !self.giving_back {
            held.late_told = true;
            out.push_back(Action::Late(self.failure.clone().unwrap_or("the store did not answer in time".into())));
        }
    }

    /// The lease is over without anybody else being known to lead.
    fn lose(&mut self, out: &mut VecDeque<Action>) {
        self.held = None;
        // A renewal that is still under way is void, wherever it lands.
        self.pending = self.pending.take().filter(|pending| pending.entry.kind != Kind::Renew);
        out.push_back(Action::Expired);
    }

    fn is_mine(&self) -> bool {
        self.view.position.last.as_ref().is_some_and(|last| {
            (&last.entry.holder.node, last.entry.holder.key) == (&self.me.holder.node, self.me.holder.key)
        })
    }

    /// When the lease may be claimed without an operator's word (rule 6).
    fn free_at(&self, mine: bool) -> Option<BootTime> {
        let Position { last, voids } = &self.view.position;
        let patience = |of_head: Option<Duration>| {
            let whole = self.me.timing.patience(of_head);
            if self.rules.whole_patience { whole } else { whole / 2 }
        };
        let ttl = |last: &VerifiedEntry| last.entry.ttl_ms.map(Duration::from_millis);
        // Rule 10: a void slot may hide a leader, whatever stands before it.
        let waits_for_void = !voids.is_empty() && self.rules.void_waits;
        let free = !voids.is_empty() && !self.rules.void_waits;
        match last {
            Some(last) if last.entry.kind == Kind::Release && !waits_for_void => Some(self.seen_at),
            None if !self.me.expires && !waits_for_void => Some(self.seen_at),
            // The node of a static leader goes on after a restart; only an operator names another one.
            Some(last) if !self.me.expires && !mine && last.entry.kind != Kind::Release => None,
            Some(_) if !self.me.expires && !waits_for_void => Some(self.seen_at),
            // What only an operator ends is not ended by time.
            Some(last) if self.me.expires && last.entry.kind != Kind::Release && ttl(last).is_none() => None,
            _ if free => Some(self.seen_at),
            Some(last) => Some(self.seen_at + patience(ttl(last))),
            None => Some(self.seen_at + patience(None)),
        }
    }

    /// When the next request is due, if none is under way.
    fn next_at(&self) -> BootTime {
        let past = self.pause_until;
        if self.pending.is_some() || self.reading.is_some() {
            return past;
        }
        if self.giving_back {
            return past;
        }
        match (&self.held, &self.wish) {
            (Some(held), _) if self.me.expires => held.since + self.me.timing.renew(),
            (None, Wish::Force { .. }) => past,
            (None, Wish::Lead) => self.free_at(self.is_mine()).map_or(self.poll_at, |free| free.min(self.poll_at)),
            _ => self.poll_at,
        }
    }

    fn ask_next(&mut self, now: BootTime, out: &mut VecDeque<Action>) {
        if self.busy.is_some() || now < self.pause_until {
            return;
        }
        // Rule 8: what was passed long ago may be collected, and what is collected can be created again.
        let stale = now.since(self.looked_at) >= self.me.timing.gc_min_age / 2;
        if stale && !(self.held.is_some() && self.me.expires) && self.pending.is_none() && self.reading.is_none() {
            self.reading = Some(reading::Reading::Start);
        }
        if self.pending.is_some() {
            return self.ask_pending(now, out);
        }
        if let Some(reading) = &self.reading {
            let request = reading.request();
            return self.ask(now, request, out);
        }
        if now < self.next_at() {
            return;
        }
        if self.giving_back {
            return self.give_back(now, out);
        }
        match (&self.held, self.wish.clone()) {
            (Some(_), _) if self.me.expires => self.send(now, Kind::Renew, None, out),
            (None, Wish::Force { reason, .. }) => self.send(now, Kind::Claim, Some(reason), out),
            (None, Wish::Lead) if self.may_claim_at().is_some_and(|free| free <= now) => {
                self.send(now, Kind::Claim, None, out);
            }
            _ => {
                let seq = self.view.position.next_seq();
                self.ask(now, Request::Get { seq }, out);
            }
        }
    }

    fn ask(&mut self, now: BootTime, request: Request, out: &mut VecDeque<Action>) {
        let id = self.next_id;
        self.next_id += 1;
        self.busy = Some((id, request.clone(), now));
        out.push_back(Action::Ask { id, request });
    }

    fn answered(
        &mut self,
        now: BootTime,
        request: &Request,
        sent: BootTime,
        answer: Answer,
        out: &mut VecDeque<Action>,
    ) {
        match &answer {
            Answer::Unknown(why) | Answer::Failed(why) => {
                self.failure = Some(why.clone());
                self.pause_until = now + self.me.timing.pause() + self.jitter(self.me.timing.pause());
            }
            _ => self.failure = None,
        }
        if self.pending.is_some() {
            self.answered_pending(now, answer, out);
        } else if self.reading.is_some() {
            self.answered_reading(now, sent, answer, out);
        } else if let Request::Get { .. } = request {
            self.answered_poll(now, sent, answer, out);
        }
    }

    fn show(&mut self, out: &mut VecDeque<Action>) {
        let seq = self.view.position.last.as_ref().map(|last| last.entry.seq);
        if self.reading.is_some() || self.view.shown_seq == Some(seq) {
            return;
        }
        self.view.shown_seq = Some(seq);
        let holder = self.view.holder();
        if self.view.shown.as_ref() != Some(&holder) {
            self.view.shown = Some(holder.clone());
            out.push_back(Action::Seen(holder));
        }
    }

    fn tell_unfit(&mut self, why: String, out: &mut VecDeque<Action>) {
        if self.unfit.as_ref() != Some(&why) {
            self.unfit = Some(why.clone());
            out.push_back(Action::Unfit(why));
        }
    }

    /// A value from 0 to `most` that other members do not have too.
    fn jitter(&mut self, most: Duration) -> Duration {
        // splitmix64
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.random;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^= word >> 31;
        most.mul_f64((word >> 11) as f64 / (1u64 << 53) as f64)
    }

    /// Never the same twice: the instance is random, and the number of the request goes up.
    fn nonce(&self) -> Nonce {
        let mut bytes = self.me.holder.instance.0.to_vec();
        bytes.extend(self.next_id.to_le_bytes());
        let digest = Digest::sha256(&bytes);
        Nonce(digest.0[..16].try_into().expect("sixteen of thirty-two"))
    }
}

#[cfg(test)]
mod tests;
