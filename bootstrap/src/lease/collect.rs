//! Which entries of a lease log may be deleted (rule 9).
//!
//! Age is judged by the clock of who collects: an entry is old when this process saw the log end beyond it long ago. A
//! recorded time is never believed. Why not sooner: `docs/leadership.md`. Layer: pure.

use std::collections::VecDeque;
use std::time::Duration;

use crate::clock::BootTime;

/// How many of the newest entries are always kept.
pub const KEPT: u64 = 1000;
/// How often the end of the log is noted down, and old entries are looked for.
pub const EVERY: Duration = Duration::from_secs(3600);

/// Where the log ended, at which time.
#[derive(Debug, Default)]
pub struct Marks {
    seen: VecDeque<(BootTime, u64)>,
}

impl Marks {
    /// Notes that the log ended with slot `seq`; more often than [`EVERY`] says nothing new. True if it was noted.
    pub fn note(&mut self, now: BootTime, seq: u64) -> bool {
        if self.seen.back().is_some_and(|(noted, _)| now.since(*noted) < EVERY) {
            return false;
        }
        self.seen.push_back((now, seq));
        true
    }

    /// The last slot that may be deleted, when the log ends with slot `head`.
    pub fn collectable(&mut self, now: BootTime, least_age: Duration, head: u64) -> Option<u64> {
        let is_old = |(noted, _): &(BootTime, u64)| now.since(*noted) >= least_age;
        // Of the old marks, the newest says the most.
        while self.seen.len() > 1 && self.seen.get(1).is_some_and(is_old) {
            self.seen.pop_front();
        }
        let (_, seq) = self.seen.front().filter(|mark| is_old(mark))?;
        Some(*seq.min(&head.checked_sub(KEPT)?)).filter(|last| *last > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_old_and_not_among_the_newest_goes() {
        let at = |hours: u64| BootTime::after_boot(Duration::from_secs(hours * 3600));
        let age = Duration::from_secs(24 * 3600);
        let mut marks = Marks::default();
        for hour in 0..40 {
            assert!(marks.note(at(hour), hour * 100));
            assert!(!marks.note(at(hour), 0));
        }
        assert_eq!(marks.collectable(at(23), age, 5000), None);
        assert_eq!(marks.collectable(at(39), age, 5000), Some(1500));
        assert_eq!(marks.collectable(at(39), age, 1700), Some(700));
        assert_eq!(marks.collectable(at(39), age, 999), None);
    }
}
