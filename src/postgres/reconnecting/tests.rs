use core::future::poll_fn;
use core::pin::pin;
use core::task::Poll;

use super::*;
use crate::codec::{BackendMessage, FrontendMessage};
use crate::conninfo::Environment;
use crate::test_server::{Script, TestServer};

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(Duration::from_secs(30), future).await.expect("it ends") })
}

async fn poll_once<T>(mut future: Pin<&mut impl Future<Output = T>>) -> Poll<T> {
    poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await
}

/// A server with one script for each connection, and an object that has no connection to it yet.
fn with_server(scripts: impl IntoIterator<Item = Script>) -> (TestServer, Reconnecting<Connection>) {
    let server = TestServer::start(scripts).unwrap();
    let conninfo = format!("host=127.0.0.1 port={} user=u dbname=d sslmode=disable", server.address().port());
    let parameters: ConnInfo = conninfo.parse().unwrap();
    let effective = parameters.clone();
    let make_config = move || Ok(effective.resolve(&Environment::empty())?.config()?);
    (server, Reconnecting::new("Test", conninfo, parameters, make_config))
}

/// A session at its beginning, set up by the one statement that all sessions get.
fn greeted() -> Script {
    let is_setup = |message: &FrontendMessage<'_>| match message {
        FrontendMessage::Query { query } => query.starts_with(b"SELECT pg_catalog.set_config('search_path'"),
        _ => false,
    };
    Script::new()
        .greet()
        .expect("the setup", is_setup)
        .send(&BackendMessage::CommandComplete { tag: b"SELECT 1" })
        .send(&BackendMessage::ReadyForQuery(TransactionStatus::Idle))
}

/// Answers the simple query `sql` with the command tag `tag`.
fn answer(script: Script, sql: &'static str, tag: &'static str) -> Script {
    script
        .expect_query(sql)
        .send(&BackendMessage::CommandComplete { tag: tag.as_bytes() })
        .send(&BackendMessage::ReadyForQuery(TransactionStatus::Idle))
}

/// Expects a statement as a pipeline sends it, up to its last message.
fn expect_statement(script: Script) -> Script {
    let is_parse = |message: &FrontendMessage<'_>| matches!(message, FrontendMessage::Parse(_));
    script
        .expect("Parse", is_parse)
        .expect("Bind", |message| matches!(message, FrontendMessage::Bind(_)))
        .expect("Describe", |message| matches!(message, FrontendMessage::Describe(_)))
        .expect("Execute", |message| matches!(message, FrontendMessage::Execute(_)))
        .expect("Sync", |message| *message == FrontendMessage::Sync)
}

fn answer_statement(script: Script) -> Script {
    expect_statement(script)
        .send(&BackendMessage::ParseComplete)
        .send(&BackendMessage::BindComplete)
        .send(&BackendMessage::NoData)
        .send(&BackendMessage::CommandComplete { tag: b"SET" })
        .send(&BackendMessage::ReadyForQuery(TransactionStatus::Idle))
}

/// Waits until the socket shows that the server has ended the connection.
async fn wait_for_loss(object: &Reconnecting<Connection>) {
    while object.existing().await.is_ok() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[test]
fn a_connection_is_made_when_needed_and_then_kept() {
    let (server, object) = with_server([answer(answer(greeted(), "A", "A"), "B", "B")]);
    block_on(async {
        assert!(matches!(object.existing().await, Err(PostgresError::NoConnection)));
        assert!(!object.has_connection().await);
        assert!(!object.check("SELECT 1").await.unwrap());
        let mut first = object.connect().await.unwrap();
        assert!(first.is_new);
        first.simple_query("A").await.unwrap();
        drop(first);
        assert!(object.has_connection().await);
        let mut second = object.connect().await.unwrap();
        assert!(!second.is_new);
        second.simple_query("B").await.unwrap();
        drop(second);
        object.close().await;
        assert!(!object.has_connection().await);
    });
    server.finish().unwrap();
}

#[test]
fn a_guard_keeps_other_calls_out_until_it_is_dropped() {
    let (server, object) = with_server([greeted()]);
    block_on(async {
        let guard = object.connect().await.unwrap();
        assert!(object.try_existing().await.unwrap().is_none());
        let mut other = pin!(object.connect());
        assert!(poll_once(other.as_mut()).await.is_pending(), "two calls had the connection at once");
        drop(guard);
        drop(other.await.unwrap());
        assert!(object.try_existing().await.unwrap().is_some());
        object.close().await;
    });
    server.finish().unwrap();
}

#[test]
fn a_connection_that_the_server_ended_is_replaced_by_the_next_call() {
    let (server, object) = with_server([greeted().close(), greeted()]);
    block_on(async {
        drop(object.connect().await.unwrap());
        wait_for_loss(&object).await;
        assert!(!object.has_connection().await);
        assert!(object.connect().await.unwrap().is_new);
        object.close().await;
    });
    server.finish().unwrap();
}

#[test]
fn a_loss_that_must_not_be_replaced_is_reported_until_the_object_is_closed() {
    type Forbid = fn(&Reconnecting<Connection>);
    let ways: [Forbid; 2] = [|object| object.set_allow_reconnect(false), |object| object.set_in_backup(true)];
    for forbid in ways {
        let (server, object) = with_server([greeted().close(), greeted()]);
        block_on(async {
            // The first connection is allowed; only its replacement is forbidden.
            object.set_allow_reconnect(true);
            drop(object.connect().await.unwrap());
            forbid(&object);
            wait_for_loss(&object).await;
            for _ in 0..2 {
                let refused = object.connect().await.map(drop);
                assert!(matches!(refused, Err(PostgresError::ReconnectForbidden { .. })), "{refused:?}");
            }
            assert!(object.check("SELECT 1").await.is_err());
            object.close().await;
            assert!(object.connect().await.unwrap().is_new);
            object.close().await;
        });
        server.finish().unwrap();
    }
}

#[test]
fn a_statement_that_only_reads_is_repeated_on_a_new_connection() {
    let lost = expect_statement(greeted()).close();
    let (server, object) = with_server([lost, answer_statement(greeted())]);
    block_on(async {
        drop(object.connect().await.unwrap());
        object.read("reading", &|_| "SELECT 1".into(), &[]).await.unwrap();
        object.close().await;
    });
    server.finish().unwrap();
}

#[test]
fn a_statement_is_not_repeated_when_the_connection_that_it_made_is_lost() {
    let lost = || expect_statement(greeted()).close();
    // The call makes its connection, which is lost at once.
    let (server, object) = with_server([lost()]);
    let error = block_on(object.read("reading", &|_| "SELECT 1".into(), &[])).unwrap_err();
    assert!(error.is_connection_lost(), "{error}");
    server.finish().unwrap();
    // Lost twice: the first loss causes a repetition, the second is returned.
    let (server, object) = with_server([lost(), lost()]);
    block_on(async {
        drop(object.connect().await.unwrap());
        let error = object.read("reading", &|_| "SELECT 1".into(), &[]).await.unwrap_err();
        assert!(error.is_connection_lost(), "{error}");
    });
    server.finish().unwrap();
}

#[test]
fn a_silent_server_is_not_asked_again() {
    let (server, object) = with_server([greeted().silence()]);
    block_on(async {
        drop(object.connect().await.unwrap());
        object.set_timeout(Some(Duration::from_millis(50)));
        let error = object.read("reading", &|_| "SELECT 1".into(), &[]).await.unwrap_err();
        assert!(error.error().is_some_and(Error::is_timeout), "{error}");
        object.close().await;
    });
    server.finish().unwrap();
}

#[test]
fn the_answer_to_a_dropped_call_reaches_no_other_call() {
    let script = answer(answer(greeted(), "A", "SELECT 1"), "B", "SELECT 2");
    let (server, object) = with_server([script]);
    block_on(async {
        {
            let mut guard = object.connect().await.unwrap();
            assert!(poll_once(pin!(guard.simple_query("A"))).await.is_pending());
        }
        let mut guard = object.connect().await.unwrap();
        assert!(!guard.is_new, "the connection was given up");
        let sets = guard.simple_query("B").await.unwrap();
        assert_eq!(sets.iter().map(ResultSet::tag).collect::<Vec<_>>(), ["SELECT 2"]);
        drop(guard);
        object.close().await;
    });
    server.finish().unwrap();
}

#[test]
fn a_failed_transaction_that_a_caller_left_is_rolled_back() {
    let failed = greeted()
        .expect_query("BAD")
        .send(&BackendMessage::CommandComplete { tag: b"BEGIN" })
        .send(&BackendMessage::ReadyForQuery(TransactionStatus::Failed));
    let (server, object) = with_server([answer(failed, "ROLLBACK", "ROLLBACK")]);
    block_on(async {
        object.connect().await.unwrap().simple_query("BAD").await.unwrap();
        let guard = object.connect().await.unwrap();
        assert_eq!(guard.transaction_status(), TransactionStatus::Idle);
        drop(guard);
        object.close().await;
    });
    server.finish().unwrap();
}

#[test]
fn a_check_forgets_a_connection_that_turns_out_to_be_lost() {
    let (server, object) =
        with_server([answer(greeted(), "SELECT 1", "SELECT 1").expect_query("SELECT 1").close()]);
    block_on(async {
        drop(object.connect().await.unwrap());
        assert!(object.check("SELECT 1").await.unwrap());
        assert!(!object.check("SELECT 1").await.unwrap());
        assert!(!object.has_connection().await);
    });
    server.finish().unwrap();
}
