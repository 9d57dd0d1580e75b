use core::fmt;
use core::str::FromStr;
use std::string::{String, ToString as _};
use std::vec::Vec;

use super::bytea;
use super::row_buf::RowBuf;
use crate::codec::{Column, Columns, ColumnsBuf, DataRow, RowDescription, Values, affected_rows};

/// All rows of one statement.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResultSet {
    columns: ColumnsBuf,
    /// The values of all rows, as the server sent them.
    data: Vec<u8>,
    /// For each row how many values it has, and where it ends in `data`.
    rows: Vec<(usize, usize)>,
    tag: String,
}

impl ResultSet {
    pub(crate) fn new(columns: &RowDescription<'_>) -> Self {
        Self { columns: columns.columns.to_buf(), ..Self::default() }
    }

    pub(crate) fn push(&mut self, row: &DataRow<'_>) {
        self.data.extend_from_slice(row.values.as_bytes());
        self.rows.push((row.values.len(), self.data.len()));
    }

    pub(super) fn complete(&mut self, tag: &[u8]) {
        self.tag = String::from_utf8_lossy(tag).into_owned();
    }

    /// The rows in order.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = Row<'_>> {
        (0..self.rows.len()).map(|index| self.row_at(index))
    }

    /// The row at `index`, from 0.
    #[must_use]
    pub fn row(&self, index: usize) -> Option<Row<'_>> {
        (index < self.rows.len()).then(|| self.row_at(index))
    }

    fn row_at(&self, index: usize) -> Row<'_> {
        let start = index.checked_sub(1).and_then(|before| self.rows.get(before)).map_or(0, |row| row.1);
        let (count, end) = self.rows.get(index).copied().unwrap_or((0, start));
        let values = Values::from_checked(count, self.data.get(start..end).unwrap_or_default());
        Row { columns: &self.columns, values }
    }

    /// How many rows there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is no row.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The server's command tag, such as `SELECT 3`; empty for an empty statement.
    #[must_use]
    pub fn tag(&self) -> &str {
        &self.tag
    }

    /// How many rows the statement inserted, updated, deleted, merged, copied, selected, fetched or moved over, by its
    /// tag; `None` for a statement that counts no rows.
    #[must_use]
    pub fn affected_rows(&self) -> Option<u64> {
        affected_rows(self.tag.as_bytes())
    }

    /// The columns in order: name, type's OID and modifier, the table's OID, format. None for a statement that returns
    /// no rows.
    #[must_use]
    pub fn columns(&self) -> Columns<'_> {
        self.columns.as_list()
    }

    /// What the server says about a column.
    ///
    /// # Errors
    /// If there is no such column.
    pub fn column(&self, column: impl ColumnKey) -> Result<Column<'_>, ColumnError> {
        find(&self.columns, &column)
    }

    /// The names of the columns; none for a statement that returns no rows.
    #[must_use]
    pub fn column_names(&self) -> Vec<String> {
        self.columns.as_list().iter().map(|c| String::from_utf8_lossy(c.name).into_owned()).collect()
    }
}

/// One row, in text as the server prints it.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    columns: &'a ColumnsBuf,
    values: Values<'a>,
}

impl<'a> Row<'a> {
    pub(super) const fn new(columns: &'a ColumnsBuf, values: Values<'a>) -> Self {
        Self { columns, values }
    }

    /// The bytes of a column; `None` for NULL.
    ///
    /// # Errors
    /// If there is no such column.
    pub fn get(&self, column: impl ColumnKey) -> Result<Option<&'a [u8]>, ColumnError> {
        let index = column.index(self.columns);
        index.and_then(|index| self.values.get(index)).ok_or_else(|| column.error(ColumnErrorKind::Missing))
    }

    /// The text of a column that is not NULL.
    ///
    /// # Errors
    /// If there is no such column, it is NULL, or its bytes are not UTF-8.
    pub fn text(&self, column: impl ColumnKey) -> Result<&'a str, ColumnError> {
        self.optional_text(&column)?.ok_or_else(|| column.error(ColumnErrorKind::Null))
    }

    /// The text of a column; `None` for NULL.
    ///
    /// # Errors
    /// If there is no such column or its bytes are not UTF-8.
    pub fn optional_text(&self, column: impl ColumnKey) -> Result<Option<&'a str>, ColumnError> {
        let text = self.get(&column)?.map(core::str::from_utf8).transpose();
        text.map_err(|_| column.error(ColumnErrorKind::NotUtf8))
    }

    /// The value of a column that is not NULL, as any type that parses the server's text:
    ///
    /// | type in SQL | types in Rust |
    /// |---|---|
    /// | `boolean` | `bool` |
    /// | `smallint`, `integer`, `bigint`, `oid` | `i16`, `i32`, `i64`, `u32`, or a wider one |
    /// | `real`, `double precision` | `f32`, `f64`, with `NaN` and `Infinity` |
    /// | `numeric` | a decimal type, or `f64` where rounding does no harm |
    /// | `text`, `varchar`, `name` and every other | `String`, or [`text`](Self::text) without a copy |
    /// | `pg_lsn` | [`Lsn`](crate::types::Lsn) |
    /// | `timestamptz` | [`PgTimestamp`](crate::types::PgTimestamp), with `DateStyle` `ISO`, which is the default |
    /// | `inet` | [`IpAddr`](core::net::IpAddr), where it is a single address |
    /// | `uuid`, `json` and others | types of other crates that have [`FromStr`] |
    ///
    /// [`bytea`](Self::bytea) gives the bytes of a `bytea`. `TimelineId`, `SystemId`, `ServerVersion` and `SqlState`
    /// parse too.
    ///
    /// # Errors
    /// If there is no such column, it is NULL, its bytes are not UTF-8, or its text does not parse.
    pub fn parse<T: FromStr>(&self, column: impl ColumnKey) -> Result<T, ColumnError> {
        let text = self.text(&column)?;
        let parsed = text.parse().ok().or_else(|| match text {
            // The server prints a boolean in one letter, which `bool` does not parse.
            "t" => "true".parse().ok(),
            "f" => "false".parse().ok(),
            _ => None,
        });
        parsed.ok_or_else(|| column.error(ColumnErrorKind::Parse(text.to_string())))
    }

    /// The bytes of a column of the type `bytea` that is not NULL, under every setting of `bytea_output`.
    ///
    /// # Errors
    /// If there is no such column, it is NULL, or its text is not that of a `bytea`.
    pub fn bytea(&self, column: impl ColumnKey) -> Result<Vec<u8>, ColumnError> {
        self.optional_bytea(&column)?.ok_or_else(|| column.error(ColumnErrorKind::Null))
    }

    /// The bytes of a column of the type `bytea`; `None` for NULL.
    ///
    /// # Errors
    /// If there is no such column or its text is not that of a `bytea`.
    pub fn optional_bytea(&self, column: impl ColumnKey) -> Result<Option<Vec<u8>>, ColumnError> {
        let Some(text) = self.get(&column)? else { return Ok(None) };
        let error = || column.error(ColumnErrorKind::Parse(String::from_utf8_lossy(text).into_owned()));
        bytea::decode(text).map(Some).ok_or_else(error)
    }

    /// The value of a column; `None` for NULL.
    ///
    /// # Errors
    /// If there is no such column, its bytes are not UTF-8, or its text does not parse.
    pub fn optional<T: FromStr>(&self, column: impl ColumnKey) -> Result<Option<T>, ColumnError> {
        self.optional_text(&column)?.map(|_| self.parse(&column)).transpose()
    }

    /// The columns in order: name, type's OID and modifier, the table's OID, format.
    #[must_use]
    pub fn columns(&self) -> Columns<'a> {
        self.columns.as_list()
    }

    /// What the server says about a column.
    ///
    /// # Errors
    /// If there is no such column.
    pub fn column(&self, column: impl ColumnKey) -> Result<Column<'a>, ColumnError> {
        find(self.columns, &column)
    }

    /// A copy that owns its columns and values.
    #[must_use]
    pub fn to_buf(&self) -> RowBuf {
        RowBuf::new(self.columns.clone(), self.values.to_buf())
    }

    /// How many values the row has.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether the row has no value.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.values.is_empty()
    }
}

fn find<'a>(columns: &'a ColumnsBuf, key: &impl ColumnKey) -> Result<Column<'a>, ColumnError> {
    let column = key.index(columns).and_then(|index| columns.as_list().get(index));
    column.ok_or_else(|| key.error(ColumnErrorKind::Missing))
}

/// The key of a column: its index from 0, or its exact name.
pub trait ColumnKey: sealed::ColumnKey {}

mod sealed {
    use super::{ColumnError, ColumnErrorKind, ColumnsBuf};

    pub trait ColumnKey {
        fn index(&self, columns: &ColumnsBuf) -> Option<usize>;
        fn error(&self, kind: ColumnErrorKind) -> ColumnError;
    }
}

impl ColumnKey for usize {}
impl sealed::ColumnKey for usize {
    fn index(&self, _columns: &ColumnsBuf) -> Option<usize> {
        Some(*self)
    }

    fn error(&self, kind: ColumnErrorKind) -> ColumnError {
        ColumnError { column: self.to_string(), kind }
    }
}

impl ColumnKey for str {}
impl sealed::ColumnKey for str {
    fn index(&self, columns: &ColumnsBuf) -> Option<usize> {
        columns.as_list().iter().position(|column| column.name == self.as_bytes())
    }

    fn error(&self, kind: ColumnErrorKind) -> ColumnError {
        ColumnError { column: self.into(), kind }
    }
}

impl<K: ColumnKey + ?Sized> ColumnKey for &K {}
impl<K: ColumnKey + ?Sized> sealed::ColumnKey for &K {
    fn index(&self, columns: &ColumnsBuf) -> Option<usize> {
        (**self).index(columns)
    }

    fn error(&self, kind: ColumnErrorKind) -> ColumnError {
        (**self).error(kind)
    }
}

/// A column does not exist, or its value is not what the caller asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnError {
    /// The column's name or index.
    pub column: String,
    /// What is wrong with it.
    pub kind: ColumnErrorKind,
}

/// What is wrong with a column.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ColumnErrorKind {
    /// The row has no such column.
    Missing,
    /// The value is NULL.
    Null,
    /// The bytes of the value are not UTF-8.
    NotUtf8,
    /// The value, which is given here, does not parse as the type asked for.
    Parse(String),
}

impl fmt::Display for ColumnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "column {}: ", self.column)?;
        match &self.kind {
            ColumnErrorKind::Missing => f.write_str("the row has no such column"),
            ColumnErrorKind::Null => f.write_str("unexpected NULL"),
            ColumnErrorKind::NotUtf8 => f.write_str("the value is not UTF-8"),
            ColumnErrorKind::Parse(text) => write!(f, "unexpected value {text:?}"),
        }
    }
}

impl core::error::Error for ColumnError {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::ValuesBuf;

    fn result_set(rows: &[&[Option<&[u8]>]]) -> ResultSet {
        let mut columns = ColumnsBuf::new();
        for name in ["a", "b"] {
            columns.push(Column { name: name.as_bytes(), ..Column::default() }).unwrap();
        }
        let mut set = ResultSet::new(&RowDescription { columns: columns.as_list() });
        for row in rows {
            let mut values = ValuesBuf::new();
            for value in *row {
                values.push(*value).unwrap();
            }
            set.push(&DataRow { values: values.as_list() });
        }
        set
    }

    #[test]
    fn each_row_has_its_own_values() {
        let set = result_set(&[&[Some(b"1"), None], &[Some(b""), Some(b"x")]]);
        let rows: Vec<_> = set.rows().map(|row| (row.get("a").unwrap(), row.get(1).unwrap())).collect();
        assert_eq!(rows, [(Some(&b"1"[..]), None), (Some(&b""[..]), Some(&b"x"[..]))]);
        assert!(set.row(2).is_none());
    }

    #[test]
    fn an_error_names_the_column_and_says_what_is_wrong() {
        let set = result_set(&[&[Some(b"\xff"), None]]);
        let row = set.row(0).unwrap();
        let message = |error: ColumnError| error.to_string();
        assert_eq!(row.text("A").map_err(message), Err("column A: the row has no such column".into()));
        assert_eq!(row.text("a").map_err(message), Err("column a: the value is not UTF-8".into()));
        assert_eq!(row.text("b").map_err(message), Err("column b: unexpected NULL".into()));
        assert_eq!(row.optional::<u32>("b"), Ok(None));
        for (text, value) in [("t", true), ("f", false), ("true", true), ("false", false)] {
            let set = result_set(&[&[Some(text.as_bytes()), None]]);
            let row = set.row(0).unwrap();
            assert_eq!((row.parse::<bool>("a"), row.text("a")), (Ok(value), Ok(text)));
            assert_eq!(row.optional::<bool>("b"), Ok(None));
        }
        let set = result_set(&[&[Some(b"on"), None]]);
        assert!(set.row(0).unwrap().parse::<bool>("a").is_err());
        let set = result_set(&[&[Some(b"x"), None]]);
        let error = set.row(0).unwrap().parse::<u32>(0).unwrap_err();
        assert_eq!(error.to_string(), "column 0: unexpected value \"x\"");
    }
}
