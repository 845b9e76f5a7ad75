//! Evidence: what a drill or a failover left behind, so that a stranger can check it without trusting whoever ran it.
//!
//! A run writes a [run directory](run_dir): its plan, a [`timeline`] whose lines are chained by hash, and raw [`series`]
//! that probers sign with keys of their own. Documented in `docs/evidence.md` and `docs/format/bundle.md`.
//! Layer: the files are the edge; everything that judges is pure.

pub mod event;
pub mod facts;
pub mod run_dir;
pub mod series;
pub mod timeline;
