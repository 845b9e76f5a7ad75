//! Directories of a staged tree: made first, private; given their metadata last, from the deepest up.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::Mode;
use rustix::io::Errno;

use super::RestoreError;
use super::place::{Opener, mode_until_proved, name_of, set_metadata, set_mode};
use super::spool::{PlannedTree, Window};
use crate::entry::Entry;

/// Makes all directories of a tree under `root`. Those that an interrupted run made may be there.
pub(super) fn make(tree: &PlannedTree, root: &Arc<OwnedFd>, resumed: bool) -> Result<(), RestoreError> {
    let mut opener = Opener::new(root.clone());
    let mut plan = Window::of(&tree.file).map_err(plan_error)?;
    for place in &tree.directories {
        let entry = plan.at(*place).map_err(plan_error)?;
        if entry.path.is_empty() {
            continue;
        }
        let above = opener.parent_of(&entry.path).map_err(|source| RestoreError::write(&entry.path, source))?;
        match rustix::fs::mkdirat(&above, name_of(&entry.path), Mode::RWXU) {
            Err(Errno::EXIST) if resumed => {}
            made => made.map_err(|error| collision_or(&entry, error))?,
        }
    }
    Ok(())
}

/// Gives all directories of a tree their metadata.
pub(super) fn finish(tree: &PlannedTree, root: &Arc<OwnedFd>) -> Result<(), RestoreError> {
    let mut opener = Opener::new(root.clone());
    let mut plan = Window::of(&tree.file).map_err(plan_error)?;
    for place in tree.directories.iter().rev() {
        let entry = plan.at(*place).map_err(plan_error)?;
        // Opened through its parent: the directory itself may be closed to us once it has its mode.
        let set = |opener: &mut Opener| set_metadata(opener.directory(&entry.path)?.as_fd(), &entry);
        set(&mut opener).map_err(|source| RestoreError::write(&entry.path, source))?;
    }
    Ok(())
}

/// Gives what was open for the proof the mode that keeps its owner out, and sees that it has it. The root is left out.
pub(super) fn close(tree: &PlannedTree, root: &Arc<OwnedFd>) -> Result<(), RestoreError> {
    let mut opener = Opener::new(root.clone());
    let mut plan = Window::of(&tree.file).map_err(plan_error)?;
    // From the deepest up: what lies in a closed directory cannot be reached any more.
    for place in tree.closed.iter().rev() {
        let entry = plan.at(*place).map_err(plan_error)?;
        if entry.path.is_empty() {
            continue;
        }
        let mut close = || -> io::Result<u32> {
            let above = opener.parent_of(&entry.path)?;
            let name = name_of(&entry.path);
            set_mode(above.as_fd(), &name, entry.mode)?;
            Ok(rustix::fs::statat(&above, &name, rustix::fs::AtFlags::SYMLINK_NOFOLLOW)?.st_mode & 0o7777)
        };
        let found = close().map_err(|source| RestoreError::write(&entry.path, source))?;
        if found != entry.mode {
            let what = format!("mode {found:o}, expected {:o}", entry.mode);
            return Err(RestoreError::NotProved { path: crate::entry::printable(&entry.path), what });
        }
    }
    Ok(())
}

/// Whether an entry must stay open to its owner until it is proved.
pub(super) fn is_closed(entry: &Entry) -> bool {
    mode_until_proved(entry) != entry.mode
}

fn plan_error(source: io::Error) -> RestoreError {
    RestoreError::write(b"", source)
}

/// A name that is there although nobody made it: two paths of the plan are one here.
pub(super) fn collision_or(entry: &Entry, error: Errno) -> RestoreError {
    if error == Errno::EXIST {
        return RestoreError::Collides { path: crate::entry::printable(&entry.path) };
    }
    RestoreError::write(&entry.path, error)
}
