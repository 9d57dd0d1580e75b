use core::time::Duration;

use super::ReceiveError;
use crate::archive::{AcceptedGap, ArchiveError, ArchiveWarning};
use crate::client::ServerName;
use crate::types::{Lsn, ServerVersion, SystemId, TimelineId};
use crate::wal::{WalDamage, WalSegment};

/// What happens while receiving, for whoever watches. One per change of state, never one per message.
#[derive(Debug)]
#[non_exhaustive]
pub enum ReceiverEvent<'a> {
    /// A server was connected to.
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
    /// The newest segments are not here any more; the state file tells where to go on.
    Resumed {
        /// The last byte + 1 that was durable.
        flushed: Lsn,
        /// Its timeline.
        timeline: TimelineId,
    },
    /// What the slot keeps could not be found out. Receiving begins at the server's current segment.
    SlotUnknown {
        /// The slot.
        slot: &'a str,
        /// Why a session of SQL could not tell.
        error: &'a ReceiveError,
    },
    /// The server does not have this WAL any more, and it was noted that it is missing.
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
    /// The server's timeline branched off before the end of what was received: it was promoted before it had all of
    /// that, and commits that may have been acknowledged are not on it. Their WAL stays where it is, in the partial
    /// file of the timeline that was left. Told at each connection until WAL of the new timeline is durable.
    BranchedBehind {
        /// The timeline that was received.
        timeline: TimelineId,
        /// Everything before this was durable.
        flushed: Lsn,
        /// Where it was left.
        switchpoint: Lsn,
        /// The server's timeline.
        server_timeline: TimelineId,
    },
    /// There is no space for more WAL. Nothing is lost; the server keeps it meanwhile if there is a slot.
    OutOfSpace {
        /// What could not be written.
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
    /// The server sent damaged WAL. Nothing of it was acknowledged; it is fetched once more, and from a standby, which
    /// may not have it yet, some times.
    Damage {
        /// What, and where.
        damage: WalDamage,
        /// When it is fetched again.
        retry_in: Duration,
    },
    /// The archive's file system has no locks, so that nothing keeps another process from receiving into it.
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
