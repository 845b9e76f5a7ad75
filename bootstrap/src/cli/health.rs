//! `bootstrap health`: one row per service of a fleet.

use bootstrap::fleet::health::{self, Health};
use clap::Args;
use manifests::refusal::exit;
use snapkit::terminal::exit_code::{CliError, Exit};
use snapkit::terminal::output::Output;

use super::fleet::InventoryArgs;

/// Show how every service of a fleet is: agents, what they keep, units beside them, ingress and control plane
///
/// Only reads. Exit code 0 if all are as they should be, 4 if nothing is worse than degraded, 5 if nothing could be looked at,
/// else 1.
#[derive(Debug, Args)]
pub(super) struct HealthArgs {
    #[command(flatten)]
    inventory: InventoryArgs,
}

pub(super) fn run(args: &HealthArgs, out: &mut Output) -> Result<Exit, CliError> {
    let inventory = args.inventory.load()?;
    let report = health::look(&inventory);
    out.report(&report)?;
    let every = |fits: fn(Health) -> bool| report.rows.iter().all(|row| fits(row.status));
    Ok(match () {
        () if every(|status| status == Health::Unknown) => Exit::of_code(exit::COULD_NOT_RUN),
        () if report.is_good() => Exit::DONE,
        () if every(|status| matches!(status, Health::Ok | Health::Standby | Health::Degraded)) => Exit::DEGRADED,
        () => Exit::NO,
    })
}
