//! The manifest: what was fresh when it was issued, until when that counts, and the pins of what may run.
//!
//! An in-toto statement about the newest complete snapshot, signed by the role `manifest`; with the digest of the first
//! root it is all that a new machine needs. Whether it still holds is judged by [`crate::freshness`]. Documented in
//! `docs/format/manifest.md`. Layer: pure.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::pins::{Pins, TEXT_CAP, VerifiedPins, is_text, sorted_names};
use super::record::{Body, Record};
use super::root::Root;
use super::statement::Statement;
use super::{check_critical, is_name, time};
use crate::digest::Digest;
use crate::envelope::{self, Nested, Verified};
use crate::keys::{KeyId, excerpt};
use crate::refusal::{Class, Refusal};

pub use super::statement::PAYLOAD_TYPE;

/// The type of the predicate, with its version.
pub const PREDICATE_TYPE: &str = "urn:snapkit:manifest:0-draft";
/// The largest manifest with its signatures, in bytes.
pub const MANIFEST_CAP: usize = 1024 * 1024;
/// The most stores that are named.
pub const STORES_CAP: usize = 16;

/// What a manifest says: the predicate of the statement.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Its name, and that of its pins.
    pub name: String,
    /// The digest of the genesis payload.
    pub chain: Digest,
    /// SHA-256 of the payload of `root/1.json`.
    pub root: Digest,
    /// 1, 2, 3, …
    pub version: u64,
    /// When it was made.
    #[serde(with = "time")]
    pub issued: Timestamp,
    /// From when on it is refused.
    #[serde(with = "time")]
    pub expires: Timestamp,
    /// Where the chain is; the first is tried first.
    pub stores: Vec<String>,
    /// The newest record when it was issued.
    pub head: RecordPlace,
    /// The newest complete snapshot then.
    pub snapshot: SnapshotName,
    /// What was let pass, by ascending `what`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub accepted: Vec<Accepted>,
    /// The envelope of the pins.
    pub pins: Nested,
    /// The id of a key that signed.
    pub key: KeyId,
    /// Features a reader must know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub critical: Option<Vec<String>>,
    /// Signed and ignored.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub ext: Map<String, Value>,
}

/// Which record stands where in a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordPlace {
    /// Its epoch.
    pub epoch: u64,
    /// The number of its slot.
    pub seq: u64,
    /// SHA-256 of its payload.
    pub digest: Digest,
}

/// A snapshot, and what its record says of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SnapshotName {
    /// Its epoch.
    pub epoch: u64,
    /// The number of its slot.
    pub seq: u64,
    /// SHA-256 of its payload.
    pub digest: Digest,
    /// Its name for people.
    pub name: String,
    /// When reading began.
    #[serde(with = "time")]
    pub captured: Timestamp,
    /// Of names and content of all trees.
    pub content_digest: Digest,
    /// With all metadata.
    pub full_digest: Digest,
    /// The number of trees.
    pub trees: u64,
    /// Paths of every kind.
    pub entries: u64,
    /// Regular files.
    pub files: u64,
    /// The sum of their lengths.
    pub bytes: u64,
}

/// Something that whoever issued the manifest was told to let pass.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Accepted {
    /// One of [`ACCEPTED`].
    pub what: String,
    /// Why.
    pub reason: String,
}

/// What may be let pass, in the order it is written.
pub const ACCEPTED: &[&str] = &["incomplete", "torn", "unset"];

/// A manifest that was verified; its pins are verified by [`VerifiedManifest::pins`].
#[derive(Debug, Clone, PartialEq)]
pub struct VerifiedManifest {
    /// What it says.
    pub manifest: Manifest,
    /// SHA-256 of the payload: the manifest's name.
    pub digest: Digest,
}

impl SnapshotName {
    /// What a manifest says of the snapshot in `record`, which people call `name`; nothing for another kind.
    pub fn of(record: &Record, name: &str) -> Option<SnapshotName> {
        let Body::Snapshot(snapshot) = &record.body else {
            return None;
        };
        let (public, private) = (&snapshot.public, &snapshot.private);
        Some(SnapshotName {
            epoch: record.header.epoch,
            seq: record.header.seq,
            digest: record.digest,
            name: name.to_owned(),
            captured: private.started,
            content_digest: private.content_digest,
            full_digest: private.full_digest,
            trees: public.trees,
            entries: public.entries,
            files: public.files,
            bytes: public.bytes,
        })
    }

    /// Where its record stands.
    pub fn place(&self) -> RecordPlace {
        RecordPlace { epoch: self.epoch, seq: self.seq, digest: self.digest }
    }
}

impl Manifest {
    /// The payload bytes, to be signed as [`PAYLOAD_TYPE`]. Equal manifests give equal bytes.
    ///
    /// # Errors
    /// What a reader would refuse.
    pub fn payload(&self) -> Result<Vec<u8>, Refusal> {
        let statement = Statement::new(&self.snapshot.name, self.snapshot.digest, PREDICATE_TYPE, self.clone());
        let bytes = serde_json::to_vec(&statement).expect("a statement always encodes");
        Manifest::parse(&bytes, envelope::payload_cap(MANIFEST_CAP), "new manifest")?;
        Ok(bytes)
    }

    /// Verifies a manifest under the newest root; `pin` is the digest of the first one.
    ///
    /// `chain` and `name` are compared where they are known. Expiry and version are judged by [`crate::freshness`].
    ///
    /// # Errors
    /// Those of [`envelope::verify`] for the role `manifest`; [`Class::Type`] and [`Class::Newer`] for another statement;
    /// what breaks a rule of the format; [`Class::Origin`] for another root, chain or name; [`Class::KeyId`] unless `key`
    /// signed.
    pub fn verify(
        bytes: &[u8],
        root: &Root,
        pin: &Digest,
        chain: Option<&Digest>,
        name: Option<&str>,
        object: &str,
    ) -> Result<VerifiedManifest, Refusal> {
        // TUF 5.4.2: the threshold of the role has signed it.
        let verified = envelope::verify(bytes, MANIFEST_CAP, &[PAYLOAD_TYPE], &root.signers("manifest"), object)?;
        let manifest = Manifest::parse(verified.payload(), MANIFEST_CAP, object)?;
        manifest.check_origin(pin, chain, name, object)?;
        manifest.check_key(&verified, object)?;
        Ok(VerifiedManifest { manifest, digest: verified.digest() })
    }

    /// The stores that an unverified manifest names, and its name: hints where the pinned root may be found.
    ///
    /// Nothing is proved by them, so they may be asked for nothing but what the pin proves.
    ///
    /// # Errors
    /// What is no manifest at all.
    pub fn hinted_stores(bytes: &[u8], object: &str) -> Result<(String, Vec<String>), Refusal> {
        let (payload_type, payload) = Nested::read(bytes, MANIFEST_CAP, object)?.unverified(object)?;
        if payload_type != PAYLOAD_TYPE {
            return Err(Refusal::new(Class::Type, object, PAYLOAD_TYPE, excerpt(&payload_type)));
        }
        Manifest::parse(&payload, MANIFEST_CAP, object).map(|manifest| (manifest.name, manifest.stores))
    }

    fn check_origin(
        &self,
        pin: &Digest,
        chain: Option<&Digest>,
        name: Option<&str>,
        object: &str,
    ) -> Result<(), Refusal> {
        let refuse = |expected: String, found: String| Err(Refusal::new(Class::Origin, object, expected, found));
        if self.root != *pin {
            return refuse(format!("a manifest under the root sha256:{pin}"), self.root.to_string());
        }
        if let Some(chain) = chain.filter(|chain| self.chain != **chain) {
            return refuse(format!("a manifest of chain {chain}"), self.chain.to_string());
        }
        match name {
            Some(name) if self.name != name => refuse(format!("the manifest {name}"), self.name.clone()),
            _ => Ok(()),
        }
    }

    fn check_key(&self, verified: &Verified, object: &str) -> Result<(), Refusal> {
        if verified.signers().iter().any(|key| key.id() == self.key) {
            return Ok(());
        }
        Err(Refusal::new(Class::KeyId, object, "`key` to be a key that signed", self.key))
    }

    /// Applies every rule of the format that needs no signature to payload bytes.
    fn parse(payload: &[u8], cap: usize, object: &str) -> Result<Manifest, Refusal> {
        let statement = Statement::<Manifest>::read(payload, cap, PREDICATE_TYPE, object)?;
        let manifest = &statement.predicate;
        check_critical(&manifest.critical, object)?;
        let snapshot = &manifest.snapshot;
        statement.check_subject(&snapshot.name, &snapshot.digest, Class::Manifest, object)?;
        manifest.check(object)?;
        Ok(statement.predicate)
    }

    fn check(&self, object: &str) -> Result<(), Refusal> {
        let rule = |expected: &str, found: String| Err(Refusal::new(Class::Manifest, object, expected, found));
        if !is_name(&self.name) {
            return rule("a name of 1 to 64 of [a-z0-9._-]", excerpt(&self.name));
        }
        if self.version == 0 {
            return rule("a version of 1 or more", "0".into());
        }
        if self.expires <= self.issued {
            return rule("an expiry after the issue", format!("{} and {}", self.expires, self.issued));
        }
        if self.stores.len() > STORES_CAP {
            return Err(Refusal::new(Class::TooMany, object, "at most 16 stores", self.stores.len()));
        }
        if self.stores.is_empty() || !self.stores.iter().all(|store| is_text(store, TEXT_CAP)) {
            return rule("1 to 16 stores without control characters", "others".into());
        }
        if (self.snapshot.epoch, self.snapshot.seq) > (self.head.epoch, self.head.seq) {
            return rule("a snapshot that is not beyond the head", self.snapshot.seq.to_string());
        }
        if self.snapshot.seq == self.head.seq && self.snapshot.digest != self.head.digest {
            return rule("one record in one slot", format!("two in slot {}", self.head.seq));
        }
        if !is_text(&self.snapshot.name, 255) {
            return rule("a name of the snapshot", excerpt(&self.snapshot.name));
        }
        if let Some(other) = self.accepted.iter().find(|accepted| !ACCEPTED.contains(&accepted.what.as_str())) {
            let expected = format!("only {} in `accepted`", ACCEPTED.join(", "));
            return Err(Refusal::new(Class::Newer, object, expected, excerpt(&other.what)));
        }
        if let Some(accepted) = self.accepted.iter().find(|accepted| !is_text(&accepted.reason, TEXT_CAP)) {
            return rule("a reason for what was let pass", excerpt(&accepted.reason));
        }
        sorted_names("accepted", self.accepted.iter().map(|accepted| accepted.what.as_str()), is_name, object)
    }
}

impl VerifiedManifest {
    /// Verifies the embedded pins under the newest root; their expiry and version are judged by [`crate::freshness`].
    ///
    /// # Errors
    /// Those of [`Pins::verify`].
    pub fn pins(&self, root: &Root, object: &str) -> Result<VerifiedPins, Refusal> {
        let Manifest { pins, chain, name, .. } = &self.manifest;
        // TUF 5.6.2 and 5.6.3: the digest is under the manifest's signature, the role's own is checked here.
        Pins::verify(&pins.to_bytes(), root, chain, Some(name), &format!("pins in {object}"))
    }
}
