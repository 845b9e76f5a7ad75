//! The `snapkit` command: parse, run, exit code.

#![cfg_attr(test, allow(clippy::unwrap_used))]

#[cfg(windows)]
compile_error!("snapkit does not support Windows: it has neither its permissions nor its renames");

mod cli;

fn main() -> std::process::ExitCode {
    cli::main()
}
