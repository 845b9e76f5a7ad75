//! A difference: one path with all that is to be said about it.

use std::path::Path;

use super::fields::{Field, FieldChange, differing, time};
use super::pieces::{Content, Piece, Pieces, ReadAt};
use super::policy::{Class, Verdict};
use super::ranges::Ranges;
use super::side::{Sides, is_known};
use super::spool::Row;
use super::{DiffError, Scope, Summary, TreePair, within};
use crate::cancel::Cancel;
use crate::entry::{Entry, Kind, join, printable};
use crate::progress::Progress;

/// Samples of one file, and ranges that are looked at for them.
const MOST_SAMPLES: usize = 4;
const MOST_SAMPLED: usize = 64;
/// Bytes of a range that a sample shows, and bytes around it.
const SAMPLE_BYTES: u64 = 64;
const CONTEXT_BYTES: u64 = 16;

/// What happened to a path between A and B.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// It is only in B.
    Added,
    /// It is only in A.
    Removed,
    /// It is in both.
    Changed,
    /// Its content is in A under another path, which B does not have.
    Renamed {
        /// The path in A, with the name of its tree where there are several.
        from: Vec<u8>,
        /// The class of that path.
        from_class: Class,
    },
}

impl Change {
    /// The word for people and programs.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Removed => "removed",
            Self::Changed => "changed",
            Self::Renamed { .. } => "renamed",
        }
    }
}

/// Bytes around the start of a range, from both sides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Where the bytes of A begin, a multiple of 16.
    pub a_offset: u64,
    /// Bytes of A.
    pub a: Vec<u8>,
    /// Which of them differ.
    pub a_differs: Vec<std::ops::Range<usize>>,
    /// Where the bytes of B begin, a multiple of 16.
    pub b_offset: u64,
    /// Bytes of B.
    pub b: Vec<u8>,
    /// Which of them differ.
    pub b_differs: Vec<std::ops::Range<usize>>,
}

/// A path that is not the same on both sides.
#[derive(Debug)]
pub struct Difference {
    /// The path, with the name of its tree where there are several.
    pub path: Vec<u8>,
    /// What the policy says of it.
    pub class: Class,
    /// What is found of it.
    pub verdict: Verdict,
    /// What happened.
    pub change: Change,
    /// The entry in A.
    pub a: Option<Entry>,
    /// The entry in B.
    pub b: Option<Entry>,
    /// The fields that differ, of a path in both and of a renamed one.
    pub fields: Vec<FieldChange>,
    /// Where the contents differ; `None` when they do not, or when that was not looked for.
    pub ranges: Option<Ranges>,
    /// Bytes around the first ranges.
    pub samples: Vec<Sample>,
    /// The file changed while it was looked for.
    pub unsteady: bool,
}

/// How paths are shown.
pub struct Shown<'a> {
    pub(super) pairs: &'a [TreePair<'a>],
    pub(super) several: bool,
}

impl Shown<'_> {
    fn path(&self, tree: u32, path: &[u8]) -> Vec<u8> {
        let name = self.pairs[tree as usize].name.as_bytes();
        match (self.several, path) {
            (false, path) => path.to_vec(),
            (true, []) => name.to_vec(),
            (true, path) => join(name, path),
        }
    }
}

impl Difference {
    pub(super) fn of(row: Row, from: Option<Row>, shown: &Shown<'_>, scope: Scope) -> Self {
        let Row { tree, class, a, b } = row;
        let path = match b.as_ref().or(a.as_ref()) {
            Some(entry) => shown.path(tree, &entry.path),
            None => Vec::new(),
        };
        let mut difference = Self {
            path,
            class,
            verdict: Verdict::Differs,
            change: Change::Changed,
            a,
            b,
            fields: Vec::new(),
            ranges: None,
            samples: Vec::new(),
            unsteady: false,
        };
        if let (Some(Row { tree, class, a: Some(source), .. }), Some(b)) = (from, &difference.b) {
            let from = shown.path(tree, &source.path);
            difference.change = Change::Renamed { from, from_class: class };
            difference.verdict = Verdict::Extra;
            difference.fields = differing(&source, b, scope);
            // The hashes were compared when the pair was found; a side that is a directory does not keep them.
            difference.fields.retain(|change| change.field != Field::Content);
            difference.a = Some(source);
            return difference;
        }
        match (&difference.a, &difference.b) {
            (Some(a), Some(b)) => {
                difference.fields = differing(a, b, scope);
                let is_advance = difference.fields.iter().all(|change| change.field.changes_by_writing());
                if class == Class::MayAdvance && is_advance {
                    difference.verdict = Verdict::Advanced;
                }
            }
            (Some(_), None) => (difference.change, difference.verdict) = (Change::Removed, Verdict::Missing),
            (None, _) => (difference.change, difference.verdict) = (Change::Added, Verdict::Extra),
        }
        difference
    }

    /// Whether the bytes of a file in both differ.
    pub fn content_differs(&self) -> bool {
        self.change == Change::Changed && self.fields.iter().any(|change| change.field == Field::Content)
    }

    /// Whether the policy allows it.
    pub fn is_allowed(&self) -> bool {
        let source = match &self.change {
            Change::Renamed { from_class, .. } => Verdict::Missing.is_allowed(*from_class),
            _ => true,
        };
        source && self.verdict.is_allowed(self.class)
    }

    /// The entry to describe: that of B, or that of A when B has none.
    pub fn entry(&self) -> Option<&Entry> {
        self.b.as_ref().or(self.a.as_ref())
    }

    pub(super) fn count(&self, summary: &mut Summary) {
        summary.count(self.class, self.verdict);
        match &self.change {
            Change::Added => summary.added += 1,
            Change::Removed => summary.removed += 1,
            Change::Changed => summary.changed += 1,
            Change::Renamed { from_class, .. } => {
                summary.renamed += 1;
                summary.count(*from_class, Verdict::Missing);
            }
        }
        summary.contents += u64::from(self.content_differs());
        if let Some(ranges) = &self.ranges {
            summary.ranges += ranges.count;
            summary.a_bytes += ranges.a_bytes;
            summary.b_bytes += ranges.b_bytes;
        }
    }

    pub(super) fn find_ranges(
        &mut self,
        sides: &Sides<'_>,
        samples: bool,
        scratch: &Path,
        cancel: &Cancel,
        progress: &Progress,
    ) -> Result<(), DiffError> {
        let (Some(a), Some(b)) = (&self.a, &self.b) else { return Ok(()) };
        let find = || -> Result<_, DiffError> {
            let (content_a, content_b) = (Content::open(&sides.a, a)?, Content::open(&sides.b, b)?);
            let ranges = within::differing(&content_a, &content_b, scratch, cancel, progress)?;
            let samples = if samples { sample(&content_a, &content_b, &ranges)? } else { Vec::new() };
            content_a.check_unchanged()?;
            content_b.check_unchanged()?;
            Ok((ranges, samples))
        };
        match find() {
            Ok((ranges, samples)) => (self.ranges, self.samples) = (Some(ranges), samples),
            Err(DiffError::Changed { .. }) => self.unsteady = true,
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

/// Bytes around the first ranges. Ranges that lie close together share a sample.
fn sample(a: &Content<'_>, b: &Content<'_>, ranges: &Ranges) -> Result<Vec<Sample>, DiffError> {
    let mut samples: Vec<Sample> = Vec::new();
    for range in ranges.iter().take(MOST_SAMPLED) {
        let range = range.map_err(DiffError::Scratch)?;
        if let Some(last) = samples.last_mut()
            && let Some(a_differs) = inside(range.a_offset, range.a_bytes, last.a_offset, last.a.len())
            && let Some(b_differs) = inside(range.b_offset, range.b_bytes, last.b_offset, last.b.len())
        {
            last.a_differs.push(a_differs);
            last.b_differs.push(b_differs);
            continue;
        }
        if samples.len() == MOST_SAMPLES {
            break;
        }
        let (a_offset, a) = around(a, range.a_offset, range.a_bytes)?;
        let (b_offset, b) = around(b, range.b_offset, range.b_bytes)?;
        let of_a = inside(range.a_offset, range.a_bytes, a_offset, a.len());
        let of_b = inside(range.b_offset, range.b_bytes, b_offset, b.len());
        let (a_differs, b_differs) = (of_a.into_iter().collect(), of_b.into_iter().collect());
        samples.push(Sample { a_offset, a, a_differs, b_offset, b, b_differs });
    }
    Ok(samples)
}

/// Which bytes of a sample a range covers, if it begins in it.
fn inside(offset: u64, bytes: u64, start: u64, len: usize) -> Option<std::ops::Range<usize>> {
    let first = usize::try_from(offset.checked_sub(start)?).ok().filter(|first| *first <= len)?;
    Some(first..(first as u64).saturating_add(bytes).min(len as u64) as usize)
}

fn around(content: &Content<'_>, offset: u64, bytes: u64) -> Result<(u64, Vec<u8>), DiffError> {
    let start = offset.saturating_sub(CONTEXT_BYTES) / 16 * 16;
    let end = (offset + bytes.min(SAMPLE_BYTES) + CONTEXT_BYTES).next_multiple_of(16).min(content.size());
    let mut buffer = vec![0; end.saturating_sub(start) as usize];
    let mut pieces: Vec<Piece> = Vec::new();
    let mut all = content.pieces();
    while let Some(piece) = all.next()?.filter(|piece| piece.offset < end) {
        if piece.end() > start {
            pieces.push(piece);
        }
    }
    content.within(&pieces).read_at(start, &mut buffer)?;
    Ok((start, buffer))
}

/// What a path is, for reports.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub(super) struct Described {
    #[serde(rename = "type")]
    pub(super) kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) mode: Option<String>,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) mtime: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) size: Option<u64>,
    /// The content hash, where it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) content: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) target: Option<String>,
}

impl Described {
    pub(super) fn of(entry: &Entry) -> Self {
        let (mut size, mut content, mut target) = (None, None, None);
        match &entry.kind {
            Kind::File { size: bytes, content: hash, .. } => {
                size = Some(*bytes);
                content = is_known(entry).then(|| hash.to_string());
            }
            Kind::Symlink { target: to } => target = Some(printable(to)),
            _ => {}
        }
        let mode = (!matches!(entry.kind, Kind::Symlink { .. })).then(|| format!("{:04o}", entry.mode));
        let (kind, uid, gid, mtime) = (entry.kind.word(), entry.uid, entry.gid, time(entry));
        Self { kind, mode, uid, gid, mtime, size, content, target }
    }
}

/// A path as text that cannot mislead: [`printable`], and characters that do not show or turn text around as `%XX`.
pub(super) fn visible(bytes: &[u8]) -> String {
    let text = printable(bytes);
    if !text.contains(is_invisible) {
        return text;
    }
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if is_invisible(c) {
            let mut utf8 = [0; 4];
            c.encode_utf8(&mut utf8).bytes().for_each(|byte| shown.push_str(&format!("%{byte:02X}")));
        } else {
            shown.push(c);
        }
    }
    shown
}

fn is_invisible(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}
