//! `bootstrap evidence record`

use std::env;
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::sync::Arc;

use bootstrap::evidence::record::{CAP, Done, RecordError, record};
use clap::Args;
use manifests::document::drill::Drill;
use serde::Serialize;
use snapkit::config::{Config, Environment, Flags};
use snapkit::store::mirrored::Notice;
use snapkit::terminal::exit_code::{CliError, Exit};
use snapkit::terminal::output::{Output, Report};

/// Put into the chain that a run begins, or how it ended
///
/// Standard input is a run that begins: its plan and who measures it (`bootstrap.begun/1`), or the plan alone
/// (`bootstrap.plan/1`). Or it is the signed statement of one that ended (bundle.dsse.json), which is verified first. It is written with the key of the node; under a lease only the node that
/// leads may. Given again, it finds its own record and adds none.
#[derive(Debug, Args)]
pub(super) struct RecordArgs {
    /// The node directory
    #[arg(long, value_name = "NODE-DIR")]
    node: PathBuf,
}

#[derive(Debug, Serialize)]
struct Recorded {
    phase: &'static str,
    id: String,
    seq: u64,
    digest: String,
    before: bool,
}

pub(super) fn run(args: &RecordArgs, out: &mut Output) -> Result<Exit, CliError> {
    let here =
        env::current_dir().map_err(|error| CliError::from(error).context("cannot tell the working directory"))?;
    let config = Config::load(&here, &Environment::new(env::vars_os()), &Flags::default())?;
    let mut bytes = Vec::new();
    io::stdin().take(CAP as u64 + 1).read_to_end(&mut bytes)?;
    // A copy of the store that is wrong is told; another one serves.
    let listener = Arc::new(|notice: &Notice| eprintln!("warning: {notice}"));
    let Done { drill, place, before, warnings } =
        record(&args.node, &bytes, config, listener).map_err(|error| match error {
            RecordError::Busy => CliError::from(error).next("run it again when it is quiet"),
            error => error.into(),
        })?;
    for warning in warnings {
        out.warn(format_args!("{warning}"));
    }
    let phase = match &drill {
        Drill::Begun(_) => "begun",
        Drill::Ended(_) => "ended",
    };
    let (seq, digest) = (place.seq, place.digest.to_string());
    out.report(&Recorded { phase, id: drill.id().to_owned(), seq, digest, before })?;
    Ok(Exit::DONE)
}

impl Report for Recorded {
    const SCHEMA: &'static str = "bootstrap.evidence-record/1";

    fn write_text(&self, out: &mut dyn Write) -> io::Result<()> {
        let already = if self.before { ", already" } else { "" };
        writeln!(out, "record {}: {} {}{already}", self.seq, self.id, self.phase)
    }
}
