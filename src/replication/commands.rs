use std::format;
use std::string::{String, ToString as _};
use std::vec::Vec;

use super::connection::{ReplicationConnection, parenthesised, quoted};
use crate::client::Error;
use crate::types::{Lsn, ServerVersion, SystemId, TimelineId, WalSegmentSize, text_of};

/// The answer to `IDENTIFY_SYSTEM`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct IdentifySystem {
    /// The cluster's identifier.
    pub system_id: SystemId,
    /// The server's current timeline; for a standby, the one that it replays.
    pub timeline: TimelineId,
    /// On a primary the end of the flushed WAL; on a standby the end of the WAL that it has received and
    /// flushed, or replayed.
    pub xlog_pos: Lsn,
    /// The database of the connection; `None` on a physical one.
    pub dbname: Option<String>,
}

/// What kind of physical slot to create.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PhysicalSlot {
    /// Whether the slot is dropped at the end of the session or at any error in it (servers from 10 on).
    pub temporary: bool,
    /// Whether the slot keeps WAL from now on, instead of from the first position that a receiver reports
    /// (servers from 9.6 on).
    pub reserve_wal: bool,
}

/// What kind of logical slot to create.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogicalSlot {
    /// The output plugin, such as `pgoutput`.
    pub plugin: String,
    /// Whether the slot is dropped at the end of the session or at any error in it.
    pub temporary: bool,
    /// What to do with the snapshot from which the slot is consistent.
    pub snapshot: SnapshotAction,
    /// Whether prepared transactions are decoded when they are prepared (servers from 15 on).
    pub two_phase: bool,
    /// Whether the slot is kept on standbys too (servers from 17 on).
    pub failover: bool,
}

/// What to do with the snapshot that the creation of a logical slot makes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SnapshotAction {
    /// Other sessions can import the snapshot until the next command on this connection; the server's
    /// default.
    #[default]
    Export,
    /// The current transaction uses the snapshot.
    Use,
    /// The snapshot is thrown away.
    Nothing,
}

/// The answer to `CREATE_REPLICATION_SLOT`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CreatedSlot {
    /// The slot's name.
    pub name: String,
    /// Where a logical slot begins; invalid for a physical one.
    pub consistent_point: Lsn,
    /// The exported snapshot, if there is one.
    pub snapshot_name: Option<String>,
    /// The plugin of a logical slot.
    pub output_plugin: Option<String>,
}

/// The answer to `READ_REPLICATION_SLOT` about a physical slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SlotPosition {
    /// The oldest WAL that the slot keeps; `None` if it keeps none: it was never used, or it was lost.
    pub restart_lsn: Option<Lsn>,
    /// The timeline that `restart_lsn` is on.
    pub restart_timeline: Option<TimelineId>,
}

/// The answer to `TIMELINE_HISTORY`: a file as the server has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryFile {
    /// The file's name on the server, such as `00000002.history`. It comes from the peer: check it before
    /// use.
    pub filename: String,
    /// The file's bytes.
    pub content: Vec<u8>,
}

impl ReplicationConnection {
    /// `IDENTIFY_SYSTEM`: the identity of the cluster, its timeline and its WAL position.
    ///
    /// # Errors
    /// The server's error, or a loss of the connection.
    ///
    /// # Cancel safety
    /// The same for every command of this connection: if the future is dropped, the next call first reads the
    /// rest of the answer.
    pub async fn identify_system(&mut self) -> Result<IdentifySystem, Error> {
        self.one_row("IDENTIFY_SYSTEM", |row| {
            Ok(IdentifySystem {
                system_id: row.parse("systemid")?,
                timeline: row.parse("timeline")?,
                xlog_pos: row.parse("xlogpos")?,
                dbname: row.get("dbname")?.map(text_of),
            })
        })
        .await
    }

    /// `SHOW`: the value of a setting as text, with its unit (servers from 10 on).
    ///
    /// # Errors
    /// 42704 if there is no such setting.
    ///
    /// # Cancel safety
    /// If the future is dropped, the next call first reads the rest of the answer.
    pub async fn show(&mut self, setting: &str) -> Result<String, Error> {
        let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.');
        if setting.is_empty() || !setting.chars().all(is_name) {
            return Err(Error::Usage("a setting's name has only letters, digits, _ and dots"));
        }
        self.one_row(&format!("SHOW {setting}"), |row| Ok(row.text(0)?.to_string())).await
    }

    /// The size of the cluster's WAL segments. Servers before 10 do not report it; for them 16 MiB is
    /// assumed.
    ///
    /// # Errors
    /// If the server gives a size that no cluster can have.
    ///
    /// # Cancel safety
    /// If the future is dropped, the next call first reads the rest of the answer.
    pub async fn wal_segment_size(&mut self) -> Result<WalSegmentSize, Error> {
        if self.server_version()? < ServerVersion::release(10) {
            return Ok(WalSegmentSize::DEFAULT);
        }
        let text = self.show("wal_segment_size").await?;
        text.parse().map_err(|_| Error::Unexpected { expected: "a wal_segment_size", got: text })
    }

    /// `CREATE_REPLICATION_SLOT ... PHYSICAL`.
    ///
    /// # Errors
    /// 42710 if the slot exists, 42602 if the name is not valid, 53400 if `max_replication_slots` is reached.
    ///
    /// # Cancel safety
    /// If the future is dropped, the slot may be created all the same; the next call first reads the rest of the answer.
    pub async fn create_physical_slot(
        &mut self,
        name: &str,
        slot: PhysicalSlot,
    ) -> Result<CreatedSlot, Error> {
        // This spelling is understood by every server from 9.4 to 18.
        let temporary = if slot.temporary { " TEMPORARY" } else { "" };
        let reserve_wal = if slot.reserve_wal { " RESERVE_WAL" } else { "" };
        self.create_slot(&format!(
            "CREATE_REPLICATION_SLOT {}{temporary} PHYSICAL{reserve_wal}",
            quoted(name)?
        ))
        .await
    }

    /// `CREATE_REPLICATION_SLOT ... LOGICAL`; needs `replication=database`.
    ///
    /// # Errors
    /// Those of [`create_physical_slot`](Self::create_physical_slot); 55000 without `wal_level=logical`;
    /// 42601 for an option that the server is too old for.
    ///
    /// # Cancel safety
    /// If the future is dropped, the slot may be created all the same; the next call first reads the rest of the answer.
    pub async fn create_logical_slot(
        &mut self,
        name: &str,
        slot: &LogicalSlot,
    ) -> Result<CreatedSlot, Error> {
        let temporary = if slot.temporary { " TEMPORARY" } else { "" };
        let (word, value) = match slot.snapshot {
            SnapshotAction::Export => ("EXPORT_SNAPSHOT", "export"),
            SnapshotAction::Use => ("USE_SNAPSHOT", "use"),
            SnapshotAction::Nothing => ("NOEXPORT_SNAPSHOT", "nothing"),
        };
        let has_parentheses = self.server_version()? >= ServerVersion::release(15);
        let flags = [("TWO_PHASE", slot.two_phase), ("FAILOVER", slot.failover)];
        let flags = flags.into_iter().filter(|(_, is_set)| *is_set).map(|(flag, _)| flag.to_string());
        let options = if has_parentheses {
            let mut options = Vec::from([format!("SNAPSHOT '{value}'")]);
            options.extend(flags);
            parenthesised(&options)
        } else {
            flags.fold(format!(" {word}"), |options, flag| format!("{options} {flag}"))
        };
        let (name, plugin) = (quoted(name)?, quoted(&slot.plugin)?);
        self.create_slot(&format!("CREATE_REPLICATION_SLOT {name}{temporary} LOGICAL {plugin}{options}"))
            .await
    }

    async fn create_slot(&mut self, command: &str) -> Result<CreatedSlot, Error> {
        self.one_row(command, |row| {
            Ok(CreatedSlot {
                name: row.text("slot_name")?.to_string(),
                consistent_point: row.parse("consistent_point")?,
                snapshot_name: row.optional_text("snapshot_name")?.map(str::to_string),
                output_plugin: row.optional_text("output_plugin")?.map(str::to_string),
            })
        })
        .await
    }

    /// `READ_REPLICATION_SLOT`: the position of a physical slot (servers from 15 on); `None` if there is no
    /// such slot.
    ///
    /// # Errors
    /// 42601 on an older server, 0A000 if the slot is logical.
    ///
    /// # Cancel safety
    /// If the future is dropped, the next call first reads the rest of the answer.
    pub async fn read_slot(&mut self, name: &str) -> Result<Option<SlotPosition>, Error> {
        self.one_row(&format!("READ_REPLICATION_SLOT {}", quoted(name)?), |row| {
            // For a slot that does not exist, the server sends a row of NULLs.
            if row.get("slot_type")?.is_none() {
                return Ok(None);
            }
            Ok(Some(SlotPosition {
                restart_lsn: row.optional("restart_lsn")?,
                restart_timeline: row.optional("restart_tli")?,
            }))
        })
        .await
    }

    /// `DROP_REPLICATION_SLOT`. With `wait`, waits until an active slot is free (servers from 10 on).
    ///
    /// # Errors
    /// 42704 if there is no such slot, 55006 if it is active and `wait` is not set.
    ///
    /// # Cancel safety
    /// If the future is dropped, the slot may be dropped all the same; the next call first reads the rest of the answer.
    pub async fn drop_slot(&mut self, name: &str, wait: bool) -> Result<(), Error> {
        let wait = if wait { " WAIT" } else { "" };
        self.rows(&format!("DROP_REPLICATION_SLOT {}{wait}", quoted(name)?)).await.map(drop)
    }

    /// `TIMELINE_HISTORY`: the history file of a timeline. The first timeline has none.
    ///
    /// # Errors
    /// 58P01 if the server has no such file.
    ///
    /// # Cancel safety
    /// If the future is dropped, the next call first reads the rest of the answer.
    pub async fn timeline_history(&mut self, timeline: TimelineId) -> Result<HistoryFile, Error> {
        // Servers before 14 declare the content as bytea, but every server sends the bytes of the file as
        // they are.
        self.one_row(&format!("TIMELINE_HISTORY {timeline}"), |row| {
            Ok(HistoryFile {
                filename: row.text("filename")?.to_string(),
                content: row.get("content")?.unwrap_or_default().to_vec(),
            })
        })
        .await
    }

    /// `ALTER_REPLICATION_SLOT` of a logical slot (servers from 17 on; `two_phase` from 18 on).
    ///
    /// # Errors
    /// 0A000 for a physical slot, 42601 on an older server.
    ///
    /// # Cancel safety
    /// If the future is dropped, the slot may be changed all the same; the next call first reads the rest of the answer.
    pub async fn alter_slot(
        &mut self,
        name: &str,
        failover: Option<bool>,
        two_phase: Option<bool>,
    ) -> Result<(), Error> {
        let options = [("FAILOVER", failover), ("TWO_PHASE", two_phase)];
        let options = options.into_iter().filter_map(|(option, value)| Some(format!("{option} {}", value?)));
        let options: Vec<String> = options.collect();
        self.rows(&format!("ALTER_REPLICATION_SLOT {}{}", quoted(name)?, parenthesised(&options)))
            .await
            .map(drop)
    }
}

/// The text of `START_REPLICATION`. It is here so that one file writes every text for the replication
/// grammar.
pub(super) fn start_physical(slot: Option<&str>, start: Lsn, timeline: TimelineId) -> Result<String, Error> {
    let slot = slot.map(quoted).transpose()?.map_or_else(String::new, |name| format!("SLOT {name} "));
    Ok(format!("START_REPLICATION {slot}PHYSICAL {start} TIMELINE {timeline}"))
}
