//! Result sets: `RowDescription` and `DataRow`.

use alloc::vec::Vec;
use core::fmt::{self, Debug as _};

use super::error::{DecodeError, DecodeErrorKind, EncodeError};
use super::list::{Item, List, ListBuf, sealed};
use super::readable::{Text, nullable, readable};
use super::reader::Reader;
use super::writer::{Writer, framed};

/// How a value is encoded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Format {
    /// As text, in the session's encoding.
    #[default]
    Text,
    /// In the binary form of its type.
    Binary,
}

impl Format {
    const fn code(self) -> i16 {
        match self {
            Self::Text => 0,
            Self::Binary => 1,
        }
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match reader.i16("format")? {
            0 => Ok(Self::Text),
            1 => Ok(Self::Binary),
            other => Err(reader.error("format", DecodeErrorKind::Value(i64::from(other)))),
        }
    }

    pub(crate) fn write(self, writer: &mut Writer<'_>) {
        writer.i16(self.code());
    }
}

/// `RowDescription` (`T`): the columns of the rows that follow.
///
/// Layout: `Int16 count`, then the columns.
///
/// Spec: <https://www.postgresql.org/docs/current/protocol-message-formats.html>
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowDescription<'a> {
    /// The columns from left to right.
    pub columns: Columns<'a>,
}

impl<'a> RowDescription<'a> {
    /// Reads the body of the message.
    ///
    /// # Errors
    /// If the body does not follow its layout to its last byte.
    pub fn parse(body: &'a [u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new("RowDescription", body);
        let count = r.u16("count")?;
        let columns = List::counted(&mut r, usize::from(count))?;
        r.finish()?;
        Ok(Self { columns })
    }

    /// Appends the message to `out`.
    ///
    /// # Errors
    /// If the message is too long.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        framed(b'T', "RowDescription", out, |w| {
            w.count(self.columns.len(), "columns")?;
            w.bytes(self.columns.as_bytes());
            Ok(())
        })
    }
}

/// One column of a [`RowDescription`].
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Column<'a> {
    /// The column's name.
    pub name: &'a [u8],
    /// The table that the column comes from, or 0.
    pub table_oid: u32,
    /// The column's attribute number in that table, or 0.
    pub attribute: i16,
    /// The type of the column's values.
    pub type_oid: u32,
    /// The size of the type in bytes; negative for a type of variable length.
    pub type_len: i16,
    /// The type's modifier, such as the precision of a numeric; -1 for none.
    pub type_modifier: i32,
    /// How the values are encoded.
    pub format: Format,
}

readable!(Column { name: Text, table_oid, attribute, type_oid, type_len, type_modifier, format });

/// The kind of list item that is a [`Column`]; see [`Columns`].
#[derive(Debug)]
pub enum ColumnItem {}

impl Item for ColumnItem {}
impl sealed::Item for ColumnItem {
    type Item<'a> = Column<'a>;

    fn read<'a>(r: &mut Reader<'a>) -> Result<Column<'a>, DecodeError> {
        Ok(Column {
            name: r.cstr("name")?,
            table_oid: r.u32("table_oid")?,
            attribute: r.i16("attribute")?,
            type_oid: r.u32("type_oid")?,
            type_len: r.i16("type_len")?,
            type_modifier: r.i32("type_modifier")?,
            format: Format::read(r)?,
        })
    }

    fn write(column: &Column<'_>, w: &mut Writer<'_>) -> Result<(), EncodeError> {
        w.cstr(column.name, "name")?;
        w.u32(column.table_oid);
        w.i16(column.attribute);
        w.u32(column.type_oid);
        w.i16(column.type_len);
        w.i32(column.type_modifier);
        column.format.write(w);
        Ok(())
    }
}

/// The columns of a [`RowDescription`]; items are [`Column`].
pub type Columns<'a> = List<'a, ColumnItem>;
/// An owned list of [`Columns`], to build messages with.
pub type ColumnsBuf = ListBuf<ColumnItem>;

/// `DataRow` (`D`): one row of a result.
///
/// Layout: `Int16 count`, then for each column `Int32 length, Byte[length]`; length -1 is NULL.
///
/// Spec: <https://www.postgresql.org/docs/current/protocol-message-formats.html>
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DataRow<'a> {
    /// The values from left to right.
    pub values: Values<'a>,
}

impl<'a> DataRow<'a> {
    /// Reads the body of the message.
    ///
    /// # Errors
    /// If the body does not follow its layout to its last byte.
    #[inline]
    pub fn parse(body: &'a [u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new("DataRow", body);
        let count = r.u16("count")?;
        let values = List::counted_to_end(r, usize::from(count))?;
        Ok(Self { values })
    }

    /// Appends the message to `out`.
    ///
    /// # Errors
    /// If the message is too long.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        framed(b'D', "DataRow", out, |w| {
            w.count(self.values.len(), "values")?;
            w.bytes(self.values.as_bytes());
            Ok(())
        })
    }
}

/// The kind of list item that is a value or NULL; see [`Values`].
#[derive(Debug)]
pub enum ValueItem {}

impl Item for ValueItem {}
impl sealed::Item for ValueItem {
    type Item<'a> = Option<&'a [u8]>;

    #[inline]
    fn read<'a>(reader: &mut Reader<'a>) -> Result<Option<&'a [u8]>, DecodeError> {
        reader.value("value")
    }

    #[inline]
    fn check(reader: &mut Reader<'_>) -> Result<(), DecodeError> {
        reader.skip_value("value")
    }

    fn write(value: &Option<&[u8]>, writer: &mut Writer<'_>) -> Result<(), EncodeError> {
        writer.value(*value, "value")
    }

    fn show(value: &Option<&[u8]>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        nullable(*value).fmt(f)
    }
}

/// Values of a row or parameters of a statement; items are `Option<&[u8]>`, `None` for NULL.
pub type Values<'a> = List<'a, ValueItem>;
/// An owned list of [`Values`], to build messages with.
pub type ValuesBuf = ListBuf<ValueItem>;

/// The kind of list item that is a [`Format`]; see [`Formats`].
#[derive(Debug)]
pub enum FormatItem {}

impl Item for FormatItem {}
impl sealed::Item for FormatItem {
    type Item<'a> = Format;

    fn read(reader: &mut Reader<'_>) -> Result<Format, DecodeError> {
        Format::read(reader)
    }

    fn write(format: &Format, writer: &mut Writer<'_>) -> Result<(), EncodeError> {
        format.write(writer);
        Ok(())
    }
}

/// Formats of columns or parameters; items are [`Format`].
pub type Formats<'a> = List<'a, FormatItem>;
/// An owned list of [`Formats`], to build messages with.
pub type FormatsBuf = ListBuf<FormatItem>;

/// The kind of list item that is an object identifier; see [`Oids`].
#[derive(Debug)]
pub enum OidItem {}

impl Item for OidItem {}
impl sealed::Item for OidItem {
    type Item<'a> = u32;

    fn read(reader: &mut Reader<'_>) -> Result<u32, DecodeError> {
        reader.u32("oid")
    }

    fn write(oid: &u32, writer: &mut Writer<'_>) -> Result<(), EncodeError> {
        writer.u32(*oid);
        Ok(())
    }
}

/// Types of parameters; items are `u32`, 0 for "not specified".
pub type Oids<'a> = List<'a, OidItem>;
/// An owned list of [`Oids`], to build messages with.
pub type OidsBuf = ListBuf<OidItem>;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::test_support::{golden, list, malformed};
    use crate::codec::{Backend, BackendMessage};

    #[test]
    fn data_rows_are_their_bytes() {
        let values: ValuesBuf = list([Some(&b"1"[..]), None, Some(b"txt"), Some(b""), Some(b"1.50")]);
        for (bytes, values) in [
            (&b"D\0\0\0\x06\0\0"[..], Values::EMPTY),
            (
                b"D\0\0\0\x22\0\x05\0\0\0\x011\xff\xff\xff\xff\0\0\0\x03txt\0\0\0\0\0\0\0\x041.50",
                values.as_list(),
            ),
        ] {
            golden::<Backend>(bytes, BackendMessage::DataRow(DataRow { values }));
        }
    }

    #[test]
    fn a_row_of_the_most_columns_round_trips() {
        let values: ValuesBuf = list(core::iter::repeat_n(None, 65_535));
        let row = DataRow { values: values.as_list() };
        let mut out = Vec::new();
        row.encode(&mut out).unwrap();
        assert_eq!(DataRow::parse(&out[5..]), Ok(row));
        assert_eq!(row.values.iter().len(), 65_535);
        assert!(values.clone().push(None).is_err());
    }

    #[test]
    fn minus_one_is_null_and_other_negative_lengths_are_malformed() {
        let row = DataRow::parse(b"\0\x01\xff\xff\xff\xff").unwrap();
        assert_eq!(row.values.get(0), Some(None));
        assert_eq!(row.values.get(1), None);
        for len in [-2, i32::MIN, 1, i32::MAX] {
            malformed::<Backend>(b"D", &[b"\0\x01", &len.to_be_bytes()[..]].concat());
        }
    }

    /// Without the check of the body's size, such a length would fit once it is read without its sign.
    #[test]
    #[cfg(target_pointer_width = "64")]
    fn a_negative_length_is_malformed_in_a_body_that_no_frame_holds() {
        let mut body = alloc::vec![0; (1 << 31) + 6];
        body[1] = 1;
        body[2] = 0x80;
        let kind = DecodeErrorKind::TooLong { length: (1 << 31) + 4, limit: (1 << 31) - 1 };
        assert_eq!(DataRow::parse(&body), Err(DecodeError::new("DataRow", "length", kind)));
        assert!(crate::codec::FunctionCallResponse::parse(&body[2..]).is_err());
    }

    #[test]
    fn a_count_larger_than_the_body_is_malformed() {
        for count in [1, 0x7fff, 0x8000, 0xfffe, 0xffff_u16] {
            malformed::<Backend>(b"D", &count.to_be_bytes());
            malformed::<Backend>(b"T", &count.to_be_bytes());
        }
        // A count smaller than the body is malformed too.
        malformed::<Backend>(b"D", b"\0\x01\xff\xff\xff\xff\xff\xff\xff\xff");
    }

    #[test]
    fn row_descriptions_are_their_bytes() {
        let columns: ColumnsBuf = list([
            Column { name: b"one", type_oid: 23, type_len: 4, type_modifier: -1, ..Column::default() },
            Column {
                name: b"numeric",
                table_oid: 16_384,
                attribute: 2,
                type_oid: 1700,
                type_len: -1,
                type_modifier: 0x0005_0006,
                format: Format::Binary,
            },
        ]);
        for (bytes, columns) in [
            (&b"T\0\0\0\x06\0\0"[..], Columns::EMPTY),
            (
                b"T\0\0\0\x36\0\x02one\0\0\0\0\0\0\0\0\0\0\x17\0\x04\xff\xff\xff\xff\0\0\
                numeric\0\0\0\x40\0\0\x02\0\0\x06\xa4\xff\xff\0\x05\0\x06\0\x01",
                columns.as_list(),
            ),
        ] {
            golden::<Backend>(bytes, BackendMessage::RowDescription(RowDescription { columns }));
        }
        let mut list = ColumnsBuf::new();
        assert!(list.push(Column { name: b"a\0b", ..Column::default() }).is_err());
        malformed::<Backend>(b"T", b"\0\x01a\0\0\0\0\0\0\0\0\0\0\x17\0\x04\xff\xff\xff\xff\0\x02");
    }
}
