//! An archive file that every engine loads: an OCI layout that is what `docker save` writes too.
//!
//! Equal images under equal names give equal bytes. Layer: operations.

use std::io::{self, Write};

use serde::Serialize;
use tar::{EntryType, Header};

use super::archive::{Archive, blob_name};
use super::layout::{self, MARKER, json};
use super::registry::whole_name;
use super::resolve::{Place, Resolved, Source};
use super::{ImageError, ambiguous, layer};
use crate::cancel::Cancel;

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct DockerEntry<'a> {
    config: String,
    repo_tags: Vec<&'a str>,
    layers: Vec<String>,
}

/// Writes the image of a layout with uncompressed layers as one tar file; every layer is hashed on the way.
///
/// `tag` is the name under which an engine loads it; without one it is loaded without a name.
///
/// # Errors
/// [`ImageError`]; what was written is of no use then.
pub fn export(
    kept: &Archive,
    image: &Resolved,
    tag: Option<&str>,
    out: &mut dyn Write,
    cancel: &Cancel,
) -> Result<(), ImageError> {
    let written = |error| ImageError::File { path: "the archive".into(), source: error };
    let mut tar = tar::Builder::new(out);
    let file = |tar: &mut tar::Builder<&mut dyn Write>, name: &str, bytes: &[u8]| {
        let mut header = header(EntryType::Regular, bytes.len() as u64);
        tar.append_data(&mut header, name, bytes).map_err(written)
    };
    for directory in ["blobs/", "blobs/sha256/"] {
        let mut header = header(EntryType::Directory, 0);
        tar.append_data(&mut header, directory, io::empty()).map_err(written)?;
    }
    let mut done = Vec::new();
    for one in &image.layers {
        let Place::Blob { digest, bytes } = &one.place else {
            return Err(ambiguous(kept.place(), "a layout", "another archive").into());
        };
        if *digest != one.diff_id {
            return Err(ambiguous(kept.place(), "layers that are not compressed", "a compressed one").into());
        }
        if done.contains(digest) {
            continue;
        }
        done.push(*digest);
        let mut header = header(EntryType::Regular, *bytes);
        header.set_path(blob_name(digest)).map_err(written)?;
        header.set_cksum();
        let inner = tar.get_mut();
        inner.write_all(header.as_bytes()).map_err(written)?;
        let length = layer::unpack(kept, one, *bytes, inner, cancel)?;
        let padding = (512 - length % 512) % 512;
        inner.write_all(&[0; 512][..padding as usize]).map_err(written)?;
    }
    let config = blob_name(&image.config_digest);
    file(&mut tar, &config, &image.config_bytes)?;
    let (name, manifest) = kept.manifest_file(image)?;
    file(&mut tar, &name, &manifest)?;
    let names = tag.map(|tag| Ok::<_, ImageError>((whole_name(tag)?, tag.to_owned()))).transpose()?;
    file(&mut tar, "index.json", &layout::index(&manifest, names))?;
    let layers = image.layers.iter().map(|one| blob_name(&one.diff_id)).collect();
    let entry = DockerEntry { config, repo_tags: tag.into_iter().collect(), layers };
    file(&mut tar, "manifest.json", &json(&[entry]))?;
    file(&mut tar, "oci-layout", MARKER.as_bytes())?;
    tar.into_inner().and_then(|out| out.flush()).map_err(written)
}

fn header(kind: EntryType, bytes: u64) -> Header {
    let mut header = Header::new_ustar();
    header.set_entry_type(kind);
    header.set_size(bytes);
    header.set_mode(if kind == EntryType::Directory { 0o755 } else { 0o644 });
    header.set_mtime(0);
    header
}
