//! What a guard that was killed itself left behind: found again, killed, and proven dead.
//!
//! A guard that ends by itself has proved everything dead. For one that was killed, processes are recognised by four signs:
//! the service's own id and group, the session that the guard began, a variable in their environment, and descent from
//! one of these. A program that leaves its session, clears its environment and outlives its parent is not found; that takes
//! a killed guard too. Layer: the edge.

use std::fs;
use std::io;
use std::thread;
use std::time::Duration;

use rustix::process::Signal;
use serde::{Deserialize, Serialize};

use super::DriverError;
use super::procfs::{self, Process, Stat};
use crate::clock::BootTime;

/// The variable in the environment of everything that a guard starts. Its value belongs to one start.
pub(super) const SIGN: &str = "SNAPKIT_GUARD";

/// How a service that was started can be found again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Marks {
    /// The boot in which it was started: no process outlives it.
    pub(super) boot: String,
    /// The space of process ids: ids of another one say nothing.
    pub(super) ids: u64,
    /// Its guard.
    pub(super) guard: Process,
    /// The value of [`SIGN`].
    pub(super) sign: String,
    /// The process of the service, once there is one.
    pub(super) service: Option<Process>,
}

impl Marks {
    /// Marks for a service that `guard` will start.
    pub(super) fn new(guard: Process) -> io::Result<Marks> {
        let mut random = [0_u8; 16];
        getrandom::fill(&mut random).map_err(io::Error::other)?;
        let sign = random.iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Marks { boot: procfs::boot_id()?, ids: id_space()?, guard, sign, service: None })
    }

    /// Whether processes that these marks are of could still run, as far as ids can tell.
    fn are_of_now(&self) -> io::Result<bool> {
        Ok(self.boot == procfs::boot_id()? && self.ids == id_space()?)
    }
}

/// The process id namespace, by the inode of its handle.
fn id_space() -> io::Result<u64> {
    Ok(std::os::unix::fs::MetadataExt::ino(&fs::metadata("/proc/self/ns/pid")?))
}

/// Lets the guard of an earlier agent finish for `patience`, then kills it and what it left, and proves it.
///
/// # Errors
/// [`DriverError::Alive`] when something is still there after `patience` once more.
pub(super) fn reclaim(marks: &Marks, patience: Duration) -> Result<(), DriverError> {
    let unseen = |source| DriverError::Use { what: "see the processes of this machine".into(), source };
    if !marks.are_of_now().map_err(unseen)? {
        return Ok(());
    }
    // Its agent is gone, so it is killing already; it does that better than anybody else.
    let end = BootTime::now() + patience;
    marks.guard.signal(Signal::CONT).map_err(unseen)?;
    while marks.guard.runs() && BootTime::now() < end {
        thread::sleep(Duration::from_millis(5));
    }
    if marks.guard.runs() {
        marks.guard.signal(Signal::KILL).map_err(unseen)?;
    }
    sweep(marks, patience)
}

/// Kills what bears the marks until nothing does.
///
/// # Errors
/// [`DriverError::Alive`] when something still does after `patience`.
pub(super) fn sweep(marks: &Marks, patience: Duration) -> Result<(), DriverError> {
    let end = BootTime::now() + patience;
    let mut pause = Duration::from_millis(1);
    loop {
        let all = procfs::all().map_err(|source| DriverError::Use { what: "list processes".into(), source })?;
        let left = marked(marks, &all);
        let Some(one) = left.first() else { return Ok(()) };
        let mut refused = None;
        for process in &left {
            refused = process.signal(Signal::KILL).err().or(refused);
        }
        if BootTime::now() >= end {
            let why = refused.map_or_else(
                || format!("{} processes are still there {} s after they were killed", left.len(), patience.as_secs()),
                |error| error.to_string(),
            );
            return Err(DriverError::Alive { what: format!("process {}", one.pid), why });
        }
        thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

fn marked(marks: &Marks, all: &[Stat]) -> Vec<Process> {
    let sign = format!("{SIGN}={}", marks.sign);
    let bears_sign = |pid: i32| {
        // Unreadable ones belong to another user or hide themselves; the other signs are for them.
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|variable| variable == sign.as_bytes())
    };
    let is_marked = |stat: &&Stat| {
        let pid = stat.process.pid;
        let of_service = marks.service.is_some_and(|service| stat.process == service || stat.group == service.pid);
        // Ids of groups and sessions are used again only when nobody is in them, and then for a process of that id, which
        // began later: what began before the guard is not its.
        let later = stat.process.began >= marks.guard.began;
        let leader = all.iter().find(|one| one.process.pid == marks.guard.pid);
        let same_session = leader.is_none_or(|leader| leader.process == marks.guard);
        stat.process == marks.guard
            || (later && same_session && (stat.session == marks.guard.pid || of_service))
            || bears_sign(pid)
    };
    let first: Vec<Stat> = all.iter().filter(is_marked).copied().collect();
    let ids: Vec<i32> = first.iter().map(|stat| stat.process.pid).collect();
    let mut found = first;
    found.extend(procfs::descendants(all, &ids));
    found.retain(|stat| !stat.ended && stat.process.pid != std::process::id().cast_signed());
    let mut processes: Vec<Process> = found.iter().map(|stat| stat.process).collect();
    processes.sort_unstable();
    processes.dedup();
    processes
}
