//! Scenarios against three real agents: planned, emergency and switchback, done, interrupted at every step, gone on with and
//! taken back; a dry run that changes nothing, and what is refused.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::{Child, Stdio};

use serde_json::Value;
use snapkit_tests::drill::until;
use snapkit_tests::group::Options;
use snapkit_tests::scene::Scene;

/// A leader that is demoted has what is left of its lease to save its state.
fn options() -> Options {
    Options { ttl_seconds: 15, ..Options::default() }
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

/// A stranger with nothing but the pin computes the same from the bundle.
#[track_caller]
fn verified(scene: &Scene, ran: &Value) {
    assert_eq!(ran["bundle"]["passed"], true, "{ran:#}");
    let pin = scene.group.issuer.bootstrap.split_once("#root=").unwrap().1;
    let tar = ran["bundle"]["tar"].as_str().unwrap();
    let stranger = snapkit_tests::Machine::new();
    stranger.bootstrap(&["evidence", "verify", tar, "--pin", pin, "--max-age", "1h"]).expect(0);
}

#[test]
fn the_lead_is_moved_and_given_back() {
    let scene = Scene::led(options());
    let before = scene.group.writes().len();
    let ran = scene.execute("planned", &["--target", "c"]).expect(0).json("bootstrap.failover/1");
    assert_eq!((&ran["verdict"], &ran["target"]), (&"passed".into(), &"c".into()), "{ran:#}");
    assert!(steps(&ran).values().all(|status| status == "ok"), "{ran:#}");
    led_by(&scene, 2, &[]);
    verified(&scene, &ran);
    let shown = ran["steps"].as_array().unwrap().iter().find(|step| step["id"] == "nothing-lost").unwrap();
    let observed = shown["checks"][0]["observed"].as_str().unwrap();
    assert!(observed.contains("which was taken after the service of a had stopped"), "{observed}");
    assert!(scene.group.writes().len() >= before);
    let ran = scene.execute("switchback", &[]).expect(0).json("bootstrap.failover/1");
    assert_eq!((&ran["verdict"], &ran["old_leader"], &ran["target"]), (&"passed".into(), &"c".into(), &"a".into()));
    led_by(&scene, 0, &[]);
    verified(&scene, &ran);
    // Nothing of what a leader wrote is lost when the lead is moved in order: no number is given twice.
    let numbers: Vec<u64> = scene.group.writes().iter().map(|line| line["n"].as_u64().unwrap()).collect();
    assert!(numbers.windows(2).all(|two| two[1] > two[0]), "{numbers:?}");
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
    verified(&scene, &ran);
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

/// A group of two: the shortest way there and back.
fn pair() -> Options {
    Options { nodes: 2, ..options() }
}

/// Where it may be killed is shown for every write, act and change on a model (`bootstrap/src/scenario/act/killed.rs`); this is
/// `kill -9`, at every step of each scenario, one after the other.
#[test]
fn an_orchestrator_killed_at_every_step_is_gone_on_with() {
    let mut scene = Scene::led(pair());
    let every_step = |scene: &Scene, scenario: &str, more: &[&str], leader: usize, but: &[usize]| {
        let (ran, killed) = scene.killed_at_every_step(scenario, more);
        assert_eq!(ran["verdict"], "passed", "{scenario}: {ran:#}");
        assert!(killed >= 12, "{scenario}: killed {killed} times");
        led_by(scene, leader, but);
        verified(scene, &ran);
    };
    every_step(&scene, "planned", &[], 1, &[]);
    every_step(&scene, "switchback", &[], 0, &[]);
    scene.group.nodes[0].kill_agent();
    every_step(&scene, "emergency", &["--old-leader", "a"], 1, &[0]);
}

#[test]
fn an_orchestrator_killed_on_the_way_is_taken_back() {
    let scene = Scene::led(pair());
    for step in ["drained", "handoff", "resume-old-leader"] {
        assert!(scene.killed_at("planned", step), "it ended before {step}");
        let refused = scene.bootstrap(&["failover", "planned", "--execute", "--confirm", "x", "--reason", "test"]);
        refused.expect(3).stderr_names("was interrupted");
        // Whoever keeps runs elsewhere meets the same one.
        let elsewhere =
            ["failover", "planned", "--execute", "--confirm", "x", "--reason", "test", "--runs", "elsewhere"];
        scene.bootstrap(&elsewhere).expect(3).stderr_names("was interrupted");
        let abort = ["failover", "planned", "--abort", "--reason", "changed our minds", "--json"];
        let ran = scene.bootstrap(&abort).expect(0).json("bootstrap.failover/1");
        assert_eq!(ran["verdict"], "aborted", "killed at {step}: {ran:#}");
        let back = steps(&ran)["back-leads"].clone();
        assert_eq!(
            back == "skipped",
            step == "baseline",
            "what changed nothing has nothing to take back: {step} {back}"
        );
        scene.bootstrap(&abort).expect(3).stderr_names("is taken back already");
        led_by(&scene, 0, &[]);
    }
}

#[test]
fn a_failing_step_leaves_the_rest_not_run_and_can_be_taken_back() {
    let scene = Scene::led(pair());
    fs::write(scene.group.nodes[0].file("active"), "3").unwrap();
    let own = scene.scenario(
        "planned",
        &[
            ("name = \"planned\"", "name = \"mine\""),
            ("until = \"drained\" }\ntimeout_seconds = 300", "until = \"drained\" }\ntimeout_seconds = 3"),
        ],
    );
    let dry = scene.bootstrap(&["failover", "--scenario-file", &own, "--json"]).expect(0).json("bootstrap.failover/1");
    let (id, reason) = (dry["id"].as_str().unwrap(), "test");
    let args = ["failover", "--scenario-file", &own, "--execute", "--confirm", id, "--reason", reason, "--json"];
    let ran = scene.bootstrap(&args).expect(1).json("bootstrap.failover/1");
    assert_eq!((&ran["verdict"], &ran["failed_step"]), (&"failed".into(), &"drained".into()), "{ran:#}");
    let statuses = steps(&ran);
    assert_eq!((statuses["drain"].as_str(), statuses["drained"].as_str()), ("ok", "failed"));
    for later in ["handoff", "old-leader-down", "target-leads", "final-baseline"] {
        assert_eq!(statuses[later], "not_run", "{later}");
    }
    let failed = ran["steps"].as_array().unwrap().iter().find(|step| step["id"] == "drained").unwrap();
    assert_eq!(failed["error"]["text"], "a: 3 pieces of work are left");
    assert_eq!(statuses["facts-after"], "ok", "what is done always is done");
    assert_eq!(scene.group.nodes[0].state().unwrap()["mode"], "draining");
    let abort = ["failover", "mine", "--abort", "--reason", "work goes on", "--json"];
    let ran = scene.bootstrap(&abort).expect(0).json("bootstrap.failover/1");
    assert_eq!(ran["verdict"], "passed", "the way back of a run that has ended is one of its own: {ran:#}");
    led_by(&scene, 0, &[]);
    scene.bootstrap(&abort).expect(3).stderr_names("is taken back already");
}

#[test]
fn a_leader_without_a_last_snapshot_is_not_moved_and_what_is_lost_is_no_pass() {
    let mut scene = Scene::new(pair());
    let file = scene.group.nodes[0].machine.path("node/bootstrap.toml");
    let text = fs::read_to_string(&file).unwrap();
    let kept: String =
        text.lines().filter(|line| !line.starts_with("save =")).map(|line| format!("{line}\n")).collect();
    assert_ne!(kept, text);
    fs::write(&file, kept).unwrap();
    scene.group.lead_by(0);
    scene.settle(&[]);
    let dry = scene.bootstrap(&["failover", "planned", "--json"]).expect(1).json("bootstrap.failover/1");
    assert_eq!(dry["failed_step"], "saves", "{dry:#}");
    // Somebody who insists is told what it cost.
    let own = scene.scenario(
        "planned",
        &[("name = \"planned\"", "name = \"mine\""), ("until = \"saves\"", "until = \"answers\"")],
    );
    let dry = scene.bootstrap(&["failover", "--scenario-file", &own, "--json"]).expect(0).json("bootstrap.failover/1");
    let args = ["failover", "--scenario-file", &own, "--execute", "--confirm", dry["id"].as_str().unwrap()];
    let ran = scene.bootstrap(&[&args[..], &["--reason", "test", "--json"]].concat());
    let ran = ran.expect(1).json("bootstrap.failover/1");
    assert_eq!((&ran["verdict"], &ran["failed_step"]), (&"failed".into(), &"nothing-lost".into()), "{ran:#}");
    let failed = ran["steps"].as_array().unwrap().iter().find(|step| step["id"] == "nothing-lost").unwrap();
    let why = failed["error"]["text"].as_str().unwrap();
    assert!(why.contains("it has no `save` hook") && why.contains("is lost to clients"), "{why}");
    led_by(&scene, 1, &[]);
    // It is so: a number that was given once is given again.
    let numbers: Vec<u64> = scene.group.writes().iter().map(|line| line["n"].as_u64().unwrap()).collect();
    assert!(numbers.windows(2).any(|two| two[1] <= two[0]), "{numbers:?}");
}

#[test]
fn what_is_not_confirmed_or_not_so_is_refused() {
    let scene = Scene::led(pair());
    let id = scene.rehearsed("planned", &[]);
    let execute = |id: &str, scenario: &str| {
        scene.bootstrap(&["failover", scenario, "--execute", "--confirm", id, "--reason", "test"])
    };
    let refused = execute("planned-00000000", "planned").expect(3);
    assert!(refused.stderr.contains("no run \"planned-00000000\""), "{}", refused.stderr);
    let switchback = execute(&id, "switchback").expect(3);
    assert!(switchback.stderr.contains("a leads already"), "{}", switchback.stderr);
    let emergency = execute(&id, "emergency").expect(3);
    assert!(emergency.stderr.contains("no leader is lost"), "{}", emergency.stderr);
    scene.bootstrap(&["failover", "planned", "--resume"]).expect(3);
    scene.bootstrap(&["failover", "planed"]).expect(2);
    scene.bootstrap(&["failover", "planned", "--execute"]).expect(2);
    scene.bootstrap(&["failover", "planned", "--target", "z"]).expect(2);
    // The inventory of the dry run is that of the execution.
    let inventory = scene.group.issuer.machine.path("fleet.toml");
    let text = fs::read_to_string(&inventory).unwrap();
    fs::write(&inventory, text.replace("probe_seconds = 5", "probe_seconds = 6")).unwrap();
    let changed = execute(&id, "planned").expect(3);
    assert!(changed.stderr.contains("the inventory was changed"), "{}", changed.stderr);
    led_by(&scene, 0, &[]);
}

#[test]
fn a_hotfix_of_the_ingress_blocks_a_switchback_until_it_is_put_right() {
    let mut scene = Scene::led(pair());
    let config = scene.group.issuer.machine.path("ingress/app.conf");
    let canonical = fs::read_to_string(&config).unwrap();
    fs::write(scene.group.issuer.machine.path("ingress/stuck"), "").unwrap();
    scene.group.nodes[0].kill_agent();
    let ran = scene.execute("emergency", &["--old-leader", "a"]).expect(0).json("bootstrap.failover/1");
    assert_eq!(ran["verdict"], "passed", "{ran:#}");
    let hotfix = fs::read_to_string(&config).unwrap();
    assert_ne!(hotfix, canonical);
    assert_eq!(scene.answers().unwrap()["node"], "b");
    let listed = scene.bootstrap(&["debt", "list", "--json"]).expect(1).json("bootstrap.debts/1");
    let debt = &listed["debts"][0];
    let backup = debt["backup"].as_str().unwrap();
    assert_eq!(fs::read_to_string(backup).unwrap(), canonical);
    let directory = scene.group.issuer.machine.path(ran["directory"].as_str().unwrap());
    let timeline = fs::read_to_string(directory.join("timeline.jsonl")).unwrap();
    let facts =
        format!("\"trouble\":\"unreachable\",\"manual_reload\":true,\"hotfix\":true,\"backup_file\":\"{backup}\"");
    let sorted = |text: &str| text.contains("\"hotfix\":true") && text.contains(backup);
    assert!(timeline.contains(&facts) || sorted(&timeline), "{timeline}");

    scene.group.start();
    scene.settle(&[]);
    let refused = scene.bootstrap(&["failover", "switchback", "--json"]).expect(1).json("bootstrap.failover/1");
    assert_eq!(refused["failed_step"], "debts-closed", "{refused:#}");
    let id = debt["id"].as_str().unwrap();
    let close = ["debt", "close", id, "--reason", "deployed the canonical file"];
    let stays = scene.bootstrap(&close).expect(3);
    assert!(stays.stderr.contains("stays open: expected"), "{}", stays.stderr);
    // The canonical file leads to a node that does not lead: clients would be led away.
    let away = scene.bootstrap(&[&close[..], &["--restore"]].concat()).expect(3);
    away.stderr_names("b leads, and the canonical");
    assert_eq!(fs::read_to_string(&config).unwrap(), hotfix);
    // So it is put right by the switchback itself, once that is so.
    scene.bootstrap(&[&close[..], &["--with-switchback"]].concat()).expect(0);
    scene.bootstrap(&["debt", "list"]).expect(1);
    let ran = scene.execute("switchback", &[]).expect(0).json("bootstrap.failover/1");
    assert_eq!(ran["verdict"], "passed", "{ran:#}");
    verified(&scene, &ran);
    led_by(&scene, 0, &[]);
    assert_eq!(fs::read_to_string(&config).unwrap(), canonical);
    scene.bootstrap(&["debt", "list"]).expect(0);
    scene.bootstrap(&close).expect(3);
}

#[test]
fn an_operator_decides_in_static_leadership() {
    let mut scene = Scene::new(Options { mode: "static", ..pair() });
    scene.group.start();
    scene.group.nodes[0].wait_mode("follower");
    scene.group.nodes[0].request("promote").expect(0);
    scene.group.nodes[0].wait("leads", |state| state["leader"]["ok"] == true);
    scene.group.nodes[1].wait("knows", |state| state["holder"]["node"] == "a" && state["chain"]["lag"] == 0);
    let ran = scene.execute("planned", &[]).expect(0).json("bootstrap.failover/1");
    let statuses = steps(&ran);
    assert_eq!((statuses["demote"].as_str(), statuses["promote"].as_str()), ("ok", "ok"), "{ran:#}");
    assert!(!statuses.contains_key("handoff"));
    assert_eq!(scene.group.leader(&[]), 1);
    scene.group.no_conflicts();
}

/// Who measures an emergency must do so before the leader is lost, so it is no child of the failover.
struct Watch {
    series: PathBuf,
    prober: Child,
}

impl Watch {
    fn begin(scene: &Scene, name: &str) -> Self {
        let series = scene.group.issuer.machine.path(name);
        let url = format!("http://{}/instance", scene.ingress);
        let file = series.display().to_string();
        let args = ["drill", "prober", "--into", &file, "--drill", name, "--url", &url];
        let mut prober = scene.command(&args);
        let prober = prober.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let watch = Self { series, prober };
        until("the prober sees the leader", || watch.answers().last().map(drop));
        watch
    }

    /// The good answers: from when to when, and in which term.
    fn answers(&self) -> Vec<(u64, u64, u64)> {
        let text = fs::read_to_string(&self.series).unwrap_or_default();
        let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let good = lines.filter(|line| line["ok"] == true);
        good.map(|line| ["sent_us", "done_us", "term"].map(|name| line[name].as_u64().unwrap()).into()).collect()
    }

    /// Milliseconds from the last good answer of one term to the first of the next, the longest.
    fn end(mut self) -> f64 {
        drop(self.prober.stdin.take());
        self.prober.wait().unwrap();
        let answers = self.answers();
        let gaps = answers.windows(2).filter(|two| two[0].2 != two[1].2).map(|two| two[1].1 - two[0].0);
        gaps.max().expect("the leader changed") as f64 / 1e3
    }
}

/// How long scenarios take: `SNAPKIT_SCENARIOS=10 cargo test -p snapkit-tests --test scenarios -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement"]
fn scenarios_again_and_again() {
    let rounds: usize = std::env::var("SNAPKIT_SCENARIOS").map_or(10, |rounds| rounds.parse().unwrap());
    let mut scene = Scene::led(options());
    let mut took: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    let mut gaps: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for round in 0..rounds {
        for scenario in ["planned", "switchback", "emergency", "switchback again"] {
            let mut watch = None;
            if scenario == "emergency" {
                watch = Some(Watch::begin(&scene, &format!("emergency-{round}.jsonl")));
                scene.group.nodes[0].kill_agent();
            }
            let name = scenario.trim_end_matches(" again");
            let more: &[&str] = if scenario == "emergency" { &["--old-leader", "a"] } else { &[] };
            let id = scene.rehearsed(name, more);
            let begun = std::time::Instant::now();
            let args =
                [&["failover", name, "--execute", "--confirm", &id, "--reason", "test", "--json"], more].concat();
            let ran = scene.bootstrap(&args).expect(0).json("bootstrap.failover/1");
            took.entry(name).or_default().push(begun.elapsed().as_secs_f64());
            assert_eq!(ran["verdict"], "passed", "{round} {scenario}: {ran:#}");
            verified(&scene, &ran);
            let gap = watch.map_or_else(|| ran["bundle"]["rto_ms"].as_f64(), |watch| Some(watch.end()));
            gaps.entry(name).or_default().extend(gap);
            if scenario == "emergency" {
                scene.group.start();
            }
            scene.settle(&[]);
            scene.group.no_conflicts();
        }
    }
    let figures = |mut values: Vec<f64>| {
        values.sort_by(f64::total_cmp);
        (values.len(), values.get(values.len() / 2).copied().unwrap_or(0.0), values.last().copied().unwrap_or(0.0))
    };
    for (scenario, seconds) in took {
        let (runs, median, longest) = figures(seconds);
        let (measured, gap, longest_gap) = figures(gaps.remove(scenario).unwrap_or_default());
        println!("{scenario}: {runs} in a row, none with two leaders, each with a bundle that verifies");
        println!("  took: median {median:.1} s, longest {longest:.1} s");
        println!("  clients without an answer ({measured} measured): median {gap:.0} ms, longest {longest_gap:.0} ms");
    }
}
