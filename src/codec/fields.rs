//! Errors and notices of the server.

use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use super::error::{DecodeError, EncodeError, EncodeErrorKind};
use super::list::{Item, List, ListBuf, sealed};
use super::readable::{Text, readable};
use super::reader::Reader;
use super::writer::{Writer, framed};
use crate::types::{PrintableLines, SqlState, text_of};

/// The body of `ErrorResponse` (`E`) and `NoticeResponse` (`N`): fields with a code byte each.
///
/// Layout: `(Byte1 code, String value)*, Byte1 0`. Unknown codes are kept and otherwise ignored.
///
/// Spec: <https://www.postgresql.org/docs/current/protocol-error-fields.html>
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ErrorFields<'a> {
    /// The fields in the server's order.
    pub fields: List<'a, FieldItem>,
}

/// One field of an error or notice.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Field<'a> {
    /// The meaning of the field: `M` is the message, `C` the SQLSTATE. Never 0.
    pub code: u8,
    /// The field's text, in the session's encoding.
    pub value: &'a [u8],
}

readable!(Field { code: char::from, value: Text });

/// The kind of list item that is a [`Field`].
#[derive(Debug)]
pub enum FieldItem {}

impl Item for FieldItem {}
impl sealed::Item for FieldItem {
    type Item<'a> = Field<'a>;

    fn read<'a>(reader: &mut Reader<'a>) -> Result<Field<'a>, DecodeError> {
        Ok(Field { code: reader.u8("code")?, value: reader.cstr("value")? })
    }

    fn write(field: &Field<'_>, writer: &mut Writer<'_>) -> Result<(), EncodeError> {
        if field.code == 0 {
            return Err(writer.error("code", EncodeErrorKind::Nul));
        }
        writer.u8(field.code);
        writer.cstr(field.value, "value")
    }
}

/// An owned list of [`ErrorFields::fields`], to build messages with.
pub type FieldsBuf = ListBuf<FieldItem>;

impl<'a> ErrorFields<'a> {
    #[inline]
    pub(crate) fn parse(message: &'static str, body: &'a [u8]) -> Result<Self, DecodeError> {
        match check_whole_body(body) {
            Some(fields) => Ok(Self { fields }),
            None => Self::parse_faulty(message, body),
        }
    }

    /// Reads field by field, so that the error names the one that is wrong.
    #[cold]
    fn parse_faulty(message: &'static str, body: &'a [u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(message, body);
        let fields = List::terminated(&mut r, "fields")?;
        r.finish()?;
        Ok(Self { fields })
    }

    pub(crate) fn encode(
        &self,
        tag: u8,
        message: &'static str,
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        framed(tag, message, out, |w| {
            w.bytes(self.fields.as_bytes());
            w.u8(0);
            Ok(())
        })
    }

    /// The value of the first field with this code.
    #[must_use]
    pub fn get(&self, code: u8) -> Option<&'a [u8]> {
        self.fields.iter().find(|field| field.code == code).map(|field| field.value)
    }

    /// The SQLSTATE, if there is a valid one.
    #[must_use]
    pub fn sqlstate(&self) -> Option<SqlState> {
        self.get(b'C').and_then(SqlState::from_bytes)
    }

    /// The severity, from the field that is never translated if the server sends one (servers from 9.6 on).
    #[must_use]
    pub fn severity(&self) -> Severity {
        self.get(b'V').or_else(|| self.get(b'S')).map_or(Severity::Other, Severity::from_bytes)
    }

    /// A copy that owns its texts.
    #[must_use]
    pub fn to_server_error(&self) -> ServerError {
        let text = |code| self.get(code).map(text_of);
        ServerError {
            severity: self.severity(),
            sqlstate: self.sqlstate().unwrap_or(SqlState::INTERNAL_ERROR),
            message: text(b'M').unwrap_or_else(|| "(the server sent no message)".to_owned()),
            detail: text(b'D'),
            hint: text(b'H'),
            position: text(b'P').and_then(|n| n.parse().ok()),
            internal_position: text(b'p').and_then(|n| n.parse().ok()),
            internal_query: text(b'q'),
            context: text(b'W'),
            schema: text(b's'),
            table: text(b't'),
            column: text(b'c'),
            data_type: text(b'd'),
            constraint: text(b'n'),
            file: text(b'F'),
            line: text(b'L').and_then(|n| n.parse().ok()),
            routine: text(b'R'),
        }
    }
}

/// The fields of a valid body, checked eight bytes at a time instead of one value after the other; `None` if
/// the body has a fault.
///
/// A zero byte ends a value. A second zero byte after it stands where a code would, and so ends the list:
/// exactly one such pair must exist, at the end of the body.
#[inline]
fn check_whole_body(body: &[u8]) -> Option<List<'_, FieldItem>> {
    let (0, fields) = body.split_last().map(|(end, fields)| (*end, fields))? else { return None };
    // The first code follows nothing, which counts as the end of a value.
    let (mut before, mut adjacent, mut count) = (ZERO_FIRST, 0, 0_u64);
    let mut take = |zeros: u64| {
        adjacent |= zeros & (zeros << 8 | before);
        before = zeros >> 56;
        // One for each pair, added up in the highest byte.
        count = count.wrapping_add((zeros >> 7).wrapping_mul(0x0101_0101_0101_0101) >> 56);
    };
    let (words, rest) = fields.as_chunks();
    words.iter().for_each(|word| take(zero_bytes(u64::from_le_bytes(*word))));
    if !rest.is_empty() {
        let seen = 8_usize.checked_sub(rest.len())?.checked_mul(8)?;
        let last = zero_bytes(u64::from_le_bytes(*fields.last_chunk()?));
        take(last.checked_shr(u32::try_from(seen).ok()?)?);
    }
    let is_ended = matches!(fields.last(), None | Some(0));
    let count = usize::try_from(count).ok()?;
    (is_ended && adjacent == 0).then(|| List::from_checked(count, fields))
}

/// The bit that [`zero_bytes`] sets if the first byte of a word is 0.
const ZERO_FIRST: u64 = 0x80;

/// Sets the highest bit of each byte that is 0, and no other bit.
const fn zero_bytes(word: u64) -> u64 {
    const LOW_BITS: u64 = 0x7f7f_7f7f_7f7f_7f7f;
    !((word & LOW_BITS).wrapping_add(LOW_BITS) | word | LOW_BITS)
}

impl fmt::Debug for ErrorFields<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut map = f.debug_map();
        for field in self.fields {
            map.entry(&char::from(field.code), &Text(field.value));
        }
        map.finish()
    }
}

/// The severity of an error or notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Severity {
    /// The statement failed.
    Error,
    /// The session ends.
    Fatal,
    /// The whole server restarts.
    Panic,
    /// Something is probably wrong.
    Warning,
    /// Useful to know.
    Notice,
    /// For developers.
    Debug,
    /// Information that the client has asked for.
    Info,
    /// For the server's log.
    Log,
    /// A word that PostgreSQL does not use, or no severity at all.
    Other,
}

impl Severity {
    fn from_bytes(text: &[u8]) -> Self {
        match text {
            b"ERROR" => Self::Error,
            b"FATAL" => Self::Fatal,
            b"PANIC" => Self::Panic,
            b"WARNING" => Self::Warning,
            b"NOTICE" => Self::Notice,
            b"DEBUG" => Self::Debug,
            b"INFO" => Self::Info,
            b"LOG" => Self::Log,
            _ => Self::Other,
        }
    }

    /// Whether the server ends the connection after an error of this severity.
    #[must_use]
    pub const fn ends_connection(self) -> bool {
        matches!(self, Self::Fatal | Self::Panic)
    }

    /// PostgreSQL's word for the severity.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "ERROR",
            Self::Fatal => "FATAL",
            Self::Panic => "PANIC",
            Self::Warning => "WARNING",
            Self::Notice => "NOTICE",
            Self::Debug => "DEBUG",
            Self::Info => "INFO",
            Self::Log => "LOG",
            Self::Other => "MESSAGE",
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An error or notice of the server, owning its texts.
///
/// Bytes that are not UTF-8 are replaced. `Display` gives severity, message and SQLSTATE in one line, then
/// detail and hint on lines of their own, all by [`PrintableLines`]. Its alternate form (`{:#}`) and the fields are
/// exactly what the server sent: do not write them to a terminal or a log.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerError {
    /// The severity.
    pub severity: Severity,
    /// The kind of error; `XX000` if the server sent none.
    pub sqlstate: SqlState,
    /// The primary message.
    pub message: String,
    /// More about the problem.
    pub detail: Option<String>,
    /// Advice on how to solve the problem.
    pub hint: Option<String>,
    /// The position of the error in the statement, in characters from 1.
    pub position: Option<u32>,
    /// The position of the error in the internal statement, in characters from 1.
    pub internal_position: Option<u32>,
    /// The text of a statement that the server generated itself.
    pub internal_query: Option<String>,
    /// What the server was doing, innermost first.
    pub context: Option<String>,
    /// The schema that the error is about.
    pub schema: Option<String>,
    /// The table that the error is about.
    pub table: Option<String>,
    /// The column that the error is about.
    pub column: Option<String>,
    /// The data type that the error is about.
    pub data_type: Option<String>,
    /// The constraint that the error is about.
    pub constraint: Option<String>,
    /// The server's source file that reported the error.
    pub file: Option<String>,
    /// The line in that file.
    pub line: Option<u32>,
    /// The routine in that file.
    pub routine: Option<String>,
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let write = |f: &mut fmt::Formatter<'_>, text| match f.alternate() {
            true => f.write_str(text),
            false => PrintableLines(text).fmt(f),
        };
        write!(f, "{}: ", self.severity)?;
        write(f, &self.message)?;
        write!(f, " (SQLSTATE {})", self.sqlstate)?;
        for (name, text) in [("DETAIL", &self.detail), ("HINT", &self.hint)] {
            if let Some(text) = text {
                write!(f, "\n{name}: ")?;
                write(f, text)?;
            }
        }
        Ok(())
    }
}

impl core::error::Error for ServerError {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::test_support::{golden, list, malformed};
    use crate::codec::{Backend, BackendMessage};
    use alloc::string::ToString;

    fn fields(fields: &[(u8, &[u8])]) -> FieldsBuf {
        list(fields.iter().map(|&(code, value)| Field { code, value }))
    }

    #[test]
    fn errors_and_notices_are_their_bytes() {
        // PostgreSQL 15's answer to SELECT 1/0.
        let division = fields(&[
            (b'S', b"ERROR"),
            (b'V', b"ERROR"),
            (b'C', b"22012"),
            (b'M', b"division by zero"),
            (b'F', b"int.c"),
            (b'L', b"869"),
            (b'R', b"int4div"),
        ]);
        let bytes = b"E\0\0\0ASERROR\0VERROR\0C22012\0Mdivision by zero\0Fint.c\0L869\0Rint4div\0\0";
        let message = ErrorFields { fields: division.as_list() };
        golden::<Backend>(bytes, BackendMessage::ErrorResponse(message));
        let unknown = fields(&[(b'?', b"new"), (b'M', b"")]);
        let message = ErrorFields { fields: unknown.as_list() };
        golden::<Backend>(b"N\0\0\0\x0c?new\0M\0\0", BackendMessage::NoticeResponse(message));
        let none = ErrorFields { fields: List::EMPTY };
        golden::<Backend>(b"E\0\0\0\x05\0", BackendMessage::ErrorResponse(none));
    }

    #[test]
    fn a_list_must_end_with_the_body() {
        malformed::<Backend>(b"E", b"");
        malformed::<Backend>(b"E", b"M");
        malformed::<Backend>(b"E", b"Mtext");
        malformed::<Backend>(b"E", b"Mtext\0\0C");
    }

    /// The fast check and the plain one agree about every body.
    #[test]
    fn faults_are_found_in_bodies_of_every_length() {
        for len in 0..40 {
            let mut body = Vec::new();
            body.resize(len, b'x');
            let mut check = |zeros: &[usize]| {
                zeros.iter().for_each(|&at| body[at] = 0);
                if let Some(fields) = check_whole_body(&body) {
                    assert_eq!(ErrorFields::parse_faulty("", &body), Ok(ErrorFields { fields }));
                    assert_eq!(fields.iter().count(), fields.len());
                } else if ErrorFields::parse_faulty("", &body).is_ok() {
                    assert!(len < 9, "{} takes the slow way", body.escape_ascii());
                }
                zeros.iter().for_each(|&at| body[at] = b'x');
            };
            for first in 0..len {
                for second in 0..len {
                    check(&[first, second, len - 1]);
                    check(&[first, second, len.saturating_sub(2), len - 1]);
                }
            }
            check(&[]);
        }
    }

    #[test]
    fn a_field_without_a_code_cannot_be_added() {
        let mut list = FieldsBuf::new();
        assert!(list.push(Field { code: 0, value: b"x" }).is_err());
        assert!(list.push(Field { code: b'M', value: b"a\0b" }).is_err());
        assert_eq!(list, FieldsBuf::new());
    }

    #[test]
    fn a_server_error_has_every_field_by_its_name() {
        let all = fields(&[
            (b'S', b"FEHLER"),
            (b'V', b"ERROR"),
            (b'C', b"23514"),
            (b'M', b"message"),
            (b'D', b"detail"),
            (b'H', b"hint"),
            (b'P', b"1"),
            (b'p', b"2"),
            (b'q', b"query"),
            (b'W', b"context"),
            (b's', b"schema"),
            (b't', b"table"),
            (b'c', b"column"),
            (b'd', b"type"),
            (b'n', b"constraint"),
            (b'F', b"file"),
            (b'L', b"3"),
            (b'R', b"routine"),
        ]);
        let text = |text: &str| Some(text.to_owned());
        let expected = ServerError {
            severity: Severity::Error,
            sqlstate: "23514".parse().unwrap(),
            message: "message".to_owned(),
            detail: text("detail"),
            hint: text("hint"),
            position: Some(1),
            internal_position: Some(2),
            internal_query: text("query"),
            context: text("context"),
            schema: text("schema"),
            table: text("table"),
            column: text("column"),
            data_type: text("type"),
            constraint: text("constraint"),
            file: text("file"),
            line: Some(3),
            routine: text("routine"),
        };
        let error = ErrorFields { fields: all.as_list() }.to_server_error();
        assert_eq!(error, expected);
        assert_eq!(error.to_string(), "ERROR: message (SQLSTATE 23514)\nDETAIL: detail\nHINT: hint");
    }

    #[test]
    fn missing_and_broken_fields_do_no_harm() {
        let broken = fields(&[(b'S', b"PANIQUE"), (b'C', b"oops"), (b'M', b"\xff"), (b'P', b"-1")]);
        let error = ErrorFields { fields: broken.as_list() }.to_server_error();
        assert_eq!(error.to_string(), "MESSAGE: \\xff (SQLSTATE XX000)");
        assert_eq!(error.position, None);
        let nothing = ErrorFields { fields: List::EMPTY }.to_server_error();
        assert_eq!(nothing.message, "(the server sent no message)");
    }

    #[test]
    fn severities_are_their_words() {
        for word in ["ERROR", "FATAL", "PANIC", "WARNING", "NOTICE", "DEBUG", "INFO", "LOG"] {
            let severity = Severity::from_bytes(word.as_bytes());
            assert_eq!(severity.to_string(), word);
            assert_eq!(severity.ends_connection(), matches!(word, "FATAL" | "PANIC"));
        }
    }
}
