use core::fmt;
use core::time::Duration;
use std::boxed::Box;
use std::sync::Arc;
use std::vec::Vec;

use tokio::io::{AsyncWrite as _, AsyncWriteExt as _};

use super::connect::Route;
use super::error::Error;
use super::notification::Notifications;
use super::prepared::Dropped;
use crate::codec::{BackendFraming, FrontendMessage, ServerError, TransactionStatus};
use crate::net::{ReadBuffer, Stream};
use crate::session::{CancelKey, Session, SessionParameters};
use crate::types::ServerVersion;

/// Called with every notice of the server.
pub type NoticeHandler = Box<dyn FnMut(&ServerError) + Send>;

/// A session with a PostgreSQL server.
///
/// # Cancel safety
/// A call whose future is dropped half way leaves the connection marked: the next call first reads and throws
/// away what is left of the answer, so that it never sees rows of another statement. Where that is impossible
/// (an error while reading or writing) the connection is closed and every call returns
/// [`Error::Closed`].
pub struct Connection {
    pub(super) stream: Stream,
    pub(super) input: ReadBuffer,
    /// Bytes of the message that was lent last. They are given up at the *start* of the next call, which
    /// makes reading cancel-safe.
    pub(super) lent: usize,
    /// Bytes to come of a message of which only the beginning was taken.
    pub(super) rest: usize,
    pub(super) output: Vec<u8>,
    /// How much of `output` is written.
    pub(super) sent: usize,
    /// The rules for what the server sends.
    pub(super) framing: BackendFraming,
    pub(super) phase: Phase,
    pub(super) session: Session,
    pub(super) route: Arc<Route>,
    pub(super) on_notice: NoticeHandler,
    pub(super) notifications: Notifications,
    pub(super) dropped_statements: Dropped,
    pub(super) read_timeout: Option<Duration>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// The server waits for a command.
    Ready,
    /// An answer is under way.
    Busy(Answer),
    /// Out of step or closed; never used again.
    Closed,
}

/// What is still to come of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    /// How many `ReadyForQuery`; with the last one the answer is complete.
    pub(super) ends: u32,
    /// Whether the command went out in the extended protocol.
    pub(super) is_extended: bool,
    /// Whether the server has asked for the data of a COPY, and now waits for us.
    pub(super) awaits_copy: bool,
}

impl Answer {
    /// The answer to a simple query.
    pub(super) const SIMPLE: Self = Self { ends: 1, is_extended: false, awaits_copy: false };

    /// The answer to that many statements of the extended protocol, each with its own `Sync`.
    pub(super) const fn extended(ends: u32) -> Self {
        Self { ends, is_extended: true, awaits_copy: false }
    }
}

impl Connection {
    pub(super) fn new(stream: Stream, input: ReadBuffer, session: Session, route: Route) -> Self {
        let on_notice = Box::new(|notice: &ServerError| log::info!("{notice}"));
        let mut connection = Self {
            stream,
            input,
            lent: 0,
            rest: 0,
            output: Vec::new(),
            sent: 0,
            framing: BackendFraming::READY,
            phase: Phase::Ready,
            session,
            route: Arc::new(route),
            on_notice,
            notifications: Notifications::default(),
            dropped_statements: Dropped::default(),
            read_timeout: None,
        };
        for notice in core::mem::take(&mut connection.session.notices) {
            (connection.on_notice)(&notice);
        }
        connection
    }

    /// The server's version, from what it reported when the connection was made. No round trip.
    ///
    /// # Errors
    /// If it reported none that can be read.
    pub fn server_version(&self) -> Result<ServerVersion, Error> {
        self.session.parameters.server_version().ok_or_else(|| Error::Unexpected {
            expected: "a server_version",
            got: self.session.parameters.get("server_version").unwrap_or("none").into(),
        })
    }

    /// The settings that the server reports of itself, as of its last message.
    #[must_use]
    pub fn parameters(&self) -> &SessionParameters {
        &self.session.parameters
    }

    /// Whether a transaction is open, as of the last answer.
    #[must_use]
    pub fn transaction_status(&self) -> TransactionStatus {
        self.session.transaction_status
    }

    /// What the handshake agreed upon.
    #[must_use]
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// The server as error messages name it: `server at "db1" (10.0.0.1), port 5432`.
    #[must_use]
    pub fn server(&self) -> &str {
        &self.route.server
    }

    /// Whether the session is in TLS.
    #[must_use]
    pub fn is_encrypted(&self) -> bool {
        self.stream.is_tls()
    }

    /// What cancels this session's statements; some poolers give none.
    #[must_use]
    pub fn cancel_key(&self) -> Option<&CancelKey> {
        self.session.cancel_key.as_ref()
    }

    /// Whether the connection can take a command, as far as can be known without asking.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.phase != Phase::Closed
    }

    /// Takes the server's notices from now on. Without one they go to the `log` crate at level info.
    pub fn on_notice(&mut self, handler: impl FnMut(&ServerError) + Send + 'static) {
        self.on_notice = Box::new(handler);
    }

    /// Sets how long the server may be silent while an answer of it is awaited, or while it does not take
    /// what is sent; `None`, the default, for any time. A statement that computes for long is silent as well:
    /// to bound that in the server, where it costs only the statement, there is `statement_timeout`.
    ///
    /// A call that waits longer gives [`Error::Timeout`], and the connection is closed.
    pub fn set_read_timeout(&mut self, limit: Option<Duration>) {
        self.read_timeout = limit;
    }

    /// Takes rows and data of COPY of so many bytes at most from now on, instead of nearly 1 GiB.
    #[cfg(feature = "replication")]
    pub(crate) fn limit_data(&mut self, bytes: u32) {
        let limits = &mut self.framing.limits;
        (limits.copy_data, limits.data_row) = (bytes, bytes);
    }

    /// Ends the session in good order.
    ///
    /// # Errors
    /// If the goodbye cannot be written; the connection is closed all the same.
    pub async fn close(mut self) -> Result<(), Error> {
        if self.phase == Phase::Closed {
            return Ok(());
        }
        self.push(|out| FrontendMessage::Terminate.encode(out))?;
        self.flush("closing the connection").await?;
        self.phase = Phase::Closed;
        self.stream.shutdown().await.map_err(|source| Error::Io { during: "closing the connection", source })
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // A goodbye spares the server a line in its log. Best effort: only if it can be written at once.
        if self.phase != Phase::Closed && self.output.is_empty() {
            let mut goodbye = Vec::new();
            if FrontendMessage::Terminate.encode(&mut goodbye).is_ok() {
                let mut context = core::task::Context::from_waker(core::task::Waker::noop());
                let _ = core::pin::Pin::new(&mut self.stream).poll_write(&mut context, &goodbye);
            }
        }
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("server", &self.route.server)
            .field("phase", &self.phase)
            .finish_non_exhaustive()
    }
}
