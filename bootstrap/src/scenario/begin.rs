//! The first event of a run: what it is, by whom, on which chain, and with which program.
//!
//! Layer: reads this program, and writes one event.

use std::fs;
use std::io;

use manifests::digest::Digest;

use super::execute::Journal;
use super::plan::Plan;
use crate::driver::THIS_PROGRAM;
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
        tool: Program {
            name: "bootstrap".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            sha256: Digest::sha256(&fs::read(THIS_PROGRAM)?),
        },
    };
    journal.add(Actor::Tool, None, What::Begin(Box::new(begin)))
}
