//! Needs: what must be there before a node can run, without saying any secret.
//!
//! A secret is named, and at most told from a wrong one by a slow salted fingerprint. Values inside of pins. Documented in
//! `docs/format/pins.md`, "Needs". Layer: pure.
//! Source: RFC 7914 (scrypt).

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::is_name;
use super::pins::{LIST_CAP, TEXT_CAP, sorted_names};
use crate::digest::{Digest, from_hex, to_hex};
use crate::keys::excerpt;
use crate::refusal::{Class, Refusal};

/// The most environment variables that are named.
pub const ENVIRONMENT_CAP: usize = 256;
/// The longest name of an environment variable in bytes.
const VARIABLE_CAP: usize = 255;
/// The binary logarithm of scrypt's N.
const LOG_N: u8 = 15;
/// Scrypt's r and p, in bytes of a block over 128 and in lanes.
const R: u32 = 8;
const P: u32 = 1;

/// What a node must have first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Needs {
    /// Environment variables that must be set, by ascending name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub environment: Vec<String>,
    /// Secrets, by ascending name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<Secret>,
    /// Bytes that must be free where the state goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub free_bytes: Option<u64>,
    /// What the machine must be able to do, ascending.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub capabilities: Vec<String>,
}

/// A secret that must be there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Secret {
    /// Its name, and that of its environment variable.
    pub name: String,
    /// One of [`SECRET_SOURCES`].
    pub from: String,
    /// The file it is in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// By which the right one is known; absent where presence is enough.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<Fingerprint>,
}

/// Where secrets may be.
pub const SECRET_SOURCES: &[&str] = &["environment", "file"];

/// By which the right secret is known without saying it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fingerprint {
    /// Random bytes.
    pub salt: Salt,
    /// Scrypt of the secret.
    pub scrypt: Digest,
}

/// Sixteen random bytes, written as 32 lowercase hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Salt(pub [u8; 16]);

impl Serialize for Salt {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&to_hex(&self.0))
    }
}

impl<'de> Deserialize<'de> for Salt {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Salt, D::Error> {
        let text = String::deserialize(deserializer)?;
        from_hex(&text).map(Salt).ok_or_else(|| de::Error::custom("not 32 lowercase hex digits"))
    }
}

impl Fingerprint {
    /// The fingerprint of `secret`; line feeds at its end do not count. Takes about a tenth of a second and 32 MiB.
    pub fn of(secret: &[u8], salt: Salt) -> Fingerprint {
        let end = secret.iter().rposition(|byte| *byte != b'\n').map_or(0, |last| last + 1);
        let params = scrypt::Params::new(LOG_N, R, P).expect("the parameters of the format are valid");
        let mut output = [0; 32];
        scrypt::scrypt(&secret[..end], &salt.0, &params, &mut output).expect("32 bytes are a valid length");
        Fingerprint { salt, scrypt: Digest(output) }
    }

    /// Whether this is the fingerprint of `secret`.
    pub fn is_of(&self, secret: &[u8]) -> bool {
        Fingerprint::of(secret, self.salt) == *self
    }
}

/// Whether `text` can name an environment variable.
pub fn is_variable(text: &str) -> bool {
    let any = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let first = text.bytes().next().is_some_and(|byte| !byte.is_ascii_digit());
    first && text.len() <= VARIABLE_CAP && text.bytes().all(any)
}

impl Needs {
    pub(super) fn check(&self, object: &str) -> Result<(), Refusal> {
        let refuse = |class, expected: &str, found: &str| Err(Refusal::new(class, object, expected, excerpt(found)));
        if self.environment.len() > ENVIRONMENT_CAP {
            return refuse(Class::TooMany, "at most 256 environment variables", &self.environment.len().to_string());
        }
        let secrets = self.secrets.iter().map(|secret| &secret.name);
        if let Some(name) = self.environment.iter().chain(secrets).find(|name| !is_variable(name)) {
            return refuse(Class::Manifest, "a name that an environment variable can have", name);
        }
        if !self.environment.is_sorted_by(|a, b| a < b) {
            return refuse(Class::Manifest, "environment variables by ascending name, each once", "another order");
        }
        if self.secrets.len() > LIST_CAP {
            return refuse(Class::TooMany, "at most 64 secrets", &self.secrets.len().to_string());
        }
        if !self.secrets.is_sorted_by(|a, b| a.name < b.name) {
            return refuse(Class::Manifest, "secrets by ascending name, each once", "another order");
        }
        for secret in &self.secrets {
            if !SECRET_SOURCES.contains(&secret.from.as_str()) {
                return refuse(Class::Newer, "secrets from `environment` or `file`", &secret.from);
            }
            let is_path = |path: &String| path.starts_with('/') && super::pins::is_text(path, TEXT_CAP);
            if (secret.from == "file") != secret.path.is_some() || !secret.path.as_ref().is_none_or(is_path) {
                let expected = "an absolute path for a secret from a file, and none for others";
                return refuse(Class::Manifest, expected, secret.path.as_deref().unwrap_or("none"));
            }
        }
        if self.free_bytes == Some(0) {
            return refuse(Class::Manifest, "no `free_bytes` or more than 0", "0");
        }
        sorted_names("needs.capabilities", self.capabilities.iter().map(String::as_str), is_name, object)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_is_what_python_computes() {
        // hashlib.scrypt(b"hunter2", salt=bytes(range(16)), n=32768, r=8, p=1, maxmem=2**26, dklen=32).hex()
        let salt = Salt(std::array::from_fn(|at| at as u8));
        let made = Fingerprint::of(b"hunter2\n", salt);
        assert_eq!(made.scrypt.to_string(), "0fc4c0a02c6b526b344f28b0ad20dbdbde7636564e6e0f62e2c58c8f25e1e1a3");
        assert!(made.is_of(b"hunter2"));
        assert!(!made.is_of(b"hunter3"));
    }

    #[test]
    fn variables_have_the_names_that_shells_take() {
        assert!(["A", "_x", "API_TOKEN", "a1"].into_iter().all(is_variable));
        assert!(!["", "1A", "A-B", "A B", "ä", &"A".repeat(256)].into_iter().any(is_variable));
    }
}
