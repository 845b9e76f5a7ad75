//! `bootstrap drill run`: a drill, gone through or done, gone on with, or taken back.

use std::env;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bootstrap::drill::conduct::{Asked, Closed, ConductError, Conducted, Conductor};
use bootstrap::evidence::event::{CheckStatus, Mode, StepStatus};
use bootstrap::fleet::inventory::Inventory;
use bootstrap::origin::{self, Origin};
use bootstrap::scenario::execute::{ExecuteError, Verdict};
use bootstrap::scenario::resolve::ResolveError;
use bootstrap::scenario::runs::{self, Runs, RunsError};
use clap::Args;
use jiff::Timestamp;
use manifests::keys::SecretKey;
use manifests::refusal::exit;
use serde::Serialize;
use snapkit::cancel::Cancel;
use snapkit::config::{Config, Environment, Flags};
use snapkit::keyfile;
use snapkit::manifest::Place;
use snapkit::terminal::exit_code::{CliError, Exit};
use snapkit::terminal::output::{Output, Report, write_table};

use crate::cli::fleet::InventoryArgs;

/// Go through a drill, or do it
///
/// `full`: a follower comes up from the manifest, the leader is lost, the follower takes over, and a blank node is restored from
/// the chain alone. `restore`: only the last of these, for every week; nothing that serves is touched. Without --execute nothing
/// is changed: the plan is gone through, and its id is what --confirm wants. Exit code 1 if the drill did not pass.
#[derive(Debug, Args)]
pub(super) struct RunArgs {
    /// `full` or `restore`
    #[arg(value_name = "SCENARIO", required_unless_present_any = ["resume", "abort", "scenario_file"], conflicts_with_all = ["resume", "abort"])]
    scenario: Option<String>,
    #[command(flatten)]
    inventory: InventoryArgs,
    #[command(flatten)]
    place: RunsArgs,
    #[command(flatten)]
    asked: AskedArgs,
    /// Do it
    #[arg(long, requires = "confirm")]
    execute: bool,
    /// The id of the dry run of this plan
    #[arg(long, value_name = "ID", requires = "execute")]
    confirm: Option<String>,
    /// Go on with a run whose orchestrator is gone
    #[arg(long, value_name = "ID", conflicts_with_all = ["execute", "abort"])]
    resume: Option<String>,
    /// Take back a run whose orchestrator is gone
    #[arg(long, value_name = "ID", conflicts_with = "execute")]
    abort: Option<String>,
    /// The key that seals what was found, with the role node [default: this machine's key for the chain]
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
}

/// Where runs are kept.
#[derive(Debug, Args)]
pub(super) struct RunsArgs {
    /// The directory of runs
    #[arg(long, value_name = "DIR", env = "SNAPKIT_RUNS", default_value = "drills")]
    pub(super) runs: PathBuf,
}

/// What is asked for.
#[derive(Debug, Args)]
pub(super) struct AskedArgs {
    /// A scenario of your own, in the grammar of docs/scenarios.md
    #[arg(long, value_name = "FILE")]
    scenario_file: Option<PathBuf>,
    /// The node that is restored cold [default: `blank` of the inventory]
    #[arg(long, value_name = "NODE")]
    blank: Option<String>,
    /// The node that is to take over [default: the follower that is least behind]
    #[arg(long, value_name = "NODE")]
    target: Option<String>,
    /// What whoever will verify it gave you beforehand
    #[arg(long, value_name = "TEXT")]
    challenge: Option<String>,
    /// Why; kept
    #[arg(long, value_name = "TEXT", default_value = "a drill")]
    reason: String,
    /// Who approved it; kept
    #[arg(long, value_name = "NAME", default_value = "")]
    approver: String,
}

impl AskedArgs {
    /// What is asked for; without a name, the file has it.
    pub(super) fn asked(&self, scenario: Option<&str>) -> Result<Asked, CliError> {
        let file = self.scenario_file.as_ref().map(|file| file.display().to_string());
        let scenario = scenario.map(str::to_owned).or(file).unwrap_or_default();
        let text = self.scenario_file.as_deref().map(std::fs::read_to_string).transpose();
        let text =
            text.map_err(|error| CliError::from(error).context("cannot read the scenario").with_exit(Exit::USAGE))?;
        Ok(Asked {
            scenario,
            text,
            blank: self.blank.clone(),
            target: self.target.clone(),
            challenge: self.challenge.clone(),
            actor: actor(),
            approver: self.approver.clone(),
            reason: self.reason.clone(),
        })
    }
}

/// Who asks, as this machine knows.
fn actor() -> String {
    let name = ["SUDO_USER", "USER", "LOGNAME"].into_iter().find_map(|name| env::var(name).ok());
    name.unwrap_or_else(|| format!("uid {}", rustix::process::getuid().as_raw()))
}

/// A conductor for this inventory; the chain is opened from the one string.
pub(in crate::cli) fn conductor<'c>(
    inventory: &'c Inventory,
    fleet: &'c Path,
    runs: &Path,
    out: &Output,
) -> Result<(Conductor<'c>, Origin), CliError> {
    let from = inventory.origin().map_err(|error| {
        CliError::usage(error.to_string()).next("give the inventory `from`, the string that `snapkit init` printed")
    })?;
    let from = origin::absolute(&from)?;
    let here = env::current_dir()?;
    let flags = Flags { store: Place::of(&from.url).store(), ..Flags::default() };
    let config = Config::load(&here, &Environment::new(env::vars_os()), &flags)?;
    let json = out.is_json();
    let listener = Arc::new(move |notice: &_| Output::new(json, false).warn(format_args!("{notice}")));
    let origin = Origin::open(&from, inventory.manifest.as_deref(), &config, listener)?;
    let chain = origin.chain(Timestamp::now())?;
    let conductor = Conductor {
        inventory,
        fleet,
        runs: Runs::of_fleet(&std::path::absolute(runs)?, inventory, &config.home.value),
        origin: from.to_string(),
        root: origin.pin.root,
        chain: chain.id(),
        program: env::current_exe()?,
        machine: rustix::system::uname().nodename().to_string_lossy().into_owned(),
    };
    Ok((conductor, origin))
}

/// The key that seals: the one that is named, else that of this machine for the chain.
pub(in crate::cli) fn signer(key: Option<&PathBuf>, origin: &Origin) -> Result<SecretKey, CliError> {
    let key = match key {
        Some(file) => keyfile::read_secret(file).map_err(CliError::from)?,
        None => origin.trust.read_node_key(&origin.pin.root).map_err(|error| {
            CliError::from(error).next("give --key FILE: a key with the role node, which seals what is found")
        })?,
    };
    Ok(key)
}

pub(super) fn run(args: &RunArgs, out: &mut Output, cancel: &Cancel) -> Result<Exit, CliError> {
    let inventory = args.inventory.load()?;
    let fleet = std::path::absolute(&args.inventory.inventory)?;
    let (conductor, origin) = conductor(&inventory, &fleet, &args.place.runs, out)?;
    // Before anything is begun: what cannot be sealed shows nothing.
    let signer = signer(args.key.as_ref(), &origin)?;
    let stopped = || cancel.is_requested();
    let conducted = match (&args.resume, &args.abort, &args.scenario) {
        (Some(id), _, _) => conductor.resume(id, &stopped),
        (_, Some(id), _) => conductor.abort(id, &args.asked.reason, &stopped),
        (_, _, scenario) => {
            let asked = args.asked.asked(scenario.as_deref())?;
            begin(args, &asked, &conductor, &stopped)
        }
    };
    let conducted = conducted.map_err(explained)?;
    let mut shown = Shown::of(&conducted);
    if conducted.finished.verdict.is_some() {
        let chain = origin.chain(Timestamp::now())?;
        let closed =
            conductor.seal(&conducted.run, &conducted.plan, &chain, &*origin.store, &signer).map_err(explained)?;
        if let (Err(why), Mode::Execute) = (&closed.recorded, conducted.plan.mode) {
            out.warn(format_args!("the chain was not told that this ended: {why}"));
        }
        shown.seal(&closed);
        conducted.close()?;
    }
    let exit = shown.exit();
    out.report(&shown)?;
    Ok(exit)
}

fn begin(
    args: &RunArgs,
    asked: &Asked,
    conductor: &Conductor<'_>,
    stopped: &dyn Fn() -> bool,
) -> Result<Conducted, ConductError> {
    let failed = |source| ConductError::Io { what: "make an id".to_owned(), source };
    let (scenario, _) = conductor.scenario(asked)?;
    let id = runs::new_id(&scenario.name).map_err(failed)?;
    let mode = if args.execute { Mode::Execute } else { Mode::Simulated };
    let plan = conductor.plan(asked, mode, id, Timestamp::now())?;
    match &args.confirm {
        Some(confirm) => conductor.execute(plan, confirm, &asked.approver, stopped),
        None => conductor.rehearse(plan, stopped),
    }
}

pub(in crate::cli) fn explained(error: ConductError) -> CliError {
    match error {
        ConductError::NoBlank => {
            CliError::usage(error.to_string()).next("name it with --blank, or as `blank` in [drill] of the inventory")
        }
        ConductError::NoScenario(_) | ConductError::NoNode(_) | ConductError::Grammar(_) => {
            CliError::usage(error.to_string())
        }
        ConductError::Resolve(ResolveError::NotNow { why, next }) => CliError::refused(why).next(next),
        ConductError::Resolve(error) => CliError::usage(error.to_string()),
        ConductError::Runs(error) => {
            let next = match &error {
                RunsError::Busy { .. } => "wait until it has ended",
                RunsError::Interrupted { .. } => "go on with it by --resume ID, or take it back by --abort ID",
                RunsError::NotConfirmed { .. } => "go through it again without --execute, and confirm that",
                _ => return CliError::from(error),
            };
            CliError::refused(error.to_string()).next(next)
        }
        ConductError::Execute(error) if !matches!(error, ExecuteError::Journal(_)) => {
            CliError::refused(error.to_string()).next("`bootstrap drill history` shows every run and what became of it")
        }
        error => error.into(),
    }
}

/// A run.
#[derive(Debug, Serialize)]
struct Shown {
    id: String,
    directory: PathBuf,
    scenario: String,
    title: String,
    mode: Mode,
    plan_sha256: String,
    verdict: Option<Verdict>,
    failed_step: Option<String>,
    steps: Vec<Step>,
    bundle: Option<Bundle>,
}

/// What was sealed.
#[derive(Debug, Serialize)]
struct Bundle {
    sha256: String,
    tar: PathBuf,
    report: PathBuf,
    bytes: u64,
    passed: bool,
    failed: Vec<Check>,
    rto_ms: Option<u64>,
    rpo_events: Option<u64>,
    record: Option<u64>,
}

#[derive(Debug, Serialize)]
struct Step {
    id: String,
    status: StepStatus,
    error: Option<String>,
    note: String,
    checks: Vec<Check>,
}

#[derive(Debug, Serialize)]
struct Check {
    id: String,
    status: CheckStatus,
    observed: String,
    expected: String,
}

impl Shown {
    fn of(conducted: &Conducted) -> Self {
        let finished = &conducted.finished;
        let step = |(id, outcome): &(String, bootstrap::scenario::Outcome)| Step {
            id: id.clone(),
            status: outcome.status,
            error: outcome.error.as_ref().map(|error| error.text.clone()),
            note: outcome.note.clone(),
            checks: (outcome.checks.iter())
                .map(|check| Check {
                    id: check.id.clone(),
                    status: check.status,
                    observed: check.observed.clone(),
                    expected: check.expected.clone(),
                })
                .collect(),
        };
        Self {
            id: conducted.plan.id.clone(),
            directory: conducted.run.path().to_owned(),
            scenario: conducted.plan.scenario.clone(),
            title: conducted.plan.title.clone(),
            mode: conducted.plan.mode,
            plan_sha256: conducted.plan.plan_sha256.clone(),
            verdict: finished.verdict,
            failed_step: finished.failed_step.clone(),
            steps: finished.steps.iter().map(step).collect(),
            bundle: None,
        }
    }

    fn seal(&mut self, closed: &Closed) {
        let sealed = &closed.sealed;
        let result = &sealed.result;
        let failed = result.checks.iter().filter(|check| check.required && check.status != CheckStatus::Passed);
        self.bundle = Some(Bundle {
            sha256: sealed.bundle.to_string(),
            report: self.directory.join("report.html"),
            bytes: std::fs::metadata(&sealed.tar).map_or(0, |file| file.len()),
            tar: sealed.tar.clone(),
            passed: result.verdict.word() == "passed",
            failed: failed
                .map(|check| Check {
                    id: check.id.clone(),
                    status: check.status,
                    observed: check.observed.clone(),
                    expected: check.expected.clone(),
                })
                .collect(),
            rto_ms: result.measured.rto_ms,
            rpo_events: result.measured.rpo_events,
            record: closed.recorded.as_ref().ok().copied(),
        });
    }

    fn exit(&self) -> Exit {
        let sealed_badly = self.mode == Mode::Execute && self.bundle.as_ref().is_some_and(|bundle| !bundle.passed);
        match self.verdict {
            Some(Verdict::Passed) if sealed_badly => Exit::NO,
            Some(Verdict::Passed) => Exit::DONE,
            Some(_) => Exit::NO,
            None => Exit::of_code(exit::COULD_NOT_RUN),
        }
    }
}

impl Bundle {
    fn write_text(&self, mode: Mode, out: &mut dyn Write) -> io::Result<()> {
        if mode == Mode::Execute {
            for check in &self.failed {
                writeln!(out, "NOT SHOWN {}: {}; expected: {}", check.id, check.observed, check.expected)?;
            }
        }
        if let Some(ms) = self.rto_ms {
            writeln!(out, "recovery took {:.1} s, as clients saw it", ms as f64 / 1000.0)?;
        }
        if let Some(events) = self.rpo_events {
            writeln!(out, "{events} acknowledged events were lost")?;
        }
        let record =
            self.record.map_or_else(|| "not in the chain".to_owned(), |seq| format!("record {seq} of the chain"));
        writeln!(out, "bundle sha256:{} ({} bytes, {record})", self.sha256, self.bytes)?;
        writeln!(out, "report: {}", self.report.display())
    }
}

impl Report for Shown {
    const SCHEMA: &'static str = "bootstrap.drill-run/1";

    fn write_text(&self, out: &mut dyn Write) -> io::Result<()> {
        let how = if self.mode == Mode::Simulated { "gone through" } else { "done" };
        writeln!(out, "{} ({}), {how}: {}", self.id, self.scenario, self.title)?;
        let rows: Vec<[String; 3]> = (self.steps.iter())
            .map(|step| {
                let said = step.error.clone().unwrap_or_else(|| step.note.clone());
                [format!("  {}", step.status.word()), step.id.clone(), said]
            })
            .collect();
        write_table(out, &rows)?;
        for check in self.steps.iter().flat_map(|step| &step.checks).filter(|check| check.status == CheckStatus::Failed)
        {
            writeln!(out, "FAILED {}: {}; expected: {}", check.id, check.observed, check.expected)?;
        }
        if let Some(bundle) = &self.bundle {
            bundle.write_text(self.mode, out)?;
        }
        writeln!(out, "{}", self.directory.display())?;
        match (self.verdict, self.mode) {
            (Some(Verdict::Passed), Mode::Simulated) => {
                writeln!(out, "nothing was changed; to do it: --execute --confirm {}", self.id)
            }
            (Some(Verdict::Passed), Mode::Execute) => writeln!(out, "every step ended well"),
            (Some(Verdict::Failed), _) => {
                writeln!(out, "FAILED at {}", self.failed_step.as_deref().unwrap_or("a check"))
            }
            (Some(Verdict::Aborted), _) => writeln!(out, "taken back"),
            (Some(Verdict::AbortFailed), _) => writeln!(out, "TAKEN BACK ONLY IN PART"),
            (None, _) => {
                writeln!(
                    out,
                    "interrupted; go on with it by --resume {}, or take it back by --abort {}",
                    self.id, self.id
                )
            }
        }
    }
}
