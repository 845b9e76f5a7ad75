//! `bootstrap guard`: the process that holds a service for an agent. Not for people, and not in the help.

use std::ffi::OsString;
use std::io;
use std::process::ExitCode;

use bootstrap::driver::guard;
use clap::Args;

/// Hold a service for an agent, which gives its orders through standard input
#[derive(Debug, Args)]
pub(super) struct GuardArgs {
    /// Become the program, as a child of the guard with this process id
    #[arg(long, value_name = "PID", requires = "argv")]
    enter: Option<i32>,
    /// Whose ids the program gets
    #[arg(long, value_name = "NAME", requires = "enter")]
    user: Option<String>,
    /// The program and its arguments
    #[arg(last = true, value_name = "ARGV")]
    argv: Vec<OsString>,
}

/// The exit code of a shell for a program that cannot be run, which the guard does not need: it is told why.
const NOT_RUN: u8 = 126;

pub(super) fn run(args: &GuardArgs) -> ExitCode {
    match args.enter {
        Some(guard) => {
            guard::enter(guard, args.user.as_deref(), &args.argv);
            ExitCode::from(NOT_RUN)
        }
        None => match guard::run(io::stdin(), io::stdout()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("bootstrap guard: {error}");
                ExitCode::FAILURE
            }
        },
    }
}
