use std::vec::Vec;

use super::connection::Connection;
use super::error::Error;
use super::extended::{Pipeline, encode_execution};
use super::grammar::Grammar;
use super::row::ResultSet;
use super::statement::Statement;
use super::turn::Answer;
use crate::codec::{EncodeError, FrontendMessage, Oids, Parse, Target};

impl Connection {
    /// Lets the server parse a statement once, to run it many times with the parameters `$1`, `$2`, ...
    ///
    /// ```no_run
    /// # async fn example(connection: &mut tapster::client::Connection) -> Result<(), tapster::Error> {
    /// let setting = connection.prepare("SELECT setting FROM pg_settings WHERE name = $1").await?;
    /// for name in ["wal_level", "archive_mode"] {
    ///     let set = connection.query_prepared(&setting, &[Some(name)]).await?;
    ///     println!("{name} = {}", set.rows().next().map_or(Ok("unknown"), |row| row.text(0))?);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// The server's error, after which the connection is usable again, or a loss of the connection. Servers
    /// refuse prepared statements on every replication connection (08P01).
    ///
    /// # Cancel safety
    /// If the future is dropped no statement stays prepared; the next call waits for the end of the answer.
    pub async fn prepare(&mut self, sql: &str) -> Result<Statement, Error> {
        self.ready().await?;
        // Dropping `statement` makes the server forget it, so a call that fails leaves none behind.
        let statement = Statement::new(self.dropped_statements.clone());
        self.push_prepared(|out| {
            let name = statement.name();
            Parse { statement: name, query: sql.as_bytes(), parameter_types: Oids::EMPTY }.encode(out)?;
            FrontendMessage::Sync.encode(out)
        })?;
        self.read_answer(Grammar::EXTENDED).await?.1.unwrap_or(Ok(())).map(|()| statement)
    }

    /// Runs a prepared statement and collects its result; parameters and result are in text, `None` is NULL.
    ///
    /// # Errors
    /// The server's error, after which the connection is usable again, or a loss of the connection. The
    /// server gives 26000 if the statement belongs to another connection, and 0A000 if the columns of its
    /// result have changed since [`prepare`](Self::prepare).
    ///
    /// # Cancel safety
    /// If the future is dropped the statement goes on in the server; the next call waits for its end.
    pub async fn query_prepared(
        &mut self,
        statement: &Statement,
        params: &[Option<&str>],
    ) -> Result<ResultSet, Error> {
        self.ready().await?;
        self.push_prepared(|out| encode_execution(statement.name(), params, out))?;
        self.read_result().await?
    }

    /// Lets the server forget a statement and free its memory, and waits until that is done.
    ///
    /// # Errors
    /// A loss of the connection.
    ///
    /// # Cancel safety
    /// The statement is forgotten in any case; the next call waits for the end of the answer.
    pub async fn close_statement(&mut self, statement: Statement) -> Result<(), Error> {
        drop(statement);
        self.ready().await?;
        self.push_prepared(|out| FrontendMessage::Sync.encode(out))?;
        self.read_answer(Grammar::EXTENDED).await?.1.unwrap_or(Ok(()))
    }

    /// Pushes messages that end with `Sync`, and before them a `Close` for each dropped statement.
    fn push_prepared(
        &mut self,
        encode: impl FnOnce(&mut Vec<u8>) -> Result<(), EncodeError>,
    ) -> Result<(), Error> {
        let dropped = self.dropped_statements.take();
        let pushed = self.push(|out| {
            for name in &dropped {
                FrontendMessage::Close(Target::Statement(name.as_bytes())).encode(out)?;
            }
            encode(out)
        });
        match pushed {
            Ok(()) => self.expect(Answer::extended(1)),
            Err(_) => self.dropped_statements.add(dropped),
        }
        pushed
    }
}

impl Pipeline<'_> {
    /// Adds a prepared statement with its parameters; see [`Connection::query_prepared`].
    ///
    /// # Errors
    /// [`Error::Encode`] if the statement cannot be sent; see [`query`](Self::query). The pipeline then stays
    /// as it was.
    pub fn query_prepared(&mut self, statement: &Statement, params: &[Option<&str>]) -> Result<(), Error> {
        self.add(|out| encode_execution(statement.name(), params, out))
    }
}
