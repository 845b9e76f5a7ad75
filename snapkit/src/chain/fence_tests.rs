//! Fences in a store: who may write after one, who is believed, and what is read for it.

use std::time::Duration;

use manifests::document::lease::{self, ChainHead, Entry, Holder, Kind};
use manifests::document::record::Nonce;
use manifests::envelope;
use manifests::keys::{SecretKey, Signer};
use manifests::refusal::Class;

use super::fixture::{World, a_snapshot, at};
use super::*;
use crate::leadership::{Leadership, LeadershipError};

/// Leads in a term, or does not.
struct Says(Option<u64>);

impl Leadership for Says {
    fn term(&self, _remaining: Duration) -> Result<u64, LeadershipError> {
        self.0.ok_or_else(|| LeadershipError::NotLeader { why: "node-b leads".into() })
    }
}

fn claim(world: &World, term: u64) -> Vec<u8> {
    claim_by(world, term, 5)
}

/// A claim by one run of an agent.
fn claim_by(world: &World, term: u64, instance: u8) -> Vec<u8> {
    let chain = world.open();
    let newest = chain.head().unwrap();
    let key = world.key.public().id();
    let entry = Entry {
        format: manifests::document::FORMAT.into(),
        chain: chain.id(),
        group: "app".into(),
        seq: 1,
        term,
        kind: Kind::Claim,
        previous: None,
        void: Vec::new(),
        holder: Holder { node: "node-a".into(), instance: Nonce([instance; 16]), key, writer: Some(key), api: None },
        ttl_ms: Some(60_000),
        nonce: Nonce([9; 16]),
        head: ChainHead { epoch: 0, seq: newest.head.seq, digest: newest.head.digest, term: newest.head.term },
        time: at(1),
        reason: None,
        critical: None,
        ext: serde_json::Map::new(),
    };
    envelope::sign(lease::PAYLOAD_TYPE, &entry.payload().unwrap(), &[&world.key]).unwrap()
}

fn fence(world: &World, term: u64) -> Result<FenceDone, ChainError> {
    world.open().fence(&claim(world, term), &world.key, "node-a")
}

#[track_caller]
fn class<T>(result: Result<T, ChainError>) -> Class {
    match result {
        Ok(_) => panic!("it is accepted"),
        Err(error) => error.refusal().unwrap_or_else(|| panic!("{error:?}")).class(),
    }
}

fn commit_led(world: &World, says: &Says) -> Result<Commit, ChainError> {
    let chain = world.open().led(says);
    let base = chain.head().unwrap();
    let signer: &SecretKey = &world.key;
    chain.commit(&base.head, &a_snapshot(), None, signer, "node-a", at(9))
}

#[test]
fn a_leader_fences_and_writes_in_its_term() {
    let world = World::new();
    world.grow(2);
    let FenceDone::Written(done) = fence(&world, 1).unwrap() else { panic!("there was none before") };
    assert_eq!((done.seq, done.newest.head.term), (3, 1));
    let Commit::Done(done) = commit_led(&world, &Says(Some(1))).unwrap() else { panic!("lost") };
    assert_eq!((done.newest.head.term, done.newest.head.fence.map(|place| place.seq)), (1, Some(3)));
}

#[test]
fn a_fence_that_is_there_is_found_again() {
    let world = World::new();
    let (claim, late) = (claim(&world, 1), claim_by(&world, 1, 8));
    let chain = world.open();
    let FenceDone::Written(done) = chain.fence(&claim, &world.key, "node-a").unwrap() else { panic!("none before") };
    let FenceDone::Already(record) = chain.fence(&claim, &world.key, "node-a").unwrap() else { panic!("it is there") };
    assert_eq!((record.header.seq, record.digest), (done.seq, done.digest));
    // Another claim of the same term came too late.
    assert_eq!(class(chain.fence(&late, &world.key, "node-a")), Class::Fenced);
}

#[test]
fn who_does_not_lead_in_the_chains_term_writes_nothing() {
    let world = World::new();
    fence(&world, 2).unwrap();
    let before = world.list("chain/").len();
    for says in [None, Some(1), Some(3)] {
        assert_eq!(class(commit_led(&world, &Says(says))), Class::Fenced, "{says:?}");
    }
    let chain = world.open();
    let base = chain.head().unwrap();
    assert_eq!(class(world.commit_on(&chain, &base)), Class::Fenced, "a writer that knows of no lease");
    assert_eq!(world.list("chain/").len(), before);
    assert!(matches!(commit_led(&world, &Says(Some(2))), Ok(Commit::Done(_))));
}

#[test]
fn a_commit_under_way_fails_at_the_slot_of_the_fence() {
    let world = World::new();
    fence(&world, 1).unwrap();
    let says = Says(Some(1));
    let chain = world.open().led(&says);
    let base = chain.head().unwrap();
    // While its data was stored, somebody else took over.
    fence(&world, 2).unwrap();
    let done = chain.commit(&base.head, &a_snapshot(), None, &world.key, "node-a", at(9)).unwrap();
    assert!(matches!(done, Commit::Lost { newer: 2 }));
    // Planning again, it finds the later term.
    assert_eq!(class(commit_led(&world, &says)), Class::Fenced);
}

#[test]
fn what_was_committed_before_the_fence_stays() {
    let world = World::new();
    fence(&world, 1).unwrap();
    commit_led(&world, &Says(Some(1))).map(|_| ()).unwrap();
    fence(&world, 2).unwrap();
    let chain = world.open();
    let newest = chain.head().unwrap();
    assert_eq!(chain.latest_snapshot(&newest).unwrap().unwrap().header.seq, 2);
}

#[test]
fn a_cold_reader_asks_for_the_fence_and_a_known_one_does_not() {
    let world = World::new();
    fence(&world, 1).unwrap();
    let says = Says(Some(1));
    for _ in 0..6 {
        commit_led(&world, &says).map(|_| ()).unwrap();
    }
    let (_cold, cold) = world.stranger();
    let chain = Chain::open(&world.store, world.pin(), &cold, at(60)).unwrap();
    assert_eq!(chain.head().unwrap().head.term, 1);
    // Without its fence, nobody who comes from nowhere believes the term.
    world.store.delete(&slots::key(1)).unwrap();
    let (_cold, cold) = world.stranger();
    let chain = Chain::open(&world.store, world.pin(), &cold, at(60)).unwrap();
    assert_eq!(class(chain.head()), Class::Missing);
    assert_eq!(world.open().head().unwrap().head.term, 1);
}

#[test]
fn the_owner_may_fork_back_over_a_fence() {
    let world = World::new();
    world.grow(1);
    fence(&world, 1).unwrap();
    commit_led(&world, &Says(Some(1))).map(|_| ()).unwrap();
    let owner = world.trust.read_owner_key(&world.pin().root).unwrap();
    let chain = world.open();
    chain.fork(1, "the lease group is no more", &[&owner], "node-a", at(30)).unwrap();
    let newest = world.open().head().unwrap();
    assert_eq!((newest.head.epoch, newest.head.term, newest.head.fence), (1, 0, None));
    world.grow(1);
    // The next leadership is above every one that was.
    fence(&world, 2).unwrap();
    assert_eq!(world.open().head().unwrap().head.term, 2);
}
