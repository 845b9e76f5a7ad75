//! The rules of docs/format/record.md for forks and rollbacks.

use super::*;
use crate::document::fork::{self as fork_file};
use crate::document::record::Pointer;
use crate::document::rollback::{self as rollback_file, Rollback};
use crate::fixture::{
    first, fork_bytes, fork_payload, header_after, node, owner, replaced, root_one, sign, snapshot_bytes, text,
};
use crate::keys::SecretKey;

fn class<T>(result: Result<T, Refusal>) -> Option<Class> {
    result.err().map(|refusal| refusal.class())
}

/// The heads after genesis and `records` snapshots.
fn heads(records: usize) -> Vec<Head> {
    let mut heads = vec![first().1];
    for _ in 0..records {
        let last = heads.last().unwrap();
        heads.push(next(last, &[], &snapshot_bytes(last, &[]), &root_one()).unwrap().1);
    }
    heads
}

#[test]
fn a_fork_goes_on_from_an_earlier_record_over_any_number_of_slots() {
    let heads = heads(3);
    for at in [2, 4, 100] {
        let (record, head) = fork(&heads[1], at, &fork_bytes(&heads[1], at, 1), &root_one()).unwrap();
        assert_eq!((record.header.epoch, head.epoch, head.seq, head.fork), (1, 1, at, Some(at)));
        assert_eq!((head.log.size(), head.segments.clone()), (at + 1, heads[1].segments.clone()));
        // What follows names the fork, and its log has nothing in the slots that were left behind.
        let (after, _) = next(&head, &[], &snapshot_bytes(&head, &[]), &root_one()).unwrap();
        assert_eq!((after.header.epoch, after.header.fork), (1, Some(at)));
        let mut log = heads[1].log.clone();
        (2..at).for_each(|_| log.push(&EMPTY));
        log.push(&record.digest);
        assert_eq!(after.header.log.root, log.root());
    }
}

#[test]
fn a_fork_of_the_head_is_the_next_step() {
    let heads = heads(1);
    let (_, head) = step(&heads[1], &mut Vec::new(), &fork_bytes(&heads[1], 2, 1), &root_one()).unwrap().unwrap();
    assert_eq!((head.seq, head.epoch), (2, 1));
    // Void slots between are left behind like any other.
    let mut voids = Vec::new();
    assert_eq!(step(&heads[1], &mut voids, b"garbage", &root_one()), Ok(None));
    assert!(step(&heads[1], &mut voids, &fork_bytes(&heads[1], 3, 1), &root_one()).unwrap().is_some());
    assert_eq!(voids, []);
}

#[test]
fn a_fork_that_keeps_another_record_is_not_a_step() {
    let heads = heads(3);
    let bytes = fork_bytes(&heads[1], 4, 1);
    assert_eq!(class(step(&heads[3], &mut Vec::new(), &bytes, &root_one())), Some(Class::Mix));
    assert_eq!(class(fork(&heads[2], 4, &bytes, &root_one())), Some(Class::Mix));
}

#[test]
fn only_the_root_role_forks() {
    let heads = heads(1);
    let payload = fork_payload(&heads[1], 2, 1);
    let bytes = sign(fork_file::PAYLOAD_TYPE, &payload, &[&node()]);
    assert_eq!(class(fork(&heads[1], 2, &bytes, &root_one())), Some(Class::Role));
    assert!(is_void(&bytes, &heads[0].chain, 2, &root_one()).unwrap().is_some());
}

#[test]
fn a_fork_begins_a_new_epoch_with_the_log_of_what_it_keeps() {
    let heads = heads(2);
    let (_, forked) = fork(&heads[2], 3, &fork_bytes(&heads[2], 3, 1), &root_one()).unwrap();
    assert!(forked.fork_header(4, 1, forked.time, Nonce([0; 16]), crate::fixture::writer(&owner())).is_err());
    let payload = fork_payload(&forked, 4, 2);
    let signed = |payload: &str| sign(fork_file::PAYLOAD_TYPE, payload, &[&owner()]);
    assert_eq!(class(fork(&forked, 4, &signed(&payload), &root_one())), None);
    let same = replaced(&payload, r#""epoch":2"#, r#""epoch":1"#);
    assert_eq!(class(fork(&forked, 4, &signed(&same), &root_one())), Some(Class::Inconsistent));
    // The right pointer over the log of another history.
    let other = Head { log: heads[1].log.clone(), ..heads[2].clone() };
    let mut other = Head { seq: other.seq, ..other };
    other.log.push(&EMPTY);
    let bytes = fork_bytes(&other, 3, 1);
    assert_eq!(class(fork(&heads[2], 3, &bytes, &root_one())), Some(Class::Inconsistent));
}

#[test]
fn records_of_the_epoch_before_do_not_follow_a_fork() {
    let heads = heads(3);
    let (_, forked) = fork(&heads[1], 3, &fork_bytes(&heads[1], 3, 1), &root_one()).unwrap();
    let old = Head { epoch: 0, fork: None, ..forked.clone() };
    assert_eq!(class(next(&forked, &[], &snapshot_bytes(&old, &[]), &root_one())), Some(Class::Inconsistent));
}

#[test]
fn a_rollback_is_signed_by_a_writer_or_for_the_manifest() {
    let heads = heads(2);
    let target = Pointer { seq: 1, digest: heads[1].digest };
    let body = Body::Rollback(Rollback { target, reason: "the release of noon was bad".into() });
    let payload = text(&header_after(&heads[2], &[]), &body);
    let signed = |key: &SecretKey| sign(rollback_file::PAYLOAD_TYPE, &payload, &[key]);
    let (record, _) = next(&heads[2], &[], &signed(&node()), &root_one()).unwrap();
    assert_eq!(record.body, body);
    assert_eq!(class(next(&heads[2], &[], &signed(&owner()), &root_one())), Some(Class::Role));
}
