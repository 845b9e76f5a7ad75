//! `bootstrap node`: nodes of a fleet brought up and down, and what they are.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use bootstrap::agent::view::Mode;
use bootstrap::fleet::inventory::{Inventory, Node};
use bootstrap::fleet::node::Handle;
use bootstrap::fleet::repair::{self, Repair};
use bootstrap::fleet::updown::{self, Plan, Proof, UpDownError};
use bootstrap::surfaces::state::State;
use clap::{Args, Subcommand};
use manifests::refusal::exit;
use serde::Serialize;
use snapkit::terminal::exit_code::{CliError, Exit};
use snapkit::terminal::output::{Output, Report, write_table};

use super::fleet::{InventoryArgs, unanswered};

/// Bring nodes of a fleet up or down, or show what they are
///
/// `up` and `down` print what they would run, and run it with --execute.
#[derive(Debug, Args)]
pub(super) struct NodeCommand {
    #[command(subcommand)]
    command: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Bring a node up: start its agent, or make the node anew from the chain
    ///
    /// Without --execute nothing is changed, and a bring-up is tried as far as it changes nothing. Afterwards its agent must be
    /// ready; exit code 1 if it is not.
    Up(UpArgs),
    /// Take a node down: end its agent, which ends the service in order
    ///
    /// A node that leads is refused (exit code 3) without --leading: `bootstrap failover planned` is the way. Afterwards it is
    /// looked at: exit code 1 if something of it still answers.
    Down(DownArgs),
    /// Make a node again what it is meant to be: its units as `bootstrap install` makes them, its agent running
    ///
    /// What drifted is shown line by line; --execute puts it right. Files and links that must hold and do not are named, and left
    /// to a bring-up. Exit code 1 if something is wrong and was not put right.
    Repair(UpArgs),
    /// Show what nodes are, as their agents say
    ///
    /// Exit code 4 if one is degraded, 1 if one does not answer, 5 if none does.
    Status(StatusArgs),
}

#[derive(Debug, Args)]
struct UpArgs {
    #[command(flatten)]
    inventory: InventoryArgs,
    /// The node
    #[arg(value_name = "NODE")]
    name: String,
    /// Do it
    #[arg(long)]
    execute: bool,
    /// How long it may take until the node is ready, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    wait: u64,
}

#[derive(Debug, Args)]
struct DownArgs {
    #[command(flatten)]
    inventory: InventoryArgs,
    /// The node
    #[arg(value_name = "NODE", required_unless_present = "directory", conflicts_with = "directory")]
    name: Option<String>,
    /// The node with this directory on this machine, instead of one of an inventory
    #[arg(long, value_name = "NODE-DIR")]
    directory: Option<PathBuf>,
    /// Also if it leads
    #[arg(long)]
    leading: bool,
    /// Do it
    #[arg(long)]
    execute: bool,
    /// How long its agent may take to end, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 120)]
    wait: u64,
}

#[derive(Debug, Args)]
struct StatusArgs {
    #[command(flatten)]
    inventory: InventoryArgs,
    /// The nodes; all by default
    #[arg(value_name = "NODE")]
    names: Vec<String>,
}

pub(super) fn run(args: &NodeCommand, out: &mut Output) -> Result<Exit, CliError> {
    match &args.command {
        Verb::Up(args) => up(args, out),
        Verb::Repair(args) => repair(args, out),
        Verb::Down(args) => match &args.directory {
            Some(directory) => down_here(directory, args, out),
            None => down(args, out),
        },
        Verb::Status(args) => status(args, out),
    }
}

#[derive(Debug, Serialize)]
struct Done {
    #[serde(flatten)]
    plan: Plan,
    executed: bool,
    /// What a bring-up that changes nothing said.
    tried: Option<String>,
    proofs: Vec<Proof>,
}

fn node_of<'i>(inventory: &'i Inventory, name: &str) -> Result<&'i Node, CliError> {
    let next = "`bootstrap inventory show` prints every node";
    inventory.expect_node(name).map_err(|error| CliError::from(error).with_exit(Exit::USAGE).next(next))
}

fn up(args: &UpArgs, out: &mut Output) -> Result<Exit, CliError> {
    let inventory = args.inventory.load()?;
    let node = node_of(&inventory, &args.name)?;
    let patience = Duration::from_secs(args.wait);
    let plan = updown::plan_up(&inventory, node, patience).map_err(problem)?;
    let is_new = !plan.steps.is_empty();
    let mut done = Done { plan, executed: false, tried: None, proofs: Vec::new() };
    if args.execute {
        done.plan.execute(&inventory, node).map_err(problem)?;
        done.executed = is_new;
        done.proofs = updown::prove_up(&inventory, node, patience);
    } else if is_new && node.start.is_none() {
        done.tried = Some(updown::try_up(&inventory, node, patience).map_err(problem)?);
    }
    finish(done, out)
}

fn down(args: &DownArgs, out: &mut Output) -> Result<Exit, CliError> {
    let inventory = args.inventory.load()?;
    let node = node_of(&inventory, args.name.as_deref().unwrap_or_default())?;
    let patience = Duration::from_secs(args.wait);
    let plan = updown::plan_down(&inventory, node, args.leading, patience).map_err(problem)?;
    let mut done = Done { plan, executed: false, tried: None, proofs: Vec::new() };
    if args.execute {
        done.plan.execute(&inventory, node).map_err(problem)?;
        done.executed = true;
        done.proofs = updown::prove_down(&inventory, node);
    }
    finish(done, out)
}

#[derive(Debug, Serialize)]
struct Repaired {
    #[serde(flatten)]
    found: Repair,
    executed: bool,
    /// What is wrong afterwards.
    left: Vec<String>,
}

fn repair(args: &UpArgs, out: &mut Output) -> Result<Exit, CliError> {
    let inventory = args.inventory.load()?;
    let node = node_of(&inventory, &args.name)?;
    let patience = Duration::from_secs(args.wait);
    let found = repair::look(&inventory, node, patience).map_err(problem)?;
    let executed = args.execute && !found.plan.steps.is_empty();
    let mut left = found.broken.clone();
    if executed {
        found.plan.execute(&inventory, node).map_err(problem)?;
        let proofs = updown::prove_up(&inventory, node, patience);
        let unproven = proofs.into_iter().filter(|proof| proof.holds != Some(true));
        let again = repair::look(&inventory, node, patience).map_err(problem)?;
        left = again.broken;
        left.extend(again.drift.into_iter().map(|drift| format!("{} is still another file", drift.file)));
        left.extend(unproven.map(|proof| format!("{}: {}", proof.what, proof.found)));
    } else {
        left.extend(found.drift.iter().map(|drift| format!("{} has drifted", drift.file)));
        left.extend(found.plan.steps.iter().filter(|_| found.drift.is_empty()).map(|step| step.what.clone()));
    }
    let exit = if left.is_empty() { Exit::DONE } else { Exit::NO };
    out.report(&Repaired { found, executed, left })?;
    Ok(exit)
}

impl Report for Repaired {
    const SCHEMA: &'static str = "bootstrap.node-repair/1";

    fn write_text(&self, out: &mut dyn Write) -> io::Result<()> {
        let plan = &self.found.plan;
        writeln!(out, "{} is now: {}", plan.node, plan.now)?;
        for broken in &self.found.broken {
            writeln!(out, "DOES NOT HOLD: {broken}")?;
        }
        for drift in &self.found.drift {
            writeln!(out, "{}: {}", if drift.missing { "missing" } else { "drifted" }, drift.file)?;
            drift.diff.iter().try_for_each(|line| writeln!(out, "  {line}"))?;
        }
        for step in &plan.steps {
            writeln!(out, "{}: {}", if self.executed { "did" } else { "would" }, step.what)?;
            writeln!(out, "  {}", step.command)?;
        }
        match (self.executed, self.left.is_empty()) {
            (false, true) => writeln!(out, "nothing is wrong"),
            (true, true) => writeln!(out, "put right"),
            (false, false) => writeln!(out, "nothing was changed; --execute does what stands here"),
            (true, false) => self.left.iter().try_for_each(|left| writeln!(out, "LEFT: {left}")),
        }
    }
}

fn finish(done: Done, out: &mut Output) -> Result<Exit, CliError> {
    out.report(&done)?;
    let fails = done.proofs.iter().any(|proof| proof.holds == Some(false));
    Ok(if fails { Exit::NO } else { Exit::DONE })
}

impl Report for Done {
    const SCHEMA: &'static str = "bootstrap.node-plan/1";

    fn write_text(&self, out: &mut dyn Write) -> io::Result<()> {
        let plan = &self.plan;
        writeln!(out, "{} is now: {}", plan.node, plan.now)?;
        if plan.steps.is_empty() {
            writeln!(out, "nothing to do: it is {} already", plan.to)?;
        }
        for step in &plan.steps {
            let verb = if self.executed { "did" } else { "would" };
            writeln!(out, "{verb}: {}", step.what)?;
            writeln!(out, "  {}", step.command)?;
        }
        if let Some(tried) = &self.tried {
            writeln!(out, "tried without changing anything: {tried}")?;
        }
        for proof in &self.proofs {
            let word = match proof.holds {
                Some(true) => "holds",
                Some(false) => "DOES NOT HOLD",
                None => "not known",
            };
            writeln!(out, "{word}: {} ({})", proof.what, proof.found)?;
        }
        if !self.executed && !plan.steps.is_empty() {
            writeln!(out, "nothing was changed; --execute does it")?;
        }
        Ok(())
    }
}

#[derive(Debug, Serialize)]
struct Ended {
    directory: String,
    agent: Option<i32>,
    executed: bool,
    left_service: bool,
}

impl Report for Ended {
    const SCHEMA: &'static str = "bootstrap.node-down/1";

    fn write_text(&self, out: &mut dyn Write) -> io::Result<()> {
        match (self.agent, self.executed) {
            (None, _) => writeln!(out, "{}: no agent runs", self.directory)?,
            (Some(id), true) => writeln!(out, "{}: the agent (process {id}) has ended", self.directory)?,
            (Some(id), false) => {
                writeln!(out, "{}: would end the agent (process {id}); --execute does it", self.directory)?;
            }
        }
        if self.left_service && (self.executed || self.agent.is_none()) {
            writeln!(
                out,
                "a service is left that no agent has proven dead; the next agent of this node does that first"
            )?;
        }
        Ok(())
    }
}

/// What a node of this machine is taken down with; other machines run it through `reach`.
fn down_here(directory: &Path, args: &DownArgs, out: &mut Output) -> Result<Exit, CliError> {
    if !directory.join(".node").is_dir() {
        let sentence = format!("{} is no node directory", directory.display());
        return Err(CliError::usage(sentence).next("name the directory that `bootstrap --from` made"));
    }
    let agent = updown::agent_of(directory).map_err(problem)?.map(|agent| agent.pid);
    if agent.is_some() && !args.leading {
        updown::expect_no_leader(directory).map_err(problem)?;
    }
    if args.execute {
        updown::end_agent(directory, Duration::from_secs(args.wait)).map_err(problem)?;
    }
    let left_service = updown::left_service(directory).map_err(problem)?;
    let executed = args.execute && agent.is_some();
    out.report(&Ended { directory: directory.display().to_string(), agent, executed, left_service })?;
    let proven = !left_service || (agent.is_some() && !args.execute);
    Ok(if proven { Exit::DONE } else { Exit::NO })
}

fn problem(error: UpDownError) -> CliError {
    match error {
        UpDownError::Mute { .. } => CliError::from(error)
            .with_exit(Exit::REFUSED)
            .next("`bootstrap status NODE-DIR` says more; --leading ends it all the same, as one that may lead"),
        UpDownError::Leads { .. } => CliError::from(error)
            .with_exit(Exit::REFUSED)
            .next("`bootstrap failover planned` moves the lead first; --leading takes it down all the same"),
        UpDownError::Origin(_) | UpDownError::Reach(_) => CliError::from(error).with_exit(Exit::USAGE),
        UpDownError::Handle(error) => unanswered(error),
        UpDownError::Stays { .. } => CliError::from(error)
            .next("look at its log; a service that cannot be proven dead keeps an agent from ending"),
        UpDownError::Step { .. } => CliError::from(error).next(
            "run that command by hand; a node that is not there yet is made by `bootstrap node up NODE --execute`",
        ),
        UpDownError::Io { .. } => error.into(),
    }
}

#[derive(Debug, Serialize)]
struct Statuses {
    fleet: String,
    nodes: Vec<One>,
}

#[derive(Debug, Serialize)]
struct One {
    node: String,
    host: String,
    problem: Option<String>,
    state: Option<State>,
}

fn status(args: &StatusArgs, out: &mut Output) -> Result<Exit, CliError> {
    let inventory = args.inventory.load()?;
    let names: Vec<String> = match args.names.is_empty() {
        true => inventory.names().map(str::to_owned).collect(),
        false => args.names.clone(),
    };
    let nodes = names.iter().map(|name| node_of(&inventory, name)).collect::<Result<Vec<_>, _>>()?;
    let ask = |node: &Node| {
        let (state, problem) = match Handle::new(&inventory, node).state(inventory.patience()) {
            Ok(state) => (Some(state), None),
            Err(error) => (None, Some(error.to_string())),
        };
        let host = node.host.clone().unwrap_or_else(|| node.name.clone());
        One { node: node.name.clone(), host, problem, state }
    };
    let nodes: Vec<One> = thread::scope(|scope| {
        let threads: Vec<_> = nodes.iter().map(|node| scope.spawn(|| ask(node))).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    });
    let statuses = Statuses { fleet: inventory.name.clone(), nodes };
    out.report(&statuses)?;
    let silent = statuses.nodes.iter().filter(|node| node.state.is_none()).count();
    let is_degraded = |node: &One| node.state.as_ref().is_some_and(|state| state.view.mode == Mode::Degraded);
    Ok(match silent {
        all if all == statuses.nodes.len() => Exit::of_code(exit::COULD_NOT_RUN),
        0 if statuses.nodes.iter().any(is_degraded) => Exit::DEGRADED,
        0 => Exit::DONE,
        _ => Exit::NO,
    })
}

impl Report for Statuses {
    const SCHEMA: &'static str = "bootstrap.node-status/1";

    fn write_text(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut rows = vec![["node", "host", "role", "term", "holder", "lag", "service", "why"].map(str::to_owned)];
        rows.extend(self.nodes.iter().map(|one| match &one.state {
            None => {
                let none = || "-".to_owned();
                let why = one.problem.clone().unwrap_or_default();
                [one.node.clone(), one.host.clone(), "silent".to_owned(), none(), none(), none(), none(), why]
            }
            Some(state) => {
                let view = &state.view;
                let shown = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
                [
                    one.node.clone(),
                    one.host.clone(),
                    state.role.clone(),
                    view.term.to_string(),
                    shown(view.holder.as_ref().filter(|holder| !holder.released).map(|holder| holder.node.clone())),
                    shown(view.chain.lag.map(|lag| lag.to_string())),
                    shown(view.service.running_as.clone()),
                    view.why.clone(),
                ]
            }
        }));
        write_table(out, &rows)
    }
}
