//! One node as it can be asked and told from here: its agent over TCP, by its socket, or through a command on its machine.
//!
//! Ways are tried in this order: the surface, where the inventory names one; the socket, where the node is on this machine; the
//! `bootstrap` command behind `reach`. Whoever answers must call itself by the node's name. Layer: the edge.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use super::http::{Asker, AskerError, Auth};
use super::inventory::credential::SecretError;
use super::inventory::{Inventory, Node, Reference};
use super::reach::{Reach, ReachError};
use crate::agent::view::RequestKind;
use crate::client::{Asked, Client};
use crate::command::Finished;
use crate::surfaces::state::State;

/// One node of a fleet.
#[derive(Debug, Clone)]
pub struct Handle {
    node: Node,
    credentials: super::inventory::Credentials,
    ca: Option<std::path::PathBuf>,
}

/// Why a node does not answer, or not as itself.
#[derive(Debug, thiserror::Error)]
pub enum HandleError {
    /// No way led to an answer.
    #[error("{node} does not answer: {}", .tried.join("; "))]
    Silent {
        /// The node.
        node: String,
        /// Each way that was tried, and what came of it.
        tried: Vec<String>,
    },
    /// Somebody else answers.
    #[error("{by} answers {way}, where {node} should")]
    Another {
        /// The node.
        node: String,
        /// Who answers.
        by: String,
        /// Where.
        way: String,
    },
    /// The inventory names no way to it.
    #[error("{0} cannot be asked: the inventory gives it neither `surface` nor `reach`")]
    NoWay(String),
    /// A credential cannot be used.
    #[error("a credential of {node} cannot be used")]
    Credential {
        /// The node.
        node: String,
        /// What is wrong.
        source: SecretError,
    },
    /// Nothing can be asked from here.
    #[error(transparent)]
    Asker(#[from] AskerError),
    /// No command can be run there.
    #[error(transparent)]
    Reach(#[from] ReachError),
}

impl Handle {
    /// A handle of a node.
    pub fn new(inventory: &Inventory, node: &Node) -> Self {
        Self { node: node.clone(), credentials: inventory.credentials(node), ca: inventory.ca.clone() }
    }

    /// Handles of all nodes.
    pub fn all(inventory: &Inventory) -> Vec<Self> {
        inventory.nodes.iter().map(|node| Self::new(inventory, node)).collect()
    }

    /// The node as the inventory has it.
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.node.name
    }

    /// The way to its machine.
    ///
    /// # Errors
    /// [`ReachError::Nowhere`]
    pub fn reach(&self) -> Result<Reach, ReachError> {
        Reach::of_node(&self.node)
    }

    /// Runs a command on its machine.
    ///
    /// # Errors
    /// [`ReachError`] when nothing was run.
    pub fn run<S: AsRef<str>>(&self, argv: &[S], stdin: &[u8], limit: Duration) -> Result<Finished, ReachError> {
        self.reach()?.run(argv, stdin, limit)
    }

    /// Runs its `bootstrap` command with these arguments.
    ///
    /// # Errors
    /// [`ReachError`] when nothing was run.
    pub fn bootstrap<S: AsRef<str>>(&self, args: &[S], stdin: &[u8], limit: Duration) -> Result<Finished, ReachError> {
        self.run(&self.bootstrap_argv(args), stdin, limit)
    }

    /// Its `bootstrap` command with these arguments.
    pub fn bootstrap_argv<S: AsRef<str>>(&self, args: &[S]) -> Vec<String> {
        let args = args.iter().map(|word| word.as_ref().to_owned());
        std::iter::once(self.node.program.clone()).chain(args).collect()
    }

    /// Its node directory as an argument.
    pub fn directory(&self) -> String {
        self.node.directory.display().to_string()
    }

    /// What its agent says of itself.
    ///
    /// # Errors
    /// [`HandleError`], with every way that was tried.
    pub fn state(&self, limit: Duration) -> Result<State, HandleError> {
        let mut tried = Vec::new();
        if let Some(surface) = &self.node.surface {
            let auth = self.auth(&[&self.credentials.basic, &self.credentials.read])?;
            let url = surface.join("v1/state").unwrap_or_else(|_| surface.clone());
            let way = format!("at {url}");
            match Asker::new(self.ca.as_deref(), limit)?.get(&url, &auth) {
                Err(why) => tried.push(format!("{url}: {why}")),
                Ok(got) if got.status != 200 => tried.push(format!("{url}: status {}", got.status)),
                Ok(got) => match serde_json::from_str::<State>(&got.body) {
                    Ok(state) => return self.own(state, &way),
                    Err(error) => tried.push(format!("{url}: not the state of an agent: {error}")),
                },
            }
        }
        match &self.node.reach {
            None => {}
            Some(words) if words.is_empty() => match Client::of_node(&self.node.directory).within(limit).state() {
                Ok(state) => return self.own(state, &format!("in {}", self.directory())),
                Err(error) => tried.push(error.to_string()),
            },
            Some(_) => {
                let directory = self.directory();
                let args = ["status", directory.as_str(), "--json"];
                match self.bootstrap(&args, b"", limit).map(|ended| (agent_of(&ended), ended)) {
                    Ok((Some(state), _)) => return self.own(state, &format!("in {directory} there")),
                    Ok((None, ended)) => tried.push(format!("bootstrap status there: {}", silence(&ended))),
                    Err(error) => tried.push(error.to_string()),
                }
            }
        }
        match tried.is_empty() {
            true => Err(HandleError::NoWay(self.node.name.clone())),
            false => Err(HandleError::Silent { node: self.node.name.clone(), tried }),
        }
    }

    /// Asks its agent to do something: over TCP where there is an admin credential, else on its machine.
    ///
    /// # Errors
    /// [`HandleError`] when there is no answer: then it may be done or not.
    pub fn request(&self, kind: RequestKind, reason: &str) -> Result<Asked, HandleError> {
        const LIMIT: Duration = Duration::from_secs(30);
        let word = kind.as_str();
        if let (Some(surface), Some(admin)) = (&self.node.surface, &self.credentials.admin) {
            let auth = self.auth(&[&Some(admin.clone())])?;
            if let Auth::Bearer(_) = &auth {
                let url = surface.join(&format!("v1/{word}")).unwrap_or_else(|_| surface.clone());
                let asker = Asker::new(self.ca.as_deref(), LIMIT)?;
                let got = asker.post(&url, &auth, &json!({ "reason": reason }));
                return match got {
                    Err(why) => Err(self.silent(format!("{url}: {why}"))),
                    Ok(got) => {
                        let why = got.json().and_then(|body| Some(body.get("why")?.as_str()?.to_owned()));
                        let why = why.unwrap_or_else(|| format!("status {}", got.status));
                        match got.status {
                            202 => Ok(Asked::Accepted(why)),
                            400..=499 | 503 | 504 => Ok(Asked::Refused(why)),
                            _ => Err(self.silent(format!("{url}: {why}"))),
                        }
                    }
                };
            }
        }
        if self.reach()?.is_local() && Path::new(&self.node.directory).exists() {
            let client = Client::of_node(&self.node.directory);
            return client.request(kind, reason).map_err(|error| self.silent(error.to_string()));
        }
        let directory = self.directory();
        let args = match kind {
            RequestKind::ForceClaim => vec!["lease", "force-claim", &directory, "--reason", reason, "--json"],
            _ => vec![word, &directory, "--reason", reason, "--json"],
        };
        let ended = self.bootstrap(&args, b"", LIMIT)?;
        match ended.status.and_then(|status| status.code()) {
            Some(0) => {
                let said: Option<Value> = serde_json::from_str(&ended.stdout).ok();
                let what = said.and_then(|said| Some(said.get("what")?.as_str()?.to_owned()));
                Ok(Asked::Accepted(what.unwrap_or_else(|| "accepted".to_owned())))
            }
            Some(3) => Ok(Asked::Refused(problem(&ended))),
            _ => Err(self.silent(format!("bootstrap {word} there: {}", problem(&ended)))),
        }
    }

    fn silent(&self, what: String) -> HandleError {
        HandleError::Silent { node: self.node.name.clone(), tried: vec![what] }
    }

    /// The first credential that there is.
    fn auth(&self, references: &[&Option<Reference>]) -> Result<Auth, HandleError> {
        for reference in references.iter().copied().flatten() {
            let found = reference.look_up();
            let found = found.map_err(|source| HandleError::Credential { node: self.node.name.clone(), source })?;
            if let Some(secret) = found {
                let is_basic = self.credentials.basic.as_ref() == Some(reference);
                return Ok(if is_basic { Auth::Basic(secret) } else { Auth::Bearer(secret) });
            }
        }
        Ok(Auth::None)
    }

    /// That the answer is of this node.
    fn own(&self, state: State, way: &str) -> Result<State, HandleError> {
        if state.view.node == self.node.name {
            return Ok(state);
        }
        Err(HandleError::Another { node: self.node.name.clone(), by: state.view.node, way: way.to_owned() })
    }
}

/// The agent's state in what `bootstrap status --json` printed.
fn agent_of(ended: &Finished) -> Option<State> {
    let mut shown: Value = serde_json::from_str(&ended.stdout).ok()?;
    serde_json::from_value(shown.get_mut("agent")?.take()).ok()
}

/// Why `bootstrap status` has no agent.
fn silence(ended: &Finished) -> String {
    let shown: Option<Value> = serde_json::from_str(&ended.stdout).ok();
    match shown {
        Some(shown) => match shown.get("agent_problem").and_then(Value::as_str) {
            Some(problem) => problem.to_owned(),
            None => "no agent runs".to_owned(),
        },
        None => problem(ended),
    }
}

/// What a command of ours said went wrong; the text, where it is JSON.
pub(super) fn problem(ended: &Finished) -> String {
    let last = ended.stderr.trim().lines().last().unwrap_or_default();
    let said: Option<Value> = serde_json::from_str(last).ok();
    said.and_then(|said| Some(said.get("error")?.as_str()?.to_owned())).unwrap_or_else(|| ended.why())
}
