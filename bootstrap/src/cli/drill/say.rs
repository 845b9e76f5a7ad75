//! `bootstrap drill note` and `attest`: what people did and saw, in the timeline of a run that goes on.

use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;

use bootstrap::drill::keeper::Place;
use bootstrap::evidence::event::{Actor, What};
use bootstrap::evidence::run_dir::{ATTEST, RunDir};
use bootstrap::evidence::seal::STATEMENT;
use bootstrap::evidence::timeline::Timeline;
use bootstrap::scenario::runs::Runs;
use clap::Args;
use serde::Serialize;
use snapkit::terminal::exit_code::{CliError, Exit};
use snapkit::terminal::output::{Output, Report};

use super::run::RunsArgs;

/// The largest file that is taken over.
const FILE_CAP: u64 = 16 << 20;

/// Write down what was done by hand in a run that was interrupted, before it is gone on with
///
/// Whatever a person did beside the plan belongs into the evidence. While an orchestrator goes on with the run, its timeline is
/// not written by others.
#[derive(Debug, Args)]
pub(super) struct NoteArgs {
    /// The run
    #[arg(value_name = "ID")]
    id: String,
    /// What was done
    #[arg(long, value_name = "TEXT", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    text: String,
    /// It is a remark, and nothing was done by hand
    #[arg(long)]
    remark: bool,
    #[command(flatten)]
    place: RunsArgs,
}

/// State what you saw in a run that was interrupted, with a picture if there is one
///
/// A statement is shown as one, never as a measurement.
#[derive(Debug, Args)]
pub(super) struct AttestArgs {
    /// The run
    #[arg(value_name = "ID")]
    id: String,
    /// Who states it
    #[arg(long, value_name = "NAME", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    who: String,
    /// What
    #[arg(long, value_name = "TEXT", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    text: String,
    /// A file that shows it; a copy becomes part of the evidence
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    #[command(flatten)]
    place: RunsArgs,
}

#[derive(Debug, Serialize)]
struct Said {
    id: String,
    event: u64,
}

impl Report for Said {
    const SCHEMA: &'static str = "bootstrap.drill-said/1";

    fn write_text(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "event {} of {}", self.event, self.id)
    }
}

pub(super) fn note(args: &NoteArgs, out: &mut Output) -> Result<Exit, CliError> {
    let text = args.text.clone();
    let what = if args.remark { What::Note { text } } else { What::Manual { text } };
    say(&args.id, &args.place, out, |_| Ok(what))
}

pub(super) fn attest(args: &AttestArgs, out: &mut Output) -> Result<Exit, CliError> {
    say(&args.id, &args.place, out, |run| {
        let file = args.file.as_ref().map(|path| take(run, path)).transpose()?;
        Ok(What::Attest { who: args.who.clone(), text: args.text.clone(), file })
    })
}

/// A copy of a file below `attest/`.
fn take(run: &RunDir, path: &PathBuf) -> Result<String, CliError> {
    let shown = path.display();
    let size = fs::metadata(path).map_err(|error| CliError::from(error).context(format!("cannot read {shown}")))?.len();
    if size > FILE_CAP {
        return Err(CliError::usage(format!("{shown} has {size} bytes, expected at most {FILE_CAP}")));
    }
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let plain: String =
        name.chars().map(|one| if one.is_ascii_alphanumeric() || ".-_".contains(one) { one } else { '_' }).collect();
    let name = format!("{ATTEST}/{}", plain.trim_start_matches('.'));
    run.write(&name, &fs::read(path)?)?;
    Ok(name)
}

fn say(
    id: &str,
    place: &RunsArgs,
    out: &mut Output,
    what: impl FnOnce(&RunDir) -> Result<What, CliError>,
) -> Result<Exit, CliError> {
    let runs = Runs::at(&place.runs);
    let found =
        runs.find(id).map_err(|error| CliError::refused(error.to_string()).next("name the run's id and --runs"))?;
    if found.is_over() || found.directory.file(STATEMENT).exists() {
        return Err(CliError::refused(format!("the run {id} has ended")).next("a run that has ended is not added to"));
    }
    // Held, so that nobody goes on with the run meanwhile.
    let _lock = Place::beside(found.directory.path()).lock().map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => CliError::refused(format!("another process goes on with the run {id}"))
            .next("write it down when the run was interrupted, or stop its orchestrator"),
        _ => CliError::from(error),
    })?;
    let what = what(&found.directory)?;
    let machine = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let (_, mut timeline) = Timeline::resume(found.directory.path(), &machine)?;
    let event = timeline.add(Actor::Human, None, what)?;
    out.report(&Said { id: id.to_owned(), event: event.i })?;
    Ok(Exit::DONE)
}
