use serde_json::{Value, json};

use super::connection::ServerArgs;
use super::failure::Failure;
use super::slot::{lsn_difference, own_position, print_slots, read_slots, slots_query};
use super::{members, output};
use tapster::Error;
use tapster::client::{ColumnError, ResultSet, Row};
use tapster::postgres::{
    NameMap, PostgreSQL as _, PostgreSQLConnection, PostgresError, PostgresStatus, StreamingConnection,
    StreamingStatus,
};
use tapster::types::ServerVersion;

pub(super) const AFTER_HELP: &str = after_help!(
    "  tapster status postgresql://barman@db1/postgres
  tapster status service=db1 --json"
);

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    server: ServerArgs,
    /// The physical slot to look at
    #[arg(short = 'S', long, value_name = "NAME", env = "TAPSTER_SLOT")]
    slot: Option<String>,
    /// Print a JSON document
    #[arg(long)]
    pub(super) json: bool,
}

pub(super) async fn run(args: Args) -> Result<(), Failure> {
    let mut target = args.server.target()?;
    let (postgres, streaming) = loop {
        let (postgres, streaming) = target.objects(args.slot.as_deref())?;
        // Both at once: together they take no longer than one.
        let (asked, streaming_status) = tokio::join!(ask(&postgres), streaming.fetch_remote_status());
        let own = own_process(&streaming, &streaming_status).await;
        postgres.close().await;
        streaming.close().await;
        match asked {
            Ok(mut answer) => {
                answer.walsenders.retain(|client| own.is_none() || client["pid"].as_i64() != own);
                break (answer, streaming_status);
            }
            Err(PostgresError::Connection(error)) if target.can_mend(&error) => target.prompt()?,
            Err(error) => return Err(unreachable(error.into(), &streaming_status, args.json)),
        }
    };
    if args.json {
        output::print_json(&json!({
            "schema": "tapster.status/1",
            "ok": true,
            "server": postgres.server,
            "version_num": postgres.version.num(),
            "postgres": members::postgres_status(&postgres.status),
            "streaming": members::streaming_status(&streaming),
            "walsenders": postgres.walsenders,
            "slots": postgres.slots,
        }));
    } else {
        print(&postgres, &streaming);
    }
    Ok(())
}

/// The process of our own replication connection, which is no client to be told of.
async fn own_process(streaming: &StreamingConnection, status: &StreamingStatus) -> Option<i64> {
    status.streaming?;
    let mut link = streaming.connect().await.ok()?;
    Some(i64::from(link.connection().cancel_key()?.process_id))
}

/// Tells the failure in a document of the usual form.
fn unreachable(failure: Failure, streaming: &StreamingStatus, json: bool) -> Failure {
    if !json {
        return failure;
    }
    let error = failure.to_json();
    let postgres = members::unreachable_status(error["message"].as_str().unwrap_or_default());
    output::print_json(&json!({
        "schema": "tapster.status/1",
        "ok": false,
        "error": error,
        "postgres": postgres,
        "streaming": members::streaming_status(streaming),
    }));
    failure.already_told()
}

/// What the ordinary connection tells.
struct Answer {
    server: String,
    version: ServerVersion,
    status: PostgresStatus,
    walsenders: Vec<Value>,
    slots: Vec<Value>,
}

async fn ask(postgres: &PostgreSQLConnection) -> Result<Answer, PostgresError> {
    let (server, version) = {
        let connection = postgres.connect().await?;
        let version = connection.server_version().map_err(PostgresError::Connection)?;
        (connection.server().to_string(), version)
    };
    let walsenders_sql = walsenders_query(version);
    let (status, results) =
        postgres.fetch_remote_status_with(&[&walsenders_sql, &slots_query(version)]).await;
    let mut results = results.into_iter();
    let mut next = || results.next().unwrap_or(Err(Error::Closed)).map_err(PostgresError::Connection);
    let walsenders = next().and_then(|set| read_walsenders(&set).map_err(PostgresError::Connection))?;
    let slots = next().and_then(|set| read_slots(&set).map_err(PostgresError::Connection))?;
    Ok(Answer { server, version, status, walsenders, slots })
}

/// A role that may not see what others do gets rows with little more than a process in them.
fn walsenders_query(version: ServerVersion) -> String {
    let names = NameMap::new(version);
    let name = |key: &'static str| names.get(key).unwrap_or(key);
    let (sent, write, flush, replay) =
        (name("sent_lsn"), name("write_lsn"), name("flush_lsn"), name("replay_lsn"));
    let difference = lsn_difference(version);
    format!(
        "SELECT pid, usename, application_name, pg_catalog.host(client_addr) AS client_addr, client_port, \
         state, sync_state, {sent} AS sent_lsn, {write} AS write_lsn, {flush} AS flush_lsn, \
         {replay} AS replay_lsn, {difference}(position, {sent}) AS sent_lag_bytes, \
         {difference}(position, {flush}) AS flush_lag_bytes, \
         pg_catalog.date_part('epoch', pg_catalog.now() - backend_start)::pg_catalog.int8 AS age_s, \
         (SELECT slot_name FROM pg_catalog.pg_replication_slots WHERE active_pid = pid) AS slot_name \
         FROM pg_catalog.pg_stat_replication, (SELECT {} AS position) AS here \
         ORDER BY application_name, pid",
        own_position(version)
    )
}

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

fn print(answer: &Answer, streaming: &StreamingStatus) {
    let text = |value: &Value| value.as_str().unwrap_or("-").to_string();
    let status = &answer.status;
    let role = match status.is_in_recovery {
        Some(true) => "standby",
        Some(false) => "primary",
        None => "role unknown",
    };
    let or_dash = |value: Option<String>| value.unwrap_or_else(|| "-".into());
    output::print(&format!(
        "{}: PostgreSQL {}, {role}, system {}, timeline {}, at {}",
        answer.server,
        or_dash(status.server_txt_version.clone()),
        or_dash(status.postgres_systemid.map(|id| id.to_string())),
        or_dash(streaming.timeline.map(|timeline| timeline.to_string())),
        or_dash(status.current_lsn.map(|lsn| lsn.to_string())),
    ));
    for (key, error) in &status.errors {
        output::print(&format!("{key}: not known: {}", error.message));
    }
    match (&streaming.connection_error, streaming.xlogpos) {
        (Some(error), _) => output::print(&format!("replication connections: no: {}", error.message)),
        (None, Some(position)) => {
            output::print(&format!("replication connections: ok, flushed to {position}"));
        }
        (None, None) => output::print("replication connections: no: what answers is no WAL sender"),
    }
    if answer.walsenders.is_empty() {
        output::print("no replication clients");
    } else {
        let lag = |value: &Value| {
            let bytes = value.as_i64().map(|bytes| u64::try_from(bytes).unwrap_or_default());
            bytes.map_or_else(|| "-".to_string(), output::bytes)
        };
        let headings =
            ["CLIENT", "user", "address", "state", "sync", "sent lag", "flush lag", "slot", "since"];
        let mut rows = Vec::from([headings.map(String::from).to_vec()]);
        rows.extend(answer.walsenders.iter().map(|client| {
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
    if answer.slots.is_empty() {
        output::print("no replication slots");
    } else {
        print_slots(&answer.slots);
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
