//! The six failure modes of a drill, and a prober that dies: each is injected after a dry run that passed, and each fails the
//! drill for its own reason.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use snapkit_tests::binary;
use snapkit_tests::drill::{Stage, failed_check, not_shown, processes};

/// The drill did not pass, and the step and check that say why are these.
#[track_caller]
fn failed_for(result: &Value, step: &str, check: &str) {
    assert_eq!(result["failed_step"], step, "{result:#}");
    assert_eq!(failed_check(result).as_deref(), Some(check), "{result:#}");
    assert!(not_shown(result).iter().any(|id| id == check), "{:?}", not_shown(result));
    assert_eq!(result["bundle"]["passed"], false);
    // Whatever happened, the nodes are known, and what was made for the drill is gone.
    let status = |id: &str| {
        let steps = result["steps"].as_array().unwrap();
        steps.iter().find(|step| step["id"] == id).unwrap()["status"].as_str().unwrap().to_owned()
    };
    assert_eq!(status("teardown"), "ok", "{result:#}");
}

#[test]
fn fm1_a_manifest_that_the_chain_has_left_behind() {
    let stage = Stage::new(|settings| settings.max_head_lag = 3);
    let result = stage.done_after(|stage| {
        let state = format!("state={}/current", stage.world.node("a").display());
        for _ in 0..4 {
            let status = stage.world.command("a", "snapkit", &["snapshot", &state, "--quiet"]).status().unwrap();
            assert!(status.success());
        }
    });
    failed_for(&result, "manifest", "manifest-fresh");
}

#[test]
fn fm2_a_follower_that_consumes_before_it_leads() {
    let stage = Stage::default();
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

#[test]
fn fm3_a_lease_that_does_not_go_to_another_node() {
    let stage = Stage::default();
    let result = stage.done_after(|stage| {
        let file = stage.world.node("b").join("bootstrap.toml");
        let text = fs::read_to_string(&file).unwrap();
        fs::write(&file, format!("no_failover = true\n{text}")).unwrap();
    });
    failed_for(&result, "takeover", "lease-flips");
}

#[test]
fn fm4_bytes_that_are_not_what_was_signed() {
    let stage = Stage::default();
    let result = stage.done_after(|stage| {
        // In a frame of content, which nothing reads before it is restored; trees, tables and footers are as they were.
        let packs = walkdir::WalkDir::new(stage.world.path("store/packs")).into_iter().map(Result::unwrap);
        let content = packs.max_by_key(|entry| entry.file_type().is_file().then(|| entry.metadata().unwrap().len()));
        let pack = content.unwrap().into_path();
        let mut bytes = fs::read(&pack).unwrap();
        bytes[20] ^= 0xff;
        fs::set_permissions(&pack, fs::Permissions::from_mode(0o644)).unwrap();
        fs::write(&pack, bytes).unwrap();
    });
    failed_for(&result, "follower", "signatures");
}

#[test]
fn fm5_a_node_that_lacks_what_the_service_needs() {
    let tool = |stage: &Stage| stage.world.path("bin/demo-tool");
    let stage = Stage::with(
        |settings| settings.needs = "\n[pins.needs]\ncapabilities = [\"demo-tool\"]\n".to_owned(),
        |world| {
            let tool = world.path("bin/demo-tool");
            fs::write(&tool, "#!/bin/sh\n").unwrap();
            fs::set_permissions(&tool, fs::Permissions::from_mode(0o755)).unwrap();
        },
    );
    let result = stage.done_after(|stage| fs::remove_file(tool(stage)).unwrap());
    failed_for(&result, "prerequisites", "prerequisites");
    assert!(result.to_string().contains("demo-tool"), "what is missing is named: {result:#}");
}

#[test]
fn fm6_clients_that_are_led_to_a_dead_node_while_every_agent_is_well() {
    let stage = Stage::default();
    let result = stage.done_after(|stage| fs::write(stage.world.path("ingress-override"), "a").unwrap());
    failed_for(&result, "traffic", "traffic-at-holder");
    // It is not that nobody took over.
    let steps = result["steps"].as_array().unwrap();
    assert_eq!(steps.iter().find(|step| step["id"] == "takeover").unwrap()["status"], "ok");
}

#[test]
fn a_prober_that_dies_proves_nothing() {
    let stage = Stage::default();
    let confirm = stage.rehearse();
    let child = stage.start(&confirm);
    let directory = stage.wait_step("cold-restore");
    let series = directory.join("probes/ingress.jsonl").display().to_string();
    let probers = processes(&format!("drill prober --into {series}"));
    assert_eq!(probers.len(), 1);
    kill_process(Pid::from_raw(probers[0]).unwrap(), Signal::KILL).unwrap();
    let result = stage.end(child);
    assert!(not_shown(&result).iter().any(|id| id == "probers-alive"), "{result:#}");
    assert_eq!(result["bundle"]["passed"], false);
}
