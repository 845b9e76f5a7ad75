//! The demo ingress: one address for clients, which leads to whichever node says `/leader`, as a load balancer does.
//!
//! It asks every agent a few times in a second. Without a leader it answers 503 itself. While the override file is there,
//! everything goes to the node that it names, whoever leads: what a hand-made change that was forgotten does. Layer: the edge.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use reqwest::Method;
use snapkit::cancel::Cancel;

use super::http::Asker;

/// How often agents are asked.
const EVERY: Duration = Duration::from_millis(150);
/// How often it looks whether it was asked to end.
const NAP: Duration = Duration::from_millis(20);
/// How long an agent may take to answer, and an upstream to accept.
const LIMIT: Duration = Duration::from_millis(500);
/// How long a connection may be silent.
const SILENCE: Duration = Duration::from_secs(10);
/// Open connections; more are closed at once.
const CONNECTIONS_CAP: usize = 128;

/// One node behind the ingress.
#[derive(Debug, Clone)]
pub struct Upstream {
    /// Its name.
    pub node: String,
    /// Where its agent answers over HTTP, without a slash at the end.
    pub agent: String,
    /// Where its service answers.
    pub service: SocketAddr,
}

impl std::str::FromStr for Upstream {
    type Err = String;

    /// `NODE=AGENT-URL,ADDRESS`.
    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once('=').and_then(|(node, rest)| Some((node, rest.rsplit_once(',')?)));
        let Some((node, (agent, service))) = parts else {
            return Err(format!("{text:?} is not NODE=AGENT-URL,ADDRESS"));
        };
        let service = service.parse().map_err(|_| format!("{service:?} is no address with a port"))?;
        Ok(Self { node: node.to_owned(), agent: agent.trim_end_matches('/').to_owned(), service })
    }
}

/// Serves until it is asked to end.
///
/// # Errors
/// When it cannot listen.
pub fn run(listen: SocketAddr, upstreams: Vec<Upstream>, over: Option<PathBuf>, cancel: &Cancel) -> io::Result<()> {
    let listener = TcpListener::bind(listen)?;
    let chosen: Arc<Mutex<Option<SocketAddr>>> = Arc::default();
    let watched = Arc::clone(&chosen);
    let asker = Asker::new(LIMIT, false)?;
    thread::spawn(move || {
        loop {
            let next = choose(&asker, &upstreams, over.as_deref());
            *watched.lock().unwrap_or_else(PoisonError::into_inner) = next;
            thread::sleep(EVERY);
        }
    });
    thread::spawn(move || accept(&listener, &chosen));
    while !cancel.is_requested() {
        thread::sleep(NAP);
    }
    Ok(())
}

fn accept(listener: &TcpListener, chosen: &Mutex<Option<SocketAddr>>) {
    let open = Arc::new(AtomicUsize::new(0));
    for client in listener.incoming() {
        let Ok(client) = client else {
            thread::sleep(EVERY);
            continue;
        };
        if open.fetch_add(1, Ordering::SeqCst) >= CONNECTIONS_CAP {
            open.fetch_sub(1, Ordering::SeqCst);
            continue;
        }
        let to = *chosen.lock().unwrap_or_else(PoisonError::into_inner);
        let open = Arc::clone(&open);
        thread::spawn(move || {
            let _ = serve(client, to);
            open.fetch_sub(1, Ordering::SeqCst);
        });
    }
}

fn choose(asker: &Asker, upstreams: &[Upstream], over: Option<&Path>) -> Option<SocketAddr> {
    let forced = over.and_then(|over| fs::read_to_string(over).ok());
    if let Some(forced) = forced {
        return upstreams.iter().find(|one| one.node == forced.trim()).map(|one| one.service);
    }
    let leads = |one: &&Upstream| {
        let told = asker.ask(Method::GET, &format!("{}/leader", one.agent), None);
        told.is_ok_and(|told| told.status == 200)
    };
    upstreams.iter().find(leads).map(|one| one.service)
}

fn serve(mut client: TcpStream, to: Option<SocketAddr>) -> io::Result<()> {
    client.set_read_timeout(Some(SILENCE))?;
    let upstream = to.and_then(|to| TcpStream::connect_timeout(&to, LIMIT).ok());
    let Some(mut upstream) = upstream else {
        // What the client has to say is taken first: closing on it would tear the answer away.
        let _ = client.read(&mut [0; 4096]);
        client.write_all(b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")?;
        return client.shutdown(Shutdown::Both);
    };
    upstream.set_read_timeout(Some(SILENCE))?;
    let (mut from, mut into) = (client.try_clone()?, upstream.try_clone()?);
    let there = thread::spawn(move || {
        let _ = io::copy(&mut from, &mut into);
        let _ = into.shutdown(Shutdown::Write);
    });
    let _ = io::copy(&mut upstream, &mut client);
    let _ = client.shutdown(Shutdown::Both);
    let _ = there.join();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upstream_is_told_by_its_name_agent_and_address() {
        let upstream: Upstream = "a=http://127.0.0.1:1/,127.0.0.1:2".parse().unwrap();
        assert_eq!((upstream.node.as_str(), upstream.agent.as_str()), ("a", "http://127.0.0.1:1"));
        assert_eq!(upstream.service.port(), 2);
        for bad in ["a", "a=http://x", "a=http://x,nowhere"] {
            assert!(bad.parse::<Upstream>().is_err(), "{bad}");
        }
    }

    #[test]
    fn the_override_wins_over_whoever_leads() {
        let place = tempfile::tempdir().unwrap();
        let over = place.path().join("override");
        let upstreams: Vec<Upstream> = vec!["a=http://127.0.0.1:1,127.0.0.1:2".parse().unwrap()];
        let asker = Asker::new(LIMIT, false).unwrap();
        assert_eq!(choose(&asker, &upstreams, Some(&over)), None, "nobody answers");
        fs::write(&over, "a\n").unwrap();
        assert_eq!(choose(&asker, &upstreams, Some(&over)), Some(upstreams[0].service));
    }
}
