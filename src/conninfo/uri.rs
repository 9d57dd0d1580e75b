//! Connection URIs: `postgresql://user:password@host:port,host:port/dbname?keyword=value&...`.

use std::format;
use std::prelude::v1::*;

use zeroize::Zeroizing;

use super::{ConnInfo, ConnInfoError};

/// The text after `postgresql://` or `postgres://` (lower case only), or `None` if the text is not a URI.
pub(super) fn strip_scheme(text: &str) -> Option<&str> {
    text.strip_prefix("postgresql://").or_else(|| text.strip_prefix("postgres://"))
}

/// Parses `uri`, of which `rest` is the part after the scheme. Parameters of the query override earlier
/// parts.
pub(super) fn parse(uri: &str, rest: &str, into: &mut ConnInfo) -> Result<(), ConnInfoError> {
    let mut rest = rest;
    // Everything before the first `@` is user and password, unless a `/` comes first. A `?` does not end
    // them.
    if let Some((userinfo, tail)) = rest.split_once('@').filter(|(userinfo, _)| !userinfo.contains('/')) {
        let (user, password) = userinfo.split_once(':').unwrap_or((userinfo, ""));
        store_part("user", user, into)?;
        store_part("password", password, into)?;
        rest = tail;
    }

    // Each list is decoded as a whole, so that an encoded comma separates elements too.
    let (mut hosts, mut ports) = (String::new(), String::new());
    loop {
        let (host, tail) = split_host(uri, rest)?;
        hosts.push_str(host);
        rest = tail;
        if let Some(tail) = rest.strip_prefix(':') {
            let (port, tail) = split_before(tail, &['/', '?', ',']);
            ports.push_str(port);
            rest = tail;
        }
        let Some(tail) = rest.strip_prefix(',') else { break };
        hosts.push(',');
        ports.push(',');
        rest = tail;
    }
    store_part("host", &hosts, into)?;
    store_part("port", &ports, into)?;

    if let Some(tail) = rest.strip_prefix('/') {
        let (dbname, tail) = split_before(tail, &['?']);
        store_part("dbname", dbname, into)?;
        rest = tail;
    }
    match rest.strip_prefix('?') {
        Some(query) => parse_query(query, into),
        None => Ok(()),
    }
}

/// One host of the list: a name, an address, or an IPv6 address, whose brackets are removed.
fn split_host<'a>(uri: &str, text: &'a str) -> Result<(&'a str, &'a str), ConnInfoError> {
    let Some(text) = text.strip_prefix('[') else {
        return Ok(split_before(text, &[':', '/', '?', ',']));
    };
    let Some((address, tail)) = text.split_once(']') else {
        return Err(ConnInfoError::syntax(format!(
            "end of string reached when looking for matching \"]\" in IPv6 host address in URI: \"{}\"",
            hide_secrets(uri)
        )));
    };
    if address.is_empty() {
        return Err(ConnInfoError::syntax(format!(
            "IPv6 host address may not be empty in URI: \"{}\"",
            hide_secrets(uri)
        )));
    }
    match tail.chars().next() {
        None | Some(':' | '/' | '?' | ',') => Ok((address, tail)),
        Some(unexpected) => Err(ConnInfoError::syntax(format!(
            "unexpected character \"{unexpected}\" at position {} in URI (expected \":\" or \"/\"): \"{}\"",
            uri.len() - tail.len() + 1,
            hide_secrets(uri)
        ))),
    }
}

fn parse_query(query: &str, into: &mut ConnInfo) -> Result<(), ConnInfoError> {
    let mut rest = query;
    let mut after_secret = false;
    while !rest.is_empty() {
        let (parameter, tail) = rest.split_once('&').unwrap_or((rest, ""));
        rest = tail;
        let Some((keyword, value)) = parameter.split_once('=') else {
            // An `&` in a password that is not encoded makes its second half look like a parameter.
            let shown = if after_secret { "***" } else { parameter };
            return Err(ConnInfoError::syntax(format!(
                "missing key/value separator \"=\" in URI query parameter: \"{shown}\""
            )));
        };
        let shown = if after_secret { "***" } else { keyword };
        if value.contains('=') {
            return Err(ConnInfoError::syntax(format!(
                "extra key/value separator \"=\" in URI query parameter: \"{shown}\""
            )));
        }
        let keyword = decode(keyword, after_secret)?;
        let is_secret = super::keywords::find(&keyword).is_some_and(|keyword| keyword.secret);
        let value = decode(value, is_secret)?;
        // As in libpq, for URIs that were written for JDBC.
        let (keyword, value) = if keyword.as_str() == "ssl" && value.as_str() == "true" {
            ("sslmode", Zeroizing::new(String::from("require")))
        } else {
            (keyword.as_str(), value)
        };
        if into.store(keyword, value)?.is_none() {
            let shown = if after_secret { "***" } else { keyword };
            return Err(ConnInfoError::syntax(format!("invalid URI query parameter: \"{shown}\"")));
        }
        after_secret = is_secret;
    }
    Ok(())
}

/// Stores a part of the URI. An empty part counts as absent, so that the environment can set the parameter.
fn store_part(keyword: &str, encoded: &str, into: &mut ConnInfo) -> Result<(), ConnInfoError> {
    if !encoded.is_empty() {
        into.store(keyword, decode(encoded, keyword == "password")?)?;
    }
    Ok(())
}

/// Decodes percent-encoding. Blanks around the text are dropped; blanks inside it are refused.
fn decode(encoded: &str, is_secret: bool) -> Result<Zeroizing<String>, ConnInfoError> {
    let shown = if is_secret { "***" } else { encoded };
    let text = encoded.trim_matches(' ');
    let (text, has_blanks) = match text.split_once(' ') {
        Some((head, _)) => (head, true),
        None => (text, false),
    };
    let mut decoded = Zeroizing::new(Vec::with_capacity(text.len()));
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        match (hex_digit(bytes.next()), hex_digit(bytes.next())) {
            (Some(0), Some(0)) => {
                return Err(ConnInfoError::syntax(format!(
                    "forbidden value %00 in percent-encoded value: \"{shown}\""
                )));
            }
            (Some(high), Some(low)) => decoded.push(high << 4 | low),
            _ => {
                return Err(ConnInfoError::syntax(format!("invalid percent-encoded token: \"{shown}\"")));
            }
        }
    }
    if has_blanks {
        return Err(ConnInfoError::syntax(format!(
            "unexpected spaces found in \"{shown}\", use percent-encoded spaces (%20) instead"
        )));
    }
    // libpq would pass on any bytes. In this crate the parameters of a connection are text.
    match core::str::from_utf8(&decoded) {
        Ok(text) => Ok(Zeroizing::new(String::from(text))),
        Err(_) => {
            Err(ConnInfoError::syntax(format!("percent-encoded value is not valid UTF-8: \"{shown}\"")))
        }
    }
}

fn hex_digit(byte: Option<u8>) -> Option<u8> {
    byte.and_then(|byte| char::from(byte).to_digit(16)).and_then(|digit| u8::try_from(digit).ok())
}

fn split_before<'a>(text: &'a str, stops: &[char]) -> (&'a str, &'a str) {
    text.split_at(text.find(stops).unwrap_or(text.len()))
}

/// The URI for an error text, without the parts that may contain a password: everything between the user and
/// the last `@`, since a password may contain an `@` too, and the query.
fn hide_secrets(uri: &str) -> String {
    let (scheme, rest) = uri.split_once("://").unwrap_or(("", uri));
    let mut shown = format!("{scheme}://");
    let rest = match rest.rsplit_once('@') {
        Some((userinfo, rest)) => {
            let user = userinfo.split_inclusive([':', '?']).next().unwrap_or_default();
            shown.extend([user, if user == userinfo { "@" } else { "***@" }]);
            rest
        }
        None => rest,
    };
    match rest.split_once('?') {
        Some((path, query)) if !query.is_empty() => shown.extend([path, "?***"]),
        _ => shown.push_str(rest),
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Vec<(String, String)>, String> {
        match text.parse::<ConnInfo>() {
            Ok(conninfo) => Ok(conninfo.iter().map(|(k, v)| (k.into(), v.into())).collect()),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn every_part_is_optional() {
        for (uri, pairs) in [
            ("postgresql://", &[][..]),
            ("postgres://", &[]),
            ("postgres:///", &[]),
            ("postgres://h", &[("host", "h")]),
            ("postgres://h:1", &[("host", "h"), ("port", "1")]),
            ("postgres://:1", &[("port", "1")]),
            ("postgres://h:1?user=u", &[("host", "h"), ("port", "1"), ("user", "u")]),
            ("postgres:///d", &[("dbname", "d")]),
            ("postgres://u@", &[("user", "u")]),
            ("postgres://u:@h", &[("user", "u"), ("host", "h")]),
            ("postgres://:p@h", &[("password", "p"), ("host", "h")]),
            ("postgres://?user=u", &[("user", "u")]),
            (
                "postgresql://u:p@h:1/d?port=2",
                &[("user", "u"), ("password", "p"), ("host", "h"), ("port", "2"), ("dbname", "d")],
            ),
        ] {
            let expected = pairs.iter().map(|&(k, v)| (k.into(), v.into())).collect();
            assert_eq!(parsed(uri), Ok(expected), "{uri}");
        }
    }

    #[test]
    fn quirks_of_libpq_are_kept() {
        for (uri, pairs) in [
            // A `?` does not end the user, and only the first `@` counts.
            ("postgres://h?x=a@b", &[("user", "h?x=a"), ("host", "b")][..]),
            ("postgres://u:p@q@h", &[("user", "u"), ("password", "p"), ("host", "q@h")]),
            ("postgres://h/d@e", &[("host", "h"), ("dbname", "d@e")]),
            ("postgres://h/d/e#f", &[("host", "h"), ("dbname", "d/e#f")]),
            ("postgres://h?port=", &[("host", "h"), ("port", "")]),
            ("postgres://h?port=1&", &[("host", "h"), ("port", "1")]),
            ("postgres://h?ssl=true", &[("host", "h"), ("sslmode", "require")]),
            ("postgres://h?requiressl=1", &[("host", "h"), ("sslmode", "require")]),
            ("postgres://%2Ftmp", &[("host", "/tmp")]),
            ("postgres://a%2Cb", &[("host", "a,b")]),
            ("postgres://a,b:1,[::1]:2", &[("host", "a,b,::1"), ("port", ",1,2")]),
            ("postgres://h,", &[("host", "h,"), ("port", ",")]),
            ("postgres:// h /d", &[("host", "h"), ("dbname", "d")]),
            ("postgres://h? port = 1 ", &[("host", "h"), ("port", "1")]),
            ("postgres://h?%70ort=1", &[("host", "h"), ("port", "1")]),
            ("postgres://h?user=%20a%20", &[("host", "h"), ("user", " a ")]),
        ] {
            let expected = pairs.iter().map(|&(k, v)| (k.into(), v.into())).collect();
            assert_eq!(parsed(uri), Ok(expected), "{uri}");
        }
    }

    #[test]
    fn mistakes_are_reported_in_libpqs_words() {
        for (uri, message) in [
            (
                "postgres://[::1",
                "end of string reached when looking for matching \"]\" in IPv6 host address in URI: \
                 \"postgres://[::1\"",
            ),
            ("postgres://[]", "IPv6 host address may not be empty in URI: \"postgres://[]\""),
            (
                "postgres://[::1]x",
                "unexpected character \"x\" at position 17 in URI (expected \":\" or \"/\"): \
                 \"postgres://[::1]x\"",
            ),
            ("postgres://h?host", "missing key/value separator \"=\" in URI query parameter: \"host\""),
            ("postgres://h?&port=1", "missing key/value separator \"=\" in URI query parameter: \"\""),
            ("postgres://h?port=1=2", "extra key/value separator \"=\" in URI query parameter: \"port\""),
            ("postgres://h?ports=1", "invalid URI query parameter: \"ports\""),
            ("postgres://h?=1", "invalid URI query parameter: \"\""),
            ("postgres://h?ssl=TRUE", "invalid URI query parameter: \"ssl\""),
            ("postgres://%", "invalid percent-encoded token: \"%\""),
            ("postgres://%4", "invalid percent-encoded token: \"%4\""),
            ("postgres://%+4", "invalid percent-encoded token: \"%+4\""),
            ("postgres://a%00b", "forbidden value %00 in percent-encoded value: \"a%00b\""),
            (
                "postgres://a b",
                "unexpected spaces found in \"a b\", use percent-encoded spaces (%20) instead",
            ),
            ("postgres://a%zz b", "invalid percent-encoded token: \"a%zz b\""),
            (
                "postgres://a b%zz",
                "unexpected spaces found in \"a b%zz\", use percent-encoded spaces (%20) instead",
            ),
            ("postgres://%ff", "percent-encoded value is not valid UTF-8: \"%ff\""),
            ("Postgres://h", "missing \"=\" after \"Postgres://h\" in connection info string"),
            ("postgres:/h", "missing \"=\" after \"postgres:/h\" in connection info string"),
        ] {
            assert_eq!(parsed(uri), Err(message.into()), "{uri}");
        }
    }

    #[test]
    fn passwords_are_not_shown() {
        for uri in [
            "postgres://u:secret@[",
            "postgres://u:x@secret@,[]",
            "postgres://u:%zzsecret@h",
            "postgres://u:a secret@h",
            "postgres://[?password=secret",
            "postgres://u:a?secret@[",
            "postgres://[?password=secret@h,[",
            "postgres://h?password=a&secret",
            "postgres://h?password=a&secret=1",
            "postgres://h?password=a&secret=1=2",
            "postgres://h?password=a&%zzsecret=1",
            "postgres://h?sslpassword=%00secret",
        ] {
            let message = parsed(uri).unwrap_err();
            assert!(!message.contains("secret") && message.contains("***"), "{uri}: {message}");
        }
    }
}
