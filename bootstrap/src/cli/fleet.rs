//! What all commands about a fleet share: which inventory, and how its errors end.

use std::path::{Path, PathBuf};

use bootstrap::fleet::inventory::{self, Inventory, InventoryError, Place};
use bootstrap::fleet::node::HandleError;
use bootstrap::fleet::quote;
use clap::Args;
use snapkit::terminal::exit_code::CliError;

/// Where the inventory is if nobody says so.
pub(super) const DEFAULT_INVENTORY: &str = "/etc/snapkit/fleet.toml";

/// Which inventory.
#[derive(Debug, Clone, Args)]
pub(super) struct InventoryArgs {
    /// The inventory: TOML, or NAME=VALUE lines if the name ends in .env; - is standard input
    #[arg(long, value_name = "PATH", env = "SNAPKIT_INVENTORY", default_value = DEFAULT_INVENTORY)]
    pub(super) inventory: PathBuf,
    /// Accept a real inventory inside a git work tree
    #[arg(long)]
    pub(super) allow_in_repo: bool,
}

impl InventoryArgs {
    /// Reads and checks it.
    pub(super) fn load(&self) -> Result<Inventory, CliError> {
        inventory::load(&self.inventory, self.place()).map_err(problem)
    }

    /// What stands behind a command that is to be typed next, so that it is about the same fleet; nothing where that is so
    /// without.
    pub(super) fn typed(&self) -> String {
        let is_known = match std::env::var_os("SNAPKIT_INVENTORY") {
            Some(path) => self.inventory == path,
            None => self.inventory == Path::new(DEFAULT_INVENTORY),
        };
        let path = quote::word(&self.inventory.display().to_string());
        let path = if is_known { String::new() } else { format!(" --inventory {path}") };
        let anywhere = if self.allow_in_repo { " --allow-in-repo" } else { "" };
        format!("{path}{anywhere}")
    }

    pub(super) fn place(&self) -> Place {
        if self.allow_in_repo { Place::Anywhere } else { Place::OutsideOfRepositories }
    }
}

/// An inventory that cannot be used is a matter of configuration; one that may be published is refused.
pub(super) fn problem(error: InventoryError) -> CliError {
    let (sentence, next) = match &error {
        InventoryError::InRepository { .. } => {
            return CliError::refused(error.to_string()).next(
                "keep it outside of the repository, or give --allow-in-repo; examples have `example` in their name",
            );
        }
        InventoryError::Missing(_) => {
            (error.to_string(), "name it with --inventory; `bootstrap inventory schema` lists what belongs into one")
        }
        InventoryError::Invalid { .. } => (error.to_string(), "mend it; `bootstrap inventory schema` lists every key"),
        InventoryError::Read { source, .. } => (format!("{error}: {source}"), "make it readable for this user"),
    };
    CliError::usage(sentence).next(next)
}

/// A node that answers not, or not as itself.
pub(super) fn unanswered(error: HandleError) -> CliError {
    CliError::from(error).next("`bootstrap probe --explain` shows what answers where")
}
