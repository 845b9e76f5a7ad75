//! What must hold within a receipt: docs/format/receipt.md, "Verifying", step 4.

use super::{
    CHANGES, INCLUDE_CAP, LIFTABLE, LIFTED_CAP, LeftOut, PATH_CAP, PROOFS, REASON_CAP, Receipt, RestoredTree, TEXT_CAP,
};
use crate::document::is_name;
use crate::document::snapshot::TREES_CAP;
use crate::document::statement::Statement;
use crate::keys::excerpt;
use crate::refusal::{Class, Refusal};

pub(super) fn check(statement: &Statement<Receipt>, object: &str) -> Result<(), Refusal> {
    let receipt = &statement.predicate;
    check_texts(receipt, object)?;
    check_words(receipt, object)?;
    check_trees(receipt, object)?;
    let inconsistent = |expected: &str, found: &str| Err(Refusal::new(Class::Inconsistent, object, expected, found));
    if (receipt.head.epoch, receipt.head.seq) < (receipt.record.epoch, receipt.record.seq) {
        return inconsistent("a head that is not before the record", "an earlier one");
    }
    statement.check_subject(&receipt.record.name, &receipt.record.digest, Class::Inconsistent, object)?;
    if receipt.finished < receipt.started {
        return inconsistent("an end after the beginning", &receipt.finished.to_string());
    }
    let lost = receipt.selection.is_some()
        || receipt.changes.is_some()
        || receipt.left_out != (LeftOut { trees: 0, entries: 0 })
        || receipt.state.signed != receipt.state.found
        || receipt.trees.iter().any(|tree| tree.signed != tree.found);
    if receipt.exact && lost {
        return inconsistent("an exact restore to have lost nothing", "something that was left out or changed");
    }
    Ok(())
}

fn check_texts(receipt: &Receipt, object: &str) -> Result<(), Refusal> {
    let check = |field: &str, text: &str, cap: usize| {
        if text.is_empty() || text.len() > cap || text.chars().any(char::is_control) {
            let expected = format!("`{field}` of 1 to {cap} bytes without control characters");
            return Err(Refusal::new(Class::Json, object, expected, excerpt(text)));
        }
        Ok(())
    };
    check("record.name", &receipt.record.name, TEXT_CAP)?;
    check("tool.name", &receipt.tool.name, TEXT_CAP)?;
    check("tool.version", &receipt.tool.version, TEXT_CAP)?;
    check("host.name", &receipt.host.name, TEXT_CAP)?;
    check("host.kernel", &receipt.host.kernel, TEXT_CAP)?;
    if let Some(selection) = &receipt.selection {
        if selection.include.len() > INCLUDE_CAP {
            let expected = format!("at most {INCLUDE_CAP} patterns");
            return Err(Refusal::new(Class::TooMany, object, expected, selection.include.len()));
        }
        if selection.path.is_none() && selection.include.is_empty() {
            return Err(Refusal::new(Class::Json, object, "no `selection` or one that chooses", "an empty one"));
        }
        for path in selection.path.iter().chain(&selection.include) {
            check("selection", path, PATH_CAP)?;
        }
    }
    if let Some(glass) = &receipt.break_glass {
        check("break_glass.reason", &glass.reason, REASON_CAP)?;
        if glass.lifted.len() > LIFTED_CAP {
            let expected = format!("at most {LIFTED_CAP} refusals that were lifted");
            return Err(Refusal::new(Class::TooMany, object, expected, glass.lifted.len()));
        }
        for lifted in &glass.lifted {
            check("break_glass.lifted.object", &lifted.object, PATH_CAP)?;
        }
        if glass.lifted.is_empty() || !glass.lifted.is_sorted_by(|a, b| a < b) {
            let expected = "no `break_glass`, or something that was lifted, sorted, each once";
            return Err(Refusal::new(Class::Json, object, expected, "others"));
        }
    }
    receipt.trees.iter().try_for_each(|tree| check("trees.path", &tree.path, PATH_CAP))
}

fn check_words(receipt: &Receipt, object: &str) -> Result<(), Refusal> {
    let newer = |expected: String, found: &str| Err(Refusal::new(Class::Newer, object, expected, excerpt(found)));
    if !PROOFS.contains(&receipt.proof.as_str()) {
        return newer(format!("a proof of {}", PROOFS.join(", ")), &receipt.proof);
    }
    let lifted = receipt.break_glass.iter().flat_map(|glass| &glass.lifted);
    if let Some(other) = lifted.map(|lifted| &lifted.class).find(|class| !LIFTABLE.contains(&class.as_str())) {
        return newer(format!("lifted refusals of {}", LIFTABLE.join(", ")), other);
    }
    let Some(changes) = &receipt.changes else {
        return Ok(());
    };
    if let Some(change) = changes.iter().find(|change| !CHANGES.contains(&change.what.as_str())) {
        return newer(format!("changes of {}", CHANGES.join(", ")), &change.what);
    }
    let sorted = changes.is_sorted_by(|a, b| a.what < b.what);
    if changes.is_empty() || !sorted || changes.iter().any(|change| change.count == 0) {
        let expected = "no `changes`, or some sorted by `what`, each once and more than 0";
        return Err(Refusal::new(Class::Json, object, expected, "others"));
    }
    Ok(())
}

fn check_trees(receipt: &Receipt, object: &str) -> Result<(), Refusal> {
    let trees = &receipt.trees;
    let json = |expected: &str, found: String| Err(Refusal::new(Class::Json, object, expected, found));
    if trees.len() > TREES_CAP {
        return Err(Refusal::new(Class::TooMany, object, "at most 64 trees", trees.len()));
    }
    if trees.is_empty() {
        return json("1 to 64 trees", "none".into());
    }
    if let Some(tree) = trees.iter().find(|tree| !is_name(&tree.name)) {
        return json("a tree name of 1 to 64 of [a-z0-9._-]", excerpt(&tree.name));
    }
    if !trees.is_sorted_by(|a, b| a.name < b.name) {
        return json("trees by ascending name, each once", "another order".into());
    }
    let sum = |count: fn(&RestoredTree) -> u64| trees.iter().map(count).fold(0, u64::saturating_add);
    for (field, counted, listed) in [
        ("entries", receipt.restored.entries, sum(|tree| tree.entries)),
        ("files", receipt.restored.files, sum(|tree| tree.files)),
        ("bytes", receipt.restored.bytes, sum(|tree| tree.bytes)),
    ] {
        if counted != listed {
            let expected = format!("restored.{field} to be the sum over the trees, {listed}");
            return Err(Refusal::new(Class::Inconsistent, object, expected, counted));
        }
    }
    Ok(())
}
