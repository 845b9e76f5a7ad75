//! Envelopes as examples.

use super::Case;
use super::records::record;
use crate::document::{root, snapshot};
use crate::fixture::{first, node, owner, replaced, sign, snapshot_bytes, snapshot_payload, stranger};
use crate::keys::{SecretKey, Signer};

pub(super) fn envelopes() -> Vec<Case> {
    let payload = snapshot_payload(&first().1, &[]);
    let good = String::from_utf8(snapshot_bytes(&first().1, &[])).unwrap();
    let signed = |keys: &[&SecretKey]| sign(snapshot::PAYLOAD_TYPE, &payload, keys);
    let text = |from: &str, to: &str| replaced(&good, from, to).into_bytes();
    let signature = &good[good.find(r#"{"keyid"#).unwrap()..good.len() - 2];
    let times = |count: usize| text(signature, &vec![signature; count].join(","));
    let sig = good.split(r#""sig":""#).nth(1).unwrap().split('"').next().unwrap();
    let id = node().public().id().to_string();
    let nothing = r#"{"keyid":"","sig":""}"#;
    let url_safe = {
        let (head, tail) = good.split_once(r#""payloadType""#).unwrap();
        let (middle, sig) = tail.split_once(r#""sig""#).unwrap();
        let safe = |text: &str| text.replace('+', "-").replace('/', "_");
        format!(r#"{}"payloadType"{middle}"sig"{}"#, safe(head), safe(sig)).into_bytes()
    };
    vec![
        record("envelope-url-safe-base64", "accepted", "the alphabet with - and _", url_safe),
        record(
            "envelope-garbage-signature",
            "accepted",
            "an empty signature before the good one",
            text(signature, &format!("{nothing},{signature}")),
        ),
        record("envelope-second-signer", "accepted", "also signed by a stranger", signed(&[&stranger(), &node()])),
        record("envelope-no-signature", "E_SIG_MISSING, void", "no signatures", signed(&[])),
        record(
            "envelope-stranger",
            "E_SIG_UNTRUSTED, void",
            "signed by a key that is not in the root",
            signed(&[&stranger()]),
        ),
        record("envelope-wrong-role", "E_ROLE, void", "signed by the owner, who is no writer", signed(&[&owner()])),
        record(
            "envelope-key-id-mismatch",
            "E_SIG_UNTRUSTED, void",
            "the id of a stranger over the node's signature",
            text(&id, &stranger().public().id().to_string()),
        ),
        record(
            "envelope-bad-signature",
            "E_SIG, void",
            "signature of zeroes",
            text(sig, &format!("{}==", "A".repeat(86))),
        ),
        record(
            "envelope-other-type",
            "E_SIG, void",
            "the type changed after signing",
            text("snapkit.snapshot", "snapkit.hold"),
        ),
        record(
            "envelope-root-type",
            "E_TYPE, void",
            "a type that no record has",
            sign(root::PAYLOAD_TYPE, &payload, &[&node()]),
        ),
        record("envelope-33-signatures", "E_TOO_MANY, void", "33 copies of the good signature", times(33)),
        record(
            "envelope-unpadded-base64",
            "E_JSON, void",
            "a payload without its `=`",
            text(&good[12..good.find(r#"","payloadType"#).unwrap()], "eyJhIjoxfQ"),
        ),
        record(
            "envelope-unknown-field",
            "E_JSON, void",
            "a field that the format does not name",
            text(r#""signatures""#, r#""note":1,"signatures""#),
        ),
        record(
            "envelope-duplicate-field",
            "E_JSON, void",
            "`signatures` twice, once escaped",
            text(r#""signatures""#, r#""signature\u0073":[],"signatures""#),
        ),
        record(
            "envelope-array",
            "E_JSON, void",
            "the fields in an array, without names",
            format!(r#"["e30=","{}",[]]"#, snapshot::PAYLOAD_TYPE).into_bytes(),
        ),
        record("envelope-trailing-bytes", "E_JSON, void", "` x` after the end", format!("{good} x").into_bytes()),
        record(
            "envelope-byte-order-mark",
            "E_JSON, void",
            "a byte-order mark before the beginning",
            format!("\u{feff}{good}").into_bytes(),
        ),
        record(
            "envelope-truncated",
            "E_JSON, void",
            "the last 100 bytes cut off",
            good.as_bytes()[..good.len() - 100].to_vec(),
        ),
        record("envelope-empty", "E_JSON, void", "no bytes", Vec::new()),
    ]
}
