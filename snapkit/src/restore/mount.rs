//! A target that is a mount point cannot be replaced in one step: what is staged inside it moves up name by name.
//!
//! The names are written down before the first moves, and the staging directory goes last. While it is there the target
//! is not complete; a run that finds the list takes the names back, checks everything again and goes on from there.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use rustix::fs::{AtFlags, StatxAttributes, StatxFlags};

use super::staging::{MOVING, PREFIX, Staging};

/// What `mkfs` leaves in a new file system.
const LOST_AND_FOUND: &str = "lost+found";

/// Whether a directory is the root of a mount.
pub(super) fn is_mount_point(path: &Path) -> io::Result<bool> {
    let stat = rustix::fs::statx(rustix::fs::CWD, path, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::BASIC_STATS)?;
    Ok(stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}

/// Whether a mount point holds nothing but what a new file system has, and what an interrupted run left.
pub(super) fn is_empty(target: &Path) -> io::Result<bool> {
    let moving: Vec<OsString> = moving(&target.join(PREFIX))?;
    for entry in fs::read_dir(target)? {
        let name = entry?.file_name();
        let is_new = name == LOST_AND_FOUND && fs::read_dir(target.join(&name))?.next().is_none();
        if !is_new && name != PREFIX && !moving.contains(&name) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn moving(staging: &Path) -> io::Result<Vec<OsString>> {
    match fs::read(staging.join(MOVING)) {
        Ok(list) => {
            let names = list.split(|b| *b == 0).filter(|name| !name.is_empty());
            Ok(names.map(|name| OsString::from_vec(name.to_vec())).collect())
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// Takes back what an interrupted run had moved up.
pub(super) fn take_back(staging: &Staging, target: &Path) -> io::Result<()> {
    let names = moving(&staging.path)?;
    if !names.is_empty() {
        staging.root(None)?;
    }
    for name in names {
        let (above, staged) = (target.join(&name), staging.tree().join(&name));
        if above.symlink_metadata().is_ok() && staged.symlink_metadata().is_err() {
            fs::rename(above, staged)?;
        }
    }
    match fs::remove_file(staging.path.join(MOVING)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Moves everything that is staged up into the target.
pub(super) fn move_up(staging: &Staging, target: &Path) -> io::Result<()> {
    let mut names = Vec::new();
    for entry in fs::read_dir(staging.tree())? {
        names.push(entry?.file_name());
    }
    names.sort();
    let list: Vec<u8> = names.iter().flat_map(|name: &OsString| [OsStr::as_bytes(name), b"\0"].concat()).collect();
    staging.write(MOVING, &list)?;
    for name in names {
        fs::rename(staging.tree().join(&name), target.join(&name))?;
    }
    // All of them are up for good before the list of them goes.
    fs::File::open(target)?.sync_all()
}
