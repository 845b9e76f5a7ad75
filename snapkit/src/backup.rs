//! Putting a snapshot into a chain: capture on the newest head, commit, and plan again when another writer was first.
//!
//! Layer: operations; joins `snapshot` with `chain`.

use std::path::PathBuf;

use jiff::Timestamp;
use manifests::document::record::Body;
use manifests::keys::Signer;
use manifests::refusal::{Class, Refusal};

use crate::cancel::Cancel;
use crate::chain::{Chain, ChainError, Commit, Committed};
use crate::progress::Progress;
use crate::snapshot::{self, Base, Directories, Options, Outcome, SnapshotError, Source};

/// How often a run that lost its slot plans again.
const ATTEMPTS: u32 = 5;

/// A snapshot that is in the chain.
pub struct Backup {
    /// Its record.
    pub committed: Box<Committed>,
    /// What was captured.
    pub outcome: Report,
}

/// What a run captured and stored.
pub struct Report {
    /// Body of the record.
    pub body: manifests::document::snapshot::Snapshot,
    /// Paths that were not captured as they should be.
    pub problems: Vec<snapshot::Problem>,
    /// Whether the state differs from that of the newest snapshot.
    pub changed: bool,
    /// Packs and segments written.
    pub new_objects: u64,
    /// Their length in bytes.
    pub stored_bytes: u64,
    /// Raw bytes that were not in the chain before.
    pub new_bytes: u64,
    /// Local files that could not be written afterwards; the snapshot is safe all the same.
    pub warnings: Vec<String>,
}

/// Why no snapshot was added.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The directories could not be captured, or their data not be stored.
    #[error("cannot take the snapshot")]
    Snapshot(#[from] SnapshotError),
    /// The chain refuses, or cannot be used.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// Other writers were always first.
    #[error("{ATTEMPTS} times another writer was first; the newest record is {newer}; run again when it is quiet")]
    Lost {
        /// The newest record seen.
        newer: u64,
    },
}

/// Captures `sources`, which ascend by name, and adds the snapshot to the chain.
///
/// # Errors
/// [`BackupError`]; nothing was added, and what was stored is reused by the next run.
#[allow(clippy::too_many_arguments, reason = "each is a different thing, and they come together only here")]
pub fn back_up(
    chain: &Chain<'_>,
    sources: &[Source],
    options: &Options,
    cache: PathBuf,
    signer: &dyn Signer,
    node: &str,
    cancel: &Cancel,
    progress: &Progress,
) -> Result<Backup, BackupError> {
    let directories = Directories { cache };
    let mut newer = 0;
    for _ in 0..ATTEMPTS {
        let newest = chain.head()?;
        check_range(chain, newest.head.seq + 1, signer)?;
        let snapshot = match chain.last_snapshot(&newest)?.map(|record| record.body) {
            Some(Body::Snapshot(snapshot)) => Some(*snapshot),
            _ => None,
        };
        let base = Base { segments: chain.segments(&newest)?, snapshot };
        let outcome = snapshot::take(chain.store(), sources, options, &base, &directories, cancel, progress)?;
        progress.start_phase("committing");
        if cancel.is_requested() {
            return Err(SnapshotError::Cancelled.into());
        }
        let body = Body::Snapshot(Box::new(outcome.body.clone()));
        match chain.commit(&newest.head, &body, outcome.segments.clone(), signer, node, Timestamp::now())? {
            Commit::Done(committed) => return Ok(Backup { committed, outcome: report(outcome) }),
            Commit::Lost { newer: seen } => newer = seen,
        }
    }
    Err(BackupError::Lost { newer })
}

/// Refuses a writer key that was retired, or is not valid yet, before anything is read or stored.
fn check_range(chain: &Chain<'_>, seq: u64, signer: &dyn Signer) -> Result<(), ChainError> {
    let key = signer.public();
    if chain.root().writer_may_sign(&key, seq) || !chain.root().signers("writer").allowed.contains(&key) {
        return Ok(());
    }
    let expected = format!("a writer key that is valid at sequence number {seq}");
    let refusal = Refusal::new(Class::Revoked, format!("key {}", key.id()), expected, "one outside of its range");
    Err(refusal.with_hint("sign with another key, or have the owner add this one again: `snapkit root add-key`").into())
}

/// The record is in the chain: local files follow.
fn report(outcome: Outcome) -> Report {
    let warnings = match outcome.pending.committed() {
        Ok(()) => Vec::new(),
        Err(error) => vec![format!("the scan cache could not be written, so the next run reads everything: {error}")],
    };
    Report {
        body: outcome.body,
        problems: outcome.problems,
        changed: outcome.changed,
        new_objects: outcome.new_objects,
        stored_bytes: outcome.stored_bytes,
        new_bytes: outcome.new_bytes,
        warnings,
    }
}
