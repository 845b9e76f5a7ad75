//! The one small async runtime behind all blocking store calls.
//!
//! Callers, the client of registries among them, are plain threads and wait in [`block_on`]; the runtime's own two threads drive sockets and timers.
//! Layer: part of `store`.

use std::future::Future;
use std::io;
use std::sync::OnceLock;

use tokio::runtime::{Builder, Runtime};

static RUNTIME: OnceLock<Runtime> = OnceLock::new();

/// Starts the runtime and chooses the TLS implementation, once per process.
pub(crate) fn start() -> io::Result<()> {
    if RUNTIME.get().is_none() {
        // An error means that the process chose a provider before, which serves as well.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let runtime = Builder::new_multi_thread().worker_threads(2).thread_name("store").enable_all().build()?;
        // Losing against another thread drops this runtime, which has no work yet.
        let _ = RUNTIME.set(runtime);
    }
    Ok(())
}

/// Waits for `future` on the calling thread.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    RUNTIME.get().expect("every store starts the runtime when it is opened").block_on(future)
}
