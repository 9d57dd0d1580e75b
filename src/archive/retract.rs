use std::prelude::v1::*;

use super::{Archive, ArchiveError, SegmentFile};
use crate::wal::WalSegment;

impl Archive {
    /// Takes complete segments back, which follow each other: the first is partial again, to be received anew,
    /// and the others are removed, as is the partial segment behind them.
    ///
    /// # Errors
    /// If a file cannot be removed or renamed durably.
    pub fn retract(&self, segments: &[WalSegment]) -> Result<(), ArchiveError> {
        let [first, others @ ..] = segments else { return Ok(()) };
        if let Some(behind) = segments.last().and_then(|last| last.next()) {
            self.directory().remove(&SegmentFile::partial(behind).to_string())?;
        }
        for segment in others.iter().rev() {
            self.directory().remove(&SegmentFile::plain(*segment).to_string())?;
        }
        let (complete, partial) = (SegmentFile::plain(*first), SegmentFile::partial(*first));
        match self.directory().entry(&complete.to_string())? {
            Some(_) => self.directory().rename(&complete.to_string(), &partial.to_string())?,
            // Another process already moved the segment away.
            None => self.directory().sync()?,
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::WalSegmentSize;
    use std::fs;

    #[test]
    fn the_first_segment_is_partial_again_and_the_others_are_gone() {
        let dir = tempfile::tempdir().unwrap();
        let size = WalSegmentSize::new(1 << 20).unwrap();
        let archive = Archive::open(dir.path(), size).unwrap();
        let segment = |n| WalSegment::parse(&std::format!("00000001000000000000000{n}"), size).unwrap();
        for n in 4..7 {
            fs::write(dir.path().join(segment(n).to_string()), n.to_string()).unwrap();
        }
        fs::write(dir.path().join(SegmentFile::partial(segment(7)).to_string()), "").unwrap();
        archive.retract(&[]).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 4);
        archive.retract(&[segment(5), segment(6)]).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
        assert_eq!(fs::read(dir.path().join(segment(4).to_string())).unwrap(), b"4");
        let partial = dir.path().join(SegmentFile::partial(segment(5)).to_string());
        assert_eq!(fs::read(&partial).unwrap(), b"5");
        // Another process has moved the segment away meanwhile.
        fs::remove_file(partial).unwrap();
        archive.retract(&[segment(5)]).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
