//! A guard of something that another manager runs: a unit of systemd, containers, or what hooks start.
//!
//! It is no parent of the service and cannot wait for it; it asks the manager, and what the manager says is checked against
//! the kernel where that is possible. Every call has a limit, and none is made by the thread that watches the clock.
//! Layer: the edge.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};
use serde::{Deserialize, Serialize};

use super::alarm::Alarm;
use super::{Answer, Event as Heard, Order};
use crate::clock::BootTime;
use crate::driver::compose::Project;
use crate::driver::hooks::Hooks;
use crate::driver::systemd::Unit;
use crate::driver::{DriverError, Life};

/// The pause between two questions whether it lives.
const LOOK: Duration = Duration::from_secs(1);
/// The pause between two attempts to kill it.
const PASS: Duration = Duration::from_millis(50);

/// Something that another manager runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::driver) enum External {
    /// A unit of systemd.
    Unit(Unit),
    /// Containers of one project.
    Project(Project),
    /// Whatever these commands start and end.
    Hooks(Hooks),
}

/// What a manager is asked. Calls block, each for a limited time.
pub(in crate::driver) trait Target: Send + Sync {
    /// Starts it, and returns when the manager says that it runs. Gives up soon after `given_up` becomes true.
    fn start(&self, given_up: &AtomicBool) -> Result<(), String>;

    /// Asks it to end, and to be killed after `grace`; may return before it did.
    fn ask_to_end(&self, grace: Duration) -> Result<(), String>;

    /// Kills all of it, and sees to it that the manager does not start it again. Harmless when it is dead.
    fn kill(&self) -> Result<(), String>;

    /// Whether anything of it runs, or may yet by what the manager has begun.
    fn life(&self) -> Result<Life, String>;
}

impl External {
    pub(in crate::driver) fn target(&self) -> Arc<dyn Target> {
        match self {
            Self::Unit(unit) => Arc::new(unit.clone()),
            Self::Project(project) => Arc::new(project.target()),
            Self::Hooks(hooks) => Arc::new(hooks.clone()),
        }
    }

    /// What it is called.
    pub(in crate::driver) fn name(&self) -> String {
        match self {
            Self::Unit(unit) => unit.to_string(),
            Self::Project(project) => project.to_string(),
            Self::Hooks(hooks) => hooks.to_string(),
        }
    }

    /// Kills it until it is proven dead; how it ended.
    ///
    /// # Errors
    /// [`DriverError::Alive`] when it is not after `patience`.
    pub(in crate::driver) fn end(&self, patience: Duration) -> Result<String, DriverError> {
        let target = self.target();
        let end = BootTime::now() + patience;
        let mut failed = None;
        loop {
            // Asked once more after the last attempt, however long that took.
            let late = BootTime::now() >= end;
            let why = match target.life() {
                Ok(Life::Dead(how)) => return Ok(how),
                Ok(Life::Running) => "it still runs after it was killed".to_owned(),
                Err(why) => why,
            };
            if late {
                let why = failed.map_or(why.clone(), |failed| format!("{why}; killing it: {failed}"));
                return Err(DriverError::Alive { what: self.name(), why });
            }
            failed = target.kill().err();
            thread::sleep(PASS);
        }
    }
}

/// What happens to it.
#[derive(Debug)]
pub(super) enum Event {
    /// The manager started it, or not.
    Begun(Result<(), String>),
    /// Nothing of it runs any more, and nobody asked for that.
    Ended(String),
    /// It was killed and is proven dead.
    Gone,
}

struct Guard {
    target: Arc<dyn Target>,
    events: Sender<Heard>,
    /// Set for the thread that starts it.
    given_up: Arc<AtomicBool>,
    /// Set by that thread: it will do nothing more.
    begun: Arc<AtomicBool>,
    until: Option<BootTime>,
    grace: Option<BootTime>,
    killing: Option<String>,
    ended: Option<String>,
    failed: Option<String>,
}

/// Starts it and holds it until everything is dead.
pub(super) fn guard(
    external: &External,
    until: Option<BootTime>,
    sender: &Sender<Heard>,
    events: &Receiver<Heard>,
    answer: &mut dyn FnMut(&Answer),
) {
    let alarm = match Alarm::new(sender).and_then(|alarm| alarm.set(until).map(|()| alarm)) {
        Ok(alarm) => alarm,
        Err(error) => return answer(&Answer::Failed(format!("no timer can be set: {error}"))),
    };
    if until.is_some_and(|until| until <= BootTime::now()) {
        return answer(&Answer::Failed("its time is over already".into()));
    }
    let mut guard = Guard {
        target: external.target(),
        events: sender.clone(),
        given_up: Arc::default(),
        begun: Arc::default(),
        until,
        grace: None,
        killing: None,
        ended: None,
        failed: None,
    };
    guard.begin();
    while let Ok(event) = events.recv() {
        match event {
            Heard::External(Event::Gone) => break,
            Heard::External(Event::Begun(Ok(()))) => answer(&Answer::Started(None)),
            event => guard.hear(event),
        }
        // What was said while the machine slept is heard before anything is judged by the clock.
        if events.is_empty() {
            guard.judge(&alarm);
        }
    }
    answer(&match (guard.failed, guard.ended, guard.killing) {
        (Some(why), ..) => Answer::Failed(why),
        (None, Some(how), _) => Answer::Dead(how),
        (None, None, why) => Answer::Dead(format!("killed: {}", why.unwrap_or_default())),
    });
}

impl Guard {
    /// Starts it in a thread, which then looks whether it lives.
    fn begin(&self) {
        let (target, events) = (Arc::clone(&self.target), self.events.clone());
        let (given_up, begun) = (Arc::clone(&self.given_up), Arc::clone(&self.begun));
        thread::spawn(move || {
            let outcome = target.start(&given_up);
            let runs = outcome.is_ok();
            begun.store(true, Ordering::SeqCst);
            let _ = events.send(Heard::External(Event::Begun(outcome)));
            while runs && !given_up.load(Ordering::SeqCst) {
                // That it cannot be asked does not end it; its deadline does.
                if let Ok(Life::Dead(how)) = target.life() {
                    let _ = events.send(Heard::External(Event::Ended(how)));
                    return;
                }
                thread::sleep(LOOK);
            }
        });
    }

    fn hear(&mut self, event: Heard) {
        match event {
            Heard::Order(Order::Until(until)) => self.until = Some(until),
            Heard::Order(Order::Stop(grace)) => {
                let end = BootTime::now() + grace;
                self.grace = Some(self.grace.map_or(end, |earlier| earlier.min(end)));
                let target = Arc::clone(&self.target);
                // If it cannot be asked, it is killed after its grace.
                thread::spawn(move || target.ask_to_end(grace));
            }
            Heard::Order(Order::Kill) => self.kill("on order"),
            Heard::Order(Order::Start(_)) => self.kill("a second service was to be started beside it"),
            Heard::Orphaned(why) => self.kill(&why),
            Heard::External(Event::Begun(Err(why))) => {
                self.failed.get_or_insert(why);
                self.kill("it did not start");
            }
            Heard::External(Event::Ended(how)) => {
                if self.killing.is_none() {
                    self.ended = Some(how);
                    // To leave nothing that the manager could start again.
                    self.kill("it ended");
                }
            }
            Heard::External(_) | Heard::Process(_) | Heard::Alarm => {}
        }
    }

    fn judge(&mut self, alarm: &Alarm) {
        let now = BootTime::now();
        if self.until.is_some_and(|until| until <= now) {
            self.kill("its time was over");
        } else if self.grace.is_some_and(|end| end <= now) {
            self.kill("it did not end within its grace");
        }
        let next = [self.until, self.grace].into_iter().flatten().min();
        if self.killing.is_none() && alarm.set(next).is_err() {
            self.kill("no timer can be set");
        }
    }

    /// Kills it in a thread, until it is dead and nothing is on the way that would start it.
    fn kill(&mut self, why: &str) {
        if self.killing.is_some() {
            return;
        }
        self.killing = Some(why.to_owned());
        self.given_up.store(true, Ordering::SeqCst);
        let (target, events, begun) = (Arc::clone(&self.target), self.events.clone(), Arc::clone(&self.begun));
        thread::spawn(move || {
            loop {
                // In this order: what the last act of starting did is seen by the look that follows.
                let no_more_begins = begun.load(Ordering::SeqCst);
                let killed = target.kill();
                if no_more_begins && killed.is_ok() && matches!(target.life(), Ok(Life::Dead(_))) {
                    let _ = events.send(Heard::External(Event::Gone));
                    return;
                }
                thread::sleep(PASS);
            }
        });
    }
}
