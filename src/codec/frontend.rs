//! Messages from a client.

use alloc::vec::Vec;

use super::copy::CopyData;
use super::error::{DecodeError, DecodeErrorKind, EncodeError};
use super::extended::{Bind, Execute, FunctionCall, Parse, Target};
use super::readable::Text;
use super::reader::Reader;
use super::writer::framed;

/// A message from a client once the connection has begun, borrowing the bytes of its frame.
///
/// The packet before it is a [`StartupPacket`](super::StartupPacket).
///
/// Spec: <https://www.postgresql.org/docs/current/protocol-message-formats.html>
#[derive(Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum FrontendMessage<'a> {
    /// `p`: the answer to a request for authentication. The layout of the body follows from the request;
    /// see [`AuthenticationResponse`](super::AuthenticationResponse).
    AuthenticationResponse {
        /// The bytes after the length.
        body: &'a [u8],
    },
    /// `B`
    Bind(Bind<'a>),
    /// `C`: closes a statement or portal.
    Close(Target<'a>),
    /// `d`
    CopyData(CopyData<'a>),
    /// `c`: the client's side of a COPY is done.
    CopyDone,
    /// `f`: the client gives up a COPY.
    CopyFail {
        /// Why, for the server's error message.
        message: &'a [u8],
    },
    /// `D`: asks for the parameters and columns of a statement or portal.
    Describe(Target<'a>),
    /// `E`
    Execute(Execute<'a>),
    /// `H`: asks the server to send its pending output.
    Flush,
    /// `F`
    FunctionCall(FunctionCall<'a>),
    /// `P`
    Parse(Parse<'a>),
    /// `Q`: a simple query, or a replication command.
    Query {
        /// The text.
        query: &'a [u8],
    },
    /// `S`: ends a run of extended-query messages.
    Sync,
    /// `X`: ends the session.
    Terminate,
}

impl<'a> FrontendMessage<'a> {
    /// Reads a message of type `tag` from its body, the bytes after the length.
    ///
    /// # Errors
    /// If no message of a client has this type, or the body does not follow its layout to the last byte.
    pub fn parse(tag: u8, body: &'a [u8]) -> Result<Self, DecodeError> {
        let name = Self::name_of(tag)?;
        let empty = |message| Reader::new(name, body).finish().map(|()| message);
        let text = |field| {
            let mut r = Reader::new(name, body);
            let text = r.cstr(field)?;
            r.finish().map(|()| text)
        };
        match tag {
            b'p' => Ok(Self::AuthenticationResponse { body }),
            b'B' => Bind::parse(body).map(Self::Bind),
            b'C' => Target::parse(name, body).map(Self::Close),
            b'd' => Ok(Self::CopyData(CopyData { data: body })),
            b'c' => empty(Self::CopyDone),
            b'f' => text("message").map(|message| Self::CopyFail { message }),
            b'D' => Target::parse(name, body).map(Self::Describe),
            b'E' => Execute::parse(body).map(Self::Execute),
            b'H' => empty(Self::Flush),
            b'F' => FunctionCall::parse(body).map(Self::FunctionCall),
            b'P' => Parse::parse(body).map(Self::Parse),
            b'Q' => text("query").map(|query| Self::Query { query }),
            b'S' => empty(Self::Sync),
            b'X' => empty(Self::Terminate),
            _ => Err(DecodeError::new(name, "type", DecodeErrorKind::UnknownType(tag))),
        }
    }

    /// Appends the message to `out`, type and length included.
    ///
    /// # Errors
    /// If a string holds a NUL or the message is too long; `out` then stays as it was.
    #[inline]
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let name = self.name();
        let mut empty = |tag| framed(tag, name, out, |_| Ok(()));
        match self {
            Self::CopyDone => empty(b'c'),
            Self::Flush => empty(b'H'),
            Self::Sync => empty(b'S'),
            Self::Terminate => empty(b'X'),
            Self::AuthenticationResponse { body } => framed(b'p', name, out, |w| {
                w.bytes(body);
                Ok(())
            }),
            Self::Bind(message) => message.encode(out),
            Self::Close(target) => target.encode(b'C', name, out),
            Self::CopyData(message) => message.encode(out),
            Self::CopyFail { message } => framed(b'f', name, out, |w| w.cstr(message, "message")),
            Self::Describe(target) => target.encode(b'D', name, out),
            Self::Execute(message) => message.encode(out),
            Self::FunctionCall(message) => message.encode(out),
            Self::Parse(message) => message.encode(out),
            Self::Query { query } => framed(b'Q', name, out, |w| w.cstr(query, "query")),
        }
    }

    /// The name of the message in PostgreSQL's documentation.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::AuthenticationResponse { .. } => "AuthenticationResponse",
            Self::Bind(_) => "Bind",
            Self::Close(_) => "Close",
            Self::CopyData(_) => "CopyData",
            Self::CopyDone => "CopyDone",
            Self::CopyFail { .. } => "CopyFail",
            Self::Describe(_) => "Describe",
            Self::Execute(_) => "Execute",
            Self::Flush => "Flush",
            Self::FunctionCall(_) => "FunctionCall",
            Self::Parse(_) => "Parse",
            Self::Query { .. } => "Query",
            Self::Sync => "Sync",
            Self::Terminate => "Terminate",
        }
    }

    /// The name that belongs to a type byte.
    #[inline]
    pub(crate) const fn name_of(tag: u8) -> Result<&'static str, DecodeError> {
        Ok(match tag {
            b'p' => "AuthenticationResponse",
            b'B' => "Bind",
            b'C' => "Close",
            b'd' => "CopyData",
            b'c' => "CopyDone",
            b'f' => "CopyFail",
            b'D' => "Describe",
            b'E' => "Execute",
            b'H' => "Flush",
            b'F' => "FunctionCall",
            b'P' => "Parse",
            b'Q' => "Query",
            b'S' => "Sync",
            b'X' => "Terminate",
            _ => return Err(DecodeError::new("FrontendMessage", "type", DecodeErrorKind::UnknownType(tag))),
        })
    }
}

impl core::fmt::Debug for FrontendMessage<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            // Passwords and proofs stay out of logs.
            Self::AuthenticationResponse { .. } => f.write_str("AuthenticationResponse(***)"),
            Self::Bind(message) => message.fmt(f),
            Self::Close(target) => f.debug_tuple("Close").field(target).finish(),
            Self::CopyData(message) => message.fmt(f),
            Self::CopyFail { message } => {
                f.debug_struct("CopyFail").field("message", &Text(message)).finish()
            }
            Self::Describe(target) => f.debug_tuple("Describe").field(target).finish(),
            Self::Execute(message) => message.fmt(f),
            Self::FunctionCall(message) => message.fmt(f),
            Self::Parse(message) => message.fmt(f),
            Self::Query { query } => f.debug_struct("Query").field("query", &Text(query)).finish(),
            Self::CopyDone | Self::Flush | Self::Sync | Self::Terminate => f.write_str(self.name()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::Frontend;
    use crate::codec::test_support::{golden, malformed, not_encodable};

    #[test]
    fn messages_without_a_list_are_their_bytes() {
        for (bytes, message) in [
            (&b"H\0\0\0\x04"[..], FrontendMessage::Flush),
            (b"S\0\0\0\x04", FrontendMessage::Sync),
            (b"X\0\0\0\x04", FrontendMessage::Terminate),
            (b"c\0\0\0\x04", FrontendMessage::CopyDone),
            (b"f\0\0\0\x0cgave up\0", FrontendMessage::CopyFail { message: b"gave up" }),
            (b"Q\0\0\0\x14IDENTIFY_SYSTEM\0", FrontendMessage::Query { query: b"IDENTIFY_SYSTEM" }),
            (b"Q\0\0\0\x05\0", FrontendMessage::Query { query: b"" }),
        ] {
            golden::<Frontend>(bytes, message);
        }
    }

    #[test]
    fn every_type_has_one_name() {
        let mut known = 0;
        for tag in 0..=u8::MAX {
            let parsed = FrontendMessage::parse(tag, b"");
            match FrontendMessage::name_of(tag) {
                Ok(name) => {
                    known += 1;
                    match parsed {
                        Ok(message) => assert_eq!(message.name(), name),
                        Err(error) => assert_eq!(error.message, name),
                    }
                }
                Err(error) => assert_eq!(parsed, Err(error)),
            }
        }
        assert_eq!(known, 14);
    }

    #[test]
    fn a_nul_cannot_be_smuggled_into_a_string() {
        not_encodable::<Frontend>(FrontendMessage::Query { query: b"SELECT 1\0X" });
        not_encodable::<Frontend>(FrontendMessage::CopyFail { message: b"\0" });
        malformed::<Frontend>(b"Q", b"SELECT 1\0X\0");
    }
}
