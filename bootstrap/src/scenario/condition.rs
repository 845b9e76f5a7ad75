//! Conditions: what is true of a node, judged from what its agent says of itself.
//!
//! Waiting, checking beforehand and finding nothing to do all ask the same questions, so they are asked in one place.
//! Words: `docs/scenarios.md`, "Conditions". Layer: pure.

use std::fmt;
use std::str::FromStr;

use crate::agent::view::Mode;
use crate::surfaces::state::State;

/// A condition on one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// Its agent answers, and its loop is alive.
    Answers,
    /// It leads, and its service serves.
    Leads,
    /// It leads, takes no new work, and none is left.
    Drained,
    /// It does not lead: no lease, and no service that runs as leader.
    Released,
    /// It stands by: it follows, and is not degraded, refused, paused, drained or demoted.
    StandsBy,
    /// It stands by, and may take over as it is: close enough behind, and the manifest holds.
    CanTakeOver,
    /// It takes a last snapshot when it stops leading.
    Saves,
    /// A person paused it.
    Paused,
    /// Nobody paused, drained or demoted it.
    Unrestrained,
}

/// Words and conditions.
const WORDS: &[(&str, Condition)] = &[
    ("answers", Condition::Answers),
    ("leads", Condition::Leads),
    ("drained", Condition::Drained),
    ("released", Condition::Released),
    ("stands-by", Condition::StandsBy),
    ("can-take-over", Condition::CanTakeOver),
    ("saves", Condition::Saves),
    ("paused", Condition::Paused),
    ("unrestrained", Condition::Unrestrained),
];

impl FromStr for Condition {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = WORDS.iter().find(|(word, _)| *word == text).map(|(_, condition)| *condition);
        let words: Vec<&str> = WORDS.iter().map(|(word, _)| *word).collect();
        found.ok_or_else(|| format!("there is no condition {text:?}; expected one of {}", words.join(", ")))
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(WORDS.iter().find(|(_, condition)| condition == self).map_or("", |(word, _)| word))
    }
}

/// What a condition is measured by beside the agent's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Measure {
    /// Snapshots that a node may be behind.
    pub max_lag: u64,
    /// Work that the service says is left; `None` where it is not asked.
    pub work: Option<u64>,
}

impl Default for Measure {
    fn default() -> Self {
        Self { max_lag: 1, work: None }
    }
}

impl Condition {
    /// Whether it holds of this state; else what was found instead.
    ///
    /// # Errors
    /// What was found, in a sentence.
    pub fn holds(self, state: &State, measure: Measure) -> Result<(), String> {
        let view = &state.view;
        let answers = || ensure(state.health.ok, || state.health.why.clone());
        match self {
            Self::Answers => answers(),
            Self::Leads => ensure(state.leader.ok, || state.leader.why.clone()),
            Self::Drained => {
                ensure(state.holds, || "it does not hold the lease".to_owned())?;
                ensure(view.drained.is_some(), || "it takes new work: nobody drained it".to_owned())?;
                match measure.work {
                    Some(left) if left > 0 => Err(format!("{left} pieces of work are left")),
                    _ => Ok(()),
                }
            }
            Self::Released => {
                answers()?;
                ensure(!state.holds, || format!("it holds the lease in term {}", view.term))?;
                let leads = view.service.running_as.as_deref() == Some("leader");
                ensure(!leads, || "its service runs as leader".to_owned())?;
                ensure(!matches!(view.mode, Mode::Starting | Mode::Promoting | Mode::Demoting), || {
                    format!("it is {}", state.role)
                })
            }
            Self::StandsBy => {
                answers()?;
                ensure(matches!(view.mode, Mode::Follower | Mode::Candidate), || {
                    format!("it is {}: {}", state.role, view.why)
                })?;
                Self::Unrestrained.holds(state, measure)
            }
            Self::CanTakeOver => can_take_over(state, measure.max_lag),
            Self::Saves => ensure(view.saves, || {
                "it has no `save` hook, so what it acknowledged after the newest snapshot would be lost".to_owned()
            }),
            Self::Paused => ensure(view.paused.is_some(), || "nobody paused it".to_owned()),
            Self::Unrestrained => {
                let restraint = [("paused", &view.paused), ("drained", &view.drained), ("demoted", &view.demoted)];
                match restraint.into_iter().find_map(|(what, why)| why.as_ref().map(|why| (what, why))) {
                    Some((what, why)) => Err(format!("it is {what}: {why}")),
                    None => Ok(()),
                }
            }
        }
    }
}

fn can_take_over(state: &State, max_lag: u64) -> Result<(), String> {
    let (view, chain) = (&state.view, &state.view.chain);
    Condition::StandsBy.holds(state, Measure { max_lag, work: None })?;
    // In static leadership nobody is a candidate by itself; the operator's word makes one.
    let stands = view.mode == Mode::Candidate || view.lease.mode.as_deref() == Some("static");
    ensure(stands, || format!("it is no candidate: {}", view.why))?;
    match (chain.lag, &chain.failure) {
        (_, Some(failure)) => Err(format!("it cannot read the chain: {failure}")),
        (None, None) => Err("how far it is behind is not known".to_owned()),
        (Some(lag), None) if lag > max_lag => {
            Err(format!("it is {lag} snapshots behind, and at most {max_lag} may be"))
        }
        (Some(_), None) => fresh(state),
    }
}

/// Whether the manifest that a node goes by still holds.
///
/// # Errors
/// What was found.
pub fn fresh(state: &State) -> Result<(), String> {
    match state.view.chain.manifest_expires {
        Some(expires) if expires <= state.now => Err(format!("the manifest expired at {expires}")),
        Some(_) => Ok(()),
        None => Err("until when the manifest holds is not known".to_owned()),
    }
}

fn ensure(holds: bool, otherwise: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(otherwise()) }
}

/// Whether a node that took over began from a snapshot that was taken after the service of the one before had stopped.
///
/// # Errors
/// What was found, in a sentence.
pub fn nothing_lost(from: &State, to: &State) -> Result<String, String> {
    let (from, to) = (&from.view, &to.view);
    let (giver, taker) = (&from.node, &to.node);
    let Some(ended) = &from.ended else {
        return Err(format!("{giver} does not say when its service stopped: its agent leads, or was started since"));
    };
    let Some(takeover) = to.takeover.as_ref().filter(|takeover| takeover.term > ended.term) else {
        return Err(format!("{taker} took nothing over after term {}", ended.term));
    };
    let (snapshot, captured, stopped) = (&takeover.snapshot, takeover.captured, ended.stopped);
    ensure(captured >= stopped, || {
        let why = match (ended.saved, from.saves) {
            (_, false) => "it has no `save` hook",
            (None, true) => "its `save` hook failed",
            (Some(_), true) => "its `save` hook ended well, and that snapshot was not taken from",
        };
        format!(
            "{taker} began from {snapshot}, taken at {captured}, and the service of {giver} ran until {stopped} ({why}): \
             what it acknowledged in between is lost to clients, and on the disk of {giver} alone"
        )
    })?;
    Ok(format!("{taker} began from {snapshot}, which was taken after the service of {giver} had stopped"))
}

/// Who leads, among the states that are known: it holds the lease, and its service serves.
pub fn leaders<'s>(states: impl IntoIterator<Item = &'s State>) -> Vec<&'s str> {
    states.into_iter().filter(|state| state.leader.ok).map(|state| state.view.node.as_str()).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::agent::view::View;
    use crate::surfaces::board::Reading;
    use crate::surfaces::examples;
    use crate::surfaces::state::Limits;

    fn state(example: &str, change: impl FnOnce(&mut View)) -> State {
        let mut view = examples::named(example);
        change(&mut view);
        State::of(Reading { view, ticked_ago: Duration::ZERO }, &Limits::default(), "/srv/node", examples::now())
    }

    fn why(condition: Condition, state: &State, measure: Measure) -> String {
        condition.holds(state, measure).expect_err("it does not hold")
    }

    #[test]
    fn every_word_is_read_back() {
        for (word, condition) in WORDS {
            assert_eq!((word.parse(), condition.to_string().as_str()), (Ok(*condition), *word));
        }
        assert!("leading".parse::<Condition>().unwrap_err().contains("expected one of answers, leads"));
    }

    #[test]
    fn a_leader_leads_and_is_not_released() {
        let leader = state("leader", |_| {});
        Condition::Leads.holds(&leader, Measure::default()).unwrap();
        assert!(why(Condition::Released, &leader, Measure::default()).contains("holds the lease"));
        assert!(why(Condition::StandsBy, &leader, Measure::default()).contains("leader"));
    }

    #[test]
    fn a_follower_whose_service_still_runs_as_leader_is_not_released() {
        let stuck = state("candidate", |view| view.service.running_as = Some("leader".to_owned()));
        assert!(why(Condition::Released, &stuck, Measure::default()).contains("runs as leader"));
        let released = state("candidate", |view| view.service.running_as = None);
        Condition::Released.holds(&released, Measure::default()).unwrap();
    }

    #[test]
    fn drained_means_that_no_work_is_left() {
        let drained = state("draining", |view| view.drained = Some("test".to_owned()));
        Condition::Drained.holds(&drained, Measure::default()).unwrap();
        let left = |work| Measure { work: Some(work), ..Measure::default() };
        Condition::Drained.holds(&drained, left(0)).unwrap();
        assert_eq!(why(Condition::Drained, &drained, left(3)), "3 pieces of work are left");
        let open = state("leader", |_| {});
        assert!(why(Condition::Drained, &open, Measure::default()).contains("nobody drained it"));
    }

    #[test]
    fn one_that_is_behind_paused_or_stale_cannot_take_over() {
        let behind = |lag| state("candidate", |view| view.chain.lag = Some(lag));
        Condition::CanTakeOver.holds(&behind(1), Measure::default()).unwrap();
        assert!(why(Condition::CanTakeOver, &behind(2), Measure::default()).contains("2 snapshots behind"));
        let strict = Measure { max_lag: 0, work: None };
        assert!(why(Condition::CanTakeOver, &behind(1), strict).contains("at most 0"));
        let paused = state("candidate", |view| view.paused = Some("by hand".to_owned()));
        assert!(why(Condition::CanTakeOver, &paused, Measure::default()).contains("paused: by hand"));
        let expired = state("candidate", |view| view.chain.manifest_expires = Some(jiff::Timestamp::UNIX_EPOCH));
        assert!(why(Condition::CanTakeOver, &expired, Measure::default()).contains("expired"));
    }

    #[test]
    fn nothing_is_lost_only_if_the_snapshot_was_taken_after_the_service_had_stopped() {
        let at = |text: &str| text.parse().unwrap();
        let giver = |stopped: &str, saved: Option<&str>, saves| {
            let (stopped, saved) = (at(stopped), saved.map(at));
            let ended = Some(crate::agent::view::EndedView { term: 7, stopped, saved });
            state("candidate", |view| {
                view.ended = ended;
                view.saves = saves;
            })
        };
        // It took over in term 8 from a snapshot of 01:05:00.
        let taker = state("leader", |_| {});
        let taker = || &taker;
        assert!(nothing_lost(&giver("2026-03-14T01:05:00Z", Some("2026-03-14T01:05:02Z"), true), taker()).is_ok());
        let late = "2026-03-14T01:05:00.001Z";
        for (saved, saves, names) in [
            (None, false, "it has no `save` hook"),
            (None, true, "its `save` hook failed"),
            (Some("2026-03-14T01:06:00Z"), true, "that snapshot was not taken from"),
        ] {
            let why = nothing_lost(&giver(late, saved, saves), taker()).unwrap_err();
            assert!(why.contains(names) && why.contains("is lost to clients"), "{why}");
        }
        let running = state("candidate", |view| view.ended = None);
        assert!(nothing_lost(&running, taker()).unwrap_err().contains("does not say when its service stopped"));
        let earlier = state("leader", |view| view.takeover.as_mut().unwrap().term = 7);
        let ended = giver("2026-03-14T01:00:00Z", None, true);
        assert!(nothing_lost(&ended, &earlier).unwrap_err().contains("took nothing over after term 7"));
        assert!(why(Condition::Saves, &giver(late, None, false), Measure::default()).contains("`save` hook"));
    }

    #[test]
    fn a_silent_loop_is_nothing() {
        let mut view = examples::leader();
        view.drained = None;
        let reading = Reading { view, ticked_ago: Duration::from_secs(60) };
        let state = State::of(reading, &Limits::default(), "/srv/node", examples::now());
        for condition in [Condition::Answers, Condition::Leads, Condition::Released, Condition::StandsBy] {
            assert!(why(condition, &state, Measure::default()).contains("stalled"), "{condition}");
        }
    }
}
