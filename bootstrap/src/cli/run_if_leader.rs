//! `bootstrap run-if-leader`: a command that runs only while this node leads.

use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitCode, ExitStatus};
use std::time::Duration;

use bootstrap::client::Client;
use bootstrap::leading::{self, Led};
use clap::Args;
use manifests::refusal::exit;
use snapkit::cancel::Cancel;
use snapkit::terminal::exit_code::{CliError, Exit};

use super::NodeArgs;

/// Run a command only while this node leads
///
/// One cron line for all nodes: on a node that does not lead, nothing is run and the exit code is 7. The command gets the
/// term in SNAPKIT_TERM and the node's name in SNAPKIT_NODE. When the lease is lost while it runs, it is killed with its
/// process group, and the exit code is 8; otherwise it is the command's own, or 128 and the number of the signal that
/// ended it. Output is the command's.
#[derive(Debug, Args)]
pub(super) struct RunIfLeaderArgs {
    #[command(flatten)]
    node: NodeArgs,
    /// Skip it, too, unless the lease holds for this much longer
    #[arg(long, value_name = "SECONDS", default_value_t = 1)]
    min_remaining: u64,
    /// The process that the command dies with
    #[arg(long, hide = true, value_name = "PID")]
    enter: Option<i32>,
    /// The program and its arguments, after `--`
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

impl RunIfLeaderArgs {
    /// Becomes the command, if this is the process for it. Returns only if that is not so, or failed.
    pub(super) fn enter(&self) -> Option<ExitCode> {
        /// What a shell gives for a program that it does not find.
        const NOT_RUN: u8 = 127;
        let parent = self.enter?;
        let error = leading::enter(parent, &self.command);
        eprintln!("error: cannot run {}: {error}", self.command[0].display());
        Some(NOT_RUN.into())
    }
}

pub(super) fn run(args: &RunIfLeaderArgs, cancel: &Cancel) -> Result<Exit, CliError> {
    let client = Client::of_node(&args.node.node);
    let bind = |argv: &[OsString]| {
        // `/proc/self/exe` is this program even when its file was replaced meanwhile.
        let mut command = Command::new("/proc/self/exe");
        command.arg("run-if-leader").arg("--enter").arg(leading::this_process().to_string());
        command.arg(&args.node.node).arg("--").args(argv);
        command
    };
    let led = leading::run(&client, &args.command, Duration::from_secs(args.min_remaining), bind, cancel)
        .map_err(|error| CliError::from(error).next("start the agent of this node, or name its directory"))?;
    match led {
        Led::Ended(status) | Led::Stopped(status) => Ok(exit_of(status)),
        Led::Skipped(why) => {
            let error = CliError::refused(format!("skipped, because this node does not lead: {why}"));
            Err(error.with_exit(Exit::of_code(exit::NOT_LEADER)))
        }
        Led::Lost(why) => {
            let error = CliError::refused(format!("the command was killed, because the lease was lost: {why}"));
            Err(error.with_exit(Exit::of_code(exit::LEASE_LOST)))
        }
    }
}

fn exit_of(status: ExitStatus) -> Exit {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1);
    Exit::of_code(u8::try_from(code).unwrap_or(u8::MAX))
}
