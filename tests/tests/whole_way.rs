//! From the string to a leader whose service another manager runs: containers of a real engine, units of a real systemd.
//! Without them (`tests/servers/check-whole-way` starts them) nothing is tested here.

#![allow(clippy::unwrap_used)]

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::thread;
use std::time::{Duration, Instant};

use manifests::document::root::WriterRange;
use manifests::keys::Signer;
use serde_json::Value;
use snapkit::trust::TrustDir;
use snapkit_tests::{Issuer, Machine, Run};

/// Much longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(120);

/// A chain, and a machine that has nothing but the string and a key that may lead.
struct Site {
    issuer: Issuer,
    machine: Machine,
    agent: Option<Child>,
}

/// A command with what leads to the engine and to the manager.
fn surrounded(mut command: Command) -> Command {
    for name in ["DOCKER_HOST", "CONTAINERS_CONF", "CONTAINERS_STORAGE_CONF", "XDG_RUNTIME_DIR"] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    command
}

fn tool(command: &[&str]) -> String {
    let output = Command::new(command[0]).args(&command[1..]).env("DOCKER_BUILDKIT", "0").output().unwrap();
    assert!(output.status.success(), "{command:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[track_caller]
fn await_that(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        thread::sleep(Duration::from_millis(50));
    }
}

impl Site {
    fn new() -> Self {
        let issuer = Issuer::without_pins("");
        let machine = Machine::new();
        let root = issuer.bootstrap.split_once('#').unwrap().1;
        let socket = machine.path("node").join(bootstrap::client::SOCKET);
        let store = issuer.machine.arg("store");
        machine.write("snapkit.toml", format!("store = \"{store}#{root}\"\nagent = \"{}\"\n", socket.display()));
        machine.ok(&["key", "enroll", "--out", "node.pub"]);
        let key = TrustDir::new(&machine.home(), &machine.cache()).read_node_key(&issuer.pin).unwrap().public();
        issuer.next_root(|document| {
            document.keys.push((&key).into());
            document.keys.sort_by_key(|key| key.id);
            for role in document.roles.iter_mut().filter(|role| ["node", "writer"].contains(&role.name.as_str())) {
                role.keys.push(key.id());
                role.keys.sort();
            }
            document.writers.push(WriterRange { key: key.id(), from_seq: 0, until_seq: None });
            document.writers.sort_by_key(|range| range.key);
        });
        Self { issuer, machine, agent: None }
    }

    /// Signs a service, with the image that `image pin app` finds by these arguments.
    fn pin(&self, service: &str, image: &[&str]) {
        let key = TrustDir::new(&self.machine.home(), &self.machine.cache()).read_node_key(&self.issuer.pin).unwrap();
        let images = if image.is_empty() { "" } else { "images = [\"deploy/app.json\"]\n" };
        let config = format!(
            "store = \"{}\"\n[manifest]\nname = \"app\"\nfile = \"deploy/manifest.json\"\npins = \"deploy/pins.json\"\n\
             [pins]\nmax_head_age = \"26h\"\nmax_head_lag = 100\n{images}[pins.service]\n{service}\n\
             [[pins.trees]]\nname = \"tree\"\npath = \"{}\"\n\
             [pins.lease]\nmode = \"static\"\nback_end = \"store\"\ngroup = \"app\"\nttl_seconds = 60\n\
             members = [{{ node = \"a\", key = \"{}\" }}]\n",
            self.issuer.bootstrap,
            self.machine.arg("state"),
            key.public().id(),
        );
        let machine = &self.issuer.machine;
        machine.write("snapkit.toml", config);
        fs::create_dir_all(machine.path("deploy")).unwrap();
        if !image.is_empty() {
            let all = [&["image", "pin", "app"], image, &["--out", "deploy/app.json"]].concat();
            Run::of(surrounded(machine.command(&all))).expect(0);
        }
        machine.ok(&["pins", "edit"]);
        machine.ok(&["pins", "sign"]);
        Run::of(surrounded(machine.command(&["manifest", "generate"]))).expect(0);
    }

    fn up(&self, more: &[&str]) -> Run {
        let root = self.issuer.bootstrap.split_once('#').unwrap().1;
        let from = format!("{}#{root}", self.issuer.machine.arg("store"));
        let all = [&["--from", &from, "--manifest", "app", "node", "--json"], more].concat();
        Run::of(surrounded(self.machine.bootstrap_command(&all)))
    }

    fn start(&mut self) {
        let log = File::options().create(true).append(true).open(self.machine.path("log")).unwrap();
        let out = log.try_clone().unwrap();
        let command = self.machine.bootstrap_command(&["agent", "node"]);
        self.agent = Some(surrounded(command).stdout(out).stderr(log).spawn().unwrap());
        let client = bootstrap::client::Client::of_node(&self.machine.path("node"));
        await_that("the agent answers", || client.state().is_ok());
    }

    fn kill_agent(&mut self) {
        if let Some(mut agent) = self.agent.take() {
            agent.kill().unwrap();
            agent.wait().unwrap();
        }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.machine.path("log")).unwrap_or_default()
    }

    /// Brings it up, starts its agent, and has it lead.
    fn lead(&mut self, more: &[&str]) -> Value {
        let first = self.up(&[&["--no-agent"], more].concat()).expect(0).json("bootstrap.bring-up/1");
        if let Some(image) = first["images"].get(0) {
            assert!(image["place"].as_str().unwrap().starts_with("in the chain, record "), "{first:#}");
        }
        self.start();
        let run = self.up(&[&["--role", "leader"], more].concat());
        assert_eq!(run.code, 0, "{}\n{}\n{}", run.text(), run.stderr, self.log());
        run.json("bootstrap.bring-up/1")
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.kill_agent();
        // The guard needs some time to end what the agent left.
        let lock = self.machine.path("node/.node/agent/guard.lock");
        let free = || {
            let Ok(file) = File::open(&lock) else { return true };
            rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive).is_ok()
        };
        let begun = Instant::now();
        while !free() && begun.elapsed() < PATIENCE {
            thread::sleep(Duration::from_millis(50));
        }
    }
}

fn registry() -> Option<String> {
    let registry = std::env::var("SNAPKIT_TEST_REGISTRY").ok();
    if registry.is_none() {
        eprintln!("NOT TESTED HERE: no registry and no engine; run tests/servers/check-whole-way");
    }
    registry
}

/// Builds an image under this tag; its id.
fn build(machine: &Machine, tag: &str, content: &str) -> String {
    machine.write("context/content", content);
    fs::copy("/bin/busybox", machine.path("context/busybox")).unwrap();
    machine.write("context/Dockerfile", "FROM scratch\nCOPY busybox /busybox\nCOPY content /content\n");
    tool(&["docker", "build", "-q", "-t", tag, &machine.arg("context")])
}

#[test]
fn containers_of_an_image_that_the_chain_keeps_lead() {
    containers_lead("docker");
}

#[test]
fn containers_of_podman_lead() {
    containers_lead("podman");
}

fn containers_lead(engine: &str) {
    let Some(registry) = registry() else { return };
    let mut site = Site::new();
    let reference = format!("{registry}/whole-way-{engine}:prod");
    let id = build(&site.issuer.machine, &reference, "as it was pinned");
    tool(&["docker", "push", "-q", &reference]);
    let compose = format!(
        "services:\n  app:\n    image: \"{id}\"\n    environment: [SNAPKIT_ROLE, SNAPKIT_TERM]\n    volumes: [\"./told:/told\"]\n    \
         command: [\"/busybox\", \"sh\", \"-c\", \"echo $$SNAPKIT_ROLE $$SNAPKIT_TERM $$(/busybox cat /content) >/told/told; exec /busybox sleep 100000\"]\n"
    );
    site.issuer.machine.write("compose.yml", compose);
    site.pin(
        "driver = \"compose\"\ncompose = \"compose.yml\"\nimages = [\"app\"]",
        &[&reference, "--plain-http", "--keep"],
    );
    // What the name leads to is another image by now, in the engine and in the registry.
    tool(&["docker", "rmi", "-f", &id]);
    build(&site.issuer.machine, &reference, "swapped");
    tool(&["docker", "push", "-q", &reference]);
    let report = site.lead(&["--engine", engine]);
    let place = report["images"][0]["place"].as_str().unwrap_or_default();
    assert!(place.starts_with("in the engine"), "{report:#}");
    assert_eq!(report["running"][0]["image"], "app", "{report:#}");
    assert_eq!(report["agent"]["mode"], "leader", "{report:#}");
    let told = || fs::read_to_string(site.machine.path("node/told/told")).unwrap_or_default();
    await_that("the container says who it is", || told().ends_with('\n'));
    assert_eq!(told(), "leader 1 as it was pinned\n");
    let runs = || tool(&[engine, "ps", "-q", "--filter", &format!("ancestor={}", id.trim_start_matches("sha256:"))]);
    assert!(!runs().is_empty());
    // Nothing of it outlives the agent.
    site.kill_agent();
    await_that("the container is gone", || runs().is_empty());
}

#[test]
fn what_runs_from_a_swapped_image_is_refused() {
    let Some(registry) = registry() else { return };
    let mut site = Site::new();
    let reference = format!("{registry}/swapped:prod");
    build(&site.issuer.machine, &reference, "as it was pinned");
    tool(&["docker", "push", "-q", &reference]);
    // Hooks that start what a tag leads to, which nothing can hold to the pins before it runs.
    let host = std::env::var("DOCKER_HOST").unwrap();
    let name = format!("swapped-{}", std::process::id());
    let script = site.issuer.machine.write(
        "control",
        format!(
            "docker=\"docker -H {host}\"\ncase $1 in\n\
             start) $docker run -d --name {name} {reference} /busybox sleep 100000 ;;\n\
             stop) $docker stop {name} ;;\nkill) $docker rm -f {name} ;;\n\
             status) found=$($docker ps -aq --filter name={name}) || exit 4; [ -z \"$found\" ] && exit 3; exit 0 ;;\nesac\n"
        ),
    );
    let hooks: Vec<String> = ["start", "stop", "kill", "status"]
        .iter()
        .map(|hook| format!("{hook} = [\"/bin/sh\", \"{}\", \"{hook}\"]", script.display()))
        .collect();
    let service = format!("driver = \"hooks\"\nimages = [\"app\"]\nhooks = {{ {} }}", hooks.join(", "));
    site.pin(&service, &[&reference, "--plain-http"]);
    site.up(&["--no-agent"]).expect(0);
    build(&site.issuer.machine, &reference, "swapped");
    site.start();
    let run = site.up(&["--role", "leader"]).expect(93);
    assert!(run.stderr.contains("E_IMAGE_RUNNING"), "{}", run.stderr);
    site.kill_agent();
    await_that("the container is gone", || {
        tool(&["docker", "ps", "-aq", "--filter", &format!("name={name}")]).is_empty()
    });
}

/// Which systemd there is for tests.
fn manager(wanted: &str) -> bool {
    let is_there = std::env::var("SNAPKIT_TEST_SYSTEMD").as_deref() == Ok(wanted);
    if !is_there {
        eprintln!("NOT TESTED HERE: no systemd as {wanted}; run tests/servers/check-whole-way");
    }
    is_there
}

/// What a service says of itself, once it says it.
fn told(path: &Path) -> String {
    let read = || fs::read_to_string(path).unwrap_or_default();
    await_that("the service says who it is", || read().ends_with('\n'));
    read()
}

#[test]
fn a_unit_of_the_user_leads_and_ends_with_its_agent() {
    if !manager("user") {
        return;
    }
    let mut site = Site::new();
    let units = PathBuf::from(std::env::var("HOME").unwrap()).join(".config/systemd/user");
    fs::create_dir_all(&units).unwrap();
    let said = site.machine.path("told");
    let text = format!(
        "[Service]\nExecStart=/bin/sh -c 'echo $$SNAPKIT_ROLE $$SNAPKIT_TERM $$SNAPKIT_ARGS >{}; exec sleep 100000'\nRestart=always\n",
        said.display()
    );
    fs::write(units.join("whole-way.service"), text).unwrap();
    let ctl = |arguments: &[&str]| {
        let output = Command::new("systemctl").arg("--user").args(arguments).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    ctl(&["daemon-reload"]);
    site.pin("driver = \"systemd\"\nunit = \"whole-way.service\"\nleader_args = [\"--lead\"]", &[]);
    // Root's agents ask the machine's manager unless they are told otherwise.
    let root = site.issuer.bootstrap.split_once('#').unwrap().1;
    let from = format!("{}#{root}", site.issuer.machine.arg("store"));
    site.machine.write(
        "node/bootstrap.toml",
        format!("from = \"{from}\"\nmanifest = \"app\"\npoll_seconds = 1\n[service]\nmanager = \"user\"\n"),
    );
    site.lead(&[]);
    assert_eq!(told(&said), "leader 1 --lead\n");
    assert_eq!(ctl(&["is-active", "whole-way.service"]), "active");
    site.kill_agent();
    await_that("the unit ended", || ctl(&["is-active", "whole-way.service"]) != "active");
    fs::remove_file(&said).unwrap();
    // The next agent leads again, because that was an operator's word.
    site.start();
    assert!(told(&said).starts_with("leader "));
}

#[test]
fn installed_units_keep_an_agent_and_take_snapshots() {
    if !manager("system") {
        return;
    }
    let site = Site::new();
    let said = site.machine.path("told");
    let script = format!("echo $SNAPKIT_ROLE $$ >{}; exec sleep 100000", said.display());
    site.pin(&format!("driver = \"process\"\nargv = [\"/bin/sh\", \"-c\", '{script}']"), &[]);
    site.up(&["--no-agent"]).expect(0);
    site.machine.bootstrap(&["install", "node", "--apply"]).expect(0);
    let ctl = |arguments: &[&str]| {
        let output = Command::new("systemctl").args(arguments).output().unwrap();
        let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        (output.status.success(), said.trim().to_owned())
    };
    let agent = "snapkit-agent-app.service";
    let journal = || tool(&["journalctl", "--no-pager", "-n", "60", "-u", "snapkit-*"]);
    ctl(&["daemon-reload"]);
    let (good, text) = ctl(&["start", agent]);
    assert!(good, "{text}\n{}", journal());
    assert_eq!(ctl(&["is-active", agent]).1, "active");
    let run = site.up(&["--role", "leader"]);
    assert_eq!(run.code, 0, "{}\n{}", run.stderr, journal());
    let first = told(&said);
    assert!(first.starts_with("leader "), "{first}");
    // A snapshot under the lease, as the timer starts it.
    let (good, text) = ctl(&["start", "snapkit-snapshot-app.service"]);
    assert!(good, "{text}\n{}", journal());
    // Killed, it is started again and leads; what ran before is dead.
    let pid = |text: &str| text.trim().rsplit_once(' ').unwrap().1.to_owned();
    fs::remove_file(&said).unwrap();
    ctl(&["kill", "--kill-whom=main", "--signal=KILL", agent]);
    let second = told(&said);
    assert!(!Path::new("/proc").join(pid(&first)).exists());
    // Stopped, it ends its service in order.
    let (good, text) = ctl(&["stop", agent]);
    assert!(good, "{text}");
    assert!(!Path::new("/proc").join(pid(&second)).exists());
    assert_eq!(ctl(&["is-active", agent]).1, "inactive", "{}", journal());
}
