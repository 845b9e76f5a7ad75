//! The lease log in a store: one request at a time, none repeated in secret, each with an end.
//!
//! A request that hangs is given up by whoever waits (`runner`), and may land whenever it likes; the protocol expects that.
//! Layout: `docs/format/lease.md`. Layer: asks the store.

use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use manifests::digest::Digest;
use manifests::document::lease::{Entry, LEASE_CAP, PAYLOAD_TYPE};
use manifests::document::pins::Member;
use manifests::document::record::Nonce;
use manifests::document::root::Root;
use manifests::envelope;
use manifests::keys::Signer;
use manifests::lease::{self, Group};
use manifests::refusal::Refusal;
use snapkit::store::{self, Created, OpenError, OpenOptions, Pace, Store, StoreError};

use super::machine::{Answer, Request};
use super::timing::Timing;

/// Whose word counts, as of the newest root and pins.
#[derive(Debug, Clone)]
pub struct Trusted {
    /// The newest root.
    pub root: Root,
    /// The members, as in the pins.
    pub members: Vec<Member>,
}

/// A log of one group.
pub struct Log {
    store: Arc<dyn Store>,
    chain: Digest,
    group: String,
    trusted: RwLock<Trusted>,
    signer: Arc<dyn Signer + Send + Sync>,
    signed: Mutex<Option<(Nonce, Vec<u8>)>>,
}

/// Opens the store of a lease for this timing: it repeats nothing and gives up after the time for one request.
///
/// # Errors
/// As [`store::open`].
pub fn open_store(address: &str, options: &OpenOptions, timing: &Timing) -> Result<Arc<dyn Store>, OpenError> {
    let request = timing.request();
    let pace = Pace {
        grace: request,
        connect: request / 2,
        retries: 0,
        patience: Duration::ZERO,
        document: request,
        ..options.pace.clone()
    };
    store::open(address, &OpenOptions { pace, ..options.clone() })
}

impl Log {
    /// The log of `group` in `store`; entries are signed by `signer`, the node's key.
    pub fn new(
        store: Arc<dyn Store>,
        chain: Digest,
        group: String,
        trusted: Trusted,
        signer: Arc<dyn Signer + Send + Sync>,
    ) -> Log {
        Log { store, chain, group, trusted: RwLock::new(trusted), signer, signed: Mutex::default() }
    }

    /// The store, for messages.
    pub fn url(&self) -> &str {
        self.store.url()
    }

    /// Newer root and pins.
    pub fn trust(&self, trusted: Trusted) {
        *self.trusted.write().unwrap_or_else(PoisonError::into_inner) = trusted;
    }

    /// Carries out a request, with as many answers as one.
    pub fn serve(&self, request: &Request) -> Answer {
        match request {
            Request::List { after } => match self.highest(*after) {
                Ok(highest) => Answer::Highest(highest),
                Err(error) => Answer::Failed(told(&error)),
            },
            Request::Get { seq } => self.get(*seq),
            Request::Create { entry } => self.create(entry),
        }
    }

    /// The highest slot above `after`.
    fn highest(&self, after: u64) -> Result<Option<u64>, StoreError> {
        let start = (after > 0).then(|| lease::key(&self.group, after));
        let mut highest = None;
        self.store.list(&lease::prefix(&self.group), start.as_deref(), &mut |key, _| {
            highest = highest.max(lease::slot_of(&self.group, key).filter(|seq| *seq > after));
        })?;
        Ok(highest)
    }

    /// Every slot that exists, ascending.
    ///
    /// # Errors
    /// What the store says.
    pub fn slots(&self) -> Result<Vec<u64>, StoreError> {
        let mut slots = Vec::new();
        self.store
            .list(&lease::prefix(&self.group), None, &mut |key, _| slots.extend(lease::slot_of(&self.group, key)))?;
        slots.sort_unstable();
        Ok(slots)
    }

    fn get(&self, seq: u64) -> Answer {
        // One byte more than an entry may have is enough to know that it is none.
        let bytes = match self.store.get_range_up_to(&lease::key(&self.group, seq), LEASE_CAP as u64 + 1) {
            Ok(Some(bytes)) => bytes,
            Ok(None) => return Answer::Missing,
            Err(error) => return Answer::Failed(told(&error)),
        };
        let Trusted { root, members } = self.trusted.read().unwrap_or_else(PoisonError::into_inner).clone();
        let group = Group { chain: &self.chain, name: &self.group, members: &members, root: &root };
        match lease::read(&bytes, seq, &group) {
            Ok(slot) => Answer::Slot(Box::new(slot)),
            Err(refusal) => Answer::Refused(refusal),
        }
    }

    fn create(&self, entry: &Entry) -> Answer {
        let (digest, bytes) = match self.sign(entry) {
            Ok(signed) => signed,
            Err(refusal) => return Answer::Failed(refusal.to_string()),
        };
        match self.store.create(&lease::key(&self.group, entry.seq), Bytes::from(bytes)) {
            Ok(Created::Yes) => Answer::Created(digest),
            Ok(Created::Exists) => Answer::Exists,
            Ok(Created::Unknown(error)) => Answer::Unknown(told(&error)),
            Err(error) => Answer::Failed(told(&error)),
        }
    }

    /// The envelope of an entry. The same entry gives the same bytes (Ed25519 is deterministic).
    fn sign(&self, entry: &Entry) -> Result<(Digest, Vec<u8>), Refusal> {
        let payload = entry.payload()?;
        let digest = Digest::sha256(&payload);
        let mut signed = self.signed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, bytes)) = signed.as_ref().filter(|(nonce, _)| *nonce == entry.nonce) {
            return Ok((digest, bytes.clone()));
        }
        let bytes = envelope::sign(PAYLOAD_TYPE, &payload, &[&*self.signer])?;
        *signed = Some((entry.nonce, bytes.clone()));
        Ok((digest, bytes))
    }

    /// The envelope of an entry that was written from here.
    ///
    /// # Errors
    /// What the signer says, if it has to be asked again.
    pub fn envelope_of(&self, entry: &Entry) -> Result<Vec<u8>, Refusal> {
        self.sign(entry).map(|(_, bytes)| bytes)
    }

    /// Rule 9: deletes at most `most` slots up to `last`. Returns how many.
    ///
    /// # Errors
    /// What the store says; some may be deleted then.
    pub fn collect(&self, last: u64, most: usize) -> Result<usize, StoreError> {
        let slots = self.slots()?;
        // Never the highest, whatever was asked.
        let highest = slots.last().copied().unwrap_or(0);
        let old: Vec<u64> = slots.into_iter().filter(|seq| *seq <= last && *seq < highest).take(most).collect();
        old.iter().try_for_each(|seq| self.store.delete(&lease::key(&self.group, *seq)))?;
        Ok(old.len())
    }
}

/// An error with its causes, in one line.
fn told(error: &StoreError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// Reading an object that somebody may have made too long on purpose.
trait Prefix {
    fn get_range_up_to(&self, key: &str, bytes: u64) -> Result<Option<Bytes>, StoreError>;
}

impl Prefix for Arc<dyn Store> {
    /// The object, or as much of its beginning; nothing if it is not there.
    fn get_range_up_to(&self, key: &str, bytes: u64) -> Result<Option<Bytes>, StoreError> {
        let read = match self.get(key, bytes) {
            Err(StoreError::TooBig { .. }) => self.get_range(key, 0..bytes),
            read => read,
        };
        match read {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.is_missing() => Ok(None),
            Err(error) => Err(error),
        }
    }
}
