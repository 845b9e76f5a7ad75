//! Series: what a prober saw, answer by answer, and what a sentinel got acknowledged.
//!
//! A series is one file of lines: a head, what was seen in order, an end. Beside it lies a signature over its digest, by a
//! key that the prober made for this run and told the timeline before its first line, so that nobody who holds the other
//! keys can make one up afterwards. Documented in `docs/format/bundle.md`, "Series".
//! Layer: pure; `drill::series` writes them.

use jiff::Timestamp;
use manifests::digest::Digest;
use manifests::envelope::{self, Signers};
use manifests::json;
use manifests::keys::{PublicKey, SecretKey};
use manifests::refusal::{Class, Refusal};
use serde::{Deserialize, Serialize};

use super::timeline::{fields, lines, strict};

/// The schema of a series.
pub const SCHEMA: &str = "bootstrap.series/1";
/// The payload type of the signature.
pub const PAYLOAD_TYPE: &str = "application/vnd.snapkit.series+json";
/// The longest line in bytes.
pub const LINE_CAP: usize = 16 * 1024;
/// The largest series in bytes.
pub const CAP: usize = 256 * 1024 * 1024;
/// The largest signature in bytes.
pub const SIGNATURE_CAP: usize = 16 * 1024;

/// The first line: who measures what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Head {
    /// Always [`SCHEMA`].
    pub schema: String,
    /// `prober` or `sentinel`.
    pub kind: String,
    /// The name of who measures, that of the file.
    pub prober: String,
    /// What is asked, by the name that people use.
    pub target: String,
    /// The address that is asked.
    pub url: String,
    /// `ingress`, or the name of a node.
    pub of: String,
    /// Time between two questions: the error of every gap that follows from the series.
    pub interval_ms: u64,
    /// How long an answer is waited for.
    pub timeout_ms: u64,
    /// The boot in which the times of the series count.
    pub boot_id: String,
    /// The public key of who measures, in hex.
    pub key: String,
    /// The id of the run.
    pub drill: String,
    /// What whoever will verify gave beforehand; empty without one.
    pub challenge: String,
    /// When it began, by the wall clock.
    pub started: Timestamp,
}

/// One question of a prober.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sample {
    /// Its number, from 0.
    pub i: u64,
    /// When it was sent, in microseconds since boot.
    pub sent_us: u64,
    /// When it was answered or given up.
    pub done_us: u64,
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

/// A write that a sentinel got acknowledged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Acknowledged {
    /// The number that the application gave it.
    pub n: u64,
    /// When it was sent, in microseconds since boot.
    pub sent_us: u64,
    /// When it was acknowledged.
    pub done_us: u64,
    /// When it was sent, by the wall clock.
    pub wall: Timestamp,
    /// The node that acknowledged it.
    pub node: String,
    /// Its run.
    pub instance: Option<String>,
    /// Its term.
    pub term: u64,
}

/// What a sentinel found to be there after writes had failed: the newest number that the application still knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recovered {
    /// That number.
    pub recovered: u64,
    /// When it was asked for, in microseconds since boot.
    pub sent_us: u64,
    /// When it was answered.
    pub done_us: u64,
    /// When it was asked for, by the wall clock.
    pub wall: Timestamp,
    /// The node that answered.
    pub node: String,
    /// Its run.
    pub instance: Option<String>,
    /// Its term.
    pub term: u64,
}

/// A write that was not acknowledged; whether it was done is not known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Refused {
    /// Why.
    pub error: String,
    /// When it was sent, in microseconds since boot.
    pub sent_us: u64,
    /// When it was given up.
    pub done_us: u64,
    /// When it was sent, by the wall clock.
    pub wall: Timestamp,
}

/// The last line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tail {
    /// Always true.
    pub end: bool,
    /// The number of lines between the first and this one.
    pub count: u64,
    /// When it ended, in microseconds since boot.
    pub done_us: u64,
    /// Why.
    pub why: String,
}

/// What is signed when a series has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signed {
    /// Always [`SIGNED_SCHEMA`].
    pub schema: String,
    /// The name of the file, without directories.
    pub file: String,
    /// The digest of all its bytes.
    pub sha256: Digest,
    /// The number of lines between the first and the last.
    pub count: u64,
    /// The id of the run.
    pub drill: String,
    /// As in the first line.
    pub challenge: String,
}

/// The schema of what is signed.
pub const SIGNED_SCHEMA: &str = "bootstrap.series-end/1";

/// A line between the first and the last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Line {
    /// Of a prober.
    Sample(Sample),
    /// Of a sentinel.
    Acknowledged(Acknowledged),
    /// Of a sentinel.
    Recovered(Recovered),
    /// Of a sentinel.
    Refused(Refused),
}

impl Line {
    /// When it was sent and when it was done.
    pub fn times(&self) -> (u64, u64) {
        match self {
            Line::Sample(line) => (line.sent_us, line.done_us),
            Line::Acknowledged(line) => (line.sent_us, line.done_us),
            Line::Recovered(line) => (line.sent_us, line.done_us),
            Line::Refused(line) => (line.sent_us, line.done_us),
        }
    }

    /// The wall clock when it was sent.
    pub fn wall(&self) -> Timestamp {
        match self {
            Line::Sample(line) => line.wall,
            Line::Acknowledged(line) => line.wall,
            Line::Recovered(line) => line.wall,
            Line::Refused(line) => line.wall,
        }
    }
}

/// A series that was read and whose signature fits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Series {
    /// The file that it came from.
    pub file: String,
    /// The first line.
    pub head: Head,
    /// What was seen, in order.
    pub lines: Vec<Line>,
    /// The last line.
    pub end: Tail,
}

impl Series {
    /// Reads the series in `bytes` and its signature; `file` names it in refusals.
    ///
    /// # Errors
    /// [`Class::Json`] for what is no series, or one without an end; [`Class::Inconsistent`] where counts, times or names
    /// contradict each other; what [`envelope::verify`] says of the signature; [`Class::Hash`] if it is over other bytes.
    pub fn read(bytes: &[u8], signature: &[u8], file: &str) -> Result<Series, Refusal> {
        if bytes.len() > CAP {
            return Err(Refusal::new(Class::TooBig, file, format!("at most {CAP} bytes"), bytes.len()));
        }
        let all = lines(bytes, file)?;
        let named = |at: usize| format!("{file} line {}", at + 1);
        let (Some((first, rest)), true) = (all.split_first(), all.len() >= 2) else {
            return Err(Refusal::new(Class::Json, file, "a head, lines and an end", "less"));
        };
        let head: Head = strict(first, LINE_CAP, &named(0))?;
        if head.schema != SCHEMA {
            return Err(Refusal::new(Class::Newer, named(0), SCHEMA, &head.schema));
        }
        let (last, middle) = rest.split_last().expect("two lines or more");
        let end: Tail = strict(last, LINE_CAP, &named(all.len() - 1)).map_err(|refusal| {
            refusal
                .with_hint("a series without an end is one whose prober died; it proves nothing about what came after")
        })?;
        let mut seen = Vec::with_capacity(middle.len());
        for (at, line) in middle.iter().enumerate() {
            seen.push(line_of(line, &named(at + 1))?);
        }
        let series = Series { file: file.to_owned(), head, lines: seen, end };
        series.check()?;
        series.check_signature(bytes, signature)?;
        Ok(series)
    }

    fn check(&self) -> Result<(), Refusal> {
        let refuse = |at: usize, expected: String, found: String| {
            Err(Refusal::new(Class::Inconsistent, format!("{} line {}", self.file, at + 2), expected, found))
        };
        if self.end.count != self.lines.len() as u64 {
            let expected = format!("a count of {}", self.lines.len());
            return refuse(self.lines.len(), expected, self.end.count.to_string());
        }
        let (mut samples, mut last) = (0, 0);
        for (at, line) in self.lines.iter().enumerate() {
            let (sent, done) = line.times();
            if let Line::Sample(sample) = line {
                if sample.i != samples {
                    return refuse(at, format!("sample {samples}"), format!("sample {}", sample.i));
                }
                samples += 1;
            }
            let fits = matches!((line, self.head.kind.as_str()), (Line::Sample(_), "prober"))
                || !matches!(line, Line::Sample(_)) && self.head.kind == "sentinel";
            if !fits {
                return refuse(at, format!("a line of a {}", self.head.kind), "another".into());
            }
            // One question after the other: an answer that came later than the next question was never waited for.
            if done < sent || sent < last {
                return refuse(at, format!("times that go on from {last}"), format!("{sent} to {done}"));
            }
            last = done;
        }
        if !self.end.end || self.end.done_us < last {
            return refuse(self.lines.len(), format!("an end after {last}"), self.end.done_us.to_string());
        }
        Ok(())
    }

    fn check_signature(&self, bytes: &[u8], signature: &[u8]) -> Result<(), Refusal> {
        let object = &format!("the signature of {}", self.file);
        let key =
            PublicKey::from_hex(&self.head.key).map_err(|refusal| refusal.named(format!("{} line 1", self.file)))?;
        let name = format!("the prober {}", self.head.prober);
        let signers = Signers { name, known: vec![key], allowed: vec![key], threshold: 1 };
        let verified = envelope::verify(signature, SIGNATURE_CAP, &[PAYLOAD_TYPE], &signers, object)?;
        let signed: Signed = strict(verified.payload(), SIGNATURE_CAP, object)?;
        let digest = Digest::sha256(bytes);
        if signed.sha256 != digest {
            let expected = format!("the SHA-256 {} that its prober signed", signed.sha256);
            return Err(Refusal::new(Class::Hash, &self.file, expected, digest)
                .with_hint("the series was edited; get an unchanged copy of it"));
        }
        let expected = self.signed(digest);
        if signed != expected {
            return Err(Refusal::new(Class::Inconsistent, object, format!("{expected:?}"), format!("{signed:?}")));
        }
        Ok(())
    }

    /// What its prober must have signed.
    fn signed(&self, sha256: Digest) -> Signed {
        Signed {
            schema: SIGNED_SCHEMA.to_owned(),
            file: self.file.rsplit('/').next().unwrap_or_default().to_owned(),
            sha256,
            count: self.end.count,
            drill: self.head.drill.clone(),
            challenge: self.head.challenge.clone(),
        }
    }

    /// The answers of a prober, in order.
    pub fn samples(&self) -> impl Iterator<Item = &Sample> {
        self.lines.iter().filter_map(|line| match line {
            Line::Sample(sample) => Some(sample),
            _ => None,
        })
    }

    /// The writes that a sentinel got acknowledged, in order.
    pub fn acknowledged(&self) -> impl Iterator<Item = &Acknowledged> {
        self.lines.iter().filter_map(|line| match line {
            Line::Acknowledged(write) => Some(write),
            _ => None,
        })
    }

    /// What was found after takeovers and restores, in order.
    pub fn recovered(&self) -> impl Iterator<Item = &Recovered> {
        self.lines.iter().filter_map(|line| match line {
            Line::Recovered(recovered) => Some(recovered),
            _ => None,
        })
    }
}

/// One line between the first and the last, told apart by the field that only its kind has.
fn line_of(line: &[u8], object: &str) -> Result<Line, Refusal> {
    let tree = json::Tree::read(line, LINE_CAP, object)?;
    let has = |name: &str| tree.get(name).is_some();
    Ok(match () {
        () if has("i") => Line::Sample(fields(line, object)?),
        () if has("recovered") => Line::Recovered(fields(line, object)?),
        () if has("n") => Line::Acknowledged(fields(line, object)?),
        () => Line::Refused(fields(line, object)?),
    })
}

/// Where the signature of the series in `file` lies.
pub fn signature_of(file: &str) -> String {
    format!("{}.dsse.json", file.strip_suffix(".jsonl").unwrap_or(file))
}

/// Signs a series that has ended, as its prober does.
///
/// # Errors
/// What a signer says.
pub fn sign(signed: &Signed, key: &SecretKey) -> Result<Vec<u8>, Refusal> {
    let payload = serde_json::to_vec(signed).expect("plain fields always encode");
    envelope::sign(PAYLOAD_TYPE, &payload, &[key])
}

#[cfg(test)]
mod tests;
