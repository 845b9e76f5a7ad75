//! Root documents and key files as examples.

use super::Case;
use crate::chain;
use crate::digest::Digest;
use crate::document::record::{Body, Header, Pointer};
use crate::document::rollback::{self, Rollback};
use crate::document::root::{self, KeptRecord, RootDocument};
use crate::fixture::{
    first, genesis_bytes, header_after, key, owner, pin, replaced, root_bytes, root_document, root_one, root_payload,
    sign, snapshot_bytes, text, writer,
};
use crate::keys::{SecretKey, Signer};

/// A first root whose payload is this text, pinned and signed by the owner.
fn first_root(name: &'static str, verdict: &'static str, made: &'static str, payload: &str) -> Case {
    let pin = format!("{}\n", Digest::sha256(payload.as_bytes())).into_bytes();
    let bytes = sign(root::PAYLOAD_TYPE, payload, &[&owner()]);
    Case { name, verdict, made, files: vec![("1.json", bytes), ("pin", pin)] }
}

/// A root after the accepted one.
fn second_root(
    name: &'static str,
    verdict: &'static str,
    made: &'static str,
    version: u64,
    keys: &[&SecretKey],
) -> Case {
    let mut document = RootDocument { version, ..root_document() };
    let new = key(11).public();
    document.keys.push((&new).into());
    document.keys.sort_by_key(|key| key.id);
    document.roles[5].keys = vec![new.id()];
    let payload = serde_json::to_string(&document).unwrap();
    Case { name, verdict, made, files: vec![("2.json", sign(root::PAYLOAD_TYPE, &payload, keys))] }
}

fn foreign(name: &'static str, verdict: &'static str, made: &'static str) -> Case {
    Case { name, verdict, made, files: Vec::new() }
}

pub(super) fn roots() -> Vec<Case> {
    let payload = root_payload();
    let text = |from: &str, to: &str| replaced(&payload, from, to);
    let document = |change: &dyn Fn(&mut RootDocument)| {
        let mut document = root_document();
        change(&mut document);
        serde_json::to_string(&document).unwrap()
    };
    let (old, new) = (owner(), key(11));
    let other_pin = Case {
        files: vec![("1.json", root_bytes()), ("pin", format!("{}\n", Digest::sha256(b"")).into_bytes())],
        ..foreign("root-other-pin", "E_ROOT_PIN", "the pin of another root")
    };
    vec![
        first_root("root-accepted", "accepted", "what `init` makes", &payload),
        other_pin,
        first_root("root-version", "E_VERSION", "version 2 as the first", &text(r#""version":1"#, r#""version":2"#)),
        first_root(
            "root-critical",
            "E_NEWER",
            "an unknown name in `critical`",
            &text(r#""keys":[{"#, r#""critical":["witness"],"keys":[{"#),
        ),
        first_root(
            "root-unknown-role",
            "E_NEWER",
            "a role that does not exist",
            &document(&|root| root.roles[6].name = "zebra".into()),
        ),
        first_root(
            "root-unknown-field",
            "E_JSON",
            "a field that the format does not name",
            &text(r#""keys":[{"#, r#""note":1,"keys":[{"#),
        ),
        first_root(
            "root-expires-before-issued",
            "E_ROOT",
            "expires when it was issued",
            &document(&|root| root.expires = root.issued),
        ),
        first_root("root-key-order", "E_ROOT", "keys not in order", &document(&|root| root.keys.swap(0, 1))),
        first_root(
            "root-key-id-mismatch",
            "E_KEYID",
            "an id that does not follow from the key",
            &document(&|root| root.keys[0].id = Digest([0; 32])),
        ),
        first_root(
            "root-same-key-two-ids",
            "E_KEYID",
            "one key under a second id",
            &document(&|root| {
                let mut twin = root.keys[0].clone();
                twin.id = Digest([0xff; 32]);
                root.keys.push(twin);
            }),
        ),
        first_root("root-rsa", "E_ALG", "a key type of rsa", &document(&|root| root.keys[0].keytype = "rsa".into())),
        first_root(
            "root-weak-identity",
            "E_WEAK_KEY",
            "the identity point as a key",
            &document(&|root| root.keys[0].public = format!("01{}", "00".repeat(31))),
        ),
        first_root(
            "root-weak-order-2",
            "E_WEAK_KEY",
            "the point of order 2 as a key",
            &document(&|root| root.keys[0].public = format!("ec{}7f", "ff".repeat(30))),
        ),
        first_root(
            "root-weak-non-canonical",
            "E_WEAK_KEY",
            "the identity point with y above the prime",
            &document(&|root| root.keys[0].public = format!("ee{}7f", "ff".repeat(30))),
        ),
        first_root(
            "root-threshold-zero",
            "E_THRESHOLD",
            "a threshold of 0",
            &document(&|root| root.roles[5].threshold = 0),
        ),
        first_root(
            "root-threshold-padding",
            "E_THRESHOLD",
            "one key twice in a role, threshold 2",
            &document(&|root| {
                let id = root.roles[5].keys[0];
                root.roles[5].keys.push(id);
                root.roles[5].threshold = 2;
            }),
        ),
        first_root(
            "root-no-root-role",
            "E_ROOT",
            "without the role root",
            &document(&|root| drop(root.roles.remove(5))),
        ),
        first_root(
            "root-writer-overlap",
            "E_ROOT",
            "two ranges of one writer overlap",
            &document(&|root| root.writers.push(root.writers[0].clone())),
        ),
        first_root(
            "root-kept",
            "accepted",
            "a record that is kept whoever signed it",
            &document(&|root| root.kept = Some(vec![kept(3, "fork")])),
        ),
        first_root("root-kept-empty", "E_JSON", "an empty `kept`", &document(&|root| root.kept = Some(Vec::new()))),
        first_root(
            "root-kept-genesis",
            "E_ROOT",
            "slot 0 in `kept`",
            &document(&|root| root.kept = Some(vec![kept(0, "genesis")])),
        ),
        first_root(
            "root-kept-twice",
            "E_ROOT",
            "a slot twice in `kept`",
            &document(&|root| root.kept = Some(vec![kept(3, "fork"), kept(3, "rollback")])),
        ),
        second_root("root-next-accepted", "accepted", "another owner, signed by both", 2, &[&old, &new]),
        second_root("root-next-old-only", "E_ROOT", "another owner, signed by the old one alone", 2, &[&old]),
        second_root("root-next-new-only", "E_ROOT", "another owner, signed by the new one alone", 2, &[&new]),
        second_root("root-next-skips", "E_VERSION", "version 3 in the place of 2", 3, &[&old, &new]),
        second_root("root-next-repeats", "E_VERSION", "version 1 in the place of 2", 1, &[&old, &new]),
    ]
}

fn kept(seq: u64, kind: &str) -> KeptRecord {
    KeptRecord { seq, kind: kind.into(), sha256: Digest::sha256(b"") }
}

/// A chain whose owner and whose manifest key were replaced, to be read under root 2: genesis is judged by root 1, and
/// the rollback in slot 2 is signed by a key that no root lists any more.
pub(super) fn rotated_chain() -> Case {
    let (_, genesis) = first();
    let snapshot = snapshot_bytes(&genesis, &[]);
    let (record, after_snapshot) = chain::next(&genesis, &[], &snapshot, &root_one()).unwrap();
    let target = Pointer { seq: 1, digest: record.digest };
    let header = Header { writer: writer(&key(12)), ..header_after(&after_snapshot, &[]) };
    let payload = text(&header, &Body::Rollback(Rollback { target, reason: "for the example".into() }));
    let rollback = sign(rollback::PAYLOAD_TYPE, &payload, &[&key(12)]);

    let (old, new) = (owner(), key(11));
    let mut document = RootDocument { version: 2, ..root_document() };
    document.add_key(&new.public(), "root").unwrap();
    document.remove_key(&old.public().id(), "root").unwrap();
    document.keep(KeptRecord { seq: 2, kind: "rollback".into(), sha256: Digest::sha256(payload.as_bytes()) });
    let two = sign(root::PAYLOAD_TYPE, &serde_json::to_string(&document).unwrap(), &[&old, &new]);
    let under = root_one().parse_next(&two).unwrap();
    let (_, after_rollback) = chain::next(&after_snapshot, &[], &rollback, &under).unwrap();
    let last = snapshot_bytes(&after_rollback, &[]);
    let files = vec![
        ("chain/0.json", genesis_bytes()),
        ("chain/1.json", snapshot),
        ("chain/2.json", rollback),
        ("chain/3.json", last),
        ("root/1.json", root_bytes()),
        ("root/2.json", two),
        ("pin", format!("{}\n", pin()).into_bytes()),
    ];
    let made = "another owner from root 2 on, which keeps the rollback of a key that is in no root";
    Case { name: "rotated-chain-accepted", verdict: "accepted", made, files }
}

pub(super) fn keys() -> Vec<Case> {
    let weak = format!("ssh-ed25519 {} weak\n", "AAAAC3NzaC1lZDI1NTE5AAAAIAEAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA");
    vec![
        foreign("key-openssl-accepted", "accepted", "`openssl genpkey -algorithm ED25519`"),
        foreign("key-openssl-public-accepted", "accepted", "`openssl pkey -pubout`"),
        foreign("key-openssh-accepted", "accepted", "`ssh-keygen -t ed25519 -N ''`"),
        foreign("key-openssh-public-accepted", "accepted", "the `.pub` file of the same"),
        foreign("key-encrypted-pem", "E_KEYFILE", "`openssl genpkey -algorithm ED25519 -aes256`"),
        foreign("key-encrypted-openssh", "E_KEYFILE", "`ssh-keygen -t ed25519 -N secret`"),
        foreign("key-rsa-pem", "E_KEYFILE", "`openssl genpkey -algorithm RSA`"),
        foreign("key-x25519-pem", "E_KEYFILE", "`openssl genpkey -algorithm X25519`"),
        foreign("key-ec-pem", "E_KEYFILE", "`openssl ecparam -name prime256v1 -genkey -noout`"),
        foreign("key-rsa-openssh", "E_ALG", "`ssh-keygen -t rsa -N ''`"),
        foreign("key-rsa-openssh-public", "E_ALG", "the `.pub` file of the same"),
        Case {
            files: vec![("public", weak.into_bytes())],
            ..foreign("key-weak-openssh-public", "E_WEAK_KEY", "the identity point as an OpenSSH line")
        },
    ]
}
