//! Many receivers in one process.

use std::fs;
use std::path::Path;

use tapster::conninfo::{ConnInfo, Environment};
use tapster::receiver::{Receiver, ReceiverOptions};
use tapster::types::WalSegmentSize;
use tapster::wal::WalSegment;
use tokio::sync::watch;

/// The number of segments of 16 MiB that each receiver gets: enough for every buffer to reach its full size.
const SEGMENTS: u64 = 4;
/// The most bytes that wait for the disk, as the program sets it for several servers.
const BUFFER: usize = 256 << 10;

/// Runs `count` receivers at the same time, from the same server and from the segment `first` on, each into a
/// directory of its own.
pub(crate) fn run(conninfo: &str, directory: &Path, count: usize, first: &str) {
    let begin = WalSegment::parse(first, WalSegmentSize::DEFAULT).expect("a segment's name").start();
    let end = begin.checked_add(SEGMENTS * u64::from(WalSegmentSize::DEFAULT.bytes())).expect("a position");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let (_stop, stopped) = watch::channel(false);
        let mut streams = Vec::new();
        for number in 0..count {
            let archive = directory.join(number.to_string());
            fs::create_dir(&archive).expect("a directory");
            fs::write(archive.join(format!("{first}.partial")), "").expect("a file");
            let conninfo: ConnInfo = conninfo.parse().expect("a connection string");
            let config = conninfo.resolve(&Environment::empty()).expect("complete").config().expect("usable");
            let options =
                ReceiverOptions { end_position: Some(end), buffer: BUFFER, ..ReceiverOptions::new(archive) };
            streams
                .push(tokio::task::spawn_local(Receiver::new(config, options, |_| {}).run(stopped.clone())));
        }
        for stream in streams {
            stream.await.expect("no panic").expect("everything is received");
        }
    });
}
