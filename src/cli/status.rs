use serde_json::{Value, json};

use super::about::About;
use super::connection::ServerArgs;
use super::failure::Failure;
use super::rows::{self, or_dash};
use super::{check, members, output};
use tapster::client::ServerName;
use tapster::postgres::{
    Overview, PostgreSQL as _, PostgreSQLConnection, PostgresError, StreamingConnection, StreamingStatus,
};

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
    // None until the servers were asked.
    let mut streaming_status = None;
    let asked = target.with_password(async |target| {
        let (postgres, streaming) = target.unconnected(args.slot.as_deref())?;
        // Both connections at once take no longer than one.
        let (asked, status) = tokio::join!(ask(&postgres), streaming.fetch_remote_status());
        let own = own_process(&streaming, &status).await;
        streaming_status = Some(status);
        postgres.close().await;
        streaming.close().await;
        let mut answer = asked?;
        answer.overview.wal_senders.retain(|client| Some(client.pid) != own);
        Ok(answer)
    });
    let (postgres, streaming) = match (asked.await, streaming_status) {
        (Ok(answer), streaming) => (answer, streaming.unwrap_or_default()),
        (Err(failure), Some(streaming)) => {
            return Err(unreachable(failure, target.about(), &streaming, args.json));
        }
        (Err(failure), None) => return Err(failure),
    };
    if args.json {
        let overview = &postgres.overview;
        output::print_json(&json!({
            "schema": "tapster.status/1",
            "ok": true,
            "server": server_json(&postgres, &streaming),
            "postgres": members::postgres_status(&overview.status),
            "streaming": members::streaming_status(&streaming),
            "wal_senders": overview.wal_senders.iter().map(rows::wal_sender).collect::<Value>(),
            "slots": overview.slots.iter().map(rows::slot).collect::<Value>(),
        }))?;
    } else {
        print(&postgres, &streaming)?;
    }
    Ok(())
}

/// The process of the WAL sender that serves this command's own replication connection, which is not listed.
async fn own_process(streaming: &StreamingConnection, status: &StreamingStatus) -> Option<i32> {
    status.streaming?;
    let mut connection = streaming.connect().await.ok()?;
    Some(connection.connection().cancel_key()?.process_id)
}

/// With `--json`, prints the failure as a status document.
fn unreachable(failure: Failure, about: About, streaming: &StreamingStatus, json: bool) -> Failure {
    if !json {
        return failure;
    }
    let error = failure.to_json();
    let postgres = members::unreachable_status(error["message"].as_str().unwrap_or_default());
    let told = output::print_json(&json!({
        "schema": "tapster.status/1",
        "ok": false,
        "server": check::Server { about, ..check::Server::default() }.to_json(),
        "error": error,
        "postgres": postgres,
        "streaming": members::streaming_status(streaming),
    }));
    told.err().unwrap_or_else(|| failure.already_reported())
}

/// What the ordinary connection gave.
struct Answer {
    name: ServerName,
    about: About,
    overview: Overview,
}

async fn ask(postgres: &PostgreSQLConnection) -> Result<Answer, PostgresError> {
    let (name, about) = {
        let connection = postgres.connect().await?;
        (connection.server().clone(), About::connected(&connection))
    };
    Ok(Answer { name, about, overview: postgres.fetch_overview().await? })
}

/// The `server` of the document, with the same members as that of `check`.
fn server_json(answer: &Answer, streaming: &StreamingStatus) -> Value {
    let status = &answer.overview.status;
    let about = About { system_id: status.postgres_systemid, ..answer.about.clone() };
    check::Server { about, in_recovery: status.is_in_recovery, timeline: streaming.timeline }.to_json()
}

fn print(answer: &Answer, streaming: &StreamingStatus) -> Result<(), Failure> {
    let Overview { status, wal_senders, slots, .. } = &answer.overview;
    let role = match status.is_in_recovery {
        Some(true) => "standby",
        Some(false) => "primary",
        None => "role unknown",
    };
    output::print(&format!(
        "{}: PostgreSQL {}, {role}, system {}, timeline {}, at {}",
        answer.name,
        or_dash(status.server_txt_version.as_deref()),
        or_dash(status.postgres_systemid),
        or_dash(streaming.timeline),
        or_dash(status.current_lsn),
    ))?;
    for (key, error) in &status.errors {
        output::print(&format!("{key}: not known: {}", error.message))?;
    }
    match (&streaming.connection_error, streaming.xlogpos) {
        (Some(error), _) => output::print(&format!("replication connections: no: {}", error.message)),
        (None, Some(position)) => {
            output::print(&format!("replication connections: ok, flushed to {position}"))
        }
        (None, None) => output::print("replication connections: no: what answers is no WAL sender"),
    }?;
    if wal_senders.is_empty() {
        output::print("no replication clients")?;
    } else {
        rows::print_wal_senders(wal_senders)?;
    }
    if slots.is_empty() {
        output::print("no replication slots")?;
    } else {
        rows::print_slots(slots)?;
    }
    Ok(())
}
