//! The same probe from another place: `bootstrap probe` run there, with this inventory on its standard input.
//!
//! Credentials do not travel: the files and variables that the inventory names are those of that place. From the ingress its own
//! configuration test is run, too. Layer: the edge.

use std::time::Duration;

use super::{Assertion, Options, ProbeReport, Status, Vantage, Verdict};
use crate::command::Finished;
use crate::fleet::inventory::{Inventory, UnknownNode};
use crate::fleet::reach::{Reach, ReachError};

/// The name of the place where the ingress is.
const INGRESS: &str = "ingress";

impl ProbeReport {
    /// Asks from another place, too, and notes what was found there.
    ///
    /// # Errors
    /// [`UnknownNode`] where there is no such place.
    pub fn ask_from(&mut self, inventory: &Inventory, options: &Options, from: &str) -> Result<(), UnknownNode> {
        let (reach, program) = match (from, &inventory.ingress) {
            (INGRESS, Some(ingress)) => (Reach::of_ingress(ingress), &ingress.program),
            _ => {
                let node = inventory.expect_node(from)?;
                (Reach::of_node(node), &node.program)
            }
        };
        let found = reach.map_err(|error| error.to_string()).and_then(|reach| {
            let asked = asked(&reach, program, inventory, options);
            Ok((asked.map_err(|error| error.to_string())?, reach))
        });
        let report = match found {
            Err(problem) => Err(problem),
            Ok((ended, reach)) => {
                if let (INGRESS, Some(test)) =
                    (from, inventory.ingress.as_ref().and_then(|ingress| ingress.validate.as_ref()))
                {
                    self.config_test(&reach, test, options.timeout.unwrap_or_else(|| inventory.patience()));
                }
                parsed(&ended, from)
            }
        };
        let (status, code, observed) = match &report {
            Err(problem) => (Status::Failed, Some("no_report"), problem.clone()),
            Ok(report) if report.verdict == Verdict::Passed => (Status::Passed, None, counted(report)),
            Ok(report) => (Status::Failed, Some("failed_there"), counted(report)),
        };
        self.assertions.push(Assertion {
            id: "vantage".to_owned(),
            of: from.to_owned(),
            status,
            code: code.map(str::to_owned),
            expected: "the same holds from there".to_owned(),
            observed,
        });
        let (report, problem) = match report {
            Ok(report) => (Some(Box::new(report)), None),
            Err(problem) => (None, Some(problem)),
        };
        self.vantages.push(Vantage { from: from.to_owned(), report, problem });
        self.count();
        Ok(())
    }

    fn config_test(&mut self, reach: &Reach, test: &[String], limit: Duration) {
        let ended = reach.run(test, b"", limit.max(Duration::from_secs(10)));
        let (status, observed) = match &ended {
            Ok(ended) if ended.is_good() => (Status::Passed, "it ended with 0".to_owned()),
            Ok(ended) => (Status::Failed, ended.why()),
            Err(error) => (Status::Failed, error.to_string()),
        };
        self.assertions.push(Assertion {
            id: "ingress_config".to_owned(),
            of: INGRESS.to_owned(),
            status,
            code: (status == Status::Failed).then(|| "invalid".to_owned()),
            expected: "its configuration test passes".to_owned(),
            observed,
        });
    }
}

fn asked(reach: &Reach, program: &str, inventory: &Inventory, options: &Options) -> Result<Finished, ReachError> {
    let limit = options.timeout.unwrap_or_else(|| inventory.patience());
    let mut words: Vec<String> =
        [program, "probe", "--json", "--inventory", "-", "--timeout"].map(str::to_owned).into();
    words.push(limit.as_secs().max(1).to_string());
    for node in &options.skip_nodes {
        words.extend(["--skip-node".to_owned(), node.clone()]);
    }
    for (flag, given) in [("--skip-public", options.skip_public), ("--skip-control-api", options.skip_control)] {
        words.extend(given.then(|| flag.to_owned()));
    }
    if let Some(leader) = &options.expect_leader {
        words.extend(["--expect-leader".to_owned(), leader.clone()]);
    }
    // Four questions one after the other, and the way there and back.
    reach.run(&words, inventory.to_toml().as_bytes(), limit * 4 + Duration::from_secs(30))
}

fn parsed(ended: &Finished, from: &str) -> Result<ProbeReport, String> {
    let mut report: ProbeReport = serde_json::from_str(&ended.stdout).map_err(|_| ended.why())?;
    from.clone_into(&mut report.vantage);
    Ok(report)
}

fn counted(report: &ProbeReport) -> String {
    let first = report.failures().next();
    let first = first
        .map_or_else(String::new, |failure| format!(", first {} {}: {}", failure.of, failure.id, failure.observed));
    format!("{} passed, {} failed, {} skipped{first}", report.passed, report.failed, report.skipped)
}
