//! The rules of docs/format/record.md between neighbours, and for void slots.

use super::*;
use crate::document::genesis;
use crate::document::root::{self as root_file, Key, RootDocument, WriterRange};
use crate::document::snapshot;
use crate::fixture::{
    at, first, genesis_bytes, genesis_payload, header_after, key, node, owner, pin, replaced, root_document, root_one,
    sign, snapshot_bytes, snapshot_payload, stranger, writer,
};
use crate::keys::{SecretKey, Signer};

fn class<T>(result: Result<T, Refusal>) -> Option<Class> {
    result.err().map(|refusal| refusal.class())
}

fn snapshot_of(payload: &str, key: &SecretKey) -> Vec<u8> {
    sign(snapshot::PAYLOAD_TYPE, payload, &[key])
}

/// A root like the first, after a change.
fn root_with(change: impl FnOnce(&mut RootDocument)) -> Root {
    let mut document = root_document();
    change(&mut document);
    let payload = document.payload().unwrap();
    let bytes = sign(root_file::PAYLOAD_TYPE, std::str::from_utf8(&payload).unwrap(), &[&owner()]);
    Root::parse_first(&bytes, &Digest::sha256(&payload)).unwrap()
}

/// The class if the bytes are no record after genesis, and whether the slot is void.
fn verdict(bytes: &[u8]) -> (Option<Class>, bool) {
    let (_, head) = first();
    let refused = class(next(&head, &[], bytes, &root_one()));
    let void = matches!(is_void(bytes, &head.chain, 1, &root_one()), Ok(Some(_)));
    let stepped = step(&head, &mut Vec::new(), bytes, &root_one());
    assert_eq!(void, matches!(stepped, Ok(None)), "step and is_void agree");
    assert_eq!(!void && refused.is_some(), stepped.is_err(), "step and next agree");
    (refused, void)
}

fn void_as(expected: Class) -> (Option<Class>, bool) {
    (Some(expected), true)
}

fn stops_as(expected: Class) -> (Option<Class>, bool) {
    (Some(expected), false)
}

/// A snapshot after genesis with one text replaced, signed by the node.
fn changed(from: &str, to: &str) -> Vec<u8> {
    snapshot_of(&replaced(&snapshot_payload(&first().1, &[]), from, to), &node())
}

#[test]
fn a_chain_reads_from_genesis_to_its_head() {
    let (record, mut head) = first();
    assert_eq!(record.digest, head.chain);
    assert_eq!((head.seq, head.log.size(), head.segments.as_deref()), (0, 1, Some(&[][..])));
    for seq in 1..=20 {
        let bytes = snapshot_bytes(&head, &[]);
        let (record, after) = next(&head, &[], &bytes, &root_one()).unwrap();
        assert_eq!((record.header.seq, after.seq, after.log.size()), (seq, seq, seq + 1));
        assert_eq!(after.digest, record.digest);
        assert_eq!(trusted(&bytes, &head.chain, seq, &root_one()).unwrap().1, Head { segments: None, ..after.clone() });
        head = after;
    }
}

#[test]
fn genesis_is_signed_by_the_root_role_and_names_the_pinned_root() {
    let read = |keys: &[&SecretKey]| {
        class(super::first(&sign(genesis::PAYLOAD_TYPE, &genesis_payload(), keys), &pin(), &root_one()))
    };
    assert_eq!(read(&[&owner()]), None);
    assert_eq!(read(&[&node()]), Some(Class::Role));
    assert_eq!(read(&[]), Some(Class::SigMissing));
    let other = Digest::sha256(b"another root");
    assert_eq!(class(super::first(&genesis_bytes(), &other, &root_one())), Some(Class::Origin));
}

#[test]
fn a_snapshot_cannot_stand_in_slot_zero() {
    let (_, head) = first();
    assert_eq!(class(super::first(&snapshot_bytes(&head, &[]), &pin(), &root_one())), Some(Class::Seq));
}

#[test]
fn trusted_reads_genesis_too() {
    let (_, head) = first();
    assert_eq!(trusted(&genesis_bytes(), &head.chain, 0, &root_one()).unwrap().1, head);
    assert_eq!(class(trusted(&genesis_bytes(), &Digest::sha256(b""), 0, &root_one())), Some(Class::Origin));
}

#[test]
fn whatever_nobody_entitled_signed_for_this_slot_is_void() {
    let (_, head) = first();
    let payload = snapshot_payload(&head, &[]);
    assert_eq!(verdict(b""), void_as(Class::Json));
    assert_eq!(verdict(b"garbage"), void_as(Class::Json));
    assert_eq!(verdict(&vec![b' '; RECORD_CAP + 1]), void_as(Class::TooBig));
    assert_eq!(verdict(&snapshot_of(&payload, &stranger())), void_as(Class::SigUntrusted));
    assert_eq!(verdict(&snapshot_of(&payload, &owner())), void_as(Class::Role));
    assert_eq!(verdict(&sign(snapshot::PAYLOAD_TYPE, &payload, &[])), void_as(Class::SigMissing));
    assert_eq!(verdict(&sign("application/vnd.snapkit.root+json", &payload, &[&owner()])), void_as(Class::Type));
    assert_eq!(verdict(&sign("text/plain", &payload, &[&node()])), void_as(Class::Type));
    assert_eq!(verdict(&snapshot_of("not json", &node())), void_as(Class::Json));
    assert_eq!(verdict(&snapshot_of("{}", &node())), void_as(Class::Json));
    let mut cut = snapshot_of(&payload, &node());
    cut.truncate(cut.len() - 1);
    assert_eq!(verdict(&cut), void_as(Class::Json));
}

#[test]
fn a_record_copied_from_another_slot_or_chain_is_void() {
    let (_, head) = first();
    let (_, second) = next(&head, &[], &snapshot_bytes(&head, &[]), &root_one()).unwrap();
    assert_eq!(verdict(&genesis_bytes()), void_as(Class::Seq));
    assert_eq!(verdict(&snapshot_bytes(&second, &[])), void_as(Class::Seq));
    let elsewhere = Head { chain: Digest::sha256(b"staging"), ..head };
    assert_eq!(verdict(&snapshot_bytes(&elsewhere, &[])), void_as(Class::Origin));
}

#[test]
fn what_a_retired_writer_signs_is_void_and_what_it_signed_stays() {
    let (_, head) = first();
    let bytes = snapshot_bytes(&head, &[]);
    let root = root_with(|root| root.writers[0].until_seq = Some(1));
    assert_eq!(class(next(&head, &[], &bytes, &root)), Some(Class::Revoked));
    assert!(is_void(&bytes, &head.chain, 1, &root).unwrap().is_some());
    let root = root_with(|root| root.writers[0].until_seq = Some(2));
    assert_eq!(class(next(&head, &[], &bytes, &root)), None);
    let root = root_with(|root| root.writers[0].from_seq = 2);
    assert_eq!(class(next(&head, &[], &bytes, &root)), Some(Class::Revoked));
}

#[test]
fn a_retired_writer_does_not_count_towards_the_threshold() {
    let (other, id) = (key(3), key(3).public().id());
    let root = |until_seq| {
        root_with(|root| {
            root.keys.push(Key::from(&other.public()));
            root.keys.sort_by_key(|key| key.id);
            let role = root.roles.iter_mut().find(|role| role.name == "writer").unwrap();
            role.keys.push(id);
            role.keys.sort();
            role.threshold = 2;
            root.writers.push(WriterRange { key: id, from_seq: 0, until_seq });
            root.writers.sort_by_key(|range| range.key);
        })
    };
    let (_, head) = first();
    let both = sign(snapshot::PAYLOAD_TYPE, &snapshot_payload(&head, &[]), &[&node(), &other]);
    assert_eq!(class(next(&head, &[], &both, &root(None))), None);
    assert_eq!(class(next(&head, &[], &both, &root(Some(1)))), Some(Class::Revoked));
    assert_eq!(class(next(&head, &[], &snapshot_bytes(&head, &[]), &root(None))), Some(Class::Threshold));
}

#[test]
fn what_is_signed_for_this_slot_and_breaks_a_rule_stops_the_reader() {
    assert_eq!(verdict(&changed(r#""epoch":0"#, r#""epoch":0,"note":1"#)), stops_as(Class::Json));
    assert_eq!(verdict(&changed(r#""files":4"#, r#""files":5"#)), stops_as(Class::Json));
    let (_, head) = first();
    let payload =
        replaced(&snapshot_payload(&head, &[]), &node().public().id().to_string(), &owner().public().id().to_string());
    assert_eq!(verdict(&snapshot_of(&payload, &node())), stops_as(Class::KeyId));
}

#[test]
fn what_needs_a_newer_snapkit_is_neither_void_nor_damage() {
    assert_eq!(verdict(&changed("0-draft", "2")), stops_as(Class::Newer));
    assert_eq!(verdict(&changed(r#""body""#, r#""critical":["dedup-v2"],"body""#)), stops_as(Class::Newer));
    // The rest of a newer record may look like nothing known today.
    let chain = first().1.chain;
    let strange = format!(r#"{{"format":"7","chain":"{chain}","seq":1,"more":[1,2],"body":"x"}}"#);
    assert_eq!(verdict(&snapshot_of(&strange, &node())), stops_as(Class::Newer));
}

#[test]
fn a_record_that_contradicts_what_came_before_stops_the_reader() {
    let (_, head) = first();
    let other = Digest::sha256(b"other");
    let misled = Head { digest: other, ..head.clone() };
    assert_eq!(verdict(&snapshot_bytes(&misled, &[])), stops_as(Class::Mix));
    let mut log = Frontier::default();
    log.push(&other);
    let misled = Head { log, ..head.clone() };
    assert_eq!(verdict(&snapshot_bytes(&misled, &[])), stops_as(Class::Inconsistent));
    let void = Void { seq: 1, sha256: other };
    let bytes = snapshot_of(
        &replaced(
            &snapshot_payload(&head, &[]),
            r#","writer":"#,
            &format!(r#","void":[{}],"writer":"#, serde_json::to_string(&void).unwrap()),
        ),
        &node(),
    );
    assert_eq!(verdict(&bytes), stops_as(Class::Inconsistent));
}

#[test]
fn garbage_in_the_next_slots_does_not_stop_the_chain() {
    let (_, head) = first();
    let mut voids = Vec::new();
    assert!(step(&head, &mut voids, b"garbage", &root_one()).unwrap().is_none());
    assert!(step(&head, &mut voids, b"", &root_one()).unwrap().is_none());
    assert_eq!(voids[0], Void { seq: 1, sha256: Digest::sha256(b"garbage") });
    assert_eq!(voids[1], Void { seq: 2, sha256: EMPTY });
    let bytes = snapshot_bytes(&head, &voids);
    let (record, after) = step(&head, &mut voids, &bytes, &root_one()).unwrap().unwrap();
    assert!(voids.is_empty());
    assert_eq!((record.header.seq, record.header.previous, after.log.size()), (3, Some(head.digest), 4));
    let mut log = Frontier::default();
    [head.digest, EMPTY, EMPTY, record.digest].iter().for_each(|leaf| log.push(leaf));
    assert_eq!(after.log, log);
    next(&after, &[], &snapshot_bytes(&after, &[]), &root_one()).unwrap();
}

#[test]
fn void_slots_must_be_exactly_those_the_reader_saw() {
    let (_, head) = first();
    let void = |seq, text: &[u8]| Void { seq, sha256: void_digest(text) };
    let written = snapshot_bytes(&head, &[void(1, b"a"), void(2, b"b")]);
    let read = |voids: &[Void]| class(next(&head, voids, &written, &root_one()));
    assert_eq!(read(&[void(1, b"a"), void(2, b"b")]), None);
    assert_eq!(read(&[void(1, b"a"), void(2, b"x")]), Some(Class::Inconsistent));
    assert_eq!(read(&[void(1, b"a")]), Some(Class::Seq));
    assert_eq!(read(&[void(2, b"b"), void(1, b"a")]), Some(Class::Seq));
}

#[test]
fn more_than_sixty_four_void_slots_in_a_row_are_refused() {
    let (_, head) = first();
    let mut voids = Vec::new();
    for _ in 0..64 {
        assert!(step(&head, &mut voids, b"x", &root_one()).unwrap().is_none());
    }
    next(&head, &voids, &snapshot_bytes(&head, &voids), &root_one()).unwrap();
    assert_eq!(class(step(&head, &mut voids, b"x", &root_one())), Some(Class::TooMany));
    assert_eq!(class(head.next_header(&voids, head.time, Nonce([0; 16]), writer(&node()))), Some(Class::TooMany));
}

#[test]
fn a_void_flood_is_named_by_its_beginning() {
    let cap = vec![0; RECORD_CAP + 1];
    let more = vec![0; RECORD_CAP + 100];
    assert_eq!(void_digest(&more), Digest::sha256(&cap));
    assert_ne!(void_digest(&cap[1..]), Digest::sha256(&cap));
}

/// A record of an unknown kind after genesis.
fn unknown(extra: &str, keys: &[&SecretKey]) -> Vec<u8> {
    let payload = snapshot_payload(&first().1, &[]);
    let header = payload.split(r#","body":"#).next().unwrap();
    let header = header.replace(&node().public().id().to_string(), &keys[0].public().id().to_string());
    sign("application/vnd.snapkit.hold+json", &format!(r#"{header}{extra},"body":{{"any":[1]}}}}"#), keys)
}

#[test]
fn a_record_of_an_unknown_kind_is_checked_and_skipped() {
    let (_, head) = first();
    for signer in [node(), owner()] {
        let (record, after) = next(&head, &[], &unknown("", &[&signer]), &root_one()).unwrap();
        assert_eq!(record.body.kind(), "hold");
        next(&after, &[], &snapshot_bytes(&after, &[]), &root_one()).unwrap();
    }
    assert_eq!(verdict(&unknown(r#","critical":["hold"]"#, &[&node()])), stops_as(Class::Newer));
    assert_eq!(verdict(&unknown(r#","note":1"#, &[&node()])), stops_as(Class::Json));
    assert_eq!(verdict(&unknown("", &[&stranger()])), void_as(Class::SigUntrusted));
}

#[test]
fn a_record_of_an_unknown_kind_needs_a_role_of_the_chain() {
    let (_, head) = first();
    // A root in which the node's key has the role `node` alone, and the owner's key all others.
    let root = root_with(|root| {
        for role in root.roles.iter_mut().filter(|role| role.name != "node") {
            role.keys = vec![owner().public().id()];
        }
        root.writers[0].key = owner().public().id();
    });
    assert_eq!(class(next(&head, &[], &unknown("", &[&node()]), &root)), Some(Class::Role));
    assert_eq!(class(next(&head, &[], &unknown("", &[&owner()]), &root)), None);
    // A retired writer has no role of the chain left.
    let root = root_with(|root| {
        root.roles.retain(|role| ["root", "writer"].contains(&role.name.as_str()));
        root.writers[0].until_seq = Some(1);
    });
    assert_eq!(class(next(&head, &[], &unknown("", &[&node()]), &root)), Some(Class::Threshold));
}

#[test]
fn segments_are_inherited_until_a_record_lists_others() {
    let (_, head) = first();
    let list = Some(vec![SegmentRef { id: Digest::sha256(b"segment"), bytes: 10 }]);
    let snapshot = Body::Snapshot(Box::new(crate::fixture::snapshot_body()));
    let header = Header { segments: list.clone(), ..header_after(&head, &[]) };
    let bytes = snapshot_of(&crate::fixture::text(&header, &snapshot), &node());
    let (_, with) = next(&head, &[], &bytes, &root_one()).unwrap();
    assert_eq!(with.segments, list);
    assert_eq!(trusted(&bytes, &head.chain, 1, &root_one()).unwrap().1, with);
    let (_, inherited) = next(&with, &[], &snapshot_bytes(&with, &[]), &root_one()).unwrap();
    assert_eq!(inherited.segments, list);
    let header = Header { segments: Some(vec![]), ..header_after(&inherited, &[]) };
    let bytes = snapshot_of(&crate::fixture::text(&header, &snapshot), &node());
    assert_eq!(next(&inherited, &[], &bytes, &root_one()).unwrap().1.segments, Some(vec![]));
}

#[test]
fn a_later_root_judges_earlier_records() {
    let (_, head) = first();
    let document = RootDocument { version: 2, expires: at("2028-01-01T00:00:00Z"), ..root_document() };
    let payload = String::from_utf8(document.payload().unwrap()).unwrap();
    let newer = root_one().parse_next(&sign(root_file::PAYLOAD_TYPE, &payload, &[&owner()])).unwrap();
    assert!(super::first(&genesis_bytes(), &pin(), &newer).is_ok());
    assert!(next(&head, &[], &snapshot_bytes(&head, &[]), &newer).is_ok());
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(256))]

    /// Whoever changes a stored record can make its slot void, and nothing else.
    #[test]
    fn a_changed_byte_makes_a_slot_void_or_changes_nothing(place: proptest::sample::Index, byte: u8) {
        let (_, head) = first();
        let mut bytes = snapshot_bytes(&head, &[]);
        let digest = next(&head, &[], &bytes, &root_one()).unwrap().0.digest;
        let at = place.index(bytes.len());
        bytes[at] = byte;
        match step(&head, &mut Vec::new(), &bytes, &root_one()) {
            Ok(None) => {}
            Ok(Some((record, _))) => assert_eq!(record.digest, digest),
            Err(refusal) => panic!("{refusal}"),
        }
    }
}
