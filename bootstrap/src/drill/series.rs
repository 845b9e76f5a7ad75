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
use serde::{Deserialize, Serialize};

use crate::clock::BootTime;

/// The form of a series.
pub const SCHEMA: &str = "bootstrap.series/1";
/// The payload type of its signature.
pub const SIGNED_TYPE: &str = "application/vnd.snapkit.series+json";
/// The form of what is signed.
pub const SIGNED_SCHEMA: &str = "bootstrap.series-end/1";
/// A series with so many lines ends by itself: 28 hours of ten questions in a second.
const LINES_CAP: u64 = 1_000_000;

/// The first line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// [`SCHEMA`].
    pub schema: String,
    /// `prober` or `sentinel`.
    pub kind: String,
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
    /// The boot in which the times of the series count.
    pub boot_id: String,
    /// The public key of who measures, in hex.
    pub key: String,
    /// The drill.
    pub drill: String,
    /// What the drill was asked to answer.
    pub challenge: String,
    /// When it began, by the wall clock.
    pub started: Timestamp,
}

/// One question of a prober.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// Its number, from 0.
    pub i: u64,
    /// When it was sent, in nanoseconds since boot.
    pub sent_ns: u64,
    /// When it was answered or given up.
    pub done_ns: u64,
    /// When it was sent, by the wall clock.
    pub wall: Timestamp,
    /// Whether a node answered that it serves.
    pub ok: bool,
    /// The status.
    pub status: Option<u16>,
    /// The node that answered, as it says itself.
    pub node: Option<String>,
    /// Its run.
    pub instance: Option<String>,
    /// Its term.
    pub term: Option<u64>,
    /// The counter of the application.
    pub n: Option<u64>,
    /// Why it is no answer.
    pub error: Option<String>,
}

/// One line of a sentinel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Written {
    /// The application acknowledged a write: its number is `n`.
    Acknowledged {
        /// The number that the application gave it.
        n: u64,
        /// When it was sent, in nanoseconds since boot.
        sent_ns: u64,
        /// When it was acknowledged.
        done_ns: u64,
        /// When it was sent, by the wall clock.
        wall: Timestamp,
        /// The node that acknowledged it.
        node: String,
        /// Its run.
        instance: Option<String>,
        /// Its term.
        term: u64,
    },
    /// After a change of the term: the last number that the application still knows.
    Recovered {
        /// That number.
        recovered: u64,
        /// When it was asked for, in nanoseconds since boot.
        sent_ns: u64,
        /// When it was answered.
        done_ns: u64,
        /// When it was asked for, by the wall clock.
        wall: Timestamp,
        /// The node that answered.
        node: String,
        /// Its run.
        instance: Option<String>,
        /// Its term.
        term: u64,
    },
    /// It was not acknowledged; whether it was done is not known.
    Refused {
        /// Why.
        error: String,
        /// When it was sent, in nanoseconds since boot.
        sent_ns: u64,
        /// When it was given up.
        done_ns: u64,
        /// When it was sent, by the wall clock.
        wall: Timestamp,
    },
}

/// The last line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tail {
    /// Always true.
    pub end: bool,
    /// Lines between the first and this one.
    pub count: u64,
    /// When it ended, in nanoseconds since boot.
    pub done_ns: u64,
    /// Why.
    pub why: String,
}

/// What is signed when a series has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signed {
    /// [`SIGNED_SCHEMA`].
    pub schema: String,
    /// The name of the file.
    pub file: String,
    /// The digest of all its bytes.
    pub sha256: Digest,
    /// Lines between the first and the last.
    pub count: u64,
    /// The drill.
    pub drill: String,
    /// What the drill was asked to answer.
    pub challenge: String,
}

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
    pub fn add(&mut self, line: &impl Serialize) -> io::Result<bool> {
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
        let tail = Tail { end: true, count: self.count, done_ns: now_ns(), why: why.to_owned() };
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
        let envelope = envelope::sign(SIGNED_TYPE, &payload, &[&self.key]).map_err(io::Error::other)?;
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

/// The present moment in nanoseconds since boot.
pub fn now_ns() -> u64 {
    ns(BootTime::now())
}

/// A moment in nanoseconds since boot.
pub fn ns(moment: BootTime) -> u64 {
    u64::try_from(moment.since_boot().as_nanos()).unwrap_or(u64::MAX)
}

/// By which one boot of a machine is told from another.
///
/// # Errors
/// When `/proc` cannot be read.
pub fn boot_id() -> io::Result<String> {
    crate::driver::procfs::boot_id()
}

#[cfg(test)]
mod tests {
    use manifests::envelope::Signers;
    use manifests::keys::PublicKey;

    use super::*;

    fn subject() -> Subject {
        Subject {
            kind: "prober",
            prober: "p".into(),
            target: "ingress".into(),
            url: "http://127.0.0.1:1/who".into(),
            of: "ingress".into(),
            interval_ms: 100,
            timeout_ms: 1000,
            drill: "d".into(),
            challenge: "c".into(),
        }
    }

    #[test]
    fn a_series_that_ended_is_signed_by_the_key_in_its_first_line() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ingress.jsonl");
        let mut series = Series::begin(&path, subject()).unwrap();
        assert!(series.add(&serde_json::json!({ "i": 0 })).unwrap());
        assert_eq!(series.end("asked to").unwrap(), 1);
        let bytes = fs::read(&path).unwrap();
        let lines: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).collect();
        let head: Head = serde_json::from_slice(lines[0]).unwrap();
        let tail: Tail = serde_json::from_slice(lines[2]).unwrap();
        assert_eq!((tail.count, tail.why.as_str(), lines.len()), (1, "asked to", 3));
        let key = PublicKey::from_hex(&head.key).unwrap();
        let signers = Signers { name: "prober".into(), known: vec![key.clone()], allowed: vec![key], threshold: 1 };
        let envelope = fs::read(signature_of(&path)).unwrap();
        let verified = envelope::verify(&envelope, 1 << 16, &[SIGNED_TYPE], &signers, "series").unwrap();
        let signed: Signed = serde_json::from_slice(verified.payload()).unwrap();
        assert_eq!(signed.sha256, Digest::sha256(&bytes));
        assert_eq!((signed.file.as_str(), signed.count), ("ingress.jsonl", 1));
    }

    #[test]
    fn a_series_is_never_written_over() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ingress.jsonl");
        let first = Series::begin(&path, subject()).unwrap();
        assert!(Series::begin(&path, subject()).is_err());
        drop(first);
        assert!(!signature_of(&path).exists(), "a measurer that dies signs nothing");
    }

    #[test]
    fn lines_of_a_sentinel_are_told_apart_by_their_fields() {
        let wall = Timestamp::now();
        let refused = Written::Refused { error: "no".into(), sent_ns: 1, done_ns: 2, wall };
        let recovered = Written::Recovered {
            recovered: 7,
            sent_ns: 1,
            done_ns: 2,
            wall,
            node: "b".into(),
            instance: None,
            term: 2,
        };
        for line in [refused, recovered] {
            let text = serde_json::to_string(&line).unwrap();
            assert_eq!(serde_json::from_str::<Written>(&text).unwrap(), line, "{text}");
        }
    }
}
