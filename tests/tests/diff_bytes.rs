//! Which bytes of a file differ, against `cmp -l` and against edits that are known.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use snapkit_tests::Machine;
use snapkit_tests::every_kind::noise;

type Range = [u64; 4];

fn ranges_of(machine: &Machine, args: &[&str], path: &str) -> Vec<Range> {
    let report = machine.run(&[&["diff", "--json"], args].concat()).expect(1).json("snapkit.diff/1");
    let found = report["differences"].as_array().unwrap().iter().find(|one| one["path"] == path);
    let ranges = &found.unwrap_or_else(|| panic!("{path} is not in {report}"))["ranges"];
    let number = |range: &Value, i: usize| range[i].as_u64().unwrap();
    ranges.as_array().unwrap().iter().map(|range| [0, 1, 2, 3].map(|i| number(range, i))).collect()
}

/// The runs of bytes that `cmp -l` lists; it counts from 1.
fn runs_of_cmp(a: &Path, b: &Path) -> Vec<Range> {
    let output = Command::new("cmp").arg("-l").arg(a).arg(b).output().expect("cmp is installed");
    let mut runs: Vec<Range> = Vec::new();
    for line in String::from_utf8(output.stdout).unwrap().lines() {
        let at = line.split_whitespace().next().unwrap().parse::<u64>().unwrap() - 1;
        match runs.last_mut() {
            Some(run) if run[0] + run[1] == at => (run[1], run[3]) = (run[1] + 1, run[3] + 1),
            _ => runs.push([at, 1, at, 1]),
        }
    }
    runs
}

fn applied(a: &[u8], b: &[u8], ranges: &[Range]) -> Vec<u8> {
    let (mut made, mut at) = (Vec::new(), 0);
    for range in ranges {
        let [a_offset, a_bytes, b_offset, b_bytes] = range.map(|n| n as usize);
        made.extend(&a[at..a_offset]);
        made.extend(&b[b_offset..b_offset + b_bytes]);
        at = a_offset + a_bytes;
    }
    made.extend(&a[at..]);
    made
}

/// The three ways in which two files can come to a comparison.
fn three_ways(machine: &Machine) -> [Vec<String>; 3] {
    machine.ok(&["init", "store"]);
    machine.ok(&["snapshot", "--store", "store", "state=a"]);
    machine.ok(&["snapshot", "--store", "store", "state=b"]);
    let args = |sides: [&str; 2]| ["--store", "store", sides[0], sides[1]].map(str::to_owned).to_vec();
    [args(["latest~1", "latest"]), args(["latest~1", "./b"]), args(["./a", "./b"])]
}

#[test]
fn ranges_of_files_of_the_same_length_are_those_of_cmp() {
    let machine = Machine::new();
    let base = noise(6 << 20, 1);
    for (index, count) in [1u64, 10, 300].into_iter().enumerate() {
        let mut edited = base.clone();
        for i in 0..count {
            let place = u64::from_le_bytes(noise(8, 100 * count + i).try_into().unwrap()) % (base.len() as u64 - 5000);
            let bytes = noise(1 + (place % 5000) as usize, place);
            edited[place as usize..place as usize + bytes.len()].copy_from_slice(&bytes);
        }
        machine.write(&format!("a/{index}"), &base);
        machine.write(&format!("b/{index}"), edited);
    }
    machine.write("a/unrelated", noise(200_000, 5));
    machine.write("b/unrelated", noise(200_000, 6));
    for args in three_ways(&machine) {
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        for name in ["0", "1", "2", "unrelated"] {
            let expected = runs_of_cmp(&machine.path("a").join(name), &machine.path("b").join(name));
            assert!(ranges_of(&machine, &args, name) == expected, "{name} {args:?}");
        }
    }
}

#[test]
fn an_insertion_shifts_what_follows_instead_of_marking_it() {
    let machine = Machine::new();
    let base = noise(8 << 20, 3);
    let mut edited = base.clone();
    // From the end, so that the places are those of A.
    edited.drain(7_000_000..7_000_300);
    edited[5_000_000] ^= 0xff;
    edited.splice(3_000_000..3_000_000, *b"put in here");
    machine.write("a/file", &base);
    machine.write("b/file", &edited);
    machine.write("a/log", [&base[..1 << 20], b"end"].concat());
    machine.write("b/log", [&base[..1 << 20], b"end and more"].concat());
    for args in three_ways(&machine) {
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let ranges = ranges_of(&machine, &args, "file");
        assert_eq!(applied(&base, &edited, &ranges), edited);
        assert_eq!(ranges.len(), 3, "{ranges:?}");
        assert_eq!(ranges[1], [5_000_000, 1, 5_000_011, 1]);
        let marked: u64 = ranges.iter().map(|range| range[1] + range[3]).sum();
        assert_eq!(marked, 11 + 2 + 300, "{ranges:?}");
        assert_eq!(ranges_of(&machine, &args, "log"), [[1_048_579, 0, 1_048_579, 9]]);
    }
}

#[test]
fn holes_are_zeros_like_others() {
    let machine = Machine::new();
    let write = |name: &str, mark: &[u8]| {
        fs::create_dir_all(machine.path(name).parent().unwrap()).unwrap();
        let file = fs::File::create(machine.path(name)).unwrap();
        for offset in [0, 3 << 20, (4 << 30) + 7] {
            std::os::unix::fs::FileExt::write_all_at(&file, mark, offset).unwrap();
        }
        file.set_len((4 << 30) + (1 << 20)).unwrap();
    };
    write("a/sparse", b"eleven byte");
    write("b/sparse", b"eleven bite");
    for args in three_ways(&machine) {
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let ranges = ranges_of(&machine, &args, "sparse");
        let at = |offset: u64| [offset + 8, 1, offset + 8, 1];
        assert_eq!(ranges, [at(0), at(3 << 20), at((4 << 30) + 7)], "{args:?}");
    }
}

#[test]
fn hex_shows_the_bytes_on_both_sides() {
    let machine = Machine::new();
    machine.write("a/conf", "a = 1\nport = 8080\nname = one\n");
    machine.write("b/conf", "a = 1\nport = 9090\nname = one\n");
    let run = machine.run(&["diff", "--content", "--hex", "./a", "./b"]).expect(1);
    for part in ["at 13: 1 byte", "[39]", "[38]", "port", "they differ: 1 differ"] {
        assert!(run.text().contains(part), "{part} is not in {}", run.text());
    }
    let plain = machine.run(&["diff", "--content", "--no-ranges", "./a", "./b"]).expect(1);
    assert!(!plain.text().contains("at 13"), "{}", plain.text());
}
