//! Single rules of docs/leadership.md, by number; whole histories are lived in `bootstrap/tests/simulation.rs`.

use super::*;

const TTL: Duration = Duration::from_secs(60);

/// A machine of node 1 beside an empty log, which answers at once unless it is told otherwise.
struct Told {
    machine: Machine,
    now: BootTime,
    slots: Vec<Entry>,
    /// Behind them, one that nobody signed.
    littered: bool,
}

impl Told {
    fn new() -> Self {
        Self::expiring(true)
    }

    fn expiring(expires: bool) -> Self {
        let (key, instance) = (Digest([1; 32]), Nonce([1; 16]));
        let holder = EntryHolder { node: "a".into(), instance, key, writer: Some(key), api: None };
        let me = Member { chain: Digest([7; 32]), group: "app".into(), holder, expires, timing: Timing::new(TTL) };
        let head = ChainHead { epoch: 0, seq: 0, digest: Digest([9; 32]), term: 0 };
        let now = BootTime::after_boot(Duration::from_secs(1000));
        Self { machine: Machine::new(me, Rules::ALL, head, now), now, slots: Vec::new(), littered: false }
    }

    fn digest(entry: &Entry) -> Digest {
        Digest::sha256(&entry.payload().unwrap())
    }

    fn highest(&self, after: u64) -> Answer {
        let last = self.slots.len() as u64 + u64::from(self.littered);
        Answer::Highest((last > after).then_some(last))
    }

    /// Gives an event, and the store's answers to what follows; creating is answered by `create`. What was done besides.
    fn tell(&mut self, event: Event, create: &mut dyn FnMut(&mut Self, Entry) -> Answer) -> Vec<Action> {
        let mut done = Vec::new();
        let mut actions = self.machine.on(self.now, Timestamp::UNIX_EPOCH, event);
        while let Some(action) = actions.pop_front() {
            let Action::Ask { id, request } = action else {
                done.push(action);
                continue;
            };
            let answer = match request {
                Request::List { after } => self.highest(after),
                Request::Create { entry } => create(self, *entry),
                Request::Get { seq } if self.littered && seq == self.slots.len() as u64 + 1 => {
                    let why = Refusal::new(manifests::refusal::Class::Json, "slot", "an entry", "garbage");
                    let void = manifests::document::record::Void { seq, sha256: Digest([0xff; 32]) };
                    Answer::Slot(Box::new(Slot::Void(void, why)))
                }
                Request::Get { seq } => match self.slots.get(seq as usize - 1) {
                    None => Answer::Missing,
                    Some(entry) => {
                        let read = VerifiedEntry { entry: entry.clone(), digest: Self::digest(entry) };
                        let void = manifests::document::record::Void { seq, sha256: read.digest };
                        Answer::Slot(Box::new(Slot::Entry(Box::new(read), void)))
                    }
                },
            };
            actions.extend(self.machine.on(self.now, Timestamp::UNIX_EPOCH, Event::Answer { id, answer }));
        }
        done
    }

    fn written(told: &mut Self, entry: Entry) -> Answer {
        let digest = Self::digest(&entry);
        told.slots.push(entry);
        Answer::Created(digest)
    }

    /// Time passes in small steps; what was done.
    fn after(&mut self, time: Duration) -> Vec<Action> {
        let end = self.now + time;
        let mut done = Vec::new();
        while self.now < end {
            self.now = (self.now + Duration::from_millis(250)).min(end);
            done.extend(self.tell(Event::Tick, &mut Self::written));
        }
        done
    }

    fn until(actions: &[Action]) -> Option<BootTime> {
        actions.iter().find_map(|action| match action {
            Action::Claimed { until, .. } => *until,
            _ => None,
        })
    }
}

#[test]
fn rule_6_a_fresh_process_waits_its_whole_patience() {
    let mut told = Told::new();
    told.tell(Event::Wish(LeaseWish::Lead), &mut Told::written);
    let patience = Timing::new(TTL).patience(None);
    assert_eq!(Told::until(&told.after(patience - Duration::from_secs(1))), None);
    assert!(told.slots.is_empty());
    assert!(Told::until(&told.after(Duration::from_secs(2))).is_some());
    assert_eq!((told.slots[0].kind, told.slots[0].term), (Kind::Claim, 1));
}

#[test]
fn rule_4_validity_counts_from_before_the_request() {
    let mut told = Told::new();
    let mut sent = None;
    told.tell(Event::Wish(LeaseWish::Force { reason: "test".into() }), &mut |told, entry| {
        sent = Some(told.now);
        told.now = told.now + Duration::from_secs(9);
        Told::written(told, entry)
    });
    assert_eq!(told.machine.until(), Some(sent.unwrap() + Timing::new(TTL).service()));
}

#[test]
fn rule_5_a_holder_that_cannot_renew_is_late_and_then_dead_in_time() {
    let mut told = Told::new();
    told.tell(Event::Wish(LeaseWish::Force { reason: "test".into() }), &mut Told::written);
    let (timing, claimed) = (Timing::new(TTL), told.now);
    let (mut late, mut expired) = (None, None);
    while expired.is_none() {
        told.now = told.now + Duration::from_millis(250);
        let failing = &mut |_: &mut Told, _: Entry| Answer::Failed("no way to the store".into());
        for action in told.tell(Event::Tick, failing) {
            match action {
                Action::Late(why) => late = Some((told.now, why)),
                Action::Expired => expired = Some(told.now),
                _ => {}
            }
        }
    }
    let (late, why) = late.unwrap();
    assert_eq!((late, why.as_str()), (claimed + timing.late(), "no way to the store"));
    assert_eq!(expired, Some(claimed + timing.service()));
    assert!(timing.service() < timing.validity());
}

#[test]
fn rule_7_an_answer_that_was_lost_is_read_back() {
    let mut told = Told::new();
    let done = told.tell(Event::Wish(LeaseWish::Force { reason: "test".into() }), &mut |told, entry| {
        told.slots.push(entry);
        Answer::Unknown("the connection broke".into())
    });
    assert_eq!(Told::until(&done), None, "not before it was read");
    let first = told.now;
    let until = Told::until(&told.after(Duration::from_secs(10)));
    assert_eq!(until, Some(first + Timing::new(TTL).service()), "with the time of the first sending");
    assert_eq!(told.slots.len(), 1);
}

#[test]
fn rule_8_a_claim_beside_which_the_log_goes_on_holds_nothing() {
    let mut told = Told::new();
    let done = told.tell(Event::Wish(LeaseWish::Force { reason: "test".into() }), &mut |told, entry| {
        if !told.slots.is_empty() {
            return Answer::Failed("once is enough".into());
        }
        // The slot had been collected: the log is longer than this node knew.
        let digest = Told::digest(&entry);
        let later = Entry { seq: 2, term: 5, previous: Some(digest), nonce: Nonce([5; 16]), ..entry.clone() };
        told.slots.extend([entry, later]);
        Answer::Created(digest)
    });
    assert_eq!((Told::until(&done), told.machine.until()), (None, None));
}

/// The claim of another node on top of what is in the log.
fn of_another(told: &Told, like: &Entry, kind: Kind) -> Entry {
    let holder =
        EntryHolder { node: "b".into(), instance: Nonce([2; 16]), key: Digest([2; 32]), ..like.holder.clone() };
    let previous = told.slots.last().map(Told::digest);
    let seq = told.slots.len() as u64 + 1;
    let ttl_ms = like.ttl_ms.filter(|_| kind != Kind::Release);
    Entry { seq, kind, previous, holder, ttl_ms, reason: None, nonce: Nonce([seq as u8; 16]), ..like.clone() }
}

#[test]
fn a_forced_claim_overrules_nobody_who_claimed_after_it() {
    let mut told = Told::new();
    told.after(Duration::from_secs(1));
    let done = told.tell(Event::Wish(LeaseWish::Force { reason: "a is dead".into() }), &mut |told, entry| {
        // Another node was faster: the slot is taken.
        let other = of_another(told, &entry, Kind::Claim);
        told.slots.push(other);
        Answer::Exists
    });
    assert_eq!(Told::until(&done), None);
    let patience = Timing::new(TTL).patience(None);
    assert_eq!(Told::until(&told.after(patience - Duration::from_secs(1))), None, "that one lives");
    assert_eq!(told.slots.len(), 1);
    assert!(Told::until(&told.after(Duration::from_secs(20))).is_some(), "and is waited for like anybody");
}

#[test]
fn rule_10_a_static_lease_that_was_given_back_is_free_after_the_patience_for_a_void_slot() {
    let mut told = Told::expiring(false);
    let mut like = None;
    told.tell(Event::Wish(LeaseWish::Force { reason: "test".into() }), &mut |_, entry| {
        like = Some(entry);
        Answer::Failed("only to see it".into())
    });
    let (mut told, like) = (Told::expiring(false), like.unwrap());
    for kind in [Kind::Claim, Kind::Release] {
        let entry = of_another(&told, &like, kind);
        told.slots.push(entry);
    }
    told.littered = true;
    told.tell(Event::Wish(LeaseWish::Lead), &mut Told::written);
    let claims = |done: Vec<Action>| done.iter().any(|action| matches!(action, Action::Claimed { .. }));
    let mut create = |told: &mut Told, entry: Entry| {
        // The slot of the garbage is passed over; only that it was tried counts here.
        let digest = Told::digest(&entry);
        told.littered = false;
        Answer::Created(digest)
    };
    let patience = Timing::new(TTL).patience(None);
    let begin = told.now;
    let mut claimed = None;
    while claimed.is_none() && told.now < begin + patience * 2 {
        told.now = told.now + Duration::from_millis(250);
        claimed = claims(told.tell(Event::Tick, &mut create)).then_some(told.now);
    }
    let waited = claimed.expect("it claims").since(begin);
    assert!(waited >= patience, "{waited:?}");
}
