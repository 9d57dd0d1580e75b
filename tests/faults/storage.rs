//! What happens to the disk.

use core::time::Duration;
use std::process::Command;

use crate::subject::{A_WHILE, SLOT, Subject, arrives, assert_goes_on, cluster, traced};
use crate::support::process::{PATIENCE, is_alive, signal};
use crate::support::wait::holds_within;
use crate::support::{Archive, wait_until};
use tapster::types::Lsn;

#[test]
fn a_full_disk_is_waited_for_whatever_it_refuses() {
    std::thread::scope(|scope| {
        for injection in [
            // strace counts the calls of each thread for itself.
            "fallocate:error=ENOSPC:when=1",
            "fallocate:error=ENOSPC:when=2",
            "pwrite64:error=ENOSPC:when=1",
            "pwrite64:error=ENOSPC:when=4",
            // A name may need space too, and so may it to get rid of one.
            "renameat:error=ENOSPC:when=1",
            "unlinkat:error=EDQUOT:when=1",
        ] {
            scope.spawn(move || {
                let (cluster, archive) = (cluster(), Archive::new());
                let receiver =
                    Subject::Tapster.start_with(injection, &archive, &cluster.conninfo("repl"), &[]);
                wait_until(PATIENCE, "it receives", || receiver.stderr().contains("streaming from"));
                let last = cluster.write_segments(4);
                assert!(arrives(&archive, &last, PATIENCE), "{injection}: {}", receiver.stderr());
                signal(traced(&receiver), "TERM");
                receiver.wait(PATIENCE);
                archive.assert_identical(&cluster.archive_dir());
            });
        }
    });
}

/// It comes before the first byte, and so before anything that the stream could wait with.
#[test]
fn the_history_of_a_timeline_waits_for_space_as_well() {
    let primary = cluster();
    let promoted = primary.standby();
    promoted.promote();
    for (options, waits) in [(&["-n"][..], false), (&[], true)] {
        let (archive, conninfo) = (Archive::new(), promoted.conninfo("repl"));
        let injection = "renameat:error=ENOSPC:when=1";
        let mut receiver = Subject::Tapster.start_with(injection, &archive, &conninfo, options);
        wait_until(PATIENCE, "it streams or ends", || {
            receiver.stderr().contains("streaming from") || receiver.has_ended()
        });
        let said = receiver.stderr();
        assert!(said.contains("00000002.history\"; free some space there"), "{said}");
        assert_eq!(receiver.has_ended(), !waits, "{said}");
        if waits {
            assert!(archive.file("00000002.history").exists());
            signal(traced(&receiver), "TERM");
            assert!(receiver.wait(PATIENCE).status.success());
        } else {
            assert_eq!(receiver.wait(PATIENCE).status.code(), Some(6), "{said}");
        }
    }
}

#[test]
fn a_pipe_in_the_place_of_a_file_is_not_waited_for() {
    let cluster = cluster();
    let archive = Archive::new();
    let name = archive.file("tapster.state");
    assert!(Command::new("mkfifo").arg(&name).status().unwrap().success());
    let mut receiver = Subject::Tapster.start(&archive, &cluster.conninfo("repl"), &[]);
    assert!(holds_within(A_WHILE, || receiver.has_ended()), "{}", receiver.stderr());
    let end = receiver.wait(PATIENCE);
    assert_eq!(end.status.code(), Some(6), "{end:?}");
    assert!(String::from_utf8_lossy(&end.stderr).contains(name.to_str().unwrap()), "{end:?}");
}

#[test]
fn told_not_to_wait_it_ends_at_a_full_disk_and_goes_on_afterwards() {
    for (subject, injection) in [
        (Subject::Tapster, "fallocate:error=ENOSPC"),
        (Subject::Tapster, "pwrite64:error=ENOSPC:when=3+"),
        // It pads its file by writing.
        (Subject::PgReceivewal, "write,pwrite64,pwritev:error=ENOSPC:when=40+"),
    ] {
        let (cluster, archive) = (cluster(), Archive::new());
        let conninfo = cluster.conninfo("repl");
        let mut receiver = subject.start_with(injection, &archive, &conninfo, &["-S", SLOT, "-n"]);
        wait_until(PATIENCE, "it has ended", || {
            cluster.write_segments(1);
            holds_within(Duration::from_secs(1), || receiver.has_ended())
        });
        let end = receiver.wait(PATIENCE);
        if subject == Subject::Tapster {
            assert_eq!(end.status.code(), Some(6), "{injection}: {end:?}");
            assert_goes_on(subject, &archive, &cluster);
        } else {
            let receiver = subject.start(&archive, &conninfo, &["-S", SLOT, "-n"]);
            let end = receiver.wait(PATIENCE);
            let said = String::from_utf8_lossy(&end.stderr);
            assert!(said.contains("should be 0 or"), "it is wedged: {said}");
        }
    }
}

#[test]
fn after_a_failed_fsync_nothing_is_believed() {
    let cluster = cluster();
    for time in [2, 3, 4] {
        let archive = Archive::new();
        let injection = format!("fsync,fdatasync:error=EIO:when={time}");
        let receiver = Subject::Tapster.start_with(&injection, &archive, &cluster.conninfo("repl"), &[]);
        wait_until(PATIENCE, "it receives", || receiver.stderr().contains("streaming from"));
        cluster.write_segments(2);
        let end = receiver.wait(PATIENCE);
        let said = String::from_utf8_lossy(&end.stderr);
        assert_eq!(end.status.code(), Some(6), "{injection}: {said}");
        assert!(said.contains("could not fsync"), "{said}");
        assert!(said.contains(archive.path().to_str().unwrap()), "which one: {said}");
        let receiver = Subject::Tapster.start(&archive, &cluster.conninfo("repl"), &[]);
        wait_until(PATIENCE, "it receives again", || receiver.stderr().contains("streaming from"));
        let last = cluster.write_segments(1);
        assert!(arrives(&archive, &last, PATIENCE), "{}", receiver.stderr());
        drop(receiver);
        archive.assert_identical(&cluster.archive_dir());
    }
}

/// Each takes longer than the server waits for a word.
#[test]
fn a_slow_fsync_does_not_lose_the_connection() {
    for subject in [Subject::Tapster, Subject::PgReceivewal] {
        let cluster = cluster();
        cluster.sql("ALTER SYSTEM SET wal_sender_timeout = '1500ms'").unwrap();
        cluster.reload();
        let archive = Archive::new();
        let injection = "fsync,fdatasync:delay_enter=3000000";
        let receiver = subject.start_with(injection, &archive, &cluster.conninfo("repl"), &["-s", "1"]);
        let pid = || cluster.sql("SELECT pid FROM pg_stat_replication").unwrap();
        wait_until(PATIENCE, "it receives", || !pid().is_empty());
        let before = pid();
        cluster.write_segments(1);
        let lost = holds_within(A_WHILE, || pid() != before);
        assert_eq!(lost, subject == Subject::PgReceivewal, "{}", receiver.stderr());
        drop(cluster);
        signal(traced(&receiver), "KILL");
    }
}

/// To stop in good order is to sync what is written, which such a disk delays; a second signal does not wait.
#[test]
fn told_twice_it_ends_at_once_and_loses_nothing_that_was_acknowledged() {
    let told_twice = |name, code| {
        let (cluster, archive) = (cluster(), Archive::new());
        let conninfo = cluster.conninfo("repl");
        let injection = "fsync,fdatasync:delay_enter=5000000:when=6+";
        let options = ["-S", SLOT, "--synchronous"];
        let mut receiver = Subject::Tapster.start_with(injection, &archive, &conninfo, &options);
        wait_until(PATIENCE, "it receives", || receiver.stderr().contains("streaming from"));
        let flushed = || cluster.sql("SELECT flush_lsn FROM pg_stat_replication").unwrap();
        // Until the disk becomes slow.
        wait_until(PATIENCE, "it does not follow at once", || {
            cluster.write_wal(1000);
            let position = cluster.position().to_string();
            !holds_within(Duration::from_secs(1), || flushed() == position)
        });
        let acknowledged: Lsn = flushed().parse().expect("a position");
        let pid = traced(&receiver);
        signal(pid, name);
        assert!(!holds_within(Duration::from_secs(1), || receiver.has_ended()), "it waits for the disk");
        signal(pid, name);
        // What is left of it, strace holds until the delay is over.
        assert!(holds_within(Duration::from_secs(1), || !is_alive(pid)), "{}", receiver.stderr());
        let end = receiver.wait(PATIENCE);
        assert_eq!(end.status.code(), Some(code), "{end:?}");

        let restart: Lsn =
            cluster.sql("SELECT restart_lsn FROM pg_replication_slots").unwrap().parse().expect("a position");
        assert!(restart <= acknowledged, "{restart} and {acknowledged}");
        let partial = std::fs::read(archive.file(&archive.partials()[0])).unwrap();
        let start = cluster.segment_start(acknowledged);
        let len = usize::try_from(acknowledged.get() - start.get()).expect("less than a segment");
        let name = cluster.segment_name(1, acknowledged);
        let theirs = std::fs::read(cluster.data_dir().join("pg_wal").join(name)).unwrap();
        assert!(partial[..len] == theirs[..len], "what was acknowledged is not here");
        assert_goes_on(Subject::Tapster, &archive, &cluster);
    };
    std::thread::scope(|scope| {
        scope.spawn(|| told_twice("TERM", 143));
        scope.spawn(|| told_twice("INT", 130));
    });
}
