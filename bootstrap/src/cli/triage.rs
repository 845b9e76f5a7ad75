//! `bootstrap triage`: what has happened, and which command comes next.

use std::thread;

use bootstrap::fleet::node::{Handle, HandleError};
use bootstrap::fleet::probe::{self, Options};
use bootstrap::fleet::triage::{self, Class, Said};
use clap::Args;
use manifests::refusal::exit;
use snapkit::terminal::exit_code::{CliError, Exit};
use snapkit::terminal::output::Output;

use super::fleet::InventoryArgs;
use super::probe::{AskedArgs, problem};

/// Say what has happened to a fleet, and name the next command
///
/// Only reads, and leaves out what is dead by itself. Classes: A, another node leads already; B, nobody leads and none is fit to;
/// C, a node leads and clients do not get to it; fit, nobody leads and one is fit to; split, several lead; impaired, the node that is to lead
/// does and something else does not hold; healthy; unknown. Exit code 0 if healthy, 4 if impaired, 5 if unknown, else 1.
#[derive(Debug, Args)]
pub(super) struct TriageArgs {
    #[command(flatten)]
    inventory: InventoryArgs,
    #[command(flatten)]
    asked: AskedArgs,
}

pub(super) fn run(args: &TriageArgs, out: &mut Output) -> Result<Exit, CliError> {
    let inventory = args.inventory.load()?;
    let options: Options = args.asked.options();
    let limit = options.timeout.unwrap_or_else(|| inventory.patience());
    let report = probe::probe(&inventory, &options).map_err(problem)?;
    let asked: Vec<Handle> =
        (Handle::all(&inventory).into_iter()).filter(|handle| !options.skip_nodes.contains(handle.name())).collect();
    let states: Vec<Said> = thread::scope(|scope| {
        let ask = |handle: &Handle| {
            (handle.name().to_owned(), handle.state(limit).map_err(|error: HandleError| error.to_string()))
        };
        let threads: Vec<_> = asked.iter().map(|handle| scope.spawn(move || ask(handle))).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    });
    let mut found = triage::triage(&inventory, &report, &states);
    if found.next.starts_with("bootstrap ") {
        found.next.push_str(&args.inventory.typed());
    }
    out.report(&found)?;
    Ok(match found.class {
        Class::Healthy => Exit::DONE,
        Class::Impaired => Exit::DEGRADED,
        Class::Unknown => Exit::of_code(exit::COULD_NOT_RUN),
        _ => Exit::NO,
    })
}
