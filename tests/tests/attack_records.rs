//! Attacks of the rows C, slots filled by others, and records that need a newer snapkit.

#![allow(clippy::unwrap_used)]

use std::fs;

use manifests::document::record::payload_type;
use manifests::document::root::{PAYLOAD_TYPE, Root};
use manifests::document::snapshot;
use manifests::envelope;
use manifests::keys::SecretKey;
use manifests::refusal::Class;
use serde_json::Value;
use snapkit_tests::Machine;
use snapkit_tests::attack::{Content, Forge, Victim, resigned, widened};
use snapkit_tests::compare::same_tree;

fn evil() -> Content {
    let mut content = Content::new();
    content.file("file", b"evil\n");
    content
}

/// Puts a snapshot with a changed payload into slot 2, signed by the writer.
fn changed(change: impl FnOnce(String) -> String) -> (Forge, Victim, u64) {
    let mut forge = Forge::new();
    let victim = Victim::of(&forge);
    let payload = forge.snapshot(evil());
    let after = change(payload.clone());
    assert_ne!(payload, after, "the change found what it changes");
    let seq = forge.put_snapshot(&after);
    (forge, victim, seq)
}

/// The slot counts for nothing: readers stay with what was before, and the next writer names it and goes on.
#[track_caller]
fn is_void(mut forge: Forge, victim: &Victim, slots: &[u64]) {
    let before = slots[0] - 1;
    for command in [
        &["log"][..],
        &["ls", "latest"],
        &["cat", "latest", "file"],
        &["find", "*"],
        &["digest", "latest"],
        &["verify"],
        &["verify", "--data"],
    ] {
        let run = victim.accepts(command);
        assert!(!run.text().contains("evil"), "{command:?} shows what was not accepted: {}", run.text());
    }
    assert_eq!(victim.newest(), before);
    assert_eq!(fs::read(victim.restores("latest").join("file")).unwrap(), b"honest\n");
    // Also for a machine that comes to it for the first time.
    let cold = Victim::of(&forge);
    assert_eq!(cold.newest(), before);

    forge.machine.write("tree/newer", "newer\n");
    forge.honest();
    assert_eq!(victim.newest(), slots.last().unwrap() + 1);
    let shown = victim.accepts(&["show", "latest"]).json("snapkit.show/1");
    assert_eq!(shown["void_slots"], Value::from(slots), "{shown}");
    same_tree(&forge.machine.path("tree"), &victim.restores("latest"));
    assert_eq!(victim.verify_is_clean()["void_slots"], slots.len());
}

/// Every reading command stops at slot 2, and nothing is added after it.
#[track_caller]
fn stops_everything(change: impl FnOnce(String) -> String, class: Class, object: &str) {
    let (forge, victim, _) = changed(change);
    victim.every_command_refuses(class, object);
    let add = Victim::without_pin(&forge);
    add.machine.run(&["trust", "add", &forge.bootstrap]).expect(class.exit_code().into());
    assert!(!add.machine.home().join("trust/stores.json").exists());
    forge.machine.run(&["snapshot", "--store", "store", "tree"]).expect(class.exit_code().into());
    assert!(!forge.object("chain/00000000000000000003.json").exists());
}

fn replaced(from: &'static str, to: &'static str) -> impl Fn(String) -> String {
    move |payload| payload.replacen(from, to, 1)
}

#[test]
fn c02_a_record_with_a_name_twice_is_void() {
    for (from, to) in [
        (r#""seq":2"#, r#""seq":2,"seq":3"#),
        (r#""seq":2"#, r#""seq":2,"s\u0065q":2"#),
        (r#""complete":true"#, r#""complete":true,"complete":false"#),
        (r#""body""#, r#""ext":{"a":1,"a":2},"body""#),
    ] {
        let (forge, victim, seq) = changed(replaced(from, to));
        is_void(forge, &victim, &[seq]);
    }
}

#[test]
fn c02_an_envelope_with_a_name_twice_is_void() {
    let mut forge = Forge::new();
    let victim = Victim::of(&forge);
    let payload = forge.snapshot(evil());
    let good = envelope::sign(snapshot::PAYLOAD_TYPE, payload.as_bytes(), &[&forge.node]).unwrap();
    let text = String::from_utf8(good).unwrap().replacen(r#""payloadType""#, r#""payload":"e30=","payloadType""#, 1);
    let seq = forge.put_slot(text.as_bytes());
    is_void(forge, &victim, &[seq]);
}

#[test]
fn c03_unknown_names_and_names_in_another_case_are_refused() {
    for (from, to) in [
        (r#""epoch":0"#, r#""epoch":0,"Epoch":0"#),
        (r#""epoch":0"#, r#""epoch":0,"note":"hello""#),
        (r#""complete":true"#, r#""complete":true,"extra":1"#),
        (r#""torn":0"#, r#""Torn":0"#),
        (r#","writer""#, r#","void":null,"writer""#),
    ] {
        stops_everything(replaced(from, to), Class::Json, "record 2");
    }
    // What readers shall ignore has a place of its own.
    let (forge, victim, _) = changed(replaced(r#""body""#, r#""ext":{"Note":["any",{"thing":null}]},"body""#));
    assert_eq!(victim.newest(), 2);
    drop(forge);
}

#[test]
fn c04_numbers_that_readers_take_differently_make_a_record_void() {
    for (from, to) in [
        (r#""torn":0"#, r#""torn":18446744073709551617"#),
        (r#""torn":0"#, r#""torn":9007199254740992"#),
        (r#""torn":0"#, r#""torn":0.0"#),
        (r#""torn":0"#, r#""torn":0e3"#),
        (r#""torn":0"#, r#""torn":-0"#),
        (r#""torn":0"#, r#""torn":NaN"#),
        (r#""seq":2"#, r#""seq":2.0"#),
    ] {
        let (forge, victim, seq) = changed(replaced(from, to));
        is_void(forge, &victim, &[seq]);
    }
}

#[test]
fn c05_deep_nesting_makes_a_record_void_and_no_reader_fall() {
    for levels in [33, 100_000] {
        let nested = format!(r#""ext":{{"x":{}{}}},"body""#, "[".repeat(levels), "]".repeat(levels));
        let (forge, victim, seq) = changed(move |payload| payload.replacen(r#""body""#, &nested, 1));
        is_void(forge, &victim, &[seq]);
    }
    // Not even valid JSON, not even signed.
    let mut forge = Forge::new();
    let victim = Victim::of(&forge);
    let seq = forge.put_slot("[".repeat(500_000).as_bytes());
    is_void(forge, &victim, &[seq]);
}

#[test]
fn c06_bytes_around_the_one_value_make_a_record_void() {
    let changes: [fn(String) -> String; 4] = [
        |payload| format!("{payload} x"),
        |payload| format!("{payload}{payload}"),
        |payload| format!("\u{feff}{payload}"),
        |payload| format!("{payload}\0"),
    ];
    for change in changes {
        let (forge, victim, seq) = changed(change);
        is_void(forge, &victim, &[seq]);
    }
    // The same around the envelope of an honest record.
    for around in [("\u{feff}", ""), ("", "x"), ("", "{}"), ("", "\0")] {
        let mut forge = Forge::new();
        let victim = Victim::of(&forge);
        let payload = forge.snapshot(evil());
        let good = envelope::sign(snapshot::PAYLOAD_TYPE, payload.as_bytes(), &[&forge.node]).unwrap();
        let seq = forge.put_slot(&[around.0.as_bytes(), &good, around.1.as_bytes()].concat());
        is_void(forge, &victim, &[seq]);
    }
}

#[test]
fn c07_base64_of_the_other_alphabet_is_the_same_record() {
    let forge = Forge::new();
    let victim = Victim::of(&forge);
    let before = victim.accepts(&["show", "latest"]).json("snapkit.show/1");
    for seq in [0, 1] {
        let bytes = widened(&forge.slot(seq));
        forge.replace_slot(seq, &bytes);
    }
    let root = fs::read(forge.object("root/1.json")).unwrap();
    forge.put("root/1.json", &widened(&root));
    for machine in [victim, Victim::of(&forge)] {
        assert_eq!(machine.accepts(&["show", "latest"]).json("snapkit.show/1"), before);
        machine.verify_is_clean();
        machine.restores("latest");
    }
    // Other forms of base64 are not: the slot was a record and is none any more.
    let victim = Victim::of(&forge);
    let text = String::from_utf8(forge.slot(1)).unwrap();
    forge.replace_slot(1, text.replacen(r#""payload":""#, r#""payload":"\n"#, 1).as_bytes());
    fs::remove_dir_all(victim.machine.cache()).unwrap();
    victim.every_command_refuses(Class::Json, "record 1");
}

#[test]
fn c08_a_signature_over_one_type_is_none_over_another() {
    let types = [
        "application/vnd.snapkit.hold+json",
        "application/vnd.snapkit.genesis+json",
        "application/vnd.snapkit.root+json",
        "application/vnd.snapkit.snapshot+json ",
        "application/vnd.snapkit.Snapshot+json",
        "application/vnd.snapkit.sn\u{e4}pshot+json",
        "application/vnd.snapkit.snapshot+json\0",
        "application/vnd.in-toto+json",
        "",
    ];
    for payload_type in types {
        let mut forge = Forge::new();
        let victim = Victim::of(&forge);
        let payload = forge.snapshot(evil());
        let good = envelope::sign(snapshot::PAYLOAD_TYPE, payload.as_bytes(), &[&forge.node]).unwrap();
        let mut value: Value = serde_json::from_slice(&good).unwrap();
        value["payloadType"] = payload_type.into();
        let seq = forge.put_slot(&serde_json::to_vec(&value).unwrap());
        is_void(forge, &victim, &[seq]);
    }
    // Bytes moved from the payload to its type: the lengths in what is signed keep them apart.
    let mut forge = Forge::new();
    let victim = Victim::of(&forge);
    let payload = forge.snapshot(evil());
    let moved = format!("{}+json", payload_type("hold").trim_end_matches("+json"));
    let bytes = envelope::sign(&moved, payload.as_bytes(), &[&SecretKey::from_seed(&[7; 32])]).unwrap();
    let seq = forge.put_slot(&bytes);
    is_void(forge, &victim, &[seq]);
}

#[test]
fn c08_a_record_is_no_root() {
    let forge = Forge::new();
    let victim = Victim::of(&forge);
    forge.put("root/2.json", &forge.slot(1));
    victim.every_command_refuses(Class::Type, "root/2.json");
}

/// The rules of strict JSON hold for roots too, even for one that is pinned.
#[test]
fn c02_to_c06_a_root_that_two_readers_could_take_differently_is_refused() {
    let changes: [fn(String) -> String; 6] = [
        |root| root.replacen(r#""version":1"#, r#""version":1,"version":1"#, 1),
        |root| root.replacen(r#""version":1"#, r#""version":1,"Version":1"#, 1),
        |root| root.replacen(r#""version":1"#, r#""version":1.0"#, 1),
        |root| {
            root.replacen(r#""version":1"#, &format!(r#""ext":{}{},"version":1"#, "[".repeat(99), "]".repeat(99)), 1)
        },
        |root| format!("{root} {{}}"),
        |root| format!("\u{feff}{root}"),
    ];
    for change in changes {
        let machine = Machine::new();
        let (owner, node) = (SecretKey::from_seed(&[1; 32]), SecretKey::from_seed(&[2; 32]));
        let now = jiff::Timestamp::now();
        let later = now + jiff::SignedDuration::from_hours(24);
        use manifests::keys::Signer;
        let payload = Root::new_first(&owner.public(), &node.public(), now, later).unwrap();
        let payload = change(String::from_utf8(payload).unwrap());
        let bytes = envelope::sign(PAYLOAD_TYPE, payload.as_bytes(), &[&owner]).unwrap();
        machine.write("store/root/1.json", bytes);
        let digest = manifests::digest::Digest::sha256(payload.as_bytes());
        let bootstrap = format!("{}#root=sha256:{digest}", machine.arg("store"));
        machine.run(&["trust", "add", &bootstrap]).expect(30).stderr_names("E_JSON");
        machine.run(&["--store", &bootstrap, "log"]).expect(30);
        assert!(!machine.home().join("trust").exists());
    }
}

#[test]
fn c09_names_that_only_look_alike_are_restored_apart() {
    let names: [&[u8]; 9] = [
        "caf\u{e9}".as_bytes(),
        "cafe\u{301}".as_bytes(),
        b"README",
        b"readme",
        "txt.\u{202e}gpj".as_bytes(),
        "\u{200b}".as_bytes(),
        b"latin1-\xe9",
        b"\xff\xfe",
        b"new\nline",
    ];
    let mut content = Content::new();
    let mut sorted = names.to_vec();
    sorted.sort();
    for name in &sorted {
        content.file(name, name);
    }
    let mut forge = Forge::new();
    let victim = Victim::of(&forge);
    forge.commit(content);
    let restored = victim.restores("latest");
    let mut found: Vec<Vec<u8>> =
        fs::read_dir(&restored).unwrap().map(|entry| fs::read(entry.unwrap().path()).unwrap()).collect();
    found.sort();
    assert_eq!(found, sorted);
    assert_eq!(victim.accepts(&["cat", "latest", "cafe\u{301}"]).stdout, "cafe\u{301}".as_bytes());
    victim.verify_is_clean();
}

#[test]
fn whatever_fills_the_next_slot_does_not_stop_the_chain() {
    let stranger = SecretKey::from_seed(&[9; 32]);
    type Filling = fn(&mut Forge, &SecretKey) -> Vec<u8>;
    let fillings: [(&str, Filling); 8] = [
        ("random bytes", |_, _| snapkit_tests::every_kind::noise(4096, 1)),
        ("nothing", |_, _| Vec::new()),
        ("a flood", |_, _| vec![b' '; 3 << 20]),
        ("an unsigned record", |forge, _| {
            let payload = forge.snapshot(evil());
            envelope::sign(snapshot::PAYLOAD_TYPE, payload.as_bytes(), &[]).unwrap()
        }),
        ("a record signed by a stranger", |forge, stranger| {
            let payload = forge.snapshot(evil());
            envelope::sign(snapshot::PAYLOAD_TYPE, payload.as_bytes(), &[stranger]).unwrap()
        }),
        ("a stranger's signature under the writer's id", |forge, stranger| {
            use manifests::keys::Signer;
            let payload = forge.snapshot(evil());
            let bytes = envelope::sign(snapshot::PAYLOAD_TYPE, payload.as_bytes(), &[stranger]).unwrap();
            let text = String::from_utf8(bytes).unwrap();
            text.replace(&stranger.public().id().to_string(), &forge.node.public().id().to_string()).into_bytes()
        }),
        ("a snapshot signed by the owner, who is no writer", |forge, _| {
            let payload = forge.snapshot(evil());
            envelope::sign(snapshot::PAYLOAD_TYPE, payload.as_bytes(), &[&forge.owner]).unwrap()
        }),
        ("the record before it", |forge, _| forge.slot(1)),
    ];
    for (what, filling) in fillings {
        println!("{what}");
        let mut forge = Forge::new();
        let victim = Victim::of(&forge);
        let bytes = filling(&mut forge, &stranger);
        let seq = forge.put_slot(&bytes);
        is_void(forge, &victim, &[seq]);
    }
}

#[test]
fn several_void_slots_are_named_one_by_one() {
    let mut forge = Forge::new();
    let victim = Victim::of(&forge);
    for n in 0..3 {
        forge.put_slot(format!("garbage {n}").as_bytes());
        forge.follow();
    }
    is_void(forge, &victim, &[2, 3, 4]);
}

#[test]
fn sixty_four_void_slots_in_a_row_are_stepped_over_and_one_more_is_refused() {
    let mut forge = Forge::new();
    let victim = Victim::of(&forge);
    for n in 0..64 {
        forge.put(&format!("chain/{:020}.json", 2 + n), b"garbage");
    }
    forge.follow();
    assert_eq!(victim.newest(), 1);
    forge.put(&format!("chain/{:020}.json", 66), b"garbage");
    victim.every_command_refuses(Class::TooMany, "slots");
    forge.machine.run(&["snapshot", "--store", "store", "tree"]).expect(33);
    // The owner of the store takes one away, and all is well.
    fs::remove_file(forge.object(&format!("chain/{:020}.json", 66))).unwrap();
    forge.honest();
    assert_eq!(victim.newest(), 66);
    victim.verify_is_clean();
}

#[test]
fn a_record_of_an_unknown_kind_is_checked_and_skipped() {
    let mut forge = Forge::new();
    let victim = Victim::of(&forge);
    let payload = forge.payload(r#"{"what":["ever",{"it":"says"}]}"#);
    forge.put_record(&payload_type("hold"), &payload);
    forge.follow();
    forge.hint();
    for command in [&["log"][..], &["ls", "latest"], &["find", "*"], &["digest", "latest"], &["verify", "--data"]] {
        victim.accepts(command);
    }
    assert_eq!(victim.newest(), 1, "the newest snapshot is the one before it");
    victim.restores("latest");
    let report = victim.verify_is_clean();
    assert_eq!((&report["records"], &report["void_slots"]), (&Value::from(3), &Value::from(0)));

    forge.machine.write("tree/newer", "newer\n");
    forge.honest();
    assert_eq!(victim.newest(), 3);
    same_tree(&forge.machine.path("tree"), &victim.restores("latest"));
    victim.verify_is_clean();

    // It is checked: one that does not follow the record before it stops readers, as a snapshot would.
    let payload = forge.payload("{}").replacen(r#""previous":""#, r#""previous":"0"#, 1);
    let cut = payload.find(r#""previous":""#).unwrap() + 12 + 64;
    let payload = [&payload[..cut], &payload[cut + 1..]].concat();
    forge.put_record(&payload_type("hold"), &payload);
    victim.every_command_refuses(Class::Mix, "record 4");
}

#[test]
fn an_unknown_critical_name_means_newer_and_never_damage() {
    let name = |payload: String| {
        payload.replacen(r#""body""#, r#""critical":["dedup-v2"],"a field of then":[1.5e3],"body""#, 1)
    };
    // Strict JSON comes first in every future format too.
    let (forge, victim, seq) = changed(name);
    is_void(forge, &victim, &[seq]);

    stops_everything(
        replaced(r#""body""#, r#""critical":["dedup-v2"],"later":{"a":1},"body""#),
        Class::Newer,
        "dedup-v2",
    );
    stops_everything(replaced(r#""format":"0-draft""#, r#""format":"7""#), Class::Newer, "7");
    // Epochs and terms are known, and begin with a fork or a fence that these do not have.
    stops_everything(replaced(r#""term":0"#, r#""term":1"#), Class::Inconsistent, "term 1");
    stops_everything(replaced(r#""epoch":0"#, r#""epoch":1"#), Class::Inconsistent, "epoch 1");

    let mut forge = Forge::new();
    let victim = Victim::of(&forge);
    let payload = forge.payload("{}").replacen(r#""body""#, r#""critical":["hold"],"body""#, 1);
    forge.put_record(&payload_type("hold"), &payload);
    victim.every_command_refuses(Class::Newer, "hold");
    // A machine that comes to it by the checkpoint sees the same.
    forge.put("checkpoint", format!("2 {}\n", "0".repeat(64)).as_bytes());
    victim.every_command_refuses(Class::Newer, "hold");
}

#[test]
fn a_newer_record_in_the_middle_stops_whoever_comes_to_it() {
    let (forge, victim, _) = changed(replaced(r#""body""#, r#""critical":["x"],"body""#));
    // Something signed after it, by a snapkit that understood it.
    let later = resigned(&forge.slot(2), &forge.node, |payload| {
        payload.replacen(r#""seq":2"#, r#""seq":3"#, 1).replacen(r#""critical":["x"],"#, r#""critical":["y"],"#, 1)
    });
    forge.replace_slot(3, &later);
    victim.every_command_refuses(Class::Newer, "y");
}

#[test]
fn a_newer_format_line_explains_documents_that_cannot_be_read_and_stops_nobody_else() {
    let forge = Forge::new();
    let victim = Victim::of(&forge);
    forge.put("format", b"snapkit store, format 7\n");
    // The line alone is a hint, and the signed documents say that they can be read.
    assert_eq!(victim.newest(), 1);
    victim.restores("latest");
    // With documents of a form that nobody here knows, it is the reason.
    forge.put("root/1.json", b"not even JSON");
    let cold = Victim::without_pin(&forge);
    cold.machine.run(&["trust", "add", &forge.bootstrap]).expect(35).stderr_names("format 7");
}
