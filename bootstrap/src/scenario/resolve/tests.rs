use std::time::Duration;

use super::*;
use crate::agent::view::View;
use crate::drill::deeds::Deeds;
use crate::scenario::builtin;
use crate::surfaces::board::Reading;
use crate::surfaces::examples;
use crate::surfaces::state::Limits;

/// A node whose agent says what the example says, as itself, beside the leader `a`.
pub(crate) fn seen(name: &str, example: Option<&str>) -> Seen {
    let state = example.map(|example| {
        let mut view: View = examples::named(example);
        view.node = name.to_owned();
        if let Some(holder) = &mut view.holder {
            holder.node = if view.mode == crate::agent::view::Mode::Leader { name.to_owned() } else { "a".to_owned() };
        }
        State::of(Reading { view, ticked_ago: Duration::ZERO }, &Limits::default(), "/srv/node", examples::now())
    });
    Seen { name: name.to_owned(), preferred: name == "a", state, silence: None }
}

pub(crate) fn sight(nodes: Vec<Seen>) -> Sight {
    Sight {
        nodes,
        ingress: true,
        ingress_driver: false,
        inventory: Digest::sha256(b"inventory"),
        thresholds: [].into(),
        scope_stop: Vec::new(),
    }
}

pub(crate) fn wish() -> Wish {
    Wish {
        id: "planned-1".to_owned(),
        mode: Mode::Execute,
        challenge: None,
        now: examples::now(),
        actor: "test".to_owned(),
        reason: "kernel update".to_owned(),
        old_leader: None,
        target: None,
    }
}

fn group() -> Sight {
    sight(vec![seen("a", Some("leader")), seen("b", Some("candidate")), seen("c", Some("candidate"))])
}

fn plan(name: &str, sight: &Sight, wish: &Wish) -> Result<Plan, ResolveError> {
    let scenario = builtin::scenario(name, &Deeds).unwrap().unwrap();
    resolve(&scenario, builtin::text(name).unwrap(), sight, wish)
}

fn why(result: Result<Plan, ResolveError>) -> String {
    result.unwrap_err().to_string()
}

#[test]
fn the_leader_and_the_best_follower_are_found() {
    let plan = plan("planned", &group(), &wish()).unwrap();
    assert_eq!((plan.old_leader.as_deref(), plan.target.as_deref()), (Some("a"), Some("b")));
    let step = |id: &str| plan.steps.iter().find(|step| step.id == id).unwrap();
    assert_eq!(step("pause-others").on, ["c"]);
    assert_eq!(step("standing-by").on, ["a", "c"]);
    assert!(plan.steps.iter().all(|step| step.id != "demote"), "that is for static leadership");
    assert!(plan.is_sound());
}

#[test]
fn every_phase_has_a_timebox() {
    let mut sight = group();
    sight.thresholds = [("verify_seconds".to_owned(), 7), ("max_failover_seconds".to_owned(), 30)].into();
    let plan = plan("planned", &sight, &wish()).unwrap();
    for step in plan.steps.iter().chain(&plan.always) {
        let steps = plan.steps.iter().chain(&plan.always).filter(|other| other.phase == step.phase);
        let together: u64 = steps.map(|step| step.timeout_seconds).sum();
        let expected = if step.phase == "verify" { 7 } else { together };
        assert_eq!(plan.thresholds.get(&format!("{}_seconds", step.phase)), Some(&expected), "{}", step.phase);
    }
    assert_eq!(plan.thresholds.get("max_failover_seconds"), Some(&30));
}

#[test]
fn the_follower_that_is_least_behind_is_the_target() {
    let mut sight = group();
    sight.nodes[1].state.as_mut().unwrap().view.chain.lag = Some(1);
    sight.nodes[2].state.as_mut().unwrap().view.chain.lag = Some(0);
    assert_eq!(plan("planned", &sight, &wish()).unwrap().target.as_deref(), Some("c"));
    let wished = Wish { target: Some("b".to_owned()), ..wish() };
    assert_eq!(plan("planned", &sight, &wished).unwrap().target.as_deref(), Some("b"));
}

#[test]
fn the_same_sight_gives_the_same_digest_whoever_asks_and_when() {
    let first = plan("planned", &group(), &wish()).unwrap();
    let other = Wish {
        id: "planned-2".to_owned(),
        mode: Mode::Simulated,
        challenge: Some("nonce".to_owned()),
        now: Timestamp::UNIX_EPOCH,
        actor: "another".to_owned(),
        reason: "another".to_owned(),
        ..wish()
    };
    assert_eq!(plan("planned", &group(), &other).unwrap().plan_sha256, first.plan_sha256);
    let to_c = Wish { target: Some("c".to_owned()), ..wish() };
    assert_ne!(plan("planned", &group(), &to_c).unwrap().plan_sha256, first.plan_sha256);
    let changed = Sight { inventory: Digest::sha256(b"another"), ..group() };
    assert_ne!(plan("planned", &changed, &wish()).unwrap().plan_sha256, first.plan_sha256);
}

#[test]
fn nothing_is_planned_while_two_lead_or_nobody_does() {
    let two = sight(vec![seen("a", Some("leader")), seen("b", Some("leader")), seen("c", None)]);
    assert!(why(plan("planned", &two, &wish())).contains("a and b say that they lead"));
    let none = sight(vec![seen("a", None), seen("b", Some("candidate"))]);
    assert!(why(plan("planned", &none, &wish())).contains("nobody leads: a does not answer"));
}

#[test]
fn an_emergency_is_about_the_last_holder_and_not_about_one_who_serves() {
    let lost = sight(vec![seen("a", None), seen("b", Some("candidate")), seen("c", Some("candidate"))]);
    let found = plan("emergency", &lost, &wish()).unwrap();
    assert_eq!((found.old_leader.as_deref(), found.target.as_deref()), (Some("a"), None), "who claims first leads");
    let asked = Wish { old_leader: Some("a".to_owned()), ..wish() };
    assert!(why(plan("emergency", &group(), &asked)).contains("a leads, and its service serves"));
    assert!(why(plan("emergency", &group(), &wish())).contains("no leader is lost"));
}

#[test]
fn an_emergency_that_has_already_switched_is_about_the_node_that_is_missing() {
    let mut switched = sight(vec![seen("a", None), seen("b", Some("leader")), seen("c", Some("candidate"))]);
    switched.nodes[2].state.as_mut().unwrap().view.holder.as_mut().unwrap().node = "b".to_owned();
    let found = plan("emergency", &switched, &wish()).unwrap();
    assert_eq!((found.old_leader.as_deref(), found.target.as_deref()), (Some("a"), None));
    let before = sight(vec![seen("a", None), seen("b", Some("candidate")), seen("c", Some("candidate"))]);
    let wished = Wish { old_leader: Some("a".to_owned()), ..wish() };
    let digests = [&switched, &before].map(|sight| plan("emergency", sight, &wished).unwrap().plan_sha256);
    assert_eq!(digests[0], digests[1], "that somebody leads by now is no other plan");
}

#[test]
fn a_switchback_goes_to_the_preferred_node_and_to_nobody_else() {
    assert!(why(plan("switchback", &group(), &wish())).contains("a leads already"));
    let back = sight(vec![seen("a", Some("candidate")), seen("b", Some("leader")), seen("c", Some("candidate"))]);
    let plan = plan("switchback", &back, &wish()).unwrap();
    assert_eq!((plan.old_leader.as_deref(), plan.target.as_deref()), (Some("b"), Some("a")));
}

#[test]
fn a_name_that_is_no_node_is_named_with_those_there_are() {
    let wished = Wish { target: Some("d".to_owned()), ..wish() };
    assert_eq!(why(plan("planned", &group(), &wished)), "there is no node \"d\" in the inventory; it has a, b, c");
}

#[test]
fn a_group_of_two_pauses_nobody() {
    let two = sight(vec![seen("a", Some("leader")), seen("b", Some("candidate"))]);
    let plan = plan("planned", &two, &wish()).unwrap();
    assert!(plan.steps.iter().all(|step| step.id != "pause-others"));
}

#[test]
fn places_mean_the_same_nodes_later() {
    let plan = plan("planned", &group(), &wish()).unwrap();
    for step in plan.steps.iter().chain(&plan.rollback) {
        if let Some(place) = &step.place {
            assert_eq!(nodes_of(&plan, place), step.on, "{}", step.id);
        }
    }
}

#[test]
fn an_emergency_while_a_standby_takes_over_waits_for_whoever_leads_first() {
    let taking = sight(vec![seen("a", None), seen("b", Some("promoting"))]);
    let asked = Wish { old_leader: Some("a".to_owned()), ..wish() };
    assert_eq!(plan("emergency", &taking, &asked).unwrap().target, None);
    let gone = sight(vec![seen("a", None), seen("b", None)]);
    assert!(why(plan("emergency", &gone, &asked)).contains("no node could take over"));
}
