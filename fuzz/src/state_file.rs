//! Properties of an archive's state file, `tapster.state`.

use std::fs;

use tapster::archive::{AcceptedGap, Archive, ArchiveError, ArchiveState};
use tapster::types::{Lsn, PgTimestamp, SystemId, TimelineId, WalSegmentSize};

use super::bytes::Bytes;
use super::scratch::Scratch;

/// The first byte is 0 before the bytes of a state file. Else it is the number of comments, of 4 KiB each, before
/// the last line of a state file, or, from 0xc0 on, the bytes of the facts of a state follow.
pub fn state_file(input: &[u8]) {
    let Some((&choice, rest)) = input.split_first() else { return };
    let directory = Scratch::new();
    let archive = Archive::open(directory.path(), WalSegmentSize::DEFAULT).unwrap();
    match choice {
        0 => check_text(&archive, rest),
        1..0xc0 => check_long_text(&archive, rest, choice.into()),
        _ => check_written(&archive, &state(Bytes(rest), choice - 0xc0)),
    }
}

fn read(archive: &Archive, text: &[u8]) -> Result<ArchiveState, usize> {
    fs::write(path(archive), text).unwrap();
    match archive.read_state() {
        Ok(state) => Ok(state.expect("the file is there")),
        Err(ArchiveError::State { path: told, line }) => {
            assert_eq!(told, path(archive));
            Err(line)
        }
        Err(error) => panic!("{error}"),
    }
}

fn path(archive: &Archive) -> std::path::PathBuf {
    archive.path().join(ArchiveState::FILE_NAME)
}

/// Checks that a text that is understood says what the state says, each fact once and nothing else; and that the
/// line is there that is not understood.
fn check_text(archive: &Archive, text: &[u8]) {
    let result = read(archive, text);
    assert_eq!(fs::read(path(archive)).unwrap(), text, "reading changed the file");
    let text = String::from_utf8_lossy(text);
    let lines: Vec<&str> = text.lines().collect();
    match result {
        Ok(state) => {
            let count =
                |fact: &str| lines.iter().filter(|line| line.split_whitespace().next() == Some(fact)).count();
            let facts = ["system_identifier", "wal_segment_size", "timeline", "flushed"].map(count);
            assert_eq!(facts, [1; 4]);
            assert_eq!(count("gap"), state.gaps.len());
            let others = lines.iter().filter(|line| line.trim().is_empty()).count() + count("#");
            assert_eq!(lines.len(), 4 + state.gaps.len() + others, "a line counts that means nothing");
            check_written(archive, &state);
        }
        Err(line) => {
            assert!((1..=lines.len() + 1).contains(&line));
            // The lines before it are right: without it, a later one is named, or none.
            if line <= lines.len() {
                let mut without = lines;
                without[line - 1] = "#";
                let later = read(archive, without.join("\n").as_bytes());
                assert!(later.is_ok() || later.is_err_and(|later| later > line));
            }
        }
    }
}

/// Checks that comments change nothing, however long they make the file, unless it is refused for its size.
fn check_long_text(archive: &Archive, text: &[u8], comments: usize) {
    let Ok(state) = read(archive, text) else { return };
    let lines = text.strip_suffix(b"\n").unwrap_or(text);
    let last = lines.iter().rposition(|&byte| byte == b'\n').map_or(0, |newline| newline + 1);
    let (before, last) = text.split_at(last);
    let comment = format!("# {}\n", "x".repeat(4093));
    for count in [comments, 2 * comments] {
        let long = [before, comment.repeat(count).as_bytes(), last].concat();
        match read(archive, &long) {
            Ok(read) => assert_eq!(read, state, "{} bytes", long.len()),
            Err(_) => assert!(long.len() > 1 << 20, "{} bytes", long.len()),
        }
    }
}

/// Checks that a state is the same when it is read again.
fn check_written(archive: &Archive, state: &ArchiveState) {
    archive.write_state(state).unwrap();
    assert_eq!(archive.read_state().unwrap().as_ref(), Some(state));
    assert_eq!(fs::read(path(archive)).unwrap(), state.to_string().as_bytes());
    assert_eq!(fs::read_dir(archive.path()).unwrap().count(), 1, "a temporary file is left");
    let size = u64::from(state.segment_size.bytes());
    let resume = state.resume_at();
    assert_eq!(resume.timeline(), state.timeline);
    assert!(resume.start() <= state.flushed && state.flushed.get() - resume.start().get() < size);
}

fn state(mut bytes: Bytes<'_>, bits: u8) -> ArchiveState {
    let segment_size = WalSegmentSize::new(1 << (20 + bits % 11)).expect("a power of two in range");
    let system_id = SystemId::new(bytes.u64());
    let timeline = TimelineId::new(bytes.u32()).unwrap_or(TimelineId::FIRST);
    let flushed = Lsn::new(bytes.u64());
    let mut gaps = Vec::new();
    while !bytes.is_empty() {
        let [from, to] = [bytes.u64(), bytes.u64()].map(Lsn::new);
        // Moments from the year 0 up to the last one that PostgreSQL has.
        let seconds = bytes.u64() % 9_200_000_000_000;
        let accepted_at = PgTimestamp::from_micros(seconds as i64 * 1_000_000 - 63_000_000_000_000_000);
        gaps.push(AcceptedGap { from, to, accepted_at });
    }
    ArchiveState { system_id, segment_size, timeline, flushed, gaps }
}
