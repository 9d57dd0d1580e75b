//! What a server tells about the session: parameters, cancel key, transaction status, notifications.

use alloc::vec::Vec;
use core::fmt;

use super::authentication::Names;
use super::error::{DecodeError, DecodeErrorKind, EncodeError, EncodeErrorKind};
use super::list::List;
use super::reader::Reader;
use super::startup::ProtocolVersion;
use super::writer::framed;

/// `ParameterStatus` (`S`): the value of a reported setting, at the start and whenever it changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParameterStatus<'a> {
    /// The setting's name.
    pub name: &'a [u8],
    /// Its value.
    pub value: &'a [u8],
}

impl<'a> ParameterStatus<'a> {
    /// Reads the body of the message.
    ///
    /// # Errors
    /// If it is not two strings.
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

/// `BackendKeyData` (`K`): what a [`CancelRequest`](super::CancelRequest) for this session has to show.
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
            || version.minor() >= 2 && len > Self::MIN_KEY_LEN && len <= Self::MAX_KEY_LEN
    }

    /// Reads the body of the message.
    ///
    /// # Errors
    /// If the secret is shorter than 4 bytes or longer than 256. What one version allows,
    /// [`fits`](Self::fits) tells.
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
        // The key lets anyone cancel the session's statements.
        f.debug_struct("BackendKeyData").field("process_id", &self.process_id).finish_non_exhaustive()
    }
}

/// The transaction status that `ReadyForQuery` (`Z`) tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[doc(alias = "ReadyForQuery")]
pub enum TransactionStatus {
    /// Not in a transaction.
    Idle,
    /// In a transaction.
    InTransaction,
    /// In a transaction that failed: everything but its end is refused.
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

/// `NegotiateProtocolVersion` (`v`): the server speaks less than it was asked for.
///
/// Layout: `Int32 version, Int32 count, String[count]`. Servers up to 17 know 3.0, from 18 on 3.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NegotiateProtocolVersion<'a> {
    /// The newest version that the server speaks.
    pub version: ProtocolVersion,
    /// The `_pq_.` options that it does not know.
    pub unknown_options: Names<'a>,
}

impl<'a> NegotiateProtocolVersion<'a> {
    /// Reads the body of the message.
    ///
    /// # Errors
    /// If it does not follow its layout to its last byte.
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
    /// If it is too long.
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

/// `NotificationResponse` (`A`): somebody called NOTIFY.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotificationResponse<'a> {
    /// The server process that notified.
    pub process_id: i32,
    /// The channel.
    pub channel: &'a [u8],
    /// The text that came with it, often empty.
    pub payload: &'a [u8],
}

impl<'a> NotificationResponse<'a> {
    /// Reads the body of the message.
    ///
    /// # Errors
    /// If it does not follow its layout to its last byte.
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
