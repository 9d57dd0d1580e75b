//! What other processes tell this one.

use std::io::{IsTerminal as _, stderr};

use super::super::failure::Failure;
use tokio::signal::unix::{Signal as Listener, SignalKind, signal};

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signal {
    /// To stop in good order, by SIGINT or SIGTERM, or because the terminal is gone.
    Stop,
    /// To read files again, by SIGHUP.
    Reload,
    /// To print how far it is, by SIGUSR1.
    Status,
}

/// The signals that are listened to.
pub(super) struct Signals {
    interrupt: Listener,
    terminate: Listener,
    hang_up: Listener,
    user: Listener,
    is_stopping: bool,
    /// Whether there was a terminal. A SIGHUP means that it is gone, if it is.
    had_terminal: bool,
    /// A file size limit is an error of the write then, and not the end of the process.
    _too_large: Listener,
}

/// The same number on every Linux architecture but MIPS.
const SIGXFSZ: i32 = 25;

impl Signals {
    pub(super) fn listen() -> Result<Self, Failure> {
        let listen =
            |kind| signal(kind).map_err(|error| Failure::other(format!("could not handle signals: {error}")));
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            hang_up: listen(SignalKind::hangup())?,
            user: listen(SignalKind::user_defined1())?,
            is_stopping: false,
            had_terminal: stderr().is_terminal(),
            _too_large: listen(SignalKind::from_raw(SIGXFSZ))?,
        })
    }

    /// The next one. A second one to stop ends the process at once.
    ///
    /// Cancel-safe.
    pub(super) async fn next(&mut self) -> Signal {
        let kind = tokio::select! {
            _ = self.interrupt.recv() => SignalKind::interrupt(),
            _ = self.terminate.recv() => SignalKind::terminate(),
            _ = self.hang_up.recv() => match self.had_terminal && !stderr().is_terminal() {
                true => SignalKind::hangup(),
                false => return Signal::Reload,
            },
            _ = self.user.recv() => return Signal::Status,
        };
        if core::mem::replace(&mut self.is_stopping, true) {
            super::stderr::set_last_line(String::new());
            std::process::exit(128 + kind.as_raw_value());
        }
        Signal::Stop
    }
}
