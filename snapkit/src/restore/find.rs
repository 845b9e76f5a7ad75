//! Looking single entries up in a plan.

use std::collections::BTreeSet;

use super::RestoreError;
use super::spool::PlannedTree;
use crate::entry::Entry;

impl PlannedTree {
    /// The entries with these paths, in order, as they will be restored; paths that the tree has not are left out.
    ///
    /// # Errors
    /// When the plan cannot be read.
    pub fn find(&self, paths: &BTreeSet<Vec<u8>>) -> Result<Vec<Entry>, RestoreError> {
        if paths.is_empty() {
            return Ok(Vec::new());
        }
        let failed = |source| RestoreError::write(b"", source);
        let entries = self.file.read().map_err(failed)?;
        let wanted = entries.filter(|entry| entry.as_ref().map_or(true, |entry| paths.contains(&entry.path)));
        wanted.collect::<Result<_, _>>().map_err(failed)
    }
}
