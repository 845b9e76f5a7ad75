//! The text form of a comparison, for people: a block for each path, the answer at the end.

use std::io::{self, Write};

use super::difference::{Described, Difference, Sample, visible};
use super::policy::Class;
use super::{Answer, Change, Counts, Field, FieldChange, Summary};

/// Ranges of one file that are listed.
const MOST_RANGES: u64 = 8;
/// Characters of a value that are shown.
const MOST_CHARACTERS: usize = 96;

/// Writes the block of one difference.
///
/// # Errors
/// What the writer says.
pub fn write_difference(out: &mut dyn Write, difference: &Difference) -> io::Result<()> {
    let path = shown_path(&difference.path);
    match &difference.change {
        Change::Renamed { from, .. } => write!(out, "renamed  {} -> {path}", shown_path(from))?,
        change => write!(out, "{:<8} {path}", change.word())?,
    }
    if difference.change != Change::Changed
        && let Some(entry) = difference.entry()
    {
        let Described { kind, size, target, .. } = Described::of(entry);
        match (size, target) {
            (Some(size), _) => write!(out, "  ({kind}, {})", bytes(size))?,
            (_, Some(target)) => write!(out, "  ({kind} to {})", cut(&shown(&target)))?,
            _ => write!(out, "  ({kind})")?,
        }
    }
    if difference.class != Class::MustMatch {
        write!(out, "  [{}: {}]", difference.class.word(), difference.verdict.word())?;
    }
    writeln!(out)?;
    for change in difference.fields.iter().filter(|change| change.field != Field::Size) {
        write_field(out, difference, change)?;
    }
    Ok(())
}

fn write_field(out: &mut dyn Write, difference: &Difference, change: &FieldChange) -> io::Result<()> {
    if change.field == Field::Content {
        return write_content(out, difference);
    }
    let value = |value: &Option<String>| value.as_ref().map_or_else(|| "none".to_owned(), |value| cut(&shown(value)));
    let name = match &change.name {
        Some(name) => format!("{} {}", change.field.word(), cut(&shown(name))),
        None => change.field.word().to_owned(),
    };
    writeln!(out, "    {name:<8} {} -> {}", value(&change.a), value(&change.b))
}

fn write_content(out: &mut dyn Write, difference: &Difference) -> io::Result<()> {
    let size = |entry: &Option<crate::entry::Entry>| entry.as_ref().map_or(0, crate::entry::Entry::size);
    let (a, b) = (size(&difference.a), size(&difference.b));
    write!(out, "    content  ")?;
    if a == b {
        write!(out, "{} on both sides", bytes(a))?;
    } else {
        write!(out, "{} -> {}", bytes(a), bytes(b))?;
    }
    if difference.unsteady {
        return writeln!(out, "; it changed while it was compared, so its ranges are not known");
    }
    let Some(ranges) = &difference.ranges else { return writeln!(out) };
    let of_a = if ranges.a_bytes == ranges.b_bytes {
        bytes(ranges.a_bytes)
    } else {
        format!("{} of A, {} of B,", bytes(ranges.a_bytes), bytes(ranges.b_bytes))
    };
    match ranges.count {
        1 => writeln!(out, "; {of_a} in 1 range")?,
        count => writeln!(out, "; {of_a} in {count} ranges")?,
    }
    for range in ranges.iter().take(MOST_RANGES as usize) {
        let range = range?;
        let (a, b) = (range.a_offset, range.b_offset);
        match (range.a_bytes, range.b_bytes) {
            (0, put_in) => writeln!(out, "      at {a}: {} put in; in B at {b}", bytes(put_in))?,
            (taken, 0) => writeln!(out, "      at {a}: {} taken out; in B at {b}", bytes(taken))?,
            (x, y) if x == y && a == b => writeln!(out, "      at {a}: {}", bytes(x))?,
            (x, y) if x == y => writeln!(out, "      at {a}: {}; in B at {b}", bytes(x))?,
            (x, y) => writeln!(out, "      at {a}: {} became {}; in B at {b}", bytes(x), bytes(y))?,
        }
    }
    if ranges.count > MOST_RANGES {
        writeln!(out, "      and {} more ranges; --json lists all", ranges.count - MOST_RANGES)?;
    }
    difference
        .samples
        .iter()
        .try_for_each(|sample| dump(sample).iter().try_for_each(|line| writeln!(out, "      {}", line.text())))
}

/// A line of a hex dump.
pub(super) struct DumpLine {
    /// `A` or `B`.
    pub(super) side: char,
    /// Offset of the first byte.
    pub(super) offset: u64,
    pub(super) bytes: Vec<u8>,
    /// Which of them differ.
    differs: [bool; 16],
}

impl DumpLine {
    /// Whether a byte of it differs.
    pub(super) fn is_marked(&self, at: usize) -> bool {
        self.differs.get(at).copied().unwrap_or_default()
    }

    fn text(&self) -> String {
        let mut hex = String::new();
        let mut characters = String::new();
        for i in 0..16 {
            let mark = |here: bool| if here { '[' } else { ' ' };
            // A bracket opens before the first byte that differs, and closes behind the last.
            hex.push(match (i > 0 && self.is_marked(i - 1), self.is_marked(i)) {
                (true, false) => ']',
                (before, now) => mark(now && !before),
            });
            match self.bytes.get(i) {
                Some(byte) => {
                    hex.push_str(&format!("{byte:02x}"));
                    characters.push(if (0x20..0x7f).contains(byte) { char::from(*byte) } else { '.' });
                }
                None => hex.push_str("  "),
            }
        }
        hex.push(if self.is_marked(15) { ']' } else { ' ' });
        format!("{} {:>10x} {hex} {characters}", self.side, self.offset)
    }
}

/// The lines of a sample: A first, then B.
pub(super) fn dump(sample: &Sample) -> Vec<DumpLine> {
    let of = |side: char, offset: u64, bytes: &[u8], ranges: &[std::ops::Range<usize>]| -> Vec<DumpLine> {
        let line = |(i, bytes): (usize, &[u8])| {
            let start = 16 * i;
            let differs = std::array::from_fn(|at| ranges.iter().any(|range| range.contains(&(start + at))));
            DumpLine { side, offset: offset + start as u64, bytes: bytes.to_vec(), differs }
        };
        bytes.chunks(16).enumerate().map(line).collect()
    };
    let mut lines = of('A', sample.a_offset, &sample.a, &sample.a_differs);
    lines.extend(of('B', sample.b_offset, &sample.b, &sample.b_differs));
    lines
}

/// Writes the counts and the answer.
///
/// # Errors
/// What the writer says.
pub fn write_summary(out: &mut dyn Write, summary: &Summary, has_policy: bool) -> io::Result<()> {
    let Summary { added, removed, changed, renamed, .. } = summary;
    if added + removed + changed + renamed > 0 {
        writeln!(out)?;
        writeln!(out, "{added} added, {removed} removed, {changed} changed, {renamed} renamed")?;
    }
    if summary.ranges > 0 {
        writeln!(
            out,
            "{} with other content: {} of A and {} of B in {}",
            plural(summary.contents, "file"),
            bytes(summary.a_bytes),
            bytes(summary.b_bytes),
            plural(summary.ranges, "range"),
        )?;
    }
    if has_policy {
        for (class, counts) in [(Class::MustMatch, summary.must_match), (Class::MayAdvance, summary.may_advance)] {
            let Counts { identical, advanced, differs, missing, extra } = counts;
            let word = class.word();
            writeln!(
                out,
                "{word:<11}  {identical} identical, {advanced} advanced, {differs} differ, {missing} missing, {extra} extra"
            )?;
        }
        writeln!(out, "ignore       {} not looked at", summary.ignored)?;
    }
    writeln!(out, "{}", answer(summary))
}

/// The answer as a sentence.
pub(super) fn answer(summary: &Summary) -> String {
    let paths = plural(summary.must_match.identical + summary.may_advance.identical, "path");
    match summary.answer() {
        Answer::Same => format!("same: {paths} identical"),
        Answer::Allowed => {
            let Counts { advanced, extra, .. } = summary.may_advance;
            format!("they differ only where the policy allows: {advanced} advanced, {extra} extra; {paths} identical")
        }
        Answer::Differs => {
            let (must, may) = (summary.must_match, summary.may_advance);
            let (differs, missing) = (must.differs + may.differs, must.missing + may.missing);
            let allowed = match may.advanced + may.extra {
                0 => String::new(),
                allowed => format!("; {allowed} more as the policy allows"),
            };
            format!(
                "they differ: {differs} differ, {missing} missing, {} extra{allowed}; {paths} identical",
                must.extra
            )
        }
    }
}

pub(super) fn plural(count: u64, noun: &str) -> String {
    match count {
        1 => format!("1 {noun}"),
        count => format!("{count} {noun}s"),
    }
}

/// A number of bytes; short ones exactly.
pub(super) fn bytes(count: u64) -> String {
    match count {
        1 => "1 byte".to_owned(),
        count => format!("{count} bytes"),
    }
}

/// The path, or what stands for the directory itself.
pub fn shown_path(path: &[u8]) -> String {
    if path.is_empty() { ".".to_owned() } else { visible(path) }
}

/// A value that was made printable before.
pub(super) fn shown(text: &str) -> String {
    visible(text.replace('%', "\u{0}").as_bytes()).replace("%00", "%")
}

pub(super) fn cut(text: &str) -> String {
    if text.chars().count() <= MOST_CHARACTERS {
        return text.to_owned();
    }
    text.chars().take(MOST_CHARACTERS).chain(['…']).collect()
}
