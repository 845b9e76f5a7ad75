//! Walking a directory in the order of a tree: each directory right before what it holds, names by bytes.
//!
//! Everything goes through handles of directories, never through whole paths, so neither long paths nor links that
//! are swapped in meanwhile lead anywhere else. Memory holds the names of the directories on the way down.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat};

use super::exclude::{CACHEDIR_SIGNATURE, Excludes};
use crate::entry::join;

/// What the walk leaves out.
#[derive(Clone, Debug, Default)]
pub struct WalkOptions {
    /// Patterns.
    pub excludes: Option<Excludes>,
    /// Leave out the content of directories that a `CACHEDIR.TAG` marks.
    pub exclude_caches: bool,
    /// Leave out the content of other file systems.
    pub one_file_system: bool,
}

/// A path that was found.
#[derive(Debug)]
pub struct Found {
    /// Relative path; empty for the directory that is walked.
    pub path: Vec<u8>,
    /// The directory that holds it, or it itself when `path` is empty.
    pub directory: Arc<OwnedFd>,
    /// Its name in `directory`; `.` when `path` is empty.
    pub name: CString,
    /// What the kernel says of it, links not followed.
    pub stat: Stat,
}

/// A path that cannot be looked at.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {}", crate::entry::printable(.path))]
pub struct WalkError {
    /// Relative path.
    pub path: Vec<u8>,
    /// What the system says.
    pub source: io::Error,
}

/// Names of one directory in one piece of memory.
#[derive(Default)]
struct Names {
    bytes: Vec<u8>,
    /// Start of each name, with its NUL at the end.
    starts: Vec<u32>,
    next: usize,
}

impl Names {
    fn read(directory: &OwnedFd) -> io::Result<Self> {
        let mut names = Self::default();
        for entry in Dir::read_from(directory)? {
            let entry = entry?;
            let name = entry.file_name();
            if name != c"." && name != c".." {
                let start = u32::try_from(names.bytes.len())
                    .map_err(|_| io::Error::other("the directory holds more than 4 GiB of names"))?;
                names.starts.push(start);
                names.bytes.extend(name.to_bytes_with_nul());
            }
        }
        let bytes = &names.bytes;
        // NUL sorts before every byte of a name, so the bytes after it do not matter.
        names.starts.sort_unstable_by(|a, b| name_at(bytes, *a).cmp(name_at(bytes, *b)));
        Ok(names)
    }

    fn next(&mut self) -> Option<&CStr> {
        let start = *self.starts.get(self.next)?;
        self.next += 1;
        Some(name_at(&self.bytes, start))
    }
}

fn name_at(bytes: &[u8], start: u32) -> &CStr {
    CStr::from_bytes_until_nul(&bytes[start as usize..]).expect("every name was stored with its NUL")
}

struct Open {
    path: Vec<u8>,
    directory: Arc<OwnedFd>,
    names: Names,
}

/// A walk under way.
pub struct Walk {
    options: WalkOptions,
    root: Option<Found>,
    device: u64,
    stack: Vec<Open>,
    /// The directory found last; it is opened when the walk goes on.
    pending: Option<(Vec<u8>, Arc<OwnedFd>, CString)>,
}

impl Walk {
    /// Opens the directory to walk.
    ///
    /// # Errors
    /// When it is no directory or cannot be opened.
    pub fn new(directory: &Path, options: WalkOptions) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let handle = Arc::new(rustix::fs::open(directory, flags, Mode::empty())?);
        Self::of_handle(handle, options)
    }

    /// Walks an open directory.
    ///
    /// # Errors
    /// When it cannot be looked at.
    pub fn of_handle(handle: Arc<OwnedFd>, options: WalkOptions) -> io::Result<Self> {
        let stat = rustix::fs::fstat(&*handle)?;
        let root = Found { path: Vec::new(), directory: handle, name: c".".to_owned(), stat };
        Ok(Self { options, device: stat.st_dev, root: Some(root), stack: Vec::new(), pending: None })
    }

    fn descend(&mut self, path: Vec<u8>, parent: &OwnedFd, name: &CStr) -> Result<(), WalkError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let open = || -> io::Result<(OwnedFd, Names)> {
            let directory = rustix::fs::openat(parent, name, flags, Mode::empty())?;
            if self.options.exclude_caches && is_cache(&directory) {
                return Ok((directory, Names::default()));
            }
            let names = Names::read(&directory)?;
            Ok((directory, names))
        };
        match open() {
            Ok((directory, names)) => {
                self.stack.push(Open { path, directory: Arc::new(directory), names });
                Ok(())
            }
            Err(source) => Err(WalkError { path, source }),
        }
    }

    fn leaves_out(&self, path: &[u8], is_directory: bool) -> bool {
        self.options.excludes.as_ref().is_some_and(|excludes| excludes.leaves_out(path, is_directory))
    }
}

fn is_cache(directory: &OwnedFd) -> bool {
    let mut start = [0; CACHEDIR_SIGNATURE.len()];
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let read = rustix::fs::openat(directory, c"CACHEDIR.TAG", flags, Mode::empty())
        .and_then(|tag| rustix::io::read(&tag, &mut start));
    read == Ok(start.len()) && start == *CACHEDIR_SIGNATURE
}

impl Iterator for Walk {
    type Item = Result<Found, WalkError>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(root) = self.root.take() {
            self.pending = Some((Vec::new(), root.directory.clone(), root.name.clone()));
            return Some(Ok(root));
        }
        if let Some((path, parent, name)) = self.pending.take()
            && let Err(error) = self.descend(path, &parent, &name)
        {
            return Some(Err(error));
        }
        loop {
            let top = self.stack.last_mut()?;
            let Some(name) = top.names.next() else {
                self.stack.pop();
                continue;
            };
            let name = name.to_owned();
            let path = join(&top.path, name.to_bytes());
            let directory = top.directory.clone();
            let stat = match rustix::fs::statat(directory.as_fd(), &name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => stat,
                // It was deleted since the directory was read.
                Err(rustix::io::Errno::NOENT) => continue,
                Err(error) => return Some(Err(WalkError { path, source: error.into() })),
            };
            let is_directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
            if self.leaves_out(&path, is_directory) {
                continue;
            }
            if is_directory && !(self.options.one_file_system && stat.st_dev != self.device) {
                self.pending = Some((path.clone(), directory.clone(), name.clone()));
            }
            return Some(Ok(Found { path, directory, name, stat }));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::compare_paths;
    use std::fs;

    fn paths(directory: &Path, options: WalkOptions) -> Vec<String> {
        Walk::new(directory, options).unwrap().map(|f| crate::entry::printable(&f.unwrap().path)).collect()
    }

    #[test]
    fn walk_is_in_tree_order() {
        let dir = tempfile::tempdir().unwrap();
        for path in ["a/b", "a-b", "a/b-", "a0", "a/c/d"] {
            fs::create_dir_all(dir.path().join(path)).unwrap();
        }
        let found = paths(dir.path(), WalkOptions::default());
        assert_eq!(found, ["", "a", "a/b", "a/b-", "a/c", "a/c/d", "a-b", "a0"]);
        assert!(found.is_sorted_by(|a, b| compare_paths(a.as_bytes(), b.as_bytes()).is_lt()));
    }

    #[test]
    fn excluded_paths_and_marked_caches_are_left_out() {
        let dir = tempfile::tempdir().unwrap();
        for path in ["keep/x", "drop/x", "cache/x"] {
            fs::create_dir_all(dir.path().join(path)).unwrap();
        }
        fs::write(dir.path().join("cache/CACHEDIR.TAG"), CACHEDIR_SIGNATURE).unwrap();
        let excludes = Some(Excludes::new(&["drop".to_owned()], &[]).unwrap());
        let options = WalkOptions { excludes, exclude_caches: true, one_file_system: true };
        assert_eq!(paths(dir.path(), options), ["", "cache", "keep", "keep/x"]);
    }

    #[test]
    fn a_symlink_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/", dir.path().join("out")).unwrap();
        assert_eq!(paths(dir.path(), WalkOptions::default()), ["", "out"]);
    }
}
