//! `snapkit key`: make, look at and convert signing keys.

use std::io;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use manifests::keys::{PublicKey, SecretKey, Signer};
use serde::Serialize;
use snapkit::keyfile::{self, Key, KeyFileError, Readable};

use super::exit_code::{CliError, Exit};
use super::output::Report;
use super::root::{self, EnrollArgs};
use super::session::Session;

/// Make, show and convert signing keys
#[derive(Debug, Args)]
pub(super) struct KeyArgs {
    #[command(subcommand)]
    command: KeyCommand,
}

#[derive(Debug, Subcommand)]
enum KeyCommand {
    /// Make a new signing key
    Generate {
        /// File to create, as PKCS#8 PEM with mode 0600
        file: PathBuf,
    },
    /// Show the ids of a key, or of every key below the home directory
    Show {
        /// A secret or public key file: PKCS#8, SPKI or OpenSSH
        file: Option<PathBuf>,
    },
    /// Take over a signing key made elsewhere, such as by `openssl genpkey` or `ssh-keygen`
    Import {
        /// Secret key file: PKCS#8 PEM or OpenSSH without a passphrase
        from: PathBuf,
        /// File to create, as PKCS#8 PEM with mode 0600
        file: PathBuf,
    },
    Enroll(EnrollArgs),
    /// Print a key in the form another tool reads
    Export {
        /// A secret or public key file
        file: PathBuf,
        /// Only the public key
        #[arg(long)]
        public: bool,
        /// In OpenSSH form; without it PKCS#8 or SPKI PEM
        #[arg(long)]
        ssh: bool,
        /// Write to this new file instead of stdout
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
}

/// The ids of one key.
#[derive(Debug, Serialize)]
struct KeyShown {
    file: PathBuf,
    secret: bool,
    key_id: String,
    spki_sha256: String,
    openssh_fingerprint: String,
    public: String,
}

#[derive(Debug, Serialize)]
struct KeyWritten {
    #[serde(flatten)]
    key: KeyShown,
}

#[derive(Debug, Serialize)]
struct KeysShown {
    keys: Vec<KeyShown>,
}

#[derive(Debug, Serialize)]
struct KeyExported {
    form: &'static str,
    secret: bool,
    file: Option<PathBuf>,
    text: Option<String>,
}

pub(super) fn run(args: &KeyArgs, session: &mut Session<'_>) -> Result<Exit, CliError> {
    match &args.command {
        KeyCommand::Generate { file } => {
            let key = keyfile::generate()?;
            write_secret(&key, file, session)?;
        }
        KeyCommand::Import { from, file } => {
            let key = keyfile::read_secret(from)?;
            write_secret(&key, file, session)?;
        }
        KeyCommand::Show { file: Some(file) } => {
            let key = keyfile::read(file)?;
            let keys = vec![KeyShown::new(file, &key)];
            session.out.report(&KeysShown { keys })?;
        }
        KeyCommand::Show { file: None } => {
            let directory = session.config.keys_directory();
            let keys = keys_below(&directory)?;
            if keys.is_empty() {
                let remark = format_args!("no keys in {}", directory.display());
                session.out.note(remark);
            }
            session.out.report(&KeysShown { keys })?;
        }
        KeyCommand::Enroll(args) => return root::enroll(args, session),
        KeyCommand::Export { file, public, ssh, out } => {
            let key = match keyfile::read(file)? {
                Key::Secret(secret) if *public => Key::Public(secret.public()),
                key => key,
            };
            export(&key, *ssh, out.as_deref(), session)?;
        }
    }
    Ok(Exit::DONE)
}

fn write_secret(key: &SecretKey, file: &Path, session: &mut Session<'_>) -> Result<(), CliError> {
    write_new(file, &key.to_pem(), Readable::ByOwner)?;
    let key = KeyShown::of(file, true, &key.public());
    session.out.report(&KeyWritten { key })?;
    Ok(())
}

fn write_new(file: &Path, text: &str, readable: Readable) -> Result<(), CliError> {
    keyfile::write_new(file, text, readable).map_err(|error| match error {
        KeyFileError::Exists(_) => {
            CliError::refused(error.to_string()).next("name another file, or move that one away")
        }
        error => error.into(),
    })
}

fn export(key: &Key, ssh: bool, out: Option<&Path>, session: &mut Session<'_>) -> Result<(), CliError> {
    // The comment of an OpenSSH key is for people; the key id says most.
    let comment = format!("snapkit:{}", key.public().id());
    let (form, text, readable) = match (key, ssh) {
        (Key::Secret(key), false) => ("pkcs8-pem", key.to_pem().to_string(), Readable::ByOwner),
        (Key::Secret(key), true) => {
            let text = key.to_openssh(&comment).to_string();
            ("openssh", text, Readable::ByOwner)
        }
        (Key::Public(key), false) => ("spki-pem", key.to_pem(), Readable::ByAll),
        (Key::Public(key), true) => {
            let line = format!("{}\n", key.to_openssh(&comment));
            ("openssh", line, Readable::ByAll)
        }
    };
    if let Some(file) = out {
        write_new(file, &text, readable)?;
    }
    session.out.report(&KeyExported {
        form,
        secret: matches!(key, Key::Secret(_)),
        file: out.map(Path::to_owned),
        text: out.is_none().then_some(text),
    })?;
    Ok(())
}

/// Every key below `directory`, by path.
fn keys_below(directory: &Path) -> Result<Vec<KeyShown>, CliError> {
    let files = keyfile::list(directory)
        .map_err(|source| CliError::from(source).context(format!("cannot list {}", directory.display())))?;
    let mut keys = Vec::new();
    for file in files {
        let key = keyfile::read(&file)?;
        keys.push(KeyShown::new(&file, &key));
    }
    Ok(keys)
}

impl KeyShown {
    fn new(file: &Path, key: &Key) -> Self {
        Self::of(file, matches!(key, Key::Secret(_)), &key.public())
    }

    fn of(file: &Path, secret: bool, key: &PublicKey) -> Self {
        Self {
            file: file.to_owned(),
            secret,
            key_id: key.id().to_string(),
            spki_sha256: key.spki_sha256().to_string(),
            openssh_fingerprint: key.openssh_fingerprint(),
            public: key.to_hex(),
        }
    }

    fn write_text(&self, out: &mut dyn io::Write) -> io::Result<()> {
        let kind = if self.secret { "secret" } else { "public" };
        writeln!(out, "{} ({kind} key)", self.file.display())?;
        writeln!(out, "  key id       {}", self.key_id)?;
        writeln!(out, "  SPKI sha256  {}", self.spki_sha256)?;
        writeln!(out, "  OpenSSH      {}", self.openssh_fingerprint)?;
        writeln!(out, "  public key   {}", self.public)
    }
}

impl Report for KeyWritten {
    const SCHEMA: &'static str = "snapkit.key-written/1";

    fn write_text(&self, out: &mut dyn io::Write) -> io::Result<()> {
        self.key.write_text(out)
    }
}

impl Report for KeysShown {
    const SCHEMA: &'static str = "snapkit.key-show/1";

    fn write_text(&self, out: &mut dyn io::Write) -> io::Result<()> {
        self.keys.iter().try_for_each(|key| key.write_text(out))
    }
}

impl Report for KeyExported {
    const SCHEMA: &'static str = "snapkit.key-export/1";

    fn write_text(&self, out: &mut dyn io::Write) -> io::Result<()> {
        match (&self.text, &self.file) {
            (Some(text), _) => out.write_all(text.as_bytes()),
            (None, Some(file)) => writeln!(out, "{}", file.display()),
            (None, None) => Ok(()),
        }
    }
}
