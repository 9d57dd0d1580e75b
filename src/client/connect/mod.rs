//! Connecting to a server.
//!
//! | file | decides |
//! |---|---|
//! | `search` | which host and address is tried next, and when the search ends |
//! | `address` | which addresses a host has |
//! | `encryption` | which encryption is tried first, and which after it |
//! | `attempt` | nothing: it moves the bytes of one handshake |
//! | `startup` | which part of the configuration the handshake gets |
//! | `session_attrs` | whether the server is of the kind that `target_session_attrs` asks for |
//! | `connector`, `keys` | which SCRAM keys a second connection reuses |

mod address;
mod attempt;
mod connector;
mod encryption;
mod keys;
mod search;
mod session_attrs;
mod startup;

pub use self::connector::Connector;
use self::keys::KeySlot;
use self::search::search;
use super::connection::Connection;
use super::error::Error;
use crate::conninfo::{Config, ConnInfo, Environment};

impl Connection {
    /// Connects to the first acceptable server of the configuration's list.
    ///
    /// Tries the hosts in turn, and each host's addresses in turn. Each address may take `connect_timeout`,
    /// from the first packet up to `ReadyForQuery` and the check of `target_session_attrs`. As in libpq, a
    /// server that refuses the session ends the search. A server that is starting up or shutting down
    /// (57P03), or that `target_session_attrs` does not want, does not end it.
    ///
    /// # Errors
    /// [`Error::Connect`] with every attempt and why it failed.
    ///
    /// # Cancel safety
    /// If the future is dropped, no connection is left behind.
    pub async fn connect(config: &Config) -> Result<Self, Error> {
        search(config, &KeySlot::for_hosts(config)).await
    }

    /// Connects by a connection string: a URI, or a text of `key=value` pairs. What it leaves out comes from the service
    /// file, the `PG*` variables of this process's environment, the password file and the defaults, as with libpq.
    ///
    /// ```no_run
    /// # async fn example() -> Result<(), tapster::Error> {
    /// use tapster::client::Connection;
    /// let connection = Connection::connect_str("postgres://barman@db1/postgres?sslmode=verify-full").await?;
    /// let same = Connection::connect_str("host=db1 user=barman dbname=postgres sslmode=verify-full").await?;
    /// # Ok(())
    /// # }
    /// ```
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
}
