//! The receiver as the synchronous standby: what the server told its clients is committed is in the archive, whoever
//! dies.
#![cfg(feature = "cli")]

mod support;

use core::time::Duration;
use std::collections::BTreeSet;
use std::thread;

use support::client::{block_on, connect};
use support::restore::{RestoreCommand, give_to_server};
use support::{Archive, Cluster, servers, tapster_json, wait_until};

const SLOT: &str = "tap";
const CLIENTS: u64 = 4;

/// How often, unless the variable says otherwise. Each time takes two seconds and more.
fn rounds() -> u64 {
    std::env::var("TAPSTER_TEST_ROUNDS").map_or(4, |rounds| rounds.parse().expect("a number"))
}

#[test]
fn every_acknowledged_commit_is_in_the_archive_after_server_and_receiver_are_killed() {
    let server = servers::packaged();
    let cluster = Cluster::builder(&server).durable().start();
    let conninfo = cluster.conninfo("repl");
    cluster.sql("CREATE TABLE t (id bigint)").unwrap();
    tapster_json(&["slot", "create", &conninfo, SLOT, "--json"]);
    cluster.sql("ALTER SYSTEM SET synchronous_standby_names = 'tapster'").unwrap();
    cluster.reload();
    let (archive, command) = (Archive::new(), RestoreCommand::new());
    let mut acknowledged = BTreeSet::new();
    for round in 0..rounds() {
        let mut receiver = archive.receive(&conninfo, &["-S", SLOT, "--synchronous"]);
        receiver.wait_for("streaming");
        wait_until(support::process::PATIENCE, "commits wait for the receiver", || {
            cluster.sql("SELECT sync_state FROM pg_stat_replication").as_deref() == Ok("sync")
        });
        let backup = cluster.backup();
        let committed = thread::scope(|scope| {
            let clients: Vec<_> = (0..CLIENTS)
                .map(|client| {
                    let conninfo = cluster.conninfo("postgres");
                    scope.spawn(move || storm(&conninfo, (round * CLIENTS + client) << 32))
                })
                .collect();
            thread::sleep(Duration::from_millis(200 + 97 * round % 400));
            receiver.signal("KILL");
            cluster.kill_9();
            clients.into_iter().map(|client| client.join().expect("no panic")).collect::<Vec<_>>()
        });
        assert!(committed.iter().any(|ids| !ids.is_empty()), "there was no storm");
        acknowledged.extend(committed.into_iter().flatten());

        give_to_server(&archive);
        backup.recover(&command.line(&[archive.path()], "--partial")).unwrap();
        let there = backup.sql("SELECT id FROM t").unwrap();
        let there: BTreeSet<u64> = there.lines().map(|id| id.parse().expect("a number")).collect();
        let lost: Vec<_> = acknowledged.difference(&there).collect();
        assert!(lost.is_empty(), "round {round}: of {} commits {} are lost", acknowledged.len(), lost.len());
        drop(backup);
        cluster.start();
    }
    println!("{} commits were acknowledged", acknowledged.len());
}

/// Commits row after row until the server is gone, and gives those of which it said that they are committed.
fn storm(conninfo: &str, first: u64) -> Vec<u64> {
    block_on(async {
        let mut connection = connect(conninfo).await;
        let mut committed = Vec::new();
        for id in first.. {
            match connection.simple_query(&format!("INSERT INTO t VALUES ({id})")).await {
                Ok(_) => committed.push(id),
                Err(_) => break,
            }
        }
        committed
    })
}
