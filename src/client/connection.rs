use core::fmt;
use core::time::Duration;
use std::boxed::Box;
use std::sync::Arc;

use super::error::Error;
use super::notification::Notifications;
use super::route::Route;
use super::server_name::ServerName;
use super::statement::Dropped;
use super::turn::Turn;
use super::wire::Wire;
use crate::codec::{ServerError, TransactionStatus};
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
    pub(super) wire: Wire,
    pub(super) turn: Turn,
    pub(super) session: Session,
    pub(super) route: Arc<Route>,
    pub(super) on_notice: NoticeHandler,
    pub(super) notifications: Notifications,
    pub(super) dropped_statements: Dropped,
    pub(super) read_timeout: Option<Duration>,
}

impl Connection {
    pub(super) fn new(stream: Stream, input: ReadBuffer, session: Session, route: Route) -> Self {
        let on_notice = Box::new(|notice: &ServerError| log::info!("{notice}"));
        let mut connection = Self {
            wire: Wire::new(stream, input),
            turn: Turn::new(),
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

    /// The server that the connection leads to.
    #[must_use]
    pub fn server(&self) -> &ServerName {
        &self.route.server
    }

    /// Whether the session is in TLS.
    #[must_use]
    pub fn is_encrypted(&self) -> bool {
        self.wire.is_tls()
    }

    /// What cancels this session's statements; some poolers give none.
    #[must_use]
    pub fn cancel_key(&self) -> Option<&CancelKey> {
        self.session.cancel_key.as_ref()
    }

    /// Whether the connection can take a command, as far as can be known without asking.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.turn.is_open()
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
        self.wire.limit_data(bytes);
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // A goodbye spares the server a line in its log. Best effort: only if it can be written at once.
        if self.turn.is_open() {
            self.wire.say_goodbye();
        }
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("server", &self.route.server)
            .field("turn", &self.turn)
            .finish_non_exhaustive()
    }
}
