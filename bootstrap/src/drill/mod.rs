//! Drills: a failure on purpose, measured by others than those who act, on real nodes.
//!
//! What measures is apart from what acts: [`prober`] and [`sentinel`] are processes of their own with keys of their own, and
//! write raw series that are judged later, by whoever wants to. [`fault`] breaks something on a node and says when, by the
//! clock of that node. [`demo`] plays everything on one machine, with [`service`] and [`ingress`] as what it is played with.
//! Documented in `docs/drills.md`. Layer: the edge; what a series proves is decided by `evidence`.

pub mod act;
pub mod conduct;
pub mod deeds;
pub mod demo;
pub mod facts;
pub mod fault;
pub mod frame;
pub mod http;
pub mod ingress;
pub mod keeper;
pub mod preflight;
pub mod prober;
pub mod sentinel;
pub mod series;
pub mod service;
