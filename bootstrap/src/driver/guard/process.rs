//! A guard of a program: its parent, and that of everything it leaves behind.
//!
//! The guard is a subreaper, so whatever the program starts stays its descendant, also what forks twice, begins a session of
//! its own and survives its parent. When the guard has no child left, nothing of the service lives: that is the proof.
//! The program must stay in the foreground: when it ends, all it started is killed.
//! Source: prctl(2), PR_SET_CHILD_SUBREAPER. Layer: the edge.

use std::io::Read;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, getpid, set_child_subreaper, wait};

use super::alarm::Alarm;
use super::{Answer, Event as Heard, Order, Program};
use crate::clock::BootTime;
use crate::driver::procfs::{self, Process};

/// The pause between two passes of killing: processes that were just born are met by the next one.
const PASS: Duration = Duration::from_millis(5);

/// What happens to children.
#[derive(Debug)]
pub(super) enum Event {
    /// The program took over, or could not.
    Entered(Result<(), String>),
    /// A child ended.
    Reaped(Pid, WaitStatus),
    /// There is no child any more.
    Childless,
}

struct Guard {
    main: Option<Pid>,
    /// Whether it is known that the program took over or could not.
    entered: bool,
    childless: bool,
    until: Option<BootTime>,
    /// The end of the grace, once it was asked to end.
    grace: Option<BootTime>,
    /// Why it is being killed, or how it ended by itself.
    killing: Option<String>,
    ended: Option<String>,
    failed: Option<String>,
}

/// Starts the program and holds it until everything is dead.
pub(super) fn guard(
    program: &Program,
    until: Option<BootTime>,
    sender: &Sender<Heard>,
    events: &Receiver<Heard>,
    answer: &mut dyn FnMut(&Answer),
) {
    let begun = begin(program, until, sender);
    let (main, alarm) = match begun {
        Ok(begun) => begun,
        Err(why) => return answer(&Answer::Failed(why)),
    };
    let process = Process::of(main.as_raw_pid().unsigned_abs());
    let mut guard = Guard {
        main: Some(main),
        entered: false,
        childless: false,
        until,
        grace: None,
        killing: None,
        ended: None,
        failed: None,
    };
    while !(guard.childless && guard.entered) {
        let next = if guard.must_die() {
            events.recv_timeout(PASS)
        } else {
            events.recv().map_err(|_| RecvTimeoutError::Disconnected)
        };
        match next {
            Ok(event) => {
                if matches!(event, Heard::Process(Event::Entered(Ok(())))) {
                    answer(&Answer::Started(process));
                }
                guard.hear(event);
            }
            // The thread that waits for children holds a sender until there are none.
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
        }
        // What was said while the machine slept is heard before anything is judged by the clock.
        if events.is_empty() {
            guard.judge(&alarm);
        }
    }
    answer(&match (guard.failed, guard.killing, guard.ended) {
        (Some(why), ..) => Answer::Failed(why),
        (None, Some(why), _) => Answer::Dead(format!("killed: {why}")),
        (None, None, ended) => Answer::Dead(ended.unwrap_or_else(|| "it ended".into())),
    });
}

fn begin(program: &Program, until: Option<BootTime>, events: &Sender<Heard>) -> Result<(Pid, Alarm), String> {
    let alarm = Alarm::new(events).and_then(|alarm| alarm.set(until).map(|()| alarm));
    let alarm = alarm.map_err(|error| format!("no timer can be set: {error}"))?;
    if until.is_some_and(|until| until <= BootTime::now()) {
        return Err("its time is over already".into());
    }
    set_child_subreaper(Some(getpid())).map_err(|error| format!("the guard cannot adopt processes: {error}"))?;
    let mut command = Command::new("/proc/self/exe");
    command.args(["guard", "--enter", &getpid().to_string()]);
    if let Some(user) = &program.user {
        command.args(["--user", user]);
    }
    let mut child = command
        .arg("--")
        .args(&program.argv)
        .env_clear()
        .envs(program.environment.iter().map(|(name, value)| (name, value)))
        .current_dir(&program.directory)
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| format!("cannot begin in {}: {error}", program.directory.display()))?;
    let main = Pid::from_child(&child);
    let report = child.stdout.take();
    let entered = events.clone();
    thread::spawn(move || {
        let mut why = String::new();
        let read = report.map(|report| report.take(4096).read_to_string(&mut why));
        let outcome = match read {
            Some(Ok(0)) => Ok(()),
            Some(Ok(_)) => Err(why),
            _ => Err("it cannot be told whether the program took over".into()),
        };
        let _ = entered.send(Heard::Process(Event::Entered(outcome)));
    });
    let reaped = events.clone();
    thread::spawn(move || reap(&reaped));
    Ok((main, alarm))
}

/// Waits for children, adopted ones too, until there are none.
fn reap(events: &Sender<Heard>) {
    loop {
        let event = match wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) => Event::Reaped(pid, status),
            Ok(None) | Err(Errno::INTR) => continue,
            Err(_) => Event::Childless,
        };
        let last = matches!(event, Event::Childless);
        if events.send(Heard::Process(event)).is_err() || last {
            return;
        }
    }
}

impl Guard {
    fn hear(&mut self, event: Heard) {
        match event {
            Heard::Order(Order::Until(until)) => self.until = Some(until),
            Heard::Order(Order::Stop(grace)) => {
                let end = BootTime::now() + grace;
                self.grace = Some(self.grace.map_or(end, |earlier| earlier.min(end)));
                self.ask_to_end();
            }
            Heard::Order(Order::Kill) => self.kill("on order"),
            Heard::Order(Order::Start(_)) => self.kill("a second service was to be started beside it"),
            Heard::Orphaned(why) => self.kill(&why),
            Heard::Process(Event::Entered(outcome)) => {
                self.entered = true;
                if let Err(why) = outcome {
                    self.failed = Some(why);
                    self.kill("it did not start");
                }
            }
            Heard::Process(Event::Childless) => self.childless = true,
            Heard::Process(Event::Reaped(pid, status)) if Some(pid) == self.main => {
                self.main = None;
                self.ended = Some(in_words(status));
            }
            Heard::Process(Event::Reaped(..)) | Heard::External(_) | Heard::Alarm => {}
        }
    }

    /// Applies the clock, and kills if it is time to.
    fn judge(&mut self, alarm: &Alarm) {
        let now = BootTime::now();
        if self.until.is_some_and(|until| until <= now) {
            self.kill("its time was over");
        } else if self.grace.is_some_and(|end| end <= now) {
            self.kill("it did not end within its grace");
        }
        if self.must_die() {
            signal_all(Signal::KILL, None);
        }
        let next = [self.until, self.grace].into_iter().flatten().min();
        if self.killing.is_none() && alarm.set(next).is_err() {
            self.kill("no timer can be set");
        }
    }

    /// What the program left behind goes with it; when it was asked to end, that has its grace to end too.
    fn must_die(&self) -> bool {
        self.killing.is_some() || (self.main.is_none() && self.grace.is_none())
    }

    fn kill(&mut self, why: &str) {
        if self.killing.is_none() {
            self.killing = Some(why.to_owned());
            signal_all(Signal::KILL, None);
        }
    }

    /// Tells the program and what shares its process group, as a terminal would.
    fn ask_to_end(&self) {
        let Some(main) = self.main else { return };
        signal_all(Signal::TERM, Some(main.as_raw_pid()));
        // One that is stopped would not hear it.
        signal_all(Signal::CONT, Some(main.as_raw_pid()));
    }
}

/// Sends a signal to all descendants, or those of one process group.
fn signal_all(signal: Signal, group: Option<i32>) {
    let Ok(all) = procfs::all() else { return };
    for stat in procfs::descendants(&all, &[getpid().as_raw_pid()]) {
        if !stat.ended && group.is_none_or(|group| group == stat.group) {
            // One that cannot be signalled is still there, so the guard goes on.
            let _ = stat.process.signal(signal);
        }
    }
}

fn in_words(status: WaitStatus) -> String {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => format!("it ended with exit code {code}"),
        (None, Some(signal)) => format!("it was ended by signal {signal}"),
        (None, None) => "it ended".into(),
    }
}
