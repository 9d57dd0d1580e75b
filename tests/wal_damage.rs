//! A bit that flips on the way: noticed before anything is acknowledged, and got past if it was only once.
#![cfg(feature = "cli")]

mod support;

use core::time::Duration;

use serde_json::json;
use support::proxy::Proxy;
use support::{Archive, Cluster, Program, assert_has, servers, tapster_json};

/// Into the first segment's records, behind the answers to the commands that come first.
const OFFSET: usize = 300_000;

#[test]
fn damage_that_does_not_come_again_is_got_past() {
    servers::for_each(|server| {
        let cluster = Cluster::builder(server).archive().start();
        create_slot(&cluster);
        let proxy = Proxy::flipping(cluster.port(), OFFSET, 1);
        let archive = Archive::new();
        let mut receiver = archive.receive(&through(&proxy, &cluster), &["-S", "tap"]);
        // Servers before 15 do not tell where the slot is, so only what comes from now on is received.
        receiver.wait_for("streaming");
        let last = write_segments(&cluster, 2);
        let damage = receiver.wait_for("damage");
        assert!(damage["reason"].as_str().is_some_and(|reason| reason.contains("damaged WAL")), "{damage}");
        receiver.wait_for_one("segment", |event| event["segment"] == last);
        receiver.stop("INT");
        assert!(archive.assert_identical(&cluster.archive_dir()) >= 2);
    });
}

#[test]
fn damage_that_comes_again_is_refused_and_leaves_a_sound_archive() {
    let server = &servers::packaged();
    let cluster = Cluster::builder(server).archive().start();
    create_slot(&cluster);
    // One record over four segments: three are complete before its checksum is known to be wrong.
    cluster.write_wal(3_500_000);
    let last = cluster.switch_wal();
    let proxy = Proxy::flipping(cluster.port(), OFFSET, usize::MAX);
    let archive = Archive::new();
    let receiver = archive.receive(&through(&proxy, &cluster), &["-S", "tap"]);
    let (code, error) = receiver.end_within(Duration::from_secs(30));
    assert_eq!(code, Some(5), "{error}");
    assert_has(&error, json!({ "schema": "tapster.error/1", "ok": false }));
    let message = error["error"]["message"].as_str().unwrap_or_default();
    assert!(message.contains("damaged WAL twice: WAL at 0/"), "{message}");
    assert!(proxy.heard().len() >= 2, "it was fetched once more");

    assert_eq!(archive.names(), archive.partials(), "nothing of the record has a complete name");
    assert_eq!(archive.names().len(), 1, "it begins with the record's first segment: {:?}", archive.names());

    // Without the check it is stored as it comes, and verify finds it.
    let unchecked = ["-S", "tap", "--no-check-wal"];
    let mut receiver = archive.receive(&through(&proxy, &cluster), &unchecked);
    receiver.wait_for_one("segment", |event| event["segment"] == last);
    receiver.stop("INT");
    let found = Program::tapster().args(&["verify"]).args(&[archive.path()]).run();
    assert_eq!(found.status.code(), Some(7), "{found:?}");
}

#[test]
fn verify_finds_what_is_missing_short_or_changed() {
    let server = &servers::packaged();
    let cluster = Cluster::builder(server).archive().start();
    create_slot(&cluster);
    let last = write_segments(&cluster, 6);
    let archive = Archive::new();
    let mut receiver = archive.receive(&cluster.conninfo("repl"), &["-S", "tap"]);
    receiver.wait_for_one("segment", |event| event["segment"] == last);
    receiver.stop("INT");
    let segments: Vec<String> = archive.names().into_iter().filter(|name| name.len() == 24).collect();
    assert!(segments.len() >= 6, "{segments:?}");

    let path = archive.path().to_str().expect("a temporary directory's name is ASCII");
    let sound = tapster_json(&["verify", path, "--json"]);
    assert_has(&sound, json!({ "ok": true, "segments": segments.len(), "problems": [] }));

    std::fs::remove_file(archive.file(&segments[1])).unwrap();
    std::fs::write(archive.file(&segments[3]), b"short").unwrap();
    let mut changed = std::fs::read(archive.file(&segments[5])).unwrap();
    changed[100_000] ^= 1;
    std::fs::write(archive.file(&segments[5]), changed).unwrap();
    let found = Program::tapster().args(&["verify", path]).run();
    assert_eq!(found.status.code(), Some(7));
    let text = String::from_utf8(found.stdout).unwrap();
    for expected in [
        format!("hole: 1 segments missing between {} and {}", segments[0], segments[2]),
        format!("{} has 5 bytes instead of {}", segments[3], cluster.segment_size()),
        format!("{} is damaged: WAL at 0/", segments[5]),
    ] {
        assert!(text.contains(&expected), "{expected:?} is not in:\n{text}");
    }
}

/// The connection string of the receiver through the proxy.
fn through(proxy: &Proxy, cluster: &Cluster) -> String {
    format!("{} hostaddr=127.0.0.1 port={}", cluster.conninfo("repl"), proxy.port())
}

fn create_slot(cluster: &Cluster) {
    tapster_json(&["slot", "create", &cluster.conninfo("repl"), "tap", "--json"]);
}

/// Writes so many segments, and gives the name of the last one.
fn write_segments(cluster: &Cluster, count: usize) -> String {
    let mut last = String::new();
    for _ in 0..count {
        cluster.write_wal(700_000);
        last = cluster.switch_wal();
    }
    last
}
