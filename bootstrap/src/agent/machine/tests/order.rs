//! Edges that answer in any order: under no order does a leader start without a lease.

use super::*;

/// What is asked of the edges and not answered yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owed {
    Reclaim,
    Start,
    Stop,
    Look,
    Fence,
    Materialize,
    Hook(Hook),
    Release,
}

fn owed(action: &Action) -> Option<Owed> {
    Some(match action {
        Action::Reclaim => Owed::Reclaim,
        Action::Start { .. } => Owed::Start,
        Action::Stop { .. } | Action::Kill => Owed::Stop,
        Action::Look(_) => Owed::Look,
        Action::Fence { .. } => Owed::Fence,
        Action::Materialize { .. } => Owed::Materialize,
        Action::Run { hook, .. } => Owed::Hook(*hook),
        Action::Wish(LeaseWish::Release) => Owed::Release,
        _ => return None,
    })
}

/// A driver, a chain and a lease that answer when they like, each for itself as it really would.
struct Edges {
    random: fastrand::Rng,
    owed: Vec<Owed>,
    held: Option<u64>,
    runs: bool,
    term: u64,
}

impl Edges {
    fn answer(&mut self, owed: Owed) -> Event {
        let ok = self.random.u8(0..4) != 0;
        let said = |ok: bool| if ok { Ok(()) } else { Err("x".to_owned()) };
        match owed {
            Owed::Reclaim => Event::Reclaimed(said(ok)),
            Owed::Start => {
                self.runs &= ok;
                Event::Started(said(ok))
            }
            Owed::Stop => {
                self.runs &= !ok;
                Event::Stopped(said(ok))
            }
            Owed::Look => {
                let seq = self.random.u64(9..12);
                Event::Looked(if ok { Ok(sight(seq, self.term)) } else { Err(trouble(self.random.bool())) })
            }
            Owed::Fence => Event::Fenced(match ok {
                true => Ok(Fenced { term: self.term, seq: 9, before: self.term.saturating_sub(self.random.u64(1..3)) }),
                false => Err(trouble(false)),
            }),
            Owed::Materialize => Event::Materialized(if ok { Ok(sight(10, self.term)) } else { Err(trouble(false)) }),
            Owed::Hook(hook) => Event::Hooked(hook, said(ok)),
            Owed::Release => {
                self.held = None;
                Event::Lease(LeaseNote::Released)
            }
        }
    }

    fn happen(&mut self, told: &mut Told) -> Event {
        if !self.owed.is_empty() && self.random.u8(0..3) != 0 {
            let which = self.random.usize(..self.owed.len());
            let owed = self.owed.remove(which);
            return self.answer(owed);
        }
        let is_started = self.runs && !self.owed.contains(&Owed::Start);
        match self.random.u8(0..12) {
            0..=2 if self.held.is_none() && told.machine.mode() == Mode::Candidate => {
                self.term += self.random.u64(1..3);
                self.held = Some(self.term);
                let until = Some(told.now + TTL);
                Event::Lease(LeaseNote::Claimed { term: self.term, claim: vec![], until })
            }
            3 if self.held.is_some() => {
                self.held = None;
                // Nothing is owed for a lease that is gone.
                self.owed.retain(|owed| *owed != Owed::Release);
                Event::Lease(LeaseNote::Expired)
            }
            4 if is_started => {
                self.runs = false;
                Event::Ended("x".into())
            }
            5 | 6 if is_started => Event::Probed { ready: self.random.bool() },
            7 if self.held.is_some() => Event::Lease(LeaseNote::Late { why: "x".into() }),
            8 => {
                use RequestKind::{Demote, Drain, Handoff, Pause, Promote, Resume};
                let kinds = [Demote, Drain, Handoff, Pause, Promote, Promote, Resume, Resume];
                Event::Asked(0, request(kinds[self.random.usize(..kinds.len())]))
            }
            9 if self.held.is_none() => {
                Event::Lease(LeaseNote::Seen(Some(holder(if self.random.bool() { "a" } else { "b" }, self.term))))
            }
            _ => {
                told.now = told.now + Duration::from_secs(self.random.u64(0..30));
                Event::Tick
            }
        }
    }

    fn check(&mut self, action: &Action, told: &Told, seed: u64) {
        let switches = matches!(action, Action::Materialize { .. })
            || matches!(action, Action::Look(Apply::Switch { .. })) && !told.machine.has(Hook::Reload);
        assert!(!(switches && self.runs), "seed {seed}: switched under a running service");
        match action {
            Action::Start { role, term, .. } => {
                assert!(!self.runs, "seed {seed}: two services at once");
                self.runs = true;
                if *role == ServiceRole::Leader {
                    assert_eq!(self.held, Some(*term), "seed {seed}: a leader without the lease");
                    let led = told.machine.kept().led.as_ref().map(|led| led.term);
                    assert_eq!(led, Some(*term), "seed {seed}: a leadership that was not written down");
                }
            }
            Action::Wish(LeaseWish::Release) => {
                assert!(!self.runs || told.machine.runs_as() == Some(ServiceRole::Follower), "seed {seed}: given back");
            }
            _ => {}
        }
        self.owed.extend(owed(action));
    }
}

#[test]
fn whatever_happens_in_whatever_order_a_leader_starts_only_under_a_lease() {
    let mut led = 0;
    for seed in 0..4000 {
        let mut random = fastrand::Rng::with_seed(seed);
        let leadership = if random.bool() { Leadership::Auto } else { Leadership::Static };
        let hooks = [Hook::Drain, Hook::Save, Hook::PrePromote, Hook::PostPromote, Hook::Reload];
        let hooks = hooks.into_iter().filter(|_| random.bool()).collect();
        let setup = Setup { follower_runs: random.bool(), hooks, ..setup(leadership) };
        let mut told = Told::new(setup, Kept::default());
        let mut edges = Edges { random, owed: vec![Owed::Reclaim], held: None, runs: false, term: 4 };
        for _ in 0..150 {
            let event = edges.happen(&mut told);
            told.tell(event);
            for action in told.last.clone() {
                edges.check(&action, &told, seed);
            }
            led += u64::from(told.mode() == Mode::Leader);
        }
    }
    assert!(led > 1_000, "{led} steps as leader: what is to be tested happens");
}
