//! `tapster verify`: what is wrong with an archive is found, and what others do to it meanwhile is no mistake.
#![cfg(feature = "cli")]

mod support;

use core::sync::atomic::{AtomicBool, Ordering};
use core::time::Duration;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::thread;
use std::time::Instant;

use serde_json::{Value, json};
use support::process::PATIENCE;
use support::{Archive, Cluster, Program, assert_has, lsn, servers, wait_until};
use tapster::types::Lsn;

const STATE: &str = "tapster.state";

/// The exit code, and the document.
#[track_caller]
fn verify(archive: &Archive, options: &[&str]) -> (i32, Value) {
    let program = Program::tapster().args(&["verify", "--json"]).args(options).args(&[archive.path()]);
    let output = program.run();
    let document = support::json(String::from_utf8(output.stdout).unwrap().trim());
    (output.status.code().unwrap(), document)
}

/// Checks that there is one problem, with this kind and these members.
#[track_caller]
fn assert_problem(archive: &Archive, kind: &str, members: Value) {
    let (code, found) = verify(archive, &[]);
    let problems = found["problems"].as_array().unwrap();
    assert_eq!((code, problems.len()), (7, 1), "{found}");
    assert_has(&problems[0], json!({ "kind": kind }));
    assert_has(&problems[0], members);
    assert!(problems[0]["message"].as_str().is_some_and(|message| !message.is_empty()), "{found}");
}

#[track_caller]
fn assert_sound(archive: &Archive) -> Value {
    let (code, found) = verify(archive, &[]);
    assert_eq!(code, 0, "{found}");
    assert_has(&found, json!({ "ok": true, "problems": [], "accepted": [] }));
    found
}

/// The state file's text with another position up to which WAL was durable.
fn set_durable(archive: &Archive, position: Lsn) {
    let state = fs::read_to_string(archive.file(STATE)).unwrap();
    let line = state.lines().find(|line| line.starts_with("flushed ")).unwrap();
    fs::write(archive.file(STATE), state.replace(line, &format!("flushed {position}"))).unwrap();
}

/// An archive of some complete segments and a partial one, with a state file, and the position of its receiver.
fn received(cluster: &Cluster, segments: u64) -> (Archive, Lsn) {
    let archive = Archive::new();
    let mut receiver = archive.receive(&cluster.conninfo("repl"), &["--synchronous"]);
    receiver.wait_for("streaming");
    let last = cluster.write_segments(segments);
    receiver.wait_for_one("segment", |event| event["segment"] == last);
    cluster.write_wal(300_000);
    let position = cluster.position();
    wait_until(PATIENCE, "everything is durable", || {
        let flushed = cluster.sql("SELECT max(flush_lsn) FROM pg_stat_replication").unwrap();
        flushed.parse::<Lsn>().is_ok_and(|flushed| flushed >= position)
    });
    let flushed = lsn(&receiver.stop("TERM")["flush_lsn"]);
    (archive, flushed)
}

fn copy_of(archive: &Archive) -> Archive {
    let copy = Archive::new();
    for name in archive.all_names() {
        fs::copy(archive.file(&name), copy.file(&name)).unwrap();
    }
    copy
}

fn complete(archive: &Archive) -> Vec<String> {
    archive.names().into_iter().filter(|name| name.len() == 24).collect()
}

#[test]
fn what_cannot_be_looked_into_is_not_ok() {
    let nothing = Archive::new();
    assert_problem(&nothing, "empty", json!({ "segment": null, "name": null, "start_lsn": null }));
    fs::write(nothing.file("readme"), "no WAL").unwrap();
    assert_problem(&nothing, "empty", json!({}));

    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    let random: Vec<u8> = (0..1 << 20)
        .map(|_| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed as u8
        })
        .collect();
    let gzip = [&[0x1f, 0x8b, 8, 0][..], &random[..70_000]].concat();
    for (content, kind) in
        [(&random[..], "damage"), (&vec![0; 1 << 20], "damage"), (b"", "size"), (&gzip, "size")]
    {
        let archive = Archive::new();
        for number in 1..5 {
            fs::write(archive.file(&format!("00000001000000000000000{number}")), content).unwrap();
        }
        let (code, found) = verify(&archive, &[]);
        assert_eq!(code, 7, "{found}");
        assert_has(&found, json!({ "ok": false, "segments": 4, "error": { "message": "4 problems found" } }));
        for (problem, number) in found["problems"].as_array().unwrap().iter().zip(1..) {
            let name = format!("00000001000000000000000{number}");
            assert_has(problem, json!({ "kind": kind, "segment": name, "name": name, "timeline": 1 }));
            // Without anything else that tells it, the files' own size is that of a segment.
            let digits = if content.len() == 1 << 20 { 5 } else { 6 };
            assert_eq!(problem["start_lsn"], format!("0/{number}{:0digits$}", 0), "{problem}");
        }
        // As a partial segment, what is zero or empty was not written to yet, and other bytes are no WAL.
        let alone = Archive::new();
        fs::write(alone.file("000000010000000000000001.partial"), content).unwrap();
        let is_sound = content.iter().all(|&byte| byte == 0);
        let (code, found) = verify(&alone, &[]);
        assert_eq!(code, if is_sound { 0 } else { 7 }, "{found}");
    }

    let name = "000000010000000000000005";
    type Put = fn(&Path);
    let links: [(&str, Put, &str); 6] = [
        ("", |path| symlink("/not-mounted/a", path).unwrap(), "broken_link"),
        (".gz", |path| symlink("/not-mounted/a.gz", path).unwrap(), "broken_link"),
        ("", |path| symlink(path, path).unwrap(), "unreadable"),
        ("", |path| fs::create_dir(path).unwrap(), "not_a_file"),
        (".xz", |path| fs::write(path, "").unwrap(), "unknown_form"),
        (".tmp", |path| fs::write(path, "").unwrap(), "unknown_form"),
    ];
    for (suffix, put, kind) in links {
        let archive = Archive::new();
        put(&archive.file(&format!("{name}{suffix}")));
        let members = json!({ "name": format!("{name}{suffix}"), "segment": name, "timeline": 1 });
        assert_problem(&archive, kind, members);
        let text = Program::tapster().args(&["wal", "ls"]).args(&[archive.path()]).run();
        let text = String::from_utf8(text.stdout).unwrap();
        assert!(text.contains(&format!("{name}{suffix} ")) || suffix == ".tmp", "{text}");
    }
    let archive = Archive::new();
    fs::write(archive.file("000000010000000000000005.lz4"), "nonsense").unwrap();
    assert_problem(&archive, "compression", json!({ "segment": name, "start_lsn": "0/5000000" }));
    for (suffix, kind) in [("", "history"), (".gz", "compression"), (".xz", "unknown_form")] {
        let archive = Archive::new();
        fs::write(archive.file(&format!("00000002.history{suffix}")), "nonsense nonsense").unwrap();
        let (code, found) = verify(&archive, &[]);
        assert_eq!(code, 7, "{found}");
        assert_has(&found["problems"][0], json!({ "kind": kind, "timeline": 2, "segment": null }));
    }
}

#[test]
fn what_was_durable_has_to_be_there_and_right() {
    let cluster = Cluster::builder(&servers::packaged()).start();
    let (whole, flushed) = received(&cluster, 3);
    let found = assert_sound(&whole);
    let partial = &whole.partials()[0];
    let run = &found["runs"][0];
    assert_has(
        run,
        json!({ "partial_name": partial, "partial_end_lsn": flushed.to_string(), "segments": 3 }),
    );
    assert_has(&found, json!({ "segments": 3, "partials": 1 }));
    let text = Program::tapster().args(&["verify"]).args(&[whole.path()]).run();
    let text = String::from_utf8(text.stdout).unwrap();
    assert!(text.contains(&format!("and a partial one up to {flushed}\n")), "{text}");
    assert!(text.ends_with("\nok: 3 segments, no problem\n"), "{text}");
    let coloured =
        Program::tapster().args(&["verify"]).args(&[whole.path()]).env("CLICOLOR_FORCE", "1").run();
    assert!(String::from_utf8(coloured.stdout).unwrap().contains("\x1b[32mok\x1b[0m: "));

    // Complete segments may be moved away from the old end, all of them.
    let alone = copy_of(&whole);
    for name in complete(&whole) {
        fs::remove_file(alone.file(&name)).unwrap();
        assert_sound(&alone);
    }
    let found = assert_sound(&alone);
    assert_has(&found, json!({ "segments": 0, "partials": 1 }));
    assert_eq!(found["runs"][0]["partial_end_lsn"], flushed.to_string());

    let at = |lsn: Lsn| usize::try_from(lsn.get() % cluster.segment_size()).unwrap();
    for archive in [&whole, &alone] {
        let bytes = fs::read(archive.file(partial)).unwrap();
        let damaged = copy_of(archive);
        let mut changed = bytes.clone();
        changed[at(flushed) / 2..][..4].iter_mut().for_each(|byte| *byte ^= 0x5a);
        fs::write(damaged.file(partial), &changed).unwrap();
        assert_problem(&damaged, "damage", json!({ "name": partial, "end_lsn": flushed.to_string() }));
        // Cut off at a page, or empty from there on: a file that has its size.
        let cut = at(flushed) / 2 / 8192 * 8192;
        fs::write(damaged.file(partial), &bytes[..cut]).unwrap();
        assert_problem(&damaged, "short", json!({ "name": partial, "end_lsn": flushed.to_string() }));
        let mut emptied = bytes.clone();
        emptied[cut..].fill(0);
        fs::write(damaged.file(partial), &emptied).unwrap();
        let (code, found) = verify(&damaged, &[]);
        assert_eq!((code, found["problems"].as_array().map(Vec::len)), (7, Some(1)), "{found}");
        fs::write(damaged.file(partial), vec![0; bytes.len()]).unwrap();
        assert_eq!(verify(&damaged, &[]).0, 7);
        // Behind what was durable anything may stand: it was on its way.
        let mut beyond = bytes.clone();
        beyond[at(flushed) + 100..].fill(0xa5);
        fs::write(damaged.file(partial), &beyond).unwrap();
        assert_sound(&damaged);
        // A position within a record that was on its way.
        fs::write(damaged.file(partial), &bytes).unwrap();
        set_durable(&damaged, Lsn::new(flushed.get() - 8));
        assert_sound(&damaged);
        set_durable(&damaged, Lsn::new(flushed.get() + 4096));
        assert_problem(&damaged, "short", json!({ "name": partial }));
        // The newest segment is gone, or with it some before.
        fs::remove_file(damaged.file(partial)).unwrap();
        set_durable(&damaged, flushed);
        assert_problem(
            &damaged,
            "lost_end",
            json!({ "segment": &partial[..24], "end_lsn": flushed.to_string() }),
        );
    }
    let lost = copy_of(&whole);
    fs::remove_file(lost.file(partial)).unwrap();
    let segments = complete(&whole);
    fs::remove_file(lost.file(&segments[2])).unwrap();
    assert_problem(&lost, "lost_end", json!({ "segment": segments[2] }));
    // At the boundary nothing is lost, whatever was moved away.
    set_durable(&lost, cluster.segment_start(flushed));
    fs::copy(whole.file(&segments[2]), lost.file(&segments[2])).unwrap();
    assert_sound(&lost);

    let other = copy_of(&whole);
    let state = fs::read_to_string(other.file(STATE)).unwrap();
    fs::write(other.file(STATE), state.replace("system_identifier ", "system_identifier 1")).unwrap();
    assert_eq!(verify(&other, &[]).0, 7);
    fs::write(other.file(STATE), "nonsense\n").unwrap();
    assert_problem(&other, "state", json!({ "name": STATE }));
}

#[test]
fn a_partial_segment_behind_a_gap_and_an_accepted_gap_are_shown() {
    let cluster = Cluster::builder(&servers::packaged()).start();
    let (archive, flushed) = received(&cluster, 5);
    let segments = complete(&archive);
    for name in &segments[2..] {
        fs::remove_file(archive.file(name)).unwrap();
    }
    let (start, end) = (cluster.segment_start(flushed), archive.partials()[0].clone());
    let missing = Lsn::new(start.get() - 3 * cluster.segment_size());
    let gap = json!({
        "segment": segments[2], "after_segment": segments[1], "before_segment": &end[..24], "segments": 3,
        "start_lsn": missing.to_string(), "end_lsn": start.to_string(), "timeline": 1,
    });
    assert_problem(&archive, "gap", gap.clone());
    let listing = support::tapster_json(&["wal", "ls", archive.path().to_str().unwrap(), "--json"]);
    assert_has(&listing["timelines"][0]["gaps"][0], json!({ "segments": 3, "before_segment": &end[..24] }));
    let text = Program::tapster().args(&["wal", "ls"]).args(&[archive.path()]).run();
    assert!(String::from_utf8(text.stdout).unwrap().contains("  GAP   "));

    // It is accepted, as a receiver notes it; at first nothing has come behind it.
    let state = fs::read_to_string(archive.file(STATE)).unwrap();
    let accepted = |archive: &Archive| {
        let state = format!("{state}gap {missing} {start} 2026-01-02T03:04:05.000006Z\n");
        fs::write(archive.file(STATE), state).unwrap();
    };
    let before = copy_of(&archive);
    fs::remove_file(before.file(&end)).unwrap();
    set_durable(&before, start);
    let state_before = fs::read_to_string(before.file(STATE)).unwrap();
    fs::write(
        before.file(STATE),
        format!("{state_before}gap {missing} {start} 2026-01-02T03:04:05.000006Z\n"),
    )
    .unwrap();
    accepted(&archive);
    for archive in [&archive, &before] {
        let (code, found) = verify(archive, &[]);
        assert_eq!((code, found["problems"].as_array().map(Vec::len)), (7, Some(0)), "{found}");
        assert_has(
            &found["accepted"][0],
            json!({ "kind": "gap", "accepted_at": "2026-01-02T03:04:05.000006Z" }),
        );
        assert_eq!(found["accepted"][0]["end_lsn"], start.to_string(), "{found}");
        assert_eq!(verify(archive, &["--allow-accepted"]).0, 0);
    }
    // Once nothing is left from before the gap, it is none of this archive.
    fs::remove_file(archive.file(&segments[0])).unwrap();
    fs::remove_file(archive.file(&segments[1])).unwrap();
    assert_sound(&archive);
}

#[test]
fn a_parent_timeline_reaches_its_switchpoint() {
    let primary = Cluster::builder(&servers::packaged()).start();
    let standby = primary.standby();
    let archive = Archive::new();
    let options = ["-S", "tap", "--create-slot", "--synchronous"];
    let mut receiver = archive.receive(&standby.socket_conninfo("repl"), &options);
    receiver.wait_for("streaming");
    let last = primary.write_segments(4);
    receiver.wait_for_one("segment", |event| event["segment"] == last);
    primary.write_wal(1000);
    standby.wait_for_replay_of(&primary);
    let is_over = AtomicBool::new(false);
    let switchpoint = thread::scope(|scope| {
        let beside = scope.spawn(|| {
            let mut runs = 0;
            while !is_over.load(Ordering::Relaxed) {
                assert_sound(&archive);
                runs += 1;
            }
            runs
        });
        standby.promote();
        let switchpoint = lsn(&receiver.wait_for("timeline_switch")["switchpoint_lsn"]);
        let last = standby.write_segments(2);
        receiver.wait_for_one("segment", |event| event["segment"] == last);
        is_over.store(true, Ordering::Relaxed);
        assert!(beside.join().is_ok_and(|runs| runs > 0), "verify was right beside the promotion");
        switchpoint
    });
    receiver.stop("TERM");
    assert_sound(&archive);

    let old = complete(&archive).into_iter().filter(|name| name.starts_with("00000001")).collect::<Vec<_>>();
    let old_partial = archive.partials()[0].clone();
    assert!(old.len() >= 4 && old_partial.starts_with("00000001"), "{:?}", archive.names());
    let first = standby.segment_name(2, switchpoint);
    // What the parent's last segment holds, the child's first one begins with.
    let copy = copy_of(&archive);
    fs::remove_file(copy.file(&old_partial)).unwrap();
    assert_sound(&copy);
    fs::remove_file(copy.file(&old[old.len() - 1])).unwrap();
    let gap = json!({ "segment": old[old.len() - 1], "before_segment": first, "segments": 1 });
    assert_problem(&copy, "gap", gap);
    for name in &old[1..old.len() - 1] {
        fs::remove_file(copy.file(name)).unwrap();
    }
    assert_problem(&copy, "gap", json!({ "after_segment": old[0], "segments": old.len() - 1 }));
    // The archive may begin anywhere, also with the child.
    fs::remove_file(copy.file(&old[0])).unwrap();
    assert_sound(&copy);

    // The child begins too late.
    fs::remove_file(archive.file(&first)).unwrap();
    assert_problem(
        &archive,
        "gap",
        json!({ "segment": first.replacen("00000002", "00000001", 1), "segments": 1 }),
    );
    let without_history = copy_of(&copy);
    fs::remove_file(without_history.file("00000002.history")).unwrap();
    assert_problem(&without_history, "no_history", json!({ "timeline": 2, "segment": null }));
}

#[test]
fn a_busy_receiver_and_programs_that_move_segments_away_are_no_mistakes() {
    // The server outruns a receiver on a busy machine.
    let cluster = Cluster::builder(&servers::packaged()).setting("wal_keep_size", "4GB").start();
    for options in [&["-Z", "gzip:1"][..], &[]] {
        let (archive, away) = (Archive::new(), Archive::new());
        let mut receiver = archive.receive(&cluster.conninfo("repl"), options);
        receiver.wait_for("streaming");
        cluster.write_segments(2);
        let is_over = AtomicBool::new(false);
        let runs = thread::scope(|scope| {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    cluster.write_segments(3);
                }
            });
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    let names = archive.names();
                    let moved = names.iter().filter(|name| name.len() == 24 || name.ends_with(".gz"));
                    for name in moved.take(names.len().saturating_sub(6)) {
                        drop(fs::rename(archive.file(name), away.file(name)));
                    }
                    thread::yield_now();
                }
            });
            let begin = Instant::now();
            let mut results = Vec::new();
            while begin.elapsed() < Duration::from_secs(3) {
                results.push(verify(&archive, &[]));
            }
            is_over.store(true, Ordering::Relaxed);
            results
        });
        receiver.stop("TERM");
        let wrong: Vec<_> = runs.iter().filter(|(code, _)| *code != 0).collect();
        assert!(wrong.is_empty() && runs.len() > 5, "{} of {}: {}", wrong.len(), runs.len(), wrong[0].1);
        assert!(!away.names().is_empty());
    }
}
