//! Files on their way from an archive to their destination.

use core::cell::OnceCell;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::prelude::v1::*;
use std::vec;

use crate::archive::io_error;
use crate::archive::scan::READ_LEN;
use crate::archive::{FetchError, Fetched, FileDamage, SegmentReader};
use crate::compression::Compression;
use crate::storage::{Directory, Entry, NewFile};

/// Where a file is wanted. Its directory is opened when there is a file for it.
#[derive(Debug)]
pub(super) struct Destination<'a> {
    path: &'a Path,
    /// Whether the file is to get the name. Otherwise it never has one, and its content is copied.
    is_named: bool,
    opened: OnceCell<(Directory, &'a OsStr)>,
}

impl<'a> Destination<'a> {
    pub(super) fn new(path: &'a Path) -> Self {
        Self { path, is_named: true, opened: OnceCell::new() }
    }

    /// For a file without a name, in the directory of `path`.
    pub(super) fn unnamed(path: &'a Path) -> Self {
        Self { is_named: false, ..Self::new(path) }
    }

    /// Begins to make the file, beside what is there.
    fn begin(&self) -> Result<Copy<'_>, FetchError> {
        let new = self.new_file()?;
        match self.is_named {
            true => Ok(Copy::Named(new)),
            false => new.into_unnamed().map(Copy::Unnamed).map_err(|error| self.failed(error)),
        }
    }

    fn new_file(&self) -> Result<NewFile<'_>, FetchError> {
        let (directory, name) = match self.opened.get() {
            Some(opened) => opened,
            None => {
                let (directory, name) = Directory::of_file(self.path).map_err(|error| self.failed(error))?;
                // A file that cannot be removed does no harm.
                let _ = directory.remove_left_over(|left| Some(left) == name.to_str());
                self.opened.get_or_init(|| (directory, name))
            }
        };
        directory.new_file(name, 0o600).map_err(|error| self.failed(error))
    }

    fn failed(&self, source: impl Into<io::Error>) -> FetchError {
        FetchError::Destination { path: self.path.to_owned(), source: source.into() }
    }
}

/// A copy in the making.
#[derive(Debug)]
enum Copy<'a> {
    Named(NewFile<'a>),
    Unnamed(File),
}

/// A copy beside its destination, not there yet.
#[derive(Debug)]
pub(super) struct Staged<'a> {
    source: PathBuf,
    new: Copy<'a>,
    destination: &'a Destination<'a>,
    /// Its size in bytes, uncompressed.
    pub(super) len: u64,
    /// The bytes up to the last one that is not zero.
    pub(super) content: u64,
    pub(super) is_partial: bool,
}

/// Copies a file to where it can be renamed to `destination` from; `None` if the archive does not have it.
pub(super) fn stage<'a>(
    archive: &Directory,
    name: &str,
    compression: Compression,
    limit: u64,
    destination: &'a Destination<'a>,
) -> Result<Option<Staged<'a>>, FetchError> {
    let source = archive.path_of(name);
    let stored = match archive.entry(name)? {
        None => return Ok(None),
        Some(Entry::Other) => {
            return Err(FetchError::Damaged { path: source, damage: FileDamage::NotAFile });
        }
        Some(Entry::BrokenLink) => {
            return Err(FetchError::Damaged { path: source, damage: FileDamage::BrokenLink });
        }
        Some(Entry::File(_)) => match archive.open_file(name) {
            // A receiver may rename it at any moment.
            Err(error) if error.is_not_found() => return Ok(None),
            opened => opened?,
        },
    };
    let new = destination.begin()?;
    let mut staged = Staged { source, new, destination, len: 0, content: 0, is_partial: false };
    staged.fill(stored, compression, name.ends_with(".partial"), limit)?;
    Ok(Some(staged))
}

impl Staged<'_> {
    pub(super) fn file(&self) -> &File {
        match &self.new {
            Copy::Named(new) => new.file(),
            Copy::Unnamed(file) => file,
        }
    }

    /// Copies what is stored, no further than one byte beyond `limit`.
    fn fill(
        &mut self,
        stored: File,
        compression: Compression,
        may_break_off: bool,
        limit: u64,
    ) -> Result<(), FetchError> {
        let mut chunk = vec![0; READ_LEN];
        // One byte more shows that the file is too long.
        let reader = SegmentReader::new(stored, self.source.clone(), compression, u64::MAX);
        let mut reader = reader.take(limit + 1);
        loop {
            let n = match reader.read(&mut chunk) {
                Ok(0) => return Ok(()),
                Ok(n) => n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if compression != Compression::None && is_about_content(&error) => {
                    // A partial file has no end of its own, but a beginning.
                    let is_partial = may_break_off && (self.len > 0 || is_end(&error));
                    return if is_partial { Ok(()) } else { Err(self.damaged(FileDamage::Compression)) };
                }
                Err(error) => return Err(self.unreadable(error)),
            };
            let bytes = chunk.get(..n).unwrap_or_default();
            if let Some(last) = bytes.iter().rposition(|&byte| byte != 0) {
                self.content = self.len + last as u64 + 1;
            }
            self.len += n as u64;
            self.file().write_all(bytes).map_err(|source| self.failed(source))?;
        }
    }

    /// Appends zeros up to this length.
    pub(super) fn fill_up(&mut self, len: u64) -> Result<(), FetchError> {
        self.file().set_len(len).map_err(|source| self.failed(source))?;
        self.len = len;
        Ok(())
    }

    /// What was copied.
    pub(super) fn read(&self) -> io::Result<Vec<u8>> {
        let mut content = vec![0; usize::try_from(self.len).unwrap_or(usize::MAX)];
        self.file().read_exact_at(&mut content, 0).map(|()| content)
    }

    /// Makes it durable and gives it its name, if it is to have one.
    pub(super) fn deliver(self, passed_over: Vec<FetchError>) -> Result<Fetched, FetchError> {
        let partial = self.is_partial.then_some(self.content);
        if let Copy::Named(new) = self.new {
            new.commit().map_err(|error| self.destination.failed(error))?;
        }
        Ok(Fetched { source: self.source, partial, passed_over })
    }

    /// Writes the content to `out`.
    pub(super) fn copy_to(&self, out: &mut dyn Write) -> Result<(), FetchError> {
        let mut chunk = vec![0; READ_LEN];
        let mut at = 0;
        while at < self.len {
            let n = usize::try_from(self.len - at).map_or(READ_LEN, |left| left.min(READ_LEN));
            let bytes = chunk.get_mut(..n).unwrap_or_default();
            self.file().read_exact_at(bytes, at).map_err(|source| self.failed(source))?;
            out.write_all(bytes).map_err(FetchError::Output)?;
            at += n as u64;
        }
        out.flush().map_err(FetchError::Output)
    }

    pub(super) fn damaged(&self, damage: FileDamage) -> FetchError {
        FetchError::Damaged { path: self.source.clone(), damage }
    }

    fn unreadable(&self, source: io::Error) -> FetchError {
        io_error("read", self.source.clone(), source).into()
    }

    pub(super) fn failed(&self, source: io::Error) -> FetchError {
        self.destination.failed(source)
    }
}

/// Whether the file is too short, rather than wrong.
fn is_end(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::UnexpectedEof
}

/// Whether the bytes are wrong, rather than the disk.
fn is_about_content(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidData, InvalidInput, Other, UnexpectedEof};
    matches!(error.kind(), InvalidData | InvalidInput | Other | UnexpectedEof)
}
