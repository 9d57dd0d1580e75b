//! The COPY family.

use alloc::vec::Vec;

use super::error::{DecodeError, EncodeError};
use super::list::List;
use super::reader::Reader;
use super::row::{Format, Formats};
use super::writer::{framed, write};

/// `CopyInResponse` (`G`), `CopyOutResponse` (`H`) and `CopyBothResponse` (`W`): COPY begins.
///
/// Layout: `Int8 format, Int16 count, Int16[count] column formats`. A walsender sends text and no columns.
///
/// Spec: <https://www.postgresql.org/docs/current/protocol-message-formats.html>
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CopyResponse<'a> {
    /// Whether the copy as a whole is text or binary.
    pub format: Format,
    /// The format of each column.
    pub columns: Formats<'a>,
}

impl<'a> CopyResponse<'a> {
    pub(crate) fn parse(message: &'static str, body: &'a [u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(message, body);
        let format = match r.u8("format")? {
            0 => Format::Text,
            1 => Format::Binary,
            other => return Err(r.error("format", super::DecodeErrorKind::Value(i64::from(other)))),
        };
        let count = r.u16("count")?;
        let columns = List::counted(&mut r, usize::from(count))?;
        r.finish()?;
        Ok(Self { format, columns })
    }

    pub(crate) fn encode(
        &self,
        tag: u8,
        message: &'static str,
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        framed(tag, message, out, |w| {
            w.u8(match self.format {
                Format::Text => 0,
                Format::Binary => 1,
            });
            w.count(self.columns.len(), "columns")?;
            w.bytes(self.columns.as_bytes());
            Ok(())
        })
    }
}

/// `CopyData` (`d`): a run of bytes of a COPY in either direction.
///
/// It need not end where a row ends. On a replication connection it holds one
/// [`ReplicationMessage`](super::ReplicationMessage), [`StandbyMessage`](super::StandbyMessage) or
/// [`BaseBackupMessage`](super::BaseBackupMessage).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct CopyData<'a> {
    /// The bytes.
    pub data: &'a [u8],
}

impl CopyData<'_> {
    /// Appends the message to `out`.
    ///
    /// # Errors
    /// If it is too long.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        Self::encode_with(out, |out| {
            out.extend_from_slice(self.data);
            Ok(())
        })
    }

    /// Appends a `CopyData` whose bytes `payload` writes, without a copy in between.
    ///
    /// # Errors
    /// What `payload` gives, or if the message is too long; `out` is as before then.
    pub fn encode_with(
        out: &mut Vec<u8>,
        payload: impl FnOnce(&mut Vec<u8>) -> Result<(), EncodeError>,
    ) -> Result<(), EncodeError> {
        write("CopyData", out, |w| {
            w.u8(b'd');
            w.with_length(|w| payload(w.output()))
        })
    }
}

impl core::fmt::Debug for CopyData<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        // Up to 1 GiB of a table or of WAL has no place in a log line.
        write!(f, "CopyData({} bytes)", self.data.len())
    }
}
