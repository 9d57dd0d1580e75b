//! The harness itself: what `tests/support` promises, shown with every server there is.

mod support;

use core::panic::AssertUnwindSafe;
use core::time::Duration;
use std::fs;
use std::io::Read as _;
use std::panic::catch_unwind;
use std::path::Path;
use std::process::{Command, Stdio};

use support::cluster::psql;
use support::process::{PATIENCE, children, is_alive};
use support::{Auth, Cluster, Program, Server, Stop, oracle, servers, wait_until};

#[test]
fn every_major_starts_and_says_its_version() {
    servers::for_each(|server| {
        let cluster = Cluster::builder(server).start();
        let version = cluster.sql("SELECT version()").unwrap();
        assert!(version.starts_with(&format!("PostgreSQL {}.", server.major)), "{version}");
        let segment_size = if server.major == 10 { "16MB" } else { "1MB" };
        assert_eq!(cluster.sql("SHOW wal_segment_size").unwrap(), segment_size);
    });
}

#[test]
fn passwords_are_asked_for_by_every_method_but_trust() {
    let server = servers::packaged();
    for auth in Auth::ALL {
        passwords_are_asked_for(&server, auth);
    }
}

#[test]
fn every_major_asks_for_passwords() {
    servers::for_each(|server| passwords_are_asked_for(server, Auth::Scram));
}

fn passwords_are_asked_for(server: &Server, auth: Auth) {
    let cluster = Cluster::builder(server).auth(auth).start();
    let stored = if auth == Auth::Md5 { "md5" } else { "SCRAM-SHA-256$" };
    let kinds = format!("SELECT count(*) FROM pg_authid WHERE rolpassword LIKE '{stored}%'");
    assert_eq!(cluster.sql(&kinds).as_deref(), Ok("2"), "{auth:?}");

    for conninfo in [cluster.conninfo("repl"), cluster.socket_conninfo("repl")] {
        let (without, _) = conninfo.split_once(" password=").expect("the password comes last");
        let none = without.to_owned();
        let wrong = format!("{without} password=wrong");
        for mode in ["", " replication=true"] {
            let attempt = |conninfo: &str| psql(&format!("{conninfo}{mode}"), "SHOW server_version");
            attempt(&conninfo).unwrap();
            for refused in [&none, &wrong] {
                assert_eq!(attempt(refused).is_ok(), auth == Auth::Trust, "{auth:?}: {refused}{mode}");
            }
        }
    }
}

#[test]
fn data_and_port_survive_restarts_of_all_kinds() {
    servers::for_each(|server| {
        let cluster = Cluster::builder(server).start();
        let port = cluster.port();
        cluster.sql("CREATE TABLE kept (i int)").unwrap();
        let insert = || cluster.sql("INSERT INTO kept VALUES (1) RETURNING (SELECT count(*) FROM kept)");

        assert_eq!(insert().as_deref(), Ok("0"));
        cluster.restart();
        assert_eq!(insert().as_deref(), Ok("1"));
        cluster.stop(Stop::Smart);
        assert!(cluster.sql("SELECT 1").is_err(), "a stopped server answered");
        cluster.start();
        assert_eq!(insert().as_deref(), Ok("2"));
        cluster.stop(Stop::Immediate);
        cluster.start();
        assert_eq!(insert().as_deref(), Ok("3"));
        cluster.kill_9();
        cluster.start();
        assert_eq!(insert().as_deref(), Ok("4"));

        assert_eq!(cluster.port(), port);
        assert_eq!(cluster.log().matches("automatic recovery in progress").count(), 2, "{}", cluster.log());
    });
}

#[test]
fn a_standby_follows_and_can_be_promoted() {
    servers::for_each(|server| {
        let primary = Cluster::builder(server).auth(Auth::Scram).start();
        let standby = primary.standby();
        primary.sql("CREATE TABLE sent (i int); INSERT INTO sent VALUES (7)").unwrap();
        standby.wait_for_replay_of(&primary);
        assert_eq!(standby.sql("SELECT i, pg_is_in_recovery() FROM sent").as_deref(), Ok("7|t"));
        assert_eq!(primary.sql("SELECT usename FROM pg_stat_replication").as_deref(), Ok("repl"));

        standby.promote();
        standby.sql("INSERT INTO sent VALUES (8); CHECKPOINT").unwrap();
        let timeline = "SELECT timeline_id FROM pg_control_checkpoint()";
        assert_eq!(standby.sql(timeline).as_deref(), Ok("2"));
        assert_eq!(primary.sql(timeline).as_deref(), Ok("1"));
    });
}

#[test]
fn nothing_is_left_of_a_dropped_cluster() {
    let cluster = Cluster::builder(&servers::packaged()).start();
    let (dir, postmaster) = (cluster.socket_dir(), cluster.postmaster_pid());
    let mut processes = children(postmaster);
    processes.push(postmaster);
    assert!(processes.len() > 3 && processes.iter().all(|&pid| is_alive(pid)));
    drop(cluster);
    assert!(!processes.iter().any(|&pid| is_alive(pid)));
    assert!(!dir.exists());
}

#[test]
fn nothing_is_left_of_a_killed_test_process() {
    const ROLE: &str = "TAPSTER_TEST_TO_BE_KILLED";
    if std::env::var_os(ROLE).is_some() {
        let cluster = Cluster::builder(&servers::packaged()).start();
        println!("\n{} {} ready", cluster.postmaster_pid(), cluster.socket_dir().display());
        // Until the other side kills us; it also ends when that is gone.
        drop(std::io::stdin().read_to_end(&mut Vec::new()));
        return;
    }
    let mut same_test = Command::new(std::env::current_exe().expect("Linux knows"));
    same_test.args(["--exact", "nothing_is_left_of_a_killed_test_process", "--nocapture"]);
    let mut process = same_test.env(ROLE, "1").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut said = String::new();
    let mut stdout = process.stdout.take().expect("stdout is piped");
    while !said.contains(" ready\n") {
        let mut chunk = [0; 512];
        let n = stdout.read(&mut chunk).unwrap();
        assert!(n > 0, "the other process ended early: {said}");
        said.push_str(&String::from_utf8_lossy(&chunk[..n]));
    }
    let line = said.lines().find(|line| line.ends_with(" ready")).expect("it was seen");
    let [postmaster, dir, _] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
    let postmaster = postmaster.parse().expect("a process id");
    assert!(is_alive(postmaster) && Path::new(dir).exists());

    process.kill().unwrap();
    process.wait().unwrap();
    wait_until(PATIENCE, "the keeper has removed the directory", || !Path::new(dir).exists());
    assert!(!is_alive(postmaster), "the directory went first");
}

#[test]
fn a_server_that_does_not_start_shows_its_log() {
    let builder = Cluster::builder(&servers::packaged()).setting("no_such_setting", "1");
    let panic = catch_unwind(AssertUnwindSafe(|| builder.start())).err().expect("it cannot start");
    let message = panic.downcast_ref::<String>().expect("a formatted message");
    assert!(message.contains("unrecognized configuration parameter \"no_such_setting\""), "{message}");
}

#[test]
fn only_an_initdb_of_its_own_gives_a_system_identifier_of_its_own() {
    let server = servers::packaged();
    let identifier = |cluster: &Cluster| {
        cluster.sql("SELECT system_identifier, data_page_checksum_version FROM pg_control_system(), pg_control_init()")
    };
    let (one, two) = (Cluster::builder(&server).start(), Cluster::builder(&server).start());
    let own = Cluster::builder(&server).own_initdb(&["--data-checksums"]).start();
    assert_eq!(identifier(&one), identifier(&two));
    let (shared, own) = (identifier(&one).unwrap(), identifier(&own).unwrap());
    assert_ne!(shared.split_once('|').unwrap().0, own.split_once('|').unwrap().0);
    assert!(own.ends_with("|1"), "{own}");
}

#[test]
fn the_oracle_sees_every_damage_of_an_archive() {
    let cluster = Cluster::builder(&servers::packaged()).archive().start();
    let names: Vec<String> = (0..4)
        .map(|_| {
            cluster.write_wal(1000);
            cluster.switch_wal()
        })
        .collect();
    let archive = tempfile::tempdir().unwrap();
    let path = |name: &str| archive.path().join(name);
    let compare = || oracle::compare_segments(archive.path(), &cluster.archive_dir());
    for name in &names {
        fs::copy(cluster.archive_dir().join(name), path(name)).unwrap();
    }
    fs::write(path("000000010000000000000009.partial"), "is none of its business").unwrap();
    assert_eq!(compare(), Ok(4));

    let whole = fs::read(path(&names[1])).unwrap();
    let mut flipped = whole.clone();
    flipped[4711] ^= 1;
    fs::write(path(&names[1]), flipped).unwrap();
    assert!(compare().unwrap_err().ends_with("differs from the server's at byte 4711"));
    fs::write(path(&names[1]), &whole[1..]).unwrap();
    assert!(compare().unwrap_err().contains("1048575 bytes"));
    fs::remove_file(path(&names[1])).unwrap();
    assert!(compare().unwrap_err().contains("missing between"));
    fs::write(path(&names[1]), whole).unwrap();
    assert_eq!(compare(), Ok(4));
    fs::copy(path(&names[1]), path("0000000100000000000000FF")).unwrap();
    assert!(compare().unwrap_err().contains("No such file"), "a segment that the server has not");
}

#[test]
fn a_program_sees_a_clean_environment_and_is_collected() {
    let shell = || Program::new(Path::new("/bin/sh"));
    let output = shell().env("SET", "here").args(&["-c", "env; echo $HOME >&2; exit 3"]).run();
    let variables = String::from_utf8(output.stdout).unwrap();
    for line in variables.lines() {
        let (name, _) = line.split_once('=').expect("NAME=VALUE");
        assert!(["PATH", "HOME", "LC_ALL", "SET", "PWD", "SHLVL", "_"].contains(&name), "{line}");
    }
    assert_eq!(output.status.code(), Some(3));
    assert!(!output.stderr.is_empty() && !Path::new(String::from_utf8_lossy(&output.stderr).trim()).exists());

    let mut running =
        shell().args(&["-c", "trap 'exit 5' TERM; echo ready >&2; while :; do sleep 0.05; done"]).spawn();
    assert_eq!(running.wait_for_stderr("ready", PATIENCE), "ready");
    running.signal("TERM");
    assert_eq!(running.wait(PATIENCE).status.code(), Some(5));

    let running = shell().args(&["-c", "exec sleep 1000"]).spawn();
    let pid = running.id();
    let slow = catch_unwind(AssertUnwindSafe(|| running.wait(Duration::from_millis(50))));
    assert!(slow.is_err() && !is_alive(pid));
}
