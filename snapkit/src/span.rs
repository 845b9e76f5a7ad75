//! Spans of time as people write them: `90s`, `15m`, `72h`, `7d`.
//!
//! Layer: pure.

use std::fmt;
use std::str::FromStr;

use jiff::{SignedDuration, Timestamp};

/// A span of whole seconds, at most ten years.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Deserialize)]
#[serde(try_from = "String")]
pub struct Span {
    seconds: u32,
}

/// The units, the longest first, and their seconds.
const UNITS: [(char, u32); 4] = [('d', 86400), ('h', 3600), ('m', 60), ('s', 1)];
/// The longest span in seconds: ten years.
const LONGEST: u32 = 10 * 365 * 86400;

/// The text is no span.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no span of time; write 90s, 15m, 72h or 7d, at most 3650d")]
pub struct NotASpan(String);

impl Span {
    /// So many days.
    pub const fn days(days: u32) -> Span {
        Span { seconds: if days > LONGEST / 86400 { LONGEST } else { days * 86400 } }
    }

    /// Its length in seconds.
    pub fn seconds(self) -> u64 {
        self.seconds.into()
    }
}

impl From<Span> for SignedDuration {
    fn from(span: Span) -> SignedDuration {
        SignedDuration::from_secs(span.seconds.into())
    }
}

impl TryFrom<String> for Span {
    type Error = NotASpan;

    fn try_from(text: String) -> Result<Span, NotASpan> {
        text.parse()
    }
}

impl FromStr for Span {
    type Err = NotASpan;

    fn from_str(text: &str) -> Result<Span, NotASpan> {
        let parse = || {
            let unit = text.chars().next_back()?;
            let (_, seconds) = UNITS.iter().find(|(name, _)| *name == unit)?;
            let digits = text.strip_suffix(unit).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))?;
            let seconds = digits.parse::<u32>().ok()?.checked_mul(*seconds)?;
            (seconds <= LONGEST).then_some(Span { seconds })
        };
        parse().ok_or_else(|| NotASpan(text.to_owned()))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fits = |(_, seconds): &&(char, u32)| self.seconds.is_multiple_of(*seconds);
        let (unit, seconds) = UNITS.iter().find(fits).copied().unwrap_or(('s', 1));
        write!(out, "{}{unit}", self.seconds / seconds)
    }
}

/// The beginning of the second that `time` lies in: documents that people read need no nanoseconds.
pub fn whole_second(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

/// A length of time as people say it, in the two largest units: `3 d 4 h`, `12 min`, `0 s`.
#[derive(Debug, Clone, Copy)]
pub struct Said(pub SignedDuration);

impl fmt::Display for Said {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs().unsigned_abs();
        let (days, hours, minutes) = (seconds / 86400, seconds / 3600 % 24, seconds / 60 % 60);
        match (days, hours, minutes) {
            (0, 0, 0) => write!(out, "{seconds} s"),
            (0, 0, minutes) => write!(out, "{minutes} min"),
            (0, hours, minutes) => write!(out, "{hours} h {minutes} min"),
            (days, hours, _) => write!(out, "{days} d {hours} h"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_a_number_and_a_unit() {
        for (text, seconds) in [("0s", 0), ("90s", 90), ("15m", 900), ("72h", 259_200), ("7d", 604_800)] {
            let span: Span = text.parse().unwrap();
            assert_eq!(span.seconds(), seconds, "{text}");
            assert_eq!(span.to_string().parse::<Span>().unwrap(), span);
        }
        for text in ["", "7", "d", "7w", "-1d", "1.5h", "1 h", "+1h", "99999999999d", "3651d", "7D", "1h30m"] {
            assert!(text.parse::<Span>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_length_is_said_in_its_two_largest_units() {
        for (seconds, said) in
            [(0, "0 s"), (59, "59 s"), (3599, "59 min"), (7500, "2 h 5 min"), (90_000, "1 d 1 h"), (-90, "1 min")]
        {
            assert_eq!(Said(SignedDuration::from_secs(seconds)).to_string(), said);
        }
    }
}
