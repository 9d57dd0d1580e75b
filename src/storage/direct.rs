use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Direct writes take whole blocks of this size, at a multiple of it in the file and in memory: as much as any
/// common device asks for.
pub const BLOCK_LEN: usize = 4096;
/// A shorter run is left to the page cache: the disk can have it together with what follows.
const MIN_RUN_LEN: usize = 128 << 10;
/// Bytes that are given to the page cache at a time. For a larger write the kernel allocates larger blocks of memory,
/// which were not used for long and are in no processor cache: in a virtual machine that took up to five times the
/// processor time (ext4, Linux 6.18). Small blocks are reused again and again.
const CACHED_LEN: usize = 32 << 10;

/// Writes into one file: long runs straight to the disk, and everything else through the page cache.
///
/// The page cache costs several times the processor time of a direct write: the kernel allocates pages, copies into
/// them and writes them back later. It also evicts the pages of other programs.
#[derive(Debug)]
pub struct DirectWriter {
    /// Whether direct writes are worth a try.
    usable: bool,
    /// Whether the file is set to direct writes.
    direct: bool,
}

impl DirectWriter {
    /// A writer for `file`.
    pub fn new(file: &File) -> Self {
        Self { usable: system::is_on_local_disk(file), direct: false }
    }

    /// A writer for a file that was not written to yet, which leaves everything in the page cache.
    pub const fn cached() -> Self {
        Self { usable: false, direct: false }
    }

    /// Writes all of `bytes` at `at`.
    pub fn write_all_at(&mut self, file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
        let Some((head, run, tail)) = split(bytes, at).filter(|_| self.usable) else {
            return self.write_cached(file, bytes, at);
        };
        let run_at = at + head.len() as u64;
        self.write_cached(file, head, at)?;
        match self.write_direct(file, run, run_at) {
            // A device with larger blocks, or a file system that cannot.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                self.usable = false;
                self.write_cached(file, run, run_at)?;
            }
            result => result?,
        }
        self.write_cached(file, tail, run_at + run.len() as u64)
    }

    /// Has the file use the page cache again, for reads by the same handle.
    ///
    /// # Errors
    /// The system's.
    pub fn leave(&mut self, file: &File) -> io::Result<()> {
        self.set(file, false)
    }

    fn write_direct(&mut self, file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
        self.set(file, true)?;
        file.write_all_at(bytes, at)
    }

    fn write_cached(&mut self, file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.set(file, false)?;
        for (piece, at) in bytes.chunks(CACHED_LEN).zip((at..).step_by(CACHED_LEN)) {
            file.write_all_at(piece, at)?;
        }
        Ok(())
    }

    fn set(&mut self, file: &File, direct: bool) -> io::Result<()> {
        if self.direct != direct {
            system::set_direct(file, direct)?;
            self.direct = direct;
        }
        Ok(())
    }
}

/// What of `bytes`, which belong at `at`, can be written directly and is worth it, with what comes before and after.
fn split(bytes: &[u8], at: u64) -> Option<(&[u8], &[u8], &[u8])> {
    let to_block = |position: usize| position.wrapping_neg() % BLOCK_LEN;
    let head_len = to_block((at % BLOCK_LEN as u64) as usize);
    if to_block(bytes.as_ptr().addr()) != head_len {
        return None;
    }
    let (head, rest) = bytes.split_at_checked(head_len)?;
    let (run, tail) = rest.split_at(rest.len() - rest.len() % BLOCK_LEN);
    (run.len() >= MIN_RUN_LEN).then_some((head, run, tail))
}

#[cfg(target_os = "linux")]
mod system {
    use super::{File, io};
    use rustix::fs::{FsWord, OFlags, fcntl_setfl, fstatfs};

    /// ext2 to ext4, and XFS. Others wait for a server with each direct write, or copy the bytes all the same.
    const LOCAL: [FsWord; 2] = [0xef53, 0x5846_5342];

    pub(super) fn is_on_local_disk(file: &File) -> bool {
        fstatfs(file).is_ok_and(|stat| LOCAL.contains(&stat.f_type))
    }

    pub(super) fn set_direct(file: &File, direct: bool) -> io::Result<()> {
        fcntl_setfl(file, if direct { OFlags::DIRECT } else { OFlags::empty() })?;
        Ok(())
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    use super::{File, io};

    pub(super) fn is_on_local_disk(_: &File) -> bool {
        false
    }

    pub(super) fn set_direct(_: &File, _: bool) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::prelude::v1::*;
    use std::vec;

    /// A directory of the source tree, which is on a disk more often than that for temporary files.
    fn file() -> File {
        tempfile::tempfile_in(env!("CARGO_MANIFEST_DIR")).unwrap()
    }

    /// `len` bytes in memory of which the first is `offset` behind the start of a block.
    fn with_aligned<T>(len: usize, offset: usize, test: impl FnOnce(&[u8]) -> T) -> T {
        let mut memory = vec![0; len + 2 * BLOCK_LEN];
        let begin = memory.as_ptr().addr().wrapping_neg() % BLOCK_LEN + offset;
        let bytes = &mut memory[begin..begin + len];
        bytes.iter_mut().enumerate().for_each(|(i, byte)| *byte = (i % 251) as u8 + 1);
        test(bytes)
    }

    #[test]
    fn a_long_run_is_parted_at_blocks() {
        let lens = |len, in_memory, at| {
            with_aligned(len, in_memory, |bytes| {
                split(bytes, at).map(|(head, run, tail)| (head.len(), run.len(), tail.len()))
            })
        };
        let run = MIN_RUN_LEN;
        assert_eq!(lens(run, 0, 0), Some((0, run, 0)));
        assert_eq!(lens(run + 5000, 0, 1 << 20), Some((0, run + BLOCK_LEN, 904)));
        assert_eq!(lens(run + BLOCK_LEN, 4000, 4000), Some((96, run, BLOCK_LEN - 96)));
        assert_eq!(lens(run + BLOCK_LEN - 1, 4000, 4000), Some((96, run, 4000 - 1)));
        assert_eq!(lens(run + 95, 4000, 4000), None, "too short");
        assert_eq!(lens(run - 1, 0, 0), None, "too short");
        assert_eq!(lens(2 * run, 8, 0), None, "not aligned in memory");
        assert_eq!(lens(2 * run, 0, 8), None, "not aligned in the file");
        assert_eq!(lens(50, 4000, 4000), None, "not even a head");
    }

    #[test]
    fn direct_and_cached_runs_make_one_file() {
        let file = file();
        let mut writer = DirectWriter { usable: true, direct: false };
        let mut expected = Vec::new();
        for (len, in_memory) in [(300_001, 0), (7, 0), (400_000, 300_008 % BLOCK_LEN), (1, 0)] {
            with_aligned(len, in_memory, |bytes| {
                writer.write_all_at(&file, bytes, expected.len() as u64).unwrap();
                expected.extend_from_slice(bytes);
            });
        }
        let mut content = vec![0; expected.len()];
        file.read_exact_at(&mut content, 0).unwrap();
        assert!(content == expected);
        assert_eq!(file.metadata().unwrap().len(), expected.len() as u64);
    }

    #[test]
    fn what_cannot_be_written_directly_is_written_all_the_same() {
        let null = File::options().write(true).open("/dev/null").unwrap();
        let mut writer = DirectWriter { usable: true, direct: false };
        with_aligned(MIN_RUN_LEN, 0, |bytes| writer.write_all_at(&null, bytes, 0)).unwrap();
        assert!(!writer.usable && !writer.direct);
    }
}
