//! Statements that are stopped: by a cancel token, or by the client's read timeout.
#![cfg(feature = "client")]

mod support;

use core::task::{Context, Waker};
use core::time::Duration;
use std::time::Instant;

use support::client::{block_on, connect};
use support::process::PATIENCE;
use support::proxy::Proxy;
use support::{Cluster, servers, wait_until};
use tapster::Error;
use tapster::client::Connection;

/// Runs a statement that takes a minute, cancels it, and checks that the connection is in step.
async fn cancel_one(cluster: &Cluster, connection: &mut Connection) {
    let token = connection.cancel_token().expect("the server gave a key");
    let mut query = Box::pin(connection.simple_query("SELECT pg_sleep(60)"));
    assert!(query.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    wait_until(PATIENCE, "the statement runs", || {
        let sleeping = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
        cluster.sql(sleeping).as_deref() == Ok("1")
    });
    token.clone().cancel().await.unwrap();
    let error = query.await.unwrap_err();
    assert_eq!(error.sqlstate().unwrap().to_string(), "57014");
    assert!(!error.is_connection_lost());
    works(connection).await;
    // Now no statement is running that could be cancelled.
    token.cancel().await.unwrap();
    works(connection).await;
}

async fn works(connection: &mut Connection) {
    // A late cancel request stops one statement at most.
    for last in [false, true] {
        match connection.simple_query("SELECT 7").await {
            Ok(sets) => assert_eq!(sets[0].row(0).unwrap().text(0), Ok("7")),
            Err(error) => assert!(!last && !error.is_connection_lost(), "{error}"),
        }
    }
}

#[test]
fn a_token_cancels_on_every_major() {
    servers::for_each(|server| {
        let cluster = Cluster::builder(server).start();
        let mut ways = vec![cluster.conninfo("postgres"), cluster.socket_conninfo("postgres")];
        if server.major >= 18 {
            ways.push(cluster.conninfo("postgres") + " max_protocol_version=3.2");
        }
        for conninfo in ways {
            block_on(async {
                let mut connection = connect(&conninfo).await;
                let key_len = connection.cancel_key().unwrap().secret_key.len();
                assert_eq!(key_len > 4, conninfo.contains("3.2"), "{key_len}");
                cancel_one(&cluster, &mut connection).await;
            });
        }
    });
}

#[test]
fn a_cancel_that_cannot_be_delivered_is_an_error_in_time() {
    let cluster = Cluster::builder(&servers::packaged()).start();
    let proxy = Proxy::start(cluster.port(), 1);
    block_on(async {
        let conninfo = format!("{} port={} connect_timeout=2", cluster.conninfo("postgres"), proxy.port());
        let connection = connect(&conninfo).await;
        let start = Instant::now();
        let error = connection.cancel_token().unwrap().cancel().await.unwrap_err();
        assert!(error.is_timeout(), "{error}");
        assert!(start.elapsed() >= Duration::from_secs(2));
        let text = format!("{error} {error:?} {:?}", connection.cancel_token());
        assert!(text.contains(&format!("port {}", proxy.port())), "{text}");
        // The key was sent, and no text shows it.
        let heard = proxy.heard();
        let key = connection.cancel_key().unwrap();
        assert_eq!(heard[1][4..8], 80_877_102_u32.to_be_bytes());
        assert_eq!(heard[1][12..], **key.secret_key);
        assert!(!text.contains("secret"), "{text}");

        let token = connect(&cluster.conninfo("postgres")).await.cancel_token().unwrap();
        cluster.stop(support::Stop::Immediate);
        let error = token.cancel().await.unwrap_err();
        assert!(matches!(error, Error::Connect(_)), "{error:?}");
    });
}

#[cfg(feature = "tls")]
#[test]
fn a_cancel_is_in_tls_if_the_session_is() {
    use support::certificates::{Identity, Key};

    let identity = Identity::self_signed("localhost", Key::P256);
    let server = servers::major(17);
    let cluster = Cluster::builder(&server)
        .setting("ssl", "on")
        .file("server.crt", &identity.certificate)
        .file("server.key", &identity.key)
        .start();
    for (options, opening) in [
        ("sslmode=prefer", &[0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f, 0x16][..]),
        ("sslmode=require sslnegotiation=direct", &[0x16]),
    ] {
        let proxy = Proxy::start(cluster.port(), usize::MAX);
        block_on(async {
            let conninfo = format!("{} port={} {options}", cluster.conninfo("postgres"), proxy.port());
            let mut connection = connect(&conninfo).await;
            cancel_one(&cluster, &mut connection).await;
            let heard = proxy.heard();
            assert_eq!(heard.len(), 3);
            for bytes in heard {
                assert!(bytes.starts_with(opening), "{options}: {bytes:x?}");
            }
        });
    }
}

#[test]
fn silence_ends_at_the_read_timeout() {
    let cluster = Cluster::builder(&servers::packaged()).start();
    block_on(async {
        let limit = Duration::from_millis(100);
        for sql in ["SELECT pg_sleep(60)", "COPY (SELECT pg_sleep(60)) TO STDOUT"] {
            let mut connection = connect(&cluster.conninfo("postgres")).await;
            connection.set_read_timeout(Some(limit));
            let error = connection.simple_query(sql).await.unwrap_err();
            assert!(matches!(error, Error::Timeout { after, .. } if after == limit), "{error:?}");
            assert!(error.is_timeout() && error.is_connection_lost() && !connection.is_open());
            assert!(matches!(connection.simple_query("SELECT 1").await, Err(Error::Closed)));
        }

        // A server that sends a notice now and then is not silent.
        let mut connection = connect(&cluster.conninfo("postgres")).await;
        connection.set_read_timeout(Some(Duration::from_secs(2)));
        let talkative =
            "DO $$ BEGIN FOR i IN 1..5 LOOP PERFORM pg_sleep(0.5); RAISE NOTICE 'x'; END LOOP; END $$";
        connection.simple_query(talkative).await.unwrap();
    });
}

/// The server reads nothing, so that the data cannot be sent.
#[test]
fn sending_to_a_server_that_does_not_read_ends_at_the_read_timeout() {
    let cluster = Cluster::builder(&servers::packaged()).start();
    cluster.sql("CREATE TABLE t (s text)").unwrap();
    block_on(async {
        let mut connection = connect(&cluster.conninfo("postgres")).await;
        let pid = u32::try_from(connection.cancel_key().unwrap().process_id).unwrap();
        connection.set_read_timeout(Some(Duration::from_millis(100)));
        let mut copy = connection.copy_in("COPY t FROM STDIN").await.unwrap();
        support::process::signal(pid, "STOP");
        let line = "x".repeat(999_999) + "\n";
        let error = loop {
            if let Err(error) = copy.send(line.as_bytes()).await {
                break error;
            }
        };
        support::process::signal(pid, "CONT");
        assert!(error.is_timeout(), "{error:?}");
        assert!(!connection.is_open());
    });
}

/// The error is the server's last message, and not that writing failed.
#[test]
fn the_error_of_an_ended_session_is_the_servers() {
    let cluster = Cluster::builder(&servers::packaged()).start();
    cluster.sql("CREATE TABLE t (s text)").unwrap();
    let terminate = |connection: &Connection| {
        let pid = connection.cancel_key().unwrap().process_id;
        cluster.sql(&format!("SELECT pg_terminate_backend({pid})")).unwrap();
        wait_until(PATIENCE, "the session is gone", || {
            cluster.sql(&format!("SELECT count(*) FROM pg_stat_activity WHERE pid = {pid}")).as_deref()
                == Ok("0")
        });
    };
    block_on(async {
        let mut connection = connect(&cluster.conninfo("postgres")).await;
        terminate(&connection);
        let error = connection.simple_query("SELECT 1").await.unwrap_err();
        assert_eq!(error.sqlstate().map(|state| state.to_string()).as_deref(), Some("57P01"), "{error:?}");

        let mut connection = connect(&cluster.conninfo("postgres")).await;
        connection.copy_in("COPY t FROM STDIN").await.unwrap();
        terminate(&connection);
        let large = format!("SELECT '{}'", "x".repeat(10_000_000));
        let error = connection.simple_query(&large).await.unwrap_err();
        assert_eq!(error.sqlstate().map(|state| state.to_string()).as_deref(), Some("57P01"), "{error:?}");
    });
}
