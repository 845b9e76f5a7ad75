//! Links and special files of a staged tree: hard links, symlinks, fifos, devices.
//!
//! They come after all data, so nothing was ever written through one.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::AtFlags;

use super::RestoreError;
use super::place::{Opener, make_special, name_of};
use super::spool::PlannedTree;
use crate::cancel::Cancel;
use crate::entry::{Entry, Kind, parent};

/// Makes what is neither a directory nor the first name of a file.
pub(super) fn make_links(tree: &PlannedTree, root: &Arc<OwnedFd>, cancel: &Cancel) -> Result<(), RestoreError> {
    let mut opener = Opener::new(root.clone());
    let mut first_members: HashMap<[u8; 16], Vec<u8>> = HashMap::new();
    let plan_error = |source: io::Error| RestoreError::write(b"", source);
    for entry in tree.file.read().map_err(plan_error)? {
        let entry = entry.map_err(plan_error)?;
        if cancel.is_requested() {
            return Err(RestoreError::Cancelled);
        }
        let first = entry.group.and_then(|group| first_members.get(&group));
        let result = match (&entry.kind, first) {
            (_, Some(first)) => link(&mut opener, first, &entry),
            (Kind::Directory | Kind::File { .. }, None) => Ok(()),
            (_, None) => opener.parent_of(&entry.path).and_then(|directory| make_special(directory.as_fd(), &entry)),
        };
        if let (Some(group), None) = (entry.group, first) {
            first_members.insert(group, entry.path.clone());
        }
        result.map_err(|source| match source.kind() {
            io::ErrorKind::AlreadyExists => RestoreError::Collides { path: crate::entry::printable(&entry.path) },
            _ => RestoreError::write(&entry.path, source),
        })?;
    }
    Ok(())
}

fn link(opener: &mut Opener, first: &[u8], entry: &Entry) -> io::Result<()> {
    let from = opener.directory(parent(first).unwrap_or_default())?;
    let to = opener.parent_of(&entry.path)?;
    Ok(rustix::fs::linkat(&from, name_of(first), &to, name_of(&entry.path), AtFlags::empty())?)
}
