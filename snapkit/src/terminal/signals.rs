//! Signals: the first `SIGINT` or `SIGTERM` asks work to stop, the second ends the process at once.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::cancel::Cancel;
use signal_hook::consts::{SIGINT, SIGTERM};

use super::exit_code::Exit;

/// The installed handlers.
#[derive(Debug)]
pub struct Signals {
    cancel: Cancel,
    received: Arc<AtomicUsize>,
}

/// Installs the handlers for the rest of the process's life.
///
/// # Errors
/// When the system does not take a handler.
pub fn install() -> io::Result<Signals> {
    let signals = Signals { cancel: Cancel::new(), received: Arc::new(AtomicUsize::new(0)) };
    for (signal, exit) in [(SIGINT, Exit::INTERRUPTED), (SIGTERM, Exit::TERMINATED)] {
        // Actions run in the order of registration, so the first signal finds the flag unset.
        let flag = signals.cancel.flag();
        signal_hook::flag::register_conditional_shutdown(signal, exit.code().into(), Arc::clone(&flag))?;
        let received = Arc::clone(&signals.received);
        signal_hook::flag::register_usize(signal, received, exit.code().into())?;
        signal_hook::flag::register(signal, flag)?;
    }
    Ok(signals)
}

impl Signals {
    /// The request to stop that the first signal makes.
    pub fn cancel(&self) -> Cancel {
        self.cancel.clone()
    }

    /// The exit code of the signal that came, if one did.
    pub fn received(&self) -> Option<Exit> {
        match self.received.load(Ordering::SeqCst) {
            0 => None,
            code => u8::try_from(code).ok().map(Exit::of_code),
        }
    }
}
