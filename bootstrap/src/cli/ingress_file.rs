//! `bootstrap ingress-file`: what a failover runs on the machine of the ingress to read and replace its configuration.

use std::io::{self, Read, Write};
use std::path::PathBuf;

use bootstrap::scenario::ingress::{CAP, File, FileError, Replaced};
use clap::{Args, Subcommand};
use jiff::Timestamp;
use manifests::digest::Digest;
use serde::Serialize;
use snapkit::terminal::exit_code::{CliError, Exit};
use snapkit::terminal::output::{Output, Report};

/// Read or replace the configuration of the ingress; `bootstrap failover` runs it where the ingress is
#[derive(Debug, Args)]
pub(super) struct IngressFileArgs {
    #[command(subcommand)]
    command: IngressFileCommand,
}

#[derive(Debug, Subcommand)]
enum IngressFileCommand {
    /// Print it with its SHA-256
    Read {
        /// The file
        file: PathBuf,
    },
    /// Replace it by standard input in one step, with a copy of what was there beside it
    Replace {
        /// The file
        file: PathBuf,
        /// The SHA-256 of what is there; another one is refused
        #[arg(long, value_name = "SHA256")]
        expect: Digest,
        /// The time in the name of the copy [default: now]
        #[arg(long, value_name = "TIME")]
        at: Option<Timestamp>,
    },
}

#[derive(Debug, Serialize)]
#[serde(transparent)]
struct Shown(File);

impl Report for Shown {
    const SCHEMA: &'static str = "bootstrap.ingress-file/1";

    fn write_text(&self, out: &mut dyn Write) -> io::Result<()> {
        out.write_all(self.0.text.as_bytes())
    }
}

#[derive(Debug, Serialize)]
#[serde(transparent)]
struct Done(Replaced);

impl Report for Done {
    const SCHEMA: &'static str = "bootstrap.ingress-replaced/1";

    fn write_text(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "{} was replaced; what was there is {}", self.0.path.display(), self.0.backup.display())
    }
}

pub(super) fn run(args: &IngressFileArgs, out: &mut Output) -> Result<Exit, CliError> {
    match &args.command {
        IngressFileCommand::Read { file } => out.report(&Shown(File::read(file).map_err(problem)?))?,
        IngressFileCommand::Replace { file, expect, at } => {
            let mut text = String::new();
            io::stdin().lock().take(CAP + 1).read_to_string(&mut text)?;
            if text.is_empty() || text.len() as u64 > CAP {
                let why = format!("expected 1 to {CAP} bytes on standard input, found {}", text.len());
                return Err(CliError::usage(why));
            }
            let at = at.unwrap_or_else(Timestamp::now);
            out.report(&Done(File::replace(file, *expect, &text, at).map_err(problem)?))?;
        }
    }
    Ok(Exit::DONE)
}

fn problem(error: FileError) -> CliError {
    match error {
        FileError::Io { .. } => error.into(),
        FileError::Changed { .. } | FileError::Unfit { .. } => {
            CliError::from(error).with_exit(Exit::REFUSED).next("look at the file; nothing was changed")
        }
    }
}
