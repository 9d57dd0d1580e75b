//! Hints are followed literally: what a command advises is pasted, and then the command has to succeed.

#![cfg(feature = "cli")]

mod support;

use std::path::Path;
use std::process::Output;

use support::{Cluster, Program, Server, servers};

const PASSWORD: &str = "a secret";
const HBA: &str = "at the top of pg_hba.conf: ";

/// A shell in which `tapster` is the program that was built.
fn shell(line: &str) -> Output {
    let tapster = Path::new(env!("CARGO_BIN_EXE_tapster"));
    let path =
        format!("{}:{}", tapster.parent().unwrap().display(), std::env::var("PATH").unwrap_or_default());
    Program::new(Path::new("/bin/sh")).env("PATH", path).env("PGPASSWORD", PASSWORD).args(&["-c", line]).run()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A word for the shell.
fn word(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// Follows each line that can be pasted. Returns them.
fn follow(cluster: &Cluster, hint: &str) -> Vec<String> {
    let mut followed = Vec::new();
    for line in hint.lines().map(str::trim) {
        if line.ends_with(';') {
            // Of two alternatives one may fail.
            let is_alternative = hint.contains("or if it does not exist:");
            let done = cluster.sql(line);
            assert!(done.is_ok() || is_alternative, "{line}: {done:?}");
        } else if let Some(entry) = line.strip_prefix(HBA) {
            let file = cluster.data_dir().join("pg_hba.conf");
            let lines = format!("{entry}\n{}", std::fs::read_to_string(file).unwrap());
            cluster.write_file("pg_hba.conf", lines.as_bytes());
        } else if line.starts_with("tapster ") {
            let output = shell(line);
            assert!(output.status.success(), "{line}: {}", stderr(&output));
        } else {
            continue;
        }
        followed.push(line.to_string());
    }
    followed
}

/// Runs the command, which must fail with this code, follows its hint, and runs it again. Returns what was followed.
#[track_caller]
fn mended(cluster: &Cluster, command: &str, code: i32) -> Vec<String> {
    let failed = shell(command);
    let said = stderr(&failed);
    assert_eq!(failed.status.code(), Some(code), "{command}: {said}");
    let (_, hint) = said.split_once("hint: ").unwrap_or_else(|| panic!("{command}: no hint in {said}"));
    let followed = follow(cluster, hint);
    assert!(!followed.is_empty(), "{command}: nothing to paste in {said}");
    let again = shell(command);
    assert!(again.status.success(), "{command}: after {followed:#?}: {}\nbefore: {said}", stderr(&again));
    followed
}

/// Runs `check`, which must fail, follows the hints of its line `connection`, and runs it again.
#[track_caller]
fn mended_by_check(cluster: &Cluster, command: &str) -> Vec<String> {
    let check = || {
        let output = shell(&format!("{command} --json"));
        let document: serde_json::Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}", stderr(&output)));
        document["checks"][0].clone()
    };
    let failed = check();
    assert_eq!((&failed["name"], &failed["status"]), (&"connection".into(), &"failed".into()), "{failed}");
    let followed = follow(cluster, failed["hint"].as_str().unwrap());
    let again = check();
    assert_eq!(again["status"], "ok", "{followed:#?} did not mend {failed}: {again}");
    followed
}

/// How a role is kept out, and what its hint has to begin and may not begin with.
struct Refusal {
    role: &'static str,
    database: &'static str,
    over_socket: bool,
    breaks: &'static [&'static str],
    expected: &'static str,
    /// What the hint in English must not have.
    not: &'static str,
}

const TCP: Refusal = Refusal {
    role: "",
    database: "postgres",
    over_socket: false,
    breaks: &[],
    expected: "",
    not: "CREATE ROLE",
};

const REFUSALS: &[Refusal] = &[
    Refusal { role: "no entry", expected: "host postgres \"no entry\" 127.0.0.1/32 ", ..TCP },
    Refusal { role: "rejected", expected: "host postgres rejected 127.0.0.1/32 ", ..TCP },
    Refusal { role: "no-socket", over_socket: true, expected: "local postgres \"no-socket\" ", ..TCP },
    Refusal { role: "peered", over_socket: true, expected: "local postgres peered ", ..TCP },
    Refusal { role: "idented", expected: "host postgres idented 127.0.0.1/32 ", ..TCP },
    Refusal {
        role: "it's \"quoted\"",
        breaks: &["ALTER ROLE \"it's \"\"quoted\"\"\" NOLOGIN"],
        expected: "ALTER ROLE \"it's \"\"quoted\"\"\" LOGIN;",
        ..TCP
    },
    Refusal {
        role: "user",
        breaks: &["DROP ROLE \"user\""],
        expected: "CREATE ROLE \"user\" LOGIN;",
        not: "ALTER ROLE",
        ..TCP
    },
    Refusal {
        role: "limited",
        breaks: &["ALTER ROLE limited CONNECTION LIMIT 0"],
        expected: "ALTER ROLE limited CONNECTION LIMIT -1;",
        not: "max_connections",
        ..TCP
    },
    Refusal {
        role: "plain",
        database: "small-db",
        breaks: &["ALTER DATABASE \"small-db\" CONNECTION LIMIT 0"],
        expected: "ALTER DATABASE \"small-db\" CONNECTION LIMIT -1;",
        not: "max_connections",
        ..TCP
    },
    Refusal {
        role: "plain",
        database: "small-db",
        breaks: &["REVOKE CONNECT ON DATABASE \"small-db\" FROM public"],
        expected: "GRANT CONNECT ON DATABASE \"small-db\" TO plain;",
        ..TCP
    },
    Refusal {
        role: "plain",
        database: "small-db",
        breaks: &["ALTER DATABASE \"small-db\" ALLOW_CONNECTIONS false"],
        expected: "ALTER DATABASE \"small-db\" ALLOW_CONNECTIONS true;",
        ..TCP
    },
];

/// Makes all roles and the databases new, each with its own line of `pg_hba.conf`.
fn prepare(cluster: &Cluster) {
    cluster.write_file(
        "pg_hba.conf",
        b"local all postgres trust\nlocal all peered peer\nhost all rejected 127.0.0.1/32 reject\n\
          host all idented 127.0.0.1/32 ident\n\
          host all plain,limited,\"it's \"\"quoted\"\"\",\"user\" 127.0.0.1/32 trust\n\
          host all,replication \"my-role\" 127.0.0.1/32 trust\n",
    );
    cluster.sql("SELECT pg_reload_conf()").unwrap();
    for refusal in REFUSALS {
        let role = refusal.role.replace('"', "\"\"");
        cluster.sql(&format!("DROP ROLE IF EXISTS \"{role}\"")).unwrap_or_default();
        cluster.sql(&format!("CREATE ROLE \"{role}\" LOGIN PASSWORD '{PASSWORD}'")).unwrap_or_default();
    }
}

/// The packaged server, which has its texts in other languages too.
fn translated() -> Cluster {
    let cluster =
        Cluster::builder(&servers::packaged()).setting("password_encryption", "scram-sha-256").start();
    cluster.sql("CREATE DATABASE \"small-db\"").unwrap();
    cluster
}

fn follow_every_refusal(cluster: &Cluster, is_english: bool) {
    let (port, socket) = (cluster.port(), cluster.socket_dir().display().to_string());
    for by_check in [false, true] {
        prepare(cluster);
        for refusal in REFUSALS {
            let host = if refusal.over_socket { &socket } else { cluster.host() };
            let (host, role, database) = (word(host), word(refusal.role), word(refusal.database));
            let connection = format!("-H {host} -p {port} -U {role} -d {database} -w");
            if by_check && refusal.database != "postgres" {
                cluster.sql("DROP DATABASE \"small-db\" WITH (FORCE)").unwrap();
                cluster.sql("CREATE DATABASE \"small-db\"").unwrap();
            }
            refusal.breaks.iter().for_each(|sql| drop(cluster.sql(sql).unwrap()));
            let followed = if by_check {
                mended_by_check(cluster, &format!("tapster check {connection}"))
            } else {
                let code = if refusal.expected.contains("LIMIT") || refusal.expected.contains("ALLOW_") {
                    3
                } else {
                    4
                };
                mended(cluster, &format!("tapster status {connection}"), code)
            };
            let followed = followed.join("\n");
            assert!(followed.contains(refusal.expected), "{}: {followed}", refusal.role);
            assert!(!is_english || !followed.contains(refusal.not), "{}: {followed}", refusal.role);
        }
    }
}

#[test]
fn the_hint_of_a_refusal_lets_the_role_in() {
    follow_every_refusal(&translated(), true);
}

#[test]
fn the_hint_of_a_refusal_in_german_lets_the_role_in() {
    let cluster = translated();
    if cluster.sql("ALTER SYSTEM SET lc_messages = 'de_DE.UTF-8'").is_err() {
        println!(
            "LEFT OUT: this machine has no locale de_DE.UTF-8 (localedef -i de_DE -f UTF-8 de_DE.UTF-8)"
        );
        return;
    }
    cluster.restart();
    assert!(cluster.sql("SELECT 1/0").unwrap_err().contains("Division durch Null"));
    follow_every_refusal(&cluster, false);
}

/// A role that may do nothing, on a server of each version.
fn powerless(server: &Server) -> (Cluster, String) {
    let cluster = Cluster::builder(server).start();
    cluster.sql("CREATE ROLE \"my-role\" LOGIN").unwrap();
    let connection =
        format!("'host={} port={} user=my-role dbname=postgres'", cluster.host(), cluster.port());
    (cluster, connection)
}

#[test]
fn the_hint_of_a_missing_privilege_grants_it() {
    servers::for_each(|server| {
        let (cluster, connection) = powerless(server);
        let point = mended(&cluster, &format!("tapster restore-point {connection} x"), 4);
        assert_eq!(
            point,
            ["GRANT EXECUTE ON FUNCTION pg_catalog.pg_create_restore_point(text) TO \"my-role\";"]
        );
        let copy = tempfile::tempdir().unwrap();
        let copy = word(&copy.path().display().to_string());
        let backup = format!("tapster low-level-backup {connection} --fast -l x -D {copy} -- true");
        let granted = mended(&cluster, &backup, 4);
        assert!(granted.iter().all(|line| line.starts_with("GRANT ")), "{granted:?}");
        cluster.sql("REVOKE pg_monitor FROM \"my-role\"").unwrap();
        cluster.sql("REVOKE EXECUTE ON FUNCTION pg_switch_wal() FROM \"my-role\"").unwrap();
        let granted = mended(&cluster, &format!("tapster switch-wal {connection}"), 4);
        assert_eq!(granted.len(), 2, "{granted:?}");
        let granted = mended(&cluster, &format!("tapster checkpoint {connection}"), 4);
        let expected = if server.major >= 15 {
            "GRANT pg_checkpoint TO \"my-role\";"
        } else {
            "ALTER ROLE \"my-role\" SUPERUSER;"
        };
        assert_eq!(granted, [expected]);
        cluster.sql("ALTER ROLE \"my-role\" NOSUPERUSER").unwrap();
        let slot = mended(&cluster, &format!("tapster slot create {connection} tap"), 4);
        assert_eq!(slot, ["ALTER ROLE \"my-role\" REPLICATION;"]);
    });
}

#[test]
fn the_hint_about_a_missing_slot_creates_it_on_the_same_server() {
    let (cluster, connection) = powerless(&servers::packaged());
    cluster.sql("ALTER ROLE \"my-role\" REPLICATION").unwrap();
    let wal = tempfile::tempdir().unwrap();
    let wal = wal.path().display().to_string();
    let receive = format!("tapster receive-wal {connection} -D {wal} -S tap --no-loop --dry-run");
    let followed = mended(&cluster, &receive, 1);
    assert_eq!(followed, [format!("tapster slot create {connection} tap")]);
    // As flags, and with a password that must not be repeated.
    let (host, port) = (cluster.host(), cluster.port());
    let flags = format!("-H {host} -p {port} -U my-role -d 'dbname=postgres password=secret'");
    let followed = mended(&cluster, &format!("tapster receive-wal {flags} -D {wal} -S other --dry-run"), 1);
    assert_eq!(
        followed,
        [format!("tapster slot create -d dbname=postgres -H {host} -p {port} -U my-role other")]
    );
    // check's own commands too.
    cluster.sql("SELECT pg_drop_replication_slot('tap')").unwrap();
    let check = shell(&format!("tapster check {connection} -S tap --for receive"));
    let said = String::from_utf8_lossy(&check.stdout).into_owned();
    let followed = follow(&cluster, &said);
    assert!(followed.contains(&format!("tapster slot create {connection} tap")), "{said}");
    let check = shell(&format!("tapster check {connection} -S tap --for receive"));
    let said = String::from_utf8_lossy(&check.stdout).into_owned();
    assert!(said.contains(&format!("tapster receive-wal {connection} -S tap -D DIR")), "{said}");
}

#[test]
fn the_hint_of_pg_receivewal_is_in_its_own_options() {
    let (cluster, _) = powerless(&servers::packaged());
    cluster.sql("ALTER ROLE \"my-role\" REPLICATION").unwrap();
    let link = tempfile::tempdir().unwrap();
    let program = link.path().join("pg_receivewal");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_tapster"), &program).unwrap();
    let port = cluster.port().to_string();
    let wal = link.path().display().to_string();
    let run = |role: &str| {
        let program = Program::new(&program).env("PGPASSWORD", PASSWORD);
        let output = program
            .args(&["-h", cluster.host(), "-p", &port, "-U", role, "-D", &wal, "-S", "tap", "-n"])
            .run();
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        stderr(&output)
    };
    let said = run("my-role");
    let command = format!("pg_receivewal -h 127.0.0.1 -p {port} -U my-role --create-slot -S tap");
    assert!(said.contains(&command) && !said.contains("tapster"), "{said}");
    let said = run("absent");
    assert!(said.contains("CREATE ROLE absent LOGIN REPLICATION;") && !said.contains("tapster"), "{said}");
}

/// `ALTER ROLE ... SET`: what a role's own settings change must not change our answers.
#[test]
fn settings_of_the_role_do_not_change_the_answers() {
    servers::for_each(|server| {
        let cluster = Cluster::builder(server).start();
        cluster.sql("CREATE ROLE grp NOLOGIN").unwrap();
        cluster.sql("CREATE ROLE u LOGIN REPLICATION IN ROLE grp").unwrap();
        let (host, port) = (cluster.host(), cluster.port());
        let connection = format!("-H {host} -p {port} -U u -d dbname=postgres");
        let show = || {
            let members = [
                "is_superuser",
                "has_backup_privileges",
                "get_tablespaces",
                "archive_timeout",
                "server_txt_version",
            ];
            let values = members.map(|member| {
                let output = shell(&format!("tapster show {connection} {member}"));
                assert!(output.status.success(), "{member}: {}", stderr(&output));
                String::from_utf8_lossy(&output.stdout).into_owned()
            });
            let all = shell(&format!("tapster show {connection} --all --json"));
            assert!(all.status.success(), "{}", stderr(&all));
            let status = shell(&format!("tapster status {connection}"));
            assert!(status.status.success(), "{}", stderr(&status));
            values
        };
        let plain = show();
        for setting in [
            "role = grp",
            "search_path = 'nowhere'",
            "datestyle = 'german, dmy'",
            "intervalstyle = 'sql_standard'",
            "bytea_output = 'escape'",
            "standard_conforming_strings = off",
            "lc_numeric = 'C'",
            "client_encoding = 'latin1'",
            "timezone = 'Asia/Kathmandu'",
            "default_transaction_read_only = on",
            "row_security = off",
            "quote_all_identifiers = on",
            "transform_null_equals = on",
            "extra_float_digits = -15",
            "default_transaction_isolation = 'serializable'",
            "client_min_messages = 'debug5'",
        ] {
            cluster.sql(&format!("ALTER ROLE u SET {setting}")).unwrap();
            assert_eq!(show(), plain, "{setting}");
            cluster.sql("ALTER ROLE u RESET ALL").unwrap();
        }
        // A statement is as slow as it is, and the limit is ours.
        let timeouts = if server.major >= 17 {
            &["statement_timeout", "lock_timeout", "transaction_timeout"][..]
        } else {
            &["statement_timeout", "lock_timeout"]
        };
        for timeout in timeouts {
            cluster.sql(&format!("ALTER ROLE u SET {timeout} = '50s'")).unwrap();
            let set = |options: &str| {
                let output = shell(&format!("{options} tapster show {connection} get_setting:{timeout}"));
                assert!(output.status.success(), "{}", stderr(&output));
                String::from_utf8_lossy(&output.stdout).trim().to_string()
            };
            assert_eq!(set(""), "0", "{timeout}");
            assert_eq!(set(&format!("PGOPTIONS='-c {timeout}=40s'")), "40s", "what the user asks for stays");
        }
        cluster.sql("ALTER ROLE u RESET ALL").unwrap();
        // The privileges are those of the group, and the attribute is that of the role that logs in.
        cluster.sql("ALTER ROLE u SET role = grp").unwrap();
        let check =
            || String::from_utf8_lossy(&shell(&format!("tapster check {connection}")).stdout).into_owned();
        let before = check();
        let followed = follow(&cluster, &before);
        assert!(followed.iter().any(|line| line == "GRANT pg_monitor TO grp;"), "{before}");
        assert!(before.contains("replication login   ok"), "{before}");
        let after = check();
        assert!(after.contains("0 failed"), "{after}");
        cluster.sql("ALTER ROLE u NOREPLICATION").unwrap();
        let without = check();
        assert!(without.contains("ALTER ROLE u REPLICATION;"), "{without}");
    });
}
