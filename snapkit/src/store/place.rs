//! The place of a directory store: the directory that was opened, and not another one that took its name.
//!
//! Where a file system is not mounted any more there is an empty directory. Whoever goes on there finds nothing, and everything
//! that is created is new: a lease would be renewed beside the one that all others see. So what was opened is known again by
//! its device and inode or, as a file system may be mounted anew, by an object that was seen in it. Layer: asks the system.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// An opened directory.
#[derive(Debug)]
pub(super) struct Place {
    path: PathBuf,
    known: Mutex<Known>,
}

#[derive(Debug)]
struct Known {
    identity: (u64, u64),
    /// The object that was seen last.
    witness: Option<String>,
}

impl Place {
    pub(super) fn open(path: PathBuf) -> io::Result<Self> {
        let known = Mutex::new(Known { identity: identity(&path)?, witness: None });
        Ok(Self { path, known })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Takes in that an object is there.
    pub(super) fn saw(&self, key: &str) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.witness.as_deref() != Some(key) {
            known.witness = Some(key.to_owned());
        }
    }

    /// Whether it is still the directory that was opened.
    pub(super) fn check(&self) -> io::Result<()> {
        let found = identity(&self.path)?;
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.identity == found {
            return Ok(());
        }
        if known.witness.as_ref().is_some_and(|key| self.path.join(key).is_file()) {
            known.identity = found;
            return Ok(());
        }
        Err(io::Error::other("another directory is there than the one that was opened; check whether it is mounted"))
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let found = fs::metadata(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => io::Error::other("the directory is not there any more; check whether it is mounted"),
        _ => error,
    })?;
    Ok((found.dev(), found.ino()))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::super::{Created, OpenOptions, open};

    #[test]
    fn nothing_is_created_or_missed_in_another_directory_of_that_name() {
        let above = tempfile::tempdir().unwrap();
        let (path, away) = (above.path().join("store"), above.path().join("away"));
        std::fs::create_dir(&path).unwrap();
        let store = open(path.to_str().unwrap(), &OpenOptions::default()).unwrap();
        assert!(matches!(store.create("lease/1", Bytes::from_static(b"1")), Ok(Created::Yes)));
        std::fs::rename(&path, &away).unwrap();
        let told = |what: &str| {
            let create = store.create("lease/2", Bytes::from_static(b"2"));
            assert!(create.as_ref().is_err_and(|error| format!("{error:?}").contains(what)), "{create:?}");
            let read = store.get("lease/1", 10).unwrap_err();
            assert!(!read.is_missing() && format!("{read:?}").contains(what), "{read:?}");
            let list = store.list("lease/", None, &mut |_, _| {}).unwrap_err();
            assert!(format!("{list:?}").contains(what), "{list:?}");
            assert!(
                store.put("lease/2", Bytes::new()).is_err() && store.size("lease/1").is_err_and(|e| !e.is_missing())
            );
        };
        told("not there any more");
        assert!(!path.exists(), "nothing was made in its place");
        std::fs::create_dir(&path).unwrap();
        told("another directory");
        assert_eq!(std::fs::read_dir(&path).unwrap().count(), 0);
        // Mounted anew: another inode, and what was seen before is there.
        std::fs::create_dir(path.join("lease")).unwrap();
        std::fs::copy(away.join("lease/1"), path.join("lease/1")).unwrap();
        assert_eq!(store.get("lease/1", 10).unwrap(), Bytes::from_static(b"1"));
        assert!(matches!(store.create("lease/2", Bytes::from_static(b"2")), Ok(Created::Yes)));
    }
}
