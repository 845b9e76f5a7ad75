//! The service of a node, the keeper that starts and ends it, and the guard with its own deadline.

use std::collections::VecDeque;
use std::time::Duration;

use bootstrap::agent::machine::Event;
use bootstrap::clock::BootTime;
use bootstrap::driver::ServiceRole;

use super::{Broken, What, World};
use crate::schedule::Time;

/// The longest that a signal takes.
const SIGNAL: Time = 200_000;
/// How long a driver waits for the death of what does not die.
const PROOF: Time = 2_000_000;

/// A service that lives.
pub(super) struct Service {
    id: u64,
    pub(super) role: ServiceRole,
    pub(super) term: u64,
    ready_at: Time,
    /// How long it takes to end when asked.
    ends_within: Time,
    /// Until then nothing that the driver does ends it; the guard does at the deadline.
    pub(super) stuck_until: Time,
    pub(super) deadline: Option<BootTime>,
}

impl Service {
    /// Whatever it refused it does now.
    pub(super) fn heal(&mut self, soon: Time) {
        self.ready_at = self.ready_at.min(soon);
        self.stuck_until = 0;
    }
}

#[derive(Clone)]
pub(super) struct Order {
    pub(super) role: ServiceRole,
    pub(super) term: u64,
    pub(super) until: Option<BootTime>,
}

pub(super) enum Job {
    Reclaim,
    Start(Order),
    Extend(BootTime),
    Stop(Duration),
    Kill,
}

/// What the keeper does in parts.
#[derive(Clone)]
pub(super) enum Keep {
    Spawn(Order),
    Kill(Asked),
    Prove(Asked),
}

/// What the proof of death answers.
#[derive(Clone, Copy)]
pub(super) enum Asked {
    Stop,
    Reclaim,
}

#[derive(Default)]
pub(super) struct Keeper {
    jobs: VecDeque<Job>,
    is_busy: bool,
    runs: bool,
}

impl World {
    pub(super) fn job(&mut self, node: usize, job: Job) {
        self.nodes[node].keeper.jobs.push_back(job);
        self.keep_on(node);
    }

    /// The keeper does one thing after the other.
    fn keep_on(&mut self, node: usize) {
        while !self.nodes[node].keeper.is_busy
            && let Some(job) = self.nodes[node].keeper.jobs.pop_front()
        {
            self.nodes[node].keeper.is_busy = !matches!(job, Job::Extend(_));
            let now = self.now;
            match job {
                Job::Extend(until) => self.extend(node, until),
                Job::Start(order) => {
                    let after = self.rng.u64(1_000..SIGNAL);
                    self.push(now + after, node, What::Keep(Keep::Spawn(order)));
                }
                Job::Kill => self.push(now + 1_000, node, What::Keep(Keep::Kill(Asked::Stop))),
                Job::Reclaim if self.broken == Broken::ReclaimedUnproven => {
                    self.nodes[node].keeper.is_busy = false;
                    self.push(now, node, What::Event(Box::new(Event::Reclaimed(Ok(())))));
                }
                Job::Reclaim => self.push(now + 1_000, node, What::Keep(Keep::Kill(Asked::Reclaim))),
                Job::Stop(grace) => {
                    let grace = grace.as_micros() as Time;
                    let ends = self.nodes[node].service.as_ref().map(|service| (service.id, service.ends_within));
                    if let Some((id, ends_within)) = ends {
                        self.push(now + ends_within, node, What::Asked { id });
                    }
                    let waits = ends.map_or(0, |(_, ends_within)| ends_within.min(grace));
                    self.push(now + waits + 1_000, node, What::Keep(Keep::Kill(Asked::Stop)));
                }
            }
        }
    }

    pub(super) fn keep(&mut self, node: usize, keep: Keep) -> Result<(), String> {
        match keep {
            Keep::Spawn(order) => self.spawn(node, &order),
            Keep::Kill(asked) => {
                let after = match &self.nodes[node].service {
                    Some(service) if service.stuck_until > self.now => PROOF,
                    Some(service) => {
                        let (id, after) = (service.id, self.rng.u64(1_000..SIGNAL));
                        self.push(self.now + after, node, What::Dies { id });
                        SIGNAL + 1_000
                    }
                    None => 1_000,
                };
                self.push(self.now + after, node, What::Keep(Keep::Prove(asked)));
                Ok(())
            }
            Keep::Prove(asked) => {
                let is_dead = self.nodes[node].service.is_none() || self.broken == Broken::AliveTakenForDead;
                self.tally.unproven += u64::from(!is_dead);
                let result = if is_dead { Ok(()) } else { Err("it does not die".to_owned()) };
                self.nodes[node].keeper.runs &= !is_dead;
                self.done(
                    node,
                    match asked {
                        Asked::Stop => Event::Stopped(result),
                        Asked::Reclaim => Event::Reclaimed(result),
                    },
                )
            }
        }
    }

    fn done(&mut self, node: usize, event: Event) -> Result<(), String> {
        self.nodes[node].keeper.is_busy = false;
        self.tell(node, event)?;
        self.keep_on(node);
        Ok(())
    }

    fn spawn(&mut self, node: usize, order: &Order) -> Result<(), String> {
        let is_over = order.until.is_some_and(|until| until <= self.local(node));
        let chance = if self.healed { 99 } else { self.rng.u8(..100) };
        if is_over || chance < 4 {
            return self.done(node, Event::Started(Err("it cannot be started".into())));
        }
        self.may_start(node, order)?;
        self.ids += 1;
        let (id, now) = (self.ids, self.now);
        let slow = !self.healed && self.rng.u8(..20) == 0;
        let takes = if slow { self.rng.u64(..super::TTL * 8) } else { self.rng.u64(10_000..4_000_000) };
        let refuses = !self.healed && self.rng.u8(..6) == 0;
        let ends_within = if refuses { super::TTL * 100 } else { self.rng.u64(1_000..4_000_000) };
        let is_stuck = !self.healed && self.rng.u8(..8) == 0;
        let stuck_until = if is_stuck { now + self.rng.u64(..super::TTL * 6) } else { 0 };
        let (role, term, deadline) = (order.role, order.term, order.until);
        self.nodes[node].service =
            Some(Service { id, role, term, ready_at: now + takes, ends_within, stuck_until, deadline });
        self.nodes[node].keeper.runs = true;
        self.tally.starts += 1;
        self.watch(node);
        if !self.healed && self.rng.u8(..10) == 0 {
            let lives = self.rng.u64(..super::TTL * 4);
            self.push(now + lives, node, What::Crashes { id });
        }
        // Begun, and neither proven to run nor proven dead.
        if chance < 7 {
            self.tally.unproven += 1;
            return self.done(node, Event::Stopped(Err("half of it was started".into())));
        }
        self.done(node, Event::Started(Ok(())))
    }

    /// The deadline is the guard's: no agent is needed for it.
    fn watch(&mut self, node: usize) {
        let watched = self.nodes[node].service.as_ref().and_then(|service| Some((service.id, service.deadline?)));
        if let Some((id, deadline)) = watched.filter(|_| self.broken != Broken::GuardAsleep) {
            let at = self.truly(node, deadline).max(self.now);
            self.push(at, node, What::Guard { id });
        }
    }

    fn extend(&mut self, node: usize, until: BootTime) {
        if let Some(service) = &mut self.nodes[node].service {
            service.deadline = Some(until);
            self.watch(node);
        }
    }

    /// The guard's clock rang.
    pub(super) fn guard(&mut self, node: usize, id: u64) {
        let now = self.local(node);
        let is_due = |service: &Service| service.id == id && service.deadline.is_some_and(|deadline| deadline <= now);
        if self.nodes[node].service.as_ref().is_some_and(is_due) {
            self.tally.guarded += 1;
            let budget = self.timing.kill_budget().as_micros() as f64 / self.nodes[node].rate;
            let after = self.rng.u64(..budget as u64);
            self.push(self.now + after, node, What::Dies { id });
        }
    }

    /// It was asked to end.
    pub(super) fn asked(&mut self, node: usize, id: u64) {
        let is_stuck = self.nodes[node].service.as_ref().is_some_and(|service| service.stuck_until > self.now);
        if !is_stuck {
            self.dies(node, id);
        }
    }

    pub(super) fn dies(&mut self, node: usize, id: u64) {
        if self.nodes[node].service.as_ref().is_some_and(|service| service.id == id) {
            self.nodes[node].service = None;
        }
    }

    /// The agent is gone, and with it, where the guard sees that, the service.
    pub(super) fn orphaned(&mut self, node: usize) {
        self.nodes[node].keeper = Keeper::default();
        let Some(service) = &self.nodes[node].service else { return };
        let (id, is_stuck) = (service.id, service.stuck_until > self.now);
        if self.dies_with_agent && !is_stuck {
            let after = self.rng.u64(..SIGNAL);
            self.push(self.now + after, node, What::Dies { id });
        }
    }

    /// The keeper looks whether the service lives, and the probes whether it answers.
    pub(super) fn observe(&mut self, node: usize) -> Result<(), String> {
        let observed = &mut self.nodes[node];
        let is_free = !observed.keeper.is_busy && observed.keeper.jobs.is_empty();
        if is_free && observed.keeper.runs && observed.service.is_none() {
            observed.keeper.runs = false;
            self.tally.ended += 1;
            return self.tell(node, Event::Ended("it ended by itself".into()));
        }
        if self.nodes[node].is_probed {
            let ready = self.is_ready(node);
            return self.tell(node, Event::Probed { ready });
        }
        Ok(())
    }

    pub(super) fn is_ready(&self, node: usize) -> bool {
        self.nodes[node].service.as_ref().is_some_and(|service| service.ready_at <= self.now)
    }
}
