//! Sending entries: a claim, a renewal or a release, from the decision to certainty about its slot.
//!
//! An entry is pending from the moment it is made until it is certain that it stands or that it never counts. Rules are
//! numbered as in `docs/leadership.md`. Layer: pure; part of `machine`.

use std::collections::VecDeque;

use super::*;

impl Machine {
    /// An entry of this very run that still stands is given back, held or not, so that nobody waits for it.
    pub(super) fn give_back(&mut self, now: BootTime, out: &mut VecDeque<Action>) {
        let own = |last: &VerifiedEntry| last.entry.holder == self.me.holder && last.entry.kind != Kind::Release;
        let replaced = |last: &VerifiedEntry| last.entry.term < self.chain.term;
        if self.view.position.last.as_ref().is_some_and(|last| own(last) && !replaced(last)) {
            return self.send(now, Kind::Release, None, out);
        }
        self.giving_back = false;
        self.held = None;
        out.push_back(Action::Released);
        self.ask_next(now, out);
    }

    pub(super) fn send(&mut self, now: BootTime, kind: Kind, reason: Option<String>, out: &mut VecDeque<Action>) {
        let Position { last, voids } = self.view.position.clone();
        let term = self.view.position.term();
        let ttl_ms = u64::try_from(self.me.timing.ttl.as_millis()).expect("a ttl is at most a day");
        let entry = Entry {
            format: manifests::document::FORMAT.into(),
            chain: self.me.chain,
            group: self.me.group.clone(),
            seq: self.view.position.next_seq(),
            term: if kind == Kind::Claim { term.max(self.chain.term) + 1 } else { term },
            kind,
            previous: last.map(|last| last.digest),
            void: voids,
            holder: self.me.holder.clone(),
            ttl_ms: (self.me.expires && kind != Kind::Release).then_some(ttl_ms),
            nonce: self.nonce(),
            head: self.chain,
            time: self.wall,
            reason,
            critical: None,
            ext: serde_json::Map::new(),
        };
        // A claim, and a release by whom nothing is held any more, come perhaps long after the log was read.
        let looks = kind == Kind::Claim || (kind == Kind::Release && self.held.is_none());
        let stage = if looks && self.rules.look_beyond { Stage::LookFirst } else { Stage::Send };
        self.pending = Some(Pending { entry, sent: now, stage, digest: None });
        self.ask_pending(now, out);
    }

    pub(super) fn ask_pending(&mut self, now: BootTime, out: &mut VecDeque<Action>) {
        let pending = self.pending.as_ref().expect("the caller looked");
        let request = match pending.stage {
            Stage::LookFirst => Request::List { after: 0 },
            Stage::LookAgain => Request::Get { seq: pending.entry.seq - 1 },
            Stage::Send => Request::Create { entry: Box::new(pending.entry.clone()) },
            Stage::ReadBack => Request::Get { seq: pending.entry.seq },
            Stage::LookBeyond => Request::List { after: pending.entry.seq },
        };
        self.ask(now, request, out);
    }

    /// Rule 7: only a clear yes is believed; everything else is read back.
    pub(super) fn answered_pending(&mut self, now: BootTime, answer: Answer, out: &mut VecDeque<Action>) {
        let mut pending = self.pending.take().expect("the caller looked");
        let claims = pending.entry.kind == Kind::Claim;
        if claims
            && matches!(pending.stage, Stage::LookFirst | Stage::LookAgain)
            && (self.giving_back || self.wish == Wish::Follow)
        {
            return;
        }
        // Rule 8a: what is not certain before its own end is void. The log will show whether it landed.
        if claims && self.me.expires && now >= pending.sent + self.me.timing.service() {
            self.poll_at = now;
            return;
        }
        // A release that was not certain for so long may end what somebody else has begun: it is thought over.
        if pending.entry.kind == Kind::Release && self.me.expires && now >= pending.sent + self.me.timing.ttl {
            return;
        }
        let next = match (pending.stage, answer) {
            (Stage::LookFirst, Answer::Highest(highest)) => {
                if highest.unwrap_or(0) != pending.entry.seq - 1 {
                    self.reading = Some(reading::Reading::Start);
                    return;
                }
                if pending.entry.seq > 1 {
                    Some(Stage::LookAgain)
                } else {
                    pending.sent = now;
                    Some(Stage::Send)
                }
            }
            (Stage::LookAgain, Answer::Slot(slot)) => {
                if !self.is_newest(&slot) {
                    // Its number was used twice: nothing that is known of this log holds any more.
                    self.forget("the newest slot of the lease log holds something else than was seen in it", out);
                    return;
                }
                pending.sent = now;
                Some(Stage::Send)
            }
            (Stage::LookAgain, Answer::Missing) => {
                self.reading = Some(reading::Reading::Start);
                return;
            }
            // Nothing was sent yet, and the wish may be another one by now.
            (Stage::LookFirst | Stage::LookAgain, _) => return,
            (Stage::Send, Answer::Created(digest)) => {
                pending.digest = Some(digest);
                None
            }
            (Stage::Send, Answer::Unknown(_)) if !self.rules.read_back => None,
            (Stage::Send, Answer::Exists | Answer::Unknown(_)) => Some(Stage::ReadBack),
            // It landed nowhere: a new attempt, with a later time, is as good.
            (Stage::Send, _) => return,
            (Stage::ReadBack, Answer::Slot(slot)) => match *slot {
                Slot::Entry(found, _) if found.entry.nonce == pending.entry.nonce => {
                    pending.digest = Some(found.digest);
                    None
                }
                slot => {
                    self.looked_at = now;
                    return self.go_past(now, slot, out);
                }
            },
            (Stage::ReadBack, Answer::Missing) => Some(Stage::Send),
            (Stage::ReadBack, Answer::Refused(refusal)) => return self.stop_at(now, &refusal, out),
            (Stage::LookBeyond, Answer::Highest(None)) => return self.hold(now, pending, out),
            // The log goes on: this slot had been collected, or the log was emptied. Nobody follows from here.
            (Stage::LookBeyond, Answer::Highest(Some(_))) => {
                self.reading = Some(reading::Reading::Start);
                return;
            }
            (stage, _) => Some(stage),
        };
        if let Some(stage) = next {
            pending.stage = stage;
            self.pending = Some(pending);
        } else if claims && self.rules.look_beyond {
            pending.stage = Stage::LookBeyond;
            self.pending = Some(pending);
        } else {
            self.hold(now, pending, out);
        }
    }

    /// The entry stands, and everybody will see it.
    pub(super) fn hold(&mut self, now: BootTime, pending: Pending, out: &mut VecDeque<Action>) {
        let Pending { entry, sent, digest, .. } = pending;
        let digest = digest.map_or_else(|| entry.payload().map(|payload| Digest::sha256(&payload)), Ok);
        let read = digest.and_then(|digest| self.view.accept(VerifiedEntry { entry: entry.clone(), digest }));
        if let Err(refusal) = read {
            return self.stop_at(now, &refusal, out);
        }
        self.seen_at = now;
        self.looked_at = now;
        self.poll_at = now + self.me.timing.poll();
        // Rule 4. An entry that was sent again still counts from the first time.
        let since = if self.rules.from_before_sent { sent } else { now };
        match entry.kind {
            Kind::Release => {
                self.held = None;
                self.giving_back = false;
                out.push_back(Action::Released);
            }
            Kind::Claim => {
                self.held = Some(Held { claim: entry.clone(), since, late_told: false });
                if let Wish::Force { .. } = self.wish {
                    self.wish = Wish::Lead;
                }
                out.push_back(Action::Claimed { claim: Box::new(entry), until: self.until() });
            }
            Kind::Renew => {
                let Some(held) = &mut self.held else {
                    return;
                };
                (held.since, held.late_told) = (since, false);
                let until = since + self.me.timing.service();
                out.push_back(Action::Renewed { until });
            }
        }
    }
}
