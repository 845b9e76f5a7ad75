//! The signed documents of a snapkit chain: bytes in, verified values out.
//!
//! This crate opens no file and no socket, reads no clock and makes no random number; all of that is an
//! argument. What it returns was verified, and what it refuses has a name and an exit code.
//!
//! # The story of one verification
//!
//! 1. The caller brings a pin, the digest of `root/1.json`, from the bootstrap string or its own disk.
//!    [`document::root::Root::parse_first`] accepts that root and no other.
//! 2. Newer roots follow one by one: [`document::root::Root::parse_next`] asks for the signatures of both
//!    sides. Only the newest is asked for its expiry, with [`document::root::Root::check_expiry`].
//! 3. Slot 0 is read with [`chain::first`], each further slot with [`chain::step`]. For each, the envelope
//!    ([`envelope`]) is decoded once; the signatures over its exact bytes ([`pae`]) are checked against the
//!    keys of the root ([`keys`]); only then is the payload parsed, strictly ([`json`]).
//! 4. The record must follow from what was seen: chain, number, previous record, void slots and the log
//!    over all slots ([`log`]). The [`chain::Head`] it gives is where the next slot, or the next writer,
//!    goes on.
//!
//! Writing is the same in reverse: [`chain::Head::next_header`], [`document::record::payload`],
//! [`envelope::sign`].
//!
//! # Contents
//!
//! - [`refusal`]: every reason to refuse, with name and exit code, and all other exit codes
//! - [`digest`], [`json`], [`pae`]: the small parts
//! - [`keys`]: ids, file forms, signing; [`envelope`]: the only function that verifies
//! - [`document`]: root, record, genesis, snapshot, receipt, pins, manifest; [`log`] and [`chain`]: what joins records
//! - [`freshness`]: whether a manifest still holds; [`lease`]: what joins the entries of a lease log
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod chain;
pub mod digest;
pub mod document;
pub mod envelope;
#[cfg(test)]
mod fixture;
pub mod freshness;
pub mod json;
pub mod keys;
pub mod lease;
pub mod log;
pub mod pae;
pub mod refusal;
#[cfg(test)]
mod testdata;
