//! Failover when a machine is not what it should be: its disk is full, its clock is stepped, it alone cannot reach the store.
//! What must hold each time: never two leaders, a fit node leads, and an unfit one does not until it is fit again.

#![allow(clippy::unwrap_used)]

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use snapkit_tests::clock::Stepped;
use snapkit_tests::disk::{self, Filesystem};
use snapkit_tests::group::{Group, Member, Options, PATIENCE, longest_takeover};

#[track_caller]
fn until(group: &Group, what: &str, holds: impl Fn() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < end, "{what}\n{}", group.story());
        thread::sleep(Duration::from_millis(20));
    }
}

fn has_problem(state: &Value, name: &str) -> bool {
    state["problems"].as_array().is_some_and(|all| all.iter().any(|problem| problem["name"] == name))
}

/// Puts the directory of a node on a file system of its own, before its agent is started.
fn on_own_disk(node: &Member) -> Filesystem {
    let disk = Filesystem::tmpfs("size=48m,mode=755");
    let place = node.machine.path("node");
    let away = node.machine.path("node.before");
    fs::rename(&place, &away).unwrap();
    let copied = Command::new("cp").arg("-a").arg(away.join(".")).arg(disk.path()).status().unwrap();
    assert!(copied.success());
    std::os::unix::fs::symlink(disk.path(), &place).unwrap();
    disk
}

/// Fills a file system to its last byte; removing the file makes room again.
fn fill(disk: &Path) -> PathBuf {
    let path = disk.join("ballast");
    let mut file = File::create(&path).unwrap();
    for block in [1 << 20, 4096, 1] {
        let bytes = vec![7; block];
        while file.write_all(&bytes).is_ok() {}
    }
    path
}

/// What does not compress, so many megabytes of it.
fn noise(megabytes: u32) -> Vec<u8> {
    (0..megabytes << 18).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect()
}

#[test]
fn a_follower_whose_disk_is_full_takes_nothing_over_until_there_is_room() {
    if !disk::can_run("a_follower_whose_disk_is_full_takes_nothing_over_until_there_is_room") {
        return;
    }
    let mut group = Group::new(Options { nodes: 2, ..Options::default() });
    let disk = on_own_disk(&group.nodes[1]);
    group.lead_by(0);
    let before = group.nodes[1].wait_standing_by();
    let ballast = fill(&disk.path());
    group.nodes[0].machine.write("node/current/large", noise(2));
    let taken = group.nodes[0].snapshot();
    assert!([0, 20].contains(&taken.code), "{taken:?}");
    let seq = taken.json("snapkit.snapshot/1")["seq"].as_u64().unwrap();
    let state = group.nodes[1].wait("says that there is no room", |state| {
        state["chain"]["failure"].as_str().is_some_and(|why| why.contains("No space left on device"))
    });
    assert_eq!(state["mode"], "follower", "it is no candidate: {state:#}");
    assert_eq!(state["chain"]["applied_seq"], before["chain"]["applied_seq"], "what it had, it has: {state:#}");
    group.nodes[0].kill_agent();
    let state = group.nodes[1].wait("has seen no leader for long", |state| {
        state["holder_seen_ms_ago"].as_u64().is_some_and(|ago| Duration::from_millis(ago) > longest_takeover())
    });
    assert_eq!((&state["mode"], state["holder"]["node"].as_str()), (&"follower".into(), Some("a")), "{state:#}");
    fs::remove_file(ballast).unwrap();
    assert_eq!(group.leader(&[0]), 1);
    let state = group.nodes[1].state().unwrap();
    assert_eq!(state["chain"]["applied_seq"], seq, "{state:#}");
    assert_eq!(fs::metadata(group.nodes[1].machine.path("node/current/large")).unwrap().len(), 2 << 20);
    group.no_conflicts();
    drop(group);
}

#[test]
fn a_leader_whose_disk_is_full_gives_the_lease_to_a_node_with_room() {
    if !disk::can_run("a_leader_whose_disk_is_full_gives_the_lease_to_a_node_with_room") {
        return;
    }
    let mut group = Group::new(Options { nodes: 2, ..Options::default() });
    let disk = on_own_disk(&group.nodes[0]);
    group.lead_by(0);
    until(&group, "it writes", || group.nodes[0].lines().len() > 2);
    let ballast = fill(&disk.path());
    // The service cannot write, ends, and ends again when it is started.
    group.nodes[1].wait_mode("leader");
    group.nodes[0].wait("says why", |state| {
        state["chain"]["failure"].as_str().is_some_and(|why| why.contains("No space left on device"))
    });
    assert!(group.nodes[0].service_pid().is_none());
    // Not by waiting: it was given back.
    let log = group.lease_log();
    let claim = log.iter().position(|entry| entry["term"] == 2).unwrap();
    assert_eq!((&log[claim]["kind"], &log[claim - 1]["kind"]), (&"claim".into(), &"release".into()));
    // An agent that is started on the full disk leads nobody either, and with room it follows.
    group.nodes[0].kill_agent();
    group.nodes[0].start();
    group.nodes[0].wait("answers", |state| state["holder"]["node"] == "b");
    fs::remove_file(ballast).unwrap();
    group.nodes[0].wait("follows, and what it had lies aside", |state| {
        state["role"] == "standby" && state["chain"]["lag"] == 0 && state["orphaned"][0].is_string()
    });
    assert_eq!(group.nodes[0].state().unwrap()["chain"]["failure"], Value::Null);
    group.no_conflicts();
    drop(group);
}

#[test]
fn steps_of_the_wall_clock_move_no_lease_and_bar_a_node_from_leading_only_while_what_it_verifies_would_lie() {
    let mut group = Group::default();
    let clocks: Vec<Stepped> = group.nodes.iter_mut().map(|node| Stepped::of(&mut node.machine)).collect();
    group.lead_by(0);
    let renewals =
        |group: &Group| group.nodes[0].state().map_or(0, |state| state["lease"]["renewals"].as_u64().unwrap());
    for step in [2 * 3600, -3600, 9 * 365 * 86400, -9 * 365 * 86400, 0] {
        for clock in [&clocks[0], &clocks[1]] {
            clock.step(step);
        }
        let before = renewals(&group);
        until(&group, "the lease is renewed", || renewals(&group) > before + 1);
        let state = group.nodes[0].state().unwrap();
        assert_eq!((&state["mode"], &state["term"]), (&"leader".into(), &1.into()), "{step}: {state:#}");
        assert_eq!(state["service"]["starts"], 1, "{step}: {state:#}");
    }
    group.nodes[1].wait("follows by the right clock", |state| state["mode"] == "candidate");

    // By this clock everything has expired: it refuses, and takes nothing over. The other one is an hour ahead, and does.
    clocks[1].step(400 * 86400);
    clocks[2].step(3600);
    let refused = group.nodes[1].wait_mode("refused");
    assert!(refused["why"].as_str().unwrap().contains("expire"), "{refused:#}");
    group.nodes[2].wait("follows by its clock", |state| state["mode"] == "candidate" && state["chain"]["lag"] == 0);
    group.nodes[0].kill_agent();
    assert_eq!(group.leader(&[0]), 2);
    assert_eq!(group.nodes[1].state().unwrap()["mode"], "refused");
    clocks[1].step(0);
    group.nodes[1].wait("follows again", |state| state["role"] == "standby" && state["holder"]["node"] == "c");
    group.no_conflicts();
}

/// Its own way to the store, which the others do not go.
fn own_way(group: &Group, number: usize) -> PathBuf {
    let node = &group.nodes[number];
    let way = node.machine.path("way");
    std::os::unix::fs::symlink(group.issuer.machine.path("store"), &way).unwrap();
    for name in ["node/bootstrap.toml", "snapkit.toml"] {
        let file = node.machine.path(name);
        let text = fs::read_to_string(&file).unwrap();
        let store = group.issuer.machine.arg("store");
        assert!(text.contains(&store), "{text}");
        fs::write(&file, text.replace(&store, way.to_str().unwrap())).unwrap();
    }
    way
}

/// The way ends in a circle: whoever goes it gets an error.
fn block(way: &Path) {
    let circle = way.with_extension("new");
    std::os::unix::fs::symlink("way", &circle).unwrap();
    fs::rename(circle, way).unwrap();
}

fn unblock(way: &Path, group: &Group) {
    let right = way.with_extension("new");
    std::os::unix::fs::symlink(group.issuer.machine.path("store"), &right).unwrap();
    fs::rename(right, way).unwrap();
}

#[test]
fn a_follower_that_alone_cannot_reach_the_store_never_leads_and_the_others_go_on() {
    let mut group = Group::default();
    let way = own_way(&group, 2);
    group.lead_by(0);
    group.nodes[2].wait_standing_by();
    block(&way);
    let state =
        group.nodes[2].wait("says it", |state| state["mode"] == "follower" && has_problem(state, "store_unreachable"));
    assert!(state["why"].as_str().unwrap().contains("this node would not: the chain cannot be followed"), "{state:#}");
    // It is asked to, and says why not.
    group.nodes[2].request("promote").expect(3).stderr_names("the chain cannot be followed");
    group.nodes[0].kill_agent();
    assert_eq!(group.leader(&[0]), 1);
    group.nodes[1].kill_agent();
    thread::sleep(longest_takeover());
    until(&group, "it is not ready", || group.nodes[2].ask("GET", "/readyz").is_some_and(|answer| answer.0 == 503));
    let state = group.nodes[2].state().unwrap();
    assert_eq!(state["mode"], "follower", "{state:#}");
    unblock(&way, &group);
    assert_eq!(group.leader(&[0, 1]), 2);
    assert_eq!(group.nodes[2].state().unwrap()["term"], 3);
    group.no_conflicts();
}
