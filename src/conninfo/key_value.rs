//! Connection strings of the form `key = value key='value'`.

use std::format;
use std::prelude::v1::*;

use zeroize::Zeroizing;

use super::{ConnInfo, ConnInfoError};

/// Parses a key/value string into `into`; a repeated key replaces the earlier value.
pub(super) fn parse(text: &str, into: &mut ConnInfo) -> Result<(), ConnInfoError> {
    let mut rest = text.trim_start_matches(is_space);
    let mut after_secret = false;
    while !rest.is_empty() {
        let end = rest.find(|c| c == '=' || is_space(c)).unwrap_or(rest.len());
        let (keyword, tail) = rest.split_at(end);
        // A blank in an unquoted password makes its second half look like a keyword.
        let shown = || if after_secret { String::from("***") } else { hide_userinfo(keyword) };
        let Some(tail) = tail.trim_start_matches(is_space).strip_prefix('=') else {
            return Err(ConnInfoError::syntax(format!(
                "missing \"=\" after \"{}\" in connection info string",
                shown()
            )));
        };
        let tail = tail.trim_start_matches(is_space);
        let (value, tail) = match tail.strip_prefix('\'') {
            Some(tail) => quoted(tail)?,
            None => bare(tail),
        };
        let stored = into.store(keyword, value)?;
        let Some(keyword) = stored else { return Err(ConnInfoError::unknown_option(&shown())) };
        after_secret = keyword.secret;
        rest = tail.trim_start_matches(is_space);
    }
    Ok(())
}

/// Appends ` key=value` to `out`, quoted where [`parse`] would otherwise not return the same value.
pub(super) fn encode(keyword: &str, value: &str, out: &mut String) {
    if !out.is_empty() {
        out.push(' ');
    }
    out.push_str(keyword);
    out.push('=');
    if !value.is_empty() && !value.contains(|c| is_space(c) || c == '\'' || c == '\\') {
        out.push_str(value);
        return;
    }
    out.push('\'');
    for c in value.chars() {
        if c == '\'' || c == '\\' {
            out.push('\\');
        }
        out.push(c);
    }
    out.push('\'');
}

/// C's `isspace` in the C locale.
pub(super) fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t'..='\r')
}

/// A value up to white space. A backslash makes the next character literal; a backslash at the end is
/// dropped.
fn bare(text: &str) -> (Zeroizing<String>, &str) {
    let mut value = Zeroizing::new(String::with_capacity(text.len()));
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => value.extend(chars.next()),
            c if is_space(c) => break,
            c => value.push(c),
        }
    }
    (value, chars.as_str())
}

/// A value up to its closing quote. The next keyword may follow the quote without a blank.
fn quoted(text: &str) -> Result<(Zeroizing<String>, &str), ConnInfoError> {
    let mut value = Zeroizing::new(String::with_capacity(text.len()));
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => value.extend(chars.next()),
            '\'' => return Ok((value, chars.as_str())),
            c => value.push(c),
        }
    }
    Err(ConnInfoError::syntax("unterminated quoted string in connection info string"))
}

/// `Postgres://u:p@h` is not a URI for libpq, and its refusal must not show the password either.
fn hide_userinfo(word: &str) -> String {
    match word.split_once("://") {
        Some((scheme, rest)) if rest.contains([':', '@']) => format!("{scheme}://***"),
        _ => String::from(word),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec;

    fn parsed(text: &str) -> Result<Vec<(String, String)>, String> {
        match text.parse::<ConnInfo>() {
            Ok(conninfo) => Ok(conninfo.iter().map(|(k, v)| (k.into(), v.into())).collect()),
            Err(error) => Err(error.to_string()),
        }
    }

    fn ok(pairs: &[(&str, &str)]) -> Result<Vec<(String, String)>, String> {
        Ok(pairs.iter().map(|&(k, v)| (k.into(), v.into())).collect())
    }

    #[test]
    fn blanks_separate_pairs_and_surround_the_equals_sign() {
        assert_eq!(parsed(""), ok(&[]));
        assert_eq!(parsed(" \t\n\x0b\x0c\r"), ok(&[]));
        assert_eq!(parsed(" host = a\tport\n=\r5 "), ok(&[("host", "a"), ("port", "5")]));
        // U+00A0 is a blank for Unicode but not for libpq.
        assert_eq!(parsed("host=\u{a0}a"), ok(&[("host", "\u{a0}a")]));
    }

    #[test]
    fn a_missing_bare_value_swallows_the_next_word() {
        assert_eq!(parsed("host= port=1"), ok(&[("host", "port=1")]));
        assert_eq!(parsed("host="), ok(&[("host", "")]));
    }

    #[test]
    fn a_backslash_makes_the_next_character_literal_in_both_forms() {
        assert_eq!(parsed(r"user=a\ b\\c\'d"), ok(&[("user", r"a b\c'd")]));
        assert_eq!(parsed(r"user='a\'b\\c\d'"), ok(&[("user", r"a'b\cd")]));
        assert_eq!(parsed(r"user=a\"), ok(&[("user", "a")]));
        assert_eq!(parsed("user=\\\u{e4}"), ok(&[("user", "\u{e4}")]));
    }

    #[test]
    fn quotes_work_only_at_the_beginning_of_a_value() {
        assert_eq!(parsed("user='a b'port=1"), ok(&[("user", "a b"), ("port", "1")]));
        assert_eq!(parsed("user=a'b'c"), ok(&[("user", "a'b'c")]));
        assert_eq!(parsed("user=''"), ok(&[("user", "")]));
        assert_eq!(parsed("host==a=b"), ok(&[("host", "=a=b")]));
    }

    #[test]
    fn later_duplicates_win() {
        assert_eq!(parsed("host=a port=1 host=b"), ok(&[("host", "b"), ("port", "1")]));
    }

    #[test]
    fn requiressl_is_an_old_spelling_of_sslmode() {
        for (text, mode) in [
            ("requiressl=1", "require"),
            ("requiressl=1x", "require"),
            ("requiressl=0", "prefer"),
            ("requiressl=", "prefer"),
        ] {
            assert_eq!(parsed(text), ok(&[("sslmode", mode)]), "{text}");
        }
    }

    #[test]
    fn mistakes_are_reported_in_libpqs_words() {
        for (text, message) in [
            ("host", "missing \"=\" after \"host\" in connection info string"),
            ("host a", "missing \"=\" after \"host\" in connection info string"),
            ("host=a b", "missing \"=\" after \"b\" in connection info string"),
            ("=a", "invalid connection option \"\""),
            ("hosts=a", "invalid connection option \"hosts\""),
            ("Host=a", "invalid connection option \"Host\""),
            ("tty=a", "invalid connection option \"tty\""),
            ("user='a", "unterminated quoted string in connection info string"),
            ("user='a\\'", "unterminated quoted string in connection info string"),
            ("user='a\\", "unterminated quoted string in connection info string"),
        ] {
            assert_eq!(parsed(text), Err(message.into()), "{text}");
        }
    }

    #[test]
    fn half_a_password_is_not_shown() {
        for text in [
            "password=my secret",
            "password=my secret=1",
            "Postgres://u:secret@h",
            "Postgres://u:secret=1@h",
            "password='my' 'secret",
            "sslpassword=a secret=",
        ] {
            let message = parsed(text).unwrap_err();
            assert!(!message.contains("secret"), "{text}: {message}");
            assert!(message.contains("***"), "{text}: {message}");
        }
    }

    #[test]
    fn only_values_that_need_quotes_are_quoted() {
        let mut out = String::new();
        for (keyword, value) in [("host", "a"), ("user", ""), ("dbname", "a b"), ("password", r"\'")] {
            encode(keyword, value, &mut out);
        }
        assert_eq!(out, r"host=a user='' dbname='a b' password='\\\''");
    }

    #[test]
    fn encoded_parameters_parse_back_to_themselves() {
        let nasty =
            vec!["", " ", "'", "\\", "a=b", "=", "a\\", "\t\n\x0b\x0c\r", "\u{e4}\u{a0}\u{1f600}", "''\\'"];
        for value in &nasty {
            for second in &nasty {
                let mut conninfo = ConnInfo::new();
                conninfo.set("user", *value).unwrap();
                conninfo.set("password", *second).unwrap();
                assert_eq!(conninfo.encode().parse(), Ok(conninfo));
            }
        }
    }
}
