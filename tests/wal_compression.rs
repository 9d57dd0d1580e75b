//! Compressed archives: ours, pg_receivewal's, and those that both have written.
#![cfg(feature = "cli")]

mod support;

use std::fs;

use serde_json::json;
use support::process::PATIENCE;
use support::wait::holds_within;
use support::{
    Archive, Cluster, Program, Receiver, assert_has, lsn, oracle, servers, tapster_json, wait_until,
};

const METHODS: [(&str, &str); 3] = [("gzip", ".gz"), ("lz4", ".lz4"), ("zstd:level=5", ".zst")];

#[test]
fn complete_segments_are_compressed_and_the_one_in_progress_is_plain() {
    for server in [servers::packaged(), servers::major(18)] {
        let cluster = Cluster::builder(&server).archive().start();
        for (number, (method, suffix)) in METHODS.into_iter().enumerate() {
            let archive = Archive::new();
            let slot = format!("tap{number}");
            let mut receiver = receive(&archive, &cluster, &["-S", &slot, "--create-slot", "-Z", method]);
            write_until_compressed(&cluster, &archive, &mut receiver, suffix);
            assert_eq!(archive.partials().len(), 1, "{:?}", archive.names());
            assert!(!archive.partials()[0].contains(suffix));
            receiver.stop("TERM");

            assert_all_compressed(&archive, &cluster, suffix);
            let found = tapster_json(&["verify", &archive.path().to_string_lossy(), "--json"]);
            let count = archive.names().len() - 1;
            assert_has(&found, json!({ "ok": true, "segments": count, "compressed": count }));
        }
    }
}

#[test]
fn pg_receivewal_and_ours_go_on_where_the_other_stopped() {
    let cluster = Cluster::builder(&servers::packaged()).archive().start();
    for (method, suffix) in &METHODS[..2] {
        let archive = Archive::new();
        let mut receiver = receive(&archive, &cluster, &["-Z", method]);
        write_until_compressed(&cluster, &archive, &mut receiver, suffix);
        receiver.stop("TERM");

        receive_with_pg_receivewal(&cluster, &archive, method, suffix);
        let mut receiver = receive(&archive, &cluster, &["-Z", method]);
        write_until_compressed(&cluster, &archive, &mut receiver, suffix);
        receiver.stop("TERM");

        // Theirs writes over a longer file and leaves the rest of it behind its own stream, which then keeps
        // theirs itself from reading it.
        let next = newest_partial(&archive).replace(".partial", suffix);
        fs::write(archive.file(&format!("{next}.partial")), vec![7; 2 << 20]).unwrap();
        receive_with_pg_receivewal(&cluster, &archive, method, suffix);
        let len = fs::metadata(archive.file(&next)).unwrap().len();
        assert_eq!(len, 2 << 20, "the stale tail is there");
        let mut receiver = receive(&archive, &cluster, &["-Z", method]);
        write_until_compressed(&cluster, &archive, &mut receiver, suffix);
        receiver.stop("TERM");

        // Theirs leaves plain partial segments of ours behind, but ours none of theirs.
        let compressed_partials = archive.partials().iter().filter(|name| name.contains(suffix)).count();
        assert_eq!(compressed_partials, 0, "{:?}", archive.names());
        assert_all_compressed(&archive, &cluster, suffix);
        let found = tapster_json(&["verify", &archive.path().to_string_lossy(), "--json"]);
        assert_has(&found, json!({ "ok": true, "problems": [] }));
    }
}

#[test]
fn a_history_that_pg_receivewal_compressed_is_read() {
    let cluster = Cluster::builder(&servers::packaged()).start().standby_with(&[("archive_mode", "always")]);
    cluster.promote();
    let archive = Archive::new();
    receive_with_pg_receivewal(&cluster, &archive, "gzip", ".gz");
    archive.wait_for("00000002.history.gz");

    let mut receiver = receive(&archive, &cluster, &["-Z", "gzip"]);
    write_until_compressed(&cluster, &archive, &mut receiver, ".gz");
    assert!(receiver.events().iter().all(|event| event["event"] != "history"));
    receiver.stop("TERM");
    let found = tapster_json(&["verify", &archive.path().to_string_lossy(), "--json"]);
    assert_has(&found, json!({ "ok": true, "problems": [] }));
}

#[test]
fn what_cannot_be_compressed_stays_plain_until_it_can() {
    let cluster = Cluster::builder(&servers::packaged()).archive().start();
    let archive = Archive::new();
    let mut receiver = receive(&archive, &cluster, &["-S", "tap", "--create-slot", "-Z", "gzip"]);
    // A directory in the way of the compressed file.
    let first = cluster.segment_name(1, lsn(&receiver.events().last().unwrap()["start_lsn"]));
    let obstacle = archive.file(&format!("{first}.gz"));
    fs::create_dir(&obstacle).unwrap();
    cluster.write_segments(1);
    receiver.wait_for("not_compressed");
    let last = cluster.write_segments(2);
    receiver.wait_for_one("segment", |event| event["segment"] == last);
    receiver.stop("TERM");
    assert!(archive.assert_identical(&cluster.archive_dir()) >= 3, "all are plain");

    // The next run catches up, also with a segment of which a crash left both files.
    fs::remove_dir(&obstacle).unwrap();
    fs::write(archive.file(&format!("{last}.gz.0123456789abcdef.tmp")), "left").unwrap();
    let mut receiver = receive(&archive, &cluster, &["-S", "tap", "-Z", "gzip"]);
    write_until_compressed(&cluster, &archive, &mut receiver, ".gz");
    receiver.stop("TERM");
    assert_all_compressed(&archive, &cluster, ".gz");
}

#[test]
fn killed_at_any_moment_every_segment_is_here_once_and_whole() {
    let cluster = Cluster::builder(&servers::packaged()).archive().start();
    let archive = Archive::new();
    let slot = ["-S", "tap", "--create-slot", "--if-not-exists", "-Z", "gzip:9"];
    for round in 0..8 {
        let mut receiver = receive(&archive, &cluster, &slot);
        let last = cluster.write_segments(2);
        receiver.wait_for_one("segment", |event| event["segment"] == last);
        // In the middle of the work, or about when the plain file is removed.
        let end = if round % 2 == 0 { ".tmp" } else { ".gz" };
        let is_mark = |name: &String| name.starts_with(&format!("{last}.gz")) && name.ends_with(end);
        holds_within(PATIENCE, || archive.names().iter().any(is_mark) || !archive.file(&last).exists());
        receiver.signal("KILL");
        drop(receiver);
        // Also the segment that was being compressed: the next run would fetch it again, and nobody would notice.
        let is_here = |suffix: &str| archive.file(&format!("{last}{suffix}")).exists();
        assert!(is_here("") || is_here(".gz"), "{last} is gone; here are {:?}", archive.names());
        assert_whole(&archive, &cluster);
    }
    let mut receiver = receive(&archive, &cluster, &slot);
    write_until_compressed(&cluster, &archive, &mut receiver, ".gz");
    receiver.stop("TERM");
    assert_all_compressed(&archive, &cluster, ".gz");
}

fn receive(archive: &Archive, cluster: &Cluster, options: &[&str]) -> Receiver {
    let mut receiver = archive.receive(&cluster.conninfo("repl"), options);
    receiver.wait_for("streaming");
    receiver
}

fn write_until_compressed(cluster: &Cluster, archive: &Archive, receiver: &mut Receiver, suffix: &str) {
    let last = cluster.write_segments(3);
    receiver.wait_for_one("segment", |event| event["segment"] == last);
    wait_until(PATIENCE, "the last segment is compressed", || {
        archive.file(&format!("{last}{suffix}")).exists() && !archive.file(&last).exists()
    });
}

fn newest_partial(archive: &Archive) -> String {
    archive.partials().pop().expect("a segment in progress")
}

/// pg_receivewal receives some segments.
fn receive_with_pg_receivewal(cluster: &Cluster, archive: &Archive, method: &str, suffix: &str) {
    let directory = archive.path().to_string_lossy();
    let conninfo = cluster.conninfo("repl");
    let args = ["-D", &directory, "-d", &conninfo, "-Z", method, "--no-loop"];
    let program = Program::new(&servers::packaged().bin.join("pg_receivewal")).args(&args).spawn();
    wait_until(PATIENCE, "pg_receivewal is there", || {
        cluster.sql("SELECT count(*) FROM pg_stat_replication").is_ok_and(|count| count == "1")
    });
    let last = cluster.write_segments(2);
    archive.wait_for(&format!("{last}{suffix}"));
    program.signal("INT");
    let output = program.wait(PATIENCE);
    assert!(output.status.success(), "{output:?}");
}

/// Every complete segment is compressed, and its content is the server's.
fn assert_all_compressed(archive: &Archive, cluster: &Cluster, suffix: &str) {
    for name in archive.names() {
        let is_right = name.ends_with(suffix) || name.ends_with(".partial");
        assert!(is_right, "{name} among {:?}", archive.names());
    }
    assert_whole(archive, cluster);
}

/// Decompresses what is compressed, into a directory that is compared with the server's.
fn assert_whole(archive: &Archive, cluster: &Cluster) {
    let plain = archive.decompressed(cluster.segment_size());
    let compared = oracle::compare_segments(plain.path(), &cluster.archive_dir());
    assert!(compared.as_ref().is_ok_and(|&count| count >= 1), "{compared:?} {:?}", archive.names());
}
