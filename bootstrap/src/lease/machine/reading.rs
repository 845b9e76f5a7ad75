//! How the machine reads the log: from the newest slot back to an entry, then one slot after the other.
//!
//! Documented in `docs/format/lease.md`, "Where a reader begins". Layer: pure.

use std::collections::VecDeque;

use manifests::document::lease::{Entry, Kind, VerifiedEntry};
use manifests::document::record::{VOIDS_CAP, Void};
use manifests::lease::{Position, Slot};
use manifests::refusal::Refusal;

use super::{Action, Answer, Machine, Request, View};
use crate::clock::BootTime;
use crate::lease::Holder;

/// Where the reading stands.
#[derive(Debug, Clone)]
pub(super) enum Reading {
    /// The log is to be listed.
    Start,
    /// This slot is to be read; those after it are void, the newest first.
    Back { seq: u64, voids: Vec<Void> },
}

impl Reading {
    pub(super) fn request(&self) -> Request {
        match self {
            Reading::Start => Request::List { after: 0 },
            Reading::Back { seq, .. } => Request::Get { seq: *seq },
        }
    }
}

impl View {
    pub(super) fn accept(&mut self, read: VerifiedEntry) -> Result<(), Refusal> {
        self.position.accept(read)?;
        self.note_last();
        Ok(())
    }

    /// Goes on from a position that was not reached slot by slot.
    fn jump(&mut self, position: Position) {
        self.position = position;
        self.note_last();
    }

    /// Whether the entry is of a leadership that is known to be over: terms never fall, and each has one holder.
    fn is_outdated(&self, entry: &Entry, of_chain: u64) -> bool {
        let Some((term, holder)) = &self.floor else {
            return false;
        };
        // Which of two holders of one term is the right one is told by the chain, once there is a fence.
        entry.term < *term || (entry.term == *term && entry.holder != *holder && of_chain < *term)
    }

    fn note_last(&mut self) {
        let Some(VerifiedEntry { entry, .. }) = &self.position.last else {
            return;
        };
        if entry.kind == Kind::Claim {
            self.claimed = Some((entry.term, entry.time));
        }
        if self.floor.as_ref().is_none_or(|(term, _)| *term < entry.term) {
            self.floor = Some((entry.term, entry.holder.clone()));
        }
    }

    /// Who holds or last held the lease.
    pub(super) fn holder(&self) -> Option<Holder> {
        let entry = &self.position.last.as_ref()?.entry;
        Some(Holder {
            node: entry.holder.node.clone(),
            instance: entry.holder.instance.to_string(),
            term: entry.term,
            api: entry.holder.api.clone(),
            since: self.claimed.filter(|(term, _)| *term == entry.term).map(|(_, time)| time),
            released: entry.kind == Kind::Release,
        })
    }
}

impl Machine {
    pub(super) fn answered_reading(
        &mut self,
        now: BootTime,
        sent: BootTime,
        answer: Answer,
        out: &mut VecDeque<Action>,
    ) {
        let reading = self.reading.take().expect("the caller looked");
        let known = self.view.position.next_seq() - 1;
        match (reading, answer) {
            (Reading::Start, Answer::Highest(highest)) => {
                let seq = highest.unwrap_or(0);
                if seq < known {
                    // The log lost what was seen in it.
                    self.forget(&format!("the lease log ended with slot {known}, and now ends with slot {seq}"), out);
                    self.reading = None;
                }
                if seq == 0 || seq == known {
                    return self.begin(now, sent, self.view.position.clone(), out);
                }
                self.reading = Some(Reading::Back { seq, voids: Vec::new() });
            }
            (Reading::Back { mut voids, .. }, Answer::Slot(slot)) => {
                let void = match *slot {
                    Slot::Entry(entry, void) if self.view.is_outdated(&entry.entry, self.chain.term) => {
                        let why = format!("slot {} of the lease log is of a term that is over", void.seq);
                        self.tell_unfit(why, out);
                        void
                    }
                    Slot::Entry(entry, _) => {
                        voids.reverse();
                        return self.begin(now, sent, Position { last: Some(*entry), voids }, out);
                    }
                    Slot::Void(void, _) => void,
                };
                let seq = void.seq - 1;
                voids.push(void);
                if voids.len() > VOIDS_CAP {
                    let why = "more than 64 void slots in a row end the lease log: find out who writes to its store";
                    self.tell_unfit(why.into(), out);
                    return self.read_again(now);
                }
                if seq > known {
                    self.reading = Some(Reading::Back { seq, voids });
                    return;
                }
                // Down to what was read before, or to the beginning.
                let mut position = self.view.position.clone();
                voids.reverse();
                match voids.into_iter().try_for_each(|void| position.pass(void)) {
                    Ok(()) => self.begin(now, sent, position, out),
                    Err(refusal) => self.stop_at(now, &refusal, out),
                }
            }
            (Reading::Back { .. }, Answer::Refused(refusal)) => self.stop_at(now, &refusal, out),
            // Collected meanwhile, or not to be had now.
            (_, Answer::Missing) => self.read_again(now),
            (reading, _) => self.reading = Some(reading),
        }
    }

    /// The log is known up to here. Whoever is in it is left alone for a whole ttl from now on (rule 6).
    fn begin(&mut self, now: BootTime, sent: BootTime, position: Position, out: &mut VecDeque<Action>) {
        let moved = position != self.view.position || !self.began;
        self.view.jump(position);
        self.began = true;
        if moved {
            self.seen_at = now;
        }
        self.looked_at = sent;
        // There may be more: the next slot is looked at before anything is believed of this one.
        self.poll_at = now;
        self.unfit = None;
        self.check_superseded(out);
    }

    /// Whether the newest slot that was seen holds this.
    pub(super) fn is_newest(&self, slot: &Slot) -> bool {
        let Position { last, voids } = &self.view.position;
        match (voids.last(), slot) {
            // It was void as a whole, or did not follow.
            (Some(seen), Slot::Void(void, _) | Slot::Entry(_, void)) => seen == void,
            (None, Slot::Entry(found, _)) => last.as_ref().is_some_and(|last| last.digest == found.digest),
            // A power failure emptied it after it was read, and its holder was waited for. Who reads it only now believes
            // the claim that follows by its signature.
            (None, Slot::Void(..)) => true,
        }
    }

    /// The log is another one than before: it is read as by a fresh process, and waited for as long. That the terms of the
    /// chain do not fall is the chain's doing.
    pub(super) fn forget(&mut self, why: &str, out: &mut VecDeque<Action>) {
        self.tell_unfit(why.to_owned(), out);
        (self.view.position, self.view.floor) = (Position::default(), None);
        self.view.shown_seq = None;
        self.began = false;
        self.reading = Some(Reading::Start);
    }

    /// The log cannot be followed from here: begin anew, after a while.
    pub(super) fn stop_at(&mut self, now: BootTime, refusal: &Refusal, out: &mut VecDeque<Action>) {
        self.tell_unfit(refusal.to_string(), out);
        self.read_again(now);
    }

    fn read_again(&mut self, now: BootTime) {
        self.reading = Some(Reading::Start);
        self.pause_until = now + self.me.timing.poll();
    }

    pub(super) fn answered_poll(&mut self, now: BootTime, sent: BootTime, answer: Answer, out: &mut VecDeque<Action>) {
        match answer {
            Answer::Missing => {
                self.looked_at = sent;
                self.poll_at = now + self.me.timing.poll() + self.jitter(self.me.timing.poll() / 4);
            }
            Answer::Slot(slot) => {
                self.looked_at = sent;
                self.go_past(now, *slot, out);
            }
            Answer::Refused(refusal) => self.stop_at(now, &refusal, out),
            _ => {}
        }
    }

    /// The next slot is taken, by whomever.
    pub(super) fn go_past(&mut self, now: BootTime, slot: Slot, out: &mut VecDeque<Action>) {
        let gone = match slot {
            Slot::Entry(entry, _) => self.view.accept(*entry),
            Slot::Void(void, _) => self.view.position.pass(void),
        };
        if let Err(refusal) = gone {
            return self.stop_at(now, &refusal, out);
        }
        self.seen_at = now;
        // Where one is there may be more.
        self.poll_at = now;
        self.unfit = None;
        self.check_superseded(out);
    }

    /// Whoever leads stands at the end of the log. If another does, or nobody, this leadership is over, at once.
    fn check_superseded(&mut self, out: &mut VecDeque<Action>) {
        let Some(held) = &self.held else {
            return;
        };
        let term = held.claim.term;
        match &self.view.position.last {
            Some(last) if last.entry.term == term && last.entry.holder == self.me.holder => {}
            Some(_) => {
                self.held = None;
                out.extend(self.view.holder().map(Action::Superseded));
            }
            None => self.lose(out),
        }
    }
}
