//! `tapster receive-wal` into an archive that belongs to one test.

use core::time::Duration;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tapster::archive::SegmentReader;
use tapster::types::Lsn;
use tempfile::TempDir;

use super::oracle;
use super::process::PATIENCE;
use super::program::{Program, RunningProgram, assert_has, json};
use super::wait::{holds_within, wait_until};

/// How long the receiver may take to stop after a signal.
pub const STOP_TIME: Duration = Duration::from_secs(2);

/// An archive: a private directory.
pub struct Archive {
    dir: TempDir,
}

impl Archive {
    /// An empty archive.
    pub fn new() -> Self {
        Self { dir: tempfile::tempdir().expect("a temporary directory") }
    }

    /// An empty archive in cargo's target directory, which is on a disk more often than a temporary
    /// directory.
    pub fn on_disk() -> Self {
        Self { dir: TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).expect("a temporary directory") }
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// The path of a file in the archive.
    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The names of all files, in order.
    pub fn all_names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.path()).expect("the archive is there").flatten();
        let mut names: Vec<String> =
            entries.map(|entry| entry.file_name().into_string().expect("our names are ASCII")).collect();
        names.sort();
        names
    }

    /// The names of all files but the state file, in order.
    pub fn names(&self) -> Vec<String> {
        self.all_names().into_iter().filter(|name| name != "tapster.state").collect()
    }

    /// The names of the partial segments, in order.
    pub fn partials(&self) -> Vec<String> {
        self.names().into_iter().filter(|name| name.ends_with(".partial")).collect()
    }

    /// Waits until a file of that name exists.
    #[track_caller]
    pub fn wait_for(&self, name: &str) {
        wait_until(PATIENCE, &format!("{name} is archived"), || self.file(name).exists());
    }

    /// Checks that the archive equals the server's copies. Returns the number of segments.
    #[track_caller]
    pub fn assert_identical(&self, servers: &Path) -> usize {
        oracle::compare_segments(self.path(), servers)
            .unwrap_or_else(|difference| panic!("{difference}; here are {:?}", self.names()))
    }

    /// A copy of the archive in which every complete segment is uncompressed.
    #[track_caller]
    pub fn decompressed(&self, segment_size: u64) -> Self {
        let plain = Self::new();
        for name in self.names() {
            let (base, suffix) = name.split_once('.').unwrap_or((&name, ""));
            if base.len() < 24 || suffix == "partial" || suffix.ends_with("tmp") {
                continue;
            }
            let mut reader = SegmentReader::open(&self.file(&name), segment_size).expect("a segment");
            let mut content = Vec::new();
            reader.read_to_end(&mut content).expect("it can be decompressed");
            // A crash may leave a segment both plain and compressed, with the same content.
            if let Ok(other) = fs::read(plain.file(base)) {
                assert!(other == content, "{name} and another file of {base} differ");
            }
            fs::write(plain.file(base), content).expect("the directory is ours");
        }
        plain
    }

    /// Starts a receiver into the archive.
    #[track_caller]
    pub fn receive(&self, conninfo: &str, options: &[&str]) -> Receiver {
        let program = Program::tapster().args(&["receive-wal", conninfo, "--json", "-D"]);
        let program = program.args(&[self.path()]).args(options).spawn();
        Receiver { program, seen: 0 }
    }
}

/// The position in a document's text value.
#[track_caller]
pub fn lsn(value: &Value) -> Lsn {
    value.as_str().and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("{value} is no position"))
}

/// A running `tapster receive-wal --json`.
pub struct Receiver {
    program: RunningProgram,
    /// How many events have been waited for or skipped.
    seen: usize,
}

impl Receiver {
    /// The process id.
    pub fn id(&self) -> u32 {
        self.program.id()
    }

    /// Every event so far. Each event is a line with one document.
    pub fn events(&self) -> Vec<Value> {
        let stdout = self.program.stdout();
        let lines = stdout.rfind('\n').map_or("", |end| &stdout[..end]);
        lines.lines().map(json).collect()
    }

    /// Waits for the next event of that name.
    #[track_caller]
    pub fn wait_for(&mut self, event: &str) -> Value {
        self.wait_for_one(event, |_| true)
    }

    /// Waits for the next event of that name for which `is_meant` is true.
    #[track_caller]
    pub fn wait_for_one(&mut self, event: &str, is_meant: impl Fn(&Value) -> bool) -> Value {
        let mut found = None;
        let mut ended = false;
        holds_within(PATIENCE, || {
            ended = self.program.has_ended();
            let events = self.events();
            found = events.iter().skip(self.seen).position(|e| e["event"] == event && is_meant(e));
            if let Some(at) = found {
                self.seen += at + 1;
            }
            found.is_some() || ended
        });
        match found {
            Some(_) => self.events().swap_remove(self.seen - 1),
            None => panic!(
                "no event {event:?} (ended: {ended}):\n{}{}",
                self.program.stdout(),
                self.program.stderr()
            ),
        }
    }

    /// Sends the signal of that name.
    pub fn signal(&self, name: &str) {
        self.program.signal(name);
    }

    /// Stops the receiver by a signal. It must end in time and successfully; returns its last event.
    #[track_caller]
    pub fn stop(self, signal: &str) -> Value {
        self.signal(signal);
        self.stopped_within(STOP_TIME)
    }

    /// Waits until the receiver has ended by itself and successfully. Returns its last event.
    #[track_caller]
    pub fn stopped_within(self, deadline: Duration) -> Value {
        let (code, last) = self.end_within(deadline);
        assert_eq!(code, Some(0), "{last}");
        assert_has(&last, serde_json::json!({ "event": "stopped", "ok": true }));
        last
    }

    /// Waits until the receiver has ended. Returns its exit code and its last document.
    #[track_caller]
    pub fn end_within(self, deadline: Duration) -> (Option<i32>, Value) {
        let output = self.program.wait(deadline);
        let stdout = String::from_utf8(output.stdout).expect("documents are UTF-8");
        let last = stdout.lines().last().map_or(Value::Null, json);
        (output.status.code(), last)
    }
}
