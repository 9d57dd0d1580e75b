use core::fmt::{self, Write as _};

/// Text of others as a single line that is safe to show to people: on a terminal, in a log, in a table.
///
/// A server chooses what its errors, notices and names say, and so does whoever may name a role or a slot. Sent raw to
/// a terminal, such text could move the cursor, hide lines or run commands of the terminal; in a log it could forge
/// lines. `Display` therefore shows as escapes (`\n`, `\u{1b}`) every control character, and every character that is
/// invisible or changes the direction of the text. It cuts what has more than [`MAX_CHARS`](Self::MAX_CHARS) characters
/// and tells the length. A backslash stays as it is: the text is for reading, not for parsing back.
#[derive(Clone, Copy, Debug)]
pub struct Printable<'a>(pub &'a str);

impl Printable<'_> {
    /// How many characters are shown.
    pub const MAX_CHARS: usize = 1000;
}

impl fmt::Display for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_cut(f, self.0, Self::MAX_CHARS, write_char)
    }
}

/// As [`Printable`], for a message that may have several lines, such as a server's error.
///
/// Each further line begins with `| `, so that it cannot be taken for a line of the program. At most
/// [`MAX_CHARS`](Self::MAX_CHARS) characters are shown.
#[derive(Clone, Copy, Debug)]
pub struct PrintableLines<'a>(pub &'a str);

impl PrintableLines<'_> {
    /// How many characters are shown.
    pub const MAX_CHARS: usize = 8000;
}

impl fmt::Display for PrintableLines<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_cut(f, self.0, Self::MAX_CHARS, |f, c| match c {
            '\n' => f.write_str("\n| "),
            '\t' => f.write_char(' '),
            c => write_char(f, c),
        })
    }
}

/// Whether a character may be shown as it is: it is visible or a blank, and changes nothing about the others.
#[must_use]
pub const fn is_printable(c: char) -> bool {
    !matches!(
        c,
        // Control characters: C0, DEL and C1.
        '\0'..='\u{1f}' | '\u{7f}'..='\u{9f}'
        // Soft hyphen, and the characters of Arabic, Mongolian and Hangul that have no width.
        | '\u{ad}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{180b}'..='\u{180f}' | '\u{3164}' | '\u{ffa0}'
        // No width, direction of the text, separators of lines and paragraphs.
        | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
        // Variation selectors, annotations, tags.
        | '\u{fe00}'..='\u{fe0f}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}'
    )
}

fn write_char(f: &mut fmt::Formatter<'_>, c: char) -> fmt::Result {
    match c {
        '\n' | '\r' | '\t' => write!(f, "{}", c.escape_default()),
        c if is_printable(c) => f.write_char(c),
        c => write!(f, "{}", c.escape_unicode()),
    }
}

fn write_cut(
    f: &mut fmt::Formatter<'_>,
    text: &str,
    max_chars: usize,
    write: impl Fn(&mut fmt::Formatter<'_>, char) -> fmt::Result,
) -> fmt::Result {
    let mut chars = text.chars();
    for c in chars.by_ref().take(max_chars) {
        write(f, c)?;
    }
    match chars.as_str() {
        "" => Ok(()),
        _ => write!(f, "... (cut; {} bytes)", text.len()),
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString as _;

    use super::*;

    #[test]
    fn what_could_act_on_a_terminal_is_escaped() {
        for (text, shown) in [
            ("caf\u{e9} \u{65e5}\u{672c} a\\b \"x\"", "caf\u{e9} \u{65e5}\u{672c} a\\b \"x\""),
            ("a\x1b[2Jb", "a\\u{1b}[2Jb"),
            ("a\r\nb\tc\0\x07\x7f", "a\\r\\nb\\tc\\u{0}\\u{7}\\u{7f}"),
            ("\u{9b}31m\u{85}", "\\u{9b}31m\\u{85}"),
            (
                "\u{202e}gpj\u{2066}\u{200b}\u{feff}\u{2028}",
                "\\u{202e}gpj\\u{2066}\\u{200b}\\u{feff}\\u{2028}",
            ),
            ("\u{e0041}", "\\u{e0041}"),
        ] {
            assert_eq!(Printable(text).to_string(), shown);
        }
    }

    #[test]
    fn further_lines_are_marked() {
        let text = "bad value\nhint: do this\r\n\n2026-12-01T00:00:00Z forged\x1b[A";
        let shown = PrintableLines(text).to_string();
        assert_eq!(shown, "bad value\n| hint: do this\\r\n| \n| 2026-12-01T00:00:00Z forged\\u{1b}[A");
    }

    #[test]
    fn long_text_is_cut_and_its_length_told() {
        let text = "\u{e9}".repeat(Printable::MAX_CHARS);
        assert_eq!(Printable(&text).to_string(), text);
        let longer = [&text, "x"].concat();
        assert_eq!(Printable(&longer).to_string(), [&text, "... (cut; 2001 bytes)"].concat());
        let lines = "\n".repeat(PrintableLines::MAX_CHARS + 1);
        assert!(PrintableLines(&lines).to_string().ends_with("| ... (cut; 8001 bytes)"));
    }
}
