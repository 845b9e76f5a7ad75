//! Processes of this machine, as `/proc` shows them, and signals that cannot hit another one.
//!
//! A process id alone proves nothing, because ids are used again; an id with the time at which the process began is one
//! process of one boot. Every signal goes through a handle that was opened before that time was compared.
//! Source: proc(5), pidfd_open(2). Layer: the edge.

use std::collections::BTreeMap;
use std::fs;
use std::io;

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
}
