//! What others do to the archive's files, and a server that is not what it was.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;

use crate::subject::{A_WHILE, SLOT, Subject, arrives, assert_goes_on, cluster};
use crate::support::process::PATIENCE;
use crate::support::wait::holds_within;
use crate::support::{Archive, Cluster, Stop, oracle, wait_until};

/// Receives everything that there is, and gives the newest complete segment.
#[track_caller]
fn receive(subject: Subject, archive: &Archive, cluster: &Cluster, options: &[&str]) -> String {
    let receiver = subject.start(archive, &cluster.conninfo("repl"), &[&["-S", SLOT], options].concat());
    let last = [(); 3].map(|()| cluster.write_segments(1))[2].clone();
    assert!(arrives(archive, &last, PATIENCE), "{}", receiver.stderr());
    receiver.signal("INT");
    receiver.wait(PATIENCE);
    last
}

#[test]
fn behind_a_segment_that_is_none_there_would_be_a_hole() {
    let cluster = cluster();
    let archive = Archive::new();
    let empty = |path: &Path| File::create(path).map(drop).unwrap();
    let zero = |path: &Path| fs::write(path, vec![0; 1 << 20]).unwrap();
    let flip = |path: &Path| flip(path, 600);
    for damage in [&empty as &dyn Fn(&Path), &zero, &flip] {
        for with_partial in [true, false] {
            let newest = receive(Subject::Tapster, &archive, &cluster, &[]);
            damage(&archive.file(&newest));
            if !with_partial {
                archive.partials().iter().for_each(|name| fs::remove_file(archive.file(name)).unwrap());
            }
            assert_goes_on(Subject::Tapster, &archive, &cluster);
        }
    }
    // Nothing else is left that could tell where it was.
    let names = archive.names();
    fs::remove_file(archive.file("tapster.state")).unwrap();
    archive.partials().iter().for_each(|name| fs::remove_file(archive.file(name)).unwrap());
    for name in oracle::segments(archive.path()).unwrap() {
        empty(&archive.file(&name));
    }
    assert_goes_on(Subject::Tapster, &archive, &cluster);
    assert!(archive.names().len() > names.len());
}

/// As after a bit that flipped on the way, and a receiver that was killed before the rest of the record came.
#[test]
fn a_record_that_turns_out_to_be_damaged_is_fetched_from_its_beginning() {
    let (cluster, archive) = (cluster(), Archive::new());
    let conninfo = cluster.conninfo("repl");
    cluster.write_wal(600_000);
    let crossed = cluster.segment_name(1, cluster.position());
    cluster.write_wal(600_000);
    let end = cluster.position().to_string();
    let options = ["-S", SLOT, "--no-state-file", "--endpos", &end];
    let end = Subject::Tapster.start(&archive, &conninfo, &options).wait(PATIENCE);
    assert!(end.status.success(), "{end:?}");
    flip(&archive.file(&crossed), 900_000);
    archive.partials().iter().for_each(|name| fs::remove_file(archive.file(name)).unwrap());
    assert_goes_on(Subject::Tapster, &archive, &cluster);
}

#[test]
fn a_server_with_another_past_does_not_overwrite_what_was_acknowledged() {
    for subject in [Subject::Tapster, Subject::PgReceivewal] {
        let (cluster, archive) = (cluster(), Archive::new());
        let data = cluster.data_dir();
        let snapshot = data.with_extension("snapshot");
        cluster.stop(Stop::Fast);
        copy(&data, &snapshot);
        cluster.start();
        cluster.write_wal(100_000);
        let end = cluster.position().to_string();
        let receiver = subject.start(&archive, &cluster.conninfo("repl"), &["-S", SLOT, "--synchronous"]);
        let acknowledged = format!("SELECT restart_lsn >= '{end}' FROM pg_replication_slots");
        wait_until(PATIENCE, "it has everything", || cluster.sql(&acknowledged).as_deref() == Ok("t"));
        receiver.signal("INT");
        receiver.wait(PATIENCE);
        let partial = archive.file(&archive.partials()[0]);
        let before = fs::read(&partial).unwrap();

        cluster.stop(Stop::Immediate);
        fs::remove_dir_all(&data).unwrap();
        copy(&snapshot, &data);
        cluster.start();
        cluster.write_wal(200_000);
        let mut receiver = subject.start(&archive, &cluster.conninfo("repl"), &["-S", SLOT, "-n"]);
        let overwritten =
            holds_within(A_WHILE, || receiver.has_ended() || fs::read(&partial).unwrap() != before)
                && !receiver.has_ended();
        assert_eq!(overwritten, subject == Subject::PgReceivewal, "{}", receiver.stderr());
        if subject == Subject::Tapster {
            let end = receiver.wait(PATIENCE);
            let said = String::from_utf8_lossy(&end.stderr);
            assert_eq!(end.status.code(), Some(5), "{said}");
            assert!(said.contains("the server has other WAL than the archive"), "{said}");
        }
    }
}

#[test]
fn a_file_that_somebody_takes_away_is_written_anew() {
    let remove = |path: &Path| fs::remove_file(path).unwrap();
    let cut = |path: &Path| OpenOptions::new().write(true).open(path).unwrap().set_len(0).unwrap();
    let replace = |path: &Path| {
        let other = path.with_extension("other");
        fs::write(&other, vec![7; 1 << 20]).unwrap();
        fs::rename(&other, path).unwrap();
    };
    for (damage, is_healed_by_both) in [(&remove as &dyn Fn(&Path), true), (&cut, false), (&replace, false)] {
        for subject in [Subject::Tapster, Subject::PgReceivewal] {
            if is_healed_by_both && subject == Subject::PgReceivewal {
                continue;
            }
            let (cluster, archive) = (cluster(), Archive::new());
            let receiver = subject.start(&archive, &cluster.conninfo("repl"), &["-S", SLOT]);
            wait_until(PATIENCE, "it receives", || receiver.stderr().contains("streaming"));
            cluster.write_wal(100_000);
            let offset = cluster.position().get() % (1 << 20) - 1000;
            let written = |name: &String| {
                let mut byte = [0; 8];
                let file = File::open(archive.file(name));
                file.and_then(|file| file.read_exact_at(&mut byte, offset)).is_ok() && byte != [0; 8]
            };
            wait_until(PATIENCE, "something is written", || archive.partials().iter().any(written));
            damage(&archive.file(&archive.partials()[0]));
            let last = cluster.write_segments(2);
            let arrived = arrives(&archive, &last, A_WHILE);
            let same = oracle::compare_segments(archive.path(), &cluster.archive_dir());
            assert_eq!(
                arrived && same.is_ok(),
                subject == Subject::Tapster,
                "{same:?} {}",
                receiver.stderr()
            );
        }
    }
}

fn flip(path: &Path, offset: u64) {
    let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[byte[0] ^ 0x10], offset).unwrap();
}

fn copy(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg("-a").args([from, to]).status().unwrap().success());
}
