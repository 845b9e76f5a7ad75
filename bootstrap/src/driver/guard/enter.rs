//! The last step before a program: binds it to its guard, becomes its user, and is replaced by it.
//!
//! It runs in the child, where a library without unsafe code cannot run anything between fork and exec. Standard output is
//! a pipe to the guard: it closes when the program has taken over, and carries the reason when it could not.
//! Layer: the edge.

use std::ffi::{CString, OsString};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use nix::unistd::{User, initgroups, setgid, setuid};
use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};

/// Becomes `argv` as a child of the guard with the id `guard`. Returns only if that failed, after telling the guard.
pub fn enter(guard: i32, user: Option<&str>, argv: &[OsString]) -> io::Error {
    // This copy closes on exec; the one that the program gets is replaced below.
    let report = io::stdout().as_fd().try_clone_to_owned().map(std::fs::File::from);
    let error = replaced_by(guard, user, argv);
    if let Ok(mut report) = report {
        let _ = write!(report, "{error}");
    }
    error
}

fn replaced_by(guard: i32, user: Option<&str>, argv: &[OsString]) -> io::Error {
    let Some((program, arguments)) = argv.split_first() else {
        return io::Error::new(io::ErrorKind::InvalidInput, "no program");
    };
    let bound = || -> io::Result<()> {
        if let Some(user) = user {
            become_user(user)?;
        }
        // After the user is changed, which would take it back. If the guard died before, nobody is left to tell.
        set_parent_process_death_signal(Some(Signal::KILL))?;
        if getppid().map(Pid::as_raw_pid) != Some(guard) {
            return Err(io::Error::other("the guard is gone"));
        }
        Ok(())
    };
    match bound().and_then(|()| io::stderr().as_fd().try_clone_to_owned()) {
        Ok(log) => {
            let error = Command::new(program).args(arguments).stdin(Stdio::null()).stdout(log).exec();
            io::Error::new(error.kind(), format!("cannot run {}: {error}", program.display()))
        }
        Err(error) => error,
    }
}

/// Takes the user's ids and groups. Does nothing for the user that this process has already.
fn become_user(name: &str) -> io::Result<()> {
    let user = User::from_name(name)?.ok_or_else(|| io::Error::other(format!("there is no user {name}")))?;
    if user.uid == nix::unistd::geteuid() {
        return Ok(());
    }
    initgroups(&CString::new(name)?, user.gid)?;
    setgid(user.gid)?;
    setuid(user.uid)?;
    Ok(())
}
