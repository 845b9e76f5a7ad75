//! `bootstrap drill demo`: the whole story on one machine, with real processes.

use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Instant;

use bootstrap::drill::demo::{Settings, Told, World};
use bootstrap::scenario::runs;
use clap::Args;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;
use snapkit::cancel::Cancel;
use snapkit::terminal::exit_code::{CliError, Exit};
use snapkit::terminal::output::{Output, Report};

/// Play a whole drill on this machine, in about a minute
///
/// In one new directory: a chain with two snapshots, keys, pins and a manifest; a leader, a follower and a blank node, each with
/// an agent of its own; then the leader is killed, the follower takes over, and the blank node is restored from the chain. What
/// a prober and a sentinel saw of it is sealed into a bundle, which is verified. Everything is real, and nothing but that
/// directory is touched. What was started is ended again.
#[derive(Debug, Args)]
pub(super) struct DemoArgs {
    /// The new directory [default: bootstrap-demo-TIME in the directory for temporary files]
    #[arg(long, value_name = "DIR")]
    into: Option<PathBuf>,
}

/// What was played.
#[derive(Debug, Serialize)]
struct Demoed {
    directory: PathBuf,
    passed: bool,
    rto_ms: Option<u64>,
    rpo_events: Option<u64>,
    bundle: String,
    bundle_bytes: u64,
    verify_ms: u64,
    report: String,
    seconds: f64,
}

impl Report for Demoed {
    const SCHEMA: &'static str = "bootstrap.drill-demo/1";

    fn write_text(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out)?;
        if let Some(ms) = self.rto_ms {
            writeln!(out, "Clients were without an answer for {:.1} s.", ms as f64 / 1000.0)?;
        }
        if let Some(events) = self.rpo_events {
            writeln!(out, "{events} acknowledged events were lost with the leader.")?;
        }
        let kib = self.bundle_bytes / 1024;
        writeln!(out, "The bundle has {kib} KiB, and its verification took {} ms.", self.verify_ms)?;
        writeln!(out, "Everything took {:.0} s. It is in {}.", self.seconds, self.directory.display())?;
        writeln!(out, "Look at the report: {}", self.report)
    }
}

pub(super) fn run(args: &DemoArgs, out: &mut Output, cancel: &Cancel) -> Result<Exit, CliError> {
    let began = Instant::now();
    let directory = args.into.clone().unwrap_or_else(|| {
        let name = format!("bootstrap-demo-{}", Timestamp::now().strftime("%Y%m%dT%H%M%SZ"));
        std::env::temp_dir().join(name)
    });
    if directory.symlink_metadata().is_ok() {
        let what = format!("{} is there already, and the demo makes its directory itself", directory.display());
        return Err(CliError::refused(what).next("name a new one with --into, or leave it out"));
    }
    let settings = Settings::new(directory.clone(), std::env::current_exe()?);
    let mut world = World::make(settings, teller(out.is_json()))?;
    cancel.check()?;
    world.next("Node a is brought up from that string alone, and leads. Clients reach it through an ingress.");
    world.start_ingress()?;
    world.bring_up("a")?;
    world.wait_leads("a")?;
    world.prepare("b")?;
    world.prepare("c")?;
    let inventory = world.inventory()?.display().to_string();
    cancel.check()?;

    world.next("The drill is gone through first: nothing is changed.");
    // Who verifies it later says something beforehand that nobody could know: no older bundle has it.
    let challenge = runs::new_id("challenge")?;
    let full = ["drill", "run", "full", "--inventory", &inventory, "--target", "b", "--challenge", &challenge];
    let dry = world.bootstrap("desk", &full)?;
    let confirm = text(&dry, "/id");
    world.result(&format!("{confirm}: {} steps", dry["steps"].as_array().map_or(0, Vec::len)));
    cancel.check()?;

    world.next(
        "Now it is done: b comes up from the manifest, a is killed, b takes over, c is restored from the chain and removed.",
    );
    let execute = [&full[..], &["--execute", "--confirm", &confirm]].concat();
    let done = world.bootstrap_any("desk", &execute)?;
    for step in done["steps"].as_array().into_iter().flatten() {
        world.result(&format!("{:8} {}: {}", text(step, "/status"), text(step, "/id"), said(step)));
    }
    let passed = done.pointer("/bundle/passed").and_then(Value::as_bool).unwrap_or(false);
    for check in done.pointer("/bundle/failed").and_then(Value::as_array).into_iter().flatten() {
        world.result(&format!("NOT SHOWN {}: {}", text(check, "/id"), text(check, "/observed")));
    }

    world.next("A stranger verifies the bundle: offline, with nothing but the pin, the limits and the challenge.");
    let (tar, pin) = (text(&done, "/bundle/tar"), world.pin());
    let asked =
        ["--max-failover-seconds", "30", "--max-data-lag-events", "500", "--max-age", "1h", "--challenge", &challenge];
    let verifying = Instant::now();
    let verified = world.bootstrap_any("desk", &[&["evidence", "verify", &tar, "--pin", &pin][..], &asked].concat())?;
    let verify_ms = u64::try_from(verifying.elapsed().as_millis()).unwrap_or(u64::MAX);
    world.result(&text(&verified, "/outcome"));
    let good = verified["exit_code"].as_u64() == Some(0);
    for answer in verified["answers"].as_array().into_iter().flatten() {
        world.result(&answer_line(answer));
    }
    let demoed = Demoed {
        passed: passed && good,
        rto_ms: done.pointer("/bundle/rto_ms").and_then(Value::as_u64),
        rpo_events: done.pointer("/bundle/rpo_events").and_then(Value::as_u64),
        bundle: tar,
        bundle_bytes: done.pointer("/bundle/bytes").and_then(Value::as_u64).unwrap_or(0),
        verify_ms,
        report: text(&done, "/bundle/report"),
        directory,
        seconds: began.elapsed().as_secs_f64(),
    };
    out.report(&demoed)?;
    Ok(if demoed.passed { Exit::DONE } else { Exit::NO })
}

fn text(value: &Value, pointer: &str) -> String {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// What a step said, in one short line.
fn said(step: &Value) -> String {
    let said =
        [text(step, "/error"), text(step, "/note")].into_iter().find(|said| !said.is_empty()).unwrap_or_default();
    let mut short: String = said.chars().take(100).collect();
    if short.len() < said.len() {
        short.push('…');
    }
    short
}

fn answer_line(answer: &Value) -> String {
    let of = |name: &str| match answer.get(name) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Null) | None => "-".to_owned(),
        Some(other) => other.to_string(),
    };
    format!("{}: found {}, asked {} ({})", of("name"), of("value"), of("limit"), of("file"))
}

/// Tells as it goes on, on standard output; nothing where the result is to be JSON.
fn teller(json: bool) -> Box<dyn FnMut(Told<'_>) + Send> {
    if json {
        return Box::new(|_| {});
    }
    let began = Instant::now();
    Box::new(move |told| {
        let mut out = io::stdout().lock();
        // Whoever does not read what is told still gets the drill.
        let _ = match told {
            Told::Next(sentence) => writeln!(out, "\n[{:5.1} s] {sentence}", began.elapsed().as_secs_f64()),
            Told::Command(command) => writeln!(out, "  $ {command}"),
            Told::Result(result) => writeln!(out, "    {result}"),
        };
    })
}
