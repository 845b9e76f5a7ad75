use manifests::keys::Signer;

use super::*;

const KEY: [u8; 32] = [7; 32];

/// Two series, and what their probers signed.
fn written(kind: &str, lines: &[Line]) -> (String, Vec<u8>) {
    let key = SecretKey::from_seed(&KEY);
    let head = Head {
        schema: SCHEMA.into(),
        kind: kind.into(),
        prober: "ingress".into(),
        target: "who".into(),
        url: "http://127.0.0.1:1/who".into(),
        of: "ingress".into(),
        interval_ms: 100,
        timeout_ms: 1000,
        boot_id: "b".into(),
        key: key.public().to_hex(),
        drill: "d".into(),
        challenge: "c".into(),
        started: Timestamp::UNIX_EPOCH,
    };
    let tail = Tail { end: true, count: lines.len() as u64, done_us: 9_000, why: "asked to".into() };
    let mut text = format!("{}\n", serde_json::to_string(&head).unwrap());
    lines.iter().for_each(|line| text += &format!("{}\n", serde_json::to_string(line).unwrap()));
    text += &format!("{}\n", serde_json::to_string(&tail).unwrap());
    let signed = Signed {
        schema: SIGNED_SCHEMA.into(),
        file: "ingress.jsonl".into(),
        sha256: Digest::sha256(text.as_bytes()),
        count: lines.len() as u64,
        drill: "d".into(),
        challenge: "c".into(),
    };
    let signature = sign(&signed, &key).unwrap();
    (text, signature)
}

fn sample(i: u64, term: u64) -> Line {
    Line::Sample(Sample {
        i,
        sent_us: i * 100,
        done_us: i * 100 + 5,
        wall: Timestamp::UNIX_EPOCH,
        ok: true,
        status: Some(200),
        node: Some("a".into()),
        instance: None,
        term: Some(term),
        n: None,
        error: None,
    })
}

fn probed() -> (String, Vec<u8>) {
    written("prober", &[sample(0, 1), sample(1, 1), sample(2, 2)])
}

#[test]
fn a_series_reads_back_with_every_kind_of_line() {
    let (text, signature) = probed();
    let series = Series::read(text.as_bytes(), &signature, "probes/ingress.jsonl").unwrap();
    assert_eq!((series.samples().count(), series.end.count, series.head.of.as_str()), (3, 3, "ingress"));
    let wall = Timestamp::UNIX_EPOCH;
    let lines = [
        Line::Acknowledged(Acknowledged {
            n: 1,
            sent_us: 1,
            done_us: 2,
            wall,
            node: "a".into(),
            instance: None,
            term: 1,
        }),
        Line::Refused(Refused { error: "no".into(), sent_us: 3, done_us: 4, wall }),
        Line::Recovered(Recovered {
            recovered: 1,
            sent_us: 5,
            done_us: 6,
            wall,
            node: "b".into(),
            instance: None,
            term: 2,
        }),
    ];
    let (text, signature) = written("sentinel", &lines);
    assert_eq!(Series::read(text.as_bytes(), &signature, "probes/ingress.jsonl").unwrap().lines, lines);
    let (text, signature) = written("prober", &lines);
    let mixed = Series::read(text.as_bytes(), &signature, "probes/ingress.jsonl").unwrap_err();
    assert_eq!(mixed.class(), Class::Inconsistent, "{mixed}");
}

#[test]
fn a_series_that_was_edited_cut_or_signed_by_another_is_refused() {
    let (text, signature) = probed();
    let named =
        |text: &str, signature: &[u8], file: &str| Series::read(text.as_bytes(), signature, file).unwrap_err().class();
    let refused = |text: &str, signature: &[u8]| named(text, signature, "probes/ingress.jsonl");
    assert_eq!(refused(&text.replace("\"done_us\":105", "\"done_us\":104"), &signature), Class::Hash);
    assert_eq!(refused(&text.replace("\"i\":1", "\"i\":2"), &signature), Class::Inconsistent);
    assert_eq!(refused(&text.replace("\"done_us\":105", "\"done_us\":99"), &signature), Class::Inconsistent);
    assert_eq!(refused(&text.replace("\"interval_ms\":100", "\"interval_ms\":1"), &signature), Class::Hash);
    assert_eq!(refused(&text.replace("\"ok\":true", "\"ok\":true,\"ok\":false"), &signature), Class::Json);
    let without_end: String = text.lines().take(4).map(|line| format!("{line}\n")).collect();
    assert_eq!(refused(&without_end, &signature), Class::Json);
    let stranger = SecretKey::from_seed(&[8; 32]).public().to_hex();
    let (start, rest) = text.split_once("\"key\":\"").unwrap();
    let swapped = format!("{start}\"key\":\"{stranger}{}", &rest[64..]);
    assert_eq!(refused(&swapped, &signature), Class::SigUntrusted);
    assert_eq!(refused(&text, b"{}"), Class::Json);
    assert_eq!(named(&text, &signature, "probes/other.jsonl"), Class::Inconsistent);
}
