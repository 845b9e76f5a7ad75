//! `bootstrap --from`: from one string to a running node.

use std::env;
use std::ffi::OsString;
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bootstrap::bringup::agent;
use bootstrap::bringup::prerequisites::Prerequisite;
use bootstrap::bringup::report::BroughtUp;
use bootstrap::bringup::{self, AgentStart, BringUpError, Hurdle, Order, Paths, Surroundings, Which};
use bootstrap::client::Client;
use bootstrap::driver::ServiceRole;
use bootstrap::origin::{self, Origin};
use clap::{Args, CommandFactory, ValueEnum};
use manifests::refusal::{Class, Refusal, exit};
use serde::Serialize;
use snapkit::cancel::Cancel;
use snapkit::config::{Config, Environment, Flags};
use snapkit::manifest::Place;
use snapkit::node::NodeError;
use snapkit::progress::Progress;
use snapkit::restore::Owners;
use snapkit::store::mirrored::Listener;
use snapkit::terminal::exit_code::{CliError, Exit};
use snapkit::terminal::output::{Bytes, Output, Report, Took};
use snapkit::terminal::progress::{ProgressMode, Reporter};
use snapkit::trust::Bootstrap;

use super::Cli;

/// A node that is to be brought up.
#[derive(Debug, Args)]
#[command(next_help_heading = "Bring-up")]
pub(super) struct BringUpArgs {
    /// The one string: 'URL#root=sha256:DIGEST' of a store or of a manifest, ending in .json
    #[arg(long, value_name = "URL#root=sha256:DIGEST", requires = "node")]
    from: Option<Bootstrap>,
    /// Directory of the node: missing, empty, or the one that is to be brought up again
    #[arg(value_name = "NODE-DIR")]
    node: Option<PathBuf>,
    /// Name of the manifest, where the string names a store [default: `name` of `[manifest]` in snapkit.toml, else main]
    #[arg(long, value_name = "NAME", requires = "from")]
    manifest: Option<String>,
    /// What the node is to be
    #[arg(long, value_enum, value_name = "ROLE", default_value_t, requires = "from")]
    role: RoleArg,
    /// Restore exactly the snapshot that the manifest names, not the newest that follows it
    #[arg(long, requires = "from")]
    pinned: bool,
    /// Say whether the node could be brought up and what is missing, and do nothing
    #[arg(long, requires = "from")]
    dry_run: bool,
    /// Do not make the paths that the pins give to trees lead into the node; the service finds its state by
    /// SNAPKIT_NODE_DIR. For several nodes on one machine
    #[arg(long, requires = "from")]
    leave_paths: bool,
    /// Who owns what is restored: numbers or names of the snapshot, or whoever restores
    #[arg(long, value_enum, value_name = "WHO", default_value_t, requires = "from")]
    owner: OwnerArg,
    /// The container engine: docker, podman, or the path of such a command [default: docker, else podman]
    #[arg(long, value_name = "COMMAND", requires = "from")]
    engine: Option<String>,
    /// Become the agent instead of starting it; for systemd, containers and terminals
    #[arg(long, requires = "from", conflicts_with = "no_agent")]
    foreground: bool,
    /// Start no agent: something else does, such as what `bootstrap install` makes
    #[arg(long, requires = "from")]
    no_agent: bool,
    /// How long the agent may take until it is ready in its role, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 600, requires = "from")]
    wait: u64,
    /// How to show progress on stderr; `auto` is plain lines unless stderr is a terminal
    #[arg(long, value_enum, value_name = "HOW", default_value_t, requires = "from")]
    progress: ProgressMode,
}

/// The words of a command line, with a node directory called `node` told from the command of that name: beside --from it is
/// a directory.
pub(super) fn words(given: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut words: Vec<OsString> = given.collect();
    let is_from = |word: &OsString| word == "--from" || word.as_encoded_bytes().starts_with(b"--from=");
    if !words.iter().any(is_from) {
        return words;
    }
    let options = Cli::command();
    let takes_value = |word: &str| {
        let name = word.strip_prefix("--");
        let option = options.get_arguments().find(|option| option.get_long().is_some() && option.get_long() == name);
        option.is_some_and(|option| option.get_action().takes_values())
    };
    let mut at = 1;
    while let Some(word) = words.get(at).and_then(|word| word.to_str()) {
        match word {
            "node" => {
                words[at] = "./node".into();
                break;
            }
            word if takes_value(word) => at += 2,
            word if word.starts_with('-') => at += 1,
            _ => break,
        }
    }
    words
}

/// What a node is to be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum RoleArg {
    /// It follows the chain; in a group that elects it may become the leader
    #[default]
    Follower,
    /// It claims the lease; refused where it cannot
    Leader,
}

/// Who owns what is restored.
#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum OwnerArg {
    /// The numbers in the snapshot
    #[default]
    Ids,
    /// The names in the snapshot
    Names,
    /// Whoever restores
    Me,
}

impl BringUpArgs {
    /// Whether a node is to be brought up.
    pub(super) fn is_given(&self) -> bool {
        self.from.is_some() || self.node.is_some()
    }

    /// The word in the place of the node directory, where no `--from` says what to make of it.
    pub(super) fn word(&self) -> Option<&Path> {
        self.node.as_deref().filter(|_| self.from.is_none())
    }

    fn order(&self, node: &Path) -> Result<Order, CliError> {
        let node = std::path::absolute(node)?;
        Ok(Order {
            // As the node directory calls itself once it is there.
            node: std::fs::canonicalize(&node).unwrap_or(node),
            role: match self.role {
                RoleArg::Follower => ServiceRole::Follower,
                RoleArg::Leader => ServiceRole::Leader,
            },
            which: if self.pinned { Which::Pinned } else { Which::Newest },
            paths: if self.leave_paths { Paths::Leave } else { Paths::Lead },
            owners: match self.owner {
                OwnerArg::Ids => Owners::Ids,
                OwnerArg::Names => Owners::Names,
                OwnerArg::Me => Owners::Me,
            },
            engine: self.engine.clone(),
            agent: match (self.foreground, self.no_agent) {
                (true, _) => AgentStart::Foreground,
                (_, true) => AgentStart::Other,
                _ => AgentStart::Detached,
            },
            patience: Duration::from_secs(self.wait),
        })
    }
}

pub(super) fn run(args: &BringUpArgs, quiet: bool, out: &mut Output, cancel: &Cancel) -> Result<Exit, CliError> {
    let (Some(from), Some(node)) = (&args.from, &args.node) else {
        return Err(CliError::usage("--from and a node directory belong together"));
    };
    let from = origin::absolute(from)?;
    let order = args.order(node)?;
    let config = configuration(&from)?;
    let found = Origin::open(&from, args.manifest.as_deref(), &config, listener(out)).map_err(explained)?;
    let variable = |name: &str| env::var_os(name);
    let surroundings = Surroundings {
        variable: &variable,
        logins: &logins(),
        program: env::current_exe()
            .map_err(|error| CliError::from(error).context("cannot tell what this program is"))?,
        config: config.file.clone(),
    };
    let ask = Client::of_node(&order.node);
    let progress = Arc::new(Progress::new());
    let mode = if quiet { ProgressMode::None } else { args.progress };
    let reporter = Reporter::start(Arc::clone(&progress), mode);
    let mut lines = Output::new(out.is_json(), quiet);
    let mut tell = |line: &str| lines.note(format_args!("{line}"));
    let done =
        bringup::bring_up(&order, args.dry_run, &found, &config, &surroundings, &ask, cancel, &progress, &mut tell);
    drop(reporter);
    let done = done.map_err(refused)?;
    let shown = Shown(done);
    out.report(&shown)?;
    let Shown(done) = shown;
    let missing: Vec<&Prerequisite> = done.prerequisites.iter().filter(|one| one.stops()).collect();
    if let Some(first) = missing.first() {
        let expected = format!("{} of {} prerequisites more", missing.len(), done.prerequisites.len());
        let found = format!("first: {}: {}", first.what, first.found.as_deref().unwrap_or("not there"));
        return Err(Refusal::new(Class::Prereq, done.node, expected, found).into());
    }
    if order.agent == AgentStart::Foreground && !args.dry_run && done.agent.is_none() {
        let mut agent = agent::command(&order.node, &surroundings);
        // It goes on in the form that was asked for.
        agent.args(out.is_json().then_some("--json")).args(quiet.then_some("--quiet"));
        let error = agent.exec();
        return Err(CliError::from(error).context("cannot become the agent"));
    }
    Ok(Exit::DONE)
}

/// Defaults, file and environment, with the store that the string names, so that its credentials are looked up.
fn configuration(from: &Bootstrap) -> Result<Config, CliError> {
    let here =
        env::current_dir().map_err(|error| CliError::from(error).context("cannot tell the working directory"))?;
    let flags = Flags { store: Place::of(&from.url).store(), ..Flags::default() };
    Ok(Config::load(&here, &Environment::new(env::vars_os()), &flags)?)
}

/// Prints what is wrong with a copy of the store while another one serves.
fn listener(out: &Output) -> Listener {
    let json = out.is_json();
    Arc::new(move |notice| Output::new(json, false).warn(format_args!("{notice}")))
}

/// Where docker and podman keep logins.
fn logins() -> Vec<PathBuf> {
    let at = |variable: &str, rest: &str| env::var_os(variable).map(|value| Path::new(&value).join(rest));
    let named = env::var_os("REGISTRY_AUTH_FILE").map(PathBuf::from);
    let docker = at("DOCKER_CONFIG", "config.json").or_else(|| at("HOME", ".docker/config.json"));
    [named, at("XDG_RUNTIME_DIR", "containers/auth.json"), docker].into_iter().flatten().collect()
}

fn explained(error: snapkit::manifest::ManifestError) -> CliError {
    let next = error.next();
    let error = match error.class() {
        Some(class) => CliError::of_class(error, class),
        None => error.into(),
    };
    match next {
        Some(next) => error.next(next),
        None => error,
    }
}

/// An error with the exit code of its class, and what goes on from here.
fn refused(error: BringUpError) -> CliError {
    let again = "the same command goes on from here";
    match error {
        BringUpError::Manifest(error) => explained(error),
        BringUpError::Agent { ref next, hurdle, .. } => {
            let next = next.clone();
            let refused = match hurdle {
                Hurdle::NotLeading => CliError::from(error).with_exit(Exit::of_code(exit::NOT_LEADER)),
                Hurdle::Refused(Some(class)) => CliError::of_class(error, class),
                Hurdle::Refused(None) | Hurdle::Paused => CliError::from(error).with_exit(Exit::REFUSED),
                Hurdle::Degraded => CliError::from(error).with_exit(Exit::DEGRADED),
                Hurdle::Ended(code) => CliError::from(error).with_exit(ended(code)),
                Hurdle::Late => error.into(),
            };
            refused.next(next)
        }
        BringUpError::Node(NodeError::Restore(error)) => {
            let goes_on = error.can_go_on();
            let refused = match error.class() {
                Some(class) => CliError::of_class(error, class),
                None => error.into(),
            };
            if goes_on { refused.next(again) } else { refused }
        }
        BringUpError::Node(NodeError::Busy { .. }) => CliError::from(error)
            .with_exit(Exit::REFUSED)
            .next("wait until it has ended; the same command goes on then"),
        error => error.into(),
    }
}

/// The exit code of an agent that ended too early, as its own; in order, or killed, is too early, too.
fn ended(code: Option<i32>) -> Exit {
    let own = code.and_then(|code| u8::try_from(code).ok()).filter(|code| *code != exit::DONE);
    Exit::of_code(own.unwrap_or(exit::COULD_NOT_RUN))
}

/// A bring-up as it is printed.
#[derive(Debug, Serialize)]
#[serde(transparent)]
struct Shown(BroughtUp);

impl Report for Shown {
    const SCHEMA: &'static str = "bootstrap.bring-up/1";

    fn write_text(&self, out: &mut dyn Write) -> io::Result<()> {
        let Self(done) = self;
        write_found(done, out)?;
        match (done.ready, done.dry_run) {
            (false, _) => writeln!(out, "{} is not brought up; nothing was touched", done.node),
            (true, true) => writeln!(out, "{} could be brought up as a {}; nothing was touched", done.node, done.role),
            (true, false) => write_done(done, out),
        }
    }
}

/// What was followed and looked at.
fn write_found(done: &BroughtUp, out: &mut dyn Write) -> io::Result<()> {
    let manifest = &done.manifest;
    writeln!(out, "manifest {} v{}, valid until {}", manifest.name, manifest.version, manifest.expires)?;
    let snapshot = &done.snapshot;
    let age = Took(Duration::from_secs(u64::try_from(snapshot.age_seconds).unwrap_or(0)));
    writeln!(out, "snapshot {} (record {}), captured {} ago", snapshot.name, snapshot.seq, age)?;
    writeln!(out, "  {} entries, {} files, {}", snapshot.entries, snapshot.files, Bytes(snapshot.bytes))?;
    let stop = done.prerequisites.iter().filter(|one| one.stops()).count();
    writeln!(out, "prerequisites: {} looked at, {stop} missing", done.prerequisites.len())?;
    for one in &done.prerequisites {
        write_line(one, out)?;
    }
    Ok(())
}

/// What was done.
fn write_done(done: &BroughtUp, out: &mut dyn Write) -> io::Result<()> {
    if let Some(generation) = &done.generation {
        let verb = if generation.restored { "restored" } else { "found unchanged" };
        writeln!(out, "{verb} generation {}", generation.name)?;
        if generation.resumed {
            writeln!(out, "  went on with an interrupted restore")?;
        }
        let (fetched, reused) = (Bytes(generation.fetched_bytes), Bytes(generation.reused_bytes));
        writeln!(out, "  fetched {fetched}, reused {reused}")?;
    }
    for kept in &done.files.kept {
        writeln!(out, "kept {kept}, which says something else than the pins")?;
    }
    for running in &done.running {
        writeln!(out, "{} runs the image {}", running.what, running.image)?;
    }
    match &done.agent {
        Some(agent) => writeln!(out, "{} runs as {}: {}", done.node, agent.seen.mode.role(), agent.seen.why)?,
        None => writeln!(out, "{} is restored; no agent was started", done.node)?,
    }
    writeln!(out, "  took {}", Took(Duration::from_secs_f64(done.seconds)))
}

/// One line of the list; what is missing has its remedy below it.
fn write_line(one: &Prerequisite, out: &mut dyn Write) -> io::Result<()> {
    let found = one.found.as_ref().map_or(String::new(), |found| format!(": {found}"));
    if one.holds {
        return writeln!(out, "  ok       {}{found}", one.what);
    }
    let word = if one.required { "MISSING" } else { "lacking" };
    writeln!(out, "  {word}  {}{found}", one.what)?;
    one.next.iter().try_for_each(|next| writeln!(out, "           next: {next}"))
}
