//! Scanning: what a directory holds now, and what of it need not be read again.
//!
//! Layer: file systems in, entries out; knows no store.

pub mod cache;
pub mod exclude;
pub mod inspect;
pub mod metadata;
pub mod walk;
