//! The extended query family and function calls.

use alloc::vec::Vec;

use super::error::{DecodeError, DecodeErrorKind, EncodeError};
use super::list::List;
use super::reader::Reader;
use super::row::{Format, Formats, Oids, Values};
use super::writer::{Writer, framed};

/// `Parse` (`P`): makes a prepared statement.
///
/// Layout: `String statement, String query, Int16 count, Int32[count]`.
///
/// Spec: <https://www.postgresql.org/docs/current/protocol-message-formats.html>
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parse<'a> {
    /// The statement's name; empty for the unnamed one.
    pub statement: &'a [u8],
    /// The SQL.
    pub query: &'a [u8],
    /// The types of the first parameters, 0 for "find out".
    pub parameter_types: Oids<'a>,
}

impl<'a> Parse<'a> {
    /// Reads the body of the message.
    ///
    /// # Errors
    /// If it does not follow its layout to its last byte.
    #[expect(
        clippy::self_named_constructors,
        reason = "the message is named Parse, the verb is parse everywhere"
    )]
    pub fn parse(body: &'a [u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new("Parse", body);
        let (statement, query) = (r.cstr("statement")?, r.cstr("query")?);
        let count = r.u16("count")?;
        let parameter_types = List::counted(&mut r, usize::from(count))?;
        r.finish()?;
        Ok(Self { statement, query, parameter_types })
    }

    /// Appends the message to `out`.
    ///
    /// # Errors
    /// If a string holds a NUL or the message is too long.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        framed(b'P', "Parse", out, |w| {
            w.cstr(self.statement, "statement")?;
            w.cstr(self.query, "query")?;
            w.count(self.parameter_types.len(), "parameter_types")?;
            w.bytes(self.parameter_types.as_bytes());
            Ok(())
        })
    }
}

/// `Bind` (`B`): makes a portal of a statement and values for its parameters.
///
/// Layout: `String portal, String statement, Int16 count, Int16[count], Int16 count, values, Int16 count,
/// Int16[count]`.
///
/// Spec: <https://www.postgresql.org/docs/current/protocol-message-formats.html>
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bind<'a> {
    /// The portal's name; empty for the unnamed one.
    pub portal: &'a [u8],
    /// The statement's name; empty for the unnamed one.
    pub statement: &'a [u8],
    /// None (all text), one for all, or one for each parameter.
    pub parameter_formats: Formats<'a>,
    /// The parameters.
    pub parameters: Values<'a>,
    /// None (all text), one for all, or one for each column of the result.
    pub result_formats: Formats<'a>,
}

impl<'a> Bind<'a> {
    /// Reads the body of the message.
    ///
    /// # Errors
    /// If it does not follow its layout to its last byte.
    pub fn parse(body: &'a [u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new("Bind", body);
        let (portal, statement) = (r.cstr("portal")?, r.cstr("statement")?);
        let count = r.u16("parameter_formats")?;
        let parameter_formats = List::counted(&mut r, usize::from(count))?;
        let count = r.u16("parameters")?;
        let parameters = List::counted(&mut r, usize::from(count))?;
        let count = r.u16("result_formats")?;
        let result_formats = List::counted(&mut r, usize::from(count))?;
        r.finish()?;
        Ok(Self { portal, statement, parameter_formats, parameters, result_formats })
    }

    /// Appends the message to `out`.
    ///
    /// # Errors
    /// If a string holds a NUL or the message is too long.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        framed(b'B', "Bind", out, |w| {
            w.cstr(self.portal, "portal")?;
            w.cstr(self.statement, "statement")?;
            write_formats(w, self.parameter_formats, "parameter_formats")?;
            w.count(self.parameters.len(), "parameters")?;
            w.bytes(self.parameters.as_bytes());
            write_formats(w, self.result_formats, "result_formats")
        })
    }

    /// Appends a `Bind` of text parameters and text results, straight from the caller's values.
    ///
    /// # Errors
    /// If a name holds a NUL, there are more than 65535 parameters, or the message is too long.
    pub fn encode_text<'v>(
        portal: &[u8],
        statement: &[u8],
        parameters: impl ExactSizeIterator<Item = Option<&'v [u8]>>,
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        framed(b'B', "Bind", out, |w| {
            w.cstr(portal, "portal")?;
            w.cstr(statement, "statement")?;
            w.u16(0);
            w.count(parameters.len(), "parameters")?;
            for value in parameters {
                w.value(value, "parameters")?;
            }
            w.u16(0);
            Ok(())
        })
    }
}

fn write_formats(w: &mut Writer<'_>, formats: Formats<'_>, field: &'static str) -> Result<(), EncodeError> {
    w.count(formats.len(), field)?;
    w.bytes(formats.as_bytes());
    Ok(())
}

/// What `Describe` (`D`) and `Close` (`C`) name.
///
/// Layout: `Byte1 kind, String name`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target<'a> {
    /// A prepared statement; empty for the unnamed one.
    Statement(&'a [u8]),
    /// A portal; empty for the unnamed one.
    Portal(&'a [u8]),
}

impl<'a> Target<'a> {
    pub(crate) fn parse(message: &'static str, body: &'a [u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(message, body);
        let kind = r.u8("kind")?;
        let name = r.cstr("name")?;
        let target = match kind {
            b'S' => Self::Statement(name),
            b'P' => Self::Portal(name),
            other => return Err(r.error("kind", DecodeErrorKind::Value(i64::from(other)))),
        };
        r.finish()?;
        Ok(target)
    }

    pub(crate) fn encode(
        &self,
        tag: u8,
        message: &'static str,
        out: &mut Vec<u8>,
    ) -> Result<(), EncodeError> {
        framed(tag, message, out, |w| {
            let (kind, name) = match self {
                Self::Statement(name) => (b'S', name),
                Self::Portal(name) => (b'P', name),
            };
            w.u8(kind);
            w.cstr(name, "name")
        })
    }
}

/// `Execute` (`E`): runs a portal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Execute<'a> {
    /// The portal's name; empty for the unnamed one.
    pub portal: &'a [u8],
    /// The most rows to send before `PortalSuspended`; 0 for all.
    pub max_rows: i32,
}

impl<'a> Execute<'a> {
    /// Reads the body of the message.
    ///
    /// # Errors
    /// If it does not follow its layout to its last byte.
    pub fn parse(body: &'a [u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new("Execute", body);
        let execute = Self { portal: r.cstr("portal")?, max_rows: r.i32("max_rows")? };
        r.finish()?;
        Ok(execute)
    }

    /// Appends the message to `out`.
    ///
    /// # Errors
    /// If the name holds a NUL or the message is too long.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        framed(b'E', "Execute", out, |w| {
            w.cstr(self.portal, "portal")?;
            w.i32(self.max_rows);
            Ok(())
        })
    }
}

/// `FunctionCall` (`F`): calls a function by its identifier.
///
/// Layout: `Int32 function, Int16 count, Int16[count], Int16 count, values, Int16 result format`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FunctionCall<'a> {
    /// The function's object identifier.
    pub function: u32,
    /// None (all text), one for all, or one for each argument.
    pub argument_formats: Formats<'a>,
    /// The arguments.
    pub arguments: Values<'a>,
    /// The format of the result.
    pub result_format: Format,
}

impl<'a> FunctionCall<'a> {
    /// Reads the body of the message.
    ///
    /// # Errors
    /// If it does not follow its layout to its last byte.
    pub fn parse(body: &'a [u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new("FunctionCall", body);
        let function = r.u32("function")?;
        let count = r.u16("argument_formats")?;
        let argument_formats = List::counted(&mut r, usize::from(count))?;
        let count = r.u16("arguments")?;
        let arguments = List::counted(&mut r, usize::from(count))?;
        let result_format = Format::read(&mut r)?;
        r.finish()?;
        Ok(Self { function, argument_formats, arguments, result_format })
    }

    /// Appends the message to `out`.
    ///
    /// # Errors
    /// If it is too long.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        framed(b'F', "FunctionCall", out, |w| {
            w.u32(self.function);
            write_formats(w, self.argument_formats, "argument_formats")?;
            w.count(self.arguments.len(), "arguments")?;
            w.bytes(self.arguments.as_bytes());
            self.result_format.write(w);
            Ok(())
        })
    }
}

/// `FunctionCallResponse` (`V`): what the function returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FunctionCallResponse<'a> {
    /// The result; `None` for NULL.
    pub value: Option<&'a [u8]>,
}

impl<'a> FunctionCallResponse<'a> {
    /// Reads the body of the message.
    ///
    /// # Errors
    /// If it does not follow its layout to its last byte.
    pub fn parse(body: &'a [u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new("FunctionCallResponse", body);
        let value = r.value("value")?;
        r.finish()?;
        Ok(Self { value })
    }

    /// Appends the message to `out`.
    ///
    /// # Errors
    /// If it is too long.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        framed(b'V', "FunctionCallResponse", out, |w| w.value(self.value, "value"))
    }
}

/// `ParameterDescription` (`t`): the types of a statement's parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParameterDescription<'a> {
    /// One for each parameter.
    pub types: Oids<'a>,
}

impl<'a> ParameterDescription<'a> {
    /// Reads the body of the message.
    ///
    /// # Errors
    /// If it does not follow its layout to its last byte.
    pub fn parse(body: &'a [u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new("ParameterDescription", body);
        let count = r.u16("count")?;
        let types = List::counted(&mut r, usize::from(count))?;
        r.finish()?;
        Ok(Self { types })
    }

    /// Appends the message to `out`.
    ///
    /// # Errors
    /// If it is too long.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        framed(b't', "ParameterDescription", out, |w| {
            w.count(self.types.len(), "types")?;
            w.bytes(self.types.as_bytes());
            Ok(())
        })
    }
}
