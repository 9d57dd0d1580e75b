//! The connection service file: sections of parameters that a `service=name` refers to.

use std::borrow::Cow;
use std::format;
use std::fs;
use std::path::{Path, PathBuf};
use std::prelude::v1::*;

use zeroize::Zeroizing;

use super::error::{ConnInfoError, ConnInfoErrorKind};
use super::key_value::is_space;
use super::keywords::{self, Keyword};

/// The longest line in bytes, with its end: libpq reads lines into a buffer of 1024.
const MAX_LINE: usize = 1022;

/// A service's parameters and the file that has them.
pub(super) struct Service {
    pub(super) file: PathBuf,
    pub(super) parameters: Vec<ServiceParameter>,
}

pub(super) struct ServiceParameter {
    pub(super) keyword: &'static Keyword,
    pub(super) value: Zeroizing<String>,
    pub(super) line: u32,
}

/// Looks up `service` in the given files; the first file that has the section counts.
///
/// The user asked for `named`, which must exist; the other files count only where they exist.
pub(super) fn find(
    service: &str,
    named: Option<&Path>,
    home: Option<&Path>,
    system: &Path,
) -> Result<Service, ConnInfoError> {
    let first = match named {
        Some(file) => Some(file.to_path_buf()),
        None => home.map(|home| home.join(".pg_service.conf")).filter(|file| file.exists()),
    };
    for file in first.into_iter().chain(Some(system.to_path_buf()).filter(|file| file.exists())) {
        let Ok(contents) = fs::read(&file) else {
            return Err(error(format!("service file \"{}\" not found", file.display())));
        };
        let contents = Zeroizing::new(contents);
        if let Some(parameters) = section(&contents, service, &file)? {
            return Ok(Service { file, parameters });
        }
    }
    Err(error(format!("definition of service \"{service}\" not found")))
}

/// The parameters of one section, or `None` if the file does not have it. Of several values of a parameter
/// the first counts.
fn section(
    contents: &[u8],
    service: &str,
    file: &Path,
) -> Result<Option<Vec<ServiceParameter>>, ConnInfoError> {
    let shown = file.display();
    let mut found: Option<Vec<ServiceParameter>> = None;
    for (line, bytes) in (1..).zip(contents.split_inclusive(|&byte| byte == b'\n')) {
        if bytes.len() > MAX_LINE {
            return Err(error(format!("line {line} too long in service file \"{shown}\"")));
        }
        // Comments and other sections may be in any encoding.
        let text = String::from_utf8_lossy(bytes);
        let is_utf8 = matches!(text, Cow::Borrowed(_));
        let text = text.trim_matches(is_space);
        if text.is_empty() || text.starts_with('#') {
            continue;
        }
        if let Some(header) = text.strip_prefix('[') {
            if found.is_some() {
                break;
            }
            let is_ours = header.strip_prefix(service).is_some_and(|rest| rest.starts_with(']'));
            found = is_ours.then(Vec::new);
            continue;
        }
        let Some(parameters) = &mut found else { continue };
        if text.starts_with("ldap") {
            return Err(ConnInfoError::unsupported(format!(
                "LDAP lookup is not supported: service file \"{shown}\", line {line}"
            )));
        }
        let syntax_error = || error(format!("syntax error in service file \"{shown}\", line {line}"));
        let (keyword, value) = text.split_once('=').ok_or_else(syntax_error)?;
        if keyword == "service" || keyword == "servicefile" {
            return Err(error(format!(
                "nested service specifications not supported in service file \"{shown}\", line {line}"
            )));
        }
        let keyword = keywords::find(keyword).ok_or_else(syntax_error)?;
        if !is_utf8 || value.contains('\0') {
            return Err(syntax_error());
        }
        if !parameters.iter().any(|parameter| parameter.keyword.name == keyword.name) {
            parameters.push(ServiceParameter { keyword, value: Zeroizing::new(value.into()), line });
        }
    }
    Ok(found)
}

fn error(message: String) -> ConnInfoError {
    ConnInfoError::new(ConnInfoErrorKind::ServiceFile, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    type Found = Option<Vec<(String, String, u32)>>;

    fn parsed(contents: &[u8]) -> Result<Found, String> {
        match section(contents, "db", Path::new("f")) {
            Ok(Some(parameters)) => Ok(Some(
                parameters.iter().map(|p| (p.keyword.name.into(), String::clone(&p.value), p.line)).collect(),
            )),
            Ok(None) => Ok(None),
            Err(error) => Err(error.to_string()),
        }
    }

    fn pair(keyword: &str, value: &str, line: u32) -> (String, String, u32) {
        (keyword.into(), value.into(), line)
    }

    #[test]
    fn only_the_named_section_and_its_first_values_count() {
        let contents = b"port=9\n[other]\nhost=x\nnonsense\n\n # c\n[db] trailing\r\n\thost=a \r\nport=1\nhost=b\n[db]\nuser=u";
        assert_eq!(parsed(contents), Ok(Some(std::vec![pair("host", "a", 8), pair("port", "1", 9)])));
        assert_eq!(parsed(b"[d]\nhost=a\n[dbx]\nhost=b\n[db"), Ok(None));
        assert_eq!(parsed(b"[db]"), Ok(Some(std::vec![])));
    }

    #[test]
    fn values_are_neither_trimmed_nor_unquoted() {
        assert_eq!(
            parsed(b"[db]\nuser= 'a b' # c\npassword=a=b\nhost="),
            Ok(Some(std::vec![
                pair("user", " 'a b' # c", 2),
                pair("password", "a=b", 3),
                pair("host", "", 4)
            ]))
        );
        assert_eq!(parsed(b"[db]\nuser =a"), Err("syntax error in service file \"f\", line 2".into()));
    }

    #[test]
    fn mistakes_in_the_section_are_reported_in_libpqs_words() {
        for (line, message) in [
            (&b"host"[..], "syntax error in service file \"f\", line 2"),
            (b"hosts=a", "syntax error in service file \"f\", line 2"),
            (b"user=\xff", "syntax error in service file \"f\", line 2"),
            (b"user=a\0b", "syntax error in service file \"f\", line 2"),
            (b"service=x", "nested service specifications not supported in service file \"f\", line 2"),
            (b"servicefile=x", "nested service specifications not supported in service file \"f\", line 2"),
            (b"ldap://h", "LDAP lookup is not supported: service file \"f\", line 2"),
        ] {
            assert_eq!(parsed(&[b"[db]\n", line].concat()), Err(message.into()));
            // The same line outside the section does no harm.
            assert_eq!(parsed(&[b"[x]\n", line].concat()), Ok(None));
        }
    }

    #[test]
    fn other_encodings_outside_values_do_no_harm() {
        assert_eq!(
            parsed(b"[\xe4]\n# \xe4\n[db]\n#\xe4\nport=1\n[\xe4"),
            Ok(Some(std::vec![pair("port", "1", 5)]))
        );
    }

    #[test]
    fn a_line_is_at_most_1022_bytes_with_its_end() {
        let line = |len: usize, end: &str| std::format!("#{}{end}[db]", "x".repeat(len - 1 - end.len()));
        assert_eq!(parsed(line(1022, "\n").as_bytes()), Ok(Some(std::vec![])));
        assert_eq!(parsed(line(1023, "\n").as_bytes()), Err("line 1 too long in service file \"f\"".into()));
        assert_eq!(parsed("#".repeat(1022).as_bytes()), Ok(None));
        assert_eq!(parsed("#".repeat(1023).as_bytes()), Err("line 1 too long in service file \"f\"".into()));
    }
}
