use core::str::FromStr;
use std::prelude::v1::*;

use super::error::PostgresError;
use super::postgresql::first_line;
use super::rows::owned;
use super::rows::{ConfigurationFiles, ReplicationSlot};
use super::standby_names;
use crate::client::{ColumnError, ColumnErrorKind, ResultSet};
use crate::types::{Advice, Lsn, SqlState, SystemId};

/// Why a status, or a value in it, is missing.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StatusError {
    /// The first line of the error.
    pub message: String,
    /// The server's SQLSTATE, if the error is the server's.
    pub sqlstate: Option<SqlState>,
    /// What the user can do about it, if that is known.
    pub advice: Option<Advice>,
}

impl StatusError {
    pub(super) fn of(error: &PostgresError) -> Self {
        Self { message: first_line(error), sqlstate: error.sqlstate(), advice: error.advice() }
    }
}

/// The status of a server at one moment, as [`PostgreSQLConnection`](super::PostgreSQLConnection) reports it.
///
/// Settings are as `SHOW` prints them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PostgresStatus {
    /// Why the server gave no answer at all. Every value is `None` then.
    pub connection_error: Option<StatusError>,
    /// Why the server refused single values, by their keys.
    pub errors: Vec<(&'static str, StatusError)>,
    /// Whether the server's version is supported.
    pub version_supported: Option<bool>,
    /// The server's version: `15.18`.
    pub server_txt_version: Option<String>,
    /// Whether the role is a superuser.
    pub is_superuser: Option<bool>,
    /// Whether the server is a standby.
    pub is_in_recovery: Option<bool>,
    /// Whether the role may take backups.
    pub has_backup_privileges: Option<bool>,
    /// Whether the role may see all settings and statistics.
    pub has_monitoring_privileges: Option<bool>,
    /// The data directory, for a role with backup privileges.
    pub data_directory: Option<String>,
    /// `wal_level`: `minimal`, `replica` or `logical`.
    pub wal_level: Option<String>,
    /// `hot_standby`: `on` or `off`.
    pub hot_standby: Option<String>,
    /// `max_wal_senders`: how many WAL senders may run.
    pub max_wal_senders: Option<u32>,
    /// `data_checksums`: `on` or `off`.
    pub data_checksums: Option<String>,
    /// `max_replication_slots`: how many slots may exist.
    pub max_replication_slots: Option<u32>,
    /// `wal_compression`: `off`, `on`, or a method.
    pub wal_compression: Option<String>,
    /// `wal_keep_segments`: segments kept for standbys (servers before 13).
    pub wal_keep_segments: Option<String>,
    /// `wal_keep_size`: WAL kept for standbys (servers from 13 on).
    pub wal_keep_size: Option<String>,
    /// The position that a primary writes at, or up to which a standby has replayed.
    pub current_lsn: Option<Lsn>,
    /// The segment that contains `current_lsn`, or ends at it; `None` on a standby.
    pub current_xlog: Option<String>,
    /// The size of all tablespaces in bytes, for a role with backup privileges.
    pub current_size: Option<u64>,
    /// `archive_timeout` in seconds; 0 for never.
    pub archive_timeout: Option<u64>,
    /// `checkpoint_timeout` in seconds.
    pub checkpoint_timeout: Option<u64>,
    /// The size of a WAL segment in bytes.
    pub xlog_segment_size: Option<u64>,
    /// The configuration files; empty for a role that may not see them.
    pub configuration_files: ConfigurationFiles,
    /// Whether the server has replication slots.
    pub replication_slot_support: Option<bool>,
    /// The object's slot, if the object names one and the server has it.
    pub replication_slot: Option<ReplicationSlot>,
    /// The names in `synchronous_standby_names`.
    pub synchronous_standby_names: Option<Vec<String>>,
    /// The system identifier.
    pub postgres_systemid: Option<SystemId>,
}

impl PostgresStatus {
    /// Sets the values from rows of `sql::StatusPart`s.
    pub(super) fn set_from(&mut self, set: &ResultSet) {
        for row in set.rows() {
            let pair = row.text("key").and_then(|key| Ok((key, owned(row, "value")?)));
            match pair {
                Ok((key, Some(value))) => self.set_value(key, &value),
                Ok(_) => {}
                Err(error) => self.errors.push(("status", column_error(&error))),
            }
        }
    }

    fn set_value(&mut self, key: &str, value: &str) {
        let text = Some(value.to_string());
        let errors = &mut self.errors;
        match key {
            "is_superuser" => self.is_superuser = parse("is_superuser", value, errors),
            "is_in_recovery" => self.is_in_recovery = parse("is_in_recovery", value, errors),
            "has_backup_privileges" => {
                self.has_backup_privileges = parse("has_backup_privileges", value, errors);
            }
            "has_monitoring_privileges" => {
                self.has_monitoring_privileges = parse("has_monitoring_privileges", value, errors);
            }
            "data_directory" => self.data_directory = text,
            "wal_level" => self.wal_level = text,
            "hot_standby" => self.hot_standby = text,
            "max_wal_senders" => self.max_wal_senders = parse("max_wal_senders", value, errors),
            "data_checksums" => self.data_checksums = text,
            "max_replication_slots" => {
                self.max_replication_slots = parse("max_replication_slots", value, errors);
            }
            "wal_compression" => self.wal_compression = text,
            "wal_keep_segments" => self.wal_keep_segments = text,
            "wal_keep_size" => self.wal_keep_size = text,
            "current_lsn" => self.current_lsn = parse("current_lsn", value, errors),
            "current_xlog" => self.current_xlog = text,
            "current_size" => self.current_size = parse("current_size", value, errors),
            "archive_timeout" => self.archive_timeout = parse("archive_timeout", value, errors),
            "checkpoint_timeout" => self.checkpoint_timeout = parse("checkpoint_timeout", value, errors),
            "xlog_segment_size" => self.xlog_segment_size = parse("xlog_segment_size", value, errors),
            "postgres_systemid" => self.postgres_systemid = parse("postgres_systemid", value, errors),
            "synchronous_standby_names" => {
                self.synchronous_standby_names = Some(standby_names::parse(value));
            }
            "slot_name" => {
                let slot = ReplicationSlot { slot_name: value.into(), active: false, restart_lsn: None };
                self.replication_slot = Some(slot);
            }
            "slot_active" | "slot_restart_lsn" => {
                if let Some(slot) = &mut self.replication_slot {
                    match key {
                        "slot_active" => slot.active = value == "true",
                        _ => slot.restart_lsn = parse("replication_slot", value, errors),
                    }
                }
            }
            _ => {
                self.configuration_files.insert(key, value);
            }
        }
    }
}

fn parse<T: FromStr>(
    key: &'static str,
    value: &str,
    errors: &mut Vec<(&'static str, StatusError)>,
) -> Option<T> {
    let parsed = value.parse().ok();
    if parsed.is_none() {
        let kind = ColumnErrorKind::Parse(value.into());
        errors.push((key, column_error(&ColumnError { column: key.into(), kind })));
    }
    parsed
}

fn column_error(error: &ColumnError) -> StatusError {
    StatusError { message: error.to_string(), sqlstate: None, advice: None }
}
