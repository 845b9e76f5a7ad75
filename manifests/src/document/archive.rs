//! The body of an image record: which container image it is, and where in the store its archive lies.
//!
//! The archive is an OCI image layout with uncompressed layers, captured like any other tree, so that the next version
//! of an image shares what did not change. Documented in `docs/format/record.md`. Layer: pure.

use serde::{Deserialize, Serialize};

use super::image::ImagePin;
use super::snapshot::Snapshot;
use crate::refusal::{Class, Refusal};

/// The payload type.
pub const PAYLOAD_TYPE: &str = "application/vnd.snapkit.image+json";
/// The name of the one tree.
pub const TREE: &str = "image";

/// An image's archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Archive {
    /// The image; its `archive` is absent, because the record cannot name itself.
    pub image: ImagePin,
    /// The tree [`TREE`] with the layout, in the form of a snapshot.
    pub state: Snapshot,
}

impl Archive {
    pub(super) fn check(&self, object: &str) -> Result<(), Refusal> {
        self.image.check(object)?;
        let refuse = |expected: &str, found: &str| Err(Refusal::new(Class::Json, object, expected, found));
        if self.image.archive.is_some() {
            return refuse("an image without `archive`", "one");
        }
        self.state.check(object)?;
        if self.state.private.trees.len() != 1 || self.state.private.trees[0].name != TREE {
            return refuse("one tree named `image`", "others");
        }
        if !self.state.public.complete || self.state.public.torn + self.state.public.unreadable > 0 {
            return refuse("a complete tree", "one with gaps");
        }
        Ok(())
    }
}
