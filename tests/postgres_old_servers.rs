//! Servers too old to run here, played by a script: the statements that they get, and how their answers are
//! read.

#![cfg(feature = "postgres")]

mod support;

use std::io::{self, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use support::client::block_on;
use tapster::conninfo::{ConnInfo, Environment};
use tapster::postgres::{
    ClientType, ConnectionOptions, PostgreSQL, PostgreSQLConnection, PostgresError, StreamingConnection,
};

/// The answer to a statement: names of columns, and rows of text.
type Answer = (Vec<&'static str>, Vec<Vec<Option<&'static str>>>);

/// A server of some version that answers as the script says, and records the statements that it gets.
struct OldServer {
    port: u16,
    asked: Arc<Mutex<Vec<String>>>,
}

impl OldServer {
    fn start(version: &'static str, script: fn(&str) -> Answer) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let record = Arc::clone(&asked);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                // A client may close its connection, which ends the session and is no failure.
                drop(serve(client, version, script, &record));
            }
        });
        Self { port, asked }
    }

    fn conninfo(&self) -> ConnInfo {
        format!("host=127.0.0.1 port={} user=u dbname=d sslmode=disable", self.port).parse().unwrap()
    }

    fn connection(&self) -> PostgreSQLConnection {
        let mut options = ConnectionOptions::default();
        options.environment = Environment::empty();
        PostgreSQLConnection::with_options(self.conninfo(), options).unwrap()
    }

    /// The last statement that the server got.
    fn asked(&self) -> String {
        self.asked.lock().unwrap().last().cloned().unwrap_or_default()
    }
}

fn serve(
    mut client: TcpStream,
    version: &str,
    script: fn(&str) -> Answer,
    asked: &Mutex<Vec<String>>,
) -> io::Result<()> {
    read_body(&mut client)?;
    let setting = [b"server_version\0", version.as_bytes(), b"\0"].concat();
    let greeting = [frame(b'R', &[0; 4]), frame(b'S', &setting), frame(b'Z', b"I")];
    client.write_all(&greeting.concat())?;
    loop {
        let mut tag = [0];
        client.read_exact(&mut tag)?;
        let body = read_body(&mut client)?;
        match tag[0] {
            // Parse: a name, empty, and the statement.
            b'P' => asked.lock().unwrap().push(text(&body[1..])),
            b'Q' => {
                asked.lock().unwrap().push(text(&body));
                client.write_all(&answer(script(&text(&body))))?;
            }
            b'S' => {
                let sql = asked.lock().unwrap().last().cloned().unwrap_or_default();
                client.write_all(&[frame(b'1', b""), frame(b'2', b""), answer(script(&sql))].concat())?;
            }
            b'X' => return Ok(()),
            _ => {}
        }
    }
}

fn read_body(client: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    client.read_exact(&mut length)?;
    let mut body = vec![0; usize::try_from(u32::from_be_bytes(length)).unwrap() - 4];
    client.read_exact(&mut body)?;
    Ok(body)
}

/// The text up to the first zero byte.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes.split(|byte| *byte == 0).next().unwrap_or_default()).into_owned()
}

fn frame(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
    [&[tag][..], &length, body].concat()
}

fn answer((columns, rows): Answer) -> Vec<u8> {
    let count = |n: usize| u16::try_from(n).unwrap().to_be_bytes();
    let mut description = count(columns.len()).to_vec();
    for name in &columns {
        description.extend([name.as_bytes(), &[0; 19]].concat());
    }
    let mut out = frame(b'T', &description);
    for row in &rows {
        let mut values = count(row.len()).to_vec();
        for value in row {
            match value {
                Some(value) => {
                    values.extend(u32::try_from(value.len()).unwrap().to_be_bytes());
                    values.extend(value.as_bytes());
                }
                None => values.extend([0xff; 4]),
            }
        }
        out.extend(frame(b'D', &values));
    }
    out.extend(frame(b'C', b"SELECT\0"));
    out.extend(frame(b'Z', b"I"));
    out
}

fn of_9_6(sql: &str) -> Answer {
    const MOMENT: Option<&str> = Some("2016-09-29T12:00:00.000000Z");
    if sql.contains("pg_switch_xlog") {
        let row =
            vec![Some("t"), Some("f"), Some("000000010000000000000001"), Some("000000010000000000000002")];
        return (vec!["allowed", "recovers", "before", "after"], vec![row]);
    }
    if sql.contains("pg_start_backup") {
        let row = vec![Some("0/2000028"), Some("1"), MOMENT, MOMENT];
        return (vec!["location", "timeline", "timestamp", "finished"], vec![row]);
    }
    if sql.contains("AS pair") {
        let rows = [("is_in_recovery", "false"), ("wal_keep_segments", "0"), ("current_lsn", "0/2000100")];
        return (vec!["key", "value"], rows.map(|(key, value)| vec![Some(key), Some(value)]).into());
    }
    if sql.contains("pg_stat_replication") {
        return (vec!["allowed", "pid"], vec![vec![Some("t"), None]]);
    }
    (vec!["value"], vec![vec![Some("false")]])
}

#[test]
fn statements_to_a_9_6_server_use_its_own_names() {
    let server = OldServer::start("9.6.24", of_9_6);
    block_on(async {
        let postgres = server.connection();
        assert_eq!(postgres.server_txt_version().await.unwrap(), "9.6.24");
        assert_eq!(postgres.server_major_version().await.unwrap(), "9.6");
        assert!(postgres.is_minimal_postgres_version().await.unwrap());

        assert_eq!(postgres.switch_wal().await.unwrap().as_deref(), Some("000000010000000000000001"));
        let switch = server.asked();
        for name in ["pg_current_xlog_insert_location()", "pg_xlogfile_name("] {
            assert!(switch.contains(name), "{switch}");
        }
        postgres.start_concurrent_backup("old").await.unwrap();
        let start = server.asked();
        assert!(
            start.contains("pg_start_backup($1::pg_catalog.text, $2::pg_catalog.bool, false)"),
            "{start}"
        );
        assert!(!start.contains("idle_session_timeout"), "{start}");
        postgres.stop_concurrent_backup().await.unwrap_err();
        let stop = server.asked();
        assert!(stop.contains("pg_catalog.pg_stop_backup(false) AS stop"), "{stop}");
        postgres.start_exclusive_backup("old").await.unwrap_err();
        let start = server.asked();
        assert!(
            start.contains("pg_catalog.pg_start_backup($1::pg_catalog.text, $2::pg_catalog.bool)"),
            "{start}"
        );
        assert!(start.contains("pg_catalog.pg_xlogfile_name_offset("), "{start}");
        postgres.current_xlog_info().await.unwrap_err();
        let position = server.asked();
        for name in ["pg_current_xlog_location()", "pg_last_xlog_replay_location()", "pg_xlogfile_name("] {
            assert!(position.contains(name), "{position}");
        }
        postgres.xlog_segment_size().await.unwrap_err();
        assert!(server.asked().contains("wal_block_size"), "a 9.6 server counts segments in blocks");
        assert!(!postgres.has_checkpoint_privileges().await.unwrap());
        assert!(!server.asked().contains("pg_checkpoint"), "only a superuser may");
        let status = postgres.fetch_remote_status().await;
        assert_eq!((status.version_supported, status.is_in_recovery), (Some(true), Some(false)));
        assert_eq!((status.wal_keep_segments.as_deref(), status.wal_keep_size), (Some("0"), None));
        assert!(status.current_lsn.is_some());
        let asked = server.asked();
        // Roles and names that PostgreSQL 10 introduced.
        for newer in ["pg_monitor", "_lsn()", "pg_wal", "wal_keep_size"] {
            assert!(!asked.contains(newer), "{newer}: {asked}");
        }
        assert!(!postgres.has_backup_privileges().await.unwrap());
        assert!(!server.asked().contains("pg_has_role"), "only a superuser may");
        assert_eq!(postgres.get_replication_stats(ClientType::Standby).await.unwrap(), []);
        let asked = server.asked();
        assert!(asked.contains("stat.sent_location AS sent_lsn") && !asked.contains("write_lag"), "{asked}");
        assert!(!postgres.is_superuser().await.unwrap());
    });
}

#[test]
fn a_server_that_is_too_old_is_reported_by_its_version() {
    let nothing: fn(&str) -> Answer = |_| (vec!["key", "value"], Vec::new());
    block_on(async {
        let old = OldServer::start("9.5.25", nothing);
        let status = old.connection().fetch_remote_status().await;
        assert_eq!((status.version_supported, status.connection_error), (Some(false), None));
        let streaming = StreamingConnection::with_environment(&old.conninfo(), Environment::empty()).unwrap();
        let status = streaming.fetch_remote_status().await;
        assert_eq!((status.version_supported, status.streaming_supported), (Some(false), Some(false)));
        assert_eq!(status.streaming, None);

        let slots = OldServer::start("9.3.25", nothing).connection().get_replication_slot("x").await;
        assert!(matches!(slots, Err(PostgresError::UnsupportedFeature("9.4"))), "{slots:?}");
        let names = OldServer::start("9.0.23", nothing).connection().get_synchronous_standby_names().await;
        assert!(matches!(names, Err(PostgresError::UnsupportedFeature("9.1"))), "{names:?}");
    });
}

#[test]
fn an_answer_of_another_shape_is_an_error_and_no_panic() {
    let strange: fn(&str) -> Answer = |_| (vec!["strange"], vec![vec![None]]);
    let server = OldServer::start("18.4", strange);
    block_on(async {
        let postgres = server.connection();
        let class = |error: PostgresError| error.class();
        assert_eq!(postgres.is_in_recovery().await.map_err(class), Err("PostgresException"));
        assert_eq!(postgres.current_xlog_info().await.map_err(class), Err("PostgresException"));
        assert_eq!(postgres.switch_wal().await.map_err(class), Err("PostgresException"));
        assert_eq!(postgres.get_tablespaces().await.map_err(class), Err("PostgresException"));
        assert_eq!(postgres.get_configuration_files().await.map_err(class), Err("PostgresException"));
        assert_eq!(postgres.start_concurrent_backup("x").await.map_err(class), Err("PostgresException"));
        let status = postgres.fetch_remote_status().await;
        assert_eq!((status.connection_error, status.errors.len()), (None, 1));
    });
}
