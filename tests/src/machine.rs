//! A machine: an isolated home in which the real binary runs, and what a run gave.

use std::ffi::OsStr;
use std::fs;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::process::CommandExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::binary;

/// A user of the system without any rights of its own.
const NOBODY: u32 = 65534;

/// One isolated place to run `snapkit` in. Everything in it is removed when it is dropped.
#[derive(Debug)]
pub struct Machine {
    directory: TempDir,
    variables: Vec<(String, String)>,
}

/// What one run of the command gave.
#[derive(Debug)]
pub struct Run {
    /// The exit code; 128 plus the number of the signal that killed it.
    pub code: i32,
    /// Standard output as bytes.
    pub stdout: Vec<u8>,
    /// Standard error as text.
    pub stderr: String,
    /// Bytes that the process read from files and sockets, where that was measured.
    pub read_bytes: Option<u64>,
    command: String,
}

impl Machine {
    /// A machine where snapkit never ran.
    pub fn new() -> Self {
        Self::below(&std::env::temp_dir())
    }

    /// The same, with its files in memory where there is room for so many bytes: a disk's file system looks long for the
    /// number of a new file when tens of thousands were just removed, over and over.
    pub fn in_memory(bytes: u64) -> Self {
        let memory = Path::new("/dev/shm");
        let has_room = rustix::fs::statvfs(memory).is_ok_and(|there| there.f_bavail * there.f_frsize >= bytes);
        if has_room { Self::below(memory) } else { Self::new() }
    }

    fn below(place: &Path) -> Self {
        let directory = tempfile::Builder::new().prefix("snapkit-test-").tempdir_in(place).unwrap();
        for name in ["home", "work"] {
            fs::create_dir(directory.path().join(name)).unwrap();
        }
        Self { directory, variables: Vec::new() }
    }

    /// The same, with more in the environment of everything that is run there.
    pub fn with(variables: Vec<(String, String)>) -> Self {
        Self { variables, ..Self::new() }
    }

    /// Sets a variable for everything that is run there from now on.
    pub fn set(&mut self, name: &str, value: &str) {
        self.variables.push((name.to_owned(), value.to_owned()));
    }

    /// A path in the working directory, where relative arguments of runs lead.
    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.directory.path().join("work").join(name)
    }

    /// The same path as text, for arguments.
    pub fn arg(&self, name: &str) -> String {
        self.path(name).into_os_string().into_string().unwrap()
    }

    /// The directory of keys and trust.
    pub fn home(&self) -> PathBuf {
        self.directory.path().join("home/snapkit")
    }

    /// The directory of caches.
    pub fn cache(&self) -> PathBuf {
        self.directory.path().join("home/cache")
    }

    /// Writes a small file below the working directory, with its directories.
    pub fn write(&self, name: &str, contents: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, contents).unwrap();
        path
    }

    /// The command, ready to run here with nothing in its environment but what every login has
    /// and what the machine was made with.
    pub fn command<S: AsRef<OsStr>>(&self, args: &[S]) -> Command {
        self.command_of(binary::snapkit(), args)
    }

    /// As [`Self::command`], of another binary.
    fn command_of<S: AsRef<OsStr>>(&self, binary: &Path, args: &[S]) -> Command {
        let mut command = Command::new(binary);
        command
            .args(args)
            .current_dir(self.path(""))
            .stdin(Stdio::null())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.directory.path().join("home"))
            .env("SNAPKIT_HOME", self.home())
            .env("XDG_CACHE_HOME", self.cache())
            .envs(self.variables.iter().map(|(name, value)| (name, value)));
        command
    }

    /// The `bootstrap` command, ready to run here.
    pub fn bootstrap_command<S: AsRef<OsStr>>(&self, args: &[S]) -> Command {
        self.command_of(binary::bootstrap(), args)
    }

    /// Runs `bootstrap` to its end.
    pub fn bootstrap<S: AsRef<OsStr>>(&self, args: &[S]) -> Run {
        Run::of(self.bootstrap_command(args))
    }

    /// Runs the command to its end.
    pub fn run<S: AsRef<OsStr>>(&self, args: &[S]) -> Run {
        Run::of(self.command(args))
    }

    /// Runs the command and expects it to end well.
    #[track_caller]
    pub fn ok<S: AsRef<OsStr>>(&self, args: &[S]) -> Run {
        self.run(args).expect(0)
    }

    /// Runs the command as a user whom file permissions bind, which they do not bind root to.
    ///
    /// The home and the working directory are given to that user first.
    pub fn run_as_nobody<S: AsRef<OsStr>>(&self, args: &[S]) -> Run {
        if !crate::is_root() {
            return self.run(args);
        }
        // The target directory may lie where that user cannot go.
        let binary = self.directory.path().join("snapkit");
        // Not by this process: what another thread starts meanwhile would hold it open for writing until its own exec.
        assert!(Command::new("cp").arg(binary::snapkit()).arg(&binary).status().unwrap().success());
        for entry in walkdir::WalkDir::new(self.directory.path()) {
            let path = entry.unwrap().into_path();
            std::os::unix::fs::lchown(path, Some(NOBODY), Some(NOBODY)).unwrap();
        }
        let own = self.command(args);
        let mut command = Command::new(binary);
        command
            .args(own.get_args())
            .current_dir(self.path(""))
            .stdin(Stdio::null())
            .env_clear()
            .envs(own.get_envs().filter_map(|(name, value)| Some((name, value?))))
            .uid(NOBODY)
            .gid(NOBODY);
        Run::of(command)
    }
}

impl Default for Machine {
    fn default() -> Self {
        Self::new()
    }
}

impl Run {
    /// Runs a prepared command to its end.
    pub fn of(mut command: Command) -> Self {
        let output = command.output().expect("the binary starts");
        Self::from_output(format!("{command:?}"), output)
    }

    /// As [`Run::of`], counting the bytes that the process reads, which the system tells of one that ended.
    pub fn measured(mut command: Command) -> Self {
        use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};
        let shown = format!("{command:?}");
        // A pipe that nobody empties meanwhile would stop a process that has much to say.
        let (mut stdout, mut stderr) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
        command.stdout(stdout.try_clone().unwrap()).stderr(stderr.try_clone().unwrap());
        let mut child = command.spawn().expect("the binary starts");
        let pid = Pid::from_child(&child);
        waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT).unwrap();
        let io = fs::read_to_string(format!("/proc/{}/io", child.id())).unwrap_or_default();
        let read = io.lines().find_map(|line| line.strip_prefix("rchar: ")).and_then(|bytes| bytes.parse().ok());
        let status = child.wait().unwrap();
        let mut texts = [Vec::new(), Vec::new()];
        for (file, text) in [&mut stdout, &mut stderr].into_iter().zip(&mut texts) {
            file.seek(SeekFrom::Start(0)).unwrap();
            file.read_to_end(text).unwrap();
        }
        let [stdout, stderr] = texts;
        Self { read_bytes: read, ..Self::from_output(shown, Output { status, stdout, stderr }) }
    }

    /// Takes the output of a command that ended.
    pub fn from_output(command: String, output: Output) -> Self {
        let status = output.status;
        Self {
            code: status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)),
            stdout: output.stdout,
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            read_bytes: None,
            command,
        }
    }

    /// Expects this exit code.
    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(
            self.code,
            code,
            "exit code of {}\nstdout: {}\nstderr: {}",
            self.command,
            String::from_utf8_lossy(&self.stdout),
            self.stderr
        );
        self
    }

    /// Standard output as text.
    #[track_caller]
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.stdout).expect("the output is UTF-8")
    }

    /// Standard output as one JSON object of this schema.
    #[track_caller]
    pub fn json(&self, schema: &str) -> Value {
        let text = self.text();
        assert!(
            text.starts_with(&format!("{{\"schema\":\"{schema}\"")),
            "{} does not begin with schema {schema}: {text}",
            self.command
        );
        serde_json::from_str(text).expect("the output is one JSON value")
    }

    /// Expects that stderr names this.
    #[track_caller]
    pub fn stderr_names(self, part: &str) -> Self {
        assert!(self.stderr.contains(part), "stderr of {} does not name {part:?}: {}", self.command, self.stderr);
        self
    }
}
