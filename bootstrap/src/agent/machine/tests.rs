//! The machine, told everything by hand. Names of the edge cases: `docs/agent.md`.

mod asked;
mod order;

use super::*;
use crate::agent::view::RequestKind;

const TTL: Duration = Duration::from_secs(15);

/// A machine with what happened to it.
struct Told {
    machine: Machine,
    now: BootTime,
    last: Vec<Action>,
    all: Vec<Action>,
    ticket: u64,
}

fn setup(leadership: Leadership) -> Setup {
    Setup {
        node: "a".into(),
        instance: "run-1".into(),
        boot: "boot-1".into(),
        leadership,
        barred: None,
        leader_runs: true,
        follower_runs: false,
        no_failover: false,
        max_lag: 0,
        ttl: TTL,
        poll: Duration::from_secs(5),
        grace: Duration::from_secs(3),
        start: Duration::from_secs(60),
        hooks: Vec::new(),
    }
}

fn sight(seq: u64, term: u64) -> Sight {
    Sight {
        head: seq,
        term,
        snapshot: format!("s{seq}"),
        snapshot_seq: seq,
        captured: jiff::Timestamp::UNIX_EPOCH,
        applied: Some(format!("s{seq}")),
        applied_seq: Some(seq),
        lag: 0,
        generation: Some(format!("g{seq}")),
        switched: false,
        degraded: None,
    }
}

fn trouble(refused: bool) -> Trouble {
    Trouble { why: "the store does not answer".into(), next: None, refused, class: None }
}

fn holder(node: &str, term: u64) -> Holder {
    Holder { node: node.into(), instance: format!("of-{node}"), term, api: None, released: false, since: None }
}

impl Told {
    fn new(setup: Setup, kept: Kept) -> Self {
        let now = BootTime::after_boot(Duration::from_secs(1000));
        let machine = Machine::new(setup, kept, now);
        let mut told = Self { machine, now, last: vec![], all: vec![], ticket: 0 };
        told.tell(Event::Tick);
        told.expect(&Action::Reclaim);
        told
    }

    /// A follower that looked at the chain once.
    fn following(setup: Setup, kept: Kept) -> Self {
        let mut told = Self::new(setup, kept);
        told.tell(Event::Reclaimed(Ok(())));
        told.tell(Event::Looked(Ok(sight(10, 4))));
        told
    }

    fn leading(mut setup: Setup, hooks: &[Hook]) -> Self {
        setup.hooks = hooks.to_vec();
        let mut told = Self::following(setup, Kept::default());
        told.claim(5);
        told.tell(Event::Fenced(Ok(Fenced { term: 5, seq: 11, before: 4 })));
        told.tell(Event::Materialized(Ok(sight(10, 5))));
        if hooks.contains(&Hook::PrePromote) {
            told.tell(Event::Hooked(Hook::PrePromote, Ok(())));
        }
        told.tell(Event::Started(Ok(())));
        told.tell(Event::Probed { ready: true });
        assert_eq!(told.mode(), Mode::Leader);
        told
    }

    fn leading_statically() -> Self {
        let mut told = Self::following(setup(Leadership::Static), Kept::default());
        assert!(!told.all.contains(&Action::Wish(LeaseWish::Lead)));
        let reply = told.ask(RequestKind::Promote);
        assert!(matches!(reply, Reply::Accepted(_)), "{reply:?}");
        told.expect(&Action::Wish(LeaseWish::Lead));
        told.tell(Event::Lease(LeaseNote::Claimed { term: 5, claim: vec![], until: None }));
        told.tell(Event::Fenced(Ok(Fenced { term: 5, seq: 11, before: 4 })))
            .tell(Event::Materialized(Ok(sight(10, 5))));
        told.expect(&start(ServiceRole::Leader, 5, None));
        told.tell(Event::Started(Ok(()))).tell(Event::Probed { ready: true });
        assert_eq!(told.mode(), Mode::Leader);
        told
    }

    fn tell(&mut self, event: Event) -> &mut Self {
        self.last = self.machine.step(event, self.now);
        self.all.extend(self.last.clone());
        self
    }

    fn claim(&mut self, term: u64) {
        let until = Some(self.now + TTL);
        self.tell(Event::Lease(LeaseNote::Claimed { term, claim: b"claim".to_vec(), until }));
    }

    fn after(&mut self, seconds: u64) -> &mut Self {
        self.now = self.now + Duration::from_secs(seconds);
        self.tell(Event::Tick)
    }

    fn ask(&mut self, kind: RequestKind) -> Reply {
        self.ticket += 1;
        let request = request(kind);
        self.tell(Event::Asked(self.ticket, request));
        let ticket = self.ticket;
        let reply = |action: &Action| match action {
            Action::Reply(to, reply) if *to == ticket => Some(reply.clone()),
            _ => None,
        };
        self.last.iter().find_map(reply).expect("every request is answered at once")
    }

    fn mode(&self) -> Mode {
        self.machine.mode()
    }

    #[track_caller]
    fn expect(&self, action: &Action) -> &Self {
        assert!(self.last.contains(action), "{action:?} expected, {:?} found", self.last);
        self
    }

    #[track_caller]
    fn expect_not(&self, is_it: impl Fn(&Action) -> bool) -> &Self {
        assert!(!self.last.iter().any(is_it), "{:?}", self.last);
        self
    }

    fn recorded(&self, event: &str) -> bool {
        self.all.iter().any(|action| matches!(action, Action::Record(name, _) if *name == event))
    }
}

fn request(kind: RequestKind) -> Request {
    Request { kind, reason: "because".into(), by: "test".into() }
}

fn starts(action: &Action) -> bool {
    matches!(action, Action::Start { .. })
}

fn start(role: ServiceRole, term: u64, until: Option<BootTime>) -> Action {
    Action::Start { role, term, until }
}

#[test]
fn nothing_is_done_before_an_old_service_is_proven_dead() {
    let mut told = Told::new(setup(Leadership::Auto), Kept::default());
    assert_eq!(told.mode(), Mode::Starting);
    told.tell(Event::Reclaimed(Err("process 7 does not end".into())));
    assert_eq!(told.mode(), Mode::Degraded);
    assert!(told.machine.why(told.now).contains("process 7"));
    told.after(1).expect_not(|action| !matches!(action, Action::Record(..)));
    told.after(5).expect(&Action::Reclaim);
    told.tell(Event::Reclaimed(Ok(())));
    assert_eq!(told.mode(), Mode::Follower);
    told.expect(&Action::Look(Apply::Switch { afresh: false }));
}

#[test]
fn a_follower_near_the_chain_is_a_candidate_and_a_takeover_goes_step_by_step() {
    let mut told = Told::following(setup(Leadership::Auto), Kept::default());
    told.expect(&Action::Wish(LeaseWish::Lead));
    assert_eq!(told.mode(), Mode::Candidate);
    let until = Some(told.now + TTL);
    told.claim(5);
    told.expect(&Action::Fence { term: 5, claim: b"claim".to_vec() });
    assert_eq!((told.mode(), told.machine.holds()), (Mode::Promoting, Some(5)));
    told.tell(Event::Fenced(Ok(Fenced { term: 5, seq: 11, before: 4 }))).expect(&Action::Materialize { afresh: false });
    told.tell(Event::Materialized(Ok(sight(10, 5)))).expect(&start(ServiceRole::Leader, 5, until));
    // What it is about to write is known before anything can write it.
    assert_eq!(told.machine.kept().led, Some(Led { term: 5, generation: "g10".into() }));
    told.tell(Event::Started(Ok(())));
    assert_eq!(told.mode(), Mode::Promoting, "it holds the lease, but is not ready");
    assert!(!told.machine.is_ready());
    told.tell(Event::Probed { ready: false });
    assert_eq!(told.mode(), Mode::Promoting);
    told.tell(Event::Probed { ready: true });
    assert_eq!((told.mode(), told.machine.is_ready()), (Mode::Leader, true));
    assert_eq!((told.machine.kept().takeover_attempts, told.machine.kept().takeovers), (1, 1));
}

#[test]
fn a_renewal_lets_the_service_live_longer() {
    let mut told = Told::leading(setup(Leadership::Auto), &[]);
    let until = told.now + TTL * 2;
    told.tell(Event::Lease(LeaseNote::Renewed { until })).expect(&Action::Extend(until));
    assert_eq!(told.machine.until(), Some(until));
}

#[test]
fn a_node_behind_the_chain_is_no_candidate() {
    let mut told = Told::following(setup(Leadership::Auto), Kept::default());
    told.after(5);
    told.tell(Event::Looked(Ok(Sight { lag: 1, ..sight(12, 4) }))).expect(&Action::Wish(LeaseWish::Follow));
    assert_eq!(told.mode(), Mode::Follower);
    assert!(told.machine.may_lead(told.now).unwrap_err().contains("behind"));
}

#[test]
fn who_is_excluded_by_its_configuration_never_claims() {
    let told = Told::following(Setup { no_failover: true, ..setup(Leadership::Auto) }, Kept::default());
    assert!(!told.all.contains(&Action::Wish(LeaseWish::Lead)));
    let told = Told::following(setup(Leadership::Nobody), Kept::default());
    assert!(!told.all.contains(&Action::Wish(LeaseWish::Lead)));
}

#[test]
fn store_unreachable_for_follower_only() {
    let mut told = Told::following(setup(Leadership::Auto), Kept::default());
    told.after(5);
    told.tell(Event::Looked(Err(trouble(false)))).expect(&Action::Wish(LeaseWish::Follow));
    assert_eq!(told.mode(), Mode::Follower);
    told.after(5);
    told.tell(Event::Looked(Ok(sight(10, 4)))).expect(&Action::Wish(LeaseWish::Lead));
}

#[test]
fn a_chain_that_was_not_read_lately_is_none_to_lead_from() {
    let mut told = Told::following(setup(Leadership::Auto), Kept::default());
    told.machine.next_look = told.now + Duration::from_secs(3600);
    told.after(120).expect(&Action::Wish(LeaseWish::Follow));
}

#[test]
fn manifest_stale_or_key_rotated() {
    let mut told = Told::following(setup(Leadership::Auto), Kept::default());
    told.after(5);
    told.tell(Event::Looked(Err(trouble(true)))).expect(&Action::Wish(LeaseWish::Follow));
    assert_eq!(told.mode(), Mode::Refused);
    assert_eq!(told.machine.why(told.now), "the store does not answer");
    // A leader goes on: its lease still holds, and only a higher term ends it.
    let mut told = Told::leading(setup(Leadership::Auto), &[]);
    told.tell(Event::Looked(Err(trouble(true))));
    assert_eq!(told.mode(), Mode::Leader);
}

#[test]
fn lease_lost_while_store_unreachable() {
    let mut told = Told::leading(setup(Leadership::Auto), &[Hook::Drain, Hook::Save, Hook::PostDemote]);
    told.tell(Event::Looked(Ok(sight(10, 5))));
    told.after(10);
    told.tell(Event::Looked(Err(trouble(false))));
    told.tell(Event::Lease(LeaseNote::Late { why: "timeout".into() }));
    assert_eq!((told.mode(), told.machine.is_ready()), (Mode::Demoting, false));
    let drain = |action: &Action| matches!(action, Action::Run { hook: Hook::Drain, .. });
    assert!(told.last.iter().any(drain));
    // The hook hangs; its own limit and the end of the lease do not wait for it.
    told.after(3).expect(&Action::Stop { grace: Duration::from_millis(1500) });
    told.after(2);
    told.tell(Event::Lease(LeaseNote::Expired)).expect(&Action::Kill);
    assert_eq!(told.mode(), Mode::Demoting);
    told.tell(Event::Stopped(Ok(())));
    assert_eq!(told.mode(), Mode::Fenced);
    let after = Action::Run { hook: Hook::PostDemote, term: 5, within: Duration::MAX };
    told.expect(&after);
    // Its state is not forgotten, and not touched before it is known who led.
    assert!(told.machine.kept().led.is_some());
    told.expect(&Action::Look(Apply::Leave));
    told.tell(Event::Looked(Err(trouble(false))));
    assert_eq!(told.mode(), Mode::Fenced);
    told.after(5);
    told.tell(Event::Looked(Ok(sight(10, 5))));
    assert_eq!(told.mode(), Mode::Candidate, "its own state is ahead of the chain, until somebody else leads");
}

#[test]
fn demote_hook_hangs() {
    let mut told = Told::leading(setup(Leadership::Auto), &[Hook::Drain]);
    told.tell(Event::Lease(LeaseNote::Late { why: "timeout".into() }));
    told.tell(Event::Lease(LeaseNote::Expired)).expect(&Action::Kill);
}

#[test]
fn a_service_that_cannot_be_proven_dead_is_degraded_and_never_released() {
    let mut told = Told::leading(setup(Leadership::Auto), &[]);
    told.ask(RequestKind::Demote);
    told.expect(&Action::Stop { grace: Duration::from_secs(3) });
    told.tell(Event::Stopped(Err("process 9 is in state D".into())));
    assert_eq!(told.mode(), Mode::Degraded);
    for _ in 0..20 {
        told.after(1);
    }
    assert!(told.all.contains(&Action::Kill));
    assert!(!told.all.contains(&Action::Wish(LeaseWish::Release)));
    assert_eq!(told.machine.holds(), Some(5), "while it may live, nobody else may lead");
    let until = told.now + TTL;
    told.tell(Event::Lease(LeaseNote::Renewed { until }));
    assert_eq!(told.machine.until(), Some(until));
    told.tell(Event::Stopped(Ok(()))).expect(&Action::Wish(LeaseWish::Release));
}

#[test]
fn a_lease_that_cannot_be_given_back_is_not_kept_alive() {
    let mut told = Told::leading(setup(Leadership::Auto), &[]);
    told.ask(RequestKind::Handoff);
    told.tell(Event::Stopped(Ok(()))).expect(&Action::Wish(LeaseWish::Release));
    told.after(20);
    assert_eq!(told.mode(), Mode::Follower);
    told.tell(Event::Looked(Ok(sight(10, 5)))).after(600);
    told.tell(Event::Looked(Ok(sight(10, 5)))).expect_not(|action| matches!(action, Action::Wish(_)));
    told.tell(Event::Lease(LeaseNote::Expired)).expect(&Action::Wish(LeaseWish::Lead));
}

#[test]
fn a_demotion_goes_in_order_and_the_lease_goes_last() {
    let mut told = Told::leading(setup(Leadership::Auto), &[Hook::Drain, Hook::Save, Hook::PostDemote]);
    let reply = told.ask(RequestKind::Handoff);
    assert!(matches!(reply, Reply::Accepted(_)), "{reply:?}");
    told.tell(Event::Hooked(Hook::Drain, Ok(()))).expect(&Action::Stop { grace: Duration::from_secs(3) });
    told.tell(Event::Stopped(Ok(())));
    assert!(told.last.iter().any(|action| matches!(action, Action::Run { hook: Hook::Save, .. })));
    assert_eq!(told.machine.holds(), Some(5), "the last snapshot is taken under the lease");
    told.tell(Event::Hooked(Hook::Save, Ok(()))).expect(&Action::Wish(LeaseWish::Release));
    assert_eq!(told.machine.kept().led, None, "the chain has all of it");
    told.tell(Event::Lease(LeaseNote::Released));
    assert_eq!(told.mode(), Mode::Follower, "it leaves the lease to others for a while");
    told.expect(&Action::Run { hook: Hook::PostDemote, term: 5, within: Duration::MAX });
    told.tell(Event::Looked(Ok(sight(10, 5)))).expect_not(|action| *action == Action::Wish(LeaseWish::Lead));
    told.tell(Event::Lease(LeaseNote::Seen(Some(holder("b", 6)))));
    assert_eq!(told.mode(), Mode::Candidate, "the handoff has arrived, so it stands by again");
}

#[test]
fn a_handoff_outlives_its_agent_until_it_has_arrived_or_its_time_is_over() {
    let mut told = Told::leading(setup(Leadership::Auto), &[]);
    assert!(matches!(told.ask(RequestKind::Handoff), Reply::Accepted(_)));
    let kept = Kept { led: None, ..told.machine.kept().clone() };
    let again =
        |boot: &str, kept: &Kept| Told::following(Setup { boot: boot.into(), ..setup(Leadership::Auto) }, kept.clone());
    let mut next = again("boot-1", &kept);
    assert_eq!(next.mode(), Mode::Follower, "another node is to come first");
    next.tell(Event::Lease(LeaseNote::Seen(Some(holder("b", 6)))));
    assert_eq!((next.mode(), &next.machine.kept().handed_off), (Mode::Candidate, &None), "it has arrived");
    let mut next = again("boot-1", &kept);
    let over = TTL * 3 + setup(Leadership::Auto).start;
    next.after(over.as_secs() + 1).tell(Event::Looked(Ok(sight(10, 5))));
    assert_eq!(next.mode(), Mode::Candidate, "nobody wanted it");
    // What was asked for last counts, and a time of another boot says nothing.
    let mut next = again("boot-1", &kept);
    next.ask(RequestKind::Resume);
    assert_eq!((next.mode(), &next.machine.kept().handed_off), (Mode::Candidate, &None));
    assert_eq!(again("boot-2", &kept).mode(), Mode::Candidate);
}

#[test]
fn old_leader_returns_and_somebody_else_led() {
    let kept = Kept { led: Some(Led { term: 5, generation: "g10".into() }), ..Kept::default() };
    let mut told = Told::new(Setup { follower_runs: true, ..setup(Leadership::Auto) }, kept);
    told.tell(Event::Reclaimed(Ok(()))).expect(&Action::Look(Apply::Leave));
    told.tell(Event::Looked(Ok(Sight { generation: Some("g10".into()), ..sight(14, 6) })));
    // Nothing runs on the old state, and the chain's is fetched anew.
    told.expect_not(starts).expect(&Action::Look(Apply::Switch { afresh: true }));
    told.tell(Event::Looked(Ok(Sight { switched: true, ..sight(14, 6) })));
    let led = Led { term: 5, generation: "g10".into() };
    told.expect(&Action::SetAside(led.clone())).expect_not(starts);
    told.tell(Event::SetAside(led, Ok(Some("orphaned/5".into()))));
    told.expect(&start(ServiceRole::Follower, 6, None));
    assert!(told.machine.kept().aside.is_empty() && told.machine.kept().led.is_none());
}

#[test]
fn a_returned_leader_that_wrote_nothing_sets_nothing_aside() {
    let kept = Kept { led: Some(Led { term: 5, generation: "g10".into() }), ..Kept::default() };
    let mut told = Told::new(setup(Leadership::Auto), kept);
    told.tell(Event::Reclaimed(Ok(())));
    told.tell(Event::Looked(Ok(sight(10, 6))));
    assert_eq!(told.machine.kept().aside.len(), 1, "the look that found the new term did not compare");
    told.tell(Event::Looked(Ok(sight(10, 6))));
    assert!(told.machine.kept().aside.is_empty());
    assert!(told.recorded("nothing_to_set_aside"));
}

#[test]
fn old_leader_returns_and_nobody_led_since() {
    let kept = Kept { led: Some(Led { term: 5, generation: "g10".into() }), ..Kept::default() };
    let mut told = Told::new(setup(Leadership::Auto), kept);
    told.tell(Event::Reclaimed(Ok(())));
    // It took snapshots since, so the generation it began from is behind them, but its state is not.
    told.tell(Event::Looked(Ok(Sight { lag: 3, generation: Some("g10".into()), ..sight(14, 5) })));
    told.expect(&Action::Wish(LeaseWish::Lead));
    told.claim(6);
    told.tell(Event::Fenced(Ok(Fenced { term: 6, seq: 15, before: 5 })));
    let until = Some(told.now + TTL);
    told.expect(&start(ServiceRole::Leader, 6, until))
        .expect_not(|action| matches!(action, Action::Materialize { .. }));
}

#[test]
fn head_advanced_during_promote_by_another_leader() {
    let kept = Kept { led: Some(Led { term: 5, generation: "g10".into() }), ..Kept::default() };
    let mut told = Told::new(setup(Leadership::Auto), kept);
    told.tell(Event::Reclaimed(Ok(())));
    told.tell(Event::Looked(Ok(sight(14, 5))));
    told.claim(7);
    // Between the look and the fence, term 6 began and ended.
    told.tell(Event::Fenced(Ok(Fenced { term: 7, seq: 16, before: 6 }))).expect(&Action::Materialize { afresh: true });
    told.tell(Event::Materialized(Ok(sight(15, 7)))).tell(Event::Started(Ok(()))).tell(Event::Probed { ready: true });
    assert_eq!(told.mode(), Mode::Leader);
    told.expect(&Action::Look(Apply::Leave));
    told.tell(Event::Looked(Ok(sight(15, 7)))).expect(&Action::SetAside(Led { term: 5, generation: "g10".into() }));
}

#[test]
fn a_veto_gives_the_lease_back_and_waits() {
    let mut told = Told::following(Setup { hooks: vec![Hook::PrePromote], ..setup(Leadership::Auto) }, Kept::default());
    told.claim(5);
    told.tell(Event::Fenced(Ok(Fenced { term: 5, seq: 11, before: 4 }))).tell(Event::Materialized(Ok(sight(10, 5))));
    told.tell(Event::Hooked(Hook::PrePromote, Err("ended with 1".into())));
    told.expect(&Action::Wish(LeaseWish::Release)).expect_not(starts);
    told.tell(Event::Lease(LeaseNote::Released));
    assert_eq!(told.mode(), Mode::Follower);
    assert_eq!(told.machine.alarms()[0].name, "takeover_failed");
    assert_eq!(told.machine.kept().led, None, "nothing of it ran");
    told.tell(Event::Looked(Ok(sight(10, 5)))).expect_not(|action| *action == Action::Wish(LeaseWish::Lead));
    told.after(21).expect(&Action::Wish(LeaseWish::Lead));
}

#[test]
fn disk_full_during_materialize() {
    let mut told = Told::following(setup(Leadership::Auto), Kept::default());
    told.claim(5);
    told.tell(Event::Fenced(Ok(Fenced { term: 5, seq: 11, before: 4 })));
    told.tell(Event::Materialized(Err(Trouble {
        why: "no space left".into(),
        next: None,
        refused: false,
        class: None,
    })));
    told.expect(&Action::Wish(LeaseWish::Release)).expect_not(starts);
    assert!(told.machine.alarms()[0].what.contains("no space left"));
}

#[test]
fn both_rollback_and_ensure_fail() {
    let mut told = Told::following(setup(Leadership::Auto), Kept::default());
    told.claim(5);
    told.tell(Event::Fenced(Ok(Fenced { term: 5, seq: 11, before: 4 })));
    let mark = Some("half switched".to_owned());
    told.tell(Event::Materialized(Ok(Sight { degraded: mark.clone(), ..sight(10, 5) })));
    told.expect(&Action::Wish(LeaseWish::Release)).expect_not(starts);
    told.tell(Event::Lease(LeaseNote::Released));
    assert_eq!(told.mode(), Mode::Degraded);
    told.after(60);
    told.tell(Event::Looked(Ok(Sight { degraded: mark, ..sight(10, 5) })));
    assert_eq!(told.mode(), Mode::Degraded, "it is sticky");
    assert!(told.machine.may_lead(told.now).is_err());
    told.after(60);
    told.tell(Event::Looked(Ok(sight(10, 5)))).expect(&Action::Wish(LeaseWish::Lead));
}

#[test]
fn two_leaders_by_probe() {
    let mut told = Told::leading(setup(Leadership::Auto), &[]);
    told.tell(Event::Lease(LeaseNote::Superseded { by: holder("b", 6) })).expect(&Action::Kill);
    assert_eq!(told.machine.kept().conflicts, 1);
    assert_eq!(told.machine.alarms()[0].name, "dual_leader");
    assert!(told.machine.alarms()[0].what.contains("term 6"));
    told.tell(Event::Stopped(Ok(())));
    assert_eq!(told.mode(), Mode::Fenced);
}

#[test]
fn a_fence_of_a_higher_term_in_the_chain_ends_a_leadership() {
    let mut told = Told::leading_statically();
    told.tell(Event::Looked(Ok(sight(12, 6)))).expect(&Action::Kill);
}

#[test]
fn follower_consumes_early() {
    // The follower is started as follower, and stopped before anything of the leader is begun.
    let mut told = Told::following(Setup { follower_runs: true, ..setup(Leadership::Auto) }, Kept::default());
    told.expect(&start(ServiceRole::Follower, 4, None));
    told.tell(Event::Started(Ok(()))).tell(Event::Probed { ready: true });
    assert!(told.machine.is_ready());
    told.claim(5);
    told.expect(&Action::Stop { grace: Duration::from_secs(3) }).expect_not(|a| matches!(a, Action::Fence { .. }));
    assert!(!told.machine.is_ready());
    told.tell(Event::Stopped(Ok(()))).expect(&Action::Fence { term: 5, claim: b"claim".to_vec() });
    told.tell(Event::Fenced(Ok(Fenced { term: 5, seq: 11, before: 4 }))).expect(&Action::Materialize { afresh: true });
}

#[test]
fn a_cold_standby_starts_nothing_and_is_switched_at_once() {
    let mut told = Told::following(setup(Leadership::Auto), Kept::default());
    assert!(!told.all.iter().any(starts));
    told.after(5).expect(&Action::Look(Apply::Switch { afresh: false }));
}

#[test]
fn under_a_running_follower_nothing_is_switched_without_a_reload_hook() {
    let following = |hooks| {
        let setup = Setup { follower_runs: true, hooks, ..setup(Leadership::Auto) };
        let mut told = Told::following(setup, Kept::default());
        told.tell(Event::Started(Ok(()))).after(5);
        told
    };
    following(vec![]).expect(&Action::Look(Apply::Prepare));
    let mut told = following(vec![Hook::Reload]);
    told.expect(&Action::Look(Apply::Switch { afresh: false }));
    told.tell(Event::Looked(Ok(Sight { switched: true, ..sight(11, 4) })));
    assert!(told.last.iter().any(|action| matches!(action, Action::Run { hook: Hook::Reload, .. })));
}

#[test]
fn a_leader_whose_service_ends_starts_it_again_and_gives_up_after_a_while() {
    let mut told = Told::leading(setup(Leadership::Auto), &[]);
    for _ in 0..3 {
        told.tell(Event::Ended("exit code 1".into()));
        assert_eq!((told.mode(), told.machine.is_ready()), (Mode::Leader, false));
        told.after(20);
        assert!(told.last.iter().any(starts));
        told.tell(Event::Started(Ok(())));
    }
    told.tell(Event::Ended("exit code 1".into())).expect(&Action::Wish(LeaseWish::Release));
    // Where nobody else may lead, it is tried for ever.
    let mut told = Told::leading_statically();
    for _ in 0..9 {
        told.tell(Event::Ended("exit code 1".into())).after(400);
        assert!(told.last.iter().any(starts));
        told.tell(Event::Started(Ok(())));
    }
}

#[test]
fn ingress_is_announced_until_it_works() {
    let mut told = Told::leading(setup(Leadership::Auto), &[Hook::PostPromote]);
    let announces = |told: &Told| told.last.iter().any(|a| matches!(a, Action::Run { hook: Hook::PostPromote, .. }));
    assert!(announces(&told));
    told.tell(Event::Hooked(Hook::PostPromote, Err("no route".into())));
    assert_eq!(told.mode(), Mode::Leader, "a hook for ingress ends no leadership");
    assert!(!announces(told.after(1)) && announces(told.after(5)));
    told.tell(Event::Hooked(Hook::PostPromote, Ok(())));
    assert!(!announces(told.after(60)));
}

#[test]
fn a_service_that_does_not_become_ready_gives_the_lease_back() {
    let mut told = Told::following(setup(Leadership::Auto), Kept::default());
    told.claim(5);
    told.tell(Event::Fenced(Ok(Fenced { term: 5, seq: 11, before: 4 }))).tell(Event::Materialized(Ok(sight(10, 5))));
    told.tell(Event::Started(Ok(())));
    told.after(61);
    assert_eq!(told.mode(), Mode::Demoting);
    assert!(told.last.iter().any(|action| matches!(action, Action::Stop { .. })));
    told.tell(Event::Stopped(Ok(()))).expect(&Action::Wish(LeaseWish::Release));
    assert!(told.machine.kept().led.is_some(), "it ran, so it may have written");
}

#[test]
fn what_an_earlier_promotion_asked_for_is_not_the_answer_to_this_one() {
    let mut told = Told::following(setup(Leadership::Auto), Kept::default());
    told.claim(5);
    told.tell(Event::Fenced(Ok(Fenced { term: 5, seq: 11, before: 4 })));
    // The restore takes longer than the lease can be kept.
    told.tell(Event::Lease(LeaseNote::Late { why: "no answer".into() })).expect(&Action::Wish(LeaseWish::Release));
    told.tell(Event::Lease(LeaseNote::Released));
    assert!(!told.machine.is_idle(told.now), "the restore goes on");
    told.claim(7);
    told.expect(&Action::Fence { term: 7, claim: b"claim".to_vec() });
    told.tell(Event::Fenced(Ok(Fenced { term: 5, seq: 11, before: 4 })));
    assert!(!told.last.iter().any(|action| matches!(action, Action::Materialize { .. })), "that was the old fence");
    told.tell(Event::Fenced(Ok(Fenced { term: 7, seq: 13, before: 6 }))).expect(&Action::Materialize { afresh: false });
    let starts = |action: &Action| matches!(action, Action::Start { .. });
    told.tell(Event::Materialized(Ok(sight(10, 5)))).expect_not(starts);
    let until = Some(told.now + TTL);
    told.tell(Event::Materialized(Ok(sight(12, 7)))).expect(&start(ServiceRole::Leader, 7, until));
}

#[test]
fn a_look_that_sees_the_own_fence_finds_nobody_else() {
    let led = Led { term: 5, generation: "g10".into() };
    let mut told = Told::new(setup(Leadership::Auto), Kept { led: Some(led.clone()), ..Kept::default() });
    told.tell(Event::Reclaimed(Ok(())));
    told.tell(Event::Looked(Ok(sight(10, 5)))).after(6);
    told.claim(6);
    // The look was under way when the lease was won, and comes before the answer to the fence.
    told.tell(Event::Looked(Ok(sight(11, 6))));
    assert_eq!((told.machine.kept().led.clone(), told.machine.kept().aside.len()), (Some(led), 0));
    let until = Some(told.now + TTL);
    told.tell(Event::Fenced(Ok(Fenced { term: 6, seq: 11, before: 5 }))).expect(&start(ServiceRole::Leader, 6, until));
}
