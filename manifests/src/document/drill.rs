//! The body of a drill record: a rehearsal or a failover began, or ended, and what its evidence is called.
//!
//! Both ends are in the chain, so a run of which nothing good can be told still leaves the record that it began.
//! Documented in `docs/format/record.md`, "drill". Layer: pure.

use serde::{Deserialize, Serialize};

use super::is_name;
use super::record::Pointer;
use crate::digest::Digest;
use crate::keys::{PublicKey, excerpt};
use crate::refusal::{Class, Refusal};

/// The payload type.
pub const PAYLOAD_TYPE: &str = "application/vnd.snapkit.drill+json";
/// The longest challenge in bytes.
pub const CHALLENGE_CAP: usize = 255;
/// The most that measure one run.
pub const PROBERS_CAP: usize = 256;
/// The longest name of a series in bytes.
pub const PROBER_NAME_CAP: usize = 128;
/// Whether something was changed.
pub const MODES: &[&str] = &["execute", "simulated"];
/// How a run ends.
pub const VERDICTS: &[&str] = &["aborted", "failed", "passed"];

/// One end of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "Ends", try_from = "Ends")]
pub enum Drill {
    /// It begins; nothing was done yet.
    Begun(Begun),
    /// It ended.
    Ended(Ended),
}

/// What is written: exactly one of the two.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Ends {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    begun: Option<Begun>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ended: Option<Ended>,
}

/// A run that begins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Begun {
    /// The id of the run: 1 to 64 of `[a-z0-9._-]`, the first a letter or digit.
    pub id: String,
    /// What kind of run it is, such as `drill` or `failover`; a name as above.
    pub kind: String,
    /// The name of the scenario, as above.
    pub scenario: String,
    /// One of [`MODES`].
    pub mode: String,
    /// The digest of the plan.
    pub plan: Digest,
    /// What whoever will check the evidence gave beforehand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub challenge: Option<String>,
    /// Who measures the run, by ascending name; absent where nobody does.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub probers: Vec<Prober>,
}

/// Whoever measures a run: its series is believed under this key alone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Prober {
    /// The name of its series: 1 to [`PROBER_NAME_CAP`] of `[A-Za-z0-9._-]`.
    pub name: String,
    /// What it asks: `ingress`, or the name of a node.
    pub of: String,
    /// Its public key, 64 hex digits.
    pub key: String,
}

/// A run that ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ended {
    /// The id of the run.
    pub id: String,
    /// The record with which it began, if that was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub begun: Option<Pointer>,
    /// One of [`MODES`].
    pub mode: String,
    /// One of [`VERDICTS`].
    pub verdict: String,
    /// SHA-256 of the index of its evidence.
    pub bundle: Digest,
    /// The longest time without a good answer over a change of who leads, where there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rto_ms: Option<u64>,
    /// How many acknowledged writes were lost, where that was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rpo_events: Option<u64>,
}

impl From<Drill> for Ends {
    fn from(drill: Drill) -> Ends {
        match drill {
            Drill::Begun(begun) => Ends { begun: Some(begun), ended: None },
            Drill::Ended(ended) => Ends { begun: None, ended: Some(ended) },
        }
    }
}

impl TryFrom<Ends> for Drill {
    type Error = &'static str;

    fn try_from(ends: Ends) -> Result<Drill, &'static str> {
        match ends {
            Ends { begun: Some(begun), ended: None } => Ok(Drill::Begun(begun)),
            Ends { begun: None, ended: Some(ended) } => Ok(Drill::Ended(ended)),
            _ => Err("one of `begun` and `ended` is needed, not both"),
        }
    }
}

impl Drill {
    /// The id of the run.
    pub fn id(&self) -> &str {
        match self {
            Drill::Begun(begun) => &begun.id,
            Drill::Ended(ended) => &ended.id,
        }
    }

    pub(super) fn check(&self, seq: u64, object: &str) -> Result<(), Refusal> {
        let names = match self {
            Drill::Begun(begun) => {
                let words = [("begun.kind", &begun.kind), ("begun.scenario", &begun.scenario)];
                words.into_iter().chain([("id", &begun.id)]).collect()
            }
            Drill::Ended(ended) => vec![("id", &ended.id)],
        };
        for (field, name) in names {
            if !is_name(name) {
                let expected = format!("`{field}` of 1 to 64 of [a-z0-9._-]");
                return Err(Refusal::new(Class::Json, object, expected, excerpt(name)));
            }
        }
        match self {
            Drill::Begun(begun) => {
                one_of("begun.mode", &begun.mode, MODES, object)?;
                check_probers(&begun.probers, object)?;
                begun.challenge.as_deref().map_or(Ok(()), |challenge| check_challenge(challenge, object))
            }
            Drill::Ended(ended) => {
                one_of("ended.mode", &ended.mode, MODES, object)?;
                one_of("ended.verdict", &ended.verdict, VERDICTS, object)?;
                ended.begun.map_or(Ok(()), |begun| begun.check_before(seq, object))
            }
        }
    }
}

/// Refuses names that could be two of one file, and keys that are none.
fn check_probers(probers: &[Prober], object: &str) -> Result<(), Refusal> {
    if probers.len() > PROBERS_CAP {
        let expected = format!("at most {PROBERS_CAP} of `begun.probers`");
        return Err(Refusal::new(Class::TooMany, object, expected, probers.len()));
    }
    if !probers.is_sorted_by(|a, b| a.name < b.name) {
        let expected = "`begun.probers` by ascending name, each once";
        return Err(Refusal::new(Class::Json, object, expected, "another order"));
    }
    let is_plain = |text: &str| {
        let any = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        !text.is_empty() && text.len() <= PROBER_NAME_CAP && text.bytes().all(any)
    };
    for prober in probers {
        for (field, text) in [("name", &prober.name), ("of", &prober.of)] {
            if !is_plain(text) {
                let expected = format!("`begun.probers.{field}` of 1 to {PROBER_NAME_CAP} of [A-Za-z0-9._-]");
                return Err(Refusal::new(Class::Json, object, expected, excerpt(text)));
            }
        }
        PublicKey::from_hex(&prober.key).map_err(|refusal| refusal.named(object))?;
    }
    Ok(())
}

/// Refuses another word than one of these.
pub(super) fn one_of(field: &str, word: &str, words: &[&str], object: &str) -> Result<(), Refusal> {
    if words.contains(&word) {
        return Ok(());
    }
    Err(Refusal::new(Class::Json, object, format!("`{field}` as one of {}", words.join(", ")), excerpt(word)))
}

/// Refuses a challenge that says nothing, or that could play tricks on a terminal.
pub(super) fn check_challenge(challenge: &str, object: &str) -> Result<(), Refusal> {
    if !challenge.is_empty() && challenge.len() <= CHALLENGE_CAP && !challenge.chars().any(char::is_control) {
        return Ok(());
    }
    let expected = format!("a challenge of 1 to {CHALLENGE_CAP} bytes without control characters");
    Err(Refusal::new(Class::Json, object, expected, excerpt(challenge)))
}
