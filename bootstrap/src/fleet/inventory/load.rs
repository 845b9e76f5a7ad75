//! Where an inventory may lie, and reading it from there.
//!
//! A real inventory in a git work tree is one `git add` away from everybody, so it is refused there unless it is only an
//! example or the operator insists. Layer: reads files.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::credential::Reference;
use super::read::Problem;
use super::{Inventory, dotenv, parse};

/// The largest file that is read, in bytes; it is written by hand.
const FILE_CAP: u64 = 1 << 20;

/// Where an inventory may lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Anywhere but in a git work tree, unless its file name says that it is an example.
    OutsideOfRepositories,
    /// Anywhere.
    Anywhere,
}

/// Why an inventory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum InventoryError {
    /// There is no such file.
    #[error("inventory file not found: {}", .0.display())]
    Missing(PathBuf),
    /// It cannot be read.
    #[error("cannot read {}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It lies where it might be published.
    #[error("{} lies in the git work tree {}: addresses and paths of real machines do not belong there", .path.display(), .tree.display())]
    InRepository {
        /// The file.
        path: PathBuf,
        /// The work tree.
        tree: PathBuf,
    },
    /// It is not what it should be.
    #[error("{} has {}", .path.display(), problems_text(.problems))]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Everything that is wrong.
        problems: Vec<Problem>,
    },
}

fn problems_text(problems: &[Problem]) -> String {
    let lines: String = problems.iter().map(|problem| format!("\n  {problem}")).collect();
    let noun = if problems.len() == 1 { "problem" } else { "problems" };
    format!("{} {noun}:{lines}", problems.len())
}

/// Reads and checks an inventory; `-` is standard input. A name that ends in `.env` is read as an `.env` file. Credential
/// files are relative to the inventory.
///
/// # Errors
/// [`InventoryError`]
pub fn load(path: &Path, place: Place) -> Result<Inventory, InventoryError> {
    if path == Path::new("-") {
        let mut text = String::new();
        let read = io::stdin().take(FILE_CAP + 1).read_to_string(&mut text);
        read.and_then(|_| capped(text))
            .map_err(|source| InventoryError::Read { path: path.to_owned(), source })
            .and_then(|text| understood(path, &text))
    } else {
        let text = match read_capped(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(InventoryError::Missing(path.to_owned()));
            }
            read => read.map_err(|source| InventoryError::Read { path: path.to_owned(), source })?,
        };
        let real = path.canonicalize().map_err(|source| InventoryError::Read { path: path.to_owned(), source })?;
        let is_example = path.file_name().is_some_and(|name| name.to_string_lossy().contains("example"));
        if let Some(tree) = work_tree(&real).filter(|_| place == Place::OutsideOfRepositories && !is_example) {
            return Err(InventoryError::InRepository { path: path.to_owned(), tree: tree.to_owned() });
        }
        let mut inventory = understood(path, &text)?;
        inventory.resolve(real.parent().unwrap_or(Path::new("/")));
        Ok(inventory)
    }
}

fn understood(path: &Path, text: &str) -> Result<Inventory, InventoryError> {
    let is_env =
        path.extension().is_some_and(|ending| ending == "env") || path.file_name().is_some_and(|name| name == ".env");
    let read = if is_env { dotenv::parse(text) } else { parse(text) };
    read.map_err(|problems| InventoryError::Invalid { path: path.to_owned(), problems })
}

/// The git work tree that a file lies in.
fn work_tree(path: &Path) -> Option<&Path> {
    path.ancestors().skip(1).find(|directory| directory.join(".git").exists())
}

/// A small file as text.
pub(super) fn read_capped(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(FILE_CAP + 1).read_to_string(&mut text)?;
    capped(text)
}

fn capped(text: String) -> io::Result<String> {
    match text.len() as u64 <= FILE_CAP {
        true => Ok(text),
        false => Err(io::Error::other(format!("it has more than {FILE_CAP} bytes"))),
    }
}

impl Inventory {
    /// Makes the paths on this machine absolute.
    fn resolve(&mut self, directory: &Path) {
        let own = &mut self.credentials;
        let nodes = self.nodes.iter_mut().map(|node| &mut node.credentials);
        for credentials in std::iter::once(own).chain(nodes) {
            for reference in [&mut credentials.read, &mut credentials.basic, &mut credentials.admin] {
                if let Some(Reference::File(path)) = reference {
                    *path = directory.join(&*path);
                }
            }
        }
        if let Some(path) = &mut self.ca {
            *path = directory.join(&*path);
        }
        if let Some(path) = self.from.as_deref().and_then(|from| from.strip_prefix("file:")) {
            self.from = Some(format!("file:{}", directory.join(path).display()));
        }
    }
}
