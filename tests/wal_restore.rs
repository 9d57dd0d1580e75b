//! `tapster wal get` and `tapster wal ls`: what a recovery gets out of an archive, and what it must not get.
#![cfg(feature = "cli")]

mod support;

use core::time::Duration;
use std::ffi::OsStr;
use std::fs;
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::thread;

use serde_json::{Value, json};
use support::restore::{RestoreCommand, give_to_server};
use support::{Archive, Cluster, assert_has, lsn, servers, tapster, tapster_json, wait_until};
use tapster::compression::{Compress, Encoder};
use tempfile::TempDir;

#[test]
fn a_backup_is_recovered_to_the_last_row_through_a_promotion_and_a_partial_segment() {
    let command = RestoreCommand::new();
    servers::for_each(|server| {
        // The oldest, the one with other client programs around, the newest.
        if ![10, 15, 18].contains(&server.major) {
            return;
        }
        let primary = Cluster::builder(server).start();
        primary.sql("CREATE TABLE t (what text)").unwrap();
        let standby = primary.standby();
        let (archive, empty) = (Archive::new(), Archive::new());
        let options = ["-S", "tap", "--create-slot", "--synchronous"];
        let mut receiver = archive.receive(&standby.socket_conninfo("repl"), &options);
        receiver.wait_for("streaming");
        let (backup, second) = (primary.backup(), primary.backup());
        let segment = usize::try_from(primary.segment_size()).unwrap();
        primary.sql("INSERT INTO t VALUES ('on timeline 1')").unwrap();
        primary.write_wal(segment);
        primary.sql("INSERT INTO t VALUES ('in the partial segment of timeline 1')").unwrap();
        standby.wait_for_replay_of(&primary);
        standby.promote();
        receiver.wait_for("timeline_switch");
        standby.sql("INSERT INTO t VALUES ('on timeline 2')").unwrap();
        standby.write_wal(segment);
        standby.sql("INSERT INTO t VALUES ('in the partial segment')").unwrap();
        let end = standby.position();
        wait_until(support::process::PATIENCE, "everything is durable", || {
            let flushed = standby.sql("SELECT flush_lsn FROM pg_stat_replication").unwrap();
            flushed.parse::<tapster::types::Lsn>().is_ok_and(|flushed| flushed >= end)
        });
        receiver.stop("TERM");
        assert_eq!(archive.partials().len(), 2, "{:?}", archive.names());
        standby.kill_9();
        give_to_server(&archive);
        give_to_server(&empty);
        let rows = |server: &Cluster| server.sql("SELECT what FROM t ORDER BY 1").unwrap();

        backup.recover(&command.line(&[empty.path(), archive.path()], "--partial")).unwrap();
        let all = [
            "in the partial segment",
            "in the partial segment of timeline 1",
            "on timeline 1",
            "on timeline 2",
        ];
        assert_eq!(rows(&backup), all.join("\n"));
        assert_eq!(backup.sql("SELECT timeline_id FROM pg_control_checkpoint()").unwrap(), "3");
        let log = backup.log();
        assert!(
            log.contains(&format!("{} is partial: ", archive.file(&archive.partials()[1]).display())),
            "{log}"
        );
        // Nothing is left of files in the making.
        let left = fs::read_dir(backup.data_dir().join("pg_wal")).unwrap().flatten();
        assert!(left.map(|entry| entry.file_name()).all(|name| !name.to_string_lossy().ends_with(".tmp")));

        // Only what is complete, if no more is asked for.
        second.recover(&command.line(&[archive.path()], "")).unwrap();
        assert_eq!(rows(&second), all[1..].join("\n"));
    });
}

#[test]
fn an_archive_that_is_not_there_ends_no_recovery() {
    let command = RestoreCommand::new();
    let primary = Cluster::builder(&servers::packaged()).start();
    let archive = Archive::new();
    give_to_server(&archive);
    let gone = archive.path().join("not-mounted");
    for line in [
        command.line(&[&gone, archive.path()], "--partial"),
        command.line(&[archive.path()], "--from"),
        command.line(&[archive.path()], "--parital"),
    ] {
        let log = primary.backup().recover(&line).unwrap_err();
        assert!(log.contains("exit code 255"), "{log}");
    }
}

/// Two complete segments of a server, by name.
struct Segments {
    dir: TempDir,
    first: String,
    second: String,
}

impl Segments {
    fn new() -> Self {
        let cluster = Cluster::builder(&servers::packaged()).archive().start();
        let (first, second) = (cluster.write_segments(1), cluster.write_segments(1));
        let dir = tempfile::tempdir().unwrap();
        for name in [&first, &second] {
            fs::copy(cluster.archive_dir().join(name), dir.path().join(name)).unwrap();
        }
        Self { dir, first, second }
    }

    fn bytes(&self, name: &str) -> Vec<u8> {
        fs::read(self.dir.path().join(name)).unwrap()
    }
}

/// Where files are asked for.
struct Client {
    dir: TempDir,
}

impl Client {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn destination(&self) -> PathBuf {
        self.dir.path().join("RECOVERYXLOG")
    }

    /// The exit code, and what was said. Without success, nothing may be there.
    #[track_caller]
    fn get(&self, name: &str, archives: &[&Path], options: &[&str]) -> (i32, String) {
        let destination = self.destination();
        drop(fs::remove_file(&destination));
        let mut args = vec!["wal".into(), "get".into(), name.into(), destination.clone().into_os_string()];
        for archive in archives {
            args.extend(["--from".into(), archive.as_os_str().to_owned()]);
        }
        args.extend(options.iter().map(Into::into));
        let output = tapster(&args);
        let code = output.status.code().unwrap();
        assert_eq!(destination.exists(), code == 0, "{output:?}");
        assert_eq!(fs::read_dir(self.dir.path()).unwrap().count(), usize::from(code == 0));
        (code, String::from_utf8(output.stderr).unwrap())
    }

    #[track_caller]
    fn fails(&self, code: i32, words: &str, name: &str, archives: &[&Path], options: &[&str]) {
        let (got, stderr) = self.get(name, archives, options);
        assert!(
            got == code && stderr.contains(words),
            "{name}: {got} and not {code} with {words:?}:\n{stderr}"
        );
    }
}

#[test]
fn a_file_is_delivered_or_surely_missing_or_neither() {
    let segments = Segments::new();
    let (first, client, archive) = (&segments.first, Client::new(), Archive::new());
    let history = "1\t0/1A000028\tno recovery target specified\n";
    fs::write(archive.file("00000002.history"), history).unwrap();
    let backup = format!("{first}.000AB028.backup");
    fs::write(archive.file(&backup), "START WAL LOCATION: ...\n").unwrap();
    for (name, content) in [("00000002.history", history), (backup.as_str(), "START WAL LOCATION: ...\n")] {
        assert_eq!(client.get(name, &[archive.path()], &[]).0, 0);
        assert_eq!(fs::read_to_string(client.destination()).unwrap(), content);
    }

    let gone = archive.path().join("gone");
    client.fails(1, "is not in", first, &[archive.path()], &["--partial"]);
    client.fails(1, "is not in", "00000003.history", &[archive.path()], &[]);
    client.fails(255, "could not open directory", first, &[archive.path(), &gone], &[]);
    // Where the file is somewhere, the rest does not matter.
    let (code, stderr) = client.get(first, &[&gone, segments.dir.path()], &[]);
    assert!(code == 0 && stderr.contains("warning: could not open directory"), "{stderr}");
    assert_eq!(fs::read(client.destination()).unwrap(), segments.bytes(first));

    for name in
        ["", ".", "a/b", "../x", "00000002.history.gz", "000000010000000000000003.partial", "RECOVERYXLOG"]
    {
        client.fails(255, "is not the name of a WAL file", name, &[archive.path()], &[]);
    }
    let nowhere =
        tapster(&["wal", "get", first, "/no/such/place", "--from", segments.dir.path().to_str().unwrap()]);
    assert_eq!(nowhere.status.code(), Some(255), "{nowhere:?}");
    for mistake in [&["wal", "get", first][..], &["wal", "get", first, "x", "-h", "y"]] {
        assert_eq!(tapster(mistake).status.code(), Some(255));
    }
}

#[test]
fn damaged_files_are_never_delivered() {
    let segments = Segments::new();
    let (first, client) = (&segments.first, Client::new());
    let whole = segments.bytes(first);
    let cut = &whole[..whole.len() - 8192];
    let long = [&whole[..], &[0; 8192]].concat();
    let without_header = [&[0; 64], &whole[64..]].concat();
    for (content, words) in [
        (&b""[..], "does not begin as a WAL segment does"),
        (b"WAL", "does not begin as a WAL segment does"),
        (cut, "has 1040384 bytes instead of 1048576"),
        (&long, "has 1056768 bytes instead of 1048576"),
        (&without_header, "does not begin as a WAL segment does"),
        (&segments.bytes(&segments.second), "is another segment than its name says"),
    ] {
        let archive = Archive::new();
        fs::write(archive.file(first), content).unwrap();
        client.fails(255, words, first, &[archive.path()], &["--partial"]);
        // Another archive may have it whole.
        let (code, stderr) = client.get(first, &[archive.path(), segments.dir.path()], &[]);
        assert!(code == 0 && stderr.contains(words), "{stderr}");
        assert_eq!(fs::read(client.destination()).unwrap(), whole);
    }
    let archive = Archive::new();
    fs::create_dir(archive.file(first)).unwrap();
    client.fails(255, "is not a file", first, &[archive.path()], &[]);
    fs::write(archive.file("00000002.history"), "nonsense\n").unwrap();
    client.fails(255, "is not a timeline history", "00000002.history", &[archive.path()], &[]);
}

#[test]
fn what_stands_in_the_way_of_knowing_is_not_taken_for_missing() {
    let segments = Segments::new();
    let (first, client) = (&segments.first, Client::new());
    let whole = segments.bytes(first);
    let get = |archive: &Archive, options: &[&str]| client.get(first, &[archive.path()], options);
    type Put = fn(&Path);
    let in_the_way: [(&str, &str, Put); 8] = [
        ("", "is a symbolic link to something that is not there", |path| {
            symlink("/not-mounted/a", path).unwrap()
        }),
        ("", "could not look up", |path| symlink(path, path).unwrap()),
        ("", "is not a file", |path| fs::create_dir(path).unwrap()),
        ("", "is not a file", |path| drop(UnixListener::bind(path).unwrap())),
        ("", "is not a file", |path| symlink("/dev/null", path).unwrap()),
        (".gz", "is a symbolic link to something", |path| symlink("/not-mounted/a.gz", path).unwrap()),
        (".zst", "cannot be decompressed", |path| fs::write(path, "nonsense").unwrap()),
        (".lz4", "does not begin as a WAL segment does", |path| fs::write(path, "").unwrap()),
    ];
    for (suffix, words, put) in in_the_way {
        let archive = Archive::new();
        put(&archive.file(&format!("{first}{suffix}")));
        for options in [&[][..], &["--partial"]] {
            let (code, stderr) = get(&archive, options);
            let is_told = stderr.starts_with("tapster: error: ") && stderr.contains(words);
            assert!(code == 255 && is_told, "{suffix} {words}: {code}\n{stderr}");
        }
        // Another form of the file, or another archive, has it.
        let (code, stderr) = client.get(first, &[archive.path(), segments.dir.path()], &[]);
        assert!(code == 0 && stderr.starts_with("tapster: warning: "), "{code} {stderr}");
        assert_eq!(fs::read(client.destination()).unwrap(), whole);
    }
    for suffix in [".xz", ".bz2", ".tmp", ".gz.tmp", ".partial.gz", ".gpg", "-8d1c1f.lz", ".old"] {
        let archive = Archive::new();
        fs::write(archive.file(&format!("{first}{suffix}")), "anything").unwrap();
        let (code, stderr) = get(&archive, &[]);
        assert!(code == 255 && stderr.contains("in a form that cannot be read"), "{suffix}: {code} {stderr}");
    }
    let archive = Archive::new();
    fs::write(archive.path().join(OsStr::from_bytes(&[first.as_bytes(), b".\xff"].concat())), "").unwrap();
    assert_eq!(get(&archive, &[]).0, 255);

    // With --partial, what a partial file holds has to be known, too.
    for (suffix, content) in
        [(".partial", None), (".gz.partial", Some("nonsense of some length")), (".gz.partial", None)]
    {
        let archive = Archive::new();
        let path = archive.file(&format!("{first}{suffix}"));
        match content {
            Some(content) => fs::write(path, content).unwrap(),
            None => symlink("/not-mounted/a", path).unwrap(),
        }
        assert_eq!((get(&archive, &[]).0, get(&archive, &["--partial"]).0), (1, 255), "{suffix} {content:?}");
    }
    for (suffix, link) in [("", true), (".gz", true), (".xz", false), (".gz", false)] {
        let archive = Archive::new();
        let path = archive.file(&format!("00000002.history{suffix}"));
        match link {
            true => symlink("/not-mounted/a", path).unwrap(),
            false => fs::write(path, "nonsense").unwrap(),
        }
        client.fails(255, "", "00000002.history", &[archive.path()], &[]);
    }

    // What is normal in a recovery is a line without an alarm; so are files that mean nothing.
    let archive = Archive::new();
    for rest in [".00000028.backup", ".00000028.backup.gz", ".gz.0123456789abcdef.tmp", ".partial"] {
        fs::write(archive.file(&format!("{first}{rest}")), "").unwrap();
    }
    fs::write(archive.file(&format!("{}.xz", segments.second)), "another segment").unwrap();
    for name in [first, "00000002.history"] {
        let (code, stderr) = client.get(name, &[archive.path()], &[]);
        let line = format!("tapster: {name} is not in {}\n", archive.path().display());
        assert_eq!((code, stderr), (1, line));
    }
}

#[test]
fn a_recovery_does_not_end_at_a_link_to_a_disk_that_is_not_mounted() {
    let command = RestoreCommand::new();
    let primary = Cluster::builder(&servers::packaged()).archive().start();
    primary.sql("CREATE TABLE t (n int)").unwrap();
    let backup = primary.backup();
    primary.sql("INSERT INTO t VALUES (1)").unwrap();
    primary.write_segments(1);
    primary.sql("INSERT INTO t VALUES (2)").unwrap();
    let last = primary.write_segments(1);
    let archive = Archive::new();
    for entry in fs::read_dir(primary.archive_dir()).unwrap().flatten() {
        fs::copy(entry.path(), archive.path().join(entry.file_name())).unwrap();
    }
    let (elsewhere, unmounted) = (Archive::new(), archive.file("elsewhere"));
    give_to_server(&archive);
    fs::rename(archive.file(&last), elsewhere.file(&last)).unwrap();
    symlink(unmounted.join(&last), archive.file(&last)).unwrap();
    let log = backup.recover(&command.line(&[archive.path()], "")).unwrap_err();
    assert!(log.contains("exit code 255") && log.contains("tapster: error: "), "{log}");
    assert!(
        log.contains(&format!("tapster: 00000002.history is not in {}", archive.path().display())),
        "{log}"
    );
}

#[test]
fn several_members_or_frames_in_one_file_are_read() {
    let segments = Segments::new();
    let (first, client) = (&segments.first, Client::new());
    let whole = segments.bytes(first);
    for (suffix, method) in [(".gz", "gzip"), (".lz4", "lz4"), (".zst", "zstd")] {
        let compress: Compress = method.parse().unwrap();
        let stored = |content: &[u8]| {
            let mut encoder = Encoder::new(Vec::new(), compress, content.len() as u64).unwrap();
            encoder.write_all(content).unwrap();
            encoder.finish().unwrap()
        };
        // As bgzip, pzstd and cat make them: many of them, and an empty one at the end.
        let blocks: Vec<u8> = whole.chunks(65_280).chain([&b""[..]]).flat_map(&stored).collect();
        let archive = Archive::new();
        let path = archive.file(&format!("{first}{suffix}"));
        fs::write(&path, &blocks).unwrap();
        fs::copy(segments.dir.path().join(&segments.second), archive.file(&segments.second)).unwrap();
        assert_eq!(client.get(first, &[archive.path()], &[]).0, 0, "{suffix}");
        assert!(fs::read(client.destination()).unwrap() == whole, "{suffix}");
        let found = tapster_json(&["verify", archive.path().to_str().unwrap(), "--json"]);
        assert_has(&found, json!({ "ok": true, "segments": 2, "compressed": 1, "problems": [] }));
        // No more than a segment comes out of it, and no less.
        for wrong in [[&blocks[..], &stored(&[0; 8192])].concat(), stored(&whole[..65_280])] {
            fs::write(&path, wrong).unwrap();
            client.fails(255, "instead of 1048576", first, &[archive.path()], &[]);
        }
    }
}

#[test]
fn partial_segments_are_filled_up_with_zeros_if_that_is_wanted() {
    let segments = Segments::new();
    let (first, client) = (&segments.first, Client::new());
    let whole = segments.bytes(first);
    let partial = |archive: &Archive, content: &[u8]| {
        fs::write(archive.file(&format!("{first}.partial")), content).unwrap();
    };
    let (short, longer) = (Archive::new(), Archive::new());
    partial(&short, &whole[..100]);
    partial(&longer, &[&whole[..300], &[0; 5000]].concat());
    let both = [short.path(), longer.path()];
    client.fails(1, "is not in", first, &both, &[]);
    for archives in [both, [both[1], both[0]]] {
        let (code, stderr) = client.get(first, &archives, &["--partial"]);
        let filled = whole[..300].iter().rposition(|&byte| byte != 0).unwrap() + 1;
        assert!(code == 0 && stderr.contains(&format!("is partial: {filled} bytes of WAL")), "{stderr}");
        let delivered = fs::read(client.destination()).unwrap();
        assert_eq!(delivered.len(), whole.len());
        assert!(delivered[..300] == whole[..300] && delivered[300..].iter().all(|&byte| byte == 0));
    }
    // A whole one counts before, wherever it is; one that may be somewhere else is waited for.
    let (code, stderr) = client.get(first, &[longer.path(), segments.dir.path()], &["--partial"]);
    assert_eq!((code, stderr.as_str()), (0, ""));
    assert_eq!(fs::read(client.destination()).unwrap(), whole);
    let gone = short.path().join("gone");
    client.fails(255, "could not open directory", first, &[longer.path(), &gone], &["--partial"]);

    // The next one of a receiver, into which nothing has come yet.
    for empty in [&[][..], &[0; 1 << 20]] {
        partial(&short, empty);
        client.fails(1, "is not in", first, &[short.path()], &["--partial"]);
    }
    partial(&short, &[&whole[..], &[0; 8192]].concat());
    client.fails(255, "instead of 1048576", first, &[short.path()], &["--partial"]);
    partial(&short, &vec![0xa5; 1 << 20]);
    client.fails(255, "", first, &[short.path()], &["--partial"]);
    // It would end the recovery in the middle of the log.
    fs::write(longer.file(&segments.second), "").unwrap();
    client.fails(255, "there are later segments", first, &[longer.path()], &["--partial"]);
}

#[test]
fn what_is_there_is_listed_with_its_gaps() {
    let cluster = Cluster::builder(&servers::packaged()).start();
    let archive = Archive::new();
    let mut receiver = archive.receive(&cluster.socket_conninfo("repl"), &[]);
    let start = lsn(&receiver.wait_for("streaming")["start_lsn"]);
    let last = cluster.write_segments(5);
    receiver.wait_for_one("segment", |event| event["segment"] == last);
    receiver.stop("TERM");
    let mut names: Vec<String> = archive.names();
    names.retain(|name| name != "tapster.state");
    fs::remove_file(archive.file(&names[2])).unwrap();
    fs::write(archive.file("readme"), "").unwrap();
    let directory = archive.path().to_str().unwrap();

    let listing = tapster_json(&["wal", "ls", directory, "--json"]);
    let system = cluster.sql("SELECT system_identifier FROM pg_control_system()").unwrap();
    assert_has(
        &listing,
        json!({ "schema": "tapster.wal-ls/1", "ok": true, "segment_size_bytes": 1 << 20, "system_id": system }),
    );
    let timeline = &listing["timelines"][0];
    assert_has(timeline, json!({ "timeline": 1, "history": null }));
    assert_eq!(lsn(&timeline["runs"][0]["start_lsn"]), start);
    assert_has(
        &timeline["runs"][0],
        json!({ "first_segment": names[0], "last_segment": names[1], "segments": 2 }),
    );
    assert_has(&timeline["runs"][1], json!({ "first_segment": names[3], "last_segment": last }));
    assert_has(
        &timeline["gaps"][0],
        json!({ "after_segment": names[1], "before_segment": names[3], "segments": 1 }),
    );
    assert_eq!(timeline["files"].as_array().map(Vec::len), Some(names.len() - 1));
    assert_has(
        &timeline["files"][names.len() - 2],
        json!({ "name": archive.partials()[0], "partial": true, "compression": "none", "bytes": 1 << 20 }),
    );
    assert_eq!(listing["others"], json!(["readme"]));

    let output = tapster(&["wal", "ls", "--from", directory]);
    let text = String::from_utf8(output.stdout).unwrap();
    for words in
        ["timeline 1\n", &format!("{} - {}  2 segments, 2.0 MiB", names[0], names[1]), "GAP", "  1 segment\n"]
    {
        assert!(text.contains(words), "{words:?} is not in\n{text}");
    }
    let missing = tapster(&["wal", "ls", "/no/such/directory", "--json"]);
    assert_eq!(missing.status.code(), Some(6));
    let error: Value = support::json(String::from_utf8(missing.stdout).unwrap().trim());
    assert_has(&error, json!({ "ok": false, "error": { "kind": "storage" } }));
}

#[test]
fn a_segment_that_is_completed_meanwhile_is_delivered_whole() {
    let segments = Segments::new();
    let (first, client) = (&segments.first, Client::new());
    let archive = Archive::new();
    let partial = archive.file(&format!("{first}.partial"));
    let whole = segments.bytes(first);
    for delay in 0..30 {
        drop(fs::remove_file(archive.file(first)));
        fs::write(&partial, &whole).unwrap();
        // At every moment it has one of the two names.
        let (code, stderr) = thread::scope(|scope| {
            let complete = || {
                thread::sleep(Duration::from_micros(500 * delay));
                fs::rename(&partial, archive.file(first)).unwrap();
            };
            scope.spawn(complete);
            client.get(first, &[archive.path()], &["--partial"])
        });
        assert_eq!(code, 0, "{stderr}");
        assert!(fs::read(client.destination()).unwrap() == whole);
    }
}
