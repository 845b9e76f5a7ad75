//! The `bootstrap` command: parse, run, exit code.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod cli;

fn main() -> std::process::ExitCode {
    // One file is enough for a machine: called by the name of the engine's command, it is that.
    let name = std::env::args_os().next().map(std::path::PathBuf::from);
    if name.as_deref().and_then(std::path::Path::file_name).is_some_and(|name| name == "snapkit") {
        return snapkit::cli::main();
    }
    cli::main()
}
