//! The options by which a command that signs is told who signs.

use std::env;
use std::path::PathBuf;

use clap::Args;
use manifests::digest::Digest;
use manifests::document::root::Root;
use manifests::envelope::Signers;
use manifests::keys::{PublicKey, SecretKey, Signer};
use manifests::refusal::{Class, Refusal};
use snapkit::cancel::Cancel;
use snapkit::keyfile;
use snapkit::signer::{CommandSigner, SignerName};
use snapkit::trust::TrustDir;

use super::exit_code::CliError;

/// Who signs.
#[derive(Debug, Clone, Args)]
pub(super) struct SignerOptions {
    /// What signs: a secret key file, 'cmd:COMMAND' for a program that gets the bytes on stdin and prints the signature,
    /// or 'env:VARIABLE' that holds a secret key; default: the key that `init` made for this
    #[arg(long, value_name = "FILE|cmd:COMMAND|env:VARIABLE")]
    signer: Option<SignerName>,
    /// Public key file of the key that 'cmd:COMMAND' signs with, where several might
    #[arg(long, value_name = "FILE", requires = "signer")]
    signer_key: Option<PathBuf>,
}

impl SignerOptions {
    /// The signer for a role of the newest root; without `--signer` the key that `init` made for the role.
    ///
    /// A key that does not have the role is refused here, before anything else is done.
    pub(super) fn for_role(
        &self,
        role: &str,
        root: &Root,
        trust: &TrustDir,
        pin: &Digest,
        cancel: &Cancel,
    ) -> Result<Box<dyn Signer>, CliError> {
        let signers = root.signers(role);
        let signer: Box<dyn Signer> = match self.key_in_hand()? {
            Some(key) => Box::new(key),
            None => match &self.signer {
                Some(SignerName::Command(command)) => {
                    let public = self.named_key(&signers)?;
                    Box::new(CommandSigner::new(command, public, cancel.clone()))
                }
                _ => Box::new(keyfile::read_secret(&default_key(role, trust, pin))?),
            },
        };
        check_role(&signer.public(), &signers)?;
        Ok(signer)
    }

    /// The signer of a message by any of `candidates`; a program whose key was not named signs at once, and who it was
    /// is found by trying. Nothing if no signer was named.
    pub(super) fn for_message(
        &self,
        candidates: &[PublicKey],
        message: &[u8],
        cancel: &Cancel,
    ) -> Result<Option<Box<dyn Signer>>, CliError> {
        if let Some(key) = self.key_in_hand()? {
            return Ok(Some(Box::new(key)));
        }
        let Some(SignerName::Command(command)) = &self.signer else {
            return Ok(None);
        };
        let signer = match &self.signer_key {
            Some(file) => CommandSigner::new(command, keyfile::read(file)?.public(), cancel.clone()),
            None => CommandSigner::identified(command, candidates, message, cancel.clone())?,
        };
        Ok(Some(Box::new(signer)))
    }

    /// The secret key that was named, if it was a file or a variable.
    fn key_in_hand(&self) -> Result<Option<SecretKey>, CliError> {
        match &self.signer {
            Some(SignerName::File(file)) => Ok(Some(keyfile::read_secret(file)?)),
            Some(SignerName::Variable(name)) => {
                let text = env::var(name).map_err(|_| {
                    CliError::usage(format!("the environment has no variable {name} with a secret key"))
                        .next("put the text of a secret key file into it, or name a file with --signer FILE")
                })?;
                let key = SecretKey::parse(&text);
                Ok(Some(key.map_err(|refusal| refusal.named(format!("the secret key in the variable {name}")))?))
            }
            _ => Ok(None),
        }
    }

    /// The key that the program signs with: the one that was named, or the only one there is.
    fn named_key(&self, signers: &Signers) -> Result<PublicKey, CliError> {
        if let Some(file) = &self.signer_key {
            return Ok(keyfile::read(file)?.public());
        }
        match signers.allowed[..] {
            [only] => Ok(only),
            _ => Err(CliError::usage(format!("{} has {} keys", signers.name, signers.allowed.len()))
                .next("say which of them the command signs with: --signer-key PUBLIC-KEY-FILE")),
        }
    }
}

/// The file that `init` made for a role.
fn default_key(role: &str, trust: &TrustDir, pin: &Digest) -> PathBuf {
    match role {
        "root" | "release" => trust.owner_key(pin),
        _ => trust.node_key(pin),
    }
}

fn check_role(key: &PublicKey, signers: &Signers) -> Result<(), Refusal> {
    if signers.allowed.contains(key) {
        return Ok(());
    }
    let object = format!("key {}", key.id());
    Err(Refusal::new(Class::Role, object, format!("a key of {}", signers.name), "one that is not in it"))
}
