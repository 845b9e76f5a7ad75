//! What is restored, and what a node declares: which snapshot of the chain, and `node.toml` from the pins.
//!
//! Without a rollback the newest complete snapshot is the one; the manifest's own is where the chain was verified to go
//! through. An interrupted bring-up goes on with the one it chose, as long as that is not too old to be brought up.
//! Documented in `docs/bring-up.md`, "Which snapshot". Layer: joins chain and node directory; changes neither.

use std::path::{Path, PathBuf};

use jiff::SignedDuration;
use manifests::document::pins::{PinnedTree, Pins};
use manifests::document::record::{Body, Record};
use manifests::document::snapshot::Snapshot;
use snapkit::chain::{Chain, ChainError, record_name};
use snapkit::manifest::Followed;
use snapkit::node::GENERATIONS;
use snapkit::restore::{self, Chosen, Owners};

use super::{Order, Paths, Which};

/// The snapshot that is restored.
#[derive(Debug, Clone)]
pub struct Target {
    /// Its verified record.
    pub record: Record,
    /// Its name.
    pub name: String,
    /// Whether an interrupted run chose it.
    pub resumes: bool,
}

impl Target {
    /// What the record says.
    pub fn snapshot(&self) -> &Snapshot {
        match &self.record.body {
            Body::Snapshot(snapshot) => snapshot,
            _ => unreachable!("a target is made of a snapshot alone"),
        }
    }
}

/// Chooses the snapshot.
///
/// # Errors
/// What a record is refused for.
pub fn target(order: &Order, chain: &Chain<'_>, followed: &Followed) -> Result<Target, ChainError> {
    if let Some(target) = interrupted(order, chain, followed)? {
        return Ok(target);
    }
    let record = match order.which {
        Which::Newest => followed.snapshot.clone(),
        // Followed: this record was compared with everything that the manifest says of it.
        Which::Pinned => chain.record_under(followed.manifest.manifest.snapshot.seq, &followed.newest)?,
    };
    let name = record_name(&record).unwrap_or_default();
    Ok(Target { record, name, resumes: false })
}

/// What an interrupted run of the same order chose, if that may still be brought up.
fn interrupted(order: &Order, chain: &Chain<'_>, followed: &Followed) -> Result<Option<Target>, ChainError> {
    let mut before = restore::interrupted_in(&order.node.join(GENERATIONS));
    before.retain(|before| before.selector == selector(order.which) && before.chain == chain.id().to_string());
    let [before] = &before[..] else { return Ok(None) };
    let manifest = &followed.manifest.manifest;
    if before.seq < manifest.snapshot.seq || before.seq > followed.newest.head.seq {
        return Ok(None);
    }
    let record = chain.record_under(before.seq, &followed.newest)?;
    let Body::Snapshot(snapshot) = &record.body else { return Ok(None) };
    let limit = i64::try_from(followed.pins.pins.max_head_age_seconds).unwrap_or(i64::MAX);
    let age = chain.now().duration_since(snapshot.private.started);
    let fits = snapshot.public.complete && age <= SignedDuration::from_secs(limit);
    let is_same = record.digest.to_string() == before.record;
    let name = record_name(&record).unwrap_or_default();
    Ok((is_same && fits).then_some(Target { record, name, resumes: true }))
}

fn selector(which: Which) -> &'static str {
    match which {
        Which::Newest => "bring-up newest",
        Which::Pinned => "bring-up pinned",
    }
}

/// What a run that goes on with this one must have been asked for, too.
pub fn chosen(order: &Order, target: &Target, chain: &Chain<'_>, trees: &[(String, Option<String>)]) -> Chosen {
    let owners = match order.owners {
        Owners::Ids => "ids",
        Owners::Names => "names",
        Owners::Me => "me",
    };
    let mut request = vec![format!("owner {owners}")];
    request.extend(trees.iter().map(|(tree, inside)| format!("tree {tree} {inside:?}")));
    let which = (target.record.header.seq, target.record.digest.to_string());
    Chosen::new(chain.id().to_string(), selector(order.which).to_owned(), which, request)
}

/// What a tree of the pins is on this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Leads {
    /// Its path lies in the node and needs nothing.
    Inside,
    /// Its path is a symlink with this target.
    Link(PathBuf),
    /// The directory at its path is exchanged.
    Fixed,
}

/// How each tree of the pins is reached, in their order; nothing where the paths are left alone. The snapshot has `trees`.
pub fn leads<'p>(pins: &'p Pins, trees: usize, node: &Path, paths: Paths) -> Vec<(&'p PinnedTree, Leads)> {
    if paths == Paths::Leave {
        return Vec::new();
    }
    let inside = has_directories(pins, trees, paths);
    let lead = |tree: &'p PinnedTree| {
        if tree.activation == "fixed" {
            return (tree, Leads::Fixed);
        }
        let current = node.join("current");
        let place = if inside { current.join(&tree.name) } else { current };
        let leads = if Path::new(&tree.path) == place { Leads::Inside } else { Leads::Link(place) };
        (tree, leads)
    };
    pins.trees.iter().map(lead).collect()
}

/// Whether each tree lies in a directory of its name: the rule of `docs/node.md`.
fn has_directories(pins: &Pins, trees: usize, paths: Paths) -> bool {
    trees > 1 || paths == Paths::Lead && pins.trees.iter().any(|tree| tree.activation == "fixed")
}

/// The first line of a `node.toml` that bring-up made, and makes again when the pins change.
pub const MADE: &str =
    "# Made by bootstrap from the pins, and made again when they change; without this line it is kept.";

/// What a node declares that runs by these pins, from a snapshot with so many `trees`.
pub fn node_toml(pins: &Pins, trees: usize, node: &Path, paths: Paths) -> String {
    let inside = has_directories(pins, trees, paths);
    let files = pins.trees.iter().flat_map(|tree| {
        let must = tree.files.iter().filter(|file| file.policy == "must-match");
        must.map(move |file| if inside { format!("{}/{}", tree.name, file.path) } else { file.path.clone() })
    });
    let files: Vec<toml::Value> = files.map(toml::Value::String).collect();
    let (mut links, mut fixed) = (toml::Table::new(), toml::Table::new());
    for (tree, leads) in leads(pins, trees, node, paths) {
        match leads {
            Leads::Inside => {}
            Leads::Link(to) => drop(links.insert(tree.path.clone(), to.display().to_string().into())),
            Leads::Fixed => drop(fixed.insert(tree.name.clone(), tree.path.clone().into())),
        }
    }
    let mut require = toml::Table::new();
    require.insert("files".into(), files.into());
    require.insert("links".into(), links.into());
    let mut document = toml::Table::new();
    document.insert("require".into(), require.into());
    document.insert("fixed".into(), fixed.into());
    format!("{MADE}\n# Pins {} v{}. Its keys: docs/node.md.\n\n{document}", pins.name, pins.version)
}

#[cfg(test)]
mod tests {
    use super::*;
    use snapkit::node::NodeConfig;

    fn pins(trees: &[(&str, &str, &str)]) -> Pins {
        let trees: Vec<_> = trees
            .iter()
            .map(|(name, path, activation)| {
                serde_json::json!({"name": name, "path": path, "activation": activation, "files": [
                    {"path": "a \"b\".conf", "policy": "must-match"}, {"path": "db", "policy": "may-advance"}]})
            })
            .collect();
        serde_json::from_value(serde_json::json!({
            "format": "0-draft", "chain": "a".repeat(64), "name": "app", "version": 3, "trees": trees,
            "issued": "2026-01-01T00:00:00Z", "expires": "2027-01-01T00:00:00Z", "images": [], "needs": {},
            "max_head_age_seconds": 60,
        }))
        .unwrap()
    }

    fn parsed(pins: &Pins, paths: Paths) -> NodeConfig {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("node.toml"), node_toml(pins, pins.trees.len(), Path::new("/n"), paths))
            .unwrap();
        NodeConfig::read(directory.path()).unwrap()
    }

    #[test]
    fn one_tree_is_the_generation_and_its_path_a_link_to_it() {
        let config = parsed(&pins(&[("state", "/srv/state", "current")]), Paths::Lead);
        assert_eq!(config.require.files, ["a \"b\".conf"]);
        assert_eq!(config.require.links[Path::new("/srv/state")], Path::new("/n/current"));
        assert!(config.fixed.is_empty());
    }

    #[test]
    fn with_a_fixed_path_or_several_trees_each_has_a_directory() {
        let config = parsed(&pins(&[("a", "/srv/a", "fixed"), ("b", "/n/current/b", "current")]), Paths::Lead);
        assert_eq!(config.require.files, ["a/a \"b\".conf", "b/a \"b\".conf"]);
        assert!(config.require.links.is_empty());
        assert_eq!(config.fixed["a"], Path::new("/srv/a"));
    }

    #[test]
    fn paths_that_are_left_alone_are_not_declared() {
        let config = parsed(&pins(&[("a", "/srv/a", "fixed")]), Paths::Leave);
        assert_eq!(config.require.files, ["a \"b\".conf"]);
        assert!(config.fixed.is_empty() && config.require.links.is_empty());
    }
}
