//! Commands of others, run to their end within a limit: what they said, and how they ended.
//!
//! Output goes to files without a name, not through pipes: a process that a command leaves behind would keep those open, and
//! one that talks without end would block. Layer: the edge.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

use crate::clock::BootTime;

/// The most that is kept of an output.
const OUTPUT_CAP: u64 = 4 << 20;

/// What becomes of processes that a command leaves behind in its process group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leftovers {
    /// They are killed.
    Kill,
    /// They are what it was called for.
    Leave,
}

/// How a command ended.
#[derive(Debug, Clone)]
pub struct Finished {
    /// Its status; `None` if it was killed because its time was over.
    pub status: Option<ExitStatus>,
    /// What it printed.
    pub stdout: String,
    /// What it printed as problems.
    pub stderr: String,
}

impl Finished {
    /// Whether it ended in time and with 0.
    pub fn is_good(&self) -> bool {
        self.status.is_some_and(|status| status.success())
    }

    /// Why it is not good, in one line.
    pub fn why(&self) -> String {
        let ended = match self.status {
            None => "it did not end in time".to_owned(),
            Some(status) => status.to_string(),
        };
        match self.said() {
            Some(said) => format!("{ended}: {said}"),
            None => ended,
        }
    }

    /// The last line it printed, rather of problems than of results.
    pub fn said(&self) -> Option<&str> {
        [&self.stderr, &self.stdout].into_iter().find_map(|said| said.trim().lines().last()).map(str::trim)
    }
}

/// Runs a command in a process group of its own, at most for `limit`. Its standard input is empty.
///
/// # Errors
/// When it cannot be run at all.
pub fn run(command: Command, limit: Duration, leftovers: Leftovers) -> io::Result<Finished> {
    run_with(command, &[], limit, leftovers)
}

/// The same with something to read on its standard input.
///
/// # Errors
/// When it cannot be run at all.
pub fn run_with(mut command: Command, stdin: &[u8], limit: Duration, leftovers: Leftovers) -> io::Result<Finished> {
    let (mut stdout, mut stderr) = (tempfile::tempfile()?, tempfile::tempfile()?);
    let stdin = if stdin.is_empty() {
        Stdio::null()
    } else {
        let mut file = tempfile::tempfile()?;
        file.write_all(stdin)?;
        file.rewind()?;
        file.into()
    };
    let mut child =
        command.stdin(stdin).stdout(stdout.try_clone()?).stderr(stderr.try_clone()?).process_group(0).spawn()?;
    let in_time = await_end(&child, limit, &AtomicBool::new(false))?;
    if !in_time || leftovers == Leftovers::Kill {
        // Not asked for its status yet, so its id is still its own, and so is the group's.
        let _ = kill_process_group(Pid::from_child(&child), Signal::KILL);
    }
    let status = child.wait()?;
    Ok(Finished { status: in_time.then_some(status), stdout: content(&mut stdout)?, stderr: content(&mut stderr)? })
}

/// Runs a command whose leftovers are what it was called for, at most for `limit`, and not longer than until `given_up`;
/// its status, or `None` if it was killed. What it and they print goes to this program's standard error.
///
/// # Errors
/// When it cannot be run at all.
pub fn run_logged(mut command: Command, limit: Duration, given_up: &AtomicBool) -> io::Result<Option<ExitStatus>> {
    let log = || io::stderr().as_fd().try_clone_to_owned();
    let mut child = command.stdin(Stdio::null()).stdout(log()?).stderr(log()?).process_group(0).spawn()?;
    let in_time = await_end(&child, limit, given_up)?;
    if !in_time {
        let _ = kill_process_group(Pid::from_child(&child), Signal::KILL);
    }
    let status = child.wait()?;
    Ok(in_time.then_some(status))
}

/// Waits without asking for the status, which would give the id free. Whether it ended.
fn await_end(child: &Child, limit: Duration, given_up: &AtomicBool) -> io::Result<bool> {
    let id = WaitId::Pid(Pid::from_child(child));
    let end = BootTime::now() + limit;
    let mut pause = Duration::from_millis(1);
    loop {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        match waitid(id.clone(), options) {
            Ok(Some(_)) => return Ok(true),
            Ok(None) if BootTime::now() >= end || given_up.load(Ordering::SeqCst) => return Ok(false),
            Ok(None) | Err(rustix::io::Errno::INTR) => thread::sleep(pause),
            Err(error) => return Err(error.into()),
        }
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}

fn content(file: &mut File) -> io::Result<String> {
    let mut bytes = Vec::new();
    file.rewind()?;
    file.take(OUTPUT_CAP).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn what_a_command_says_is_kept() {
        let limit = Duration::from_secs(60);
        let ended = run(shell("echo out; echo problem >&2; exit 3"), limit, Leftovers::Kill).unwrap();
        assert_eq!((ended.stdout.as_str(), ended.stderr.as_str()), ("out\n", "problem\n"));
        assert_eq!(ended.why(), "exit status: 3: problem");
        assert!(run(shell("exit 0"), limit, Leftovers::Kill).unwrap().is_good());
        assert!(run(Command::new("/no/such/program"), limit, Leftovers::Kill).is_err());
    }

    #[test]
    fn a_command_that_takes_too_long_is_killed_with_its_children() {
        // Until there is time enough for the shell to start.
        let mut limits = (0..8).map(|doubled| Duration::from_millis(300 << doubled));
        let child: u32 = limits
            .find_map(|limit| {
                let ended = run(shell("sleep 1000 & echo $!; wait"), limit, Leftovers::Kill).unwrap();
                assert_eq!(ended.status, None);
                ended.stdout.trim().parse().ok()
            })
            .unwrap();
        let gone = || crate::driver::procfs::Process::of(child).is_none_or(|process| !process.runs());
        while !gone() {
            thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn what_a_command_leaves_behind_is_killed_or_left() {
        let script = "sleep 1000 >/dev/null 2>&1 & echo $!";
        for leftovers in [Leftovers::Kill, Leftovers::Leave] {
            let ended = run(shell(script), Duration::from_secs(60), leftovers).unwrap();
            let left = crate::driver::procfs::Process::of(ended.stdout.trim().parse().unwrap());
            match leftovers {
                Leftovers::Leave => left.unwrap().signal(Signal::KILL).unwrap(),
                Leftovers::Kill => {
                    while left.is_some_and(|process| process.runs()) {
                        thread::sleep(Duration::from_millis(5));
                    }
                }
            }
        }
    }
}
