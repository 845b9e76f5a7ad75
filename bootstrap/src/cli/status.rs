//! `bootstrap status`: what the agent of a node says, the generations on disk, and their marks.

use std::io::{self, Write};
use std::time::Duration;

use bootstrap::agent::view::Mode;
use bootstrap::client::{Client, ClientError};
use bootstrap::surfaces::state::State;
use bootstrap::surfaces::story::{Story, Tone};
use clap::Args;
use jiff::Timestamp;
use serde::Serialize;
use snapkit::node::{self, Event, Listed, Status};
use snapkit::terminal::exit_code::{CliError, Exit};
use snapkit::terminal::output::{Bytes, Output, Report, write_table};

use super::{NodeArgs, Requirement};

/// How long the agent may take to answer.
const AGENT_WITHIN: Duration = Duration::from_secs(5);
/// Events that the text form shows.
const SHOWN_EVENTS: usize = 5;

/// Show who leads, what the agent of a node does, its generations, and what is wrong with it
///
/// Nothing is changed. A node without a running agent shows what is on disk. Exit code 4 if the node is degraded.
#[derive(Debug, Args)]
pub(super) struct StatusArgs {
    #[command(flatten)]
    node: NodeArgs,
}

#[derive(Debug, Serialize)]
struct Shown {
    node: String,
    agent: Option<State>,
    agent_problem: Option<String>,
    active: Option<String>,
    previous: Option<String>,
    switched: Option<Timestamp>,
    degraded: Option<Degraded>,
    interrupted: Option<Interrupted>,
    generations: Vec<Generation>,
    requirements: Vec<Requirement>,
    events: Vec<Event>,
}

#[derive(Debug, Serialize)]
struct Degraded {
    since: Timestamp,
    from: Option<String>,
    to: String,
    failure: String,
    rollback: String,
}

#[derive(Debug, Serialize)]
struct Interrupted {
    started: Timestamp,
    from: Option<String>,
    to: String,
}

#[derive(Debug, Serialize)]
struct Generation {
    name: String,
    role: &'static str,
    path: String,
    snapshot: Option<String>,
    seq: Option<u64>,
    id: Option<String>,
    made: Option<Timestamp>,
    entries: Option<u64>,
    files: Option<u64>,
    bytes: Option<u64>,
    exact: Option<bool>,
    receipt: Option<String>,
}

pub(super) fn run(args: &StatusArgs, out: &mut Output) -> Result<Exit, CliError> {
    let node = args.node.open()?;
    let status = node::status(&node)?;
    let mut shown = Shown::of(node.path().display().to_string(), &status);
    match Client::of_node(&args.node.node).within(AGENT_WITHIN).state() {
        Ok(state) => shown.agent = Some(state),
        // Nodes without an agent are as good as others; one that is there and silent is not.
        Err(ClientError::NoAgent { .. }) => {}
        Err(error) => shown.agent_problem = Some(error.to_string()),
    }
    let agent_degraded = shown.agent.as_ref().is_some_and(|state| state.view.mode == Mode::Degraded);
    let exit = if status.degraded.is_some() || agent_degraded { Exit::DEGRADED } else { Exit::DONE };
    out.report(&shown)?;
    Ok(exit)
}

impl Shown {
    fn of(node: String, status: &Status) -> Self {
        let text = |name: &Option<node::GenerationName>| name.as_ref().map(ToString::to_string);
        let degraded = status.degraded.as_ref().map(|mark| Degraded {
            since: mark.since,
            from: text(&mark.from),
            to: mark.to.to_string(),
            failure: mark.failure.clone(),
            rollback: mark.rollback.clone(),
        });
        let interrupted = status.intent.as_ref().map(|intent| Interrupted {
            started: intent.started,
            from: text(&intent.from),
            to: intent.to.to_string(),
        });
        Self {
            node,
            agent: None,
            agent_problem: None,
            active: text(&status.active),
            previous: text(&status.state.previous),
            switched: status.state.switched,
            degraded,
            interrupted,
            generations: status.generations.iter().map(Generation::of).collect(),
            requirements: Requirement::all(&status.checks),
            events: status.state.events.clone(),
        }
    }
}

impl Generation {
    fn of(listed: &Listed) -> Self {
        let known = listed.generation.as_ref();
        let record = known.and_then(|known| known.record.as_ref());
        // What was found before the first switch was never counted.
        let restored = known.filter(|known| known.record.is_some());
        Self {
            name: listed.name.to_string(),
            role: listed.role.word(),
            path: listed.path.display().to_string(),
            snapshot: record.map(|record| record.snapshot.clone()),
            seq: record.map(|record| record.seq),
            id: record.map(|record| record.id.clone()),
            made: known.map(|known| known.made),
            entries: restored.map(|known| known.entries),
            files: restored.map(|known| known.files),
            bytes: restored.map(|known| known.bytes),
            exact: restored.map(|known| known.exact),
            receipt: listed.receipt.as_ref().map(|receipt| receipt.display().to_string()),
        }
    }
}

impl Report for Shown {
    const SCHEMA: &'static str = "bootstrap.status/1";

    fn write_text(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "{}", self.node)?;
        match (&self.agent, &self.agent_problem) {
            (Some(state), _) => write_story(state, out)?,
            (None, Some(problem)) => writeln!(out, "AGENT: {problem}")?,
            (None, None) => writeln!(out, "no agent runs for this node")?,
        }
        if let Some(mark) = &self.degraded {
            writeln!(out, "DEGRADED since {}: it refuses to be switched until `bootstrap ack`", mark.since)?;
            writeln!(out, "  the switch to {} does not hold: {}", mark.to, mark.failure)?;
            writeln!(out, "  it could not be taken back: {}", mark.rollback)?;
        }
        if let Some(interrupted) = &self.interrupted {
            writeln!(out, "a switch to {} is under way or was interrupted", interrupted.to)?;
            writeln!(out, "  if it was, the next switch or undo first finishes it or takes it back")?;
        }
        match (&self.active, self.switched) {
            (Some(active), Some(switched)) => writeln!(out, "active: {active}, since {switched}")?,
            (Some(active), None) => writeln!(out, "active: {active}")?,
            (None, _) => writeln!(out, "active: none")?,
        }
        let rows: Vec<_> = (self.generations.iter())
            .map(|generation| {
                [
                    format!("  {}", generation.role),
                    generation.name.clone(),
                    generation.seq.map_or_else(|| "-".to_owned(), |seq| format!("#{seq}")),
                    generation.made.map_or_else(String::new, |made| made.strftime("%Y-%m-%d %H:%M:%SZ").to_string()),
                    generation.bytes.map_or_else(|| "unknown".to_owned(), |bytes| Bytes(bytes).to_string()),
                ]
            })
            .collect();
        writeln!(out, "generations, newest first:")?;
        write_table(out, &rows)?;
        writeln!(out, "what must hold:")?;
        self.requirements.iter().try_for_each(|requirement| requirement.write_text(out))?;
        if !self.events.is_empty() {
            writeln!(out, "last events:")?;
        }
        for event in self.events.iter().rev().take(SHOWN_EVENTS) {
            let name = |name: &Option<node::GenerationName>| {
                name.as_ref().map_or_else(|| "nothing".to_owned(), ToString::to_string)
            };
            write!(out, "  {} {}: {} -> {}", event.time, event.what.word(), name(&event.from), name(&event.to))?;
            match &event.why {
                Some(why) => writeln!(out, " ({why})")?,
                None => writeln!(out)?,
            }
        }
        Ok(())
    }
}

/// What the page of the agent says, in the same words.
fn write_story(state: &State, out: &mut dyn Write) -> io::Result<()> {
    let story = Story::of(state);
    let tone = if story.tone == Tone::Good { String::new() } else { format!("{}: ", story.tone.word().to_uppercase()) };
    writeln!(out, "{tone}{}", story.headline)?;
    writeln!(out, "  {}", story.why)?;
    for problem in &story.problems {
        writeln!(out, "PROBLEM {}: {}", problem.name, problem.what)?;
        writeln!(out, "  do this: {}", problem.next)?;
    }
    for fact in &story.facts {
        writeln!(out, "{}: {}", fact.label.to_lowercase(), fact.value)?;
        fact.notes.iter().try_for_each(|note| writeln!(out, "  {note}"))?;
    }
    Ok(())
}
