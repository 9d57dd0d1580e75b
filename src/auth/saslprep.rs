use alloc::borrow::Cow;

/// A password as SCRAM hashes it: SASLprep (RFC 4013) where it applies, else the bytes as they are.
///
/// PostgreSQL does not know the encoding a password was typed in, so both its sides take the bytes unchanged
/// when they are not UTF-8 or hold something SASLprep prohibits (control characters, unassigned code points,
/// mixed directions, nothing left after mapping). Pure ASCII is never changed.
///
/// The result is as secret as the password; an owned one is the caller's to overwrite.
#[must_use]
pub fn saslprep(password: &[u8]) -> Cow<'_, [u8]> {
    if password.is_ascii() {
        return Cow::Borrowed(password);
    }
    let prepared = core::str::from_utf8(password).ok().and_then(|text| stringprep::saslprep(text).ok());
    match prepared {
        Some(Cow::Owned(text)) if !text.is_empty() => Cow::Owned(text.into_bytes()),
        _ => Cow::Borrowed(password),
    }
}
