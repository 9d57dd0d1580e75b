//! Files on their way from an archive to where they are wanted.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::vec;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, Ordering};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::archive::io_error;
use crate::archive::{FetchError, Fetched, FileDamage, SegmentReader};
use crate::compression::Compression;
use crate::storage::{Directory, Entry};

/// A file beside its destination, which has to be renamed to it. If it is dropped before, it is removed.
#[derive(Debug)]
pub(super) struct Staged {
    source: PathBuf,
    pub(super) file: File,
    pub(super) path: PathBuf,
    destination: PathBuf,
    /// Its size in bytes, uncompressed.
    pub(super) len: u64,
    /// Its bytes up to the last that is not zero.
    pub(super) content: u64,
    pub(super) is_partial: bool,
}

/// Copies a file to where it can be renamed to `destination` from; `None` if the archive does not have it.
pub(super) fn stage(
    archive: &Directory,
    name: &str,
    compression: Compression,
    limit: u64,
    destination: &Path,
) -> Result<Option<Staged>, FetchError> {
    let source = archive.path_of(name);
    let stored = match archive.entry(name)? {
        None => return Ok(None),
        Some(Entry::Other) => {
            return Err(FetchError::Damaged { path: source, damage: FileDamage::NotAFile });
        }
        Some(Entry::File(_)) => match archive.open_file(name) {
            // A receiver may rename it at any moment.
            Err(error) if error.is_not_found() => return Ok(None),
            opened => opened?,
        },
    };
    let path = beside(destination);
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).mode(0o600).open(&path);
    let file = file.map_err(|source| FetchError::Destination { path: path.clone(), source })?;
    let destination = destination.to_owned();
    let mut staged = Staged { source, file, path, destination, len: 0, content: 0, is_partial: false };
    staged.fill(stored, compression, name.ends_with(".partial"), limit)?;
    Ok(Some(staged))
}

/// A name in the same directory that nobody else has.
fn beside(destination: &Path) -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let mut name = destination.as_os_str().to_owned();
    name.push(format!(".{}-{}.tmp", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed)));
    name.into()
}

impl Staged {
    /// Copies what is stored, no further than one byte beyond `limit`.
    fn fill(
        &mut self,
        stored: File,
        compression: Compression,
        may_break_off: bool,
        limit: u64,
    ) -> Result<(), FetchError> {
        let mut chunk = vec![0; 128 * 1024];
        // One byte more tells that it is too long.
        let reader = SegmentReader::new(stored, self.source.clone(), compression, u64::MAX)?;
        let mut reader = reader.take(limit + 1);
        loop {
            let n = match reader.read(&mut chunk) {
                Ok(0) => return Ok(()),
                Ok(n) => n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if compression != Compression::None && is_about_content(&error) => {
                    // A partial file has no end of its own.
                    return if may_break_off { Ok(()) } else { Err(self.damaged(FileDamage::Compression)) };
                }
                Err(error) => return Err(self.unreadable(error)),
            };
            let bytes = chunk.get(..n).unwrap_or_default();
            if let Some(last) = bytes.iter().rposition(|&byte| byte != 0) {
                self.content = self.len + last as u64 + 1;
            }
            self.len += n as u64;
            self.file.write_all(bytes).map_err(|source| self.failed(source))?;
        }
    }

    /// Makes it durable and gives it its name.
    pub(super) fn deliver(self, passed_over: Vec<FetchError>) -> Result<Fetched, FetchError> {
        let parent = match self.destination.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        };
        self.file
            .sync_all()
            .and_then(|()| fs::rename(&self.path, &self.destination))
            .and_then(|()| File::open(parent)?.sync_all())
            .map_err(|source| FetchError::Destination { path: self.destination.clone(), source })?;
        let partial = self.is_partial.then_some(self.content);
        Ok(Fetched { source: self.source.clone(), partial, passed_over })
    }

    pub(super) fn damaged(&self, damage: FileDamage) -> FetchError {
        FetchError::Damaged { path: self.source.clone(), damage }
    }

    fn unreadable(&self, source: io::Error) -> FetchError {
        io_error("read", self.source.clone(), source).into()
    }

    pub(super) fn failed(&self, source: io::Error) -> FetchError {
        FetchError::Destination { path: self.path.clone(), source }
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        // It is not there any more if it was delivered.
        let _ = fs::remove_file(&self.path);
    }
}

/// Whether the bytes are wrong, rather than the disk.
fn is_about_content(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidData, InvalidInput, Other, UnexpectedEof};
    matches!(error.kind(), InvalidData | InvalidInput | Other | UnexpectedEof)
}
