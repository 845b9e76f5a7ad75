//! Key files: reading and writing the files that hold signing keys.
//!
//! A secret key is read only from a file that nobody but its owner may read, and written through a
//! private temporary file that is renamed into place, so that no half or readable key ever exists.
//! Nothing is overwritten: a lost signing key cannot be made again.
//! Forms: `docs/format/keys.md`. Layer: files; `manifests::keys` knows the forms.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use manifests::keys::{KEY_FILE_CAP, PublicKey, SecretKey, Signer, check_mode};
use manifests::refusal::Refusal;
use tempfile::NamedTempFile;

/// Why a key file could not be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// The file cannot be read.
    #[error("cannot read the key file {}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file, which the refusal names, is not a key that may be used.
    #[error("a key file is refused")]
    Refused(#[source] Refusal),
    /// A file already stands there. It is never replaced.
    #[error("{} already exists and is not overwritten", .0.display())]
    Exists(PathBuf),
    /// The file cannot be written.
    #[error("cannot write the key file {}", .path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The system gives no random bytes.
    #[error("the system gives no random bytes")]
    Random(#[source] getrandom::Error),
}

/// Who may read a written file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readable {
    /// Only its owner: mode 0600.
    ByOwner,
    /// Everybody: mode 0644.
    ByAll,
}

/// A key as a file holds it.
#[derive(Debug)]
pub enum Key {
    /// A key that can sign.
    Secret(SecretKey),
    /// A key that can verify.
    Public(PublicKey),
}

impl Key {
    /// The key that verifies.
    pub fn public(&self) -> PublicKey {
        match self {
            Self::Secret(key) => key.public(),
            Self::Public(key) => *key,
        }
    }
}

/// Makes a new signing key from the system's random source.
///
/// # Errors
/// [`KeyFileError::Random`] where the system has none.
pub fn generate() -> Result<SecretKey, KeyFileError> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(KeyFileError::Random)?;
    Ok(SecretKey::from_seed(&seed))
}

/// Reads a key file of any known form, secret or public.
///
/// # Errors
/// [`KeyFileError::Read`] and [`KeyFileError::Refused`]; a secret key that others may read is refused.
pub fn read(path: &Path) -> Result<Key, KeyFileError> {
    let (text, mode) = read_text(path)?;
    if text.contains("PRIVATE KEY") {
        return parse_secret(path, &text, mode).map(Key::Secret);
    }
    PublicKey::parse(&text).map(Key::Public).map_err(|refusal| refused(path, refusal))
}

/// Reads a signing key.
///
/// # Errors
/// As [`read`]; a public key is refused too.
pub fn read_secret(path: &Path) -> Result<SecretKey, KeyFileError> {
    let (text, mode) = read_text(path)?;
    parse_secret(path, &text, mode)
}

fn parse_secret(path: &Path, text: &str, mode: u32) -> Result<SecretKey, KeyFileError> {
    check_mode(mode).and_then(|()| SecretKey::parse(text)).map_err(|refusal| refused(path, refusal))
}

fn refused(path: &Path, refusal: Refusal) -> KeyFileError {
    KeyFileError::Refused(refusal.named(format!("key file {}", path.display())))
}

/// Every file named `*.key` below `directory`, by path; none where the directory is missing.
///
/// # Errors
/// What the system says when a directory cannot be listed.
pub fn list(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut files = Vec::new();
    for entry in entries {
        let entry = entry?;
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            files.extend(list(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "key") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Writes `text` to a new file, durably and in one step.
///
/// # Errors
/// [`KeyFileError::Exists`] and [`KeyFileError::Write`].
pub fn write_new(path: &Path, text: &str, readable: Readable) -> Result<(), KeyFileError> {
    let directory = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    let write = || -> io::Result<()> {
        // The temporary file has mode 0600 from its creation on.
        let mut file = NamedTempFile::new_in(directory)?;
        file.write_all(text.as_bytes())?;
        if readable == Readable::ByAll {
            let permissions = fs::Permissions::from_mode(0o644);
            file.as_file().set_permissions(permissions)?;
        }
        file.as_file().sync_all()?;
        file.persist_noclobber(path).map_err(|error| error.error)?;
        File::open(directory)?.sync_all()
    };
    write().map_err(|source| match source.kind() {
        io::ErrorKind::AlreadyExists => KeyFileError::Exists(path.to_owned()),
        _ => KeyFileError::Write { path: path.to_owned(), source },
    })
}

/// The text of a key file, at most one byte past the cap so that the parser refuses it, and its mode.
fn read_text(path: &Path) -> Result<(String, u32), KeyFileError> {
    let read = || {
        let file = File::open(path)?;
        let mode = file.metadata()?.permissions().mode();
        let mut text = String::new();
        file.take(KEY_FILE_CAP as u64 + 1).read_to_string(&mut text)?;
        Ok((text, mode))
    };
    read().map_err(|source| KeyFileError::Read { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use manifests::refusal::Class;

    #[test]
    fn a_written_key_is_private_and_reads_back() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("node.key");
        let key = generate().unwrap();
        write_new(&path, &key.to_pem(), Readable::ByOwner).unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(read_secret(&path).unwrap().public(), key.public());
        assert!(matches!(read(&path), Ok(Key::Secret(_))));
    }

    #[test]
    fn a_key_file_is_never_overwritten() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("node.key");
        fs::write(&path, "precious").unwrap();
        let result = write_new(&path, "new", Readable::ByOwner);
        assert!(matches!(result, Err(KeyFileError::Exists(_))));
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_secret_key_that_others_may_read_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("node.key");
        write_new(&path, &generate().unwrap().to_pem(), Readable::ByAll).unwrap();
        match read(&path) {
            Err(KeyFileError::Refused(source)) => {
                assert_eq!(source.class(), Class::KeyFile);
            }
            other => panic!("{other:?}"),
        }
    }
}
