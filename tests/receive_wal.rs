//! `tapster receive-wal` from servers of every major: what arrives, what is acknowledged, and how it stops.
#![cfg(feature = "cli")]

mod support;

use core::time::Duration;
use std::fs::{self, OpenOptions};
use std::net::TcpListener;
use std::time::Instant;

use serde_json::json;
use support::process::{PATIENCE, signal};
use support::{Archive, Auth, Cluster, Stop, assert_has, lsn, servers, tapster_json, wait_until};
use tapster::types::Lsn;

const SLOT: &str = "tap";
/// Before anything that happens regularly: the first status comes after 10 s.
const SOON: Duration = Duration::from_secs(9);

#[test]
fn every_major_delivers_its_segments_byte_for_byte() {
    servers::for_each(|server| {
        let cluster = Cluster::builder(server).auth(Auth::Scram).archive().start();
        let conninfo = cluster.conninfo("repl");
        let created = tapster_json(&["slot", "create", &conninfo, SLOT, "--json"]);
        assert_has(
            &created,
            json!({ "schema": "tapster.slot-create/1", "ok": true, "slot_name": SLOT, "created": true }),
        );
        let kept = slot_position(&cluster);
        cluster.write_wal(1000);
        cluster.switch_wal();
        cluster.write_wal(1000);

        // Servers before 15 do not tell it on a replication connection, and are asked by SQL.
        let archive = Archive::new();
        let mut receiver = archive.receive(&conninfo, &["-S", SLOT]);
        let start = lsn(&receiver.wait_for("streaming")["start_lsn"]);
        assert_eq!(start, cluster.segment_start(kept));

        let last = cluster.write_segments(5);
        receiver.wait_for_one("segment", |event| event["segment"] == last);
        // Not only soon: whoever sees that the segment is complete sees the next one.
        assert_eq!(archive.partials(), [format!("{}.partial", current_segment(&cluster))]);
        assert!(archive.assert_identical(&cluster.archive_dir()) >= 5);
        status_tells_of_the_receiver(&cluster);

        cluster.write_wal(1000);
        wait_for_walsender(&cluster, "sent_lsn = pg_current_wal_lsn()");
        let stopped = receiver.stop("TERM");
        assert_eq!(lsn(&stopped["flush_lsn"]), slot_position(&cluster), "the server was told the last word");
        assert!(lsn(&stopped["flush_lsn"]) > cluster.segment_start(cluster.position()));
        assert_eq!(stopped["partial"], true);
    });
}

fn status_tells_of_the_receiver(cluster: &Cluster) {
    let written = cluster.segment_start(cluster.position());
    let system = cluster.sql("SELECT system_identifier FROM pg_control_system()").unwrap();
    for user in ["postgres", "repl"] {
        let status = tapster_json(&["status", &cluster.conninfo(user), "--json"]);
        assert_has(
            &status,
            json!({
                "schema": "tapster.status/1",
                "ok": true,
                "server": { "port": cluster.port(), "system_id": system, "in_recovery": false, "timeline": 1 },
                "postgres": { "postgres_systemid": system, "is_in_recovery": false },
                "streaming": { "streaming_systemid": system, "timeline": 1, "streaming": true },
            }),
        );
        let version = status["server"]["version_num"].as_u64().expect("a number");
        assert_eq!(version / 10_000, u64::from(cluster.major()));
        for position in [&status["postgres"]["current_lsn"], &status["streaming"]["xlogpos"]] {
            assert!(lsn(position) >= written, "{position} < {written}");
        }
        assert_has(
            &status["slots"][0],
            json!({ "slot_name": SLOT, "slot_type": "physical", "active": true }),
        );
        assert_eq!(status["wal_senders"].as_array().map(Vec::len), Some(1), "{status}");
        // An ordinary user may see that there is somebody, and no more.
        if user == "postgres" {
            assert_has(
                &status["wal_senders"][0],
                json!({ "application_name": "tapster", "usename": "repl", "state": "streaming", "slot_name": SLOT }),
            );
        }
    }
}

#[test]
fn every_major_goes_on_where_the_archive_ends() {
    servers::for_each(|server| {
        let cluster = Cluster::builder(server).archive().start();
        let conninfo = cluster.socket_conninfo("repl");
        let archive = Archive::new();
        let size = cluster.segment_size();
        let resize = |len: u64| {
            let name = archive.partials().pop().expect("a partial segment");
            let file = OpenOptions::new().write(true).open(archive.file(&name)).unwrap();
            file.set_len(len).unwrap();
        };
        // What a run leaves, and what may have become of it when the next one begins.
        let states: [(&str, &dyn Fn()); 6] = [
            ("as it was left", &|| {}),
            ("empty", &|| resize(0)),
            ("of odd size", &|| resize(size / 3 + 1)),
            ("longer than a segment", &|| resize(size + 8192)),
            ("full of something else", &|| {
                let name = archive.partials().pop().expect("a partial segment");
                fs::write(archive.file(&name), vec![0xa5; usize::try_from(size).unwrap()]).unwrap();
            }),
            ("missing", &|| {
                let name = archive.partials().pop().expect("a partial segment");
                fs::remove_file(archive.file(&name)).unwrap();
            }),
        ];
        let mut start = None;
        for (state, make) in states {
            // In the middle of a segment.
            cluster.write_wal(5000);
            let end = cluster.position();
            let mut receiver = archive.receive(&conninfo, &["--endpos", &end.to_string()]);
            let begun = lsn(&receiver.wait_for("streaming")["start_lsn"]);
            assert_eq!(begun, *start.get_or_insert(begun));
            assert_eq!(receiver.stopped_within(PATIENCE)["partial"], true);
            let partial = format!("{}.partial", current_segment(&cluster));
            assert_eq!(archive.partials(), core::slice::from_ref(&partial));
            assert_eq!(fs::metadata(archive.file(&partial)).unwrap().len(), size);

            make();
            let segment = current_segment(&cluster);
            let mut receiver = archive.receive(&conninfo, &[]);
            let resumed = lsn(&receiver.wait_for("streaming")["start_lsn"]);
            assert_eq!(resumed, cluster.segment_start(end), "the partial segment is {state}");
            assert_eq!(cluster.write_segments(1), segment);
            receiver.wait_for_one("segment", |event| event["segment"] == segment);
            receiver.stop("INT");
            assert_eq!(archive.partials(), [format!("{}.partial", current_segment(&cluster))]);
            start = Some(cluster.segment_start(cluster.position()));
        }
        assert_eq!(archive.assert_identical(&cluster.archive_dir()), states.len());
    });
}

#[test]
fn every_major_stops_at_the_end_position() {
    servers::for_each(|server| {
        let cluster = Cluster::builder(server).archive().start();
        let conninfo = cluster.socket_conninfo("repl");
        let archive = Archive::new();
        cluster.write_wal(1000);
        let begin = cluster.segment_start(cluster.position());

        // Between two segments, so that the next run has nothing to receive.
        let between = begin.get() + cluster.segment_size();
        let between = Lsn::new(between).to_string();
        let mut receiver = archive.receive(&conninfo, &["--endpos", &between]);
        // Or it would begin behind what is written now.
        receiver.wait_for("streaming");
        let last = cluster.write_segments(1);
        let stopped = receiver.stopped_within(PATIENCE);
        assert_has(&stopped, json!({ "flush_lsn": between, "partial": true }));
        assert!(archive.file(&last).exists());

        // Nothing is written meanwhile. The second position was passed long ago.
        for end in [between.clone(), begin.to_string()] {
            let stopped = archive.receive(&conninfo, &["--endpos", &end]).stopped_within(SOON);
            assert_eq!(stopped["flush_lsn"], between.as_str());
        }
        let end = cluster.position();
        let stopped = archive.receive(&conninfo, &["--endpos", &end.to_string()]).stopped_within(PATIENCE);
        assert!(lsn(&stopped["flush_lsn"]) >= end);
        assert_eq!(archive.assert_identical(&cluster.archive_dir()), 1);
    });
}

/// What is there already comes in long runs, which go past the page cache.
#[test]
fn what_was_kept_arrives_on_a_disk_as_it_is() {
    let server = servers::packaged();
    for segment_size_mb in [1, 16] {
        let cluster = Cluster::builder(&server)
            .segment_size_mb(segment_size_mb)
            .setting("wal_keep_size", "1GB")
            .archive()
            .start();
        let archive = Archive::on_disk();
        fs::write(archive.file(&format!("{}.partial", current_segment(&cluster))), "").expect("a file");
        let last = cluster.write_segments(3);
        cluster.write_wal(1000);

        let mut receiver = archive.receive(&cluster.conninfo("repl"), &["--no-state-file"]);
        receiver.wait_for_one("segment", |event| event["segment"] == last);
        // From here on it comes as it is written, between the boundaries of blocks.
        for _ in 0..20 {
            cluster.write_wal(3000);
        }
        let last = cluster.switch_wal();
        receiver.wait_for_one("segment", |event| event["segment"] == last);
        assert!(archive.assert_identical(&cluster.archive_dir()) >= 4);
        receiver.stop("TERM");
    }
}

#[test]
fn every_major_hears_of_what_is_durable_and_no_more() {
    servers::for_each(|server| {
        let cluster = Cluster::builder(server).setting("synchronous_standby_names", "tapster").start();
        let conninfo = cluster.socket_conninfo("repl");
        let write = || {
            // A commit would wait for the receiver that is not synchronous.
            cluster.sql("SET synchronous_commit = local; CREATE TABLE IF NOT EXISTS t (i int); INSERT INTO t VALUES (1)")
        };
        write().unwrap();

        // Without a slot nobody asked for acknowledgements: such a receiver never counts as a standby.
        let archive = Archive::new();
        let mut receiver = archive.receive(&conninfo, &["-s", "1"]);
        receiver.wait_for("streaming");
        write().unwrap();
        wait_for_walsender(&cluster, "write_lsn = pg_current_wal_lsn()");
        assert_eq!(walsender(&cluster, "flush_lsn IS NULL AND sync_state = 'async'"), "t");
        receiver.stop("TERM");

        // With a slot, each finished segment is told of at once, and the unfinished one is not.
        tapster_json(&["slot", "create", &conninfo, SLOT, "--json"]);
        let mut receiver = archive.receive(&conninfo, &["-S", SLOT, "-s", "1"]);
        receiver.wait_for("streaming");
        cluster.sql("SET synchronous_commit = local; SELECT pg_switch_wal()").unwrap();
        write().unwrap();
        let end = lsn(&receiver.wait_for("segment")["end_lsn"]);
        wait_for_walsender(&cluster, "write_lsn = pg_current_wal_lsn() AND flush_lsn < write_lsn");
        assert_eq!(walsender(&cluster, "flush_lsn"), end.to_string());
        assert_eq!(slot_position(&cluster), end);
        assert_eq!(walsender(&cluster, "replay_lsn IS NULL"), "t", "a receiver applies nothing");
        receiver.stop("TERM");

        // As a synchronous standby it lets commits return.
        let mut receiver = archive.receive(&conninfo, &["-S", SLOT, "--synchronous"]);
        receiver.wait_for("streaming");
        wait_for_walsender(&cluster, "sync_state = 'sync'");
        // One after the other; with the regular status alone they would take minutes.
        cluster.sql(&"INSERT INTO t VALUES (2);".repeat(20)).unwrap();
        assert_eq!(walsender(&cluster, "flush_lsn = write_lsn"), "t");
        receiver.stop("TERM");
    });
}

#[test]
fn every_major_may_be_frozen_while_it_stops() {
    servers::for_each(|server| {
        let cluster = Cluster::builder(server).start();
        let conninfo = cluster.socket_conninfo("repl");
        for name in ["TERM", "INT"] {
            for is_frozen in [false, true] {
                let archive = Archive::new();
                // So that the server hears at once that everything has come.
                let mut receiver = archive.receive(&conninfo, &["--synchronous"]);
                receiver.wait_for("streaming");
                cluster.write_wal(1000);
                let end = cluster.position();
                wait_for_walsender(&cluster, &format!("write_lsn >= '{end}'"));
                let walsender = walsender(&cluster, "pid").parse().expect("a process id");
                if is_frozen {
                    signal(walsender, "STOP");
                }
                let stopped = receiver.stop(name);
                signal(walsender, "CONT");
                assert_eq!(archive.partials(), [format!("{}.partial", current_segment(&cluster))]);
                assert!(lsn(&stopped["flush_lsn"]) >= end);
            }
        }
    });
}

#[test]
fn a_receiver_that_waits_for_a_server_stops_as_quickly() {
    // The kernel accepts for it, and nothing is ever said.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let archive = Archive::new();
    for name in ["TERM", "INT"] {
        let receiver = archive.receive(&format!("postgresql://x@127.0.0.1:{port}"), &[]);
        let (_connection, _) = silent.accept().unwrap();
        receiver.stop(name);
    }

    let cluster = Cluster::builder(&servers::packaged()).start();
    let mut receiver = archive.receive(&cluster.conninfo("repl"), &[]);
    receiver.wait_for("streaming");
    cluster.stop(Stop::Fast);
    receiver.wait_for("disconnected");
    receiver.stop("TERM");
}

#[test]
fn every_major_may_come_and_go() {
    servers::for_each(|server| {
        let cluster = Cluster::builder(server).archive().start();
        let conninfo = cluster.conninfo("repl");
        tapster_json(&["slot", "create", &conninfo, SLOT, "--json"]);
        // Without a slot the server is told what is written, with one what is durable: it may wait for either.
        for options in [&["-S", SLOT][..], &[]] {
            let archive = Archive::new();
            let mut receiver = archive.receive(&conninfo, options);
            receiver.wait_for("streaming");
            cluster.write_wal(1000);

            let begin = Instant::now();
            cluster.stop(Stop::Fast);
            let took = begin.elapsed();
            // Of its own it takes a moment on a busy machine; one that waits for the receiver takes a minute.
            assert!(took < SOON, "the receiver kept the server from stopping for {took:?}");
            receiver.wait_for("disconnected");
            cluster.start();
            receiver.wait_for("streaming");
            cluster.write_wal(1000);
            let last = cluster.write_segments(1);
            receiver.wait_for_one("segment", |event| event["segment"] == last);

            cluster.write_wal(1000);
            cluster.kill_9();
            receiver.wait_for("disconnected");
            cluster.start();
            receiver.wait_for("streaming");
            let last = cluster.write_segments(1);
            receiver.wait_for_one("segment", |event| event["segment"] == last);
            assert!(archive.assert_identical(&cluster.archive_dir()) >= 2);

            receiver.stop("TERM");
        }
    });
}

#[test]
fn told_not_to_wait_it_ends_with_the_connection() {
    for how in [Stop::Fast, Stop::Immediate] {
        let cluster = Cluster::builder(&servers::packaged()).start();
        let archive = Archive::new();
        let mut receiver = archive.receive(&cluster.conninfo("repl"), &["--no-loop", "--synchronous"]);
        receiver.wait_for("streaming");
        cluster.write_wal(1000);
        wait_for_walsender(&cluster, "write_lsn = pg_current_wal_lsn()");
        cluster.stop(how);
        let (code, error) = receiver.end_within(PATIENCE);
        assert_eq!(code, Some(3));
        assert_has(&error, json!({ "ok": false, "error": { "kind": "connection", "exit": 3 } }));
        // What had come was kept.
        assert_eq!(archive.partials().len(), 1);
    }
}

/// A request alone is no stream: whoever is told of one may rely on it.
#[test]
fn a_stream_that_the_server_refuses_is_not_told_of() {
    let cluster = Cluster::builder(&servers::packaged()).start();
    let conninfo = cluster.conninfo("repl");
    let (first, second) = (Archive::new(), Archive::new());
    let mut holder = first.receive(&conninfo, &["-S", SLOT, "--create-slot"]);
    holder.wait_for("streaming");
    let mut receiver = second.receive(&conninfo, &["-S", SLOT]);
    let refused = receiver.wait_for("disconnected");
    assert!(
        refused["reason"].as_str().is_some_and(|reason| reason.contains("is active for PID")),
        "{refused}"
    );
    assert!(receiver.events().iter().all(|event| event["event"] != "streaming"));
    holder.stop("TERM");
    receiver.wait_for("streaming");
    receiver.stop("TERM");
}

fn slot_position(cluster: &Cluster) -> Lsn {
    cluster.query_lsn("restart_lsn FROM pg_replication_slots")
}

/// The name of the segment that the next byte goes to.
fn current_segment(cluster: &Cluster) -> String {
    cluster.segment_name(1, cluster.position())
}

/// What `pg_stat_replication` says of the one receiver.
fn walsender(cluster: &Cluster, expression: &str) -> String {
    cluster.sql(&format!("SELECT {expression} FROM pg_stat_replication")).unwrap()
}

#[track_caller]
fn wait_for_walsender(cluster: &Cluster, condition: &str) {
    wait_until(PATIENCE, condition, || walsender(cluster, condition) == "t");
}
