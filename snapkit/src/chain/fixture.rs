//! A chain in memory, from which the tests of the chain, of trust and of selectors start.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use jiff::Timestamp;
use manifests::digest::Digest;
use manifests::document::record::{Body, Writer};
use manifests::document::snapshot::{ChunkRef, PackRef, Packs, Private, Public, Snapshot, Tree};
use manifests::keys::{SecretKey, Signer};
use tempfile::TempDir;

use super::{Chain, ChainError, Commit, Committed, Newest};
use crate::init::{Initialised, init};
use crate::store::{OpenOptions, Store, open};
use crate::trust::{Pin, TrustDir};

/// A store with a chain, and the machine that made it.
pub(crate) struct World {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) trust: TrustDir,
    pub(crate) made: Initialised,
    pub(crate) key: SecretKey,
    directory: TempDir,
}

pub(crate) fn at(minute: i64) -> Timestamp {
    let start: Timestamp = "2026-11-20T12:00:00Z".parse().unwrap();
    start + jiff::SignedDuration::from_mins(minute)
}

/// A new store in memory.
pub(crate) fn memory() -> Arc<dyn Store> {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let url = format!("memory://chain{}", NUMBER.fetch_add(1, Ordering::Relaxed));
    open(&url, &OpenOptions::default()).unwrap()
}

/// The body of a snapshot that no data belongs to.
pub(crate) fn a_snapshot() -> Body {
    Body::Snapshot(Box::new(snapshot_body()))
}

pub(crate) fn snapshot_body() -> Snapshot {
    let digest = Digest::sha256(b"test");
    let index =
        ChunkRef { chunk: digest, bytes: 3, pack: digest, pack_bytes: 500, table_bytes: 120, frame: 0, offset: 0 };
    let tree = Tree {
        name: "state".into(),
        path: "/srv/state".into(),
        content_digest: digest,
        full_digest: digest,
        entries: 1,
        files: 0,
        bytes: 0,
        index,
    };
    let last = vec![PackRef { id: digest, bytes: 500, table_bytes: 120 }];
    Snapshot {
        public: Public {
            complete: true,
            trees: 1,
            entries: 1,
            files: 0,
            bytes: 0,
            torn: 0,
            unreadable: 0,
            packs: Packs { count: 1, bytes: 500, list: Vec::new(), last },
        },
        private: Private {
            started: at(0),
            finished: at(0),
            content_digest: digest,
            full_digest: digest,
            trees: vec![tree],
        },
    }
}

impl World {
    pub(crate) fn new() -> World {
        World::on(memory())
    }

    pub(crate) fn on(store: Arc<dyn Store>) -> World {
        let directory = tempfile::tempdir().unwrap();
        let trust = TrustDir::new(&directory.path().join("home"), &directory.path().join("cache"));
        let made = init(&store, &trust, "node-a", at(0)).unwrap();
        let key = trust.read_node_key(&made.bootstrap.pin.root).unwrap();
        World { store, trust, made, key, directory }
    }

    pub(crate) fn pin(&self) -> Pin {
        self.made.bootstrap.pin
    }

    pub(crate) fn open(&self) -> Chain<'_> {
        self.open_on(&self.store)
    }

    pub(crate) fn open_on<'a>(&'a self, store: &'a dyn Store) -> Chain<'a> {
        Chain::open(store, self.pin(), &self.trust, at(60)).unwrap()
    }

    /// The same store once more, read and written by another machine with the same key.
    pub(crate) fn copy(&self) -> World {
        let store = memory();
        for key in self.list("") {
            store.put(&key, self.store.get(&key, 1 << 20).unwrap()).unwrap();
        }
        let (directory, trust) = self.stranger();
        let root = self.pin().root;
        trust.keep_root(&root, 1, &store.get("root/1.json", 1 << 20).unwrap()).unwrap();
        let made = Initialised {
            bootstrap: self.made.bootstrap.clone(),
            owner_key: self.made.owner_key.clone(),
            node_key: self.made.node_key.clone(),
            warnings: Vec::new(),
            ..self.made
        };
        let key = self.trust.read_node_key(&root).unwrap();
        let world = World { store, trust, made, key, directory };
        world.open().head().unwrap();
        world
    }

    /// A machine that knows nothing.
    pub(crate) fn stranger(&self) -> (TempDir, TrustDir) {
        let directory = tempfile::tempdir().unwrap();
        let trust = TrustDir::new(&directory.path().join("home"), &directory.path().join("cache"));
        (directory, trust)
    }

    pub(crate) fn clear_cache(&self) {
        let _ = std::fs::remove_dir_all(self.directory.path().join("cache"));
    }

    pub(crate) fn commit_on(&self, chain: &Chain<'_>, base: &Newest) -> Result<Commit, ChainError> {
        let time = at(base.head.seq as i64 + 1);
        chain.commit(&base.head, &a_snapshot(), None, &self.key, "node-a", time)
    }

    /// A record after `base` as another node makes it, in no slot yet.
    pub(crate) fn make(&self, chain: &Chain<'_>, base: &Newest, body: &Body) -> Result<Newest, ChainError> {
        let writer = Writer { key: self.key.public().id(), node: "node-b".into(), tool: super::TOOL.into() };
        let header = base.head.next_header(&[], at(9), super::fresh_nonce()?, writer)?;
        chain.make(&base.head, &[], &header, body, &self.key)
    }

    pub(crate) fn commit(&self) -> Committed {
        let chain = self.open();
        let base = chain.head().unwrap();
        match self.commit_on(&chain, &base).unwrap() {
            Commit::Done(done) => *done,
            Commit::Lost { newer } => panic!("lost to {newer}"),
        }
    }

    pub(crate) fn grow(&self, snapshots: u64) {
        let chain = self.open();
        let mut newest = chain.head().unwrap();
        for _ in 0..snapshots {
            let Commit::Done(done) = self.commit_on(&chain, &newest).unwrap() else { panic!("lost") };
            assert_eq!(done.warnings, Vec::<String>::new());
            newest = done.newest;
        }
    }

    pub(crate) fn list(&self, prefix: &str) -> Vec<String> {
        let mut keys = Vec::new();
        self.store.list(prefix, None, &mut |key, _| keys.push(key.to_owned())).unwrap();
        keys.sort();
        keys
    }
}
