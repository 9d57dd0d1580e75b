use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;

/// Gives `file` the size `len` and blocks for all of it, so that writing into it needs no more space.
///
/// Bytes that it has stay; new ones are zero. The file system only notes that: no byte is written, unless it
/// cannot, as some network file systems.
///
/// # Errors
/// Without space the file keeps the size that it had. Nothing is durable before the file is synced.
pub(super) fn preallocate(file: &File, len: u64) -> io::Result<()> {
    let old_len = file.metadata()?.len();
    if old_len > len {
        file.set_len(len)?;
    }
    let allocated = loop {
        match fallocate(file, FallocateFlags::empty(), 0, len) {
            // A signal ends it early on some file systems.
            Err(Errno::INTR) => {}
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => break write_zeros(file, old_len, len),
            other => break other.map_err(io::Error::from),
        }
    };
    // Some file systems extend the file as far as space goes. Back to the old size, so that other tools,
    // which insist on an empty or a full file, can take it over too.
    allocated.inspect_err(|_| drop(file.set_len(old_len.min(len))))
}

/// Writes zeros from `start` to `end`.
fn write_zeros(file: &File, start: u64, end: u64) -> io::Result<()> {
    const ZEROS: &[u8] = &[0; 64 << 10];
    let mut at = start;
    while at < end {
        let len = (end - at).min(ZEROS.len() as u64);
        file.write_all_at(&ZEROS[..len as usize], at)?;
        at += len;
    }
    Ok(())
}
