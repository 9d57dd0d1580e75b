//! The files of a log: an archive directory, from its end to its verification. No network.
//!
//! An archive is a directory with nothing in it but
//!
//! | name | is |
//! |---|---|
//! | `<segment>` | a complete segment: 24 upper-case hexadecimal digits, exactly the cluster's segment size |
//! | `<segment>.partial` | the segment in progress, or where a timeline was left; it has the full size from the beginning, with zeros for what never came |
//! | `<timeline>.history` | the ancestors of a timeline, as the server sent them |
//! | `tapster.state` | see [`ArchiveState`]; only where the receiver keeps one |
//! | `*.tmp` | a file in the making; of no meaning after a crash, and then [removed](Archive::remove_left_over) |
//!
//! A complete segment may be compressed, and then has `.gz`, `.lz4` or `.zst` appended; pg_receivewal also compresses
//! histories and partial segments, where it comes before `.partial`. [`SegmentReader`] reads them all. The lock is on
//! the directory itself.
//!
//! # What holds at every moment, also after a crash
//! - A complete name has complete, durable bytes: [`SegmentWriter::finish`] syncs, renames, and syncs the name.
//! - A partial file is received again from the start of its segment, and so needs no mending.
//! - A position that [`SegmentWriter`] calls durable is; after a failed fsync it never calls one so again.
//! - A segment that is being compressed is here as the plain file until the compressed one is durable.
//! - A complete segment and a history are never overwritten by other content, and no file of another cluster is.

mod compress;
mod end;
mod error;
mod fetch;
mod file_name;
mod listing;
mod missing;
mod owner;
mod problem;
mod reader;
mod retract;
mod scan;
mod segment_file;
mod state_file;
mod verification;
mod verify;
mod writer;

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::prelude::v1::*;
use std::sync::Arc;

use crate::compression::Compression;
use crate::storage::{Directory, Fill, FsyncTimes};
use crate::types::{SystemId, TimelineId, WalSegmentSize};
use crate::wal::TimelineHistory;

pub use end::{ArchiveEnd, ArchiveWarning, WarningKind};
pub use error::ArchiveError;
pub(crate) use error::io_error;
pub use fetch::{FetchError, Fetched, Fetcher, FileDamage};
pub use file_name::ArchiveFileName;
pub use listing::{ListedOther, ListedSegment, ListedTimeline, Listing, OtherKind, list};
pub use missing::MissingWal;
pub use owner::{ForeignFile, ForeignKind};
pub use problem::{ArchiveProblem, Unreadable};
pub use reader::SegmentReader;
#[cfg(feature = "receiver")]
pub(crate) use scan::{CompareError, ReadAt, check_file, first_difference};
pub use segment_file::SegmentFile;
pub use state_file::{AcceptedGap, ArchiveState};
pub use verification::{SegmentRun, Verification, VerifyProgress};
pub use verify::{verify, verify_with};
pub use writer::SegmentWriter;

/// A directory of WAL segments of one cluster.
///
/// A clone is another handle to the same open directory. All calls block.
#[derive(Clone, Debug)]
pub struct Archive {
    directory: Arc<Directory>,
    segment_size: WalSegmentSize,
    /// Whose the archive is, once that is known.
    cluster: Option<SystemId>,
    file_mode: u32,
    fsyncs: Arc<FsyncTimes>,
    fill: Fill,
}

impl Archive {
    /// Opens the directory at `path`, which must exist, as an archive of segments of `segment_size`.
    ///
    /// # Errors
    /// If it cannot be opened, or is no directory.
    pub fn open(path: &Path, segment_size: WalSegmentSize) -> Result<Self, ArchiveError> {
        let directory = Arc::new(Directory::open(path)?);
        let (fsyncs, fill) = (Arc::default(), Fill::default());
        Ok(Self { directory, segment_size, cluster: None, file_mode: 0o600, fsyncs, fill })
    }

    /// The archive is to be this cluster's: writing a segment replaces no file of others.
    #[must_use]
    pub fn of_cluster(self, cluster: SystemId) -> Self {
        Self { cluster: Some(cluster), ..self }
    }

    /// Whether the group may read new files: mode 0640 instead of 0600, less what the umask takes away.
    ///
    /// Servers ask for it by `data_directory_mode` 0750.
    #[must_use]
    pub fn with_group_access(self, group_access: bool) -> Self {
        Self { file_mode: if group_access { 0o640 } else { 0o600 }, ..self }
    }

    /// The times of its segments' fsyncs are counted there.
    #[must_use]
    pub fn with_fsyncs(self, fsyncs: &Arc<FsyncTimes>) -> Self {
        Self { fsyncs: Arc::clone(fsyncs), ..self }
    }

    /// New segments are made like that.
    #[must_use]
    pub fn with_fill(self, fill: Fill) -> Self {
        Self { fill, ..self }
    }

    /// The path that it was opened with.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    const fn cluster(&self) -> Option<SystemId> {
        self.cluster
    }

    /// The size of its segments.
    #[must_use]
    pub const fn segment_size(&self) -> WalSegmentSize {
        self.segment_size
    }

    /// Makes this process the only one that receives into the archive, until the guard is dropped.
    ///
    /// The lock is on the directory itself: it leaves no file there and ends with the process.
    ///
    /// # Errors
    /// [`StorageError::Locked`] names the process that was first. [`StorageError::LockUnsupported`] leaves it to the
    /// caller whether to go on without.
    ///
    /// [`StorageError::Locked`]: crate::storage::StorageError::Locked
    /// [`StorageError::LockUnsupported`]: crate::storage::StorageError::LockUnsupported
    pub fn lock(&self) -> Result<ArchiveLock, ArchiveError> {
        Ok(ArchiveLock(self.directory.lock()?))
    }

    /// Removes the incomplete files that crashes have left; files that another process is making stay.
    ///
    /// Call this once before writing into the archive: otherwise a program that crashes again and again fills
    /// the disk.
    ///
    /// # Errors
    /// If the directory cannot be read, or a file cannot be removed.
    pub fn remove_left_over(&self) -> Result<(), ArchiveError> {
        Ok(self.directory.remove_left_over(|name| {
            name == ArchiveState::FILE_NAME || ArchiveFileName::parse(name, self.segment_size).is_some()
        })?)
    }

    /// Whether the history of `timeline` is here.
    ///
    /// # Errors
    /// If the directory cannot be searched.
    pub fn has_history(&self, timeline: TimelineId) -> Result<bool, ArchiveError> {
        Ok(self.history_file(timeline)?.is_some())
    }

    /// The history of `timeline`, if it is here.
    ///
    /// # Errors
    /// If the file cannot be read, or is no timeline history.
    pub fn read_history(&self, timeline: TimelineId) -> Result<Option<TimelineHistory>, ArchiveError> {
        let Some((name, bytes)) = self.history_bytes(timeline)? else { return Ok(None) };
        TimelineHistory::parse(timeline, &bytes)
            .map(Some)
            .map_err(|source| ArchiveError::History { path: self.directory.path_of(&name), source })
    }

    /// Stores the history of `timeline` as the server sent it, if it is not here; it is durable when this returns.
    ///
    /// # Errors
    /// [`ArchiveError::Conflict`] if there is one with other content: of another cluster, or damaged.
    pub fn write_history(&self, timeline: TimelineId, bytes: &[u8]) -> Result<(), ArchiveError> {
        if let Some((name, existing)) = self.history_bytes(timeline)? {
            return if existing == bytes {
                Ok(self.directory.sync()?)
            } else {
                Err(ArchiveError::Conflict { path: self.directory.path_of(&name) })
            };
        }
        Ok(self.directory.replace(&history_name(timeline), bytes, self.file_mode)?)
    }

    /// The name of the file that has the history of `timeline`. Ours are plain; pg_receivewal's may not be.
    fn history_file(&self, timeline: TimelineId) -> Result<Option<String>, ArchiveError> {
        for compression in Compression::ALL {
            let name = ArchiveFileName::History { timeline, compression }.to_string();
            if self.directory.entry(&name)?.is_some() {
                return Ok(Some(name));
            }
        }
        Ok(None)
    }

    /// The name and the text of the file that has the history of `timeline`.
    fn history_bytes(&self, timeline: TimelineId) -> Result<Option<(String, Vec<u8>)>, ArchiveError> {
        let Some(name) = self.history_file(timeline)? else { return Ok(None) };
        let mut bytes = Vec::new();
        let mut file = self.open_segment(&name)?;
        file.read_to_end(&mut bytes).map_err(|source| file.error(source))?;
        Ok(Some((name, bytes)))
    }

    pub(crate) fn directory(&self) -> &Directory {
        &self.directory
    }

    pub(crate) fn fill(&self) -> Fill {
        self.fill
    }

    pub(crate) fn fsyncs(&self) -> &Arc<FsyncTimes> {
        &self.fsyncs
    }

    pub(crate) const fn file_mode(&self) -> u32 {
        self.file_mode
    }
}

/// The right to receive into an archive; see [`Archive::lock`]. It ends when this is dropped.
#[derive(Debug)]
#[must_use = "the lock ends when this is dropped"]
pub struct ArchiveLock(#[expect(dead_code, reason = "held open for its lock")] File);

fn history_name(timeline: TimelineId) -> String {
    ArchiveFileName::History { timeline, compression: Compression::None }.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::StorageError;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    fn archive(dir: &tempfile::TempDir) -> Archive {
        Archive::open(dir.path(), WalSegmentSize::DEFAULT).unwrap()
    }

    #[test]
    fn a_directory_that_is_missing_or_is_a_file_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let missing = dir.path().join("missing");
        let error = Archive::open(&missing, WalSegmentSize::DEFAULT).unwrap_err();
        assert_eq!(error.to_string(), std::format!("could not open directory \"{}\"", missing.display()));
        fs::write(&missing, "").unwrap();
        assert!(Archive::open(&missing, WalSegmentSize::DEFAULT).is_err());
    }

    #[test]
    fn the_second_lock_is_refused_and_names_the_holder() {
        let dir = tempfile::tempdir().unwrap();
        let first = archive(&dir).lock().unwrap();
        let error = archive(&dir).lock().unwrap_err();
        assert!(
            matches!(error, ArchiveError::Storage(StorageError::Locked { holder, .. }) if holder == Some(std::process::id())),
            "{error}"
        );
        assert!(error.is_refusal());
        drop(first);
        let _again = archive(&dir).lock().unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "the lock leaves no file");
    }

    #[test]
    fn a_history_is_stored_once_and_never_changed() {
        let dir = tempfile::tempdir().unwrap();
        let archive = archive(&dir);
        let two = TimelineId::new(2).unwrap();
        assert_eq!((archive.has_history(two).unwrap(), archive.read_history(two).unwrap()), (false, None));

        // What a crash left behind does not matter.
        for left_over in ["00000002.history.0123456789abcdef.tmp", "tapster.state.fedcba9876543210.tmp"] {
            fs::write(dir.path().join(left_over), "half a text").unwrap();
        }
        archive.remove_left_over().unwrap();
        let file = b"1\t0/50000A0\treason\n";
        archive.write_history(two, file).unwrap();
        archive.write_history(two, file).unwrap();
        assert!(archive.has_history(two).unwrap());
        assert_eq!(fs::read(dir.path().join("00000002.history")).unwrap(), file);
        assert_eq!(archive.read_history(two).unwrap(), TimelineHistory::parse(two, file).ok());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);

        for other in [&b"1\t0/50000A0\treason\n#"[..], b"1\t0/50000A0\treason", b"1\t0/60000A0\treason\n"] {
            let error = archive.write_history(two, other).unwrap_err();
            assert!(matches!(error, ArchiveError::Conflict { .. }), "{error}");
            assert_eq!(fs::read(dir.path().join("00000002.history")).unwrap(), file);
        }
    }

    #[test]
    fn a_damaged_history_is_an_error_and_not_absent() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("00000002.history"), [0; 100]).unwrap();
        let error = archive(&dir).read_history(TimelineId::new(2).unwrap()).unwrap_err();
        assert!(matches!(error, ArchiveError::History { .. }), "{error}");
    }

    #[test]
    fn the_group_may_read_only_if_it_was_said_so() {
        let dir = tempfile::tempdir().unwrap();
        for (group_access, id, mode) in [(false, 2, 0o600), (true, 3, 0o640)] {
            let timeline = TimelineId::new(id).unwrap();
            archive(&dir).with_group_access(group_access).write_history(timeline, b"").unwrap();
            let name = dir.path().join(history_name(timeline));
            // A umask may take more away than the mode does, and gives nothing.
            assert_eq!(fs::metadata(name).unwrap().permissions().mode() & 0o777 & !mode, 0);
        }
    }

    #[test]
    fn the_directory_that_was_opened_counts_also_after_it_was_moved() {
        let dir = tempfile::tempdir().unwrap();
        let (before, after) = (dir.path().join("a"), dir.path().join("b"));
        fs::create_dir(&before).unwrap();
        let archive = Archive::open(&before, WalSegmentSize::DEFAULT).unwrap();
        fs::rename(&before, &after).unwrap();
        fs::create_dir(&before).unwrap();
        archive.write_history(TimelineId::new(2).unwrap(), b"").unwrap();
        assert!(after.join("00000002.history").exists());
    }
}
