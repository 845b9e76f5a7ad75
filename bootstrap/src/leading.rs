//! Leading: a command that runs only while this node leads.
//!
//! It is started when the agent says that the lease holds, and killed with its process group when the agent says that it
//! does not, when the time runs out that the agent last spoke of, or when this process dies. What the command does outside
//! of this machine is not undone: give its term to whatever can refuse an old one. Documented in `docs/surfaces.md`,
//! "run-if-leader". Layer: the edge.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus};
use std::thread;
use std::time::Duration;

use rustix::process::{
    Pid, Signal, getpid, getppid, kill_process_group, set_parent_process_death_signal, test_kill_process_group,
};
use snapkit::cancel::Cancel;

use crate::client::{Client, ClientError, Held, Lease};
use crate::clock::BootTime;

/// How often the command is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// How often the agent is asked, at most.
const ASK_EVERY: Duration = Duration::from_millis(500);
/// How long the agent may be silent where nothing limits the lease.
const SILENCE: Duration = Duration::from_secs(10);
/// How long one answer may take.
const ANSWER: Duration = Duration::from_secs(2);

/// How it ended.
#[derive(Debug)]
pub enum Led {
    /// This node does not lead, and nothing was started.
    Skipped(String),
    /// The command ended by itself.
    Ended(ExitStatus),
    /// The lease was lost, and the command was killed.
    Lost(String),
    /// This process was asked to end; the command was asked too, and ended.
    Stopped(ExitStatus),
}

/// Why it could not be run or watched.
#[derive(Debug, thiserror::Error)]
pub enum LeadingError {
    /// The agent does not say who leads; nothing was started.
    #[error("it is not known whether this node leads")]
    Unknown(#[from] ClientError),
    /// The command does not start.
    #[error("cannot run {}", .program.display())]
    Run {
        /// The program.
        program: OsString,
        /// What the system said.
        source: io::Error,
    },
}

/// Runs a command while this node leads. `bind` makes of its arguments those of the process that becomes it, so that it
/// dies with this one: see [`enter`].
///
/// # Errors
/// [`LeadingError`] when nothing was started.
pub fn run(
    client: &Client,
    argv: &[OsString],
    min_remaining: Duration,
    bind: impl FnOnce(&[OsString]) -> Command,
    cancel: &Cancel,
) -> Result<Led, LeadingError> {
    let asked = BootTime::now();
    let held = match client.clone().within(ANSWER).lease(min_remaining)? {
        Lease::Held(held) => held,
        Lease::NotHeld(why) => return Ok(Led::Skipped(why)),
    };
    let mut command = bind(argv);
    command.env("SNAPKIT_TERM", held.term.to_string()).env("SNAPKIT_NODE", &held.node).process_group(0);
    let program = argv.first().cloned().unwrap_or_default();
    let cannot_run = |source| LeadingError::Run { program, source };
    let child = command.spawn().map_err(cannot_run)?;
    let watch = Watch { client, until: until(&held, asked), held, asked, group: Pid::from_child(&child), child };
    Ok(watch.run(cancel))
}

struct Watch<'c> {
    client: &'c Client,
    held: Held,
    /// When the last good answer was asked for.
    asked: BootTime,
    /// When the command must be dead, as far as is known.
    until: BootTime,
    group: Pid,
    child: Child,
}

/// Time left counts from before the question was sent.
fn until(held: &Held, asked: BootTime) -> BootTime {
    asked + held.remaining_ms.map_or(SILENCE, Duration::from_millis)
}

impl Watch<'_> {
    fn run(mut self, cancel: &Cancel) -> Led {
        let mut told = false;
        loop {
            if let Ok(Some(status)) = self.child.try_wait() {
                self.kill();
                return if told { Led::Stopped(status) } else { Led::Ended(status) };
            }
            if let Err(why) = self.still_leads() {
                self.kill();
                let _ = self.child.wait();
                self.see_it_gone();
                return Led::Lost(why);
            }
            if cancel.is_requested() && !told {
                told = true;
                let _ = kill_process_group(self.group, Signal::TERM);
            }
            thread::sleep(LOOK_EVERY);
        }
    }

    /// Asks again when it is time to; says why the command must die.
    fn still_leads(&mut self) -> Result<(), String> {
        let now = BootTime::now();
        if now >= self.until {
            return Err("the agent was silent until the lease it last spoke of was over".to_owned());
        }
        if now.since(self.asked) < ASK_EVERY {
            return Ok(());
        }
        let patience = ANSWER.min(now.until(self.until));
        match self.client.clone().within(patience).lease(Duration::ZERO) {
            Ok(Lease::Held(held)) if (held.term, &held.instance) == (self.held.term, &self.held.instance) => {
                (self.until, self.asked) = (until(&held, now), now);
                Ok(())
            }
            Ok(Lease::Held(held)) => {
                Err(format!("this node now leads in term {}, not in {}", held.term, self.held.term))
            }
            Ok(Lease::NotHeld(why)) => Err(why),
            // An agent that is being restarted, or is slow: the time of its last answer still holds.
            Err(_) => Ok(()),
        }
    }

    /// Waits until nothing of the group is left, for a while: what was killed may take a moment to end, and where nobody
    /// asks for the status of processes without a parent, their names stay for ever.
    fn see_it_gone(&self) {
        let limit = BootTime::now() + ANSWER;
        while test_kill_process_group(self.group).is_ok() && BootTime::now() < limit {
            thread::sleep(LOOK_EVERY / 10);
        }
    }

    fn kill(&self) {
        // Fails only when nothing of the group is left.
        let _ = kill_process_group(self.group, Signal::KILL);
    }
}

/// The last step before the command, in its process: it dies with its parent, and is replaced by the command. Returns only
/// if that failed.
pub fn enter(parent: i32, argv: &[OsString]) -> io::Error {
    let Some((program, arguments)) = argv.split_first() else {
        return io::Error::new(io::ErrorKind::InvalidInput, "no program");
    };
    if let Err(error) = set_parent_process_death_signal(Some(Signal::KILL)) {
        return error.into();
    }
    // If the parent died before the signal was set, nobody else ends this process.
    if getppid().map(Pid::as_raw_pid) != Some(parent) {
        return io::Error::other("whoever started this is gone");
    }
    Command::new(program).args(arguments).exec()
}

/// The process that a command is bound to.
pub fn this_process() -> i32 {
    getpid().as_raw_pid()
}
