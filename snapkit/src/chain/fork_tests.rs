//! Forks by the owner: who follows them, what they leave behind, and what they cannot be used for.

use std::ops::ControlFlow;

use manifests::chain::Head;
use manifests::document::record::{Nonce, Writer, payload};
use manifests::document::snapshot;
use manifests::envelope;
use manifests::keys::{SecretKey, Signer};
use manifests::refusal::Class;

use super::fixture::{World, a_snapshot, at};
use super::*;
use crate::trust::Minimum;

fn class(error: &ChainError) -> Class {
    error.refusal().unwrap_or_else(|| panic!("{error:?}")).class()
}

fn owner(world: &World) -> SecretKey {
    world.trust.read_owner_key(&world.pin().root).unwrap()
}

/// Forks on the machine of `world`.
fn fork(world: &World, keep: u64) -> Committed {
    let chain = world.open();
    let done = chain.fork(keep, "the key of node-a was stolen", &[&owner(world)], "node-a", at(30)).unwrap();
    assert_eq!(done.warnings, Vec::<String>::new());
    done
}

#[track_caller]
fn is_clean(chain: &Chain<'_>) -> Walk {
    let newest = chain.head().unwrap();
    let walk = chain.walk_all(&newest, TilePolicy::Check, &mut |_| ControlFlow::Continue(())).unwrap();
    assert_eq!(walk.problems, []);
    walk
}

#[test]
fn everybody_follows_a_fork_and_nobody_reads_what_it_left_behind() {
    let world = World::new();
    world.grow(5);
    let (_early, early) = world.stranger();
    Chain::open(&world.store, world.pin(), &early, at(60)).unwrap().head().unwrap();
    let done = fork(&world, 3);
    assert_eq!((done.seq, done.newest.head.epoch), (6, 1));
    world.grow(2);
    let (_cold, cold) = world.stranger();
    for trust in [&world.trust, &early, &cold] {
        let chain = Chain::open(&world.store, world.pin(), trust, at(60)).unwrap();
        let newest = chain.head().unwrap();
        assert_eq!((newest.head.seq, newest.head.epoch, newest.head.fork), (8, 1, Some(6)));
        for (seq, expected) in [(2, None), (3, None), (4, Some(Class::Fork)), (5, Some(Class::Fork)), (7, None)] {
            let found = chain.record_under(seq, &newest);
            assert_eq!(found.as_ref().err().map(class), expected, "record {seq}");
        }
        let walk = is_clean(&chain);
        assert_eq!((walk.records, walk.forks, walk.left_behind), (7, 1, 2));
        let seen: Vec<u64> = chain.walk_back(&newest.record).map(|record| record.unwrap().header.seq).collect();
        assert_eq!(seen, [8, 7, 6, 3, 2, 1, 0]);
    }
}

#[test]
fn a_copy_that_lost_its_tail_goes_on_and_the_original_is_old_from_then_on() {
    let world = World::new();
    world.grow(3);
    let copy = world.copy();
    world.grow(5);
    let chain = Chain::open(&copy.store, world.pin(), &world.trust, at(60)).unwrap();
    assert_eq!(class(&chain.head().unwrap_err()), Class::Rollback);
    let done = chain.fork(3, "the bucket is gone", &[&owner(&world)], "node-a", at(30)).unwrap();
    assert_eq!((done.seq, done.newest.head.epoch), (4, 1));
    assert_eq!(chain.head().unwrap().head.seq, 4);
    is_clean(&chain);
    assert_eq!(class(&world.open().head().unwrap_err()), Class::Rollback);
}

#[test]
fn a_fork_passes_more_slots_than_may_be_void_and_its_tiles_are_made_anew() {
    let world = World::new();
    world.grow(300);
    let (_early, early) = world.stranger();
    Chain::open(&world.store, world.pin(), &early, at(60)).unwrap().head().unwrap();
    fork(&world, 10);
    world.grow(3);
    let walk = is_clean(&world.open());
    assert_eq!((walk.records, walk.left_behind), (15, 290));
    let chain = Chain::open(&world.store, world.pin(), &early, at(60)).unwrap();
    let newest = chain.head().unwrap();
    assert!(chain.proves(&newest.head.log, 10, &chain.record(10).unwrap().digest), "by tiles");
    assert!(!chain.proves(&newest.head.log, 11, &chain.record(11).unwrap().digest));
    // Without any tile the same is found by walking.
    for tile in world.list("tile/") {
        world.store.delete(&tile).unwrap();
    }
    let (_cold, cold) = world.stranger();
    let chain = Chain::open(&world.store, world.pin(), &cold, at(60)).unwrap();
    let newest = chain.head().unwrap();
    assert_eq!(chain.record_under(4, &newest).unwrap().header.seq, 4);
    assert_eq!(class(&chain.record_under(12, &newest).unwrap_err()), Class::Fork);
}

#[test]
fn a_fork_can_be_forked_and_may_keep_what_another_left_behind() {
    let world = World::new();
    world.grow(6);
    fork(&world, 2);
    world.grow(1);
    // The first fork was a mistake.
    let done = fork(&world, 5);
    assert_eq!((done.seq, done.newest.head.epoch), (9, 2));
    let chain = world.open();
    let newest = chain.head().unwrap();
    assert_eq!(chain.lineage(&newest).unwrap().branches().len(), 1);
    assert_eq!(chain.record_under(5, &newest).unwrap().header.seq, 5);
    assert_eq!(class(&chain.record_under(8, &newest).unwrap_err()), Class::Fork);
    let walk = is_clean(&chain);
    assert_eq!((walk.records, walk.forks, walk.left_behind), (7, 1, 3));
    // And a fork after it, of the epoch it began.
    world.grow(2);
    fork(&world, 10);
    let chain = world.open();
    assert_eq!(chain.lineage(&chain.head().unwrap()).unwrap().ranges(12), [0..=5, 9..=10, 12..=12]);
    is_clean(&chain);
}

#[test]
fn missing_slots_are_filled_so_that_the_row_is_whole() {
    let world = World::new();
    world.grow(6);
    world.store.delete(&slots::key(4)).unwrap();
    let done = fork(&world, 3);
    assert_eq!(done.seq, 7);
    is_clean(&world.open());
    assert_eq!(world.list("chain/").len(), 8);
}

/// A writer's key cannot begin an epoch, whatever it signs; only a reader without a memory could be fooled.
#[test]
fn a_writer_cannot_invent_an_epoch() {
    let world = World::new();
    world.grow(3);
    let chain = world.open();
    let newest = chain.head().unwrap();
    for fork in [1, 3] {
        let liar = Head { epoch: 9, fork: Some(fork), ..newest.head.clone() };
        let writer = Writer { key: world.key.public().id(), node: "node-a".into(), tool: TOOL.into() };
        let mut header = liar.next_header(&[], at(9), Nonce([7; 16]), writer).unwrap();
        header.segments = Some(Vec::new());
        let bytes = payload(&header, &a_snapshot()).unwrap().1;
        let bytes = envelope::sign(snapshot::PAYLOAD_TYPE, &bytes, &[&world.key]).unwrap();
        world.store.put(&slots::key(4), bytes.into()).unwrap();
        let (_cold, cold) = world.stranger();
        for trust in [&world.trust, &cold] {
            let chain = Chain::open(&world.store, world.pin(), trust, at(60)).unwrap();
            assert_eq!(class(&chain.head().unwrap_err()), Class::Inconsistent);
        }
        assert_eq!(world.trust.mark(&world.pin().root).unwrap().unwrap().seq, 3);
        assert!(cold.mark(&world.pin().root).unwrap().is_none());
    }
}

#[test]
fn only_the_owner_forks() {
    let world = World::new();
    world.grow(3);
    let result = world.open().fork(2, "mine now", &[&world.key], "node-a", at(30));
    assert_eq!(class(&result.unwrap_err()), Class::Role);
    assert_eq!(world.list("chain/").len(), 4);
    let result = world.open().fork(3, " ", &[&owner(&world)], "node-a", at(30));
    assert_eq!(class(&result.unwrap_err()), Class::Json);
}

#[test]
fn a_fork_whose_slot_was_taken_is_made_anew() {
    let world = World::new();
    world.grow(3);
    let owner = owner(&world);
    let chain = world.open();
    let made = chain.prepare_fork(2, "stolen", owner.public().id(), "node-a", at(30)).unwrap();
    let made = envelope::sign(manifests::document::fork::PAYLOAD_TYPE, &made, &[&owner]).unwrap();
    world.grow(1);
    assert_eq!(class(&chain.publish_fork(&made).unwrap_err()), Class::Seq);
    assert_eq!(world.open().head().unwrap().head.seq, 4);
    assert_eq!(fork(&world, 2).seq, 5);
}

#[test]
fn the_minimum_of_a_bootstrap_string_must_be_kept_by_a_fork() {
    let world = World::new();
    world.grow(5);
    let digest_of = |seq| world.open().record(seq).unwrap().digest;
    let (kept, left) = (digest_of(3), digest_of(5));
    fork(&world, 3);
    for (seq, digest, expected) in [(3, kept, None), (5, left, Some(Class::Fork))] {
        let (_cold, cold) = world.stranger();
        let min = Some(Minimum { seq, digest });
        let pin = Pin { min, ..world.pin() };
        let chain = Chain::open(&world.store, pin, &cold, at(60)).unwrap();
        assert_eq!(chain.head().err().as_ref().map(class), expected);
    }
}
