//! What happens between the two.

use core::time::Duration;
use std::{fs, thread};

use crate::subject::{A_WHILE, SLOT, Subject, arrives, cluster, create_slot};
use crate::support::certificates::{Identity, Key};
use crate::support::process::PATIENCE;
use crate::support::proxy::Proxy;
use crate::support::wait::holds_within;
use crate::support::{Archive, Auth, Cluster, servers, wait_until};

#[test]
fn a_network_that_holds_everything_back_is_noticed() {
    let cluster = cluster();
    for (subject, options) in [
        (Subject::Tapster, &["-S", SLOT, "--no-loop", "--receive-timeout", "2"][..]),
        (Subject::PgReceivewal, &["-S", SLOT, "--no-loop", "-s", "1"]),
    ] {
        let archive = Archive::new();
        let proxy = Proxy::start(cluster.port(), usize::MAX);
        let keepalives = "tcp_user_timeout=1000 keepalives_idle=1 keepalives_interval=1 keepalives_count=1";
        let conninfo = format!("{} {keepalives}", through(&proxy, &cluster));
        let mut receiver = subject.start(&archive, &conninfo, options);
        let last = cluster.write_segments(1);
        assert!(arrives(&archive, &last, PATIENCE), "{}", receiver.stderr());
        proxy.hold();
        let noticed = holds_within(A_WHILE, || receiver.has_ended());
        assert_eq!(noticed, subject == Subject::Tapster, "{}", receiver.stderr());
        if noticed {
            assert_eq!(receiver.wait(PATIENCE).status.code(), Some(3));
        } else {
            drop(receiver);
        }
        proxy.release();
        wait_until(PATIENCE, "the slot is free", || {
            cluster.sql("SELECT active FROM pg_replication_slots").as_deref() == Ok("f")
        });
    }
}

/// The limit counts for the whole way to a session: a server that is reached is not one that answers.
#[test]
fn a_host_that_falls_silent_on_the_way_is_left_for_the_next_one() {
    let identity = Identity::self_signed("localhost", Key::P256);
    let cluster = Cluster::builder(&servers::packaged())
        .auth(Auth::Scram)
        .setting("ssl", "on")
        .file("server.crt", &identity.certificate)
        .file("server.key", &identity.key)
        .start();
    // Whether the next one is connected to, if the first hears only so many pieces.
    let is_left_after = |pieces| {
        let archive = Archive::new();
        let proxy = Proxy::deaf_after(cluster.port(), pieces);
        let hosts = format!("host=127.0.0.1,{}", cluster.socket_dir().display());
        let ports = format!("port={},{}", proxy.port(), cluster.port());
        let conninfo =
            format!("{} {hosts} {ports} sslmode=require connect_timeout=2", cluster.conninfo("repl"));
        let mut receiver = Subject::Tapster.start(&archive, &conninfo, &["--receive-timeout", "1"]);
        wait_until(PATIENCE, "it has a session", || {
            receiver.stderr().contains("streaming from") || receiver.has_ended()
        });
        let said = receiver.stderr();
        let is_left = said.contains("connected to server on socket");
        assert!(is_left || said.contains("streaming from") || said.contains("asking the server"), "{said}");
        assert!(!proxy.heard()[0].is_empty(), "it was not tried");
        is_left
    };
    let is_left: Vec<bool> = thread::scope(|scope| {
        let is_left_after = &is_left_after;
        let threads: Vec<_> = (0..10).map(|pieces| scope.spawn(move || is_left_after(pieces))).collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
    });
    // A request for TLS, one or two messages of it, the startup packet, two of SCRAM; then it is a session.
    let on_the_way = is_left.iter().take_while(|&&is_left| is_left).count();
    assert!((5..10).contains(&on_the_way), "{is_left:?}");
    assert!(is_left[on_the_way..].iter().all(|is_left| !is_left), "{is_left:?}");
}

#[test]
fn a_command_without_an_answer_is_not_waited_for() {
    let primary = cluster();
    let promoted = primary.standby();
    promoted.promote();
    create_slot(&promoted);
    thread::scope(|scope| {
        // Once there is an archive, another connection is made.
        for (command, goes_on) in [
            ("IDENTIFY_SYSTEM", false),
            ("SHOW", false),
            ("READ_REPLICATION_SLOT", true),
            ("TIMELINE_HISTORY", true),
            ("START_REPLICATION", true),
        ] {
            for (subject, options) in [
                (Subject::Tapster, &["-S", SLOT, "--receive-timeout", "1"][..]),
                (Subject::PgReceivewal, &["-S", SLOT]),
            ] {
                let promoted = &promoted;
                scope.spawn(move || {
                    let archive = Archive::new();
                    let proxy = Proxy::deaf_to(promoted.port(), command);
                    let mut receiver = subject.start(&archive, &through(&proxy, promoted), options);
                    let is_said = || {
                        let heard = proxy.heard();
                        heard.first().is_some_and(|heard| String::from_utf8_lossy(heard).contains(command))
                    };
                    wait_until(PATIENCE, "it asks", is_said);
                    let notices = holds_within(A_WHILE, || {
                        receiver.has_ended() || receiver.stderr().contains("connecting again")
                    });
                    assert_eq!(notices, subject == Subject::Tapster, "{command}: {}", receiver.stderr());
                    match (notices, goes_on) {
                        (true, false) => assert_eq!(receiver.wait(PATIENCE).status.code(), Some(3)),
                        (true, true) => {
                            receiver.wait_for_stderr("streaming from", PATIENCE);
                        }
                        (false, _) => {}
                    }
                });
            }
        }
    });
}

/// A message of 128 KiB takes longer than a silence may last, and the server's questions come behind it.
#[test]
fn a_slow_line_is_no_silence() {
    const RATE_KIB: usize = 48;
    let cluster = cluster();
    cluster.sql("ALTER SYSTEM SET wal_sender_timeout = '2s'").unwrap();
    cluster.reload();
    let archive = Archive::new();
    let proxy = Proxy::slow(cluster.port(), RATE_KIB * 1024 / 4, Duration::from_millis(250));
    let options = ["-S", SLOT, "-s", "1", "--receive-timeout", "2"];
    let receiver = Subject::Tapster.start(&archive, &through(&proxy, &cluster), &options);
    let walsender = |what: &str| cluster.sql(&format!("SELECT {what} FROM pg_stat_replication")).unwrap();
    wait_until(PATIENCE, "something has come", || archive.partials().len() == 1);
    let (session, memory) = (walsender("pid"), peak_memory_kib(receiver.id()));
    cluster.write_wal(7 * RATE_KIB * 1024);
    let end = cluster.position();
    wait_until(PATIENCE, "everything has come", || {
        assert!(!receiver.stderr().contains("connecting again"), "{}", receiver.stderr());
        walsender(&format!("write_lsn >= '{end}'")) == "t"
    });
    assert_eq!(walsender("pid"), session);
    let grown = peak_memory_kib(receiver.id()) - memory;
    assert!(grown < 2048, "{grown} KiB");
}

/// The most that a process has had of memory.
fn peak_memory_kib(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("Linux has it");
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn what_comes_in_pieces_of_a_few_bytes_is_the_same() {
    let cluster = cluster();
    let archive = Archive::new();
    let proxy = Proxy::dribbling(cluster.port());
    let receiver = Subject::Tapster.start(&archive, &through(&proxy, &cluster), &["-S", SLOT]);
    let last = cluster.write_segments(2);
    assert!(arrives(&archive, &last, PATIENCE), "{}", receiver.stderr());
    receiver.signal("TERM");
    assert!(receiver.wait(PATIENCE).status.success());
    assert_eq!(archive.assert_identical(&cluster.archive_dir()), 2);
}

#[test]
fn a_bit_that_flips_again_and_again_is_not_archived() {
    let cluster = cluster();
    let last = cluster.write_segments(3);
    for subject in [Subject::Tapster, Subject::PgReceivewal] {
        let archive = Archive::new();
        let proxy = Proxy::flipping(cluster.port(), 1_500_000, usize::MAX);
        let mut receiver = subject.start(&archive, &through(&proxy, &cluster), &["-n", "-S", SLOT]);
        wait_until(PATIENCE, "it has decided", || archive.file(&last).exists() || receiver.has_ended());
        let same = crate::support::oracle::compare_segments(archive.path(), &cluster.archive_dir());
        assert_eq!(same.is_ok(), subject == Subject::Tapster, "{same:?}\n{}", receiver.stderr());
        if subject == Subject::Tapster {
            assert_eq!(receiver.wait(PATIENCE).status.code(), Some(5));
        }
    }
}

fn through(proxy: &Proxy, cluster: &Cluster) -> String {
    format!("{} hostaddr=127.0.0.1 port={}", cluster.conninfo("repl"), proxy.port())
}
