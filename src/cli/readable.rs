//! Values in a form for people, and texts in one that does no harm to those who read them.

use std::borrow::Cow;
use std::time::UNIX_EPOCH;

use serde_json::Value;
use tapster::types::{ByteCount, PgTimestamp, is_printable};

/// Lines for people. Whatever a server, a file name or an argument has brought into them, nothing of it reaches a
/// terminal but visible characters. The line ends are ours: whoever puts the text of others into a line uses
/// `Printable` or `PrintableLines`.
pub(super) fn for_people(lines: &str) -> Cow<'_, str> {
    let is_safe = |c: char| c == '\n' || is_printable(c);
    if lines.chars().all(is_safe) {
        return lines.into();
    }
    let mut safe = String::with_capacity(2 * lines.len());
    for c in lines.chars() {
        match c {
            c if is_safe(c) => safe.push(c),
            '\r' | '\t' => safe.extend(c.escape_default()),
            c => safe.extend(c.escape_unicode()),
        }
    }
    safe.into()
}

/// A document in one line. It has every value exactly, and in it as JSON's escapes what would not be visible.
pub(super) fn for_programs(document: &Value) -> String {
    let document = document.to_string();
    if document.chars().all(is_printable) {
        return document;
    }
    let mut safe = String::with_capacity(2 * document.len());
    for c in document.chars() {
        if is_printable(c) {
            safe.push(c);
        } else {
            // Outside of a string serde_json writes nothing but printable ASCII.
            c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| safe.push_str(&format!("\\u{unit:04x}")));
        }
    }
    safe
}

/// Now in UTC, as RFC 3339 has it, to the second.
pub(super) fn timestamp() -> String {
    seconds(now())
}

/// Now in UTC, as RFC 3339 has it, to the microsecond: for documents.
pub(super) fn exact_timestamp() -> String {
    now().to_string()
}

fn now() -> PgTimestamp {
    let micros = UNIX_EPOCH.elapsed().map(|since| since.as_micros()).unwrap_or_default();
    PgTimestamp::from_unix_micros(i64::try_from(micros).unwrap_or(i64::MAX))
}

fn seconds(moment: PgTimestamp) -> String {
    let text = moment.to_string();
    text.split_once('.').map_or_else(|| text.clone(), |(seconds, _)| format!("{seconds}Z"))
}

/// A number of bytes as people read it: `312.4 MiB`.
pub(super) fn bytes(bytes: u64) -> String {
    ByteCount(bytes).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_has_no_fractions() {
        assert_eq!(seconds(PgTimestamp::from_unix_micros(999_999)), "1970-01-01T00:00:00Z");
        assert_eq!(seconds(PgTimestamp::from_unix_micros(1_795_164_611_000_000)), "2026-11-20T08:50:11Z");
    }

    #[test]
    fn only_visible_characters_reach_people() {
        assert_eq!(for_people("caf\u{e9}\n  a\\b"), "caf\u{e9}\n  a\\b");
        assert_eq!(for_people("a\x1b[2J\r\u{202e}b"), "a\\u{1b}[2J\\r\\u{202e}b");
    }

    #[test]
    fn documents_are_exact_and_visible() {
        let document = serde_json::json!({ "a\u{9b}": "\x1b\u{202e}\u{e0041}\n\u{e9}" });
        let text = for_programs(&document);
        assert_eq!(text, "{\"a\\u009b\":\"\\u001b\\u202e\\udb40\\udc41\\n\u{e9}\"}");
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), document);
    }

    #[test]
    fn sizes_are_rounded_to_the_unit_that_reads_best() {
        let texts = [0, 1023, 1024, 16 << 20, (1 << 30) - 1, 1 << 30, u64::MAX].map(bytes);
        assert_eq!(texts, ["0 B", "1023 B", "1.0 KiB", "16.0 MiB", "1.0 GiB", "1.0 GiB", "16384.0 PiB"]);
    }
}
