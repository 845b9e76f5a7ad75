//! `bootstrap inventory`: checking, showing and documenting the inventory of a fleet.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;

use bootstrap::fleet::inventory::schema::{KEYS, Key};
use bootstrap::fleet::inventory::{Credentials, Inventory, InventoryError, Problem, Reference, load};
use bootstrap::fleet::probe;
use clap::{Args, Subcommand};
use serde::Serialize;
use snapkit::terminal::exit_code::{CliError, Exit};
use snapkit::terminal::output::{Output, Report, write_table};

use super::fleet::{self, InventoryArgs};

/// Check and show the inventory of a fleet: which nodes there are, how they are reached, what they must answer
///
/// A real inventory in a git work tree is refused. Every command about a fleet reads the same file.
#[derive(Debug, Args)]
pub(super) struct InventoryCommand {
    #[command(subcommand)]
    command: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Say everything that is wrong with an inventory, or that nothing is
    ///
    /// Nothing is asked of any machine. Exit code 2 if something is wrong.
    Check(InventoryArgs),
    /// Print an inventory with everything that was left to defaults; no secret is in it
    ///
    /// The text is TOML that can be read again, also where the inventory is an .env file.
    Show(InventoryArgs),
    /// List every key of an inventory
    Schema,
}

pub(super) fn run(args: &InventoryCommand, out: &mut Output) -> Result<Exit, CliError> {
    match &args.command {
        Verb::Check(args) => check(args, out),
        Verb::Show(args) => {
            out.report(&Shown(args.load()?))?;
            Ok(Exit::DONE)
        }
        Verb::Schema => {
            out.report(&Schema { keys: KEYS })?;
            Ok(Exit::DONE)
        }
    }
}

#[derive(Debug, Serialize)]
struct Checked {
    inventory: String,
    name: Option<String>,
    digest: Option<String>,
    nodes: Vec<String>,
    problems: Vec<Problem>,
    remarks: Vec<String>,
}

fn check(args: &InventoryArgs, out: &mut Output) -> Result<Exit, CliError> {
    let path = args.inventory.display().to_string();
    let found = match load(&args.inventory, args.place()) {
        Err(InventoryError::Invalid { problems, .. }) => Err(problems),
        other => Ok(other.map_err(fleet::problem)?),
    };
    let checked = match &found {
        Err(problems) => Checked {
            inventory: path,
            name: None,
            digest: None,
            nodes: Vec::new(),
            problems: problems.clone(),
            remarks: Vec::new(),
        },
        Ok(inventory) => Checked {
            inventory: path,
            name: Some(inventory.name.clone()),
            digest: Some(inventory.digest().to_string()),
            nodes: inventory.names().map(str::to_owned).collect(),
            problems: origin_problem(inventory).into_iter().chain(missing(inventory)).collect(),
            remarks: remarks(inventory),
        },
    };
    out.report(&checked)?;
    Ok(if checked.problems.is_empty() { Exit::DONE } else { Exit::USAGE })
}

fn origin_problem(inventory: &Inventory) -> Option<Problem> {
    inventory.from.as_ref()?;
    let error = inventory.origin().err()?;
    let cause = std::error::Error::source(&error).map_or_else(String::new, |cause| format!(": {cause}"));
    Some(Problem { line: None, section: String::new(), what: format!("{error}{cause}") })
}

/// Every credential, with the table that names it.
fn credentials(inventory: &Inventory) -> Vec<(String, &Reference)> {
    let of_nodes = inventory.nodes.iter().map(|node| (format!("node {}", node.name), &node.credentials));
    let mut all = Vec::new();
    for (table, Credentials { read, basic, admin }) in
        std::iter::once(("credentials".to_owned(), &inventory.credentials)).chain(of_nodes)
    {
        all.extend([read, basic, admin].into_iter().flatten().map(|one| (table.clone(), one)));
    }
    all
}

/// Files with credentials that cannot be there.
fn missing(inventory: &Inventory) -> Vec<Problem> {
    let missing = |(section, reference): (String, &Reference)| {
        let Reference::File(path) = reference else { return None };
        let error = fs::metadata(path).err()?;
        let what = format!("a file with a credential, {}: {error}", path.display());
        Some(Problem { line: None, section, what })
    };
    credentials(inventory).into_iter().filter_map(missing).collect()
}

/// What works and may surprise.
fn remarks(inventory: &Inventory) -> Vec<String> {
    let mut remarks = probe::remarks(inventory);
    remarks.extend(credentials(inventory).into_iter().filter_map(|(_, reference)| remark(reference)));
    remarks.extend(
        (inventory.nodes.iter())
            .filter(|node| node.reach.is_none())
            .map(|node| format!("no command can be run on {}: it has no reach ([] is this machine)", node.name)),
    );
    if inventory.ingress.is_none() {
        remarks.push("no ingress: nothing shows which node clients get to".to_owned());
    }
    remarks
}

/// What is wrong with the place of a credential. The credential itself is not looked at.
fn remark(reference: &Reference) -> Option<String> {
    let Reference::File(path) = reference else { return None };
    match fs::metadata(path) {
        Ok(found) if found.permissions().mode() & 0o077 != 0 => {
            Some(format!("{} can be read by others: chmod 600 {}", path.display(), path.display()))
        }
        // What is not there is a problem.
        _ => None,
    }
}

impl Report for Checked {
    const SCHEMA: &'static str = "bootstrap.inventory-check/1";

    fn write_text(&self, out: &mut dyn Write) -> io::Result<()> {
        for problem in &self.problems {
            writeln!(out, "{}: {problem}", self.inventory)?;
        }
        for remark in &self.remarks {
            writeln!(out, "remark: {remark}")?;
        }
        match &self.name {
            Some(name) if self.problems.is_empty() => {
                writeln!(out, "fleet {name}: nothing is wrong; nodes: {}", self.nodes.join(", "))
            }
            _ => writeln!(out, "{} wrong", self.problems.len()),
        }
    }
}

#[derive(Debug, Serialize)]
#[serde(transparent)]
struct Shown(Inventory);

impl Report for Shown {
    const SCHEMA: &'static str = "bootstrap.inventory/1";

    fn write_text(&self, out: &mut dyn Write) -> io::Result<()> {
        write!(out, "{}", self.0.to_toml())
    }
}

#[derive(Debug, Serialize)]
struct Schema {
    keys: &'static [Key],
}

impl Report for Schema {
    const SCHEMA: &'static str = "bootstrap.inventory-schema/1";

    fn write_text(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut section = None;
        let mut rows: Vec<[String; 4]> = Vec::new();
        for key in self.keys {
            if section != Some(key.section) {
                write_table(out, &rows)?;
                rows.clear();
                section = Some(key.section);
                match key.section {
                    "" => writeln!(out, "at the top")?,
                    "node" | "node.unit" | "expect.also" | "drill.check" => {
                        writeln!(out, "[[{}]], any number", key.section)?
                    }
                    section => writeln!(out, "[{section}]")?,
                }
            }
            let default = match key.default {
                "required" => "required".to_owned(),
                default => format!("default: {default}"),
            };
            rows.push([format!("  {}", key.key), key.form.to_owned(), default, key.meaning.to_owned()]);
        }
        write_table(out, &rows)
    }
}
