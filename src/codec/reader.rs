//! The only place that takes the bytes of a message apart.

use super::error::{DecodeError, DecodeErrorKind};

/// A cursor over the body of one message. Each read names its field, so that an error can name it.
#[derive(Clone, Copy)]
pub struct Reader<'a> {
    message: &'static str,
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) const fn new(message: &'static str, body: &'a [u8]) -> Self {
        Self { message, rest: body }
    }

    #[inline]
    pub(crate) const fn error(&self, field: &'static str, kind: DecodeErrorKind) -> DecodeError {
        DecodeError::new(self.message, field, kind)
    }

    #[inline]
    pub(crate) fn take<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], DecodeError> {
        match self.rest.split_first_chunk::<N>() {
            Some((taken, rest)) => {
                self.rest = rest;
                Ok(*taken)
            }
            None => Err(self.error(field, DecodeErrorKind::Truncated)),
        }
    }

    #[inline]
    pub(crate) fn u8(&mut self, field: &'static str) -> Result<u8, DecodeError> {
        self.take::<1>(field).map(|[byte]| byte)
    }

    /// One byte that is 0 or 1.
    #[inline]
    pub(crate) fn bool(&mut self, field: &'static str) -> Result<bool, DecodeError> {
        match self.u8(field)? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(self.error(field, DecodeErrorKind::Value(i64::from(other)))),
        }
    }

    #[inline]
    pub(crate) fn u16(&mut self, field: &'static str) -> Result<u16, DecodeError> {
        self.take(field).map(u16::from_be_bytes)
    }

    #[inline]
    pub(crate) fn i16(&mut self, field: &'static str) -> Result<i16, DecodeError> {
        self.take(field).map(i16::from_be_bytes)
    }

    #[inline]
    pub(crate) fn u32(&mut self, field: &'static str) -> Result<u32, DecodeError> {
        self.take(field).map(u32::from_be_bytes)
    }

    #[inline]
    pub(crate) fn i32(&mut self, field: &'static str) -> Result<i32, DecodeError> {
        self.take(field).map(i32::from_be_bytes)
    }

    #[inline]
    pub(crate) fn u64(&mut self, field: &'static str) -> Result<u64, DecodeError> {
        self.take(field).map(u64::from_be_bytes)
    }

    #[inline]
    pub(crate) fn i64(&mut self, field: &'static str) -> Result<i64, DecodeError> {
        self.take(field).map(i64::from_be_bytes)
    }

    /// A string up to its NUL, which is taken but not part of the result.
    #[inline]
    pub(crate) fn cstr(&mut self, field: &'static str) -> Result<&'a [u8], DecodeError> {
        match find_nul(self.rest).and_then(|end| self.rest.split_at_checked(end)) {
            Some((text, [_nul, rest @ ..])) => {
                self.rest = rest;
                Ok(text)
            }
            _ => Err(self.error(field, DecodeErrorKind::Unterminated)),
        }
    }

    /// Refuses a body that is longer than a length word can express, as no message holds one. Call it before
    /// [`value`](Self::value), which relies on it.
    #[inline]
    pub(crate) fn refuse_huge(&self) -> Result<(), DecodeError> {
        match i32::try_from(self.rest.len()) {
            Ok(_) => Ok(()),
            Err(_) => Err(self.huge()),
        }
    }

    #[cold]
    const fn huge(&self) -> DecodeError {
        let (length, limit) = (self.rest.len() as u64, i32::MAX as u64);
        self.error("length", DecodeErrorKind::TooLong { length, limit })
    }

    /// A value with its length before it: -1 is NULL, any other negative length is malformed.
    ///
    /// Read without its sign, a negative length is larger than the rest of any message, so one comparison
    /// finds both faults.
    #[inline]
    pub(crate) fn value(&mut self, field: &'static str) -> Result<Option<&'a [u8]>, DecodeError> {
        let len = self.u32(field)?;
        match usize::try_from(len).ok().and_then(|len| self.rest.split_at_checked(len)) {
            Some((value, rest)) => {
                self.rest = rest;
                Ok(Some(value))
            }
            None if len == NULL => Ok(None),
            None => Err(self.not_a_value(len, field)),
        }
    }

    /// Checks a [`value`](Self::value) without returning it, which is half of the work on a row.
    #[inline]
    pub(crate) fn skip_value(&mut self, field: &'static str) -> Result<(), DecodeError> {
        let len = self.u32(field)?;
        match usize::try_from(len).ok().and_then(|len| self.rest.get(len..)) {
            Some(rest) => {
                self.rest = rest;
                Ok(())
            }
            None if len == NULL => Ok(()),
            None => Err(self.not_a_value(len, field)),
        }
    }

    #[cold]
    fn not_a_value(&self, len: u32, field: &'static str) -> DecodeError {
        let len = len.cast_signed();
        let kind = if len < 0 { DecodeErrorKind::Length(i64::from(len)) } else { DecodeErrorKind::Truncated };
        self.error(field, kind)
    }

    /// Takes everything that is left.
    #[inline]
    pub(crate) fn rest(&mut self) -> &'a [u8] {
        core::mem::take(&mut self.rest)
    }

    /// The bytes that are left, without taking them.
    #[inline]
    pub(crate) const fn peek(&self) -> &'a [u8] {
        self.rest
    }

    /// Ends the reading: an error if bytes are left.
    #[inline]
    pub(crate) const fn finish(self) -> Result<(), DecodeError> {
        match self.rest.len() {
            0 => Ok(()),
            left => Err(self.error("end", DecodeErrorKind::Trailing(left))),
        }
    }
}

/// The length -1, read without its sign.
const NULL: u32 = u32::MAX;

/// The position of the first NUL. Searches eight bytes at a time, because errors and descriptions consist
/// mostly of strings, and most of these are short.
#[inline]
pub(crate) fn find_nul(bytes: &[u8]) -> Option<usize> {
    const LOW_BITS: u64 = 0x0101_0101_0101_0101;
    const HIGH_BITS: u64 = 0x8080_8080_8080_8080;
    let mut at: usize = 0;
    let mut rest = bytes;
    while let Some((word, after)) = rest.split_first_chunk() {
        let word = u64::from_le_bytes(*word);
        // Subtracting 1 from a byte that is 0 sets its high bit. The lowest bit found is always right; a
        // higher one may come from a borrow.
        let nul = word.wrapping_sub(LOW_BITS) & !word & HIGH_BITS;
        if nul != 0 {
            return Some(at.wrapping_add(usize::try_from(nul.trailing_zeros() >> 3).ok()?));
        }
        at = at.wrapping_add(8);
        rest = after;
    }
    Some(at.wrapping_add(rest.iter().position(|&byte| byte == 0)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    #[test]
    fn the_first_nul_is_found_wherever_it_is() {
        for len in 0..40 {
            for filler in [1, 0x7f, 0x80, 0x81, 0xff] {
                let mut bytes: Vec<u8> = core::iter::repeat_n(filler, len).collect();
                assert_eq!(find_nul(&bytes), None, "{len} {filler}");
                for first in (0..len).rev() {
                    bytes[first] = 0;
                    assert_eq!(find_nul(&bytes), Some(first), "{len} {filler}");
                }
                for first in 0..len {
                    bytes[first] = filler;
                    assert_eq!(find_nul(&bytes), bytes.iter().position(|&b| b == 0), "{len} {filler}");
                }
            }
        }
    }
}
