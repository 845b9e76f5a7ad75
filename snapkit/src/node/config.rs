//! `node.toml`: what the operator of a node directory declares. Documented in `docs/node.md`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::NodeError;
use crate::entry::check_path;
use crate::trust::file;

/// The file's name in the node directory.
pub(super) const FILE: &str = "node.toml";
/// The largest file that is read, in bytes; it is written by hand.
const FILE_CAP: usize = 1 << 20;
/// How many generations are kept unless the file says otherwise.
const KEPT_GENERATIONS: u64 = 3;

/// What the operator declares. Without a file: keep three generations, require nothing, no fixed paths.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NodeConfig {
    /// What is kept of old generations.
    pub keep: Keep,
    /// What must hold after a switch.
    pub require: Require,
    /// Trees that are activated at a path of their own, by exchanging directories: tree to absolute path.
    pub fixed: BTreeMap<String, PathBuf>,
}

/// What is kept of old generations. The active one and the one before always are.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Keep {
    /// How many generations, the active one and the one before among them.
    pub generations: u64,
    /// Length of the files of all kept generations together, in bytes; no limit when absent.
    pub bytes: Option<u64>,
}

impl Default for Keep {
    fn default() -> Self {
        Self { generations: KEPT_GENERATIONS, bytes: None }
    }
}

/// What must hold after a switch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Require {
    /// Files and symlinks of the snapshot that must be there and be what the snapshot says. With several trees, or fixed
    /// ones, a path begins with the name of its tree.
    pub files: Vec<String>,
    /// Symlinks of the machine, by absolute path, with what each must point to; it must lead to something.
    pub links: BTreeMap<PathBuf, PathBuf>,
}

impl NodeConfig {
    /// Reads the file in the node directory; the defaults when there is none.
    ///
    /// # Errors
    /// [`NodeError::Config`] for a file that cannot be used.
    pub fn read(node: &Path) -> Result<Self, NodeError> {
        let path = node.join(FILE);
        let wrong = |problem: String| NodeError::Config { path: path.clone(), problem };
        let Some(bytes) = file::read(&path, FILE_CAP).map_err(|error| wrong(error.to_string()))? else {
            return Ok(Self::default());
        };
        let text = std::str::from_utf8(&bytes).map_err(|error| wrong(error.to_string()))?;
        let config: Self = toml::from_str(text).map_err(|error| {
            let line = text.as_bytes().iter().take(error.span().map_or(0, |span| span.start));
            let line = line.filter(|byte| **byte == b'\n').count() + 1;
            wrong(format!("line {line}: {}", error.message().lines().collect::<Vec<_>>().join("; ")))
        })?;
        config.check().map_err(wrong)?;
        Ok(config)
    }

    fn check(&self) -> Result<(), String> {
        if self.keep.generations < 2 {
            return Err("keep.generations must be at least 2: the active one and the one before".to_owned());
        }
        for path in &self.require.files {
            check_path(path.as_bytes()).map_err(|error| format!("require.files: {error}"))?;
            if path.is_empty() {
                return Err("require.files: an empty path names no file".to_owned());
            }
        }
        if let Some(path) = self.require.links.keys().find(|path| !path.is_absolute()) {
            return Err(format!("require.links: {} is not an absolute path", path.display()));
        }
        for (tree, path) in &self.fixed {
            let is_plain = path.is_absolute() && path.file_name().is_some() && path.components().all(is_not_dotted);
            if !is_plain {
                return Err(format!("fixed.{tree}: {} is not an absolute path of a directory", path.display()));
            }
            let others = self.fixed.iter().filter(|(other, _)| *other != tree);
            if let Some((other, _)) = others.into_iter().find(|(_, other)| other.starts_with(path)) {
                return Err(format!("fixed.{other} lies in fixed.{tree}"));
            }
        }
        Ok(())
    }
}

fn is_not_dotted(component: std::path::Component<'_>) -> bool {
    !matches!(component, std::path::Component::ParentDir | std::path::Component::CurDir)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<NodeConfig, String> {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join(FILE), text).unwrap();
        NodeConfig::read(directory.path()).map_err(|error| error.to_string())
    }

    #[test]
    fn without_a_file_three_generations_are_kept() {
        let directory = tempfile::tempdir().unwrap();
        let config = NodeConfig::read(directory.path()).unwrap();
        assert_eq!(config, NodeConfig::default());
        assert_eq!(config.keep.generations, 3);
    }

    #[test]
    fn the_documented_file_is_accepted() {
        let page = include_str!("../../../docs/node.md");
        let (_, rest) = page.split_once("```toml\n").unwrap();
        let (example, _) = rest.split_once("```").unwrap();
        let config = parse(example).unwrap();
        assert!(!config.require.files.is_empty() && !config.require.links.is_empty() && !config.fixed.is_empty());
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for (text, names) in [
            ("[keep]\ngeneration = 3\n", "line 2"),
            ("[keep]\ngenerations = 1\n", "at least 2"),
            ("[require]\nfiles = [\"../x\"]\n", ".."),
            ("[require]\nfiles = [\"\"]\n", "empty"),
            ("[require.links]\n\"a\" = \"/b\"\n", "absolute"),
            ("[fixed]\na = \"b\"\n", "absolute"),
            ("[fixed]\na = \"/\"\n", "absolute"),
            ("[fixed]\na = \"/x/../y\"\n", "absolute"),
            ("[fixed]\na = \"/x\"\nb = \"/x/y\"\n", "lies in"),
            ("[fixed]\na = \"/x\"\nb = \"/x\"\n", "lies in"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(names), "{text}: {error}");
        }
    }
}
