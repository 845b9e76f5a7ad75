//! Keys: Ed25519 and nothing else, with the ids and file forms that other tools know.
//!
//! A [`PublicKey`] that exists is canonical and not weak: with a weak key everybody can sign, and most
//! outside verifiers would agree. Ids and fingerprints are for people and for finding a key; every
//! decision compares key bytes. Documented in `docs/format/keys.md`. Layer: pure; it opens no file.

mod secret;

use std::fmt;

use base64::Engine as _;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{DecodePublicKey, EncodePublicKey, PublicKeyBytes};
use ed25519_dalek::{Signature, VerifyingKey};

use crate::digest::{Digest, from_hex, to_hex};
use crate::refusal::{Class, Refusal};

pub use secret::SecretKey;

/// The largest key file that is read, in bytes.
pub const KEY_FILE_CAP: usize = 16 * 1024;

/// The TUF key id: SHA-256 of the key's canonical JSON form.
pub type KeyId = Digest;

/// Something that signs: a key in memory, or an agent, token or service that holds one.
pub trait Signer {
    /// The key that verifies what this signs.
    fn public(&self) -> PublicKey;

    /// Signs exactly these bytes with plain Ed25519.
    ///
    /// # Errors
    /// Whatever the holder of the key says; a [`SecretKey`] never fails.
    fn sign(&self, message: &[u8]) -> Result<[u8; 64], Refusal>;
}

/// An Ed25519 public key that is canonical and not weak.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PublicKey(VerifyingKey);

impl PublicKey {
    /// Takes the 32 bytes of RFC 8032.
    ///
    /// # Errors
    /// [`Class::WeakKey`] for bytes that are no point, another encoding of one, or a point of small order.
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<PublicKey, Refusal> {
        let refuse = |found: &str| Refusal::new(Class::WeakKey, object(bytes), "a sound ed25519 key", found);
        if !is_canonical(bytes) {
            return Err(refuse("another encoding of a point"));
        }
        let key = VerifyingKey::from_bytes(bytes).map_err(|_| refuse("bytes that are no point of the curve"))?;
        if key.is_weak() {
            return Err(refuse("a point of small order, with which everybody can sign"));
        }
        Ok(PublicKey(key))
    }

    /// Takes 64 lowercase hex digits.
    ///
    /// # Errors
    /// [`Class::Json`] for other text, else as [`PublicKey::from_bytes`].
    pub fn from_hex(text: &str) -> Result<PublicKey, Refusal> {
        let bytes = from_hex(text)
            .ok_or_else(|| Refusal::new(Class::Json, "public key", "64 lowercase hex digits", excerpt(text)))?;
        PublicKey::from_bytes(&bytes)
    }

    /// Reads a public key file: SPKI PEM or one OpenSSH line, told apart by their first bytes.
    ///
    /// # Errors
    /// [`Class::KeyFile`], [`Class::Alg`] or [`Class::WeakKey`].
    pub fn parse(text: &str) -> Result<PublicKey, Refusal> {
        if text.len() > KEY_FILE_CAP {
            return Err(Refusal::new(Class::TooBig, "public key", format!("at most {KEY_FILE_CAP} bytes"), "more"));
        }
        if text.trim_start().starts_with("-----BEGIN") {
            PublicKey::from_pem(text)
        } else {
            PublicKey::from_openssh(text)
        }
    }

    /// Reads SPKI PEM, as `openssl pkey -pubout` writes it.
    ///
    /// # Errors
    /// [`Class::KeyFile`] or [`Class::WeakKey`].
    pub fn from_pem(text: &str) -> Result<PublicKey, Refusal> {
        let bytes = PublicKeyBytes::from_public_key_pem(text.trim()).map_err(|_| {
            let refusal =
                Refusal::new(Class::KeyFile, "public key", "an ed25519 key as SPKI PEM", secret::describe(text));
            refusal.with_hint("write it with `openssl pkey -in KEY -pubout`")
        })?;
        PublicKey::from_bytes(&bytes.to_bytes())
    }

    /// Reads an OpenSSH line: `ssh-ed25519 BASE64 COMMENT`.
    ///
    /// # Errors
    /// [`Class::KeyFile`], [`Class::Alg`] or [`Class::WeakKey`].
    pub fn from_openssh(text: &str) -> Result<PublicKey, Refusal> {
        let key = ssh_key::PublicKey::from_openssh(text.trim()).map_err(|_| {
            let expected = "`ssh-ed25519 BASE64 COMMENT` or SPKI PEM";
            Refusal::new(Class::KeyFile, "public key", expected, secret::describe(text))
        })?;
        match key.key_data().ed25519() {
            Some(key) => PublicKey::from_bytes(&key.0),
            None => Err(Refusal::new(Class::Alg, "public key", "ssh-ed25519", key.algorithm())),
        }
    }

    /// The 32 bytes of RFC 8032.
    pub fn as_bytes(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }

    /// The 32 bytes as 64 lowercase hex digits.
    pub fn to_hex(&self) -> String {
        to_hex(self.as_bytes())
    }

    /// The TUF key id.
    pub fn id(&self) -> KeyId {
        let public = self.to_hex();
        let json = format!(r#"{{"keytype":"ed25519","keyval":{{"public":"{public}"}},"scheme":"ed25519"}}"#);
        Digest::sha256(json.as_bytes())
    }

    /// SPKI PEM, byte for byte what `openssl pkey -pubout` writes.
    pub fn to_pem(&self) -> String {
        PublicKeyBytes(*self.as_bytes()).to_public_key_pem(LineEnding::LF).expect("32 bytes always encode")
    }

    /// One OpenSSH line without an end of line.
    pub fn to_openssh(&self, comment: &str) -> String {
        self.to_ssh(comment).to_openssh().expect("32 bytes and a comment always encode")
    }

    /// SHA-256 of the SPKI DER form: `openssl pkey -pubin -outform DER | sha256sum`.
    pub fn spki_sha256(&self) -> Digest {
        let der = PublicKeyBytes(*self.as_bytes()).to_public_key_der().expect("32 bytes always encode");
        Digest::sha256(der.as_bytes())
    }

    /// The OpenSSH fingerprint, `SHA256:` and unpadded base64, as `ssh-keygen -l` prints it.
    pub fn openssh_fingerprint(&self) -> String {
        self.to_ssh("").fingerprint(ssh_key::HashAlg::Sha256).to_string()
    }

    /// Whether `signature` over `message` is by this key; malleable forms are not.
    pub fn verifies(&self, message: &[u8], signature: &[u8; 64]) -> bool {
        self.0.verify_strict(message, &Signature::from_bytes(signature)).is_ok()
    }

    fn to_ssh(self, comment: &str) -> ssh_key::PublicKey {
        let key = ssh_key::public::Ed25519PublicKey(*self.as_bytes());
        ssh_key::PublicKey::new(key.into(), one_line(comment))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "PublicKey({})", self.to_hex())
    }
}

/// The signature in what an external signer printed: its 64 bytes, or these in base64 with or without padding, in
/// either alphabet, with white space around.
///
/// Nothing is believed about it: whoever asked checks that it verifies.
pub fn signature_in(printed: &[u8]) -> Option<[u8; 64]> {
    if let Ok(raw) = printed.try_into() {
        return Some(raw);
    }
    let lenient = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let engine = GeneralPurpose::new(&base64::alphabet::STANDARD, lenient);
    let text = std::str::from_utf8(printed.trim_ascii()).ok()?;
    engine.decode(text.replace('-', "+").replace('_', "/")).ok()?.try_into().ok()
}

/// Refuses a secret key file that others may read; `mode` is what `stat` says.
///
/// # Errors
/// [`Class::KeyFile`] if group or others have any permission.
pub fn check_mode(mode: u32) -> Result<(), Refusal> {
    if mode & 0o077 == 0 {
        return Ok(());
    }
    let found = format!("mode {:04o}", mode & 0o7777);
    Err(Refusal::new(Class::KeyFile, "secret key file", "a mode that lets only its owner read it", found)
        .with_hint("run `chmod 600` on it; if others could read it, make another key"))
}

/// Whether the y coordinate is below the prime 2^255 - 19, so that no other bytes mean the same point.
///
/// The one other double encoding, x = 0 with the sign bit set, exists for points of small order alone.
fn is_canonical(bytes: &[u8; 32]) -> bool {
    bytes[31] & 0x7f != 0x7f || bytes[1..31].iter().any(|byte| *byte != 0xff) || bytes[0] < 0xed
}

fn object(bytes: &[u8; 32]) -> String {
    format!("public key {}", to_hex(bytes))
}

/// A comment cannot break out of its line.
fn one_line(comment: &str) -> String {
    comment.chars().filter(|character| !character.is_control()).collect()
}

/// The beginning of a text, fit for a message.
pub(crate) fn excerpt(text: &str) -> String {
    format!("`{}`", text.chars().take(80).flat_map(char::escape_debug).collect::<String>())
}

#[cfg(test)]
mod tests;
