//! Lease entries as examples.

use super::Case;
use crate::digest::Digest;
use crate::document::lease::{self, Entry, Kind};
use crate::document::pins::Member;
use crate::document::{pins, record};
use crate::fixture::{
    first, lease_after, lease_bytes, lease_claim, node, owner, pins_payload, replaced, root_one, sign, stranger,
};
use crate::keys::{SecretKey, Signer};
use crate::lease::{self as log, Group, Position, Step};
use crate::refusal::Refusal;

/// Runs `with` on the group that all cases here are judged for.
fn with_group<T>(with: impl FnOnce(&Group<'_>) -> T) -> T {
    let (chain, root) = (first().1.chain, root_one());
    let members = [Member { node: "node-a".into(), key: node().public().id() }];
    with(&Group { chain: &chain, name: "app", members: &members, root: &root })
}

pub(super) fn judge(bytes: &[u8]) -> String {
    with_group(|group| {
        let mut position = Position::default();
        position.step(&lease_bytes(&lease_claim()), group).unwrap();
        match position.step(bytes, group) {
            Ok(Step::Entry) => "accepted".into(),
            Ok(Step::Void(why)) => format!("{}, void", why.class()),
            Err(refusal) => refusal.class().to_string(),
        }
    })
}

/// The log of `lease-log-accepted`: claim, renewal, void, release, claim.
fn log_entries() -> [Vec<u8>; 5] {
    let claim = lease_claim();
    let renewal = lease_after(&claim, &[], Kind::Renew);
    let garbage = b"torn".to_vec();
    let void = record::Void { seq: 3, sha256: log::void_digest(&garbage) };
    let release = lease_after(&renewal, &[void], Kind::Release);
    let again = Entry { ttl_ms: None, reason: Some("asked for".into()), ..lease_after(&release, &[], Kind::Claim) };
    [lease_bytes(&claim), lease_bytes(&renewal), garbage, lease_bytes(&release), lease_bytes(&again)]
}

pub(super) fn accepted_log() -> Case {
    let names = ["lease/1.json", "lease/2.json", "lease/3.json", "lease/4.json", "lease/5.json"];
    Case {
        name: "lease-log-accepted",
        verdict: "accepted",
        made: "claim, renewal, a torn file, release, and a claim of term 2 that only an operator ends",
        files: names.into_iter().zip(log_entries()).collect(),
    }
}

pub(super) fn read_log(read: impl Fn(&str) -> Vec<u8>) -> Result<(), Refusal> {
    with_group(|group| {
        let mut position = Position::default();
        for slot in 1..=5 {
            position.step(&read(&format!("lease/{slot}.json")), group)?;
        }
        assert_eq!((position.next_seq(), position.term()), (6, 2));
        Ok(())
    })
}

fn case(name: &'static str, verdict: &'static str, made: &'static str, bytes: Vec<u8>) -> Case {
    Case { name, verdict, made, files: vec![("entry.json", bytes)] }
}

pub(super) fn leases() -> Vec<Case> {
    let renewal = lease_after(&lease_claim(), &[], Kind::Renew);
    let payload = serde_json::to_string(&renewal).unwrap();
    let by = |key: &SecretKey| sign(lease::PAYLOAD_TYPE, &payload, &[key]);
    let text = |from: &str, to: &str| sign(lease::PAYLOAD_TYPE, &replaced(&payload, from, to), &[&node()]);
    let made = |kind: Kind, change: &dyn Fn(&mut Entry)| {
        let mut entry = lease_after(&lease_claim(), &[], kind);
        change(&mut entry);
        lease_bytes(&entry)
    };
    let other = Digest::sha256(b"other");
    let void = |seq| record::Void { seq, sha256: other };
    vec![
        case("lease-renewed", "accepted", "the renewal that the cases here are made from", by(&node())),
        case("lease-released", "accepted", "a release", made(Kind::Release, &|_| {})),
        case("lease-claimed", "accepted", "a claim of the next term", made(Kind::Claim, &|_| {})),
        case(
            "lease-claimed-above-chain",
            "accepted",
            "a claim above the term of the chain, which is higher than that of the log",
            made(Kind::Claim, &|entry| (entry.term, entry.head.term) = (8, 7)),
        ),
        case("lease-unsigned", "E_SIG_MISSING, void", "no signature", sign(lease::PAYLOAD_TYPE, &payload, &[])),
        case("lease-stranger", "E_SIG_UNTRUSTED, void", "signed by a key that is not in the root", by(&stranger())),
        case("lease-wrong-role", "E_ROLE, void", "signed by the owner, who is no node", by(&owner())),
        case(
            "lease-is-pins",
            "E_TYPE, void",
            "pins in its place",
            sign(pins::PAYLOAD_TYPE, &pins_payload(), &[&node()]),
        ),
        case("lease-torn", "E_JSON, void", "an empty file, as a power failure leaves it", Vec::new()),
        case("lease-other-slot", "E_SEQ, void", "made for slot 3", made(Kind::Renew, &|entry| entry.seq = 3)),
        case(
            "lease-other-group",
            "E_ORIGIN, void",
            "of another group",
            made(Kind::Renew, &|entry| {
                entry.group = "web".into();
            }),
        ),
        case(
            "lease-other-chain",
            "E_ORIGIN, void",
            "of another chain",
            made(Kind::Renew, &|entry| entry.chain = other),
        ),
        case(
            "lease-no-member",
            "E_ROLE, void",
            "for a node that the pins do not list",
            made(Kind::Claim, &|entry| {
                entry.holder.node = "node-b".into();
            }),
        ),
        case(
            "lease-other-key",
            "E_KEYID",
            "`holder.key` is not the one that signed",
            made(Kind::Claim, &|entry| {
                entry.holder.key = owner().public().id();
            }),
        ),
        case("lease-unknown-kind", "E_NEWER", "a kind that does not exist", text(r#""renew""#, r#""hold""#)),
        case(
            "lease-critical",
            "E_NEWER",
            "an unknown name in `critical`",
            text(r#","time":"#, r#","critical":["quorum"],"time":"#),
        ),
        case(
            "lease-unknown-field",
            "E_JSON",
            "a field that the format does not name",
            text(r#","time":"#, r#","note":1,"time":"#),
        ),
        case("lease-zero-term", "E_LEASE", "term 0", made(Kind::Renew, &|entry| entry.term = 0)),
        case(
            "lease-ttl",
            "E_LEASE",
            "a ttl below five seconds",
            made(Kind::Renew, &|entry| entry.ttl_ms = Some(4_999)),
        ),
        case(
            "lease-release-ttl",
            "E_LEASE",
            "a release with a ttl",
            made(Kind::Release, &|entry| entry.ttl_ms = Some(60_000)),
        ),
        case(
            "lease-below-chain",
            "E_LEASE",
            "a renewal by somebody who has seen a higher term in the chain",
            made(Kind::Renew, &|entry| entry.head.term = 2),
        ),
        case(
            "lease-claim-within-chain",
            "E_LEASE",
            "a claim of a term that the chain has already",
            made(Kind::Claim, &|entry| entry.head.term = 2),
        ),
        case(
            "lease-no-previous",
            "E_LEASE",
            "no `previous` in slot 2",
            made(Kind::Claim, &|entry| entry.previous = None),
        ),
        case(
            "lease-void-not-before",
            "E_LEASE",
            "a void slot that is not before it",
            made(Kind::Renew, &|entry| entry.void = vec![void(2)]),
        ),
        case(
            "lease-other-previous",
            "E_INCONSISTENT, void",
            "after another entry",
            made(Kind::Renew, &|entry| entry.previous = Some(other)),
        ),
        case(
            "lease-not-void",
            "E_INCONSISTENT, void",
            "calls slot 1 void, which is not",
            made(Kind::Claim, &|entry| (entry.previous, entry.void) = (None, vec![void(1)])),
        ),
        case(
            "lease-same-term",
            "E_INCONSISTENT, void",
            "a claim of the term that is held",
            made(Kind::Claim, &|entry| entry.term = 1),
        ),
        case(
            "lease-term-jump",
            "E_INCONSISTENT, void",
            "a claim two terms on",
            made(Kind::Claim, &|entry| entry.term = 3),
        ),
        case(
            "lease-other-instance",
            "E_INCONSISTENT, void",
            "renewed by another run of the holder's agent",
            made(Kind::Renew, &|entry| entry.holder.instance = record::Nonce([6; 16])),
        ),
        case(
            "lease-other-writer",
            "E_INCONSISTENT, void",
            "renewed with another writer key than it was claimed with",
            made(Kind::Renew, &|entry| entry.holder.writer = None),
        ),
    ]
}
