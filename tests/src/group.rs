//! A lease group: a chain, and nodes on loopback that follow it and take over from each other, with real agents.
//!
//! Every node is a [`Machine`] with its own keys, brought up from the one string. The service is `tests/service/exclusive.py`,
//! which notices when two lead. What was started is killed when the group is dropped.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine as _;
use bootstrap::lease::timing::Timing;
use manifests::document::root::WriterRange;
use manifests::keys::Signer;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use snapkit::trust::TrustDir;
use tempfile::TempDir;

use crate::{Issuer, Machine, Run, kept};

/// How long a condition is waited for.
pub const PATIENCE: Duration = Duration::from_secs(180);
/// The time to live of a claim, unless a test says otherwise: a machine that is busy for a few seconds changes no leader.
pub const TTL_SECONDS: u64 = 12;
/// The interpreter of the service.
const PYTHON: &str = "/usr/bin/python3";

/// What a group is made of.
#[derive(Debug, Clone)]
pub struct Options {
    /// How many nodes; they are called `a`, `b`, ….
    pub nodes: usize,
    /// How many of them, the last ones, are no members of the lease.
    pub observers: usize,
    /// `auto` or `static`.
    pub mode: &'static str,
    /// The time to live of a claim; 5 is the least.
    pub ttl_seconds: u64,
    /// Whether followers run the service, too; else they are cold.
    pub follower_runs: bool,
    /// More lines for `[pins.service]`.
    pub service: String,
    /// More lines for each `bootstrap.toml`, behind its top level: `[hooks.…]`, `[surface]`, …. `NODE` stands for the node's
    /// name, and `SNAPKIT` for the first words of an argv that run `snapkit` as [`Member::snapshot`] does.
    pub agent: String,
    /// The store of the lease if it is not that of the chain.
    pub lease_store: Option<String>,
    /// The chain is there instead of in a directory.
    pub remote: Option<Remote>,
}

/// A store on a server, and how everybody reaches it.
#[derive(Debug, Clone)]
pub struct Remote {
    /// Its address.
    pub url: String,
    /// The variables of the issuer.
    pub issuer: Vec<(String, String)>,
    /// The variables of each node.
    pub nodes: Vec<Vec<(String, String)>>,
}

impl Default for Options {
    fn default() -> Self {
        let (service, agent) = (String::new(), String::new());
        Self {
            nodes: 3,
            observers: 0,
            mode: "auto",
            ttl_seconds: TTL_SECONDS,
            follower_runs: false,
            service,
            agent,
            lease_store: None,
            remote: None,
        }
    }
}

/// The group.
pub struct Group {
    /// Whose chain it is; its key signs pins and manifests and may write until the first fence.
    pub issuer: Issuer,
    /// The nodes.
    pub nodes: Vec<Member>,
    shared: TempDir,
    from: String,
    members: String,
}

/// A node of the group.
pub struct Member {
    /// Its name.
    pub name: String,
    /// Its machine; the node directory is `node` there.
    pub machine: Machine,
    /// Its agent, while one was started.
    pub agent: Option<Child>,
    shared: PathBuf,
}

impl Default for Group {
    fn default() -> Self {
        Self::new(Options::default())
    }
}

impl Group {
    /// The chain with everything signed, and nodes brought up from the string. No agent is started.
    pub fn new(options: Options) -> Self {
        let shared = tempfile::Builder::new().prefix("snapkit-group-").tempdir().unwrap();
        let remote = options.remote.as_ref();
        let (issuer, from) = match remote {
            None => {
                let issuer = Issuer::without_pins("");
                let from = format!("{}#{}", issuer.machine.arg("store"), fragment(&issuer));
                (issuer, from)
            }
            Some(remote) => {
                let issuer = Issuer::at(&remote.url, Machine::with(remote.issuer.clone()), "");
                let from = issuer.bootstrap.clone();
                (issuer, from)
            }
        };
        let of = |number: usize| remote.map_or_else(Vec::new, |remote| remote.nodes[number].clone());
        let nodes: Vec<Member> =
            (0..options.nodes).map(|number| Member::new(number, &from, shared.path(), of(number))).collect();
        let keys: Vec<_> = nodes.iter().map(|node| node.key(&issuer)).collect();
        if remote.is_some() {
            issuer.add_nodes(&nodes.iter().map(|node| node.machine.path("node.pub")).collect::<Vec<_>>());
        } else {
            issuer.next_root(|document| {
                document.keys.extend(keys.iter().map(Into::into));
                document.keys.sort_by_key(|key| key.id);
                for role in document.roles.iter_mut().filter(|role| ["node", "writer"].contains(&role.name.as_str())) {
                    role.keys.extend(keys.iter().map(manifests::keys::PublicKey::id));
                    role.keys.sort();
                }
                let may =
                    |key: &manifests::keys::PublicKey| WriterRange { key: key.id(), from_seq: 0, until_seq: None };
                document.writers.extend(keys.iter().map(may));
                document.writers.sort_by_key(|range| range.key);
            });
        }
        let mut group = Self { issuer, nodes, shared, from, members: String::new() };
        let members = group.nodes.iter().zip(keys).take(options.nodes - options.observers);
        let members = members.map(|(node, key)| format!("{{ node = \"{}\", key = \"{}\" }}", node.name, key.id()));
        group.members = members.collect::<Vec<_>>().join(", ");
        group.pin(&options);
        for node in &group.nodes {
            let agent = options.agent.replace("NODE", &node.name).replace("SNAPKIT", &node.snapkit());
            let from = group.from();
            let text = format!(
                "from = \"{from}\"\nmanifest = \"app\"\nnode = \"{}\"\npoll_seconds = 1\nmax_lag = 2\n{agent}",
                node.name
            );
            node.machine.write("node/bootstrap.toml", text);
            node.machine
                .bootstrap(&["--from", &from, "--manifest", "app", "node", "--leave-paths", "--no-agent"])
                .expect(0);
        }
        group
    }

    /// Signs pins as the options say, and a manifest with them; the nodes and their number stay as they are.
    pub fn pin(&self, options: &Options) {
        let members = &self.members;
        let [script, asks] = ["exclusive.py", "ask.py"]
            .map(|name| Path::new(env!("CARGO_MANIFEST_DIR")).join("service").join(name).display().to_string());
        let shared = self.shared.path().display();
        let ask = |path: &str| {
            format!(
                "{{ kind = \"exec\", argv = [\"{PYTHON}\", \"-SE\", \"{asks}\", \"{shared}\", \"{path}\"], timeout_seconds = 5 }}"
            )
        };
        let follower = if options.follower_runs { "follower_args = [\"--follow\"]\n" } else { "" };
        let store = options.lease_store.as_ref().map_or_else(String::new, |store| format!("store = \"{store}\"\n"));
        let config = format!(
            "store = \"{}\"\n\
             [manifest]\nname = \"app\"\nfile = \"deploy/manifest.json\"\npins = \"deploy/pins.json\"\n\
             [pins]\nmax_head_age = \"26h\"\nmax_head_lag = 100\n\
             [pins.service]\ndriver = \"process\"\nargv = [\"{PYTHON}\", \"{script}\", \"{shared}\"]\n\
             leader_args = [\"--lead\"]\n{follower}exclusive = [\"the-lock\"]\nready = {}\nrole = {}\n{}\n\
             [[pins.trees]]\nname = \"tree\"\npath = \"/srv/state\"\n\
             [pins.lease]\nmode = \"{}\"\nback_end = \"store\"\ngroup = \"app\"\nttl_seconds = {}\n{store}members = [{members}]\n",
            self.issuer.bootstrap,
            ask("/ready"),
            ask("/role"),
            options.service,
            options.mode,
            options.ttl_seconds,
        );
        self.issuer.machine.write("snapkit.toml", config);
        for command in [&["pins", "edit"][..], &["pins", "sign"], &["manifest", "generate"]] {
            self.issuer.machine.ok(command);
        }
    }

    /// The one string, from everywhere on this machine.
    pub fn from(&self) -> String {
        self.from.clone()
    }

    /// A file that the services of all nodes see.
    pub fn shared(&self, name: &str) -> PathBuf {
        self.shared.path().join(name)
    }

    /// Starts every agent that does not run.
    pub fn start(&mut self) {
        for node in &mut self.nodes {
            node.start();
        }
    }

    /// Starts every agent and waits for a leader.
    #[track_caller]
    pub fn lead(&mut self) -> usize {
        self.start();
        self.leader(&[])
    }

    /// Starts the agent of one node first, so that it is the one that leads; then the others.
    #[track_caller]
    pub fn lead_by(&mut self, number: usize) {
        self.nodes[number].start();
        self.nodes[number].wait_mode("leader");
        self.start();
        for (other, node) in self.nodes.iter().enumerate() {
            if other != number {
                node.wait("knows who leads", |state| state["holder"]["node"] == self.nodes[number].name.as_str());
            }
        }
    }

    /// Waits until a node other than these leads, and its service serves.
    #[track_caller]
    pub fn leader(&self, but: &[usize]) -> usize {
        let end = Instant::now() + PATIENCE;
        loop {
            for (number, node) in self.nodes.iter().enumerate().filter(|(number, _)| !but.contains(number)) {
                let state = node.state();
                if state.is_some_and(|state| state["mode"] == "leader" && state["service"]["ready"] == true) {
                    return number;
                }
            }
            assert!(Instant::now() < end, "nobody leads\n{}", self.story());
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// The entries of the lease log, in order; those that are none are `null`.
    pub fn lease_log(&self) -> Vec<Value> {
        let mut files: Vec<PathBuf> = (fs::read_dir(self.issuer.machine.path("store/lease/app")).unwrap())
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|ending| ending == "json"))
            .collect();
        files.sort();
        files.iter().map(|file| entry(file).unwrap_or_default()).collect()
    }

    /// What the service of the leader wrote, on all nodes, in its true order.
    pub fn writes(&self) -> Vec<Value> {
        lines(&self.shared("writes"))
    }

    /// Asserts that there were never two leaders: the lock was free for each, and no write of a term follows one of a later term.
    #[track_caller]
    pub fn no_conflicts(&self) {
        let conflicts = lines(&self.shared("conflicts"));
        assert!(conflicts.is_empty(), "{conflicts:#?}\n{}", self.story());
        let terms: Vec<u64> = self.writes().iter().map(|line| line["term"].as_u64().unwrap()).collect();
        assert!(terms.is_sorted(), "writes of an older term after those of a newer one: {terms:?}\n{}", self.story());
        for node in &self.nodes {
            if let Some(state) = node.state() {
                assert_eq!(state["conflicts"], 0, "{state:#}\n{}", self.story());
            }
        }
    }

    /// What every agent said, for whoever looks for the cause.
    pub fn story(&self) -> String {
        let of = |node: &Member| format!("== {}\n{}\n", node.name, node.log());
        self.nodes.iter().map(of).collect()
    }
}

impl Member {
    fn new(number: usize, from: &str, shared: &Path, variables: Vec<(String, String)>) -> Self {
        let machine = Machine::with(variables);
        let socket = machine.path("node").join(bootstrap::client::SOCKET);
        let config = format!("store = \"{from}\"\nagent = \"{}\"\n", socket.display());
        machine.write("snapkit.toml", config);
        machine.ok(&["key", "enroll", "--out", "node.pub"]);
        let name = char::from(b'a' + u8::try_from(number).unwrap()).to_string();
        Self { name, machine, agent: None, shared: shared.to_owned() }
    }

    fn key(&self, issuer: &Issuer) -> manifests::keys::PublicKey {
        let trust = TrustDir::new(&self.machine.home(), &self.machine.cache());
        trust.read_node_key(&issuer.pin).unwrap().public()
    }

    /// The command that is its agent.
    pub fn command(&self) -> Command {
        self.machine.bootstrap_command(&["agent", "node", "--json"])
    }

    /// Starts its agent, unless one runs.
    pub fn start(&mut self) {
        if self.agent.is_some() {
            return;
        }
        let log = File::options().create(true).append(true).open(self.machine.path("log")).unwrap();
        let out = File::create(self.machine.path("out")).unwrap();
        self.agent = Some(self.command().stdout(out).stderr(log).spawn().unwrap());
    }

    /// What its agents and services said.
    pub fn log(&self) -> String {
        fs::read_to_string(self.machine.path("log")).unwrap_or_default()
    }

    /// A file of the test for its service: `not-ready`, `ignores-term`, `quiet`.
    pub fn file(&self, name: &str) -> PathBuf {
        self.shared.join(format!("{}.{name}", self.name))
    }

    /// Status and body of an answer of its agent over the socket.
    pub fn ask(&self, method: &str, path: &str) -> Option<(u16, String)> {
        let mut socket = UnixStream::connect(self.machine.path("node").join(bootstrap::client::SOCKET)).ok()?;
        socket.set_read_timeout(Some(Duration::from_secs(15))).ok()?;
        let request =
            format!("{method} {path} HTTP/1.1\r\nhost: agent\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
        socket.write_all(request.as_bytes()).ok()?;
        answer(socket)
    }

    /// What its agent shows; `None` while none answers.
    pub fn state(&self) -> Option<Value> {
        serde_json::from_str(&self.ask("GET", "/v1/state")?.1).ok()
    }

    /// Waits until its agent shows something.
    #[track_caller]
    pub fn wait(&self, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        let end = Instant::now() + PATIENCE;
        loop {
            let state = self.state();
            if let Some(state) = state.as_ref().filter(|state| is_so(state)) {
                return state.clone();
            }
            assert!(Instant::now() < end, "{}: {what}: {state:#?}\n{}", self.name, self.log());
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits for a mode.
    #[track_caller]
    pub fn wait_mode(&self, mode: &str) -> Value {
        self.wait(mode, |state| state["mode"] == mode)
    }

    /// Waits until it stands by close behind: follower or candidate, with nothing to do.
    #[track_caller]
    pub fn wait_standing_by(&self) -> Value {
        self.wait("stands by", |state| state["role"] == "standby" && state["chain"]["lag"] == 0)
    }

    /// `bootstrap REQUEST node --reason test`.
    pub fn request(&self, request: &str) -> Run {
        self.machine.bootstrap(&[request, "node", "--reason", "test"])
    }

    /// The words of [`Options::agent`] for `SNAPKIT`, quoted and with commas.
    fn snapkit(&self) -> String {
        let command = self.machine.command::<&str>(&[]);
        let variables = command.get_envs().filter_map(|(name, value)| Some((name.to_str()?, value?.to_str()?)));
        let variables = variables.map(|(name, value)| format!("{name}={value}"));
        let words = ["/usr/bin/env".to_owned(), "-C".to_owned(), self.machine.arg("")].into_iter();
        let words = words.chain(variables).chain([crate::binary::snapkit().display().to_string()]);
        words.map(|word| format!("'{word}'")).collect::<Vec<_>>().join(", ")
    }

    /// `snapkit snapshot` of its active state, under its lease.
    pub fn snapshot(&self) -> Run {
        let state = format!("tree={}", self.machine.arg("node/current"));
        self.machine.run(&["snapshot", &state, "--json"])
    }

    /// What its running service answers; `None` when nothing answers with 200.
    pub fn service(&self, path: &str) -> Option<String> {
        let port: u16 = fs::read_to_string(self.file("port")).ok()?.parse().ok()?;
        let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
        stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).ok()?;
        answer(stream).filter(|(status, _)| *status == 200).map(|(_, body)| body)
    }

    /// The process of its running service.
    pub fn service_pid(&self) -> Option<Pid> {
        let instance: Value = serde_json::from_str(&self.service("/instance")?).ok()?;
        Pid::from_raw(instance["pid"].as_i64()?.try_into().ok()?)
    }

    /// The lines of its active state.
    pub fn lines(&self) -> Vec<Value> {
        lines(&self.machine.path("node/current/lines"))
    }

    /// The process of its agent.
    pub fn agent_pid(&self) -> Pid {
        Pid::from_child(self.agent.as_ref().expect("an agent was started"))
    }

    /// The guard of its service: the one child of the agent that is the same program.
    pub fn guard_pid(&self) -> Option<Pid> {
        let agent = self.agent_pid().as_raw_nonzero().get();
        children(agent)
            .into_iter()
            .find(|child| {
                let line = fs::read(format!("/proc/{child}/cmdline")).unwrap_or_default();
                line.split(|byte| *byte == 0).nth(1) == Some(b"guard")
            })
            .and_then(Pid::from_raw)
    }

    /// Kills its agent with SIGKILL, and takes it as gone.
    pub fn kill_agent(&mut self) {
        if let Some(mut agent) = self.agent.take() {
            let _ = agent.kill();
            let _ = agent.wait();
        }
    }

    /// Ends its agent in order and gives what it said last.
    #[track_caller]
    pub fn end(&mut self) -> Value {
        let mut agent = self.agent.take().expect("an agent was started");
        kill_process(Pid::from_child(&agent), Signal::TERM).unwrap();
        let status = agent.wait().unwrap();
        assert!(status.success(), "{status}\n{}", self.log());
        serde_json::from_str(&fs::read_to_string(self.machine.path("out")).unwrap()).unwrap()
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        // The guard kills the service of an agent that is gone, also of one that was stopped.
        let pids = self.agent.is_some().then(|| [self.guard_pid(), self.service_pid()]);
        self.kill_agent();
        for pid in pids.into_iter().flatten().flatten() {
            let _ = kill_process(pid, Signal::CONT);
        }
    }
}

/// The longest that a takeover takes in a group of [`TTL_SECONDS`].
pub fn longest_takeover() -> Duration {
    Timing::new(Duration::from_secs(TTL_SECONDS)).worst_case()
}

/// What names the first root, behind the `#` of the one string.
fn fragment(issuer: &Issuer) -> String {
    issuer.bootstrap.split_once('#').unwrap().1.to_owned()
}

fn entry(file: &Path) -> Option<Value> {
    let envelope: Value = serde_json::from_slice(&fs::read(file).ok()?).ok()?;
    let payload = base64::engine::general_purpose::STANDARD.decode(envelope["payload"].as_str()?).ok()?;
    serde_json::from_slice(&payload).ok()
}

fn lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap_or_default();
    // The last one may be on its way.
    text.split_inclusive('\n')
        .filter(|line| line.ends_with('\n'))
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn answer(mut stream: impl Read) -> Option<(u16, String)> {
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
}

fn children(of: i32) -> Vec<i32> {
    let pids = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.filter(|pid| kept::parent(*pid) == Some(of)).collect()
}
