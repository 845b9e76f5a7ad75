//! Trees at fixed paths: two directories change places, and either is recognised by its inode wherever it is.
//!
//! A move has three places: the fixed path, the directory of the tree in the new generation, and the one in the
//! generation that keeps what goes out. Each step is one rename; what the next one is follows from where the two
//! directories are, so a move that was interrupted anywhere can be finished or taken back.
//! Documented in `docs/node.md`. Layer: files.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags};

use super::dir::{NodeDir, sync};
use super::state::Move;
use super::{GenerationName, NodeError};

/// Which way a switch goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Goal {
    /// To the new generation.
    Forward,
    /// Back to the old one.
    Back,
}

/// One of the three places of a move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Fixed,
    New,
    Aside,
}

/// One rename.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Both directories change places.
    Exchange(Place, Place),
    /// One goes to a place where nothing is.
    Rename(Place, Place),
}

/// The inode of the directory at each place: fixed path, new generation, aside.
type Found = (Option<u64>, Option<u64>, Option<u64>);

/// The next step towards `goal`; `None` when it is reached.
///
/// # Errors
/// What was found, when it is nothing that a switch leaves.
fn next_step(found: Found, incoming: u64, outgoing: Option<u64>, goal: Goal) -> Result<Option<Step>, Found> {
    use Place::{Aside, Fixed, New};
    let new = Some(incoming);
    let step = match (goal, outgoing) {
        (_, None) => match (goal, found.0, found.1) {
            (Goal::Forward, at, None) | (Goal::Back, None, at) if at == new => None,
            (Goal::Forward, None, at) if at == new => Some(Step::Rename(New, Fixed)),
            (Goal::Back, at, None) if at == new => Some(Step::Rename(Fixed, New)),
            _ => return Err(found),
        },
        (Goal::Forward, old) => match found {
            (at, None, aside) if at == new && aside == old => None,
            (at, inside, None) if at == new && inside == old => Some(Step::Rename(New, Aside)),
            (at, inside, None) if at == old && inside == new => Some(Step::Exchange(Fixed, New)),
            _ => return Err(found),
        },
        (Goal::Back, old) => match found {
            (at, inside, None) if at == old && inside == new => None,
            (at, inside, None) if at == new && inside == old => Some(Step::Exchange(Fixed, New)),
            (at, None, aside) if at == new && aside == old => Some(Step::Exchange(Fixed, Aside)),
            (at, None, aside) if at == old && aside == new => Some(Step::Rename(Aside, New)),
            _ => return Err(found),
        },
    };
    Ok(step)
}

/// The places of one move on disk.
struct Places {
    fixed: PathBuf,
    new: PathBuf,
    aside: PathBuf,
}

impl Places {
    fn of(node: &NodeDir, moved: &Move, to: &GenerationName) -> Self {
        Self {
            fixed: moved.path.clone(),
            new: node.generation(to).join(&moved.tree),
            aside: node.generation(&moved.aside).join(&moved.tree),
        }
    }

    fn at(&self, place: Place) -> &Path {
        match place {
            Place::Fixed => &self.fixed,
            Place::New => &self.new,
            Place::Aside => &self.aside,
        }
    }

    fn find(&self) -> io::Result<Found> {
        Ok((inode(&self.fixed)?, inode(&self.new)?, inode(&self.aside)?))
    }
}

/// The inode of a directory; `None` when nothing is there.
pub(super) fn inode(path: &Path) -> io::Result<Option<u64>> {
    match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => Ok(Some(found.ino())),
        Ok(_) => Err(io::Error::other(format!("{} is not a directory", path.display()))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether a move has reached `goal`.
pub(super) fn is_at(node: &NodeDir, moved: &Move, to: &GenerationName, goal: Goal) -> io::Result<bool> {
    let found = Places::of(node, moved, to).find()?;
    Ok(next_step(found, moved.incoming, moved.outgoing, goal) == Ok(None))
}

/// Takes the steps that are left to `goal`, each made durable before the next.
pub(super) fn arrange(node: &NodeDir, moved: &Move, to: &GenerationName, goal: Goal) -> io::Result<()> {
    let places = Places::of(node, moved, to);
    // No way to a goal is longer than two steps.
    for _ in 0..3 {
        let found = places.find()?;
        let step = next_step(found, moved.incoming, moved.outgoing, goal).map_err(|_| {
            let path = moved.path.display();
            io::Error::other(format!("somebody else moved the directories of the tree {} at {path}", moved.tree))
        })?;
        let (from, to, flags) = match step {
            None => return Ok(()),
            Some(Step::Exchange(a, b)) => (places.at(a), places.at(b), RenameFlags::EXCHANGE),
            Some(Step::Rename(a, b)) => (places.at(a), places.at(b), RenameFlags::NOREPLACE),
        };
        rustix::fs::renameat_with(CWD, from, CWD, to, flags)?;
        for changed in [from, to] {
            sync(changed.parent().unwrap_or(Path::new("/")))?;
        }
    }
    Err(io::Error::other(format!("the directories of the tree {} do not stay where they are put", moved.tree)))
}

/// Refuses a fixed path that cannot be exchanged with a generation.
///
/// # Errors
/// [`NodeError::Fixed`] for another file system, a mount point, or something that is no directory.
pub(super) fn check_path(node: &NodeDir, tree: &str, path: &Path) -> Result<(), NodeError> {
    let refused = |why: String| NodeError::Fixed { tree: tree.to_owned(), path: path.to_owned(), why };
    let device = |path: &Path| match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => Ok(Some(found.dev())),
        Ok(_) => Err(refused(format!("{} is not a directory", path.display()))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(refused(error.to_string())),
    };
    let parent = path.parent().unwrap_or(Path::new("/"));
    let Some(above) = device(parent)? else { return Err(refused(format!("{} is missing", parent.display()))) };
    let same = |found: Option<u64>| found.is_none_or(|found| found == above);
    if !same(device(path)?) {
        return Err(refused("it is a mount point, which cannot be exchanged".to_owned()));
    }
    if !same(device(&node.generations())?) {
        return Err(refused("it is on another file system than the generations".to_owned()));
    }
    let parent = fs::canonicalize(parent).map_err(|error| refused(error.to_string()))?;
    if parent.starts_with(node.path()) {
        return Err(refused("it lies in the node directory".to_owned()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEW: u64 = 1;
    const OLD: u64 = 2;

    /// Carries a step out on numbers.
    fn take(found: &mut Found, step: Step) {
        let mut places = [found.0, found.1, found.2];
        let index = |place| match place {
            Place::Fixed => 0,
            Place::New => 1,
            Place::Aside => 2,
        };
        match step {
            Step::Exchange(a, b) => {
                assert!(places[index(a)].is_some() && places[index(b)].is_some(), "only what is there is exchanged");
                places.swap(index(a), index(b));
            }
            Step::Rename(a, b) => {
                assert!(places[index(a)].is_some() && places[index(b)].is_none(), "nothing is overwritten");
                places.swap(index(a), index(b));
            }
        }
        *found = (places[0], places[1], places[2]);
    }

    /// From where a switch begins, every state that `goal` passes through.
    fn way(mut found: Found, outgoing: Option<u64>, goal: Goal) -> Vec<Found> {
        let mut seen = vec![found];
        while let Some(step) = next_step(found, NEW, outgoing, goal).unwrap() {
            take(&mut found, step);
            seen.push(found);
            assert!(seen.len() < 5, "no goal is far");
        }
        seen
    }

    #[test]
    fn a_move_can_be_taken_back_from_every_state_it_passes() {
        for (start, outgoing) in [((Some(OLD), Some(NEW), None), Some(OLD)), ((None, Some(NEW), None), None)] {
            let forward = way(start, outgoing, Goal::Forward);
            assert_eq!(forward.last().unwrap().0, Some(NEW));
            for reached in forward {
                let back = way(reached, outgoing, Goal::Back);
                assert_eq!(*back.last().unwrap(), start);
                // And so can a way back that was interrupted.
                for reached in back {
                    assert_eq!(*way(reached, outgoing, Goal::Back).last().unwrap(), start);
                }
            }
        }
    }

    #[test]
    fn the_fixed_path_is_never_without_a_directory_when_it_had_one() {
        for goal in [Goal::Forward, Goal::Back] {
            let starts = [(Some(OLD), Some(NEW), None), (Some(NEW), None, Some(OLD))];
            for start in starts.into_iter().filter(|start| next_step(*start, NEW, Some(OLD), goal).is_ok()) {
                assert!(way(start, Some(OLD), goal).iter().all(|found| found.0.is_some()));
            }
        }
    }

    #[test]
    fn directories_that_somebody_moved_are_left_alone() {
        for found in
            [(Some(9), Some(NEW), None), (Some(OLD), None, None), (Some(OLD), Some(NEW), Some(9)), (None, None, None)]
        {
            for goal in [Goal::Forward, Goal::Back] {
                assert_eq!(next_step(found, NEW, Some(OLD), goal), Err(found));
            }
        }
    }
}
