//! Conducting a drill: from what is asked for to a run with an end.
//!
//! A dry run and an execution are made from the same plan; an execution wants a dry run of that plan that passed lately. One run
//! at a time goes on for a group, and none is begun while an interrupted one waits to be gone on with or taken back. Layer: the
//! edge; steps are done by `scenario::execute`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use manifests::digest::Digest;
use manifests::document::drill::Prober;
use manifests::keys::Signer;
use serde_json::Value;
use snapkit::chain::Chain;
use snapkit::store::Store;

use super::act::Drill;
use super::deeds::{self, Deeds};
use super::frame::{Frame, FrameError, Opening};
use crate::evidence::event::{Actor as By, Begin, Mode, What};
use crate::evidence::facts::plan_digest;
use crate::evidence::record::{BEGINNING_SCHEMA, Beginning};
use crate::evidence::run_dir::RunDir;
use crate::evidence::seal::{Sealed, seal};
use crate::evidence::{EvidenceError, collect};
use crate::fleet::inventory::Inventory;
use crate::fleet::node::Handle;
use crate::scenario::act::Mover;
use crate::scenario::begin::this_program;
use crate::scenario::execute::{self, ExecuteError, Finished, Journal, Kept};
use crate::scenario::field::Ground;
use crate::scenario::grammar::GrammarError;
use crate::scenario::resolve::{ResolveError, Seen, Sight, Wish, resolve};
use crate::scenario::runs::{Lock, Runs, RunsError};
use crate::scenario::{Plan, Scenario};

/// How long it may take to put something into the chain.
const RECORD_LIMIT: Duration = Duration::from_secs(60);
/// How many records before the newest are copied, at most.
const RECORDS_BACK: u64 = 1000;
/// How many entries of the lease log before the newest are copied, at most.
const ENTRIES_BACK: u64 = 2000;

fn io(what: &str) -> impl FnOnce(std::io::Error) -> ConductError {
    let what = what.to_owned();
    move |source| ConductError::Io { what, source }
}

/// Who conducts, and what with.
pub struct Conductor<'c> {
    /// The fleet.
    pub inventory: &'c Inventory,
    /// Where the inventory is.
    pub fleet: &'c Path,
    /// Where runs are kept.
    pub runs: Runs,
    /// The one string, with an address that means the same everywhere.
    pub origin: String,
    /// The first root, which is the pin.
    pub root: Digest,
    /// The chain.
    pub chain: Digest,
    /// This program.
    pub program: PathBuf,
    /// The name of this machine.
    pub machine: String,
}

/// What is asked for.
#[derive(Debug, Clone)]
pub struct Asked {
    /// `full` or `restore`.
    pub scenario: String,
    /// A scenario of the operator's own, in its place.
    pub text: Option<String>,
    /// The node that is restored cold, if not as the inventory says.
    pub blank: Option<String>,
    /// Who is to take over, if a person says so.
    pub target: Option<String>,
    /// What whoever will verify gave beforehand.
    pub challenge: Option<String>,
    /// Who asks.
    pub actor: String,
    /// Who approved it; empty where nobody was asked.
    pub approver: String,
    /// Why.
    pub reason: String,
}

/// Why a drill does not begin, or cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum ConductError {
    /// There is no such scenario.
    #[error("there is no drill {0:?}; expected full or restore")]
    NoScenario(String),
    /// Nobody says which node is restored cold.
    #[error("no node is named that is restored cold")]
    NoBlank,
    /// A node that is none of the inventory.
    #[error("the inventory has no node {0:?}")]
    NoNode(String),
    /// The scenario cannot be used.
    #[error(transparent)]
    Grammar(#[from] GrammarError),
    /// There is no plan.
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    /// The directory of runs does not allow it.
    #[error(transparent)]
    Runs(#[from] RunsError),
    /// It could not be framed.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// It could not go on.
    #[error(transparent)]
    Execute(#[from] ExecuteError),
    /// It could not be put into the chain that it begins: nothing was touched.
    #[error("the chain cannot be told that it begins: {0}")]
    Begin(String),
    /// What was collected could not be sealed.
    #[error(transparent)]
    Seal(#[from] EvidenceError),
    /// The machine failed.
    #[error("cannot {what}")]
    Io {
        /// What was to be done.
        what: String,
        /// What the system said.
        source: std::io::Error,
    },
}

/// What is left of a run.
#[derive(Debug)]
pub struct Closed {
    /// The bundle.
    pub sealed: Sealed,
    /// Where in the chain it stands that it ended; else why it does not.
    pub recorded: Result<u64, String>,
}

/// A run that ended, or was interrupted.
pub struct Conducted {
    /// Where it is.
    pub run: RunDir,
    /// What was planned.
    pub plan: Plan,
    /// What became of it.
    pub finished: Finished,
    frame: Option<Frame>,
    _lock: Option<Lock>,
}

impl Conducted {
    /// Removes what lay beside the run directory, where the run has an end.
    ///
    /// # Errors
    /// [`FrameError`]
    pub fn close(self) -> Result<(), FrameError> {
        self.frame.map_or(Ok(()), Frame::close)
    }
}

impl Conductor<'_> {
    /// The node that is restored cold.
    ///
    /// # Errors
    /// [`ConductError::NoBlank`], [`ConductError::NoNode`]
    pub fn blank(&self, asked: &Asked) -> Result<String, ConductError> {
        let blank = asked.blank.as_ref().or(self.inventory.drill.blank.as_ref()).ok_or(ConductError::NoBlank)?;
        self.inventory.node(blank).map(|node| node.name.clone()).ok_or_else(|| ConductError::NoNode(blank.clone()))
    }

    /// The scenario with its text.
    ///
    /// # Errors
    /// [`ConductError`]
    pub fn scenario(&self, asked: &Asked) -> Result<(Scenario, String), ConductError> {
        let text = match &asked.text {
            Some(text) => match self.blank(asked) {
                Ok(blank) => deeds::with_blank(text, &blank),
                Err(ConductError::NoBlank) => text.clone(),
                Err(error) => return Err(error),
            },
            None => deeds::text(&asked.scenario, &self.blank(asked)?)
                .ok_or_else(|| ConductError::NoScenario(asked.scenario.clone()))?,
        };
        Ok((Scenario::parse(&asked.scenario, &text, &Deeds)?, text))
    }

    /// A plan for what is seen of the fleet now.
    ///
    /// # Errors
    /// [`ConductError`]
    pub fn plan(&self, asked: &Asked, mode: Mode, id: String, now: Timestamp) -> Result<Plan, ConductError> {
        let (scenario, text) = self.scenario(asked)?;
        let wish = Wish {
            id,
            mode,
            challenge: asked.challenge.clone(),
            now,
            actor: asked.actor.clone(),
            reason: asked.reason.clone(),
            old_leader: None,
            target: asked.target.clone(),
        };
        let mut plan = resolve(&scenario, &text, &self.sight(), &wish)?;
        plan.kind = "drill".to_owned();
        if plan.group.is_empty() {
            plan.group = self.inventory.name.clone();
        }
        Ok(plan.sealed())
    }

    fn sight(&self) -> Sight {
        let patience = self.inventory.patience();
        let seen = |handle: Handle| {
            let (state, silence) = match handle.state(patience) {
                Ok(state) => (Some(state), None),
                Err(error) => (None, Some(error.to_string())),
            };
            let preferred = handle.node().preferred == crate::fleet::inventory::Preferred::Leader;
            Seen { name: handle.name().to_owned(), preferred, state, silence }
        };
        Sight {
            nodes: Handle::all(self.inventory).into_iter().map(seen).collect(),
            ingress: self.inventory.ingress.is_some(),
            ingress_driver: self.inventory.ingress.as_ref().is_some_and(|ingress| ingress.config.is_some()),
            inventory: self.inventory.digest(),
            thresholds: self.inventory.limits(),
            scope_stop: self.inventory.scope.stop.clone(),
        }
    }

    fn lock(&self, plan: &Plan) -> Result<Lock, ConductError> {
        let who = format!("{} {} of {}, process {}", plan.kind, plan.id, plan.actor, std::process::id());
        Ok(self.runs.lock(&plan.group, &who)?)
    }

    /// Goes through a plan without changing anything on a node.
    ///
    /// # Errors
    /// [`ConductError`]
    pub fn rehearse(&self, plan: Plan, stopped: &dyn Fn() -> bool) -> Result<Conducted, ConductError> {
        let run = self.runs.begin(&plan)?;
        let mut journal = Kept::create(run.path(), &self.machine).map_err(io("begin the timeline"))?;
        let tool = this_program().map_err(io("read this program"))?;
        let begin = Begin {
            id: plan.id.clone(),
            run: plan.kind.clone(),
            scenario: plan.scenario.clone(),
            mode: plan.mode,
            group: plan.group.clone(),
            challenge: plan.challenge.clone().unwrap_or_default(),
            plan: plan_digest(
                &serde_json::to_value(&plan).map_err(std::io::Error::other).map_err(io("read the plan"))?,
            ),
            root: self.root,
            chain: self.chain,
            operator: plan.actor.clone(),
            approver: String::new(),
            reason: plan.reason.clone(),
            tool,
        };
        journal.add(By::Tool, None, What::Begin(Box::new(begin))).map_err(io("write the timeline"))?;
        let finished = self.go(&plan, &run, &mut journal, stopped)?;
        Ok(Conducted { run, plan, finished, frame: None, _lock: None })
    }

    /// Does a plan; `confirm` is the id of its dry run.
    ///
    /// # Errors
    /// [`ConductError`]; nothing was touched unless the timeline of the run says so.
    pub fn execute(
        &self,
        plan: Plan,
        confirm: &str,
        approver: &str,
        stopped: &dyn Fn() -> bool,
    ) -> Result<Conducted, ConductError> {
        self.runs.confirm(confirm, &plan, plan.made)?;
        let lock = self.lock(&plan)?;
        if let Some(interrupted) = self.runs.interrupted(&plan.group)?.into_iter().next() {
            return Err(RunsError::interrupted(&interrupted).into());
        }
        let run = self.runs.begin(&plan)?;
        let opening = Opening {
            inventory: self.inventory,
            fleet: self.fleet,
            run: &run,
            plan: &plan,
            root: self.root,
            chain: self.chain,
            program: self.program.clone(),
            approver: approver.to_owned(),
            abort: self.abort_command(&plan.id),
            machine: self.machine.clone(),
        };
        let (frame, mut journal) = Frame::open(&opening)?;
        if let Err(why) = self.record_begun(&plan, &mut journal) {
            journal.add(By::Tool, None, What::End { passed: false }).map_err(io("write the timeline"))?;
            frame.close()?;
            return Err(ConductError::Begin(why));
        }
        let finished = self.go(&plan, &run, &mut journal, stopped)?;
        self.ended(run, plan, finished, frame, lock)
    }

    /// The chain is told that the run begins and under which keys it is measured, by whoever may write it; where nobody leads
    /// anything, the timeline says so.
    ///
    /// # Errors
    /// Why it was not told.
    pub fn record_begun(&self, plan: &Plan, journal: &mut Kept) -> Result<(), String> {
        let probers = journal.past().into_iter().filter_map(|(_, what)| match what {
            What::Prober { name, of, key } => Some(Prober { name: name.clone(), of: of.clone(), key: key.clone() }),
            _ => None,
        });
        let beginning = Beginning {
            schema: BEGINNING_SCHEMA.to_owned(),
            probers: probers.collect(),
            plan: serde_json::to_value(plan).map_err(|error| error.to_string())?,
        };
        let bytes = serde_json::to_vec(&beginning).map_err(|error| error.to_string())?;
        let told = match self.record(&bytes) {
            Ok(told) => told,
            Err(why) if plan.old_leader.is_none() => {
                let text = format!("the chain was not told that this begins: {why}");
                return journal.add(By::Tool, None, What::Note { text }).map_err(|error| error.to_string());
            }
            Err(why) => return Err(why),
        };
        let digest = told.get("digest").and_then(Value::as_str).and_then(|digest| digest.parse().ok());
        let (Some(seq), Some(digest)) = (told.get("seq").and_then(Value::as_u64), digest) else {
            return Err(format!("a strange answer: {told}"));
        };
        let recorded = What::Recorded { phase: "begun".to_owned(), seq, digest };
        journal.add(By::Tool, None, recorded).map_err(|error| error.to_string())
    }

    /// The same for a run whose orchestrator was gone before it had done that, and before the first step; a record that was
    /// made is found again.
    ///
    /// # Errors
    /// Why it was not told.
    pub fn record_if_not_yet(&self, plan: &Plan, journal: &mut Kept) -> Result<(), String> {
        let is_late = |what: &What| matches!(what, What::Recorded { .. } | What::StepBegin { .. });
        match journal.past().into_iter().any(|(_, what)| is_late(what)) {
            true => Ok(()),
            false => self.record_begun(plan, journal),
        }
    }

    /// Has the node that leads put something into the chain.
    fn record(&self, bytes: &[u8]) -> Result<Value, String> {
        let patience = self.inventory.patience();
        // One that is drained takes no new work, and still leads.
        let leads =
            |handle: &Handle| handle.state(patience).is_ok_and(|state| state.leader.ok || state.role == "leader");
        let handle = Handle::all(self.inventory).into_iter().find(leads).ok_or("no node leads that could write it")?;
        let directory = handle.directory();
        let args = ["evidence", "record", "--node", &directory, "--json"];
        let ended = handle.bootstrap(&args, bytes, RECORD_LIMIT).map_err(|error| error.to_string())?;
        if !ended.is_good() {
            return Err(format!("{}: {}", handle.name(), ended.why()));
        }
        serde_json::from_str(&ended.stdout).map_err(|error| format!("{}: {error}", handle.name()))
    }

    /// Copies the signed objects of the store into a run that has an end, seals it, and has the chain told of it.
    ///
    /// # Errors
    /// [`ConductError`]; what was collected stays, and the run can be sealed later.
    pub fn seal(
        &self,
        run: &RunDir,
        plan: &Plan,
        chain: &Chain<'_>,
        store: &dyn Store,
        signer: &dyn Signer,
    ) -> Result<Closed, ConductError> {
        let name = self.inventory.manifest.as_deref().unwrap_or("main");
        match collect::manifest(run, store, name) {
            // A store without a manifest shows that by itself.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            copied => copied.map_err(io("copy the manifest"))?,
        }
        let patience = self.inventory.patience();
        let seq = |handle: Handle| handle.state(patience).ok()?.view.lease.seq;
        let newest = Handle::all(self.inventory).into_iter().filter_map(seq).max().unwrap_or(0);
        collect::lease(run, store, &plan.group, newest.saturating_sub(ENTRIES_BACK)).map_err(io("copy the lease"))?;
        // The chain last: what the lease and the receipts had seen of it is in it then.
        let head = chain.head().map_or(0, |newest| newest.record.header.seq);
        collect::chain(run, store, head.saturating_sub(RECORDS_BACK)).map_err(io("copy the chain"))?;
        let sealed = seal(run, signer)?;
        let recorded = match plan.mode {
            Mode::Simulated => Err("nothing was changed, and a dry run is not recorded".to_owned()),
            Mode::Execute => self.record_ended(&sealed),
        };
        Ok(Closed { sealed, recorded })
    }

    fn record_ended(&self, sealed: &Sealed) -> Result<u64, String> {
        let bytes = std::fs::read(&sealed.statement).map_err(|error| error.to_string())?;
        let told = self.record(&bytes)?;
        told.get("seq").and_then(Value::as_u64).ok_or_else(|| format!("a strange answer: {told}"))
    }

    /// Goes on with an interrupted run; one that has an end and was not sealed is only to be sealed.
    ///
    /// # Errors
    /// [`ConductError`]
    pub fn resume(&self, id: &str, stopped: &dyn Fn() -> bool) -> Result<Conducted, ConductError> {
        self.again(id, |run, plan, journal| {
            self.record_if_not_yet(plan, journal).map_err(ConductError::Begin)?;
            self.go(plan, run, journal, stopped)
        })
    }

    /// Takes an interrupted run back; one that has an end and was not sealed is only to be sealed.
    ///
    /// # Errors
    /// [`ConductError`]
    pub fn abort(&self, id: &str, reason: &str, stopped: &dyn Fn() -> bool) -> Result<Conducted, ConductError> {
        self.again(id, |run, plan, journal| {
            let ground = Ground::new(self.inventory.clone());
            let mut actor = self.actor(&ground, run);
            Ok(execute::abort(plan, reason, journal, &mut actor, stopped)?)
        })
    }

    fn again(
        &self,
        id: &str,
        act: impl FnOnce(&RunDir, &Plan, &mut Kept) -> Result<Finished, ConductError>,
    ) -> Result<Conducted, ConductError> {
        let lock = self.lock(&self.runs.find(id)?.plan)?;
        // As it is while nobody else goes on with it.
        let found = self.runs.find(id)?;
        let over = execute::concluded(&found.plan, &found.past())?;
        let (frame, finished) = match over {
            Some(_) if found.is_sealed() => return Err(ExecuteError::ended(found.passed()).into()),
            Some(finished) => (Frame::reopen_over(&found.directory)?, finished),
            None => {
                let (frame, mut journal) = Frame::reopen(&found.directory, &self.machine)?;
                let finished = act(&found.directory, &found.plan, &mut journal)?;
                (frame, finished)
            }
        };
        self.ended(found.directory, found.plan, finished, frame, lock)
    }

    fn ended(
        &self,
        run: RunDir,
        plan: Plan,
        finished: Finished,
        frame: Frame,
        lock: Lock,
    ) -> Result<Conducted, ConductError> {
        if finished.verdict.is_some() {
            frame.end_measuring()?;
        }
        Ok(Conducted { run, plan, finished, frame: Some(frame), _lock: Some(lock) })
    }

    fn actor<'a>(&'a self, ground: &'a Ground, run: &RunDir) -> Drill<'a> {
        let mover = Mover::new(ground, Some(run.clone()), self.runs.shared());
        Drill::new(self.inventory, run.clone(), self.origin.clone(), Box::new(mover))
    }

    fn go(
        &self,
        plan: &Plan,
        run: &RunDir,
        journal: &mut Kept,
        stopped: &dyn Fn() -> bool,
    ) -> Result<Finished, ConductError> {
        let ground = Ground::new(self.inventory.clone());
        let mut actor = self.actor(&ground, run);
        Ok(execute::run(plan, journal, &mut actor, stopped)?)
    }

    /// What the keeper starts when nobody goes on with the run.
    fn abort_command(&self, id: &str) -> Vec<String> {
        let path = |path: &Path| path.display().to_string();
        let mut words = vec![path(&self.program)];
        words.extend(
            ["drill", "run", "--abort", id, "--reason", "nobody went on with it", "--allow-in-repo"].map(str::to_owned),
        );
        words.extend(["--inventory".to_owned(), path(self.fleet), "--runs".to_owned(), path(self.runs.path())]);
        words
    }
}
