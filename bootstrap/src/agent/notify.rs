//! Telling systemd: that the agent is ready, alive, ending, and what it does.
//!
//! A datagram to the socket in `NOTIFY_SOCKET`, as sd_notify(3) has it. Without one nothing is told.
//! Layer: the edge.

use std::env;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// Whoever started this agent and wants to be told.
#[derive(Debug)]
pub struct Notify {
    socket: Option<(UnixDatagram, SocketAddr)>,
    /// How often a sign of life is expected.
    pub watchdog: Option<Duration>,
}

impl Notify {
    /// Whoever the environment names.
    pub fn from_environment() -> Self {
        let address = env::var_os("NOTIFY_SOCKET").and_then(|name| match name.as_bytes() {
            [b'@', abstract_name @ ..] => SocketAddr::from_abstract_name(abstract_name).ok(),
            _ => SocketAddr::from_pathname(&name).ok(),
        });
        let socket = address.and_then(|address| Some((UnixDatagram::unbound().ok()?, address)));
        let is_ours = env::var("WATCHDOG_PID").map_or(true, |pid| pid == std::process::id().to_string());
        let micros = env::var("WATCHDOG_USEC").ok().and_then(|text| text.parse().ok()).filter(|_| is_ours);
        // Twice as often as must be, as sd_watchdog_enabled(3) advises.
        Self { socket, watchdog: micros.map(|micros: u64| Duration::from_micros(micros / 2)) }
    }

    /// Tells lines such as `READY=1`. Whoever does not listen is not waited for.
    pub fn tell(&self, lines: &str) {
        if let Some((socket, address)) = &self.socket {
            let _ = socket.set_nonblocking(true).and_then(|()| socket.send_to_addr(lines.as_bytes(), address));
        }
    }
}
