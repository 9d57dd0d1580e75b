use core::fmt;
use std::boxed::Box;
use std::io;
use std::path::PathBuf;

use super::owner::ForeignFile;
use crate::storage::StorageError;
use crate::types::Lsn;
use crate::wal::HistoryError;

/// An operation on an archive failed, or was refused so that no WAL is lost.
///
/// Display gives the operation, the file and, if there is one, a remedy; `source()` gives the system's error.
#[derive(Debug)]
#[non_exhaustive]
pub enum ArchiveError {
    /// The system refused an operation on a file or directory, or the directory is locked.
    Storage(StorageError),
    /// The file exists and has other content than was received: two clusters in one archive, or damage.
    Conflict {
        /// The file, which was left as it is.
        path: PathBuf,
    },
    /// A file with a segment's name is of another cluster, or not known to be of this one.
    Foreign(Box<ForeignFile>),
    /// Another process removed, replaced or cut a file while it was written. It has to be written again.
    Changed {
        /// The file.
        path: PathBuf,
    },
    /// A timeline history of the archive cannot be read.
    History {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: HistoryError,
    },
    /// The archive's state file cannot be understood.
    State {
        /// The file.
        path: PathBuf,
        /// The line, from 1, at which it is not what was written there.
        line: usize,
    },
    /// There is less space left than is to stay free.
    LowSpace {
        /// The directory.
        path: PathBuf,
        /// What is free, in bytes.
        free: u64,
        /// What is needed: what has to stay free, and the next segment.
        needed: u64,
    },
    /// A compressed file is damaged, cut off, or holds more than it should.
    Decompress {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: io::Error,
    },
    /// A segment was to be begun whose size is not that of the archive's segments.
    OtherSegmentSize {
        /// The segment's file.
        path: PathBuf,
    },
    /// Bytes were offered for another position than the segment's next one.
    Misplaced {
        /// The segment's file.
        path: PathBuf,
        /// The position that comes next.
        expected: Lsn,
        /// The position of the bytes.
        actual: Lsn,
    },
    /// A segment was to be finished before all its bytes had come.
    Incomplete {
        /// The segment's file.
        path: PathBuf,
        /// The position up to which it is filled.
        end: Lsn,
    },
}

impl ArchiveError {
    /// Whether data could not be made durable.
    ///
    /// After it, what was written is in doubt for ever: acknowledge nothing, call nothing again on that file,
    /// and end the process. A new one fetches the segment again from its start.
    #[must_use]
    pub const fn is_fsync_failure(&self) -> bool {
        matches!(self, Self::Storage(StorageError::Fsync { .. }))
    }

    /// Whether the disk or the quota is full, or only the space that is to stay free is left: the same call may
    /// succeed later.
    #[must_use]
    pub fn is_out_of_space(&self) -> bool {
        match self {
            Self::Storage(error) => error.is_out_of_space(),
            Self::LowSpace { .. } => true,
            _ => false,
        }
    }

    /// Whether the archive refused so that WAL is not lost or mixed, rather than being unable.
    #[must_use]
    pub const fn is_refusal(&self) -> bool {
        matches!(self, Self::Storage(StorageError::Locked { .. }) | Self::Conflict { .. } | Self::Foreign(_))
    }
}

impl fmt::Display for ArchiveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Storage(error @ StorageError::Locked { .. }) => write!(f, "archive {error}"),
            Self::Storage(error @ StorageError::Fsync { .. }) => {
                write!(f, "{error} and will be fetched again by a new process")
            }
            Self::Storage(error) => error.fmt(f),
            Self::Changed { path } => write!(
                f,
                "somebody else removed, replaced or cut \"{}\" while it was written; it is to be written anew",
                path.display()
            ),
            Self::Conflict { path } => write!(
                f,
                "\"{}\" exists with other content than the server sent; if it is damaged or of another cluster, \
                 move it away",
                path.display()
            ),
            Self::Foreign(file) => {
                write!(f, "{file}; it is left as it is: move it away if it does not belong here")
            }
            Self::History { path, .. } => write!(
                f,
                "could not understand \"{}\"; if it is damaged, move it away to have it fetched again",
                path.display()
            ),
            Self::State { path, line } => write!(
                f,
                "could not understand line {line} of \"{}\"; if it is damaged, move it away: the segments \
                 themselves tell nearly all of it",
                path.display()
            ),
            Self::LowSpace { path, free, needed } => write!(
                f,
                "\"{}\" has {free} bytes left, and {needed} are needed for the next segment and to stay free; \
                 free some space there",
                path.display()
            ),
            Self::Decompress { path, .. } => {
                write!(f, "could not decompress \"{}\"; if it is damaged, move it away", path.display())
            }
            Self::OtherSegmentSize { path } => {
                write!(f, "\"{}\" is not of the archive's segment size", path.display())
            }
            Self::Misplaced { path, expected, actual } => write!(
                f,
                "bytes at {actual} were to be written to \"{}\", which goes on at {expected}",
                path.display()
            ),
            Self::Incomplete { path, end } => {
                write!(f, "\"{}\" is filled up to {end} only and cannot be finished", path.display())
            }
        }
    }
}

impl core::error::Error for ArchiveError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Storage(error) => error.source(),
            Self::Decompress { source, .. } => Some(source),
            Self::History { source, .. } => Some(source),
            Self::Changed { .. }
            | Self::Conflict { .. }
            | Self::Foreign(_)
            | Self::State { .. }
            | Self::LowSpace { .. }
            | Self::OtherSegmentSize { .. }
            | Self::Misplaced { .. }
            | Self::Incomplete { .. } => None,
        }
    }
}

impl From<StorageError> for ArchiveError {
    fn from(error: StorageError) -> Self {
        Self::Storage(error)
    }
}

/// The system refused `operation` on `path`.
pub(crate) fn io_error(operation: &'static str, path: PathBuf, source: impl Into<io::Error>) -> ArchiveError {
    StorageError::io(operation, path, source).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::prelude::v1::*;

    #[test]
    fn a_storage_error_says_what_it_means_for_the_archive() {
        let locked = StorageError::Locked { path: "/wal".into(), holder: Some(7) };
        assert_eq!(ArchiveError::from(locked).to_string(), "archive \"/wal\" is in use by process 7");
        let fsync = StorageError::Fsync { path: "/wal/a".into(), source: None };
        assert_eq!(
            ArchiveError::from(fsync).to_string(),
            "could not fsync \"/wal/a\"; what was written to it is in doubt and will be fetched again by a new process"
        );
    }
}
