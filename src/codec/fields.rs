//! Errors and notices of the server.

use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use super::error::{DecodeError, EncodeError, EncodeErrorKind};
use super::list::{Item, List, ListBuf, sealed};
use super::reader::Reader;
use super::writer::{Writer, framed};
use crate::types::SqlState;

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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field<'a> {
    /// What the field tells: `M` is the message, `C` the SQLSTATE. Never 0.
    pub code: u8,
    /// Its text, in the session's encoding.
    pub value: &'a [u8],
}

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

/// [`ErrorFields::fields`] to fill.
pub type FieldsBuf = ListBuf<FieldItem>;

impl<'a> ErrorFields<'a> {
    pub(crate) fn parse(message: &'static str, body: &'a [u8]) -> Result<Self, DecodeError> {
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

    /// The severity. The never-translated field is taken if there is one (servers from 9.6 on).
    #[must_use]
    pub fn severity(&self) -> Severity {
        self.get(b'V').or_else(|| self.get(b'S')).map_or(Severity::Other, Severity::from_bytes)
    }

    /// A copy that owns its texts.
    #[must_use]
    pub fn to_server_error(&self) -> ServerError {
        let text = |code| self.get(code).map(|value| String::from_utf8_lossy(value).into_owned());
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

impl fmt::Debug for ErrorFields<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut map = f.debug_map();
        for field in self.fields {
            map.entry(&char::from(field.code), &String::from_utf8_lossy(field.value));
        }
        map.finish()
    }
}

/// How bad an error or notice is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Severity {
    /// The statement failed.
    Error,
    /// The session ends.
    Fatal,
    /// The whole server restarts.
    Panic,
    /// Something likely to be wrong.
    Warning,
    /// Worth knowing.
    Notice,
    /// For developers.
    Debug,
    /// What the client asked to be told.
    Info,
    /// For the server's log.
    Log,
    /// A word that PostgreSQL does not have, or none.
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

    /// Whether the server ends the connection after this.
    #[must_use]
    pub const fn ends_connection(self) -> bool {
        matches!(self, Self::Fatal | Self::Panic)
    }

    /// PostgreSQL's word for it.
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
/// detail and hint on lines of their own.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerError {
    /// How bad it is.
    pub severity: Severity,
    /// What kind of error it is; `XX000` where the server gave none.
    pub sqlstate: SqlState,
    /// The primary message.
    pub message: String,
    /// More about the problem.
    pub detail: Option<String>,
    /// What to do about it.
    pub hint: Option<String>,
    /// Where in the statement, in characters from 1.
    pub position: Option<u32>,
    /// Where in the internal statement, in characters from 1.
    pub internal_position: Option<u32>,
    /// The statement that the server made itself.
    pub internal_query: Option<String>,
    /// What the server was doing, innermost first.
    pub context: Option<String>,
    /// The schema it is about.
    pub schema: Option<String>,
    /// The table it is about.
    pub table: Option<String>,
    /// The column it is about.
    pub column: Option<String>,
    /// The data type it is about.
    pub data_type: Option<String>,
    /// The constraint it is about.
    pub constraint: Option<String>,
    /// The server's source file.
    pub file: Option<String>,
    /// The line there.
    pub line: Option<u32>,
    /// The routine there.
    pub routine: Option<String>,
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} (SQLSTATE {})", self.severity, self.message, self.sqlstate)?;
        if let Some(detail) = &self.detail {
            write!(f, "\nDETAIL: {detail}")?;
        }
        if let Some(hint) = &self.hint {
            write!(f, "\nHINT: {hint}")?;
        }
        Ok(())
    }
}

impl core::error::Error for ServerError {}
