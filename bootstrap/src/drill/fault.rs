//! Faults: something breaks on a node, on purpose, and whoever broke it says when, by the clock of that node.
//!
//! Only the processes of the one node directory are touched: its agent and the guard of its service are known by the locks that
//! they hold, the service by descending from its guard. Every fault but `destroy-state` keeps the state and can be healed.
//! Documented in `docs/drills.md`, "Faults". Layer: the edge.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use jiff::Timestamp;
use rustix::process::Signal;
use serde::{Deserialize, Serialize};

use super::series::{boot_id, now_us};
use crate::agent::persist::AgentDir;
use crate::bringup::{Surroundings, agent};
use crate::clock::BootTime;
use crate::command::{self, Leftovers};
use crate::driver::procfs::{self, Process};

/// Where it is noted on a node what was injected.
const FAULTS: &str = ".node/faults.jsonl";
/// How long processes may take to be gone after they were killed.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long an agent may take to end in order.
const STOP_PATIENCE: Duration = Duration::from_secs(120);

/// What breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// The agent ends in order, and its service with it, as before a reboot.
    Stop,
    /// Agent, guard and service are gone at once, as when the machine loses power.
    Kill,
    /// Agent, guard and service stand still, as when the machine is frozen.
    Pause,
    /// The node cannot be reached, by a command of the operator.
    Partition,
    /// The node cannot reach the store, by a command of the operator.
    StoreBlock,
    /// The node directory is removed, with the state in it.
    DestroyState,
}

impl Kind {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Kill => "kill",
            Self::Pause => "pause",
            Self::Partition => "partition",
            Self::StoreBlock => "store-block",
            Self::DestroyState => "destroy-state",
        }
    }

    /// Whether it is done by a command of the operator, because nothing here knows how.
    pub fn needs_command(self) -> bool {
        matches!(self, Self::Partition | Self::StoreBlock)
    }
}

/// A fault that was injected, or healed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Injected {
    /// What.
    pub fault: String,
    /// The node directory.
    pub node: String,
    /// The drill that it belongs to.
    pub drill: String,
    /// Whether it was taken back instead.
    pub healed: bool,
    /// Immediately before the first thing was touched, in microseconds since boot.
    pub at_mono_us: u64,
    /// When it was seen to be so.
    pub done_mono_us: u64,
    /// The boot in which these times count.
    pub boot_id: String,
    /// When, by the wall clock.
    pub wall: Timestamp,
    /// The processes that were touched.
    pub processes: Vec<i32>,
}

/// Why nothing was broken, or not all of it.
#[derive(Debug, thiserror::Error)]
pub enum FaultError {
    /// Nothing was touched.
    #[error("{what}")]
    Refused {
        /// What was expected and found.
        what: String,
        /// What to do.
        next: String,
    },
    /// Something was touched, and it is not what was asked for.
    #[error("{0}")]
    Half(String),
    /// The machine failed.
    #[error("cannot {what}")]
    Io {
        /// What was to be done.
        what: String,
        /// What the system said.
        source: io::Error,
    },
}

fn failed(what: impl Into<String>) -> impl FnOnce(io::Error) -> FaultError {
    move |source| FaultError::Io { what: what.into(), source }
}

fn refused(what: impl Into<String>, next: impl Into<String>) -> FaultError {
    FaultError::Refused { what: what.into(), next: next.into() }
}

/// What is running for a node.
#[derive(Debug, Default, PartialEq, Eq)]
struct Running {
    agent: Option<Process>,
    guard: Option<Process>,
    /// What descends from both, the guard left out.
    others: Vec<Process>,
}

impl Running {
    fn of(node: &Path) -> Result<Running, FaultError> {
        let directory = AgentDir::path_in(node);
        let holder =
            |name: &str| procfs::lock_holder(&directory.join(name)).map_err(failed("look who holds its locks"));
        let (agent, guard) = (holder("lock")?, holder("guard.lock")?);
        let all = procfs::all().map_err(failed("list the processes"))?;
        let parents: Vec<i32> = [agent, guard].into_iter().flatten().map(|process| process.pid).collect();
        let mut others: Vec<Process> = procfs::descendants(&all, &parents).iter().map(|stat| stat.process).collect();
        others.retain(|process| Some(*process) != agent && Some(*process) != guard);
        others.sort_unstable();
        others.dedup();
        Ok(Running { agent, guard, others })
    }

    fn all(&self) -> Vec<Process> {
        // The agent first: it would only notice what happens to the others.
        self.agent.into_iter().chain(self.guard).chain(self.others.iter().copied()).collect()
    }
}

/// Breaks something.
///
/// `command` is what does it for a [`Kind::needs_command`]. `destroy` must be the name of the node directory for
/// [`Kind::DestroyState`], and is refused otherwise.
///
/// # Errors
/// [`FaultError`]; with [`FaultError::Refused`] nothing was touched.
pub fn inject(
    kind: Kind,
    node: &Path,
    drill: &str,
    command: &[String],
    destroy: Option<&str>,
) -> Result<Injected, FaultError> {
    check_command(kind, command)?;
    if kind != Kind::DestroyState && destroy.is_some() {
        return Err(refused("--destroy belongs to destroy-state", "leave it out"));
    }
    let mut injected = begin(kind, node, drill, false)?;
    let _alone = alone(node)?;
    // Begun and never done: whoever began it is gone, because nobody else does anything to this node now.
    let begun = noted(node, kind, drill).filter(|last| !last.healed);
    if let Some(done) = begun.as_ref().filter(|last| last.done_mono_us > 0) {
        return Ok(done.clone());
    }
    if kind != Kind::DestroyState {
        note(node, &injected)?;
    }
    let acted = match kind {
        _ if !command.is_empty() => by_command(command, &mut injected),
        Kind::Stop => stop(node, &mut injected),
        Kind::Kill => kill(node, &mut injected, begun.is_none()),
        Kind::Pause => signal_all(node, Signal::STOP, &mut injected),
        Kind::Partition | Kind::StoreBlock => unreachable!("it was checked that there is a command"),
        Kind::DestroyState => destroy_state(node, destroy, &mut injected),
    };
    match (acted, begun) {
        // What was begun on may have ended by itself since then.
        (Err(FaultError::Refused { .. }), Some(begun))
            if matches!(kind, Kind::Stop | Kind::Kill) && Running::of(node)?.all().is_empty() =>
        {
            injected = begun;
        }
        (Err(refused @ FaultError::Refused { .. }), None) if kind != Kind::DestroyState => {
            // Nothing was touched: whoever asks again has not begun.
            note(node, &Injected { healed: true, ..injected })?;
            return Err(refused);
        }
        (acted, _) => acted?,
    }
    injected.done_mono_us = now_us();
    if kind != Kind::DestroyState {
        note(node, &injected)?;
    }
    Ok(injected)
}

/// Waits until nobody else breaks or heals this node, and keeps others from it: an orchestrator that was killed may have left
/// one that is still at work.
fn alone(node: &Path) -> Result<File, FaultError> {
    let path = node.join(FAULTS);
    let open = || File::options().create(true).append(true).mode(0o600).open(&path);
    let lock = |file: File| file.lock().map(|()| file);
    open().and_then(lock).map_err(failed(format!("lock {}", path.display())))
}

/// Takes a fault back: the frozen go on, an agent that is gone is started again, or `command` is run.
///
/// # Errors
/// [`FaultError`]; with [`FaultError::Refused`] nothing was touched.
pub fn heal(kind: Kind, node: &Path, drill: &str, command: &[String]) -> Result<Injected, FaultError> {
    let mut healed = begin(kind, node, drill, true)?;
    let _alone = alone(node)?;
    if let Some(before) = noted(node, kind, drill).filter(|last| last.healed) {
        return Ok(before);
    }
    match kind {
        Kind::Pause => signal_all(node, Signal::CONT, &mut healed)?,
        Kind::Partition | Kind::StoreBlock => {
            check_command(kind, command)?;
            by_command(command, &mut healed)?;
        }
        Kind::Stop | Kind::Kill => {
            if Running::of(node)?.agent.is_some() {
                return Err(refused("an agent runs here already", "nothing is to be healed"));
            }
            if command.is_empty() { start(node, &mut healed)? } else { by_command(command, &mut healed)? }
        }
        Kind::DestroyState => {
            return Err(refused(
                "a state that was destroyed is not healed",
                "bring the node up again: bootstrap --from STRING NODE-DIR",
            ));
        }
    }
    healed.done_mono_us = now_us();
    note(node, &healed)?;
    Ok(healed)
}

fn check_command(kind: Kind, command: &[String]) -> Result<(), FaultError> {
    match (kind, command.is_empty()) {
        (kind, true) if kind.needs_command() => Err(refused(
            format!("{} is done by a command, and none is given", kind.word()),
            "give it after `--`, or in the inventory",
        )),
        (Kind::DestroyState, false) => Err(refused("destroy-state takes no command", "leave out what follows `--`")),
        _ => Ok(()),
    }
}

/// What was noted here last for the same drill and fault, so that an orchestrator that was killed can ask again.
fn noted(node: &Path, kind: Kind, drill: &str) -> Option<Injected> {
    let text = fs::read_to_string(node.join(FAULTS)).ok()?;
    let lines = text.lines().filter_map(|line| serde_json::from_str::<Injected>(line).ok());
    let mut of_this = lines.filter(|one| one.fault == kind.word() && one.drill == drill);
    of_this.next_back()
}

/// Notes an injection on the node, durably; one that is only begun has no end yet.
fn note(node: &Path, injected: &Injected) -> Result<(), FaultError> {
    let path = node.join(FAULTS);
    let write = || -> io::Result<()> {
        let mut file = File::options().create(true).append(true).mode(0o600).open(&path)?;
        let mut line = serde_json::to_vec(injected)?;
        line.push(b'\n');
        file.write_all(&line)?;
        file.sync_all()
    };
    write().map_err(failed(format!("write {}", path.display())))
}

fn begin(kind: Kind, node: &Path, drill: &str, healed: bool) -> Result<Injected, FaultError> {
    let path = fs::canonicalize(node).map_err(failed(format!("open {}", node.display())))?;
    if !path.join(".node").is_dir() {
        let what = format!("{} is no node directory: it has no .node", path.display());
        return Err(refused(what, "name the directory that `bootstrap --from` made"));
    }
    Ok(Injected {
        fault: kind.word().to_owned(),
        node: path.display().to_string(),
        drill: drill.to_owned(),
        healed,
        at_mono_us: now_us(),
        done_mono_us: 0,
        boot_id: boot_id().map_err(failed("tell this boot from others"))?,
        wall: Timestamp::now(),
        processes: Vec::new(),
    })
}

/// What runs, at least an agent; times of the injection begin here.
fn running(node: &Path, injected: &mut Injected) -> Result<Running, FaultError> {
    let running = Running::of(node)?;
    if running.agent.is_none() && running.guard.is_none() {
        let what = format!("neither an agent nor a guard runs for {}", injected.node);
        return Err(refused(what, "nothing can be broken where nothing runs; see `bootstrap status`"));
    }
    injected.processes = running.all().iter().map(|process| process.pid).collect();
    (injected.at_mono_us, injected.wall) = (now_us(), Timestamp::now());
    Ok(running)
}

fn send(process: Process, signal: Signal) -> Result<(), FaultError> {
    process.signal(signal).map_err(failed(format!("send a signal to process {}", process.pid)))
}

fn stop(node: &Path, injected: &mut Injected) -> Result<(), FaultError> {
    let running = running(node, injected)?;
    let Some(agent) = running.agent else {
        let what = "no agent runs, and the guard of an earlier one still holds the service".to_owned();
        return Err(refused(what, "use `kill`"));
    };
    send(agent, Signal::TERM)?;
    let end = BootTime::now() + STOP_PATIENCE;
    loop {
        let left = Running::of(node)?;
        if !agent.runs() && left.guard.is_none() {
            return Ok(());
        }
        if BootTime::now() >= end {
            let seconds = STOP_PATIENCE.as_secs();
            return Err(FaultError::Half(format!("agent or guard still run {seconds} s after SIGTERM")));
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// `whole`: nothing of it was killed before, so the service must be there.
fn kill(node: &Path, injected: &mut Injected, whole: bool) -> Result<(), FaultError> {
    let running = running(node, injected)?;
    if whole {
        require_children(node, &running)?;
    }
    let mut all = running.all();
    // Stopped first, all of them, so that none acts on the end of another.
    for process in &all {
        send(*process, Signal::STOP)?;
    }
    let end = BootTime::now() + PATIENCE;
    loop {
        for process in &all {
            send(*process, Signal::KILL)?;
        }
        thread::sleep(Duration::from_millis(5));
        all.extend(Running::of(node)?.all());
        all.sort_unstable();
        all.dedup();
        all.retain(|process| process.runs());
        if all.is_empty() {
            return Ok(());
        }
        if BootTime::now() >= end {
            return Err(FaultError::Half(format!("{} processes still run after SIGKILL", all.len())));
        }
    }
}

fn signal_all(node: &Path, signal: Signal, injected: &mut Injected) -> Result<(), FaultError> {
    let running = running(node, injected)?;
    require_children(node, &running)?;
    running.all().into_iter().try_for_each(|process| send(process, signal))
}

/// A service that is no child of its guard, such as a container, would go on: that is not the fault that was asked for.
fn require_children(node: &Path, running: &Running) -> Result<(), FaultError> {
    let Some(guard) = running.guard else { return Ok(()) };
    let all = procfs::all().map_err(failed("list the processes"))?;
    if procfs::descendants(&all, &[guard.pid]).is_empty() {
        let what = format!("the service of {} is no child of its guard, and would go on", node.display());
        return Err(refused(
            what,
            "name a command for this fault in the inventory, such as one that stops the machine",
        ));
    }
    Ok(())
}

/// Starts the agent as bring-up does, so that it outlives this process.
fn start(node: &Path, healed: &mut Injected) -> Result<(), FaultError> {
    let program = std::env::current_exe().map_err(failed("find this program"))?;
    let config = std::env::var_os("SNAPKIT_CONFIG").map(PathBuf::from);
    let surroundings = Surroundings { variable: &|_| None, logins: &[], program, config };
    (healed.at_mono_us, healed.wall) = (now_us(), Timestamp::now());
    let child = agent::start(node, &surroundings).map_err(|error| FaultError::Half(error.to_string()))?;
    healed.processes = vec![i32::try_from(child.id()).unwrap_or_default()];
    Ok(())
}

fn by_command(argv: &[String], injected: &mut Injected) -> Result<(), FaultError> {
    let (program, arguments) = argv.split_first().expect("it was checked that there is one");
    let mut command = Command::new(program);
    command.args(arguments);
    (injected.at_mono_us, injected.wall) = (now_us(), Timestamp::now());
    let ended = command::run(command, STOP_PATIENCE, Leftovers::Leave).map_err(failed(format!("run {program}")))?;
    if ended.is_good() { Ok(()) } else { Err(FaultError::Half(format!("{program}: {}", ended.why()))) }
}

fn destroy_state(node: &Path, destroy: Option<&str>, injected: &mut Injected) -> Result<(), FaultError> {
    let path = PathBuf::from(&injected.node);
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    if destroy != Some(name) || name.is_empty() {
        let what = format!("the state of {name:?} is destroyed only if it is named a second time");
        return Err(refused(what, format!("give `--destroy {name}` beside --confirm, if you mean it")));
    }
    let running = Running::of(node)?;
    if !running.all().is_empty() {
        return Err(refused("agent, guard or service still run here", "inject `stop` or `kill` first"));
    }
    (injected.at_mono_us, injected.wall) = (now_us(), Timestamp::now());
    fs::remove_dir_all(&path).map_err(failed(format!("remove {}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_node_is_refused() {
        let place = tempfile::tempdir().unwrap();
        let refused = inject(Kind::Kill, place.path(), "d", &[], None).unwrap_err();
        assert!(refused.to_string().contains("no node directory"), "{refused}");
    }

    #[test]
    fn nothing_is_broken_where_nothing_runs() {
        let place = tempfile::tempdir().unwrap();
        fs::create_dir_all(place.path().join(".node/agent")).unwrap();
        for kind in [Kind::Stop, Kind::Kill, Kind::Pause] {
            let refused = inject(kind, place.path(), "d", &[], None).unwrap_err();
            assert!(refused.to_string().contains("neither an agent nor a guard"), "{refused}");
        }
    }

    #[test]
    fn a_state_is_destroyed_only_when_it_is_named_twice() {
        let place = tempfile::tempdir().unwrap();
        let node = place.path().join("node-x");
        fs::create_dir_all(node.join(".node/agent")).unwrap();
        fs::write(node.join("file"), "x").unwrap();
        for destroy in [None, Some("node-y"), Some("")] {
            assert!(inject(Kind::DestroyState, &node, "d", &[], destroy).is_err());
            assert!(node.join("file").exists(), "{destroy:?}");
        }
        inject(Kind::DestroyState, &node, "d", &[], Some("node-x")).unwrap();
        assert!(!node.exists());
    }

    #[test]
    fn two_who_ask_at_once_break_it_once() {
        let place = tempfile::tempdir().unwrap();
        fs::create_dir_all(place.path().join(".node")).unwrap();
        let count = place.path().join("count");
        let argv = ["sh", "-c", &format!("echo x >> {}; sleep 0.2", count.display())].map(str::to_owned);
        thread::scope(|scope| {
            let both =
                [(); 2].map(|()| scope.spawn(|| inject(Kind::Partition, place.path(), "d", &argv, None).unwrap()));
            let [one, other] = both.map(|one| one.join().unwrap());
            assert_eq!(one, other);
        });
        assert_eq!(fs::read_to_string(&count).unwrap().lines().count(), 1);
    }

    #[test]
    fn what_ended_after_it_was_begun_on_is_done_and_what_was_refused_is_not_begun() {
        let place = tempfile::tempdir().unwrap();
        fs::create_dir_all(place.path().join(".node/agent")).unwrap();
        let again = |drill| inject(Kind::Kill, place.path(), drill, &[], None);
        assert!(again("never begun").is_err());
        assert!(again("never begun").is_err());
        let begun = Injected { drill: "begun".into(), ..begin(Kind::Kill, place.path(), "begun", false).unwrap() };
        note(place.path(), &begun).unwrap();
        let done = again("begun").unwrap();
        assert_eq!((done.at_mono_us, done.done_mono_us > 0), (begun.at_mono_us, true));
        assert_eq!(again("begun").unwrap(), done);
    }

    #[test]
    fn whoever_asks_again_for_the_same_drill_is_told_of_the_first_time() {
        let place = tempfile::tempdir().unwrap();
        fs::create_dir_all(place.path().join(".node")).unwrap();
        let count = place.path().join("count");
        let argv = ["sh", "-c", &format!("echo x >> {}", count.display())].map(str::to_owned);
        let first = inject(Kind::StoreBlock, place.path(), "d", &argv, None).unwrap();
        let again = inject(Kind::StoreBlock, place.path(), "d", &argv, None).unwrap();
        assert_eq!((first, fs::read_to_string(&count).unwrap().lines().count()), (again, 1));
        let healed = heal(Kind::StoreBlock, place.path(), "d", &argv).unwrap();
        assert_eq!(heal(Kind::StoreBlock, place.path(), "d", &argv).unwrap(), healed);
        inject(Kind::StoreBlock, place.path(), "d", &argv, None).unwrap();
        inject(Kind::StoreBlock, place.path(), "another drill", &argv, None).unwrap();
        assert_eq!(fs::read_to_string(&count).unwrap().lines().count(), 4);
    }

    #[test]
    fn faults_of_the_operator_need_a_command_and_destroying_takes_none() {
        let place = tempfile::tempdir().unwrap();
        fs::create_dir_all(place.path().join(".node")).unwrap();
        let argv = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        assert!(inject(Kind::StoreBlock, place.path(), "d", &[], None).is_err());
        assert!(inject(Kind::DestroyState, place.path(), "d", &argv(&["true"]), Some("x")).is_err());
        assert!(inject(Kind::StoreBlock, place.path(), "d", &argv(&["true"]), None).is_ok());
        let half = inject(Kind::Partition, place.path(), "d", &argv(&["false"]), None).unwrap_err();
        assert!(matches!(half, FaultError::Half(_)), "{half}");
    }
}
