//! Needs, looked for on this machine: variables that are set, secrets that are there and the right ones.
//!
//! Layer: files; the environment is brought by the caller.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

use manifests::document::needs::{Needs, Secret};

use crate::trust::file;

/// The longest secret that is read, in bytes.
const SECRET_CAP: usize = 64 * 1024;

/// Where needs are looked for: a variable by its name.
pub struct Surroundings<'a>(pub &'a dyn Fn(&str) -> Option<OsString>);

impl Surroundings<'_> {
    /// Whether a variable is set and not empty.
    fn has(&self, variable: &str) -> bool {
        (self.0)(variable).is_some_and(|value| !value.is_empty())
    }

    /// The bytes of a secret, if it is there and not empty.
    pub(super) fn secret(&self, name: &str, path: Option<&str>) -> Option<Vec<u8>> {
        let bytes = match path {
            None => (self.0)(name).map(OsString::into_vec),
            Some(path) => file::read(Path::new(path), SECRET_CAP).ok().flatten(),
        };
        bytes.filter(|bytes| bytes.iter().any(|byte| *byte != b'\n'))
    }
}

/// What of `needs` is not there, or not the right one, one phrase each; nothing of a secret is said.
///
/// Free space and capabilities are those of the node, and not looked at.
pub fn missing_needs(needs: &Needs, surroundings: &Surroundings<'_>) -> Vec<String> {
    let unset = needs.environment.iter().filter(|name| !surroundings.has(name));
    let mut missing: Vec<String> = unset.map(|name| format!("the variable {name} is not set")).collect();
    missing.extend(needs.secrets.iter().filter_map(|secret| wrong(secret, surroundings)));
    missing
}

fn wrong(secret: &Secret, surroundings: &Surroundings<'_>) -> Option<String> {
    let Secret { name, path, fingerprint, .. } = secret;
    let place = path.as_ref().map_or_else(|| "in the environment".to_owned(), |path| format!("in {path}"));
    match (surroundings.secret(name, path.as_deref()), fingerprint) {
        (None, _) => Some(format!("the secret {name} is not {place}")),
        (Some(bytes), Some(fingerprint)) if !fingerprint.is_of(&bytes) => {
            Some(format!("the secret {name} {place} is not the one that was pinned"))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use manifests::document::needs::{Fingerprint, Salt};

    #[test]
    fn what_is_missing_is_named_and_no_secret_is_shown() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "from a file\n").unwrap();
        let secret = |name: &str, path: Option<&str>, of: Option<&[u8]>| Secret {
            name: name.into(),
            from: if path.is_some() { "file".into() } else { "environment".into() },
            path: path.map(str::to_owned),
            fingerprint: of.map(|bytes| Fingerprint::of(bytes, Salt([1; 16]))),
        };
        let needs = Needs {
            environment: vec!["EMPTY".into(), "SET".into(), "UNSET".into()],
            secrets: vec![
                secret("ABSENT", None, None),
                secret("IN_FILE", file.path().to_str(), Some(b"from a file")),
                secret("RIGHT", None, Some(b"hunter2")),
                secret("WRONG", None, Some(b"another")),
            ],
            ..Needs::default()
        };
        let variable = |name: &str| match name {
            "SET" => Some("x".into()),
            "EMPTY" => Some("".into()),
            "RIGHT" | "WRONG" => Some("hunter2".into()),
            _ => None,
        };
        let missing = missing_needs(&needs, &Surroundings(&variable));
        assert_eq!(
            missing,
            [
                "the variable EMPTY is not set",
                "the variable UNSET is not set",
                "the secret ABSENT is not in the environment",
                "the secret WRONG in the environment is not the one that was pinned",
            ]
        );
    }
}
