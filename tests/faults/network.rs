//! What happens between the two.

use crate::subject::{A_WHILE, SLOT, Subject, arrives, cluster};
use crate::support::process::PATIENCE;
use crate::support::proxy::Proxy;
use crate::support::wait::holds_within;
use crate::support::{Archive, Cluster, wait_until};

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
