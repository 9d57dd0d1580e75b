//! The commands of the program that use the classes of `tapster::postgres`, as a user runs them.

#![cfg(feature = "cli")]

mod support;

use core::time::Duration;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::Output;
use std::sync::mpsc;
use std::thread;
use std::time::Instant;

use serde_json::Value;
use support::process::{PATIENCE, is_alive, wait_for_death};
use support::program::RunningProgram;
use support::proxy::Proxy;
use support::{Archive, Auth, Cluster, Program, Server, servers, wait_until};

fn primary(server: &Server) -> Cluster {
    let cluster = Cluster::builder(server).archive().start();
    cluster.sql("CREATE ROLE nobody LOGIN").unwrap();
    cluster
}

fn tapster(cluster: &Cluster, role: &str, args: &[&str]) -> Output {
    let port = cluster.port().to_string();
    let program = Program::tapster().args(args).args(&["-H", cluster.host(), "-p", &port, "-U", role]);
    program.args(&["-w", "-d", "dbname=postgres"]).run()
}

fn stdout(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap().trim_end().to_string()
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

/// The keys of `fetch_remote_status` on success, with `wal_keep` for the key whose name depends on the
/// version.
const STATUS_KEYS: [&str; 28] = [
    "archive_timeout",
    "checkpoint_timeout",
    "config_file",
    "connection_error",
    "current_lsn",
    "current_size",
    "current_xlog",
    "data_checksums",
    "data_directory",
    "has_backup_privileges",
    "has_monitoring_privileges",
    "hba_file",
    "hot_standby",
    "ident_file",
    "is_in_recovery",
    "is_superuser",
    "max_replication_slots",
    "max_wal_senders",
    "postgres_systemid",
    "replication_slot",
    "replication_slot_support",
    "server_txt_version",
    "synchronous_standby_names",
    "version_supported",
    "wal_compression",
    "wal_keep",
    "wal_level",
    "xlog_segment_size",
];

#[test]
fn status_has_the_keys_of_both_classes() {
    servers::for_each(|server| {
        let primary = primary(server);
        let standby = primary.standby();
        standby.wait_for_replay_of(&primary);
        for cluster in [&primary, &standby] {
            let document = json(&tapster(cluster, "postgres", &["status", "--json"]));
            let keys = document["postgres"].as_object().unwrap().keys();
            let mut keys: Vec<&str> =
                keys.map(|key| if key.starts_with("wal_keep_") { "wal_keep" } else { key }).collect();
            keys.sort_unstable();
            assert_eq!(keys, STATUS_KEYS);
            let streaming = &document["streaming"];
            assert_eq!(streaming["streaming_systemid"], document["postgres"]["postgres_systemid"]);
            assert_eq!((&streaming["streaming"], &streaming["timeline"]), (&true.into(), &1.into()));
            assert_eq!(document["postgres"]["max_wal_senders"], "10");
            assert_eq!(
                document["wal_senders"].as_array().unwrap().len(),
                usize::from(cluster.port() == primary.port())
            );

            let text = stdout(&tapster(cluster, "nobody", &["status"]));
            let role = if cluster.port() == primary.port() { ", primary, " } else { ", standby, " };
            assert!(text.contains(&format!("PostgreSQL {}.", server.major)) && text.contains(role), "{text}");
            assert!(text.contains("replication connections: no: "), "{text}");
            assert!(text.contains("no replication slots"), "{text}");
        }
    });
}

#[test]
fn the_status_of_an_unreachable_server_is_a_document_and_exit_code_3() {
    let output = Program::tapster().args(&["status", "--json", "host=127.0.0.1 port=1 user=u"]).run();
    assert_eq!(output.status.code(), Some(3));
    let document = json(&output);
    assert_eq!(document["ok"], false);
    assert!(document["error"]["message"].as_str().unwrap().contains("Connection refused"));
    assert!(document["postgres"]["connection_error"].as_str().unwrap().contains("Connection refused"));
    assert_eq!(document["postgres"].as_object().unwrap().len(), 11);
    assert!(document["streaming"]["connection_error"].as_str().unwrap().contains("Connection refused"));
}

#[test]
fn a_mistake_in_the_parameters_is_no_status_of_a_server() {
    let output = Program::tapster().args(&["status", "--json", "service=nonesuch"]).run();
    assert_eq!(output.status.code(), Some(2));
    let document = json(&output);
    assert_eq!(
        (&document["schema"], &document["error"]["kind"]),
        (&"tapster.error/1".into(), &"usage".into())
    );
    assert!(document.get("postgres").is_none(), "no server was asked");
}

#[test]
fn show_has_every_member() {
    servers::for_each(|server| {
        let cluster = primary(server);
        let output = tapster(&cluster, "postgres", &["show", "--all", "--json"]);
        let document = json(&output);
        assert_eq!((&document["errors"], output.status.code()), (&Value::Null, Some(0)));
        let members = document["members"].as_object().unwrap();
        let help = stdout(&Program::tapster().args(&["show", "--help"]).run());
        for member in members.keys() {
            assert!(help.contains(member.as_str()), "{member}");
        }
        assert_eq!(members["is_superuser"], true);
        assert_eq!(members["xlog_segment_size"], cluster.segment_size());
        assert_eq!(members["get_replication_stats"], Value::Array(Vec::new()));
        assert!(members["current_xlog_info"]["timestamp"].as_str().unwrap().ends_with('Z'));
        let size = stdout(&tapster(&cluster, "postgres", &["show", "get_setting:shared_buffers"]));
        assert_eq!(size, "16MB");
        let all = stdout(&tapster(&cluster, "postgres", &["show", "--all"]));
        assert_eq!(all.lines().count(), members.len(), "{all}");

        let document = json(&tapster(&cluster, "nobody", &["show", "--all", "--json"]));
        assert_eq!(document["members"]["get_replication_stats"], Value::Null);
        assert_eq!(document["errors"]["get_replication_stats"]["class"], "BackupFunctionsAccessRequired");
        let all = stdout(&tapster(&cluster, "nobody", &["show", "--all"]));
        assert_eq!(all.lines().count(), members.len(), "{all}");
        let refused = tapster(&cluster, "nobody", &["show", "get_replication_stats"]);
        assert_eq!(refused.status.code(), Some(4));
        assert_eq!(tapster(&cluster, "nobody", &["show", "no_such"]).status.code(), Some(2));
    });
}

#[test]
fn control_commands_do_what_they_say() {
    servers::for_each(|server| {
        let cluster = primary(server);
        cluster.write_wal(1000);
        let current = cluster.sql("SELECT pg_walfile_name(pg_current_wal_lsn())").unwrap();
        let switched = tapster(&cluster, "postgres", &["switch-wal", "--wait"]);
        assert_eq!(stdout(&switched), current);
        assert!(cluster.archive_dir().join(&current).exists());
        let refused = tapster(&cluster, "nobody", &["switch-wal"]);
        assert_eq!(refused.status.code(), Some(4), "{refused:?}");
        assert!(
            String::from_utf8_lossy(&refused.stderr).contains("GRANT pg_monitor TO nobody;"),
            "{refused:?}"
        );

        let point = stdout(&tapster(&cluster, "postgres", &["restore-point", "a point"]));
        assert!(
            cluster.sql(&format!("SELECT '{point}'::pg_lsn <= pg_current_wal_insert_lsn()")).as_deref()
                == Ok("t")
        );
        assert_eq!(tapster(&cluster, "nobody", &["restore-point", "x"]).status.code(), Some(4));
        assert_eq!(stdout(&tapster(&cluster, "postgres", &["checkpoint"])), "checkpoint done");
        assert_eq!(tapster(&cluster, "nobody", &["checkpoint"]).status.code(), Some(4));
    });
}

#[test]
fn switch_wal_waits_for_the_archive_of_a_receiver() {
    let cluster = Cluster::builder(&servers::packaged()).start();
    let (other, archive) = (Cluster::builder(&servers::packaged()).own_initdb(&[]).start(), Archive::new());
    let directory = archive.path().to_str().unwrap();
    let switch = |cluster: &Cluster, options: &[&str]| {
        cluster.write_wal(1000);
        let output = tapster(cluster, "postgres", &[&["switch-wal"][..], options].concat());
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned(), output)
    };
    // Without archiving there is something else to wait for; and nothing is switched.
    let current = || cluster.sql("SELECT pg_walfile_name(pg_current_wal_lsn())").unwrap();
    let before = current();
    let (code, stderr, _) = switch(&cluster, &["--wait"]);
    assert_eq!(code, Some(2), "{stderr}");
    assert!(stderr.contains("archive_mode is off") && stderr.contains("--wait-for DIR"), "{stderr}");
    assert_eq!(current(), before);

    let (code, stderr, _) = switch(&cluster, &["--wait-for", directory, "--timeout", "1"]);
    assert_eq!(code, Some(1), "{stderr}");
    assert!(stderr.contains("waiting until ") && stderr.contains("is a receiver running?"), "{stderr}");

    for compression in ["none", "gzip"] {
        let mut receiver = archive.receive(
            &cluster.conninfo("repl"),
            &["-S", "tap", "--create-slot", "--if-not-exists", "-Z", compression],
        );
        receiver.wait_for("streaming");
        let (code, stderr, output) = switch(&cluster, &["--wait-for", directory]);
        assert_eq!(code, Some(0), "{stderr}");
        let segment = stdout(&output);
        assert!(archive.names().iter().any(|name| name.starts_with(&segment) && !name.ends_with(".partial")));
        receiver.stop("TERM");
    }
    // Another cluster's archive, and none at all.
    let (code, stderr, _) = switch(&other, &["--wait-for", directory]);
    assert!(code == Some(5) && stderr.contains("system identifier"), "{stderr}");
    let (code, stderr, _) = switch(&cluster, &["--wait-for", "/no/such/archive"]);
    assert!(code == Some(6) && stderr.contains("/no/such/archive"), "{stderr}");
    // An archiver that is not told what to do.
    let idle = Cluster::builder(&servers::packaged()).setting("archive_mode", "on").start();
    let (code, stderr, _) = switch(&idle, &["--wait"]);
    assert!(code == Some(2) && stderr.contains("archive_command is empty"), "{stderr}");
    idle.sql("ALTER SYSTEM SET archive_command = 'false'").unwrap();
    idle.reload();
    let (code, stderr, _) = switch(&idle, &["--wait", "--timeout", "2"]);
    assert!(
        code == Some(1) && stderr.contains("within 2 s") && stderr.contains("waiting until "),
        "{stderr}"
    );
}

/// A low-level backup into `directory`, with `command` as its command.
fn backup_program(cluster: &Cluster, directory: &std::path::Path, more: &[&str], command: &str) -> Program {
    let port = cluster.port().to_string();
    let program = Program::tapster().args(&["low-level-backup", "-H", cluster.host(), "-p", &port]);
    let program =
        program.args(&["-U", "postgres", "-d", "dbname=postgres", "--label", "it's mine", "--fast"]);
    program.args(more).args(&["-D"]).args(&[directory]).args(&["--", "sh", "-c", command])
}

fn backups_under_way(cluster: &Cluster) -> String {
    // The program's sessions: one for each low-level backup that still runs.
    cluster.sql("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'tapster'").unwrap()
}

#[test]
fn a_low_level_backup_can_be_started_as_a_server() {
    servers::for_each(|server| {
        let cluster = Cluster::builder(server).archive().start();
        cluster.sql("CREATE TABLE kept (i int); INSERT INTO kept VALUES (42)").unwrap();
        let copy = tempfile::tempdir().unwrap();
        let directory = copy.path().join("copy");
        std::fs::create_dir(&directory).unwrap();
        let command = format!(
            "cp -a \"$TAPSTER_DATA_DIRECTORY\"/. '{}'; test -n \"$TAPSTER_START_LSN\"",
            directory.display()
        );
        let output = backup_program(&cluster, &directory, &["--json"], &command).run();
        let document = json(&output);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let label = std::fs::read_to_string(directory.join("backup_label")).unwrap();
        assert!(label.contains("LABEL: it's mine"), "{label}");
        let start = document["start_lsn"].as_str().unwrap();
        assert!(label.contains(&format!("{start} (file {}", document["first_segment"].as_str().unwrap())));
        assert!(!directory.join("tablespace_map").exists());
        let last = document["last_segment"].as_str().unwrap();
        assert!(cluster.archive_dir().join(last).exists(), "the stop waits until it is archived");
        assert_eq!(backups_under_way(&cluster), "0");
    });
}

#[test]
fn a_low_level_backup_is_abandoned_when_its_command_fails_or_a_signal_comes() {
    let cluster = Cluster::builder(&servers::packaged()).start();
    let copy = tempfile::tempdir().unwrap();
    let label = copy.path().join("backup_label");
    let failed = backup_program(&cluster, copy.path(), &[], "exit 3").run();
    assert_eq!(failed.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&failed.stderr).contains("exit status: 3"), "{failed:?}");
    assert!(!label.exists());

    for (signal, code) in [("TERM", 143), ("INT", 130)] {
        let mark = copy.path().join(signal);
        let command = format!(
            "trap 'touch {0}.ended; exit' TERM; touch {0}; while :; do sleep 0.05; done",
            mark.display()
        );
        let running = backup_program(&cluster, copy.path(), &[], &command).spawn();
        wait_until(PATIENCE, "the command runs", || mark.exists());
        running.signal(signal);
        assert_eq!(running.wait(PATIENCE).status.code(), Some(code));
        assert!(!label.exists());
        let ended = mark.with_extension("ended");
        wait_until(PATIENCE, "the command was told to end", || ended.exists());
    }
    wait_until(PATIENCE, "the sessions are gone", || backups_under_way(&cluster) == "0");

    // A command that ignores the signal is ended too, and so is its child.
    let mark = copy.path().join("stubborn");
    let command = format!(
        "trap '' TERM; sleep 1000 & echo $! > {0}.tmp; mv {0}.tmp {0}; while :; do sleep 0.1; done",
        mark.display()
    );
    let running = backup_program(&cluster, copy.path(), &[], &command).spawn();
    wait_until(PATIENCE, "the command runs", || mark.exists());
    running.signal("TERM");
    assert_eq!(running.wait(PATIENCE).status.code(), Some(143));
    let started: u32 = std::fs::read_to_string(&mark).unwrap().trim().parse().unwrap();
    wait_for_death(&[started]);

    let mark = copy.path().join("lost");
    let command = format!("echo $$ > {0}.tmp; mv {0}.tmp {0}; exec sleep 60", mark.display());
    let running = backup_program(&cluster, copy.path(), &["--keep-alive", "60"], &command).spawn();
    wait_until(PATIENCE, "the command runs", || mark.exists());
    let killed = Instant::now();
    let kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'tapster'";
    cluster.sql(kill).unwrap();
    let output = running.wait(PATIENCE);
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("the keep-alive lost the connection"),
        "{output:?}"
    );
    assert!(!label.exists());
    assert!(killed.elapsed() < Duration::from_secs(4), "{:?}", killed.elapsed());
    let command: u32 = std::fs::read_to_string(&mark).unwrap().trim().parse().unwrap();
    assert!(!is_alive(command), "the command outlives the session");
}

#[test]
fn a_signal_interrupts_a_low_level_backup_whatever_it_waits_for() {
    let cluster = Cluster::builder(&servers::packaged()).setting("archive_mode", "on").start();
    cluster.sql("CREATE TABLE dirty AS SELECT generate_series(1, 100000)").unwrap();
    let copy = tempfile::tempdir().unwrap();
    let interrupted = |running: RunningProgram| {
        let began = Instant::now();
        running.signal("TERM");
        assert_eq!(running.wait(PATIENCE).status.code(), Some(143));
        assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
        let gone = Duration::from_secs(5);
        wait_until(gone, "the session is gone", || backups_under_way(&cluster) == "0");
    };
    let directory = copy.path().display().to_string();
    let conninfo = cluster.conninfo("postgres");
    let spread = ["low-level-backup", &conninfo, "-l", "spread", "-D", &directory, "--", "true"];
    let runs = |what: &str| {
        let query = format!(
            "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%pg_{what}(%' \
             AND application_name = 'tapster'"
        );
        wait_until(PATIENCE, what, || cluster.sql(&query).as_deref() == Ok("1"));
    };
    // During the start, which waits for a slow checkpoint.
    let running = Program::tapster().args(&spread).spawn();
    runs("backup_start");
    interrupted(running);
    // During the stop, which waits for an archiver that archives nothing.
    let running = backup_program(&cluster, copy.path(), &[], "true").spawn();
    runs("backup_stop");
    interrupted(running);
    // While connecting to a silent server.
    let silent = Proxy::start(cluster.port(), 0);
    let conninfo = format!("host=127.0.0.1 port={} user=u", silent.port());
    let connecting = ["low-level-backup", &conninfo, "-l", "x", "-D", &directory, "--", "true"];
    let running = Program::tapster().args(&connecting).spawn();
    wait_until(PATIENCE, "the program has sent its startup packet", || {
        silent.heard().iter().any(|heard| !heard.is_empty())
    });
    interrupted(running);
}

#[test]
fn a_low_level_backup_replaces_the_files_of_an_earlier_one() {
    servers::for_each(|server| {
        let cluster = Cluster::builder(server).start();
        let copy = tempfile::tempdir().unwrap();
        let map = copy.path().join("tablespace_map");
        let location = cluster.socket_dir().join("over there");
        std::fs::create_dir(&location).unwrap();
        servers::give_to_server_user(&location);
        cluster.sql(&format!("CREATE TABLESPACE mapped LOCATION '{}'", location.display())).unwrap();
        let oid = cluster.sql("SELECT oid FROM pg_tablespace WHERE spcname = 'mapped'").unwrap();
        stdout(&backup_program(&cluster, copy.path(), &[], "true").run());
        let expected = format!("{oid} {}\n", location.display());
        assert_eq!(std::fs::read_to_string(&map).unwrap(), expected);
        cluster.sql("DROP TABLESPACE mapped").unwrap();
        stdout(&backup_program(&cluster, copy.path(), &[], "true").run());
        assert!(!map.exists(), "the map of the earlier backup is still there");
        assert!(copy.path().join("backup_label").exists());
    });
}

#[test]
fn a_low_level_backup_of_a_standby_makes_its_primary_switch_wal() {
    servers::for_each(|server| {
        let primary = primary(server);
        let standby = primary.standby_with(&[("archive_mode", "always")]);
        primary.sql("CHECKPOINT").unwrap();
        standby.wait_for_replay_of(&primary);
        let before = primary.sql("SELECT pg_walfile_name(pg_current_wal_lsn())").unwrap();
        let copy = tempfile::tempdir().unwrap();
        let run = |conninfo: &str| {
            let began = Instant::now();
            let output =
                backup_program(&standby, copy.path(), &["--json", "--primary", conninfo], "true").run();
            (output, began.elapsed())
        };
        let (output, took) = run(&primary.conninfo("postgres"));
        let document: Value = serde_json::from_str(&stdout(&output)).unwrap();
        assert!(took < Duration::from_secs(20), "{took:?}");
        let label = std::fs::read_to_string(copy.path().join("backup_label")).unwrap();
        assert!(label.contains("BACKUP FROM: standby"), "{label}");
        let last = document["last_segment"].as_str().unwrap();
        assert!(standby.archive_dir().join(last).exists(), "{document}");
        let after = primary.sql("SELECT pg_walfile_name(pg_current_wal_lsn())").unwrap();
        assert!(before < after, "nothing was switched");
    });
}

/// A server that is not prepared for replication or backups. It stores passwords in the way that is its
/// version's default, and its `pg_hba.conf` has `line` for the role `Fresh one`.
fn unprepared(server: &Server, line: &str) -> Cluster {
    let auth = if server.major < 14 { Auth::Md5 } else { Auth::Scram };
    let settings = [("wal_level", "minimal"), ("max_wal_senders", "0"), ("max_replication_slots", "0")];
    let builder = Cluster::builder(server).auth(auth);
    let cluster =
        settings.iter().fold(builder, |builder, (name, value)| builder.setting(name, value)).start();
    cluster.sql("CREATE ROLE \"Fresh one\" LOGIN PASSWORD 'a secret'").unwrap();
    cluster.write_file("pg_hba.conf", format!("local all postgres trust\n{line}\n").as_bytes());
    cluster.sql("SELECT pg_reload_conf()").unwrap();
    cluster
}

/// Follows a hint of `check` literally.
fn follow(cluster: &Cluster, hint: &str, restart: &mut bool) {
    if hint.ends_with(';') {
        cluster.sql(hint).unwrap_or_else(|error| panic!("{hint}: {error}"));
    } else if let Some(line) = hint.strip_prefix("at the top of pg_hba.conf: ") {
        let file = cluster.data_dir().join("pg_hba.conf");
        let lines = format!("{line}\n{}", std::fs::read_to_string(file).unwrap());
        cluster.write_file("pg_hba.conf", lines.as_bytes());
    } else {
        assert_eq!(hint, "then restart the server");
        *restart = true;
    }
}

#[test]
fn the_hints_of_check_suffice_to_prepare_a_role_with_the_least_rights() {
    servers::for_each(|server| {
        // If the role is not let in at all, the refusal is the only source of hints, and it does not show how
        // passwords are stored.
        let let_in = if server.major < 14 { "host postgres all 127.0.0.1/32 md5" } else { "" };
        let cluster = unprepared(server, let_in);
        let port = cluster.port().to_string();
        let check = |more: &[&str]| {
            let args =
                ["check", "-H", cluster.host(), "-p", &port, "-U", "Fresh one", "-d", "dbname=postgres"];
            Program::tapster().env("PGPASSWORD", "a secret").args(&args).args(more).run()
        };
        let line = check(&["--nagios"]);
        assert_eq!(line.status.code(), Some(2), "{line:?}");
        let line = String::from_utf8(line.stdout).unwrap();
        assert!(line.starts_with("TAPSTER CRITICAL - ") && line.lines().count() == 1, "{line}");
        assert_eq!(check(&[]).status.code(), Some(1));

        if !let_in.is_empty() {
            let document = json(&check(&["--json", "--for", "backup"]));
            let is_told = |check: &Value| check["name"] == "wal_level" && check["status"] == "failed";
            assert!(document["checks"].as_array().unwrap().iter().any(is_told), "{document}");
        }
        let mut followed = Vec::new();
        let document = loop {
            let document = json(&check(&["--json"]));
            assert_eq!(document["schema"], "tapster.check/1");
            if document["counts"]["failed"] == 0 && document["counts"]["warning"] == 0 {
                break document;
            }
            let mut restart = false;
            for check in document["checks"].as_array().unwrap() {
                for hint in check["hint"].as_str().unwrap_or_default().lines() {
                    follow(&cluster, hint, &mut restart);
                    followed.push(hint.to_owned());
                }
            }
            if restart {
                cluster.restart();
            }
            assert!(followed.len() < 40, "{followed:#?} did not mend {document}");
        };
        println!("PostgreSQL {}: {followed:#?}", server.major);
        assert_eq!(document["ok"], true);
        let expected = [("version_num", None), ("port", Some(cluster.port())), ("timeline", Some(1))];
        for (key, value) in expected {
            assert!(document["server"][key].is_u64(), "{document}");
            assert!(value.is_none_or(|value| document["server"][key] == value), "{document}");
        }
        assert_eq!(document["checks"][0]["detail"]["tls"], false, "{document}");
        let hba = "at the top of pg_hba.conf: host replication \"Fresh one\" 127.0.0.1/32 ";
        assert!(followed.iter().any(|hint| hint.starts_with(hba)), "{followed:#?}");
        assert!(!followed.iter().any(|hint| hint.contains("SUPERUSER")), "{followed:#?}");

        let nagios = check(&["--nagios", "--for", "backup"]);
        assert_eq!(nagios.status.code(), Some(0));
        let line = String::from_utf8(nagios.stdout).unwrap();
        assert!(line.starts_with(&format!("TAPSTER OK - 127.0.0.1:{port}: ")), "{line}");
        assert!(line.contains(" | connect_ms="), "{line}");
        let text = stdout(&check(&[]));
        assert!(text.contains("0 failed, 0 warnings, ") && !text.contains("GRANT"), "{text}");
        // The role can do everything that `check` says it is ready for.
        let program = |args: &[&str]| {
            let program = Program::tapster().env("PGPASSWORD", "a secret").args(args);
            stdout(
                &program
                    .args(&["-H", cluster.host(), "-p", &port, "-U", "Fresh one", "-d", "dbname=postgres"])
                    .run(),
            )
        };
        program(&["slot", "create", "-S", "tap"]);
        program(&["switch-wal"]);
        let copy = tempfile::tempdir().unwrap();
        let directory = copy.path().display().to_string();
        let backup =
            Program::tapster().env("PGPASSWORD", "a secret").args(&["low-level-backup", "--fast", "-H"]);
        let backup = backup.args(&[cluster.host(), "-p", &port, "-U", "Fresh one", "-d", "dbname=postgres"]);
        stdout(&backup.args(&["-l", "x", "-D", &directory, "--", "true"]).run());

        cluster.sql("ALTER ROLE \"Fresh one\" NOREPLICATION").unwrap();
        assert_eq!(check(&["--for", "receive"]).status.code(), Some(1));
        assert_eq!(check(&["--for", "backup"]).status.code(), Some(0));
    });
}

#[test]
fn check_reports_on_the_slot_and_on_an_unreachable_server() {
    servers::for_each(|server| {
        let cluster = primary(server);
        let slot = || {
            let document = json(&tapster(&cluster, "postgres", &["check", "--json", "-S", "tap"]));
            let checks = document["checks"].as_array().unwrap();
            let slot = checks.iter().find(|check| check["name"] == "slot").expect("it was asked for");
            format!("{}: {}", slot["status"].as_str().unwrap(), slot["text"].as_str().unwrap())
        };
        assert_eq!(slot(), "failed: there is no physical slot tap");
        cluster.sql("SELECT pg_create_physical_replication_slot('tap')").unwrap();
        assert_eq!(slot(), "warning: tap keeps no WAL, as nobody has used it yet");
        cluster.sql("SELECT pg_drop_replication_slot('tap'); SELECT pg_create_physical_replication_slot('tap', true)").unwrap();
        assert!(slot().starts_with("warning: nobody uses tap, which keeps WAL from 0/"), "{}", slot());
    });
    let unreachable = ["check", "--nagios", "host=127.0.0.1 port=1 user=u"];
    let output = Program::tapster().args(&unreachable).run();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stdout).contains("Connection refused"), "{output:?}");
    let output = Program::tapster().args(&["check", "--nagios", "no_such_keyword=1"]).run();
    assert_eq!(output.status.code(), Some(3));
    assert!(output.stdout.starts_with(b"TAPSTER UNKNOWN - "), "{output:?}");
}

/// A relay that delays all bytes by `delay`, in each direction.
fn far_away(port: u16, delay: Duration) -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let own_port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let server = TcpStream::connect(("127.0.0.1", port)).unwrap();
            client.set_nodelay(true).unwrap();
            server.set_nodelay(true).unwrap();
            let ends = [(&client, &server), (&server, &client)];
            for (mut from, mut to) in ends.map(|(a, b)| (a.try_clone().unwrap(), b.try_clone().unwrap())) {
                // A delayed chunk does not delay the chunks after it.
                let (arrive, arrivals) = mpsc::channel::<(Instant, Vec<u8>)>();
                thread::spawn(move || {
                    let mut chunk = [0; 65536];
                    while let Ok(read @ 1..) = from.read(&mut chunk) {
                        drop(arrive.send((Instant::now() + delay, chunk[..read].to_vec())));
                    }
                });
                thread::spawn(move || {
                    for (due, bytes) in arrivals {
                        thread::sleep(due.saturating_duration_since(Instant::now()));
                        drop(to.write_all(&bytes));
                    }
                    drop(to.shutdown(Shutdown::Both));
                });
            }
        }
    });
    own_port
}

#[test]
fn a_status_takes_no_longer_than_connecting_and_one_round_trip() {
    let cluster = Cluster::builder(&servers::packaged()).start();
    let round_trip = Duration::from_secs(1);
    let conninfo = format!(
        "host=127.0.0.1 port={} user=postgres dbname=postgres sslmode=disable",
        far_away(cluster.port(), round_trip / 2)
    );
    let took = |args: &[&str]| {
        let began = Instant::now();
        stdout(&Program::tapster().args(args).run());
        began.elapsed()
    };
    // The server reports its version at start-up, so this command takes only the time of connecting.
    let connecting = took(&["show", &conninfo, "server_version"]);
    let status = took(&["status", &conninfo]);
    println!("connecting {connecting:?}, status {status:?}");
    assert!(status < connecting + round_trip * 3 / 2, "connecting {connecting:?}, status {status:?}");
}

#[test]
fn no_command_waits_forever_for_a_silent_server() {
    let silent = Proxy::start(1, 0);
    let conninfo = format!("host=127.0.0.1 port={} user=u", silent.port());
    for command in [
        &["status"][..],
        &["show", "--all"],
        &["check", "--nagios"],
        &["switch-wal"],
        &["checkpoint"],
        &["restore-point", "--timeout", "1", &conninfo, "x"],
        &["slot", "ls"],
        &["slot", "create", "--timeout", "1", &conninfo, "x"],
        &["slot", "drop", "--timeout", "1", &conninfo, "x"],
        &["low-level-backup", "-l", "x", "-D", ".", "--timeout", "1", &conninfo, "--", "true"],
    ] {
        let mut args = command.to_vec();
        if !args.contains(&"--timeout") {
            args.extend(["--timeout", "1", "-d", conninfo.as_str()]);
        }
        let began = Instant::now();
        let output = Program::tapster().args(&args).run();
        let expected = if command[0] == "check" { 2 } else { 3 };
        assert_eq!(output.status.code(), Some(expected), "{command:?}: {output:?}");
        assert!(began.elapsed() < Duration::from_secs(10), "{command:?}: {:?}", began.elapsed());
    }
}
