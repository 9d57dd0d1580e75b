//! Names that are not UTF-8: of roles, databases and paths in a database without an encoding (SQL_ASCII).
#![cfg(feature = "cli")]

mod support;

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;

use serde_json::Value;
use support::{Cluster, Program, json, servers};

/// Statements of psql whose bytes are those of Latin-1.
fn latin1(cluster: &Cluster, database: &str, sql: &str) {
    let bytes: Vec<u8> = sql.chars().map(|c| u8::try_from(u32::from(c)).expect("Latin-1")).collect();
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), bytes).unwrap();
    let mut psql = std::process::Command::new(servers::packaged().bin.join("psql"));
    let conninfo = format!("{} dbname={database}", cluster.conninfo("postgres"));
    let conninfo: Vec<u8> = conninfo.chars().map(|c| u8::try_from(u32::from(c)).expect("Latin-1")).collect();
    let output = psql
        .args(["-XAtqw", "-v", "ON_ERROR_STOP=1", "-f"])
        .arg(file.path())
        .arg("-d")
        .arg(OsStr::from_bytes(&conninfo))
        .env("PGCLIENTENCODING", "SQL_ASCII")
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
}

/// The document of a command, with this `PGCLIENTENCODING`.
fn run(cluster: &Cluster, database: &str, encoding: &str, args: &[&str]) -> Value {
    let conninfo = format!("{} dbname={database}", cluster.conninfo("postgres"));
    let (command, options) = args.split_at(if args[0] == "slot" { 2 } else { 1 });
    let program = Program::tapster().env("PGCLIENTENCODING", encoding);
    let output = program.args(command).args(&[conninfo.as_str(), "--json"]).args(options).run();
    assert_eq!(output.status.code(), Some(0), "{database} {encoding} {args:?}: {output:?}");
    json(core::str::from_utf8(&output.stdout).unwrap().trim_end())
}

#[test]
fn names_of_any_bytes_stop_nothing_and_stay_as_they_are() {
    let cluster = Cluster::builder(&servers::packaged()).setting("wal_level", "logical").start();
    let place = cluster.socket_dir().join(OsStr::from_bytes(b"caf\xe9 \\"));
    fs::create_dir(&place).unwrap();
    servers::give_to_server_user(&place);
    let location = place.parent().unwrap().display().to_string() + "/caf\u{e9} \\";
    for (database, encoding) in [("bare", "SQL_ASCII"), ("latin", "LATIN1")] {
        let encoding = format!("ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0");
        cluster.sql(&format!("CREATE DATABASE {database} {encoding}")).unwrap();
    }
    for sql in [
        "CREATE ROLE \"r\u{e9}pl\" SUPERUSER LOGIN",
        "CREATE DATABASE \"d\u{e9}p\" ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0",
        &format!("CREATE TABLESPACE \"sp\u{e9}c\" LOCATION '{location}'"),
        "ALTER ROLE postgres SET role TO \"r\u{e9}pl\"",
    ] {
        latin1(&cluster, "bare", sql);
    }
    latin1(&cluster, "d\u{e9}p", "SELECT pg_create_logical_replication_slot('decoding', 'test_decoding')");
    let mut seen = Vec::new();
    for database in ["postgres", "bare", "latin"] {
        for encoding in ["", "UTF8"] {
            let status = run(&cluster, database, encoding, &["status"]);
            assert_eq!(status["postgres"]["errors"], Value::Null, "{database}: {status}");
            assert_eq!(run(&cluster, database, encoding, &["check"])["ok"], true);
            let slots = run(&cluster, database, encoding, &["slot", "ls"]);
            let show = run(&cluster, database, encoding, &["show", "get_tablespaces"]);
            let tablespace = &show["members"]["get_tablespaces"][0];
            seen.push((
                database,
                encoding,
                slots["slots"][0]["database"].clone(),
                tablespace["name"].clone(),
            ));

            let copy = tempfile::tempdir().unwrap();
            let directory = copy.path().to_str().unwrap();
            let label = "caf\u{e9} \\";
            let backup = ["low-level-backup", "-l", label, "--fast", "-D", directory, "--", "true"];
            run(&cluster, database, encoding, &backup);
            let map = fs::read(copy.path().join("tablespace_map")).unwrap();
            let oid = tablespace["oid"].to_string();
            // The server doubles a backslash in the map itself.
            let path = [place.parent().unwrap().as_os_str().as_bytes(), b"/caf\xe9 \\\\\n"].concat();
            let expected = [oid.as_bytes(), b" ", &path].concat();
            assert_eq!(map.escape_ascii().to_string(), expected.escape_ascii().to_string(), "{database}");
            assert!(fs::read(copy.path().join("backup_label")).unwrap().starts_with(b"START WAL LOCATION: "));
        }
    }
    // Where the encoding of the database says what the bytes are, and of the client, they are converted.
    for (database, encoding, slot, tablespace) in seen {
        let (slot_database, name) = match (database, encoding) {
            ("latin", "UTF8") => ("d\u{e9}p", "sp\u{e9}c"),
            _ => ("d\\xe9p", "sp\\xe9c"),
        };
        assert_eq!((&slot, &tablespace), (&slot_database.into(), &name.into()), "{database} {encoding}");
    }
}

#[test]
fn a_path_that_is_not_utf8_is_told_with_its_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let archive = dir.path().join(OsStr::from_bytes(b"wal\xe9"));
    fs::create_dir(&archive).unwrap();
    fs::write(archive.join(OsStr::from_bytes(b"x\xff")), "").unwrap();
    let output = Program::tapster().args(&["wal", "ls", "--json"]).args(&[archive.as_os_str()]).run();
    let listed = json(core::str::from_utf8(&output.stdout).unwrap().trim_end());
    assert!(listed["directory"].as_str().unwrap().ends_with("/wal\\xe9"), "{listed}");
    assert_eq!(listed["others"], serde_json::json!(["x\\xff"]));
}
