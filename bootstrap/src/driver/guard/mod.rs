//! The guard: a process of its own that holds one service, and kills it when its time is over.
//!
//! The agent may be stopped, swapped out, hung or killed; the guard needs nothing of it to keep the promise that the
//! service is dead by a given moment. It reads orders, line by line, from a pipe that only the agent holds, and ends only
//! when everything of the service is dead. Documented in `docs/drivers.md`. Layer: the edge.
//!
//! `Guarded` is the agent's side of it.

mod alarm;
mod enter;
mod external;
mod handle;
mod process;

pub use enter::enter;
pub(super) use external::{External, Target};
pub(super) use handle::{Ended, Guarded};

use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Sender, bounded};
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use super::procfs::Process;
use crate::clock::BootTime;

/// The longest line of an order: 256 arguments and as many variables, and a compose file.
const LINE_CAP: u64 = 4 << 20;

/// What the agent tells a guard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Order {
    /// Start it. The first order, and given once.
    Start(Box<Charge>),
    /// Let it live until then instead.
    Until(BootTime),
    /// Ask it to end, and kill it after that long.
    Stop(Duration),
    /// Kill it now.
    Kill,
}

/// What a guard is in charge of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Charge {
    /// A file that the guard locks while anything of the service may live.
    pub(super) lock: PathBuf,
    /// When it is killed; `None` until the agent says so or is gone.
    pub(super) until: Option<BootTime>,
    /// What to start.
    pub(super) what: What,
}

/// What to start, and how to end it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum What {
    /// A program, as a child of the guard.
    Program(Program),
    /// Something that another manager runs.
    External(External),
}

/// A program that is run as the service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Program {
    pub(super) argv: Vec<String>,
    /// All of its environment.
    pub(super) environment: Vec<(String, String)>,
    pub(super) directory: PathBuf,
    pub(super) user: Option<String>,
}

/// What a guard tells the agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Answer {
    /// It runs; its process, where the guard is its parent.
    Started(Option<Process>),
    /// It did not start, and nothing of it runs.
    Failed(String),
    /// Everything of it is dead; how it ended. The last answer.
    Dead(String),
}

/// What a guard hears.
#[derive(Debug)]
enum Event {
    Order(Order),
    /// The agent's end of the pipe is closed, or what came through it cannot be read: nobody is there to renew.
    Orphaned(String),
    /// The alarm rang.
    Alarm,
    Process(process::Event),
    External(external::Event),
}

/// Runs a guard to its end: everything that it started is dead.
///
/// `orders` is the pipe that the agent holds, `answers` the one it reads.
///
/// # Errors
/// When nothing was started because the guard cannot do its work.
pub fn run(orders: impl Read + Send + 'static, mut answers: impl Write) -> io::Result<()> {
    // A manager that stops the whole agent tells all its processes at once. The agent ends the service in order then, or
    // dies; both are seen in the pipe. A handler, unlike ignoring, is not inherited by the service.
    for signal in [SIGTERM, SIGINT, SIGHUP] {
        signal_hook::flag::register(signal, Arc::new(AtomicBool::new(false)))?;
    }
    // A session of its own: signals of a terminal are for the agent, and what is left of a killed guard can be found.
    rustix::process::setsid()
        .or_else(|error| if error == rustix::io::Errno::PERM { Ok(rustix::process::getpid()) } else { Err(error) })?;
    let (sender, events) = bounded(64);
    let hear = sender.clone();
    thread::spawn(move || listen(orders, &hear));
    let charge = match events.recv() {
        Ok(Event::Order(Order::Start(charge))) => charge,
        // Nothing was started, and nothing is.
        _ => return answer(&mut answers, &Answer::Dead("nothing was started".into())),
    };
    let _lock = match lock(&charge) {
        Ok(lock) => lock,
        Err(why) => return answer(&mut answers, &Answer::Failed(why)),
    };
    let mut said = |what: &Answer| {
        // Without an agent there is nobody to tell, and still something to be killed.
        let _ = answer(&mut answers, what);
    };
    match &charge.what {
        What::Program(program) => process::guard(program, charge.until, &sender, &events, &mut said),
        What::External(external) => external::guard(external, charge.until, &sender, &events, &mut said),
    }
    Ok(())
}

/// Two guards of one node never hold a service at the same time, whichever agents began them.
fn lock(charge: &Charge) -> Result<std::fs::File, String> {
    let name = charge.lock.display();
    let mut options = std::fs::OpenOptions::new();
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let file =
        options.create(true).append(true).open(&charge.lock).map_err(|error| format!("cannot open {name}: {error}"))?;
    flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|error| {
        format!("{name} is locked by the guard of an earlier service, which may still run: {error}")
    })?;
    Ok(file)
}

fn answer(answers: &mut impl Write, answer: &Answer) -> io::Result<()> {
    let mut line = serde_json::to_vec(answer)?;
    line.push(b'\n');
    answers.write_all(&line)?;
    answers.flush()
}

/// Hears the agent until it is gone.
fn listen(orders: impl Read, events: &Sender<Event>) {
    let mut orders = BufReader::new(orders);
    loop {
        let mut line = Vec::new();
        let event = match orders.by_ref().take(LINE_CAP).read_until(b'\n', &mut line) {
            // A line without its end is half of an order.
            Ok(_) if line.last() != Some(&b'\n') => Event::Orphaned("the agent is gone".into()),
            Ok(_) => match serde_json::from_slice(&line) {
                Ok(order) => Event::Order(order),
                Err(error) => Event::Orphaned(format!("an order cannot be read: {error}")),
            },
            Err(error) => Event::Orphaned(format!("the agent cannot be heard: {error}")),
        };
        let last = matches!(event, Event::Orphaned(_));
        if events.send(event).is_err() || last {
            return;
        }
    }
}
