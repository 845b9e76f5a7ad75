//! Hostile images, kept in `testdata/attacks/g…/`, and what makes them.
//!
//! Each directory has `image.tar`, `pin.json` of what was wanted, and `expected.json` with the class of the refusal. They
//! are made from nothing but this file, so a test compares them byte by byte; `SNAPKIT_WRITE_TESTDATA=1` writes them.

use std::fs;
use std::path::{Path, PathBuf};

use manifests::refusal::Class;
use serde_json::{Value, json};

use crate::image::{Archive, CONFIG, INDEX, Image, LAYER, MANIFEST, descriptor, layer};

/// One hostile image.
#[derive(Debug)]
pub struct HostileImage {
    /// The row of `docs/attacks.md` and what is wrong.
    pub name: &'static str,
    /// The archive.
    pub archive: Vec<u8>,
    /// The pin of what was wanted.
    pub pin: Value,
    /// What it is refused with.
    pub class: Class,
}

/// Where the kept ones are.
pub fn kept(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/attacks").join(name)
}

impl HostileImage {
    fn new(name: &'static str, class: Class, archive: &Archive, wanted: &Image) -> Self {
        Self { name, archive: archive.to_tar(), pin: wanted.pin(), class }
    }

    /// The files of its directory.
    pub fn files(&self) -> [(&'static str, Vec<u8>); 3] {
        let text = |value: &Value| (serde_json::to_string_pretty(value).unwrap() + "\n").into_bytes();
        let expected = json!({"class": self.class.name()});
        [("image.tar", self.archive.clone()), ("pin.json", text(&self.pin)), ("expected.json", text(&expected))]
    }

    /// Writes its directory.
    pub fn write(&self) {
        let directory = kept(self.name);
        fs::create_dir_all(&directory).unwrap();
        for (name, bytes) in self.files() {
            fs::write(directory.join(name), bytes).unwrap();
        }
    }
}

/// A layout whose manifest is this text.
fn with_manifest(image: &Image, manifest: &str) -> Archive {
    Archive::of_manifest(image, manifest.as_bytes(), MANIFEST)
}

/// A layout whose config is this text.
fn with_config(image: &Image, config: &str) -> Archive {
    let spoiled = Image { config: config.as_bytes().to_vec(), ..image.clone() };
    spoiled.layout()
}

/// A header of POSIX.1-2001 for the member behind it.
fn pax(records: &[u8]) -> Vec<u8> {
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(tar::EntryType::XHeader);
    header.set_size(records.len() as u64);
    header.set_cksum();
    let mut out = tar::Builder::new(Vec::new());
    out.append(&header, records).unwrap();
    let mut bytes = out.into_inner().unwrap();
    // Without the two blocks that end an archive.
    bytes.truncate(bytes.len() - 1024);
    bytes
}

/// All of them.
pub fn hostile_images() -> Vec<HostileImage> {
    let good = Image::new("good");
    let evil = Image::new("evil");
    let manifest = good.manifest().to_string();
    let config = String::from_utf8(good.config.clone()).unwrap();
    let ambiguous = |name, archive: &Archive| HostileImage::new(name, Class::ImageType, archive, &good);
    // An object without its last brace, to be gone on with.
    let open = |text: &str| text.strip_suffix('}').unwrap().to_owned();
    let evil_layers = json!([descriptor(LAYER, &evil.layer)]);
    let mut all = Vec::new();

    all.push(HostileImage::new("g02-another-image-of-the-same-name", Class::Image, &evil.docker(), &good));
    let mut other_layer = good.docker();
    other_layer.replace("0/layer.tar", &evil.layer);
    all.push(HostileImage::new("g02-the-right-config-with-another-layer", Class::Hash, &other_layer, &good));
    let mut other_blob = good.layout();
    other_blob.replace(&format!("blobs/{}", crate::image::named(&good.layer).replace(':', "/")), &evil.layer);
    all.push(HostileImage::new("g02-a-blob-that-is-another", Class::Hash, &other_blob, &good));

    let both = format!(r#"{},"manifests":[{}]}}"#, open(&manifest), descriptor(MANIFEST, b"{}"));
    all.push(ambiguous("g03-a-manifest-that-is-an-index-too", &with_manifest(&good, &both)));
    let mut index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": []});
    index["layers"] = good.manifest()["layers"].clone();
    let as_index = Archive::of_manifest(&good, index.to_string().as_bytes(), INDEX);
    all.push(ambiguous("g03-an-index-that-is-a-manifest-too", &as_index));
    let mut bare = good.manifest();
    bare.as_object_mut().unwrap().remove("mediaType");
    all.push(ambiguous("g03-a-document-without-a-type", &with_manifest(&good, &bare.to_string())));
    all.push(ambiguous(
        "g03-a-document-of-another-type-than-it-was-found-as",
        &Archive::of_manifest(&good, manifest.as_bytes(), INDEX),
    ));
    let twice = format!(r#"{},"layers":{evil_layers}}}"#, open(&manifest));
    all.push(ambiguous("g03-a-name-twice", &with_manifest(&good, &twice)));
    let case = format!(r#"{},"Layers":{evil_layers}}}"#, open(&manifest));
    all.push(ambiguous("g03-a-name-in-another-case", &with_manifest(&good, &case)));
    let folded = format!(r#"{},"layer{}":{evil_layers}}}"#, open(&manifest), '\u{17f}');
    all.push(ambiguous("g03-a-name-that-folds-to-another", &with_manifest(&good, &folded)));
    let schema_one = format!(r#"{},"fsLayers":[]}}"#, open(&manifest));
    all.push(ambiguous("g03-a-manifest-of-the-first-schema-too", &with_manifest(&good, &schema_one)));
    let old = manifest.replace(r#""schemaVersion":2"#, r#""schemaVersion":1"#);
    all.push(ambiguous("g03-another-schema-version", &with_manifest(&good, &old)));
    let elsewhere = manifest.replace(LAYER, "application/vnd.oci.image.layer.nondistributable.v1.tar");
    all.push(ambiguous("g03-a-layer-from-elsewhere", &with_manifest(&good, &elsewhere)));
    let artifact = manifest.replace(CONFIG, "application/vnd.oci.empty.v1+json");
    all.push(ambiguous("g03-a-manifest-of-no-image", &with_manifest(&good, &artifact)));
    let trailing = format!("{manifest}{{}}");
    all.push(ambiguous("g03-a-second-document-behind-it", &with_manifest(&good, &trailing)));

    let config_case = config.replace(r#""config":"#, r#""Config":{"Cmd":["/evil"]},"config":"#);
    all.push(ambiguous("g03-a-config-with-a-name-in-another-case", &with_config(&good, &config_case)));
    let ids = config.replace(r#""diff_ids":"#, r#""Diff_IDs":[],"diff_ids":"#);
    all.push(ambiguous("g03-diff-ids-in-another-case", &with_config(&good, &ids)));
    let run = config.replace(r#""Cmd":"#, r#""cmd":["/evil"],"Cmd":"#);
    all.push(ambiguous("g03-a-command-in-another-case", &with_config(&good, &run)));
    let more = config.replace(r#""diff_ids":["#, &format!(r#""diff_ids":["{}","#, crate::image::named(b"more")));
    all.push(ambiguous("g03-more-diff-ids-than-layers", &with_config(&good, &more)));

    let mut hybrid = good.layout();
    for (name, bytes) in [("evil.json", evil.config.as_slice()), ("evil.tar", &evil.layer)] {
        hybrid.add(name, bytes);
    }
    let list = json!([{"Config": "evil.json", "RepoTags": ["registry.example/app:prod"], "Layers": ["evil.tar"]}]);
    hybrid.add("manifest.json", list.to_string().as_bytes());
    all.push(ambiguous("g03-two-lists-that-differ", &hybrid));
    let mut double = good.layout();
    double.add("index.json", evil.layout_index().as_bytes());
    all.push(ambiguous("g03-a-member-twice", &double));
    let mut outside = good.layout();
    outside.add("../index.json", b"{}");
    all.push(ambiguous("g03-a-member-outside-of-the-archive", &outside));
    // A header that gives the first member another length than its own header does.
    let mut lengths = pax(b"11 size=10\n");
    lengths.extend(good.layout().to_tar());
    all.push(HostileImage {
        name: "g03-a-member-of-two-lengths",
        archive: lengths,
        pin: good.pin(),
        class: Class::ImageType,
    });

    let (amd, other) = (Image::new("amd"), Image::of_layer(layer(&[("content", b"amd")]), "arm64"));
    let entry = |image: &Image, architecture: &str| {
        let mut entry = descriptor(MANIFEST, image.manifest().to_string().as_bytes());
        entry["platform"] = json!({"os": "linux", "architecture": architecture});
        entry
    };
    let of_index = |entries: Vec<Value>, images: &[&Image]| {
        let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}).to_string();
        let mut archive = Archive::of_manifest(images[0], index.as_bytes(), INDEX);
        archive.blob(images[0].manifest().to_string().as_bytes());
        for image in &images[1..] {
            archive.blob(&image.config);
            archive.blob(image.manifest().to_string().as_bytes());
        }
        archive
    };
    let lied = of_index(vec![entry(&other, "amd64")], &[&other]);
    all.push(HostileImage::new("g04-an-index-that-lies-about-the-platform", Class::Platform, &lied, &amd));
    let lacking = of_index(vec![entry(&other, "arm64")], &[&other]);
    all.push(HostileImage::new("g04-no-manifest-for-the-platform", Class::Platform, &lacking, &amd));
    all.push(HostileImage::new("g04-the-image-of-another-platform", Class::Platform, &other.layout(), &amd));
    let two = Image::new("two");
    // The second one's layer is missing, which is found later than that there are two.
    let several = of_index(vec![entry(&amd, "amd64"), entry(&two, "amd64")], &[&amd, &two]);
    all.push(HostileImage::new("g04-two-manifests-for-one-platform", Class::ImageType, &several, &amd));
    all
}

impl Image {
    fn layout_index(&self) -> String {
        let entry = descriptor(MANIFEST, self.manifest().to_string().as_bytes());
        json!({"schemaVersion": 2, "manifests": [entry]}).to_string()
    }
}
