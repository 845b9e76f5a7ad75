use std::ops::{ControlFlow, Range};

use manifests::refusal::Class;

use super::fixture::{World, a_snapshot, at};
use super::*;
use crate::store::counting::CountingStore;
use crate::store::faulty::{Call, Damage, Fault, FaultyStore};
use crate::store::{Abilities, Ability, Created, StoreError};

fn class(error: &ChainError) -> Class {
    error.refusal().unwrap_or_else(|| panic!("{error:?}")).class()
}

fn problems(walk: &Walk) -> Vec<(String, Class)> {
    walk.problems.iter().map(|problem| (problem.refusal.object().to_owned(), problem.refusal.class())).collect()
}

fn walk(chain: &Chain<'_>, policy: TilePolicy) -> Walk {
    let newest = chain.head().unwrap();
    chain.walk_all(&newest, policy, &mut |_| ControlFlow::Continue(())).unwrap()
}

#[test]
fn a_committed_record_is_the_new_head() {
    let world = World::new();
    let done = world.commit();
    assert_eq!((done.seq, done.name), (1, name(at(1), &done.digest)));
    let newest = world.open().head().unwrap();
    assert_eq!((newest.head.seq, newest.head.digest), (1, done.digest));
    let checkpoint = world.store.get(CHECKPOINT_KEY, 200).unwrap();
    assert_eq!(checkpoint, format!("1 {}\n", done.digest));
}

#[test]
fn names_carry_the_hour_and_the_digest() {
    let digest = Digest::sha256(b"");
    assert_eq!(name(at(0), &digest), "snap-2026112012-e3b0c442");
}

/// Requests of one look-up, and of the look-up with a commit.
fn requests(world: &World, segments: Option<Vec<SegmentRef>>) -> (u64, u64) {
    let store = CountingStore::new(&world.store);
    let chain = world.open_on(&store);
    let newest = chain.head().unwrap();
    let head = store.counts().requests();
    let commit = chain.commit(&newest.head, &a_snapshot(), segments, &world.key, "node-a", at(9)).unwrap();
    assert!(matches!(commit, Commit::Done(done) if done.warnings.is_empty()));
    (head, store.counts().requests())
}

#[test]
fn an_unchanged_snapshot_costs_seven_requests_at_every_length() {
    let world = World::new();
    world.grow(40);
    assert_eq!(requests(&world, None), (3, 7));
    // One more listing after data was stored.
    assert_eq!(requests(&world, Some(Vec::new())), (3, 8));
    world.clear_cache();
    // The partial tile is read when its copy is lost.
    assert_eq!(requests(&world, None), (3, 8));
    world.grow(254 - 43);
    assert_eq!(world.open().head().unwrap().head.seq, 254);
    assert_eq!(requests(&world, None), (3, 7), "the record that fills a tile");
    assert_eq!(requests(&world, None), (3, 7));
}

#[test]
fn a_damaged_head_does_not_hide_the_snapshots_before_it() {
    let world = World::new();
    world.grow(3);
    world.store.put(&slots::key(3), "damaged".into()).unwrap();
    let chain = world.open();
    assert_eq!(chain.head().unwrap().head.seq, 3);
    let named = problems(&walk(&chain, TilePolicy::Check));
    assert_eq!(named, [(slots::key(3), Class::Json)]);
    world.clear_cache();
    assert_eq!(class(&world.open().head().unwrap_err()), Class::Json);
    assert_eq!(world.open().record(2).unwrap().header.seq, 2);
}

#[test]
fn a_store_replaced_by_another_is_refused_by_its_root() {
    let (world, other) = (World::new(), World::new());
    world.grow(2);
    other.grow(3);
    for cached in [true, false] {
        let chain = world.open_on(&other.store);
        assert_eq!(class(&chain.head().unwrap_err()), Class::RootPin, "cached {cached}");
        assert_eq!(class(&chain.record(1).unwrap_err()), Class::RootPin);
        world.clear_cache();
    }
    let (_directory, trust) = world.stranger();
    let opened = Chain::open(&other.store, world.pin(), &trust, at(60));
    assert_eq!(class(&opened.err().unwrap()), Class::RootPin);
    assert_eq!(trust.stores().unwrap().len(), 0);
}

#[test]
fn a_log_of_twenty_costs_at_most_twenty_four_requests() {
    let world = World::new();
    world.grow(30);
    for _ in 0..2 {
        let store = CountingStore::new(&world.store);
        let chain = world.open_on(&store);
        let newest = chain.head().unwrap();
        let records: Vec<Record> = chain.walk_back(&newest.record).take(20).collect::<Result<_, _>>().unwrap();
        assert!(records.iter().map(|record| record.header.seq).eq((11..=30).rev()));
        assert!(store.counts().requests() <= 24, "{:?}", store.counts());
        world.clear_cache();
    }
}

#[test]
fn a_cold_reader_finds_the_head_with_six_requests() {
    let world = World::new();
    world.grow(30);
    let (_directory, trust) = world.stranger();
    let store = CountingStore::new(&world.store);
    let chain = Chain::open(&store, world.pin(), &trust, at(60)).unwrap();
    assert_eq!(chain.head().unwrap().head.seq, 30);
    assert_eq!(store.counts().requests(), 6, "{:?}", store.counts());
}

#[test]
fn a_checkpoint_that_lies_costs_requests_and_nothing_else() {
    let world = World::new();
    world.grow(5);
    let digest = Digest::sha256(b"");
    for line in
        [format!("9999 {digest}\n"), format!("2 {digest}\n"), "garbage".into(), "x".repeat(5000), "0 0\n".into()]
    {
        world.store.put(CHECKPOINT_KEY, line.clone().into()).unwrap();
        let (_directory, trust) = world.stranger();
        let chain = Chain::open(&world.store, world.pin(), &trust, at(60)).unwrap();
        assert_eq!(chain.head().unwrap().head.seq, 5, "{line}");
    }
    world.store.delete(CHECKPOINT_KEY).unwrap();
    let (_directory, trust) = world.stranger();
    let chain = Chain::open(&world.store, world.pin(), &trust, at(60)).unwrap();
    assert_eq!(chain.head().unwrap().head.seq, 5);
}

#[test]
fn garbage_in_the_next_slots_does_not_stop_the_chain() {
    let world = World::new();
    world.grow(2);
    for seq in 3..6 {
        world.store.put(&slots::key(seq), "garbage".into()).unwrap();
    }
    world.store.put(&slots::key(6), vec![b'x'; 2 << 20].into()).unwrap();
    assert_eq!(world.open().head().unwrap().head.seq, 2);
    let done = world.commit();
    assert_eq!(done.seq, 7);
    assert_eq!(done.newest.record.header.void.len(), 4);
    world.grow(2);
    let (_directory, trust) = world.stranger();
    let chain = Chain::open(&world.store, world.pin(), &trust, at(60)).unwrap();
    let walk = walk(&chain, TilePolicy::Check);
    assert_eq!(problems(&walk), []);
    assert_eq!((walk.records, walk.voids), (6, 4));
}

#[test]
fn garbage_beyond_a_missing_slot_is_ignored_and_a_record_there_is_not() {
    let world = World::new();
    world.grow(3);
    world.store.put(&slots::key(77), "garbage".into()).unwrap();
    assert_eq!(world.open().head().unwrap().head.seq, 3);
    world.store.delete(&slots::key(2)).unwrap();
    let (_directory, trust) = world.stranger();
    world.store.put(CHECKPOINT_KEY, "lost".into()).unwrap();
    let chain = Chain::open(&world.store, world.pin(), &trust, at(60)).unwrap();
    assert_eq!(class(&chain.head().unwrap_err()), Class::Missing);
}

#[test]
fn sixty_five_void_slots_are_refused() {
    let world = World::new();
    world.grow(1);
    for seq in 2..67 {
        world.store.put(&slots::key(seq), "garbage".into()).unwrap();
    }
    assert_eq!(class(&world.open().head().unwrap_err()), Class::TooMany);
    world.store.delete(&slots::key(66)).unwrap();
    assert_eq!(world.open().head().unwrap().head.seq, 1);
    assert_eq!(world.commit().seq, 66);
}

#[test]
fn a_store_that_lost_its_tail_is_a_rollback_and_the_mark_stays() {
    let world = World::new();
    world.grow(4);
    world.store.delete(&slots::key(4)).unwrap();
    for _ in 0..2 {
        let error = world.open().head().unwrap_err();
        assert_eq!(class(&error), Class::Rollback);
        assert_eq!(error.refusal().unwrap().object(), slots::key(4));
        assert_eq!(world.trust.mark(&world.pin().root).unwrap().unwrap().seq, 4);
        world.clear_cache();
    }
}

#[test]
fn another_valid_record_in_a_verified_slot_is_a_fork() {
    let world = World::new();
    world.grow(2);
    let chain = world.open();
    let base = chain.read_record(1).unwrap();
    let body = a_snapshot();
    let other = world.make(&chain, &base, &body).unwrap();
    world.store.put(&slots::key(2), other.envelope).unwrap();
    let error = world.open().head().unwrap_err();
    assert_eq!(class(&error), Class::Fork);
    let ChainError::Split { file, .. } = &error else { panic!("{error:?}") };
    let proof = std::fs::read(file).unwrap();
    let held = fork_proof::check(&proof, &world.pin().root).unwrap();
    assert_eq!(held.contradiction, "both are signed for slot 2");
    assert_eq!(fork_proof::claimed_root(&proof), Some(world.pin().root));
    // Without the copy that was kept of the first one there is nothing to show.
    world.clear_cache();
    assert!(matches!(world.open().head(), Err(ChainError::Refused(refusal)) if refusal.class() == Class::Fork));
}

#[test]
fn two_records_that_can_be_in_one_chain_are_no_proof() {
    let world = World::new();
    world.grow(3);
    let slot = |seq| world.store.get(&slots::key(seq), 1 << 20).unwrap();
    for (first, second) in [(1, 2), (2, 2), (1, 3)] {
        let result = world.open().keep_fork_proof([&slot(first), &slot(second)]);
        assert_eq!(class(&result.unwrap_err()), Class::Proof, "{first} and {second}");
    }
}

#[test]
fn a_far_head_is_proved_by_tiles_and_walked_without_them() {
    let world = World::new();
    let (_directory, trust) = world.stranger();
    Chain::open(&world.store, world.pin(), &trust, at(60)).unwrap().head().unwrap();
    world.grow(600);
    let store = CountingStore::new(&world.store);
    let seen = Chain::open(&store, world.pin(), &trust, at(60)).unwrap();
    assert!(seen.proves(&seen.read_record(600).unwrap().head.log, 0, &seen.id()));
    let before = store.counts().requests();
    assert_eq!(seen.head().unwrap().head.seq, 600);
    assert!(store.counts().requests() - before <= 7, "{:?}", store.counts());
    let (_directory, trust) = world.stranger();
    let chain = Chain::open(&world.store, world.pin(), &trust, at(60)).unwrap();
    let base = chain.read_record(17).unwrap();
    for tile in world.list("tile/") {
        world.store.delete(&tile).unwrap();
    }
    assert!(!chain.proves(&seen.head().unwrap().head.log, 0, &seen.id()));
    assert_eq!(chain.walk_to(base, 600).unwrap().head.seq, 600);
    // The next writer makes them all again.
    world.clear_cache();
    world.commit();
    assert!(chain.proves(&world.open().head().unwrap().head.log, 17, &chain.record(17).unwrap().digest));
}

#[test]
fn every_leaf_is_proved_at_every_size_and_no_other() {
    let world = World::new();
    world.grow(260);
    let chain = world.open();
    let head = chain.head().unwrap();
    for seq in (0..=260).step_by(13).chain([255, 256, 260]) {
        let digest = chain.record(seq).unwrap().digest;
        assert!(chain.proves(&head.head.log, seq, &digest), "{seq}");
        assert!(!chain.proves(&head.head.log, seq, &Digest::sha256(b"other")), "{seq}");
    }
    assert!(!chain.proves(&head.head.log, 261, &head.head.digest));
}

#[test]
fn the_minimum_of_a_bootstrap_string_is_kept() {
    let world = World::new();
    world.grow(12);
    let digest = world.open().record(8).unwrap().digest;
    let open = |min| {
        let (directory, trust) = world.stranger();
        let chain = Chain::open(&world.store, Pin { min: Some(min), ..world.pin() }, &trust, at(60)).unwrap();
        let result = chain.head().map(|newest| newest.head.seq);
        let left = trust.mark(&world.pin().root).unwrap();
        drop(directory);
        (result, left)
    };
    assert_eq!(open(trust::Minimum { seq: 8, digest }).0.unwrap(), 12);
    let (result, left) = open(trust::Minimum { seq: 7, digest });
    assert_eq!((class(&result.unwrap_err()), left), (Class::Fork, None));
    let (result, left) = open(trust::Minimum { seq: 13, digest });
    assert_eq!((class(&result.unwrap_err()), left), (Class::Rollback, None));
}

#[test]
fn a_lost_answer_neither_commits_twice_nor_loses_the_commit() {
    for fault in [Fault::LoseAnswer, Fault::DenyOwn, Fault::Fail] {
        let world = World::new();
        world.grow(1);
        let recorded = FaultyStore::new(&world.store);
        let chain = world.open_on(&recorded);
        chain.head().unwrap();
        // Nothing was stored, so the create follows the look-up of the head.
        let create = recorded.operations().len() as u64 + 1;
        let faulty = FaultyStore::new(&world.store).fault_at(create, fault);
        let chain = world.open_on(&faulty);
        let base = chain.head().unwrap();
        let done = world.commit_on(&chain, &base).unwrap();
        assert_eq!(faulty.operations()[create as usize - 1].call, Call::Create);
        assert!(matches!(done, Commit::Done(done) if done.seq == 2), "{fault:?}");
        assert_eq!(world.list("chain/").len(), 3);
        assert_eq!(world.open().head().unwrap().head.seq, 2);
    }
}

#[test]
fn a_writer_on_an_old_base_loses_and_writes_nothing() {
    let world = World::new();
    world.grow(1);
    let chain = world.open();
    let base = chain.head().unwrap();
    world.grow(2);
    let before = world.list("");
    // Without new data the create itself finds out, with new data the listing before it.
    assert!(matches!(world.commit_on(&chain, &base), Ok(Commit::Lost { newer: 2 })));
    assert!(matches!(world.commit_on(&chain, &base), Ok(Commit::Lost { newer: 3 })));
    assert_eq!(world.list(""), before);
}

#[test]
fn two_writers_at_once_share_no_slot() {
    let world = World::new();
    let base = world.open().head().unwrap();
    let done: Vec<bool> = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    let chain = world.open();
                    matches!(world.commit_on(&chain, &base), Ok(Commit::Done(_)))
                })
            })
            .collect();
        writers.into_iter().map(|writer| writer.join().unwrap()).collect()
    });
    assert_eq!(done.iter().filter(|done| **done).count(), 1);
    assert_eq!(world.list("chain/").len(), 2);
}

#[test]
fn a_run_stopped_after_any_operation_leaves_a_chain_that_goes_on() {
    let full = World::new();
    full.grow(254);
    let total = {
        let world = full.copy();
        let store = FaultyStore::new(&world.store);
        let chain = world.open_on(&store);
        let base = chain.head().unwrap();
        assert!(matches!(world.commit_on(&chain, &base), Ok(Commit::Done(_))));
        store.operations().len() as u64
    };
    for stop in 0..=total {
        let world = full.copy();
        let store = FaultyStore::new(&world.store).stop_after(stop);
        if let Ok(chain) = Chain::open(&store, world.pin(), &world.trust, at(60))
            && let Ok(base) = chain.head()
        {
            let _ = world.commit_on(&chain, &base);
        }
        if stop % 2 == 0 {
            world.clear_cache();
        }
        let done = world.commit();
        assert!((255..=256).contains(&done.seq), "stopped after {stop}");
        let walk = walk(&world.open(), TilePolicy::Check);
        assert_eq!(problems(&walk), [], "stopped after {stop}");
    }
}

#[test]
fn a_signer_outside_the_root_commits_nothing() {
    let world = World::new();
    let stranger = crate::keyfile::generate().unwrap();
    let chain = world.open();
    let base = chain.head().unwrap();
    let result = chain.commit(&base.head, &a_snapshot(), None, &stranger, "node-x", at(3));
    assert_eq!(class(&result.unwrap_err()), Class::SigUntrusted);
    assert_eq!(world.list("chain/").len(), 1);
}

#[test]
fn records_beyond_that_do_not_follow_are_kept_as_proof() {
    let world = World::new();
    world.grow(3);
    let chain = world.open();
    let base = chain.read_record(1).unwrap();
    let made = {
        let body = a_snapshot();
        world.make(&chain, &base, &body).unwrap()
    };
    // A store that showed this writer no slot beyond its base.
    world.store.put(&slots::key(2), made.envelope.clone()).unwrap();
    let error = chain.finish(&base.head, 0, made).unwrap_err();
    let ChainError::Split { file, .. } = &error else { panic!("{error:?}") };
    assert_eq!(class(&error), Class::Mix);
    let proof = fork_proof::check(&std::fs::read(file).unwrap(), &world.pin().root).unwrap();
    assert_eq!(proof.chain, chain.id());
    let record_two = proof.records[1].header.previous.unwrap();
    assert_eq!(proof.contradiction, format!("record 3 follows another record 2, {record_two}"));
}

#[test]
fn every_damage_is_named_and_the_walk_goes_on() {
    let world = World::new();
    world.grow(6);
    let damages = [
        Damage::Delete,
        Damage::Truncate(20),
        Damage::Truncate(0),
        Damage::FlipBit(8000),
        Damage::SwapWith(slots::key(2)),
        Damage::Append(b"x".to_vec()),
    ];
    let objects = [
        slots::key(0),
        slots::key(4),
        slots::key(6),
        "tile/0/000.p/7".into(),
        CHECKPOINT_KEY.into(),
        FORMAT_KEY.into(),
    ];
    for object in &objects {
        for damage in &damages {
            let store = FaultyStore::new(&world.store).damage(object, damage.clone());
            // A reader who knows the head: the slots may be damaged, the walk still names each.
            let chain = world.open();
            let newest = chain.head().unwrap();
            let damaged = world.open_on(&store);
            let walk = damaged.walk_all(&newest, TilePolicy::Check, &mut |_| ControlFlow::Continue(())).unwrap();
            let named: Vec<String> = problems(&walk).into_iter().map(|(object, _)| object).collect();
            if object == FORMAT_KEY && matches!(damage, Damage::Append(_)) {
                assert_eq!(named, Vec::<String>::new(), "further lines are for people");
                continue;
            }
            assert_eq!(named, std::slice::from_ref(object), "{damage:?}");
            let lost = u64::from(object.starts_with("chain/"));
            assert_eq!(walk.records, 7 - lost, "{object} {damage:?}");
        }
    }
}

#[test]
fn a_walk_can_write_again_what_follows_from_the_records() {
    let world = World::new();
    world.grow(3);
    for key in ["tile/0/000.p/4", CHECKPOINT_KEY, FORMAT_KEY] {
        world.store.delete(key).unwrap();
    }
    let healed = walk(&world.open(), TilePolicy::Heal);
    assert!(
        healed.problems.len() == 3 && healed.problems.iter().all(|problem| problem.healed),
        "{:?}",
        healed.problems
    );
    assert_eq!(problems(&walk(&world.open(), TilePolicy::Check)), []);
}

#[test]
fn a_store_of_another_format_is_newer_and_not_damaged() {
    let world = World::new();
    let (_directory, trust) = world.stranger();
    world.store.put("root/1.json", "a root of the future".into()).unwrap();
    world.store.put(FORMAT_KEY, "snapkit store, format 7\n".into()).unwrap();
    let error = Chain::open(&world.store, world.pin(), &trust, at(60)).err().unwrap();
    assert_eq!(class(&error), Class::Newer);
}

#[test]
fn segments_are_known_from_the_head_alone() {
    let world = World::new();
    let chain = world.open();
    let base = chain.head().unwrap();
    assert_eq!(chain.segments(&base).unwrap(), []);
    let segments = vec![SegmentRef { id: Digest::sha256(b"s"), bytes: 9 }];
    let done = chain.commit(&base.head, &a_snapshot(), Some(segments.clone()), &world.key, "node-a", at(1)).unwrap();
    assert!(matches!(done, Commit::Done(_)));
    world.grow(3);
    world.clear_cache();
    let chain = world.open();
    let newest = chain.read_record(4).unwrap();
    assert_eq!(newest.head.segments.as_ref(), Some(&segments));
    assert_eq!(chain.segments(&newest).unwrap(), segments);
}

/// A web server that says of every object that it is there.
struct SaysYes<'a>(&'a dyn Store);

impl Store for SaysYes<'_> {
    fn url(&self) -> &str {
        self.0.url()
    }
    fn abilities(&self) -> Abilities {
        Abilities { can_list: Ability::No, ..self.0.abilities() }
    }
    fn get(&self, key: &str, cap_bytes: u64) -> Result<Bytes, StoreError> {
        self.0.get(key, cap_bytes)
    }
    fn get_range(&self, key: &str, range: Range<u64>) -> Result<Bytes, StoreError> {
        self.0.get_range(key, range)
    }
    fn size(&self, _key: &str) -> Result<u64, StoreError> {
        Ok(1)
    }
    fn put(&self, key: &str, bytes: Bytes) -> Result<(), StoreError> {
        self.0.put(key, bytes)
    }
    fn create(&self, key: &str, bytes: Bytes) -> Result<Created, StoreError> {
        self.0.create(key, bytes)
    }
    fn delete(&self, key: &str) -> Result<(), StoreError> {
        self.0.delete(key)
    }
    fn list(&self, prefix: &str, after: Option<&str>, visit: &mut dyn FnMut(&str, u64)) -> Result<(), StoreError> {
        self.0.list(prefix, after, visit)
    }
}

#[test]
fn a15_a_server_that_says_yes_to_every_slot_is_refused_and_not_asked_without_end() {
    let world = World::new();
    world.grow(3);
    let store = CountingStore::new(SaysYes(&*world.store));
    let error = world.open_on(&store).head().unwrap_err();
    assert_eq!(class(&error), Class::Missing);
    assert!(store.counts().requests() < 300, "{:?}", store.counts());
}
