//! COPY in both directions, on real servers.
#![cfg(feature = "client")]

mod support;

use support::client::{block_on, connect};
use support::{Cluster, servers};
use tapster::Error;
use tapster::client::{Connection, CopyLayout};
use tapster::codec::TransactionStatus;

fn with_table<T>(server: &support::Server, test: impl AsyncFnOnce(&mut Connection) -> T) -> T {
    let cluster = Cluster::builder(server).start();
    cluster.sql("CREATE TABLE t (i int, s text)").unwrap();
    block_on(async { test(&mut connect(&cluster.conninfo("postgres")).await).await })
}

fn sqlstate<T>(result: Result<T, Error>) -> String {
    result.err().and_then(|error| error.sqlstate()).map(|state| state.to_string()).unwrap_or_default()
}

/// The value of a query; also checks that the connection is in step.
async fn value(connection: &mut Connection, sql: &str) -> String {
    let sets = connection.simple_query(sql).await.unwrap();
    assert_eq!(connection.transaction_status(), TransactionStatus::Idle);
    sets[0].row(0).unwrap().text(0).unwrap().to_owned()
}

async fn count(connection: &mut Connection) -> String {
    value(connection, "SELECT count(*) FROM t").await
}

#[test]
fn data_go_in_and_come_out_on_every_major() {
    servers::for_each(|server| {
        with_table(server, async |connection| {
            let mut copy = connection.copy_in("COPY t FROM STDIN").await.unwrap();
            assert_eq!(copy.layout(), CopyLayout { is_binary: false, columns: 2 });
            // Pieces need not be rows, and may be empty.
            for piece in ["1\ton", "e\n2", "\t\\N\n", "", "3\tthree\n"] {
                copy.send(piece.as_bytes()).await.unwrap();
            }
            assert_eq!(copy.finish().await.unwrap(), 3);
            assert_eq!(count(connection).await, "3");

            let mut copy = connection.copy_out("COPY t TO STDOUT").await.unwrap();
            assert_eq!(copy.layout(), CopyLayout { is_binary: false, columns: 2 });
            let mut rows = Vec::new();
            while let Some(row) = copy.next().await.unwrap() {
                rows.push(String::from_utf8(row.to_vec()).unwrap());
            }
            assert_eq!(rows, ["1\tone\n", "2\t\\N\n", "3\tthree\n"]);
            assert_eq!(copy.next().await.unwrap(), None);
            assert_eq!(copy.rows(), 3);
            assert_eq!(count(connection).await, "3");

            let copy = connection.copy_out("COPY (SELECT 1) TO STDOUT (FORMAT binary)").await.unwrap();
            assert_eq!(copy.layout(), CopyLayout { is_binary: true, columns: 1 });
            assert_eq!(count(connection).await, "3");
        });
    });
}

#[test]
fn many_megabytes_go_in_and_come_out() {
    with_table(&servers::packaged(), async |connection| {
        let line = format!("1\t{}\n", "x".repeat(99));
        let mut copy = connection.copy_in("COPY t FROM STDIN").await.unwrap();
        copy.send(line.repeat(50_000).as_bytes()).await.unwrap();
        for _ in 0..50_000 {
            copy.send(line.as_bytes()).await.unwrap();
        }
        assert_eq!(copy.finish().await.unwrap(), 100_000);

        let mut copy = connection.copy_out("COPY t TO STDOUT").await.unwrap();
        let mut bytes = 0;
        while let Some(data) = copy.next().await.unwrap() {
            bytes += data.len();
        }
        assert_eq!((bytes, copy.rows()), (100_000 * line.len(), 100_000));
        assert_eq!(count(connection).await, "100000");
    });
}

#[test]
fn a_copy_that_is_not_finished_stores_nothing() {
    with_table(&servers::packaged(), async |connection| {
        let mut copy = connection.copy_in("COPY t FROM STDIN").await.unwrap();
        copy.send(b"1\tone\n").await.unwrap();
        copy.fail("changed my mind").await.unwrap();
        assert_eq!(count(connection).await, "0");

        for size in [1, 1_000_000] {
            let mut copy = connection.copy_in("COPY t FROM STDIN").await.unwrap();
            copy.send("1\tone\n".repeat(size).as_bytes()).await.unwrap();
            // The COPY is abandoned: `copy` is not used any more.
            assert_eq!(count(connection).await, "0");
        }

        let copy = connection.copy_in("COPY t FROM STDIN").await.unwrap();
        assert!(matches!(copy.fail("\0").await, Err(Error::Encode(_))));
        assert_eq!(count(connection).await, "0");

        let sql = "COPY (SELECT generate_series(1, 100000)) TO STDOUT";
        connection.copy_out(sql).await.unwrap();
        let mut copy = connection.copy_out(sql).await.unwrap();
        assert_eq!(copy.next().await.unwrap(), Some(&b"1\n"[..]));
        assert_eq!(count(connection).await, "0");
    });
}

#[test]
fn errors_leave_the_connection_in_step() {
    with_table(&servers::packaged(), async |connection| {
        assert_eq!(sqlstate(connection.copy_in("COPY u FROM STDIN").await), "42P01");
        assert_eq!(sqlstate(connection.copy_out("COPY u TO STDOUT").await), "42P01");

        let mut copy = connection.copy_in("COPY t FROM STDIN").await.unwrap();
        copy.send(b"no number\n").await.unwrap();
        assert_eq!(sqlstate(copy.finish().await), "22P02");
        assert_eq!(count(connection).await, "0");

        // The server fails at once, and the client reports that before all data are sent.
        let mut copy = connection.copy_in("COPY t FROM STDIN").await.unwrap();
        let lines = "x\ty\n".repeat(100_000);
        let mut error = None;
        for _ in 0..10_000 {
            error = copy.send(lines.as_bytes()).await.err();
            if error.is_some() {
                break;
            }
        }
        assert_eq!(sqlstate(error.map_or(Ok(()), Err)), "22P02");
        assert!(matches!(copy.send(b"1\t\n").await, Err(Error::Usage(_))));
        assert!(matches!(copy.finish().await, Err(Error::Usage(_))));
        assert_eq!(count(connection).await, "0");

        let sql = "COPY (SELECT 1 / (3 - i) FROM generate_series(1, 5) AS i) TO STDOUT";
        let mut copy = connection.copy_out(sql).await.unwrap();
        assert!(copy.next().await.is_ok());
        assert!(copy.next().await.is_ok());
        assert_eq!(sqlstate(copy.next().await), "22012");
        assert_eq!(copy.next().await.unwrap(), None);
        assert_eq!(count(connection).await, "0");
    });
}

#[test]
fn sql_without_such_a_copy_is_an_error() {
    with_table(&servers::packaged(), async |connection| {
        for sql in ["SELECT 1", "", "COPY t FROM STDIN"] {
            let error = connection.copy_out(sql).await.err().unwrap();
            assert!(matches!(error, Error::Usage(_) | Error::Server(_)), "{sql}: {error:?}");
            assert_eq!(count(connection).await, "0");
        }
        for sql in ["SELECT 1", "", "COPY t TO STDOUT"] {
            let error = connection.copy_in(sql).await.err().unwrap();
            assert!(matches!(error, Error::Usage(_)), "{sql}: {error:?}");
            assert_eq!(count(connection).await, "0");
        }
    });
}

#[test]
fn the_first_copy_of_several_statements_counts() {
    with_table(&servers::packaged(), async |connection| {
        let sql = "SELECT 1; COPY (SELECT 2) TO STDOUT; SELECT 3; COPY (SELECT 4) TO STDOUT";
        let mut copy = connection.copy_out(sql).await.unwrap();
        assert_eq!(copy.next().await.unwrap(), Some(&b"2\n"[..]));
        assert_eq!(copy.next().await.unwrap(), None);
        assert_eq!((copy.rows(), count(connection).await), (1, "0".to_owned()));

        let mut copy = connection.copy_in("COPY t FROM STDIN; SELECT 1").await.unwrap();
        copy.send(b"1\tone\n").await.unwrap();
        assert_eq!(copy.finish().await.unwrap(), 1);
        assert_eq!(count(connection).await, "1");

        let mut copy = connection.copy_in("COPY t FROM STDIN; COPY t FROM STDIN").await.unwrap();
        copy.send(b"2\ttwo\n").await.unwrap();
        assert_eq!(sqlstate(copy.finish().await), "57014");
        assert_eq!(count(connection).await, "1");
    });
}
