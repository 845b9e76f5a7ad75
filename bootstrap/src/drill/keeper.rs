//! The keeper of a run: a process of its own that holds those who measure, and takes the run back when nobody goes on with it.
//!
//! It outlives an orchestrator that is killed, so that a run that is resumed was measured without a gap. While a run goes on, the
//! orchestrator holds a lock; once nobody has held it for as long as the inventory says, or the run takes longer than all of
//! its timeboxes together, the keeper starts the stored way back. What it needs lies beside the run directory, not in it.
//! Layer: the edge.

use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use rustix::process::Signal;
use serde::{Deserialize, Serialize};
use snapkit::cancel::Cancel;

use crate::clock::BootTime;
use crate::driver::procfs::{self, Process};
use crate::evidence::event::What;
use crate::evidence::timeline;

/// How often it looks.
const LOOK: Duration = Duration::from_millis(100);
/// How long those who measure may take to end.
const PATIENCE: Duration = Duration::from_secs(15);
/// How long the keeper may take to have ended everything.
const END_PATIENCE: Duration = Duration::from_secs(30);

/// What a keeper is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Order {
    /// Arguments of each process that measures.
    pub measures: Vec<Vec<String>>,
    /// What takes the run back.
    pub abort: Vec<String>,
    /// After how many seconds without an orchestrator.
    pub dead_man_seconds: u64,
    /// After how many seconds in any case.
    pub at_most_seconds: u64,
}

/// The files of a keeper, beside the run directory.
#[derive(Debug, Clone)]
pub struct Place(PathBuf);

impl Place {
    /// Beside this run directory.
    pub fn beside(run: &Path) -> Self {
        let name = run.file_name().unwrap_or_default().to_string_lossy();
        Self(run.with_file_name(format!(".{name}.keeper")))
    }

    /// At this path.
    pub fn at(path: &Path) -> Self {
        Self(path.to_owned())
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Whether the run beside it has an end.
    fn is_run_over(&self) -> bool {
        let name = self.0.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let Some(run) = name.strip_prefix('.').and_then(|name| name.strip_suffix(".keeper")) else { return false };
        let timeline = fs::read(self.0.with_file_name(run).join(timeline::FILE)).unwrap_or_default();
        let whole = timeline.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let events = timeline::read(&timeline[..whole], timeline::FILE).unwrap_or_default();
        events.iter().any(|event| matches!(event.what, What::End { .. }))
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Takes the lock of the orchestrator, which says that the run goes on.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] while another process goes on with the run.
    pub fn lock(&self) -> io::Result<File> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.0)?;
        let file =
            File::options().create(true).truncate(false).write(true).mode(0o600).open(self.file("orchestrator"))?;
        match file.try_lock() {
            Ok(()) => Ok(file),
            Err(TryLockError::WouldBlock) => Err(io::ErrorKind::WouldBlock.into()),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    fn holder(&self, name: &str) -> Option<Process> {
        procfs::lock_holder(&self.file(name)).ok()?
    }

    /// The keeper that runs here.
    pub fn keeper(&self) -> Option<Process> {
        self.holder("keeper")
    }

    /// Starts a keeper, detached from this process.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(&self, program: &Path, order: &Order) -> io::Result<()> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.0)?;
        let mut file =
            File::options().create(true).truncate(true).write(true).mode(0o600).open(self.file("order.json"))?;
        file.write_all(&serde_json::to_vec_pretty(order)?)?;
        file.sync_all()?;
        let log = File::options().create(true).append(true).mode(0o600).open(self.file("log"))?;
        let mut command = Command::new(program);
        command
            .args(["drill", "keep"])
            .arg(&self.0)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0);
        command.spawn()?;
        let end = BootTime::now() + PATIENCE;
        while self.keeper().is_none() {
            if BootTime::now() >= end {
                return Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    format!("no keeper runs; see {}", self.file("log").display()),
                ));
            }
            thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// Has the keeper end those who measure, and itself.
    ///
    /// # Errors
    /// When it is still there after a while.
    pub fn end(&self) -> io::Result<()> {
        let Some(keeper) = self.keeper() else { return Ok(()) };
        File::create(self.file("end"))?;
        let end = BootTime::now() + END_PATIENCE;
        while keeper.runs() {
            if BootTime::now() >= end {
                keeper.signal(Signal::KILL)?;
                return Err(io::Error::new(io::ErrorKind::TimedOut, "the keeper did not end, and was killed"));
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Removes the files; nothing of it must run.
    ///
    /// # Errors
    /// What the system says.
    pub fn remove(&self) -> io::Result<()> {
        match fs::remove_dir_all(&self.0) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

/// Runs a keeper to its end.
///
/// # Errors
/// When another one runs, or it cannot read what it is told.
pub fn run(place: &Place, program: &Path, cancel: &Cancel) -> io::Result<()> {
    let order: Order = serde_json::from_slice(&fs::read(place.file("order.json"))?).map_err(io::Error::other)?;
    let lock = File::options().create(true).truncate(false).write(true).mode(0o600).open(place.file("keeper"))?;
    lock.try_lock().map_err(|error| io::Error::other(format!("another keeper: {error}")))?;
    let mut children = Vec::new();
    for args in &order.measures {
        let mut command = Command::new(program);
        command.args(args).stdin(Stdio::piped()).stdout(Stdio::null());
        children.push(command.spawn()?);
    }
    let at_most = BootTime::now() + Duration::from_secs(order.at_most_seconds);
    let mut alone_since = None;
    let mut aborted = false;
    while !place.file("end").exists() && !cancel.is_requested() {
        thread::sleep(LOOK);
        let orchestrator = place.holder("orchestrator");
        alone_since = match orchestrator {
            Some(_) => None,
            None => alone_since.or(Some(BootTime::now())),
        };
        let alone = alone_since.is_some_and(|since| BootTime::now().since(since).as_secs() >= order.dead_man_seconds);
        let late = BootTime::now() >= at_most;
        if (alone || late) && !aborted {
            if orchestrator.is_none() && place.is_run_over() {
                // It was killed before it sealed: nothing is to be taken back, and nothing more to be measured.
                eprintln!("the run has ended, and nobody sealed it: those who measure are ended");
                break;
            }
            aborted = true;
            if let Some(orchestrator) = orchestrator {
                eprintln!(
                    "the run took longer than all of its timeboxes: its orchestrator is killed, and it is taken back"
                );
                orchestrator.signal(Signal::KILL)?;
                thread::sleep(LOOK);
            } else {
                eprintln!("nobody went on with the run for {} s: it is taken back", order.dead_man_seconds);
            }
            take_back(&order, place)?;
        }
    }
    end(children);
    drop(lock);
    Ok(())
}

/// Starts the stored way back; it ends this keeper when it is done.
fn take_back(order: &Order, place: &Place) -> io::Result<()> {
    let Some((program, args)) = order.abort.split_first() else { return Ok(()) };
    let log = File::options().create(true).append(true).mode(0o600).open(place.file("abort.log"))?;
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).process_group(0);
    command.spawn().map(drop)
}

fn end(mut children: Vec<Child>) {
    for child in &mut children {
        if let Some(mut stdin) = child.stdin.take() {
            let _ = stdin.write_all(b"end\n");
        }
    }
    let end = BootTime::now() + PATIENCE;
    for mut child in children {
        while matches!(child.try_wait(), Ok(None)) && BootTime::now() < end {
            thread::sleep(Duration::from_millis(10));
        }
        let _ = child.kill();
        let _ = child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eventually::eventually;
    use crate::evidence::event::Actor;
    use crate::evidence::timeline::Timeline;

    #[test]
    fn a_run_is_over_as_soon_as_its_timeline_has_an_end() {
        let directory = tempfile::tempdir().unwrap();
        let run = directory.path().join("20260101T000000Z-x");
        fs::create_dir(&run).unwrap();
        let place = Place::beside(&run);
        assert!(!place.is_run_over(), "it has no timeline");
        let mut timeline = Timeline::create(&run, "here").unwrap();
        timeline.add(Actor::Tool, None, What::Note { text: "x".to_owned() }).unwrap();
        assert!(!place.is_run_over());
        timeline.add(Actor::Tool, None, What::End { passed: false }).unwrap();
        assert!(place.is_run_over());
    }

    #[test]
    fn a_run_has_one_orchestrator() {
        let directory = tempfile::tempdir().unwrap();
        let place = Place::beside(&directory.path().join("20260101T000000Z-x"));
        let held = place.lock().unwrap();
        assert_eq!(place.lock().unwrap_err().kind(), io::ErrorKind::WouldBlock);
        assert_eq!(place.holder("orchestrator").unwrap(), Process::of(std::process::id()).unwrap());
        drop(held);
        eventually("it is free", || place.lock().is_ok());
        place.remove().unwrap();
    }
}
