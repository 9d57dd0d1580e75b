//! Connecting with SCRAM, a small query and a million rows, beside libpq and tokio-postgres.
//!
//! ```sh
//! cargo bench --manifest-path benches/Cargo.toml --bench client
//! ```
//!
//! Every measurement is a process of its own, and the peers take turns. Wall time is the client's and the
//! server's; CPU time is the client's alone, in user and kernel mode.
#![allow(unexpected_cfgs, reason = "the tests' support is the crate's")]

mod ours;
#[path = "../../tests/support/mod.rs"]
mod support;
mod theirs;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use support::{Auth, Cluster, servers};

/// Turns of each side; the fastest counts, because only a disturbance makes a turn slower.
const TURNS: usize = 7;
const ROWS: u32 = 1_000_000;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["run", peer, task, count, conninfo, sql] => {
            let work = Work { task, count: count.parse().expect("a number"), conninfo, sql };
            let meter = match peer {
                "tapster" => ours::run(&work),
                "tokio-postgres" => theirs::run(&work),
                other => panic!("no peer {other}"),
            };
            println!("{meter}");
        }
        _ => compare(),
    }
}

/// The work of one process.
pub(crate) struct Work<'a> {
    pub(crate) task: &'a str,
    pub(crate) count: u32,
    pub(crate) conninfo: &'a str,
    pub(crate) sql: &'a str,
}

/// Measures the time since it was made.
pub(crate) struct Meter {
    wall: Instant,
    cpu_ns: u64,
}

impl Meter {
    pub(crate) fn start() -> Self {
        Self { wall: Instant::now(), cpu_ns: cpu_ns() }
    }

    /// Nanoseconds of wall and CPU time for each unit of work, and the bytes of all values.
    pub(crate) fn stop(self, work: &Work<'_>, length: usize) -> String {
        let (wall, cpu) = (self.wall.elapsed().as_nanos() as u64, cpu_ns() - self.cpu_ns);
        let count = u64::from(work.count);
        format!("{} {} {length}", wall / count, cpu / count)
    }
}

/// The time that this thread, the only one that works, has been on a processor.
fn cpu_ns() -> u64 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux reports it");
    stat.split(' ').next().and_then(|ns| ns.parse().ok()).expect("a number")
}

fn compare() {
    let libpq = compile_libpq();
    let cluster = Cluster::builder(&servers::packaged()).auth(Auth::Scram).start();
    let conninfo = format!("{} sslmode=disable", cluster.conninfo("repl"));
    println!("best of {TURNS} turns; PostgreSQL {}\n", cluster.major());
    println!("{:34} {:>16} {:>16} {:>16}", "", "tapster", "libpq", "tokio-postgres");

    let rows = format!("SELECT i, 'the name of ' || i, i % 7 = 0, NULL FROM generate_series(1, {ROWS}) AS i");
    let over_unix = format!("{} sslmode=disable", cluster.socket_conninfo("repl"));
    let over_unix = Bench { libpq: libpq.clone(), conninfo: over_unix };
    let bench = Bench { libpq, conninfo };
    bench.line("connect with SCRAM", "connect", "connect", 100, "");
    bench.line("connect with cached keys", "connect-cached", "connect", 100, "");
    bench.line("SELECT 1", "query", "query", 10_000, "SELECT 1");
    over_unix.line("SELECT 1, Unix socket", "query", "query", 10_000, "SELECT 1");
    bench.line("SELECT $1, extended", "query-params", "query", 10_000, "SELECT 1");
    bench.line("a million rows, collected", "rows", "rows", 1, &rows);
    bench.line("a million rows, as they come", "rows-streamed", "rows-streamed", 1, &rows);
}

struct Bench {
    libpq: PathBuf,
    conninfo: String,
}

/// What one process has measured, in nanoseconds.
#[derive(Clone, Copy)]
struct Measured {
    wall: u64,
    cpu: u64,
    length: u64,
}

impl Bench {
    fn line(&self, name: &str, ours: &str, theirs: &str, count: u32, sql: &str) {
        let own = std::env::current_exe().expect("this program");
        let (mut best, mut lengths) = ([None::<Measured>; 3], Vec::new());
        for _ in 0..TURNS {
            let measured = [
                self.measure(Command::new(&own).args(["run", "tapster"]), ours, count, sql),
                self.measure(&mut Command::new(&self.libpq), theirs, count, sql),
                self.measure(Command::new(&own).args(["run", "tokio-postgres"]), theirs, count, sql),
            ];
            lengths.extend(measured.map(|measured| measured.length));
            for (best, new) in best.iter_mut().zip(measured) {
                *best = Some(best.map_or(new, |old| Measured {
                    wall: old.wall.min(new.wall),
                    cpu: old.cpu.min(new.cpu),
                    ..old
                }));
            }
        }
        // Checks that all sides have seen the same values.
        assert!(lengths.windows(2).all(|pair| pair[0] == pair[1]), "{name}: {lengths:?}");
        for (what, value) in [("wall", (|m| m.wall) as fn(Measured) -> u64), ("CPU", |m| m.cpu)] {
            let [us, libpq, tokio_postgres] = best.map(|best| best.map_or(0, value) as f64);
            let cell = |value: f64| format!("{:.1} us", value / 1e3);
            println!(
                "{:34} {:>16} {:>16} {:>16}   {:.2} of libpq, {:.2} of tokio-postgres",
                format!("{name}, {what}"),
                cell(us),
                cell(libpq),
                cell(tokio_postgres),
                us / libpq,
                us / tokio_postgres,
            );
        }
    }

    fn measure(&self, command: &mut Command, task: &str, count: u32, sql: &str) -> Measured {
        let output = command.args([task, &count.to_string(), &self.conninfo, sql]).output().expect("it runs");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let numbers: Vec<u64> = said.split_whitespace().filter_map(|number| number.parse().ok()).collect();
        match numbers[..] {
            [wall, cpu, length] => Measured { wall, cpu, length },
            _ => panic!("{task}: {said}{}", String::from_utf8_lossy(&output.stderr)),
        }
    }
}

fn compile_libpq() -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers/libpq.c");
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join("libpq");
    let include = Command::new("pg_config").arg("--includedir").output().expect("apt-get install libpq-dev");
    let include = String::from_utf8_lossy(&include.stdout).trim().to_owned();
    let status = Command::new("cc")
        .args(["-O2", "-Wall", "-o"])
        .args([&program, &source])
        .args([&format!("-I{include}"), "-lpq"])
        .status();
    assert!(status.expect("a C compiler").success(), "apt-get install gcc libpq-dev");
    program
}
