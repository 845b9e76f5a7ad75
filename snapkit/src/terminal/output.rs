//! Output: results to stdout, problems to stderr, as text or as JSON.
//!
//! A command's result is one [`Report`]. With `--json` it is one object on one line whose first
//! field is `schema`; `docs/json.md` describes each schema.

use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use serde::Serialize;

/// A result that can be printed as text and as JSON.
pub trait Report: Serialize {
    /// The name and version of the JSON form, such as `snapkit.doctor/1`.
    const SCHEMA: &'static str;

    /// Writes the text form.
    ///
    /// # Errors
    /// Whatever writing to `out` gives.
    fn write_text(&self, out: &mut dyn Write) -> io::Result<()>;
}

/// Where a command prints.
#[derive(Debug)]
pub struct Output {
    json: bool,
    quiet: bool,
}

#[derive(Serialize)]
struct WithSchema<'a, T> {
    schema: &'static str,
    #[serde(flatten)]
    report: &'a T,
}

impl Output {
    /// Results as one JSON object if `json`; remarks left out if `quiet`.
    pub fn new(json: bool, quiet: bool) -> Self {
        Self { json, quiet }
    }

    /// Whether results are printed as JSON.
    pub fn is_json(&self) -> bool {
        self.json
    }

    /// Prints the result of the command.
    ///
    /// # Errors
    /// When stdout cannot be written.
    pub fn report<T: Report>(&mut self, report: &T) -> io::Result<()> {
        let mut stdout = io::BufWriter::new(io::stdout().lock());
        if self.json {
            let schema = T::SCHEMA;
            serde_json::to_writer(&mut stdout, &WithSchema { schema, report })?;
            writeln!(stdout)?;
        } else {
            report.write_text(&mut stdout)?;
        }
        stdout.flush()
    }

    /// Writes a result that is bytes by nature, such as a file or a key.
    ///
    /// # Errors
    /// When stdout cannot be written.
    pub fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut stdout = io::stdout().lock();
        stdout.write_all(bytes)?;
        stdout.flush()
    }

    /// Prints a remark that is neither result nor problem, unless `--quiet`.
    pub fn note(&mut self, remark: fmt::Arguments<'_>) {
        if !self.quiet {
            self.problem(remark);
        }
    }

    /// Prints something that may need attention.
    pub fn warn(&mut self, warning: fmt::Arguments<'_>) {
        self.problem(format_args!("warning: {warning}"));
    }

    /// Prints one line of a problem to stderr.
    pub fn problem(&mut self, line: fmt::Arguments<'_>) {
        // When even stderr is gone, the exit code is all that is left to say.
        let _ = writeln!(io::stderr().lock(), "{line}");
    }

    /// Prints a problem as one JSON line to stderr.
    pub fn problem_json(&mut self, problem: &impl Serialize) {
        match serde_json::to_string(problem) {
            Ok(line) => self.problem(format_args!("{line}")),
            Err(error) => self.problem(format_args!("error: {error}")),
        }
    }
}

/// Whether stderr is a terminal that a progress line may be drawn on.
pub(super) fn stderr_is_terminal() -> bool {
    io::stderr().is_terminal()
}

/// Writes rows with columns padded to their widest cell; the last column is not padded.
///
/// # Errors
/// Whatever writing to `out` gives.
pub fn write_table<const N: usize>(out: &mut dyn Write, rows: &[[String; N]]) -> io::Result<()> {
    let width = |cell: &String| cell.chars().count();
    let mut widths = [0; N];
    for row in rows {
        for (widest, cell) in widths.iter_mut().zip(row) {
            *widest = (*widest).max(width(cell));
        }
    }
    for row in rows {
        for (column, (cell, widest)) in row.iter().zip(widths).enumerate() {
            if column + 1 == N {
                writeln!(out, "{cell}")?;
            } else {
                write!(out, "{cell}{:pad$}  ", "", pad = widest - width(cell))?;
            }
        }
    }
    Ok(())
}

/// Shows a number of bytes with three significant digits in binary units, such as `1.50 GiB`.
#[derive(Debug, Clone, Copy)]
pub struct Bytes(pub u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
        if self.0 < 1024 {
            return write!(f, "{} B", self.0);
        }
        let mut value = self.0 as f64 / 1024.0;
        let mut unit = 0;
        while value >= 999.5 && unit + 1 < UNITS.len() {
            value /= 1024.0;
            unit += 1;
        }
        let decimals = match value {
            value if value < 9.995 => 2,
            value if value < 99.95 => 1,
            _ => 0,
        };
        write!(f, "{value:.decimals$} {}", UNITS[unit])
    }
}

/// Shows a duration as a person says it: `0.25 s`, `42.0 s`, `3m05s`, `2h03m`, `1d04h`.
#[derive(Debug, Clone, Copy)]
pub struct Took(pub Duration);

impl fmt::Display for Took {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        match seconds {
            0..10 => write!(f, "{:.2} s", self.0.as_secs_f64()),
            10..60 => write!(f, "{:.1} s", self.0.as_secs_f64()),
            60..3600 => write!(f, "{}m{:02}s", seconds / 60, seconds % 60),
            3600..86400 => write!(f, "{}h{:02}m", seconds / 3600, seconds / 60 % 60),
            _ => write!(f, "{}d{:02}h", seconds / 86400, seconds / 3600 % 24),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_keep_three_digits() {
        for (bytes, shown) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.00 KiB"),
            (1_572_864, "1.50 MiB"),
            (10_240, "10.0 KiB"),
            (1_023_999, "0.98 MiB"),
            (u64::MAX, "16.0 EiB"),
        ] {
            assert_eq!(Bytes(bytes).to_string(), shown);
        }
    }

    #[test]
    fn durations_are_shown_in_fitting_units() {
        for (millis, shown) in
            [(250, "0.25 s"), (42_000, "42.0 s"), (185_000, "3m05s"), (7_380_000, "2h03m"), (100_800_000, "1d04h")]
        {
            assert_eq!(Took(Duration::from_millis(millis)).to_string(), shown);
        }
    }

    #[test]
    fn table_columns_are_aligned_by_characters() {
        let rows = [["a", "é", "last"], ["long", "b", "x"]].map(|row| row.map(str::to_owned));
        let mut text = Vec::new();
        write_table(&mut text, &rows).unwrap();
        assert_eq!(String::from_utf8(text).unwrap(), "a     é  last\nlong  b  x\n");
    }
}
