//! The way to a server.
//!
//! | file | decides |
//! |---|---|
//! | `search` | which host and address is tried next, and when the search ends |
//! | `address` | what a host's name means |
//! | `encryption` | whether TLS is tried first, and what is tried after it |
//! | `attempt` | nothing: it moves the bytes of one handshake |
//! | `startup` | what the handshake is told of the configuration |
//! | `session_attrs` | whether the server is of the kind that is wanted |
//! | `connector`, `keys` | what a second connection need not derive again |

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
    /// Hosts and the addresses of each are tried in turn, each for at most `connect_timeout` from the first
    /// packet up to `ReadyForQuery` and the answer to what `target_session_attrs` asks. As with libpq, a server
    /// that refuses the session ends the search, except one that is starting up or shutting down (57P03) and one
    /// that `target_session_attrs` does not want.
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
