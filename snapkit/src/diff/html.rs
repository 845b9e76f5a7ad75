//! The page of a comparison: one HTML file that needs nothing else, and works without a network.
//!
//! Every text from a state goes through `Escaped`, so a name cannot become markup or script. The rows are plain markup;
//! the script in `page.js` filters them. Rows and ranges are capped, and the page says so.

use std::fmt;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Seek, Write};
use std::path::{Path, PathBuf};

use super::difference::{Described, Difference};
use super::policy::Class;
use super::ranges::Ranges;
use super::text::{DumpLine, answer, bytes, cut, dump, plural, shown, shown_path};
use super::{Change, Counts, Field, Summary};
use crate::entry::Entry;

/// Differences that get a row.
const MOST_ROWS: u64 = 5_000;
/// Ranges of one file that are listed; its picture shows all.
const MOST_RANGES: usize = 50;
/// Places that a picture tells apart.
const BUCKETS: usize = 400;

/// What the page says above the rows.
#[derive(Clone, Debug)]
pub struct Titles {
    /// What A is.
    pub a: String,
    /// What B is.
    pub b: String,
    /// Whether a policy decided.
    pub has_policy: bool,
}

/// A text in which nothing is markup.
struct Escaped<'t>(&'t str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in self.0.split_inclusive(['&', '<', '>', '"', '\'']) {
            let (plain, special) = match part.char_indices().next_back() {
                Some((at, c @ ('&' | '<' | '>' | '"' | '\''))) => (&part[..at], Some(c)),
                _ => (part, None),
            };
            f.write_str(plain)?;
            f.write_str(match special {
                Some('&') => "&amp;",
                Some('<') => "&lt;",
                Some('>') => "&gt;",
                Some('"') => "&quot;",
                Some(_) => "&#39;",
                None => "",
            })?;
        }
        Ok(())
    }
}

/// Takes differences and writes the page at the end, in one step.
pub struct HtmlWriter {
    path: PathBuf,
    rows: BufWriter<File>,
    pushed: u64,
}

impl HtmlWriter {
    /// A page that will be at `path`.
    ///
    /// # Errors
    /// When there is no room for scratch files, or no directory for the page.
    pub fn create(path: &Path, scratch: &Path) -> io::Result<Self> {
        // Found out now and not after the work.
        tempfile::tempfile_in(directory_of(path))?;
        std::fs::create_dir_all(scratch)?;
        Ok(Self { path: path.to_owned(), rows: BufWriter::new(tempfile::tempfile_in(scratch)?), pushed: 0 })
    }

    /// Adds a difference.
    ///
    /// # Errors
    /// What the scratch file says.
    pub fn push(&mut self, difference: &Difference) -> io::Result<()> {
        self.pushed += 1;
        if self.pushed > MOST_ROWS {
            return Ok(());
        }
        write_row(&mut self.rows, difference)
    }

    /// Writes the page.
    ///
    /// # Errors
    /// When the page cannot be written.
    pub fn finish(self, titles: &Titles, summary: &Summary) -> io::Result<()> {
        let mut rows = self.rows.into_inner().map_err(io::IntoInnerError::into_error)?;
        rows.rewind()?;
        let file = tempfile::Builder::new()
            .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666))
            .tempfile_in(directory_of(&self.path))?;
        let mut out = BufWriter::new(&file);
        write_head(&mut out, titles, summary)?;
        if self.pushed > MOST_ROWS {
            writeln!(
                out,
                "<p class=note>Only the first {MOST_ROWS} of {} differences are on this page. \
                 <code>snapkit diff --json</code> lists all.</p>",
                self.pushed
            )?;
        }
        writeln!(out, "<main id=rows>")?;
        io::copy(&mut BufReader::new(rows), &mut out)?;
        writeln!(out, "</main>")?;
        if self.pushed == 0 {
            writeln!(out, "<p class=note>No path differs.</p>")?;
        }
        writeln!(out, "<script>\n{}</script>\n</body>\n</html>", include_str!("page.js"))?;
        out.flush()?;
        drop(out);
        file.persist(&self.path)?;
        Ok(())
    }
}

fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn write_head(out: &mut impl Write, titles: &Titles, summary: &Summary) -> io::Result<()> {
    let answer_word = summary.answer().word();
    writeln!(
        out,
        "<!doctype html>\n<html lang=en>\n<head>\n<meta charset=utf-8>\n\
         <meta http-equiv=Content-Security-Policy content=\"default-src 'none'; style-src 'unsafe-inline'; \
         script-src 'unsafe-inline'; base-uri 'none'; form-action 'none'\">\n\
         <meta name=viewport content=\"width=device-width, initial-scale=1\">\n\
         <meta name=color-scheme content=\"light dark\">\n\
         <title>snapkit diff: {answer_word}</title>\n<style>\n{}</style>\n</head>\n<body>",
        include_str!("page.css")
    )?;
    writeln!(out, "<header>\n<h1 class={answer_word}>{}</h1>", Escaped(&sentence(&answer(summary))))?;
    writeln!(
        out,
        "<dl class=sides><dt>A</dt><dd><bdi>{}</bdi></dd><dt>B</dt><dd><bdi>{}</bdi></dd></dl>",
        Escaped(&shown(&titles.a)),
        Escaped(&shown(&titles.b))
    )?;
    if summary.ranges > 0 {
        writeln!(
            out,
            "<p>{} with other content: {} of A and {} of B in {}. \
             In the pictures the upper bar is the file in A, the lower one in B; red is where they differ.</p>",
            plural(summary.contents, "file"),
            bytes(summary.a_bytes),
            bytes(summary.b_bytes),
            plural(summary.ranges, "range")
        )?;
    }
    if titles.has_policy {
        write_classes(out, summary)?;
    }
    writeln!(out, "</header>\n<form id=filter>")?;
    writeln!(
        out,
        "<input id=q type=search placeholder=\"Search paths and fields\" aria-label=\"Search paths and fields\" \
         autocomplete=off spellcheck=false>\n<div class=chips>"
    )?;
    let kinds = [
        ("changed", summary.changed),
        ("added", summary.added),
        ("removed", summary.removed),
        ("renamed", summary.renamed),
    ];
    for (kind, count) in kinds.into_iter().filter(|(_, count)| *count > 0) {
        writeln!(out, "<button type=button class={kind} data-kind={kind} aria-pressed=true>{kind} {count}</button>")?;
    }
    if titles.has_policy {
        writeln!(out, "<button type=button data-allowed aria-pressed=true>allowed by the policy</button>")?;
    }
    writeln!(out, "<button type=button id=open>open all</button></div>\n<p id=shown aria-live=polite></p>\n</form>")
}

fn sentence(text: &str) -> String {
    let mut characters = text.chars();
    characters.next().map_or_else(String::new, |first| first.to_uppercase().chain(characters).collect())
}

fn write_classes(out: &mut impl Write, summary: &Summary) -> io::Result<()> {
    writeln!(out, "<table class=classes><tr><th>class<th>identical<th>advanced<th>differs<th>missing<th>extra</tr>")?;
    for (class, counts) in [(Class::MustMatch, summary.must_match), (Class::MayAdvance, summary.may_advance)] {
        let Counts { identical, advanced, differs, missing, extra } = counts;
        writeln!(
            out,
            "<tr><th>{}<td>{identical}<td>{advanced}<td>{differs}<td>{missing}<td>{extra}</tr>",
            class.word()
        )?;
    }
    writeln!(out, "<tr><th>ignore<td colspan=5>{} not looked at</tr></table>", summary.ignored)
}

fn write_row(out: &mut impl Write, difference: &Difference) -> io::Result<()> {
    let kind = difference.change.word();
    let allowed = if difference.is_allowed() { "yes" } else { "no" };
    write!(
        out,
        "<details class=row data-kind={kind} data-allowed={allowed}><summary><span class=\"tag {kind}\">{kind}</span> \
         <bdi class=path>"
    )?;
    if let Change::Renamed { from, .. } = &difference.change {
        write!(out, "{} → ", Escaped(&shown_path(from)))?;
    }
    write!(out, "{}</bdi>", Escaped(&shown_path(&difference.path)))?;
    write!(out, " <span class=what>{}</span>", Escaped(&what(difference)))?;
    if difference.class != Class::MustMatch {
        write!(out, " <span class=class>{}: {}</span>", difference.class.word(), difference.verdict.word())?;
    }
    if let (Some(ranges), Some(a), Some(b)) = (&difference.ranges, &difference.a, &difference.b) {
        write_picture(out, ranges, a.size(), b.size())?;
    }
    writeln!(out, "</summary>")?;
    write_details(out, difference)?;
    writeln!(out, "</details>")
}

/// In a few words: the fields of a path that changed, what a path is otherwise.
fn what(difference: &Difference) -> String {
    let mut words: Vec<String> = Vec::new();
    if difference.change != Change::Changed
        && let Some(entry) = difference.entry()
    {
        words.push(match Described::of(entry).size {
            Some(size) => bytes(size),
            None => entry.kind.word().to_owned(),
        });
    }
    for change in &difference.fields {
        let word = change.field.word();
        if change.field != Field::Size && words.last().is_none_or(|last| last != word) {
            words.push(word.to_owned());
        }
    }
    words.join(" · ")
}

fn write_details(out: &mut impl Write, difference: &Difference) -> io::Result<()> {
    writeln!(out, "<div class=scroll><table class=fields><tr><th>field<th>A<th>B</tr>")?;
    let value = |value: &Option<String>| match value {
        Some(value) => format!("<td><bdi>{}</bdi>", Escaped(&cut(&shown(value)))),
        None => "<td class=none>–".to_owned(),
    };
    if difference.change == Change::Changed {
        for change in &difference.fields {
            let name = match &change.name {
                Some(name) => format!("{} {}", change.field.word(), cut(&shown(name))),
                None => change.field.word().to_owned(),
            };
            writeln!(out, "<tr><th>{}{}{}</tr>", Escaped(&name), value(&change.a), value(&change.b))?;
        }
    } else {
        let described = |entry: &Option<Entry>| entry.as_ref().map(Described::of);
        let (a, b) = (described(&difference.a), described(&difference.b));
        type Get = fn(&Described) -> Option<String>;
        let rows: [(&str, Get); 8] = [
            ("type", |d| Some(d.kind.to_owned())),
            ("mode", |d| d.mode.clone()),
            ("uid", |d| Some(d.uid.to_string())),
            ("gid", |d| Some(d.gid.to_string())),
            ("mtime", |d| Some(d.mtime.clone())),
            ("size", |d| d.size.map(|size| size.to_string())),
            ("content", |d| d.content.clone()),
            ("target", |d| d.target.clone()),
        ];
        for (name, get) in rows {
            let (a, b) = (a.as_ref().and_then(get), b.as_ref().and_then(get));
            if a.is_some() || b.is_some() {
                writeln!(out, "<tr><th>{name}{}{}</tr>", value(&a), value(&b))?;
            }
        }
    }
    writeln!(out, "</table></div>")?;
    if difference.unsteady {
        writeln!(out, "<p class=note>It changed while it was compared, so its ranges are not known.</p>")?;
    }
    if let Some(ranges) = &difference.ranges {
        write_ranges(out, ranges)?;
    }
    write_samples(out, difference)
}

fn write_ranges(out: &mut impl Write, ranges: &Ranges) -> io::Result<()> {
    writeln!(
        out,
        "<div class=scroll><table class=ranges><tr><th>{}<th>at in A<th>bytes<th>at in B<th>bytes</tr>",
        plural(ranges.count, "range")
    )?;
    for (i, range) in ranges.iter().take(MOST_RANGES).enumerate() {
        let [a_offset, a_bytes, b_offset, b_bytes] = range?.numbers();
        writeln!(out, "<tr><td>{}<td>{a_offset}<td>{a_bytes}<td>{b_offset}<td>{b_bytes}</tr>", i + 1)?;
    }
    writeln!(out, "</table></div>")?;
    if ranges.count > MOST_RANGES as u64 {
        let more = ranges.count - MOST_RANGES as u64;
        writeln!(out, "<p class=note>{} more; <code>snapkit diff --json</code> lists all.</p>", plural(more, "range"))?;
    }
    Ok(())
}

fn write_samples(out: &mut impl Write, difference: &Difference) -> io::Result<()> {
    for sample in &difference.samples {
        write!(out, "<pre class=hex>")?;
        for line in dump(sample) {
            write_dump_line(out, &line)?;
        }
        writeln!(out, "</pre>")?;
    }
    Ok(())
}

fn write_dump_line(out: &mut impl Write, line: &DumpLine) -> io::Result<()> {
    write!(out, "<span class={}>{} {:>10x} ", line.side.to_ascii_lowercase(), line.side, line.offset)?;
    for i in 0..16 {
        match line.bytes.get(i) {
            Some(byte) if line.is_marked(i) => write!(out, " <mark>{byte:02x}</mark>")?,
            Some(byte) => write!(out, " {byte:02x}")?,
            None => write!(out, "   ")?,
        }
    }
    let character = |byte: &u8| if (0x20..0x7f).contains(byte) { char::from(*byte) } else { '.' };
    let characters: String = line.bytes.iter().map(character).collect();
    write!(out, "  {}</span>", Escaped(&characters))
}

/// Where in a file bytes differ: a bar for A and one for B, to the same scale.
fn write_picture(out: &mut impl Write, ranges: &Ranges, a_bytes: u64, b_bytes: u64) -> io::Result<()> {
    let longest = a_bytes.max(b_bytes).max(1);
    let mut marks = [[false; BUCKETS]; 2];
    for range in ranges.iter() {
        let range = range?;
        let sides = [(range.a_offset, range.a_bytes), (range.b_offset, range.b_bytes)];
        for (marks, (start, len)) in marks.iter_mut().zip(sides) {
            let bucket = |at: u64| (u128::from(at) * BUCKETS as u128 / u128::from(longest)) as usize;
            let from = bucket(start).min(BUCKETS - 1);
            let to = bucket(start + len.saturating_sub(1)).clamp(from, BUCKETS - 1);
            marks[from..=to].fill(true);
        }
    }
    let label = format!("{} in {} of A and {} of B", plural(ranges.count, "range"), bytes(a_bytes), bytes(b_bytes));
    write!(
        out,
        "<svg class=picture viewBox=\"0 0 {BUCKETS} 14\" preserveAspectRatio=none role=img aria-label=\"{label}\">\
         <title>{label}</title>"
    )?;
    for (marks, y, len) in [(marks[0], 0, a_bytes), (marks[1], 8, b_bytes)] {
        let width = len as f64 * BUCKETS as f64 / longest as f64;
        write!(out, "<rect class=file x=0 y={y} width={width:.1} height=6 />")?;
        let mut at = 0;
        while at < BUCKETS {
            let run = marks[at..].iter().take_while(|mark| **mark).count();
            if run > 0 {
                write!(out, "<rect class=mark x={at} y={y} width={run} height=6 />")?;
            }
            at += run.max(1);
        }
    }
    write!(out, "</svg>")
}
