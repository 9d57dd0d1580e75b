//! The only place that puts the bytes of a message together.

use alloc::vec::Vec;
use core::ops::RangeInclusive;

use super::error::{EncodeError, EncodeErrorKind};
use super::reader::find_nul;

/// Appends fields to the output; an error names the message and the field.
pub struct Writer<'o> {
    message: &'static str,
    out: &'o mut Vec<u8>,
}

/// Runs `body` on a writer; if it fails, the output is truncated to its old length.
#[inline]
pub(crate) fn write(
    message: &'static str,
    out: &mut Vec<u8>,
    body: impl FnOnce(&mut Writer<'_>) -> Result<(), EncodeError>,
) -> Result<(), EncodeError> {
    let start = out.len();
    let result = body(&mut Writer { message, out });
    if result.is_err() {
        out.truncate(start);
    }
    result
}

/// Appends a message with a type byte: the type, the length of length word and body, and the body.
#[inline]
pub(crate) fn framed(
    tag: u8,
    message: &'static str,
    out: &mut Vec<u8>,
    body: impl FnOnce(&mut Writer<'_>) -> Result<(), EncodeError>,
) -> Result<(), EncodeError> {
    write(message, out, |w| w.with_length([tag, 0, 0, 0, 0], body))
}

/// Appends a packet without a type byte.
#[inline]
pub(crate) fn untyped(
    message: &'static str,
    out: &mut Vec<u8>,
    body: impl FnOnce(&mut Writer<'_>) -> Result<(), EncodeError>,
) -> Result<(), EncodeError> {
    write(message, out, |w| w.with_length([0; 4], body))
}

impl Writer<'_> {
    #[inline]
    pub(crate) const fn error(&self, field: &'static str, kind: EncodeErrorKind) -> EncodeError {
        EncodeError::new(self.message, field, kind)
    }

    /// Appends a header and the bytes that `body` writes. The last four bytes of the header become the length
    /// word, which counts itself and the bytes after it.
    #[inline]
    fn with_length<const N: usize>(
        &mut self,
        header: [u8; N],
        body: impl FnOnce(&mut Self) -> Result<(), EncodeError>,
    ) -> Result<(), EncodeError> {
        self.out.extend_from_slice(&header);
        let start = self.out.len().saturating_sub(4);
        body(self)?;
        let len = i32::try_from(self.out.len().saturating_sub(start));
        let len = len.map_err(|_| self.error("length", EncodeErrorKind::TooLong))?;
        if let Some(word) = self.out.get_mut(start..).and_then(|tail| tail.first_chunk_mut()) {
            *word = len.to_be_bytes();
        }
        Ok(())
    }

    /// The output itself, for content that has its own encoder.
    #[inline]
    pub(crate) const fn output(&mut self) -> &mut Vec<u8> {
        self.out
    }

    #[inline]
    pub(crate) fn u8(&mut self, value: u8) {
        self.out.push(value);
    }

    #[inline]
    pub(crate) fn u16(&mut self, value: u16) {
        self.out.extend_from_slice(&value.to_be_bytes());
    }

    #[inline]
    pub(crate) fn i16(&mut self, value: i16) {
        self.out.extend_from_slice(&value.to_be_bytes());
    }

    #[inline]
    pub(crate) fn u32(&mut self, value: u32) {
        self.out.extend_from_slice(&value.to_be_bytes());
    }

    #[inline]
    pub(crate) fn i32(&mut self, value: i32) {
        self.out.extend_from_slice(&value.to_be_bytes());
    }

    #[inline]
    pub(crate) fn u64(&mut self, value: u64) {
        self.out.extend_from_slice(&value.to_be_bytes());
    }

    #[inline]
    pub(crate) fn i64(&mut self, value: i64) {
        self.out.extend_from_slice(&value.to_be_bytes());
    }

    #[inline]
    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    /// Appends bytes, whose number must be in this range.
    #[inline]
    pub(crate) fn bytes_of(
        &mut self,
        range: RangeInclusive<usize>,
        bytes: &[u8],
        field: &'static str,
    ) -> Result<(), EncodeError> {
        if bytes.len() < *range.start() {
            return Err(self.error(field, EncodeErrorKind::TooShort));
        }
        if bytes.len() > *range.end() {
            return Err(self.error(field, EncodeErrorKind::TooLong));
        }
        self.bytes(bytes);
        Ok(())
    }

    /// Appends a string and its NUL. A NUL inside is refused: the peer would read a different message.
    #[inline]
    pub(crate) fn cstr(&mut self, text: &[u8], field: &'static str) -> Result<(), EncodeError> {
        self.text(text, field)?;
        self.u8(0);
        Ok(())
    }

    /// Appends a string without its NUL.
    #[inline]
    pub(crate) fn text(&mut self, text: &[u8], field: &'static str) -> Result<(), EncodeError> {
        if find_nul(text).is_some() {
            return Err(self.error(field, EncodeErrorKind::Nul));
        }
        self.bytes(text);
        Ok(())
    }

    /// Appends a string that must not be empty, because an empty one ends the list that holds it.
    #[inline]
    pub(crate) fn non_empty_cstr(&mut self, text: &[u8], field: &'static str) -> Result<(), EncodeError> {
        if text.is_empty() {
            return Err(self.error(field, EncodeErrorKind::Empty));
        }
        self.cstr(text, field)
    }

    /// Appends a value with its length before it; `None` is NULL, length -1.
    #[inline]
    pub(crate) fn value(&mut self, value: Option<&[u8]>, field: &'static str) -> Result<(), EncodeError> {
        let Some(value) = value else {
            self.i32(-1);
            return Ok(());
        };
        let len = i32::try_from(value.len()).map_err(|_| self.error(field, EncodeErrorKind::TooLong))?;
        self.i32(len);
        self.bytes(value);
        Ok(())
    }

    /// Appends the 16-bit count with which most lists begin.
    #[inline]
    pub(crate) fn count(&mut self, count: usize, field: &'static str) -> Result<(), EncodeError> {
        let count = u16::try_from(count).map_err(|_| self.error(field, EncodeErrorKind::TooMany))?;
        self.u16(count);
        Ok(())
    }
}
