//! Small container images, made member by member, honest or not.
//!
//! An [`Archive`] is a list of files that becomes a tar file; what is wrong with a hostile one is put into it by name.

use std::fs;
use std::path::Path;

use manifests::digest::Digest;
use serde_json::{Value, json};

/// What OCI calls things.
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// As above.
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// As above.
pub const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// As above.
pub const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// Files of an archive, in order.
#[derive(Debug, Clone, Default)]
pub struct Archive {
    members: Vec<(String, Vec<u8>)>,
}

/// One image of one layer for `linux/amd64`.
#[derive(Debug, Clone)]
pub struct Image {
    /// The layer, not compressed.
    pub layer: Vec<u8>,
    /// The config.
    pub config: Vec<u8>,
}

impl Image {
    /// An image whose one file holds `content`.
    pub fn new(content: &str) -> Self {
        Self::of_layer(layer(&[("content", content.as_bytes())]), "amd64")
    }

    /// An image of this layer for an architecture.
    pub fn of_layer(layer: Vec<u8>, architecture: &str) -> Self {
        let config = json!({
            "architecture": architecture,
            "os": "linux",
            "config": {"Env": ["PATH=/bin"], "Cmd": ["/content"]},
            "rootfs": {"type": "layers", "diff_ids": [named(&layer)]},
        });
        Self { config: config.to_string().into_bytes(), layer }
    }

    /// The manifest, as JSON that can be spoiled.
    pub fn manifest(&self) -> Value {
        json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": descriptor(CONFIG, &self.config),
            "layers": [descriptor(LAYER, &self.layer)],
        })
    }

    /// The pin of this image under the name `app`.
    pub fn pin(&self) -> Value {
        let config: Value = serde_json::from_slice(&self.config).unwrap();
        let bare = |id: &Value| id.as_str().unwrap().trim_start_matches("sha256:").to_owned();
        let ids: Vec<String> = config["rootfs"]["diff_ids"].as_array().unwrap().iter().map(bare).collect();
        json!({
            "name": "app",
            "reference": "registry.example/app:prod",
            "platform": format!("linux/{}", config["architecture"].as_str().unwrap()),
            "config": Digest::sha256(&self.config),
            "diff_ids": ids,
        })
    }

    /// A layout with this image alone, under the pin's reference.
    pub fn layout(&self) -> Archive {
        Archive::of_manifest(self, self.manifest().to_string().as_bytes(), MANIFEST)
    }

    /// What `docker save` writes of it.
    pub fn docker(&self) -> Archive {
        let mut archive = Archive::default();
        let config = format!("{}.json", Digest::sha256(&self.config));
        archive.add(&config, &self.config);
        archive.add("0/layer.tar", &self.layer);
        let list = json!([{"Config": config, "RepoTags": ["registry.example/app:prod"], "Layers": ["0/layer.tar"]}]);
        archive.add("manifest.json", list.to_string().as_bytes());
        archive
    }
}

impl Archive {
    /// A layout whose first document is `document`, with config and layer of `image` beside it.
    pub fn of_manifest(image: &Image, document: &[u8], media_type: &str) -> Self {
        let mut archive = Self::default();
        archive.add("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#);
        archive.blob(&image.config);
        archive.blob(&image.layer);
        archive.blob(document);
        let mut entry = descriptor(media_type, document);
        entry["annotations"] = json!({"org.opencontainers.image.ref.name": "prod"});
        let index = json!({"schemaVersion": 2, "manifests": [entry]});
        archive.add("index.json", index.to_string().as_bytes());
        archive
    }

    /// Adds a file, also one that is there already.
    pub fn add(&mut self, name: &str, bytes: &[u8]) {
        self.members.push((name.to_owned(), bytes.to_vec()));
    }

    /// Adds what a layout keeps under its digest.
    pub fn blob(&mut self, bytes: &[u8]) {
        self.add(&format!("blobs/sha256/{}", Digest::sha256(bytes)), bytes);
    }

    /// Adds all files of another archive.
    pub fn append(&mut self, other: &Self) {
        self.members.extend(other.members.iter().cloned());
    }

    /// Puts other bytes into a file that is there.
    pub fn replace(&mut self, name: &str, bytes: &[u8]) {
        let member = self.members.iter_mut().find(|(known, _)| known == name).unwrap();
        member.1 = bytes.to_vec();
    }

    /// The tar file.
    pub fn to_tar(&self) -> Vec<u8> {
        tar_of(self.members.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())))
    }

    /// Writes the files into a directory.
    pub fn to_directory(&self, directory: &Path) {
        for (name, bytes) in &self.members {
            let path = directory.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
    }
}

/// A layer with these files.
pub fn layer(files: &[(&str, &[u8])]) -> Vec<u8> {
    tar_of(files.iter().copied())
}

/// Also with names that no library would write.
fn tar_of<'a>(files: impl Iterator<Item = (&'a str, &'a [u8])>) -> Vec<u8> {
    let mut out = tar::Builder::new(Vec::new());
    for (name, bytes) in files {
        let mut header = tar::Header::new_ustar();
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        header.set_mtime(0);
        header.set_cksum();
        out.append(&header, bytes).unwrap();
    }
    out.into_inner().unwrap()
}

/// `sha256:…` of bytes.
pub fn named(bytes: &[u8]) -> String {
    format!("sha256:{}", Digest::sha256(bytes))
}

/// A reference to bytes.
pub fn descriptor(media_type: &str, bytes: &[u8]) -> Value {
    json!({"mediaType": media_type, "digest": named(bytes), "size": bytes.len()})
}
