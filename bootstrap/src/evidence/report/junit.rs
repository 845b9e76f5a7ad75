//! JUnit XML: each check and each step a test case, so that a pipeline shows what failed.

use std::fmt::Write as _;

use super::super::event::{CheckStatus, StepStatus};
use super::super::result::RunResult;
use super::one_line;

pub(super) fn render(result: &RunResult) -> String {
    let mut cases = String::new();
    let (mut tests, mut failures, mut skipped) = (0, 0, 0);
    let mut case = |class: &str, name: &str, ms: u64, failure: Option<String>, skip: Option<String>| {
        tests += 1;
        let time = format!("{}.{:03}", ms / 1000, ms % 1000);
        let _ = write!(cases, "  <testcase classname=\"{class}\" name=\"{}\" time=\"{time}\"", xml(name));
        let inner = match (&failure, &skip) {
            (Some(why), _) => {
                failures += 1;
                format!(">\n    <failure message=\"{}\"/>\n  </testcase>\n", xml(why))
            }
            (None, Some(why)) => {
                skipped += 1;
                format!(">\n    <skipped message=\"{}\"/>\n  </testcase>\n", xml(why))
            }
            (None, None) => "/>\n".to_owned(),
        };
        cases.push_str(&inner);
    };
    for step in &result.steps {
        let why = step.error.as_ref().map_or_else(String::new, |error| format!("{}: {}", error.code, error.text));
        let (failure, skip) = match step.status {
            StepStatus::Ok => (None, None),
            StepStatus::Failed => (Some(why), None),
            StepStatus::NotRun => (None, Some("not run".to_owned())),
            StepStatus::Skipped | StepStatus::Waived => (None, Some(why)),
        };
        case("step", &step.id, step.duration_ms.unwrap_or(0), failure, skip);
    }
    for check in &result.checks {
        let why = format!("{} ({}); expected {}", check.observed, check.claim.word(), check.expected);
        let (failure, skip) = match (check.status, check.required) {
            (CheckStatus::Passed, _) => (None, None),
            (CheckStatus::Failed, _) | (CheckStatus::Skipped, true) => (Some(why), None),
            (CheckStatus::Skipped, false) => (None, Some(why)),
        };
        case("check", &check.id, 0, failure, skip);
    }
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
         <testsuite name=\"{}\" tests=\"{tests}\" failures=\"{failures}\" errors=\"0\" skipped=\"{skipped}\" \
         time=\"{}.{:03}\" timestamp=\"{}\">\n{cases}</testsuite>\n",
        xml(&format!("{} {}", result.kind, result.scenario)),
        result.duration_ms / 1000,
        result.duration_ms % 1000,
        result.started.strftime("%Y-%m-%dT%H:%M:%S"),
    )
}

fn xml(text: &str) -> String {
    let mut escaped = String::new();
    for c in one_line(text).chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            // Not a character of XML.
            '\u{fffe}' | '\u{ffff}' => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}
