//! Pins and manifests as examples.

use super::Case;
use crate::digest::Digest;
use crate::document::manifest::{self, Manifest};
use crate::document::pins::{self, PinnedFile, Pins};
use crate::document::service::{Service, ServiceHooks};
use crate::document::{record, snapshot};
use crate::envelope::Nested;
use crate::fixture::{
    first, manifest, manifest_payload, node, owner, pins, pins_bytes, pins_payload, receipt_payload, replaced, sign,
    snapshot_bytes, stranger,
};
use crate::keys::SecretKey;

/// Pins to be judged under the root of the accepted chain, for manifests named `app`.
fn pins_case(name: &'static str, verdict: &'static str, made: &'static str, bytes: Vec<u8>) -> Case {
    Case { name, verdict, made, files: vec![("pins.json", bytes)] }
}

pub(super) fn all_pins() -> Vec<Case> {
    let payload = pins_payload();
    let by = |key: &SecretKey| sign(pins::PAYLOAD_TYPE, &payload, &[key]);
    let signed = |payload: &str| sign(pins::PAYLOAD_TYPE, payload, &[&owner()]);
    let text = |from: &str, to: &str| signed(&replaced(&payload, from, to));
    let document = |change: &dyn Fn(&mut Pins)| {
        let mut changed = pins();
        change(&mut changed);
        signed(&serde_json::to_string(&changed).unwrap())
    };
    let other = Digest::sha256(b"other");
    let data_only = document(&|pins| {
        (pins.service, pins.lease, pins.max_head_lag) = (None, None, None);
        pins.images.clear();
        pins.needs = Default::default();
        pins.trees.iter_mut().for_each(|tree| tree.files.clear());
    });
    let compose = document(&|pins| {
        let service = pins.service.as_mut().unwrap();
        (service.driver, service.argv) = ("compose".into(), None);
        service.compose = Some("services:\n  app:\n    image: app\n".into());
    });
    let argv = |name: &str| vec!["/usr/bin/app-control".to_owned(), name.to_owned()];
    let hooks = ServiceHooks { start: argv("start"), stop: argv("stop"), kill: argv("kill"), status: argv("status") };
    let hooks_text = |change: &dyn Fn(&mut Service)| {
        let mut changed = pins();
        let service = changed.service.as_mut().unwrap();
        (service.driver, service.argv, service.hooks) = ("hooks".into(), None, Some(hooks.clone()));
        change(service);
        serde_json::to_string(&changed).unwrap()
    };
    let with_hooks = |change: &dyn Fn(&mut Service)| signed(&hooks_text(change));
    let kill = r#""kill":["/usr/bin/app-control","kill"],"#;
    vec![
        pins_case("pins-accepted", "accepted", "one of everything, signed by the owner", by(&owner())),
        pins_case("pins-data-only", "accepted", "trees alone", data_only),
        pins_case("pins-compose", "accepted", "a service started by compose", compose),
        pins_case("pins-hooks", "accepted", "a service started by hooks", with_hooks(&|_| {})),
        pins_case(
            "pins-hooks-with-program",
            "E_MANIFEST",
            "hooks, and a program beside them",
            with_hooks(&|service| service.argv = Some(argv("serve"))),
        ),
        pins_case(
            "pins-hook-empty",
            "E_MANIFEST",
            "hooks, of which one has no program",
            with_hooks(&|service| service.hooks.as_mut().unwrap().kill.clear()),
        ),
        pins_case(
            "pins-hook-missing",
            "E_JSON",
            "hooks without `kill`",
            signed(&replaced(&hooks_text(&|_| {}), kill, "")),
        ),
        pins_case("pins-draft", "E_SIG_MISSING", "no signature", sign(pins::PAYLOAD_TYPE, &payload, &[])),
        pins_case("pins-wrong-role", "E_ROLE", "signed by the node, whose role is `manifest`", by(&node())),
        pins_case("pins-stranger", "E_SIG_UNTRUSTED", "signed by a key that is not in the root", by(&stranger())),
        pins_case(
            "pins-as-record",
            "E_TYPE",
            "the payload type of an unknown kind of record",
            sign(&record::payload_type("plans"), &payload, &[&owner()]),
        ),
        pins_case(
            "pins-critical",
            "E_NEWER",
            "an unknown name in `critical`",
            text(r#""max_head_lag":2"#, r#""max_head_lag":2,"critical":["quota"]"#),
        ),
        pins_case(
            "pins-unknown-driver",
            "E_NEWER",
            "a driver that does not exist",
            text(r#""driver":"process""#, r#""driver":"unikernel""#),
        ),
        pins_case("pins-unknown-policy", "E_NEWER", "a policy that does not exist", text("may-advance", "may-vanish")),
        pins_case(
            "pins-unknown-field",
            "E_JSON",
            "a field that the format does not name",
            text(r#""images":[{"#, r#""note":1,"images":[{"#),
        ),
        pins_case(
            "pins-duplicate-field",
            "E_JSON",
            "`version` twice",
            text(r#""version":3"#, r#""version":3,"version":4"#),
        ),
        pins_case("pins-other-chain", "E_ORIGIN", "of another chain", document(&|pins| pins.chain = other)),
        pins_case("pins-other-name", "E_ORIGIN", "for other manifests", document(&|pins| pins.name = "other".into())),
        pins_case("pins-version", "E_MANIFEST", "version 0", document(&|pins| pins.version = 0)),
        pins_case("pins-expires", "E_MANIFEST", "expires when issued", document(&|pins| pins.expires = pins.issued)),
        pins_case("pins-no-tree", "E_MANIFEST", "no tree", document(&|pins| pins.trees.clear())),
        pins_case("pins-tree-order", "E_MANIFEST", "trees not in order", document(&|pins| pins.trees.swap(0, 1))),
        pins_case(
            "pins-path-out",
            "E_MANIFEST",
            "a load-bearing file outside of its tree",
            document(&|pins| {
                let file = PinnedFile { path: "../passwd".into(), policy: "must-match".into() };
                pins.trees[1].files = vec![file];
            }),
        ),
        pins_case(
            "pins-image-without-config",
            "E_JSON",
            "an image without a config digest: a tag is no pin",
            text(&format!(r#""config":"{}","#, pins().images[0].config), ""),
        ),
        pins_case(
            "pins-image-without-layers",
            "E_MANIFEST",
            "an image without diff ids",
            document(&|pins| pins.images[0].diff_ids.clear()),
        ),
        pins_case(
            "pins-image-index-alone",
            "E_MANIFEST",
            "an index without the manifest that it led to",
            document(&|pins| {
                pins.images[0].manifest = None;
                pins.images[0].index = Some(other);
            }),
        ),
        pins_case(
            "pins-image-twice",
            "E_MANIFEST",
            "two images with one name",
            document(&|pins| pins.images.push(pins.images[0].clone())),
        ),
        pins_case(
            "pins-image-not-pinned",
            "E_MANIFEST",
            "a service with an image that is not among the images",
            document(&|pins| pins.service.as_mut().unwrap().images = vec!["other".into()]),
        ),
        pins_case(
            "pins-two-drivers",
            "E_MANIFEST",
            "a process with a unit",
            document(&|pins| pins.service.as_mut().unwrap().unit = Some("app.service".into())),
        ),
        pins_case(
            "pins-variable-name",
            "E_MANIFEST",
            "what cannot be the name of an environment variable",
            text("APP_REGION", "APP-REGION"),
        ),
        pins_case(
            "pins-too-many-layers",
            "E_TOO_MANY",
            "257 diff ids",
            document(&|pins| pins.images[0].diff_ids = vec![other; 257]),
        ),
    ]
}

/// A manifest to be judged under the root of the accepted chain.
fn case(name: &'static str, verdict: &'static str, made: &'static str, bytes: Vec<u8>) -> Case {
    Case { name, verdict, made, files: vec![("manifest.json", bytes)] }
}

pub(super) fn all_manifests() -> Vec<Case> {
    let payload = manifest_payload();
    let by = |key: &SecretKey| sign(manifest::PAYLOAD_TYPE, &payload, &[key]);
    let signed = |payload: &str| sign(manifest::PAYLOAD_TYPE, payload, &[&node()]);
    let text = |from: &str, to: &str| signed(&replaced(&payload, from, to));
    let document = |change: &dyn Fn(&mut Manifest)| {
        let mut changed = manifest();
        change(&mut changed);
        let predicate = |manifest: &Manifest| serde_json::to_string(manifest).unwrap();
        signed(&replaced(&payload, &predicate(&manifest()), &predicate(&changed)))
    };
    let with_pins = |bytes: &[u8]| {
        let nested = Nested::read(bytes, pins::PINS_CAP, "pins").unwrap();
        document(&|manifest| manifest.pins = nested.clone())
    };
    let other = Digest::sha256(b"other");
    let edited = {
        let good = String::from_utf8(by(&node())).unwrap();
        let later = String::from_utf8(text(r#""version":7"#, r#""version":8"#)).unwrap();
        let payload_of = |envelope: &str| envelope.split('"').nth(3).unwrap().to_owned();
        replaced(&good, &payload_of(&good), &payload_of(&later)).into_bytes()
    };
    let mut other_pins = pins();
    other_pins.name = "other".into();
    let other_pins = sign(pins::PAYLOAD_TYPE, &serde_json::to_string(&other_pins).unwrap(), &[&owner()]);
    let (_, head) = first();
    vec![
        case("manifest-accepted", "accepted", "of slot 1, signed by the node", by(&node())),
        case("manifest-ext", "accepted", "an `ext` object", text(r#"],"pins":{"#, r#"],"ext":{"ticket":7},"pins":{"#)),
        case("manifest-wrong-role", "E_ROLE", "signed by the owner, who may sign pins", by(&owner())),
        case("manifest-stranger", "E_SIG_UNTRUSTED", "signed by a key that is not in the root", by(&stranger())),
        case("manifest-unsigned", "E_SIG_MISSING", "no signature", sign(manifest::PAYLOAD_TYPE, &payload, &[])),
        case("manifest-edited", "E_SIG", "the version changed after signing", edited),
        case(
            "manifest-record-type",
            "E_TYPE",
            "the payload type of a snapshot",
            sign(snapshot::PAYLOAD_TYPE, &payload, &[&node()]),
        ),
        case("manifest-is-record", "E_TYPE", "a record in its place", snapshot_bytes(&head, &[])),
        case(
            "manifest-is-receipt",
            "E_TYPE",
            "a receipt in its place, by the key that may sign both",
            sign(manifest::PAYLOAD_TYPE, &receipt_payload(), &[&node()]),
        ),
        case("manifest-newer", "E_NEWER", "another version of the predicate", text("manifest:0-draft", "manifest:2")),
        case(
            "manifest-critical",
            "E_NEWER",
            "an unknown name in `critical`",
            text(r#"],"pins":{"#, r#"],"critical":["witness"],"pins":{"#),
        ),
        case("manifest-unknown-accepted", "E_NEWER", "lets pass what is not known", text(r#""torn""#, r#""worn""#)),
        case(
            "manifest-unknown-field",
            "E_JSON",
            "a field that the format does not name",
            text(r#"],"pins":{"#, r#"],"note":1,"pins":{"#),
        ),
        case(
            "manifest-duplicate-field",
            "E_JSON",
            "`version` twice",
            text(r#""version":7"#, r#""version":7,"version":8"#),
        ),
        case("manifest-other-chain", "E_ORIGIN", "of another chain by the same key", document(&|m| m.chain = other)),
        case("manifest-other-root", "E_ORIGIN", "under another first root", document(&|m| m.root = other)),
        case("manifest-other-name", "E_ORIGIN", "named otherwise than its pins", document(&|m| m.name = "b".into())),
        case("manifest-key", "E_KEYID", "`key` is not a key that signed", document(&|m| m.key = other)),
        case(
            "manifest-other-subject",
            "E_MANIFEST",
            "a subject that is not the snapshot in the predicate",
            document(&|m| m.snapshot.digest = other),
        ),
        case("manifest-expires", "E_MANIFEST", "expires when issued", document(&|m| m.expires = m.issued)),
        case("manifest-no-store", "E_MANIFEST", "no store", document(&|m| m.stores.clear())),
        case("manifest-head-behind", "E_MANIFEST", "a head before the snapshot", document(&|m| m.head.seq = 0)),
        case(
            "manifest-two-in-a-slot",
            "E_MANIFEST",
            "head and snapshot in one slot, and not the same",
            document(&|m| m.head.digest = other),
        ),
        case(
            "manifest-no-reason",
            "E_MANIFEST",
            "lets pass for no reason",
            document(&|m| m.accepted[0].reason.clear()),
        ),
        case(
            "manifest-too-many-stores",
            "E_TOO_MANY",
            "17 stores",
            document(&|m| m.stores = vec!["https://objects.example/app".into(); 17]),
        ),
        case(
            "manifest-pins-by-node",
            "E_ROLE",
            "pins signed by the key that keeps manifests fresh",
            with_pins(&sign(pins::PAYLOAD_TYPE, &pins_payload(), &[&node()])),
        ),
        case("manifest-pins-other-name", "E_ORIGIN", "pins for other manifests", with_pins(&other_pins)),
        case("manifest-pins-edited", "E_SIG", "an argument of the service changed after the pins were signed", {
            let good = String::from_utf8(pins_bytes()).unwrap();
            let changed = replaced(&pins_payload(), "\"--data\"", "\"--dump\"");
            let changed = String::from_utf8(sign(pins::PAYLOAD_TYPE, &changed, &[&owner()])).unwrap();
            let payload_of = |envelope: &str| envelope.split('"').nth(3).unwrap().to_owned();
            with_pins(replaced(&good, &payload_of(&good), &payload_of(&changed)).as_bytes())
        }),
    ]
}
