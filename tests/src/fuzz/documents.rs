//! Signed documents: as they come, and as payloads that the keys of a real root have signed.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use manifests::chain::{self, Head};
use manifests::digest::Digest;
use manifests::document::lease::{self, Entry};
use manifests::document::pins::Member;
use manifests::document::receipt::{self, Authority, RECEIPT_CAP, Receipt};
use manifests::document::record::{self, RECORD_CAP, Record};
use manifests::document::root::{self, ROLES, ROOT_CAP, Root};
use manifests::document::{fork, genesis, pins};
use manifests::envelope;
use manifests::keys::{SecretKey, Signer, signature_in};
use manifests::lease::{Group, Position, Step};
use manifests::refusal::Refusal;
use serde_json::Value;
use snapkit::chain::fork_proof;

/// The chain of `testdata/manifests/chain-accepted`, whose keys are those of two fixed seeds.
pub(super) struct Chain {
    pub(super) pin: Digest,
    first_root: Vec<u8>,
    pub(super) root: Root,
    pub(super) head: Head,
    pub(super) owner: SecretKey,
    pub(super) node: SecretKey,
}

pub(super) static CHAIN: LazyLock<Chain> = LazyLock::new(|| {
    let read = |name: &str| fs::read(manifests().join("chain-accepted").join(name)).unwrap();
    let pin: Digest = std::str::from_utf8(&read("pin")).unwrap().trim_end().parse().unwrap();
    let first_root = read("root/1.json");
    let root = Root::parse_first(&first_root, &pin).unwrap();
    let (_, head) = chain::first(&read("chain/0.json"), &pin, &root).unwrap();
    let (owner, node) = (SecretKey::from_seed(&[1; 32]), SecretKey::from_seed(&[2; 32]));
    Chain { pin, first_root, root, head, owner, node }
});

pub(super) fn manifests() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/manifests")
}

impl Chain {
    /// Signed by whoever may sign it, so that the rules behind the signature are what is tried.
    pub(super) fn signed(&self, payload_type: &str, payload: &[u8]) -> Vec<u8> {
        let by_owner = [root::PAYLOAD_TYPE, genesis::PAYLOAD_TYPE, fork::PAYLOAD_TYPE, pins::PAYLOAD_TYPE];
        let signer: &dyn Signer = if by_owner.contains(&payload_type) { &self.owner } else { &self.node };
        envelope::sign(payload_type, payload, &[signer]).unwrap()
    }

    /// Gives the bytes to every reader of a slot, which must agree.
    fn judge_slot(&self, bytes: &[u8]) -> Option<Record> {
        let Self { root, head, .. } = self;
        let void = chain::is_void(bytes, &head.chain, 1, root);
        let next = chain::next(head, &[], bytes, root);
        let mut voids = Vec::new();
        let step = chain::step(head, &mut voids, bytes, root);
        match &next {
            Ok((record, after)) => {
                assert_eq!(void, Ok(None), "an accepted record is not void");
                assert_eq!(step, Ok(Some((record.clone(), after.clone()))), "both ways to read on agree");
                assert!(!record.signers.is_empty());
                assert_eq!((record.header.seq, after.seq, after.digest), (1, 1, record.digest));
            }
            Err(_) => {
                let is_void = matches!(void, Ok(Some(_)));
                assert_eq!(is_void, voids.len() == 1, "a slot is void for one reader as for the other");
                assert_eq!(is_void, matches!(step, Ok(None)));
            }
        }
        let read = next.or_else(|_| chain::fork(head, 1, bytes, root));
        let (record, after) = read.ok()?;
        let (alone, trusted) = chain::trusted(bytes, &head.chain, 1, root).expect("what follows stands alone");
        assert_eq!((&alone, &trusted.log), (&record, &after.log));
        Some(record)
    }
}

/// Bytes as they are, to every reader of an envelope.
pub(super) fn envelope(bytes: &[u8]) {
    let chain = &*CHAIN;
    chain.judge_slot(bytes);
    let _ = chain::first(bytes, &chain.pin, &chain.root);
    let _ = Root::parse_first(bytes, &chain.pin);
    let _ = chain.root.parse_next(bytes);
    verify_receipt(bytes);
    super::manifest::unsigned(bytes);
    if let Ok(message) = envelope::message_of(bytes, RECORD_CAP, "input") {
        let signed = envelope::cosign(bytes, RECORD_CAP, &[&chain.node], "input");
        let again = signed.ok().map(|signed| envelope::message_of(&signed, 2 * RECORD_CAP, "input").unwrap());
        assert!(again.is_none_or(|again| again == message), "another signature is over the same bytes");
    }
    let _ = signature_in(bytes);
    let signers = chain.root.signers("writer");
    for cap in [16, ROOT_CAP, RECORD_CAP] {
        if let Ok(verified) = envelope::verify(bytes, cap, &[receipt::PAYLOAD_TYPE], &signers, "input") {
            assert!(bytes.len() <= cap && !verified.signers().is_empty());
            assert!(verified.signers().iter().all(|key| signers.allowed.contains(key)));
            assert_eq!(verified.digest(), Digest::sha256(verified.payload()));
        }
    }
}

/// A payload, signed as the first and as the second root.
pub(super) fn root(payload: &[u8]) {
    let chain = &*CHAIN;
    let bytes = chain.signed(root::PAYLOAD_TYPE, payload);
    let first = Root::parse_first(&bytes, &Digest::sha256(payload));
    for accepted in [first, chain.root.parse_next(&bytes)].into_iter().flatten() {
        is_json(payload);
        assert!(bytes.len() <= ROOT_CAP);
        let document = accepted.document();
        // Written again it reads the same: nothing was understood that cannot be said.
        let again = document.payload().expect("what was accepted can be written");
        assert!(serde_json::from_slice::<Value>(&again).is_ok());
        assert_eq!(accepted.keys().len(), document.keys.len());
        for role in ROLES {
            let signers = accepted.signers(role);
            assert!(signers.threshold >= 1 && signers.allowed.iter().all(|key| accepted.keys().contains(key)));
        }
        for range in &document.writers {
            let key = accepted.keys().iter().find(|key| key.id() == range.key).expect("a listed key");
            assert!(accepted.writer_may_sign(key, range.from_seq));
            assert!(range.until_seq.is_none_or(|until| !accepted.writer_may_sign(key, until) || until < u64::MAX));
        }
        let _ = accepted.check_expiry(document.issued);
    }
}

/// A kind and a payload, in one line and the rest, signed as a record of that kind for slot 1.
pub(super) fn record(bytes: &[u8]) {
    let chain = &*CHAIN;
    let (kind, payload) = kind_and_payload(bytes);
    let signed = chain.signed(&record::payload_type(&kind), payload);
    if let Ok((genesis, head)) = chain::first(&signed, &chain.pin, &chain.root) {
        assert_eq!((genesis.header.seq, head.digest, head.chain), (0, genesis.digest, genesis.digest));
    }
    let Some(found) = chain.judge_slot(&signed) else { return };
    is_json(payload);
    assert!(signed.len() <= RECORD_CAP);
    if let Ok((_, again)) = record::payload(&found.header, &found.body) {
        let written =
            chain.judge_slot(&chain.signed(&record::payload_type(&kind), &again)).expect("it was written here");
        assert_eq!((&written.header, &written.body), (&found.header, &found.body));
    }
}

/// A payload, signed as an entry for the first slot of a lease log.
pub(super) fn lease(payload: &[u8]) {
    let chain = &*CHAIN;
    let bytes = chain.signed(lease::PAYLOAD_TYPE, payload);
    let members = [Member { node: "node-a".into(), key: chain.node.public().id() }];
    let group = Group { chain: &chain.head.chain, name: "app", members: &members, root: &chain.root };
    let mut position = Position::default();
    match position.step(&bytes, &group) {
        Ok(Step::Entry) => {
            is_json(payload);
            let last = position.last.as_ref().expect("an entry was read");
            assert_eq!((last.digest, position.next_seq(), last.entry.term > 0), (Digest::sha256(payload), 2, true));
            let alone = Entry::verify(&bytes, &chain.root, &chain.head.chain, "input").expect("it stands alone");
            assert_eq!(&alone, last);
            let again =
                chain.signed(lease::PAYLOAD_TYPE, &last.entry.payload().expect("what was accepted can be written"));
            let again = Entry::verify(&again, &chain.root, &chain.head.chain, "input").expect("it was written here");
            assert_eq!(again.entry, last.entry);
        }
        Ok(Step::Void(_)) => assert_eq!((position.last.is_none(), position.voids.len()), (true, 1)),
        Err(_) => assert_eq!(position, Position::default(), "what stops a reader moves nothing"),
    }
}

/// The kind is what stands before the first line break, if it can be one at all.
pub(super) fn kind_and_payload(bytes: &[u8]) -> (String, &[u8]) {
    let end = bytes.iter().take(32).position(|byte| *byte == b'\n');
    match end.and_then(|end| Some((std::str::from_utf8(&bytes[..end]).ok()?, &bytes[end + 1..]))) {
        Some((kind, payload)) if kind.bytes().all(|byte| byte.is_ascii_graphic()) => (kind.to_owned(), payload),
        _ => ("snapshot".to_owned(), bytes),
    }
}

/// A fork proof as it is, and one of the two records on both sides of a NUL byte, each as for [`record`].
pub(super) fn fork_proof(bytes: &[u8]) {
    let chain = &*CHAIN;
    let _ = fork_proof::claimed_root(bytes);
    let _ = fork_proof::check(bytes, &chain.pin);
    let Some(nul) = bytes.iter().position(|byte| *byte == 0) else { return };
    let records = [&bytes[..nul], &bytes[nul + 1..]].map(|side| {
        let (kind, payload) = kind_and_payload(side);
        chain.signed(&record::payload_type(&kind), payload)
    });
    let _ = records.iter().filter_map(|record| chain::claimed_place(record, "input").ok()).count();
    let proof = serde_json::json!({
        "format": "snapkit fork proof 0-draft",
        "roots": [STANDARD.encode(&chain.first_root)],
        "records": records.each_ref().map(|record| STANDARD.encode(record)),
    });
    let proof = proof.to_string().into_bytes();
    assert_eq!(fork_proof::claimed_root(&proof), Some(chain.pin));
    if let Ok(found) = fork_proof::check(&proof, &chain.pin) {
        let [first, second] = found.records.each_ref().map(|record| (record.header.epoch, record.digest));
        assert!(first.0 == second.0 && first.1 != second.1, "two records of one epoch that differ");
    }
}

/// A payload, signed as a receipt.
pub(super) fn receipt(payload: &[u8]) {
    let signed = CHAIN.signed(receipt::PAYLOAD_TYPE, payload);
    for found in verify_receipt(&signed) {
        is_json(payload);
        assert!(signed.len() <= RECEIPT_CAP);
        let again = found.payload().expect("what was accepted can be written");
        let written = verify_receipt(&CHAIN.signed(receipt::PAYLOAD_TYPE, &again));
        assert!(written.contains(&found), "written again it reads the same");
    }
}

/// What every authority makes of a receipt.
fn verify_receipt(bytes: &[u8]) -> Vec<Receipt> {
    let Chain { pin, root, head, node, .. } = &*CHAIN;
    let key = node.public();
    let authorities = [
        Authority::Root { root, pin: *pin, chain: Some(head.chain) },
        Authority::Root { root, pin: *pin, chain: None },
        Authority::Key(&key),
    ];
    let verified = authorities.iter().map(|authority| Receipt::verify(bytes, authority, "input"));
    verified.filter_map(|found: Result<_, Refusal>| found.ok()).map(|found| found.receipt).collect()
}

/// Whatever the strict parser takes, an ordinary one takes too.
pub(super) fn is_json(payload: &[u8]) {
    assert!(serde_json::from_slice::<Value>(payload).is_ok(), "accepted, and yet no JSON");
}
