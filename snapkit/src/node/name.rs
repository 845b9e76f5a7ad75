//! Names of generations: one path component, checked whenever it is read.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Longest name in bytes.
const MAX_BYTES: usize = 128;

/// The name of a generation: letters, digits, `-`, `_` and `.`, not beginning with a dot.
///
/// So it is one component of a path, never `..`, never hidden, and never an option of a command.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct GenerationName(String);

/// A text that is not the name of a generation.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "{0:?} is not a generation's name: 1 to 128 letters, digits, `-`, `_` and `.`, beginning with a letter or digit"
)]
pub struct NotAGenerationName(String);

impl GenerationName {
    /// The first free name that begins with `stem`: itself, then `stem.2`, `stem.3` and so on.
    ///
    /// # Errors
    /// [`NotAGenerationName`] when `stem` cannot begin one.
    pub(super) fn first_free(stem: &str, is_taken: impl Fn(&Self) -> bool) -> Result<Self, NotAGenerationName> {
        let mut name: Self = stem.parse()?;
        for number in 2_u64.. {
            if !is_taken(&name) {
                break;
            }
            name = format!("{stem}.{number}").parse()?;
        }
        Ok(name)
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for GenerationName {
    type Err = NotAGenerationName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let begins_well = text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
        let is_plain = text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
        if begins_well && is_plain && text.len() <= MAX_BYTES {
            return Ok(Self(text.to_owned()));
        }
        Err(NotAGenerationName(text.chars().take(MAX_BYTES).collect()))
    }
}

impl TryFrom<String> for GenerationName {
    type Error = NotAGenerationName;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<GenerationName> for String {
    fn from(name: GenerationName) -> Self {
        name.0
    }
}

impl fmt::Display for GenerationName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_plain_component() {
        for good in ["snap-2026112104-92617329", "a", "0.2", "found-20261121T040000Z"] {
            assert!(good.parse::<GenerationName>().is_ok(), "{good}");
        }
        for bad in ["", ".", "..", ".hidden", "-option", "a/b", "/a", "a\0", "a b", "é", &"x".repeat(129)] {
            assert!(bad.parse::<GenerationName>().is_err(), "{bad:?}");
        }
        assert!(serde_json::from_str::<GenerationName>("\"../x\"").is_err());
    }

    #[test]
    fn a_taken_name_gets_a_number() {
        let taken = ["s", "s.2"];
        let free = GenerationName::first_free("s", |name| taken.contains(&name.as_str())).unwrap();
        assert_eq!(free.as_str(), "s.3");
    }
}
