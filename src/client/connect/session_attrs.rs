use std::boxed::Box;

use super::search::connect_again;
use crate::client::connection::Connection;
use crate::client::error::Error;
use crate::conninfo::{Config, Replication, TargetSessionAttrs};

/// Why `target_session_attrs` does not want this server, in libpq's words; `None` if the server is
/// acceptable.
///
/// Servers from 14 on report both settings when a session begins; older servers need queries.
pub(super) async fn reason_to_reject(
    connection: &mut Connection,
    config: &Config,
    attrs: TargetSessionAttrs,
) -> Result<Option<&'static str>, Error> {
    let (wants_read_only, wants_standby) = match attrs {
        TargetSessionAttrs::Any | TargetSessionAttrs::PreferStandby => return Ok(None),
        TargetSessionAttrs::ReadWrite => (Some(false), None),
        TargetSessionAttrs::ReadOnly => (Some(true), None),
        TargetSessionAttrs::Primary => (None, Some(false)),
        TargetSessionAttrs::Standby => (None, Some(true)),
    };
    // The block ends the borrow of the connection before the queries; otherwise the future would not be Send.
    let reported = {
        let reported = |name: &str| connection.parameters().get(name).map(|value| value == "on");
        (reported("default_transaction_read_only"), reported("in_hot_standby"))
    };
    let (is_read_only, is_standby) = match reported {
        (Some(read_only), Some(standby)) => (read_only || standby, standby),
        _ if wants_read_only.is_some() => (is_on(connection, "SHOW transaction_read_only").await?, false),
        _ => (false, connection.is_in_recovery(config).await?),
    };
    Ok(match (wants_read_only, wants_standby) {
        (Some(false), _) if is_read_only => Some("session is read-only"),
        (Some(true), _) if !is_read_only => Some("session is not read-only"),
        (_, Some(false)) if is_standby => Some("server is in hot standby mode"),
        (_, Some(true)) if !is_standby => Some("server is not in hot standby mode"),
        _ => None,
    })
}

impl Connection {
    /// Whether the server is a standby. `config` is what the connection was made with.
    ///
    /// Servers from 14 on report it. Before, a physical replication connection takes only `SHOW`, and its
    /// `transaction_read_only` is on in a standby, but also where `default_transaction_read_only` is. Then a second
    /// connection, whose startup packet switches the default off, tells which it is.
    pub(crate) async fn is_in_recovery(&mut self, config: &Config) -> Result<bool, Error> {
        if let Some(reported) = self.parameters().get("in_hot_standby") {
            return Ok(reported == "on");
        }
        if config.replication != Replication::Physical {
            return is_on(self, "SELECT pg_catalog.pg_is_in_recovery()").await;
        }
        if !is_on(self, "SHOW transaction_read_only").await? {
            return Ok(false);
        }
        if !is_on(self, "SHOW default_transaction_read_only").await? {
            return Ok(true);
        }
        let mut config = config.clone();
        config.session_defaults.push(("default_transaction_read_only", "off".into()));
        let answer = async {
            let mut other = connect_again(&config, &self.route).await?;
            let answer = is_on(&mut other, "SHOW transaction_read_only").await?;
            other.close().await?;
            Ok::<_, Error>(answer)
        };
        // On the heap: few connections need it, and all would reserve its memory.
        match Box::pin(answer).await {
            Ok(answer) => Ok(answer),
            // All WAL senders may be in use. To take a primary for a standby delays a refusal; the other mistake would
            // end a receiver for good.
            Err(error) => {
                log::warn!("cannot tell whether the server is a standby, so it counts as one: {error}");
                Ok(true)
            }
        }
    }
}

async fn is_on(connection: &mut Connection, query: &str) -> Result<bool, Error> {
    let sets = connection.simple_query(query).await?;
    let row = sets.first().and_then(|set| set.row(0));
    let row = row.ok_or_else(|| Error::Unexpected { expected: "one row", got: "none".into() })?;
    Ok(matches!(row.text(0)?, "on" | "t"))
}
