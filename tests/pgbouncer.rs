//! Behind a real PgBouncer: ordinary sessions work, leave nothing behind for other clients, and what it refuses is
//! explained.
#![cfg(all(feature = "postgres", feature = "cli"))]

mod support;

use std::fs;
use std::path::Path;

use support::process::{PATIENCE, Running};
use support::servers::{self, give_to_server_user};
use support::{Cluster, Program, Server, tapster_json, wait_until};

/// A PgBouncer in front of the cluster, in a directory of its own.
struct Pooler {
    dir: tempfile::TempDir,
    _running: Running,
}

impl Pooler {
    fn start(cluster: &Cluster, mode: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        give_to_server_user(dir.path());
        let path = dir.path().display();
        let settings = dir.path().join("pgbouncer.ini");
        let (host, port) = (cluster.host(), cluster.port());
        let text = format!(
            "[databases]\n* = host={host} port={port} user=postgres pool_size=1\n[pgbouncer]\nlisten_port = 6432\n\
             unix_socket_dir = {path}\nauth_type = any\npool_mode = {mode}\n"
        );
        fs::write(&settings, text).unwrap();
        // It refuses to run as root.
        let pgbouncer = Server { major: 0, bin: "/usr/sbin".into() };
        let mut command = pgbouncer.command("pgbouncer");
        command.arg(&settings);
        let running = Running::spawn(command);
        let socket = dir.path().join(".s.PGSQL.6432");
        wait_until(PATIENCE, "PgBouncer listens", || Path::new(&socket).exists());
        Self { dir, _running: running }
    }

    fn conninfo(&self) -> String {
        format!("host={} port=6432 user=postgres dbname=postgres", self.dir.path().display())
    }
}

#[test]
fn sessions_behind_a_pooler_work_and_leave_nothing_behind() {
    let cluster = Cluster::builder(&servers::packaged()).start();
    for mode in ["session", "transaction"] {
        let pooler = Pooler::start(&cluster, mode);
        let conninfo = pooler.conninfo();
        let status = tapster_json(&["status", "-d", &conninfo, "--json"]);
        assert_eq!(status["server"]["in_recovery"], false, "{status}");
        assert!(status.to_string().contains("unsupported startup parameter: replication"), "{status}");
        let shown = Program::tapster().args(&["show", "is_in_recovery", "-d", &conninfo]).run();
        assert_eq!(String::from_utf8_lossy(&shown.stdout), "false\n", "{shown:?}");
        let check = Program::tapster().args(&["check", "--for", "backup", "-d", &conninfo]).run();
        assert!(check.status.success(), "{check:?}");
        // The one connection of the pool still has its own search path.
        let path = support::cluster::psql(&conninfo, "SHOW search_path");
        assert_eq!(path.as_deref(), Ok("\"$user\", public"), "{mode}");
    }
}

#[test]
fn what_a_pooler_refuses_is_explained() {
    let cluster = Cluster::builder(&servers::packaged()).start();
    let pooler = Pooler::start(&cluster, "transaction");
    let conninfo = pooler.conninfo();
    let archive = tempfile::tempdir().unwrap();
    let directory = archive.path().to_str().unwrap();
    let receiver = ["receive-wal", "-D", directory, "--no-loop", "-d", &conninfo];
    let received = Program::tapster().args(&receiver).run();
    let text = String::from_utf8_lossy(&received.stderr);
    assert!(!received.status.success() && text.contains("it takes no replication connections"), "{text}");

    let shown = Program::tapster()
        .env("PGOPTIONS", "-cwork_mem=1MB")
        .args(&["show", "is_in_recovery", "-d", &conninfo])
        .run();
    let text = String::from_utf8_lossy(&shown.stderr);
    assert!(!shown.status.success() && text.contains("ignore_startup_parameters"), "{text}");
}
