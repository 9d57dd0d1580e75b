use std::boxed::Box;
use std::vec::Vec;

use super::connection::Connection;
use super::error::Error;
use super::query::Query;
use super::row::ResultSet;
use super::turn::Answer;
use crate::codec::{BackendMessage, Bind, EncodeError, Execute, FrontendMessage, Oids, Parse, Target};

const DURING: &str = "reading the answer to a query";

impl Connection {
    /// Runs one statement with the parameters `$1`, `$2`, ..., in text as the server reads them and `None`
    /// for NULL, and collects its result, in text as well.
    ///
    /// A parameter's type is what the server infers from the statement; `$1::int` says it. Nothing has to be
    /// quoted, and nothing in a parameter can become SQL.
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
        self.turn.expect(Answer::extended(1));
        self.read_result().await?
    }

    /// As [`query_params`](Self::query_params), giving the result row by row.
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
        self.turn.expect(Answer::extended(1));
        self.flush("sending a command").await?;
        Ok(Query::new(self))
    }

    /// Begins a list of statements that will go to the server all at once.
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

    /// Collects the answer to one statement up to its `ReadyForQuery`: the outer error is the connection's
    /// end, the inner one the statement's.
    pub(super) async fn read_result(&mut self) -> Result<Result<ResultSet, Error>, Error> {
        let (set, outcome) = self.read_answer().await?;
        Ok(outcome.unwrap_or(Err(NOT_RUN)).map(|()| set))
    }

    /// Collects what comes up to the next `ReadyForQuery`, and what became of the statement, if one was run.
    pub(super) async fn read_answer(&mut self) -> Result<(ResultSet, Option<Result<(), Error>>), Error> {
        let mut set = ResultSet::default();
        let mut outcome = None;
        loop {
            let tag = self.advance_raw(DURING).await?;
            match self.current()? {
                BackendMessage::RowDescription(columns) => set = ResultSet::new(&columns),
                BackendMessage::DataRow(row) => set.push(&row),
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
                _ => self.pass_over(tag)?,
            }
        }
        Ok((set, outcome))
    }
}

/// Servers before 14, where a COPY that was no call of its own took a statement for its data.
const NOT_RUN: Error = Error::Usage("the statement was not run, as the one before it was COPY FROM STDIN");

/// Statements to be sent all at once: however many they are, they cost one round trip.
///
/// Each is a transaction of its own, unless a transaction is open, and each has its own result: one that
/// fails does not touch the others. In a transaction that is open, though, the server refuses (25P02) what
/// comes after a failure.
///
/// `COPY ... FROM STDIN` has no place in a pipeline but at its end: the server takes what follows for the data.
/// Those from 14 on end the session then (08P01); before, the COPY fails, and one more statement with it.
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
    /// [`Error::Encode`] if it cannot be sent, as a NUL stands in it, it has more than 65535 parameters, or
    /// it is longer than 1 GiB. The pipeline is as before then.
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
    /// If the future is dropped before anything was sent, nothing is. Afterwards all statements are run; the
    /// next call waits for their end.
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
        connection.turn.expect(Answer::extended(statements));
        let mut results = Vec::new();
        for _ in 0..statements {
            results.push(connection.read_result().await?);
        }
        Ok(results)
    }
}

/// Appends everything that runs one statement. Its own `Sync` keeps its failure to itself.
fn encode_statement(sql: &str, params: &[Option<&str>], out: &mut Vec<u8>) -> Result<(), EncodeError> {
    Parse { statement: b"", query: sql.as_bytes(), parameter_types: Oids::EMPTY }.encode(out)?;
    encode_execution(b"", params, out)
}

/// Appends everything that runs a statement that is parsed.
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
