//! What was received of a segment before, and may have been acknowledged.

use std::fs::File;
use std::io::Read as _;
use std::path::PathBuf;
use std::string::ToString as _;

use crate::archive::{Archive, ArchiveError, SegmentFile};
use crate::archive::{CompareError, ReadAt, check_file, first_difference, io_error};
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
        let at = checker.position().saturating_sub(segment.start());
        let len = segment.end().saturating_sub(checker.position());
        // Behind the last record that is right, nothing more can be told: damage there is no error.
        let _ = check_file(&mut ReadAt { file: &file, at }.take(len), &mut checker)
            .map_err(|source| io_error("read", path.clone(), source))?;
        let (start, end) = (segment.start(), checker.last_record_end().min(segment.end()));
        Ok((end > start).then_some(Self { file, path, start, end }))
    }

    /// Whether the bytes from `position` on are those that are kept, as far as they go.
    pub(crate) fn compare(&self, position: Lsn, bytes: &[u8]) -> Result<(), ReceiveError> {
        let len = usize::try_from(self.end.saturating_sub(position)).unwrap_or(usize::MAX);
        let mut theirs = bytes.get(..len).unwrap_or(bytes);
        let at = position.saturating_sub(self.start);
        let mut ours = ReadAt { file: &self.file, at }.take(theirs.len() as u64);
        match first_difference(&mut ours, &mut theirs) {
            Ok(None) => Ok(()),
            Ok(Some(differs)) => {
                let lsn = Lsn::new(position.get() + differs);
                Err(ReceiveError::Damage(WalDamage { lsn, kind: WalDamageKind::NotAsBefore }))
            }
            Err(CompareError::Ours(source) | CompareError::Theirs(source)) => {
                Err(io_error("read", self.path.clone(), source).into())
            }
        }
    }
}
