//! What happens to the receiver itself.

use std::fs;
use std::io::Write as _;
use std::process::Command;
use std::thread;

use crate::subject::{A_WHILE, SLOT, Subject, arrives, assert_goes_on, cluster};
use crate::support::process::{PATIENCE, signal};
use crate::support::wait::holds_within;
use crate::support::{Archive, wait_until};

/// Killed at the n-th of each call that makes the archive what it is.
#[test]
fn killed_between_any_two_steps_it_goes_on_without_cleaning() {
    let cluster = cluster();
    for (calls, times) in
        [("fsync,fdatasync", 6), ("renameat,renameat2", 3), ("fallocate", 3), ("pwrite64", 3)]
    {
        for time in 1..=times {
            let archive = Archive::new();
            let conninfo = cluster.conninfo("repl");
            let injection = format!("{calls}:signal=KILL:when={time}");
            let mut receiver = Subject::Tapster.start_with(&injection, &archive, &conninfo, &[]);
            wait_until(PATIENCE, "it is killed", || {
                let began = receiver.stderr().contains("streaming from");
                if began {
                    cluster.write_segments(1);
                }
                receiver.has_ended()
            });
            assert!(!receiver.wait(PATIENCE).status.success(), "{injection}: it was not killed");
            let complete = archive.names().into_iter().filter(|name| name.len() == 24);
            for name in complete {
                let same = fs::read(archive.file(&name)).unwrap()
                    == fs::read(cluster.archive_dir().join(&name)).unwrap();
                assert!(same, "{injection}: {name} has its name and not its bytes");
            }
            // Without a slot, so that it begins with what it has.
            let receiver = Subject::Tapster.start(&archive, &conninfo, &[]);
            wait_until(PATIENCE, "it receives again", || receiver.stderr().contains("streaming from"));
            let last = cluster.write_segments(1);
            assert!(arrives(&archive, &last, PATIENCE), "{injection}:\n{}", receiver.stderr());
            receiver.signal("TERM");
            assert!(receiver.wait(PATIENCE).status.success());
            archive.assert_identical(&cluster.archive_dir());
        }
    }
}

#[test]
fn a_second_receiver_of_an_archive_is_refused() {
    let cluster = cluster();
    let conninfo = cluster.conninfo("repl");
    let both = |subject: Subject| {
        let archive = Archive::new();
        let mut first = subject.start(&archive, &conninfo, &[]);
        wait_until(PATIENCE, "the first one receives", || first.stderr().contains("streaming"));
        let mut second = subject.start(&archive, &conninfo, &[]);
        let ended = holds_within(A_WHILE, || second.has_ended());
        assert!(!first.has_ended(), "{}", first.stderr());
        ended.then(|| (second.wait(PATIENCE), first.id()))
    };
    let (end, holder) = both(Subject::Tapster).expect("it ends at once");
    let said = String::from_utf8_lossy(&end.stderr);
    assert_eq!(end.status.code(), Some(5), "{said}");
    assert!(said.contains(&format!("process {holder}")), "{said}");
    assert!(both(Subject::PgReceivewal).is_none(), "two of that program write into one archive");
}

#[test]
fn frozen_for_longer_than_the_server_waits_it_connects_again() {
    let cluster = cluster();
    cluster.sql("ALTER SYSTEM SET wal_sender_timeout = '1s'").unwrap();
    cluster.reload();
    let archive = Archive::new();
    let receiver = Subject::Tapster.start(&archive, &cluster.conninfo("repl"), &["-S", SLOT]);
    wait_until(PATIENCE, "it receives", || receiver.stderr().contains("streaming from"));
    signal(receiver.id(), "STOP");
    wait_until(PATIENCE, "the server has given it up", || {
        cluster.sql("SELECT count(*) FROM pg_stat_replication").as_deref() == Ok("0")
    });
    signal(receiver.id(), "CONT");
    let last = cluster.write_segments(2);
    assert!(arrives(&archive, &last, PATIENCE), "{}", receiver.stderr());
    receiver.signal("TERM");
    assert!(receiver.wait(PATIENCE).status.success());
    assert_goes_on(Subject::Tapster, &archive, &cluster);
}

#[test]
fn a_partial_file_of_an_odd_size_is_taken_over() {
    let cluster = cluster();
    for subject in [Subject::Tapster, Subject::PgReceivewal] {
        let archive = Archive::new();
        let current = cluster.segment_name(1, cluster.position());
        fs::write(archive.file(&format!("{current}.partial")), vec![0; 458_752]).unwrap();
        let receiver = subject.start(&archive, &cluster.conninfo("repl"), &["--no-loop"]);
        let streams =
            |receiver: &crate::support::program::RunningProgram| receiver.stderr().contains("streaming");
        wait_until(PATIENCE, "it begins", || streams(&receiver));
        let last = cluster.write_segments(1);
        assert_eq!(arrives(&archive, &last, A_WHILE), subject == Subject::Tapster, "{}", receiver.stderr());
    }
}

#[test]
fn a_signal_to_end_is_obeyed_in_good_order() {
    let cluster = cluster();
    for name in ["INT", "TERM"] {
        for subject in [Subject::Tapster, Subject::PgReceivewal] {
            let archive = Archive::new();
            let receiver = subject.start(&archive, &cluster.conninfo("repl"), &[]);
            wait_until(PATIENCE, "it receives", || receiver.stderr().contains("streaming"));
            cluster.write_wal(1000);
            wait_until(PATIENCE, "something has come", || archive.partials().len() == 1);
            receiver.signal(name);
            let end = receiver.wait(PATIENCE);
            // The other program learned it with 16.
            let expected = (subject, name) != (Subject::PgReceivewal, "TERM");
            assert_eq!(end.status.success(), expected, "{subject:?} {name}: {end:?}");
        }
    }
}

/// Ctrl-S on a terminal, or a collector of logs that hangs.
#[test]
fn who_does_not_read_what_it_says_does_not_stop_it() {
    let cluster = cluster();
    for options in [&["-v"][..], &["--json"]] {
        let archive = Archive::new();
        let (reader, writer) = std::io::pipe().unwrap();
        let mut filling = writer.try_clone().unwrap();
        thread::spawn(move || filling.write_all(&[b' '; 1 << 20]));
        let mut command = Command::new(env!("CARGO_BIN_EXE_tapster"));
        command.args(["receive-wal", &cluster.conninfo("repl"), "-D"]).arg(archive.path()).args(options);
        let mut receiver = command.stdout(writer.try_clone().unwrap()).stderr(writer).spawn().unwrap();
        wait_until(PATIENCE, "it receives", || !archive.partials().is_empty());
        let last = cluster.write_segments(2);
        let arrived = arrives(&archive, &last, PATIENCE);
        signal(receiver.id(), "TERM");
        let ended = holds_within(A_WHILE, || receiver.try_wait().unwrap().is_some());
        drop(receiver.kill());
        drop(receiver.wait());
        drop(reader);
        assert_eq!((arrived, ended), (true, true), "{options:?}");
    }
}
