//! The receipt: which snapshot a node restored, and what its file system held when that was proved.
//!
//! An in-toto Statement with one subject, the record, so that other tools can check it. It is signed by
//! the role `node` of the root, or judged by one key that the verifier names. Documented in
//! `docs/format/receipt.md`. Layer: pure.
//! Source: in-toto Attestation Framework, Statement v1.

mod rules;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::root::Root;
use super::statement::Statement;
pub use super::statement::{PAYLOAD_TYPE, STATEMENT_TYPE};
use super::{check_critical, time};
use crate::digest::Digest;
use crate::envelope::{self, Signers, Verified};
use crate::keys::{KeyId, PublicKey};
use crate::refusal::{Class, Refusal};

/// The type of the predicate, with its version.
pub const PREDICATE_TYPE: &str = "urn:snapkit:receipt:0-draft";
/// The largest receipt with its signatures, in bytes.
pub const RECEIPT_CAP: usize = 1024 * 1024;
/// The most patterns in a selection.
pub const INCLUDE_CAP: usize = 64;
/// The longest path and the longest pattern in bytes.
pub const PATH_CAP: usize = 4096;
/// The longest name, version or kernel release in bytes.
pub const TEXT_CAP: usize = 255;

/// What a receipt says: the predicate of the statement.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Receipt {
    /// The digest of the genesis payload.
    pub chain: Digest,
    /// SHA-256 of the payload of `root/1.json`.
    pub root: Digest,
    /// The snapshot that was restored.
    pub record: RecordName,
    /// The newest record when the restore began, under which that one was shown to lie.
    pub head: HeadName,
    /// Whether all of it was restored as it was captured.
    pub exact: bool,
    /// What was asked for, unless it was everything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selection: Option<Selection>,
    /// What is otherwise than in the snapshot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changes: Option<Vec<Change>>,
    /// How much of the snapshot was not restored.
    pub left_out: LeftOut,
    /// How much was.
    pub restored: Counts,
    /// Where the bytes came from.
    pub transfer: Transfer,
    /// The digests over all trees.
    pub state: State,
    /// The trees, by ascending name.
    pub trees: Vec<RestoredTree>,
    /// Where contents came from when the result was read back: one of [`PROOFS`].
    pub proof: String,
    /// What was used although it had expired, and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub break_glass: Option<BreakGlass>,
    /// When the restore began.
    #[serde(with = "time")]
    pub started: Timestamp,
    /// When the target was in place.
    #[serde(with = "time")]
    pub finished: Timestamp,
    /// What restored it.
    pub tool: Tool,
    /// Where.
    pub host: Host,
    /// The id of a key that signed.
    pub node: KeyId,
    /// Features a reader must know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub critical: Option<Vec<String>>,
    /// Signed and ignored.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub ext: Map<String, Value>,
}

/// Going on although something was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BreakGlass {
    /// Why, in the words of whoever decided it.
    pub reason: String,
    /// What was used all the same, by ascending class and object.
    pub lifted: Vec<Lifted>,
}

/// One refusal that was lifted.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lifted {
    /// One of [`LIFTABLE`].
    pub class: String,
    /// What had been refused.
    pub object: String,
}

/// The classes that can be lifted.
pub const LIFTABLE: &[&str] = &["E_STALE"];
/// The longest reason in bytes.
pub const REASON_CAP: usize = 1024;
/// The most refusals that are lifted at once.
pub const LIFTED_CAP: usize = 16;

/// The kinds of proof there are.
pub const PROOFS: &[&str] = &["written", "reread", "device"];

/// Which record a snapshot is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordName {
    /// The number of its slot.
    pub seq: u64,
    /// Its epoch.
    pub epoch: u64,
    /// SHA-256 of its payload.
    pub digest: Digest,
    /// Its name for people.
    pub name: String,
}

/// The newest record of a chain at some time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeadName {
    /// The number of its slot.
    pub seq: u64,
    /// Its epoch.
    pub epoch: u64,
    /// SHA-256 of its payload.
    pub digest: Digest,
    /// When it was made.
    #[serde(with = "time")]
    pub time: Timestamp,
}

/// What was chosen of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Selection {
    /// Only this path and what lies below it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Only what these patterns match.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub include: Vec<String>,
}

/// One way in which the result is otherwise than the snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Change {
    /// One of [`CHANGES`].
    pub what: String,
    /// How many paths.
    pub count: u64,
}

/// What a restore may change, in the order it is written.
pub const CHANGES: &[&str] = &["devices", "extra", "owners", "setid", "xattrs"];

/// What of a snapshot was not restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LeftOut {
    /// Trees.
    pub trees: u64,
    /// Paths of every kind.
    pub entries: u64,
}

/// What was restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Counts {
    /// Paths of every kind.
    pub entries: u64,
    /// Regular files.
    pub files: u64,
    /// The sum of their lengths.
    pub bytes: u64,
}

/// Where the bytes came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Transfer {
    /// Fetched from packs of the store.
    pub fetched_bytes: u64,
    /// Taken from files that were here.
    pub reused_bytes: u64,
}

/// The two digests of a tree or of all trees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Digests {
    /// Of names and content.
    pub content_digest: Digest,
    /// With all metadata.
    pub full_digest: Digest,
}

/// What was signed and what was found, over all trees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// What the record says.
    pub signed: Digests,
    /// What the file system held, and the plan expected.
    pub found: Digests,
}

/// One restored tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RestoredTree {
    /// Its name in the snapshot.
    pub name: String,
    /// Where it was restored to: UTF-8; other bytes, and `%`, as `%XX`.
    pub path: String,
    /// What the record says.
    pub signed: Digests,
    /// What the file system held, and the plan expected.
    pub found: Digests,
    /// Paths of every kind.
    pub entries: u64,
    /// Regular files.
    pub files: u64,
    /// The sum of their lengths.
    pub bytes: u64,
}

/// The program that restored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tool {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// SHA-256 of the executable that ran.
    pub sha256: Digest,
}

/// The machine on which it ran.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Host {
    /// Its host name.
    pub name: String,
    /// [`machine_digest`] of its machine id, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine: Option<Digest>,
    /// The release of its kernel.
    pub kernel: String,
}

/// What stands in a receipt for the content of `/etc/machine-id`, which is not to be shown to others.
pub fn machine_digest(machine_id: &str) -> Digest {
    Digest::sha256_of(&[b"machine of snapkit ", machine_id.trim_end().as_bytes()])
}

/// Whose signature makes a receipt good.
#[derive(Debug, Clone, Copy)]
pub enum Authority<'a> {
    /// The role `node` of the newest root of a chain.
    Root {
        /// That root.
        root: &'a Root,
        /// SHA-256 of the payload of the first root.
        pin: Digest,
        /// The chain under it, where it is known.
        chain: Option<Digest>,
    },
    /// This key, whatever the chain.
    Key(&'a PublicKey),
}

/// A receipt that was verified.
#[derive(Debug, Clone, PartialEq)]
pub struct VerifiedReceipt {
    /// What it says.
    pub receipt: Receipt,
    /// SHA-256 of the payload: the receipt's name.
    pub digest: Digest,
    /// The distinct allowed keys with a good signature.
    pub signers: Vec<PublicKey>,
}

impl Receipt {
    /// The payload bytes, to be signed as [`PAYLOAD_TYPE`]. Equal receipts give equal bytes.
    ///
    /// # Errors
    /// What a reader would refuse.
    pub fn payload(&self) -> Result<Vec<u8>, Refusal> {
        let object = "new receipt";
        let statement = Statement::new(&self.record.name, self.record.digest, PREDICATE_TYPE, self.clone());
        let bytes = serde_json::to_vec(&statement).expect("a statement always encodes");
        let read = Receipt::parse(&bytes, envelope::payload_cap(RECEIPT_CAP), object)?;
        debug_assert!(read == *self, "what was written reads back");
        Ok(bytes)
    }

    /// Verifies the receipt in `bytes`; `object` names it in refusals.
    ///
    /// # Errors
    /// Those of [`envelope::verify`]; [`Class::Type`] for another statement, [`Class::Newer`] for another
    /// version of this one; [`Class::Json`], [`Class::Origin`] for another chain, [`Class::KeyId`] unless
    /// the named node signed, [`Class::Inconsistent`] for what contradicts itself.
    pub fn verify(bytes: &[u8], authority: &Authority<'_>, object: &str) -> Result<VerifiedReceipt, Refusal> {
        let signers = match authority {
            Authority::Root { root, .. } => root.signers("node"),
            Authority::Key(key) => {
                let name = format!("the key {}", key.id());
                Signers { name, known: vec![**key], allowed: vec![**key], threshold: 1 }
            }
        };
        let verified = envelope::verify(bytes, RECEIPT_CAP, &[PAYLOAD_TYPE], &signers, object)?;
        let receipt = Receipt::parse(verified.payload(), RECEIPT_CAP, object)?;
        if let Authority::Root { pin, chain, .. } = authority {
            receipt.check_origin(pin, chain.as_ref(), object)?;
        }
        receipt.check_node(&verified, object)?;
        Ok(VerifiedReceipt { receipt, digest: verified.digest(), signers: verified.signers().to_vec() })
    }

    fn check_origin(&self, pin: &Digest, chain: Option<&Digest>, object: &str) -> Result<(), Refusal> {
        let refuse = |expected: String, found: Digest| Err(Refusal::new(Class::Origin, object, expected, found));
        if self.root != *pin {
            return refuse(format!("a receipt under the root sha256:{pin}"), self.root);
        }
        match chain {
            Some(chain) if self.chain != *chain => refuse(format!("a receipt of chain {chain}"), self.chain),
            _ => Ok(()),
        }
    }

    fn check_node(&self, verified: &Verified, object: &str) -> Result<(), Refusal> {
        if verified.signers().iter().any(|key| key.id() == self.node) {
            return Ok(());
        }
        Err(Refusal::new(Class::KeyId, object, "`node` to be a key that signed", self.node))
    }

    /// Applies every rule of the format that needs no signature to payload bytes.
    fn parse(payload: &[u8], cap: usize, object: &str) -> Result<Receipt, Refusal> {
        let statement = Statement::<Receipt>::read(payload, cap, PREDICATE_TYPE, object)?;
        check_critical(&statement.predicate.critical, object)?;
        rules::check(&statement, object)?;
        Ok(statement.predicate)
    }
}

#[cfg(test)]
mod tests;
