//! The agent's side of a guard: orders go in, answers come out, and nothing here waits without a limit.
//!
//! Layer: the edge.

use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, unbounded};
use rustix::fs::{OFlags, fcntl_setfl};
use rustix::process::Signal;

use super::{Answer, Charge, Order};
use crate::clock::BootTime;
use crate::driver::DriverError;
use crate::driver::procfs::Process;

/// A guard that this agent began.
pub(in crate::driver) struct Guarded {
    guard: Child,
    process: Process,
    orders: ChildStdin,
    answers: Receiver<Answer>,
    ended: Option<Ended>,
}

/// How a guard ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::driver) enum Ended {
    /// Nothing was started, or what was is gone.
    Failed(String),
    /// It said that everything is dead.
    Dead(String),
    /// It ended without a word: it was killed itself, and what it held may live.
    Silent,
}

impl Guarded {
    /// Begins a guard, which does nothing yet.
    pub(in crate::driver) fn begin(program: &Path) -> Result<Guarded, DriverError> {
        let unusable = |source| DriverError::Use { what: format!("run {} as a guard", program.display()), source };
        let mut guard = Command::new(program)
            .arg("guard")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(unusable)?;
        let process = Process::of(guard.id());
        let (Some(orders), Some(said), Some(process)) = (guard.stdin.take(), guard.stdout.take(), process) else {
            return Err(unusable(io::Error::other("it ended at once")));
        };
        // A guard that is stopped reads nothing; the agent must not wait for it.
        fcntl_setfl(&orders, OFlags::NONBLOCK).map_err(|error| unusable(error.into()))?;
        let (sender, answers) = unbounded();
        thread::spawn(move || {
            for line in BufReader::new(said).lines() {
                let Some(answer) = line.ok().and_then(|line| serde_json::from_str(&line).ok()) else { return };
                if sender.send(answer).is_err() {
                    return;
                }
            }
        });
        Ok(Guarded { guard, process, orders, answers, ended: None })
    }

    /// The guard itself.
    pub(in crate::driver) fn process(&self) -> Process {
        self.process
    }

    /// Has it start the service, and waits until that runs. Gives the service's process, if the guard is its parent.
    pub(in crate::driver) fn start(
        &mut self,
        charge: Charge,
        patience: Duration,
    ) -> Result<Option<Process>, DriverError> {
        // Much larger than a pipe may be; at the start the guard reads.
        fcntl_setfl(&self.orders, OFlags::empty()).map_err(|error| unheard(error.into()))?;
        let sent = self.order(&Order::Start(Box::new(charge)));
        fcntl_setfl(&self.orders, OFlags::NONBLOCK).map_err(|error| unheard(error.into()))?;
        sent?;
        let end = BootTime::now() + patience;
        loop {
            match self.answers.recv_timeout(BootTime::now().until(end)) {
                Ok(Answer::Started(process)) => return Ok(process),
                Ok(answer) => self.note(answer),
                Err(_) => {}
            }
            match self.ended() {
                Some(Ended::Failed(why) | Ended::Dead(why)) => return Err(DriverError::Start { why }),
                Some(Ended::Silent) => return Err(alive("the guard was killed while it started the service")),
                None if BootTime::now() >= end => {
                    return Err(DriverError::Start { why: format!("no sign of it within {} s", patience.as_secs()) });
                }
                None => {}
            }
        }
    }

    /// Gives an order, without waiting for what comes of it.
    pub(in crate::driver) fn order(&mut self, order: &Order) -> Result<(), DriverError> {
        let mut line = serde_json::to_vec(order).map_err(|error| unheard(error.into()))?;
        line.push(b'\n');
        if matches!(order, Order::Stop(_) | Order::Kill) {
            // One that somebody stopped would not hear it.
            let _ = self.process.signal(Signal::CONT);
        }
        self.orders.write_all(&line).map_err(unheard)
    }

    /// How it ended; `None` while it holds something.
    pub(in crate::driver) fn ended(&mut self) -> Option<Ended> {
        while let Ok(answer) = self.answers.try_recv() {
            self.note(answer);
        }
        if self.ended.is_none() && !self.process.runs() {
            // What it said last may still be on its way through the pipe; the reader ends after that.
            while let Ok(answer) = self.answers.recv_timeout(Duration::from_secs(10)) {
                self.note(answer);
            }
            self.ended.get_or_insert(Ended::Silent);
        }
        if self.ended.is_some() {
            let _ = self.guard.try_wait();
        }
        self.ended.clone()
    }

    /// Waits at most that long for its end.
    pub(in crate::driver) fn wait(&mut self, patience: Duration) -> Option<Ended> {
        let end = BootTime::now() + patience;
        loop {
            let ended = self.ended();
            let left = BootTime::now().until(end);
            if ended.is_some() || left.is_zero() {
                return ended;
            }
            if let Ok(answer) = self.answers.recv_timeout(left.min(Duration::from_millis(20))) {
                self.note(answer);
            }
        }
    }

    /// Kills the guard itself, when it does not do its work.
    pub(in crate::driver) fn kill_guard(&mut self) {
        let _ = self.process.signal(Signal::KILL);
        let _ = self.guard.wait();
    }

    fn note(&mut self, answer: Answer) {
        match answer {
            Answer::Failed(why) => self.ended = Some(Ended::Failed(why)),
            Answer::Dead(how) => self.ended = Some(Ended::Dead(how)),
            Answer::Started(_) => {}
        }
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        // Closing the pipe kills the service, and the guard ends after that; it must not stay as a zombie.
        let _ = self.order(&Order::Kill);
        if self.wait(Duration::from_secs(5)).is_some() {
            let _ = self.guard.wait();
        }
    }
}

fn unheard(source: io::Error) -> DriverError {
    DriverError::Use { what: "tell the guard".into(), source }
}

fn alive(why: &str) -> DriverError {
    DriverError::Alive { what: "the service".into(), why: why.into() }
}
