//! The form in which the chain keeps an image: an OCI layout whose layers are not compressed.
//!
//! It follows from the config and the layers alone, byte by byte, so the same image gives the same tree whoever packed
//! it, and the layers that two versions of it share are stored once. An uncompressed layer's digest is its diff id.
//! Documented in `docs/images.md`, "In the chain". Layer: operations.

use std::fs::{self, File, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use manifests::digest::Digest;
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, utimensat};
use serde::Serialize;

use super::archive::blob_name;
use super::document::{OCI_CONFIG, OCI_INDEX, OCI_LAYER, OCI_MANIFEST};
use super::resolve::{Resolved, Source};
use super::{ImageError, LAYERS_CAP_BYTES, layer};
use crate::cancel::Cancel;

/// What a layout says of itself.
pub(super) const MARKER: &str = r#"{"imageLayoutVersion":"1.0.0"}"#;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    media_type: &'static str,
    digest: String,
    size: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    annotations: Option<Names>,
}

/// Under which name engines load it: containerd's key, and the one of the layout.
#[derive(Serialize)]
struct Names {
    #[serde(rename = "io.containerd.image.name")]
    whole: String,
    #[serde(rename = "org.opencontainers.image.ref.name")]
    short: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ManifestJson {
    schema_version: u32,
    media_type: &'static str,
    config: Descriptor,
    layers: Vec<Descriptor>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct IndexJson {
    schema_version: u32,
    media_type: &'static str,
    manifests: Vec<Descriptor>,
}

/// Writes the image into `directory`, which must be empty, and returns the length of its layers.
///
/// Every layer is hashed as it is stored in the source and as it is written here.
///
/// # Errors
/// [`ImageError`]; what was written is of no use then.
pub fn write(source: &dyn Source, image: &Resolved, directory: &Path, cancel: &Cancel) -> Result<u64, ImageError> {
    let blobs = directory.join("blobs/sha256");
    fs::create_dir_all(&blobs).map_err(ImageError::file(&blobs))?;
    let mut layers = Vec::new();
    let mut total = 0;
    for layer in &image.layers {
        let path = directory.join(blob_name(&layer.diff_id));
        let size = match path.metadata() {
            // A layer that comes twice is stored once.
            Ok(there) => there.len(),
            Err(_) => {
                let mut file = File::create_new(&path).map_err(ImageError::file(&path))?;
                let room = LAYERS_CAP_BYTES - total;
                let bytes = layer::unpack(source, layer, room, &mut file, cancel).map_err(|error| match error {
                    // What cannot be written is the copy here.
                    ImageError::File { source, .. } => ImageError::File { path: path.clone(), source },
                    error => error,
                })?;
                total += bytes;
                bytes
            }
        };
        layers.push(Descriptor {
            media_type: OCI_LAYER,
            digest: format!("sha256:{}", layer.diff_id),
            size,
            annotations: None,
        });
    }
    write_blob(directory, &image.config_bytes)?;
    let config = descriptor(OCI_CONFIG, &image.config_bytes);
    let manifest = json(&ManifestJson { schema_version: 2, media_type: OCI_MANIFEST, config, layers });
    write_blob(directory, &manifest)?;
    write_file(&directory.join("index.json"), &index(&manifest, None))?;
    write_file(&directory.join("oci-layout"), MARKER.as_bytes())?;
    normalise(directory)?;
    Ok(total)
}

/// The `index.json` of a layout with this manifest; `names` are the whole name of the image and the one that was given.
pub(super) fn index(manifest: &[u8], names: Option<(String, String)>) -> Vec<u8> {
    let annotations = names.map(|(whole, short)| Names { whole, short });
    let manifests = vec![Descriptor { annotations, ..descriptor(OCI_MANIFEST, manifest) }];
    json(&IndexJson { schema_version: 2, media_type: OCI_INDEX, manifests })
}

fn descriptor(media_type: &'static str, bytes: &[u8]) -> Descriptor {
    Descriptor {
        media_type,
        digest: format!("sha256:{}", Digest::sha256(bytes)),
        size: bytes.len() as u64,
        annotations: None,
    }
}

pub(super) fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("a document of plain fields always encodes")
}

fn write_blob(directory: &Path, bytes: &[u8]) -> Result<(), ImageError> {
    write_file(&directory.join(blob_name(&Digest::sha256(bytes))), bytes)
}

fn write_file(path: &Path, bytes: &[u8]) -> Result<(), ImageError> {
    let write = || File::create(path)?.write_all(bytes);
    write().map_err(ImageError::file(path))
}

/// When an image was put into the chain, and with which rights, is no part of the image.
fn normalise(directory: &Path) -> Result<(), ImageError> {
    let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
    let times = Timestamps { last_access: zero, last_modification: zero };
    for entry in walkdir::WalkDir::new(directory).contents_first(true) {
        let entry = entry.map_err(|error| ImageError::File { path: directory.to_owned(), source: error.into() })?;
        let path = entry.path();
        let mode = if entry.file_type().is_dir() { 0o755 } else { 0o644 };
        fs::set_permissions(path, Permissions::from_mode(mode)).map_err(ImageError::file(path))?;
        utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|error| ImageError::File { path: path.to_owned(), source: error.into() })?;
    }
    Ok(())
}
