use std::vec::Vec;

use super::keys::KeySlot;
use super::search::search;
use crate::client::connection::Connection;
use crate::client::error::Error;
use crate::conninfo::Config;

/// Makes many connections with one configuration, and keeps the keys that SCRAM derived from each host's
/// password. The next connection to the same host skips the most expensive part of a login, as long as the
/// server keeps its salt and iteration count.
///
/// The keys are as secret as the passwords in the configuration. Dropping the connector overwrites them.
///
/// ```no_run
/// # async fn example(config: tapster::conninfo::Config) -> Result<(), tapster::Error> {
/// let connector = tapster::client::Connector::new(config);
/// let first = connector.connect().await?;
/// let second = connector.connect().await?; // without PBKDF2
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Connector {
    config: Config,
    keys: Vec<KeySlot>,
}

impl Connector {
    /// Makes a connector that has no keys yet.
    #[must_use]
    pub fn new(config: Config) -> Self {
        let keys = KeySlot::for_hosts(&config);
        Self { config, keys }
    }

    /// The configuration.
    #[must_use]
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// Connects; see [`Connection::connect`].
    ///
    /// # Errors
    /// [`Error::Connect`] with every attempt and why it failed.
    ///
    /// # Cancel safety
    /// If the future is dropped, no connection is left behind.
    pub async fn connect(&self) -> Result<Connection, Error> {
        search(&self.config, &self.keys).await
    }
}
