//! The operator: asks agents for things, and keeps a machine off before another one is made the leader beside it.

use bootstrap::agent::machine::{Event, Leadership};
use bootstrap::agent::persist::Kept;
use bootstrap::agent::view::{Request, RequestKind};
use bootstrap::driver::ServiceRole;

use super::{TTL, What, World};

impl World {
    pub(super) fn plan_requests(&mut self, until: u64) {
        let count = self.nodes.len();
        for _ in 0..self.rng.u64(0..8) {
            let (at, node) = (self.rng.u64(..until), self.rng.usize(..count));
            let kinds = [
                RequestKind::Drain,
                RequestKind::Pause,
                RequestKind::Resume,
                RequestKind::Resume,
                RequestKind::Handoff,
                RequestKind::Demote,
            ];
            let kind = kinds[self.rng.usize(..kinds.len())];
            self.push(at, node, What::Request(kind));
        }
        let appointments = match self.leadership {
            Leadership::Static => 1 + self.rng.u64(..4),
            _ => self.rng.u64(..3),
        };
        for number in 0..appointments {
            let at = if number == 0 { TTL } else { self.rng.u64(..until) };
            let at = if self.leadership == Leadership::Static { at } else { self.rng.u64(..until) };
            self.push(at, 0, What::Appoint);
        }
    }

    pub(super) fn request(&mut self, node: usize, kind: RequestKind) -> Result<(), String> {
        self.ids += 1;
        let request = Request { kind, reason: "because".into(), by: "an operator".into() };
        self.tell(node, Event::Asked(self.ids, request))
    }

    /// Makes a node the leader, and makes sure before that no other one is or will be.
    pub(super) fn appoint(&mut self) -> Result<(), String> {
        if self.healed {
            self.push(self.now + 5_000_000, 0, What::Appoint);
            for node in 0..self.nodes.len() {
                let Kept { paused, held, .. } = &self.nodes[node].kept;
                if self.nodes[node].alive && (paused.is_some() || held.is_some()) {
                    self.request(node, RequestKind::Resume)?;
                }
            }
        }
        if self.now < self.operator_until {
            return Ok(());
        }
        let (held, is_own) = match self.log.holder() {
            Some((node, false)) => (node.strip_prefix("node-").and_then(|number| number.parse().ok()), self.healed),
            _ => (None, false),
        };
        let chosen = self.rng.usize(..self.nodes.len());
        let chosen = held.filter(|_| is_own).unwrap_or(chosen);
        if self.healed {
            // Nobody breaks anything any more: whoever holds it is told to go on, also when another one waits for it in vain.
            let waits_for = held.is_some_and(|held| self.nodes[held].kept.appointed.is_none());
            let is_up = self.is_anybody_up() && !waits_for;
            return if self.leadership == Leadership::Static && self.nodes[chosen].alive && !is_up {
                self.request(chosen, RequestKind::Promote)
            } else {
                Ok(())
            };
        }
        let node = &self.nodes[chosen];
        if !node.alive || node.stopped || node.asleep_until > self.now {
            return Ok(());
        }
        let kind = match self.leadership {
            Leadership::Static => RequestKind::Promote,
            _ => RequestKind::ForceClaim,
        };
        if self.leadership == Leadership::Auto && held.is_some_and(|held| held != chosen) && self.rng.bool() {
            self.errs = true;
            self.operator_until = self.now + TTL * 8;
            return self.request(chosen, kind);
        }
        self.errs = false;
        let others: Vec<usize> = (0..self.nodes.len()).filter(|other| *other != chosen).collect();
        for other in others {
            let node = &self.nodes[other];
            let leads = node.service.as_ref().is_some_and(|service| service.role == ServiceRole::Leader);
            let may = node.agent.kept().appointed.is_some() || node.kept.appointed.is_some();
            if held == Some(other) || leads || may || (node.alive && node.agent.holds().is_some()) {
                self.operator_until = self.now + TTL * 8;
                self.power_off(other, TTL * 8);
            }
        }
        self.tally.appointed += 1;
        self.request(chosen, kind)
    }

    /// Whether some node is on its way to lead already.
    fn is_anybody_up(&self) -> bool {
        self.nodes.iter().any(|node| node.alive && (node.agent.holds().is_some() || node.kept.appointed.is_some()))
    }
}
