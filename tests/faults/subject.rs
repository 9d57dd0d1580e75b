//! Who is put through a fault.

use core::time::Duration;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use crate::support::process::{PATIENCE, children};
use crate::support::program::RunningProgram;
use crate::support::wait::holds_within;
use crate::support::{Archive, Cluster, Program, oracle, servers, tapster_json, wait_until};

pub(crate) const SLOT: &str = "tap";

/// Long enough for what the other program would notice, if it did.
pub(crate) const A_WHILE: Duration = Duration::from_secs(4);

/// A receiver of WAL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Subject {
    /// `tapster receive-wal`.
    Tapster,
    /// PostgreSQL's program, of version 15.
    PgReceivewal,
}

impl Subject {
    fn path(self) -> PathBuf {
        match self {
            Self::Tapster => env!("CARGO_BIN_EXE_tapster").into(),
            Self::PgReceivewal => servers::packaged().bin.join("pg_receivewal"),
        }
    }

    fn arguments(self, archive: &Archive, conninfo: &str, options: &[&str]) -> Vec<OsString> {
        let (first, conn) = match self {
            Self::Tapster => (Some("receive-wal"), "--dbname"),
            Self::PgReceivewal => (None, "--dbname"),
        };
        let words = first.into_iter().chain([conn, conninfo, "-v", "-D"]).map(OsString::from);
        words.chain([archive.path().into()]).chain(options.iter().map(OsString::from)).collect()
    }

    /// Begins to receive.
    pub(crate) fn start(self, archive: &Archive, conninfo: &str, options: &[&str]) -> RunningProgram {
        Program::new(&self.path()).args(&self.arguments(archive, conninfo, options)).spawn()
    }

    /// Begins to receive while strace does something to its system calls, in the form of its option `inject`, as
    /// in `fsync:error=EIO:when=2`.
    pub(crate) fn start_with(
        self,
        injection: &str,
        archive: &Archive,
        conninfo: &str,
        options: &[&str],
    ) -> RunningProgram {
        let calls = injection.split(':').next().expect("a text has a first part");
        let (trace, inject) = (format!("trace={calls}"), format!("inject={injection}"));
        Program::new(Path::new("strace"))
            .args(&["-f", "-qq", "-o", "/dev/null", "-e", &trace, "-e", &inject])
            .args(&[self.path()])
            .args(&self.arguments(archive, conninfo, options))
            .spawn()
    }
}

/// A fault of a process that runs already, for as long as this lives: strace does something to its system calls, in
/// the form of its option `inject`.
pub(crate) struct Injection {
    strace: RunningProgram,
    pid: u32,
}

impl Injection {
    #[track_caller]
    pub(crate) fn into(pid: u32, injection: &str) -> Self {
        let calls = injection.split(':').next().expect("a text has a first part");
        let (trace, inject) = (format!("trace={calls}"), format!("inject={injection}"));
        let arguments = ["-f", "-qq", "-o", "/dev/null", "-e", &trace, "-e", &inject, "-p", &pid.to_string()];
        let strace = Program::new(Path::new("strace")).args(&arguments).spawn();
        let injection = Self { strace, pid };
        wait_until(PATIENCE, "strace has all threads", || injection.threads().iter().all(|&traced| traced));
        injection
    }

    /// Of each thread, whether it is traced.
    fn threads(&self) -> Vec<bool> {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.pid)).expect("it runs").flatten();
        let is_traced = |task: fs::DirEntry| {
            // A thread may just have ended.
            let status = fs::read_to_string(task.path().join("status")).unwrap_or_default();
            !status.lines().any(|line| line == "TracerPid:\t0")
        };
        tasks.map(is_traced).collect()
    }
}

impl Drop for Injection {
    fn drop(&mut self) {
        self.strace.signal("TERM");
        holds_within(PATIENCE, || self.strace.has_ended());
    }
}

/// The program that strace runs.
#[track_caller]
pub(crate) fn traced(strace: &RunningProgram) -> u32 {
    let mut pid = None;
    wait_until(PATIENCE, "strace has started the program", || {
        pid = children(strace.id()).first().copied();
        pid.is_some()
    });
    pid.expect("it was found")
}

/// A server of the version that comes with `pg_receivewal`, with a slot that keeps WAL from now on, and its own
/// copy of every segment.
pub(crate) fn cluster() -> Cluster {
    let cluster = Cluster::builder(&servers::packaged()).archive().start();
    create_slot(&cluster);
    cluster
}

pub(crate) fn create_slot(cluster: &Cluster) {
    tapster_json(&["slot", "create", &cluster.conninfo("repl"), SLOT, "--json"]);
}

/// Whether the archive gets the segment within a time.
pub(crate) fn arrives(archive: &Archive, segment: &str, within: Duration) -> bool {
    holds_within(within, || archive.file(segment).exists())
}

/// Receives what there is, without any fault, and compares it all with the server's copies.
#[track_caller]
pub(crate) fn assert_goes_on(subject: Subject, archive: &Archive, cluster: &Cluster) {
    let receiver = subject.start(archive, &cluster.conninfo("repl"), &["-S", SLOT]);
    let last = cluster.write_segments(1);
    assert!(arrives(archive, &last, PATIENCE), "it has stopped at:\n{}", receiver.stderr());
    receiver.signal("INT");
    let end = receiver.wait(PATIENCE);
    assert!(end.status.success(), "{end:?}");
    assert!(archive.partials().len() <= 1, "{:?}", archive.names());
    let compared = archive.assert_identical(&cluster.archive_dir());
    assert_eq!(compared, oracle::segments(&cluster.archive_dir()).unwrap().len(), "{:?}", archive.names());
}
