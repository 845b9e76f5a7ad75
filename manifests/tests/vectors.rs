//! Vectors of others, and of the edges of Ed25519: `testdata/vectors/README.md` says where they are from.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use manifests::digest::Digest;
use manifests::keys::PublicKey;
use manifests::log::{EMPTY, Frontier, node_hash, subtree_root};
use serde::Deserialize;

fn read(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/vectors").join(name)).unwrap()
}

fn lines<T: for<'de> Deserialize<'de>>(name: &str) -> Vec<T> {
    read(name).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

/// As documents are judged: a weak key is refused where it enters, a signature that is not 64 bytes is a bad one.
fn accepts(key: &str, message: &str, signature: &str) -> bool {
    let signature: Result<[u8; 64], _> = bytes(signature).try_into();
    PublicKey::from_hex(key).is_ok_and(|key| signature.is_ok_and(|signature| key.verifies(&bytes(message), &signature)))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wycheproof {
    number_of_tests: usize,
    test_groups: Vec<Group>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Group {
    public_key: Key,
    tests: Vec<Signed>,
}

#[derive(Deserialize)]
struct Key {
    pk: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Signed {
    tc_id: u32,
    comment: String,
    msg: String,
    sig: String,
    result: String,
}

#[test]
fn wycheproof_ed25519() {
    let vectors: Wycheproof = serde_json::from_str(&read("wycheproof/ed25519_test.json")).unwrap();
    let mut count = 0;
    for group in &vectors.test_groups {
        for test in &group.tests {
            let expected = match test.result.as_str() {
                "valid" => true,
                "invalid" => false,
                other => panic!("test {} has the result {other}", test.tc_id),
            };
            assert_eq!(
                accepts(&group.public_key.pk, &test.msg, &test.sig),
                expected,
                "{} {}",
                test.tc_id,
                test.comment
            );
            count += 1;
        }
    }
    assert_eq!(count, vectors.number_of_tests);
}

#[derive(Deserialize)]
struct Edge {
    why: String,
    key: String,
    message: String,
    sig: String,
    valid: bool,
}

#[test]
fn parts_of_small_order_count_for_what_they_are() {
    let vectors: Vec<Edge> = lines("edge/vectors.jsonl");
    for edge in &vectors {
        assert_eq!(accepts(&edge.key, &edge.message, &edge.sig), edge.valid, "{}: {}", edge.why, edge.sig);
    }
    assert!(vectors.len() > 120 && vectors.iter().any(|edge| edge.valid));
}

/// One file of transparency-dev/merkle.
#[derive(Deserialize)]
struct File<T> {
    file: String,
    vector: T,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Inclusion {
    leaf_idx: u64,
    tree_size: u64,
    root: String,
    leaf_hash: String,
    proof: Option<Vec<String>>,
    want_err: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Consistency {
    size1: u64,
    size2: u64,
    root1: String,
    root2: String,
    proof: Option<Vec<String>>,
    want_err: bool,
}

fn digest(base64: &str) -> Option<Digest> {
    STANDARD.decode(base64).unwrap().try_into().ok().map(Digest)
}

fn digests(proof: &Option<Vec<String>>) -> Option<Vec<Digest>> {
    proof.iter().flatten().map(|hash| digest(hash)).collect()
}

/// RFC 9162, 2.1.3.2, over the node hash of the log.
fn is_included(vector: &Inclusion) -> Option<bool> {
    let (mut at, mut last) = (vector.leaf_idx, vector.tree_size.checked_sub(1)?);
    if at > last {
        return None;
    }
    let mut hash = digest(&vector.leaf_hash)?;
    for sibling in digests(&vector.proof)? {
        if last == 0 {
            return None;
        }
        if at & 1 == 1 || at == last {
            hash = node_hash(&sibling, &hash);
            while at & 1 == 0 && at != 0 {
                (at, last) = (at >> 1, last >> 1);
            }
        } else {
            hash = node_hash(&hash, &sibling);
        }
        (at, last) = (at >> 1, last >> 1);
    }
    Some(last == 0 && hash == digest(&vector.root)?)
}

/// RFC 9162, 2.1.4.2, over the node hash of the log.
fn is_consistent(vector: &Consistency) -> Option<bool> {
    let mut path = digests(&vector.proof)?;
    if vector.size1 == vector.size2 {
        return Some(path.is_empty() && vector.root1 == vector.root2);
    }
    let (first, second) = (digest(&vector.root1), digest(&vector.root2));
    if vector.size1 > vector.size2 || vector.size1 == 0 || path.is_empty() {
        return None;
    }
    if vector.size1.is_power_of_two() {
        path.insert(0, first?);
    }
    let (mut at, mut last) = (vector.size1 - 1, vector.size2 - 1);
    while at & 1 == 1 {
        (at, last) = (at >> 1, last >> 1);
    }
    let (mut old, mut new) = (path[0], path[0]);
    for sibling in &path[1..] {
        if last == 0 {
            return None;
        }
        if at & 1 == 1 || at == last {
            (old, new) = (node_hash(sibling, &old), node_hash(sibling, &new));
            while at & 1 == 0 && at != 0 {
                (at, last) = (at >> 1, last >> 1);
            }
        } else {
            new = node_hash(&new, sibling);
        }
        (at, last) = (at >> 1, last >> 1);
    }
    Some(last == 0 && old == first? && new == second?)
}

#[test]
fn merkle_proofs_of_transparency_dev_hold_over_our_node_hash() {
    for File { file, vector } in lines::<File<Inclusion>>("merkle/inclusion.jsonl") {
        assert_eq!(is_included(&vector).unwrap_or(false), !vector.want_err, "{file}");
    }
    for File { file, vector } in lines::<File<Consistency>>("merkle/consistency.jsonl") {
        assert_eq!(is_consistent(&vector).unwrap_or(false), !vector.want_err, "{file}");
    }
}

/// The tree over these leaf hashes, put together of what the log is made of: perfect subtrees and a right edge.
fn root_of(leaves: &[Digest]) -> Digest {
    let mut peaks = Vec::new();
    let mut at = 0;
    for bit in (0..usize::BITS).rev().map(|shift| 1 << shift).filter(|bit| leaves.len() & bit != 0) {
        peaks.push(subtree_root(&leaves[at..at + bit]).unwrap());
        at += bit;
    }
    Frontier::from_parts(leaves.len() as u64, peaks).unwrap().root()
}

/// The eight leaves that all of these vectors are about.
const LEAVES: [&str; 8] =
    ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"];

#[test]
fn subtrees_and_right_edges_give_the_roots_of_transparency_dev() {
    let leaves: Vec<Digest> = LEAVES.iter().map(|leaf| Digest::sha256(&[vec![0], bytes(leaf)].concat())).collect();
    let root = |size: u64| if size == 0 { EMPTY } else { root_of(&leaves[..size as usize]) };
    let mut seen = 0;
    for File { file, vector } in lines::<File<Inclusion>>("merkle/inclusion.jsonl") {
        if file.ends_with("happy-path.json") {
            assert_eq!(digest(&vector.root), Some(root(vector.tree_size)), "{file}");
            assert_eq!(digest(&vector.leaf_hash), Some(leaves[vector.leaf_idx as usize]), "{file}");
            seen += 1;
        }
    }
    for File { file, vector } in lines::<File<Consistency>>("merkle/consistency.jsonl") {
        if file.ends_with("happy-path.json") {
            assert_eq!(digest(&vector.root1), Some(root(vector.size1)), "{file}");
            assert_eq!(digest(&vector.root2), Some(root(vector.size2)), "{file}");
            seen += 1;
        }
    }
    assert_eq!(seen, 10);
}
