//! The extended query family and function calls.

use alloc::vec::Vec;

use super::error::{DecodeError, DecodeErrorKind, EncodeError};
use super::list::List;
use super::readable::{Text, nullable, readable};
use super::reader::Reader;
use super::row::{Format, Formats, Oids, Values};
use super::writer::{Writer, framed};

/// `Parse` (`P`): makes a prepared statement.
///
/// Layout: `String statement, String query, Int16 count, Int32[count]`.
///
/// Spec: <https://www.postgresql.org/docs/current/protocol-message-formats.html>
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Parse<'a> {
    /// The statement's name; empty for the unnamed one.
    pub statement: &'a [u8],
    /// The SQL.
    pub query: &'a [u8],
    /// The types of the first parameters; 0 lets the server infer the type.
    pub parameter_types: Oids<'a>,
}

readable!(Parse { statement: Text, query: Text, parameter_types });

impl<'a> Parse<'a> {
    /// Reads the body of the message.
    ///
    /// # Errors
    /// If the body does not follow its layout to its last byte.
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
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Bind<'a> {
    /// The portal's name; empty for the unnamed one.
    pub portal: &'a [u8],
    /// The statement's name; empty for the unnamed one.
    pub statement: &'a [u8],
    /// No format (all text), one for all, or one for each parameter.
    pub parameter_formats: Formats<'a>,
    /// The parameters.
    pub parameters: Values<'a>,
    /// No format (all text), one for all, or one for each column of the result.
    pub result_formats: Formats<'a>,
}

readable!(Bind { portal: Text, statement: Text, parameter_formats, parameters, result_formats });

impl<'a> Bind<'a> {
    /// Reads the body of the message.
    ///
    /// # Errors
    /// If the body does not follow its layout to its last byte.
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

/// The object that `Describe` (`D`) or `Close` (`C`) names.
///
/// Layout: `Byte1 kind, String name`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Target<'a> {
    /// A prepared statement; empty for the unnamed one.
    Statement(&'a [u8]),
    /// A portal; empty for the unnamed one.
    Portal(&'a [u8]),
}

impl core::fmt::Debug for Target<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let (kind, name) = match self {
            Self::Statement(name) => ("Statement", name),
            Self::Portal(name) => ("Portal", name),
        };
        f.debug_tuple(kind).field(&Text(name)).finish()
    }
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
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Execute<'a> {
    /// The portal's name; empty for the unnamed one.
    pub portal: &'a [u8],
    /// The most rows to send before `PortalSuspended`; 0 for all.
    pub max_rows: i32,
}

readable!(Execute { portal: Text, max_rows });

impl<'a> Execute<'a> {
    /// Reads the body of the message.
    ///
    /// # Errors
    /// If the body does not follow its layout to its last byte.
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
    /// No format (all text), one for all, or one for each argument.
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
    /// If the body does not follow its layout to its last byte.
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
    /// If the message is too long.
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

/// `FunctionCallResponse` (`V`): the result of the function.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct FunctionCallResponse<'a> {
    /// The result; `None` for NULL.
    pub value: Option<&'a [u8]>,
}

readable!(FunctionCallResponse { value: nullable });

impl<'a> FunctionCallResponse<'a> {
    /// Reads the body of the message.
    ///
    /// # Errors
    /// If the body does not follow its layout to its last byte.
    pub fn parse(body: &'a [u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new("FunctionCallResponse", body);
        r.refuse_huge()?;
        let value = r.value("value")?;
        r.finish()?;
        Ok(Self { value })
    }

    /// Appends the message to `out`.
    ///
    /// # Errors
    /// If the message is too long.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        framed(b'V', "FunctionCallResponse", out, |w| w.value(self.value, "value"))
    }
}

/// `ParameterDescription` (`t`): the types of a statement's parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParameterDescription<'a> {
    /// One type for each parameter.
    pub types: Oids<'a>,
}

impl<'a> ParameterDescription<'a> {
    /// Reads the body of the message.
    ///
    /// # Errors
    /// If the body does not follow its layout to its last byte.
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
    /// If the message is too long.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        framed(b't', "ParameterDescription", out, |w| {
            w.count(self.types.len(), "types")?;
            w.bytes(self.types.as_bytes());
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::test_support::{golden, list, malformed, not_encodable};
    use crate::codec::{Backend, BackendMessage, FormatsBuf, Frontend, FrontendMessage, OidsBuf, ValuesBuf};

    #[test]
    fn parse_is_its_bytes() {
        let types: OidsBuf = list([23, 0]);
        for (bytes, message) in [
            (&b"P\0\0\0\x08\0\0\0\0"[..], Parse { statement: b"", query: b"", parameter_types: Oids::EMPTY }),
            (
                b"P\0\0\0\x1bs1\0SELECT $1\0\0\x02\0\0\0\x17\0\0\0\0",
                Parse { statement: b"s1", query: b"SELECT $1", parameter_types: types.as_list() },
            ),
        ] {
            golden::<Frontend>(bytes, FrontendMessage::Parse(message));
        }
    }

    #[test]
    fn bind_is_its_bytes() {
        let (formats, binary): (FormatsBuf, FormatsBuf) =
            (list([Format::Binary, Format::Text]), list([Format::Binary]));
        let values: ValuesBuf = list([Some(&b"\0\0\0)"[..]), None]);
        for (bytes, message) in [
            (
                &b"B\0\0\0\x0c\0\0\0\0\0\0\0\0"[..],
                Bind {
                    portal: b"",
                    statement: b"",
                    parameter_formats: Formats::EMPTY,
                    parameters: Values::EMPTY,
                    result_formats: Formats::EMPTY,
                },
            ),
            (
                b"B\0\0\0\x22p1\0s1\0\0\x02\0\x01\0\0\0\x02\0\0\0\x04\0\0\0)\xff\xff\xff\xff\0\x01\0\x01",
                Bind {
                    portal: b"p1",
                    statement: b"s1",
                    parameter_formats: formats.as_list(),
                    parameters: values.as_list(),
                    result_formats: binary.as_list(),
                },
            ),
        ] {
            golden::<Frontend>(bytes, FrontendMessage::Bind(message));
        }
    }

    #[test]
    fn bind_of_text_is_a_bind() {
        let values = [Some(&b"a"[..]), None, Some(b"")];
        let parameters: ValuesBuf = list(values);
        let bind = Bind {
            portal: b"p",
            statement: b"s",
            parameter_formats: Formats::EMPTY,
            parameters: parameters.as_list(),
            result_formats: Formats::EMPTY,
        };
        let (mut direct, mut by_list) = (Vec::new(), Vec::new());
        Bind::encode_text(b"p", b"s", values.into_iter(), &mut direct).unwrap();
        bind.encode(&mut by_list).unwrap();
        assert_eq!(direct, by_list);
        let too_many = core::iter::repeat_n(None, 65_536);
        assert!(Bind::encode_text(b"p", b"s", too_many, &mut direct).is_err());
        assert_eq!(direct, by_list);
    }

    #[test]
    fn hostile_counts_and_lengths_are_malformed() {
        for count in [1, 0x7fff, 0x8000, 0xfffe, 0xffff_u16] {
            let count = count.to_be_bytes();
            malformed::<Frontend>(b"P", &[b"\0\0", &count[..]].concat());
            malformed::<Frontend>(b"B", &[b"\0\0", &count[..], b"\0\0\0\0"].concat());
            malformed::<Frontend>(b"B", &[b"\0\0\0\0", &count[..], b"\0\0"].concat());
            malformed::<Frontend>(b"B", &[b"\0\0\0\0\0\0", &count[..]].concat());
            malformed::<Frontend>(b"F", &[b"\0\0\0\x01", &count[..], b"\0\0\0\0"].concat());
            malformed::<Frontend>(b"F", &[b"\0\0\0\x01\0\0", &count[..], b"\0\0"].concat());
            malformed::<Backend>(b"t", &count);
        }
        for len in [-2, i32::MIN, 1, i32::MAX] {
            let len = len.to_be_bytes();
            malformed::<Frontend>(b"B", &[b"\0\0\0\0\0\x01", &len[..]].concat());
            malformed::<Frontend>(b"F", &[b"\0\0\0\x01\0\0\0\x01", &len[..], b"\0\0"].concat());
            malformed::<Backend>(b"V", &len);
        }
    }

    #[test]
    fn targets_are_their_bytes() {
        for (bytes, message) in [
            (&b"D\0\0\0\x06S\0"[..], FrontendMessage::Describe(Target::Statement(b""))),
            (b"D\0\0\0\x08Pp1\0", FrontendMessage::Describe(Target::Portal(b"p1"))),
            (b"C\0\0\0\x08Ss1\0", FrontendMessage::Close(Target::Statement(b"s1"))),
            (b"C\0\0\0\x06P\0", FrontendMessage::Close(Target::Portal(b""))),
        ] {
            golden::<Frontend>(bytes, message);
        }
        malformed::<Frontend>(b"D", b"Xs1\0");
        not_encodable::<Frontend>(FrontendMessage::Close(Target::Portal(b"a\0")));
    }

    #[test]
    fn execute_is_its_bytes() {
        let execute = FrontendMessage::Execute(Execute { portal: b"p1", max_rows: 2 });
        golden::<Frontend>(b"E\0\0\0\x0bp1\0\0\0\0\x02", execute);
    }

    #[test]
    fn function_calls_are_their_bytes() {
        let formats: FormatsBuf = list([Format::Binary]);
        let arguments: ValuesBuf = list([Some(&b"\0\0\0\x02"[..]), None]);
        let call = FunctionCall {
            function: 177,
            argument_formats: formats.as_list(),
            arguments: arguments.as_list(),
            result_format: Format::Binary,
        };
        golden::<Frontend>(
            b"F\0\0\0\x1c\0\0\0\xb1\0\x01\0\x01\0\x02\0\0\0\x04\0\0\0\x02\xff\xff\xff\xff\0\x01",
            FrontendMessage::FunctionCall(call),
        );
        for (bytes, value) in [
            (&b"V\0\0\0\x08\xff\xff\xff\xff"[..], None),
            (b"V\0\0\0\x0c\0\0\0\x04\0\0\0\x05", Some(&b"\0\0\0\x05"[..])),
            (b"V\0\0\0\x08\0\0\0\0", Some(b"")),
        ] {
            golden::<Backend>(bytes, BackendMessage::FunctionCallResponse(FunctionCallResponse { value }));
        }
    }

    #[test]
    fn parameter_descriptions_are_their_bytes() {
        let types: OidsBuf = list([23, 25]);
        for (bytes, types) in [
            (&b"t\0\0\0\x06\0\0"[..], Oids::EMPTY),
            (b"t\0\0\0\x0e\0\x02\0\0\0\x17\0\0\0\x19", types.as_list()),
        ] {
            golden::<Backend>(bytes, BackendMessage::ParameterDescription(ParameterDescription { types }));
        }
    }
}
