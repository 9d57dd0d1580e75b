//! The documents of `--json` against docs/json.md: its names, and its rules.

#![cfg(feature = "cli")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use support::{Archive, Cluster, Program, Receiver, json, servers};
use tapster::types::{Lsn, PgTimestamp};

/// The objects whose names are Barman's, or parameters'.
const NAMES_OF_OTHERS: [(&str, &str); 5] = [
    ("tapster.show/1", "members"),
    ("tapster.show/1", "errors"),
    ("tapster.status/1", "postgres"),
    ("tapster.status/1", "streaming"),
    ("tapster.conninfo/1", "parameters"),
];

/// Other words for things that have a name.
const SYNONYMS: [&str; 34] = [
    "system_identifier",
    "systemid",
    "sysid",
    "identifier",
    "lsn",
    "position",
    "location",
    "switchpoint",
    "walsenders",
    "wal_sender",
    "senders",
    "slot",
    "address",
    "hostname",
    "server_version",
    "tli",
    "size",
    "length",
    "file_size",
    "segment_size",
    "elapsed",
    "duration",
    "ms",
    "seconds",
    "age_s",
    "time",
    "timestamp",
    "date",
    "first",
    "last",
    "success",
    "status_code",
    "exit_code",
    "segment_name",
];

/// The page's fields and events.
struct Page {
    /// Section and field.
    fields: BTreeSet<(String, String)>,
    /// Event and field.
    events: BTreeSet<(String, String)>,
    schemas: BTreeSet<String>,
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

impl Page {
    fn read() -> Self {
        let text = fs::read_to_string(root().join("docs/json.md")).unwrap();
        let mut page = Self { fields: BTreeSet::new(), events: BTreeSet::new(), schemas: BTreeSet::new() };
        let mut section = String::new();
        for line in text.lines() {
            if let Some(heading) = line.strip_prefix("### ") {
                section = heading.trim_matches('`').into();
                if section.contains('/') {
                    page.schemas.insert(section.clone());
                }
            }
            let mut cells = line.trim_matches('|').split(" | ").map(str::trim);
            if !line.starts_with("| `") {
                continue;
            }
            let names = |cell: &str| -> Vec<String> {
                cell.split('`').skip(1).step_by(2).map(String::from).collect()
            };
            let (first, second) = (names(cells.next().unwrap()), cells.next().map(names).unwrap_or_default());
            if section == "tapster.receive-wal/1" && cells.next().is_some() {
                for event in &first {
                    page.events.insert((event.clone(), "event".into()));
                    page.events.extend(second.iter().map(|field| (event.clone(), field.clone())));
                }
            } else {
                page.fields.extend(first.into_iter().map(|field| (section.clone(), field)));
            }
        }
        page
    }

    /// Checks that the page has every field of a document; gives the fields that the document has.
    fn check(&self, document: &Value) -> BTreeSet<(String, String)> {
        let schema = document["schema"].as_str().unwrap_or_else(|| panic!("no schema: {document}"));
        assert!(self.schemas.contains(schema), "{schema} is not on the page: {document}");
        assert_eq!(document.as_object().unwrap().keys().next().unwrap(), "schema", "{document}");
        assert!(document["server"].is_null() || document["server"].is_object(), "{document}");
        let is_log = schema == "tapster.log/1";
        let is_event = is_log || schema == "tapster.receive-wal/1";
        assert!(is_event || document["ok"].is_boolean(), "{document}");
        let says_why = document["error"].is_object() || document["checks"].is_array();
        assert!(document["ok"] != false || says_why, "{document}");
        assert!(document["ok"] != true || document["error"].is_null(), "{document}");
        let mut seen = BTreeSet::new();
        let mut paths = Vec::new();
        collect(document, "", &mut |path, value| paths.push((path.to_string(), value.clone())));
        for (path, value) in paths {
            let top = path.split(['.', '[']).next().unwrap();
            if NAMES_OF_OTHERS.contains(&(schema, top)) {
                seen.insert((schema.to_string(), top.to_string()));
                continue;
            }
            check_rules(&path, &value, document);
            let known = match top {
                "schema" | "ok" if !is_event => continue,
                "schema" => continue,
                "server" | "error" if path != top => {
                    (top.to_string(), path.split_once('.').expect("a member").1.to_string())
                }
                // The same objects as in the list of slots.
                "slots" if schema == "tapster.status/1" && path != top => {
                    ("tapster.slot-ls/1".into(), path.clone())
                }
                _ => (schema.to_string(), path.clone()),
            };
            let event = (document["event"].as_str().unwrap_or_default().to_string(), path.clone());
            let base = ("tapster.receive-wal/1".to_string(), path.clone());
            let is_known = self.fields.contains(&known)
                || is_event
                    && (self.events.contains(&event) || self.fields.contains(&base) || top == "error");
            assert!(is_known, "{path} of {schema} is not on the page: {document}");
            if self.fields.contains(&known) {
                seen.insert(known);
            }
        }
        seen
    }
}

/// Calls `found` with each member of a document and its path.
fn collect(value: &Value, path: &str, found: &mut impl FnMut(&str, &Value)) {
    match value {
        Value::Object(members) => {
            for (name, value) in members {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                found(&path, value);
                collect(value, &path, found);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, &format!("{path}[]"), found)),
        _ => {}
    }
}

/// The rules about names and values.
fn check_rules(path: &str, value: &Value, document: &Value) {
    let name = path.rsplit('.').next().unwrap();
    assert!(!SYNONYMS.contains(&name), "{path} is another word for something that has a name: {document}");
    let wrong = |rule: &str| panic!("{path}: {rule}: {document}");
    let is_segment = |text: &str| text.len() == 24 && text.bytes().all(|b| b.is_ascii_hexdigit());
    if let Some(text) = value.as_str() {
        if text.parse::<Lsn>().is_ok() != name.ends_with("_lsn") {
            wrong("a position's name ends in _lsn");
        }
        let moment: Option<PgTimestamp> = text.parse().ok();
        let is_exact = moment.is_some_and(|moment| moment.to_string() == text);
        let is_named = name == "ts" || name.ends_with("_at");
        if (moment.is_some() || is_named) && !(is_exact && is_named) {
            wrong("a moment has microseconds, and is called ts or ends in _at");
        }
        // `wal get` may be asked for a segment, and a listed file may be one.
        if is_segment(text) && name != "name" && name != "segment" && !name.ends_with("_segment") {
            wrong("a segment's name ends in segment");
        }
    }
    if name == "bytes" || name.ends_with("_bytes") || name.ends_with("_ms") {
        assert!(value.is_i64() || value.is_u64() || value.is_null(), "{path}: no number: {document}");
    }
    for suffix in ["_s", "_sec", "_secs", "_seconds", "_kb", "_mb", "_kib", "_time", "_size"] {
        if name.ends_with(suffix) && name != "safe_wal_size" {
            wrong("a size is in bytes, a duration in milliseconds");
        }
    }
}

/// The documents on stdout of a run, whatever its exit code.
fn documents(program: Program) -> Vec<Value> {
    let output = program.run();
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    assert!(!text.is_empty(), "no document: {output:?}");
    text.lines().map(json).collect()
}

#[test]
fn every_document_is_as_the_page_says() {
    let cluster = Cluster::builder(&servers::packaged()).archive().start();
    let standby = cluster.standby();
    let (conninfo, archive) = (cluster.conninfo("postgres"), Archive::new());
    let copy = Archive::new();
    let (wal, copied) = (archive.path().to_str().unwrap(), copy.path().to_str().unwrap());
    let run = |args: &[&str]| documents(Program::tapster().args(args).args(&["--json"]));
    let unreachable = "host=127.0.0.1 port=1 user=u";
    let mut found = Vec::new();
    found.extend(run(&["slot", "create", &conninfo, "tap"]));
    found.extend(run(&["slot", "create", &conninfo, "tap"]));
    found.extend(run(&["checkpoint", &conninfo]));
    found.extend(run(&["restore-point", &conninfo, "here"]));
    found.extend(run(&["receive-wal", &conninfo, "-D", wal, "-S", "tap", "--dry-run"]));
    found.extend(run(&["receive-wal", &conninfo, "-D", wal, "-S", "nope", "--dry-run"]));
    found.extend(received(&cluster, &archive));
    let segment = archive.names()[0].clone();
    found.extend(run(&["switch-wal", &conninfo, "--wait"]));
    let mut receiver = archive.receive(&conninfo, &["-S", "tap"]);
    receiver.wait_for("streaming");
    cluster.write_wal(1000);
    found.extend(run(&["switch-wal", &conninfo, "--wait-for", wal]));
    receiver.stop("TERM");
    found.extend(run(&["slot", "ls", &conninfo]));
    found.extend(run(&["show", &cluster.conninfo("repl"), "--all"]));
    for server in [&conninfo[..], &standby.conninfo("postgres"), unreachable] {
        found.extend(run(&["status", server, "-S", "tap"]));
        found.extend(run(&["check", server, "-S", "tap"]));
        found.extend(run(&["check", server]));
        found.extend(run(&["show", server, "--all"]));
        found.extend(run(&["show", server, "current_xlog_info"]));
    }
    for command in [
        &["checkpoint"][..],
        &["switch-wal"],
        &["restore-point"],
        &["slot", "ls"],
        &["slot", "create"],
        &["slot", "drop"],
        &["show"],
        &["status"],
        &["check"],
        &["conninfo"],
        &["verify"],
        &["wal", "ls"],
        &["wal", "get"],
        &["low-level-backup"],
        &["receive-wal"],
    ] {
        let failed = documents(Program::tapster().args(command).args(&["--json", "--no-such-option"]));
        assert_eq!(failed[0]["schema"], "tapster.error/1", "{command:?}");
        found.extend(failed);
    }
    let refused = run(&["restore-point", &conninfo, &"x".repeat(64)]);
    assert_eq!(refused[0]["server"]["port"], cluster.port(), "{}", refused[0]);
    found.extend(refused);
    let backup =
        ["low-level-backup", &conninfo, "-l", "nightly", "--fast", "-D", copied, "--json", "--", "true"];
    found.extend(documents(Program::tapster().args(&backup)));
    found.extend(run(&["verify", wal]));
    found.extend(run(&["wal", "ls", wal]));
    let to = copy.file("restored");
    let to = to.to_str().unwrap();
    found.extend(run(&["wal", "get", "--from", wal, &segment, to]));
    found.extend(run(&["wal", "get", "--from", wal, "0000000900000000000000AA", to]));
    found.extend(run(&["wal", "get", "--from", "/no/such/directory", &segment, to]));
    fs::write(archive.file(&segment), "cut short").unwrap();
    found.extend(run(&["verify", wal]));
    found.extend(run(&["verify", "/no/such/directory"]));
    found.extend(run(&["conninfo", "host=a"]));
    found.extend(run(&["conninfo", "host=a sslmode=nonsense"]));
    found.extend(run(&["slot", "drop", &conninfo, "tap"]));
    found.extend(run(&["slot", "drop", &conninfo, "tap"]));

    let page = Page::read();
    let seen: BTreeSet<_> = found.iter().flat_map(|document| page.check(document)).collect();
    // In the other direction: what the page has is there. Some fields need more than this test has.
    let rare = ["wal_senders[].", "timelines[].gaps[]", "warnings", "problems[]", "accepted[]"];
    let missing: Vec<_> = page
        .fields
        .difference(&seen)
        .filter(|(section, field)| {
            section != "tapster.log/1" && !rare.iter().any(|rare| field.starts_with(rare))
        })
        .collect();
    assert!(missing.is_empty(), "on the page, and in no document: {missing:#?}");
    one_name_is_one_kind_of_value(&found);
    let about = |document: &&Value| document["server"].is_object();
    for document in found.iter().filter(about) {
        for field in ["host", "port", "version", "version_num", "system_id"] {
            assert!(document["server"].get(field).is_some(), "no {field}: {document}");
        }
    }
    // The same members for the same command, whether or not the server answers.
    for schema in ["tapster.status/1", "tapster.check/1"] {
        for document in found.iter().filter(|document| document["schema"] == schema) {
            let server = document["server"].as_object().expect("about a server");
            assert!(server.contains_key("in_recovery") && server.contains_key("timeline"), "{document}");
        }
    }
    let servers: BTreeSet<_> =
        found.iter().filter(about).map(|document| document["schema"].to_string()).collect();
    assert!(servers.len() >= 10, "{servers:?}");
}

/// Checks that a name stands for the same kind of value wherever it is.
fn one_name_is_one_kind_of_value(documents: &[Value]) {
    let mut kinds = BTreeMap::<String, BTreeMap<&str, String>>::new();
    for document in documents {
        let schema = document["schema"].as_str().unwrap();
        collect(document, "", &mut |path, value| {
            let top = path.split(['.', '[']).next().unwrap();
            let kind = match value {
                Value::Null => return,
                Value::Bool(_) => "boolean",
                Value::Number(_) => "number",
                Value::String(_) => "text",
                Value::Array(_) => "list",
                Value::Object(_) => "object",
            };
            if !NAMES_OF_OTHERS.contains(&(schema, top)) {
                let name = path.rsplit('.').next().unwrap().to_string();
                kinds.entry(name).or_default().insert(kind, format!("{path} of {schema}"));
            }
        });
    }
    // How many of each status there are.
    for status in ["ok", "warning", "failed"] {
        kinds.remove(status);
    }
    let mixed: Vec<_> = kinds.iter().filter(|(_, kinds)| kinds.len() > 1).collect();
    assert!(mixed.is_empty(), "{mixed:#?}");
}

/// The events of a receiver that stores two segments.
fn received(cluster: &Cluster, archive: &Archive) -> Vec<Value> {
    let mut receiver: Receiver =
        archive.receive(&cluster.conninfo("repl"), &["-S", "tap", "--create-slot", "--if-not-exists"]);
    receiver.wait_for("streaming");
    for _ in 0..2 {
        cluster.write_wal(1000);
        let last = cluster.switch_wal();
        receiver.wait_for_one("segment", |event| event["segment"] == last);
    }
    receiver.signal("USR1");
    receiver.wait_for("status");
    let events = receiver.events();
    let last = receiver.stop("TERM");
    let events: Vec<Value> = events.into_iter().chain([last]).collect();
    for event in &events {
        assert_eq!(event["schema"], "tapster.receive-wal/1", "{event}");
        assert_eq!(event["server"]["port"], cluster.port(), "{event}");
        assert!(event["server"]["name"].is_string() && event["ts"].is_string(), "{event}");
    }
    let connected = events.iter().find(|event| event["event"] == "connected").unwrap();
    let system = cluster.sql("SELECT system_identifier FROM pg_control_system()").unwrap();
    assert_eq!(connected["server"]["system_id"], system);
    events
}

#[test]
fn every_log_line_is_a_document_with_event_and_server() {
    let cluster = Cluster::builder(&servers::packaged()).start();
    let (archive, page) = (Archive::new(), Page::read());
    let (wal, conninfo) = (archive.path().to_str().unwrap(), cluster.conninfo("repl"));
    let end = cluster.position().to_string();
    let config = archive.file("config.toml");
    fs::write(&config, format!("[servers.db1]\nconn = \"{conninfo}\"\ndirectory = \"/no/such/directory\"\n"))
        .unwrap();
    let config = config.to_str().unwrap();
    for (args, last) in [
        (&["-D", wal, &conninfo, "--endpos", &end][..], "stopped"),
        (&["-D", wal, &conninfo, "-S", "nope"], "failed"),
        (&["-D", wal, "host=127.0.0.1 port=1", "--no-loop"], "failed"),
        (&["-D", "/no/such/directory", &conninfo], "failed"),
        (&["-D", wal, "no_such_keyword=1"], "failed"),
        (&["-D", wal, &conninfo, "--no-such-option"], "failed"),
        (&["--config", config], "failed"),
    ] {
        for by_variable in [false, true] {
            let program = Program::tapster().args(&["receive-wal"]).args(args);
            let program = match by_variable {
                true => program.env("TAPSTER_LOG_FORMAT", "json").env("TAPSTER_LOG", "info"),
                false => program.args(&["--log-format", "json"]),
            };
            let output = program.run();
            let text = String::from_utf8(output.stderr).unwrap();
            let lines: Vec<Value> = text.lines().map(json).collect();
            for line in &lines {
                page.check(line);
                for field in ["ts", "level", "event", "message"] {
                    assert!(line[field].is_string(), "no {field}: {line}");
                }
                assert!(line["server"].is_object(), "{line}");
            }
            // A mistake in the arguments comes before there is a server to name.
            let is_mistake = args.iter().any(|arg| arg.starts_with("no_such") || *arg == "--no-such-option");
            for line in lines.iter().filter(|line| !is_mistake && line["event"] != "log") {
                assert!(line["server"]["name"].is_string(), "{line}");
            }
            let line = lines.last().unwrap_or_else(|| panic!("{args:?} said nothing"));
            assert_eq!(line["event"], last, "{line}");
            assert_eq!(line["error"].is_object(), last == "failed", "{line}");
        }
    }
}

#[test]
fn the_page_has_every_schema_and_event_of_the_source() {
    let page = Page::read();
    let (mut schemas, mut events) = (BTreeSet::new(), BTreeSet::new());
    let mut files = Vec::from([root().join("src/cli")]);
    while let Some(path) = files.pop() {
        if path.is_dir() {
            files.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        let strings = |before: &str| -> Vec<String> {
            let after = text.split(before).skip(1);
            let quoted = after.filter_map(|after| after.trim_start().strip_prefix('"')?.split('"').next());
            quoted.map(String::from).collect()
        };
        schemas.extend(strings("\"schema\": "));
        if in_receive_wal(&path) {
            let names = ["\"event\": ", "warning(", "problem("].into_iter().flat_map(strings);
            events.extend(names.filter(|name| name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')));
        }
    }
    assert_eq!(page.schemas, schemas);
    let of_page: BTreeSet<String> = page.events.iter().map(|(event, _)| event.clone()).collect();
    assert_eq!(of_page, events);
}

fn in_receive_wal(path: &Path) -> bool {
    path.parent().is_some_and(|parent| parent.ends_with("receive_wal"))
}

#[test]
fn a_document_that_breaks_a_rule_would_be_seen() {
    let page = Page::read();
    let accepts = |text: &str| std::panic::catch_unwind(|| page.check(&json(text))).is_ok();
    assert!(accepts(
        r#"{"schema":"tapster.restore-point/1","ok":true,"name":"x","restore_point_lsn":"0/1"}"#
    ));
    for wrong in [
        r#"{"ok":true,"name":"x"}"#,
        r#"{"schema":"tapster.nothing/1","ok":true}"#,
        r#"{"schema":"tapster.restore-point/1","ok":true,"name":"x","lsn":"0/1"}"#,
        r#"{"schema":"tapster.restore-point/1","ok":true,"name":"0/1"}"#,
        r#"{"schema":"tapster.restore-point/1","ok":true,"server":"db1"}"#,
        r#"{"schema":"tapster.low-level-backup/1","ok":true,"started_at":"2026-11-22T08:50:11Z"}"#,
        r#"{"schema":"tapster.wal-get/1","ok":true,"partial_bytes":"16 MB"}"#,
        r#"{"schema":"tapster.verify/1","ok":false}"#,
    ] {
        assert!(!accepts(wrong), "{wrong}");
    }
}
