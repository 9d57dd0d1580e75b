//! The archive directory and the WAL receiver.
//!
//! An archive is a directory with nothing in it but
//!
//! | name | is |
//! |---|---|
//! | `<segment>` | a complete segment: 24 upper-case hexadecimal digits, exactly the cluster's segment size |
//! | `<segment>.partial` | the segment in progress, or where a timeline was left; it has the full size from the beginning, with zeros for what never came |
//! | `<timeline>.history` | the ancestors of a timeline, as the server sent them |
//! | `tapster.state` | what [`ArchiveState`] says; only where the receiver is told to keep one |
//! | `*.tmp` | a file in the making; of no meaning after a crash |
//!
//! A complete segment may be compressed, and then has `.gz`, `.lz4` or `.zst` appended; pg_receivewal also compresses
//! histories and partial segments, where it comes before `.partial`. [`SegmentReader`] reads them all. The lock is on the directory itself.
//!
//! # What holds at every moment, also after a crash
//! - A complete name has complete, durable bytes: [`SegmentWriter::finish`] syncs, renames, and syncs the name.
//! - A partial file is received again from the start of its segment, and so needs no mending.
//! - A position that [`SegmentWriter`] calls durable is; after a failed fsync it never calls one so again.
//! - A segment that is being compressed is here as the plain file until the compressed one is durable.
//! - A complete segment and a history are never overwritten by other content.
//!
//! [`WalChecker`] tells whether bytes are the log that a server wrote, before they are trusted. It is pure
//! computation and serves streams and files alike.

mod archive;
mod archive_end;
mod check;
mod compress;
mod direct;
mod directory;
mod error;
mod file_name;
mod file_status;
mod fsync_times;
mod history;
mod listing;
mod preallocate;
mod receiver;
mod restore;
mod segment;
mod segment_reader;
mod segment_writer;
mod state;
mod verify;

pub use archive::{Archive, ArchiveLock};
pub use archive_end::{ArchiveEnd, ArchiveWarning, NewestSegment, WarningKind};
pub use check::{WalChecker, WalDamage, WalDamageKind};
pub use compress::{Compress, CompressError};
use direct::BLOCK_LEN;
pub use error::ArchiveError;
pub use file_name::{ArchiveFileName, Compression};
pub use fsync_times::FsyncFigures;
use fsync_times::FsyncTimes;
pub use history::{HistoryEntry, HistoryError, HistoryErrorKind, TimelineHistory};
pub use listing::{ListedSegment, ListedTimeline, Listing, list};
use preallocate::Fill;
pub use receiver::{
    ReceiveError, Receiver, ReceiverEvent, ReceiverFigures, ReceiverOptions, ReceiverProgress, ReceiverState,
    Refusal, ResumePoint, ResumeReason, Stopped,
};
pub use restore::{FileDamage, Restore, RestoreError, Restored};
pub use segment::WalSegment;
pub use segment_reader::SegmentReader;
pub use segment_writer::{SegmentSync, SegmentWriter};
pub use state::{AcceptedGap, ArchiveState};
pub use verify::{ArchiveProblem, SegmentRun, Verification, verify};
