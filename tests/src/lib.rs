//! The harness of the end-to-end tests.
//!
//! A [`Machine`] is a directory with a home, a cache and a working directory of its own, in which
//! the real `snapkit` runs with an empty environment. [`every_kind`] builds trees, [`compare`] lets
//! tools that are not ours say whether two trees are the same. Stories are in `tests/tests/`, one
//! file each; how to run them: `docs/testing.md`.

#![allow(clippy::unwrap_used)]

pub mod attack;
pub mod binary;
pub mod browser;
pub mod clock;
pub mod compare;
pub mod disk;
pub mod drill;
pub mod engine;
pub mod every_kind;
pub mod evidence;
pub mod fleet;
pub mod fuzz;
pub mod gate;
pub mod group;
pub mod image;
pub mod issuer;
pub mod kept;
pub mod kill;
pub mod machine;
pub mod numbers;
pub mod python;
pub mod scene;

pub use every_kind::EveryKind;
pub use issuer::Issuer;
pub use machine::{Machine, Run};
pub use numbers::Numbers;

/// Whether the tests run as root, who alone may make devices and give files away.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
