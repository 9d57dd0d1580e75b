use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::prelude::v1::*;

use rustix::fs::{AtFlags, FileType, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use super::{FileStatus, NewFile, StorageError};

/// A directory, held open: its files are reached through it.
///
/// The lock, the files and the syncs therefore always concern the same directory, even after another one has taken its
/// path.
#[derive(Debug)]
pub struct Directory {
    file: File,
    path: PathBuf,
}

/// What a name in a directory stands for.
pub enum Entry {
    /// A regular file of this many bytes.
    File(u64),
    /// A directory, socket, ...
    Other,
    /// A symbolic link to something that is not there. Where that is, a file may exist: on a disk that is not mounted.
    BrokenLink,
}

impl Directory {
    /// The operation in [`StorageError::Io`] when the directory itself cannot be opened.
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

    /// Opens the directory in which `path` names a file, which need not exist; the name comes with it.
    ///
    /// # Errors
    /// If it cannot be opened, or the path is that of a directory by its end: `a/`, `..`.
    pub fn of_file(path: &Path) -> Result<(Self, &OsStr), StorageError> {
        // `file_name` passes over a slash at the end, and `/.`; to the system both make the path that of a directory.
        let name = path.file_name().filter(|name| path.as_os_str().as_bytes().ends_with(name.as_bytes()));
        let Some(name) = name else {
            return Err(StorageError::io("write", path.to_owned(), Errno::ISDIR));
        };
        let parent = match path.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        };
        Ok((Self::open(parent)?, name))
    }

    /// The path that it was opened with.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The path of a name in it, for messages.
    #[must_use]
    pub fn path_of(&self, name: impl AsRef<Path>) -> PathBuf {
        self.path.join(name)
    }

    /// Calls `each` with every name but `.`, `..` and those that are not UTF-8.
    pub fn for_each_name(&self, mut each: impl FnMut(&str)) -> Result<(), StorageError> {
        self.for_each_raw_name(|name| {
            if let Ok(name) = core::str::from_utf8(name) {
                each(name);
            }
        })
    }

    /// Calls `each` with every name but `.` and `..`, as its bytes.
    pub fn for_each_raw_name(&self, mut each: impl FnMut(&[u8])) -> Result<(), StorageError> {
        let err = |source| StorageError::io("list directory", self.path.clone(), source);
        for entry in rustix::fs::Dir::read_from(&self.file).map_err(err)? {
            match entry.map_err(err)?.file_name().to_bytes() {
                b"." | b".." => {}
                name => each(name),
            }
        }
        Ok(())
    }

    /// What `name` stands for; symbolic links are followed. `None` if surely nothing has the name.
    pub fn entry(&self, name: &str) -> Result<Option<Entry>, StorageError> {
        let of_file =
            |status: FileStatus| if status.is_file { Entry::File(status.len) } else { Entry::Other };
        if let Some(status) = self.status(name)? {
            return Ok(Some(of_file(status)));
        }
        let link = self.status_of_link(name)?;
        // What is a regular file now was made between the two looks.
        Ok(link.map(|status| if status.is_file { of_file(status) } else { Entry::BrokenLink }))
    }

    /// Like [`Directory::entry`], and also tells files apart.
    pub fn status(&self, name: &str) -> Result<Option<FileStatus>, StorageError> {
        FileStatus::of_name(&self.file, name)
            .map_err(|source| StorageError::io("look up", self.path_of(name), source))
    }

    /// Opens an existing file for reading.
    pub fn open_file(&self, name: &str) -> Result<File, StorageError> {
        self.open_with(name, OFlags::RDONLY, Mode::empty())
    }

    /// Opens a file for reading and writing, and makes it with `mode` if it does not exist. A file with other names, by
    /// hard links, is replaced by a copy first: what has the other names, such as a snapshot made by `cp -al`, stays as
    /// it is.
    ///
    /// # Errors
    /// [`StorageError::NotAFile`] for a symbolic link, which is not followed, and for everything else that is no
    /// regular file: nothing is written to it, and nothing waits for it.
    pub fn open_or_create(&self, name: &str, mode: u32) -> Result<File, StorageError> {
        // Checked before opening, as opening a device can have an effect, and again afterwards.
        if let Some(status) = self.status_of_link(name)?
            && !status.is_file
        {
            return Err(StorageError::NotAFile { path: self.path_of(name) });
        }
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW;
        let file = self.check_is_file(name, self.open_with(name, flags, Mode::from_raw_mode(mode)))?;
        if !self.has_other_names(name, &file)? {
            return Ok(file);
        }
        let copy = self.new_file(name, mode)?;
        io::copy(&mut &file, &mut copy.file())
            .map_err(|source| StorageError::io("copy", self.path_of(name), source))?;
        copy.commit()?;
        let file = self.check_is_file(name, self.open_with(name, flags, Mode::from_raw_mode(mode)))?;
        match self.has_other_names(name, &file)? {
            false => Ok(file),
            // Another process makes links meanwhile.
            true => Err(StorageError::NotAFile { path: self.path_of(name) }),
        }
    }

    fn has_other_names(&self, name: &str, file: &File) -> Result<bool, StorageError> {
        let status = FileStatus::of(file);
        let status = status.map_err(|source| StorageError::io("look up", self.path_of(name), source))?;
        Ok(status.has_other_names)
    }

    /// Checks that a new file may take the name `name`: it has none, or that of a regular file. A rename would put the
    /// new file in the place of a device, pipe, socket or link as well: as root, of `/dev/full` or `/dev/stdout`.
    ///
    /// # Errors
    /// [`StorageError::NotAFile`], also for a symbolic link, wherever it leads.
    pub fn check_replaceable(&self, name: impl AsRef<OsStr>) -> Result<(), StorageError> {
        let name = name.as_ref();
        // The new file cannot be made either where nothing can be looked up.
        match rustix::fs::statat(&self.file, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(existing) if FileType::from_raw_mode(existing.st_mode) != FileType::RegularFile => {
                Err(StorageError::NotAFile { path: self.path_of(name) })
            }
            _ => Ok(()),
        }
    }

    /// Opens an existing regular file for reading and writing.
    pub(super) fn open_existing(&self, name: &str) -> Result<File, StorageError> {
        self.check_is_file(name, self.open_with(name, OFlags::RDWR | OFlags::NOFOLLOW, Mode::empty()))
    }

    /// Makes a file that does not exist yet, for reading and writing, under its own name. What is to have its name
    /// only when it is complete is a [`NewFile`].
    pub fn create_new(&self, name: &str, mode: u32) -> Result<File, StorageError> {
        self.open_with(name, OFlags::RDWR | OFlags::CREATE | OFlags::EXCL, Mode::from_raw_mode(mode))
    }

    /// Begins to make the file `name`, with `mode`. It gets the name when it is complete.
    ///
    /// # Errors
    /// If no file can be made.
    pub fn new_file(&self, name: impl AsRef<OsStr>, mode: u32) -> Result<NewFile<'_>, StorageError> {
        NewFile::create(self, name.as_ref(), mode)
    }

    /// As [`Directory::status`] of the name itself: a symbolic link is not followed, and is no file.
    fn status_of_link(&self, name: &str) -> Result<Option<FileStatus>, StorageError> {
        FileStatus::of_link(&self.file, name)
            .map_err(|source| StorageError::io("look up", self.path_of(name), source))
    }

    fn check_is_file(&self, name: &str, opened: Result<File, StorageError>) -> Result<File, StorageError> {
        let not_a_file = || StorageError::NotAFile { path: self.path_of(name) };
        let file = match opened {
            Err(StorageError::Io { source, .. })
                if [Errno::LOOP, Errno::NXIO]
                    .map(Errno::raw_os_error)
                    .map(Some)
                    .contains(&source.raw_os_error()) =>
            {
                return Err(not_a_file());
            }
            opened => opened?,
        };
        let status = FileStatus::of(&file);
        match status.map_err(|source| StorageError::io("look up", self.path_of(name), source))?.is_file {
            true => Ok(file),
            false => Err(not_a_file()),
        }
    }

    pub(super) fn file(&self) -> &File {
        &self.file
    }

    fn open_with(&self, name: &str, flags: OFlags, mode: Mode) -> Result<File, StorageError> {
        // Without NONBLOCK, opening a pipe waits for its other end. It has no effect on files and directories.
        let flags = flags | OFlags::CLOEXEC | OFlags::NONBLOCK;
        rustix::fs::openat(&self.file, name, flags, mode)
            .map(File::from)
            .map_err(|source| StorageError::io("open", self.path_of(name), source))
    }

    /// Replaces a file, or makes it with `mode`: it has all of `bytes`, durably, or is as it was.
    ///
    /// # Errors
    /// Those of [`NewFile`].
    pub fn replace(&self, name: &str, bytes: &[u8], mode: u32) -> Result<(), StorageError> {
        let new = self.new_file(name, mode)?;
        let written = new.file().write_all(bytes);
        written.map_err(|source| StorageError::io("write", new.path(), source))?;
        new.commit()
    }

    /// Renames a file of this directory; the names are durable when this returns.
    ///
    /// # Errors
    /// Those of the system, and of [`Directory::check_replaceable`].
    pub fn rename(&self, from: &str, to: &str) -> Result<(), StorageError> {
        self.check_replaceable(to)?;
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
            // Some file systems make names durable by themselves and refuse this call.
            Ok(()) | Err(Errno::INVAL | Errno::BADF) => Ok(()),
            Err(source) => Err(StorageError::Fsync { path: self.path.clone(), source: Some(source.into()) }),
        }
    }

    /// Makes the content of a file durable, also if another process wrote it.
    pub fn sync_file(&self, name: &str) -> Result<(), StorageError> {
        let synced = self.open_file(name)?.sync_all();
        synced.map_err(|source| StorageError::Fsync { path: self.path_of(name), source: Some(source) })
    }

    /// Locks the directory itself, so that no lock file lies in it, until the returned file is closed.
    pub fn lock(&self) -> Result<File, StorageError> {
        // A lock belongs to one open file description: this one is opened for the lock alone, which ends with it.
        let file = self.open_with(".", OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(file),
            Err(Errno::WOULDBLOCK) => {
                Err(StorageError::Locked { path: self.path.clone(), holder: lock_holder(&file) })
            }
            // NFS and some others map flock to byte-range locks, which directories cannot have.
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
    find_lock_holder(&locks, &std::format!("{major:02x}:{minor:02x}:{}", metadata.ino()))
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
    use rustix::fs::FileType;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn only_a_regular_file_is_opened_for_writing() {
        let dir = tempfile::tempdir().unwrap();
        let directory = Directory::open(dir.path()).unwrap();
        let path = |name| dir.path().join(name);
        fs::write(path("file"), "untouched").unwrap();
        symlink("file", path("link")).unwrap();
        symlink("missing", path("dangling")).unwrap();
        fs::create_dir(path("directory")).unwrap();
        rustix::fs::mknodat(&directory.file, "pipe", FileType::Fifo, Mode::RWXU, 0).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(path("socket")).unwrap();
        for name in ["link", "dangling", "directory", "pipe", "socket"] {
            let error = directory.open_or_create(name, 0o600).unwrap_err();
            assert!(
                matches!(&error, StorageError::NotAFile { path: told } if *told == path(name)),
                "{error}"
            );
        }
        let devices = Directory::open(Path::new("/dev")).unwrap();
        let error = devices.open_or_create("null", 0o600).unwrap_err();
        assert_eq!(error.to_string(), "\"/dev/null\" is not a regular file and is left alone");
        assert!(!path("missing").exists());
        assert_eq!(fs::read(path("file")).unwrap(), b"untouched");
        directory.open_or_create("file", 0o600).unwrap();
        directory.open_or_create("new", 0o600).unwrap();
    }

    #[test]
    fn a_file_with_other_names_is_not_written_through() {
        let dir = tempfile::tempdir().unwrap();
        let directory = Directory::open(dir.path()).unwrap();
        fs::write(dir.path().join("snapshot"), "untouched").unwrap();
        fs::hard_link(dir.path().join("snapshot"), dir.path().join("a")).unwrap();
        let file = directory.open_or_create("a", 0o600).unwrap();
        (&file).write_all(b"new").unwrap();
        assert_eq!(fs::read(dir.path().join("snapshot")).unwrap(), b"untouched");
        assert_eq!(fs::read(dir.path().join("a")).unwrap(), b"newouched");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    }

    #[test]
    fn what_was_put_there_after_the_look_is_refused_too() {
        let dir = tempfile::tempdir().unwrap();
        let directory = Directory::open(dir.path()).unwrap();
        symlink("missing", dir.path().join("link")).unwrap();
        rustix::fs::mknodat(&directory.file, "pipe", FileType::Fifo, Mode::RWXU, 0).unwrap();
        for name in ["link", "pipe"] {
            let error = directory.open_existing(name).unwrap_err();
            assert!(matches!(error, StorageError::NotAFile { .. }), "{error}");
        }
    }

    #[test]
    fn a_link_to_nothing_is_not_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let directory = Directory::open(dir.path()).unwrap();
        fs::write(dir.path().join("file"), "12345").unwrap();
        symlink("file", dir.path().join("link")).unwrap();
        symlink("not-mounted/file", dir.path().join("broken")).unwrap();
        symlink("loop", dir.path().join("loop")).unwrap();
        assert!(matches!(directory.entry("link").unwrap(), Some(Entry::File(5))));
        assert!(matches!(directory.entry("broken").unwrap(), Some(Entry::BrokenLink)));
        assert!(directory.entry("missing").unwrap().is_none());
        assert!(directory.entry("loop").is_err());
    }

    #[test]
    fn a_new_file_takes_no_place_that_is_taken() {
        let dir = tempfile::tempdir().unwrap();
        let directory = Directory::open(dir.path()).unwrap();
        symlink("missing", dir.path().join("link")).unwrap();
        assert!(directory.create_new("link", 0o600).is_err());
        directory.create_new("a", 0o600).unwrap();
        assert!(directory.create_new("a", 0o600).is_err());
        assert!(!dir.path().join("missing").exists());
    }

    #[test]
    fn a_path_is_a_directory_and_a_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        let (directory, name) = Directory::of_file(&path).unwrap();
        assert_eq!((directory.path(), name), (dir.path(), OsStr::new("a")));
        let (directory, name) = Directory::of_file(Path::new("a")).unwrap();
        assert_eq!((directory.path(), name), (Path::new("."), OsStr::new("a")));
        for no_file in ["/", "", ".", "..", "a/", "a/.", "a/..", "a/../"] {
            assert!(Directory::of_file(Path::new(no_file)).is_err(), "{no_file:?}");
        }
    }

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
