//! Publishing: once, by whoever is first, and never over records that count.

use manifests::document::record::{Body, Pointer};
use manifests::document::rollback::Rollback;
use manifests::keys::{SecretKey, Signer};

use super::*;
use crate::chain::Commit;
use crate::chain::fixture::{World, at};
use crate::store::faulty::{Call, Fault, FaultyStore};

fn key(seed: u8) -> SecretKey {
    SecretKey::from_seed(&[seed; 32])
}

fn newest(world: &World) -> Root {
    newest_root_of_any_age(&world.store, &world.pin().root, &world.trust).unwrap().root
}

/// The next root after a change, signed by the owner that `init` made.
fn draft(world: &World, change: impl FnOnce(&mut RootDocument)) -> Vec<u8> {
    let mut document = newest(world).document().next(at(2), at(600_000));
    change(&mut document);
    let owner = world.trust.read_owner_key(&world.pin().root).unwrap();
    envelope::sign(PAYLOAD_TYPE, &document.payload().unwrap(), &[&owner]).unwrap()
}

fn publish_on(world: &World, store: &dyn Store, bytes: &[u8]) -> Result<Published, RootError> {
    publish(store, &world.trust, world.pin(), bytes, Records::MustStay, at(3))
}

fn class(result: Result<Published, RootError>) -> Class {
    match result.unwrap_err() {
        RootError::Refused(refusal) => refusal.class(),
        error => panic!("{error:?}"),
    }
}

#[test]
fn a_published_root_is_what_readers_follow_and_publishing_again_does_nothing() {
    let world = World::new();
    world.commit();
    let bytes = draft(&world, |document| document.add_writer(&key(7).public(), 2, None).unwrap());
    let done = publish_on(&world, &world.store, &bytes).unwrap();
    assert_eq!((done.root.version(), done.was_there, done.voided), (2, false, Vec::new()));
    assert_eq!(world.store.get("root/2.json", 1 << 20).unwrap(), bytes);
    assert_eq!(world.trust.kept_roots(&world.pin().root).unwrap()[1], bytes);
    assert!(publish_on(&world, &world.store, &bytes).unwrap().was_there);
    let chain = world.open();
    let base = chain.head().unwrap();
    let added = chain.commit(&base.head, &base.record.body, None, &key(7), "node-b", at(4)).unwrap();
    assert!(matches!(added, Commit::Done(_)));
}

#[test]
fn of_two_that_publish_one_is_told_that_it_was_late() {
    let world = World::new();
    let first = draft(&world, |document| document.add_key(&key(7).public(), "drill").unwrap());
    let second = draft(&world, |document| document.add_key(&key(8).public(), "drill").unwrap());
    let other = world.copy();
    let race = thread::scope(|scope| {
        let one = scope.spawn(|| publish_on(&world, &world.store, &first));
        let two = scope.spawn(|| publish(&world.store, &other.trust, world.pin(), &second, Records::MustStay, at(3)));
        [one.join().unwrap(), two.join().unwrap()]
    });
    let won: Vec<usize> = (0..2).filter(|at| race[*at].is_ok()).collect();
    assert_eq!(won.len(), 1);
    let there = world.store.get("root/2.json", 1 << 20).unwrap();
    assert_eq!(there, [&first, &second][won[0]][..]);
    let lost = race.into_iter().find(Result::is_err).unwrap();
    assert_eq!(class(lost), Class::Version);
    // Both machines follow the one that won.
    for trust in [&world.trust, &other.trust] {
        let followed = newest_root_of_any_age(&world.store, &world.pin().root, trust).unwrap();
        assert_eq!(trust.kept_roots(&world.pin().root).unwrap()[1], there);
        assert_eq!(followed.root.version(), 2);
    }
}

#[test]
fn a_lost_answer_is_read_back_and_a_stopped_run_is_completed() {
    let world = World::new();
    world.commit();
    let bytes = draft(&world, |document| document.add_key(&key(7).public(), "drill").unwrap());
    let fresh = || {
        let copy = world.copy();
        copy.clear_cache();
        copy
    };
    let copy = fresh();
    let plain = FaultyStore::new(&copy.store);
    publish_on(&copy, &plain, &bytes).unwrap();
    let operations = plain.operations();
    let created = 1 + operations.iter().position(|operation| operation.call == Call::Create).unwrap() as u64;
    for fault in [Fault::Fail, Fault::LoseAnswer, Fault::DenyOwn] {
        let copy = fresh();
        let store = FaultyStore::new(&copy.store).fault_at(created, fault);
        let done = publish_on(&copy, &store, &bytes);
        assert!(done.is_ok(), "{fault:?}: {done:?}");
        assert_eq!(copy.store.get("root/2.json", 1 << 20).unwrap(), bytes);
    }
    for stop in 0..=operations.len() as u64 {
        let copy = fresh();
        let store = FaultyStore::new(&copy.store).stop_after(stop);
        let stopped = publish_on(&copy, &store, &bytes);
        assert_eq!(stopped.is_ok(), stop >= created, "stopped after {stop}: {stopped:?}");
        assert_eq!(publish_on(&copy, &copy.store, &bytes).unwrap().root.version(), 2);
        assert_eq!(newest(&copy).version(), 2);
    }
}

#[test]
fn what_is_not_the_next_root_is_not_published() {
    let world = World::new();
    let unsigned = unsigned(&newest(&world).document().next(at(2), at(600_000))).unwrap();
    let skipped = draft(&world, |document| document.version = 3);
    let expired = draft(&world, |document| document.expires = at(3));
    let foreign = draft(&world, |document| {
        document.add_key(&key(7).public(), "root").unwrap();
        document.set_threshold("root", 2).unwrap();
    });
    for (bytes, expected) in [
        (unsigned, Class::Root),
        (skipped, Class::Version),
        (expired, Class::Stale),
        (foreign, Class::Root),
        (b"{}".to_vec(), Class::Json),
    ] {
        assert_eq!(class(publish_on(&world, &world.store, &bytes)), expected);
        assert_eq!(world.list("root/"), ["root/1.json"]);
    }
}

#[test]
fn something_else_in_its_place_is_named_and_left_alone() {
    let world = World::new();
    let bytes = draft(&world, |_| {});
    world.store.put("root/2.json", "garbage".into()).unwrap();
    let refused = publish_on(&world, &world.store, &bytes);
    assert!(refused.is_err());
    assert_eq!(&world.store.get("root/2.json", 1 << 20).unwrap()[..], b"garbage");
}

#[test]
fn an_expired_root_can_be_followed_by_another() {
    let world = World::new();
    let bytes = draft(&world, |document| document.expires = at(10));
    publish_on(&world, &world.store, &bytes).unwrap();
    let late = at(20);
    assert!(Chain::open(&world.store, world.pin(), &world.trust, late).is_err());
    let bytes = draft(&world, |document| document.issued = at(15));
    let done = publish(&world.store, &world.trust, world.pin(), &bytes, Records::MustStay, late).unwrap();
    assert_eq!(done.root.version(), 3);
    Chain::open(&world.store, world.pin(), &world.trust, late).unwrap().head().unwrap();
}

#[test]
fn a_writer_retired_at_a_number_keeps_what_came_before() {
    let world = World::new();
    world.grow(3);
    let writer = world.key.public().id();
    let late = draft(&world, |document| document.retire_writer(&writer, 3).unwrap());
    let Err(RootError::Voids(voided)) = publish_on(&world, &world.store, &late) else { panic!("published") };
    assert_eq!(voided.iter().map(|record| (record.seq, record.key)).collect::<Vec<_>>(), [(3, writer)]);
    assert_eq!(world.list("root/").len(), 1);
    let in_time = draft(&world, |document| {
        document.retire_writer(&writer, 4).unwrap();
        document.add_writer(&key(7).public(), 4, None).unwrap();
    });
    publish_on(&world, &world.store, &in_time).unwrap();
    let (_home, stranger) = world.stranger();
    let chain = Chain::open(&world.store, world.pin(), &stranger, at(60)).unwrap();
    let base = chain.head().unwrap();
    assert_eq!(base.head.seq, 3);
    let refused = chain.commit(&base.head, &base.record.body, None, &world.key, "node-a", at(70)).unwrap_err();
    assert_eq!(refused.refusal().unwrap().class(), Class::Revoked);
    let done = chain.commit(&base.head, &base.record.body, None, &key(7), "node-b", at(70)).unwrap();
    assert!(matches!(done, Commit::Done(_)));
}

#[test]
fn records_of_a_stolen_writer_can_be_let_go() {
    let world = World::new();
    world.grow(3);
    let writer = world.key.public().id();
    let bytes = draft(&world, |document| document.retire_writer(&writer, 2).unwrap());
    let done = publish(&world.store, &world.trust, world.pin(), &bytes, Records::MayGo, at(5)).unwrap();
    assert_eq!(done.voided.iter().map(|record| record.seq).collect::<Vec<_>>(), [2, 3]);
    // Who never saw them reads what is left; who did refuses until the owner forks.
    let (_home, stranger) = world.stranger();
    let chain = Chain::open(&world.store, world.pin(), &stranger, at(60)).unwrap();
    assert_eq!(chain.head().unwrap().head.seq, 1);
    assert!(world.open().head().is_err());
}

#[test]
fn what_a_replaced_key_signed_stays_in_the_chain() {
    let world = World::new();
    world.grow(2);
    let online = key(7);
    let bytes = draft(&world, |document| document.add_key(&online.public(), "manifest").unwrap());
    publish_on(&world, &world.store, &bytes).unwrap();
    let chain = world.open();
    let base = chain.head().unwrap();
    let target = Pointer { seq: 1, digest: chain.record(1).unwrap().digest };
    let body = Body::Rollback(Rollback { target, reason: "the newest one is broken".into() });
    let Commit::Done(done) = chain.commit(&base.head, &body, None, &online, "ci", at(60)).unwrap() else {
        panic!("lost")
    };
    // Without a word of the owner's it would be void, which is noticed; with it the key can go, and so can the owner.
    let gone = |document: &mut RootDocument| document.remove_key(&online.public().id(), "manifest").unwrap();
    let refused = publish_on(&world, &world.store, &draft(&world, gone));
    assert!(matches!(refused, Err(RootError::Voids(ref voided)) if voided[0].seq == done.seq), "{refused:?}");
    let bytes = draft(&world, |document| {
        gone(document);
        document.add_key(&key(8).public(), "root").unwrap();
        let before = newest(&world).document().clone();
        let kept = keep_records(&world.open(), &before, document, None).unwrap();
        assert_eq!(kept.iter().map(|record| record.seq).collect::<Vec<_>>(), [done.seq]);
    });
    let bytes = envelope::cosign(&bytes, ROOT_CAP, &[&key(8)], "draft").unwrap();
    publish_on(&world, &world.store, &bytes).unwrap();
    let owner = world.trust.read_owner_key(&world.pin().root).unwrap().public().id();
    let bytes = draft(&world, |document| {
        document.remove_key(&owner, "root").unwrap();
        let before = newest(&world).document().clone();
        keep_records(&world.open(), &before, document, None).unwrap();
    });
    let bytes = envelope::cosign(&bytes, ROOT_CAP, &[&key(8)], "draft").unwrap();
    publish_on(&world, &world.store, &bytes).unwrap();
    let (_home, stranger) = world.stranger();
    let chain = Chain::open(&world.store, world.pin(), &stranger, at(60)).unwrap();
    assert_eq!(chain.root().version(), 4);
    assert_eq!(chain.head().unwrap().head.seq, done.seq);
    assert_eq!(chain.record(0).unwrap().header.seq, 0);
}

#[test]
fn nothing_is_kept_of_a_key_from_where_it_was_lost() {
    let world = World::new();
    world.grow(2);
    let online = key(7);
    let bytes = draft(&world, |document| document.add_key(&online.public(), "manifest").unwrap());
    publish_on(&world, &world.store, &bytes).unwrap();
    let chain = world.open();
    let target = Pointer { seq: 1, digest: chain.record(1).unwrap().digest };
    for reason in ["by its holder", "by a thief"] {
        let body = Body::Rollback(Rollback { target, reason: reason.into() });
        let base = chain.head().unwrap();
        let commit = chain.commit(&base.head, &body, None, &online, "ci", at(60)).unwrap();
        assert!(matches!(commit, Commit::Done(_)));
    }
    let before = newest(&world).document().clone();
    let mut document = before.clone();
    document.remove_key(&online.public().id(), "manifest").unwrap();
    let chain = world.open();
    let seqs = |kept: Vec<Voided>| kept.iter().map(|record| record.seq).collect::<Vec<_>>();
    let mut all = document.clone();
    assert_eq!(seqs(keep_records(&chain, &before, &mut all, None).unwrap()), [3, 4]);
    let lost = Some((online.public().id(), 4));
    assert_eq!(seqs(keep_records(&chain, &before, &mut all, lost).unwrap()), [3]);
    // A later change of the draft keeps what the draft keeps, and does not bring back what it let go.
    let mut later = all.clone();
    assert_eq!(seqs(keep_records(&chain, &all, &mut later, None).unwrap()), [3]);
    assert_eq!(later.kept.unwrap().len(), 1);
}
