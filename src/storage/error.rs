use core::fmt;
use std::io;
use std::path::PathBuf;

/// An operation on a file or directory failed.
///
/// Display gives the operation, the file and, if there is one, a remedy; `source()` gives the system's error.
#[derive(Debug)]
#[non_exhaustive]
pub enum StorageError {
    /// The system refused an operation on a file or directory.
    Io {
        /// What was to be done, as in "could not OPERATION PATH".
        operation: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// The system could not make data durable. What was written since the last success may be lost although a
    /// second attempt would report success, so there is none: the process has to stop, and a new one writes the
    /// data again from what it can prove.
    Fsync {
        /// The file or directory.
        path: PathBuf,
        /// The system's answer; none if an earlier failure of the same file is reported again.
        source: Option<io::Error>,
    },
    /// A name that was to be written to is no regular file but a symbolic link, directory, pipe, device, ...
    NotAFile {
        /// What was left as it is.
        path: PathBuf,
    },
    /// Another process has locked the directory.
    Locked {
        /// The directory.
        path: PathBuf,
        /// The other process, if the system says.
        holder: Option<u32>,
    },
    /// The file system has no locks, as some network file systems.
    LockUnsupported {
        /// The directory.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
}

impl StorageError {
    /// The system refused `operation` on `path`, as in "could not OPERATION PATH".
    pub fn io(operation: &'static str, path: PathBuf, source: impl Into<io::Error>) -> Self {
        Self::Io { operation, path, source: source.into() }
    }

    /// Whether the disk or the quota is full: the same call may succeed later.
    #[must_use]
    pub fn is_out_of_space(&self) -> bool {
        matches!(self, Self::Io { source, .. } if is_full(source))
    }

    /// Whether the file or directory does not exist.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}

impl fmt::Display for StorageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { operation, path, source } => {
                write!(f, "could not {operation} \"{}\"", path.display())?;
                f.write_str(match source.kind() {
                    _ if is_full(source) => "; free some space there",
                    io::ErrorKind::PermissionDenied => "; the user of this process needs access to it",
                    _ => "",
                })
            }
            Self::Fsync { path, .. } => {
                write!(f, "could not fsync \"{}\"; what was written to it is in doubt", path.display())
            }
            Self::NotAFile { path } => {
                write!(f, "\"{}\" is not a regular file and is left alone", path.display())
            }
            Self::Locked { path, holder } => {
                write!(f, "\"{}\" is in use by ", path.display())?;
                match holder {
                    Some(pid) => write!(f, "process {pid}"),
                    None => f.write_str("another process"),
                }
            }
            Self::LockUnsupported { path, .. } => {
                write!(f, "the file system of \"{}\" cannot lock it", path.display())
            }
        }
    }
}

impl core::error::Error for StorageError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } | Self::LockUnsupported { source, .. } => Some(source),
            Self::Fsync { source, .. } => source.as_ref().map(|source| source as _),
            Self::NotAFile { .. } | Self::Locked { .. } => None,
        }
    }
}

/// The system's answer alone, for a caller that names the file itself.
impl From<StorageError> for io::Error {
    fn from(error: StorageError) -> Self {
        match error {
            StorageError::Io { source, .. }
            | StorageError::LockUnsupported { source, .. }
            | StorageError::Fsync { source: Some(source), .. } => source,
            other => Self::other(other),
        }
    }
}

/// Whether the error means that the disk or the quota is full.
fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
