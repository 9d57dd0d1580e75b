//! A network that takes everything and delivers nothing: no reset, no closed socket, no word.

use core::time::Duration;
use std::thread;
use std::time::Instant;

use crate::subject::{A_WHILE, Subject, arrives};
use crate::support::process::PATIENCE;
use crate::support::wait::holds_within;
use crate::support::wire::Wire;
use crate::support::{Archive, Cluster, servers, wait_until};

/// What is lost.
#[derive(Clone, Copy, Debug)]
enum Lost {
    Everything,
    FromServer,
    FromReceiver,
}

/// How long a silence or an unanswered packet is put up with.
const LIMIT: Duration = Duration::from_secs(2);
/// The kernel looks at its limit only when it sends a packet once more, which it does ever more seldom.
const SLACK: Duration = Duration::from_secs(3);

#[test]
fn a_black_hole_is_noticed_in_whichever_direction() {
    thread::scope(|scope| {
        for lost in [Lost::Everything, Lost::FromServer, Lost::FromReceiver] {
            scope.spawn(move || receive_through(lost));
        }
    });
}

fn receive_through(lost: Lost) {
    let Some(wire) = Wire::new() else { return };
    let cluster = cluster(&wire);
    let by_silence = ["--receive-timeout", "2"];
    // What is written is still there for the kernel to miss an answer to.
    let by_kernel = ["-s", "1"];
    let receivers = [
        (Subject::Tapster, "a", "", &by_silence[..]),
        (Subject::Tapster, "b", "tcp_user_timeout=2000", &by_kernel),
        (
            Subject::PgReceivewal,
            "c",
            "keepalives_idle=1 keepalives_interval=1 keepalives_count=1",
            &by_kernel,
        ),
    ]
    .map(|(subject, slot, parameters, options)| {
        cluster.sql(&format!("SELECT pg_create_physical_replication_slot('{slot}', true)")).unwrap();
        let archive = Archive::new();
        let conninfo = format!("{} {parameters}", over(&wire, &cluster));
        let options = [&["-S", slot], options].concat();
        let receiver = wire.client.run(|| subject.start(&archive, &conninfo, &options));
        (subject, archive, receiver)
    });
    let last = cluster.write_segments(1);
    for (_, archive, receiver) in &receivers {
        assert!(arrives(archive, &last, PATIENCE), "{}", receiver.stderr());
    }

    match lost {
        Lost::FromServer => wire.lose_what_the_server_says(),
        Lost::FromReceiver => wire.lose_what_the_client_says(),
        Lost::Everything => {
            wire.lose_what_the_server_says();
            wire.lose_what_the_client_says();
        }
    }
    let begin = Instant::now();
    // With something under way.
    cluster.write_segments(1);
    let [silence, kernel, other] = receivers;
    for (_, _, receiver) in [&silence, &kernel] {
        let left = (LIMIT + SLACK).saturating_sub(begin.elapsed());
        let noticed = holds_within(left, || receiver.stderr().contains("connecting again"));
        assert!(noticed, "{lost:?}: {}", receiver.stderr());
    }
    let noticed = holds_within(A_WHILE.saturating_sub(begin.elapsed()), || {
        other.2.stderr().contains("could not receive data")
    });
    assert!(!noticed, "{}", other.2.stderr());
    drop(other);

    wire.heal();
    let last = cluster.write_segments(1);
    for (_, archive, receiver) in [silence, kernel] {
        assert!(arrives(&archive, &last, PATIENCE), "{lost:?}: {}", receiver.stderr());
        receiver.signal("TERM");
        assert!(receiver.wait(PATIENCE).status.success());
        assert_eq!(archive.assert_identical(&cluster.archive_dir()), 3, "{:?}", archive.names());
    }
}

#[test]
fn a_host_in_a_black_hole_is_left_for_the_next_one() {
    let Some(wire) = Wire::new() else { return };
    let cluster = cluster(&wire);
    wire.lose_what_the_client_says();
    let hole = over(&wire, &cluster);
    let hosts = format!("{hole} host={},{}", wire.server.address, cluster.socket_dir().display());
    let start = |conninfo: &str, options: &[&str]| {
        let archive = Archive::new();
        let receiver = wire.client.run(|| Subject::Tapster.start(&archive, conninfo, options));
        (archive, receiver)
    };
    let begin = Instant::now();
    let (_archive, mut receiver) = start(&format!("{hosts} connect_timeout=2"), &[]);
    receiver.wait_for_stderr("streaming from", LIMIT + SLACK);
    assert!(begin.elapsed() >= LIMIT, "the first one was not tried");

    // Without a limit for it alone, that of every silence counts.
    let begin = Instant::now();
    let (_archive, receiver) = start(&hole, &["--receive-timeout", "2"]);
    let end = receiver.wait(LIMIT + SLACK);
    assert!(begin.elapsed() >= LIMIT);
    let said = String::from_utf8_lossy(&end.stderr);
    assert_eq!(end.status.code(), Some(3), "{said}");
    assert!(said.contains(wire.server.address), "{said}");
}

/// A server at one end of the wire, which gives up a receiver that is silent.
fn cluster(wire: &Wire) -> Cluster {
    let cluster = Cluster::builder(&servers::packaged())
        .archive()
        .hba(&format!("host all,replication all {}/32 trust", wire.client.address))
        .setting("listen_addresses", wire.server.address)
        .setting("wal_sender_timeout", "2s");
    let cluster = wire.server.run(|| cluster.start());
    wait_until(PATIENCE, "it answers", || cluster.sql("SELECT 1").is_ok());
    cluster
}

/// Leads over the wire.
fn over(wire: &Wire, cluster: &Cluster) -> String {
    format!("{} host={}", cluster.conninfo("repl"), wire.server.address)
}
