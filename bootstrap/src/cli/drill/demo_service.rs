//! `bootstrap drill demo-service`: the service of the demo, started by an agent.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use bootstrap::drill::service::{self, Settings};
use bootstrap::driver::ServiceRole;
use clap::Args;
use snapkit::cancel::Cancel;
use snapkit::terminal::exit_code::{CliError, Exit};
use snapkit::terminal::output::Output;

/// The small service that the demo is played with: numbered lines on disk, and who answered
///
/// An agent starts it: node, term and directory come from the variables SNAPKIT_NODE, SNAPKIT_TERM and SNAPKIT_NODE_DIR. It
/// answers /ready, /who and /conflicts, and takes POST /add as leader.
#[derive(Debug, Args)]
pub(super) struct DemoServiceArgs {
    /// The queue that only one may consume: a directory that all nodes see
    #[arg(long, value_name = "DIR")]
    queue: PathBuf,
    /// Where the service of a node listens; given for each of them
    #[arg(long = "at", value_name = "NODE=ADDRESS", required = true, value_parser = place)]
    at: Vec<(String, SocketAddr)>,
    /// Lead: write, and consume the queue
    #[arg(long, conflicts_with_all = ["follow", "ask"])]
    lead: bool,
    /// Only answer
    #[arg(long, conflicts_with = "ask")]
    follow: bool,
    /// Ask the running one of this node instead, as a probe of its agent
    #[arg(long, value_name = "PATH")]
    ask: Option<String>,
}

fn place(text: &str) -> Result<(String, SocketAddr), String> {
    let (node, address) = text.split_once('=').ok_or("expected NODE=ADDRESS")?;
    Ok((node.to_owned(), address.parse().map_err(|_| format!("{address:?} is no address with a port"))?))
}

fn variable(name: &str) -> Result<String, CliError> {
    std::env::var(name).map_err(|_| {
        CliError::usage(format!("{name} is not set")).next("let an agent start it: name it as the service in the pins")
    })
}

pub(super) fn run(args: &DemoServiceArgs, out: &mut Output, cancel: &Cancel) -> Result<Exit, CliError> {
    let at: BTreeMap<String, SocketAddr> = args.at.iter().cloned().collect();
    let node = variable("SNAPKIT_NODE")?;
    if let Some(path) = &args.ask {
        return match service::ask(&at, &node, path) {
            Ok(answer) => {
                out.bytes(format!("{answer}\n").as_bytes())?;
                Ok(Exit::DONE)
            }
            Err(why) => Err(CliError::refused(why).with_exit(Exit::NO)),
        };
    }
    let role = match (args.lead, args.follow) {
        (true, _) => ServiceRole::Leader,
        (_, true) => ServiceRole::Follower,
        _ => return Err(CliError::usage("neither --lead nor --follow is given")),
    };
    let term = variable("SNAPKIT_TERM")?;
    let term = term.parse().map_err(|_| CliError::usage(format!("SNAPKIT_TERM is {term:?}, expected a number")))?;
    let directory = PathBuf::from(variable("SNAPKIT_NODE_DIR")?);
    service::run(&Settings { role, queue: args.queue.clone(), at, node, term, directory }, cancel)?;
    Ok(Exit::DONE)
}
