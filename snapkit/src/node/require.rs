//! What must hold after a switch: checked by reading again, the way whoever uses the node would reach it.
//!
//! Layer: files; decides nothing.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};

use super::config::Require;
use super::dir::NodeDir;
use super::state::{Generation, RequiredFile};
use crate::entry::{Entry, Kind, printable};
use crate::id::hex;

/// One thing that must hold, and what was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// What must hold.
    pub what: String,
    /// Why it does not; `None` when it does.
    pub problem: Option<String>,
}

impl RequiredFile {
    /// What the snapshot says of a load-bearing path; `None` for what is neither file nor symlink.
    pub(super) fn of(path: &str, entry: &Entry) -> Option<Self> {
        let (kind, bytes, content) = match &entry.kind {
            Kind::File { size, content, .. } => ("file", *size, content.to_string()),
            Kind::Symlink { target } => ("symlink", 0, printable(target)),
            _ => return None,
        };
        Some(Self { path: path.to_owned(), kind: kind.to_owned(), mode: entry.mode, bytes, content })
    }

    /// The first difference to what is on disk now.
    fn difference(&self, found: &Self) -> Option<String> {
        let differs = |what: &str, expected: String, found: String| {
            (expected != found).then(|| format!("{what} {found}, expected {expected}"))
        };
        differs("type", self.kind.clone(), found.kind.clone())
            .or_else(|| differs("mode", format!("{:o}", self.mode), format!("{:o}", found.mode)))
            .or_else(|| differs("length", self.bytes.to_string(), found.bytes.to_string()))
            .or_else(|| {
                let what = if self.kind == "symlink" { "target" } else { "content" };
                differs(what, self.content.clone(), found.content.clone())
            })
    }
}

/// The tree that a path of `node.toml` lies in, and the path in it.
pub(super) fn split<'p>(generation: &Generation, path: &'p str) -> Option<(usize, &'p str)> {
    if let [tree] = &generation.trees[..]
        && !tree.inside
    {
        return Some((0, path));
    }
    let (name, rest) = path.split_once('/')?;
    Some((generation.trees.iter().position(|tree| tree.name == name)?, rest))
}

/// The directory that a path of the active generation is looked up in, and the path below it.
fn reached<'p>(node: &NodeDir, generation: &Generation, path: &'p str) -> Option<(PathBuf, &'p str)> {
    let current = node.path().join("current");
    let (index, rest) = split(generation, path)?;
    let tree = &generation.trees[index];
    let directory = match &tree.fixed {
        Some(fixed) => fixed.clone(),
        None if tree.inside => current.join(&tree.name),
        None => current,
    };
    Some((directory, rest))
}

/// Everything that must hold while `generation` is active, with what was found.
pub(super) fn check(node: &NodeDir, generation: &Generation, require: &Require) -> Vec<Check> {
    let mut checks = Vec::new();
    for tree in generation.trees.iter().filter(|tree| tree.fixed.is_some()) {
        let fixed = tree.fixed.as_deref().unwrap_or(Path::new("/"));
        let is_there = fs::symlink_metadata(fixed).is_ok_and(|found| found.is_dir());
        let problem = (!is_there).then(|| "there is no directory".to_owned());
        checks.push(Check { what: format!("tree {} at {}", tree.name, fixed.display()), problem });
    }
    for path in &require.files {
        let recorded = generation.required.iter().find(|required| required.path == *path);
        let found = match reached(node, generation, path) {
            Some((directory, rest)) => look(&directory, rest, path),
            None => Err(io::Error::other("the generation has no such tree")),
        };
        let problem = match (found, recorded) {
            (Err(error), _) => Some(error.to_string()),
            (Ok(found), Some(recorded)) => recorded.difference(&found),
            // It was declared after this generation was restored: there is nothing to compare it with.
            (Ok(_), None) => None,
        };
        let what = if recorded.is_some() { "" } else { ", present" };
        checks.push(Check { what: format!("file {path}{what}"), problem });
    }
    for (link, target) in &require.links {
        checks.push(Check {
            what: format!("link {} -> {}", link.display(), target.display()),
            problem: look_at_link(link, target).err().map(|error| error.to_string()),
        });
    }
    checks
}

/// The first requirement that does not hold, in words.
pub(super) fn first_problem(checks: &[Check]) -> Option<String> {
    let problem = |check: &Check| Some(format!("{}: {}", check.what, check.problem.as_ref()?));
    checks.iter().find_map(problem)
}

fn look_at_link(link: &Path, target: &Path) -> io::Result<()> {
    let found = fs::read_link(link)?;
    if found != target {
        return Err(io::Error::other(format!("it points to {}", found.display())));
    }
    fs::metadata(link).map_err(|error| io::Error::new(error.kind(), format!("it leads to nothing: {error}")))?;
    Ok(())
}

/// What is at a path now. Nothing below `directory` is reached through a symlink.
pub(super) fn look(directory: &Path, path: &str, as_named: &str) -> io::Result<RequiredFile> {
    let directory = File::open(directory)?;
    let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let open = |path: &str, flags| {
        rustix::fs::openat2(&directory, path, flags | OFlags::CLOEXEC, Mode::empty(), beneath).map(File::from)
    };
    // A handle that reads nothing, so that a fifo does not wait and a symlink is itself.
    let (above, name) = path.rsplit_once('/').unwrap_or((".", path));
    let above = open(above, OFlags::PATH | OFlags::DIRECTORY)?;
    let stat = rustix::fs::statat(&above, name, rustix::fs::AtFlags::SYMLINK_NOFOLLOW)?;
    let mut found = RequiredFile {
        path: as_named.to_owned(),
        kind: "file".to_owned(),
        mode: stat.st_mode & 0o7777,
        bytes: stat.st_size as u64,
        content: String::new(),
    };
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => {
            let mut hasher = blake3::Hasher::new();
            hasher.update_reader(open(path, OFlags::RDONLY | OFlags::NONBLOCK)?)?;
            found.bytes = hasher.count();
            found.content = hex(hasher.finalize().as_bytes());
        }
        FileType::Symlink => {
            let target = rustix::fs::readlinkat(&above, name, Vec::new())?;
            found = RequiredFile {
                kind: "symlink".to_owned(),
                mode: 0,
                bytes: 0,
                content: printable(target.as_bytes()),
                ..found
            };
        }
        _ => return Err(io::Error::other("it is neither a file nor a symlink")),
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_required_file_is_compared_in_type_mode_length_and_content() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a");
        fs::write(&path, "one").unwrap();
        let before = look(directory.path(), "a", "a").unwrap();
        assert_eq!(before.difference(&look(directory.path(), "a", "a").unwrap()), None);
        fs::write(&path, "two").unwrap();
        assert!(before.difference(&look(directory.path(), "a", "a").unwrap()).unwrap().starts_with("content"));
        fs::write(&path, "three").unwrap();
        assert!(before.difference(&look(directory.path(), "a", "a").unwrap()).unwrap().starts_with("length"));
        fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("elsewhere", &path).unwrap();
        assert!(before.difference(&look(directory.path(), "a", "a").unwrap()).unwrap().starts_with("type"));
    }

    #[test]
    fn a_required_file_is_not_reached_through_a_symlink() {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("real")).unwrap();
        fs::write(directory.path().join("real/a"), "one").unwrap();
        std::os::unix::fs::symlink("real", directory.path().join("link")).unwrap();
        assert!(look(directory.path(), "real/a", "a").is_ok());
        assert!(look(directory.path(), "link/a", "a").is_err());
    }

    #[test]
    fn a_required_link_must_point_there_and_lead_to_something() {
        let directory = tempfile::tempdir().unwrap();
        let (link, target) = (directory.path().join("link"), directory.path().join("target"));
        std::os::unix::fs::symlink(&target, &link).unwrap();
        assert!(look_at_link(&link, &target).is_err(), "it leads to nothing");
        fs::write(&target, "").unwrap();
        assert!(look_at_link(&link, &target).is_ok());
        assert!(look_at_link(&link, Path::new("elsewhere")).is_err());
        assert!(look_at_link(&target, &target).is_err(), "it is no link");
    }
}
