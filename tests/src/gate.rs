//! A gate before a server: what a node that stands behind it reaches, and what becomes of its requests when it is shut.
//!
//! It passes bytes and knows no protocol, so the server is as real behind it as before it. It is the network between one
//! node and the store; the others have gates of their own.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// What becomes of connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Passage {
    /// They reach the server.
    Open,
    /// They are accepted and nothing comes back, as of a network that loses everything.
    Silent,
    /// They end at once, as of a server that is down.
    Shut,
}

/// The gate.
#[derive(Debug)]
pub struct Gate {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    passage: Passage,
    /// Both ends of what passes now, and the number of the next.
    passing: BTreeMap<u64, TcpStream>,
    next: u64,
}

/// How long a thread waits for bytes before it looks at the gate again.
const LOOK: Duration = Duration::from_millis(50);

impl Gate {
    /// An open gate before a server.
    pub fn before(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State { passage: Passage::Open, passing: BTreeMap::new(), next: 0 }));
        let shared = Arc::clone(&state);
        // Its threads end with the test's process.
        thread::spawn(move || {
            for client in listener.incoming() {
                pass(client.unwrap(), server, &shared);
            }
        });
        Self { address, state }
    }

    /// Where it is.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Opens or shuts it. What passes through it is cut off, or goes silent, in the middle of whatever it says.
    pub fn set(&self, passage: Passage) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.passage = passage;
        if passage != Passage::Silent {
            // Connections that were silent have lost bytes, so none of them goes on.
            for stream in state.passing.values() {
                let _ = stream.shutdown(Shutdown::Both);
            }
        }
    }
}

fn pass(client: TcpStream, server: SocketAddr, state: &Arc<Mutex<State>>) {
    let mut locked = state.lock().unwrap_or_else(PoisonError::into_inner);
    if locked.passage == Passage::Shut {
        return;
    }
    let Ok(there) = TcpStream::connect(server) else { return };
    for (from, to) in [(&client, &there), (&there, &client)] {
        let (from, to, state) = (from.try_clone().unwrap(), to.try_clone().unwrap(), Arc::clone(state));
        let number = locked.next;
        locked.next += 1;
        locked.passing.insert(number, from.try_clone().unwrap());
        thread::spawn(move || {
            carry(from, to, &state);
            state.lock().unwrap_or_else(PoisonError::into_inner).passing.remove(&number);
        });
    }
}

fn carry(mut from: TcpStream, mut to: TcpStream, state: &Mutex<State>) {
    let mut bytes = [0; 64 << 10];
    from.set_read_timeout(Some(LOOK)).unwrap();
    loop {
        let read = match from.read(&mut bytes) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
            Err(_) => break,
        };
        let silent = state.lock().unwrap_or_else(PoisonError::into_inner).passage == Passage::Silent;
        if !silent && to.write_all(&bytes[..read]).is_err() {
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}
