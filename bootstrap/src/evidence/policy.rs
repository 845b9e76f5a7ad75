//! The policy: what whoever verifies asks of a bundle. Documented in `docs/evidence.md`, "Policy". Layer: pure.

use std::collections::BTreeSet;

use manifests::refusal::{Class, Refusal};
use serde::{Deserialize, Deserializer, de};
use snapkit::span::Span;

use super::result::Grade;

/// What is asked. What is not set is not asked.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// The longest time without a good answer over a change of who leads.
    #[serde(default)]
    pub max_failover_seconds: Option<u64>,
    /// The most acknowledged writes that may be lost.
    #[serde(default)]
    pub max_data_lag_events: Option<u64>,
    /// The longest that the run may be ago.
    #[serde(default, deserialize_with = "span")]
    pub max_age: Option<Span>,
    /// What was given before the run.
    #[serde(default)]
    pub challenge: Option<String>,
    /// Checks that must have passed, beside those that every run of its scenario needs.
    #[serde(default)]
    pub required: Vec<String>,
    /// Checks that must be proven and not only asserted.
    #[serde(default)]
    pub proven: Vec<String>,
    /// The fewest probers of the ingress.
    #[serde(default)]
    pub probers: Option<u64>,
    /// The fewest machines that they asked from.
    #[serde(default)]
    pub hosts: Option<u64>,
    /// The lowest grade.
    #[serde(default)]
    pub grade: Option<Grade>,
    /// Scenarios, of which it must be one.
    #[serde(default)]
    pub scenarios: Vec<String>,
    /// The lowest version of the newest root that it is judged by.
    #[serde(default)]
    pub root_min_version: Option<u64>,
    /// Whether a run that changed nothing will do.
    #[serde(default)]
    pub allow_simulated: bool,
}

fn span<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Span>, D::Error> {
    String::deserialize(deserializer)?.parse().map(Some).map_err(|error| de::Error::custom(format!("{error}")))
}

impl Policy {
    /// Reads a policy file; `file` names it in refusals.
    ///
    /// # Errors
    /// [`Class::Evidence`] is never given: what is no policy is [`Class::Json`], with the line.
    pub fn parse(text: &str, file: &str) -> Result<Policy, Refusal> {
        toml::from_str(text).map_err(|error| {
            Refusal::new(Class::Json, file, "a policy in TOML", error.to_string().trim().to_owned())
                .with_hint("see docs/evidence.md, \"Policy\"")
        })
    }
}

/// The scenarios that are built in, by the kind of their run.
const BUILT_IN: &[(&str, &str)] = &[
    ("drill", "full"),
    ("drill", "restore"),
    ("failover", "planned"),
    ("failover", "emergency"),
    ("failover", "switchback"),
];

impl Policy {
    /// The checks without which a run of this scenario shows nothing. A scenario of another name than those that are built
    /// in could ask for anything, so it needs what the longest one needs, unless whoever verifies names it.
    pub fn required_of(&self, kind: &str, scenario: &str) -> BTreeSet<&'static str> {
        let is_known = BUILT_IN.contains(&(kind, scenario)) || self.scenarios.iter().any(|named| named == scenario);
        match (is_known, kind) {
            (true, _) => required(kind, scenario),
            (false, "drill") => required(kind, "full"),
            (false, _) => required(kind, "planned"),
        }
    }
}

/// The checks that a run of this scenario needs at least.
pub fn required(kind: &str, scenario: &str) -> BTreeSet<&'static str> {
    let common = ["tool-unchanged"];
    let failover = [
        "baseline",
        "lease-flips",
        "traffic-at-holder",
        "one-leader",
        "old-leader-down",
        "probers-alive",
        "rto",
        "health-after",
    ];
    let restore =
        ["manifest-fresh", "signatures", "prerequisites", "cold-restore", "restored-equals-manifest", "load-bearing"];
    let ends = ["timeboxes", "teardown"];
    let more: &[&str] = match (kind, scenario) {
        ("drill", "full") => &[
            "no-early-consume",
            "lease-flips",
            "traffic-at-holder",
            "follower-from-manifest",
            "takeover",
            "one-leader",
            "probers-alive",
            "sentinel",
            "clock-steady",
            "old-leader-down",
            "rto",
            "rpo",
            "health-after",
        ],
        ("failover", "planned") => &["drained", "nothing-lost"],
        ("failover", "switchback") => &["drained", "nothing-lost", "debts-closed", "no-skips"],
        ("failover", "emergency") => &["after-action"],
        _ => &[],
    };
    let mut all: BTreeSet<&str> = common.into_iter().chain(more.iter().copied()).collect();
    if kind == "drill" {
        all.extend(ends);
        if matches!(scenario, "full" | "restore") {
            all.extend(restore);
        }
    } else {
        all.extend(failover);
        if scenario == "emergency" {
            // Nobody measured yet when the leader was lost.
            all.remove("rto");
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_reads_what_is_documented_and_nothing_else() {
        let text = "max_failover_seconds = 30\nmax_data_lag_events = 0\nmax_age = \"7d\"\ngrade = \"full\"\nproven = [\"rto\"]\n";
        let policy = Policy::parse(text, "policy.toml").unwrap();
        assert_eq!(policy.max_age.unwrap().seconds(), 7 * 86_400);
        assert_eq!((policy.grade, policy.proven.len(), policy.allow_simulated), (Some(Grade::Full), 1, false));
        for wrong in ["max_age = \"soon\"", "max_ages = \"7d\"", "grade = \"good\"", "probers = \"two\""] {
            assert_eq!(Policy::parse(wrong, "policy.toml").unwrap_err().class(), Class::Json, "{wrong}");
        }
    }

    #[test]
    fn every_run_needs_checks_and_a_full_drill_needs_most() {
        for (kind, scenario) in [("drill", "restore"), ("failover", "planned"), ("failover", "mine"), ("drill", "mine")]
        {
            let some = required(kind, scenario);
            assert!(some.len() >= 3, "{kind} {scenario}: {some:?}");
        }
        assert!(required("drill", "restore").is_subset(&required("drill", "full")));
        assert_eq!(required("drill", "full").len(), 22);
    }

    #[test]
    fn a_scenario_of_an_unknown_name_needs_what_the_longest_one_needs_unless_the_policy_names_it() {
        let mut policy = Policy::default();
        assert_eq!(policy.required_of("drill", "full-quarterly"), required("drill", "full"));
        assert_eq!(policy.required_of("failover", "mine"), required("failover", "planned"));
        assert_eq!(policy.required_of("drill", "restore"), required("drill", "restore"));
        policy.scenarios = vec!["full-quarterly".to_owned()];
        assert_eq!(policy.required_of("drill", "full-quarterly"), required("drill", "full-quarterly"));
    }
}
