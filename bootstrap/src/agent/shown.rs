//! What the loop shows: the machine's state and what the edges said last, as one [`View`].
//!
//! Layer: values; the loop fills it in and posts it.

use std::time::Duration;

use jiff::Timestamp;

use super::follow::Look;
use super::machine::{Hook, Leadership, Machine, Setup};
use super::view::{
    ChainView, EndedView, HookView, IngressView, LeaseView, Mode, Problem, ServiceView, TakeoverView, View,
};
use crate::clock::BootTime;
use crate::lease::Holder;

/// How many runs of hooks are shown.
const HOOKS: usize = 20;

/// What the edges said last.
#[derive(Debug, Default)]
pub(super) struct Shown {
    pub(super) group: Option<String>,
    pub(super) chain: ChainView,
    pub(super) service: ServiceView,
    pub(super) takeover: Option<TakeoverView>,
    pub(super) ended: Option<EndedView>,
    pub(super) ingress: Option<IngressView>,
    pub(super) orphaned: Vec<String>,
    pub(super) hooks: Vec<HookView>,
    /// What is not fresh about the manifest, in words.
    pub(super) stale: Option<String>,
    /// Other pins are in force than those that this node runs by, and why they are not used yet.
    pub(super) other_pins: Option<String>,
    /// Why the state of the agent cannot be written.
    pub(super) unwritten: Option<String>,
    /// The term in force and when it began.
    pub(super) begun: Option<(u64, Timestamp)>,
    /// Since when the mode is what it is.
    pub(super) since: Option<(Mode, Timestamp)>,
    /// When the present phase of a takeover began.
    pub(super) phase: Option<BootTime>,
}

impl Shown {
    /// Takes in what a look found.
    pub(super) fn looked(&mut self, look: &Look) {
        self.chain = look.chain.clone();
        self.stale.clone_from(&look.stale);
        self.begun = look.begun;
    }

    /// Takes in that a hook ran.
    pub(super) fn ran(&mut self, hook: HookView) {
        self.hooks.insert(0, hook);
        self.hooks.truncate(HOOKS);
    }

    /// Follows a takeover by what the machine records of it.
    pub(super) fn recorded(&mut self, event: &str, machine: &Machine, now: BootTime) {
        match event {
            // Only what ran could have written something.
            "stopped" => {
                let led = machine.kept().led.as_ref().filter(|led| machine.kept().term == led.term);
                if let Some(led) = led {
                    self.ended = Some(EndedView { term: led.term, stopped: Timestamp::now(), saved: None });
                }
            }
            "saved" => {
                if let Some(ended) = &mut self.ended {
                    ended.saved = Some(Timestamp::now());
                }
            }
            // Another leadership begins.
            "leads" => self.ended = None,
            _ => {}
        }
        if event == "claimed" {
            let (snapshot, captured) = match machine.sight() {
                Some(sight) => (sight.snapshot.clone(), sight.captured),
                None => (String::new(), Timestamp::now()),
            };
            let claimed = Timestamp::now();
            let lost_seconds = u64::try_from(claimed.duration_since(captured).as_secs()).unwrap_or(0);
            let term = machine.holds().unwrap_or(0);
            let (ready, phases) = (None, Vec::new());
            self.takeover = Some(TakeoverView { term, claimed, ready, snapshot, captured, lost_seconds, phases });
            self.phase = Some(now);
            return;
        }
        let (Some(takeover), Some(began)) = (&mut self.takeover, self.phase) else { return };
        match event {
            "materialized" => {
                if let Some(sight) = machine.sight() {
                    takeover.snapshot.clone_from(&sight.snapshot);
                    takeover.captured = sight.captured;
                    let lost = takeover.claimed.duration_since(sight.captured).as_secs();
                    takeover.lost_seconds = u64::try_from(lost).unwrap_or(0);
                }
            }
            // Its own state goes on, so nothing of it is lost.
            "continues" => takeover.lost_seconds = 0,
            "leads" => takeover.ready = Some(Timestamp::now()),
            "fenced" | "started" => {}
            "takeover_failed" | "demoting" | "lost" => {
                self.phase = None;
                return;
            }
            _ => return,
        }
        let took = u64::try_from(now.since(began).as_millis()).unwrap_or(u64::MAX);
        let phase = match event {
            "fenced" => "fence",
            "materialized" | "continues" => "restore",
            "started" => "start",
            _ => "ready",
        };
        takeover.phases.push((phase.to_owned(), took));
        self.phase = (event != "leads").then_some(now);
    }

    /// The whole of it.
    pub(super) fn view(&mut self, setup: &Setup, machine: &Machine, lease: LeaseView, now: BootTime) -> View {
        let mode = machine.mode();
        let since = match self.since {
            Some((known, since)) if known == mode => since,
            _ => Timestamp::now(),
        };
        self.since = Some((mode, since));
        let mut chain = self.chain.clone();
        chain.failure = machine.trouble().map(|trouble| trouble.why.clone());
        if machine.holds().is_some() && mode != Mode::Promoting || machine.kept().led.is_some() {
            // What this node writes is ahead of every snapshot.
            chain.lag = chain.lag.map(|_| 0);
        }
        // It grows old while the chain cannot be read, too.
        let age = |captured| u64::try_from(Timestamp::now().duration_since(captured).as_secs()).unwrap_or(0);
        chain.age_seconds = chain.captured.map(age);
        let mut service = self.service.clone();
        service.running_as = machine.runs_as().map(|role| role.as_str().to_owned());
        // A leader that stopped may go on with its own state, and runs nothing until that is decided.
        service.follows = setup.follower_runs && machine.kept().led.is_none();
        service.ready = service.running_as.as_ref().map(|_| machine.is_ready());
        if service.running_as.is_none() {
            (service.healthy, service.role) = (None, None);
        }
        let count = |length: Duration| u64::try_from(length.as_millis()).unwrap_or(u64::MAX);
        // Where nothing is renewed, silence means nothing.
        let seen = lease.seen.filter(|_| setup.leadership == Leadership::Auto && machine.holder().is_some());
        let problems = self.problems(setup, machine, &lease, now);
        let kept = machine.kept();
        // Who comes in the middle of a term may not have read its claim in the log; the chain has it, too.
        let begun = |term| self.begun.filter(|(begun, _)| *begun == term).map(|(_, when)| when);
        let holder = machine.holder().cloned();
        let holder = holder.map(|holder| Holder { since: holder.since.or_else(|| begun(holder.term)), ..holder });
        View {
            group: self.group.clone(),
            node: setup.node.clone(),
            instance: setup.instance.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            mode,
            since,
            why: machine.why(now),
            next: machine.trouble().and_then(|trouble| trouble.next.clone()).filter(|_| needs_a_person(mode)),
            class: machine.trouble().and_then(|trouble| trouble.class).map(|class| class.name().to_owned()),
            term: kept.term,
            holder,
            holder_seen_ms_ago: seen.map(|at| count(now.since(at))),
            remaining_ms: machine.until().map(|until| count(now.until(until))),
            service,
            chain,
            lease,
            takeover_attempts: kept.takeover_attempts,
            takeovers: kept.takeovers,
            takeover: self.takeover.clone(),
            saves: setup.hooks.contains(&Hook::Save),
            ended: self.ended.clone(),
            conflicts: kept.conflicts,
            degraded: machine.sight().and_then(|sight| sight.degraded.clone()),
            paused: kept.paused.clone(),
            drained: machine.drained().map(str::to_owned),
            demoted: kept.held.clone(),
            ingress: self.ingress.clone(),
            orphaned: self.orphaned.clone(),
            hooks: self.hooks.clone(),
            problems,
        }
    }

    /// What is wrong now, the worst first.
    fn problems(&self, setup: &Setup, machine: &Machine, lease: &LeaseView, now: BootTime) -> Vec<Problem> {
        let mut problems = machine.alarms();
        let mut add = |name: &str, what: String, next: String| problems.push(Problem { name: name.into(), what, next });
        let mode = machine.mode();
        if mode == Mode::Degraded {
            let half_switched = machine.sight().is_some_and(|sight| sight.degraded.is_some());
            let repair = "repair what it says, then say so with `bootstrap ack NODE-DIR --reason WHY`";
            let next = machine.trouble().and_then(|trouble| trouble.next.clone()).filter(|_| !half_switched);
            add("degraded", machine.why(now), next.unwrap_or_else(|| repair.into()));
        }
        if let Some(trouble) = machine.trouble().filter(|_| mode != Mode::Degraded) {
            let next = if trouble.refused {
                "find out what changed it: `snapkit manifest check` where it is issued says the same; it is looked at again"
            } else {
                "see that the store can be reached; it is tried again"
            };
            let next = trouble.next.clone().unwrap_or_else(|| next.into());
            add(if trouble.refused { "refused" } else { "store_unreachable" }, trouble.why.clone(), next);
        }
        if let Some(why) = machine.unfit() {
            let next = "mend what it says; a store is tried again, the rest needs a restart of the agent; until then this node never leads";
            add("unfit", why.to_owned(), next.into());
        }
        if let Some(why) = &self.unwritten {
            add("state_unwritten", why.clone(), "make room for, or mend, the directory .node/agent of the node".into());
        }
        let leads = matches!(mode, Mode::Leader | Mode::Draining);
        let holds = machine.holds().is_some();
        // A store that is down is said once, even where it holds both chain and lease.
        if let Some(why) = lease.failure.as_ref().filter(|_| holds || machine.trouble().is_none()) {
            let what = if holds { "the lease cannot be renewed" } else { "the lease cannot be read" };
            let next = if holds && setup.leadership == Leadership::Auto {
                "mend the way to its store before the lease runs out; then the service here is stopped"
            } else {
                "see that its store can be reached; it is tried again"
            };
            add("lease_unreachable", format!("{what}: {why}"), next.into());
        }
        // What is said above need not be said again.
        let said = machine.trouble().is_some() || machine.unfit().is_some() || mode == Mode::Degraded;
        let follows = matches!(mode, Mode::Follower | Mode::Candidate | Mode::Paused);
        if setup.leadership == Leadership::Auto
            && follows
            && !said
            && let Err(why) = machine.may_lead(now)
        {
            let asked = machine.kept().paused.is_some() || machine.kept().held.is_some() || machine.drained().is_some();
            let next = if asked {
                "`bootstrap resume NODE-DIR --reason WHY`, when that is over"
            } else {
                "nothing, if that is meant or soon over; else mend what it says"
            };
            add("no_candidate", format!("this node would not take over: {why}"), next.into());
        }
        if machine.holds().is_none() && mode != Mode::Candidate {
            match machine.holder() {
                Some(holder) if !holder.released => {
                    let silent = lease.seen.map(|at| now.since(at)).filter(|silent| *silent > setup.ttl);
                    if let Some(silent) = silent.filter(|_| setup.leadership == Leadership::Auto && !said) {
                        let what = format!("{} was last seen to write {} s ago", holder.node, silent.as_secs());
                        let next =
                            format!("see whether {} and the other members run, and reach the store", holder.node);
                        add("holder_silent", what, next);
                    }
                }
                _ if lease.seq.is_none() => {}
                _ if setup.leadership == Leadership::Static => {
                    let next = "`bootstrap promote NODE-DIR --reason WHY` on the node that is to lead";
                    add(
                        "nobody_leads",
                        "the lease is free, and nobody takes it without an operator's word".into(),
                        next.into(),
                    );
                }
                _ if setup.leadership == Leadership::Auto => {
                    let next = "look at the other members: one that may lead takes it";
                    add("nobody_leads", "the lease is free, and this node does not take it".into(), next.into());
                }
                _ => {}
            }
        }
        if leads && machine.kept().paused.is_some() {
            let what = "a pause is in force: if this node loses the lease, it does not take it again";
            add("paused", what.into(), "`bootstrap resume NODE-DIR --reason WHY`, when that is over".into());
        }
        if leads && !machine.is_ready() && mode == Mode::Leader {
            add("not_ready", "it leads, and its service is not ready".into(), "look at the service's own log".into());
        }
        if let Some(ingress) = self.ingress.as_ref().filter(|ingress| !ingress.agrees) {
            let answers = ingress.answers.as_deref().unwrap_or("nobody");
            let holder = machine.holder().map_or("nobody", |holder| holder.node.as_str());
            add(
                "ingress_mismatch",
                format!("{answers} answers at the ingress, and {holder} leads"),
                "point it at the leader; the hook `reconcile` does that where it is declared".into(),
            );
        }
        if let Some(stale) = &self.stale {
            add("stale", stale.clone(), "see whether snapshots are taken, and run `snapkit manifest refresh`".into());
        }
        if let Some(why) = &self.other_pins {
            let what = format!("other pins are in force than those that this node runs by: {why}");
            add(
                "pins_changed",
                what,
                "hand over or demote it, or restart its agent, when that suits the service".into(),
            );
        }
        if !self.orphaned.is_empty() {
            let what = format!("what earlier leaderships of this node wrote lies in {}", self.orphaned.join(", "));
            add("orphaned", what, "read its diff.txt, bring back by hand what is missed, then remove it".into());
        }
        problems
    }
}

fn needs_a_person(mode: Mode) -> bool {
    matches!(mode, Mode::Degraded | Mode::Refused)
}
