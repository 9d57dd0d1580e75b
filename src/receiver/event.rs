use core::time::Duration;

use super::ReceiveError;
use crate::archive::{AcceptedGap, ArchiveError, ArchiveWarning};
use crate::client::ServerName;
use crate::types::{Lsn, ServerVersion, SystemId, TimelineId};
use crate::wal::{WalDamage, WalSegment};

/// What happens while receiving. A receiver reports one event per change of state, never one per message.
#[derive(Debug)]
#[non_exhaustive]
pub enum ReceiverEvent<'a> {
    /// The receiver connected to a server.
    Connected {
        /// Its name.
        server: &'a ServerName,
        /// Its version.
        version: ServerVersion,
        /// The cluster.
        system_id: SystemId,
        /// Its timeline.
        timeline: TimelineId,
    },
    /// A file of the archive is not what its name says.
    ArchiveWarning(&'a ArchiveWarning),
    /// The newest segments are not in the archive any more. The receiver goes on from the position in
    /// the state file, or where it stood itself.
    Resumed {
        /// The last byte + 1 that was durable.
        flushed: Lsn,
        /// Its timeline.
        timeline: TimelineId,
    },
    /// A server did not have the slot, and the receiver has created it.
    SlotCreated {
        /// The slot.
        slot: &'a str,
    },
    /// The receiver could not find out what WAL the slot keeps. It begins at the server's current segment.
    SlotUnknown {
        /// The slot.
        slot: &'a str,
        /// Why the SQL session failed.
        error: &'a ReceiveError,
    },
    /// The server does not have this WAL any more, and the receiver noted the gap.
    GapAccepted(AcceptedGap),
    /// A complete segment at the end of the archive is damaged, and is received again.
    ArchiveDamage {
        /// The segment.
        segment: WalSegment,
        /// What is wrong, and where.
        damage: WalDamage,
    },
    /// WAL is requested from here.
    Starting {
        /// The first byte.
        start: Lsn,
        /// Its timeline.
        timeline: TimelineId,
    },
    /// The server has agreed to stream from here. It may still find that it has no WAL for this place any more.
    Streaming {
        /// The first byte.
        start: Lsn,
        /// Its timeline.
        timeline: TimelineId,
    },
    /// A segment is complete, durable and has its final name.
    SegmentFinished(WalSegment),
    /// A segment in progress is left as a partial file: the stream has ended in the middle of it.
    SegmentLeft(WalSegment),
    /// A timeline's history was stored.
    HistoryStored(TimelineId),
    /// The stream goes on on another timeline.
    TimelineSwitched {
        /// The new timeline.
        timeline: TimelineId,
        /// Where it branched off.
        switchpoint: Lsn,
    },
    /// The server's timeline branched off before the end of the received WAL: the server was promoted before it had all
    /// of that WAL. Commits that may have been acknowledged are not on the new timeline. Their WAL stays in the partial
    /// file of the old timeline. Reported at each connection until WAL of the new timeline is durable.
    BranchedBehind {
        /// The timeline that was received.
        timeline: TimelineId,
        /// Everything before this was durable.
        flushed: Lsn,
        /// Where the new timeline branched off.
        switchpoint: Lsn,
        /// The server's timeline.
        server_timeline: TimelineId,
    },
    /// The archive's file system has no space for more WAL. Nothing is lost: with a slot, the server keeps the WAL.
    OutOfSpace {
        /// The error of the write that failed.
        error: &'a ArchiveError,
        /// When it is tried again.
        retry_in: Duration,
    },
    /// A segment could not be compressed. It stays plain, and receiving goes on.
    NotCompressed {
        /// Why.
        error: &'a ArchiveError,
        /// When it is tried again.
        retry_in: Duration,
    },
    /// The server sent damaged WAL. None of it was acknowledged. The receiver fetches it once more, or several times from
    /// a standby, which may not have the right WAL yet.
    Damage {
        /// What is wrong, and where.
        damage: WalDamage,
        /// When it is fetched again.
        retry_in: Duration,
    },
    /// The archive's file system has no locks, so another process could receive into the archive too.
    NotLocked(&'a ArchiveError),
    /// WAL of this server version cannot be checked.
    Unchecked(ServerVersion),
    /// The connection was lost or could not be made again.
    Disconnected {
        /// Why.
        error: &'a ReceiveError,
        /// When it is tried again.
        retry_in: Duration,
    },
}
