//! The signals that `receive-wal` handles.

use std::io::{IsTerminal as _, stderr};

use tokio::signal::unix::{Signal as Listener, SignalKind};

use super::super::failure::Failure;
use super::super::signals::{EndSignals, listen, survive_file_size_limit};

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signal {
    /// Stop in good order: SIGINT or SIGTERM, or SIGHUP because the terminal is gone.
    Stop,
    /// Read the files again: SIGHUP.
    Reload,
    /// End at once: a second signal to stop, which is this one.
    Abort(SignalKind),
    /// Print the progress: SIGUSR1.
    Status,
}

/// The signals that are listened to.
pub(super) struct Signals {
    end: EndSignals,
    hang_up: Listener,
    user: Listener,
    is_stopping: bool,
    /// Whether there was a terminal at the start. If it is gone at a SIGHUP, that is what the signal means.
    had_terminal: bool,
}

impl Signals {
    pub(super) fn listen() -> Result<Self, Failure> {
        survive_file_size_limit()?;
        Ok(Self {
            end: EndSignals::listen()?,
            hang_up: listen(SignalKind::hangup())?,
            user: listen(SignalKind::user_defined1())?,
            is_stopping: false,
            had_terminal: stderr().is_terminal(),
        })
    }

    /// Waits for the next signal.
    ///
    /// Cancel-safe.
    pub(super) async fn next(&mut self) -> Signal {
        let kind = tokio::select! {
            kind = self.end.next() => kind,
            _ = self.hang_up.recv() => match self.had_terminal && !stderr().is_terminal() {
                true => SignalKind::hangup(),
                false => return Signal::Reload,
            },
            _ = self.user.recv() => return Signal::Status,
        };
        if core::mem::replace(&mut self.is_stopping, true) { Signal::Abort(kind) } else { Signal::Stop }
    }
}
