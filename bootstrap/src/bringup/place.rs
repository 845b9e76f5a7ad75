//! Places: the paths of this machine that shall lead into a node, and the directory that becomes one.
//!
//! A link is made only where nothing is, and nothing that is there is ever removed. Layer: files.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;

use super::machine;
use super::prerequisites::Prerequisite;

/// What a directory may hold that is to become a node.
const PREPARED: &[&str] = &["bootstrap.toml", "node.toml", "generations", ".node"];

/// Whether a directory is empty, or holds only what an operator prepares and an interrupted bring-up leaves.
///
/// # Errors
/// When it cannot be read.
pub fn is_free(directory: &Path) -> io::Result<bool> {
    for entry in fs::read_dir(directory)? {
        let name = entry?.file_name();
        if !PREPARED.iter().any(|prepared| name == *prepared) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether `path` is, or can be made, a link to `to` in `node`.
pub fn link(path: &Path, to: &Path, node: &Path) -> Prerequisite {
    let what = format!("{} leads to {}", path.display(), to.display());
    if path.starts_with(node) {
        let next = format!("have pins signed whose path is {}, or outside of the node", to.display());
        return Prerequisite::lacking("path", what, "it lies in the node, and elsewhere", next);
    }
    let in_the_way = |found: String| {
        let next = "move it away; what it holds is not touched. Or give --leave-paths, where the service finds its state by \
                    SNAPKIT_NODE_DIR";
        Prerequisite::lacking("path", what.clone(), found, next)
    };
    match fs::symlink_metadata(path) {
        Ok(found) if found.is_symlink() => match fs::read_link(path) {
            Ok(target) if target == to => Prerequisite::met("path", what),
            Ok(target) => in_the_way(format!("it leads to {}", target.display())),
            Err(error) => in_the_way(error.to_string()),
        },
        Ok(found) if found.is_dir() => in_the_way("a directory is there".to_owned()),
        Ok(_) => in_the_way("a file is there".to_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let above = machine::existing(path);
            match rustix::fs::access(&above, rustix::fs::Access::WRITE_OK) {
                Ok(()) => Prerequisite::found("path", what, "the link is made"),
                Err(error) => in_the_way(format!("{} cannot be written: {error}", above.display())),
            }
        }
        Err(error) => in_the_way(error.to_string()),
    }
}

/// Whether the directory at `path` can be exchanged with one of `node`.
pub fn fixed(path: &Path, node: &Path) -> Prerequisite {
    let what = format!("the directory {} can be exchanged", path.display());
    let device = |path: &Path| machine::existing(path).metadata().map(|found| found.dev());
    let parent = path.parent().unwrap_or(Path::new("/"));
    let problem = match fs::symlink_metadata(path) {
        Ok(found) if !found.is_dir() => Some("something that is no directory is there".to_owned()),
        Ok(found) if device(parent).is_ok_and(|above| above != found.dev()) => Some("it is a mount point".to_owned()),
        Err(error) if error.kind() != io::ErrorKind::NotFound => Some(error.to_string()),
        _ => None,
    };
    let problem = problem.or_else(|| match (device(parent), device(node)) {
        (Ok(at), Ok(of_node)) if at == of_node => None,
        (Ok(_), Ok(_)) => Some("it is on another file system than the node".to_owned()),
        (Err(error), _) | (_, Err(error)) => Some(error.to_string()),
    });
    match problem {
        None => Prerequisite::met("path", what),
        Some(found) => Prerequisite::lacking("path", what, found, "docs/node.md says what a fixed path must be"),
    }
}

/// Makes a link where nothing is, with its directories; says whether it did.
///
/// # Errors
/// When something else is there, or the system refuses.
pub fn make_link(path: &Path, to: &Path) -> io::Result<bool> {
    make_above(path)?;
    match symlink(to, path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && fs::read_link(path).is_ok_and(|at| at == to) => {
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

/// Makes the directories above `path`.
///
/// # Errors
/// When the system refuses.
pub fn make_above(path: &Path) -> io::Result<()> {
    fs::create_dir_all(path.parent().unwrap_or(Path::new("/")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_made_only_where_nothing_is() {
        let directory = tempfile::tempdir().unwrap();
        let (path, to) = (directory.path().join("a/b"), directory.path().join("node/current"));
        let node = directory.path().join("node");
        assert!(link(&path, &to, &node).holds);
        assert!(make_link(&path, &to).unwrap());
        assert!(!make_link(&path, &to).unwrap());
        assert!(link(&path, &to, &node).holds);
        let other = link(&path, &directory.path().join("else"), &node);
        assert!(other.stops() && other.found.unwrap().starts_with("it leads to"));
        let file = directory.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(link(&file, &to, &node).stops());
        assert!(make_link(&file, &to).is_err());
        assert!(link(&node.join("x"), &to, &node).stops());
    }

    #[test]
    fn a_directory_with_anything_else_is_not_free() {
        let directory = tempfile::tempdir().unwrap();
        assert!(is_free(directory.path()).unwrap());
        fs::write(directory.path().join("bootstrap.toml"), "").unwrap();
        assert!(is_free(directory.path()).unwrap());
        fs::write(directory.path().join("precious"), "").unwrap();
        assert!(!is_free(directory.path()).unwrap());
    }
}
