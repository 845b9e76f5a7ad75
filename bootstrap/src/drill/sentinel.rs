//! The sentinel: writes through the application, one numbered event after the other, and notes which were acknowledged.
//!
//! After a takeover it asks what the application still knows before it writes on: what was acknowledged and is not known any
//! more is lost, counted by nobody who acts. What an application must offer for that: `docs/drills.md`. Layer: the edge.

use std::io;
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use reqwest::Method;
use serde_json::json;

use super::http::{Asker, Told};
use super::series::{Series, Subject, now_us, us};
use crate::clock::BootTime;
use crate::evidence::series::{Acknowledged, Line, Recovered, Refused};

/// Writes until `ended` says why not to go on; how many lines the series has.
///
/// `subject.url` takes the writes, and `read` tells what is known.
///
/// # Errors
/// When the series cannot be written.
pub fn run(path: &Path, subject: Subject, read: &str, ended: &dyn Fn() -> Option<String>) -> io::Result<u64> {
    let interval = Duration::from_millis(subject.interval_ms);
    let asker = Asker::new(Duration::from_millis(subject.timeout_ms), subject.url.starts_with("https:"))?;
    let mut sentinel = Sentinel { asker, url: subject.url.clone(), read: read.to_owned(), term: None, unsure: false };
    let mut series = Series::begin(path, subject)?;
    let mut due = BootTime::now();
    let mut i = 0;
    let why = loop {
        if let Some(why) = ended() {
            break why;
        }
        let left = BootTime::now().until(due);
        if !left.is_zero() {
            std::thread::sleep(left.min(Duration::from_millis(50)));
            continue;
        }
        let line = sentinel.step(series.subject(), i);
        i += 1;
        if !series.add(&line)? {
            break "the series is full".to_owned();
        }
        due = (due + interval).max(BootTime::now());
    };
    series.end(&why)
}

struct Sentinel {
    asker: Asker,
    url: String,
    read: String,
    /// The term of the last acknowledged write.
    term: Option<u64>,
    /// The last write was not acknowledged: who leads is not known.
    unsure: bool,
}

impl Sentinel {
    /// One act: a question after a failure, else a write.
    fn step(&mut self, subject: &Subject, i: u64) -> Line {
        if self.unsure && self.term.is_some() {
            return self.look();
        }
        self.write(subject, i)
    }

    fn write(&mut self, subject: &Subject, i: u64) -> Line {
        let (sent_us, wall) = (us(BootTime::now()), Timestamp::now());
        let body = json!({ "drill": subject.drill, "challenge": subject.challenge, "i": i });
        let told = self.asker.ask(Method::POST, &self.url, Some(&body));
        let done_us = now_us();
        match told.and_then(|told| known(&told)) {
            Ok((n, node, instance, term)) => {
                self.unsure = false;
                // A leader that changed without a write that failed: what came before this write is what it knew.
                if self.term.is_some_and(|before| before != term) {
                    self.term = Some(term);
                    let recovered = n.saturating_sub(1);
                    return Line::Recovered(Recovered { recovered, sent_us, done_us, wall, node, instance, term });
                }
                self.term = Some(term);
                Line::Acknowledged(Acknowledged { n, sent_us, done_us, wall, node, instance, term })
            }
            Err(error) => {
                self.unsure = true;
                Line::Refused(Refused { error, sent_us, done_us, wall })
            }
        }
    }

    fn look(&mut self) -> Line {
        let (sent_us, wall) = (us(BootTime::now()), Timestamp::now());
        let told = self.asker.ask(Method::GET, &self.read, None);
        let done_us = now_us();
        match told.and_then(|told| known(&told)) {
            Ok((recovered, node, instance, term)) => {
                self.unsure = false;
                self.term = Some(term);
                Line::Recovered(Recovered { recovered, sent_us, done_us, wall, node, instance, term })
            }
            Err(error) => Line::Refused(Refused { error, sent_us, done_us, wall }),
        }
    }
}

/// Counter, node, run and term of an answer that says that it was done.
fn known(told: &Told) -> Result<(u64, String, Option<String>, u64), String> {
    if !(200..300).contains(&told.status) {
        return Err(format!("status {}", told.status));
    }
    match (told.number("/n"), told.text("/node"), told.number("/term")) {
        (Some(n), Some(node), Some(term)) => Ok((n, node, told.text("/instance"), term)),
        _ => Err("no n, node and term in its answer".to_owned()),
    }
}
