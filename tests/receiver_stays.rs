//! What ends `tapster receive-wal`, and what it waits for.
#![cfg(feature = "cli")]

mod support;

use core::time::Duration;
use std::fs;

use serde_json::Value;
use support::process::PATIENCE;
use support::program::json;
use support::{Archive, Cluster, servers, tapster};

const SLOT: &str = "tap";

#[test]
fn what_others_mend_while_it_runs_is_waited_for() {
    let cluster = Cluster::builder(&servers::packaged()).start();
    let archive = Archive::new();
    let create = ["-S", SLOT, "--create-slot", "--if-not-exists"];
    let mut receiver = archive.receive(&cluster.conninfo("repl"), &create);
    receiver.wait_for("streaming");
    let hba = cluster.data_dir().join("pg_hba.conf");
    let lines = fs::read_to_string(&hba).expect("the server's file");
    let refuse = || {
        fs::write(&hba, format!("host replication repl all reject\n{lines}")).expect("it is ours");
        cluster.reload();
    };
    let let_in = || {
        fs::write(&hba, &lines).expect("it is ours");
        cluster.reload();
    };
    let no_login = || drop(cluster.sql("ALTER ROLE repl NOLOGIN").unwrap());
    let login = || drop(cluster.sql("ALTER ROLE repl LOGIN").unwrap());
    let no_slot = || {
        let sql = "ALTER ROLE repl NOLOGIN; SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_replication";
        cluster.sql(sql).unwrap();
        cluster.sql("SELECT pg_drop_replication_slot('tap')").unwrap();
        login();
    };
    // It creates the slot itself.
    let slot = || {};
    type Act<'a> = &'a dyn Fn();
    let faults: [(&str, Act<'_>, Act<'_>); 3] = [
        ("pg_hba.conf", &refuse, &let_in),
        ("not permitted to log in", &no_login, &login),
        ("does not exist", &no_slot, &slot),
    ];
    for (words, harm, mend) in faults {
        harm();
        cluster.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_replication").unwrap();
        let told = receiver.wait_for_one("disconnected", |event| has(&event["reason"], words));
        assert!(has(&told["reason"], "hint: "), "{told}");
        mend();
        // It tries at once.
        receiver.signal("HUP");
        receiver.wait_for("streaming");
    }
    receiver.stop("TERM");
}

#[test]
fn a_logical_slot_ends_it_without_advice_to_drop_it() {
    let cluster = Cluster::builder(&servers::packaged()).start();
    cluster.sql("ALTER SYSTEM SET wal_level = 'logical'").unwrap();
    cluster.restart();
    cluster.sql("SELECT pg_create_logical_replication_slot('tap', 'pgoutput')").unwrap();
    let archive = Archive::new();
    // Also a check says so, with and without -S.
    let check = |options: &[&str]| {
        let output =
            tapster(&[&["check", &cluster.conninfo("postgres"), "--for", "receive"], options].concat());
        String::from_utf8(output.stdout).expect("UTF-8")
    };
    let text = check(&["-S", SLOT]);
    assert!(text.contains("tap is a logical slot") && !text.contains("slot create"), "{text}");
    let text = check(&[]);
    assert!(text.contains("logical slot tap keeps ") && text.contains(" for nobody"), "{text}");
    for has_wal in [false, true] {
        if has_wal {
            let end = cluster.position().to_string();
            archive.receive(&cluster.conninfo("repl"), &["--endpos", &end]).stopped_within(PATIENCE);
        }
        let told = refused_in_both(&cluster, &archive);
        assert!(has(&told["message"], "is a logical one"), "{told}");
        assert!(has(&told["hint"], "another slot with -S") && !has(&told["hint"], "drop"), "{told}");
    }
}

#[test]
fn a_lost_slot_and_a_gap_are_refused_by_a_dry_run_too() {
    let cluster = Cluster::builder(&servers::packaged()).start();
    let conninfo = cluster.conninfo("repl");
    let archive = Archive::new();
    let end = cluster.position().to_string();
    let create = ["-S", SLOT, "--create-slot", "--endpos", &end];
    archive.receive(&conninfo, &create).stopped_within(PATIENCE);
    cluster.sql("ALTER SYSTEM SET max_slot_wal_keep_size = '1MB'").unwrap();
    cluster.reload();
    for _ in 0..4 {
        cluster.write_wal(1 << 20);
        cluster.switch_wal();
    }
    cluster.sql("CHECKPOINT").unwrap();
    assert_eq!(cluster.sql("SELECT wal_status FROM pg_replication_slots").as_deref(), Ok("lost"));
    let output = tapster(&["check", &cluster.conninfo("postgres"), "--for", "receive"]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("slot tap is lost"), "{text}");
    refused_in_both(&cluster, &archive);
    let without_slot = dry_run(&cluster, &archive, &[]);
    assert_eq!(without_slot.0, Some(5), "{}", without_slot.1);
    assert!(has(&without_slot.1["error"]["message"], " bytes further"), "{}", without_slot.1);
    let args = ["receive-wal", &conninfo, "-D", archive.path().to_str().expect("ASCII")];
    let output = tapster(&args);
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains(" MiB further"), "people are told a readable size: {text}");
}

#[test]
fn a_server_without_wal_senders_ends_it() {
    let cluster = Cluster::builder(&servers::packaged()).start();
    cluster.sql("ALTER SYSTEM SET max_wal_senders = 0").unwrap();
    cluster.restart();
    let (code, told) =
        Archive::new().receive(&cluster.conninfo("repl"), &[]).end_within(Duration::from_secs(10));
    assert_eq!(code, Some(3), "{told}");
    assert!(has(&told["error"]["hint"], "set max_wal_senders to 10"), "{told}");
}

/// The error, which a dry run and a real run with the slot have in common.
fn refused_in_both(cluster: &Cluster, archive: &Archive) -> Value {
    let (code, dry) = dry_run(cluster, archive, &["-S", SLOT]);
    assert_eq!(code, Some(5), "{dry}");
    let (code, real) = archive.receive(&cluster.conninfo("repl"), &["-S", SLOT]).end_within(PATIENCE);
    assert_eq!(code, Some(5), "{real}");
    assert_eq!(dry["error"]["message"], real["error"]["message"]);
    real["error"].clone()
}

fn dry_run(cluster: &Cluster, archive: &Archive, options: &[&str]) -> (Option<i32>, Value) {
    let (conninfo, directory) = (cluster.conninfo("repl"), archive.path().to_str().expect("ASCII"));
    let args = ["receive-wal", &conninfo, "-D", directory, "--dry-run", "--json"];
    let output = tapster(&[&args, options].concat());
    let text = String::from_utf8(output.stdout).expect("JSON");
    (output.status.code(), text.lines().last().map_or(Value::Null, json))
}

fn has(text: &Value, words: &str) -> bool {
    text.as_str().is_some_and(|text| text.contains(words))
}
