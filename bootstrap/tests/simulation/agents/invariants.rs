//! What must hold at every moment of a history of agents, and at its end.

use bootstrap::agent::machine::Leadership;
use bootstrap::agent::view::Mode;
use bootstrap::driver::ServiceRole;
use bootstrap::lease::machine::{Answer, Request};
use manifests::document::lease::Kind;

use super::service::Order;
use super::{Node, SKEW, TTL, What, World};
use crate::schedule::Time;

impl World {
    /// A service of a machine that is suspended does nothing; one that wakes is given what its guard may take to kill.
    pub(super) fn leader_beside(&self, node: usize) -> Option<(usize, u64)> {
        let budget = (self.timing.kill_budget().as_micros() as f64 / (1.0 - SKEW)) as Time;
        let leads = |(_, other): &(usize, &Node)| {
            let awake = other.asleep_until == 0 || self.now > other.asleep_until + budget;
            awake && other.service.as_ref().is_some_and(|service| service.role == ServiceRole::Leader)
        };
        let beside = self.nodes.iter().enumerate().filter(leads).find(|(other, _)| *other != node);
        beside.and_then(|(other, found)| Some((other, found.service.as_ref()?.term)))
    }

    /// A lease is won only where no other service leads any more, unless an operator said so who had not looked.
    pub(super) fn is_free(&mut self, node: usize, term: u64, is_forced: bool) -> Result<(), String> {
        if is_forced && self.errs {
            self.tally.overruled += 1;
            self.overruled_until = self.now + (TTL as f64 / (1.0 - SKEW)) as Time;
            self.push(self.overruled_until, node, What::Overruled { term });
        }
        match self.leader_beside(node).filter(|_| self.now >= self.overruled_until) {
            None => Ok(()),
            Some((other, led)) => {
                let now = self.now;
                Err(format!(
                    "node {node} claims term {term} at {now} while the service of node {other} leads in term {led}"
                ))
            }
        }
    }

    /// Whoever was overruled has seen it by now.
    pub(super) fn is_gone(&self, node: usize, term: u64) -> Result<(), String> {
        match self.leader_beside(node).filter(|(_, led)| *led < term) {
            Some((other, led)) => {
                Err(format!("node {other} leads on in term {led} at {} although term {term} was claimed", self.now))
            }
            None => Ok(()),
        }
    }

    /// Whatever is started, nothing else of the node lives; and what leads has its fence, its lease and its state.
    pub(super) fn may_start(&mut self, node: usize, order: &Order) -> Result<(), String> {
        let now = self.now;
        if let Some(service) = &self.nodes[node].service {
            return Err(format!("node {node} starts a service at {now} beside its own of term {}", service.term));
        }
        if order.role == ServiceRole::Follower {
            self.nodes[node].directory.is_touched = true;
            return Ok(());
        }
        let term = order.term;
        if let Some((other, led)) = self.leader_beside(node).filter(|_| now >= self.overruled_until) {
            return Err(format!("two leaders at {now}: node {node} in term {term}, node {other} in term {led}"));
        }
        if self.chain.fence(term).is_none_or(|(_, fence)| fence.by != self.nodes[node].instance) {
            return Err(format!("node {node} leads at {now} before the fence of term {term} stands"));
        }
        let holds = match self.leadership {
            Leadership::Auto => order.until.is_some() && order.until <= self.nodes[node].told_until,
            _ => order.until.is_none(),
        };
        if !holds {
            return Err(format!("node {node} leads at {now} for longer than its lease of term {term}"));
        }
        Ok(())
    }

    /// The lease is given back only once what led by it is dead.
    pub(super) fn is_dead_when_released(
        &mut self,
        node: usize,
        request: &Request,
        answer: &Answer,
    ) -> Result<(), String> {
        let (Request::Create { entry }, Answer::Created(_)) = (request, answer) else { return Ok(()) };
        if entry.kind != Kind::Release {
            return Ok(());
        }
        self.tally.releases += 1;
        match &self.nodes[node].service {
            Some(service) if service.role == ServiceRole::Leader => {
                Err(format!("node {node} gives term {} back at {} while its service lives", entry.term, self.now))
            }
            _ => Ok(()),
        }
    }

    /// Whether one node leads, with a service that is ready.
    pub(super) fn leads(&self) -> bool {
        let leads = |node: &usize| {
            let agent = &self.nodes[*node].agent;
            agent.mode() == Mode::Leader && agent.is_ready() && self.is_ready(*node)
        };
        (0..self.nodes.len()).filter(leads).count() == 1
    }
}
