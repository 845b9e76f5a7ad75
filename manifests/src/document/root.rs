//! The root document: which keys there are, what each may sign, and for which part of the chain.
//!
//! Root 1 is believed because its digest is pinned; each later one because the thresholds of the one
//! before it and its own have signed it. Documented in `docs/format/root.md`. Layer: pure.
//! Source: TUF client workflow, section 5.3 (update the root role).

mod draft;
mod edit;
mod lint;
mod rules;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{FORMAT, check_critical, check_growth, time};
use crate::digest::Digest;
use crate::envelope::{self, Envelope, Signers, Verified};
use crate::json::Tree;
use crate::keys::{KeyId, PublicKey};
use crate::refusal::{Class, Refusal};

pub use draft::{Approval, Draft};
pub use edit::{Change, EditError};
pub use lint::{Finding, Weight, lint};

/// The payload type.
pub const PAYLOAD_TYPE: &str = "application/vnd.snapkit.root+json";
/// The largest root document with its signatures, in bytes.
pub const ROOT_CAP: usize = 64 * 1024;
/// The most root versions one run follows.
pub const STEPS_CAP: u32 = 256;
/// The roles there are, in the order they are written.
pub const ROLES: &[&str] = &["drill", "manifest", "node", "prune", "release", "root", "writer"];

/// A root document as it is written; [`Root`] is one that was verified.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RootDocument {
    /// Always [`FORMAT`].
    pub format: String,
    /// 1, 2, 3, …: the number in the store key.
    pub version: u64,
    /// When it was made.
    #[serde(with = "time")]
    pub issued: Timestamp,
    /// From when on it is refused as the newest root.
    #[serde(with = "time")]
    pub expires: Timestamp,
    /// Every key, by ascending id.
    pub keys: Vec<Key>,
    /// The roles, by ascending name.
    pub roles: Vec<Role>,
    /// For which sequence numbers each writer key is valid, by ascending key and start.
    pub writers: Vec<WriterRange>,
    /// Records that stay valid although who signed them left its role, by ascending sequence number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept: Option<Vec<KeptRecord>>,
    /// Features a reader must know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub critical: Option<Vec<String>>,
    /// Signed and ignored.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub ext: Map<String, Value>,
}

/// One key of a root document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Key {
    /// The TUF key id, which must follow from the rest.
    pub id: KeyId,
    /// Always `ed25519`.
    pub keytype: String,
    /// Always `ed25519`.
    pub scheme: String,
    /// The 32 key bytes in hex.
    pub public: String,
}

impl From<&PublicKey> for Key {
    fn from(key: &PublicKey) -> Key {
        Key { id: key.id(), keytype: "ed25519".into(), scheme: "ed25519".into(), public: key.to_hex() }
    }
}

/// One role: whose signatures count, and how many it takes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Role {
    /// One of [`ROLES`].
    pub name: String,
    /// Key ids, ascending.
    pub keys: Vec<KeyId>,
    /// From 1 to the number of keys.
    pub threshold: u32,
}

/// The part of the chain that a writer key may sign.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WriterRange {
    /// A key of the role `writer`.
    pub key: KeyId,
    /// The first sequence number it may sign.
    pub from_seq: u64,
    /// The first sequence number it may no longer sign; absent while it may go on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until_seq: Option<u64>,
}

/// A record that the owner vouches for in the place of its signers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeptRecord {
    /// Its slot.
    pub seq: u64,
    /// Its kind, which the digest does not cover.
    pub kind: String,
    /// SHA-256 of its payload.
    pub sha256: Digest,
}

impl RootDocument {
    /// The first root of a new chain: the owner's key for `root` and `release`, the node's for the rest.
    pub fn first(owner: &PublicKey, node: &PublicKey, issued: Timestamp, expires: Timestamp) -> RootDocument {
        let mut keys = vec![Key::from(owner), Key::from(node)];
        keys.sort_by_key(|key| key.id);
        keys.dedup();
        let holder = |role: &str| {
            if matches!(role, "root" | "release") { owner } else { node }
        };
        let role = |name: &&str| Role { name: (*name).into(), keys: vec![holder(name).id()], threshold: 1 };
        RootDocument {
            format: FORMAT.into(),
            version: 1,
            issued,
            expires,
            keys,
            roles: ROLES.iter().map(role).collect(),
            writers: vec![WriterRange { key: node.id(), from_seq: 0, until_seq: None }],
            kept: None,
            critical: None,
            ext: Map::new(),
        }
    }

    /// The payload bytes, to be signed as [`PAYLOAD_TYPE`].
    ///
    /// # Errors
    /// What a reader would refuse.
    pub fn payload(&self) -> Result<Vec<u8>, Refusal> {
        let bytes = serde_json::to_vec(self).expect("a root document always encodes");
        Root::check(&bytes, envelope::payload_cap(ROOT_CAP), "new root")?;
        Ok(bytes)
    }
}

/// A verified root document. Its expiry is judged by [`Root::check_expiry`].
#[derive(Debug, Clone, PartialEq)]
pub struct Root {
    document: RootDocument,
    digest: Digest,
    keys: Vec<PublicKey>,
    /// The role root of the first root of this chain of roots, which signed genesis.
    founders: (Vec<PublicKey>, u32),
}

impl Root {
    /// Makes and verifies the first root's payload for `init`; sign it with the owner's key.
    ///
    /// # Errors
    /// [`Class::Root`] unless it expires after it was issued.
    pub fn new_first(
        owner: &PublicKey,
        node: &PublicKey,
        issued: Timestamp,
        expires: Timestamp,
    ) -> Result<Vec<u8>, Refusal> {
        RootDocument::first(owner, node, issued, expires).payload()
    }

    /// Reads `root/1.json`: its payload has the pinned digest, and its own threshold has signed it.
    ///
    /// # Errors
    /// [`Class::RootPin`] for another root than the pinned one; else what breaks a rule of the format.
    pub fn parse_first(bytes: &[u8], pin: &Digest) -> Result<Root, Refusal> {
        let object = "root/1.json";
        let envelope = Envelope::decode(bytes, ROOT_CAP, object)?;
        let pinned = envelope.pinned(pin).map_err(|found| {
            Refusal::new(Class::RootPin, object, format!("the pinned root sha256:{pin}"), format!("sha256:{found}"))
        })?;
        rules::check_type(envelope.payload_type(), object)?;
        let root = Root::from_verified(&pinned, object)?;
        root.expect_version(1, object)?;
        envelope.verify(&root.signers("root"), object)?;
        Ok(root)
    }

    /// Reads the next root: exactly one version on, signed by this root's threshold and by its own.
    ///
    /// # Errors
    /// [`Class::Version`] for any other version, [`Class::Root`] if it is not signed by both thresholds;
    /// else what breaks a rule of the format.
    pub fn parse_next(&self, bytes: &[u8]) -> Result<Root, Refusal> {
        let version = self.document.version + 1;
        let object = &format!("root/{version}.json");
        let half = |side: &'static str| {
            move |refusal: Refusal| match refusal.class() {
                Class::SigMissing | Class::SigUntrusted | Class::Sig | Class::Threshold | Class::Role => Refusal::new(
                    Class::Root,
                    refusal.object(),
                    format!("the threshold of the {side} root"),
                    refusal.found(),
                )
                .with_hint("have the holders of the old and of the new root keys sign it"),
                _ => refusal,
            }
        };
        let verified =
            envelope::verify(bytes, ROOT_CAP, &[PAYLOAD_TYPE], &self.signers("root"), object).map_err(half("old"))?;
        let mut next = Root::from_verified(&verified, object)?;
        next.founders = self.founders.clone();
        next.expect_version(version, object)?;
        envelope::verify(bytes, ROOT_CAP, &[PAYLOAD_TYPE], &next.signers("root"), object).map_err(half("new"))?;
        Ok(next)
    }

    /// A document as if it followed this root, to learn what it would change. Nobody signed it; nothing may be believed
    /// because of it.
    ///
    /// # Errors
    /// What breaks a rule of the format.
    pub fn supposing(&self, document: &RootDocument) -> Result<Root, Refusal> {
        let supposed = Root::check(&document.payload()?, ROOT_CAP, "the next root")?;
        Ok(Root { founders: self.founders.clone(), ..supposed })
    }

    /// The document, for showing it and as the base of the next version.
    pub fn document(&self) -> &RootDocument {
        &self.document
    }

    /// SHA-256 of the payload.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The version.
    pub fn version(&self) -> u64 {
        self.document.version
    }

    /// Every listed key, by ascending id.
    pub fn keys(&self) -> &[PublicKey] {
        &self.keys
    }

    /// Refuses a root that has expired at `now`; only the newest root of a chain is judged.
    ///
    /// # Errors
    /// [`Class::Stale`] when `expires <= now`.
    pub fn check_expiry(&self, now: Timestamp) -> Result<(), Refusal> {
        if now < self.document.expires {
            return Ok(());
        }
        let object = format!("root/{}.json", self.document.version);
        Err(Refusal::new(
            Class::Stale,
            object,
            format!("a root that is valid at {now}"),
            format!("one that expired at {}", self.document.expires),
        )
        .with_hint("have the owner sign the next root"))
    }

    /// Who may sign for `role`; nobody for a role that the root does not have.
    pub fn signers(&self, role: &str) -> Signers {
        let name = format!("the role {role}");
        let found = self.document.roles.iter().find(|listed| listed.name == role);
        let (allowed, threshold) = found.map_or((Vec::new(), 1), |role| (self.resolve(&role.keys), role.threshold));
        Signers { name, known: self.keys.clone(), allowed, threshold }
    }

    /// Who had the role root in the first root of the chain, and so signed genesis, whoever has it now.
    pub(crate) fn founders(&self) -> Signers {
        let (allowed, threshold) = self.founders.clone();
        Signers { name: "the role root of the first root".into(), known: self.keys.clone(), allowed, threshold }
    }

    /// The record that the owner vouches for in slot `seq`, if it does.
    pub(crate) fn kept(&self, seq: u64) -> Option<&KeptRecord> {
        self.document.kept.iter().flatten().find(|kept| kept.seq == seq)
    }

    /// Whether the writer key may sign the record with this sequence number.
    pub fn writer_may_sign(&self, key: &PublicKey, seq: u64) -> bool {
        let id = key.id();
        self.document
            .writers
            .iter()
            .any(|range| range.key == id && range.from_seq <= seq && range.until_seq.is_none_or(|until| seq < until))
    }

    fn resolve(&self, ids: &[KeyId]) -> Vec<PublicKey> {
        let key = |id| self.document.keys.iter().position(|key| key.id == id).map(|at| self.keys[at]);
        ids.iter().filter_map(|id| key(*id)).collect()
    }

    fn expect_version(&self, version: u64, object: &str) -> Result<(), Refusal> {
        if self.document.version == version {
            return Ok(());
        }
        Err(Refusal::new(Class::Version, object, format!("version {version}"), self.document.version))
    }

    fn from_verified(verified: &Verified, object: &str) -> Result<Root, Refusal> {
        let mut root = Root::check(verified.payload(), ROOT_CAP, object)?;
        root.digest = verified.digest();
        Ok(root)
    }

    /// Applies every rule of the format to payload bytes.
    fn check(payload: &[u8], cap: usize, object: &str) -> Result<Root, Refusal> {
        let tree = Tree::read(payload, cap, object)?;
        check_growth(&tree, object)?;
        let document: RootDocument = tree.into_typed(object)?;
        check_critical(&document.critical, object)?;
        let refuse = |expected: &str, found: String| Err(Refusal::new(Class::Root, object, expected, found));
        if document.version == 0 {
            return refuse("a version of 1 or more", "0".into());
        }
        if document.expires <= document.issued {
            return refuse("an expiry after its issue", format!("{} and {}", document.expires, document.issued));
        }
        let mut keys = Vec::new();
        for key in &document.keys {
            keys.push(rules::check_key(key, object)?);
        }
        if !document.keys.is_sorted_by(|a, b| a.id < b.id) {
            return refuse("keys by ascending id, each once", "another order".into());
        }
        if !document.roles.is_sorted_by(|a, b| a.name < b.name) {
            return refuse("roles by ascending name, each once", "another order".into());
        }
        for role in &document.roles {
            rules::check_role(role, &document.keys, object)?;
        }
        if document.roles.iter().all(|role| role.name != "root") {
            return refuse("the role root", "none".into());
        }
        rules::check_writers(&document, object)?;
        rules::check_kept(&document, object)?;
        let mut root = Root { document, digest: Digest::sha256(payload), keys, founders: (Vec::new(), 1) };
        let Signers { allowed, threshold, .. } = root.signers("root");
        root.founders = (allowed, threshold);
        Ok(root)
    }
}

#[cfg(test)]
mod edit_tests;
#[cfg(test)]
mod tests;
