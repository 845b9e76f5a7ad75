//! Images in the chain: put there as an `image` record, found again, and brought back.
//!
//! The archive is a tree like any other, so what two versions of an image share is stored once, and everything that
//! verifies, repairs or copies data does so for images too. Format: `docs/format/record.md`, "image".
//! Layer: operations; joins `snapshot` and `restore` with `chain`.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use manifests::digest::Digest;
use manifests::document::archive::{Archive as Body, TREE};
use manifests::document::image::{ArchiveRecord, ImagePin};
use manifests::document::record::{self, Record};
use manifests::keys::Signer;
use manifests::refusal::{Class, Refusal};

use super::ImageError;
use super::archive::Archive;
use super::resolve::{Resolved, Source};
use super::scratch::Scratch;
use crate::cancel::Cancel;
use crate::chain::{Chain, ChainError, Commit, Committed};
use crate::fetch::Fetcher;
use crate::progress::Progress;
use crate::restore::{self, Chosen, Destination, Owners, Proof, RestoreError, Selection};
use crate::snapshot::{self, Base, Directories, Options, SnapshotError};

/// How often a run that lost its slot plans again.
const ATTEMPTS: u32 = 5;
/// The least characters of a digest that name a record.
const PREFIX_LEAST: usize = 4;

/// An image that is in the chain.
pub struct Kept {
    /// The pin, with the record that holds the archive.
    pub pin: ImagePin,
    /// That record.
    pub committed: Box<Committed>,
    /// Packs and segments written.
    pub new_objects: u64,
    /// Their length in bytes.
    pub stored_bytes: u64,
    /// The length of the layers as they are unpacked.
    pub layer_bytes: u64,
}

/// Why an image was not put into the chain, or not brought back.
#[derive(Debug, thiserror::Error)]
pub enum KeepError {
    /// The image cannot be used.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// The chain refuses, or cannot be used.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// The archive could not be stored.
    #[error("cannot store the image")]
    Snapshot(#[from] SnapshotError),
    /// The archive could not be brought back.
    #[error("cannot bring the image back")]
    Restore(#[from] RestoreError),
    /// A file of the archive was changed while it was read.
    #[error("the unpacked image was changed while it was stored: {0}")]
    Changed(String),
    /// There is no such record.
    #[error("there is no image {0} in the chain")]
    NotFound(String),
    /// Other writers were always first.
    #[error("{ATTEMPTS} times another writer was first; the newest record is {newer}; run again when it is quiet")]
    Lost {
        /// The newest record seen.
        newer: u64,
    },
}

impl KeepError {
    /// The class this is refused with, where the error itself does not hold a refusal.
    pub fn class(&self) -> Option<Class> {
        match self {
            Self::Restore(error) => error.class(),
            _ => None,
        }
    }
}

/// Who signs, and where local files go.
pub struct Keeper<'a> {
    /// The chain.
    pub chain: &'a Chain<'a>,
    /// Its cache directory.
    pub cache: PathBuf,
    /// The writer's key.
    pub signer: &'a dyn Signer,
    /// The name of the node.
    pub node: &'a str,
    /// Compression level of zstd.
    pub level: i32,
    /// The request to stop.
    pub cancel: &'a Cancel,
    /// What is shown meanwhile.
    pub progress: &'a Progress,
}

impl Keeper<'_> {
    /// Puts an image into the chain; `pin` is what it must be.
    ///
    /// # Errors
    /// [`KeepError`]; nothing was added, and what was stored is reused by the next run.
    pub fn keep(&self, source: &dyn Source, image: &Resolved, pin: &ImagePin) -> Result<Kept, KeepError> {
        image.identity().must_be(pin, &source.place()).map_err(ImageError::from)?;
        let unpacked = Scratch::new(&self.cache.join("scratch"))?;
        self.progress.start_phase("unpacking");
        let layer_bytes = super::layout::write(source, image, unpacked.path(), self.cancel)?;
        let sources = [snapshot::Source { name: TREE.to_owned(), directory: unpacked.path().to_owned() }];
        let options = Options { level: self.level, ..Options::default() };
        let directories = Directories { cache: self.cache.clone() };
        let mut newer = 0;
        for _ in 0..ATTEMPTS {
            let newest = self.chain.head()?;
            // Nothing is compared with the last state: an image is no later state of anything.
            let base = Base { segments: self.chain.segments(&newest)?, snapshot: None };
            let outcome = snapshot::take(
                self.chain.store(),
                &sources,
                &options,
                &base,
                &directories,
                self.cancel,
                self.progress,
            )?;
            if let Some(problem) = outcome.problems.first() {
                return Err(KeepError::Changed(format!("{}: {}", problem.path, problem.detail)));
            }
            self.progress.start_phase("committing");
            self.cancel.check().map_err(ImageError::from)?;
            let mut state = outcome.body.clone();
            // The directory it was unpacked in is nobody's business.
            state.private.trees[0].path.clone_from(&pin.reference);
            let body = record::Body::Image(Box::new(Body { image: ImagePin { archive: None, ..pin.clone() }, state }));
            let segments = outcome.segments.clone();
            match self.chain.commit(&newest.head, &body, segments, self.signer, self.node, Timestamp::now())? {
                Commit::Done(committed) => {
                    let archive = Some(ArchiveRecord { seq: committed.seq, digest: committed.digest });
                    outcome.pending.committed_without_caches()?;
                    let pin = ImagePin { archive, ..pin.clone() };
                    let (new_objects, stored_bytes) = (outcome.new_objects, outcome.stored_bytes);
                    return Ok(Kept { pin, committed, new_objects, stored_bytes, layer_bytes });
                }
                Commit::Lost { newer: seen } => newer = seen,
            }
        }
        Err(KeepError::Lost { newer })
    }
}

/// An image record with its body.
#[derive(Debug, Clone)]
pub struct Found {
    /// The record's slot.
    pub seq: u64,
    /// SHA-256 of its payload.
    pub digest: Digest,
    /// When it was made.
    pub time: Timestamp,
    /// What it says.
    pub body: Body,
}

impl Found {
    fn of(record: Record) -> Option<Self> {
        let (seq, time, digest) = (record.header.seq, record.header.time, record.digest);
        match record.body {
            record::Body::Image(body) => Some(Self { seq, digest, time, body: *body }),
            _ => None,
        }
    }

    /// The pin of the image, with this record as the one that holds its archive.
    pub fn pin(&self) -> ImagePin {
        let archive = Some(ArchiveRecord { seq: self.seq, digest: self.digest });
        ImagePin { archive, ..self.body.image.clone() }
    }
}

/// The image records, newest first.
///
/// # Errors
/// What a record on the way back is refused for.
pub fn list(chain: &Chain<'_>, cancel: &Cancel) -> Result<Vec<Found>, KeepError> {
    let newest = chain.head()?;
    let mut all = Vec::new();
    for record in chain.walk_back(&newest.record) {
        cancel.check().map_err(ImageError::from)?;
        all.extend(Found::of(record?));
    }
    Ok(all)
}

/// The image record with this number, the newest with this name, or the one whose digest begins so.
///
/// # Errors
/// [`KeepError::NotFound`]; what a record on the way is refused for.
pub fn find(chain: &Chain<'_>, text: &str) -> Result<Found, KeepError> {
    let not_found = || KeepError::NotFound(text.to_owned());
    let newest = chain.head()?;
    if let Ok(seq) = text.strip_prefix('#').unwrap_or(text).parse::<u64>()
        && seq < 1 << 53
        && text.len() < PREFIX_LEAST + 8
    {
        return Found::of(chain.record_under(seq, &newest)?).ok_or_else(not_found);
    }
    for record in chain.walk_back(&newest.record) {
        let record = record?;
        let is_digest = text.len() >= PREFIX_LEAST && record.digest.to_string().starts_with(text);
        if let Some(found) = Found::of(record)
            && (is_digest || found.body.image.name == text)
        {
            return Ok(found);
        }
    }
    Err(not_found())
}

/// The record that holds the archive of a pinned image.
///
/// # Errors
/// [`KeepError::NotFound`] for a pin without one; [`Class::Image`] if the record holds another image.
pub fn of_pin(chain: &Chain<'_>, pin: &ImagePin) -> Result<Found, KeepError> {
    let Some(archive) = &pin.archive else {
        return Err(KeepError::NotFound(format!("{} (its pin names no record)", pin.name)));
    };
    let found = find(chain, &format!("#{}", archive.seq))?;
    let object = format!("record {}", archive.seq);
    if found.digest != archive.digest {
        let expected = format!("the record {}", archive.digest);
        return Err(ImageError::from(Refusal::new(Class::Image, object, expected, found.digest)).into());
    }
    let identity = super::identity::Identity::of_pin(&found.body.image).map_err(ImageError::from)?;
    identity.must_be(pin, &object).map_err(ImageError::from)?;
    Ok(found)
}

/// Brings the layout of an image into a new directory in `scratch` and finds the image in it, which must be the one the
/// record names. The directory lasts until the first value is dropped.
///
/// # Errors
/// [`KeepError`]
pub fn bring_back(
    chain: &Chain<'_>,
    found: &Found,
    scratch: &Path,
    cancel: &Cancel,
    progress: &Progress,
) -> Result<(Scratch, Archive, Resolved), KeepError> {
    let directory = Scratch::new(scratch)?;
    let target = directory.path().join("layout");
    let fetchers = if chain.store().url().starts_with('/') { 2 } else { 8 };
    let options =
        restore::Options { owners: Owners::Me, devices: false, proof: Proof::Written, fetchers, seeds: Vec::new() };
    let trees = vec![(TREE.to_owned(), None)];
    let which = (found.seq, found.digest.to_string());
    let chosen = Chosen::new(chain.id().to_string(), format!("#{}", found.seq), which, Vec::new());
    let destination = Destination::prepare(&target, trees, &chosen)?;
    let fetcher = Fetcher::new(chain.store());
    let xattrs = destination.has_xattrs();
    let plan = restore::plan(&fetcher, &found.body.state, &Selection::default(), &options, scratch, xattrs, cancel)?;
    restore::apply(&fetcher, &plan, vec![destination], &options, cancel, progress)?;
    let layout = Archive::open(&target)?;
    let image = layout.image(None, None)?;
    let object = format!("the archive of record {}", found.seq);
    image.identity().must_be(&found.body.image, &object).map_err(ImageError::from)?;
    Ok((directory, layout, image))
}
