//! Statements from which one row is expected.

use super::connection::Connection;
use super::error::Error;
use super::query::{Query, QueryEvent};
use super::row::ResultSet;
use super::row_buf::RowBuf;
use super::statement::Statement;

impl Connection {
    /// Runs SQL that gives exactly one row.
    ///
    /// ```no_run
    /// # async fn example(connection: &mut tapster::client::Connection) -> Result<(), tapster::Error> {
    /// let row = connection.query_one("SELECT pg_is_in_recovery() AS standby, pg_backend_pid() AS pid").await?;
    /// let (standby, pid): (bool, i32) = (row.parse("standby")?, row.parse("pid")?);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::NoRow`] and [`Error::ManyRows`], after the statement has run to its end: what it changed is changed,
    /// unless it stands in a transaction that is rolled back. The server's error, after which the connection is usable
    /// again, or a loss of the connection. With several statements, their rows count together.
    ///
    /// # Cancel safety
    /// If the future is dropped the statements go on in the server; the next call waits for their end.
    pub async fn query_one(&mut self, sql: &str) -> Result<RowBuf, Error> {
        self.query_opt(sql).await?.ok_or(Error::NoRow)
    }

    /// Runs SQL that gives at most one row.
    ///
    /// # Errors
    /// Those of [`query_one`](Self::query_one), without [`Error::NoRow`].
    ///
    /// # Cancel safety
    /// That of [`query_one`](Self::query_one).
    pub async fn query_opt(&mut self, sql: &str) -> Result<Option<RowBuf>, Error> {
        at_most_one(self.query(sql).await?).await
    }

    /// Runs one statement with the parameters `$1`, `$2`, ..., which gives exactly one row; see
    /// [`query_params`](Self::query_params) about the parameters.
    ///
    /// # Errors
    /// Those of [`query_one`](Self::query_one).
    ///
    /// # Cancel safety
    /// That of [`query_one`](Self::query_one).
    pub async fn query_params_one(&mut self, sql: &str, params: &[Option<&str>]) -> Result<RowBuf, Error> {
        self.query_params_opt(sql, params).await?.ok_or(Error::NoRow)
    }

    /// Runs one statement with parameters, which gives at most one row.
    ///
    /// # Errors
    /// Those of [`query_one`](Self::query_one), without [`Error::NoRow`].
    ///
    /// # Cancel safety
    /// That of [`query_one`](Self::query_one).
    pub async fn query_params_opt(
        &mut self,
        sql: &str,
        params: &[Option<&str>],
    ) -> Result<Option<RowBuf>, Error> {
        at_most_one(self.query_params_rows(sql, params).await?).await
    }

    /// Runs a prepared statement, which gives exactly one row; see [`query_prepared`](Self::query_prepared).
    ///
    /// # Errors
    /// Those of [`query_one`](Self::query_one).
    ///
    /// # Cancel safety
    /// That of [`query_one`](Self::query_one).
    pub async fn query_prepared_one(
        &mut self,
        statement: &Statement,
        params: &[Option<&str>],
    ) -> Result<RowBuf, Error> {
        self.query_prepared(statement, params).await?.one()
    }

    /// Runs a prepared statement, which gives at most one row.
    ///
    /// # Errors
    /// Those of [`query_one`](Self::query_one), without [`Error::NoRow`].
    ///
    /// # Cancel safety
    /// That of [`query_one`](Self::query_one).
    pub async fn query_prepared_opt(
        &mut self,
        statement: &Statement,
        params: &[Option<&str>],
    ) -> Result<Option<RowBuf>, Error> {
        self.query_prepared(statement, params).await?.opt()
    }
}

/// The row of a query, which is read to its end but not kept.
async fn at_most_one(mut query: Query<'_>) -> Result<Option<RowBuf>, Error> {
    let (mut first, mut rows) = (None, 0_usize);
    while let Some(event) = query.next().await? {
        if let QueryEvent::Row(row) = event {
            rows = rows.saturating_add(1);
            if first.is_none() {
                first = Some(row.to_buf());
            }
        }
    }
    if rows > 1 { Err(Error::ManyRows(rows)) } else { Ok(first) }
}

impl ResultSet {
    /// The only row.
    ///
    /// # Errors
    /// [`Error::NoRow`] or [`Error::ManyRows`].
    pub fn one(&self) -> Result<RowBuf, Error> {
        self.opt()?.ok_or(Error::NoRow)
    }

    /// The only row, if there is one.
    ///
    /// # Errors
    /// [`Error::ManyRows`].
    pub fn opt(&self) -> Result<Option<RowBuf>, Error> {
        if self.len() > 1 {
            Err(Error::ManyRows(self.len()))
        } else {
            Ok(self.row(0).map(|row| row.to_buf()))
        }
    }
}
