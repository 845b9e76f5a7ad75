//! The rules of docs/format/receipt.md.

use super::*;
use crate::fixture::{key, node, owner, pin, receipt, replaced, root_one, sign, stranger};
use crate::keys::Signer;

fn authority(root: &Root) -> Authority<'_> {
    Authority::Root { root, pin: pin(), chain: Some(receipt().chain) }
}

fn class<T>(result: Result<T, Refusal>) -> Option<Class> {
    result.err().map(|refusal| refusal.class())
}

fn payload_text() -> String {
    String::from_utf8(receipt().payload().unwrap()).unwrap()
}

/// How a receipt with this payload, signed by the node, is judged.
fn judged(payload: &str) -> Option<Class> {
    class(Receipt::verify(&sign(PAYLOAD_TYPE, payload, &[&node()]), &authority(&root_one()), "receipt"))
}

/// A receipt made from the fixture by a change that its builder refuses too.
fn changed(change: impl FnOnce(&mut Receipt)) -> Option<Class> {
    let mut receipt = receipt();
    change(&mut receipt);
    class(receipt.payload())
}

fn other() -> Digest {
    Digest::sha256(b"other")
}

#[test]
fn a_receipt_reads_back_as_it_was_written_in_the_order_of_the_format() {
    let bytes = sign(PAYLOAD_TYPE, &payload_text(), &[&node()]);
    let verified = Receipt::verify(&bytes, &authority(&root_one()), "receipt").unwrap();
    assert_eq!(verified.receipt, receipt());
    assert_eq!(verified.signers, [node().public()]);
    assert_eq!(verified.digest, Digest::sha256(payload_text().as_bytes()));
    let names = ["_type", "subject", "predicateType", "predicate", "chain", "record", "exact", "left_out", "restored"];
    let places: Vec<usize> = names.iter().map(|name| payload_text().find(&format!("\"{name}\":")).unwrap()).collect();
    assert!(places.is_sorted());
    for absent in ["selection", "changes", "critical", "ext"] {
        assert!(!payload_text().contains(&format!("\"{absent}\"")), "{absent}");
    }
}

#[test]
fn only_the_role_node_or_the_named_key_makes_a_receipt_good() {
    let root = root_one();
    let by = |key: &crate::keys::SecretKey| sign(PAYLOAD_TYPE, &payload_text(), &[key]);
    assert_eq!(class(Receipt::verify(&by(&owner()), &authority(&root), "receipt")), Some(Class::Role));
    assert_eq!(class(Receipt::verify(&by(&stranger()), &authority(&root), "receipt")), Some(Class::SigUntrusted));
    let named = node().public();
    assert_eq!(class(Receipt::verify(&by(&node()), &Authority::Key(&named), "receipt")), None);
    assert_eq!(class(Receipt::verify(&by(&key(7)), &Authority::Key(&named), "receipt")), Some(Class::SigUntrusted));
    // A key that signed, but is not the node that the receipt names.
    let stranger_key = stranger().public();
    let named_other = Receipt::verify(&by(&stranger()), &Authority::Key(&stranger_key), "receipt");
    assert_eq!(class(named_other), Some(Class::KeyId));
}

#[test]
fn another_chain_is_refused_and_unknown_to_a_verifier_with_a_key_alone() {
    let root = root_one();
    let bytes = sign(PAYLOAD_TYPE, &payload_text(), &[&node()]);
    let verify = |pin, chain| class(Receipt::verify(&bytes, &Authority::Root { root: &root, pin, chain }, "receipt"));
    assert_eq!(verify(pin(), None), None);
    assert_eq!(verify(pin(), Some(other())), Some(Class::Origin));
    assert_eq!(verify(other(), None), Some(Class::Origin));
    let key = node().public();
    assert_eq!(class(Receipt::verify(&bytes, &Authority::Key(&key), "receipt")), None);
}

#[test]
fn any_changed_byte_of_the_envelope_is_refused_or_changes_nothing() {
    let bytes = sign(PAYLOAD_TYPE, &payload_text(), &[&node()]);
    let root = root_one();
    for at in 0..bytes.len() {
        let mut flipped = bytes.clone();
        flipped[at] ^= 1;
        match Receipt::verify(&flipped, &authority(&root), "receipt") {
            Err(_) => {}
            Ok(verified) => panic!("byte {at} may change: {:?}", verified.digest),
        }
    }
}

#[test]
fn another_statement_is_no_receipt_and_another_version_is_newer() {
    let text = payload_text();
    let with = |from: &str, to: &str| judged(&replaced(&text, from, to));
    assert_eq!(with("Statement/v1", "Statement/v0.1"), Some(Class::Type));
    assert_eq!(with(PREDICATE_TYPE, "https://slsa.dev/provenance/v1"), Some(Class::Type));
    assert_eq!(with(PREDICATE_TYPE, "urn:snapkit:receipt:2"), Some(Class::Newer));
    assert_eq!(with(r#""node""#, r#""critical":["x"],"node""#), Some(Class::Newer));
    assert_eq!(with(r#""node""#, r#""critical":[],"node""#), Some(Class::Json));
    assert_eq!(with("\"written\"", "\"imagined\""), Some(Class::Newer));
}

#[test]
fn unknown_double_and_missing_fields_are_refused_at_every_level() {
    let text = payload_text();
    for (from, to) in [
        (r#"{"_type""#, r#"{"note":1,"_type""#),
        (r#""digest":{"sha256""#, r#""digest":{"blake3":"00","sha256""#),
        (r#""predicate":{"#, r#""predicate":{"note":1,"#),
        (r#""exact":"#, r#""exact":false,"exact":"#),
        (r#""exact":true,"#, ""),
        (r#""host":{"#, r#""host":{"note":1,"#),
    ] {
        assert_eq!(judged(&replaced(&text, from, to)), Some(Class::Json), "{from}");
    }
    assert_eq!(judged(&replaced(&text, r#""node""#, r#""ext":{"any":[null]},"node""#)), None);
}

#[test]
fn what_contradicts_itself_is_refused() {
    let text = payload_text();
    let record = receipt().record.digest.to_string();
    let subject = replaced(&text, &format!(r#""sha256":"{record}""#), &format!(r#""sha256":"{}""#, other()));
    assert_eq!(judged(&subject), Some(Class::Inconsistent));
    let two = replaced(
        &text,
        r#""subject":[{"#,
        &format!(r#""subject":[{{"name":"x","digest":{{"sha256":"{record}"}}}},{{"#),
    );
    assert_eq!(judged(&two), Some(Class::Inconsistent));
    assert_eq!(changed(|r| r.restored.files += 1), Some(Class::Inconsistent));
    assert_eq!(changed(|r| r.finished = r.started - jiff::SignedDuration::from_secs(1)), Some(Class::Inconsistent));
    assert_eq!(changed(|r| r.left_out.entries = 1), Some(Class::Inconsistent));
    assert_eq!(changed(|r| r.trees[0].found.full_digest = other()), Some(Class::Inconsistent));
    assert_eq!(changed(|r| r.state.found.full_digest = other()), Some(Class::Inconsistent));
    let change = Change { what: "owners".into(), count: 3 };
    assert_eq!(changed(|r| r.changes = Some(vec![change.clone()])), Some(Class::Inconsistent));
    assert_eq!(
        changed(|r| {
            r.exact = false;
            r.changes = Some(vec![change.clone()]);
            r.trees[0].found.full_digest = other();
        }),
        None
    );
}

#[test]
fn lists_and_texts_have_limits() {
    let inexact = |change: &dyn Fn(&mut Receipt)| {
        changed(|r| {
            r.exact = false;
            change(r);
        })
    };
    let select = |path: Option<&str>, include: usize| Selection {
        path: path.map(str::to_owned),
        include: vec!["*".into(); include],
    };
    assert_eq!(inexact(&|r| r.selection = Some(select(Some("a"), 64))), None);
    assert_eq!(inexact(&|r| r.selection = Some(select(None, 65))), Some(Class::TooMany));
    assert_eq!(inexact(&|r| r.selection = Some(select(None, 0))), Some(Class::Json));
    assert_eq!(inexact(&|r| r.selection = Some(select(Some(""), 0))), Some(Class::Json));
    assert_eq!(inexact(&|r| r.changes = Some(Vec::new())), Some(Class::Json));
    let twice = vec![Change { what: "owners".into(), count: 1 }; 2];
    assert_eq!(inexact(&|r| r.changes = Some(twice.clone())), Some(Class::Json));
    assert_eq!(inexact(&|r| r.changes = Some(vec![Change { what: "colour".into(), count: 1 }])), Some(Class::Newer));
    assert_eq!(changed(|r| r.host.name = "a\nb".into()), Some(Class::Json));
    assert_eq!(changed(|r| r.host.name = "a".repeat(256)), Some(Class::Json));
    assert_eq!(changed(|r| r.trees[0].path = "/".repeat(4097)), Some(Class::Json));
    assert_eq!(changed(|r| r.trees[0].name = "A".into()), Some(Class::Json));
    assert_eq!(changed(|r| r.trees.swap(0, 1)), Some(Class::Json));
    assert_eq!(changed(|r| r.trees.clear()), Some(Class::Json));
}

#[test]
fn a_machine_id_is_not_shown_and_its_end_of_line_does_not_count() {
    let id = "0123456789abcdef0123456789abcdef";
    assert_eq!(machine_digest(id), machine_digest(&format!("{id}\n")));
    assert_ne!(machine_digest(id), Digest::sha256(id.as_bytes()));
}
