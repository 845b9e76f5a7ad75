//! The kill matrix of the store: a run is stopped after each of its store operations, and answers get lost.
#![allow(clippy::unwrap_used)]

mod world;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use snapkit::store::Created;
use snapkit::store::faulty::{Call, Fault, FaultyStore, Operation};
use world::{Listed, OnCommit, World, full_digest, no_answer, noise};

/// A chain without snapshots and a state of more than one pack.
fn first() -> World {
    let world = World::new();
    world.write("large", noise(17 << 20, 1));
    for index in 0..20 {
        world.write(&format!("small-{index}"), noise(100 * index, index as u64));
    }
    world
}

/// A chain with a snapshot, and a state that has changed since.
fn changed() -> (World, Listed) {
    let world = first();
    let done = world.snapshot();
    let noted = BTreeMap::from([(done.committed.seq, full_digest(&world.state()))]);
    world.write("small-3", "changed");
    world.write("new", noise(300 << 10, 99));
    std::fs::remove_file(world.state().join("small-4")).unwrap();
    (world, noted)
}

/// What a run without faults asks the store.
fn operations(world: &World) -> Vec<Operation> {
    let world = world.copy();
    let store = FaultyStore::new(world.store());
    world.node().snapshot(&store, &world.state()).unwrap();
    store.operations()
}

fn is_slot(operation: &Operation) -> bool {
    operation.call == Call::Create && operation.key.starts_with("chain/")
}

/// Stops a run after each of its operations. Whether its snapshot is there depends on one of them alone.
fn every_stop(world: &World, noted: &Listed) {
    let operations = operations(world);
    let commit = 1 + operations.iter().position(is_slot).unwrap();
    assert!(operations[..commit].iter().any(|operation| operation.key.starts_with("segments/")));
    assert!(commit < operations.len(), "hints come after the commit");
    for stop in 0..operations.len() {
        let world = world.copy();
        let store = FaultyStore::new(world.store()).stop_after(stop as u64);
        let run = world.node().snapshot(&store, &world.state());
        assert_eq!(run.is_ok(), stop >= commit, "stopped after {stop} of {operations:?}");
        let mut noted = noted.clone();
        if stop >= commit {
            noted.insert(run.unwrap().committed.seq, full_digest(&world.state()));
        }
        println!("stopped after {stop} of {}", operations.len());
        world.expect_sound(&noted);
    }
}

#[test]
fn a_first_snapshot_stopped_after_any_store_operation_leaves_all_or_nothing() {
    every_stop(&first(), &Listed::new());
}

#[test]
fn a_later_snapshot_stopped_after_any_store_operation_leaves_all_or_nothing() {
    let (world, noted) = changed();
    every_stop(&world, &noted);
}

/// Applies a fault to one operation of a run, and gives its result and what the chain holds then.
fn with_fault(world: &World, noted: &Listed, number: usize, fault: Fault) -> (World, bool, Listed) {
    let world = world.copy();
    let store = FaultyStore::new(world.store()).fault_at(number as u64, fault);
    let run = world.node().snapshot(&store, &world.state());
    let listed = world.stranger().listed(&world.store());
    let mut expected = noted.clone();
    if let Ok(done) = &run {
        expected.insert(done.committed.seq, full_digest(&world.state()));
    }
    if run.is_ok() {
        assert_eq!(listed, expected, "{fault:?} at {number}");
    }
    (world, run.is_ok(), listed)
}

#[test]
fn an_answer_to_the_commit_that_is_lost_or_denied_commits_exactly_once() {
    let (world, noted) = changed();
    let commit = 1 + operations(&world).iter().position(is_slot).unwrap();
    for fault in [Fault::Fail, Fault::LoseAnswer, Fault::DenyOwn] {
        let (world, done, listed) = with_fault(&world, &noted, commit, fault);
        assert!(done, "{fault:?}");
        assert_eq!(listed.len(), noted.len() + 1, "{fault:?}");
        world.expect_sound(&listed);
    }
}

#[test]
fn a_run_stopped_right_after_its_commit_landed_is_not_committed_again() {
    let (world, noted) = changed();
    let commit = 1 + operations(&world).iter().position(is_slot).unwrap();
    let (world, done, listed) = with_fault(&world, &noted, commit, Fault::LandAndStop);
    // The store answers nothing any more, but the commit itself was answered.
    assert!(done);
    world.expect_sound(&listed);
}

#[test]
fn an_answer_lost_at_any_operation_never_loses_a_snapshot_that_was_reported() {
    let (world, noted) = changed();
    for number in 1..=operations(&world).len() {
        for fault in [Fault::Fail, Fault::LoseAnswer] {
            let (world, done, listed) = with_fault(&world, &noted, number, fault);
            // A run that reports an error may have committed only if the answer to the commit itself was in doubt.
            assert_eq!(listed.len() > noted.len(), done, "{fault:?} at {number}");
            world.expect_sound(&listed);
        }
    }
}

#[test]
fn a_slot_that_another_writer_took_while_the_answer_was_lost_is_not_taken_for_ours() {
    let (world, noted) = changed();
    let other = world.other_node("other");
    let state = world.path("other-state");
    std::fs::create_dir(&state).unwrap();
    std::fs::write(state.join("file"), "of the other machine").unwrap();
    let store = world.store();
    // The first create of this run fails without landing; before it is asked again, the other machine commits.
    let creates = AtomicU64::new(0);
    let contended = OnCommit {
        inner: store.clone(),
        act: Box::new(|store, key, bytes| match creates.fetch_add(1, Ordering::SeqCst) {
            0 => Ok(Created::Unknown(no_answer(key))),
            1 => {
                other.snapshot(store, &state).unwrap();
                store.create(key, bytes)
            }
            _ => store.create(key, bytes),
        }),
    };
    let done = world.node().snapshot(&contended, &world.state()).unwrap();
    let listed = world.stranger().listed(&store);
    assert_eq!(listed.len(), noted.len() + 2, "one snapshot each");
    assert_eq!(listed[&done.committed.seq], full_digest(&world.state()));
    assert_eq!(listed[&(done.committed.seq - 1)], full_digest(&state));
    world.expect_sound(&listed);
}
