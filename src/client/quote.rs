use std::string::String;

/// Quotes a name for SQL: `a"b` becomes `"a""b"`.
///
/// A NUL, which no name can hold, is left in and refused when the statement is sent.
#[must_use]
pub fn quote_ident(name: &str) -> String {
    quoted(name, '"')
}

/// Quotes text for SQL: `it's` becomes `'it''s'`. A text with a backslash becomes ` E'..\\..'`, which means
/// the same under every setting of `standard_conforming_strings`; the blank keeps the `E` apart from a word
/// before it.
///
/// A NUL, which no text can hold, is left in and refused when the statement is sent.
#[must_use]
pub fn quote_literal(text: &str) -> String {
    if text.contains('\\') {
        let mut literal = String::from(" E");
        literal.push_str(&quoted(&text.replace('\\', "\\\\"), '\''));
        return literal;
    }
    quoted(text, '\'')
}

fn quoted(text: &str, quote: char) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push(quote);
    for c in text.chars() {
        quoted.push(c);
        if c == quote {
            quoted.push(quote);
        }
    }
    quoted.push(quote);
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_are_doubled() {
        assert_eq!(quote_ident("a\"b"), "\"a\"\"b\"");
        assert_eq!(quote_literal("it's"), "'it''s'");
        assert_eq!(quote_literal(""), "''");
    }

    #[test]
    fn a_backslash_means_itself_under_every_setting() {
        assert_eq!(quote_literal("\\'; --"), " E'\\\\''; --'");
    }
}
