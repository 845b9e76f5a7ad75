//! Drills: the demo as a user would run it, an orchestrator that dies, and a dead man's way back.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::process::Command;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use snapkit_tests::drill::{Stage, not_shown, processes, until};
use snapkit_tests::{Run, binary};

#[test]
fn the_demo_tells_the_whole_story_and_leaves_nothing_running() {
    let place = tempfile::Builder::new().prefix("demo-").tempdir_in("/tmp").unwrap();
    let world = place.path().join("w");
    let mut command = Command::new(binary::bootstrap());
    command.args(["drill", "demo", "--json", "--into"]).arg(&world).current_dir(place.path());
    let demo = Run::of(command).expect(0).json("bootstrap.drill-demo/1");
    assert_eq!(demo["passed"], true, "{demo:#}");
    assert!(demo["rto_ms"].as_u64().unwrap() > 0);
    assert!(demo["rpo_events"].is_u64());
    let report = fs::read_to_string(demo["report"].as_str().unwrap()).unwrap();
    assert!(report.contains("<html") && report.contains("full"));
    assert_eq!(processes(world.to_str().unwrap()), [] as [i32; 0]);
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 1, "nothing beside the one directory");
    // Once more into the same place is refused before anything is touched.
    let mut again = Command::new(binary::bootstrap());
    again.args(["drill", "demo", "--into"]).arg(&world);
    assert_ne!(Run::of(again).code, 0);
}

#[test]
fn an_orchestrator_that_is_killed_again_and_again_is_gone_on_with_and_the_evidence_is_whole() {
    let stage = Stage::default();
    let confirm = stage.rehearse();
    let mut child = stage.start(&confirm);
    let mut id = String::new();
    for step in ["follower", "leader-lost", "takeover", "cold-restore", "teardown"] {
        let directory = stage.wait_step(step);
        kill_process(Pid::from_child(&child), Signal::KILL).unwrap();
        child.wait().unwrap();
        if id.is_empty() {
            let plan: Value = serde_json::from_str(&fs::read_to_string(directory.join("plan.json")).unwrap()).unwrap();
            id = plan["id"].as_str().unwrap().to_owned();
            // Nobody begins another drill over it, and the dead one is not simply forgotten.
            let again = stage.rehearse_restore();
            let refused = stage.desk(&[
                "drill",
                "run",
                "restore",
                "--inventory",
                &stage.fleet(),
                "--execute",
                "--confirm",
                &again,
            ]);
            refused.expect(3).stderr_names("was interrupted");
        }
        let fleet = stage.fleet();
        let mut command = stage.world.command(
            "desk",
            "bootstrap",
            &["drill", "run", "--resume", &id, "--inventory", &fleet, "--json"],
        );
        command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
        child = command.spawn().unwrap();
    }
    let result = stage.end(child);
    assert_eq!(not_shown(&result), [] as [&str; 0], "{result:#}");
    assert_eq!(result["bundle"]["passed"], true);
    let tar = result["bundle"]["tar"].as_str().unwrap();
    stage.desk(&["evidence", "verify", tar, "--pin", &stage.world.pin()]).expect(0);
    let history = stage.desk(&["drill", "history", "--inventory", &stage.fleet(), "--within", "1h"]).expect(0);
    let history = history.json("bootstrap.drill-history/1");
    assert_eq!(
        (history["runs"][0]["id"].as_str(), &history["runs"][0]["verdict"]),
        (Some(&*id), &Value::from("passed"))
    );
}

#[test]
fn two_drills_at_once_are_refused() {
    let stage = Stage::default();
    let confirm = stage.rehearse();
    let second = stage.rehearse();
    let child = stage.start(&confirm);
    stage.wait_step("facts-before");
    let other = stage.start(&second).wait_with_output().unwrap();
    assert_eq!(other.status.code(), Some(3), "{}", String::from_utf8_lossy(&other.stderr));
    assert!(String::from_utf8_lossy(&other.stderr).contains("is under way"));
    assert_eq!(stage.end(child)["bundle"]["passed"], true);
}

#[test]
fn a_run_that_nobody_goes_on_with_is_taken_back_by_itself() {
    let stage = Stage::new(|settings| settings.dead_man_seconds = 10);
    let confirm = stage.rehearse();
    let mut child = stage.start(&confirm);
    let directory = stage.wait_step("takeover");
    kill_process(Pid::from_child(&child), Signal::KILL).unwrap();
    child.wait().unwrap();
    let timeline = until("it is not taken back", || {
        let timeline = fs::read_to_string(directory.join("timeline.jsonl")).ok()?;
        timeline.contains("\"kind\":\"end\"").then_some(timeline)
    });
    assert!(timeline.contains("nobody went on with it"));
    until("no bundle", || directory.join("bundle.dsse.json").exists().then_some(()));
    // The lost leader is up again, and somebody leads.
    let states = ["a", "b"].map(|node| bootstrap::client::Client::of_node(&stage.world.node(node)).state().unwrap());
    assert_eq!(states.iter().filter(|state| state.leader.ok).count(), 1);
    let tar = format!("{}.tar", directory.display());
    let verified = stage.desk(&["evidence", "verify", &tar, "--pin", &stage.world.pin()]);
    assert_ne!(verified.code, 0, "a run that was taken back shows nothing: {}", verified.text());
    until("the keeper goes on", || {
        processes(&format!("drill keep {}", stage.world.place.display())).is_empty().then_some(())
    });
}

#[test]
fn preflight_says_what_is_missing_and_changes_nothing() {
    let stage = Stage::default();
    let good = stage.desk(&["drill", "preflight", "--inventory", &stage.fleet()]).expect(0);
    assert_eq!(good.json("bootstrap.drill-preflight/1")["level"], "execute");
    assert!(!stage.world.path("desk/drills").exists());
    let fleet = fs::read_to_string(stage.fleet()).unwrap();
    let poor = stage.world.path("poor.toml");
    fs::write(&poor, fleet.replace("write = \"/add\"\n", "")).unwrap();
    let poor = stage.desk(&["drill", "preflight", "--inventory", poor.to_str().unwrap()]).expect(1);
    let poor = poor.json("bootstrap.drill-preflight/1");
    assert_eq!(poor["level"], "simulate");
    assert!(poor["conditions"].to_string().contains("drill.write"));
}

#[test]
fn the_weekly_restore_touches_nothing_that_serves() {
    let stage = Stage::default();
    let before = bootstrap::client::Client::of_node(&stage.world.node("a")).state().unwrap();
    let confirm = stage.rehearse_restore();
    let fleet = stage.fleet();
    let run =
        stage.desk(&["drill", "run", "restore", "--inventory", &fleet, "--execute", "--confirm", &confirm]).expect(0);
    let result = run.json("bootstrap.drill-run/1");
    assert_eq!(not_shown(&result), [] as [&str; 0]);
    assert!(!stage.world.node("c").exists(), "what was made for it is removed");
    let after = bootstrap::client::Client::of_node(&stage.world.node("a")).state().unwrap();
    assert_eq!((before.view.term, before.view.instance), (after.view.term, after.view.instance));
}
