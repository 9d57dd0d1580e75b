//! `tapster receive-wal` as a daemon: what it tells of itself, and many servers in one process.
#![cfg(feature = "cli")]

mod support;

use core::time::Duration;
use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Instant;

use serde_json::{Value, json};
use support::process::{PATIENCE, children, clean_environment, is_alive, signal, wait_for_exit};
use support::program::RunningProgram;
use support::receiver::STOP_TIME;
use support::wait::holds_within;
use support::{Archive, Auth, Cluster, Program, assert_has, servers, tapster, tapster_json, wait_until};
use tempfile::TempDir;

const SLOT: &str = "tap";

#[test]
fn the_service_manager_hears_of_a_live_stream_and_of_nothing_else() {
    let cluster = Cluster::builder(&servers::packaged()).start();
    let manager = ServiceManager::new("/abstract");
    let archive = Archive::new();
    let program = receive_wal(&cluster.conninfo("repl"), &archive, &["--json"]);
    // An idle server says nothing by itself for longer than that.
    let program = manager.watch(program).env("WATCHDOG_USEC", "1200000").spawn();
    manager.wait_for(|message| message == "READY=1");
    let status = format!("STATUS=streaming {} tli 1 lag 0", cluster.position());
    manager.wait_for(|message| message == status);
    for _ in 0..5 {
        assert!(manager.is_fed_within(Duration::from_millis(1200)), "an idle server is as good as another");
    }

    program.signal("HUP");
    let reloading = manager.wait_for(|message| message.starts_with("RELOADING=1\nMONOTONIC_USEC="));
    assert!(reloading.rsplit('=').next().is_some_and(|us| us.parse::<u64>().is_ok()), "{reloading}");
    manager.wait_for(|message| message == "READY=1");

    let walsender =
        cluster.sql("SELECT pid FROM pg_stat_replication").unwrap().parse().expect("a process id");
    signal(walsender, "STOP");
    let starved = holds_within(PATIENCE, || !manager.is_fed_within(Duration::from_millis(1200)));
    signal(walsender, "CONT");
    assert!(starved, "a frozen server feeds no watchdog");
    assert!(manager.is_fed_within(PATIENCE), "after it, the stream lives again");

    program.signal("TERM");
    manager.wait_for(|message| message.starts_with("STOPPING=1"));
    assert!(program.wait(STOP_TIME).status.success());
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let cluster = Cluster::builder(&servers::packaged()).start();
    for (name, code) in [("TERM", 143), ("INT", 130)] {
        let archive = Archive::new();
        let mut program = receive_wal(&cluster.conninfo("repl"), &archive, &["-v"]).spawn();
        program.wait_for_stderr("streaming from", PATIENCE);
        let walsender = "SELECT pid FROM pg_stat_replication WHERE state = 'streaming'";
        let walsender = cluster.sql(walsender).unwrap().parse().expect("a process id");
        // In good order the end waits for the server.
        signal(walsender, "STOP");
        program.signal("TERM");
        assert!(!holds_within(Duration::from_millis(300), || program.has_ended()), "it waits");
        program.signal(name);
        let output = program.wait(Duration::from_millis(500));
        signal(walsender, "CONT");
        assert_eq!(output.status.code(), Some(code), "{output:?}");
        assert!(!String::from_utf8_lossy(&output.stderr).contains("stopped"), "{output:?}");
        // As after a crash: what was received stays a partial segment.
        assert!(archive.names().iter().any(|name| name.ends_with(".partial")), "{:?}", archive.names());
    }
}

#[test]
fn documents_that_cannot_be_written_end_it() {
    let cluster = Cluster::builder(&servers::packaged()).start();
    let archive = Archive::new();
    let code = |stdout: Stdio| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tapster"));
        clean_environment(&mut command).args(["receive-wal", &cluster.conninfo("repl"), "--json", "-D"]);
        command.arg(archive.path()).stdout(stdout).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let status = wait_for_exit(&mut child, PATIENCE);
        status.unwrap_or_else(|| panic!("it goes on: {}", child.kill().is_ok())).code()
    };
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    assert_eq!(code(writer.into()), Some(0), "whoever reads them has read enough");
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    assert_eq!(code(full.into()), Some(6));
}

#[test]
fn the_service_manager_is_not_told_ready_before_the_stream() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let manager = ServiceManager::new("");
    let archive = Archive::new();
    let program = receive_wal(&format!("postgresql://x@127.0.0.1:{port}"), &archive, &[]);
    let program = manager.watch(program).spawn();
    let _connection = silent.accept().unwrap();
    program.signal("TERM");
    assert!(program.wait(STOP_TIME).status.success());
    let told = manager.all();
    assert!(told.iter().any(|message| message.starts_with("STOPPING=1")), "{told:?}");
    assert!(!told.iter().any(|message| message.contains("READY=1")), "{told:?}");
}

#[test]
fn metrics_are_figures_of_now_and_never_half_a_file() {
    let cluster = Cluster::builder(&servers::packaged()).start();
    tapster_json(&["slot", "create", &cluster.conninfo("repl"), SLOT, "--json"]);
    let (archive, directory) = (Archive::new(), tempfile::tempdir().unwrap());
    let file = directory.path().join("tapster.prom");
    let path = file.to_str().expect("ASCII");
    let options = ["-S", SLOT, "--json", "--metrics-file", path, "--metrics-interval", "1"];
    let program = receive_wal(&cluster.conninfo("repl"), &archive, &options).spawn();
    let label = format!("server=\"127.0.0.1:{}\"", cluster.port());
    let figure = |name: &str| metrics(&file).get(&format!("{name}{{{label}}}")).copied();
    wait_until(PATIENCE, "it streams", || figure("tapster_up") == Some(1.0));

    cluster.write_segments(2);
    cluster.write_wal(1000);
    let position = cluster.position().get() as f64;
    wait_until(PATIENCE, "the figures follow", || {
        figure("tapster_written_lsn").is_some_and(|written| written >= position)
    });
    assert_eq!(figure("tapster_segments_total"), Some(2.0));
    assert_eq!(figure("tapster_lag_bytes"), Some(0.0));
    assert_eq!(figure("tapster_lag_seconds"), Some(0.0));
    assert!(figure("tapster_received_bytes_total").is_some_and(|bytes| bytes > 2e6));
    assert!(figure("tapster_flush_lag_bytes").is_some_and(|lag| lag > 0.0), "the segment in progress");
    let syncs = figure("tapster_fsync_seconds_count");
    assert!(syncs.is_some_and(|count| count >= 2.0), "{syncs:?}");
    let infinite = metrics(&file)[&format!("tapster_fsync_seconds_bucket{{{label},le=\"+Inf\"}}")];
    assert_eq!(Some(infinite), figure("tapster_fsync_seconds_count"));

    cluster.restart();
    wait_until(PATIENCE, "it streams again", || figure("tapster_reconnects_total") == Some(1.0));
    assert!(figure("tapster_connection_losses_total").is_some_and(|losses| losses >= 1.0));
    program.signal("TERM");
    assert!(program.wait(STOP_TIME).status.success());
    assert_eq!((figure("tapster_up"), figure("tapster_exit_code")), (Some(0.0), Some(0.0)));
    assert_eq!(metrics(&file)[&format!("tapster_state{{{label},state=\"stopped\"}}")], 1.0);
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "a temporary file stays behind");
}

#[test]
fn metrics_that_cannot_be_written_stop_nothing() {
    let cluster = Cluster::builder(&servers::packaged()).start();
    let archive = Archive::new();
    let options = ["--json", "--metrics-file", "/no/such/directory/x", "--metrics-interval", "1"];
    let mut program = receive_wal(&cluster.conninfo("repl"), &archive, &options).spawn();
    program.wait_for_stderr("could not write metrics", PATIENCE);
    let last = cluster.write_segments(1);
    archive.wait_for(&last);
    program.signal("TERM");
    let output = program.wait(STOP_TIME);
    assert!(output.status.success());
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(stderr.matches("could not write metrics").count(), 1, "{stderr}");
}

#[test]
fn one_process_serves_many_and_one_that_is_refused_stops_no_other() {
    let cluster = Cluster::builder(&servers::packaged()).start();
    let archives = [Archive::new(), Archive::new(), Archive::new()];
    let [db1, db2, db3] = archives.each_ref().map(|archive| archive.path().display().to_string());
    let taken = Archive::new();
    let mut holder = taken.receive(&cluster.conninfo("repl"), &[]);
    holder.wait_for("streaming");
    let table = |name: &str, directory: &str| {
        format!("[servers.{name}]\nconn = \"{}\"\ndirectory = '{directory}'\n", cluster.conninfo("repl"))
    };
    let defaults = "[defaults]\nstatus_interval = 1\n";
    let refused = table("refused", &taken.path().display().to_string());
    let config = Config::new(&[defaults, &table("db1", &db1), &table("db2", &db2), &refused]);
    let file = config.directory.path().join("metrics");
    let options = ["--json", "--metrics-file", file.to_str().expect("ASCII")];
    let daemon = Daemon::start(&config, &options);
    daemon.wait_for("db1", "streaming");
    daemon.wait_for("db2", "streaming");
    let failed = daemon.wait_for("refused", "failed");
    assert_has(&failed, json!({ "ok": false, "error": { "kind": "refused", "exit": 5 } }));
    wait_until(PATIENCE, "the metrics know", || {
        let metrics = metrics(&file);
        let figure = |name: &str| metrics.get(name).copied();
        figure("tapster_exit_code{server=\"refused\"}") == Some(5.0)
            && figure("tapster_state{server=\"refused\",state=\"refused\"}") == Some(1.0)
            && figure("tapster_up{server=\"db1\"}") == Some(1.0)
            && figure("tapster_up{server=\"db2\"}") == Some(1.0)
    });
    let last = cluster.write_segments(1);
    archives[0].wait_for(&last);
    archives[1].wait_for(&last);

    // What the file says then: one is gone, one is new, one is mended, and one is as before.
    config.write(&[defaults, "[servers.db1]\nslto = 'x'\n"]);
    daemon.program.signal("HUP");
    wait_until(PATIENCE, "a mistake changes nothing", || daemon.program.stderr().contains("config.toml:4: "));
    holder.stop("TERM");
    config.write(&[defaults, &table("db1", &db1), &table("db3", &db3), &refused]);
    daemon.program.signal("HUP");
    daemon.wait_for("db2", "stopped");
    daemon.wait_for("db3", "streaming");
    daemon.wait_for("refused", "streaming");
    let last = cluster.write_segments(1);
    for archive in [&archives[0], &archives[2], &taken] {
        archive.wait_for(&last);
    }
    assert!(!archives[1].file(&last).exists());
    assert_eq!(daemon.count("db1", "streaming"), 1, "what did not change is left alone");

    daemon.program.signal("USR1");
    assert_has(&daemon.wait_for("db3", "status"), json!({ "state": "streaming", "segments": 1 }));
    daemon.program.signal("TERM");
    let output = daemon.program.wait(STOP_TIME);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(cluster.sql("SELECT count(*) FROM pg_stat_replication").as_deref(), Ok("0"));
}

#[test]
fn the_exit_code_of_many_is_the_highest() {
    let cluster = Cluster::builder(&servers::packaged()).start();
    let (archive, taken) = (Archive::new(), Archive::new());
    let mut holder = taken.receive(&cluster.conninfo("repl"), &[]);
    holder.wait_for("streaming");
    let conninfo = cluster.conninfo("repl");
    let config = Config::new(&[
        &format!("[defaults]\nconn = \"{conninfo}\"\n"),
        &format!("[servers.a]\ndirectory = '{}'\nslot = 'nope'\n", archive.path().display()),
        &format!("[servers.b]\ndirectory = '{}'\n", taken.path().display()),
    ]);
    let daemon = Daemon::start(&config, &["--json"]);
    let output = daemon.program.wait(PATIENCE);
    assert_eq!(output.status.code(), Some(5));
    let events = events(&output);
    let code = |server: &str| {
        let failed =
            events.iter().find(|event| event["server"]["name"] == server && event["event"] == "failed");
        failed.map(|event| event["error"]["exit"].clone())
    };
    assert_eq!((code("a"), code("b")), (Some(1.into()), Some(5.into())));
}

#[test]
fn a_server_that_is_away_at_first_is_waited_for_beside_others() {
    let cluster = Cluster::builder(&servers::packaged()).start();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let (archive, other) = (Archive::new(), Archive::new());
    let config = Config::new(&[
        &format!("[servers.a]\nconn = \"{}\"\n", cluster.conninfo("repl")),
        &format!("directory = '{}'\n", archive.path().display()),
        &format!("[servers.b]\nconn = 'host=127.0.0.1 port={port} user=x'\n"),
        &format!("directory = '{}'\n", other.path().display()),
    ]);
    let manager = ServiceManager::new("/abstract");
    let daemon = Daemon::spawn(manager.watch(config.program(&["--json"])));
    let away = daemon.wait_for("b", "disconnected");
    assert!(away["reason"].as_str().is_some_and(|reason| reason.contains("refused")), "{away}");
    manager.wait_for(|message| message == "READY=1");
    let status = manager.wait_for(|message| message.starts_with("STATUS=1 of 2 streaming"));
    assert!(status.ends_with("; b unreachable"), "{status}");
    daemon.program.signal("TERM");
    assert!(daemon.program.wait(STOP_TIME).status.success());
}

#[test]
fn a_file_that_cannot_be_used_is_a_matter_of_usage() {
    let directory = Archive::new();
    let shown = directory.path().display();
    let table = |name| format!("[servers.{name}]\nconn = 'service=x'\ndirectory = '{shown}'\n");
    for (text, words) in [
        (table("a") + "create-slto = true\n", "config.toml:4: unknown key \"create-slto\""),
        (table("a") + &table("b"), "the servers a and b have the same directory"),
        (table("a") + "endpos = 'x'\n", "config.toml:4: "),
        ("[servers".into(), "config.toml:1: "),
        ("[defaults]\n".into(), "there is no server"),
    ] {
        let config = Config::new(&[&text]);
        let output = config.program(&[]).run();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{stderr}");
        assert!(stderr.contains(words), "{words:?} is not in {stderr}");
    }
    let output = Config::new(&[]).program(&["-D", "/wal"]).run();
    assert_eq!(output.status.code(), Some(2), "flags of one server are for one server");
    assert_eq!(tapster(&["receive-wal", "service=x"]).status.code(), Some(2), "there is no directory");
}

#[test]
fn every_major_tells_where_it_would_begin() {
    servers::for_each(|server| {
        let cluster = Cluster::builder(server).start();
        let conninfo = cluster.conninfo("repl");
        let archive = Archive::new();
        let directory = archive.path().to_str().expect("ASCII");
        let dry = |options: &[&str]| {
            let args = ["receive-wal", &conninfo, "-D", directory, "--dry-run", "--json"];
            let output = tapster(&[&args, options].concat());
            let last = events(&output).pop().expect("a document");
            (output.status.code(), last)
        };
        let current = cluster.segment_start(cluster.position()).to_string();
        let (code, told) = dry(&[]);
        assert_eq!(code, Some(0), "{told}");
        assert_has(&told, json!({ "event": "dry_run", "ok": true, "start_lsn": current, "timeline": 1 }));
        let (code, told) = dry(&["-S", SLOT]);
        assert_eq!(code, Some(1), "{told}");
        assert_has(&told, json!({ "error": { "exit": 1 } }));
        assert_eq!(dry(&["-S", SLOT, "--create-slot"]).0, Some(0));
        assert_eq!(cluster.sql("SELECT count(*) FROM pg_replication_slots").as_deref(), Ok("0"));
        assert_eq!(archive.all_names(), [""; 0]);

        let end = cluster.position().to_string();
        archive.receive(&conninfo, &["--endpos", &end]).stopped_within(PATIENCE);
        // Even a file that a crash has left stays.
        fs::write(archive.file("tapster.state.0123456789abcdef.tmp"), "").expect("the directory is ours");
        let names = archive.all_names();
        let (_, told) = dry(&[]);
        assert!(told["reason"].as_str().is_some_and(|reason| reason.contains(&names[0])), "{told}");
        assert_eq!(archive.all_names(), names);

        // Nobody is kept out, and nobody is let in.
        let mut receiver = archive.receive(&conninfo, &[]);
        receiver.wait_for("streaming");
        assert!(!archive.all_names().iter().any(|name| name.ends_with(".tmp")), "a receiver removes it");
        let (code, told) = dry(&[]);
        assert_eq!((code, &told["error"]["kind"]), (Some(5), &json!("refused")));
        receiver.stop("TERM");
    });
}

#[test]
fn every_flag_has_a_variable() {
    let cluster = Cluster::builder(&servers::packaged()).start();
    let archive = Archive::new();
    let program = Program::tapster().args(&["receive-wal"]);
    let output = program
        .env("TAPSTER_DBNAME", cluster.conninfo("repl"))
        .env("TAPSTER_DIRECTORY", archive.path())
        .env("TAPSTER_SLOT", SLOT)
        .env("TAPSTER_CREATE_SLOT", "true")
        .env("TAPSTER_NO_LOOP", "1")
        .env("TAPSTER_SYNCHRONOUS", "off")
        .env("TAPSTER_ENDPOS", cluster.position().to_string())
        .env("TAPSTER_JSON", "yes")
        .run();
    assert!(output.status.success(), "{output:?}");
    let events = events(&output);
    assert!(events.iter().any(|event| event["event"] == "slot_created"), "{events:?}");
}

/// Mistakes are told before any variable has its flag.
#[test]
fn a_mistake_is_a_document_where_a_variable_asks_for_it() {
    for (command, value, is_document) in [
        ("receive-wal", "Yes", true),
        ("receive-wal", "off", false),
        ("receive-wal", "?", false),
        ("status", "1", false),
    ] {
        let output = Program::tapster().args(&[command, "--nope"]).env("TAPSTER_JSON", value).run();
        assert_eq!(output.status.code(), Some(2));
        assert_eq!(!output.stdout.is_empty(), is_document, "{command} {value}: {output:?}");
        if is_document {
            let document = support::json(&String::from_utf8(output.stdout).unwrap());
            assert_has(&document, json!({ "ok": false, "error": { "kind": "usage", "exit": 2 } }));
        }
    }
}

#[test]
fn a_line_on_a_terminal_moves_on_below_the_others() {
    let cluster = Cluster::builder(&servers::packaged()).start();
    let archive = Archive::new();
    let program = on_terminal(&cluster, &archive, "xterm");
    let seen = |text: &str| program.stdout().contains(text);
    wait_until(PATIENCE, "there is a line", || seen(" %   ") && seen("lag 0 B"));
    let last = cluster.write_segments(1);
    archive.wait_for(&last);
    let finished = format!("finished segment {last}");
    wait_until(PATIENCE, "the line is there again", || {
        let shown = program.stdout();
        shown.rfind(&finished).is_some_and(|at| shown[at..].contains(" %   "))
    });
    signal(children(program.id())[0], "TERM");
    let output = program.wait(PATIENCE);
    let shown = screen(&String::from_utf8(output.stdout).unwrap());
    // What stays is one line per event, each from its beginning to its end.
    assert!(shown.iter().any(|line| line.ends_with(&finished) && line.starts_with("20")), "{shown:#?}");
    assert!(!shown.iter().any(|line| line.contains(" %   ")), "{shown:#?}");
    assert!(shown.last().is_some_and(|line| line.contains("stopped: flushed to")), "{shown:#?}");
}

#[test]
fn a_terminal_that_can_do_nothing_gets_lines_only() {
    let cluster = Cluster::builder(&servers::packaged()).start();
    let archive = Archive::new();
    let program = on_terminal(&cluster, &archive, "dumb");
    wait_until(PATIENCE, "it streams", || program.stdout().contains("streaming from"));
    let last = cluster.write_segments(1);
    archive.wait_for(&last);
    let receiver = children(program.id())[0];
    signal(receiver, "USR1");
    wait_until(PATIENCE, "it answers", || program.stdout().contains(": streaming   "));
    signal(receiver, "TERM");
    let output = program.wait(PATIENCE);
    let shown = String::from_utf8(output.stdout).unwrap();
    assert!(!shown.contains('\u{1b}'), "{shown:?}");
}

#[test]
fn log_lines_can_be_documents() {
    let cluster = Cluster::builder(&servers::packaged()).start();
    let archive = Archive::new();
    let end = cluster.position().to_string();
    let options = ["--log-format", "json", "--endpos", &end];
    let output = receive_wal(&cluster.conninfo("repl"), &archive, &options).run();
    assert!(output.status.success() && output.stdout.is_empty(), "{output:?}");
    let lines = |output: &Output| -> Vec<Value> {
        let text = String::from_utf8(output.stderr.clone()).unwrap();
        text.lines().map(support::json).collect()
    };
    let documents = lines(&output);
    let told =
        |event: &str| documents.iter().find(|document| document["event"] == event).expect("it is told");
    assert_has(told("connected"), json!({ "level": "info", "timeline": 1 }));
    assert!(
        told("streaming")["message"].as_str().is_some_and(|message| message.starts_with("streaming from"))
    );
    assert!(documents.iter().any(|document| document["level"] == "warning"), "there is no slot");
    assert!(documents.iter().all(|document| document["ts"].is_string()));
    // The last word as well.
    let output = receive_wal(&cluster.conninfo("repl"), &archive, &["--log-format=json", "-S", "nope"]).run();
    assert_has(lines(&output).last().unwrap(), json!({ "level": "error", "error": { "exit": 1 } }));
}

#[test]
fn a_warning_of_the_password_file_is_told_once() {
    let cluster = Cluster::builder(&servers::packaged()).auth(Auth::Scram).start();
    let (archive, home) = (Archive::new(), tempfile::tempdir().unwrap());
    let passfile = home.path().join("pgpass");
    fs::write(&passfile, "*:*:*:*:walrus-17\n").unwrap();
    // Others may read it.
    fs::set_permissions(&passfile, fs::Permissions::from_mode(0o644)).unwrap();
    let conninfo = format!("host=127.0.0.1 port={} user=repl", cluster.port());
    let options = ["-S", SLOT, "--create-slot"];
    let output = receive_wal(&conninfo, &archive, &options).env("PGPASSFILE", &passfile).run();
    assert_eq!(output.status.code(), Some(4), "such a file is not used: {output:?}");
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(stderr.matches("WARNING: password file").count(), 1, "{stderr}");
}

#[test]
fn a_new_password_counts_from_the_next_connection_on() {
    let cluster = Cluster::builder(&servers::packaged()).auth(Auth::Scram).start();
    let (archive, home) = (Archive::new(), tempfile::tempdir().unwrap());
    let passfile = home.path().join("pgpass");
    let write = |password: &str| {
        fs::write(&passfile, format!("*:*:*:*:{password}\n")).unwrap();
        fs::set_permissions(&passfile, fs::Permissions::from_mode(0o600)).unwrap();
    };
    write("walrus-17");
    let conninfo = format!("host=127.0.0.1 port={} user=repl", cluster.port());
    let program = receive_wal(&conninfo, &archive, &["--json"]).env("PGPASSFILE", &passfile);
    let daemon = Daemon::spawn(program);
    daemon.wait_for("", "streaming");
    cluster.sql("ALTER ROLE repl PASSWORD 'another one'").unwrap();
    write("another one");
    daemon.program.signal("HUP");
    daemon.program.signal("USR1");
    // Signals are taken one after the other.
    daemon.wait_for("", "status");
    cluster.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_replication").unwrap();
    wait_until(PATIENCE, "it streams again", || daemon.count("", "streaming") == 2);
    daemon.program.signal("TERM");
    assert!(daemon.program.wait(STOP_TIME).status.success());
}

#[test]
fn a_receiver_ends_with_its_terminal() {
    let cluster = Cluster::builder(&servers::packaged()).start();
    let archive = Archive::new();
    let program = on_terminal(&cluster, &archive, "xterm");
    wait_until(PATIENCE, "it streams", || program.stdout().contains("streaming from"));
    let receiver = children(program.id())[0];
    // As when a window is closed, or a connection to the machine is lost.
    program.signal("KILL");
    wait_until(STOP_TIME, "it has ended", || !is_alive(receiver));
    assert_eq!(archive.partials().len(), 1);
}

/// `tapster receive-wal` into an archive.
fn receive_wal(conninfo: &str, archive: &Archive, options: &[&str]) -> Program {
    let program = Program::tapster().args(&["receive-wal", conninfo, "-D"]).args(&[archive.path()]);
    program.args(options)
}

/// The same with a terminal for everything, as `script` from util-linux makes one.
fn on_terminal(cluster: &Cluster, archive: &Archive, term: &str) -> RunningProgram {
    let command = format!(
        "exec {} receive-wal \"{}\" -v -D {}",
        env!("CARGO_BIN_EXE_tapster"),
        cluster.conninfo("repl"),
        archive.path().display()
    );
    let script = Program::new(Path::new("script")).args(&["-qec", &command, "/dev/null"]);
    script.env("TERM", term).env("SHELL", "/bin/sh").spawn()
}

/// The lines that a terminal shows in the end.
fn screen(output: &str) -> Vec<String> {
    let lines = output.split('\n').map(|line| line.trim_end_matches('\r'));
    // Each return to the line's beginning is followed by clearing it.
    lines
        .map(|line| line.rsplit("\r\u{1b}[K").next().unwrap_or_default().to_owned())
        .filter(|l| !l.is_empty())
        .collect()
}

/// Every figure of the file, by its name with the labels. The file may not be there yet; but if it is, it is whole.
fn metrics(file: &Path) -> BTreeMap<String, f64> {
    let text = fs::read_to_string(file).unwrap_or_default();
    assert!(text.is_empty() || text.ends_with('\n'), "{text}");
    let samples = text.lines().filter(|line| !line.starts_with("# "));
    let sample = |line: &str| {
        let (name, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line:?} is no sample"));
        (name.to_owned(), value.parse().unwrap_or_else(|_| panic!("{line:?} has no number")))
    };
    samples.map(sample).collect()
}

fn events(output: &Output) -> Vec<Value> {
    String::from_utf8_lossy(&output.stdout).lines().map(support::json).collect()
}

/// A file for `--config`.
struct Config {
    directory: TempDir,
    file: PathBuf,
}

impl Config {
    fn new(parts: &[&str]) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let config = Self { file: directory.path().join("config.toml"), directory };
        config.write(parts);
        config
    }

    fn write(&self, parts: &[&str]) {
        fs::write(&self.file, parts.concat()).expect("it is ours");
    }

    fn program(&self, options: &[&str]) -> Program {
        Program::tapster().args(&["receive-wal", "--config"]).args(&[&self.file]).args(options)
    }
}

/// A running `tapster receive-wal --json`, perhaps of many servers.
struct Daemon {
    program: RunningProgram,
}

impl Daemon {
    fn start(config: &Config, options: &[&str]) -> Self {
        Self::spawn(config.program(options))
    }

    fn spawn(program: Program) -> Self {
        Self { program: program.spawn() }
    }

    /// What it has told of that, about a server; with an empty name, about any.
    fn told(&self, server: &str, event: &str) -> Vec<Value> {
        let stdout = self.program.stdout();
        let whole = stdout.rfind('\n').map_or("", |end| &stdout[..end]);
        let events = whole.lines().map(support::json);
        events
            .filter(|e| e["event"] == event && (server.is_empty() || e["server"]["name"] == server))
            .collect()
    }

    fn count(&self, server: &str, event: &str) -> usize {
        self.told(server, event).len()
    }

    /// Waits until it has told of that.
    #[track_caller]
    fn wait_for(&self, server: &str, event: &str) -> Value {
        let mut told = Vec::new();
        let found = holds_within(PATIENCE, || {
            told = self.told(server, event);
            !told.is_empty()
        });
        assert!(found, "no {event} of {server}:\n{}{}", self.program.stdout(), self.program.stderr());
        told.swap_remove(0)
    }
}

/// What systemd is to a service: a socket that hears.
struct ServiceManager {
    socket: UnixDatagram,
    name: String,
    _directory: TempDir,
}

impl ServiceManager {
    /// At a path, or with something before it, in the abstract namespace.
    fn new(prefix: &str) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("notify");
        let (address, name) = if prefix.is_empty() {
            (SocketAddr::from_pathname(&path), path.display().to_string())
        } else {
            let name = format!("{prefix}{}", path.display());
            (SocketAddr::from_abstract_name(&name), format!("@{name}"))
        };
        let socket = UnixDatagram::bind_addr(&address.expect("a short name")).expect("it is free");
        Self { socket, name, _directory: directory }
    }

    fn watch(&self, program: Program) -> Program {
        program.env("NOTIFY_SOCKET", &self.name)
    }

    /// The next message within that time.
    fn next(&self, within: Duration) -> Option<String> {
        let mut message = [0; 4096];
        self.socket.set_read_timeout(Some(within.max(Duration::from_millis(1)))).expect("a socket");
        let len = self.socket.recv(&mut message).ok()?;
        Some(String::from_utf8_lossy(&message[..len]).into_owned())
    }

    /// Waits for a message, and passes over others.
    #[track_caller]
    fn wait_for(&self, is_meant: impl Fn(&str) -> bool) -> String {
        let begin = Instant::now();
        let mut others = Vec::new();
        while let Some(message) = self.next(PATIENCE.saturating_sub(begin.elapsed())) {
            if is_meant(&message) {
                return message;
            }
            others.push(message);
        }
        panic!("it was not told, but {others:?}");
    }

    fn is_fed_within(&self, limit: Duration) -> bool {
        let begin = Instant::now();
        while begin.elapsed() < limit {
            if self.next(limit.saturating_sub(begin.elapsed())).as_deref() == Some("WATCHDOG=1") {
                return true;
            }
        }
        false
    }

    /// Everything that has come.
    fn all(&self) -> Vec<String> {
        core::iter::from_fn(|| self.next(Duration::from_millis(1))).collect()
    }
}
