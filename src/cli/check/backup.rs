//! What backups need.

use super::super::low_level_backup::{archiver_progress, archives_nothing};
use super::super::postgres::grant_statements;
use super::render::Check;
use tapster::postgres::{PostgreSQLConnection, PostgresError, PostgresStatus, Privilege, Readiness};
use tapster::types::ServerVersion;

pub(super) fn checks(
    missing: &[Privilege],
    status: &PostgresStatus,
    readiness: &Readiness,
    version: ServerVersion,
    checks: &mut Vec<Check>,
) {
    let role = &readiness.role;
    if status.has_backup_privileges == Some(true) {
        checks.push(Check::ok("backup privileges", ""));
    } else if missing.is_empty() {
        let text = format!("on PostgreSQL {} only a superuser may take backups", version.major());
        checks.push(Check::failed("backup privileges", text, grant_statements(missing, true, role)));
    } else {
        let names: Vec<&str> = missing.iter().map(|privilege| privilege.name.as_str()).collect();
        let hints = grant_statements(missing, false, role);
        let text = format!("missing: {}", names.join("; "));
        checks.push(Check::failed("backup privileges", text, hints));
    }
    checks.push(match (readiness.archive_mode.as_str(), status.is_in_recovery) {
        ("off", _) => Check::ok("archive_mode", "off: the backup's WAL has to be received"),
        ("on", Some(true)) => Check::ok(
            "archive_mode",
            "on: a standby archives nothing then; the backup's WAL has to be received",
        ),
        (mode, _) => Check::ok("archive_mode", format!("{mode}: the end of a backup waits for it")),
    });
}

/// Whether the server archives what the end of a backup waits for; `None` if it waits for nothing.
pub(super) async fn archiving(
    postgres: &PostgreSQLConnection,
    status: &PostgresStatus,
    readiness: &Readiness,
) -> Result<Option<Check>, PostgresError> {
    match (readiness.archive_mode.as_str(), status.is_in_recovery) {
        ("off", _) | ("on", Some(true)) => return Ok(None),
        _ => {}
    }
    let instead =
        "until then low-level-backup waits for ever, unless --wal-archive names a receiver's archive";
    if archives_nothing(postgres).await {
        let text = "archive_command is empty: nothing is archived";
        let hint = "set archive_command and reload the server: WAL piles up in its pg_wal";
        return Ok(Some(Check::failed("archiving", text, [hint, instead])));
    }
    let stats = postgres.get_archiver_stats().await?;
    if stats.is_archiving {
        return Ok(Some(Check::ok("archiving", archiver_progress(&stats))));
    }
    let hint = "look at archive_command and at the server's log: WAL piles up in its pg_wal";
    Ok(Some(Check::failed("archiving", archiver_progress(&stats), [hint, instead])))
}

pub(super) fn checkpoint(missing: &[Privilege], readiness: &Readiness) -> Option<Check> {
    let privilege = missing.first()?;
    let text = format!("missing: {}, for the command checkpoint", privilege.name);
    Some(Check::warning("checkpoint", text, grant_statements(missing, false, &readiness.role)))
}
