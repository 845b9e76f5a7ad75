//! Resolving: from a first document to one image, hashing everything on the way.
//!
//! index (chosen by platform) -> manifest -> config -> diff ids. A document is read only after its bytes were found to
//! have the digest and the length that the one before it states. Layer: operations.

use std::io::Read;

use manifests::digest::Digest;
use manifests::document::image::ImagePin;
use manifests::refusal::{Class, Refusal};

use super::document::{self, Blob, Compression, Config, Document, Manifest};
use super::identity::{Identity, Platform};
use super::{ImageError, MANIFEST_CAP, ambiguous};

/// Where documents and layers come from. What it gives is hashed by whoever asks.
pub trait Source {
    /// A name of it for messages.
    fn place(&self) -> String;
    /// The bytes of a manifest, at most `blob.bytes`.
    ///
    /// # Errors
    /// [`ImageError`]
    fn manifest(&self, blob: &Blob) -> Result<Vec<u8>, ImageError>;
    /// The bytes of a config, at most `blob.bytes`.
    ///
    /// # Errors
    /// [`ImageError`]
    fn config(&self, blob: &Blob) -> Result<Vec<u8>, ImageError>;
    /// The bytes of a layer as it is stored.
    ///
    /// # Errors
    /// [`ImageError`]
    fn layer(&self, place: &Place) -> Result<Box<dyn Read + '_>, ImageError>;
}

/// Where a source keeps a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// Under its digest, with this length.
    Blob {
        /// SHA-256 of the stored bytes.
        digest: Digest,
        /// Their number.
        bytes: u64,
    },
    /// Under a name that says nothing.
    Name(String),
}

/// One layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// Where it is.
    pub place: Place,
    /// How it is stored.
    pub compression: Compression,
    /// SHA-256 of it as it is unpacked.
    pub diff_id: Digest,
}

/// One image, with all its documents read and nothing of its layers.
#[derive(Debug, Clone)]
pub struct Resolved {
    /// The index it was found through.
    pub index: Option<Digest>,
    /// Its manifest, if it has one.
    pub manifest: Option<Digest>,
    /// Digest of the config.
    pub config_digest: Digest,
    /// The config, as it is.
    pub config_bytes: Vec<u8>,
    /// What the config says.
    pub config: Config,
    /// The layers, lowest first.
    pub layers: Vec<Layer>,
}

impl Resolved {
    /// What makes it this image.
    pub fn identity(&self) -> Identity {
        Identity {
            platform: self.config.platform.clone(),
            config: self.config_digest,
            diff_ids: self.config.diff_ids.clone(),
        }
    }

    /// A pin of this image under a name.
    pub fn pin(&self, name: &str, reference: &str) -> ImagePin {
        ImagePin {
            name: name.to_owned(),
            reference: reference.to_owned(),
            platform: self.config.platform.to_string(),
            index: self.index,
            manifest: self.manifest,
            config: self.config_digest,
            diff_ids: self.config.diff_ids.clone(),
            archive: None,
        }
    }
}

/// What a source was asked for by name.
#[derive(Debug)]
pub struct First {
    /// The document.
    pub bytes: Vec<u8>,
    /// What the source says it is.
    pub media_type: Option<String>,
}

/// Follows the documents from `first` to one image.
///
/// Without a platform, a single manifest is taken for what it is, and of an index the manifest for this machine.
///
/// # Errors
/// [`ImageError::Refused`] for what is not what it is said to be; whatever the source gives.
pub fn resolve(source: &dyn Source, first: &First, platform: Option<&Platform>) -> Result<Resolved, ImageError> {
    let object = |digest: &Digest| format!("sha256:{digest} of {}", source.place());
    let digest = Digest::sha256(&first.bytes);
    let (index, (manifest_digest, manifest), said) =
        match document::read(&first.bytes, first.media_type.as_deref(), &object(&digest))? {
            Document::Manifest(manifest) => (None, (digest, manifest), None),
            Document::Index(entries) => {
                let here = Platform::here();
                let chosen = platform.unwrap_or(&here).choose(&entries, &object(&digest))?;
                (Some(digest), read_manifest(source, chosen)?, chosen.platform.clone())
            }
        };
    let mut resolved = of_manifest(source, manifest_digest, &manifest)?;
    resolved.index = index;
    let object = object(&resolved.config_digest);
    let found = &resolved.config.platform;
    // What the index says must be what the image is: the engine goes by the config.
    let wanted =
        said.filter(|said| !said.takes(found)).or_else(|| platform.filter(|asked| !asked.takes(found)).cloned());
    match wanted {
        Some(wanted) => Err(Refusal::new(Class::Platform, object, wanted, found).into()),
        None => Ok(resolved),
    }
}

/// Reads the manifest that an index names.
pub(super) fn read_manifest(source: &dyn Source, blob: &Blob) -> Result<(Digest, Manifest), ImageError> {
    let object = format!("sha256:{} of {}", blob.digest, source.place());
    if blob.bytes > MANIFEST_CAP {
        let expected = format!("a manifest of at most {MANIFEST_CAP} bytes");
        return Err(Refusal::new(Class::TooBig, object, expected, blob.bytes).into());
    }
    let bytes = hashed(source.manifest(blob)?, blob, &object)?;
    match document::read(&bytes, Some(&blob.media_type), &object)? {
        Document::Manifest(manifest) => Ok((blob.digest, manifest)),
        Document::Index(_) => Err(ambiguous(object, "the manifest of one image", "another index").into()),
    }
}

/// Reads the config of a manifest.
pub(super) fn of_manifest(source: &dyn Source, digest: Digest, manifest: &Manifest) -> Result<Resolved, ImageError> {
    let object = format!("sha256:{} of {}", manifest.config.digest, source.place());
    let config_bytes = hashed(source.config(&manifest.config)?, &manifest.config, &object)?;
    let config = document::config(&config_bytes, &object)?;
    if config.diff_ids.len() != manifest.layers.len() {
        let expected = format!("{} diff ids, one for each layer", manifest.layers.len());
        return Err(ambiguous(object, expected, config.diff_ids.len()).into());
    }
    let layer = |((blob, compression), diff_id): (&(Blob, Compression), &Digest)| Layer {
        place: Place::Blob { digest: blob.digest, bytes: blob.bytes },
        compression: *compression,
        diff_id: *diff_id,
    };
    let layers = manifest.layers.iter().zip(&config.diff_ids).map(layer).collect();
    let config_digest = manifest.config.digest;
    Ok(Resolved { index: None, manifest: Some(digest), config_digest, config_bytes, config, layers })
}

/// The bytes, if they have the digest and the length that were stated.
fn hashed(bytes: Vec<u8>, blob: &Blob, object: &str) -> Result<Vec<u8>, Refusal> {
    if bytes.len() as u64 != blob.bytes {
        return Err(Refusal::new(Class::Size, object, format!("{} bytes", blob.bytes), bytes.len()));
    }
    let found = Digest::sha256(&bytes);
    if found != blob.digest {
        return Err(Refusal::new(Class::Hash, object, "bytes that hash to this", format!("sha256:{found}")));
    }
    Ok(bytes)
}
