//! The envelope: payload bytes, their type, and signatures; and the only function that verifies.
//!
//! The bytes that were verified are the bytes that are parsed: [`verify`] decodes once and returns them
//! inside [`Verified`], which is the only thing the documents of this crate can be read from. Ids find
//! a key; key bytes decide. Documented in `docs/format/envelope.md`. Layer: pure.
//! Source: DSSE, protocol and envelope version 1.0.0.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::json::Tree;
use crate::keys::{KeyId, PublicKey, Signer, excerpt};
use crate::pae::pae;
use crate::refusal::{Class, Refusal};

/// The most signatures an envelope may carry.
pub const SIGNATURES_CAP: usize = 32;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    payload: String,
    #[serde(rename = "payloadType")]
    payload_type: String,
    signatures: Vec<WireSignature>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WireSignature {
    keyid: String,
    sig: String,
}

/// Who may sign a document: all known keys, those allowed here, and how many of them it takes.
#[derive(Debug, Clone)]
pub struct Signers {
    /// What the allowed keys are, for messages: `the role root`.
    pub name: String,
    /// Every key the trusted root lists, so that a wrong role is told from a stranger.
    pub known: Vec<PublicKey>,
    /// The keys whose signatures count.
    pub allowed: Vec<PublicKey>,
    /// How many distinct allowed keys must have signed; zero counts as one.
    pub threshold: u32,
}

/// Payload bytes together with what was verified about them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    payload_type: String,
    payload: Vec<u8>,
    digest: Digest,
    signers: Vec<PublicKey>,
}

impl Verified {
    /// The payload type, which the signatures cover.
    pub fn payload_type(&self) -> &str {
        &self.payload_type
    }

    /// The exact bytes that were verified.
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// SHA-256 of the payload: the name of the document.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The distinct allowed keys with a good signature; empty for a document trusted by its digest.
    pub fn signers(&self) -> &[PublicKey] {
        &self.signers
    }
}

/// A decoded envelope in which nothing is verified yet; only this module looks inside.
pub(crate) struct Envelope {
    payload_type: String,
    payload: Vec<u8>,
    signatures: Vec<WireSignature>,
}

impl Envelope {
    /// Decodes an envelope of at most `cap` bytes.
    pub(crate) fn decode(bytes: &[u8], cap: usize, object: &str) -> Result<Envelope, Refusal> {
        Envelope::of(Tree::read(bytes, cap, object)?.into_typed(object)?, object)
    }

    fn of(wire: Wire, object: &str) -> Result<Envelope, Refusal> {
        let found = wire.signatures.len();
        if found > SIGNATURES_CAP {
            let expected = format!("at most {SIGNATURES_CAP} signatures");
            return Err(Refusal::new(Class::TooMany, object, expected, found));
        }
        if !wire.payload_type.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Refusal::new(Class::Type, object, "an ASCII payload type", excerpt(&wire.payload_type)));
        }
        let payload = decode_base64(&wire.payload)
            .ok_or_else(|| Refusal::new(Class::Json, object, "a payload in padded base64", "other text"))?;
        Ok(Envelope { payload_type: wire.payload_type, payload, signatures: wire.signatures })
    }

    /// The claimed type. It chooses who must have signed, and the signatures then cover it.
    pub(crate) fn payload_type(&self) -> &str {
        &self.payload_type
    }

    /// Checks the signatures: the one place where trust begins.
    pub(crate) fn verify(self, signers: &Signers, object: &str) -> Result<Verified, Refusal> {
        let refuse = |class, expected: &str, found: String| Refusal::new(class, object, expected, found);
        if self.signatures.is_empty() {
            return Err(refuse(Class::SigMissing, "a signature", "none".into()));
        }
        let message = pae(&self.payload_type, &self.payload);
        let mut good: Vec<PublicKey> = Vec::new();
        let mut wrong_role: Option<KeyId> = None;
        let mut bad: Option<KeyId> = None;
        for signature in &self.signatures {
            let named = |key: &&PublicKey| key.id().to_string() == signature.keyid;
            let allowed = signers.allowed.iter().find(named);
            let Some(key) = allowed.or_else(|| signers.known.iter().find(named)) else {
                continue;
            };
            let fits = decode_base64(&signature.sig)
                .and_then(|bytes| <[u8; 64]>::try_from(bytes).ok())
                .is_some_and(|bytes| key.verifies(&message, &bytes));
            if !fits {
                bad = Some(key.id());
            } else if allowed.is_none() {
                wrong_role = Some(key.id());
            } else if !good.contains(key) {
                // Key bytes are counted, so neither a copy nor a second id adds to the threshold.
                good.push(*key);
            }
        }
        let needed = signers.threshold.max(1) as usize;
        if good.len() >= needed {
            let digest = Digest::sha256(&self.payload);
            return Ok(Verified { payload_type: self.payload_type, payload: self.payload, digest, signers: good });
        }
        let name = &signers.name;
        Err(match (good.is_empty(), wrong_role, bad) {
            (false, _, _) => refuse(
                Class::Threshold,
                &format!("good signatures by {needed} distinct keys of {name}"),
                format!("{}", good.len()),
            ),
            (true, Some(key), _) => refuse(
                Class::Role,
                &format!("a signature by a key of {name}"),
                format!("one by key {key}, which is not in it"),
            ),
            (true, None, Some(key)) => refuse(
                Class::Sig,
                &format!("a good signature by a key of {name}"),
                format!("one by key {key} that does not fit the signed bytes"),
            ),
            (true, None, None) => refuse(
                Class::SigUntrusted,
                &format!("a signature by a key of {name}"),
                format!("only unknown keys, such as {}", excerpt(&self.signatures[0].keyid)),
            ),
        })
    }

    /// Those of `keys` that signed it, for showing what is still missing; it decides nothing.
    pub(crate) fn signed_by(&self, keys: &[PublicKey]) -> Vec<PublicKey> {
        let message = pae(&self.payload_type, &self.payload);
        let signed = |key: &&PublicKey| {
            let mut own = self.signatures.iter().filter(|signature| signature.keyid == key.id().to_string());
            own.any(|signature| {
                let bytes = decode_base64(&signature.sig).and_then(|bytes| <[u8; 64]>::try_from(bytes).ok());
                bytes.is_some_and(|bytes| key.verifies(&message, &bytes))
            })
        };
        keys.iter().filter(signed).copied().collect()
    }

    /// The payload as it is. Only for a document that nobody has to have signed yet.
    pub(crate) fn unsigned_payload(&self) -> &[u8] {
        &self.payload
    }

    /// Accepts the payload because its digest is the one known from elsewhere.
    pub(crate) fn pinned(&self, pin: &Digest) -> Result<Verified, Digest> {
        let digest = Digest::sha256(&self.payload);
        if digest != *pin {
            return Err(digest);
        }
        let Envelope { payload_type, payload, .. } = self;
        Ok(Verified { payload_type: payload_type.clone(), payload: payload.clone(), digest, signers: Vec::new() })
    }
}

/// An envelope that stands as an object inside of another document. Nothing in it is verified.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Nested(Wire);

impl Nested {
    /// Takes the envelope in `bytes`, at most `cap` bytes long, as a part of another document.
    ///
    /// # Errors
    /// [`Class::TooBig`] and [`Class::Json`] for what is no envelope.
    pub fn read(bytes: &[u8], cap: usize, object: &str) -> Result<Nested, Refusal> {
        Tree::read(bytes, cap, object)?.into_typed(object).map(Nested)
    }

    /// The envelope as a document of its own.
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(&self.0).expect("strings always encode")
    }

    /// The payload bytes and their type, of which nothing is verified: to show a draft, or to sign it.
    ///
    /// # Errors
    /// What [`verify`] refuses before it looks at signatures.
    pub fn unverified(&self, object: &str) -> Result<(String, Vec<u8>), Refusal> {
        let Envelope { payload_type, payload, .. } = Envelope::of(self.0.clone(), object)?;
        Ok((payload_type, payload))
    }

    /// Adds the signatures of these keys; one that a key has here already is made again.
    ///
    /// # Errors
    /// What a signer says, or [`Class::TooMany`] for more signatures than a reader accepts.
    pub fn sign(&mut self, signers: &[&dyn Signer], object: &str) -> Result<(), Refusal> {
        let (payload_type, payload) = self.unverified(object)?;
        let signed: Wire =
            Tree::read(&sign(&payload_type, &payload, signers)?, usize::MAX, object)?.into_typed(object)?;
        let ours = |theirs: &WireSignature| signed.signatures.iter().any(|own| own.keyid == theirs.keyid);
        self.0.signatures.retain(|theirs| !ours(theirs));
        self.0.signatures.extend(signed.signatures);
        if self.0.signatures.len() > SIGNATURES_CAP {
            let expected = format!("at most {SIGNATURES_CAP} signatures");
            return Err(Refusal::new(Class::TooMany, object, expected, self.0.signatures.len()));
        }
        Ok(())
    }
}

/// Verifies the envelope in `bytes`, which may be at most `cap` bytes long and of one of these `types`.
///
/// Garbage beside enough good signatures does no harm. `object` names the document in refusals.
///
/// # Errors
/// [`Class::TooBig`], [`Class::Json`], [`Class::TooMany`] or [`Class::Type`] for what is no such envelope;
/// [`Class::SigMissing`] without any signature, [`Class::SigUntrusted`] with none by a known key,
/// [`Class::Role`] with a good one by a known key that is not allowed, [`Class::Sig`] with a bad one by a
/// known key, and [`Class::Threshold`] with good ones by too few distinct keys.
pub fn verify(bytes: &[u8], cap: usize, types: &[&str], signers: &Signers, object: &str) -> Result<Verified, Refusal> {
    let envelope = Envelope::decode(bytes, cap, object)?;
    if !types.contains(&envelope.payload_type()) {
        return Err(Refusal::new(Class::Type, object, types.join(" or "), excerpt(envelope.payload_type())));
    }
    envelope.verify(signers, object)
}

/// Payload type and payload of an envelope in which nothing is verified: only to learn what to fetch for verifying it.
pub(crate) fn unverified(bytes: &[u8], cap: usize, object: &str) -> Result<(String, Vec<u8>), Refusal> {
    let Envelope { payload_type, payload, .. } = Envelope::decode(bytes, cap, object)?;
    Ok((payload_type, payload))
}

/// Signs `payload` as a document of `payload_type` and returns the envelope's bytes.
///
/// Each key signs once, however often it is named.
///
/// # Errors
/// What a signer says, or [`Class::TooMany`] for more signers than a reader accepts.
pub fn sign(payload_type: &str, payload: &[u8], signers: &[&dyn Signer]) -> Result<Vec<u8>, Refusal> {
    let message = pae(payload_type, payload);
    let mut signatures: Vec<WireSignature> = Vec::new();
    for signer in signers {
        let keyid = signer.public().id().to_string();
        if signatures.iter().all(|signature| signature.keyid != keyid) {
            signatures.push(WireSignature { keyid, sig: STANDARD.encode(signer.sign(&message)?) });
        }
    }
    if signatures.len() > SIGNATURES_CAP {
        let expected = format!("at most {SIGNATURES_CAP} signers");
        return Err(Refusal::new(Class::TooMany, payload_type, expected, signatures.len()));
    }
    let wire = Wire { payload: STANDARD.encode(payload), payload_type: payload_type.to_owned(), signatures };
    Ok(serde_json::to_vec(&wire).expect("strings always encode"))
}

/// The bytes that a signature in this envelope is over, for somebody who is about to add one.
///
/// # Errors
/// What is no such envelope.
pub fn message_of(bytes: &[u8], cap: usize, object: &str) -> Result<Vec<u8>, Refusal> {
    let (payload_type, payload) = unverified(bytes, cap, object)?;
    Ok(pae(&payload_type, &payload))
}

/// Adds signatures to an envelope of at most `cap` bytes, over the bytes that are in it; those that are there stay,
/// except earlier ones by the same keys.
///
/// # Errors
/// What is no such envelope; what a signer says; [`Class::TooMany`] for more signatures than a reader accepts.
pub fn cosign(bytes: &[u8], cap: usize, signers: &[&dyn Signer], object: &str) -> Result<Vec<u8>, Refusal> {
    let Envelope { payload_type, payload, mut signatures } = Envelope::decode(bytes, cap, object)?;
    let message = pae(&payload_type, &payload);
    for signer in signers {
        let keyid = signer.public().id().to_string();
        let sig = STANDARD.encode(signer.sign(&message)?);
        signatures.retain(|signature| signature.keyid != keyid);
        signatures.push(WireSignature { keyid, sig });
    }
    if signatures.len() > SIGNATURES_CAP {
        let expected = format!("at most {SIGNATURES_CAP} signatures");
        return Err(Refusal::new(Class::TooMany, object, expected, signatures.len()));
    }
    let wire = Wire { payload: STANDARD.encode(&payload), payload_type, signatures };
    Ok(serde_json::to_vec(&wire).expect("strings always encode"))
}

/// The largest payload whose envelope stays within `cap` bytes, however many may sign it.
///
/// Base64 takes four bytes for three; 32 signatures and the rest take less than 8 KiB.
pub(crate) const fn payload_cap(cap: usize) -> usize {
    (cap - 8 * 1024) / 4 * 3
}

/// Padded base64 in the standard or the URL-safe alphabet, as DSSE asks of readers.
fn decode_base64(text: &str) -> Option<Vec<u8>> {
    if !text.contains(['-', '_']) {
        return STANDARD.decode(text).ok();
    }
    STANDARD.decode(text.replace('-', "+").replace('_', "/")).ok()
}

#[cfg(test)]
mod tests;
