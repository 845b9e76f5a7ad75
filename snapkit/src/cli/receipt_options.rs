//! The options by which a restore writes a receipt.

use std::path::PathBuf;

use clap::Args;
use manifests::keys::Signer;
use manifests::refusal::exit;
use snapkit::chain::Chain;
use snapkit::keyfile;
use snapkit::receipt::{Draft, ReceiptError};
use snapkit::restore::Selection;

use super::exit_code::{CliError, Exit};
use super::opened::Opened;
use super::session::Session;

/// How a restore writes a receipt.
#[derive(Debug, Args)]
pub(super) struct ReceiptOptions {
    /// Write a signed receipt of the restore to this new file
    #[arg(long, value_name = "FILE")]
    receipt: Option<PathBuf>,
    /// The secret key that signs the receipt [default: this machine's node.key of the chain]
    #[arg(long, value_name = "FILE", requires = "receipt")]
    key: Option<PathBuf>,
}

/// The key that signs the receipts of this machine.
pub(super) fn node_key(opened: &Opened) -> PathBuf {
    opened.trust.node_key(&opened.pin.root)
}

impl ReceiptOptions {
    /// The file, if a receipt is asked for.
    pub(super) fn file(&self) -> Option<PathBuf> {
        self.receipt.clone()
    }

    /// Prepares the receipt that is asked for, so that what is missing for it stops the run before anything is written.
    pub(super) fn prepare<'t>(
        &self,
        opened: &Opened,
        chain: &Chain<'_>,
        selection: &Selection,
        targets: impl Iterator<Item = &'t PathBuf>,
        session: &mut Session<'_>,
    ) -> Result<Option<Draft>, CliError> {
        let Some(path) = &self.receipt else {
            return Ok(None);
        };
        let file = self.key.clone().unwrap_or_else(|| node_key(opened));
        if !file.exists() {
            return Err(CliError::refused(format!("there is no key {} to sign a receipt with", file.display()))
                .next("name the node's secret key with --key FILE, or restore without --receipt"));
        }
        let key = keyfile::read_secret(&file)?;
        if !chain.root().signers("node").allowed.contains(&key.public()) {
            session.out.warn(format_args!(
                "{} has not the role node of this chain; its receipts are good only for those who name its public key",
                file.display()
            ));
        }
        let draft = Draft::new(path, key.into()).map_err(refused)?;
        draft.check(selection, targets.map(|target| target.as_path())).map_err(refused)?;
        Ok(Some(draft))
    }

    /// A receipt that failed after everything else went well.
    pub(super) fn not_written(error: ReceiptError) -> CliError {
        CliError::from(error).context("the snapshot was restored, but there is no receipt of it")
    }
}

/// What stops a receipt before the restore begins is a refusal: nothing was touched.
fn refused(error: ReceiptError) -> CliError {
    let next = match &error {
        ReceiptError::Exists(_) => "name another file, or move that one away",
        ReceiptError::InTarget(_) => "name a file outside of the target",
        ReceiptError::Selection => "choose with fewer or shorter patterns, or restore without --receipt",
        ReceiptError::Write { .. } => "name a file in a directory that exists and can be written",
        _ => return error.into(),
    };
    CliError::from(error).with_exit(Exit::of_code(exit::REFUSED)).next(next)
}
