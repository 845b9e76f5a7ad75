//! The node's directory and the chain: looks, restores, fences, snapshots and what is set aside.

use bootstrap::agent::machine::{Apply, Event, Fenced, Hook, Sight, Trouble};
use bootstrap::agent::persist::Led;
use bootstrap::driver::ServiceRole;
use jiff::Timestamp;

use super::{TTL, What, World};
use crate::chain::Record;
use crate::schedule::Time;

/// What is on a node; it survives everything.
#[derive(Default)]
pub(super) struct Directory {
    /// The number of the active generation.
    generation: Option<u64>,
    /// The snapshot it was restored from.
    base: u64,
    /// The term of the leader that wrote into it.
    wrote: Option<u64>,
    /// The term that the agent believes a leader wrote in, although it could not write that down.
    believed: Option<u64>,
    /// Whether a follower ran in it.
    pub(super) is_touched: bool,
    made: u64,
    prepared: u64,
    /// When the thread that changes it is free.
    pub(super) free_at: Time,
}

impl Directory {
    /// Another run of the agent.
    pub(super) fn begin(&mut self) {
        (self.free_at, self.believed) = (0, None);
    }
}

/// Where it is remembered that a leader wrote into a generation.
pub(super) enum Mark {
    Disk,
    Memory,
}

#[derive(Clone)]
pub(super) enum Chore {
    Look(Apply),
    Materialize { afresh: bool },
    SetAside(Led),
}

/// What waits for a record.
#[derive(Clone, Copy)]
pub(super) enum For {
    Fence,
    Save,
    /// A timer.
    Nobody,
}

fn trouble(why: &str) -> Trouble {
    Trouble { why: why.into(), next: None, refused: false, class: None }
}

fn name(generation: u64) -> String {
    format!("g{generation}")
}

impl World {
    /// One thing after the other.
    pub(super) fn chore(&mut self, node: usize, chore: Chore) {
        let long = !self.healed && self.rng.u8(..12) == 0;
        let takes = if long { self.rng.u64(..TTL * 2) } else { self.rng.u64(5_000..500_000) };
        let at = self.nodes[node].directory.free_at.max(self.now) + takes;
        self.nodes[node].directory.free_at = at;
        self.push(at, node, What::Chore(chore));
    }

    pub(super) fn finish(&mut self, node: usize, chore: Chore) -> Result<(), String> {
        let fails = self.nodes[node].cut_until > self.now || (!self.healed && self.rng.u8(..40) == 0);
        let failed = || trouble("the store does not answer");
        let event = match chore {
            Chore::Look(_) if fails => Event::Looked(Err(failed())),
            Chore::Look(apply) => Event::Looked(Ok(self.look(node, apply)?)),
            Chore::Materialize { .. } if fails => Event::Materialized(Err(failed())),
            Chore::Materialize { afresh } => Event::Materialized(Ok(self.look(node, Apply::Switch { afresh })?)),
            Chore::SetAside(led) if fails => Event::SetAside(led, Err(failed())),
            Chore::SetAside(led) => {
                if self.nodes[node].directory.generation.map(name).as_ref() == Some(&led.generation) {
                    return Err(format!("node {node} sets aside what is active"));
                }
                self.tally.set_aside += 1;
                Event::SetAside(led, Ok(None))
            }
        };
        if !fails && !matches!(event, Event::SetAside(..)) {
            let head = self.chain.head();
            self.tell_lease(node, bootstrap::lease::machine::Event::Chain(head))?;
        }
        self.tell(node, event)
    }

    fn look(&mut self, node: usize, apply: Apply) -> Result<Sight, String> {
        let newest = self.chain.snapshot();
        let role = self.nodes[node].service.as_ref().map(|service| service.role);
        let (leads, is_followed) = (role == Some(ServiceRole::Leader), role == Some(ServiceRole::Follower));
        let directory = &mut self.nodes[node].directory;
        let mut switched = false;
        match apply {
            Apply::Leave => {}
            Apply::Prepare => directory.prepared = newest,
            Apply::Switch { afresh } => {
                switched = directory.generation.is_none()
                    || directory.base != newest
                    || (afresh && (directory.wrote.is_some() || directory.is_touched));
                if switched {
                    if leads || (is_followed && !self.hooks.contains(&Hook::Reload)) {
                        return Err(format!("node {node} switches at {} under a service", self.now));
                    }
                    directory.made += 1;
                    (directory.generation, directory.base, directory.wrote) = (Some(directory.made), newest, None);
                    (directory.is_touched, directory.believed) = (is_followed, None);
                }
            }
        }
        let applied = directory.base.max(directory.prepared);
        Ok(Sight {
            head: self.chain.len() as u64,
            term: self.chain.term(),
            snapshot: format!("s{newest}"),
            snapshot_seq: newest,
            captured: Timestamp::UNIX_EPOCH,
            applied: directory.generation.map(|_| format!("s{applied}")),
            applied_seq: directory.generation.map(|_| applied),
            lag: self.chain.snapshots_after(applied),
            generation: directory.generation.map(name),
            switched,
            degraded: None,
        })
    }

    /// Begins to put a record into the chain, from what stands in it now.
    pub(super) fn put(&mut self, node: usize, term: u64, waits: For) -> Result<(), String> {
        let by = self.nodes[node].instance;
        let is_fence = matches!(waits, For::Fence);
        let leader = self.chain.leader().map_or((0, None), |fence| (fence.term, Some(fence.by)));
        let is_own = leader == (term, Some(by));
        if self.nodes[node].cut_until > self.now {
            return self.told(node, waits, Err("no route"));
        }
        match (is_fence, is_own) {
            (true, true) => return self.told(node, waits, Ok(self.chain.fenced(term))),
            (true, false) if leader.0 >= term => {
                self.tally.fenced_off += 1;
                return self.told(node, waits, Err("the chain has a higher term"));
            }
            (false, false) => return self.told(node, waits, Err("somebody else leads")),
            _ => {}
        }
        let (slot, record) = (self.chain.len(), Record { term, by, is_fence });
        let there = self.rng.u64(1_000..200_000);
        let chance = if self.healed { 99 } else { self.rng.u8(..30) };
        let (lands, answers) = match chance {
            0 => (None, false),
            1 => (Some(there), false),
            2 => (Some(self.rng.u64(..TTL * 6)), false),
            3 => (Some(self.rng.u64(..TTL)), true),
            _ => (Some(there), true),
        };
        if let Some(after) = lands {
            self.push(self.now + after, node, What::Lands { slot, record, waits, answers });
        }
        if !answers {
            let timeout = self.timing.request().as_micros() as Time;
            self.push(self.now + timeout, node, What::Told { waits, result: Err("no answer") });
        }
        Ok(())
    }

    /// A record reaches the chain.
    pub(super) fn lands(&mut self, node: usize, run: u64, what: (usize, Record, For, bool)) -> Result<(), String> {
        let (slot, record, waits, answers) = what;
        let is_created = self.chain.create(slot, record)?;
        self.tally.records += u64::from(is_created);
        if answers && run == self.nodes[node].run {
            let back = self.now + self.rng.u64(1_000..200_000);
            let what = match is_created {
                true => What::Told { waits, result: Ok(self.chain.fenced(record.term)) },
                false => What::Put { term: record.term, waits },
            };
            self.push(back, node, what);
        }
        Ok(())
    }

    pub(super) fn told(&mut self, node: usize, waits: For, result: Result<Fenced, &str>) -> Result<(), String> {
        match waits {
            For::Fence => self.tell(node, Event::Fenced(result.map_err(trouble))),
            For::Save => self.tell(node, Event::Hooked(Hook::Save, result.map(drop).map_err(str::to_owned))),
            For::Nobody => Ok(()),
        }
    }

    /// What a leader's service starts on: the newest snapshot, or its own state if nobody led since.
    pub(super) fn starts_on(&mut self, node: usize, term: u64, mark: Mark) -> Result<(), String> {
        let newest = self.chain.snapshot_before(term);
        let Directory { base, wrote, believed, is_touched, generation, .. } = self.nodes[node].directory;
        let is_newest = base >= newest && wrote.is_none() && !is_touched;
        let instances = &self.nodes[node].instances;
        let is_own = wrote
            .max(believed)
            .is_some_and(|since| self.chain.fences(since..term).all(|fence| instances.contains(&fence.by)));
        if generation.is_none() || !(is_own || is_newest) {
            return Err(format!(
                "node {node} leads in term {term} from snapshot {base} (written in term {wrote:?}), the newest is {newest}"
            ));
        }
        let directory = &mut self.nodes[node].directory;
        match mark {
            Mark::Disk => directory.wrote = Some(term),
            Mark::Memory => directory.believed = Some(term),
        }
        Ok(())
    }
}
