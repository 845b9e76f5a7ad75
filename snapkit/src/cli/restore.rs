//! `snapkit restore`: bring a snapshot back.

mod choice;
mod into;
mod report;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use clap::{Args, ValueEnum};
use jiff::Timestamp;
use snapkit::cancel::Cancel;
use snapkit::fetch::Fetcher;
use snapkit::keyfile;
use snapkit::node::{self, RecordOf, Wanted};
use snapkit::receipt::{self, Facts};
use snapkit::restore::{
    self, Changed, Destination, InPlace, Options, Owners, Plan, Proof, RestoreError, Restored, Update,
};
use snapkit::selector::Selector;

use self::choice::{Layout, Trees, choose, chosen, layout, selection};
use self::report::{Done, Preview};
use super::break_glass::{BreakGlass, BrokenGlass};
use super::exit_code::{CliError, Exit};
use super::opened::{Opened, snapshot_of};
use super::receipt_options::{ReceiptOptions, node_key};
use super::session::Session;

/// Restore a snapshot into a new directory, or as the next generation of a node
///
/// Everything is verified, staged beside the target, proved from what the file system holds, and appears in one step.
/// A snapshot with one tree is restored straight into TARGET, one with several into TARGET/NAME. A restore that was
/// interrupted goes on, with the snapshot it had chosen, when the same command is given again.
///
/// With --into, the snapshot becomes a generation of a node directory; `current` is switched to it, and back if what must
/// hold then does not.
#[derive(Debug, Args)]
pub(super) struct RestoreArgs {
    /// Snapshot: latest, latest~2, name or unique prefix, number, or @TIME
    snapshot: Selector,
    /// Directory to make; it must be missing or empty, unless it is updated in place
    #[arg(required_unless_present = "into")]
    target: Option<PathBuf>,
    /// Restore the whole snapshot as a generation of this node directory and switch to it
    #[arg(long, value_name = "NODE-DIR", conflicts_with_all = ["target", "map", "include", "path", "in_place", "receipt"])]
    into: Option<PathBuf>,
    /// Restore it even if an unchanged generation of the same snapshot is there
    #[arg(long, requires = "into", conflicts_with = "target")]
    again: bool,
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
    /// Directory that is likely to hold the same files: what hashes right is copied, not fetched; can be repeated
    #[arg(long, value_name = "DIR")]
    seed: Vec<PathBuf>,
    /// Update the directories that are there: write only what differs, each path in one step
    #[arg(long)]
    in_place: bool,
    /// With --in-place, remove what is not in the snapshot
    #[arg(long, requires = "in_place")]
    delete: bool,
    #[command(flatten)]
    receipt: ReceiptOptions,
    #[command(flatten)]
    glass: BreakGlass,
}

/// Where contents come from in a proof.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum ProofArg {
    /// The bytes as they were written
    Written,
    /// Every file read back
    Reread,
    /// Every file read back past the page cache
    Device,
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

pub(super) fn run(args: &RestoreArgs, session: &mut Session<'_>) -> Result<Exit, CliError> {
    let (began, started) = (Timestamp::now(), Instant::now());
    let opened = Opened::new(session)?;
    let chain = opened.chain_unless(&args.glass)?;
    let glass = args.glass.lift(&chain, session);
    let glass_signed = glass.as_ref().map(Into::into);
    let record = choose(args, &chain)?;
    let head = chain.accepted().unwrap_or_else(|| unreachable!("choosing a snapshot asks for the newest record"));
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
        seeds: seeds(args)?,
    };
    let draft = match args.dry_run {
        true => None,
        false => args.receipt.prepare(&opened, &chain, &selection, layout.iter().map(|(target, _)| target), session)?,
    };
    let fetcher = Fetcher::new(&*opened.store);
    let scratch = opened.cache().join("scratch");
    let make_plan = |xattrs: bool, cancel: &Cancel| {
        restore::plan(&fetcher, snapshot, &selection, &options, &scratch, xattrs, cancel)
    };
    let chosen = |trees: &[(String, Option<String>)]| chosen(args, &record, &chain, trees);
    if args.into.is_some() {
        let key = node_key(&opened);
        let key = key.exists().then(|| keyfile::read_secret(&key)).transpose()?.map(Arc::new);
        let (root, proof) = (opened.pin.root, options.proof);
        let write = |file: &Path, plan: &Plan, targets: &[(&str, PathBuf)], restored: &Restored| {
            let (record, head, selection, extra) = (&record, &head, &selection, 0);
            let (started, finished, break_glass) = (began, Timestamp::now(), glass_signed.as_ref());
            let facts = Facts {
                root,
                record,
                head,
                plan,
                selection,
                targets,
                extra,
                proof,
                break_glass,
                restored,
                started,
                finished,
            };
            key.as_ref().map_or(Ok(()), |key| receipt::write(file, key.clone(), &facts))
        };
        let wanted = Wanted {
            fetcher: &fetcher,
            record: RecordOf { snapshot: name, seq: record.header.seq, id: record.digest.to_string() },
            snapshot,
            options: &options,
            chosen: &chosen,
            scratch: &scratch,
            again: args.again,
            write_receipt: &write,
        };
        return into::run(args, &wanted, glass, session, started);
    }
    let (plan, outcome) = match (args.dry_run, args.in_place) {
        (true, false) => {
            let plan = make_plan(true, &session.cancel).map_err(refused)?;
            let preview = Preview::of(&plan, &layout, &options.seeds)?;
            (plan, Outcome { preview: Some(preview), ..Outcome::default() })
        }
        (false, false) => {
            // The directory beside the target is made first: a target that cannot be used stops the run before any
            // download.
            let prepare = |(target, trees): &(PathBuf, Trees)| {
                Destination::prepare(target, trees.clone(), &chosen(trees)).map_err(refused)
            };
            let destinations = layout.iter().map(prepare).collect::<Result<Vec<_>, _>>()?;
            let resumed = destinations.iter().any(Destination::is_resumed);
            let plan = make_plan(destinations.iter().all(Destination::has_xattrs), &session.cancel).map_err(refused)?;
            let (progress, reporter) = session.show_progress();
            let restored = restore::apply(&fetcher, &plan, destinations, &options, &session.cancel, &progress);
            drop(reporter);
            (plan, Outcome { restored: Some(restored.map_err(refused)?), resumed, ..Outcome::default() })
        }
        (dry_run, true) => {
            targets(&layout).try_for_each(|(_, path)| node::refuse_in_place(&path))?;
            let trees = targets(&layout).map(|(tree, path)| InPlace::open(&path, tree).map_err(refused));
            let trees = trees.collect::<Result<Vec<_>, _>>()?;
            let plan = make_plan(true, &session.cancel).map_err(refused)?;
            let (progress, reporter) = session.show_progress();
            let updated = if dry_run {
                restore::preview(&plan, &trees).map(|changed| (None, changed))
            } else {
                let update = Update {
                    fetcher: &fetcher,
                    plan: &plan,
                    delete: args.delete,
                    chosen: &chosen(&[]),
                    options: &options,
                    cancel: &session.cancel,
                    progress: &progress,
                };
                update.apply(&trees).map(|(restored, changed)| (Some(restored), changed))
            };
            drop(reporter);
            let (restored, changed) = updated.map_err(refused)?;
            (plan, Outcome { restored, changed, ..Outcome::default() })
        }
    };
    if let (Some(draft), Some(restored)) = (draft, &outcome.restored) {
        let targets: Vec<(&str, PathBuf)> = targets(&layout).collect();
        let (root, proof, finished) = (opened.pin.root, options.proof, Timestamp::now());
        let (record, head, plan, selection, targets) = (&record, &head, &plan, &selection, &targets);
        let extra = if args.delete { 0 } else { outcome.changed.iter().map(|changed| changed.extra).sum() };
        let (started, break_glass) = (began, glass_signed.as_ref());
        let facts = Facts {
            root,
            record,
            head,
            plan,
            selection,
            targets,
            extra,
            proof,
            break_glass,
            restored,
            started,
            finished,
        };
        draft.write(&facts).map_err(ReceiptOptions::not_written)?;
    }
    let expected = plan.expected();
    session.out.report(&Done {
        snapshot: name,
        seq: record.header.seq,
        id: record.digest.to_string(),
        dry_run: args.dry_run,
        targets: report::targets(targets(&layout), &outcome.changed, args.delete),
        entries: plan.entries(),
        files: plan.files(),
        bytes: plan.bytes(),
        packs: plan.packs,
        pack_bytes: plan.pack_bytes,
        fetched_bytes: outcome.restored.map(|restored| restored.fetched_bytes),
        reused_bytes: outcome.restored.map(|restored| restored.reused_bytes),
        resumed: outcome.resumed,
        preview: outcome.preview,
        content_digest: expected.content.to_string(),
        full_digest: expected.full.to_string(),
        exact: plan.exact,
        proof: options.proof.as_str(),
        changes: report::changes(&plan),
        receipt: args.receipt.file().filter(|_| !args.dry_run),
        break_glass: glass.clone(),
        seconds: started.elapsed().as_secs_f64(),
    })?;
    Ok(BrokenGlass::exit(glass.as_ref(), Exit::DONE))
}

/// What came of it.
#[derive(Default)]
struct Outcome {
    /// `None` when nothing was to be done.
    restored: Option<Restored>,
    resumed: bool,
    /// For each tree, what was not as planned; only in place.
    changed: Vec<Changed>,
    preview: Option<Preview>,
}

impl Preview {
    /// What a restore into new directories will need.
    fn of(plan: &Plan, layout: &Layout, seeds: &[PathBuf]) -> Result<Self, CliError> {
        let mut preview = Self { disk_bytes: plan.disk_bytes(), available_bytes: u64::MAX, seed_bytes: 0 };
        for (target, trees) in layout {
            let target = std::path::absolute(target)?;
            let there = target.ancestors().find(|above| above.is_dir()).unwrap_or(Path::new("/"));
            preview.available_bytes = preview.available_bytes.min(restore::available_bytes(there)?);
            for tree in &plan.trees {
                let Some((_, inside)) = trees.iter().find(|(name, _)| *name == tree.name) else { continue };
                let at = |seed: &PathBuf| inside.as_ref().map_or_else(|| seed.clone(), |inside| seed.join(inside));
                let seeds: Vec<PathBuf> = seeds.iter().map(at).collect();
                preview.seed_bytes += restore::likely_bytes(tree, &seeds).map_err(refused)?;
            }
        }
        Ok(preview)
    }
}

/// Each tree and the directory it goes to.
fn targets(layout: &Layout) -> impl Iterator<Item = (&str, PathBuf)> {
    layout.iter().flat_map(|(target, trees)| {
        trees.iter().map(|(tree, inside)| {
            let path = inside.as_ref().map_or_else(|| target.clone(), |inside| target.join(inside));
            (tree.as_str(), path)
        })
    })
}

/// A restore that was refused has the exit code of its class; a choice that matches nothing is the answer no.
fn refused(error: RestoreError) -> CliError {
    let next = match &error {
        RestoreError::Busy { .. } => Some("wait until it has ended"),
        RestoreError::ForeignStaging { .. } => Some("see who made it, remove it, and restore again"),
        RestoreError::InTheWay { .. } => Some("move them away, or give --delete to remove them"),
        RestoreError::NoSpace { .. } => Some("make room, or restore a part with --path or --include"),
        RestoreError::Cancelled => Some("the same command goes on from here"),
        error if error.can_go_on() => Some("when the store answers again, the same command goes on from here"),
        _ => None,
    };
    let refused = refused_by_class(error);
    match next {
        Some(next) => refused.next(next),
        None => refused,
    }
}

fn refused_by_class(error: RestoreError) -> CliError {
    match error.class() {
        Some(class) => CliError::of_class(error, class),
        None if matches!(error, RestoreError::NothingSelected) => CliError::from(error).with_exit(Exit::NO),
        None if matches!(error, RestoreError::NoSpace { .. }) => CliError::from(error).with_exit(Exit::REFUSED),
        None => error.into(),
    }
}

fn seeds(args: &RestoreArgs) -> Result<Vec<PathBuf>, CliError> {
    match args.seed.iter().find(|seed| !seed.is_dir()) {
        Some(missing) => Err(CliError::usage(format!("--seed {} is no directory", missing.display()))),
        None => Ok(args.seed.clone()),
    }
}

fn proof(args: &RestoreArgs, session: &Session<'_>) -> Proof {
    match args.proof {
        Some(ProofArg::Device) => Proof::Device,
        Some(ProofArg::Reread) => Proof::Reread,
        Some(ProofArg::Written) => Proof::Written,
        None => session.config.restore.proof.value,
    }
}
