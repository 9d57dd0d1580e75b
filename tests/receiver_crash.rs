//! The receiver is killed at random moments under load, and goes on as if nothing had been.
#![cfg(feature = "cli")]

mod support;

use core::hash::{BuildHasher, Hasher};
use core::time::Duration;
use std::fs;
use std::hash::{DefaultHasher, RandomState};
use std::sync::mpsc::{self, TryRecvError};
use std::thread;

use support::process::PATIENCE;
use support::{Archive, Auth, Cluster, oracle, servers, tapster_json};
use tapster::types::Lsn;

const KILLS: u64 = 12;
const SLOT: &str = "tap";

#[test]
fn every_major_is_archived_without_a_hole_through_kills_at_random_moments() {
    let seed = seed();
    println!("TAPSTER_TEST_SEED={seed}");
    servers::for_each(|server| {
        let cluster = Cluster::builder(server).auth(Auth::Scram).archive().start();
        let conninfo = cluster.conninfo("repl");
        tapster_json(&["slot", "create", &conninfo, SLOT, "--json"]);
        let archive = Archive::new();
        // Servers before 15 do not tell where a slot begins, so the archive begins before the load.
        let position = cluster.position();
        let begin = cluster.segment_start(position);
        archive.receive(&conninfo, &["-S", SLOT, "--endpos", &position.to_string()]).stopped_within(PATIENCE);
        thread::scope(|scope| {
            // The load ends when this does, also by a panic.
            let (_under_load, load_is_over) = mpsc::channel::<()>();
            let (cluster, archive) = (&cluster, &archive);
            scope.spawn(move || {
                let some = usize::try_from(cluster.segment_size() / 5).expect("some MiB");
                while load_is_over.try_recv() == Err(TryRecvError::Empty) {
                    cluster.write_wal(some);
                }
            });
            for kill in 0..KILLS {
                let random = random(seed, server.major, kill);
                let options: &[&str] = if random & 1 == 0 { &["--synchronous"] } else { &[] };
                let mut receiver = archive.receive(&conninfo, &[&["-S", SLOT], options].concat());
                // The beginning of a run is as much a moment as its middle.
                if random & 6 != 0 {
                    receiver.wait_for("streaming");
                }
                thread::sleep(Duration::from_millis((random >> 8) % 300));
                receiver.signal("KILL");
                assert_eq!(receiver.end_within(PATIENCE).0, None, "it had ended before");
                assert_nothing_acknowledged_is_missing(archive, cluster, begin);
            }
        });

        let mut receiver = archive.receive(&conninfo, &["-S", SLOT]);
        let last = cluster.switch_wal();
        receiver.wait_for_one("segment", |event| event["segment"] == last);
        receiver.stop("TERM");
        assert_eq!(archive.partials(), [format!("{}.partial", cluster.segment_name(1, cluster.position()))]);
        let segments = archive.assert_identical(&cluster.archive_dir());
        let kept = oracle::segments(&cluster.archive_dir()).unwrap().len();
        assert!(segments == kept && segments > 1, "{segments} of {kept}");
    });
}

/// What the slot says was acknowledged is in files; without a crash of the machine they are all there.
#[track_caller]
fn assert_nothing_acknowledged_is_missing(archive: &Archive, cluster: &Cluster, begin: Lsn) {
    let acknowledged = cluster.query_lsn("restart_lsn FROM pg_replication_slots");
    // A new run acknowledges what comes before the segment that it begins with.
    if acknowledged <= begin {
        return;
    }
    let segment = cluster.segment_name(1, Lsn::new(acknowledged.get() - 1));
    let is_whole =
        |name: &str| fs::metadata(archive.file(name)).is_ok_and(|file| file.len() == cluster.segment_size());
    let is_here = is_whole(&segment) || is_whole(&format!("{segment}.partial"));
    assert!(is_here, "{acknowledged} was acknowledged; here are {:?}", archive.names());
    assert!(archive.partials().len() <= 1, "{:?}", archive.names());
}

/// Of the environment, to see a failure again, or a new one.
fn seed() -> u64 {
    let given = std::env::var("TAPSTER_TEST_SEED").ok();
    given.map_or_else(|| RandomState::new().build_hasher().finish(), |seed| seed.parse().expect("a number"))
}

fn random(seed: u64, major: u32, kill: u64) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write_u64(seed);
    hasher.write_u32(major);
    hasher.write_u64(kill);
    hasher.finish()
}
