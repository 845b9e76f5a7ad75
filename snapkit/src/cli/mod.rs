//! The command line: one file per subcommand, and what they share.
//!
//! Only this layer and `snapkit::terminal`, which it shares with other binaries, print, handle signals or choose exit
//! codes; only this layer reads the environment. To add a command: a file with `XArgs` and `run(&XArgs, &mut Session)`,
//! a variant in `Command`, a line in its `run`, its reports in `docs/json.md`, and an end-to-end test under
//! `tests/tests/`.

mod break_glass;
mod cat;
mod completions;
mod diff;
mod digest;
mod doctor;
mod explain;
mod find;
mod fork_proof;
mod from;
mod image;
mod init;
mod key;
mod log;
mod ls;
mod man;
mod manifest;
mod opened;
mod pins;
mod receipt;
mod receipt_options;
mod restore;
mod rollback;
mod root;
mod session;
mod show;
mod signer_options;
mod snapshot;
mod store;
mod tour;
mod trust;
mod verify;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue};
use clap::{Args, Parser, Subcommand};

use snapkit::terminal::{self, exit_code, output, progress};

use exit_code::{CliError, Exit};
use output::Output;
use progress::ProgressMode;
use session::Session;

/// Signed snapshot chains of directories, and byte-exact restores
///
/// A first run needs no configuration: `snapkit init DIR-OR-URL` makes a chain, `snapkit snapshot
/// --store DIR-OR-URL DIR` puts a directory under it.
#[derive(Debug, Parser)]
#[command(name = "snapkit", version, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(flatten)]
    global: GlobalArgs,
    #[command(subcommand)]
    command: Command,
}

/// Options that every command accepts.
#[derive(Debug, Args)]
#[command(next_help_heading = "Global options")]
struct GlobalArgs {
    /// The store: a directory or a URL (also SNAPKIT_STORE, or `store` in snapkit.toml)
    #[arg(long, value_name = "DIR-OR-URL", global = true)]
    store: Option<String>,
    /// Another copy of the store to read from when the store lacks an object or gives it wrong; can be repeated (also
    /// `mirrors` in snapkit.toml)
    #[arg(long, value_name = "DIR-OR-URL", global = true)]
    mirror: Vec<String>,
    /// Configuration file (also SNAPKIT_CONFIG; else ./snapkit.toml, /etc/snapkit/snapkit.toml)
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    /// Print the result as one JSON object
    #[arg(long, global = true)]
    json: bool,
    /// Print nothing but the result and problems
    #[arg(long, short, global = true)]
    quiet: bool,
    /// How to show progress on stderr; `auto` is plain lines unless stderr is a terminal
    #[arg(long, value_enum, value_name = "HOW", default_value_t, global = true)]
    progress: ProgressMode,
}

/// What can be done.
#[derive(Debug, Subcommand)]
enum Command {
    Init(init::InitArgs),
    Trust(trust::TrustArgs),
    Root(root::RootArgs),
    Log(log::LogArgs),
    Show(show::ShowArgs),
    Tour(tour::TourArgs),
    Snapshot(snapshot::SnapshotArgs),
    Restore(restore::RestoreArgs),
    Receipt(receipt::ReceiptArgs),
    Rollback(rollback::RollbackArgs),
    Pins(pins::PinsArgs),
    Manifest(manifest::ManifestArgs),
    Verify(verify::VerifyArgs),
    Ls(ls::LsArgs),
    Cat(cat::CatArgs),
    Find(find::FindArgs),
    Digest(digest::DigestArgs),
    Diff(diff::DiffArgs),
    Image(image::ImageArgs),
    Key(key::KeyArgs),
    Store(store::StoreArgs),
    Doctor(doctor::DoctorArgs),
    Completions(completions::CompletionsArgs),
    Man(man::ManArgs),
}

impl Command {
    /// The store that the command itself names; it goes before the one of `--store`.
    fn named_store(&self) -> Option<String> {
        match self {
            Self::Init(args) => args.place().map(str::to_owned),
            Self::Trust(args) => args.place().map(str::to_owned),
            Self::Manifest(args) => args.place(),
            Self::Image(args) => args.place(),
            Self::Verify(args) => args.place(),
            _ => None,
        }
    }

    fn run(&self, session: &mut Session<'_>) -> Result<Exit, CliError> {
        match self {
            Self::Init(args) => init::run(args, session),
            Self::Trust(args) => trust::run(args, session),
            Self::Root(args) => root::run(args, session),
            Self::Log(args) => log::run(args, session),
            Self::Show(args) => show::run(args, session),
            Self::Tour(args) => tour::run(args, session),
            Self::Snapshot(args) => snapshot::run(args, session),
            Self::Restore(args) => restore::run(args, session),
            Self::Receipt(args) => receipt::run(args, session),
            Self::Rollback(args) => rollback::run(args, session),
            Self::Pins(args) => pins::run(args, session),
            Self::Manifest(args) => manifest::run(args, session),
            Self::Verify(args) => verify::run(args, session),
            Self::Ls(args) => ls::run(args, session),
            Self::Cat(args) => cat::run(args, session),
            Self::Find(args) => find::run(args, session),
            Self::Digest(args) => digest::run(args, session),
            Self::Diff(args) => diff::run(args, session),
            Self::Image(args) => image::run(args, session),
            Self::Key(args) => key::run(args, session),
            Self::Store(args) => store::run(args, session),
            Self::Doctor(args) => doctor::run(args, session),
            Self::Completions(args) => completions::run(args, session),
            Self::Man(args) => man::run(args, session),
        }
    }
}

/// Runs the command line of this process and gives its exit code.
///
/// It is here and not in the binary because `bootstrap`, called by the name `snapkit`, is this command too.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        // Help and version come this way too, and end with 0.
        Err(error) => error.exit(),
    };
    terminal::run(Output::new(cli.global.json, cli.global.quiet), |out, cancel| {
        let mut session = Session::open(&cli.global, cli.command.named_store().as_deref(), out, cancel)?;
        cli.command.run(&mut session)
    })
}

/// Why words are no command line.
#[derive(Debug)]
pub struct Misread {
    /// What is wrong, in one line.
    pub what: String,
    /// The value that its option or place does not take, if that is it.
    pub value: Option<String>,
}

impl Misread {
    /// What the parser says, without the usage that follows it; nothing for help and version, which come this way, too.
    pub fn of(error: &clap::Error) -> Option<Misread> {
        let text = error.to_string();
        let said = text.split("\n\n").next().unwrap_or_default().trim_start_matches("error: ");
        let what = said.split_whitespace().collect::<Vec<_>>().join(" ");
        let value = match error.get(ContextKind::InvalidValue) {
            Some(ContextValue::String(value)) => Some(value.clone()),
            _ => None,
        };
        error.use_stderr().then_some(Misread { what, value })
    }
}

/// Whether these words are a command line of `snapkit`; nothing is run.
///
/// # Errors
/// [`Misread`]
pub fn understands(words: &[String]) -> Result<(), Misread> {
    let read = Cli::try_parse_from(std::iter::once("snapkit").chain(words.iter().map(String::as_str)));
    read.err().and_then(|error| Misread::of(&error)).map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use clap::{CommandFactory, Parser};

    #[test]
    fn the_command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }

    #[test]
    fn a_store_named_by_the_command_counts_as_the_named_store() {
        // Otherwise the credentials for it would not be looked up in the environment.
        let named = |args: &[&str]| {
            let cli = super::Cli::try_parse_from(args).unwrap();
            cli.command.named_store()
        };
        let bootstrap = format!("s3://b/p#root=sha256:{}", "0".repeat(64));
        assert_eq!(named(&["snapkit", "init", "s3://b/p"]).as_deref(), Some("s3://b/p"));
        assert_eq!(named(&["snapkit", "trust", "add", &bootstrap]).as_deref(), Some("s3://b/p"));
        assert_eq!(named(&["snapkit", "doctor"]), None);
    }
}
