//! Sealing: from a run directory to a bundle that a stranger can check.
//!
//! The result and its renderings are computed from the files, an index names every file with its digest, and a key of the
//! role `node` signs a statement over the index. The tar of equal files is equal, byte for byte.
//! Documented in `docs/format/bundle.md`. Layer: the edge, around pure functions.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use manifests::digest::Digest;
use manifests::document::evidence::{self, Evidence};
use manifests::document::receipt::{Host, Tool};
use manifests::document::record::Pointer;
use manifests::envelope;
use manifests::keys::Signer;
use manifests::refusal::{Class, Refusal};
use serde::{Deserialize, Serialize};
use snapkit::receipt::{self, ReceiptError};

use super::files::Files;
use super::recompute::Run;
use super::result::RunResult;
use super::run_dir::RunDir;
use super::timeline::strict;
use super::{EvidenceError, redact, report};

/// The schema of an index.
pub const SCHEMA: &str = "bootstrap.bundle/1";
/// The index.
pub const INDEX: &str = "bundle.json";
/// The statement over it.
pub const STATEMENT: &str = "bundle.dsse.json";
/// The same result as other tools know it.
pub const TEST_RESULT: &str = "test-result.dsse.json";
/// The result.
pub const RESULT: &str = "result.json";
/// The result as variables of a shell; it names the index, and so is not in it.
pub const RESULT_ENV: &str = "result.env";
/// The files that the index does not list.
pub const NOT_LISTED: &[&str] = &[INDEX, STATEMENT, TEST_RESULT, RESULT_ENV];
/// The version of the renderings: whoever has the same one computes the same bytes.
pub const RENDERING: u64 = 1;
/// The largest result in bytes, and the largest index.
pub(super) const RESULT_CAP: usize = 8 * 1024 * 1024;

/// The index of a bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Index {
    /// Always [`SCHEMA`].
    pub schema: String,
    /// The id of the run.
    pub id: String,
    /// `drill` or `failover`.
    pub kind: String,
    /// The scenario.
    pub scenario: String,
    /// `execute` or `simulated`.
    pub mode: String,
    /// What whoever will verify gave beforehand.
    pub challenge: Option<String>,
    /// The digest of the plan.
    pub plan_sha256: Digest,
    /// The chain.
    pub chain: Digest,
    /// SHA-256 of the payload of the first root.
    pub root: Digest,
    /// When the run began.
    pub started: Timestamp,
    /// When it ended.
    pub ended: Timestamp,
    /// [`RENDERING`] of whoever sealed it.
    pub rendering: u64,
    /// Every file but [`NOT_LISTED`], by name.
    pub files: Vec<IndexFile>,
}

/// A file of a bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IndexFile {
    /// Its name.
    pub path: String,
    /// SHA-256 of its content.
    pub sha256: Digest,
    /// Its length.
    pub bytes: u64,
    /// What it is: [`role_of`] its name.
    pub role: String,
}

/// A bundle that was sealed.
#[derive(Debug)]
pub struct Sealed {
    /// SHA-256 of the index: the name of the bundle.
    pub bundle: Digest,
    /// The tar, beside the directory.
    pub tar: PathBuf,
    /// The statement, in the directory.
    pub statement: PathBuf,
    /// What the run amounts to.
    pub result: RunResult,
}

/// What a file of this name is.
pub fn role_of(path: &str) -> &'static str {
    match path.split('/').next().unwrap_or_default() {
        "plan.json" => "plan",
        "environment.json" => "environment",
        "timeline.jsonl" => "timeline",
        "probes" | "sentinel.jsonl" | "sentinel.dsse.json" => "series",
        "lease" => "lease",
        "chain" => "chain",
        "restore" => "receipt",
        "diff" => "diff",
        "collect" => "collected",
        "attest" => "attested",
        name if report::COMPUTED.contains(&name) => "computed",
        _ => "other",
    }
}

/// Seals the run in a directory: writes what is computed, the index, the statements, and the tar beside it.
///
/// # Errors
/// [`Class::Evidence`] for a run that is sealed already, or has a secret in a file that was not collected; what
/// [`super::recompute::recompute`] refuses; what cannot be read or written.
pub fn seal(run: &RunDir, signer: &dyn Signer) -> Result<Sealed, EvidenceError> {
    let write = |name: &str, bytes: &[u8]| {
        run.write(name, bytes).map_err(|source| EvidenceError::Write { path: run.file(name), source })
    };
    let mut files = Files::read(run.path())?;
    if files.get(STATEMENT).is_some() {
        return Err(Refusal::new(
            Class::Evidence,
            run.path().display().to_string(),
            "a run that is not sealed",
            "a bundle",
        )
        .with_hint("a bundle is never changed; `bootstrap evidence verify` checks it")
        .into());
    }
    let old: Vec<String> = files.iter().map(|(name, _)| name.to_owned()).filter(|name| !is_input(name)).collect();
    old.iter().for_each(|name| files.remove(name));
    for (name, cleaned) in without_secrets(&files)? {
        write(&name, &cleaned)?;
        files.set(&name, cleaned);
    }
    let run_files = Run::read(&files, Some(signer.public().id()))?;
    let result = run_files.result();
    let computed = report::computed(&run_files, &result);
    for (name, bytes) in computed {
        // A number that a strict reader refuses would be found only when it is too late to run it again.
        if name == RESULT {
            strict::<serde_json::Value>(&bytes, RESULT_CAP, RESULT)?;
        }
        write(name, &bytes)?;
        files.set(name, bytes);
    }
    let index = json_of(&index(&result, &files));
    let bundle = Digest::sha256(&index);
    let (tool, host) = (receipt::tool().map_err(describe)?, receipt::host().map_err(describe)?);
    let evidence = evidence_of(&result, tool, host, signer.public().id());
    let sign = |payload: &[u8]| -> Result<Vec<u8>, Refusal> {
        let mut bytes = envelope::sign(evidence::PAYLOAD_TYPE, payload, &[signer])?;
        bytes.push(b'\n');
        Ok(bytes)
    };
    // The statement comes last: with it the bundle is sealed.
    for (name, bytes) in [
        (INDEX, index),
        (RESULT_ENV, report::env(&result, Some(&bundle)).into_bytes()),
        (TEST_RESULT, sign(&evidence.test_result(bundle))?),
        (STATEMENT, sign(&evidence.payload(bundle)?)?),
    ] {
        write(name, &bytes)?;
        files.set(name, bytes);
    }
    let tar = PathBuf::from(format!("{}.tar", run.path().display()));
    write_tar(&files, &tar).map_err(|source| EvidenceError::Write { path: tar.clone(), source })?;
    Ok(Sealed { bundle, tar, statement: run.file(STATEMENT), result })
}

fn describe(error: ReceiptError) -> EvidenceError {
    match error {
        ReceiptError::Describe { path, source } => EvidenceError::Read { path, source },
        other => EvidenceError::Read { path: "/proc/self/exe".into(), source: io::Error::other(other.to_string()) },
    }
}

/// Whether a file is part of what was recorded: not computed, and not hidden.
fn is_input(name: &str) -> bool {
    let hidden = name.split('/').any(|part| part.starts_with('.'));
    !hidden && !NOT_LISTED.contains(&name) && !report::COMPUTED.contains(&name)
}

/// What was collected, without secrets. A secret elsewhere stops the sealing: taking it out would break what it stands in.
fn without_secrets(files: &Files) -> Result<Vec<(String, Vec<u8>)>, Refusal> {
    let mut cleaned = Vec::new();
    for (name, bytes) in files.iter() {
        let Some(line) = redact::find(bytes) else {
            continue;
        };
        if !name.starts_with("collect/") {
            return Err(Refusal::new(
                Class::Evidence,
                format!("{name} line {line}"),
                "no secret",
                "what looks like one",
            )
            .with_hint("take it out of where it came from, and run again"));
        }
        cleaned.push((name.to_owned(), redact::clean(bytes)));
    }
    Ok(cleaned)
}

/// The index of these files.
pub(super) fn index(result: &RunResult, files: &Files) -> Index {
    let listed = files.iter().filter(|(name, _)| !NOT_LISTED.contains(name));
    let file = |(name, bytes): (&str, &[u8])| IndexFile {
        path: name.to_owned(),
        sha256: Digest::sha256(bytes),
        bytes: bytes.len() as u64,
        role: role_of(name).to_owned(),
    };
    Index {
        schema: SCHEMA.to_owned(),
        id: result.id.clone(),
        kind: result.kind.clone(),
        scenario: result.scenario.clone(),
        mode: result.mode.word().to_owned(),
        challenge: result.challenge.clone(),
        plan_sha256: result.plan_sha256,
        chain: result.chain,
        root: result.root,
        started: result.started,
        ended: result.ended,
        rendering: RENDERING,
        files: listed.map(file).collect(),
    }
}

/// The statement about a result.
pub(super) fn evidence_of(result: &RunResult, tool: Tool, host: Host, node: Digest) -> Evidence {
    let check = |check: &super::result::Check| evidence::Check {
        id: check.id.clone(),
        required: check.required,
        status: check.status.word().to_owned(),
        claim: check.claim.word().to_owned(),
    };
    Evidence {
        chain: result.chain,
        root: result.root,
        id: result.id.clone(),
        kind: result.kind.clone(),
        scenario: result.scenario.clone(),
        group: result.group.clone(),
        mode: result.mode.word().to_owned(),
        verdict: result.verdict.word().to_owned(),
        grade: result.grade.word().to_owned(),
        challenge: result.challenge.clone(),
        plan: result.plan_sha256,
        begun: result.begun,
        head: result.head.as_ref().map(|head| Pointer { seq: head.seq, digest: head.sha256 }),
        manifest: result.manifest.as_ref().map(|manifest| manifest.sha256),
        started: result.started,
        finished: result.ended,
        rto_ms: result.measured.rto_ms,
        rpo_events: result.measured.rpo_events,
        rpo_ms: result.measured.rpo_ms,
        checks: result.checks.iter().map(check).collect(),
        tool,
        host,
        node,
        critical: None,
        ext: serde_json::Map::new(),
    }
}

/// A value as it is written: one field per line.
pub(super) fn json_of(value: &impl Serialize) -> Vec<u8> {
    let mut bytes = serde_json::to_vec_pretty(value).expect("plain fields always encode");
    bytes.push(b'\n');
    bytes
}

/// Writes the tar of these files: names ascending, no times and no owners, so that equal files give equal bytes.
fn write_tar(files: &Files, path: &Path) -> io::Result<()> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let file = tempfile::NamedTempFile::new_in(directory)?;
    tar_of(files, file.as_file())?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    fs::File::open(directory)?.sync_all()
}

/// Writes the tar to `out`.
///
/// # Errors
/// What `out` says.
pub fn tar_of(files: &Files, out: impl io::Write) -> io::Result<()> {
    let mut tar = tar::Builder::new(io::BufWriter::new(out));
    for (name, bytes) in files.iter() {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        header.set_mtime(0);
        header.set_entry_type(tar::EntryType::Regular);
        tar.append_data(&mut header, name, bytes)?;
    }
    let mut out = tar.into_inner()?;
    io::Write::flush(&mut out)
}
