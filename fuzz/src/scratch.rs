//! A directory of its own for each input of the targets that need files.

use core::sync::atomic::{AtomicU64, Ordering};
use std::path::{Path, PathBuf};
use std::{env, fs, process};

/// An empty directory, which is removed with everything in it when this is dropped.
///
/// It lies in `TMPDIR`: a file system in memory makes the targets several times faster.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = env::temp_dir().join(format!("tapster-fuzz-{}-{number}", process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // The report of a violated property must not be hidden by a second panic.
        let _ = fs::remove_dir_all(&self.0);
    }
}
