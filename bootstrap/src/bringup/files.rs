//! The files of a node that bring-up writes: `bootstrap.toml` for the agent, `node.toml` from the pins, and links.
//!
//! Each is replaced as a whole by one rename, after the node directory exists, and before anything is restored. What an
//! operator wrote is kept: of `bootstrap.toml` only the line `from` follows the order, and a `node.toml` that bring-up did not
//! make is not touched. Layer: files.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use manifests::refusal::{Class, Refusal};
use snapkit::node::{NodeDir, Work};
use snapkit::trust::Bootstrap;

use super::plan::{Leads, MADE, node_toml};
use super::run::BringUp;
use super::{BringUpError, place};

/// The agent's file in a node directory.
pub const AGENT_FILE: &str = "bootstrap.toml";
/// The node's own file.
pub const NODE_FILE: &str = "node.toml";

/// What files that are being written begin with.
const BEGUN: &str = ".snapkit-begun-";

/// What was written.
#[derive(Debug, Default, serde::Serialize)]
pub struct Written {
    /// Files and links that were made or changed.
    pub written: Vec<String>,
    /// Files of the operator that were kept although the pins say something else.
    pub kept: Vec<String>,
}

/// Refuses a directory that is a node of another chain.
///
/// # Errors
/// [`Class::Origin`]; an unreadable or malformed file.
pub fn check_origin(node: &Path, from: &Bootstrap) -> Result<(), BringUpError> {
    let Some((path, text)) = read(&node.join(AGENT_FILE))? else { return Ok(()) };
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
        let problem = io::Error::other(error.message().to_owned());
        BringUpError::Io { what: format!("read {path}"), source: problem }
    })?;
    let Some(known) = table.get("from").and_then(toml::Value::as_str) else { return Ok(()) };
    let root = |from: &str| from.parse::<Bootstrap>().ok().map(|from| from.pin.root);
    if root(known) == Some(from.pin.root) {
        return Ok(());
    }
    let found = format!("one of root sha256:{}", from.pin.root);
    Err(Refusal::new(Class::Origin, path, format!("the chain of this node, {known}"), found)
        .with_hint("name another directory for the other chain, or correct `from` in that file")
        .into())
}

/// Writes what the node is.
///
/// # Errors
/// [`BringUpError::Io`]
pub fn write(up: &BringUp<'_>, node: &NodeDir) -> Result<Written, BringUpError> {
    // Two runs for one node do not write at the same time, and what a killed one left is nobody's any more.
    let _lock = node.lock(Work::Restore)?;
    sweep(node.path()).map_err(BringUpError::io(format!("look at {}", node.path().display())))?;
    let mut done = Written::default();
    agent_file(up, node.path(), &mut done)?;
    node_file(up, node.path(), &mut done)?;
    for (tree, leads) in up.leads() {
        let path = Path::new(&tree.path);
        let failed = |what: &str| BringUpError::io(format!("{what} {}", path.display()));
        match leads {
            Leads::Inside => {}
            Leads::Link(to) => {
                if place::make_link(path, &to).map_err(failed("make the link"))? {
                    done.written.push(path.display().to_string());
                }
            }
            Leads::Fixed => place::make_above(path).map_err(failed("make the directory of"))?,
        }
    }
    Ok(done)
}

/// Removes files that a killed run had not put in their place.
fn sweep(node: &Path) -> io::Result<()> {
    for entry in fs::read_dir(node)? {
        let entry = entry?;
        if entry.file_name().as_encoded_bytes().starts_with(BEGUN.as_bytes()) && entry.file_type()?.is_file() {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn agent_file(up: &BringUp<'_>, node: &Path, done: &mut Written) -> Result<(), BringUpError> {
    let path = node.join(AGENT_FILE);
    let from = format!("from = {}", quoted(&up.origin.from.to_string()));
    let text = match read(&path)? {
        // The order says where from; everything else in the file is the operator's.
        Some((_, text)) if text.lines().any(is_from) => {
            let lines = text.lines().map(|line| if is_from(line) { from.as_str() } else { line });
            lines.map(|line| format!("{line}\n")).collect()
        }
        Some((_, text)) => format!("{from}\n{text}"),
        None => fresh(up, &from),
    };
    put(&path, &text, done)
}

fn is_from(line: &str) -> bool {
    line.trim_start().strip_prefix("from").is_some_and(|rest| rest.trim_start().starts_with('='))
}

fn fresh(up: &BringUp<'_>, from: &str) -> String {
    let mut text = "# What the agent of this node is told. Its keys: docs/agent.md.\n".to_owned();
    let manifest = quoted(&up.followed.manifest.manifest.name);
    let home = quoted(&up.home.display().to_string());
    text.push_str(&format!("{from}\nmanifest = {manifest}\nhome = {home}\n"));
    let engine =
        up.engine_command().filter(|_| up.followed.pins.pins.service.as_ref().is_some_and(|it| it.compose.is_some()));
    if let Some(engine) = engine {
        text.push_str(&format!("\n[service]\nengine = {}\n", quoted(&engine)));
    }
    text
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

fn node_file(up: &BringUp<'_>, node: &Path, done: &mut Written) -> Result<(), BringUpError> {
    let path = node.join(NODE_FILE);
    let trees = up.target.snapshot().private.trees.len();
    let wanted = node_toml(&up.followed.pins.pins, trees, node, up.order.paths);
    match read(&path)? {
        Some((shown, text)) if !text.starts_with(MADE) && text != wanted => {
            done.kept.push(shown);
            Ok(())
        }
        _ => put(&path, &wanted, done),
    }
}

fn read(path: &Path) -> Result<Option<(String, String)>, BringUpError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some((path.display().to_string(), text))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(BringUpError::io(format!("read {}", path.display()))(error)),
    }
}

/// Replaces a file by a text in one durable step, unless it says so already.
fn put(path: &Path, text: &str, done: &mut Written) -> Result<(), BringUpError> {
    if fs::read(path).is_ok_and(|there| there == text.as_bytes()) {
        return Ok(());
    }
    let failed = BringUpError::io(format!("write {}", path.display()));
    let directory = path.parent().unwrap_or(Path::new("/"));
    let replace = || {
        let mut file = tempfile::Builder::new().prefix(BEGUN).tempfile_in(directory)?;
        file.write_all(text.as_bytes())?;
        file.as_file().sync_all()?;
        file.persist(path).map_err(|error| error.error)?;
        File::open(directory)?.sync_all()
    };
    replace().map_err(failed)?;
    done.written.push(path.display().to_string());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_line_from_is_the_orders() {
        assert!(is_from("from = \"x\"") && is_from("  from=\"x\""));
        assert!(!is_from("fromage = 1") && !is_from("# from = 2") && !is_from("manifest = \"from = \""));
    }

    #[test]
    fn a_directory_of_another_chain_is_refused_and_the_same_chain_elsewhere_is_not() {
        let node = tempfile::tempdir().unwrap();
        let from =
            |root: &str, url: &str| format!("{url}#root=sha256:{}", root.repeat(64)).parse::<Bootstrap>().unwrap();
        check_origin(node.path(), &from("a", "/s")).unwrap();
        fs::write(node.path().join(AGENT_FILE), format!("from = \"{}\"\n", from("a", "/s"))).unwrap();
        check_origin(node.path(), &from("a", "/elsewhere")).unwrap();
        let refused = check_origin(node.path(), &from("b", "/s")).unwrap_err();
        assert!(matches!(refused, BringUpError::Refused(refusal) if refusal.class() == Class::Origin));
    }
}
