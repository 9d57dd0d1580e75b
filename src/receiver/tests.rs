//! The receiver against a server that follows a script, with a disk that fails when a test wants it to.

use core::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::collections::VecDeque;
use std::fs;
use std::prelude::v1::*;
use std::sync::{Mutex, mpsc};
use std::{format, io, vec};

use super::disk::{Disk, Files, Written};
use super::*;
use crate::codec::{
    BackendMessage, CopyData, FrontendMessage, PrimaryKeepalive, ReplicationMessage, StandbyMessage,
    StandbyStatusUpdate, TransactionStatus, XLogData,
};
use crate::conninfo::{ConnInfo, Environment};
use crate::storage::{AlignedBuffer, StorageError};
use crate::test_server::{Script, TestServer};
use crate::types::PgTimestamp;
use crate::wal::test_support::{Log, SEGMENT, SYSTEM_ID, segment_size};

/// So that a program with threads can have it as a task.
#[expect(dead_code, reason = "that it compiles is the test")]
fn a_running_receiver_may_move_to_another_thread(
    receiver: Receiver<fn(ReceiverEvent<'_>)>,
    stop: watch::Receiver<bool>,
) -> impl Send {
    receiver.run(stop)
}

// The server.

fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let len = (body.len() as u32 + 4).to_be_bytes();
    [&[tag][..], &len, body].concat()
}

/// The messages of a result of one row, where every column is text, up to its `CommandComplete`.
fn row(columns: &[(&str, &str)]) -> Vec<u8> {
    let count = (columns.len() as u16).to_be_bytes();
    let (mut description, mut values) = (count.to_vec(), count.to_vec());
    for (name, value) in columns {
        description.extend(name.as_bytes());
        description.extend(b"\0\0\0\0\0\0\0\0\0\0\x19\xff\xff\xff\xff\xff\xff\0\0");
        values.extend((value.len() as u32).to_be_bytes());
        values.extend(value.as_bytes());
    }
    [message(b'T', &description), message(b'D', &values), message(b'C', b"SELECT 1\0")].concat()
}

fn ready() -> Vec<u8> {
    let mut bytes = Vec::new();
    BackendMessage::ReadyForQuery(TransactionStatus::Idle).encode(&mut bytes).unwrap();
    bytes
}

/// How a session begins: who the server is, and that it is a primary.
fn identify(system_id: SystemId, timeline: u32, position: Lsn) -> Script {
    let identity = row(&[
        ("systemid", &system_id.to_string()),
        ("timeline", &timeline.to_string()),
        ("xlogpos", &position.to_string()),
        ("dbname", ""),
    ]);
    Script::new()
        .greet()
        .expect_query("IDENTIFY_SYSTEM")
        .send_bytes([identity, ready()].concat())
        .expect_query("SHOW transaction_read_only")
        .send_bytes([row(&[("transaction_read_only", "off")]), ready()].concat())
}

/// What is asked at the first connection only.
fn sizes(script: Script) -> Script {
    script
        .expect_query("SHOW wal_segment_size")
        .send_bytes([row(&[("wal_segment_size", "1MB")]), ready()].concat())
        .expect_query("SHOW data_directory_mode")
        .send_bytes([row(&[("data_directory_mode", "0700")]), ready()].concat())
}

/// A server on timeline 1 in the segment of `Log`, at its first connection.
fn first_connection(log: &Log) -> Script {
    sizes(identify(SYSTEM_ID, 1, log.start()))
}

fn later_connection(log: &Log) -> Script {
    identify(SYSTEM_ID, 1, log.start())
}

fn start_at(script: Script, start: Lsn, timeline: u32) -> Script {
    let expected = format!("START_REPLICATION PHYSICAL {start} TIMELINE {timeline}");
    script.expect("START_REPLICATION", move |message| {
        *message == FrontendMessage::Query { query: expected.as_bytes() }
    })
}

fn streaming(script: Script, start: Lsn, timeline: u32) -> Script {
    start_at(script, start, timeline).send_bytes(*b"W\0\0\0\x07\0\0\0")
}

fn refused(script: Script, start: Lsn, sqlstate: &str, text: &str) -> Script {
    let error = format!("SERROR\0VERROR\0C{sqlstate}\0M{text}\0\0");
    start_at(script, start, 1).send_bytes([message(b'E', error.as_bytes()), ready()].concat())
}

fn replication(message: &ReplicationMessage<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    CopyData::encode_with(&mut bytes, |out| message.encode(out)).unwrap();
    bytes
}

fn wal(start: Lsn, data: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (at, data) in (start.get()..).step_by(128 << 10).zip(data.chunks(128 << 10)) {
        bytes.extend(replication(&ReplicationMessage::XLogData(XLogData {
            wal_start: Lsn::new(at),
            wal_end: Lsn::new(at + data.len() as u64),
            sent_at: PgTimestamp::from_micros(0),
            data,
        })));
    }
    bytes
}

fn keepalive(wal_end: Lsn) -> Vec<u8> {
    replication(&ReplicationMessage::PrimaryKeepalive(PrimaryKeepalive {
        wal_end,
        sent_at: PgTimestamp::from_micros(0),
        reply_requested: true,
    }))
}

fn status(message: &FrontendMessage<'_>) -> Option<StandbyStatusUpdate> {
    let FrontendMessage::CopyData(CopyData { data }) = message else { return None };
    match StandbyMessage::parse(data) {
        Ok(StandbyMessage::StatusUpdate(status)) => Some(status),
        _ => None,
    }
}

/// The client ends its side of the stream, and then the server does.
fn client_ends(script: Script) -> Script {
    let end =
        [message(b'c', b""), message(b'C', b"COPY 0\0"), message(b'C', b"START_REPLICATION\0"), ready()];
    script.skip_until("CopyDone", |message| *message == FrontendMessage::CopyDone).send_bytes(end.concat())
}

// The disk.

/// What becomes of a batch.
enum Fate {
    Written,
    NoSpace,
    FsyncFails,
    /// Written once something is sent to it.
    Waits(mpsc::Receiver<()>),
}

#[derive(Default)]
struct Fates {
    next: Mutex<VecDeque<Fate>>,
    /// Everything before this is durable.
    durable: AtomicU64,
}

/// A disk on which batches have the fates of a test, and are written once these are used up.
struct FatefulDisk {
    disk: Box<Disk>,
    fates: Arc<Fates>,
    /// Written and flushed.
    reached: Option<(Lsn, Lsn)>,
}

impl Files for FatefulDisk {
    fn write(&mut self, batch: AlignedBuffer, proven: Lsn, sync: bool) -> Result<Written, ReceiveError> {
        let fate = self.fates.next.lock().unwrap().pop_front().unwrap_or(Fate::Written);
        let path = || "/full".into();
        match fate {
            Fate::Written => {}
            Fate::Waits(gate) => gate.recv().unwrap(),
            Fate::FsyncFails => {
                let source = Some(io::Error::from_raw_os_error(5));
                return Err(ArchiveError::Storage(StorageError::Fsync { path: path(), source }).into());
            }
            Fate::NoSpace => {
                let (written, flushed) = self.reached.unwrap_or_else(|| (batch.start(), batch.start()));
                let full = StorageError::io("write", path(), io::Error::from_raw_os_error(28));
                let out_of_space = Some(ArchiveError::Storage(full));
                return Ok(Written { batch, written, flushed, proven, finished: Vec::new(), out_of_space });
            }
        }
        let done = self.disk.write(batch, proven, sync)?;
        self.fates.durable.fetch_max(done.flushed.get(), SeqCst);
        self.reached = Some((done.written, done.flushed));
        Ok(done)
    }

    fn close(self: Box<Self>, is_damaged: bool) -> Result<Option<WalSegment>, ReceiveError> {
        self.disk.close(is_damaged)
    }
}

// A run.

struct Run {
    dir: tempfile::TempDir,
    options: ReceiverOptions,
    fates: Arc<Fates>,
    stop: watch::Sender<bool>,
}

struct Outcome {
    result: Result<Stopped, ReceiveError>,
    /// The names of what happened.
    events: Vec<String>,
    dir: tempfile::TempDir,
}

impl Run {
    /// Nothing in it depends on time but what a test sets.
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let options = ReceiverOptions {
            receive_timeout: None,
            status_interval: None,
            no_loop: true,
            ..ReceiverOptions::new(dir.path())
        };
        Self { dir, options, fates: Arc::default(), stop: watch::Sender::new(false) }
    }

    fn fate(self, fate: Fate) -> Self {
        self.fates.next.lock().unwrap().push_back(fate);
        self
    }

    fn archive(&self) -> Archive {
        Archive::open(self.dir.path(), segment_size()).unwrap()
    }

    fn against(self, scripts: impl IntoIterator<Item = Script>) -> Outcome {
        self.watched(scripts, |_| {})
    }

    /// Runs against these connections, which have to go as their scripts say.
    fn watched(
        self,
        scripts: impl IntoIterator<Item = Script>,
        mut on_event: impl FnMut(&ReceiverEvent<'_>),
    ) -> Outcome {
        let server = TestServer::start(scripts).unwrap();
        let outcome = self.at_port(server.address().port(), &mut on_event);
        if let Err(error) = server.finish() {
            let cause = core::error::Error::source(&error).map(ToString::to_string);
            unreachable!("{error}: {cause:?}; {:?} {:?}", outcome.result, outcome.events);
        }
        outcome
    }

    fn at_port(self, port: u16, on_event: &mut impl FnMut(&ReceiverEvent<'_>)) -> Outcome {
        let conninfo = format!("host=127.0.0.1 port={port} user=u sslmode=disable");
        let conninfo: ConnInfo = conninfo.parse().unwrap();
        let config = conninfo.resolve(&Environment::empty()).unwrap().config().unwrap();
        let mut events = Vec::new();
        let mut receiver = Receiver::new(config, self.options, |event| {
            let text = format!("{event:?}");
            let name = text.split(|c: char| !c.is_alphanumeric()).next().unwrap();
            events.push(name.to_string());
            on_event(&event);
        });
        let fates = Arc::clone(&self.fates);
        receiver.make_files = Box::new(move |disk| {
            Box::new(FatefulDisk { disk: Box::new(disk), fates: Arc::clone(&fates), reached: None })
        });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let result = runtime.block_on(receiver.run(self.stop.subscribe()));
        Outcome { result, events, dir: self.dir }
    }
}

impl Outcome {
    fn refusal(&self) -> &Refusal {
        match &self.result {
            Err(ReceiveError::Refused(refusal)) => refusal,
            other => unreachable!("{other:?} {:?}", self.events),
        }
    }

    fn files(&self) -> Vec<String> {
        let entries = fs::read_dir(self.dir.path()).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names.retain(|name| name.starts_with("0000"));
        names
    }

    fn content(&self, name: &str) -> Vec<u8> {
        fs::read(self.dir.path().join(name)).unwrap()
    }
}

const SEGMENT_5: &str = "000000010000000000000005";
const PARTIAL_5: &str = "000000010000000000000005.partial";

/// A few records.
fn short_log() -> Log {
    let mut log = Log::new();
    for len in [100, 3000, 50] {
        log.record(len);
    }
    log
}

/// A whole segment and a little of the next.
fn long_log() -> Log {
    let mut log = Log::new();
    log.fill_segment();
    log.fill_to(0);
    log.record(10);
    log
}

fn end_of(log: &Log) -> Lsn {
    Lsn::new(log.position())
}

// Connecting.

#[test]
fn a_first_connection_that_is_refused_is_not_tried_again() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut run = Run::new();
    run.options.no_loop = false;
    let outcome = run.at_port(port, &mut |_| {});
    assert!(matches!(outcome.result, Err(ReceiveError::Connection(_))), "{:?}", outcome.result);
    assert_eq!(outcome.events, [""; 0]);
}

#[test]
fn another_cluster_than_the_state_file_names_is_refused() {
    let run = Run::new();
    let state = crate::archive::ArchiveState {
        system_id: SystemId::new(7),
        segment_size: segment_size(),
        timeline: TimelineId::FIRST,
        flushed: Lsn::new(0x50_0000),
        gaps: Vec::new(),
    };
    run.archive().write_state(&state).unwrap();
    let file = Some(run.archive().path().join("tapster.state"));
    let outcome = run.against([first_connection(&Log::new())]);
    let (archive, server) = (SystemId::new(7), SYSTEM_ID);
    assert_eq!(*outcome.refusal(), Refusal::OtherCluster { archive, server, file });
    assert_eq!(outcome.events, ["Connected"]);
}

/// Where a server is that has written much more.
fn far_ahead_of(log: &Log) -> Lsn {
    Lsn::new(log.start + 9 * SEGMENT as u64)
}

/// The files of a directory with their content, links and directories as well.
fn everything_in(dir: &std::path::Path) -> Vec<(std::ffi::OsString, Option<Vec<u8>>)> {
    let entries = fs::read_dir(dir).unwrap().map(Result::unwrap);
    let mut files: Vec<_> = entries.map(|entry| (entry.file_name(), fs::read(entry.path()).ok())).collect();
    files.sort();
    files
}

fn is_not_ours(error: &ReceiveError) -> bool {
    let ReceiveError::Refused(refusal) = error else { return false };
    matches!(
        **refusal,
        Refusal::OtherCluster { .. } | Refusal::OtherSegmentSize { .. } | Refusal::ForeignFile(_)
    )
}

#[test]
fn files_that_are_not_proven_to_be_this_servers_are_refused_and_nothing_is_written() {
    let log = long_log();
    let segment = &log.bytes[..SEGMENT];
    let gzip = |bytes: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        io::Write::write_all(&mut encoder, bytes).unwrap();
        encoder.finish().unwrap()
    };
    let zstd = |bytes: &[u8]| zstd::encode_all(bytes, 1).unwrap();
    // Of a cluster with other segments, as far as its first page says; and of one with the same.
    let (mut larger, mut other) = (segment.to_vec(), segment.to_vec());
    larger[24] ^= 1;
    larger[32..36].copy_from_slice(&(2_u32 << 20).to_le_bytes());
    larger[8..16].copy_from_slice(&(10_u64 << 20).to_le_bytes());
    larger.resize(2 << 20, 7);
    other[24] ^= 1;
    let (four, six) = ("000000010000000000000004", "000000010000000000000006");
    let noise: Vec<u8> = (0..9000_u32).map(|i| (i * i % 249) as u8 | 1).collect();
    let mut headless = larger.clone();
    headless[..40].fill(9);
    headless[8192..8192 + 40].copy_from_slice(&larger[..40]);
    headless[8192 + 8..8192 + 16].copy_from_slice(&((10_u64 << 20) + 8192).to_le_bytes());
    let larger_begin = larger[..7000].to_vec();
    // A segment of ours at another place, as far as its first page says.
    let moved = |number: u64| {
        let mut bytes = segment.to_vec();
        bytes[8..16].copy_from_slice(&(number << 20).to_le_bytes());
        bytes
    };
    let cases: Vec<Vec<(String, Vec<u8>)>> = vec![
        vec![(SEGMENT_5.into(), larger.clone())],
        vec![(PARTIAL_5.into(), larger.clone())],
        vec![(format!("{SEGMENT_5}.gz"), gzip(&larger))],
        vec![(format!("{SEGMENT_5}.zst"), zstd(&larger))],
        vec![(
            format!("{SEGMENT_5}.gz.partial"),
            gzip(&larger)[..50_000.min(gzip(&larger).len() / 2)].into(),
        )],
        vec![(SEGMENT_5.into(), gzip(&larger))],
        vec![(SEGMENT_5.into(), zstd(segment))],
        vec![(format!("{SEGMENT_5}.gz"), larger[..7000].into())],
        vec![(SEGMENT_5.into(), other.clone())],
        // One of another cluster among ours, whatever its place.
        vec![(SEGMENT_5.into(), segment.into()), (four.into(), other.clone())],
        vec![(SEGMENT_5.into(), segment.into()), (four.into(), larger.clone())],
        vec![(SEGMENT_5.into(), segment.into()), (format!("{six}.partial"), larger.clone())],
        vec![("0000000100000000000000F0".into(), larger), (SEGMENT_5.into(), segment.into())],
        // What nothing shows to be ours, and what is of another place.
        vec![(SEGMENT_5.into(), noise.clone())],
        vec![(PARTIAL_5.into(), noise.clone())],
        vec![(SEGMENT_5.into(), headless.clone())],
        vec![(SEGMENT_5.into(), segment.into()), (six.into(), segment.into())],
        vec![(four.into(), moved(4)), (SEGMENT_5.into(), gzip(segment))],
        vec![(four.into(), moved(4)), (SEGMENT_5.into(), b"\xfd7zXZ\0 and so on".into())],
        // Among ours, what still tells that it is of others.
        vec![(four.into(), moved(4)), (format!("{SEGMENT_5}.gz"), larger_begin)],
        vec![(four.into(), moved(4)), (SEGMENT_5.into(), headless.clone())],
    ];
    for (number, files) in cases.into_iter().enumerate() {
        let run = Run::new();
        for (name, content) in &files {
            fs::write(run.dir.path().join(name), content).unwrap();
        }
        let before = everything_in(run.dir.path());
        let outcome = run.against([sizes(identify(SYSTEM_ID, 1, far_ahead_of(&log)))]);
        let error = outcome.result.as_ref().unwrap_err();
        assert!(is_not_ours(error), "{number}: {error} {:?}", outcome.events);
        assert!(everything_in(outcome.dir.path()) == before, "{number}");
    }
}

#[test]
fn a_directory_or_a_broken_link_in_the_place_of_the_next_segment_is_refused() {
    let log = long_log();
    for is_link in [false, true] {
        let run = Run::new();
        let mut before = log.bytes[..SEGMENT].to_vec();
        before[8..16].copy_from_slice(&(log.start - SEGMENT as u64).to_le_bytes());
        fs::write(run.dir.path().join("000000010000000000000004"), before).unwrap();
        let name = run.dir.path().join(SEGMENT_5);
        match is_link {
            false => fs::create_dir(name).unwrap(),
            true => std::os::unix::fs::symlink("/not/mounted/5", name).unwrap(),
        }
        let outcome = run.against([sizes(identify(SYSTEM_ID, 1, far_ahead_of(&log)))]);
        let error = outcome.result.as_ref().unwrap_err();
        assert!(is_not_ours(error), "{error}");
        assert!(outcome.dir.path().join(SEGMENT_5).symlink_metadata().unwrap().is_symlink() == is_link);
        assert_eq!(outcome.files().len(), 2);
    }
}

#[test]
fn what_a_crash_leaves_is_received_again_where_nothing_says_otherwise() {
    // Segments 4 and 5, and a little of 6.
    let (mut log, size) = (Log::new(), SEGMENT as u64);
    (log.start, log.previous) = (log.start - size, log.previous - size);
    for _ in 0..2 {
        log.fill_segment();
        log.fill_to(0);
    }
    log.record(10);
    let (four, end) = (log.bytes[..SEGMENT].to_vec(), end_of(&log));
    log.bytes.drain(..SEGMENT);
    log.start += size;
    // Without a file that tells whose the archive is, only what holds nothing; beside a segment of ours, any bytes.
    for (beside, content) in [
        (false, vec![]),
        (false, vec![0; 5000]),
        (false, vec![0; SEGMENT]),
        (true, vec![0; SEGMENT]),
        (true, vec![0xa5; 5000]),
        (true, vec![0xa5; SEGMENT]),
    ] {
        for name in [SEGMENT_5, PARTIAL_5] {
            let mut run = Run::new();
            run.options.end_position = Some(end);
            if beside {
                fs::write(run.dir.path().join("000000010000000000000004"), &four).unwrap();
            }
            fs::write(run.dir.path().join(name), &content).unwrap();
            let script = streaming(sizes(identify(SYSTEM_ID, 1, far_ahead_of(&log))), log.start(), 1)
                .send_bytes(wal(log.start(), &log.bytes));
            let outcome = run.against([client_ends(script)]);
            outcome.result.as_ref().unwrap();
            assert!(outcome.content(SEGMENT_5) == log.bytes[..SEGMENT]);
        }
    }
}

#[test]
fn a_run_goes_on_where_it_was_although_all_files_are_gone() {
    let log = long_log();
    for (keeps_state, files_left) in [(true, false), (false, false), (false, true)] {
        let mut run = Run::new();
        run.options.no_loop = false;
        run.options.state_file = keeps_state;
        let dir = run.dir.path().to_path_buf();
        let durable = Arc::clone(&run.fates);
        let wanted = end_of(&log);
        let first = streaming(first_connection(&log), log.start(), 1)
            .send_bytes(wal(log.start(), &log.bytes))
            .send_bytes(keepalive(wanted))
            .skip_until("a status with everything written", move |message| {
                status(message).is_some_and(|status| status.written == wanted)
            })
            .close();
        // By now the server is far ahead, and does not have segment 6 any more.
        let ahead = far_ahead_of(&log);
        let six = Lsn::new(log.start + SEGMENT as u64);
        let second = refused(identify(SYSTEM_ID, 1, ahead), six, "58P01", "has already been removed");
        let outcome = run.watched([first, second], |event| {
            if matches!(event, ReceiverEvent::Disconnected { .. }) && !files_left {
                for entry in fs::read_dir(&dir).unwrap() {
                    fs::remove_file(entry.unwrap().path()).unwrap();
                }
            }
        });
        assert!(matches!(outcome.refusal(), Refusal::Gap { next, .. } if *next == six));
        assert_eq!(outcome.events.contains(&"Resumed".to_string()), !files_left);
        assert!(durable.durable.load(SeqCst) >= six.get());
    }
}

#[test]
fn a_run_that_received_nothing_goes_on_at_the_place_that_it_began_at() {
    let log = short_log();
    let mut run = Run::new();
    run.options.no_loop = false;
    let ahead = far_ahead_of(&log);
    let first = streaming(first_connection(&log), log.start(), 1).close();
    let second = refused(identify(SYSTEM_ID, 1, ahead), log.start(), "58P01", "has already been removed");
    let outcome = run.against([first, second]);
    assert!(matches!(outcome.refusal(), Refusal::Gap { next, .. } if *next == log.start()));
    assert!(!outcome.dir.path().join("tapster.state").exists());
}

#[test]
fn another_cluster_at_a_later_connection_is_refused() {
    let log = short_log();
    let mut run = Run::new();
    run.options.no_loop = false;
    let other = Script::new().greet().expect_query("IDENTIFY_SYSTEM").send_bytes(
        [row(&[("systemid", "7"), ("timeline", "1"), ("xlogpos", "0/500000"), ("dbname", "")]), ready()]
            .concat(),
    );
    let outcome = run.against([streaming(first_connection(&log), log.start(), 1).close(), other]);
    let (archive, server) = (SYSTEM_ID, SystemId::new(7));
    assert_eq!(*outcome.refusal(), Refusal::OtherCluster { archive, server, file: None });
    assert_eq!(outcome.events, ["Connected", "Starting", "Streaming", "Disconnected", "Connected"]);
}

// Streaming.

#[test]
fn a_stream_is_stored_up_to_the_end_position_and_leaves_a_partial_file() {
    let log = long_log();
    let mut run = Run::new();
    run.options.end_position = Some(end_of(&log));
    let script = streaming(first_connection(&log), log.start(), 1).send_bytes(wal(log.start(), &log.bytes));
    let outcome = run.against([client_ends(script)]);
    let stopped = outcome.result.as_ref().unwrap();
    assert_eq!((stopped.flushed, stopped.timeline), (end_of(&log), TimelineId::FIRST));
    assert_eq!((stopped.segments, stopped.bytes, stopped.partial), (1, log.bytes.len() as u64, true));
    assert_eq!(outcome.events, ["Connected", "Starting", "Streaming", "SegmentFinished", "SegmentLeft"]);
    assert_eq!(outcome.files(), [SEGMENT_5, "000000010000000000000006.partial"]);
    assert!(outcome.content(SEGMENT_5) == log.bytes[..SEGMENT]);
    assert!(outcome.content("000000010000000000000006.partial").starts_with(&log.bytes[SEGMENT..]));
}

#[test]
fn a_stop_in_the_middle_leaves_what_has_come_as_a_partial_file() {
    let log = short_log();
    let (run, end) = (Run::new(), end_of(&log));
    let stop = run.stop.clone();
    let script = streaming(first_connection(&log), log.start(), 1)
        .send_bytes(wal(log.start(), &log.bytes))
        .send_bytes(keepalive(end))
        .skip_until("a status with everything written", move |message| {
            let is_written = status(message).is_some_and(|status| status.written == end);
            if is_written {
                stop.send_replace(true);
            }
            is_written
        });
    let outcome = run.against([client_ends(script)]);
    let stopped = outcome.result.as_ref().unwrap();
    assert_eq!((stopped.flushed, stopped.partial), (end, true));
    assert_eq!(outcome.events, ["Connected", "Starting", "Streaming", "SegmentLeft"]);
    assert_eq!(outcome.files(), [PARTIAL_5]);
    assert!(outcome.content(PARTIAL_5).starts_with(&log.bytes));
}

#[test]
fn no_status_is_ahead_of_what_is_durable() {
    let log = long_log();
    let (open, gate) = mpsc::channel();
    let mut run = Run::new().fate(Fate::Waits(gate));
    run.options.end_position = Some(Lsn::new(end_of(&log).get() + 1));
    run.options.synchronous = true;
    let (fates, stop, end) = (Arc::clone(&run.fates), run.stop.clone(), end_of(&log));
    let honest = move |status: &StandbyStatusUpdate| {
        let durable = fates.durable.load(SeqCst).max(5 * SEGMENT as u64);
        assert!(status.flushed.get() <= durable, "{} of {durable}", status.flushed);
    };
    let (also_honest, early) = (honest.clone(), log.start());
    let half = log.bytes.len() / 2;
    let script = streaming(first_connection(&log), log.start(), 1)
        .send_bytes(wal(log.start(), &log.bytes[..half]))
        .send_bytes(keepalive(end))
        // The answer to the keepalive, while the disk has not even begun.
        .skip_until("a status", move |message| match status(message) {
            Some(status) => {
                honest(&status);
                assert!(status.flushed <= early);
                let _ = open.send(());
                true
            }
            None => false,
        })
        .send_bytes(wal(Lsn::new(log.start().get() + half as u64), &log.bytes[half..]))
        .send_bytes(keepalive(end))
        .skip_until("a status with everything flushed", move |message| {
            let Some(status) = status(message) else { return false };
            also_honest(&status);
            if status.flushed == end {
                stop.send_replace(true);
            }
            status.flushed == end
        });
    let outcome = run.against([client_ends(script)]);
    assert_eq!(outcome.result.unwrap().flushed, end);
}

// How a stream ends.

/// The end of a timeline: the server's side is done, and it names the next one.
fn timeline_ends(script: Script, next: u32, switchpoint: Lsn) -> Script {
    let result = row(&[("next_tli", &next.to_string()), ("next_tli_startpos", &switchpoint.to_string())]);
    script
        .send_bytes(message(b'c', b""))
        .skip_until("CopyDone", |message| *message == FrontendMessage::CopyDone)
        .send_bytes([result, message(b'C', b"START_REPLICATION\0"), ready()].concat())
}

fn with_history(script: Script, switchpoint: Lsn) -> Script {
    let history = format!("1\t{switchpoint}\tno recovery target specified\n");
    let result = row(&[("filename", "00000002.history"), ("content", &history)]);
    script.expect_query("TIMELINE_HISTORY 2").send_bytes([result, ready()].concat())
}

#[test]
fn the_next_timeline_begins_with_the_segment_of_the_switchpoint() {
    let log = short_log();
    let mut run = Run::new();
    run.options.check_wal = false;
    let (switchpoint, rest) = (end_of(&log), b"of the new timeline");
    run.options.end_position = Some(Lsn::new(switchpoint.get() + rest.len() as u64));
    let script = streaming(first_connection(&log), log.start(), 1).send_bytes(wal(log.start(), &log.bytes));
    let script = with_history(timeline_ends(script, 2, switchpoint), switchpoint);
    let whole = [&log.bytes[..], rest].concat();
    let script = streaming(script, log.start(), 2).send_bytes(wal(log.start(), &whole));
    let outcome = run.against([client_ends(script)]);
    assert_eq!(outcome.result.as_ref().unwrap().timeline, TimelineId::new(2).unwrap());
    let expected = [
        "Connected",
        "Starting",
        "Streaming",
        "SegmentLeft",
        "TimelineSwitched",
        "HistoryStored",
        "Starting",
        "Streaming",
        "SegmentLeft",
    ];
    assert_eq!(outcome.events, expected);
    let second = "000000020000000000000005.partial";
    assert_eq!(outcome.files(), [PARTIAL_5, "00000002.history", second]);
    assert!(outcome.content(second).starts_with(&whole));
}

#[test]
fn a_timeline_that_branched_off_behind_what_is_durable_is_reported() {
    let log = short_log();
    let mut run = Run::new();
    run.options.check_wal = false;
    let switchpoint = Lsn::new(end_of(&log).get() - 8);
    let script = streaming(first_connection(&log), log.start(), 1).send_bytes(wal(log.start(), &log.bytes));
    let script = with_history(timeline_ends(script, 2, switchpoint), switchpoint);
    let outcome = run.against([streaming(script, log.start(), 2).close()]);
    assert_eq!(outcome.events[4..6], ["BranchedBehind", "TimelineSwitched"]);
    assert!(matches!(outcome.result, Err(ReceiveError::Connection(_))));
}

#[test]
fn a_next_timeline_that_begins_beyond_what_came_is_refused() {
    let log = short_log();
    let run = Run::new();
    let script = streaming(first_connection(&log), log.start(), 1).send_bytes(wal(log.start(), &log.bytes));
    let outcome = run.against([timeline_ends(script, 2, Lsn::new(end_of(&log).get() + 8))]);
    assert!(matches!(outcome.refusal(), Refusal::NextTimeline { .. }));
}

#[test]
fn a_server_that_shuts_down_ends_the_stream_and_what_came_is_kept() {
    let log = short_log();
    let script = streaming(first_connection(&log), log.start(), 1).send_bytes(wal(log.start(), &log.bytes));
    // Its last word, without an end of the copy before it.
    let script = script.send_bytes(message(b'C', b"COPY 0\0"));
    let outcome = Run::new().against([script]);
    assert!(matches!(outcome.result, Err(ReceiveError::ServerShutdown)), "{:?}", outcome.result);
    assert!(outcome.content(PARTIAL_5).starts_with(&log.bytes));
}

#[test]
fn a_silent_server_is_asked_at_half_time_and_given_up_at_the_limit() {
    let log = short_log();
    let mut run = Run::new();
    run.options.receive_timeout = Some(Duration::from_secs(60));
    // The script says nothing more and reads: whatever the receiver asks stays without an answer.
    let asked = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&asked);
    let script = streaming(first_connection(&log), log.start(), 1).skip_until("a question", move |message| {
        let is_question = status(message).is_some_and(|status| status.reply_requested);
        counter.fetch_add(u64::from(is_question), SeqCst);
        is_question
    });
    let outcome = run.watched([script], |event| {
        if matches!(event, ReceiverEvent::Streaming { .. }) {
            tokio::time::pause();
        }
    });
    assert!(
        matches!(&outcome.result, Err(ReceiveError::Connection(error)) if error.is_timeout()),
        "{:?}",
        outcome.result
    );
    assert_eq!(asked.load(SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn silence_asks_at_half_of_the_limit_or_earlier_and_gives_up_at_the_limit() {
    let seconds = Duration::from_secs;
    for (limit, ask_after, expected) in [(60, None, 30), (60, Some(7), 7), (60, Some(40), 30)] {
        let began = tokio::time::Instant::now();
        let mut silence = stream::Silence::new(Some(seconds(limit)), ask_after.map(seconds));
        silence.next_step().await;
        assert_eq!(began.elapsed().as_secs(), expected);
        silence.asked = true;
        silence.next_step().await;
        assert_eq!(began.elapsed().as_secs(), limit);
    }
}

// The disk.

#[test]
fn a_full_disk_is_tried_again_and_then_goes_on() {
    let log = short_log();
    let mut run = Run::new().fate(Fate::NoSpace);
    run.options.no_loop = false;
    run.options.end_position = None;
    let (stop, end) = (run.stop.clone(), end_of(&log));
    let script = streaming(first_connection(&log), log.start(), 1)
        .send_bytes(wal(log.start(), &log.bytes))
        .send_bytes(keepalive(end))
        .skip_until("a status with everything written", move |message| {
            let is_written = status(message).is_some_and(|status| status.written == end);
            if is_written {
                stop.send_replace(true);
            }
            is_written
        });
    let outcome = run.watched([client_ends(script)], |event| {
        if let ReceiverEvent::OutOfSpace { retry_in, .. } = event {
            assert_eq!(*retry_in, Duration::from_secs(5));
            tokio::time::pause();
        }
    });
    assert_eq!(outcome.result.unwrap().flushed, end);
    assert_eq!(outcome.events, ["Connected", "Starting", "Streaming", "OutOfSpace", "SegmentLeft"]);
}

#[test]
fn a_disk_that_is_still_full_ends_the_connection() {
    let log = short_log();
    let mut run = Run::new().fate(Fate::NoSpace).fate(Fate::NoSpace).fate(Fate::NoSpace);
    run.options.no_loop = false;
    let stop = run.stop.clone();
    let script = streaming(first_connection(&log), log.start(), 1).send_bytes(wal(log.start(), &log.bytes));
    let outcome = run.watched([script], |event| match event {
        ReceiverEvent::OutOfSpace { .. } => tokio::time::pause(),
        ReceiverEvent::Disconnected { error, .. } => {
            assert!(matches!(error, ReceiveError::Archive(error) if error.is_out_of_space()), "{error}");
            stop.send_replace(true);
        }
        _ => {}
    });
    assert_eq!(outcome.events, ["Connected", "Starting", "Streaming", "OutOfSpace", "Disconnected"]);
    assert!(outcome.result.is_ok());
}

#[test]
fn a_full_disk_is_an_error_where_nothing_is_tried_again() {
    let log = short_log();
    let script = streaming(first_connection(&log), log.start(), 1).send_bytes(wal(log.start(), &log.bytes));
    let outcome = Run::new().fate(Fate::NoSpace).against([script]);
    assert!(matches!(&outcome.result, Err(ReceiveError::Archive(error)) if error.is_out_of_space()));
    // What comes before the error is kept, if there is space for it at the end.
    assert_eq!(outcome.events, ["Connected", "Starting", "Streaming", "SegmentLeft"]);
}

#[test]
fn a_failed_fsync_ends_it_for_good_and_nothing_is_confirmed() {
    let log = short_log();
    let mut run = Run::new().fate(Fate::FsyncFails);
    run.options.no_loop = false;
    run.options.synchronous = true;
    let early = log.start();
    let script = streaming(first_connection(&log), log.start(), 1)
        .send_bytes(wal(log.start(), &log.bytes))
        .skip_until("the end", move |message| {
            assert!(status(message).is_none_or(|status| status.flushed <= early && status.written <= early));
            *message == FrontendMessage::Terminate
        });
    let outcome = run.against([script]);
    assert!(
        matches!(&outcome.result, Err(ReceiveError::Archive(error)) if error.is_fsync_failure()),
        "{:?}",
        outcome.result
    );
}

// Damage.

fn with_damage(log: &Log) -> Vec<u8> {
    let mut bytes = log.bytes.clone();
    let last = bytes.len() - 20;
    bytes[last] ^= 1;
    bytes
}

#[test]
fn damaged_wal_is_fetched_again_and_goes_on_when_it_comes_whole() {
    let log = short_log();
    let mut run = Run::new();
    run.options.end_position = Some(end_of(&log));
    let first =
        streaming(first_connection(&log), log.start(), 1).send_bytes(wal(log.start(), &with_damage(&log)));
    let second = streaming(later_connection(&log), log.start(), 1).send_bytes(wal(log.start(), &log.bytes));
    let outcome = run.watched([first, client_ends(second)], |event| {
        if let ReceiverEvent::Damage { retry_in, .. } = event {
            assert_eq!(*retry_in, Duration::ZERO, "from a primary at once");
        }
    });
    assert_eq!(outcome.result.as_ref().unwrap().flushed, end_of(&log));
    assert_eq!(outcome.events.iter().filter(|event| *event == "Damage").count(), 1);
    assert!(outcome.content(PARTIAL_5).starts_with(&log.bytes));
}

#[test]
fn wal_that_comes_damaged_twice_is_refused_and_was_not_written() {
    let log = short_log();
    let damaged = |script| streaming(script, log.start(), 1).send_bytes(wal(log.start(), &with_damage(&log)));
    let outcome = Run::new().against([damaged(first_connection(&log)), damaged(later_connection(&log))]);
    assert!(matches!(outcome.refusal(), Refusal::Damage(_)));
    assert_eq!(outcome.events.iter().filter(|event| *event == "Damage").count(), 1);
    let left = outcome.files().iter().any(|name| outcome.content(name).starts_with(&log.bytes[..8]));
    assert!(!left, "nothing of a damaged message is stored");
}

#[test]
fn a_damaged_segment_at_the_end_of_the_archive_is_received_again() {
    let log = long_log();
    let mut run = Run::new();
    let mut damaged = log.bytes[..SEGMENT].to_vec();
    damaged[SEGMENT / 2] ^= 1;
    fs::write(run.dir.path().join(SEGMENT_5), damaged).unwrap();
    run.options.end_position = Some(end_of(&log));
    let script = sizes(identify(SYSTEM_ID, 1, end_of(&log)));
    let script = streaming(script, log.start(), 1).send_bytes(wal(log.start(), &log.bytes));
    let outcome = run.against([client_ends(script)]);
    assert_eq!(outcome.events[..3], ["Connected", "ArchiveDamage", "Starting"]);
    assert!(outcome.content(SEGMENT_5) == log.bytes[..SEGMENT]);
    assert_eq!(outcome.result.unwrap().flushed, end_of(&log));
}

// Gaps.

/// An archive that ends with segment 5, and a server in segment 9 that has nothing before.
fn behind_a_gap() -> (Run, Log, Lsn) {
    let (run, log) = (Run::new(), long_log());
    fs::write(run.dir.path().join(SEGMENT_5), &log.bytes[..SEGMENT]).unwrap();
    (run, log, Lsn::new(9 * SEGMENT as u64))
}

const REMOVED: &str = "requested WAL segment 000000010000000000000006 has already been removed";

#[test]
fn wal_that_the_server_does_not_have_any_more_is_a_gap() {
    let (run, _, now) = behind_a_gap();
    let next = Lsn::new(6 * SEGMENT as u64);
    let outcome = run.against([refused(sizes(identify(SYSTEM_ID, 1, now)), next, "58P01", REMOVED)]);
    let (timeline, message) = (TimelineId::FIRST, REMOVED.into());
    assert_eq!(*outcome.refusal(), Refusal::Gap { next, timeline, server: now, message });
}

#[test]
fn a_gap_that_is_accepted_is_noted_and_the_servers_current_segment_comes_next() {
    let (mut run, _, now) = behind_a_gap();
    run.options.accept_gap = true;
    run.options.check_wal = false;
    run.options.end_position = Some(Lsn::new(now.get() + 3));
    let next = Lsn::new(6 * SEGMENT as u64);
    let first = refused(sizes(identify(SYSTEM_ID, 1, now)), next, "58P01", REMOVED);
    let second = streaming(identify(SYSTEM_ID, 1, now), now, 1).send_bytes(wal(now, b"now"));
    let archive = run.archive();
    let outcome = run.against([first, client_ends(second)]);
    assert_eq!(outcome.result.unwrap().flushed.get(), now.get() + 3);
    assert_eq!(
        outcome.events,
        ["Connected", "Starting", "Connected", "GapAccepted", "Starting", "Streaming", "SegmentLeft"]
    );
    let state = archive.read_state().unwrap().unwrap();
    assert_eq!(state.gaps.iter().map(|gap| (gap.from, gap.to)).collect::<Vec<_>>(), [(next, now)]);
}

#[test]
fn a_gap_is_accepted_once_and_not_for_ever() {
    let (mut run, _, now) = behind_a_gap();
    run.options.accept_gap = true;
    let next = Lsn::new(6 * SEGMENT as u64);
    let first = refused(sizes(identify(SYSTEM_ID, 1, now)), next, "58P01", REMOVED);
    let second = refused(identify(SYSTEM_ID, 1, now), now, "58P01", REMOVED);
    let outcome = run.against([first, second]);
    assert!(matches!(outcome.refusal(), Refusal::Gap { next, .. } if *next == now));
}

// Connecting again.

#[test]
fn attempts_at_a_server_that_is_gone_come_every_second_with_jitter() {
    let log = short_log();
    let mut run = Run::new();
    run.options.no_loop = false;
    let stop = run.stop.clone();
    let mut waits = vec![];
    // The server goes away for good, so that every later attempt is refused.
    let outcome = run.watched([streaming(first_connection(&log), log.start(), 1).close()], |event| {
        if let ReceiverEvent::Disconnected { retry_in, .. } = event {
            if waits.is_empty() {
                tokio::time::pause();
            }
            waits.push(*retry_in);
            if waits.len() == 5 {
                stop.send_replace(true);
            }
        }
    });
    assert!(outcome.result.is_ok());
    let full_ms = [500, 1000, 1000, 1000, 1000];
    for (wait, full_ms) in waits.iter().zip(full_ms) {
        let full = Duration::from_millis(full_ms);
        assert!((full / 2..=full).contains(wait), "{wait:?} of {full:?}");
    }
    assert_eq!(waits.len(), full_ms.len());
}
