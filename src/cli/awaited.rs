//! Waiting until segments are complete in an archive that another process fills.

use core::time::Duration;
use std::fs;
use std::io;
use std::path::Path;

use super::failure::Failure;
use tapster::archive::{Archive, ArchiveError, SegmentFile};
use tapster::compression::Compression;
use tapster::types::{SystemId, WalSegmentSize, WithCauses};
use tapster::wal::WalSegment;

/// The time between two looks.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);

/// An archive of a server, in which its receiver completes segments.
#[derive(Clone, Debug)]
pub(super) struct AwaitedArchive {
    archive: Archive,
    cluster: SystemId,
}

/// How far a segment is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Found {
    Complete,
    /// Not there, or not complete; with the reason, if the file is there.
    NotYet(Option<String>),
}

impl AwaitedArchive {
    /// Opens the archive at `path`, which may be empty.
    ///
    /// # Errors
    /// If it cannot be read; a refusal if it is another cluster's.
    pub(super) async fn open(path: &Path, size: WalSegmentSize, cluster: SystemId) -> Result<Self, Failure> {
        let path = path.to_owned();
        blocking(move || {
            let archive = Archive::open(&path, size)?;
            let state = archive.read_state()?;
            if let Some(state) = &state {
                let file = path.display();
                if state.system_id != cluster {
                    let id = state.system_id;
                    return Err(Failure::refused(format!(
                        "\"{file}\" is the archive of the cluster with system identifier {id}, and the server's is {cluster}"
                    )));
                }
            }
            archive.check_owner(&archive.end()?, cluster, state.is_some())?;
            Ok(Self { archive, cluster })
        })
        .await
    }

    /// The directory.
    pub(super) fn path(&self) -> &Path {
        self.archive.path()
    }

    /// Waits until the segment is complete.
    ///
    /// # Errors
    /// If the archive cannot be read, or a file of the segment is another cluster's.
    ///
    /// # Cancel safety
    /// Nothing is lost if the future is dropped.
    pub(super) async fn wait_for(&self, segment: WalSegment) -> Result<(), Failure> {
        while self.look(segment, true).await? != Found::Complete {
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
        Ok(())
    }

    /// Looks for the segment. If `to_the_end`, a compressed file is decompressed as a whole.
    ///
    /// # Errors
    /// As those of [`wait_for`](Self::wait_for).
    pub(super) async fn look(&self, segment: WalSegment, to_the_end: bool) -> Result<Found, Failure> {
        let this = self.clone();
        blocking(move || this.find(segment, to_the_end)).await
    }

    fn find(&self, segment: WalSegment, to_the_end: bool) -> Result<Found, Failure> {
        let mut incomplete = None;
        for compression in Compression::ALL {
            let file = SegmentFile::complete(segment, compression);
            let name = file.to_string();
            let mut reader = match self.archive.open_segment(&name) {
                Ok(reader) => reader,
                Err(error) if is_missing(&error) => continue,
                Err(error) => return Err(error.into()),
            };
            // Another process may be about to write the file.
            let Some(identity) = reader.identity()? else {
                incomplete = Some(format!("{name} does not begin as a segment does"));
                continue;
            };
            if identity.system_id != self.cluster
                || identity.start != segment.start()
                || identity.size() != Some(segment.size())
            {
                return Err(Failure::refused(format!(
                    "\"{}\" is not what its name says: it is the segment at {} of the cluster with system identifier {}, and \
                     the server's is {}",
                    reader.path().display(),
                    identity.start,
                    identity.system_id,
                    self.cluster
                )));
            }
            let path = reader.path().to_owned();
            let rest = match compression {
                Compression::None => fs::metadata(&path).map(|file| file.len()),
                _ if to_the_end => io::copy(&mut reader, &mut io::sink())
                    .map(|rest| rest + tapster::wal::SegmentIdentity::LEN as u64),
                _ => Ok(segment.size().bytes().into()),
            };
            match rest {
                Ok(len) if len == u64::from(segment.size().bytes()) => return Ok(Found::Complete),
                Ok(len) => incomplete = Some(format!("{name} has {len} bytes so far")),
                Err(error) => incomplete = Some(format!("{name} cannot be read to its end: {error}")),
            }
        }
        Ok(Found::NotYet(incomplete))
    }
}

fn is_missing(error: &ArchiveError) -> bool {
    matches!(error, ArchiveError::Storage(error) if error.is_not_found())
}

/// Does `work` on another thread: a disk or a network file system may hang.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(Failure::other(WithCauses(&error).to_string())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;
    use tapster::compression::Encoder;

    const SIZE: u32 = 1 << 20;

    /// A segment with nothing but the header of its first page.
    fn segment(system_id: u64, number: u64) -> Vec<u8> {
        let mut bytes = vec![0; SIZE as usize];
        // Magic number and flags, timeline, address, then what only a segment's first page has.
        bytes[..4].copy_from_slice(&[0x10, 0xd1, 2, 0]);
        bytes[4..8].copy_from_slice(&1_u32.to_le_bytes());
        bytes[8..16].copy_from_slice(&(number * u64::from(SIZE)).to_le_bytes());
        bytes[24..32].copy_from_slice(&system_id.to_le_bytes());
        bytes[32..36].copy_from_slice(&SIZE.to_le_bytes());
        bytes[36..40].copy_from_slice(&8192_u32.to_le_bytes());
        bytes
    }

    #[test]
    fn only_a_whole_file_of_the_cluster_is_a_complete_segment() {
        const NAME: &str = "000000010000000000000005";
        let size = WalSegmentSize::new(SIZE).unwrap();
        let wanted = WalSegment::parse(NAME, size).unwrap();
        let find = |files: &[(&str, &[u8])], to_the_end| {
            let dir = tempfile::tempdir().unwrap();
            for (suffix, bytes) in files {
                fs::write(dir.path().join(format!("{NAME}{suffix}")), bytes).unwrap();
            }
            let archive = Archive::open(dir.path(), size).unwrap();
            AwaitedArchive { archive, cluster: SystemId::new(7) }.find(wanted, to_the_end)
        };
        let whole = segment(7, 5);
        for (suffix, method) in [(".gz", "gzip"), (".lz4", "lz4"), (".zst", "zstd")] {
            let mut encoder = Encoder::new(Vec::new(), method.parse().unwrap(), SIZE.into()).unwrap();
            encoder.write_all(&whole).unwrap();
            let compressed = encoder.finish().unwrap();
            assert_eq!(find(&[(suffix, &compressed)], true).unwrap(), Found::Complete, "{method}");
            // A program that compresses in place is not done.
            let part = &compressed[..compressed.len() - 5];
            assert!(matches!(find(&[(suffix, part)], true).unwrap(), Found::NotYet(Some(_))), "{method}");
        }
        assert_eq!(find(&[("", &whole)], true).unwrap(), Found::Complete);
        assert_eq!(find(&[], true).unwrap(), Found::NotYet(None));
        assert_eq!(find(&[(".partial", &whole)], true).unwrap(), Found::NotYet(None));
        for part in [0, 20, 9000] {
            let found = find(&[("", &whole[..part])], true).unwrap();
            assert!(matches!(found, Found::NotYet(Some(_))), "{part}: {found:?}");
        }
        for foreign in [segment(8, 5), segment(7, 4)] {
            assert_eq!(find(&[("", &foreign)], true).unwrap_err().code(), 5);
        }
    }
}
