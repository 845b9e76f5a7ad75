//! What the loop shows: the machine's state and what the edges said last, as one [`View`].
//!
//! Layer: values; the loop fills it in and posts it.

use jiff::Timestamp;

use super::follow::Look;
use super::machine::{Leadership, Machine, Setup};
use super::view::{ChainView, HookView, IngressView, LeaseView, Mode, Problem, ServiceView, TakeoverView, View};
use crate::clock::BootTime;

/// How many runs of hooks are shown.
const HOOKS: usize = 20;

/// What the edges said last.
#[derive(Debug, Default)]
pub(super) struct Shown {
    pub(super) group: Option<String>,
    pub(super) chain: ChainView,
    pub(super) service: ServiceView,
    pub(super) takeover: Option<TakeoverView>,
    pub(super) ingress: Option<IngressView>,
    pub(super) orphaned: Vec<String>,
    pub(super) hooks: Vec<HookView>,
    /// What is not fresh about the manifest, in words.
    pub(super) stale: Option<String>,
    /// Other pins than those the agent was started with are in force.
    pub(super) pins_changed: bool,
    /// Why the state of the agent cannot be written.
    pub(super) unwritten: Option<String>,
    /// Since when the mode is what it is.
    pub(super) since: Option<(Mode, Timestamp)>,
    /// When the present phase of a takeover began.
    pub(super) phase: Option<BootTime>,
}

impl Shown {
    /// Takes in what a look found.
    pub(super) fn looked(&mut self, look: &Look, own: &manifests::digest::Digest) {
        self.chain = look.chain.clone();
        self.stale.clone_from(&look.stale);
        self.pins_changed = look.pins != *own;
    }

    /// Takes in that a hook ran.
    pub(super) fn ran(&mut self, hook: HookView) {
        self.hooks.insert(0, hook);
        self.hooks.truncate(HOOKS);
    }

    /// Follows a takeover by what the machine records of it.
    pub(super) fn recorded(&mut self, event: &str, machine: &Machine, now: BootTime) {
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
        takeover.phases.push((event.to_owned(), took));
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
        let mut service = self.service.clone();
        service.running_as = machine.runs_as().map(|role| role.as_str().to_owned());
        service.ready = service.running_as.as_ref().map(|_| machine.is_ready());
        let millis = |until: BootTime| u64::try_from(now.until(until).as_millis()).unwrap_or(u64::MAX);
        let kept = machine.kept();
        View {
            group: self.group.clone(),
            node: setup.node.clone(),
            instance: setup.instance.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            mode,
            since,
            why: machine.why().to_owned(),
            next: machine.trouble().and_then(|trouble| trouble.next.clone()).filter(|_| needs_a_person(mode)),
            term: kept.term,
            holder: machine.holder().cloned(),
            holder_seen_ms_ago: None,
            remaining_ms: machine.until().map(millis),
            service,
            chain,
            lease,
            takeover_attempts: kept.takeover_attempts,
            takeovers: kept.takeovers,
            takeover: self.takeover.clone(),
            conflicts: kept.conflicts,
            degraded: machine.sight().and_then(|sight| sight.degraded.clone()),
            paused: kept.paused.clone(),
            ingress: self.ingress.clone(),
            orphaned: self.orphaned.clone(),
            hooks: self.hooks.clone(),
            problems: self.problems(setup, machine, now),
        }
    }

    /// What is wrong now, the worst first.
    fn problems(&self, setup: &Setup, machine: &Machine, now: BootTime) -> Vec<Problem> {
        let mut problems = machine.alarms();
        let mut add = |name: &str, what: String, next: String| problems.push(Problem { name: name.into(), what, next });
        let mode = machine.mode();
        if mode == Mode::Degraded {
            let next = "repair what it says; for a half switched node, then `bootstrap ack NODE-DIR --reason TEXT`";
            add("degraded", machine.why().to_owned(), next.into());
        }
        if let Some(trouble) = machine.trouble().filter(|_| mode != Mode::Degraded) {
            let next =
                trouble.next.clone().unwrap_or_else(|| "see that the store can be reached; it is tried again".into());
            add(if trouble.refused { "refused" } else { "store_unreachable" }, trouble.why.clone(), next);
        }
        if let Some(why) = machine.unfit() {
            add("unfit", why.to_owned(), "`bootstrap lease advise NODE-DIR` says what is missing".into());
        }
        if let Some(why) = &self.unwritten {
            add("state_unwritten", why.clone(), "make room for, or mend, the directory .node/agent of the node".into());
        }
        let leads = matches!(mode, Mode::Leader | Mode::Draining);
        if setup.leadership == Leadership::Auto && !leads && machine.holds().is_none() {
            if let Err(why) = machine.may_lead(now) {
                add(
                    "no_candidate",
                    why,
                    "nothing, if that is meant; else mend what it says, or resume the node".into(),
                );
            }
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
        if self.pins_changed {
            let what = "other pins are in force than those this agent was started with";
            add("pins_changed", what.into(), "restart the agent; a leader hands over first".into());
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
