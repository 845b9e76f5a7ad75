//! in-toto statements: one subject and one predicate, whose type says what the signature is about.
//!
//! Receipts and manifests are statements, so that other tools can read them. All have one payload type; the type of the
//! predicate keeps them apart. Documented in `docs/format/receipt.md`, "Statement". Layer: pure.
//! Source: in-toto Attestation Framework, Statement v1.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::check_growth;
use crate::digest::Digest;
use crate::json::Tree;
use crate::keys::excerpt;
use crate::refusal::{Class, Refusal};

/// The payload type of every in-toto statement.
pub const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";
/// The type of a Statement v1.
pub const STATEMENT_TYPE: &str = "https://in-toto.io/Statement/v1";

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Statement<P> {
    #[serde(rename = "_type")]
    statement_type: String,
    pub(super) subject: Vec<Subject>,
    #[serde(rename = "predicateType")]
    predicate_type: String,
    pub(super) predicate: P,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Subject {
    name: String,
    digest: DigestSet,
}

/// in-toto's map of digests, with the one algorithm that is written here.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct DigestSet {
    sha256: Digest,
}

impl<P: Serialize + DeserializeOwned> Statement<P> {
    /// A statement about the record with this name and digest.
    pub(super) fn new(name: &str, digest: Digest, predicate_type: &str, predicate: P) -> Statement<P> {
        Statement {
            statement_type: STATEMENT_TYPE.into(),
            subject: vec![Subject { name: name.into(), digest: DigestSet { sha256: digest } }],
            predicate_type: predicate_type.into(),
            predicate,
        }
    }

    /// Reads a statement whose predicate has this type; another version of the type is newer, not wrong.
    pub(super) fn read(
        payload: &[u8],
        cap: usize,
        predicate_type: &str,
        object: &str,
    ) -> Result<Statement<P>, Refusal> {
        let tree = Tree::read(payload, cap, object)?;
        let text = |name: &str| match tree.get(name) {
            Some(Tree::Text(text)) => text.as_str(),
            _ => "",
        };
        let refuse = |class, expected: &str, found: &str| Err(Refusal::new(class, object, expected, excerpt(found)));
        if text("_type") != STATEMENT_TYPE {
            return refuse(Class::Type, STATEMENT_TYPE, text("_type"));
        }
        // The version is what follows the last colon.
        let family = &predicate_type[..=predicate_type.rfind(':').unwrap_or(0)];
        match text("predicateType") {
            same if same == predicate_type => {}
            newer if newer.starts_with(family) => return refuse(Class::Newer, predicate_type, newer),
            other => return refuse(Class::Type, predicate_type, other),
        }
        if let Some(predicate) = tree.get("predicate") {
            check_growth(predicate, object)?;
        }
        tree.into_typed(object)
    }

    /// The digest of the one subject, which must have this name.
    pub(super) fn only_subject(&self, name: &str, object: &str) -> Result<Digest, Refusal> {
        match &self.subject[..] {
            [subject] if subject.name == name => Ok(subject.digest.sha256),
            [subject] => {
                Err(Refusal::new(Class::Inconsistent, object, format!("the subject {name}"), excerpt(&subject.name)))
            }
            _ => Err(Refusal::new(Class::Inconsistent, object, "one subject", self.subject.len())),
        }
    }

    /// Refuses another subject than the one with this name and digest.
    pub(super) fn check_subject(&self, name: &str, digest: &Digest, class: Class, object: &str) -> Result<(), Refusal> {
        let [subject] = &self.subject[..] else {
            return Err(Refusal::new(class, object, "one subject", self.subject.len()));
        };
        if (subject.name.as_str(), &subject.digest.sha256) != (name, digest) {
            return Err(Refusal::new(class, object, "the subject to be the record", "another one"));
        }
        Ok(())
    }
}
