//! What every message is tested for, so that one message is one line of a table.

use alloc::vec::Vec;
use core::fmt::Debug;

use super::owned::sealed::Family;

/// The golden triple for messages that end where their layout says: these bytes are this message, the
/// message is these bytes, and neither any shorter body nor a longer one is a message.
#[track_caller]
pub(crate) fn golden<'a, F: Family>(bytes: &'a [u8], message: F::Message<'a>) {
    same::<F>(bytes, message);
    for cut in 0..bytes.len() - F::HEADER {
        refused::<F>(&with_body_len::<F>(bytes, cut), "a truncated body");
    }
    refused::<F>(&with_body_len::<F>(bytes, bytes.len() - F::HEADER + 1), "one byte more in the body");
}

/// The same for messages that end in bytes without a layout: only the `fixed` bytes before those must be
/// there, and whatever else is there must come out again.
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

/// A body that must not be a message, behind a header that agrees with it.
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

/// The message with its body cut or filled up with zeros to `len`, and a length word that agrees.
fn with_body_len<F: Family>(bytes: &[u8], len: usize) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes.resize(F::HEADER + len, 0);
    if let Some(word) = F::HEADER.checked_sub(4) {
        bytes[word..F::HEADER].copy_from_slice(&u32::try_from(len + 4).unwrap().to_be_bytes());
    }
    bytes
}

/// An encoder that must refuse, and leave the output as it was.
#[track_caller]
pub(crate) fn not_encodable<F: Family>(message: F::Message<'_>) {
    let mut out = b"before".to_vec();
    assert!(F::encode(&message, &mut out).is_err(), "{message:?} was encoded");
    assert_eq!(out, b"before");
}

/// A list, from its items.
pub(crate) fn list<'a, T: super::Item>(items: impl IntoIterator<Item = T::Item<'a>>) -> super::ListBuf<T>
where
    T::Item<'a>: Debug,
{
    let mut list = super::ListBuf::new();
    items.into_iter().for_each(|item| list.push(item).unwrap());
    list
}
