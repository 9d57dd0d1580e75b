//! Looking through files: which cluster they are of, whether their records are right, whether two hold the same bytes.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::prelude::v1::*;
use std::vec;

use super::{Archive, ArchiveError, SegmentFile, SegmentReader};
use crate::storage::Directory;
use crate::types::{SystemId, WalSegmentSize};
use crate::wal::{WalChecker, WalDamage};

/// Bytes that are read at a time where a whole file is looked through: as much as Linux reads ahead by default, and
/// two such buffers stay in a processor's second-level cache. It divides the size of every segment.
pub(crate) const READ_LEN: usize = 128 << 10;

impl Archive {
    /// Opens the directory at `path` as an archive. The first segment with a header gives the segment size; `None` if
    /// no segment has one.
    ///
    /// # Errors
    /// If the directory cannot be read, or a segment before the first one with a header.
    pub fn discover(path: &Path) -> Result<Option<Self>, ArchiveError> {
        let directory = Directory::open(path)?;
        for name in segment_names(&directory)? {
            if let Some((_, segment_size)) = cluster_of(&directory, &name)? {
                return Self::open(path, segment_size).map(Some);
            }
        }
        Ok(None)
    }

    /// The cluster that the newest segments are of, by their headers; `None` if they have none.
    ///
    /// # Errors
    /// If a file cannot be read.
    pub fn system_id(&self, newest: SegmentFile) -> Result<Option<SystemId>, ArchiveError> {
        // A partial segment may be empty; then the one before it names the cluster.
        let before = newest.segment.previous().into_iter().flat_map(SegmentFile::all_complete);
        for candidate in core::iter::once(newest).chain(before) {
            let name = candidate.to_string();
            if self.directory().entry(&name)?.is_none() {
                continue;
            }
            let identity = self.open_segment(&name)?.identity()?;
            if let Some(identity) = identity.filter(|identity| identity.start == candidate.segment.start()) {
                return Ok(Some(identity.system_id));
            }
        }
        Ok(None)
    }
}

/// The names of all files of segments, in order.
pub(super) fn segment_names(directory: &Directory) -> Result<Vec<String>, ArchiveError> {
    let mut names = Vec::new();
    directory.for_each_name(|name| {
        if is_segment_name(name) {
            names.push(name.to_string());
        }
    })?;
    names.sort();
    Ok(names)
}

/// Whether the name is that of a segment's file, whatever the size of the cluster's segments.
pub(super) fn is_segment_name(name: &str) -> bool {
    // The smaller the segments, the more values the last part of a name may have.
    SegmentFile::parse(name, WalSegmentSize::MIN).is_some()
}

/// The cluster and the size of its segments, by the header of this segment; `None` if it has none.
///
/// # Errors
/// If the file cannot be opened or read.
pub(super) fn cluster_of(
    directory: &Directory,
    name: &str,
) -> Result<Option<(SystemId, WalSegmentSize)>, ArchiveError> {
    let identity = SegmentReader::open_in(directory, name, u64::MAX)?.identity()?;
    Ok(identity.and_then(|identity| Some((identity.system_id, identity.size()?))))
}

/// Checks all bytes of `from`, which are the WAL that the checker expects next. Returns their number, or the damage at
/// which the check ended.
///
/// # Errors
/// Those of reading.
pub(crate) fn check_file(
    from: &mut impl Read,
    checker: &mut WalChecker,
) -> io::Result<Result<u64, WalDamage>> {
    let mut buffer = vec![0; READ_LEN];
    let mut len = 0;
    loop {
        let read = read_full(from, &mut buffer)?;
        if read == 0 {
            return Ok(Ok(len));
        }
        if let Err(damage) = checker.check(checker.position(), buffer.get(..read).unwrap_or_default()) {
            return Ok(Err(damage));
        }
        len += read as u64;
    }
}

/// How many bytes come before the first one in which both differ, or before the end of the shorter one; `None` if
/// both are the same to their end.
///
/// # Errors
/// Those of reading, and which of the two could not be read.
pub(crate) fn first_difference(
    ours: &mut impl Read,
    theirs: &mut impl Read,
) -> Result<Option<u64>, CompareError> {
    let (mut a, mut b) = (vec![0; READ_LEN], vec![0; READ_LEN]);
    let mut at = 0;
    loop {
        let ours = read_full(ours, &mut a).map_err(CompareError::Ours)?;
        let theirs = read_full(theirs, &mut b).map_err(CompareError::Theirs)?;
        let (ours, theirs) = (a.get(..ours).unwrap_or_default(), b.get(..theirs).unwrap_or_default());
        if ours != theirs {
            let differs = ours.iter().zip(theirs).position(|(ours, theirs)| ours != theirs);
            return Ok(Some(at + differs.unwrap_or_else(|| ours.len().min(theirs.len())) as u64));
        }
        if ours.is_empty() {
            return Ok(None);
        }
        at += ours.len() as u64;
    }
}

/// Which side of a comparison could not be read.
#[derive(Debug)]
pub(crate) enum CompareError {
    Ours(io::Error),
    Theirs(io::Error),
}

/// Fills `buffer`, or as much of it as there are bytes, and says how many.
pub(super) fn read_full(from: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match from.read(rest) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// Reads a file from a place on, and leaves its own position alone: the file may be in use for writing.
#[derive(Debug)]
pub(crate) struct ReadAt<'a> {
    pub(crate) file: &'a File,
    pub(crate) at: u64,
}

impl Read for ReadAt<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(buffer, self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Lsn, TimelineId};
    use std::fs;

    /// Gives a byte at a time, and is interrupted before each.
    struct Slow<'a>(&'a [u8], bool);

    impl Read for Slow<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.1 = !self.1;
            match self.1 {
                true => Err(io::ErrorKind::Interrupted.into()),
                false => self.0.read(&mut buffer[..1]),
            }
        }
    }

    struct Broken;

    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::ErrorKind::PermissionDenied.into())
        }
    }

    #[test]
    fn the_first_difference_is_found_wherever_it_is() {
        let ours = vec![1; 2 * READ_LEN + 5];
        let difference = |theirs: &[u8]| first_difference(&mut &ours[..], &mut &theirs[..]).unwrap();
        assert_eq!(difference(&ours), None);
        for at in [0, 1, READ_LEN - 1, READ_LEN, 2 * READ_LEN + 4] {
            let mut theirs = ours.clone();
            theirs[at] = 2;
            assert_eq!(difference(&theirs), Some(at as u64));
            assert_eq!(difference(&ours[..at]), Some(at as u64), "shorter");
        }
        assert_eq!(difference(&[&ours[..], &[1]].concat()), Some(ours.len() as u64), "longer");
        assert!(matches!(first_difference(&mut Broken, &mut &ours[..]), Err(CompareError::Ours(_))));
        assert!(matches!(first_difference(&mut &ours[..], &mut Broken), Err(CompareError::Theirs(_))));
    }

    #[test]
    fn short_and_interrupted_reads_make_no_difference() {
        assert_eq!(first_difference(&mut Slow(b"abc", false), &mut &b"abc"[..]).unwrap(), None);
        assert_eq!(first_difference(&mut Slow(b"abc", false), &mut &b"abd"[..]).unwrap(), Some(2));
        let mut buffer = [0; 5];
        assert_eq!(read_full(&mut Slow(b"abc", false), &mut buffer).unwrap(), 3);
        assert_eq!(&buffer, b"abc\0\0");
    }

    #[test]
    fn a_file_that_is_no_wal_is_damage_and_an_empty_one_is_none() {
        let checker =
            || WalChecker::new(WalSegmentSize::DEFAULT, None, TimelineId::FIRST, Lsn::new(16 << 20));
        assert_eq!(check_file(&mut &b""[..], &mut checker()).unwrap(), Ok(0));
        assert!(check_file(&mut &[7; 8192][..], &mut checker()).unwrap().is_err());
        assert!(check_file(&mut Broken, &mut checker()).is_err());
    }

    #[test]
    fn an_archive_is_discovered_by_the_first_segment_that_tells() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Archive::discover(dir.path()).unwrap().is_none());
        // The long header of a first page: magic, flags, ..., system identifier, segment size, page size.
        let mut page = vec![0; 40];
        page[..4].copy_from_slice(&[0x16, 0xd1, 2, 0]);
        page[32..36].copy_from_slice(&(1_u32 << 20).to_le_bytes());
        for (name, content) in [
            ("000000010000000000000001", &b""[..]),
            ("000000010000000000000002.partial", &[0; 100]),
            ("000000010000000000000003.gz", b"no gzip"),
            ("000000010000000000000FFF", &page),
            ("notes", &page),
        ] {
            fs::write(dir.path().join(name), content).unwrap();
        }
        let archive = Archive::discover(dir.path()).unwrap().unwrap();
        assert_eq!(archive.segment_size().bytes(), 1 << 20);
        fs::create_dir(dir.path().join("000000010000000000000000")).unwrap();
        assert!(Archive::discover(dir.path()).is_err(), "what cannot be read is not absent");
        assert!(Archive::discover(&dir.path().join("missing")).is_err());
    }

    #[test]
    fn names_of_every_segment_size_are_of_segments() {
        for name in ["000000010000000000000FFF", "000000010000000500000003.gz.partial"] {
            assert!(is_segment_name(name), "{name}");
        }
        for name in ["000000010000000000001000", "00000002.history", "tapster.state"] {
            assert!(!is_segment_name(name), "{name}");
        }
    }
}
