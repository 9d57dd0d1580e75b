//! Messages of a server about the session: parameters, cancel key, transaction status, notifications.

use alloc::vec::Vec;
use core::fmt;

use super::authentication::Names;
use super::error::{DecodeError, DecodeErrorKind, EncodeError, EncodeErrorKind};
use super::list::List;
use super::readable::{Text, readable};
use super::reader::Reader;
use super::version::ProtocolVersion;
use super::writer::framed;

/// `ParameterStatus` (`S`): the value of a reported setting, sent at the start and whenever it changes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ParameterStatus<'a> {
    /// The setting's name.
    pub name: &'a [u8],
    /// The setting's value.
    pub value: &'a [u8],
}

readable!(ParameterStatus { name: Text, value: Text });

impl<'a> ParameterStatus<'a> {
    /// Reads the body of the message.
    ///
    /// # Errors
    /// If the body is not two strings.
    pub fn parse(body: &'a [u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new("ParameterStatus", body);
        let status = Self { name: r.cstr("name")?, value: r.cstr("value")? };
        r.finish()?;
        Ok(status)
    }

    /// Appends the message to `out`.
    ///
    /// # Errors
    /// If a string holds a NUL or the message is too long.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        framed(b'S', "ParameterStatus", out, |w| {
            w.cstr(self.name, "name")?;
            w.cstr(self.value, "value")
        })
    }
}

/// `BackendKeyData` (`K`): the key for a [`CancelRequest`](super::CancelRequest) of this session.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct BackendKeyData<'a> {
    /// The server process of the session.
    pub process_id: i32,
    /// The secret: 4 bytes in protocol 3.0, 4 to 256 in 3.2.
    pub secret_key: &'a [u8],
}

impl<'a> BackendKeyData<'a> {
    /// The shortest secret, and the only length in protocol 3.0, in bytes.
    pub const MIN_KEY_LEN: usize = 4;
    /// The longest secret of protocol 3.2, in bytes.
    pub const MAX_KEY_LEN: usize = 256;

    /// Whether the secret has a length that this version of the protocol allows.
    #[must_use]
    pub const fn fits(&self, version: ProtocolVersion) -> bool {
        let len = self.secret_key.len();
        len == Self::MIN_KEY_LEN
            || version.minor() >= 2 && Self::MIN_KEY_LEN <= len && len <= Self::MAX_KEY_LEN
    }

    /// Reads the body of the message.
    ///
    /// # Errors
    /// If the secret is shorter than 4 bytes or longer than 256. [`fits`](Self::fits) says whether a version
    /// of the protocol allows its length.
    pub fn parse(body: &'a [u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new("BackendKeyData", body);
        let process_id = r.i32("process_id")?;
        let secret_key = r.rest();
        if !(Self::MIN_KEY_LEN..=Self::MAX_KEY_LEN).contains(&secret_key.len()) {
            let length = i64::try_from(secret_key.len()).unwrap_or(i64::MAX);
            return Err(r.error("secret_key", DecodeErrorKind::Length(length)));
        }
        Ok(Self { process_id, secret_key })
    }

    /// Appends the message to `out`.
    ///
    /// # Errors
    /// If the secret is shorter than 4 bytes or longer than 256.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        framed(b'K', "BackendKeyData", out, |w| {
            w.i32(self.process_id);
            w.bytes_of(Self::MIN_KEY_LEN..=Self::MAX_KEY_LEN, self.secret_key, "secret_key")
        })
    }
}

impl fmt::Debug for BackendKeyData<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Anyone who sees the key can cancel the session's statements.
        f.debug_struct("BackendKeyData").field("process_id", &self.process_id).finish_non_exhaustive()
    }
}

/// The transaction status, as `ReadyForQuery` (`Z`) reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[doc(alias = "ReadyForQuery")]
pub enum TransactionStatus {
    /// Not in a transaction.
    Idle,
    /// In a transaction.
    InTransaction,
    /// In a transaction that failed: the server refuses every command but its end.
    Failed,
}

impl TransactionStatus {
    pub(crate) fn parse(body: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new("ReadyForQuery", body);
        let status = match r.u8("status")? {
            b'I' => Self::Idle,
            b'T' => Self::InTransaction,
            b'E' => Self::Failed,
            other => return Err(r.error("status", DecodeErrorKind::Value(i64::from(other)))),
        };
        r.finish()?;
        Ok(status)
    }

    pub(crate) fn encode(self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        framed(b'Z', "ReadyForQuery", out, |w| {
            w.u8(match self {
                Self::Idle => b'I',
                Self::InTransaction => b'T',
                Self::Failed => b'E',
            });
            Ok(())
        })
    }
}

/// `NegotiateProtocolVersion` (`v`): the server supports less than the client asked for.
///
/// Layout: `Int32 version, Int32 count, String[count]`. Servers up to 17 know 3.0, from 18 on 3.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NegotiateProtocolVersion<'a> {
    /// The newest version that the server supports.
    pub version: ProtocolVersion,
    /// The `_pq_.` options that the server does not know.
    pub unknown_options: Names<'a>,
}

impl<'a> NegotiateProtocolVersion<'a> {
    /// Reads the body of the message.
    ///
    /// # Errors
    /// If the body does not follow its layout to its last byte.
    pub fn parse(body: &'a [u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new("NegotiateProtocolVersion", body);
        let version = ProtocolVersion::from_code(r.u32("version")?);
        let count = r.i32("count")?;
        let count =
            usize::try_from(count).map_err(|_| r.error("count", DecodeErrorKind::Count(i64::from(count))))?;
        let unknown_options = List::counted(&mut r, count)?;
        r.finish()?;
        Ok(Self { version, unknown_options })
    }

    /// Appends the message to `out`.
    ///
    /// # Errors
    /// If the message is too long.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        framed(b'v', "NegotiateProtocolVersion", out, |w| {
            w.u32(self.version.code());
            let count = i32::try_from(self.unknown_options.len());
            w.i32(count.map_err(|_| w.error("count", EncodeErrorKind::TooMany))?);
            w.bytes(self.unknown_options.as_bytes());
            Ok(())
        })
    }
}

/// `NotificationResponse` (`A`): a session called NOTIFY.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct NotificationResponse<'a> {
    /// The server process of that session.
    pub process_id: i32,
    /// The channel.
    pub channel: &'a [u8],
    /// The text of the notification, often empty.
    pub payload: &'a [u8],
}

readable!(NotificationResponse { process_id, channel: Text, payload: Text });

impl<'a> NotificationResponse<'a> {
    /// Reads the body of the message.
    ///
    /// # Errors
    /// If the body does not follow its layout to its last byte.
    pub fn parse(body: &'a [u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new("NotificationResponse", body);
        let notification = Self {
            process_id: r.i32("process_id")?,
            channel: r.cstr("channel")?,
            payload: r.cstr("payload")?,
        };
        r.finish()?;
        Ok(notification)
    }

    /// Appends the message to `out`.
    ///
    /// # Errors
    /// If a string holds a NUL or the message is too long.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        framed(b'A', "NotificationResponse", out, |w| {
            w.i32(self.process_id);
            w.cstr(self.channel, "channel")?;
            w.cstr(self.payload, "payload")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::test_support::{golden, list, malformed, not_encodable};
    use crate::codec::{Backend, BackendMessage, NamesBuf};
    use alloc::format;

    #[test]
    fn messages_are_their_bytes() {
        for (bytes, message) in [
            (
                &b"S\0\0\0\x15TimeZone\0Etc/UTC\0"[..],
                BackendMessage::ParameterStatus(ParameterStatus { name: b"TimeZone", value: b"Etc/UTC" }),
            ),
            (
                b"A\0\0\0\x13\0\0;\xfcch\0payload\0",
                BackendMessage::NotificationResponse(NotificationResponse {
                    process_id: 15_356,
                    channel: b"ch",
                    payload: b"payload",
                }),
            ),
            (b"Z\0\0\0\x05I", BackendMessage::ReadyForQuery(TransactionStatus::Idle)),
            (b"Z\0\0\0\x05T", BackendMessage::ReadyForQuery(TransactionStatus::InTransaction)),
            (b"Z\0\0\0\x05E", BackendMessage::ReadyForQuery(TransactionStatus::Failed)),
        ] {
            golden::<Backend>(bytes, message);
        }
        malformed::<Backend>(b"Z", b"X");
        let nul = ParameterStatus { name: b"a", value: b"b\0c" };
        not_encodable::<Backend>(BackendMessage::ParameterStatus(nul));
    }

    #[test]
    fn cancel_keys_have_4_to_256_bytes_and_4_in_version_3_0() {
        for (len, fits_3_0, fits_3_2) in [
            (3, false, false),
            (4, true, true),
            (5, false, true),
            (32, false, true),
            (256, false, true),
            (257, false, false),
        ] {
            let key = BackendKeyData { process_id: -2, secret_key: &[7; 257][..len] };
            assert_eq!(key.fits(ProtocolVersion::V3_0), fits_3_0, "{len}");
            assert_eq!(key.fits(ProtocolVersion::new(3, 1)), fits_3_0, "{len}");
            assert_eq!(key.fits(ProtocolVersion::V3_2), fits_3_2, "{len}");
            let body = [b"\xff\xff\xff\xfe", key.secret_key].concat();
            if fits_3_2 {
                assert_eq!(BackendKeyData::parse(&body), Ok(key));
                let mut out = Vec::new();
                key.encode(&mut out).unwrap();
                assert_eq!(out[5..], body);
            } else {
                malformed::<Backend>(b"K", &body);
                not_encodable::<Backend>(BackendMessage::BackendKeyData(key));
            }
        }
        let key = BackendKeyData { process_id: 1, secret_key: b"secret" };
        assert_eq!(format!("{key:?}"), "BackendKeyData { process_id: 1, .. }");
    }

    #[test]
    fn negotiations_are_their_bytes() {
        let options: NamesBuf = list([&b"_pq_.seed"[..], b"_pq_.other"]);
        for (bytes, version, unknown_options) in [
            (&b"v\0\0\0\x0c\0\x03\0\x02\0\0\0\0"[..], ProtocolVersion::V3_2, Names::EMPTY),
            (
                b"v\0\0\0!\0\x03\0\0\0\0\0\x02_pq_.seed\0_pq_.other\0",
                ProtocolVersion::V3_0,
                options.as_list(),
            ),
        ] {
            let message = NegotiateProtocolVersion { version, unknown_options };
            golden::<Backend>(bytes, BackendMessage::NegotiateProtocolVersion(message));
        }
        for count in [-1, -2, i32::MIN, 1, 3, i32::MAX] {
            let body = [b"\0\x03\0\0", &count.to_be_bytes()[..]].concat();
            malformed::<Backend>(b"v", &body);
            malformed::<Backend>(b"v", &[&body[..], b"a\0b\0"].concat());
        }
        // An empty name would end a list of SASL mechanisms.
        malformed::<Backend>(b"v", b"\0\x03\0\0\0\0\0\x01\0");
    }
}
