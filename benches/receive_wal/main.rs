//! `tapster receive-wal` beside pg_receivewal: 2 GiB of retained WAL, and commits with a synchronous standby.
//!
//! ```sh
//! RUSTFLAGS="-C target-feature=+crt-static" cargo build --release --target x86_64-unknown-linux-gnu
//! cargo bench --manifest-path benches/Cargo.toml --bench receive_wal                  # everything
//! cargo bench --manifest-path benches/Cargo.toml --bench receive_wal -- memory commits # some of it
//! ```
//!
//! `TAPSTER` names the programs to measure instead of that static one, separated by colons;
//! `TAPSTER_BENCH_DISK` names a directory on a disk; `TAPSTER_BENCH_TURNS` is the number of turns. Both sides
//! run with their defaults, ours with every check on, and take turns. Times are of the whole process, from
//! its start to its end; CPU time is user and kernel mode together; memory is the peak that the kernel
//! reports (`VmHWM`).
#![allow(unexpected_cfgs, reason = "the tests' support is the crate's")]

mod measure;
mod streams;
#[path = "../../tests/support/mod.rs"]
mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use measure::measure;
use support::{Cluster, servers, wait_until};
use tempfile::TempDir;

/// The number of segments of 16 MiB that each turn receives.
const SEGMENTS: u64 = 128;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    if let [task, conninfo, directory, count, first] = &args[..]
        && task == "run-streams"
    {
        return streams::run(conninfo, Path::new(directory), count.parse().expect("a number"), first);
    }
    let wanted = |name: &str| args.is_empty() || args.iter().any(|arg| arg == name);
    let subjects = subjects();
    if wanted("memory") || wanted("disk") || wanted("streams") {
        let source = Source::new();
        let disk = std::env::var("TAPSTER_BENCH_DISK").unwrap_or_else(|_| env!("CARGO_MANIFEST_DIR").into());
        for (name, place) in [("memory", "/dev/shm"), ("disk", &disk)] {
            if wanted(name) {
                source.compare(name, Path::new(place), &subjects);
            }
        }
        if wanted("streams") {
            source.streams();
        }
    }
    if wanted("commits") {
        commits(&subjects);
    }
}

/// The programs to measure, pg_receivewal first.
fn subjects() -> Vec<PathBuf> {
    let ours = std::env::var("TAPSTER").unwrap_or_else(|_| {
        concat!(env!("CARGO_MANIFEST_DIR"), "/../target/x86_64-unknown-linux-gnu/release/tapster").to_string()
    });
    let ours: Vec<PathBuf> = ours.split(':').map(PathBuf::from).collect();
    for program in &ours {
        assert!(
            program.exists(),
            "there is no {}; the head of this file says how to build it",
            program.display()
        );
    }
    [servers::packaged().bin.join("pg_receivewal")].into_iter().chain(ours).collect()
}

fn turns() -> usize {
    std::env::var("TAPSTER_BENCH_TURNS").map_or(5, |turns| turns.parse().expect("a number"))
}

/// A server that holds the WAL to receive.
struct Source {
    cluster: Cluster,
    /// The name of the first segment, and the position at which a receiver stops.
    first: String,
    end: String,
}

impl Source {
    fn new() -> Self {
        let cluster = Cluster::builder(&servers::packaged())
            .segment_size_mb(16)
            .setting("max_wal_senders", "20")
            .setting("wal_keep_size", "8GB")
            .setting("max_wal_size", "16GB")
            .start();
        cluster
            .sql("CREATE TABLE t (i int PRIMARY KEY, name text, at timestamptz DEFAULT now())")
            .expect("a table");
        let first = cluster.segment_name(1, cluster.position());
        let start = cluster.segment_start(cluster.position()).get();
        let end = tapster::types::Lsn::new(start + SEGMENTS * cluster.segment_size());
        let fill = "INSERT INTO t SELECT i, md5(i::text) FROM generate_series(1, 500000) i; TRUNCATE t";
        // pg_receivewal stops at the first position beyond the end.
        while cluster.position().get() <= end.get() + cluster.segment_size() {
            cluster.sql(fill).expect(fill);
        }
        Self { cluster, first, end: end.to_string() }
    }

    /// Receives everything with each program in turns, into a directory of `place`.
    fn compare(&self, name: &str, place: &Path, subjects: &[PathBuf]) {
        println!("\n{} MiB of WAL, archive in {name}", (SEGMENTS * self.cluster.segment_size()) >> 20);
        let mut measured = vec![Vec::new(); subjects.len()];
        for _ in 0..turns() {
            for (subject, measured) in subjects.iter().zip(&mut measured) {
                let archive = TempDir::new_in(place).expect("a directory");
                // This file says where to begin: both programs continue a segment that was begun.
                fs::write(archive.path().join(format!("{}.partial", self.first)), "").expect("a file");
                measured.push(measure(&mut self.receive(subject, archive.path())));
            }
        }
        measure::print(subjects, &measured);
    }

    fn receive(&self, subject: &Path, archive: &Path) -> Command {
        let mut command = receive(subject, &self.cluster, archive);
        command.args(["--no-loop", "--endpos", &self.end]);
        command
    }

    /// Prints the memory of one process with many streams, and the amount that each further stream adds.
    fn streams(&self) {
        const STREAMS: u64 = 16;
        let memory_kib = |streams: u64| {
            let directory = TempDir::new_in("/dev/shm").expect("a directory");
            let mut command = Command::new(std::env::current_exe().expect("this program"));
            command
                .args(["run-streams", &self.cluster.conninfo("repl")])
                .arg(directory.path())
                .args([&streams.to_string(), &self.first]);
            measure(&mut command).memory_kib
        };
        let (one, all) = (memory_kib(1), memory_kib(STREAMS));
        let further = (all - one) / (STREAMS - 1);
        println!(
            "\n{STREAMS} streams in one process: {all} KiB, {} each; one: {one} KiB, each further one {further}",
            all / STREAMS
        );
    }
}

/// The command that receives from a cluster into an archive.
fn receive(subject: &Path, cluster: &Cluster, archive: &Path) -> Command {
    let mut command = Command::new(subject);
    let conninfo = cluster.conninfo("repl");
    if subject.ends_with("pg_receivewal") {
        command.args(["-d", &conninfo]);
    } else {
        command.args(["receive-wal", "-d", &conninfo, "--quiet"]);
    }
    command.arg("-D").arg(archive).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// Measures the commits of 8 clients that wait for the receiver.
fn commits(subjects: &[PathBuf]) {
    println!("\ncommits per second, 8 clients, the receiver as synchronous standby, archive on disk");
    let cluster = Cluster::builder(&servers::packaged()).segment_size_mb(16).start();
    let pgbench = |args: &[&str]| {
        let mut command = servers::packaged().command("pgbench");
        let output = command.args(args).arg(cluster.socket_conninfo("postgres")).output().expect("pgbench");
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).expect("text")
    };
    pgbench(&["-i", "-q", "-s", "8"]);
    let disk = std::env::var("TAPSTER_BENCH_DISK").unwrap_or_else(|_| env!("CARGO_MANIFEST_DIR").into());
    let mut rates = vec![Vec::new(); subjects.len()];
    for _ in 0..turns() {
        for (subject, rates) in subjects.iter().zip(&mut rates) {
            let archive = TempDir::new_in(&disk).expect("a directory");
            let mut child =
                receive(subject, &cluster, archive.path()).arg("--synchronous").spawn().expect("a receiver");
            cluster.sql("ALTER SYSTEM SET synchronous_standby_names = '*'").expect("a setting");
            cluster.reload();
            wait_until(support::process::PATIENCE, "the receiver is synchronous", || {
                cluster.sql("SELECT sync_state FROM pg_stat_replication").as_deref() == Ok("sync")
            });
            let said = pgbench(&["-n", "-N", "-c", "8", "-T", "8"]);
            let rate =
                said.lines().find_map(|line| line.strip_prefix("tps = ")?.split(' ').next()?.parse().ok());
            rates.push(rate.expect("pgbench prints the rate"));
            cluster.sql("ALTER SYSTEM RESET synchronous_standby_names").expect("a setting");
            cluster.reload();
            child.kill().expect("it runs");
            child.wait().expect("it ends");
        }
    }
    measure::print_rates(subjects, &rates);
}
