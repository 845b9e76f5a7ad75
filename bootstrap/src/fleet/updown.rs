//! Nodes brought up and down, one at a time, from wherever the operator is.
//!
//! What would be done is a plan of commands; doing it is running exactly those, and looking afterwards whether it is so. A node
//! counts as down only when that was seen: no agent answers, nothing of it runs, its ports are closed. Layer: the edge.

use std::fs::{File, TryLockError};
use std::io;
use std::net::{TcpStream, ToSocketAddrs};
use std::path::Path;
use std::thread;
use std::time::Duration;

use rustix::process::Signal;
use serde::Serialize;
use url::Url;

use super::inventory::{Inventory, Node, OriginError};
use super::node::{Handle, HandleError};
use super::reach::ReachError;
use crate::agent::persist::AgentDir;
use crate::agent::view::Mode;
use crate::client::Client;
use crate::clock::BootTime;
use crate::driver::procfs::{self, Process};
use crate::surfaces::state::State;

/// How long a look at a node may take.
const LOOK: Duration = Duration::from_secs(10);
/// How long a port may stay open after its service ended.
const CLOSE: Duration = Duration::from_secs(5);
/// How often is looked who holds an agent's lock, every 10 ms.
const LOCK_LOOKS: u32 = 100;

/// What is to be done with a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// The node.
    pub node: String,
    /// What it is to be: `up`, `down` or `repaired`.
    pub to: &'static str,
    /// What it is now.
    pub now: String,
    /// What would be run, in order; empty when it is already so.
    pub steps: Vec<Step>,
}

/// One command of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Step {
    /// What it does.
    pub what: String,
    /// The command as it is typed here.
    pub command: String,
    #[serde(skip)]
    pub(super) argv: Vec<String>,
    #[serde(skip)]
    pub(super) limit: Duration,
}

/// Something that was looked at afterwards.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Proof {
    /// What must be so.
    pub what: String,
    /// Whether it is; `None` where it could not be looked at.
    pub holds: Option<bool>,
    /// What was found.
    pub found: String,
}

/// Why nothing can be planned, or a plan was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum UpDownError {
    /// The node leads: taking it down is a failover.
    #[error("{node} leads in term {term}; taking it down makes clients wait for another leader")]
    Leads {
        /// The node.
        node: String,
        /// The term.
        term: u64,
    },
    /// Its agent runs and does not say whether it leads.
    #[error("whether the node in {directory} leads is not known: {why}")]
    Mute {
        /// The node directory.
        directory: String,
        /// Why.
        why: String,
    },
    /// It is not known where nodes come from.
    #[error(transparent)]
    Origin(#[from] OriginError),
    /// No command can be run there.
    #[error(transparent)]
    Reach(#[from] ReachError),
    /// Somebody else answers.
    #[error(transparent)]
    Handle(#[from] HandleError),
    /// A command of the plan failed.
    #[error("{command}: {why}")]
    Step {
        /// The command.
        command: String,
        /// How it ended.
        why: String,
    },
    /// The agent of a directory cannot be ended.
    #[error("the agent of {directory} does not end")]
    Stays {
        /// The node directory.
        directory: String,
    },
    /// The machine failed.
    #[error("cannot use {path}")]
    Io {
        /// The file.
        path: String,
        /// What the system said.
        source: io::Error,
    },
}

/// What brings a node up: its own `start` command, else a bring-up, which goes on from whatever is there.
///
/// # Errors
/// [`UpDownError`] when it is not known how.
pub fn plan_up(inventory: &Inventory, node: &Node, patience: Duration) -> Result<Plan, UpDownError> {
    let handle = Handle::new(inventory, node);
    let (now, state) = look(&handle)?;
    let mut steps = Vec::new();
    if state.is_none() {
        let reach = handle.reach()?;
        let (what, argv) = match &node.start {
            Some(start) => ("start its agent", start.clone()),
            None => {
                let origin = inventory.origin()?;
                let mut args = vec!["--from".to_owned(), origin.to_string()];
                if let Some(manifest) = &inventory.manifest {
                    args.extend(["--manifest".to_owned(), manifest.clone()]);
                }
                args.extend(["--progress".to_owned(), "none".to_owned()]);
                args.extend(node.bring_up.iter().cloned());
                args.push(handle.directory());
                ("bring it up from the chain, and wait until it follows", handle.bootstrap_argv(&args))
            }
        };
        steps.push(Step { what: what.to_owned(), command: reach.text(&argv), argv, limit: patience });
    }
    Ok(Plan { node: node.name.clone(), to: "up", now, steps })
}

/// Tries a bring-up there as far as it changes nothing; what it said.
///
/// # Errors
/// [`UpDownError`]
pub fn try_up(inventory: &Inventory, node: &Node, patience: Duration) -> Result<String, UpDownError> {
    let handle = Handle::new(inventory, node);
    let plan = plan_up(inventory, node, patience)?;
    let Some(step) = plan.steps.first() else { return Ok(plan.now) };
    let argv: Vec<String> = step.argv.iter().cloned().chain(["--dry-run".to_owned()]).collect();
    let ended = handle.run(&argv, b"", step.limit)?;
    match ended.is_good() {
        true => Ok(ended.stdout.lines().last().unwrap_or_default().trim().to_owned()),
        false => Err(UpDownError::Step { command: handle.reach()?.text(&argv), why: ended.why() }),
    }
}

/// What takes a node down. One that leads is left alone unless that was said.
///
/// # Errors
/// [`UpDownError`]
pub fn plan_down(
    inventory: &Inventory,
    node: &Node,
    although_leading: bool,
    patience: Duration,
) -> Result<Plan, UpDownError> {
    let handle = Handle::new(inventory, node);
    let (now, state) = look(&handle)?;
    if let Some(state) = state.as_ref().filter(|state| leads(state) && !although_leading) {
        return Err(UpDownError::Leads { node: node.name.clone(), term: state.view.term });
    }
    let reach = handle.reach()?;
    let argv = node.stop.clone().unwrap_or_else(|| {
        let (seconds, directory) = (patience.as_secs().to_string(), handle.directory());
        let args = ["node", "down", "--directory", &directory, "--wait", &seconds, "--execute", "--leading"];
        // Who does not answer is asked there, too: one that hangs must be ended all the same, and only by a person's word.
        let args = if although_leading { &args[..] } else { &args[..args.len() - 1] };
        handle.bootstrap_argv(args)
    });
    // Also where no agent answers: one that hangs answers nothing and runs all the same.
    let step = Step {
        what: match state.is_some() {
            true => "end its agent, which ends the service in order".to_owned(),
            false => "end its agent, if one is there that does not answer".to_owned(),
        },
        command: reach.text(&argv),
        argv,
        limit: patience + Duration::from_secs(30),
    };
    Ok(Plan { node: node.name.clone(), to: "down", now, steps: vec![step] })
}

fn leads(state: &State) -> bool {
    state.holds || matches!(state.view.mode, Mode::Leader | Mode::Promoting | Mode::Draining | Mode::Demoting)
}

/// That the agent of a node directory on this machine does not lead.
///
/// # Errors
/// [`UpDownError::Leads`]; [`UpDownError::Mute`] where an agent runs and does not say.
pub fn expect_no_leader(directory: &Path) -> Result<(), UpDownError> {
    let end = BootTime::now() + LOOK;
    loop {
        match Client::of_node(directory).within(LOOK).state() {
            Ok(state) if leads(&state) => {
                return Err(UpDownError::Leads { node: state.view.node.clone(), term: state.view.term });
            }
            Ok(_) => return Ok(()),
            // One that ends, or has just begun, answers nothing for a moment.
            Err(_) if agent_of(directory)?.is_none() => return Ok(()),
            Err(error) if BootTime::now() >= end => {
                let (directory, why) = (directory.display().to_string(), error.to_string());
                return Err(UpDownError::Mute { directory, why });
            }
            Err(_) => thread::sleep(Duration::from_millis(100)),
        }
    }
}

/// What a node is, in words; its state, where it says one.
fn look(handle: &Handle) -> Result<(String, Option<State>), UpDownError> {
    match handle.state(LOOK) {
        Ok(state) => Ok((format!("{}: {}", state.role, state.view.why), Some(state))),
        Err(error @ (HandleError::Silent { .. } | HandleError::NoWay(_))) => Ok((error.to_string(), None)),
        Err(error) => Err(error.into()),
    }
}

impl Plan {
    /// Runs the commands, in order, up to the first that fails.
    ///
    /// # Errors
    /// [`UpDownError::Step`] names it; what came before is done.
    pub fn execute(&self, inventory: &Inventory, node: &Node) -> Result<(), UpDownError> {
        let reach = Handle::new(inventory, node).reach()?;
        for step in &self.steps {
            let ended = reach.run(&step.argv, b"", step.limit)?;
            if !ended.is_good() {
                return Err(UpDownError::Step { command: step.command.clone(), why: ended.why() });
            }
        }
        Ok(())
    }
}

/// Looks whether a node is up: its agent answers, and is ready within `patience`.
pub fn prove_up(inventory: &Inventory, node: &Node, patience: Duration) -> Vec<Proof> {
    let handle = Handle::new(inventory, node);
    let end = BootTime::now() + patience;
    loop {
        let found = handle.state(LOOK);
        let holds = found.as_ref().is_ok_and(|state| state.ready.ok);
        if holds || BootTime::now() >= end {
            let found = match found {
                Ok(state) => format!("{}: {}", state.role, state.ready.why),
                Err(error) => error.to_string(),
            };
            return vec![Proof { what: "its agent is ready".to_owned(), holds: Some(holds), found }];
        }
        thread::sleep(Duration::from_millis(250));
    }
}

/// Looks whether a node is down: nobody answers, and the ports of agent and service are closed.
pub fn prove_down(inventory: &Inventory, node: &Node) -> Vec<Proof> {
    let handle = Handle::new(inventory, node);
    let mut proofs = Vec::new();
    let (holds, found) = match handle.state(LOOK) {
        Ok(state) => (Some(false), format!("it is {}", state.role)),
        Err(HandleError::NoWay(_)) => (None, "the inventory names no way to ask".to_owned()),
        Err(error) => (Some(true), error.to_string()),
    };
    proofs.push(Proof { what: "its agent does not answer".to_owned(), holds, found });
    for (name, url) in [("agent", &node.surface), ("service", &node.service)] {
        let what = format!("the port of its {name} is closed");
        proofs.push(match url {
            Some(url) => closed(what, url),
            None => Proof { what, holds: None, found: format!("the inventory names no address of its {name}") },
        });
    }
    proofs
}

/// That nobody accepts connections there. What cannot be reached is not known to be closed.
fn closed(what: String, url: &Url) -> Proof {
    let (host, port) = (url.host_str().unwrap_or_default(), url.port_or_known_default().unwrap_or(0));
    let host = host.trim_matches(['[', ']']);
    let end = BootTime::now() + CLOSE;
    loop {
        let addresses = match (host, port).to_socket_addrs() {
            Ok(addresses) => addresses,
            Err(error) => return Proof { what, holds: None, found: format!("{host}: {error}") },
        };
        let tried: Vec<io::Result<TcpStream>> =
            addresses.map(|address| TcpStream::connect_timeout(&address, Duration::from_secs(3))).collect();
        let refused = |tried: &io::Result<TcpStream>| {
            tried.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
        };
        if tried.iter().any(Result::is_ok) {
            if BootTime::now() < end {
                thread::sleep(Duration::from_millis(100));
                continue;
            }
            return Proof { what, holds: Some(false), found: format!("{host}:{port} accepts connections") };
        }
        let why = tried.iter().find_map(|tried| tried.as_ref().err()).map_or_else(String::new, ToString::to_string);
        let holds = (!tried.is_empty() && tried.iter().all(refused)).then_some(true);
        return Proof { what, holds, found: format!("{host}:{port}: {why}") };
    }
}

/// The agent of a node directory on this machine; `None` where none runs.
///
/// # Errors
/// [`UpDownError::Io`], also where something holds its lock that cannot be seen from here.
pub fn agent_of(directory: &Path) -> Result<Option<Process>, UpDownError> {
    let lock = AgentDir::path_in(directory).join("lock");
    let failed = |source| UpDownError::Io { path: lock.display().to_string(), source };
    let file = match File::open(&lock) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(failed)?,
    };
    // One that ends between the two looks was seen by neither.
    for _ in 0..LOCK_LOOKS {
        if let Some(agent) = procfs::lock_holder(&lock).map_err(failed)? {
            return Ok(Some(agent));
        }
        match file.try_lock_shared() {
            Ok(()) => return Ok(None),
            Err(TryLockError::WouldBlock) => thread::sleep(Duration::from_millis(10)),
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
    }
    Err(failed(io::Error::other("it is locked by a process that /proc/locks does not show: one of another container?")))
}

/// Ends the agent of a node directory on this machine in order, and waits until it is gone. Whether one ran.
///
/// # Errors
/// [`UpDownError`]
pub fn end_agent(directory: &Path, patience: Duration) -> Result<bool, UpDownError> {
    let Some(agent) = agent_of(directory)? else { return Ok(false) };
    agent.signal(Signal::TERM).map_err(|source| UpDownError::Io { path: format!("process {}", agent.pid), source })?;
    let end = BootTime::now() + patience;
    while agent_of(directory)? == Some(agent) {
        if BootTime::now() >= end {
            return Err(UpDownError::Stays { directory: directory.display().to_string() });
        }
        thread::sleep(Duration::from_millis(50));
    }
    Ok(true)
}

/// Whether a service is left on this machine that an agent of this directory started and did not prove dead.
///
/// # Errors
/// [`UpDownError::Io`]
pub fn left_service(directory: &Path) -> Result<bool, UpDownError> {
    let file = AgentDir::path_in(directory).join("service.json");
    file.try_exists().map_err(|source| UpDownError::Io { path: file.display().to_string(), source })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::eventually::eventually;

    #[test]
    fn who_holds_the_lock_is_the_agent() {
        let node = tempfile::tempdir().unwrap();
        assert_eq!(agent_of(node.path()).unwrap(), None);
        fs::create_dir(node.path().join(".node")).unwrap();
        let held = AgentDir::open(node.path()).unwrap();
        assert_eq!(agent_of(node.path()).unwrap(), Process::of(std::process::id()));
        drop(held);
        eventually("no agent has it", || agent_of(node.path()).unwrap().is_none());
        assert!(!end_agent(node.path(), Duration::ZERO).unwrap());
    }
}
