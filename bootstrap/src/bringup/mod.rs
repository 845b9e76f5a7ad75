//! Bring-up: from one string, on a machine that has nothing, to a verified node that runs in its role.
//!
//! follow the manifest -> list everything that is missing -> bring the images -> write down what the node is -> restore a
//! generation and switch to it -> start the agent -> wait for mode, health, readiness and role -> check what really runs.
//! Nothing on the node is touched before everything was looked at; every later step may be cut off anywhere, and the same
//! order given again goes on from there. Documented in `docs/bring-up.md`.
//! Layer: operations; the environment is brought by `cli`, which alone prints.

pub mod agent;
pub mod files;
pub mod images;
pub mod machine;
pub mod place;
pub mod plan;
pub mod prerequisites;
pub mod report;
pub mod rights;
mod run;

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use manifests::refusal::{Class, Refusal};
use snapkit::chain::ChainError;
use snapkit::image::ImageError;
use snapkit::image::keep::KeepError;
use snapkit::manifest::ManifestError;
use snapkit::node::NodeError;
use snapkit::restore::Owners;

use crate::driver::ServiceRole;

pub use run::{BringUp, bring_up};

/// What is to be brought up.
#[derive(Debug, Clone)]
pub struct Order {
    /// The node directory, absolute.
    pub node: PathBuf,
    /// As what.
    pub role: ServiceRole,
    /// Which snapshot.
    pub which: Which,
    /// Whether the pinned paths of trees shall lead into the node.
    pub paths: Paths,
    /// Who owns what is restored.
    pub owners: Owners,
    /// The container engine's command, if one was named.
    pub engine: Option<String>,
    /// Who starts the agent.
    pub agent: AgentStart,
    /// How long the agent may take until it is what was asked for.
    pub patience: Duration,
}

/// Which snapshot is restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// The newest complete one that extends what the manifest pins.
    Newest,
    /// Exactly the one that the manifest pins.
    Pinned,
}

/// What is done about the paths that the pins give to trees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Paths {
    /// They lead to the active generation, by links or as fixed paths.
    Lead,
    /// They are left alone; the service finds its state below the node directory.
    Leave,
}

/// Who starts the agent of the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AgentStart {
    /// Bring-up, detached from the terminal.
    Detached,
    /// Bring-up becomes the agent.
    Foreground,
    /// Somebody else, such as systemd.
    Other,
}

/// What a process can see of the machine it runs on, as the caller found it.
pub struct Surroundings<'a> {
    /// A variable of the environment.
    pub variable: &'a dyn Fn(&str) -> Option<OsString>,
    /// Files in which engines keep logins for registries.
    pub logins: &'a [PathBuf],
    /// This program, as it can be started again.
    pub program: PathBuf,
    /// The configuration file that was read, if any.
    pub config: Option<PathBuf>,
}

/// Why a node was not brought up. What had been done stays, and the same order goes on from there.
#[derive(Debug, thiserror::Error)]
pub enum BringUpError {
    /// Something is not to be believed, or does not belong here.
    #[error("the node is not brought up")]
    Refused(#[source] Box<Refusal>),
    /// The manifest stops the run.
    #[error("cannot follow the manifest")]
    Manifest(#[from] ManifestError),
    /// The chain stops the run.
    #[error("cannot read the chain")]
    Chain(#[from] ChainError),
    /// An image cannot be had.
    #[error("cannot use the image {image}")]
    Image {
        /// Its name in the pins.
        image: String,
        /// Why.
        source: ImageError,
    },
    /// An image cannot be brought back from the chain.
    #[error("cannot bring the image {image} back from the chain")]
    Keep {
        /// Its name in the pins.
        image: String,
        /// Why.
        source: Box<KeepError>,
    },
    /// The node directory refuses, or the restore failed.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// A file or link of the machine.
    #[error("cannot {what}")]
    Io {
        /// What was to be done.
        what: String,
        /// What the system says.
        source: io::Error,
    },
    /// The agent is not what was asked for.
    #[error("{what}")]
    Agent {
        /// What was expected and found.
        what: String,
        /// What to do.
        next: String,
        /// What kept it.
        hurdle: Hurdle,
    },
}

/// What keeps an agent from being what was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hurdle {
    /// It follows, and does not lead: somebody else does, or it may not.
    NotLeading,
    /// It refuses something, of this class where that is known.
    Refused(Option<Class>),
    /// The node is half switched, or a service cannot be proven dead.
    Degraded,
    /// A person paused it.
    Paused,
    /// It ended, with this exit code; `None` if it was killed.
    Ended(Option<i32>),
    /// It did not become ready in time.
    Late,
}

impl From<Refusal> for BringUpError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(Box::new(refusal))
    }
}

impl BringUpError {
    /// Names what was being done when the system refused.
    fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }
}
