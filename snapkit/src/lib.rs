//! The snapkit engine: directories in, a signed chain of snapshots in an object store, and back.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod store;
