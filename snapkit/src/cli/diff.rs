//! `snapkit diff`: which paths, fields and bytes differ between two states.

use std::env;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Map, Value, json};
use snapkit::config::{Config, Environment, Flags};
use snapkit::diff::html::{HtmlWriter, Titles};
use snapkit::diff::json::JsonWriter;
use snapkit::diff::{Answer, DiffError, Difference, Options, Policy, Scope, Source, TreePair, compare, text};
use snapkit::fetch::Fetcher;
use snapkit::scan::exclude::Excludes;
use snapkit::selector::Selector;

use manifests::document::record::Record;
use manifests::document::snapshot::Snapshot;

use super::exit_code::{CliError, Exit};
use super::opened::{Opened, snapshot_of};
use super::session::Session;

/// The form of the JSON output.
const SCHEMA: &str = "snapkit.diff/1";

/// Say which paths, metadata and bytes differ between two states
///
/// A and B are snapshots, or directories: what contains a slash, is `.` or `..`, or begins with `dir:` is a directory.
/// Ends with 0 when they are the same or differ only where the policy allows, and with 1 when they differ.
#[derive(Debug, Args)]
pub(super) struct DiffArgs {
    /// The state to start from: a snapshot (latest, latest~2, name, number, @TIME) or a directory
    a: String,
    /// The state to compare with it
    b: String,
    /// The store that B is a snapshot of, when it is not that of A
    #[arg(long, value_name = "DIR-OR-URL")]
    other_store: Option<String>,
    /// Compare only the tree NAME; can be repeated
    #[arg(long, value_name = "NAME")]
    tree: Vec<String>,
    /// Compare only what the content digest covers: no owners, times, attributes and hard links
    #[arg(long)]
    content: bool,
    /// Do not read contents to find which bytes differ
    #[arg(long)]
    no_ranges: bool,
    /// Show the bytes around the first ranges of each file
    #[arg(long, conflicts_with = "no_ranges")]
    hex: bool,
    /// What must match, what may advance and what does not matter, see docs/diff.md
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Write a page for the browser, too
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Leave out what matches on both sides, in gitignore syntax; can be repeated
    #[arg(long, value_name = "PATTERN")]
    exclude: Vec<String>,
    /// Leave out what matches a line of FILE; can be repeated
    #[arg(long, value_name = "FILE")]
    exclude_from: Vec<PathBuf>,
    /// Count fifos and devices where a side is a directory; between snapshots they always count
    #[arg(long)]
    devices: bool,
}

/// What an argument names.
enum Named {
    Directory(PathBuf),
    Snapshot(Selector),
}

impl Named {
    fn parse(text: &str) -> Result<Self, CliError> {
        if let Some(path) = text.strip_prefix("dir:") {
            return Ok(Self::Directory(path.into()));
        }
        // A time may hold a slash in the name of its zone.
        if !text.starts_with('@') && (text.contains('/') || text == "." || text == "..") {
            return Ok(Self::Directory(text.into()));
        }
        text.parse().map(Self::Snapshot).map_err(|error| {
            let problem = CliError::usage(format!("{error}"));
            match Path::new(text).is_dir() {
                true => problem.next(format!("a directory is written with a slash: ./{text}")),
                false => problem.next("give a snapshot as `snapkit log` lists them, or a directory with a slash"),
            }
        })
    }
}

/// One side, found.
enum Side {
    Directory(PathBuf),
    Snapshot { record: Box<Record>, store: String },
}

impl Side {
    fn snapshot(&self) -> Result<Option<(String, &Snapshot)>, CliError> {
        match self {
            Self::Directory(_) => Ok(None),
            Self::Snapshot { record, .. } => snapshot_of(record).map(Some),
        }
    }

    /// How reports speak of it.
    fn title(&self) -> Result<String, CliError> {
        Ok(match (self, self.snapshot()?) {
            (Self::Snapshot { record, store }, Some((name, _))) => {
                format!("{name} (record {}) of {store}", record.header.seq)
            }
            (Self::Directory(path), _) => {
                format!("directory {}", text::shown_path(path.as_os_str().as_encoded_bytes()))
            }
            (Self::Snapshot { store, .. }, None) => store.clone(),
        })
    }

    fn json(&self) -> Result<Value, CliError> {
        Ok(match (self, self.snapshot()?) {
            (Self::Snapshot { record, store }, Some((name, _))) => json!({
                "snapshot": name, "seq": record.header.seq, "id": record.digest.to_string(), "store": store,
            }),
            (Self::Directory(path), _) => {
                json!({ "directory": snapkit::entry::printable(path.as_os_str().as_encoded_bytes()) })
            }
            (Self::Snapshot { store, .. }, None) => json!({ "store": store }),
        })
    }
}

pub(super) fn run(args: &DiffArgs, session: &mut Session<'_>) -> Result<Exit, CliError> {
    let (a, b) = (Named::parse(&args.a)?, Named::parse(&args.b)?);
    if args.other_store.is_some() && matches!(b, Named::Directory(_)) {
        return Err(CliError::usage("--other-store says where the snapshot B is, and B is a directory"));
    }
    let mut options = options(args)?;
    options.devices |= matches!((&a, &b), (Named::Snapshot(_), Named::Snapshot(_)));

    let is_needed = matches!(a, Named::Snapshot(_)) || matches!(b, Named::Snapshot(_)) && args.other_store.is_none();
    let store = if is_needed { Some(Opened::new(session)?) } else { None };
    let other = match &args.other_store {
        Some(location) => Some(Opened::at(location, &config_of(location, session)?, session.now)?),
        None => None,
    };
    let of_a = store.as_ref();
    let of_b = other.as_ref().or(of_a);
    let (a, b) = (found(a, of_a)?, found(b, of_b)?);
    let fetchers = [of_a, of_b].map(|opened| opened.map(|opened| Fetcher::new(&*opened.store)));
    let pairs = pairs(&a, &b, &args.tree, &fetchers)?;
    options.policy.sees_tree_names = pairs.len() > 1;

    let head = head(&a, &b, &pairs, &options)?;
    let titles = Titles { a: a.title()?, b: b.title()?, has_policy: args.policy.is_some() };
    let scratch = session.config.cache.value.join("scratch");
    let mut html = match &args.html {
        Some(path) => Some(HtmlWriter::create(path, &scratch).map_err(|error| cannot_write(path, error))?),
        None => None,
    };
    let mut out = Printer::new(session.out.is_json(), &head, &titles)?;
    let (progress, reporter) = session.show_progress();
    let summary = compare(&pairs, &options, &scratch, &session.cancel, &progress, &mut |difference| {
        if let Some(html) = &mut html {
            html.push(difference)?;
        }
        out.push(difference)
    });
    drop(reporter);
    let summary = summary.map_err(refused)?;
    out.finish(&summary, titles.has_policy)?;
    if let (Some(html), Some(path)) = (html, &args.html) {
        html.finish(&titles, &summary).map_err(|error| cannot_write(path, error))?;
    }
    Ok(if summary.answer() == Answer::Differs { Exit::NO } else { Exit::DONE })
}

fn cannot_write(path: &Path, error: io::Error) -> CliError {
    CliError::from(error).context(format!("cannot write the page {}", path.display()))
}

fn refused(error: DiffError) -> CliError {
    match (error.class(), error) {
        (Some(class), error) => CliError::of_class(error, class),
        (None, DiffError::Write(error)) => error.into(),
        (None, error) => error.into(),
    }
}

fn options(args: &DiffArgs) -> Result<Options, CliError> {
    let usage = |error: CliError| error.with_exit(Exit::USAGE);
    let policy = match &args.policy {
        Some(path) => Policy::load(path).map_err(|error| usage(error.into()))?,
        None => Policy::default(),
    };
    let has_excludes = !args.exclude.is_empty() || !args.exclude_from.is_empty();
    let excludes = Excludes::new(&args.exclude, &args.exclude_from).map_err(|error| usage(CliError::from(error)))?;
    Ok(Options {
        scope: if args.content || policy.content_only { Scope::Content } else { Scope::Full },
        ranges: !args.no_ranges,
        samples: args.hex,
        excludes: has_excludes.then_some(excludes),
        devices: args.devices,
        policy,
    })
}

/// The configuration as it is when this store is the named one, so that its credentials are looked up.
fn config_of(location: &str, session: &Session<'_>) -> Result<Config, CliError> {
    let here =
        env::current_dir().map_err(|source| CliError::from(source).context("cannot tell the working directory"))?;
    let flags = Flags { store: Some(location.to_owned()), config: session.config.file.clone(), ..Flags::default() };
    Ok(Config::load(&here, &Environment::new(env::vars_os()), &flags)?)
}

fn found(named: Named, opened: Option<&Opened>) -> Result<Side, CliError> {
    match (named, opened) {
        (Named::Directory(path), _) => Ok(Side::Directory(path)),
        (Named::Snapshot(selector), Some(opened)) => {
            let record = Box::new(selector.resolve(&opened.chain()?)?);
            Ok(Side::Snapshot { record, store: opened.store.url().to_owned() })
        }
        (Named::Snapshot(_), None) => Err(CliError::usage("no store is named")),
    }
}

/// Which trees are compared: those of the same name; one with one, whatever their names.
fn pairs<'a>(
    a: &'a Side,
    b: &'a Side,
    chosen: &[String],
    fetchers: &'a [Option<Fetcher<'a>>; 2],
) -> Result<Vec<TreePair<'a>>, CliError> {
    let names = |side: &Side| -> Result<Option<Vec<String>>, CliError> {
        let Some((_, snapshot)) = side.snapshot()? else { return Ok(None) };
        let all = snapshot.private.trees.iter().map(|tree| tree.name.clone());
        Ok(Some(all.filter(|name| chosen.is_empty() || chosen.contains(name)).collect()))
    };
    let (of_a, of_b) = (names(a)?, names(b)?);
    let known: Vec<&String> = of_a.iter().chain(&of_b).flatten().collect();
    if let Some(unknown) = chosen.iter().find(|name| !known.contains(name)) {
        return Err(match (&of_a, &of_b) {
            (None, None) => CliError::usage("--tree chooses trees of snapshots, and both sides are directories"),
            _ => CliError::usage(format!("there is no tree {unknown:?}"))
                .next("`snapkit show` lists the trees of a snapshot"),
        });
    }
    let [fetcher_a, fetcher_b] = fetchers;
    let is_one = |names: &Option<Vec<String>>| names.as_ref().is_none_or(|names| names.len() == 1);
    if is_one(&of_a) && is_one(&of_b) {
        let only = |names: &Option<Vec<String>>| names.as_ref().and_then(|names| names.first().cloned());
        let (name_a, name_b) = (only(&of_a), only(&of_b));
        let name = name_a.clone().or_else(|| name_b.clone()).unwrap_or_default();
        let a = source(a, name_a.as_deref(), None, fetcher_a.as_ref())?;
        let b = source(b, name_b.as_deref(), None, fetcher_b.as_ref())?;
        return Ok(vec![TreePair { name, a, b }]);
    }
    let mut all: Vec<String> = known.into_iter().cloned().collect();
    all.sort_unstable();
    all.dedup();
    let pair = |name: String| -> Result<TreePair<'a>, CliError> {
        let a = source(a, Some(&name), Some(&name), fetcher_a.as_ref())?;
        let b = source(b, Some(&name), Some(&name), fetcher_b.as_ref())?;
        Ok(TreePair { name, a, b })
    };
    all.into_iter().map(pair).collect()
}

/// A tree of a side; `below` is where it lies in a directory.
fn source<'a>(
    side: &'a Side,
    tree: Option<&str>,
    below: Option<&str>,
    fetcher: Option<&'a Fetcher<'a>>,
) -> Result<Source<'a>, CliError> {
    match (side, side.snapshot()?, fetcher) {
        (Side::Directory(path), ..) => {
            let path = below.map_or_else(|| path.clone(), |below| path.join(below));
            let is_absent = below.is_some() && !path.exists();
            Ok(if is_absent { Source::Nothing } else { Source::Directory(path) })
        }
        (Side::Snapshot { .. }, Some((_, snapshot)), Some(fetcher)) => {
            let found = snapshot.private.trees.iter().find(|found| Some(found.name.as_str()) == tree);
            Ok(found.map_or(Source::Nothing, |tree| Source::Snapshot { fetcher, tree }))
        }
        _ => Ok(Source::Nothing),
    }
}

fn head(a: &Side, b: &Side, pairs: &[TreePair<'_>], options: &Options) -> Result<Map<String, Value>, CliError> {
    let names: Vec<&str> = pairs.iter().map(|pair| pair.name.as_str()).filter(|name| !name.is_empty()).collect();
    let compared = if options.scope == Scope::Full { "full" } else { "content" };
    let head = [("a", a.json()?), ("b", b.json()?), ("trees", json!(names)), ("compared", json!(compared))];
    Ok(head.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

/// Prints differences as they come.
enum Printer {
    Json(JsonWriter<io::BufWriter<io::StdoutLock<'static>>>),
    Text(io::BufWriter<io::StdoutLock<'static>>),
}

impl Printer {
    fn new(is_json: bool, head: &Map<String, Value>, titles: &Titles) -> io::Result<Self> {
        let mut out = io::BufWriter::new(io::stdout().lock());
        if is_json {
            return Ok(Self::Json(JsonWriter::new(out, SCHEMA, head)?));
        }
        writeln!(out, "A  {}\nB  {}\n", titles.a, titles.b)?;
        Ok(Self::Text(out))
    }

    fn push(&mut self, difference: &Difference) -> io::Result<()> {
        match self {
            Self::Json(out) => out.push(difference),
            Self::Text(out) => text::write_difference(out, difference),
        }
    }

    fn finish(self, summary: &snapkit::diff::Summary, has_policy: bool) -> io::Result<()> {
        match self {
            Self::Json(out) => out.finish(summary),
            Self::Text(mut out) => {
                text::write_summary(&mut out, summary, has_policy)?;
                out.flush()
            }
        }
    }
}
