//! `bootstrap failover`: a scenario gone through, done, gone on with, or taken back.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::PathBuf;

use bootstrap::drill::act::Drill;
use bootstrap::drill::conduct::{Closed, Conductor};
use bootstrap::drill::deeds::Deeds;
use bootstrap::drill::frame::{Frame, FrameError, Opening};
use bootstrap::evidence::event::{Actor as By, CheckStatus, Failure, Mode, StepStatus, What};
use bootstrap::evidence::result::{Check as Judged, Verdict as Computed};
use bootstrap::evidence::run_dir::RunDir;
use bootstrap::fleet::inventory::Inventory;
use bootstrap::fleet::quote;
use bootstrap::origin::Origin;
use bootstrap::scenario::act::Mover;
use bootstrap::scenario::begin;
use bootstrap::scenario::debts::Debts;
use bootstrap::scenario::execute::{self, ExecuteError, Finished, Journal, Kept, Verdict};
use bootstrap::scenario::field::Ground;
use bootstrap::scenario::plan::Plan;
use bootstrap::scenario::resolve::{Wish, resolve};
use bootstrap::scenario::runs::{Found, Runs, RunsError, new_id};
use clap::Args;
use jiff::Timestamp;
use manifests::digest::Digest;
use manifests::keys::SecretKey;
use serde::Serialize;
use snapkit::cancel::Cancel;
use snapkit::config::{Config, Environment, Flags};
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
    /// The key that seals what was found, with the role node [default: this machine's key for the chain]
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Write numbered events through the ingress meanwhile, as [drill] of the inventory says, and count what is lost: more than
    /// max_data_lag_events (default: 0) fails
    #[arg(long, conflicts_with_all = ["resume", "abort"])]
    sentinel: bool,
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

impl RunsArgs {
    /// The runs of this fleet.
    pub(super) fn of_fleet(&self, inventory: &Inventory) -> Result<Runs, CliError> {
        let config =
            Config::load(&std::env::current_dir()?, &Environment::new(std::env::vars_os()), &Flags::default())?;
        Ok(Runs::of_fleet(&std::path::absolute(&self.runs)?, inventory, &config.home.value))
    }
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
    /// What a stranger can verify; null where it could not be sealed.
    bundle: Option<Bundle>,
    /// Debts of the fleet that are open now.
    debts: Vec<String>,
    next: Option<String>,
}

#[derive(Debug, Serialize)]
struct Bundle {
    sha256: String,
    tar: PathBuf,
    /// Whether what was found, computed again from the files alone, passed.
    passed: bool,
    rto_ms: Option<u64>,
    /// Acknowledged writes of the sentinel that were lost; null where none wrote.
    lost_events: Option<u64>,
    /// The required checks that did not pass, and what was found.
    failed: Vec<String>,
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
        let name = |node: &Option<String>, nobody: &str| node.clone().unwrap_or_else(|| nobody.to_owned());
        let (from, to) = (name(&self.old_leader, "nobody"), name(&self.target, "whoever takes over first"));
        writeln!(out, "{} {}: {from} -> {to}", self.scenario, self.id)?;
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
        if let Some(bundle) = &self.bundle {
            let gap =
                bundle.rto_ms.map_or_else(String::new, |ms| format!("; clients were without an answer for {ms} ms"));
            let lost = match bundle.lost_events {
                Some(lost) => format!("; {lost} acknowledged writes of the sentinel were lost"),
                None => String::new(),
            };
            writeln!(out, "sealed in {}{gap}{lost}", bundle.tar.display())?;
            for failed in &bundle.failed {
                writeln!(out, "  NOT SHOWN {failed}")?;
            }
        }
        for debt in &self.debts {
            writeln!(out, "DEBT {debt} is open: `bootstrap debt list` says how it is closed")?;
        }
        if let Some(next) = &self.next {
            writeln!(out, "{next}")?;
        }
        Ok(())
    }
}

pub(super) fn run(args: &FailoverArgs, out: &mut Output, cancel: &Cancel) -> Result<Exit, CliError> {
    let inventory = args.inventory.load()?;
    let fleet = std::path::absolute(&args.inventory.inventory)?;
    let runs = args.runs.of_fleet(&inventory)?;
    let ground = Ground::new(inventory.clone());
    let here = Here { args, runs, fleet, ground, inventory, machine: machine(), cancel };
    let ran = match (args.resume, args.abort) {
        (false, false) => here.anew(&here.chosen()?, out)?,
        // What is done is stored with the run; only its name is asked for.
        (resume, _) => {
            let name = match &args.scenario {
                Some(name) => name.clone(),
                None => here.chosen()?.scenario.name,
            };
            if resume { here.resume(&name, out)? } else { here.abort(&name, out)? }
        }
    };
    out.report(&ran)?;
    // What was sealed is what counts: a run that was not shown to pass did not.
    let is_shown = ran.mode == Mode::Simulated || ran.bundle.as_ref().is_none_or(|bundle| bundle.passed);
    Ok(match ran.verdict {
        "passed" if !is_shown => Exit::NO,
        "passed" | "aborted" => Exit::DONE,
        "interrupted" => Exit::INTERRUPTED,
        _ => Exit::NO,
    })
}

struct Here<'a> {
    args: &'a FailoverArgs,
    fleet: PathBuf,
    inventory: Inventory,
    ground: Ground,
    runs: Runs,
    machine: String,
    cancel: &'a Cancel,
}

impl Here<'_> {
    fn chosen(&self) -> Result<Chosen, CliError> {
        Chosen::of(self.args.scenario.as_deref(), self.args.scenario_file.as_ref(), &Deeds)
    }

    fn anew(&self, chosen: &Chosen, out: &Output) -> Result<Ran, CliError> {
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
        let sight = seen(&self.inventory);
        if self.args.execute {
            // Said first: what it left half done is why there may be no plan now.
            let groups = sight.nodes.iter().filter_map(|node| node.state.as_ref()?.view.group.clone());
            groups.take(1).try_for_each(|group| self.expect_none_interrupted(&group))?;
        }
        let mut plan = resolve(&chosen.scenario, &chosen.text, &sight, &wish).map_err(unfit)?;
        if self.args.sentinel {
            let drill = &self.inventory.drill;
            if drill.write.is_none() || drill.read.is_none() || self.inventory.ingress.is_none() {
                let what = "--sentinel wants `write` and `read` in [drill], and [ingress], in the inventory";
                return Err(CliError::usage(what).next("docs/drills.md says what an application must offer there"));
            }
            plan = plan.requiring(&["sentinel", "rpo"]);
        }
        let Some(confirmed) = &self.args.confirm else {
            // Whoever goes through something changes nothing and holds up nobody.
            return self.rehearse(&plan, out);
        };
        let _lock = self.runs.lock(&plan.group, &plan.id).map_err(problem)?;
        self.expect_none_interrupted(&plan.group)?;
        self.runs.confirm(confirmed, &plan, now).map_err(problem)?;
        self.execute(&plan, out)
    }

    /// Nothing is begun beside a run that waits to be gone on with or taken back.
    fn expect_none_interrupted(&self, group: &str) -> Result<(), CliError> {
        match self.runs.interrupted(group).map_err(problem)?.first() {
            Some(open) => Err(problem(RunsError::interrupted(open))),
            None => Ok(()),
        }
    }

    fn rehearse(&self, plan: &Plan, out: &Output) -> Result<Ran, CliError> {
        let directory = self.runs.begin(plan).map_err(problem)?;
        let mut kept = Kept::create(directory.path(), &self.machine)?;
        let link = self.link(out);
        let (root, chain) = self.origin(link.as_ref());
        begin::write(plan, root, chain, &mut kept)?;
        let finished = execute::run(plan, &mut kept, &mut self.actor(&directory), &|| self.cancel.is_requested());
        self.ran(plan, &directory, finished, None, link, out)
    }

    fn execute(&self, plan: &Plan, out: &Output) -> Result<Ran, CliError> {
        let directory = self.runs.begin(plan).map_err(problem)?;
        let link = self.link(out);
        let (frame, mut kept) = self.open(plan, &directory, link.as_ref())?;
        let finished = execute::run(plan, &mut kept, &mut self.actor(&directory), &|| self.cancel.is_requested());
        self.ran(plan, &directory, finished, Some(frame), link, out)
    }

    /// Goes on with the newest run of this scenario that has no end, or was not sealed.
    fn resume(&self, scenario: &str, out: &Output) -> Result<Ran, CliError> {
        let interrupted = self.newest(scenario, |found| !found.is_over())?;
        let unsealed = || self.newest(scenario, |found| !found.is_sealed());
        let found = interrupted.map_or_else(unsealed, |found| Ok(Some(found)))?.ok_or_else(|| {
            let (scenario, runs) = (scenario.to_owned(), self.runs.path().to_owned());
            problem(RunsError::NotInterrupted { scenario, runs })
        })?;
        let _lock = self.runs.lock(&found.plan.group, &found.plan.id).map_err(problem)?;
        self.expect_inventory(&found.plan)?;
        let link = self.link(out);
        if let Some(over) = execute::concluded(&found.plan, &found.past()).transpose() {
            // Killed between its end and its seal.
            let frame = Frame::reopen_over(&found.directory).map_err(framed)?;
            return self.ran(&found.plan, &found.directory, over, Some(frame), link, out);
        }
        let (frame, mut kept) = self.reopen(&found, link.as_ref())?;
        let stopped = || self.cancel.is_requested();
        let mut actor = self.actor(&found.directory);
        let finished = match found.is_aborting() {
            // Its way back was interrupted; that is gone on with.
            true => execute::abort(&found.plan, "gone on with", &mut kept, &mut actor, &stopped),
            false => execute::run(&found.plan, &mut kept, &mut actor, &stopped),
        };
        self.ran(&found.plan, &found.directory, finished, Some(frame), link, out)
    }

    /// Takes back the newest run of this scenario: in its own timeline while that has no end, else as a run of its own.
    fn abort(&self, scenario: &str, out: &Output) -> Result<Ran, CliError> {
        let reason = self.args.reason.clone().unwrap_or_default();
        // A way back has none of its own: one that has failed is gone again from the run that it is of.
        let found = self.newest(scenario, |found| !found.is_over() || !found.is_way_back() || found.passed())?;
        let Some(found) = found else {
            let (scenario, runs) = (scenario.to_owned(), self.runs.path().to_owned());
            return Err(problem(RunsError::NotInterrupted { scenario, runs }));
        };
        let _lock = self.runs.lock(&found.plan.group, &found.plan.id).map_err(problem)?;
        self.expect_inventory(&found.plan)?;
        if !found.is_over() {
            let link = self.link(out);
            let (frame, mut kept) = self.reopen(&found, link.as_ref())?;
            let (mut actor, stopped) = (self.actor(&found.directory), || self.cancel.is_requested());
            let finished = execute::abort(&found.plan, &reason, &mut kept, &mut actor, &stopped);
            return self.ran(&found.plan, &found.directory, finished, Some(frame), link, out);
        }
        if found.is_taken_back() || (found.is_way_back() && found.passed()) {
            return Err(CliError::refused(format!("{} is taken back already", found.plan.id))
                .next("`bootstrap topology` shows who leads now"));
        }
        if found.passed() {
            let next = "`bootstrap failover switchback` gives the lead back";
            return Err(
                CliError::refused(format!("{} passed: there is nothing to take back", found.plan.id)).next(next)
            );
        }
        self.execute(&found.plan.way_back(new_id("back")?, Timestamp::now(), actor(), reason), out)
    }

    /// The chain of the fleet. That it cannot be read must not hold up an emergency: then there is no evidence.
    fn link(&self, out: &Output) -> Option<Link<'_>> {
        let linked = super::drill::conductor(&self.inventory, &self.fleet, self.runs.path(), out).and_then(
            |(conductor, origin)| Ok((super::drill::signer(self.args.key.as_ref(), &origin)?, conductor, origin)),
        );
        match linked {
            Ok((signer, conductor, origin)) => Some(Link { conductor, origin, signer }),
            Err(error) => {
                Output::new(out.is_json(), false).warn(format_args!("no evidence will be sealed: {error}"));
                None
            }
        }
    }

    /// The first root and the chain; zeroes where they are not known.
    fn origin(&self, link: Option<&Link<'_>>) -> (Digest, Digest) {
        let none = Digest([0; 32]);
        let root = self.inventory.origin().map_or(none, |from| from.pin.root);
        (root, link.map_or(none, |link| link.conductor.chain))
    }

    fn open(&self, plan: &Plan, directory: &RunDir, link: Option<&Link<'_>>) -> Result<(Frame, Kept), CliError> {
        let (root, chain) = self.origin(link);
        let program = std::env::current_exe()?;
        let path = |path: &std::path::Path| path.display().to_string();
        let mut abort = vec![path(&program)];
        abort.extend(["failover", &plan.scenario, "--abort", "--reason", "nobody went on with it"].map(str::to_owned));
        abort.extend(["--allow-in-repo".to_owned(), "--inventory".to_owned(), path(&self.fleet)]);
        abort.extend(["--runs".to_owned(), path(self.runs.path())]);
        let opening = Opening {
            inventory: &self.inventory,
            fleet: &self.fleet,
            run: directory,
            plan,
            root,
            chain,
            program,
            approver: String::new(),
            abort,
            machine: self.machine.clone(),
        };
        let (frame, mut kept) = Frame::open(&opening).map_err(framed)?;
        Self::told(plan, &mut kept, link)?;
        Ok((frame, kept))
    }

    /// The chain is told that the run begins. Nobody may be there who could write it: the timeline says so then.
    fn told(plan: &Plan, kept: &mut Kept, link: Option<&Link<'_>>) -> Result<(), CliError> {
        let told = link.map_or(Ok(()), |link| link.conductor.record_if_not_yet(plan, kept));
        if let Err(why) = told {
            let text = format!("the chain was not told that this begins: {why}");
            kept.add(By::Tool, None, What::Note { text })?;
        }
        Ok(())
    }

    /// The scenario as it was named.
    fn named(&self, scenario: &str) -> String {
        match &self.args.scenario_file {
            Some(file) => format!("--scenario-file {}", quote::word(&file.display().to_string())),
            None => scenario.to_owned(),
        }
    }

    /// What the plan was made with, and is to be made with again.
    fn again(&self) -> String {
        let cast = &self.args.cast;
        let mut words = String::new();
        let given =
            [("--old-leader", &cast.old_leader), ("--target", &cast.target), ("--challenge", &self.args.challenge)];
        for (option, value) in given {
            words.extend(value.iter().map(|value| format!(" {option} {}", quote::word(value))));
        }
        words + if self.args.sentinel { " --sentinel" } else { "" }
    }

    /// Which fleet, and where its runs are.
    fn typed(&self) -> String {
        let known = std::env::var_os("SNAPKIT_RUNS").unwrap_or_else(|| "drills".into());
        let runs = match self.args.runs.runs == known {
            true => String::new(),
            false => format!(" --runs {}", quote::word(&self.args.runs.runs.display().to_string())),
        };
        format!("{}{runs}", self.args.inventory.typed())
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

    /// A run that was interrupted, which may have been before the first line of its timeline.
    fn reopen(&self, found: &Found, link: Option<&Link<'_>>) -> Result<(Frame, Kept), CliError> {
        if !found.events.is_empty() {
            let (frame, mut kept) = Frame::reopen(&found.directory, &self.machine).map_err(framed)?;
            Self::told(&found.plan, &mut kept, link)?;
            return Ok((frame, kept));
        }
        // Nothing whole was written, so nothing was done.
        match std::fs::remove_file(found.directory.file(bootstrap::evidence::timeline::FILE)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.into()),
            _ => self.open(&found.plan, &found.directory, link),
        }
    }

    fn actor(&self, directory: &RunDir) -> Drill<'_> {
        let attested: BTreeMap<String, String> = self.args.attest.iter().cloned().collect();
        let mover = Mover::new(&self.ground, Some(directory.clone()), self.runs.shared()).attested(attested);
        let origin = self.inventory.origin().map(|from| from.to_string()).unwrap_or_default();
        Drill::new(&self.inventory, directory.clone(), origin, Box::new(mover))
    }

    fn ran(
        &self,
        plan: &Plan,
        directory: &RunDir,
        finished: Result<Finished, ExecuteError>,
        frame: Option<Frame>,
        link: Option<Link<'_>>,
        out: &Output,
    ) -> Result<Ran, CliError> {
        let finished = finished.map_err(|error| {
            let refused = !matches!(error, ExecuteError::Journal(_));
            let error = CliError::from(error);
            if refused { error.with_exit(Exit::REFUSED) } else { error }
        })?;
        let mut bundle = None;
        if finished.verdict.is_some() {
            if let Some(frame) = &frame {
                frame.end_measuring().map_err(framed)?;
            }
            bundle = link.and_then(|link| link.seal(plan, directory, out));
            frame.map_or(Ok(()), Frame::close).map_err(framed)?;
        }
        let verdict = match finished.verdict {
            Some(Verdict::Passed) => "passed",
            Some(Verdict::Failed) => "failed",
            Some(Verdict::Aborted) => "aborted",
            Some(Verdict::AbortFailed) => "abort_failed",
            None => "interrupted",
        };
        let scenario = &plan.scenario;
        let typed = self.typed();
        let next = match (plan.mode, finished.verdict) {
            (Mode::Simulated, Some(Verdict::Passed)) => Some(format!(
                "nothing was changed; to do it: bootstrap failover {}{} --execute --confirm {} --reason TEXT{typed}",
                self.named(scenario),
                self.again(),
                plan.id
            )),
            (Mode::Simulated, _) => Some("nothing was changed".to_owned()),
            (Mode::Execute, None) => Some(format!(
                "to go on with it: bootstrap failover {scenario} --resume{typed}; to take it back: bootstrap failover \
                     {scenario} --abort --reason TEXT{typed}"
            )),
            (Mode::Execute, Some(Verdict::Failed)) if !plan.rollback.is_empty() => {
                Some(format!("to take it back: bootstrap failover {scenario} --abort --reason TEXT{typed}"))
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
            bundle,
            // What cannot be read is said by `bootstrap debt list`, and changes nothing of what was done.
            debts: (Debts::below(self.runs.shared()).open().unwrap_or_default().into_iter())
                .map(|debt| debt.id)
                .collect(),
            next,
        })
    }
}

/// What evidence needs.
struct Link<'a> {
    conductor: Conductor<'a>,
    origin: Origin,
    signer: SecretKey,
}

impl Link<'_> {
    /// Seals what was found. That this cannot be done changes nothing of what was done: it is said.
    fn seal(&self, plan: &Plan, directory: &RunDir, out: &Output) -> Option<Bundle> {
        let sealed = || -> Result<Closed, CliError> {
            let chain = self.origin.chain(Timestamp::now())?;
            let store = &*self.origin.store;
            self.conductor.seal(directory, plan, &chain, store, &self.signer).map_err(super::drill::explained)
        };
        let warn = |what: String| Output::new(out.is_json(), false).warn(format_args!("{what}"));
        match sealed() {
            Ok(closed) => {
                if let (Err(why), Mode::Execute) = (&closed.recorded, plan.mode) {
                    warn(format!("the chain was not told that this ended: {why}"));
                }
                let (sealed, result) = (&closed.sealed, &closed.sealed.result);
                Some(Bundle {
                    sha256: sealed.bundle.to_string(),
                    tar: sealed.tar.clone(),
                    passed: result.verdict == Computed::Passed,
                    rto_ms: result.measured.rto_ms,
                    lost_events: result.measured.rpo_events,
                    failed: result.checks.iter().filter(|check| is_missing(check)).map(unmet).collect(),
                })
            }
            Err(error) => {
                warn(format!("no evidence was sealed: {error}"));
                None
            }
        }
    }
}

fn is_missing(check: &Judged) -> bool {
    check.required && check.status != CheckStatus::Passed
}

fn unmet(check: &Judged) -> String {
    let observed = if check.observed.is_empty() { "nobody decided it" } else { &check.observed };
    match check.expected.is_empty() {
        true => format!("{}: {observed}", check.id),
        false => format!("{}: expected {}, found {observed}", check.id, check.expected),
    }
}

/// The name of this machine.
fn machine() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

fn framed(error: FrameError) -> CliError {
    match error {
        FrameError::Busy(_) => CliError::from(error).with_exit(Exit::REFUSED).next("wait until it has ended"),
        FrameError::Measure(_) => {
            CliError::from(error).next("nothing was changed; `bootstrap drill prober --help` tries it by hand")
        }
        FrameError::Io { .. } => error.into(),
    }
}

fn problem(error: RunsError) -> CliError {
    let next = match &error {
        RunsError::Busy { .. } => "wait until it has ended; one run at a time",
        RunsError::None { .. } => "name the directory of runs with --runs; a dry run prints its id",
        RunsError::NotInterrupted { .. } => "name the directory of runs with --runs",
        RunsError::Interrupted { .. } => {
            "go on with --resume, or take it back with --abort; --runs names its directory"
        }
        RunsError::NotConfirmed { .. } => "make a dry run and confirm its id",
        RunsError::Strange { .. } => "look at it; while it is there nobody knows whether that run is over",
        RunsError::Io { .. } => return error.into(),
    };
    CliError::refused(error.to_string()).next(next)
}
