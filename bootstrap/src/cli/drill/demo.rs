//! `bootstrap drill demo`: the whole story on one machine, with real processes.

use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Instant;

use bootstrap::drill::demo::{Settings, Told, World};
use clap::Args;
use jiff::Timestamp;
use serde::Serialize;
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
    seconds: f64,
}

impl Report for Demoed {
    const SCHEMA: &'static str = "bootstrap.drill-demo/1";

    fn write_text(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "Everything is in {}; remove it when you have seen it.", self.directory.display())
    }
}

pub(super) fn run(args: &DemoArgs, out: &mut Output, cancel: &Cancel) -> Result<Exit, CliError> {
    let began = Instant::now();
    let directory = args.into.clone().unwrap_or_else(|| {
        let name = format!("bootstrap-demo-{}", Timestamp::now().strftime("%Y%m%dT%H%M%SZ"));
        std::env::temp_dir().join(name)
    });
    let program = std::env::current_exe()?;
    let mut world = World::make(Settings::new(directory.clone(), program), teller(out.is_json()))?;
    cancel.check()?;
    world.next("Node a is brought up from the one string and leads.");
    world.start_ingress()?;
    world.bring_up("a")?;
    world.wait_leads("a")?;
    let inventory = world.inventory()?;
    world.result(&inventory.display().to_string());
    world.prepare("b")?;
    world.prepare("c")?;
    world.next("The drill is gone through: nothing is changed.");
    let inventory = inventory.display().to_string();
    let common = ["--inventory", &inventory, "--runs", "drills", "--target", "b"];
    let dry = world.bootstrap("desk", &[&["drill", "run", "full"][..], &common].concat())?;
    let confirm = dry["id"].as_str().unwrap_or_default().to_owned();
    world.next("The drill is done.");
    let done = world
        .bootstrap("desk", &[&["drill", "run", "full"][..], &common, &["--execute", "--confirm", &confirm]].concat())?;
    world.result(&done["directory"].to_string());
    out.report(&Demoed { directory, seconds: began.elapsed().as_secs_f64() })?;
    Ok(Exit::DONE)
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
