//! Transactions of the library: what is committed, what is rolled back, and what a dropped guard or future leaves.
#![cfg(feature = "client")]

mod support;

use core::pin::pin;
use core::task::{Context, Waker};

use support::client::{block_on, connect};
use support::{Cluster, servers};
use tapster::Error;
use tapster::client::{Connection, IsolationLevel, TransactionOptions};
use tapster::codec::TransactionStatus;

fn with_table<T>(test: impl AsyncFnOnce(&mut Connection, &Cluster) -> T) -> T {
    let cluster = Cluster::builder(&servers::packaged()).start();
    block_on(async {
        let mut connection = connect(&cluster.conninfo("postgres")).await;
        connection.simple_query("CREATE TABLE kept (i int PRIMARY KEY)").await.unwrap();
        test(&mut connection, &cluster).await
    })
}

/// The table's rows as another session sees them.
fn kept(cluster: &Cluster) -> String {
    cluster.sql("SELECT coalesce(string_agg(i::text, ',' ORDER BY i), '') FROM kept").unwrap()
}

async fn insert(connection: &mut Connection, i: i32) -> Result<(), Error> {
    connection.query_params("INSERT INTO kept VALUES ($1)", &[Some(&i.to_string())]).await.map(drop)
}

fn sqlstate<T>(result: Result<T, Error>) -> String {
    result.err().and_then(|error| error.sqlstate()).map(|state| state.to_string()).unwrap_or_default()
}

#[test]
fn what_is_committed_stays_and_what_is_not_goes() {
    with_table(async |connection, cluster| {
        let mut transaction = connection.begin().await.unwrap();
        insert(&mut transaction, 1).await.unwrap();
        assert_eq!(
            (transaction.transaction_status(), kept(cluster)),
            (TransactionStatus::InTransaction, "".into())
        );
        transaction.commit().await.unwrap();
        assert_eq!(kept(cluster), "1");

        let mut transaction = connection.begin().await.unwrap();
        insert(&mut transaction, 2).await.unwrap();
        transaction.rollback().await.unwrap();
        assert_eq!((connection.transaction_status(), kept(cluster)), (TransactionStatus::Idle, "1".into()));

        let mut transaction = connection.begin().await.unwrap();
        insert(&mut transaction, 3).await.unwrap();
        drop(transaction);
        // The next call, whatever it is, comes after the rollback.
        assert_eq!(connection.transaction_status(), TransactionStatus::InTransaction);
        insert(connection, 4).await.unwrap();
        assert_eq!((connection.transaction_status(), kept(cluster)), (TransactionStatus::Idle, "1,4".into()));

        let mut transaction = connection.begin().await.unwrap();
        insert(&mut transaction, 5).await.unwrap();
        drop(transaction);
        connection.begin().await.unwrap().commit().await.unwrap();
        assert_eq!(kept(cluster), "1,4");

        // A session that ends takes its dropped transaction along.
        let mut other = connect(&cluster.conninfo("postgres")).await;
        let mut transaction = other.begin().await.unwrap();
        insert(&mut transaction, 6).await.unwrap();
        drop(transaction);
        other.close().await.unwrap();
        assert_eq!(kept(cluster), "1,4");
    });
}

#[test]
fn every_kind_of_call_comes_after_the_rollback() {
    with_table(async |connection, cluster| {
        let prepared = connection.prepare("SELECT count(*) FROM kept").await.unwrap();
        let count = "SELECT count(*) FROM kept";
        for call in 0..9 {
            let mut transaction = connection.begin().await.unwrap();
            insert(&mut transaction, 1).await.unwrap();
            // One that was dropped with rows still to come.
            let mut rows = transaction.query("SELECT generate_series(1, 100000)").await.unwrap();
            assert!(rows.next().await.unwrap().is_some());
            drop(rows);
            drop(transaction);
            let seen = match call {
                0 => connection.simple_query(count).await.unwrap()[0].row(0).unwrap().parse(0),
                1 => connection.query_params(count, &[]).await.unwrap().row(0).unwrap().parse(0),
                2 => connection.query_prepared_one(&prepared, &[]).await.unwrap().parse(0),
                3 => {
                    let again = connection.prepare(count).await.unwrap();
                    connection.query_prepared_one(&again, &[]).await.unwrap().parse(0)
                }
                4 => {
                    let mut pipeline = connection.pipeline();
                    pipeline.query(count, &[]).unwrap();
                    pipeline.run().await.unwrap().remove(0).unwrap().row(0).unwrap().parse(0)
                }
                5 => {
                    let mut copy =
                        connection.copy_out("COPY (SELECT count(*) FROM kept) TO STDOUT").await.unwrap();
                    let line = copy.next().await.unwrap().unwrap().to_vec();
                    Ok(String::from_utf8(line).unwrap().trim().parse().unwrap())
                }
                6 => {
                    let mut copy = connection.copy_in("COPY kept FROM STDIN").await.unwrap();
                    copy.send(b"1\n").await.unwrap();
                    assert_eq!(
                        copy.finish().await.unwrap(),
                        1,
                        "1 was rolled back, or it would be there twice"
                    );
                    connection.simple_query("TRUNCATE kept").await.unwrap();
                    Ok(0)
                }
                7 => {
                    connection.simple_query("LISTEN here").await.unwrap();
                    cluster.sql("NOTIFY here").unwrap();
                    connection.notification().await.unwrap();
                    connection.query_one(count).await.unwrap().parse(0)
                }
                _ => connection.begin().await.unwrap().query_one(count).await.unwrap().parse(0),
            };
            assert_eq!(seen, Ok(0), "call {call}");
            connection.simple_query("").await.unwrap();
            assert_eq!(connection.transaction_status(), TransactionStatus::Idle, "call {call}");
        }
        // Waiting for a notification is a use, too: the transaction would hold it back.
        let mut transaction = connection.begin().await.unwrap();
        insert(&mut transaction, 1).await.unwrap();
        drop(transaction);
        cluster.sql("NOTIFY here").unwrap();
        connection.notification().await.unwrap();
        assert_eq!(connection.transaction_status(), TransactionStatus::Idle);
    });
}

#[test]
fn a_future_in_a_transaction_may_move_to_another_thread() {
    fn assert_send<T: Send>(_: T) {}
    async fn work(connection: &mut Connection) -> Result<(), Error> {
        let mut transaction = connection.begin().await?;
        let mut savepoint = transaction.savepoint().await?;
        savepoint.query_one("SELECT 1").await?;
        savepoint.commit().await?;
        transaction.commit().await
    }
    fn check(connection: &mut Connection) {
        assert_send(work(connection));
    }
    let _ = check;
}

#[test]
fn a_failed_transaction_cannot_be_committed() {
    with_table(async |connection, cluster| {
        let mut transaction = connection.begin().await.unwrap();
        insert(&mut transaction, 1).await.unwrap();
        assert_eq!(sqlstate(insert(&mut transaction, 1).await), "23505");
        assert_eq!(sqlstate(insert(&mut transaction, 2).await), "25P02");
        let error = transaction.commit().await.unwrap_err();
        assert!(matches!(error, Error::RolledBack) && !error.is_connection_lost(), "{error:?}");
        insert(connection, 3).await.unwrap();
        assert_eq!(kept(cluster), "3");

        // A constraint that is checked at the end.
        connection
            .simple_query("CREATE TABLE late (i int UNIQUE DEFERRABLE INITIALLY DEFERRED)")
            .await
            .unwrap();
        let mut transaction = connection.begin().await.unwrap();
        transaction.simple_query("INSERT INTO late VALUES (1), (1)").await.unwrap();
        assert_eq!(sqlstate(transaction.commit().await), "23505");
        assert_eq!(connection.transaction_status(), TransactionStatus::Idle);
        insert(connection, 4).await.unwrap();
        assert_eq!(kept(cluster), "3,4");

        // SQL of the caller ends the transaction.
        for sql in ["COMMIT", "ROLLBACK"] {
            let mut transaction = connection.begin().await.unwrap();
            transaction.simple_query(sql).await.unwrap();
            assert!(matches!(transaction.savepoint().await, Err(Error::Usage(_))));
            assert!(matches!(transaction.commit().await, Err(Error::Usage(_))));
            let mut transaction = connection.begin().await.unwrap();
            transaction.simple_query(sql).await.unwrap();
            transaction.rollback().await.unwrap();
        }
        // A second one does not nest.
        let mut transaction = connection.begin().await.unwrap();
        assert!(matches!(transaction.begin().await, Err(Error::Usage(_))));
        insert(&mut transaction, 5).await.unwrap();
        transaction.commit().await.unwrap();
        assert_eq!(kept(cluster), "3,4,5");
    });
}

#[test]
fn a_savepoint_is_rolled_back_alone() {
    with_table(async |connection, cluster| {
        let mut transaction = connection.begin().await.unwrap();
        insert(&mut transaction, 1).await.unwrap();
        let mut kept_one = transaction.savepoint().await.unwrap();
        insert(&mut kept_one, 2).await.unwrap();
        let mut inner = kept_one.savepoint().await.unwrap();
        insert(&mut inner, 3).await.unwrap();
        drop(inner);
        insert(&mut kept_one, 4).await.unwrap();
        kept_one.commit().await.unwrap();
        let mut rolled_back = transaction.savepoint().await.unwrap();
        insert(&mut rolled_back, 5).await.unwrap();
        rolled_back.rollback().await.unwrap();
        // A failed statement fails the savepoint, and no more.
        for how in ["commit", "rollback", "drop"] {
            let mut failed = transaction.savepoint().await.unwrap();
            assert_eq!(sqlstate(insert(&mut failed, 1).await), "23505");
            match how {
                "commit" => assert_eq!(sqlstate(failed.commit().await), "25P02"),
                "rollback" => failed.rollback().await.unwrap(),
                _ => drop(failed),
            }
            assert_eq!(
                transaction.query_one("SELECT count(*) FROM kept").await.unwrap().parse(0),
                Ok(3),
                "{how}"
            );
        }
        transaction.commit().await.unwrap();
        assert_eq!(kept(cluster), "1,2,4");

        // Dropped from the inside out.
        let mut transaction = connection.begin().await.unwrap();
        insert(&mut transaction, 6).await.unwrap();
        let mut savepoint = transaction.savepoint().await.unwrap();
        insert(&mut savepoint, 7).await.unwrap();
        drop(savepoint);
        drop(transaction);
        insert(connection, 8).await.unwrap();
        assert_eq!(kept(cluster), "1,2,4,8");

        // Ended by SQL of the caller before it is dropped: the transaction has failed, and nothing else.
        let mut transaction = connection.begin().await.unwrap();
        let mut savepoint = transaction.savepoint().await.unwrap();
        savepoint.simple_query("RELEASE SAVEPOINT tapster_1").await.unwrap();
        drop(savepoint);
        assert_eq!(sqlstate(insert(&mut transaction, 9).await), "25P02");
        transaction.rollback().await.unwrap();
        assert_eq!(kept(cluster), "1,2,4,8");
    });
}

#[test]
fn options_are_those_of_the_transaction() {
    with_table(async |connection, _| {
        for (options, isolation, read_only, deferrable) in [
            (TransactionOptions::new(), "read committed", "off", "off"),
            (
                TransactionOptions::new().isolation(IsolationLevel::ReadUncommitted),
                "read uncommitted",
                "off",
                "off",
            ),
            (
                TransactionOptions::new().isolation(IsolationLevel::RepeatableRead),
                "repeatable read",
                "off",
                "off",
            ),
            (
                TransactionOptions::new()
                    .isolation(IsolationLevel::Serializable)
                    .read_only(true)
                    .deferrable(true),
                "serializable",
                "on",
                "on",
            ),
        ] {
            let mut transaction = connection.begin_with(options).await.unwrap();
            let settings = "SELECT current_setting('transaction_isolation') AS isolation,
                            current_setting('transaction_read_only') AS read_only,
                            current_setting('transaction_deferrable') AS deferrable";
            let row = transaction.query_one(settings).await.unwrap();
            assert_eq!(row.text("isolation"), Ok(isolation));
            assert_eq!((row.text("read_only"), row.text("deferrable")), (Ok(read_only), Ok(deferrable)));
            if read_only == "on" {
                assert_eq!(sqlstate(insert(&mut transaction, 1).await), "25006");
            }
        }
        connection.simple_query("SET default_transaction_read_only = on").await.unwrap();
        let writing = TransactionOptions::new().read_only(false);
        let mut transaction = connection.begin_with(writing).await.unwrap();
        insert(&mut transaction, 1).await.unwrap();
        transaction.commit().await.unwrap();
    });
}

/// Polls a future this many times, then drops it. Returns whether it was done before.
async fn give_up<T>(future: impl Future<Output = T>, polls: u32) -> Option<T> {
    let mut future = pin!(future);
    for _ in 0..polls {
        let polled = future.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        if let core::task::Poll::Ready(done) = polled {
            return Some(done);
        }
        // The server may answer meanwhile.
        tokio::task::yield_now().await;
    }
    None
}

#[test]
fn a_dropped_future_leaves_no_transaction_open() {
    with_table(async |connection, cluster| {
        let mut next = 0;
        let mut given_up = [0; 4];
        for polls in (0..12).cycle().take(120) {
            next += 1;
            // Begin.
            if give_up(connection.begin(), polls).await.is_none() {
                given_up[0] += 1;
            }
            insert(connection, next).await.unwrap();
            assert_eq!(connection.transaction_status(), TransactionStatus::Idle);
            // Savepoint, and its commit.
            let mut transaction = connection.begin().await.unwrap();
            if give_up(transaction.savepoint(), polls).await.is_none() {
                given_up[1] += 1;
            }
            let mut savepoint = transaction.savepoint().await.unwrap();
            insert(&mut savepoint, -next).await.unwrap();
            if give_up(savepoint.commit(), polls).await.is_none() {
                given_up[2] += 1;
            }
            let rows: i32 =
                transaction.query_one("SELECT count(*) FROM kept").await.unwrap().parse(0).unwrap();
            assert!(rows == next || rows == next + 1, "{rows} of {next}");
            transaction.rollback().await.unwrap();
            // Commit: done or not, and the connection is in step.
            let mut transaction = connection.begin().await.unwrap();
            insert(&mut transaction, -next).await.unwrap();
            if give_up(transaction.commit(), polls).await.is_none() {
                given_up[3] += 1;
            }
            connection.query_params("DELETE FROM kept WHERE i < 0", &[]).await.unwrap();
            assert_eq!(connection.transaction_status(), TransactionStatus::Idle);
        }
        assert_eq!(kept(cluster).split(',').count(), 120);
        assert!(given_up.iter().all(|&times| times > 5), "{given_up:?}");
    });
}
