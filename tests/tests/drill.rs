//! Drills: the demo as a user would run it, an orchestrator that dies, a dead man's way back, and the weekly restore.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use manifests::document::evidence::PAYLOAD_TYPE;
use manifests::envelope;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use snapkit::trust::TrustDir;
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
    // A probe that its agent had just begun ends by itself.
    until("something is left running", || processes(world.to_str().unwrap()).is_empty().then_some(()));
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 1, "nothing beside the one directory");
    // Once more into the same place is refused before anything is touched.
    let mut again = Command::new(binary::bootstrap());
    again.args(["drill", "demo", "--into"]).arg(&world);
    assert_ne!(Run::of(again).code, 0);
}

/// Killed at every step and once more after the last one, with two people who say what they did and saw meanwhile.
#[test]
fn an_orchestrator_that_is_killed_again_and_again_is_gone_on_with_and_the_evidence_is_whole() {
    let stage = Stage::default();
    let (confirm, second) = (stage.rehearse(), stage.rehearse());
    let weekly = stage.rehearse_restore();
    let mut child = stage.start(&confirm);
    let directory = stage.wait_step("facts-before");
    let plan: Value = serde_json::from_str(&fs::read_to_string(directory.join("plan.json")).unwrap()).unwrap();
    let id = plan["id"].as_str().unwrap().to_owned();
    let fleet = stage.fleet();
    // Two drills at once are refused.
    let other = stage.start(&second).wait_with_output().unwrap();
    assert_eq!(other.status.code(), Some(3), "{}", String::from_utf8_lossy(&other.stderr));
    assert!(String::from_utf8_lossy(&other.stderr).contains("is under way"));
    let steps = ["steps", "always"].map(|list| plan[list].as_array().unwrap().clone()).concat();
    assert!(steps.len() > 20, "{steps:#?}");
    let resume = ["drill", "run", "--resume", &id, "--inventory", &fleet];
    for step in steps.iter().map(|step| step["id"].as_str().unwrap()) {
        stage.wait_step(step);
        kill_process(Pid::from_child(&child), Signal::KILL).unwrap();
        child.wait().unwrap();
        match step {
            "baseline" => {
                // Nobody begins another drill over it, and the dead one is not simply forgotten.
                let args = ["drill", "run", "restore", "--inventory", &fleet, "--execute", "--confirm", &weekly];
                stage.desk(&args).expect(3).stderr_names("was interrupted");
            }
            "leader-lost" => {
                stage.desk(&["drill", "note", &id, "--text", "the cable of a was pulled, too"]).expect(0);
            }
            "cold-restore" => {
                let seen = stage.world.path("desk/seen.txt");
                fs::write(&seen, "the page of b loads").unwrap();
                let file = seen.to_str().unwrap();
                let attest = ["drill", "attest", &id, "--who", "Mira", "--text", "customers see b", "--file", file];
                stage.desk(&attest).expect(0);
            }
            _ => {}
        }
        child = stage.spawn(&resume);
    }
    // It has an end, and its orchestrator does not live to seal it.
    stage.wait_event("\"kind\":\"end\"");
    let _ = kill_process(Pid::from_child(&child), Signal::KILL);
    child.wait().unwrap();
    if !directory.join("bundle.dsse.json").exists() {
        let result = stage.end(stage.spawn(&resume));
        assert_eq!(not_shown(&result), [] as [&str; 0], "{result:#}");
        assert_eq!((&result["verdict"], &result["bundle"]["passed"]), (&"passed".into(), &true.into()), "{result:#}");
    }
    stage.desk(&resume).expect(3).stderr_names("has ended already");
    let tar = format!("{}.tar", directory.display());
    stage.desk(&["evidence", "verify", &tar, "--pin", &stage.world.pin()]).expect(0);
    // What was done by hand is told, and makes it less than the best; what was seen is no measurement.
    let judged = stage.judged(&directory);
    assert_eq!(judged["deviations"], serde_json::json!(["the cable of a was pulled, too"]), "{judged:#}");
    assert_eq!(judged["grade"], "full", "{:#}", judged["grade"]);
    let attested = &judged["attestations"][0];
    assert_eq!((&attested["who"], &attested["text"]), (&"Mira".into(), &"customers see b".into()), "{judged:#}");
    let kept = directory.join(attested["file"].as_str().unwrap());
    assert_eq!(fs::read_to_string(kept).unwrap(), "the page of b loads");
    stage.desk(&["drill", "note", &id, "--text", "too late"]).expect(3).stderr_names("has ended");
    let history = stage.desk(&["drill", "history", "--inventory", &fleet, "--within", "1h"]).expect(0);
    let history = history.json("bootstrap.drill-history/1");
    assert_eq!(
        (history["runs"][0]["id"].as_str(), &history["runs"][0]["verdict"]),
        (Some(&*id), &Value::from("passed"))
    );
    // Where there is a lease, an end whose beginning the chain was not told of is not put into it.
    let statement = fs::read(directory.join("bundle.dsse.json")).unwrap();
    let forged = stage.world.path("desk/forged.json");
    fs::write(&forged, without_beginning(&stage, &statement)).unwrap();
    let node = stage.world.node("b").display().to_string();
    let mut command = stage.world.command("b", "bootstrap", &["evidence", "record", "--node", &node]);
    command.stdin(fs::File::open(&forged).unwrap());
    Run::of(command).expect(61).stderr_names("an end without a beginning");
    until("the keeper goes on", || {
        processes(&format!("drill keep {}", stage.world.place.display())).is_empty().then_some(())
    });
}

/// The statement without the record with which the run began, by the key that seals.
fn without_beginning(stage: &Stage, statement: &[u8]) -> Vec<u8> {
    use base64::Engine as _;
    let envelope: Value = serde_json::from_slice(statement).unwrap();
    let payload = base64::engine::general_purpose::STANDARD.decode(envelope["payload"].as_str().unwrap()).unwrap();
    let mut payload: Value = serde_json::from_slice(&payload).unwrap();
    payload["predicate"].as_object_mut().unwrap().remove("begun").unwrap();
    let trust = TrustDir::new(&stage.world.path("desk/keys"), &stage.world.path("desk/cache"));
    let pin = stage.world.pin().trim_start_matches("sha256:").parse().unwrap();
    let key = trust.read_node_key(&pin).unwrap();
    envelope::sign(PAYLOAD_TYPE, &serde_json::to_vec(&payload).unwrap(), &[&key]).unwrap()
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

/// What is missing is said beforehand; then it touches nothing that serves; and one that leaves out a look proves nothing.
#[test]
fn preflight_says_what_is_missing_and_the_weekly_restore_touches_nothing_that_serves() {
    let stage = Stage::default();
    let good = stage.desk(&["drill", "preflight", "--inventory", &stage.fleet()]).expect(0);
    assert_eq!(good.json("bootstrap.drill-preflight/1")["level"], "execute");
    assert!(!stage.world.path("desk/drills").exists(), "preflight changes nothing");
    let fleet = fs::read_to_string(stage.fleet()).unwrap();
    let poor = stage.world.path("poor.toml");
    fs::write(&poor, fleet.replace("write = \"/add\"\n", "")).unwrap();
    let poor = stage.desk(&["drill", "preflight", "--inventory", poor.to_str().unwrap()]).expect(1);
    let poor = poor.json("bootstrap.drill-preflight/1");
    assert_eq!(poor["level"], "simulate");
    assert!(poor["conditions"].to_string().contains("drill.write"));

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

    // The step that compares is taken out of the scenario, with or without the checks that it decides: nobody looked whether
    // what carries the load is there. That the state is the signed one the receipt shows by itself.
    let text = bootstrap::drill::deeds::text("restore", "c").unwrap();
    let parts: Vec<&str> = text.split("[[").filter(|part| !part.contains("id = \"compare\"")).collect();
    let without = parts.join("[[");
    assert!(without.len() < text.len());
    let unasked = without.replace("\"restored-equals-manifest\", \"load-bearing\", ", "");
    assert!(unasked.len() < without.len());
    for (text, code) in [(without, 1), (unasked, 0)] {
        let scenario = stage.world.path("own.toml");
        fs::write(&scenario, text).unwrap();
        let base = ["drill", "run", "restore", "--inventory", &fleet, "--scenario-file", scenario.to_str().unwrap()];
        let dry = stage.desk(&base).expect(0).json("bootstrap.drill-run/1");
        let id = dry["id"].as_str().unwrap();
        let ran = stage.desk(&[&base[..], &["--execute", "--confirm", id]].concat()).expect(code);
        let result = ran.json("bootstrap.drill-run/1");
        // One that does not ask for it passes for who wrote it, and for nobody who knows what a restore must show.
        let expected: &[&str] = if code == 1 { &["load-bearing"] } else { &[] };
        assert_eq!(not_shown(&result), expected, "{result:#}");
        let tar = result["bundle"]["tar"].as_str().unwrap();
        let verified = stage.desk(&["evidence", "verify", tar, "--pin", &stage.world.pin()]);
        assert_ne!(verified.code, 0, "{}", verified.text());
        assert!(verified.text().contains("load-bearing") || verified.stderr.contains("load-bearing"), "{verified:?}");
    }
}

/// Every kind of fault that a drill may have, on whoever leads, and each taken back.
const FAULTS: &str = r#"
schema = "bootstrap.scenario/1"
name = "faults"
title = "Every fault, one after the other"
old_leader = "leader"
target = "nobody"
required = ["probers-alive", "sentinel", "clock-steady", "timeboxes", "teardown", "health-after", "tool-unchanged"]
rollback = []

[[phase]]
id = "precheck"
step = [
    { id = "facts-before", title = "facts", effect = "read", on = "all", action = { kind = "facts", when = "before" }, timeout_seconds = 60 },
    { id = "health-before", title = "health", effect = "read", on = "a", action = { kind = "node-health", when = "before" }, timeout_seconds = 60 },
    { id = "b-may", title = "b may take over", effect = "read", on = "b", action = { kind = "wait", until = "can-take-over" }, timeout_seconds = 60 },
    { id = "measured", title = "clients are answered", effect = "read", on = "a", action = { kind = "measured", good = 3 }, timeout_seconds = 60 },
]

[[phase]]
id = "demote-primary"
step = [
    { id = "cut-off", title = "a cannot be reached", effect = "mutate", on = "a", action = { kind = "fault", fault = "partition" }, timeout_seconds = 60 },
    { id = "unanswered", title = "no client is answered", effect = "read", action = { kind = "command", reads = true, argv = ["UNANSWERED"] }, timeout_seconds = 60 },
    { id = "joined", title = "a is reached again", effect = "mutate", on = "a", action = { kind = "heal", fault = "partition" }, timeout_seconds = 60 },
    { id = "goes-on", title = "clients are answered", effect = "read", on = "a", action = { kind = "measured", good = 3 }, timeout_seconds = 60 },
    { id = "no-store", title = "b cannot reach the store", effect = "mutate", on = "b", action = { kind = "fault", fault = "store-block" }, timeout_seconds = 60 },
    { id = "b-unfit", title = "b says so", effect = "read", on = "b", action = { kind = "command", reads = true, argv = ["B-UNFIT"] }, timeout_seconds = 60 },
    { id = "store", title = "b reaches it again", effect = "mutate", on = "b", action = { kind = "heal", fault = "store-block" }, timeout_seconds = 90 },
    { id = "b-may-again", title = "b may take over", effect = "read", on = "b", action = { kind = "wait", until = "can-take-over" }, timeout_seconds = 60 },
    { id = "ended", title = "a ends in order", effect = "mutate", on = "a", action = { kind = "fault", fault = "stop" }, timeout_seconds = 60 },
    { id = "b-leads", title = "b leads", effect = "read", on = "b", action = { kind = "wait", until = "leads" }, timeout_seconds = 120 },
    { id = "b-serves", title = "clients are answered by b", effect = "read", on = "b", action = { kind = "measured", good = 3, recovered = true }, timeout_seconds = 60 },
    { id = "started", title = "a is started, and follows", effect = "mutate", on = "a", action = { kind = "heal", fault = "stop" }, timeout_seconds = 90 },
    { id = "a-may", title = "a may take over", effect = "read", on = "a", action = { kind = "wait", until = "can-take-over" }, timeout_seconds = 60 },
    { id = "frozen", title = "b stands still", effect = "mutate", on = "b", action = { kind = "fault", fault = "pause" }, timeout_seconds = 60 },
    { id = "a-holds", title = "a holds the lease, and waits for what the frozen service holds", effect = "read", on = "a", action = { kind = "command", reads = true, argv = ["A-HOLDS"] }, timeout_seconds = 120 },
    { id = "thawed", title = "b goes on, and its service does not", effect = "mutate", on = "b", action = { kind = "heal", fault = "pause" }, timeout_seconds = 90 },
    { id = "one-leads", title = "one leads", effect = "read", on = "all", action = { kind = "wait", until = "leads", any = true }, timeout_seconds = 120 },
]

[[phase]]
id = "verify"
step = [
    { id = "recovered", title = "clients are answered", effect = "read", on = "all", action = { kind = "measured", good = 3, recovered = true }, timeout_seconds = 60 },
    { id = "health-after", title = "health", effect = "read", on = "a", action = { kind = "node-health", when = "after" }, timeout_seconds = 60, check = "health-after" },
]

[[always]]
id = "teardown"
title = "c was never made"
effect = "mutate"
on = "c"
action = { kind = "remove" }
timeout_seconds = 60
check = "teardown"

[[always]]
id = "facts-after"
title = "facts"
effect = "read"
on = "all"
action = { kind = "facts", when = "after" }
timeout_seconds = 60
check = "tool-unchanged"
"#;

/// Cut off from its clients, cut off from the store, ended in order, frozen: who can lead goes on or is followed by the other
/// one, and never do two.
#[test]
fn every_fault_is_injected_and_taken_back() {
    let stage = Stage::cut_off();
    let fleet = stage.fleet();
    let runs = stage.world.path("desk/drills");
    let until = |name: &str, holds: &str| {
        let path = stage.world.path(name);
        fs::write(&path, format!("#!/bin/sh\nuntil {holds}; do sleep 0.1; done\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path.display().to_string()
    };
    let unanswered = until("unanswered", &format!("grep -qs '\"ok\":false' {}/*/probes/ingress.jsonl", runs.display()));
    let says = |node: &str, what: &str| {
        let directory = stage.world.node(node);
        until(&format!("{node}-says"), &format!("bootstrap status {} --json | grep -q '{what}'", directory.display()))
    };
    let unfit = says("b", "store_unreachable");
    let holds = says("a", "\"mode\":\"promoting\"");
    let scenario = stage.world.path("faults.toml");
    let text = FAULTS.replace("UNANSWERED", &unanswered).replace("B-UNFIT", &unfit).replace("A-HOLDS", &holds);
    fs::write(&scenario, text).unwrap();
    let base = ["drill", "run", "faults", "--inventory", &fleet, "--scenario-file", scenario.to_str().unwrap()];
    let dry = stage.desk(&base).expect(0).json("bootstrap.drill-run/1");
    let id = dry["id"].as_str().unwrap();
    let result = stage.end(stage.spawn(&[&base[..], &["--execute", "--confirm", id]].concat()));
    assert_eq!(not_shown(&result), [] as [&str; 0], "{result:#}");
    assert_eq!((&result["verdict"], &result["bundle"]["passed"]), (&"passed".into(), &true.into()), "{result:#}");
    let directory = stage.run_directory();
    let judged = stage.judged(&directory);
    let faults = judged["faults"].as_array().unwrap();
    let seen: Vec<String> = faults
        .iter()
        .map(|fault| format!("{} {}", fault["fault"].as_str().unwrap(), fault["node"].as_str().unwrap()))
        .collect();
    assert_eq!(seen, ["partition a", "store-block b", "stop a", "pause b"], "{faults:#?}");
    // Who cannot be reached goes on leading; who ends is followed by the other one; who was frozen leads no more in its term.
    let series = fs::read_to_string(directory.join("probes/ingress.jsonl")).unwrap();
    let answers = series.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut led: Vec<(String, u64)> = answers
        .filter(|answer| answer["ok"] == true)
        .map(|answer| (answer["node"].as_str().unwrap().to_owned(), answer["term"].as_u64().unwrap()))
        .collect();
    led.dedup();
    let expected = [("a", 1), ("b", 2)].map(|(node, term)| (node.to_owned(), term));
    assert_eq!(led[..2], expected, "{led:?}");
    assert!(matches!(&led[2..], [(_, term)] if *term > 2), "{led:?}");
    let tar = format!("{}.tar", directory.display());
    // It is a scenario of somebody's own, which whoever verifies must know.
    let policy = stage.world.path("policy.toml");
    fs::write(&policy, "scenarios = [\"faults\"]\n").unwrap();
    let policy = policy.to_str().unwrap();
    stage.desk(&["evidence", "verify", &tar, "--pin", &stage.world.pin(), "--policy", policy]).expect(0);
}
