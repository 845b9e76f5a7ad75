//! The six failure modes of a drill, a prober that dies, and a clock that jumps: each is injected after a dry run that passed,
//! and each fails the drill for its own reason.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use snapkit_tests::binary;
use snapkit_tests::clock::Stepped;
use snapkit_tests::drill::{Stage, failed_check, instead_of, not_shown, processes};

/// The drill did not pass, and the step and check that say why are these.
#[track_caller]
fn failed_for(result: &Value, step: &str, check: &str) {
    assert_eq!(result["failed_step"], step, "{result:#}");
    assert_eq!(failed_check(result).as_deref(), Some(check), "{result:#}");
    assert!(not_shown(result).iter().any(|id| id == check), "{:?}", not_shown(result));
    assert_eq!(result["bundle"]["passed"], false);
    // Whatever happened, the nodes are known, and what was made for the drill is gone.
    assert_eq!(status(result, "teardown"), "ok", "{result:#}");
}

fn status(result: &Value, id: &str) -> String {
    let steps = result["steps"].as_array().unwrap();
    steps.iter().find(|step| step["id"] == id).unwrap()["status"].as_str().unwrap().to_owned()
}

/// One fleet and one drill after the other, the failures that come first in a drill first: each begins where the one before,
/// having failed, left everything as it was.
#[test]
fn each_of_the_six_failure_modes_fails_the_drill_for_its_own_reason() {
    let tool = |stage: &Stage| stage.world.path("bin/demo-tool");
    let mut stage = Stage::with(
        |settings| {
            settings.max_head_lag = 3;
            settings.needs = "\n[pins.needs]\ncapabilities = [\"demo-tool\"]\n".to_owned();
        },
        |world| make_tool(&world.path("bin/demo-tool")),
    );
    fm1_a_manifest_that_the_chain_has_left_behind(&stage);
    // Every drill writes into the chain that it began and ended.
    refreshed(&mut stage);

    let result = stage.done_after(|stage| fs::remove_file(tool(stage)).unwrap());
    failed_for(&result, "prerequisites", "prerequisites");
    assert!(result.to_string().contains("demo-tool"), "FM5: what is missing is named: {result:#}");
    make_tool(&tool(&stage));

    refreshed(&mut stage);
    fm4_bytes_that_are_not_what_was_signed(&stage);
    refreshed(&mut stage);
    fm2_a_follower_that_consumes_before_it_leads(&stage);

    refreshed(&mut stage);
    // FM6: clients are led to a dead node while every agent is well.
    let over = stage.world.path("ingress-override");
    stage.hurry = Some(("traffic", 8));
    let result = stage.done_after(|_| fs::write(&over, "a").unwrap());
    failed_for(&result, "traffic", "traffic-at-holder");
    assert_eq!(status(&result, "takeover"), "ok", "it is not that nobody took over");
    fs::remove_file(over).unwrap();

    refreshed(&mut stage);
    // Longer than the other one takes to lead if it may.
    stage.hurry = Some(("takeover", 15));
    fm3_a_lease_that_does_not_go_to_another_node(&stage);
}

fn refreshed(stage: &mut Stage) {
    stage.world.snapkit("desk", &["manifest", "generate"]).unwrap();
}

fn make_tool(path: &PathBuf) {
    fs::write(path, "#!/bin/sh\n").unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

fn fm1_a_manifest_that_the_chain_has_left_behind(stage: &Stage) {
    let result = stage.done_after(|stage| {
        let state = format!("state={}/current", stage.world.node("a").display());
        for _ in 0..4 {
            let status = stage.world.command("a", "snapkit", &["snapshot", &state, "--quiet"]).status().unwrap();
            assert!(status.success());
        }
    });
    failed_for(&result, "manifest", "manifest-fresh");
}

fn fm2_a_follower_that_consumes_before_it_leads(stage: &Stage) {
    let queue = stage.world.path("queue").display().to_string();
    let ended = AtomicBool::new(false);
    let confirm = stage.rehearse();
    let environment = stage.world.environment("b");
    let directory = stage.world.path("b/early");
    fs::create_dir_all(directory.join("current")).unwrap();
    let result = thread::scope(|scope| {
        // A service that was started beside its agent, by whoever meant well.
        scope.spawn(|| {
            while !ended.load(Ordering::SeqCst) {
                let args = ["drill", "demo-service", "--queue", &queue, "--at", "b=127.0.0.1:0", "--lead"];
                let mut early = Command::new(binary::bootstrap());
                early.args(args).env_clear().envs(environment.clone());
                early.env("SNAPKIT_NODE", "b").env("SNAPKIT_TERM", "1").env("SNAPKIT_NODE_DIR", &directory);
                let mut early = early.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
                thread::sleep(Duration::from_millis(400));
                early.kill().unwrap();
                early.wait().unwrap();
            }
        });
        let result = stage.end(stage.start(&confirm));
        ended.store(true, Ordering::SeqCst);
        result
    });
    failed_for(&result, "soak", "no-early-consume");
}

fn fm3_a_lease_that_does_not_go_to_another_node(stage: &Stage) {
    let standby = if stage.leader() == "a" { "b" } else { "a" };
    let node = stage.world.node(standby).display().to_string();
    let result = stage.done_after(|stage| {
        let restarted = |more: &[&str]| {
            let args = [&["drill", "fault", "stop", &node, "--confirm", "another way to start"][..], more].concat();
            let ended = stage.world.command(standby, "bootstrap", &args).stdout(Stdio::null()).status().unwrap();
            assert!(ended.success());
        };
        restarted(&[]);
        let file = stage.world.node(standby).join("bootstrap.toml");
        let text = fs::read_to_string(&file).unwrap();
        fs::write(&file, format!("no_failover = true\n{text}")).unwrap();
        restarted(&["--heal"]);
    });
    failed_for(&result, "takeover", "lease-flips");
}

fn fm4_bytes_that_are_not_what_was_signed(stage: &Stage) {
    // In a frame of content, which nothing reads before it is restored; trees, tables and footers are as they were.
    let packs = walkdir::WalkDir::new(stage.world.path("store/packs")).into_iter().map(Result::unwrap);
    let content = packs.max_by_key(|entry| entry.file_type().is_file().then(|| entry.metadata().unwrap().len()));
    let pack = content.unwrap().into_path();
    fs::set_permissions(&pack, fs::Permissions::from_mode(0o644)).unwrap();
    let right = fs::read(&pack).unwrap();
    let result = stage.done_after(|_| {
        let mut bytes = right.clone();
        bytes[20] ^= 0xff;
        fs::write(&pack, bytes).unwrap();
    });
    failed_for(&result, "follower", "signatures");
    fs::write(&pack, right).unwrap();
}

/// Two things that happen to who measures and to a clock, and that no step of the drill meets: both in one drill, each shown
/// by the check that it belongs to.
#[test]
fn a_prober_that_dies_and_a_clock_that_jumps_prove_nothing() {
    let stage = Stage::default();
    // All that runs on one node sees its clock.
    let clock = Stepped::new();
    let fleet = fs::read_to_string(stage.fleet()).unwrap();
    let home = format!("\"HOME={}\"", stage.world.path("c").display());
    assert_eq!(fleet.matches(&home).count(), 1, "{fleet}");
    let words: String = clock.variables().map(|(name, value)| format!("\"{name}={value}\", ")).concat();
    fs::write(stage.fleet(), fleet.replace(&home, &format!("{words}{home}"))).unwrap();
    let confirm = stage.rehearse();
    let child = stage.start(&confirm);
    let directory = stage.wait_step("cold-restore");
    clock.step(3600);
    let series = directory.join("probes/ingress.jsonl").display().to_string();
    let probers = processes(&format!("drill prober --into {series}"));
    assert_eq!(probers.len(), 1);
    kill_process(Pid::from_raw(probers[0]).unwrap(), Signal::KILL).unwrap();
    let result = stage.end(child);
    assert_eq!(result["bundle"]["passed"], false);
    let jumped = instead_of(&result, "clock-steady");
    assert!(jumped.starts_with("c: the wall clock stepped by 3600"), "{jumped}");
    let died = instead_of(&result, "probers-alive");
    assert!(died.contains("ingress"), "{died}");
    // Every step ended well: nobody who acted noticed.
    assert_eq!((&result["verdict"], &result["failed_step"]), (&"passed".into(), &Value::Null), "{result:#}");
}
