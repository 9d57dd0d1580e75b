//! Durable files: a directory held open, its syncs and locks, preallocation, direct writes.
//!
//! Everything here blocks.

mod aligned;
mod direct;
mod directory;
mod error;
mod fsync_times;
mod new_file;
mod preallocate;
mod status;

pub use aligned::AlignedBuffer;
pub use direct::{BLOCK_LEN, DirectWriter};
pub use directory::{Directory, Entry};
pub use error::StorageError;
pub use fsync_times::{FsyncFigures, FsyncTimes};
pub use new_file::{NewFile, TEMPORARY, target_of};
pub use preallocate::{Fill, preallocate};
pub use status::FileStatus;
