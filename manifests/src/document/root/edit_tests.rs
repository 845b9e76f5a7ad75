//! The steps from one root to the next.

use super::*;
use crate::fixture::{at, key, node, owner, root_document, root_one, sign};
use crate::keys::{KeyId, PublicKey, SecretKey, Signer};
use jiff::SignedDuration;

fn next() -> RootDocument {
    root_document().next(at("2027-01-01T00:00:00Z"), at("2028-01-01T00:00:00Z"))
}

fn id(key: &SecretKey) -> KeyId {
    key.public().id()
}

fn role(document: &RootDocument, name: &str) -> (Vec<KeyId>, u32) {
    let role = document.roles.iter().find(|role| role.name == name).unwrap();
    (role.keys.clone(), role.threshold)
}

fn accepted(document: &RootDocument, keys: &[&SecretKey]) -> Result<Root, Refusal> {
    let payload = String::from_utf8(document.payload()?).unwrap();
    root_one().parse_next(&sign(PAYLOAD_TYPE, &payload, keys))
}

#[test]
fn every_step_gives_a_root_that_readers_accept() {
    let (new, other) = (key(11), key(12));
    let mut document = next();
    document.add_key(&new.public(), "root").unwrap();
    document.add_key(&new.public(), "drill").unwrap();
    document.add_writer(&other.public(), 7, None).unwrap();
    document.set_threshold("root", 2).unwrap();
    document.retire_writer(&id(&node()), 7).unwrap();
    let root = accepted(&document, &[&owner(), &new]).unwrap();
    assert!(root.writer_may_sign(&node().public(), 6) && !root.writer_may_sign(&node().public(), 7));
    assert!(root.writer_may_sign(&other.public(), 7) && !root.writer_may_sign(&other.public(), 6));
    document.set_threshold("root", 1).unwrap();
    document.remove_key(&id(&owner()), "root").unwrap();
    document.remove_key(&id(&owner()), "release").unwrap();
    assert!(document.keys.iter().all(|key| key.id != id(&owner())), "a key without a role is not listed");
    assert!(document.roles.iter().all(|role| role.name != "release"), "nor a role without a key");
    accepted(&document, &[&owner(), &new]).unwrap();
}

#[test]
fn steps_that_make_no_sense_change_nothing() {
    let mut document = next();
    let before = document.clone();
    let owner_id = id(&owner());
    let has = |role: &str| EditError::Has { key: owner_id, role: role.into() };
    assert_eq!(document.add_key(&owner().public(), "root"), Err(has("root")));
    assert_eq!(document.add_key(&owner().public(), "king"), Err(EditError::NoRole("king".into())));
    assert_eq!(document.remove_key(&owner_id, "root"), Err(EditError::LastOwner));
    assert_eq!(
        document.remove_key(&owner_id, "writer"),
        Err(EditError::HasNot { key: owner_id, role: "writer".into() })
    );
    assert!(document.add_writer(&node().public(), 9, Some(11)).is_err(), "its range has no end");
    assert!(document.retire_writer(&owner_id, 3).is_err());
    assert_eq!(document.set_threshold("writer", 2), Err(EditError::OneSigner("writer".into())));
    for threshold in [0, 2] {
        let error = EditError::NoSuchThreshold { role: "root".into(), keys: 1 };
        assert_eq!(document.set_threshold("root", threshold), Err(error));
    }
    assert_eq!(document, before);
    document.add_key(&key(11).public(), "root").unwrap();
    document.set_threshold("root", 2).unwrap();
    let lowered = document.remove_key(&owner_id, "root");
    assert_eq!(lowered, Err(EditError::Threshold { role: "root".into(), threshold: 2, keys: 1 }));
}

#[test]
fn a_writer_can_be_retired_come_back_and_be_undone() {
    let mut document = next();
    let writer = node().public();
    document.retire_writer(&writer.id(), 10).unwrap();
    document.retire_writer(&writer.id(), 5).unwrap();
    assert!(document.retire_writer(&writer.id(), 5).is_err(), "it ends there already");
    document.add_writer(&writer, 20, Some(30)).unwrap();
    document.add_writer(&writer, 40, None).unwrap();
    assert_eq!(document.writers.len(), 3);
    accepted(&document, &[&owner()]).unwrap();
    document.retire_writer(&writer.id(), 25).unwrap();
    assert_eq!(document.writers.len(), 2, "a range that never began is gone");
    document.retire_writer(&writer.id(), 0).unwrap();
    assert!(document.writers.is_empty() && document.roles.iter().all(|role| role.name != "writer"));
    assert!(document.keys.iter().any(|key| key.id == writer.id()), "it has other roles");
    accepted(&document, &[&owner()]).unwrap();
}

#[test]
fn what_changed_is_told() {
    let old = root_document();
    let mut new = next();
    new.add_writer(&key(11).public(), 7, None).unwrap();
    new.retire_writer(&id(&node()), 7).unwrap();
    new.keep(KeptRecord { seq: 3, kind: "fork".into(), sha256: Digest::sha256(b"") });
    let range = |key: &PublicKey, from_seq, until_seq| WriterRange { key: key.id(), from_seq, until_seq };
    let changes = old.changes(&new);
    for change in [
        Change::Added { key: id(&key(11)), role: "writer".into() },
        Change::NoRange(range(&node().public(), 0, None)),
        Change::Range(range(&node().public(), 0, Some(7))),
        Change::Range(range(&key(11).public(), 7, None)),
        Change::Kept(KeptRecord { seq: 3, kind: "fork".into(), sha256: Digest::sha256(b"") }),
        Change::Expires { from: old.expires, to: new.expires },
    ] {
        assert!(changes.contains(&change), "{change:?} in {changes:?}");
    }
    assert_eq!(changes.len(), 6);
    assert_eq!(old.changes(&old), []);
    let mut gone = next();
    gone.remove_key(&id(&node()), "drill").unwrap();
    gone.expires = old.expires;
    let role = || "drill".to_owned();
    let expected =
        [Change::Removed { key: id(&node()), role: role() }, Change::Threshold { role: role(), from: 1, to: 0 }];
    assert_eq!(old.changes(&gone), expected);
}

#[test]
fn a_draft_says_what_is_missing_and_signatures_add_up() {
    let (old, new, other) = (owner(), key(11), key(12));
    let mut document = next();
    document.add_key(&new.public(), "root").unwrap();
    document.add_key(&other.public(), "root").unwrap();
    document.set_threshold("root", 2).unwrap();
    let mut bytes = envelope::sign(PAYLOAD_TYPE, &document.payload().unwrap(), &[]).unwrap();
    let missing = |bytes: &[u8]| {
        let draft = Draft::parse(bytes, "draft").unwrap();
        (draft.approval_by(&root_document()).unwrap().missing(), draft.own_approval().missing())
    };
    assert_eq!(missing(&bytes), (1, 2));
    for (key, left) in [(&new, (1, 1)), (&new, (1, 1)), (&key(13), (1, 1)), (&old, (0, 0))] {
        bytes = envelope::cosign(&bytes, ROOT_CAP, &[key], "draft").unwrap();
        assert_eq!(missing(&bytes), left);
    }
    assert_eq!(root_one().parse_next(&bytes).unwrap().document(), &document);
    assert_eq!(role(&document, "root").1, 2);
}

#[test]
fn a_draft_keeps_every_rule_for_roots() {
    let broken = serde_json::to_string(&RootDocument { expires: next().issued, ..next() }).unwrap();
    let refused = |bytes: &[u8]| Draft::parse(bytes, "draft").err().map(|refusal| refusal.class());
    assert_eq!(refused(&sign(PAYLOAD_TYPE, &broken, &[&owner()])), Some(Class::Root));
    let sound = serde_json::to_string(&next()).unwrap();
    assert_eq!(refused(&sign("application/vnd.snapkit.genesis+json", &sound, &[])), Some(Class::Type));
    assert_eq!(refused(b"{}"), Some(Class::Json));
    assert_eq!(refused(&sign(PAYLOAD_TYPE, &sound, &[])), None);
}

#[test]
fn lint_names_what_is_unwise() {
    let codes = |document: &RootDocument, now: &str| -> Vec<&'static str> {
        let findings = lint(document, at(now), SignedDuration::from_hours(30 * 24));
        findings.iter().map(|finding| finding.code).collect()
    };
    let with = |change: &dyn Fn(&mut RootDocument)| {
        let mut document = root_document();
        change(&mut document);
        document.payload().unwrap();
        codes(&document, "2026-12-01T00:00:00Z")
    };
    assert_eq!(with(&|_| {}), ["single-owner"]);
    assert_eq!(codes(&root_document(), "2027-11-01T00:00:00Z"), ["expiring", "single-owner"]);
    assert_eq!(codes(&root_document(), "2027-11-20T12:00:00Z"), ["expired", "single-owner"]);
    assert_eq!(with(&|root| root.expires = at("2030-01-01T00:00:00Z")), ["long-lived", "single-owner"]);
    assert_eq!(with(&|root| root.add_key(&key(3).public(), "root").unwrap()), ["any-owner"]);
    let two = |root: &mut RootDocument| {
        root.add_key(&key(3).public(), "root").unwrap();
        root.set_threshold("root", 2).unwrap();
    };
    assert_eq!(with(&two), ["every-owner"]);
    let sound = |root: &mut RootDocument| {
        two(root);
        root.add_key(&key(4).public(), "root").unwrap();
    };
    assert_eq!(with(&sound), [""; 0]);
    assert_eq!(with(&|root| root.add_key(&node().public(), "root").unwrap()), ["any-owner", "owner-online"]);
    assert_eq!(with(&|root| root.remove_key(&id(&node()), "drill").unwrap()), ["nobody", "single-owner"]);
    assert_eq!(with(&|root| root.retire_writer(&id(&node()), 9).unwrap()), ["single-owner", "no-writer"]);
    let unmet = |root: &mut RootDocument| {
        root.add_key(&key(3).public(), "manifest").unwrap();
        root.roles[1].threshold = 2;
    };
    assert_eq!(with(&unmet), ["unmet", "single-owner"]);
}

#[test]
fn every_rule_for_kept_records_is_checked() {
    let changed = |kept: Option<Vec<KeptRecord>>| {
        let document = RootDocument { kept, ..root_document() };
        document.payload().err().map(|refusal| refusal.class())
    };
    let record = |seq, kind: &str| KeptRecord { seq, kind: kind.into(), sha256: Digest::sha256(b"") };
    assert_eq!(changed(None), None);
    assert_eq!(changed(Some(vec![record(1, "fork"), record(2, "rollback")])), None);
    assert_eq!(changed(Some(vec![])), Some(Class::Json));
    for wrong in [
        vec![record(0, "genesis")],
        vec![record(1, "root")],
        vec![record(1, "Fork")],
        vec![record(2, "fork"), record(1, "fork")],
        vec![record(1, "fork"), record(1, "rollback")],
    ] {
        assert_eq!(changed(Some(wrong.clone())), Some(Class::Root), "{wrong:?}");
    }
}
