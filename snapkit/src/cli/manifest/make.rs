//! `snapkit manifest generate` and `refresh`: signing what is fresh.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::Args;
use manifests::document::manifest::{ACCEPTED, Accepted};
use manifests::document::pins::Pins;
use manifests::refusal::exit;
use serde::Serialize;
use snapkit::chain::Chain;
use snapkit::manifest::{
    Expiry, Issued, Order, Surroundings, check_order, follow, issue, missing_needs, publish, published_version,
    write_file,
};
use snapkit::span::Span;
use snapkit::trust::{Judge, TrustDir};

use super::target::{Summary, TargetArgs};
use crate::cli::exit_code::{CliError, Exit};
use crate::cli::opened::Opened;
use crate::cli::output::Report;
use crate::cli::pins::{explained, read_draft, surroundings};
use crate::cli::session::Session;
use crate::cli::signer_options::SignerOptions;

#[derive(Debug, Args)]
pub(in crate::cli) struct GenerateArgs {
    /// The signed pins; default: `pins` of `[manifest]` in snapkit.toml
    #[arg(long, value_name = "FILE")]
    pins: Option<PathBuf>,
    /// Let something pass, with a reason that will stand in the manifest; WHAT is `torn`, `incomplete` or `unset`; can be
    /// repeated
    #[arg(long, value_name = "WHAT=REASON")]
    accept: Vec<Accept>,
    /// Refuse unless the newest record is this one
    #[arg(long, value_name = "SEQ")]
    expect_head: Option<u64>,
    #[command(flatten)]
    output: OutputOptions,
    #[command(flatten)]
    signer: SignerOptions,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct RefreshArgs {
    #[command(flatten)]
    pub(super) target: TargetArgs,
    /// Renew if it expires within this time; default: `refresh_days` of `[manifest]` in snapkit.toml
    #[arg(long, value_name = "SPAN")]
    within: Option<Span>,
    #[command(flatten)]
    output: OutputOptions,
    #[command(flatten)]
    signer: SignerOptions,
}

/// Where a manifest goes.
#[derive(Debug, Clone, Args)]
struct OutputOptions {
    /// Write it to this file too; default: `file` of `[manifest]` in snapkit.toml
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Leave the store as it is and write the file alone
    #[arg(long)]
    no_publish: bool,
    /// Check everything and say what would be issued; sign and write nothing
    #[arg(long, short = 'n')]
    dry_run: bool,
}

/// Something to let pass.
#[derive(Debug, Clone)]
struct Accept(Accepted);

impl FromStr for Accept {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some((what, reason)) if ACCEPTED.contains(&what) && !reason.trim().is_empty() => {
                Ok(Self(Accepted { what: what.to_owned(), reason: reason.to_owned() }))
            }
            _ => {
                Err(format!("expected {} with a reason, such as torn=\"a log is always written\"", ACCEPTED.join(", ")))
            }
        }
    }
}

#[derive(Debug, Serialize)]
struct Made {
    issued: bool,
    reason: String,
    summary: Option<Summary>,
    key: Option<String>,
    file: Option<PathBuf>,
    seq: u64,
    snapshot_seq: u64,
}

pub(super) fn generate(args: &GenerateArgs, session: &mut Session<'_>) -> Result<Exit, CliError> {
    let opened = Opened::alone(session)?;
    let chain = opened.chain()?;
    let name = session.config.manifest.name.value.clone();
    let path = args.pins.clone().unwrap_or_else(|| session.config.manifest.pins.value.clone());
    let (pins, pins_bytes) = signed_pins(&path, &name, &chain, &opened.trust)?;
    let mut accepted: Vec<Accepted> = args.accept.iter().map(|accept| accept.0.clone()).collect();
    accepted.sort_by(|a, b| a.what.cmp(&b.what));
    accepted.dedup_by(|a, b| a.what == b.what);
    let surroundings = surroundings();
    let missing = missing_needs(&pins.pins.needs, &Surroundings(&surroundings));
    if !missing.is_empty() && accepted.iter().all(|accepted| accepted.what != "unset") {
        return Err(CliError::refused(format!("no manifest is issued: {}", missing.join("; ")))
            .next("set them, or issue it without looking: --accept unset=REASON"));
    }
    let order = Order {
        pins,
        pins_bytes,
        stores: stores(session, &opened),
        lifetime: Span::days(session.config.manifest.lifetime_days.value),
        accepted,
        above: published_version(&chain, &name).map_err(explained)?,
    };
    if let Some(expected) = args.expect_head {
        let newest = chain.look()?.head.seq;
        if newest != expected {
            return Err(CliError::refused(format!("the newest record is {newest}, not {expected}"))
                .next("name the newest, or leave out --expect-head"));
        }
    }
    make(&order, &args.output, &args.signer, "it was asked for", &opened, &chain, session)
}

pub(super) fn refresh(args: &RefreshArgs, session: &mut Session<'_>) -> Result<Exit, CliError> {
    let target = args.target.find_alone(session)?;
    let chain = target.opened.chain()?;
    let trust = &target.opened.trust;
    let followed = follow(&chain, trust, &target.bytes, target.name.as_deref(), Expiry::Tell, &target.address)
        .map_err(explained)?;
    let freshness = followed.freshness;
    let within = args.within.unwrap_or_else(|| Span::days(session.config.manifest.refresh_days.value));
    let manifest = &followed.manifest.manifest;
    let expiring = manifest.expires.duration_since(chain.now()) <= within.into();
    let reason = match (freshness.is_expired(), freshness.lags(), expiring) {
        (true, _, _) => format!("its {} expired at {}", freshness.expires_first, freshness.expires),
        (_, true, _) => format!("the chain is {} records beyond its head", freshness.lag),
        (_, _, true) => format!("it expires at {}, within {within}", manifest.expires),
        _ if freshness.is_old() => {
            // A new signature would not make the snapshot younger.
            let why = format!("the newest snapshot, {}, is older than the pins allow", followed.snapshot_name);
            return Err(CliError::refused(why)
                .with_exit(Exit::of_code(exit::SNAPSHOT_OLD))
                .next("take one with `snapkit snapshot`, or find out why none is taken"));
        }
        _ => {
            let made = Made {
                issued: false,
                reason: format!("version {} is fresh", manifest.version),
                seq: manifest.head.seq,
                snapshot_seq: manifest.snapshot.seq,
                summary: Some(Summary::of(&followed)),
                key: None,
                file: None,
            };
            session.out.report(&made)?;
            return Ok(Exit::DONE);
        }
    };
    let order = Order {
        pins: followed.pins.clone(),
        pins_bytes: manifest.pins.to_bytes(),
        stores: manifest.stores.clone(),
        lifetime: Span::days(session.config.manifest.lifetime_days.value),
        accepted: manifest.accepted.clone(),
        above: published_version(&chain, &manifest.name).map_err(explained)?.max(manifest.version),
    };
    make(&order, &args.output, &args.signer, &reason, &target.opened, &chain, session)
}

/// The pins in a file, verified, compared with those seen before, and not expired.
fn signed_pins(
    path: &Path,
    name: &str,
    chain: &Chain<'_>,
    trust: &TrustDir,
) -> Result<(manifests::document::pins::VerifiedPins, Vec<u8>), CliError> {
    let object = path.display().to_string();
    let Some(draft) = read_draft(path)? else {
        return Err(CliError::usage(format!("there are no pins in {object}"))
            .next("make them with `snapkit pins edit`, and sign them with `snapkit pins sign`"));
    };
    let bytes = draft.to_bytes();
    let judge = Judge { pin: &chain.pin().root, root: chain.root(), chain: &chain.id() };
    let pins = Pins::verify(&bytes, judge.root, judge.chain, Some(name), &object)
        .map_err(|refusal| refusal_with_next(refusal, "sign them with `snapkit pins sign`"))?;
    if let Some(known) = trust.kept_pins(&judge, name)? {
        manifests::freshness::check_pins_succession(&pins, &known, &object)?;
    }
    Ok((pins, bytes))
}

fn refusal_with_next(refusal: manifests::refusal::Refusal, next: &str) -> CliError {
    use manifests::refusal::Class;
    match refusal.class() {
        Class::SigMissing | Class::Threshold => CliError::from(refusal).next(next),
        _ => refusal.into(),
    }
}

/// The stores that a manifest names: those of the configuration, else the store it is made from.
fn stores(session: &Session<'_>, opened: &Opened) -> Vec<String> {
    match &session.config.manifest.stores.value[..] {
        [] => vec![opened.store.url().to_owned()],
        stores => stores.to_vec(),
    }
}

fn make(
    order: &Order,
    output: &OutputOptions,
    signer: &SignerOptions,
    reason: &str,
    opened: &Opened,
    chain: &Chain<'_>,
    session: &mut Session<'_>,
) -> Result<Exit, CliError> {
    let file = output.out.clone().or_else(|| session.config.manifest.file.as_ref().map(|file| file.value.clone()));
    if output.no_publish && file.is_none() {
        return Err(CliError::usage("the manifest would go nowhere").next("name a file with --out FILE"));
    }
    if output.dry_run {
        let newest = chain.look()?;
        let record = check_order(chain, &opened.trust, &newest, order).map_err(explained)?;
        let (seq, snapshot_seq) = (newest.head.seq, record.header.seq);
        let reason = format!("a dry run; it would be, because {reason}");
        session.out.report(&Made { issued: false, reason, summary: None, key: None, file: None, seq, snapshot_seq })?;
        return Ok(Exit::DONE);
    }
    let signer = signer.for_role("manifest", chain.root(), &opened.trust, &opened.pin.root, &session.cancel)?;
    let issued: Issued = issue(chain, &opened.trust, order, &*signer).map_err(explained)?;
    let name = issued.manifest.manifest.name.clone();
    let key = match output.no_publish {
        true => None,
        false => Some(publish(chain, &issued).map_err(explained)?.version_key),
    };
    if let Some(file) = &file {
        write_file(file, &issued.bytes)?;
    }
    // From now on this machine refuses anything older.
    let object = key.clone().unwrap_or_else(|| "new manifest".to_owned());
    let followed =
        follow(chain, &opened.trust, &issued.bytes, Some(&name), Expiry::Refuse, &object).map_err(explained)?;
    session.out.report(&Made {
        issued: true,
        reason: reason.to_owned(),
        seq: issued.manifest.manifest.head.seq,
        snapshot_seq: issued.manifest.manifest.snapshot.seq,
        summary: Some(Summary::of(&followed)),
        key,
        file,
    })?;
    Ok(Exit::DONE)
}

impl Report for Made {
    const SCHEMA: &'static str = "snapkit.manifest-made/1";

    fn write_text(&self, out: &mut dyn Write) -> io::Result<()> {
        let Some(summary) = self.summary.as_ref().filter(|_| self.issued) else {
            return writeln!(out, "nothing was issued: {}", self.reason);
        };
        writeln!(out, "{} v{} was issued: {}", summary.name, summary.version, self.reason)?;
        writeln!(out, "  head      record {}", self.seq)?;
        writeln!(out, "  snapshot  {} (record {})", summary.pinned_snapshot, self.snapshot_seq)?;
        writeln!(out, "  expires   {}", summary.expires)?;
        for place in self.key.iter().cloned().chain(self.file.iter().map(|file| file.display().to_string())) {
            writeln!(out, "  in        {place}")?;
        }
        Ok(())
    }
}
