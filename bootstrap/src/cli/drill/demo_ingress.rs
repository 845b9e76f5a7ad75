//! `bootstrap drill demo-ingress`: the address for clients in the demo.

use std::net::SocketAddr;
use std::path::PathBuf;

use bootstrap::drill::ingress::{self, Upstream};
use clap::Args;
use snapkit::cancel::Cancel;
use snapkit::terminal::exit_code::{CliError, Exit};

/// The address that clients use in the demo: it leads to the node whose agent says /leader
///
/// While the override file is there, everything goes to the node that it names, whoever leads.
#[derive(Debug, Args)]
pub(super) struct DemoIngressArgs {
    /// Where it listens
    #[arg(long, value_name = "ADDRESS")]
    listen: SocketAddr,
    /// A node: its name, where its agent answers, and where its service does; given for each of them
    #[arg(long, value_name = "NODE=AGENT-URL,ADDRESS", required = true)]
    upstream: Vec<Upstream>,
    /// The override file
    #[arg(long, value_name = "FILE")]
    over: Option<PathBuf>,
}

pub(super) fn run(args: &DemoIngressArgs, cancel: &Cancel) -> Result<Exit, CliError> {
    ingress::run(args.listen, args.upstream.clone(), args.over.clone(), cancel)
        .map_err(|error| CliError::from(error).context(format!("cannot serve on {}", args.listen)))?;
    Ok(Exit::DONE)
}
