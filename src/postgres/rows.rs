//! The types of the rows that members return.

use core::time::Duration;
use std::collections::BTreeMap;
use std::prelude::v1::*;

use crate::client::{ColumnError, ColumnErrorKind, Row};
use crate::types::{Lsn, PgTimestamp, TimelineId, text_of};

/// A server's current position in its WAL.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct XlogInfo {
    /// On a primary the position that it writes at; on a standby the last position that it replayed, if any.
    pub location: Option<Lsn>,
    /// The name of the segment that contains `location`; `None` on a standby. At the boundary of two segments
    /// it is the earlier one, whatever the server's version.
    pub file_name: Option<String>,
    /// The offset of `location` in its segment, 0 at a boundary; `None` on a standby.
    pub file_offset: Option<u32>,
    /// The server's time of this answer.
    pub timestamp: PgTimestamp,
}

/// A tablespace outside of the data directory.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Tablespace {
    /// The name.
    pub name: String,
    /// The oid, which is also the name of the link in `pg_tblspc`.
    pub oid: u32,
    /// The directory.
    pub location: String,
}

/// The paths of the server's configuration files. Empty for a role that may not see them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConfigurationFiles {
    /// `config_file`, `hba_file` and `ident_file` by these names.
    pub files: BTreeMap<String, String>,
    /// Other files that settings come from, sorted.
    pub included_files: Vec<String>,
}

impl ConfigurationFiles {
    /// Adds a row of the statement. Returns false if `key` is not a key of this struct.
    pub(super) fn insert(&mut self, key: &str, value: &str) -> bool {
        match key {
            "config_file" | "hba_file" | "ident_file" => {
                self.files.insert(key.into(), value.into());
            }
            "included_files" => {
                let at = self.included_files.binary_search_by(|file| file.as_str().cmp(value));
                if let Err(at) = at {
                    self.included_files.insert(at, value.into());
                }
            }
            _ => return false,
        }
        true
    }
}

/// The statistics of the archiver: `pg_stat_archiver`.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ArchiverStats {
    /// How many files were archived.
    pub archived_count: u64,
    /// The file that was archived last.
    pub last_archived_wal: Option<String>,
    /// When it was archived.
    pub last_archived_time: Option<PgTimestamp>,
    /// How many attempts failed.
    pub failed_count: u64,
    /// The file of the last attempt that failed.
    pub last_failed_wal: Option<String>,
    /// When that attempt failed.
    pub last_failed_time: Option<PgTimestamp>,
    /// The time since which these numbers are counted.
    pub stats_reset: Option<PgTimestamp>,
    /// Whether archiving is on and its last attempt did not fail.
    pub is_archiving: bool,
    /// Files per second since `stats_reset`.
    pub current_archived_wals_per_second: Option<f64>,
}

/// A physical replication slot.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReplicationSlot {
    /// The name.
    pub slot_name: String,
    /// Whether a session uses the slot.
    pub active: bool,
    /// The oldest WAL that the slot keeps; `None` if it keeps none.
    pub restart_lsn: Option<Lsn>,
}

/// A concurrent backup that was started.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StartedBackup {
    /// The position at which recovery from this backup begins.
    pub location: Lsn,
    /// The timeline of the server's last checkpoint.
    pub timeline: TimelineId,
    /// When the start was asked for, before its checkpoint.
    pub timestamp: PgTimestamp,
    /// When the start was done, after its checkpoint.
    pub finished: PgTimestamp,
}

/// A concurrent backup that was stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoppedBackup {
    /// The position that recovery has to reach: last byte + 1.
    pub location: Lsn,
    /// The timeline of `location`.
    pub timeline: TimelineId,
    /// The content of the file `backup_label`: the server's bytes, whatever the encoding of the database.
    pub backup_label: Vec<u8>,
    /// The content of the file `tablespace_map` likewise; empty if there is nothing to be written.
    pub tablespace_map: Vec<u8>,
    /// When the stop was asked for, before any waiting.
    pub timestamp: PgTimestamp,
    /// When the stop was done, after the WAL was archived.
    pub finished: PgTimestamp,
}

/// The start or the stop of an exclusive backup, which servers before 15 have.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ExclusiveBackup {
    /// The position of the start or the stop.
    pub location: Lsn,
    /// The name of the segment that contains `location`, or ends at it.
    pub file_name: String,
    /// The offset of `location` in that segment.
    pub file_offset: u32,
    /// When the start or the stop was asked for.
    pub timestamp: PgTimestamp,
    /// When the start or the stop was done.
    pub finished: PgTimestamp,
}

impl XlogInfo {
    pub(super) fn read(row: Row<'_>) -> Result<Self, ColumnError> {
        Ok(Self {
            location: row.optional("location")?,
            file_name: owned(row, "file_name")?,
            file_offset: row.optional("file_offset")?,
            timestamp: row.parse("timestamp")?,
        })
    }
}

impl Tablespace {
    pub(super) fn read(row: Row<'_>) -> Result<Self, ColumnError> {
        let (name, location) = (present(row, "name")?, present(row, "location")?);
        Ok(Self { name, oid: row.parse("oid")?, location })
    }
}

impl ArchiverStats {
    pub(super) fn read(row: Row<'_>) -> Result<Self, ColumnError> {
        Ok(Self {
            archived_count: row.parse("archived_count")?,
            last_archived_wal: owned(row, "last_archived_wal")?,
            last_archived_time: row.optional("last_archived_time")?,
            failed_count: row.parse("failed_count")?,
            last_failed_wal: owned(row, "last_failed_wal")?,
            last_failed_time: row.optional("last_failed_time")?,
            stats_reset: row.optional("stats_reset")?,
            is_archiving: row.parse("is_archiving")?,
            current_archived_wals_per_second: row.optional("current_archived_wals_per_second")?,
        })
    }
}

impl ReplicationSlot {
    pub(super) fn read(row: Row<'_>) -> Result<Self, ColumnError> {
        Ok(Self {
            slot_name: present(row, "slot_name")?,
            active: row.parse("active")?,
            restart_lsn: row.optional("restart_lsn")?,
        })
    }
}

impl StartedBackup {
    pub(super) fn read(row: Row<'_>) -> Result<Self, ColumnError> {
        Ok(Self {
            location: row.parse("location")?,
            timeline: row.parse("timeline")?,
            timestamp: row.parse("timestamp")?,
            finished: row.parse("finished")?,
        })
    }
}

impl StoppedBackup {
    pub(super) fn read(row: Row<'_>) -> Result<Self, ColumnError> {
        Ok(Self {
            location: row.parse("location")?,
            timeline: row.parse("timeline")?,
            backup_label: row.bytea("backup_label")?,
            tablespace_map: row.optional_bytea("tablespace_map")?.unwrap_or_default(),
            timestamp: row.parse("timestamp")?,
            finished: row.parse("finished")?,
        })
    }
}

impl ExclusiveBackup {
    pub(super) fn read(row: Row<'_>) -> Result<Self, ColumnError> {
        Ok(Self {
            location: row.parse("location")?,
            file_name: present(row, "file_name")?,
            file_offset: row.parse("file_offset")?,
            timestamp: row.parse("timestamp")?,
            finished: row.parse("finished")?,
        })
    }
}

/// The text of a column by [`text_of`]; `None` for NULL.
pub(super) fn owned(row: Row<'_>, column: &str) -> Result<Option<String>, ColumnError> {
    Ok(row.get(column)?.map(text_of))
}

/// The text of a column that is not NULL, by [`text_of`].
pub(super) fn present(row: Row<'_>, column: &str) -> Result<String, ColumnError> {
    let null = || ColumnError { column: column.into(), kind: ColumnErrorKind::Null };
    owned(row, column)?.ok_or_else(null)
}

/// An interval, which the statement returns in microseconds. A negative one, from a clock that was set back,
/// becomes zero.
pub(super) fn lag(row: Row<'_>, column: &str) -> Result<Option<Duration>, ColumnError> {
    let micros: Option<i64> = row.optional(column)?;
    Ok(micros.map(|micros| Duration::from_micros(u64::try_from(micros).unwrap_or_default())))
}
