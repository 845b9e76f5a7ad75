//! `snapkit manifest`: issue what is fresh, keep it fresh, and say whether it is.

mod check;
mod junit;
mod make;
mod show;
pub(super) mod target;

use clap::{Args, Subcommand};

use super::exit_code::{CliError, Exit};
use super::session::Session;

/// Issue, refresh and check bootstrap manifests
///
/// A manifest says which head and which snapshot of a chain are fresh, until when, where to get them, and what may run. With
/// the bootstrap string in hand it is all that a new machine needs. docs/manifest.md walks through it.
#[derive(Debug, Args)]
pub(super) struct ManifestArgs {
    #[command(subcommand)]
    command: ManifestCommand,
}

#[derive(Debug, Subcommand)]
enum ManifestCommand {
    /// Issue a manifest of the newest head, with the signed pins
    ///
    /// Refused for a torn or incomplete snapshot, one that lacks a load-bearing file, an image that is nowhere to be had, and
    /// for variables and secrets of the pins that are not set here. The manifest goes into the store, and into `file` of
    /// `[manifest]` in snapkit.toml if that is set.
    Generate(make::GenerateArgs),
    /// Issue the next version if the manifest will not stay fresh, else do nothing
    ///
    /// Fit for a timer: it needs the manifest key alone, and changes no pin.
    Refresh(make::RefreshArgs),
    /// Say in one line and by the exit code whether a manifest is fresh; needs no secret
    ///
    /// 0 fresh, 20 the chain moved on too far, 21 the newest snapshot is too old, 22 expiring within the time asked for, 23
    /// expired, 24 not to be verified; 5 if the store could not be asked.
    Check(check::CheckArgs),
    /// Show what a manifest and its pins say, once they are verified
    Show(show::ShowArgs),
}

pub(super) fn run(args: &ManifestArgs, session: &mut Session<'_>) -> Result<Exit, CliError> {
    match &args.command {
        ManifestCommand::Generate(args) => make::generate(args, session),
        ManifestCommand::Refresh(args) => make::refresh(args, session),
        ManifestCommand::Check(args) => check::run(args, session),
        ManifestCommand::Show(args) => show::run(args, session),
    }
}

/// The store that the command names by itself, so that its credentials are looked up.
impl ManifestArgs {
    pub(super) fn place(&self) -> Option<String> {
        let target = match &self.command {
            ManifestCommand::Generate(_) => return None,
            ManifestCommand::Refresh(args) => &args.target,
            ManifestCommand::Check(args) => &args.target,
            ManifestCommand::Show(args) => &args.target,
        };
        target.named_store()
    }
}
