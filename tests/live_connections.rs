//! The list of open connections, which belongs to the whole process. The test is alone in this file, so that
//! the list has no connection of another test.

#![cfg(feature = "postgres")]

mod support;

use support::client::block_on;
use support::process::PATIENCE;
use support::{Cluster, servers, wait_until};
use tapster::conninfo::{ConnInfo, Environment};
use tapster::postgres::{
    ConnectionOptions, PostgreSQL, PostgreSQLConnection, StandbyOptions, StandbyPostgreSQLConnection,
    StreamingConnection, close_all, live_connections,
};

#[test]
fn open_connections_are_listed_and_closed_together() {
    let cluster = Cluster::builder(&servers::packaged()).start();
    let text = format!("host={} port={} user=postgres dbname=postgres", cluster.host(), cluster.port());
    let conninfo: ConnInfo = text.parse().unwrap();
    let mut options = ConnectionOptions::default();
    options.environment = Environment::empty();
    options.application_name = "listed".into();
    let mut of_standby = StandbyOptions::default();
    of_standby.standby = options.clone();
    let standby =
        StandbyPostgreSQLConnection::with_options(conninfo.clone(), conninfo.clone(), of_standby).unwrap();
    let plain = PostgreSQLConnection::with_options(conninfo.clone(), options).unwrap();
    let mut named = conninfo;
    named.set("application_name", "listed").unwrap();
    let streaming = StreamingConnection::with_environment(&named, Environment::empty()).unwrap();

    block_on(async {
        assert_eq!(live_connections(), [""; 0]);
        standby.primary().is_in_recovery().await.unwrap();
        assert!(streaming.fetch_remote_status().await.connection_error.is_none());
        standby.is_in_recovery().await.unwrap();
        plain.is_in_recovery().await.unwrap();
        plain.is_in_recovery().await.unwrap();
        let all = ["PostgreSQLConnection", "StreamingConnection", "StandbyPostgreSQLConnection"];
        assert_eq!(live_connections(), [&all[..], &["PostgreSQLConnection"]].concat());
        standby.close().await;
        assert_eq!(live_connections(), ["StreamingConnection", "PostgreSQLConnection"]);
        standby.is_in_recovery().await.unwrap();
        drop(streaming);
        assert_eq!(live_connections(), ["PostgreSQLConnection", "StandbyPostgreSQLConnection"]);
        close_all().await;
        assert_eq!(live_connections(), [""; 0]);
        assert!(!plain.has_connection().await);
    });
    let sessions = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'listed'";
    wait_until(PATIENCE, "the sessions are gone", || cluster.sql(sessions).as_deref() == Ok("0"));
    let log = cluster.log();
    assert!(!log.contains("unexpected EOF") && !log.contains("could not receive"), "{log}");
}
