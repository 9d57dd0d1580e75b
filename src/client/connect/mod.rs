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
use crate::conninfo::Config;

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
}
