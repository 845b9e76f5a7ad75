//! The first event of a run: what it is, by whom, on which chain, and with which program.
//!
//! Layer: reads this program, and writes one event.

use std::io;

use manifests::digest::Digest;
use snapkit::receipt::program_sha256;

use super::execute::Journal;
use super::plan::Plan;
use crate::evidence::event::{Actor, Begin, Program, What};

/// Writes it. Where the chain could not be read, `chain` is zeroes, and no evidence is worth anything.
///
/// # Errors
/// When this program or the timeline cannot be read or written.
pub fn write(plan: &Plan, root: Digest, chain: Digest, journal: &mut dyn Journal) -> io::Result<()> {
    let begin = Begin {
        id: plan.id.clone(),
        run: plan.kind.clone(),
        scenario: plan.scenario.clone(),
        mode: plan.mode,
        group: plan.group.clone(),
        challenge: plan.challenge.clone().unwrap_or_default(),
        plan: plan.digest(),
        root,
        chain,
        operator: plan.actor.clone(),
        approver: String::new(),
        reason: plan.reason.clone(),
        tool: this_program()?,
    };
    journal.add(Actor::Tool, None, What::Begin(Box::new(begin)))
}

/// This program, as it runs.
///
/// # Errors
/// When its file cannot be read.
pub(crate) fn this_program() -> io::Result<Program> {
    let version = env!("CARGO_PKG_VERSION").to_owned();
    Ok(Program { name: "bootstrap".to_owned(), version, sha256: program_sha256()? })
}
