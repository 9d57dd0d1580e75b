use std::vec::Vec;

/// The bytes of a `bytea` as the server prints it, in either form of `bytea_output`: `\x00ff`, or `\000\377` with a
/// backslash as `\\`. `None` if the text is neither.
pub(super) fn decode(text: &[u8]) -> Option<Vec<u8>> {
    match text.strip_prefix(b"\\x") {
        Some(digits) => hex(digits),
        None => escape(text),
    }
}

fn hex(digits: &[u8]) -> Option<Vec<u8>> {
    let digit = |digit: u8| char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok());
    let pairs = digits.chunks_exact(2);
    if !pairs.remainder().is_empty() {
        return None;
    }
    pairs.map(|pair| Some(digit(*pair.first()?)? << 4 | digit(*pair.last()?)?)).collect()
}

fn escape(text: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&first, after)) = rest.split_first() {
        let byte;
        (byte, rest) = match (first, after) {
            (b'\\', [b'\\', after @ ..]) => (b'\\', after),
            (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', after @ ..]) => {
                ((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'), after)
            }
            (b'\\', _) => return None,
            (plain, after) => (plain, after),
        };
        bytes.push(byte);
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_a_bytea_are_read() {
        for (text, bytes) in [
            (&b"\\x"[..], &b""[..]),
            (b"\\x00fFaB", b"\x00\xff\xab"),
            (b"", b""),
            (b"plain", b"plain"),
            (b"a\\\\b\\000\\377", b"a\\b\x00\xff"),
            (b"\\134x41", b"\\x41"),
        ] {
            assert_eq!(decode(text).as_deref(), Some(bytes), "{text:?}");
        }
        for text in
            [&b"\\x0"[..], b"\\x0g", b"\\x+1", b"\\x 1", b"\\", b"a\\", b"\\12", b"\\400", b"\\n", b"\\08"]
        {
            assert_eq!(decode(text), None, "{text:?}");
        }
    }
}
