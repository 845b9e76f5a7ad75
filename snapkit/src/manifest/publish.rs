//! Publishing a manifest: into the store, under its version and as the newest, and into a file.
//!
//! The version is created once, so that two runs cannot both issue it; only then is the newest replaced.
//! Documented in `docs/format/manifest.md`. Layer: writes a store and a file.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use bytes::Bytes;
use manifests::document::manifest::{MANIFEST_CAP, Manifest};
use tempfile::NamedTempFile;

use super::{Issued, ManifestError, newest_key, version_key};
use crate::chain::Chain;
use crate::store::{Created, StoreError};

/// Where a manifest was put.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// Its key as a version.
    pub version_key: String,
    /// Its key as the newest.
    pub newest_key: String,
}

/// Puts a manifest into its store.
///
/// # Errors
/// [`ManifestError::Lost`] if another run issued this version; [`ManifestError::Store`].
pub fn publish(chain: &Chain<'_>, issued: &Issued) -> Result<Published, ManifestError> {
    let store = chain.store();
    let manifest = &issued.manifest.manifest;
    let (name, version) = (&manifest.name, manifest.version);
    let published = Published { version_key: version_key(name, version), newest_key: newest_key(name) };
    let bytes = Bytes::from(issued.bytes.clone());
    match store.create(&published.version_key, bytes.clone())? {
        Created::Yes => {}
        Created::Exists | Created::Unknown(_) => {
            // After anything but clear success the object is read back: it is this manifest, or another run's.
            match store.get(&published.version_key, MANIFEST_CAP as u64) {
                Ok(there) if there == bytes => {}
                Ok(_) | Err(StoreError::TooBig { .. }) => {
                    return Err(ManifestError::Lost { name: name.clone(), version });
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
    // A run that was overtaken leaves the newer one in place; what is not verified does not count as newer.
    if published_version(chain, name)? < version {
        store.put(&published.newest_key, bytes)?;
    }
    Ok(published)
}

/// The version of the newest manifest in the store, 0 if there is none that the root asks for.
///
/// # Errors
/// A store that cannot be asked.
pub fn published_version(chain: &Chain<'_>, name: &str) -> Result<u64, ManifestError> {
    let key = newest_key(name);
    match chain.store().get(&key, MANIFEST_CAP as u64) {
        Ok(bytes) => {
            let verified =
                Manifest::verify(&bytes, chain.root(), &chain.pin().root, Some(&chain.id()), Some(name), &key);
            Ok(verified.map_or(0, |verified| verified.manifest.version))
        }
        Err(StoreError::Missing { .. } | StoreError::TooBig { .. } | StoreError::Short { .. }) => Ok(0),
        Err(error) => Err(error.into()),
    }
}

/// Replaces a local file that anybody may read, in one durable step.
///
/// # Errors
/// [`ManifestError::Write`]; the old file is whole then.
pub fn write_file(path: &Path, bytes: &[u8]) -> Result<(), ManifestError> {
    let write = || -> io::Result<()> {
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        fs::create_dir_all(directory)?;
        let mut file = NamedTempFile::new_in(directory)?;
        file.write_all(bytes)?;
        // Files in repositories end with a line.
        if !bytes.ends_with(b"\n") {
            file.write_all(b"\n")?;
        }
        file.as_file().set_permissions(fs::Permissions::from_mode(0o644))?;
        file.as_file().sync_all()?;
        file.persist(path).map_err(|error| error.error)?;
        File::open(directory)?.sync_all()
    };
    write().map_err(|source| ManifestError::Write { path: path.to_owned(), source })
}
