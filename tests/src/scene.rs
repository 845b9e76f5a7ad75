//! A fleet to move leads in: a [`Group`] whose agents answer on loopback, an ingress in front of it, and its inventory.
//!
//! The ingress leads each connection to the first upstream of its configuration that accepts one, and reads that file when it
//! is reloaded; while the file `ingress/stuck` is there, until it is reloaded, it tries the first one alone. Followers are cold,
//! so that only a leader accepts connections.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::group::{Group, Options, PATIENCE};
use crate::kept::free_port;
use crate::{Run, binary};

/// A group with an ingress and an inventory.
pub struct Scene {
    /// The group.
    pub group: Group,
    /// Where services listen.
    pub services: Vec<SocketAddr>,
    /// Where clients connect.
    pub ingress: SocketAddr,
}

fn free() -> SocketAddr {
    ([127, 0, 0, 1], free_port()).into()
}

impl Scene {
    /// The group with everything around it; no agent is started.
    pub fn new(options: Options) -> Self {
        let save =
            "[hooks]\nsave = { argv = [SNAPKIT, 'snapshot', 'tree=node/current', '--json'], timeout_seconds = 60 }\n";
        let agent = format!("{}{save}", options.agent);
        let group = Group::new(Options { agent, ..options });
        let mut services = Vec::new();
        let mut nodes = String::new();
        for (number, node) in group.nodes.iter().enumerate() {
            let (agent, service) = (free(), free());
            let file = node.machine.path("node/bootstrap.toml");
            let text = fs::read_to_string(&file).unwrap();
            fs::write(&file, format!("{text}\n[surface]\nlisten = \"{agent}\"\n")).unwrap();
            fs::write(node.file("listen"), service.port().to_string()).unwrap();
            let preferred = if number == 0 { "leader" } else { "follower" };
            nodes += &format!(
                "[[node]]\nname = \"{}\"\npreferred = \"{preferred}\"\nsurface = \"http://{agent}/\"\n\
                 service = \"http://{service}/\"\ndirectory = \"{}\"\nprogram = \"{}\"\nreach = []\n",
                node.name,
                node.machine.arg("node"),
                binary::bootstrap().display(),
            );
            services.push(service);
        }
        let machine = &group.issuer.machine;
        let upstreams: String = services.iter().map(|address| format!("    server {address};\n")).collect();
        let config = machine.write("ingress/app.conf", format!("upstream app {{\n{upstreams}}}\n"));
        let loaded = Arc::new(Mutex::new(services.clone()));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let ingress = listener.local_addr().unwrap();
        let seen = Arc::clone(&loaded);
        let loading = machine.path("ingress/reload");
        let (from, stuck) = (config.clone(), machine.path("ingress/stuck"));
        thread::spawn(move || {
            for client in listener.incoming().filter_map(Result::ok) {
                // Whoever reloads removes the old mark by writing it; the next connection is by the new file.
                if fs::remove_file(&loading).is_ok() {
                    *seen.lock().unwrap() = servers(&fs::read_to_string(&from).unwrap_or_default());
                    let _ = fs::remove_file(&stuck);
                }
                let mut upstreams = seen.lock().unwrap().clone();
                upstreams.truncate(if stuck.exists() { 1 } else { usize::MAX });
                thread::spawn(move || drop(forward(client, &upstreams)));
            }
        });
        let from = group.from();
        let config = config.display();
        let inventory = format!(
            "name = \"loopback\"\nfrom = \"{from}\"\nmanifest = \"app\"\n\
             [thresholds]\nprobe_seconds = 5\nmax_failover_seconds = 120\n\
             [drill]\ninterval_ms = 1500\n\
             [work]\npath = \"/work\"\npointer = \"/active\"\n\
             [ingress]\nurl = \"http://{ingress}/\"\nreach = []\nprogram = \"{}\"\nconfig = \"{config}\"\n\
             validate = [\"grep\", \"-q\", \"upstream app\", \"{config}\"]\n\
             reload = [\"touch\", \"{}\"]\n\
             [ingress.identity]\npath = \"/instance\"\n{nodes}",
            binary::bootstrap().display(),
            machine.arg("ingress/reload"),
        );
        machine.write("fleet.toml", inventory);
        Self { group, services, ingress }
    }

    /// The same, with every agent started; the first node leads and everybody stands by close behind.
    #[track_caller]
    pub fn led(options: Options) -> Self {
        let mut scene = Self::new(options);
        scene.group.lead_by(0);
        scene.settle(&[]);
        scene
    }

    /// Waits until everybody stands by but who leads and `but`.
    #[track_caller]
    pub fn settle(&self, but: &[usize]) -> usize {
        let leader = self.group.leader(but);
        for (number, node) in self.group.nodes.iter().enumerate() {
            if number != leader && !but.contains(&number) {
                node.wait("is a candidate close behind", |state| {
                    state["mode"] == "candidate" && state["chain"]["lag"] == 0
                });
            }
        }
        leader
    }

    /// `bootstrap COMMAND`, where the orchestrator runs.
    pub fn bootstrap(&self, args: &[&str]) -> Run {
        Run::of(self.command(args))
    }

    /// The same, not started.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = self.group.issuer.machine.bootstrap_command(args);
        command.env("SNAPKIT_INVENTORY", self.group.issuer.machine.path("fleet.toml"));
        command
    }

    /// A dry run that passes, and its id.
    #[track_caller]
    pub fn rehearsed(&self, scenario: &str, more: &[&str]) -> String {
        let args = [&["failover", scenario, "--json"], more].concat();
        let ran = self.bootstrap(&args).expect(0).json("bootstrap.failover/1");
        assert_eq!((&ran["verdict"], &ran["mode"]), (&"passed".into(), &"simulated".into()), "{ran:#}");
        ran["id"].as_str().unwrap().to_owned()
    }

    /// A dry run, and then the same for real.
    #[track_caller]
    pub fn execute(&self, scenario: &str, more: &[&str]) -> Run {
        let id = self.rehearsed(scenario, more);
        let args =
            [&["failover", scenario, "--execute", "--confirm", &id, "--reason", "test", "--json"], more].concat();
        self.bootstrap(&args)
    }

    /// The same, as a process that can be killed.
    #[track_caller]
    pub fn begin(&self, scenario: &str, more: &[&str]) -> Child {
        let id = self.rehearsed(scenario, more);
        let args =
            [&["failover", scenario, "--execute", "--confirm", &id, "--reason", "test", "--json"], more].concat();
        let mut command = self.command(&args);
        command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap()
    }

    /// The newest run that was executed, with its plan and its timeline so far.
    fn newest(&self) -> Option<(PathBuf, Value, String)> {
        let runs = fs::read_dir(self.runs()).ok()?.map(|entry| entry.unwrap().path());
        let executed = runs.filter_map(|run| {
            let file = run.join("plan.json");
            let plan: Value = serde_json::from_str(&fs::read_to_string(&file).ok()?).ok()?;
            let written = fs::metadata(&file).and_then(|file| file.modified()).ok()?;
            (plan["mode"] == "execute").then_some((written, run, plan))
        });
        let (_, run, plan) = executed.max_by_key(|(written, ..)| *written)?;
        let timeline = fs::read_to_string(run.join("timeline.jsonl")).unwrap_or_default();
        Some((run, plan, timeline))
    }

    /// Waits until the run that is under way has begun a step; `false` if it ended before that.
    #[track_caller]
    fn wait_begun(&self, child: &mut Child, before: Option<&PathBuf>, step: &str) -> bool {
        let begun = format!("\"step\":\"{step}\",\"kind\":\"step-begin\"");
        let end = Instant::now() + PATIENCE;
        loop {
            let newest = self.newest().filter(|(run, ..)| Some(run) != before);
            if newest.is_some_and(|(.., timeline)| timeline.contains(&begun)) {
                return true;
            }
            if child.try_wait().unwrap().is_some() {
                return false;
            }
            assert!(Instant::now() < end, "{step} does not begin");
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// The same, killed as soon as a step has begun; `false` if it ended before that.
    #[track_caller]
    pub fn killed_at(&self, scenario: &str, step: &str) -> bool {
        let before = self.newest().map(|(run, ..)| run);
        let mut child = self.begin(scenario, &[]);
        if !self.wait_begun(&mut child, before.as_ref(), step) {
            return false;
        }
        let _ = child.kill();
        child.wait().unwrap().signal() == Some(9)
    }

    /// A scenario that is executed, with its orchestrator killed at every step and gone on with by the next one; what the last
    /// one says, and how often one was killed.
    #[track_caller]
    pub fn killed_at_every_step(&self, scenario: &str, more: &[&str]) -> (Value, usize) {
        let before = self.newest().map(|(run, ..)| run);
        let mut child = self.begin(scenario, more);
        assert!(self.wait_begun(&mut child, before.as_ref(), "facts-before"), "it ended at once");
        let (run, plan, _) = self.newest().unwrap();
        let steps = ["steps", "always"].map(|list| plan[list].as_array().unwrap().clone()).concat();
        let ended = |output: Output| {
            let run = Run::from_output(format!("failover {scenario} --resume, of {}", run.display()), output);
            run.expect(0).json("bootstrap.failover/1")
        };
        let mut killed = 0;
        for step in steps.iter().map(|step| step["id"].as_str().unwrap()) {
            // A step that was left out has no begin that is worth waiting for: the next one has.
            if !self.wait_begun(&mut child, before.as_ref(), step) {
                break;
            }
            let _ = child.kill();
            let output = child.wait_with_output().unwrap();
            if output.status.signal() != Some(9) {
                // It was faster, and has ended.
                return (ended(output), killed);
            }
            killed += 1;
            let mut command = self.command(&["failover", scenario, "--resume", "--json"]);
            child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        }
        (ended(child.wait_with_output().unwrap()), killed)
    }

    /// A scenario of an operator's own: a built-in one, changed.
    pub fn scenario(&self, name: &str, changes: &[(&str, &str)]) -> String {
        let mut text = bootstrap::scenario::builtin::text(name).unwrap().to_owned();
        for (from, to) in changes {
            assert!(text.contains(from), "{from}");
            text = text.replace(from, to);
        }
        self.group.issuer.machine.write("own.toml", text).display().to_string()
    }

    /// The directory of runs.
    pub fn runs(&self) -> PathBuf {
        self.group.issuer.machine.path("drills")
    }

    /// What answers at the ingress; `None` when nothing does.
    pub fn answers(&self) -> Option<Value> {
        let mut stream = TcpStream::connect(self.ingress).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
        stream.write_all(b"GET /instance HTTP/1.0\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        serde_json::from_str(answer.split_once("\r\n\r\n")?.1).ok()
    }
}

/// The addresses in a configuration, in order.
fn servers(text: &str) -> Vec<SocketAddr> {
    let address = |line: &str| line.trim().strip_prefix("server ")?.trim_end_matches(';').parse().ok();
    text.lines().filter_map(address).collect()
}

fn forward(mut client: TcpStream, upstreams: &[SocketAddr]) -> io::Result<()> {
    let found = upstreams.iter().find_map(|address| TcpStream::connect_timeout(address, Duration::from_secs(1)).ok());
    let Some(mut upstream) = found else {
        let _ = client.read(&mut [0; 4096]);
        client.write_all(b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")?;
        return client.shutdown(Shutdown::Both);
    };
    let (mut from, mut into) = (client.try_clone()?, upstream.try_clone()?);
    let there = thread::spawn(move || {
        let _ = io::copy(&mut from, &mut into);
        let _ = into.shutdown(Shutdown::Write);
    });
    let _ = io::copy(&mut upstream, &mut client);
    let _ = client.shutdown(Shutdown::Both);
    let _ = there.join();
    Ok(())
}
