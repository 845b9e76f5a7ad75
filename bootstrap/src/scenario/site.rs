//! Where things are, for the commands that a step is printed as.
//!
//! What is not known stands there as a name that a person must replace, never as a guess. Layer: pure.

use std::collections::BTreeMap;

use crate::fleet::quote;

/// Stands for what a person must put in.
pub const REPLACE_ME: &str = "REPLACE_ME";

/// Where a command is to be run.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum At {
    /// Where the orchestrator runs.
    Here,
    /// On a node.
    Node(String),
    /// On the machine of the ingress.
    Ingress,
}

/// A command that a person would type, as words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Where.
    pub at: At,
    /// The words; empty for a remark alone.
    pub words: Vec<String>,
    /// What to look for, or what to do by hand.
    pub remark: Option<String>,
}

impl Line {
    /// A command where the orchestrator runs.
    pub fn here<W: Into<String>>(words: impl IntoIterator<Item = W>) -> Self {
        Self { at: At::Here, words: words.into_iter().map(Into::into).collect(), remark: None }
    }

    /// A command on a node.
    pub fn on<W: Into<String>>(node: &str, words: impl IntoIterator<Item = W>) -> Self {
        Self { at: At::Node(node.to_owned()), ..Self::here(words) }
    }

    /// A command on the machine of the ingress.
    pub fn at_ingress<W: Into<String>>(words: impl IntoIterator<Item = W>) -> Self {
        Self { at: At::Ingress, ..Self::here(words) }
    }

    /// A remark alone.
    pub fn remark(text: impl Into<String>) -> Self {
        Self::here::<String>([]).noting(text)
    }

    /// The same, with a remark.
    pub fn noting(mut self, text: impl Into<String>) -> Self {
        self.remark = Some(text.into());
        self
    }
}

/// Where things are.
#[derive(Debug, Clone, Default)]
pub struct Site {
    /// The inventory's file, as a person would name it.
    pub fleet: Option<String>,
    /// Program and node directory of each node.
    pub nodes: BTreeMap<String, Installed>,
    /// The deployed file of the ingress, and how it is checked and brought into force.
    pub ingress: Option<Deployed>,
    /// Why it is done, for requests; `None` prints a place for it.
    pub reason: Option<String>,
    /// How words get to a place; a place without an entry is this machine.
    pub prefixes: BTreeMap<At, Prefix>,
}

/// What is put before a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prefix {
    /// The words.
    pub words: Vec<String>,
    /// Whether the words behind them pass through a shell.
    pub quote: bool,
}

/// What is installed on a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installed {
    /// The `bootstrap` command.
    pub program: String,
    /// The node directory.
    pub directory: String,
    /// Where its service says how much work is left, and at which place of the answer.
    pub work: Option<(String, String)>,
}

/// What is deployed at the ingress.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deployed {
    /// What says who answers there.
    pub url: String,
    /// Its configuration.
    pub config: Option<String>,
    /// Checks that.
    pub validate: Option<Vec<String>>,
    /// Brings it into force.
    pub reload: Option<Vec<String>>,
}

impl Site {
    /// `bootstrap COMMAND --inventory FILE`, where the orchestrator runs.
    pub fn bootstrap(&self, words: &[&str]) -> Line {
        let fleet = self.fleet.as_deref().unwrap_or("fleet.toml");
        let words = words.iter().copied().chain(["--inventory", fleet]);
        Line::here(["bootstrap"].into_iter().chain(words))
    }

    /// `bootstrap COMMAND NODE-DIR …`, on a node.
    pub fn on_node(&self, node: &str, command: &[&str], options: &[&str]) -> Line {
        let installed = self.nodes.get(node);
        let program = installed.map_or("bootstrap", |installed| installed.program.as_str());
        let directory = installed.map_or(REPLACE_ME, |installed| installed.directory.as_str());
        let words = [program].into_iter().chain(command.iter().copied()).chain([directory]);
        Line::on(node, words.chain(options.iter().copied()))
    }

    /// Asks a node's service how much work is left, where that can be asked.
    pub fn work(&self, node: &str) -> Option<Line> {
        let (url, pointer) = self.nodes.get(node)?.work.as_ref()?;
        let line = Line::here(["curl", "--fail", "--silent", "--show-error", "--max-time", "5", url]);
        Some(line.noting(format!("must show 0 at {pointer}")))
    }

    /// The reason that stands in commands.
    pub fn reason(&self) -> &str {
        self.reason.as_deref().unwrap_or(REPLACE_ME)
    }

    /// The words that are typed on this machine for a command somewhere.
    pub fn typed(&self, line: &Line) -> Vec<String> {
        let Some(prefix) = self.prefixes.get(&line.at) else { return line.words.clone() };
        let behind = |word: &String| if prefix.quote { quote::word(word) } else { word.clone() };
        prefix.words.iter().cloned().chain(line.words.iter().map(behind)).collect()
    }
}
