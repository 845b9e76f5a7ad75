//! Killing a command before each system call that changes something on disk, one run each.
//!
//! The tracer is `tests/tools/stop_before.c`; it is built here with `cc`, which building snapkit needs anyhow.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::{Machine, Run};

/// The exit code of a command that was killed.
pub const KILLED: i32 = 128 + 9;

/// The tracer, built once.
fn tracer() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tools/stop_before.c");
        let test = std::env::current_exe().unwrap();
        let binary = test.with_file_name(format!("stop_before-{}", std::process::id()));
        let status = Command::new("cc").arg("-O1").arg("-o").arg(&binary).arg(source).status();
        assert!(status.expect("cc is installed").success());
        binary
    })
}

/// Runs `snapkit` and kills it before its call number `stop`. Gives how it ended and the calls it made.
pub fn stopped(machine: &Machine, args: &[&str], stop: usize) -> (Run, Vec<String>) {
    stopped_command(machine, &machine.command(args), stop)
}

fn stopped_command(machine: &Machine, own: &Command, stop: usize) -> (Run, Vec<String>) {
    let list = machine.path("calls");
    let mut command = Command::new(tracer());
    command
        .arg(stop.to_string())
        .arg(&list)
        .arg(own.get_program())
        .args(own.get_args())
        .current_dir(machine.path(""))
        .env_clear()
        .envs(own.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let run = Run::of(command);
    let calls = fs::read_to_string(&list).unwrap().lines().map(str::to_owned).collect();
    (run, calls)
}

/// Kills `snapkit` as [`every_call_of`] does.
pub fn every_call(machine: &Machine, args: &[&str], prepare: impl Fn(), check: impl FnMut(bool)) {
    every_call_of(machine, &machine.command(args), prepare, check);
}

/// Kills a command before each of its calls, from a machine that `prepare` brings into the same state each time, until
/// it comes to its end; `check` is given whether it did.
pub fn every_call_of(machine: &Machine, command: &Command, prepare: impl Fn(), mut check: impl FnMut(bool)) {
    let mut seen: BTreeMap<String, u64> = BTreeMap::new();
    for stop in 1.. {
        prepare();
        let (run, calls) = stopped_command(machine, command, stop);
        if run.code == KILLED {
            assert_eq!(calls.len(), stop, "killed at the call it should be");
            *seen.entry(calls[stop - 1].clone()).or_default() += 1;
        } else {
            run.expect(0);
        }
        let ended = calls.len() < stop;
        println!("stopped before call {stop}, {}", calls.last().unwrap());
        check(ended);
        if ended {
            break;
        }
    }
    println!("{command:?} was killed before {seen:?}");
    assert!(seen.values().sum::<u64>() > 10, "the command does more than that: {seen:?}");
}
