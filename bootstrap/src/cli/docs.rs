//! `bootstrap docs`: whether the commands that pages show are commands.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use bootstrap::pages::{self, Command as Shown};
use clap::{Args, Parser, Subcommand};
use manifests::refusal::exit;
use serde::Serialize;
use snapkit::cli::Misread;
use snapkit::terminal::exit_code::{CliError, Exit};
use snapkit::terminal::output::{Output, Report};

use super::{Cli, bring_up, misspelt};

/// The largest page that is read, in bytes.
const PAGE_CAP: u64 = 16 << 20;

/// Hold pages with commands, such as runbooks, against this program
#[derive(Debug, Args)]
pub(super) struct DocsCommand {
    #[command(subcommand)]
    command: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Check that every command of snapkit and bootstrap in the fenced blocks of Markdown pages can be understood
    ///
    /// Blocks called sh, bash, shell and console count. Commands, options and values are read as they would be if they were
    /// run; nothing is run. Exit code 1 if one cannot be understood, 5 if no page has any.
    Check(CheckArgs),
}

#[derive(Debug, Args)]
struct CheckArgs {
    /// Markdown files, and directories that are searched for files that end with .md
    #[arg(required = true, value_name = "PAGE")]
    pages: Vec<PathBuf>,
}

pub(super) fn run(args: &DocsCommand, out: &mut Output) -> Result<Exit, CliError> {
    let Verb::Check(args) = &args.command;
    let mut pages = Vec::new();
    for path in &args.pages {
        find(path, true, &mut pages).map_err(|error| unread(error, path))?;
    }
    let mut checked = Checked { pages: pages.len(), blocks: 0, commands: 0, problems: Vec::new() };
    for page in &pages {
        let text = read(page).map_err(|error| unread(error, page))?;
        checked.page(page, &text);
    }
    out.report(&checked)?;
    Ok(match (checked.problems.is_empty(), checked.commands) {
        (false, _) => Exit::NO,
        (true, 0) => Exit::of_code(exit::COULD_NOT_RUN),
        _ => Exit::DONE,
    })
}

fn unread(error: io::Error, path: &Path) -> CliError {
    let is_missing = error.kind() == io::ErrorKind::NotFound;
    let error = CliError::from(error).context(format!("cannot read {}", path.display()));
    match is_missing {
        true => error.next("name Markdown files that are there, or directories with some"),
        false => error,
    }
}

fn find(path: &Path, is_named: bool, pages: &mut Vec<PathBuf>) -> io::Result<()> {
    if !fs::metadata(path)?.is_dir() {
        if is_named || path.extension().is_some_and(|ending| ending == "md") {
            pages.push(path.to_owned());
        }
        return Ok(());
    }
    let mut inside: Vec<PathBuf> = fs::read_dir(path)?.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>()?;
    inside.sort();
    // Links to directories are left alone: they may lead in a circle.
    inside.retain(|path| fs::symlink_metadata(path).is_ok_and(|meta| !meta.is_symlink() || !path.is_dir()));
    inside.iter().try_for_each(|path| find(path, false, pages))
}

fn read(page: &Path) -> io::Result<String> {
    if fs::metadata(page)?.len() > PAGE_CAP {
        return Err(io::Error::other("more than 16 MiB"));
    }
    fs::read_to_string(page)
}

#[derive(Debug, Serialize)]
struct Checked {
    pages: usize,
    blocks: usize,
    commands: usize,
    problems: Vec<Problem>,
}

#[derive(Debug, Serialize)]
struct Problem {
    page: String,
    line: usize,
    command: Option<String>,
    what: String,
}

impl Checked {
    fn page(&mut self, page: &Path, text: &str) {
        let page = page.display().to_string();
        for block in pages::blocks(text) {
            self.blocks += 1;
            match block.commands() {
                Err(problem) => {
                    self.problems.push(Problem {
                        page: page.clone(),
                        line: problem.line,
                        command: None,
                        what: problem.what,
                    });
                }
                Ok(commands) => commands.iter().for_each(|command| self.command(&page, command)),
            }
        }
    }

    fn command(&mut self, page: &str, command: &Shown) {
        let Some((program, words)) = ours(&command.words) else { return };
        self.commands += 1;
        let understands = if program == "snapkit" { snapkit::cli::understands } else { understands };
        if let Err(misread) = filled_in(words.to_vec(), understands) {
            let (command_line, what) = (Some(command.words.join(" ")), misread.what);
            self.problems.push(Problem { page: page.to_owned(), line: command.line, command: command_line, what });
        }
    }
}

/// The program of ours that a command runs, and its words, also behind what only prepares it and behind `cargo run`.
fn ours(words: &[String]) -> Option<(&'static str, &[String])> {
    let program = |word: &String| match Path::new(word).file_name()?.to_str()? {
        "snapkit" => Some("snapkit"),
        "bootstrap" => Some("bootstrap"),
        _ => None,
    };
    let first =
        words.iter().position(|word| !matches!(word.as_str(), "sudo" | "exec" | "time" | "nohup" | "command"))?;
    let words = &words[first..];
    if words.first().is_some_and(|word| word == "cargo") {
        let name = words.iter().position(|word| word == "--bin").and_then(|at| words.get(at + 1))?;
        let behind = words.iter().position(|word| word == "--")?;
        return Some((program(name)?, &words[behind + 1..]));
    }
    // `sudo -u app`, `env A=1`: at most a few words before the command.
    let prepares =
        first > 0 || words.first().is_some_and(|word| matches!(word.as_str(), "env" | "nice" | "timeout" | "ssh"));
    let at = if prepares { words.iter().take(5).position(|word| program(word).is_some())? } else { 0 };
    Some((program(words.get(at)?)?, &words[at + 1..]))
}

/// What may stand where a page leaves something to its reader.
const SAMPLES: [&str; 5] = [
    "https://store.example/app#root=sha256:0000000000000000000000000000000000000000000000000000000000000000",
    "1",
    "1h",
    "2026-01-01T00:00:00Z",
    "sample",
];

/// Whether a page leaves this to its reader: `STRING`, `REPLACE_ME`, `$NAME`, `sha256:…`.
fn is_left_open(word: &str) -> bool {
    word.contains('…')
        || word.contains('$')
        || word.contains("REPLACE_ME")
        || word.bytes().all(|b| b.is_ascii_uppercase() || b"_-".contains(&b))
}

/// Whether the words are understood once what they leave open is filled in with something that fits.
fn filled_in(mut words: Vec<String>, understands: fn(&[String]) -> Result<(), Misread>) -> Result<(), Misread> {
    loop {
        let Err(misread) = understands(&words) else { return Ok(()) };
        let open = misread.value.as_deref().filter(|value| is_left_open(value));
        let Some(at) = open.and_then(|value| words.iter().position(|word| word.ends_with(value))) else {
            return Err(misread);
        };
        let named = words[at].strip_suffix(open.unwrap_or_default()).unwrap_or_default().to_owned();
        let fits = SAMPLES.into_iter().find(|sample| {
            words[at] = format!("{named}{sample}");
            understands(&words).err().is_none_or(|next| next.value.as_deref() != Some(*sample))
        });
        if fits.is_none() {
            return Err(misread);
        }
    }
}

/// Whether `bootstrap` understands these words.
fn understands(words: &[String]) -> Result<(), Misread> {
    let all = std::iter::once("bootstrap".into()).chain(words.iter().map(Into::into));
    let no = |what: String| Err(Misread { what, value: None });
    match Cli::try_parse_from(bring_up::words(all)) {
        Ok(cli) => cli.asked().map(drop).or_else(|error| no(error.to_string())),
        Err(error) => match (Misread::of(&error), misspelt(words.iter().map(Into::into))) {
            (Some(_), Some(word)) => no(format!("there is no command `{word}`")),
            (misread, _) => misread.map_or(Ok(()), Err),
        },
    }
}

impl Report for Checked {
    const SCHEMA: &'static str = "bootstrap.docs-check/1";

    fn write_text(&self, out: &mut dyn Write) -> io::Result<()> {
        for Problem { page, line, command, what } in &self.problems {
            let command = command.as_ref().map_or_else(String::new, |command| format!("`{command}`: "));
            writeln!(out, "{page}:{line}: {command}{what}")?;
        }
        let all = format!("{} commands in {} blocks of {} pages", self.commands, self.blocks, self.pages);
        match (self.problems.len(), self.commands) {
            (0, 0) => writeln!(out, "no command of snapkit or bootstrap in {} pages: nothing was checked", self.pages),
            (0, _) => writeln!(out, "{all}: all are understood"),
            (wrong, _) => writeln!(out, "{all}: {wrong} are wrong"),
        }
    }
}
