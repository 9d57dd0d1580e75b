//! The one place that takes bytes apart.

use super::error::{DecodeError, DecodeErrorKind};

/// A cursor over the body of one message. Each read names its field, for the error.
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
        let split = self.rest.iter().position(|&b| b == 0).and_then(|end| self.rest.split_at_checked(end));
        match split {
            Some((text, [_nul, rest @ ..])) => {
                self.rest = rest;
                Ok(text)
            }
            _ => Err(self.error(field, DecodeErrorKind::Unterminated)),
        }
    }

    #[inline]
    pub(crate) fn bytes(&mut self, len: usize, field: &'static str) -> Result<&'a [u8], DecodeError> {
        match self.rest.split_at_checked(len) {
            Some((taken, rest)) => {
                self.rest = rest;
                Ok(taken)
            }
            None => Err(self.error(field, DecodeErrorKind::Truncated)),
        }
    }

    /// A value with its length before it: -1 is NULL, any other negative length is malformed.
    #[inline]
    pub(crate) fn value(&mut self, field: &'static str) -> Result<Option<&'a [u8]>, DecodeError> {
        let len = self.i32(field)?;
        match usize::try_from(len) {
            Ok(len) => self.bytes(len, field).map(Some),
            Err(_) if len == -1 => Ok(None),
            Err(_) => Err(self.error(field, DecodeErrorKind::Length(i64::from(len)))),
        }
    }

    /// Everything that is left.
    #[inline]
    pub(crate) fn rest(&mut self) -> &'a [u8] {
        core::mem::take(&mut self.rest)
    }

    /// What is left, without taking it.
    #[inline]
    pub(crate) const fn peek(&self) -> &'a [u8] {
        self.rest
    }

    /// The end of the message: nothing may be left.
    #[inline]
    pub(crate) const fn finish(self) -> Result<(), DecodeError> {
        match self.rest.len() {
            0 => Ok(()),
            left => Err(self.error("end", DecodeErrorKind::Trailing(left))),
        }
    }
}
