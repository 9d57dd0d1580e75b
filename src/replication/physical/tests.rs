use super::*;
use crate::codec::{CopyData, XLogData};
use crate::conninfo::{ConnInfo, Environment};
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::string::ToString as _;
use std::{thread, vec};

const READY: &[u8] = b"Z\0\0\0\x05I";
const START: Lsn = Lsn::new(0x100_0000);

fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let len = (body.len() as u32 + 4).to_be_bytes();
    [&[tag][..], &len, body].concat()
}

fn wal(start: Lsn, data: &[u8]) -> Vec<u8> {
    let (wal_start, wal_end) = (start, start.checked_add(data.len() as u64).unwrap());
    let message = ReplicationMessage::XLogData(XLogData {
        wal_start,
        wal_end,
        sent_at: PgTimestamp::from_micros(0),
        data,
    });
    let mut frame = Vec::new();
    CopyData::encode_with(&mut frame, |out| message.encode(out)).unwrap();
    frame
}

/// The type of the client's next message.
fn read(client: &mut TcpStream) -> u8 {
    let mut header = [0; 5];
    client.read_exact(&mut header).unwrap();
    let len = u32::from_be_bytes(*header.last_chunk().unwrap()) - 4;
    client.read_exact(&mut vec![0; len as usize]).unwrap();
    header[0]
}

/// A stream from `START`; `serve` is the server's part of it.
async fn stream(serve: impl FnOnce(&mut TcpStream) + Send + 'static) -> WalStream {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        let (mut client, _) = listener.accept().unwrap();
        let mut len = [0; 4];
        client.read_exact(&mut len).unwrap();
        client.read_exact(&mut vec![0; u32::from_be_bytes(len) as usize - 4]).unwrap();
        client.write_all(&[b"R\0\0\0\x08\0\0\0\0", READY].concat()).unwrap();
        assert_eq!(read(&mut client), b'Q');
        client.write_all(b"W\0\0\0\x07\0\0\0").unwrap();
        serve(&mut client);
    });
    let conninfo: ConnInfo =
        std::format!("host=127.0.0.1 port={port} user=x sslmode=disable replication=true").parse().unwrap();
    let config = conninfo.resolve(&Environment::empty()).unwrap().config().unwrap();
    let connection = ReplicationConnection::connect(&config).await.unwrap();
    let start = StartPhysical { slot: None, start: START, timeline: TimelineId::FIRST };
    match connection.start_physical(&start).await.unwrap() {
        StartedStream::Streaming(mut stream) => {
            stream.set_status_interval(None);
            stream
        }
        other => panic!("{other:?}"),
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(Duration::from_secs(30), future).await.expect("it ends") })
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i % 251) as u8).collect()
}

#[test]
fn wal_read_in_pieces_is_complete_however_often_a_read_is_dropped() {
    const LENS: [usize; 7] = [131_072, 1, 8_167, 8_168, 0, 300_000, 131_072];
    let data = pattern(LENS.iter().sum());
    let expected = data.clone();
    let serve = move |client: &mut TcpStream| {
        let (mut sent, mut at) = (Vec::new(), 0);
        for len in LENS {
            sent.extend(wal(START.checked_add(at as u64).unwrap(), &data[at..at + len]));
            at += len;
            // A long message of an unknown kind, and a short keepalive.
            sent.extend(message(b'd', &[b'?'; 50_000]));
            sent.extend(message(b'd', &[&b"k"[..], &[0; 17]].concat()));
        }
        sent.extend(message(b'c', b""));
        // Pieces of any size; often the next one has not arrived yet.
        for (i, piece) in sent.chunks(7_919).enumerate() {
            client.write_all(piece).unwrap();
            if i % 3 == 0 {
                thread::yield_now();
            }
        }
    };
    block_on(async {
        let mut stream = stream(serve).await;
        let (mut got, mut keepalives) = (Vec::new(), 0);
        loop {
            let before = got.len();
            let arrived = tokio::select! {
                biased;
                arrived = stream.next_into(&mut got, 10_000) => arrived.unwrap(),
                () = tokio::task::yield_now() => {
                    assert_eq!(got.len(), before, "a read that was dropped has left bytes behind");
                    continue;
                }
            };
            match arrived {
                Some(WalArrival::Data { len, .. }) => {
                    assert_eq!(got.len(), before + len);
                    assert_eq!(stream.received(), START.checked_add(got.len() as u64).unwrap());
                }
                Some(WalArrival::Keepalive(_)) => keepalives += 1,
                None => break,
            }
        }
        assert!(got == expected, "{} of {} bytes", got.len(), expected.len());
        assert_eq!(keepalives, LENS.len());
    });
}

#[test]
fn finish_throws_away_the_rest_of_a_message() {
    let serve = |client: &mut TcpStream| {
        let sent = wal(START, &pattern(131_072));
        let (begin, rest) = sent.split_at(20_000);
        client.write_all(begin).unwrap();
        while read(client) != b'c' {}
        client.write_all(rest).unwrap();
        let end = [message(b'c', b""), message(b'C', b"START_STREAMING\0"), READY.to_vec()];
        client.write_all(&end.concat()).unwrap();
    };
    block_on(async {
        let mut stream = stream(serve).await;
        let mut got = Vec::new();
        while got.len() < 15_000 {
            stream.next_into(&mut got, 1000).await.unwrap();
        }
        assert!(matches!(stream.next().await, Err(Error::Usage(_))));
        assert!(matches!(stream.next_into(&mut got, 0).await, Err(Error::Usage(_))));
        let end = stream.finish().await.unwrap();
        assert!(matches!(end, StreamEnd::Stopped(_)), "{end:?}");
    });
}

#[test]
fn a_connection_may_be_lost_in_the_middle_of_a_message() {
    let serve = |client: &mut TcpStream| {
        client.write_all(&wal(START, &pattern(131_072))[..20_000]).unwrap();
        // The server closes the connection with a message of ours unread.
    };
    block_on(async {
        for is_written in [true, false] {
            let mut stream = stream(serve).await;
            let mut got = Vec::new();
            stream.next_into(&mut got, 1000).await.unwrap();
            let error = loop {
                let sent = match is_written {
                    true => stream.send_status().await,
                    false => stream.next_into(&mut got, 1000).await.map(|_| ()),
                };
                if let Err(error) = sent {
                    break error;
                }
            };
            assert!(error.is_connection_lost(), "{error}");
            assert!(matches!(stream.next_into(&mut got, 1000).await, Err(Error::Closed)));
            assert!(got.len() <= 20_000);
        }
    });
}

#[test]
fn wal_that_does_not_follow_is_refused_at_its_beginning() {
    let serve = |client: &mut TcpStream| {
        let sent = wal(START.checked_add(1).unwrap(), &pattern(100_000));
        client.write_all(&sent[..1000]).unwrap();
        // The rest never comes.
        assert_eq!(client.read(&mut [0]).unwrap_or(0), 0);
    };
    block_on(async {
        let mut stream = stream(serve).await;
        let mut got = Vec::new();
        let error = stream.next_into(&mut got, 1 << 20).await.unwrap_err();
        assert!(error.to_string().contains("100000 bytes at 0/1000001 where 0/1000000"), "{error}");
        assert!(got.is_empty());
    });
}
