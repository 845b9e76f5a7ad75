//! Metadata: from what the kernel says of a path to the fields of an entry.

use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::fs::{FileType, Stat};

use crate::entry::{Entry, Extent, Kind, MAX_INLINE, OwnerNames, Xattrs};

/// Attributes that a snapshot takes: those that a restore can give back anywhere.
fn is_kept(name: &[u8]) -> bool {
    name.starts_with(b"user.")
        || [&b"security.capability"[..], b"system.posix_acl_access", b"system.posix_acl_default"].contains(&name)
}

/// The entry for `stat`, without content, target and attributes. `None` for sockets, which are not state.
pub fn entry_of(path: Vec<u8>, stat: &Stat) -> Option<Entry> {
    let rdev = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Kind::empty_file(),
        FileType::Directory => Kind::Directory,
        FileType::Symlink => Kind::Symlink { target: Vec::new() },
        FileType::Fifo => Kind::Fifo,
        FileType::CharacterDevice => Kind::CharDevice { rdev },
        FileType::BlockDevice => Kind::BlockDevice { rdev },
        FileType::Socket | FileType::Unknown => return None,
    };
    let mode = if matches!(kind, Kind::Symlink { .. }) { 0 } else { stat.st_mode & 0o7777 };
    Some(Entry {
        path,
        kind,
        mode,
        uid: stat.st_uid,
        gid: stat.st_gid,
        mtime_s: stat.st_mtime,
        mtime_ns: stat.st_mtime_nsec as u32,
        xattrs: Vec::new(),
        group: None,
        torn: false,
    })
}

/// What tells whether a file changed since an earlier look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Device.
    pub dev: u64,
    /// Inode.
    pub ino: u64,
    /// Length in bytes; 0 for all but regular files.
    pub size: u64,
    /// Modification time, seconds and nanoseconds.
    pub mtime: (i64, u32),
    /// Change time, seconds and nanoseconds.
    pub ctime: (i64, u32),
}

impl Identity {
    /// The identity of what `stat` describes.
    pub fn of(stat: &Stat) -> Self {
        let is_file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        Self {
            dev: stat.st_dev,
            ino: stat.st_ino,
            size: if is_file { stat.st_size as u64 } else { 0 },
            mtime: (stat.st_mtime, stat.st_mtime_nsec as u32),
            ctime: (stat.st_ctime, stat.st_ctime_nsec as u32),
        }
    }
}

/// A path below a directory handle that the path-based calls accept, however deep the directory lies.
fn proc_path(directory: BorrowedFd<'_>, name: &CStr) -> Vec<u8> {
    let mut path = format!("/proc/self/fd/{}/", directory.as_raw_fd()).into_bytes();
    path.extend(name.to_bytes());
    path
}

/// The kept attributes of an open file or directory, ascending by name.
///
/// # Errors
/// What the system says; a file system without attributes has none.
pub fn xattrs_of_file(file: BorrowedFd<'_>) -> io::Result<Xattrs> {
    collect(|buffer| rustix::fs::flistxattr(file, buffer), |name, buffer| rustix::fs::fgetxattr(file, name, buffer))
}

/// The kept attributes of a path that is not opened, links not followed.
///
/// # Errors
/// What the system says.
pub fn xattrs_of_name(directory: BorrowedFd<'_>, name: &CStr) -> io::Result<Xattrs> {
    let path = proc_path(directory, name);
    let path = path.as_slice();
    collect(|buffer| rustix::fs::llistxattr(path, buffer), |name, buffer| rustix::fs::lgetxattr(path, name, buffer))
}

fn collect(
    list: impl Fn(&mut [u8]) -> rustix::io::Result<usize>,
    get: impl Fn(&[u8], &mut [u8]) -> rustix::io::Result<usize>,
) -> io::Result<Xattrs> {
    let mut small = [0; 512];
    let names = match list(&mut small) {
        Ok(0) | Err(rustix::io::Errno::OPNOTSUPP) => return Ok(Vec::new()),
        Ok(n) => small[..n].to_vec(),
        Err(rustix::io::Errno::RANGE) => sized(&list)?,
        Err(error) => return Err(error.into()),
    };
    let mut xattrs = Vec::new();
    for name in names.split(|b| *b == 0).filter(|name| is_kept(name)) {
        match sized(&|buffer: &mut [u8]| get(name, buffer)) {
            Ok(value) => xattrs.push((name.to_vec(), value)),
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::NODATA.raw_os_error()) => {}
            Err(error) => return Err(error),
        }
    }
    xattrs.sort();
    Ok(xattrs)
}

/// All bytes of a call that fills a buffer and tells the length for an empty one.
fn sized(call: &impl Fn(&mut [u8]) -> rustix::io::Result<usize>) -> io::Result<Vec<u8>> {
    loop {
        let mut buffer = vec![0; call(&mut [])?];
        match call(&mut buffer) {
            Ok(n) => {
                buffer.truncate(n);
                return Ok(buffer);
            }
            // It grew between the two calls.
            Err(rustix::io::Errno::RANGE) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// The holes of a file of `size` bytes, ascending: all of them, or the longest that an entry can hold.
///
/// # Errors
/// What the system says.
pub fn holes_of(file: &File, size: u64) -> io::Result<Vec<Extent>> {
    use rustix::fs::SeekFrom;
    let mut holes = Vec::new();
    let mut at = 0;
    while at < size {
        let hole = rustix::fs::seek(file, SeekFrom::Hole(at))?;
        if hole >= size {
            break;
        }
        let data = match rustix::fs::seek(file, SeekFrom::Data(hole)) {
            Ok(data) => data.min(size),
            Err(rustix::io::Errno::NXIO) => size,
            Err(error) => return Err(error.into()),
        };
        if data > hole {
            holes.push(Extent { offset: hole, bytes: data - hole });
        }
        at = data.max(hole + 1);
    }
    if holes.len() > MAX_INLINE {
        holes.sort_by_key(|hole| std::cmp::Reverse(hole.bytes));
        holes.truncate(MAX_INLINE);
        holes.sort_by_key(|hole| hole.offset);
    }
    Ok(holes)
}

/// Looks up the name of the owner and the group of an entry, once per number.
pub fn learn_names(names: &mut OwnerNames, asked: &mut std::collections::HashSet<(bool, u32)>, uid: u32, gid: u32) {
    if asked.insert((true, uid))
        && let Ok(Some(user)) = nix::unistd::User::from_uid(uid.into())
    {
        names.users.insert(uid, user.name.into_bytes());
    }
    if asked.insert((false, gid))
        && let Ok(Some(group)) = nix::unistd::Group::from_gid(gid.into())
    {
        names.groups.insert(gid, group.name.into_bytes());
    }
}
