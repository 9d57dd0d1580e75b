//! What a server says that no PostgreSQL says.

use std::io::{self, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::thread;

use crate::subject::{A_WHILE, Subject};
use crate::support::Archive;
use crate::support::process::PATIENCE;
use crate::support::wait::holds_within;

const OK: &[u8] = b"R\0\0\0\x08\0\0\0\0S\0\0\0\x19server_version\x0015.18\0S\0\0\0\x17in_hot_standby\0off\0";
const NAMES: [&str; 4] = ["systemid", "timeline", "xlogpos", "dbname"];
const READY: &[u8] = b"Z\0\0\0\x05I";

/// Answers each command as PostgreSQL 15 does at the beginning of timeline 2, but for those that begin with
/// `command`, for which it does something else. Its port.
fn server(command: &'static str, answer: fn(&mut TcpStream) -> io::Result<()>) -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            // The end of a conversation is that the client is gone.
            drop(stream.and_then(|stream| converse(stream, command, answer)));
        }
    });
    port
}

fn converse(
    mut stream: TcpStream,
    command: &str,
    answer: fn(&mut TcpStream) -> io::Result<()>,
) -> io::Result<()> {
    read(&mut stream)?;
    stream.write_all(&[OK, READY].concat())?;
    loop {
        let mut tag = [0];
        stream.read_exact(&mut tag)?;
        let query = String::from_utf8_lossy(&read(&mut stream)?).into_owned();
        let values: &[&[u8]] = match query.as_str() {
            query if query.starts_with(command) => {
                answer(&mut stream)?;
                continue;
            }
            query if query.starts_with("IDENTIFY_SYSTEM") => {
                &[b"7000000000000000001", b"2", b"0/3000000", b""]
            }
            query if query.contains("wal_segment_size") => &[b"1MB"],
            _ => &[b"0700"],
        };
        let end = [b"C\0\0\0\x09SHOW\0", READY].concat();
        stream.write_all(&[columns(&NAMES[..values.len()]), row(values), end].concat())?;
    }
}

/// What follows a length.
fn read(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut len = [0; 4];
    stream.read_exact(&mut len)?;
    let mut body = vec![0; u32::from_be_bytes(len) as usize - 4];
    stream.read_exact(&mut body)?;
    Ok(body)
}

fn message(tag: u8, count: usize, items: &[u8]) -> Vec<u8> {
    let len = u32::try_from(items.len() + 6).unwrap().to_be_bytes();
    [&[tag], &len[..], &u16::try_from(count).unwrap().to_be_bytes(), items].concat()
}

fn columns(names: &[&str]) -> Vec<u8> {
    let column = |name: &&str| [name.as_bytes(), &[0; 19]].concat();
    message(b'T', names.len(), &names.iter().flat_map(column).collect::<Vec<_>>())
}

fn row(values: &[&[u8]]) -> Vec<u8> {
    let value = |value: &&[u8]| [&u32::try_from(value.len()).unwrap().to_be_bytes(), *value].concat();
    message(b'D', values.len(), &values.iter().flat_map(value).collect::<Vec<_>>())
}

/// The program's end, with its exit code and what it said, and the archive that it leaves.
fn end(port: u16) -> (Option<i32>, String, Archive) {
    let archive = Archive::new();
    let conninfo = format!("host=127.0.0.1 port={port} user=x sslmode=disable");
    let mut receiver = Subject::Tapster.start(&archive, &conninfo, &["-n"]);
    assert!(holds_within(A_WHILE, || receiver.has_ended()), "{}", receiver.stderr());
    let end = receiver.wait(PATIENCE);
    (end.status.code(), String::from_utf8_lossy(&end.stderr).into_owned(), archive)
}

#[test]
fn rows_without_end_are_not_gathered() {
    let port = server("IDENTIFY_SYSTEM", |stream| {
        stream.write_all(&columns(&["systemid"]))?;
        let row = row(&[&[b'7'; 30_000]]);
        loop {
            stream.write_all(&row)?;
        }
    });
    let (code, said, _) = end(port);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("expected a short answer"), "{said}");
}

#[test]
fn a_message_of_nearly_a_gibibyte_is_not_waited_for() {
    let (code, said, _) = end(server("TIMELINE_HISTORY", |stream| stream.write_all(b"D\x3f\xff\xff\xf0")));
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("DataRow.length: 1073741808 bytes"), "{said}");
}

#[test]
fn a_history_that_is_none_is_not_stored() {
    let port = server("TIMELINE_HISTORY", |stream| {
        let row = row(&[b"00000002.history", b"\xff\xfe no history"]);
        let end = [b"C\0\0\0\x09SHOW\0", READY].concat();
        stream.write_all(&[columns(&["filename", "content"]), row, end].concat())
    });
    let (code, said, archive) = end(port);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("expected a timeline history"), "{said}");
    assert_eq!(archive.names(), [""; 0]);
}
