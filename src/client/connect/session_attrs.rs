use crate::client::connection::Connection;
use crate::client::error::Error;
use crate::conninfo::TargetSessionAttrs;
use crate::types::SqlState;

/// Why `target_session_attrs` does not want this server, in libpq's words; `None` if the server is
/// acceptable.
///
/// Servers from 14 on report both settings when a session begins; older servers need queries. A physical
/// replication connection accepts no SELECT, so there read-only transactions identify a standby.
pub(super) async fn reason_to_reject(
    connection: &mut Connection,
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
        _ => {
            let read_only = is_on(connection, "SHOW transaction_read_only").await?;
            let standby = match is_on(connection, "SELECT pg_catalog.pg_is_in_recovery()").await {
                Err(Error::Server(error)) if error.sqlstate == SqlState::FEATURE_NOT_SUPPORTED => read_only,
                answer => answer?,
            };
            (read_only, standby)
        }
    };
    Ok(match (wants_read_only, wants_standby) {
        (Some(false), _) if is_read_only => Some("session is read-only"),
        (Some(true), _) if !is_read_only => Some("session is not read-only"),
        (_, Some(false)) if is_standby => Some("server is in hot standby mode"),
        (_, Some(true)) if !is_standby => Some("server is not in hot standby mode"),
        _ => None,
    })
}

async fn is_on(connection: &mut Connection, query: &str) -> Result<bool, Error> {
    let sets = connection.simple_query(query).await?;
    let row = sets.first().and_then(|set| set.row(0));
    let row = row.ok_or_else(|| Error::Unexpected { expected: "one row", got: "none".into() })?;
    Ok(matches!(row.text(0)?, "on" | "t"))
}
