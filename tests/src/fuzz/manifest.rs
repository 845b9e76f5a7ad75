//! Pins and manifests: payloads that the right keys have signed, and drafts that nobody has.

use jiff::SignedDuration;
use manifests::document::manifest::{self, MANIFEST_CAP, Manifest, VerifiedManifest};
use manifests::document::pins::{self, PINS_CAP, Pins, VerifiedPins};
use manifests::envelope::{self, Nested};
use manifests::freshness::{self, Facts};
use manifests::keys::Signer;
use serde_json::Value;
use snapkit::image::identity::Identity;

use super::documents::{CHAIN, Chain, is_json};

/// Stands in a manifest where its pins go, in the seeds of [`manifest`].
pub(super) const PLACE_OF_PINS: &str = "\"PINS\"";

/// Bytes as they are, as a manifest, as pins, and as a draft of either.
pub(super) fn unsigned(bytes: &[u8]) {
    let Chain { pin, root, head, .. } = &*CHAIN;
    let _ = Manifest::verify(bytes, root, pin, None, None, "input");
    let _ = Manifest::hinted_stores(bytes, "input");
    let _ = Pins::verify(bytes, root, &head.chain, None, "input");
    let Ok(mut draft) = Nested::read(bytes, PINS_CAP, "input") else { return };
    assert_eq!(Nested::read(&draft.to_bytes(), usize::MAX, "input").unwrap(), draft);
    let Ok(read) = Pins::of_draft(&draft, "input") else { return };
    let signed = draft.sign(&[&CHAIN.owner], "input").is_ok();
    assert_eq!(Pins::of_draft(&draft, "input").unwrap(), read, "a signature changes nothing that is said");
    if let (true, Ok(verified)) =
        (signed, Pins::verify(&draft.to_bytes(), root, &read.chain, Some(&read.name), "input"))
    {
        assert_eq!(verified.pins, read);
    }
}

/// A payload, signed as pins.
pub(super) fn pins(payload: &[u8]) {
    let signed = CHAIN.signed(pins::PAYLOAD_TYPE, payload);
    let Some(VerifiedPins { pins: found, digest }) = verify_pins(&signed) else { return };
    is_json(payload);
    assert!(signed.len() <= PINS_CAP);
    assert_eq!(digest, manifests::digest::Digest::sha256(payload));
    let draft = envelope::sign(pins::PAYLOAD_TYPE, payload, &[]).unwrap();
    let draft = Nested::read(&draft, PINS_CAP, "input").unwrap();
    assert_eq!(Pins::of_draft(&draft, "input").as_ref(), Ok(&found), "what was shown before it was signed");
    assert!(found.expires > found.issued && !found.trees.is_empty());
    assert!(found.trees.is_sorted_by(|a, b| a.name < b.name) && found.images.is_sorted_by(|a, b| a.name < b.name));
    for image in &found.images {
        let identity = Identity::of_pin(image).expect("an accepted pin names a platform");
        assert_eq!((identity.must_be(image, "input"), identity.platform.to_string()), (Ok(()), image.platform.clone()));
    }
    let again = found.payload().expect("what was accepted can be written");
    let written = verify_pins(&CHAIN.signed(pins::PAYLOAD_TYPE, &again)).expect("it was written here");
    assert_eq!(written.pins, found, "written again it reads the same");
}

fn verify_pins(bytes: &[u8]) -> Option<VerifiedPins> {
    let Chain { root, head, .. } = &*CHAIN;
    let any = Pins::verify(bytes, root, &head.chain, None, "input").ok()?;
    let named = Pins::verify(bytes, root, &head.chain, Some("app"), "input");
    assert_eq!(named.is_ok(), any.pins.name == "app");
    Some(any)
}

/// A payload, signed as a manifest; where a NUL byte follows, what is behind it is signed as pins and put into its place.
pub(super) fn manifest(bytes: &[u8]) {
    let payload = with_pins(bytes);
    let signed = CHAIN.signed(manifest::PAYLOAD_TYPE, &payload);
    let hinted = Manifest::hinted_stores(&signed, "input");
    let Some(verified) = verify_manifest(&signed) else { return };
    let found = &verified.manifest;
    is_json(&payload);
    assert!(signed.len() <= MANIFEST_CAP);
    assert_eq!(hinted, Ok((found.name.clone(), found.stores.clone())), "hints are what the manifest says");
    assert!(
        found.expires > found.issued
            && (found.snapshot.epoch, found.snapshot.seq) <= (found.head.epoch, found.head.seq)
    );
    let again = found.payload().expect("what was accepted can be written");
    let written = verify_manifest(&CHAIN.signed(manifest::PAYLOAD_TYPE, &again)).expect("it was written here");
    assert_eq!(&written.manifest, found, "written again it reads the same");
    if written.digest == verified.digest {
        assert_eq!(freshness::check_succession(&verified, &written, "input"), Ok(()), "it follows itself");
    }
    let Ok(pins) = verified.pins(&CHAIN.root, "input") else { return };
    assert_eq!((&pins.pins.name, &pins.pins.chain), (&found.name, &found.chain));
    judge(&verified, &pins);
}

fn with_pins(bytes: &[u8]) -> Vec<u8> {
    let parts = bytes.iter().position(|byte| *byte == 0).map(|nul| (&bytes[..nul], &bytes[nul + 1..]));
    let Some((Ok(manifest), pins)) = parts.map(|(manifest, pins)| (std::str::from_utf8(manifest), pins)) else {
        return bytes.to_vec();
    };
    let pins = String::from_utf8(CHAIN.signed(pins::PAYLOAD_TYPE, pins)).unwrap();
    manifest.replacen(PLACE_OF_PINS, &pins, 1).into_bytes()
}

fn verify_manifest(bytes: &[u8]) -> Option<VerifiedManifest> {
    let Chain { pin, root, head, .. } = &*CHAIN;
    let verify = |chain, name| Manifest::verify(bytes, root, pin, chain, name, "input");
    let any = verify(None, None).ok()?;
    assert_eq!(verify(Some(&head.chain), None).is_ok(), any.manifest.chain == head.chain);
    assert_eq!(verify(None, Some("app")).is_ok(), any.manifest.name == "app");
    assert_eq!(any.manifest.key, CHAIN.node.public().id());
    Some(any)
}

/// At every time of its life the verdict and the refusal say the same.
fn judge(verified: &VerifiedManifest, pins: &VerifiedPins) {
    let manifest = &verified.manifest;
    for now in [manifest.issued, manifest.expires, manifest.snapshot.captured, pins.pins.expires] {
        for head_seq in [0, manifest.head.seq, u64::MAX] {
            let facts = Facts { now, root_expires: pins.pins.expires, head_seq, captured: manifest.snapshot.captured };
            let fresh = freshness::judge(manifest, &pins.pins, &facts);
            let verdict = fresh.verdict(SignedDuration::ZERO);
            assert_eq!(fresh.check("input").is_ok(), verdict.exit_code() == 0, "{}", verdict.word());
            assert!(now < manifest.expires || fresh.is_expired());
        }
    }
}

/// The payload of a manifest without its pins, and theirs behind it, as [`manifest`] takes them.
pub(super) fn taken_apart(payload: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(payload).ok()?;
    let document: Value = serde_json::from_str(text).ok()?;
    let pins = &document["predicate"]["pins"];
    let start = text.find("\"pins\":{")? + "\"pins\":".len();
    let end = start + text[start..].find("]}")? + "]}".len();
    let inner = super::seeds::decoded(pins["payload"].as_str()?)?;
    Some([&text.as_bytes()[..start], PLACE_OF_PINS.as_bytes(), &text.as_bytes()[end..], b"\0", &inner].concat())
}
