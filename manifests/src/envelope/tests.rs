//! The rules of docs/format/envelope.md.

use proptest::prelude::*;

use super::*;
use crate::fixture::{key, stranger};
use crate::keys::SecretKey;

const TYPE: &str = "application/vnd.snapkit.snapshot+json";

/// Keys 1 to 3 are allowed, key 4 is known.
fn signers(threshold: u32) -> Signers {
    let keys: Vec<PublicKey> = (1..=4).map(|seed| key(seed).public()).collect();
    Signers { name: "the role test".into(), allowed: keys[..3].to_vec(), known: keys, threshold }
}

fn signed(keys: &[&SecretKey]) -> Wire {
    let bytes = crate::fixture::sign(TYPE, r#"{"a":1}"#, keys);
    serde_json::from_slice(&bytes).unwrap()
}

fn check(wire: &Wire, threshold: u32) -> Result<Verified, Class> {
    let bytes = serde_json::to_vec(wire).unwrap();
    verify(&bytes, 10_000, &[TYPE], &signers(threshold), "test").map_err(|refusal| refusal.class())
}

#[test]
fn the_verified_bytes_are_the_signed_bytes() {
    let verified = check(&signed(&[&key(1)]), 1).unwrap();
    assert_eq!(verified.payload(), br#"{"a":1}"#);
    assert_eq!(verified.payload_type(), TYPE);
    assert_eq!(verified.digest(), Digest::sha256(br#"{"a":1}"#));
    assert_eq!(verified.signers(), [key(1).public()]);
}

#[test]
fn each_way_to_lack_signatures_has_its_class() {
    assert_eq!(check(&signed(&[]), 1), Err(Class::SigMissing));
    assert_eq!(check(&signed(&[&stranger()]), 1), Err(Class::SigUntrusted));
    assert_eq!(check(&signed(&[&key(4)]), 1), Err(Class::Role));
    assert_eq!(check(&signed(&[&key(1)]), 2), Err(Class::Threshold));
    let mut forged = signed(&[&key(1)]);
    forged.signatures[0].sig = STANDARD.encode([7; 64]);
    assert_eq!(check(&forged, 1), Err(Class::Sig));
    assert_eq!(check(&signed(&[&key(1), &key(2)]), 2).map(|verified| verified.signers().len()), Ok(2));
}

#[test]
fn a_threshold_of_zero_counts_as_one() {
    assert_eq!(check(&signed(&[&stranger()]), 0), Err(Class::SigUntrusted));
}

#[test]
fn copies_of_a_signature_count_once() {
    let mut padded = signed(&[&key(1)]);
    for _ in 0..8 {
        let WireSignature { keyid, sig } = &padded.signatures[0];
        let copy = WireSignature { keyid: keyid.clone(), sig: sig.clone() };
        padded.signatures.push(copy);
    }
    assert_eq!(check(&padded, 2), Err(Class::Threshold));
    assert!(check(&padded, 1).is_ok());
}

#[test]
fn a_key_in_the_allowed_list_twice_counts_once() {
    let mut twice = signers(2);
    twice.allowed = vec![key(1).public(), key(1).public()];
    let bytes = serde_json::to_vec(&signed(&[&key(1)])).unwrap();
    let refusal = verify(&bytes, 10_000, &[TYPE], &twice, "test").unwrap_err();
    assert_eq!(refusal.class(), Class::Threshold);
}

#[test]
fn garbage_beside_a_good_signature_does_no_harm() {
    let mut wire = signed(&[&key(1)]);
    let id = key(2).public().id().to_string();
    for (keyid, sig) in [("", ""), ("nobody", "!!"), (id.as_str(), "AAAA"), (id.as_str(), "not base64")] {
        wire.signatures.insert(0, WireSignature { keyid: keyid.into(), sig: sig.into() });
    }
    assert!(check(&wire, 1).is_ok());
}

#[test]
fn a_signature_under_another_id_is_not_tried() {
    let mut wire = signed(&[&key(1)]);
    wire.signatures[0].keyid = key(2).public().id().to_string();
    assert_eq!(check(&wire, 1), Err(Class::Sig));
    wire.signatures[0].keyid = stranger().public().id().to_string();
    assert_eq!(check(&wire, 1), Err(Class::SigUntrusted));
}

#[test]
fn more_than_thirty_two_signatures_are_refused() {
    let mut wire = signed(&[&key(1)]);
    while wire.signatures.len() < SIGNATURES_CAP {
        wire.signatures.push(WireSignature { keyid: String::new(), sig: String::new() });
    }
    assert!(check(&wire, 1).is_ok());
    wire.signatures.push(WireSignature { keyid: String::new(), sig: String::new() });
    assert_eq!(check(&wire, 1), Err(Class::TooMany));
}

#[test]
fn a_signature_with_the_group_order_added_to_s_is_refused() {
    const ORDER: [u8; 32] = [
        0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 0, 0, 0, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
    ];
    let mut wire = signed(&[&key(1)]);
    let mut signature = STANDARD.decode(&wire.signatures[0].sig).unwrap();
    let mut carry = 0;
    for (byte, add) in signature[32..].iter_mut().zip(ORDER) {
        let sum = u16::from(*byte) + u16::from(add) + carry;
        (*byte, carry) = (sum as u8, sum >> 8);
    }
    assert_eq!(carry, 0);
    wire.signatures[0].sig = STANDARD.encode(signature);
    assert_eq!(check(&wire, 1), Err(Class::Sig));
}

#[test]
fn url_safe_base64_is_read_and_the_name_of_the_document_stays() {
    let mut wire: Wire = serde_json::from_slice(&crate::fixture::sign(TYPE, "\"???>>>\"", &[&key(3)])).unwrap();
    assert!(wire.payload.contains(['+', '/']));
    let digest = check(&wire, 1).unwrap().digest();
    let url_safe = |text: &str| text.replace('+', "-").replace('/', "_");
    wire.payload = url_safe(&wire.payload);
    wire.signatures[0].sig = url_safe(&wire.signatures[0].sig);
    assert_eq!(check(&wire, 1).map(|verified| verified.digest()), Ok(digest));
}

#[test]
fn base64_without_padding_with_spaces_or_with_stray_bits_is_refused() {
    for payload in ["eyJhIjox", "eyJhIjoxfQ", "eyJhIjoxfQ== ", "eyJh IjoxfQ==", "eyJhIjoxfR==", "eyJhIjoxfQ=\n="] {
        let mut wire = signed(&[&key(1)]);
        wire.payload = payload.into();
        let expected = if payload == "eyJhIjox" { Class::Sig } else { Class::Json };
        assert_eq!(check(&wire, 1), Err(expected), "{payload:?}");
    }
}

#[test]
fn another_type_or_a_type_that_is_not_ascii_is_refused() {
    for name in ["application/vnd.snapkit.root+json", "", "application/vnd.snapkit.snapshot+json ", "ü"] {
        let mut wire = signed(&[&key(1)]);
        wire.payload_type = name.into();
        assert_eq!(check(&wire, 1), Err(Class::Type), "{name}");
    }
}

#[test]
fn the_cap_counts_every_byte() {
    let bytes = serde_json::to_vec(&signed(&[&key(1)])).unwrap();
    let class = |cap| verify(&bytes, cap, &[TYPE], &signers(1), "test").map_err(|refusal| refusal.class());
    assert!(class(bytes.len()).is_ok());
    assert_eq!(class(bytes.len() - 1), Err(Class::TooBig));
}

#[test]
fn a_key_named_twice_signs_once() {
    assert_eq!(signed(&[&key(1), &key(1), &key(2)]).signatures.len(), 2);
}

#[test]
fn the_largest_payload_fits_its_envelope_with_every_signature() {
    let keys: Vec<SecretKey> = (0..SIGNATURES_CAP as u8).map(key).collect();
    let signers: Vec<&dyn Signer> = keys.iter().map(|key| key as &dyn Signer).collect();
    for cap in [crate::document::root::ROOT_CAP, crate::document::record::RECORD_CAP] {
        let bytes = sign(TYPE, &vec![0; payload_cap(cap)], &signers).unwrap();
        assert!(bytes.len() <= cap && bytes.len() > cap - 8 * 1024);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_payload_and_type_come_back_as_they_were_signed(payload: Vec<u8>, name in "[!-~]{0,60}") {
        let bytes = sign(&name, &payload, &[&key(1)]).unwrap();
        let verified = verify(&bytes, bytes.len(), &[&name], &signers(1), "test").unwrap();
        prop_assert_eq!(verified.payload(), &payload[..]);
        prop_assert_eq!(verified.payload_type(), name);
    }

    #[test]
    fn any_changed_bit_in_payload_type_or_signature_is_refused(
        payload in prop::collection::vec(any::<u8>(), 1..200),
        place: prop::sample::Index,
        bit in 0_u8..8,
    ) {
        let wire: Wire = serde_json::from_slice(&sign(TYPE, &payload, &[&key(1)]).unwrap()).unwrap();
        let mut signature = STANDARD.decode(&wire.signatures[0].sig).unwrap();
        let mut changed = payload.clone();
        let at = place.index(payload.len() + signature.len());
        match at.checked_sub(payload.len()) {
            None => changed[at] ^= 1 << bit,
            Some(at) => signature[at] ^= 1 << bit,
        }
        let forged = Wire {
            payload: STANDARD.encode(changed),
            payload_type: wire.payload_type,
            signatures: vec![WireSignature { sig: STANDARD.encode(signature), ..wire.signatures.into_iter().next().unwrap() }],
        };
        prop_assert_eq!(check(&forged, 1), Err(Class::Sig));
    }

    #[test]
    fn any_bytes_are_refused_without_a_panic(bytes: Vec<u8>) {
        prop_assert!(verify(&bytes, 10_000, &[TYPE], &signers(1), "test").is_err());
    }
}
