//! `bootstrap lease`: who leads, as it stands in the lease log itself.

use std::env;
use std::io::{self, Write};
use std::time::Duration;

use bootstrap::agent::persist::AgentDir;
use bootstrap::agent::view::RequestKind;
use bootstrap::client::{Asked, Client};
use bootstrap::lease::inspect::{Found, InspectError, Inspected};
use clap::{Args, Subcommand};
use jiff::Timestamp;
use manifests::document::lease::Kind;
use serde::Serialize;
use snapkit::cancel::Cancel;
use snapkit::config::{Config, Environment, Flags};
use snapkit::terminal::exit_code::{CliError, Exit};
use snapkit::terminal::output::{Output, Report, write_table};

use super::NodeArgs;

/// How many slots are read for the newest entry: more void ones in a row are refused by every reader.
const BACK: u64 = 65;
/// Below this ttl nothing is advised: the pins allow no less.
const LEAST_TTL: Duration = Duration::from_secs(5);
/// How many times the slowest requests fit into a ttl that is advised: one request may take a sixth of it, and be three
/// times as slow on a bad day.
const FITS: u32 = 18;

/// Look at the lease log of a node's group, give back what a dead agent held, or take the lease by force
///
/// Reading needs the store alone; no agent has to run.
#[derive(Debug, Args)]
pub(super) struct LeaseArgs {
    #[command(subcommand)]
    command: LeaseCommand,
}

#[derive(Debug, Subcommand)]
enum LeaseCommand {
    /// Show the newest entry of the log: who holds the lease, or last held it
    Status(NodeArgs),
    /// List the newest entries, and slots that hold none
    History(HistoryArgs),
    /// Measure the store of the lease, and say which ttl it is fast enough for
    ///
    /// Exit code 1 if the ttl of the pins is too short for it.
    Advise(AdviseArgs),
    /// Give back what an agent of this node held and did not give back; make sure first that its service is dead
    ///
    /// Refused while an agent runs here: `bootstrap demote` is the way then.
    Release(ReasonArgs),
    /// Have the agent of this node claim the lease now, whoever holds it; make sure first that the old leader is dead
    ///
    /// Nothing waits for the end of the other's lease. If its service still runs, two lead until it sees the higher term.
    ForceClaim(ReasonArgs),
}

#[derive(Debug, Args)]
struct HistoryArgs {
    #[command(flatten)]
    node: NodeArgs,
    /// How many slots
    #[arg(long, short = 'n', value_name = "COUNT", default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    number: u64,
}

#[derive(Debug, Args)]
struct AdviseArgs {
    #[command(flatten)]
    node: NodeArgs,
    /// How many times each request is made
    #[arg(long, value_name = "COUNT", default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=1000))]
    rounds: u16,
}

#[derive(Debug, Args)]
struct ReasonArgs {
    #[command(flatten)]
    node: NodeArgs,
    /// Why; kept in the log
    #[arg(long, value_name = "TEXT", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    reason: String,
}

pub(super) fn run(args: &LeaseArgs, out: &mut Output, cancel: &Cancel) -> Result<Exit, CliError> {
    match &args.command {
        LeaseCommand::Status(node) => status(node, out, cancel),
        LeaseCommand::History(args) => history(args, out, cancel),
        LeaseCommand::Advise(args) => advise(args, out, cancel),
        LeaseCommand::Release(args) => release(args, out, cancel),
        LeaseCommand::ForceClaim(args) => force_claim(args, out),
    }
}

fn open(node: &NodeArgs, cancel: &Cancel) -> Result<Inspected, CliError> {
    let here =
        env::current_dir().map_err(|error| CliError::from(error).context("cannot tell the working directory"))?;
    let config = Config::load(&here, &Environment::new(env::vars_os()), &Flags::default())?;
    Inspected::open(&node.node, config, cancel).map_err(problem)
}

fn problem(error: InspectError) -> CliError {
    let next = match &error {
        InspectError::Begin(error) => error.next(),
        InspectError::Chain(trouble) => trouble.next.clone(),
        InspectError::NoLease => Some("`[pins.lease]` of docs/manifest.md makes one".to_owned()),
        _ => None,
    };
    let class = match &error {
        InspectError::Chain(trouble) => trouble.class,
        _ => None,
    };
    let is_refusal = matches!(error, InspectError::Not(_));
    let error = match class {
        Some(class) => CliError::of_class(error, class),
        None => CliError::from(error),
    };
    let error = if is_refusal { error.with_exit(Exit::REFUSED) } else { error };
    match next {
        Some(next) => error.next(next),
        None => error,
    }
}

/// One slot, for a report.
#[derive(Debug, Serialize)]
struct Slot {
    seq: u64,
    kind: Option<&'static str>,
    term: Option<u64>,
    node: Option<String>,
    instance: Option<String>,
    key: Option<String>,
    writer: Option<String>,
    api: Option<String>,
    ttl_ms: Option<u64>,
    time: Option<Timestamp>,
    chain_seq: Option<u64>,
    reason: Option<String>,
    problem: Option<String>,
}

impl Slot {
    fn of(found: &Found) -> Self {
        let entry = found.what.as_ref().ok().map(|verified| &verified.entry);
        Self {
            seq: found.seq,
            kind: entry.map(|entry| entry.kind.word()),
            term: entry.map(|entry| entry.term),
            node: entry.map(|entry| entry.holder.node.clone()),
            instance: entry.map(|entry| entry.holder.instance.to_string()),
            key: entry.map(|entry| entry.holder.key.to_string()),
            writer: entry.and_then(|entry| entry.holder.writer).map(|writer| writer.to_string()),
            api: entry.and_then(|entry| entry.holder.api.clone()),
            ttl_ms: entry.and_then(|entry| entry.ttl_ms),
            time: entry.map(|entry| entry.time),
            chain_seq: entry.map(|entry| entry.head.seq),
            reason: entry.and_then(|entry| entry.reason.clone()),
            problem: found.what.as_ref().err().cloned(),
        }
    }
}

#[derive(Debug, Serialize)]
struct Status {
    group: String,
    mode: String,
    store: String,
    ttl_seconds: u64,
    members: Vec<String>,
    holder: Option<String>,
    released: bool,
    term: u64,
    chain_term: u64,
    newest: Option<Slot>,
    void_after: u64,
    worst_case_ms: Option<u64>,
}

impl Report for Status {
    const SCHEMA: &'static str = "bootstrap.lease-status/1";

    fn write_text(&self, out: &mut dyn Write) -> io::Result<()> {
        match (&self.holder, &self.newest, self.released) {
            (Some(holder), Some(slot), false) => {
                writeln!(out, "{holder} holds the lease of {} in term {}, or held it last", self.group, self.term)?;
                let (kind, time) = (slot.kind.unwrap_or("entry"), slot.time.unwrap_or_default());
                writeln!(out, "  slot {}: {kind}, made at {time} by {holder}'s clock", slot.seq)?;
            }
            (Some(holder), _, true) => {
                writeln!(out, "nobody holds the lease of {}: {holder} gave it back in term {}", self.group, self.term)?;
            }
            _ => writeln!(out, "nobody has claimed the lease of {} yet", self.group)?,
        }
        if self.void_after > 0 {
            writeln!(out, "  {} slots after it hold no entry; `bootstrap lease history` says why", self.void_after)?;
        }
        writeln!(out, "  the chain is in term {}", self.chain_term)?;
        writeln!(out, "  {}, ttl {} s, in {}", self.mode, self.ttl_seconds, self.store)?;
        if let Some(worst) = self.worst_case_ms {
            writeln!(out, "  after a loss another node leads within {} s at worst", worst.div_ceil(1000))?;
        }
        writeln!(out, "  members: {}", self.members.join(", "))
    }
}

fn status(node: &NodeArgs, out: &mut Output, cancel: &Cancel) -> Result<Exit, CliError> {
    let lease = open(node, cancel)?;
    let slots = lease.newest(BACK).map_err(problem)?;
    let at = slots.iter().position(|slot| slot.what.is_ok());
    let newest = at.map(|at| Slot::of(&slots[at]));
    let entry = at.and_then(|at| slots[at].what.as_ref().ok()).map(|verified| &verified.entry);
    out.report(&Status {
        group: lease.lease.group.clone(),
        mode: lease.lease.mode.clone(),
        store: lease.url().to_owned(),
        ttl_seconds: lease.lease.ttl_seconds,
        members: lease.lease.members.iter().map(|member| member.node.clone()).collect(),
        holder: entry.map(|entry| entry.holder.node.clone()),
        released: entry.is_some_and(|entry| entry.kind == Kind::Release),
        term: entry.map_or(0, |entry| entry.term),
        chain_term: lease.head.term,
        void_after: at.unwrap_or(slots.len()) as u64,
        newest,
        worst_case_ms: (lease.lease.mode == "auto").then(|| millis(lease.timing.worst_case())),
    })?;
    Ok(Exit::DONE)
}

#[derive(Debug, Serialize)]
struct History {
    group: String,
    store: String,
    slots: Vec<Slot>,
}

impl Report for History {
    const SCHEMA: &'static str = "bootstrap.lease-history/1";

    fn write_text(&self, out: &mut dyn Write) -> io::Result<()> {
        if self.slots.is_empty() {
            return writeln!(out, "the log of {} in {} is empty", self.group, self.store);
        }
        let rows: Vec<[String; 6]> = (self.slots.iter())
            .map(|slot| {
                let about = slot.problem.clone().or_else(|| slot.reason.clone()).unwrap_or_default();
                let time = slot.time.map_or_else(String::new, |time| time.strftime("%Y-%m-%d %H:%M:%SZ").to_string());
                let term = slot.term.map_or_else(String::new, |term| format!("term {term}"));
                let kind = slot.kind.unwrap_or("none").to_owned();
                [format!("#{}", slot.seq), kind, term, slot.node.clone().unwrap_or_default(), time, about]
            })
            .collect();
        write_table(out, &rows)
    }
}

fn history(args: &HistoryArgs, out: &mut Output, cancel: &Cancel) -> Result<Exit, CliError> {
    let lease = open(&args.node, cancel)?;
    let slots = lease.newest(args.number).map_err(problem)?;
    let (group, store) = (lease.lease.group.clone(), lease.url().to_owned());
    out.report(&History { group, store, slots: slots.iter().map(Slot::of).collect() })?;
    Ok(Exit::DONE)
}

#[derive(Debug, Serialize)]
struct Advice {
    store: String,
    requests: usize,
    median_ms: f64,
    p99_ms: f64,
    longest_ms: f64,
    ttl_seconds: u64,
    request_limit_ms: u64,
    advised_ttl_seconds: u64,
    fits: bool,
    worst_case_ms: u64,
}

impl Report for Advice {
    const SCHEMA: &'static str = "bootstrap.lease-advice/1";

    fn write_text(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "{} requests to {}", self.requests, self.store)?;
        writeln!(
            out,
            "  median {:.1} ms, p99 {:.1} ms, longest {:.1} ms",
            self.median_ms, self.p99_ms, self.longest_ms
        )?;
        writeln!(out, "  with the ttl of the pins, {} s, one may take {} ms", self.ttl_seconds, self.request_limit_ms)?;
        let verdict = if self.fits { "that is enough" } else { "THAT IS TOO SHORT" };
        writeln!(out, "{verdict}: a ttl of {} s or more fits this store", self.advised_ttl_seconds)?;
        writeln!(
            out,
            "  with {} s another node leads within {} s at worst",
            self.ttl_seconds,
            self.worst_case_ms.div_ceil(1000)
        )
    }
}

fn advise(args: &AdviseArgs, out: &mut Output, cancel: &Cancel) -> Result<Exit, CliError> {
    let lease = open(&args.node, cancel)?;
    let times = lease.measure(usize::from(args.rounds)).map_err(problem)?;
    let at = |part: f64| times[((times.len() - 1) as f64 * part).round() as usize];
    let (p99, ttl) = (at(0.99), Duration::from_secs(lease.lease.ttl_seconds));
    let advised = (p99 * FITS).max(LEAST_TTL);
    let advised = Duration::from_secs(advised.as_secs() + u64::from(advised.subsec_nanos() > 0));
    let shown = |time: Duration| time.as_secs_f64() * 1000.0;
    let fits = ttl >= advised;
    out.report(&Advice {
        store: lease.url().to_owned(),
        requests: times.len(),
        median_ms: shown(at(0.5)),
        p99_ms: shown(p99),
        longest_ms: shown(at(1.0)),
        ttl_seconds: ttl.as_secs(),
        request_limit_ms: millis(lease.timing.request()),
        advised_ttl_seconds: advised.as_secs(),
        fits,
        worst_case_ms: millis(lease.timing.worst_case()),
    })?;
    Ok(if fits { Exit::DONE } else { Exit::NO })
}

#[derive(Debug, Serialize)]
struct Released {
    group: String,
    node: String,
    term: u64,
    seq: u64,
    reason: String,
}

impl Report for Released {
    const SCHEMA: &'static str = "bootstrap.lease-release/1";

    fn write_text(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "{} gave the lease of {} back in term {} (slot {})", self.node, self.group, self.term, self.seq)
    }
}

fn release(args: &ReasonArgs, out: &mut Output, cancel: &Cancel) -> Result<Exit, CliError> {
    let node = &args.node.node;
    if !AgentDir::path_in(node).is_dir() {
        return Err(CliError::refused("no agent ever ran here, so there is nothing to give back"));
    }
    // Held until the end, so that no agent begins meanwhile.
    let directory = AgentDir::open(node).map_err(|error| {
        CliError::from(error)
            .with_exit(Exit::REFUSED)
            .next(format!("an agent that runs gives it back itself: bootstrap demote {}", node.display()))
    })?;
    if directory.left_service()?.is_some() {
        return Err(CliError::refused("an agent that ended without order left a service behind, which may be alive")
            .next(format!("start the agent again, which proves it dead: bootstrap agent {}", node.display())));
    }
    let lease = open(&args.node, cancel)?;
    let entry = lease.release(&args.reason).map_err(problem)?;
    out.report(&Released {
        group: entry.group,
        node: entry.holder.node,
        term: entry.term,
        seq: entry.seq,
        reason: args.reason.clone(),
    })?;
    Ok(Exit::DONE)
}

fn force_claim(args: &ReasonArgs, out: &mut Output) -> Result<Exit, CliError> {
    let node = args.node.node.display().to_string();
    let kind = RequestKind::ForceClaim;
    let asked = Client::of_node(&args.node.node).request(kind, &args.reason).map_err(|error| {
        CliError::from(error).next("who leads must have an agent: start that of this node, and ask again")
    })?;
    match asked {
        Asked::Accepted(what) => {
            out.report(&super::requests::Accepted::new(node, kind, &args.reason, what))?;
            Ok(Exit::DONE)
        }
        Asked::Refused(why) => Err(CliError::refused(format!("the agent of {node} does not claim the lease: {why}"))),
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
