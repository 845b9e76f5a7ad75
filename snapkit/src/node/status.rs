//! What a node directory looks like now; reads only, and needs no lock.

use std::path::PathBuf;

use super::dir::NodeDir;
use super::require::Check;
use super::state::{Degraded, Generation, Intent, State};
use super::undo::check_now;
use super::{GenerationName, NodeError};

/// A node as it is now.
#[derive(Clone, Debug)]
pub struct Status {
    /// The generation that `current` names.
    pub active: Option<GenerationName>,
    /// The mark, if the node is degraded.
    pub degraded: Option<Degraded>,
    /// A switch that is under way or was interrupted.
    pub intent: Option<Intent>,
    /// What the node knows of itself.
    pub state: State,
    /// Every generation that has a directory, newest first; those of which nothing is known last.
    pub generations: Vec<Listed>,
    /// What must hold, with what was found.
    pub checks: Vec<Check>,
}

/// One generation of a node.
#[derive(Clone, Debug)]
pub struct Listed {
    /// Its name.
    pub name: GenerationName,
    /// Its directory.
    pub path: PathBuf,
    /// What it is; `None` when the node does not know it.
    pub generation: Option<Generation>,
    /// What it is for.
    pub role: Role,
    /// Its receipt, if there is one.
    pub receipt: Option<PathBuf>,
}

/// What a generation is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It is what `current` names.
    Active,
    /// Undo goes back to it.
    Previous,
    /// It is kept.
    Kept,
}

impl Role {
    /// The word for people and JSON.
    pub fn word(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Previous => "previous",
            Self::Kept => "kept",
        }
    }
}

/// Looks at a node and changes nothing.
///
/// # Errors
/// [`NodeError`] when its files cannot be read.
pub fn status(node: &NodeDir) -> Result<Status, NodeError> {
    let state = node.state()?;
    let (active, checks) = check_now(node)?;
    let mut generations: Vec<Listed> = (node.present()?.into_iter())
        .map(|name| Listed {
            path: node.generation(&name),
            generation: state.generations.get(&name).cloned(),
            role: match &name {
                name if active.as_ref() == Some(name) => Role::Active,
                name if state.previous.as_ref() == Some(name) => Role::Previous,
                _ => Role::Kept,
            },
            receipt: Some(node.receipt(&name)).filter(|receipt| receipt.exists()),
            name,
        })
        .collect();
    let made = |listed: &Listed| listed.generation.as_ref().map(|generation| generation.made);
    generations.sort_by(|a, b| made(b).cmp(&made(a)).then_with(|| a.name.cmp(&b.name)));
    Ok(Status { active, degraded: node.degraded()?, intent: node.intent()?, state, generations, checks })
}
