//! Records judged under roots that came after them.

use super::*;
use crate::document::record::Pointer;
use crate::document::rollback;
use crate::document::rollback::Rollback;
use crate::document::root::{self as root_file, KeptRecord, RootDocument};
use crate::fixture::{
    at, first, genesis_bytes, header_after, key, node, owner, pin, root_document, root_one, sign, text, writer,
};
use crate::keys::Signer;

/// A second root after a change, signed by the owner of the first and by whoever owns the second.
fn second(change: impl FnOnce(&mut RootDocument)) -> Root {
    let mut document = root_document().next(at("2026-12-01T00:00:00Z"), at("2027-12-01T00:00:00Z"));
    change(&mut document);
    let payload = String::from_utf8(document.payload().unwrap()).unwrap();
    root_one().parse_next(&sign(root_file::PAYLOAD_TYPE, &payload, &[&owner(), &key(11)])).unwrap()
}

/// The owner's key is replaced by another.
fn other_owner(document: &mut RootDocument) {
    document.add_key(&key(11).public(), "root").unwrap();
    document.remove_key(&owner().public().id(), "root").unwrap();
}

fn class<T>(result: Result<T, Refusal>) -> Option<Class> {
    result.err().map(|refusal| refusal.class())
}

#[test]
fn genesis_stays_valid_when_the_owner_changes() {
    let root = second(other_owner);
    let (record, head) = super::first(&genesis_bytes(), &pin(), &root).unwrap();
    assert_eq!((record.digest, head.chain), (first().0.digest, first().1.chain));
    // The new owner cannot make another genesis, and neither can the node.
    for forger in [key(11), node()] {
        let forged = sign(crate::document::genesis::PAYLOAD_TYPE, &crate::fixture::genesis_payload(), &[&forger]);
        assert!(class(super::first(&forged, &pin(), &root)).is_some());
    }
}

#[test]
fn a_root_two_steps_on_still_knows_who_signed_genesis() {
    let two = second(other_owner);
    let mut document = two.document().next(at("2027-01-01T00:00:00Z"), at("2028-01-01T00:00:00Z"));
    document.remove_key(&owner().public().id(), "release").unwrap();
    let payload = String::from_utf8(document.payload().unwrap()).unwrap();
    let three = two.parse_next(&sign(root_file::PAYLOAD_TYPE, &payload, &[&key(11)])).unwrap();
    assert!(three.keys().iter().all(|key| *key != owner().public()));
    super::first(&genesis_bytes(), &pin(), &three).unwrap();
}

/// A rollback to genesis in slot 1, signed by a key with the role manifest and no other.
fn rollback_by_manifest() -> (Vec<u8>, Digest) {
    let (record, head) = first();
    let body = Rollback { target: Pointer { seq: 0, digest: record.digest }, reason: "test".into() };
    let header = Header { writer: writer(&key(12)), ..header_after(&head, &[]) };
    let payload = text(&header, &Body::Rollback(body));
    (sign(rollback::PAYLOAD_TYPE, &payload, &[&key(12)]), Digest::sha256(payload.as_bytes()))
}

fn with_manifest_key(document: &mut RootDocument) {
    document.add_key(&key(12).public(), "manifest").unwrap();
}

#[test]
fn a_record_outlives_its_signers_only_if_the_owner_keeps_it() {
    let (bytes, digest) = rollback_by_manifest();
    let chain = first().1.chain;
    let trusted_under = |root: &Root| class(trusted(&bytes, &chain, 1, root));
    assert_eq!(trusted_under(&second(with_manifest_key)), None);
    assert_eq!(trusted_under(&second(|_| {})), Some(Class::SigUntrusted));
    let kept = |kind: &str, seq: u64, sha256: Digest| {
        second(|document| document.kept = Some(vec![KeptRecord { seq, kind: kind.into(), sha256 }]))
    };
    assert_eq!(trusted_under(&kept("rollback", 1, digest)), None);
    // Another slot, another record, or another type over the same bytes is not what was kept.
    assert_eq!(trusted_under(&kept("rollback", 2, digest)), Some(Class::SigUntrusted));
    assert_eq!(trusted_under(&kept("rollback", 1, Digest::sha256(b""))), Some(Class::SigUntrusted));
    assert_eq!(trusted_under(&kept("fork", 1, digest)), Some(Class::SigUntrusted));
    let retyped = String::from_utf8(bytes.clone()).unwrap().replace("vnd.snapkit.rollback", "vnd.snapkit.newer");
    let root = kept("rollback", 1, digest);
    assert_eq!(class(trusted(retyped.as_bytes(), &chain, 1, &root)), Some(Class::SigUntrusted));
}

#[test]
fn a_kept_record_still_has_to_be_a_record() {
    let (_, head) = first();
    let payload = text(
        &header_after(&head, &[]),
        &Body::Rollback(Rollback { target: Pointer { seq: 0, digest: head.digest }, reason: "test".into() }),
    );
    let broken = payload.replace(r#""term":0"#, r#""term":7"#);
    assert_ne!(payload, broken);
    let digest = Digest::sha256(broken.as_bytes());
    let root = second(|document| {
        document.kept = Some(vec![KeptRecord { seq: 1, kind: "rollback".into(), sha256: digest }]);
    });
    let bytes = sign(rollback::PAYLOAD_TYPE, &broken, &[&key(12)]);
    assert!(class(next(&head, &[], &bytes, &root)).is_some());
}
