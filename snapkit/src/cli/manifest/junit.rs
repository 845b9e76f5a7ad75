//! JUnit XML, as test reports of pipelines show it.

use super::check::Check;

/// A report with one case per question.
pub(super) fn of_checks(title: &str, checks: &[Check]) -> String {
    let failures = checks.iter().filter(|check| check.problem.is_some()).count();
    let skipped = checks.iter().filter(|check| check.skipped).count();
    let mut cases = String::new();
    for check in checks {
        let open = format!(r#"    <testcase classname="snapkit.manifest" name="{}: {}""#, escaped(title), check.name);
        cases.push_str(&match (&check.problem, check.skipped) {
            (Some(problem), _) => {
                let problem = escaped(problem);
                format!("{open}>\n      <failure message=\"{problem}\">{problem}</failure>\n    </testcase>\n")
            }
            (None, true) => format!("{open}>\n      <skipped/>\n    </testcase>\n"),
            (None, false) => format!("{open}/>\n"),
        });
    }
    suite(&format!(r#"tests="{}" failures="{failures}" errors="0" skipped="{skipped}""#, checks.len()), &cases)
}

/// A report of a check that could not run.
pub(super) fn of_error(error: &str) -> String {
    let error = escaped(error);
    let case = format!(
        "    <testcase classname=\"snapkit.manifest\" name=\"verified\">\n      <error message=\"{error}\">{error}</error>\n    \
         </testcase>\n"
    );
    suite(r#"tests="1" failures="0" errors="1" skipped="0""#, &case)
}

fn suite(counts: &str, cases: &str) -> String {
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n  <testsuite name=\"snapkit manifest check\" \
         {counts}>\n{cases}  </testsuite>\n</testsuites>\n"
    )
}

/// Text as it may stand in an attribute or an element; what XML cannot hold becomes a question mark.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\t' | '\n' => escaped.push(' '),
            control if control.is_control() || matches!(control, '\u{fffe}' | '\u{ffff}') => escaped.push('?'),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn what_would_break_the_report_is_escaped() {
        let check = Check { name: "verified", problem: Some("<&\"\u{1b}[31m\">".into()), skipped: false };
        let report = of_checks("a\"b", &[check]);
        assert!(report.contains(r#"name="a&quot;b: verified""#), "{report}");
        assert!(report.contains("&lt;&amp;&quot;?[31m&quot;&gt;"), "{report}");
        assert!(report.contains(r#"failures="1""#), "{report}");
    }
}
