//! The `snapkit` command: parse, run, exit code.

fn main() -> std::process::ExitCode {
    snapkit::cli::main()
}
