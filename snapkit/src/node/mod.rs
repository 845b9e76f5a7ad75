//! Node directories: several restored states side by side, one of them active, and switching between them.
//!
//! restore a generation (`into`) -> write down what will be done -> flip -> check what must hold -> or flip back.
//! `current` is at every moment entirely the old or the new generation. Whatever can neither be had nor taken back
//! leaves a degraded mark that refuses every further switch until somebody acknowledges it.
//! Files and the order of durable steps: `docs/node.md`. Layer: operations; joins restores with the file system.

mod aside;
mod config;
mod dir;
mod error;
mod exchange;
mod into;
mod keep;
mod name;
mod require;
mod state;
mod status;
mod switch;
mod undo;

pub use aside::set_aside;
pub use config::{Keep, NodeConfig, Require};
pub use dir::{GENERATIONS, Lock, NodeDir, Work};
pub use error::NodeError;
pub use into::{
    Activation, Chooser, Made, Outcome, Prepared, ReceiptWriter, Wanted, prepare, restore_into, would_make,
};
pub use keep::Removed;
pub use name::{GenerationName, NotAGenerationName};
pub use require::Check;
pub use state::{
    Degraded, Event, EventKind, Generation, GenerationTree, How, Intent, Move, RecordOf, RequiredFile, State,
};
pub use status::{Listed, Role, Status, status};
pub use switch::{Recovered, Switched, Switcher};
pub use undo::{Undone, acknowledge, check_now, undo};

use std::path::Path;

/// Refuses a node that is degraded.
///
/// # Errors
/// [`NodeError::Degraded`] with both causes.
pub fn refuse_degraded(node: &NodeDir) -> Result<(), NodeError> {
    match node.degraded()? {
        Some(mark) => Err(NodeError::Degraded { node: node.path().to_owned(), mark: Box::new(mark) }),
        None => Ok(()),
    }
}

/// Refuses to change a directory in place that belongs to a degraded node: the node's own, or any below it.
///
/// # Errors
/// [`NodeError::Degraded`]; [`NodeError::Io`] when it cannot be told.
pub fn refuse_in_place(directory: &Path) -> Result<(), NodeError> {
    let failed = |source| NodeError::Io { what: format!("look at {}", directory.display()), source };
    let mut above = std::path::absolute(directory).map_err(failed)?;
    // What does not exist yet belongs to the directory that it will be made in.
    while !above.exists() && above.pop() {}
    let above = std::fs::canonicalize(&above).map_err(failed)?;
    for directory in above.ancestors() {
        match NodeDir::open(directory) {
            Ok(node) => refuse_degraded(&node)?,
            Err(NodeError::NotANode { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
