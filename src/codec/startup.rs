//! Packets that begin a connection, and the answers to a request for encryption.

use alloc::vec::Vec;
use core::fmt::{self, Debug as _};

use super::error::{DecodeError, DecodeErrorKind, EncodeError};
use super::list::{Item, List, ListBuf, sealed};
use super::readable::Text;
use super::reader::Reader;
use super::status::BackendKeyData;
use super::version::ProtocolVersion;
use super::writer::{Writer, untyped};

const CANCEL_REQUEST: u32 = 80_877_102;
const SSL_REQUEST: u32 = 80_877_103;
const GSS_ENC_REQUEST: u32 = 80_877_104;

/// The first packet of a client on a connection, or inside TLS. It has no type byte.
///
/// Layout: `Int32 length, Int32 code`, then by code.
///
/// Spec: <https://www.postgresql.org/docs/current/protocol-message-formats.html>
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StartupPacket<'a> {
    /// Asks for a session.
    Startup(StartupMessage<'a>),
    /// Asks to cancel the statement of another connection.
    Cancel(CancelRequest<'a>),
    /// Asks for TLS.
    #[doc(alias = "SSLRequest")]
    SslRequest,
    /// Asks for GSSAPI encryption.
    #[doc(alias = "GSSENCRequest")]
    GssEncRequest,
    /// A major version other than 3, with the bytes that follow it.
    Unsupported {
        /// The version asked for.
        version: ProtocolVersion,
        /// The bytes after the version, in a layout that only that version knows.
        body: &'a [u8],
    },
}

impl<'a> StartupPacket<'a> {
    /// Reads the packet after its length word.
    ///
    /// # Errors
    /// If the body does not follow its layout to its last byte.
    pub fn parse(body: &'a [u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new("StartupMessage", body);
        let code = r.u32("version")?;
        match code {
            CANCEL_REQUEST => return CancelRequest::parse(r.rest()).map(Self::Cancel),
            SSL_REQUEST | GSS_ENC_REQUEST => {}
            _ if ProtocolVersion::from_code(code).major() == 3 => {
                let parameters = List::terminated(&mut r, "parameters")?;
                r.finish()?;
                return Ok(Self::Startup(StartupMessage {
                    version: ProtocolVersion::from_code(code),
                    parameters,
                }));
            }
            _ => return Ok(Self::Unsupported { version: ProtocolVersion::from_code(code), body: r.rest() }),
        }
        r.finish()?;
        Ok(if code == SSL_REQUEST { Self::SslRequest } else { Self::GssEncRequest })
    }

    /// Appends the packet to `out`.
    ///
    /// # Errors
    /// If a cancel key is empty or longer than 256 bytes, or the packet is too long.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        untyped("StartupMessage", out, |w| match self {
            Self::Startup(message) => {
                w.u32(message.version.code());
                w.bytes(message.parameters.as_bytes());
                w.u8(0);
                Ok(())
            }
            Self::Cancel(cancel) => {
                w.u32(CANCEL_REQUEST);
                w.i32(cancel.process_id);
                w.bytes_of(1..=BackendKeyData::MAX_KEY_LEN, cancel.secret_key, "secret_key")
            }
            Self::SslRequest => {
                w.u32(SSL_REQUEST);
                Ok(())
            }
            Self::GssEncRequest => {
                w.u32(GSS_ENC_REQUEST);
                Ok(())
            }
            Self::Unsupported { version, body } => {
                w.u32(version.code());
                w.bytes(body);
                Ok(())
            }
        })
    }
}

/// `StartupMessage`: asks for a session with these parameters.
///
/// `user` is the only parameter that is required. The server reads `database`, `options` and `replication`
/// itself and sets every other name as a run-time parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StartupMessage<'a> {
    /// The protocol version asked for; the server may answer with a lower one.
    pub version: ProtocolVersion,
    /// Names and values.
    pub parameters: Parameters<'a>,
}

/// `CancelRequest`: asks the server to cancel the statement of another connection. The server never answers.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct CancelRequest<'a> {
    /// The process that `BackendKeyData` named.
    pub process_id: i32,
    /// The secret of the same `BackendKeyData`: 4 bytes in protocol 3.0, up to 256 in 3.2.
    pub secret_key: &'a [u8],
}

impl<'a> CancelRequest<'a> {
    fn parse(body: &'a [u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new("CancelRequest", body);
        let process_id = r.i32("process_id")?;
        let secret_key = r.rest();
        if secret_key.is_empty() || secret_key.len() > BackendKeyData::MAX_KEY_LEN {
            let length = i64::try_from(secret_key.len()).unwrap_or(i64::MAX);
            return Err(r.error("secret_key", DecodeErrorKind::Length(length)));
        }
        Ok(Self { process_id, secret_key })
    }
}

impl fmt::Debug for CancelRequest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Anyone who sees the key can cancel the session's statements.
        f.debug_struct("CancelRequest").field("process_id", &self.process_id).finish_non_exhaustive()
    }
}

/// The kind of list item that is a name and a value; see [`Parameters`].
#[derive(Debug)]
pub enum ParameterItem {}

impl Item for ParameterItem {}
impl sealed::Item for ParameterItem {
    type Item<'a> = (&'a [u8], &'a [u8]);

    fn read<'a>(reader: &mut Reader<'a>) -> Result<(&'a [u8], &'a [u8]), DecodeError> {
        Ok((reader.cstr("name")?, reader.cstr("value")?))
    }

    fn write((name, value): &(&[u8], &[u8]), writer: &mut Writer<'_>) -> Result<(), EncodeError> {
        writer.non_empty_cstr(name, "name")?;
        writer.cstr(value, "value")
    }

    fn show((name, value): &(&[u8], &[u8]), f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (Text(name), Text(value)).fmt(f)
    }
}

/// Names and values of a [`StartupMessage`]; items are `(&[u8], &[u8])`.
pub type Parameters<'a> = List<'a, ParameterItem>;
/// An owned list of [`Parameters`], to build messages with.
pub type ParametersBuf = ListBuf<ParameterItem>;

/// The one byte with which a server answers `SSLRequest` and `GSSENCRequest`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EncryptionReply {
    /// `S`: begin the TLS handshake now.
    Tls,
    /// `G`: begin the GSSAPI handshake now.
    Gss,
    /// `N`: the server does not offer it; continue without encryption, or try the other kind, on the same
    /// connection.
    Refused,
    /// `E`: an `ErrorResponse` follows, from a server that does not know the request or could not start a
    /// session. An attacker on the network can send its text: it must not be shown as the server's
    /// (CVE-2024-10977).
    Error,
}

impl EncryptionReply {
    /// Reads the byte.
    ///
    /// # Errors
    /// If the byte is none of the four.
    pub fn parse(byte: u8) -> Result<Self, DecodeError> {
        match byte {
            b'S' => Ok(Self::Tls),
            b'G' => Ok(Self::Gss),
            b'N' => Ok(Self::Refused),
            b'E' => Ok(Self::Error),
            _ => Err(DecodeError::new("SSLRequest", "reply", DecodeErrorKind::UnknownType(byte))),
        }
    }

    /// The byte.
    #[must_use]
    pub const fn byte(self) -> u8 {
        match self {
            Self::Tls => b'S',
            Self::Gss => b'G',
            Self::Refused => b'N',
            Self::Error => b'E',
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::Startup;
    use crate::codec::test_support::{golden, golden_open, list, malformed, not_encodable};
    use alloc::format;

    #[test]
    fn packets_are_their_bytes() {
        let parameters: ParametersBuf =
            list([(&b"user"[..], &b"postgres"[..]), (b"database", b"postgres"), (b"options", b"")]);
        for (bytes, packet) in [
            (
                &b"\0\0\0\x32\0\x03\0\x02user\0postgres\0database\0postgres\0options\0\0\0"[..],
                StartupPacket::Startup(StartupMessage {
                    version: ProtocolVersion::V3_2,
                    parameters: parameters.as_list(),
                }),
            ),
            (
                b"\0\0\0\x09\0\x03\0\0\0",
                StartupPacket::Startup(StartupMessage {
                    version: ProtocolVersion::V3_0,
                    parameters: Parameters::EMPTY,
                }),
            ),
            (b"\0\0\0\x08\x04\xd2\x16/", StartupPacket::SslRequest),
            (b"\0\0\0\x08\x04\xd2\x160", StartupPacket::GssEncRequest),
        ] {
            golden::<Startup>(bytes, packet);
        }
        let old = ProtocolVersion::new(2, 0);
        let unsupported = StartupPacket::Unsupported { version: old, body: b"user\0" };
        golden_open::<Startup>(b"\0\0\0\x0d\0\x02\0\0user\0", 4, unsupported);
    }

    #[test]
    fn cancel_keys_have_1_to_256_bytes() {
        for len in [1, 4, 32, 256] {
            let secret_key = &[7; 256][..len];
            let total = u32::try_from(len + 12).unwrap().to_be_bytes();
            let bytes = [&total[..], b"\x04\xd2\x16.\0\0\0\x01", secret_key].concat();
            let cancel = CancelRequest { process_id: 1, secret_key };
            assert_eq!(StartupPacket::parse(&bytes[4..]), Ok(StartupPacket::Cancel(cancel)));
            let mut out = Vec::new();
            StartupPacket::Cancel(cancel).encode(&mut out).unwrap();
            assert_eq!(out, bytes);
        }
        for len in [0, 257] {
            let secret_key = &[7; 257][..len];
            malformed::<Startup>(b"", &[b"\x04\xd2\x16.\0\0\0\x01", secret_key].concat());
            not_encodable::<Startup>(StartupPacket::Cancel(CancelRequest { process_id: 1, secret_key }));
        }
        let cancel = CancelRequest { process_id: 1, secret_key: b"secret" };
        assert_eq!(format!("{cancel:?}"), "CancelRequest { process_id: 1, .. }");
    }

    #[test]
    fn parameters_end_with_exactly_one_zero_at_the_end_of_the_packet() {
        for body in
            [&b""[..], b"user\0", b"user\0postgres\0", b"user\0postgres\0\0\0", b"\0user\0postgres\0\0"]
        {
            malformed::<Startup>(b"", &[b"\0\x03\0\0", body].concat());
        }
        let mut list = ParametersBuf::new();
        assert!(list.push((b"", b"value")).is_err());
        assert!(list.push((b"name", b"a\0b")).is_err());
        assert!(list.as_list().is_empty());
    }

    #[test]
    fn replies_are_their_byte() {
        let known = (0..=u8::MAX).filter_map(|byte| Some((byte, EncryptionReply::parse(byte).ok()?)));
        let known: Vec<_> = known.collect();
        assert_eq!(known.iter().map(|&(byte, _)| byte).collect::<Vec<_>>(), b"EGNS");
        assert!(known.iter().all(|&(byte, reply)| reply.byte() == byte));
    }

    #[test]
    fn versions_are_major_and_minor() {
        let version = ProtocolVersion::from_code(196_610);
        assert_eq!((version, version.major(), version.minor()), (ProtocolVersion::V3_2, 3, 2));
        assert_eq!((ProtocolVersion::V3_0.code(), format!("{version}")), (196_608, "3.2".into()));
    }
}
