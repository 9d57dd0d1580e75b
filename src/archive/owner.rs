//! Whose a file is. Nothing is overwritten, replaced or removed before that is known: a file that is not what its name
//! says may be all that is left of another cluster.

use core::fmt;
use std::boxed::Box;
use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;
use std::string::ToString as _;

use super::scan::{READ_LEN, ReadAt, read_full, segment_names};
use super::{Archive, ArchiveEnd, ArchiveError, SegmentFile, SegmentReader};
use crate::archive::io_error;
use crate::compression::Compression;
use crate::storage::Entry;
use crate::types::{Lsn, SystemId};
use crate::wal::{PageIdentity, SegmentIdentity};

/// A file with a segment's name that is not this segment of the cluster, or not known to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForeignFile {
    /// The file.
    pub path: PathBuf,
    /// What it is instead.
    pub kind: ForeignKind,
}

/// What a file with a segment's name is instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ForeignKind {
    /// A segment of another cluster.
    OtherCluster(SystemId),
    /// A segment of a cluster with segments of this many bytes.
    OtherSegmentSize(u32),
    /// Another segment of the cluster: the one that begins here.
    OtherSegment(Lsn),
    /// Compressed, without the name of a compressed file.
    Compressed(Compression),
    /// In a form that tapster does not read, such as `xz`.
    OtherForm(&'static str),
    /// A directory, a socket, or a symbolic link that leads nowhere now.
    NotAFile,
    /// Something that does not begin as a segment does.
    Unknown,
}

impl fmt::Display for ForeignFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\" ", self.path.display())?;
        match self.kind {
            ForeignKind::OtherCluster(id) => write!(f, "is of the cluster with system identifier {id}"),
            ForeignKind::OtherSegmentSize(bytes) => {
                write!(f, "is of a cluster whose segments have {} KiB", bytes / 1024)
            }
            ForeignKind::OtherSegment(start) => {
                write!(f, "holds another segment than its name says: the one that begins at {start}")
            }
            ForeignKind::Compressed(method) => write!(
                f,
                "is compressed and its name does not say so; append \"{}\" to the name",
                method.suffix()
            ),
            ForeignKind::OtherForm(form) => {
                write!(f, "was stored by {form}, which tapster does not read; move it away")
            }
            ForeignKind::NotAFile => f.write_str(
                "is not a regular file; if it is a symbolic link, is the file system mounted that it leads to?",
            ),
            ForeignKind::Unknown => f.write_str("is not known to be of this cluster: it does not begin as a segment does"),
        }
    }
}

/// Whose a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    /// It begins as this segment of the cluster.
    Cluster,
    /// It is empty, or has nothing but zeros: there is nothing to lose.
    Nobody,
    Foreign(ForeignKind),
}

impl Archive {
    /// Checks that receiving from this cluster's server overwrites nothing of others. `is_known` says that the archive
    /// is the cluster's, by its state file.
    ///
    /// Looks at the newest segments and at every file that is not what its name says. A file that does not begin as a
    /// segment counts as the cluster's, and damaged, only in an archive that is known to be the cluster's: because
    /// of its state file, or of a segment.
    ///
    /// # Errors
    /// [`ArchiveError::Foreign`] with the first file of others; those of reading.
    pub fn check_owner(
        &self,
        end: &ArchiveEnd,
        cluster: SystemId,
        is_known: bool,
    ) -> Result<(), ArchiveError> {
        let is_of_cluster = self.check_newest(cluster)?;
        let mut is_known = is_known || is_of_cluster;
        let mut unknown = None;
        // A partial file may be empty; then the segment before it names the cluster.
        let newest = end.newest.into_iter().flat_map(|newest| {
            let before = newest.segment.previous().into_iter().flat_map(SegmentFile::all_complete);
            core::iter::once(newest).chain(before)
        });
        for file in newest {
            match self.owner_of(file, cluster)? {
                Some(Owner::Cluster) => {
                    is_known = true;
                    break;
                }
                Some(Owner::Foreign(ForeignKind::Unknown)) => {
                    unknown = unknown.or_else(|| Some(file.to_string()))
                }
                Some(Owner::Foreign(kind)) => return Err(self.foreign(&file.to_string(), kind)),
                Some(Owner::Nobody) | None => {}
            }
        }
        let resume_at = end.resume_at();
        for warning in &end.warnings {
            let (owner, is_replaced) = match SegmentFile::parse(&warning.name, self.segment_size()) {
                Some(file) => {
                    let is_replaced = end.broken.contains(&file.segment) && Some(file.segment) >= resume_at;
                    (self.owner_of(file, cluster)?, is_replaced)
                }
                // Named as a segment of a smaller size.
                None => (self.owner_of_name(&warning.name, None, cluster)?, false),
            };
            match owner {
                Some(Owner::Cluster) => is_known = true,
                Some(Owner::Foreign(kind)) => match kind {
                    ForeignKind::OtherCluster(_) | ForeignKind::OtherSegmentSize(_) => {
                        return Err(self.foreign(&warning.name, kind));
                    }
                    ForeignKind::Unknown if is_replaced => {
                        unknown = unknown.or_else(|| Some(warning.name.clone()));
                    }
                    _ if is_replaced => return Err(self.foreign(&warning.name, kind)),
                    _ => {}
                },
                Some(Owner::Nobody) | None => {}
            }
        }
        match unknown.filter(|_| !is_known) {
            Some(name) => Err(self.foreign(&name, ForeignKind::Unknown)),
            None => Ok(()),
        }
    }

    /// Checks that none of the newest files is of another cluster, whatever its place among the others. Returns whether
    /// one is of this cluster.
    fn check_newest(&self, cluster: SystemId) -> Result<bool, ArchiveError> {
        let mut names = segment_names(self.directory())?;
        // The last 16 digits are the number, whatever the size of the segments.
        names.sort_by(|a, b| b.get(8..).cmp(&a.get(8..)));
        let mut is_of_cluster = false;
        for name in names.iter().take(MAX_READ) {
            match self.owner_of_name(name, None, cluster)? {
                Some(Owner::Cluster) => is_of_cluster = true,
                Some(Owner::Foreign(
                    kind @ (ForeignKind::OtherCluster(_) | ForeignKind::OtherSegmentSize(_)),
                )) => return Err(self.foreign(name, kind)),
                _ => {}
            }
        }
        Ok(is_of_cluster)
    }

    /// Checks a file that is about to be overwritten in an archive that is known to be the cluster's. One that does not
    /// begin as a segment counts as damaged.
    ///
    /// # Errors
    /// [`ArchiveError::Foreign`] if it is of others; those of reading.
    pub(crate) fn check_not_foreign(&self, file: SegmentFile) -> Result<(), ArchiveError> {
        match self.check_replaceable(file) {
            Err(ArchiveError::Foreign(found)) if found.kind == ForeignKind::Unknown => Ok(()),
            result => result,
        }
    }

    /// Checks a file that is about to be replaced, of which nothing is known but its name.
    ///
    /// # Errors
    /// [`ArchiveError::Foreign`] if it is of others or unknown; those of reading.
    pub(super) fn check_replaceable(&self, file: SegmentFile) -> Result<(), ArchiveError> {
        let Some(cluster) = self.cluster() else { return Ok(()) };
        match self.owner_of(file, cluster)? {
            Some(Owner::Foreign(kind)) => Err(self.foreign(&file.to_string(), kind)),
            _ => Ok(()),
        }
    }

    fn foreign(&self, name: &str, kind: ForeignKind) -> ArchiveError {
        ArchiveError::Foreign(Box::new(ForeignFile { path: self.directory().path_of(name), kind }))
    }

    fn owner_of(&self, file: SegmentFile, cluster: SystemId) -> Result<Option<Owner>, ArchiveError> {
        self.owner_of_name(&file.to_string(), Some(file.segment.start()), cluster)
    }

    /// Whose the file of this name is; `None` if there is no such file. `start` is where its segment begins.
    fn owner_of_name(
        &self,
        name: &str,
        start: Option<Lsn>,
        cluster: SystemId,
    ) -> Result<Option<Owner>, ArchiveError> {
        let directory = self.directory();
        match directory.entry(name)? {
            Some(Entry::File(_)) => {}
            Some(Entry::Other | Entry::BrokenLink) => return Ok(Some(Owner::Foreign(ForeignKind::NotAFile))),
            None => return Ok(None),
        }
        let judge = |identity: SegmentIdentity| {
            if identity.system_id != cluster {
                Owner::Foreign(ForeignKind::OtherCluster(identity.system_id))
            } else if identity.segment_size != self.segment_size().bytes() {
                Owner::Foreign(ForeignKind::OtherSegmentSize(identity.segment_size))
            } else if start.is_some_and(|start| start != identity.start) {
                Owner::Foreign(ForeignKind::OtherSegment(identity.start))
            } else {
                Owner::Cluster
            }
        };
        if let Some(identity) =
            SegmentReader::open_in(directory, name, u64::MAX)?.identity()?.filter(makes_sense)
        {
            return Ok(Some(judge(identity)));
        }
        let path = || directory.path_of(name);
        let mut bytes = directory.open_file(name)?;
        if let Some(method) = compressed_by(&mut bytes).map_err(|source| io_error("read", path(), source))? {
            let mut content = SegmentReader::new(directory.open_file(name)?, path(), method, u64::MAX);
            let content = content.identity()?;
            return Ok(Some(match content.filter(makes_sense).map(judge) {
                Some(Owner::Foreign(kind)) => Owner::Foreign(kind),
                _ if name.ends_with(method.suffix()) => Owner::Foreign(ForeignKind::Unknown),
                _ => Owner::Foreign(ForeignKind::Compressed(method)),
            }));
        }
        let mut plain = SegmentReader::new(directory.open_file(name)?, path(), Compression::None, u64::MAX);
        if let Some(identity) = plain.identity()?.filter(makes_sense) {
            return Ok(Some(judge(identity)));
        }
        let bytes = directory.open_file(name)?;
        if let Some(kind) =
            told_by_content(&bytes, start).map_err(|source| io_error("read", path(), source))?
        {
            return Ok(Some(Owner::Foreign(kind)));
        }
        let is_blank = is_blank(bytes).map_err(|source| io_error("read", path(), source))?;
        Ok(Some(if is_blank { Owner::Nobody } else { Owner::Foreign(ForeignKind::Unknown) }))
    }
}

/// How many files are read to find those of other clusters, the newest first: a cold hard disk takes 10 ms for each. What
/// is to be replaced is read in any case.
const MAX_READ: usize = 1000;

/// The first bytes of a segment that somebody has stored in another form, and its name.
const FORMS: [(&[u8], &str); 8] = [
    (b"\xfd7zXZ\0", "xz"),
    (b"BZh", "bzip2"),
    (b"PK\x03\x04", "zip"),
    (b"7z\xbc\xaf\x27\x1c", "7z"),
    (b"\x89LZO\0", "lzop"),
    (b"-----BEGIN ", "encryption"),
    (b"Salted__", "encryption"),
    (b"age-encryption.org/", "encryption"),
];

/// What a file is that does not begin as a segment, by its first bytes or its second page; `None` if that tells nothing.
/// `start` is where the segment of its name begins.
fn told_by_content(file: &File, start: Option<Lsn>) -> io::Result<Option<ForeignKind>> {
    /// The size of nearly all servers' pages.
    const PAGE: u64 = 8 << 10;
    let mut bytes = [0; PageIdentity::LEN];
    read_full(&mut ReadAt { file, at: 0 }, &mut bytes)?;
    if let Some((_, form)) = FORMS.iter().find(|(magic, _)| bytes.starts_with(magic)) {
        return Ok(Some(ForeignKind::OtherForm(form)));
    }
    let len = read_full(&mut ReadAt { file, at: PAGE }, &mut bytes)?;
    let page = PageIdentity::parse(&bytes).filter(|_| len == bytes.len());
    let begin = page.map(|page| Lsn::new(page.address.get().saturating_sub(PAGE)));
    Ok(begin.filter(|begin| start.is_some_and(|start| start != *begin)).map(ForeignKind::OtherSegment))
}

/// Whether it is a segment's header, and not something else that has the bits of one.
fn makes_sense(identity: &SegmentIdentity) -> bool {
    identity.size().is_some_and(|size| identity.start.get().is_multiple_of(size.bytes().into()))
}

/// The method by which a file is compressed, by its first bytes.
pub(super) fn compressed_by(file: &mut File) -> io::Result<Option<Compression>> {
    let mut magic = [0; 4];
    read_full(file, &mut magic)?;
    Ok(match magic {
        [0x1f, 0x8b, ..] => Some(Compression::Gzip),
        [0x04, 0x22, 0x4d, 0x18] => Some(Compression::Lz4),
        [0x28, 0xb5, 0x2f, 0xfd] => Some(Compression::Zstd),
        _ => None,
    })
}

/// Whether a file is empty or has nothing but zeros.
fn is_blank(mut file: impl Read) -> io::Result<bool> {
    let mut buffer = std::vec![0; READ_LEN];
    loop {
        let read = read_full(&mut file, &mut buffer)?;
        let bytes = buffer.get(..read).unwrap_or_default();
        if read == 0 || bytes.iter().any(|&byte| byte != 0) {
            return Ok(read == 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::WalSegmentSize;
    use std::format;
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::string::String;
    use std::vec;
    use std::vec::Vec;

    const OURS: SystemId = SystemId::new(7);
    const SIZE: u32 = 1 << 20;

    /// The first page of a segment, with zeros behind it.
    fn segment(system_id: u64, size: u32, number: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len.max(40)];
        // Magic number and flags, timeline, address, then what only a segment's first page has.
        bytes[..4].copy_from_slice(&[0x10, 0xd1, 2, 0]);
        bytes[4..8].copy_from_slice(&1_u32.to_le_bytes());
        bytes[8..16].copy_from_slice(&(number * u64::from(size)).to_le_bytes());
        bytes[24..32].copy_from_slice(&system_id.to_le_bytes());
        bytes[32..36].copy_from_slice(&size.to_le_bytes());
        bytes[36..40].copy_from_slice(&8192_u32.to_le_bytes());
        bytes
    }

    fn whole(system_id: u64, number: u64) -> Vec<u8> {
        segment(system_id, SIZE, number, SIZE as usize)
    }

    fn zstd(bytes: &[u8]) -> Vec<u8> {
        zstd::encode_all(bytes, 1).unwrap()
    }

    fn name(number: u64) -> String {
        format!("0000000100000000{number:08X}")
    }

    /// Looks through an archive with these files.
    fn check(files: &[(String, Vec<u8>)], is_known: bool) -> Result<(), ForeignKind> {
        let dir = tempfile::tempdir().unwrap();
        for (name, bytes) in files {
            fs::write(dir.path().join(name), bytes).unwrap();
        }
        check_in(dir.path(), is_known)
    }

    fn check_in(dir: &std::path::Path, is_known: bool) -> Result<(), ForeignKind> {
        let archive = Archive::open(dir, WalSegmentSize::new(SIZE).unwrap()).unwrap();
        match archive.check_owner(&archive.end().unwrap(), OURS, is_known) {
            Ok(()) => Ok(()),
            Err(ArchiveError::Foreign(file)) => Err(file.kind),
            Err(error) => panic!("{error}"),
        }
    }

    #[test]
    fn what_is_of_another_cluster_is_refused_whatever_its_form() {
        let other = |bytes: Vec<u8>| [bytes.clone(), bytes[..1000].into()];
        let (cluster, size) =
            (ForeignKind::OtherCluster(SystemId::new(8)), ForeignKind::OtherSegmentSize(16 << 20));
        for is_known in [false, true] {
            for bytes in other(whole(8, 5)) {
                for file in [name(5), name(5) + ".partial"] {
                    assert_eq!(check(&[(file, bytes.clone())], is_known), Err(cluster));
                }
                let compressed = zstd(&bytes);
                assert_eq!(check(&[(name(5) + ".zst", compressed.clone())], is_known), Err(cluster));
                assert_eq!(check(&[(name(5), compressed)], is_known), Err(cluster));
            }
            for bytes in other(segment(7, 16 << 20, 5, 16 << 20)) {
                assert_eq!(check(&[(name(5), bytes)], is_known), Err(size));
            }
            // The broken one is the other cluster's, the newest is ours.
            let files = [(name(5), whole(8, 5)[..9000].into()), (name(6), whole(7, 6))];
            assert_eq!(check(&files, is_known), Err(cluster));
        }
        // A segment that no segment of ours is named like.
        let smaller = segment(8, 1 << 20, 0x100, 1 << 20);
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("000000010000000000000100"), smaller).unwrap();
        let archive = Archive::open(dir.path(), WalSegmentSize::DEFAULT).unwrap();
        let error = archive.check_owner(&archive.end().unwrap(), OURS, true).unwrap_err();
        assert!(error.to_string().contains("system identifier 8"), "{error}");
    }

    #[test]
    fn what_is_ours_and_broken_or_nobodys_may_be_received_again() {
        for files in [
            vec![],
            vec![(name(5), whole(7, 5))],
            vec![(name(5), whole(7, 5)), (name(6) + ".partial", whole(7, 6))],
            vec![(name(5), whole(7, 5)[..9000].into())],
            vec![(name(5), vec![])],
            vec![(name(5), vec![0; 9000])],
            vec![(name(5), vec![0; SIZE as usize])],
            vec![(name(5) + ".partial", vec![0; SIZE as usize])],
            vec![(name(5) + ".zst", zstd(&whole(7, 5)[..9000]))],
        ] {
            assert_eq!(check(&files, false), Ok(()), "{:?}", files.iter().map(|f| &f.0).collect::<Vec<_>>());
        }
    }

    #[test]
    fn what_does_not_begin_as_a_segment_is_ours_only_in_an_archive_that_is() {
        let noise = || vec![7; 9000];
        for file in [name(6), name(6) + ".partial"] {
            assert_eq!(check(&[(file.clone(), noise())], false), Err(ForeignKind::Unknown));
            assert_eq!(check(&[(file.clone(), noise())], true), Ok(()));
            assert_eq!(check(&[(name(5), whole(7, 5)), (file, noise())], false), Ok(()));
        }
        // It is not in the way of anything.
        assert_eq!(check(&[(name(4), noise()), (name(6), whole(7, 6))], false), Ok(()));
    }

    #[test]
    fn what_has_the_wrong_name_is_left_alone() {
        let compressed = ForeignKind::Compressed(Compression::Zstd);
        let files = [(name(5), whole(7, 5)), (name(6), zstd(&whole(7, 6)))];
        assert_eq!(check(&files, true), Err(compressed));
        let start = Lsn::new(4 * u64::from(SIZE));
        assert_eq!(check(&[(name(5), whole(7, 4))], true), Err(ForeignKind::OtherSegment(start)));
        assert_eq!(
            check(&[(name(5), whole(7, 4)[..9000].into())], true),
            Err(ForeignKind::OtherSegment(start))
        );
        let dir = tempfile::tempdir().unwrap();
        symlink("unmounted", dir.path().join(name(5))).unwrap();
        assert_eq!(check_in(dir.path(), true), Err(ForeignKind::NotAFile));
        fs::write(dir.path().join(name(6)), whole(7, 6)).unwrap();
        assert_eq!(check_in(dir.path(), true), Ok(()), "nothing is received in its place");
    }

    #[test]
    fn a_writer_replaces_nothing_of_others() {
        let dir = tempfile::tempdir().unwrap();
        let size = WalSegmentSize::new(SIZE).unwrap();
        let archive = Archive::open(dir.path(), size).unwrap().of_cluster(OURS);
        let segment = crate::wal::WalSegment::parse(&name(5), size).unwrap();
        let (plain, partial) = (dir.path().join(name(5)), dir.path().join(name(5) + ".partial"));
        fs::write(&partial, whole(8, 5)).unwrap();
        let is_foreign = |error| matches!(error, ArchiveError::Foreign(_));
        assert!(is_foreign(super::super::SegmentWriter::open(&archive, segment).unwrap_err()));
        assert_eq!(fs::read(&partial).unwrap(), whole(8, 5));
        fs::remove_file(&partial).unwrap();
        let mut writer = super::super::SegmentWriter::open(&archive, segment).unwrap();
        writer.write(segment.start(), &whole(7, 5)).unwrap();
        for theirs in [whole(8, 5), whole(8, 5)[..9000].into(), vec![7; 9000]] {
            fs::write(&plain, &theirs).unwrap();
            writer.finish().unwrap_err();
            assert_eq!(fs::read(&plain).unwrap(), theirs);
        }
        fs::write(&plain, whole(8, 5)).unwrap();
        assert!(is_foreign(writer.replace(segment.start()).unwrap_err()));
        // What was proven before the damage has to be the same, compressed or not.
        let mut other = whole(7, 5);
        other[9000] ^= 1;
        let proven = |at: u64| Lsn::new(segment.start().get() + at);
        for (file, stored) in
            [(plain.clone(), other.clone()), (dir.path().join(name(5) + ".zst"), zstd(&other))]
        {
            fs::write(&file, &stored).unwrap();
            assert!(matches!(writer.replace(proven(9001)).unwrap_err(), ArchiveError::Conflict { .. }));
            assert_eq!(fs::read(&file).unwrap(), stored);
            fs::remove_file(&file).unwrap();
        }
        fs::write(&plain, &other).unwrap();
        writer.replace(proven(9000)).unwrap();
        assert_eq!(fs::read(&plain).unwrap(), whole(7, 5));
        let mut writer = super::super::SegmentWriter::open(&archive, segment).unwrap();
        writer.write(segment.start(), &whole(7, 5)).unwrap();
        fs::write(&plain, &whole(7, 5)[..9000]).unwrap();
        writer.finish().unwrap();
        assert_eq!(fs::read(&plain).unwrap(), whole(7, 5));
    }
}
