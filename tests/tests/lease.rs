//! `bootstrap lease`: the log as a person looks at it, and what a person may do to it.

#![allow(clippy::unwrap_used)]

use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use snapkit_tests::Run;
use snapkit_tests::group::{Group, Member, Options, PATIENCE};

fn lease(node: &Member, args: &[&str]) -> Run {
    let mut all = vec!["lease", args[0], "node"];
    all.extend(&args[1..]);
    node.machine.bootstrap(&all)
}

#[track_caller]
fn told(node: &Member, command: &str, code: i32) -> Value {
    let run = node.machine.bootstrap(&["lease", command, "node", "--json"]);
    run.expect(code).json(&format!("bootstrap.lease-{command}/1"))
}

/// Waits until nothing of the service of a killed agent is left.
#[track_caller]
fn service_is_gone(node: &Member) {
    let end = Instant::now() + PATIENCE;
    while node.service_pid().is_some() {
        assert!(Instant::now() < end, "the guard kills the service");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn the_log_is_read_without_any_agent() {
    let mut group = Group::new(Options { nodes: 2, ..Options::default() });
    let none = told(&group.nodes[1], "status", 0);
    assert_eq!((&none["holder"], &none["term"], &none["newest"]), (&Value::Null, &0.into(), &Value::Null));
    assert_eq!(told(&group.nodes[1], "history", 0)["slots"], Value::Array(vec![]));
    group.lead_by(0);
    let status = told(&group.nodes[1], "status", 0);
    assert_eq!((&status["holder"], &status["term"], &status["released"]), (&"a".into(), &1.into(), &false.into()));
    assert_eq!(status["members"], serde_json::json!(["a", "b"]));
    let slots = told(&group.nodes[1], "history", 0)["slots"].as_array().unwrap().clone();
    let first = slots.last().unwrap();
    assert_eq!((&first["seq"], &first["kind"], &first["node"]), (&1.into(), &"claim".into(), &"a".into()));
    assert!(slots.windows(2).all(|pair| pair[0]["seq"].as_u64() > pair[1]["seq"].as_u64()), "the newest first");
    // Whether this store is fast enough for this ttl is not the same on every machine.
    let asked = lease(&group.nodes[1], &["advise", "--json"]);
    let advice = asked.json("bootstrap.lease-advice/1");
    let fits = advice["advised_ttl_seconds"].as_u64() <= advice["ttl_seconds"].as_u64();
    assert_eq!((&advice["fits"], &advice["requests"], asked.code), (&fits.into(), &60.into(), i32::from(!fits)));
    let left = walkdir::WalkDir::new(group.issuer.machine.path("store/probe")).into_iter().filter_map(Result::ok);
    let advice = |name: &std::ffi::OsStr| name.to_string_lossy().contains("advice");
    assert_eq!(left.filter(|entry| advice(entry.file_name())).count(), 0, "what was written to measure is gone");
    group.nodes[0].end();
    assert_eq!(told(&group.nodes[0], "status", 0)["released"], true);
}

#[test]
fn who_runs_or_may_be_alive_gives_nothing_back_by_hand() {
    // Long enough that nobody claims again while this looks.
    let mut group = Group::new(Options { nodes: 1, ttl_seconds: 15, ..Options::default() });
    let reason = ["release", "--reason", "the machine is switched off"];
    assert!(lease(&group.nodes[0], &reason).expect(3).stderr.contains("no agent ever ran"));
    group.lead();
    assert!(lease(&group.nodes[0], &reason).expect(3).stderr.contains("bootstrap demote"));
    group.nodes[0].kill_agent();
    service_is_gone(&group.nodes[0]);
    assert!(lease(&group.nodes[0], &reason).expect(3).stderr.contains("left a service behind"));
    // The next agent proves it dead; ended before it claims again, it has nothing of its own to give back.
    group.nodes[0].start();
    group.nodes[0].wait("has looked for what was left", |state| state["mode"] != "starting");
    group.nodes[0].end();
    let given = lease(&group.nodes[0], &[&reason[..], &["--json"]].concat()).expect(0);
    assert_eq!(given.json("bootstrap.lease-release/1")["term"], 1);
    let status = told(&group.nodes[0], "status", 0);
    assert_eq!((&status["released"], &status["newest"]["reason"]), (&true.into(), &reason[2].into()));
    assert!(lease(&group.nodes[0], &reason).expect(3).stderr.contains("gave it back in term 1"));
    // Nobody has to wait for it any more.
    group.nodes[0].start();
    group.nodes[0].wait_mode("leader");
    assert_eq!(told(&group.nodes[0], "status", 0)["term"], 2);
}

#[test]
fn a_lease_is_taken_by_force_without_waiting_for_its_end() {
    // A ttl that nobody waits for here.
    let mut group = Group::new(Options { nodes: 2, ttl_seconds: 20, ..Options::default() });
    let reason = ["force-claim", "--reason", "a burnt down"];
    assert!(lease(&group.nodes[1], &reason).expect(5).stderr.contains("must have an agent"));
    group.lead_by(0);
    let promoted = group.nodes[1].machine.bootstrap(&["promote", "node", "--reason", "x"]);
    assert!(promoted.expect(3).stderr.contains("holds the lease"), "a word alone takes it from nobody");
    group.nodes[0].kill_agent();
    service_is_gone(&group.nodes[0]);
    lease(&group.nodes[1], &reason).expect(0);
    group.nodes[1].wait_mode("leader");
    let slots = told(&group.nodes[1], "history", 0)["slots"].as_array().unwrap().clone();
    let claim = slots.iter().find(|slot| slot["term"] == 2 && slot["kind"] == "claim").unwrap();
    assert_eq!((&claim["node"], &claim["reason"]), (&"b".into(), &reason[2].into()));
    group.no_conflicts();
}
