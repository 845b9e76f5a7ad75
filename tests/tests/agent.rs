//! `bootstrap agent` as it keeps a follower: close behind the chain, with a service that never outlives it.

#![allow(clippy::unwrap_used)]

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use serde_json::Value;
use snapkit_tests::{Issuer, Run};

/// The service: it says who it is, and would run for ever.
const SERVICE: &str = "echo $SNAPKIT_ROLE $SNAPKIT_TERM [$SNAPKIT_EXCLUSIVE] \"$@\" $$ > RUNS; exec sleep 100000";

/// A chain, and a node of the same machine that follows it.
struct Node {
    issuer: Issuer,
    agent: Option<Child>,
}

impl Node {
    fn new(roles: &str, more: &str) -> Self {
        let service = |runs: &str| SERVICE.replace("RUNS", runs);
        let issuer = {
            // The pins name a place on the machine that they are made on.
            let place = tempfile::tempdir().unwrap().keep();
            let runs = place.join("runs").display().to_string();
            let config = format!(
                "[manifest]\nname = \"app\"\nfile = \"deploy/manifest.json\"\npins = \"deploy/pins.json\"\n\
                 [pins]\nmax_head_age = \"26h\"\nmax_head_lag = 100\n\
                 [pins.service]\ndriver = \"process\"\nargv = [\"/bin/sh\", \"-c\", '{}', \"service\"]\n{roles}\n\
                 exclusive = [\"token\"]\nready = {{ kind = \"exec\", argv = [\"/usr/bin/test\", \"-s\", \"{runs}\"], timeout_seconds = 5 }}\n\
                 [[pins.trees]]\nname = \"tree\"\npath = \"/srv/state\"\n",
                service(&runs)
            );
            let issuer = Issuer::without_pins(&config);
            fs::write(issuer.machine.path("place"), place.display().to_string()).unwrap();
            issuer
        };
        for command in [&["pins", "edit"][..], &["pins", "sign"], &["manifest", "generate"]] {
            issuer.machine.ok(command);
        }
        issuer.machine.ok(&["restore", "latest", "--into", "node"]);
        let root = issuer.bootstrap.split_once('#').unwrap().1;
        let store = issuer.machine.arg("store");
        let text = format!("from = \"{store}#{root}\"\nmanifest = \"app\"\nnode = \"a\"\npoll_seconds = 1\n{more}");
        issuer.machine.write("node/bootstrap.toml", text);
        Self { issuer, agent: None }
    }

    fn runs(&self) -> PathBuf {
        let place = fs::read_to_string(self.issuer.machine.path("place")).unwrap();
        PathBuf::from(place).join("runs")
    }

    fn command(&self) -> Command {
        self.issuer.machine.bootstrap_command(&["agent", "node", "--json"])
    }

    fn start(&mut self) {
        let log = File::options().create(true).append(true).open(self.issuer.machine.path("log")).unwrap();
        let out = File::create(self.issuer.machine.path("out")).unwrap();
        self.agent = Some(self.command().stdout(out).stderr(log).spawn().unwrap());
    }

    fn log(&self) -> String {
        fs::read_to_string(self.issuer.machine.path("log")).unwrap_or_default()
    }

    fn state(&self) -> Option<Value> {
        let mut socket = UnixStream::connect(self.issuer.machine.path("node/.node/agent/agent.sock")).ok()?;
        socket.write_all(b"GET /v1/state HTTP/1.1\r\nhost: agent\r\nconnection: close\r\n\r\n").ok()?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer).ok()?;
        serde_json::from_str(answer.split_once("\r\n\r\n")?.1).ok()
    }

    #[track_caller]
    fn wait(&self, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        let end = Instant::now() + Duration::from_secs(120);
        loop {
            let state = self.state();
            if let Some(state) = state.as_ref().filter(|state| is_so(state)) {
                return state.clone();
            }
            assert!(Instant::now() < end, "{what}: {state:#?}\n{}", self.log());
            thread::sleep(Duration::from_millis(50));
        }
    }

    fn snapshot(&self, text: &str) -> u64 {
        self.issuer.machine.write("tree/file", text);
        let taken = self.issuer.machine.ok(&["snapshot", "tree", "--json"]);
        taken.json("snapkit.snapshot/1")["seq"].as_u64().unwrap()
    }

    /// The words that the running service said of itself, and its process.
    fn service(&self) -> (String, Pid) {
        let said = fs::read_to_string(self.runs()).unwrap();
        let (words, pid) = said.trim().rsplit_once(' ').unwrap();
        (words.to_owned(), Pid::from_raw(pid.parse().unwrap()).unwrap())
    }

    #[track_caller]
    fn gone(&self, service: Pid) {
        let end = Instant::now() + Duration::from_secs(60);
        while test_kill_process(service).is_ok() {
            assert!(Instant::now() < end, "the service outlives its agent\n{}", self.log());
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Asks the agent to end, and gives what it said in the end.
    #[track_caller]
    fn end(&mut self) -> Value {
        let mut agent = self.agent.take().unwrap();
        kill_process(Pid::from_child(&agent), Signal::TERM).unwrap();
        let status = agent.wait().unwrap();
        assert!(status.success(), "{status}\n{}", self.log());
        serde_json::from_str(&fs::read_to_string(self.issuer.machine.path("out")).unwrap()).unwrap()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(mut agent) = self.agent.take() {
            let _ = agent.kill();
            let _ = agent.wait();
        }
        if let Some(place) = self.runs().parent() {
            let _ = fs::remove_dir_all(place);
        }
    }
}

#[test]
fn a_follower_runs_its_service_and_keeps_the_next_generation_ready() {
    let mut node = Node::new("follower_args = [\"--follow\"]", "");
    node.start();
    let state = node.wait("ready", |state| state["service"]["ready"] == true);
    assert_eq!((&state["mode"], &state["role"], &state["node"]), (&"follower".into(), &"standby".into(), &"a".into()));
    let (words, service) = node.service();
    assert_eq!(words, "follower 0 [] --follow", "nothing exclusive is passed to a follower");
    // The next state is fetched, and nothing is switched under the running service.
    let current = fs::read_link(node.issuer.machine.path("node/current")).unwrap();
    let seq = node.snapshot("later\n");
    node.wait("near the chain", |state| state["chain"]["applied_seq"] == seq && state["chain"]["lag"] == 0);
    assert_eq!(fs::read_link(node.issuer.machine.path("node/current")).unwrap(), current);
    assert_eq!(fs::read_dir(node.issuer.machine.path("node/generations")).unwrap().count(), 2);
    // Nobody else keeps it meanwhile.
    Run::of(node.command()).expect(3).stderr_names("another agent");
    let ended = node.end();
    assert_eq!((&ended["schema"], &ended["node"]), (&"bootstrap.agent/1".into(), &"a".into()));
    node.gone(service);
    assert!(!node.issuer.machine.path("node/.node/agent/service.json").exists());
}

#[test]
fn an_agent_that_is_killed_takes_its_service_with_it_and_the_next_one_goes_on() {
    let mut node = Node::new("follower_args = [\"--follow\"]", "");
    node.start();
    node.wait("ready", |state| state["service"]["ready"] == true);
    let (_, service) = node.service();
    let mut agent = node.agent.take().unwrap();
    agent.kill().unwrap();
    agent.wait().unwrap();
    node.gone(service);
    assert!(node.issuer.machine.path("node/.node/agent/service.json").exists(), "the next one proves it dead");
    fs::write(node.runs(), "").unwrap();
    node.start();
    node.wait("ready again", |state| state["service"]["ready"] == true);
    let (_, next) = node.service();
    assert_ne!(next, service);
    node.end();
    node.gone(next);
}

#[test]
fn a_cold_standby_starts_nothing_and_is_switched_at_once() {
    let mut node = Node::new("leader_args = [\"--lead\"]", "");
    node.start();
    node.wait("following", |state| state["mode"] == "follower");
    let seq = node.snapshot("later\n");
    node.wait("switched", |state| state["chain"]["applied_seq"] == seq);
    assert_eq!(fs::read_to_string(node.issuer.machine.path("node/current/file")).unwrap(), "later\n");
    assert!(!node.runs().exists());
    node.end();
}

#[test]
fn a_reload_hook_is_run_when_the_state_under_a_follower_changes() {
    let hook = "[hooks.reload]\nargv = [\"/bin/sh\", \"-c\", \"readlink current; echo $SNAPKIT_HOOK\"]\n";
    let mut node = Node::new("follower_args = [\"--follow\"]", hook);
    node.start();
    node.wait("ready", |state| state["service"]["ready"] == true);
    node.snapshot("later\n");
    let state = node.wait("reloaded", |state| state["hooks"][0]["hook"] == "reload");
    assert_eq!(fs::read_to_string(node.issuer.machine.path("node/current/file")).unwrap(), "later\n");
    let output = state["hooks"][0]["output_end"].as_str().unwrap();
    assert!(output.starts_with("generations/") && output.ends_with("reload\n"), "{output}");
    node.end();
}

#[test]
fn a_notifier_that_fails_or_hangs_changes_nothing() {
    for command in ["exit 1", "exec sleep 100000"] {
        let notify = format!("[hooks.notify]\nargv = [\"/bin/sh\", \"-c\", \"{command}\"]\ntimeout_seconds = 1\n");
        let mut node = Node::new("follower_args = [\"--follow\"]", &notify);
        node.start();
        node.wait(command, |state| {
            let failed = |run: &Value| run["hook"] == "notify" && run["exit"] != 0;
            state["hooks"].as_array().is_some_and(|runs| runs.iter().any(failed))
        });
        let state = node.wait("follows and serves", |state| state["service"]["ready"] == true);
        assert_eq!((&state["mode"], &state["service"]["starts"]), (&"follower".into(), &1.into()), "{state:#}");
        let (_, service) = node.service();
        node.end();
        node.gone(service);
    }
}

#[test]
fn a_manifest_that_is_not_to_be_believed_is_refused_until_it_is_again() {
    let mut node = Node::new("leader_args = [\"--lead\"]", "");
    node.start();
    node.wait("following", |state| state["mode"] == "follower");
    let good = fs::read(node.issuer.machine.path("store/manifests/app.json")).unwrap();
    node.issuer.serve(&node.issuer.forged_by(&node.issuer.owner, |manifest| manifest.version += 1));
    let state = node.wait("refused", |state| state["mode"] == "refused");
    assert!(state["problems"][0]["next"].as_str().is_some_and(|next| !next.is_empty()), "{state:#}");
    node.issuer.serve(&good);
    node.wait("following again", |state| state["mode"] == "follower");
    node.end();
}

#[test]
fn a_file_that_cannot_be_meant_is_refused_with_its_line() {
    let node = Node::new("leader_args = [\"--lead\"]", "no_such_key = 1\n");
    Run::of(node.command()).expect(2).stderr_names("line 5");
    let cold = snapkit_tests::Machine::new();
    cold.bootstrap(&["agent", "nowhere"]).expect(5);
}
