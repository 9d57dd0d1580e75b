use std::format;
use std::string::String;
use std::vec::Vec;

use super::connection::Connection;
use super::error::Error;
use super::grammar::Grammar;
use super::row::{ResultSet, Row};
use crate::codec::{BackendMessage, BackendTag, Columns, ColumnsBuf};

/// The memory that a row or a result takes beside its values, at most.
pub(super) const ITEM_BYTES: usize = 128;

const DURING: &str = "reading the answer to a query";

impl Connection {
    /// Runs SQL, which may be several statements, and collects every result.
    ///
    /// # Errors
    /// The server's error, after which the connection is usable again, or a loss of the connection.
    ///
    /// # Cancel safety
    /// If the future is dropped the statements go on in the server; the next call waits for their end.
    pub async fn simple_query(&mut self, sql: &str) -> Result<Vec<ResultSet>, Error> {
        self.simple_query_within(sql, self.limits.answer_bytes).await
    }

    /// Runs SQL like [`simple_query`](Self::simple_query), where an answer of at most so many bytes is due.
    pub(crate) async fn simple_query_within(
        &mut self,
        sql: &str,
        limit: usize,
    ) -> Result<Vec<ResultSet>, Error> {
        let mut sets = Vec::new();
        let mut current: Option<ResultSet> = None;
        let (mut grammar, mut taken) = (Grammar::SIMPLE, 0_usize);
        self.send_query(sql).await?;
        while let Some(tag) = self.advance(DURING).await? {
            self.check_order(&mut grammar)?;
            match self.current()? {
                BackendMessage::RowDescription(columns) => current = Some(ResultSet::new(&columns)),
                BackendMessage::DataRow(row) => {
                    current.get_or_insert_default().push(&row);
                    taken += ITEM_BYTES + row.values.as_bytes().len();
                }
                BackendMessage::CommandComplete { tag } => {
                    let mut set = current.take().unwrap_or_default();
                    set.complete(tag);
                    sets.push(set);
                    taken += ITEM_BYTES;
                }
                BackendMessage::EmptyQueryResponse => {
                    sets.push(ResultSet::default());
                    taken += ITEM_BYTES;
                }
                _ => self.skip_or_refuse(tag)?,
            }
            self.check_answer(taken, limit)?;
        }
        Ok(sets)
    }

    /// Checks that the current message may come here.
    pub(super) fn check_order(&mut self, grammar: &mut Grammar) -> Result<(), Error> {
        let message = self.current()?;
        let name = message.name();
        match grammar.accept(&message) {
            Ok(()) => Ok(()),
            Err(expected) => Err(self.unexpected(expected, name)),
        }
    }

    /// Checks the memory that the rows of an answer take.
    pub(super) fn check_answer(&mut self, taken: usize, limit: usize) -> Result<(), Error> {
        match taken > limit {
            true => Err(self.unexpected("a short answer", format!("more than {limit} bytes"))),
            false => Ok(()),
        }
    }

    /// Handles the messages of an answer that carry no result. They include those of a COPY in the SQL: the
    /// data of a COPY from the server are skipped; a COPY to the server is refused, so that the query ends
    /// with an error.
    pub(super) fn skip_or_refuse(&mut self, tag: BackendTag) -> Result<(), Error> {
        match tag {
            BackendTag::PARSE_COMPLETE
            | BackendTag::BIND_COMPLETE
            | BackendTag::CLOSE_COMPLETE
            | BackendTag::NO_DATA
            | BackendTag::COPY_OUT_RESPONSE
            | BackendTag::COPY_DATA
            | BackendTag::COPY_DONE => Ok(()),
            BackendTag::COPY_IN_RESPONSE => {
                self.refuse_copy("COPY FROM STDIN is not possible in a query here")
            }
            other => Err(self.unexpected("the answer to a query", other.name().unwrap_or_default())),
        }
    }

    /// Runs SQL, which may be several statements, and gives its results row by row.
    ///
    /// # Errors
    /// If the SQL cannot be sent.
    ///
    /// # Cancel safety
    /// If the future or the [`Query`] is dropped the statements go on in the server; the next call
    /// waits for their end.
    pub async fn query(&mut self, sql: &str) -> Result<Query<'_>, Error> {
        self.send_query(sql).await?;
        Ok(Query::new(self, Grammar::SIMPLE))
    }
}

/// The results of [`Connection::query`] or [`Connection::query_params_rows`], as they arrive.
#[derive(Debug)]
pub struct Query<'c> {
    connection: &'c mut Connection,
    columns: ColumnsBuf,
    grammar: Grammar,
    done: bool,
}

/// One step through the results of SQL.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum QueryEvent<'a> {
    /// A row of the current statement.
    Row(Row<'a>),
    /// The current statement is done. The text is the server's command tag, such as `SELECT 3`, of which
    /// [`affected_rows`](crate::codec::affected_rows) gives the number.
    Complete(String),
}

impl<'c> Query<'c> {
    /// The results of the query that was just sent.
    pub(super) fn new(connection: &'c mut Connection, grammar: Grammar) -> Self {
        Self { connection, columns: ColumnsBuf::new(), grammar, done: false }
    }

    /// The columns of the current statement; none before its first row or end has come, and for a statement that
    /// returns no rows.
    #[must_use]
    pub fn columns(&self) -> Columns<'_> {
        self.columns.as_list()
    }

    /// The next row or end of a statement; `None` after the last statement.
    ///
    /// # Errors
    /// The server's error, which ends the query, or a loss of the connection.
    ///
    /// # Cancel safety
    /// No row is lost when the future is dropped.
    pub async fn next(&mut self) -> Result<Option<QueryEvent<'_>>, Error> {
        // A row borrows the connection, so the loop only finds it and the code after the loop lends it.
        while !self.done {
            let Some(tag) = self.connection.advance(DURING).await.inspect_err(|_| self.done = true)? else {
                self.done = true;
                return Ok(None);
            };
            self.connection.check_order(&mut self.grammar).inspect_err(|_| self.done = true)?;
            if tag == BackendTag::DATA_ROW {
                break;
            }
            match self.connection.current()? {
                BackendMessage::RowDescription(description) => self.columns = description.columns.to_buf(),
                BackendMessage::CommandComplete { tag } => {
                    return Ok(Some(QueryEvent::Complete(String::from_utf8_lossy(tag).into_owned())));
                }
                BackendMessage::EmptyQueryResponse => return Ok(Some(QueryEvent::Complete(String::new()))),
                _ => self.connection.skip_or_refuse(tag)?,
            }
        }
        match (self.done, self.connection.current()?) {
            (false, BackendMessage::DataRow(row)) => {
                Ok(Some(QueryEvent::Row(Row::new(&self.columns, row.values))))
            }
            _ => Ok(None),
        }
    }
}
