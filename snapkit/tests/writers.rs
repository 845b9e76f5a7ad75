//! Two writers at once on one store: exactly one commit per slot, and what was reported as committed is there.
#![allow(clippy::unwrap_used)]

mod world;

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use snapkit::backup::BackupError;
use snapkit::store::{Created, Store, StoreError};
use world::{Listed, Node, OnCommit, World, full_digest, no_answer};

const WRITERS: u64 = 2;
const RUNS: u64 = 8;

/// Lets each writer take snapshots of a state of its own, all at once, through the store that `through` makes of the
/// real one. Gives what the runs reported as committed.
fn race(world: &World, through: impl Fn(Arc<dyn Store>) -> Box<dyn Store> + Sync) -> Listed {
    let nodes: Vec<Node> = (0..WRITERS).map(|number| world.other_node(&format!("writer-{number}"))).collect();
    thread::scope(|scope| {
        let running: Vec<_> = nodes
            .iter()
            .map(|node| {
                let (through, state) = (&through, world.path(&format!("state-of-{}", node.name)));
                scope.spawn(move || {
                    fs::create_dir(&state).unwrap();
                    let mut reported = Vec::new();
                    for run in 0..RUNS {
                        fs::write(state.join("file"), format!("run {run} of {}", node.name)).unwrap();
                        let store = through(world.store());
                        match node.snapshot(&store, &state) {
                            Ok(done) => reported.push((done.committed.seq, full_digest(&state))),
                            // Whoever is never first says so, with the record that was.
                            Err(BackupError::Lost { newer }) => assert!(newer > 0),
                            Err(error) => panic!("{}: {error:?}", node.name),
                        }
                    }
                    reported
                })
            })
            .collect();
        let mut all = BTreeMap::new();
        for (seq, digest) in running.into_iter().flat_map(|writer| writer.join().unwrap()) {
            assert_eq!(all.insert(seq, digest), None, "two runs were told that slot {seq} is theirs");
        }
        all
    })
}

/// Expects that the chain holds what was reported, all of it and nothing else.
fn expect_exactly(world: &World, reported: &Listed) {
    assert!(reported.len() as u64 > RUNS, "both writers came through: {reported:?}");
    let slots: Vec<u64> = reported.keys().copied().collect();
    assert_eq!(slots, (1..=slots.len() as u64).collect::<Vec<_>>(), "every slot was taken once");
    world.expect_sound(reported);
}

#[test]
fn two_writers_at_once_commit_each_slot_exactly_once() {
    let world = World::new();
    let reported = race(&world, |store| Box::new(store));
    expect_exactly(&world, &reported);
}

#[test]
fn two_writers_whose_answers_get_lost_commit_each_slot_exactly_once() {
    let world = World::new();
    let calls = Arc::new(AtomicU64::new(0));
    let reported = race(&world, |store| {
        let calls = calls.clone();
        Box::new(OnCommit {
            inner: store,
            act: Box::new(move |store, key, bytes| unreliable(&calls, store, key, bytes)),
        })
    });
    assert!(calls.load(Ordering::SeqCst) > WRITERS * RUNS, "some creates were asked for again");
    expect_exactly(&world, &reported);
}

/// A server that, by turns, works, fails before it wrote (409 or 503), fails after it wrote, and denies what it wrote.
fn unreliable(calls: &AtomicU64, store: &dyn Store, key: &str, bytes: bytes::Bytes) -> Result<Created, StoreError> {
    match calls.fetch_add(1, Ordering::SeqCst) % 4 {
        0 => store.create(key, bytes),
        1 => Ok(Created::Unknown(no_answer(key))),
        2 => store.create(key, bytes).map(|_| Created::Unknown(no_answer(key))),
        _ => store.create(key, bytes).map(|_| Created::Exists),
    }
}

#[test]
fn a_writer_that_plans_again_reuses_what_it_stored() {
    let world = World::new();
    world.write("large", world::noise(3 << 20, 5));
    let other = world.other_node("other");
    let state = world.path("other-state");
    fs::create_dir(&state).unwrap();
    fs::write(state.join("file"), "first").unwrap();
    let came = AtomicU64::new(0);
    let contended = OnCommit {
        inner: world.store(),
        act: Box::new(|store, key, bytes| {
            if came.fetch_add(1, Ordering::SeqCst) == 0 {
                other.snapshot(store, &state).unwrap();
            }
            store.create(key, bytes)
        }),
    };
    let counted = snapkit::store::counting::CountingStore::new(contended);
    let done = world.node().snapshot(&counted, &world.state()).unwrap();
    assert_eq!(done.committed.seq, 2);
    let sent = counted.counts().sent_bytes();
    assert!(sent < 4 << 20, "{sent} bytes were sent for a state of 3 MiB");
    let noted = BTreeMap::from([(1, full_digest(&state)), (2, full_digest(&world.state()))]);
    world.expect_sound(&noted);
}
