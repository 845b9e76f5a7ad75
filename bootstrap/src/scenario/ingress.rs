//! The ingress driver: the deployed configuration with another node first, put in its place in one step.
//!
//! Which text that is, is decided by [`first`], from the addresses of the nodes alone; comments, options and everything else
//! stay where they are. [`File`] reads and replaces on the machine of the ingress. Meaning: `docs/scenarios.md`, "Ingress".
//! Layer: `first` is pure, the rest reads and writes one file.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use manifests::digest::Digest;
use serde::{Deserialize, Serialize};

/// The largest configuration in bytes.
pub const CAP: u64 = 1 << 20;

/// Why there is no configuration with another node first.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SwapError {
    /// An address stands there more or less than once.
    #[error("expected {address}, where {node} serves, once in the configuration, found it {times} times")]
    Times {
        /// The node.
        node: String,
        /// Its address.
        address: String,
        /// How often it was found.
        times: usize,
    },
    /// The node is none of the upstreams.
    #[error("{0} is none of the upstreams")]
    NoUpstream(String),
}

/// The configuration with `node` first: what stands for the first of the upstreams in the text stands for `node`
/// afterwards, and the others follow in their order. Only addresses change places, so `backup` and weights stay.
///
/// `upstreams` are names and addresses.
///
/// # Errors
/// [`SwapError`] if that is not clear.
pub fn first(text: &str, upstreams: &[(String, String)], node: &str) -> Result<String, SwapError> {
    let mut places = Vec::new();
    for (name, address) in upstreams {
        let found = occurrences(text, address);
        let [at] = found[..] else {
            return Err(SwapError::Times { node: name.clone(), address: address.clone(), times: found.len() });
        };
        places.push((at, name, address));
    }
    places.sort_by_key(|(at, ..)| *at);
    let first = places.iter().position(|(_, name, _)| *name == node);
    let first = first.ok_or_else(|| SwapError::NoUpstream(node.to_owned()))?;
    let mut order: Vec<&str> = places.iter().map(|(_, _, address)| address.as_str()).collect();
    let address = order.remove(first);
    order.insert(0, address);
    let mut changed = String::with_capacity(text.len());
    let mut end = 0;
    for ((at, _, old), new) in places.iter().zip(order) {
        changed.push_str(&text[end..*at]);
        changed.push_str(new);
        end = at + old.len();
    }
    changed.push_str(&text[end..]);
    Ok(changed)
}

/// The node whose address stands first in a configuration; `None` where none of them does.
pub fn leading<'u>(text: &str, upstreams: &'u [(String, String)]) -> Option<&'u str> {
    let place = |(name, address): &'u (String, String)| {
        let at = *occurrences(text, address).first()?;
        Some((at, name.as_str()))
    };
    upstreams.iter().filter_map(place).min().map(|(_, name)| name)
}

/// Where an address stands by itself, outside of comments: not as a part of a longer one.
fn occurrences(text: &str, address: &str) -> Vec<usize> {
    let part = |c: char| c.is_ascii_alphanumeric() || c == '.' || c == ':' || c == '-' || c == '_';
    let alone = |at: usize| {
        !text[..at].ends_with(part) && !text[at + address.len()..].starts_with(|c: char| part(c) && c != '.')
    };
    let commented = |at: usize| {
        let line = &text[text[..at].rfind('\n').map_or(0, |end| end + 1)..at];
        line.contains('#')
    };
    text.match_indices(address).map(|(at, _)| at).filter(|at| alone(*at) && !commented(*at)).collect()
}

/// A configuration as it is deployed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct File {
    /// Where.
    pub path: PathBuf,
    /// Its SHA-256.
    pub sha256: Digest,
    /// Its text.
    pub text: String,
}

/// What replacing a configuration did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replaced {
    /// Where.
    pub path: PathBuf,
    /// The SHA-256 before.
    pub before: Digest,
    /// And after.
    pub after: Digest,
    /// What was there before, untouched.
    pub backup: PathBuf,
}

/// Why a configuration was not replaced. It is what it was.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It is not what it was when it was read.
    #[error("{}: expected the content with SHA-256 {expected}, found {found}", .path.display())]
    Changed {
        /// The file.
        path: PathBuf,
        /// What it was.
        expected: Digest,
        /// What it is.
        found: Digest,
    },
    /// It is too big, or no text.
    #[error("{} is no configuration: {why}", .path.display())]
    Unfit {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The system says no.
    #[error("cannot {what} {}", .path.display())]
    Io {
        /// What.
        what: &'static str,
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl File {
    /// Reads it.
    ///
    /// # Errors
    /// [`FileError`] if it cannot be read, or is no text of a reasonable size.
    pub fn read(path: &Path) -> Result<Self, FileError> {
        let failed = |source| FileError::Io { what: "read", path: path.to_owned(), source };
        let unfit = |why: String| FileError::Unfit { path: path.to_owned(), why };
        let metadata = fs::metadata(path).map_err(failed)?;
        if !metadata.is_file() || metadata.len() > CAP {
            return Err(unfit(format!("expected a file of at most {CAP} bytes")));
        }
        let bytes = fs::read(path).map_err(failed)?;
        let sha256 = Digest::sha256(&bytes);
        let text = String::from_utf8(bytes).map_err(|_| unfit("it is not UTF-8".to_owned()))?;
        Ok(Self { path: path.to_owned(), sha256, text })
    }

    /// Where [`File::replace`] keeps what was there, beside the file.
    pub fn backup(path: &Path, now: Timestamp) -> PathBuf {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        path.with_file_name(format!("{name}.{}.bak", now.strftime("%Y%m%dT%H%M%S%3fZ")))
    }

    /// Puts `text` in its place in one step, with a copy of what was there beside it under a name with the time. Owner
    /// and mode stay. If it holds `text` already, nothing is changed but the copy.
    ///
    /// # Errors
    /// [`FileError`]; the file is what it was then.
    pub fn replace(path: &Path, expected: Digest, text: &str, now: Timestamp) -> Result<Replaced, FileError> {
        let before = Self::read(path)?;
        if before.sha256 != expected {
            return Err(FileError::Changed { path: path.to_owned(), expected, found: before.sha256 });
        }
        let at = |what| move |path: &Path, source| FileError::Io { what, path: path.to_owned(), source };
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let backup = Self::backup(path, now);
        let metadata = fs::metadata(path).map_err(|error| at("look at")(path, error))?;
        write_new(&backup, before.text.as_bytes(), &metadata).map_err(|error| at("write")(&backup, error))?;
        let beside = path.with_file_name(format!(".{name}.new"));
        let _ = fs::remove_file(&beside);
        let written = write_new(&beside, text.as_bytes(), &metadata);
        written.map_err(|error| at("write")(&beside, error))?;
        fs::rename(&beside, path).map_err(|error| at("replace")(path, error))?;
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let synced = fs::File::open(directory).and_then(|directory| directory.sync_all());
        synced.map_err(|error| at("sync")(directory, error))?;
        Ok(Replaced { path: path.to_owned(), before: before.sha256, after: Digest::sha256(text.as_bytes()), backup })
    }
}

/// A new file with the mode and owner of another one, on the disk.
fn write_new(path: &Path, bytes: &[u8], like: &fs::Metadata) -> io::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    let own = file.metadata()?;
    if (own.uid(), own.gid()) != (like.uid(), like.gid()) {
        std::os::unix::fs::fchown(&file, Some(like.uid()), Some(like.gid()))?;
    }
    file.set_permissions(fs::Permissions::from_mode(like.mode() & 0o7777))?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NGINX: &str = "\
upstream app {
    # 10.0.0.2:8080 was first in March
    server 10.0.0.1:8080 max_fails=1;
    server 10.0.0.2:8080 backup;
    server 10.0.0.3:8080 backup; # the third
}
upstream other { server 10.0.0.1:80800; server 110.0.0.1:8080; }
";

    fn upstreams() -> Vec<(String, String)> {
        [("a", "10.0.0.1:8080"), ("b", "10.0.0.2:8080"), ("c", "10.0.0.3:8080")]
            .map(|(name, address)| (name.to_owned(), address.to_owned()))
            .to_vec()
    }

    #[test]
    fn another_node_takes_the_first_place_and_its_options_stay_there() {
        let changed = first(NGINX, &upstreams(), "c").unwrap();
        let expected = NGINX
            .replace("server 10.0.0.1:8080 max", "server 10.0.0.3:8080 max")
            .replace("server 10.0.0.2:8080 backup;\n", "server 10.0.0.1:8080 backup;\n")
            .replace("server 10.0.0.3:8080 backup; #", "server 10.0.0.2:8080 backup; #");
        assert_eq!(changed, expected);
        assert_eq!(first(&changed, &upstreams(), "c").unwrap(), changed, "once is enough");
        assert_eq!((leading(NGINX, &upstreams()), leading(&changed, &upstreams())), (Some("a"), Some("c")));
        assert_eq!(leading("# 10.0.0.1:8080", &upstreams()), None);
        let back = first(&first(&changed, &upstreams(), "b").unwrap(), &upstreams(), "a").unwrap();
        assert!(back.contains("server 10.0.0.1:8080 max_fails=1"));
    }

    #[test]
    fn what_is_not_clear_is_refused() {
        let times = |text: &str| first(text, &upstreams(), "b").unwrap_err().to_string();
        assert!(times("server 10.0.0.1:8080;").contains("10.0.0.2:8080, where b serves, once"), "{}", times("x"));
        let twice = NGINX.replace("110.0.0.1:8080", "10.0.0.1:8080");
        assert!(times(&twice).contains("found it 2 times"));
        assert_eq!(first(NGINX, &upstreams(), "d"), Err(SwapError::NoUpstream("d".to_owned())));
    }

    #[test]
    fn a_file_is_replaced_in_one_step_with_a_copy_beside_it() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("app.conf");
        fs::write(&path, NGINX).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let before = File::read(&path).unwrap();
        let replaced = File::replace(&path, before.sha256, "new\n", Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!((fs::read_to_string(&path).unwrap().as_str(), replaced.before), ("new\n", before.sha256));
        assert_eq!(fs::read_to_string(&replaced.backup).unwrap(), NGINX);
        for file in [&path, &replaced.backup] {
            assert_eq!(fs::metadata(file).unwrap().mode() & 0o777, 0o640);
        }
        assert!(replaced.backup.to_string_lossy().ends_with("app.conf.19700101T000000000Z.bak"));
    }

    #[test]
    fn a_file_that_somebody_changed_meanwhile_is_left_alone() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("app.conf");
        fs::write(&path, NGINX).unwrap();
        let error = File::replace(&path, Digest::sha256(b"another"), "new\n", Timestamp::UNIX_EPOCH).unwrap_err();
        assert!(matches!(error, FileError::Changed { .. }), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), NGINX);
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 1, "no copy either");
    }
}
