//! The documents: one file per kind. Each is read from verified bytes alone.

pub mod archive;
pub mod drill;
pub mod evidence;
pub mod fence;
pub mod fork;
pub mod genesis;
pub mod image;
pub mod lease;
pub mod manifest;
pub mod needs;
pub mod pins;
pub mod receipt;
pub mod record;
pub mod rollback;
pub mod root;
pub mod service;
pub mod snapshot;
pub mod statement;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serializer, de};

use crate::json::Tree;
use crate::refusal::{Class, Refusal};

/// The format of every document written now.
pub const FORMAT: &str = "0-draft";

/// The longest name in bytes.
pub const NAME_CAP: usize = 64;

/// The names in `critical` that this reader understands.
const KNOWN_CRITICAL: &[&str] = &[];

/// Stops before strict parsing if the document says that it needs a newer reader.
///
/// It looks at `format` and `critical` alone, because the rest of a newer document may look different.
fn check_growth(tree: &Tree, object: &str) -> Result<(), Refusal> {
    if let Some(Tree::Text(format)) = tree.get("format")
        && format != FORMAT
    {
        return Err(Refusal::new(Class::Newer, object, format!("format {FORMAT}"), crate::keys::excerpt(format)));
    }
    let Some(Tree::Array(names)) = tree.get("critical") else {
        return Ok(());
    };
    let unknown: Vec<String> = names
        .iter()
        .filter_map(|name| match name {
            Tree::Text(name) if !KNOWN_CRITICAL.contains(&name.as_str()) => Some(crate::keys::excerpt(name)),
            _ => None,
        })
        .collect();
    if unknown.is_empty() {
        return Ok(());
    }
    Err(Refusal::new(Class::Newer, object, "only critical features known here", unknown.join(", ")))
}

/// `critical` is absent or has names; an empty list would be a second way to say nothing.
fn check_critical(critical: &Option<Vec<String>>, object: &str) -> Result<(), Refusal> {
    match critical {
        Some(names) if names.is_empty() => {
            Err(Refusal::new(Class::Json, object, "no `critical` or one with names", "an empty one"))
        }
        _ => Ok(()),
    }
}

/// Whether the text is a name: 1 to 64 of `[a-z0-9._-]`, the first a letter or digit.
pub fn is_name(text: &str) -> bool {
    let first = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let any = |byte: u8| first(&byte) || matches!(byte, b'.' | b'_' | b'-');
    text.len() <= NAME_CAP && text.as_bytes().first().is_some_and(first) && text.bytes().all(any)
}

/// Times as RFC 3339 in UTC with `Z`, to the nanosecond where needed.
mod time {
    use super::*;

    pub(super) fn serialize<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(time)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
        parse(&String::deserialize(deserializer)?)
            .ok_or_else(|| de::Error::custom("not a time of the form YYYY-MM-DDTHH:MM:SS[.NNNNNNNNN]Z"))
    }

    fn parse(text: &str) -> Option<Timestamp> {
        let digits_at = |range: std::ops::Range<usize>| {
            text.as_bytes().get(range).is_some_and(|part| part.iter().all(u8::is_ascii_digit))
        };
        let mark = |at: usize, byte: u8| text.as_bytes().get(at) == Some(&byte);
        let shape = digits_at(0..4)
            && mark(4, b'-')
            && digits_at(5..7)
            && mark(7, b'-')
            && digits_at(8..10)
            && mark(10, b'T')
            && digits_at(11..13)
            && mark(13, b':')
            && digits_at(14..16)
            && mark(16, b':')
            && digits_at(17..19)
            && !mark(17, b'6');
        let fraction = text.get(19..)?.strip_suffix('Z')?;
        let fraction_fits = fraction.is_empty()
            || fraction.strip_prefix('.').is_some_and(|digits| {
                (1..=9).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit())
            });
        if shape && fraction_fits { text.parse().ok() } else { None }
    }

    #[cfg(test)]
    mod tests {
        use super::parse;

        #[test]
        fn only_utc_with_z_is_a_time() {
            for text in ["2026-11-20T12:00:00Z", "2026-11-20T12:00:00.123456789Z", "1969-12-31T23:59:59.5Z"] {
                assert!(parse(text).is_some(), "{text}");
            }
            for text in [
                "2026-11-20T12:00:00+00:00",
                "2026-11-20t12:00:00z",
                "2026-11-20 12:00:00Z",
                "2026-11-20T12:00Z",
                "2026-11-20T12:00:60Z",
                "2026-11-20T12:00:00,5Z",
                "2026-11-20T12:00:00.Z",
                "+002026-11-20T12:00:00Z",
                "2026-13-20T12:00:00Z",
                "2026-11-20T12:00:00.1234567890Z",
                "",
                "Z",
            ] {
                assert!(parse(text).is_none(), "{text}");
            }
        }
    }
}
