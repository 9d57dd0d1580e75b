use core::fmt;
use std::io;
use std::path::PathBuf;
use std::prelude::v1::*;

use crate::archive::ArchiveError;
use crate::storage::StorageError;

/// Why a file could not be fetched although an archive may have it.
#[derive(Debug)]
#[non_exhaustive]
pub enum FetchError {
    /// Recovery never asks for such a name: it is that of no segment, timeline history or backup history.
    Name(String),
    /// An archive cannot be read.
    Archive(ArchiveError),
    /// A file is not what its name says.
    Damaged {
        /// The archive's file.
        path: PathBuf,
        /// What is wrong with it.
        damage: FileDamage,
    },
    /// The content could not be written to the output of [`Fetcher::fetch_into`](super::Fetcher::fetch_into).
    Output(io::Error),
    /// The file could not be written to where it is wanted.
    Destination {
        /// The file that was written.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
}

/// Why a file of an archive is not handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FileDamage {
    /// It is a directory, socket, ...
    NotAFile,
    /// It is a symbolic link to something that is not there, for example on a disk that is not mounted.
    BrokenLink,
    /// Its name is that of the wanted file with something behind it that is not known: another compression, or a copy
    /// in the making.
    UnknownForm,
    /// The first page has no header of a segment.
    Header,
    /// The first page is that of another segment.
    OtherSegment,
    /// It has another size than its first page says.
    Size {
        /// What it has, uncompressed, in bytes.
        actual: u64,
        /// What the cluster's segments have, in bytes.
        expected: u64,
    },
    /// It is partial although the archive has later segments of its timeline: there is a hole.
    Hole,
    /// It cannot be decompressed.
    Compression,
    /// It is no timeline history.
    History,
}

impl fmt::Display for FetchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => write!(f, "{name:?} is not the name of a WAL file"),
            Self::Archive(error) => error.fmt(f),
            Self::Damaged { path, damage } => write!(f, "\"{}\" {damage}", path.display()),
            Self::Output(_) => f.write_str("could not write the file's content to the output"),
            Self::Destination { path, .. } => write!(f, "could not write \"{}\"", path.display()),
        }
    }
}

impl core::error::Error for FetchError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Archive(error) => error.source(),
            Self::Output(source) | Self::Destination { source, .. } => Some(source),
            Self::Name(_) | Self::Damaged { .. } => None,
        }
    }
}

impl From<StorageError> for FetchError {
    fn from(error: StorageError) -> Self {
        Self::Archive(error.into())
    }
}

impl From<ArchiveError> for FetchError {
    fn from(error: ArchiveError) -> Self {
        Self::Archive(error)
    }
}

impl fmt::Display for FileDamage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAFile => f.write_str("is not a file"),
            Self::BrokenLink => f.write_str("is a symbolic link to something that is not there"),
            Self::UnknownForm => f.write_str(
                "may be the wanted file in a form that cannot be read, or an unfinished copy of it",
            ),
            Self::Header => f.write_str("does not begin as a WAL segment does"),
            Self::OtherSegment => f.write_str("is another segment than its name says"),
            Self::Size { actual, expected } => write!(f, "has {actual} bytes instead of {expected}"),
            Self::Hole => f.write_str("is partial, but there are later segments of its timeline"),
            Self::Compression => f.write_str("cannot be decompressed"),
            Self::History => f.write_str("is not a timeline history"),
        }
    }
}
