//! Failover for real: agents of a group on loopback, killed in every way, and who leads then with which state.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use snapkit_tests::Run;
use snapkit_tests::group::{Group, Member, Options, PATIENCE, longest_takeover};
use snapkit_tests::kept::gone;

/// Waits until a condition holds.
#[track_caller]
fn until(what: &str, holds: impl Fn() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < end, "{what}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// Waits until a leader wrote so many lines more.
#[track_caller]
fn writes_more(node: &Member, count: usize) -> usize {
    let now = node.lines().len();
    until("the leader writes", || node.lines().len() >= now + count);
    node.lines().len()
}

/// A snapshot of the leader: its name, its slot, and the lines that are in it at least.
#[track_caller]
fn snapshot(node: &Member) -> (String, u64, usize) {
    let lines = node.lines().len();
    let taken = node.snapshot();
    // The file grows meanwhile, so it may count as torn.
    assert!([0, 20].contains(&taken.code), "{taken:?}\n{}", node.log());
    let taken = taken.json("snapkit.snapshot/1");
    (taken["name"].as_str().unwrap().to_owned(), taken["seq"].as_u64().unwrap(), lines)
}

/// Waits until all other nodes have the snapshot in this slot.
#[track_caller]
fn followed(group: &Group, leader: usize, seq: u64) {
    for (number, node) in group.nodes.iter().enumerate() {
        if number != leader {
            node.wait("has the snapshot", |state| {
                state["chain"]["applied_seq"].as_u64() >= Some(seq) && state["chain"]["lag"] == 0
            });
        }
    }
}

fn quietly(node: &Member) {
    let _ = fs::remove_file(node.file("is-quiet"));
    fs::write(node.file("quiet"), "").unwrap();
    // A line that was being written is there then.
    until("it is quiet", || node.file("is-quiet").exists());
}

/// The group's leader is lost by `lose`; another one leads with the last snapshot; the old one comes back.
fn lost_and_back(lose: impl Fn(&mut Member)) {
    let mut group = Group::default();
    group.lead_by(0);
    writes_more(&group.nodes[0], 3);
    quietly(&group.nodes[0]);
    let (name, seq, shared) = snapshot(&group.nodes[0]);
    followed(&group, 0, seq);
    fs::remove_file(group.nodes[0].file("quiet")).unwrap();
    let written = writes_more(&group.nodes[0], 5);
    let service = group.nodes[0].service_pid().unwrap();
    lose(&mut group.nodes[0]);
    gone(service);
    let next = group.leader(&[0]);
    let state = group.nodes[next].state().unwrap();
    assert_eq!(state["term"], 2, "{state:#}");
    assert_eq!((&state["takeover"]["snapshot"], &state["takeover"]["term"]), (&name.as_str().into(), &2.into()));
    // What the snapshot has is there, and the new leader goes on behind it.
    let lines = group.nodes[next].lines();
    assert!(lines.iter().take(shared).all(|line| line["term"] == 1), "{lines:?}");
    assert!(lines.len() >= shared && lines.iter().filter(|line| line["term"] == 1).count() == shared, "{lines:?}");
    // What is lost is stated, and what was written after the snapshot is in it.
    let captured: jiff::Timestamp = state["takeover"]["captured"].as_str().unwrap().parse().unwrap();
    let claimed: jiff::Timestamp = state["takeover"]["claimed"].as_str().unwrap().parse().unwrap();
    let lost = claimed.duration_since(captured).as_secs();
    assert_eq!(state["takeover"]["lost_seconds"], lost, "{state:#}");
    let last = group.writes().iter().rfind(|line| line["term"] == 1).unwrap()["at"].as_f64().unwrap();
    assert!(last <= claimed.as_second() as f64, "the old leader wrote until {last}, the claim is of {claimed}");
    // The old leader comes back, follows, and what only it had lies aside.
    group.nodes[0].start();
    let state = group.nodes[0].wait("back and aside", |state| {
        state["role"] == "standby" && state["orphaned"].as_array().is_some_and(|all| all.len() == 1)
    });
    let aside = group.nodes[0].machine.path("node/orphaned/1");
    assert!(state["orphaned"][0].as_str().unwrap().ends_with("orphaned/1"), "{state:#}");
    // A line may have been killed on its way from the state into what everybody sees.
    let (has, seen) = (aside_lines(&aside.join("state/lines")).len(), group_count(&group, 1));
    assert!(has >= written && (seen..=seen + 1).contains(&has), "{written} were written, {seen} seen, {has} lie aside");
    let diff: Value = serde_json::from_str(&fs::read_to_string(aside.join("diff.json")).unwrap()).unwrap();
    assert!(diff.to_string().contains("lines"), "{diff:#}");
    assert!(fs::read_to_string(aside.join("diff.txt")).unwrap().contains("lines"));
    let of_old = group.nodes[0].lines();
    assert_eq!(of_old.iter().filter(|line| line["term"] == 1).count(), shared, "{of_old:?}");
    // And it follows: the next snapshot of the new leader arrives.
    let (_, seq, _) = snapshot(&group.nodes[next]);
    followed(&group, next, seq);
    group.no_conflicts();
}

/// Whether a node has seen no leader for longer than it takes to lead, by its own clock.
fn seen_none_for_long(state: &Value) -> bool {
    state["holder_seen_ms_ago"].as_u64().is_some_and(|ago| Duration::from_millis(ago) > longest_takeover())
}

fn aside_lines(path: &std::path::Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// Lines that were written in a term.
fn group_count(group: &Group, term: u64) -> usize {
    group.writes().iter().filter(|line| line["term"] == term).count()
}

#[test]
fn a_leader_whose_agent_is_killed_is_followed_by_another_and_comes_back_as_follower() {
    lost_and_back(Member::kill_agent);
}

#[test]
fn a_leader_whose_agent_and_guard_are_killed_at_once_is_followed_by_another() {
    lost_and_back(|node| {
        let guard = node.guard_pid().unwrap();
        kill_process(guard, Signal::KILL).unwrap();
        node.kill_agent();
    });
}

#[test]
fn a_service_or_guard_that_is_killed_is_started_again_in_the_same_term() {
    let mut group = Group::new(Options { nodes: 2, ..Options::default() });
    group.lead_by(0);
    let leader = &group.nodes[0];
    let again = |victim: Pid, before: Pid| {
        kill_process(victim, Signal::KILL).unwrap();
        gone(before);
        until("another service runs", || leader.service_pid().is_some_and(|pid| pid != before));
        leader.wait("leads and serves", |state| state["mode"] == "leader" && state["service"]["ready"] == true)
    };
    let service = leader.service_pid().unwrap();
    assert_eq!(again(service, service)["term"], 1);
    let service = leader.service_pid().unwrap();
    assert_eq!(again(leader.guard_pid().unwrap(), service)["term"], 1);
    group.no_conflicts();
}

#[test]
fn followers_that_run_are_stopped_before_one_of_them_leads() {
    let mut group = Group::new(Options { follower_runs: true, ..Options::default() });
    group.lead_by(0);
    let (_, seq, shared) = snapshot(&group.nodes[0]);
    followed(&group, 0, seq);
    for node in &group.nodes[1..] {
        node.wait("a follower that serves", |state| state["service"]["ready"] == true);
        assert_eq!(node.service("/role").unwrap(), "follower");
    }
    group.nodes[0].kill_agent();
    let next = group.leader(&[0]);
    until("it leads", || group.nodes[next].service("/role").as_deref() == Some("leader"));
    assert!(group.nodes[next].lines().iter().filter(|line| line["term"] == 1).count() >= shared);
    group.nodes[0].start();
    group.nodes[0].wait("serves as follower", |state| {
        state["service"]["ready"] == true && state["service"]["running_as"] == "follower"
    });
    group.no_conflicts();
}

#[test]
fn a_leader_that_is_alone_goes_on_with_its_own_state() {
    let mut group = Group::new(Options { nodes: 1, ..Options::default() });
    group.lead_by(0);
    let written = writes_more(&group.nodes[0], 5);
    group.nodes[0].kill_agent();
    group.nodes[0].start();
    let state = group.nodes[0].wait("leads again", |state| state["mode"] == "leader" && state["term"] == 2);
    assert_eq!(state["takeover"]["lost_seconds"], 0, "{state:#}");
    assert_eq!(state["orphaned"], serde_json::json!([]), "{state:#}");
    let lines = group.nodes[0].lines();
    assert!(lines.iter().filter(|line| line["term"] == 1).count() >= written, "{lines:?}");
    group.no_conflicts();
}

#[test]
fn a_whole_group_that_is_killed_has_one_leader_again() {
    let mut group = Group::default();
    group.lead_by(0);
    writes_more(&group.nodes[0], 2);
    for node in &mut group.nodes {
        node.kill_agent();
    }
    let next = group.lead();
    for (number, node) in group.nodes.iter().enumerate() {
        if number != next {
            node.wait_standing_by();
        }
    }
    group.no_conflicts();
}

#[test]
fn a_snapshot_is_taken_by_the_leader_only() {
    let mut group = Group::new(Options { nodes: 2, ..Options::default() });
    group.lead_by(0);
    let refused = group.nodes[1].snapshot().expect(7);
    assert!(refused.text().contains("\"why\""), "{}", refused.text());
    let (_, seq, _) = snapshot(&group.nodes[0]);
    followed(&group, 0, seq);
    // A snapshot that is under way when its node loses the lease becomes no record. Larger, its writes would hold up the
    // renewals of every group on this disk.
    let large: Vec<u8> = (0..16_000_000_u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    group.nodes[0].machine.write("node/current/large", large);
    let state = format!("tree={}", group.nodes[0].machine.arg("node/current"));
    let mut command = group.nodes[0].machine.command(&["snapshot", &state, "--json"]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let pid = Pid::from_child(&child);
    until("it reads", || {
        let files = fs::read_dir(format!("/proc/{}/fd", child.id())).unwrap();
        files.filter_map(|file| fs::read_link(file.ok()?.path()).ok()).any(|path| path.ends_with("large"))
    });
    kill_process(pid, Signal::STOP).unwrap();
    group.nodes[0].kill_agent();
    group.leader(&[0]);
    group.nodes[0].start();
    group.nodes[0].wait_standing_by();
    kill_process(pid, Signal::CONT).unwrap();
    let run = Run::from_output("snapshot".into(), child.wait_with_output().unwrap());
    assert!([7, 66].contains(&run.code), "{run:?}");
    // A node that does not ask its agent is refused by the chain.
    group.nodes[0].machine.write("alone.toml", format!("store = \"{}\"\n", group.from()));
    let alone = group.nodes[0].machine.run(&["--config", "alone.toml", "snapshot", &state, "--json"]);
    alone.expect(66).stderr_names("E_FENCED");
    let log = group.issuer.machine.ok(&["log", "--json"]).json("snapkit.log/1");
    assert_eq!((&log["latest"], &log["head"]), (&seq.into(), &(seq + 1).into()), "no record but the fence: {log}");
    snapshot(&group.nodes[1]);
    group.no_conflicts();
}

#[test]
fn a_leader_that_is_demoted_saves_and_another_goes_on_without_loss() {
    let save = "[hooks.save]\nargv = [SNAPKIT, 'snapshot', 'tree=node/current']\ntimeout_seconds = 60\n";
    let mut group = Group::new(Options { nodes: 2, agent: save.into(), ttl_seconds: 20, ..Options::default() });
    group.lead_by(0);
    writes_more(&group.nodes[0], 5);
    group.nodes[0].request("demote").expect(0);
    let state = group.nodes[1].wait("leads", |state| state["mode"] == "leader");
    assert_eq!(state["term"], 2, "{state:#}");
    let written = group_count(&group, 1);
    // It writes into its state first, and may have been ended before it wrote where the test counts.
    let there = group.nodes[1].lines().iter().filter(|line| line["term"] == 1).count();
    assert!([written, written + 1].contains(&there), "{there} of {written}: {}", group.story());
    // It takes nothing over until it is resumed, and nothing of it lies aside.
    let state = group.nodes[0].wait_standing_by();
    assert!(state["problems"].to_string().contains("no_candidate"), "{state:#}");
    assert_eq!(state["hooks"][0]["exit"], 0, "{state:#}");
    assert_eq!(state["orphaned"], serde_json::json!([]), "{state:#}\n{}", group.story());
    group.nodes[0].request("resume").expect(0);
    group.nodes[0].wait_mode("candidate");
    // The other way round, by handing off.
    group.nodes[0].request("handoff").expect(3);
    group.nodes[1].request("handoff").expect(0);
    group.nodes[0].wait("leads again", |state| state["mode"] == "leader" && state["term"] == 3);
    group.nodes[1].wait_standing_by();
    group.no_conflicts();
}

#[test]
fn a_drained_leader_keeps_the_lease_and_a_paused_follower_takes_nothing_over() {
    let mut group = Group::default();
    group.lead_by(0);
    group.nodes[0].request("drain").expect(0);
    group.nodes[0].wait_mode("draining");
    assert_eq!(group.nodes[0].ask("GET", "/leader").unwrap().0, 503);
    assert_eq!(group.nodes[0].ask("GET", "/v1/lease").unwrap().0, 200);
    group.nodes[0].request("resume").expect(0);
    group.nodes[0].wait_mode("leader");
    assert_eq!(group.nodes[0].ask("GET", "/leader").unwrap().0, 200);
    group.nodes[1].request("pause").expect(0);
    group.nodes[1].wait_mode("paused");
    // A pause outlives its agent.
    group.nodes[1].end();
    group.nodes[1].start();
    group.nodes[1].wait_mode("paused");
    group.nodes[0].kill_agent();
    assert_eq!(group.leader(&[0]), 2);
    group.nodes[2].kill_agent();
    let state = group.nodes[1].wait("has seen no leader for long", seen_none_for_long);
    assert_eq!(state["mode"], "paused", "{state:#}");
    group.nodes[1].request("resume").expect(0);
    assert_eq!(group.leader(&[0, 2]), 1);
    group.no_conflicts();
}

#[test]
fn an_agent_that_is_asked_to_end_hands_over_at_once() {
    let mut group = Group::new(Options { nodes: 2, ..Options::default() });
    group.lead_by(0);
    let ended = group.nodes[0].end();
    assert_eq!((&ended["term"], &ended["node"]), (&1.into(), &"a".into()));
    group.nodes[1].wait("leads", |state| state["mode"] == "leader" && state["term"] == 2);
    // Not by waiting: what the claim follows is the old leader's word.
    let log = group.lease_log();
    let claim = log.iter().position(|entry| entry["term"] == 2).unwrap();
    assert_eq!((&log[claim]["kind"], &log[claim - 1]["kind"]), (&"claim".into(), &"release".into()));
    group.no_conflicts();
}

/// Fault: whoever had not read the claim itself never knew when it was made.
#[test]
fn who_comes_in_the_middle_of_a_term_knows_since_when_it_is_led() {
    let mut group = Group::new(Options { nodes: 2, ..Options::default() });
    group.nodes[0].start();
    let renewed = |state: &Value| state["mode"] == "leader" && state["lease"]["renewals"].as_u64() > Some(3);
    let leads = group.nodes[0].wait("leads for a while", renewed);
    assert!(leads["holder"]["since"].is_string(), "{leads:#}");
    group.nodes[1].start();
    let stands = group.nodes[1].wait("knows it", |state| state["holder"]["since"].is_string());
    assert_eq!((&stands["holder"]["since"], &stands["holder"]["node"]), (&leads["holder"]["since"], &"a".into()));
    group.no_conflicts();
}

/// Fault: whoever had handed the lease over and was started again took it back at once.
#[test]
fn a_handoff_outlives_the_agent_that_gave_the_lease_away() {
    let mut group = Group::new(Options { nodes: 2, ..Options::default() });
    group.lead_by(0);
    // The other one cannot take it yet.
    group.nodes[1].request("pause").expect(0);
    group.nodes[0].request("handoff").expect(0);
    group.nodes[0].wait("gave it back", |state| state["holder"]["released"] == true);
    group.nodes[0].end();
    group.nodes[0].start();
    group.nodes[0].wait("waits", |state| {
        state["chain"]["lag"] == 0 && state["why"].as_str().is_some_and(|why| why.contains("a handoff"))
    });
    group.nodes[1].request("resume").expect(0);
    let state = group.nodes[1].wait_mode("leader");
    assert_eq!(state["term"], 2, "{state:#}");
    // It has arrived: what gave it away stands by, for the next time.
    group.nodes[0].wait("stands by", |state| state["mode"] == "candidate" && state["holder"]["node"] == "b");
    group.no_conflicts();
}

#[test]
fn in_static_leadership_an_operator_decides() {
    let mut group = Group::new(Options { nodes: 2, mode: "static", ..Options::default() });
    group.start();
    for node in &group.nodes {
        node.wait_standing_by();
    }
    group.nodes[0].request("handoff").expect(3);
    group.nodes[0].request("promote").expect(0);
    let state = group.nodes[0].wait_mode("leader");
    assert_eq!((&state["term"], &state["remaining_ms"]), (&1.into(), &Value::Null));
    snapshot(&group.nodes[0]);
    // It goes on after a restart, in order or not.
    group.nodes[0].end();
    group.nodes[0].start();
    group.nodes[0].wait_mode("leader");
    group.nodes[0].kill_agent();
    group.nodes[0].start();
    let again = group.nodes[0].wait("leads again", |state| state["mode"] == "leader" && state["term"] == 3);
    // An operator's word is about the leader whom the node has seen: a claim that it finds instead would end it.
    group.nodes[1].wait("has seen it", |seen| seen["role"] == "standby" && seen["holder"]["term"] == again["term"]);
    // It is dead, as the operator made sure, and does not come back as leader.
    group.nodes[0].kill_agent();
    group.nodes[1].request("promote").expect(0);
    let state = group.nodes[1].wait_mode("leader");
    group.nodes[0].start();
    group.nodes[0].wait("follows", |seen| seen["role"] == "standby" && seen["holder"]["term"] == state["term"]);
    // Given back, the other one may lead without force.
    group.nodes[1].request("demote").expect(0);
    group.nodes[1].wait_standing_by();
    group.nodes[0].wait("sees it, and set aside what it had", |state| {
        state["holder"]["released"] == true && state["orphaned"][0].is_string() && state["chain"]["lag"] == 0
    });
    group.nodes[0].request("promote").expect(0);
    group.nodes[0].wait_mode("leader");
    group.no_conflicts();
}

/// Fault: an agent that was started while the store of the lease could not be reached took no part until it was restarted.
#[test]
fn an_agent_that_was_started_without_the_store_takes_part_when_it_is_back() {
    let place = tempfile::tempdir().unwrap();
    let lease = place.path().join("lease").display().to_string();
    let options = Options { nodes: 1, lease_store: Some(lease.clone()), ..Options::default() };
    let mut group = Group::new(options);
    fs::write(&lease, "no directory").unwrap();
    group.start();
    group.nodes[0].wait("says that it takes no part", |state| {
        state["problems"].as_array().is_some_and(|all| all.iter().any(|problem| problem["name"] == "unfit"))
    });
    fs::remove_file(&lease).unwrap();
    fs::create_dir(&lease).unwrap();
    group.nodes[0].wait_mode("leader");
    group.nodes[0].end();
    // The same with the chain, whose pins are known from before.
    let (store, away) = (group.issuer.machine.path("store"), group.issuer.machine.path("away"));
    fs::rename(&store, &away).unwrap();
    group.start();
    group.nodes[0].wait("cannot read the chain", |state| state["chain"]["failure"].is_string());
    fs::rename(&away, &store).unwrap();
    group.nodes[0].wait("leads again", |state| state["mode"] == "leader" && state["term"] == 2);
    group.no_conflicts();
}

#[test]
fn a_node_that_is_no_member_sees_who_leads_and_never_does() {
    let mut group = Group::new(Options { nodes: 3, observers: 1, ..Options::default() });
    group.lead_by(0);
    let state = group.nodes[2].wait("names the leader", |state| state["holder"]["node"] == "a");
    assert_eq!(state["mode"], "follower");
    assert!(state["why"].as_str().unwrap().contains("a leads in term 1"), "{state:#}");
    assert!(state["problems"].to_string().contains("not a member"), "{state:#}");
    group.nodes[0].kill_agent();
    assert_eq!(group.leader(&[0]), 1);
    group.nodes[2].wait("names the next one", |state| state["holder"]["node"] == "b" && state["term"] == 2);
    group.nodes[1].kill_agent();
    group.nodes[2].wait("nobody is seen any more", seen_none_for_long);
    assert_eq!(group.nodes[2].state().unwrap()["mode"], "follower");
    assert!(group.lease_log().iter().all(|entry| entry["holder"]["node"] != "c"));
    group.no_conflicts();
}

#[test]
fn other_pins_are_used_where_nobody_leads_and_by_the_leader_when_it_is_none() {
    let mut group = Group::new(Options { nodes: 2, ..Options::default() });
    group.lead_by(0);
    assert_eq!(group.nodes[1].state().unwrap()["service"]["running_as"], Value::Null);
    group.pin(&Options { nodes: 2, follower_runs: true, ..Options::default() });
    group.nodes[1].wait("runs as the new pins say", |state| {
        state["service"]["running_as"] == "follower" && state["service"]["ready"] == true
    });
    let service = group.nodes[0].service_pid().unwrap();
    let state = group.nodes[0].wait("says it", |state| state["problems"].to_string().contains("pins_changed"));
    assert_eq!((&state["mode"], &state["term"]), (&"leader".into(), &1.into()));
    assert_eq!(group.nodes[0].service_pid(), Some(service), "the leader goes on");
    group.nodes[1].wait("may take over", |state| state["mode"] == "candidate" && state["holder"]["node"] == "a");
    group.nodes[0].request("handoff").expect(0);
    group.nodes[1].wait_mode("leader");
    let state = group.nodes[0].wait("follows as the new pins say", |state| {
        state["service"]["running_as"] == "follower" && state["service"]["ready"] == true
    });
    assert!(!state["problems"].to_string().contains("pins_changed"), "{state:#}");
    group.no_conflicts();
}
