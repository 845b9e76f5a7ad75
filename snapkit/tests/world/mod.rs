//! A store with a chain, machines that write to it, and what must hold whatever happened to them.
#![allow(dead_code, unreachable_pub, reason = "each test uses a part of it")]

use std::collections::BTreeMap;
use std::fs;
use std::ops::{ControlFlow, Range};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use jiff::Timestamp;
use manifests::document::record::Body;
use manifests::document::snapshot::Snapshot;
use manifests::keys::SecretKey;
use snapkit::backup::{Backup, BackupError, back_up};
use snapkit::cancel::Cancel;
use snapkit::chain::{Chain, ChainError, TilePolicy, record_name};
use snapkit::digest::Digests;
use snapkit::fetch::Fetcher;
use snapkit::id::PackId;
use snapkit::init::init;
use snapkit::progress::Progress;
use snapkit::restore::{self, Chosen, Destination, Owners, Proof, RestoreError, Selection};
use snapkit::scan::inspect::digest_directory;
use snapkit::scan::walk::WalkOptions;
use snapkit::snapshot::{Options, Source};
use snapkit::store::{Abilities, Created, OpenOptions, Store, StoreError, open};
use snapkit::trust::{Pin, TrustDir};
use snapkit::verify::{Depth, Inventory, Report, check_data, take_inventory};
use tempfile::TempDir;

/// A directory with a store, a machine that may write to it, and a state.
pub struct World {
    directory: TempDir,
    /// Where the store is; none for one in the directory.
    url: Option<String>,
    pin: Pin,
}

/// A machine: its keys, its trust and its caches.
pub struct Node {
    pub trust: TrustDir,
    pub key: SecretKey,
    pub name: String,
    home: PathBuf,
    pin: Pin,
}

/// Something that `verify` names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    pub object: String,
    pub what: String,
    /// It follows from the records and no snapshot needs it.
    pub derived: bool,
    /// It was written again.
    pub healed: bool,
}

/// What [`OnCommit`] does in the place of creating a slot.
type Act<'a> = dyn Fn(&dyn Store, &str, Bytes) -> Result<Created, StoreError> + Send + Sync + 'a;

/// A store in which something happens when a slot is created; all else goes through.
pub struct OnCommit<'a> {
    pub inner: Arc<dyn Store>,
    pub act: Box<Act<'a>>,
}

/// A store that lists nothing, for a single writer that adds very many records: stores in memory list slowly.
pub struct WithoutLists(pub Arc<dyn Store>);

/// The snapshots of a chain, by slot, with the digest of the state that each holds.
pub type Listed = BTreeMap<u64, String>;

impl World {
    /// A chain without snapshots in a directory.
    pub fn new() -> World {
        Self::on(None, &std::env::temp_dir())
    }

    /// A chain without snapshots in the store at `url`, or in a directory; all files lie below `place`.
    pub fn on(url: Option<&str>, place: &Path) -> World {
        let directory = tempfile::Builder::new().prefix("snapkit-world-").tempdir_in(place).unwrap();
        fs::create_dir(directory.path().join("state")).unwrap();
        let home = directory.path().join("node");
        let trust = TrustDir::new(&home.join("home"), &home.join("cache"));
        let store = match url {
            Some(url) => open(url, &OpenOptions::default()).unwrap(),
            None => store_in(directory.path()),
        };
        let made = init(&store, &trust, "node", Timestamp::now()).unwrap();
        World { directory, url: url.map(str::to_owned), pin: made.bootstrap.pin }
    }

    /// The same world once more, with all its files. Times of files are kept, so scan caches stay good.
    pub fn copy(&self) -> World {
        let directory = tempfile::Builder::new().prefix("snapkit-world-").tempdir().unwrap();
        copy_tree(self.directory.path(), directory.path());
        assert_eq!(self.url, None, "only a directory can be copied");
        World { directory, url: None, pin: self.pin }
    }

    pub fn store(&self) -> Arc<dyn Store> {
        match &self.url {
            Some(url) => open(url, &OpenOptions::default()).unwrap(),
            None => store_in(self.directory.path()),
        }
    }

    pub fn pin(&self) -> Pin {
        self.pin
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn state(&self) -> PathBuf {
        self.path("state")
    }

    /// Writes a file of the state.
    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        fs::write(self.state().join(name), bytes).unwrap();
    }

    /// The machine that made the chain.
    pub fn node(&self) -> Node {
        Node::at(&self.path("node"), "node", self.pin)
    }

    /// Another machine with the same key and caches of its own.
    pub fn other_node(&self, name: &str) -> Node {
        let home = self.path(name);
        fs::create_dir(&home).unwrap();
        copy_tree(&self.path("node/home"), &home.join("home"));
        Node::at(&home, name, self.pin)
    }

    /// A machine that knows nothing but the pin.
    pub fn stranger(&self) -> Node {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let home = self.path(&format!("stranger-{}", NUMBER.fetch_add(1, Ordering::Relaxed)));
        let trust = TrustDir::new(&home.join("home"), &home.join("cache"));
        Node { trust, key: self.node().key, name: "stranger".to_owned(), home, pin: self.pin }
    }

    /// Takes a snapshot of the state.
    pub fn snapshot(&self) -> Backup {
        self.node().snapshot(&self.store(), &self.state()).unwrap()
    }

    /// Expects that all is well: nothing is wrong, everything listed restores to the digest noted, and the next
    /// run commits and restores too, without any repair.
    #[track_caller]
    pub fn expect_sound(&self, noted: &Listed) {
        let (node, store) = (self.node(), self.store());
        assert_eq!(node.findings(&store, TilePolicy::Check), []);
        assert_eq!(node.listed(&store), *noted, "what is committed");
        assert_eq!(self.stranger().listed(&store), *noted, "what another machine sees");
        for (seq, digest) in noted {
            assert_eq!(self.restored(&node, &store, *seq).unwrap(), *digest, "snapshot {seq}");
        }
        self.expect_next_run_works();
    }

    /// Expects that the next run commits the state as it is now, and that it restores.
    #[track_caller]
    pub fn expect_next_run_works(&self) {
        let (node, store) = (self.node(), self.store());
        let next = node.snapshot(&store, &self.state()).unwrap();
        assert_eq!(next.committed.warnings, Vec::<String>::new());
        assert_eq!(next.outcome.warnings, Vec::<String>::new());
        assert_eq!(self.restored(&node, &store, next.committed.seq).unwrap(), full_digest(&self.state()));
        assert_eq!(node.findings(&store, TilePolicy::Check), [], "after the next run");
    }

    /// Restores a snapshot, and says which full digest the result has.
    pub fn restored(&self, node: &Node, store: &dyn Store, seq: u64) -> Result<String, RestoreError> {
        let target = self.path("restored");
        let result = node.restore(store, seq, &target, &Selection::default()).map(|()| full_digest(&target));
        let _ = fs::remove_dir_all(target);
        result
    }
}

impl Node {
    fn at(home: &Path, name: &str, pin: Pin) -> Node {
        let trust = TrustDir::new(&home.join("home"), &home.join("cache"));
        let key = trust.read_node_key(&pin.root).unwrap();
        Node { trust, key, name: name.to_owned(), home: home.to_owned(), pin }
    }

    /// Where this machine keeps what may be deleted.
    pub fn cache(&self) -> PathBuf {
        self.trust.cache_of(&self.pin.root)
    }

    pub fn open<'a>(&'a self, store: &'a dyn Store) -> Chain<'a> {
        Chain::open(store, self.pin, &self.trust, Timestamp::now()).unwrap()
    }

    /// Takes a snapshot as the command does.
    pub fn snapshot(&self, store: &dyn Store, state: &Path) -> Result<Backup, BackupError> {
        let chain = Chain::open(store, self.pin, &self.trust, Timestamp::now())?;
        let sources = [Source { name: "state".to_owned(), directory: state.to_owned() }];
        let (cancel, progress) = (Cancel::new(), Progress::new());
        back_up(&chain, &sources, &Options::default(), self.cache(), &self.key, &self.name, &cancel, &progress)
    }

    /// The snapshots from the newest back, as `log` lists them.
    pub fn listed(&self, store: &dyn Store) -> Listed {
        let chain = self.open(store);
        let newest = chain.head().unwrap();
        chain
            .walk_back(&newest.record)
            .map(Result::unwrap)
            .filter_map(|record| match &record.body {
                Body::Snapshot(snapshot) => Some((record.header.seq, tree_digest(snapshot))),
                _ => None,
            })
            .collect()
    }

    /// Everything that `verify --data` names; damaged packs are remembered as it does.
    pub fn findings(&self, store: &dyn Store, policy: TilePolicy) -> Vec<Finding> {
        self.try_findings(store, policy).unwrap()
    }

    /// As [`Self::findings`]; an error is what the whole run is refused with.
    pub fn try_findings(&self, store: &dyn Store, policy: TilePolicy) -> Result<Vec<Finding>, ChainError> {
        let chain = Chain::open(store, self.pin, &self.trust, Timestamp::now())?;
        let newest = chain.head()?;
        let mut snapshots: Vec<(String, Snapshot)> = Vec::new();
        let walk = chain.walk_all(&newest, policy, &mut |record| {
            if let (Body::Snapshot(snapshot), Some(name)) = (&record.body, record_name(record)) {
                snapshots.push((name, (**snapshot).clone()));
            }
            ControlFlow::Continue(())
        })?;
        let fetcher = Fetcher::new(store);
        let mut inventory = Inventory::default();
        for (name, snapshot) in &snapshots {
            inventory.add(&fetcher, name, snapshot).unwrap();
        }
        let segments = chain.segments(&newest)?;
        let mut report = Report::default();
        take_inventory(store, &inventory, &segments, &mut report).unwrap();
        let (cancel, progress, scratch) = (Cancel::new(), Progress::new(), self.cache().join("scratch"));
        let all = snapshots.into_iter();
        check_data(&fetcher, all, &inventory, &segments, Depth::All, &scratch, &mut report, &cancel, &progress)
            .unwrap();
        let damaged: Vec<PackId> = report.findings.iter().filter_map(|finding| finding.pack).collect();
        let lines: String = damaged.iter().map(|pack| format!("{pack}\n")).collect();
        fs::write(self.cache().join("damaged-packs"), lines).unwrap();
        let of_chain = walk.problems.into_iter().map(|problem| Finding {
            object: problem.refusal.object().to_owned(),
            what: format!("{}", problem.refusal),
            derived: problem.derived,
            healed: problem.healed,
        });
        let of_data = report.findings.into_iter().map(|finding| Finding {
            object: finding.object,
            what: finding.what,
            derived: false,
            healed: false,
        });
        Ok(of_chain.chain(of_data).collect())
    }

    /// Restores what is selected of a snapshot to a missing directory.
    pub fn restore(&self, store: &dyn Store, seq: u64, target: &Path, choice: &Selection) -> Result<(), RestoreError> {
        let record = self.open(store).record(seq).unwrap();
        let Body::Snapshot(snapshot) = &record.body else { panic!("record {seq} is no snapshot") };
        restore_body(store, snapshot, target, choice, &self.cache().join("scratch"))
    }
}

/// Restores what is selected of a snapshot, as the command does.
pub fn restore_body(
    store: &dyn Store,
    snapshot: &Snapshot,
    target: &Path,
    choice: &Selection,
    scratch: &Path,
) -> Result<(), RestoreError> {
    let fetcher = Fetcher::new(store);
    let options =
        restore::Options { owners: Owners::Ids, devices: true, proof: Proof::Written, fetchers: 2, seeds: Vec::new() };
    let cancel = Cancel::new();
    let destination = Destination::prepare(
        target,
        vec![("state".to_owned(), None)],
        &Chosen::new(String::new(), String::new(), (1, String::new()), Vec::new()),
    )?;
    let xattrs = destination.has_xattrs();
    let plan = restore::plan(&fetcher, snapshot, choice, &options, scratch, xattrs, &cancel)?;
    restore::apply(&fetcher, &plan, vec![destination], &options, &cancel, &Progress::new())?;
    Ok(())
}

macro_rules! forward_all_but_create_and_list {
    ($inner:tt) => {
        fn url(&self) -> &str {
            self.$inner.url()
        }
        fn abilities(&self) -> Abilities {
            self.$inner.abilities()
        }
        fn get(&self, key: &str, cap_bytes: u64) -> Result<Bytes, StoreError> {
            self.$inner.get(key, cap_bytes)
        }
        fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes, StoreError> {
            self.$inner.get_range(key, range)
        }
        fn size(&self, key: &str) -> Result<u64, StoreError> {
            self.$inner.size(key)
        }
        fn put(&self, key: &str, bytes: Bytes) -> Result<(), StoreError> {
            self.$inner.put(key, bytes)
        }
        fn delete(&self, key: &str) -> Result<(), StoreError> {
            self.$inner.delete(key)
        }
    };
}

impl Store for WithoutLists {
    forward_all_but_create_and_list!(0);

    fn create(&self, key: &str, bytes: Bytes) -> Result<Created, StoreError> {
        self.0.create(key, bytes)
    }

    fn list(&self, _: &str, _: Option<&str>, _: &mut dyn FnMut(&str, u64)) -> Result<(), StoreError> {
        Ok(())
    }
}

impl Store for OnCommit<'_> {
    forward_all_but_create_and_list!(inner);

    fn create(&self, key: &str, bytes: Bytes) -> Result<Created, StoreError> {
        if key.starts_with("chain/") {
            return (self.act)(&self.inner, key, bytes);
        }
        self.inner.create(key, bytes)
    }

    fn list(&self, prefix: &str, after: Option<&str>, visit: &mut dyn FnMut(&str, u64)) -> Result<(), StoreError> {
        self.inner.list(prefix, after, visit)
    }
}

/// The answer of a server that failed, whether or not it did what was asked.
pub fn no_answer(key: &str) -> StoreError {
    StoreError::Other {
        action: "create",
        key: key.to_owned(),
        store: "the store of the test".to_owned(),
        advice: "",
        retry: true,
        source: "503".into(),
    }
}

fn tree_digest(snapshot: &Snapshot) -> String {
    snapshot.private.trees[0].full_digest.to_string()
}

/// The full digest of a directory, read anew.
pub fn full_digest(directory: &Path) -> String {
    let digests: Digests = digest_directory(directory, WalkOptions::default(), true).unwrap();
    digests.full.to_string()
}

fn store_in(directory: &Path) -> Arc<dyn Store> {
    let options = OpenOptions { create_directory: true, ..OpenOptions::default() };
    open(directory.join("store").to_str().unwrap(), &options).unwrap()
}

/// Copies a directory with everything `cp -a` keeps.
pub fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    let status = std::process::Command::new("cp").arg("-a").arg(from.join(".")).arg(to).status().unwrap();
    assert!(status.success());
}

/// Bytes that do not compress, the same for the same seed.
pub fn noise(len_bytes: usize, seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; len_bytes];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}
