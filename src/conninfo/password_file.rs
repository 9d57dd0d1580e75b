//! The password file: one `host:port:database:user:password` per line.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::prelude::v1::*;

use zeroize::Zeroizing;

use super::{Password, Warning};

/// The contents of a password file; empty if the file is missing or must not be used.
pub(super) struct PasswordFile(Zeroizing<Vec<u8>>);

/// The values that a line has to match.
pub(super) struct Key<'a> {
    pub(super) host: &'a str,
    pub(super) port: &'a str,
    pub(super) dbname: &'a str,
    pub(super) user: &'a str,
}

impl PasswordFile {
    /// Reads the file. As in libpq, a missing file is no error, and a file that is not plain or that other
    /// users have access to is ignored with a warning.
    pub(super) fn read(path: &Path) -> (Self, Option<Warning>) {
        let mut contents = Zeroizing::new(Vec::new());
        let warning = match path.metadata() {
            // Such a file is not even opened: opening a named pipe would wait for a writer.
            Ok(metadata) if !metadata.is_file() => Some(Warning::PasswordFileNotPlain(path.into())),
            Ok(metadata) if metadata.mode() & 0o077 != 0 => Some(Warning::PasswordFileAccess(path.into())),
            Ok(metadata) => {
                // The memory is reserved at once, so that growing leaves no copy of a password behind.
                contents.reserve_exact(usize::try_from(metadata.len()).unwrap_or(0).saturating_add(1));
                if File::open(path).and_then(|mut file| file.read_to_end(&mut contents)).is_err() {
                    contents.clear();
                }
                None
            }
            Err(_) => None,
        };
        (Self(contents), warning)
    }

    /// The password of the first line that matches, possibly empty, and the number of the line from 1.
    pub(super) fn find(&self, key: &Key<'_>) -> Option<(Password, u32)> {
        let fields = [key.host, key.port, key.dbname, key.user];
        (1..).zip(self.0.split(|&byte| byte == b'\n')).find_map(|(number, line)| {
            let end = line.iter().rposition(|&byte| byte != b'\r')?;
            let line = line.get(..=end).filter(|line| !line.starts_with(b"#"))?;
            let password = fields.iter().try_fold(line, |rest, field| skip_field(rest, field.as_bytes()))?;
            Some((unescape(password), number))
        })
    }
}

/// Returns the text after the first field of `line`, if that field is `*` or, with its escapes resolved,
/// equals `wanted`.
fn skip_field<'a>(line: &'a [u8], wanted: &[u8]) -> Option<&'a [u8]> {
    if let Some(rest) = line.strip_prefix(b"*:") {
        return Some(rest);
    }
    let mut rest = line;
    for &byte in wanted {
        rest = match rest {
            [b'\\', escaped, tail @ ..] if *escaped == byte => tail,
            // As in libpq, a colon that is part of `wanted` needs no escape: `::1` works unescaped.
            [plain, tail @ ..] if *plain == byte && byte != b'\\' => tail,
            _ => return None,
        };
    }
    rest.strip_prefix(b":")
}

/// The password: the text up to the first unescaped colon, with its escapes resolved.
fn unescape(text: &[u8]) -> Password {
    let mut password = Vec::with_capacity(text.len());
    let mut bytes = text.iter().copied();
    while let Some(byte) = bytes.next() {
        match byte {
            b':' => break,
            b'\\' => password.push(bytes.next().unwrap_or(b'\\')),
            byte => password.push(byte),
        }
    }
    Password::from(password)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(contents: &str, host: &str, port: &str, dbname: &str, user: &str) -> Option<(String, u32)> {
        let file = PasswordFile(Zeroizing::new(contents.as_bytes().to_vec()));
        let (password, line) = file.find(&Key { host, port, dbname, user })?;
        Some((String::from_utf8_lossy(password.as_bytes()).into_owned(), line))
    }

    #[test]
    fn the_first_matching_line_counts() {
        let file = "#h:1:d:u:no\n\nh:2:d:u:two\nh:1:d:u:one\r\n*:*:*:*:any\n";
        assert_eq!(find(file, "h", "1", "d", "u"), Some(("one".into(), 4)));
        assert_eq!(find(file, "h", "2", "d", "u"), Some(("two".into(), 3)));
        assert_eq!(find(file, "i", "2", "d", "u"), Some(("any".into(), 5)));
        assert_eq!(find("h:1:d:u:p", "h", "1", "d", "v"), None);
        assert_eq!(find("#h:1:d:u:p", "#h", "1", "d", "u"), None);
    }

    #[test]
    fn every_field_must_match_in_full() {
        for line in
            ["h:1:d:ux:p", "h:1:d:u", "hh:1:d:u:p", ":1:d:u:p", "h:1:*d:u:p", "h:1:d:u\\:p", " h:1:d:u:p"]
        {
            assert_eq!(find(line, "h", "1", "d", "u"), None, "{line}");
        }
        assert_eq!(find("h:1:d:u:", "h", "1", "d", "u"), Some((String::new(), 1)));
        assert_eq!(find("h:1:d::p", "h", "1", "d", ""), Some(("p".into(), 1)));
    }

    #[test]
    fn escapes_work_in_every_field() {
        assert_eq!(find(r"\:\:1:1:a\\b:\u:p\:\\\x:rest", "::1", "1", r"a\b", "u"), Some((r"p:\x".into(), 1)));
        assert_eq!(find(r"\*:1:d:u:p", "h", "1", "d", "u"), None);
        assert_eq!(find(r"\*:1:d:u:p", "*", "1", "d", "u"), Some(("p".into(), 1)));
        assert_eq!(find(r"::1:1:d:u:p", "::1", "1", "d", "u"), Some(("p".into(), 1)));
        assert_eq!(find(r"a\b:1:d:u:p", r"a\b", "1", "d", "u"), None);
        assert_eq!(find(r"h:1:d:u:p\", "h", "1", "d", "u"), Some((r"p\".into(), 1)));
    }

    #[test]
    fn lines_may_be_long_and_of_any_encoding() {
        let long = "x".repeat(100_000);
        assert_eq!(find(&std::format!("h:1:d:u:{long}"), "h", "1", "d", "u"), Some((long, 1)));
        let file = PasswordFile(Zeroizing::new(b"\xff\nh:1:d:u:\xe4".to_vec()));
        let (password, _) = file.find(&Key { host: "h", port: "1", dbname: "d", user: "u" }).unwrap();
        assert_eq!(password.as_bytes(), b"\xe4");
    }
}
