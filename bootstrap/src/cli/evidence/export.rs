//! `bootstrap evidence export`

use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;

use bootstrap::evidence::files::Files;
use bootstrap::evidence::seal::{STATEMENT, TEST_RESULT, tar_of};
use clap::{Args, ValueEnum};
use snapkit::terminal::exit_code::{CliError, Exit};
use snapkit::terminal::output::Output;

use super::problem;

/// Print one part of a bundle, or write it to a file
#[derive(Debug, Args)]
pub(super) struct ExportArgs {
    /// The bundle: a directory or a .tar
    #[arg(value_name = "BUNDLE")]
    bundle: PathBuf,
    /// Which part
    #[arg(long, value_enum, value_name = "FORMAT")]
    format: Format,
    /// A new file; default: standard output
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    /// The result as variables of a shell
    Env,
    /// The result as JUnit XML
    Junit,
    /// The report in Markdown
    Md,
    /// The report as one HTML file
    Html,
    /// The result
    Json,
    /// The signed statement: in-toto, in a DSSE envelope
    Intoto,
    /// The same result as in-toto's test-result, signed
    TestResult,
    /// All of it, as the one tar that these files make
    Tar,
}

pub(super) fn run(args: &ExportArgs, out: &mut Output) -> Result<Exit, CliError> {
    let files = Files::read(&args.bundle).map_err(problem)?;
    let name = match args.format {
        Format::Env => "result.env",
        Format::Junit => "junit.xml",
        Format::Md => "report.md",
        Format::Html => "report.html",
        Format::Json => "result.json",
        Format::Intoto => STATEMENT,
        Format::TestResult => TEST_RESULT,
        Format::Tar => "",
    };
    let bytes = match args.format {
        Format::Tar => {
            let mut bytes = Vec::new();
            tar_of(&files, &mut bytes)?;
            bytes
        }
        _ => match files.get(name) {
            Some(bytes) => bytes.to_vec(),
            None => {
                return Err(CliError::refused(format!("{} has no {name}", args.bundle.display()))
                    .next("it is written when a run is sealed"));
            }
        },
    };
    match &args.output {
        Some(path) => {
            let made = fs::File::create_new(path).and_then(|mut file| file.write_all(&bytes));
            made.map_err(|error| match error.kind() {
                io::ErrorKind::AlreadyExists => CliError::refused(format!("{} is there already", path.display()))
                    .next("name a file that is not, or remove that one"),
                _ => CliError::from(error).context(format!("cannot write {}", path.display())),
            })?;
        }
        None => out.bytes(&bytes)?,
    }
    Ok(Exit::DONE)
}
