//! `snapkit tour`: a directory through a chain and back, by the commands a user would type.
//!
//! Every step is this very program, run with keys, caches and configuration of its own, so that
//! what the tour shows is what the commands do.

use std::fs;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use manifests::refusal::exit;
use serde::Serialize;
use serde_json::Value;

use super::exit_code::{CliError, Exit};
use super::output::Report;
use super::session::Session;

/// Take a directory through a temporary store and back, showing each command
///
/// It makes keys and a store, takes a snapshot, verifies it by reading everything back, restores
/// it, and compares the digests of the directory and of what was restored. All it makes lies in
/// one temporary directory, which is removed at the end. Exit code 1 says that the digests differ.
#[derive(Debug, clap::Args)]
pub(super) struct TourArgs {
    /// The directory
    #[arg(default_value = ".")]
    directory: PathBuf,
    /// Work in this new directory and leave it there
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
}

/// What the tour did.
#[derive(Debug, Serialize)]
struct Toured {
    directory: PathBuf,
    kept: Option<PathBuf>,
    steps: Vec<Step>,
    content_digest: Value,
    same_content: bool,
    same_metadata: bool,
}

/// One command and its result.
#[derive(Debug, Serialize)]
struct Step {
    command: String,
    exit_code: u8,
    result: Value,
}

pub(super) fn run(args: &TourArgs, session: &mut Session<'_>) -> Result<Exit, CliError> {
    let directory = fs::canonicalize(&args.directory)
        .map_err(|source| CliError::from(source).context(format!("cannot open {}", args.directory.display())))?;
    // A temporary directory is removed when this function ends, however it does.
    let (place, _temporary) = match &args.keep {
        Some(keep) => {
            make_new(keep)?;
            (fs::canonicalize(keep)?, None)
        }
        None => {
            let temporary = tempfile::Builder::new().prefix("snapkit-tour-").tempdir()?;
            (temporary.path().to_owned(), Some(temporary))
        }
    };
    let mut tour = Tour { session, place, steps: Vec::new() };
    tour.prepare()?;

    let store = tour.path("store")?;
    let restored = tour.path("restored")?;
    let source = text_of(&directory)?;
    tour.step(&["init", &store], &[exit::DONE])?;
    // Files that change or may not be read do not spoil the tour: they are reported.
    let with_problems = [exit::DONE, exit::TORN, exit::INCOMPLETE, exit::DEGRADED];
    tour.step(&["snapshot", "--store", &store, &source], &with_problems)?;
    tour.step(&["verify", "--store", &store, "--data"], &[exit::DONE])?;
    tour.step(&["restore", "--store", &store, "latest", &restored], &with_problems)?;
    let before = tour.digests(&source)?;
    let after = tour.digests(&restored)?;

    let toured = Toured {
        directory,
        kept: args.keep.clone(),
        steps: tour.steps,
        same_content: before.content == after.content,
        same_metadata: before.full == after.full,
        content_digest: after.content,
    };
    let exit = if toured.same_content { Exit::DONE } else { Exit::NO };
    session.out.report(&toured)?;
    Ok(exit)
}

fn make_new(keep: &Path) -> Result<(), CliError> {
    fs::create_dir(keep).map_err(|source| match source.kind() {
        io::ErrorKind::AlreadyExists => {
            CliError::refused(format!("{} already exists", keep.display())).next("name a new directory")
        }
        _ => CliError::from(source).context(format!("cannot create {}", keep.display())),
    })
}

fn text_of(path: &Path) -> Result<String, CliError> {
    match path.to_str() {
        Some(text) => Ok(text.to_owned()),
        None => Err(CliError::usage(format!("{} is not valid UTF-8", path.display()))),
    }
}

struct Tour<'s, 'a> {
    session: &'s mut Session<'a>,
    place: PathBuf,
    steps: Vec<Step>,
}

struct BothDigests {
    content: Value,
    full: Value,
}

impl Tour<'_, '_> {
    /// An empty configuration, so that the user's own has no part in the tour.
    fn prepare(&self) -> Result<(), CliError> {
        fs::write(self.place.join("snapkit.toml"), "")?;
        Ok(())
    }

    fn path(&self, name: &str) -> Result<String, CliError> {
        text_of(&self.place.join(name))
    }

    /// Runs one command, shows it and its result, and keeps both for the JSON form.
    fn step(&mut self, args: &[&str], accepted: &[u8]) -> Result<(), CliError> {
        let json = self.session.out.is_json();
        self.announce(args)?;
        let (code, stdout) = self.run(args, json, accepted)?;
        if json {
            let result = serde_json::from_slice(&stdout)?;
            self.steps.push(Step { command: shown(args), exit_code: code, result });
        } else {
            self.session.out.bytes(&stdout)?;
        }
        Ok(())
    }

    fn digests(&mut self, directory: &str) -> Result<BothDigests, CliError> {
        let args = ["digest", directory];
        self.announce(&args)?;
        let (code, stdout) = self.run(&args, true, &[exit::DONE, exit::TORN, exit::INCOMPLETE])?;
        let result: Value = serde_json::from_slice(&stdout)?;
        let digests = BothDigests { content: result["content_digest"].clone(), full: result["full_digest"].clone() };
        if !self.session.out.is_json() {
            let content = digests.content.as_str().unwrap_or("-");
            let full = digests.full.as_str().unwrap_or("-");
            self.session.out.bytes(format!("content {content}\nfull    {full}\n").as_bytes())?;
        }
        self.steps.push(Step { command: shown(&args), exit_code: code, result });
        Ok(digests)
    }

    fn announce(&mut self, args: &[&str]) -> Result<(), CliError> {
        if !self.session.out.is_json() {
            self.session.out.bytes(format!("\n$ {}\n", shown(args)).as_bytes())?;
        }
        Ok(())
    }

    /// The exit code and the output of one command; its problems and progress go to stderr as ever.
    fn run(&self, args: &[&str], json: bool, accepted: &[u8]) -> Result<(u8, Vec<u8>), CliError> {
        let mut command = Command::new(std::env::current_exe()?);
        // The program may be one that is this command only when it is called by its name.
        command
            .arg0("snapkit")
            .arg("--config")
            .arg(self.place.join("snapkit.toml"))
            .args(json.then_some("--json"))
            .args(args)
            .env_remove("SNAPKIT_STORE")
            .env("SNAPKIT_HOME", self.place.join("home"))
            .env("XDG_CACHE_HOME", self.place.join("cache"))
            .stdin(Stdio::null())
            .stderr(Stdio::inherit());
        let output = command.output()?;
        self.session.cancel.check()?;
        let code = output.status.code().and_then(|code| u8::try_from(code).ok());
        match code {
            Some(code) if accepted.contains(&code) => Ok((code, output.stdout)),
            code => {
                let sentence = format!("`{}` ended with {}", shown(args), output.status);
                let exit = code.map_or(Exit::of_code(exit::COULD_NOT_RUN), Exit::of_code);
                Err(CliError::refused(sentence).with_exit(exit))
            }
        }
    }
}

/// The command as one would type it.
fn shown(args: &[&str]) -> String {
    let plain = |arg: &str| arg.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_./:=".contains(&b));
    let quoted = args.iter().map(|arg| match plain(arg) {
        true => (*arg).to_owned(),
        false => format!("'{}'", arg.replace('\'', r"'\''")),
    });
    format!("snapkit {}", quoted.collect::<Vec<_>>().join(" "))
}

impl Report for Toured {
    const SCHEMA: &'static str = "snapkit.tour/1";

    fn write_text(&self, out: &mut dyn io::Write) -> io::Result<()> {
        let directory = self.directory.display();
        writeln!(out)?;
        match (self.same_content, self.same_metadata) {
            (true, true) => writeln!(out, "{directory} and what was restored are the same.")?,
            (true, false) => writeln!(
                out,
                "{directory} and what was restored have the same content; owners, times or attributes differ."
            )?,
            (false, _) => writeln!(out, "{directory} and what was restored DIFFER.")?,
        }
        match &self.kept {
            Some(kept) => writeln!(out, "Everything is in {}.", kept.display()),
            None => writeln!(out, "Everything the tour made is removed again."),
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn commands_are_shown_so_that_a_shell_reads_them_back() {
        let shown = super::shown(&["restore", "/a b", "it's"]);
        assert_eq!(shown, r"snapkit restore '/a b' 'it'\''s'");
    }
}
