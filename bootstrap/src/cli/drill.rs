//! `bootstrap drill`: failures on purpose, and what measures them.

mod demo;
mod demo_ingress;
mod demo_service;
mod facts;
mod fault;
mod history;
mod keep;
mod measure;
mod plan;
mod preflight;
mod run;
mod say;

pub(super) use run::{conductor, explained, signer};

use clap::{Args, Subcommand};
use snapkit::cancel::Cancel;
use snapkit::terminal::exit_code::{CliError, Exit};
use snapkit::terminal::output::Output;

/// Rehearse the loss of a leader and a cold restore, and prove what came of it
#[derive(Debug, Args)]
pub(super) struct DrillArgs {
    #[command(subcommand)]
    command: DrillCommand,
}

#[derive(Debug, Subcommand)]
enum DrillCommand {
    Plan(plan::PlanArgs),
    Preflight(preflight::PreflightArgs),
    Run(Box<run::RunArgs>),
    Note(say::NoteArgs),
    Attest(say::AttestArgs),
    History(history::HistoryArgs),
    Prober(measure::ProberArgs),
    Sentinel(measure::SentinelArgs),
    Facts(facts::FactsArgs),
    Fault(fault::FaultArgs),
    Demo(demo::DemoArgs),
    #[command(hide = true)]
    Keep(keep::KeepArgs),
    DemoService(demo_service::DemoServiceArgs),
    DemoIngress(demo_ingress::DemoIngressArgs),
}

pub(super) fn run(args: &DrillArgs, out: &mut Output, cancel: &Cancel) -> Result<Exit, CliError> {
    match &args.command {
        DrillCommand::Plan(args) => plan::run(args, out),
        DrillCommand::Preflight(args) => preflight::run(args, out),
        DrillCommand::Note(args) => say::note(args, out),
        DrillCommand::Attest(args) => say::attest(args, out),
        DrillCommand::History(args) => history::run(args, out),
        DrillCommand::Run(args) => run::run(args, out, cancel),
        DrillCommand::Prober(args) => measure::prober(args, out, cancel),
        DrillCommand::Sentinel(args) => measure::sentinel(args, out, cancel),
        DrillCommand::Facts(args) => facts::run(args, out),
        DrillCommand::Fault(args) => fault::run(args, out),
        DrillCommand::Demo(args) => demo::run(args, out, cancel),
        DrillCommand::Keep(args) => keep::run(args, cancel),
        DrillCommand::DemoService(args) => demo_service::run(args, out, cancel),
        DrillCommand::DemoIngress(args) => demo_ingress::run(args, cancel),
    }
}
