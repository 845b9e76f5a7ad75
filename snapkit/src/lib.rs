//! The snapkit engine: directories in, a signed chain of snapshots in an object store, and back.
#![cfg_attr(test, allow(clippy::unwrap_used))]

#[cfg(windows)]
compile_error!("snapkit does not support Windows: it has neither its permissions nor its renames");

// The command line speaks of the engine by its name, as any other user of it does.
extern crate self as snapkit;

pub mod backup;
pub mod browse;
pub mod cancel;
pub mod chain;
pub mod chunk;
pub mod cli;
pub mod config;
pub mod diff;
pub mod digest;
pub mod drills;
pub mod entry;
pub mod fetch;
pub mod id;
pub mod image;
pub mod init;
pub mod keyfile;
pub mod leadership;
pub mod located;
pub mod manifest;
pub mod node;
pub mod pack;
pub mod parallel;
pub mod progress;
pub mod receipt;
pub mod restore;
pub mod root;
pub mod scan;
pub mod segment;
pub mod selector;
pub mod signer;
pub mod snapshot;
pub mod sorter;
pub mod span;
pub mod store;
pub mod terminal;
pub mod tree;
pub mod trust;
pub mod verify;
