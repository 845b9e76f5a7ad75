//! `bootstrap install`: what makes a node's agent and snapshots start by themselves.

use std::env;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use bootstrap::bringup::files::AGENT_FILE;
use bootstrap::bringup::machine;
use bootstrap::install::{Every, Installation, InstalledFile, Starter};
use clap::{ArgGroup, Args, ValueEnum};
use manifests::document::is_name;
use serde::{Deserialize, Serialize};
use snapkit::config::{Config, Environment, Flags};
use snapkit::manifest::Place;
use snapkit::node::{self, NodeDir};
use snapkit::terminal::exit_code::{CliError, Exit};
use snapkit::terminal::output::{Output, Report};
use snapkit::trust::Bootstrap;

/// How long a service may take to stop, unless its node says otherwise.
const GRACE_SECONDS: u64 = 30;

/// Make the agent of a node, and its snapshots, start by themselves
///
/// For systemd: a service for the agent, a service and a timer for snapshots. For cron: a file with both. For compose: a
/// file in which the agent is a container. One snapshot line is right for all nodes of a group: those that do not lead take
/// none. Units are held against `systemd-analyze verify` before they are installed.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("what").args(["print", "apply"]).required(true))]
pub(super) struct InstallArgs {
    /// The node directory, as `bootstrap --from` made it
    #[arg(value_name = "NODE-DIR")]
    node: PathBuf,
    /// Print the files and change nothing
    #[arg(long)]
    print: bool,
    /// Write the files where the starter looks for them
    #[arg(long)]
    apply: bool,
    /// What shall start them
    #[arg(long = "for", value_enum, value_name = "STARTER", default_value_t)]
    starter: StarterArg,
    /// Directory to write to [default: /etc/systemd/system, /etc/cron.d, or the node directory]
    #[arg(long, value_name = "DIR")]
    into: Option<PathBuf>,
    /// Name of units and files [default: the name of the manifest]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// User that agent and snapshots run as [default: root]
    #[arg(long, value_name = "USER")]
    user: Option<String>,
    /// How often a snapshot is taken
    #[arg(long, value_enum, value_name = "WHEN", default_value_t)]
    every: EveryArg,
    /// Where snapshots go: 'URL#root=sha256:DIGEST' [default: the store that the node came from]
    #[arg(long, value_name = "STORE")]
    store: Option<Bootstrap>,
    /// Install the agent alone
    #[arg(long, conflicts_with_all = ["store", "every"])]
    no_snapshots: bool,
    /// The image with `bootstrap` and `snapkit` in it, by digest: NAME@sha256:DIGEST
    #[arg(long, value_name = "IMAGE", required_if_eq("starter", "compose"))]
    image: Option<String>,
}

/// What starts things.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum StarterArg {
    /// systemd units and a timer
    #[default]
    Systemd,
    /// A file for cron
    Cron,
    /// A compose file
    Compose,
}

/// How often.
#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum EveryArg {
    /// Every 5 minutes
    #[value(name = "5m")]
    FiveMinutes,
    /// Every 15 minutes
    #[value(name = "15m")]
    Quarter,
    /// Every hour
    #[default]
    #[value(name = "1h")]
    Hour,
    /// Every day
    #[value(name = "1d")]
    Day,
}

/// What of the agent's file matters here.
#[derive(Debug, Deserialize)]
struct Known {
    from: FromString,
    manifest: Option<String>,
    node: Option<String>,
    home: Option<PathBuf>,
    #[serde(default)]
    service: KnownService,
}

/// What it says of stopping the service.
#[derive(Debug, Default, Deserialize)]
struct KnownService {
    grace_seconds: Option<u64>,
}

/// A bootstrap string in a file.
#[derive(Debug, Deserialize)]
#[serde(try_from = "String")]
struct FromString(Bootstrap);

impl TryFrom<String> for FromString {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse().map(Self).map_err(|error| format!("{error}"))
    }
}

#[derive(Debug, Serialize)]
struct Installed {
    node: String,
    starter: &'static str,
    applied: bool,
    directory: String,
    files: Vec<File>,
    checked: Option<&'static str>,
    next: Vec<String>,
}

#[derive(Debug, Serialize)]
struct File {
    name: String,
    text: String,
}

impl Report for Installed {
    const SCHEMA: &'static str = "bootstrap.install/1";

    fn write_text(&self, out: &mut dyn Write) -> io::Result<()> {
        for file in &self.files {
            match self.applied {
                true => writeln!(out, "wrote {}/{}", self.directory, file.name)?,
                false => write!(out, "# {}/{}\n{}\n", self.directory, file.name, file.text)?,
            }
        }
        match self.checked {
            Some(by) if self.applied => writeln!(out, "  checked by {by}")?,
            _ => {}
        }
        let lead = if self.applied { "next: " } else { "# then: " };
        self.next.iter().try_for_each(|next| writeln!(out, "{lead}{next}"))
    }
}

pub(super) fn run(args: &InstallArgs, out: &mut Output) -> Result<Exit, CliError> {
    if let Some(image) = args.image.as_ref().filter(|image| !image.contains("@sha256:")) {
        return Err(CliError::usage(format!("--image {image} names no digest"))
            .next("name what runs by NAME@sha256:DIGEST: a tag is another image tomorrow"));
    }
    if args.image.is_some() && args.starter != StarterArg::Compose {
        return Err(CliError::usage("--image is for --for compose alone"));
    }
    let node = NodeDir::open(&args.node)?;
    let installation = installation(args, &node)?;
    let (starter, word, place) = match args.starter {
        StarterArg::Systemd => (Starter::Systemd, "systemd", PathBuf::from("/etc/systemd/system")),
        StarterArg::Cron => (Starter::Cron, "cron", PathBuf::from("/etc/cron.d")),
        StarterArg::Compose => (Starter::Compose, "compose", node.path().to_owned()),
    };
    let files = installation.files(starter);
    let directory = args.into.clone().unwrap_or(place);
    let checked = if args.apply { apply(&files, starter, &directory)? } else { None };
    out.report(&Installed {
        node: node.path().display().to_string(),
        starter: word,
        applied: args.apply,
        directory: directory.display().to_string(),
        next: next(starter, &files, &directory, &installation.name.replace('.', "_")),
        files: files.into_iter().map(|file| File { name: file.name, text: file.text }).collect(),
        checked,
    })?;
    Ok(Exit::DONE)
}

/// What is left to do by hand: an agent that bring-up started must end before another one can begin.
fn next(starter: Starter, files: &[InstalledFile], directory: &Path, project: &str) -> Vec<String> {
    match starter {
        Starter::Systemd => {
            let units = files.iter().filter(|file| file.name.contains("agent") || file.name.ends_with(".timer"));
            let units: Vec<&str> = units.map(|file| file.name.as_str()).collect();
            vec!["systemctl daemon-reload".to_owned(), format!("systemctl enable --now {}", units.join(" "))]
        }
        Starter::Cron => Vec::new(),
        Starter::Compose => vec![format!(
            "docker compose --project-name snapkit-{project} --file {}/compose.yaml up --detach",
            directory.display()
        )],
    }
}

fn installation(args: &InstallArgs, node: &NodeDir) -> Result<Installation, CliError> {
    let file = node.path().join(AGENT_FILE);
    let text = fs::read_to_string(&file).map_err(|error| {
        let error = CliError::from(error).context(format!("cannot read {}", file.display()));
        error.next("bring the node up with `bootstrap --from`, which writes that file")
    })?;
    let known: Known = toml::from_str(&text).map_err(|error| {
        CliError::usage(format!("{}: {}", file.display(), error.message().lines().collect::<Vec<_>>().join("; ")))
    })?;
    let here = env::current_dir()?;
    let config = Config::load(&here, &Environment::new(env::vars_os()), &Flags::default())?;
    let name = args.name.clone().or(known.manifest).unwrap_or_else(|| config.manifest.name.value.clone());
    if !is_name(&name) {
        return Err(CliError::usage(format!("{name:?} is no name of 1 to 64 of [a-z0-9._-]")));
    }
    let FromString(from) = known.from;
    let store = match (&args.store, Place::of(&from.url).store()) {
        _ if args.no_snapshots => None,
        (Some(store), _) => Some(store.to_string()),
        (None, Some(url)) if writable(&url) => Some(Bootstrap { url, pin: from.pin }.to_string()),
        (None, _) => {
            let problem = format!("{} is no store that snapshots could go to", from.url);
            return Err(CliError::usage(problem).next("name one with --store, or give --no-snapshots"));
        }
    };
    let bootstrap =
        env::current_exe().map_err(|error| CliError::from(error).context("cannot tell what this program is"))?;
    let beside = bootstrap.with_file_name("snapkit");
    let path = env::var_os("PATH");
    let snapkit = if beside.is_file() { Some(beside) } else { machine::program("snapkit", path.as_ref()) };
    let Some(snapkit) = snapkit else {
        return Err(CliError::refused("there is no program snapkit").next("install it beside bootstrap"));
    };
    let cache = config.cache.value.parent().unwrap_or(Path::new("/var/cache")).to_owned();
    Ok(Installation {
        name,
        node: node.path().to_owned(),
        node_name: known.node,
        store,
        trees: trees(node)?,
        home: known.home.unwrap_or_else(|| config.home.value.clone()),
        cache,
        config: config.file.clone(),
        bootstrap,
        snapkit,
        user: args.user.clone(),
        grace_seconds: known.service.grace_seconds.unwrap_or(GRACE_SECONDS),
        every: match args.every {
            EveryArg::FiveMinutes => Every::Minutes(5),
            EveryArg::Quarter => Every::Minutes(15),
            EveryArg::Hour => Every::Hour,
            EveryArg::Day => Every::Day,
        },
        image: args.image.clone(),
    })
}

/// Whether snapshots could be stored there: a web server takes none.
fn writable(url: &str) -> bool {
    !url.starts_with("http://") && !url.starts_with("https://")
}

/// Each tree of the active generation, and the directory in which it is reached.
fn trees(node: &NodeDir) -> Result<Vec<(String, PathBuf)>, CliError> {
    let status = node::status(node)?;
    let active = status.active.as_ref().and_then(|active| status.state.generations.get(active));
    let Some(active) = active else {
        return Err(CliError::refused(format!("{} has no active generation", node.path().display()))
            .next("bring it up with `bootstrap --from`"));
    };
    let current = node.path().join("current");
    let place = |tree: &node::GenerationTree| match &tree.fixed {
        Some(fixed) => fixed.clone(),
        None if tree.inside => current.join(&tree.name),
        None => current.clone(),
    };
    Ok(active.trees.iter().map(|tree| (tree.name.clone(), place(tree))).collect())
}

/// Writes the files, after they were held against what will read them; says by what.
fn apply(files: &[InstalledFile], starter: Starter, directory: &Path) -> Result<Option<&'static str>, CliError> {
    let checked = match starter {
        Starter::Systemd => verify(files)?,
        Starter::Cron | Starter::Compose => None,
    };
    let failed = |path: &Path| {
        let what = format!("cannot write {}", path.display());
        move |error: io::Error| CliError::from(error).context(what)
    };
    fs::create_dir_all(directory).map_err(failed(directory))?;
    for file in files {
        let path = directory.join(&file.name);
        let write = || {
            let mut beside = tempfile::Builder::new().prefix(".snapkit-").tempfile_in(directory)?;
            beside.write_all(file.text.as_bytes())?;
            // What starts it may run as another user; none of it is secret.
            beside.as_file().set_permissions(fs::Permissions::from_mode(0o644))?;
            beside.as_file().sync_all()?;
            beside.persist(&path).map(drop).map_err(|error| error.error)
        };
        write().map_err(failed(&path))?;
    }
    Ok(checked)
}

/// Holds units against systemd, which ends well with most mistakes but never without a word.
fn verify(files: &[InstalledFile]) -> Result<Option<&'static str>, CliError> {
    let path = env::var_os("PATH");
    let Some(program) = machine::program("systemd-analyze", path.as_ref()) else { return Ok(None) };
    let directory = tempfile::tempdir()?;
    for file in files {
        fs::write(directory.path().join(&file.name), &file.text)?;
    }
    let said = Command::new(program)
        .args(["verify", "--man=no"])
        .args(files.iter().map(|file| directory.path().join(&file.name)))
        .output()
        .map_err(|error| CliError::from(error).context("cannot run systemd-analyze"))?;
    let words = String::from_utf8_lossy(&said.stderr).trim().to_owned();
    if said.status.success() && words.is_empty() {
        return Ok(Some("systemd-analyze verify"));
    }
    Err(CliError::refused(format!("systemd-analyze does not accept the units: {words}"))
        .next("nothing was written; `--print` shows them"))
}
