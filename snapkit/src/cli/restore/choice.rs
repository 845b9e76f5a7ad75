//! What of which snapshot `snapkit restore` brings back, and where it goes.

use std::collections::BTreeSet;
use std::path::PathBuf;

use manifests::document::record::Record;
use snapkit::chain::Chain;
use snapkit::node::GENERATIONS;
use snapkit::restore::{self, Chosen, Selection};
use snapkit::selector::Selector;

use super::RestoreArgs;
use crate::cli::exit_code::CliError;

/// The snapshot to restore. An interrupted restore goes on with the one it chose, even if the head has moved since.
pub(super) fn choose(args: &RestoreArgs, chain: &Chain<'_>) -> Result<Record, CliError> {
    let mut before = match (&args.into, &args.target) {
        (Some(node), _) => restore::interrupted_in(&node.join(GENERATIONS)),
        (None, Some(target)) => restore::interrupted(target).into_iter().collect(),
        (None, None) => Vec::new(),
    };
    before.retain(|before| before.selector == args.snapshot.to_string() && before.chain == chain.id().to_string());
    if let [before] = &before[..]
        && !args.dry_run
    {
        let record = Selector::Seq(before.seq).resolve(chain);
        if let Some(record) = record.ok().filter(|record| record.digest.to_string() == before.record) {
            return Ok(record);
        }
    }
    Ok(args.snapshot.resolve(chain)?)
}

/// What a run that goes on with this one must have been asked for, too.
pub(super) fn chosen(
    args: &RestoreArgs,
    record: &Record,
    chain: &Chain<'_>,
    trees: &[(String, Option<String>)],
) -> Chosen {
    let mut request = vec![format!("owner {:?}", args.owner), format!("devices {}", args.devices)];
    request.push(format!("in place {}", args.in_place));
    request.extend(args.path.iter().map(|path| format!("path {path}")));
    request.extend(args.include.iter().map(|pattern| format!("include {pattern}")));
    request.extend(trees.iter().map(|(tree, inside)| format!("tree {tree} {inside:?}")));
    let which = (record.header.seq, record.digest.to_string());
    Chosen::new(chain.id().to_string(), args.snapshot.to_string(), which, request)
}

/// What is chosen. With several trees a path begins with the name of its tree.
pub(super) fn selection(args: &RestoreArgs, trees: &[&str]) -> Result<Selection, CliError> {
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
pub(super) type Layout = Vec<(PathBuf, Trees)>;

/// Names of trees, each with the directory inside the target; `None` when it is the target.
pub(super) type Trees = Vec<(String, Option<String>)>;

pub(super) fn layout(args: &RestoreArgs, trees: &[&str], chosen: &BTreeSet<String>) -> Result<Layout, CliError> {
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
    let rest: Trees = rest.map(|tree| ((*tree).to_owned(), several.then(|| (*tree).to_owned()))).collect();
    // A node has a place of its own for them.
    if let Some(target) = args.target.as_ref().filter(|_| !rest.is_empty()) {
        layout.push((target.clone(), rest));
    }
    Ok(layout)
}
