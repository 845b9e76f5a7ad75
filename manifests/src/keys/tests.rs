//! The rules of docs/format/keys.md. What OpenSSL and OpenSSH say is in `tests/outside_tools.rs`.

use super::*;
use crate::fixture::key;

fn class<T>(result: Result<T, Refusal>) -> Option<Class> {
    result.err().map(|refusal| refusal.class())
}

#[test]
fn the_key_id_is_the_one_of_tuf() {
    // RFC 8032, section 7.1, test 1; the id by `printf '{"keytype":…}' | sha256sum`.
    let public = PublicKey::from_hex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a").unwrap();
    assert_eq!(public.id().to_string(), "74c181c7ad8a0855d4b55e44d2ba87aabdddb196832571f15f92fece332e4916");
    assert_eq!(public.spki_sha256().to_string(), "06e3fd8fda29bb60ab59557de61edb0aecdb231134be30e75b455f8e1b792fa9");
    assert_eq!(public.openssh_fingerprint(), "SHA256:bbXpuKG6zhzdmnxq256TlqzFBzRl2f6OOg722cYNbU8");
}

#[test]
fn weak_keys_and_other_encodings_are_refused() {
    let mut order_2 = [0xff; 32];
    (order_2[0], order_2[31]) = (0xec, 0x7f);
    let mut identity = [0; 32];
    identity[0] = 1;
    let mut signed_identity = identity;
    signed_identity[31] = 0x80;
    let mut identity_above_the_prime = order_2;
    identity_above_the_prime[0] = 0xee;
    let order_4 = [0; 32];
    let order_8: [u8; 32] = from_hex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a").unwrap();
    // y = 2^255 - 1 is y = 18, a point of large order in an encoding that no reader need accept.
    let no_canonical_form = [0xff; 32];
    let no_point = {
        let mut bytes = [0; 32];
        bytes[0] = 2;
        bytes
    };
    for bytes in
        [identity, signed_identity, identity_above_the_prime, order_2, order_4, order_8, no_canonical_form, no_point]
    {
        assert_eq!(class(PublicKey::from_bytes(&bytes)), Some(Class::WeakKey), "{}", to_hex(&bytes));
        let mut spki = PublicKeyBytes(bytes).to_public_key_pem(LineEnding::LF).unwrap();
        assert_eq!(class(PublicKey::parse(&spki)), Some(Class::WeakKey));
        spki.truncate(60);
        assert_eq!(class(PublicKey::parse(&spki)), Some(Class::KeyFile));
    }
}

#[test]
fn every_file_form_reads_back() {
    let secret = key(5);
    let public = secret.public();
    for text in [secret.to_pem(), secret.to_openssh("node-a of anna"), secret.to_openssh("")] {
        assert_eq!(SecretKey::parse(&text).unwrap().public(), public);
        let with_crlf = text.replace('\n', "\r\n");
        assert_eq!(SecretKey::parse(&with_crlf).unwrap().public(), public);
    }
    for text in [public.to_pem(), public.to_openssh("node-a of anna"), public.to_openssh("")] {
        assert_eq!(PublicKey::parse(&text).unwrap(), public);
    }
}

#[test]
fn a_comment_cannot_add_a_line() {
    assert_eq!(key(5).public().to_openssh("a\nssh-ed25519 b").lines().count(), 1);
}

#[test]
fn a_damaged_or_foreign_key_file_is_refused_with_a_hint() {
    let pem = key(5).to_pem();
    let openssh = key(5).to_openssh("");
    let public = key(5).public().to_pem();
    for text in ["", "x", &pem[1..], &pem[..60], &openssh[..120], &public, "-----BEGIN RSA PRIVATE KEY-----\n"] {
        let refusal = SecretKey::parse(text).unwrap_err();
        assert_eq!(refusal.class(), Class::KeyFile, "{text}");
        assert!(!refusal.hint().is_empty());
        assert_eq!(class(PublicKey::parse(&text.replace("PUBLIC", "SECRET"))), Some(Class::KeyFile), "{text}");
    }
    assert_eq!(class(SecretKey::parse(&"x".repeat(KEY_FILE_CAP + 1))), Some(Class::TooBig));
}

#[test]
fn a_secret_key_never_shows_in_debug_output_or_refusals() {
    let secret = key(5);
    let shown = format!("{secret:?}");
    assert_eq!(shown, format!("SecretKey(of {})", secret.public().id()));
    let pem = secret.to_pem().replace("PRIVATE KEY", "PRIVATE KEYS");
    let body = pem.lines().nth(1).unwrap().to_owned();
    assert!(!SecretKey::parse(&pem).unwrap_err().to_string().contains(&body));
}

#[test]
fn a_key_file_that_others_may_read_is_refused() {
    for mode in [0o600, 0o400, 0o100_600, 0o700] {
        assert_eq!(check_mode(mode), Ok(()), "{mode:o}");
    }
    for mode in [0o640, 0o604, 0o660, 0o100_644, 0o610, 0o601] {
        assert_eq!(class(check_mode(mode)), Some(Class::KeyFile), "{mode:o}");
    }
}

#[test]
fn a_signature_is_found_raw_and_in_base64() {
    use base64::Engine as _;
    use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE};

    let signature: [u8; 64] = std::array::from_fn(|at| 255 - at as u8);
    assert_eq!(signature_in(&signature), Some(signature));
    for text in [STANDARD.encode(signature), STANDARD_NO_PAD.encode(signature), URL_SAFE.encode(signature)] {
        assert_eq!(signature_in(text.as_bytes()), Some(signature), "{text}");
        assert_eq!(signature_in(format!(" {text}\r\n").as_bytes()), Some(signature), "{text}");
    }
    for no in [&b""[..], b"\n", &signature[1..], &[0; 65], b"AAAA", &[0xff; 88]] {
        assert_eq!(signature_in(no), None, "{no:?}");
    }
}
