//! Installation: what makes a node's agent and its snapshots start by themselves, for systemd, cron, or a container engine.
//!
//! Every file is made from the node directory alone and says only what that knows; nothing of it is secret. Making is pure,
//! and what is made is the same whenever nothing changed. Documented in `docs/install.md`. Layer: values and texts.

mod compose;
mod cron;
mod systemd;

use std::path::PathBuf;

/// What starts things.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Starter {
    /// systemd: a service for the agent, a service and a timer for snapshots.
    Systemd,
    /// cron: a file for `/etc/cron.d`.
    Cron,
    /// A compose file in which the agent itself is a container.
    Compose,
}

/// A node, as far as starting it goes. All paths are absolute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installation {
    /// What its units and files are called after.
    pub name: String,
    /// The node directory.
    pub node: PathBuf,
    /// The node's own name in records, if it has one.
    pub node_name: Option<String>,
    /// The store for snapshots, with its pin; `None` where this node takes none.
    pub store: Option<String>,
    /// Each tree with the directory that a snapshot of it reads.
    pub trees: Vec<(String, PathBuf)>,
    /// The directory of keys and trust.
    pub home: PathBuf,
    /// The directory that caches are in.
    pub cache: PathBuf,
    /// The configuration of snapkit, if one is read.
    pub config: Option<PathBuf>,
    /// The `bootstrap` program.
    pub bootstrap: PathBuf,
    /// The `snapkit` program.
    pub snapkit: PathBuf,
    /// Who runs it; the user of the starter if `None`.
    pub user: Option<String>,
    /// How long the service may take to stop, in seconds.
    pub grace_seconds: u64,
    /// When snapshots are taken.
    pub every: Every,
    /// The image of a container that is the agent, by digest; for compose alone.
    pub image: Option<String>,
}

/// How often a snapshot is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Every {
    /// Every so many minutes, a divisor of 60.
    Minutes(u8),
    /// Once an hour.
    Hour,
    /// Once a day.
    Day,
}

/// One file that is to be installed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstalledFile {
    /// Its name.
    pub name: String,
    /// What is in it.
    pub text: String,
}

impl Installation {
    /// The files for one starter.
    pub fn files(&self, starter: Starter) -> Vec<InstalledFile> {
        match starter {
            Starter::Systemd => systemd::files(self),
            Starter::Cron => vec![cron::file(self)],
            Starter::Compose => vec![compose::file(self)],
        }
    }

    /// The socket of the agent.
    pub fn socket(&self) -> PathBuf {
        self.node.join(".node/agent/agent.sock")
    }

    /// The arguments of the snapshot, after the program.
    fn snapshot_arguments(&self, store: &str) -> Vec<String> {
        let mut arguments: Vec<String> = ["snapshot", "--store", store].map(str::to_owned).into();
        if let Some(node) = &self.node_name {
            arguments.extend(["--node".to_owned(), node.clone()]);
        }
        arguments.extend(self.trees.iter().map(|(name, directory)| format!("{name}={}", directory.display())));
        arguments
    }

    /// The variables that agent and snapshot share.
    fn environment(&self) -> Vec<(&'static str, String)> {
        let mut environment = vec![
            ("SNAPKIT_HOME", self.home.display().to_string()),
            ("XDG_CACHE_HOME", self.cache.display().to_string()),
        ];
        environment.extend(self.config.as_ref().map(|config| ("SNAPKIT_CONFIG", config.display().to_string())));
        environment
    }

    /// The file in which an operator keeps variables and secrets.
    fn secrets_file(&self) -> String {
        format!("/etc/snapkit/{}.env", self.name)
    }
}

#[cfg(test)]
mod tests;
