//! Probes: questions to a running service, as the pins put them, each with a limit of time and of answer.
//!
//! A probe that could not be put is one that does not hold; nothing here is an error to a caller.
//! Meaning: `docs/format/pins.md`, "Service". Layer: the edge.

use std::net::{TcpStream, ToSocketAddrs};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use manifests::document::service::Probe;

use crate::clock::BootTime;
use crate::command::{self, Leftovers};

/// The most that is read of an answer.
const ANSWER_CAP: usize = 64 * 1024;
/// The most that is shown of it.
const SHOWN_CAP: usize = 1024;

/// What a probe found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Whether it holds.
    pub holds: bool,
    /// What was answered, without white space around it: a body, or what a command printed.
    pub text: String,
    /// What was expected and found, where it does not hold; else empty.
    pub why: String,
}

impl Answer {
    fn good(text: &str) -> Answer {
        Answer { holds: true, text: shown(text), why: String::new() }
    }

    fn bad(text: &str, why: impl Into<String>) -> Answer {
        Answer { holds: false, text: shown(text), why: why.into() }
    }
}

/// Puts a probe. A command gets `environment` and nothing else, and is run in `directory`.
pub fn ask(probe: &Probe, environment: &[(String, String)], directory: &Path) -> Answer {
    let limit = Duration::from_secs(probe.timeout_seconds);
    match (&probe.url, &probe.address, &probe.argv) {
        (Some(url), None, None) => http(url, probe.body.as_deref(), limit),
        (None, Some(address), None) => tcp(address, limit),
        (None, None, Some(argv)) => exec(argv, environment, directory, limit),
        // Pins with such a probe are refused when they are read.
        _ => Answer::bad("", format!("a probe of the kind {} that says nothing to ask", probe.kind)),
    }
}

fn http(url: &str, body: Option<&str>, limit: Duration) -> Answer {
    let (status, text) = match get(url, limit) {
        Ok(answer) => answer,
        Err(why) => return Answer::bad("", format!("{url} does not answer: {why}")),
    };
    // White space at the end does not count, and neither does it in what is shown.
    let found = text.trim_end();
    if status != 200 {
        return Answer::bad(found, format!("{url} answers with status {status}, expected 200"));
    }
    match body {
        Some(expected) if expected != found => {
            Answer::bad(found, format!("{url} answers {:?}, expected {expected:?}", shown(found)))
        }
        _ => Answer::good(found),
    }
}

/// Asks the address itself: no proxy is used and no redirection followed, which would ask another.
fn get(url: &str, limit: Duration) -> Result<(u16, String), String> {
    let chain = |error: reqwest::Error| {
        let error = error.without_url();
        let causes = std::iter::successors(Some(&error as &dyn std::error::Error), |error| error.source());
        causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
    };
    // The address may be one of https; a provider that is there already is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| error.to_string())?;
    runtime.block_on(async {
        let mut client =
            reqwest::Client::builder().timeout(limit).no_proxy().redirect(reqwest::redirect::Policy::none());
        if url.starts_with("http://") {
            // A machine without certificates can be asked, too.
            client = client.tls_certs_only([]);
        }
        let client = client.build().map_err(chain)?;
        let mut response = client.get(url).send().await.map_err(chain)?;
        let status = response.status().as_u16();
        let mut bytes = Vec::new();
        while let Some(part) = response.chunk().await.map_err(chain)? {
            bytes.extend_from_slice(&part);
            if bytes.len() > ANSWER_CAP {
                return Err(format!("its answer is longer than {ANSWER_CAP} bytes"));
            }
        }
        Ok((status, String::from_utf8_lossy(&bytes).into_owned()))
    })
}

fn tcp(address: &str, limit: Duration) -> Answer {
    let end = BootTime::now() + limit;
    let addresses = match address.to_socket_addrs() {
        Ok(addresses) => addresses,
        Err(error) => return Answer::bad("", format!("{address} is no address here: {error}")),
    };
    let mut why = format!("{address} is no address here");
    for one in addresses {
        let left = BootTime::now().until(end);
        if left.is_zero() {
            return Answer::bad("", format!("{address} accepts no connection within {} s", limit.as_secs()));
        }
        match TcpStream::connect_timeout(&one, left) {
            Ok(_) => return Answer::good(""),
            Err(error) => why = format!("{address} accepts no connection: {error}"),
        }
    }
    Answer::bad("", why)
}

fn exec(argv: &[String], environment: &[(String, String)], directory: &Path, limit: Duration) -> Answer {
    let Some((program, arguments)) = argv.split_first() else {
        return Answer::bad("", "a probe without a program");
    };
    let mut command = Command::new(program);
    command.args(arguments).env_clear().envs(environment.iter().cloned()).current_dir(directory);
    match command::run(command, limit, Leftovers::Kill) {
        Ok(ended) if ended.is_good() => Answer::good(&ended.stdout),
        Ok(ended) => Answer::bad(&ended.stdout, format!("{program}: {}", ended.why())),
        Err(error) => Answer::bad("", format!("{program} cannot be run: {error}")),
    }
}

/// The beginning of an answer, cut where a character ends.
fn shown(text: &str) -> String {
    let text = text.trim();
    let end = text.floor_char_boundary(SHOWN_CAP);
    text[..end].to_owned()
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::thread;

    use serde_json::json;

    use super::*;

    /// Answers every connection with the same bytes; an empty answer leaves the caller waiting.
    fn server(answer: &'static str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        thread::spawn(move || {
            let mut open = Vec::new();
            for connection in listener.incoming() {
                let mut connection = connection.unwrap();
                let _ = connection.read(&mut [0; 4096]);
                let _ = connection.write_all(answer.as_bytes());
                if answer.is_empty() {
                    open.push(connection);
                }
            }
        });
        address
    }

    fn asked(probe: serde_json::Value) -> Answer {
        let probe: Probe = serde_json::from_value(probe).unwrap();
        let path = std::env::var("PATH").unwrap();
        ask(&probe, &[("PATH".into(), path), ("SNAPKIT_ROLE".into(), "leader".into())], Path::new("/tmp"))
    }

    fn http_of(answer: &'static str, body: Option<&str>, seconds: u64) -> Answer {
        let url = format!("http://{}/health", server(answer));
        let mut probe = json!({"kind": "http", "url": url, "timeout_seconds": seconds});
        if let Some(body) = body {
            probe["body"] = json!(body);
        }
        asked(probe)
    }

    #[test]
    fn http_holds_with_status_200_and_the_body() {
        let good = "HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\nleader\r\n";
        assert_eq!(http_of(good, None, 60), Answer::good("leader"));
        assert_eq!(http_of(good, Some("leader"), 60), Answer::good("leader"));
        let other = http_of(good, Some("follower"), 60);
        assert!(!other.holds && other.why.contains("\"leader\", expected \"follower\""), "{other:?}");
        assert_eq!(other.text, "leader");
        let failing = http_of("HTTP/1.1 503 Unavailable\r\ncontent-length: 5\r\n\r\nsorry", None, 60);
        assert!(!failing.holds && failing.why.contains("status 503"), "{failing:?}");
        let moved = http_of("HTTP/1.1 302 Found\r\nlocation: /other\r\ncontent-length: 0\r\n\r\n", None, 60);
        assert!(!moved.holds, "{moved:?}");
    }

    #[test]
    fn http_waits_for_nobody_longer_than_it_may() {
        let silent = http_of("", None, 1);
        assert!(!silent.holds && silent.why.contains("does not answer"), "{silent:?}");
    }

    #[test]
    fn tcp_holds_where_somebody_listens() {
        let address = server("hello");
        assert!(asked(json!({"kind": "tcp", "address": address, "timeout_seconds": 60})).holds);
        let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let refused = asked(json!({"kind": "tcp", "address": closed, "timeout_seconds": 60}));
        assert!(!refused.holds && refused.why.contains("accepts no connection"), "{refused:?}");
    }

    #[test]
    fn exec_holds_when_it_ends_with_0_in_time() {
        let shell = |script: &str, seconds: u64| {
            asked(json!({"kind": "exec", "argv": ["sh", "-c", script], "timeout_seconds": seconds}))
        };
        assert_eq!(shell("echo $SNAPKIT_ROLE", 60), Answer::good("leader"));
        let failed = shell("echo half; echo broken >&2; exit 1", 60);
        assert_eq!((failed.holds, failed.text.as_str()), (false, "half"));
        assert!(failed.why.contains("broken"), "{failed:?}");
        assert!(shell("sleep 1000", 1).why.contains("in time"));
    }
}
