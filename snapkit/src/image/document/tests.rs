use manifests::refusal::Class;
use serde_json::{Value, json};

use super::*;

fn sha(text: &str) -> String {
    format!("sha256:{}", Digest::sha256(text.as_bytes()))
}

fn a_manifest() -> Value {
    json!({
        "schemaVersion": 2, "mediaType": OCI_MANIFEST,
        "config": {"mediaType": OCI_CONFIG, "digest": sha("config"), "size": 6},
        "layers": [{"mediaType": format!("{OCI_LAYER}+gzip"), "digest": sha("layer"), "size": 5}],
        "annotations": {"Layers": "a label is no name", "layers": "nor this"},
    })
}

fn class(document: &Value) -> Class {
    read(document.to_string().as_bytes(), None, "x").unwrap_err().class()
}

#[test]
fn a_manifest_and_an_index_are_read() {
    let Ok(Document::Manifest(manifest)) = read(a_manifest().to_string().as_bytes(), Some(OCI_MANIFEST), "x") else {
        panic!("no manifest");
    };
    assert_eq!(manifest.config.digest, Digest::sha256(b"config"));
    assert_eq!((manifest.layers[0].0.bytes, manifest.layers[0].1), (5, Compression::Gzip));
    let index = json!({
        "schemaVersion": 2, "mediaType": DOCKER_LIST,
        "manifests": [{"mediaType": DOCKER_MANIFEST, "digest": sha("m"), "size": 1,
            "platform": {"os": "linux", "architecture": "arm", "variant": "v7", "os.version": "1"}}],
    });
    let Ok(Document::Index(entries)) = read(index.to_string().as_bytes(), None, "x") else { panic!("no index") };
    assert_eq!(entries[0].platform.as_ref().map(ToString::to_string).as_deref(), Some("linux/arm/v7"));
}

#[test]
fn every_name_with_a_meaning_is_refused_in_another_case_and_nothing_else_is() {
    for name in ["Layers", "LAYERS", "layer\u{17f}", "mediatype", "Manifests", "schemaversion", "FSLayers", "conFig"] {
        let mut document = a_manifest();
        document[name] = json!([]);
        assert_eq!(class(&document), Class::ImageType, "{name}");
    }
    for name in ["Digest", "digeſt", "SIZE", "urLs"] {
        let mut document = a_manifest();
        document["layers"][0][name] = json!("x");
        assert_eq!(class(&document), Class::ImageType, "{name}");
    }
    let mut document = a_manifest();
    document["com.example.extra"] = json!({"Layers": 1});
    assert!(read(document.to_string().as_bytes(), None, "x").is_ok());
}

#[test]
fn what_an_index_or_a_manifest_needs_cannot_be_left_out_or_replaced() {
    for (name, value) in [
        ("schemaVersion", json!(1)),
        ("schemaVersion", Value::Null),
        ("mediaType", json!(OCI_INDEX)),
        ("mediaType", json!("text/plain")),
        ("mediaType", Value::Null),
        ("config", Value::Null),
        ("layers", json!({})),
        ("manifests", json!([])),
        ("history", json!([])),
        ("signatures", json!([])),
    ] {
        let mut document = a_manifest();
        document[name] = value;
        assert_eq!(class(&document), Class::ImageType, "{name}");
    }
    for (name, value) in [
        ("digest", json!("sha512:00")),
        ("digest", json!(format!("sha512:{}", "0".repeat(128)))),
        ("digest", json!(sha("x").to_uppercase())),
        ("size", json!(-1)),
        ("size", json!(1.5)),
        ("mediaType", json!("application/vnd.oci.image.layer.nondistributable.v1.tar")),
    ] {
        let mut document = a_manifest();
        document["layers"][0][name] = value;
        assert_eq!(class(&document), Class::ImageType, "{name}");
    }
    let mut document = a_manifest();
    document["config"]["size"] = json!(crate::image::CONFIG_CAP + 1);
    assert_eq!(class(&document), Class::TooBig);
    document = a_manifest();
    document["layers"] = json!(vec![document["layers"][0].clone(); LAYERS_CAP + 1]);
    assert_eq!(class(&document), Class::TooMany);
    let long = " ".repeat(crate::image::MANIFEST_CAP as usize + 1);
    assert_eq!(read(long.as_bytes(), None, "x").unwrap_err().class(), Class::TooBig);
}

#[test]
fn a_config_as_docker_writes_it_is_read() {
    let text = json!({
        "architecture": "arm64", "variant": "v8", "os": "linux", "created": "2026-11-21T09:13:28.654159891Z",
        "container": "79ad", "container_config": {"Cmd": ["/bin/sh"], "Volumes": null}, "docker_version": "20.10.24",
        "config": {"Hostname": "", "User": "app", "Env": ["B=2", "A=1"], "Cmd": ["/x"], "Entrypoint": ["/e"], "Volumes": null,
            "WorkingDir": "/w", "OnBuild": null, "Labels": {"cmd": "a label", "Cmd": "another"}, "ExposedPorts": {"80/tcp": {}},
            "Healthcheck": {"Test": ["CMD", "/h"], "Interval": 30_000_000_000u64}},
        "history": [{"created": "2026-11-21T09:13:28Z", "created_by": "x", "empty_layer": true}],
        "rootfs": {"type": "layers", "diff_ids": [sha("layer")]},
    });
    let config = config(text.to_string().as_bytes(), "x").unwrap();
    assert_eq!(
        (config.platform.to_string().as_str(), config.diff_ids),
        ("linux/arm64/v8", vec![Digest::sha256(b"layer")])
    );
    let launch = config.launch;
    assert_eq!((launch.argv, launch.env), (vec!["/e".into(), "/x".into()], vec!["A=1".into(), "B=2".into()]));
    assert_eq!((launch.user.as_str(), launch.directory.as_str()), ("app", "/w"));
}

#[test]
fn a_platform_takes_what_runs_on_it() {
    let platform = |text: &str| text.parse::<Platform>().unwrap();
    for (asked, found) in [
        ("linux/amd64", "linux/amd64"),
        ("linux/arm", "linux/arm/v7"),
        ("linux/arm64", "linux/arm64/v8"),
        ("linux/arm64/v8", "linux/arm64"),
    ] {
        assert!(platform(asked).takes(&platform(found)), "{asked} {found}");
    }
    for (asked, found) in
        [("linux/amd64", "linux/arm64"), ("linux/arm/v7", "linux/arm"), ("linux/amd64", "windows/amd64")]
    {
        assert!(!platform(asked).takes(&platform(found)), "{asked} {found}");
    }
}
