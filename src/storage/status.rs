use std::fs::File;
use std::io;

use rustix::fs::AtFlags;

/// Which file something is, and how long it is.
///
/// It leaves out the file's times, so that asking while the file is written costs nothing: from Linux 6.13 on, the
/// first change after the times were read is recorded to the nanosecond, and the next fdatasync then writes the
/// inode too. On ext4 that took 320 us instead of 205.
#[derive(Clone, Copy, Debug)]
pub struct FileStatus {
    /// Whether it is a regular file and not a directory, socket, ...
    pub is_file: bool,
    /// In bytes.
    pub len: u64,
    /// Whether some directory has it.
    pub has_name: bool,
    /// Whether it has several names, by hard links.
    pub has_other_names: bool,
    device: u64,
    inode: u64,
}

impl FileStatus {
    /// The status of an open file.
    ///
    /// # Errors
    /// The system's.
    pub fn of(file: &File) -> io::Result<Self> {
        system::of(file)
    }

    /// The status of `name` in `directory`; symbolic links are followed. `None` if the name does not exist.
    pub fn of_name(directory: &File, name: &str) -> io::Result<Option<Self>> {
        found(system::of_name(directory, name, AtFlags::empty()))
    }

    /// Like [`FileStatus::of_name`], but a symbolic link is not followed.
    pub fn of_link(directory: &File, name: &str) -> io::Result<Option<Self>> {
        found(system::of_name(directory, name, AtFlags::SYMLINK_NOFOLLOW))
    }

    /// Whether both are of one file.
    #[must_use]
    pub fn is_same_file(&self, other: &Self) -> bool {
        (self.device, self.inode) == (other.device, other.inode)
    }
}

fn found(status: io::Result<FileStatus>) -> io::Result<Option<FileStatus>> {
    match status {
        Ok(status) => Ok(Some(status)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(target_os = "linux")]
mod system {
    use super::{AtFlags, File, FileStatus, io, portable};
    use rustix::fs::{FileType, Statx, StatxFlags, makedev, statx};
    use rustix::io::Errno;

    const WANTED: StatxFlags =
        StatxFlags::TYPE.union(StatxFlags::SIZE).union(StatxFlags::INO).union(StatxFlags::NLINK);

    pub(super) fn of(file: &File) -> io::Result<FileStatus> {
        match statx(file, c"", AtFlags::EMPTY_PATH, WANTED) {
            Err(Errno::NOSYS) => portable::of(file),
            result => Ok(from(&result?)),
        }
    }

    pub(super) fn of_name(directory: &File, name: &str, flags: AtFlags) -> io::Result<FileStatus> {
        match statx(directory, name, flags, WANTED) {
            Err(Errno::NOSYS) => portable::of_name(directory, name, flags),
            result => Ok(from(&result?)),
        }
    }

    fn from(statx: &Statx) -> FileStatus {
        FileStatus {
            is_file: FileType::from_raw_mode(statx.stx_mode.into()) == FileType::RegularFile,
            len: statx.stx_size,
            has_name: statx.stx_nlink > 0,
            has_other_names: statx.stx_nlink > 1,
            device: makedev(statx.stx_dev_major, statx.stx_dev_minor),
            inode: statx.stx_ino,
        }
    }
}

#[cfg(not(target_os = "linux"))]
use portable as system;

/// With the times, for other systems and for Linux before 4.11.
mod portable {
    use super::{AtFlags, File, FileStatus, io};
    use rustix::fs::{FileType, Stat, fstat, statat};

    pub(super) fn of(file: &File) -> io::Result<FileStatus> {
        Ok(from(&fstat(file)?))
    }

    pub(super) fn of_name(directory: &File, name: &str, flags: AtFlags) -> io::Result<FileStatus> {
        Ok(from(&statat(directory, name, flags)?))
    }

    #[allow(clippy::useless_conversion, reason = "other systems have narrower numbers")]
    fn from(stat: &Stat) -> FileStatus {
        FileStatus {
            is_file: FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile,
            len: stat.st_size.try_into().unwrap_or(0),
            has_name: stat.st_nlink > 0,
            has_other_names: stat.st_nlink > 1,
            device: stat.st_dev.into(),
            inode: stat.st_ino.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_file_is_known_by_its_names_and_its_length() {
        let dir = tempfile::tempdir().unwrap();
        let directory = File::open(dir.path()).unwrap();
        fs::write(dir.path().join("a"), "abc").unwrap();
        fs::hard_link(dir.path().join("a"), dir.path().join("b")).unwrap();
        fs::write(dir.path().join("c"), "abc").unwrap();
        std::os::unix::fs::symlink("c", dir.path().join("d")).unwrap();
        let file = File::open(dir.path().join("a")).unwrap();
        for (of, of_name) in [
            (system::of as fn(&File) -> _, system::of_name as fn(&File, &str, AtFlags) -> _),
            (portable::of, portable::of_name),
        ] {
            let (own, named) =
                (of(&file).unwrap(), |name| of_name(&directory, name, AtFlags::empty()).unwrap());
            assert_eq!((own.is_file, own.len), (true, 3));
            assert!(own.has_other_names && !named("c").has_other_names);
            assert!(["a", "b"].iter().all(|name| own.is_same_file(&named(name))));
            assert!(["c", "d", "."].iter().all(|name| !own.is_same_file(&named(name))));
            assert!(named("c").is_same_file(&named("d")) && !named(".").is_file);
            let link = of_name(&directory, "d", AtFlags::SYMLINK_NOFOLLOW).unwrap();
            assert!(!link.is_file && !link.is_same_file(&named("c")));
        }
        assert!(FileStatus::of_name(&directory, "e").unwrap().is_none());
        assert!(FileStatus::of_name(&file, "e").is_err(), "no directory");
    }
}
