//! Slots: their keys, their bytes, and which of them exist.
//!
//! Layer: reads `chain/` of a store; whether bytes are a record is not asked here.

use std::thread;

use bytes::Bytes;
use manifests::chain;
use manifests::document::record::RECORD_CAP;
use manifests::refusal::Class;

use super::{Chain, ChainError};
use crate::store::{Ability, Store, StoreError};

/// Slots fetched at the same time by a walk.
const FETCHERS: u64 = 16;

/// The last number of a record: the largest integer that all readers of JSON take for the same.
const SEQ_MAX: u64 = (1 << 53) - 1;

/// The key of a slot.
pub(crate) fn key(seq: u64) -> String {
    format!("chain/{seq:020}.json")
}

fn seq_of(key: &str) -> Option<u64> {
    let digits = key.strip_prefix("chain/")?.strip_suffix(".json")?;
    let plain = digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|_| plain)
}

/// The slots that exist from some number on.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Slots {
    /// The last of the unbroken row that begins with that number.
    pub(super) row_end: Option<u64>,
    /// Those after the first missing one, ascending.
    pub(super) beyond: Vec<u64>,
}

impl Slots {
    fn of(from: u64, mut seqs: Vec<u64>) -> Self {
        seqs.sort_unstable();
        let row = seqs.iter().zip(from..).take_while(|(seq, wanted)| *seq == wanted).count();
        let beyond = seqs.split_off(row);
        Self { row_end: seqs.last().copied(), beyond }
    }
}

impl Chain<'_> {
    /// The bytes of a slot, cut off one byte past the cap of a record; nothing if it does not exist.
    pub(super) fn read_slot(&self, seq: u64) -> Result<Option<Bytes>, ChainError> {
        self.read_any(seq).map_err(ChainError::Store)
    }

    /// The bytes of a slot: of a copy of the store in which they are a record, if there is one.
    fn read_any(&self, seq: u64) -> Result<Option<Bytes>, StoreError> {
        let read = read(self.store, seq)?;
        match &read {
            Some(bytes) if self.store.copies() > 1 && !self.is_record(seq, bytes) => {
                let better = self.store.another(&key(seq), RECORD_CAP as u64, &mut |other| self.is_record(seq, other));
                Ok(better.or(read))
            }
            _ => Ok(read),
        }
    }

    /// Whether somebody entitled signed these bytes for this slot. What this reader cannot accept for another reason is
    /// the same in every honest copy.
    fn is_record(&self, seq: u64, bytes: &[u8]) -> bool {
        match seq {
            0 => {
                !matches!(chain::first(bytes, &self.pin.root, &self.root), Err(refusal) if refusal.class() != Class::Newer)
            }
            _ => !matches!(chain::is_void(bytes, &self.id, seq, &self.root), Ok(Some(_))),
        }
    }

    /// The slots from `first` to `last`, fetched side by side.
    pub(super) fn read_slots(&self, first: u64, last: u64) -> Result<Vec<(u64, Option<Bytes>)>, ChainError> {
        thread::scope(|scope| {
            let fetchers: Vec<_> = (first..=last).map(|seq| (seq, scope.spawn(move || self.read_any(seq)))).collect();
            let mut slots = Vec::new();
            for (seq, fetcher) in fetchers {
                slots.push((seq, fetcher.join().expect("reading a slot does not panic")?));
            }
            Ok(slots)
        })
    }

    /// How many slots [`Chain::read_slots`] should be asked for at once, as the last of them.
    pub(super) fn batch_end(&self, first: u64, last: u64) -> u64 {
        last.min(first.saturating_add(FETCHERS - 1))
    }

    /// The slots from `from` on. One listing, or a few lengths asked where the store cannot list.
    pub(super) fn slots_from(&self, from: u64) -> Result<Slots, ChainError> {
        if self.store.abilities().can_list == Ability::No {
            return self.probe_from(from);
        }
        let after = from.checked_sub(1).map(key);
        let mut seqs = Vec::new();
        let listed = self.store.list("chain/", after.as_deref(), &mut |key, _| {
            seqs.extend(seq_of(key).filter(|seq| *seq >= from));
        });
        match listed {
            Ok(()) => Ok(Slots::of(from, seqs)),
            Err(StoreError::Unsupported { .. }) => self.probe_from(from),
            Err(error) => Err(error.into()),
        }
    }

    /// Finds the end of the row without listing: doubling steps, then halving.
    fn probe_from(&self, from: u64) -> Result<Slots, ChainError> {
        let exists = |seq: u64| match self.store.size(&key(seq)) {
            Ok(_) => Ok(true),
            Err(error) if error.is_missing() => Ok(false),
            Err(error) => Err(error),
        };
        if !exists(from)? {
            return Ok(Slots::default());
        }
        let (mut there, mut step) = (from, 1);
        let mut missing = loop {
            let next = there + step;
            // A server that says yes to everything: no record has such a number, and reading the slots will tell.
            if next > SEQ_MAX || !exists(next)? {
                break next;
            }
            (there, step) = (next, step * 2);
        };
        while missing - there > 1 {
            let middle = there + (missing - there) / 2;
            if exists(middle)? { there = middle } else { missing = middle }
        }
        Ok(Slots { row_end: Some(there), beyond: Vec::new() })
    }
}

fn read(store: &dyn Store, seq: u64) -> Result<Option<Bytes>, StoreError> {
    let key = key(seq);
    match store.get(&key, RECORD_CAP as u64) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.is_missing() => Ok(None),
        // So much of a flood is enough to name it.
        Err(StoreError::TooBig { .. }) => store.get_range(&key, 0..RECORD_CAP as u64 + 1).map(Some),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_key_has_twenty_digits_and_nothing_else_is_one() {
        assert_eq!(key(17), "chain/00000000000000000017.json");
        assert_eq!(seq_of(&key(17)), Some(17));
        for other in ["chain/17.json", "chain/00000000000000000017", "chain/+0000000000000000017.json", "chain/x"] {
            assert_eq!(seq_of(other), None, "{other}");
        }
        assert_eq!(seq_of("chain/99999999999999999999.json"), None, "it does not fit 64 bits");
    }

    #[test]
    fn the_row_ends_before_the_first_missing_slot() {
        assert_eq!(Slots::of(3, vec![5, 3, 4, 9]), Slots { row_end: Some(5), beyond: vec![9] });
        assert_eq!(Slots::of(3, vec![4]), Slots { row_end: None, beyond: vec![4] });
        assert_eq!(Slots::of(3, vec![]), Slots::default());
    }
}
