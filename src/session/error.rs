use alloc::boxed::Box;
use alloc::string::String;
use core::fmt;

use crate::auth::{AuthRefused, ScramError};
use crate::codec::{DecodeError, EncodeError, ServerError};
use crate::types::{Printable, PrintableLines};

/// Why a handshake failed. An error holds no secret.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HandshakeError {
    /// The server refused the session.
    Server(Box<ServerError>),
    /// The server refused the session with an error in the old form, without SQLSTATE (before PostgreSQL 14).
    OldStyleServer(String),
    /// The server sent bytes that are no message.
    Decode(DecodeError),
    /// Another kind of service answers on the port.
    OtherService {
        /// What it looks like, with its article.
        what: &'static str,
        /// The beginning of its answer.
        answer: AnswerStart,
    },
    /// A startup parameter or password cannot be put into a message.
    Encode(EncodeError),
    /// The server sent a message that is not legal at this point.
    Unexpected {
        /// What the handshake was waiting for.
        expected: &'static str,
        /// The message that the server sent.
        got: &'static str,
    },
    /// The server has no TLS, or not for this client, and TLS was required.
    TlsRefused,
    /// The server answered the request for TLS with an error. Its text is not repeated: at this point anyone
    /// on the network could have sent it (CVE-2024-10977).
    ErrorInsteadOfTls,
    /// Bytes arrived after the server's consent to TLS and before TLS: an attacker tries to inject data in
    /// the server's name (CVE-2021-23222).
    BytesBeforeTls,
    /// The authentication that the server asks for, or does not ask for, is against the policy.
    Refused(AuthRefused),
    /// The client's side of SCRAM failed.
    Scram(ScramError),
    /// The server wants a password and none was given.
    NoPassword,
    /// The server wants a kind of authentication that tapster does not support.
    Unsupported(&'static str),
    /// The server's negotiation of the protocol version is not valid.
    Negotiation(NegotiationFault),
    /// The server sent more bytes or settings than any server sends before it is ready.
    TooMuchData,
    /// The handshake is over already; only a mistake of the caller gives this error.
    Finished,
}

/// What is wrong with a `NegotiateProtocolVersion`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NegotiationFault {
    /// The server sent a second one.
    Repeated,
    /// The version is newer than the one asked for.
    NewerThanRequested,
    /// The version is older than 3.0, or 3.1, which never existed.
    NoSuchVersion,
    /// The version is older than the oldest that the client accepts.
    TooOld,
    /// The message changes nothing.
    NothingNegotiated,
    /// The message names an option that was not asked for.
    UnknownOption,
}

impl HandshakeError {
    /// The server's error, if the server refused the session.
    #[must_use]
    pub fn server_error(&self) -> Option<&ServerError> {
        match self {
            Self::Server(error) => Some(error),
            _ => None,
        }
    }
}

/// The beginning of an answer, as much of it as had arrived: the bytes may come in any pieces, so two of them are equal
/// whatever they hold.
#[derive(Clone, Debug, Eq)]
pub struct AnswerStart(pub(super) String);

impl AnswerStart {
    /// The text. Bytes that are not UTF-8 are replaced; the others are the peer's choice.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl PartialEq for AnswerStart {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl fmt::Display for HandshakeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Server(error) => error.fmt(f),
            Self::OldStyleServer(text) if f.alternate() => f.write_str(text.trim_end()),
            Self::OldStyleServer(text) => PrintableLines(text.trim_end()).fmt(f),
            Self::Decode(_) => f.write_str("the server broke the protocol during the handshake"),
            Self::OtherService { what, answer } => {
                let answer = Printable(answer.as_str());
                write!(f, "what answers is no PostgreSQL server, it looks like {what}: \"{answer}\"")
            }
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
