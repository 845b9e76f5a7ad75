//! `bootstrap drill fault`: break one thing on this machine's node, or take it back.

use std::io::{self, Write};

use bootstrap::drill::fault::{self, FaultError, Injected, Kind};
use clap::{Args, ValueEnum};
use serde::Serialize;
use snapkit::terminal::exit_code::{CliError, Exit};
use snapkit::terminal::output::{Output, Report};

use crate::cli::NodeArgs;

/// Break something on the node in this directory, and say when that was
///
/// `stop` ends the agent and its service in order, `kill` kills them at once, `pause` freezes them; the state is kept.
/// `partition` and `store-block` are done by the command after `--`. `destroy-state` removes the node directory, and wants its
/// name a second time. Nothing is done without the id of the drill.
#[derive(Debug, Args)]
pub(super) struct FaultArgs {
    /// What
    #[arg(value_enum)]
    kind: KindArg,
    #[command(flatten)]
    node: NodeArgs,
    /// The drill that it belongs to
    #[arg(long, value_name = "ID", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    confirm: String,
    /// Take it back instead: what is frozen goes on, an agent that is gone is started again
    #[arg(long)]
    heal: bool,
    /// For `destroy-state`: the name of the node directory, once more
    #[arg(long, value_name = "NAME", conflicts_with = "heal")]
    destroy: Option<String>,
    /// The command that does it
    #[arg(last = true, value_name = "ARGV")]
    argv: Vec<String>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum KindArg {
    Stop,
    Kill,
    Pause,
    Partition,
    StoreBlock,
    DestroyState,
}

impl From<KindArg> for Kind {
    fn from(kind: KindArg) -> Self {
        match kind {
            KindArg::Stop => Self::Stop,
            KindArg::Kill => Self::Kill,
            KindArg::Pause => Self::Pause,
            KindArg::Partition => Self::Partition,
            KindArg::StoreBlock => Self::StoreBlock,
            KindArg::DestroyState => Self::DestroyState,
        }
    }
}

#[derive(Debug, Serialize)]
struct Done(Injected);

impl Report for Done {
    const SCHEMA: &'static str = "bootstrap.fault/1";

    fn write_text(&self, out: &mut dyn Write) -> io::Result<()> {
        let Injected { fault, node, healed, at_mono_us, wall, processes, .. } = &self.0;
        let what = if *healed { "taken back" } else { "injected" };
        writeln!(out, "{fault} {what} at {wall} ({at_mono_us} µs since boot): {node}, {} processes", processes.len())
    }
}

pub(super) fn run(args: &FaultArgs, out: &mut Output) -> Result<Exit, CliError> {
    let (kind, node) = (args.kind.into(), &args.node.node);
    let done = match args.heal {
        false => fault::inject(kind, node, &args.confirm, &args.argv, args.destroy.as_deref()),
        true => fault::heal(kind, node, &args.confirm, &args.argv),
    };
    match done {
        Ok(injected) => {
            out.report(&Done(injected))?;
            Ok(Exit::DONE)
        }
        Err(FaultError::Refused { what, next }) => Err(CliError::refused(what).next(next)),
        Err(error @ FaultError::Half(_)) => {
            Err(CliError::from(error).next("look with `bootstrap status`; the fault may be injected in part"))
        }
        Err(error) => Err(error.into()),
    }
}
