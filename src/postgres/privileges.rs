use std::format;
use std::prelude::v1::*;

use crate::types::ServerVersion;

/// A privilege: its name, the SQL that checks whether a role has it, and the SQL that grants it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Privilege {
    /// The name shown to the user: `EXECUTE on pg_switch_wal()`.
    pub name: String,
    /// The statement that grants the privilege, up to the name of the role.
    pub grant: String,
    /// An SQL expression that is true for a role that has the privilege.
    pub(super) condition: String,
}

const V10: ServerVersion = ServerVersion::release(10);
const V15: ServerVersion = ServerVersion::release(15);

/// The privileges that monitoring needs. Empty on servers before 10, where only a superuser can monitor.
#[must_use]
pub fn monitoring_privileges(version: ServerVersion) -> Vec<Privilege> {
    if version < V10 {
        return Vec::new();
    }
    let role = |name| format!("pg_catalog.pg_has_role('{name}', 'USAGE')");
    let (all, settings, stats) =
        (role("pg_monitor"), role("pg_read_all_settings"), role("pg_read_all_stats"));
    Vec::from([Privilege {
        name: "membership in pg_monitor".into(),
        grant: "GRANT pg_monitor TO".into(),
        condition: format!("({all} OR ({settings} AND {stats}))"),
    }])
}

/// The privileges that backups need: monitoring, and four functions. Empty on servers before 10, where only a
/// superuser can take backups.
#[must_use]
pub fn backup_privileges(version: ServerVersion) -> Vec<Privilege> {
    let mut privileges = monitoring_privileges(version);
    if version < V10 {
        return privileges;
    }
    // Before 15 the function that stops a backup has two signatures; either of them suffices.
    let functions: [&[&str]; 4] = if version < V15 {
        [
            &["pg_start_backup(text, boolean, boolean)"],
            &["pg_stop_backup(boolean, boolean)", "pg_stop_backup()"],
            &["pg_switch_wal()"],
            &["pg_create_restore_point(text)"],
        ]
    } else {
        [
            &["pg_backup_start(text, boolean)"],
            &["pg_backup_stop(boolean)"],
            &["pg_switch_wal()"],
            &["pg_create_restore_point(text)"],
        ]
    };
    privileges.extend(functions.map(execute_privilege));
    privileges
}

/// The privileges that `CHECKPOINT` needs. Empty on servers before 15, where only a superuser can run it.
#[must_use]
pub fn checkpoint_privileges(version: ServerVersion) -> Vec<Privilege> {
    if version < V15 {
        return Vec::new();
    }
    Vec::from([Privilege {
        name: "membership in pg_checkpoint".into(),
        grant: "GRANT pg_checkpoint TO".into(),
        condition: "pg_catalog.pg_has_role('pg_checkpoint', 'USAGE')".into(),
    }])
}

/// The privilege that a restore point needs. Empty on servers before 10, where only a superuser can make one.
#[must_use]
pub fn restore_point_privileges(version: ServerVersion) -> Vec<Privilege> {
    if version < V10 {
        return Vec::new();
    }
    Vec::from([execute_privilege(&["pg_create_restore_point(text)"])])
}

/// The privilege to execute one of these functions, of which the first is to be granted.
fn execute_privilege(functions: &[&str]) -> Privilege {
    let may_execute =
        |function: &&str| format!("pg_catalog.has_function_privilege('pg_catalog.{function}', 'EXECUTE')");
    let first = functions.first().copied().unwrap_or_default();
    Privilege {
        name: format!("EXECUTE on {first}"),
        grant: format!("GRANT EXECUTE ON FUNCTION pg_catalog.{first} TO"),
        condition: format!("({})", functions.iter().map(may_execute).collect::<Vec<_>>().join(" OR ")),
    }
}
