//! The checks that every message goes through, so that a test needs one line of a table for one message.

use alloc::vec::Vec;
use core::fmt::Debug;

use super::owned::sealed::Family;

/// Checks a message that ends where its layout says: the bytes parse to the message, the message encodes to
/// the bytes, and no shorter or longer body is accepted.
#[track_caller]
pub(crate) fn golden<'a, F: Family>(bytes: &'a [u8], message: F::Message<'a>) {
    same::<F>(bytes, message);
    for cut in 0..bytes.len() - F::HEADER {
        refused::<F>(&with_body_len::<F>(bytes, cut), "a truncated body");
    }
    refused::<F>(&with_body_len::<F>(bytes, bytes.len() - F::HEADER + 1), "one byte more in the body");
}

/// Checks a message that ends in bytes without a layout: only the `fixed` bytes before them are required, and
/// all bytes after these must be encoded again.
#[track_caller]
pub(crate) fn golden_open<'a, F: Family>(bytes: &'a [u8], fixed: usize, message: F::Message<'a>) {
    same::<F>(bytes, message);
    for len in 0..bytes.len() - F::HEADER + 2 {
        let bytes = with_body_len::<F>(bytes, len);
        if len < fixed {
            refused::<F>(&bytes, "a truncated body");
        } else {
            let mut out = Vec::new();
            F::encode(&F::parse(&bytes).unwrap(), &mut out).unwrap();
            assert_eq!(out, bytes);
        }
    }
}

/// Checks that a body is refused, even after a header with the right length.
#[track_caller]
pub(crate) fn malformed<F: Family>(header: &[u8], body: &[u8]) {
    let mut bytes = header.to_vec();
    bytes.resize(F::HEADER, 0);
    bytes.extend_from_slice(body);
    refused::<F>(&with_body_len::<F>(&bytes, body.len()), "a malformed body");
}

#[track_caller]
fn same<'a, F: Family>(bytes: &'a [u8], message: F::Message<'a>) {
    assert_eq!(F::parse(bytes), Ok(message));
    let mut out = b"before".to_vec();
    F::encode(&message, &mut out).unwrap();
    assert_eq!(out.strip_prefix(b"before"), Some(bytes), "{message:?}");
    if F::HEADER > 0 {
        refused::<F>(&bytes[..bytes.len() - 1], "fewer bytes than the length says");
        refused::<F>(&[bytes, b"\0"].concat(), "more bytes than the length says");
    }
}

#[track_caller]
fn refused<F: Family>(bytes: &[u8], what: &str) {
    let parsed = F::parse(bytes);
    assert!(parsed.is_err(), "{what} was read: {} became {parsed:?}", bytes.escape_ascii());
}

/// The message with its body cut or filled up with zeros to `len`, and with the right length word.
fn with_body_len<F: Family>(bytes: &[u8], len: usize) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes.resize(F::HEADER + len, 0);
    if let Some(word) = F::HEADER.checked_sub(4) {
        bytes[word..F::HEADER].copy_from_slice(&u32::try_from(len + 4).unwrap().to_be_bytes());
    }
    bytes
}

/// Checks that encoding a message fails and leaves the output as it was.
#[track_caller]
pub(crate) fn not_encodable<F: Family>(message: F::Message<'_>) {
    let mut out = b"before".to_vec();
    assert!(F::encode(&message, &mut out).is_err(), "{message:?} was encoded");
    assert_eq!(out, b"before");
}

/// Makes a list of these items.
pub(crate) fn list<'a, T: super::Item>(items: impl IntoIterator<Item = T::Item<'a>>) -> super::ListBuf<T>
where
    T::Item<'a>: Debug,
{
    let mut list = super::ListBuf::new();
    items.into_iter().for_each(|item| list.push(item).unwrap());
    list
}
