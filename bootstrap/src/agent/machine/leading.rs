//! Leading: from the claim to a running leader, and from there to a service that is proven dead.

use std::time::Duration;

use super::{AGAIN, Action, Doing, Hook, Leadership, Machine, Service, Sight, Trouble, pause};
use crate::agent::persist::Led;
use crate::agent::view::Problem;
use crate::clock::BootTime;
use crate::driver::ServiceRole;
use crate::lease::{Holder, LeaseNote, LeaseWish};

/// A claim that holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Claim {
    pub(super) term: u64,
    pub(super) until: Option<BootTime>,
    envelope: Vec<u8>,
}

/// The way from the claim to a running leader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Promotion {
    pub(super) claim: Claim,
    step: Up,
    /// When this step has taken too long.
    by: BootTime,
    /// Its own state goes on, because nobody led since.
    continues: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Up {
    StopFollower,
    Fence,
    Materialize,
    PrePromote,
    Start,
    Ready,
}

/// A leadership.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reign {
    pub(super) claim: Claim,
    /// When the service is started again after it ended, and how often it ended lately.
    again: Option<BootTime>,
    ends: u32,
    /// When the count is forgotten.
    forget: BootTime,
    /// When the hook for ingress is run again.
    announce: Option<BootTime>,
    refusals: u32,
}

/// The way from a leader to a service that is proven dead, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Demotion {
    pub(super) claim: Option<Claim>,
    step: Down,
    by: BootTime,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Down {
    Drain,
    Stop,
    Save,
    Release,
}

/// What stood in the chain when the fence was put there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fenced {
    /// The term that begins with it.
    pub term: u64,
    /// The slot of the fence.
    pub seq: u64,
    /// The term before it.
    pub before: u64,
}

/// How often a leader's service may end, within [`ENDS_WITHIN`], before another node is to try.
const ENDS: u32 = 3;
const ENDS_WITHIN: Duration = Duration::from_secs(600);
/// What of the time that the lease still holds is left to kill the service.
const MARGIN: Duration = Duration::from_millis(500);
/// How long an answer to giving the lease back is waited for.
const RELEASE: Duration = Duration::from_secs(10);

impl Machine {
    pub(super) fn on_lease(&mut self, note: LeaseNote, now: BootTime) {
        match note {
            LeaseNote::Seen(holder) => self.on_seen(holder),
            LeaseNote::Claimed { term, claim, until } => self.on_claimed(Claim { term, until, envelope: claim }, now),
            LeaseNote::Renewed { until } => self.on_renewed(until),
            LeaseNote::Late { why } => {
                if matches!(self.doing, Doing::Leading(_) | Doing::Promoting(_)) {
                    self.demote(&format!("the lease cannot be renewed: {why}"), now);
                }
            }
            LeaseNote::Expired => {
                self.giving_back = false;
                if let Some(term) = self.holds() {
                    self.lose(term, "the lease expired", now);
                }
            }
            LeaseNote::Superseded { by } => self.on_superseded(by, now),
            LeaseNote::Released => {
                self.giving_back = false;
                if let Doing::Demoting(Demotion { step: Down::Release, .. }) = self.doing {
                    self.released(now);
                }
            }
            LeaseNote::Unfit(why) => {
                self.record("unfit", why.clone());
                self.unfit = Some(why);
            }
        }
    }

    fn on_seen(&mut self, holder: Option<Holder>) {
        // Whatever kept this node from taking part is told again if it still does.
        self.unfit = None;
        if let Some(holder) = &holder {
            self.kept.term = self.kept.term.max(holder.term);
            if holder.node != self.setup.node && !holder.released {
                // Somebody else leads: an operator's word for this node is overruled, and a handoff has arrived.
                self.kept.appointed = None;
                self.kept.handed_off = None;
                self.not_before = None;
            }
        }
        self.holder = holder;
    }

    fn on_renewed(&mut self, until: BootTime) {
        let claim = match &mut self.doing {
            Doing::Promoting(promotion) => Some(&mut promotion.claim),
            Doing::Leading(reign) => Some(&mut reign.claim),
            Doing::Demoting(demotion) => demotion.claim.as_mut(),
            Doing::Killing { holds, .. } => holds.as_mut(),
            _ => None,
        };
        let Some(claim) = claim else { return };
        claim.until = Some(until);
        if matches!(self.service, Service::Starting(ServiceRole::Leader) | Service::Running(ServiceRole::Leader)) {
            self.act(Action::Extend(until));
        }
    }

    fn on_superseded(&mut self, by: Holder, now: BootTime) {
        self.giving_back = false;
        let Some(term) = self.holds() else { return };
        if self.setup.leadership == Leadership::Auto {
            // Nobody can claim while this lease holds, so one of two clocks or two stores is not what it should be.
            self.kept.conflicts += 1;
            self.dual = Some(Problem {
                name: "dual_leader".into(),
                what: format!("{} leads in term {} while this node led in term {term}", by.node, by.term),
                next: "compare the clocks and stores of both nodes; `snapkit verify` says whose records count".into(),
            });
        }
        self.kept.term = self.kept.term.max(by.term);
        self.kept.appointed = None;
        let why = format!("{} leads in term {}", by.node, by.term);
        self.holder = Some(by);
        self.lose(term, &why, now);
    }

    fn on_claimed(&mut self, claim: Claim, now: BootTime) {
        let is_wanted = matches!(self.doing, Doing::Following) && !self.leaving && self.wish != LeaseWish::Follow;
        self.kept.term = self.kept.term.max(claim.term);
        if !is_wanted {
            self.record("claim_not_wanted", format!("term {} is given back", claim.term));
            return self.give_back();
        }
        let (node, instance) = (self.setup.node.clone(), self.setup.instance.clone());
        self.holder = Some(Holder { node, instance, term: claim.term, api: None, released: false, since: None });
        self.kept.takeover_attempts += 1;
        self.ready = false;
        self.why = format!("it holds the lease in term {}", claim.term);
        self.record("claimed", format!("term {}", claim.term));
        let step = if self.service == Service::Dead { Up::Fence } else { Up::StopFollower };
        let promotion = Promotion { claim, step, by: now + self.setup.start, continues: false };
        self.enter(promotion, step, now);
    }

    /// Begins a step on the way up.
    fn enter(&mut self, mut promotion: Promotion, step: Up, now: BootTime) {
        promotion.step = step;
        promotion.by = now + self.setup.start;
        let (term, until) = (promotion.claim.term, promotion.claim.until);
        let action = match step {
            Up::StopFollower if matches!(self.service, Service::Starting(_) | Service::Stopping) => None,
            Up::StopFollower => {
                self.service = Service::Stopping;
                Some(Action::Stop { grace: self.grace(until, now) })
            }
            Up::Fence => Some(Action::Fence { term, claim: promotion.claim.envelope.clone() }),
            Up::Materialize => {
                let afresh = self.setup.follower_runs || !self.kept.aside.is_empty();
                self.materializing += 1;
                Some(Action::Materialize { afresh })
            }
            Up::PrePromote if self.has(Hook::PrePromote) => {
                let within = self.remaining(until, now);
                Some(Action::Run { hook: Hook::PrePromote, term, within })
            }
            Up::PrePromote => return self.enter(promotion, Up::Start, now),
            Up::Start => {
                let generation = self.sight.as_ref().and_then(|sight| sight.generation.clone());
                // Written down before anything of the service can run.
                self.kept.led = generation.map(|generation| Led { term, generation });
                if !self.setup.leader_runs {
                    return self.lead(promotion.claim, now);
                }
                self.service = Service::Starting(ServiceRole::Leader);
                Some(Action::Start { role: ServiceRole::Leader, term, until })
            }
            Up::Ready => None,
        };
        self.doing = Doing::Promoting(promotion);
        if let Some(action) = action {
            self.act(action);
        }
    }

    pub(super) fn go_on_promoting(&mut self, promotion: &Promotion, now: BootTime) {
        // Restoring takes as long as it takes: the lease is renewed meanwhile, and the copy was near before.
        if now >= promotion.by && promotion.step != Up::Materialize {
            self.fail(&format!("{} took too long", promotion.step.words()), now);
        }
    }

    pub(super) fn on_fenced(&mut self, result: Result<Fenced, Trouble>, now: BootTime) {
        let Doing::Promoting(mut promotion) = self.doing.clone() else { return };
        if promotion.step != Up::Fence {
            return;
        }
        match result {
            // The answer to an earlier promotion, which came too late for that one.
            Ok(Fenced { term, .. }) if term != promotion.claim.term => {}
            Ok(Fenced { seq, before, .. }) => {
                self.record("fenced", format!("term {} begins in slot {seq}", promotion.claim.term));
                // A fence is the first act of a leader: without one in between, nobody led since this node did.
                promotion.continues = self.kept.led.as_ref().is_some_and(|led| before <= led.term);
                if promotion.continues {
                    self.record("continues", "nobody led since: this node's own state goes on".to_owned());
                    return self.enter(promotion, Up::PrePromote, now);
                }
                self.others_led(now);
                self.enter(promotion, Up::Materialize, now);
            }
            Err(trouble) => self.fail(&format!("no fence: {}", trouble.why), now),
        }
    }

    pub(super) fn on_materialized(&mut self, result: Result<Sight, Trouble>, now: BootTime) {
        // They are carried out in order: this one belongs to an earlier promotion, and may not know what came since.
        self.materializing = self.materializing.saturating_sub(1);
        if self.materializing > 0 {
            return;
        }
        let Doing::Promoting(promotion) = self.doing.clone() else { return };
        if promotion.step != Up::Materialize {
            return;
        }
        match result {
            Ok(sight) if sight.degraded.is_none() && sight.generation.is_some() => {
                self.record("materialized", format!("{}, captured {}", sight.snapshot, sight.captured));
                self.sight = Some(sight);
                self.sighted = Some(now);
                self.enter(promotion, Up::PrePromote, now);
            }
            Ok(sight) => {
                let why = sight.degraded.clone().unwrap_or_else(|| "no state is active".to_owned());
                self.sight = Some(sight);
                self.fail(&why, now);
            }
            Err(trouble) => self.fail(&format!("the newest state cannot be restored: {}", trouble.why), now),
        }
    }

    pub(super) fn on_started(&mut self, result: Result<(), String>, now: BootTime) {
        let Service::Starting(role) = self.service else { return };
        match result {
            Ok(()) => {
                self.service = Service::Running(role);
                self.record("started", role.as_str());
            }
            Err(why) => {
                self.service = Service::Dead;
                return self.on_ended(&format!("it did not start: {why}"), now);
            }
        }
        match self.doing.clone() {
            Doing::Promoting(promotion) if role == ServiceRole::Leader => self.enter(promotion, Up::Ready, now),
            // A follower that was just being started when the lease was won.
            Doing::Promoting(promotion) => self.enter(promotion, Up::StopFollower, now),
            Doing::Killing { .. } => self.act(Action::Kill),
            Doing::Demoting(demotion) if demotion.step == Down::Stop => {
                self.service = Service::Stopping;
                let grace = self.grace(demotion.claim.as_ref().and_then(|claim| claim.until), now);
                self.act(Action::Stop { grace });
            }
            _ => {}
        }
    }

    pub(super) fn on_probed(&mut self, ready: bool, now: BootTime) {
        self.ready = ready && matches!(self.service, Service::Running(_));
        if let (true, Doing::Promoting(promotion)) = (self.ready, self.doing.clone())
            && promotion.step == Up::Ready
        {
            self.lead(promotion.claim, now);
        }
        if self.ready && matches!(self.doing, Doing::Following) {
            self.follower_again.1 = 0;
        }
    }

    /// It leads.
    fn lead(&mut self, claim: Claim, now: BootTime) {
        self.why = format!("it leads in term {}", claim.term);
        self.kept.takeovers += 1;
        self.setbacks = 0;
        self.setback = None;
        self.dual = None;
        self.ready = true;
        self.record("leads", format!("term {}", claim.term));
        let announce = self.has(Hook::PostPromote).then_some(now);
        let forget = now + ENDS_WITHIN;
        self.doing = Doing::Leading(Reign { claim, again: None, ends: 0, forget, announce, refusals: 0 });
        self.next_look = now;
    }

    pub(super) fn go_on_leading(&mut self, reign: &Reign, now: BootTime) {
        let mut reign = reign.clone();
        if now >= reign.forget {
            reign.ends = 0;
            reign.forget = now + ENDS_WITHIN;
        }
        if reign.announce.is_some_and(|at| now >= at) {
            reign.announce = None;
            let (hook, within) = (Hook::PostPromote, Duration::MAX);
            self.act(Action::Run { hook, term: reign.claim.term, within });
        }
        if reign.again.is_some_and(|at| now >= at) && self.service == Service::Dead {
            reign.again = None;
            self.service = Service::Starting(ServiceRole::Leader);
            self.act(Action::Start { role: ServiceRole::Leader, term: reign.claim.term, until: reign.claim.until });
        }
        self.doing = Doing::Leading(reign);
    }

    /// The service is dead, proven by the driver, without having been stopped.
    pub(super) fn on_ended(&mut self, how: &str, now: BootTime) {
        if self.service == Service::Stopping {
            // What stops it proves it, too, and says so itself.
            return;
        }
        self.service = Service::Dead;
        self.ready = false;
        match self.doing.clone() {
            Doing::Promoting(promotion) => match promotion.step {
                Up::StopFollower => self.enter(promotion, Up::Fence, now),
                Up::Start | Up::Ready => self.fail(&format!("the service ended: {how}"), now),
                _ => {}
            },
            Doing::Leading(mut reign) => {
                reign.ends += 1;
                self.record("leader_ended", how.to_owned());
                // In static leadership nobody else may take over, so it is tried for ever.
                if reign.ends > ENDS && self.setup.leadership == Leadership::Auto {
                    self.setback(&format!("the service ended {} times: {how}", reign.ends), now);
                    return self.demote("the service does not stay up", now);
                }
                reign.again = Some(now + pause(reign.ends));
                self.doing = Doing::Leading(reign);
            }
            Doing::Demoting(demotion) if matches!(demotion.step, Down::Drain | Down::Stop) => {
                self.down(demotion, Down::Save, now);
            }
            Doing::Killing { term, .. } => self.killed(term, now),
            Doing::Demoting(_) => {}
            _ => self.follower_ended(how, now),
        }
    }

    /// A takeover fails: the lease is given back, and this node waits before it tries again.
    fn fail(&mut self, why: &str, now: BootTime) {
        self.setback(why, now);
        self.demote(why, now);
    }

    fn setback(&mut self, why: &str, now: BootTime) {
        self.setbacks += 1;
        self.not_before = Some(now + pause(self.setbacks) + self.setup.ttl);
        self.setback = Some(why.to_owned());
        self.record("takeover_failed", why.to_owned());
    }

    /// Begins the orderly way down: it is not ready from now on.
    pub(super) fn demote(&mut self, why: &str, now: BootTime) {
        let claim = self.claim().cloned();
        self.ready = false;
        self.why = why.to_owned();
        self.record("demoting", why.to_owned());
        let demotion = Demotion { claim, step: Down::Drain, by: now };
        let leads = matches!(self.doing, Doing::Leading(_)) && self.service != Service::Dead;
        self.down(demotion, if leads { Down::Drain } else { Down::Stop }, now);
    }

    /// Begins a step on the way down.
    fn down(&mut self, mut demotion: Demotion, step: Down, now: BootTime) {
        let until = demotion.claim.as_ref().and_then(|claim| claim.until);
        let term = demotion.claim.as_ref().map_or(self.kept.term, |claim| claim.term);
        demotion.step = step;
        if step == Down::Save {
            self.record("stopped", format!("term {term}: the service is proven dead"));
        }
        let within = self.remaining(until, now);
        demotion.by = now + within;
        let action = match step {
            Down::Drain if self.has(Hook::Drain) => {
                // The rest of the time is needed to stop it in order.
                let within = within.min(within.saturating_sub(self.setup.grace).max(within / 3));
                demotion.by = now + within;
                Action::Run { hook: Hook::Drain, term, within }
            }
            Down::Drain => return self.down(demotion, Down::Stop, now),
            Down::Stop => match self.service {
                Service::Dead => return self.down(demotion, Down::Save, now),
                Service::Starting(_) | Service::Stopping => return self.doing = Doing::Demoting(demotion),
                Service::Running(_) => {
                    self.service = Service::Stopping;
                    demotion.by = now + within.max(self.setup.grace * 2);
                    Action::Stop { grace: self.grace(until, now) }
                }
            },
            // There is something to save only if the service of this term ran.
            Down::Save if self.has(Hook::Save) && self.kept.led.as_ref().is_some_and(|led| led.term == term) => {
                Action::Run { hook: Hook::Save, term, within }
            }
            Down::Save => return self.down(demotion, Down::Release, now),
            // The operator's word stands while this agent does not run.
            Down::Release if self.leaving && self.setup.leadership == Leadership::Static => {
                self.doing = Doing::Demoting(demotion);
                self.record("kept", format!("term {term}: it leads on when its agent is started again"));
                self.doing = Doing::Following;
                return self.demoted(term, now);
            }
            Down::Release => {
                demotion.by = now + RELEASE.min(within);
                self.doing = Doing::Demoting(demotion);
                return self.give_back();
            }
        };
        self.doing = Doing::Demoting(demotion);
        self.act(action);
    }

    pub(super) fn go_on_demoting(&mut self, demotion: &Demotion, now: BootTime) {
        if now < demotion.by {
            return;
        }
        match demotion.step {
            Down::Drain => {
                self.record("drain_given_up", "the drain hook took too long".to_owned());
                self.down(demotion.clone(), Down::Stop, now);
            }
            // The driver kills what does not end, and the guard kills at the end of the lease whatever this agent does.
            Down::Stop => {}
            Down::Save => self.down(demotion.clone(), Down::Release, now),
            // It is given back as soon as that is possible, or ends by itself; nothing here needs it any more.
            Down::Release => {
                self.record("not_released", "the store does not answer; the lease ends by itself".to_owned());
                let term = self.holds().unwrap_or(self.kept.term);
                self.doing = Doing::Following;
                self.demoted(term, now);
            }
        }
    }

    pub(super) fn on_hooked(&mut self, hook: Hook, result: Result<(), String>, now: BootTime) {
        match (self.doing.clone(), hook) {
            (Doing::Promoting(promotion), Hook::PrePromote) if promotion.step == Up::PrePromote => match result {
                Ok(()) => self.enter(promotion, Up::Start, now),
                Err(why) => self.fail(&format!("the hook pre_promote says no: {why}"), now),
            },
            (Doing::Leading(mut reign), Hook::PostPromote) => {
                if let Err(why) = result {
                    reign.refusals += 1;
                    reign.announce = Some(now + pause(reign.refusals));
                    self.record("hook_failed", format!("post_promote: {why}; it is run again"));
                    self.doing = Doing::Leading(reign);
                }
            }
            (Doing::Demoting(demotion), Hook::Drain) if demotion.step == Down::Drain => {
                self.down(demotion, Down::Stop, now);
            }
            (Doing::Demoting(demotion), Hook::Save) if demotion.step == Down::Save => {
                match result {
                    Ok(()) => {
                        self.kept.led = None;
                        self.record("saved", "the last state is in the chain".to_owned());
                    }
                    Err(why) => self.record("not_saved", why),
                }
                self.down(demotion, Down::Release, now);
            }
            (_, _) => {
                if let Err(why) = result {
                    self.record("hook_failed", format!("{}: {why}", hook.as_str()));
                }
            }
        }
    }

    pub(super) fn on_stopped(&mut self, result: Result<(), String>, now: BootTime) {
        if let Err(why) = result {
            self.why = format!("the service cannot be proven dead: {why}");
            self.record("not_proven_dead", why);
            let term = self.holds().unwrap_or(self.kept.term);
            // Whatever was under way: nothing goes on before it is dead. A lease that is held is kept, so that nobody
            // else leads meanwhile.
            let holds = self.claim().cloned();
            self.doing = Doing::Killing { term, again: Some(now + AGAIN), holds };
            return;
        }
        self.service = Service::Dead;
        self.ready = false;
        match self.doing.clone() {
            Doing::Promoting(promotion) if promotion.step == Up::StopFollower => self.enter(promotion, Up::Fence, now),
            Doing::Demoting(demotion) if matches!(demotion.step, Down::Stop | Down::Drain) => {
                self.down(demotion, Down::Save, now);
            }
            Doing::Killing { term, .. } => self.killed(term, now),
            Doing::Following | Doing::Fenced { .. } if self.leaving => self.finish(),
            _ => {}
        }
    }

    /// The lease is lost: the service is killed, whatever was under way.
    pub(super) fn lose(&mut self, term: u64, why: &str, now: BootTime) {
        self.why = why.to_owned();
        self.ready = false;
        self.drained = None;
        self.record("lost", format!("term {term}: {why}"));
        self.wish = LeaseWish::Follow;
        self.act(Action::Wish(LeaseWish::Follow));
        if let Doing::Killing { again, .. } = self.doing {
            return self.doing = Doing::Killing { term, again, holds: None };
        }
        match self.service {
            Service::Dead => self.killed(term, now),
            Service::Starting(_) | Service::Stopping | Service::Running(_) => self.kill(term),
        }
    }

    fn kill(&mut self, term: u64) {
        self.service = Service::Stopping;
        self.doing = Doing::Killing { term, again: None, holds: None };
        self.act(Action::Kill);
    }

    /// The service of a lost lease is proven dead.
    fn killed(&mut self, term: u64, now: BootTime) {
        if let Some(claim) = self.claim().cloned().filter(|_| matches!(self.doing, Doing::Killing { .. })) {
            self.record("proven_dead", format!("term {term}; the lease is held yet"));
            let demotion = Demotion { claim: Some(claim), step: Down::Save, by: now };
            return self.down(demotion, Down::Save, now);
        }
        self.doing = Doing::Fenced { term };
        self.record("proven_dead", format!("term {term}"));
        self.demoted(term, now);
    }

    /// The lease was given back, or ends by itself.
    fn released(&mut self, now: BootTime) {
        let term = self.holds().unwrap_or(self.kept.term);
        self.doing = Doing::Following;
        self.record("released", format!("term {term}"));
        self.demoted(term, now);
    }

    fn give_back(&mut self) {
        self.giving_back = true;
        self.wish = LeaseWish::Release;
        self.act(Action::Wish(LeaseWish::Release));
    }

    fn demoted(&mut self, term: u64, now: BootTime) {
        self.drained = None;
        self.next_look = now;
        if self.has(Hook::PostDemote) {
            let (hook, within) = (Hook::PostDemote, Duration::MAX);
            self.act(Action::Run { hook, term, within });
        }
        if self.leaving {
            self.finish();
        }
    }

    /// The time that the lease surely holds.
    fn remaining(&self, until: Option<BootTime>, now: BootTime) -> Duration {
        until.map_or(Duration::from_secs(3600), |until| now.until(until).saturating_sub(MARGIN))
    }

    /// How long the service may take to end: its grace, or what the lease leaves.
    fn grace(&self, until: Option<BootTime>, now: BootTime) -> Duration {
        self.setup.grace.min(self.remaining(until, now))
    }
}

impl Up {
    fn words(self) -> &'static str {
        match self {
            Self::StopFollower => "stopping the follower",
            Self::Fence => "the fence",
            Self::Materialize => "restoring",
            Self::PrePromote => "the hook pre_promote",
            Self::Start => "starting the service",
            Self::Ready => "becoming ready",
        }
    }
}
