//! The cache of SCRAM keys, with real servers.
#![cfg(feature = "client")]

mod support;

use core::time::Duration;
use std::time::Instant;

use support::client::{block_on, config};
use support::cluster::psql;
use support::{Auth, Cluster, servers};
use tapster::client::{Connection, Connector};

/// Measures how long it takes to connect.
async fn time(connector: &Connector) -> Duration {
    let start = Instant::now();
    connector.connect().await.unwrap().close().await.unwrap();
    start.elapsed()
}

#[test]
fn a_second_login_derives_no_keys() {
    let cluster = Cluster::builder(&servers::major(16)).auth(Auth::Scram).start();
    // So many rounds that the difference is seconds in a debug build.
    let set_password = "SET scram_iterations = 60000; ALTER ROLE repl PASSWORD 'walrus-17'";
    cluster.sql(set_password).unwrap();
    block_on(async {
        let config = config(&cluster.conninfo("repl"));
        let connector = Connector::new(config.clone());
        let (first, second) = (time(&connector).await, time(&connector).await);
        assert!(second < first / 4, "{first:?}, then {second:?}");

        // With another salt the keys are derived anew, and are used from then on.
        cluster.sql(set_password).unwrap();
        let (third, fourth) = (time(&connector).await, time(&connector).await);
        assert!(fourth < third / 4, "{third:?}, then {fourth:?}");

        // Every connector has its own cache.
        let start = Instant::now();
        Connection::connect(&config).await.unwrap();
        assert!(fourth < start.elapsed() / 4);
    });
}

#[test]
fn keys_of_an_old_password_are_refused() {
    let cluster = Cluster::builder(&servers::packaged()).auth(Auth::Scram).start();
    block_on(async {
        let connector = Connector::new(config(&cluster.conninfo("repl")));
        connector.connect().await.unwrap();
        cluster.sql("ALTER ROLE repl PASSWORD 'another'").unwrap();
        let error = connector.connect().await.unwrap_err();
        assert_eq!(error.sqlstate().unwrap().to_string(), "28P01");
        let shown = format!("{connector:?} {error:?} {error}");
        assert!(!shown.contains("walrus"), "{shown}");
        cluster.sql("ALTER ROLE repl PASSWORD 'walrus-17'").unwrap();
        connector.connect().await.unwrap();
    });
    psql(&cluster.conninfo("repl"), "SELECT 1").unwrap();
}
