//! The program under the name `pg_receivewal`: what Barman and unit files rely on. Where it is to be the same,
//! PostgreSQL's own program goes through the same scenario.
#![cfg(feature = "cli")]

mod support;

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use support::process::PATIENCE;
use support::program::RunningProgram;
use support::receiver::STOP_TIME;
use support::{Archive, Auth, Cluster, Program, Stop, servers, wait_until};
use tempfile::TempDir;

/// A program of the name `pg_receivewal`.
struct Subject {
    path: PathBuf,
    _dir: Option<TempDir>,
}

impl Subject {
    /// Ours, by a link.
    fn ours() -> Self {
        Self::ours_as("pg_receivewal")
    }

    fn ours_as(name: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        symlink(env!("CARGO_BIN_EXE_tapster"), &path).unwrap();
        Self { path, _dir: Some(dir) }
    }

    /// PostgreSQL's, which speaks to servers up to its own major.
    fn theirs() -> Self {
        Self { path: servers::packaged().bin.join("pg_receivewal"), _dir: None }
    }

    fn program(&self) -> Program {
        Program::new(&self.path)
    }

    /// Runs it to its end: the exit code, and what it said.
    fn run(&self, args: &[&str]) -> (Option<i32>, String) {
        let output = self.program().args(args).run();
        assert!(output.stdout.is_empty(), "{args:?}: {output:?}");
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    }

    /// Starts it as Barman does.
    fn receive(&self, archive: &Archive, conninfo: &str, options: &[&str]) -> RunningProgram {
        let dbname = format!("--dbname={conninfo} replication=true application_name=barman_receive_wal");
        let directory = format!("--directory={}", archive.path().display());
        let barmans = [&dbname, "--verbose", "--no-password", &directory];
        self.program().args(&barmans).args(options).spawn()
    }
}

/// Every line once: PostgreSQL's program repeats itself.
fn lines(stderr: &str) -> BTreeSet<&str> {
    stderr.lines().collect()
}

#[track_caller]
fn ends(program: RunningProgram, code: i32) -> String {
    let output = program.wait(PATIENCE);
    assert_eq!((output.status.code(), output.stdout.len()), (Some(code), 0), "{output:?}");
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn barman_finds_a_version_in_what_the_probe_prints() {
    for name in ["pg_receivewal", "pg_receivexlog"] {
        let subject = Subject::ours_as(name);
        for option in ["--version", "-V"] {
            let output = subject.program().args(&[option, "--whatever"]).run();
            assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
            let stdout = String::from_utf8(output.stdout).unwrap();
            // Barman takes groups in parentheses out, and then the second word; its major counts.
            let (before, rest) = stdout.trim().split_once(" (").unwrap();
            let (_, after) = rest.split_once(')').unwrap();
            let words: Vec<&str> = before.split(' ').chain(after.split_whitespace()).collect();
            assert_eq!(words, [name, "18.4"]);
        }
        let output = subject.program().args(&["-?"]).run();
        assert!(output.status.success() && output.stdout.starts_with(name.as_bytes()), "{output:?}");
    }
}

#[test]
fn mistakes_are_told_in_the_same_words() {
    let (ours, theirs) = (Subject::ours(), Subject::theirs());
    let command_lines: &[&[&str]] = &[
        &[],
        &["-D", "/", "--create-slot", "--drop-slot", "-S", "x"],
        &["--create-slot"],
        &["--drop-slot"],
        &["-D", "/", "--synchronous", "--no-sync"],
        &["-D", "/", "--synch", "--no-sy"],
        &["-D", "/", "-E", "zz"],
        &["-D", "/", "-E", ""],
        &["-D", "/", "-s", "-1"],
        &["-D", "/", "-s", "x"],
        &["-D", "/", "-s5x"],
        &["-D", "/", "--status-interval=2147484"],
        &["-D", "/", "extra", "more"],
        &["extra", "-D", "/", "-E", "zz"],
        &["-D", "/", "--", "-h"],
        &["-D", "/", "-Z", "foo"],
        &["-D", "/", "-Z", "10"],
        &["-D", "/", "-Z", "gzip:"],
        &["-D", "/", "-Z", "gzip:level"],
        &["-D", "/", "-Z", "gzip:level=x"],
        &["-D", "/", "-Z", "gzip:workers=3"],
        &["-D", "/", "-Z", "none:1"],
        &["-D", "/", "-Z", "lz4:13"],
        &["-D", "/", "--nope"],
        &["-D", "/", "--no"],
        &["-D", "/", "--d=x"],
        &["-D", "/", "--no-loop=1"],
        &["-D", "/", "-vnx"],
        &["-D"],
        &["-D", "/", "--slot"],
        &["-D", "/", "-V"],
        &["-D", "/", "--version"],
        &["-D", "/", "-?"],
        &["--hel"],
        &["-D", "/no/such/directory"],
        &["-D", "/etc/passwd"],
        &["-D", ""],
        &["-D", "/", "-d", "hots=x"],
        &["-D", "/", "-d", "mydb"],
        &["-D", "/", "-d", "postgresql://%zz"],
    ];
    for args in command_lines {
        let told = |subject: &Subject| {
            let (code, stderr) = subject.run(args);
            // The C library's complaints begin with the path.
            (code, stderr.replace(&subject.path.display().to_string(), "PATH"))
        };
        let ours = told(&ours);
        assert_eq!((ours.0, &ours), (Some(1), &told(&theirs)), "{args:?}");
    }
}

#[test]
fn every_major_is_received_as_by_the_other_program() {
    servers::for_each(|server| {
        let cluster = Cluster::builder(server).auth(Auth::Password).archive().start();
        let conninfo = cluster.conninfo("repl");
        let mut subjects = vec![Subject::ours()];
        if server.major <= servers::packaged().major {
            subjects.push(Subject::theirs());
        }
        // Both with a segment that is complete and one that is not.
        let results = subjects.iter().map(|subject| {
            let archive = Archive::new();
            let program = subject.receive(&archive, &conninfo, &["--no-loop", "--status-interval=1"]);
            (archive, program)
        });
        let mut results: Vec<(Archive, RunningProgram)> = results.collect();
        for (_, program) in &mut results {
            program.wait_for_stderr("pg_receivewal: starting log streaming at ", PATIENCE);
        }
        wait_until(PATIENCE, "all of them stream", || {
            count(&cluster, "application_name = 'barman_receive_wal'") == subjects.len()
        });
        cluster.write_segments(3);
        cluster.write_wal(1000);
        let current = format!("{}.partial", cluster.segment_name(1, cluster.position()));
        wait_until(PATIENCE, "all of them have everything", || {
            count(&cluster, "write_lsn >= pg_current_wal_lsn()") == subjects.len()
        });
        assert_eq!(count(&cluster, "replay_lsn IS NULL AND flush_lsn IS NULL"), subjects.len());
        let told: Vec<String> = results
            .into_iter()
            .map(|(archive, program)| {
                program.signal("INT");
                let stderr = ends(program, 0);
                assert!(archive.assert_identical(&cluster.archive_dir()) >= 3);
                assert_eq!(archive.partials(), core::slice::from_ref(&current));
                assert_eq!(archive.all_names().len(), stderr.matches("finished segment at ").count() + 1);
                let partial = fs::metadata(archive.file(&current)).unwrap();
                assert_eq!(
                    (partial.len(), partial.permissions().mode() & 0o777),
                    (cluster.segment_size(), 0o600)
                );
                stderr
            })
            .collect();
        for other in &told {
            assert_eq!(lines(other), lines(&told[0]));
        }
        assert!(told[0].contains("received interrupt signal, exiting"), "{}", told[0]);
        assert!(
            told[0].contains(&format!("not renaming \"{current}\", segment is not complete")),
            "{}",
            told[0]
        );
    });
}

/// Of the WAL senders.
fn count(cluster: &Cluster, condition: &str) -> usize {
    let query = format!("SELECT count(*) FROM pg_stat_replication WHERE {condition}");
    cluster.sql(&query).unwrap().parse().unwrap()
}

#[test]
fn a_promotion_is_followed_as_by_the_other_program() {
    let primary = Cluster::builder(&servers::packaged()).archive().start();
    let standby = primary.standby_with(&[("archive_mode", "always")]);
    let mut results: Vec<(Archive, RunningProgram)> = [Subject::ours(), Subject::theirs()]
        .iter()
        .map(|subject| {
            let archive = Archive::new();
            let program = subject.receive(&archive, &standby.conninfo("repl"), &["-n"]);
            (archive, program)
        })
        .collect();
    wait_until(PATIENCE, "both stream", || count(&standby, "true") == 2);
    // Without a switch: what comes behind one, a standby may send before it has it.
    primary.write_wal(1000);
    standby.wait_for_replay_of(&primary);
    standby.promote();
    let last = standby.write_segments(2);
    standby.write_wal(1000);
    let mut told = Vec::new();
    for (archive, program) in &mut results {
        archive.wait_for(&last);
        let position = standby.segment_start(standby.position());
        archive.wait_for(&format!("{}.partial", standby.segment_name(2, position)));
        program.wait_for_stderr("switched to timeline 2 at ", PATIENCE);
        program.signal("INT");
    }
    let names: Vec<_> = results.iter().map(|(archive, _)| archive.all_names()).collect();
    assert_eq!(names[0], names[1]);
    assert!(names[0].contains(&"00000002.history".to_owned()), "{names:?}");
    for (archive, program) in results {
        told.push(ends(program, 0));
        assert!(archive.assert_identical(&standby.archive_dir()) >= 2);
    }
    assert_eq!(lines(&told[0]), lines(&told[1]));
}

#[test]
fn slots_are_created_and_dropped_as_by_the_other_program() {
    let cluster = Cluster::builder(&servers::packaged()).start();
    let conninfo = cluster.conninfo("repl");
    let runs: &[&[&str]] = &[
        &["--create-slot", "-S", "one", "-v"],
        &["--create-slot", "-S", "one"],
        &["--create-slot", "-S", "one", "--if-not-exists"],
        &["--create-slot", "-S", "Not-A-Name", "--if-not-exists"],
        &["--drop-slot", "-S", "one", "-v"],
        &["--drop-slot", "-S", "one"],
    ];
    let results = [Subject::ours(), Subject::theirs()].map(|subject| {
        runs.iter().map(|args| subject.run(&[&["-d", &conninfo, "-w"], *args].concat())).collect::<Vec<_>>()
    });
    assert_eq!(results[0], results[1]);
    assert_eq!(results[0].iter().map(|(code, _)| code.unwrap()).collect::<Vec<_>>(), [0, 1, 0, 1, 0, 1]);
    // No WAL is kept from the beginning, as with the other program.
    Subject::ours().run(&["-d", &conninfo, "--create-slot", "-S", "two"]);
    assert_eq!(cluster.sql("SELECT slot_type, restart_lsn FROM pg_replication_slots").unwrap(), "physical|");
}

#[test]
fn the_next_partial_segment_is_there_when_one_is_complete() {
    let cluster = Cluster::builder(&servers::packaged()).start();
    let (conninfo, archive) = (cluster.conninfo("repl"), Archive::new());
    let subject = Subject::ours();
    assert_eq!(subject.run(&["-d", &conninfo, "--create-slot", "--slot=barman"]).0, Some(0));
    let mut program = subject.receive(&archive, &conninfo, &["--no-loop", "--slot=barman", "--synchronous"]);
    program.wait_for_stderr("starting log streaming", PATIENCE);
    cluster.write_segments(1);
    // The line is flushed at once. What is in the directory is all that Barman accepts there.
    program.wait_for_stderr("finished segment at ", PATIENCE);
    let next = cluster.segment_name(1, cluster.position());
    assert_eq!(archive.partials(), [format!("{next}.partial")]);
    let is_barmans = |name: &String| {
        let name = name.strip_suffix(".partial").unwrap_or(name);
        name.len() == 24 && name.bytes().all(|byte| byte.is_ascii_hexdigit())
    };
    assert!(archive.all_names().iter().all(is_barmans), "{:?}", archive.all_names());
    wait_until(PATIENCE, "everything is acknowledged", || {
        count(&cluster, "flush_lsn >= pg_current_wal_lsn()") == 1
    });
    // From a terminal, both Barman's signal and the terminal's own arrive.
    program.signal("TERM");
    program.signal("INT");
    let stopped = program.wait(STOP_TIME);
    assert_eq!(stopped.status.code(), Some(0), "{stopped:?}");
}

#[test]
fn partial_segments_of_any_size_are_taken_over() {
    let cluster = Cluster::builder(&servers::packaged()).archive().start();
    let (conninfo, size) = (cluster.conninfo("repl"), cluster.segment_size());
    for (len, theirs_takes_it) in [(0, true), (size, true), (458_752, false), (size + 1, false)] {
        let name = cluster.segment_name(1, cluster.position());
        cluster.write_segments(1);
        for (subject, takes_it) in [(Subject::ours(), true), (Subject::theirs(), theirs_takes_it)] {
            let archive = Archive::new();
            let file = archive.file(&format!("{name}.partial"));
            OpenOptions::new().create_new(true).write(true).open(&file).unwrap().set_len(len).unwrap();
            let program = subject.receive(&archive, &conninfo, &["--no-loop"]);
            if takes_it {
                archive.wait_for(&name);
                program.signal("INT");
                ends(program, 0);
                assert_eq!(archive.assert_identical(&cluster.archive_dir()), 1);
            } else {
                assert!(ends(program, 1).contains("should be 0 or"));
            }
        }
    }
}

#[test]
fn a_lost_connection_is_the_end_or_not() {
    let cluster = Cluster::builder(&servers::packaged()).start();
    let conninfo = cluster.conninfo("repl");
    for subject in [Subject::ours(), Subject::theirs()] {
        let archive = Archive::new();
        let program = subject.receive(&archive, &conninfo, &["--no-loop"]);
        wait_until(PATIENCE, "it streams", || count(&cluster, "state = 'streaming'") == 1);
        cluster.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_replication").unwrap();
        let stderr = ends(program, 1);
        let said = stderr.lines().filter(|line| line.contains("error: ")).collect::<Vec<_>>();
        assert_eq!(
            said,
            [
                "pg_receivewal: error: unexpected termination of replication stream: \
                 FATAL:  terminating connection due to administrator command",
                "pg_receivewal: error: disconnected"
            ]
        );
    }
    let archive = Archive::new();
    let mut program = Subject::ours().receive(&archive, &conninfo, &[]);
    wait_until(PATIENCE, "it streams", || count(&cluster, "state = 'streaming'") == 1);
    cluster.restart();
    program.wait_for_stderr("pg_receivewal: disconnected; waiting ", PATIENCE);
    let last = cluster.write_segments(1);
    archive.wait_for(&last);
    program.signal("TERM");
    ends(program, 0);
    cluster.stop(Stop::Fast);
    // The first connection has to succeed.
    let stderr = ends(Subject::ours().receive(&archive, &conninfo, &[]), 1);
    assert!(stderr.contains("pg_receivewal: error: connection to server at \"127.0.0.1\""), "{stderr}");
}

/// That the server starts up is no exception.
#[test]
fn the_first_connection_is_not_waited_for() {
    let primary = Cluster::builder(&servers::packaged()).start();
    let starting = primary.standby_with(&[("hot_standby", "off")]);
    for subject in [Subject::ours(), Subject::theirs()] {
        let stderr = ends(subject.receive(&Archive::new(), &starting.conninfo("repl"), &[]), 1);
        let at = format!("connection to server at \"127.0.0.1\", port {} failed: FATAL:", starting.port());
        assert!(stderr.contains(&at), "{stderr}");
        assert!(stderr.contains("the database system is not accepting connections"), "{stderr}");
    }
}

#[test]
fn receiving_ends_at_the_position_itself() {
    let cluster = Cluster::builder(&servers::packaged()).start();
    cluster.write_wal(1000);
    let end = cluster.position().to_string();
    let archive = Archive::new();
    let program = Subject::ours().receive(&archive, &cluster.conninfo("repl"), &["--endpos", &end]);
    let stderr = ends(program, 0);
    assert!(stderr.contains(&format!("stopped log streaming at {end} (timeline 1)")), "{stderr}");
    // It is reached already, and no new WAL is waited for.
    ends(Subject::ours().receive(&archive, &cluster.conninfo("repl"), &["-E", &end]), 0);
    assert_eq!(archive.all_names().len(), 1);
}

#[test]
fn connection_options_mean_what_they_do_there() {
    let cluster = Cluster::builder(&servers::packaged()).auth(Auth::Scram).start();
    let (socket, port) = (cluster.socket_dir().display().to_string(), cluster.port().to_string());
    for subject in [Subject::ours(), Subject::theirs()] {
        let archive = Archive::new();
        let directory = archive.path().to_str().unwrap();
        // Options come after the string, but for `replication`, which is never anything else.
        let string = "host=/nowhere user=nobody replication=database";
        let options = ["-d", string, "-h", &socket, "-p", &port, "-Urepl", "-D", directory];
        let fails = subject.program().args(&options).args(&["-nw"]).run();
        assert_eq!(fails.status.code(), Some(1));
        assert!(String::from_utf8_lossy(&fails.stderr).contains("password"), "{fails:?}");
        // The password file has an entry for the database `replication`.
        let program = subject.program().args(&options).args(&["-nw"]);
        let passwords = program.home().join(".pgpass");
        write_secret(&passwords, "*:*:postgres:repl:wrong\n*:*:replication:repl:walrus-17\n");
        let program = program.spawn();
        wait_until(PATIENCE, "it streams", || {
            count(&cluster, "state = 'streaming' AND application_name = 'pg_receivewal'") == 1
        });
        program.signal("INT");
        ends(program, 0);
        wait_until(PATIENCE, "it is gone", || count(&cluster, "true") == 0);
    }
}

fn write_secret(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}
