//! Records: the signed documents of the chain, one per slot.
//!
//! Every kind has the same header and a body of its own. A record of an unknown kind keeps its header,
//! so the chain goes on past it. What must hold between neighbours is in [`crate::chain`].
//! Documented in `docs/format/record.md`. Layer: pure.

use std::collections::HashSet;
use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::{Map, Value};

use super::archive::{self, Archive};
use super::drill::{self, Drill};
use super::fence::{self, Fence, FencePlace};
use super::fork::{self, Fork};
use super::genesis::{self, Genesis};
use super::rollback::{self, Rollback};
use super::snapshot::{self, Snapshot};
use super::{FORMAT, check_critical, check_growth, time};
use crate::digest::{Digest, from_hex, to_hex};
use crate::envelope::{Verified, payload_cap};
use crate::json::Tree;
use crate::keys::{KeyId, PublicKey, excerpt};
use crate::log::Frontier;
use crate::refusal::{Class, Refusal};

/// The largest record with its signatures, in bytes.
pub const RECORD_CAP: usize = 1024 * 1024;
/// The most void slots in a row.
pub const VOIDS_CAP: usize = 64;
/// The longest `writer.node` and `writer.tool` in bytes.
pub const WRITER_TEXT_CAP: usize = 255;
/// The most segments a record lists.
pub const SEGMENTS_CAP: usize = 1024;
/// The longest reason of a fork or rollback in bytes.
pub const REASON_CAP: usize = 1024;

/// A record that was verified.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// SHA-256 of the payload: the record's name.
    pub digest: Digest,
    /// What every kind has.
    pub header: Header,
    /// What this kind has.
    pub body: Body,
    /// The distinct keys with a good signature.
    pub signers: Vec<PublicKey>,
}

/// The fields of every record, in the order they are written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    /// Always [`FORMAT`].
    pub format: String,
    /// The digest of the genesis payload; absent in genesis.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chain: Option<Digest>,
    /// Rises with every fork.
    pub epoch: u64,
    /// The slot of the fork record that began this epoch; absent in epoch 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fork: Option<u64>,
    /// The number of the slot.
    pub seq: u64,
    /// The digest of the last valid record's payload; absent in genesis.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<Digest>,
    /// Counts leaderships.
    pub term: u64,
    /// The fence record that began this term; absent in term 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fence: Option<FencePlace>,
    /// Fresh random bytes, by which a writer knows its own record again.
    pub nonce: Nonce,
    /// When the record was made.
    #[serde(with = "time")]
    pub time: Timestamp,
    /// The log over all slots before this one.
    pub log: LogState,
    /// The void slots between the last valid record and this one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub void: Vec<Void>,
    /// Who made the record.
    pub writer: Writer,
    /// The segments from here on; absent if they are as before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub segments: Option<Vec<SegmentRef>>,
    /// Features a reader must know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub critical: Option<Vec<String>>,
    /// Signed and ignored.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub ext: Map<String, Value>,
}

/// The state of the log as a record carries it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogState {
    /// The number of slots.
    pub size: u64,
    /// The root over them.
    pub root: Digest,
    /// The roots of the perfect subtrees, largest first.
    pub frontier: Vec<Digest>,
}

impl From<&Frontier> for LogState {
    fn from(frontier: &Frontier) -> LogState {
        LogState { size: frontier.size(), root: frontier.root(), frontier: frontier.peaks().to_vec() }
    }
}

/// A slot without a valid record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Void {
    /// The number of the slot.
    pub seq: u64,
    /// [`crate::chain::void_digest`] of its bytes.
    pub sha256: Digest,
}

/// An earlier record that another one speaks of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pointer {
    /// The number of its slot.
    pub seq: u64,
    /// SHA-256 of its payload.
    pub digest: Digest,
}

impl Pointer {
    /// Refuses a pointer to a slot that is not before `seq`.
    pub(super) fn check_before(&self, seq: u64, object: &str) -> Result<(), Refusal> {
        if self.seq < seq {
            return Ok(());
        }
        Err(Refusal::new(Class::Seq, object, format!("a record before slot {seq}"), self.seq))
    }
}

/// Refuses a reason that says nothing, or that could play tricks on a terminal.
pub(super) fn check_reason(reason: &str, object: &str) -> Result<(), Refusal> {
    if !reason.trim().is_empty() && reason.len() <= REASON_CAP && !reason.chars().any(char::is_control) {
        return Ok(());
    }
    let expected = format!("a reason of 1 to {REASON_CAP} bytes without control characters");
    Err(Refusal::new(Class::Json, object, expected, excerpt(reason)))
}

/// Who made a record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Writer {
    /// The id of a key that signed.
    pub key: KeyId,
    /// The name of the node.
    pub node: String,
    /// The tool and its version.
    pub tool: String,
}

/// One segment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SegmentRef {
    /// The segment's name.
    pub id: Digest,
    /// Its length.
    pub bytes: u64,
}

/// Sixteen random bytes, written as 32 lowercase hex digits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Nonce(pub [u8; 16]);

impl fmt::Debug for Nonce {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&to_hex(&self.0))
    }
}

impl fmt::Display for Nonce {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&to_hex(&self.0))
    }
}

impl Serialize for Nonce {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&to_hex(&self.0))
    }
}

impl<'de> Deserialize<'de> for Nonce {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Nonce, D::Error> {
        let text = String::deserialize(deserializer)?;
        from_hex(&text).map(Nonce).ok_or_else(|| de::Error::custom("not 32 lowercase hex digits"))
    }
}

/// What a record of its kind says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// The first record of a chain.
    Genesis(Genesis),
    /// A state.
    Snapshot(Box<Snapshot>),
    /// A leadership begins.
    Fence(Box<Fence>),
    /// The owner continues from an earlier record.
    Fork(Fork),
    /// An older snapshot counts as the latest.
    Rollback(Rollback),
    /// The archive of a container image.
    Image(Box<Archive>),
    /// A drill or failover began or ended.
    Drill(Drill),
    /// A record without critical features of a kind that this reader does not know.
    Unknown {
        /// The kind, from the payload type.
        kind: String,
    },
}

impl Body {
    /// The kind's name, as it stands in the payload type.
    pub fn kind(&self) -> &str {
        match self {
            Body::Genesis(_) => "genesis",
            Body::Snapshot(_) => "snapshot",
            Body::Fence(_) => "fence",
            Body::Fork(_) => "fork",
            Body::Rollback(_) => "rollback",
            Body::Image(_) => "image",
            Body::Drill(_) => "drill",
            Body::Unknown { kind } => kind,
        }
    }
}

/// The payload type of a kind.
pub fn payload_type(kind: &str) -> String {
    format!("application/vnd.snapkit.{kind}+json")
}

/// The kind in a payload type, or nothing if records cannot have that type.
pub(crate) fn kind_of(payload_type: &str) -> Option<&str> {
    let kind = payload_type.strip_prefix("application/vnd.snapkit.")?.strip_suffix("+json")?;
    let first = kind.as_bytes().first()?.is_ascii_lowercase();
    let rest = kind.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    (first && rest && kind.len() <= 32 && !matches!(kind, "lease" | "pins" | "root")).then_some(kind)
}

/// Makes the payload bytes of a record and returns them with their payload type.
///
/// Equal arguments give equal bytes. Sign them with [`crate::envelope::sign`].
///
/// # Errors
/// What a reader would refuse, and any body of an unknown kind.
pub fn payload(header: &Header, body: &Body) -> Result<(&'static str, Vec<u8>), Refusal> {
    let object = "new record";
    let (payload_type, body_json) = match body {
        Body::Genesis(body) => (genesis::PAYLOAD_TYPE, serde_json::to_string(body)),
        Body::Snapshot(body) => (snapshot::PAYLOAD_TYPE, serde_json::to_string(body)),
        Body::Fence(body) => (fence::PAYLOAD_TYPE, serde_json::to_string(body)),
        Body::Fork(body) => (fork::PAYLOAD_TYPE, serde_json::to_string(body)),
        Body::Rollback(body) => (rollback::PAYLOAD_TYPE, serde_json::to_string(body)),
        Body::Image(body) => (archive::PAYLOAD_TYPE, serde_json::to_string(body)),
        Body::Drill(body) => (drill::PAYLOAD_TYPE, serde_json::to_string(body)),
        Body::Unknown { kind } => {
            return Err(Refusal::new(Class::Type, object, "a kind that can be written", excerpt(kind)));
        }
    };
    let body_json = body_json.expect("a body always encodes");
    let mut text = serde_json::to_string(header).expect("a header always encodes");
    // The body is the last field of the same object.
    text.pop();
    let bytes = format!(r#"{text},"body":{body_json}}}"#).into_bytes();
    let cap = payload_cap(RECORD_CAP);
    let read = Tree::read(&bytes, cap, object).and_then(|tree| parse(tree, payload_type, object))?;
    debug_assert!(read == (header.clone(), body.clone()), "what was written reads back");
    Ok((payload_type, bytes))
}

/// Where a payload says it belongs: its chain and its slot, in every format and kind.
pub(crate) struct Claim {
    pub(crate) chain: Option<Digest>,
    pub(crate) seq: u64,
}

impl Claim {
    pub(crate) fn of(tree: &Tree) -> Option<Claim> {
        let Some(Tree::Positive(seq)) = tree.get("seq") else {
            return None;
        };
        let chain = match tree.get("chain") {
            None => None,
            Some(Tree::Text(text)) => Some(text.parse().ok()?),
            Some(_) => return None,
        };
        Some(Claim { chain, seq: *seq })
    }
}

/// Reads a record from a payload that was verified and whose claim was checked.
pub(crate) fn from_verified(verified: &Verified, tree: Tree, object: &str) -> Result<Record, Refusal> {
    let (header, body) = parse(tree, verified.payload_type(), object)?;
    // Nobody's signature was asked for where the owner keeps a record by its digest.
    let kept = verified.signers().is_empty();
    if !kept && verified.signers().iter().all(|key| key.id() != header.writer.key) {
        return Err(Refusal::new(Class::KeyId, object, "`writer.key` to be a key that signed", header.writer.key));
    }
    Ok(Record { digest: verified.digest(), header, body, signers: verified.signers().to_vec() })
}

/// Gives a payload its meaning and applies the rules that need no neighbour.
fn parse(mut tree: Tree, payload_type: &str, object: &str) -> Result<(Header, Body), Refusal> {
    check_growth(&tree, object)?;
    let body = tree.take("body");
    let body = body.ok_or_else(|| Refusal::new(Class::Json, object, "the field `body`", "none"))?;
    let header: Header = tree.into_typed(object)?;
    let body = match kind_of(payload_type) {
        Some("genesis") => Body::Genesis(body.into_typed(object)?),
        Some("snapshot") => Body::Snapshot(Box::new(body.into_typed(object)?)),
        Some("fence") => Body::Fence(Box::new(body.into_typed(object)?)),
        Some("fork") => Body::Fork(body.into_typed(object)?),
        Some("rollback") => Body::Rollback(body.into_typed(object)?),
        Some("image") => Body::Image(Box::new(body.into_typed(object)?)),
        Some("drill") => Body::Drill(body.into_typed(object)?),
        Some(kind) => Body::Unknown { kind: kind.into() },
        None => {
            return Err(Refusal::new(Class::Type, object, "a kind of record", excerpt(payload_type)));
        }
    };
    check_header(&header, &body, object)?;
    match &body {
        Body::Genesis(body) => body.check(object)?,
        Body::Snapshot(body) => body.check(object)?,
        Body::Fork(body) => body.check(header.seq, object)?,
        Body::Rollback(body) => body.check(header.seq, object)?,
        Body::Image(body) => body.check(object)?,
        Body::Drill(body) => body.check(header.seq, object)?,
        // Its claim is verified with the root, in the chain.
        Body::Fence(_) | Body::Unknown { .. } => {}
    }
    Ok((header, body))
}

fn check_header(header: &Header, body: &Body, object: &str) -> Result<(), Refusal> {
    let refuse = |class, expected: &str, found: String| Err(Refusal::new(class, object, expected, found));
    check_critical(&header.critical, object)?;
    fence::check_header(header, body, object)?;
    let is_fork = matches!(body, Body::Fork(_));
    let begun = match header.fork {
        None => header.epoch == 0 && !is_fork,
        Some(fork) => header.epoch > 0 && (fork == header.seq) == is_fork && fork <= header.seq,
    };
    if !begun {
        let found = format!("epoch {} and fork {:?}", header.epoch, header.fork);
        return refuse(Class::Inconsistent, "epoch 0, or `fork` with the slot that began the epoch", found);
    }
    if is_fork && (!header.void.is_empty() || header.segments.is_some()) {
        return refuse(Class::Json, "a fork without void slots and segments", "one of them".into());
    }
    let is_genesis = matches!(body, Body::Genesis(_));
    if is_genesis != (header.seq == 0) {
        return refuse(
            Class::Seq,
            "genesis in slot 0 and nothing else there",
            format!("{} in slot {}", body.kind(), header.seq),
        );
    }
    if is_genesis && (header.chain.is_some() || header.previous.is_some() || header.segments.is_some()) {
        return refuse(Class::Json, "genesis without chain, previous and segments", "one of them".into());
    }
    if !is_genesis && (header.chain.is_none() || header.previous.is_none()) {
        return refuse(Class::Json, "the fields `chain` and `previous`", "one of them missing".into());
    }
    if header.void.len() > VOIDS_CAP {
        return refuse(Class::TooMany, "at most 64 void slots in a row", header.void.len().to_string());
    }
    let log = &header.log;
    let frontier = Frontier::from_parts(log.size, log.frontier.clone());
    if log.size != header.seq || frontier.is_none_or(|frontier| frontier.root() != log.root) {
        let expected = format!("a log of {} slots whose root follows from its frontier", header.seq);
        return refuse(Class::Inconsistent, &expected, format!("size {} and root {}", log.size, log.root));
    }
    for (field, text) in [("writer.node", &header.writer.node), ("writer.tool", &header.writer.tool)] {
        if text.is_empty() || text.len() > WRITER_TEXT_CAP || text.chars().any(char::is_control) {
            let expected = format!("`{field}` of 1 to {WRITER_TEXT_CAP} bytes without control characters");
            return refuse(Class::Json, &expected, excerpt(text));
        }
    }
    let segments = header.segments.as_deref().unwrap_or_default();
    if segments.len() > SEGMENTS_CAP {
        return refuse(Class::TooMany, "at most 1024 segments", segments.len().to_string());
    }
    if segments.iter().map(|segment| segment.id).collect::<HashSet<_>>().len() < segments.len() {
        return refuse(Class::Json, "each segment once", "one of them twice".into());
    }
    Ok(())
}

impl Header {
    /// The header of a genesis record.
    pub fn genesis(time: Timestamp, nonce: Nonce, writer: Writer) -> Header {
        Header {
            format: FORMAT.into(),
            chain: None,
            epoch: 0,
            fork: None,
            seq: 0,
            previous: None,
            term: 0,
            fence: None,
            nonce,
            time,
            log: LogState::from(&Frontier::default()),
            void: Vec::new(),
            writer,
            segments: None,
            critical: None,
            ext: Map::new(),
        }
    }
}

#[cfg(test)]
mod tests;
