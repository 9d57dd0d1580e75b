//! What happens to the server.

use core::time::Duration;

use crate::subject::{A_WHILE, SLOT, Subject, arrives, assert_goes_on, cluster};
use crate::support::process::{PATIENCE, signal};
use crate::support::wait::holds_within;
use crate::support::{Archive, Cluster, servers, wait_until};

#[test]
fn it_makes_progress_while_its_session_is_ended_again_and_again() {
    let cluster = cluster();
    let archive = Archive::new();
    let receiver = Subject::Tapster.start(&archive, &cluster.conninfo("repl"), &["-S", SLOT]);
    let mut last = cluster.write_segments(1);
    for _ in 0..8 {
        assert!(arrives(&archive, &last, PATIENCE), "{}", receiver.stderr());
        last = cluster.write_segments(2);
        cluster.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_replication").unwrap();
    }
    receiver.signal("TERM");
    assert!(receiver.wait(PATIENCE).status.success());
    assert_goes_on(Subject::Tapster, &archive, &cluster);
}

#[test]
fn a_frozen_server_is_noticed() {
    let cluster = cluster();
    for (subject, options) in [
        (Subject::Tapster, &["-S", SLOT, "--no-loop", "--receive-timeout", "2"][..]),
        (Subject::PgReceivewal, &["-S", SLOT, "--no-loop", "-s", "1"]),
    ] {
        let archive = Archive::new();
        let mut receiver = subject.start(&archive, &cluster.conninfo("repl"), options);
        let pid = || cluster.sql("SELECT pid FROM pg_stat_replication WHERE state = 'streaming'").unwrap();
        wait_until(PATIENCE, "it receives", || !pid().is_empty());
        let walsender = pid().parse().expect("a process id");
        signal(walsender, "STOP");
        let noticed = holds_within(A_WHILE, || receiver.has_ended());
        signal(walsender, "CONT");
        assert_eq!(noticed, subject == Subject::Tapster, "{}", receiver.stderr());
        if noticed {
            let end = receiver.wait(PATIENCE);
            let said = String::from_utf8_lossy(&end.stderr);
            assert_eq!(end.status.code(), Some(3), "{said}");
            assert!(said.contains("2 s") || said.contains("2s"), "for how long: {said}");
        }
    }
}

#[test]
fn another_cluster_behind_the_address_is_refused() {
    let server = servers::packaged();
    let (first, second) = (cluster(), Cluster::builder(&server).archive().own_initdb(&[]).start());
    crate::subject::create_slot(&second);
    // So far ahead that nothing but the identifier tells the two apart.
    first.write_segments(1);
    second.write_segments(8);
    for subject in [Subject::Tapster, Subject::PgReceivewal] {
        let archive = Archive::new();
        let receiver = subject.start(&archive, &first.conninfo("repl"), &["-S", SLOT]);
        wait_until(PATIENCE, "it receives", || receiver.stderr().contains("streaming"));
        let last = first.write_segments(1);
        assert!(arrives(&archive, &last, PATIENCE), "{}", receiver.stderr());
        receiver.signal("INT");
        receiver.wait(PATIENCE);
        let before = archive.names();

        let mut receiver = subject.start(&archive, &second.conninfo("repl"), &["-n"]);
        second.write_segments(1);
        let refused = holds_within(A_WHILE, || receiver.has_ended());
        assert_eq!(refused, subject == Subject::Tapster, "{}", receiver.stderr());
        if refused {
            let end = receiver.wait(PATIENCE);
            let said = String::from_utf8_lossy(&end.stderr);
            assert_eq!(end.status.code(), Some(5), "{said}");
            for cluster in [&first, &second] {
                let id = cluster.sql("SELECT system_identifier FROM pg_control_system()").unwrap();
                assert!(said.contains(&id), "{id} is not in {said}");
            }
            assert_eq!(archive.names(), before);
        }
    }
}

/// Two servers of one cluster were promoted, each at its own place.
#[test]
fn the_history_of_another_promotion_is_not_taken_for_the_servers() {
    let primary = cluster();
    let promoted = primary.standby();
    promoted.promote();
    for subject in [Subject::Tapster, Subject::PgReceivewal] {
        let archive = Archive::new();
        let (name, other) = (archive.file("00000002.history"), "1\t0/1000100\tat another place\n");
        std::fs::write(&name, other).unwrap();
        let mut receiver = subject.start(&archive, &promoted.conninfo("repl"), &["-n"]);
        wait_until(PATIENCE, "it has decided", || {
            receiver.stderr().contains("streaming") || receiver.has_ended()
        });
        assert_eq!(receiver.has_ended(), subject == Subject::Tapster, "{}", receiver.stderr());
        assert_eq!(std::fs::read_to_string(&name).unwrap(), other);
        if subject == Subject::Tapster {
            let end = receiver.wait(PATIENCE);
            let said = String::from_utf8_lossy(&end.stderr);
            assert_eq!(end.status.code(), Some(5), "{said}");
            assert!(said.contains(name.to_str().unwrap()), "{said}");
        }
    }
}

/// After a promotion, and with several hosts to connect to.
#[test]
fn a_standby_that_has_not_heard_of_the_promotion_is_no_other_cluster() {
    let primary = cluster();
    let (promoted, behind) = (primary.standby(), primary.standby());
    promoted.promote();
    let archive = Archive::new();
    let (ports, any) = (format!("port={},{}", promoted.port(), behind.port()), promoted.conninfo("repl"));
    let conninfo = format!("{any} host=127.0.0.1,127.0.0.1 {ports}");
    let receiver = Subject::Tapster.start(&archive, &conninfo, &[]);
    wait_until(PATIENCE, "it receives", || receiver.stderr().contains("streaming"));
    let last = promoted.write_segments(1);
    assert!(arrives(&archive, &last, PATIENCE), "{}", receiver.stderr());
    promoted.stop(crate::support::Stop::Fast);
    wait_until(PATIENCE, "the other one has refused", || {
        receiver.stderr().contains("in this server's history")
    });
    promoted.start();
    let last = promoted.write_segments(1);
    assert!(arrives(&archive, &last, PATIENCE), "{}", receiver.stderr());
}

#[test]
fn removed_wal_is_told_once_and_not_for_ever() {
    let cluster = Cluster::builder(&servers::packaged()).start();
    let conninfo = cluster.conninfo("repl");
    let archives = [Subject::Tapster, Subject::PgReceivewal].map(|subject| {
        let archive = Archive::new();
        let receiver = subject.start(&archive, &conninfo, &[]);
        wait_until(PATIENCE, "it receives", || receiver.stderr().contains("streaming"));
        let last = cluster.write_segments(1);
        assert!(arrives(&archive, &last, PATIENCE), "{}", receiver.stderr());
        receiver.signal("INT");
        receiver.wait(PATIENCE);
        (subject, archive)
    });
    let next = cluster.segment_name(1, cluster.position());
    for name in ["max_wal_size", "min_wal_size"] {
        cluster.sql(&format!("ALTER SYSTEM SET {name} = 2")).unwrap();
    }
    cluster.reload();
    wait_until(PATIENCE, "the segment is gone", || {
        cluster.write_segments(1);
        cluster.sql("CHECKPOINT").unwrap();
        !cluster.data_dir().join("pg_wal").join(&next).exists()
    });
    for (subject, archive) in archives {
        let mut receiver = subject.start(&archive, &conninfo, &[]);
        let ended = holds_within(A_WHILE, || receiver.has_ended());
        assert_eq!(ended, subject == Subject::Tapster, "{}", receiver.stderr());
        if ended {
            assert_eq!(receiver.wait(PATIENCE).status.code(), Some(5));
        }
    }
}

/// The server says the same of a lost slot as of a new one.
#[test]
fn a_lost_slot_is_no_new_slot() {
    for subject in [Subject::Tapster, Subject::PgReceivewal] {
        let cluster = cluster();
        let archive = Archive::new();
        let conninfo = cluster.conninfo("repl");
        for name in ["max_wal_size", "min_wal_size", "max_slot_wal_keep_size"] {
            cluster.sql(&format!("ALTER SYSTEM SET {name} = 2")).unwrap();
        }
        cluster.reload();
        wait_until(PATIENCE, "the slot is lost", || {
            cluster.write_segments(2);
            cluster.sql("CHECKPOINT").unwrap();
            cluster.sql("SELECT wal_status FROM pg_replication_slots").as_deref() == Ok("lost")
        });
        let mut receiver = subject.start(&archive, &conninfo, &["-S", SLOT]);
        let streams = |said: String| said.contains("streaming");
        wait_until(PATIENCE, "it has decided", || streams(receiver.stderr()) || receiver.has_ended());
        assert_eq!(streams(receiver.stderr()), subject == Subject::PgReceivewal, "{}", receiver.stderr());
        if subject == Subject::Tapster {
            assert_eq!(receiver.wait(PATIENCE).status.code(), Some(5));
        }
    }
}

#[test]
fn a_server_that_takes_nobody_now_is_tried_again() {
    let cluster = Cluster::builder(&servers::packaged()).archive().setting("max_wal_senders", "1").start();
    let conninfo = cluster.conninfo("repl");
    let first = Archive::new();
    let holder = Subject::Tapster.start(&first, &conninfo, &[]);
    wait_until(PATIENCE, "it receives", || holder.stderr().contains("streaming"));

    let archive = Archive::new();
    let end = Subject::Tapster.start(&archive, &conninfo, &["--no-loop"]).wait(PATIENCE);
    let said = String::from_utf8_lossy(&end.stderr);
    assert_eq!(end.status.code(), Some(3), "{said}");
    assert!(said.contains("53300"), "{said}");

    let mut receiver = Subject::Tapster.start(&archive, &conninfo, &[]);
    receiver.wait_for_stderr("connecting again", PATIENCE);
    drop(holder);
    wait_until(PATIENCE, "it receives", || receiver.stderr().contains("streaming"));
    cluster.stop(crate::support::Stop::Immediate);
    wait_until(PATIENCE, "it has noticed", || receiver.stderr().contains("connecting again"));
    cluster.start();
    let last = cluster.write_segments(1);
    assert!(arrives(&archive, &last, PATIENCE), "{}", receiver.stderr());
}

/// It is there, and says that it starts up: until it is promoted, in this case.
#[test]
fn a_server_that_starts_up_is_waited_for_at_first_as_well() {
    let primary = cluster();
    let starting = primary.standby_with(&[("hot_standby", "off")]);
    let conninfo = starting.conninfo("repl");
    for subject in [Subject::Tapster, Subject::PgReceivewal] {
        let end = subject.start(&Archive::new(), &conninfo, &["--no-loop"]).wait(PATIENCE);
        let said = String::from_utf8_lossy(&end.stderr);
        assert_eq!(end.status.code(), Some(if subject == Subject::Tapster { 3 } else { 1 }), "{said}");
        assert!(said.contains("FATAL"), "{said}");
    }
    let end = Subject::PgReceivewal.start(&Archive::new(), &conninfo, &[]).wait(PATIENCE);
    assert_eq!(end.status.code(), Some(1), "it does not wait");

    let archive = Archive::new();
    let mut receiver =
        Subject::Tapster.start(&archive, &conninfo, &["-S", SLOT, "--create-slot", "--if-not-exists"]);
    let said = receiver.wait_for_stderr("connecting again", PATIENCE);
    assert!(said.contains("57P03"), "{said}");
    starting.promote();
    receiver.wait_for_stderr("streaming from", PATIENCE);
    receiver.signal("TERM");
    assert!(receiver.wait(PATIENCE).status.success());
}

#[test]
fn a_healthy_but_idle_connection_stays() {
    for (timeout, options) in
        [("1s", &["-s", "0", "--receive-timeout", "2"][..]), ("0", &["-s", "1", "--receive-timeout", "1"])]
    {
        let cluster = cluster();
        cluster.sql(&format!("ALTER SYSTEM SET wal_sender_timeout = '{timeout}'")).unwrap();
        cluster.reload();
        let archive = Archive::new();
        let mut receiver = Subject::Tapster.start(&archive, &cluster.conninfo("repl"), options);
        let pid = || cluster.sql("SELECT pid FROM pg_stat_replication").unwrap();
        wait_until(PATIENCE, "it receives", || !pid().is_empty());
        let before = pid();
        assert!(!holds_within(Duration::from_secs(4), || receiver.has_ended() || pid() != before));
        assert!(!receiver.stderr().contains("connecting again"), "{}", receiver.stderr());
    }
}
