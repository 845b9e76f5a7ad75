//! Which generations are kept, and removing the others. Choosing is pure; removing begins with a rename, so that a
//! generation is whole or not there.

use std::fs;
use std::io;

use jiff::Timestamp;

use super::GenerationName;
use super::config::Keep;
use super::dir::{DOOMED, NodeDir, sync};
use super::state::State;
use super::switch::Switcher;
use crate::restore::{STAGING_PREFIX, make_removable};

/// The generations that are too many, oldest first.
///
/// Never the active one, the one before, the one that was just made, or what was found before the first switch: nobody
/// else may have that.
fn surplus(state: &State, keep: &Keep, made: Option<&GenerationName>) -> Vec<GenerationName> {
    let is_protected =
        |name: &GenerationName| made == Some(name) || [&state.active, &state.previous].contains(&&Some(name.clone()));
    let (mut count, mut bytes) = (0, 0);
    let mut restored: Vec<(Timestamp, u64, &GenerationName)> = Vec::new();
    for (name, generation) in state.generations.iter().filter(|(_, generation)| generation.record.is_some()) {
        if is_protected(name) {
            count += 1;
            bytes += generation.bytes;
        } else {
            restored.push((generation.made, generation.bytes, name));
        }
    }
    restored.sort_unstable();
    let mut surplus = Vec::new();
    let mut is_full = false;
    for (_, len, name) in restored.into_iter().rev() {
        // After the first one that does not fit, all older ones go: what is kept has no gaps.
        is_full |= count >= keep.generations || keep.bytes.is_some_and(|most| bytes + len > most);
        if is_full {
            surplus.push(name.clone());
        } else {
            count += 1;
            bytes += len;
        }
    }
    surplus.reverse();
    surplus
}

/// What removing old generations did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// Generations that are gone.
    pub names: Vec<GenerationName>,
    /// What could not be removed, and why. It does not concern the active generation, and is tried again next time.
    pub problems: Vec<String>,
}

impl Switcher<'_> {
    /// Removes what is too many, and what an earlier removal or a restore of something else left. The caller holds the
    /// lock on restores.
    pub fn remove_surplus(&mut self, made: &GenerationName) -> Removed {
        let mut removed = Removed::default();
        for name in surplus(&self.state, &self.config.keep, Some(made)) {
            match self.doom(&name) {
                Ok(()) => removed.names.push(name),
                Err(error) => removed.problems.push(format!("{name}: {error}")),
            }
        }
        match self.node.beside_generations(&[DOOMED, STAGING_PREFIX]) {
            Ok(names) => {
                for name in names {
                    let path = self.node.generations().join(&name);
                    make_removable(&path);
                    if let Err(error) = fs::remove_dir_all(&path) {
                        removed.problems.push(format!("{}: {error}", path.display()));
                    }
                }
            }
            Err(error) => removed.problems.push(error.to_string()),
        }
        removed
    }

    /// Gives a generation a name that no switch goes to, and forgets it.
    fn doom(&mut self, name: &GenerationName) -> io::Result<()> {
        let generations = self.node.generations();
        match fs::rename(self.node.generation(name), generations.join(format!("{DOOMED}{name}"))) {
            // It was begun and never finished.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            renamed => renamed.and_then(|()| sync(&generations))?,
        }
        match fs::remove_file(self.node.receipt(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        self.state.generations.remove(name);
        self.node.save_state(&self.state).map_err(io::Error::other)
    }
}

/// Forgets generations that were begun and have no directory, and found ones that hold nothing. The caller holds the lock on restores.
pub(super) fn forget_unfinished(node: &NodeDir, state: &mut State) -> bool {
    let before = state.generations.len();
    let (active, previous) = (state.active.clone(), state.previous.clone());
    state.generations.retain(|name, generation| {
        let is_named = [&active, &previous].contains(&&Some(name.clone()));
        let path = node.generation(name);
        is_named || path.symlink_metadata().is_ok() && (generation.record.is_some() || fs::remove_dir(&path).is_err())
    });
    state.generations.len() < before
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::state::{Generation, RecordOf};

    fn state(bytes: &[u64], active: usize, previous: usize) -> State {
        let name = |i: usize| format!("g{i}").parse::<GenerationName>().unwrap();
        let mut state = State { active: Some(name(active)), previous: Some(name(previous)), ..State::default() };
        for (i, bytes) in bytes.iter().enumerate() {
            let record = RecordOf { snapshot: "s".to_owned(), seq: i as u64, id: String::new() };
            let generation = Generation {
                record: Some(record),
                made: Timestamp::from_second(i as i64).unwrap(),
                trees: vec![],
                entries: 0,
                files: 0,
                bytes: *bytes,
                exact: true,
                manner: String::new(),
                required: vec![],
            };
            state.generations.insert(name(i), generation);
        }
        state
    }

    fn chosen(state: &State, generations: u64, bytes: Option<u64>) -> String {
        let names = surplus(state, &Keep { generations, bytes }, None);
        names.iter().map(GenerationName::as_str).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn the_newest_are_kept_by_count() {
        let five = state(&[1; 5], 4, 3);
        assert_eq!(chosen(&five, 3, None), "g0 g1");
        assert_eq!(chosen(&five, 5, None), "");
        assert_eq!(chosen(&five, 2, None), "g0 g1 g2");
    }

    #[test]
    fn the_newest_are_kept_by_size() {
        let five = state(&[10, 1, 10, 10, 10], 4, 3);
        assert_eq!(chosen(&five, 9, Some(31)), "g0", "all but the oldest fit");
        assert_eq!(chosen(&five, 9, Some(25)), "g0 g1 g2", "nothing older than what does not fit is kept");
    }

    #[test]
    fn the_active_one_and_the_one_before_are_never_removed() {
        let five = state(&[1000; 5], 0, 1);
        assert_eq!(chosen(&five, 2, Some(1)), "g2 g3 g4");
    }

    #[test]
    fn the_one_that_is_ready_is_never_removed() {
        let five = state(&[1; 5], 0, 1);
        let ready = "g2".parse().unwrap();
        let names = surplus(&five, &Keep { generations: 2, bytes: None }, Some(&ready));
        assert_eq!(names.iter().map(GenerationName::as_str).collect::<Vec<_>>(), ["g3", "g4"]);
    }

    #[test]
    fn what_was_found_is_never_removed() {
        let mut five = state(&[1; 5], 4, 3);
        five.generations.values_mut().for_each(|generation| generation.record = None);
        assert_eq!(chosen(&five, 2, Some(1)), "");
    }
}
