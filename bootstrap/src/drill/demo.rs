//! The demo's world: a chain in a directory, keys, pins and a manifest, three machines on loopback, and an ingress.
//!
//! Everything lies in one new directory, and everything is made by the commands that a user would type, each with keys, caches
//! and configuration of its machine. What runs is ended when the world is dropped. Layer: the edge.

mod ports;
mod text;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::fault::{self, Kind};
use crate::client::Client;
use crate::command::{self, Finished, Leftovers};

/// The nodes.
pub const NODES: [&str; 3] = ["a", "b", "c"];
/// How long one command may take.
const LIMIT: Duration = Duration::from_secs(180);
/// How long the first leader may take.
const PATIENCE: Duration = Duration::from_secs(90);
/// How often is looked whether something is so.
const LOOK: Duration = Duration::from_millis(100);

/// How the world is made.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The new directory.
    pub place: PathBuf,
    /// The program that is `bootstrap`, and `snapkit` by its other name.
    pub program: PathBuf,
    /// The time to live of a claim in seconds; 5 is the least.
    pub ttl_seconds: u64,
    /// How many slots the manifest may be behind the head.
    pub max_head_lag: u64,
    /// More tables for the pins.
    pub needs: String,
    /// After how many seconds a drill without its orchestrator is taken back.
    pub dead_man_seconds: u64,
    /// More lines at the end of each node's `bootstrap.toml`, above its tables.
    pub agent: String,
}

impl Settings {
    /// A world in this new directory, played by this program.
    pub fn new(place: PathBuf, program: PathBuf) -> Self {
        Self {
            place,
            program,
            ttl_seconds: 5,
            max_head_lag: 10,
            needs: String::new(),
            dead_man_seconds: 60,
            agent: String::new(),
        }
    }
}

/// Something that is told while the world is made.
#[derive(Debug, Clone, Copy)]
pub enum Told<'t> {
    /// What comes next, in a sentence.
    Next(&'t str),
    /// A command, as one would type it.
    Command(&'t str),
    /// What came of it.
    Result(&'t str),
}

/// Why the world could not be made, or is not what it should be.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// A command did not end well.
    #[error("`{command}`: {why}")]
    Command {
        /// The command.
        command: String,
        /// How it ended, and the end of what it said.
        why: String,
    },
    /// Something did not come in time.
    #[error("{0}")]
    Late(String),
    /// The machine failed.
    #[error("cannot {what}")]
    Io {
        /// What was to be done.
        what: String,
        /// What the system said.
        source: io::Error,
    },
}

fn failed(what: impl Into<String>) -> impl FnOnce(io::Error) -> DemoError {
    move |source| DemoError::Io { what: what.into(), source }
}

/// The world. What it started ends with it.
pub struct World {
    /// Its directory.
    pub place: PathBuf,
    /// The one string.
    pub string: String,
    /// Ports on loopback.
    pub ports: ports::Ports,
    program: PathBuf,
    settings: Settings,
    ingress: Option<Child>,
    tell: Box<dyn FnMut(Told<'_>) + Send>,
}

impl World {
    /// Makes a world: a chain with two snapshots, keys of three machines in its root, signed pins, and a manifest. Nothing runs.
    ///
    /// # Errors
    /// [`DemoError`]
    pub fn make(settings: Settings, tell: Box<dyn FnMut(Told<'_>) + Send>) -> Result<Self, DemoError> {
        let place = std::path::absolute(&settings.place).map_err(failed("tell where this is"))?;
        fs::create_dir(&place).map_err(failed(format!("create {}", place.display())))?;
        let mut world = Self {
            string: String::new(),
            ports: ports::Ports::free().map_err(failed("find free ports"))?,
            program: settings.program.clone(),
            ingress: None,
            place,
            settings,
            tell,
        };
        world.lay_out()?;
        world.chain()?;
        world.keys()?;
        world.sign()?;
        Ok(world)
    }

    /// A path in the world.
    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.place.join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// The node directory of a node.
    pub fn node(&self, name: &str) -> PathBuf {
        self.place.join(name).join("node")
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) -> Result<(), DemoError> {
        fs::write(self.path(name), text).map_err(failed(format!("write {name}")))
    }

    fn lay_out(&self) -> Result<(), DemoError> {
        for directory in ["bin", "desk", "desk/state", "queue", "a", "b", "c"] {
            fs::create_dir(self.path(directory)).map_err(failed(format!("create {directory}")))?;
        }
        for name in ["snapkit", "bootstrap"] {
            std::os::unix::fs::symlink(&self.program, self.path("bin").join(name)).map_err(failed("make a link"))?;
        }
        self.write("desk/snapkit.toml", "")?;
        self.write("desk/state/app.conf", "greeting = \"hello\"\n")?;
        self.write("desk/state/lines", "{\"n\":1,\"value\":\"the first event\"}\n")
    }

    fn chain(&mut self) -> Result<(), DemoError> {
        self.next("A chain in a directory, with keys of its own, and two snapshots of a small state.");
        let made = self.desk(&["init", &self.text("store"), "--node", "desk"])?;
        self.string = made["bootstrap"].as_str().unwrap_or_default().to_owned();
        let result = format!("the one string: {}", self.string);
        self.result(&result);
        self.write("desk/snapkit.toml", format!("store = \"{}\"\n", self.string))?;
        let state = format!("state={}", self.text("desk/state"));
        let first = self.desk(&["snapshot", &state, "--node", "desk"])?;
        self.result(&format!("snapshot {}", first["name"].as_str().unwrap_or("?")));
        self.write(
            "desk/state/lines",
            "{\"n\":1,\"value\":\"the first event\"}\n{\"n\":2,\"value\":\"the second\"}\n",
        )?;
        let second = self.desk(&["snapshot", &state, "--node", "desk"])?;
        self.result(&format!("snapshot {}", second["name"].as_str().unwrap_or("?")));
        Ok(())
    }

    fn keys(&mut self) -> Result<(), DemoError> {
        self.next("A key for each of three machines, which stays there; the owner puts them into the root.");
        let string = self.string.clone();
        for node in NODES {
            self.write(&format!("{node}/snapkit.toml"), text::machine(&string, &self.node(node)))?;
            self.snapkit(node, &["key", "enroll", "--out", "node.pub"])?;
        }
        for node in NODES {
            let file = self.text(&format!("{node}/node.pub"));
            self.desk(&["root", "add-key", &file, "--role", "writer", "--role", "node"])?;
        }
        let owner = self.owner_key()?;
        self.desk(&["root", "sign", "root-2.json", "--signer", &owner])?;
        self.desk(&["root", "publish", "root-2.json"])?;
        Ok(())
    }

    fn owner_key(&self) -> Result<String, DemoError> {
        let keys = self.path("desk/keys");
        let found =
            find(&keys, "owner.key").ok_or_else(|| DemoError::Late(format!("no owner.key in {}", keys.display())))?;
        Ok(found.display().to_string())
    }

    fn sign(&mut self) -> Result<(), DemoError> {
        self.next("Pins: what runs, who may lead, what must be there. Signed by the owner, and named by a manifest.");
        let mut members = BTreeMap::new();
        for node in NODES {
            let shown = self.snapkit(node, &["key", "show", "node.pub"])?;
            members.insert(node, shown["keys"][0]["key_id"].as_str().unwrap_or_default().to_owned());
        }
        let config = text::desk(&text::Desk {
            string: &self.string,
            program: &self.text("bin/bootstrap"),
            queue: &self.text("queue"),
            at: &self.ports.service,
            ttl_seconds: self.settings.ttl_seconds,
            max_head_lag: self.settings.max_head_lag,
            members: &members,
            needs: &self.settings.needs,
        });
        self.write("desk/snapkit.toml", config)?;
        self.desk(&["pins", "edit"])?;
        self.desk(&["pins", "sign"])?;
        self.desk(&["manifest", "generate"])?;
        Ok(())
    }

    /// Writes the agent's file of a node that is not up yet.
    ///
    /// # Errors
    /// [`DemoError`]
    pub fn prepare(&self, node: &str) -> Result<(), DemoError> {
        let directory = self.node(node);
        fs::create_dir_all(&directory).map_err(failed(format!("create {}", directory.display())))?;
        let words = ["/usr/bin/env", "-i"].map(str::to_owned).into_iter();
        let variables = self.environment(node).into_iter().map(|(name, value)| format!("{name}={value}"));
        let state = format!("state={}/current", directory.display());
        let snapshot = [self.text("bin/snapkit"), "snapshot".to_owned(), state, "--json".to_owned()];
        let save: Vec<String> = words.chain(variables).chain(snapshot).collect();
        let agent = text::agent(&text::Agent {
            save: &save,
            string: &self.string,
            node,
            listen: self.ports.agent[node],
            ingress: self.ports.ingress,
            more: &self.settings.agent,
        });
        fs::write(directory.join("bootstrap.toml"), agent).map_err(failed("write bootstrap.toml"))
    }

    /// Brings up a node from the one string.
    ///
    /// # Errors
    /// [`DemoError`]
    pub fn bring_up(&mut self, node: &str) -> Result<Value, DemoError> {
        self.prepare(node)?;
        let string = self.string.clone();
        self.bootstrap(node, &["--from", &string, "--manifest", "app", "node", "--leave-paths"])
    }

    /// Starts the ingress.
    ///
    /// # Errors
    /// [`DemoError`]
    pub fn start_ingress(&mut self) -> Result<(), DemoError> {
        let listen = self.ports.ingress.to_string();
        let over = self.text("ingress-override");
        let upstreams: Vec<String> = NODES
            .iter()
            .map(|node| format!("{node}=http://{},{}", self.ports.agent[*node], self.ports.service[*node]))
            .collect();
        let mut args = vec!["drill", "demo-ingress", "--listen", &listen, "--over", &over];
        upstreams.iter().for_each(|upstream| args.extend(["--upstream", upstream]));
        let shown = shown("bootstrap", &args);
        (self.tell)(Told::Command(&shown));
        let log = fs::File::create(self.path("ingress.log")).map_err(failed("write ingress.log"))?;
        let mut command = Command::new(&self.program);
        command.args(&args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).process_group(0);
        self.ingress = Some(command.spawn().map_err(failed("start the ingress"))?);
        Ok(())
    }

    /// Waits until a node leads.
    ///
    /// # Errors
    /// [`DemoError::Late`]
    pub fn wait_leads(&self, node: &str) -> Result<(), DemoError> {
        let client = Client::of_node(&self.node(node));
        let end = Instant::now() + PATIENCE;
        loop {
            let state = client.state();
            if state.as_ref().is_ok_and(|state| state.leader.ok) {
                return Ok(());
            }
            if Instant::now() >= end {
                let found = state.map_or_else(|error| error.to_string(), |state| state.leader.why);
                return Err(DemoError::Late(format!("{node} does not lead after {} s: {found}", PATIENCE.as_secs())));
            }
            thread::sleep(LOOK);
        }
    }

    /// Writes the inventory of this world; its path.
    ///
    /// # Errors
    /// [`DemoError`]
    pub fn inventory(&self) -> Result<PathBuf, DemoError> {
        let reach = |node: &str| {
            let mut words = vec!["/usr/bin/env".to_owned(), "-i".to_owned()];
            words.extend(self.environment(node).into_iter().map(|(name, value)| format!("{name}={value}")));
            words
        };
        let nodes: Vec<text::Node> = NODES
            .iter()
            .map(|node| text::Node {
                name: (*node).to_owned(),
                agent: self.ports.agent[*node],
                service: self.ports.service[*node],
                directory: self.node(node).display().to_string(),
                reach: reach(node),
            })
            .collect();
        let program = self.text("bin/bootstrap");
        let inventory =
            text::inventory(&self.string, &program, self.ports.ingress, self.settings.dead_man_seconds, &nodes);
        let path = self.path("fleet.toml");
        fs::write(&path, inventory).map_err(failed("write fleet.toml"))?;
        Ok(path)
    }

    /// The variables of a machine, all of them.
    pub fn environment(&self, machine: &str) -> Vec<(String, String)> {
        let of = |name: &str| self.text(&format!("{machine}/{name}"));
        // What the demo runs is its own program alone; the system has the rest.
        [
            ("PATH", format!("{}:/usr/local/bin:/usr/bin:/bin", self.text("bin"))),
            ("HOME", self.text(machine)),
            ("SNAPKIT_HOME", of("keys")),
            ("XDG_CACHE_HOME", of("cache")),
            ("SNAPKIT_CONFIG", of("snapkit.toml")),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into()
    }

    fn desk(&mut self, args: &[&str]) -> Result<Value, DemoError> {
        self.snapkit("desk", args)
    }

    /// Runs `snapkit` on a machine.
    ///
    /// # Errors
    /// [`DemoError::Command`] unless it ends with 0.
    pub fn snapkit(&mut self, machine: &str, args: &[&str]) -> Result<Value, DemoError> {
        self.run(machine, "snapkit", args)
    }

    /// Runs `bootstrap` on a machine.
    ///
    /// # Errors
    /// [`DemoError::Command`] unless it ends with 0.
    pub fn bootstrap(&mut self, machine: &str, args: &[&str]) -> Result<Value, DemoError> {
        self.run(machine, "bootstrap", args)
    }

    /// Runs `bootstrap` on a machine, whose answer may be no.
    ///
    /// # Errors
    /// [`DemoError::Command`] when it has no answer.
    pub fn bootstrap_any(&mut self, machine: &str, args: &[&str]) -> Result<Value, DemoError> {
        let (shown, ended) = self.ended(machine, "bootstrap", args)?;
        let read = serde_json::from_str(&ended.stdout);
        read.map_err(|_| DemoError::Command { command: shown, why: ended.why() })
    }

    /// A command of a machine, ready to run.
    pub fn command(&self, machine: &str, name: &str, args: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.arg0(name).args(args).current_dir(self.path(machine)).env_clear().envs(self.environment(machine));
        command
    }

    /// The pin in the one string.
    pub fn pin(&self) -> String {
        self.string.split_once("#root=").map(|(_, pin)| pin.to_owned()).unwrap_or_default()
    }

    fn run(&mut self, machine: &str, name: &str, args: &[&str]) -> Result<Value, DemoError> {
        let (shown, ended) = self.ended(machine, name, args)?;
        if !ended.is_good() {
            return Err(DemoError::Command { command: shown, why: ended.why() });
        }
        serde_json::from_str(&ended.stdout)
            .map_err(|error| DemoError::Command { command: shown, why: error.to_string() })
    }

    fn ended(&mut self, machine: &str, name: &str, args: &[&str]) -> Result<(String, Finished), DemoError> {
        let shown = shown(name, args);
        (self.tell)(Told::Command(&shown));
        let mut command = self.command(machine, name, args);
        command.arg("--json");
        // What a bring-up leaves behind is the agent.
        let ended = command::run(command, LIMIT, Leftovers::Leave).map_err(failed(format!("run {name}")))?;
        Ok((shown, ended))
    }

    /// Tells what comes next.
    pub fn next(&mut self, sentence: &str) {
        (self.tell)(Told::Next(sentence));
    }

    /// Tells what came of it.
    pub fn result(&mut self, sentence: &str) {
        (self.tell)(Told::Result(sentence));
    }

    /// Ends everything that runs.
    pub fn end(&mut self) {
        for node in NODES {
            let directory = self.node(node);
            if directory.is_dir() {
                // One that is frozen hears nothing else, and one that does not run has nothing to end.
                let _ = fault::heal(Kind::Pause, &directory, "the end of the demo", &[]);
                let _ = fault::inject(Kind::Kill, &directory, "the end of the demo", &[], None);
            }
        }
        if let Some(mut ingress) = self.ingress.take() {
            let _ = ingress.kill();
            let _ = ingress.wait();
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.end();
    }
}

fn find(below: &Path, name: &str) -> Option<PathBuf> {
    let mut directories = vec![below.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).ok()?.flatten() {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => directories.push(entry.path()),
                Ok(_) if entry.file_name() == name => return Some(entry.path()),
                _ => {}
            }
        }
    }
    None
}

/// The command as one would type it.
pub fn shown(name: &str, args: &[&str]) -> String {
    let plain =
        |arg: &str| !arg.is_empty() && arg.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_./:=,@%+".contains(&b));
    let quoted = args.iter().map(|arg| match plain(arg) {
        true => (*arg).to_owned(),
        false => format!("'{}'", arg.replace('\'', r"'\''")),
    });
    format!("{name} {}", quoted.collect::<Vec<_>>().join(" "))
}
