//! Metadata: from what the kernel says of a path to the fields of an entry.

use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::buffer::spare_capacity;
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
    collect(
        |buffer| rustix::fs::flistxattr(file, spare_capacity(buffer)),
        |name, buffer| rustix::fs::fgetxattr(file, name, spare_capacity(buffer)),
    )
}

/// The kept attributes of a path that is not opened, links not followed.
///
/// # Errors
/// What the system says.
pub fn xattrs_of_name(directory: BorrowedFd<'_>, name: &CStr) -> io::Result<Xattrs> {
    let path = proc_path(directory, name);
    let path = path.as_slice();
    collect(
        |buffer| rustix::fs::llistxattr(path, spare_capacity(buffer)),
        |name, buffer| rustix::fs::lgetxattr(path, name, spare_capacity(buffer)),
    )
}

fn collect(
    list: impl Fn(&mut Vec<u8>) -> rustix::io::Result<usize>,
    get: impl Fn(&[u8], &mut Vec<u8>) -> rustix::io::Result<usize>,
) -> io::Result<Xattrs> {
    let names = match sized(&list) {
        Ok(names) if names.is_empty() => return Ok(Vec::new()),
        Ok(names) => names,
        Err(rustix::io::Errno::OPNOTSUPP) => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    let mut xattrs = Vec::new();
    for name in names.split(|b| *b == 0).filter(|name| is_kept(name)) {
        match sized(&|buffer: &mut Vec<u8>| get(name, buffer)) {
            Ok(value) => xattrs.push((name.to_vec(), value)),
            // It was removed since the names were listed.
            Err(rustix::io::Errno::NODATA) => {}
            Err(error) => return Err(error.into()),
        }
    }
    xattrs.sort();
    Ok(xattrs)
}

/// What a call puts into the spare room of a buffer; the room grows until it is enough.
fn sized(call: &impl Fn(&mut Vec<u8>) -> rustix::io::Result<usize>) -> rustix::io::Result<Vec<u8>> {
    let mut room = 128;
    loop {
        let mut buffer = Vec::with_capacity(room);
        match call(&mut buffer) {
            Ok(_) => return Ok(buffer),
            Err(rustix::io::Errno::RANGE) if room < 1 << 20 => room *= 8,
            Err(error) => return Err(error),
        }
    }
}

/// The holes of a file of `size` bytes, ascending: all of them, or the longest that an entry can hold.
///
/// The file is at its start afterwards.
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
    rustix::fs::seek(file, SeekFrom::Start(0))?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;
    use std::os::unix::fs::FileExt;

    #[test]
    fn attributes_come_with_their_values_however_long() {
        let file = tempfile::tempfile_in(".").unwrap();
        for (name, len) in [("user.a", 0), ("user.b", 5), ("user.c", 3000)] {
            rustix::fs::fsetxattr(&file, name, &vec![7; len], rustix::fs::XattrFlags::empty()).unwrap();
        }
        let lengths: Vec<usize> = xattrs_of_file(file.as_fd()).unwrap().iter().map(|(_, value)| value.len()).collect();
        assert_eq!(lengths, [0, 5, 3000]);
    }

    #[test]
    fn looking_for_holes_leaves_the_file_at_its_start() {
        let file = tempfile::tempfile_in(".").unwrap();
        file.write_all_at(b"x", 0).unwrap();
        file.write_all_at(b"y", 1 << 20).unwrap();
        let holes = holes_of(&file, (1 << 20) + 1).unwrap();
        assert_eq!(holes.iter().map(|h| h.offset + h.bytes).max(), Some(1 << 20));
        assert_eq!(rustix::fs::tell(&file).unwrap(), 0);
    }
}
