//! Collecting: the signed objects of a store, byte for byte, into a run directory, where anybody verifies them again.
//!
//! Layer: the edge; nothing is judged here.

use std::io;

use bytes::Bytes;
use snapkit::store::{Store, StoreError};

use super::run_dir::RunDir;

/// The largest object that is copied.
const OBJECT_CAP: u64 = 1024 * 1024 + 1;
/// The most objects of one kind.
const OBJECTS_CAP: usize = 4096;

/// Copies all roots and the records from slot `from` on.
///
/// # Errors
/// What the store or the system says.
pub fn chain(run: &RunDir, store: &dyn Store, from: u64) -> io::Result<()> {
    for version in 1.. {
        match get(store, &format!("root/{version}.json"))? {
            Some(bytes) => run.write(&format!("chain/root/{version}.json"), &bytes)?,
            None => break,
        }
    }
    for seq in (from..).take(OBJECTS_CAP) {
        match get(store, &format!("chain/{seq:020}.json"))? {
            Some(bytes) => run.write(&format!("chain/{seq:020}.json"), &bytes)?,
            None => break,
        }
    }
    Ok(())
}

/// Copies the newest manifest of this name.
///
/// # Errors
/// What the store or the system says, and when there is none.
pub fn manifest(run: &RunDir, store: &dyn Store, name: &str) -> io::Result<()> {
    let key = snapkit::manifest::newest_key(name);
    let bytes =
        get(store, &key)?.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("{key} is not there")))?;
    run.write("chain/manifest.json", &bytes)
}

/// Copies the entries of a lease log from slot `from` on, which is 1 or more.
///
/// # Errors
/// What the store or the system says.
pub fn lease(run: &RunDir, store: &dyn Store, group: &str, from: u64) -> io::Result<()> {
    for seq in (from.max(1)..).take(OBJECTS_CAP) {
        match get(store, &manifests::lease::key(group, seq))? {
            Some(bytes) => run.write(&format!("lease/{seq:020}.json"), &bytes)?,
            None => break,
        }
    }
    Ok(())
}

fn get(store: &dyn Store, key: &str) -> io::Result<Option<Bytes>> {
    match store.get(key, OBJECT_CAP) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(StoreError::Missing { .. }) => Ok(None),
        Err(error) => Err(io::Error::other(error)),
    }
}
