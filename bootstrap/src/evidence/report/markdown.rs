//! The report in Markdown: for tickets, wikis and after-action meetings (C72).

use std::fmt::Write as _;

use super::super::event::Claim;
use super::super::result::RunResult;
use super::{count, one_line, seconds, sentence, title};

pub(super) fn render(result: &RunResult) -> String {
    let mut out = String::new();
    let md =
        |text: &str| one_line(text).replace('\\', "\\\\").replace('|', "\\|").replace('<', "&lt;").replace('`', "'");
    let _ = writeln!(out, "# {} {}: {}\n", md(&result.kind), md(&result.scenario), title(result));
    let _ = writeln!(out, "{}\n", sentence(result));
    let _ = writeln!(out, "| | |\n|---|---|");
    let limit = |name: &str, unit: &str| {
        result.limits.get(name).map_or_else(String::new, |limit| format!(" (limit {limit}{unit})"))
    };
    let measured = &result.measured;
    let known = |value: Option<String>| value.unwrap_or_else(|| "not measured".to_owned());
    let rto =
        measured.rto_ms.map(|ms| format!("{}, within {} ms", seconds(ms), measured.rto_error_ms.unwrap_or_default()));
    let rpo =
        measured.rpo_events.map(|lost| format!("{lost} writes, over {}", seconds(measured.rpo_ms.unwrap_or_default())));
    let rows = [
        ("run", format!("{} in group {}", md(&result.id), md(&result.group))),
        ("when", format!("{} to {} ({})", result.started, result.ended, seconds(result.duration_ms))),
        ("recovery time", format!("{}{}", known(rto), limit("max_failover_seconds", " s"))),
        ("loss", format!("{}{}", known(rpo), limit("max_data_lag_events", ""))),
        ("grade", format!("{}, mode {}", result.grade.word(), result.mode.word())),
        (
            "claims",
            format!(
                "{} proven, {} asserted, {} unproven",
                count(result, Claim::Proven),
                count(result, Claim::Asserted),
                count(result, Claim::Unproven)
            ),
        ),
        ("operator", format!("{}: {}", md(&result.operator), md(&result.reason))),
        ("approved by", result.approver.as_deref().map_or("nobody was asked".to_owned(), md)),
        ("challenge", result.challenge.as_deref().map_or("none".to_owned(), md)),
        ("plan", result.plan_sha256.to_string()),
        ("chain, root", format!("{}, sha256:{}", result.chain, result.root)),
        ("tool", format!("{} {}, {}", md(&result.tool.name), md(&result.tool.version), result.tool.sha256)),
    ];
    for (name, value) in rows {
        let _ = writeln!(out, "| {name} | {value} |");
    }
    let _ = writeln!(
        out,
        "\n## Checks\n\n| check | required | status | claim | observed | expected | file |\n|---|---|---|---|---|---|---|"
    );
    for check in &result.checks {
        let _ = writeln!(
            out,
            "| {} | {} | {} | {} | {} | {} | {} |",
            md(&check.id),
            if check.required { "yes" } else { "no" },
            check.status.word(),
            check.claim.word(),
            md(&check.observed),
            md(&check.expected),
            md(&check.source)
        );
    }
    let _ = writeln!(out, "\n## Steps\n\n| phase | step | status | took | timebox |\n|---|---|---|---|---|");
    for step in &result.steps {
        let error =
            step.error.as_ref().map_or_else(String::new, |error| format!(": {} {}", md(&error.code), md(&error.text)));
        let _ = writeln!(
            out,
            "| {} | {} | {}{error} | {} | {} |",
            md(&step.phase),
            md(&step.id),
            step.status.word(),
            step.duration_ms.map_or_else(|| "–".to_owned(), seconds),
            seconds(step.timebox_ms)
        );
    }
    list(
        &mut out,
        "Faults",
        result.faults.iter().map(|fault| {
            let at = fault.at_ms.map_or_else(String::new, |ms| format!(" after {}", seconds(ms)));
            format!(
                "{} of {}{at}, {}",
                md(&fault.fault),
                md(&fault.node),
                if fault.healed { "healed" } else { "not healed" }
            )
        }),
    );
    list(
        &mut out,
        "Leaders",
        result
            .leaders
            .iter()
            .map(|leader| format!("term {}: {}, {} to {}", leader.term, md(&leader.node), leader.from, leader.until)),
    );
    list(
        &mut out,
        "Waived",
        result
            .waivers
            .iter()
            .map(|waiver| format!("{} by {}: {}", md(&waiver.id), md(&waiver.who), md(&waiver.reason))),
    );
    list(&mut out, "Done by hand", result.deviations.iter().map(|text| md(text)));
    list(
        &mut out,
        "Statements of people",
        result.attestations.iter().map(|said| format!("{} at {}: {}", md(&said.who), said.at, md(&said.text))),
    );
    list(
        &mut out,
        "To be put right",
        result.debts.iter().map(|debt| {
            format!("{}: {} ({})", md(&debt.id), md(&debt.text), if debt.open { "open" } else { "closed" })
        }),
    );
    list(
        &mut out,
        "Files that do not hold",
        result.problems.iter().map(|problem| format!("{}: {}", md(&problem.file), md(&problem.why))),
    );
    out
}

fn list(out: &mut String, title: &str, items: impl Iterator<Item = String>) {
    let items: Vec<String> = items.collect();
    if !items.is_empty() {
        let _ = writeln!(out, "\n## {title}\n");
        for item in &items {
            let _ = writeln!(out, "- {item}");
        }
    }
}
