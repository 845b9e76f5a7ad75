//! What a snapshot leaves out: gitignore patterns, cache directories, other file systems.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use ignore::gitignore::{Gitignore, GitignoreBuilder};

/// First bytes of a `CACHEDIR.TAG` file that count. Source: <https://bford.info/cachedir/>.
pub const CACHEDIR_SIGNATURE: &[u8] = b"Signature: 8a477f597d28d172789f06886806bc55";

/// Why an exclude cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ExcludeError {
    /// A pattern is not gitignore syntax.
    #[error("cannot use the exclude pattern {pattern:?}")]
    Pattern {
        /// The pattern.
        pattern: String,
        /// What is wrong with it.
        source: ignore::Error,
    },
    /// A file of patterns cannot be read.
    #[error("cannot read the exclude file {}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
}

/// Patterns in gitignore syntax, relative to the directory that is scanned.
#[derive(Clone, Debug)]
pub struct Excludes {
    matcher: Gitignore,
}

impl Excludes {
    /// From patterns and files of patterns; later patterns win, `!` takes back.
    ///
    /// # Errors
    /// [`ExcludeError`] with the pattern or file.
    pub fn new(patterns: &[String], files: &[PathBuf]) -> Result<Self, ExcludeError> {
        let mut builder = GitignoreBuilder::new("");
        let mut add = |line: &str| {
            builder
                .add_line(None, line)
                .map(|_| ())
                .map_err(|source| ExcludeError::Pattern { pattern: line.to_owned(), source })
        };
        for path in files {
            let text =
                std::fs::read_to_string(path).map_err(|source| ExcludeError::File { path: path.clone(), source })?;
            text.lines().try_for_each(&mut add)?;
        }
        patterns.iter().try_for_each(|pattern| add(pattern))?;
        let matcher = builder.build().map_err(|source| ExcludeError::Pattern { pattern: String::new(), source })?;
        Ok(Self { matcher })
    }

    /// Whether a path inside the scanned directory is left out.
    pub fn leaves_out(&self, path: &[u8], is_directory: bool) -> bool {
        let path = Path::new(std::ffi::OsStr::from_bytes(path));
        !self.matcher.is_empty() && self.matcher.matched(path, is_directory).is_ignore()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_follow_gitignore() {
        let rules = ["*.log", "!keep.log", "/top", "build/"].map(String::from);
        let excludes = Excludes::new(&rules, &[]).unwrap();
        assert!(excludes.leaves_out(b"a/x.log", false));
        assert!(!excludes.leaves_out(b"a/keep.log", false));
        assert!(excludes.leaves_out(b"top", false));
        assert!(!excludes.leaves_out(b"a/top", false));
        assert!(excludes.leaves_out(b"a/build", true));
        assert!(!excludes.leaves_out(b"a/build", false));
        assert!(excludes.leaves_out(b"\xff.log", false));
    }

    #[test]
    fn broken_pattern_is_named() {
        let error = Excludes::new(&["[z-a]".to_owned()], &[]).unwrap_err();
        assert!(error.to_string().contains("[z-a]"));
    }
}
