//! Barman itself beside `tapster`, on the same servers. It has to be installed somewhere:
//!
//! ```sh
//! python3 -m venv venv && venv/bin/pip install barman psycopg2-binary
//! TAPSTER_BARMAN_PYTHON=$PWD/venv/bin/python cargo test --test barman_side_by_side -- --ignored --nocapture
//! ```

#![cfg(feature = "cli")]

mod support;

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;
use support::{Cluster, Program, Server, servers};
use tapster::postgres::{backup_privileges, checkpoint_privileges};
use tapster::types::ServerVersion;

/// What is different on purpose; `docs/barman.md` has the reasons.
const ON_PURPOSE: [&str; 5] = [
    // Barman has no such key in the status of the ordinary connection.
    "fetch_remote_status.connection_error",
    // An empty setting is one empty name for Barman.
    "get_synchronous_standby_names",
    "fetch_remote_status.synchronous_standby_names",
    // The role is new in 15; Barman fails to look for it on 14.
    "has_checkpoint_privileges",
    // The same refusal, with its SQLSTATE.
    "streaming.fetch_remote_status.connection_error",
];

/// What moves on while it is looked at.
const MOVING: [&str; 12] = [
    "timestamp",
    "location",
    "file_offset",
    "current_xlog_location",
    "current_lsn",
    "xlogpos",
    "current_archived_wals_per_second",
    "sent_lsn",
    "write_lsn",
    "flush_lsn",
    "replay_lsn",
    "reply_time",
];

fn barman(mode: &str, dsn: &str, slot: &str) -> Value {
    let python = std::env::var("TAPSTER_BARMAN_PYTHON").expect("the header of this file says how to set it");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/barman/members.py");
    let program = Program::new(Path::new(&python)).args(&[&script]).args(&[mode, dsn, slot]);
    let output = program.run();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn tapster(command: &[&str], dsn: &str, slot: &str) -> Value {
    let slot: &[&str] = if slot.is_empty() { &[] } else { &["-S", slot] };
    let output = Program::tapster().args(command).args(&["--json", "-d", dsn]).args(slot).run();
    serde_json::from_slice(&output.stdout).unwrap()
}

fn primary(server: &Server) -> Cluster {
    let builder =
        Cluster::builder(server).archive().setting("log_statement", "all").setting("autovacuum", "off");
    let cluster = builder.setting("timezone", "Asia/Kolkata").setting("datestyle", "German, DMY").start();
    let version = ServerVersion::release(server.major.try_into().unwrap());
    let mut roles = String::from("CREATE ROLE backup LOGIN REPLICATION; CREATE ROLE nobody LOGIN;");
    for privilege in backup_privileges(version).iter().chain(&checkpoint_privileges(version)) {
        roles.push_str(&format!("{} backup;", privilege.grant));
    }
    cluster.sql(&roles).unwrap();
    cluster
}

fn dsn(cluster: &Cluster, role: &str) -> String {
    format!("host={} port={} user={role} dbname=postgres", cluster.host(), cluster.port())
}

/// The paths at which two documents differ, with both values.
fn differences(path: &str, theirs: &Value, ours: &Value, found: &mut BTreeMap<String, String>) {
    match (theirs, ours) {
        (Value::Object(theirs), Value::Object(ours)) => {
            for key in theirs.keys().chain(ours.keys()) {
                let missing = Value::from("(no such key)");
                let (their, our) = (theirs.get(key).unwrap_or(&missing), ours.get(key).unwrap_or(&missing));
                differences(&format!("{path}.{key}"), their, our, found);
            }
        }
        (Value::Array(theirs), Value::Array(ours)) if theirs.len() == ours.len() => {
            theirs.iter().zip(ours).for_each(|(their, our)| differences(path, their, our, found));
        }
        _ if theirs == ours => {}
        _ if is_moving(path, theirs, ours) => {}
        _ => drop(found.insert(path.trim_start_matches('.').into(), format!("{theirs} | {ours}"))),
    }
}

/// Both have it, or it comes and goes.
fn is_moving(path: &str, theirs: &Value, ours: &Value) -> bool {
    let key = path.rsplit('.').next().unwrap_or_default();
    let is_same_kind = core::mem::discriminant(theirs) == core::mem::discriminant(ours);
    key.ends_with("_lag") || (is_same_kind && MOVING.contains(&key))
}

#[test]
#[ignore = "needs an installed Barman: see the header"]
fn what_barman_says_tapster_says() {
    servers::for_each(|server| {
        let primary = primary(server);
        let standby = primary.standby();
        primary.sql("SELECT pg_create_physical_replication_slot('there', true)").unwrap();
        primary.sql("ALTER SYSTEM SET wal_compression = on; SELECT pg_reload_conf()").unwrap();
        primary.write_wal(1000);
        primary.switch_wal();
        // Away from the boundary, where the next record of the server's own would be in another segment.
        primary.write_wal(1000);
        primary.sql("CHECKPOINT").unwrap();
        standby.wait_for_replay_of(&primary);
        let mut compared = 0;
        for cluster in [&primary, &standby] {
            for (role, slot) in
                [("postgres", "there"), ("postgres", ""), ("backup", "none"), ("nobody", "there")]
            {
                let dsn = dsn(cluster, role);
                let theirs = barman("values", &dsn, slot);
                let ours = tapster(&["show", "--all"], &dsn, slot);
                let status = tapster(&["status"], &dsn, slot);
                let mut found = BTreeMap::new();
                differences("", &theirs["members"], &ours["members"], &mut found);
                for (member, part) in
                    [("fetch_remote_status", "postgres"), ("streaming.fetch_remote_status", "streaming")]
                {
                    differences(member, &theirs["members"][member], &status[part], &mut found);
                }
                for (member, class) in theirs["errors"].as_object().unwrap() {
                    let path = format!("{member}.error");
                    differences(&path, class, &ours["errors"][member]["class"], &mut found);
                }
                found.retain(|path, _| !ON_PURPOSE.contains(&path.as_str()));
                assert!(found.is_empty(), "PostgreSQL {}, {role}: {found:#?}", server.major);
                compared += theirs["members"].as_object().unwrap().len();
            }
        }
        println!("PostgreSQL {}: {compared} members compared", server.major);
    });
}

#[test]
#[ignore = "needs an installed Barman: see the header"]
fn what_takes_barman_many_statements_takes_one() {
    servers::for_each(|server| {
        let cluster = primary(server);
        cluster.sql("SELECT pg_create_physical_replication_slot('there', true)").unwrap();
        let dsn = dsn(&cluster, "postgres");
        let before = cluster.log().len();
        barman("counts", &dsn, "there");
        let log = cluster.log();
        let statements: Vec<&str> =
            log[before..].lines().filter_map(|line| Some(line.split_once("LOG:  statement: ")?.1)).collect();
        let mut table = format!("PostgreSQL {}: statements of Barman, and of tapster\n", server.major);
        for (at, statement) in statements.iter().enumerate() {
            let Some(member) = statement.strip_prefix("SELECT 'next: ") else { continue };
            let member = member.trim_end_matches('\'');
            let theirs =
                statements[at + 1..].iter().take_while(|statement| **statement != "SELECT 'done'").count();
            let before = cluster.log().len();
            // What acts is counted elsewhere: a_member_runs_one_statement_and_the_version_none.
            if tapster(&["show", member], &dsn, "there")["ok"] == false {
                table.push_str(&format!("  {member:<32} {theirs:>3}   1\n"));
                continue;
            }
            let log = cluster.log();
            let is_statement =
                |line: &&str| line.contains("LOG:  statement: ") || line.contains("LOG:  execute ");
            let ours = log[before..].lines().filter(is_statement).count();
            table.push_str(&format!("  {member:<32} {theirs:>3} {ours:>3}\n"));
            assert!(ours <= 1, "{member}: {ours}");
        }
        println!("{table}");
    });
}
