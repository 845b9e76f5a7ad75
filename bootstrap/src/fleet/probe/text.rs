//! The form of a probe for people: one aligned line per surface, then what does not hold.
//!
//! Layer: pure.

use std::io::{self, Write};

use snapkit::terminal::output::write_table;

use super::{Exchange, ProbeReport, Status, Surface, Verdict};

impl Exchange {
    /// `200(ok)`, `200(<empty>)` or `ERROR(why)`.
    pub fn shown(&self) -> String {
        match (&self.error, self.status) {
            (Some(error), _) => format!("ERROR({})", one_line(error)),
            (None, Some(status)) => match self.body.as_deref().unwrap_or_default() {
                "" => format!("{status}(<empty>)"),
                body => format!("{status}({})", one_line(body)),
            },
            (None, None) => "skipped".to_owned(),
        }
    }
}

/// The beginning of a text in one line.
fn one_line(text: &str) -> String {
    const CAP: usize = 80;
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let line: String = line.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
    match line.floor_char_boundary(CAP) {
        end if end < line.len() => format!("{}…", &line[..end]),
        _ => line,
    }
}

impl ProbeReport {
    /// Writes the form for people.
    ///
    /// # Errors
    /// Whatever writing gives.
    pub fn write_text(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut rows = vec![["surface", "health", "ready", "role", "answered by"].map(str::to_owned)];
        rows.extend(self.surfaces.iter().map(row));
        write_table(out, &rows)?;
        if let Some(control) = &self.control {
            let shown = |value: &Option<String>| value.clone().unwrap_or_else(|| "<none>".to_owned());
            match (&control.skipped, &control.problem) {
                (Some(_), _) => writeln!(out, "control  skipped")?,
                (_, Some(problem)) => {
                    writeln!(out, "control  ERROR({}: {})", problem.kind.as_str(), one_line(&problem.what))?;
                }
                _ => writeln!(
                    out,
                    "control  mode={} holder={}{} term={} expires={}",
                    shown(&control.mode),
                    shown(&control.holder),
                    control
                        .node
                        .as_ref()
                        .filter(|_| control.inferred)
                        .map_or_else(String::new, |node| format!(" (node {node} by its prefix)")),
                    shown(&control.term.map(|term| term.to_string())),
                    shown(&control.expires),
                )?,
            }
        }
        writeln!(
            out,
            "lease holder: {}; ingress target: {}",
            self.lease_holder().unwrap_or("not known"),
            self.ingress_target().unwrap_or("not known"),
        )?;
        for assertion in self.assertions.iter().filter(|assertion| assertion.status == Status::Failed) {
            let code = assertion.code.as_deref().unwrap_or_default();
            let (id, of) = (&assertion.id, &assertion.of);
            writeln!(out, "FAILED {of} {id} ({code}): expected {}, found {}", assertion.expected, assertion.observed)?;
        }
        for assertion in self.assertions.iter().filter(|assertion| assertion.status == Status::Skipped) {
            writeln!(out, "skipped {} {}: {}", assertion.of, assertion.id, assertion.observed)?;
        }
        for warning in &self.warnings {
            writeln!(out, "warning: {warning}")?;
        }
        for explanation in &self.explanations {
            writeln!(out, "because {}: {}", explanation.cause, explanation.what)?;
            writeln!(out, "  do this: {}", explanation.next)?;
        }
        let words = match self.verdict {
            Verdict::Passed => "passed".to_owned(),
            Verdict::Failed => format!("{} FAILED", self.failed),
            Verdict::Degraded => "DEGRADED: a node refuses switches until `bootstrap ack`".to_owned(),
            Verdict::NothingVerified => "NOTHING VERIFIED".to_owned(),
        };
        writeln!(
            out,
            "{words}: {} passed, {} failed, {} skipped, asked from {}",
            self.passed, self.failed, self.skipped, self.vantage
        )?;
        for vantage in &self.vantages {
            match (&vantage.report, &vantage.problem) {
                (Some(report), _) => {
                    writeln!(out, "\nfrom {}:", vantage.from)?;
                    report.write_text(out)?;
                }
                (None, problem) => {
                    writeln!(out, "\nfrom {}: no report: {}", vantage.from, problem.as_deref().unwrap_or_default())?;
                }
            }
        }
        Ok(())
    }
}

fn row(surface: &Surface) -> [String; 5] {
    if surface.skipped.is_some() {
        let skipped = || "skipped".to_owned();
        return [surface.name.clone(), skipped(), skipped(), skipped(), "-".to_owned()];
    }
    let who = &surface.who;
    let parts = [
        who.node.clone(),
        who.instance.as_ref().map(|instance| format!("instance {}", &instance[..instance.floor_char_boundary(12)])),
        who.term.map(|term| format!("term {term}")),
    ];
    let by: Vec<String> = parts.into_iter().flatten().collect();
    let by = if by.is_empty() { "not known".to_owned() } else { by.join(", ") };
    [surface.name.clone(), surface.health.shown(), surface.ready.shown(), surface.role.shown(), by]
}
