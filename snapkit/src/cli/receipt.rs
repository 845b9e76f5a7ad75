//! `snapkit receipt`: is a receipt good, and what does it say?
//!
//! Nothing here asks a store: a receipt is judged by the roots in the trust directory, or by a key that is named.

use std::io::{self, Write};
use std::path::{self, Path, PathBuf};

use clap::{Args, Subcommand};
use jiff::Timestamp;
use manifests::digest::Digest;
use manifests::document::receipt::{Authority, BreakGlass, Receipt, RestoredTree, VerifiedReceipt};
use manifests::refusal::{Class, Refusal};
use serde::Serialize;
use snapkit::keyfile;
use snapkit::receipt::{self, Compared, ReceiptError};
use snapkit::selector::Selector;
use snapkit::store::known_address;
use snapkit::trust::{self, Location, TrustDir, TrustError};

use super::exit_code::{CliError, Exit};
use super::explain;
use super::output::{Bytes, Report, write_table};
use super::session::Session;

/// Check and show receipts: what a restore proved, signed by the node that restored
///
/// No store is asked. A receipt must be signed by the role `node` of a chain that is believed here (`snapkit trust show`;
/// of one store alone with --store), or by the key named with --key.
#[derive(Debug, Args)]
pub(super) struct ReceiptArgs {
    #[command(subcommand)]
    command: ReceiptCommand,
}

#[derive(Debug, Subcommand)]
enum ReceiptCommand {
    /// Say whether a receipt is good, and whether a directory still holds what it says
    Verify {
        #[command(flatten)]
        receipt: Which,
        /// It must be the receipt of this snapshot: a name, an id or their beginning, or a number
        #[arg(long, value_name = "SNAP")]
        of: Option<Selector>,
        /// Read this directory and compare its digests; of several trees each is expected in DIR/NAME
        #[arg(long, value_name = "DIR")]
        against: Option<PathBuf>,
        /// Print commands that check the roots and the receipt with openssl and coreutils, and do nothing else
        #[arg(long, conflicts_with_all = ["of", "against", "key"])]
        explain: bool,
    },
    /// Show everything that a good receipt says
    Show {
        #[command(flatten)]
        receipt: Which,
    },
}

/// A receipt, and who must have signed it.
#[derive(Debug, Args)]
struct Which {
    /// The receipt
    file: PathBuf,
    /// The node's public key, SPKI PEM or OpenSSH: believe this key instead of the chains that are believed here
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
}

pub(super) fn run(args: &ReceiptArgs, session: &mut Session<'_>) -> Result<Exit, CliError> {
    match &args.command {
        ReceiptCommand::Show { receipt } => {
            let (verified, _) = verified(receipt, session)?;
            session.out.report(&Shown { digest: verified.digest.to_string(), receipt: verified.receipt })?;
            Ok(Exit::DONE)
        }
        ReceiptCommand::Verify { receipt, explain: true, .. } => {
            let (verified, _) = verified(receipt, session)?;
            session.out.bytes(explained(&receipt.file, &verified, session)?.as_bytes())?;
            Ok(Exit::DONE)
        }
        ReceiptCommand::Verify { receipt, of, against, explain: false } => {
            let (verified, believed) = verified(receipt, session)?;
            let receipt = &verified.receipt;
            if let Some(of) = of.as_ref().filter(|of| !is_of(receipt, of)) {
                if matches!(of, Selector::Latest { .. } | Selector::At(_)) {
                    return Err(CliError::usage(format!("no store is asked which snapshot {of} is"))
                        .next("give a name, an id or a number"));
                }
                let found = format!("it is the receipt of {} (record {})", receipt.record.name, receipt.record.seq);
                return Err(CliError::no(format!("{found}, not of {of}")));
            }
            let compared = match against {
                None => Vec::new(),
                Some(directory) => receipt::compare(receipt, directory).map_err(|error| {
                    CliError::from(error).context(format!("cannot compare with {}", directory.display()))
                })?,
            };
            let report = Judged::new(&verified, believed, against.as_deref(), &compared);
            session.out.report(&report)?;
            Ok(if report.holds() { Exit::DONE } else { Exit::NO })
        }
    }
}

/// The commands that check a receipt which was verified by a root.
fn explained(file: &Path, verified: &VerifiedReceipt, session: &Session<'_>) -> Result<String, CliError> {
    let trust = TrustDir::new(&session.config.home.value, &session.config.cache.value);
    let pin = verified.receipt.root;
    let roots = trust.kept_roots(&pin)?;
    let file = path::absolute(file).unwrap_or_else(|_| file.to_owned());
    let document = explain::Document {
        what: format!("the receipt {}", file.display()),
        get: explain::copy(&file.to_string_lossy(), "document.json"),
        digest: verified.digest,
        roles: &["node"],
        signers: verified.signers.clone(),
    };
    let get = |version: u64, to: &str| explain::copy(&trust.root_file(&pin, version).to_string_lossy(), to);
    explain::script(&pin, &roots, &get, &document).map_err(|refusal| TrustError::from(refusal).into())
}

/// Whether the receipt is of the snapshot that is named by number, name or id.
fn is_of(receipt: &Receipt, selector: &Selector) -> bool {
    let record = &receipt.record;
    match selector {
        Selector::Seq(seq) => record.seq == *seq,
        Selector::Prefix(text) => record.name.starts_with(text) || record.digest.to_string().starts_with(text),
        Selector::Latest { .. } | Selector::At(_) => false,
    }
}

/// Verifies a receipt and says what it was believed by.
fn verified(which: &Which, session: &Session<'_>) -> Result<(VerifiedReceipt, &'static str), CliError> {
    if let Some(file) = &which.key {
        let key = keyfile::read(file)?.public();
        return Ok((receipt::verify(&which.file, &Authority::Key(&key))?, "key"));
    }
    let trust = TrustDir::new(&session.config.home.value, &session.config.cache.value);
    let mut refusal = None;
    for pin in pins(session, &trust)? {
        let root = trust::known_root(&pin, &trust, session.now)?;
        let chain = trust.mark(&pin)?.map(|mark| mark.chain);
        match receipt::verify(&which.file, &Authority::Root { root: &root, pin, chain }) {
            Ok(verified) => return Ok((verified, "root")),
            Err(ReceiptError::Refused(found)) => {
                // What a chain's own key signed is told apart from what none of its keys signed.
                let stranger = found.class() == Class::SigUntrusted;
                if refusal.is_none() || !stranger {
                    refusal = Some(found);
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
    match refusal {
        Some(refusal) => Err(ReceiptError::Refused(refusal).into()),
        None => Err(no_pin("no chain is believed here")),
    }
}

/// The first roots that may have signed: that of the store that is named, else all that are believed here.
fn pins(session: &Session<'_>, trust: &TrustDir) -> Result<Vec<Digest>, CliError> {
    let Some(store) = &session.config.store else {
        let mut pins: Vec<Digest> = trust.stores()?.into_values().collect();
        pins.sort_unstable();
        pins.dedup();
        return Ok(pins);
    };
    let location: Location = store.value.parse().map_err(|error| CliError::usage(format!("{error}")))?;
    match location.pin {
        Some(pin) => Ok(vec![pin.root]),
        None => match trust.pinned(&known_address(&location.url))? {
            Some(pin) => Ok(vec![pin]),
            None => Err(no_pin(&format!("the store {} is not believed here", location.url))),
        },
    }
}

fn no_pin(found: &str) -> CliError {
    let hint = "name the node's public key with --key FILE, or run `snapkit trust add URL#root=sha256:DIGEST` once";
    TrustError::from(Refusal::new(Class::NoPin, "receipt", "a chain or a key to judge it by", found).with_hint(hint))
        .into()
}

/// A good receipt, and what the directory holds that it was compared with.
#[derive(Debug, Serialize)]
struct Judged {
    receipt: String,
    believed_by: &'static str,
    key_id: String,
    chain: String,
    snapshot: String,
    seq: u64,
    id: String,
    host: String,
    finished: Timestamp,
    exact: bool,
    proof: String,
    content_digest: String,
    full_digest: String,
    break_glass: Option<BreakGlass>,
    against: Option<PathBuf>,
    trees: Vec<TreeNow>,
}

/// One tree, and whether the directory still holds it.
#[derive(Debug, Serialize)]
struct TreeNow {
    name: String,
    content_digest: String,
    full_digest: String,
    same_content: bool,
    same_metadata: bool,
}

impl Judged {
    fn new(
        verified: &VerifiedReceipt,
        believed_by: &'static str,
        against: Option<&Path>,
        now: &[Compared<'_>],
    ) -> Self {
        let receipt = &verified.receipt;
        let found = receipt.state.found;
        let tree = |compared: &Compared<'_>| TreeNow {
            name: compared.tree.name.clone(),
            content_digest: compared.now.content_digest.to_string(),
            full_digest: compared.now.full_digest.to_string(),
            same_content: compared.now.content_digest == compared.tree.found.content_digest,
            same_metadata: compared.now.full_digest == compared.tree.found.full_digest,
        };
        Self {
            receipt: verified.digest.to_string(),
            believed_by,
            key_id: receipt.node.to_string(),
            chain: receipt.chain.to_string(),
            snapshot: receipt.record.name.clone(),
            seq: receipt.record.seq,
            id: receipt.record.digest.to_string(),
            host: receipt.host.name.clone(),
            finished: receipt.finished,
            exact: receipt.exact,
            proof: receipt.proof.clone(),
            content_digest: found.content_digest.to_string(),
            full_digest: found.full_digest.to_string(),
            break_glass: receipt.break_glass.clone(),
            against: against.map(Path::to_owned),
            trees: now.iter().map(tree).collect(),
        }
    }

    fn holds(&self) -> bool {
        self.trees.iter().all(|tree| tree.same_metadata)
    }
}

impl Report for Judged {
    const SCHEMA: &'static str = "snapkit.receipt-verify/1";

    fn write_text(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "the receipt is good: {} (record {}) was restored", self.snapshot, self.seq)?;
        writeln!(out, "  on {} at {}, proof {}", self.host, self.finished, self.proof)?;
        match self.believed_by {
            "root" => writeln!(out, "  signed by the node key {}", self.key_id)?,
            _ => writeln!(
                out,
                "  signed by {}, the key that was named; its role in the chain is not known",
                self.key_id
            )?,
        }
        writeln!(out, "  content digest {}", self.content_digest)?;
        writeln!(out, "  full digest    {}", self.full_digest)?;
        match self.exact {
            true => writeln!(out, "  both are those of the signed record")?,
            false => {
                writeln!(out, "  not all of the snapshot, or not all as it was; `snapkit receipt show` says what")?
            }
        }
        self.break_glass.iter().try_for_each(|glass| write_glass(glass, out))?;
        for tree in &self.trees {
            let verdict = match (tree.same_content, tree.same_metadata) {
                (_, true) => "the directory holds it as it was restored",
                (true, false) => {
                    "NOT as it was restored: owners, times, attributes or links differ, the content does not"
                }
                (false, false) => "NOT as it was restored: the content differs",
            };
            writeln!(out, "  tree {}: {verdict}", tree.name)?;
        }
        Ok(())
    }
}

#[derive(Debug, Serialize)]
struct Shown {
    digest: String,
    #[serde(flatten)]
    receipt: Receipt,
}

impl Report for Shown {
    const SCHEMA: &'static str = "snapkit.receipt-show/1";

    fn write_text(&self, out: &mut dyn Write) -> io::Result<()> {
        let Receipt { record, restored, transfer, left_out, tool, host, .. } = &self.receipt;
        let receipt = &self.receipt;
        let machine = host.machine.map_or_else(|| "unknown".to_owned(), |machine| machine.to_string());
        let rows = [
            ["receipt", &self.digest],
            ["snapshot", &format!("{} (record {})", record.name, record.seq)],
            ["record id", &record.digest.to_string()],
            ["chain", &receipt.chain.to_string()],
            ["restored", &format!("{} to {}", receipt.started, receipt.finished)],
            ["on", &format!("{}, kernel {}, machine {machine}", host.name, host.kernel)],
            ["with", &format!("{} {}, sha256 {}", tool.name, tool.version, tool.sha256)],
            ["signed by", &receipt.node.to_string()],
            ["proof", &receipt.proof],
            ["exact", if receipt.exact { "yes" } else { "NO" }],
            ["holds", &format!("{} entries, {} files, {}", restored.entries, restored.files, Bytes(restored.bytes))],
            ["left out", &format!("{} trees, {} entries", left_out.trees, left_out.entries)],
            ["fetched", &format!("{}, reused {}", Bytes(transfer.fetched_bytes), Bytes(transfer.reused_bytes))],
            ["content digest", &receipt.state.found.content_digest.to_string()],
            ["full digest", &receipt.state.found.full_digest.to_string()],
        ];
        write_table(out, &rows.map(|row| row.map(str::to_owned)))?;
        receipt.break_glass.iter().try_for_each(|glass| write_glass(glass, out))?;
        if let Some(selection) = &receipt.selection {
            for chosen in selection.path.iter().chain(&selection.include) {
                writeln!(out, "only {chosen}")?;
            }
        }
        for change in receipt.changes.iter().flatten() {
            writeln!(out, "changed: {}, {} paths", change.what, change.count)?;
        }
        receipt.trees.iter().try_for_each(|tree| write_tree(tree, out))
    }
}

fn write_glass(glass: &BreakGlass, out: &mut dyn Write) -> io::Result<()> {
    for lifted in &glass.lifted {
        writeln!(out, "BREAK-GLASS: {} was used although refused ({}): {}", lifted.object, lifted.class, glass.reason)?;
    }
    Ok(())
}

fn write_tree(tree: &RestoredTree, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out)?;
    writeln!(out, "tree {} in {}", tree.name, tree.path)?;
    writeln!(out, "  {} entries, {} files, {}", tree.entries, tree.files, Bytes(tree.bytes))?;
    writeln!(out, "  content digest {}", tree.found.content_digest)?;
    writeln!(out, "  full digest    {}", tree.found.full_digest)?;
    if tree.found != tree.signed {
        writeln!(out, "  signed content {}", tree.signed.content_digest)?;
        writeln!(out, "  signed full    {}", tree.signed.full_digest)?;
    }
    Ok(())
}
