//! Fences: what begins a term, and who writes in it.

use super::*;
use crate::document::fence::{self, Fence};
use crate::document::lease::{self, Kind};
use crate::document::root::{self as root_file, RootDocument};
use crate::document::snapshot;
use crate::fixture::{
    at, first, header_after, key, lease_bytes, lease_claim, node, owner, root_document, root_one, sign, snapshot_body,
    snapshot_bytes, text, writer,
};
use crate::keys::{SecretKey, Signer};

fn class<T>(result: Result<T, Refusal>) -> Option<Class> {
    result.err().map(|refusal| refusal.class())
}

/// A root with a second writer, `key(13)`, that has the role node, too.
fn two_writers() -> Root {
    let mut document: RootDocument = root_document().next(at("2026-12-01T00:00:00Z"), at("2027-12-01T00:00:00Z"));
    document.add_writer(&key(13).public(), 0, None).unwrap();
    document.add_key(&key(13).public(), "node").unwrap();
    let payload = String::from_utf8(document.payload().unwrap()).unwrap();
    root_one().parse_next(&sign(root_file::PAYLOAD_TYPE, &payload, &[&owner()])).unwrap()
}

/// A fence after `head` that embeds this claim, signed by `by`.
fn fence_of(head: &Head, claim: &[u8], term: u64, by: &SecretKey) -> Vec<u8> {
    let plain = header_after(head, &[]);
    let header = head.fence_header(&[], term, plain.time, plain.nonce, writer(by)).unwrap();
    sign(fence::PAYLOAD_TYPE, &text(&header, &Body::Fence(Box::new(Fence::of(claim).unwrap()))), &[by])
}

/// A claim of `term` by the node that has `by`, signed with it.
fn claim_of(term: u64, by: &SecretKey) -> Vec<u8> {
    let mut claim = lease_claim();
    claim.term = term;
    claim.holder.key = by.public().id();
    claim.holder.writer = Some(by.public().id());
    sign(lease::PAYLOAD_TYPE, &serde_json::to_string(&claim).unwrap(), &[by])
}

fn snapshot_by(head: &Head, by: &SecretKey) -> Vec<u8> {
    let header = Header { writer: writer(by), ..header_after(head, &[]) };
    sign(snapshot::PAYLOAD_TYPE, &text(&header, &Body::Snapshot(Box::new(snapshot_body()))), &[by])
}

#[test]
fn a_fence_raises_the_term_and_its_signer_writes_in_it() {
    let (root, (_, start)) = (two_writers(), first());
    let (record, fenced) = next(&start, &[], &fence_of(&start, &claim_of(1, &node()), 1, &node()), &root).unwrap();
    assert_eq!((record.body.kind(), fenced.term), ("fence", 1));
    assert_eq!(fenced.fence.map(|place| (place.seq, place.key)), Some((1, node().public().id())));
    let (_, written) = next(&fenced, &[], &snapshot_by(&fenced, &node()), &root).unwrap();
    assert_eq!((written.term, written.fence), (1, fenced.fence));
    // A later leadership: the other node takes over, in any higher term.
    let (_, later) = next(&written, &[], &fence_of(&written, &claim_of(5, &key(13)), 5, &key(13)), &root).unwrap();
    assert_eq!(later.term, 5);
    next(&later, &[], &snapshot_by(&later, &key(13)), &root).unwrap();
}

#[test]
fn a_writer_that_did_not_sign_the_fence_is_refused_and_not_void() {
    let (root, (_, start)) = (two_writers(), first());
    let (_, fenced) = next(&start, &[], &fence_of(&start, &claim_of(1, &node()), 1, &node()), &root).unwrap();
    let bytes = snapshot_by(&fenced, &key(13));
    assert_eq!(class(next(&fenced, &[], &bytes, &root)), Some(Class::Fenced));
    assert_eq!(class(step(&fenced, &mut Vec::new(), &bytes, &root)), Some(Class::Fenced));
    assert_eq!(class(trusted(&bytes, &fenced.chain, 2, &root)), Some(Class::Fenced));
    assert_eq!(class(is_void(&bytes, &fenced.chain, 2, &root)), Some(Class::Fenced));
}

#[test]
fn a_superseded_leader_is_refused_whatever_term_it_writes() {
    let (root, (_, start)) = (two_writers(), first());
    let (_, fenced) = next(&start, &[], &fence_of(&start, &claim_of(1, &node()), 1, &node()), &root).unwrap();
    let (_, later) = next(&fenced, &[], &fence_of(&fenced, &claim_of(2, &key(13)), 2, &key(13)), &root).unwrap();
    let old = Header { term: 1, fence: fenced.fence, ..header_after(&later, &[]) };
    let bytes = sign(snapshot::PAYLOAD_TYPE, &text(&old, &Body::Snapshot(Box::new(snapshot_body()))), &[&node()]);
    assert_eq!(class(next(&later, &[], &bytes, &root)), Some(Class::Fenced));
    let none = Header { term: 0, fence: None, ..old };
    let bytes = sign(snapshot::PAYLOAD_TYPE, &text(&none, &Body::Snapshot(Box::new(snapshot_body()))), &[&node()]);
    assert_eq!(class(next(&later, &[], &bytes, &root)), Some(Class::Fenced));
}

#[test]
fn terms_never_fall_and_rise_only_with_a_fence() {
    let (_, start) = first();
    let (_, fenced) = next(&start, &[], &fence_of(&start, &claim_of(3, &node()), 3, &node()), &root_one()).unwrap();
    let header = header_after(&fenced, &[]);
    assert_eq!(
        class(fenced.fence_header(&[], 3, header.time, header.nonce, writer(&node()))),
        Some(Class::Fenced),
        "a writer does not begin a term that is there",
    );
    let place = |seq| Some(FencePlace { seq, key: node().public().id() });
    let again = Header { term: 2, fence: place(2), ..header.clone() };
    let body = Body::Fence(Box::new(Fence::of(&claim_of(2, &node())).unwrap()));
    let bytes = sign(fence::PAYLOAD_TYPE, &text(&again, &body), &[&node()]);
    assert_eq!(class(next(&fenced, &[], &bytes, &root_one())), Some(Class::Fenced));
    let jumped = Header { term: 4, ..header };
    let bytes = sign(snapshot::PAYLOAD_TYPE, &text(&jumped, &Body::Snapshot(Box::new(snapshot_body()))), &[&node()]);
    assert_eq!(class(next(&fenced, &[], &bytes, &root_one())), Some(Class::Inconsistent));
}

#[test]
fn a_fence_without_a_claim_that_fits_is_refused() {
    let (root, (_, start)) = (two_writers(), first());
    let judged = |claim: &[u8], by: &SecretKey| class(next(&start, &[], &fence_of(&start, claim, 1, by), &root));
    assert_eq!(judged(&claim_of(1, &node()), &node()), None);
    assert_eq!(judged(&claim_of(2, &node()), &node()), Some(Class::Inconsistent), "another term");
    assert_eq!(judged(&claim_of(1, &node()), &key(13)), Some(Class::Inconsistent), "another writer");
    let mut without = lease_claim();
    without.holder.writer = None;
    assert_eq!(judged(&lease_bytes(&without), &node()), Some(Class::Inconsistent), "no writer");
    let mut elsewhere = lease_claim();
    elsewhere.chain = Digest::sha256(b"other");
    assert_eq!(judged(&lease_bytes(&elsewhere), &node()), Some(Class::Origin), "another chain");
    let renewal = crate::fixture::lease_after(&lease_claim(), &[], Kind::Renew);
    assert_eq!(judged(&lease_bytes(&renewal), &node()), Some(Class::Inconsistent), "a renewal");
}

#[test]
fn a_fence_whose_claim_nobody_entitled_signed_is_void() {
    let (_, start) = first();
    let forged = fence_of(&start, &claim_of(1, &key(13)), 1, &node());
    assert_eq!(class(next(&start, &[], &forged, &root_one())), Some(Class::SigUntrusted));
    assert!(is_void(&forged, &start.chain, 1, &root_one()).unwrap().is_some());
}

#[test]
fn the_owner_may_fork_back_before_a_fence() {
    let (root, (_, start)) = (two_writers(), first());
    let (_, kept) = next(&start, &[], &snapshot_bytes(&start, &[]), &root).unwrap();
    let fork_bytes = crate::fixture::fork_bytes(&kept, 3, 1);
    let (_, forked) = fork(&kept, 3, &fork_bytes, &root).unwrap();
    assert_eq!((forked.term, forked.fence), (0, None));
}
