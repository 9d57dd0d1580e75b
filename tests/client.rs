//! Connections of the library: results, errors, notices, lists of hosts, and the typed replication commands.
#![cfg(feature = "replication")]

mod support;

use std::net::TcpListener;
use std::sync::{Arc, Mutex};

use support::client::{block_on, config, connect};
use support::{Cluster, servers};
use tapster::Error;
use tapster::client::Connection;
use tapster::replication::{PhysicalSlot, ReplicationConnection};
use tapster::types::{SqlState, TimelineId};

#[test]
fn a_query_has_a_result_for_each_of_its_statements() {
    let cluster = Cluster::builder(&servers::packaged()).start();
    block_on(async {
        let mut connection = connect(&cluster.conninfo("postgres")).await;
        let notices = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&notices);
        connection.on_notice(move |notice| heard.lock().unwrap().push(notice.message.clone()));
        let sql = "SELECT 1 AS a, NULL AS b; CREATE TEMP TABLE t (i int); INSERT INTO t VALUES (1), (2);;
                   TABLE t; DO $$ BEGIN RAISE NOTICE 'told'; END $$";
        let sets = connection.simple_query(sql).await.unwrap();
        let tags: Vec<&str> = sets.iter().map(|set| set.tag()).collect();
        assert_eq!(tags, ["SELECT 1", "CREATE TABLE", "INSERT 0 2", "SELECT 2", "DO"]);
        let row = sets[0].row(0).unwrap();
        assert_eq!((row.parse("a"), row.optional_text("b")), (Ok(1), Ok(None)));
        assert_eq!(*notices.lock().unwrap(), ["told"]);

        let error = connection.simple_query("SELECT 1; SELECT 1/0; SELECT 2").await.unwrap_err();
        assert_eq!(error.sqlstate().map(|state| state.to_string()).as_deref(), Some("22012"));
        assert!(!error.is_connection_lost());
        let sets = connection.simple_query("").await.unwrap();
        assert_eq!((sets.len(), sets[0].tag()), (1, ""));
    });
}

#[test]
fn the_next_host_is_tried_and_every_attempt_is_listed() {
    let cluster = Cluster::builder(&servers::packaged()).start();
    let closed = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).unwrap().port();
    let with_ports = |ports: &str| {
        let hosts = "127.0.0.1,127.0.0.1,no-such-host.invalid";
        format!("{} host={hosts} port={ports}", cluster.conninfo("postgres"))
    };
    block_on(async {
        let there = with_ports(&format!("{closed},{},5432", cluster.port()));
        let mut connection = Connection::connect(&config(&there)).await.unwrap();
        assert_eq!(connection.simple_query("SELECT 1").await.unwrap().len(), 1);

        let nowhere = with_ports(&format!("{closed},{closed},5432"));
        match Connection::connect(&config(&nowhere)).await {
            Err(Error::Connect(attempts)) => assert_eq!(attempts.len(), 3, "{attempts:?}"),
            other => panic!("{other:?}"),
        }
    });
}

#[test]
fn target_session_attrs_chooses_among_a_primary_and_its_standby() {
    // Servers before 14 do not report whether they are a standby; the client has to query them.
    for major in [13, 18] {
        let primary = Cluster::builder(&servers::major(major)).start();
        let standby = primary.standby();
        let ports = format!("{},{}", primary.port(), standby.port());
        let reached = async |attrs: &str, more: &str| {
            let hosts = format!("host=127.0.0.1,127.0.0.1 port={ports} target_session_attrs={attrs} {more}");
            let conninfo = format!("{} {hosts}", primary.conninfo("postgres"));
            let connection = Connection::connect(&config(&conninfo)).await.unwrap();
            connection.server().to_string()
        };
        block_on(async {
            for more in ["", "replication=true"] {
                for (attrs, expected) in [
                    ("any", &primary),
                    ("read-write", &primary),
                    ("primary", &primary),
                    ("read-only", &standby),
                    ("standby", &standby),
                    ("prefer-standby", &standby),
                ] {
                    let server = reached(attrs, more).await;
                    let port = format!("port {}", expected.port());
                    assert!(server.ends_with(&port), "{major}: {attrs} {more}: {server}");
                }
            }
            let alone = format!("{} target_session_attrs=standby", primary.conninfo("postgres"));
            let error = Connection::connect(&config(&alone)).await.unwrap_err();
            assert!(error.to_string().contains("server is not in hot standby mode"), "{error}");
        });
    }
}

#[test]
fn every_major_answers_the_replication_commands() {
    servers::for_each(|server| {
        let cluster = Cluster::builder(server).start();
        let conninfo = format!("{} replication=true", cluster.conninfo("repl"));
        block_on(async {
            let mut connection = ReplicationConnection::connect(&config(&conninfo)).await.unwrap();
            let system = connection.identify_system().await.unwrap();
            assert_eq!((system.timeline, system.dbname), (TimelineId::FIRST, None));
            let size = connection.wal_segment_size().await.unwrap();
            assert_eq!(u64::from(size.bytes()), cluster.segment_size());
            let sqlstate = |error: Error| error.sqlstate();
            let unknown = connection.show("no_such_setting").await.map_err(sqlstate);
            assert_eq!(unknown, Err(Some(SqlState::UNDEFINED_OBJECT)));
            let history = connection.timeline_history(TimelineId::FIRST).await.map_err(sqlstate);
            assert_eq!(history, Err(Some(SqlState::UNDEFINED_FILE)));

            let reserved = PhysicalSlot { temporary: false, reserve_wal: true };
            assert_eq!(connection.create_physical_slot("1_tap", reserved).await.unwrap().name, "1_tap");
            if server.major >= 15 {
                let slot = connection.read_slot("1_tap").await.unwrap().expect("it was created");
                assert_eq!(slot.restart_timeline, Some(TimelineId::FIRST));
                assert!(slot.restart_lsn.is_some_and(|lsn| lsn <= system.xlog_pos));
                assert_eq!(connection.read_slot("nope").await.unwrap(), None);
            }
            connection.drop_slot("1_tap", false).await.unwrap();
            let again = connection.drop_slot("1_tap", false).await.map_err(sqlstate);
            assert_eq!(again, Err(Some(SqlState::UNDEFINED_OBJECT)));

            // The error above would have dropped a temporary slot, so it is made last.
            let temporary = PhysicalSlot { temporary: true, reserve_wal: false };
            connection.create_physical_slot("temporary", temporary).await.unwrap();
            let count = "SELECT count(*) FROM pg_replication_slots";
            assert_eq!(cluster.sql(count).as_deref(), Ok("1"));
            connection.close().await.unwrap();
            let is_gone = || cluster.sql(count).as_deref() == Ok("0");
            support::wait_until(core::time::Duration::from_secs(30), "the slot is gone", is_gone);
        });
    });
}
