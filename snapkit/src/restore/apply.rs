//! Doing what a plan says: stage, prove, activate.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::RecvTimeoutError;

use super::order::{Source, order};
use super::plan::Plan;
use super::reuse::Reuse;
use super::spool::Window;
use super::stage::stage;
use super::target::Destination;
use super::{Options, RestoreError, Restored, directories, links, prove};
use crate::cancel::Cancel;
use crate::fetch::Fetcher;
use crate::progress::Progress;

/// How often what is staged is written to disk meanwhile.
const FLUSH_EVERY: Duration = Duration::from_millis(250);

/// Does what `plan` says: stages all trees, proves them, and lets them appear.
///
/// What was staged is kept for the next run when this one was stopped or the store failed; after a refusal it is removed.
///
/// # Errors
/// [`RestoreError`]; the targets are as they were unless several were asked for and an earlier one had appeared.
pub fn apply(
    fetcher: &Fetcher<'_>,
    plan: &Plan,
    mut destinations: Vec<Destination>,
    options: &Options,
    cancel: &Cancel,
    progress: &Progress,
) -> Result<Restored, RestoreError> {
    match stage_and_prove(fetcher, plan, &destinations, options, cancel, progress) {
        Ok(restored) => {
            for destination in destinations {
                let root = root_entry(plan, &destination)?;
                destination.activate(root.as_ref())?;
            }
            Ok(restored)
        }
        Err(error) => {
            destinations.iter_mut().for_each(|destination| destination.staging.keep(error.can_go_on()));
            Err(error)
        }
    }
}

fn stage_and_prove(
    fetcher: &Fetcher<'_>,
    plan: &Plan,
    destinations: &[Destination],
    options: &Options,
    cancel: &Cancel,
    progress: &Progress,
) -> Result<Restored, RestoreError> {
    destinations.iter().try_for_each(|destination| destination.expect_space(&plan.trees))?;
    progress.start_phase("restoring");
    progress.expect_total(plan.files(), plan.bytes());
    let mut roots = Vec::new();
    let mut reuse = Reuse::default();
    for tree in &plan.trees {
        let destination = destinations.iter().find_map(|d| Some((d, d.root(&tree.name).transpose()?)));
        let (destination, root) = destination.expect("every tree of the plan has a destination");
        let root = root?;
        directories::make(tree, &root, destination.is_resumed())?;
        roots.push(root);
        reuse.resumed |= destination.is_resumed();
        reuse.seeds.push(destination.seeds(&tree.name, &options.seeds));
    }
    let source =
        Source { trees: &plan.trees, packs: &plan.pack_set, scratch: &plan.scratch, roots: &roots, reuse: &reuse };
    let (fetched_bytes, reused_bytes) = flushing(&roots, || {
        let (ordered, reused_bytes) = order(&source, fetcher, cancel, progress)?;
        let fetched_bytes = stage(fetcher, ordered, &roots, &plan.pack_set, options, cancel, progress)?;
        Ok::<_, RestoreError>((fetched_bytes, reused_bytes))
    })?;
    for (tree, root) in plan.trees.iter().zip(&roots) {
        links::make_links(tree, root, cancel)?;
        directories::finish(tree, root)?;
    }
    progress.start_phase("proving");
    for (tree, root) in plan.trees.iter().zip(&roots) {
        prove::prove(tree, root, options.proof, prove::Extra::Refuse)?;
        directories::close(tree, root)?;
    }
    if cancel.is_requested() {
        return Err(RestoreError::Cancelled);
    }
    Ok(Restored { entries: plan.entries(), files: plan.files(), bytes: plan.bytes(), fetched_bytes, reused_bytes })
}

/// The entry of a destination itself, when it is a tree.
fn root_entry(plan: &Plan, destination: &Destination) -> Result<Option<crate::entry::Entry>, RestoreError> {
    let tree = plan.trees.iter().find(|tree| destination.is_tree(&tree.name));
    let Some(tree) = tree else { return Ok(None) };
    let read = |place: u64| Window::of(&tree.file)?.at(place);
    let first = tree.directories.first().map(|place| read(*place)).transpose();
    first.map_err(|source| RestoreError::write(b"", source))
}

/// Does `work` while another thread writes to disk what is staged already, so that little is left to wait for at the end.
///
/// What must be durable is made so before the rename; this only begins earlier, and its errors come back there.
pub(super) fn flushing<T>(roots: &[Arc<OwnedFd>], work: impl FnOnce() -> T) -> T {
    let (done, ended) = crossbeam_channel::bounded::<()>(0);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            while ended.recv_timeout(FLUSH_EVERY) == Err(RecvTimeoutError::Timeout) {
                for root in roots {
                    let _ = rustix::fs::syncfs(root);
                }
            }
        });
        let result = work();
        drop(done);
        result
    })
}
