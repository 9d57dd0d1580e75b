//! `tapster low-level-backup`: the lines of the documents, and what a backup waits for.

#![cfg(feature = "cli")]

mod support;

use core::sync::atomic::{AtomicBool, Ordering::Relaxed};
use core::time::Duration;
use std::fs;
use std::path::Path;
use std::process::Output;
use std::thread;
use std::time::Instant;

use serde_json::Value;
use support::process::PATIENCE;
use support::program::RunningProgram;
use support::restore::{RestoreCommand, give_to_server};
use support::{Archive, Cluster, Program, servers, wait_until};

/// A backup, in which `more` are options and then the command.
fn backup(cluster: &Cluster, copy: &Path, more: &[&str]) -> Program {
    backup_by(&cluster.conninfo("postgres"), copy, more)
}

fn backup_by(conninfo: &str, copy: &Path, more: &[&str]) -> Program {
    let directory = copy.display().to_string();
    Program::tapster().args(&["low-level-backup", conninfo, "-l", "x", "-D", &directory]).args(more)
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The server is in backup mode, or about to be, as long as the program has a session.
fn sessions(cluster: &Cluster) -> String {
    cluster.sql("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'tapster'").unwrap()
}

/// Waits until the program has said this.
fn says(running: &RunningProgram, text: &str) {
    wait_until(PATIENCE, text, || running.stderr().contains(text));
}

/// Sends SIGTERM, upon which the program has to end at once, and the server's backup mode with it.
fn interrupt(cluster: &Cluster, running: RunningProgram) -> String {
    let began = Instant::now();
    running.signal("TERM");
    let output = running.wait(PATIENCE);
    assert_eq!(output.status.code(), Some(143), "{output:?}");
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    wait_until(Duration::from_secs(5), "the session is gone", || sessions(cluster) == "0");
    stderr(&output)
}

/// The lines of a page that make a backup.
fn documented(page: &str) -> Vec<String> {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(page)).unwrap();
    let blocks = text.split("```").skip(1).step_by(2).filter_map(|block| block.strip_prefix("sh\n"));
    let blocks = blocks.filter_map(|block| block.find("tapster low-level-backup").map(|at| &block[at..]));
    // A command ends with the first line that neither has a backslash at its end nor an open quote.
    let command = |block: &str| {
        let mut command = String::new();
        for line in block.lines() {
            command += &format!("{line}\n");
            if !line.ends_with('\\') && command.matches('\'').count().is_multiple_of(2) {
                break;
            }
        }
        command
    };
    blocks.map(command).collect()
}

#[test]
fn a_server_starts_from_the_copy_of_each_documented_line() {
    let lines = documented("docs/backups.md");
    assert_eq!(lines.len(), 3, "{lines:?}");
    let readme = documented("README.md");
    assert_eq!(readme.len(), 1, "{readme:?}");
    let restore = RestoreCommand::new();
    let source = Cluster::builder(&servers::packaged()).start();
    source.sql("CREATE TABLE t AS SELECT generate_series(1, 1000) AS i").unwrap();
    source.sql("SELECT pg_create_physical_replication_slot('of_the_source', true)").unwrap();
    // What a crash leaves, and a backup that is not this one.
    source.write_file("base/pgsql_tmp_left", b"x");
    source.write_file("backup_label.old", b"of another backup");
    let archive = Archive::new();
    let mut receiver = archive.receive(&source.conninfo("repl"), &["-Z", "zstd"]);
    receiver.wait_for("streaming");
    for line in lines.iter().chain(&readme) {
        // Everything that is there is replaced by the copy.
        let copy = source.backup();
        let data = copy.data_dir();
        for entry in fs::read_dir(&data).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() { fs::remove_dir_all(path).unwrap() } else { fs::remove_file(path).unwrap() }
        }
        let command = line
            .replace("service=db1", &format!("\"{}\" --fast", source.conninfo("postgres")))
            .replace("db1:/pgdata", "/pgdata")
            .replace("/pgdata", &source.data_dir().display().to_string())
            .replace("/copy", &data.display().to_string())
            .replace("/wal ", &format!("{} ", archive.path().display()))
            .replace("tapster ", &format!("{} ", env!("CARGO_BIN_EXE_tapster")));
        let is_copied = AtomicBool::new(false);
        let output = thread::scope(|scope| {
            // Pages and their files change meanwhile.
            scope.spawn(|| {
                while !is_copied.load(Relaxed) {
                    source.sql("INSERT INTO t SELECT generate_series(1, 5000)").unwrap();
                }
            });
            let output = Program::new(Path::new("bash")).args(&["-c", &command]).run();
            is_copied.store(true, Relaxed);
            output
        });
        assert_eq!(output.status.code(), Some(0), "{command}\n{}", stderr(&output));
        if data.join("base.tar").exists() {
            let unpack = format!("cd '{}' && tar -xf base.tar && rm base.tar", data.display());
            assert!(Program::new(Path::new("sh")).args(&["-c", &unpack]).run().status.success());
        }
        for name in ["postmaster.pid", "postmaster.opts", "base/pgsql_tmp_left", "backup_label.old"] {
            assert!(
                !data.join(name).exists() || line.contains("cp -a") && name.contains("pgsql_tmp"),
                "{name}: {line}"
            );
        }
        for name in ["pg_wal", "pg_replslot", "pg_dynshmem", "pg_notify", "pg_serial", "pg_subtrans"] {
            assert_eq!(fs::read_dir(data.join(name)).unwrap().count(), 0, "{name}: {line}");
        }
        let rows = source.sql("SELECT count(*), sum(i) FROM t").unwrap();
        let last = source.sql("SELECT pg_walfile_name(pg_switch_wal())").unwrap();
        archive.wait_for(&format!("{last}.zst"));
        give_to_server(&archive);
        copy.recover(&restore.line(&[archive.path()], "")).unwrap();
        assert_eq!(copy.sql("SELECT count(*), sum(i) FROM t").unwrap(), rows, "{line}");
        assert_eq!(copy.sql("SELECT count(*) FROM pg_replication_slots").unwrap(), "0");
    }
}

#[test]
fn exit_codes_that_were_named_are_accepted() {
    let cluster = Cluster::builder(&servers::packaged()).start();
    let copy = tempfile::tempdir().unwrap();
    let label = copy.path().join("backup_label");
    let run = |more: &[&str], code: &str| {
        let command = ["--json", "--fast", "--", "sh", "-c", code];
        backup(&cluster, copy.path(), more).args(&command).run()
    };
    for (more, code) in
        [(&[][..], "exit 24"), (&["--ok-exit", "24"], "exit 23"), (&["--ok-exit", "9"], "kill -9 $$")]
    {
        let output = run(more, code);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert!(!label.exists());
    }
    for more in [&["--ok-exit", "24"][..], &["--ok-exit", "1,24"], &["--ok-exit=1", "--ok-exit=24"]] {
        let output = run(more, "exit 24");
        let document: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(document["command_exit"], 24, "{document}");
        assert!(stderr(&output).contains("which --ok-exit accepts"), "{output:?}");
        fs::remove_file(&label).unwrap();
    }
    for wrong in ["0", "256", "-1", "x"] {
        assert_eq!(run(&["--ok-exit", wrong], "exit 0").status.code(), Some(2), "{wrong}");
    }
}

#[test]
fn a_command_that_cannot_run_is_refused_before_the_server_is_asked() {
    let copy = tempfile::tempdir().unwrap();
    fs::write(copy.path().join("plain"), "#!/bin/sh\n").unwrap();
    for command in ["no-such-program", "/no/such/program", "./plain", "/"] {
        let nowhere = backup_by("host=127.0.0.1 port=1", copy.path(), &["--", command]);
        let output = nowhere.current_dir(copy.path()).run();
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        assert!(stderr(&output).contains(&format!("could not start \"{command}\": ")), "{output:?}");
    }
}

#[test]
fn a_server_that_archives_nothing_is_told_from_the_first_second() {
    let cluster = Cluster::builder(&servers::packaged()).setting("archive_mode", "on").start();
    let copy = tempfile::tempdir().unwrap();
    let check = || {
        let output =
            Program::tapster().args(&["check", &cluster.conninfo("postgres"), "--for", "backup"]).run();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let (code, text) = check();
    assert!(code == Some(1) && text.contains("archive_command is empty"), "{text}");
    let begin = || {
        let began = Instant::now();
        let running = backup(&cluster, copy.path(), &["--fast", "--", "true"]).spawn();
        says(&running, "waiting for WAL segment 0000000100000000");
        (running, began)
    };
    let (running, _) = begin();
    says(&running, "its archive_command is empty");
    says(&running, "--wal-archive DIR");
    says(&running, "the server says: NOTICE: ");
    interrupt(&cluster, running);
    assert!(!copy.path().join("backup_label").exists());

    let set = |command: &str| {
        cluster.sql(&format!("ALTER SYSTEM SET archive_command = '{command}'")).unwrap();
        cluster.reload();
    };
    // The segments of the backup above wait to be archived.
    set("false");
    let failed = "SELECT failed_count > 0 FROM pg_stat_archiver";
    wait_until(PATIENCE, "the archiver fails", || cluster.sql(failed).as_deref() == Ok("t"));
    let (code, text) = check();
    assert!(code == Some(1) && text.contains("archiving failed "), "{text}");
    let (running, began) = begin();
    says(&running, "archiving failed ");
    says(&running, "still waiting (10 s) for WAL segment");
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    // As soon as the server archives, the wait ends.
    set("true");
    let output = running.wait(PATIENCE);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let (code, text) = check();
    assert!(code == Some(0) && text.contains("was archived last"), "{text}");
}

#[test]
fn a_signal_ends_the_wait_for_a_server_that_answers_nothing() {
    let cluster = Cluster::builder(&servers::packaged()).setting("archive_mode", "on").start();
    let copy = tempfile::tempdir().unwrap();
    let running = backup(&cluster, copy.path(), &["--fast", "--", "true"]).spawn();
    says(&running, "waiting for WAL segment");
    let backend = "SELECT pid FROM pg_stat_activity WHERE query LIKE '%pg_backup_stop%' AND state = 'active' \
                   AND application_name = 'tapster'";
    let frozen = [cluster.sql(backend).unwrap(), cluster.postmaster_pid().to_string()];
    let kill = |signal: &str| {
        let kill = Program::new(Path::new("kill")).args(&[signal]).args(&frozen).run();
        assert!(kill.status.success(), "{kill:?}");
    };
    kill("-STOP");
    let began = Instant::now();
    running.signal("INT");
    let output = running.wait(PATIENCE);
    let took = began.elapsed();
    kill("-CONT");
    assert_eq!(output.status.code(), Some(130), "{output:?}");
    assert!(took < Duration::from_secs(2), "{took:?}");
    wait_until(PATIENCE, "the session is gone", || sessions(&cluster) == "0");
}

#[test]
fn the_wait_for_the_checkpoint_is_told_with_its_length() {
    let cluster = Cluster::builder(&servers::packaged()).setting("checkpoint_timeout", "100s");
    let cluster = cluster.setting("checkpoint_completion_target", "0.5").start();
    cluster.sql("CREATE TABLE dirty AS SELECT generate_series(1, 100000)").unwrap();
    let copy = tempfile::tempdir().unwrap();
    let running = backup(&cluster, copy.path(), &["--", "true"]).spawn();
    says(
        &running,
        "waiting for a checkpoint of the server, which takes up to 50 s (checkpoint_timeout 100 s x ",
    );
    says(&running, "--fast");
    interrupt(&cluster, running);
}

#[test]
fn the_end_is_waited_for_in_the_archive_of_a_receiver() {
    // The server's own archiving is not waited for.
    let cluster = Cluster::builder(&servers::packaged()).setting("archive_mode", "on").start();
    let copy = tempfile::tempdir().unwrap();
    let (archive, label) = (Archive::new(), copy.path().join("backup_label"));
    let directory = archive.path().display().to_string();
    let options = ["--fast", "--json", "--wal-archive", &directory, "--wal-archive-timeout"];
    let run = |limit: &str| backup(&cluster, copy.path(), &options).args(&[limit, "--", "true"]);

    // Nobody receives.
    let output = run("1").run();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    let message = document["error"]["message"].as_str().unwrap();
    assert!(
        message.contains("after 1 s; the copy in ") && message.contains(" has its backup_label"),
        "{message}"
    );
    assert!(label.exists(), "the copy is not lost");
    assert!(stderr(&output).contains("waiting for WAL segment 0000000100000000"), "{output:?}");
    let running = run("0").spawn();
    says(&running, "to be complete in ");
    wait_until(PATIENCE, "the backup is stopped", || label.exists());
    interrupt(&cluster, running);

    // A receiver completes the last segment, compressed.
    let receive = ["-Z", "gzip"];
    let mut receiver = archive.receive(&cluster.conninfo("repl"), &receive);
    receiver.wait_for("streaming");
    let output = run("60").run();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    let last = document["last_segment"].as_str().unwrap();
    assert!(archive.file(&format!("{last}.gz")).exists(), "{:?}", archive.names());
    assert_eq!(document["wal_archive"], directory.as_str());

    // A segment in the middle that is missing is found.
    let script = "first=$(psql \"$C\" -AtXc \"SELECT pg_walfile_name('$TAPSTER_START_LSN')\")
        psql \"$C\" -Xqc 'CREATE TABLE more AS SELECT generate_series(1, 60000)'
        while ! rm \"$DIR/$first.gz\" 2>/dev/null; do sleep 0.1; done";
    let program = backup(&cluster, copy.path(), &options).env("C", cluster.conninfo("postgres"));
    let output = program.env("DIR", &directory).args(&["60", "--", "sh", "-c", script]).run();
    assert_eq!(output.status.code(), Some(7), "{output:?}");
    receiver.stop("TERM");

    // The archive of another cluster is refused before anything begins.
    let other = Cluster::builder(&servers::packaged()).own_initdb(&[]).start();
    let output = backup(&other, copy.path(), &options).args(&["1", "--", "false"]).run();
    assert_eq!(output.status.code(), Some(5), "{output:?}");
    assert!(!stderr(&output).contains("started at"), "{output:?}");
    fs::remove_file(archive.file("tapster.state")).unwrap();
    let output = backup(&other, copy.path(), &options).args(&["1", "--", "false"]).run();
    assert_eq!(output.status.code(), Some(5), "{output:?}");
    let missing = ["--wal-archive", "/no/such", "--", "false"];
    assert_eq!(backup(&other, copy.path(), &missing).run().status.code(), Some(6));
}

#[test]
fn the_primary_completes_the_last_segment_of_a_standby() {
    let primary = Cluster::builder(&servers::packaged()).start();
    let standby = primary.standby();
    primary.sql("CHECKPOINT").unwrap();
    standby.wait_for_replay_of(&primary);
    let (archive, copy) = (Archive::new(), tempfile::tempdir().unwrap());
    let directory = archive.path().display().to_string();
    let mut receiver = archive.receive(&standby.conninfo("repl"), &[]);
    receiver.wait_for("streaming");
    let primary = primary.conninfo("postgres");
    let options = ["--fast", "--json", "--primary", &primary, "--wal-archive", &directory, "--", "true"];
    let output = backup(&standby, copy.path(), &options).run();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(archive.file(document["last_segment"].as_str().unwrap()).exists(), "{:?}", archive.names());
    let label = fs::read_to_string(copy.path().join("backup_label")).unwrap();
    assert!(label.contains("BACKUP FROM: standby"), "{label}");
}

#[test]
fn no_setting_of_the_role_ends_a_backup() {
    servers::for_each(|server| {
        let cluster = Cluster::builder(server).start();
        cluster.sql("CREATE ROLE hasty SUPERUSER LOGIN").unwrap();
        let mut names = vec!["statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"];
        if server.major >= 14 {
            names.push("idle_session_timeout");
        }
        if server.major >= 17 {
            names.push("transaction_timeout");
        }
        for name in names {
            cluster.sql(&format!("ALTER ROLE hasty SET {name} = '500ms'")).unwrap();
        }
        let copy = tempfile::tempdir().unwrap();
        let conninfo = format!("host={} port={} user=hasty dbname=postgres", cluster.host(), cluster.port());
        let output =
            backup_by(&conninfo, copy.path(), &["--fast", "--keep-alive", "0", "--", "sleep", "1.5"]).run();
        assert_eq!(output.status.code(), Some(0), "PostgreSQL {}: {output:?}", server.major);
    });
}
