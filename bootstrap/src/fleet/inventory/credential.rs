//! Credentials: named by file or variable, looked up only when a request needs one.
//!
//! What reads is asked for with the read credential, what changes something with the admin one; nothing that only reads ever
//! looks at the admin one. A secret never appears in arguments, output or debug text. Layer: the edge.

use std::env;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The longest secret in bytes.
const SECRET_CAP: u64 = 64 * 1024;

/// Where a secret is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reference {
    /// The one line of a file.
    File(PathBuf),
    /// The value of a variable.
    Env(String),
}

/// Where the credentials of a fleet or a node are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Credentials {
    /// A bearer token for reading.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read: Option<Reference>,
    /// `USER:PASSWORD` for reading, for surfaces behind something that asks for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub basic: Option<Reference>,
    /// A bearer token for requests that change something.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub admin: Option<Reference>,
}

/// A secret, which is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

/// Why there is no secret.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The file is not there or cannot be read.
    #[error("cannot read {}, which holds a credential", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// There is nothing, or too much, in it.
    #[error("{place} holds no credential: {why}")]
    Empty {
        /// File or variable.
        place: String,
        /// What was found.
        why: &'static str,
    },
}

impl Credentials {
    /// Whether nothing is said.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// These, and what they do not say from others.
    pub fn or(&self, others: &Self) -> Self {
        let either = |own: &Option<Reference>, other: &Option<Reference>| own.clone().or_else(|| other.clone());
        Self {
            read: either(&self.read, &others.read),
            basic: either(&self.basic, &others.basic),
            admin: either(&self.admin, &others.admin),
        }
    }
}

impl Reference {
    /// Looks the secret up; `None` where a variable is not set.
    ///
    /// # Errors
    /// [`SecretError`]; a file that is not there is one.
    pub fn look_up(&self) -> Result<Option<Secret>, SecretError> {
        let text = match self {
            Self::Env(name) => match env::var(name) {
                Ok(text) if !text.is_empty() => text,
                _ => return Ok(None),
            },
            Self::File(path) => {
                let read = |path: &PathBuf| -> io::Result<String> {
                    let mut text = String::new();
                    File::open(path)?.take(SECRET_CAP + 1).read_to_string(&mut text)?;
                    Ok(text)
                };
                read(path).map_err(|source| SecretError::Read { path: path.clone(), source })?
            }
        };
        let secret = text.trim_end_matches(['\r', '\n']).to_owned();
        let why = match secret.as_str() {
            "" => "it is empty",
            long if long.len() as u64 > SECRET_CAP => "it is too long",
            lines if lines.contains(|c: char| c.is_control()) => "it has more than one line, or control characters",
            _ => return Ok(Some(Secret(secret))),
        };
        Err(SecretError::Empty { place: self.to_string(), why })
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "file:{}", path.display()),
            Self::Env(name) => write!(f, "${name}"),
        }
    }
}

impl Secret {
    /// A secret that is held already.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The secret, for a request and nothing else.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Takes it out of a text that is about to be shown.
    pub fn redact(&self, text: &str) -> String {
        text.replace(&self.0, "[redacted]")
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn of(text: &str) -> Result<Option<Secret>, SecretError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), text).unwrap();
        Reference::File(file.path().to_owned()).look_up()
    }

    #[test]
    fn the_end_of_the_line_is_no_part_of_a_secret() {
        for text in ["abc", "abc\n", "abc\r\n"] {
            assert_eq!(of(text).unwrap().unwrap().reveal(), "abc");
        }
    }

    #[test]
    fn a_file_that_holds_no_secret_is_an_error_and_an_unset_variable_is_none() {
        for text in ["", "\n", "a\nb\n", "a\u{7f}b"] {
            assert!(matches!(of(text), Err(SecretError::Empty { .. })), "{text:?}");
        }
        let missing = Reference::File("/no/such/file".into());
        assert!(matches!(missing.look_up(), Err(SecretError::Read { .. })));
        assert_eq!(Reference::Env("SNAPKIT_NO_SUCH_VARIABLE".to_owned()).look_up().unwrap(), None);
    }

    #[test]
    fn a_secret_is_never_shown() {
        let secret = Secret::new("hunter2");
        assert!(!format!("{secret:?}").contains("hunter2"));
        assert_eq!(secret.redact("it said hunter2"), "it said [redacted]");
    }
}
