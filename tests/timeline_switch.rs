//! What becomes of an archive when a standby is promoted, and which archives are not to be continued.
#![cfg(feature = "cli")]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use serde_json::json;
use support::process::PATIENCE;
use support::{Archive, Cluster, Receiver, Server, Stop, assert_has, lsn, oracle, servers, wait_until};
use tapster::types::Lsn;

/// A primary and a standby of it, who keeps copies of everything from its own beginning on.
fn pair(server: &Server) -> (Cluster, Cluster) {
    let primary = Cluster::builder(server).archive().start();
    let standby = primary.standby_with(&[("archive_mode", "always")]);
    (primary, standby)
}

#[test]
fn every_major_is_followed_through_its_promotion() {
    servers::for_each(|server| {
        let (primary, standby) = pair(server);
        let archive = Archive::new();
        let mut receiver = archive
            .receive(&standby.socket_conninfo("repl"), &["-S", "tap", "--create-slot", "--synchronous"]);
        receiver.wait_for("streaming");
        // A standby sends what it has replayed.
        let last = primary.write_segments(2);
        receiver.wait_for_one("segment", |event| event["segment"] == last);
        primary.write_wal(1000);
        standby.wait_for_replay_of(&primary);

        standby.promote();
        let switchpoint = assert_switched(&mut receiver, &archive, &standby, 2);
        let last = standby.write_segments(2);
        receiver.wait_for_one("segment", |event| event["segment"] == last);
        assert_histories_meet(&archive, &standby, 1, 2, switchpoint);
        assert!(assert_identical(&archive, &standby) >= 4);

        standby.write_wal(1000);
        let stopped = receiver.stop("TERM");
        assert_has(&stopped, json!({ "timeline": 2, "partial": true }));
        let kept = standby.query_lsn("restart_lsn FROM pg_replication_slots");
        assert_eq!(lsn(&stopped["flush_lsn"]), kept);
    });
}

#[test]
fn every_major_may_be_promoted_while_nobody_receives() {
    servers::for_each(|server| {
        let (primary, standby) = pair(server);
        let conninfo = standby.socket_conninfo("repl");
        let archive = Archive::new();
        // The slot keeps what was not received meanwhile.
        let mut receiver = archive.receive(&conninfo, &["-S", "tap", "--create-slot"]);
        receiver.wait_for("streaming");
        let last = primary.write_segments(1);
        receiver.wait_for_one("segment", |event| event["segment"] == last);
        primary.write_wal(1000);
        standby.wait_for_replay_of(&primary);
        receiver.stop("TERM");

        standby.promote();
        standby.write_segments(1);
        let mut receiver = archive.receive(&conninfo, &["-S", "tap"]);
        let first = assert_switched(&mut receiver, &archive, &standby, 2);
        let last = standby.write_segments(1);
        receiver.wait_for_one("segment", |event| event["segment"] == last);
        standby.write_wal(1000);
        receiver.stop("TERM");

        // Two timelines further, of which the receiver sees only the end.
        for _ in 0..2 {
            standby.stop(Stop::Fast);
            standby.follow(&primary, &[]);
            standby.start();
            standby.promote();
            standby.write_segments(1);
        }
        let mut receiver = archive.receive(&conninfo, &["-S", "tap"]);
        let second = assert_switched(&mut receiver, &archive, &standby, 3);
        let third = assert_switched(&mut receiver, &archive, &standby, 4);
        let last = standby.write_segments(1);
        receiver.wait_for_one("segment", |event| event["segment"] == last);
        receiver.stop("TERM");
        for (timeline, switchpoint) in [(2, first), (3, second), (4, third)] {
            assert_histories_meet(&archive, &standby, timeline - 1, timeline, switchpoint);
        }
        assert_identical(&archive, &standby);
    });
}

/// Compares with the server's copies, and gives the number of segments.
///
/// A standby of 10 that has replayed a WAL switch sends the rest of the segment before it has it itself. The pages
/// there hold nothing but headers, which are missing from what it sends, and from our file; so page headers
/// behind a switch are put into it here. Later servers write no headers there.
#[track_caller]
fn assert_identical(archive: &Archive, server: &Cluster) -> usize {
    const PAGE: usize = 8192;
    const HEADER: usize = 24;
    if server.major() == 10 {
        for name in oracle::segments(archive.path()).unwrap() {
            let mut ours = fs::read(archive.file(&name)).unwrap();
            let theirs = fs::read(server.archive_dir().join(&name)).unwrap();
            for (ours, theirs) in ours.chunks_mut(PAGE).zip(theirs.chunks(PAGE)) {
                let is_empty = |bytes: &[u8]| bytes.iter().all(|&byte| byte == 0);
                if is_empty(ours) && is_empty(&theirs[HEADER..]) {
                    ours.copy_from_slice(theirs);
                }
            }
            fs::write(archive.file(&name), ours).unwrap();
        }
    }
    archive.assert_identical(&server.archive_dir())
}

/// Waits until the receiver has gone over to a timeline, whose history must be the server's.
#[track_caller]
fn assert_switched(receiver: &mut Receiver, archive: &Archive, server: &Cluster, timeline: u32) -> Lsn {
    let switch = receiver.wait_for("timeline_switch");
    assert_eq!(switch["timeline"], timeline, "{switch}");
    receiver.wait_for("streaming");
    let name = format!("{timeline:08X}.history");
    let theirs = fs::read(server.data_dir().join("pg_wal").join(&name)).unwrap();
    assert_eq!(fs::read(archive.file(&name)).unwrap(), theirs);
    lsn(&switch["switchpoint_lsn"])
}

/// The old timeline's last segment stays partial, and the new one's first is whole: it begins as the other.
#[track_caller]
fn assert_histories_meet(archive: &Archive, server: &Cluster, old: u32, new: u32, switchpoint: Lsn) {
    let name = |timeline| server.segment_name(timeline, switchpoint);
    let old = fs::read(archive.file(&format!("{}.partial", name(old)))).unwrap();
    let new = fs::read(archive.file(&name(new))).unwrap();
    let common = usize::try_from(switchpoint.get() % server.segment_size()).expect("some MiB");
    assert!(common > 0 && old[..common] == new[..common], "they differ before {switchpoint}");
    assert_eq!((old.len(), new.len()), (new.len(), usize::try_from(server.segment_size()).unwrap()));
}

#[test]
fn every_major_is_refused_if_it_does_not_continue_the_archive() {
    servers::for_each(|server| {
        let (primary, standby) = pair(server);
        let archive = Archive::new();
        let mut receiver = archive.receive(&primary.socket_conninfo("repl"), &[]);
        receiver.wait_for("streaming");
        standby.promote();
        let last = primary.write_segments(2);
        receiver.wait_for_one("segment", |event| event["segment"] == last);
        primary.write_wal(1000);
        receiver.stop("TERM");
        let next = primary.segment_start(primary.position());

        // Its timeline begins before what the archive has by now.
        standby.write_segments(4);
        let history = fs::read_to_string(standby.data_dir().join("pg_wal/00000002.history")).unwrap();
        let switchpoint = history.split_whitespace().nth(1).expect("TIMELINE POSITION REASON");
        refused(&archive, &standby, &[&next.to_string(), switchpoint, "timeline 2"]);

        // As restored from an old backup: the same cluster, the same timeline, an earlier time.
        let restored = Cluster::builder(server).start();
        assert!(restored.position() < next);
        refused(&archive, &restored, &[&next.to_string(), "ahead"]);

        let system_id =
            |cluster: &Cluster| cluster.sql("SELECT system_identifier FROM pg_control_system()").unwrap();
        let other = Cluster::builder(server).own_initdb(&[]).start();
        let both = [system_id(&primary), system_id(&other)];
        assert_ne!(both[0], both[1]);
        other.write_segments(2);
        refused(&archive, &other, &[&both[0], &both[1]]);
        // Also when there is nothing but the beginning of a segment.
        let beginning = Archive::new();
        let end = primary.position().to_string();
        let receiver = beginning.receive(&primary.socket_conninfo("repl"), &["--endpos", &end]);
        receiver.stopped_within(PATIENCE);
        refused(&beginning, &other, &[&both[0], &both[1]]);

        // It is still the right one for the server it comes from.
        let mut receiver = archive.receive(&primary.socket_conninfo("repl"), &[]);
        receiver.wait_for("streaming");
        receiver.stop("TERM");
    });
}

#[test]
fn every_major_tells_of_wal_that_it_removed() {
    servers::for_each(|server| {
        let cluster = Cluster::builder(server).start();
        let archive = Archive::new();
        let mut receiver = archive.receive(&cluster.socket_conninfo("repl"), &["--synchronous"]);
        receiver.wait_for("streaming");
        cluster.write_segments(1);
        receiver.wait_for("segment");
        receiver.stop("TERM");
        // No slot and no wal_keep_size: a checkpoint removes what it does not need itself. With segments of
        // 16 MB, as 10 has them, it cannot be told to need less.
        if server.major > 10 {
            cluster.sql("ALTER SYSTEM SET max_wal_size = 2").unwrap();
            cluster.sql("ALTER SYSTEM SET min_wal_size = 2").unwrap();
            cluster.reload();
        }
        let next = cluster.segment_start(cluster.position());
        let file = cluster.data_dir().join("pg_wal").join(cluster.segment_name(1, next));
        wait_until(PATIENCE, "the segment is gone", || {
            cluster.write_segments(1);
            cluster.sql("CHECKPOINT").unwrap();
            !file.exists()
        });
        let position = cluster.position();
        let message = refused(&archive, &cluster, &[&next.to_string(), "removed"]);
        let told = message.split_once("the server is at ").and_then(|(_, rest)| rest.split_once(','));
        assert!(told.is_some_and(|(told, _)| told.parse::<Lsn>().unwrap() >= position), "{message}");
    });
}

/// Receiving from this server must be refused with all of `words`, and leave the archive as it is. Gives the
/// message.
#[track_caller]
fn refused(archive: &Archive, server: &Cluster, words: &[&str]) -> String {
    let before = contents(archive.path());
    let receiver = archive.receive(&server.socket_conninfo("repl"), &[]);
    let (code, error) = receiver.end_within(PATIENCE);
    assert_eq!(code, Some(5), "{error}");
    assert_has(&error, json!({ "ok": false, "error": { "kind": "refused", "exit": 5 } }));
    let message = error["error"]["message"].as_str().expect("a text");
    for word in words {
        assert!(message.contains(word), "{word} is not in {message}");
    }
    assert!(!error["error"]["hint"].is_null(), "{error}");
    assert!(contents(archive.path()) == before, "something was written");
    message.to_owned()
}

/// Every file with its content.
fn contents(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(dir).unwrap().flatten();
    entries.map(|e| (e.file_name().into_string().unwrap(), fs::read(e.path()).unwrap())).collect()
}

#[test]
fn another_cluster_that_takes_over_the_address_is_refused() {
    let server = servers::packaged();
    let (first, second) =
        (Cluster::builder(&server).start(), Cluster::builder(&server).own_initdb(&[]).start());
    let address = tempfile::tempdir().unwrap();
    let socket = address.path().join(".s.PGSQL.5432");
    let lead_to = |cluster: &Cluster| {
        drop(fs::remove_file(&socket));
        symlink(cluster.socket_dir().join(format!(".s.PGSQL.{}", cluster.port())), &socket).unwrap();
    };
    lead_to(&first);
    let archive = Archive::new();
    let mut receiver = archive.receive(&format!("host={} user=repl", address.path().display()), &[]);
    receiver.wait_for("streaming");
    first.write_wal(1000);
    // Its cluster runs ahead of the archive, so that nothing but the identifier tells the two apart.
    second.write_segments(3);
    lead_to(&second);
    first.stop(Stop::Fast);
    let (code, error) = receiver.end_within(PATIENCE);
    assert_eq!((code, &error["error"]["kind"]), (Some(5), &json!("refused")), "{error}");
}
