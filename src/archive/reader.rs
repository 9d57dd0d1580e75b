use core::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::file_name::compression_of;
use super::scan::{READ_LEN, read_full};
use super::{Archive, ArchiveError, ArchiveFileName};
use crate::archive::io_error;
use crate::compression::{Compression, Decoder};
use crate::storage::Directory;
use crate::wal::{SegmentIdentity, TimelineHistory};

/// Reads a file of an archive, decompressed as the suffix of its name says.
///
/// It gives no more bytes than a limit and fails where there are more, so that no file, however well it is compressed,
/// can fill memory or a disk. A file may have several gzip members or LZ4 or Zstandard frames. Bytes behind the last one
/// are ignored if they begin as none does: pg_receivewal leaves such bytes where it overwrites a longer partial file.
///
/// # Errors
/// Of [`Read`]: those of the file; [`io::ErrorKind::InvalidData`] or `InvalidInput` where it is not what its name
/// says or is damaged, as far as its format tells, or holds more than the limit; `UnexpectedEof` where it was cut
/// off. An end before the limit is no error: a file may be too short.
pub struct SegmentReader {
    decoder: Decoder<File>,
    path: PathBuf,
    /// Bytes that may still come.
    left: u64,
}

impl SegmentReader {
    /// Opens the file at `path`, which is to hold at most `limit` bytes, decompressed.
    ///
    /// # Errors
    /// If it cannot be opened.
    pub fn open(path: &Path, limit: u64) -> Result<Self, ArchiveError> {
        let file = File::open(path).map_err(|source| io_error("open", path.into(), source))?;
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        Ok(Self::new(file, path.into(), compression_of(name), limit))
    }

    /// Opens the file of that name in a directory, as [`SegmentReader::open`].
    pub(crate) fn open_in(directory: &Directory, name: &str, limit: u64) -> Result<Self, ArchiveError> {
        Ok(Self::new(directory.open_file(name)?, directory.path_of(name), compression_of(name), limit))
    }

    pub(crate) fn new(file: File, path: PathBuf, compression: Compression, limit: u64) -> Self {
        Self { decoder: Decoder::new(file, compression), path, left: limit }
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Fills `buffer`, or as much of it as there are bytes, and says how many.
    pub(crate) fn fill(&mut self, buffer: &mut [u8]) -> Result<usize, ArchiveError> {
        read_full(self, buffer).map_err(|source| self.error(source))
    }

    /// Reads on to the end, and says how many bytes there were.
    pub(crate) fn skip_to_end(&mut self) -> Result<u64, ArchiveError> {
        let mut buffer = std::vec![0; READ_LEN];
        let mut len = 0;
        loop {
            match self.fill(&mut buffer)? {
                0 => return Ok(len),
                read => len += read as u64,
            }
        }
    }

    /// Whether it has given as many bytes as it may.
    pub(crate) const fn is_at_limit(&self) -> bool {
        self.left == 0
    }

    /// What the segment's first bytes say of themselves, read from its beginning; `None` if the file ends before
    /// that, cannot be decompressed, or does not begin as a segment does.
    ///
    /// # Errors
    /// If the system cannot read the file.
    pub fn identity(&mut self) -> Result<Option<SegmentIdentity>, ArchiveError> {
        let mut header = [0; SegmentIdentity::LEN];
        match self.fill(&mut header) {
            Ok(SegmentIdentity::LEN) => Ok(SegmentIdentity::parse(&header)),
            Ok(_) | Err(ArchiveError::Decompress { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// What an error of reading means: only the system's own have a number.
    pub(crate) fn error(&self, source: io::Error) -> ArchiveError {
        let path = self.path.clone();
        match source.raw_os_error() {
            None if !self.decoder.is_plain() => ArchiveError::Decompress { path, source },
            _ => io_error("read", path, source),
        }
    }
}

impl Read for SegmentReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let room = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        if room == 0 && !buffer.is_empty() {
            // The end has to be here. The decoder compares its checksum when it finds it.
            return match self.decoder.read(&mut [0])? {
                0 => Ok(0),
                _ => Err(io::Error::new(io::ErrorKind::InvalidData, "it holds more than it should")),
            };
        }
        let read = self.decoder.read(&mut buffer[..room])?;
        self.left -= read as u64;
        Ok(read)
    }
}

impl fmt::Debug for SegmentReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SegmentReader").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Archive {
    /// Opens a segment or timeline history by its name in the archive, `.partial` or not, for reading what it
    /// holds, decompressed: a segment's size at most, of which a partial or damaged file may have less.
    ///
    /// # Errors
    /// If it cannot be opened; [`StorageError::Io`] with [`io::ErrorKind::NotFound`] if it does not exist.
    ///
    /// [`StorageError::Io`]: crate::storage::StorageError::Io
    pub fn open_segment(&self, name: &str) -> Result<SegmentReader, ArchiveError> {
        let limit = match ArchiveFileName::parse(name, self.segment_size()) {
            Some(ArchiveFileName::History { .. }) => TimelineHistory::MAX_LEN as u64 + 1,
            _ => self.segment_size().bytes().into(),
        };
        SegmentReader::open_in(self.directory(), name, limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::WalSegmentSize;
    use std::fs;
    use std::io::Write;
    use std::prelude::v1::*;

    const SIZE: usize = 1 << 20;
    const NAME: &str = "000000010000000000000005";
    const SUFFIXES: [&str; 4] = ["", ".gz", ".lz4", ".zst"];

    fn content() -> Vec<u8> {
        (0..SIZE as u32).flat_map(|i| (i / 7).wrapping_mul(2_654_435_761).to_le_bytes()).take(SIZE).collect()
    }

    /// The content as stored under a name with this suffix.
    fn stored(suffix: &str, content: &[u8]) -> Vec<u8> {
        match suffix {
            ".gz" => {
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                encoder.write_all(content).unwrap();
                encoder.finish().unwrap()
            }
            ".lz4" => {
                let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
                encoder.write_all(content).unwrap();
                encoder.finish().unwrap()
            }
            ".zst" => zstd::encode_all(content, 1).unwrap(),
            _ => content.into(),
        }
    }

    fn read(suffix: &str, stored: &[u8]) -> io::Result<Vec<u8>> {
        let dir = tempfile::tempdir().unwrap();
        let name = std::format!("{NAME}{suffix}");
        fs::write(dir.path().join(&name), stored).unwrap();
        let archive = Archive::open(dir.path(), WalSegmentSize::new(SIZE as u32).unwrap()).unwrap();
        let mut content = Vec::new();
        archive.open_segment(&name).unwrap().read_to_end(&mut content).map(|_| content)
    }

    #[test]
    fn every_suffix_gives_the_content_back() {
        let content = content();
        for suffix in SUFFIXES {
            let stored = stored(suffix, &content);
            assert!(read(suffix, &stored).unwrap() == content, "{suffix}");
            assert!(read(&std::format!("{suffix}.partial"), &stored).unwrap() == content, "{suffix}");
        }
    }

    #[test]
    fn what_follows_the_compressed_stream_is_passed_over() {
        let content = content();
        for suffix in &SUFFIXES[1..] {
            let mut stored = stored(suffix, &content);
            stored.extend([7; 300]);
            assert!(read(suffix, &stored).unwrap() == content, "{suffix}");
        }
    }

    #[test]
    fn no_more_than_a_segment_is_read() {
        let bomb = std::vec![0; 40 * SIZE];
        for suffix in SUFFIXES {
            let error = read(suffix, &stored(suffix, &bomb)).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{suffix}");
        }
    }

    #[test]
    fn a_file_that_was_cut_off_or_is_something_else_has_no_segment() {
        let content = content();
        for suffix in &SUFFIXES[1..] {
            let stored = stored(suffix, &content);
            let cut_off = read(suffix, &stored[..stored.len() / 2]);
            assert!(cut_off.is_err_and(|error| error.raw_os_error().is_none()), "{suffix}");
            assert!(read(suffix, &content).is_err(), "{suffix}");
        }
    }

    #[test]
    fn a_flipped_bit_is_an_error_where_the_format_has_a_checksum() {
        let mut gzip = stored(".gz", &content());
        let at = gzip.len() - 8;
        gzip[at] ^= 1;
        assert!(read(".gz", &gzip).is_err());
    }
}
