//! `snapkit verify`: is everything there, and is it what was signed?

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::{Duration, Instant};

use clap::Args;
use manifests::chain::CHAIN_ROLES;
use manifests::digest::Digest;
use manifests::document::record::Body;
use manifests::document::snapshot::Snapshot;
use manifests::refusal::Class;
use serde::Serialize;
use snapkit::chain::{Chain, TilePolicy, record_name};
use snapkit::fetch::Fetcher;
use snapkit::id::PackId;
use snapkit::selector::Selector;
use snapkit::snapshot::Directories;
use snapkit::trust::TrustError;
use snapkit::verify::{Depth, Inventory, check_data, take_inventory};

use super::break_glass::{BreakGlass, BrokenGlass};
use super::exit_code::{CliError, Exit};
use super::explain;
use super::fork_proof;
use super::from::FromArgs;
use super::manifest::target::Summary;
use super::opened::Opened;
use super::output::{Bytes, Report, Took};
use super::session::Session;

/// Verify a chain: signatures, structure, and that every object is there
///
/// Without more, no data is read. Packs that turn out to be damaged are remembered on this machine: the next snapshot
/// stores what it needs of them again.
#[derive(Debug, Args)]
pub(super) struct VerifyArgs {
    /// Check the objects of this snapshot alone; the chain is checked in any case
    snapshot: Option<Selector>,
    /// Read and hash everything
    #[arg(long, conflicts_with = "sample")]
    data: bool,
    /// Read this share of the packs, another one each day
    #[arg(long, value_name = "PERCENT")]
    sample: Option<Percent>,
    /// Write hints and tiles again that are missing or wrong
    #[arg(long)]
    heal: bool,
    /// Print commands that check the roots and the newest record with openssl and coreutils, and do nothing else
    #[arg(long)]
    explain: bool,
    /// Check a proof that a chain was split, and do nothing else; no store is needed
    #[arg(long, value_name = "FILE", conflicts_with_all = ["snapshot", "data", "sample", "heal", "explain"])]
    fork_proof: Option<PathBuf>,
    /// The root that the proof must begin with; default: a root that is trusted here
    #[arg(long, value_name = "sha256:DIGEST", requires = "fork_proof")]
    root: Option<RootPin>,
    #[command(flatten)]
    glass: BreakGlass,
    #[command(flatten)]
    from: FromArgs,
}

impl VerifyArgs {
    /// The store that `--from` names.
    pub(super) fn place(&self) -> Option<String> {
        self.from.place()
    }
}

/// The digest of a first root, as bootstrap strings have it.
#[derive(Debug, Clone, Copy)]
struct RootPin(Digest);

impl FromStr for RootPin {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digest = text.strip_prefix("sha256:").unwrap_or(text).parse();
        digest.map(Self).map_err(|_| format!("{text:?} is not sha256: and 64 hex digits"))
    }
}

/// A share of the packs, 0 to 1.
#[derive(Debug, Clone, Copy)]
struct Percent(f64);

impl FromStr for Percent {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number: f64 = text.trim_end_matches('%').parse().map_err(|_| format!("{text:?} is no percentage"))?;
        if (0.0..=100.0).contains(&number) { Ok(Self(number / 100.0)) } else { Err("expected 0% to 100%".to_owned()) }
    }
}

#[derive(Debug, Serialize)]
struct Verified {
    chain: String,
    head: u64,
    records: u64,
    snapshots: u64,
    void_slots: u64,
    forks: u64,
    left_behind_slots: u64,
    packs: u64,
    pack_bytes: u64,
    unneeded_packs: u64,
    segments: u64,
    read: &'static str,
    read_bytes: u64,
    entries_checked: u64,
    findings: Vec<Found>,
    break_glass: Option<BrokenGlass>,
    manifest: Option<Summary>,
    seconds: f64,
}

#[derive(Debug, Serialize)]
struct Found {
    object: String,
    what: String,
    class: &'static str,
    healed: bool,
    snapshots: BTreeSet<String>,
}

impl Report for Verified {
    const SCHEMA: &'static str = "snapkit.verify/1";

    fn write_text(&self, out: &mut dyn Write) -> io::Result<()> {
        for found in &self.findings {
            write!(out, "{}: {}: {}", found.class, found.object, found.what)?;
            if found.healed {
                write!(out, " (written again)")?;
            }
            writeln!(out)?;
            if !found.snapshots.is_empty() {
                let shown: Vec<&str> = found.snapshots.iter().rev().take(5).map(String::as_str).collect();
                let more = found.snapshots.len() - shown.len();
                let more = if more > 0 { format!(" and {more} more") } else { String::new() };
                writeln!(out, "  needed by {}{more}", shown.join(", "))?;
            }
        }
        if let Some(manifest) = &self.manifest {
            let Summary { name, version, lag, snapshot, expires, .. } = manifest;
            writeln!(out, "manifest {name} v{version} is fresh until {expires}; its head is {lag} records behind")?;
            writeln!(out, "newest complete snapshot {snapshot}, pins version {}", manifest.pins_version)?;
        }
        let Self { records, snapshots, void_slots, packs, segments, .. } = self;
        writeln!(out, "{records} records, {snapshots} snapshots, {void_slots} void slots; newest {}", self.head)?;
        if self.forks > 0 {
            writeln!(out, "{} forks of the owner, which left {} slots behind", self.forks, self.left_behind_slots)?;
        }
        writeln!(out, "{packs} packs of {}, {segments} segments", Bytes(self.pack_bytes))?;
        if self.unneeded_packs > 0 {
            writeln!(out, "{} packs that no snapshot needs: runs that were interrupted", self.unneeded_packs)?;
        }
        if let Some(glass) = &self.break_glass {
            writeln!(out, "{}", glass.line())?;
        }
        writeln!(out, "data read: {}, {}", self.read, Bytes(self.read_bytes))?;
        let verdict = if self.findings.is_empty() { "nothing is wrong" } else { "something is wrong, see above" };
        writeln!(out, "{verdict}; took {}", Took(Duration::from_secs_f64(self.seconds)))
    }
}

/// Who may sign a record of a kind: `docs/format/record.md`.
fn roles_of(kind: &str) -> &'static [&'static str] {
    match kind {
        "genesis" | "fork" => &["root"],
        "snapshot" | "image" => &["writer"],
        "rollback" => &["manifest", "writer"],
        "drill" => &["drill", "writer"],
        _ => CHAIN_ROLES,
    }
}

/// The commands that check record `seq`.
fn explained(opened: &Opened, chain: &Chain<'_>, seq: u64) -> Result<String, CliError> {
    let record = chain.record(seq)?;
    let url = opened.store.url();
    let document = explain::Document {
        what: format!("record {seq} of the store {url}"),
        get: explain::get(url, &format!("chain/{seq:020}.json"), "document.json"),
        digest: record.digest,
        roles: roles_of(record.body.kind()),
        signers: record.signers,
    };
    let roots = opened.trust.kept_roots(&opened.pin.root)?;
    let get = |version: u64, file: &str| explain::get(url, &format!("root/{version}.json"), file);
    explain::script(&opened.pin.root, &roots, &get, &document).map_err(|refusal| TrustError::from(refusal).into())
}

pub(super) fn run(args: &VerifyArgs, session: &mut Session<'_>) -> Result<Exit, CliError> {
    let started = Instant::now();
    if let Some(file) = &args.fork_proof {
        return fork_proof::run(file, args.root.map(|RootPin(digest)| digest), session);
    }
    let (opened, manifest) = args.from.open(session)?;
    let chain = opened.chain_unless(&args.glass)?;
    let glass = args.glass.lift(&chain, session);
    let newest = chain.head()?;
    if args.explain {
        session.out.bytes(explained(&opened, &chain, newest.head.seq)?.as_bytes())?;
        return Ok(BrokenGlass::exit(glass.as_ref(), Exit::DONE));
    }
    let chosen = match &args.snapshot {
        Some(selector) => Some(selector.resolve(&chain)?.header.seq),
        None => None,
    };
    let mut snapshots: Vec<(String, Snapshot)> = Vec::new();
    let policy = if args.heal { TilePolicy::Heal } else { TilePolicy::Check };
    let walk = chain.walk_all(&newest, policy, &mut |record| {
        if let (Body::Snapshot(snapshot), Some(name)) = (&record.body, record_name(record))
            && chosen.is_none_or(|seq| seq == record.header.seq)
        {
            snapshots.push((name, (**snapshot).clone()));
        }
        // An image's archive is a tree like any other.
        if let (Body::Image(archive), None) = (&record.body, chosen) {
            snapshots
                .push((format!("image {} of record {}", archive.image.name, record.header.seq), archive.state.clone()));
        }
        if session.cancel.is_requested() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    session.cancel.check()?;
    let fetcher = Fetcher::new(&*opened.store);
    let mut inventory = Inventory::default();
    for (name, snapshot) in &snapshots {
        session.cancel.check()?;
        inventory.add(&fetcher, name, snapshot)?;
    }
    let segments = chain.segments(&newest)?;
    let mut report = snapkit::verify::Report::default();
    take_inventory(&*opened.store, &inventory, &segments, &mut report)?;
    let (depth, read) = match (args.data, args.sample) {
        (true, _) => (Depth::All, "all"),
        (false, Some(Percent(share))) => (Depth::Sample(share), "a sample"),
        (false, None) => (Depth::Presence, "none"),
    };
    let expected = match depth {
        Depth::All => report.pack_bytes,
        Depth::Sample(share) => (report.pack_bytes as f64 * share) as u64,
        Depth::Presence => 0,
    };
    session.out.note(format_args!(
        "{} snapshots, {} packs of {}; about {} to read",
        snapshots.len(),
        report.packs,
        Bytes(report.pack_bytes),
        Bytes(expected)
    ));
    if depth != Depth::Presence {
        let scratch = opened.cache().join("scratch");
        let (progress, reporter) = session.show_progress();
        let all = snapshots.into_iter();
        check_data(&fetcher, all, &inventory, &segments, depth, &scratch, &mut report, &session.cancel, &progress)?;
        drop(reporter);
    }
    inventory.name_affected(&fetcher, &mut report);
    let damaged: BTreeSet<PackId> = report.findings.iter().filter_map(|finding| finding.pack).collect();
    let forget = depth == Depth::All && chosen.is_none();
    remember(&Directories { cache: opened.cache() }.damaged(), &damaged, forget)?;
    let of_chain = walk.problems.iter().map(|problem| Found {
        object: problem.refusal.object().to_owned(),
        what: format!("expected {}, found {}", problem.refusal.expected(), problem.refusal.found()),
        class: problem.refusal.class().name(),
        healed: problem.healed,
        snapshots: BTreeSet::new(),
    });
    let of_data = report.findings.iter().map(|finding| Found {
        object: finding.object.clone(),
        what: finding.what.clone(),
        class: finding.class.name(),
        healed: false,
        snapshots: finding.snapshots.clone(),
    });
    let findings: Vec<Found> = of_chain.chain(of_data).collect();
    let exit = BrokenGlass::exit(glass.as_ref(), exit_of(&findings));
    session.out.report(&Verified {
        chain: chain.id().to_string(),
        head: newest.head.seq,
        records: walk.records,
        snapshots: walk.snapshots,
        void_slots: walk.voids,
        forks: walk.forks,
        left_behind_slots: walk.left_behind,
        packs: report.packs,
        pack_bytes: report.pack_bytes,
        unneeded_packs: report.unneeded_packs,
        segments: report.segments,
        read,
        read_bytes: report.read_bytes,
        entries_checked: report.entries,
        findings,
        break_glass: glass,
        manifest,
        seconds: started.elapsed().as_secs_f64(),
    })?;
    Ok(exit)
}

/// "Written by a newer snapkit" is not damage and has its own exit code.
fn exit_of(findings: &[Found]) -> Exit {
    let open = || findings.iter().filter(|found| !found.healed);
    if open().next().is_none() {
        Exit::DONE
    } else if open().all(|found| found.class == Class::Newer.name()) {
        Exit::of_code(Class::Newer.exit_code())
    } else {
        Exit::NO
    }
}

/// Keeps the list of damaged packs on this machine, which writers do not reuse.
fn remember(path: &Path, damaged: &BTreeSet<PackId>, forget: bool) -> Result<(), CliError> {
    let known = std::fs::read_to_string(path).unwrap_or_default();
    let mut all = damaged.clone();
    if !forget {
        all.extend(known.lines().filter_map(|line| line.parse::<PackId>().ok()));
    }
    let text: String = all.iter().map(|pack| format!("{pack}\n")).collect();
    if text == known {
        return Ok(());
    }
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory)?;
    }
    Ok(std::fs::write(path, text)?)
}
