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
    /// Stop once everything up to here is received.
    pub end_position: Option<Lsn>,
    /// How often the server is told where we are even if it does not ask; `None` for never.
    pub status_interval: Option<Duration>,
    /// Make every run of WAL durable and report it at once, as a synchronous standby has to.
    pub synchronous: bool,
    /// Whether a lost connection is an error instead of being made again.
    pub no_loop: bool,
    /// Check every page and record before it is stored. WAL of servers other than 10 to 18 is not checked.
    pub check_wal: bool,
    /// How long the server may be silent. At half this time it is asked for a sign of life. `None` for ever.
    pub receive_timeout: Option<Duration>,
    /// Keep a state file in the archive: see [`ArchiveState`](crate::archive::ArchiveState). What expects a directory of `pg_receivewal` may
    /// not expect it.
    pub state_file: bool,
    /// If the server does not have the next WAL any more, go on with what it has, and note the gap in the state
    /// file.
    pub accept_gap: bool,
    /// How many bytes of the archive's file system have to stay free: with less, no segment is begun.
    pub min_free: u64,
    /// How long the server may be silent before it is asked for a sign of life, if that is to be sooner than at
    /// half the receive timeout: for who has to know earlier that the connection is alive, such as a watchdog.
    pub ask_after: Option<Duration>,
    /// How many bytes of WAL may be in memory that were received and not written yet. Half of them are written at
    /// a time: the fewer, the more processor time that takes. 256 KiB is the least.
    pub buffer: usize,
    /// Compress segments after they are complete. The segment in progress is plain, and nothing waits for it.
    pub compress: Option<Compress>,
}

impl ReceiverOptions {
    /// The defaults: no slot, no end, a status every 10 s, a silence of at most 60 s, every record checked,
    /// connecting again, a state file, no gap accepted, no space kept free, a buffer of 1 MiB, no compression.
    #[must_use]
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self {
            directory: directory.into(),
            slot: None,
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

    /// Whether flushed positions are reported. Without a slot nobody waits for them, and a receiver that
    /// reports them could count as a synchronous standby unasked.
    pub(super) fn reports_flush(&self) -> bool {
        self.slot.is_some() || self.synchronous
    }
}
