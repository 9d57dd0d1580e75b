//! Commands that make the server do one thing: switch WAL, write a checkpoint or a restore point.

use core::time::Duration;

use serde_json::json;

use super::connection::{ConnectionArgs, ServerArgs, TimeoutArgs};
use super::failure::Failure;
use super::{output, usage};
use tapster::postgres::{
    PostgreSQL as _, PostgreSQLConnection, PostgresError, backup_privileges, checkpoint_privileges,
    restore_point_privileges,
};

#[derive(Debug, clap::Args)]
pub(super) struct SwitchWalArgs {
    #[command(flatten)]
    server: ServerArgs,
    /// Wait until the server has archived the segment, for --timeout at most
    #[arg(long)]
    wait: bool,
    /// Print a JSON document
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct CheckpointArgs {
    #[command(flatten)]
    server: ServerArgs,
    /// Print a JSON document
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct RestorePointArgs {
    /// The connection, which may be left out, and the restore point's name
    #[arg(value_name = "[CONN] NAME", num_args = 1..=2, required = true)]
    conn_and_name: Vec<String>,
    #[command(flatten)]
    connection: ConnectionArgs,
    #[command(flatten)]
    timeout: TimeoutArgs,
    /// Print a JSON document
    #[arg(long)]
    pub(super) json: bool,
}

pub(super) async fn switch_wal(args: SwitchWalArgs) -> Result<(), Failure> {
    let target = args.server.target()?.connect_postgres(None).await?;
    let postgres = &target.postgres;
    let archived_before = if args.wait { Some(target.ask(archived(postgres)).await?) } else { None };
    let segment = target.ask_with(backup_privileges, postgres.switch_wal()).await?;
    if let (Some(segment), Some(before)) = (&segment, archived_before) {
        // Without a limit a year is as good as for ever.
        let limit = args.server.timeout.limit().unwrap_or(Duration::from_secs(365 * 86_400));
        let waited = tokio::time::timeout(limit, wait_for_archive(postgres, segment, before)).await;
        let waited = waited.map_err(|_| {
            Failure::other(format!("{segment} is finished, but was not archived within {limit:?}"))
        });
        target.ask(async { Ok::<_, Failure>(waited??) }).await?;
    }
    postgres.close().await;
    if args.json {
        let archived = args.wait && segment.is_some();
        let document = json!({
            "schema": "tapster.switch-wal/1", "ok": true, "server": target.about.to_json(), "switched": segment.is_some(), "segment": segment, "archived": archived,
        });
        output::print_json(&document)?;
        return Ok(());
    }
    match segment {
        Some(segment) => output::print(&segment),
        None => {
            output::note("nothing was written to the current segment, so there is nothing to switch");
            Ok(())
        }
    }
}

/// The archiver's last file, for a server that archives.
async fn archived(postgres: &PostgreSQLConnection) -> Result<Option<String>, Failure> {
    if postgres.get_setting("archive_mode").await? == "off" {
        return Err(Failure::usage("--wait: the server does not archive (archive_mode is off)"));
    }
    Ok(postgres.get_archiver_stats().await?.last_archived_wal)
}

/// Segments of one timeline are archived in order, so a later file proves that this one was archived.
async fn wait_for_archive(
    postgres: &PostgreSQLConnection,
    segment: &str,
    before: Option<String>,
) -> Result<(), PostgresError> {
    let mut last = before;
    while last.as_deref().is_none_or(|last| last.get(..24).unwrap_or(last) < segment) {
        tokio::time::sleep(Duration::from_millis(200)).await;
        last = postgres.get_archiver_stats().await?.last_archived_wal;
    }
    Ok(())
}

pub(super) async fn checkpoint(args: CheckpointArgs) -> Result<(), Failure> {
    let target = args.server.target()?.connect_postgres(None).await?;
    target.ask_with(checkpoint_privileges, target.postgres.checkpoint()).await?;
    target.postgres.close().await;
    if args.json {
        output::print_json(
            &json!({ "schema": "tapster.checkpoint/1", "ok": true, "server": target.about.to_json() }),
        )?;
    } else {
        output::print("checkpoint done")?;
    }
    Ok(())
}

pub(super) async fn restore_point(args: RestorePointArgs) -> Result<(), Failure> {
    let (conn, name) = match args.conn_and_name.as_slice() {
        [conn, name] => (Some(conn.as_str()), name),
        [name] => (None, name),
        _ => return Err(Failure::usage("give the restore point's name")),
    };
    let name = usage::name("restore point", name)?;
    let target = args.connection.target(conn)?.within(args.timeout).connect_postgres(None).await?;
    let point = target.postgres.create_restore_point(name);
    let position = target.ask_with(restore_point_privileges, point).await?;
    target.postgres.close().await;
    if args.json {
        output::print_json(&json!({
            "schema": "tapster.restore-point/1", "ok": true, "server": target.about.to_json(), "name": name,
            "restore_point_lsn": position.to_string(),
        }))?;
    } else {
        output::print(&position.to_string())?;
    }
    Ok(())
}
