use alloc::borrow::ToOwned;
use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use super::{FileStatus, StorageError};

/// Ends the name of a file that is renamed once it is complete.
pub const TEMPORARY: &str = ".tmp";

/// A directory, held open: every file of an archive is reached through it.
///
/// So the lock, the files and the directory that is synced are always of one directory, also after another one
/// took over the path.
#[derive(Debug)]
pub struct Directory {
    file: File,
    path: PathBuf,
}

/// What a name in a directory leads to.
pub enum Entry {
    /// A regular file of this many bytes.
    File(u64),
    /// A directory, socket, ...
    Other,
}

impl Directory {
    /// What [`StorageError::Io`] calls the opening of the directory itself.
    pub const OPEN: &str = "open directory";

    /// Opens the directory at `path`; a symbolic link is followed.
    ///
    /// # Errors
    /// If it cannot be opened, or is no directory.
    pub fn open(path: &Path) -> Result<Self, StorageError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let file = rustix::fs::open(path, flags, Mode::empty())
            .map_err(|source| StorageError::io(Self::OPEN, path.to_owned(), source))?;
        Ok(Self { file: file.into(), path: path.to_owned() })
    }

    /// The path that it was opened with.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// That path with a name in it, for messages.
    #[must_use]
    pub fn path_of(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Calls `each` with every name but `.`, `..` and those that are not UTF-8, which no file of an archive
    /// has.
    pub fn for_each_name(&self, mut each: impl FnMut(&str)) -> Result<(), StorageError> {
        let err = |source| StorageError::io("list directory", self.path.clone(), source);
        for entry in rustix::fs::Dir::read_from(&self.file).map_err(err)? {
            match entry.map_err(err)?.file_name().to_str() {
                Ok("." | "..") | Err(_) => {}
                Ok(name) => each(name),
            }
        }
        Ok(())
    }

    /// What `name` leads to, through symbolic links; `None` if nothing has that name.
    pub fn entry(&self, name: &str) -> Result<Option<Entry>, StorageError> {
        let status = self.status(name)?;
        Ok(status.map(|status| if status.is_file { Entry::File(status.len) } else { Entry::Other }))
    }

    /// As [`Directory::entry`], with which file it is.
    pub fn status(&self, name: &str) -> Result<Option<FileStatus>, StorageError> {
        FileStatus::of_name(&self.file, name)
            .map_err(|source| StorageError::io("look up", self.path_of(name), source))
    }

    /// Opens an existing file for reading.
    pub fn open_file(&self, name: &str) -> Result<File, StorageError> {
        self.open_with(name, OFlags::RDONLY, Mode::empty())
    }

    /// Opens a file for reading and writing, and makes it with `mode` if it does not exist.
    pub fn create_file(&self, name: &str, mode: u32) -> Result<File, StorageError> {
        self.open_with(name, OFlags::RDWR | OFlags::CREATE, Mode::from_raw_mode(mode))
    }

    fn open_with(&self, name: &str, flags: OFlags, mode: Mode) -> Result<File, StorageError> {
        // A pipe in a file's place would be waited for. Files and directories do not mind.
        let flags = flags | OFlags::CLOEXEC | OFlags::NONBLOCK;
        rustix::fs::openat(&self.file, name, flags, mode)
            .map(File::from)
            .map_err(|source| StorageError::io("open", self.path_of(name), source))
    }

    /// Replaces a file, or makes it with `mode`; it has all of `bytes`, durably, or is as it was. What a crash leaves
    /// is a temporary file, which is written over.
    pub fn replace(&self, name: &str, bytes: &[u8], mode: u32) -> Result<(), StorageError> {
        let temporary = alloc::format!("{name}{TEMPORARY}");
        let path = self.path_of(&temporary);
        let mut file = self.create_file(&temporary, mode)?;
        file.set_len(0)
            .and_then(|()| file.write_all(bytes))
            .map_err(|source| StorageError::io("write", path.clone(), source))?;
        file.sync_all().map_err(|source| StorageError::Fsync { path, source: Some(source) })?;
        self.rename(&temporary, name)
    }

    /// Renames a file of this directory; the names are durable when this returns.
    pub fn rename(&self, from: &str, to: &str) -> Result<(), StorageError> {
        rustix::fs::renameat(&self.file, from, &self.file, to)
            .map_err(|source| StorageError::io("rename", self.path_of(from), source))?;
        self.sync()
    }

    /// Removes a file, if it is there; durable with the next [`Directory::sync`].
    pub fn remove(&self, name: &str) -> Result<(), StorageError> {
        match rustix::fs::unlinkat(&self.file, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(source) => Err(StorageError::io("remove", self.path_of(name), source)),
        }
    }

    /// How many bytes of its file system are free for this user.
    pub fn free_bytes(&self) -> Result<u64, StorageError> {
        let stat = rustix::fs::fstatvfs(&self.file)
            .map_err(|source| StorageError::io("ask for the free space of", self.path.clone(), source))?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    /// Makes the names in it durable.
    pub fn sync(&self) -> Result<(), StorageError> {
        match rustix::fs::fsync(&self.file) {
            // Some file systems keep their directories by themselves and refuse this.
            Ok(()) | Err(Errno::INVAL | Errno::BADF) => Ok(()),
            Err(source) => Err(StorageError::Fsync { path: self.path.clone(), source: Some(source.into()) }),
        }
    }

    /// Makes the content of a file durable, whoever wrote it.
    pub fn sync_file(&self, name: &str) -> Result<(), StorageError> {
        let synced = self.open_file(name)?.sync_all();
        synced.map_err(|source| StorageError::Fsync { path: self.path_of(name), source: Some(source) })
    }

    /// Locks the directory itself, so that no lock file lies in it, until the returned file is closed.
    pub fn lock(&self) -> Result<File, StorageError> {
        // A lock belongs to one opening of a file, and so has to be on one of its own to end with its guard.
        let file = self.open_with(".", OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(file),
            Err(Errno::WOULDBLOCK) => {
                Err(StorageError::Locked { path: self.path.clone(), holder: lock_holder(&file) })
            }
            // NFS and some others map flock to locks of file ranges, which directories do not have.
            Err(source @ (Errno::BADF | Errno::INVAL | Errno::NOLCK | Errno::OPNOTSUPP | Errno::NOSYS)) => {
                Err(StorageError::LockUnsupported { path: self.path.clone(), source: source.into() })
            }
            Err(source) => Err(StorageError::io("lock directory", self.path.clone(), source)),
        }
    }
}

/// The process that holds a flock on `file`, as far as this process may see it.
fn lock_holder(file: &File) -> Option<u32> {
    let metadata = file.metadata().ok()?;
    let (major, minor) = (rustix::fs::major(metadata.dev()), rustix::fs::minor(metadata.dev()));
    let locks = std::fs::read_to_string("/proc/locks").ok()?;
    find_lock_holder(&locks, &alloc::format!("{major:02x}:{minor:02x}:{}", metadata.ino()))
}

/// The process that holds a flock on `inode`, in the text of `/proc/locks`:
/// `2: FLOCK  ADVISORY  WRITE 1234 08:01:131 0 EOF`, with an arrow after the number for those that wait.
fn find_lock_holder(locks: &str, inode: &str) -> Option<u32> {
    locks.lines().find_map(|line| {
        let mut words = line.split_whitespace().skip(1);
        let (kind, pid, file) = (words.next()?, words.nth(2)?, words.next()?);
        // A holder outside of this process's PID namespace is shown as 0 or -1.
        (kind == "FLOCK" && file == inode).then(|| pid.parse().ok().filter(|&pid| pid > 0))?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_holder_of_a_lock_is_found_among_others() {
        let locks = "1: POSIX  ADVISORY  WRITE 11 fe:00:131 0 EOF\n\
                     2: FLOCK  ADVISORY  WRITE 12 fe:00:132 0 EOF\n\
                     3: FLOCK  ADVISORY  WRITE 13 fe:00:131 0 EOF\n\
                     3: -> FLOCK  ADVISORY  WRITE 14 fe:00:131 0 EOF\n\
                     4: FLOCK  ADVISORY  WRITE 0 fe:00:133 0 EOF\n";
        assert_eq!(find_lock_holder(locks, "fe:00:131"), Some(13));
        assert_eq!(find_lock_holder(locks, "fe:00:133"), None);
        assert_eq!(find_lock_holder(locks, "fe:00:13"), None);
        assert_eq!(find_lock_holder("nonsense\n\n", "fe:00:131"), None);
    }
}
