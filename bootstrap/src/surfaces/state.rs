//! What an agent's view means: the answers that load balancers, probes and programs get.
//!
//! A pure function of the view, the age of the loop's last sign of life, and the limits; every surface shows its result,
//! so that none can contradict another. In doubt the answer is no: a loop that hangs leads nobody. Codes and reasons:
//! `docs/surfaces.md`. Layer: pure.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::board::Reading;
use crate::agent::view::{Mode, View};

/// The name of the JSON form.
pub const SCHEMA: &str = "bootstrap.state/1";

/// From when on an answer is no.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// The loop counts as hanging when it was silent for this long.
    pub stalled_after: Duration,
    /// A follower that did not read and verify the chain for this long does not know how far behind it is.
    pub stale_after: Duration,
    /// How many snapshots a follower may be behind to be ready.
    pub max_lag: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { stalled_after: Duration::from_secs(10), stale_after: Duration::from_secs(120), max_lag: 1 }
    }
}

/// A yes or no, with the reason in words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// Whether it is yes.
    pub ok: bool,
    /// Why.
    pub why: String,
}

/// Everything a surface shows, as of one moment.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct State {
    /// Which form this is.
    pub schema: String,
    /// The node directory.
    pub directory: String,
    /// When this was said, by the wall clock of the node.
    pub now: Timestamp,
    /// `leader`, `standby`, or what else the node is doing.
    pub role: String,
    /// Whether this run of the agent holds the lease now.
    pub holds: bool,
    /// How long ago the loop was last alive, in milliseconds.
    pub ticked_ms_ago: u64,
    /// The clock by which validity is judged.
    pub clock: String,
    /// Whether the agent lives: `/healthz`.
    pub health: Answer,
    /// Whether the node does what it is there for: `/readyz`.
    pub ready: Answer,
    /// Whether writes go here: `/leader`.
    pub leader: Answer,
    /// Whether reads may go here: `/replica`.
    pub replica: Answer,
    /// What the agent says.
    #[serde(flatten)]
    pub view: View,
}

/// What `/v1/lease` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Gate {
    /// This node leads, for this long at least; `None` where nothing limits it.
    Open {
        /// Time left in milliseconds.
        remaining_ms: Option<u64>,
    },
    /// It does not, or not for long enough.
    Shut(String),
}

impl State {
    /// The state as of `now`.
    pub fn of(reading: Reading, limits: &Limits, directory: &str, now: Timestamp) -> Self {
        let Reading { view, ticked_ago } = reading;
        let health = health(ticked_ago, limits);
        Self {
            schema: SCHEMA.to_owned(),
            directory: directory.to_owned(),
            now,
            role: view.mode.role().to_owned(),
            holds: holds(&view),
            ticked_ms_ago: u64::try_from(ticked_ago.as_millis()).unwrap_or(u64::MAX),
            clock: "CLOCK_BOOTTIME".to_owned(),
            ready: ready(&view, &health, limits, now),
            leader: leader(&view, &health),
            replica: replica(&view, &health, limits, limits.max_lag, now),
            health,
            view,
        }
    }

    /// Whether work that needs the lease for `min_remaining_ms` may go on.
    pub fn gate(&self, min_remaining_ms: u64) -> Gate {
        let view = &self.view;
        if !self.health.ok {
            return Gate::Shut(self.health.why.clone());
        }
        let may = match view.mode {
            // Demoting: the service is stopped and the last snapshot is taken while the lease allows.
            Mode::Leader | Mode::Draining | Mode::Demoting | Mode::Paused => holds(view),
            _ => false,
        };
        match view.remaining_ms {
            _ if !may => Gate::Shut(not_leading(view)),
            Some(remaining) if remaining < min_remaining_ms => {
                Gate::Shut(format!("{remaining} ms of the lease are left, and {min_remaining_ms} ms are asked for"))
            }
            remaining_ms => Gate::Open { remaining_ms },
        }
    }

    /// The answer of `/replica` with a limit of its own.
    pub fn replica_within(&self, max_lag: u64, limits: &Limits) -> Answer {
        replica(&self.view, &self.health, limits, max_lag, self.now)
    }
}

/// Whether this run of the agent holds the lease, and it has not run out.
fn holds(view: &View) -> bool {
    if view.group.is_none() {
        // Nobody else is there to lead.
        return view.mode == Mode::Leader;
    }
    let own = view.holder.as_ref().is_some_and(|holder| holder.instance == view.instance && !holder.released);
    // In static leadership nothing runs out; in the other mode a lease without time left is none.
    let limited = view.lease.mode.as_deref() == Some("auto");
    own && match view.remaining_ms {
        Some(remaining) => remaining > 0,
        None => !limited,
    }
}

fn yes(why: impl Into<String>) -> Answer {
    Answer { ok: true, why: why.into() }
}

fn no(why: impl Into<String>) -> Answer {
    Answer { ok: false, why: why.into() }
}

fn health(ticked_ago: Duration, limits: &Limits) -> Answer {
    if ticked_ago <= limits.stalled_after {
        return yes("ok");
    }
    no(format!("stalled: the agent's loop was last alive {} s ago", ticked_ago.as_secs()))
}

fn not_leading(view: &View) -> String {
    match &view.holder {
        Some(holder) if holder.instance == view.instance && !holder.released => {
            format!("{} holds the lease and is {}", view.node, view.mode.role())
        }
        Some(holder) if !holder.released => format!("{} leads in term {}", holder.node, holder.term),
        _ => "nobody leads".to_owned(),
    }
}

/// Whether the service runs as the leader it must be, and may be asked.
fn leader(view: &View, health: &Answer) -> Answer {
    if !health.ok {
        return health.clone();
    }
    match view.mode {
        Mode::Leader | Mode::Paused if holds(view) => {}
        Mode::Leader | Mode::Paused => return no(not_leading(view)),
        Mode::Draining => return no("draining: it leads, and takes no new work"),
        _ => return no(not_leading(view)),
    }
    match service_as("leader", view) {
        Ok(()) => yes(format!("leads in term {}", view.term)),
        Err(why) => no(why),
    }
}

/// What is wrong with the service for it to serve in this role. Holding the lease is not enough: the work must be done.
fn service_as(role: &str, view: &View) -> Result<(), String> {
    let service = &view.service;
    if service.driver.is_none() {
        return Ok(());
    }
    match service.running_as.as_deref() {
        Some(running) if running == role => {}
        Some(running) => return Err(format!("the service runs as {running}, not as {role}")),
        None => return Err("the service is not running".to_owned()),
    }
    match (service.healthy, service.ready) {
        (Some(false), _) => Err("the service's health probe does not hold".to_owned()),
        (_, Some(false)) => Err("the service is not ready".to_owned()),
        _ => Ok(()),
    }
}

/// Whether the chain is known, and this node is at most `max_lag` snapshots behind it.
fn close_behind(view: &View, limits: &Limits, max_lag: u64, now: Timestamp) -> Result<u64, String> {
    let chain = &view.chain;
    let Some(verified) = chain.verified else {
        return Err(format!("the chain was not read yet{}", because(chain.failure.as_deref())));
    };
    let silent = now.duration_since(verified);
    let limit = i64::try_from(limits.stale_after.as_secs()).unwrap_or(i64::MAX);
    if silent.as_secs() > limit {
        let because = because(chain.failure.as_deref());
        return Err(format!("the chain was last read and verified {} s ago{because}", silent.as_secs()));
    }
    match (chain.applied_seq, chain.lag) {
        (None, _) => Err("no snapshot is restored here yet".to_owned()),
        (_, None) => Err("how far it is behind is not known".to_owned()),
        (_, Some(lag)) if lag > max_lag => Err(format!("{lag} snapshots behind, and at most {max_lag} may be")),
        (_, Some(lag)) => Ok(lag),
    }
}

fn because(failure: Option<&str>) -> String {
    failure.map_or_else(String::new, |failure| format!(": {failure}"))
}

fn replica(view: &View, health: &Answer, limits: &Limits, max_lag: u64, now: Timestamp) -> Answer {
    if !health.ok {
        return health.clone();
    }
    match view.mode {
        Mode::Follower | Mode::Candidate => {}
        Mode::Paused if !holds(view) => {}
        other => return no(format!("it is {}", other.role())),
    }
    if let Some(reason) = &view.drained {
        return no(format!("drained: {reason}"));
    }
    let behind = close_behind(view, limits, max_lag, now);
    match (service_as("follower", view), behind) {
        (Err(_), _) if view.service.driver.is_some() && is_cold(view) => no("cold standby: nothing serves here"),
        (Err(why), _) | (_, Err(why)) => no(why),
        (Ok(()), Ok(lag)) => yes(format!("follows, {lag} snapshots behind")),
    }
}

/// Whether this is a follower on which nothing is to run.
fn is_cold(view: &View) -> bool {
    view.service.running_as.is_none() && !view.service.follows
}

/// Whether the node does what it is there for: leads, or stands by close behind.
fn ready(view: &View, health: &Answer, limits: &Limits, now: Timestamp) -> Answer {
    if !health.ok {
        return health.clone();
    }
    match view.mode {
        Mode::Follower | Mode::Candidate | Mode::Paused if !holds(view) && view.drained.is_some() => {
            no(format!("drained: {}", view.drained.as_deref().unwrap_or_default()))
        }
        Mode::Leader | Mode::Paused if holds(view) => {
            let margin = view.lease.ttl_ms.unwrap_or(0) / 10;
            match view.remaining_ms {
                Some(remaining) if remaining <= margin => no(format!("only {remaining} ms of the lease are left")),
                _ => leader(view, health),
            }
        }
        Mode::Follower | Mode::Candidate | Mode::Paused => match close_behind(view, limits, limits.max_lag, now) {
            Err(why) => no(why),
            // A cold standby runs nothing, and is ready to take over.
            Ok(lag) if is_cold(view) => yes(format!("stands by, {lag} snapshots behind")),
            Ok(_) => replica(view, health, limits, limits.max_lag, now),
        },
        Mode::Draining => no("draining: it leads, and takes no new work"),
        other => no(format!("{}: {}", other.role(), view.why)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::surfaces::examples;

    fn state(name: &str) -> State {
        changed(name, |_| {})
    }

    fn changed(name: &str, change: impl FnOnce(&mut View)) -> State {
        let mut view = examples::named(name);
        change(&mut view);
        of(view, Duration::from_millis(300))
    }

    fn of(view: View, ticked_ago: Duration) -> State {
        State::of(Reading { view, ticked_ago }, &Limits::default(), "/srv/orders", examples::now())
    }

    fn answers(state: &State) -> [bool; 4] {
        [state.health.ok, state.ready.ok, state.leader.ok, state.replica.ok]
    }

    #[test]
    fn each_mode_gives_its_answers() {
        for (name, role, expected) in [
            ("leader", "leader", [true, true, true, false]),
            ("leader_static", "leader", [true, true, true, false]),
            ("leader_not_ready", "leader", [true, false, false, false]),
            ("no_group", "leader", [true, true, true, false]),
            ("draining", "leader", [true, false, false, false]),
            ("follower", "standby", [true, true, false, true]),
            ("cold_standby", "standby", [true, true, false, false]),
            ("follower_behind", "standby", [true, false, false, false]),
            ("store_unreachable", "standby", [true, false, false, false]),
            ("candidate", "standby", [true, true, false, true]),
            ("about_to_take_over", "standby", [true, true, false, true]),
            ("drained_follower", "standby", [true, false, false, false]),
            ("no_lease", "standby", [true, true, false, true]),
            ("paused", "paused", [true, true, false, true]),
            ("starting", "unknown", [true, false, false, false]),
            ("promoting", "promoting", [true, false, false, false]),
            ("demoting", "demoting", [true, false, false, false]),
            ("fenced", "fenced", [true, false, false, false]),
            ("degraded", "degraded", [true, false, false, false]),
            ("refused", "refused", [true, false, false, false]),
        ] {
            let state = state(name);
            assert_eq!((state.role.as_str(), answers(&state)), (role, expected), "{name}: {state:#?}");
        }
    }

    #[test]
    fn a_follower_whose_service_is_to_run_is_not_ready_without_it() {
        let state = changed("cold_standby", |view| view.service.follows = true);
        assert_eq!(answers(&state), [true, false, false, false]);
        assert_eq!(state.ready.why, "the service is not running");
    }

    #[test]
    fn a_loop_that_hangs_leads_nobody() {
        for name in ["leader", "leader_static", "follower"] {
            let state = of(examples::named(name), Duration::from_secs(11));
            assert_eq!(answers(&state), [false; 4], "{name}");
            assert!(matches!(state.gate(0), Gate::Shut(why) if why.contains("stalled")), "{name}");
        }
    }

    #[test]
    fn a_lease_that_ran_out_is_not_held() {
        let state = changed("leader", |view| view.remaining_ms = Some(0));
        assert!(!state.holds && !state.leader.ok && !state.ready.ok);
        assert!(matches!(state.gate(0), Gate::Shut(_)));
        let unknown = changed("leader", |view| view.remaining_ms = None);
        assert!(!unknown.holds, "with `auto`, an unknown rest is none");
    }

    #[test]
    fn the_gate_wants_enough_time_left() {
        let leader = state("leader");
        assert_eq!(leader.gate(51_900), Gate::Open { remaining_ms: Some(51_900) });
        assert!(matches!(leader.gate(51_901), Gate::Shut(why) if why.contains("51901 ms are asked for")));
        assert_eq!(state("leader_static").gate(u64::MAX), Gate::Open { remaining_ms: None });
    }

    #[test]
    fn the_gate_is_shut_before_the_service_leads_and_open_for_the_last_snapshot() {
        assert!(matches!(state("promoting").gate(0), Gate::Shut(_)));
        assert!(matches!(state("follower").gate(0), Gate::Shut(why) if why == "node-b leads in term 7"));
        assert!(matches!(state("nobody_leads").gate(0), Gate::Shut(why) if why == "nobody leads"));
        assert!(matches!(state("demoting").gate(0), Gate::Open { .. }));
        assert!(matches!(state("draining").gate(0), Gate::Open { .. }));
    }

    #[test]
    fn a_paused_leader_still_leads() {
        let state = changed("leader", |view| view.mode = Mode::Paused);
        assert_eq!(answers(&state), [true, true, true, false]);
        assert!(matches!(state.gate(0), Gate::Open { .. }));
    }

    #[test]
    fn a_lease_of_an_earlier_run_on_the_same_node_is_not_held() {
        let state = changed("leader", |view| view.instance = "another".to_owned());
        assert!(!state.holds && !state.leader.ok);
    }

    #[test]
    fn a_caller_may_accept_more_lag_or_less() {
        let limits = Limits::default();
        assert!(state("follower_behind").replica_within(6, &limits).ok);
        assert!(!state("follower_behind").replica_within(5, &limits).ok);
        assert!(state("follower").replica_within(0, &limits).ok);
    }

    #[test]
    fn the_json_form_comes_back_as_it_was() {
        for (name, view) in examples::all() {
            let state = of(view, Duration::ZERO);
            let json = serde_json::to_value(&state).unwrap();
            let back: State = serde_json::from_value(json.clone()).unwrap();
            assert_eq!(serde_json::to_value(back).unwrap(), json, "{name}");
        }
    }
}
