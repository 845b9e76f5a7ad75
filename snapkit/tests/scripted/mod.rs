//! A web server that answers exactly what a test says, for the answers no real server gives on demand.
#![allow(dead_code, clippy::unwrap_used)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// One request as it arrived.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) method: String,
    /// Path and query.
    pub(crate) target: String,
    headers: Vec<(String, String)>,
}

impl Request {
    /// The value of a header, by its lowercase name.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// An answer: pieces of raw bytes, each after a pause; then the connection is closed.
#[derive(Clone, Default)]
pub(crate) struct Reply {
    pieces: Vec<(Duration, Vec<u8>)>,
}

impl Reply {
    /// Status, headers (a length is added unless there is one) and body.
    pub(crate) fn new(status: u16, headers: &[(&str, &str)], body: &[u8]) -> Self {
        let length = body.len().to_string();
        let mut all = headers.to_vec();
        if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-length")) {
            all.push(("Content-Length", &length));
        }
        Self::raw(&Self::head(status, &all)).then(Duration::ZERO, body)
    }

    pub(crate) fn status(status: u16) -> Self {
        Self::new(status, &[], b"")
    }

    /// Closes the connection without an answer.
    pub(crate) fn nothing() -> Self {
        Self::default()
    }

    pub(crate) fn raw(head: &str) -> Self {
        Self { pieces: vec![(Duration::ZERO, head.as_bytes().to_vec())] }
    }

    pub(crate) fn head(status: u16, headers: &[(&str, &str)]) -> String {
        let mut head = format!("HTTP/1.1 {status} Scripted\r\nConnection: close\r\n");
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        head + "\r\n"
    }

    pub(crate) fn then(mut self, pause: Duration, bytes: &[u8]) -> Self {
        self.pieces.push((pause, bytes.to_vec()));
        self
    }
}

/// A server on a port of its own; it lives as long as the process.
pub(crate) struct Scripted {
    pub(crate) port: u16,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Scripted {
    /// Answers each request with what `answer` says, given the request and its number from 0.
    pub(crate) fn start(answer: impl Fn(&Request, usize) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&requests);
        let answer = Arc::new(answer);
        thread::spawn(move || {
            for connection in listener.incoming() {
                let (seen, answer) = (Arc::clone(&seen), Arc::clone(&answer));
                thread::spawn(move || serve(connection.unwrap(), &seen, &*answer));
            }
        });
        Self { port, requests }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// What it was asked, once it has noticed so many requests: a client may give up before the server has read what it sent.
    pub(crate) fn requests_noticed(&self, count: usize) -> Vec<Request> {
        let end = Instant::now() + Duration::from_secs(60);
        while self.requests().len() < count && Instant::now() < end {
            thread::sleep(Duration::from_millis(5));
        }
        self.requests()
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }
}

fn serve(mut connection: TcpStream, seen: &Mutex<Vec<Request>>, answer: &dyn Fn(&Request, usize) -> Reply) {
    let mut reader = BufReader::new(connection.try_clone().unwrap());
    let mut line = String::new();
    if reader.read_line(&mut line).unwrap_or(0) == 0 {
        return;
    }
    let mut words = line.split_whitespace().map(str::to_owned);
    let mut request = Request { method: words.next().unwrap(), target: words.next().unwrap(), headers: Vec::new() };
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        let Some((name, value)) = line.trim_end().split_once(": ") else {
            break;
        };
        request.headers.push((name.to_ascii_lowercase(), value.to_owned()));
    }
    let length: usize = request.header("content-length").map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    let number = {
        let mut seen = seen.lock().unwrap();
        seen.push(request.clone());
        seen.len() - 1
    };
    for (pause, bytes) in answer(&request, number).pieces {
        thread::sleep(pause);
        // The client may have given up, which is what some tests are about.
        if connection.write_all(&bytes).is_err() {
            return;
        }
    }
}
