//! A future may be dropped at any point: afterwards the connection gives the right answers or is closed.
//!
//! Each test drops futures after a random number of polls, against a real server, directly and through a
//! proxy that relays a few bytes at a time, so that a future can be dropped at many points. The seed is
//! printed; `TAPSTER_TEST_SEED` sets it.
#![cfg(feature = "replication")]

mod support;

use core::hash::{BuildHasher as _, Hasher as _};
use core::pin::pin;
use core::task::Poll;
use std::hash::RandomState;
use std::thread;

use support::client::{block_on, config};
use support::process::PATIENCE;
use support::proxy::Proxy;
use support::{Auth, Cluster, servers, wait_until};
use tapster::Error;
use tapster::client::{Connection, QueryEvent};
use tapster::codec::TransactionStatus;
use tapster::conninfo::Config;
use tapster::replication::{ReplicationConnection, StartPhysical, StartedStream, StreamEnd, WalEvent};
use tapster::types::Lsn;

/// Splitmix64.
struct Random(u64);

impl Random {
    fn new() -> Self {
        let fresh = || RandomState::new().build_hasher().finish();
        let given = std::env::var("TAPSTER_TEST_SEED").ok();
        let seed = given.map_or_else(fresh, |seed| seed.parse().expect("a number"));
        println!("TAPSTER_TEST_SEED={seed}");
        Self(seed)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % limit
    }

    /// A number of polls: mostly few, sometimes many.
    fn polls(&mut self) -> u64 {
        let magnitude = self.below(9);
        self.below(1 << magnitude)
    }
}

/// Polls a future at most `polls` times, then drops it.
async fn drop_after<T>(polls: u64, future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    let mut left = polls;
    core::future::poll_fn(|cx| {
        let Some(fewer) = left.checked_sub(1) else { return Poll::Ready(None) };
        left = fewer;
        match future.as_mut().poll(cx) {
            Poll::Ready(value) => Poll::Ready(Some(value)),
            Poll::Pending if left == 0 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// The configurations for the direct connection and for the one through the proxy.
fn ways(cluster: &Cluster, user: &str, options: &str) -> [Config; 2] {
    let conninfo = cluster.conninfo(user);
    let proxy = Proxy::dribbling(cluster.port());
    [config(&format!("{conninfo} {options}")), config(&format!("{conninfo} {options} port={}", proxy.port()))]
}

#[test]
fn connecting_can_be_dropped_at_any_point() {
    let cluster = Cluster::builder(&servers::packaged()).auth(Auth::Scram).start();
    let mut random = Random::new();
    let ways = ways(&cluster, "repl", "");
    let mut dropped = 0;
    block_on(async {
        for turn in 0..100 {
            let connect = Connection::connect(&ways[turn % 2]);
            match drop_after(random.polls(), connect).await {
                Some(connection) => assert!(connection.unwrap().simple_query("SELECT 1").await.is_ok()),
                None => dropped += 1,
            }
        }
        Connection::connect(&ways[0]).await.unwrap().close().await.unwrap();
    });
    assert!(dropped >= 30, "{dropped}");
    wait_until(PATIENCE, "no session is left behind", || {
        cluster.sql("SELECT count(*) FROM pg_stat_activity WHERE usename = 'repl'").as_deref() == Ok("0")
    });
}

const QUERIES: usize = 800;
const SESSIONS: usize = 8;
const ROWS: &str = "SELECT i, md5(i::text) FROM generate_series(1, 90) AS i";

#[test]
fn statements_can_be_dropped_at_any_point() {
    let cluster = Cluster::builder(&servers::packaged()).start();
    let mut random = Random::new();
    let ways = ways(&cluster, "postgres", "");
    // All sessions run at the same time, because they mostly wait.
    let dropped: usize = thread::scope(|scope| {
        let sessions: Vec<_> = ways
            .iter()
            .cycle()
            .take(SESSIONS)
            .map(|way| {
                let random = Random(random.below(u64::MAX));
                scope.spawn(|| block_on(drop_statements(way, random)))
            })
            .collect();
        sessions.into_iter().map(|session| session.join().unwrap()).sum()
    });
    assert!(dropped >= QUERIES / 3, "{dropped}");
}

/// Runs one session's share of the statements. Gives how many futures were dropped.
async fn drop_statements(way: &Config, mut random: Random) -> usize {
    let mut connection = Connection::connect(way).await.unwrap();
    connection.simple_query("CREATE TEMPORARY TABLE t (i int, s text)").await.unwrap();
    let (mut stored, mut dropped) = (0, 0);
    for turn in 0..QUERIES / SESSIONS {
        let (kind, polls) = (random.below(10), random.polls());
        if drop_after(polls, statement(kind, &mut connection)).await.is_none() {
            dropped += 1;
        }
        // A cascade: the next future is dropped while it reads the rest of the last answer.
        while random.below(3) == 0 {
            let polls = random.polls();
            if drop_after(polls, connection.simple_query("SELECT 'given up'")).await.is_none() {
                dropped += 1;
            }
        }
        let what = format!("turn {turn}: statement {kind} after {polls} polls");
        stored = check_in_step(&mut connection, &turn.to_string(), stored, &what).await;
    }
    dropped
}

/// The rows that one COPY stores.
const COPIED: usize = 30_000;
/// The bytes of a large statement.
const LARGE: usize = 4_000_000;

async fn statement(kind: u64, connection: &mut Connection) {
    match kind {
        0 => assert_eq!(connection.simple_query(ROWS).await.unwrap()[0].len(), 90),
        1 => assert_eq!(connection.query_params(ROWS, &[]).await.unwrap().len(), 90),
        2 => {
            let sql = "SELECT 1; SELECT 1 / (3 - i) FROM generate_series(1, 5) AS i; SELECT 'not run'";
            let error = connection.simple_query(sql).await.unwrap_err();
            assert!(matches!(error, Error::Server(_)), "{error:?}");
        }
        3 => {
            let mut rows = connection.query_params_rows(ROWS, &[]).await.unwrap();
            let mut count = 0;
            while let Some(event) = rows.next().await.unwrap() {
                if let QueryEvent::Row(row) = event {
                    count += 1;
                    assert_eq!(row.parse("i"), Ok(count));
                }
            }
            assert_eq!(count, 90);
        }
        4 => {
            let mut pipeline = connection.pipeline();
            for sql in [ROWS, "SELECT 1 / 0", "SELECT $1", "SELEC", ROWS] {
                let params: &[_] = if sql.contains('$') { &[Some("x")] } else { &[] };
                pipeline.query(sql, params).unwrap();
            }
            let results = pipeline.run().await.unwrap();
            let is_ok: Vec<_> = results.iter().map(Result::is_ok).collect();
            assert_eq!(is_ok, [true, false, true, false, true]);
        }
        5 => {
            let mut copy = connection.copy_out(&format!("COPY ({ROWS}) TO STDOUT")).await.unwrap();
            let mut count = 0;
            while let Some(row) = copy.next().await.unwrap() {
                count += 1;
                assert!(row.starts_with(format!("{count}\t").as_bytes()));
            }
            assert_eq!((count, copy.rows()), (90, 90));
        }
        6 => {
            let mut copy = connection.copy_in("COPY t FROM STDIN").await.unwrap();
            let tenth = format!("7\t{}\n", "x".repeat(60)).repeat(COPIED / 10);
            for _ in 0..10 {
                copy.send(tenth.as_bytes()).await.unwrap();
            }
            assert_eq!(copy.finish().await.unwrap(), COPIED as u64);
        }
        // More than the buffers of the connection hold.
        7 => {
            let sql = format!("SELECT length('{}')", "x".repeat(LARGE));
            let sets = connection.simple_query(&sql).await.unwrap();
            assert_eq!(sets[0].row(0).unwrap().parse(0), Ok(LARGE));
        }
        8 => {
            let set = connection.query_params("SELECT length($1)", &[Some(&"x".repeat(LARGE))]).await;
            assert_eq!(set.unwrap().row(0).unwrap().parse(0), Ok(LARGE));
        }
        _ => {
            let mut copy = connection.copy_in("COPY t FROM STDIN").await.unwrap();
            copy.send(b"7\tx\n7\tx\n7").await.unwrap();
            copy.fail("given up").await.unwrap();
        }
    }
}

/// Checks that each answer belongs to its statement, and that COPY has stored all of its rows or none.
async fn check_in_step(connection: &mut Connection, token: &str, stored: usize, what: &str) -> usize {
    let set = connection.query_params("SELECT $1, count(*) FROM t", &[Some(token)]).await;
    let set = set.unwrap_or_else(|error| panic!("{what}: {error:?}"));
    let row = set.row(0).unwrap();
    assert_eq!(row.text(0), Ok(token), "{what}");
    assert_eq!(set.len(), 1, "{what}");
    let count: usize = row.parse(1).unwrap();
    assert!(count == stored || count == stored + COPIED, "{what}: {count} rows after {stored}");
    let sets = connection.simple_query(&format!("SELECT '{token}'")).await.unwrap();
    assert_eq!(sets.len(), 1, "{what}");
    assert_eq!(sets[0].row(0).unwrap().text(0), Ok(token), "{what}");
    assert_eq!(connection.transaction_status(), TransactionStatus::Idle, "{what}");
    if count >= 4 * COPIED {
        connection.simple_query("TRUNCATE t").await.unwrap();
        return 0;
    }
    count
}

#[test]
fn streaming_can_be_dropped_at_any_point() {
    let cluster = Cluster::builder(&servers::packaged()).start();
    let mut random = Random::new();
    let ways = ways(&cluster, "repl", "replication=true");
    let mut dropped = 0;
    block_on(async {
        let mut connection = ReplicationConnection::connect(&ways[0]).await.unwrap();
        let system = connection.identify_system().await.unwrap();
        let start = Lsn::new(system.xlog_pos.get() / cluster.segment_size() * cluster.segment_size());
        let start = StartPhysical { slot: None, start, timeline: system.timeline };
        cluster.write_wal(400_000);
        let end = connection.identify_system().await.unwrap().xlog_pos;
        let reference = uninterrupted(connection, &start, end).await;

        for turn in 0..100 {
            let connection = ReplicationConnection::connect(&ways[turn % 2]).await.unwrap();
            let started = drop_after(random.polls(), connection.start_physical(&start)).await;
            let Some(started) = started else {
                dropped += 1;
                continue;
            };
            let StartedStream::Streaming(mut stream) = started.unwrap() else { panic!("WAL follows") };
            let mut received = Vec::new();
            for _ in 0..random.below(40) {
                if stream.received() >= end {
                    // No more WAL will come.
                    break;
                }
                if random.below(4) == 0 {
                    stream.report(stream.received(), stream.received()).unwrap();
                    dropped += u64::from(drop_after(random.polls(), stream.send_status()).await.is_none());
                }
                match drop_after(random.polls(), stream.next()).await {
                    Some(event) => {
                        if let Some(WalEvent::Data(wal)) = event.unwrap() {
                            received.extend_from_slice(wal.data);
                        }
                    }
                    None => dropped += 1,
                }
            }
            let common = received.len().min(reference.len());
            assert!(received[..common] == reference[..common], "turn {turn}: other WAL");
            match drop_after(random.polls(), stream.finish()).await {
                Some(Ok(StreamEnd::Stopped(mut connection))) => {
                    let again = connection.identify_system().await.unwrap();
                    assert_eq!(again.system_id, system.system_id);
                }
                Some(other) => panic!("turn {turn}: {other:?}"),
                None => dropped += 1,
            }
        }
    });
    assert!(dropped >= 100, "{dropped}");
    wait_until(PATIENCE, "no walsender is left behind", || {
        cluster.sql("SELECT count(*) FROM pg_stat_replication").as_deref() == Ok("0")
    });
}

/// Receives the WAL from the start up to at least a position.
async fn uninterrupted(connection: ReplicationConnection, start: &StartPhysical, end: Lsn) -> Vec<u8> {
    let StartedStream::Streaming(mut stream) = connection.start_physical(start).await.unwrap() else {
        panic!("WAL follows")
    };
    let mut wal = Vec::new();
    while stream.received() < end {
        if let Some(WalEvent::Data(data)) = stream.next().await.unwrap() {
            wal.extend_from_slice(data.data);
        }
    }
    wal
}
