//! The lease entry: one step of the log that decides which node of a group leads.
//!
//! A claim begins a term, a renewal keeps it, a release gives it back. Each is signed by the key of the node that it
//! names. What must hold between neighbours is in [`crate::lease`]. Documented in `docs/format/lease.md`. Layer: pure.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::pins::is_text;
use super::record::{Nonce, VOIDS_CAP, Void, check_reason};
use super::root::Root;
use super::{check_critical, check_growth, is_name, time};
use crate::digest::Digest;
use crate::envelope::{self, Envelope, Signers, Verified, payload_cap};
use crate::json::Tree;
use crate::keys::{KeyId, excerpt};
use crate::refusal::{Class, Refusal};

/// The payload type.
pub const PAYLOAD_TYPE: &str = "application/vnd.snapkit.lease+json";
/// The largest entry with its signature, in bytes.
pub const LEASE_CAP: usize = 16 * 1024;
/// The longest node name and address in bytes.
pub const TEXT_CAP: usize = 255;
/// The bounds of `ttl_ms`: those of the pins.
pub const TTL_MS: std::ops::RangeInclusive<u64> = 5_000..=86_400_000;

/// What an entry does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "&'static str", try_from = "String")]
pub enum Kind {
    /// The holder begins a term.
    Claim,
    /// The holder keeps its term.
    Renew,
    /// The holder gives its term back: what it led is dead.
    Release,
}

impl Kind {
    /// The word that stands in the entry.
    pub fn word(self) -> &'static str {
        match self {
            Kind::Claim => "claim",
            Kind::Renew => "renew",
            Kind::Release => "release",
        }
    }
}

impl From<Kind> for &'static str {
    fn from(kind: Kind) -> &'static str {
        kind.word()
    }
}

impl TryFrom<String> for Kind {
    type Error = &'static str;

    fn try_from(word: String) -> Result<Kind, Self::Error> {
        let kinds = [Kind::Claim, Kind::Renew, Kind::Release];
        kinds.into_iter().find(|kind| kind.word() == word).ok_or("not a kind of lease entry")
    }
}

/// An entry as it is written; [`VerifiedEntry`] was verified.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Always [`super::FORMAT`].
    pub format: String,
    /// The digest of the genesis payload.
    pub chain: Digest,
    /// The group, as in the pins.
    pub group: String,
    /// The number of its slot in the log, from 1.
    pub seq: u64,
    /// Counts leaderships, from 1.
    pub term: u64,
    /// What it does.
    pub kind: Kind,
    /// The digest of the last valid entry before; absent in the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<Digest>,
    /// The void slots after that entry, or from 1.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub void: Vec<Void>,
    /// Who leads.
    pub holder: Holder,
    /// How long the lease holds without another entry; absent where only an operator ends it, and in a release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_ms: Option<u64>,
    /// Fresh random bytes, by which a holder knows its own entry again.
    pub nonce: Nonce,
    /// The newest record of the chain that the holder had seen.
    pub head: ChainHead,
    /// When it was made, for people: no reader compares it.
    #[serde(with = "time")]
    pub time: Timestamp,
    /// Why an operator claimed or released; absent in what the rules alone allowed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Features a reader must know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub critical: Option<Vec<String>>,
    /// Signed and ignored.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub ext: Map<String, Value>,
}

/// Who holds a lease: one run of an agent on a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Holder {
    /// The name of the node, as in the pins.
    pub node: String,
    /// Random, made anew whenever an agent starts: names and process numbers come back.
    pub instance: Nonce,
    /// The id of the node's key, which signed.
    pub key: KeyId,
    /// The id of the writer key that will sign the fence and the records of the term; absent if the node has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub writer: Option<KeyId>,
    /// Where its agent answers; proves nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api: Option<String>,
}

/// A record of the chain as somebody saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChainHead {
    /// Its epoch.
    pub epoch: u64,
    /// Its slot.
    pub seq: u64,
    /// SHA-256 of its payload.
    pub digest: Digest,
    /// Its term.
    pub term: u64,
}

/// An entry whose signature was verified.
#[derive(Debug, Clone, PartialEq)]
pub struct VerifiedEntry {
    /// What it says.
    pub entry: Entry,
    /// SHA-256 of its payload: its name.
    pub digest: Digest,
}

impl Entry {
    /// The payload bytes, to be signed as [`PAYLOAD_TYPE`] by the key that `holder` names. Equal entries give equal bytes.
    ///
    /// # Errors
    /// What a reader would refuse.
    pub fn payload(&self) -> Result<Vec<u8>, Refusal> {
        let bytes = serde_json::to_vec(self).expect("an entry always encodes");
        Entry::parse(Tree::read(&bytes, payload_cap(LEASE_CAP), "new lease entry")?, "new lease entry")?;
        Ok(bytes)
    }

    /// Verifies an entry by itself: one key of the role `node` signed it, and it is the holder's.
    ///
    /// Neither its place in a log nor whether the node is a member of the group is judged: a fence embeds such a claim
    /// where nobody has the pins.
    ///
    /// # Errors
    /// Those of [`envelope::verify`]; [`Class::Origin`] for an entry of another chain, [`Class::KeyId`] if another key
    /// signed than the holder's; what breaks a rule of the format.
    pub fn verify(bytes: &[u8], root: &Root, chain: &Digest, object: &str) -> Result<VerifiedEntry, Refusal> {
        let verified = verified(bytes, root, object)?;
        let tree = Tree::read(verified.payload(), LEASE_CAP, object)?;
        let entry = from_verified(&verified, tree, object)?;
        if entry.chain != *chain {
            return Err(Refusal::new(Class::Origin, object, format!("an entry of chain {chain}"), entry.chain));
        }
        Ok(VerifiedEntry { digest: verified.digest(), entry })
    }

    /// Reads an entry of which no signature is checked: one inside a document that is trusted, or to be shown.
    ///
    /// # Errors
    /// What breaks a rule of the format.
    pub fn unverified(bytes: &[u8], object: &str) -> Result<VerifiedEntry, Refusal> {
        let (payload_type, payload) = envelope::unverified(bytes, LEASE_CAP, object)?;
        if payload_type != PAYLOAD_TYPE {
            return Err(Refusal::new(Class::Type, object, PAYLOAD_TYPE, excerpt(&payload_type)));
        }
        let entry = Entry::parse(Tree::read(&payload, LEASE_CAP, object)?, object)?;
        Ok(VerifiedEntry { digest: Digest::sha256(&payload), entry })
    }

    /// Applies every rule of the format that needs neither signature nor neighbour.
    fn parse(tree: Tree, object: &str) -> Result<Entry, Refusal> {
        check_growth(&tree, object)?;
        if let Some(Tree::Text(kind)) = tree.get("kind")
            && !["claim", "renew", "release"].contains(&kind.as_str())
        {
            return Err(Refusal::new(Class::Newer, object, "the kind claim, renew or release", excerpt(kind)));
        }
        let entry: Entry = tree.into_typed(object)?;
        check_critical(&entry.critical, object)?;
        entry.check(object)?;
        Ok(entry)
    }

    fn check(&self, object: &str) -> Result<(), Refusal> {
        let rule = |expected: &str, found: String| Err(Refusal::new(Class::Lease, object, expected, found));
        if !is_name(&self.group) {
            return rule("a group of 1 to 64 of [a-z0-9._-]", excerpt(&self.group));
        }
        if self.seq == 0 || self.term == 0 {
            return rule("slot and term of 1 or more", format!("slot {}, term {}", self.seq, self.term));
        }
        if self.void.len() > VOIDS_CAP {
            return Err(Refusal::new(Class::TooMany, object, "at most 64 void slots in a row", self.void.len()));
        }
        // The void slots are those directly before this one; without a previous entry they begin at 1.
        let first = self.seq.saturating_sub(self.void.len() as u64);
        let in_row = self.void.iter().zip(first..).all(|(void, seq)| void.seq == seq);
        if !in_row || first == 0 || (first == 1) != self.previous.is_none() {
            return rule("void slots up to this one, after `previous` or from 1", "others".into());
        }
        if (self.kind != Kind::Claim) && self.previous.is_none() {
            return rule("a claim as the first entry", self.kind.word().into());
        }
        if self.kind == Kind::Release && self.ttl_ms.is_some() {
            return rule("no `ttl_ms` in a release", "one".into());
        }
        if let Some(ttl) = self.ttl_ms.filter(|ttl| !TTL_MS.contains(ttl)) {
            return rule("`ttl_ms` from 5000 to 86400000", ttl.to_string());
        }
        // A claim goes above every term seen; who renews below the chain's term has been replaced.
        match self.kind {
            Kind::Claim if self.term <= self.head.term => {
                return rule(&format!("a term above {}, that of the chain", self.head.term), self.term.to_string());
            }
            Kind::Renew | Kind::Release if self.term < self.head.term => {
                return rule(&format!("at least term {}, that of the chain", self.head.term), self.term.to_string());
            }
            _ => {}
        }
        for (field, text) in [("node", Some(&self.holder.node)), ("api", self.holder.api.as_ref())] {
            if let Some(text) = text.filter(|text| !is_text(text, TEXT_CAP)) {
                let expected = format!("`holder.{field}` of 1 to {TEXT_CAP} bytes without control characters");
                return rule(&expected, excerpt(text));
            }
        }
        match &self.reason {
            Some(_) if self.kind == Kind::Renew => rule("no reason in a renewal", "one".into()),
            Some(reason) => check_reason(reason, object),
            None => Ok(()),
        }
    }

    /// Whether both are of one holder: the same run of the same agent, with the same keys.
    pub fn same_holder(&self, other: &Entry) -> bool {
        let name = |entry: &Entry| (entry.holder.node.clone(), entry.holder.instance, entry.holder.key);
        name(self) == name(other) && self.holder.writer == other.holder.writer
    }
}

/// Checks the signature: by any one key of the role `node`. Whose it must be is told by the payload.
pub(crate) fn verified(bytes: &[u8], root: &Root, object: &str) -> Result<Verified, Refusal> {
    let envelope = Envelope::decode(bytes, LEASE_CAP, object)?;
    if envelope.payload_type() != PAYLOAD_TYPE {
        return Err(Refusal::new(Class::Type, object, PAYLOAD_TYPE, excerpt(envelope.payload_type())));
    }
    // Each entry is one node's own word, however many of them a receipt may need.
    envelope.verify(&Signers { threshold: 1, ..root.signers("node") }, object)
}

/// Reads the entry in verified bytes.
pub(crate) fn from_verified(verified: &Verified, tree: Tree, object: &str) -> Result<Entry, Refusal> {
    let entry = Entry::parse(tree, object)?;
    if verified.signers().iter().all(|key| key.id() != entry.holder.key) {
        return Err(Refusal::new(Class::KeyId, object, "`holder.key` to be a key that signed", entry.holder.key));
    }
    Ok(entry)
}
