//! LISTEN and NOTIFY on real servers.
#![cfg(feature = "client")]

mod support;

use core::task::{Context, Waker};
use core::time::Duration;

use support::client::{block_on, connect};
use support::{Cluster, servers};
use tapster::Error;
use tapster::client::Notification;

fn channel_and_payload(notification: &Notification) -> (&str, &str) {
    (&notification.channel, &notification.payload)
}

#[test]
fn notifications_arrive_in_order_on_every_major() {
    servers::for_each(|server| {
        let cluster = Cluster::builder(server).start();
        block_on(async {
            let mut listener = connect(&cluster.conninfo("postgres")).await;
            let mut speaker = connect(&cluster.conninfo("postgres")).await;
            listener.simple_query("LISTEN a; LISTEN b").await.unwrap();
            assert!(listener.queued_notification().is_none());

            speaker.simple_query("NOTIFY a, 'one'").await.unwrap();
            speaker.simple_query("NOTIFY b").await.unwrap();
            let first = listener.notification().await.unwrap();
            assert_eq!(channel_and_payload(&first), ("a", "one"));
            assert_eq!(first.process_id, speaker.cancel_key().unwrap().process_id);
            assert_eq!(channel_and_payload(&listener.notification().await.unwrap()), ("b", ""));

            // Waits first, and drops the future in between.
            for payload in ["two", "three"] {
                let mut waiting = Box::pin(listener.notification());
                assert!(waiting.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
                drop(waiting);
                speaker.query_params("SELECT pg_notify('a', $1)", &[Some(payload)]).await.unwrap();
                assert_eq!(channel_and_payload(&listener.notification().await.unwrap()), ("a", payload));
            }

            // A notification may arrive with another answer, such as that of one's own NOTIFY.
            let set = listener.simple_query("NOTIFY a, 'self'; SELECT 7").await.unwrap();
            assert_eq!(set[1].row(0).unwrap().text(0), Ok("7"));
            assert_eq!(channel_and_payload(&listener.queued_notification().unwrap()), ("a", "self"));
            assert_eq!(listener.dropped_notifications(), 0);
        });
    });
}

#[test]
fn a_flood_drops_the_oldest_and_is_counted() {
    let cluster = Cluster::builder(&servers::packaged()).start();
    block_on(async {
        let mut connection = connect(&cluster.conninfo("postgres")).await;
        connection.simple_query("LISTEN a").await.unwrap();
        let flood = "SELECT pg_notify('a', i::text) FROM generate_series(1, 10100) AS i";
        connection.simple_query(flood).await.unwrap();
        assert_eq!(connection.dropped_notifications(), 100);
        assert_eq!(connection.notification().await.unwrap().payload, "101");
        let mut last = String::new();
        while let Some(notification) = connection.queued_notification() {
            last = notification.payload;
        }
        assert_eq!(last, "10100");
    });
}

#[test]
fn waiting_has_no_timeout_but_ends_with_the_session() {
    let cluster = Cluster::builder(&servers::packaged()).start();
    block_on(async {
        let mut connection = connect(&cluster.conninfo("postgres")).await;
        connection.simple_query("LISTEN a").await.unwrap();
        connection.set_read_timeout(Some(Duration::from_millis(1)));
        let silence = tokio::time::timeout(Duration::from_millis(50), connection.notification()).await;
        assert!(silence.is_err(), "{silence:?}");
        let pid = connection.cancel_key().unwrap().process_id;
        cluster.sql(&format!("SELECT pg_terminate_backend({pid})")).unwrap();
        let error = connection.notification().await.unwrap_err();
        assert_eq!(error.sqlstate().unwrap().to_string(), "57P01");
        assert!(matches!(connection.notification().await, Err(Error::Closed)));
    });
}
