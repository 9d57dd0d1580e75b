use alloc::borrow::Cow;
use alloc::string::String;
use core::cmp::Ordering;

use unicode_normalization::UnicodeNormalization;
use zeroize::Zeroizing;

use super::saslprep_tables::{FORBIDDEN, LEFT_TO_RIGHT, MAPPED_TO_NOTHING, RIGHT_TO_LEFT, SPACES};

/// A password as SCRAM hashes it: SASLprep (RFC 4013) where it applies, else the bytes as they are.
///
/// PostgreSQL does not know the encoding a password was typed in, so its clients and servers take the bytes
/// unchanged when they are not UTF-8 or contain something that SASLprep prohibits (control characters,
/// unassigned code points, mixed directions, nothing left after mapping). Pure ASCII is never changed.
///
/// RFC 4013 looks for prohibited characters after normalization. PostgreSQL looks before it, and so does this
/// function: the hash must equal the server's.
///
/// The result is as secret as the password; the caller has to overwrite an owned one.
#[must_use]
pub fn saslprep(password: &[u8]) -> Cow<'_, [u8]> {
    if password.is_ascii() {
        return Cow::Borrowed(password);
    }
    let Ok(text) = core::str::from_utf8(password) else { return Cow::Borrowed(password) };
    // No character becomes longer, so the string never reallocates and leaves no unwiped copy behind.
    let mut mapped = Zeroizing::new(String::with_capacity(text.len()));
    mapped.extend(text.chars().filter_map(map_char));
    if mapped.is_empty() || mapped.contains(|c| is_in(&FORBIDDEN, c)) || mixes_directions(&mapped) {
        return Cow::Borrowed(password);
    }
    // Some characters become many. Room for exactly these, again so that the string never reallocates.
    let mut normalized = String::with_capacity(mapped.nfkc().map(char::len_utf8).sum());
    normalized.extend(mapped.nfkc());
    Cow::Owned(normalized.into_bytes())
}

fn map_char(c: char) -> Option<char> {
    match c {
        c if is_in(&SPACES, c) => Some(' '),
        c if is_in(&MAPPED_TO_NOTHING, c) => None,
        c => Some(c),
    }
}

/// RFC 3454 section 6: text with a right-to-left character has no left-to-right one, and begins and ends
/// with a right-to-left one.
fn mixes_directions(text: &str) -> bool {
    let is_right_to_left = |c| is_in(&RIGHT_TO_LEFT, c);
    text.contains(is_right_to_left)
        && (text.contains(|c| is_in(&LEFT_TO_RIGHT, c))
            || !text.starts_with(is_right_to_left)
            || !text.ends_with(is_right_to_left))
}

fn is_in(ranges: &[(u32, u32)], c: char) -> bool {
    let c = u32::from(c);
    let place = |&(first, last): &(u32, u32)| match () {
        () if last < c => Ordering::Less,
        () if first > c => Ordering::Greater,
        () => Ordering::Equal,
    };
    ranges.binary_search_by(place).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prepared(password: &str) -> Cow<'_, [u8]> {
        saslprep(password.as_bytes())
    }

    #[test]
    fn the_examples_of_rfc_4013_hold() {
        for (password, expected) in [
            ("I\u{ad}X", "IX"),
            ("user", "user"),
            ("USER", "USER"),
            ("\u{aa}", "a"),
            ("\u{2168}", "IX"),
            // The RFC calls these two errors; PostgreSQL then takes the password as it is.
            ("\u{7}", "\u{7}"),
            ("\u{627}1", "\u{627}1"),
        ] {
            assert_eq!(prepared(password), expected.as_bytes(), "{password:?}");
        }
    }

    #[test]
    fn characters_are_mapped_and_composed() {
        for (password, expected) in [
            ("a\u{a0}b\u{3000}c", "a b c"),
            // In both tables of mappings; the space wins.
            ("\u{e9}\u{200b}b", "\u{e9} b"),
            ("p\u{200d}\u{feff}\u{1806}w", "pw"),
            ("e\u{301}", "\u{e9}"),
            ("\u{ff50}\u{ff57}", "pw"),
            ("\u{fb01}", "fi"),
            ("\u{212b}", "\u{c5}"),
            ("\u{1100}\u{1161}", "\u{ac00}"),
            ("\u{fc5e}", " \u{64c}\u{651}"),
        ] {
            assert_eq!(prepared(password), expected.as_bytes(), "{password:?}");
        }
    }

    #[test]
    fn a_password_that_becomes_longer_leaves_no_copy_of_a_reallocation() {
        // One character that becomes 18, of 33 bytes.
        let Cow::Owned(prepared) = prepared("\u{fdfa}") else { panic!("it is changed") };
        assert_eq!((prepared.len(), prepared.capacity()), (33, 33));
    }

    #[test]
    fn prohibited_or_empty_passwords_stay_as_they_are() {
        for password in [
            "\u{ad}",
            "\u{ad}\u{200d}",
            "\u{2168}\u{7}",
            "\u{2168}\u{7f}",
            "\u{2168}\u{85}",
            "\u{2168}\u{e000}",
            "\u{2168}\u{fdd0}",
            "\u{2168}\u{fffd}",
            "\u{2168}\u{2ff0}",
            "\u{2168}\u{340}",
            "\u{2168}\u{200e}",
            "\u{2168}\u{e0001}",
            // Assigned after Unicode 3.2.
            "\u{2168}\u{221}",
            "\u{2168}\u{1f600}",
        ] {
            assert_eq!(prepared(password), password.as_bytes(), "{password:?}");
        }
    }

    #[test]
    fn bytes_that_are_not_utf_8_stay_as_they_are() {
        for password in [&b"\xff"[..], b"caf\xe9 \xc2\xa0", b"\xc0\xaf", b"\xed\xa0\x80", b"\xe2\x85"] {
            assert_eq!(saslprep(password), password);
        }
    }

    #[test]
    fn text_of_mixed_directions_stays_as_it_is() {
        // Prepared, the ligature falls apart and the presentation form becomes a plain letter.
        assert_eq!(prepared("\u{fe8d}\u{fe8d}"), "\u{627}\u{627}".as_bytes());
        assert_eq!(prepared("\u{fe8d}1\u{fe8d}"), "\u{627}1\u{627}".as_bytes());
        for password in ["\u{fe8d}1", "1\u{fe8d}", "\u{fe8d}a\u{fe8d}", "\u{fe8d}\u{e9}\u{fe8d}"] {
            assert_eq!(prepared(password), password.as_bytes(), "{password:?}");
        }
        // Normalized, this text ends in a combining point; only the text before normalization counts.
        assert_eq!(prepared("\u{fb1d}"), "\u{5d9}\u{5b4}".as_bytes());
    }

    #[test]
    fn the_tables_are_in_order() {
        for table in [&FORBIDDEN[..], &LEFT_TO_RIGHT, &MAPPED_TO_NOTHING, &RIGHT_TO_LEFT, &SPACES] {
            assert!(table.iter().all(|(first, last)| first <= last));
            assert!(table.windows(2).all(|pair| pair[0].1 < pair[1].0));
        }
    }
}
