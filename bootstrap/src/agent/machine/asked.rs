//! Requests: what a person or a program asks of the agent.

use super::{Action, Doing, Leadership, Machine};
use crate::agent::persist::Until;
use crate::agent::view::{Reply, Request, RequestKind};
use crate::clock::BootTime;
use crate::lease::{Holder, LeaseWish};

impl Machine {
    pub(super) fn on_asked(&mut self, ticket: u64, request: &Request, now: BootTime) {
        let reply = match request.kind {
            _ if self.leaving => Err("the agent is ending".to_owned()),
            RequestKind::Drain => self.drain(&request.reason),
            RequestKind::Pause => self.pause(&request.reason),
            RequestKind::Resume => self.resume(),
            RequestKind::Handoff => self.hand_off(&request.reason, now),
            RequestKind::Demote => self.step_down(&request.reason, now),
            RequestKind::Promote => self.promote(&request.reason, now),
            RequestKind::ForceClaim => self.force_claim(&request.reason, now),
        };
        let reply = match reply {
            Ok(what) => {
                self.record("asked", format!("{}: {}", request.kind.as_str(), request.reason));
                Reply::Accepted(what)
            }
            Err(why) => Reply::Refused(why),
        };
        self.act(Action::Reply(ticket, reply));
    }

    fn drain(&mut self, reason: &str) -> Result<String, String> {
        match self.doing {
            Doing::Leading(_) | Doing::Following => {
                self.drained = Some(reason.to_owned());
                Ok("it is not ready for anybody until it is resumed".into())
            }
            _ => Err(format!("it is {}; ask again when it leads or follows", self.mode().role())),
        }
    }

    fn pause(&mut self, reason: &str) -> Result<String, String> {
        self.kept.paused = Some(reason.to_owned());
        Ok("it keeps what it is and takes nothing over until it is resumed".into())
    }

    fn resume(&mut self) -> Result<String, String> {
        let was = [self.kept.paused.take(), self.kept.held.take(), self.drained.take()];
        self.not_before = None;
        self.kept.handed_off = None;
        match was.iter().flatten().next() {
            Some(reason) => Ok(format!("no longer so: {reason}")),
            None => Ok("nothing was drained, paused or demoted".into()),
        }
    }

    fn hand_off(&mut self, reason: &str, now: BootTime) -> Result<String, String> {
        if self.setup.leadership != Leadership::Auto {
            return Err("leadership is static here: promote the other node".into());
        }
        let Doing::Leading(_) = self.doing else {
            return Err("it does not lead; ask the holder of the lease".into());
        };
        // Long enough for the others to see that the lease is free, and to be ready.
        let at = now + self.setup.ttl * 3 + self.setup.start;
        self.not_before = Some(at);
        self.kept.handed_off = Some(Until { boot: self.setup.boot.clone(), at });
        self.demote(&format!("handed off: {reason}"), now);
        Ok("it gives the lease to whoever claims it first".into())
    }

    fn step_down(&mut self, reason: &str, now: BootTime) -> Result<String, String> {
        self.kept.held = Some(reason.to_owned());
        self.kept.appointed = None;
        match self.doing {
            Doing::Leading(_) | Doing::Promoting(_) => {
                self.demote(&format!("demoted: {reason}"), now);
                Ok("it becomes a follower, and no candidate until it is resumed or promoted".into())
            }
            _ => Ok("it does not lead, and is no candidate until it is resumed or promoted".into()),
        }
    }

    fn promote(&mut self, reason: &str, now: BootTime) -> Result<String, String> {
        match self.doing {
            Doing::Leading(_) | Doing::Promoting(_) => return Ok("it leads already".into()),
            Doing::Following => {}
            _ => return Err(format!("it is {}; ask again when it follows", self.mode().role())),
        }
        let (paused, held, appointed) = (self.kept.paused.take(), self.kept.held.take(), self.kept.appointed.take());
        let (not_before, handed_off) = (self.not_before.take(), self.kept.handed_off.take());
        if self.setup.leadership == Leadership::Static {
            self.kept.appointed = Some(reason.to_owned());
        }
        let led_by =
            (self.holder.as_ref()).filter(|holder| holder.node != self.setup.node && !holder.released).cloned();
        let refused = match (self.may_lead(now), &led_by) {
            (Err(why), _) => Some(format!("it cannot lead: {why}")),
            (Ok(()), Some(holder)) if self.setup.leadership == Leadership::Auto => Some(format!(
                "{} holds the lease in term {}; ask its agent for a handoff, or wait until the lease is free",
                holder.node, holder.term
            )),
            _ => None,
        };
        if let Some(why) = refused {
            (self.kept.paused, self.kept.held, self.kept.appointed) = (paused, held, appointed);
            (self.not_before, self.kept.handed_off) = (not_before, handed_off);
            return Err(why);
        }
        if let (Leadership::Static, Some(holder)) = (self.setup.leadership, led_by) {
            self.wish = LeaseWish::Force { reason: reason.to_owned() };
            self.act(Action::Wish(self.wish.clone()));
            return Ok(format!("it claims the lease from {}, who stops when it sees the higher term", holder.node));
        }
        Ok("it claims the lease".into())
    }

    /// An operator has proven that whoever holds the lease is dead: nobody's time is waited for.
    fn force_claim(&mut self, reason: &str, now: BootTime) -> Result<String, String> {
        let own = |holder: &Holder| holder.node == self.setup.node;
        let held = self.holder.as_ref().is_some_and(|holder| !holder.released && !own(holder));
        if self.setup.leadership == Leadership::Static || !held {
            return self.promote(reason, now);
        }
        match self.doing {
            Doing::Leading(_) | Doing::Promoting(_) => return Ok("it leads already".into()),
            Doing::Following => {}
            _ => return Err(format!("it is {}; ask again when it follows", self.mode().role())),
        }
        self.may_lead(now).map_err(|why| format!("it cannot lead: {why}"))?;
        self.wish = LeaseWish::Force { reason: reason.to_owned() };
        self.act(Action::Wish(self.wish.clone()));
        Ok("it claims the lease now, whoever holds it".into())
    }
}
