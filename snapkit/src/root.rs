//! The next root: from the newest one in a store, over a draft that travels between signers, back into the store.
//!
//! A draft is the envelope that will be published, in a file; each signer adds a signature. Publishing verifies it as any
//! reader will and creates `root/<n>.json`, once: of two that race, one is told so. A root that would make records of the
//! chain void is not published unless that is asked for.
//! Documented in `docs/format/root.md`, "Drafts", and `docs/keys.md`. Layer: joins `store`, `trust`, `chain`.

use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use manifests::document::root::{Draft, KeptRecord, PAYLOAD_TYPE, ROOT_CAP, Root, RootDocument};
use manifests::envelope;
use manifests::keys::KeyId;
use manifests::refusal::{Class, Refusal};

use crate::chain::{Chain, ChainError, Voided};
use crate::store::{Created, Store, StoreError};
use crate::trust::{Pin, TrustDir, TrustError, file, newest_root_of_any_age};

/// How often the same bytes are offered while the store gives no clear answer.
const ATTEMPTS: u32 = 5;

/// Why a root could not be prepared or published.
#[derive(Debug, thiserror::Error)]
pub enum RootError {
    /// The draft, or a root in the store, is not to be believed or not in turn.
    #[error("the root is refused")]
    Refused(#[source] Box<Refusal>),
    /// The roots of the store cannot be verified.
    #[error("cannot trust the roots in the store")]
    Trust(#[source] TrustError),
    /// What the root would do to the chain cannot be told.
    #[error("cannot tell what the root would do to the chain")]
    Chain(#[source] ChainError),
    /// Records would no longer count. Nothing was written.
    #[error("{} of the chain would become void, from record {} on", records(.0), .0[0].seq)]
    Voids(Vec<Voided>),
    /// The store certainly did not take it.
    #[error("the store did not take the root; nothing was changed")]
    Store(#[source] StoreError),
    /// The store gave no clear answer, so the root may be there or not.
    #[error("whether root {version} was published is unknown; publish it again to see")]
    Unknown {
        /// The version.
        version: u64,
        /// The last answer.
        source: StoreError,
    },
    /// A draft cannot be read or written.
    #[error("cannot use the draft {}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

fn records(voided: &[Voided]) -> String {
    if voided.len() == 1 { "one record".to_owned() } else { format!("{} records", voided.len()) }
}

impl From<Refusal> for RootError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(Box::new(refusal))
    }
}

impl From<TrustError> for RootError {
    fn from(error: TrustError) -> Self {
        match error {
            TrustError::Refused(refusal) => Self::Refused(refusal),
            error => Self::Trust(error),
        }
    }
}

impl From<ChainError> for RootError {
    fn from(error: ChainError) -> Self {
        Self::Chain(error)
    }
}

/// What became of a root that was published.
#[derive(Debug, Clone)]
pub struct Published {
    /// The root, verified.
    pub root: Box<Root>,
    /// Whether it was in the store before this run.
    pub was_there: bool,
    /// Records that no longer count.
    pub voided: Vec<Voided>,
}

/// Whether a root may make records void.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Records {
    /// It may not.
    MustStay,
    /// It may: the key was stolen, and a fork follows.
    MayGo,
}

/// Reads a draft file.
///
/// # Errors
/// [`RootError::File`], and what breaks a rule for roots.
pub fn read_draft(path: &Path) -> Result<(Draft, Vec<u8>), RootError> {
    let failed = |source| RootError::File { path: path.to_owned(), source };
    let bytes = file::read(path, ROOT_CAP).map_err(failed)?;
    let bytes = bytes.ok_or_else(|| failed(std::io::ErrorKind::NotFound.into()))?;
    Ok((Draft::parse(&bytes, &path.display().to_string())?, bytes))
}

/// Replaces a draft file in one durable step.
///
/// # Errors
/// [`RootError::File`].
pub fn write_draft(path: &Path, bytes: &[u8]) -> Result<(), RootError> {
    file::write(path, bytes).map_err(|source| RootError::File { path: path.to_owned(), source })
}

/// The envelope of a document that nobody has signed yet.
///
/// # Errors
/// What a reader would refuse it for.
pub fn unsigned(document: &RootDocument) -> Result<Vec<u8>, Refusal> {
    envelope::sign(PAYLOAD_TYPE, &document.payload()?, &[])
}

/// Has the owner vouch for the records that a change of a draft makes void because a key leaves another role than `writer`.
/// Writers are retired at a number instead, so what would be void of theirs is left as it is.
///
/// `before` is the draft without the change: what it made void already was let go on purpose. Of the key in `lost`
/// nothing is kept from that slot on, because somebody else has it.
///
/// # Errors
/// [`RootError::Chain`] if the chain cannot be read.
pub fn keep_records(
    chain: &Chain<'_>,
    before: &RootDocument,
    document: &mut RootDocument,
    lost: Option<(KeyId, u64)>,
) -> Result<Vec<Voided>, RootError> {
    let newest = chain.head()?;
    let voided_by = |document: &RootDocument| chain.voided_by(&chain.root().supposing(document)?, 1, &newest);
    let let_go = voided_by(before)?;
    // What the draft vouched for is judged again: it may be lost now.
    document.kept = chain.root().document().kept.clone();
    let mut kept = voided_by(document)?;
    let by_writer = |voided: &Voided| matches!(voided.kind.as_str(), "snapshot" | "image");
    let is_lost = |voided: &Voided| lost.is_some_and(|(key, from)| voided.key == key && voided.seq >= from);
    kept.retain(|voided| !by_writer(voided) && !is_lost(voided) && !let_go.contains(voided));
    for record in &kept {
        document.keep(KeptRecord { seq: record.seq, kind: record.kind.clone(), sha256: record.digest });
    }
    Ok(kept)
}

/// Publishes a signed draft as the next root of the chain under `pin`, and keeps it here.
///
/// # Errors
/// What [`Root::parse_next`] refuses, [`Class::Stale`] for one that has expired, [`Class::Version`] if another one was
/// published first, [`RootError::Voids`]: nothing was written then. [`RootError::Unknown`] if the store never gave a clear
/// answer.
pub fn publish(
    store: &dyn Store,
    trust: &TrustDir,
    pin: Pin,
    bytes: &[u8],
    records: Records,
    now: Timestamp,
) -> Result<Published, RootError> {
    let newest = newest_root_of_any_age(store, &pin.root, trust)?;
    let draft = Draft::parse(bytes, "the draft")?;
    let version = draft.document().version;
    if newest.root.version() == version && newest.root.digest() == draft.digest() {
        // An earlier run did it, and was stopped before it said so.
        return Ok(Published { root: Box::new(newest.root), was_there: true, voided: Vec::new() });
    }
    if version <= newest.root.version() {
        return Err(taken(newest.root.version()).into());
    }
    let next = newest.root.parse_next(bytes)?;
    next.check_expiry(now)?;
    let voided = voided(store, trust, pin, &newest.root, &next, now, records)?;
    if records == Records::MustStay && !voided.is_empty() {
        return Err(RootError::Voids(voided));
    }
    let was_there = create(store, &newest.root, version, bytes, &next)?;
    // The first root is kept with it, or the second could not be read back.
    if let Some(first) = &newest.first {
        trust.keep_root(&pin.root, 1, first)?;
    }
    trust.keep_root(&pin.root, version, bytes)?;
    Ok(Published { root: Box::new(next), was_there, voided })
}

/// The records that count under one root and not under the next.
fn voided(
    store: &dyn Store,
    trust: &TrustDir,
    pin: Pin,
    old: &Root,
    next: &Root,
    now: Timestamp,
    records: Records,
) -> Result<Vec<Voided>, RootError> {
    let Some(first_seq) = first_affected(old.document(), next.document()) else {
        return Ok(Vec::new());
    };
    let look = || {
        let chain = Chain::open_expired(store, pin, trust, now)?;
        let newest = chain.head()?;
        chain.voided_by(next, first_seq, &newest)
    };
    match look() {
        // Whoever lets records go does so because something is wrong with the chain.
        Err(_) if records == Records::MayGo => Ok(Vec::new()),
        looked => Ok(looked?),
    }
}

/// The first slot whose record the step from one document to the other could make void, if it could any.
fn first_affected(old: &RootDocument, next: &RootDocument) -> Option<u64> {
    let of = |document: &RootDocument, name: &str| {
        document.roles.iter().find(|role| role.name == name).map(|role| (role.keys.clone(), role.threshold))
    };
    let narrowed = |name: &&str| match (of(old, name), of(next, name)) {
        (None, _) => false,
        (Some(_), None) => true,
        (Some((old, before)), Some((new, after))) => after > before || old.iter().any(|key| !new.contains(key)),
    };
    // A node signs nothing in the chain, and what writers sign is judged by their ranges below.
    if manifests::chain::CHAIN_ROLES.iter().filter(|name| **name != "writer").any(narrowed) || old.kept != next.kept {
        return Some(1);
    }
    if narrowed(&"writer") {
        return Some(1);
    }
    old.writers
        .iter()
        .filter_map(|range| {
            let new = next.writers.iter().find(|new| new.key == range.key && new.from_seq <= range.from_seq);
            match new.map(|new| new.until_seq) {
                Some(until) if until == range.until_seq => None,
                Some(Some(until)) => Some(until),
                Some(None) => None,
                None => Some(range.from_seq),
            }
        })
        .min()
}

/// Creates `root/<version>.json`, and reads it back after anything but clear success; true if it was there.
fn create(store: &dyn Store, old: &Root, version: u64, bytes: &[u8], next: &Root) -> Result<bool, RootError> {
    let key = format!("root/{version}.json");
    let bytes = Bytes::copy_from_slice(bytes);
    let mut doubt: Option<StoreError> = None;
    for attempt in 0..ATTEMPTS {
        if attempt > 0 {
            thread::sleep(Duration::from_millis(100) * 2u32.pow(attempt - 1));
        }
        match store.create(&key, bytes.clone()) {
            Ok(Created::Yes) => return Ok(false),
            Ok(Created::Exists) => {}
            Ok(Created::Unknown(error)) => doubt = Some(error),
            // An earlier attempt that looked lost may still land.
            Err(source) if doubt.is_some() => return Err(RootError::Unknown { version, source }),
            Err(source) => return Err(RootError::Store(source)),
        }
        match store.get(&key, ROOT_CAP as u64) {
            Ok(there) => return judge(&there, old, version, next),
            Err(error) if error.is_missing() => {}
            Err(StoreError::TooBig { .. }) => return Err(foreign(version, "more than a root may have").into()),
            Err(error) => doubt = Some(error),
        }
    }
    let absent = || StoreError::Missing { key, store: store.url().to_owned() };
    Err(RootError::Unknown { version, source: doubt.unwrap_or_else(absent) })
}

/// Whether what lies where the root belongs is this root.
fn judge(there: &[u8], old: &Root, version: u64, next: &Root) -> Result<bool, RootError> {
    match old.parse_next(there) {
        Ok(found) if found.digest() == next.digest() => Ok(true),
        Ok(_) => Err(taken(version).into()),
        Err(refusal) => Err(foreign(version, refusal).into()),
    }
}

fn taken(version: u64) -> Refusal {
    let found = format!("root {version}, which was published first");
    Refusal::new(Class::Version, "the draft", format!("the root after root {version}"), found)
        .with_hint("prepare the change again on the newest root: move the draft away and run the command that made it")
}

fn foreign(version: u64, found: impl std::fmt::Display) -> Refusal {
    let expected = "no object, or this root";
    Refusal::new(Class::Root, format!("root/{version}.json"), expected, format!("something else ({found})"))
        .with_hint("have the owner of the store remove that object, and publish again")
}

#[cfg(test)]
mod tests;
