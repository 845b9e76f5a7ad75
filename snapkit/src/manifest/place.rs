//! Where a manifest is, and in which store its chain may be read.
//!
//! A manifest can lie in a store, behind any web server, or in a file. Nothing here believes it: the stores it names are
//! only where the pinned root may be looked for. Documented in `docs/manifest.md`, "Where a manifest may be".
//! Layer: addresses, files, and the presence of `root/1.json`.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use manifests::document::manifest::{MANIFEST_CAP, Manifest};
use manifests::refusal::{Class, Refusal};
use url::Url;

use super::{ManifestError, newest_key};
use crate::store::mirrored::{COPIES_CAP, Fault, Listener, Mirrored, Notice};
use crate::store::{self, OpenOptions, Pace, Store, StoreError, known_address};
use crate::trust::file;

/// Where a manifest is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// In a store, under its name.
    Store {
        /// The store's address.
        url: String,
    },
    /// An object at an address of its own.
    Object {
        /// The address of what it lies in.
        directory: String,
        /// Its name there.
        key: String,
    },
    /// A local file.
    File(PathBuf),
}

/// A manifest that was found, with nothing verified, and the store of its chain.
pub struct Located {
    /// Its bytes.
    pub bytes: Bytes,
    /// Where it is, for messages.
    pub address: String,
    /// The store in which the chain is to be read.
    pub store: Arc<dyn Store>,
}

impl Place {
    /// Tells what an address means: one that ends in `.json`, or names a local file, is a manifest; any other a store.
    pub fn of(address: &str) -> Place {
        let Some((_, path)) = address.split_once("://") else {
            let path = PathBuf::from(address);
            return match path.is_file() || address.ends_with(".json") {
                true => Place::File(path),
                false => Place::Store { url: address.to_owned() },
            };
        };
        if let (true, Ok(url)) = (address.starts_with("file://"), Url::parse(address))
            && let Ok(path) = url.to_file_path()
        {
            return Place::of(&path.display().to_string());
        }
        match address.rsplit_once('/') {
            Some((directory, key)) if key.ends_with(".json") && path.contains('/') => {
                Place::Object { directory: directory.to_owned(), key: key.to_owned() }
            }
            _ => Place::Store { url: address.to_owned() },
        }
    }

    /// The store that the address itself names: it is one, or the manifest lies where stores keep theirs.
    pub fn store(&self) -> Option<String> {
        match self {
            Place::Store { url } => Some(url.clone()),
            Place::Object { directory, key } => {
                let (above, last) = directory.rsplit_once('/')?;
                let is_version = key.strip_suffix(".json").is_some_and(|stem| stem.parse::<u64>().is_ok());
                match (last, is_version) {
                    ("manifests", _) => Some(above.to_owned()),
                    (_, true) => above.strip_suffix("/manifests").map(str::to_owned),
                    _ => None,
                }
            }
            Place::File(path) => {
                let mut above = path.parent()?.to_owned();
                if above.file_name()? != "manifests" {
                    above = above.parent()?.to_owned();
                }
                let store = (above.file_name()? == "manifests").then(|| above.parent()).flatten()?;
                // A directory called `manifests` may be anywhere.
                store.join("root/1.json").is_file().then(|| store.display().to_string())
            }
        }
    }

    /// The address of the manifest, against which relative stores are resolved.
    fn address(&self, name: &str) -> String {
        match self {
            Place::Store { url } => format!("{}/{}", url.trim_end_matches('/'), newest_key(name)),
            Place::Object { directory, key } => format!("{directory}/{key}"),
            Place::File(path) => path.display().to_string(),
        }
    }
}

/// Which of the stores that a manifest names are read.
#[derive(Clone)]
pub enum Stores {
    /// The first that has a root: for who writes to it.
    First,
    /// All of them as copies of one, for reading; who listens is told what is wrong with one.
    All(Listener),
}

/// Reads the manifest at `place`, called `name` where the place is a store, and finds the store of its chain.
///
/// The store is `named` if one is given, or the one the place is. Else it is the first with a root of the one that the
/// manifest lies in and those that it names, together with the others of these if `stores` says so. Nothing is verified.
///
/// # Errors
/// [`ManifestError::Store`] with a missing object where there is none, [`ManifestError::NoStore`] where no store is known.
pub fn locate(
    place: &Place,
    name: &str,
    named: Option<&str>,
    options: &OpenOptions,
    stores: &Stores,
) -> Result<Located, ManifestError> {
    let address = place.address(name);
    let cap = MANIFEST_CAP as u64;
    let (bytes, store) = match place {
        Place::Store { url } => {
            let store = store::open(url, options)?;
            (get(&*store, &newest_key(name), cap)?, Some(store))
        }
        Place::Object { directory, key } => {
            let bytes = get(&*store::open(directory, options)?, key, cap)?;
            (bytes, None)
        }
        Place::File(path) => (read(path)?, None),
    };
    let store = match (named, store) {
        (Some(named), _) => store::open(named, options)?,
        (None, Some(store)) => store,
        (None, None) => {
            let candidates = candidates(place, &address, &bytes)?;
            let (at, store) = first_with_root(&candidates, &address, options)?;
            match stores {
                Stores::First => store,
                Stores::All(listener) => with_copies(at, store, &candidates, options, listener),
            }
        }
    };
    Ok(Located { bytes, address, store })
}

fn get(store: &dyn Store, key: &str, cap: u64) -> Result<Bytes, ManifestError> {
    match store.get(key, cap) {
        Err(StoreError::TooBig { key, cap_bytes, .. }) => {
            Err(Refusal::new(Class::TooBig, key, format!("at most {cap_bytes} bytes"), "more").into())
        }
        result => Ok(result?),
    }
}

fn read(path: &Path) -> Result<Bytes, ManifestError> {
    let missing = || std::io::Error::from(std::io::ErrorKind::NotFound);
    let read = file::read(path, MANIFEST_CAP).and_then(|bytes| bytes.ok_or_else(missing));
    read.map(Bytes::from).map_err(|source| ManifestError::Read { path: path.to_owned(), source })
}

/// The stores that the address and the manifest name, each once.
fn candidates(place: &Place, address: &str, bytes: &[u8]) -> Result<Vec<String>, ManifestError> {
    let (_, stores) = Manifest::hinted_stores(bytes, address)?;
    let local = matches!(place, Place::File(_));
    let named = stores.iter().filter_map(|store| resolve(address, store, local));
    let mut seen = HashSet::new();
    let all = place.store().into_iter().chain(named);
    Ok(all.filter(|store| seen.insert(known_address(store))).take(COPIES_CAP).collect())
}

/// The first store that has a root, and which of the candidates it is.
fn first_with_root(
    candidates: &[String],
    address: &str,
    options: &OpenOptions,
) -> Result<(usize, Arc<dyn Store>), ManifestError> {
    let mut last = None;
    for (at, candidate) in candidates.iter().enumerate() {
        let store = match store::open(candidate, options) {
            Ok(store) => store,
            Err(error) => {
                last = Some(ManifestError::Open(error));
                continue;
            }
        };
        match store.size("root/1.json") {
            Ok(_) => return Ok((at, store)),
            Err(error) => last = Some(ManifestError::Store(error)),
        }
    }
    Err(last.unwrap_or_else(|| ManifestError::NoStore(address.to_owned())))
}

/// A store and the other candidates as copies of one; those that cannot be opened are left out and told of.
fn with_copies(
    first: usize,
    store: Arc<dyn Store>,
    candidates: &[String],
    options: &OpenOptions,
    listener: &Listener,
) -> Arc<dyn Store> {
    // Another copy is asked before any is asked again.
    let pace = Pace { retries: 0, ..options.pace.clone() };
    let once = OpenOptions { pace: pace.clone(), ..options.clone() };
    let scheme = |address: &str| address.split_once("://").map(|(scheme, _)| scheme.to_owned());
    let mut copies = Vec::new();
    for (at, candidate) in candidates.iter().enumerate() {
        // Credentials of one place are not shown to another.
        let options = match scheme(candidate) == scheme(&candidates[first]) {
            true => once.clone(),
            false => OpenOptions { pace: pace.clone(), ..OpenOptions::default() },
        };
        match store::open(candidate, &options) {
            Ok(copy) if at == first => copies.insert(0, copy),
            Ok(copy) => copies.push(copy),
            Err(error) => {
                let (store, why) = (known_address(candidate), error.to_string());
                listener(&Notice { store, key: String::new(), fault: Fault::Unavailable, why, last: false });
            }
        }
    }
    if copies.len() < 2 {
        return store;
    }
    Arc::new(Mirrored::new(store.url().to_owned(), copies, options.pace.clone(), Arc::clone(listener)))
}

/// The address of a store as a manifest at `address` means it; nothing for a path of another machine.
fn resolve(address: &str, store: &str, local: bool) -> Option<String> {
    if store.contains("://") {
        return Some(store.to_owned()).filter(|_| local || !store.starts_with("file://"));
    }
    if local {
        let directory = Path::new(address).parent().unwrap_or(Path::new(""));
        return Some(directory.join(store).display().to_string());
    }
    if store.starts_with('/') {
        return None;
    }
    let joined = Url::parse(address).ok()?.join(store).ok()?;
    Some(joined.to_string().trim_end_matches('/').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_manifest_or_a_store() {
        let object = |directory: &str, key: &str| Place::Object { directory: directory.into(), key: key.into() };
        let store = |url: &str| Place::Store { url: url.into() };
        for (address, place) in [
            ("https://a.example/store", store("https://a.example/store")),
            ("s3://bucket/app", store("s3://bucket/app")),
            ("https://a.example/m.json", object("https://a.example", "m.json")),
            ("s3://b/p/manifests/app.json", object("s3://b/p/manifests", "app.json")),
            ("https://a.json", store("https://a.json")),
            ("deploy/app.json", Place::File("deploy/app.json".into())),
            ("file:///x/app.json", Place::File("/x/app.json".into())),
            ("/srv/store", store("/srv/store")),
        ] {
            assert_eq!(Place::of(address), place, "{address}");
        }
    }

    #[test]
    fn a_manifest_in_a_store_names_the_store() {
        for (address, store) in [
            ("https://a.example/s/manifests/app.json", Some("https://a.example/s")),
            ("https://a.example/s/manifests/app/7.json", Some("https://a.example/s")),
            ("https://a.example/s/app.json", None),
            ("s3://b/manifests/app.json", Some("s3://b")),
        ] {
            assert_eq!(Place::of(address).store().as_deref(), store, "{address}");
        }
    }

    #[test]
    fn relative_stores_are_resolved_and_paths_of_other_machines_are_not_opened() {
        let web = "https://a.example/s/manifests/app.json";
        assert_eq!(resolve(web, "../", false).as_deref(), Some("https://a.example/s"));
        assert_eq!(resolve(web, "https://b.example/x", false).as_deref(), Some("https://b.example/x"));
        assert_eq!(resolve(web, "/etc", false), None);
        assert_eq!(resolve(web, "file:///etc", false), None);
        assert_eq!(resolve("deploy/app.json", "../store", true).as_deref(), Some("deploy/../store"));
        assert_eq!(resolve("deploy/app.json", "/srv/store", true).as_deref(), Some("/srv/store"));
    }
}
