//! The codec beside rust-postgres' `postgres-protocol`, and its WAL path beside the memcpys that it cannot
//! avoid. Both sides of a line take turns in the same process.
//!
//! ```sh
//! cargo bench --manifest-path benches/Cargo.toml
//! ```

use std::cell::RefCell;
use std::hint::black_box;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use fallible_iterator::FallibleIterator;
use postgres_protocol::IsNull;
use postgres_protocol::message::{backend, frontend};
use tapster::codec::{
    BackendFraming, BackendMessage, Bind, CopyData, DataRow, ErrorFields, Field, FieldsBuf, FrontendMessage,
    Need, ReplicationMessage, ValuesBuf, XLogData,
};
use tapster::types::{Lsn, PgTimestamp};

/// Turns of each side. The fastest one counts, because only a disturbance makes a turn slower. The turns are
/// many and short, so that even on a busy machine some of each side run undisturbed.
const TURNS: usize = 301;
/// Messages in one turn.
const MESSAGES: usize = 4_096;

/// Bytes of encoded messages before the buffer is emptied. A message then begins at any offset, and the place
/// where the allocator has put the buffer does not matter.
const BATCH: usize = 16 << 10;

fn main() {
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let cpu =
        cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ")).map(|(_, name)| name);
    println!("on {}; best and (median) of {TURNS} turns\n", cpu.unwrap_or("an unknown processor"));
    println!("{:34} {:>20} {:>20} {:>7}  goal", "", "tapster", "peer", "ratio");

    let eight = row(&["17", "a name", "", "2024-01-02 03:04:05", "t", "1.50", "another text", "42"]);
    decode("DataRow, 8 text columns, walked", 2.5, &eight, walk_ours, walk_theirs);
    decode("DataRow, 1 short column, walked", 3.0, &row(&["17"]), walk_ours, walk_theirs);
    decode(
        "CopyData, 64 bytes",
        1.0,
        &encoded(BackendMessage::CopyData(CopyData { data: &[7; 64] })),
        walk_ours,
        walk_theirs,
    );
    decode("ErrorResponse, fields walked", 1.0, &error(), walk_ours, walk_theirs);
    encode_query();
    encode_bind();
    wal("XLogData of 128 KiB", 128 << 10);
    wal("XLogData of 8 KiB", 8 << 10);
}

/// Prints one line: both sides in turns, and the time that each takes for one unit of work.
fn compare(
    name: &str,
    goal: f64,
    units: usize,
    mut ours: impl FnMut() -> Duration,
    mut theirs: impl FnMut() -> Duration,
) {
    let (mut us, mut them): (Vec<_>, Vec<_>) = (0..TURNS).map(|_| (ours(), theirs())).unzip();
    us.sort();
    them.sort();
    let per_unit = |time: Duration| time.as_secs_f64() * 1e9 / units as f64;
    let shown =
        |times: &[Duration]| format!("{:.1} ({:.1}) ns", per_unit(times[0]), per_unit(times[TURNS / 2]));
    let ratio = them[0].as_secs_f64() / us[0].as_secs_f64();
    let verdict = if ratio >= goal { "" } else { "  MISSED" };
    println!("{name:34} {:>20} {:>20} {ratio:>6.2}x  {goal}x{verdict}", shown(&us), shown(&them));
}

fn timed(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

/// Compares both sides framing and parsing the same stream of messages.
fn decode(
    name: &str,
    goal: f64,
    message: &[u8],
    ours: impl Fn(BackendMessage<'_>),
    theirs: impl Fn(backend::Message),
) {
    let stream = message.repeat(MESSAGES);
    compare(
        name,
        goal,
        MESSAGES,
        || {
            timed(|| {
                let mut rest = black_box(&stream[..]);
                while let Ok(Need::Frame(len)) = BackendFraming::READY.need(rest) {
                    let (frame, after) = rest.split_at(len);
                    ours(BackendFraming::READY.parse(frame).unwrap());
                    rest = after;
                }
                assert!(rest.is_empty());
            })
        },
        || {
            let mut buffer = BytesMut::from(&stream[..]);
            timed(|| {
                while let Some(message) = backend::Message::parse(black_box(&mut buffer)).unwrap() {
                    theirs(message);
                }
            })
        },
    );
}

#[inline(always)]
fn walk_ours(message: BackendMessage<'_>) {
    match message {
        BackendMessage::DataRow(row) => row.values.iter().for_each(|value| _ = black_box(value)),
        BackendMessage::ErrorResponse(error) => error.fields.iter().for_each(|field| _ = black_box(field)),
        BackendMessage::CopyData(copy) => _ = black_box(copy.data),
        _ => unreachable!("no line of this table has it"),
    }
}

#[inline(always)]
fn walk_theirs(message: backend::Message) {
    match message {
        backend::Message::DataRow(row) => {
            let mut ranges = row.ranges();
            while let Some(range) = ranges.next().unwrap() {
                black_box(range.map(|range| &row.buffer()[range]));
            }
        }
        backend::Message::ErrorResponse(error) => {
            let mut fields = error.fields();
            while let Some(field) = fields.next().unwrap() {
                black_box((field.type_(), field.value_bytes()));
            }
        }
        other => drop(black_box(other)),
    }
}

fn encode_query() {
    const SQL: &str = "SELECT pg_current_wal_lsn(), pg_is_in_recovery()";
    let (mut out, mut buffer) = (Vec::with_capacity(BATCH), BytesMut::with_capacity(BATCH));
    compare(
        "encode Query",
        1.0,
        MESSAGES,
        || {
            timed(|| {
                for _ in 0..MESSAGES {
                    if out.len() > BATCH / 2 {
                        out.clear();
                    }
                    FrontendMessage::Query { query: black_box(SQL.as_bytes()) }.encode(&mut out).unwrap();
                    black_box(&out);
                }
            })
        },
        || {
            timed(|| {
                for _ in 0..MESSAGES {
                    if buffer.len() > BATCH / 2 {
                        buffer.clear();
                    }
                    frontend::query(black_box(SQL), &mut buffer).unwrap();
                    black_box(&buffer);
                }
            })
        },
    );
}

fn encode_bind() {
    let values: [Option<&[u8]>; 4] =
        [Some(b"17"), None, Some(b"a longer parameter, as a path is"), Some(b"")];
    let (mut out, mut buffer) = (Vec::with_capacity(BATCH), BytesMut::with_capacity(BATCH));
    compare(
        "encode Bind, 4 text parameters",
        1.0,
        MESSAGES,
        || {
            timed(|| {
                for _ in 0..MESSAGES {
                    if out.len() > BATCH / 2 {
                        out.clear();
                    }
                    Bind::encode_text(b"", b"s1", black_box(&values).iter().copied(), &mut out).unwrap();
                    black_box(&out);
                }
            })
        },
        || {
            timed(|| {
                for _ in 0..MESSAGES {
                    if buffer.len() > BATCH / 2 {
                        buffer.clear();
                    }
                    let serialize = |value: &Option<&[u8]>, buffer: &mut BytesMut| match value {
                        Some(value) => {
                            buffer.extend_from_slice(value);
                            Ok(IsNull::No)
                        }
                        None => Ok(IsNull::Yes),
                    };
                    let formats = std::iter::empty::<i16>();
                    let bound = frontend::bind(
                        "",
                        "s1",
                        formats.clone(),
                        black_box(&values),
                        serialize,
                        formats,
                        &mut buffer,
                    );
                    assert!(bound.is_ok());
                    black_box(&buffer);
                }
            })
        },
    );
}

/// WAL on its way from a socket to a file, without socket and file: bytes are copied into a read buffer,
/// framed, parsed and copied out. The peer makes the same two copies, and knows in advance where each run of
/// WAL lies.
fn wal(name: &str, len: usize) {
    const TOTAL: usize = 16 << 20;
    let data = vec![7; len];
    let mut frame = Vec::new();
    let (lsn, sent_at) = (Lsn::new(1 << 24), PgTimestamp::from_micros(0));
    let message =
        ReplicationMessage::XLogData(XLogData { wal_start: lsn, wal_end: lsn, sent_at, data: &data });
    CopyData::encode_with(&mut frame, |out| message.encode(out)).unwrap();
    // As much as the kernel holds at a time.
    let source = frame.repeat((1 << 20) / len);
    // Both sides use the same memory: where its pages lie to each other makes a memcpy several times faster
    // or slower on some processors.
    let (buffer, sink) = (RefCell::new(ReadBuffer::new(&source)), RefCell::new(vec![0; 2_048 + len]));
    compare(
        name,
        0.85,
        TOTAL / len,
        || {
            let (mut buffer, mut sink) = (buffer.borrow_mut(), sink.borrow_mut());
            timed(|| {
                for _ in 0..TOTAL / len {
                    let framed = loop {
                        match BackendFraming::READY.need(buffer.filled()).unwrap() {
                            Need::Frame(len) => break len,
                            Need::More(_) => buffer.fill(),
                        }
                    };
                    let message = BackendFraming::READY.parse(&buffer.filled()[..framed]).unwrap();
                    let BackendMessage::CopyData(copy) = message else { panic!("not a CopyData") };
                    let ReplicationMessage::XLogData(wal) = ReplicationMessage::parse(copy.data).unwrap()
                    else {
                        panic!("not WAL")
                    };
                    sink[2_048..].copy_from_slice(wal.data);
                    black_box(&sink);
                    buffer.start += framed;
                }
            })
        },
        || {
            let (mut buffer, mut sink) = (buffer.borrow_mut(), sink.borrow_mut());
            timed(|| {
                for _ in 0..TOTAL / len {
                    while buffer.filled().len() < frame.len() {
                        buffer.fill();
                    }
                    sink[2_048..].copy_from_slice(&buffer.filled()[frame.len() - len..frame.len()]);
                    black_box(&sink);
                    buffer.start += frame.len();
                }
            })
        },
    );
}

/// A read buffer before a source that never ends.
struct ReadBuffer<'s> {
    source: &'s [u8],
    from: usize,
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl<'s> ReadBuffer<'s> {
    /// Room for two of the longest frames and the beginning of a third. With a little less, such as 256 KiB,
    /// half of each second frame would have to be moved to the front: a third copy.
    const LEN: usize = 264 << 10;

    fn new(source: &'s [u8]) -> Self {
        Self { source, from: 0, bytes: vec![0; Self::LEN], start: 0, end: 0 }
    }

    fn filled(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    fn fill(&mut self) {
        self.bytes.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, self.end - self.start);
        let read = (Self::LEN - self.end).min(self.source.len() - self.from);
        self.bytes[self.end..self.end + read].copy_from_slice(&self.source[self.from..self.from + read]);
        self.end += read;
        self.from = (self.from + read) % self.source.len();
    }
}

fn encoded(message: BackendMessage<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    message.encode(&mut out).unwrap();
    out
}

fn row(columns: &[&str]) -> Vec<u8> {
    let mut values = ValuesBuf::new();
    columns.iter().for_each(|column| values.push(Some(column.as_bytes())).unwrap());
    encoded(BackendMessage::DataRow(DataRow { values: values.as_list() }))
}

/// PostgreSQL 15's error about a table that does not exist.
fn error() -> Vec<u8> {
    let mut fields = FieldsBuf::new();
    for (code, value) in [
        (b'S', "ERROR"),
        (b'V', "ERROR"),
        (b'C', "42P01"),
        (b'M', "relation \"nope\" does not exist"),
        (b'P', "15"),
        (b'F', "parse_relation.c"),
        (b'L', "1392"),
        (b'R', "parserOpenTable"),
    ] {
        fields.push(Field { code, value: value.as_bytes() }).unwrap();
    }
    encoded(BackendMessage::ErrorResponse(ErrorFields { fields: fields.as_list() }))
}
