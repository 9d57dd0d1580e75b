//! Every read-only member of the classes by its name, as a JSON value with Barman's keys and texts.

use core::time::Duration;

use serde_json::{Map, Value, json};

use super::postgres::Postgres;
use tapster::postgres::{
    ArchiverStats, ClientType, ConfigurationFiles, PostgreSQL as _, PostgresError, PostgresStatus,
    ReplicationSlot, ReplicationStats, StatusError, StreamingStatus, XlogInfo,
};
use tapster::types::{PgTimestamp, ServerVersion};

/// What `show --all` shows, in this order.
pub(super) const MEMBERS: &[&str] = &[
    "server_version",
    "server_txt_version",
    "server_major_version",
    "minimal_txt_version",
    "is_minimal_postgres_version",
    "name_map",
    "has_connection",
    "is_in_recovery",
    "is_superuser",
    "has_backup_privileges",
    "has_checkpoint_privileges",
    "has_monitoring_privileges",
    "current_xlog_info",
    "current_xlog_file_name",
    "current_xlog_location",
    "xlog_segment_size",
    "archive_timeout",
    "checkpoint_timeout",
    "current_size",
    "get_systemid",
    "get_tablespaces",
    "get_configuration_files",
    "get_archiver_stats",
    "get_replication_slot",
    "get_replication_stats",
    "get_synchronous_standby_names",
    "fetch_remote_status",
    "streaming.fetch_remote_status",
];

/// The value of a member; `None` if there is no such member.
pub(super) async fn value(target: &Postgres, member: &str) -> Option<Result<Value, PostgresError>> {
    if let Some(setting) = member.strip_prefix("get_setting:") {
        return Some(target.postgres.get_setting(setting).await.map(Value::from));
    }
    let is_member = MEMBERS.contains(&member);
    if is_member { Some(read(target, member).await) } else { None }
}

async fn read(target: &Postgres, member: &str) -> Result<Value, PostgresError> {
    let postgres = &target.postgres;
    Ok(match member {
        "server_version" => postgres.server_version().await?.num().into(),
        "server_txt_version" => postgres.server_txt_version().await?.into(),
        "server_major_version" => postgres.server_major_version().await?.into(),
        "minimal_txt_version" => postgres.minimal_txt_version().into(),
        "is_minimal_postgres_version" => postgres.is_minimal_postgres_version().await?.into(),
        "name_map" => {
            let pairs = postgres.name_map().await;
            pairs.iter().map(|(key, name)| (key.to_string(), Value::from(name))).collect()
        }
        "has_connection" => postgres.has_connection().await.into(),
        "is_in_recovery" => postgres.is_in_recovery().await?.into(),
        "is_superuser" => postgres.is_superuser().await?.into(),
        "has_backup_privileges" => postgres.has_backup_privileges().await?.into(),
        "has_checkpoint_privileges" => postgres.has_checkpoint_privileges().await?.into(),
        "has_monitoring_privileges" => postgres.has_monitoring_privileges().await?.into(),
        "current_xlog_info" => xlog_info(&postgres.current_xlog_info().await?),
        "current_xlog_file_name" => postgres.current_xlog_file_name().await?.into(),
        "current_xlog_location" => text(postgres.current_xlog_location().await?),
        "xlog_segment_size" => postgres.xlog_segment_size().await?.into(),
        "archive_timeout" => postgres.archive_timeout().await?.into(),
        "checkpoint_timeout" => postgres.checkpoint_timeout().await?.into(),
        "current_size" => postgres.current_size().await?.into(),
        "get_systemid" => postgres.get_systemid().await?.to_string().into(),
        "get_tablespaces" => {
            let tablespaces = postgres.get_tablespaces().await?;
            let value = |t: &tapster::postgres::Tablespace| json!({ "name": t.name, "oid": t.oid, "location": t.location });
            tablespaces.iter().map(value).collect()
        }
        "get_configuration_files" => configuration_files(&postgres.get_configuration_files().await?).into(),
        "get_archiver_stats" => archiver_stats(&postgres.get_archiver_stats().await?),
        "get_replication_slot" => match postgres.slot_name() {
            Some(name) => postgres.get_replication_slot(name).await?.as_ref().map(slot).into(),
            None => Value::Null,
        },
        "get_replication_stats" => {
            let clients = postgres.get_replication_stats(ClientType::AnyStreamingClient).await?;
            let version = postgres.server_version().await?;
            clients.iter().map(|client| replication_stats(client, version)).collect()
        }
        "get_synchronous_standby_names" => postgres.get_synchronous_standby_names().await?.into(),
        "fetch_remote_status" => postgres_status(&postgres.fetch_remote_status().await),
        // The last of the list; `value` lets no other name in.
        _ => streaming_status(&target.streaming.fetch_remote_status().await),
    })
}

/// What is there even when nothing else is.
fn least_status(status: &PostgresStatus) -> Value {
    json!({
        "connection_error": status.connection_error.as_ref().map(|error| error.message.as_str()),
        "data_directory": status.data_directory,
        "server_txt_version": status.server_txt_version,
        "is_superuser": status.is_superuser,
        "is_in_recovery": status.is_in_recovery,
        "current_xlog": status.current_xlog,
        "replication_slot_support": status.replication_slot_support,
        "replication_slot": status.replication_slot.as_ref().map(slot),
        "synchronous_standby_names": status.synchronous_standby_names,
        "postgres_systemid": text(status.postgres_systemid),
        "version_supported": status.version_supported,
    })
}

/// The status of a server that cannot be reached, for this reason.
pub(super) fn unreachable_status(message: &str) -> Value {
    let mut value = least_status(&PostgresStatus::default());
    value["connection_error"] = message.lines().next().into();
    value
}

/// The status with Barman's keys, and beside them why values are missing.
pub(super) fn postgres_status(status: &PostgresStatus) -> Value {
    let mut value = least_status(status);
    if status.connection_error.is_some() {
        return value;
    }
    let number = |number: Option<u32>| text(number);
    for (key, more) in [
        ("wal_level", status.wal_level.clone().into()),
        ("hot_standby", status.hot_standby.clone().into()),
        ("max_wal_senders", number(status.max_wal_senders)),
        ("data_checksums", status.data_checksums.clone().into()),
        ("max_replication_slots", number(status.max_replication_slots)),
        ("wal_compression", status.wal_compression.clone().into()),
        ("has_backup_privileges", status.has_backup_privileges.into()),
        ("has_monitoring_privileges", status.has_monitoring_privileges.into()),
        ("current_lsn", text(status.current_lsn)),
        ("current_size", status.current_size.into()),
        ("archive_timeout", status.archive_timeout.into()),
        ("checkpoint_timeout", status.checkpoint_timeout.into()),
        ("xlog_segment_size", status.xlog_segment_size.into()),
    ] {
        value[key] = more;
    }
    // Which of the two there is depends on the server's version.
    let kept = [("wal_keep_segments", &status.wal_keep_segments), ("wal_keep_size", &status.wal_keep_size)];
    for (key, setting) in kept.into_iter().filter(|(_, setting)| setting.is_some()) {
        value[key] = setting.clone().into();
    }
    for (key, file) in configuration_files(&status.configuration_files) {
        value[&key] = file;
    }
    let error =
        |(key, error): &(&'static str, StatusError)| (key.to_string(), Value::from(error.message.as_str()));
    if !status.errors.is_empty() {
        value["errors"] = status.errors.iter().map(error).collect();
    }
    value
}

pub(super) fn streaming_status(status: &StreamingStatus) -> Value {
    json!({
        "connection_error": status.connection_error.as_ref().map(|error| error.message.as_str()),
        "version_supported": status.version_supported,
        "streaming_supported": status.streaming_supported,
        "streaming": status.streaming,
        "streaming_systemid": text(status.streaming_systemid),
        "timeline": status.timeline.map(tapster::types::TimelineId::get),
        "xlogpos": text(status.xlogpos),
    })
}

fn xlog_info(info: &XlogInfo) -> Value {
    json!({
        "location": text(info.location),
        "file_name": info.file_name,
        "file_offset": info.file_offset,
        "timestamp": time(Some(info.timestamp)),
    })
}

fn configuration_files(files: &ConfigurationFiles) -> Map<String, Value> {
    let mut value: Map<String, Value> =
        files.files.iter().map(|(key, path)| (key.clone(), path.as_str().into())).collect();
    if !files.included_files.is_empty() {
        value.insert("included_files".into(), files.included_files.clone().into());
    }
    value
}

fn archiver_stats(stats: &ArchiverStats) -> Value {
    json!({
        "archived_count": stats.archived_count,
        "last_archived_wal": stats.last_archived_wal,
        "last_archived_time": time(stats.last_archived_time),
        "failed_count": stats.failed_count,
        "last_failed_wal": stats.last_failed_wal,
        "last_failed_time": time(stats.last_failed_time),
        "stats_reset": time(stats.stats_reset),
        "is_archiving": stats.is_archiving,
        "current_archived_wals_per_second": stats.current_archived_wals_per_second,
    })
}

fn slot(slot: &ReplicationSlot) -> Value {
    json!({ "slot_name": slot.slot_name, "active": slot.active, "restart_lsn": text(slot.restart_lsn) })
}

/// The columns that the server's version has, and those that are added to them.
fn replication_stats(client: &ReplicationStats, version: ServerVersion) -> Value {
    let interval = |interval: Option<Duration>| Value::from(interval.map(interval_text));
    let mut value = json!({
        "pid": client.pid,
        "usesysid": client.usesysid,
        "usename": client.usename,
        "application_name": client.application_name,
        "client_addr": client.client_addr,
        "client_hostname": client.client_hostname,
        "client_port": client.client_port,
        "backend_start": time(client.backend_start),
        "backend_xmin": client.backend_xmin,
        "state": client.state,
        "sent_lsn": text(client.sent_lsn),
        "write_lsn": text(client.write_lsn),
        "flush_lsn": text(client.flush_lsn),
        "replay_lsn": text(client.replay_lsn),
        "sync_priority": client.sync_priority,
        "sync_state": client.sync_state,
        "slot_name": client.slot_name,
        "is_in_recovery": client.is_in_recovery,
        "current_lsn": text(client.current_lsn),
    });
    if version >= ServerVersion::release(10) {
        value["write_lag"] = interval(client.write_lag);
        value["flush_lag"] = interval(client.flush_lag);
        value["replay_lag"] = interval(client.replay_lag);
    }
    if version >= ServerVersion::release(12) {
        value["reply_time"] = time(client.reply_time);
    }
    value
}

/// What prints itself, as text.
fn text(value: Option<impl ToString>) -> Value {
    value.map(|value| value.to_string()).into()
}

pub(super) fn time(time: Option<PgTimestamp>) -> Value {
    text(time)
}

/// An interval as Python prints it: `0:00:00.000123`.
fn interval_text(interval: Duration) -> String {
    let seconds = interval.as_secs();
    let days = match seconds / 86_400 {
        0 => String::new(),
        1 => "1 day, ".into(),
        days => format!("{days} days, "),
    };
    let fraction = match interval.subsec_micros() {
        0 => String::new(),
        micros => format!(".{micros:06}"),
    };
    format!("{days}{}:{:02}:{:02}{fraction}", seconds / 3600 % 24, seconds / 60 % 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_look_as_in_python() {
        for (micros, text) in [
            (0, "0:00:00"),
            (123, "0:00:00.000123"),
            (3_661_000_000, "1:01:01"),
            (86_400_000_001, "1 day, 0:00:00.000001"),
            (172_800_000_000, "2 days, 0:00:00"),
        ] {
            assert_eq!(interval_text(Duration::from_micros(micros)), text);
        }
    }

    #[test]
    fn an_unreachable_server_has_ten_keys_and_the_reason() {
        let keys = |value: &Value| value.as_object().map_or(0, Map::len);
        let value = unreachable_status("connection refused\nmore");
        assert_eq!((keys(&value), value["connection_error"].as_str()), (11, Some("connection refused")));
        let mut status = PostgresStatus::default();
        let reachable = keys(&postgres_status(&status));
        status.wal_keep_size = Some("0".into());
        assert_eq!((reachable, keys(&postgres_status(&status))), (24, 25));
        assert_eq!(keys(&streaming_status(&StreamingStatus::default())), 7);
    }
}
