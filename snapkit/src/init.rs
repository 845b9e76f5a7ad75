//! A new chain: keys, the first root, genesis, and the trust in them.
//!
//! Everything is made here first; the store gets `root/1.json`, which claims it, then genesis, then the hints. Before that
//! a note says what was begun, so that a run that was stopped anywhere is completed with the same keys by the next.
//! The store is pinned last. Documented in `docs/format/store.md`, "Making a store".
//! Layer: joins `store`, `trust` and `manifests`.

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use manifests::chain::{self, Head};
use manifests::digest::Digest;
use manifests::document::genesis::{Cutter, Genesis, Protection};
use manifests::document::record::{Body, Header, RECORD_CAP, Writer, payload};
use manifests::document::root::{self, ROOT_CAP, Root};
use manifests::envelope;
use manifests::keys::{SecretKey, Signer};
use manifests::log::{Tile, leaf_hash};
use manifests::refusal::Refusal;

use crate::chain::{CHECKPOINT_KEY, ChainError, FORMAT_KEY, FORMAT_LINE, TOOL, fresh_nonce, slot_key};
use crate::chunk;
use crate::keyfile::{self, Readable};
use crate::store::{Created, Store, StoreError};
use crate::trust::{Bootstrap, Mark, Pending, Pin, TrustDir, TrustError, file};

/// How long the first root is valid.
const ROOT_LIFETIME: SignedDuration = SignedDuration::from_hours(365 * 24);
/// The object that claims a store.
const ROOT_KEY: &str = "root/1.json";
/// How often an object is offered to a store that gives no clear answer.
const ATTEMPTS: u32 = 5;

/// A chain that was made.
#[derive(Debug)]
pub struct Initialised {
    /// All that a cold machine needs.
    pub bootstrap: Bootstrap,
    /// The key that signs roots; to be moved away.
    pub owner_key: PathBuf,
    /// The key that signs records on this node.
    pub node_key: PathBuf,
    /// The chain's id.
    pub chain: Digest,
    /// Until when the root is valid.
    pub root_expires: Timestamp,
    /// Whether an earlier run had begun it.
    pub resumed: bool,
    /// What could not be written; the chain is complete all the same.
    pub warnings: Vec<String>,
}

/// Why no chain was made.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// There is a chain already, or what is left of one. Nothing was written.
    #[error("there is a chain in {store} already: it has {key}")]
    Exists {
        /// The store.
        store: String,
        /// The object that shows it.
        key: String,
    },
    /// What is in the store, or what an earlier run began, is not to be believed.
    #[error("the store cannot be used for a new chain")]
    Refused(#[source] Box<Refusal>),
    /// Keys or the trust directory cannot be written. The store was not touched.
    #[error("cannot make keys and trust")]
    Local(#[source] TrustError),
    /// Making genesis failed; run again to complete it with the same keys.
    #[error("cannot make the first record")]
    Chain(#[source] ChainError),
    /// The store did not take an object; run again to complete it with the same keys.
    #[error("cannot write to the store; run `snapkit init` again to complete it with the same keys")]
    Store(#[source] StoreError),
}

impl From<Refusal> for InitError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(Box::new(refusal))
    }
}

impl From<TrustError> for InitError {
    fn from(error: TrustError) -> Self {
        match error {
            TrustError::Refused(refusal) => Self::Refused(refusal),
            error => Self::Local(error),
        }
    }
}

impl From<ChainError> for InitError {
    fn from(error: ChainError) -> Self {
        Self::Chain(error)
    }
}

/// What is made before the store is touched.
struct Made {
    root: Digest,
    root_bytes: Vec<u8>,
    owner: SecretKey,
}

/// Makes a chain in an empty store, with new keys for an owner and for this `node`.
///
/// # Errors
/// [`InitError::Exists`] for a store that has a chain already.
pub fn init(store: &dyn Store, trust: &TrustDir, node: &str, now: Timestamp) -> Result<Initialised, InitError> {
    let url = store.url();
    let there = get(store, ROOT_KEY, ROOT_CAP as u64)?;
    let begun = trust.pending(url)?;
    let made = match (begun, &there) {
        (Some(Pending { root }), there) => {
            let made = begun_before(trust, root)?;
            if there.as_ref().is_some_and(|bytes| *bytes != made.root_bytes) {
                trust.set_pending(url, None)?;
                return Err(taken(url));
            }
            made
        }
        (None, Some(_)) => return Err(taken(url)),
        (None, None) => {
            refuse_remains(store)?;
            let made = make_local(trust, now)?;
            trust.set_pending(url, Some(Pending { root: made.root }))?;
            made
        }
    };
    if there.is_none() && !claim(store, &made.root_bytes)? {
        trust.set_pending(url, None)?;
        return Err(taken(url));
    }
    let root = Root::parse_first(&made.root_bytes, &made.root)?;
    let (genesis, head) = create_genesis(store, &made, &root, node, now)?;
    let warnings = write_hints(store, &head);
    let _ = file::write(&trust.cache_of(&made.root).join("head.json"), &genesis);
    let Head { chain, epoch, seq, digest, time, .. } = head;
    trust.raise_mark(&made.root, Mark { chain, epoch, seq, digest, time }, now)?;
    trust.pin(url, made.root)?;
    trust.set_pending(url, None)?;
    Ok(Initialised {
        bootstrap: Bootstrap { url: url.to_owned(), pin: Pin { root: made.root, min: None } },
        owner_key: trust.owner_key(&made.root),
        node_key: trust.node_key(&made.root),
        chain,
        root_expires: root.document().expires,
        resumed: begun.is_some(),
        warnings,
    })
}

fn taken(url: &str) -> InitError {
    InitError::Exists { store: url.to_owned(), key: ROOT_KEY.to_owned() }
}

/// Refuses a store that lost its root: a new chain over the remains of another would be a mixture of both.
fn refuse_remains(store: &dyn Store) -> Result<(), InitError> {
    for key in [slot_key(0), FORMAT_KEY.to_owned()] {
        match store.size(&key) {
            Err(error) if error.is_missing() => {}
            Err(error) => return Err(InitError::Store(error)),
            Ok(_) => return Err(InitError::Exists { store: store.url().to_owned(), key }),
        }
    }
    Ok(())
}

/// Makes keys and the first root, and keeps them under the root's digest.
fn make_local(trust: &TrustDir, now: Timestamp) -> Result<Made, InitError> {
    let key = |error| InitError::Local(TrustError::Key(error));
    let (owner, node) = (keyfile::generate().map_err(key)?, keyfile::generate().map_err(key)?);
    let expires = now.checked_add(ROOT_LIFETIME).unwrap_or(Timestamp::MAX);
    let payload = Root::new_first(&owner.public(), &node.public(), now, expires)?;
    let root_bytes = envelope::sign(root::PAYLOAD_TYPE, &payload, &[&owner])?;
    let root = Digest::sha256(&payload);
    for (path, secret) in [(trust.owner_key(&root), &owner), (trust.node_key(&root), &node)] {
        let directory = path.parent().unwrap_or(&path);
        file::make_directory(directory)
            .map_err(|source| InitError::Local(TrustError::Write { path: directory.to_owned(), source }))?;
        keyfile::write_new(&path, &secret.to_pem(), Readable::ByOwner).map_err(key)?;
    }
    trust.keep_root(&root, 1, &root_bytes)?;
    Ok(Made { root, root_bytes, owner })
}

/// What an earlier run made and noted.
fn begun_before(trust: &TrustDir, root: Digest) -> Result<Made, InitError> {
    let root_bytes = trust.first_root(&root)?;
    Ok(Made { root, root_bytes, owner: trust.read_owner_key(&root)? })
}

/// Creates `root/1.json`; false if another one is there.
fn claim(store: &dyn Store, bytes: &[u8]) -> Result<bool, InitError> {
    let there = create(store, ROOT_KEY, bytes, ROOT_CAP as u64)?;
    Ok(there == bytes)
}

/// Creates genesis, or takes the one that an earlier run created.
fn create_genesis(
    store: &dyn Store,
    made: &Made,
    root: &Root,
    node: &str,
    now: Timestamp,
) -> Result<(Bytes, Head), InitError> {
    let writer = Writer { key: made.owner.public().id(), node: node.to_owned(), tool: TOOL.to_owned() };
    let header = Header::genesis(now, fresh_nonce()?, writer);
    let cutter = Cutter {
        name: "fastcdc-2020".into(),
        min: chunk::MIN as u64,
        average: chunk::AVERAGE as u64,
        max: chunk::MAX as u64,
    };
    let body = Body::Genesis(Genesis { root: made.root, cutter, protection: Protection::default() });
    let (payload_type, payload) = payload(&header, &body)?;
    let bytes = envelope::sign(payload_type, &payload, &[&made.owner])?;
    chain::first(&bytes, &made.root, root)?;
    let there = create(store, &slot_key(0), &bytes, RECORD_CAP as u64)?;
    let (_, head) = chain::first(&there, &made.root, root)?;
    Ok((there, head))
}

/// Creates an object and gives what the store holds then.
fn create(store: &dyn Store, key: &str, bytes: &[u8], cap_bytes: u64) -> Result<Bytes, InitError> {
    let bytes = Bytes::copy_from_slice(bytes);
    let mut doubt = None;
    for attempt in 0..ATTEMPTS {
        if attempt > 0 {
            std::thread::sleep(Duration::from_millis(100) * 2u32.pow(attempt - 1));
        }
        match store.create(key, bytes.clone()).map_err(InitError::Store)? {
            Created::Yes => return Ok(bytes),
            Created::Exists => {}
            Created::Unknown(error) => doubt = Some(error),
        }
        if let Some(there) = get(store, key, cap_bytes)? {
            return Ok(there);
        }
    }
    let absent = || StoreError::Missing { key: key.to_owned(), store: store.url().to_owned() };
    Err(InitError::Store(doubt.unwrap_or_else(absent)))
}

fn get(store: &dyn Store, key: &str, cap_bytes: u64) -> Result<Option<Bytes>, InitError> {
    match store.get(key, cap_bytes) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.is_missing() => Ok(None),
        // Whatever is that big, it is not ours.
        Err(StoreError::TooBig { .. }) => Ok(Some(Bytes::new())),
        Err(error) => Err(InitError::Store(error)),
    }
}

/// Writes what only helps readers; a failure leaves a complete chain.
fn write_hints(store: &dyn Store, head: &Head) -> Vec<String> {
    let tile = Tile { level: 0, index: 0, width: 1 };
    let hints: [(String, Bytes); 3] = [
        (FORMAT_KEY.to_owned(), FORMAT_LINE.into()),
        (CHECKPOINT_KEY.to_owned(), format!("{} {}\n", head.seq, head.digest).into()),
        (tile.path(), Bytes::copy_from_slice(leaf_hash(&head.digest).as_bytes())),
    ];
    hints
        .into_iter()
        .filter_map(|(key, bytes)| store.put(&key, bytes).err().map(|error| format!("cannot write {key}: {error}")))
        .collect()
}

#[cfg(test)]
mod tests;
