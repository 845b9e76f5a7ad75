//! Fuzz targets: every parser of bytes that come from a store, a network or another hand, given any bytes at all.
//!
//! A target takes bytes, gives them to a parser as a hostile store or a holder of a stolen key would, and holds what is
//! accepted to the rules of its format; it panics when one is broken. Hashes and signatures are made right first, because
//! who attacks a parser behind them has them right. The same functions run under `cargo fuzz` (`tests/fuzz/`) and, over
//! the examples and everything that was ever found, in `tests/tests/fuzz_corpus.rs`. How to run them: `docs/testing.md`.
//! Layer: harness; calls the public functions of the libraries alone.

mod data;
mod documents;
mod images;
mod log;
mod manifest;
mod seeds;
mod text;

use std::fs::File;
use std::io::{Seek, Write};

pub use seeds::seeds;

/// One parser.
pub struct Target {
    /// Its name: that of the binary in `tests/fuzz/fuzz_targets/` and of the directory in `testdata/fuzz/`.
    pub name: &'static str,
    /// Gives it these bytes.
    pub run: fn(&[u8]),
}

/// All of them.
pub const TARGETS: &[Target] = &[
    Target { name: "bootstrap", run: text::bootstrap },
    Target { name: "checkpoint", run: log::checkpoint },
    Target { name: "config", run: text::config },
    Target { name: "edge", run: log::edge },
    Target { name: "entries", run: data::entries },
    Target { name: "envelope", run: documents::envelope },
    Target { name: "fork_proof", run: documents::fork_proof },
    Target { name: "image_archive", run: images::archive },
    Target { name: "image_document", run: images::document },
    Target { name: "key", run: text::key },
    Target { name: "lease", run: documents::lease },
    Target { name: "manifest", run: manifest::manifest },
    Target { name: "pack", run: data::pack },
    Target { name: "pins", run: manifest::pins },
    Target { name: "receipt", run: documents::receipt },
    Target { name: "record", run: documents::record },
    Target { name: "root", run: documents::root },
    Target { name: "segment", run: data::segment },
    Target { name: "tree", run: data::tree },
];

/// A file of these bytes that is only in memory.
fn in_memory(bytes: &[u8]) -> File {
    let mut file = File::from(rustix::fs::memfd_create("input", rustix::fs::MemfdFlags::CLOEXEC).unwrap());
    file.write_all(bytes).unwrap();
    file.rewind().unwrap();
    file
}

/// The target with this name.
pub fn target(name: &str) -> &'static Target {
    TARGETS.iter().find(|target| target.name == name).expect("a target of that name")
}
