//! The timeline: one event per line, each with the hash of the line before, so that none can be taken out or changed.
//!
//! A line is on the disk before [`Timeline::add`] returns: whoever is killed and goes on knows what had begun. Times are of
//! the clock that runs since boot; the wall clock stands beside it for people. Documented in `docs/format/bundle.md`.
//! Layer: the edge of the run directory; [`read`] is pure.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use manifests::digest::Digest;
use manifests::json;
use manifests::refusal::{Class, Refusal};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::event::{Actor, What};
use crate::clock::BootTime;

/// The name of the file.
pub const FILE: &str = "timeline.jsonl";
/// The longest line in bytes.
pub const LINE_CAP: usize = 64 * 1024;
/// The largest timeline in bytes.
pub const CAP: usize = 64 * 1024 * 1024;
/// What stands in `prev` of the first line.
pub const START: Digest = Digest([0; 32]);

/// One line.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// Counts from 0.
    pub i: u64,
    /// SHA-256 of the line before, without its end of line; zeroes in the first.
    pub prev: Digest,
    /// Nicroseconds since boot, of the machine that wrote the line.
    pub mono_us: u64,
    /// The boot that they count from.
    pub boot_id: String,
    /// The wall clock.
    pub wall: Timestamp,
    /// Where the line was written: the name of the node or machine.
    pub node: String,
    /// Who acted.
    pub actor: Actor,
    /// The step that it belongs to.
    pub step: Option<String>,
    /// What happened.
    pub what: What,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    i: u64,
    prev: Digest,
    mono_us: u64,
    boot_id: String,
    wall: Timestamp,
    node: String,
    actor: Actor,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    step: Option<String>,
    kind: String,
    data: Value,
}

impl Event {
    fn to_line(&self) -> Vec<u8> {
        let mut what = serde_json::to_value(&self.what).expect("an event always encodes");
        let wire = Wire {
            i: self.i,
            prev: self.prev,
            mono_us: self.mono_us,
            boot_id: self.boot_id.clone(),
            wall: self.wall,
            node: self.node.clone(),
            actor: self.actor,
            step: self.step.clone(),
            kind: what["kind"].as_str().unwrap_or_default().to_owned(),
            data: what["data"].take(),
        };
        serde_json::to_vec(&wire).expect("an event always encodes")
    }

    fn of_line(line: &[u8], object: &str) -> Result<Event, Refusal> {
        let Wire { i, prev, mono_us, boot_id, wall, node, actor, step, kind, data } = strict(line, LINE_CAP, object)?;
        let what = serde_json::from_value(serde_json::json!({ "kind": kind, "data": data }))
            .map_err(|error| Refusal::new(Class::Json, object, "an event of a known kind", error))?;
        Ok(Event { i, prev, mono_us, boot_id, wall, node, actor, step, what })
    }
}

/// Reads a whole timeline and checks its chain; `file` names it in refusals.
///
/// # Errors
/// [`Class::Json`] for a line that is no event, [`Class::Hash`] where `prev` is not the hash of the line before,
/// [`Class::Seq`] where the numbers do not count up, [`Class::Inconsistent`] where times go back or the boot changes without
/// `resume`, [`Class::TooBig`].
pub fn read(bytes: &[u8], file: &str) -> Result<Vec<Event>, Refusal> {
    if bytes.len() > CAP {
        return Err(Refusal::new(Class::TooBig, file, format!("at most {CAP} bytes"), bytes.len()));
    }
    let mut events = Vec::new();
    let mut prev = START;
    for (at, line) in lines(bytes, file)?.into_iter().enumerate() {
        let object = format!("{file} line {}", at + 1);
        let event = Event::of_line(line, &object)?;
        if event.i != at as u64 {
            return Err(Refusal::new(Class::Seq, object, format!("event {at}"), format!("event {}", event.i)));
        }
        if event.prev != prev {
            return Err(Refusal::new(Class::Hash, object, format!("`prev` {prev}"), event.prev)
                .with_hint("the timeline was edited; get an unchanged copy of it"));
        }
        check_time(events.last(), &event, &object)?;
        prev = Digest::sha256(line);
        events.push(event);
    }
    Ok(events)
}

/// Times of one boot do not go back, and another boot begins with whoever went on.
fn check_time(before: Option<&Event>, event: &Event, object: &str) -> Result<(), Refusal> {
    match before {
        Some(before) if before.boot_id != event.boot_id && !matches!(event.what, What::Resume { .. }) => {
            let expected = "`resume` as the first event of another boot";
            Err(Refusal::new(Class::Inconsistent, object, expected, "another event"))
        }
        Some(before) if before.boot_id == event.boot_id && event.mono_us < before.mono_us => {
            let expected = format!("`mono_us` from {} on", before.mono_us);
            Err(Refusal::new(Class::Inconsistent, object, expected, event.mono_us))
        }
        _ => Ok(()),
    }
}

/// Reads strict JSON: what parsers disagree on is refused before anything of it has a meaning.
pub(super) fn strict<T: DeserializeOwned>(bytes: &[u8], cap: usize, object: &str) -> Result<T, Refusal> {
    json::Tree::read(bytes, cap, object)?;
    fields(bytes, object)
}

/// Reads the fields of JSON that was found to be strict.
pub(super) fn fields<T: DeserializeOwned>(bytes: &[u8], object: &str) -> Result<T, Refusal> {
    serde_json::from_slice(bytes)
        .map_err(|error| Refusal::new(Class::Json, object, "the fields its format names", error))
}

/// The lines of a file, each of which ends with an end of line.
pub(super) fn lines<'b>(bytes: &'b [u8], file: &str) -> Result<Vec<&'b [u8]>, Refusal> {
    let Some(body) = bytes.strip_suffix(b"\n") else {
        return Err(Refusal::new(Class::Json, file, "lines, the last with an end of line", "none, or a torn one"));
    };
    Ok(body.split(|byte| *byte == b'\n').collect())
}

/// A timeline that is being written.
#[derive(Debug)]
pub struct Timeline {
    path: PathBuf,
    file: File,
    bytes: u64,
    next: u64,
    prev: Digest,
    node: String,
    boot_id: String,
}

impl Timeline {
    /// Begins the timeline of the run in `directory`; `node` names the machine that writes it.
    ///
    /// # Errors
    /// When one is there already, or cannot be made.
    pub fn create(directory: &Path, node: &str) -> io::Result<Timeline> {
        let path = directory.join(FILE);
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        File::open(directory)?.sync_all()?;
        Ok(Timeline { path, file, bytes: 0, next: 0, prev: START, node: node.to_owned(), boot_id: boot_id()? })
    }

    /// Goes on with the timeline of the run in `directory`: what it holds, and the writer. A line that was not written to
    /// its end is cut off, and the event that says so is added.
    ///
    /// # Errors
    /// When there is none, or what [`read`] refuses. One that has an end is not gone on with: what is sealed stays as it is.
    pub fn resume(directory: &Path, node: &str) -> io::Result<(Vec<Event>, Timeline)> {
        let path = directory.join(FILE);
        let mut file = OpenOptions::new().read(true).write(true).open(&path)?;
        let mut bytes = Vec::new();
        (&mut file).take(CAP as u64 + 1).read_to_end(&mut bytes)?;
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let torn_bytes = (bytes.len() - whole) as u64;
        bytes.truncate(whole);
        let events = match whole {
            0 => Vec::new(),
            _ => read(&bytes, FILE).map_err(io::Error::other)?,
        };
        if events.iter().any(|event| matches!(event.what, What::End { .. })) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the run has an end, and nothing is added to it"));
        }
        file.set_len(whole as u64)?;
        file.seek(SeekFrom::End(0))?;
        let last = bytes.strip_suffix(b"\n").and_then(|body| body.rsplit(|byte| *byte == b'\n').next());
        let mut timeline = Timeline {
            path,
            file,
            bytes: whole as u64,
            next: events.len() as u64,
            prev: last.map_or(START, Digest::sha256),
            node: node.to_owned(),
            boot_id: boot_id()?,
        };
        if whole > 0 {
            timeline.add(Actor::Tool, None, What::Resume { torn_bytes })?;
        }
        Ok((events, timeline))
    }

    /// Adds an event; it is on the disk when this returns.
    ///
    /// # Errors
    /// When it is not known to be.
    pub fn add(&mut self, actor: Actor, step: Option<&str>, what: What) -> io::Result<Event> {
        let event = Event {
            i: self.next,
            prev: self.prev,
            mono_us: mono_us(),
            boot_id: self.boot_id.clone(),
            wall: Timestamp::now(),
            node: self.node.clone(),
            actor,
            step: step.map(str::to_owned),
            what,
        };
        let mut line = event.to_line();
        if line.len() > LINE_CAP {
            return Err(io::Error::other(format!("an event of more than {LINE_CAP} bytes")));
        }
        let prev = Digest::sha256(&line);
        line.push(b'\n');
        if let Err(error) = self.file.write_all(&line).and_then(|()| self.file.sync_data()) {
            // What was written of it would spoil the next line. If this fails too, reading refuses the torn line.
            let _ = self.file.set_len(self.bytes).and_then(|()| self.file.seek(SeekFrom::Start(self.bytes)).map(drop));
            return Err(error);
        }
        self.bytes += line.len() as u64;
        self.prev = prev;
        self.next += 1;
        Ok(event)
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Nicroseconds since the boot of this machine.
pub fn mono_us() -> u64 {
    u64::try_from(BootTime::now().since_boot().as_micros()).unwrap_or(u64::MAX)
}

/// By which one boot of this machine is told from another.
///
/// # Errors
/// When `/proc` cannot be read.
pub fn boot_id() -> io::Result<String> {
    Ok(std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

#[cfg(test)]
mod tests;
