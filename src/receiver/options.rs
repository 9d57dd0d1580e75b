use core::time::Duration;
use std::path::PathBuf;
use std::string::String;

use crate::compression::Compress;
use crate::types::Lsn;

/// What to receive, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceiverOptions {
    /// The archive's directory, which must exist.
    pub directory: PathBuf,
    /// The slot that keeps the WAL on the server until it is durable here.
    pub slot: Option<String>,
    /// Whether to create the slot if a server does not have it, as a standby that was promoted may not. Only after this
    /// run has had a working connection.
    pub create_slot: bool,
    /// Stop once everything before this position is received.
    pub end_position: Option<Lsn>,
    /// How often the receiver reports its positions to the server without a request; `None` for never.
    pub status_interval: Option<Duration>,
    /// Make every run of WAL durable and report it at once, as a synchronous standby has to.
    pub synchronous: bool,
    /// Whether a lost connection ends the receiver with an error, instead of a new connection.
    pub no_loop: bool,
    /// Check every page and record before it is stored. WAL of servers other than 10 to 18 is not checked.
    pub check_wal: bool,
    /// How long the server may be silent. At half this time the receiver requests a keepalive. `None` for ever.
    pub receive_timeout: Option<Duration>,
    /// Keep a state file in the archive: see [`ArchiveState`](crate::archive::ArchiveState). Tools that
    /// expect a directory of `pg_receivewal` may not expect this file.
    pub state_file: bool,
    /// If the server does not have the next WAL any more, go on with the WAL that the server has, and note the gap in
    /// the state file.
    pub accept_gap: bool,
    /// How many bytes of the archive's file system have to stay free. With less free space, no segment is begun.
    pub min_free: u64,
    /// How long the server may be silent before the receiver requests a keepalive, if that is to be sooner than at
    /// half the receive timeout. A watchdog, for example, has to know earlier that the connection is alive.
    pub ask_after: Option<Duration>,
    /// How many bytes of received WAL may wait in memory to be written. Half of them are written at a time. A smaller
    /// buffer takes more processor time. 256 KiB is the least.
    pub buffer: usize,
    /// Compress segments after they are complete. The segment in progress is plain, and nothing waits for
    /// the compression.
    pub compress: Option<Compress>,
}

impl ReceiverOptions {
    /// The defaults: no slot and none created, no end, a status every 10 s, a silence of at most 60 s, every record checked,
    /// connecting again, a state file, no gap accepted, no space kept free, a buffer of 1 MiB, no compression.
    #[must_use]
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self {
            directory: directory.into(),
            slot: None,
            create_slot: false,
            end_position: None,
            status_interval: Some(Duration::from_secs(10)),
            synchronous: false,
            no_loop: false,
            check_wal: true,
            receive_timeout: Some(Duration::from_secs(60)),
            state_file: true,
            accept_gap: false,
            min_free: 0,
            ask_after: None,
            buffer: 1 << 20,
            compress: None,
        }
    }

    /// Whether the receiver reports flushed positions. Without a slot the server does not need them, and a receiver
    /// that reports them could become a synchronous standby against the user's wish.
    pub(super) fn reports_flush(&self) -> bool {
        self.slot.is_some() || self.synchronous
    }
}
