//! Secret keys: 32 seed bytes that are wiped when dropped and never printed.
//!
//! Documented in `docs/format/keys.md`. Layer: pure; the caller reads the file and checks its mode.

use std::fmt;

use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{DecodePrivateKey, EncodePrivateKey, KeypairBytes};
use ed25519_dalek::{Signer as _, SigningKey};
use ssh_key::private::{Ed25519Keypair, Ed25519PrivateKey, KeypairData};
use zeroize::Zeroizing;

use super::{KEY_FILE_CAP, PublicKey, Signer, one_line};
use crate::refusal::{Class, Refusal};

/// An Ed25519 secret key.
pub struct SecretKey(SigningKey);

impl SecretKey {
    /// Makes the key of 32 seed bytes, which must come from a secure random source.
    pub fn from_seed(seed: &[u8; 32]) -> SecretKey {
        SecretKey(SigningKey::from_bytes(seed))
    }

    /// Reads a secret key file: PKCS#8 PEM or OpenSSH, told apart by the PEM label.
    ///
    /// # Errors
    /// [`Class::KeyFile`] with a hint for everything that is not an unencrypted Ed25519 key.
    pub fn parse(text: &str) -> Result<SecretKey, Refusal> {
        if text.len() > KEY_FILE_CAP {
            return Err(Refusal::new(Class::TooBig, "secret key", format!("at most {KEY_FILE_CAP} bytes"), "more"));
        }
        if text.contains("BEGIN OPENSSH PRIVATE KEY") {
            SecretKey::from_openssh(text)
        } else {
            SecretKey::from_pem(text)
        }
    }

    /// Reads PKCS#8 PEM, as `openssl genpkey -algorithm ED25519` writes it.
    ///
    /// # Errors
    /// [`Class::KeyFile`] with a hint.
    pub fn from_pem(text: &str) -> Result<SecretKey, Refusal> {
        let pair = KeypairBytes::from_pkcs8_pem(text.trim()).map_err(|_| refuse(text))?;
        let key = SecretKey::from_seed(&pair.secret_key);
        match pair.public_key {
            Some(public) if public.to_bytes() != *key.public().as_bytes() => Err(refuse_pair()),
            _ => Ok(key),
        }
    }

    /// Reads an unencrypted OpenSSH private key.
    ///
    /// # Errors
    /// [`Class::KeyFile`] with a hint, or [`Class::Alg`] for another kind of key.
    pub fn from_openssh(text: &str) -> Result<SecretKey, Refusal> {
        let key = ssh_key::PrivateKey::from_openssh(text.trim()).map_err(|_| refuse(text))?;
        if key.is_encrypted() {
            let found = "a key encrypted with a passphrase";
            return Err(Refusal::new(Class::KeyFile, "secret key", "an unencrypted key", found)
                .with_hint("decrypt a copy of it with `ssh-keygen -p -N '' -f COPY`"));
        }
        let KeypairData::Ed25519(pair) = key.key_data() else {
            return Err(Refusal::new(Class::Alg, "secret key", "ssh-ed25519", key.algorithm()));
        };
        let key = SecretKey::from_seed(pair.private.as_ref());
        if pair.public.0 != *key.public().as_bytes() {
            return Err(refuse_pair());
        }
        Ok(key)
    }

    /// PKCS#8 PEM, byte for byte what `openssl pkey` writes.
    pub fn to_pem(&self) -> Zeroizing<String> {
        let pair = KeypairBytes { secret_key: self.0.to_bytes(), public_key: None };
        pair.to_pkcs8_pem(LineEnding::LF).expect("32 bytes always encode")
    }

    /// An unencrypted OpenSSH private key.
    pub fn to_openssh(&self, comment: &str) -> Zeroizing<String> {
        let pair = Ed25519Keypair {
            public: ssh_key::public::Ed25519PublicKey(*self.public().as_bytes()),
            private: Ed25519PrivateKey::from_bytes(self.0.as_bytes()),
        };
        ssh_key::PrivateKey::new(KeypairData::Ed25519(pair), one_line(comment))
            .and_then(|key| key.to_openssh(LineEnding::LF))
            .expect("32 bytes and a comment always encode")
    }
}

impl Signer for SecretKey {
    fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key())
    }

    fn sign(&self, message: &[u8]) -> Result<[u8; 64], Refusal> {
        Ok(self.0.sign(message).to_bytes())
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "SecretKey(of {})", self.public().id())
    }
}

fn refuse(text: &str) -> Refusal {
    let expected = "an unencrypted ed25519 key as PKCS#8 PEM or OpenSSH private key";
    let refusal = Refusal::new(Class::KeyFile, "secret key", expected, describe(text));
    if text.contains("BEGIN ENCRYPTED PRIVATE KEY") {
        return refusal.with_hint("decrypt a copy of it with `openssl pkey -in KEY -out COPY`");
    }
    refusal
}

fn refuse_pair() -> Refusal {
    Refusal::new(Class::KeyFile, "secret key", "the public key of its seed", "another public key in the same file")
}

/// What a key file that could not be read seems to be, without a byte of its content.
pub(super) fn describe(text: &str) -> &'static str {
    const FORMS: &[(&str, &str)] = &[
        ("BEGIN ENCRYPTED PRIVATE KEY", "an encrypted PKCS#8 key"),
        ("BEGIN RSA PRIVATE KEY", "an RSA key"),
        ("BEGIN EC PRIVATE KEY", "an EC key"),
        ("BEGIN DSA PRIVATE KEY", "a DSA key"),
        ("BEGIN OPENSSH PRIVATE KEY", "a damaged OpenSSH key or one of another algorithm"),
        ("BEGIN PRIVATE KEY", "a damaged PKCS#8 key or one of another algorithm"),
        ("BEGIN PUBLIC KEY", "a public key that is damaged, of another algorithm, or in the place of a secret one"),
        ("BEGIN CERTIFICATE", "a certificate"),
        ("ssh-ed25519 ", "an OpenSSH public key that is damaged or in the place of another form"),
        ("ssh-rsa ", "an OpenSSH public RSA key"),
        ("ecdsa-sha2-", "an OpenSSH public ECDSA key"),
    ];
    FORMS.iter().find(|(mark, _)| text.contains(mark)).map_or("no key in a known form", |(_, form)| form)
}
