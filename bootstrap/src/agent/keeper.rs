//! The keeper: the one thread that has the driver, so that what is asked of the service is done in order.
//!
//! A service is written down before anything of it can run, and forgotten only once it is proven dead. Layer: the edge.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, unbounded};

use super::machine::Event;
use super::persist::AgentDir;
use crate::clock::BootTime;
use crate::driver::{Driver, DriverError, Life, Start};

/// How often a running service is looked at.
const LOOK: Duration = Duration::from_millis(500);

/// What is asked of the keeper.
pub(super) enum Job {
    /// Prove dead what an earlier agent left.
    Reclaim,
    /// Start the service.
    Start(Box<Start>),
    /// It may live until then.
    Extend(BootTime),
    /// Stop it, and kill it after this.
    Stop(Duration),
    /// Kill it.
    Kill,
}

/// Starts the keeper. Without a driver nothing is ever started, and nothing was.
pub(super) fn start(driver: Option<Box<dyn Driver>>, directory: Arc<AgentDir>, events: Sender<Event>) -> Sender<Job> {
    let (jobs, asked) = unbounded();
    let keeper = Keeper { driver, directory, events, runs: false };
    thread::spawn(move || keeper.run(&asked));
    jobs
}

struct Keeper {
    driver: Option<Box<dyn Driver>>,
    directory: Arc<AgentDir>,
    events: Sender<Event>,
    runs: bool,
}

impl Keeper {
    fn run(mut self, asked: &Receiver<Job>) {
        loop {
            let event = match asked.recv_timeout(LOOK) {
                Ok(job) => self.go(job),
                Err(RecvTimeoutError::Timeout) => self.look(),
                Err(RecvTimeoutError::Disconnected) => return,
            };
            if let Some(event) = event
                && self.events.send(event).is_err()
            {
                return;
            }
        }
    }

    fn go(&mut self, job: Job) -> Option<Event> {
        let Some(driver) = &mut self.driver else {
            return match job {
                Job::Reclaim => Some(Event::Reclaimed(Ok(()))),
                Job::Start(_) => Some(Event::Started(Err("the pins name no service".into()))),
                Job::Extend(_) => None,
                Job::Stop(_) | Job::Kill => Some(Event::Stopped(Ok(()))),
            };
        };
        match job {
            Job::Reclaim => {
                let left = self.directory.left_service().map_err(|error| told(&error));
                let dead = left.and_then(|left| match left {
                    Some(left) => driver.reclaim(&left).map_err(|error| told(&error)),
                    None => Ok(()),
                });
                Some(Event::Reclaimed(dead.and_then(|()| self.forget())))
            }
            Job::Start(start) => Some(self.start(&start)),
            Job::Extend(until) => {
                // The old deadline stands then, and the service dies with it: safe, and seen as its end.
                let _ = driver.extend(until);
                None
            }
            Job::Stop(grace) => {
                let stopped = driver.stop(grace).map_err(|error| told(&error));
                Some(self.stopped(stopped))
            }
            Job::Kill => {
                let killed = driver.kill().map_err(|error| told(&error));
                Some(self.stopped(killed))
            }
        }
    }

    fn start(&mut self, start: &Start) -> Event {
        let Some(driver) = &mut self.driver else {
            return Event::Started(Err("the pins name no service".into()));
        };
        let directory = Arc::clone(&self.directory);
        let mut written =
            |instance: &crate::driver::Instance| directory.note_service(instance).map_err(std::io::Error::other);
        match driver.start(start, &mut written) {
            Ok(instance) => {
                // The same service with more marks; what was written before finds it, too.
                let _ = self.directory.note_service(&instance);
                self.runs = true;
                Event::Started(Ok(()))
            }
            // Not proven dead, so neither forgotten nor started again.
            Err(error @ DriverError::Alive { .. }) => Event::Stopped(Err(told(&error))),
            Err(error) => {
                let _ = self.forget();
                Event::Started(Err(told(&error)))
            }
        }
    }

    fn stopped(&mut self, result: Result<(), String>) -> Event {
        if result.is_ok() {
            self.runs = false;
            // Proven dead twice is no harm: the next agent asks again if this cannot be written.
            let _ = self.forget();
        }
        Event::Stopped(result)
    }

    /// Notices that the service ended by itself.
    fn look(&mut self) -> Option<Event> {
        let driver = self.driver.as_mut().filter(|_| self.runs)?;
        match driver.life() {
            Ok(Life::Dead(how)) => {
                self.runs = false;
                let _ = self.forget();
                Some(Event::Ended(how))
            }
            // What cannot be told counts as alive.
            Ok(Life::Running) | Err(_) => None,
        }
    }

    fn forget(&self) -> Result<(), String> {
        self.directory.forget_service().map_err(|error| told(&error))
    }
}

/// An error with its causes, in one line.
pub(super) fn told(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |error| error.source());
    causes.fold(error.to_string(), |line, cause| format!("{line}: {cause}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::{Instance, ServiceRole};
    use std::io;
    use std::sync::Mutex;

    /// A driver whose service is a word in a list.
    struct Words(Arc<Mutex<Vec<String>>>, bool);

    impl Words {
        fn say(&self, word: &str) {
            self.0.lock().unwrap().push(word.to_owned());
        }
    }

    impl Driver for Words {
        fn start(
            &mut self,
            start: &Start,
            written: &mut dyn FnMut(&Instance) -> io::Result<()>,
        ) -> Result<Instance, DriverError> {
            let instance = Instance { role: start.role, term: start.term, marks: serde_json::json!({ "word": 1 }) };
            let failed = |source| DriverError::Use { what: "write".into(), source };
            written(&instance).map_err(failed)?;
            self.say("start");
            Ok(instance)
        }
        fn extend(&mut self, _: BootTime) -> Result<(), DriverError> {
            self.say("extend");
            Ok(())
        }
        fn stop(&mut self, _: Duration) -> Result<(), DriverError> {
            self.say("stop");
            match self.1 {
                true => Err(DriverError::Alive { what: "word".into(), why: "it stays".into() }),
                false => Ok(()),
            }
        }
        fn kill(&mut self) -> Result<(), DriverError> {
            self.say("kill");
            Ok(())
        }
        fn life(&mut self) -> Result<Life, DriverError> {
            Ok(Life::Running)
        }
        fn reclaim(&mut self, left: &Instance) -> Result<(), DriverError> {
            self.say(&format!("reclaim term {}", left.term));
            Ok(())
        }
    }

    #[test]
    fn a_service_is_written_down_until_it_is_proven_dead() {
        let node = tempfile::tempdir().unwrap();
        std::fs::create_dir(node.path().join(".node")).unwrap();
        let directory = Arc::new(AgentDir::open(node.path()).unwrap());
        let said = Arc::new(Mutex::new(Vec::new()));
        let (events, happened) = unbounded();
        let jobs = start(Some(Box::new(Words(Arc::clone(&said), true))), Arc::clone(&directory), events.clone());
        let next = || happened.recv_timeout(Duration::from_secs(60)).unwrap();
        jobs.send(Job::Reclaim).unwrap();
        assert!(matches!(next(), Event::Reclaimed(Ok(()))));
        let environment = Vec::new();
        let (role, directory_of) = (ServiceRole::Leader, node.path().to_owned());
        let order = Start { role, term: 7, until: None, directory: directory_of, environment };
        jobs.send(Job::Start(Box::new(order))).unwrap();
        assert!(matches!(next(), Event::Started(Ok(()))));
        assert_eq!(directory.left_service().unwrap().unwrap().term, 7);
        jobs.send(Job::Stop(Duration::ZERO)).unwrap();
        assert!(matches!(next(), Event::Stopped(Err(_))));
        assert!(directory.left_service().unwrap().is_some(), "it may still live");
        // The agent ends here; the next one proves it dead first.
        drop(jobs);
        let jobs = start(Some(Box::new(Words(Arc::clone(&said), false))), Arc::clone(&directory), events);
        jobs.send(Job::Reclaim).unwrap();
        assert!(matches!(next(), Event::Reclaimed(Ok(()))));
        assert!(directory.left_service().unwrap().is_none());
        assert_eq!(*said.lock().unwrap(), ["start", "stop", "reclaim term 7"]);
    }
}
