//! Nodes that an agent keeps: brought up from the one string, asked over their sockets, and gone when a test ends.
//!
//! [`Pair`] is a chain, and two machines whose nodes take part in its lease; what they run is what its pins say.

use std::fs::{self, File};
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::net::{TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bootstrap::client::{Client, SOCKET};
use bootstrap::surfaces::state::State;
use manifests::keys::Signer;
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use snapkit::trust::TrustDir;

use crate::group::TTL_SECONDS;
use crate::{Issuer, Machine, Run};

/// How long anything may take before a test gives up.
const LIMIT: Duration = Duration::from_secs(180);

/// A chain whose pins have a lease, and two members: `a`, which is the machine of the issuer, and `b`.
pub struct Pair {
    /// The chain, and the machine of `a`.
    pub issuer: Issuer,
    /// The machine of `b`, which has a key that the root lists, and nothing else.
    pub b: Machine,
    /// The one string, as both machines can use it.
    pub from: String,
}

/// A node directory `node` of a machine, and what this test started of it.
pub struct Kept<'a> {
    machine: &'a Machine,
    child: Option<Child>,
    variables: Vec<(&'static str, String)>,
}

impl Pair {
    /// The pins have this more, such as the service, and the lease `mode`; the first snapshot is of what `fill` puts into
    /// the tree.
    pub fn new(mode: &str, more: &str, fill: impl FnOnce(&Path)) -> Self {
        let issuer = Issuer::without_pins("");
        let b = Machine::new();
        let root = issuer.bootstrap.split_once('#').unwrap().1;
        let from = format!("{}#{root}", issuer.machine.arg("store"));
        b.ok(&["key", "enroll", "--store", &from]);
        let second = TrustDir::new(&b.home(), &b.cache()).read_node_key(&issuer.pin).unwrap().public();
        issuer.next_root(|document| {
            document.add_key(&second, "node").unwrap();
            document.add_writer(&second, 0, None).unwrap();
        });
        let kept = fs::read_to_string(issuer.machine.path("snapkit.toml")).unwrap();
        let config = format!(
            "{kept}[manifest]\nname = \"app\"\nfile = \"deploy/manifest.json\"\npins = \"deploy/pins.json\"\n\
             [pins]\nmax_head_age = \"26h\"\nmax_head_lag = 1000\n{more}\n\
             [pins.lease]\nmode = \"{mode}\"\nback_end = \"store\"\ngroup = \"app\"\nttl_seconds = {TTL_SECONDS}\n\
             members = [{{ node = \"a\", key = \"{}\" }}, {{ node = \"b\", key = \"{}\" }}]\n\
             [[pins.trees]]\nname = \"tree\"\npath = \"/srv/state\"\n",
            issuer.node_id(),
            second.id(),
        );
        issuer.machine.write("snapkit.toml", config);
        let tree = issuer.machine.path("tree");
        fs::remove_dir_all(&tree).unwrap();
        fs::create_dir(&tree).unwrap();
        fill(&tree);
        issuer.machine.ok(&["snapshot", "tree"]);
        for command in [&["pins", "edit"][..], &["pins", "sign"]] {
            issuer.machine.ok(command);
        }
        let mut generate = vec!["manifest", "generate"];
        if more.contains("[pins.needs]") {
            generate.extend(["--accept", "unset=each node has its own"]);
        }
        issuer.machine.ok(&generate);
        Self { issuer, b, from }
    }

    /// The node of `a`, which gets these variables.
    pub fn node_a(&self, variables: &[(&'static str, String)]) -> Kept<'_> {
        Kept::new(&self.issuer.machine, variables)
    }

    /// The node of `b`.
    pub fn node_b(&self, variables: &[(&'static str, String)]) -> Kept<'_> {
        Kept::new(&self.b, variables)
    }

    /// `snapkit snapshot` of the active state of `a`, which its agent allows or not.
    pub fn snapshot_of_a(&self) -> Run {
        let machine = &self.issuer.machine;
        let tree = format!("tree={}", fs::canonicalize(machine.path("node/current")).unwrap().display());
        let mut command = machine.command(&["snapshot", &tree, "--json"]);
        command.env("SNAPKIT_AGENT", machine.path("node").join(SOCKET));
        Run::of(command)
    }
}

impl<'a> Kept<'a> {
    /// The node in the directory `node` of a machine.
    pub fn new(machine: &'a Machine, variables: &[(&'static str, String)]) -> Self {
        Self { machine, child: None, variables: variables.to_vec() }
    }

    /// The node directory.
    pub fn path(&self) -> PathBuf {
        self.machine.path("node")
    }

    /// `bootstrap --from` for it.
    pub fn command(&self, from: &str, more: &[&str]) -> Command {
        let mut args =
            vec!["--progress", "none", "--from", from, "--manifest", "app", "node", "--leave-paths", "--json"];
        args.extend(more);
        let mut command = self.machine.bootstrap_command(&args);
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Runs it to its end.
    pub fn up(&self, from: &str, more: &[&str]) -> Run {
        Run::of(self.command(from, more))
    }

    /// Starts it so that it becomes the agent.
    pub fn start(&mut self, from: &str) {
        let open = |name: &str| File::options().create(true).append(true).open(self.machine.path(name)).unwrap();
        let mut command = self.command(from, &["--foreground"]);
        self.child = Some(command.stdout(open("out")).stderr(open("log")).spawn().unwrap());
    }

    /// What bring-up and agent printed.
    pub fn log(&self) -> String {
        ["out", "log", "node/.node/agent/log"]
            .map(|name| fs::read_to_string(self.machine.path(name)).unwrap_or_default())
            .concat()
    }

    /// What the agent says, if one answers.
    pub fn state(&self) -> Option<State> {
        Client::of_node(&self.path()).within(Duration::from_secs(5)).state().ok()
    }

    /// Waits until the agent's state is so.
    #[track_caller]
    pub fn wait(&self, what: &str, is_so: impl Fn(&State) -> bool) -> State {
        let end = Instant::now() + LIMIT;
        loop {
            let state = self.state();
            if let Some(state) = state.as_ref().filter(|state| is_so(state)) {
                return state.clone();
            }
            assert!(Instant::now() < end, "{what}: {state:#?}\n{}", self.log());
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// The agents of this node directory that run, with what is about to become one.
    pub fn agents(&self) -> Vec<Pid> {
        let node = self.path();
        let is_agent = |arguments: &[&[u8]]| {
            arguments.windows(2).any(|two| two[0] == b"agent" && two[1] == node.as_os_str().as_encoded_bytes())
        };
        let found: Vec<i32> = (fs::read_dir("/proc").unwrap())
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .filter(|pid| {
                let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
                is_agent(&line.split(|byte| *byte == 0).collect::<Vec<_>>())
            })
            .collect();
        // What an agent starts has its arguments until it has its own.
        let own = |pid: &&i32| parent(**pid).is_none_or(|parent| !found.contains(&parent));
        found.iter().filter(own).filter_map(|pid| Pid::from_raw(*pid)).collect()
    }

    /// Kills whatever keeps the node, as a crash would.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        for agent in self.agents() {
            let _ = kill_process(agent, Signal::KILL);
            gone(agent);
        }
    }

    /// Asks the agent that [`Self::start`] started to end, and waits for it.
    #[track_caller]
    pub fn end(&mut self) {
        let mut child = self.child.take().expect("an agent was started");
        kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
        let status = child.wait().unwrap();
        assert!(status.success(), "{status}\n{}", self.log());
    }
}

impl Drop for Kept<'_> {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Waits until a process is gone.
#[track_caller]
pub fn gone(process: Pid) {
    let end = Instant::now() + LIMIT;
    while test_kill_process(process).is_ok() && !is_zombie(process) {
        assert!(Instant::now() < end, "process {process:?} is still there");
        thread::sleep(Duration::from_millis(20));
    }
}

/// Whether it ended, and waits to be collected by a parent that may never do it.
fn is_zombie(process: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", process.as_raw_nonzero())).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('Z'))
}

/// The parent of a process that runs.
pub(crate) fn parent(pid: i32) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
}

/// A port of loopback that nobody uses, neither TCP nor UDP, from below those that a system gives to connections, which would
/// take it again before it is used.
pub fn free_port() -> u16 {
    static NEXT: LazyLock<AtomicU64> = LazyLock::new(|| RandomState::new().build_hasher().finish().into());
    loop {
        // None is given twice by this process.
        let port = 12_000 + u16::try_from(NEXT.fetch_add(1, Ordering::Relaxed) % 20_000).unwrap();
        if TcpListener::bind(("127.0.0.1", port)).is_ok() && UdpSocket::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// Waits until something is there.
#[track_caller]
pub fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + LIMIT;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "{what}");
        thread::sleep(Duration::from_millis(50));
    }
}
