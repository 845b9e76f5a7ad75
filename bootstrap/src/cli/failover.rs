//! `bootstrap failover`: a scenario gone through, done, gone on with, or taken back.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::PathBuf;

use bootstrap::evidence::event::{CheckStatus, Failure, Mode, StepStatus};
use bootstrap::evidence::run_dir::RunDir;
use bootstrap::fleet::inventory::Inventory;
use bootstrap::scenario::act::Mover;
use bootstrap::scenario::begin;
use bootstrap::scenario::execute::{self, ExecuteError, Finished, Kept, Verdict};
use bootstrap::scenario::field::Ground;
use bootstrap::scenario::moves::Moves;
use bootstrap::scenario::plan::Plan;
use bootstrap::scenario::resolve::{Wish, resolve};
use bootstrap::scenario::runs::{Found, Runs, RunsError, new_id};
use clap::Args;
use jiff::Timestamp;
use serde::Serialize;
use snapkit::cancel::Cancel;
use snapkit::terminal::exit_code::{CliError, Exit};
use snapkit::terminal::output::{Output, Report};

use super::fleet::InventoryArgs;
use super::scenario::{CastArgs, Chosen, seen, unfit};

/// Move the lead from one node to another: planned, emergency, switchback, or a scenario of your own
///
/// Without --execute it is a dry run: what only looks is looked at, nothing is changed, and an id is printed. --execute
/// --confirm ID does the same plan, if nothing changed since then. A step that fails ends it: what is left is not done. A run
/// that was interrupted, in whatever way, is gone on with by --resume or taken back by --abort. Exit code 1 if a step or check
/// failed, 3 if it was refused and nothing was changed.
#[derive(Debug, Args)]
pub(super) struct FailoverArgs {
    /// planned, emergency or switchback
    #[arg(value_name = "SCENARIO", required_unless_present = "scenario_file")]
    scenario: Option<String>,
    /// A scenario of your own
    #[arg(long, value_name = "FILE", conflicts_with = "scenario")]
    scenario_file: Option<PathBuf>,
    #[command(flatten)]
    inventory: InventoryArgs,
    #[command(flatten)]
    runs: RunsArgs,
    #[command(flatten)]
    cast: CastArgs,
    /// Do it
    #[arg(long, requires = "confirm", requires = "reason", conflicts_with_all = ["resume", "abort"])]
    execute: bool,
    /// The id that the dry run of this plan printed, at most an hour ago
    #[arg(long, value_name = "ID", requires = "execute")]
    confirm: Option<String>,
    /// Go on with the run that was interrupted
    #[arg(long, conflicts_with_all = ["abort", "old_leader", "target"])]
    resume: bool,
    /// Take back the run that was interrupted, or the last one if it failed, by the way that was stored before it began
    #[arg(long, requires = "reason", conflicts_with_all = ["old_leader", "target"])]
    abort: bool,
    /// Why; kept, and passed on to agents
    #[arg(long, value_name = "TEXT", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    reason: Option<String>,
    /// What whoever will verify the evidence gave beforehand; kept in it
    #[arg(long, value_name = "TEXT")]
    challenge: Option<String>,
    /// What was done for a step that is done by hand
    #[arg(long, value_name = "STEP=TEXT", value_parser = attested)]
    attest: Vec<(String, String)>,
}

/// Where runs are kept.
#[derive(Debug, Clone, Args)]
pub(super) struct RunsArgs {
    /// The directory of runs
    #[arg(long, value_name = "DIR", env = "SNAPKIT_RUNS", default_value = "drills")]
    pub(super) runs: PathBuf,
}

fn attested(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((step, said)) if !step.is_empty() && !said.trim().is_empty() => Ok((step.to_owned(), said.to_owned())),
        _ => Err("expected STEP=TEXT".to_owned()),
    }
}

/// Who runs this, as far as the system can tell.
pub(super) fn actor() -> String {
    let user = std::env::var("SUDO_USER").or_else(|_| std::env::var("USER")).unwrap_or_default();
    let uid = rustix::process::getuid().as_raw();
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    if user.is_empty() { format!("uid {uid} on {host}") } else { format!("{user} on {host}") }
}

/// What became of a run, for a report.
#[derive(Debug, Serialize)]
struct Ran {
    id: String,
    scenario: String,
    mode: Mode,
    /// `passed`, `failed`, `aborted`, `abort_failed`, or `interrupted`.
    verdict: &'static str,
    failed_step: Option<String>,
    old_leader: Option<String>,
    target: Option<String>,
    plan_sha256: String,
    directory: PathBuf,
    steps: Vec<Shown>,
    next: Option<String>,
}

#[derive(Debug, Serialize)]
struct Shown {
    id: String,
    phase: String,
    title: String,
    status: StepStatus,
    error: Option<Failure>,
    note: String,
    checks: Vec<Check>,
    next: Option<String>,
}

#[derive(Debug, Serialize)]
struct Check {
    id: String,
    status: CheckStatus,
    observed: String,
}

impl Report for Ran {
    const SCHEMA: &'static str = "bootstrap.failover/1";

    fn write_text(&self, out: &mut dyn Write) -> io::Result<()> {
        let name = |node: &Option<String>| node.clone().unwrap_or_else(|| "-".to_owned());
        writeln!(out, "{} {}: {} -> {}", self.scenario, self.id, name(&self.old_leader), name(&self.target))?;
        let mut phase = "";
        for step in &self.steps {
            if step.phase != phase {
                phase = &step.phase;
                writeln!(out, "{phase}")?;
            }
            let word = if step.status == StepStatus::Failed { "FAILED" } else { step.status.word() };
            writeln!(out, "  {word:<8} {}: {}", step.id, step.title)?;
            if let Some(error) = &step.error {
                writeln!(out, "           {}", error.text)?;
            }
            if step.status == StepStatus::Failed
                && let Some(next) = &step.next
            {
                writeln!(out, "           do this: {next}")?;
            }
            let lines =
                step.checks.iter().map(|check| &check.observed).chain((!step.note.is_empty()).then_some(&step.note));
            // What a failed step saw is its error.
            for line in lines.filter(|_| step.error.is_none()) {
                writeln!(out, "           {line}")?;
            }
        }
        writeln!(out, "{}; kept in {}", self.verdict, self.directory.display())?;
        if let Some(next) = &self.next {
            writeln!(out, "{next}")?;
        }
        Ok(())
    }
}

pub(super) fn run(args: &FailoverArgs, out: &mut Output, cancel: &Cancel) -> Result<Exit, CliError> {
    let inventory = args.inventory.load()?;
    let chosen = Chosen::of(args.scenario.as_deref(), args.scenario_file.as_ref(), &Moves)?;
    let here =
        Here { args, runs: Runs::at(&args.runs.runs), ground: Ground::new(inventory.clone()), inventory, cancel };
    let name = &chosen.scenario.name;
    let ran = match (args.resume, args.abort) {
        (true, _) => here.resume(name)?,
        (_, true) => here.abort(name)?,
        _ => here.anew(&chosen)?,
    };
    out.report(&ran)?;
    Ok(match ran.verdict {
        "passed" | "aborted" => Exit::DONE,
        "interrupted" => Exit::INTERRUPTED,
        _ => Exit::NO,
    })
}

struct Here<'a> {
    args: &'a FailoverArgs,
    inventory: Inventory,
    ground: Ground,
    runs: Runs,
    cancel: &'a Cancel,
}

impl Here<'_> {
    fn anew(&self, chosen: &Chosen) -> Result<Ran, CliError> {
        let mode = if self.args.execute { Mode::Execute } else { Mode::Simulated };
        let now = Timestamp::now();
        let wish = Wish {
            id: new_id(&chosen.scenario.name)?,
            mode,
            challenge: self.args.challenge.clone(),
            now,
            actor: actor(),
            reason: self.args.reason.clone().unwrap_or_else(|| "dry run".to_owned()),
            old_leader: self.args.cast.old_leader.clone(),
            target: self.args.cast.target.clone(),
        };
        let plan = resolve(&chosen.scenario, &chosen.text, &seen(&self.inventory), &wish).map_err(unfit)?;
        // Whoever goes through something changes nothing and holds up nobody.
        let _lock = match &self.args.confirm {
            None => None,
            Some(confirmed) => {
                let lock = self.runs.lock(&plan.group, &plan.id).map_err(problem)?;
                if let Some(open) = self.runs.interrupted(&plan.group).map_err(problem)?.into_iter().next() {
                    return Err(problem(RunsError::Interrupted { id: open.plan.id }));
                }
                self.runs.confirm(confirmed, &plan, now).map_err(problem)?;
                Some(lock)
            }
        };
        let directory = self.runs.begin(&plan).map_err(problem)?;
        let mut kept = Kept::create(directory.path(), &here())?;
        begin::write(&plan, &self.inventory, &mut kept)?;
        let finished = execute::run(&plan, &mut kept, &mut self.mover(&directory), &|| self.cancel.is_requested());
        self.ran(&plan, &directory, finished)
    }

    /// Goes on with the newest run of this scenario that has no end.
    fn resume(&self, scenario: &str) -> Result<Ran, CliError> {
        let found = self.newest(scenario, |found| !found.is_over())?.ok_or_else(|| {
            let (scenario, runs) = (scenario.to_owned(), self.runs.path().to_owned());
            problem(RunsError::NotInterrupted { scenario, runs })
        })?;
        let _lock = self.runs.lock(&found.plan.group, &found.plan.id).map_err(problem)?;
        self.expect_inventory(&found.plan)?;
        let mut kept = self.reopen(&found)?;
        let stopped = || self.cancel.is_requested();
        let mut mover = self.mover(&found.directory);
        let finished = match found.is_aborting() {
            // Its way back was interrupted; that is gone on with.
            true => execute::abort(&found.plan, "gone on with", &mut kept, &mut mover, &stopped),
            false => execute::run(&found.plan, &mut kept, &mut mover, &stopped),
        };
        self.ran(&found.plan, &found.directory, finished)
    }

    /// Takes back the newest run of this scenario: in its own timeline while that has no end, else as a run of its own.
    fn abort(&self, scenario: &str) -> Result<Ran, CliError> {
        let reason = self.args.reason.clone().unwrap_or_default();
        let Some(found) = self.newest(scenario, |_| true)? else {
            let (scenario, runs) = (scenario.to_owned(), self.runs.path().to_owned());
            return Err(problem(RunsError::NotInterrupted { scenario, runs }));
        };
        let _lock = self.runs.lock(&found.plan.group, &found.plan.id).map_err(problem)?;
        self.expect_inventory(&found.plan)?;
        let stopped = || self.cancel.is_requested();
        if !found.is_over() {
            let mut kept = self.reopen(&found)?;
            let mut mover = self.mover(&found.directory);
            let finished = execute::abort(&found.plan, &reason, &mut kept, &mut mover, &stopped);
            return self.ran(&found.plan, &found.directory, finished);
        }
        if found.passed() {
            let next = "`bootstrap failover switchback` gives the lead back";
            return Err(
                CliError::refused(format!("{} passed: there is nothing to take back", found.plan.id)).next(next)
            );
        }
        let plan = found.plan.way_back(new_id("back")?, Timestamp::now(), actor(), reason);
        let directory = self.runs.begin(&plan).map_err(problem)?;
        let mut kept = Kept::create(directory.path(), &here())?;
        begin::write(&plan, &self.inventory, &mut kept)?;
        let finished = execute::run(&plan, &mut kept, &mut self.mover(&directory), &stopped);
        self.ran(&plan, &directory, finished)
    }

    fn newest(&self, scenario: &str, is_it: impl Fn(&Found) -> bool) -> Result<Option<Found>, CliError> {
        let of_scenario = |found: &Found| found.plan.mode == Mode::Execute && found.plan.scenario == scenario;
        let all = self.runs.all().map_err(problem)?;
        Ok(all.into_iter().rev().find(|found| of_scenario(found) && is_it(found)))
    }

    /// A run goes on with the fleet that it began with.
    fn expect_inventory(&self, plan: &Plan) -> Result<(), CliError> {
        let now = self.inventory.digest().to_string();
        if plan.inventory_sha256 == now {
            return Ok(());
        }
        let what = format!("{} began with the inventory {}, and it is {now}", plan.id, plan.inventory_sha256);
        Err(CliError::refused(what).next("name the inventory that it began with, as it was"))
    }

    /// The timeline of a run that was interrupted, which may have been before its first line.
    fn reopen(&self, found: &Found) -> Result<Kept, CliError> {
        if found.events.is_empty() {
            let file = found.directory.file(bootstrap::evidence::timeline::FILE);
            // Nothing whole was written, so nothing was done.
            match std::fs::remove_file(&file) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
                _ => {}
            }
            let mut kept = Kept::create(found.directory.path(), &here())?;
            begin::write(&found.plan, &self.inventory, &mut kept)?;
            return Ok(kept);
        }
        Ok(Kept::resume(found.directory.path(), &here())?)
    }

    fn mover(&self, directory: &RunDir) -> Mover<'_> {
        let attested: BTreeMap<String, String> = self.args.attest.iter().cloned().collect();
        Mover::new(&self.ground, Some(directory.clone()), self.runs.path()).attested(attested)
    }

    fn ran(&self, plan: &Plan, directory: &RunDir, finished: Result<Finished, ExecuteError>) -> Result<Ran, CliError> {
        let finished = finished.map_err(|error| {
            let refused = !matches!(error, ExecuteError::Journal(_));
            let error = CliError::from(error);
            if refused { error.with_exit(Exit::REFUSED) } else { error }
        })?;
        let verdict = match finished.verdict {
            Some(Verdict::Passed) => "passed",
            Some(Verdict::Failed) => "failed",
            Some(Verdict::Aborted) => "aborted",
            Some(Verdict::AbortFailed) => "abort_failed",
            None => "interrupted",
        };
        let scenario = &plan.scenario;
        let next = match (plan.mode, finished.verdict) {
            (Mode::Simulated, Some(Verdict::Passed)) => Some(format!(
                "nothing was changed; to do it: bootstrap failover {scenario} --execute --confirm {} --reason TEXT",
                plan.id
            )),
            (Mode::Simulated, _) => Some("nothing was changed".to_owned()),
            (Mode::Execute, None) => {
                Some(format!("go on with --resume, or take it back with --abort: bootstrap failover {scenario} …"))
            }
            (Mode::Execute, Some(Verdict::Failed)) if !plan.rollback.is_empty() => {
                Some(format!("to take it back: bootstrap failover {scenario} --abort --reason TEXT"))
            }
            _ => None,
        };
        let planned =
            |id: &str| plan.steps.iter().chain(&plan.rollback).chain(&plan.always).find(|step| step.id == id).cloned();
        let steps = finished.steps.into_iter().map(|(id, outcome)| {
            let step = planned(&id);
            Shown {
                phase: step.as_ref().map(|step| step.phase.clone()).unwrap_or_default(),
                title: step.as_ref().map(|step| step.title.clone()).unwrap_or_default(),
                next: step.and_then(|step| step.next),
                id,
                status: outcome.status,
                error: outcome.error,
                note: outcome.note,
                checks: (outcome.checks.into_iter())
                    .map(|check| Check { id: check.id, status: check.status, observed: check.observed })
                    .collect(),
            }
        });
        Ok(Ran {
            id: plan.id.clone(),
            scenario: scenario.clone(),
            mode: plan.mode,
            verdict,
            failed_step: finished.failed_step,
            old_leader: plan.old_leader.clone(),
            target: plan.target.clone(),
            plan_sha256: plan.plan_sha256.clone(),
            directory: directory.path().to_owned(),
            steps: steps.collect(),
            next,
        })
    }
}

/// The name of this machine.
fn here() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

fn problem(error: RunsError) -> CliError {
    let next = match &error {
        RunsError::Busy { .. } => "wait until it has ended; one run at a time",
        RunsError::None { .. } => "name the directory of runs with --runs; a dry run prints its id",
        RunsError::NotInterrupted { .. } => "name the directory of runs with --runs",
        RunsError::Interrupted { .. } => "go on with --resume, or take it back with --abort",
        RunsError::NotConfirmed { .. } => "make a dry run and confirm its id",
        RunsError::Strange { .. } => "look at it; while it is there nobody knows whether that run is over",
        RunsError::Io { .. } => return error.into(),
    };
    CliError::refused(error.to_string()).next(next)
}
