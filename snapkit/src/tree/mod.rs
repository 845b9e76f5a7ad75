//! Trees: a sorted stream of entries, cut into leaves, with an index over the leaves.
//!
//! Documented in `docs/format/tree.md`. Layer: formats joined with a sink or a source of chunks; no store.

mod build;
mod read;

pub use build::{ChunkSink, Leaves, TreeBuilder, TreeRoot, store_refs, write_indexes};
pub use read::{Ahead, ChunkSource, TreeError, TreeReader};
