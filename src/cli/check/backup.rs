//! What backups need.

use super::super::postgres::grant_statements;
use super::render::Check;
use tapster::postgres::{PostgresStatus, Privilege, Readiness};
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
    match readiness.archive_mode.as_str() {
        "off" => checks.push(Check::ok("archive_mode", "off: the backup's WAL has to be received")),
        mode => checks.push(Check::ok("archive_mode", format!("{mode}: the end of a backup waits for it"))),
    }
}

pub(super) fn checkpoint(missing: &[Privilege], readiness: &Readiness) -> Option<Check> {
    let privilege = missing.first()?;
    let text = format!("missing: {}, for the command checkpoint", privilege.name);
    Some(Check::warning("checkpoint", text, grant_statements(missing, false, &readiness.role)))
}
