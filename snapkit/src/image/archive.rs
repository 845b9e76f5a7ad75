//! Archives: OCI layouts as directories or tar files, and what `docker save` writes.
//!
//! An archive can be both at once. Then both readings must give the same image, because one engine goes by one and
//! another by the other. Documented in `docs/images.md`. Layer: operations.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use manifests::digest::Digest;
use manifests::json::Tree;
use manifests::refusal::{Class, Refusal};

use super::document::{self, Blob, Compression};
use super::identity::Platform;
use super::resolve::{First, Layer, Place, Resolved, Source, resolve};
use super::tar_index::TarIndex;
use super::{CONFIG_CAP, ImageError, MANIFEST_CAP, ambiguous, layer};
use crate::cancel::Cancel;

/// A directory or a tar file with images in it.
pub struct Archive {
    path: PathBuf,
    kind: Kind,
}

enum Kind {
    Directory,
    Tar(Box<TarIndex>),
}

/// One image in an archive.
struct Named {
    names: Vec<String>,
    what: What,
}

enum What {
    /// Of the index of a layout.
    Oci(Blob),
    /// Of Docker's list: the file of the config and those of the layers.
    Docker { config: String, layers: Vec<String> },
}

impl Archive {
    /// Opens an archive; of a tar file, all headers are read.
    ///
    /// # Errors
    /// [`ImageError::File`]; [`Class::ImageType`] for a tar file that can be read in two ways.
    pub fn open(path: &Path) -> Result<Self, ImageError> {
        let metadata = path.metadata().map_err(ImageError::file(path))?;
        let kind = if metadata.is_dir() { Kind::Directory } else { Kind::Tar(Box::new(TarIndex::open(path)?)) };
        Ok(Self { path: path.to_owned(), kind })
    }

    /// The image with this name, or the only one there is, for a platform.
    ///
    /// # Errors
    /// [`ImageError::NotFound`], naming what there is; whatever the documents are refused with.
    pub fn image(&self, name: Option<&str>, platform: Option<&Platform>) -> Result<Resolved, ImageError> {
        let (oci, docker) = (self.oci()?, self.docker()?);
        if oci.is_none() && docker.is_none() {
            let expected = "`index.json` or `manifest.json`";
            return Err(ambiguous(self.place(), expected, "neither").into());
        }
        let oci = oci.map(|images| self.one(images, name, platform)).transpose()?;
        let docker = docker.map(|images| self.one(images, name, platform)).transpose()?;
        match (oci, docker) {
            (Some(oci), Some(docker)) if oci.identity() != docker.identity() => {
                let expected =
                    format!("the image of `index.json`, config sha256:{}, in `manifest.json` too", oci.config_digest);
                Err(ambiguous(self.place(), expected, format!("config sha256:{}", docker.config_digest)).into())
            }
            (Some(image), _) | (None, Some(image)) => Ok(image),
            (None, None) => unreachable!("one of them was there"),
        }
    }

    /// Reads and hashes all layers of an image of this archive; returns their length as they are unpacked.
    ///
    /// # Errors
    /// [`Class::Hash`] and [`Class::Size`] for other bytes.
    pub fn check_layers(&self, image: &Resolved, cancel: &Cancel) -> Result<u64, ImageError> {
        layer::check(self, &image.layers, cancel)
    }

    /// The manifest of an image of this layout, with its path.
    pub(super) fn manifest_file(&self, image: &Resolved) -> Result<(String, Vec<u8>), ImageError> {
        let digest = image.manifest.ok_or_else(|| ambiguous(self.place(), "a layout", "another archive"))?;
        let name = blob_name(&digest);
        let bytes = self.read(&name, MANIFEST_CAP)?;
        if Digest::sha256(&bytes) == digest {
            return Ok((name, bytes));
        }
        let found = format!("sha256:{}", Digest::sha256(&bytes));
        Err(Refusal::new(Class::Hash, name, "bytes that hash to this", found).into())
    }

    fn one(&self, images: Vec<Named>, name: Option<&str>, platform: Option<&Platform>) -> Result<Resolved, ImageError> {
        let all = images.iter().flat_map(|image| image.names.clone()).collect::<Vec<_>>().join(", ");
        let total = images.len();
        let mut fitting = images.into_iter().filter(|image| match name {
            Some(name) => image.names.iter().any(|known| is_name(known, name)),
            // Layouts list one image under several names.
            None => true,
        });
        let not_found = |image: String| ImageError::NotFound { image, place: format!("{} ({all})", self.place()) };
        let Some(first) = fitting.next() else {
            return Err(not_found(name.unwrap_or("at all").to_owned()));
        };
        if let Some(other) = fitting.find(|other| !other.what.is_same(&first.what)) {
            drop(other);
            let expected = if name.is_some() { "one image of that name" } else { "one image" };
            let hint = format!("name one of them: {all}");
            return Err(ambiguous(self.place(), expected, format!("{total}")).with_hint(hint).into());
        }
        match first.what {
            What::Docker { config, layers } => self.docker_image(&config, layers, platform),
            What::Oci(blob) => {
                let bytes = self.manifest(&blob)?;
                let object = format!("sha256:{} of {}", blob.digest, self.place());
                if Digest::sha256(&bytes) != blob.digest {
                    let found = format!("sha256:{}", Digest::sha256(&bytes));
                    return Err(Refusal::new(Class::Hash, object, "bytes that hash to this", found).into());
                }
                resolve(self, &First { bytes, media_type: Some(blob.media_type) }, platform)
            }
        }
    }

    /// The images of a layout, if it is one.
    fn oci(&self) -> Result<Option<Vec<Named>>, ImageError> {
        if self.bytes_of("index.json").is_none() {
            return Ok(None);
        }
        let object = format!("index.json of {}", self.place());
        let bytes = self.read("index.json", MANIFEST_CAP)?;
        let entries = document::read_layout_index(&bytes, &object)?;
        let named = |blob: Blob| Named { names: blob.name.iter().cloned().collect(), what: What::Oci(blob) };
        Ok(Some(entries.into_iter().map(named).collect()))
    }

    /// The images of Docker's list, if there is one.
    fn docker(&self) -> Result<Option<Vec<Named>>, ImageError> {
        if self.bytes_of("manifest.json").is_none() {
            return Ok(None);
        }
        let object = format!("manifest.json of {}", self.place());
        let tree = document::strict(&self.read("manifest.json", MANIFEST_CAP)?, MANIFEST_CAP, &object)?;
        let Tree::Array(images) = tree else {
            return Err(ambiguous(object, "a list of images", "something else").into());
        };
        let images = images.iter().map(|image| docker_entry(image, &object)).collect::<Result<_, _>>()?;
        Ok(Some(images))
    }

    fn docker_image(
        &self,
        config: &str,
        layers: Vec<String>,
        platform: Option<&Platform>,
    ) -> Result<Resolved, ImageError> {
        let object = format!("{config} of {}", self.place());
        let config_bytes = self.read(config, CONFIG_CAP)?;
        let config_digest = Digest::sha256(&config_bytes);
        let stem = config.rsplit('/').next().unwrap_or_default().trim_end_matches(".json");
        if stem.parse::<Digest>().is_ok_and(|named| named != config_digest) {
            let found = format!("sha256:{config_digest}");
            return Err(Refusal::new(Class::Hash, object, "a config that hashes to its name", found).into());
        }
        let config = document::config(&config_bytes, &object)?;
        if config.diff_ids.len() != layers.len() {
            let expected = format!("{} diff ids, one for each layer", layers.len());
            return Err(ambiguous(object, expected, config.diff_ids.len()).into());
        }
        if let Some(asked) = platform.filter(|asked| !asked.takes(&config.platform)) {
            return Err(Refusal::new(Class::Platform, object, asked, &config.platform).into());
        }
        let layer = |(name, diff_id): (String, &Digest)| {
            let compression = self.compression_of(&name)?;
            Ok(Layer { place: Place::Name(name), compression, diff_id: *diff_id })
        };
        let layers = layers.into_iter().zip(&config.diff_ids).map(layer).collect::<Result<_, ImageError>>()?;
        Ok(Resolved { index: None, manifest: None, config_digest, config_bytes, config, layers })
    }

    /// Nothing in such an archive says how its layers are stored; their first bytes do.
    fn compression_of(&self, name: &str) -> Result<Compression, ImageError> {
        let mut magic = Vec::new();
        self.open_file(name)?.take(4).read_to_end(&mut magic).map_err(ImageError::file(self.path.join(name)))?;
        Ok(match magic.as_slice() {
            [0x1f, 0x8b, ..] => Compression::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd] => Compression::Zstd,
            _ => Compression::None,
        })
    }

    fn bytes_of(&self, name: &str) -> Option<u64> {
        match &self.kind {
            Kind::Tar(tar) => tar.bytes(name),
            Kind::Directory => {
                self.path.join(name).metadata().ok().filter(std::fs::Metadata::is_file).map(|file| file.len())
            }
        }
    }

    fn open_file(&self, name: &str) -> Result<Box<dyn Read + '_>, ImageError> {
        let absent = || Refusal::new(Class::Missing, self.place(), name, "no such file");
        match &self.kind {
            Kind::Tar(tar) => Ok(Box::new(tar.reader(name).ok_or_else(absent)?)),
            Kind::Directory => {
                // A pipe or a device would hold the run for ever.
                self.bytes_of(name).ok_or_else(absent)?;
                let path = self.path.join(name);
                Ok(Box::new(File::open(&path).map_err(ImageError::file(&path))?))
            }
        }
    }

    fn read(&self, name: &str, cap: u64) -> Result<Vec<u8>, ImageError> {
        let mut bytes = Vec::new();
        let file = self.open_file(name)?;
        file.take(cap + 1).read_to_end(&mut bytes).map_err(ImageError::file(self.path.join(name)))?;
        if bytes.len() as u64 > cap {
            let object = format!("{name} of {}", self.place());
            return Err(Refusal::new(Class::TooBig, object, format!("at most {cap} bytes"), "more").into());
        }
        Ok(bytes)
    }
}

impl Source for Archive {
    fn place(&self) -> String {
        self.path.display().to_string()
    }

    fn manifest(&self, blob: &Blob) -> Result<Vec<u8>, ImageError> {
        self.read(&blob_name(&blob.digest), blob.bytes.min(MANIFEST_CAP))
    }

    fn config(&self, blob: &Blob) -> Result<Vec<u8>, ImageError> {
        self.read(&blob_name(&blob.digest), blob.bytes.min(CONFIG_CAP))
    }

    fn layer(&self, place: &Place) -> Result<Box<dyn Read + '_>, ImageError> {
        match place {
            Place::Blob { digest, .. } => self.open_file(&blob_name(digest)),
            Place::Name(name) => self.open_file(name),
        }
    }
}

impl What {
    fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Oci(a), Self::Oci(b)) => a.digest == b.digest,
            (Self::Docker { config: a, layers: x }, Self::Docker { config: b, layers: y }) => a == b && x == y,
            _ => false,
        }
    }
}

/// Where a layout keeps what has this digest.
pub(super) fn blob_name(digest: &Digest) -> String {
    format!("blobs/sha256/{digest}")
}

/// Whether an archive's name for an image is the one that was asked for; both may leave out what Docker adds.
fn is_name(known: &str, asked: &str) -> bool {
    let short = |name: &str| {
        let name = name.strip_prefix("docker.io/").unwrap_or(name);
        name.strip_prefix("library/").unwrap_or(name).to_owned()
    };
    let (known, asked) = (short(known), short(asked));
    known == asked
        || known == format!("{asked}:latest")
        || format!("{known}:latest") == asked
        // The name in a layout is often the tag alone.
        || asked.rsplit_once(':').is_some_and(|(_, tag)| !known.contains([':', '/']) && tag == known)
}

fn docker_entry(image: &Tree, object: &str) -> Result<Named, Refusal> {
    document::docker_names(image, object)?;
    let texts = |name: &str| match image.get(name) {
        Some(Tree::Array(items)) => items.iter().map(|item| text(item, name, object)).collect(),
        Some(Tree::Null) | None => Ok(Vec::new()),
        Some(_) => Err(ambiguous(object, format!("a list `{name}`"), "something else")),
    };
    let config = text(image.get("Config").unwrap_or(&Tree::Null), "Config", object)?;
    Ok(Named { names: texts("RepoTags")?, what: What::Docker { config, layers: texts("Layers")? } })
}

fn text(tree: &Tree, name: &str, object: &str) -> Result<String, Refusal> {
    match tree {
        // The name of a member; a directory has no other place to look for it either.
        Tree::Text(text) if text.split('/').all(|part| !matches!(part, "" | "." | "..")) => Ok(text.clone()),
        Tree::Text(text) if name == "RepoTags" => Ok(text.clone()),
        _ => Err(ambiguous(object, format!("plain text in `{name}`"), "something else")),
    }
}
