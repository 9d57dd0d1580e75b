//! The COPY family.

use alloc::vec::Vec;

use super::error::{DecodeError, EncodeError};
use super::list::List;
use super::readable::Size;
use super::reader::Reader;
use super::row::{Format, Formats};
use super::writer::framed;

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
/// The run need not end where a row ends. On a replication connection it holds one
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
    /// If the message is too long.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        Self::encode_with(out, |out| {
            out.extend_from_slice(self.data);
            Ok(())
        })
    }

    /// Appends a `CopyData` whose bytes `payload` writes, without a copy in between.
    ///
    /// # Errors
    /// The error of `payload`, or that the message is too long; `out` then stays as it was.
    pub fn encode_with(
        out: &mut Vec<u8>,
        payload: impl FnOnce(&mut Vec<u8>) -> Result<(), EncodeError>,
    ) -> Result<(), EncodeError> {
        framed(b'd', "CopyData", out, |w| payload(w.output()))
    }
}

impl core::fmt::Debug for CopyData<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        // Up to 1 GiB of a table or of WAL does not belong into a log line.
        f.debug_tuple("CopyData").field(&Size(self.data)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::test_support::{golden, golden_open, list, malformed};
    use crate::codec::{Backend, BackendMessage, EncodeErrorKind, FormatsBuf, Frontend, FrontendMessage};
    use alloc::format;

    #[test]
    fn copy_responses_are_their_bytes() {
        let columns: FormatsBuf = list([Format::Binary, Format::Text]);
        let table = CopyResponse { format: Format::Binary, columns: columns.as_list() };
        let stream = CopyResponse { format: Format::Text, columns: Formats::EMPTY };
        for (bytes, message) in [
            (&b"G\0\0\0\x0b\x01\0\x02\0\x01\0\0"[..], BackendMessage::CopyInResponse(table)),
            (b"H\0\0\0\x0b\x01\0\x02\0\x01\0\0", BackendMessage::CopyOutResponse(table)),
            (b"W\0\0\0\x07\0\0\0", BackendMessage::CopyBothResponse(stream)),
        ] {
            golden::<Backend>(bytes, message);
        }
    }

    #[test]
    fn formats_other_than_text_and_binary_are_malformed() {
        malformed::<Backend>(b"H", b"\x02\0\0");
        malformed::<Backend>(b"H", b"\0\0\x01\0\x02");
        malformed::<Backend>(b"H", b"\0\0\x01\xff\xff");
    }

    #[test]
    fn a_count_larger_than_the_body_is_malformed() {
        for count in [2, 0x7fff, 0x8000, 0xfffe, 0xffff_u16] {
            malformed::<Backend>(b"W", &[b"\0", &count.to_be_bytes()[..], b"\0\0"].concat());
        }
    }

    #[test]
    fn copy_data_is_its_bytes() {
        for (bytes, data) in [
            (&b"d\0\0\0\x085\tx\n"[..], &b"5\tx\n"[..]),
            (b"d\0\0\0\x06\xff\xff", b"\xff\xff"),
            (b"d\0\0\0\x04", b""),
        ] {
            golden_open::<Backend>(bytes, 0, BackendMessage::CopyData(CopyData { data }));
            golden_open::<Frontend>(bytes, 0, FrontendMessage::CopyData(CopyData { data }));
        }
    }

    #[test]
    fn a_failing_payload_leaves_the_output_alone() {
        let mut out = b"before".to_vec();
        let error = EncodeError::new("Test", "field", EncodeErrorKind::TooLong);
        let result = CopyData::encode_with(&mut out, |out| {
            out.extend_from_slice(b"half");
            Err(error)
        });
        assert_eq!((result, &out[..]), (Err(error), &b"before"[..]));
    }

    #[test]
    fn debug_shows_no_data() {
        assert_eq!(format!("{:?}", CopyData { data: b"row" }), "CopyData(3 bytes)");
    }
}
