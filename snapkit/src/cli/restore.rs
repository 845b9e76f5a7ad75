//! `snapkit restore`: bring a snapshot back.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use serde::Serialize;
use snapkit::fetch::Fetcher;
use snapkit::restore::{self, Adapted, Destination, Options, Owners, Plan, Proof, Selection};
use snapkit::selector::Selector;

use super::exit_code::{CliError, Exit};
use super::opened::{Opened, snapshot_of};
use super::output::{Bytes, Report, Took};
use super::session::Session;

/// Restore a snapshot into a new directory
///
/// Everything is verified, staged beside the target, proved from what the file system holds, and appears in one step.
/// A snapshot with one tree is restored straight into TARGET, one with several into TARGET/NAME.
#[derive(Debug, Args)]
pub(super) struct RestoreArgs {
    /// Snapshot: latest, latest~2, name or unique prefix, number, or @TIME
    snapshot: Selector,
    /// Directory to make; it must be missing or empty
    target: PathBuf,
    /// Restore the tree NAME to PATH instead; can be repeated
    #[arg(long, value_name = "NAME=PATH")]
    map: Vec<String>,
    /// Restore only what matches, in gitignore syntax; can be repeated
    #[arg(long, value_name = "PATTERN")]
    include: Vec<String>,
    /// Restore only this path of the snapshot and what lies below it
    #[arg(long, value_name = "PATH")]
    path: Option<String>,
    /// Say what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// Where contents come from when the result is proved [default: written]
    #[arg(long, value_enum, value_name = "HOW")]
    proof: Option<ProofArg>,
    /// Who owns what is restored: numbers or names of the snapshot, or whoever restores
    #[arg(long, value_enum, value_name = "WHO", default_value_t)]
    owner: OwnerArg,
    /// Restore fifos and devices too
    #[arg(long)]
    devices: bool,
}

/// Where contents come from in a proof.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum ProofArg {
    /// The bytes as they were written
    Written,
    /// Every file read back
    Reread,
}

/// Who owns what is restored.
#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum OwnerArg {
    /// The numbers in the snapshot
    #[default]
    Ids,
    /// The names in the snapshot
    Names,
    /// Whoever restores
    Me,
}

#[derive(Debug, Serialize)]
struct Done {
    snapshot: String,
    seq: u64,
    id: String,
    dry_run: bool,
    targets: Vec<Target>,
    entries: u64,
    files: u64,
    bytes: u64,
    packs: u64,
    pack_bytes: u64,
    fetched_bytes: Option<u64>,
    content_digest: String,
    full_digest: String,
    exact: bool,
    proof: &'static str,
    changes: Vec<Change>,
    seconds: f64,
}

#[derive(Debug, Serialize)]
struct Target {
    tree: String,
    path: String,
}

/// One way in which the result differs from the snapshot, and the first paths.
#[derive(Debug, Serialize)]
struct Change {
    what: &'static str,
    count: u64,
    paths: Vec<String>,
}

impl Report for Done {
    const SCHEMA: &'static str = "snapkit.restore/1";

    fn write_text(&self, out: &mut dyn Write) -> io::Result<()> {
        let verb = if self.dry_run { "would restore" } else { "restored" };
        writeln!(out, "{verb} {} (record {})", self.snapshot, self.seq)?;
        for target in &self.targets {
            writeln!(out, "  {} -> {}", target.tree, target.path)?;
        }
        writeln!(out, "  {} entries, {} files, {}", self.entries, self.files, Bytes(self.bytes))?;
        match self.fetched_bytes {
            Some(fetched) => writeln!(out, "  fetched {}, proof {}", Bytes(fetched), self.proof)?,
            None => writeln!(out, "  from {} packs of {}", self.packs, Bytes(self.pack_bytes))?,
        }
        for change in &self.changes {
            writeln!(out, "  {}: {} paths, such as {}", change.what, change.count, change.paths.join(", "))?;
        }
        writeln!(out, "  content digest {}", self.content_digest)?;
        writeln!(out, "  full digest    {}", self.full_digest)?;
        if self.exact {
            writeln!(out, "  both are those of the signed record")?;
        }
        writeln!(out, "  took {}", Took(Duration::from_secs_f64(self.seconds)))
    }
}

pub(super) fn run(args: &RestoreArgs, session: &mut Session<'_>) -> Result<Exit, CliError> {
    let started = Instant::now();
    let opened = Opened::new(session)?;
    let chain = opened.chain()?;
    let record = args.snapshot.resolve(&chain)?;
    let (name, snapshot) = snapshot_of(&record)?;
    let trees: Vec<&str> = snapshot.private.trees.iter().map(|tree| tree.name.as_str()).collect();
    let selection = selection(args, &trees)?;
    let layout = layout(args, &trees, &selection.trees)?;
    let options = Options {
        owners: match args.owner {
            OwnerArg::Ids => Owners::Ids,
            OwnerArg::Names => Owners::Names,
            OwnerArg::Me => Owners::Me,
        },
        devices: args.devices,
        proof: proof(args, session),
        fetchers: if opened.store.url().starts_with('/') { 2 } else { 8 },
    };
    let fetcher = Fetcher::new(&*opened.store);
    let scratch = opened.cache().join("scratch");
    // The directory beside the target is made first: a target that cannot be used stops the run before any download.
    let mut destinations = Vec::new();
    if !args.dry_run {
        for (target, trees) in &layout {
            destinations.push(Destination::prepare(target, trees.clone()).map_err(refused)?);
        }
    }
    let xattrs = destinations.iter().all(Destination::has_xattrs);
    let plan =
        restore::plan(&fetcher, snapshot, &selection, &options, &scratch, xattrs, &session.cancel).map_err(refused)?;
    let fetched_bytes = if args.dry_run {
        None
    } else {
        let (progress, reporter) = session.show_progress();
        let restored =
            restore::apply(&fetcher, &plan, destinations, &options, &session.cancel, &progress).map_err(refused)?;
        drop(reporter);
        Some(restored.fetched_bytes)
    };
    let targets = layout.iter().flat_map(|(target, trees)| {
        trees.iter().map(|(tree, inside)| {
            let path = inside.as_ref().map_or_else(|| target.clone(), |inside| target.join(inside));
            Target { tree: tree.clone(), path: path.display().to_string() }
        })
    });
    let expected = plan.expected();
    session.out.report(&Done {
        snapshot: name,
        seq: record.header.seq,
        id: record.digest.to_string(),
        dry_run: args.dry_run,
        targets: targets.collect(),
        entries: plan.entries(),
        files: plan.files(),
        bytes: plan.bytes(),
        packs: plan.packs,
        pack_bytes: plan.pack_bytes,
        fetched_bytes,
        content_digest: expected.content.to_string(),
        full_digest: expected.full.to_string(),
        exact: plan.exact,
        proof: if options.proof == Proof::Reread { "reread" } else { "written" },
        changes: changes(&plan),
        seconds: started.elapsed().as_secs_f64(),
    })?;
    Ok(Exit::DONE)
}

/// A restore that was refused has the exit code of its class; a choice that matches nothing is the answer no.
fn refused(error: restore::RestoreError) -> CliError {
    match error.class() {
        Some(class) => CliError::of_class(error, class),
        None if matches!(error, restore::RestoreError::NothingSelected) => CliError::from(error).with_exit(Exit::NO),
        None => error.into(),
    }
}

fn proof(args: &RestoreArgs, session: &Session<'_>) -> Proof {
    match args.proof {
        Some(ProofArg::Reread) => Proof::Reread,
        Some(ProofArg::Written) => Proof::Written,
        None => session.config.restore.proof.value,
    }
}

/// What is chosen. With several trees a path begins with the name of its tree.
fn selection(args: &RestoreArgs, trees: &[&str]) -> Result<Selection, CliError> {
    let mut selection = Selection { include: args.include.clone(), ..Selection::default() };
    let Some(path) = &args.path else { return Ok(selection) };
    let path = path.trim_matches('/');
    if let [_] = trees {
        selection.subtree = Some(path.as_bytes().to_vec());
        return Ok(selection);
    }
    let (tree, inside) = path.split_once('/').unwrap_or((path, ""));
    if !trees.contains(&tree) {
        return Err(CliError::usage(format!("the snapshot has no tree {tree:?}"))
            .next(format!("begin the path with one of: {}", trees.join(", "))));
    }
    selection.trees = BTreeSet::from([tree.to_owned()]);
    selection.subtree = (!inside.is_empty()).then(|| inside.as_bytes().to_vec());
    Ok(selection)
}

/// Each target with its trees, and where in the target they go.
type Layout = Vec<(PathBuf, Vec<(String, Option<String>)>)>;

fn layout(args: &RestoreArgs, trees: &[&str], chosen: &BTreeSet<String>) -> Result<Layout, CliError> {
    let mut layout = Layout::new();
    let mut mapped = BTreeSet::new();
    for map in &args.map {
        let Some((tree, path)) = map.split_once('=') else {
            return Err(CliError::usage(format!("--map {map:?} is not NAME=PATH")));
        };
        if !trees.contains(&tree) || !mapped.insert(tree) {
            return Err(CliError::usage(format!(
                "--map names the tree {tree:?}, which the snapshot has not, or twice"
            ))
            .next(format!("its trees: {}", trees.join(", "))));
        }
        layout.push((path.into(), vec![(tree.to_owned(), None)]));
    }
    let several = trees.len() > 1;
    let rest = trees.iter().filter(|tree| !mapped.contains(*tree) && (chosen.is_empty() || chosen.contains(**tree)));
    let rest: Vec<(String, Option<String>)> =
        rest.map(|tree| ((*tree).to_owned(), several.then(|| (*tree).to_owned()))).collect();
    if !rest.is_empty() {
        layout.push((args.target.clone(), rest));
    }
    Ok(layout)
}

fn changes(plan: &Plan) -> Vec<Change> {
    let all: [(&'static str, &Adapted); 4] = [
        ("owned by whoever restores", &plan.changes.owners),
        ("setuid or setgid dropped", &plan.changes.setid),
        ("extended attributes dropped", &plan.changes.xattrs),
        ("fifos and devices left out", &plan.changes.devices),
    ];
    let made = all.into_iter().filter(|(_, adapted)| adapted.count > 0);
    made.map(|(what, adapted)| Change { what, count: adapted.count, paths: adapted.paths.clone() }).collect()
}
