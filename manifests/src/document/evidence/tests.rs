//! The rules of docs/format/bundle.md, "Statement".

use super::*;
use crate::fixture::{at, node, owner, pin, receipt, replaced, root_one, sign, stranger};
use crate::keys::{SecretKey, Signer};

fn bundle() -> Digest {
    Digest::sha256(b"bundle")
}

fn evidence() -> Evidence {
    let check = |id: &str, required, status: &str, claim: &str| Check {
        id: id.into(),
        required,
        status: status.into(),
        claim: claim.into(),
    };
    Evidence {
        chain: receipt().chain,
        root: pin(),
        id: "drill-1".into(),
        kind: "drill".into(),
        scenario: "full".into(),
        group: "app".into(),
        mode: "execute".into(),
        verdict: "passed".into(),
        grade: "full".into(),
        challenge: Some("x7 of the auditor".into()),
        plan: Digest::sha256(b"plan"),
        begun: Some(Pointer { seq: 4, digest: Digest::sha256(b"begun") }),
        head: None,
        manifest: None,
        started: at("2026-11-20T12:00:00Z"),
        finished: at("2026-11-20T12:01:00Z"),
        rto_ms: Some(7100),
        rpo_events: Some(0),
        rpo_ms: Some(0),
        checks: vec![check("rpo", true, "passed", "proven"), check("rto", true, "passed", "proven")],
        tool: receipt().tool,
        host: receipt().host,
        node: node().public().id(),
        critical: None,
        ext: Map::new(),
    }
}

fn class<T>(result: Result<T, Refusal>) -> Option<Class> {
    result.err().map(|refusal| refusal.class())
}

fn text() -> String {
    String::from_utf8(evidence().payload(bundle()).unwrap()).unwrap()
}

fn judged_by(payload: &str, key: &SecretKey) -> Option<Class> {
    let bytes = sign(PAYLOAD_TYPE, payload, &[key]);
    class(Evidence::verify(&bytes, &root_one(), &pin(), Some(&evidence().chain), "evidence"))
}

fn judged(payload: &str) -> Option<Class> {
    judged_by(payload, &node())
}

#[test]
fn evidence_reads_back_as_it_was_written() {
    let bytes = sign(PAYLOAD_TYPE, &text(), &[&node()]);
    let verified = Evidence::verify(&bytes, &root_one(), &pin(), None, "evidence").unwrap();
    assert_eq!((verified.evidence, verified.bundle), (evidence(), bundle()));
    assert_eq!(verified.signers, [node().public()]);
}

#[test]
fn only_the_role_node_makes_evidence_good() {
    assert_eq!(judged(&text()), None);
    assert_eq!(judged_by(&text(), &owner()), Some(Class::Role));
    assert_eq!(judged_by(&text(), &stranger()), Some(Class::SigUntrusted));
    let other = Digest::sha256(b"other");
    assert_eq!(judged(&replaced(&text(), &node().public().id().to_string(), &other.to_string())), Some(Class::KeyId));
    assert_eq!(judged(&replaced(&text(), &pin().to_string(), &other.to_string())), Some(Class::Origin));
    let chain = evidence().chain.to_string();
    assert_eq!(
        judged(&text().replace(&format!(r#""chain":"{chain}""#), &format!(r#""chain":"{other}""#))),
        Some(Class::Origin)
    );
}

#[test]
fn what_the_format_does_not_name_is_refused() {
    for (from, to, refused) in [
        (r#""mode":"execute""#, r#""mode":"paper""#, Class::Json),
        (r#""verdict":"passed""#, r#""verdict":"good""#, Class::Json),
        (r#""status":"passed""#, r#""status":"maybe""#, Class::Json),
        (r#""id":"rpo""#, r#""id":"rtz""#, Class::Json),
        (r#""id":"drill-1""#, r#""id":"Drill 1""#, Class::Json),
        (r#""rto_ms":7100"#, r#""rto_ms":7100.5"#, Class::Json),
        (r#""rto_ms":7100"#, r#""rto_ms":7100,"note":1"#, Class::Json),
        (r#""name":"bundle.json""#, r#""name":"other.json""#, Class::Inconsistent),
        (r#""finished":"2026-11-20T12:01:00Z""#, r#""finished":"2026-11-20T11:01:00Z""#, Class::Inconsistent),
        ("urn:snapkit:drill:0-draft", "urn:snapkit:drill:1", Class::Newer),
        ("urn:snapkit:drill:0-draft", "urn:snapkit:receipt:0-draft", Class::Type),
        ("x7 of the auditor", r"x7\u001b", Class::Json),
    ] {
        let changed = text().replacen(from, to, 1);
        assert_ne!(changed, text(), "{from}");
        assert_eq!(judged(&changed), Some(refused), "{from} -> {to}");
    }
}

#[test]
fn the_second_statement_says_what_the_first_one_says() {
    let root = root_one();
    let judged = |evidence: &Evidence, payload: &[u8]| {
        let bytes = sign(PAYLOAD_TYPE, std::str::from_utf8(payload).unwrap(), &[&node()]);
        class(evidence.verify_test_result(&bytes, bundle(), &root, "test-result"))
    };
    let good = evidence().test_result(bundle());
    assert_eq!(judged(&evidence(), &good), None);
    let result = |change: &dyn Fn(&mut Evidence)| {
        let mut changed = evidence();
        change(&mut changed);
        let value: Value = serde_json::from_slice(&changed.test_result(bundle())).unwrap();
        assert_eq!(judged(&changed, &good), Some(Class::Inconsistent), "{value}");
        let predicate = &value["predicate"];
        (predicate["result"].clone(), predicate["failedTests"].clone(), predicate["warnedTests"].clone())
    };
    let failed = |evidence: &mut Evidence| {
        evidence.verdict = "failed".into();
        evidence.checks[0].status = "skipped".into();
    };
    assert_eq!(result(&failed), (json!("FAILED"), json!(["rpo"]), json!([])));
    let simulated = |evidence: &mut Evidence| evidence.mode = "simulated".into();
    assert_eq!(result(&simulated).0, json!("WARNED"), "a rehearsal is no pass");
    let optional = |evidence: &mut Evidence| {
        evidence.checks[1].required = false;
        evidence.checks[1].status = "failed".into();
    };
    assert_eq!(result(&optional), (json!("WARNED"), json!([]), json!(["rto"])));
}
