use std::format;
use std::string::String;

use crate::client::Error;
use crate::client::{Connection, Connector, ResultSet, Row, SessionLimits};
use crate::codec::Limits;
use crate::conninfo::{Config, ConnInfo, Environment, Replication};

/// A connection that takes replication commands.
///
/// Commands are sent one at a time and with keywords in upper case, as the server's replication grammar
/// requires; names are quoted. Command tags are ignored: servers before 13 send `SELECT` for nearly
/// everything.
///
/// Any error of the server on this connection releases its active slot and drops its temporary slots.
#[derive(Debug)]
pub struct ReplicationConnection {
    pub(super) connection: Connection,
}

impl ReplicationConnection {
    /// Connects; the configuration must have `replication` set.
    ///
    /// # Errors
    /// [`Error::Usage`] without `replication`, or [`Error::Connect`] with every attempt and why it failed.
    ///
    /// # Cancel safety
    /// If the future is dropped, no connection is left behind.
    pub async fn connect(config: &Config) -> Result<Self, Error> {
        check_config(config)?;
        Connection::connect(config).await.map(|connection| Self::new(connection, config))
    }

    /// Connects by a connection string, which has to set `replication`; see [`Connection::connect_str`].
    ///
    /// # Errors
    /// [`Error::ConnInfo`] if the string cannot be used, and those of [`connect`](Self::connect).
    ///
    /// # Cancel safety
    /// If the future is dropped, no connection is left behind.
    pub async fn connect_str(conninfo: &str) -> Result<Self, Error> {
        let conninfo: ConnInfo = conninfo.parse()?;
        Self::connect(&conninfo.resolve(&Environment::from_process())?.config()?).await
    }

    /// Connects like [`connect`](Self::connect), with the same errors and cancel safety, but through a
    /// [`Connector`], which makes a second connection cheaper.
    pub async fn connect_with(connector: &Connector) -> Result<Self, Error> {
        check_config(connector.config())?;
        connector.connect().await.map(|connection| Self::new(connection, connector.config()))
    }

    fn new(mut connection: Connection, config: &Config) -> Self {
        let control = SessionLimits::CONTROL;
        let Limits { copy_data, data_row, .. } = match config.replication {
            Replication::Physical => {
                Limits { copy_data: MAX_ANSWER_BYTES, data_row: MAX_ANSWER_BYTES, ..control.messages }
            }
            // A session with a database also runs SQL and decodes changes, whose rows may be long.
            _ => Limits::DEFAULT,
        };
        let messages = Limits { copy_data, data_row, ..control.messages };
        connection.set_limits(SessionLimits { messages, ..SessionLimits::DATA });
        Self { connection }
    }

    /// The connection itself. With `replication=database` it takes SQL as simple queries.
    pub fn connection(&mut self) -> &mut Connection {
        &mut self.connection
    }

    /// The server's version. Needs no round trip.
    ///
    /// # Errors
    /// If the server reported no version, or none that can be parsed.
    pub fn server_version(&self) -> Result<crate::types::ServerVersion, Error> {
        self.connection.server_version()
    }

    /// Ends the session in good order.
    ///
    /// # Errors
    /// If `Terminate` cannot be written; the connection is closed all the same.
    ///
    /// # Cancel safety
    /// If the future is dropped, the connection is closed all the same, perhaps without `Terminate`.
    pub async fn close(self) -> Result<(), Error> {
        self.connection.close().await
    }

    /// Runs a command that gives rows.
    pub(super) async fn rows(&mut self, command: &str) -> Result<ResultSet, Error> {
        let sets = self.connection.simple_query_within(command, MAX_ANSWER_BYTES as usize).await?;
        // Servers before 13 add a second, empty result to DROP_REPLICATION_SLOT and other commands.
        Ok(sets.into_iter().max_by_key(ResultSet::len).unwrap_or_default())
    }

    /// Runs a command that gives one row.
    pub(super) async fn one_row<T>(
        &mut self,
        command: &str,
        read: impl FnOnce(Row<'_>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let set = self.rows(command).await?;
        match (set.len(), set.row(0)) {
            (1, Some(row)) => read(row),
            (rows, _) => Err(Error::Unexpected { expected: "one row", got: format!("{rows} rows") }),
        }
    }
}

fn check_config(config: &Config) -> Result<(), Error> {
    match config.replication {
        Replication::None => {
            Err(Error::Usage("a replication connection needs replication=true or replication=database"))
        }
        Replication::Physical | Replication::Database => Ok(()),
    }
}

/// Quotes a name for the replication grammar, which cannot express a quote inside a name.
pub(super) fn quoted(name: &str) -> Result<String, Error> {
    if name.is_empty() {
        return Err(Error::Usage("a replication slot needs a name"));
    }
    if name.contains(['"', '\0']) {
        return Err(Error::Usage("a replication slot's name may only have lower-case letters, digits and _"));
    }
    // The server would truncate the name without an error, and use another slot.
    if name.len() > MAX_NAME_BYTES {
        return Err(Error::Usage("a replication slot's name has at most 63 characters"));
    }
    Ok(format!("\"{name}\""))
}

/// The longest answer is a timeline history, with about 50 bytes for each timeline. WAL comes in runs of 128
/// KiB.
const MAX_ANSWER_BYTES: u32 = 16 << 20;

/// `NAMEDATALEN` less one.
const MAX_NAME_BYTES: usize = 63;

/// Writes the options of a command in parentheses, or nothing if there are none.
pub(super) fn parenthesised(options: &[String]) -> String {
    if options.is_empty() { String::new() } else { format!(" ({})", options.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString as _;

    #[test]
    fn names_that_the_server_would_change_are_refused() {
        assert_eq!(quoted("1_slot").unwrap(), "\"1_slot\"");
        assert!(quoted(&"x".repeat(63)).is_ok());
        for name in ["", "a\"b", "a\0b", &"x".repeat(64)] {
            assert!(matches!(quoted(name), Err(Error::Usage(_))), "{name:?}");
        }
    }

    #[test]
    fn options_are_written_as_the_grammar_reads_them() {
        assert_eq!(parenthesised(&[]), "");
        assert_eq!(parenthesised(&["A".to_string(), "B 'x'".to_string()]), " (A, B 'x')");
    }
}
