//! Image documents: index, manifest and config, from bytes that are refused if two readers could differ on them.
//!
//! Go reads names without regard to case and takes the last of two equal ones; other readers do neither. A document with
//! both `manifests` and `layers` is an index to one reader and a manifest to another. Such documents have one digest and
//! two meanings, so a pin of the digest would pin nothing: they are refused, whatever the rest of them says.
//! Source: OCI image-spec 1.1; CVE-2021-41190 (GHSA-77vh-xpmg-72qh). Documented in `docs/images.md`. Layer: pure.

use manifests::digest::Digest;
use manifests::document::image::LAYERS_CAP;
use manifests::json::Tree;
use manifests::refusal::{Class, Refusal};
use oci_spec::image::{DigestAlgorithm, ImageConfiguration, ImageIndex, ImageManifest, MediaType};

use super::ambiguous;
use super::identity::Platform;

/// What Docker calls a manifest.
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// What Docker calls an index.
pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
/// What OCI calls a manifest.
pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// What OCI calls an index.
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// What OCI calls a config.
pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// What OCI calls an uncompressed layer.
pub const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";
const DOCKER_LAYER_GZIP: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
const DOCKER_LAYER_ZSTD: &str = "application/vnd.docker.image.rootfs.diff.tar.zstd";

/// The most manifests in one index.
pub const ENTRIES_CAP: usize = 256;

/// A reference inside of a document to what has this digest and length.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blob {
    /// What it is said to be.
    pub media_type: String,
    /// SHA-256 of its bytes.
    pub digest: Digest,
    /// Their number.
    pub bytes: u64,
    /// The platform it is said to be for.
    pub platform: Option<Platform>,
    /// The name it has in a layout.
    pub name: Option<String>,
}

/// How a layer is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// As it is unpacked.
    None,
    /// gzip.
    Gzip,
    /// zstd.
    Zstd,
}

/// An index or a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Document {
    /// Manifests for several platforms.
    Index(Vec<Blob>),
    /// One image.
    Manifest(Manifest),
}

/// One image for one platform.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// The config.
    pub config: Blob,
    /// The layers, lowest first.
    pub layers: Vec<(Blob, Compression)>,
}

/// The parts of a config that make an image what it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// What it runs on.
    pub platform: Platform,
    /// The layers as they are unpacked, lowest first.
    pub diff_ids: Vec<Digest>,
    /// What a container of it runs unless told otherwise.
    pub launch: Launch,
}

/// What is started, as an image or a container says it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Launch {
    /// Entry point and arguments.
    pub argv: Vec<String>,
    /// The environment, sorted.
    pub env: Vec<String>,
    /// The user.
    pub user: String,
    /// The directory it is started in.
    pub directory: String,
}

const INDEX_NAMES: &[&str] = &["schemaVersion", "mediaType", "artifactType", "manifests", "subject", "annotations"];
const MANIFEST_NAMES: &[&str] =
    &["schemaVersion", "mediaType", "artifactType", "config", "layers", "subject", "annotations"];
/// What makes a document an index, a manifest, or a manifest of Docker's first schema.
const KIND_NAMES: &[&str] = &["manifests", "config", "layers", "fsLayers", "signatures", "history"];
const BLOB_NAMES: &[&str] = &["mediaType", "digest", "size", "urls", "annotations", "platform", "artifactType", "data"];
const PLATFORM_NAMES: &[&str] = &["architecture", "os", "os.version", "os.features", "variant", "features"];
const CONFIG_NAMES: &[&str] =
    &["architecture", "os", "os.version", "os.features", "variant", "config", "rootfs", "history", "created", "author"];
const ROOTFS_NAMES: &[&str] = &["type", "diff_ids"];
const RUN_NAMES: &[&str] = &[
    "User",
    "ExposedPorts",
    "Env",
    "Entrypoint",
    "Cmd",
    "Volumes",
    "WorkingDir",
    "Labels",
    "StopSignal",
    "ArgsEscaped",
    "Healthcheck",
    "Shell",
    "OnBuild",
];

/// Reads an index or a manifest that was found as `media_type`, if anything said what it is.
///
/// # Errors
/// [`Class::ImageType`] if two readers could read it differently, or if it is something else.
pub fn read(bytes: &[u8], media_type: Option<&str>, object: &str) -> Result<Document, Refusal> {
    let tree = strict(bytes, super::MANIFEST_CAP, object)?;
    let stated = match tree.get("mediaType") {
        Some(Tree::Text(stated)) => stated.clone(),
        _ => {
            let hint = "make it anew with a tool that writes the field, such as skopeo, buildah or docker";
            return Err(ambiguous(object, "the field `mediaType`", "none").with_hint(hint));
        }
    };
    if let Some(said) = media_type.filter(|said| *said != stated) {
        return Err(ambiguous(object, format!("`mediaType` {said}, as it was found"), stated));
    }
    match stated.as_str() {
        OCI_INDEX | DOCKER_LIST => Ok(Document::Index(index(&tree, bytes, object)?)),
        OCI_MANIFEST | DOCKER_MANIFEST => Ok(Document::Manifest(manifest(&tree, bytes, object)?)),
        _ => Err(ambiguous(object, "an index or a manifest of an image", stated)),
    }
}

/// Reads the `index.json` of a layout, which no digest names and which may leave its type out.
///
/// # Errors
/// As [`read`].
pub fn read_layout_index(bytes: &[u8], object: &str) -> Result<Vec<Blob>, Refusal> {
    let tree = strict(bytes, super::MANIFEST_CAP, object)?;
    match tree.get("mediaType") {
        None => {}
        Some(Tree::Text(stated)) if stated == OCI_INDEX => {}
        Some(other) => return Err(ambiguous(object, format!("`mediaType` {OCI_INDEX}"), told(other))),
    }
    index(&tree, bytes, object)
}

/// Reads a config.
///
/// # Errors
/// As [`read`].
pub fn config(bytes: &[u8], object: &str) -> Result<Config, Refusal> {
    let tree = strict(bytes, super::CONFIG_CAP, object)?;
    names(&tree, CONFIG_NAMES, object)?;
    if let Some(other) =
        KIND_NAMES.iter().find(|name| !matches!(**name, "config" | "history") && tree.get(name).is_some())
    {
        return Err(ambiguous(object, "a config alone", format!("the field `{other}` too")));
    }
    if let Some(rootfs) = tree.get("rootfs") {
        names(rootfs, ROOTFS_NAMES, object)?;
    }
    if let Some(run) = tree.get("config") {
        names(run, RUN_NAMES, object)?;
    }
    let config: ImageConfiguration = typed(bytes, object)?;
    if config.rootfs().typ() != "layers" {
        return Err(ambiguous(object, "`rootfs.type` layers", config.rootfs().typ()));
    }
    let ids = config.rootfs().diff_ids();
    if ids.len() > LAYERS_CAP {
        return Err(Refusal::new(Class::TooMany, object, format!("at most {LAYERS_CAP} layers"), ids.len()));
    }
    let diff_ids = ids.iter().map(|id| sha256(id, object)).collect::<Result<_, _>>()?;
    let platform = Platform {
        os: config.os().to_string(),
        architecture: config.architecture().to_string(),
        variant: config.variant().clone().filter(|variant| !variant.is_empty()),
    };
    platform.check(object)?;
    let mut launch = Launch::default();
    if let Some(run) = config.config() {
        let entry = run.entrypoint().clone().unwrap_or_default();
        launch.argv = entry.into_iter().chain(run.cmd().clone().unwrap_or_default()).collect();
        launch.env = run.env().clone().unwrap_or_default();
        launch.env.sort_unstable();
        launch.user = run.user().clone().unwrap_or_default();
        launch.directory = run.working_dir().clone().unwrap_or_default();
    }
    Ok(Config { platform, diff_ids, launch })
}

/// Reads a digest of the form `sha256:…`.
///
/// # Errors
/// [`Class::ImageType`] for every other form.
pub fn sha256(text: &str, object: &str) -> Result<Digest, Refusal> {
    let digest = text.strip_prefix("sha256:").and_then(|hex| hex.parse().ok());
    digest.ok_or_else(|| ambiguous(object, "a digest sha256:…", shortened(text)))
}

/// No name in an entry of Docker's list differs from a known one by case alone.
pub(super) fn docker_names(tree: &Tree, object: &str) -> Result<(), Refusal> {
    names_of(tree, &["Config", "RepoTags", "Layers"], &[], object)
}

fn index(tree: &Tree, bytes: &[u8], object: &str) -> Result<Vec<Blob>, Refusal> {
    names(tree, INDEX_NAMES, object)?;
    only(tree, &["manifests"], object)?;
    for entry in items(tree, "manifests") {
        blob_names(entry, object)?;
    }
    let index: ImageIndex = typed(bytes, object)?;
    schema(index.schema_version(), object)?;
    if index.manifests().len() > ENTRIES_CAP {
        let expected = format!("at most {ENTRIES_CAP} manifests");
        return Err(Refusal::new(Class::TooMany, object, expected, index.manifests().len()));
    }
    index.manifests().iter().map(|entry| blob(entry, object)).collect()
}

fn manifest(tree: &Tree, bytes: &[u8], object: &str) -> Result<Manifest, Refusal> {
    names(tree, MANIFEST_NAMES, object)?;
    only(tree, &["config", "layers"], object)?;
    tree.get("config").map_or(Ok(()), |entry| blob_names(entry, object))?;
    for entry in items(tree, "layers") {
        blob_names(entry, object)?;
    }
    let manifest: ImageManifest = typed(bytes, object)?;
    schema(manifest.schema_version(), object)?;
    let config = blob(manifest.config(), object)?;
    if !matches!(config.media_type.as_str(), OCI_CONFIG | DOCKER_CONFIG) {
        return Err(ambiguous(object, "the config of an image", config.media_type));
    }
    if config.bytes > super::CONFIG_CAP {
        return Err(too_big(object, "config", super::CONFIG_CAP));
    }
    if manifest.layers().len() > LAYERS_CAP {
        return Err(Refusal::new(
            Class::TooMany,
            object,
            format!("at most {LAYERS_CAP} layers"),
            manifest.layers().len(),
        ));
    }
    let layer = |layer| {
        let blob = blob(layer, object)?;
        let compression = compression(&blob.media_type).ok_or_else(|| {
            ambiguous(object, "layers that are tar files, plain or compressed by gzip or zstd", &blob.media_type)
        })?;
        if blob.bytes > super::LAYERS_CAP_BYTES {
            return Err(too_big(object, "layer", super::LAYERS_CAP_BYTES));
        }
        Ok((blob, compression))
    };
    let layers = manifest.layers().iter().map(layer).collect::<Result<_, Refusal>>()?;
    Ok(Manifest { config, layers })
}

/// Layers that have to be fetched from somewhere else are not among them.
fn compression(media_type: &str) -> Option<Compression> {
    match MediaType::from(media_type) {
        MediaType::ImageLayer => Some(Compression::None),
        MediaType::ImageLayerGzip => Some(Compression::Gzip),
        MediaType::ImageLayerZstd => Some(Compression::Zstd),
        MediaType::Other(other) => match other.as_str() {
            DOCKER_LAYER => Some(Compression::None),
            DOCKER_LAYER_GZIP => Some(Compression::Gzip),
            DOCKER_LAYER_ZSTD => Some(Compression::Zstd),
            _ => None,
        },
        _ => None,
    }
}

fn blob(descriptor: &oci_spec::image::Descriptor, object: &str) -> Result<Blob, Refusal> {
    if *descriptor.digest().algorithm() != DigestAlgorithm::Sha256 {
        return Err(ambiguous(object, "digests by SHA-256", descriptor.digest().algorithm()));
    }
    let platform = descriptor.platform().as_ref().map(|platform| Platform {
        os: platform.os().to_string(),
        architecture: platform.architecture().to_string(),
        variant: platform.variant().clone().filter(|variant| !variant.is_empty()),
    });
    let annotation = |name: &str| descriptor.annotations().as_ref().and_then(|all| all.get(name).cloned());
    Ok(Blob {
        media_type: descriptor.media_type().to_string(),
        digest: sha256(descriptor.digest().as_ref(), object)?,
        bytes: descriptor.size(),
        platform,
        name: annotation("org.opencontainers.image.ref.name"),
    })
}

fn blob_names(entry: &Tree, object: &str) -> Result<(), Refusal> {
    names(entry, BLOB_NAMES, object)?;
    entry.get("platform").map_or(Ok(()), |platform| names(platform, PLATFORM_NAMES, object))
}

fn items<'t>(tree: &'t Tree, name: &str) -> &'t [Tree] {
    match tree.get(name) {
        Some(Tree::Array(items)) => items,
        _ => &[],
    }
}

/// What makes a document one kind is there, and nothing that makes it another.
fn only(tree: &Tree, wanted: &[&str], object: &str) -> Result<(), Refusal> {
    let expected = || format!("{} and nothing of another kind of document", wanted.join(" and "));
    match KIND_NAMES.iter().find(|name| wanted.contains(name) != tree.get(name).is_some()) {
        Some(name) if tree.get(name).is_some() => Err(ambiguous(object, expected(), format!("the field `{name}` too"))),
        Some(name) => Err(ambiguous(object, expected(), format!("no field `{name}`"))),
        None => Ok(()),
    }
}

/// No name differs from one that has a meaning by case alone: Go would read it, others would not.
fn names(tree: &Tree, known: &[&str], object: &str) -> Result<(), Refusal> {
    names_of(tree, known, KIND_NAMES, object)
}

fn names_of(tree: &Tree, known: &[&str], kinds: &[&str], object: &str) -> Result<(), Refusal> {
    let Tree::Object(fields) = tree else {
        return Ok(());
    };
    let all = || known.iter().chain(kinds);
    let variant = fields.iter().find_map(|(field, _)| {
        let folded = fold(field);
        let like = all().find(|name| fold(name) == folded)?;
        all().all(|name| name != field).then_some((field, *like))
    });
    match variant {
        Some((field, name)) => {
            Err(ambiguous(object, format!("the field `{name}` written so"), format!("`{}`", field.escape_debug())))
        }
        None => Ok(()),
    }
}

/// How `encoding/json` of Go compares names: two letters beyond ASCII fold to `k` and `s`.
fn fold(name: &str) -> String {
    name.chars()
        .map(|letter| match letter {
            '\u{212a}' => 'k',
            '\u{17f}' => 's',
            letter => letter.to_ascii_lowercase(),
        })
        .collect()
}

fn schema(version: u32, object: &str) -> Result<(), Refusal> {
    if version == 2 { Ok(()) } else { Err(ambiguous(object, "`schemaVersion` 2", version)) }
}

fn too_big(object: &str, what: &str, cap: u64) -> Refusal {
    Refusal::new(Class::TooBig, object, format!("a {what} of at most {cap} bytes"), "more")
}

/// Every doubt about the JSON itself is a doubt about what it says.
pub(super) fn strict(bytes: &[u8], cap: u64, object: &str) -> Result<Tree, Refusal> {
    Tree::read(bytes, cap as usize, object).map_err(|refusal| match refusal.class() {
        Class::TooBig => refusal,
        _ => ambiguous(object, refusal.expected(), refusal.found()),
    })
}

fn typed<T: serde::de::DeserializeOwned>(bytes: &[u8], object: &str) -> Result<T, Refusal> {
    serde_json::from_slice(bytes).map_err(|error| ambiguous(object, "the fields that OCI names", error))
}

fn told(tree: &Tree) -> String {
    match tree {
        Tree::Text(text) => shortened(text),
        _ => "something else than text".to_owned(),
    }
}

fn shortened(text: &str) -> String {
    text.chars().take(100).collect::<String>().escape_debug().to_string()
}

#[cfg(test)]
mod tests;
