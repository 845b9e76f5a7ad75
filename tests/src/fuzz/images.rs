//! Container images: their documents, and archives with the checksums of a tar file made right first.

use std::os::fd::AsRawFd;
use std::path::PathBuf;

use manifests::digest::Digest;
use manifests::document::image::LAYERS_CAP;
use snapkit::cancel::Cancel;
use snapkit::image::CONFIG_CAP;
use snapkit::image::archive::Archive;
use snapkit::image::document::{self, Compression, Document, ENTRIES_CAP, OCI_INDEX, OCI_MANIFEST};
use snapkit::image::identity::Platform;

use super::documents::is_json;

const BLOCK: usize = 512;
/// What hostile layers may unpack to is for other tests; more of them would make every input slow.
const LAYERS_READ: usize = 3;

/// Bytes as every kind of document; none can be read as two.
pub(super) fn document(bytes: &[u8]) {
    let read = document::read(bytes, None, "input");
    let layout = document::read_layout_index(bytes, "input");
    let config = document::config(bytes, "input");
    let typed = [OCI_INDEX, OCI_MANIFEST].map(|found_as| document::read(bytes, Some(found_as), "input"));
    if read.is_ok() || layout.is_ok() || config.is_ok() {
        is_json(bytes);
    }
    assert!(!typed.iter().all(Result::is_ok), "found as two types it is refused once");
    assert!(typed.iter().flatten().all(|found| read.as_ref() == Ok(found)), "what it was found as changes no meaning");
    match &read {
        Ok(Document::Index(entries)) => {
            assert!(config.is_err(), "an index is no config");
            assert!(layout.is_err() || layout.as_ref() == Ok(entries));
        }
        Ok(Document::Manifest(manifest)) => {
            assert!(config.is_err() && layout.is_err(), "a manifest is nothing else");
            assert!(manifest.layers.len() <= LAYERS_CAP && manifest.config.bytes <= CONFIG_CAP);
        }
        Err(_) => {}
    }
    if let Ok(entries) = &layout {
        assert!(config.is_err() && entries.len() <= ENTRIES_CAP);
        for asked in ["linux/amd64", "linux/arm/v7", "linux/arm64/v8"] {
            let asked: Platform = asked.parse().unwrap();
            if let Ok(chosen) = asked.choose(entries, "input") {
                assert!(chosen.platform.as_ref().is_some_and(|platform| asked.takes(platform)));
            }
        }
    }
    if let Ok(config) = config {
        let platform = config.platform.to_string();
        assert_eq!(platform.parse::<Platform>().ok(), Some(config.platform), "a pin of it names the same platform");
        assert!(config.diff_ids.len() <= LAYERS_CAP && config.launch.env.is_sorted());
    }
}

/// A tar file as it is, and with the checksums that its headers should have.
pub(super) fn archive(bytes: &[u8]) {
    read_archive(bytes);
    let fixed = with_checksums(bytes);
    if fixed != bytes {
        read_archive(&fixed);
    }
}

fn read_archive(bytes: &[u8]) {
    let file = super::in_memory(bytes);
    let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
    let Ok(archive) = Archive::open(&path) else { return };
    let platform: Platform = "linux/amd64".parse().unwrap();
    let asked = [(None, None), (None, Some(&platform)), (Some("app:1"), None)];
    for image in asked.into_iter().filter_map(|(name, platform)| archive.image(name, platform).ok()) {
        assert_eq!(image.config_digest, Digest::sha256(&image.config_bytes));
        assert_eq!(document::config(&image.config_bytes, "input").as_ref(), Ok(&image.config));
        assert_eq!(image.layers.len(), image.config.diff_ids.len());
        let pin = image.pin("app", "example/app:1");
        assert_eq!(image.identity().must_be(&pin, "input"), Ok(()), "it is the image that a pin of it names");
        let is_small = image.layers.iter().all(|layer| layer.compression != Compression::Zstd);
        if is_small && image.layers.len() <= LAYERS_READ {
            let _ = archive.check_layers(&image, &Cancel::new());
        }
    }
}

fn with_checksums(bytes: &[u8]) -> Vec<u8> {
    let (mut fixed, mut at) = (bytes.to_vec(), 0_usize);
    while let Some(header) = fixed.get_mut(at..at.saturating_add(BLOCK)) {
        if header.iter().all(|byte| *byte == 0) {
            at += BLOCK;
            continue;
        }
        header[148..156].fill(b' ');
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        let size = std::str::from_utf8(&header[124..135]).ok().map(|text| text.trim_matches(['\0', ' ']));
        let size = size.and_then(|text| usize::from_str_radix(text, 8).ok()).unwrap_or(0);
        at = at.saturating_add(BLOCK).saturating_add(size.div_ceil(BLOCK).saturating_mul(BLOCK));
    }
    fixed
}
