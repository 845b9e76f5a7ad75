//! The trust directory: pins, verified roots and marks of this machine, and where its keys are.
//!
//! ```text
//! HOME/trust/stores.json                  address -> SHA-256 of root 1
//! HOME/trust/<root sha256>/root/<n>.json  every verified root
//! HOME/trust/<root sha256>/head.json      the mark: the newest verified head
//! HOME/trust/<root sha256>/forks/…        proofs that a chain was split
//! HOME/keys/<root sha256>/owner.key, node.key
//! CACHE/chain/<root sha256>/…             may be deleted at any time
//! ```
//!
//! Everything is replaced as a whole. Documented in `docs/trust.md`. Layer: files.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use manifests::digest::Digest;
use manifests::document::root::ROOT_CAP;
use manifests::keys::SecretKey;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{TrustError, clock, file};
use crate::keyfile;

/// The largest of the small JSON files here, in bytes.
const FILE_CAP: usize = 4 << 20;

/// The directories that hold trust, keys and caches.
#[derive(Debug, Clone)]
pub struct TrustDir {
    home: PathBuf,
    cache: PathBuf,
}

/// The newest head that was verified here. It only rises.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mark {
    /// The digest of the genesis payload.
    pub chain: Digest,
    /// The head's epoch.
    pub epoch: u64,
    /// Its slot.
    pub seq: u64,
    /// The digest of its payload.
    pub digest: Digest,
    /// The latest time known when it was verified: a clock that is behind it does not make old things fresh.
    pub time: Timestamp,
}

/// A chain that `init` began to make and did not finish.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pending {
    /// SHA-256 of the payload of its root 1, which is kept here with the keys.
    pub root: Digest,
}

impl TrustDir {
    /// Trust and keys below `home`, caches below `cache`. Nothing is made before it is needed.
    pub fn new(home: &Path, cache: &Path) -> Self {
        Self { home: home.to_owned(), cache: cache.to_owned() }
    }

    /// The directory of what belongs to one root.
    pub(super) fn of(&self, root: &Digest) -> PathBuf {
        self.home.join("trust").join(root.to_string())
    }

    /// The directory of this chain's caches.
    pub fn cache_of(&self, root: &Digest) -> PathBuf {
        self.cache.join("chain").join(root.to_string())
    }

    /// The file of the owner's key.
    pub fn owner_key(&self, root: &Digest) -> PathBuf {
        self.home.join("keys").join(root.to_string()).join("owner.key")
    }

    /// The file of the node's key.
    pub fn node_key(&self, root: &Digest) -> PathBuf {
        self.home.join("keys").join(root.to_string()).join("node.key")
    }

    /// Reads the key that signs records on this node.
    ///
    /// # Errors
    /// [`TrustError::Key`] when it is missing, readable by others, or no key.
    pub fn read_node_key(&self, root: &Digest) -> Result<SecretKey, TrustError> {
        keyfile::read_secret(&self.node_key(root)).map_err(TrustError::Key)
    }

    /// Reads the key that signs roots.
    ///
    /// # Errors
    /// As [`Self::read_node_key`].
    pub fn read_owner_key(&self, root: &Digest) -> Result<SecretKey, TrustError> {
        keyfile::read_secret(&self.owner_key(root)).map_err(TrustError::Key)
    }

    /// Every store with a pin, by address.
    ///
    /// # Errors
    /// [`TrustError::Read`] or [`TrustError::Damaged`].
    pub fn stores(&self) -> Result<BTreeMap<String, Digest>, TrustError> {
        Ok(self.read_json(&self.stores_file())?.unwrap_or_default())
    }

    /// The pinned root of the store at `url`, if there is one.
    ///
    /// # Errors
    /// As [`Self::stores`].
    pub fn pinned(&self, url: &str) -> Result<Option<Digest>, TrustError> {
        Ok(self.stores()?.get(&normalised(url)).copied())
    }

    /// Pins the store at `url`. The caller has verified that it holds this root.
    ///
    /// # Errors
    /// [`TrustError::Write`]; the old pins are whole then.
    pub fn pin(&self, url: &str, root: Digest) -> Result<(), TrustError> {
        let path = self.stores_file();
        let _lock = self.lock(&path)?;
        let mut stores = self.stores()?;
        if stores.insert(normalised(url), root) == Some(root) {
            return Ok(());
        }
        self.write_json(&path, &stores)
    }

    /// The bytes of a root that was verified here.
    pub(crate) fn read_root(&self, root: &Digest, version: u64) -> Result<Option<Vec<u8>>, TrustError> {
        let path = self.root_file(root, version);
        file::read(&path, ROOT_CAP).map_err(|source| TrustError::Read { path, source })
    }

    /// The first root, which is kept here.
    pub(crate) fn first_root(&self, root: &Digest) -> Result<Vec<u8>, TrustError> {
        let path = self.root_file(root, 1);
        let missing = || TrustError::Damaged { path, why: "it is missing".to_owned() };
        self.read_root(root, 1)?.ok_or_else(missing)
    }

    /// The roots that were verified here, from the first on, as far as they are kept without a gap.
    ///
    /// # Errors
    /// [`TrustError::Read`].
    pub fn kept_roots(&self, root: &Digest) -> Result<Vec<Vec<u8>>, TrustError> {
        let mut roots = Vec::new();
        while let Some(bytes) = self.read_root(root, roots.len() as u64 + 1)? {
            roots.push(bytes);
        }
        Ok(roots)
    }

    /// Keeps a verified root.
    pub(crate) fn keep_root(&self, root: &Digest, version: u64, bytes: &[u8]) -> Result<(), TrustError> {
        let path = self.root_file(root, version);
        file::write(&path, bytes).map_err(|source| TrustError::Write { path, source })
    }

    /// The file of a verified root.
    pub fn root_file(&self, root: &Digest, version: u64) -> PathBuf {
        self.of(root).join("root").join(format!("{version}.json"))
    }

    /// The newest verified head of the chain under this root.
    ///
    /// # Errors
    /// [`TrustError::Read`] or [`TrustError::Damaged`].
    pub fn mark(&self, root: &Digest) -> Result<Option<Mark>, TrustError> {
        self.read_json(&self.mark_file(root))
    }

    /// Raises the mark to a head that passed every check; a lower one leaves it as it is.
    ///
    /// The time kept is that of [`clock`](super::clock), and never falls.
    ///
    /// # Errors
    /// [`TrustError::Write`]; the old mark is whole then.
    pub(crate) fn raise_mark(&self, root: &Digest, to: Mark, now: Timestamp) -> Result<Mark, TrustError> {
        let path = self.mark_file(root);
        let latest = clock::stored(to.time, now);
        if self
            .mark(root)?
            .is_some_and(|old| (old.epoch, old.seq) == (to.epoch, to.seq) && old.time >= to.time.min(latest))
        {
            // Most runs see what they saw before; they write nothing.
            return Ok(to);
        }
        let _lock = self.lock(&path)?;
        let old = self.mark(root)?;
        if let Some(old) = old
            && (old.epoch, old.seq) > (to.epoch, to.seq)
        {
            return Ok(old);
        }
        let new = Mark { time: old.map_or(latest, |old| old.time.max(latest)), ..to };
        self.write_json(&path, &new)?;
        Ok(new)
    }

    fn mark_file(&self, root: &Digest) -> PathBuf {
        self.of(root).join("head.json")
    }

    /// Keeps the proof that a chain was split, and names the file. A proof that is there already is not written again.
    ///
    /// # Errors
    /// [`TrustError::Write`].
    pub(crate) fn keep_fork_proof(&self, root: &Digest, seq: u64, proof: &[u8]) -> Result<PathBuf, TrustError> {
        let name = format!("{seq:020}-{}.json", &Digest::sha256(proof).to_string()[..16]);
        let path = self.of(root).join("forks").join(name);
        if file::read(&path, proof.len()).is_ok_and(|kept| kept.as_deref() == Some(proof)) {
            return Ok(path);
        }
        match file::write(&path, proof) {
            Ok(()) => Ok(path),
            Err(source) => Err(TrustError::Write { path, source }),
        }
    }

    /// What `init` began for the store at `url`, if it did not finish.
    pub(crate) fn pending(&self, url: &str) -> Result<Option<Pending>, TrustError> {
        let all: BTreeMap<String, Pending> = self.read_json(&self.pending_file())?.unwrap_or_default();
        Ok(all.get(&normalised(url)).copied())
    }

    /// Notes what `init` begins for the store at `url`, or that nothing is open any more.
    pub(crate) fn set_pending(&self, url: &str, pending: Option<Pending>) -> Result<(), TrustError> {
        let path = self.pending_file();
        let _lock = self.lock(&path)?;
        let mut all: BTreeMap<String, Pending> = self.read_json(&path)?.unwrap_or_default();
        let before = match pending {
            Some(pending) => all.insert(normalised(url), pending),
            None => all.remove(&normalised(url)),
        };
        if before == pending { Ok(()) } else { self.write_json(&path, &all) }
    }

    fn stores_file(&self) -> PathBuf {
        self.home.join("trust").join("stores.json")
    }

    fn pending_file(&self) -> PathBuf {
        self.home.join("trust").join("pending.json")
    }

    /// Keeps other processes from changing `path` between reading and writing it, until dropped.
    pub(super) fn lock(&self, path: &Path) -> Result<File, TrustError> {
        let path = path.with_extension("lock");
        let open = || {
            file::make_directory(path.parent().unwrap_or(Path::new(".")))?;
            let lock = File::options().create(true).truncate(false).write(true).open(&path)?;
            lock.lock()?;
            Ok(lock)
        };
        open().map_err(|source| TrustError::Write { path: path.clone(), source })
    }

    fn read_json<T: DeserializeOwned>(&self, path: &Path) -> Result<Option<T>, TrustError> {
        let read = file::read(path, FILE_CAP);
        let read = read.map_err(|source| TrustError::Read { path: path.to_owned(), source })?;
        let Some(bytes) = read else {
            return Ok(None);
        };
        let parsed = serde_json::from_slice(&bytes);
        parsed.map(Some).map_err(|error| TrustError::Damaged { path: path.to_owned(), why: error.to_string() })
    }

    fn write_json<T: Serialize>(&self, path: &Path, value: &T) -> Result<(), TrustError> {
        let mut text = serde_json::to_string_pretty(value).expect("names and digests always encode");
        text.push('\n');
        file::write(path, text.as_bytes()).map_err(|source| TrustError::Write { path: path.to_owned(), source })
    }
}

/// The address under which a store is pinned: without the slashes at its end.
fn normalised(url: &str) -> String {
    match url.trim_end_matches('/') {
        "" => url.to_owned(),
        url => url.to_owned(),
    }
}
