//! `bootstrap topology`: who is there, what decides traffic, what decides leadership.

use bootstrap::fleet::probe::{self, ProbeReport, Role};
use bootstrap::fleet::topology::Topology;
use clap::Args;
use snapkit::terminal::exit_code::{CliError, Exit};
use snapkit::terminal::output::Output;

use super::fleet::InventoryArgs;
use super::probe::{AskedArgs, problem};

/// Show the nodes of a fleet, what decides who leads, what decides where traffic goes, and where the two differ
///
/// Only reads. Exit code 1 if the lease and the traffic are with different nodes, or a node leads and what clients reach is no
/// leader; 5 if nothing answers.
#[derive(Debug, Args)]
pub(super) struct TopologyArgs {
    #[command(flatten)]
    inventory: InventoryArgs,
    #[command(flatten)]
    asked: AskedArgs,
    /// Ask nothing, and show the inventory alone
    #[arg(long)]
    offline: bool,
    /// Print a graph for Graphviz
    #[arg(long, conflicts_with = "json")]
    dot: bool,
}

pub(super) fn run(args: &TopologyArgs, out: &mut Output) -> Result<Exit, CliError> {
    let inventory = args.inventory.load()?;
    let report = match args.offline {
        true => None,
        false => Some(probe::probe(&inventory, &args.asked.options()).map_err(problem)?),
    };
    let topology = Topology::of(&inventory, report.as_ref());
    if args.dot {
        out.bytes(topology.dot().as_bytes())?;
    } else {
        out.report(&topology)?;
    }
    Ok(match (&report, topology.agree) {
        (Some(report), _) if report.is_silent() => Exit::of_code(manifests::refusal::exit::COULD_NOT_RUN),
        (_, Some(false)) => Exit::NO,
        // Somebody leads, and clients get nowhere, or to one that does not.
        (Some(report), None) if report.lease_holder().is_some() && is_lost(report) => Exit::NO,
        _ => Exit::DONE,
    })
}

/// Whether the ingress was asked, and no leader answered there.
fn is_lost(report: &ProbeReport) -> bool {
    report.ingress().is_some_and(|ingress| ingress.skipped.is_none() && ingress.is != Some(Role::Leader))
}
