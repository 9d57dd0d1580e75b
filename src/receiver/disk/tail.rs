//! What was received of a segment before, and may have been acknowledged.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::string::ToString as _;
use std::vec;

use crate::archive::io_error;
use crate::archive::{Archive, ArchiveError, SegmentFile};
use crate::receiver::ReceiveError;
use crate::storage::Entry;
use crate::types::Lsn;
use crate::wal::{WalChecker, WalDamage, WalDamageKind, WalSegment};

/// The records in a partial segment that are complete and right. A server that continues this archive has the same.
///
/// What follows them is no more than bytes: a server may overwrite the beginning of a record after a crash.
#[derive(Debug)]
pub(crate) struct AcknowledgedTail {
    file: File,
    path: PathBuf,
    start: Lsn,
    end: Lsn,
}

/// Bytes that are read at a time.
const READ_BYTES: usize = 64 << 10;

impl AcknowledgedTail {
    /// What is here of `segment`, which `checker` has come to; `None` if that is nothing.
    pub(crate) fn find(
        archive: &Archive,
        segment: WalSegment,
        mut checker: WalChecker,
    ) -> Result<Option<Self>, ArchiveError> {
        let name = SegmentFile::partial(segment).to_string();
        let Some(Entry::File(_)) = archive.directory().entry(&name)? else { return Ok(None) };
        let (file, path) = (archive.directory().open_file(&name)?, archive.directory().path_of(&name));
        let mut buffer = vec![0; READ_BYTES];
        while checker.position() < segment.end() {
            let at = checker.position().saturating_sub(segment.start());
            let read =
                file.read_at(&mut buffer, at).map_err(|source| io_error("read", path.clone(), source))?;
            // Where it ends, or ends to be right, nothing more can be told.
            let bytes = buffer.get(..read).unwrap_or_default();
            if bytes.is_empty() || checker.check(checker.position(), bytes).is_err() {
                break;
            }
        }
        let (start, end) = (segment.start(), checker.last_record_end().min(segment.end()));
        Ok((end > start).then_some(Self { file, path, start, end }))
    }

    /// Whether the bytes from `position` on are those that are kept, as far as they go.
    pub(crate) fn compare(&self, position: Lsn, bytes: &[u8]) -> Result<(), ReceiveError> {
        let len = usize::try_from(self.end.saturating_sub(position)).unwrap_or(usize::MAX);
        let mut buffer = [0; COMPARE_BYTES];
        let mut at = position;
        for bytes in bytes.get(..len).unwrap_or(bytes).chunks(COMPARE_BYTES) {
            let ours = &mut buffer[..bytes.len()];
            let read = self.file.read_exact_at(ours, at.saturating_sub(self.start));
            read.map_err(|source| io_error("read", self.path.clone(), source))?;
            if let Some(differs) = ours.iter().zip(bytes).position(|(ours, theirs)| ours != theirs) {
                let lsn = Lsn::new(at.get() + differs as u64);
                return Err(ReceiveError::Damage(WalDamage { lsn, kind: WalDamageKind::NotAsBefore }));
            }
            at = Lsn::new(at.get() + bytes.len() as u64);
        }
        Ok(())
    }
}

/// Bytes that are compared at a time.
const COMPARE_BYTES: usize = 8 << 10;
