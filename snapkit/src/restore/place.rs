//! Putting one path into the staged tree, through handles of directories only.

use std::collections::VecDeque;
use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

use super::RestoreError;
use crate::entry::{Entry, Kind, parent};

/// Open directories of the staged tree that are kept.
const KEPT_DIRECTORIES: usize = 64;

/// The last component of a path, as system calls take it.
pub(super) fn name_of(path: &[u8]) -> CString {
    let name = path.rsplit(|b| *b == b'/').next().unwrap_or_default();
    CString::new(name).expect("paths without NUL were checked when they were read")
}

/// Opens a directory below `parent`, never through a link and never on another file system.
fn open_directory(parent: BorrowedFd<'_>, name: &[u8]) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let name = OsStr::from_bytes(name);
    let within =
        ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
    match rustix::fs::openat2(parent, name, flags, Mode::empty(), within) {
        // Where a container's filter hides the call: the name is one component, so this differs in mount points only.
        Err(Errno::NOSYS | Errno::PERM) => Ok(rustix::fs::openat(parent, name, flags, Mode::empty())?),
        opened => Ok(opened?),
    }
}

/// Opens directories of a staged tree, component by component and never through a link.
pub(super) struct Opener {
    root: Arc<OwnedFd>,
    kept: VecDeque<(Vec<u8>, Arc<OwnedFd>)>,
}

impl Opener {
    pub(super) fn new(root: Arc<OwnedFd>) -> Self {
        Self { root, kept: VecDeque::new() }
    }

    /// The directory with a path relative to the root; the empty path is the root.
    pub(super) fn directory(&mut self, path: &[u8]) -> io::Result<Arc<OwnedFd>> {
        let Some(above) = parent(path) else { return Ok(self.root.clone()) };
        if let Some((_, kept)) = self.kept.iter().find(|(kept, _)| kept == path) {
            return Ok(kept.clone());
        }
        let above = self.directory(above)?;
        let name = path.rsplit(|b| *b == b'/').next().unwrap_or_default();
        let opened = Arc::new(open_directory(above.as_fd(), name)?);
        self.kept.push_front((path.to_vec(), opened.clone()));
        self.kept.truncate(KEPT_DIRECTORIES);
        Ok(opened)
    }

    /// The directory that holds a path.
    pub(super) fn parent_of(&mut self, path: &[u8]) -> io::Result<Arc<OwnedFd>> {
        self.directory(parent(path).unwrap_or_default())
    }
}

/// A file being written.
pub(super) struct NewFile {
    file: File,
    hasher: blake3::Hasher,
    at: u64,
}

impl NewFile {
    pub(super) fn create(directory: BorrowedFd<'_>, name: &CString) -> io::Result<Self> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = File::from(rustix::fs::openat(directory, name, flags, Mode::RUSR | Mode::WUSR)?);
        Ok(Self { file, hasher: blake3::Hasher::new(), at: 0 })
    }

    /// Opens a file of which a part is there already.
    pub(super) fn reopen(directory: BorrowedFd<'_>, name: &CString) -> io::Result<Self> {
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = File::from(rustix::fs::openat(directory, name, flags, Mode::empty())?);
        Ok(Self { file, hasher: blake3::Hasher::new(), at: 0 })
    }

    /// Goes past bytes that are there already; they count in the hash as the file has them now.
    pub(super) fn keep(&mut self, bytes: usize) -> io::Result<()> {
        let mut left = bytes;
        let mut buffer = vec![0; left.min(64 << 10)];
        while left > 0 {
            let n = left.min(buffer.len());
            self.file.read_exact_at(&mut buffer[..n], self.at)?;
            self.hasher.update(&buffer[..n]);
            self.at += n as u64;
            left -= n;
        }
        Ok(())
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, self.at)?;
        self.hasher.update(bytes);
        self.at += bytes.len() as u64;
        Ok(())
    }

    /// Leaves a hole.
    pub(super) fn skip(&mut self, bytes: u64) {
        let mut left = bytes;
        while left > 0 {
            const ZEROS: &[u8] = &[0; 64 << 10];
            let n = left.min(ZEROS.len() as u64);
            self.hasher.update(&ZEROS[..n as usize]);
            left -= n;
        }
        self.at += bytes;
    }

    /// Checks the content against the entry and gives the file its metadata.
    pub(super) fn finish(self, entry: &Entry) -> Result<(), RestoreError> {
        let Kind::File { size, content, .. } = &entry.kind else { unreachable!("only files are written") };
        if self.at != *size || self.hasher.finalize().as_bytes() != &content.0 {
            return Err(RestoreError::Content { path: crate::entry::printable(&entry.path) });
        }
        let finish = || -> io::Result<()> {
            // It ends with a hole, or was begun from something longer.
            if self.file.metadata()?.len() != *size {
                self.file.set_len(*size)?;
            }
            set_metadata(self.file.as_fd(), entry)
        };
        finish().map_err(|source| RestoreError::write(&entry.path, source))
    }
}

fn times(entry: &Entry) -> Timestamps {
    let time = Timespec { tv_sec: entry.mtime_s, tv_nsec: entry.mtime_ns.into() };
    Timestamps { last_access: time, last_modification: time }
}

/// The mode of an entry until it is proved: without root its owner must be able to look into it.
pub(super) fn mode_until_proved(entry: &Entry) -> u32 {
    let needed = match &entry.kind {
        Kind::Directory => 0o700,
        Kind::File { .. } => 0o400,
        _ => 0,
    };
    if rustix::process::geteuid().is_root() { entry.mode } else { entry.mode | needed }
}

/// Sets the mode of a name that is no link, through a handle.
pub(super) fn set_mode(directory: BorrowedFd<'_>, name: &CString, mode: u32) -> io::Result<()> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let handle = rustix::fs::openat(directory, name, flags, Mode::empty())?;
    if FileType::from_raw_mode(rustix::fs::fstat(&handle)?.st_mode) == FileType::Symlink {
        return Err(Errno::LOOP.into());
    }
    Ok(rustix::fs::chmod(format!("/proc/self/fd/{}", handle.as_raw_fd()), Mode::from_raw_mode(mode))?)
}

/// Gives an open file or directory its owner, mode, attributes and time, in the order in which none undoes another.
pub(super) fn set_metadata(file: BorrowedFd<'_>, entry: &Entry) -> io::Result<()> {
    let stat = rustix::fs::fstat(file)?;
    if (stat.st_uid, stat.st_gid) != (entry.uid, entry.gid) {
        rustix::fs::fchown(file, Some(Uid::from_raw(entry.uid)), Some(Gid::from_raw(entry.gid)))?;
    }
    rustix::fs::fchmod(file, Mode::from_raw_mode(mode_until_proved(entry)))?;
    for (name, value) in &entry.xattrs {
        rustix::fs::fsetxattr(file, OsStr::from_bytes(name), value, XattrFlags::empty())?;
    }
    rustix::fs::futimens(file, &times(entry))?;
    Ok(())
}

/// Makes a symlink, fifo or device, with its metadata.
pub(super) fn make_special(directory: BorrowedFd<'_>, entry: &Entry) -> io::Result<()> {
    let name = name_of(&entry.path);
    let make = |kind, rdev: (u32, u32)| {
        rustix::fs::mknodat(directory, &name, kind, Mode::RUSR | Mode::WUSR, rustix::fs::makedev(rdev.0, rdev.1))
    };
    match &entry.kind {
        Kind::Symlink { target } => rustix::fs::symlinkat(OsStr::from_bytes(target), directory, &name)?,
        Kind::Fifo => make(FileType::Fifo, (0, 0))?,
        Kind::CharDevice { rdev } => make(FileType::CharacterDevice, *rdev)?,
        Kind::BlockDevice { rdev } => make(FileType::BlockDevice, *rdev)?,
        Kind::File { .. } | Kind::Directory => unreachable!("files and directories are made elsewhere"),
    }
    let no_follow = AtFlags::SYMLINK_NOFOLLOW;
    let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
    let stat = rustix::fs::statat(directory, &name, no_follow)?;
    if (stat.st_uid, stat.st_gid) != (entry.uid, entry.gid) {
        rustix::fs::chownat(directory, &name, Some(uid), Some(gid), no_follow)?;
    }
    if !matches!(entry.kind, Kind::Symlink { .. }) {
        set_mode(directory, &name, entry.mode)?;
    }
    for (key, value) in &entry.xattrs {
        let mut path = format!("/proc/self/fd/{}/", directory.as_raw_fd()).into_bytes();
        path.extend(name.as_bytes());
        rustix::fs::lsetxattr(OsStr::from_bytes(&path), OsStr::from_bytes(key), value, XattrFlags::empty())?;
    }
    rustix::fs::utimensat(directory, &name, &times(entry), no_follow)?;
    Ok(())
}
