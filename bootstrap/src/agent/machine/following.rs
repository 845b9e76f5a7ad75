//! Following the chain: looking, keeping a copy ready, running the follower, and whether this node may lead.

use std::time::Duration;

use jiff::Timestamp;
use manifests::refusal::Class;

use super::{Action, Doing, Event, Hook, Leadership, Machine, Service, pause};
use crate::agent::persist::Led;
use crate::clock::BootTime;
use crate::driver::ServiceRole;
use crate::lease::LeaseWish;

/// What a look at the chain does to the node's copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Apply {
    /// Nothing.
    Leave,
    /// Restores the newest state beside the active one.
    Prepare,
    /// Restores it and switches to it.
    Switch {
        /// Also if the active generation is of the newest snapshot: somebody wrote into it.
        afresh: bool,
    },
}

/// What a look at the chain found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sight {
    /// Slot of the newest record.
    pub head: u64,
    /// The term in force in the chain.
    pub term: u64,
    /// The newest complete snapshot.
    pub snapshot: String,
    /// Its slot.
    pub snapshot_seq: u64,
    /// When its state was captured.
    pub captured: Timestamp,
    /// The newest of them that is on this node, active or ready.
    pub applied: Option<String>,
    /// Its slot.
    pub applied_seq: Option<u64>,
    /// Complete snapshots after that.
    pub lag: u64,
    /// The active generation.
    pub generation: Option<String>,
    /// Whether this look made another generation the active one.
    pub switched: bool,
    /// The sentence of the degraded mark, if the node has it.
    pub degraded: Option<String>,
}

/// Why something with the chain or the node failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// What happened.
    pub why: String,
    /// What to do about it, where that is known.
    pub next: Option<String>,
    /// Something was not to be believed: asking again does not help.
    pub refused: bool,
    /// The class of that refusal.
    pub class: Option<Class>,
}

impl Machine {
    /// Looks at the chain when it is time.
    pub(super) fn look(&mut self, now: BootTime) {
        let apply = match &self.doing {
            _ if self.looking.is_some() || now < self.next_look || self.setting_aside => return,
            Doing::Following | Doing::Fenced { .. } if self.leaving => return,
            Doing::Following | Doing::Fenced { .. } => self.apply(),
            Doing::Leading(_) => Apply::Leave,
            _ => return,
        };
        self.looking = Some(apply);
        self.act(Action::Look(apply));
    }

    /// What the next look may do to the node's copy.
    fn apply(&self) -> Apply {
        let is_dead = self.service == Service::Dead;
        match self.service {
            // What this node wrote as leader is touched only once somebody else led.
            _ if self.kept.led.is_some() || self.kept.paused.is_some() => Apply::Leave,
            _ if !self.kept.aside.is_empty() && is_dead => Apply::Switch { afresh: true },
            Service::Dead => Apply::Switch { afresh: false },
            Service::Running(ServiceRole::Follower) if self.has(Hook::Reload) => Apply::Switch { afresh: false },
            Service::Running(ServiceRole::Follower) => Apply::Prepare,
            _ => Apply::Leave,
        }
    }

    pub(super) fn on_looked(&mut self, result: Result<Sight, Trouble>, now: BootTime) {
        let applied = self.looking.take();
        self.next_look = now + self.setup.poll;
        let sight = match result {
            Ok(sight) => sight,
            Err(trouble) => {
                if self.trouble.as_ref().map(|known| &known.why) != Some(&trouble.why) {
                    self.record("chain_trouble", trouble.why.clone());
                }
                self.trouble = Some(trouble);
                return;
            }
        };
        if self.trouble.take().is_some() {
            self.record("chain_read_again", sight.snapshot.clone());
        }
        if sight.switched {
            self.record("switched", format!("{} is active", sight.applied.as_deref().unwrap_or("nothing")));
        }
        self.kept.term = self.kept.term.max(sight.term);
        let (switched, term) = (sight.switched, sight.term);
        self.sight = Some(sight);
        self.sighted = Some(now);
        if let Doing::Leading(reign) = &self.doing
            && term > reign.claim.term
        {
            let term = reign.claim.term;
            return self.lose(term, "the chain has a fence of a higher term", now);
        }
        if let Doing::Fenced { .. } = self.doing {
            self.doing = Doing::Following;
            self.why = "the lease was lost; the service is proven dead, and the chain can be read".to_owned();
        }
        // Its own fence says nothing of others: what stood in the chain before it is told with the fence.
        let is_own = self.holds().is_some_and(|held| term <= held);
        if !is_own && self.kept.led.as_ref().is_some_and(|led| term > led.term) {
            self.others_led(now);
        }
        if switched && self.service == Service::Running(ServiceRole::Follower) && self.has(Hook::Reload) {
            let (hook, within) = (Hook::Reload, Duration::MAX);
            self.act(Action::Run { hook, term: self.kept.term, within });
        }
        self.set_aside(applied);
    }

    /// Somebody else led after this node: what it wrote is no continuation of the chain any more.
    pub(super) fn others_led(&mut self, now: BootTime) {
        if let Some(led) = self.kept.led.take() {
            self.record("led_by_others", format!("what only this node has of term {} will be set aside", led.term));
            self.kept.aside.push(led);
            self.next_look = now;
        }
    }

    /// Sets one lost leadership aside, once another generation is active.
    fn set_aside(&mut self, applied: Option<Apply>) {
        let active = self.sight.as_ref().and_then(|sight| sight.generation.clone());
        let Some(led) = self.kept.aside.first().cloned() else { return };
        if self.setting_aside || active.is_none() || !matches!(self.doing, Doing::Following | Doing::Leading(_)) {
            return;
        }
        if active.as_ref() == Some(&led.generation) {
            // The look would have switched, had it differed from the chain in anything.
            if applied == Some(Apply::Switch { afresh: true }) {
                self.kept.aside.remove(0);
                self.record("nothing_to_set_aside", format!("term {} left nothing that the chain lacks", led.term));
            }
            return;
        }
        self.setting_aside = true;
        self.act(Action::SetAside(led));
    }

    pub(super) fn on_set_aside(&mut self, led: &Led, result: Result<Option<String>, Trouble>, now: BootTime) {
        self.setting_aside = false;
        match result {
            Ok(place) => {
                self.kept.aside.retain(|kept| kept != led);
                let place = place.unwrap_or_else(|| "the chain holds all of it".to_owned());
                self.record("set_aside", format!("term {}: {place}", led.term));
                self.next_look = now;
            }
            Err(trouble) => {
                self.record("not_set_aside", trouble.why.clone());
                self.trouble = Some(trouble);
                self.next_look = now + self.setup.poll;
            }
        }
    }

    /// Runs the follower where one runs.
    pub(super) fn follow(&mut self, now: BootTime) {
        if self.leaving {
            return self.leave();
        }
        let may_run = matches!(self.doing, Doing::Following)
            && self.setup.follower_runs
            && self.service == Service::Dead
            && now >= self.follower_again.0
            && self.looking.is_none()
            && !self.setting_aside
            && self.materializing == 0
            && self.kept.led.is_none()
            && self.kept.aside.is_empty()
            && self.degraded().is_none()
            && self.sight.as_ref().is_some_and(|sight| sight.generation.is_some());
        if may_run {
            self.service = Service::Starting(ServiceRole::Follower);
            self.ready = false;
            self.act(Action::Start { role: ServiceRole::Follower, term: self.kept.term, until: None });
        }
    }

    /// A follower's service did not start, or ended.
    pub(super) fn follower_ended(&mut self, how: &str, now: BootTime) {
        let failures = self.follower_again.1 + 1;
        self.follower_again = (now + pause(failures), failures);
        self.record("follower_ended", how.to_owned());
    }

    /// Tells the lease what this node wants, if that changed.
    pub(super) fn wish(&mut self, now: BootTime) {
        if self.giving_back {
            return;
        }
        let wish = match &self.doing {
            Doing::Following if self.may_lead(now).is_ok() => LeaseWish::Lead,
            Doing::Following | Doing::Fenced { .. } | Doing::Reclaiming { .. } | Doing::Ended => LeaseWish::Follow,
            // The lease that is held is kept until it is given back, and longest where a service may still live.
            Doing::Promoting(_) | Doing::Leading(_) | Doing::Demoting(_) | Doing::Killing { .. } => return,
        };
        let is_forced = matches!(self.wish, LeaseWish::Force { .. }) && wish == LeaseWish::Lead;
        if wish != self.wish && !is_forced {
            self.wish = wish.clone();
            self.act(Action::Wish(wish));
        }
    }

    /// Whether this node may claim the lease now, or why not.
    ///
    /// # Errors
    /// The reason, in words.
    pub fn may_lead(&self, now: BootTime) -> Result<(), String> {
        let no = |why: String| Err(why);
        let Some(sight) = &self.sight else { return no("the chain was not read yet".into()) };
        match self.setup.leadership {
            Leadership::Nobody => return no("the pins name no lease".into()),
            Leadership::Static if self.kept.appointed.is_none() => return no("no operator promoted this node".into()),
            Leadership::Auto if self.setup.no_failover => return no("bootstrap.toml says no_failover".into()),
            Leadership::Static | Leadership::Auto => {}
        }
        if let Some(reason) = self.kept.paused.as_ref().or(self.kept.held.as_ref()).or(self.drained.as_ref()) {
            return no(format!("an operator took it out of the candidates: {reason}"));
        }
        if let Some(mark) = self.degraded() {
            return no(format!("it is degraded: {mark}"));
        }
        if let Some(why) = self.unfit() {
            return no(why.to_owned());
        }
        if let Some(trouble) = &self.trouble {
            return no(format!("the chain cannot be followed: {}", trouble.why));
        }
        // A restore that takes long is not held against the sight it began from.
        let limit = self.setup.poll * 3 + self.setup.ttl;
        if self.looking.is_none() && self.sighted.is_none_or(|at| now.since(at) > limit) {
            return no("the chain was not read lately".into());
        }
        if sight.generation.is_none() {
            return no("no state is active here".into());
        }
        let is_own = self.kept.led.as_ref().is_some_and(|led| sight.term <= led.term);
        if !is_own && sight.lag > self.setup.max_lag {
            return no(format!("its state is {} snapshots behind the chain", sight.lag));
        }
        if !self.kept.aside.is_empty() {
            return no("what its last leadership left is not set aside yet".into());
        }
        match self.not_before {
            Some(at) if now < at => no("it waits after a takeover that failed or a handoff".into()),
            _ => Ok(()),
        }
    }
}

impl Machine {
    /// Who leads, and what this node does meanwhile.
    pub(super) fn standing_by(&self, now: BootTime) -> String {
        let leader = self.holder.as_ref().filter(|holder| !holder.released && holder.instance != self.setup.instance);
        let who = match (self.setup.leadership, leader) {
            (Leadership::Nobody, _) => "it follows the chain, and nobody leads by these pins".to_owned(),
            (_, Some(holder)) => format!("{} leads in term {}", holder.node, holder.term),
            (_, None) => "nobody leads".to_owned(),
        };
        match (self.may_lead(now), leader) {
            _ if self.setup.leadership == Leadership::Nobody => who,
            (Ok(()), Some(_)) => format!("{who}; this node is ready to take over"),
            (Ok(()), None) => format!("{who}; this node claims the lease as soon as that is safe"),
            (Err(why), _) => format!("{who}; this node would not: {why}"),
        }
    }
}

impl Event {
    /// The event for a job on the chain that could not even be begun.
    pub fn looked_badly(why: impl Into<String>) -> Self {
        Self::Looked(Err(Trouble { why: why.into(), next: None, refused: false, class: None }))
    }
}
