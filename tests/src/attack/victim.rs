//! The victim: a machine that pinned a chain, and what must hold whenever it refuses something.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use jiff::Timestamp;
use manifests::refusal::Class;
use serde_json::Value;

use super::Forge;
use super::prebuilt::{self, FROM_MANIFEST, Prebuilt};
use crate::{Machine, Run, clock};

/// Every command that reads a chain, with arguments that succeed on the honest one.
pub struct Everything;

impl Everything {
    /// Commands that read nothing but records.
    pub const RECORDS: &'static [&'static [&'static str]] =
        &[&["log"], &["show", "latest"], &["digest", "latest"], &["verify"], &["verify", "--explain"]];
    /// Commands that read a whole tree.
    pub const TREES: &'static [&'static [&'static str]] = &[
        &["ls", "latest"],
        &["find", "*"],
        &["restore", "latest", "missing"],
        &["restore", "latest", "empty"],
        &["restore", "latest", "missing", "--dry-run"],
    ];
    /// One that reads a file, which has to be named.
    pub const CAT: &'static [&'static str] = &["cat", "latest", "file"];
    /// Those that begin from the bootstrap string, which is added to them.
    pub const FROM: &'static [&'static [&'static str]] = &[&["verify"], &["verify", "--data"]];
}

/// A machine with a pin, whose working directory has an empty directory `empty` and something precious.
pub struct Victim {
    /// The machine.
    pub machine: Machine,
    store: String,
    mirror: Option<String>,
    /// What time it is there; that of the machine of the tests if it is not set.
    now: Option<Timestamp>,
    /// How many bytes a command may read.
    read_cap_bytes: Option<u64>,
    /// Whether each command begins from the bootstrap string and follows a manifest.
    from: bool,
}

/// Files beyond this length are compared without being read.
const LONG_BYTES: u64 = 16 << 20;

/// What is in a directory: for each path its inode, its mode, and its bytes or the target of the link.
type Contents = BTreeMap<PathBuf, (u64, u32, Vec<u8>)>;

impl Victim {
    /// A machine that has pinned the chain of a forge as it is now.
    pub fn of(forge: &Forge) -> Self {
        let victim = Self::without_pin(forge);
        victim.machine.ok(&["trust", "add", &forge.bootstrap]);
        victim
    }

    /// A machine that meets a store that was made before (`prebuilt.rs`): one that saw it in an honest state, if the
    /// case has one, else one that knows the pin alone. Nothing was asked of the hostile store yet.
    pub fn of_prebuilt(attack: &Prebuilt) -> Self {
        let machine = Self::fresh();
        let expected = &attack.expected;
        let bootstrap = format!("{}{}", machine.arg("store"), attack.pin());
        let mirror = attack.has_mirror().then(|| machine.arg("mirror"));
        let mut victim = Self {
            store: bootstrap,
            mirror,
            machine,
            now: Some(expected.now),
            read_cap_bytes: None,
            from: expected.from,
        };
        if attack.was_seen() {
            attack.unpack("before", &victim.machine.path("store"));
            victim.now = expected.before.or(victim.now);
            victim.meets();
            victim.now = Some(expected.now);
            // A head that is cached here would stand in for one that is damaged there; it may be gone at any time. Of a
            // split chain it is the other half of the proof.
            if attack.class() != Some(Class::Fork) {
                fs::remove_dir_all(victim.machine.cache()).unwrap();
            }
        }
        attack.unpack("store", &victim.machine.path("store"));
        if let Some(mirror) = &victim.mirror {
            attack.unpack("mirror", Path::new(mirror));
        }
        victim.read_cap_bytes = Some(expected.read_cap_bytes);
        victim
    }

    /// Sees an honest state for the first time.
    fn meets(&mut self) {
        if self.from {
            self.accepts(&["verify"]);
            return;
        }
        let mut add = self.machine.command(&["trust", "add", &self.store]);
        self.set_clock(&mut add);
        Run::of(add).expect(0);
        self.store = self.machine.arg("store");
    }

    /// Sees the records of the store once, so that no later command has something new to remember.
    pub fn remembers(&self) {
        self.accepts(&["log"]);
    }

    /// The honest state that was seen before comes back, at the time it was seen: all is as it was.
    #[track_caller]
    pub fn recovers(&mut self, attack: &Prebuilt) {
        attack.unpack("before", &self.machine.path("store"));
        self.now = attack.expected.before.or(Some(attack.expected.now));
        if self.from {
            self.accepts(&["verify", "--data"]);
            return;
        }
        assert_eq!(fs::read(self.restores("latest").join("file")).unwrap(), b"honest\n");
        // A root that was kept and that the honest state does not have yet is named by `verify`.
        if attack.roots_kept().is_none() {
            self.verify_is_clean();
        }
    }

    /// The one exception to "a refusal changes nothing": roots that follow from the pin are kept as they are verified.
    /// One command is run and refused; after it no other changes anything.
    #[track_caller]
    pub fn keeps_roots(&self, count: u64, class: Class, object: &str) {
        self.run(&["log"]).expect(class.exit_code().into()).stderr_names(object);
        let trust = self.machine.home().join("trust");
        let kept = contents(&trust).into_keys().filter(|path| path.parent().unwrap().ends_with("root")).count();
        assert_eq!(kept as u64, count, "roots that follow from the pin are kept, and no others");
    }

    /// The other exception: what proves that a chain was split is written down, and anybody can check it. One command is
    /// run and refused; no other writes it again.
    #[track_caller]
    pub fn keeps_proof_of_a_fork(&self, attack: &Prebuilt) {
        self.run(&["log"]).expect(Class::Fork.exit_code().into()).stderr_names(attack.object());
        let forks = walkdir::WalkDir::new(self.machine.home().join("trust")).into_iter().map(|entry| entry.unwrap());
        let is_proof = |path: &PathBuf| path.is_file() && path.parent().unwrap().ends_with("forks");
        let proofs: Vec<PathBuf> = forks.map(walkdir::DirEntry::into_path).filter(is_proof).collect();
        let [proof] = &proofs[..] else { panic!("one proof, not {proofs:?}") };
        let root = format!("sha256:{}", attack.expected.root);
        Machine::new().ok(&["verify", "--fork-proof", proof.to_str().unwrap(), "--root", &root]);
    }

    fn set_clock(&self, command: &mut Command) {
        if let Some(now) = self.now {
            clock::set(command, now);
        }
    }

    fn fresh() -> Machine {
        let machine = Machine::new();
        fs::create_dir(machine.path("empty")).unwrap();
        machine.write("outside/precious", "precious\n");
        machine
    }

    /// A machine that knows nothing of the chain.
    pub fn without_pin(forge: &Forge) -> Self {
        Self {
            machine: Self::fresh(),
            store: forge.machine.arg("store"),
            mirror: None,
            now: None,
            read_cap_bytes: None,
            from: false,
        }
    }

    /// Runs a command on the store, with its answer as JSON.
    pub fn run(&self, command: &[&str]) -> Run {
        let mut args = if self.from { vec!["--json"] } else { vec!["--store", &self.store, "--json"] };
        // Whoever judges a store, or writes to it, looks at that one alone.
        let mirror = self.mirror.as_deref().filter(|_| command[0] != "verify");
        args.extend(mirror.iter().flat_map(|mirror| ["--mirror", mirror]));
        args.extend(command);
        if self.from {
            args.extend(["--from", &self.store, "--manifest", FROM_MANIFEST]);
        }
        let mut command = self.machine.command(&args);
        self.set_clock(&mut command);
        let Some(cap) = self.read_cap_bytes else {
            return Run::of(command);
        };
        let run = Run::measured(command);
        let read = run.read_bytes.expect("the system tells how much was read");
        assert!(read <= cap, "{args:?} read {read} bytes, more than {cap}");
        run
    }

    /// Expects that a command ends well.
    #[track_caller]
    pub fn accepts(&self, command: &[&str]) -> Run {
        self.run(command).expect(0)
    }

    /// Expects that a command refuses with this class, names the object, and leaves everything as it was.
    #[track_caller]
    pub fn refuses(&self, command: &[&str], class: Class, object: &str) {
        let before = self.everything();
        let run = self.run(command).expect(class.exit_code().into());
        let line = run.stderr.lines().find(|line| line.starts_with(r#"{"schema":"snapkit.error/1""#));
        let error: Value = serde_json::from_str(line.expect("an error object on stderr")).unwrap();
        assert_eq!(error["class"], class.name(), "class of {command:?}: {error}");
        assert_eq!(error["exit_code"], class.exit_code(), "{command:?}: {error}");
        assert!(!error["next"].is_null(), "{command:?} says what to do: {error}");
        let text = format!("{} {}", error["error"], error["causes"]);
        assert!(text.contains(object), "{command:?} does not name {object:?}: {error}");
        // Pieces that hash to their names are printed as they come; only the exit code says that they are the file.
        let streams = command[0] == "cat";
        assert!(run.stdout.is_empty() || streams, "{command:?} gave a result: {}", run.text());
        same(&before, &self.everything(), command);
    }

    /// Expects that every command that reads a chain refuses, with or without a memory of it.
    #[track_caller]
    pub fn every_command_refuses(&self, class: Class, object: &str) {
        let all = Everything::RECORDS.iter().chain(Everything::TREES).chain([&Everything::CAT]);
        let from = Everything::FROM.iter();
        for command in all.filter(|_| !self.from).chain(from.filter(|_| self.from)) {
            self.refuses(command, class, object);
        }
    }

    /// Expects that records are read as ever, and that whatever reads the trees refuses.
    #[track_caller]
    pub fn every_tree_command_refuses(&self, class: Class, object: &str) {
        self.records_are_accepted();
        for command in Everything::TREES {
            self.refuses(command, class, object);
        }
        self.verify_finds(class);
    }

    /// Expects that a record is valid by itself: log, show and digest say what it says.
    #[track_caller]
    pub fn records_are_accepted(&self) {
        for command in [&["log"][..], &["show", "latest"], &["digest", "latest"]] {
            self.accepts(command);
        }
    }

    /// Expects that reading everything finds this, and that "newer" alone is never called damage.
    #[track_caller]
    pub fn verify_finds(&self, class: Class) {
        prebuilt::keep(&self.machine, Path::new(&self.store), class);
        let before = self.everything();
        let code = if class == Class::Newer { class.exit_code() } else { 1 };
        let run = self.run(&["verify", "--data"]).expect(code.into());
        let report = run.json("snapkit.verify/1");
        let findings = report["findings"].as_array().unwrap();
        let classes: Vec<&str> = findings.iter().map(|finding| finding["class"].as_str().unwrap()).collect();
        assert!(classes.contains(&class.name()), "verify names {class}: {report}");
        same(&before, &self.everything(), &["verify", "--data"]);
    }

    /// Expects that the whole chain is as it should be, all data read.
    #[track_caller]
    pub fn verify_is_clean(&self) -> Value {
        let report = self.accepts(&["verify", "--data"]).json("snapkit.verify/1");
        assert_eq!(report["findings"], Value::Array(Vec::new()), "{report}");
        report
    }

    /// Restores the newest snapshot and gives the directory.
    #[track_caller]
    pub fn restores(&self, snapshot: &str) -> PathBuf {
        let name = format!("restored-{snapshot}");
        let _ = fs::remove_dir_all(self.machine.path(&name));
        self.accepts(&["restore", snapshot, &name]);
        self.machine.path(name)
    }

    /// The number of the newest snapshot that this machine sees.
    #[track_caller]
    pub fn newest(&self) -> u64 {
        self.accepts(&["show", "latest"]).json("snapkit.show/1")["seq"].as_u64().unwrap()
    }

    fn everything(&self) -> (Contents, Contents) {
        (contents(&self.machine.path("")), contents(&self.machine.home().join("trust")))
    }
}

#[track_caller]
fn same(before: &(Contents, Contents), after: &(Contents, Contents), command: &[&str]) {
    for (what, before, after) in [("target", &before.0, &after.0), ("trust", &before.1, &after.1)] {
        let paths = |all: &Contents| all.keys().map(|path| path.display().to_string()).collect::<Vec<_>>();
        assert_eq!(paths(before), paths(after), "{what}: {command:?} made or removed something");
        for (path, old) in before {
            assert!(*old == after[path], "{what}: {command:?} changed {}", path.display());
        }
    }
}

fn contents(directory: &Path) -> Contents {
    if !directory.exists() {
        return Contents::new();
    }
    walkdir::WalkDir::new(directory)
        .into_iter()
        .map(|entry| {
            let entry = entry.unwrap();
            let metadata = entry.metadata().unwrap();
            let bytes = match entry.file_type() {
                // Of what is too long to be read for every command, the length and the time of the last change.
                kind if kind.is_file() && metadata.len() > LONG_BYTES => {
                    format!("{} {} {}", metadata.len(), metadata.mtime(), metadata.mtime_nsec()).into_bytes()
                }
                kind if kind.is_file() => fs::read(entry.path()).unwrap(),
                kind if kind.is_symlink() => {
                    let target = fs::read_link(entry.path()).unwrap();
                    target.into_os_string().into_encoded_bytes()
                }
                _ => Vec::new(),
            };
            (entry.into_path(), (metadata.ino(), metadata.mode(), bytes))
        })
        .collect()
}
