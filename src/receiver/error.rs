use core::fmt;
use std::boxed::Box;
use std::path::PathBuf;
use std::string::String;

use super::retry::{self, Retry};
use crate::archive::{ArchiveError, ForeignFile};
use crate::client::Error;
use crate::types::{Advice, ByteCount, Lsn, SqlState, SystemId, TimelineId, WalSegmentSize};
use crate::wal::{WalDamage, WalDamageKind, WalSegment};

/// Why a receiver ended.
#[derive(Debug)]
#[non_exhaustive]
pub enum ReceiveError {
    /// The connection failed or was lost, or the server refused a command.
    Connection(Error),
    /// A file could not be written, or the archive is in use.
    Archive(ArchiveError),
    /// The server sent WAL that is damaged, or was damaged on the way.
    Damage(WalDamage),
    /// Going on would lose WAL, or mix two histories in one archive.
    Refused(Box<Refusal>),
    /// The server closed the stream in order to shut down.
    ServerShutdown,
    /// A thread of the receiver panicked: a bug.
    Internal(String),
}

/// Why the receiver refuses to go on: it would lose WAL or mix histories. A person has to decide.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// The archive belongs to another cluster.
    OtherCluster {
        /// The archive's system identifier.
        archive: SystemId,
        /// The server's.
        server: SystemId,
        /// The file that says so; `None` if it is the cluster of this run's first connection.
        file: Option<PathBuf>,
    },
    /// The server does not have the next WAL any more.
    Gap {
        /// What the archive needs next.
        next: Lsn,
        /// Its timeline.
        timeline: TimelineId,
        /// Where the server is.
        server: Lsn,
        /// What the server said.
        message: String,
    },
    /// The slot does not keep WAL any more: it was invalidated.
    SlotLost {
        /// The slot.
        slot: String,
        /// The server's message; `None` if the receiver read the loss from the server's list of slots.
        message: Option<String>,
    },
    /// The slot is a logical one, which gives no WAL.
    SlotIsLogical {
        /// The slot.
        slot: String,
    },
    /// The archive's segments are of another size than the server's.
    OtherSegmentSize {
        /// The archive's, in bytes.
        archive: u32,
        /// The server's.
        server: WalSegmentSize,
        /// The file that says so.
        file: PathBuf,
    },
    /// A file of the archive stands where the server's WAL would have to go, and is not known to be that WAL.
    ForeignFile(ForeignFile),
    /// The archive has WAL that the server does not have yet.
    ArchiveAhead {
        /// What the archive needs next.
        next: Lsn,
        /// Its timeline.
        timeline: TimelineId,
        /// Where the server is.
        server: Lsn,
    },
    /// The archive went beyond the point where the server's timeline branched off.
    OffHistory {
        /// What the archive needs next.
        next: Lsn,
        /// Its timeline.
        timeline: TimelineId,
        /// The server's timeline.
        server_timeline: TimelineId,
        /// Where the server's history left the archive's timeline; `None` if it never was on that timeline.
        switchpoint: Option<Lsn>,
    },
    /// The server sent damaged WAL each time that the receiver fetched it: twice, or 8 times from a standby.
    Damage(WalDamage),
    /// More complete segments at the archive's end are damaged than the receiver fetches again by itself.
    ArchiveDamage {
        /// The newest damaged segment beyond those.
        segment: WalSegment,
        /// What is wrong with it.
        damage: WalDamage,
    },
    /// The server sent a history file under another name than the timeline's.
    HistoryName {
        /// The name that it has to have.
        expected: String,
        /// The name that came.
        got: String,
    },
    /// The server's next timeline is not newer, or begins beyond what was received.
    NextTimeline {
        /// The timeline that ended.
        timeline: TimelineId,
        /// Where it ended here.
        received: Lsn,
        /// The timeline that is said to follow.
        next: TimelineId,
        /// Where it is said to begin.
        switchpoint: Lsn,
    },
}

impl ReceiveError {
    /// What can be done about it, where that is known.
    #[must_use]
    pub fn advice(&self) -> Option<Advice> {
        match self {
            Self::Connection(error) => match error.sqlstate() {
                Some(SqlState::UNDEFINED_OBJECT) => Some(Advice::CreateSlot),
                Some(SqlState::OBJECT_IN_USE) => Some(Advice::AwaitSlot),
                _ => error.advice(),
            },
            Self::Refused(refusal) => refusal.advice(),
            Self::Archive(_) | Self::Damage(_) | Self::ServerShutdown | Self::Internal(_) => None,
        }
    }

    /// Whether the server has no slot of that name.
    pub(super) fn is_missing_slot(&self) -> bool {
        matches!(self, Self::Connection(Error::Server(error)) if error.sqlstate == SqlState::UNDEFINED_OBJECT)
    }

    /// Whether another attempt could succeed without a change to the receiver's configuration or archive, after this run
    /// has received WAL: a person or a cluster manager may mend what the server refuses now.
    #[must_use]
    pub fn is_worth_a_retry(&self) -> bool {
        retry::after(self, true) != Retry::Never
    }
}

impl Refusal {
    /// What can be done about it, where that is known.
    #[must_use]
    pub const fn advice(&self) -> Option<Advice> {
        Some(match self {
            Self::OtherCluster { .. } => Advice::CheckCluster,
            Self::Gap { next, .. } => Advice::AcceptGap { next: *next },
            Self::SlotLost { .. } => Advice::ReplaceSlot,
            Self::SlotIsLogical { .. } => Advice::NamePhysicalSlot,
            Self::OtherSegmentSize { .. } => Advice::SeparateNewCluster,
            Self::ForeignFile(_) => Advice::MoveFileAway,
            Self::ArchiveAhead { .. } => Advice::SeparateOlderServer,
            Self::OffHistory { .. } => Advice::StartAnewAfterPromotion,
            Self::Damage(WalDamage { kind: WalDamageKind::NotAsBefore, .. }) => Advice::StartAnewAfterLostWal,
            Self::Damage(_) => Advice::InspectServerWal,
            Self::ArchiveDamage { .. } => Advice::VerifyArchive,
            Self::HistoryName { .. } | Self::NextTimeline { .. } => return None,
        })
    }
}

impl fmt::Display for ReceiveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connection(error) => error.fmt(f),
            Self::Archive(error) => error.fmt(f),
            Self::Refused(refusal) => refusal.fmt(f),
            Self::Damage(damage) => write!(f, "the server sent damaged WAL: {damage}"),
            Self::ServerShutdown => f.write_str("the server shut down"),
            Self::Internal(panic) => write!(f, "internal error, please report it: {panic}"),
        }
    }
}

impl core::error::Error for ReceiveError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Connection(error) => error.source(),
            Self::Archive(error) => error.source(),
            Self::Refused(_) | Self::Damage(_) | Self::ServerShutdown | Self::Internal(_) => None,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("refusing to continue: ")?;
        match self {
            Self::OtherCluster { archive, server, file } => {
                write!(
                    f,
                    "the archive belongs to another cluster\n  \
                     the archive has system identifier {archive}, the server {server}"
                )?;
                match file {
                    Some(file) => write!(f, "\n  by \"{}\"", file.display()),
                    None => Ok(()),
                }
            }
            Self::Gap { next, timeline, server, message } => write!(
                f,
                "the server does not have WAL from {next} on any more\n  \
                 the archive needs {next} on timeline {timeline} next; the server is at {server}, {} further\n  \
                 the server said: {message}",
                distance(server.saturating_sub(*next), f)
            ),
            Self::SlotLost { slot, message: Some(message) } => {
                write!(f, "slot \"{slot}\" cannot be used any more\n  the server said: {message}")
            }
            Self::SlotIsLogical { slot } => {
                write!(
                    f,
                    "slot \"{slot}\" is a logical one, which gives changes and not WAL; it is left alone"
                )
            }
            Self::SlotLost { slot, message: None } => {
                write!(f, "slot \"{slot}\" is lost: the server has removed WAL that it was to keep")
            }
            Self::OtherSegmentSize { archive, server, file } => {
                let (archive, server) = (archive / 1024, server.bytes() / 1024);
                write!(
                    f,
                    "the archive belongs to a cluster with another segment size\n  \
                     the archive's segments have {archive} KiB, the server's {server} KiB\n  by \"{}\"",
                    file.display()
                )
            }
            Self::ForeignFile(file) => {
                write!(f, "the archive has a file that must not be overwritten\n  {file}")
            }
            Self::ArchiveAhead { next, timeline, server } => write!(
                f,
                "the archive is ahead of the server\n  \
                 the archive needs {next} on timeline {timeline} next; the server is only at {server}, {} behind",
                distance(next.saturating_sub(*server), f)
            ),
            Self::OffHistory { next, timeline, server_timeline, switchpoint } => {
                write!(
                    f,
                    "the archive is not on the server's history\n  \
                     the archive needs {next} on timeline {timeline} next; the server is on timeline \
                     {server_timeline}, which "
                )?;
                match switchpoint {
                    Some(switchpoint) => write!(f, "left timeline {timeline} at {switchpoint}"),
                    None => write!(f, "never was on timeline {timeline}"),
                }
            }
            Self::Damage(damage) if damage.kind == WalDamageKind::NotAsBefore => {
                write!(f, "the server has other WAL than the archive: {damage}")
            }
            Self::Damage(damage) => write!(
                f,
                "the server sent damaged WAL twice: {damage}\n  \
                 everything before it is in the archive"
            ),
            Self::ArchiveDamage { segment, damage } => {
                write!(f, "the archive's newest segments are damaged, down to {segment} at least: {damage}")
            }
            Self::HistoryName { expected, got } => {
                write!(f, "the server sent a timeline history named {got:?} instead of {expected:?}")
            }
            Self::NextTimeline { timeline, received, next, switchpoint } => write!(
                f,
                "the server ended timeline {timeline} at {received} and named timeline {next} from {switchpoint} as \
                 the next one, which cannot be, or is not what that timeline's history says"
            ),
        }
    }
}

/// A size for people; with `{:#}`, as documents have it, the exact one.
fn distance(bytes: u64, f: &fmt::Formatter<'_>) -> String {
    let bytes = ByteCount(bytes);
    if f.alternate() { std::format!("{bytes:#}") } else { std::format!("{bytes}") }
}

impl From<Error> for ReceiveError {
    fn from(error: Error) -> Self {
        Self::Connection(error)
    }
}

impl From<ArchiveError> for ReceiveError {
    fn from(error: ArchiveError) -> Self {
        Self::Archive(error)
    }
}

impl From<Refusal> for ReceiveError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(Box::new(refusal))
    }
}
