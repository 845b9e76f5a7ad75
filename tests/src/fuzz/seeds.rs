//! Where fuzzing starts: the accepted and refused examples of `testdata/`, in the form that each target takes.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use walkdir::WalkDir;

use super::documents::manifests;
use super::manifest::taken_apart;

/// Every example for this target, with a name.
pub fn seeds(target: &str) -> Vec<(String, Vec<u8>)> {
    match target {
        "envelope" => files(&manifests(), |path| path.extension().is_some_and(|extension| extension == "json")),
        "root" => payloads("root+json"),
        "record" => records(),
        "fork_proof" => record_pairs(),
        "receipt" => payloads("in-toto+json"),
        "lease" => payloads("lease+json"),
        "pins" => payloads("pins+json"),
        "manifest" => manifest_payloads(),
        "image_archive" => files(&testdata("attacks"), |path| path.ends_with("image.tar")),
        "image_document" => image_documents(),
        "key" => files(&manifests(), |path| path.file_name().is_some_and(|name| name == "secret" || name == "public")),
        "pack" => files(&testdata("packs"), |path| path.ends_with("pack")),
        "segment" => files(&testdata("segments"), |path| path.ends_with("segment")),
        "entries" => files(&testdata("trees"), is_chunk),
        "tree" => trees(),
        "edge" => vec![
            ("empty".into(), vec![0; 8]),
            ("three".into(), [&3_u64.to_le_bytes()[..], &[5; 96]].concat()),
            ("two-levels".into(), [&258_u64.to_le_bytes()[..], &[6; 96]].concat()),
        ],
        "checkpoint" => vec![("line".into(), format!("17 {}\n", "0a".repeat(32)).into())],
        "bootstrap" => bootstraps(),
        "config" => configs(),
        _ => Vec::new(),
    }
}

fn testdata(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata").join(path)
}

/// All files below a directory for which `wanted` says so, named by their paths.
fn files(top: &Path, wanted: impl Fn(&Path) -> bool) -> Vec<(String, Vec<u8>)> {
    let entries = WalkDir::new(top).sort_by_file_name().into_iter().map(Result::unwrap);
    let files = entries.filter(|entry| entry.file_type().is_file() && wanted(entry.path()));
    files
        .map(|entry| {
            let name = entry.path().strip_prefix(top).unwrap().to_string_lossy().replace('/', "-");
            (name, fs::read(entry.path()).unwrap())
        })
        .collect()
}

/// Type and payload of every example that is an envelope.
fn envelopes() -> Vec<(String, String, Vec<u8>)> {
    let read = |(name, bytes): (String, Vec<u8>)| {
        let envelope: Value = serde_json::from_slice(&bytes).ok()?;
        let payload = STANDARD.decode(envelope["payload"].as_str()?).ok()?;
        Some((name, envelope["payloadType"].as_str()?.to_owned(), payload))
    };
    seeds("envelope").into_iter().filter_map(read).collect()
}

fn payloads(type_end: &str) -> Vec<(String, Vec<u8>)> {
    let all = envelopes().into_iter().filter(|(_, payload_type, _)| payload_type.ends_with(type_end));
    all.map(|(name, _, payload)| (name, payload)).collect()
}

pub(super) fn decoded(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text).ok()
}

/// Manifests, and the same with their pins behind them; receipts are statements too.
fn manifest_payloads() -> Vec<(String, Vec<u8>)> {
    let apart = |(name, payload): (String, Vec<u8>)| {
        let apart = taken_apart(&payload).map(|apart| (format!("{name}-apart"), apart));
        apart.into_iter().chain([(name, payload)])
    };
    payloads("in-toto+json").into_iter().flat_map(apart).collect()
}

/// Every document in the archives of the attacks, once.
fn image_documents() -> Vec<(String, Vec<u8>)> {
    let mut found = BTreeMap::new();
    for (name, archive) in seeds("image_archive") {
        for (number, member) in tar::Archive::new(&archive[..]).entries().unwrap().enumerate() {
            let mut bytes = Vec::new();
            // Some archives end early, or say what is not so.
            if member.is_ok_and(|mut member| member.read_to_end(&mut bytes).is_ok()) && bytes.starts_with(b"{") {
                found.entry(bytes).or_insert(format!("{name}-{number}"));
            }
        }
    }
    found.into_iter().map(|(bytes, name)| (name, bytes)).collect()
}

/// Payloads of records, each below a line with its kind.
fn records() -> Vec<(String, Vec<u8>)> {
    let one = |(name, payload_type, payload): (String, String, Vec<u8>)| {
        let kind = payload_type.strip_prefix("application/vnd.snapkit.")?.strip_suffix("+json")?;
        Some((name, [kind.as_bytes(), b"\n", &payload].concat()))
    };
    envelopes().into_iter().filter_map(one).collect()
}

/// A few records, each beside the accepted one.
fn record_pairs() -> Vec<(String, Vec<u8>)> {
    let records = records();
    let accepted = records.iter().find(|(name, _)| name.starts_with("record-accepted")).unwrap().1.clone();
    let beside = |(name, record): (String, Vec<u8>)| (name, [&accepted, &b"\0"[..], &record].concat());
    records.into_iter().filter(|(name, _)| name.contains("accepted") || name.contains("fork")).map(beside).collect()
}

fn is_chunk(path: &Path) -> bool {
    let name = path.file_name().unwrap().to_string_lossy();
    ["index", "leaf", "list"].iter().any(|kind| name.starts_with(kind))
}

/// The chunks of each example of a tree, the top first, with their lengths before them.
fn trees() -> Vec<(String, Vec<u8>)> {
    let mut cases: Vec<PathBuf> = fs::read_dir(testdata("trees/draft")).unwrap().map(|e| e.unwrap().path()).collect();
    cases.retain(|path| path.is_dir());
    cases.sort();
    let chunks = |case: &PathBuf| {
        let mut bytes = Vec::new();
        for (_, chunk) in files(case, is_chunk) {
            bytes.extend((chunk.len() as u32).to_le_bytes());
            bytes.extend(chunk);
        }
        (case.file_name().unwrap().to_string_lossy().into_owned(), bytes)
    };
    cases.iter().map(chunks).collect()
}

fn bootstraps() -> Vec<(String, Vec<u8>)> {
    let digest = "0a".repeat(32);
    let texts = [
        ("directory", format!("/srv/a#b#root=sha256:{digest}")),
        ("bucket", format!("s3://bucket/prefix#root=sha256:{digest}&min=17:{digest}")),
        ("plain", "https://example.org/store".to_owned()),
        ("selector", "latest~2".to_owned()),
        ("name", "snap-2026112012-0a0a0a0a".to_owned()),
    ];
    texts.map(|(name, text)| (name.to_owned(), text.into_bytes())).into()
}

fn configs() -> Vec<(String, Vec<u8>)> {
    let all = "store = \"s3://bucket/prefix\"\nhome = \"h\"\ncache = \"c\"\n\n[store_options]\nendpoint = \"http://127.0.0.1\"\n\
               allow_http = true\nregion = 1\n\n[snapshot]\nexcludes = [\"*.tmp\"]\none_file_system = true\nexclude_caches = false\n\
               devices = true\nreread_cycle_days = 30\ncompression_level = 3\n\n[restore]\nproof = \"reread\"\n";
    let wrong = "[snapshot]\ncompression_level = 20\n";
    let unknown = "[restore]\nprof = \"written\"\n";
    [("all", all), ("wrong", wrong), ("unknown", unknown)].map(|(name, text)| (name.to_owned(), text.into())).into()
}
