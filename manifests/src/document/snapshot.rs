//! The body of a snapshot record: what was captured, and where to find it.
//!
//! The public part has counts and objects, so that a store can be checked and cleaned without knowing
//! paths; the private part has the rest. Documented in `docs/format/record.md`. Layer: pure.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{is_name, time};
use crate::digest::Digest;
use crate::keys::excerpt;
use crate::refusal::{Class, Refusal};

/// The payload type.
pub const PAYLOAD_TYPE: &str = "application/vnd.snapkit.snapshot+json";
/// The most trees one snapshot has.
pub const TREES_CAP: usize = 64;

/// One state: 1 to 64 trees captured together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Snapshot {
    /// Counts and objects.
    pub public: Public,
    /// Names, paths and digests.
    pub private: Private,
}

/// What may be known without access to the data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Public {
    /// Whether everything asked for was captured.
    pub complete: bool,
    /// The number of trees.
    pub trees: u64,
    /// The number of entries in all trees.
    pub entries: u64,
    /// How many of them are regular files.
    pub files: u64,
    /// The sum of their lengths.
    pub bytes: u64,
    /// How many files changed while they were read.
    pub torn: u64,
    /// How many entries could not be read.
    pub unreadable: u64,
    /// The packs this snapshot needs.
    pub packs: Packs,
}

/// Every pack that a restore of the snapshot may read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Packs {
    /// The number of packs.
    pub count: u64,
    /// The sum of their lengths.
    pub bytes: u64,
    /// Chunks that hold the list of all packs but the last ones.
    pub list: Vec<ChunkRef>,
    /// The packs this run wrote trees into; they cannot be in a list stored inside them.
    pub last: Vec<PackRef>,
}

/// One pack.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PackRef {
    /// The pack's name.
    pub id: Digest,
    /// Its length.
    pub bytes: u64,
    /// The length of its table with the footer.
    pub table_bytes: u64,
}

/// Where a stored chunk lies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChunkRef {
    /// The chunk's name: BLAKE3 of its raw bytes.
    pub chunk: Digest,
    /// Its raw length.
    pub bytes: u64,
    /// The pack it lies in.
    pub pack: Digest,
    /// That pack's length.
    pub pack_bytes: u64,
    /// The length of that pack's table with the footer.
    pub table_bytes: u64,
    /// The number of the frame in the pack.
    pub frame: u64,
    /// Where it begins within the decoded frame.
    pub offset: u64,
}

/// What only those with access to the data may know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Private {
    /// When reading began.
    #[serde(with = "time")]
    pub started: Timestamp,
    /// When reading ended.
    #[serde(with = "time")]
    pub finished: Timestamp,
    /// The digest of names and content of all trees.
    pub content_digest: Digest,
    /// The digest of all trees with all metadata.
    pub full_digest: Digest,
    /// The trees, by ascending name.
    pub trees: Vec<Tree>,
}

/// One named state directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tree {
    /// 1 to 64 of `[a-z0-9._-]`, the first a letter or digit.
    pub name: String,
    /// Where it was captured: UTF-8; other bytes, and `%`, as `%XX`.
    pub path: String,
    /// The digest of names and content.
    pub content_digest: Digest,
    /// The digest with all metadata.
    pub full_digest: Digest,
    /// The number of entries.
    pub entries: u64,
    /// How many of them are regular files.
    pub files: u64,
    /// The sum of their lengths.
    pub bytes: u64,
    /// The root of the tree's entry stream.
    pub index: ChunkRef,
}

impl Snapshot {
    pub(super) fn check(&self, object: &str) -> Result<(), Refusal> {
        let trees = &self.private.trees;
        let refuse = |class, expected: &str, found: String| Err(Refusal::new(class, object, expected, found));
        if trees.len() > TREES_CAP {
            return refuse(Class::TooMany, "at most 64 trees", trees.len().to_string());
        }
        if trees.is_empty() {
            return refuse(Class::Json, "1 to 64 trees", "none".into());
        }
        if let Some(tree) = trees.iter().find(|tree| !is_name(&tree.name)) {
            return refuse(Class::Json, "a tree name of 1 to 64 of [a-z0-9._-]", excerpt(&tree.name));
        }
        if !trees.is_sorted_by(|a, b| a.name < b.name) {
            return refuse(Class::Json, "trees by ascending name, each once", "another order".into());
        }
        let sum = |count: fn(&Tree) -> u64| trees.iter().map(count).fold(0, u64::saturating_add);
        for (field, counted, listed) in [
            ("trees", self.public.trees, trees.len() as u64),
            ("entries", self.public.entries, sum(|tree| tree.entries)),
            ("files", self.public.files, sum(|tree| tree.files)),
            ("bytes", self.public.bytes, sum(|tree| tree.bytes)),
        ] {
            if counted != listed {
                let expected = format!("public.{field} to be the sum over the trees, {listed}");
                return refuse(Class::Json, &expected, counted.to_string());
            }
        }
        Ok(())
    }
}
