//! Ports on loopback that nobody uses now.

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, TcpListener};

use super::NODES;

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
            let listener = TcpListener::bind("127.0.0.1:0")?;
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
