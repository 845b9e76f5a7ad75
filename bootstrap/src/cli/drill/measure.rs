//! `bootstrap drill prober` and `sentinel`: processes of their own that measure, and end with a signature.

use std::io::{self, BufRead, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use bootstrap::drill::prober::{self, Fields};
use bootstrap::drill::sentinel;
use bootstrap::drill::series::Subject;
use clap::Args;
use serde::Serialize;
use snapkit::cancel::Cancel;
use snapkit::terminal::exit_code::{CliError, Exit};
use snapkit::terminal::output::{Output, Report};

/// Ask an address again and again who answers there, and sign what was seen
///
/// It runs until its standard input is closed or it gets SIGTERM, and then signs its series with a key of its own. A prober
/// that is killed signs nothing. Where in the answer the node's name stands is a JSON pointer.
#[derive(Debug, Args)]
pub(super) struct ProberArgs {
    #[command(flatten)]
    subject: SubjectArgs,
    /// The address
    #[arg(long, value_name = "URL")]
    url: String,
    /// Where the name of the node that answers stands in its JSON
    #[arg(long, value_name = "POINTER", default_value = "/node")]
    node_at: String,
    /// Where its run stands
    #[arg(long, value_name = "POINTER", default_value = "/instance")]
    instance_at: String,
    /// Where its term stands
    #[arg(long, value_name = "POINTER", default_value = "/term")]
    term_at: String,
}

/// Write numbered events through the application, note which were acknowledged, and sign that
///
/// The application takes them as `POST` with a JSON body, and answers with `n`, the number it gave them, `node` and `term`.
/// After a failure the sentinel first asks what the application still knows. It ends as a prober does.
#[derive(Debug, Args)]
pub(super) struct SentinelArgs {
    #[command(flatten)]
    subject: SubjectArgs,
    /// The address that takes writes
    #[arg(long, value_name = "URL")]
    url: String,
    /// The address that tells the last number, node and term
    #[arg(long, value_name = "URL")]
    read: String,
}

#[derive(Debug, Args)]
struct SubjectArgs {
    /// The new file for the series; its signature goes beside it
    #[arg(long, value_name = "FILE")]
    into: PathBuf,
    /// The drill
    #[arg(long, value_name = "ID")]
    drill: String,
    /// What whoever will verify gave beforehand
    #[arg(long, value_name = "TEXT", default_value = "")]
    challenge: String,
    /// Whose answers these are: `ingress`, or the name of a node
    #[arg(long, value_name = "NAME", default_value = "ingress")]
    of: String,
    /// Milliseconds between two questions
    #[arg(long, value_name = "MS", default_value_t = 100, value_parser = clap::value_parser!(u64).range(10..=60_000))]
    interval: u64,
    /// Milliseconds that an answer is waited for
    #[arg(long, value_name = "MS", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(10..=60_000))]
    timeout: u64,
}

impl SubjectArgs {
    fn subject(&self, kind: &'static str, url: &str) -> Result<Subject, CliError> {
        if !url.starts_with("http://") && !url.starts_with("https://") {
            return Err(CliError::usage(format!("{url:?} is no address that begins with http:// or https://")));
        }
        let stem = self.into.file_stem().and_then(|stem| stem.to_str());
        let Some(stem) = stem.filter(|_| self.into.extension().is_some_and(|ending| ending == "jsonl")) else {
            let what = format!("{} is no name for a series", self.into.display());
            return Err(CliError::usage(what).next("name a file that ends with .jsonl"));
        };
        Ok(Subject {
            kind,
            prober: stem.to_owned(),
            target: if kind == "sentinel" { "write".to_owned() } else { "who".to_owned() },
            url: url.to_owned(),
            of: self.of.clone(),
            interval_ms: self.interval,
            timeout_ms: self.timeout,
            drill: self.drill.clone(),
            challenge: self.challenge.clone(),
        })
    }
}

/// A series that ended.
#[derive(Debug, Serialize)]
struct Measured {
    file: PathBuf,
    lines: u64,
}

impl Report for Measured {
    const SCHEMA: &'static str = "bootstrap.measured/1";

    fn write_text(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "{}: {} lines, signed", self.file.display(), self.lines)
    }
}

pub(super) fn prober(args: &ProberArgs, out: &mut Output, cancel: &Cancel) -> Result<Exit, CliError> {
    let subject = args.subject.subject("prober", &args.url)?;
    let fields = Fields {
        node: args.node_at.clone(),
        instance: args.instance_at.clone(),
        term: args.term_at.clone(),
        ..Fields::default()
    };
    let ended = until_told(cancel);
    let lines =
        prober::run(&args.subject.into, subject, &fields, &ended).map_err(|error| cannot(&args.subject.into, error))?;
    out.report(&Measured { file: args.subject.into.clone(), lines })?;
    Ok(Exit::DONE)
}

pub(super) fn sentinel(args: &SentinelArgs, out: &mut Output, cancel: &Cancel) -> Result<Exit, CliError> {
    let subject = args.subject.subject("sentinel", &args.url)?;
    let ended = until_told(cancel);
    let lines = sentinel::run(&args.subject.into, subject, &args.read, &ended)
        .map_err(|error| cannot(&args.subject.into, error))?;
    out.report(&Measured { file: args.subject.into.clone(), lines })?;
    Ok(Exit::DONE)
}

fn cannot(file: &Path, error: io::Error) -> CliError {
    let exists = error.kind() == io::ErrorKind::AlreadyExists;
    let error = CliError::from(error).context(format!("cannot write {}", file.display()));
    if exists { error.with_exit(Exit::REFUSED).next("name a new file; a series is never written over") } else { error }
}

/// Why to end: the word on standard input, its end, or a signal.
fn until_told(cancel: &Cancel) -> impl Fn() -> Option<String> {
    let told: Arc<Mutex<Option<String>>> = Arc::default();
    let tell = Arc::clone(&told);
    thread::spawn(move || {
        let mut line = String::new();
        let why = match io::stdin().lock().read_line(&mut line) {
            Ok(0) => "whoever began it is gone".to_owned(),
            Ok(_) => "asked".to_owned(),
            Err(error) => format!("its standard input cannot be read: {error}"),
        };
        *tell.lock().unwrap_or_else(PoisonError::into_inner) = Some(why);
    });
    let cancel = cancel.clone();
    move || {
        let told = told.lock().unwrap_or_else(PoisonError::into_inner).clone();
        told.or_else(|| cancel.is_requested().then(|| "a signal".to_owned()))
    }
}
