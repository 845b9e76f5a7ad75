//! `bootstrap evidence show`

use std::io::{self, Write};
use std::path::PathBuf;

use bootstrap::evidence::event::CheckStatus;
use bootstrap::evidence::files::Files;
use bootstrap::evidence::recompute::recompute;
use bootstrap::evidence::report::one_line;
use bootstrap::evidence::result::RunResult;
use clap::Args;
use serde::Serialize;
use snapkit::terminal::exit_code::{CliError, Exit};
use snapkit::terminal::output::{Output, Report};

use super::problem;

/// Say what the files of a run or bundle amount to, without believing or refusing them
///
/// Also for a run that was not sealed. Nothing is checked but what has to be read: `bootstrap evidence verify` decides.
#[derive(Debug, Args)]
pub(super) struct ShowArgs {
    /// The bundle, or a run directory
    #[arg(value_name = "BUNDLE")]
    bundle: PathBuf,
}

#[derive(Debug, Serialize)]
#[serde(transparent)]
struct Shown(RunResult);

pub(super) fn run(args: &ShowArgs, out: &mut Output) -> Result<Exit, CliError> {
    let files = Files::read(&args.bundle).map_err(problem)?;
    let result = recompute(&files).map_err(|refusal| problem(refusal.into()))?;
    out.report(&Shown(result))?;
    Ok(Exit::DONE)
}

impl Report for Shown {
    const SCHEMA: &'static str = "bootstrap.result/1";

    fn write_text(&self, out: &mut dyn Write) -> io::Result<()> {
        let result = &self.0;
        let (verdict, grade, mode) = (result.verdict.word(), result.grade.word(), result.mode.word());
        writeln!(out, "{} {}, {}: {verdict}, grade {grade}, mode {mode}", result.kind, result.scenario, result.id)?;
        writeln!(out, "  from {} to {}", result.started, result.ended)?;
        let measured = &result.measured;
        if let Some(ms) = measured.rto_ms {
            let error = measured.rto_error_ms.unwrap_or_default();
            writeln!(out, "  {ms} ms without an answer, within {error} ms")?;
        }
        if let Some(lost) = measured.rpo_events {
            writeln!(out, "  {lost} acknowledged writes lost, over {} ms", measured.rpo_ms.unwrap_or_default())?;
        }
        let mut line = |text: String| writeln!(out, "  {}", one_line(&text));
        for step in &result.steps {
            let took = step.duration_ms.map_or_else(String::new, |ms| format!(", {ms} of {} ms", step.timebox_ms));
            line(format!("step {}: {}{took}", step.id, step.status.word()))?;
        }
        for check in &result.checks {
            let mark = if check.required && check.status != CheckStatus::Passed { " <- required" } else { "" };
            let (status, claim) = (check.status.word(), check.claim.word());
            line(format!("check {}: {status}, {claim}: {}{mark}", check.id, check.observed))?;
        }
        result.problems.iter().try_for_each(|problem| line(format!("{}: {}", problem.file, problem.why)))
    }
}
