//! Following: what the machine's actions on chain and node directory do.
//!
//! Every look begins with the one string the node comes from and verifies everything anew, so a store that was replaced or
//! rolled back is noticed by the next one. A manifest that has expired is refused; one whose newest snapshot is old is not,
//! because a leader that is gone takes no snapshots, and to refuse then would turn every long outage into one without end.
//! Documented in `docs/agent.md`, "Following". Layer: joins `origin`, `snapkit::node` and `snapkit::chain`.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use manifests::digest::Digest;
use manifests::document::lease::{ChainHead, Entry};
use manifests::document::pins::Pins;
use manifests::document::record::{Body, Record};
use manifests::document::root::Root;
use manifests::document::snapshot::Snapshot;
use manifests::refusal::{Class, Refusal};
use snapkit::cancel::Cancel;
use snapkit::chain::{Chain, FenceDone, Newest, record_name};
use snapkit::config::Config;
use snapkit::diff::TreePair;
use snapkit::fetch::Fetcher;
use snapkit::keyfile;
use snapkit::manifest::{Expiry, Followed};
use snapkit::node::{self, GenerationName, NodeDir, NodeError, RecordOf, State, Wanted};
use snapkit::progress::Progress;
use snapkit::receipt::{self, Facts};
use snapkit::restore::{Chosen, Options, Owners, Plan, Restored, Selection};
use snapkit::store::mirrored::Notice;
use snapkit::trust::{Bootstrap, TrustDir};

use super::machine::{Apply, Fenced, Sight, Trouble};
use super::orphan;
use super::persist::Led;
use super::view::ChainView;
use crate::origin::Origin;

/// The most snapshots that are counted between a node and the chain.
const LAG_CAP: u64 = 1000;

/// A node that follows a chain.
#[derive(Debug, Clone)]
pub struct Follower {
    /// The node directory.
    pub node: PathBuf,
    /// The name of the node.
    pub name: String,
    /// Where it comes from.
    pub from: Bootstrap,
    /// The name of the manifest.
    pub manifest: Option<String>,
    /// Where keys, trust and caches are, and how stores are opened.
    pub config: Config,
    /// Ends whatever takes long.
    pub cancel: Cancel,
    /// When the newest term began that was asked for.
    pub begun: TermBegun,
}

/// A term and when it began; asked for once, because it does not change.
pub type TermBegun = Arc<Mutex<Option<(u64, Timestamp)>>>;

/// What a look found, for the machine and for people.
#[derive(Debug, Clone)]
pub struct Look {
    /// For the machine.
    pub sight: Sight,
    /// For people.
    pub chain: ChainView,
    /// The root and the head that a claim is judged by and made above.
    pub standing: Standing,
    /// The digest of the pins in force.
    pub pins: Digest,
    /// They themselves.
    pub document: Pins,
    /// What is not fresh, in words.
    pub stale: Option<String>,
    /// The term in force and when it was claimed, by the clock of who claimed it.
    pub begun: Option<(u64, Timestamp)>,
}

/// What a claim is judged by, and made above.
#[derive(Debug, Clone)]
pub struct Standing {
    /// The newest root.
    pub root: Root,
    /// The newest record of the chain.
    pub head: ChainHead,
}

/// What an agent begins with: the pins, and under which name the node is in them.
pub struct Begun {
    /// The pins.
    pub pins: Pins,
    /// Their digest.
    pub digest: Digest,
    /// The digest of the genesis payload.
    pub chain: Digest,
    /// The address of the store.
    pub store: String,
}

impl Follower {
    fn origin(&self) -> Result<Origin, Trouble> {
        // A copy that fails while another serves is no trouble; `snapkit doctor` shows it.
        let listener = Arc::new(|_: &Notice| {});
        Origin::open(&self.from, self.manifest.as_deref(), &self.config, listener).map_err(|error| {
            let class = error.class().filter(|class| !matches!(class, Class::Slow | Class::Missing));
            Trouble { class, ..trouble("cannot find the manifest", &error, class.is_some()) }
        })
    }

    /// Follows the manifest and takes the pins, without looking at the node.
    ///
    /// # Errors
    /// [`Trouble`]
    pub fn begin(&self) -> Result<Begun, Trouble> {
        let origin = self.origin()?;
        let (chain, followed) = follow(&origin)?;
        Ok(Begun {
            pins: followed.pins.pins.clone(),
            digest: followed.pins.digest,
            chain: chain.id(),
            store: origin.store.url().to_owned(),
        })
    }

    /// Root and head of the chain as they are now.
    ///
    /// # Errors
    /// [`Trouble`]
    pub fn standing(&self) -> Result<Standing, Trouble> {
        let origin = self.origin()?;
        let (chain, followed) = follow(&origin)?;
        Ok(standing(&chain, &followed.newest))
    }

    /// Looks at the chain and keeps this node's copy as `apply` says.
    ///
    /// # Errors
    /// [`Trouble`]; what was active is active.
    pub fn look(&self, apply: Apply) -> Result<Look, Trouble> {
        let origin = self.origin()?;
        let (chain, followed) = follow(&origin)?;
        let node = self.open_node()?;
        let id = followed.snapshot.digest.to_string();
        let (state, degraded) = self.state(&node)?;
        let is_active = state.active.as_ref().is_some_and(|active| is_of(&state, active, &id));
        let is_here = state.generations.keys().any(|name| is_of(&state, name, &id) && node.generation(name).is_dir());
        let mut switched = false;
        if degraded.is_none() {
            match apply {
                Apply::Switch { afresh } if afresh || !is_active => {
                    let outcome = self.with_wanted(&origin, &chain, &followed, |wanted| {
                        node::restore_into(&node, wanted, &self.cancel, &Progress::new())
                    });
                    match outcome {
                        Ok(outcome) => switched = matches!(outcome.activation, node::Activation::Switched(_)),
                        // The mark says so, and the machine sees it below.
                        Err(NodeError::NowDegraded { .. } | NodeError::Degraded { .. }) => {}
                        Err(error) => return Err(of_node(&error)),
                    }
                }
                Apply::Prepare if !is_here => {
                    let prepared = self.with_wanted(&origin, &chain, &followed, |wanted| {
                        node::prepare(&node, wanted, &self.cancel, &Progress::new())
                    });
                    prepared.map_err(|error| of_node(&error))?;
                }
                _ => {}
            }
        }
        self.seen(&origin, &chain, &followed, &node, switched)
    }

    /// What is here now, compared with the chain.
    fn seen(
        &self,
        origin: &Origin,
        chain: &Chain<'_>,
        followed: &Followed,
        node: &NodeDir,
        switched: bool,
    ) -> Result<Look, Trouble> {
        let (state, degraded) = self.state(node)?;
        let newest = &followed.newest.head;
        let applied = newest_here(&state, node, &followed.snapshot);
        let lag = lag(chain, &followed.newest, &followed.snapshot, applied.as_ref().map(|record| record.seq))?;
        let captured = captured(&followed.snapshot).unwrap_or(followed.snapshot.header.time);
        let age = u64::try_from(followed.freshness.age.as_secs()).unwrap_or(0);
        let stale = followed.freshness.check(&origin.address).err().map(|refusal| refusal.to_string());
        let sight = Sight {
            head: newest.seq,
            term: newest.term,
            snapshot: followed.snapshot_name.clone(),
            snapshot_seq: followed.snapshot.header.seq,
            captured,
            applied: applied.as_ref().map(|record| record.snapshot.clone()),
            applied_seq: applied.as_ref().map(|record| record.seq),
            lag,
            generation: state.active.as_ref().map(ToString::to_string),
            switched,
            degraded,
        };
        let shown = ChainView {
            store: origin.store.url().to_owned(),
            head: Some(newest.seq),
            snapshot: Some(sight.snapshot.clone()),
            snapshot_seq: Some(sight.snapshot_seq),
            captured: Some(captured),
            applied: sight.applied.clone(),
            applied_seq: sight.applied_seq,
            lag: Some(lag),
            age_seconds: Some(age),
            verified: Some(Timestamp::now()),
            manifest_expires: Some(followed.freshness.expires),
            failure: None,
        };
        let standing = standing(chain, &followed.newest);
        let (pins, document) = (followed.pins.digest, followed.pins.pins.clone());
        let begun = self.term_begun(chain, newest);
        Ok(Look { sight, chain: shown, standing, pins, document, stale, begun })
    }

    /// When the term in force was claimed, as its fence says. It decides nothing, so what cannot be read is left out.
    fn term_begun(&self, chain: &Chain<'_>, newest: &manifests::chain::Head) -> Option<(u64, Timestamp)> {
        let known = *self.begun.lock().unwrap_or_else(PoisonError::into_inner);
        if known.is_some_and(|(term, _)| term == newest.term) {
            return known;
        }
        let Body::Fence(fence) = chain.record(newest.fence?.seq).ok()?.body else { return None };
        let claim = Entry::verify(&fence.claim.to_bytes(), chain.root(), &chain.id(), "claim").ok()?.entry;
        let begun = Some((claim.term, claim.time));
        *self.begun.lock().unwrap_or_else(PoisonError::into_inner) = begun;
        begun
    }

    /// Puts the term of a claim into the chain, and says what term was in force before.
    ///
    /// # Errors
    /// [`Trouble`]
    pub fn fence(&self, claim: &[u8]) -> Result<Fenced, Trouble> {
        let origin = self.origin()?;
        let of_chain = |error: snapkit::chain::ChainError| {
            let refused = error.refusal().is_some();
            trouble("the chain takes no fence", &error, refused)
        };
        let chain = origin.chain(Timestamp::now()).map_err(of_chain)?;
        let key = origin.trust.read_node_key(&origin.pin.root);
        let key = key.map_err(|error| trouble("cannot read the key of this node", &error, false))?;
        let record = match chain.fence(claim, &key, &self.name).map_err(of_chain)? {
            FenceDone::Written(done) => done.newest.record,
            FenceDone::Already(record) => *record,
        };
        // The record before, not the newest one that was seen before: another fence may have come between.
        let voids = record.header.void.len() as u64;
        let before = record.header.seq.checked_sub(1 + voids);
        let before =
            before.map_or(Ok(0), |seq| chain.record(seq).map(|record| record.header.term)).map_err(of_chain)?;
        Ok(Fenced { term: record.header.term, seq: record.header.seq, before })
    }

    /// Sets the state of a lost leadership aside. Where it went, if it holds anything that the chain does not.
    ///
    /// # Errors
    /// [`Trouble`]
    pub fn set_aside(&self, led: &Led) -> Result<Option<String>, Trouble> {
        let origin = self.origin()?;
        let (chain, followed) = follow(&origin)?;
        let node = self.open_node()?;
        let name: GenerationName = match led.generation.parse() {
            Ok(name) => name,
            Err(_) => return Ok(None),
        };
        let state = node.state().map_err(|error| of_node(&error))?;
        let Some(generation) = state.generations.get(&name) else {
            // Removed by hand, or moved by a run that ended before it was written down.
            return Ok(orphan::place(&self.node, led)
                .is_dir()
                .then(|| orphan::place(&self.node, led).display().to_string()));
        };
        // What everybody has of that leadership: the last state that was captured in its term or before.
        let shared = chain.walk_back(&followed.newest.record).find(|record| {
            record.as_ref().map_or(true, |record| record.header.term <= led.term && is_complete(record))
        });
        let shared =
            shared.transpose().map_err(|error| trouble("cannot read the chain", &error, error.refusal().is_some()))?;
        let fetcher = Fetcher::new(&*origin.store);
        let base = shared.as_ref().and_then(|record| snapshot_of(record).map(|snapshot| (record, snapshot)));
        let top = node.generation(&name);
        let pairs: Vec<TreePair<'_>> =
            generation.trees.iter().map(|tree| orphan::pair(tree, base, &fetcher, &top)).collect();
        let scratch = origin.trust.cache_of(&origin.pin.root).join("scratch");
        orphan::set_aside(&node, &name, led, base.map(|(record, _)| record), &pairs, &scratch, &self.cancel)
    }

    fn open_node(&self) -> Result<NodeDir, Trouble> {
        NodeDir::open(&self.node).map_err(|error| of_node(&error))
    }

    fn state(&self, node: &NodeDir) -> Result<(State, Option<String>), Trouble> {
        let state = node.state().map_err(|error| of_node(&error))?;
        let mark = node.degraded().map_err(|error| of_node(&error))?;
        Ok((state, mark.map(|mark| format!("{}; {}", mark.failure, mark.rollback))))
    }

    /// Calls `go` with what is to be restored: the newest complete snapshot.
    fn with_wanted<T>(
        &self,
        origin: &Origin,
        chain: &Chain<'_>,
        followed: &Followed,
        go: impl FnOnce(&Wanted<'_>) -> Result<T, NodeError>,
    ) -> Result<T, NodeError> {
        let began = Timestamp::now();
        let record = &followed.snapshot;
        let snapshot = snapshot_of(record).unwrap_or_else(|| unreachable!("a manifest is followed to a snapshot"));
        let options = Options {
            owners: if rustix::process::geteuid().is_root() { Owners::Ids } else { Owners::Me },
            devices: false,
            proof: self.config.restore.proof.value,
            fetchers: if origin.store.url().starts_with('/') { 2 } else { 8 },
            seeds: Vec::new(),
        };
        let head = chain.accepted().unwrap_or_else(|| unreachable!("following accepts the newest record"));
        let key = origin.trust.node_key(&origin.pin.root);
        let key = key.exists().then(|| keyfile::read_secret(&key).ok()).flatten().map(Arc::new);
        let write = |file: &Path, plan: &Plan, targets: &[(&str, PathBuf)], restored: &Restored| {
            let facts = Facts {
                root: origin.pin.root,
                record,
                head: &head,
                plan,
                selection: &Selection::default(),
                targets,
                extra: 0,
                proof: options.proof,
                break_glass: None,
                restored,
                started: began,
                finished: Timestamp::now(),
            };
            key.as_ref().map_or(Ok(()), |key| receipt::write(file, Arc::clone(key), &facts))
        };
        let chosen = |trees: &[(String, Option<String>)]| {
            let request = trees.iter().map(|(tree, inside)| format!("tree {tree} {inside:?}")).collect();
            let which = (record.header.seq, record.digest.to_string());
            Chosen::new(chain.id().to_string(), "latest".to_owned(), which, request)
        };
        let fetcher = Fetcher::new(&*origin.store);
        let wanted = Wanted {
            fetcher: &fetcher,
            record: RecordOf {
                snapshot: followed.snapshot_name.clone(),
                seq: record.header.seq,
                id: record.digest.to_string(),
            },
            snapshot,
            options: &options,
            chosen: &chosen,
            scratch: &origin.trust.cache_of(&origin.pin.root).join("scratch"),
            again: false,
            write_receipt: &write,
        };
        go(&wanted)
    }

    /// The trust directory.
    pub fn trust(&self) -> TrustDir {
        TrustDir::new(&self.config.home.value, &self.config.cache.value)
    }
}

fn follow(origin: &Origin) -> Result<(Chain<'_>, Followed), Trouble> {
    let chain = origin.chain(Timestamp::now()).map_err(|error| {
        let refused = error.refusal().is_some();
        trouble("cannot open the chain", &error, refused)
    })?;
    let followed = origin.follow(&chain, Expiry::Refuse).map_err(|error| {
        let class = error.class().filter(|class| *class != Class::Slow);
        Trouble { class, ..trouble("cannot follow the manifest", &error, class.is_some()) }
    })?;
    Ok((chain, followed))
}

fn standing(chain: &Chain<'_>, newest: &Newest) -> Standing {
    let newest = &newest.head;
    let head = ChainHead { epoch: newest.epoch, seq: newest.seq, digest: newest.digest, term: newest.term };
    Standing { root: chain.root().clone(), head }
}

/// The newest snapshot of which a generation is here, up to the one that counts.
fn newest_here(state: &State, node: &NodeDir, newest: &Record) -> Option<RecordOf> {
    let is_here = |name: &&GenerationName| node.generation(name).is_dir();
    let records = state.generations.keys().filter(is_here).filter_map(|name| state.generations[name].record.clone());
    records.filter(|record| record.seq <= newest.header.seq).max_by_key(|record| record.seq)
}

fn is_of(state: &State, name: &GenerationName, id: &str) -> bool {
    state.generations.get(name).and_then(|generation| generation.record.as_ref()).is_some_and(|record| record.id == id)
}

/// Complete snapshots after the one in slot `applied`.
fn lag(chain: &Chain<'_>, newest: &Newest, snapshot: &Record, applied: Option<u64>) -> Result<u64, Trouble> {
    let Some(applied) = applied else { return Ok(LAG_CAP) };
    if applied >= snapshot.header.seq {
        return Ok(0);
    }
    let mut count = 0;
    for record in chain.walk_back(&newest.record) {
        let record = record.map_err(|error| trouble("cannot read the chain", &error, error.refusal().is_some()))?;
        if record.header.seq <= applied || count >= LAG_CAP {
            break;
        }
        count += u64::from(is_complete(&record) && record.header.seq <= snapshot.header.seq);
    }
    Ok(count)
}

fn is_complete(record: &Record) -> bool {
    matches!(&record.body, Body::Snapshot(snapshot) if snapshot.public.complete)
}

fn snapshot_of(record: &Record) -> Option<&Snapshot> {
    match &record.body {
        Body::Snapshot(snapshot) => Some(snapshot),
        _ => None,
    }
}

fn captured(record: &Record) -> Option<Timestamp> {
    snapshot_of(record).map(|snapshot| snapshot.private.started)
}

/// An error with all its causes, and the next step where one of them knows it.
fn trouble(what: &str, error: &(dyn Error + 'static), refused: bool) -> Trouble {
    let causes = std::iter::successors(Some(error), |error| Error::source(*error));
    let refusal = causes.clone().find_map(|cause| cause.downcast_ref::<Refusal>());
    let next = refusal.map(|refusal| refusal.hint().to_owned());
    let class = refusal.map(Refusal::class).filter(|_| refused);
    let why = causes.fold(what.to_owned(), |line, cause| format!("{line}: {cause}"));
    Trouble { why, next, refused, class }
}

fn of_node(error: &NodeError) -> Trouble {
    let next = error.next();
    Trouble { next, ..trouble("the node directory cannot be kept", error, false) }
}

/// The name of a record, or its number.
pub fn name_of(record: &Record) -> String {
    record_name(record).unwrap_or_else(|| format!("record {}", record.header.seq))
}
