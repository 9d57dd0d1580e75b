//! Messages from a server.

use alloc::vec::Vec;
use core::fmt;

use super::authentication::Authentication;
use super::copy::{CopyData, CopyResponse};
use super::error::{DecodeError, DecodeErrorKind, EncodeError};
use super::extended::{FunctionCallResponse, ParameterDescription};
use super::fields::ErrorFields;
use super::readable::Text;
use super::reader::Reader;
use super::row::{DataRow, RowDescription};
use super::status::{
    BackendKeyData, NegotiateProtocolVersion, NotificationResponse, ParameterStatus, TransactionStatus,
};
use super::tag::BackendTag;
use super::writer::{framed, write};

/// A message from a server, borrowing the bytes of its frame.
///
/// Spec: <https://www.postgresql.org/docs/current/protocol-message-formats.html>
#[derive(Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum BackendMessage<'a> {
    /// `R`
    Authentication(Authentication<'a>),
    /// `K`
    BackendKeyData(BackendKeyData<'a>),
    /// `2`: a portal was made.
    BindComplete,
    /// `3`: a statement or portal was closed.
    CloseComplete,
    /// `C`: a statement is done.
    CommandComplete {
        /// The command tag, such as `SELECT 1`. On replication connections servers before 13 send `SELECT`
        /// for nearly everything: make no decision by it.
        tag: &'a [u8],
    },
    /// `W`: COPY in both directions begins.
    CopyBothResponse(CopyResponse<'a>),
    /// `d`
    CopyData(CopyData<'a>),
    /// `c`: the server's side of a COPY is done.
    CopyDone,
    /// `G`: the server waits for the data of a COPY.
    CopyInResponse(CopyResponse<'a>),
    /// `H`: the data of a COPY follow.
    CopyOutResponse(CopyResponse<'a>),
    /// `D`
    DataRow(DataRow<'a>),
    /// `I`: the statement was empty.
    EmptyQueryResponse,
    /// `E`
    ErrorResponse(ErrorFields<'a>),
    /// `E` without a length, up to a NUL: servers before 14 on failures before a session exists, and every
    /// server on a protocol version before 3.
    OldStyleError {
        /// The text, without NUL and newline.
        text: &'a [u8],
    },
    /// `V`
    FunctionCallResponse(FunctionCallResponse<'a>),
    /// `v`
    NegotiateProtocolVersion(NegotiateProtocolVersion<'a>),
    /// `n`: the statement returns no rows.
    NoData,
    /// `N`
    NoticeResponse(ErrorFields<'a>),
    /// `A`
    NotificationResponse(NotificationResponse<'a>),
    /// `t`
    ParameterDescription(ParameterDescription<'a>),
    /// `S`
    ParameterStatus(ParameterStatus<'a>),
    /// `1`: a statement was prepared.
    ParseComplete,
    /// `s`: the portal has more rows than were asked for.
    PortalSuspended,
    /// `Z`: the server waits for the next command.
    ReadyForQuery(TransactionStatus),
    /// `T`
    RowDescription(RowDescription<'a>),
}

impl<'a> BackendMessage<'a> {
    /// Reads a message of type `tag` from its body, the bytes after the length.
    ///
    /// # Errors
    /// If no message of a server has this type, or the body does not follow its layout to the last byte.
    #[inline]
    pub fn parse(tag: u8, body: &'a [u8]) -> Result<Self, DecodeError> {
        // The two types that come by the million are first; the rest is out of line.
        match tag {
            b'd' => Ok(Self::CopyData(CopyData { data: body })),
            b'D' => DataRow::parse(body).map(Self::DataRow),
            // Returned without `Ok` and `?`, this result would send rows through memory too: 3 ns of 17.
            _ => Ok(Self::parse_other(tag, body)?),
        }
    }

    #[inline(never)]
    fn parse_other(tag: u8, body: &'a [u8]) -> Result<Self, DecodeError> {
        let name = BackendTag::name_of(tag)?;
        let empty = |message| Reader::new(name, body).finish().map(|()| message);
        match tag {
            b'R' => Authentication::parse(body).map(Self::Authentication),
            b'K' => BackendKeyData::parse(body).map(Self::BackendKeyData),
            b'2' => empty(Self::BindComplete),
            b'3' => empty(Self::CloseComplete),
            b'C' => {
                let mut r = Reader::new(name, body);
                let tag = r.cstr("tag")?;
                r.finish()?;
                Ok(Self::CommandComplete { tag })
            }
            b'W' => CopyResponse::parse(name, body).map(Self::CopyBothResponse),
            b'c' => empty(Self::CopyDone),
            b'G' => CopyResponse::parse(name, body).map(Self::CopyInResponse),
            b'H' => CopyResponse::parse(name, body).map(Self::CopyOutResponse),
            b'I' => empty(Self::EmptyQueryResponse),
            b'E' => ErrorFields::parse(name, body).map(Self::ErrorResponse),
            b'V' => FunctionCallResponse::parse(body).map(Self::FunctionCallResponse),
            b'v' => NegotiateProtocolVersion::parse(body).map(Self::NegotiateProtocolVersion),
            b'n' => empty(Self::NoData),
            b'N' => ErrorFields::parse(name, body).map(Self::NoticeResponse),
            b'A' => NotificationResponse::parse(body).map(Self::NotificationResponse),
            b't' => ParameterDescription::parse(body).map(Self::ParameterDescription),
            b'S' => ParameterStatus::parse(body).map(Self::ParameterStatus),
            b'1' => empty(Self::ParseComplete),
            b's' => empty(Self::PortalSuspended),
            b'Z' => TransactionStatus::parse(body).map(Self::ReadyForQuery),
            b'T' => RowDescription::parse(body).map(Self::RowDescription),
            _ => Err(DecodeError::new(name, "type", DecodeErrorKind::UnknownType(tag))),
        }
    }

    /// Reads an error without a length: `E`, text, NUL.
    pub(crate) fn parse_old_style_error(frame: &'a [u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new("ErrorResponse", frame);
        r.u8("type")?;
        let text = r.cstr("text")?;
        r.finish()?;
        Ok(Self::OldStyleError { text: text.strip_suffix(b"\n").unwrap_or(text) })
    }

    /// Appends the message to `out`, type and length included.
    ///
    /// # Errors
    /// If a string holds a NUL or the message is too long; `out` then stays as it was.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let name = self.name();
        let mut empty = |tag| framed(tag, name, out, |_| Ok(()));
        match self {
            Self::BindComplete => empty(b'2'),
            Self::CloseComplete => empty(b'3'),
            Self::CopyDone => empty(b'c'),
            Self::EmptyQueryResponse => empty(b'I'),
            Self::NoData => empty(b'n'),
            Self::ParseComplete => empty(b'1'),
            Self::PortalSuspended => empty(b's'),
            Self::Authentication(message) => message.encode(out),
            Self::BackendKeyData(message) => message.encode(out),
            Self::CommandComplete { tag } => framed(b'C', name, out, |w| w.cstr(tag, "tag")),
            Self::CopyBothResponse(message) => message.encode(b'W', name, out),
            Self::CopyData(message) => message.encode(out),
            Self::CopyInResponse(message) => message.encode(b'G', name, out),
            Self::CopyOutResponse(message) => message.encode(b'H', name, out),
            Self::DataRow(message) => message.encode(out),
            Self::ErrorResponse(fields) => fields.encode(b'E', name, out),
            Self::OldStyleError { text } => write(name, out, |w| {
                w.u8(b'E');
                w.text(text, "text")?;
                w.bytes(b"\n\0");
                Ok(())
            }),
            Self::FunctionCallResponse(message) => message.encode(out),
            Self::NegotiateProtocolVersion(message) => message.encode(out),
            Self::NoticeResponse(fields) => fields.encode(b'N', name, out),
            Self::NotificationResponse(message) => message.encode(out),
            Self::ParameterDescription(message) => message.encode(out),
            Self::ParameterStatus(message) => message.encode(out),
            Self::ReadyForQuery(status) => status.encode(out),
            Self::RowDescription(message) => message.encode(out),
        }
    }

    /// The name of the message in PostgreSQL's documentation.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Authentication(_) => "Authentication",
            Self::BackendKeyData(_) => "BackendKeyData",
            Self::BindComplete => "BindComplete",
            Self::CloseComplete => "CloseComplete",
            Self::CommandComplete { .. } => "CommandComplete",
            Self::CopyBothResponse(_) => "CopyBothResponse",
            Self::CopyData(_) => "CopyData",
            Self::CopyDone => "CopyDone",
            Self::CopyInResponse(_) => "CopyInResponse",
            Self::CopyOutResponse(_) => "CopyOutResponse",
            Self::DataRow(_) => "DataRow",
            Self::EmptyQueryResponse => "EmptyQueryResponse",
            Self::ErrorResponse(_) | Self::OldStyleError { .. } => "ErrorResponse",
            Self::FunctionCallResponse(_) => "FunctionCallResponse",
            Self::NegotiateProtocolVersion(_) => "NegotiateProtocolVersion",
            Self::NoData => "NoData",
            Self::NoticeResponse(_) => "NoticeResponse",
            Self::NotificationResponse(_) => "NotificationResponse",
            Self::ParameterDescription(_) => "ParameterDescription",
            Self::ParameterStatus(_) => "ParameterStatus",
            Self::ParseComplete => "ParseComplete",
            Self::PortalSuspended => "PortalSuspended",
            Self::ReadyForQuery(_) => "ReadyForQuery",
            Self::RowDescription(_) => "RowDescription",
        }
    }
}

impl fmt::Debug for BackendMessage<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut holding = |what: &dyn fmt::Debug| f.debug_tuple(self.name()).field(what).finish();
        match self {
            Self::Authentication(request) => holding(request),
            Self::CopyBothResponse(copy) | Self::CopyInResponse(copy) | Self::CopyOutResponse(copy) => {
                holding(copy)
            }
            Self::ErrorResponse(fields) | Self::NoticeResponse(fields) => holding(fields),
            Self::ReadyForQuery(status) => holding(status),
            Self::CommandComplete { tag } => {
                f.debug_struct("CommandComplete").field("tag", &Text(tag)).finish()
            }
            Self::OldStyleError { text } => {
                f.debug_struct("OldStyleError").field("text", &Text(text)).finish()
            }
            // These have the name in their own.
            Self::BackendKeyData(message) => message.fmt(f),
            Self::CopyData(message) => message.fmt(f),
            Self::DataRow(message) => message.fmt(f),
            Self::FunctionCallResponse(message) => message.fmt(f),
            Self::NegotiateProtocolVersion(message) => message.fmt(f),
            Self::NotificationResponse(message) => message.fmt(f),
            Self::ParameterDescription(message) => message.fmt(f),
            Self::ParameterStatus(message) => message.fmt(f),
            Self::RowDescription(message) => message.fmt(f),
            Self::BindComplete
            | Self::CloseComplete
            | Self::CopyDone
            | Self::EmptyQueryResponse
            | Self::NoData
            | Self::ParseComplete
            | Self::PortalSuspended => f.write_str(self.name()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::test_support::{golden, malformed, not_encodable};
    use crate::codec::{Backend, BackendFraming};

    #[test]
    fn messages_without_a_list_are_their_bytes() {
        for (bytes, message) in [
            (&b"1\0\0\0\x04"[..], BackendMessage::ParseComplete),
            (b"2\0\0\0\x04", BackendMessage::BindComplete),
            (b"3\0\0\0\x04", BackendMessage::CloseComplete),
            (b"I\0\0\0\x04", BackendMessage::EmptyQueryResponse),
            (b"c\0\0\0\x04", BackendMessage::CopyDone),
            (b"n\0\0\0\x04", BackendMessage::NoData),
            (b"s\0\0\0\x04", BackendMessage::PortalSuspended),
            (b"C\0\0\0\rSELECT 1\0", BackendMessage::CommandComplete { tag: b"SELECT 1" }),
            (b"C\0\0\0\x05\0", BackendMessage::CommandComplete { tag: b"" }),
        ] {
            golden::<Backend>(bytes, message);
        }
    }

    #[test]
    fn every_type_has_one_name() {
        let mut known = 0;
        for tag in 0..=u8::MAX {
            let parsed = BackendMessage::parse(tag, b"");
            match BackendTag::name_of(tag) {
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
        assert_eq!(known, 24);
    }

    #[test]
    fn a_nul_cannot_be_smuggled_into_a_string() {
        not_encodable::<Backend>(BackendMessage::CommandComplete { tag: b"SELECT\0 1" });
        not_encodable::<Backend>(BackendMessage::OldStyleError { text: b"a\0b" });
        malformed::<Backend>(b"C", b"SELECT\0 1\0");
    }

    #[test]
    fn an_old_style_error_is_its_bytes_however_short() {
        // PostgreSQL 15 on a version that it does not speak, and the shortest texts there can be.
        for (bytes, text) in [
            (
                &b"EFATAL:  unsupported frontend protocol 2.0: server supports 3.0 to 3.0\n\0"[..],
                &b"FATAL:  unsupported frontend protocol 2.0: server supports 3.0 to 3.0"[..],
            ),
            (b"E!\n\0", b"!"),
            (b"E\n\0", b""),
        ] {
            let message = BackendMessage::OldStyleError { text };
            assert_eq!(BackendFraming::STARTUP.parse(bytes), Ok(message));
            let mut out = Vec::new();
            message.encode(&mut out).unwrap();
            assert_eq!(out, bytes);
            assert!(BackendFraming::STARTUP.parse(&bytes[..bytes.len() - 1]).is_err());
            assert!(BackendFraming::STARTUP.parse(&[bytes, b"\0"].concat()).is_err());
            assert!(BackendFraming::READY.parse(bytes).is_err());
        }
        let unended = BackendFraming::STARTUP.parse(b"EFATAL\0");
        assert_eq!(unended, Ok(BackendMessage::OldStyleError { text: b"FATAL" }));
    }
}
