//! The rules for the parts of a root document: docs/format/root.md, "Payload".

use super::{Key, PAYLOAD_TYPE, ROLES, Role, RootDocument, WriterRange};
use crate::document::record::{kind_of, payload_type};
use crate::keys::{PublicKey, excerpt};
use crate::refusal::{Class, Refusal};

pub(super) fn check_type(found: &str, object: &str) -> Result<(), Refusal> {
    if found == PAYLOAD_TYPE {
        return Ok(());
    }
    Err(Refusal::new(Class::Type, object, PAYLOAD_TYPE, excerpt(found)))
}

pub(super) fn check_key(key: &Key, object: &str) -> Result<PublicKey, Refusal> {
    for name in [&key.keytype, &key.scheme] {
        if name != "ed25519" {
            return Err(Refusal::new(Class::Alg, object, "keys of type and scheme ed25519", excerpt(name)));
        }
    }
    let public = PublicKey::from_hex(&key.public).map_err(|refusal| {
        Refusal::new(refusal.class(), object, refusal.expected(), format!("in key {}: {}", key.id, refusal.found()))
    })?;
    if public.id() != key.id {
        return Err(Refusal::new(Class::KeyId, object, format!("key id {}", public.id()), key.id));
    }
    Ok(public)
}

pub(super) fn check_role(role: &Role, keys: &[Key], object: &str) -> Result<(), Refusal> {
    let name = &role.name;
    let refuse = |class, expected: String, found: String| Err(Refusal::new(class, object, expected, found));
    if !ROLES.contains(&name.as_str()) {
        return refuse(Class::Newer, format!("the roles {}", ROLES.join(", ")), excerpt(name));
    }
    // A key listed twice would count twice for a careless reader.
    if !role.keys.is_sorted_by(|a, b| a < b) {
        return refuse(
            Class::Threshold,
            format!("the keys of role {name} ascending, each once"),
            "another order".into(),
        );
    }
    if role.threshold == 0 || role.threshold as usize > role.keys.len() {
        let expected = format!("a threshold of role {name} from 1 to {}", role.keys.len());
        return refuse(Class::Threshold, expected, role.threshold.to_string());
    }
    match role.keys.iter().find(|id| keys.iter().all(|key| key.id != **id)) {
        Some(id) => refuse(Class::Root, format!("only listed keys in role {name}"), id.to_string()),
        None => Ok(()),
    }
}

pub(super) fn check_writers(document: &RootDocument, object: &str) -> Result<(), Refusal> {
    let refuse = |expected: &str, found: String| Err(Refusal::new(Class::Root, object, expected, found));
    let writer = document.roles.iter().find(|role| role.name == "writer");
    let keys = writer.map_or(&[][..], |role| &role.keys[..]);
    for range in &document.writers {
        if !keys.contains(&range.key) {
            return refuse("only keys of the role writer in `writers`", range.key.to_string());
        }
        if range.until_seq.is_some_and(|until| until <= range.from_seq) {
            return refuse("`until_seq` above `from_seq`", format!("an empty range of key {}", range.key));
        }
    }
    let apart = |a: &WriterRange, b: &WriterRange| {
        a.key < b.key || a.key == b.key && a.until_seq.is_some_and(|until| until <= b.from_seq)
    };
    if !document.writers.is_sorted_by(apart) {
        return refuse("`writers` by ascending key and start, without overlap", "another order or an overlap".into());
    }
    match keys.iter().find(|key| document.writers.iter().all(|range| range.key != **key)) {
        Some(key) => refuse("an entry in `writers` for each key of the role writer", format!("none for {key}")),
        None => Ok(()),
    }
}

pub(super) fn check_kept(document: &RootDocument, object: &str) -> Result<(), Refusal> {
    let Some(kept) = &document.kept else {
        return Ok(());
    };
    let refuse = |class, expected: &str, found: String| Err(Refusal::new(class, object, expected, found));
    if kept.is_empty() {
        return refuse(Class::Json, "no `kept` or one with records", "an empty one".into());
    }
    if let Some(record) = kept.iter().find(|record| kind_of(&payload_type(&record.kind)).is_none()) {
        return refuse(Class::Root, "kinds of records in `kept`", excerpt(&record.kind));
    }
    // Slot 0 is genesis, which the first root stands for.
    if kept[0].seq == 0 || !kept.is_sorted_by(|a, b| a.seq < b.seq) {
        return refuse(Class::Root, "`kept` by ascending sequence number from 1, each once", "another order".into());
    }
    Ok(())
}
