//! Hooks: programs of the operator on the way up and down, each with a limit, and what became of them.
//!
//! A hook runs in a process group of its own, which is killed as a whole when its time is over, and when it leaves something
//! behind. It gets the environment of the service and nothing else. Documented in `docs/agent.md`, "Hooks".
//! Layer: the edge.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use manifests::digest::Digest;

use super::view::HookView;
use crate::command::{self, Leftovers};
use crate::config::HookConfig;

/// How much of an output is shown, in bytes.
const SHOWN: usize = 500;

/// Runs a hook to its end.
///
/// # Errors
/// Why it failed, in words; what became of it stands in the view either way.
pub fn run(
    name: &str,
    hook: &HookConfig,
    within: Duration,
    environment: &[(String, String)],
    directory: &Path,
) -> (HookView, Result<(), String>) {
    let limit = Duration::from_secs(hook.timeout_seconds).min(within);
    let (started, began) = (Timestamp::now(), Instant::now());
    let mut command = Command::new(&hook.argv[0]);
    command.args(&hook.argv[1..]).env_clear().envs(environment.iter().cloned()).current_dir(directory);
    let (exit, output, result) = match command::run(command, limit, Leftovers::Kill) {
        Ok(ended) => {
            let result = if ended.is_good() { Ok(()) } else { Err(ended.why()) };
            let exit = ended.status.and_then(|status| status.code());
            (exit, format!("{}{}", ended.stdout, ended.stderr), result)
        }
        Err(error) => (None, String::new(), Err(format!("{} cannot be run: {error}", hook.argv[0]))),
    };
    let view = HookView {
        hook: name.to_owned(),
        started,
        took_ms: u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
        exit,
        output_sha256: Digest::sha256(output.as_bytes()).to_string(),
        output_end: end_of(&output),
    };
    (view, result)
}

fn end_of(output: &str) -> String {
    let mut from = output.len().saturating_sub(SHOWN);
    while !output.is_char_boundary(from) {
        from += 1;
    }
    output[from..].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hook(script: &str, timeout_seconds: u64) -> HookConfig {
        HookConfig { argv: vec!["/bin/sh".into(), "-c".into(), script.into()], timeout_seconds }
    }

    fn go(script: &str, within: Duration) -> (HookView, Result<(), String>) {
        let environment =
            [("PATH".to_owned(), "/usr/bin:/bin".to_owned()), ("SNAPKIT_TERM".to_owned(), "7".to_owned())];
        run("drain", &hook(script, 60), within, &environment, Path::new("/"))
    }

    #[test]
    fn what_became_of_it_is_kept() {
        let (view, result) = go("echo term $SNAPKIT_TERM; exit 3", Duration::MAX);
        assert_eq!((view.exit, view.output_end.as_str()), (Some(3), "term 7\n"));
        assert_eq!(view.output_sha256, Digest::sha256(b"term 7\n").to_string());
        assert!(result.unwrap_err().contains('3'));
        assert!(go("exit 0", Duration::MAX).1.is_ok());
    }

    #[test]
    fn it_is_killed_when_the_lease_leaves_no_more_time() {
        let (view, result) = go("sleep 1000", Duration::from_millis(50));
        assert_eq!(view.exit, None);
        assert!(result.unwrap_err().contains("time"));
    }

    #[test]
    fn it_gets_no_environment_but_what_it_is_given() {
        let (view, _) = go("env | cut -d= -f1 | sort | tr '\\n' ' '", Duration::MAX);
        assert!(!view.output_end.contains("HOME") && view.output_end.contains("SNAPKIT_TERM"), "{}", view.output_end);
    }

    #[test]
    fn a_program_that_is_not_there_is_named() {
        let missing = HookConfig { argv: vec!["/no/such/program".into()], timeout_seconds: 1 };
        let (_, result) = run("save", &missing, Duration::MAX, &[], Path::new("/"));
        assert!(result.unwrap_err().contains("/no/such/program"));
    }
}
