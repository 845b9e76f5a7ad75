//! The body of a genesis record: the root it starts from, where chunks are cut, how data is protected.
//!
//! Its payload's digest is the chain's id. Documented in `docs/format/record.md`. Layer: pure.

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::keys::excerpt;
use crate::refusal::{Class, Refusal};

/// The payload type.
pub const PAYLOAD_TYPE: &str = "application/vnd.snapkit.genesis+json";

/// What holds for the whole chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Genesis {
    /// SHA-256 of the payload of `root/1.json`.
    pub root: Digest,
    /// Where file content is cut.
    pub cutter: Cutter,
    /// How chunks are named and encrypted.
    pub protection: Protection,
}

/// The chunker and its limits in bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cutter {
    /// Always `fastcdc-2020`.
    pub name: String,
    /// No chunk is shorter, except the last of a file.
    pub min: u64,
    /// The length aimed at.
    pub average: u64,
    /// No chunk is longer.
    pub max: u64,
}

/// How data is named and protected; other values than these need a newer reader.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Protection {
    /// Always `blake3`.
    pub chunk_name: String,
    /// Always `none`.
    pub cutter_seed: String,
    /// Always `none`.
    pub cipher: String,
    /// Always `none`.
    pub keys: String,
}

impl Default for Protection {
    fn default() -> Protection {
        Protection {
            chunk_name: "blake3".into(),
            cutter_seed: "none".into(),
            cipher: "none".into(),
            keys: "none".into(),
        }
    }
}

impl Genesis {
    pub(super) fn check(&self, object: &str) -> Result<(), Refusal> {
        let known = Protection::default();
        let Protection { chunk_name, cutter_seed, cipher, keys } = &self.protection;
        for (field, value, known) in [
            ("the cutter", &self.cutter.name, "fastcdc-2020"),
            ("protection.chunk_name", chunk_name, &known.chunk_name),
            ("protection.cutter_seed", cutter_seed, &known.cutter_seed),
            ("protection.cipher", cipher, &known.cipher),
            ("protection.keys", keys, &known.keys),
        ] {
            if value != known {
                let expected = format!("{field} to be {known}");
                return Err(Refusal::new(Class::Newer, object, expected, excerpt(value)));
            }
        }
        let Cutter { min, average, max, .. } = self.cutter;
        if min == 0 || min > average || average > max {
            let found = format!("{min}, {average} and {max}");
            return Err(Refusal::new(Class::Json, object, "cutter limits with 0 < min <= average <= max", found));
        }
        Ok(())
    }
}
