//! What a store was found to enforce, signed by the node that tried it.
//!
//! Some stores answer 200 to a condition that they ignore, and then two nodes lead at once. Automatic leadership therefore
//! needs a probe that passed, of this store, by this version, signed with this node's key. It is kept beside the trust of the
//! machine and made anew when it does not fit. Documented in `docs/leadership.md`. Layer: asks the store, keeps a file.

use std::fs;
use std::path::Path;

use jiff::{SignedDuration, Timestamp};
use manifests::envelope::{self, Signers};
use manifests::keys::Signer;
use serde::{Deserialize, Serialize};
use snapkit::store::Store;
use snapkit::store::probe::{self, Verdict};

/// The payload type. It is never in a store.
const PAYLOAD_TYPE: &str = "application/vnd.snapkit.capability+json";
/// The largest such file, in bytes.
const CAP: usize = 64 * 1024;
/// How long a result is believed.
const BELIEVED: SignedDuration = SignedDuration::from_hours(24 * 7);

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Capability {
    store: String,
    version: String,
    time: Timestamp,
    fit: bool,
    /// What was tried and did not pass.
    problems: Vec<String>,
}

/// Makes sure that `store` was probed by this node and found fit, and keeps the signed result in `file`.
///
/// # Errors
/// What the store does not enforce, in words.
pub fn ensure(store: &dyn Store, signer: &dyn Signer, file: &Path, now: Timestamp) -> Result<(), String> {
    if read(file, signer).is_some_and(|kept| {
        let age = now.duration_since(kept.time);
        kept.fit && kept.store == store.url() && kept.version == env!("CARGO_PKG_VERSION") && age.abs() < BELIEVED
    }) {
        return Ok(());
    }
    let report = probe::probe(store, "");
    let failed = report.checks.iter().filter(|check| check.needed_for_writing && check.verdict != Verdict::Passed);
    let problems: Vec<String> = failed.map(|check| format!("{}: {}", check.name, check.reason)).collect();
    let capability = Capability {
        store: store.url().to_owned(),
        version: env!("CARGO_PKG_VERSION").into(),
        time: now,
        fit: report.fit_for_writing,
        problems,
    };
    write(file, signer, &capability)?;
    if capability.fit { Ok(()) } else { Err(capability.problems.join("; ")) }
}

/// The kept result, if this node's key signed it.
fn read(file: &Path, signer: &dyn Signer) -> Option<Capability> {
    let bytes = fs::read(file).ok().filter(|bytes| bytes.len() <= CAP)?;
    let key = signer.public();
    let signers = Signers { name: "this node".into(), known: vec![key], allowed: vec![key], threshold: 1 };
    let verified = envelope::verify(&bytes, CAP, &[PAYLOAD_TYPE], &signers, "the result of a probe").ok()?;
    serde_json::from_slice(verified.payload()).ok()
}

fn write(file: &Path, signer: &dyn Signer, capability: &Capability) -> Result<(), String> {
    let payload = serde_json::to_vec(capability).expect("strings always encode");
    let bytes = envelope::sign(PAYLOAD_TYPE, &payload, &[signer]).map_err(|refusal| refusal.to_string())?;
    let failed = |error: std::io::Error| format!("cannot keep the result of the probe in {}: {error}", file.display());
    if let Some(parent) = file.parent() {
        fs::create_dir_all(parent).map_err(failed)?;
    }
    let staged = file.with_extension("new");
    fs::write(&staged, bytes).and_then(|()| fs::rename(&staged, file)).map_err(failed)
}
