//! The evidence statement: what a drill or failover showed, over the index of its bundle.
//!
//! An in-toto Statement whose subject is `bundle.json`, signed by the role `node` of the root. It repeats what the bundle
//! amounts to, so that a gate can decide without it; whoever has the bundle computes all of it again. A second statement
//! says the same in the words of in-toto's `test-result`. Documented in `docs/format/bundle.md`, "Statement". Layer: pure.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::drill::{MODES, VERDICTS, check_challenge, one_of};
use super::pins::is_text;
use super::receipt::{Host, Tool};
use super::record::Pointer;
use super::root::Root;
pub use super::statement::PAYLOAD_TYPE;
use super::statement::{STATEMENT_TYPE, Statement};
use super::{check_critical, is_name, time};
use crate::digest::Digest;
use crate::envelope::{self, Signers, Verified};
use crate::json;
use crate::keys::{KeyId, PublicKey, excerpt};
use crate::refusal::{Class, Refusal};

/// The type of the predicate, with its version.
pub const PREDICATE_TYPE: &str = "urn:snapkit:drill:0-draft";
/// The type of the predicate that other tools know.
pub const TEST_RESULT_TYPE: &str = "https://in-toto.io/attestation/test-result/v0.1";
/// The name of the subject: the index of the bundle.
pub const SUBJECT: &str = "bundle.json";
/// The largest statement with its signatures, in bytes.
pub const EVIDENCE_CAP: usize = 1024 * 1024;
/// The most checks.
pub const CHECKS_CAP: usize = 256;
/// What becomes of a check.
pub const STATUSES: &[&str] = &["failed", "passed", "skipped"];
/// What a claim rests on.
pub const CLAIMS: &[&str] = &["asserted", "proven", "unproven"];
/// The longest text in bytes.
const TEXT_CAP: usize = 255;

/// What a bundle shows: the predicate of the statement.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Evidence {
    /// The digest of the genesis payload.
    pub chain: Digest,
    /// SHA-256 of the payload of `root/1.json`.
    pub root: Digest,
    /// The id of the run.
    pub id: String,
    /// The kind of the run: `drill` or `failover`.
    pub kind: String,
    /// The scenario.
    pub scenario: String,
    /// The lease group.
    pub group: String,
    /// One of [`MODES`].
    pub mode: String,
    /// One of [`VERDICTS`].
    pub verdict: String,
    /// How far the run went: `none`, `simulated`, `isolated-restore`, `live-takeover`, `full`, or `AAA`.
    pub grade: String,
    /// What whoever checks gave beforehand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub challenge: Option<String>,
    /// The digest of the plan.
    pub plan: Digest,
    /// The record of the chain with which it began, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub begun: Option<Pointer>,
    /// The newest record of the chain that the bundle holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head: Option<Pointer>,
    /// SHA-256 of the payload of the manifest that the bundle holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifest: Option<Digest>,
    /// When it began.
    #[serde(with = "time")]
    pub started: Timestamp,
    /// When it ended.
    #[serde(with = "time")]
    pub finished: Timestamp,
    /// The longest time without a good answer over a change of who leads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rto_ms: Option<u64>,
    /// How many acknowledged writes were lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rpo_events: Option<u64>,
    /// The time over which they had been acknowledged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rpo_ms: Option<u64>,
    /// The checks, by ascending id.
    pub checks: Vec<Check>,
    /// What sealed it.
    pub tool: Tool,
    /// Where.
    pub host: Host,
    /// The id of a key that signed.
    pub node: KeyId,
    /// Features a reader must know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub critical: Option<Vec<String>>,
    /// Signed and ignored.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub ext: Map<String, Value>,
}

/// What became of one check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Check {
    /// Its id.
    pub id: String,
    /// Whether the run fails without it.
    pub required: bool,
    /// One of [`STATUSES`].
    pub status: String,
    /// One of [`CLAIMS`].
    pub claim: String,
}

/// An evidence statement that was verified.
#[derive(Debug, Clone, PartialEq)]
pub struct VerifiedEvidence {
    /// What it says.
    pub evidence: Evidence,
    /// SHA-256 of the bundle's index.
    pub bundle: Digest,
    /// SHA-256 of the payload.
    pub digest: Digest,
    /// The distinct allowed keys with a good signature.
    pub signers: Vec<PublicKey>,
}

impl Evidence {
    /// The payload bytes over the index with this digest, to be signed as [`PAYLOAD_TYPE`].
    ///
    /// # Errors
    /// What a reader would refuse.
    pub fn payload(&self, bundle: Digest) -> Result<Vec<u8>, Refusal> {
        let statement = Statement::new(SUBJECT, bundle, PREDICATE_TYPE, self.clone());
        let bytes = serde_json::to_vec(&statement).expect("a statement always encodes");
        let read = parse(&bytes, envelope::payload_cap(EVIDENCE_CAP), "new evidence")?;
        debug_assert!(read == (self.clone(), bundle), "what was written reads back");
        Ok(bytes)
    }

    /// The payload of the second statement: the same result as in-toto's `test-result` has it.
    pub fn test_result(&self, bundle: Digest) -> Vec<u8> {
        let named = |wanted: &[&str], required: bool| -> Vec<&str> {
            let of = |check: &&Check| check.required == required && wanted.contains(&check.status.as_str());
            self.checks.iter().filter(of).map(|check| check.id.as_str()).collect()
        };
        let mut passed = [named(&["passed"], true), named(&["passed"], false)].concat();
        passed.sort_unstable();
        // A check that was not made is no success: a required one fails the run, another is a warning.
        let (failed, warned) = (named(&["failed", "skipped"], true), named(&["failed", "skipped"], false));
        let result = match (self.verdict.as_str(), self.mode.as_str(), warned.is_empty()) {
            ("passed", "execute", true) => "PASSED",
            ("passed", _, _) => "WARNED",
            _ => "FAILED",
        };
        let configuration = json!([{ "name": "plan.json", "digest": { "sha256": self.plan } }]);
        let statement = json!({
            "_type": STATEMENT_TYPE,
            "subject": [{ "name": SUBJECT, "digest": { "sha256": bundle } }],
            "predicateType": TEST_RESULT_TYPE,
            "predicate": {
                "result": result,
                "configuration": configuration,
                "passedTests": passed,
                "warnedTests": warned,
                "failedTests": failed,
            },
        });
        serde_json::to_vec(&statement).expect("a statement always encodes")
    }

    /// Verifies the statement in `bytes` by any one key of the role `node`; `object` names it in refusals.
    ///
    /// # Errors
    /// Those of [`envelope::verify`]; [`Class::Type`], [`Class::Newer`], [`Class::Json`] for another document;
    /// [`Class::Origin`] for another root or chain, [`Class::KeyId`] unless the named node signed.
    pub fn verify(
        bytes: &[u8],
        root: &Root,
        pin: &Digest,
        chain: Option<&Digest>,
        object: &str,
    ) -> Result<VerifiedEvidence, Refusal> {
        let verified = verified(bytes, root, object)?;
        let (evidence, bundle) = parse(verified.payload(), EVIDENCE_CAP, object)?;
        if evidence.root != *pin {
            let expected = format!("evidence under the root sha256:{pin}");
            return Err(Refusal::new(Class::Origin, object, expected, evidence.root));
        }
        if let Some(chain) = chain.filter(|chain| **chain != evidence.chain) {
            return Err(Refusal::new(Class::Origin, object, format!("evidence of chain {chain}"), evidence.chain));
        }
        if verified.signers().iter().all(|key| key.id() != evidence.node) {
            return Err(Refusal::new(Class::KeyId, object, "`node` to be a key that signed", evidence.node));
        }
        Ok(VerifiedEvidence { evidence, bundle, digest: verified.digest(), signers: verified.signers().to_vec() })
    }

    /// Verifies the second statement: it is signed as the first one, and says the same.
    ///
    /// # Errors
    /// As [`Evidence::verify`]; [`Class::Inconsistent`] where it says something else.
    pub fn verify_test_result(&self, bytes: &[u8], bundle: Digest, root: &Root, object: &str) -> Result<(), Refusal> {
        let verified = verified(bytes, root, object)?;
        let tree = json::Tree::read(verified.payload(), EVIDENCE_CAP, object)?;
        let expected = self.test_result(bundle);
        if json::Tree::read(&expected, usize::MAX, object)? != tree {
            let expected = "the result that the other statement has";
            return Err(Refusal::new(Class::Inconsistent, object, expected, "another one"));
        }
        Ok(())
    }

    fn check(&self, object: &str) -> Result<(), Refusal> {
        let json = |expected: &str, found: String| Err(Refusal::new(Class::Json, object, expected, found));
        for (field, name) in
            [("id", &self.id), ("kind", &self.kind), ("scenario", &self.scenario), ("group", &self.group)]
        {
            if !is_name(name) {
                return json(&format!("`{field}` of 1 to 64 of [a-z0-9._-]"), excerpt(name));
            }
        }
        one_of("mode", &self.mode, MODES, object)?;
        one_of("verdict", &self.verdict, VERDICTS, object)?;
        self.challenge.as_deref().map_or(Ok(()), |challenge| check_challenge(challenge, object))?;
        let texts = [
            ("grade", &self.grade),
            ("tool.name", &self.tool.name),
            ("tool.version", &self.tool.version),
            ("host.name", &self.host.name),
            ("host.kernel", &self.host.kernel),
        ];
        for (field, text) in texts {
            if !is_text(text, TEXT_CAP) {
                return json(&format!("`{field}` of 1 to 255 bytes without control characters"), excerpt(text));
            }
        }
        if self.checks.len() > CHECKS_CAP {
            return Err(Refusal::new(Class::TooMany, object, "at most 256 checks", self.checks.len()));
        }
        if !self.checks.is_sorted_by(|a, b| a.id < b.id) {
            return json("checks by ascending id, each once", "another order".into());
        }
        for check in &self.checks {
            if !is_name(&check.id) {
                return json("`checks.id` of 1 to 64 of [a-z0-9._-]", excerpt(&check.id));
            }
            one_of("checks.status", &check.status, STATUSES, object)?;
            one_of("checks.claim", &check.claim, CLAIMS, object)?;
        }
        if self.finished < self.started {
            let refusal = Refusal::new(Class::Inconsistent, object, "an end after the beginning", self.finished);
            return Err(refusal);
        }
        Ok(())
    }
}

/// Each statement is one node's own word, however many of them a receipt may need.
fn verified(bytes: &[u8], root: &Root, object: &str) -> Result<Verified, Refusal> {
    let signers = Signers { threshold: 1, ..root.signers("node") };
    envelope::verify(bytes, EVIDENCE_CAP, &[PAYLOAD_TYPE], &signers, object)
}

/// Applies every rule of the format that needs no signature to payload bytes.
fn parse(payload: &[u8], cap: usize, object: &str) -> Result<(Evidence, Digest), Refusal> {
    let statement = Statement::<Evidence>::read(payload, cap, PREDICATE_TYPE, object)?;
    let bundle = statement.only_subject(SUBJECT, object)?;
    check_critical(&statement.predicate.critical, object)?;
    statement.predicate.check(object)?;
    Ok((statement.predicate, bundle))
}

#[cfg(test)]
mod tests;
