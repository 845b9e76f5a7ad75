//! `bootstrap evidence verify`

use std::env;
use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;

use bootstrap::evidence::event::{CheckStatus, Claim};
use bootstrap::evidence::files::Files;
use bootstrap::evidence::policy::Policy;
use bootstrap::evidence::report::one_line;
use bootstrap::evidence::verify::{Answer, Outcome, Report as Verified, verify};
use clap::Args;
use jiff::Timestamp;
use manifests::digest::Digest;
use manifests::document::root::Root;
use manifests::refusal::{Class, Refusal, exit};
use serde::Serialize;
use snapkit::config::{Config, Environment, Flags};
use snapkit::span::Span;
use snapkit::terminal::exit_code::{CliError, Exit};
use snapkit::terminal::output::{Output, Report};
use snapkit::trust::{self, TrustDir, TrustError};

use super::problem;

/// Recompute a bundle from its raw files, and decide whether it shows what it says
///
/// Needs no network: the bundle, the pin of the trust root, and what is asked of it. Every file is compared with the signed
/// index, every signature checked, recovery time and loss are computed again from the probers' series, and every field of
/// the result is compared. Exit code 1 when the bundle is what it says and the answer is no, 6 for a run that changed
/// nothing, 53 for an old or replayed one, 95 and the codes of docs/exit-codes.md for one that is not believed.
#[derive(Debug, Args)]
pub(super) struct VerifyArgs {
    /// The bundle: a directory or a .tar
    #[arg(value_name = "BUNDLE")]
    bundle: PathBuf,
    /// SHA-256 of the first root's payload; default: the chains that are believed on this machine
    #[arg(long, value_name = "sha256:DIGEST")]
    pin: Option<String>,
    /// What is asked, as TOML (docs/evidence.md); options given here count instead of the same ones there
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// The longest time without a good answer, in seconds
    #[arg(long, value_name = "SECONDS", alias = "max-rto-seconds")]
    max_failover_seconds: Option<u64>,
    /// The most acknowledged writes that may be lost
    #[arg(long, value_name = "COUNT", alias = "max-rpo-events")]
    max_data_lag_events: Option<u64>,
    /// The longest that the run may be ago: 24h, 7d
    #[arg(long, value_name = "SPAN")]
    max_age: Option<Span>,
    /// What was given for this run beforehand
    #[arg(long, value_name = "TEXT")]
    challenge: Option<String>,
    /// The fewest probers that asked the ingress
    #[arg(long, value_name = "COUNT")]
    min_probers: Option<u64>,
    /// The lowest version of the newest root: judge it by no older one
    #[arg(long, value_name = "VERSION")]
    root_min_version: Option<u64>,
    /// Take a run that changed nothing, too
    #[arg(long)]
    allow_simulated: bool,
    /// Write the answers as JUnit XML too
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
}

/// What came of it.
#[derive(Debug, Serialize)]
struct Verdict {
    outcome: &'static str,
    exit_code: u8,
    bundle: Option<String>,
    root_version: Option<u64>,
    id: Option<String>,
    kind: Option<String>,
    scenario: Option<String>,
    mode: Option<&'static str>,
    verdict: Option<&'static str>,
    grade: Option<&'static str>,
    ended: Option<Timestamp>,
    rto_ms: Option<u64>,
    rpo_events: Option<u64>,
    signers: Vec<String>,
    refused: Vec<Refused>,
    answers: Vec<Answer>,
    claims: Vec<Stated>,
}

#[derive(Debug, Serialize)]
struct Refused {
    class: &'static str,
    object: String,
    expected: String,
    found: String,
    next: String,
}

#[derive(Debug, Serialize)]
struct Stated {
    id: String,
    required: bool,
    status: &'static str,
    claim: &'static str,
    observed: String,
    source: String,
}

pub(super) fn run(args: &VerifyArgs, out: &mut Output) -> Result<Exit, CliError> {
    let policy = policy(args)?;
    let files = Files::read(&args.bundle).map_err(problem)?;
    let (pin, newest) = authority(args, &files)?;
    let report = verify(&files, &pin, newest.as_ref(), &policy, Timestamp::now());
    let verdict = Verdict::of(&report);
    if let Some(path) = &args.junit {
        let junit = verdict.junit();
        fs::write(path, junit)
            .map_err(|error| CliError::from(error).context(format!("cannot write {}", path.display())))?;
    }
    out.report(&verdict)?;
    Ok(Exit::of_code(verdict.exit_code))
}

fn policy(args: &VerifyArgs) -> Result<Policy, CliError> {
    let mut policy = match &args.policy {
        None => Policy::default(),
        Some(path) => {
            let text = fs::read_to_string(path)
                .map_err(|error| CliError::usage(format!("cannot read the policy {}: {error}", path.display())))?;
            Policy::parse(&text, &path.display().to_string())
                .map_err(|refusal| CliError::from(refusal).with_exit(Exit::USAGE))?
        }
    };
    policy.max_failover_seconds = args.max_failover_seconds.or(policy.max_failover_seconds);
    policy.max_data_lag_events = args.max_data_lag_events.or(policy.max_data_lag_events);
    policy.max_age = args.max_age.or(policy.max_age);
    policy.challenge = args.challenge.clone().or(policy.challenge);
    policy.probers = args.min_probers.or(policy.probers);
    policy.root_min_version = args.root_min_version.or(policy.root_min_version);
    policy.allow_simulated |= args.allow_simulated;
    Ok(policy)
}

/// The pin that the bundle is judged by, and the newest root known here: never what the bundle says of itself.
fn authority(args: &VerifyArgs, files: &Files) -> Result<(Digest, Option<Root>), CliError> {
    let here =
        env::current_dir().map_err(|error| CliError::from(error).context("cannot tell the working directory"))?;
    let config = Config::load(&here, &Environment::new(env::vars_os()), &Flags::default())?;
    let trust = TrustDir::new(&config.home.value, &config.cache.value);
    // Not known here is no harm; known and broken or expired is.
    let known = |pin: &Digest| match trust::known_root(pin, &trust, Timestamp::now()) {
        Ok(root) => Ok(Some(root)),
        Err(error) if error.refusal().is_some_and(|refusal| refusal.class() == Class::NoPin) => Ok(None),
        Err(error) => Err(error),
    };
    if let Some(text) = &args.pin {
        let pin = text.strip_prefix("sha256:").unwrap_or(text).parse::<Digest>();
        let pin = pin.map_err(|_| CliError::usage(format!("--pin {text} is not sha256: and 64 hex digits")))?;
        return Ok((pin, known(&pin)?));
    }
    let mut pins: Vec<Digest> = trust.stores()?.into_values().collect();
    pins.sort_unstable();
    pins.dedup();
    let first = files.get("chain/root/1.json");
    let is_first = |pin: &&Digest| first.is_some_and(|bytes| Root::parse_first(bytes, pin).is_ok());
    match pins.iter().find(is_first).or(if pins.len() == 1 { pins.first() } else { None }) {
        Some(pin) => Ok((*pin, known(pin)?)),
        None => {
            let refusal =
                Refusal::new(Class::NoPin, "the bundle", "a chain to judge it by", "none that is believed here");
            Err(TrustError::from(refusal.with_hint("give --pin sha256:DIGEST, which the owner of the chain told you"))
                .into())
        }
    }
}

impl Verdict {
    fn of(report: &Verified) -> Self {
        let (outcome, exit_code) = match report.outcome() {
            Outcome::Good => ("good", exit::DONE),
            Outcome::No => ("no", exit::NO),
            Outcome::Simulated => ("simulated", exit::SIMULATED),
            Outcome::Refused(class) => ("refused", class.exit_code()),
        };
        let result = report.result.as_ref();
        let refused = |refusal: &Refusal| Refused {
            class: refusal.class().name(),
            object: refusal.object().to_owned(),
            expected: refusal.expected().to_owned(),
            found: refusal.found().to_owned(),
            next: refusal.hint().to_owned(),
        };
        let signers = report.statement.iter().flat_map(|statement| &statement.signers);
        Self {
            outcome,
            exit_code,
            bundle: report.bundle.map(|bundle| bundle.to_string()),
            root_version: report.root_version,
            id: result.map(|result| result.id.clone()),
            kind: result.map(|result| result.kind.clone()),
            scenario: result.map(|result| result.scenario.clone()),
            mode: result.map(|result| result.mode.word()),
            verdict: result.map(|result| result.verdict.word()),
            grade: result.map(|result| result.grade.word()),
            ended: result.map(|result| result.ended),
            rto_ms: result.and_then(|result| result.measured.rto_ms),
            rpo_events: result.and_then(|result| result.measured.rpo_events),
            signers: signers.map(|key| key.id().to_string()).collect(),
            refused: report.refused.iter().map(refused).collect(),
            answers: report.answers.clone(),
            claims: result.iter().flat_map(|result| &result.checks).map(Stated::of).collect(),
        }
    }

    /// Each question a test case.
    fn junit(&self) -> String {
        let xml = |text: &str| {
            let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
            text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
        };
        let mut cases = Vec::new();
        let failed = |name: &str, why: &str| {
            format!(
                "  <testcase classname=\"evidence\" name=\"{}\"><failure message=\"{}\"/></testcase>\n",
                xml(name),
                xml(why)
            )
        };
        for refused in &self.refused {
            let Refused { class, object, expected, found, .. } = refused;
            cases.push(failed(object, &format!("expected {expected}, found {found} ({class})")));
        }
        for answer in &self.answers {
            let name = &answer.metric;
            match answer.holds {
                true => cases.push(format!("  <testcase classname=\"evidence\" name=\"{}\"/>\n", xml(name))),
                false => cases.push(failed(name, &format!("{} of {}, in {}", answer.value, answer.limit, answer.file))),
            }
        }
        let failures = self.refused.len() + self.answers.iter().filter(|answer| !answer.holds).count();
        format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuite name=\"evidence\" tests=\"{}\" failures=\"{failures}\" \
             errors=\"0\">\n{}</testsuite>\n",
            cases.len(),
            cases.concat()
        )
    }
}

impl Stated {
    fn of(check: &bootstrap::evidence::result::Check) -> Self {
        Self {
            id: check.id.clone(),
            required: check.required,
            status: check.status.word(),
            claim: check.claim.word(),
            observed: check.observed.clone(),
            source: check.source.clone(),
        }
    }
}

impl Report for Verdict {
    const SCHEMA: &'static str = "bootstrap.evidence-verify/1";

    fn write_text(&self, out: &mut dyn Write) -> io::Result<()> {
        let id = &one_line(self.id.as_deref().unwrap_or("the bundle"));
        match self.outcome {
            "good" => writeln!(out, "{id}: it shows what it says, and that is enough")?,
            "no" => writeln!(out, "{id}: it is what it says, and that is NOT ENOUGH")?,
            "simulated" => writeln!(out, "{id}: SIMULATED; nothing was done, and nothing is shown by it")?,
            _ => writeln!(out, "{id}: NOT BELIEVED")?,
        }
        for Refused { class, object, expected, found, next } in &self.refused {
            let said = format!("{object}: expected {expected}, found {found} ({class})");
            writeln!(out, "  {}", one_line(&said))?;
            writeln!(out, "    next: {}", one_line(next))?;
        }
        for answer in &self.answers {
            let Answer { metric, value, limit, file, holds } = answer;
            let word = if *holds { "holds" } else { "DOES NOT HOLD" };
            writeln!(out, "  {}", one_line(&format!("{word}: {metric} is {value}, limit {limit} ({file})")))?;
        }
        let passed = CheckStatus::Passed.word();
        let failed = CheckStatus::Failed.word();
        let shown = |claim: Claim| {
            let of = move |stated: &&Stated| (stated.status, stated.claim) == (passed, claim.word());
            (claim.word(), self.claims.iter().filter(of).collect::<Vec<_>>())
        };
        let others = [
            ("failed", self.claims.iter().filter(|stated| stated.status == failed).collect::<Vec<_>>()),
            (
                Claim::Unproven.word(),
                self.claims.iter().filter(|stated| ![passed, failed].contains(&stated.status)).collect(),
            ),
        ];
        for (word, claims) in [shown(Claim::Proven), shown(Claim::Asserted)].into_iter().chain(others) {
            let ids: Vec<&str> = claims.iter().map(|stated| stated.id.as_str()).collect();
            if !ids.is_empty() {
                writeln!(out, "  {word}: {}", one_line(&ids.join(", ")))?;
            }
        }
        if let (Some(bundle), true) = (&self.bundle, self.refused.is_empty()) {
            let root = self.root_version.map_or_else(String::new, |version| format!(" under root version {version}"));
            writeln!(out, "  bundle {bundle}, signed by {}{root}", self.signers.join(", "))?;
        }
        Ok(())
    }
}
