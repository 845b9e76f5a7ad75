//! `snapkit root lint`: what is unwise or will not work soon, before it hurts.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::Args;
use jiff::SignedDuration;
use manifests::document::root::{Finding, Weight, lint};
use serde::Serialize;
use snapkit::root::read_draft;

use super::{moment, newest, sign};
use crate::cli::exit_code::{CliError, Exit};
use crate::cli::opened::Opened;
use crate::cli::output::Report;
use crate::cli::session::Session;

/// Look for what is unwise in a root or a draft
///
/// Ends with 1 if there is a problem, and with 0 if there is nothing but advice; --strict counts advice too.
#[derive(Debug, Args)]
pub(super) struct LintArgs {
    /// A draft, or a copy of a root; default: the newest root of the store
    file: Option<PathBuf>,
    /// What expires within this time is a problem
    #[arg(long, value_name = "TIME", default_value = "30d")]
    within: String,
    /// Advice counts as a problem
    #[arg(long)]
    strict: bool,
}

#[derive(Debug, Serialize)]
struct Linted {
    version: u64,
    digest: String,
    findings: Vec<FindingView>,
}

#[derive(Debug, Serialize)]
struct FindingView {
    weight: String,
    code: &'static str,
    what: String,
    next: String,
}

impl From<Finding> for FindingView {
    fn from(Finding { weight, code, what, next }: Finding) -> Self {
        Self { weight: weight.to_string(), code, what, next }
    }
}

impl Report for Linted {
    const SCHEMA: &'static str = "snapkit.root-lint/1";

    fn write_text(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "root {}  sha256:{}", self.version, self.digest)?;
        for finding in &self.findings {
            writeln!(out, "{}: {} ({})", finding.weight, finding.what, finding.code)?;
            writeln!(out, "  next: {}", finding.next)?;
        }
        if self.findings.is_empty() { writeln!(out, "nothing found") } else { Ok(()) }
    }
}

pub(super) fn run(args: &LintArgs, session: &mut Session<'_>) -> Result<Exit, CliError> {
    let now = session.now;
    let within: SignedDuration = moment(&args.within, now)?.duration_since(now);
    let (document, digest, mut findings) = match &args.file {
        Some(file) => {
            let (draft, _) = read_draft(file)?;
            let mut findings = Vec::new();
            if draft.document().version > 1 {
                stale(&draft, session, &mut findings)?;
            }
            (draft.document().clone(), draft.digest(), findings)
        }
        None => {
            let opened = Opened::alone(session)?;
            let root = newest(&opened)?;
            let mut findings = Vec::new();
            let owner = opened.trust.owner_key(&opened.pin.root);
            if owner.exists() {
                findings.push(Finding {
                    weight: Weight::Advice,
                    code: "owner-here",
                    what: format!("the owner's key is on this machine, in {}", owner.display()),
                    next: "move it to a place where snapkit does not run".to_owned(),
                });
            }
            (root.document().clone(), root.digest(), findings)
        }
    };
    findings.extend(lint(&document, now, within));
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.weight));
    let least = if args.strict { Weight::Advice } else { Weight::Problem };
    let exit = if findings.iter().any(|finding| finding.weight >= least) { Exit::NO } else { Exit::DONE };
    let findings = findings.into_iter().map(FindingView::from).collect();
    session.out.report(&Linted { version: document.version, digest: digest.to_string(), findings })?;
    Ok(exit)
}

/// A draft that is behind what this machine knows, or that not enough have signed.
fn stale(
    draft: &manifests::document::root::Draft,
    session: &Session<'_>,
    findings: &mut Vec<Finding>,
) -> Result<(), CliError> {
    let mut find = |code, what, next: &str| {
        findings.push(Finding { weight: Weight::Problem, code, what, next: next.to_owned() });
    };
    let version = draft.document().version;
    let known = super::known_roots(session).len() as u64;
    if version <= known {
        let what = format!("it is root {version}, and this machine knows root {known}");
        find("stale-draft", what, "if it is not that root itself, prepare the change again on the newest one");
    }
    let old = match sign::previous(None, draft, session)? {
        Some(previous) => Some((version - 1, draft.approval_by(&previous)?)),
        None => None,
    };
    for (whose, approval) in [old, Some((version, draft.own_approval()))].into_iter().flatten() {
        if !approval.is_complete() {
            let missing = approval.missing();
            let what = format!("{missing} more signatures by the role root of root {whose} are missing");
            find("unsigned", what, "have it signed with `snapkit root sign`");
        }
    }
    Ok(())
}
