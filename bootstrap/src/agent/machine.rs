//! The agent's machine: from what is known and what just happened to what is done next.
//!
//! It is told everything as an [`Event`] with the time, and answers with [`Action`]s; it waits for nothing and asks
//! nothing. What it must know after a crash is in [`Kept`], which is written before its actions are begun. Two rules stand
//! above the rest: a service leads only while a lease of this run holds, and nothing takes the way back to follower
//! before the service is proven dead. States and transitions: `docs/agent.md`. Layer: pure.

mod asked;
mod following;
mod leading;
#[cfg(test)]
mod tests;

use std::time::Duration;

use super::persist::{Kept, Led};
use super::view::{Mode, Problem, Reply, Request};
use crate::clock::BootTime;
use crate::driver::ServiceRole;
use crate::lease::{Holder, LeaseNote, LeaseWish};

pub use following::{Apply, Sight, Trouble};
pub use leading::Fenced;

/// Who leads in this node's group, and how that is decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leadership {
    /// Nobody: the pins have no lease.
    Nobody,
    /// An operator decides.
    Static,
    /// The lease decides.
    Auto,
}

/// Hooks that the machine waits for or begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Hook {
    /// Before the service is stopped: it takes no new work.
    Drain,
    /// After it is dead, while the lease still holds: the last snapshot.
    Save,
    /// Before the service is started as leader; may veto.
    PrePromote,
    /// It leads: ingress.
    PostPromote,
    /// It leads no longer.
    PostDemote,
    /// Under a running follower another generation is active.
    Reload,
}

impl Hook {
    /// The name in `bootstrap.toml`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Drain => "drain",
            Self::Save => "save",
            Self::PrePromote => "pre_promote",
            Self::PostPromote => "post_promote",
            Self::PostDemote => "post_demote",
            Self::Reload => "reload",
        }
    }
}

/// What does not change while an agent runs.
#[derive(Debug, Clone)]
pub struct Setup {
    /// The name of this node.
    pub node: String,
    /// This run.
    pub instance: String,
    /// This boot of the machine; empty where that cannot be told.
    pub boot: String,
    /// Who leads, and how that is decided.
    pub leadership: Leadership,
    /// Why this node never leads by these pins; it only sees who does.
    pub barred: Option<String>,
    /// Whether a leader runs a service; else only data is kept.
    pub leader_runs: bool,
    /// Whether a follower runs one.
    pub follower_runs: bool,
    /// Never a candidate.
    pub no_failover: bool,
    /// Snapshots that a candidate may be behind.
    pub max_lag: u64,
    /// How long a claim holds.
    pub ttl: Duration,
    /// How often the chain is looked at.
    pub poll: Duration,
    /// How long the service is given to end.
    pub grace: Duration,
    /// How long it is given to become ready.
    pub start: Duration,
    /// The hooks that are declared.
    pub hooks: Vec<Hook>,
}

/// Something that happened.
#[derive(Debug, Clone)]
pub enum Event {
    /// Time passed.
    Tick,
    /// The lease says something.
    Lease(LeaseNote),
    /// What an earlier agent left is proven dead, or why that cannot be done.
    Reclaimed(Result<(), String>),
    /// The service was started, or nothing of it runs.
    Started(Result<(), String>),
    /// A stop or kill ended: the service is proven dead, or why that cannot be done.
    Stopped(Result<(), String>),
    /// The service ended by itself; how.
    Ended(String),
    /// What the probes say of the running service.
    Probed {
        /// It may be asked.
        ready: bool,
    },
    /// The chain was looked at.
    Looked(Result<Sight, Trouble>),
    /// The fence stands in the chain, or why not.
    Fenced(Result<Fenced, Trouble>),
    /// The newest state is active, or why not.
    Materialized(Result<Sight, Trouble>),
    /// The state of a lost leadership lies aside; where, if it held anything that the chain does not.
    SetAside(Led, Result<Option<String>, Trouble>),
    /// A hook ended.
    Hooked(Hook, Result<(), String>),
    /// Somebody asks for something; the number goes back with the reply.
    Asked(u64, Request),
    /// This agent is asked to end.
    Shutdown,
}

/// Something to do. Each but `Wish`, `Extend`, `Reply` and `Record` is answered by one event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Tell the lease.
    Wish(LeaseWish),
    /// Prove dead what an earlier agent left.
    Reclaim,
    /// Start the service.
    Start {
        /// As what.
        role: ServiceRole,
        /// The term.
        term: u64,
        /// When it must be dead.
        until: Option<BootTime>,
    },
    /// It may live longer.
    Extend(BootTime),
    /// Stop it in order.
    Stop {
        /// How long it may take to end.
        grace: Duration,
    },
    /// Kill it.
    Kill,
    /// Look at the chain, and keep this node's copy as said.
    Look(Apply),
    /// Put the term into the chain.
    Fence {
        /// The term.
        term: u64,
        /// The envelope of the claim.
        claim: Vec<u8>,
    },
    /// Make the newest complete state before the fence active.
    Materialize {
        /// Also if the active generation is of that snapshot: somebody may have written into it.
        afresh: bool,
    },
    /// Set the state of a lost leadership aside, with a report of what only it holds.
    SetAside(Led),
    /// Run a hook.
    Run {
        /// Which.
        hook: Hook,
        /// The term it is about.
        term: u64,
        /// It is killed after this, or its own limit if that is shorter.
        within: Duration,
    },
    /// Answer a request.
    Reply(u64, Reply),
    /// Write an event down.
    Record(&'static str, String),
    /// End this agent.
    Exit,
}

/// What is under way. [`Machine::mode`] says it in the words of surfaces.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Doing {
    /// What an earlier agent left is being proven dead.
    Reclaiming { again: Option<BootTime> },
    /// It follows the chain.
    Following,
    /// It holds the lease, on the way to a running leader.
    Promoting(leading::Promotion),
    /// It leads.
    Leading(leading::Reign),
    /// It stops in order.
    Demoting(leading::Demotion),
    /// The service is being killed: the lease is lost, or still held because the service could not be proven dead.
    Killing { term: u64, again: Option<BootTime>, holds: Option<leading::Claim> },
    /// The lease was lost, and the service is proven dead.
    Fenced { term: u64 },
    /// Everything is stopped; the agent ends.
    Ended,
}

/// The service as far as the machine knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Service {
    Dead,
    Starting(ServiceRole),
    Running(ServiceRole),
    Stopping,
}

/// The machine.
#[derive(Debug, Clone)]
pub struct Machine {
    setup: Setup,
    kept: Kept,
    doing: Doing,
    why: String,
    service: Service,
    ready: bool,
    holder: Option<Holder>,
    unfit: Option<String>,
    wish: LeaseWish,
    /// The lease was to be given back, and no answer to that came yet.
    giving_back: bool,
    sight: Option<Sight>,
    sighted: Option<BootTime>,
    trouble: Option<Trouble>,
    looking: Option<Apply>,
    next_look: BootTime,
    setting_aside: bool,
    /// Restores of promotions that did not answer yet; those that were given up go on.
    materializing: u32,
    drained: Option<String>,
    not_before: Option<BootTime>,
    setbacks: u32,
    /// When the follower may be started again, and how often it ended.
    follower_again: (BootTime, u32),
    leaving: bool,
    dual: Option<Problem>,
    setback: Option<String>,
    out: Vec<Action>,
}

/// How long after a failed proof of death it is tried again.
const AGAIN: Duration = Duration::from_secs(5);
/// The first pause after something failed; it doubles.
const PAUSE: Duration = Duration::from_secs(5);
/// The longest such pause.
const PAUSE_MAX: Duration = Duration::from_secs(300);

fn pause(failures: u32) -> Duration {
    PAUSE.saturating_mul(1 << failures.saturating_sub(1).min(10)).min(PAUSE_MAX)
}

impl Machine {
    /// A machine at the start of an agent. `generation` is the one that is active on the node.
    pub fn new(setup: Setup, mut kept: Kept, now: BootTime) -> Self {
        // After another boot its time says nothing, and the others had all the time that a boot takes.
        kept.handed_off =
            kept.handed_off.filter(|until| !until.boot.is_empty() && until.boot == setup.boot && until.at > now);
        let not_before = kept.handed_off.as_ref().map(|until| until.at);
        Self {
            setup,
            kept,
            doing: Doing::Reclaiming { again: Some(now) },
            why: "finding out what an earlier agent left".to_owned(),
            service: Service::Dead,
            ready: false,
            holder: None,
            unfit: None,
            wish: LeaseWish::Follow,
            giving_back: false,
            sight: None,
            sighted: None,
            trouble: None,
            looking: None,
            next_look: now,
            setting_aside: false,
            materializing: 0,
            drained: None,
            not_before,
            setbacks: 0,
            follower_again: (now, 0),
            leaving: false,
            dual: None,
            setback: None,
            out: Vec::new(),
        }
    }

    /// Takes one event and says what is to be done.
    pub fn step(&mut self, event: Event, now: BootTime) -> Vec<Action> {
        match event {
            Event::Tick => {}
            Event::Lease(note) => self.on_lease(note, now),
            Event::Reclaimed(result) => self.on_reclaimed(result, now),
            Event::Started(result) => self.on_started(result, now),
            Event::Stopped(result) => self.on_stopped(result, now),
            Event::Ended(how) => self.on_ended(&how, now),
            Event::Probed { ready } => self.on_probed(ready, now),
            Event::Looked(result) => self.on_looked(result, now),
            Event::Fenced(result) => self.on_fenced(result, now),
            Event::Materialized(result) => self.on_materialized(result, now),
            Event::SetAside(led, result) => self.on_set_aside(&led, result, now),
            Event::Hooked(hook, result) => self.on_hooked(hook, result, now),
            Event::Asked(ticket, request) => self.on_asked(ticket, &request, now),
            Event::Shutdown => self.on_shutdown(now),
        }
        self.go_on(now);
        std::mem::take(&mut self.out)
    }

    /// What is due by time alone, whatever happened.
    fn go_on(&mut self, now: BootTime) {
        match self.doing.clone() {
            Doing::Reclaiming { again: Some(at) } if now >= at => {
                self.doing = Doing::Reclaiming { again: None };
                self.act(Action::Reclaim);
            }
            Doing::Killing { term, again: Some(at), holds } if now >= at => {
                self.doing = Doing::Killing { term, again: None, holds };
                self.act(Action::Kill);
            }
            Doing::Following | Doing::Fenced { .. } => self.follow(now),
            Doing::Promoting(promotion) => self.go_on_promoting(&promotion, now),
            Doing::Leading(reign) => self.go_on_leading(&reign, now),
            Doing::Demoting(demotion) => self.go_on_demoting(&demotion, now),
            _ => {}
        }
        self.look(now);
        self.wish(now);
    }

    /// The state in one word.
    pub fn mode(&self) -> Mode {
        match &self.doing {
            Doing::Reclaiming { .. } if self.trouble.is_some() => Mode::Degraded,
            Doing::Reclaiming { .. } => Mode::Starting,
            Doing::Following if self.degraded().is_some() => Mode::Degraded,
            Doing::Following if self.is_refused() => Mode::Refused,
            Doing::Following if self.kept.paused.is_some() => Mode::Paused,
            Doing::Following if matches!(self.wish, LeaseWish::Lead | LeaseWish::Force { .. }) => Mode::Candidate,
            Doing::Following => Mode::Follower,
            Doing::Promoting(_) => Mode::Promoting,
            Doing::Leading(_) if self.drained.is_some() => Mode::Draining,
            Doing::Leading(_) => Mode::Leader,
            Doing::Demoting(_) | Doing::Ended => Mode::Demoting,
            Doing::Killing { again: Some(_), .. } => Mode::Degraded,
            Doing::Killing { .. } => Mode::Demoting,
            Doing::Fenced { .. } => Mode::Fenced,
        }
    }

    /// Why it is so, in a sentence.
    pub fn why(&self, now: BootTime) -> String {
        match (self.mode(), &self.trouble) {
            (Mode::Refused, Some(trouble)) => trouble.why.clone(),
            (Mode::Paused, _) => self.kept.paused.as_ref().unwrap_or(&self.why).clone(),
            (Mode::Degraded, _) => self.degraded().unwrap_or(&self.why).to_owned(),
            (Mode::Follower | Mode::Candidate, _) => self.standing_by(now),
            _ => self.why.clone(),
        }
    }

    /// Whether it only follows, with nothing under way that another machine would not know of.
    pub fn is_idle(&self, now: BootTime) -> bool {
        matches!(self.doing, Doing::Following)
            && matches!(self.service, Service::Dead | Service::Running(ServiceRole::Follower))
            && self.looking.is_none()
            && !self.setting_aside
            && self.materializing == 0
            && !self.giving_back
            // That another node is to come first is known to this machine alone.
            && self.not_before.is_none_or(|at| now >= at)
            && !self.leaving
    }

    /// What must be known after a crash.
    pub fn kept(&self) -> &Kept {
        &self.kept
    }

    /// The last sight of the chain.
    pub fn sight(&self) -> Option<&Sight> {
        self.sight.as_ref()
    }

    /// What the last look at the chain failed for.
    pub fn trouble(&self) -> Option<&Trouble> {
        self.trouble.as_ref()
    }

    /// Who holds or last held the lease.
    pub fn holder(&self) -> Option<&Holder> {
        self.holder.as_ref()
    }

    /// Why a person drained it.
    pub fn drained(&self) -> Option<&str> {
        self.drained.as_deref()
    }

    /// Why this node cannot take part in the lease.
    pub fn unfit(&self) -> Option<&str> {
        self.setup.barred.as_deref().or(self.unfit.as_deref())
    }

    /// Until when the service of this node may lead; `None` without a lease, and without a limit.
    pub fn until(&self) -> Option<BootTime> {
        self.claim().and_then(|claim| claim.until)
    }

    /// The term that this node holds the lease in.
    pub fn holds(&self) -> Option<u64> {
        self.claim().map(|claim| claim.term)
    }

    /// What the service runs as.
    pub fn runs_as(&self) -> Option<ServiceRole> {
        match self.service {
            Service::Running(role) => Some(role),
            _ => None,
        }
    }

    /// Whether the service may be asked for what its role serves.
    pub fn is_ready(&self) -> bool {
        let serves = matches!(self.doing, Doing::Leading(_)) && self.drained.is_none()
            || matches!(self.doing, Doing::Following) && self.drained.is_none();
        serves && self.ready && matches!(self.service, Service::Running(_))
    }

    /// Two leaders were seen, or the last takeover failed: what a person should know although the machine goes on.
    pub fn alarms(&self) -> Vec<Problem> {
        let mut problems: Vec<Problem> = self.dual.iter().cloned().collect();
        if let Some(why) = &self.setback {
            problems.push(Problem {
                name: "takeover_failed".into(),
                what: why.clone(),
                next: "see the hooks and events below; it is tried again by itself".into(),
            });
        }
        problems
    }

    /// The sentence of the degraded mark, or that the service cannot be proven dead.
    fn degraded(&self) -> Option<&str> {
        let marked = self.sight.as_ref().and_then(|sight| sight.degraded.as_deref());
        let stuck = matches!(
            (&self.doing, &self.trouble),
            (Doing::Reclaiming { .. }, Some(_)) | (Doing::Killing { again: Some(_), .. }, _)
        );
        marked.or(stuck.then_some(&self.why))
    }

    fn is_refused(&self) -> bool {
        self.trouble.as_ref().is_some_and(|trouble| trouble.refused)
    }

    fn act(&mut self, action: Action) {
        self.out.push(action);
    }

    fn record(&mut self, event: &'static str, what: impl Into<String>) {
        self.act(Action::Record(event, what.into()));
    }

    fn has(&self, hook: Hook) -> bool {
        self.setup.hooks.contains(&hook)
    }

    fn claim(&self) -> Option<&leading::Claim> {
        match &self.doing {
            Doing::Promoting(promotion) => Some(&promotion.claim),
            Doing::Leading(reign) => Some(&reign.claim),
            Doing::Demoting(demotion) => demotion.claim.as_ref(),
            Doing::Killing { holds, .. } => holds.as_ref(),
            _ => None,
        }
    }

    fn on_reclaimed(&mut self, result: Result<(), String>, now: BootTime) {
        if !matches!(self.doing, Doing::Reclaiming { .. }) {
            return;
        }
        match result {
            Ok(()) => {
                self.trouble = None;
                self.service = Service::Dead;
                self.doing = Doing::Following;
                self.why = "nothing of an earlier agent runs".to_owned();
                self.next_look = now;
            }
            Err(why) => {
                self.why = format!("the service that an earlier agent started cannot be proven dead: {why}");
                let next = Some("end it by hand; the agent looks again every few seconds".to_owned());
                self.trouble = Some(Trouble { why: self.why.clone(), next, refused: false, class: None });
                self.doing = Doing::Reclaiming { again: Some(now + AGAIN) };
                self.record("not_proven_dead", why);
            }
        }
        if self.leaving {
            self.finish();
        }
    }

    fn on_shutdown(&mut self, now: BootTime) {
        self.leaving = true;
        match self.doing {
            Doing::Leading(_) | Doing::Promoting(_) => self.demote("the agent was asked to end", now),
            Doing::Following | Doing::Fenced { .. } => self.leave(),
            // What must be proven first is proven first; the guard sees to it if this agent is killed meanwhile.
            Doing::Reclaiming { .. } => self.finish(),
            Doing::Demoting(_) | Doing::Killing { .. } | Doing::Ended => {}
        }
    }

    /// Stops a follower's service, if one runs, and ends.
    fn leave(&mut self) {
        match self.service {
            Service::Running(_) => {
                self.service = Service::Stopping;
                self.ready = false;
                let grace = self.setup.grace;
                self.act(Action::Stop { grace });
            }
            // Its end is waited for.
            Service::Starting(_) | Service::Stopping => {}
            Service::Dead => self.finish(),
        }
    }

    fn finish(&mut self) {
        if self.doing != Doing::Ended {
            self.doing = Doing::Ended;
            self.act(Action::Exit);
        }
    }
}
