//! Setting a generation aside: out of the node's generations, to a place where nothing is removed.

use std::fs;
use std::io;
use std::path::Path;

use super::dir::{NodeDir, Work, sync};
use super::switch::Switcher;
use super::{GenerationName, NodeError};

/// Moves a generation that is not active to `to`, on the same file system, and forgets it. Does nothing a second time.
///
/// # Errors
/// [`NodeError::Active`] for the active one; [`NodeError::Unknown`] where it is at neither place; [`NodeError::Io`].
pub fn set_aside(node: &NodeDir, name: &GenerationName, to: &Path) -> Result<(), NodeError> {
    let _restoring = node.lock(Work::Restore)?;
    let mut switcher = Switcher::begin(node)?;
    if switcher.active() == Some(name) {
        return Err(NodeError::Active { name: name.clone() });
    }
    let failed = |source| NodeError::Io { what: format!("move {name} to {}", to.display()), source };
    let from = node.generation(name);
    let above = to.parent().unwrap_or(Path::new("/"));
    match fs::symlink_metadata(&from) {
        Ok(_) if fs::symlink_metadata(to).is_ok() => {
            return Err(failed(io::Error::from(io::ErrorKind::AlreadyExists)));
        }
        Ok(_) => {
            crate::trust::file::make_directory(above).map_err(failed)?;
            fs::rename(&from, to).map_err(failed)?;
            sync(above).and_then(|()| sync(from.parent().unwrap_or(Path::new("/")))).map_err(failed)?;
        }
        // Moved by a run that ended before it was forgotten.
        Err(error) if error.kind() == io::ErrorKind::NotFound && fs::symlink_metadata(to).is_ok() => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(NodeError::Unknown { name: name.clone() });
        }
        Err(error) => return Err(failed(error)),
    }
    // It proves what was restored there, and the next generation of that snapshot has the same name.
    let receipt = node.receipt(name);
    match fs::remove_file(&receipt) {
        Ok(()) => sync(receipt.parent().unwrap_or(Path::new("/"))).map_err(failed)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
    }
    switcher.state.generations.remove(name);
    if switcher.state.previous.as_ref() == Some(name) {
        switcher.state.previous = None;
    }
    node.save_state(&switcher.state)
}
