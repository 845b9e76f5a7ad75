//! `snapkit trust`: which stores are believed, and by which root.

use std::io;

use clap::{Args, Subcommand};
use serde::Serialize;
use snapkit::chain::Chain;
use snapkit::store;
use snapkit::trust::{Bootstrap, Location, TrustDir, TrustError, pin_for};

use super::exit_code::{CliError, Exit};
use super::output::Report;
use super::session::Session;

/// Say which stores to believe, and show which are
#[derive(Debug, Args)]
pub(super) struct TrustArgs {
    #[command(subcommand)]
    command: TrustCommand,
}

#[derive(Debug, Subcommand)]
enum TrustCommand {
    /// Believe a store from now on, by its bootstrap string
    ///
    /// The store is read and checked first; nothing is written when it does not hold that root.
    Add {
        /// The string that `snapkit init` printed: 'URL#root=sha256:DIGEST', perhaps with '&min=SEQ:DIGEST'
        bootstrap: Bootstrap,
    },
    /// Show every store that is believed, with its root and the newest record seen
    Show,
}

/// A store that is believed.
impl TrustArgs {
    /// The store that is named, if one is.
    pub(super) fn place(&self) -> Option<&str> {
        match &self.command {
            TrustCommand::Add { bootstrap } => Some(&bootstrap.url),
            _ => None,
        }
    }
}

#[derive(Debug, Serialize)]
struct Trusted {
    store: String,
    root: String,
    chain: Option<String>,
    seen: Option<Seen>,
}

/// The newest record that was verified on this machine.
#[derive(Debug, Serialize)]
struct Seen {
    seq: u64,
    id: String,
}

#[derive(Debug, Serialize)]
struct TrustAdded {
    #[serde(flatten)]
    store: Trusted,
}

#[derive(Debug, Serialize)]
struct TrustShown {
    stores: Vec<Trusted>,
}

pub(super) fn run(args: &TrustArgs, session: &mut Session<'_>) -> Result<Exit, CliError> {
    let trust = TrustDir::new(&session.config.home.value, &session.config.cache.value);
    match &args.command {
        TrustCommand::Add { bootstrap } => {
            session.refuse_mirrors()?;
            let store = store::open(&bootstrap.url, &session.config.open_options())?;
            let location = Location { url: bootstrap.url.clone(), pin: Some(bootstrap.pin) };
            let pin = pin_for(&*store, &location, &trust)?;
            Chain::open(&*store, pin, &trust, session.now)?.head()?;
            trust.pin(store.url(), pin.root)?;
            let store = Trusted::of(store.url(), pin.root, &trust)?;
            session.out.report(&TrustAdded { store })?;
        }
        TrustCommand::Show => {
            let stores = trust.stores()?;
            if stores.is_empty() {
                session.out.note(format_args!("no store is believed; `snapkit init` or `snapkit trust add` begins it"));
            }
            let stores = stores.into_iter().map(|(store, root)| Trusted::of(&store, root, &trust));
            let stores = stores.collect::<Result<_, _>>()?;
            session.out.report(&TrustShown { stores })?;
        }
    }
    Ok(Exit::DONE)
}

impl Trusted {
    fn of(store: &str, root: manifests::digest::Digest, trust: &TrustDir) -> Result<Self, TrustError> {
        let mark = trust.mark(&root)?;
        Ok(Self {
            store: store.to_owned(),
            root: root.to_string(),
            chain: mark.map(|mark| mark.chain.to_string()),
            seen: mark.map(|mark| Seen { seq: mark.seq, id: mark.digest.to_string() }),
        })
    }

    fn write_text(&self, out: &mut dyn io::Write) -> io::Result<()> {
        writeln!(out, "{}", self.store)?;
        writeln!(out, "  root    sha256:{}", self.root)?;
        match &self.seen {
            Some(Seen { seq, id }) => writeln!(out, "  newest  record {seq}, {id}"),
            None => writeln!(out, "  newest  none seen yet"),
        }
    }
}

impl Report for TrustAdded {
    const SCHEMA: &'static str = "snapkit.trust-add/1";

    fn write_text(&self, out: &mut dyn io::Write) -> io::Result<()> {
        self.store.write_text(out)
    }
}

impl Report for TrustShown {
    const SCHEMA: &'static str = "snapkit.trust-show/1";

    fn write_text(&self, out: &mut dyn io::Write) -> io::Result<()> {
        self.stores.iter().try_for_each(|store| store.write_text(out))
    }
}
