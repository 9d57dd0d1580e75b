//! What happens when WAL is missing: in the archive, on the server, or behind a slot that was lost.
#![cfg(feature = "cli")]

mod support;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use serde_json::{Value, json};
use support::process::PATIENCE;
use support::servers;
use support::{Archive, Cluster, Program, Server, assert_has, lsn, tapster_json, wait_until};
use tapster::types::Lsn;

const SLOT: &str = "tap";
const STATE: &str = "tapster.state";

#[test]
fn every_major_tells_where_a_slot_begins() {
    servers::for_each(|server| {
        let cluster = Cluster::builder(server).archive().start();
        create_slot(&cluster);
        let last = cluster.write_segments(3);
        let archive = Archive::new();
        receive_until(&archive, &cluster, &["-S", SLOT], &last);
        assert_eq!(archive.assert_identical(&cluster.archive_dir()), 3, "from the slot's first segment on");
    });
}

#[test]
fn without_a_session_of_sql_it_says_what_it_cannot_know() {
    let server = servers::major(14);
    let cluster = Cluster::builder(&server).hba("host postgres repl all reject").start();
    create_slot(&cluster);
    let receiver = Program::tapster().args(&["receive-wal", &cluster.conninfo("repl"), "-S", SLOT, "-D"]);
    let archive = Archive::new();
    let mut receiver = receiver.args(&[archive.path()]).spawn();
    let said = receiver.wait_for_stderr("could not find out what slot tap keeps", PATIENCE);
    assert!(said.contains("pg_hba.conf") && said.contains("current segment"), "{said}");
    receiver.wait_for_stderr("streaming from", PATIENCE);
}

#[test]
fn an_archive_whose_segments_were_shipped_away_goes_on_where_it_was() {
    for server in [servers::major(13), servers::major(18)] {
        let cluster = Cluster::builder(&server).archive().start();
        create_slot(&cluster);
        let last = cluster.write_segments(3);
        let archive = Archive::new();
        receive_until(&archive, &cluster, &["-S", SLOT], &last);
        for name in archive.names() {
            fs::remove_file(archive.file(&name)).unwrap();
        }
        // Nobody but the state file knows now: the slot may have been moved on as well.
        cluster.sql("SELECT pg_drop_replication_slot('tap')").unwrap();
        let state = fs::read_to_string(archive.file(STATE)).unwrap();
        cluster.write_segments(1);
        let last = cluster.write_segments(1);
        let mut receiver = archive.receive(&cluster.conninfo("repl"), &[]);
        let resumed = receiver.wait_for("resumed");
        assert!(state.contains(&format!("\nflushed {}\n", lsn(&resumed["flush_lsn"]))), "{resumed} {state}");
        receiver.wait_for_one("segment", |event| event["segment"] == last);
        receiver.stop("TERM");
        assert_eq!(archive.assert_identical(&cluster.archive_dir()), 2);
    }
}

#[test]
fn an_archive_that_is_ahead_by_less_than_a_segment_is_refused() {
    ahead(&servers::packaged(), "");
    // Before 14 such a primary looks like a standby, which may catch up.
    ahead(&servers::major(13), "options=-cdefault_transaction_read_only=on");
}

fn ahead(server: &Server, more: &str) {
    let cluster = Cluster::builder(server).start();
    let archive = Archive::new();
    let mut receiver = archive.receive(&cluster.conninfo("repl"), &["--synchronous"]);
    receiver.wait_for("streaming");
    cluster.write_wal(1000);
    let position = cluster.position();
    wait_until(PATIENCE, "it is acknowledged", || {
        cluster
            .sql("SELECT max(flush_lsn) FROM pg_stat_replication")
            .is_ok_and(|flushed| flushed.parse().is_ok_and(|flushed: Lsn| flushed >= position))
    });
    let flushed = lsn(&receiver.stop("TERM")["flush_lsn"]);

    // As after the server was restored to an earlier state; by less than a page it may be after a crash.
    for (ahead, expected) in [(8192, Some(5)), (0, Some(0))] {
        let further = Lsn::new(flushed.get() + ahead);
        let state = fs::read_to_string(archive.file(STATE)).unwrap();
        let line = state.lines().find(|line| line.starts_with("flushed ")).unwrap();
        fs::write(archive.file(STATE), state.replace(line, &format!("flushed {further}"))).unwrap();
        let receiver = archive
            .receive(&format!("{} {more}", cluster.conninfo("repl")), &["--endpos", &flushed.to_string()]);
        let (code, last) = receiver.end_within(PATIENCE);
        assert_eq!(code, expected, "{last}");
        if expected == Some(5) {
            assert!(message(&last).contains("the archive is ahead of the server"), "{last}");
            fs::write(archive.file(STATE), state).unwrap();
        }
    }
}

#[test]
fn a_gap_is_refused_until_it_is_accepted_and_then_known() {
    let server = servers::packaged();
    let cluster = Cluster::builder(&server).start();
    let archive = Archive::new();
    let conninfo = cluster.conninfo("repl");
    let mut receiver = archive.receive(&conninfo, &[]);
    receiver.wait_for("streaming");
    let first = cluster.write_segments(1);
    receiver.wait_for_one("segment", |event| event["segment"] == first);
    cluster.write_wal(1000);
    let flushed = lsn(&receiver.stop("TERM")["flush_lsn"]);
    keep_no_wal(&cluster);
    remove_wal(&cluster, flushed);

    let (code, error) = archive.receive(&conninfo, &[]).end_within(PATIENCE);
    assert_eq!(code, Some(5), "{error}");
    assert!(message(&error).contains(&cluster.segment_start(flushed).to_string()), "{error}");
    assert!(error["error"]["hint"].as_str().is_some_and(|hint| hint.contains("--accept-gap")), "{error}");

    cluster.sql("ALTER SYSTEM RESET ALL").unwrap();
    cluster.reload();
    let mut receiver = archive.receive(&conninfo, &["--accept-gap"]);
    let gap = receiver.wait_for("gap_accepted");
    let (from, to) = (lsn(&gap["start_lsn"]), lsn(&gap["end_lsn"]));
    assert_eq!((from, cluster.segment_start(to)), (flushed, to), "{gap}");
    receiver.wait_for("streaming");
    let last = cluster.write_segments(1);
    receiver.wait_for_one("segment", |event| event["segment"] == last);
    receiver.stop("TERM");

    // Without the option it goes on like any other archive.
    let mut receiver = archive.receive(&conninfo, &[]);
    receiver.wait_for("streaming");
    receiver.stop("TERM");

    let path = archive.path().to_str().unwrap();
    let verify = |option| Program::tapster().args(&["verify", path, "--json", option]).run();
    assert_eq!(verify("--json").status.code(), Some(2), "given twice");
    let found = Program::tapster().args(&["verify", path]).run();
    let text = String::from_utf8(found.stdout).unwrap();
    assert_eq!(found.status.code(), Some(7), "{text}");
    assert!(text.contains(&format!("between {first} and ")) && text.contains("accepted at 20"), "{text}");
    assert_eq!(verify("--allow-accepted").status.code(), Some(0));
    // It explains no other hole.
    fs::remove_file(archive.file(&last)).unwrap();
    cluster.write_segments(1);
    receive_until(&archive, &cluster, &[], &cluster.write_segments(1));
    let segments = archive.names().into_iter().filter(|name| name.len() == 24).collect::<Vec<_>>();
    fs::remove_file(archive.file(&segments[segments.len() - 2])).unwrap();
    assert_eq!(verify("--allow-accepted").status.code(), Some(7));
}

#[test]
fn a_lost_slot_is_noticed_with_and_without_a_state_file() {
    for major in [13, 14, 15, 16, 17, 18] {
        let server = servers::major(major);
        let cluster = Cluster::builder(&server).start();
        let conninfo = cluster.conninfo("repl");
        create_slot(&cluster);
        let archive = Archive::new();
        let last = cluster.write_segments(2);
        receive_until(&archive, &cluster, &["-S", SLOT], &last);
        for name in archive.names() {
            fs::remove_file(archive.file(&name)).unwrap();
        }
        keep_no_wal(&cluster);
        wait_until(PATIENCE, "the slot is lost", || {
            cluster.write_segments(2);
            cluster.sql("CHECKPOINT").unwrap();
            cluster.sql("SELECT wal_status FROM pg_replication_slots").as_deref() == Ok("lost")
        });
        let other = Archive::new();
        for archive in [&archive, &other] {
            let receiver = archive.receive(&conninfo, &["-S", SLOT]);
            let (code, error) = receiver.end_within(PATIENCE);
            assert_eq!(code, Some(5), "{major}: {error}");
            assert_has(&error, json!({ "error": { "kind": "refused" } }));
        }
        assert_eq!(other.all_names(), [""; 0], "nothing was written");

        // The way out that it tells.
        tapster_json(&["slot", "drop", &conninfo, SLOT, "--json"]);
        cluster.sql("ALTER SYSTEM RESET ALL").unwrap();
        cluster.reload();
        let mut receiver = archive.receive(&conninfo, &["-S", SLOT, "--create-slot", "--accept-gap"]);
        receiver.wait_for("gap_accepted");
        let last = cluster.write_segments(1);
        receiver.wait_for_one("segment", |event| event["segment"] == last);
        receiver.stop("TERM");
    }
}

#[test]
fn no_segment_is_begun_with_less_space_than_has_to_stay_free() {
    let server = servers::packaged();
    let cluster = Cluster::builder(&server).archive().start();
    create_slot(&cluster);
    let last = cluster.write_segments(2);
    let archive = Archive::new();
    let conninfo = cluster.conninfo("repl");
    let (code, error) =
        archive.receive(&conninfo, &["-S", SLOT, "--min-free", "1000TB", "--no-loop"]).end_within(PATIENCE);
    assert_eq!((code, &error["error"]["kind"]), (Some(6), &json!("storage")), "{error}");
    let mut receiver = archive.receive(&conninfo, &["-S", SLOT, "--min-free", "1000TB"]);
    let event = receiver.wait_for("out_of_space");
    assert!(event["reason"].as_str().is_some_and(|reason| reason.contains("to stay free")), "{event}");
    receiver.stop("TERM");
    assert_eq!(archive.all_names(), [""; 0]);
    receive_until(&archive, &cluster, &["-S", SLOT, "--min-free", "1MB"], &last);
    assert_eq!(archive.assert_identical(&cluster.archive_dir()), 2);
}

#[test]
fn a_record_that_begins_in_the_archive_is_checked_with_its_beginning() {
    let server = servers::packaged();
    let cluster = Cluster::builder(&server).archive().start();
    create_slot(&cluster);
    // One record over several segments, of which the archive has the first.
    let first = cluster.segment_name(1, cluster.position());
    cluster.write_wal(3_500_000);
    let last = cluster.switch_wal();
    let mut begin = fs::read(cluster.archive_dir().join(&first)).unwrap();
    let near_the_end = begin.len() - 1000;
    for is_damaged in [true, false] {
        begin[near_the_end] ^= 1;
        let archive = Archive::new();
        fs::write(archive.file(&first), &begin).unwrap();
        let mut receiver = archive.receive(&cluster.conninfo("repl"), &["-S", SLOT]);
        if is_damaged {
            // The rest of the record tells, and then all of it comes again.
            receiver.wait_for("damage");
        }
        receiver.wait_for_one("segment", |event| event["segment"] == last);
        receiver.stop("TERM");
        archive.assert_identical(&cluster.archive_dir());
    }
}

#[test]
fn an_archive_of_another_segment_size_is_refused_and_left_as_it_is() {
    let server = servers::packaged();
    let (small, large) =
        (Cluster::builder(&server).start(), Cluster::builder(&server).segment_size_mb(16).start());
    let dir = tempfile::tempdir().unwrap();
    let pg_receivewal = dir.path().join("pg_receivewal");
    symlink(env!("CARGO_BIN_EXE_tapster"), &pg_receivewal).unwrap();
    for (mine, other) in [(&small, &large), (&large, &small)] {
        let archive = Archive::new();
        let mut receiver = archive.receive(&mine.conninfo("repl"), &[]);
        receiver.wait_for("streaming");
        let last = mine.write_segments(2);
        receiver.wait_for_one("segment", |event| event["segment"] == last);
        receiver.stop("TERM");
        fs::remove_file(archive.file(STATE)).unwrap();
        other.write_segments(2);
        let contents = || {
            let names = archive.all_names().into_iter();
            names.map(|name| (fs::read(archive.file(&name)).unwrap(), name)).collect::<Vec<_>>()
        };
        let before = contents();

        let (code, error) = archive.receive(&other.conninfo("repl"), &[]).end_within(PATIENCE);
        assert_eq!(code, Some(5), "{error}");
        assert!(message(&error).contains("belongs to another cluster"), "{error}");
        assert!(
            error["error"]["hint"].as_str().is_some_and(|hint| hint.contains("another directory")),
            "{error}"
        );
        let directory = format!("--directory={}", archive.path().display());
        let dbname = format!("--dbname={}", other.conninfo("repl"));
        let output = Program::new(&pg_receivewal).args(&[&directory, &dbname]).run();
        assert!(!output.status.success(), "{output:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("another cluster"), "{output:?}");
        assert!(contents() == before, "{:?}", archive.all_names());

        // It is still the right one for its own server.
        let mut receiver = archive.receive(&mine.conninfo("repl"), &[]);
        receiver.wait_for("streaming");
        receiver.stop("TERM");
    }
}

#[test]
fn a_running_receiver_skips_nothing_when_all_its_files_are_removed() {
    let server = servers::packaged();
    let cluster = Cluster::builder(&server).archive().start();
    cluster.sql("ALTER SYSTEM SET wal_keep_size = '1GB'").unwrap();
    cluster.reload();
    for options in [&[][..], &["--no-state-file"]] {
        let archive = Archive::new();
        let mut receiver = archive.receive(&cluster.conninfo("repl"), options);
        receiver.wait_for("streaming");
        let first = cluster.write_segments(2);
        receiver.wait_for_one("segment", |event| event["segment"] == first);
        for name in archive.all_names() {
            // The receiver renames its own files meanwhile.
            drop(fs::remove_file(archive.file(&name)));
        }
        let last = cluster.write_segments(3);
        receiver.wait_for_one("segment", |event| event["segment"] == last);
        receiver.stop("TERM");
        let number = |name: &String| u64::from_str_radix(&name[16..], 16).unwrap();
        let names = archive.names().into_iter().filter(|name| name.len() == 24).collect::<Vec<_>>();
        let expected = (number(&first) + 1..=number(&last)).collect::<Vec<_>>();
        assert_eq!(names.iter().map(number).collect::<Vec<_>>(), expected);
        archive.assert_identical(&cluster.archive_dir());
    }
}

/// Has the server keep no WAL but for slots, and for those not much.
fn keep_no_wal(cluster: &Cluster) {
    for (name, value) in [("max_wal_size", "2"), ("min_wal_size", "2"), ("max_slot_wal_keep_size", "1")] {
        // The last came with 13.
        drop(cluster.sql(&format!("ALTER SYSTEM SET {name} = {value}")));
    }
    cluster.reload();
}

/// Has the server write until it has removed its segment with `position`.
#[track_caller]
fn remove_wal(cluster: &Cluster, position: Lsn) {
    let name = cluster.segment_name(1, position);
    let file = cluster.data_dir().join("pg_wal").join(name);
    wait_until(PATIENCE, "the segment is gone", || {
        cluster.write_segments(1);
        cluster.sql("CHECKPOINT").unwrap();
        !Path::exists(&file)
    });
}

/// Receives until the archive has the segment `last`.
#[track_caller]
fn receive_until(archive: &Archive, cluster: &Cluster, options: &[&str], last: &str) {
    let mut receiver = archive.receive(&cluster.conninfo("repl"), options);
    receiver.wait_for_one("segment", |event| event["segment"] == last);
    receiver.stop("TERM");
}

fn create_slot(cluster: &Cluster) {
    tapster_json(&["slot", "create", &cluster.conninfo("repl"), SLOT, "--json"]);
}

fn message(document: &Value) -> &str {
    document["error"]["message"].as_str().unwrap_or_default()
}
