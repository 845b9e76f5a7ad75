//! The rules of docs/format/root.md.

use super::*;
use crate::fixture::{at, key, node, owner, pin, replaced, root_bytes, root_document, root_one, root_payload, sign};
use crate::keys::{SecretKey, Signer};

fn class<T>(result: Result<T, Refusal>) -> Option<Class> {
    result.err().map(|refusal| refusal.class())
}

/// A first root with this payload, pinned and signed by the owner.
fn read_first(payload: &str) -> Result<Root, Refusal> {
    Root::parse_first(&sign(PAYLOAD_TYPE, payload, &[&owner()]), &Digest::sha256(payload.as_bytes()))
}

/// A first root made from the fixture by a change that its builder would refuse.
fn changed(change: impl FnOnce(&mut RootDocument)) -> Option<Class> {
    let mut document = root_document();
    change(&mut document);
    let refused_when_made = class(document.payload());
    let refused_when_read = class(read_first(&serde_json::to_string(&document).unwrap()));
    assert_eq!(refused_when_made, refused_when_read, "writer and reader agree");
    refused_when_read
}

/// The second root, in which `role` has these keys and this threshold.
fn second(role: &str, holders: &[&SecretKey], threshold: u32) -> RootDocument {
    let mut document = root_document();
    document.version = 2;
    for holder in holders {
        document.keys.push(Key::from(&holder.public()));
    }
    document.keys.sort_by_key(|key| key.id);
    document.keys.dedup();
    let listed = document.roles.iter_mut().find(|listed| listed.name == role).unwrap();
    listed.keys = holders.iter().map(|key| key.public().id()).collect();
    listed.keys.sort();
    listed.threshold = threshold;
    document
}

fn step(document: &RootDocument, keys: &[&SecretKey]) -> Option<Class> {
    class(root_one().parse_next(&sign(PAYLOAD_TYPE, &serde_json::to_string(document).unwrap(), keys)))
}

#[test]
fn init_makes_a_root_that_reads_back() {
    let root = root_one();
    assert_eq!((root.version(), root.digest()), (1, pin()));
    assert_eq!(root.document(), &root_document());
    let issued = root_document().issued;
    let payload = Root::new_first(&owner().public(), &node().public(), issued, root_document().expires).unwrap();
    assert_eq!(payload, root_payload().into_bytes());
    for role in ROLES {
        let holder = if ["root", "release"].contains(role) { owner() } else { node() };
        assert_eq!(root.signers(role).allowed, [holder.public()], "{role}");
    }
    assert!(root.signers("nothing").allowed.is_empty());
}

#[test]
fn one_key_for_owner_and_node_is_listed_once() {
    let RootDocument { issued, expires, .. } = root_document();
    let document = RootDocument::first(&owner().public(), &owner().public(), issued, expires);
    assert_eq!(document.keys.len(), 1);
    assert_eq!(class(document.payload()), None);
}

#[test]
fn another_root_than_the_pinned_one_is_refused() {
    assert_eq!(class(Root::parse_first(&root_bytes(), &Digest::sha256(b"other"))), Some(Class::RootPin));
    let other = root_payload().replace("2027", "2028");
    assert_eq!(class(Root::parse_first(&sign(PAYLOAD_TYPE, &other, &[&owner()]), &pin())), Some(Class::RootPin));
}

#[test]
fn the_first_root_must_be_signed_by_its_own_threshold() {
    let read = |keys: &[&SecretKey]| class(Root::parse_first(&sign(PAYLOAD_TYPE, &root_payload(), keys), &pin()));
    assert_eq!(read(&[]), Some(Class::SigMissing));
    assert_eq!(read(&[&node()]), Some(Class::Role));
    assert_eq!(read(&[&key(9)]), Some(Class::SigUntrusted));
    assert_eq!(read(&[&owner(), &key(9)]), None);
}

#[test]
fn the_first_root_must_have_the_type_and_version_of_one() {
    let bytes = sign("application/vnd.snapkit.snapshot+json", &root_payload(), &[&owner()]);
    assert_eq!(class(Root::parse_first(&bytes, &pin())), Some(Class::Type));
    let second = replaced(&root_payload(), r#""version":1"#, r#""version":2"#);
    assert_eq!(class(read_first(&second)), Some(Class::Version));
}

#[test]
fn every_rule_for_keys_is_checked() {
    assert_eq!(changed(|root| root.keys.swap(0, 1)), Some(Class::Root));
    assert_eq!(changed(|root| root.keys[1] = root.keys[0].clone()), Some(Class::Root));
    assert_eq!(changed(|root| root.keys[0].id = Digest::sha256(b"")), Some(Class::KeyId));
    assert_eq!(changed(|root| root.keys[0].keytype = "rsa".into()), Some(Class::Alg));
    assert_eq!(changed(|root| root.keys[0].scheme = "ed25519ph".into()), Some(Class::Alg));
    assert_eq!(changed(|root| root.keys[0].public = "00".repeat(32)), Some(Class::WeakKey));
    assert_eq!(changed(|root| root.keys[0].public.make_ascii_uppercase()), Some(Class::Json));
}

#[test]
fn the_same_key_under_a_second_id_is_refused() {
    let padded = changed(|root| {
        let mut twin = root.keys[0].clone();
        twin.id = Digest([0xff; 32]);
        root.keys.push(twin);
    });
    assert_eq!(padded, Some(Class::KeyId));
}

#[test]
fn every_rule_for_roles_is_checked() {
    let role =
        |change: fn(&mut Role)| changed(|root| change(root.roles.iter_mut().find(|role| role.name == "root").unwrap()));
    assert_eq!(role(|role| role.threshold = 0), Some(Class::Threshold));
    assert_eq!(role(|role| role.threshold = 2), Some(Class::Threshold));
    assert_eq!(role(|role| role.keys.clear()), Some(Class::Threshold));
    assert_eq!(role(|role| role.keys.push(role.keys[0])), Some(Class::Threshold));
    assert_eq!(role(|role| role.keys = vec![Digest::sha256(b"")]), Some(Class::Root));
    assert_eq!(changed(|root| root.roles.swap(0, 1)), Some(Class::Root));
    assert_eq!(changed(|root| root.roles.push(root.roles[6].clone())), Some(Class::Root));
    assert_eq!(changed(|root| root.roles.retain(|role| role.name != "root")), Some(Class::Root));
    assert_eq!(changed(|root| root.roles[6].name = "zebra".into()), Some(Class::Newer));
    assert_eq!(changed(|root| root.roles.retain(|role| role.name != "drill")), None);
}

#[test]
fn every_rule_for_writers_is_checked() {
    let range = |from_seq, until_seq| WriterRange { key: node().public().id(), from_seq, until_seq };
    let writers = |ranges: Vec<WriterRange>| changed(|root| root.writers = ranges);
    assert_eq!(writers(vec![range(0, Some(5)), range(5, Some(7)), range(9, None)]), None);
    assert_eq!(writers(vec![]), Some(Class::Root));
    assert_eq!(writers(vec![range(3, Some(3))]), Some(Class::Root));
    assert_eq!(writers(vec![range(0, Some(5)), range(4, None)]), Some(Class::Root));
    assert_eq!(writers(vec![range(0, None), range(4, None)]), Some(Class::Root));
    assert_eq!(writers(vec![range(5, None), range(0, Some(5))]), Some(Class::Root));
    assert_eq!(writers(vec![WriterRange { key: owner().public().id(), ..range(0, None) }]), Some(Class::Root));
}

#[test]
fn a_writer_key_is_valid_from_its_start_up_to_its_end() {
    let mut document = root_document();
    document.writers[0].from_seq = 3;
    document.writers[0].until_seq = Some(5);
    let root = read_first(&serde_json::to_string(&document).unwrap()).unwrap();
    let valid: Vec<u64> = (0..8).filter(|seq| root.writer_may_sign(&node().public(), *seq)).collect();
    assert_eq!(valid, [3, 4]);
    assert!(!root.writer_may_sign(&owner().public(), 3));
}

#[test]
fn what_needs_a_newer_snapkit_is_told_from_damage() {
    let insert = |field: &str| read_first(&replaced(&root_payload(), r#""keys":[{"#, &format!("{field},\"keys\":[{{")));
    assert_eq!(class(insert(r#""critical":["witness"]"#)), Some(Class::Newer));
    assert!(insert(r#""critical":["witness"]"#).unwrap_err().to_string().contains("`witness`"));
    assert_eq!(class(insert(r#""critical":["witness"],"witnesses":[]"#)), Some(Class::Newer));
    assert_eq!(class(insert(r#""critical":[]"#)), Some(Class::Json));
    assert_eq!(class(insert(r#""witnesses":[]"#)), Some(Class::Json));
    assert_eq!(class(insert(r#""ext":{"note":"x"}"#)), None);
    assert_eq!(class(read_first(&root_payload().replace("0-draft", "1"))), Some(Class::Newer));
}

#[test]
fn expiry_is_judged_at_the_time_given() {
    assert_eq!(class(root_one().check_expiry(at("2027-11-20T11:59:59.999999999Z"))), None);
    assert_eq!(class(root_one().check_expiry(at("2027-11-20T12:00:00Z"))), Some(Class::Stale));
    assert_eq!(changed(|root| root.expires = root.issued), Some(Class::Root));
}

#[test]
fn the_next_root_needs_both_thresholds() {
    let (old, new, other) = (owner(), key(11), key(12));
    let next = second("root", &[&new], 1);
    assert_eq!(step(&next, &[&old, &new]), None);
    assert_eq!(step(&next, &[&old]), Some(Class::Root));
    assert_eq!(step(&next, &[&new]), Some(Class::Root));
    assert_eq!(step(&next, &[]), Some(Class::Root));
    let two = second("root", &[&old, &new, &other], 2);
    assert_eq!(step(&two, &[&old]), Some(Class::Root));
    assert_eq!(step(&two, &[&old, &other]), None);
    assert_eq!(step(&two, &[&new, &other]), Some(Class::Root));
}

#[test]
fn the_next_root_is_exactly_one_version_on() {
    for version in [1, 3, 1_000_000] {
        let document = RootDocument { version, ..root_document() };
        assert_eq!(step(&document, &[&owner()]), Some(Class::Version), "{version}");
    }
    assert_eq!(step(&RootDocument { version: 2, ..root_document() }, &[&owner()]), None);
    assert_eq!(changed(|root| root.version = 0), Some(Class::Root));
}

#[test]
fn a_root_above_the_cap_is_too_big() {
    let mut document = root_document();
    document.ext.insert("x".into(), "y".repeat(ROOT_CAP).into());
    assert_eq!(class(document.payload()), Some(Class::TooBig));
}
