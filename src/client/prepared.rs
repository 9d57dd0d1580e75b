use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};
use std::format;
use std::string::String;
use std::sync::{Arc, Mutex, PoisonError};
use std::vec::Vec;

use super::connection::{Answer, Connection};
use super::error::Error;
use super::extended::{Pipeline, encode_execution};
use super::row::ResultSet;
use crate::codec::{EncodeError, FrontendMessage, Oids, Parse, Target};

/// A statement that the server has parsed and keeps for the session under a name; see
/// [`Connection::prepare`].
///
/// When it is dropped, the connection has the server forget it together with its next prepared statement;
/// [`Connection::close_statement`] does so at once.
pub struct Statement {
    name: String,
    dropped: Dropped,
}

/// The names that a connection's server may forget.
#[derive(Clone, Debug, Default)]
pub(super) struct Dropped(Arc<Mutex<Vec<String>>>);

impl Dropped {
    fn add(&self, names: impl IntoIterator<Item = String>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(names);
    }

    fn take(&self) -> Vec<String> {
        core::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Statement {
    /// One with a name that no other connection of this process has, so that it is never taken for another.
    fn new(dropped: Dropped) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self { name: format!("tapster_{}", NEXT.fetch_add(1, Ordering::Relaxed)), dropped }
    }
}

impl Drop for Statement {
    fn drop(&mut self) {
        self.dropped.add([core::mem::take(&mut self.name)]);
    }
}

impl fmt::Debug for Statement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Statement").field(&self.name).finish()
    }
}

impl Connection {
    /// Has the server parse a statement once, to be run many times with the parameters `$1`, `$2`, ...
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
    /// If the future is dropped there is no statement; the next call waits for the end of the answer.
    pub async fn prepare(&mut self, sql: &str) -> Result<Statement, Error> {
        self.ready().await?;
        // From here on it is forgotten again if this call comes to nothing.
        let statement = Statement::new(self.dropped_statements.clone());
        self.push_prepared(|out| {
            let name = statement.name.as_bytes();
            Parse { statement: name, query: sql.as_bytes(), parameter_types: Oids::EMPTY }.encode(out)?;
            FrontendMessage::Sync.encode(out)
        })?;
        self.read_answer().await?.1.unwrap_or(Ok(())).map(|()| statement)
    }

    /// Runs a prepared statement and collects its result; parameters and result are in text, `None` is NULL.
    ///
    /// # Errors
    /// As [`query_params`](Self::query_params); 26000 if the statement is another connection's, and 0A000 if
    /// the columns of its result have changed since.
    ///
    /// # Cancel safety
    /// If the future is dropped the statement goes on in the server; the next call waits for its end.
    pub async fn query_prepared(
        &mut self,
        statement: &Statement,
        params: &[Option<&str>],
    ) -> Result<ResultSet, Error> {
        self.ready().await?;
        self.push_prepared(|out| encode_execution(statement.name.as_bytes(), params, out))?;
        self.read_result().await?
    }

    /// Has the server forget a statement, with what it keeps for it, and waits until it has.
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
        self.read_answer().await?.1.unwrap_or(Ok(()))
    }

    /// Pushes messages that end with `Sync`, and before them what has the server forget dropped statements.
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
    /// As [`query`](Self::query).
    pub fn query_prepared(&mut self, statement: &Statement, params: &[Option<&str>]) -> Result<(), Error> {
        self.add(|out| encode_execution(statement.name.as_bytes(), params, out))
    }
}
