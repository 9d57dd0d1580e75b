//! Connections of the library: results, errors, notices, lists of hosts, and the typed replication commands.
#![cfg(feature = "replication")]

mod support;

use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use support::client::{block_on, config, connect};
use support::process::PATIENCE;
use support::{Cluster, servers};
use tapster::Error;
use tapster::client::{Connection, QueryEvent};
use tapster::codec::Format;
use tapster::replication::{PhysicalSlot, ReplicationConnection};
use tapster::types::{Lsn, PgTimestamp, SqlState, TimelineId};

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

/// A default of reading only makes a primary's transactions look like a standby's, which servers before 14 tell in no
/// other way to a physical replication connection.
#[test]
fn a_primary_that_only_reads_by_default_is_no_standby() {
    for major in [10, 13, 15] {
        let primary = Cluster::builder(&servers::major(major)).start();
        primary.sql("ALTER SYSTEM SET default_transaction_read_only = on").unwrap();
        primary.reload();
        let standby = primary.standby();
        block_on(async {
            for (cluster, fits, does_not) in
                [(&primary, "primary", "standby"), (&standby, "standby", "primary")]
            {
                for more in ["", "replication=true", "replication=database"] {
                    let conninfo = format!("{} {more}", cluster.conninfo("postgres"));
                    let connect = async |attrs: &str| {
                        let conninfo = format!("{conninfo} target_session_attrs={attrs}");
                        Connection::connect(&config(&conninfo)).await
                    };
                    // The server reads the changed file in its own time.
                    let from = Instant::now();
                    while let Err(error) = connect("read-only").await {
                        assert!(from.elapsed() < PATIENCE, "{major}: {more}: {error}");
                    }
                    connect(fits).await.unwrap_or_else(|error| panic!("{major}: {more}: {error}"));
                    assert!(connect(does_not).await.is_err(), "{major}: {more}: {does_not}");
                    assert!(connect("read-write").await.is_err(), "{major}: {more}: read-write");
                }
            }
        });
    }
}

#[test]
fn a_trigger_on_login_may_send_long_notices() {
    let cluster = Cluster::builder(&servers::major(18)).start();
    for sql in [
        "CREATE FUNCTION greet() RETURNS event_trigger LANGUAGE plpgsql AS \
         $$ BEGIN RAISE NOTICE '%', repeat('x', 40000); RAISE NOTICE '%', repeat('y', 900000); END $$",
        "CREATE EVENT TRIGGER greet ON login EXECUTE FUNCTION greet()",
    ] {
        cluster.sql(sql).unwrap();
    }
    block_on(async {
        let mut connection = connect(&cluster.conninfo("postgres")).await;
        assert_eq!(connection.simple_query("SELECT 1").await.unwrap().len(), 1);
    });
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

#[test]
fn values_parse_as_the_types_that_are_asked_for() {
    servers::for_each(|server| {
        let cluster = Cluster::builder(server).start();
        block_on(async {
            let mut connection = connect(&cluster.conninfo("postgres")).await;
            let sql = "SELECT true AS yes, false AS no, NULL::bool AS unknown, 'on'::text AS word,
                (-32768)::int2 AS small, 2147483647::int4 AS medium, (-9223372036854775808)::int8 AS large,
                4294967295::oid AS oid, 'NaN'::float8 AS nan, '-Infinity'::float8 AS low, 0.1::float8 AS tenth,
                'Infinity'::float4 AS high, 'a text' AS text, '16/B374D848'::pg_lsn AS lsn,
                '2026-11-22 10:50:11.5+02'::timestamptz AS moment, '10.0.0.7'::inet AS address,
                1.50::numeric(5,2) AS price";
            for zone in ["UTC", "Asia/Kolkata", "America/St_Johns"] {
                connection.simple_query(&format!("SET timezone = '{zone}'")).await.unwrap();
                for row in [
                    connection.query_one(sql).await.unwrap(),
                    connection.query_params_one(sql, &[]).await.unwrap(),
                ] {
                    assert_eq!((row.parse("yes"), row.parse("no")), (Ok(true), Ok(false)));
                    assert_eq!(row.optional::<bool>("unknown"), Ok(None));
                    assert!(row.parse::<bool>("unknown").is_err() && row.parse::<bool>("word").is_err());
                    assert_eq!((row.parse("small"), row.parse("medium")), (Ok(i16::MIN), Ok(i32::MAX)));
                    assert_eq!((row.parse("large"), row.parse("oid")), (Ok(i64::MIN), Ok(u32::MAX)));
                    assert!(row.parse::<i32>("large").is_err() && row.parse::<i32>("tenth").is_err());
                    assert!(row.parse::<f64>("nan").unwrap().is_nan());
                    assert_eq!(
                        (row.parse("low"), row.parse("high")),
                        (Ok(f64::NEG_INFINITY), Ok(f32::INFINITY))
                    );
                    assert_eq!((row.parse("tenth"), row.parse("price")), (Ok(0.1), Ok(1.5)));
                    assert_eq!(
                        (row.text("text"), row.parse("text")),
                        (Ok("a text"), Ok("a text".to_string()))
                    );
                    assert_eq!(row.parse("lsn"), Ok(Lsn::new(0x16_B374_D848)));
                    let moment: PgTimestamp = row.parse("moment").unwrap();
                    assert_eq!(moment.to_string(), "2026-11-22T08:50:11.500000Z", "{zone}");
                    assert_eq!(row.parse("address"), Ok(core::net::Ipv4Addr::new(10, 0, 0, 7)));
                }
            }
            for form in ["hex", "escape"] {
                connection.simple_query(&format!("SET bytea_output = '{form}'")).await.unwrap();
                let sql = r"SELECT '\x00ff5c41'::bytea AS bytes, ''::bytea AS empty, NULL::bytea AS nothing, 1 AS one";
                let row = connection.query_one(sql).await.unwrap();
                assert_eq!(row.bytea("bytes"), Ok(b"\x00\xff\\A".to_vec()), "{form}");
                assert_eq!((row.bytea("empty"), row.optional_bytea("nothing")), (Ok(Vec::new()), Ok(None)));
                assert!(row.bytea("nothing").is_err() && row.bytea("no such").is_err());
            }
        });
    });
}

#[test]
fn a_result_tells_how_many_rows_and_what_its_columns_are() {
    servers::for_each(|server| {
        let cluster = Cluster::builder(server).start();
        block_on(async {
            let mut connection = connect(&cluster.conninfo("postgres")).await;
            let merge = "MERGE INTO t USING (VALUES (2)) AS v (i) ON t.i = v.i WHEN MATCHED THEN DELETE";
            let merge = if server.major >= 15 { merge } else { "DELETE FROM t WHERE i = 2" };
            let sql = format!(
                "CREATE TABLE t (i int, n numeric(7,3), b bool);
                 INSERT INTO t SELECT i, i, true FROM generate_series(1, 5) AS i;
                 UPDATE t SET n = n + 1 WHERE i > 2; DELETE FROM t WHERE i = 1; {merge};
                 BEGIN; DECLARE c CURSOR FOR TABLE t; FETCH 2 FROM c; MOVE ALL IN c; COMMIT;
                 COPY t TO STDOUT; SELECT 1 WHERE false; CREATE TABLE u AS TABLE t; SHOW server_version;;
                 TRUNCATE t"
            );
            let sets = connection.simple_query(&sql).await.unwrap();
            let rows: Vec<_> = sets.iter().map(|set| set.affected_rows()).collect();
            let expected = [
                None,
                Some(5),
                Some(3),
                Some(1),
                Some(1),
                None,
                None,
                Some(2),
                Some(1),
                None,
                Some(3),
                Some(0),
                Some(3),
                None,
                None,
            ];
            assert_eq!(rows, expected, "{:?}", sets.iter().map(|set| set.tag()).collect::<Vec<_>>());
            let set = connection.query_params("INSERT INTO t VALUES ($1, 1)", &[Some("7")]).await.unwrap();
            assert_eq!(set.affected_rows(), Some(1));

            let oid = connection.query_one("SELECT 't'::regclass::oid").await.unwrap().parse(0);
            let set = &connection.simple_query("SELECT i, n, b, 1::int8 AS own FROM t").await.unwrap()[0];
            let types: Vec<_> =
                set.columns().iter().map(|column| (column.type_oid, column.type_modifier)).collect();
            assert_eq!(types, [(23, -1), (1700, (7 << 16 | 3) + 4), (16, -1), (20, -1)]);
            let column = set.column("n").unwrap();
            assert_eq!((Ok(column.table_oid), column.attribute, column.format), (oid, 2, Format::Text));
            assert_eq!(set.column("own").unwrap().table_oid, 0);
            assert!(set.column("N").is_err());
            let mut query = connection.query("SELECT i FROM t; SELECT true").await.unwrap();
            let mut seen = Vec::new();
            while let Some(event) = query.next().await.unwrap() {
                if let QueryEvent::Row(row) = event {
                    seen.push(row.column(0).unwrap().type_oid);
                }
                seen.extend(query.columns().iter().map(|column| column.type_oid));
            }
            assert_eq!(seen, [23, 23, 23, 16, 16, 16]);
        });
    });
}

#[test]
fn one_row_is_given_and_no_other_number() {
    let cluster = Cluster::builder(&servers::packaged()).start();
    block_on(async {
        let conninfo = cluster.conninfo("postgres");
        let mut connection = Connection::connect_str(&conninfo).await.unwrap();
        connection.simple_query("CREATE TABLE t (i int)").await.unwrap();
        let prepared = connection.prepare("SELECT i FROM generate_series(1, $1::int) AS i").await.unwrap();
        for rows in ["0", "1", "2", "3000"] {
            let sql = format!("SELECT i FROM generate_series(1, {rows}) AS i");
            let params = [Some(rows)];
            let with_params = "SELECT i FROM generate_series(1, $1::int) AS i";
            let optional = [
                connection.query_opt(&sql).await,
                connection.query_params_opt(with_params, &params).await,
                connection.query_prepared_opt(&prepared, &params).await,
            ];
            let one = [
                connection.query_one(&sql).await,
                connection.query_params_one(with_params, &params).await,
                connection.query_prepared_one(&prepared, &params).await,
            ];
            for (optional, one) in optional.into_iter().zip(one) {
                match (rows, optional, one) {
                    ("0", Ok(None), Err(Error::NoRow)) => {}
                    ("1", Ok(Some(row)), Ok(same)) => {
                        assert_eq!(row, same);
                        assert_eq!((row.parse("i"), row.len()), (Ok(1), 1));
                    }
                    (_, Err(error @ Error::ManyRows(n)), Err(Error::ManyRows(m))) => {
                        assert_eq!((n.to_string(), m), (rows.to_string(), n));
                        assert!(!error.is_connection_lost());
                    }
                    other => panic!("{other:?}"),
                }
                assert_eq!(connection.query_one("SELECT 7").await.unwrap().parse(0), Ok(7));
            }
        }
        // The statement has run all the same.
        let twice = connection.query_one("INSERT INTO t VALUES (1), (2) RETURNING i").await;
        assert!(matches!(twice, Err(Error::ManyRows(2))), "{twice:?}");
        assert!(matches!(connection.query_one("INSERT INTO t VALUES (3)").await, Err(Error::NoRow)));
        assert_eq!(connection.query_one("SELECT count(*) FROM t").await.unwrap().parse(0), Ok(3));
        // An error after the second row is the statement's error.
        let failed = connection.query_one("SELECT 1 / (3 - i) FROM generate_series(1, 5) AS i").await;
        assert_eq!(failed.unwrap_err().sqlstate().unwrap().to_string(), "22012");
        assert_eq!(connection.query_one("SELECT 1; SELECT 2 WHERE false").await.unwrap().parse(0), Ok(1));
    });
}

#[test]
fn a_connection_string_is_all_that_a_connection_needs() {
    let cluster = Cluster::builder(&servers::packaged()).start();
    block_on(async {
        let uri = format!("postgres://postgres@{}:{}/postgres", cluster.host(), cluster.port());
        let with_password = |uri: &str| match cluster.conninfo("postgres").split_once("password=") {
            Some((_, password)) => format!("{uri}?password={}", password.split(' ').next().unwrap()),
            None => uri.to_string(),
        };
        for conninfo in [cluster.conninfo("postgres"), with_password(&uri)] {
            let mut connection = Connection::connect_str(&conninfo).await.unwrap();
            assert_eq!(connection.query_one("SELECT true").await.unwrap().parse(0), Ok(true));
        }
        for wrong in ["postgres://db1:x/", "no_such_keyword=1", "host=a port=x", "service=no-such"] {
            let error = Connection::connect_str(wrong).await.unwrap_err();
            assert!(matches!(error, Error::ConnInfo(_) | Error::Connect(_)), "{wrong}: {error:?}");
        }
        let plain = ReplicationConnection::connect_str(&cluster.conninfo("postgres")).await;
        assert!(matches!(plain, Err(Error::Usage(_))), "{plain:?}");
        let conninfo = format!("{} replication=true", cluster.conninfo("repl"));
        let mut connection = ReplicationConnection::connect_str(&conninfo).await.unwrap();
        assert!(connection.identify_system().await.is_ok());
    });
}
