//! Figures of many full drills: how long clients were without an answer and why, what was lost, how large a bundle is and how
//! long its verification takes. Not part of every run: it prints, and takes long.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use snapkit_tests::{Run, binary};

#[test]
#[ignore = "twenty drills take a quarter of an hour, and what counts is what it prints"]
fn twenty_drills_are_measured() {
    let count = std::env::var("DRILLS").map_or(20, |count| count.parse().unwrap());
    let place = tempfile::Builder::new().prefix("measure-").tempdir_in("/tmp").unwrap();
    let mut rows: Vec<Value> = Vec::new();
    for number in 0..count {
        let world = place.path().join(number.to_string());
        let mut command = Command::new(binary::bootstrap());
        command.args(["drill", "demo", "--json", "--into"]).arg(&world);
        let mut demo = Run::of(command).expect(0).json("bootstrap.drill-demo/1");
        let report = Path::new(demo["report"].as_str().unwrap());
        let result = fs::read_to_string(report.with_file_name("result.json")).unwrap();
        demo["measured"] = serde_json::from_str::<Value>(&result).unwrap()["measured"].take();
        rows.push(demo);
        fs::remove_dir_all(&world).unwrap();
    }
    for (name, pointer) in [
        ("recovery, ms", "/measured/rto_ms"),
        ("  fault to claim, ms", "/measured/fault_to_claim_ms"),
        ("  claim to answer, ms", "/measured/claim_to_answer_ms"),
        ("lost, events", "/measured/rpo_events"),
        ("bundle, bytes", "/bundle_bytes"),
        ("verification, ms", "/verify_ms"),
        ("all of the demo, s", "/seconds"),
    ] {
        let mut found: Vec<f64> = rows.iter().filter_map(|row| row.pointer(pointer)?.as_f64()).collect();
        found.sort_by(f64::total_cmp);
        assert!(!found.is_empty(), "{name}");
        println!("{name}: median {}, most {}, of {}", found[found.len() / 2], found[found.len() - 1], found.len());
    }
}
