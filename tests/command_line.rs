//! What the program says, and ends with, when it is used wrongly or cannot do its work.
#![cfg(feature = "cli")]

mod support;

use std::fs;
use std::net::TcpListener;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use support::{Archive, Cluster, Program, assert_has, servers, tapster, tapster_json};

/// Runs the command as people do and with `--json`: the exit code and the words are the same.
#[track_caller]
fn fails(args: &[&str], code: i32, words: &str) {
    let plain = tapster(args);
    assert_eq!(plain.status.code(), Some(code), "{args:?}: {plain:?}");
    let stderr = String::from_utf8_lossy(&plain.stderr);
    assert!(plain.stdout.is_empty() && stderr.contains(words), "{args:?}: {words:?} is not in:\n{stderr}");

    let output = tapster(&[args, &["--json"]].concat());
    assert_eq!(output.status.code(), Some(code), "{args:?}: {output:?}");
    // The last line: `receive-wal` tells of events before.
    let stdout = String::from_utf8(output.stdout).expect("UTF-8");
    let document: Value =
        serde_json::from_str(stdout.lines().last().unwrap_or_default()).expect("a document");
    assert_has(&document, json!({ "ok": false, "error": { "exit": code } }));
    let hint = document["error"]["hint"].as_str().unwrap_or_default();
    let message = document["error"]["message"].as_str().expect("a message");
    let told = format!("{message} {hint}");
    assert!(told.contains(words), "{args:?}: {words:?} is not in {told:?}");
}

/// A port of this machine where nobody listens.
fn closed_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port").port()
}

#[test]
fn connection_strings_that_cannot_be_used_are_a_matter_of_usage() {
    fails(&["status", "hots=db1"], 2, "invalid connection option \"hots\"");
    fails(&["status", "host='db1"], 2, "unterminated quoted string in connection info string");
    fails(&["status", "postgresql://db1:x"], 2, "invalid integer value \"x\" for connection option \"port\"");
    fails(&["slot", "ls", "host=db1 sslmode=maybe"], 2, "invalid sslmode value: \"maybe\"");
    fails(&["receive-wal", "nokey=1", "-D", "/"], 2, "invalid connection option");
    fails(&["status", "dbname=a", "-d", "dbname=b"], 2, "not both");
    fails(&["status", "-h", "db1"], 2, "-H db1");
}

#[test]
fn mistakes_in_the_arguments_are_told_as_every_other_failure() {
    fails(&["status", "--hots", "db1"], 2, "'--host'");
    fails(&["status", "a", "b"], 2, "unexpected argument 'b'");
    fails(&["verify"], 2, "<DIR>");
    // It would be another archive than the one that is meant.
    fails(&["receive-wal", "-D", "/wal", "--config", "x"], 2, "--directory <DIR>");
    fails(&["wal", "get", "x"], 255, "--from <DIR>");
    let twice = ["receive-wal", "postgresql://u:s3cret@h/db", "postgresql://u:s3cret@h/db"];
    fails(&twice, 2, "password=***");
    // A connection where a name should be would else be tried on this machine's own server.
    fails(&["slot", "create", "service=db1"], 2, "is a connection; the slot's name comes after it");
    fails(&["slot", "drop", "tap", "host=db1"], 2, "is a connection");
    fails(&["restore-point", "postgresql://u:s3cret@h/db"], 2, "password=***");
    fails(&["show", "service=db1"], 2, "the member's name");
    // What follows `--` is another program's: rsync has a `-h` of its own.
    let other = tapster(&["low-level-backup", "nokey=1", "-l", "x", "-D", "/", "--", "rsync", "-h", "a"]);
    assert!(String::from_utf8_lossy(&other.stderr).contains("invalid connection option"), "{other:?}");
    let plugin = tapster(&["check", "--hots", "--nagios"]);
    assert_eq!(plugin.status.code(), Some(3), "{plugin:?}");
    assert!(plugin.stdout.starts_with(b"TAPSTER UNKNOWN - unexpected argument"), "{plugin:?}");
    let nothing = tapster::<&str>(&[]);
    assert_eq!(nothing.status.code(), Some(2), "{nothing:?}");
    assert!(String::from_utf8_lossy(&nothing.stderr).contains("Commands:"), "{nothing:?}");
}

#[test]
fn shells_complete_every_command() {
    for shell in ["bash", "zsh", "fish"] {
        let output = tapster(&["completions", shell]);
        let script = String::from_utf8(output.stdout).expect("UTF-8");
        assert!(output.status.success() && output.stderr.is_empty(), "{shell}");
        for word in ["receive-wal", "low-level-backup", "create-slot"] {
            assert!(script.contains(word), "{word} is not in the script for {shell}");
        }
    }
}

#[test]
fn exit_codes_and_the_build_are_told() {
    let codes = tapster(&["help", "exit-codes"]);
    let text = String::from_utf8(codes.stdout).expect("UTF-8");
    for code in ["0", "1", "2", "3", "4", "5", "6", "7", "130", "143", "255"] {
        assert!(
            text.lines().any(|line| line.trim_start().starts_with(&format!("{code}  "))),
            "{code}:\n{text}"
        );
    }
    assert_eq!(tapster(&["exit-codes"]).stdout, text.as_bytes());
    let version = String::from_utf8(tapster(&["--version"]).stdout).expect("UTF-8");
    // The version of rustls that is told is the one that is built in.
    let lock = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.lock")).expect("Cargo.lock");
    let (_, rustls) = lock.split_once("name = \"rustls\"\nversion = \"").expect("rustls is locked");
    let minor = rustls.split('.').take(2).collect::<Vec<_>>().join(".");
    assert!(version.starts_with(concat!("tapster ", env!("CARGO_PKG_VERSION"), " (")), "{version}");
    assert!(version.contains(&format!("rustls {minor} ring")), "{version}");
}

#[test]
fn servers_that_are_not_there_are_told_with_what_was_tried() {
    let port = closed_port();
    let conninfo = format!("host=127.0.0.1 port={port} user=x");
    let told = format!("connection to server at \"127.0.0.1\", port {port} failed: Connection refused");
    fails(&["status", &conninfo], 3, &told);
    fails(&["status", &conninfo], 3, &format!("\n  tapster conninfo '{conninfo}'"));
    fails(&["slot", "create", &conninfo, "tap"], 3, &told);
    let archive = Archive::new();
    let directory = archive.path().to_str().expect("ASCII");
    fails(&["receive-wal", &conninfo, "-D", directory, "-n"], 3, &told);
    fails(&["receive-wal", &conninfo, "-D", directory], 3, &told);
    fails(&["status", "host=no-such-host.invalid user=x"], 3, "could not look up the host name");
    let silent = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = silent.local_addr().expect("it is bound").port();
    let conninfo = format!("host=127.0.0.1 port={port} user=x connect_timeout=1");
    fails(&["status", &conninfo], 3, "timeout expired");
}

#[test]
fn archives_that_cannot_be_written_to_are_a_matter_of_storage() {
    let server = &servers::packaged();
    let cluster = Cluster::builder(server).start();
    let conninfo = cluster.conninfo("repl");
    fails(&["receive-wal", &conninfo, "-D", "/no/such/directory"], 6, "could not open directory");
    fails(&["verify", "/no/such/directory"], 6, "could not open directory");
    let archive = Archive::new();
    let file = archive.file("file");
    fs::write(&file, "").unwrap();
    fails(&["receive-wal", &conninfo, "-D", file.to_str().expect("ASCII")], 6, "is not a directory");
    let copy = ["low-level-backup", &conninfo, "-l", "x", "-D", "/no/such", "--", "true"];
    let output = tapster(&copy);
    assert_eq!(output.status.code(), Some(6), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).ends_with("\nhint: create it first\n"), "{output:?}");
    // Not even root may make files there.
    fails(&["receive-wal", &conninfo, "-D", "/proc/self"], 6, "/proc/self");
}

#[test]
fn slots_are_created_listed_and_dropped() {
    let server = &servers::packaged();
    let cluster = Cluster::builder(server).start();
    let conninfo = cluster.conninfo("postgres");
    let archive = Archive::new();
    let directory = archive.path().to_str().expect("ASCII");
    fails(
        &["receive-wal", &conninfo, "-D", directory, "-S", "nope"],
        1,
        "replication slot \"nope\" does not exist",
    );
    fails(&["slot", "drop", &conninfo, "nope"], 1, "(SQLSTATE 42704)");
    fails(&["slot", "drop", &conninfo, "nope"], 1, "\n  tapster slot ls 'host=");
    fails(&["slot", "create", &conninfo, "Not-A-Name"], 1, "(SQLSTATE 42602)");
    fails(&["slot", "create", &conninfo, &"x".repeat(64)], 2, "at most 63 characters");

    let create = ["slot", "create", &conninfo, "tap", "--json"];
    assert_has(&tapster_json(&create), json!({ "ok": true, "created": true }));
    fails(&["slot", "create", &conninfo, "tap"], 1, "(SQLSTATE 42710)");
    let again = tapster_json(&[&create[..], &["--if-not-exists"]].concat());
    assert_has(&again, json!({ "ok": true, "created": false }));

    let mut receiver = archive.receive(&conninfo, &["-S", "tap"]);
    receiver.wait_for("streaming");
    let list = tapster_json(&["slot", "ls", &conninfo, "--json"]);
    assert_has(&list, json!({ "schema": "tapster.slot-ls/1", "ok": true }));
    assert_has(&list["slots"][0], json!({ "slot_name": "tap", "slot_type": "physical", "active": true }));
    fails(&["slot", "drop", &conninfo, "tap"], 3, "is active for PID");
    // The archive is in use as well.
    let holder = format!("process {}", receiver.id());
    fails(&["receive-wal", &conninfo, "-D", directory, "-S", "tap"], 5, &holder);
    receiver.stop("TERM");

    let drop = ["slot", "drop", &conninfo, "tap", "--json"];
    assert_has(&tapster_json(&[&drop[..], &["--wait"]].concat()), json!({ "ok": true, "dropped": true }));
    assert_has(
        &tapster_json(&[&drop[..], &["--if-exists"]].concat()),
        json!({ "ok": true, "dropped": false }),
    );
}

#[test]
fn every_command_has_help_that_ends_with_its_exit_codes() {
    for command in [
        &["receive-wal"][..],
        &["status"],
        &["slot", "ls"],
        &["slot", "create"],
        &["slot", "drop"],
        &["switch-wal"],
        &["checkpoint"],
        &["restore-point"],
        &["low-level-backup"],
        &["check"],
        &["show"],
        &["verify"],
        &["conninfo"],
        &["wal", "ls"],
        &["completions"],
    ] {
        let help = tapster(&[command, &["--help"]].concat());
        assert!(help.status.success() && help.stderr.is_empty(), "{help:?}");
        let text = String::from_utf8(help.stdout).expect("UTF-8");
        assert!(text.contains("Exit codes:\n  0  "), "{command:?}:\n{text}");
        assert!(text.matches("\n  tapster ").count() >= 2, "{command:?} has no two examples:\n{text}");
        assert!(text.lines().all(|line| line.chars().count() <= 100), "{command:?}:\n{text}");
    }
    let unknown = tapster(&["statsu"]);
    assert_eq!(unknown.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("'status'"), "it suggests what was meant");
}

#[test]
fn a_reader_that_has_read_enough_is_no_failure() {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    assert_eq!(conninfo_into(writer.into()), Some(0));
}

#[test]
fn a_result_that_cannot_be_written_is_a_failure() {
    let full = || fs::OpenOptions::new().write(true).open("/dev/full").expect("Linux has it");
    assert_eq!(conninfo_into(full().into()), Some(6));

    // The help of each command names the exit code.
    let cluster = Cluster::builder(&servers::packaged()).archive().start();
    let (conninfo, archive) = (cluster.conninfo("postgres"), Archive::new());
    let directory = archive.path().to_str().expect("ASCII");
    for (command, args) in [
        (&["conninfo"][..], &["host=a"][..]),
        (&["completions"], &["bash"]),
        (&["status"], &[&conninfo]),
        (&["check"], &[&conninfo]),
        (&["show"], &[&conninfo, "--all"]),
        (&["slot", "create"], &[&conninfo, "tap"]),
        (&["slot", "ls"], &[&conninfo]),
        (&["slot", "drop"], &[&conninfo, "tap"]),
        (&["switch-wal"], &[&conninfo]),
        (&["checkpoint"], &[&conninfo]),
        (&["restore-point"], &[&conninfo, "here"]),
        (&["low-level-backup"], &[&conninfo, "-l", "x", "--fast", "-D", directory, "--", "true"]),
        (&["receive-wal"], &[&conninfo, "-D", directory, "--dry-run"]),
        (&["wal", "ls"], &[directory, "--json"]),
        (&["verify"], &[directory, "--json"]),
    ] {
        let args = [command, args].concat();
        let code = into(full().into(), &args).expect("no signal ends it");
        assert_eq!(code, 6, "{args:?}");
        let help = String::from_utf8(tapster(&[command, &["--help"]].concat()).stdout).expect("UTF-8");
        let (_, codes) = help.rsplit_once("Exit codes:").expect("every command has them");
        assert!(codes.lines().any(|line| line.starts_with("  6  ")), "{command:?}:{codes}");
    }
    // To a monitoring system 0 would be OK.
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    for stdout in [full().into(), writer.into()] {
        assert_eq!(into(stdout, &["check", &conninfo, "--nagios"]), Some(3));
    }
}

fn conninfo_into(stdout: Stdio) -> Option<i32> {
    into(stdout, &["conninfo", "host=a user=b"])
}

/// The exit code of a run with this stdout.
fn into(stdout: Stdio, args: &[&str]) -> Option<i32> {
    let mut program = Command::new(env!("CARGO_BIN_EXE_tapster"));
    let status = program.args(args).stdout(stdout).stderr(Stdio::null()).status();
    status.expect("the program starts").code()
}

#[test]
fn conninfo_tells_what_is_set_and_where() {
    let program = Program::tapster().env("PGPORT", "5433").env("PGPASSWORD", "s3cret");
    let output = program.args(&["conninfo", "host=a,b user=x", "--json"]).run();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    assert!(!text.contains("s3cret"), "{text}");
    let document: Value = serde_json::from_str(&text).expect("a document");
    assert_has(&document["parameters"]["host"], json!({ "value": "a,b", "source": "conninfo" }));
    assert_has(&document["parameters"]["port"], json!({ "value": "5433", "source": "PGPORT" }));
    assert_has(&document["parameters"]["password"], json!({ "value": "***", "source": "PGPASSWORD" }));
    // What cannot be used is shown all the same, and told.
    for (conninfo, keyword, value, message) in [
        ("sslmode=maybe", "sslmode", "maybe", "invalid sslmode value: \"maybe\""),
        ("host=a port=x", "port", "x", "invalid integer value \"x\" for connection option \"port\""),
        ("host=a port=65536", "port", "65536", "invalid port number: \"65536\""),
    ] {
        let output = tapster(&["conninfo", conninfo, "--json"]);
        assert_eq!(output.status.code(), Some(2), "{conninfo}");
        let document: Value = serde_json::from_slice(&output.stdout).expect("a document");
        assert_has(&document["parameters"][keyword], json!({ "value": value }));
        assert_has(&document["error"], json!({ "message": message, "exit": 2 }));
        let output = tapster(&["conninfo", conninfo]);
        assert_eq!(output.status.code(), Some(2), "{conninfo}");
        assert!(String::from_utf8_lossy(&output.stderr).contains(message), "{output:?}");
    }
}

#[test]
fn what_servers_note_is_shown_to_who_asks_for_it() {
    let cluster = Cluster::builder(&servers::packaged()).setting("client_min_messages", "debug1").start();
    let status = |level| {
        let program = Program::tapster().env("TAPSTER_LOG", level);
        let output = program.args(&["status", &cluster.conninfo("postgres")]).run();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stderr).expect("UTF-8")
    };
    assert_eq!(status("warn"), "");
    assert!(status("info").contains("info: DEBUG: "), "{}", status("info"));
}

/// The variables in the table of `tapster help environment`, and those of each flag of `receive-wal`.
fn all_variables() -> Vec<String> {
    let table = String::from_utf8(tapster(&["help", "environment"]).stdout).expect("UTF-8");
    let page = String::from_utf8(tapster(&["receive-wal", "--help"]).stdout).expect("UTF-8");
    let all = table + &page;
    let words = all.split(|c: char| !c.is_ascii_uppercase() && c != '_');
    let variables = words.filter(|word| word.starts_with("TAPSTER_") && word.len() > "TAPSTER_".len());
    variables.map(String::from).collect()
}

#[test]
fn a_variable_that_is_set_to_nothing_counts_as_not_set() {
    let variables = all_variables();
    assert!(variables.len() > 20, "{variables:?}");
    let port = closed_port().to_string();
    let archive = Archive::new();
    let directory = archive.path().to_str().expect("ASCII");
    let server = ["-H", "127.0.0.1", "-p", &port, "-U", "x"];
    for command in [
        &["conninfo"][..],
        &["status"],
        &["check"],
        &["show", "--all"],
        &["slot", "create", "tap"],
        &["slot", "ls"],
        &["slot", "drop", "tap"],
        &["switch-wal"],
        &["checkpoint"],
        &["restore-point", "x"],
        &["receive-wal", "-n", "-D", directory],
    ] {
        let args = [command, &server].concat();
        let plain = tapster(&args);
        let program = variables.iter().fold(Program::tapster(), |program, name| program.env(name, ""));
        let output = program.args(&args).run();
        assert_eq!(output.status.code(), plain.status.code(), "{args:?}: {output:?}");
        let said = |output: &std::process::Output| {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            // Without the time.
            said.lines()
                .map(|line| line.split_once("Z ").map_or(line, |(_, rest)| rest).to_string())
                .collect::<Vec<_>>()
        };
        assert_eq!(said(&output), said(&plain), "{args:?}");
    }
}

#[test]
fn an_error_names_the_variable_that_it_comes_from() {
    for (variable, value, args) in [
        ("TAPSTER_TIMEOUT", "soon", &["status", "host=a"][..]),
        ("TAPSTER_TIMEOUT", "soon", &["slot", "ls"]),
        ("TAPSTER_STATUS_INTERVAL", "-1", &["receive-wal", "host=a", "-D", "d"]),
        ("TAPSTER_ENDPOS", "x", &["receive-wal", "host=a", "-D", "d"]),
        ("TAPSTER_NO_LOOP", "maybe", &["receive-wal", "host=a", "-D", "d"]),
        ("TAPSTER_CREATE_SLOT", "yes", &["receive-wal", "host=a", "-D", "d"]),
        ("TAPSTER_SLOT", "tap", &["receive-wal", "--config", "x.toml"]),
        ("TAPSTER_PORT", "x", &["status", "host=a"]),
        ("TAPSTER_HOST", "postgresql://db1", &["status"]),
        ("TAPSTER_DBNAME", "no_such_keyword=1", &["status"]),
        ("TAPSTER_DBNAME", "postgresql://u:s3cret@[x", &["status"]),
    ] {
        for json in [false, true] {
            let json = if json { &["--json"][..] } else { &[] };
            let output = Program::tapster().env(variable, value).args(args).args(json).run();
            assert_eq!(output.status.code(), Some(2), "{variable}: {output:?}");
            let told = if json.is_empty() { &output.stderr } else { &output.stdout };
            let told = String::from_utf8_lossy(told);
            assert!(told.contains(variable) && !told.contains("s3cret"), "{variable}: {told}");
        }
        // Beside the flag itself the variable is not to blame.
        let output = Program::tapster().env(variable, "").args(&["status", "--nope"]).run();
        assert!(!String::from_utf8_lossy(&output.stderr).contains(variable), "{output:?}");
    }
    let output = Program::tapster().env("TAPSTER_LOG", "inof").args(&["conninfo", "host=a"]).run();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && told.contains("TAPSTER_LOG: \"inof\" is no level"), "{told}");
}

#[test]
fn the_command_line_takes_precedence_over_variables() {
    let shown = |args: &[&str]| {
        let program = Program::tapster().env("TAPSTER_DBNAME", "host=v1 port=1 user=v dbname=v");
        let program = program.env("TAPSTER_HOST", "v2").env("TAPSTER_USERNAME", "v2").env("PGPORT", "9");
        let output = program.args(&["conninfo", "--json"]).args(args).run();
        assert!(output.status.success(), "{output:?}");
        let document: Value = serde_json::from_slice(&output.stdout).expect("a document");
        ["host", "port", "user"].map(|keyword| {
            let parameter = &document["parameters"][keyword];
            format!("{}:{}", parameter["value"].as_str().unwrap(), parameter["source"].as_str().unwrap())
        })
    };
    assert_eq!(shown(&[]), ["v2:TAPSTER_HOST", "1:conninfo", "v2:TAPSTER_USERNAME"]);
    assert_eq!(shown(&["host=a"]), ["a:conninfo", "9:PGPORT", "v2:TAPSTER_USERNAME"]);
    assert_eq!(shown(&["postgresql://u@a"]), ["a:conninfo", "9:PGPORT", "u:conninfo"]);
    assert_eq!(shown(&["-d", "host=a", "-U", "f"]), ["a:conninfo", "9:PGPORT", "f:--username"]);
    assert_eq!(shown(&["-H", "f"]), ["f:--host", "1:conninfo", "v2:TAPSTER_USERNAME"]);

    // A slot that is named counts, and not the one of the variable.
    let cluster = Cluster::builder(&servers::packaged()).start();
    let conninfo = cluster.conninfo("postgres");
    let run = |args: &[&str]| {
        let program = Program::tapster().env("TAPSTER_SLOT", "of_variable").env("TAPSTER_DBNAME", &conninfo);
        let output = program.args(args).run();
        assert!(output.status.success(), "{args:?}: {output:?}");
        String::from_utf8(output.stdout).expect("UTF-8")
    };
    assert_eq!(run(&["slot", "create", "named"]), "slot named created\n");
    assert_eq!(run(&["slot", "create"]), "slot of_variable created\n");
    assert_eq!(run(&["slot", "drop", "named"]), "slot named dropped\n");
    assert_eq!(run(&["slot", "create", &conninfo, "named"]), "slot named created\n");
    assert_eq!(run(&["slot", "drop", &conninfo]), "slot of_variable dropped\n");
    assert_eq!(run(&["slot", "drop", "-S", "named"]), "slot named dropped\n");
}
