//! The directory of runs: every dry run and execution, which one is interrupted, and who runs now.
//!
//! An execution needs a dry run of the same plan that passed, lately; both are runs like any other. One run at a time per
//! group: a lock that the kernel takes from a dead holder, so that an orchestrator that was killed holds up nobody. Lock,
//! debts, and which runs have begun, lie in one place of a fleet, whichever directory its runs are kept in. Meaning:
//! `docs/scenarios.md`, "Runs". Layer: reads and writes files.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use manifests::digest::Digest;
use serde::de::DeserializeOwned;

use super::plan::{Plan, SCHEMA, Step};
use crate::evidence::event::{Mode, StepStatus, What};
use crate::evidence::run_dir::{PLAN, RunDir};
use crate::evidence::seal::STATEMENT;
use crate::evidence::timeline::{self, Event};
use crate::fleet::inventory::Inventory;

/// How old a dry run may be when its plan is executed.
pub const FRESH: Duration = Duration::from_secs(3600);
/// The largest plan in bytes.
const PLAN_CAP: u64 = 4 << 20;

/// The directory of runs.
#[derive(Debug, Clone)]
pub struct Runs {
    path: PathBuf,
    shared: PathBuf,
}

/// The directory with a link to each execution that has begun, below what is shared.
const BEGUN: &str = "begun";

/// A run that was found.
#[derive(Debug, Clone)]
pub struct Found {
    /// Its directory.
    pub directory: RunDir,
    /// Its plan.
    pub plan: Plan,
    /// Its events, as far as they were written to their end.
    pub events: Vec<Event>,
}

/// Nobody else runs while this is held.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

/// Why a run cannot be begun, found, or gone on with.
#[derive(Debug, thiserror::Error)]
pub enum RunsError {
    /// Somebody runs.
    #[error("a run of the group {group} is under way: {by}")]
    Busy {
        /// The group.
        group: String,
        /// Who.
        by: String,
    },
    /// There is no such run.
    #[error("there is no run {id:?} in {}", .runs.display())]
    None {
        /// The id.
        id: String,
        /// Where.
        runs: PathBuf,
    },
    /// None was interrupted.
    #[error("no run of the scenario {scenario} is interrupted in {}", .runs.display())]
    NotInterrupted {
        /// The scenario.
        scenario: String,
        /// Where.
        runs: PathBuf,
    },
    /// One was, and it is not gone on with.
    #[error("the run {id} was interrupted and has no end; it is in {}", .runs.display())]
    Interrupted {
        /// Its id.
        id: String,
        /// The directory of runs that it is kept in.
        runs: PathBuf,
    },
    /// What is confirmed is no dry run of this plan that passed lately.
    #[error("the dry run {id} does not allow this: {why}")]
    NotConfirmed {
        /// Its id.
        id: String,
        /// What was expected and found.
        why: String,
    },
    /// A run directory is damaged.
    #[error("{} is no run: {why}", .path.display())]
    Strange {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The system says no.
    #[error("cannot read or write {}", .path.display())]
    Io {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl RunsError {
    /// That this run was interrupted.
    pub fn interrupted(found: &Found) -> Self {
        let runs = found.directory.path().parent().unwrap_or(Path::new("/")).to_owned();
        Self::Interrupted { id: found.plan.id.clone(), runs }
    }
}

impl Found {
    /// Whether it has an end.
    pub fn is_over(&self) -> bool {
        self.events.iter().any(|event| matches!(event.what, What::End { .. }))
    }

    /// Its events with their steps.
    pub fn past(&self) -> Vec<(Option<&str>, &What)> {
        self.events.iter().map(|event| (event.step.as_deref(), &event.what)).collect()
    }

    /// Whether what was found is sealed; an orchestrator may have been killed between the end and that.
    pub fn is_sealed(&self) -> bool {
        self.directory.file(STATEMENT).exists()
    }

    /// Whether it is being taken back.
    pub fn is_aborting(&self) -> bool {
        self.events.iter().any(|event| matches!(event.what, What::Abort { .. }))
    }

    /// Whether it was taken back to its end, every step of the way.
    pub fn is_taken_back(&self) -> bool {
        let ended_well = |step: &Step| {
            self.events.iter().any(|event| {
                let well = matches!(event.what, What::StepEnd { status: StepStatus::Ok | StepStatus::Skipped, .. });
                well && event.step.as_deref() == Some(&step.id)
            })
        };
        self.is_over() && self.is_aborting() && self.plan.rollback.iter().all(ended_well)
    }

    /// Whether it is the way back of another one, as a run of its own.
    pub fn is_way_back(&self) -> bool {
        self.plan.rollback.is_empty() && self.plan.steps.iter().all(|step| step.phase == "rollback")
    }

    /// Whether it passed.
    pub fn passed(&self) -> bool {
        self.events.iter().any(|event| matches!(event.what, What::End { passed: true }))
    }
}

impl Runs {
    /// The directory at `path`; it is made when something is written.
    pub fn at(path: &Path) -> Self {
        Self { path: path.to_owned(), shared: path.to_owned() }
    }

    /// The same, with what all runs of a fleet share below `home`: whoever runs from another directory meets the same lock,
    /// the same interrupted runs, and the same debts.
    pub fn of_fleet(path: &Path, inventory: &Inventory, home: &Path) -> Self {
        let fleet = match inventory.origin() {
            Ok(from) => Digest::sha256(from.pin.root.to_string().as_bytes()),
            Err(_) => Digest::sha256(inventory.name.as_bytes()),
        };
        let fleet: String = fleet.0.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        let shared = home.join("runs").join(fleet);
        Self { path: path.to_owned(), shared }
    }

    /// Where the lock and the debts are.
    pub fn shared(&self) -> &Path {
        &self.shared
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Keeps everybody else from running for this group, until what it gives is dropped or this process dies.
    ///
    /// # Errors
    /// [`RunsError::Busy`] while somebody does.
    pub fn lock(&self, group: &str, who: &str) -> Result<Lock, RunsError> {
        let path = self.shared.join(format!(".{group}.lock"));
        let io = |source| RunsError::Io { path: path.clone(), source };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.shared).map_err(io)?;
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(io)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut by = String::new();
                let _ = (&mut file).take(1000).read_to_string(&mut by);
                return Err(RunsError::Busy { group: group.to_owned(), by: by.trim().to_owned() });
            }
            Err(TryLockError::Error(source)) => return Err(io(source)),
        }
        file.set_len(0).and_then(|()| file.rewind()).and_then(|()| writeln!(file, "{who}")).map_err(io)?;
        Ok(Lock { _file: file })
    }

    /// Makes the directory of a run and stores its plan, before anything else is done.
    ///
    /// # Errors
    /// [`RunsError::Io`]
    pub fn begin(&self, plan: &Plan) -> Result<RunDir, RunsError> {
        let io = |source| RunsError::Io { path: self.path.clone(), source };
        let directory = RunDir::create(&self.path, &plan.id, plan.made).map_err(io)?;
        if plan.mode == Mode::Execute {
            self.link(&plan.id, directory.path())?;
        }
        directory.write_json(PLAN, plan).map_err(io)?;
        Ok(directory)
    }

    /// Makes an execution known to whoever keeps runs elsewhere. Before its plan is stored: nothing can be done before that.
    fn link(&self, id: &str, directory: &Path) -> Result<(), RunsError> {
        let begun = self.shared.join(BEGUN);
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&begun);
        made.and_then(|()| symlink(std::path::absolute(directory)?, begun.join(id)))
            .and_then(|()| File::open(&begun)?.sync_all())
            .map_err(|source| RunsError::Io { path: begun, source })
    }

    /// Executions that are kept in other directories and have no end. The links of those that have one are removed.
    fn elsewhere(&self) -> Result<Vec<Found>, RunsError> {
        let begun = self.shared.join(BEGUN);
        let io = |source| RunsError::Io { path: begun.clone(), source };
        let entries = match fs::read_dir(&begun) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(io)?,
        };
        let mut open = Vec::new();
        for entry in entries {
            let link = entry.map_err(io)?.path();
            // A run is one from when its plan is stored; one that was removed since is nobody's to go on with.
            let found = match link.join(PLAN).is_file() {
                true => Some(read(&fs::canonicalize(&link).map_err(io)?)?),
                false => None,
            };
            match found {
                Some(found) if !found.is_over() => open.push(found),
                Some(_) => fs::remove_file(&link).map_err(io)?,
                None => {}
            }
        }
        Ok(open)
    }

    /// All runs, the oldest first. Directories without a plan are none: a run is one from when its plan is stored.
    ///
    /// # Errors
    /// [`RunsError::Strange`] for a run that is damaged: nobody knows whether it is interrupted.
    pub fn all(&self) -> Result<Vec<Found>, RunsError> {
        let io = |source| RunsError::Io { path: self.path.clone(), source };
        let entries = match fs::read_dir(&self.path) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(io(error)),
        };
        let mut paths = Vec::new();
        for entry in entries {
            let path = entry.map_err(io)?.path();
            if path.join(PLAN).is_file() {
                paths.push(path);
            }
        }
        paths.sort();
        paths.iter().map(|path| read(path)).collect()
    }

    /// A run by its id.
    ///
    /// # Errors
    /// [`RunsError::None`]
    pub fn find(&self, id: &str) -> Result<Found, RunsError> {
        let none = || RunsError::None { id: id.to_owned(), runs: self.path.clone() };
        self.all()?.into_iter().rev().find(|found| found.plan.id == id).ok_or_else(none)
    }

    /// The executions of a group that have begun and have no end, the oldest first.
    ///
    /// # Errors
    /// As [`Runs::all`].
    pub fn interrupted(&self, group: &str) -> Result<Vec<Found>, RunsError> {
        let is_it = |found: &Found| found.plan.mode == Mode::Execute && found.plan.group == group && !found.is_over();
        let mut found: Vec<Found> = self.all()?.into_iter().filter(is_it).collect();
        for other in self.elsewhere()?.into_iter().filter(is_it) {
            if !found.iter().any(|known| known.plan.id == other.plan.id) {
                found.push(other);
            }
        }
        found.sort_by_key(|found| found.plan.made);
        Ok(found)
    }

    /// Checks that `id` is a dry run of this plan that passed lately.
    ///
    /// # Errors
    /// [`RunsError::NotConfirmed`], saying what was expected.
    pub fn confirm(&self, id: &str, plan: &Plan, now: Timestamp) -> Result<(), RunsError> {
        let no = |why: String| Err(RunsError::NotConfirmed { id: id.to_owned(), why });
        let dry = self.find(id)?;
        let age = now.duration_since(dry.plan.made);
        let fresh = SignedDuration::try_from(FRESH).unwrap_or(SignedDuration::MAX);
        if dry.plan.mode != Mode::Simulated {
            return no("it is an execution, not a dry run".to_owned());
        }
        if !dry.passed() {
            return no("it did not pass".to_owned());
        }
        if age < SignedDuration::ZERO || age > fresh {
            return no(format!(
                "expected one of the last {} minutes, found one of {}",
                FRESH.as_secs() / 60,
                dry.plan.made
            ));
        }
        if !dry.plan.is_sound() || dry.plan.plan_sha256 != plan.plan_sha256 {
            return no(format!(
                "its plan is {}, and now it would be {}: {}",
                dry.plan.plan_sha256,
                plan.plan_sha256,
                differs(&dry.plan, plan)
            ));
        }
        Ok(())
    }
}

/// What two plans differ in, as far as one sentence says it.
fn differs(before: &Plan, now: &Plan) -> String {
    let node = |node: &Option<String>| node.clone().unwrap_or_else(|| "nobody".to_owned());
    let mut what = Vec::new();
    if before.scenario != now.scenario || before.scenario_sha256 != now.scenario_sha256 {
        what.push(format!("the scenario was {} and is {}", before.scenario, now.scenario));
    }
    if before.old_leader != now.old_leader {
        what.push(format!("{} led and {} leads", node(&before.old_leader), node(&now.old_leader)));
    }
    if before.target != now.target {
        what.push(format!("the target was {} and is {}", node(&before.target), node(&now.target)));
    }
    if before.inventory_sha256 != now.inventory_sha256 {
        what.push("the inventory was changed".to_owned());
    }
    if what.is_empty() { "something else of it was changed".to_owned() } else { what.join(", ") }
}

fn read(path: &Path) -> Result<Found, RunsError> {
    let strange = |why: String| RunsError::Strange { path: path.to_owned(), why };
    let plan: Plan = read_json(&path.join(PLAN))?;
    if plan.schema != SCHEMA {
        return Err(strange(format!("expected a plan with the schema {SCHEMA}, found {:?}", plan.schema)));
    }
    let file = path.join(timeline::FILE);
    let bytes = match fs::read(&file) {
        Ok(bytes) => bytes,
        // Its plan was stored and nothing was begun.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(source) => return Err(RunsError::Io { path: file, source }),
    };
    // A line that was not written to its end was cut off by a crash.
    let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let events = match whole {
        0 => Vec::new(),
        _ => timeline::read(&bytes[..whole], timeline::FILE).map_err(|refusal| strange(refusal.to_string()))?,
    };
    Ok(Found { directory: RunDir::at(path), plan, events })
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, RunsError> {
    let io = |source| RunsError::Io { path: path.to_owned(), source };
    let strange = |why: String| RunsError::Strange { path: path.to_owned(), why };
    if fs::metadata(path).map_err(io)?.len() > PLAN_CAP {
        return Err(strange(format!("more than {PLAN_CAP} bytes")));
    }
    serde_json::from_slice(&fs::read(path).map_err(io)?).map_err(|error| strange(error.to_string()))
}

/// An id for a new run: the scenario, and eight hex digits.
///
/// # Errors
/// When the system gives no random numbers.
pub fn new_id(scenario: &str) -> io::Result<String> {
    let mut random = [0_u8; 4];
    getrandom::fill(&mut random).map_err(io::Error::other)?;
    let digits: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(format!("{scenario}-{digits}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drill::deeds::Deeds;
    use crate::eventually::eventually;
    use crate::evidence::event::Actor;
    use crate::evidence::timeline::Timeline;
    use crate::scenario::builtin;
    use crate::scenario::resolve::tests::{seen, sight, wish};
    use crate::scenario::resolve::{Wish, resolve};

    fn plan(id: &str, mode: Mode, target: &str) -> Plan {
        let scenario = builtin::scenario("planned", &Deeds).unwrap().unwrap();
        let nodes = vec![seen("a", Some("leader")), seen("b", Some("candidate")), seen("c", Some("candidate"))];
        let wish = Wish { id: id.to_owned(), mode, target: Some(target.to_owned()), ..wish() };
        resolve(&scenario, builtin::text("planned").unwrap(), &sight(nodes), &wish).unwrap()
    }

    fn run(runs: &Runs, plan: &Plan, end: Option<bool>) {
        let directory = runs.begin(plan).unwrap();
        let mut timeline = Timeline::create(directory.path(), "here").unwrap();
        timeline.add(Actor::Tool, None, What::Note { text: "test".to_owned() }).unwrap();
        if let Some(passed) = end {
            timeline.add(Actor::Tool, None, What::End { passed }).unwrap();
        }
    }

    #[test]
    fn only_a_fresh_dry_run_that_passed_allows_its_own_plan() {
        let place = tempfile::tempdir().unwrap();
        let runs = Runs::at(&place.path().join("runs"));
        for (id, mode, end) in [
            ("good", Mode::Simulated, Some(true)),
            ("failed", Mode::Simulated, Some(false)),
            ("open", Mode::Simulated, None),
            ("real", Mode::Execute, Some(true)),
        ] {
            run(&runs, &plan(id, mode, "b"), end);
        }
        let (execute, now) = (plan("new", Mode::Execute, "b"), wish().now);
        runs.confirm("good", &execute, now).unwrap();
        let why = |id: &str, plan: &Plan, now| runs.confirm(id, plan, now).unwrap_err().to_string();
        assert!(why("failed", &execute, now).contains("did not pass"));
        assert!(why("open", &execute, now).contains("did not pass"));
        assert!(why("real", &execute, now).contains("an execution"));
        assert!(why("none", &execute, now).contains("no run \"none\""));
        let late = now + SignedDuration::from_secs(3601);
        assert!(why("good", &execute, late).contains("of the last 60 minutes"));
        assert!(why("good", &plan("new", Mode::Execute, "c"), now).contains("the target was b and is c"));
    }

    #[test]
    fn an_interrupted_run_is_found_and_a_dry_run_is_none() {
        let place = tempfile::tempdir().unwrap();
        let runs = Runs::at(place.path());
        run(&runs, &plan("one", Mode::Execute, "b"), Some(false));
        run(&runs, &plan("two", Mode::Execute, "b"), None);
        run(&runs, &plan("three", Mode::Simulated, "b"), None);
        let group = plan("x", Mode::Execute, "b").group;
        let found: Vec<String> = runs.interrupted(&group).unwrap().into_iter().map(|found| found.plan.id).collect();
        assert_eq!(found, ["two"]);
        assert!(runs.interrupted("another").unwrap().is_empty());
    }

    #[test]
    fn a_run_that_is_kept_elsewhere_is_interrupted_here_too() {
        let place = tempfile::tempdir().unwrap();
        let inventory = crate::fleet::inventory::parse("name = \"f\"\n[[node]]\nname = \"a\"\n").unwrap();
        let of = |name: &str| Runs::of_fleet(&place.path().join(name), &inventory, &place.path().join("home"));
        let (one, other) = (of("one"), of("other"));
        let open = plan("planned-1", Mode::Execute, "b");
        run(&one, &open, None);
        run(&one, &plan("planned-2", Mode::Execute, "b"), Some(true));
        run(&one, &plan("planned-3", Mode::Simulated, "b"), None);
        let found = other.interrupted(&open.group).unwrap();
        assert_eq!(found.iter().map(|found| found.plan.id.as_str()).collect::<Vec<_>>(), ["planned-1"]);
        assert!(found[0].directory.path().starts_with(place.path().canonicalize().unwrap().join("one")));
        assert_eq!(one.interrupted(&open.group).unwrap().len(), 1, "it is one run");
        let lock = one.lock(&open.group, "one").unwrap();
        assert!(matches!(other.lock(&open.group, "other"), Err(RunsError::Busy { .. })));
        drop(lock);
        // Another fleet is another place.
        let inventory = crate::fleet::inventory::parse("name = \"g\"\n[[node]]\nname = \"a\"\n").unwrap();
        let another = Runs::of_fleet(&place.path().join("another"), &inventory, &place.path().join("home"));
        assert!(another.interrupted(&open.group).unwrap().is_empty());
    }

    #[test]
    fn a_torn_last_line_is_no_damage_and_an_edited_one_is() {
        let place = tempfile::tempdir().unwrap();
        let runs = Runs::at(place.path());
        run(&runs, &plan("one", Mode::Execute, "b"), None);
        let file = runs.find("one").unwrap().directory.file(timeline::FILE);
        let text = fs::read_to_string(&file).unwrap();
        fs::write(&file, format!("{text}{{\"i\":1,")).unwrap();
        assert_eq!(runs.find("one").unwrap().events.len(), 1);
        fs::write(&file, text.replace("\"i\":0", "\"i\":1")).unwrap();
        assert!(matches!(runs.find("one"), Err(RunsError::Strange { .. })));
    }

    #[test]
    fn one_run_at_a_time() {
        let place = tempfile::tempdir().unwrap();
        let runs = Runs::at(place.path());
        let lock = runs.lock("app", "planned-1").unwrap();
        let busy = runs.lock("app", "planned-2").unwrap_err();
        assert_eq!(busy.to_string(), "a run of the group app is under way: planned-1");
        runs.lock("other", "planned-3").unwrap();
        drop(lock);
        eventually("the group is free", || runs.lock("app", "planned-4").is_ok());
    }
}
