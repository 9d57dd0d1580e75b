use std::boxed::Box;
use std::vec::Vec;

use super::connection::Connection;
use super::error::Error;
use super::grammar::Grammar;
use super::query::{ITEM_BYTES, Query};
use super::row::ResultSet;
use super::turn::Answer;
use crate::codec::{BackendMessage, Bind, EncodeError, Execute, FrontendMessage, Oids, Parse, Target};

const DURING: &str = "reading the answer to a query";

impl Connection {
    /// Runs one statement with the parameters `$1`, `$2`, ... and collects its result. Parameters are text as
    /// the server reads it, `None` is NULL; the result is text as well.
    ///
    /// The server infers a parameter's type from the statement; a cast such as `$1::int` sets it. Nothing has
    /// to be quoted, and nothing in a parameter can become SQL.
    ///
    /// # Errors
    /// The server's error, after which the connection is usable again, or a loss of the connection. Servers
    /// refuse parameters on every replication connection (08P01).
    ///
    /// # Cancel safety
    /// If the future is dropped the statement goes on in the server; the next call waits for its end.
    pub async fn query_params(&mut self, sql: &str, params: &[Option<&str>]) -> Result<ResultSet, Error> {
        self.ready().await?;
        self.push(|out| encode_statement(sql, params, out))?;
        self.expect(Answer::extended(1));
        self.read_result().await?
    }

    /// Runs one statement like [`query_params`](Self::query_params), and gives the result row by row.
    ///
    /// # Errors
    /// If the statement cannot be sent.
    ///
    /// # Cancel safety
    /// If the future or the [`Query`] is dropped the statement goes on in the server; the next call waits
    /// for its end.
    pub async fn query_params_rows(
        &mut self,
        sql: &str,
        params: &[Option<&str>],
    ) -> Result<Query<'_>, Error> {
        self.ready().await?;
        self.push(|out| encode_statement(sql, params, out))?;
        self.expect(Answer::extended(1));
        self.flush("sending a command").await?;
        Ok(Query::new(self, Grammar::EXTENDED))
    }

    /// Begins a list of statements that are sent to the server together.
    ///
    /// ```no_run
    /// # async fn example(connection: &mut tapster::client::Connection) -> Result<(), tapster::Error> {
    /// let mut pipeline = connection.pipeline();
    /// pipeline.query("SELECT pg_is_in_recovery()", &[])?;
    /// pipeline.query("SELECT setting FROM pg_settings WHERE name = $1", &[Some("wal_level")])?;
    /// for result in pipeline.run().await? {
    ///     match result {
    ///         Ok(set) => println!("{}", set.rows().next().map_or(Ok("no row"), |row| row.text(0))?),
    ///         Err(error) => eprintln!("{error}"),
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn pipeline(&mut self) -> Pipeline<'_> {
        Pipeline { connection: self, messages: Vec::new(), statements: 0 }
    }

    /// Collects the answer to one statement up to its `ReadyForQuery`: the outer error ends the connection,
    /// the inner one is the statement's own.
    pub(super) async fn read_result(&mut self) -> Result<Result<ResultSet, Error>, Error> {
        let (set, outcome) = self.read_answer(Grammar::EXTENDED).await?;
        match outcome {
            Some(outcome) => Ok(outcome.map(|()| set)),
            None => Err(self.unexpected("the end of a statement", "ReadyForQuery")),
        }
    }

    /// Reads up to the next `ReadyForQuery`. Gives the statement's result and outcome; the outcome is `None`
    /// if no statement was run. The messages have to come in the order of `grammar`.
    pub(super) async fn read_answer(
        &mut self,
        mut grammar: Grammar,
    ) -> Result<(ResultSet, Option<Result<(), Error>>), Error> {
        let mut set = ResultSet::default();
        let mut outcome = None;
        let mut taken = 0_usize;
        loop {
            let tag = self.advance_raw(DURING).await?;
            self.check_order(&mut grammar)?;
            match self.current()? {
                BackendMessage::RowDescription(columns) => set = ResultSet::new(&columns),
                BackendMessage::DataRow(row) => {
                    set.push(&row);
                    taken += ITEM_BYTES + row.values.as_bytes().len();
                    self.check_answer(taken, self.limits.answer_bytes)?;
                }
                BackendMessage::CommandComplete { tag } => {
                    set.complete(tag);
                    outcome = Some(Ok(()));
                }
                BackendMessage::EmptyQueryResponse => outcome = Some(Ok(())),
                BackendMessage::ErrorResponse(fields) => {
                    let error = fields.to_server_error();
                    if error.severity.ends_connection() {
                        return Err(self.ended(error));
                    }
                    outcome = Some(Err(Error::Server(Box::new(error))));
                }
                BackendMessage::ReadyForQuery(_) => break,
                _ => self.skip_or_refuse(tag)?,
            }
        }
        Ok((set, outcome))
    }
}

/// The case of a server before 14: a COPY FROM STDIN inside a pipeline took the next statement for its data.
const NOT_RUN: Error = Error::Usage("the statement was not run, as the one before it was COPY FROM STDIN");

/// Statements that are sent together: any number of them costs one round trip.
///
/// Each statement has its own result. Unless a transaction is open, each statement is a transaction of its
/// own, and a failure does not affect the others. In an open transaction the server refuses every statement
/// after a failure (25P02).
///
/// `COPY ... FROM STDIN` may stand only at the end of a pipeline: the server takes the messages after it for
/// its data. Servers from 14 on then end the session (08P01). On older servers the COPY fails, and one more
/// statement with it.
#[derive(Debug)]
pub struct Pipeline<'c> {
    connection: &'c mut Connection,
    messages: Vec<u8>,
    statements: u32,
}

impl Pipeline<'_> {
    /// Adds one statement with its parameters; see [`Connection::query_params`].
    ///
    /// # Errors
    /// [`Error::Encode`] if the statement cannot be sent: it contains a NUL, has more than 65535 parameters,
    /// or is longer than 1 GiB. The pipeline then stays as it was.
    pub fn query(&mut self, sql: &str, params: &[Option<&str>]) -> Result<(), Error> {
        self.add(|out| encode_statement(sql, params, out))
    }

    /// Adds the messages of one statement, up to its `Sync`: all of them, or on an error none.
    pub(super) fn add(
        &mut self,
        encode: impl FnOnce(&mut Vec<u8>) -> Result<(), EncodeError>,
    ) -> Result<(), Error> {
        let start = self.messages.len();
        encode(&mut self.messages).inspect_err(|_| self.messages.truncate(start))?;
        self.statements += 1;
        Ok(())
    }

    /// Sends everything and collects each statement's result, in the order in which they were added.
    ///
    /// # Errors
    /// A loss of the connection; a statement's own error is in the list.
    ///
    /// # Cancel safety
    /// If the future is dropped before anything was sent, no statement is run. Later, all statements are run;
    /// the next call waits for their end.
    pub async fn run(self) -> Result<Vec<Result<ResultSet, Error>>, Error> {
        let Self { connection, messages, statements } = self;
        connection.ready().await?;
        if statements == 0 {
            return Ok(Vec::new());
        }
        connection.push(|out| {
            out.extend_from_slice(&messages);
            Ok(())
        })?;
        connection.expect(Answer::extended(statements));
        let mut results = Vec::new();
        for _ in 0..statements {
            let (set, outcome) = connection.read_answer(Grammar::EXTENDED).await?;
            results.push(outcome.unwrap_or(Err(NOT_RUN)).map(|()| set));
        }
        Ok(results)
    }
}

/// Appends the messages that run one statement. They end with a `Sync`, so that a failure affects only this
/// statement.
fn encode_statement(sql: &str, params: &[Option<&str>], out: &mut Vec<u8>) -> Result<(), EncodeError> {
    Parse { statement: b"", query: sql.as_bytes(), parameter_types: Oids::EMPTY }.encode(out)?;
    encode_execution(b"", params, out)
}

/// Appends the messages that run a statement which the server has parsed.
pub(super) fn encode_execution(
    statement: &[u8],
    params: &[Option<&str>],
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    let values = params.iter().map(|value| value.map(str::as_bytes));
    Bind::encode_text(b"", statement, values, out)?;
    FrontendMessage::Describe(Target::Portal(b"")).encode(out)?;
    Execute { portal: b"", max_rows: 0 }.encode(out)?;
    FrontendMessage::Sync.encode(out)
}
