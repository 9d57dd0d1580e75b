//! Statements with parameters, one by one and in a pipeline, on real servers.
#![cfg(feature = "client")]

mod support;

use core::task::{Context, Waker};

use support::client::{block_on, connect};
use support::process::PATIENCE;
use support::{Cluster, Server, servers, wait_until};
use tapster::Error;
use tapster::client::{Connection, QueryEvent, ResultSet};
use tapster::codec::TransactionStatus;

fn with_connection<T>(server: &Server, test: impl AsyncFnOnce(&mut Connection) -> T) -> T {
    let cluster = Cluster::builder(server).start();
    block_on(async { test(&mut connect(&cluster.conninfo("postgres")).await).await })
}

/// The values of a result, each row in one line.
fn lines(set: &ResultSet) -> Vec<String> {
    let line = |row: tapster::client::Row<'_>| {
        let values = (0..row.len()).map(|i| row.optional_text(i).unwrap().unwrap_or("NULL"));
        values.collect::<Vec<_>>().join("|")
    };
    set.rows().map(line).collect()
}

fn sqlstate<T>(result: Result<T, Error>) -> String {
    result.err().and_then(|error| error.sqlstate()).map(|state| state.to_string()).unwrap_or_default()
}

/// Checks with two statements that the connection is in step.
async fn works(connection: &mut Connection) {
    let set = connection.query_params("SELECT $1", &[Some("in step")]).await.unwrap();
    assert_eq!(lines(&set), ["in step"]);
    assert_eq!(lines(&connection.simple_query("SELECT 7").await.unwrap()[0]), ["7"]);
    assert_eq!(connection.transaction_status(), TransactionStatus::Idle);
}

#[test]
fn parameters_arrive_as_they_are_on_every_major() {
    servers::for_each(|server| {
        with_connection(server, async |connection| {
            let odd = "'; DROP TABLE x; -- \\ \" $1 \u{1F418}\n";
            let params = [Some(odd), None, Some(""), Some("41")];
            let sql = "SELECT $1 AS odd, $2::text AS nothing, $3 AS empty, $4::int + 1 AS answer";
            let set = connection.query_params(sql, &params).await.unwrap();
            assert_eq!(set.column_names(), ["odd", "nothing", "empty", "answer"]);
            let row = set.row(0).unwrap();
            assert_eq!(row.text("odd"), Ok(odd));
            assert_eq!(row.get("nothing"), Ok(None));
            assert_eq!(row.get("empty"), Ok(Some(&b""[..])));
            assert_eq!(row.parse("answer"), Ok(42));
            assert_eq!(set.tag(), "SELECT 1");

            let set = connection.query_params("CREATE TABLE t (i int)", &[]).await.unwrap();
            assert_eq!((set.tag(), set.column_names().len()), ("CREATE TABLE", 0));
            assert_eq!(connection.query_params("", &[]).await.unwrap(), ResultSet::default());
            let set = connection.query_params("SELECT 1 AS one WHERE false", &[]).await.unwrap();
            assert_eq!((set.column_names(), set.len()), (vec!["one".to_owned()], 0));
            works(connection).await;
        });
    });
}

#[test]
fn errors_leave_the_connection_in_step() {
    with_connection(&servers::packaged(), async |connection| {
        for (sql, params, state) in [
            ("SELEC", &[][..], "42601"),
            ("SELECT $1::int", &[Some("x")], "22P02"),
            ("SELECT $1", &[], "08P01"),
            ("SELECT 1; SELECT 2", &[], "42601"),
            // This statement fails after rows have arrived.
            ("SELECT 1 / (3 - i) FROM generate_series(1, 5) AS i", &[], "22012"),
            ("COPY pg_class FROM STDIN", &[], "57014"),
        ] {
            assert_eq!(sqlstate(connection.query_params(sql, params).await), state, "{sql}");
            works(connection).await;
        }
        let nul = connection.query_params("SELECT 1\0", &[]).await;
        assert!(matches!(nul, Err(Error::Encode(_))), "{nul:?}");
        let many = vec![None; 65_536];
        let many = connection.query_params("SELECT 1", &many).await;
        assert!(matches!(many, Err(Error::Encode(_))), "{many:?}");
        works(connection).await;
        let set = connection.query_params("COPY (SELECT 1) TO STDOUT", &[]).await.unwrap();
        assert_eq!((set.tag(), set.len()), ("COPY 1", 0));
        works(connection).await;
    });
}

#[test]
fn rows_arrive_one_by_one() {
    with_connection(&servers::packaged(), async |connection| {
        let sql = "SELECT i FROM generate_series(1, $1::int) AS i";
        let mut rows = connection.query_params_rows(sql, &[Some("3")]).await.unwrap();
        let mut seen = Vec::new();
        while let Some(event) = rows.next().await.unwrap() {
            seen.push(match event {
                QueryEvent::Row(row) => row.text("i").unwrap().to_owned(),
                QueryEvent::Complete(tag) => tag,
                other => panic!("{other:?}"),
            });
        }
        assert_eq!(seen, ["1", "2", "3", "SELECT 3"]);
        assert!(rows.next().await.unwrap().is_none());

        // The query is dropped after the first row of many.
        let mut rows = connection.query_params_rows(sql, &[Some("100000")]).await.unwrap();
        assert!(matches!(rows.next().await, Ok(Some(QueryEvent::Row(_)))));
        works(connection).await;

        let sql = "SELECT 1 / (3 - i) FROM generate_series(1, 5) AS i";
        let mut rows = connection.query_params_rows(sql, &[]).await.unwrap();
        assert!(rows.next().await.is_ok());
        assert!(rows.next().await.is_ok());
        assert_eq!(sqlstate(rows.next().await), "22012");
        assert!(rows.next().await.unwrap().is_none());
        works(connection).await;
    });
}

#[test]
fn statements_of_a_pipeline_fail_alone_on_every_major() {
    servers::for_each(|server| {
        with_connection(server, async |connection| {
            connection.simple_query("CREATE TABLE t (i int)").await.unwrap();
            let mut pipeline = connection.pipeline();
            pipeline.query("INSERT INTO t VALUES ($1)", &[Some("1")]).unwrap();
            pipeline.query("INSERT INTO t VALUES ($1)", &[Some("x")]).unwrap();
            assert!(pipeline.query("SELECT\0", &[]).is_err());
            pipeline.query("SELECT i, pg_sleep(0) FROM t", &[]).unwrap();
            pipeline.query("SELECT 1 / 0", &[]).unwrap();
            pipeline.query("", &[]).unwrap();
            let results = pipeline.run().await.unwrap();
            let outcome = |result: &Result<ResultSet, Error>| match result {
                Ok(set) => format!("{} {:?}", set.tag(), lines(set)),
                Err(error) => error.sqlstate().unwrap().to_string(),
            };
            let outcomes: Vec<_> = results.iter().map(outcome).collect();
            assert_eq!(outcomes, ["INSERT 0 1 []", "22P02", "SELECT 1 [\"1|\"]", "22012", " []"]);
            works(connection).await;
            assert!(connection.pipeline().run().await.unwrap().is_empty());
            works(connection).await;
        });
    });
}

#[test]
fn a_pipeline_is_one_round_trip() {
    let cluster = Cluster::builder(&servers::packaged()).start();
    cluster.sql("CREATE TABLE t (i int)").unwrap();
    block_on(async {
        let mut connection = connect(&cluster.conninfo("postgres")).await;
        let mut pipeline = connection.pipeline();
        for i in 0..50 {
            pipeline.query("INSERT INTO t VALUES ($1)", &[Some(&i.to_string())]).unwrap();
        }
        let mut run = Box::pin(pipeline.run());
        // One poll sends everything; an answer cannot be read in it.
        let mut context = Context::from_waker(Waker::noop());
        assert!(run.as_mut().poll(&mut context).is_pending());
        wait_until(PATIENCE, "all statements have run", || {
            cluster.sql("SELECT count(*) FROM t").as_deref() == Ok("50")
        });
        let results = run.await.unwrap();
        assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 50);
        works(&mut connection).await;
    });
}

/// The statements and their results are both larger than the buffers of the connection, so that each side has
/// to read while it still has data to send.
#[test]
fn a_large_pipeline_does_not_deadlock() {
    with_connection(&servers::packaged(), async |connection| {
        let large = "x".repeat(1_000_000);
        let mut pipeline = connection.pipeline();
        for _ in 0..40 {
            pipeline.query("SELECT $1 || $1", &[Some(&large)]).unwrap();
        }
        let results = pipeline.run().await.unwrap();
        let lengths = results.iter().map(|set| set.as_ref().unwrap().row(0).unwrap().text(0).unwrap().len());
        assert!(lengths.eq([2_000_000; 40]));
        works(connection).await;
    });
}

/// The server takes the messages after a COPY in a pipeline for its data.
#[test]
fn copy_from_in_a_pipeline_never_loses_step_on_any_major() {
    servers::for_each(|server| {
        with_connection(server, async |connection| {
            connection.simple_query("CREATE TABLE t (i int)").await.unwrap();
            let statements = ["SELECT 1", "COPY t FROM STDIN", "SELECT 2", "SELECT 3"];
            let mut run = async |count: usize| {
                let mut pipeline = connection.pipeline();
                statements.iter().take(count).for_each(|sql| pipeline.query(sql, &[]).unwrap());
                pipeline.run().await
            };
            // At the end of a pipeline the COPY is refused as in every query.
            let results = run(2).await.unwrap();
            assert_eq!(lines(results[0].as_ref().unwrap()), ["1"]);
            assert!(matches!(results[1], Err(Error::Server(_))), "{:?}", results[1]);

            let results = run(4).await;
            if server.major >= 14 {
                let error = results.unwrap_err();
                assert_eq!(error.sqlstate().unwrap().to_string(), "08P01");
                assert!(!connection.is_open());
                return;
            }
            let results = results.unwrap();
            assert!(matches!(results[1], Err(Error::Server(_))), "{:?}", results[1]);
            // The server took the third statement for the COPY's data, so the third result is that of the
            // fourth statement.
            assert_eq!(lines(results[2].as_ref().unwrap()), ["3"]);
            assert!(matches!(results[3], Err(Error::Usage(_))), "{:?}", results[3]);
            works(connection).await;
        });
    });
}

#[test]
fn a_session_that_ends_ends_the_pipeline() {
    with_connection(&servers::packaged(), async |connection| {
        let mut pipeline = connection.pipeline();
        pipeline.query("SELECT 1", &[]).unwrap();
        pipeline.query("SELECT pg_terminate_backend(pg_backend_pid())", &[]).unwrap();
        pipeline.query("SELECT 2", &[]).unwrap();
        let error = pipeline.run().await.unwrap_err();
        assert_eq!(error.sqlstate().unwrap().to_string(), "57P01");
        assert!(error.is_connection_lost() && !connection.is_open());
        assert!(matches!(connection.query_params("SELECT 1", &[]).await, Err(Error::Closed)));
    });
}

/// The statements that the server keeps for the session.
async fn kept(connection: &mut Connection) -> usize {
    let sets = connection.simple_query("SELECT count(*) FROM pg_prepared_statements").await.unwrap();
    sets[0].row(0).unwrap().parse(0).unwrap()
}

#[test]
fn prepared_statements_run_many_times_on_every_major() {
    servers::for_each(|server| {
        with_connection(server, async |connection| {
            let double = connection.prepare("SELECT $1::int * 2 AS double").await.unwrap();
            let nothing = connection.prepare("").await.unwrap();
            for i in 0..5 {
                let set = connection.query_prepared(&double, &[Some(&i.to_string())]).await.unwrap();
                assert_eq!(set.column_names(), ["double"]);
                assert_eq!(lines(&set), [(2 * i).to_string()]);
            }
            assert_eq!(lines(&connection.query_prepared(&double, &[None]).await.unwrap()), ["NULL"]);
            assert_eq!(connection.query_prepared(&nothing, &[]).await.unwrap(), ResultSet::default());
            assert_eq!(kept(connection).await, 2);

            // An error affects only its own statement.
            assert_eq!(sqlstate(connection.query_prepared(&double, &[Some("x")]).await), "22P02");
            assert_eq!(sqlstate(connection.query_prepared(&double, &[]).await), "08P01");
            assert_eq!(sqlstate(connection.prepare("SELEC").await), "42601");
            assert_eq!(sqlstate(connection.prepare("SELECT 1; SELECT 2").await), "42601");
            assert!(matches!(connection.prepare("SELECT '\0'").await, Err(Error::Encode(_))));
            works(connection).await;

            let mut pipeline = connection.pipeline();
            for value in ["1", "x", "3"] {
                pipeline.query_prepared(&double, &[Some(value)]).unwrap();
            }
            pipeline.query("SELECT 4", &[]).unwrap();
            let results = pipeline.run().await.unwrap();
            let values: Vec<_> = results.iter().map(|result| result.as_ref().map(lines).ok()).collect();
            let line = |text: &str| Some(vec![text.to_owned()]);
            assert_eq!(values, [line("2"), None, line("6"), line("4")]);

            // The server forgets a dropped statement with the next statement, and a closed one at once.
            drop(nothing);
            assert_eq!(lines(&connection.query_prepared(&double, &[Some("4")]).await.unwrap()), ["8"]);
            assert_eq!(kept(connection).await, 1);
            connection.close_statement(double).await.unwrap();
            assert_eq!(kept(connection).await, 0);
            works(connection).await;
        });
    });
}

#[test]
fn a_statement_belongs_to_its_connection_not_to_its_transaction() {
    let cluster = Cluster::builder(&servers::packaged()).start();
    block_on(async {
        let (mut one, mut other) =
            (connect(&cluster.conninfo("postgres")).await, connect(&cluster.conninfo("postgres")).await);
        let statement = one.prepare("SELECT 1").await.unwrap();
        let others = other.prepare("SELECT 2").await.unwrap();
        assert_eq!(sqlstate(other.query_prepared(&statement, &[]).await), "26000");
        works(&mut other).await;
        assert_eq!(lines(&other.query_prepared(&others, &[]).await.unwrap()), ["2"]);

        // In a failed transaction the server runs no statement, but forgets one.
        one.simple_query("BEGIN").await.unwrap();
        assert_eq!(sqlstate(one.simple_query("SELECT 1/0").await), "22012");
        assert_eq!(sqlstate(one.query_prepared(&statement, &[]).await), "25P02");
        one.close_statement(statement).await.unwrap();
        one.simple_query("ROLLBACK").await.unwrap();
        assert_eq!(kept(&mut one).await, 0);
    });
}

#[test]
fn a_statement_whose_preparation_is_dropped_is_forgotten() {
    with_connection(&servers::packaged(), async |connection| {
        let mut context = Context::from_waker(Waker::noop());
        for _ in 0..20 {
            let mut prepare = core::pin::pin!(connection.prepare("SELECT 1"));
            assert!(prepare.as_mut().poll(&mut context).is_pending(), "the server has not answered yet");
        }
        let last = connection.prepare("SELECT 1").await.unwrap();
        assert_eq!(kept(connection).await, 1);
        drop(last);
        works(connection).await;
    });
}
