//! `bootstrap drill plan`: what a drill would do, printed.

use bootstrap::evidence::event::Mode;
use bootstrap::scenario::runs;
use clap::Args;
use jiff::Timestamp;
use serde::Serialize;
use snapkit::terminal::exit_code::{CliError, Exit};
use snapkit::terminal::output::{Output, Report};

use super::run::{AskedArgs, RunsArgs, conductor, explained};
use crate::cli::fleet::InventoryArgs;

/// Print what a drill would do, step by step, with its way back
///
/// The nodes are asked how they are; nothing is changed, and no run is begun.
#[derive(Debug, Args)]
pub(super) struct PlanArgs {
    /// `full` or `restore`
    #[arg(value_name = "SCENARIO", required_unless_present = "scenario_file")]
    scenario: Option<String>,
    #[command(flatten)]
    inventory: InventoryArgs,
    #[command(flatten)]
    place: RunsArgs,
    #[command(flatten)]
    asked: AskedArgs,
}

#[derive(Debug, Serialize)]
struct Planned {
    plan: bootstrap::scenario::Plan,
    #[serde(skip)]
    text: String,
}

pub(super) fn run(args: &PlanArgs, out: &mut Output) -> Result<Exit, CliError> {
    let inventory = args.inventory.load()?;
    let fleet = std::path::absolute(&args.inventory.inventory)?;
    let (conductor, _origin) = conductor(&inventory, &fleet, &args.place.runs, out)?;
    let asked = args.asked.asked(args.scenario.as_deref())?;
    let (scenario, _) = conductor.scenario(&asked).map_err(explained)?;
    let id = runs::new_id(&scenario.name)?;
    let plan = conductor.plan(&asked, Mode::Simulated, id, Timestamp::now()).map_err(explained)?;
    let mut text = format!("{}: {}\nplan sha256:{}\n", plan.scenario, plan.title, plan.plan_sha256);
    let lists = [("", &plan.steps), ("way back, ", &plan.rollback), ("in any case, ", &plan.always)];
    for (what, steps) in lists {
        let mut phase = "";
        for step in steps {
            if phase != step.phase {
                phase = &step.phase;
                text.push_str(&format!("\n{what}{phase}\n"));
            }
            let on = if step.on.is_empty() { String::new() } else { format!(" on {}", step.on.join(", ")) };
            text.push_str(&format!("  {}{on} (at most {} s): {}\n", step.id, step.timeout_seconds, step.title));
        }
    }
    let required = plan.checks.iter().filter(|check| check.required).map(|check| check.id.as_str());
    text.push_str(&format!("\nmust be shown: {}\n", required.collect::<Vec<_>>().join(", ")));
    out.report(&Planned { plan, text })?;
    Ok(Exit::DONE)
}

impl Report for Planned {
    const SCHEMA: &'static str = "bootstrap.drill-plan/1";

    fn write_text(&self, out: &mut dyn std::io::Write) -> std::io::Result<()> {
        out.write_all(self.text.as_bytes())
    }
}
