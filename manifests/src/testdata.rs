//! The examples in `testdata/manifests`: one directory per case, judged as its README says.
//!
//! Run `SNAPKIT_WRITE_TESTDATA=1 cargo test -p manifests cases_on_disk` to write the cases and the README again; the key files
//! were made once by other tools and are only read.

mod envelopes;
mod leases;
mod manifests;
mod receipts;
mod records;
mod roots;

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use crate::chain;
use crate::digest::Digest;
use crate::document::manifest::Manifest;
use crate::document::pins::{Pins, VerifiedPins};
use crate::document::receipt::{Authority, Receipt};
use crate::document::root::Root;
use crate::fixture::{first, root_one};
use crate::keys::{PublicKey, SecretKey};
use crate::refusal::Refusal;

struct Case {
    name: &'static str,
    verdict: &'static str,
    made: &'static str,
    /// Path within the case and content; empty for what other tools made.
    files: Vec<(&'static str, Vec<u8>)>,
}

fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../testdata/manifests")
}

fn cases() -> Vec<Case> {
    let mut cases =
        vec![records::accepted_chain(), records::forked_chain(), records::fenced_chain(), roots::rotated_chain()];
    cases.extend(envelopes::envelopes());
    cases.extend(records::records());
    cases.extend(records::other_kinds());
    cases.extend(records::fences());
    cases.extend(roots::roots());
    cases.extend(roots::keys());
    cases.extend(receipts::receipts());
    cases.extend(manifests::all_pins());
    cases.extend(manifests::all_manifests());
    cases.push(leases::accepted_log());
    cases.extend(leases::leases());
    cases
}

fn readme(cases: &[Case]) -> String {
    let mut text = String::from(
        "# Signed documents, accepted and refused\n\n\
         One directory per case, named for its flaw. The cases are made and judged by `manifests/src/testdata.rs`; run\n\
         `SNAPKIT_WRITE_TESTDATA=1 cargo test -p manifests cases_on_disk` to write them again. All keys are for tests only.\n\n\
         - `chain-accepted`: a chain to read from `pin`, `root/1.json` and `chain/<slot>.json`.\n\
         - `forked-chain-accepted`, `fenced-chain-accepted`, `rotated-chain-accepted`: the same with a fork, with a fence, and\n  with a second root.\n\
         - `envelope-*`, `record-*`: `record.json` is to be slot 1 of that chain, after its genesis. `void` means that the\n\
         \x20 slot counts as void; a refusal without it stops the reader.\n\
         - `root-*`: `1.json` is to be the first root with the digest in `pin`; `2.json` the root after that of the chain.\n\
         - `key-*`: a key file, `secret` or `public`.\n\
         - `receipt-*`: `receipt.json` is to be a receipt under the root of that chain.\n\
         - `pins-*`: `pins.json` is to be pins of that chain for manifests named `app`.\n\
         - `manifest-*`: `manifest.json` is to be a manifest of that chain, with its pins; its time is not judged.\n\
         - `lease-log-accepted`: a lease log of group `app` of that chain, whose one member is `node-a` with the node's key;\n\
         \x20 `lease-*`: `entry.json` is to be its slot 2, after the claim in slot 1.\n\n\
         | case | verdict | how it was made |\n|---|---|---|\n",
    );
    for Case { name, verdict, made, .. } in cases {
        text.push_str(&format!("| `{name}` | {verdict} | {made} |\n"));
    }
    text
}

#[test]
fn the_cases_on_disk_are_the_ones_made_here() {
    let cases = cases();
    let write = std::env::var_os("SNAPKIT_WRITE_TESTDATA").is_some();
    let mut expected = vec![(directory().join("README.md"), readme(&cases).into_bytes())];
    for case in cases {
        expected.extend(case.files.into_iter().map(|(file, bytes)| (directory().join(case.name).join(file), bytes)));
    }
    for (path, bytes) in expected {
        if write {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, &bytes).unwrap();
        }
        assert!(fs::read(&path).unwrap() == bytes, "{} is as it is made here", path.display());
    }
}

#[test]
fn every_directory_is_a_case_and_every_case_a_directory() {
    let listed: BTreeSet<String> = cases().iter().map(|case| case.name.to_owned()).collect();
    let entries = fs::read_dir(directory()).unwrap().map(Result::unwrap);
    let found: BTreeSet<String> = entries
        .filter(|entry| entry.file_type().unwrap().is_dir())
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    assert_eq!(found, listed);
}

#[test]
fn every_case_gets_its_verdict() {
    for case in cases() {
        let read = |file: &str| fs::read(directory().join(case.name).join(file)).unwrap();
        let verdict = match case.name.split('-').next().unwrap() {
            "chain" => read_chain(read).map_or_else(|refusal| refusal.class().to_string(), |()| "accepted".into()),
            "forked" => {
                read_forked_chain(read).map_or_else(|refusal| refusal.class().to_string(), |()| "accepted".into())
            }
            "fenced" => judge(read_fenced_chain(read)),
            "rotated" => {
                read_rotated_chain(read).map_or_else(|refusal| refusal.class().to_string(), |()| "accepted".into())
            }
            "envelope" | "record" => judge_record(&read("record.json")),
            "lease" if case.name == "lease-log-accepted" => judge(leases::read_log(read)),
            "lease" => leases::judge(&read("entry.json")),
            "receipt" => judge_receipt(&read("receipt.json")),
            "pins" => judge(Pins::verify(&read("pins.json"), &root_one(), &first().1.chain, Some("app"), "pins")),
            "manifest" => judge(judge_manifest(&read("manifest.json"))),
            "root" if directory().join(case.name).join("2.json").exists() => {
                judge(root_one().parse_next(&read("2.json")))
            }
            "root" => judge(Root::parse_first(&read("1.json"), &pin_in(&read("pin")))),
            _ => {
                let name = if directory().join(case.name).join("secret").exists() { "secret" } else { "public" };
                let text = String::from_utf8(read(name)).unwrap();
                if name == "secret" { judge(SecretKey::parse(&text)) } else { judge(PublicKey::parse(&text)) }
            }
        };
        assert_eq!(verdict, case.verdict, "{}", case.name);
    }
}

fn judge<T>(result: Result<T, Refusal>) -> String {
    result.map_or_else(|refusal| refusal.class().to_string(), |_| "accepted".into())
}

fn judge_record(bytes: &[u8]) -> String {
    let (_, head) = first();
    let class = judge(chain::next(&head, &[], bytes, &root_one()));
    let void = chain::is_void(bytes, &head.chain, 1, &root_one()).is_ok_and(|void| void.is_some());
    if void { format!("{class}, void") } else { class }
}

fn judge_receipt(bytes: &[u8]) -> String {
    let root = root_one();
    let authority = Authority::Root { root: &root, pin: root.digest(), chain: Some(first().1.chain) };
    judge(Receipt::verify(bytes, &authority, "receipt"))
}

fn judge_manifest(bytes: &[u8]) -> Result<VerifiedPins, Refusal> {
    let root = root_one();
    let manifest = Manifest::verify(bytes, &root, &root.digest(), Some(&first().1.chain), None, "manifest")?;
    manifest.pins(&root, "manifest")
}

fn pin_in(bytes: &[u8]) -> Digest {
    std::str::from_utf8(bytes).unwrap().trim_end().parse().unwrap()
}

fn read_chain(read: impl Fn(&str) -> Vec<u8>) -> Result<(), Refusal> {
    let pin = pin_in(&read("pin"));
    let root = Root::parse_first(&read("root/1.json"), &pin)?;
    let (_, mut head) = chain::first(&read("chain/0.json"), &pin, &root)?;
    let mut voids = Vec::new();
    for slot in 1..5 {
        if let Some((_, after)) = chain::step(&head, &mut voids, &read(&format!("chain/{slot}.json")), &root)? {
            head = after;
        }
    }
    assert_eq!((head.seq, voids.len()), (4, 0));
    Ok(())
}

fn read_rotated_chain(read: impl Fn(&str) -> Vec<u8>) -> Result<(), Refusal> {
    let pin = pin_in(&read("pin"));
    let root = Root::parse_first(&read("root/1.json"), &pin)?.parse_next(&read("root/2.json"))?;
    let (_, mut head) = chain::first(&read("chain/0.json"), &pin, &root)?;
    for slot in 1..4 {
        head = chain::next(&head, &[], &read(&format!("chain/{slot}.json")), &root)?.1;
    }
    assert_eq!(head.seq, 3);
    Ok(())
}

fn read_fenced_chain(read: impl Fn(&str) -> Vec<u8>) -> Result<(), Refusal> {
    let pin = pin_in(&read("pin"));
    let root = Root::parse_first(&read("root/1.json"), &pin)?;
    let (_, genesis) = chain::first(&read("chain/0.json"), &pin, &root)?;
    let (_, fenced) = chain::next(&genesis, &[], &read("chain/1.json"), &root)?;
    let (_, head) = chain::next(&fenced, &[], &read("chain/2.json"), &root)?;
    assert_eq!((head.seq, head.term), (2, 1));
    Ok(())
}

fn read_forked_chain(read: impl Fn(&str) -> Vec<u8>) -> Result<(), Refusal> {
    let pin = pin_in(&read("pin"));
    let root = Root::parse_first(&read("root/1.json"), &pin)?;
    let (_, genesis) = chain::first(&read("chain/0.json"), &pin, &root)?;
    let (_, kept) = chain::next(&genesis, &[], &read("chain/1.json"), &root)?;
    // What the fork leaves behind was a record like any other.
    chain::next(&kept, &[], &read("chain/2.json"), &root)?;
    let (_, forked) = chain::fork(&kept, 3, &read("chain/3.json"), &root)?;
    let (_, head) = chain::next(&forked, &[], &read("chain/4.json"), &root)?;
    assert_eq!((head.seq, head.epoch), (4, 1));
    Ok(())
}
