use core::hash::{BuildHasher as _, Hasher as _};
use core::time::Duration;
use std::collections::hash_map::RandomState;
use std::ffi::{OsStr, OsString};
use std::format;
use std::fs::File;
use std::path::PathBuf;
use std::prelude::v1::*;

use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags, flock};
use rustix::io::Errno;

use super::{Directory, FileStatus, StorageError};

/// Ends the name of a file that is renamed once it is complete.
pub const TEMPORARY: &str = ".tmp";

/// A file in the making: it gets its name only when it is complete.
///
/// Until then it has a temporary name in the same directory, `NAME.RANDOM.tmp`. It is always a new regular file: it is
/// created exclusively, so that no symbolic link is followed and no existing file is written to. The name cannot be
/// guessed, so that nobody can occupy it beforehand. If it is dropped before it is published, it is removed.
///
/// The file is locked while it is open. The lock tells a file that a crash has left from one that another process or
/// thread is making; see [`Directory::remove_left_over`].
#[derive(Debug)]
#[must_use = "it is removed when it is dropped"]
pub struct NewFile<'a> {
    directory: &'a Directory,
    file: File,
    /// The temporary name; none once it was renamed.
    temporary: Option<OsString>,
    name: OsString,
}

impl<'a> NewFile<'a> {
    pub(super) fn create(directory: &'a Directory, name: &OsStr, mode: u32) -> Result<Self, StorageError> {
        directory.check_replaceable(name)?;
        let err = |source: Errno| StorageError::io("make", directory.path_of(name), source);
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        loop {
            let temporary = temporary_name(name);
            let file =
                match rustix::fs::openat(directory.file(), &temporary, flags, Mode::from_raw_mode(mode)) {
                    Ok(file) => File::from(file),
                    // 64 random bits are taken already: another attempt costs nothing.
                    Err(Errno::EXIST) => continue,
                    Err(source) => return Err(err(source)),
                };
            let new = Self { directory, file, temporary: Some(temporary), name: name.into() };
            // Between the two calls another process may have removed the file as left over.
            match flock(&new.file, FlockOperation::NonBlockingLockExclusive) {
                Err(Errno::WOULDBLOCK) => {}
                // Where locks are not supported, the age of a file decides.
                Err(_) => return Ok(new),
                Ok(()) if FileStatus::of(&new.file).is_ok_and(|status| status.has_name) => return Ok(new),
                Ok(()) => {}
            }
        }
    }

    /// The open file.
    #[must_use]
    pub fn file(&self) -> &File {
        &self.file
    }

    /// The open file without any name: it is gone when it is closed, even by a crash.
    ///
    /// # Errors
    /// If the temporary name cannot be removed.
    pub fn into_unnamed(mut self) -> Result<File, StorageError> {
        let file = self.file.try_clone();
        let file = file.map_err(|source| StorageError::io("duplicate", self.path(), source))?;
        if let Some(temporary) = self.temporary.take() {
            rustix::fs::unlinkat(self.directory.file(), &temporary, AtFlags::empty())
                .map_err(|source| StorageError::io("remove", self.directory.path_of(&temporary), source))?;
        }
        Ok(file)
    }

    /// The path that the file will have, for messages.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.directory.path_of(&self.name)
    }

    /// Makes the content durable, gives the file its name, and makes the name durable. What had the name is replaced.
    ///
    /// # Errors
    /// If one of these steps fails. What had the name keeps it, unless only the last step failed.
    pub fn commit(self) -> Result<(), StorageError> {
        self.sync()?;
        let directory = self.directory;
        self.publish()?;
        directory.sync()
    }

    /// Makes the content durable.
    ///
    /// # Errors
    /// [`StorageError::Fsync`].
    pub fn sync(&self) -> Result<(), StorageError> {
        self.file.sync_all().map_err(|source| StorageError::Fsync { path: self.path(), source: Some(source) })
    }

    /// Gives the file its name and replaces what has that name. After a crash the file may be gone or empty: a file
    /// that has to last is [committed](Self::commit).
    ///
    /// # Errors
    /// If it cannot be renamed. What had the name keeps it.
    pub fn publish(mut self) -> Result<(), StorageError> {
        let Some(temporary) = &self.temporary else { return Ok(()) };
        // It may have come there since.
        self.directory.check_replaceable(&self.name)?;
        let directory = self.directory.file();
        rustix::fs::renameat(directory, temporary, directory, &self.name)
            .map_err(|source| StorageError::io("rename a new file to", self.path(), source))?;
        self.temporary = None;
        Ok(())
    }
}

impl Drop for NewFile<'_> {
    fn drop(&mut self) {
        if let Some(temporary) = &self.temporary {
            // If this fails, a later `remove_left_over` removes it.
            let _ = rustix::fs::unlinkat(self.directory.file(), temporary, AtFlags::empty());
        }
    }
}

impl Directory {
    /// Removes the temporary files that crashes have left: those that no process is making, and whose later name
    /// satisfies `is_ours`. The removal is durable with the next [`Directory::sync`].
    ///
    /// Call this once before making new files in a directory: otherwise a program that crashes again and again fills
    /// the disk.
    ///
    /// # Errors
    /// If the directory cannot be read, or a file cannot be removed.
    pub fn remove_left_over(&self, is_ours: impl Fn(&str) -> bool) -> Result<(), StorageError> {
        let mut left_over = Vec::new();
        self.for_each_name(|name| {
            if target_of(name).is_some_and(&is_ours) {
                left_over.push(name.to_owned());
            }
        })?;
        left_over.iter().try_for_each(|name| self.remove_if_abandoned(name))
    }

    /// Removes this temporary file if no process is making it any more.
    fn remove_if_abandoned(&self, name: &str) -> Result<(), StorageError> {
        // What cannot be opened was not made by us, or is gone meanwhile.
        let Ok(file) = self.open_existing(name) else { return Ok(()) };
        // The lock is held until the name is gone. Otherwise a process that has just made the file could lock it in
        // between, and then lose it.
        if is_abandoned(&file) { self.remove(name) } else { Ok(()) }
    }
}

/// Whether no process is making this temporary file any more. If so, it is locked while it is open, unless the file
/// system does not support locks.
fn is_abandoned(file: &File) -> bool {
    match flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => true,
        Err(Errno::WOULDBLOCK) => false,
        // The file system does not support locks.
        Err(_) => {
            let modified = file.metadata().and_then(|metadata| metadata.modified());
            modified.is_ok_and(|at| at.elapsed().is_ok_and(|age| age > ABANDONED))
        }
    }
}

/// Where locks are not supported, a temporary file that was not written to for this long is left over.
const ABANDONED: Duration = Duration::from_secs(60 * 60);
/// Digits of the random part of a temporary name.
const RANDOM_DIGITS: usize = 16;

/// `NAME.RANDOM.tmp`.
///
/// A `HashMap` takes its keys from the system's random numbers, as an attacker who knows them could choose colliding
/// keys. The hash of nothing under such keys cannot be guessed either, and needs no further crate.
fn temporary_name(name: &OsStr) -> OsString {
    let mut temporary = name.to_owned();
    let random = RandomState::new().build_hasher().finish();
    temporary.push(format!(".{random:0RANDOM_DIGITS$x}{TEMPORARY}"));
    temporary
}

/// The name that a file with this temporary name is to get; `None` if no [`NewFile`] has such a name.
#[must_use]
pub fn target_of(temporary: &str) -> Option<&str> {
    let (name, random) = temporary.strip_suffix(TEMPORARY)?.rsplit_once('.')?;
    let is_ours =
        random.len() == RANDOM_DIGITS && random.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    is_ours.then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::io::Write as _;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    fn directory() -> (tempfile::TempDir, Directory) {
        let dir = tempfile::tempdir().unwrap();
        let directory = Directory::open(dir.path()).unwrap();
        (dir, directory)
    }

    fn names(dir: &tempfile::TempDir) -> Vec<String> {
        let entries = fs::read_dir(dir.path()).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_has_its_name_when_it_is_complete_and_not_before() {
        let (dir, directory) = directory();
        fs::write(dir.path().join("a"), "old").unwrap();
        let new = directory.new_file("a", 0o600).unwrap();
        new.file().write_all(b"new").unwrap();
        let found = names(&dir);
        assert_eq!((found.len(), found[0].as_str(), target_of(&found[1])), (2, "a", Some("a")));
        assert_eq!(fs::read(dir.path().join("a")).unwrap(), b"old");
        new.commit().unwrap();
        assert_eq!((names(&dir), fs::read(dir.path().join("a")).unwrap()), (vec!["a".into()], b"new".into()));
        let mode = fs::metadata(dir.path().join("a")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777 & !0o600, 0);
    }

    #[test]
    fn nothing_is_left_of_a_file_that_is_dropped_or_cannot_be_renamed() {
        let (dir, directory) = directory();
        drop(directory.new_file("a", 0o600).unwrap());
        assert!(names(&dir).is_empty());
        let new = directory.new_file("a", 0o600).unwrap();
        fs::create_dir(dir.path().join("a")).unwrap();
        let error = new.commit().unwrap_err();
        assert!(matches!(error, StorageError::NotAFile { .. }), "{error}");
        assert_eq!(names(&dir), ["a"]);
    }

    #[test]
    fn what_is_no_regular_file_is_not_replaced() {
        let (dir, directory) = directory();
        let fifo = rustix::fs::FileType::Fifo;
        rustix::fs::mknodat(directory.file(), "pipe", fifo, Mode::from_raw_mode(0o600), 0).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(dir.path().join("socket")).unwrap();
        symlink("pipe", dir.path().join("link")).unwrap();
        symlink("file", dir.path().join("link to a file")).unwrap();
        symlink("missing", dir.path().join("link to nothing")).unwrap();
        fs::create_dir(dir.path().join("directory")).unwrap();
        fs::write(dir.path().join("file"), "untouched").unwrap();
        let before = names(&dir);
        for name in before.iter().filter(|name| *name != "file") {
            let error = directory.new_file(name, 0o600).unwrap_err();
            assert!(matches!(error, StorageError::NotAFile { .. }), "{name}: {error}");
            let error = directory.rename("file", name).unwrap_err();
            assert!(matches!(error, StorageError::NotAFile { .. }), "{name}: {error}");
        }
        assert_eq!((names(&dir), before.len()), (before, 7));
        assert_eq!(fs::read(dir.path().join("file")).unwrap(), b"untouched");
    }

    #[test]
    fn two_in_the_making_have_two_names_and_the_last_one_counts() {
        let (dir, directory) = directory();
        let (first, second) =
            (directory.new_file("a", 0o600).unwrap(), directory.new_file("a", 0o600).unwrap());
        first.file().write_all(b"1").unwrap();
        second.file().write_all(b"2").unwrap();
        assert_eq!(names(&dir).len(), 2);
        second.commit().unwrap();
        first.commit().unwrap();
        assert_eq!((names(&dir), fs::read(dir.path().join("a")).unwrap()), (vec!["a".into()], b"1".into()));
    }

    #[test]
    fn a_file_that_never_gets_a_name_leaves_none() {
        let (dir, directory) = directory();
        let mut file = directory.new_file("a", 0o600).unwrap().into_unnamed().unwrap();
        assert!(names(&dir).is_empty());
        file.write_all(b"new").unwrap();
        assert!(!FileStatus::of(&file).unwrap().has_name);
    }

    #[test]
    fn links_at_names_that_can_be_guessed_are_not_followed() {
        let (dir, directory) = directory();
        let elsewhere = tempfile::tempdir().unwrap();
        let precious = elsewhere.path().join("precious");
        fs::write(&precious, "untouched").unwrap();
        symlink(&precious, dir.path().join("a.tmp")).unwrap();
        directory.replace("a", b"new", 0o600).unwrap();
        assert_eq!(fs::read(&precious).unwrap(), b"untouched");
        assert!(fs::symlink_metadata(dir.path().join("a")).unwrap().is_file());
    }

    #[test]
    fn what_crashes_have_left_is_removed_and_nothing_else() {
        let (dir, directory) = directory();
        let in_the_making = directory.new_file("a", 0o600).unwrap();
        let kept = names(&dir).remove(0);
        let others = [
            "a.tmp",
            "a.0123456789ABCDEF.tmp",
            "a.0123456789abcde.tmp",
            "a.0123456789abcdef",
            "b.0123456789abcdef.tmp",
            "c",
        ];
        for name in others.iter().chain(&["a.0123456789abcdef.tmp", "a.00000000000000ff.tmp"]) {
            fs::write(dir.path().join(name), "half").unwrap();
        }
        // A link is nothing that we have made.
        symlink("c", dir.path().join("a.1111111111111111.tmp")).unwrap();
        directory.remove_left_over(|name| name == "a").unwrap();
        let mut expected: Vec<String> = others.iter().map(|name| (*name).into()).collect();
        expected.extend([kept, "a.1111111111111111.tmp".into()]);
        expected.sort();
        assert_eq!(names(&dir), expected);
        in_the_making.commit().unwrap();
        assert_eq!(fs::read(dir.path().join("a")).unwrap(), b"");
    }

    #[test]
    fn a_file_in_the_making_is_never_taken_for_left_over() {
        let (dir, directory) = directory();
        std::thread::scope(|scope| {
            let makers: Vec<_> = (0..2)
                .map(|_| {
                    scope.spawn(|| {
                        (0..10_000)
                            .try_for_each(|_| directory.new_file("a", 0o600).and_then(NewFile::publish))
                    })
                })
                .collect();
            while makers.iter().any(|maker| !maker.is_finished()) {
                Directory::open(dir.path()).unwrap().remove_left_over(|_| true).unwrap();
            }
            for maker in makers {
                maker.join().unwrap().unwrap();
            }
        });
        assert_eq!(names(&dir), ["a"]);
    }
}
