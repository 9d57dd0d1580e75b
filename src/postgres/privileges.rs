use std::format;
use std::prelude::v1::*;

use crate::types::ServerVersion;

/// One thing that a role needs, how to find out whether it has it, and how to give it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Privilege {
    /// What the role lacks, for people: `EXECUTE on pg_switch_wal()`.
    pub name: String,
    /// The statement that gives it, up to the name of the role.
    pub grant: String,
    /// An SQL expression that is true for a role that has the privilege.
    pub(super) condition: String,
}

const V10: ServerVersion = ServerVersion::release(10);
const V15: ServerVersion = ServerVersion::release(15);

/// What monitoring needs. Empty on servers before 10, where only a superuser can do it.
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

/// What taking backups needs: monitoring, and four functions. Empty on servers before 10, where only a
/// superuser can do it.
#[must_use]
pub fn backup_privileges(version: ServerVersion) -> Vec<Privilege> {
    let mut privileges = monitoring_privileges(version);
    if version < V10 {
        return privileges;
    }
    // The signatures that stop a backup are two before 15, and either will do.
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
    privileges.extend(functions.map(execute));
    privileges
}

/// What `CHECKPOINT` needs. Empty on servers before 15, where only a superuser can do it.
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

/// EXECUTE on one of these functions; the first is the one to grant.
fn execute(functions: &[&str]) -> Privilege {
    let may =
        |function: &&str| format!("pg_catalog.has_function_privilege('pg_catalog.{function}', 'EXECUTE')");
    let first = functions.first().copied().unwrap_or_default();
    Privilege {
        name: format!("EXECUTE on {first}"),
        grant: format!("GRANT EXECUTE ON FUNCTION pg_catalog.{first} TO"),
        condition: format!("({})", functions.iter().map(may).collect::<Vec<_>>().join(" OR ")),
    }
}
