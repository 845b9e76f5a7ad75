//! Container images: found by a reference, pinned by what they are, kept in the chain, and compared.
//!
//! A tag names another image tomorrow, and a manifest digest changes when an image is saved and loaded again. The config
//! digest with the diff ids is the image's identity: the config names the diff ids, and a diff id is the SHA-256 of a
//! layer as it is unpacked. Every document is hashed before it is read, and one that can be read in two ways is refused.
//! Documented in `docs/images.md`. Layer: operations; [`document`] and [`identity`] are pure.

pub mod archive;
pub mod document;
pub mod engine;
mod export;
pub mod identity;
pub mod keep;
mod layer;
pub mod layout;
pub mod registry;
pub mod resolve;
pub mod scratch;
mod tar_index;

pub use export::export;

use std::io;
use std::path::PathBuf;

use manifests::refusal::{Class, Refusal};

/// The longest index, manifest, or manifest list of an archive, in bytes. Registries accept no more either.
pub const MANIFEST_CAP: u64 = 4 << 20;
/// The longest config in bytes.
pub const CONFIG_CAP: u64 = 8 << 20;
/// The most bytes that the layers of one image may come to, uncompressed.
pub const LAYERS_CAP_BYTES: u64 = 256 << 30;

/// Why an image cannot be used. Nothing was changed by it.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// A document or a layer is not what it must be, or the image is not the pinned one.
    #[error("the image is refused")]
    Refused(#[from] Box<Refusal>),
    /// There is no such image.
    #[error("there is no image {image} in {place}")]
    NotFound {
        /// The image, as it was asked for.
        image: String,
        /// Where it was looked for.
        place: String,
    },
    /// A file cannot be read or written.
    #[error("cannot use {}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The reference does not name an image.
    #[error("{reference} is no reference to an image")]
    Reference {
        /// The reference.
        reference: String,
        /// What is wrong with it.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A registry cannot be used.
    #[error("cannot ask the registry for {what}")]
    Registry {
        /// What was asked for.
        what: String,
        /// What it answered.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// An engine cannot be used.
    #[error("cannot use {program}: {said}")]
    Engine {
        /// The program that was called.
        program: String,
        /// What it said.
        said: String,
    },
    /// It was asked to stop.
    #[error("stopped on request")]
    Cancelled(#[from] crate::cancel::Cancelled),
}

impl ImageError {
    fn file(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { path, source }
    }
}

impl From<Refusal> for ImageError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(Box::new(refusal))
    }
}

/// An image document, or an archive of documents, that can be read in more than one way.
fn ambiguous(object: impl Into<String>, expected: impl std::fmt::Display, found: impl std::fmt::Display) -> Refusal {
    Refusal::new(Class::ImageType, object, expected, found)
}
