//! `snapkit key enroll`: the key of a machine that is to write, and what its owner needs of it.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::Args;
use manifests::keys::{PublicKey, Signer};
use serde::Serialize;
use snapkit::keyfile::{self, KeyFileError, Readable};
use snapkit::trust::make_key_directory;

use crate::cli::exit_code::{CliError, Exit};
use crate::cli::opened::Opened;
use crate::cli::output::Report;
use crate::cli::session::Session;
use crate::cli::snapshot::host_name;

/// Make a key with which this machine shall write, and the file that the owner needs
#[derive(Debug, Args)]
pub(in crate::cli) struct EnrollArgs {
    /// File for the public key; default: HOST.pub in the working directory
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

#[derive(Debug, Serialize)]
struct Enrolled {
    store: String,
    key: PathBuf,
    public_key: PathBuf,
    key_id: String,
    roles: Vec<String>,
}

impl Report for Enrolled {
    const SCHEMA: &'static str = "snapkit.key-enroll/1";

    fn write_text(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "This machine's key for {}:", self.store)?;
        writeln!(out, "  {}  stays here", self.key.display())?;
        writeln!(out, "  {}  is for the owner", self.public_key.display())?;
        writeln!(out, "  key id {}", self.key_id)?;
        if self.roles.is_empty() {
            writeln!(out, "It may do nothing yet. The owner prepares, signs and publishes the next root:")?;
            writeln!(out, "  snapkit root add-key {} --role writer --role node", self.public_key.display())
        } else {
            writeln!(out, "It has the roles {}.", self.roles.join(", "))
        }
    }
}

pub(in crate::cli) fn run(args: &EnrollArgs, session: &mut Session<'_>) -> Result<Exit, CliError> {
    let opened = Opened::alone(session)?;
    let root = super::newest(&opened)?;
    let path = opened.trust.node_key(&opened.pin.root);
    let public = own_key(&path)?;
    let out = args.out.clone().unwrap_or_else(|| format!("{}.pub", host_name()).into());
    match keyfile::write_new(&out, &public.to_pem(), Readable::ByAll) {
        // Asking again gives the same answer; another key is never overwritten.
        Err(KeyFileError::Exists(_)) if keyfile::read(&out).is_ok_and(|there| there.public() == public) => {}
        Err(error @ KeyFileError::Exists(_)) => {
            return Err(CliError::refused(error.to_string()).next("name another file with --out FILE"));
        }
        written => written?,
    }
    let roles = root.document().roles.iter().filter(|role| role.keys.contains(&public.id()));
    session.out.report(&Enrolled {
        store: opened.store.url().to_owned(),
        key: path,
        public_key: out,
        key_id: public.id().to_string(),
        roles: roles.map(|role| role.name.clone()).collect(),
    })?;
    Ok(Exit::DONE)
}

/// The key of this machine, made if there is none.
fn own_key(path: &std::path::Path) -> Result<PublicKey, CliError> {
    if path.exists() {
        return Ok(keyfile::read_secret(path)?.public());
    }
    make_key_directory(path)?;
    let key = keyfile::generate()?;
    keyfile::write_new(path, &key.to_pem(), Readable::ByOwner)?;
    Ok(key.public())
}
