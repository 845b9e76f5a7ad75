//! Progress on stderr: one line redrawn on a terminal, a plain line every ten seconds in a log.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::progress::{Progress, ProgressReading};

use super::output::{Bytes, Took, stderr_is_terminal};

const REDRAW_EVERY: Duration = Duration::from_millis(200);
const PLAIN_LINE_EVERY: Duration = Duration::from_secs(10);
/// The rate shown follows the last seconds and forgets older ones this quickly.
const RATE_MEMORY: Duration = Duration::from_secs(8);

/// How progress is shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum ProgressMode {
    /// A redrawn line on a terminal, plain lines elsewhere
    #[default]
    Auto,
    /// A plain line every ten seconds
    Plain,
    /// Nothing
    None,
}

/// Shows counters until it is dropped.
#[derive(Debug)]
pub struct Reporter {
    running: Option<(Sender<()>, JoinHandle<()>)>,
}

impl Reporter {
    /// Starts to show `progress`.
    pub fn start(progress: Arc<Progress>, mode: ProgressMode) -> Self {
        let redraw = mode == ProgressMode::Auto && stderr_is_terminal();
        if mode == ProgressMode::None {
            return Self { running: None };
        }
        let (stop, stopped) = mpsc::channel();
        let every = if redraw { REDRAW_EVERY } else { PLAIN_LINE_EVERY };
        let thread = thread::spawn(move || {
            let mut rate = Rate::default();
            let start = Instant::now();
            while stopped.recv_timeout(every) == Err(RecvTimeoutError::Timeout) {
                let reading = progress.read();
                rate.observe(&reading, start.elapsed());
                draw(&line(&reading, rate.bytes_per_second, start.elapsed()), redraw);
            }
            if redraw {
                draw("", redraw);
            }
        });
        Self { running: Some((stop, thread)) }
    }
}

impl Drop for Reporter {
    fn drop(&mut self) {
        if let Some((stop, thread)) = self.running.take() {
            drop(stop);
            // A panic in the display thread has printed itself and harms no result.
            let _ = thread.join();
        }
    }
}

fn draw(line: &str, redraw: bool) {
    let mut stderr = io::stderr().lock();
    // Progress that cannot be shown is not worth ending the work for.
    let _ = if redraw {
        write!(stderr, "\r\x1b[K{line}").and_then(|()| stderr.flush())
    } else {
        writeln!(stderr, "{line}")
    };
}

/// Bytes per second, smoothed.
#[derive(Debug, Default)]
struct Rate {
    bytes_per_second: f64,
    last: Option<(Duration, ProgressReading)>,
}

impl Rate {
    fn observe(&mut self, reading: &ProgressReading, at: Duration) {
        let before = self.last.replace((at, *reading));
        let (since, from) = match before {
            Some((since, last)) if last.phase == reading.phase => (since, last.done_bytes),
            // A new phase has a speed of its own.
            _ => {
                self.bytes_per_second = 0.0;
                (Duration::ZERO, 0)
            }
        };
        let seconds = (at.saturating_sub(since)).as_secs_f64();
        if seconds <= 0.0 {
            return;
        }
        let now = reading.done_bytes.saturating_sub(from) as f64 / seconds;
        let weight =
            if self.bytes_per_second == 0.0 { 1.0 } else { 1.0 - (-seconds / RATE_MEMORY.as_secs_f64()).exp() };
        self.bytes_per_second += weight * (now - self.bytes_per_second);
    }
}

/// One line, such as `reading: 1,204 items, 1.50 GiB of 3.00 GiB (50 %), 100 MiB/s, 15.4 s left`.
fn line(reading: &ProgressReading, bytes_per_second: f64, elapsed: Duration) -> String {
    let mut parts = Vec::new();
    if reading.done_items > 0 || reading.total_items > 0 {
        parts.push(match reading.total_items {
            0 => format!("{} items", reading.done_items),
            total => format!("{} of {total} items", reading.done_items),
        });
    }
    if reading.done_bytes > 0 || reading.total_bytes > 0 {
        parts.push(match reading.total_bytes {
            0 => Bytes(reading.done_bytes).to_string(),
            total => {
                let percent = 100.0 * reading.done_bytes as f64 / total as f64;
                format!("{} of {} ({percent:.0} %)", Bytes(reading.done_bytes), Bytes(total))
            }
        });
    }
    if bytes_per_second >= 1.0 {
        parts.push(format!("{}/s", Bytes(bytes_per_second as u64)));
        let left = reading.total_bytes.saturating_sub(reading.done_bytes);
        if left > 0 {
            let seconds = (left as f64 / bytes_per_second).min(1e9);
            parts.push(format!("{} left", Took(Duration::from_secs_f64(seconds))));
        }
    }
    parts.push(format!("{} so far", Took(elapsed)));
    let phase = if reading.phase.is_empty() { "working" } else { reading.phase };
    format!("{phase}: {}", parts.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_shows_share_rate_and_time_left() {
        let reading = ProgressReading {
            phase: "reading",
            done_items: 12,
            done_bytes: 512 << 20,
            total_items: 0,
            total_bytes: 1 << 30,
        };
        let shown = line(&reading, f64::from(64 << 20), Duration::from_secs(8));
        assert_eq!(shown, "reading: 12 items, 512 MiB of 1.00 GiB (50 %), 64.0 MiB/s, 8.00 s left, 8.00 s so far");
    }

    #[test]
    fn the_rate_follows_the_phase() {
        let mut rate = Rate::default();
        let mut reading = ProgressReading { phase: "reading", done_bytes: 1000, ..ProgressReading::default() };
        rate.observe(&reading, Duration::from_secs(1));
        assert_eq!(rate.bytes_per_second, 1000.0);
        reading.done_bytes = 3000;
        rate.observe(&reading, Duration::from_secs(2));
        assert!(rate.bytes_per_second > 1000.0 && rate.bytes_per_second < 2000.0);
        reading.phase = "proving";
        reading.done_bytes = 0;
        rate.observe(&reading, Duration::from_secs(3));
        assert_eq!(rate.bytes_per_second, 0.0);
    }
}
