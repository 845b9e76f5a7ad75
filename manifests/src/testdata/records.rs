//! Chains and records as examples.

use super::Case;
use crate::chain::{self, Head};
use crate::digest::Digest;
use crate::document::drill::{self, Begun, Drill, Ended, Prober};
use crate::document::fence::{self, Fence};
use crate::document::record::{Body, Header, Pointer, Void, payload_type};
use crate::document::rollback::{self, Rollback};
use crate::document::{archive, fork, lease, snapshot};
use crate::fixture::{
    archive_body, first, fork_bytes, fork_payload, genesis_bytes, header_after, key, lease_bytes, lease_claim, node,
    owner, pin, replaced, root_bytes, root_one, sign, snapshot_bytes, snapshot_payload, text as body_text,
};
use crate::keys::{SecretKey, Signer};
use crate::log::Frontier;

/// A record for the slot after genesis.
pub(super) fn record(name: &'static str, verdict: &'static str, made: &'static str, bytes: Vec<u8>) -> Case {
    Case { name, verdict, made, files: vec![("record.json", bytes)] }
}

/// Genesis, a snapshot, a void slot, a record of an unknown kind, and a snapshot that names the void slot.
pub(super) fn accepted_chain() -> Case {
    let mut head = first().1;
    let mut slots = vec![genesis_bytes()];
    let mut voids: Vec<Void> = Vec::new();
    for kind in ["snapshot", "garbage", "hold", "snapshot"] {
        let bytes = match kind {
            "garbage" => b"garbage\n".to_vec(),
            "snapshot" => snapshot_bytes(&head, &voids),
            kind => hold(&head, &voids, kind),
        };
        if let Some((_, after)) = chain::step(&head, &mut voids, &bytes, &root_one()).unwrap() {
            head = after;
        }
        slots.push(bytes);
    }
    let names = ["chain/0.json", "chain/1.json", "chain/2.json", "chain/3.json", "chain/4.json"];
    let mut files: Vec<(&'static str, Vec<u8>)> = names.into_iter().zip(slots).collect();
    files.push(("root/1.json", root_bytes()));
    files.push(("pin", format!("{}\n", pin()).into_bytes()));
    let made = "keys of seeds 0101… (owner) and 0202… (node); slot 2 is void, slot 3 of an unknown kind";
    Case { name: "chain-accepted", verdict: "accepted", made, files }
}

pub(super) fn hold(head: &Head, voids: &[Void], kind: &str) -> Vec<u8> {
    let header = serde_json::to_string(&header_after(head, voids)).unwrap();
    let payload = format!(r#"{},"body":{{"any":["thing"]}}}}"#, header.strip_suffix('}').unwrap());
    sign(&payload_type(kind), &payload, &[&node()])
}

pub(super) fn records() -> Vec<Case> {
    let (_, head) = first();
    let payload = snapshot_payload(&head, &[]);
    let signed = |payload: &str| sign(snapshot::PAYLOAD_TYPE, payload, &[&node()]);
    let text = |from: &str, to: &str| signed(&replaced(&payload, from, to));
    let deep = format!(r#""ext":{{"x":{}{}}},"body""#, "[".repeat(31), "]".repeat(31));
    let other = Digest::sha256(b"other");
    let second = chain::next(&head, &[], &snapshot_bytes(&head, &[]), &root_one()).unwrap().1;
    let mut log = Frontier::default();
    log.push(&other);
    let misled = |head: Head| snapshot_bytes(&head, &[]);
    vec![
        record("record-accepted", "accepted", "the snapshot that all cases here are made from", signed(&payload)),
        record("record-ext", "accepted", "an `ext` object", text(r#""body""#, r#""ext":{"note":["any",null]},"body""#)),
        record("record-unknown-kind", "accepted", "the type of an unknown kind", hold(&head, &[], "hold")),
        record("record-newer-format", "E_NEWER", "another `format`", text("0-draft", "2")),
        record(
            "record-critical",
            "E_NEWER",
            "an unknown name in `critical`, and an unknown field",
            text(r#""body""#, r#""critical":["dedup-v2"],"more":1,"body""#),
        ),
        record("record-term", "E_INCONSISTENT", "a term above 0 without a fence", text(r#""term":0"#, r#""term":1"#)),
        record(
            "record-epoch",
            "E_INCONSISTENT",
            "an epoch above 0 that no fork began",
            text(r#""epoch":0"#, r#""epoch":1"#),
        ),
        record(
            "record-unknown-field",
            "E_JSON",
            "a field that the format does not name",
            text(r#""epoch":0"#, r#""epoch":0,"note":1"#),
        ),
        record("record-case-variant", "E_JSON", "`Term` beside `term`", text(r#""term":0"#, r#""term":0,"Term":0"#)),
        record("record-null", "E_JSON", "`void` is null", text(r#","writer""#, r#","void":null,"writer""#)),
        record("record-duplicate-field", "E_JSON, void", "`seq` twice", text(r#""seq":1"#, r#""seq":1,"seq":1"#)),
        record(
            "record-duplicate-escaped",
            "E_JSON, void",
            "`seq` twice, once escaped",
            text(r#""seq":1"#, r#""seq":1,"s\u0065q":1"#),
        ),
        record(
            "record-duplicate-in-ext",
            "E_JSON, void",
            "one name twice inside `ext`",
            text(r#""body""#, r#""ext":{"a":1,"a":2},"body""#),
        ),
        record("record-float", "E_JSON, void", "a count of 4.0", text(r#""files":4"#, r#""files":4.0"#)),
        record("record-exponent", "E_JSON, void", "a count of 4e0", text(r#""files":4"#, r#""files":4e0"#)),
        record(
            "record-integer-limit",
            "E_JSON, void",
            "a count of 2^53",
            text(r#""torn":0"#, r#""torn":9007199254740992"#),
        ),
        record("record-deep", "E_JSON, void", "33 levels deep in `ext`", text(r#""body""#, &deep)),
        record(
            "record-time-offset",
            "E_JSON",
            "a time that is not in UTC",
            text("2026-11-20T12:01:00Z", "2026-11-20T13:01:00+01:00"),
        ),
        record(
            "record-uppercase-digest",
            "E_JSON",
            "a digest in upper case",
            text(&head.digest_field(), &head.digest_field().to_uppercase().replace("PREVIOUS", "previous")),
        ),
        record("record-counts", "E_JSON", "a sum that is not the sum", text(r#""files":4"#, r#""files":5"#)),
        record("record-tree-order", "E_JSON", "trees not in order", text(r#""name":"config""#, r#""name":"zebra""#)),
        record("record-other-slot", "E_SEQ, void", "the valid record of slot 2", misled(second)),
        record("record-genesis-again", "E_SEQ, void", "genesis copied into slot 1", genesis_bytes()),
        record(
            "record-other-chain",
            "E_ORIGIN, void",
            "the record of another chain by the same writer",
            misled(Head { chain: other, ..head.clone() }),
        ),
        record(
            "record-other-previous",
            "E_MIX",
            "follows a record that is not before it",
            misled(Head { digest: other, ..head.clone() }),
        ),
        record(
            "record-other-log",
            "E_INCONSISTENT",
            "the log of another history",
            misled(Head { log, ..head.clone() }),
        ),
        record(
            "record-log-frontier",
            "E_INCONSISTENT",
            "a root that does not follow from the frontier",
            text(&format!(r#""root":"{}""#, head.log.root()), &format!(r#""root":"{other}""#)),
        ),
        record(
            "record-invented-void",
            "E_INCONSISTENT",
            "names a void slot that is none",
            text(r#","writer""#, &format!(r#","void":[{{"seq":1,"sha256":"{other}"}}],"writer""#)),
        ),
        record(
            "record-writer-key",
            "E_KEYID",
            "`writer.key` is not a key that signed",
            text(&node().public().id().to_string(), &owner().public().id().to_string()),
        ),
    ]
}

fn drill_begun() -> Begun {
    Begun {
        id: "drill-1".into(),
        kind: "drill".into(),
        scenario: "full".into(),
        mode: "execute".into(),
        plan: Digest::sha256(b"plan"),
        challenge: Some("what the auditor asked for".into()),
        probers: Vec::new(),
    }
}

/// The same, with the keys of those who measure it.
fn drill_measured() -> Begun {
    let prober =
        |name: &str, of: &str, at: u8| Prober { name: name.into(), of: of.into(), key: key(at).public().to_hex() };
    Begun { probers: vec![prober("ingress", "ingress", 31), prober("node-a", "a", 32)], ..drill_begun() }
}

fn drill_ended(begun: Pointer) -> Ended {
    Ended {
        id: "drill-1".into(),
        begun: Some(begun),
        mode: "execute".into(),
        verdict: "passed".into(),
        bundle: Digest::sha256(b"bundle"),
        rto_ms: Some(7100),
        rpo_events: Some(0),
    }
}

/// Forks, rollbacks, drills and images for the slot after genesis.
pub(super) fn other_kinds() -> Vec<Case> {
    let (_, head) = first();
    let fork_of = |payload: &str, key: &SecretKey| sign(fork::PAYLOAD_TYPE, payload, &[key]);
    let payload = fork_payload(&head, 1, 1);
    let header = header_after(&head, &[]);
    let target = Pointer { seq: 0, digest: head.digest };
    let back = body_text(&header, &Body::Rollback(Rollback { target, reason: "the release was bad".into() }));
    let back_of = |payload: &str, key: &SecretKey| sign(rollback::PAYLOAD_TYPE, payload, &[key]);
    let image = body_text(&header, &Body::Image(Box::new(archive_body())));
    let image_of = |payload: &str| sign(archive::PAYLOAD_TYPE, payload, &[&node()]);
    let drill_of = |payload: &str, key: &SecretKey| sign(drill::PAYLOAD_TYPE, payload, &[key]);
    let begun = body_text(&header, &Body::Drill(Drill::Begun(drill_begun())));
    let measured = body_text(&header, &Body::Drill(Drill::Begun(drill_measured())));
    let ended = body_text(&header, &Body::Drill(Drill::Ended(drill_ended(target))));
    let ended_alone = &ended[ended.find(r#""ended":"#).unwrap()..ended.len() - 2];
    let other = Digest::sha256(b"other");
    vec![
        record("record-fork", "accepted", "a fork that keeps genesis, by the owner", fork_of(&payload, &owner())),
        record("record-fork-by-writer", "E_ROLE, void", "a fork signed by the writer", fork_of(&payload, &node())),
        record(
            "record-fork-keeps-another",
            "E_MIX",
            "a fork that keeps a record which is not there",
            fork_of(
                &replaced(
                    &replaced(
                        &payload,
                        &format!(r#""previous":"{}""#, head.digest),
                        &format!(r#""previous":"{other}""#),
                    ),
                    &format!(r#""keep":{{"seq":0,"digest":"{}"}}"#, head.digest),
                    &format!(r#""keep":{{"seq":0,"digest":"{other}"}}"#),
                ),
                &owner(),
            ),
        ),
        record(
            "record-fork-with-segments",
            "E_JSON",
            "a fork that changes the segments",
            fork_of(&replaced(&payload, r#","body""#, r#","segments":[],"body""#), &owner()),
        ),
        record(
            "record-fork-without-reason",
            "E_JSON",
            "an empty reason",
            fork_of(&replaced(&payload, "the key of node-a was stolen", ""), &owner()),
        ),
        record("record-rollback", "accepted", "a rollback to the record before", back_of(&back, &node())),
        record("record-rollback-by-owner", "E_ROLE, void", "signed for the role root", back_of(&back, &owner())),
        record(
            "record-rollback-forward",
            "E_SEQ",
            "a rollback to its own slot",
            back_of(&replaced(&back, r#""target":{"seq":0"#, r#""target":{"seq":1"#), &node()),
        ),
        record("record-drill-begun", "accepted", "a drill begins", drill_of(&begun, &node())),
        record(
            "record-drill-measured",
            "accepted",
            "a drill begins, with the keys of those who measure it",
            drill_of(&measured, &node()),
        ),
        record(
            "record-drill-prober-twice",
            "E_JSON",
            "two probers of one name",
            drill_of(&replaced(&measured, r#""name":"node-a""#, r#""name":"ingress""#), &node()),
        ),
        record(
            "record-drill-prober-elsewhere",
            "E_JSON",
            "a prober whose name leads out of its directory",
            drill_of(&replaced(&measured, r#""name":"node-a""#, r#""name":"../node-a""#), &node()),
        ),
        record(
            "record-drill-prober-key",
            "E_WEAK_KEY",
            "a prober with a key that verifies anything",
            drill_of(&replaced(&measured, &key(32).public().to_hex(), &"0".repeat(64)), &node()),
        ),
        record(
            "record-drill-ended",
            "accepted",
            "a drill ended, begun in the record before",
            drill_of(&ended, &node()),
        ),
        record("record-drill-by-owner", "E_ROLE, void", "signed for the role root", drill_of(&begun, &owner())),
        record(
            "record-drill-both",
            "E_JSON",
            "a drill that begins and ended at once",
            drill_of(&replaced(&begun, r#""body":{"#, &format!(r#""body":{{{ended_alone},"#)), &node()),
        ),
        record(
            "record-drill-neither",
            "E_JSON",
            "an empty body",
            drill_of(&replaced(&ended, &format!("{{{ended_alone}}}"), "{}"), &node()),
        ),
        record(
            "record-drill-verdict",
            "E_JSON",
            "another verdict than the format names",
            drill_of(&replaced(&ended, r#""verdict":"passed""#, r#""verdict":"good""#), &node()),
        ),
        record(
            "record-drill-id",
            "E_JSON",
            "an id that is no name",
            drill_of(&replaced(&begun, r#""id":"drill-1""#, r#""id":"Drill 1""#), &node()),
        ),
        record(
            "record-drill-ends-itself",
            "E_SEQ",
            "the record with which it began is its own slot",
            drill_of(&replaced(&ended, r#""begun":{"seq":0"#, r#""begun":{"seq":1"#), &node()),
        ),
        record("record-image", "accepted", "an image with its archive", image_of(&image)),
        record(
            "record-image-without-layers",
            "E_MANIFEST",
            "no diff ids",
            image_of(&replaced(&image, &format!(r#"["{}"]"#, Digest::sha256(b"layer")), "[]")),
        ),
        record(
            "record-image-of-two-trees",
            "E_JSON",
            "a tree that is not named `image`",
            image_of(&replaced(&image, r#"{"name":"image""#, r#"{"name":"imagine""#)),
        ),
    ]
}

/// Fences after genesis.
pub(super) fn fences() -> Vec<Case> {
    let (_, head) = first();
    let plain = header_after(&head, &[]);
    let header = head.fence_header(&[], 1, plain.time, plain.nonce, plain.writer).unwrap();
    let claim = lease_bytes(&lease_claim());
    let body = |claim: &[u8]| Body::Fence(Box::new(Fence::of(claim).unwrap()));
    let fence_of = |claim: &[u8]| sign(fence::PAYLOAD_TYPE, &body_text(&header, &body(claim)), &[&node()]);
    let higher = Header { term: 2, ..header.clone() };
    let forged = sign(lease::PAYLOAD_TYPE, &serde_json::to_string(&lease_claim()).unwrap(), &[&key(66)]);
    let mut unwritten = lease_claim();
    unwritten.holder.writer = None;
    let moved = replaced(&body_text(&header, &body(&claim)), r#""fence":{"seq":1"#, r#""fence":{"seq":0"#);
    vec![
        record("record-fence", "accepted", "a fence that rests on a claim", fence_of(&claim)),
        record(
            "record-fence-by-owner",
            "E_ROLE, void",
            "a fence signed by the owner",
            sign(fence::PAYLOAD_TYPE, &body_text(&header, &body(&claim)), &[&owner()]),
        ),
        record(
            "record-fence-of-another-term",
            "E_INCONSISTENT",
            "a fence of term 2 with a claim of term 1",
            sign(fence::PAYLOAD_TYPE, &body_text(&higher, &body(&claim)), &[&node()]),
        ),
        record(
            "record-fence-without-writer",
            "E_INCONSISTENT",
            "a claim without a writer",
            fence_of(&lease_bytes(&unwritten)),
        ),
        record(
            "record-fence-forged-claim",
            "E_SIG_UNTRUSTED, void",
            "a claim by a key nobody knows",
            fence_of(&forged),
        ),
        record(
            "record-fence-elsewhere",
            "E_INCONSISTENT",
            "a fence that names another slot as its own",
            sign(fence::PAYLOAD_TYPE, &moved, &[&node()]),
        ),
    ]
}

/// Genesis, a fence, and a snapshot of its term.
pub(super) fn fenced_chain() -> Case {
    let genesis = first().1;
    let Case { files, .. } = fences().swap_remove(0);
    let fence = files[0].1.clone();
    let fenced = chain::next(&genesis, &[], &fence, &root_one()).unwrap().1;
    let slots = [genesis_bytes(), fence, snapshot_bytes(&fenced, &[])];
    let names = ["chain/0.json", "chain/1.json", "chain/2.json"];
    let mut files: Vec<(&'static str, Vec<u8>)> = names.into_iter().zip(slots).collect();
    files.push(("root/1.json", root_bytes()));
    files.push(("pin", format!("{}\n", pin()).into_bytes()));
    Case { name: "fenced-chain-accepted", verdict: "accepted", made: "slot 1 begins term 1", files }
}

/// A chain that its owner forked: slot 2 was left behind.
pub(super) fn forked_chain() -> Case {
    let genesis = first().1;
    let kept = chain::next(&genesis, &[], &snapshot_bytes(&genesis, &[]), &root_one()).unwrap().1;
    let forked = chain::fork(&kept, 3, &fork_bytes(&kept, 3, 1), &root_one()).unwrap().1;
    let slots = [
        genesis_bytes(),
        snapshot_bytes(&genesis, &[]),
        snapshot_bytes(&kept, &[]),
        fork_bytes(&kept, 3, 1),
        snapshot_bytes(&forked, &[]),
    ];
    let names = ["chain/0.json", "chain/1.json", "chain/2.json", "chain/3.json", "chain/4.json"];
    let mut files: Vec<(&'static str, Vec<u8>)> = names.into_iter().zip(slots).collect();
    files.push(("root/1.json", root_bytes()));
    files.push(("pin", format!("{}\n", pin()).into_bytes()));
    let made = "slot 3 is a fork that keeps slot 1; the valid record in slot 2 is left behind";
    Case { name: "forked-chain-accepted", verdict: "accepted", made, files }
}

impl Head {
    fn digest_field(&self) -> String {
        format!(r#""previous":"{}""#, self.digest)
    }
}
