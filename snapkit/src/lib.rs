//! The snapkit engine: directories in, a signed chain of snapshots in an object store, and back.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod cancel;
pub mod config;
pub mod keyfile;
pub mod progress;
pub mod store;
