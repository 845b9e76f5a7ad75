//! Selectors: how a person names a snapshot.
//!
//! | text | snapshot |
//! |---|---|
//! | `latest`, `latest~2` | the newest, or the one that a rollback record names; the one two snapshots before it |
//! | `#12`, `12` | the record with this sequence number |
//! | `snap-2026112012-0123abcd` | by name, or by the beginning of a name or digest, at least 4 characters |
//! | `@2026-11-20T12:00` | the newest that is not after this time; UTC unless an offset is given |
//!
//! Whatever is found lies under the newest record: an old snapshot is one on purpose, and not because it was served.
//!
//! Layer: parsing is pure; [`Selector::resolve`] reads the chain.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use manifests::document::record::{Body, Record};

use crate::chain::{Chain, ChainError, record_name};

/// The shortest beginning of a name or digest.
const PREFIX_LEAST: usize = 4;
/// The length of a whole name and of a whole digest.
const NAME_LEN: usize = "snap-2026112012-0123abcd".len();
const DIGEST_LEN: usize = 64;
/// The most candidates that are named.
const SHOWN: usize = 8;

/// Names one snapshot of a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selector {
    /// The newest but this many.
    Latest {
        /// How many snapshots to go back.
        back: u64,
    },
    /// The one in this slot.
    Seq(u64),
    /// The only one whose name or digest begins so.
    Prefix(String),
    /// The newest that is not after this time.
    At(Timestamp),
}

/// The text names no snapshot.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} does not name a snapshot; use `latest`, `latest~2`, `#12`, `@2026-11-20T12:00`, or the beginning of a name or \
     digest, at least {PREFIX_LEAST} characters"
)]
pub struct NotASelector(String);

/// Why a selector gives no snapshot.
#[derive(Debug, thiserror::Error)]
pub enum SelectError {
    /// The chain could not be read.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// There is no such snapshot.
    #[error("there is no snapshot {selector}; {exists}")]
    NotFound {
        /// What was asked for.
        selector: Selector,
        /// What there is instead, as the end of the sentence.
        exists: String,
    },
    /// More than one snapshot begins so.
    #[error("{selector} could be {}", .candidates.join(", "))]
    Ambiguous {
        /// What was asked for.
        selector: Selector,
        /// The names of some that fit.
        candidates: Vec<String>,
    },
}

impl FromStr for Selector {
    type Err = NotASelector;

    fn from_str(text: &str) -> Result<Self, NotASelector> {
        parse(text).ok_or_else(|| NotASelector(text.to_owned()))
    }
}

fn parse(text: &str) -> Option<Selector> {
    if let Some(time) = text.strip_prefix('@') {
        return parse_time(time).map(Selector::At);
    }
    if let Some(seq) = text.strip_prefix('#') {
        return number(seq).map(Selector::Seq);
    }
    if let Some(back) = text.strip_prefix("latest") {
        return match back.strip_prefix('~') {
            None if back.is_empty() => Some(Selector::Latest { back: 0 }),
            None => None,
            Some(back) => number(back).map(|back| Selector::Latest { back }),
        };
    }
    // More digits than any sequence number has are the beginning of a digest.
    if let Some(seq) = number(text) {
        return Some(Selector::Seq(seq));
    }
    let hex = |text: &str| text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let is_name = match text.strip_prefix("snap-") {
        Some(rest) => {
            let (hour, digest) = rest.split_once('-').unwrap_or((rest, ""));
            let whole_hour = hour.len() == 10 || !rest.contains('-') && hour.len() < 10;
            whole_hour && hour.bytes().all(|byte| byte.is_ascii_digit()) && hex(digest) && digest.len() <= 8
        }
        None => text == "snap" || hex(text) && text.len() <= DIGEST_LEN,
    };
    (is_name && text.len() >= PREFIX_LEAST).then(|| Selector::Prefix(text.to_owned()))
}

/// A plain decimal number that a sequence number can be.
fn number(text: &str) -> Option<u64> {
    let plain = !text.is_empty() && text.len() <= 16 && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|number| plain && *number < 1 << 53)
}

fn parse_time(text: &str) -> Option<Timestamp> {
    // A civil parser would take a time with an offset and ignore the offset, so the instant goes first.
    text.parse::<Timestamp>().ok().or_else(|| {
        let has_offset = text.get(10..).is_some_and(|time| time.contains(['Z', 'z', '+', '-', '[']));
        let civil = text.parse::<DateTime>().ok().filter(|_| !has_offset)?;
        civil.to_zoned(TimeZone::UTC).ok().map(|zoned| zoned.timestamp())
    })
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Latest { back: 0 } => f.write_str("latest"),
            Self::Latest { back } => write!(f, "latest~{back}"),
            Self::Seq(seq) => write!(f, "#{seq}"),
            Self::Prefix(prefix) => f.write_str(prefix),
            Self::At(time) => write!(f, "@{time}"),
        }
    }
}

impl Selector {
    /// Finds the snapshot.
    ///
    /// `latest` asks for the head alone, a number for one record, a whole name or digest for records back to it.
    ///
    /// # Errors
    /// [`SelectError::NotFound`], [`SelectError::Ambiguous`], or what the chain is refused for.
    pub fn resolve(&self, chain: &Chain<'_>) -> Result<Record, SelectError> {
        match self {
            Self::Latest { back } => self.count_back(chain, *back),
            Self::Seq(seq) => self.by_number(chain, *seq),
            Self::Prefix(prefix) => self.by_prefix(chain, prefix),
            Self::At(time) => self.first_back(chain, |record| record.header.time <= *time),
        }
    }

    fn count_back(&self, chain: &Chain<'_>, back: u64) -> Result<Record, SelectError> {
        let newest = chain.head()?;
        let Some(latest) = chain.latest_snapshot(&newest)? else {
            return Err(self.not_found(&Seen::default()));
        };
        let mut left = back;
        self.first_back_from(chain, &latest, |_| {
            let found = left == 0;
            left = left.saturating_sub(1);
            found
        })
    }

    /// The first snapshot that fits, from the newest backwards.
    fn first_back(&self, chain: &Chain<'_>, fits: impl FnMut(&Record) -> bool) -> Result<Record, SelectError> {
        let newest = chain.head()?;
        self.first_back_from(chain, &newest.record, fits)
    }

    fn first_back_from(
        &self,
        chain: &Chain<'_>,
        from: &Record,
        mut fits: impl FnMut(&Record) -> bool,
    ) -> Result<Record, SelectError> {
        let mut seen = Seen::default();
        for record in chain.walk_back(from) {
            let record = record?;
            if !is_snapshot(&record) {
                continue;
            }
            if fits(&record) {
                return Ok(record);
            }
            seen.add(&record);
        }
        Err(self.not_found(&seen))
    }

    fn by_number(&self, chain: &Chain<'_>, seq: u64) -> Result<Record, SelectError> {
        let newest = chain.head()?;
        let record = match chain.record_under(seq, &newest) {
            Ok(record) => record,
            Err(error) if is_absent(&error) => {
                let digits = seq.to_string();
                return match digits.len() >= PREFIX_LEAST {
                    true => self.by_prefix(chain, &digits),
                    false => self.first_back(chain, |_| false),
                };
            }
            Err(error) => return Err(error.into()),
        };
        if is_snapshot(&record) {
            return Ok(record);
        }
        let exists = format!("record {seq} is a {} record", record.body.kind());
        Err(SelectError::NotFound { selector: self.clone(), exists })
    }

    fn by_prefix(&self, chain: &Chain<'_>, prefix: &str) -> Result<Record, SelectError> {
        let newest = chain.head()?;
        let whole = prefix.len() == DIGEST_LEN || prefix.starts_with("snap-") && prefix.len() == NAME_LEN;
        let mut found: Vec<Record> = Vec::new();
        let mut seen = Seen::default();
        for record in chain.walk_back(&newest.record) {
            let record = record?;
            if !is_snapshot(&record) {
                continue;
            }
            seen.add(&record);
            let name = record_name(&record).unwrap_or_default();
            if name.starts_with(prefix) || record.digest.to_string().starts_with(prefix) {
                if whole {
                    return Ok(record);
                }
                found.push(record);
                if found.len() == SHOWN {
                    break;
                }
            }
        }
        match found.len() {
            0 => Err(self.not_found(&seen)),
            1 => Ok(found.remove(0)),
            _ => {
                let candidates = found.iter().filter_map(record_name).collect();
                Err(SelectError::Ambiguous { selector: self.clone(), candidates })
            }
        }
    }

    fn not_found(&self, seen: &Seen) -> SelectError {
        SelectError::NotFound { selector: self.clone(), exists: seen.to_string() }
    }
}

/// What a search went past.
#[derive(Debug, Default)]
struct Seen {
    count: u64,
    newest: Option<String>,
    oldest: Option<String>,
}

impl Seen {
    fn add(&mut self, record: &Record) {
        let name = format!("#{} {}", record.header.seq, record_name(record).unwrap_or_default());
        self.count += 1;
        self.newest.get_or_insert_with(|| name.clone());
        self.oldest = Some(name);
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.newest, &self.oldest, self.count) {
            (Some(newest), Some(oldest), 2..) => {
                write!(f, "the {} snapshots there are go from {oldest} to {newest}", self.count)
            }
            (Some(newest), ..) => write!(f, "the only snapshot is {newest}"),
            _ => f.write_str("the chain has no snapshot yet"),
        }
    }
}

fn is_snapshot(record: &Record) -> bool {
    matches!(record.body, Body::Snapshot(_))
}

fn is_absent(error: &ChainError) -> bool {
    error.refusal().is_some_and(|refusal| refusal.class() == manifests::refusal::Class::Missing)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chain::fixture::World;
    use proptest::prelude::*;

    #[test]
    fn each_form_is_read_as_documented() {
        let at = |text: &str| Selector::At(text.parse().unwrap());
        for (text, selector) in [
            ("latest", Selector::Latest { back: 0 }),
            ("latest~2", Selector::Latest { back: 2 }),
            ("#12", Selector::Seq(12)),
            ("12", Selector::Seq(12)),
            ("snap-2026112012-0123abcd", Selector::Prefix("snap-2026112012-0123abcd".into())),
            ("snap-20261120", Selector::Prefix("snap-20261120".into())),
            ("0123abcd", Selector::Prefix("0123abcd".into())),
            ("@2026-11-20T12:00", at("2026-11-20T12:00:00Z")),
            ("@2026-11-20 12:00:01", at("2026-11-20T12:00:01Z")),
            ("@2026-11-20T12:00+02:00", at("2026-11-20T10:00:00Z")),
            ("@2026-11-20", at("2026-11-20T00:00:00Z")),
            ("@2026-11-20T12:00:00.5Z", at("2026-11-20T12:00:00.5Z")),
        ] {
            assert_eq!(text.parse(), Ok(selector), "{text}");
        }
    }

    #[test]
    fn what_names_nothing_is_refused() {
        for text in [
            "",
            "latest~",
            "latest~-1",
            "latest2",
            "#",
            "#-1",
            "#x",
            "abc",
            "xyz12",
            "@",
            "@noon",
            "ABCD",
            "snap-x",
            "snap-2026-ab",
            "latest~99999999999999999999",
            "@2026-13-01",
        ] {
            assert!(text.parse::<Selector>().is_err(), "{text}");
        }
    }

    #[test]
    fn each_selector_finds_its_snapshot() {
        let world = World::new();
        world.grow(5);
        let chain = world.open();
        let find = |text: &str| text.parse::<Selector>().unwrap().resolve(&chain).map(|record| record.header.seq);
        let third = chain.record(3).unwrap();
        let (name, id) = (record_name(&third).unwrap(), third.digest.to_string());
        for (text, seq) in [
            ("latest", 5),
            ("latest~2", 3),
            ("#3", 3),
            (name.as_str(), 3),
            (id.as_str(), 3),
            // The fixture's records are a minute apart.
            ("@2026-11-20T12:03:59", 3),
            ("@2999-01-01", 5),
        ] {
            assert_eq!(find(text).unwrap(), seq, "{text}");
        }
        for text in ["latest~5", "#6", "#0", "@2026-11-20T11:00", "snap-1999"] {
            let error = find(text).unwrap_err();
            assert!(matches!(error, SelectError::NotFound { .. }), "{text}: {error}");
        }
        match find("snap-2026").unwrap_err() {
            SelectError::Ambiguous { candidates, .. } => assert!(candidates.contains(&name) && candidates.len() == 5),
            other => panic!("{other}"),
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "(latest|#|@|snap-)?.*") {
            let _ = text.parse::<Selector>();
        }

        #[test]
        fn a_selector_prints_as_text_that_reads_back(text in "latest(~[0-9]{1,3})?|#[0-9]{1,9}|[a-f]{1}[0-9a-f]{3,60}|snap-2026112012-[0-9a-f]{0,8}|@20[0-9]{2}-1[0-2]-[12][0-9]T1[0-9]:00") {
            let selector: Selector = text.parse().unwrap();
            prop_assert_eq!(selector.to_string().parse(), Ok(selector));
        }
    }
}
