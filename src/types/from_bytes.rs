use alloc::string::String;
use core::fmt::Write as _;

/// Bytes of others as text: what is UTF-8 as it is, and each byte that is not as `\xNN`.
///
/// PostgreSQL takes any bytes for the names of roles, databases and paths where a database has no encoding
/// (`SQL_ASCII`), and so do file systems. Such a name must not keep anything else from being told, and two of them must
/// not become the same text, as they would with U+FFFD. A backslash stays as it is, so only a name that itself has
/// `\x` and two digits in it can be taken for another.
#[must_use]
pub fn text_of(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        for byte in chunk.invalid() {
            // Writing to a String does not fail.
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_bytes_that_are_no_characters_are_escaped() {
        for (bytes, text) in [
            (&b""[..], ""),
            ("caf\u{e9}\\ \0".as_bytes(), "caf\u{e9}\\ \0"),
            (b"caf\xe9", "caf\\xe9"),
            (b"\xff\xfea\xc3", "\\xff\\xfea\\xc3"),
            (b"\xc3\xa9\xed\xa0\x80", "\u{e9}\\xed\\xa0\\x80"),
        ] {
            assert_eq!(text_of(bytes), text);
        }
    }
}
