//! The processes of a unit, as the kernel counts them.
//!
//! The manager's own hierarchy is a version 2 one, or beside others in a hybrid layout, or a named version 1 one.
//! Source: cgroups(7). Layer: the edge.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::process::Signal;

use crate::driver::procfs::Process;

/// Where a manager's hierarchy may be.
const ROOTS: &[&str] = &["/sys/fs/cgroup", "/sys/fs/cgroup/unified", "/sys/fs/cgroup/systemd"];

/// The processes in a control group and those below; none where there is no such group.
pub(super) fn processes(group: &str) -> Vec<Process> {
    // The root is everybody's; no unit has it, and one without a group shows nothing.
    if group.trim_matches('/').is_empty() || group.split('/').any(|part| part == "..") {
        return Vec::new();
    }
    let mut found = Vec::new();
    for root in ROOTS {
        collect(&Path::new(root).join(group.trim_start_matches('/')), &mut found);
    }
    found.sort_unstable();
    found.dedup();
    found
}

fn collect(directory: &Path, found: &mut Vec<Process>) {
    if let Ok(text) = fs::read_to_string(directory.join("cgroup.procs")) {
        found.extend(text.lines().filter_map(|line| Process::of(line.trim().parse().ok()?)));
        found.retain(|process| process.runs());
    }
    let below: Vec<PathBuf> = fs::read_dir(directory)
        .map(|entries| {
            entries
                .flatten()
                .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
                .map(|entry| entry.path())
                .collect()
        })
        .unwrap_or_default();
    below.iter().for_each(|directory| collect(directory, found));
}

/// Kills the processes of a control group without asking the manager.
pub(super) fn kill(group: &str) {
    for process in processes(group) {
        // What could not be killed is seen when it is looked again.
        let _ = process.signal(Signal::KILL);
    }
}
