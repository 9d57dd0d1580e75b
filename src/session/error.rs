use alloc::boxed::Box;
use alloc::string::String;
use core::fmt;

use crate::auth::{AuthRefused, ScramError};
use crate::codec::{DecodeError, EncodeError, ServerError};

/// Why a handshake failed. Nothing in it is secret.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HandshakeError {
    /// The server refused the session.
    Server(Box<ServerError>),
    /// The server refused it in the old form without SQLSTATE (before PostgreSQL 14).
    OldStyleServer(String),
    /// Bytes that are no message.
    Decode(DecodeError),
    /// A startup parameter or password that cannot stand on the wire.
    Encode(EncodeError),
    /// A message that is not legal at this point.
    Unexpected {
        /// What the handshake was waiting for.
        expected: &'static str,
        /// The message that came.
        got: &'static str,
    },
    /// The server has no TLS, or not for this client, and TLS was required.
    TlsRefused,
    /// The server answered the request for TLS with an error. Its text is not repeated: at this point
    /// anyone on the line could have sent it (CVE-2024-10977).
    ErrorInsteadOfTls,
    /// Bytes came after the server's consent to TLS and before TLS: somebody tries to put words into the
    /// server's mouth (CVE-2021-23222).
    BytesBeforeTls,
    /// What the server asks for, or does not ask for, is against the policy.
    Refused(AuthRefused),
    /// SCRAM failed on our side.
    Scram(ScramError),
    /// The server wants a password and none was given.
    NoPassword,
    /// The server wants a kind of authentication that tapster does not have.
    Unsupported(&'static str),
    /// The server's negotiation of the protocol version makes no sense.
    Negotiation(NegotiationFault),
    /// More bytes, settings or notices than any server sends before it is ready.
    TooMuchData,
    /// The handshake is over already; only a caller's mistake leads here.
    Finished,
}

/// What is wrong with a `NegotiateProtocolVersion`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NegotiationFault {
    /// A second one came.
    Repeated,
    /// The version is newer than the one asked for.
    NewerThanRequested,
    /// The version is older than 3.0, or 3.1, which never existed.
    NoSuchVersion,
    /// The version is older than the oldest that the client accepts.
    TooOld,
    /// It changes nothing.
    NothingNegotiated,
    /// It names an option that was not asked for.
    UnknownOption,
}

impl HandshakeError {
    /// What the server said, if it is the server that refused.
    #[must_use]
    pub fn server_error(&self) -> Option<&ServerError> {
        match self {
            Self::Server(error) => Some(error),
            _ => None,
        }
    }
}

impl fmt::Display for HandshakeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Server(error) => error.fmt(f),
            Self::OldStyleServer(text) => f.write_str(text.trim_end()),
            Self::Decode(_) => f.write_str("the server broke the protocol during the handshake"),
            Self::Encode(_) => f.write_str("a connection parameter cannot be sent"),
            Self::Unexpected { expected, got } => {
                write!(
                    f,
                    "the server broke the protocol during the handshake: expected {expected}, got {got}"
                )
            }
            Self::TlsRefused => f.write_str("server does not support SSL, but SSL was required"),
            Self::ErrorInsteadOfTls => f.write_str("server sent an error response during SSL exchange"),
            Self::BytesBeforeTls => f.write_str("received unencrypted data after SSL response"),
            Self::Refused(_) => f.write_str("the authentication that the server asks for is refused"),
            Self::Scram(_) => f.write_str("SCRAM authentication failed"),
            Self::NoPassword => f.write_str("the server asks for a password and none was supplied"),
            Self::Unsupported(method) => {
                write!(f, "the server asks for {method} authentication, which tapster does not support")
            }
            Self::Negotiation(_) => f.write_str("negotiation of the protocol version failed"),
            Self::TooMuchData => f.write_str("the server sent more data than a handshake can have"),
            Self::Finished => f.write_str("the handshake is over already"),
        }
    }
}

impl core::error::Error for HandshakeError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Decode(error) => Some(error),
            Self::Encode(error) => Some(error),
            Self::Refused(error) => Some(error),
            Self::Scram(error) => Some(error),
            Self::Negotiation(fault) => Some(fault),
            _ => None,
        }
    }
}

impl fmt::Display for NegotiationFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Repeated => "the server negotiated twice",
            Self::NewerThanRequested => "the server offers a newer version than was asked for",
            Self::NoSuchVersion => "the server offers a version that does not exist",
            Self::TooOld => "the server's newest version is older than min_protocol_version",
            Self::NothingNegotiated => "the server negotiated, but asks for no change",
            Self::UnknownOption => "the server names a protocol option that was not asked for",
        })
    }
}

impl core::error::Error for NegotiationFault {}

impl From<DecodeError> for HandshakeError {
    fn from(error: DecodeError) -> Self {
        Self::Decode(error)
    }
}

impl From<EncodeError> for HandshakeError {
    fn from(error: EncodeError) -> Self {
        Self::Encode(error)
    }
}

impl From<AuthRefused> for HandshakeError {
    fn from(error: AuthRefused) -> Self {
        Self::Refused(error)
    }
}

impl From<ScramError> for HandshakeError {
    fn from(error: ScramError) -> Self {
        Self::Scram(error)
    }
}
