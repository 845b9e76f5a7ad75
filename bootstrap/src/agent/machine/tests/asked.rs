//! What operators ask for, and what it does not do.

use super::*;

#[test]
fn only_force_takes_the_lease_from_its_holder() {
    let mut told = Told::following(setup(Leadership::Auto), Kept::default());
    told.tell(Event::Lease(LeaseNote::Seen(Some(holder("b", 4)))));
    assert!(matches!(told.ask(RequestKind::Promote), Reply::Refused(_)));
    assert!(matches!(told.ask(RequestKind::ForceClaim), Reply::Accepted(_)));
    assert!(told.all.iter().any(|action| matches!(action, Action::Wish(LeaseWish::Force { .. }))));
}

#[test]
fn an_operator_decides_in_static_leadership() {
    let mut told = Told::following(setup(Leadership::Static), Kept::default());
    told.tell(Event::Lease(LeaseNote::Seen(Some(holder("b", 4)))));
    let reply = told.ask(RequestKind::Promote);
    assert!(matches!(&reply, Reply::Accepted(what) if what.contains('b')), "{reply:?}");
    told.expect(&Action::Wish(LeaseWish::Force { reason: "because".into() }));
    let mut told = Told::leading_statically();
    assert!(matches!(told.ask(RequestKind::Handoff), Reply::Refused(_)));
    told.tell(Event::Lease(LeaseNote::Superseded { by: holder("b", 6) })).expect(&Action::Kill);
    assert_eq!(told.machine.kept().appointed, None);
    assert_eq!(told.machine.kept().conflicts, 0, "an operator decided so");
}

#[test]
fn a_static_leader_comes_back_as_what_it_was() {
    let mut told = Told::leading_statically();
    told.tell(Event::Shutdown).tell(Event::Stopped(Ok(()))).expect(&Action::Exit);
    assert!(!told.all.contains(&Action::Wish(LeaseWish::Release)), "the operator's word stands");
    let kept = told.machine.kept().clone();
    let mut told = Told::new(setup(Leadership::Static), kept);
    told.tell(Event::Reclaimed(Ok(())));
    told.tell(Event::Looked(Ok(Sight { lag: 2, ..sight(12, 5) }))).expect(&Action::Wish(LeaseWish::Lead));
}

#[test]
fn an_agent_that_is_asked_to_end_hands_over_in_order() {
    let mut told = Told::leading(setup(Leadership::Auto), &[]);
    told.tell(Event::Shutdown).expect(&Action::Stop { grace: Duration::from_secs(3) });
    told.tell(Event::Stopped(Ok(()))).expect(&Action::Wish(LeaseWish::Release)).expect_not(|a| *a == Action::Exit);
    told.tell(Event::Lease(LeaseNote::Released)).expect(&Action::Exit);
    let mut told = Told::following(setup(Leadership::Auto), Kept::default());
    told.tell(Event::Shutdown).expect(&Action::Exit);
}

#[test]
fn a_paused_node_takes_nothing_over_and_a_paused_leader_leads_on() {
    let mut told = Told::following(setup(Leadership::Auto), Kept::default());
    told.ask(RequestKind::Pause);
    told.expect(&Action::Wish(LeaseWish::Follow));
    assert_eq!(told.mode(), Mode::Paused);
    told.after(5).expect(&Action::Look(Apply::Leave));
    told.tell(Event::Looked(Ok(sight(10, 4))));
    told.ask(RequestKind::Resume);
    told.expect(&Action::Wish(LeaseWish::Lead));
    let mut told = Told::leading(setup(Leadership::Auto), &[]);
    told.ask(RequestKind::Pause);
    assert_eq!(told.mode(), Mode::Leader);
}

#[test]
fn a_drained_node_is_ready_for_nobody() {
    let mut told = Told::leading(setup(Leadership::Auto), &[]);
    told.ask(RequestKind::Drain);
    assert_eq!((told.mode(), told.machine.is_ready()), (Mode::Draining, false));
    told.ask(RequestKind::Resume);
    assert_eq!((told.mode(), told.machine.is_ready()), (Mode::Leader, true));
}

#[test]
fn a_demoted_node_stays_out_until_it_is_resumed() {
    let mut told = Told::leading(setup(Leadership::Auto), &[]);
    told.ask(RequestKind::Demote);
    told.tell(Event::Stopped(Ok(()))).tell(Event::Lease(LeaseNote::Released));
    told.tell(Event::Looked(Ok(sight(10, 5))));
    assert_eq!(told.mode(), Mode::Follower);
    told.after(3600);
    assert_eq!(told.mode(), Mode::Follower);
    told.tell(Event::Looked(Ok(sight(10, 5))));
    told.ask(RequestKind::Resume);
    assert_eq!(told.mode(), Mode::Candidate);
}

#[test]
fn a_claim_that_nobody_wants_any_more_is_given_back() {
    let mut told = Told::following(setup(Leadership::Auto), Kept::default());
    told.ask(RequestKind::Pause);
    told.claim(5);
    told.expect(&Action::Wish(LeaseWish::Release)).expect_not(|action| matches!(action, Action::Fence { .. }));
}
