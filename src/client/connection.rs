use core::fmt;
use core::time::Duration;
use std::boxed::Box;
use std::sync::Arc;

use tokio::time::Instant;

use super::error::Error;
use super::limits::SessionLimits;
use super::notification::Notifications;
use super::route::Route;
use super::server_name::ServerName;
use super::statement::DroppedStatements;
use super::transaction::Undo;
use super::turn::{Answer, Turn};
use super::wire::Wire;
use crate::codec::{ServerError, TransactionStatus};
use crate::net::{ReadBuffer, Stream};
use crate::session::{CancelKey, Session, SessionParameters};
use crate::types::ServerVersion;

/// A function that is called with every notice of the server.
pub type NoticeHandler = Box<dyn FnMut(&ServerError) + Send>;

/// A session with a PostgreSQL server.
///
/// # Cancel safety
/// If the future of a call is dropped half way, the next call first reads the rest of the answer and throws
/// it away, so that it never sees rows of another statement. Where that is impossible (an error while reading
/// or writing), the connection is closed and every call returns [`Error::Closed`].
pub struct Connection {
    pub(super) wire: Wire,
    pub(super) turn: Turn,
    pub(super) session: Session,
    pub(super) route: Arc<Route>,
    pub(super) on_notice: NoticeHandler,
    pub(super) notifications: Notifications,
    pub(super) dropped_statements: DroppedStatements,
    /// What the next command has to roll back first.
    pub(super) undo: Option<Undo>,
    pub(super) read_timeout: Option<Duration>,
    pub(super) limits: SessionLimits,
    /// When the last command was sent, if the limits bound the time of its answer.
    pub(super) answer_began: Option<Instant>,
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
            dropped_statements: DroppedStatements::default(),
            undo: None,
            read_timeout: None,
            limits: SessionLimits::DATA,
            answer_began: None,
        };
        for notice in core::mem::take(&mut connection.session.notices) {
            (connection.on_notice)(&notice);
        }
        connection
    }

    /// The server's version, as the server reported it at the start of the session. Needs no round trip.
    ///
    /// # Errors
    /// If the server reported no version, or none that can be parsed.
    pub fn server_version(&self) -> Result<ServerVersion, Error> {
        self.session.parameters.server_version().ok_or_else(|| Error::Unexpected {
            expected: "a server_version",
            got: self.session.parameters.get("server_version").unwrap_or("none").into(),
        })
    }

    /// The settings that the server reports, as of its last message.
    #[must_use]
    pub fn parameters(&self) -> &SessionParameters {
        &self.session.parameters
    }

    /// Whether a transaction is open, as of the last answer.
    #[must_use]
    pub fn transaction_status(&self) -> TransactionStatus {
        self.session.transaction_status
    }

    /// The session that the handshake set up.
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

    /// The key that cancels this session's statements; some poolers give none.
    #[must_use]
    pub fn cancel_key(&self) -> Option<&CancelKey> {
        self.session.cancel_key.as_ref()
    }

    /// Whether the connection can take a command, as far as the client knows without asking the server.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.turn.is_open()
    }

    /// Sets the function that is called with the server's notices from now on. Without one, notices go to the
    /// `log` crate at level info.
    pub fn on_notice(&mut self, handler: impl FnMut(&ServerError) + Send + 'static) {
        self.on_notice = Box::new(handler);
    }

    /// Sets how long a call waits for the next bytes of an answer, or for the server to take the bytes of a
    /// command. `None`, the default, sets no limit. The server is also silent while a statement computes for
    /// a long time; its setting `statement_timeout` bounds that, and costs only the statement, not the
    /// connection.
    ///
    /// A call that waits longer returns [`Error::Timeout`] and closes the connection.
    pub fn set_read_timeout(&mut self, limit: Option<Duration>) {
        self.read_timeout = limit;
    }

    /// Sets what the server may make this session take from now on. The default is [`SessionLimits::DATA`]; the
    /// connections of the classes in `postgres` have [`SessionLimits::CONTROL`]. A server that goes beyond a limit has
    /// broken the protocol, and the connection is closed.
    pub fn set_limits(&mut self, limits: SessionLimits) {
        self.limits = limits;
        self.wire.set_limits(limits.messages);
    }

    /// What the server may make this session take.
    #[must_use]
    pub const fn limits(&self) -> SessionLimits {
        self.limits
    }

    /// Records that a command was sent, and the answer that is due.
    pub(super) fn expect(&mut self, answer: Answer) {
        self.turn.expect(answer);
        self.answer_began = self.limits.whole_answers_in_time.then(Instant::now);
    }

    /// How long the next bytes of an answer may take.
    pub(super) fn time_left(&self) -> Option<Duration> {
        let limit = self.read_timeout?;
        Some(self.answer_began.map_or(limit, |began| limit.saturating_sub(began.elapsed())))
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // `Terminate` spares the server a line in its log. Best effort: it is sent only if it can be written
        // at once.
        if self.turn.is_open() {
            self.wire.try_terminate();
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
