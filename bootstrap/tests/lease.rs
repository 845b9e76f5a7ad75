//! The lease runner on a real directory store, with real clocks: two members, one lease.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bootstrap::lease::log::{Trusted, open_store};
use bootstrap::lease::runner::{Config, Runner};
use bootstrap::lease::timing::Timing;
use bootstrap::lease::{LeaseNote, LeaseWish};
use jiff::Timestamp;
use manifests::digest::Digest;
use manifests::document::lease::{ChainHead, Entry};
use manifests::document::pins::{Lease, Member};
use manifests::document::record::Nonce;
use manifests::document::root::{self, Root, RootDocument};
use manifests::envelope;
use manifests::keys::{SecretKey, Signer};
use snapkit::store::OpenOptions;

/// Longer than anything here takes.
const LIMIT: Duration = Duration::from_secs(120);

struct Group {
    directory: tempfile::TempDir,
    root: Root,
    mode: &'static str,
}

impl Group {
    fn new(mode: &'static str) -> Group {
        let (owner, issued) = (SecretKey::from_seed(&[1; 32]), Timestamp::now());
        let expires = issued + jiff::SignedDuration::from_hours(24);
        let mut document = RootDocument::first(&owner.public(), &key(0).public(), issued, expires);
        document.add_key(&key(1).public(), "node").unwrap();
        let payload = document.payload().unwrap();
        let bytes = envelope::sign(root::PAYLOAD_TYPE, &payload, &[&owner]).unwrap();
        let root = Root::parse_first(&bytes, &Digest::sha256(&payload)).unwrap();
        Group { directory: tempfile::tempdir().unwrap(), root, mode }
    }

    fn start(&self, number: u8, instance: u8) -> Runner {
        self.start_after(number, instance, || {})
    }

    fn store(&self) -> PathBuf {
        self.directory.path().join("store")
    }

    /// Starts a runner after something happened to the store that it opened.
    fn start_after(&self, number: u8, instance: u8, happens: impl FnOnce()) -> Runner {
        let mut members: Vec<Member> = Vec::new();
        for other in 0..2 {
            members.push(Member { node: format!("node-{other}"), key: key(other).public().id() });
        }
        let lease = Lease {
            mode: self.mode.into(),
            back_end: "store".into(),
            store: None,
            group: "app".into(),
            ttl_seconds: 5,
            members: members.clone(),
        };
        let path = self.store();
        fs::create_dir_all(&path).unwrap();
        let timing = Timing::new(Duration::from_secs(5));
        let store = open_store(path.to_str().unwrap(), &OpenOptions::default(), &timing).unwrap();
        happens();
        Runner::start(Config {
            store,
            chain: chain(),
            trusted: Trusted { root: self.root.clone(), members },
            lease,
            node: format!("node-{number}"),
            instance: Nonce([instance; 16]),
            signer: Arc::new(key(number)),
            writer: Some(key(number).public().id()),
            api: None,
            head: ChainHead { epoch: 0, seq: 3, digest: chain(), term: 4 },
            observes: false,
            capability: self.directory.path().join(format!("capability-{number}.json")),
        })
        .unwrap()
    }
}

fn key(number: u8) -> SecretKey {
    SecretKey::from_seed(&[10 + number; 32])
}

fn chain() -> Digest {
    Digest::sha256(b"chain")
}

/// The first note that `wanted` takes.
fn wait<T>(runner: &Runner, mut wanted: impl FnMut(LeaseNote) -> Option<T>) -> T {
    loop {
        let note = runner.notes.recv_timeout(LIMIT).unwrap();
        if let Some(found) = wanted(note) {
            return found;
        }
    }
}

fn claimed(runner: &Runner) -> (u64, Vec<u8>) {
    wait(runner, |note| match note {
        LeaseNote::Claimed { term, claim, .. } => Some((term, claim)),
        _ => None,
    })
}

#[test]
fn a_lease_is_claimed_renewed_given_back_and_taken_at_once() {
    let group = Group::new("auto");
    let (first, second) = (group.start(0, 1), group.start(1, 2));
    first.wishes.send(LeaseWish::Force { reason: "a test".into() }).unwrap();
    let (term, claim) = claimed(&first);
    // One above the chain, whose term is 4.
    assert_eq!(term, 5);
    let claim = Entry::verify(&claim, &group.root, &chain(), "claim").unwrap().entry;
    assert_eq!((claim.seq, claim.reason.as_deref()), (1, Some("a test")));
    second.wishes.send(LeaseWish::Lead).unwrap();
    wait(&first, |note| matches!(note, LeaseNote::Renewed { .. }).then_some(()));
    wait(&second, |note| matches!(note, LeaseNote::Seen(Some(holder)) if holder.node == "node-0").then_some(()));
    first.wishes.send(LeaseWish::Release).unwrap();
    wait(&first, |note| (note == LeaseNote::Released).then_some(()));
    assert_eq!(claimed(&second).0, 6);
    assert!(first.view().renewals > 0 && first.view().failure.is_none());
}

#[test]
fn a_lease_that_is_not_renewed_is_taken_by_the_other_member() {
    let group = Group::new("auto");
    let first = group.start(0, 1);
    first.wishes.send(LeaseWish::Force { reason: "a test".into() }).unwrap();
    claimed(&first);
    drop(first);
    let second = group.start(1, 2);
    second.wishes.send(LeaseWish::Lead).unwrap();
    assert_eq!(claimed(&second).0, 6);
}

/// What a store enforces cannot be told while it is away; that is no verdict for ever.
#[test]
fn a_store_that_was_away_when_it_was_tried_is_tried_again() {
    let group = Group::new("auto");
    let (store, away) = (group.store(), group.directory.path().join("away"));
    let runner = group.start_after(0, 1, || {
        fs::rename(&store, &away).unwrap();
        fs::write(&store, "no directory").unwrap();
    });
    runner.wishes.send(LeaseWish::Lead).unwrap();
    wait(&runner, |note| matches!(note, LeaseNote::Unfit(_)).then_some(()));
    fs::remove_file(&store).unwrap();
    fs::rename(&away, &store).unwrap();
    assert_eq!(claimed(&runner).0, 5);
}

#[test]
fn a_static_lease_goes_on_after_a_restart_and_moves_only_by_an_operators_word() {
    let group = Group::new("static");
    let first = group.start(0, 1);
    first.wishes.send(LeaseWish::Lead).unwrap();
    assert_eq!(claimed(&first).0, 5);
    drop(first);
    let first = group.start(0, 3);
    first.wishes.send(LeaseWish::Lead).unwrap();
    assert_eq!(claimed(&first).0, 6);
    let second = group.start(1, 2);
    second.wishes.send(LeaseWish::Force { reason: "the first one burnt".into() }).unwrap();
    assert_eq!(claimed(&second).0, 7);
    wait(&first, |note| matches!(note, LeaseNote::Superseded { by } if by.node == "node-1").then_some(()));
}
