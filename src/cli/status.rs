use serde_json::{Value, json};

use super::connection::{ConnectionArgs, Target};
use super::failure::Failure;
use super::slot::{print_slots, read_slots, slots_query};
use super::{EXIT_CODES, output};
use tapster::Error;
use tapster::client::{ColumnError, ResultSet, Row};

pub(super) const AFTER_HELP: &str = EXIT_CODES;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A connection URI, a key=value string, or a database's name
    conn: Option<String>,
    #[command(flatten)]
    connection: ConnectionArgs,
    /// Print a JSON document
    #[arg(long)]
    pub(super) json: bool,
}

pub(super) async fn run(args: Args) -> Result<(), Failure> {
    let mut target = args.connection.target(args.conn.as_deref())?;
    let postgres = postgres(&mut target).await?;
    let streaming = streaming(&mut target).await;
    if args.json {
        let mut document = postgres.document;
        document["streaming"] = streaming;
        output::print_json(&document);
    } else {
        print(&postgres, &streaming);
    }
    Ok(())
}

/// What the ordinary connection tells.
struct Postgres {
    name: String,
    document: Value,
}

async fn postgres(target: &mut Target) -> Result<Postgres, Failure> {
    let mut connection = target.connect().await?;
    let version = connection.server_version()?;
    let name = connection.server().to_string();
    // One round trip, and one transaction: the parts belong to the same moment.
    let sql = format!("{SERVER_QUERY}; {WALSENDERS_QUERY}; {}", slots_query(version));
    let sets = connection.simple_query(&sql).await?;
    connection.close().await?;
    let [server, walsenders, slots] = sets.as_slice() else {
        return Err(Failure::other("the server gave another number of results than it was asked for"));
    };
    let row = server.row(0).ok_or_else(|| Failure::other("the server told nothing about itself"))?;
    let postgres = json!({
        "server_txt_version": version.to_string(),
        "server_version": version.num(),
        "is_in_recovery": flag(row, "is_in_recovery").map_err(Error::from)?,
        "postgres_systemid": row.text("system_identifier").map_err(Error::from)?,
        "timeline": row.parse::<i64>("timeline").map_err(Error::from)?,
        "current_lsn": row.optional_text("current_lsn").map_err(Error::from)?,
    });
    let document = json!({
        "schema": "tapster.status/1",
        "ok": true,
        "server": name,
        "postgres": postgres,
        "walsenders": read_walsenders(walsenders)?,
        "slots": read_slots(slots)?,
    });
    Ok(Postgres { name, document })
}

/// What the replication connection tells, or why there is none: that is part of the status, not a failure.
async fn streaming(target: &mut Target) -> Value {
    let told = async {
        let mut connection = target.connect_replication().await?;
        let system = connection.identify_system().await?;
        connection.close().await?;
        Ok::<_, Failure>(system)
    };
    match told.await {
        Ok(system) => json!({
            "connection_error": null,
            "streaming_supported": true,
            "streaming": true,
            "streaming_systemid": system.system_id.to_string(),
            "timeline": system.timeline.get(),
            "xlogpos": system.xlog_pos.to_string(),
        }),
        Err(failure) => json!({
            "connection_error": failure.to_json()["message"],
            "streaming_supported": null,
            "streaming": null,
            "streaming_systemid": null,
            "timeline": null,
            "xlogpos": null,
        }),
    }
}

const SERVER_QUERY: &str = "SELECT pg_catalog.pg_is_in_recovery() AS is_in_recovery, \
     (SELECT system_identifier FROM pg_catalog.pg_control_system()) AS system_identifier, \
     CASE WHEN pg_catalog.pg_is_in_recovery() \
     THEN (SELECT min_recovery_end_timeline FROM pg_catalog.pg_control_recovery()) \
     ELSE (SELECT timeline_id FROM pg_catalog.pg_control_checkpoint()) END AS timeline, \
     CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_replay_lsn() \
     ELSE pg_catalog.pg_current_wal_lsn() END AS current_lsn";

/// A role that may not see what others do gets rows with little more than a process in them.
const WALSENDERS_QUERY: &str = "SELECT pid, usename, application_name, pg_catalog.host(client_addr) \
     AS client_addr, client_port, state, sync_state, sent_lsn, write_lsn, flush_lsn, replay_lsn, \
     pg_catalog.pg_wal_lsn_diff(position, sent_lsn) AS sent_lag_bytes, \
     pg_catalog.pg_wal_lsn_diff(position, flush_lsn) AS flush_lag_bytes, \
     pg_catalog.date_part('epoch', pg_catalog.now() - backend_start)::bigint AS age_s, \
     (SELECT slot_name FROM pg_catalog.pg_replication_slots WHERE active_pid = pid) AS slot_name \
     FROM pg_catalog.pg_stat_replication, (SELECT CASE WHEN pg_catalog.pg_is_in_recovery() \
     THEN pg_catalog.pg_last_wal_receive_lsn() ELSE pg_catalog.pg_current_wal_lsn() END AS position) AS here \
     ORDER BY application_name, pid";

fn read_walsenders(set: &ResultSet) -> Result<Vec<Value>, Error> {
    set.rows().map(|row| Ok(walsender(row)?)).collect()
}

fn walsender(row: Row<'_>) -> Result<Value, ColumnError> {
    Ok(json!({
        "pid": row.parse::<i64>("pid")?,
        "usename": row.optional_text("usename")?,
        "application_name": row.optional_text("application_name")?,
        "client_addr": row.optional_text("client_addr")?,
        "client_port": row.optional::<i64>("client_port")?,
        "state": row.optional_text("state")?,
        "sync_state": row.optional_text("sync_state")?,
        "sent_lsn": row.optional_text("sent_lsn")?,
        "write_lsn": row.optional_text("write_lsn")?,
        "flush_lsn": row.optional_text("flush_lsn")?,
        "replay_lsn": row.optional_text("replay_lsn")?,
        "sent_lag_bytes": row.optional::<i64>("sent_lag_bytes")?,
        "flush_lag_bytes": row.optional::<i64>("flush_lag_bytes")?,
        "age_s": row.optional::<i64>("age_s")?,
        "slot_name": row.optional_text("slot_name")?,
    }))
}

fn flag(row: Row<'_>, column: &str) -> Result<bool, ColumnError> {
    row.text(column).map(|text| text == "t")
}

fn print(status: &Postgres, streaming: &Value) {
    let document = &status.document;
    let postgres = &document["postgres"];
    let text = |value: &Value| value.as_str().unwrap_or("-").to_string();
    let role = if postgres["is_in_recovery"] == true { "standby" } else { "primary" };
    output::print(&format!(
        "{}: PostgreSQL {}, {role}, system {}, timeline {}, at {}",
        status.name,
        text(&postgres["server_txt_version"]),
        text(&postgres["postgres_systemid"]),
        postgres["timeline"],
        text(&postgres["current_lsn"]),
    ));
    match streaming["connection_error"].as_str() {
        Some(error) => output::print(&format!("replication connections: no: {error}")),
        None => {
            output::print(&format!("replication connections: ok, flushed to {}", text(&streaming["xlogpos"])))
        }
    }
    let none = Vec::new();
    let walsenders = document["walsenders"].as_array().unwrap_or(&none);
    if walsenders.is_empty() {
        output::print("no replication clients");
    } else {
        let lag = |value: &Value| {
            let bytes = value.as_i64().map(|bytes| u64::try_from(bytes).unwrap_or_default());
            bytes.map_or_else(|| "-".to_string(), output::bytes)
        };
        let headings =
            ["CLIENT", "user", "address", "state", "sync", "sent lag", "flush lag", "slot", "since"];
        let mut rows = Vec::from([headings.map(String::from).to_vec()]);
        rows.extend(walsenders.iter().map(|client| {
            Vec::from([
                text(&client["application_name"]),
                text(&client["usename"]),
                text(&client["client_addr"]),
                text(&client["state"]),
                text(&client["sync_state"]),
                lag(&client["sent_lag_bytes"]),
                lag(&client["flush_lag_bytes"]),
                text(&client["slot_name"]),
                client["age_s"].as_i64().map_or_else(|| "-".to_string(), age),
            ])
        }));
        output::print_table(&rows);
    }
    let slots = document["slots"].as_array().unwrap_or(&none);
    if slots.is_empty() {
        output::print("no replication slots");
    } else {
        print_slots(slots);
    }
}

/// Seconds as people read them, in the two largest units.
fn age(seconds: i64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {} s", seconds % 60),
        (0, _, _) => format!("{hours} h {} min", minutes % 60),
        _ => format!("{days} d {} h", hours % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_has_its_two_largest_units() {
        let texts = [0, 59, 60, 3599, 3600, 86_399, 86_400, 9 * 86_400 + 3600].map(age);
        let expected =
            ["0 s", "59 s", "1 min 0 s", "59 min 59 s", "1 h 0 min", "23 h 59 min", "1 d 0 h", "9 d 1 h"];
        assert_eq!(texts, expected);
    }
}
