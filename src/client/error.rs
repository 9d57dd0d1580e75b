use core::fmt;
use core::net::IpAddr;
use core::time::Duration;
use std::boxed::Box;
use std::io;
use std::string::String;
use std::vec::Vec;

use super::refusal;
use super::row::ColumnError;
use crate::codec::{DecodeError, EncodeError, ServerError};
use crate::conninfo::ConnInfoError;
use crate::net::{TlsError, TlsErrorKind};
use crate::session::HandshakeError;
use crate::types::{Advice, SqlState, WithCauses};

/// Why a call on a connection failed.
///
/// `Display` prints this layer's part, [`source`](core::error::Error::source) gives the next one. An error
/// holds no secret.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The connection string cannot be used.
    ConnInfo(ConnInfoError),
    /// No server could be connected to; every attempt is listed.
    Connect(Vec<ConnectAttempt>),
    /// The server reported an error. The connection is still usable unless [`Error::is_connection_lost`].
    Server(Box<ServerError>),
    /// Reading or writing failed, or the server closed the connection.
    Io {
        /// What the connection was doing.
        during: &'static str,
        /// The operating system's error.
        source: io::Error,
    },
    /// The server sent bytes that are no message. The connection is closed.
    Decode(DecodeError),
    /// The caller's text or value cannot be put into a message. Nothing was sent.
    Encode(EncodeError),
    /// The server sent a message, or an answer, that is not legal at this point. The connection is closed.
    Unexpected {
        /// What the client expected.
        expected: &'static str,
        /// What the server sent.
        got: String,
    },
    /// The server did not answer in time. The connection is closed.
    Timeout {
        /// What the connection was doing.
        during: &'static str,
        /// How long the client waited.
        after: Duration,
    },
    /// An earlier error closed the connection, or a call that was dropped half way did.
    Closed,
    /// A result does not have the columns or values that a server of this version should give.
    Column(ColumnError),
    /// The statement gave no row, where one was asked for. The connection is usable.
    NoRow,
    /// The statement gave this many rows, where one was asked for. The connection is usable.
    ManyRows(usize),
    /// The server rolled back instead of committing, because a statement of the transaction had failed. The connection
    /// is usable.
    RolledBack,
    /// The call is not possible here.
    Usage(&'static str),
}

/// One attempt to connect, and why it failed.
#[derive(Debug)]
pub struct ConnectAttempt {
    /// The server as libpq names it: `server at "db1" (10.0.0.1), port 5432` or `server on socket "..."`.
    pub server: String,
    /// What went wrong.
    pub failure: ConnectFailure,
    /// Additional help: where the password came from.
    pub note: Option<String>,
    /// The address of our end, once a TCP connection was made; `None` over a Unix socket.
    pub client: Option<IpAddr>,
    /// Whether the session was to be one for physical replication.
    pub replication: bool,
}

/// Why one attempt to connect failed.
#[derive(Debug)]
#[non_exhaustive]
pub enum ConnectFailure {
    /// This entry of the host list has no usable address.
    Host(ConnInfoError),
    /// The name has no address.
    NameLookup(io::Error),
    /// The socket failed.
    Io(io::Error),
    /// The server refused the session, or we refused the server.
    Handshake(HandshakeError),
    /// TLS failed, or the peer is not the server that it should be.
    Tls(TlsError),
    /// The attempt took longer than `connect_timeout`.
    Timeout(Duration),
    /// `target_session_attrs` does not want this server.
    SessionAttributes(&'static str),
    /// The server did not answer the queries for `target_session_attrs`.
    AttributesUnknown(Box<Error>),
    /// `requirepeer` names another user than the server behind the socket runs as.
    Peer {
        /// The user that `requirepeer` names.
        required: String,
        /// The user that the server runs as.
        actual: String,
    },
    /// The operating system gives no random numbers.
    Random,
}

impl Error {
    /// The SQLSTATE that the server gave; after several attempts to connect, that of the last attempt.
    #[must_use]
    pub fn sqlstate(&self) -> Option<SqlState> {
        self.server_error().map(|error| error.sqlstate)
    }

    /// The error that the server sent; after several attempts to connect, that of the last attempt.
    #[must_use]
    pub fn server_error(&self) -> Option<&ServerError> {
        match self {
            Self::Server(error) => Some(error),
            Self::Connect(attempts) => match attempts.last().map(|attempt| &attempt.failure) {
                Some(ConnectFailure::Handshake(HandshakeError::Server(error))) => Some(error),
                _ => None,
            },
            _ => None,
        }
    }

    /// Advice for the user, for the errors that have one.
    #[must_use]
    pub fn advice(&self) -> Option<Advice> {
        match (self, self.sqlstate()) {
            (Self::Connect(attempts), _) if attempts.iter().any(ConnectAttempt::lacks_password) => {
                Some(Advice::GivePassword)
            }
            (Self::Connect(attempts), Some(_)) => attempts.last().and_then(refusal::advice),
            (_, Some(SqlState::INSUFFICIENT_PRIVILEGE)) => Some(Advice::GrantPrivilege),
            (Self::Connect(_), None) if !self.is_authentication() => Some(Advice::CheckAddress),
            _ => None,
        }
    }

    /// Whether the connection cannot be used any more, or never could.
    #[must_use]
    pub fn is_connection_lost(&self) -> bool {
        match self {
            Self::Server(error) => error.severity.ends_connection(),
            Self::Connect(_) | Self::Io { .. } | Self::Decode(_) => true,
            Self::Unexpected { .. } | Self::Timeout { .. } | Self::Closed => true,
            Self::ConnInfo(_) | Self::Encode(_) | Self::Column(_) | Self::Usage(_) => false,
            Self::NoRow | Self::ManyRows(_) | Self::RolledBack => false,
        }
    }

    /// Whether time ran out.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        match self {
            Self::Timeout { .. } => true,
            Self::Connect(attempts) => {
                attempts.last().is_some_and(|last| matches!(last.failure, ConnectFailure::Timeout(_)))
            }
            _ => false,
        }
    }

    /// Whether the server rejected our identity, or we rejected the server's: a retry would not help.
    #[must_use]
    pub fn is_authentication(&self) -> bool {
        let Self::Connect(attempts) = self else {
            return self.sqlstate().is_some_and(|state| state == SqlState::INSUFFICIENT_PRIVILEGE);
        };
        match attempts.last().map(|attempt| &attempt.failure) {
            Some(ConnectFailure::Handshake(error)) => match error {
                HandshakeError::Server(error) => {
                    // Class 28 is "invalid authorization"; a role without REPLICATION gets 42501.
                    error.sqlstate.class() == "28" || error.sqlstate == SqlState::INSUFFICIENT_PRIVILEGE
                }
                HandshakeError::TlsRefused
                | HandshakeError::ErrorInsteadOfTls
                | HandshakeError::BytesBeforeTls
                | HandshakeError::Refused(_)
                | HandshakeError::Scram(_)
                | HandshakeError::NoPassword
                | HandshakeError::Unsupported(_) => true,
                _ => false,
            },
            Some(ConnectFailure::Tls(error)) => error.kind() != TlsErrorKind::Protocol,
            Some(ConnectFailure::Peer { .. }) => true,
            _ => false,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ConnInfo(error) => error.fmt(f),
            Self::Connect(attempts) => {
                for (i, attempt) in attempts.iter().enumerate() {
                    if i > 0 {
                        f.write_str("\n")?;
                    }
                    attempt.fmt(f)?;
                }
                Ok(())
            }
            Self::Server(error) => error.fmt(f),
            Self::Io { during, source } if source.kind() == io::ErrorKind::UnexpectedEof => {
                write!(f, "the server closed the connection unexpectedly while {during}")
            }
            Self::Io { during, .. } => write!(f, "connection lost while {during}"),
            Self::Decode(_) => f.write_str("the server broke the protocol; the connection was closed"),
            Self::Encode(_) => f.write_str("the command cannot be sent"),
            Self::Unexpected { expected, got } => {
                write!(f, "the server broke the protocol: expected {expected}, got {got}")
            }
            Self::Timeout { during, after } => write!(f, "no answer within {after:?} while {during}"),
            Self::Closed => f.write_str("the connection is closed"),
            Self::Column(_) => f.write_str("the server's answer cannot be read"),
            Self::NoRow => f.write_str("the statement gave no row, where one was expected"),
            Self::ManyRows(rows) => write!(f, "the statement gave {rows} rows, where one was expected"),
            Self::RolledBack => f.write_str(
                "the server rolled the transaction back instead of committing it, because a statement in it had failed",
            ),
            Self::Usage(what) => f.write_str(what),
        }
    }
}

impl core::error::Error for Error {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } if source.kind() != io::ErrorKind::UnexpectedEof => Some(source),
            Self::Decode(error) => Some(error),
            Self::Encode(error) => Some(error),
            Self::Column(error) => Some(error),
            _ => None,
        }
    }
}

impl From<ColumnError> for Error {
    fn from(error: ColumnError) -> Self {
        Self::Column(error)
    }
}

impl ConnectAttempt {
    fn lacks_password(&self) -> bool {
        matches!(self.failure, ConnectFailure::Handshake(HandshakeError::NoPassword))
    }
}

impl fmt::Display for ConnectAttempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "connection to {} failed: {}", self.server, self.failure)?;
        if let Some(note) = &self.note {
            write!(f, "\n{note}")?;
        }
        Ok(())
    }
}

impl fmt::Display for ConnectFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(error) => error.fmt(f),
            Self::NameLookup(error) => write!(f, "could not look up the host name: {error}"),
            Self::Io(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                f.write_str("the server closed the connection unexpectedly")
            }
            Self::Io(error) => error.fmt(f),
            // An attempt is one line of a list, so its text includes the causes, and `source` does not give
            // them.
            Self::Handshake(error) => WithCauses(error).fmt(f),
            Self::Tls(error) => error.fmt(f),
            Self::Timeout(after) => write!(f, "timeout expired after {after:?}"),
            Self::SessionAttributes(reason) => f.write_str(reason),
            Self::AttributesUnknown(error) => error.fmt(f),
            Self::Peer { required, actual } => {
                write!(f, "requirepeer specifies \"{required}\", but actual peer user name is \"{actual}\"")
            }
            Self::Random => f.write_str("the operating system gives no random numbers"),
        }
    }
}

impl From<io::Error> for ConnectFailure {
    /// A server that rejects the client's certificate sends a TLS alert, which the next read reports as an
    /// I/O error.
    fn from(error: io::Error) -> Self {
        TlsError::from_io(error).map_or_else(Self::Io, Self::Tls)
    }
}

impl From<HandshakeError> for ConnectFailure {
    fn from(error: HandshakeError) -> Self {
        Self::Handshake(error)
    }
}

impl From<TlsError> for ConnectFailure {
    fn from(error: TlsError) -> Self {
        Self::Tls(error)
    }
}

impl From<ConnInfoError> for Error {
    fn from(error: ConnInfoError) -> Self {
        Self::ConnInfo(error)
    }
}

impl From<DecodeError> for Error {
    fn from(error: DecodeError) -> Self {
        Self::Decode(error)
    }
}

impl From<EncodeError> for Error {
    fn from(error: EncodeError) -> Self {
        Self::Encode(error)
    }
}
