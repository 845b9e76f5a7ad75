//! Scenarios against three real agents: planned, emergency and switchback, done, interrupted at every step, gone on with and
//! taken back; a dry run that changes nothing, and what is refused.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;

use serde_json::Value;
use snapkit_tests::group::Options;
use snapkit_tests::scene::Scene;

fn options() -> Options {
    Options { ttl_seconds: 5, ..Options::default() }
}

fn steps(ran: &Value) -> BTreeMap<String, String> {
    let step = |step: &Value| (step["id"].as_str().unwrap().to_owned(), step["status"].as_str().unwrap().to_owned());
    ran["steps"].as_array().unwrap().iter().map(step).collect()
}

/// What must hold after a run that passed: one leader, and nobody held back.
#[track_caller]
fn led_by(scene: &Scene, leader: usize, but: &[usize]) {
    assert_eq!(scene.settle(but), leader);
    scene.group.no_conflicts();
    let answers = scene.answers().unwrap();
    assert_eq!(answers["node"], scene.group.nodes[leader].name.as_str(), "{answers}");
}

#[test]
fn the_lead_is_moved_and_given_back() {
    let scene = Scene::led(options());
    let before = scene.group.writes().len();
    let ran = scene.execute("planned", &["--target", "c"]).expect(0).json("bootstrap.failover/1");
    assert_eq!((&ran["verdict"], &ran["target"]), (&"passed".into(), &"c".into()), "{ran:#}");
    assert!(steps(&ran).values().all(|status| status == "ok"), "{ran:#}");
    led_by(&scene, 2, &[]);
    assert!(scene.group.writes().len() >= before);
    let ran = scene.execute("switchback", &[]).expect(0).json("bootstrap.failover/1");
    assert_eq!((&ran["verdict"], &ran["old_leader"], &ran["target"]), (&"passed".into(), &"c".into(), &"a".into()));
    led_by(&scene, 0, &[]);
    // Nothing of what a leader wrote is lost when the lead is moved in order.
    let numbers: Vec<u64> = scene.group.writes().iter().map(|line| line["n"].as_u64().unwrap()).collect();
    assert!(numbers.windows(2).all(|two| two[1] == two[0] + 1), "{numbers:?}");
    let own = scene.bootstrap(&["debt", "list", "--json"]).expect(0).json("bootstrap.debts/1");
    assert_eq!(own["open"], 0);
}

#[test]
fn a_lost_leader_is_replaced() {
    let mut scene = Scene::led(options());
    scene.group.nodes[0].kill_agent();
    let ran = scene.execute("emergency", &["--old-leader", "a"]).expect(0).json("bootstrap.failover/1");
    assert_eq!(ran["verdict"], "passed", "{ran:#}");
    let leader = scene.settle(&[0]);
    led_by(&scene, leader, &[0]);
    let directory = ran["directory"].as_str().unwrap();
    let timeline = fs::read_to_string(scene.group.issuer.machine.path(directory).join("timeline.jsonl")).unwrap();
    assert!(timeline.contains("\"trouble\":\"unreachable\""), "{timeline}");
}

#[test]
fn a_dry_run_changes_nothing() {
    let scene = Scene::led(options());
    let events = |scene: &Scene| -> Vec<String> {
        let of = |node: &snapkit_tests::group::Member| {
            fs::read_to_string(node.machine.path("node/.node/agent/events.jsonl")).unwrap()
        };
        scene.group.nodes.iter().map(of).collect()
    };
    let asked = |events: &[String]| events.iter().map(|events| events.matches("\"asked\"").count()).sum::<usize>();
    let config = fs::read_to_string(scene.group.issuer.machine.path("ingress/app.conf")).unwrap();
    let leases: Vec<Value> = scene.group.lease_log().into_iter().map(|entry| entry["term"].clone()).collect();
    let id = scene.rehearsed("planned", &[]);
    assert!(id.starts_with("planned-"));
    assert_eq!(asked(&events(&scene)), 0, "an agent was asked for something");
    let after: Vec<Value> = scene.group.lease_log().into_iter().map(|entry| entry["term"].clone()).collect();
    assert_eq!(after[..leases.len()], leases[..]);
    assert_eq!(after.last(), leases.last(), "the term is the same");
    assert_eq!(fs::read_to_string(scene.group.issuer.machine.path("ingress/app.conf")).unwrap(), config);
    led_by(&scene, 0, &[]);
}
