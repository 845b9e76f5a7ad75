//! Views for tests: one of each mode, made from `examples.json`.

use serde_json::Value;

use crate::agent::view::View;

/// Every example by name: the base, changed as the case says.
pub(crate) fn all() -> Vec<(String, View)> {
    let examples: Value = serde_json::from_str(include_str!("examples.json")).unwrap();
    let cases = examples["cases"].as_object().unwrap();
    cases
        .iter()
        .map(|(name, case)| {
            let mut view = examples["base"].clone();
            merge(&mut view, case);
            (name.clone(), serde_json::from_value(view).unwrap())
        })
        .collect()
}

/// RFC 7396, except that null stays.
fn merge(into: &mut Value, patch: &Value) {
    match (into, patch) {
        (Value::Object(into), Value::Object(patch)) => {
            for (key, value) in patch {
                merge(into.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (into, patch) => *into = patch.clone(),
    }
}

pub(crate) fn named(name: &str) -> View {
    all().into_iter().find(|(case, _)| case == name).unwrap().1
}

pub(crate) fn leader() -> View {
    named("leader")
}

pub(crate) fn follower() -> View {
    named("follower")
}

/// The moment at which the examples are looked at.
pub(crate) fn now() -> jiff::Timestamp {
    "2026-03-14T03:10:12Z".parse().unwrap()
}
