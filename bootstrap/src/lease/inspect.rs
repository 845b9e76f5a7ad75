//! The lease log as a person looks at it: what stands in it, how fast its store is, and giving back what a dead agent held.
//!
//! Needs no agent. Nothing here claims: whoever leads must run an agent. Documented in `docs/leadership.md`, "By hand".
//! Layer: joins the log with what a node knows of its chain.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use jiff::Timestamp;
use manifests::digest::Digest;
use manifests::document::FORMAT;
use manifests::document::lease::{ChainHead, Entry, Kind, VerifiedEntry};
use manifests::document::pins::Lease;
use manifests::document::record::Nonce;
use manifests::keys::{SecretKey, Signer};
use manifests::lease::{Position, Slot};
use snapkit::cancel::Cancel;
use snapkit::config::{Config, Setting, Source};
use snapkit::store::Store;

use super::log::{Log, Trusted, open_store};
use super::machine::{Answer, Request};
use super::timing::Timing;
use crate::agent::begin::{BeginError, random};
use crate::agent::follow::Follower;
use crate::agent::machine::Trouble;
use crate::config::AgentConfig;

/// The most slots that are read back for the newest valid entry: more void ones in a row nobody accepts.
const BACK: u64 = 65;

/// The lease log of a node's group, opened.
pub struct Inspected {
    /// What the pins say of it.
    pub lease: Lease,
    /// The times that follow.
    pub timing: Timing,
    /// The newest record of the chain.
    pub head: ChainHead,
    chain: Digest,
    log: Log,
    store: Arc<dyn Store>,
    key: Option<Arc<SecretKey>>,
}

/// One slot.
pub struct Found {
    /// Its number.
    pub seq: u64,
    /// What it holds: an entry, or why it holds none.
    pub what: Result<Box<VerifiedEntry>, String>,
}

/// Why the log could not be looked at, or nothing be given back.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    /// The node's files or keys.
    #[error(transparent)]
    Begin(#[from] BeginError),
    /// The pins have no lease.
    #[error("the pins of this node have no lease")]
    NoLease,
    /// The chain cannot be read.
    #[error("{}", .0.why)]
    Chain(Trouble),
    /// The store of the lease cannot be used.
    #[error("cannot ask the store of the lease: {0}")]
    Store(String),
    /// What is asked for does not apply.
    #[error("nothing is given back: {0}")]
    Not(String),
}

impl Inspected {
    /// Follows the chain to the pins, and opens the log that they name.
    ///
    /// # Errors
    /// [`InspectError`]; nothing was changed.
    pub fn open(node: &Path, mut config: Config, cancel: &Cancel) -> Result<Self, InspectError> {
        let agent = AgentConfig::read(node).map_err(BeginError::from)?;
        if let Some(home) = &agent.home {
            config.home = Setting::new(home.clone(), Source::Flag("home in bootstrap.toml"));
        }
        let from = agent.origin().map_err(BeginError::from)?;
        let (root, options) = (from.pin.root, config.open_options());
        let (manifest, cancel) = (agent.manifest.clone(), cancel.clone());
        let follower = Follower {
            node: node.to_owned(),
            name: String::new(),
            from,
            manifest,
            config,
            cancel,
            begun: Default::default(),
        };
        let begun = follower.begin().map_err(InspectError::Chain)?;
        let standing = follower.standing().map_err(InspectError::Chain)?;
        let lease = begun.pins.lease.ok_or(InspectError::NoLease)?;
        let timing = Timing::new(Duration::from_secs(lease.ttl_seconds));
        let address = lease.store.clone().unwrap_or(begun.store);
        let store = open_store(&address, &options, &timing).map_err(|error| InspectError::Store(error.to_string()))?;
        let trust = follower.trust();
        let key = trust.node_key(&root).exists().then(|| trust.read_node_key(&root)).transpose();
        let key = key.map_err(BeginError::Key)?.map(Arc::new);
        let signer = match &key {
            Some(key) => Arc::clone(key),
            None => Arc::new(SecretKey::from_seed(&random()?)),
        };
        let trusted = Trusted { root: standing.root, members: lease.members.clone() };
        let log = Log::new(Arc::clone(&store), begun.chain, lease.group.clone(), trusted, signer);
        Ok(Self { lease, timing, head: standing.head, chain: begun.chain, log, store, key })
    }

    /// Where the log is.
    pub fn url(&self) -> &str {
        self.log.url()
    }

    /// The newest `most` slots, the newest first.
    ///
    /// # Errors
    /// [`InspectError::Store`]
    pub fn newest(&self, most: u64) -> Result<Vec<Found>, InspectError> {
        let Answer::Highest(highest) = self.asked(&Request::List { after: 0 })? else { return Ok(Vec::new()) };
        let last = highest.unwrap_or(0);
        let mut found = Vec::new();
        for seq in (last.saturating_sub(most) + 1..=last).rev() {
            let what = match self.asked(&Request::Get { seq })? {
                Answer::Slot(slot) => match *slot {
                    Slot::Entry(entry, _) => Ok(entry),
                    Slot::Void(_, why) => Err(format!("void: {why}")),
                },
                Answer::Refused(refusal) => Err(refusal.to_string()),
                // Collected, or never there.
                _ => break,
            };
            found.push(Found { seq, what });
        }
        Ok(found)
    }

    fn asked(&self, request: &Request) -> Result<Answer, InspectError> {
        match self.log.serve(request) {
            Answer::Failed(why) | Answer::Unknown(why) => Err(InspectError::Store(why)),
            answer => Ok(answer),
        }
    }

    /// How long `rounds` of what a holder asks of the store take: creating an object, reading it, and listing the log.
    ///
    /// The objects are created below `probe/` and removed again.
    ///
    /// # Errors
    /// [`InspectError::Store`]
    pub fn measure(&self, rounds: usize) -> Result<Vec<Duration>, InspectError> {
        let told = |error: &dyn std::error::Error| InspectError::Store(error.to_string());
        let seed: [u8; 32] = random()?;
        let below: String = seed[..16].iter().map(|byte| format!("{byte:02x}")).collect();
        let mut times = Vec::new();
        for round in 0..rounds {
            let key = format!("probe/{below}/advice-{round}");
            for ask in 0..3 {
                let started = Instant::now();
                match ask {
                    0 => drop(self.store.create(&key, Bytes::from_static(b"advice")).map_err(|error| told(&error))?),
                    1 => drop(self.store.get(&key, 64).map_err(|error| told(&error))?),
                    _ => drop(self.asked(&Request::List { after: 0 })?),
                }
                times.push(started.elapsed());
            }
            self.store.delete(&key).map_err(|error| told(&error))?;
        }
        times.sort_unstable();
        Ok(times)
    }

    /// Gives back what an agent of this node held, for a person who made sure that its service is dead.
    ///
    /// # Errors
    /// [`InspectError::Not`] where there is nothing of this node to give back, or it cannot be said that it was.
    pub fn release(&self, reason: &str) -> Result<Entry, InspectError> {
        let refuse = |why: String| Err(InspectError::Not(why));
        let Some(key) = &self.key else { return refuse("this machine has no node key".into()) };
        let slots = self.newest(BACK)?;
        let (Some(newest), Some(last)) = (slots.first(), slots.iter().find_map(|slot| slot.what.as_ref().ok())) else {
            return refuse("nobody holds the lease".into());
        };
        let (newest, last) = (newest.seq, last.as_ref().clone());
        if last.entry.kind == Kind::Release {
            return refuse(format!("{} gave it back in term {}", last.entry.holder.node, last.entry.term));
        }
        if last.entry.holder.key != key.public().id() {
            return refuse(format!("{} holds it in term {}", last.entry.holder.node, last.entry.term));
        }
        let mut position = Position { last: Some(last.clone()), voids: Vec::new() };
        for seq in last.entry.seq + 1..=newest {
            match self.asked(&Request::Get { seq })? {
                Answer::Slot(slot) => match *slot {
                    Slot::Void(void, _) | Slot::Entry(_, void) => position.voids.push(void),
                },
                _ => return refuse(format!("slot {seq} cannot be read")),
            }
        }
        let nonce: [u8; 32] = random()?;
        let entry = Entry {
            format: FORMAT.into(),
            chain: self.chain,
            group: self.lease.group.clone(),
            seq: position.next_seq(),
            term: last.entry.term,
            kind: Kind::Release,
            previous: Some(last.digest),
            void: position.voids,
            holder: last.entry.holder.clone(),
            ttl_ms: None,
            nonce: Nonce(nonce[..16].try_into().expect("sixteen of thirty-two")),
            head: self.head,
            time: Timestamp::now(),
            reason: Some(reason.to_owned()),
            critical: None,
            ext: serde_json::Map::new(),
        };
        let sent = self.log.serve(&Request::Create { entry: Box::new(entry.clone()) });
        if let Answer::Created(_) = sent {
            return Ok(entry);
        }
        // Rule 7: anything but a clear yes is read back.
        match self.asked(&Request::Get { seq: entry.seq })? {
            Answer::Slot(slot) if matches!(&*slot, Slot::Entry(found, _) if found.entry.nonce == entry.nonce) => {
                Ok(entry)
            }
            _ => refuse(format!("slot {} was not written; run it again", entry.seq)),
        }
    }
}
