//! The rules of the checks that follow from the files of a bundle: what each looks at, and when it holds.
//!
//! A rule says nothing when the bundle has nothing to say it with; then the check is only somebody's word, or unproven.
//! What a rule rests on decides what its answer is worth: documents that others [signed](signed), series that were
//! [measured](measured) under keys that the chain was told beforehand, or what the program that ran it [told](told) of
//! itself. The list is in `docs/evidence.md`, "Checks". Layer: pure.

mod measured;
mod signed;
mod told;

use super::event::Claim;
use super::recompute::Run;
use super::result::{Measured, Step};
use super::series::Series;

/// What a rule found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    pub holds: bool,
    pub observed: String,
    pub expected: String,
    pub source: String,
    /// What it rests on.
    pub claim: Claim,
}

fn found(holds: bool, observed: impl Into<String>, expected: impl Into<String>, source: impl Into<String>) -> Found {
    Found { holds, observed: observed.into(), expected: expected.into(), source: source.into(), claim: Claim::Proven }
}

impl Found {
    /// The same, where it rests on no more than this.
    fn at_most(self, claim: Claim) -> Found {
        Found { claim: self.claim.max(claim), ..self }
    }
}

/// Judges a check by what the bundle holds; nothing where it holds nothing that speaks of it.
pub(super) fn judge(id: &str, run: &Run<'_>, measured: &Measured, steps: &[Step]) -> Option<Found> {
    let by_series = |found: Option<Found>| {
        // Keys that the chain was not told could have been made when it was sealed.
        found.map(|found| if run.begun.is_some() { found } else { found.at_most(Claim::Asserted) })
    };
    let by_word = |found: Option<Found>| found.map(|found| found.at_most(Claim::Asserted));
    match id {
        "probers-alive" => by_series(Some(measured::probers_alive(run))),
        "sentinel" => by_series(Some(measured::sentinel(run))),
        "rto" => by_series(Some(measured::rto(run, measured))),
        "rpo" => by_series(Some(measured::rpo(run, measured))),
        "one-leader" => by_series(measured::one_leader(run)),
        "clock-steady" => by_series(Some(measured::clock_steady(run))),
        "traffic-at-holder" => by_series(measured::traffic_at_holder(run)),
        "takeover" => by_series(measured::takeover(run)),
        "baseline" => by_series(measured::baseline(run)),
        "old-leader-down" => by_series(measured::old_leader_down(run)),
        "signatures" => signed::signatures(run),
        "manifest-fresh" => signed::manifest_fresh(run),
        "lease-flips" => signed::lease_flips(run),
        "follower-from-manifest" => signed::follower_from_manifest(run),
        "cold-restore" => signed::cold_restore(run),
        "restored-equals-manifest" => signed::restored_equals_manifest(run),
        "timeboxes" => by_word(Some(told::timeboxes(run, steps))),
        "teardown" => by_word(Some(told::teardown(run))),
        "tool-unchanged" => by_word(Some(told::tool_unchanged(run))),
        "health-after" => by_word(told::health_after(run)),
        "debts-closed" => by_word(told::debts_closed(run)),
        "no-skips" => by_word(Some(told::no_skips(run, steps))),
        "after-action" => by_word(Some(told::after_action(run))),
        _ => None,
    }
}

/// The files of these series.
fn sources<'s>(series: impl Iterator<Item = &'s Series>) -> String {
    series.map(|series| series.file.as_str()).collect::<Vec<_>>().join(" ")
}
