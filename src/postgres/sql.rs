//! Every text of SQL that the classes send, by the server's version.
//!
//! All names are qualified and all values are parameters; the comment on a text says what the caller binds to
//! `$1` and `$2`. No text depends on the session's settings.

use std::format;
use std::prelude::v1::*;

use super::name_map::NameMap;
use super::privileges::{Privilege, backup_privileges, checkpoint_privileges, monitoring_privileges};
use super::replication_stats::ClientType;
use crate::types::ServerVersion;

pub(super) const IS_IN_RECOVERY: &str = "pg_catalog.pg_is_in_recovery()";
/// Of the role that the session acts as. `ALTER ROLE ... SET role` makes that another than the one that logged in, and
/// often one that cannot log in, which `pg_user` would not have.
pub(super) const IS_SUPERUSER: &str =
    "(SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = CURRENT_USER)";
pub(super) const SYSTEM_ID: &str = "(SELECT system_identifier FROM pg_catalog.pg_control_system())";
/// Servers before 11 give the size of segments in blocks.
const SEGMENT_SIZE_IN_BYTES: ServerVersion = ServerVersion::release(11);
/// From 17 on a position on the boundary of two segments belongs to the later one.
const BOUNDARY_IS_NEXT_SEGMENT: ServerVersion = ServerVersion::release(17);
const V10: ServerVersion = ServerVersion::release(10);
const V12: ServerVersion = ServerVersion::release(12);
const V13: ServerVersion = ServerVersion::release(13);
const V14: ServerVersion = ServerVersion::release(14);
const V15: ServerVersion = ServerVersion::release(15);

/// A statement that returns one row with one column, `value`.
pub(super) fn scalar(expression: &str) -> String {
    format!("SELECT {expression} AS value")
}

/// The bytes of a text as a `bytea`, as the server has them. Sent as a text they would be converted from the encoding
/// of the database, and a path would lead elsewhere, or be refused where that is impossible. `convert_to` refuses what
/// is not valid in the database's own encoding.
pub(super) fn bytes(text: &str) -> String {
    format!(r"pg_catalog.decode(pg_catalog.replace({text}, E'\\', E'\\\\'), 'escape')")
}

pub(super) fn has_monitoring_privileges(version: ServerVersion) -> String {
    has_all(&monitoring_privileges(version))
}

pub(super) fn has_backup_privileges(version: ServerVersion) -> String {
    has_all(&backup_privileges(version))
}

pub(super) fn has_checkpoint_privileges(version: ServerVersion) -> String {
    has_all(&checkpoint_privileges(version))
}

/// An expression that is true for a superuser and for a role that has all of these privileges.
fn has_all(privileges: &[Privilege]) -> String {
    let conditions: Vec<&str> = privileges.iter().map(|privilege| privilege.condition.as_str()).collect();
    match conditions.as_slice() {
        [] => IS_SUPERUSER.into(),
        conditions => format!("({IS_SUPERUSER} OR ({}))", conditions.join(" AND ")),
    }
}

/// One row with a boolean for each of these privileges, in order.
pub(super) fn each_privilege(privileges: &[Privilege]) -> String {
    let columns = privileges.iter().map(|privilege| format!("({IS_SUPERUSER} OR {})", privilege.condition));
    format!("SELECT {}", columns.collect::<Vec<_>>().join(", "))
}

/// A moment as [`PgTimestamp`](crate::types::PgTimestamp) reads it, whatever `DateStyle` and `TimeZone` are.
fn utc(moment: &str) -> String {
    format!("pg_catalog.to_char(pg_catalog.timezone('UTC', {moment}), 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')")
}

/// A call without arguments of `function`, under the name that this version uses.
fn call(version: ServerVersion, function: &'static str) -> String {
    format!("pg_catalog.{}()", NameMap::new(version).name(function))
}

/// The name of the segment that contains `position`: at the boundary of two segments the earlier one, on
/// every version.
fn walfile_name(version: ServerVersion, position: &str) -> String {
    let function = NameMap::new(version).name("pg_walfile_name");
    if version < BOUNDARY_IS_NEXT_SEGMENT {
        format!("pg_catalog.{function}({position})")
    } else {
        format!("pg_catalog.{function}({position} - 1)")
    }
}

/// `location`, `file_name`, `file_offset`, `timestamp`: where the primary writes or the standby replays.
pub(super) fn current_xlog_info(version: ServerVersion) -> String {
    let name_offset = NameMap::new(version).name("pg_walfile_name_offset");
    format!(
        "SELECT location, CASE WHEN NOT recovers THEN {file_name} END AS file_name, \
         CASE WHEN NOT recovers THEN (pg_catalog.{name_offset}(location)).file_offset END AS file_offset, \
         {timestamp} AS timestamp \
         FROM (SELECT {IS_IN_RECOVERY} AS recovers, {location} AS location OFFSET 0) AS here",
        file_name = walfile_name(version, "location"),
        timestamp = utc("pg_catalog.now()"),
        location = position(version, "pg_last_wal_replay_lsn"),
    )
}

/// The position that a primary writes at, or that the function `on_standby` returns on a standby.
fn position(version: ServerVersion, on_standby: &'static str) -> String {
    format!(
        "CASE WHEN {IS_IN_RECOVERY} THEN {} ELSE {} END",
        call(version, on_standby),
        call(version, "pg_current_wal_lsn")
    )
}

/// A number from `pg_settings`, in the setting's unit.
pub(super) fn number_setting(name: &str) -> String {
    format!("(SELECT setting FROM pg_catalog.pg_settings WHERE name = '{name}')")
}

pub(super) fn xlog_segment_size(version: ServerVersion) -> String {
    let size = format!("{}::pg_catalog.int8", number_setting("wal_segment_size"));
    if version >= SEGMENT_SIZE_IN_BYTES {
        return size;
    }
    format!("{size} * {}::pg_catalog.int8", number_setting("wal_block_size"))
}

/// The size of all tablespaces for a role that may ask for it, else NULL.
pub(super) fn current_size(version: ServerVersion) -> String {
    format!(
        "CASE WHEN {} THEN (SELECT pg_catalog.sum(pg_catalog.pg_tablespace_size(oid)) \
         FROM pg_catalog.pg_tablespace) END",
        has_backup_privileges(version)
    )
}

/// The setting named `$1` as `SHOW` prints it.
pub(super) const GET_SETTING: &str = "SELECT pg_catalog.current_setting($1::pg_catalog.text) AS value";

pub(super) const TABLESPACES: &str = "SELECT spcname AS name, oid, location FROM (SELECT spcname, oid, \
     pg_catalog.pg_tablespace_location(oid) AS location FROM pg_catalog.pg_tablespace) AS all_of_them \
     WHERE location <> '' ORDER BY oid";

/// `key` and `value`: the three files, and other files that settings come from. No row for a role that may
/// not see them.
pub(super) const CONFIGURATION_FILES: &str = "SELECT name::pg_catalog.text AS key, setting AS value \
     FROM pg_catalog.pg_settings WHERE name IN ('config_file', 'hba_file', 'ident_file') \
     UNION ALL SELECT DISTINCT 'included_files', sourcefile FROM pg_catalog.pg_settings \
     WHERE sourcefile IS NOT NULL AND sourcefile NOT IN (SELECT setting FROM pg_catalog.pg_settings WHERE name = 'config_file')";

/// The columns of `pg_stat_archiver`, and two computed ones.
pub(super) fn archiver_stats() -> String {
    // A failure to archive a history file no longer counts once segments of its timeline have been archived.
    let is_archiving = "coalesce(pg_catalog.current_setting('archive_mode') IN ('on', 'always') AND \
         (last_failed_wal IS NULL OR last_failed_time <= last_archived_time OR \
         (last_failed_wal LIKE '%.history' AND \
         pg_catalog.substr(last_failed_wal, 1, 8) <= pg_catalog.substr(last_archived_wal, 1, 8))), false)";
    format!(
        "SELECT archived_count, last_archived_wal, {} AS last_archived_time, failed_count, last_failed_wal, \
         {} AS last_failed_time, {} AS stats_reset, {is_archiving} AS is_archiving, archived_count / \
         nullif(pg_catalog.date_part('epoch', pg_catalog.now() - stats_reset), 0) \
         AS current_archived_wals_per_second FROM pg_catalog.pg_stat_archiver",
        utc("last_archived_time"),
        utc("last_failed_time"),
        utc("stats_reset"),
    )
}

/// The physical slot named `$1`.
pub(super) const REPLICATION_SLOT: &str = "SELECT slot_name, active, restart_lsn \
     FROM pg_catalog.pg_replication_slots WHERE slot_type = 'physical' \
     AND slot_name::pg_catalog.text = $1::pg_catalog.text";

/// How many bytes of WAL lie between `position` and the server's own position.
fn bytes_behind(position: &str) -> String {
    format!("own.position OPERATOR(pg_catalog.-) {position}")
}

/// The server's own position, as the only row of a table `own`: where a primary writes, or how far a standby
/// has received.
fn own_position(version: ServerVersion) -> String {
    format!("(SELECT {} AS position) AS own", position(version, "pg_last_wal_receive_lsn"))
}

/// A row for each replication slot of any kind, with the WAL that it keeps from being removed.
pub(super) fn slots(version: ServerVersion) -> String {
    let availability = if version >= V13 {
        "wal_status, safe_wal_size"
    } else {
        "NULL AS wal_status, NULL AS safe_wal_size"
    };
    format!(
        "SELECT slot_name, slot_type, plugin, database, active, active_pid, restart_lsn, confirmed_flush_lsn, \
         {availability}, {} AS retained_bytes \
         FROM pg_catalog.pg_replication_slots, {} ORDER BY slot_name",
        bytes_behind("restart_lsn"),
        own_position(version),
    )
}

/// A row for each replication client. A role without monitoring privileges gets rows of other roles' clients
/// with little more than the process.
pub(super) fn wal_senders(version: ServerVersion) -> String {
    let names = NameMap::new(version);
    let [sent, write, flush, replay] =
        ["sent_lsn", "write_lsn", "flush_lsn", "replay_lsn"].map(|key| names.name(key));
    format!(
        "SELECT pid, usename, application_name, pg_catalog.host(client_addr) AS client_addr, client_port, \
         state, sync_state, {sent} AS sent_lsn, {write} AS write_lsn, {flush} AS flush_lsn, \
         {replay} AS replay_lsn, {} AS sent_lag_bytes, {} AS flush_lag_bytes, \
         pg_catalog.date_part('epoch', pg_catalog.now() - backend_start)::pg_catalog.int8 AS age_s, \
         (SELECT slot_name FROM pg_catalog.pg_replication_slots WHERE active_pid = pid) AS slot_name \
         FROM pg_catalog.pg_stat_replication, {} ORDER BY application_name, pid",
        bytes_behind(sent),
        bytes_behind(flush),
        own_position(version),
    )
}

/// One row with the facts that decide whether a role can receive WAL from the server and take backups of it.
///
/// The attribute REPLICATION counts for the role that logs in, and so do the lines of pg_hba.conf: a WAL sender checks
/// both before it applies the role's settings. Privileges count for the role that the session acts as.
pub(super) const READINESS: &str = "SELECT pg_catalog.quote_ident(CURRENT_USER) AS role, \
     pg_catalog.quote_ident(SESSION_USER) AS login_role, \
     pg_catalog.host(pg_catalog.inet_client_addr()) AS client_addr, \
     pg_catalog.current_setting('password_encryption') AS password_encryption, \
     (SELECT rolreplication OR rolsuper FROM pg_catalog.pg_roles WHERE rolname = SESSION_USER) \
     AS may_replicate, \
     (SELECT pg_catalog.count(*) FROM pg_catalog.pg_stat_replication) AS wal_senders, \
     (SELECT pg_catalog.count(*) FROM pg_catalog.pg_replication_slots) AS slots, \
     (SELECT setting FROM pg_catalog.pg_settings WHERE name = 'wal_sender_timeout') AS wal_sender_timeout_ms, \
     pg_catalog.current_setting('archive_mode') AS archive_mode";

/// How close the slot named `$1` is to being lost (servers from 13 on).
pub(super) const SLOT_AVAILABILITY: &str = "SELECT wal_status, safe_wal_size \
     FROM pg_catalog.pg_replication_slots WHERE slot_name::pg_catalog.text = $1::pg_catalog.text";

/// `allowed`; if it is true, a row for each client, or one row of NULLs if there is no client.
pub(super) fn replication_stats(version: ServerVersion, clients: ClientType) -> String {
    let names = NameMap::new(version);
    let lsn = |key: &'static str| format!("stat.{} AS {key}", names.name(key));
    let mut columns: Vec<String> = Vec::from(
        [
            "stat.pid",
            "stat.usesysid",
            "stat.usename",
            "stat.application_name",
            "pg_catalog.host(stat.client_addr) AS client_addr",
            "stat.client_hostname",
            "stat.client_port",
        ]
        .map(str::to_string),
    );
    columns.push(format!("{} AS backend_start", utc("stat.backend_start")));
    columns.extend(["stat.backend_xmin".to_string(), "stat.state".to_string()]);
    columns.extend(["sent_lsn", "write_lsn", "flush_lsn", "replay_lsn"].map(lsn));
    if version >= V10 {
        columns.extend(["write_lag", "flush_lag", "replay_lag"].map(|lag| {
            format!("(pg_catalog.date_part('epoch', stat.{lag}) * 1000000)::pg_catalog.int8 AS {lag}")
        }));
    }
    columns.extend(["stat.sync_priority".to_string(), "stat.sync_state".to_string()]);
    if version >= V12 {
        columns.push(format!("{} AS reply_time", utc("stat.reply_time")));
    }
    let replay = names.name("replay_lsn");
    let wanted = match clients {
        ClientType::Standby => format!("stat.{replay} IS NOT NULL"),
        ClientType::WalStreamer => format!("stat.{replay} IS NULL"),
        ClientType::AnyStreamingClient => "true".to_string(),
    };
    format!(
        "SELECT may.allowed, client.* FROM (SELECT {allowed} AS allowed) AS may LEFT JOIN LATERAL \
         (SELECT {columns}, slot.slot_name, {IS_IN_RECOVERY} AS is_in_recovery, {current} AS current_lsn \
         FROM pg_catalog.pg_stat_replication AS stat LEFT JOIN pg_catalog.pg_replication_slots AS slot \
         ON slot.active_pid = stat.pid WHERE {wanted} AND (slot.slot_type IS NULL OR slot.slot_type = 'physical') \
         ) AS client ON may.allowed ORDER BY client.sync_state DESC, client.sync_priority, client.pid",
        allowed = has_monitoring_privileges(version),
        columns = columns.join(", "),
        current = position(version, "pg_last_wal_receive_lsn"),
    )
}

/// The position of a new restore point named `$1`; NULL on a standby.
pub(super) fn create_restore_point() -> String {
    scalar(&format!(
        "CASE WHEN NOT {IS_IN_RECOVERY} THEN pg_catalog.pg_create_restore_point($1::pg_catalog.text) END"
    ))
}

/// `allowed` and `recovers`. If the switch is possible, makes it and returns the names of the segments that
/// contain the insert position `before` and `after` it.
pub(super) fn switch_wal(version: ServerVersion) -> String {
    let insert = call(version, "pg_current_wal_insert_lsn");
    // The server computes a subquery with volatile functions as a whole, from left to right, before the query
    // around it.
    format!(
        "SELECT allowed, recovers, CASE WHEN switched IS NOT NULL THEN {before} END AS before, \
         CASE WHEN switched IS NOT NULL THEN {after} END AS after \
         FROM (SELECT allowed, recovers, CASE WHEN allowed AND NOT recovers THEN {insert} END AS position, \
         CASE WHEN allowed AND NOT recovers THEN {switch} END AS switched \
         FROM (SELECT {allowed} AS allowed, {IS_IN_RECOVERY} AS recovers OFFSET 0) AS may OFFSET 0) AS done",
        before = walfile_name(version, "position"),
        after = walfile_name(version, &insert),
        switch = call(version, "pg_switch_wal"),
        allowed = has_backup_privileges(version),
    )
}

/// Starts a concurrent backup with the label `$1` and, if `$2` is true, a fast checkpoint, and keeps the
/// server from ending the session for idling: `location`, `timeline`, `timestamp`, `finished`.
pub(super) fn start_concurrent_backup(version: ServerVersion) -> String {
    let function = NameMap::new(version).name("pg_backup_start");
    let exclusive = if version < V15 { ", false" } else { "" };
    let keep = if version >= V14 {
        ", (SELECT pg_catalog.set_config('idle_session_timeout', '0', false)) AS idle_session_timeout"
    } else {
        ""
    };
    format!(
        "SELECT start.location, (SELECT timeline_id FROM pg_catalog.pg_control_checkpoint()) AS timeline, \
         {} AS timestamp, {} AS finished{keep} FROM pg_catalog.{function}($1::pg_catalog.text, \
         $2::pg_catalog.bool{exclusive}) AS start (location)",
        utc("pg_catalog.now()"),
        utc("pg_catalog.clock_timestamp()"),
    )
}

/// Stops the concurrent backup: `location`, `timeline`, `backup_label`, `tablespace_map`, `timestamp`,
/// `finished`.
pub(super) fn stop_concurrent_backup(version: ServerVersion) -> String {
    stop_backup(version, if version < V15 { "false" } else { "" })
}

/// As [`stop_concurrent_backup`], without a wait for archiving; before 10 the server always waits.
pub(super) fn stop_concurrent_backup_at_once(version: ServerVersion) -> String {
    stop_backup(version, if version < V10 || version >= V15 { "false" } else { "false, false" })
}

fn stop_backup(version: ServerVersion, arguments: &str) -> String {
    let function = NameMap::new(version).name("pg_backup_stop");
    // The same as RESET, but as an expression.
    let keep = if version >= V14 {
        ", (SELECT pg_catalog.set_config('idle_session_timeout', reset_val, false) \
         FROM pg_catalog.pg_settings WHERE name = 'idle_session_timeout') AS idle_session_timeout"
    } else {
        ""
    };
    format!(
        "SELECT stop.lsn AS location, CASE WHEN {IS_IN_RECOVERY} \
         THEN (SELECT min_recovery_end_timeline FROM pg_catalog.pg_control_recovery()) \
         ELSE (SELECT timeline_id FROM pg_catalog.pg_control_checkpoint()) END AS timeline, \
         {} AS backup_label, {} AS tablespace_map, \
         {} AS timestamp, {} AS finished{keep} FROM pg_catalog.{function}({arguments}) AS stop",
        bytes("stop.labelfile"),
        bytes("stop.spcmapfile"),
        utc("pg_catalog.now()"),
        utc("pg_catalog.clock_timestamp()"),
    )
}

/// Starts an exclusive backup with the label `$1` and, if `$2` is true, a fast checkpoint.
pub(super) fn start_exclusive_backup(version: ServerVersion) -> String {
    exclusive_backup(version, "pg_catalog.pg_start_backup($1::pg_catalog.text, $2::pg_catalog.bool)")
}

/// Stops the exclusive backup.
pub(super) fn stop_exclusive_backup(version: ServerVersion) -> String {
    exclusive_backup(version, "pg_catalog.pg_stop_backup()")
}

/// `location`, `file_name`, `file_offset`, `timestamp`, `finished`.
fn exclusive_backup(version: ServerVersion, call: &str) -> String {
    let name_offset = NameMap::new(version).name("pg_walfile_name_offset");
    format!(
        "SELECT done.location, file.file_name, file.file_offset, {} AS timestamp, {} AS finished \
         FROM {call} AS done (location), pg_catalog.{name_offset}(done.location) AS file",
        utc("pg_catalog.now()"),
        utc("pg_catalog.clock_timestamp()"),
    )
}

/// One statement of a status, which returns rows of `key` and `value`, and the keys that are missing if the
/// server refuses it.
#[derive(Clone, Debug)]
pub(super) struct StatusPart {
    pub(super) keys: &'static [&'static str],
    pub(super) sql: String,
}

/// The statements of a status, which [`status`] joins with `UNION ALL`. With a slot, `$1` is the slot's name.
pub(super) fn status_parts(version: ServerVersion, with_slot: bool) -> Vec<StatusPart> {
    let mut parts = Vec::from([
        StatusPart {
            keys: &["is_superuser", "is_in_recovery", "has_backup_privileges", "has_monitoring_privileges"],
            sql: pairs(&[
                ("is_superuser", IS_SUPERUSER.into()),
                ("is_in_recovery", IS_IN_RECOVERY.into()),
                ("has_backup_privileges", has_backup_privileges(version)),
                ("has_monitoring_privileges", has_monitoring_privileges(version)),
            ]),
        },
        StatusPart {
            keys: &["current_lsn", "current_xlog"],
            sql: format!(
                "SELECT pair.key, pair.value FROM ({}) AS info, LATERAL (VALUES \
                 ('current_lsn', info.location::pg_catalog.text), ('current_xlog', info.file_name)) \
                 AS pair (key, value)",
                current_xlog_info(version)
            ),
        },
        StatusPart { keys: SHOWN_SETTINGS, sql: shown_settings(version) },
        StatusPart {
            keys: &["archive_timeout", "checkpoint_timeout", "xlog_segment_size"],
            sql: pairs(&[
                ("archive_timeout", number_setting("archive_timeout")),
                ("checkpoint_timeout", number_setting("checkpoint_timeout")),
                ("xlog_segment_size", xlog_segment_size(version)),
            ]),
        },
        StatusPart {
            keys: &["config_file", "hba_file", "ident_file", "included_files"],
            sql: CONFIGURATION_FILES.into(),
        },
        StatusPart { keys: &["current_size"], sql: pairs(&[("current_size", current_size(version))]) },
        StatusPart { keys: &["postgres_systemid"], sql: pairs(&[("postgres_systemid", SYSTEM_ID.into())]) },
    ]);
    if with_slot {
        parts.push(StatusPart {
            keys: &["replication_slot"],
            sql: format!(
                "SELECT pair.key, pair.value FROM ({REPLICATION_SLOT}) AS slot, LATERAL (VALUES \
                 ('slot_name', slot.slot_name::pg_catalog.text), ('slot_active', slot.active::pg_catalog.text), \
                 ('slot_restart_lsn', slot.restart_lsn::pg_catalog.text)) AS pair (key, value)"
            ),
        });
    }
    parts
}

const SHOWN_SETTINGS: &[&str] = &[
    "data_directory",
    "wal_level",
    "hot_standby",
    "max_wal_senders",
    "data_checksums",
    "max_replication_slots",
    "wal_compression",
    "wal_keep_segments",
    "wal_keep_size",
    "synchronous_standby_names",
];

fn shown_settings(version: ServerVersion) -> String {
    let exists = |name: &&str| match *name {
        "wal_keep_segments" => version < V13,
        "wal_keep_size" => version >= V13,
        // Only a role with backup privileges may see it.
        "data_directory" => false,
        _ => true,
    };
    let names: Vec<String> =
        SHOWN_SETTINGS.iter().copied().filter(|name| exists(name)).map(|name| format!("'{name}'")).collect();
    format!(
        "SELECT name::pg_catalog.text AS key, pg_catalog.current_setting(name) AS value \
         FROM pg_catalog.pg_settings WHERE name IN ({}) OR (name = 'data_directory' AND {})",
        names.join(", "),
        has_backup_privileges(version)
    )
}

/// Rows of `key` and `value`.
fn pairs(pairs: &[(&str, String)]) -> String {
    let pairs: Vec<String> = pairs
        .iter()
        .map(|(key, expression)| format!("('{key}'::pg_catalog.text, ({expression})::pg_catalog.text)"))
        .collect();
    format!("SELECT pair.key, pair.value FROM (VALUES {}) AS pair (key, value)", pairs.join(", "))
}

/// All parts as one statement.
pub(super) fn status(parts: &[StatusPart]) -> String {
    parts.iter().map(|part| part.sql.as_str()).collect::<Vec<_>>().join(" UNION ALL ")
}
