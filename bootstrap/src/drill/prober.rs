//! The prober: asks one address again and again who answers there, and writes down every answer.
//!
//! It knows nothing of the drill but its name, is told nothing, and decides nothing. Layer: the edge.

use std::io;
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use reqwest::Method;

use super::http::Asker;
use super::series::{Series, Subject, now_us, us};
use crate::clock::BootTime;
use crate::evidence::series::{Line, Sample};

/// Where in an answer it stands who answers.
#[derive(Debug, Clone)]
pub struct Fields {
    /// JSON pointer to the name of the node.
    pub node: String,
    /// JSON pointer to its run.
    pub instance: String,
    /// JSON pointer to its term.
    pub term: String,
    /// JSON pointer to the counter of the application.
    pub n: String,
}

impl Default for Fields {
    fn default() -> Self {
        let [node, instance, term, n] = ["/node", "/instance", "/term", "/n"].map(str::to_owned);
        Self { node, instance, term, n }
    }
}

/// Probes until `ended` says why not to go on; how many questions were asked.
///
/// # Errors
/// When the series cannot be written.
pub fn run(path: &Path, subject: Subject, fields: &Fields, ended: &dyn Fn() -> Option<String>) -> io::Result<u64> {
    let interval = Duration::from_millis(subject.interval_ms);
    let asker = Asker::new(Duration::from_millis(subject.timeout_ms), subject.url.starts_with("https:"))?;
    let url = subject.url.clone();
    let mut series = Series::begin(path, subject)?;
    let mut due = BootTime::now();
    let mut i = 0;
    let why = loop {
        if let Some(why) = ended() {
            // Once more, so that what it was told to watch to its end was watched to its end.
            series.add(&Line::Sample(ask(&asker, &url, fields, i)))?;
            break why;
        }
        let left = BootTime::now().until(due);
        if !left.is_zero() {
            // Short naps, so that it ends soon after it was asked to.
            std::thread::sleep(left.min(Duration::from_millis(50)));
            continue;
        }
        let sample = ask(&asker, &url, fields, i);
        i += 1;
        if !series.add(&Line::Sample(sample))? {
            break "the series is full".to_owned();
        }
        // What an answer took longer than the interval is not caught up with.
        due = (due + interval).max(BootTime::now());
    };
    series.end(&why)
}

fn ask(asker: &Asker, url: &str, fields: &Fields, i: u64) -> Sample {
    let (sent, wall) = (BootTime::now(), Timestamp::now());
    let told = asker.ask(Method::GET, url, None);
    let done_us = now_us();
    let mut sample = Sample {
        i,
        sent_us: us(sent),
        done_us,
        wall,
        ok: false,
        status: None,
        node: None,
        instance: None,
        term: None,
        n: None,
        error: None,
    };
    match told {
        Err(why) => sample.error = Some(why),
        Ok(told) => {
            sample.status = Some(told.status);
            sample.node = told.text(&fields.node);
            sample.instance = told.text(&fields.instance);
            sample.term = told.number(&fields.term);
            sample.n = told.number(&fields.n);
            // That something answers proves nothing: it must say who it is.
            sample.ok = told.status == 200 && sample.node.is_some();
            if told.status != 200 {
                sample.error = Some(format!("status {}", told.status));
            } else if sample.node.is_none() {
                sample.error = Some(format!("no node's name at {} of the answer", fields.node));
            }
        }
    }
    sample
}
