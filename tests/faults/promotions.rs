//! Several promotions, when there is something else to be done.

use std::collections::BTreeSet;
use std::fs;

use crate::subject::{A_WHILE, Injection, Subject, arrives, cluster};
use crate::support::process::PATIENCE;
use crate::support::wait::holds_within;
use crate::support::{Archive, Cluster, Stop, oracle, tapster_json, wait_until};

/// The timelines that follow the first one.
const TIMELINES: [u32; 4] = [2, 3, 4, 5];

/// A primary, and a server that was its standby and is on the first of [`TIMELINES`] now. It has copies of everything
/// since, and keeps the WAL for a slot of each name.
fn promoted(slots: &[&str]) -> (Cluster, Cluster) {
    let primary = cluster();
    let server = primary.standby();
    server.promote();
    for slot in slots {
        server.sql(&format!("SELECT pg_create_physical_replication_slot('{slot}', true)")).unwrap();
    }
    (primary, server)
}

/// Puts the server on the next timeline, where it writes: the last segment's name. To stop, it has to be let go by who
/// receives.
fn promote_again(server: &Cluster, primary: &Cluster) -> String {
    server.stop(Stop::Fast);
    server.follow(primary, &[]);
    server.start();
    server.promote();
    server.write_segments(2)
}

#[test]
fn several_promotions_while_there_is_no_space_are_followed_when_there_is() {
    let (primary, server) = promoted(&["ours", "theirs"]);
    let last = server.write_segments(1);
    let conninfo = server.conninfo("repl");
    let receivers = [
        (Subject::Tapster, "ours", "fallocate,pwrite64,renameat:error=ENOSPC"),
        // It pads a new file by writing.
        (Subject::PgReceivewal, "theirs", "write,pwrite64,pwritev:error=ENOSPC:when=20+"),
    ]
    .map(|(subject, slot, injection)| {
        let archive = Archive::new();
        let receiver = subject.start(&archive, &conninfo, &["-S", slot]);
        assert!(arrives(&archive, &last, PATIENCE), "{}", receiver.stderr());
        let injection = Injection::into(receiver.id(), injection);
        (archive, receiver, injection)
    });
    let mut last = server.write_segments(2);
    let [(_, receiver, _), (theirs, ..)] = &receivers;
    wait_until(PATIENCE, "the disk is full", || receiver.stderr().contains("No space left on device"));
    // It cannot say so.
    let is_odd =
        |name: &String| fs::metadata(theirs.file(name)).is_ok_and(|file| ![0, 1 << 20].contains(&file.len()));
    wait_until(PATIENCE, "the disk is full for the other", || theirs.partials().iter().any(is_odd));
    for _ in &TIMELINES[1..] {
        last = promote_again(&server, &primary);
    }
    let [ours, theirs] = receivers.map(|(archive, receiver, injection)| {
        // There is space again.
        drop(injection);
        (archive, receiver)
    });
    let (archive, receiver) = ours;
    assert!(arrives(&archive, &last, PATIENCE), "{}", receiver.stderr());
    assert!(!holds_within(A_WHILE, || theirs.0.file(&last).exists()), "{}", theirs.1.stderr());
    receiver.signal("TERM");
    let end = receiver.wait(PATIENCE);
    assert!(end.status.success(), "{end:?}");
    assert_histories(&archive, &server);
    assert_all(&archive, &archive, &server);
}

#[test]
fn several_promotions_while_segments_are_compressed_lose_none() {
    let (primary, server) = promoted(&["ours"]);
    let archive = Archive::new();
    let conninfo = server.conninfo("repl");
    let receiver = Subject::Tapster.start(&archive, &conninfo, &["-S", "ours", "-Z", "gzip:9"]);
    let mut last = server.write_segments(4);
    for _ in &TIMELINES[1..] {
        wait_until(PATIENCE, "the last segment is here", || {
            archive.names().iter().any(|name| name.starts_with(&last) && !name.ends_with(".partial"))
        });
        last = promote_again(&server, &primary);
    }
    assert!(arrives(&archive, &format!("{last}.gz"), PATIENCE), "{}", receiver.stderr());
    wait_until(PATIENCE, "all are compressed", || oracle::segments(archive.path()).unwrap().is_empty());
    receiver.signal("TERM");
    let end = receiver.wait(PATIENCE);
    assert!(end.status.success(), "{end:?}");
    assert_histories(&archive, &server);
    assert_all(&archive, &archive.decompressed(server.segment_size()), &server);
}

/// Every history is the server's.
#[track_caller]
fn assert_histories(archive: &Archive, server: &Cluster) {
    for timeline in TIMELINES {
        let name = format!("{timeline:08X}.history");
        let theirs = fs::read(server.data_dir().join("pg_wal").join(&name)).unwrap();
        assert_eq!(fs::read(archive.file(&name)).unwrap(), theirs);
    }
}

/// Every complete segment since the slot was made is there, and the same; so says `verify` too.
#[track_caller]
fn assert_all(archive: &Archive, plain: &Archive, server: &Cluster) {
    plain.assert_identical(&server.archive_dir());
    for timeline in TIMELINES {
        let of = |names: BTreeSet<String>| {
            names.into_iter().filter(|name| name.starts_with(&format!("{timeline:08X}"))).count()
        };
        let (here, there) = (
            of(oracle::segments(plain.path()).unwrap()),
            of(oracle::segments(&server.archive_dir()).unwrap()),
        );
        assert!(here == there && here > 0, "{here} of {there} on timeline {timeline}");
    }
    let found = tapster_json(&["verify", &archive.path().to_string_lossy(), "--json"]);
    assert_eq!(found["ok"], true, "{found}");
}

/// When the receiver comes to the standby.
#[derive(Clone, Copy, PartialEq)]
enum Comes {
    BeforeThePromotion,
    AfterThePromotion,
}

#[test]
fn what_the_promoted_server_never_had_is_told() {
    what_was_never_had_is_told(Comes::AfterThePromotion);
}

#[test]
fn what_a_standby_never_had_is_told_at_its_promotion() {
    what_was_never_had_is_told(Comes::BeforeThePromotion);
}

#[track_caller]
fn what_was_never_had_is_told(comes: Comes) {
    let primary = cluster();
    let standby = primary.standby();
    let first = primary.switch_wal();
    standby.wait_for_replay_of(&primary);
    standby.stop(Stop::Fast);

    let archive = Archive::new();
    let ports = [primary.port(), standby.port()].map(|port| port.to_string()).join(",");
    let conninfo = format!("{} host=127.0.0.1,127.0.0.1 port={ports}", primary.conninfo("repl"));
    let receiver = Subject::Tapster.start(&archive, &conninfo, &["--status-interval", "1"]);
    primary.write_wal(10_000);
    wait_until(PATIENCE, "everything is received", || {
        primary.sql("SELECT pg_current_wal_lsn() <= max(write_lsn) FROM pg_stat_replication").as_deref()
            == Ok("t")
    });
    if comes == Comes::AfterThePromotion {
        // It looks for a server again when it is woken.
        receiver.signal("STOP");
    }
    primary.kill_9();
    assert!(!receiver.stderr().contains("left timeline"), "{}", receiver.stderr());
    standby.start();
    if comes == Comes::BeforeThePromotion {
        let streaming = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'";
        wait_until(PATIENCE, "it streams from the standby", || standby.sql(streaming).as_deref() == Ok("1"));
    }
    standby.promote();
    receiver.signal("CONT");
    let last = standby.write_segments(2);
    assert!(arrives(&archive, &last, PATIENCE), "{}", receiver.stderr());
    receiver.signal("TERM");
    let end = receiver.wait(PATIENCE);
    assert!(end.status.success(), "{end:?}");
    let said = String::from_utf8_lossy(&end.stderr).into_owned();
    let told = "warning: timeline 2 left timeline 1 at ";
    let tells = said.lines().filter(|line| line.contains(told) && line.contains("not on the server"));
    assert_eq!(tells.count(), 1, "{said}");
    // And it is kept.
    let is_kept = |name: &String| name.starts_with("00000001") && *name > first && name.ends_with(".partial");
    let names = archive.names();
    let kept = names.iter().find(|name| is_kept(name)).unwrap_or_else(|| panic!("{names:?}"));
    let kept = fs::read(archive.file(kept)).unwrap();
    assert!(kept.iter().rposition(|byte| *byte != 0).is_some_and(|last| last >= 10_000), "{said}");
}
