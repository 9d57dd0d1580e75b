use core::str::FromStr;
use std::vec::Vec;

use super::row::{ColumnError, ColumnKey, Row};
use crate::codec::{Column, Columns, ColumnsBuf, ValuesBuf};

/// A row that owns its columns and values; its members are those of [`Row`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowBuf {
    columns: ColumnsBuf,
    values: ValuesBuf,
}

impl RowBuf {
    pub(super) const fn new(columns: ColumnsBuf, values: ValuesBuf) -> Self {
        Self { columns, values }
    }

    /// The row, borrowed.
    #[must_use]
    pub fn as_row(&self) -> Row<'_> {
        Row::new(&self.columns, self.values.as_list())
    }

    /// As [`Row::get`].
    ///
    /// # Errors
    /// The same.
    pub fn get(&self, column: impl ColumnKey) -> Result<Option<&[u8]>, ColumnError> {
        self.as_row().get(column)
    }

    /// As [`Row::text`].
    ///
    /// # Errors
    /// The same.
    pub fn text(&self, column: impl ColumnKey) -> Result<&str, ColumnError> {
        self.as_row().text(column)
    }

    /// As [`Row::optional_text`].
    ///
    /// # Errors
    /// The same.
    pub fn optional_text(&self, column: impl ColumnKey) -> Result<Option<&str>, ColumnError> {
        self.as_row().optional_text(column)
    }

    /// As [`Row::parse`].
    ///
    /// # Errors
    /// The same.
    pub fn parse<T: FromStr>(&self, column: impl ColumnKey) -> Result<T, ColumnError> {
        self.as_row().parse(column)
    }

    /// As [`Row::optional`].
    ///
    /// # Errors
    /// The same.
    pub fn optional<T: FromStr>(&self, column: impl ColumnKey) -> Result<Option<T>, ColumnError> {
        self.as_row().optional(column)
    }

    /// As [`Row::bytea`].
    ///
    /// # Errors
    /// The same.
    pub fn bytea(&self, column: impl ColumnKey) -> Result<Vec<u8>, ColumnError> {
        self.as_row().bytea(column)
    }

    /// As [`Row::optional_bytea`].
    ///
    /// # Errors
    /// The same.
    pub fn optional_bytea(&self, column: impl ColumnKey) -> Result<Option<Vec<u8>>, ColumnError> {
        self.as_row().optional_bytea(column)
    }

    /// As [`Row::columns`].
    #[must_use]
    pub fn columns(&self) -> Columns<'_> {
        self.columns.as_list()
    }

    /// As [`Row::column`].
    ///
    /// # Errors
    /// The same.
    pub fn column(&self, column: impl ColumnKey) -> Result<Column<'_>, ColumnError> {
        self.as_row().column(column)
    }

    /// How many values the row has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.as_row().len()
    }

    /// Whether the row has no value.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.as_row().is_empty()
    }
}
