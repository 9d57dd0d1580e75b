use core::fmt;

use crate::types::{Lsn, SystemId};

/// Bytes that are not the write-ahead log that a server wrote there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WalDamage {
    /// Where: the start of the page or record in question, or the byte itself.
    pub lsn: Lsn,
    /// What is wrong there.
    pub kind: WalDamageKind,
}

/// What is wrong with a piece of log. Found values are the peer's; expected ones are known from before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WalDamageKind {
    /// The bytes do not follow those before them.
    Position {
        /// The position that comes next.
        expected: Lsn,
    },
    /// The bytes are not those that came before and were found right.
    NotAsBefore,
    /// The first page's magic is not one of PostgreSQL 10 to 18 on a little-endian machine: another version's
    /// format, or damage.
    UnknownMagic {
        /// What it is.
        found: u16,
    },
    /// The page's magic is not that of the pages before it.
    Magic {
        /// What it is.
        found: u16,
    },
    /// The page's flags are unknown, contradict each other, or do not belong to this place.
    PageFlags {
        /// What they are.
        found: u16,
    },
    /// The page's timeline cannot be here: 0, above the stream's, or not that of this part of its history.
    Timeline {
        /// What it is.
        found: u32,
    },
    /// The page calls itself another one.
    PageAddress {
        /// Which one.
        found: Lsn,
    },
    /// The page says that another number of bytes is to come of the record that crosses into it.
    RemainingLength {
        /// How many are, in bytes; 0 if no record crosses.
        expected: u32,
        /// What the page says.
        found: u32,
    },
    /// The page says that a crash cut off a record before it, where the last one is complete.
    NothingCutOff,
    /// The segment is of another cluster.
    SystemId {
        /// The expected cluster.
        expected: SystemId,
        /// The segment's.
        found: SystemId,
    },
    /// The segment is of a cluster with another segment size.
    SegmentSize {
        /// What it says, in bytes.
        found: u32,
    },
    /// The segment has pages of an impossible size, or of another one than those before.
    PageSize {
        /// What it says, in bytes.
        found: u32,
    },
    /// The record is shorter than its own header.
    RecordLength {
        /// What it says, in bytes.
        found: u32,
    },
    /// The record does not point back to the one before it.
    PreviousRecord {
        /// Where that begins; unknown at the start of the stream.
        expected: Option<Lsn>,
        /// Where the record points.
        found: Lsn,
    },
    /// The record's bytes do not have its checksum.
    RecordChecksum,
    /// A byte is not zero between records, or in the rest of a segment after its last record.
    NotZero,
}

impl WalDamageKind {
    pub(super) const fn at(self, lsn: Lsn) -> WalDamage {
        WalDamage { lsn, kind: self }
    }
}

impl fmt::Display for WalDamage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WAL at {}: ", self.lsn)?;
        match self.kind {
            WalDamageKind::Position { expected } => write!(f, "expected bytes at {expected}"),
            WalDamageKind::NotAsBefore => f.write_str("byte is not the one that was received before"),
            WalDamageKind::UnknownMagic { found } => {
                write!(f, "page magic {found:04X} is not of PostgreSQL 10 to 18")
            }
            WalDamageKind::Magic { found } => {
                write!(f, "page magic {found:04X} is not that of the pages before")
            }
            WalDamageKind::PageFlags { found } => write!(f, "page flags {found:04X} cannot be here"),
            WalDamageKind::Timeline { found } => write!(f, "page of timeline {found} cannot be here"),
            WalDamageKind::PageAddress { found } => write!(f, "page says that it is at {found}"),
            WalDamageKind::RemainingLength { expected, found } => {
                write!(f, "page continues a record with {found} bytes to come where {expected} are")
            }
            WalDamageKind::NothingCutOff => {
                f.write_str("page says that the record before it was cut off, which is complete")
            }
            WalDamageKind::SystemId { expected, found } => {
                write!(f, "segment is of cluster {found} and not of {expected}")
            }
            WalDamageKind::SegmentSize { found } => {
                write!(f, "segment says that segments have {found} bytes")
            }
            WalDamageKind::PageSize { found } => write!(f, "segment says that pages have {found} bytes"),
            WalDamageKind::RecordLength { found } => write!(f, "record length {found} is impossible"),
            WalDamageKind::PreviousRecord { expected: Some(expected), found } => {
                write!(f, "record points back to {found} and not to {expected}")
            }
            WalDamageKind::PreviousRecord { expected: None, found } => {
                write!(f, "record points back to {found}, which is not before it")
            }
            WalDamageKind::RecordChecksum => f.write_str("record checksum is wrong"),
            WalDamageKind::NotZero => f.write_str("byte should be zero"),
        }
    }
}

impl core::error::Error for WalDamage {}
