//! The signals that more than one command listens to.

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::failure::Failure;

/// Listens to a signal. Its default action is disabled until the process ends.
pub(super) fn listen(kind: SignalKind) -> Result<Signal, Failure> {
    signal(kind).map_err(|error| Failure::other(format!("could not handle signals: {error}")))
}

/// SIGINT and SIGTERM, which ask the program to end.
#[derive(Debug)]
pub(super) struct EndSignals {
    interrupt: Signal,
    terminate: Signal,
}

impl EndSignals {
    pub(super) fn listen() -> Result<Self, Failure> {
        Ok(Self { interrupt: listen(SignalKind::interrupt())?, terminate: listen(SignalKind::terminate())? })
    }

    /// Waits for the next of them, and tells which it was.
    ///
    /// Cancel-safe.
    pub(super) async fn next(&mut self) -> SignalKind {
        tokio::select! {
            _ = self.interrupt.recv() => SignalKind::interrupt(),
            _ = self.terminate.recv() => SignalKind::terminate(),
        }
    }
}

/// Makes a write beyond the file size limit an error of that write; by default SIGXFSZ would end the process.
pub(super) fn survive_file_size_limit() -> Result<(), Failure> {
    // The same number on every Linux architecture but MIPS.
    const SIGXFSZ: i32 = 25;
    // tokio's handler stays installed after the listener is dropped.
    listen(SignalKind::from_raw(SIGXFSZ)).map(drop)
}
