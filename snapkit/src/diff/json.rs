//! The JSON form of a comparison: one object, written as the differences come.
//!
//! Its fields: `docs/json.md`. The same two states give the same bytes.

use std::io::{self, Write};

use serde::ser::{Error, SerializeSeq};
use serde::{Serialize, Serializer};

use super::difference::{Described, Difference, Sample};
use super::fields::FieldChange;
use super::policy::{Class, Verdict};
use super::ranges::Ranges;
use super::{Answer, Change, Counts, Summary};
use crate::entry::printable;
use crate::id::hex;

/// One path that differs.
#[derive(Serialize)]
struct Item<'d> {
    path: String,
    change: &'static str,
    class: Class,
    verdict: Verdict,
    allowed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<From>,
    a: Option<Described>,
    b: Option<Described>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    fields: &'d [FieldChange],
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    unsteady: bool,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "ranges")]
    ranges: Option<&'d Ranges>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    hex: Vec<Hex>,
}

/// Where a renamed file was.
#[derive(Serialize)]
struct From {
    path: String,
    class: Class,
    verdict: Verdict,
}

/// Bytes around the start of a range.
#[derive(Serialize)]
struct Hex {
    a_offset: u64,
    a: String,
    b_offset: u64,
    b: String,
}

impl Hex {
    fn of(sample: &Sample) -> Self {
        let Sample { a_offset, a, b_offset, b, .. } = sample;
        Self { a_offset: *a_offset, a: hex(a), b_offset: *b_offset, b: hex(b) }
    }
}

fn ranges<S: Serializer>(ranges: &Option<&Ranges>, to: S) -> Result<S::Ok, S::Error> {
    let mut list = to.serialize_seq(None)?;
    for range in ranges.iter().flat_map(|ranges| ranges.iter()) {
        list.serialize_element(&range.map_err(S::Error::custom)?.numbers())?;
    }
    list.end()
}

impl<'d> Item<'d> {
    fn of(difference: &'d Difference) -> Self {
        let from = match &difference.change {
            Change::Renamed { from, from_class } => {
                Some(From { path: printable(from), class: *from_class, verdict: Verdict::Missing })
            }
            _ => None,
        };
        Self {
            path: printable(&difference.path),
            change: difference.change.word(),
            class: difference.class,
            verdict: difference.verdict,
            allowed: difference.is_allowed(),
            from,
            a: difference.a.as_ref().map(Described::of),
            b: difference.b.as_ref().map(Described::of),
            fields: &difference.fields,
            unsteady: difference.unsteady,
            ranges: difference.ranges.as_ref(),
            hex: difference.samples.iter().map(Hex::of).collect(),
        }
    }
}

/// What comes behind the differences.
#[derive(Serialize)]
struct Totals {
    answer: Answer,
    paths: Paths,
    bytes: Bytes,
    classes: Classes,
    ignored: u64,
}

#[derive(Serialize)]
struct Paths {
    added: u64,
    removed: u64,
    changed: u64,
    renamed: u64,
}

#[derive(Serialize)]
struct Bytes {
    files: u64,
    ranges: u64,
    a: u64,
    b: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Classes {
    must_match: Counts,
    may_advance: Counts,
}

/// Writes the object piece by piece.
pub struct JsonWriter<W> {
    out: W,
    has_items: bool,
}

impl<W: Write> JsonWriter<W> {
    /// Begins the object: its schema, and the fields of `head`, an object itself.
    ///
    /// # Errors
    /// What the writer says.
    pub fn new(mut out: W, schema: &str, head: &serde_json::Map<String, serde_json::Value>) -> io::Result<Self> {
        out.write_all(b"{\"schema\":")?;
        serde_json::to_writer(&mut out, schema)?;
        for (name, value) in head {
            out.write_all(b",")?;
            serde_json::to_writer(&mut out, name)?;
            out.write_all(b":")?;
            serde_json::to_writer(&mut out, value)?;
        }
        out.write_all(b",\"differences\":[")?;
        Ok(Self { out, has_items: false })
    }

    /// Adds a difference.
    ///
    /// # Errors
    /// What the writer says.
    pub fn push(&mut self, difference: &Difference) -> io::Result<()> {
        if std::mem::replace(&mut self.has_items, true) {
            self.out.write_all(b",")?;
        }
        Ok(serde_json::to_writer(&mut self.out, &Item::of(difference))?)
    }

    /// Ends the object, and the line.
    ///
    /// # Errors
    /// What the writer says.
    pub fn finish(mut self, summary: &Summary) -> io::Result<()> {
        let totals = Totals {
            answer: summary.answer(),
            paths: Paths {
                added: summary.added,
                removed: summary.removed,
                changed: summary.changed,
                renamed: summary.renamed,
            },
            bytes: Bytes { files: summary.contents, ranges: summary.ranges, a: summary.a_bytes, b: summary.b_bytes },
            classes: Classes { must_match: summary.must_match, may_advance: summary.may_advance },
            ignored: summary.ignored,
        };
        self.out.write_all(b"],\"summary\":")?;
        serde_json::to_writer(&mut self.out, &totals)?;
        self.out.write_all(b"}\n")?;
        self.out.flush()
    }
}
