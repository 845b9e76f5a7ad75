//! Renderings of a result: for shells, test runners, people and browsers, each computed from the files alone.
//!
//! Whoever verifies renders again and compares, so a report cannot say more than its bundle. Layer: pure.

mod html;
mod junit;
mod lanes;
mod markdown;

use std::fmt::Write as _;

use manifests::digest::Digest;

use super::event::{CheckStatus, Claim, Mode, StepStatus};
use super::files::Files;
use super::recompute::Run;
use super::result::{RunResult, Verdict};
use super::seal::{NOT_LISTED, RESULT, json_of};

/// The names of what is computed and listed in the index: the renderings, and the names under which operators keep their
/// evidence (C95).
pub const COMPUTED: &[&str] = &[
    RESULT,
    "report.md",
    "report.html",
    "junit.xml",
    "bootstrap.json",
    "external-proof.txt",
    "follower-post.json",
    "primary-pre.json",
    "restore-post.json",
    "sha256.txt",
    "snapshot-head.txt",
];

/// Everything that is computed and listed, by [`COMPUTED`].
pub(super) fn computed(run: &Run<'_>, result: &RunResult) -> Vec<(&'static str, Vec<u8>)> {
    let (files, lanes) = (run.files, lanes::Lanes::of(run, result));
    let change = result.measured.changes.iter().max_by_key(|change| change.gap_ms);
    let pre = change.map(|change| {
        serde_json::json!({ "node": change.from_node, "term": change.from_term, "last_good_us": change.last_good_us })
    });
    let post = change.map(|change| {
        serde_json::json!({
            "node": change.to_node, "term": change.to_term, "first_good_us": change.first_good_us, "gap_ms": change.gap_ms,
        })
    });
    let restored: Vec<_> =
        ["cold-restore", "restored-equals-manifest", "load-bearing"].iter().filter_map(|id| result.check(id)).collect();
    let head = result.head.as_ref().map_or_else(String::new, |head| format!("{} {}\n", head.seq, head.sha256));
    vec![
        (RESULT, json_of(result)),
        ("report.md", markdown::render(result).into_bytes()),
        ("report.html", html::render(result, &lanes).into_bytes()),
        ("junit.xml", junit::render(result).into_bytes()),
        ("bootstrap.json", json_of(&result.manifest)),
        ("external-proof.txt", external_proof(result).into_bytes()),
        ("follower-post.json", json_of(&post)),
        ("primary-pre.json", json_of(&pre)),
        ("restore-post.json", json_of(&restored)),
        ("sha256.txt", sha256(files).into_bytes()),
        ("snapshot-head.txt", head.into_bytes()),
    ]
}

/// What was recorded, as `sha256sum --check` reads it.
fn sha256(files: &Files) -> String {
    let recorded = files.iter().filter(|(name, _)| !COMPUTED.contains(name) && !NOT_LISTED.contains(name));
    recorded.map(|(name, bytes)| format!("{}  {name}\n", Digest::sha256(bytes))).collect()
}

/// What was seen from outside: who answered, and what people stated.
fn external_proof(result: &RunResult) -> String {
    let mut text = String::new();
    for change in &result.measured.changes {
        let _ = writeln!(
            text,
            "prober {}: {} answered last in term {}, {} first in term {}, {} ms later",
            change.prober, change.from_node, change.from_term, change.to_node, change.to_term, change.gap_ms
        );
    }
    for said in &result.attestations {
        let file = said.file.as_ref().map_or_else(String::new, |file| format!(" ({file})"));
        let _ = writeln!(text, "{} {} states: {}{file}", said.at, one_line(&said.who), one_line(&said.text));
    }
    text
}

/// `result.env`: names that scripts of operators know (C63), and what is new beside them.
pub(super) fn env(result: &RunResult, bundle: Option<&Digest>) -> String {
    let phase = |id: &str| {
        let status = result.phases.iter().find(|phase| phase.id == id).map(|phase| phase.status);
        status.unwrap_or(StepStatus::NotRun).word().to_owned()
    };
    let seconds = |ms: Option<u64>| ms.map_or_else(String::new, |ms| format!("{}.{:03}", ms / 1000, ms % 1000));
    let number = |value: Option<u64>| value.map_or_else(String::new, |value| value.to_string());
    let values = [
        ("FAILOVER_SUCCESS", (result.verdict == Verdict::Passed).to_string()),
        ("FAILOVER_FAILED_STEP", result.failed_step.clone().unwrap_or_default()),
        ("FAILOVER_DURATION_SECONDS", result.duration_ms.div_ceil(1000).to_string()),
        ("DATA_SYNC_LAG_EVENTS", number(result.measured.rpo_events)),
        ("STEP_PRECHECK", phase("precheck")),
        ("STEP_BACKUP_SYNC_CHECK", phase("backup-sync-check")),
        ("STEP_DEMOTE_PRIMARY", phase("demote-primary")),
        ("STEP_PROMOTE_STANDBY", phase("promote-standby")),
        ("STEP_VERIFY", phase("verify")),
        ("RTO_USER_SECONDS", seconds(result.measured.rto_ms)),
        ("RPO_SECONDS", seconds(result.measured.rpo_ms)),
        ("MODE", result.mode.word().to_owned()),
        ("VERDICT", result.verdict.word().to_owned()),
        ("GRADE", result.grade.word().to_owned()),
        ("DRILL_ID", result.id.clone()),
        ("BUNDLE_SHA256", bundle.map_or_else(String::new, Digest::to_string)),
    ];
    values.iter().map(|(name, value)| format!("{name}={}\n", quoted(value))).collect()
}

/// A value for a POSIX shell: as it is where that is safe, else in single quotes.
fn quoted(value: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-' | b'/' | b':');
    match value.bytes().all(plain) {
        true => value.to_owned(),
        false => format!("'{}'", value.replace('\'', r"'\''")),
    }
}

/// The text on one line, without anything that could play tricks on whoever reads it.
pub fn one_line(text: &str) -> String {
    let hidden = |c: char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
    };
    text.chars().map(|c| if hidden(c) { '\u{fffd}' } else { c }).collect()
}

/// The word above everything else.
fn title(result: &RunResult) -> &'static str {
    match (result.mode, result.verdict) {
        (Mode::Simulated, _) => "simulated",
        (_, verdict) => verdict.word(),
    }
}

/// What it comes to, in a sentence.
fn sentence(result: &RunResult) -> String {
    if result.mode == Mode::Simulated {
        return "Nothing was changed: this was gone through, and shows nothing.".to_owned();
    }
    let mut said = Vec::new();
    if let Some(change) = result.measured.changes.iter().max_by_key(|change| change.gap_ms) {
        said.push(format!(
            "{} answered {} after {} had answered last.",
            one_line(&change.to_node),
            seconds(change.gap_ms),
            one_line(&change.from_node)
        ));
    }
    match result.measured.rpo_events {
        Some(0) => said.push("No acknowledged write was lost.".to_owned()),
        Some(1) => said.push("One acknowledged write was lost.".to_owned()),
        Some(lost) => said.push(format!("{lost} acknowledged writes were lost.")),
        None => {}
    }
    let failed: Vec<&str> = result
        .checks
        .iter()
        .filter(|check| check.required && check.status != CheckStatus::Passed)
        .map(|check| check.id.as_str())
        .collect();
    if !failed.is_empty() {
        said.push(format!("Not shown: {}.", failed.join(", ")));
    }
    if let Some(step) = &result.failed_step {
        said.push(format!("The step {} failed.", one_line(step)));
    }
    if said.is_empty() {
        said.push("Every step was done.".to_owned());
    }
    said.join(" ")
}

/// Milliseconds for people.
fn seconds(ms: u64) -> String {
    // Rounded as a whole, so that no part of it can come to 10 tenths or 60 seconds.
    let (tenths, whole) = (ms.saturating_add(50) / 100, ms.saturating_add(500) / 1000);
    match ms {
        ms if ms < 1000 => format!("{ms} ms"),
        ms if ms < 120_000 && tenths % 10 == 0 => format!("{} s", tenths / 10),
        ms if ms < 120_000 => format!("{}.{} s", tenths / 10, tenths % 10),
        _ => format!("{} min {} s", whole / 60, whole % 60),
    }
}

/// How many checks rest on what.
fn count(result: &RunResult, claim: Claim) -> usize {
    result.checks.iter().filter(|check| check.claim == claim).count()
}

#[cfg(test)]
mod tests {
    use super::seconds;

    #[test]
    fn durations_are_rounded_and_not_cut() {
        let shown = [999, 6_988, 6_949, 6_950, 119_999, 120_499, 179_600].map(seconds);
        assert_eq!(shown, ["999 ms", "7 s", "6.9 s", "7 s", "120 s", "2 min 0 s", "3 min 0 s"]);
    }
}
