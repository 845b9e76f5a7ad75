//! A directory for an unpacked image, which is as large as the image and must not outlive its run.
//!
//! One that was killed cannot remove its own; the next run removes all of them, when nobody else is at it.
//! Layer: operations.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use tempfile::TempDir;

use super::ImageError;

const PREFIX: &str = "image-";

/// Removed when it is dropped.
#[derive(Debug)]
pub struct Scratch {
    // Dropped in this order: the lock is held until the directory is gone.
    directory: TempDir,
    _lock: File,
}

impl Scratch {
    /// Makes a directory in `above`, the scratch directory of a cache.
    ///
    /// # Errors
    /// [`ImageError::File`]
    pub fn new(above: &Path) -> Result<Self, ImageError> {
        fs::create_dir_all(above).map_err(ImageError::file(above))?;
        let path = above.join("images.lock");
        let lock = File::options().create(true).append(true).open(&path).map_err(ImageError::file(&path))?;
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok() {
            // Nobody holds it, so whatever lies here was left.
            for left in left_over(above) {
                let _ = fs::remove_dir_all(left);
            }
        }
        flock(&lock, FlockOperation::LockShared).map_err(|error| ImageError::file(&path)(error.into()))?;
        let directory = tempfile::Builder::new().prefix(PREFIX).tempdir_in(above).map_err(ImageError::file(above))?;
        Ok(Self { directory, _lock: lock })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }
}

fn left_over(above: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(above).into_iter().flatten().flatten();
    let left = entries.filter(|entry| entry.file_name().as_encoded_bytes().starts_with(PREFIX.as_bytes()));
    left.map(|entry| entry.path()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_run_left_is_removed_and_what_is_in_use_is_not() {
        let above = tempfile::tempdir().unwrap();
        fs::create_dir_all(above.path().join("image-left/blobs")).unwrap();
        fs::write(above.path().join("spool"), "somebody else's").unwrap();
        let first = Scratch::new(above.path()).unwrap();
        assert_eq!(left_over(above.path()), [first.path()]);
        let second = Scratch::new(above.path()).unwrap();
        assert!(first.path().is_dir() && second.path().is_dir());
        drop((first, second));
        assert!(left_over(above.path()).is_empty());
        assert!(above.path().join("spool").exists());
    }
}
