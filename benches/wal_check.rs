//! The check of WAL pages and records, over several kinds of real WAL in memory, on one core.
//!
//! ```sh
//! cargo bench --manifest-path benches/Cargo.toml --bench wal_check
//! ```
//!
//! The peer is only the checksum over the same bytes, without reading their structure: no check can be
//! faster.
#![allow(unexpected_cfgs, reason = "the tests' support is the crate's")]

#[path = "../tests/support/mod.rs"]
mod support;

use std::fs;
use std::hint::black_box;
use std::time::Instant;

use support::{Cluster, oracle, servers};
use tapster::types::WalSegmentSize;
use tapster::wal::{WalChecker, WalSegment};

/// For each piece the fastest turn counts, because only a disturbance makes a turn slower.
const TURNS: usize = 25;
/// The largest piece that a walsender sends.
const PIECE_LEN: usize = 128 << 10;

const KINDS: [(&str, &[&str]); 7] = [
    ("inserts", &["INSERT INTO t SELECT i, md5(i::text), now() FROM generate_series(1, 600000) i"]),
    ("updates", &["UPDATE t SET at = now() WHERE i % 3 = 0"]),
    ("an index", &["CREATE INDEX ON t (name)"]),
    ("deletes", &["DELETE FROM t WHERE i % 2 = 0"]),
    ("full-page images", &["CHECKPOINT", "UPDATE t SET at = now() WHERE i % 50 = 1"]),
    (
        "full-page images, compressed",
        &["CHECKPOINT", "SET wal_compression = on; UPDATE t SET at = now() WHERE i % 50 = 3"],
    ),
    (
        "records of 1 MB",
        &["SELECT pg_logical_emit_message(false, '', repeat('y', 1000000)) FROM generate_series(1, 64)"],
    ),
];

fn main() {
    let cluster = Cluster::builder(&servers::packaged()).segment_size_mb(16).archive().start();
    cluster.sql("CREATE TABLE t (i int, name text, at timestamptz)").expect("a table");
    println!(
        "best of {TURNS} turns for each {} KiB, in GiB/s; PostgreSQL {}\n",
        PIECE_LEN >> 10,
        cluster.major()
    );
    println!("{:30} {:>8} {:>10} {:>8}", "", "tapster", "checksum", "MiB");
    for (kind, statements) in KINDS {
        let before = cluster.switch_wal();
        for statement in statements {
            cluster.sql(statement).expect(statement);
        }
        let last = cluster.switch_wal();
        let names = oracle::segments(&cluster.archive_dir()).expect("the server's archive");
        let names: Vec<String> = names.into_iter().filter(|name| *name > before && *name <= last).collect();
        let mut wal = Vec::new();
        for name in &names {
            wal.extend(fs::read(cluster.archive_dir().join(name)).expect("a segment"));
        }
        let first = WalSegment::parse(&names[0], WalSegmentSize::DEFAULT).expect("a segment's name");
        let start = first.start();
        let new_checker = || WalChecker::new(WalSegmentSize::DEFAULT, None, first.timeline(), start);
        let ours = fastest(&wal, new_checker, |checker, piece| {
            checker.check(checker.position(), piece).expect("a server's WAL is sound");
        });
        let checksum = fastest(&wal, || 0, |crc, piece| *crc = crc32c::crc32c_append(*crc, piece));
        println!("{kind:30} {ours:8.2} {checksum:10.2} {:8}", wal.len() >> 20);
    }
}

/// The speed, in GiB per second, of work that carries a state from piece to piece.
fn fastest<S>(wal: &[u8], begin: impl Fn() -> S, work: impl Fn(&mut S, &[u8])) -> f64 {
    let pieces: Vec<&[u8]> = wal.chunks(PIECE_LEN).collect();
    let mut seconds = vec![f64::MAX; pieces.len()];
    for _ in 0..TURNS {
        let mut state = begin();
        for (piece, seconds) in pieces.iter().zip(&mut seconds) {
            let start = Instant::now();
            work(&mut state, piece);
            *seconds = seconds.min(start.elapsed().as_secs_f64());
        }
        black_box(state);
    }
    wal.len() as f64 / f64::from(1 << 30) / seconds.iter().sum::<f64>()
}
