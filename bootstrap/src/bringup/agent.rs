//! The agent of the node: started, asked, and waited for until it is what was ordered.
//!
//! Bring-up knows an agent only by what it answers on the socket in the node directory; an agent that answers is never
//! started again. What its answers mean is decided by [`judge`], which is pure. Layer: starts a process; asks a socket.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use manifests::refusal::{Class, exit};
use serde::Serialize;
use snapkit::cancel::Cancel;

use super::{BringUpError, Hurdle, Surroundings};
use crate::agent::persist::AgentDir;
use crate::agent::view::{Mode, RequestKind};
use crate::client::{Asked, Client};
use crate::driver::ServiceRole;
use crate::surfaces::state::State;

/// The directory of the agent's files in a node directory.
const DIRECTORY: &str = ".node/agent";
/// How often the agent is asked.
const PAUSE: Duration = Duration::from_millis(200);
/// How much of the end of its log is shown when it ends.
const LOG_END: u64 = 2000;

/// What an agent said of itself.
#[derive(Debug, Clone, Serialize)]
pub struct Seen {
    /// The name of its node.
    pub node: String,
    /// The run of the agent.
    pub instance: String,
    /// What it is doing.
    pub mode: Mode,
    /// Why, in a sentence.
    pub why: String,
    /// What a person should do.
    pub next: Option<String>,
    /// The class of what it refuses.
    #[serde(skip)]
    pub class: Option<Class>,
    /// The highest term it has seen.
    pub term: u64,
    /// Who leads.
    pub holder: Option<String>,
    /// Whether the agent lives.
    pub healthy: bool,
    /// Whether the node does what it is there for.
    pub ready: bool,
    /// Why it does, or does not.
    pub ready_why: String,
    /// As what the service runs; `None` while it does not.
    pub service: Option<String>,
    /// What the service's role probe answered last.
    pub service_role: Option<String>,
    /// The snapshot that is ready or active.
    pub applied: Option<String>,
}

/// The agent of one node directory, as it can be asked.
pub trait Ask {
    /// What it says; `None` if nobody answers.
    fn look(&self) -> Option<Seen>;

    /// Asks it to lead.
    ///
    /// # Errors
    /// Why it does not.
    fn lead(&self, reason: &str) -> Result<(), String>;
}

impl Ask for Client {
    fn look(&self) -> Option<Seen> {
        let State { health, ready, view, .. } = self.state().ok()?;
        Some(Seen {
            node: view.node,
            instance: view.instance,
            mode: view.mode,
            why: view.why,
            next: view.next,
            class: Class::ALL.iter().copied().find(|class| view.class.as_deref() == Some(class.name())),
            term: view.term,
            holder: view.holder.filter(|holder| !holder.released).map(|holder| holder.node),
            healthy: health.ok,
            ready: ready.ok,
            ready_why: ready.why,
            service: view.service.running_as,
            service_role: view.service.role,
            applied: view.chain.applied,
        })
    }

    fn lead(&self, reason: &str) -> Result<(), String> {
        match self.request(RequestKind::Promote, reason) {
            Ok(Asked::Accepted(_)) => Ok(()),
            Ok(Asked::Refused(why)) => Err(why),
            Err(error) => Err(error.to_string()),
        }
    }
}

/// What is to be done after an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is what was ordered.
    Done,
    /// It is on its way.
    Wait,
    /// It could lead now, if asked to.
    MayLead,
    /// Somebody must do something first.
    Stuck(Hurdle, String),
}

/// Whether an agent is what was ordered. An agent that was elected leads, which a follower may.
pub fn judge(seen: &Seen, role: ServiceRole) -> Verdict {
    let settled = seen.healthy && seen.ready;
    match (seen.mode, role) {
        (Mode::Degraded, _) => Verdict::Stuck(Hurdle::Degraded, seen.why.clone()),
        (Mode::Refused, _) => Verdict::Stuck(Hurdle::Refused(seen.class), seen.why.clone()),
        (Mode::Paused, _) => Verdict::Stuck(Hurdle::Paused, seen.why.clone()),
        (Mode::Leader, _) if settled => Verdict::Done,
        (Mode::Follower | Mode::Candidate, ServiceRole::Follower) if settled => Verdict::Done,
        // A leader of a group that elects becomes one by itself; one that is appointed is told so.
        (Mode::Follower | Mode::Candidate, ServiceRole::Leader) if seen.healthy => Verdict::MayLead,
        _ => Verdict::Wait,
    }
}

/// Starts the agent so that it outlives this process and its terminal; what it prints goes to its log.
///
/// # Errors
/// [`BringUpError::Io`]
pub fn start(node: &Path, surroundings: &Surroundings<'_>) -> Result<Child, BringUpError> {
    let directory = node.join(DIRECTORY);
    let log = directory.join("log");
    let open = || {
        DirBuilder::new().recursive(true).mode(0o700).create(&directory)?;
        OpenOptions::new().create(true).append(true).mode(0o600).open(&log)
    };
    let file = open().map_err(BringUpError::io(format!("open {}", log.display())))?;
    let both = file.try_clone().map_err(BringUpError::io(format!("open {}", log.display())))?;
    let mut command = command(node, surroundings);
    // A group of its own: what is typed at this terminal is not meant for it.
    command.stdin(Stdio::null()).stdout(file).stderr(both).process_group(0);
    command.spawn().map_err(BringUpError::io(format!("start {}", surroundings.program.display())))
}

/// The command that is the agent.
pub fn command(node: &Path, surroundings: &Surroundings<'_>) -> Command {
    let mut command = Command::new(&surroundings.program);
    command.arg("agent").arg(node).current_dir("/");
    if let Some(config) = &surroundings.config {
        command.env("SNAPKIT_CONFIG", config);
    }
    command
}

/// The agent that keeps a node already; `None` if none does.
///
/// One that was started a moment ago keeps the node and does not answer yet: it is waited for, because nothing may be done
/// to a node beside its agent.
///
/// # Errors
/// [`BringUpError::Agent`] when it does not answer in time.
pub fn running(
    ask: &dyn Ask,
    node: &Path,
    patience: Duration,
    cancel: &Cancel,
    tell: &mut dyn FnMut(&str),
) -> Result<Option<Seen>, BringUpError> {
    let began = Instant::now();
    let mut told = false;
    loop {
        if let Some(seen) = ask.look() {
            return Ok(Some(seen));
        }
        if !AgentDir::is_kept(node) {
            return Ok(None);
        }
        if !told {
            tell("an agent keeps this node and does not answer yet");
            told = true;
        }
        if began.elapsed() > patience {
            let what = format!("an agent keeps {} and does not answer after {} s", node.display(), patience.as_secs());
            let next = format!("{} has what it said; end it if it hangs", log_of(node).display());
            return Err(BringUpError::Agent { what, next, hurdle: Hurdle::Late });
        }
        interrupted(cancel)?;
        thread::sleep(PAUSE);
    }
}

fn interrupted(cancel: &Cancel) -> Result<(), BringUpError> {
    cancel.check().map_err(|_| BringUpError::Io {
        what: "wait any longer for the agent".into(),
        source: io::ErrorKind::Interrupted.into(),
    })
}

/// Waits until the agent is what was ordered; asks it to lead where that was ordered, once.
///
/// A `child` that ends because another agent keeps the node already is taken out, and that one is waited for: a bring-up
/// that was killed may have started it a moment ago.
///
/// # Errors
/// [`BringUpError::Agent`] when it ends, says that it cannot, or is not there in time.
pub fn wait(
    ask: &dyn Ask,
    child: &mut Option<Child>,
    log: &Path,
    role: ServiceRole,
    patience: Duration,
    cancel: &Cancel,
    tell: &mut dyn FnMut(&str),
) -> Result<Seen, BringUpError> {
    let stuck = |hurdle, what: String, next: String| Err(BringUpError::Agent { what, next, hurdle });
    let look = "look with `bootstrap status`; the agent goes on, and the same command only waits again";
    let began = Instant::now();
    let (mut asked, mut said, mut last) = (false, String::new(), None);
    loop {
        let ended = child.as_mut().map_or(Ok(None), Child::try_wait).map_err(BringUpError::io("wait for the agent"))?;
        if ended.is_some_and(|status| status.code() == Some(i32::from(exit::REFUSED))) {
            tell("another agent keeps this node already");
            *child = None;
        } else if let Some(status) = ended {
            let end = end_of(log).unwrap_or_default();
            let what = format!("the agent ended with {status}; the end of its log:\n{end}");
            return stuck(Hurdle::Ended(status.code()), what, format!("{} has all of it", log.display()));
        }
        if let Some(seen) = ask.look() {
            let line = format!("the agent is {}: {}", seen.mode.role(), seen.why);
            if line != said {
                tell(&line);
                said = line;
            }
            match judge(&seen, role) {
                Verdict::Done => return Ok(seen),
                Verdict::Stuck(hurdle, why) => {
                    let next = seen.next.unwrap_or_else(|| look.to_owned());
                    return stuck(hurdle, format!("the agent is {}: {why}", seen.mode.role()), next);
                }
                Verdict::MayLead if !asked => {
                    asked = true;
                    if let Err(why) = ask.lead("bootstrap --role leader") {
                        let next = "see who leads with `bootstrap status NODE-DIR`, or stay a follower".to_owned();
                        return stuck(Hurdle::NotLeading, format!("the agent cannot lead: {why}"), next);
                    }
                }
                Verdict::MayLead | Verdict::Wait => {}
            }
            last = Some(seen);
        }
        if began.elapsed() > patience {
            let follows = |seen: &Seen| matches!(seen.mode, Mode::Follower | Mode::Candidate);
            let not_leading = role == ServiceRole::Leader && last.as_ref().is_some_and(follows);
            let hurdle = if not_leading { Hurdle::NotLeading } else { Hurdle::Late };
            let found = last.map_or_else(
                || "nobody answers on its socket".to_owned(),
                |seen| format!("it is {} ({}), and ready: {}", seen.mode.role(), seen.why, seen.ready_why),
            );
            let what = format!("the agent is no ready {} after {} s: {found}", role.as_str(), patience.as_secs());
            return stuck(hurdle, what, look.to_owned());
        }
        interrupted(cancel)?;
        thread::sleep(PAUSE);
    }
}

/// Where the log of a node's agent is.
pub fn log_of(node: &Path) -> PathBuf {
    node.join(DIRECTORY).join("log")
}

fn end_of(log: &Path) -> io::Result<String> {
    let mut file = File::open(log)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(LOG_END)))?;
    let mut end = Vec::new();
    file.take(LOG_END).read_to_end(&mut end)?;
    Ok(String::from_utf8_lossy(&end).trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    fn seen(mode: Mode, ready: bool) -> Seen {
        Seen {
            node: "a".into(),
            instance: "1".into(),
            mode,
            why: "so".into(),
            next: None,
            class: None,
            term: 1,
            holder: None,
            healthy: true,
            ready,
            ready_why: "because".into(),
            service: None,
            service_role: None,
            applied: None,
        }
    }

    /// Gives one answer after the other, the last one for ever.
    struct Script(RefCell<Vec<Option<Seen>>>, Result<(), String>, RefCell<u32>);

    impl Ask for Script {
        fn look(&self) -> Option<Seen> {
            let mut left = self.0.borrow_mut();
            if left.len() > 1 { left.remove(0) } else { left[0].clone() }
        }

        fn lead(&self, _: &str) -> Result<(), String> {
            *self.2.borrow_mut() += 1;
            self.1.clone()
        }
    }

    fn waited(script: &Script, role: ServiceRole, patience: u64) -> Result<Seen, BringUpError> {
        let cancel = Cancel::default();
        let patience = Duration::from_millis(patience);
        wait(script, &mut None, Path::new("/nowhere"), role, patience, &cancel, &mut |_| {})
    }

    #[test]
    fn an_agent_is_waited_for_until_it_is_ready_in_its_role() {
        let answers = vec![
            None,
            Some(seen(Mode::Starting, false)),
            Some(seen(Mode::Follower, false)),
            Some(seen(Mode::Follower, true)),
        ];
        let script = Script(RefCell::new(answers), Ok(()), RefCell::new(0));
        assert!(waited(&script, ServiceRole::Follower, 60_000).unwrap().ready);
        assert_eq!(*script.2.borrow(), 0);
    }

    #[test]
    fn a_leader_is_asked_to_lead_once() {
        let answers = vec![
            Some(seen(Mode::Follower, true)),
            Some(seen(Mode::Follower, true)),
            Some(seen(Mode::Promoting, false)),
            Some(seen(Mode::Leader, true)),
        ];
        let script = Script(RefCell::new(answers), Ok(()), RefCell::new(0));
        assert_eq!(waited(&script, ServiceRole::Leader, 60_000).unwrap().mode, Mode::Leader);
        assert_eq!(*script.2.borrow(), 1);
        let refused =
            Script(RefCell::new(vec![Some(seen(Mode::Follower, true))]), Err("b leads".into()), RefCell::new(0));
        assert!(waited(&refused, ServiceRole::Leader, 60_000).unwrap_err().to_string().contains("b leads"));
    }

    #[test]
    fn an_agent_that_a_person_must_help_is_not_waited_for_and_neither_is_silence_for_ever() {
        let stuck = Script(RefCell::new(vec![Some(seen(Mode::Degraded, false))]), Ok(()), RefCell::new(0));
        assert!(waited(&stuck, ServiceRole::Follower, 60_000).unwrap_err().to_string().contains("degraded"));
        let silent = Script(RefCell::new(vec![None]), Ok(()), RefCell::new(0));
        assert!(waited(&silent, ServiceRole::Follower, 1).unwrap_err().to_string().contains("nobody answers"));
    }
}
