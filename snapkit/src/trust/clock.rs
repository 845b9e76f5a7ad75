//! The time that a run judges by.
//!
//! It is the machine's clock, but never before what was seen to be past: a clock that is set back makes nothing fresh
//! again. What is stored of the time moves forward in bounded steps, so that neither one wrong answer of a time server
//! nor a record with an invented time can make everything look expired for good. Documented in `docs/trust.md`.
//! Layer: pure. Source: TUF, section 5.1 (fixed update start time).

use jiff::{SignedDuration, Timestamp};
use manifests::document::root::Root;
use manifests::refusal::{Class, Refusal};

use super::Mark;

/// How far clocks may be apart, and how far a stored time may run ahead of the newest signed one.
pub const CLOCK_STEP: SignedDuration = SignedDuration::from_hours(24);

/// The time to judge expiry by: the later of `now` and the time stored with the mark.
///
/// # Errors
/// [`Class::Clock`] if the clock is more than a day behind that time, or behind the moment when the root was issued:
/// nobody could say then what is fresh.
pub fn judged(now: Timestamp, mark: Option<&Mark>, root: &Root) -> Result<Timestamp, Refusal> {
    let known = mark.map_or(root.document().issued, |mark| mark.time.max(root.document().issued));
    if now.saturating_add(CLOCK_STEP).unwrap_or(Timestamp::MAX) < known {
        return Err(Refusal::new(Class::Clock, "the clock", format!("{known} or later, which has been seen"), now));
    }
    Ok(mark.map_or(now, |mark| mark.time.max(now)))
}

/// What is stored of the time when a record that was signed at `signed` is verified by a clock that says `now`.
///
/// The later of both, but at most a day after either: one of them may be wrong.
pub(super) fn stored(signed: Timestamp, now: Timestamp) -> Timestamp {
    let after = |time: Timestamp| time.saturating_add(CLOCK_STEP).unwrap_or(Timestamp::MAX);
    signed.max(now).min(after(signed)).min(after(now))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chain::fixture::at;

    const DAY: i64 = 24 * 60;

    #[test]
    fn what_is_stored_moves_at_most_a_day_beyond_either_clock() {
        assert_eq!(stored(at(0), at(30)), at(30));
        assert_eq!(stored(at(30), at(0)), at(30));
        assert_eq!(stored(at(0), at(900 * DAY)), at(DAY), "a clock far ahead");
        assert_eq!(stored(at(900 * DAY), at(0)), at(DAY), "a record with an invented time");
        assert_eq!(stored(at(0), Timestamp::MAX), at(DAY));
        assert_eq!(stored(Timestamp::MAX, at(0)), at(DAY));
    }
}
