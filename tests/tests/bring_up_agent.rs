//! `bootstrap --from` with the agent that it starts: a running node, the same command again, and what is refused.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use bootstrap::agent::persist::AgentDir;
use bootstrap::agent::view::Mode;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use snapkit_tests::kept::{Kept, Pair, gone, until};
use snapkit_tests::numbers::setting;
use snapkit_tests::{Numbers, Run};

/// Attempts that are killed.
const ROUNDS: u64 = 6;

/// It says what it is, and would run for ever.
const SERVICE: &str = r#"
[pins.service]
driver = "process"
argv = ["/bin/sh", "-c", 'echo $SNAPKIT_ROLE $SNAPKIT_TERM $$ > said; exec sleep 100000', "service"]
leader_args = ["--lead"]
follower_args = ["--follow"]
ready = { kind = "exec", argv = ["/usr/bin/test", "-s", "said"], timeout_seconds = 5 }
"#;

fn pair(mode: &str) -> Pair {
    Pair::new(mode, SERVICE, |tree| fs::write(tree.join("file"), "honest\n").unwrap())
}

/// What the service said of itself, and its process.
fn said(node: &Kept<'_>) -> (String, Pid) {
    let said = fs::read_to_string(node.path().join("said")).unwrap();
    let (words, pid) = said.trim().rsplit_once(' ').unwrap();
    (words.to_owned(), Pid::from_raw(pid.parse().unwrap()).unwrap())
}

#[track_caller]
fn report(run: Run) -> Value {
    run.expect(0).json("bootstrap.bring-up/1")
}

#[test]
fn a_follower_is_brought_up_with_its_agent_and_again_it_is_only_checked() {
    let pair = pair("static");
    let mut node = pair.node_b(&[]);
    let first = report(node.up(&pair.from, &[]));
    assert_eq!(first["stage"], "running", "{first:#}");
    let agent = &first["agent"];
    assert_eq!((&agent["started"], &agent["node"], &agent["mode"]), (&true.into(), &"b".into(), &"follower".into()));
    assert_eq!((&agent["ready"], &agent["service"]), (&true.into(), &"follower".into()), "{first:#}");
    let (words, service) = said(&node);
    assert_eq!(words, "follower 0");
    assert_eq!(node.agents().len(), 1);
    let again = report(node.up(&pair.from, &[]));
    assert_eq!((&again["agent"]["started"], &again["generation"]), (&false.into(), &Value::Null), "{again:#}");
    assert_eq!(again["agent"]["instance"], agent["instance"]);
    // The agent dies, its service with it, and the same command brings the node back.
    node.kill();
    gone(service);
    fs::remove_file(node.path().join("said")).unwrap();
    let back = report(node.up(&pair.from, &[]));
    assert_eq!((&back["agent"]["started"], &back["generation"]["restored"]), (&true.into(), &false.into()), "{back:#}");
    assert_ne!(back["agent"]["instance"], agent["instance"]);
    assert_eq!(said(&node).0, "follower 0");
}

#[test]
fn in_the_foreground_the_command_becomes_the_agent() {
    let pair = pair("static");
    let mut node = pair.node_b(&[]);
    node.start(&pair.from);
    node.wait("ready", |state| state.ready.ok && state.view.service.running_as.is_some());
    let (_, service) = said(&node);
    // Beside it the same command only looks; nobody keeps the node twice.
    assert_eq!(report(node.up(&pair.from, &["--foreground"]))["agent"]["started"], false);
    assert_eq!(node.agents().len(), 1);
    node.end();
    gone(service);
    let out = fs::read_to_string(pair.b.path("out")).unwrap();
    let schemas: Vec<_> = (out.lines())
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["schema"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(schemas, ["bootstrap.bring-up/1", "bootstrap.agent/1"], "{out}");
}

/// Fault: an agent that keeps the node and does not answer yet was taken for none; the command worked on its node and, in the
/// foreground, ended with 3.
#[test]
fn beside_an_agent_that_is_still_starting_the_command_waits_for_it() {
    let pair = pair("static");
    let mut node = pair.node_b(&[]);
    report(node.up(&pair.from, &["--no-agent"]));
    // It has its lock, and answers nobody.
    let mut agent = pair.b.bootstrap_command(&["agent", &pair.b.arg("node")]).spawn().unwrap();
    let end = Instant::now() + Duration::from_secs(120);
    while !AgentDir::is_kept(&node.path()) {
        assert!(agent.try_wait().unwrap().is_none() && Instant::now() < end);
        thread::sleep(Duration::from_millis(20));
    }
    kill_process(Pid::from_child(&agent), Signal::STOP).unwrap();
    let mut waiting: Vec<_> = [&[][..], &["--foreground"]]
        .into_iter()
        .enumerate()
        .map(|(number, more)| {
            let said = pair.b.path(format!("said-{number}"));
            let file = fs::File::create(&said).unwrap();
            let child = node.command(&pair.from, more).stdout(std::process::Stdio::piped()).stderr(file).spawn();
            (said, child.unwrap())
        })
        .collect();
    for (said, child) in &mut waiting {
        while !fs::read_to_string(&said).unwrap().contains("does not answer yet") {
            assert!(
                child.try_wait().unwrap().is_none() && Instant::now() < end,
                "{}",
                fs::read_to_string(&said).unwrap()
            );
            thread::sleep(Duration::from_millis(20));
        }
    }
    kill_process(Pid::from_child(&agent), Signal::CONT).unwrap();
    for (said, child) in waiting {
        let run = Run::from_output("bring-up".into(), child.wait_with_output().unwrap());
        assert_eq!(run.code, 0, "{run:?} {}", fs::read_to_string(&said).unwrap());
        let report = run.json("bootstrap.bring-up/1");
        assert_eq!((&report["stage"], &report["agent"]["started"]), (&"running".into(), &false.into()), "{report:#}");
        assert_eq!(report["generation"], Value::Null, "nothing is done beside an agent: {report:#}");
    }
    assert_eq!(node.agents(), [Pid::from_child(&agent)]);
    node.kill();
    agent.wait().unwrap();
}

#[test]
fn a_leader_is_brought_up_where_an_operator_decides_and_nobody_beside_it() {
    let pair = pair("static");
    let (mut a, b) = (pair.node_a(&[]), pair.node_b(&[]));
    let led = report(a.up(&pair.from, &["--role", "leader"]));
    let agent = &led["agent"];
    assert_eq!((&agent["mode"], &agent["term"], &agent["service"]), (&"leader".into(), &1.into(), &"leader".into()));
    assert_eq!(said(&a).0, "leader 1");
    assert_eq!(report(a.up(&pair.from, &["--role", "leader"]))["agent"]["started"], false);
    // The other one follows, and does not lead beside it.
    let run = b.up(&pair.from, &["--role", "leader"]).expect(58);
    let missing = run.json("bootstrap.bring-up/1")["prerequisites"].as_array().unwrap().clone();
    let missing: Vec<_> = missing.iter().filter(|one| one["holds"] == false && one["required"] == true).collect();
    assert_eq!(missing.len(), 1, "{missing:#?}");
    assert_eq!(missing[0]["what"], "nobody else leads the group app");
    assert!(missing[0]["found"].as_str().unwrap().contains("a does, in term 1"), "{missing:#?}");
    assert!(!b.path().exists());
    report(b.up(&pair.from, &[]));
    b.wait("a leads", |state| state.view.holder.as_ref().is_some_and(|holder| holder.node == "a"));
    assert_eq!(said(&b).0, "follower 1");
    // Killed and brought up again as it was: it leads on in a later term, and nobody else did meanwhile.
    let (_, service) = said(&a);
    a.kill();
    gone(service);
    let on = report(a.up(&pair.from, &["--role", "leader"]));
    assert_eq!(on["agent"]["mode"], "leader", "{on:#}");
}

#[test]
fn why_an_agent_is_not_what_was_ordered_is_an_exit_code() {
    let pair = pair("static");
    let mut node = pair.node_b(&[]);
    // An agent that cannot begin ends with a code of its own.
    report(node.up(&pair.from, &["--no-agent"]));
    let file = node.path().join("bootstrap.toml");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, format!("{text}no_such_key = 1\n")).unwrap();
    node.up(&pair.from, &[]).expect(2).stderr_names("no_such_key");
    fs::write(&file, &text).unwrap();
    report(node.up(&pair.from, &[]));
    // A paused one waits for whoever paused it.
    pair.b.bootstrap(&["pause", "node", "--reason", "a look around"]).expect(0);
    node.wait("paused", |state| state.view.mode == Mode::Paused);
    node.up(&pair.from, &[]).expect(3).stderr_names("a look around");
    pair.b.bootstrap(&["resume", "node", "--reason", "done"]).expect(0);
    report(node.up(&pair.from, &[]));
    // A service that does not become ready in time is not taken for one that does; the agent goes on.
    let (_, service) = said(&node);
    node.kill();
    gone(service);
    fs::remove_file(node.path().join("said")).unwrap();
    fs::create_dir(node.path().join("said")).unwrap();
    fs::set_permissions(node.path().join("said"), std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    let late = node.up(&pair.from, &["--wait", "0"]).expect(5);
    assert!(late.stderr.contains("no ready follower"), "{}", late.stderr);
    // Just started, it may not have its arguments yet.
    until("the agent goes on", || (node.agents().len() == 1).then_some(()));
}

#[test]
fn who_is_to_lead_beside_a_living_leader_is_told_that_it_does_not() {
    let pair = pair("auto");
    let (a, b) = (pair.node_a(&[]), pair.node_b(&[]));
    report(a.up(&pair.from, &["--role", "leader"]));
    let refused = b.up(&pair.from, &["--role", "leader"]).expect(7);
    assert!(refused.stderr.contains("a holds the lease in term 1"), "{}", refused.stderr);
    // It is brought up all the same, and stands by.
    let follows = report(b.up(&pair.from, &[]));
    assert_eq!((&follows["agent"]["started"], &follows["agent"]["holder"]), (&false.into(), &"a".into()));
}

#[test]
fn a_bring_up_killed_at_a_random_moment_is_completed_by_the_same_command() {
    let mut numbers = Numbers::seeded();
    let pair = pair("static");
    let mut node = pair.node_b(&[]);
    let began = Instant::now();
    report(node.up(&pair.from, &[]));
    let usual = u64::try_from(began.elapsed().as_millis()).unwrap();
    for round in 0..setting("SNAPKIT_TEST_ROUNDS").unwrap_or(ROUNDS) {
        node.kill();
        if round % 3 != 2 {
            fs::remove_dir_all(node.path()).unwrap();
        }
        let mut child = node.command(&pair.from, &[]).stdout(std::process::Stdio::null()).spawn().unwrap();
        thread::sleep(Duration::from_millis(numbers.below(usual * 11 / 10)));
        let _ = kill_process(Pid::from_child(&child), Signal::KILL);
        let status = child.wait().unwrap();
        // Also the agent may be killed that it had started by then.
        if round % 2 == 1 {
            node.kill();
        }
        let done = report(node.up(&pair.from, &[]));
        assert_eq!((&done["stage"], &done["agent"]["ready"]), (&"running".into(), &true.into()), "{status} {done:#}");
        assert_eq!(node.agents().len(), 1, "round {round}, {status}");
        assert_eq!(fs::read_to_string(node.path().join("current/file")).unwrap(), "honest\n");
    }
}
