//! Transactions that are rolled back unless they are committed.

use core::ops::{Deref, DerefMut};
use std::format;
use std::string::String;

use super::connection::Connection;
use super::error::Error;
use super::grammar::Grammar;
use crate::codec::TransactionStatus;

/// How a transaction isolates itself from others that run at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IsolationLevel {
    /// As [`ReadCommitted`](Self::ReadCommitted), in PostgreSQL.
    ReadUncommitted,
    /// A statement sees what was committed before the statement.
    ReadCommitted,
    /// A statement sees what was committed before the transaction's first statement.
    RepeatableRead,
    /// As if transactions ran one after the other; one that cannot fails with 40001, and is worth a retry.
    Serializable,
}

/// How a transaction begins. What is not set here is as the session's `default_transaction_*` settings say.
///
/// ```
/// use tapster::client::{IsolationLevel, TransactionOptions};
/// let options = TransactionOptions::new().isolation(IsolationLevel::Serializable).read_only(true).deferrable(true);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TransactionOptions {
    isolation: Option<IsolationLevel>,
    read_only: Option<bool>,
    deferrable: Option<bool>,
}

impl TransactionOptions {
    /// The options of the session.
    #[must_use]
    pub const fn new() -> Self {
        Self { isolation: None, read_only: None, deferrable: None }
    }

    /// Sets the isolation level.
    #[must_use]
    pub const fn isolation(self, level: IsolationLevel) -> Self {
        Self { isolation: Some(level), ..self }
    }

    /// Sets whether the transaction may write.
    #[must_use]
    pub const fn read_only(self, read_only: bool) -> Self {
        Self { read_only: Some(read_only), ..self }
    }

    /// Sets whether a serializable transaction that only reads waits, at its start, until nothing can make it fail. The
    /// server takes no notice of it for other transactions.
    #[must_use]
    pub const fn deferrable(self, deferrable: bool) -> Self {
        Self { deferrable: Some(deferrable), ..self }
    }

    fn begin(self) -> String {
        let isolation = self.isolation.map_or("", |level| match level {
            IsolationLevel::ReadUncommitted => " ISOLATION LEVEL READ UNCOMMITTED",
            IsolationLevel::ReadCommitted => " ISOLATION LEVEL READ COMMITTED",
            IsolationLevel::RepeatableRead => " ISOLATION LEVEL REPEATABLE READ",
            IsolationLevel::Serializable => " ISOLATION LEVEL SERIALIZABLE",
        });
        let words = |value: Option<bool>, yes, no| value.map_or("", |value| if value { yes } else { no });
        let access = words(self.read_only, " READ ONLY", " READ WRITE");
        let deferrable = words(self.deferrable, " DEFERRABLE", " NOT DEFERRABLE");
        format!("BEGIN{isolation}{access}{deferrable}")
    }
}

/// What a dropped future or guard may have left to be rolled back.
#[derive(Clone, Copy, Debug)]
pub(super) struct Undo {
    /// Down to this savepoint, or with 0 the whole transaction.
    level: u32,
    /// Only if the transaction is in the failed state: a command that ends the savepoint was sent.
    if_failed: bool,
}

/// A transaction, or a savepoint within one: rolled back unless it is [committed](Self::commit).
///
/// It lends the connection, so every call of [`Connection`] is a call within the transaction. After a statement has
/// failed the server refuses further ones (25P02) until the transaction or the savepoint is rolled back.
///
/// Dropping cannot wait for the server, so a dropped transaction is only marked. The rollback is sent before the
/// connection's next call does anything else, or the server does it when the session ends. Until then the transaction
/// keeps its locks; [`rollback`](Self::rollback) ends it at once.
///
/// ```no_run
/// # async fn example(connection: &mut tapster::client::Connection) -> Result<(), tapster::Error> {
/// let mut transaction = connection.begin().await?;
/// transaction.query_params("UPDATE account SET amount = amount - 1 WHERE id = $1", &[Some("7")]).await?;
/// let mut savepoint = transaction.savepoint().await?;
/// match savepoint.simple_query("INSERT INTO log VALUES (7)").await {
///     Ok(_) => savepoint.commit().await?,
///     Err(error) if error.is_connection_lost() => return Err(error),
///     Err(_) => savepoint.rollback().await?,
/// }
/// transaction.commit().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "a transaction that is dropped is rolled back"]
pub struct Transaction<'c> {
    connection: &'c mut Connection,
    /// 0 for the transaction itself, n for its nth savepoint inside another.
    level: u32,
    is_ended: bool,
}

impl Connection {
    /// Begins a transaction.
    ///
    /// # Errors
    /// [`Error::Usage`] if a transaction is open already; [`Transaction::savepoint`] nests them. The server's error, or a
    /// loss of the connection.
    ///
    /// # Cancel safety
    /// If the future is dropped no transaction stays open: the next call rolls it back.
    pub async fn begin(&mut self) -> Result<Transaction<'_>, Error> {
        self.begin_with(TransactionOptions::new()).await
    }

    /// Begins a transaction with options; see [`begin`](Self::begin).
    ///
    /// ```no_run
    /// # use tapster::client::{IsolationLevel, TransactionOptions};
    /// # async fn example(connection: &mut tapster::client::Connection) -> Result<(), tapster::Error> {
    /// let options = TransactionOptions::new().isolation(IsolationLevel::RepeatableRead).read_only(true);
    /// let mut transaction = connection.begin_with(options).await?;
    /// let tables: u32 = transaction.query_one("SELECT count(*) FROM pg_tables").await?.parse(0)?;
    /// transaction.commit().await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Those of [`begin`](Self::begin).
    ///
    /// # Cancel safety
    /// That of [`begin`](Self::begin).
    pub async fn begin_with(&mut self, options: TransactionOptions) -> Result<Transaction<'_>, Error> {
        self.ready().await?;
        if self.session.transaction_status != TransactionStatus::Idle {
            return Err(Error::Usage("a transaction is open already; a savepoint nests in it"));
        }
        self.open(0, &options.begin()).await
    }

    /// Sends the command that begins a transaction or a savepoint.
    async fn open(&mut self, level: u32, command: &str) -> Result<Transaction<'_>, Error> {
        self.push_query(command)?;
        // If the caller drops the future, the command still goes out with the next call, which has to undo it.
        self.undo = Some(Undo { level, if_failed: false });
        let began = self.read_to_end().await;
        self.undo = None;
        began.map(|_| Transaction { connection: self, level, is_ended: false })
    }

    /// Rolls back what a dropped transaction or savepoint has left.
    ///
    /// # Errors
    /// A loss of the connection. If the server refuses, because SQL of the caller has ended the savepoint, the
    /// transaction is in the failed state, and the caller's next statement tells so.
    pub(super) async fn undo_dropped(&mut self) -> Result<(), Error> {
        let Some(undo) = self.undo.take() else { return Ok(()) };
        let is_due = match self.session.transaction_status {
            // A COMMIT whose answer nobody waited for, or a BEGIN that failed.
            TransactionStatus::Idle => false,
            TransactionStatus::Failed => true,
            _ => !undo.if_failed,
        };
        if !is_due {
            return Ok(());
        }
        match self.roll_back(undo.level).await {
            Err(error) if !error.is_connection_lost() => {
                log::debug!("rolling back a dropped savepoint: {error}");
                Ok(())
            }
            result => result,
        }
    }

    async fn roll_back(&mut self, level: u32) -> Result<(), Error> {
        self.push_query(&rollback(level))?;
        self.read_to_end().await.map(drop)
    }

    /// Reads the answer to a command. Gives the last command tag.
    async fn read_to_end(&mut self) -> Result<String, Error> {
        let (set, outcome) = self.read_answer(Grammar::SIMPLE).await?;
        outcome.unwrap_or(Ok(())).map(|()| set.tag().into())
    }
}

fn rollback(level: u32) -> String {
    match level {
        0 => "ROLLBACK".into(),
        // The first command also ends the failed state, in which the server would refuse the second.
        n => format!("ROLLBACK TO SAVEPOINT tapster_{n}; RELEASE SAVEPOINT tapster_{n}"),
    }
}

impl Transaction<'_> {
    /// Begins a transaction within this one: what it does can be rolled back alone.
    ///
    /// # Errors
    /// The server's error, 25P02 if a statement of this transaction has failed, or a loss of the connection.
    ///
    /// # Cancel safety
    /// If the future is dropped no savepoint stays: the next call rolls it back.
    pub async fn savepoint(&mut self) -> Result<Transaction<'_>, Error> {
        let level = self.level.saturating_add(1);
        self.connection.ready().await?;
        self.check_open()?;
        self.connection.open(level, &format!("SAVEPOINT tapster_{level}")).await
    }

    /// Commits the transaction. Of a savepoint, what it did becomes part of the transaction around it.
    ///
    /// # Errors
    /// - [`Error::RolledBack`] if a statement of the transaction had failed, so that the server rolled the transaction
    ///   back instead. The connection is usable.
    /// - The server's error: nothing is committed; for example a deferred constraint, 23505, or 40001, which is worth a
    ///   retry of the whole transaction. For a savepoint after a failed statement, 25P02: the savepoint is rolled back
    ///   before the next call, and the transaction around it goes on.
    /// - A loss of the connection: whether the server has committed is not known.
    /// - [`Error::Usage`] if SQL of the caller has ended the transaction already.
    ///
    /// # Cancel safety
    /// If the future is dropped, the transaction is either committed or rolled back, and which of them is not known. It
    /// is not open any more when the next call begins.
    pub async fn commit(mut self) -> Result<(), Error> {
        self.connection.ready().await?;
        self.check_open()?;
        let level = self.level;
        let command = match level {
            0 => "COMMIT".into(),
            n => format!("RELEASE SAVEPOINT tapster_{n}"),
        };
        self.connection.push_query(&command)?;
        self.is_ended = true;
        self.connection.undo = Some(Undo { level, if_failed: true });
        let tag = self.connection.read_to_end().await?;
        self.connection.undo = None;
        if level == 0 && tag == "ROLLBACK" { Err(Error::RolledBack) } else { Ok(()) }
    }

    /// Rolls the transaction or the savepoint back, and waits until that is done.
    ///
    /// # Errors
    /// A loss of the connection, with which the server rolls back too. For a savepoint, the server's error if SQL of the
    /// caller has released it.
    ///
    /// # Cancel safety
    /// The transaction is rolled back in any case.
    pub async fn rollback(mut self) -> Result<(), Error> {
        self.connection.ready().await?;
        // From here on the command is on its way, whether or not its answer is waited for.
        self.is_ended = true;
        if self.connection.session.transaction_status == TransactionStatus::Idle {
            return Ok(());
        }
        self.connection.roll_back(self.level).await
    }

    fn check_open(&self) -> Result<(), Error> {
        match self.connection.session.transaction_status {
            TransactionStatus::Idle => Err(Error::Usage("the transaction was ended by a statement in it")),
            _ => Ok(()),
        }
    }
}

impl Deref for Transaction<'_> {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        self.connection
    }
}

impl DerefMut for Transaction<'_> {
    fn deref_mut(&mut self) -> &mut Connection {
        self.connection
    }
}

impl Drop for Transaction<'_> {
    fn drop(&mut self) {
        if !self.is_ended {
            // What is due for a savepoint within this one is part of this.
            self.connection.undo = Some(Undo { level: self.level, if_failed: false });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_options_that_are_set_are_sent() {
        assert_eq!(TransactionOptions::new().begin(), "BEGIN");
        let all = TransactionOptions::new().isolation(IsolationLevel::Serializable).read_only(true);
        assert_eq!(all.deferrable(true).begin(), "BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY DEFERRABLE");
        let all = TransactionOptions::new().isolation(IsolationLevel::ReadUncommitted).read_only(false);
        assert_eq!(
            all.deferrable(false).begin(),
            "BEGIN ISOLATION LEVEL READ UNCOMMITTED READ WRITE NOT DEFERRABLE"
        );
    }
}
