//! `bootstrap evidence`: what a run left behind, for whoever has to believe it or not.

mod export;
mod record;
mod show;
mod verify;

use bootstrap::evidence::EvidenceError;
use clap::{Args, Subcommand};
use manifests::refusal::Class;
use snapkit::terminal::exit_code::{CliError, Exit};
use snapkit::terminal::output::Output;

/// Check the evidence of a drill or failover, show it, and keep its digest in the chain
#[derive(Debug, Args)]
pub(super) struct EvidenceArgs {
    #[command(subcommand)]
    command: EvidenceCommand,
}

#[derive(Debug, Subcommand)]
enum EvidenceCommand {
    Verify(verify::VerifyArgs),
    Show(show::ShowArgs),
    Export(export::ExportArgs),
    Record(record::RecordArgs),
}

pub(super) fn run(args: &EvidenceArgs, out: &mut Output) -> Result<Exit, CliError> {
    match &args.command {
        EvidenceCommand::Verify(args) => verify::run(args, out),
        EvidenceCommand::Show(args) => show::run(args, out),
        EvidenceCommand::Export(args) => export::run(args, out),
        EvidenceCommand::Record(args) => record::run(args, out),
    }
}

/// A bundle that is none, or is not believed.
fn problem(error: EvidenceError) -> CliError {
    match error.refusal().map(|refusal| refusal.class()) {
        Some(Class::Missing | Class::Evidence) | None => {
            CliError::from(error).next("name the directory or the .tar of a run that was sealed")
        }
        Some(_) => error.into(),
    }
}
