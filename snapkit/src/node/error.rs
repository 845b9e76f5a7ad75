//! Why a node was not switched, and how a command that was to do it ends.

use std::io;
use std::path::PathBuf;

use manifests::refusal::exit;

use super::state::Degraded;
use super::{GenerationName, NotAGenerationName, Work};
use crate::receipt::ReceiptError;
use crate::restore::RestoreError;

/// Why a node was not switched. Unless it says otherwise, what was active is active.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The directory is no node directory.
    #[error("{} is not a node directory", .path.display())]
    NotANode {
        /// The directory.
        path: PathBuf,
    },
    /// Others than its owner have access to what only the node may change.
    #[error("{} is not private to whoever runs this", .path.display())]
    NotPrivate {
        /// The directory.
        path: PathBuf,
    },
    /// Another process is at it.
    #[error("another process is {} {}", if *.work == Work::Restore { "restoring into" } else { "switching" }, .node.display())]
    Busy {
        /// The node directory.
        node: PathBuf,
        /// What it does.
        work: Work,
    },
    /// `node.toml` cannot be used.
    #[error("{}: {problem}", .path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// What is wrong, with the line.
        problem: String,
    },
    /// A snapshot whose name cannot name a generation.
    #[error("the snapshot cannot become a generation")]
    Name(#[source] NotAGenerationName),
    /// A file of the node's own is not what it should be.
    #[error("{} is damaged: {why}", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// `current` is nothing that a switch made.
    #[error("{} is {found}, not a symlink to generations/NAME", .path.display())]
    ForeignCurrent {
        /// The symlink.
        path: PathBuf,
        /// What it is.
        found: String,
    },
    /// There is no such generation.
    #[error("the generation {name} is not there")]
    Unknown {
        /// Its name.
        name: GenerationName,
    },
    /// A tree cannot be activated at its fixed path.
    #[error("the tree {tree} cannot be activated at {}: {why}", .path.display())]
    Fixed {
        /// The tree.
        tree: String,
        /// The path.
        path: PathBuf,
        /// Why not.
        why: String,
    },
    /// The snapshot does not hold what `node.toml` requires.
    #[error("the snapshot does not hold what node.toml requires: {}", .missing.join(", "))]
    Unmet {
        /// The paths.
        missing: Vec<String>,
    },
    /// The generation is active, and what is active stays where it is.
    #[error("the generation {name} is active")]
    Active {
        /// Its name.
        name: GenerationName,
    },
    /// There is no generation to go back to.
    #[error("{} has no generation before the active one", .node.display())]
    NothingToUndo {
        /// The node directory.
        node: PathBuf,
    },
    /// The switch itself failed and was taken back before anything was checked.
    #[error("cannot switch to {to}; nothing was changed")]
    Flip {
        /// The generation.
        to: GenerationName,
        /// What the system says.
        source: io::Error,
    },
    /// What must hold did not, and the old generation is active again.
    #[error("{to} does not hold what it must, so {} again: {cause}", active(.from.as_ref()))]
    SwitchedBack {
        /// The generation that was switched to.
        to: GenerationName,
        /// The one that is active.
        from: Option<GenerationName>,
        /// The requirement that does not hold.
        cause: String,
    },
    /// What must hold does not hold for the active generation; nothing was switched.
    #[error("what must hold does not: {problem}")]
    CheckFailed {
        /// The first requirement that does not hold.
        problem: String,
    },
    /// The switch does not hold and could not be taken back. The node refuses further switches.
    #[error(
        "the switch to {} does not hold and could not be taken back, so {} is degraded now: {}; {}",
        .mark.to, .node.display(), .mark.failure, .mark.rollback
    )]
    NowDegraded {
        /// The node directory.
        node: PathBuf,
        /// The mark, with both causes.
        mark: Box<Degraded>,
    },
    /// The node is degraded and refuses to be switched.
    #[error(
        "{} is degraded since {}, when the switch to {} did not hold and could not be taken back: {}; {}",
        .node.display(), .mark.since, .mark.to, .mark.failure, .mark.rollback
    )]
    Degraded {
        /// The node directory.
        node: PathBuf,
        /// The mark, with both causes.
        mark: Box<Degraded>,
    },
    /// There is nothing to acknowledge.
    #[error("{} is not degraded", .node.display())]
    NotDegraded {
        /// The node directory.
        node: PathBuf,
    },
    /// The restore stopped before anything was switched.
    #[error(transparent)]
    Restore(#[from] RestoreError),
    /// The generation is there, and nothing was switched, because there is no receipt of it.
    #[error(transparent)]
    Receipt(#[from] ReceiptError),
    /// The machine failed.
    #[error("cannot {what}")]
    Io {
        /// What was to be done.
        what: String,
        /// What the system says.
        source: io::Error,
    },
}

fn active(from: Option<&GenerationName>) -> String {
    from.map_or_else(|| "nothing is active".to_owned(), |from| format!("{from} is active"))
}

impl NodeError {
    /// The exit code of a command that ends with this.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Config { .. } => exit::USAGE,
            Self::CheckFailed { .. } => exit::NO,
            Self::SwitchedBack { .. } => exit::SWITCHED_BACK,
            Self::NowDegraded { .. } | Self::Degraded { .. } => exit::DEGRADED,
            Self::Restore(error) => error.class().map_or(exit::COULD_NOT_RUN, |class| class.exit_code()),
            Self::Flip { .. } | Self::Io { .. } | Self::Receipt(_) | Self::Damaged { .. } => exit::COULD_NOT_RUN,
            Self::NotANode { .. }
            | Self::NotPrivate { .. }
            | Self::Busy { .. }
            | Self::Name(_)
            | Self::ForeignCurrent { .. }
            | Self::Active { .. }
            | Self::Unknown { .. }
            | Self::Fixed { .. }
            | Self::Unmet { .. }
            | Self::NothingToUndo { .. }
            | Self::NotDegraded { .. } => exit::REFUSED,
        }
    }

    /// What to do about it.
    pub fn next(&self) -> Option<String> {
        let next = match self {
            Self::NotANode { .. } => {
                "name a directory that `snapkit restore --into` made, or, to make one, an empty one"
            }
            Self::NotPrivate { path } => {
                return Some(format!("give it to the user who switches, and chmod 700 {}", path.display()));
            }
            Self::Busy { .. } => "wait until it has ended",
            Self::ForeignCurrent { .. } => {
                "set it to a generation with `ln -sfn generations/NAME current`, or remove it"
            }
            Self::Damaged { .. } => {
                "docs/node.md says what the file holds; moved away, the node begins anew with the generations unknown"
            }
            Self::Unmet { .. } => "restore another snapshot, or correct [require] in node.toml",
            Self::SwitchedBack { .. } => "correct what does not hold, or [require] in node.toml, and switch again",
            Self::NowDegraded { .. } | Self::Degraded { .. } => {
                "repair what does not hold, look with `bootstrap check`, then run `bootstrap ack NODE-DIR --reason TEXT`"
            }
            Self::CheckFailed { .. } => "repair it; `bootstrap check` shows everything that must hold",
            Self::Unknown { .. } => "`bootstrap status` lists the generations that are there",
            _ => return None,
        };
        Some(next.to_owned())
    }
}
