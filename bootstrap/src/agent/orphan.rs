//! Orphans: what a leader wrote that no snapshot has, kept when somebody else led after it.
//!
//! `orphaned/TERM/state` is the generation it wrote to, moved there as a whole; `diff.json` and `diff.txt` say what in it the
//! last shared snapshot lacks. Nothing removes them but a person. Documented in `docs/agent.md`, "Orphaned state".
//! Layer: joins `snapkit::node` and `snapkit::diff`.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use manifests::document::record::Record;
use manifests::document::snapshot::Snapshot;
use serde_json::{Map, Value, json};
use snapkit::cancel::Cancel;
use snapkit::diff::json::JsonWriter;
use snapkit::diff::{self, Answer, Options, Source, Summary, TreePair, text};
use snapkit::fetch::Fetcher;
use snapkit::node::{self, GenerationName, GenerationTree, NodeDir};
use snapkit::progress::Progress;

use super::follow::name_of;
use super::machine::Trouble;
use super::persist::Led;

/// The form of `diff.json`: that of `snapkit diff`.
const SCHEMA: &str = "snapkit.diff/1";

/// Where the state of a lost leadership goes.
pub fn place(node: &Path, led: &Led) -> PathBuf {
    node.join("orphaned").join(led.term.to_string())
}

/// The states that lie aside, by term.
pub fn list(node: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(node.join("orphaned")) else { return Vec::new() };
    let mut terms: Vec<u64> = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect();
    terms.sort_unstable();
    terms.into_iter().map(|term| format!("orphaned/{term}")).collect()
}

/// A tree of the last shared snapshot, and what the leader made of it.
pub fn pair<'a>(
    tree: &GenerationTree,
    base: Option<(&'a Record, &'a Snapshot)>,
    fetcher: &'a Fetcher<'a>,
    top: &Path,
) -> TreePair<'a> {
    let shared = base.and_then(|(_, snapshot)| snapshot.private.trees.iter().find(|shared| shared.name == tree.name));
    TreePair {
        name: tree.name.clone(),
        a: shared.map_or(Source::Nothing, |tree| Source::Snapshot { fetcher, tree }),
        b: Source::Directory(if tree.inside { top.join(&tree.name) } else { top.to_owned() }),
    }
}

/// Compares, and moves the generation aside if it holds anything of its own. Can be done again at any point.
///
/// # Errors
/// [`Trouble`]; the generation is where it was, or aside.
pub fn set_aside(
    node: &NodeDir,
    name: &GenerationName,
    led: &Led,
    base: Option<&Record>,
    pairs: &[TreePair<'_>],
    scratch: &Path,
    cancel: &Cancel,
) -> Result<Option<String>, Trouble> {
    let directory = place(node.path(), led);
    let failed = |what: &str, error: &dyn std::fmt::Display| Trouble {
        why: format!("the state of term {} cannot be {what}: {error}", led.term),
        next: Some(format!("look at generations/{name}; it is tried again")),
        refused: false,
        class: None,
    };
    let summary = report(&directory, led, base, pairs, scratch, cancel).map_err(|error| failed("compared", &error))?;
    if summary.answer() == Answer::Same {
        fs::remove_dir_all(&directory).map_err(|error| failed("cleared", &error))?;
        return Ok(None);
    }
    node::set_aside(node, name, &directory.join("state")).map_err(|error| failed("moved", &error))?;
    let (added, changed, removed) = (summary.added, summary.changed, summary.removed);
    Ok(Some(format!("{}: {added} added, {changed} changed, {removed} removed", directory.display())))
}

/// Writes what differs, for programs and for people.
fn report(
    directory: &Path,
    led: &Led,
    base: Option<&Record>,
    pairs: &[TreePair<'_>],
    scratch: &Path,
    cancel: &Cancel,
) -> Result<Summary, Box<dyn std::error::Error>> {
    fs::create_dir_all(directory)?;
    let create =
        |name: &str| -> io::Result<BufWriter<File>> { Ok(BufWriter::new(File::create(directory.join(name))?)) };
    let a = base.map_or_else(|| "no snapshot".to_owned(), name_of);
    let b = format!("what this node wrote in term {}", led.term);
    let mut head: Map<String, Value> = Map::new();
    head.insert("a".into(), json!({ "kind": "snapshot", "name": a, "seq": base.map(|record| record.header.seq) }));
    head.insert("b".into(), json!({ "kind": "directory", "name": b }));
    let mut for_programs = JsonWriter::new(create("diff.json")?, SCHEMA, &head)?;
    let mut for_people = create("diff.txt")?;
    writeln!(for_people, "A: {a}\nB: {b}\n")?;
    let options = Options { ranges: true, ..Options::default() };
    let summary = diff::compare(pairs, &options, scratch, cancel, &Progress::new(), &mut |difference| {
        for_programs.push(difference)?;
        text::write_difference(&mut for_people, difference)
    })?;
    for_programs.finish(&summary)?;
    text::write_summary(&mut for_people, &summary, false)?;
    for_people.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
    File::open(directory)?.sync_all()?;
    Ok(summary)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_are_listed_as_numbers() {
        let node = tempfile::tempdir().unwrap();
        assert!(list(node.path()).is_empty());
        for term in [10, 9] {
            fs::create_dir_all(place(node.path(), &Led { term, generation: String::new() })).unwrap();
        }
        assert_eq!(list(node.path()), ["orphaned/9", "orphaned/10"]);
    }
}
