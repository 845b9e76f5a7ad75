//! Processes of this machine, as `/proc` shows them, and signals that cannot hit another one.
//!
//! A process id alone proves nothing, because ids are used again; an id with the time at which the process began is one
//! process of one boot. Every signal goes through a handle that was opened before that time was compared.
//! Source: proc(5), proc_locks(5), pidfd_open(2). Layer: the edge.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};

/// One process of one boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Process {
    /// Its id.
    pub pid: i32,
    /// When it began, in clock ticks since the machine was started.
    pub began: u64,
}

/// What `/proc/PID/stat` says of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stat {
    pub(crate) process: Process,
    pub(super) parent: i32,
    pub(super) group: i32,
    pub(super) session: i32,
    /// Ended, and only kept for its parent to ask how.
    pub(super) ended: bool,
}

impl Process {
    /// The process that has this id now; `None` if there is none.
    pub fn of(pid: u32) -> Option<Process> {
        stat(i32::try_from(pid).ok()?).map(|stat| stat.process)
    }

    /// Whether it still runs. One that ended and was not asked how by its parent does not.
    pub fn runs(self) -> bool {
        stat(self.pid).is_some_and(|stat| stat.process == self && !stat.ended)
    }

    /// Sends it a signal, if it is still there.
    ///
    /// # Errors
    /// What the system says, such as that this process may not.
    pub fn signal(self, signal: Signal) -> io::Result<()> {
        let Some(pid) = Pid::from_raw(self.pid) else { return Ok(()) };
        let sent = pidfd_open(pid, PidfdFlags::empty()).and_then(|handle| {
            // The handle was opened first: if the process at this id is the one that is meant now, the handle is its.
            if self.runs() { pidfd_send_signal(handle, signal) } else { Ok(()) }
        });
        match sent {
            Err(Errno::SRCH) => Ok(()),
            other => Ok(other?),
        }
    }
}

/// Reads one process; `None` if there is none, or none that can be read.
fn stat(pid: i32) -> Option<Stat> {
    parse(pid, &fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// The name may hold anything, spaces and brackets too; the last bracket ends it.
fn parse(pid: i32, line: &str) -> Option<Stat> {
    let fields: Vec<&str> = line.rsplit_once(')')?.1.split_whitespace().collect();
    let number = |at: usize| fields.get(at)?.parse::<i32>().ok();
    Some(Stat {
        process: Process { pid, began: fields.get(19)?.parse().ok()? },
        parent: number(1)?,
        group: number(2)?,
        session: number(3)?,
        ended: matches!(*fields.first()?, "Z" | "X" | "x"),
    })
}

/// All processes that can be seen.
///
/// # Errors
/// When `/proc` cannot be listed: then nothing can be said of any.
pub(crate) fn all() -> io::Result<Vec<Stat>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        if let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) {
            found.extend(stat(pid));
        }
    }
    Ok(found)
}

/// What descends from `ancestors` among `all`, without them, parents first.
pub(crate) fn descendants(all: &[Stat], ancestors: &[i32]) -> Vec<Stat> {
    let mut children: BTreeMap<i32, Vec<&Stat>> = BTreeMap::new();
    for stat in all {
        children.entry(stat.parent).or_default().push(stat);
    }
    let mut found: Vec<Stat> = Vec::new();
    let mut at = 0;
    let mut parents = ancestors.to_vec();
    while at < parents.len() {
        // A list read while processes come and go may show a circle.
        let born = children.remove(&parents[at]).unwrap_or_default();
        parents.extend(born.iter().map(|stat| stat.process.pid));
        found.extend(born);
        at += 1;
    }
    found
}

/// How often the list of locks is read before a file counts as one that nobody holds. The system gives the list in pieces, and
/// a lock that goes between two of them hides another one.
const LOOKS: u32 = 8;

/// The process that holds an exclusive flock(2) on a file; `None` if none does, if there is no such file, or if it is a process
/// that cannot be seen from here. Takes no lock itself, so it is in nobody's way.
///
/// # Errors
/// When the file or `/proc/locks` cannot be read.
pub fn lock_holder(path: &Path) -> io::Result<Option<Process>> {
    let file = match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        found => found?,
    };
    for _ in 0..LOOKS {
        let holder = holder_of(&fs::read_to_string("/proc/locks")?, file.dev(), file.ino());
        if let Some(process) = holder.and_then(Process::of) {
            return Ok(Some(process));
        }
    }
    Ok(None)
}

/// Finds it in lines such as `1: FLOCK  ADVISORY  WRITE 4711 fe:00:1234 0 EOF`.
fn holder_of(locks: &str, device: u64, inode: u64) -> Option<u32> {
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let file = format!("{major:02x}:{minor:02x}:{inode}");
    locks.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let is_it =
            fields.get(1) == Some(&"FLOCK") && fields.get(3) == Some(&"WRITE") && fields.get(5) == Some(&&*file);
        if is_it { fields.get(4)?.parse().ok() } else { None }
    })
}

/// By which one boot of a machine is told from another.
///
/// # Errors
/// When `/proc` cannot be read.
pub fn boot_id() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eventually::eventually;

    #[test]
    fn a_name_with_brackets_and_spaces_is_no_trouble() {
        let tail = "S 7 9 8 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 4242 1 1";
        let expected =
            Stat { process: Process { pid: 10, began: 4242 }, parent: 7, group: 9, session: 8, ended: false };
        assert_eq!(parse(10, &format!("10 (a) R (b) {tail}")), Some(expected));
        assert_eq!(parse(10, "10 (cut off) S 7"), None);
    }

    #[test]
    fn a_process_is_not_another_one_with_its_number() {
        let this = Process::of(std::process::id()).unwrap();
        assert!(this.runs());
        let earlier = Process { began: this.began - 1, ..this };
        assert!(!earlier.runs());
        earlier.signal(Signal::KILL).unwrap();
    }

    #[test]
    fn descendants_are_found_through_every_generation() {
        let one =
            |pid, parent| Stat { process: Process { pid, began: 1 }, parent, group: pid, session: pid, ended: false };
        let all = [one(4, 3), one(3, 2), one(2, 1), one(9, 1)];
        let found: Vec<i32> = descendants(&all, &[2]).iter().map(|stat| stat.process.pid).collect();
        assert_eq!(found, [3, 4]);
    }

    #[test]
    fn the_holder_of_a_lock_is_found_among_others() {
        let locks = "1: POSIX  ADVISORY  WRITE 10 fe:00:77 0 EOF\n\
                     2: FLOCK  ADVISORY  WRITE 11 fe:00:78 0 EOF\n\
                     2: -> FLOCK  ADVISORY  WRITE 12 fe:00:77 0 EOF\n\
                     3: FLOCK  ADVISORY  WRITE 13 fe:00:77 0 EOF\n";
        let device = rustix::fs::makedev(0xfe, 0);
        assert_eq!(holder_of(locks, device, 77), Some(13));
        assert_eq!(holder_of(locks, device, 79), None);
    }

    #[test]
    fn the_holder_of_a_lock_is_found_while_others_come_and_go() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("held");
        assert_eq!(lock_holder(&path).unwrap(), None);
        let held = fs::File::create(&path).unwrap();
        held.lock().unwrap();
        let done = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            for number in 0..2 {
                let (done, place) = (&done, place.path());
                scope.spawn(move || {
                    let files: Vec<fs::File> =
                        (0..100).map(|at| fs::File::create(place.join(format!("{number}-{at}"))).unwrap()).collect();
                    while !done.load(std::sync::atomic::Ordering::Relaxed) {
                        files.iter().for_each(|file| file.lock().unwrap());
                        files.iter().for_each(|file| file.unlock().unwrap());
                    }
                });
            }
            let found: Vec<_> = (0..5_000).map(|_| lock_holder(&path).unwrap()).collect();
            done.store(true, std::sync::atomic::Ordering::Relaxed);
            assert!(
                found.iter().all(|holder| *holder == Process::of(std::process::id())),
                "{} missed",
                found.iter().filter(|holder| holder.is_none()).count()
            );
        });
        drop(held);
        eventually("nobody holds it", || lock_holder(&path).unwrap().is_none());
    }
}
