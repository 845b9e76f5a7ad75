//! Ports on loopback that nobody uses now.

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, TcpListener};

use super::NODES;

/// The ports that are chosen from.
const FIRST: u16 = 12_000;
const RANGE: u16 = 20_000;
/// How many of them are tried for one.
const TRIES: u32 = 100;

/// Where everything listens.
#[derive(Debug, Clone)]
pub struct Ports {
    /// The agents.
    pub agent: BTreeMap<&'static str, SocketAddr>,
    /// The services.
    pub service: BTreeMap<&'static str, SocketAddr>,
    /// The ingress.
    pub ingress: SocketAddr,
}

impl Ports {
    /// Ports that were free a moment ago, all different.
    pub(super) fn free() -> io::Result<Self> {
        // Held together until all are found, so that none comes twice.
        let mut held = Vec::new();
        let mut one = || -> io::Result<SocketAddr> {
            let listener = listen()?;
            let address = listener.local_addr()?;
            held.push(listener);
            Ok(address)
        };
        let (mut agent, mut service) = (BTreeMap::new(), BTreeMap::new());
        for node in NODES {
            agent.insert(node, one()?);
            service.insert(node, one()?);
        }
        Ok(Self { agent, service, ingress: one()? })
    }
}

/// A port from below those that a system gives to connections, which would take it again before it is used.
fn listen() -> io::Result<TcpListener> {
    let mut last = io::ErrorKind::AddrInUse.into();
    for _ in 0..TRIES {
        let mut number = [0; 2];
        getrandom::fill(&mut number).map_err(io::Error::other)?;
        let port = FIRST + u16::from_ne_bytes(number) % RANGE;
        match TcpListener::bind(("127.0.0.1", port)) {
            Ok(listener) => return Ok(listener),
            Err(error) => last = error,
        }
    }
    Err(last)
}
