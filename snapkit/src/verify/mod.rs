//! Verifying: is everything there that the chain promises, and is it what was signed?
//!
//! Signatures and links are `chain`'s; this looks at what records refer to. It goes on after a finding, so one run
//! names all that is wrong. Layer: operations; reads a store.

mod data;
mod presence;

pub use data::check_data;
pub use presence::{Inventory, pack_list, take_inventory};

use std::collections::BTreeSet;

use manifests::refusal::Class;

use crate::fetch::FetchError;
use crate::id::PackId;
use crate::pack::PackError;
use crate::store::StoreError;

/// How much of the data is read.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Depth {
    /// None: objects must be there with their lengths.
    Presence,
    /// This share of the packs, 0 to 1; another one each day.
    Sample(f64),
    /// All of it.
    All,
}

/// Something that is wrong with what records refer to.
#[derive(Clone, Debug)]
pub struct Finding {
    /// The object: its key in the store, or a snapshot's tree.
    pub object: String,
    /// What was found, and what it means.
    pub what: String,
    /// The class it would be refused with.
    pub class: Class,
    /// The damaged pack, when it is one.
    pub pack: Option<PackId>,
    /// Names of snapshots that need it.
    pub snapshots: BTreeSet<String>,
}

/// What was checked.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Packs that snapshots need.
    pub packs: u64,
    /// Their length in bytes.
    pub pack_bytes: u64,
    /// Packs in the store that no snapshot needs.
    pub unneeded_packs: u64,
    /// Segments of the newest record.
    pub segments: u64,
    /// Bytes read and hashed.
    pub read_bytes: u64,
    /// Entries whose chunks were checked.
    pub entries: u64,
    /// All that is wrong.
    pub findings: Vec<Finding>,
}

impl Report {
    /// Adds a finding, or its snapshots to one that is there already.
    fn add(&mut self, finding: Finding) {
        match self.findings.iter_mut().find(|known| known.object == finding.object && known.what == finding.what) {
            Some(known) => known.snapshots.extend(finding.snapshots),
            None => self.findings.push(finding),
        }
    }
}

/// Why verification could not be carried out. It says nothing about the data.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The store cannot be asked.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A file of the cache directory cannot be used.
    #[error("cannot use the cache directory")]
    Scratch(#[from] std::io::Error),
    /// It was asked to stop.
    #[error("stopped on request")]
    Cancelled,
}

/// A fetch that failed as a finding, or as a reason to stop when the store cannot be asked.
fn finding(error: FetchError, object: &str) -> Result<Finding, VerifyError> {
    let what = error.to_string();
    let (class, pack, object) = match error {
        FetchError::Store(error) => match &error {
            StoreError::Missing { key, .. } => (Class::Missing, pack_of_key(key), key.clone()),
            StoreError::Short { key, .. } | StoreError::TooBig { key, .. } => {
                (Class::Size, pack_of_key(key), key.clone())
            }
            _ => return Err(error.into()),
        },
        FetchError::Pack(PackError::Damaged { pack, .. }) => (Class::Hash, Some(pack), pack.key()),
        FetchError::Pack(PackError::Newer { pack, .. }) => (Class::Newer, None, pack.key()),
        FetchError::ChunkMismatch { pack, .. } => (Class::Hash, Some(pack), pack.key()),
        FetchError::NoSuchPlace { pack, .. } => (Class::Size, None, pack.key()),
        FetchError::Tree(error) => (error.class(), None, object.to_owned()),
    };
    Ok(Finding { object, what, class, pack, snapshots: BTreeSet::new() })
}

fn pack_of_key(key: &str) -> Option<PackId> {
    key.strip_prefix("packs/")?.rsplit('/').next()?.parse().ok()
}
