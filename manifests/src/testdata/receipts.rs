//! Receipts as examples.

use super::Case;
use crate::digest::Digest;
use crate::document::receipt::{PAYLOAD_TYPE, PREDICATE_TYPE, Receipt};
use crate::document::snapshot;
use crate::fixture::{node, owner, receipt, receipt_payload, replaced, sign, stranger};
use crate::keys::SecretKey;

/// A receipt to be judged under the root of the accepted chain.
fn case(name: &'static str, verdict: &'static str, made: &'static str, bytes: Vec<u8>) -> Case {
    Case { name, verdict, made, files: vec![("receipt.json", bytes)] }
}

pub(super) fn receipts() -> Vec<Case> {
    let payload = receipt_payload();
    let by = |key: &SecretKey| sign(PAYLOAD_TYPE, &payload, &[key]);
    let signed = |payload: &str| sign(PAYLOAD_TYPE, payload, &[&node()]);
    let text = |from: &str, to: &str| signed(&replaced(&payload, from, to));
    let other = Digest::sha256(b"other");
    let document = |change: &dyn Fn(&mut Receipt)| {
        let mut changed = receipt();
        change(&mut changed);
        let predicate = |receipt: &Receipt| serde_json::to_string(receipt).unwrap();
        signed(&replaced(&payload, &predicate(&receipt()), &predicate(&changed)))
    };
    let edited = {
        let good = String::from_utf8(by(&node())).unwrap();
        let with_other = String::from_utf8(text(r#""proof":"written""#, r#""proof":"device""#)).unwrap();
        let payload_of = |envelope: &str| envelope.split('"').nth(3).unwrap().to_owned();
        replaced(&good, &payload_of(&good), &payload_of(&with_other)).into_bytes()
    };
    vec![
        case("receipt-accepted", "accepted", "an exact restore of slot 1, signed by the node", by(&node())),
        case("receipt-ext", "accepted", "an `ext` object", text(r#""node":"#, r#""ext":{"ticket":[7]},"node":"#)),
        case(
            "receipt-break-glass",
            "accepted",
            "an expired root that was used with a reason",
            text(
                r#""started":"#,
                concat!(
                    r#""break_glass":{"reason":"owner key on its way","lifted":[{"class":"E_STALE","#,
                    r#""object":"root/1.json"}]},"started":"#
                ),
            ),
        ),
        case(
            "receipt-break-glass-nothing",
            "E_JSON",
            "a reason, and nothing that was lifted",
            text(r#""started":"#, r#""break_glass":{"reason":"why not","lifted":[]},"started":"#),
        ),
        case(
            "receipt-break-glass-signature",
            "E_NEWER",
            "a refusal that no version so far can lift",
            text(
                r#""started":"#,
                concat!(
                    r#""break_glass":{"reason":"in a hurry","lifted":[{"class":"E_SIG","#,
                    r#""object":"root/1.json"}]},"started":"#
                ),
            ),
        ),
        case("receipt-wrong-role", "E_ROLE", "signed by the owner, who is no node", by(&owner())),
        case("receipt-stranger", "E_SIG_UNTRUSTED", "signed by a key that is not in the root", by(&stranger())),
        case("receipt-edited", "E_SIG", "the proof changed after signing", edited),
        case(
            "receipt-record-type",
            "E_TYPE",
            "the payload type of a snapshot",
            sign(snapshot::PAYLOAD_TYPE, &payload, &[&node()]),
        ),
        case(
            "receipt-other-statement",
            "E_TYPE",
            "an in-toto statement with another predicate",
            text(PREDICATE_TYPE, "https://slsa.dev/provenance/v1"),
        ),
        case("receipt-newer", "E_NEWER", "another version of the predicate", text("receipt:0-draft", "receipt:2")),
        case(
            "receipt-critical",
            "E_NEWER",
            "an unknown name in `critical`",
            text(r#""node":"#, r#""critical":["witness"],"node":"#),
        ),
        case("receipt-unknown-proof", "E_NEWER", "a kind of proof that does not exist", text("written", "imagined")),
        case(
            "receipt-unknown-field",
            "E_JSON",
            "a field that the format does not name",
            text(r#""exact":"#, r#""note":1,"exact":"#),
        ),
        case("receipt-duplicate-field", "E_JSON", "`exact` twice", text(r#""exact":"#, r#""exact":true,"exact":"#)),
        case(
            "receipt-other-digest-name",
            "E_JSON",
            "a second digest of the subject",
            text(r#""digest":{"sha256""#, r#""digest":{"sha1":"00","sha256""#),
        ),
        case("receipt-other-chain", "E_ORIGIN", "of another chain by the same node", document(&|r| r.chain = other)),
        case("receipt-other-root", "E_ORIGIN", "under another first root", document(&|r| r.root = other)),
        case(
            "receipt-other-record",
            "E_INCONSISTENT",
            "a subject that is not the record in the predicate",
            document(&|r| r.record.digest = other),
        ),
        case("receipt-node", "E_KEYID", "`node` is not a key that signed", document(&|r| r.node = other)),
        case("receipt-sums", "E_INCONSISTENT", "a sum that is not the sum", document(&|r| r.restored.bytes += 1)),
        case(
            "receipt-not-exact",
            "E_INCONSISTENT",
            "exact, with another digest than the signed one",
            document(&|r| r.trees[0].found.content_digest = other),
        ),
    ]
}
