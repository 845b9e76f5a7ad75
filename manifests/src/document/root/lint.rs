//! Lint: what a sound root should be told about before it becomes a problem.
//!
//! Everything that is not a root at all is refused when it is read. This looks at roots that are valid and unwise: keys
//! whose loss or theft would end the chain, roles that nobody can fill, and what expires soon.
//! Documented in `docs/keys.md`, "Is it wise?". Layer: pure.

use std::fmt;

use jiff::{SignedDuration, Timestamp};

use super::{ROLES, Role, RootDocument};

/// The roles whose documents several keys can sign.
pub(super) const SEVERAL_SIGNERS: &[&str] = &["release", "root"];
/// Roles whose key lies on a machine that runs unattended.
const ONLINE: &[&str] = &["drill", "manifest", "node", "prune", "writer"];
/// A root that is valid for longer is hardly ever looked at again.
const LONG: SignedDuration = SignedDuration::from_hours(2 * 366 * 24);

/// How much a finding weighs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Weight {
    /// Could be better.
    Advice,
    /// Something does not work, or will not soon, or one stolen online key is everything.
    Problem,
}

impl fmt::Display for Weight {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Weight::Advice => "advice",
            Weight::Problem => "problem",
        })
    }
}

/// One thing that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How much it weighs.
    pub weight: Weight,
    /// A stable name for scripts.
    pub code: &'static str,
    /// What it is.
    pub what: String,
    /// What to do.
    pub next: String,
}

/// Looks at a root at the time `now`; what expires `within` that time is found too.
pub fn lint(document: &RootDocument, now: Timestamp, within: SignedDuration) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut find = |weight, code, what: String, next: &str| {
        findings.push(Finding { weight, code, what, next: next.to_owned() });
    };
    expiry(document, now, within, &mut find);
    let role = |name: &str| document.roles.iter().find(|role| role.name == name);
    for name in ROLES {
        match role(name) {
            None => find(
                Weight::Problem,
                "nobody",
                format!("nobody has the role {name}"),
                "give it to a key with `snapkit root add-key`",
            ),
            Some(role) => thresholds(role, &mut find),
        }
    }
    if !document.writers.iter().any(|range| range.until_seq.is_none()) {
        let what = "no writer may sign without end, so the chain ends".to_owned();
        find(Weight::Problem, "no-writer", what, "add one with `snapkit root add-key --role writer`");
    }
    let owners = role("root").map_or(&[][..], |role| &role.keys);
    for owner in owners {
        let online: Vec<&str> =
            ONLINE.iter().copied().filter(|name| role(name).is_some_and(|role| role.keys.contains(owner))).collect();
        if !online.is_empty() {
            find(
                Weight::Problem,
                "owner-online",
                format!("key {owner} has the role root and also {}", online.join(", ")),
                "use another key for what machines sign, and keep the owner's key off them",
            );
        }
    }
    findings
}

fn expiry(
    document: &RootDocument,
    now: Timestamp,
    within: SignedDuration,
    find: &mut impl FnMut(Weight, &'static str, String, &str),
) {
    let renew = "prepare the next one with `snapkit root renew`, have it signed, and publish it";
    let expires = document.expires;
    if expires <= now {
        find(Weight::Problem, "expired", format!("it expired at {expires}"), renew);
    } else if expires <= now.saturating_add(within).unwrap_or(Timestamp::MAX) {
        find(Weight::Problem, "expiring", format!("it expires at {expires}"), renew);
    }
    if document.expires.duration_since(document.issued) > LONG {
        let what = format!("it is valid from {} to {expires}", document.issued);
        find(Weight::Advice, "long-lived", what, "renew it once a year, so that somebody still can");
    }
}

fn thresholds(role: &Role, find: &mut impl FnMut(Weight, &'static str, String, &str)) {
    let (name, keys, threshold) = (&role.name, role.keys.len(), role.threshold as usize);
    if threshold > 1 && !SEVERAL_SIGNERS.contains(&name.as_str()) {
        let what = format!("role {name} takes {threshold} signatures, and its documents are signed by one key");
        find(Weight::Problem, "unmet", what, "lower it with `snapkit root set-threshold`");
    }
    if name != "root" {
        return;
    }
    let (code, what, next) = match (keys, threshold) {
        (1, _) => (
            "single-owner",
            "one key has the role root: if it is lost, no key can ever be replaced".to_owned(),
            "keep copies of it in two places, or add owners with `snapkit root add-key --role root`",
        ),
        (keys, 1) => (
            "any-owner",
            format!("any one of {keys} keys of the role root replaces all others"),
            "raise the threshold with `snapkit root set-threshold root 2`",
        ),
        (keys, threshold) if keys == threshold => (
            "every-owner",
            format!("all {keys} keys of the role root are needed: if one is lost, no key can ever be replaced"),
            "add another owner, or lower the threshold",
        ),
        _ => return,
    };
    find(Weight::Advice, code, what, next);
}
