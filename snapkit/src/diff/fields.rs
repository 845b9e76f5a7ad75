//! Fields: what of two entries differs, with the old and the new value.

use std::collections::BTreeMap;

use serde::Serialize;

use super::Scope;
use crate::entry::{Entry, Kind, printable};
use crate::id::hex;

/// A field of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Field {
    /// What kind of thing it is.
    Type,
    /// Permission bits.
    Mode,
    /// Length of a file.
    Size,
    /// Bytes of a file.
    Content,
    /// What a symlink points to.
    Target,
    /// Numbers of a device.
    Rdev,
    /// Numeric owner.
    Uid,
    /// Numeric group.
    Gid,
    /// Time of last modification.
    Mtime,
    /// An extended attribute.
    Xattr,
    /// The hard-link group, of all members but the first.
    Link,
}

impl Field {
    /// The word for people and programs.
    pub fn word(self) -> &'static str {
        match self {
            Self::Type => "type",
            Self::Mode => "mode",
            Self::Size => "size",
            Self::Content => "content",
            Self::Target => "target",
            Self::Rdev => "rdev",
            Self::Uid => "uid",
            Self::Gid => "gid",
            Self::Mtime => "mtime",
            Self::Xattr => "xattr",
            Self::Link => "link",
        }
    }

    /// Whether writing to a path changes it.
    pub(super) fn changes_by_writing(self) -> bool {
        matches!(self, Self::Size | Self::Content | Self::Target | Self::Mtime)
    }
}

/// A field that differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FieldChange {
    /// Which one.
    pub field: Field,
    /// The name of an extended attribute, printable.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its value in A; `None` when there is none, or when it was not needed.
    pub a: Option<String>,
    /// Its value in B.
    pub b: Option<String>,
}

/// A time as text; as seconds when no calendar holds it.
pub(super) fn time(entry: &Entry) -> String {
    let time = jiff::Timestamp::new(entry.mtime_s, entry.mtime_ns as i32);
    time.map_or_else(|_| format!("{}.{:09}", entry.mtime_s, entry.mtime_ns), |time| time.to_string())
}

/// The fields that count and differ, in a fixed order.
pub(super) fn differing(a: &Entry, b: &Entry, scope: Scope) -> Vec<FieldChange> {
    let mut found = Vec::new();
    let mut put = |field: Field, a: String, b: String| {
        found.push(FieldChange { field, name: None, a: Some(a), b: Some(b) });
    };
    let is_same_kind = a.kind.code() == b.kind.code();
    if !is_same_kind {
        put(Field::Type, a.kind.word().to_owned(), b.kind.word().to_owned());
    }
    let is_link = |entry: &Entry| matches!(entry.kind, Kind::Symlink { .. });
    if a.mode != b.mode && !is_link(a) && !is_link(b) {
        put(Field::Mode, format!("{:04o}", a.mode), format!("{:04o}", b.mode));
    }
    match (&a.kind, &b.kind) {
        (Kind::File { size: x, content: c, .. }, Kind::File { size: y, content: d, .. }) => {
            if x != y {
                put(Field::Size, x.to_string(), y.to_string());
            }
            if x != y || c != d {
                let hash = |entry: &Entry| super::side::is_known(entry).then(|| content_of(entry)).flatten();
                found.push(FieldChange { field: Field::Content, name: None, a: hash(a), b: hash(b) });
            }
        }
        (Kind::Symlink { target: x }, Kind::Symlink { target: y }) if x != y => {
            put(Field::Target, printable(x), printable(y));
        }
        (
            Kind::CharDevice { rdev: x } | Kind::BlockDevice { rdev: x },
            Kind::CharDevice { rdev: y } | Kind::BlockDevice { rdev: y },
        ) if x != y => put(Field::Rdev, format!("{}:{}", x.0, x.1), format!("{}:{}", y.0, y.1)),
        _ => {}
    }
    if scope == Scope::Full {
        beyond_content(a, b, &mut found);
    }
    found
}

/// The content hash of a file.
pub(super) fn content_of(entry: &Entry) -> Option<String> {
    match &entry.kind {
        Kind::File { content, .. } => Some(content.to_string()),
        _ => None,
    }
}

/// What the full digest covers and the content digest does not.
fn beyond_content(a: &Entry, b: &Entry, found: &mut Vec<FieldChange>) {
    let mut put = |field: Field, name: Option<String>, a: Option<String>, b: Option<String>| {
        found.push(FieldChange { field, name, a, b });
    };
    if a.uid != b.uid {
        put(Field::Uid, None, Some(a.uid.to_string()), Some(b.uid.to_string()));
    }
    if a.gid != b.gid {
        put(Field::Gid, None, Some(a.gid.to_string()), Some(b.gid.to_string()));
    }
    if (a.mtime_s, a.mtime_ns) != (b.mtime_s, b.mtime_ns) {
        put(Field::Mtime, None, Some(time(a)), Some(time(b)));
    }
    if a.xattrs != b.xattrs {
        let mut names: BTreeMap<&[u8], [Option<&[u8]>; 2]> = BTreeMap::new();
        for (side, entry) in [a, b].into_iter().enumerate() {
            for (name, value) in &entry.xattrs {
                names.entry(name).or_default()[side] = Some(value);
            }
        }
        for (name, [x, y]) in names.into_iter().filter(|(_, [x, y])| x != y) {
            put(Field::Xattr, Some(printable(name)), x.map(printable), y.map(printable));
        }
    }
    let link = |entry: &Entry| entry.group.filter(|_| entry.links_back()).map(|group| hex(&group));
    if link(a) != link(b) {
        put(Field::Link, None, link(a), link(b));
    }
}
