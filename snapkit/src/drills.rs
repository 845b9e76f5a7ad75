//! Drills as the chain has them: which runs began, which ended and how, and which never said.
//!
//! Documented in `docs/format/record.md`, "drill". Layer: above `chain`; it reads and adds records, and judges nothing but
//! what they say.

use jiff::Timestamp;
use manifests::document::drill::{Begun, Drill, Ended};
use manifests::document::record::{Body, Pointer};
use manifests::keys::Signer;

use crate::chain::{Chain, ChainError, Commit, Committed, Newest};

/// How often a run that lost its slot tries again.
const ATTEMPTS: u32 = 20;

/// One run, as its records tell it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// Its id.
    pub id: String,
    /// The record with which it began: where, when, and what it says; absent if it lies before what was read.
    pub begun: Option<(Pointer, Timestamp, Begun)>,
    /// The record with which it ended; absent for a run that never said how it ended.
    pub ended: Option<(Pointer, Timestamp, Ended)>,
}

impl Run {
    /// Whether it is a drill in which something was done, and all of it well. A failover is none, and neither is the way back
    /// of one.
    pub fn is_good(&self) -> bool {
        let is_drill = self.begun.as_ref().is_some_and(|(_, _, begun)| begun.kind == "drill");
        is_drill
            && self.ended.as_ref().is_some_and(|(_, _, ended)| ended.verdict == "passed" && ended.mode == "execute")
    }

    /// When it ended, else when it began.
    pub fn time(&self) -> Option<Timestamp> {
        let ended = self.ended.as_ref().map(|(_, time, _)| *time);
        ended.or(self.begun.as_ref().map(|(_, time, _)| *time))
    }

    /// Whether it began and never ended: the gap that a failure leaves which nobody tells of.
    pub fn is_gap(&self) -> bool {
        self.ended.is_none()
    }
}

/// The runs of which a record was made since `since`, the newest first. One request for each record up to there.
///
/// # Errors
/// What a record on the way back is refused for.
pub fn history(chain: &Chain<'_>, newest: &Newest, since: Timestamp) -> Result<Vec<Run>, ChainError> {
    let mut runs: Vec<Run> = Vec::new();
    for record in chain.walk_back(&newest.record) {
        let record = record?;
        if record.header.time < since {
            break;
        }
        let place = Pointer { seq: record.header.seq, digest: record.digest };
        let time = record.header.time;
        let Body::Drill(drill) = record.body else {
            continue;
        };
        match drill {
            Drill::Ended(ended) => {
                // The first end counts: what is said afterwards cannot make a run better.
                match runs.iter_mut().find(|run| run.id == ended.id && run.begun.is_none()) {
                    Some(run) => run.ended = Some((place, time, ended)),
                    None => runs.push(Run { id: ended.id.clone(), begun: None, ended: Some((place, time, ended)) }),
                }
            }
            Drill::Begun(begun) => match runs.iter_mut().find(|run| run.id == begun.id && run.begun.is_none()) {
                Some(run) => run.begun = Some((place, time, begun)),
                None => runs.push(Run { id: begun.id.clone(), begun: Some((place, time, begun)), ended: None }),
            },
        }
    }
    Ok(runs)
}

/// What became of a record that was to be added.
#[derive(Debug)]
pub enum Recorded {
    /// It was added.
    Now(Box<Committed>),
    /// It is there already, from an earlier try.
    Before(Pointer),
}

/// Adds one end of a run to the chain. Done already, it finds its own record and changes nothing.
///
/// # Errors
/// Those of [`Chain::commit`]; [`ChainError::Unknown`] if the store never gave a clear answer.
pub fn record(
    chain: &Chain<'_>,
    drill: &Drill,
    since: Timestamp,
    signer: &dyn Signer,
    node: &str,
) -> Result<Option<Recorded>, ChainError> {
    for _ in 0..ATTEMPTS {
        let newest = chain.head()?;
        let same = |run: &Run| match drill {
            Drill::Begun(begun) => {
                run.begun.as_ref().filter(|(_, _, there)| there == begun).map(|(place, _, _)| *place)
            }
            Drill::Ended(ended) => {
                run.ended.as_ref().filter(|(_, _, there)| there == ended).map(|(place, _, _)| *place)
            }
        };
        if let Some(place) = history(chain, &newest, since)?.iter().find_map(same) {
            return Ok(Some(Recorded::Before(place)));
        }
        let body = Body::Drill(drill.clone());
        match chain.commit(&newest.head, &body, None, signer, node, Timestamp::now())? {
            Commit::Done(done) => return Ok(Some(Recorded::Now(done))),
            Commit::Lost { .. } => {}
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use manifests::digest::Digest;

    use super::*;

    fn run(kind: &str, verdict: &str, mode: &str) -> Run {
        let place = Pointer { seq: 7, digest: Digest([7; 32]) };
        let time = Timestamp::UNIX_EPOCH;
        let begun: Begun = serde_json::from_value(serde_json::json!({
            "id": "run-1", "kind": kind, "scenario": "full", "mode": mode, "plan": Digest([1; 32]),
        }))
        .unwrap();
        let ended = Ended {
            id: "run-1".to_owned(),
            begun: Some(place),
            mode: mode.to_owned(),
            verdict: verdict.to_owned(),
            bundle: Digest([2; 32]),
            rto_ms: None,
            rpo_events: None,
        };
        Run { id: "run-1".to_owned(), begun: Some((place, time, begun)), ended: Some((place, time, ended)) }
    }

    #[test]
    fn only_a_drill_that_was_done_and_passed_is_a_good_one() {
        assert!(run("drill", "passed", "execute").is_good());
        for (kind, verdict, mode) in
            [("failover", "passed", "execute"), ("drill", "failed", "execute"), ("drill", "passed", "simulated")]
        {
            assert!(!run(kind, verdict, mode).is_good(), "{kind} {verdict} {mode}");
        }
        let unknown = Run { begun: None, ..run("drill", "passed", "execute") };
        assert!(!unknown.is_good(), "what it was is not known");
    }
}
