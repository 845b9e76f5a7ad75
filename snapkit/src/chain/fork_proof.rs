//! Fork proofs: two signed records that cannot be in one chain, in a file that anybody can check.
//!
//! Documented in `docs/format/fork-proof.md`. Layer: checking is pure; a chain writes what it comes upon into the trust directory.

use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use manifests::chain::{self, Head};
use manifests::digest::Digest;
use manifests::document::record::{RECORD_CAP, Record};
use manifests::document::root::{ROOT_CAP, Root, STEPS_CAP};
use manifests::json;
use manifests::refusal::{Class, Refusal};
use serde::{Deserialize, Serialize};

use super::{Chain, ChainError};

/// The largest fork proof in bytes.
pub const FORK_PROOF_CAP: usize = 24 << 20;
/// What stands in `format`.
const FORMAT: &str = "snapkit fork proof 0-draft";
const OBJECT: &str = "fork proof";

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    format: String,
    roots: Vec<String>,
    records: Vec<String>,
}

/// A proof that holds.
#[derive(Debug, Clone)]
pub struct ForkProof {
    /// The chain that was continued in two ways.
    pub chain: Digest,
    /// The digest of its first root.
    pub root: Digest,
    /// The two records, the one of the lower slot first.
    pub records: [Record; 2],
    /// How they contradict each other, as the end of a sentence.
    pub contradiction: String,
}

impl Chain<'_> {
    /// Writes two slots down as proof that the chain is split, and names the file.
    ///
    /// # Errors
    /// What makes them no proof; [`crate::trust::TrustError::Write`].
    pub(super) fn keep_fork_proof(&self, slots: [&[u8]; 2]) -> Result<PathBuf, ChainError> {
        let mut roots = Vec::new();
        for version in 1..=self.root.version() {
            let kept = self.trust.read_root(&self.pin.root, version)?;
            // Only the first root may not have been kept yet.
            roots.extend(kept.or_else(|| self.first_root.as_ref().map(|bytes| bytes.to_vec())));
        }
        let bytes = encode(&roots, slots);
        let proof = check(&bytes, &self.pin.root)?;
        Ok(self.trust.keep_fork_proof(&self.pin.root, proof.records[0].header.seq, &bytes)?)
    }
}

/// Puts the roots, from the first on, and two slots into the form of a file.
fn encode(roots: &[Vec<u8>], records: [&[u8]; 2]) -> Vec<u8> {
    let encoded = |bytes: &[u8]| STANDARD.encode(bytes);
    let wire = Wire {
        format: FORMAT.to_owned(),
        roots: roots.iter().map(|root| encoded(root)).collect(),
        records: records.into_iter().map(encoded).collect(),
    };
    let mut text = serde_json::to_vec(&wire).expect("strings always encode");
    text.push(b'\n');
    text
}

/// The digest that the first root of a proof has; only to be shown to somebody who compares it.
pub fn claimed_root(bytes: &[u8]) -> Option<Digest> {
    let wire: Wire = json::read(bytes, FORK_PROOF_CAP, OBJECT).ok()?;
    let root = decode(wire.roots.first()?, ROOT_CAP).ok()?;
    match Root::parse_first(&root, &Digest([0; 32])) {
        Err(refusal) if refusal.class() == Class::RootPin => refusal.found().strip_prefix("sha256:")?.parse().ok(),
        _ => None,
    }
}

/// Checks a proof with nothing but the digest of the first root.
///
/// # Errors
/// What a root or a record is refused for; [`Class::Proof`] for two records that can be in one chain.
pub fn check(bytes: &[u8], pin: &Digest) -> Result<ForkProof, Refusal> {
    let wire: Wire = json::read(bytes, FORK_PROOF_CAP, OBJECT)?;
    if wire.format != FORMAT {
        return Err(Refusal::new(Class::Newer, OBJECT, format!("format `{FORMAT}`"), "another"));
    }
    if wire.roots.is_empty() || wire.roots.len() > 1 + STEPS_CAP as usize {
        let expected = format!("1 to {} roots", 1 + STEPS_CAP);
        return Err(Refusal::new(Class::TooMany, OBJECT, expected, wire.roots.len()));
    }
    let mut root = Root::parse_first(&decode(&wire.roots[0], ROOT_CAP)?, pin)?;
    for next in &wire.roots[1..] {
        root = root.parse_next(&decode(next, ROOT_CAP)?)?;
    }
    let [first, second] = wire.records.as_slice() else {
        return Err(Refusal::new(Class::Proof, OBJECT, "two records", wire.records.len()));
    };
    let mut sides = [alone(&decode(first, RECORD_CAP)?, &root)?, alone(&decode(second, RECORD_CAP)?, &root)?];
    sides.sort_by_key(|(record, _)| record.header.seq);
    let contradiction = contradict(&sides)?;
    let [(first, head), (second, _)] = sides;
    Ok(ForkProof { chain: head.chain, root: *pin, records: [first, second], contradiction })
}

/// A record where it says itself that it belongs.
fn alone(bytes: &[u8], root: &Root) -> Result<(Record, Head), Refusal> {
    let (chain, seq) = chain::claimed_place(bytes, OBJECT)?;
    chain::trusted(bytes, &chain, seq, root)
}

fn contradict(sides: &[(Record, Head); 2]) -> Result<String, Refusal> {
    let [(first, one), (second, other)] = sides;
    let refuse = |expected: &str, found: String| Err(Refusal::new(Class::Proof, OBJECT, expected, found));
    if one.chain != other.chain {
        return refuse("two records of one chain", format!("chains {} and {}", one.chain, other.chain));
    }
    if one.epoch != other.epoch {
        return refuse("two records of one epoch", format!("epochs {} and {}", one.epoch, other.epoch));
    }
    if first.digest == second.digest {
        return refuse("two different records", format!("{} twice", first.digest));
    }
    let (low, high) = (first.header.seq, second.header.seq);
    if low == high {
        return Ok(format!("both are signed for slot {low}"));
    }
    match second.header.previous {
        Some(previous) if super::previous_seq(second) == Some(low) && previous != first.digest => {
            Ok(format!("record {high} follows another record {low}, {previous}"))
        }
        _ => refuse("two records that cannot be in one chain", format!("records {low} and {high}, which can")),
    }
}

fn decode(text: &str, cap: usize) -> Result<Vec<u8>, Refusal> {
    let bytes = STANDARD.decode(text).map_err(|_| Refusal::new(Class::Json, OBJECT, "padded base64", "other text"))?;
    if bytes.len() > cap {
        return Err(Refusal::new(Class::TooBig, OBJECT, format!("parts of at most {cap} bytes"), bytes.len()));
    }
    Ok(bytes)
}
