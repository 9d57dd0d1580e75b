//! What was received of a segment before, and may have been acknowledged.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::FileExt as _;
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
                // A file that has become shorter cannot be read, and tells nothing of the server.
                self.file
                    .read_exact_at(&mut [0], at.saturating_add(differs))
                    .map_err(|source| io_error("read", self.path.clone(), source))?;
                let lsn = Lsn::new(position.get() + differs);
                Err(ReceiveError::Damage(WalDamage { lsn, kind: WalDamageKind::NotAsBefore }))
            }
            Err(CompareError::Ours(source) | CompareError::Theirs(source)) => {
                Err(io_error("read", self.path.clone(), source).into())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;
    use std::vec;

    /// The first 300,000 bytes of a segment, all alike, and what is written to their file.
    fn tail() -> (AcknowledgedTail, File) {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(&[7; 300_000]).unwrap();
        let start = Lsn::new(0x500_0000);
        let end = Lsn::new(start.get() + 300_000);
        let tail = AcknowledgedTail { file: file.reopen().unwrap(), path: file.path().into(), start, end };
        (tail, file.into_file())
    }

    #[test]
    fn the_same_bytes_are_right_and_those_behind_the_tail_may_be_any() {
        let (tail, _) = tail();
        for (at, len) in [(0, 300_000), (0, 1), (299_999, 1), (150_000, 150_000)] {
            let mut bytes = vec![7; len];
            bytes.extend([8; 10_000].iter().skip(if at + len == 300_000 { 0 } else { 10_000 }));
            tail.compare(Lsn::new(tail.start.get() + at as u64), &bytes).unwrap();
        }
        tail.compare(tail.end, &[8; 10]).unwrap();
    }

    #[test]
    fn the_first_other_byte_is_named() {
        let (tail, _) = tail();
        let mut bytes = vec![7; 200_000];
        bytes[170_001] = 8;
        let position = Lsn::new(tail.start.get() + 50_000);
        let error = tail.compare(position, &bytes).unwrap_err();
        let ReceiveError::Damage(damage) = error else { panic!("{error}") };
        assert_eq!(damage.kind, WalDamageKind::NotAsBefore);
        assert_eq!(damage.lsn.get(), position.get() + 170_001);
    }

    #[test]
    fn a_file_that_was_made_shorter_is_no_fault_of_the_server() {
        let (tail, file) = tail();
        file.set_len(100_000).unwrap();
        let error = tail.compare(tail.start, &[7; 200_000]).unwrap_err();
        assert!(matches!(error, ReceiveError::Archive(_)), "{error}");
        // What differs before the end does tell.
        let error = tail.compare(tail.start, &[8; 200_000]).unwrap_err();
        assert!(matches!(error, ReceiveError::Damage(_)), "{error}");
    }
}
