//! The record with which a run began, held against what a bundle tells of the run.
//!
//! It was put into the chain before anything was done, by whoever led then: which run, by which plan, for which challenge,
//! and under which keys it would be measured. What is sealed afterwards cannot be another run's, and its series cannot be
//! made anew. Documented in `docs/evidence.md`, "Whom one has to believe". Layer: pure.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use manifests::document::drill::{Begun, Drill, Prober};
use manifests::document::record::{Body, Pointer};

use super::documents::Documents;
use super::event::{Mode, What};
use super::facts::PlanFacts;
use super::timeline::Event;

/// How far the clocks of machines may be apart where times of two of them are compared.
pub(super) const APART: SignedDuration = SignedDuration::from_mins(5);

/// A record that says that this run began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Anchor {
    /// Where it is.
    pub place: Pointer,
    /// When it was made, by the clock of whoever led.
    pub time: Timestamp,
}

/// Whether a run of this plan shows nothing without such a record: a leader was there that could write it. One that requires
/// nothing, as a way back does, shows nothing anyhow.
pub(super) fn is_needed(plan: &PlanFacts) -> bool {
    let built_in = matches!(
        (plan.kind.as_str(), plan.scenario.as_str()),
        ("drill", "full") | ("failover", "planned" | "switchback")
    );
    // A leader that is lost writes nothing.
    let lost = (plan.kind.as_str(), plan.scenario.as_str()) == ("failover", "emergency");
    let shows = plan.checks.iter().any(|check| check.required);
    plan.mode == Mode::Execute && shows && (built_in || plan.old_leader.is_some() && !lost)
}

/// The record, where the timeline names one.
///
/// # Errors
/// Why it is not that of this run.
pub(super) fn find(plan: &PlanFacts, events: &[Event], documents: &Documents) -> Result<Option<Anchor>, String> {
    let told = |event: &'_ Event| match &event.what {
        What::Recorded { phase, seq, digest } if phase == "begun" => {
            Some((Pointer { seq: *seq, digest: *digest }, event.wall))
        }
        _ => None,
    };
    let mut all = events.iter().filter_map(told);
    let Some((place, told_at)) = all.next() else {
        return match is_needed(plan) {
            true => Err("no record of the chain says that it began".to_owned()),
            false => Ok(None),
        };
    };
    if all.any(|(other, _)| other != place) {
        return Err("it names two records with which it began".to_owned());
    }
    let record =
        documents.records.iter().find(|record| record.digest == place.digest && record.header.seq == place.seq);
    let Some(record) = record else {
        return Err(format!("record {} of the chain, with which it began, is not in the bundle", place.seq));
    };
    let Body::Drill(Drill::Begun(begun)) = &record.body else {
        return Err(format!("record {} does not say that a run began", place.seq));
    };
    same(begun, plan, events).map_err(|why| format!("record {} is of another run: {why}", place.seq))?;
    let time = record.header.time;
    if events[0].wall.duration_since(time) > APART || time.duration_since(told_at) > APART {
        return Err(format!("record {} is of {time}, and the run began at {}", place.seq, events[0].wall));
    }
    Ok(Some(Anchor { place, time }))
}

/// What the record says is what plan and timeline say.
fn same(begun: &Begun, plan: &PlanFacts, events: &[Event]) -> Result<(), String> {
    let challenge = plan.challenge.clone().unwrap_or_default();
    let recorded = begun.challenge.clone().unwrap_or_default();
    let words = [
        ("id", &begun.id, &plan.id),
        ("kind", &begun.kind, &plan.kind),
        ("scenario", &begun.scenario, &plan.scenario),
        ("mode", &begun.mode, &plan.mode.word().to_owned()),
        ("plan", &begun.plan.to_string(), &plan.plan_sha256.to_string()),
        ("challenge", &recorded, &challenge),
    ];
    for (field, recorded, told) in words {
        if recorded != told {
            return Err(format!("its {field} is `{recorded}`, not `{told}`"));
        }
    }
    let recorded: BTreeSet<&Prober> = begun.probers.iter().collect();
    let announced = announced(events);
    let announced: BTreeSet<&Prober> = announced.iter().collect();
    match recorded.symmetric_difference(&announced).next() {
        Some(one) => Err(format!("the prober {} of the timeline is not one that it names", one.name)),
        None => Ok(()),
    }
}

/// Who measures, as the timeline was told.
pub(super) fn announced(events: &[Event]) -> Vec<Prober> {
    let told = |event: &Event| match &event.what {
        What::Prober { name, of, key } => Some(Prober { name: name.clone(), of: of.clone(), key: key.clone() }),
        _ => None,
    };
    events.iter().filter_map(told).collect()
}
