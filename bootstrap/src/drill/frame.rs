//! The frame around a run: how it begins, who measures meanwhile, and what is collected and sealed when it has ended.
//!
//! Drills and failovers have the same one. Order: the timeline begins, the keeper starts those who measure, and the timeline is
//! told their keys before the first step; after the last step they end and sign, the signed objects of the store are copied, and
//! everything is sealed. Layer: the edge.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use jiff::Timestamp;
use manifests::digest::Digest;

use super::keeper::{Order, Place};
use crate::clock::BootTime;
use crate::evidence::event::{Actor as By, Begin, Mode, What};
use crate::evidence::facts::plan_digest;
use crate::evidence::run_dir::{PLAN, PROBES, RunDir, SENTINEL};
use crate::evidence::series::Head;
use crate::fleet::inventory::Inventory;
use crate::scenario::Plan;
use crate::scenario::begin::this_program;
use crate::scenario::execute::{Journal, Kept};

/// How long those who measure may take until they have begun.
const BEGIN_PATIENCE: Duration = Duration::from_secs(15);
/// How often the probers of single nodes ask, in milliseconds, beside what the inventory says for the ingress.
const NODE_INTERVAL_MS: u64 = 500;
/// Time beyond all timeboxes after which a run is taken back in any case.
const SLACK_SECONDS: u64 = 60;

/// What a run is begun with.
pub struct Opening<'o> {
    /// The fleet.
    pub inventory: &'o Inventory,
    /// Where the inventory is, for whoever takes the run back.
    pub fleet: &'o Path,
    /// The run directory.
    pub run: &'o RunDir,
    /// What is to be done.
    pub plan: &'o Plan,
    /// The first root, which is the pin.
    pub root: Digest,
    /// The chain.
    pub chain: Digest,
    /// This program.
    pub program: PathBuf,
    /// Who approved it.
    pub approver: String,
    /// The command that takes the run back.
    pub abort: Vec<String>,
    /// The name of this machine.
    pub machine: String,
}

/// A run that goes on. While this lives, no other process may go on with it.
pub struct Frame {
    place: Place,
    _lock: File,
}

/// Why a run cannot begin or go on.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// Another process goes on with it.
    #[error("another process goes on with the run in {}", .0.display())]
    Busy(PathBuf),
    /// Those who measure did not begin.
    #[error("{0}")]
    Measure(String),
    /// The machine failed.
    #[error("cannot {what}")]
    Io {
        /// What was to be done.
        what: String,
        /// What the system said.
        source: io::Error,
    },
}

fn failed(what: impl Into<String>) -> impl FnOnce(io::Error) -> FrameError {
    move |source| FrameError::Io { what: what.into(), source }
}

fn lock(run: &RunDir) -> Result<(Place, File), FrameError> {
    let place = Place::beside(run.path());
    let lock = place.lock().map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => FrameError::Busy(run.path().to_owned()),
        _ => failed("lock the run")(error),
    })?;
    Ok((place, lock))
}

impl Frame {
    /// Begins a run: plan, timeline, keeper, and the keys of those who measure.
    ///
    /// # Errors
    /// [`FrameError`]; nothing was touched on any node.
    pub fn open(opening: &Opening<'_>) -> Result<(Self, Kept), FrameError> {
        let Opening { run, plan, .. } = opening;
        let (place, lock) = lock(run)?;
        run.write_json(PLAN, plan).map_err(failed("write the plan"))?;
        let mut journal = Kept::create(run.path(), &opening.machine).map_err(failed("begin the timeline"))?;
        let begin = opening.begin().map_err(failed("describe the run"))?;
        journal.add(By::Tool, None, What::Begin(Box::new(begin))).map_err(failed("write the timeline"))?;
        let frame = Self { place, _lock: lock };
        let measures = opening.measures();
        frame.place.start(&opening.program, &opening.order(&measures)).map_err(failed("start the keeper"))?;
        for measure in &measures {
            let key = match measure.key() {
                Ok(key) => key,
                Err(why) => {
                    let _ = frame.place.end();
                    return Err(FrameError::Measure(why));
                }
            };
            let told = What::Prober { name: measure.name.clone(), of: measure.of.clone(), key };
            journal.add(By::Tool, None, told).map_err(failed("write the timeline"))?;
        }
        Ok((frame, journal))
    }

    /// Goes on with a run whose orchestrator is gone. Those who measured then still do, if their keeper lives.
    ///
    /// # Errors
    /// [`FrameError`]
    pub fn reopen(run: &RunDir, machine: &str) -> Result<(Self, Kept), FrameError> {
        let (place, lock) = lock(run)?;
        let journal = Kept::resume(run.path(), machine).map_err(failed("go on with the timeline"))?;
        Ok((Self { place, _lock: lock }, journal))
    }

    /// Goes on with a run that has an end, to be sealed: nothing is added to its timeline.
    ///
    /// # Errors
    /// [`FrameError`]
    pub fn reopen_over(run: &RunDir) -> Result<Self, FrameError> {
        let (place, lock) = lock(run)?;
        Ok(Self { place, _lock: lock })
    }

    /// Ends those who measure; their series are signed then. The end of the run is in the timeline already.
    ///
    /// # Errors
    /// [`FrameError`] when they had to be killed.
    pub fn end_measuring(&self) -> Result<(), FrameError> {
        self.place.end().map_err(failed("end those who measure"))
    }

    /// Removes what is beside the run directory.
    ///
    /// # Errors
    /// [`FrameError`]
    pub fn close(self) -> Result<(), FrameError> {
        self.place.end().map_err(failed("end those who measure"))?;
        self.place.remove().map_err(failed("remove the files of the keeper"))
    }
}

/// One process that measures.
struct Measure {
    name: String,
    of: String,
    file: PathBuf,
    args: Vec<String>,
}

impl Measure {
    /// Its public key, as soon as it has begun.
    fn key(&self) -> Result<String, String> {
        let end = BootTime::now() + BEGIN_PATIENCE;
        loop {
            let text = std::fs::read_to_string(&self.file).unwrap_or_default();
            let head = text.lines().next().and_then(|line| serde_json::from_str::<Head>(line).ok());
            match head {
                // Its first answer is there, too: what happens from now on is seen.
                Some(head) if text.lines().count() > 1 => return Ok(head.key),
                _ if BootTime::now() >= end => return Err(format!("{} did not begin to measure", self.name)),
                _ => thread::sleep(Duration::from_millis(10)),
            }
        }
    }
}

impl Opening<'_> {
    fn begin(&self) -> io::Result<Begin> {
        let plan = self.plan;
        Ok(Begin {
            id: plan.id.clone(),
            run: plan.kind.clone(),
            scenario: plan.scenario.clone(),
            mode: plan.mode,
            group: plan.group.clone(),
            challenge: plan.challenge.clone().unwrap_or_default(),
            plan: plan_digest(&serde_json::to_value(plan)?),
            root: self.root,
            chain: self.chain,
            operator: plan.actor.clone(),
            approver: self.approver.clone(),
            reason: plan.reason.clone(),
            tool: this_program()?,
        })
    }

    fn order(&self, measures: &[Measure]) -> Order {
        let steps = [&self.plan.steps, &self.plan.rollback, &self.plan.always];
        let boxes: u64 = steps.into_iter().flatten().map(|step| step.timeout_seconds).sum();
        Order {
            measures: measures.iter().map(|measure| measure.args.clone()).collect(),
            abort: self.abort.clone(),
            dead_man_seconds: self.inventory.drill.dead_man_seconds,
            at_most_seconds: boxes + SLACK_SECONDS,
        }
    }

    /// A prober of the ingress, one of each node that answers by itself, and the sentinel. A simulated run is not measured, and
    /// neither is one that moves no lead.
    fn measures(&self) -> Vec<Measure> {
        let inventory = self.inventory;
        let is_moved = self.plan.old_leader.is_some();
        let (true, Mode::Execute, Some(ingress)) = (is_moved, self.plan.mode, &inventory.ingress) else {
            return Vec::new();
        };
        let drill = &inventory.drill;
        let identity = ingress.identity.as_ref().unwrap_or(&inventory.identity);
        let at = |base: &url::Url, path: &str| base.join(path.trim_start_matches('/')).map(|url| url.to_string());
        let mut measures = Vec::new();
        if let Ok(url) = at(&ingress.url, &identity.path) {
            measures.push(self.prober("ingress", &url, identity, drill.interval_ms));
        }
        for node in &inventory.nodes {
            if let Some(Ok(url)) = node.service.as_ref().map(|service| at(service, &identity.path)) {
                measures.push(self.prober(&node.name, &url, identity, drill.interval_ms.max(NODE_INTERVAL_MS)));
            }
        }
        let path = |path: &Option<String>| path.as_ref().and_then(|path| at(&ingress.url, path).ok());
        // What writes to production is there in a drill, and else where somebody asked for it.
        let counts = self.plan.kind == "drill" || self.plan.requires("rpo");
        if let (true, Some(write), Some(read)) = (counts, path(&drill.write), path(&drill.read)) {
            let file = self.run.file(SENTINEL);
            let mut args = self.common("sentinel", &file, "ingress", drill.interval_ms);
            args.extend(["--url".to_owned(), write, "--read".to_owned(), read]);
            measures.push(Measure { name: "sentinel".to_owned(), of: "ingress".to_owned(), file, args });
        }
        measures
    }

    fn prober(&self, of: &str, url: &str, identity: &crate::fleet::inventory::Identity, interval_ms: u64) -> Measure {
        let name = if of == "ingress" { of.to_owned() } else { format!("node-{of}") };
        let file = self.run.file(&format!("{PROBES}/{name}.jsonl"));
        let mut args = self.common("prober", &file, of, interval_ms);
        args.extend(["--url".to_owned(), url.to_owned()]);
        let first = |pointers: &[String]| pointers.first().cloned();
        let at = [("--node-at", &identity.node), ("--instance-at", &identity.instance), ("--term-at", &identity.term)];
        for (option, pointers) in at {
            args.extend(first(pointers).into_iter().flat_map(|pointer| [option.to_owned(), pointer]));
        }
        Measure { name, of: of.to_owned(), file, args }
    }

    fn common(&self, command: &str, file: &Path, of: &str, interval_ms: u64) -> Vec<String> {
        let mut args: Vec<String> = ["drill", command, "--into"].map(str::to_owned).into();
        args.push(file.display().to_string());
        for (option, value) in [
            ("--drill", self.plan.id.clone()),
            ("--challenge", self.plan.challenge.clone().unwrap_or_default()),
            ("--of", of.to_owned()),
            ("--interval", interval_ms.to_string()),
            ("--timeout", self.inventory.drill.timeout_ms.to_string()),
        ] {
            args.extend([option.to_owned(), value]);
        }
        args
    }
}

/// An id for a run that begins now: sorts by time, and is unlike every other.
///
/// # Errors
/// When there is no randomness.
pub fn new_id(kind: &str, now: Timestamp) -> io::Result<String> {
    let mut random = [0_u8; 4];
    getrandom::fill(&mut random).map_err(io::Error::other)?;
    let random: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(format!("{kind}-{}-{random}", now.strftime("%Y%m%d")))
}
