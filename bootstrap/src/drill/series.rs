//! Series: what a prober or a sentinel saw, line by line as it saw it, and its signature over all of it.
//!
//! The first line says who measured what, each further one is one question, and the last says why it ended; a file without a
//! last line is of a measurer that died. When it ends it signs the digest of the file with a key that it made for this one
//! series and that never leaves it. Format: `docs/drills.md`. Layer: files.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use manifests::digest::Digest;
use manifests::envelope;
use manifests::keys::{SecretKey, Signer};
use serde::Serialize;

use crate::clock::BootTime;
use crate::evidence::series::{Head, Line, PAYLOAD_TYPE, SCHEMA, SIGNED_SCHEMA, Signed, Tail};
pub use crate::evidence::timeline::boot_id;

/// A series with so many lines ends by itself: 28 hours of ten questions in a second.
const LINES_CAP: u64 = 1_000_000;

/// What identifies a series, before it has begun.
#[derive(Debug, Clone)]
pub struct Subject {
    /// `prober` or `sentinel`.
    pub kind: &'static str,
    /// The name of who measures.
    pub prober: String,
    /// What is asked, by the name that people use.
    pub target: String,
    /// The address that is asked.
    pub url: String,
    /// `ingress`, or the name of a node.
    pub of: String,
    /// Time between two questions.
    pub interval_ms: u64,
    /// How long an answer is waited for.
    pub timeout_ms: u64,
    /// The drill.
    pub drill: String,
    /// What the drill was asked to answer.
    pub challenge: String,
}

/// A series that is being written.
pub struct Series {
    path: PathBuf,
    file: File,
    key: SecretKey,
    subject: Subject,
    count: u64,
}

impl Series {
    /// Begins a series in a new file, with a new key.
    ///
    /// # Errors
    /// When the file exists or cannot be written, or no key can be made.
    pub fn begin(path: &Path, subject: Subject) -> io::Result<Self> {
        let mut seed = [0_u8; 32];
        getrandom::fill(&mut seed).map_err(io::Error::other)?;
        let key = SecretKey::from_seed(&seed);
        let head = Head {
            schema: SCHEMA.to_owned(),
            kind: subject.kind.to_owned(),
            prober: subject.prober.clone(),
            target: subject.target.clone(),
            url: subject.url.clone(),
            of: subject.of.clone(),
            interval_ms: subject.interval_ms,
            timeout_ms: subject.timeout_ms,
            boot_id: boot_id()?,
            key: key.public().to_hex(),
            drill: subject.drill.clone(),
            challenge: subject.challenge.clone(),
            started: Timestamp::now(),
        };
        let file = File::options().create_new(true).append(true).open(path)?;
        let mut series = Self { path: path.to_owned(), file, key, subject, count: 0 };
        series.write(&head)?;
        Ok(series)
    }

    /// Adds one line; whether there is room for more.
    ///
    /// # Errors
    /// When it cannot be written: then nothing can be measured any more.
    pub fn add(&mut self, line: &Line) -> io::Result<bool> {
        self.write(line)?;
        self.count += 1;
        Ok(self.count < LINES_CAP)
    }

    /// What is measured.
    pub fn subject(&self) -> &Subject {
        &self.subject
    }

    /// Writes the last line, and the signature beside the file; how many lines there are.
    ///
    /// # Errors
    /// When one of them cannot be written.
    pub fn end(mut self, why: &str) -> io::Result<u64> {
        let tail = Tail { end: true, count: self.count, done_us: now_us(), why: why.to_owned() };
        self.write(&tail)?;
        self.file.sync_all()?;
        let name = self.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let signed = Signed {
            schema: SIGNED_SCHEMA.to_owned(),
            file: name,
            sha256: Digest::sha256(&fs::read(&self.path)?),
            count: self.count,
            drill: self.subject.drill.clone(),
            challenge: self.subject.challenge.clone(),
        };
        let payload = serde_json::to_vec(&signed)?;
        let envelope = envelope::sign(PAYLOAD_TYPE, &payload, &[&self.key]).map_err(io::Error::other)?;
        let beside = signature_of(&self.path);
        let temporary = beside.with_extension("new");
        let mut file = File::create(&temporary)?;
        file.write_all(&envelope)?;
        file.sync_all()?;
        fs::rename(&temporary, &beside)?;
        Ok(self.count)
    }

    /// One write for one line, so that a reader never sees a line of two.
    fn write(&mut self, line: &impl Serialize) -> io::Result<()> {
        let mut bytes = serde_json::to_vec(line)?;
        bytes.push(b'\n');
        self.file.write_all(&bytes)
    }
}

/// Where the signature of a series is.
pub fn signature_of(series: &Path) -> PathBuf {
    series.with_extension("dsse.json")
}

/// The present moment in microseconds since boot.
pub fn now_us() -> u64 {
    us(BootTime::now())
}

/// A moment in microseconds since boot.
pub fn us(moment: BootTime) -> u64 {
    u64::try_from(moment.since_boot().as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evidence::series::{Recovered, Series as Read};

    fn subject() -> Subject {
        Subject {
            kind: "sentinel",
            prober: "sentinel".into(),
            target: "write".into(),
            url: "http://127.0.0.1:1/add".into(),
            of: "ingress".into(),
            interval_ms: 100,
            timeout_ms: 1000,
            drill: "d".into(),
            challenge: "c".into(),
        }
    }

    fn line() -> Line {
        let (node, wall) = ("b".to_owned(), Timestamp::UNIX_EPOCH);
        Line::Recovered(Recovered { recovered: 7, sent_us: 1, done_us: 2, wall, node, instance: None, term: 2 })
    }

    #[test]
    fn a_series_that_ended_is_read_back_with_its_signature() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("sentinel.jsonl");
        let mut series = Series::begin(&path, subject()).unwrap();
        assert!(series.add(&line()).unwrap());
        assert_eq!(series.end("asked").unwrap(), 1);
        let (bytes, signature) = (fs::read(&path).unwrap(), fs::read(signature_of(&path)).unwrap());
        let read = Read::read(&bytes, &signature, "sentinel.jsonl").unwrap();
        assert_eq!((read.lines, read.end.why.as_str()), (vec![line()], "asked"));
        let mut edited = bytes.clone();
        let at = edited.windows(13).position(|window| window == b"\"recovered\":7").unwrap();
        edited[at + 12] = b'8';
        assert!(Read::read(&edited, &signature, "sentinel.jsonl").is_err());
    }

    #[test]
    fn a_series_is_never_written_over_and_one_that_dies_is_not_signed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("sentinel.jsonl");
        let first = Series::begin(&path, subject()).unwrap();
        assert!(Series::begin(&path, subject()).is_err());
        drop(first);
        assert!(!signature_of(&path).exists());
    }
}
