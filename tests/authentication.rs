//! Authentication by each method that servers have, with right, wrong and missing passwords.
#![cfg(feature = "cli")]

mod support;

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};
use support::process::clean_environment;
use support::{Auth, Cluster, Program, Server, assert_has, servers, tapster_json};

/// A role, its authentication method in `pg_hba.conf`, and how the server stores its password.
const ROLES: [(&str, &str, &str); 5] = [
    ("by_trust", "trust", "scram-sha-256"),
    ("by_password", "password", "scram-sha-256"),
    ("by_md5", "md5", "md5"),
    // The server asks for SCRAM all the same, because it has stored the password for SCRAM.
    ("by_either", "md5", "scram-sha-256"),
    ("by_scram", "scram-sha-256", "scram-sha-256"),
];

/// A plain password, two that SASLprep changes, and one that it forbids, whose bytes count as they are.
const PASSWORDS: [&str; 4] =
    ["walrus-17", "W\u{e4}lr\u{f6}\u{df}chen \u{1F418}", "\u{2168}\u{ad}\u{a0}\u{aa}", "a\u{7}b"];

fn cluster(server: &Server) -> Cluster {
    let line = |role: &str, method: &str| format!("host all,replication {role} 127.0.0.1/32 {method}");
    let mut builder = Cluster::builder(server).hba(&line("refused", "reject"));
    for (role, method, _) in ROLES {
        builder = builder.hba(&line(role, method));
    }
    builder.start()
}

/// Gives every role this password, stored as [`ROLES`] says.
fn set_password(cluster: &Cluster, password: &str) {
    let statements = ROLES.map(|(role, _, stored)| {
        format!("SET password_encryption = '{stored}'; ALTER ROLE {role} PASSWORD '{password}';")
    });
    cluster.sql(&statements.concat()).unwrap();
}

fn create_roles(cluster: &Cluster) {
    let statements = ROLES.map(|(role, _, _)| format!("CREATE ROLE {role} LOGIN REPLICATION;"));
    cluster
        .sql(&(statements.concat() + "CREATE ROLE plain LOGIN; CREATE ROLE refused LOGIN REPLICATION"))
        .unwrap();
}

fn conninfo(cluster: &Cluster, role: &str) -> String {
    format!("host=127.0.0.1 port={} user={role} dbname=postgres", cluster.port())
}

fn with_password(cluster: &Cluster, role: &str, password: &str) -> String {
    format!("{} password='{password}'", conninfo(cluster, role))
}

#[test]
fn every_major_accepts_the_right_password_and_no_other() {
    servers::for_each(|server| {
        let cluster = cluster(server);
        create_roles(&cluster);
        for password in PASSWORDS {
            set_password(&cluster, password);
            for (role, _, _) in ROLES {
                // An ordinary connection and one for replication.
                let status = tapster_json(&["status", &with_password(&cluster, role, password), "--json"]);
                assert_has(&status, json!({ "ok": true, "streaming": { "connection_error": null } }));
            }
        }
        wrong_passwords(&cluster);
        roles_without_privilege(&cluster);
    });
}

fn wrong_passwords(cluster: &Cluster) {
    for (role, _, _) in ROLES.into_iter().filter(|(_, method, _)| *method != "trust") {
        let wrong = with_password(cluster, role, "a\u{7}bx");
        let message = format!("password authentication failed for user \"{role}\"");
        for command in [&["status", &wrong][..], &["slot", "create", &wrong, "tap"]] {
            let error = refused(command, "28P01", &message);
            assert!(!error.to_string().contains("bx"), "{error}");
        }
    }
}

/// Roles that the server refuses for another reason than the password are told the reason.
fn roles_without_privilege(cluster: &Cluster) {
    let plain = conninfo(cluster, "plain");
    refused(&["slot", "create", &plain, "tap"], "42501", "to start");
    refused(&["status", &conninfo(cluster, "nobody")], "28000", "role \"nobody\" does not exist");
    refused(&["status", &conninfo(cluster, "refused")], "28000", "pg_hba.conf rejects connection");

    // The rest of the status is still available.
    let status = tapster_json(&["status", &plain, "--json"]);
    let error = status["streaming"]["connection_error"].as_str().expect("a text");
    assert!(error.contains("42501"), "{error}");
}

/// Runs a command that the server must refuse with this SQLSTATE and text. Checks the message on stderr and
/// the JSON document on stdout, and returns the document.
#[track_caller]
fn refused(command: &[&str], sqlstate: &str, text: &str) -> Value {
    let output = Program::tapster().args(command).run();
    assert_eq!(output.status.code(), Some(4), "{output:?}");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.starts_with("error: connection to server at \"127.0.0.1\""), "{said}");
    assert!(said.contains(text) && said.contains(sqlstate) && output.stdout.is_empty(), "{said}");

    let output = Program::tapster().args(command).args(&["--json"]).run();
    assert_eq!((output.status.code(), output.stderr.is_empty()), (Some(4), true), "{output:?}");
    let document: Value = serde_json::from_slice(&output.stdout).expect("one document");
    let error = json!({ "kind": "authentication", "sqlstate": sqlstate, "exit": 4 });
    assert_has(&document, json!({ "ok": false, "error": error }));
    assert!(
        document["error"]["message"].as_str().is_some_and(|message| message.contains(text)),
        "{document}"
    );
    document
}

#[test]
fn a_hint_says_how_to_give_a_missing_password() {
    let cluster = cluster(&servers::packaged());
    create_roles(&cluster);
    set_password(&cluster, "walrus-17");
    for (role, method, _) in ROLES {
        if method == "trust" {
            continue;
        }
        for command in ["status", "receive-wal"] {
            let dir = tempfile::tempdir().unwrap();
            let dir_option = [std::ffi::OsStr::new("-D"), dir.path().as_os_str()];
            let options = if command == "status" { &[][..] } else { &dir_option };
            let conninfo = conninfo(&cluster, role);
            let output = Program::tapster().args(&[command, &conninfo, "--json"]).args(options).run();
            assert_eq!(output.status.code(), Some(4), "{output:?}");
            // The receiver first gives its warning that it has no slot.
            let stdout = str::from_utf8(&output.stdout).expect("text");
            let document = support::program::json(stdout.lines().last().unwrap_or_default());
            assert_has(&document, json!({ "error": { "kind": "authentication", "exit": 4 } }));
            let hint = document["error"]["hint"].as_str().unwrap_or_default();
            assert!(hint.contains("PGPASSWORD") && hint.contains("pgpass"), "{document}");
        }
    }
}

#[test]
fn a_missing_password_is_asked_for_on_a_terminal() {
    let cluster = Cluster::builder(&servers::packaged()).auth(Auth::Scram).start();
    let conninfo = format!("host=127.0.0.1 port={} user=repl dbname=postgres", cluster.port());
    let directory = tempfile::tempdir().unwrap();
    let end = cluster.position();
    for command in [
        format!("status '{conninfo}'"),
        format!("slot ls '{conninfo}'"),
        format!("slot create '{conninfo}' one"),
        format!("receive-wal '{conninfo}' -D {} --dry-run", directory.path().display()),
        format!("receive-wal '{conninfo}' -D {} --endpos {end}", directory.path().display()),
    ] {
        for (password, code) in [("walrus-17", 0), ("wrong", 4)] {
            let (output, asked) =
                on_terminal(&format!("{} {command}", env!("CARGO_BIN_EXE_tapster")), password);
            assert_eq!((output.status.code(), asked), (Some(code), 1), "{command}: {output:?}");
        }
    }
    let link = directory.path().join("pg_receivewal");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_tapster"), &link).unwrap();
    let archive = tempfile::tempdir().unwrap();
    let command = format!("{} -d '{conninfo}' -D {} -E {end}", link.display(), archive.path().display());
    for (password, code) in [("walrus-17", 0), ("wrong", 1)] {
        let (output, asked) = on_terminal(&format!("{command} -n"), password);
        assert_eq!((output.status.code(), asked), (Some(code), 1), "{output:?}");
    }
}

/// Runs a shell command on a terminal, and types the password whenever the command asks for it. Returns the
/// output and how often the command asked.
fn on_terminal(command: &str, password: &str) -> (Output, usize) {
    let mut script = Command::new("script");
    clean_environment(&mut script).args(["-qec", command, "/dev/null"]).env("SHELL", "/bin/sh");
    let script = script.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut script = script.spawn().expect("util-linux is installed");
    let (mut keyboard, mut screen) = (script.stdin.take().unwrap(), script.stdout.take().unwrap());
    let (mut shown, mut asked, mut byte) = (Vec::new(), 0, [0]);
    while screen.read_exact(&mut byte).is_ok() {
        shown.extend(byte);
        if shown.ends_with(b": ")
            && shown[..].rsplit(|&b| b == b'\n').next().unwrap().starts_with(b"Password")
        {
            asked += 1;
            writeln!(keyboard, "{password}").unwrap();
        }
    }
    (Output { status: script.wait().unwrap(), stdout: shown, stderr: Vec::new() }, asked)
}

#[test]
fn the_password_file_is_used_and_named() {
    let cluster = cluster(&servers::packaged());
    create_roles(&cluster);
    set_password(&cluster, "pass:word\\");
    let status = |file: Option<&str>, mode: u32, file_name: &str| {
        let program = Program::tapster().args(&["status", &conninfo(&cluster, "by_scram")]);
        let path = program.home().join(file_name);
        if let Some(lines) = file {
            fs::write(&path, lines).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        }
        let program = if file_name == ".pgpass" { program } else { program.env("PGPASSFILE", &path) };
        let output = program.run();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned(), path)
    };
    let right = "# of the tests\nother:*:*:*:no\n127.0.0.1:*:*:by_scram:pass\\:word\\\\\n";
    for file_name in [".pgpass", "elsewhere"] {
        let (code, said, _) = status(Some(right), 0o600, file_name);
        assert_eq!((code, said.as_str()), (Some(0), ""));
        let (code, said, path) = status(Some("\n*:*:*:*:wrong\n"), 0o600, file_name);
        assert_eq!(code, Some(4));
        let named = format!("password retrieved from file \"{}\", line 2", path.display());
        assert!(said.contains(&named) && !said.contains("wrong"), "{said}");
        // Other users may read the file: it is ignored, with a warning.
        let (code, said, path) = status(Some(right), 0o644, file_name);
        assert_eq!(code, Some(4));
        assert!(said.contains(&path.display().to_string()) && said.contains("0600"), "{said}");
        assert_eq!(status(None, 0, file_name).0, Some(4));
    }
    let program = Program::tapster().args(&["status", &conninfo(&cluster, "by_scram")]);
    assert_eq!(program.env("PGPASSWORD", "pass:word\\").run().status.code(), Some(0));
}
