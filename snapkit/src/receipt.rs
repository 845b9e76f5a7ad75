//! Receipts: what a restore proved, signed by this node, and whether one is to be believed.
//!
//! Everything that can fail for a receipt is tried before the restore writes anything, so that a restore that was
//! asked for one does not end without it for a reason that could have been known.
//! Documented in `docs/format/receipt.md`. Layer: joins `restore`, `trust` and files with `manifests`.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use manifests::digest::Digest;
use manifests::document::receipt::{
    Authority, BreakGlass, Change, Counts, Digests, HeadName, Host, INCLUDE_CAP, LeftOut, PATH_CAP, PAYLOAD_TYPE,
    RECEIPT_CAP, Receipt, RecordName, RestoredTree, State, Tool, Transfer, VerifiedReceipt, machine_digest,
};
use manifests::document::record::{Body, Record};
use manifests::document::snapshot::Snapshot;
use manifests::envelope;
use manifests::keys::{SecretKey, Signer};
use manifests::refusal::{Class, Refusal};
use serde_json::Map;
use sha2::{Digest as _, Sha256};
use tempfile::NamedTempFile;

use crate::chain::record_name;
use crate::digest::{self, of_state};
use crate::entry::printable;
use crate::id::ContentHash;
use crate::restore::{Plan, Proof, Restored, Selection};
use crate::scan::inspect::digest_directory;
use crate::scan::walk::{WalkError, WalkOptions};

/// Why there is no receipt, or why one is not believed.
#[derive(Debug, thiserror::Error)]
pub enum ReceiptError {
    /// A file already stands there. A receipt never replaces another.
    #[error("{} already exists and is not overwritten", .0.display())]
    Exists(PathBuf),
    /// It would be part of what is restored.
    #[error("the receipt {} would lie in the target of the restore", .0.display())]
    InTarget(PathBuf),
    /// What was chosen is too long for a receipt.
    #[error("a receipt lists at most {INCLUDE_CAP} patterns and paths of at most {PATH_CAP} bytes")]
    Selection,
    /// The file cannot be read.
    #[error("cannot read the receipt {}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file cannot be written.
    #[error("cannot write the receipt {}", .path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// This program or this machine cannot be described.
    #[error("cannot read {} for the receipt", .path.display())]
    Describe {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is not to be believed, or a reader would refuse it.
    #[error("the receipt is refused")]
    Refused(#[source] Box<Refusal>),
}

impl From<Refusal> for ReceiptError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(Box::new(refusal))
    }
}

/// What a restore did, for its receipt.
pub struct Facts<'a> {
    /// SHA-256 of the payload of the first root: the pin.
    pub root: Digest,
    /// The verified record of the snapshot.
    pub record: &'a Record,
    /// The newest record, under which it lies.
    pub head: &'a HeadName,
    /// What was planned, and proved to be there.
    pub plan: &'a Plan,
    /// What was asked for.
    pub selection: &'a Selection,
    /// Where each tree went; relative paths are below the working directory.
    pub targets: &'a [(&'a str, PathBuf)],
    /// How many paths the targets hold that are not in the snapshot: what a restore in place leaves alone.
    pub extra: u64,
    /// Where contents came from in the proof.
    pub proof: Proof,
    /// What was used although it had expired.
    pub break_glass: Option<&'a BreakGlass>,
    /// What was done.
    pub restored: &'a Restored,
    /// When the restore began.
    pub started: Timestamp,
    /// When the targets were in place.
    pub finished: Timestamp,
}

/// A receipt that is going to be written: where, by whom, and what does not depend on the restore.
#[derive(Debug)]
pub struct Draft {
    path: PathBuf,
    key: Arc<SecretKey>,
    tool: Tool,
    host: Host,
}

impl Draft {
    /// Prepares a receipt at `path`, signed with `key`. Nothing is left there yet.
    ///
    /// # Errors
    /// [`ReceiptError::Exists`], [`ReceiptError::Write`] where no file can be made, [`ReceiptError::Describe`].
    pub fn new(path: &Path, key: Arc<SecretKey>) -> Result<Self, ReceiptError> {
        if fs::symlink_metadata(path).is_ok() {
            return Err(ReceiptError::Exists(path.to_owned()));
        }
        temporary(path).map_err(|source| ReceiptError::Write { path: path.to_owned(), source })?;
        Ok(Self { path: path.to_owned(), key, tool: tool()?, host: host()? })
    }

    /// Refuses what could not be written once the restore is done: a receipt inside a target, a selection too long.
    ///
    /// # Errors
    /// [`ReceiptError::InTarget`], [`ReceiptError::Selection`].
    pub fn check<'t>(
        &self,
        selection: &Selection,
        targets: impl IntoIterator<Item = &'t Path>,
    ) -> Result<(), ReceiptError> {
        let real = |path: &Path| -> io::Result<PathBuf> {
            let path = std::path::absolute(path)?;
            match (path.canonicalize(), path.parent().map(Path::canonicalize), path.file_name()) {
                (Ok(path), _, _) => Ok(path),
                (_, Some(Ok(parent)), Some(name)) => Ok(parent.join(name)),
                _ => Ok(path),
            }
        };
        let failed = |source| ReceiptError::Write { path: self.path.clone(), source };
        let receipt = real(&self.path).map_err(failed)?;
        let mut texts = Vec::new();
        for target in targets {
            if receipt.starts_with(real(target).map_err(failed)?) {
                return Err(ReceiptError::InTarget(self.path.clone()));
            }
            texts.push(printable(target.as_os_str().as_encoded_bytes()));
        }
        if let Some(chosen) = selection_of(selection) {
            texts.extend(chosen.path.into_iter().chain(chosen.include));
        }
        if texts.iter().any(|text| text.len() > PATH_CAP) || selection.include.len() > INCLUDE_CAP {
            return Err(ReceiptError::Selection);
        }
        Ok(())
    }

    /// Writes the receipt, durably and in one step.
    ///
    /// # Errors
    /// [`ReceiptError::Write`]; nothing is there then.
    pub fn write(self, facts: &Facts<'_>) -> Result<(), ReceiptError> {
        let receipt = receipt(&self, facts);
        let bytes = envelope::sign(PAYLOAD_TYPE, &receipt.payload()?, &[&*self.key])?;
        let write = || -> io::Result<()> {
            let mut file = temporary(&self.path)?;
            file.write_all(&bytes)?;
            file.write_all(b"\n")?;
            file.as_file().sync_all()?;
            file.persist_noclobber(&self.path).map_err(|error| error.error)?;
            File::open(directory_of(&self.path))?.sync_all()
        };
        write().map_err(|source| match source.kind() {
            io::ErrorKind::AlreadyExists => ReceiptError::Exists(self.path.clone()),
            _ => ReceiptError::Write { path: self.path.clone(), source },
        })
    }
}

/// Writes the receipt of a restore to a new file, signed with `key`.
///
/// # Errors
/// As [`Draft::new`] and [`Draft::write`].
pub fn write(path: &Path, key: Arc<SecretKey>, facts: &Facts<'_>) -> Result<(), ReceiptError> {
    Draft::new(path, key)?.write(facts)
}

/// Reads and verifies the receipt in a file.
///
/// # Errors
/// [`ReceiptError::Read`], or [`ReceiptError::Refused`] with what [`Receipt::verify`] says.
pub fn verify(path: &Path, authority: &Authority<'_>) -> Result<VerifiedReceipt, ReceiptError> {
    let read = || {
        let mut bytes = Vec::new();
        File::open(path)?.take(RECEIPT_CAP as u64 + 1).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = read().map_err(|source| ReceiptError::Read { path: path.to_owned(), source })?;
    let object = path.display().to_string();
    let verified = Receipt::verify(&bytes, authority, &object)?;
    check_state(&verified.receipt, &object)?;
    Ok(verified)
}

/// The digest found over all trees is the one of the trees that are listed.
fn check_state(receipt: &Receipt, object: &str) -> Result<(), Refusal> {
    let of = |digests: &Digests| digest::Digests {
        content: ContentHash(digests.content_digest.0),
        full: ContentHash(digests.full_digest.0),
    };
    let computed = digests(of_state(receipt.trees.iter().map(|tree| (tree.name.as_str(), of(&tree.found)))));
    if computed == receipt.state.found {
        return Ok(());
    }
    let expected = format!("a state with the full digest of its trees, {}", computed.full_digest);
    Err(Refusal::new(Class::Inconsistent, object, expected, receipt.state.found.full_digest))
}

/// A tree of a receipt and what a directory holds now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Compared<'a> {
    /// The tree, with the digests that the receipt says.
    pub tree: &'a RestoredTree,
    /// The digests of the directory.
    pub now: Digests,
}

/// Computes the digests of `directory`, in which one tree was restored, or each of several under its name.
///
/// # Errors
/// The first path that cannot be read.
pub fn compare<'a>(receipt: &'a Receipt, directory: &Path) -> Result<Vec<Compared<'a>>, WalkError> {
    let several = receipt.trees.len() > 1 || receipt.left_out.trees > 0;
    let compare = |tree: &'a RestoredTree| {
        let directory = if several { directory.join(&tree.name) } else { directory.to_owned() };
        // Fifos and devices count: those that were not restored must not be there.
        let now = digest_directory(&directory, WalkOptions::default(), true)?;
        Ok(Compared { tree, now: digests(now) })
    };
    receipt.trees.iter().map(compare).collect()
}

/// A private file beside `path`, which is removed unless it is given that name.
fn temporary(path: &Path) -> io::Result<NamedTempFile> {
    tempfile::Builder::new().prefix(".snapkit-receipt-").tempfile_in(directory_of(path))
}

fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn receipt(draft: &Draft, facts: &Facts<'_>) -> Receipt {
    let (plan, header) = (facts.plan, &facts.record.header);
    let Body::Snapshot(snapshot) = &facts.record.body else {
        unreachable!("only a snapshot is restored");
    };
    let private = &snapshot.private;
    let signed = Digests { content_digest: private.content_digest, full_digest: private.full_digest };
    let left_out = LeftOut {
        trees: snapshot.public.trees.saturating_sub(plan.trees.len() as u64),
        entries: snapshot.public.entries.saturating_sub(plan.entries()),
    };
    Receipt {
        // Only genesis has no chain, and it is no snapshot.
        chain: header.chain.unwrap_or(Digest([0; 32])),
        root: facts.root,
        record: RecordName {
            seq: header.seq,
            epoch: header.epoch,
            digest: facts.record.digest,
            name: record_name(facts.record).unwrap_or_default(),
        },
        head: facts.head.clone(),
        exact: plan.exact && facts.extra == 0,
        selection: selection_of(facts.selection),
        changes: changes_of(plan, facts.extra),
        left_out,
        restored: Counts { entries: plan.entries(), files: plan.files(), bytes: plan.bytes() },
        transfer: Transfer { fetched_bytes: facts.restored.fetched_bytes, reused_bytes: facts.restored.reused_bytes },
        state: State { signed, found: digests(plan.expected()) },
        trees: trees_of(snapshot, facts),
        proof: facts.proof.as_str().to_owned(),
        break_glass: facts.break_glass.cloned(),
        started: facts.started,
        // The clock may have been set back meanwhile.
        finished: facts.finished.max(facts.started),
        tool: draft.tool.clone(),
        host: draft.host.clone(),
        node: draft.key.public().id(),
        critical: None,
        ext: Map::new(),
    }
}

/// The trees with the digests that were proved: a restore whose result has others than planned does not end well.
fn trees_of(snapshot: &Snapshot, facts: &Facts<'_>) -> Vec<RestoredTree> {
    let tree = |planned: &crate::restore::PlannedTree| {
        let signed = snapshot.private.trees.iter().find(|tree| tree.name == planned.name);
        let signed = signed.expect("every planned tree is one of the snapshot");
        let target = facts.targets.iter().find(|(name, _)| *name == planned.name);
        let (_, path) = target.expect("every planned tree has a target");
        let path = std::path::absolute(path).unwrap_or_else(|_| path.clone());
        RestoredTree {
            name: planned.name.clone(),
            path: printable(path.as_os_str().as_encoded_bytes()),
            signed: Digests { content_digest: signed.content_digest, full_digest: signed.full_digest },
            found: digests(planned.expected),
            entries: planned.entries,
            files: planned.files,
            bytes: planned.bytes,
        }
    };
    facts.plan.trees.iter().map(tree).collect()
}

fn digests(digests: digest::Digests) -> Digests {
    Digests { content_digest: Digest(digests.content.0), full_digest: Digest(digests.full.0) }
}

fn selection_of(selection: &Selection) -> Option<manifests::document::receipt::Selection> {
    let path = selection.subtree.as_ref().map(|path| printable(path)).filter(|path| !path.is_empty());
    let include: Vec<String> = selection.include.iter().map(|pattern| printable(pattern.as_bytes())).collect();
    let chosen = manifests::document::receipt::Selection { path, include };
    (chosen.path.is_some() || !chosen.include.is_empty()).then_some(chosen)
}

fn changes_of(plan: &Plan, extra: u64) -> Option<Vec<Change>> {
    let changes = &plan.changes;
    // Sorted, as the format wants it.
    let all = [
        ("devices", changes.devices.count),
        ("extra", extra),
        ("owners", changes.owners.count),
        ("setid", changes.setid.count),
        ("xattrs", changes.xattrs.count),
    ];
    let made = all.into_iter().filter(|(_, count)| *count > 0);
    let made: Vec<Change> = made.map(|(what, count)| Change { what: what.to_owned(), count }).collect();
    (!made.is_empty()).then_some(made)
}

/// The file of the program that asks.
const THIS_PROGRAM: &str = "/proc/self/exe";

/// This program, as documents name it.
///
/// # Errors
/// [`ReceiptError::Describe`].
pub fn tool() -> Result<Tool, ReceiptError> {
    let sha256 =
        program_sha256().map_err(|source| ReceiptError::Describe { path: PathBuf::from(THIS_PROGRAM), source })?;
    Ok(Tool { name: "snapkit".to_owned(), version: env!("CARGO_PKG_VERSION").to_owned(), sha256 })
}

/// The SHA-256 of the file that this process runs, read in pieces: a program is large beside what a small restore needs.
///
/// # Errors
/// When it cannot be read.
pub fn program_sha256() -> io::Result<Digest> {
    let mut program = File::open(THIS_PROGRAM)?;
    let mut hasher = Sha256::new();
    let mut piece = vec![0; 1 << 17];
    loop {
        match program.read(&mut piece)? {
            0 => return Ok(Digest(hasher.finalize().into())),
            read => hasher.update(&piece[..read]),
        }
    }
}

/// This machine, as documents name it.
///
/// # Errors
/// [`ReceiptError::Describe`].
pub fn host() -> Result<Host, ReceiptError> {
    let path = Path::new("/etc/machine-id");
    let machine = match fs::read_to_string(path) {
        Ok(id) if id.trim_end().is_empty() => None,
        Ok(id) => Some(machine_digest(&id)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(source) => return Err(ReceiptError::Describe { path: path.to_owned(), source }),
    };
    let system = rustix::system::uname();
    let text = |text: &std::ffi::CStr| match printable(text.to_bytes()) {
        text if text.is_empty() => "unknown".to_owned(),
        text => text,
    };
    Ok(Host { name: text(system.nodename()), machine, kernel: text(system.release()) })
}
