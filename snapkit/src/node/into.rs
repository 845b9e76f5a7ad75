//! Restoring a snapshot as a generation of a node, and switching to it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use manifests::document::snapshot::Snapshot;

use super::config::NodeConfig;
use super::dir::{NodeDir, Work};
use super::keep::{Removed, forget_unfinished};
use super::require::{Check, first_problem, split};
use super::state::{Generation, GenerationTree, How, RecordOf, RequiredFile, State};
use super::switch::{Recovered, Switched, Switcher};
use super::{GenerationName, NodeError};
use crate::cancel::Cancel;
use crate::fetch::Fetcher;
use crate::progress::Progress;
use crate::receipt::ReceiptError;
use crate::restore::{self, Chosen, Destination, Options, Owners, Plan, RestoreError, Restored, Selection};
use crate::scan::inspect::digest_directory;
use crate::scan::walk::WalkOptions;

/// Says what a restore has chosen, given its trees and the directory that each lies in.
pub type Chooser<'a> = dyn Fn(&[(String, Option<String>)]) -> Chosen + 'a;

/// Writes the receipt of a generation to a file: given the file, the plan, where each tree went, and what was done.
pub type ReceiptWriter<'a> = dyn Fn(&Path, &Plan, &[(&str, PathBuf)], &Restored) -> Result<(), ReceiptError> + 'a;

/// What is to become the active generation.
pub struct Wanted<'a> {
    /// Where its data comes from.
    pub fetcher: &'a Fetcher<'a>,
    /// The verified record.
    pub record: RecordOf,
    /// What it says.
    pub snapshot: &'a Snapshot,
    /// How it is restored.
    pub options: &'a Options,
    /// What a run that goes on with an interrupted one must have been asked for, given the trees and where they go.
    pub chosen: &'a Chooser<'a>,
    /// A directory for the plan.
    pub scratch: &'a Path,
    /// Restore it even if a generation of the same record is there and unchanged.
    pub again: bool,
    /// Writes the receipt, where there is a key to sign one.
    pub write_receipt: &'a ReceiptWriter<'a>,
}

/// What became of it.
pub struct Outcome {
    /// The generation that is active.
    pub generation: GenerationName,
    /// What it is.
    pub is: Generation,
    /// What was restored; `None` when it was there already, unchanged.
    pub restored: Option<Made>,
    /// How it became active.
    pub activation: Activation,
    /// What became of a switch that had been interrupted before.
    pub recovered: Option<Recovered>,
    /// Old generations that were removed.
    pub removed: Removed,
}

/// A generation that was restored.
pub struct Made {
    /// What was to be done.
    pub plan: Plan,
    /// What was done.
    pub restored: Restored,
    /// Whether an interrupted run was gone on with.
    pub resumed: bool,
}

/// How a generation became active.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Activation {
    /// By a switch.
    Switched(Switched),
    /// It was active already; everything that must hold does.
    Already(Vec<Check>),
}

/// A generation that is there, whether active or not.
pub struct Prepared {
    /// The generation.
    pub generation: GenerationName,
    /// What it is.
    pub is: Generation,
    /// What was restored; `None` when it was there already, unchanged.
    pub restored: Option<Made>,
    /// What became of a switch that had been interrupted before.
    pub recovered: Option<Recovered>,
    /// Old generations that were removed.
    pub removed: Removed,
}

/// Restores a snapshot as a generation of its own, unless one that still is what it was proved to be is there, and
/// switches to it.
///
/// # Errors
/// [`NodeError`]; until the switch nothing changes for whoever uses the node.
pub fn restore_into(
    node: &NodeDir,
    wanted: &Wanted<'_>,
    cancel: &Cancel,
    progress: &Progress,
) -> Result<Outcome, NodeError> {
    let _restoring = node.lock(Work::Restore)?;
    let (name, restored, recovered) = have(node, wanted, cancel, progress)?;
    let mut switcher = Switcher::begin(node)?;
    let activation = if switcher.active() == Some(&name) {
        let checks = switcher.check(&name)?;
        if let Some(problem) = first_problem(&checks) {
            return Err(NodeError::CheckFailed { problem });
        }
        Activation::Already(checks)
    } else {
        Activation::Switched(switcher.switch(&name, How::Restore)?)
    };
    let is = switcher.known(&name)?.clone();
    let removed = switcher.remove_surplus(&name);
    Ok(Outcome { generation: name, is, restored, activation, recovered, removed })
}

/// Restores a snapshot as a generation of its own, as [`restore_into`] does, and leaves the active one active.
///
/// # Errors
/// [`NodeError`]; nothing changes for whoever uses the node.
pub fn prepare(
    node: &NodeDir,
    wanted: &Wanted<'_>,
    cancel: &Cancel,
    progress: &Progress,
) -> Result<Prepared, NodeError> {
    let _restoring = node.lock(Work::Restore)?;
    let (generation, restored, recovered) = have(node, wanted, cancel, progress)?;
    let mut switcher = Switcher::begin(node)?;
    let is = switcher.known(&generation)?.clone();
    let removed = switcher.remove_surplus(&generation);
    Ok(Prepared { generation, is, restored, recovered, removed })
}

/// A generation of the snapshot, found or restored. The caller holds the lock on restores.
fn have(
    node: &NodeDir,
    wanted: &Wanted<'_>,
    cancel: &Cancel,
    progress: &Progress,
) -> Result<(GenerationName, Option<Made>, Option<Recovered>), NodeError> {
    let (config, state, recovered) = {
        // The lock on switches is not held while data is fetched: an undo must not wait for that.
        let mut switcher = Switcher::begin(node)?;
        if forget_unfinished(node, &mut switcher.state) {
            node.save_state(&switcher.state)?;
        }
        let trees = trees_of(wanted.snapshot, &switcher.config)?;
        switcher.check_fixed(&trees)?;
        (switcher.config, switcher.state, switcher.recovered)
    };
    let manner = manner_of(wanted.options);
    match unchanged(node, &state, wanted, &config, &manner, cancel, progress)? {
        Some(name) => Ok((name, None, recovered)),
        None => {
            let (name, made) = restore_generation(node, wanted, &config, &state, &manner, cancel, progress)?;
            Ok((name, Some(made), recovered))
        }
    }
}

/// The name that the generation of a snapshot would get, for a look before restoring.
///
/// # Errors
/// [`NodeError::Degraded`], as the restore itself would be refused.
pub fn would_make(node: &Path, record: &RecordOf) -> Result<GenerationName, NodeError> {
    match NodeDir::open(node) {
        Ok(node) => {
            super::refuse_degraded(&node)?;
            free_name(&node, &node.state()?, &record.snapshot)
        }
        Err(_) => record.snapshot.parse().map_err(NodeError::Name),
    }
}

fn free_name(node: &NodeDir, state: &State, snapshot: &str) -> Result<GenerationName, NodeError> {
    let is_taken = |name: &GenerationName| {
        state.generations.contains_key(name) || node.generation(name).symlink_metadata().is_ok()
    };
    GenerationName::first_free(snapshot, is_taken).map_err(NodeError::Name)
}

/// How options change what is restored, so that only like is taken for like.
fn manner_of(options: &Options) -> String {
    let owners = match options.owners {
        Owners::Ids => "ids",
        Owners::Names => "names",
        Owners::Me => "me",
    };
    let devices = if options.devices { " with devices" } else { "" };
    format!("owners by {owners}{devices} as uid {}", rustix::process::geteuid().as_raw())
}

/// The trees of a snapshot as they will lie in its generation.
fn trees_of(snapshot: &Snapshot, config: &NodeConfig) -> Result<Vec<GenerationTree>, NodeError> {
    let trees = &snapshot.private.trees;
    if let Some((tree, path)) = config.fixed.iter().find(|(fixed, _)| !trees.iter().any(|tree| tree.name == **fixed)) {
        let why = "the snapshot has no such tree".to_owned();
        return Err(NodeError::Fixed { tree: tree.clone(), path: path.clone(), why });
    }
    let inside = trees.len() > 1 || !config.fixed.is_empty();
    let tree = |tree: &manifests::document::snapshot::Tree| GenerationTree {
        name: tree.name.clone(),
        inside,
        fixed: config.fixed.get(&tree.name).cloned(),
        full_digest: None,
    };
    Ok(trees.iter().map(tree).collect())
}

/// A generation of the same record that was restored the same way and still is what it was proved to be.
fn unchanged(
    node: &NodeDir,
    state: &State,
    wanted: &Wanted<'_>,
    config: &NodeConfig,
    manner: &str,
    cancel: &Cancel,
    progress: &Progress,
) -> Result<Option<GenerationName>, NodeError> {
    if wanted.again {
        return Ok(None);
    }
    progress.start_phase("looking at earlier generations");
    let layout = trees_of(wanted.snapshot, config)?;
    for (name, generation) in &state.generations {
        let is_same = generation.record.as_ref() == Some(&wanted.record)
            && generation.manner == manner
            && generation.trees.len() == layout.len()
            && generation
                .trees
                .iter()
                .zip(&layout)
                .all(|(is, will)| (&is.name, is.inside, &is.fixed) == (&will.name, will.inside, &will.fixed))
            && config.require.files.iter().all(|path| generation.required.iter().any(|r| r.path == *path));
        if is_same && still_is(node, state, name, generation, cancel)? {
            return Ok(Some(name.clone()));
        }
    }
    Ok(None)
}

/// Whether a generation still has the digests that it was proved to have, read from its files.
fn still_is(
    node: &NodeDir,
    state: &State,
    name: &GenerationName,
    generation: &Generation,
    cancel: &Cancel,
) -> Result<bool, NodeError> {
    for tree in &generation.trees {
        if cancel.is_requested() {
            return Err(RestoreError::Cancelled.into());
        }
        let directory = match &tree.fixed {
            Some(fixed) if state.active.as_ref() == Some(name) => fixed.clone(),
            _ if tree.inside => node.generation(name).join(&tree.name),
            _ => node.generation(name),
        };
        let found = digest_directory(&directory, WalkOptions::default(), true);
        // What cannot be read is not unchanged.
        if !found.is_ok_and(|found| tree.full_digest == Some(found.full.to_string())) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn restore_generation(
    node: &NodeDir,
    wanted: &Wanted<'_>,
    config: &NodeConfig,
    state: &State,
    manner: &str,
    cancel: &Cancel,
    progress: &Progress,
) -> Result<(GenerationName, Made), NodeError> {
    let mut trees = trees_of(wanted.snapshot, config)?;
    let name = free_name(node, state, &wanted.record.snapshot)?;
    let inside = |tree: &GenerationTree| (tree.name.clone(), tree.inside.then(|| tree.name.clone()));
    let places: Vec<_> = trees.iter().map(inside).collect();
    let destination = Destination::prepare(&node.generation(&name), places.clone(), &(wanted.chosen)(&places))?;
    let resumed = destination.is_resumed();
    let xattrs = destination.has_xattrs();
    let (all, scratch) = (Selection::default(), wanted.scratch);
    let mut options = wanted.options.clone();
    // What is active now is likely to hold most of it.
    options.seeds.extend([&state.active, &state.previous].into_iter().flatten().map(|name| node.generation(name)));
    let plan = restore::plan(wanted.fetcher, wanted.snapshot, &all, &options, scratch, xattrs, cancel)?;
    for tree in &mut trees {
        let planned = plan.trees.iter().find(|planned| planned.name == tree.name);
        tree.full_digest = planned.map(|planned| planned.expected.full.to_string());
    }
    let mut generation = Generation {
        record: Some(wanted.record.clone()),
        made: Timestamp::now(),
        trees,
        entries: plan.entries(),
        files: plan.files(),
        bytes: plan.bytes(),
        exact: plan.exact,
        manner: manner.to_owned(),
        required: Vec::new(),
    };
    generation.required = required_files(&plan, &generation, config)?;
    {
        // Known before it is there: a directory of this name is whole, because it appears in one step.
        let mut switcher = Switcher::begin(node)?;
        switcher.state.generations.insert(name.clone(), generation);
        node.save_state(&switcher.state)?;
    }
    let restored = restore::apply(wanted.fetcher, &plan, vec![destination], &options, cancel, progress)?;
    let top = node.generation(&name);
    let place = |(tree, inside): &(String, Option<String>)| {
        let path = inside.as_ref().map_or_else(|| top.clone(), |inside| top.join(inside));
        (tree.clone(), path)
    };
    let places: Vec<(String, PathBuf)> = places.iter().map(place).collect();
    let places: Vec<(&str, PathBuf)> = places.iter().map(|(tree, path)| (tree.as_str(), path.clone())).collect();
    let receipt = node.receipt(&name);
    let directory = receipt.parent().unwrap_or(&receipt);
    let failed = |source| NodeError::Io { what: format!("make {}", directory.display()), source };
    crate::trust::file::make_directory(directory).map_err(failed)?;
    (wanted.write_receipt)(&receipt, &plan, &places, &restored)?;
    Ok((name, Made { plan, restored, resumed }))
}

/// The load-bearing files as the plan has them.
fn required_files(plan: &Plan, generation: &Generation, config: &NodeConfig) -> Result<Vec<RequiredFile>, NodeError> {
    let mut required = Vec::new();
    for planned in &plan.trees {
        let inside = |path: &'_ String| {
            let (tree, rest) = split(generation, path)?;
            (generation.trees[tree].name == planned.name).then(|| rest.to_owned().into_bytes())
        };
        let paths: BTreeSet<Vec<u8>> = config.require.files.iter().filter_map(inside).collect();
        for entry in planned.find(&paths)? {
            let named = config.require.files.iter().filter(|path| inside(path).as_deref() == Some(&entry.path[..]));
            required.extend(named.filter_map(|path| RequiredFile::of(path, &entry)));
        }
    }
    let is_held = |path: &&String| required.iter().any(|required| required.path == **path);
    let missing: Vec<String> = config.require.files.iter().filter(|path| !is_held(path)).cloned().collect();
    if missing.is_empty() { Ok(required) } else { Err(NodeError::Unmet { missing }) }
}
