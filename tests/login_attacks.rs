//! Servers that begin a login correctly and then attack: at each point of the login they fall silent, close
//! the connection, claim absurd lengths, or never stop sending. None of them keeps a client for long or fills
//! its memory.
#![cfg(feature = "client")]

mod support;

use core::time::Duration;
use std::fs;
use std::io;
use std::thread;
use std::time::Instant;

use support::client::{block_on, config};
use tapster::auth::{Mechanism, Nonce, ScramServer, ScramVerifier};
use tapster::client::{Connection, SessionLimits};
use tapster::codec::{
    Authentication, AuthenticationResponse, BackendKeyData, BackendMessage, ErrorFields, Field, FieldsBuf,
    NamesBuf, ParameterStatus, TransactionStatus,
};
use tapster::session::HandshakeError;
use tapster::{ConnectFailure, Error};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

const PASSWORD: &str = "walrus-17";

/// The point of a login at which a server stops being honest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Point {
    /// The server has accepted the connection and read nothing.
    Accepted,
    /// It has read the startup packet.
    Started,
    /// It has read the client's first SCRAM message.
    ScramFirst,
    /// It has read the client's SCRAM proof.
    ScramFinal,
    /// It has sent its own proof.
    Proven,
    /// It has sent `AuthenticationOk`.
    Ok,
    /// It has sent everything but `ReadyForQuery`.
    Settings,
    /// It has sent `ReadyForQuery`: the client may send commands.
    Ready,
}

const LOGIN: [Point; 7] = [
    Point::Accepted,
    Point::Started,
    Point::ScramFirst,
    Point::ScramFinal,
    Point::Proven,
    Point::Ok,
    Point::Settings,
];

/// Plays an honest server up to `point`.
async fn honest(stream: &mut TcpStream, point: Point) -> io::Result<()> {
    if point == Point::Accepted {
        return Ok(());
    }
    read_startup(stream).await?;
    if point == Point::Started {
        return Ok(());
    }

    let mut mechanisms = NamesBuf::new();
    mechanisms.push(Mechanism::ScramSha256.name().as_bytes()).unwrap();
    let sasl = Authentication::Sasl { mechanisms: mechanisms.as_list() };
    stream.write_all(&authentication(sasl)).await?;
    let body = read_response(stream).await?;
    if point == Point::ScramFirst {
        return Ok(());
    }

    let initial = AuthenticationResponse::parse_sasl_initial(&body).unwrap();
    let AuthenticationResponse::SaslInitial { data: Some(data), .. } = initial else { panic!("{initial:?}") };
    let verifier = ScramVerifier::from_password(PASSWORD.as_bytes(), b"some salt", 16.try_into().unwrap());
    let server = ScramServer::new(verifier, Nonce::from_random([9; 18]), None);
    let mut word = Vec::new();
    let server = server.client_first(Mechanism::ScramSha256, data, &mut word).unwrap();
    stream.write_all(&authentication(Authentication::SaslContinue { data: &word })).await?;
    let body = read_response(stream).await?;
    if point == Point::ScramFinal {
        return Ok(());
    }

    word.clear();
    server.client_final(&body, &mut word).unwrap();
    stream.write_all(&authentication(Authentication::SaslFinal { data: &word })).await?;
    let key = BackendKeyData { process_id: 4711, secret_key: b"keys" };
    let settings = [status("server_version", "13.4"), message(&BackendMessage::BackendKeyData(key))].concat();
    for (reached, bytes) in [
        (Point::Ok, authentication(Authentication::Ok)),
        (Point::Settings, settings),
        (Point::Ready, message(&BackendMessage::ReadyForQuery(TransactionStatus::Idle))),
    ] {
        if point >= reached {
            stream.write_all(&bytes).await?;
        }
    }
    Ok(())
}

async fn read_startup(stream: &mut TcpStream) -> io::Result<()> {
    let length = stream.read_u32().await?;
    stream.read_exact(&mut vec![0; length as usize - 4]).await.map(drop)
}

/// The body of the client's next message.
async fn read_response(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    stream.read_u8().await?;
    let mut body = vec![0; stream.read_u32().await? as usize - 4];
    stream.read_exact(&mut body).await?;
    Ok(body)
}

fn message(message: &BackendMessage<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    message.encode(&mut bytes).expect("a message that can be sent");
    bytes
}

fn authentication(request: Authentication<'_>) -> Vec<u8> {
    message(&BackendMessage::Authentication(request))
}

fn status(name: &str, value: &str) -> Vec<u8> {
    let (name, value) = (name.as_bytes(), value.as_bytes());
    message(&BackendMessage::ParameterStatus(ParameterStatus { name, value }))
}

fn notice(text: &str) -> Vec<u8> {
    let mut fields = FieldsBuf::new();
    for (code, value) in [(b'S', "NOTICE"), (b'V', "NOTICE"), (b'C', "00000"), (b'M', text)] {
        fields.push(Field { code, value: value.as_bytes() }).unwrap();
    }
    message(&BackendMessage::NoticeResponse(ErrorFields { fields: fields.as_list() }))
}

/// Runs `client` against a server that `serve` plays. The server keeps the connection open afterwards.
fn beside<T>(
    options: &str,
    serve: impl AsyncFnOnce(&mut TcpStream) -> io::Result<()>,
    client: impl AsyncFnOnce(Result<Connection, Error>) -> T,
) -> T {
    block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let config = config(&format!(
            "host=127.0.0.1 port={port} user=repl dbname=postgres password={PASSWORD} sslmode=disable \
             connect_timeout=60 {options}"
        ));
        let serving = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            // The client is expected to close the connection, which fails here.
            let _ = serve(&mut stream).await;
            core::future::pending::<()>().await;
        };
        tokio::select! {
            value = async { client(Connection::connect(&config).await).await } => value,
            () = serving => unreachable!("the server never ends"),
        }
    })
}

/// How a login fails with a server that is honest up to `point` and then attacks.
fn failure(
    options: &str,
    point: Point,
    attack: impl AsyncFnOnce(&mut TcpStream) -> io::Result<()>,
) -> ConnectFailure {
    let serve = async |stream: &mut TcpStream| {
        honest(stream, point).await?;
        attack(stream).await
    };
    let error = beside(options, serve, async |result| result.err()).expect("the login must fail");
    assert!(!error.to_string().contains(PASSWORD));
    match error {
        Error::Connect(mut attempts) => attempts.pop().unwrap().failure,
        other => panic!("{point:?}: {other:?}"),
    }
}

/// Sends the same bytes again and again until the client closes the connection.
async fn flood(stream: &mut TcpStream, bytes: &[u8]) -> io::Result<()> {
    let many = bytes.repeat(1 + 10_000 / bytes.len());
    loop {
        stream.write_all(&many).await?;
    }
}

/// Checks that `connect_timeout` ends a login, and nothing before it.
fn assert_times_out(
    what: &str,
    options: &str,
    point: Point,
    attack: impl AsyncFnOnce(&mut TcpStream) -> io::Result<()>,
) {
    let start = Instant::now();
    let failure = failure(&format!("connect_timeout=1 {options}"), point, attack);
    assert!(matches!(failure, ConnectFailure::Timeout(_)), "{what}: {failure:?}");
    let elapsed = start.elapsed();
    assert!((Duration::from_millis(900)..Duration::from_secs(20)).contains(&elapsed), "{what}: {elapsed:?}");
}

#[test]
fn silence_is_bounded_at_every_point() {
    let silence = async |_: &mut TcpStream| Ok(());
    thread::scope(|scope| {
        for point in LOGIN {
            scope.spawn(move || assert_times_out(&format!("{point:?}"), "", point, silence));
        }
        #[cfg(feature = "tls")]
        for options in ["sslmode=require", "sslmode=require sslnegotiation=direct"] {
            scope.spawn(move || assert_times_out(options, options, Point::Accepted, silence));
        }
        for request in [Authentication::CleartextPassword, Authentication::Md5Password { salt: *b"salt" }] {
            scope.spawn(move || {
                assert_times_out("after a password", "", Point::Started, async |stream| {
                    stream.write_all(&authentication(request)).await?;
                    read_response(stream).await.map(drop)
                });
            });
        }
        // The client asks servers before 14 by a statement what they are.
        for attrs in ["read-write", "standby"] {
            let options = format!("target_session_attrs={attrs}");
            scope.spawn(move || assert_times_out(attrs, &options, Point::Ready, silence));
        }
        // Half a message, or a notice now and then, does not extend the time.
        scope.spawn(move || {
            assert_times_out("half a message", "", Point::Ok, async |stream| {
                stream.write_all(b"S\0\0\0\x40abc").await
            });
        });
        scope.spawn(move || {
            assert_times_out("notices", "", Point::Started, async |stream| {
                loop {
                    stream.write_all(&notice("wait")).await?;
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            });
        });
    });
}

#[test]
fn a_closed_connection_is_reported_at_every_point() {
    for point in LOGIN {
        let failure = failure("", point, async |stream| stream.shutdown().await);
        assert_eq!(failure.to_string(), "the server closed the connection unexpectedly", "{point:?}");
    }
}

#[test]
fn an_absurd_length_is_refused_at_every_point_before_its_bytes_arrive() {
    let is_refused = |failure: &ConnectFailure| matches!(failure, ConnectFailure::Handshake(HandshakeError::Decode(error)) if error.field == "length");
    for point in LOGIN {
        // After the login a trigger may say more.
        let notice = if matches!(point, Point::Ok | Point::Settings) { (1 << 20) + 1 } else { 30_001 };
        for (tag, length) in
            [(b'R', 2_001), (b'v', 2_001), (b'S', 30_001), (b'K', 30_001), (b'N', notice), (b'Z', 30_001)]
        {
            for length in [length, u32::MAX, 3] {
                let head = [&[tag][..], &length.to_be_bytes()].concat();
                let failure = failure("", point, async |stream| stream.write_all(&head).await);
                assert!(is_refused(&failure), "{point:?} {} {length}: {failure:?}", char::from(tag));
            }
        }
        // The client takes an error of this length for one of the old form without a length, which has to
        // end.
        let endless = [&b"E\x7f\xff\xff\xff"[..], &[b'x'; 40_000]].concat();
        let failure = failure("", point, async |stream| stream.write_all(&endless).await);
        assert!(matches!(failure, ConnectFailure::Handshake(HandshakeError::Decode(_))), "{failure:?}");
    }
}

#[test]
fn a_flood_ends_the_login_at_every_point() {
    let large = notice(&"x".repeat(20_000));
    for point in LOGIN {
        for bytes in [&notice("hello"), &large] {
            let failure = failure("", point, async |stream| flood(stream, bytes).await);
            let expected = matches!(failure, ConnectFailure::Handshake(HandshakeError::TooMuchData));
            assert!(expected, "{point:?}: {failure:?}");
        }
        let failure = failure("", point, async |stream| flood(stream, &status("a", "b")).await);
        let expected = match failure {
            ConnectFailure::Handshake(HandshakeError::TooMuchData) => point >= Point::Ok,
            ConnectFailure::Handshake(HandshakeError::Unexpected { got: "ParameterStatus", .. }) => {
                point < Point::Ok
            }
            _ => false,
        };
        assert!(expected, "{point:?}: {failure:?}");
    }
}

/// The resident memory of this process.
fn resident_bytes() -> u64 {
    let statm = fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap() * 4096
}

#[test]
fn a_flood_within_an_answer_takes_no_memory() {
    const FLOOD: usize = 24 << 20;
    let value = "x".repeat(5_000);
    for bytes in [status("application_name", &value), notice(&value)] {
        let serve = async |stream: &mut TcpStream| {
            honest(stream, Point::Ready).await?;
            read_response(stream).await?;
            for _ in 0..FLOOD / bytes.len() {
                stream.write_all(&bytes).await?;
            }
            let done = BackendMessage::CommandComplete { tag: b"SELECT 0" };
            stream.write_all(&message(&done)).await?;
            stream.write_all(&message(&BackendMessage::ReadyForQuery(TransactionStatus::Idle))).await
        };
        beside("", serve, async |connection| {
            let mut connection = connection.unwrap();
            let before = resident_bytes();
            let sets = connection.simple_query("SELECT").await.unwrap();
            assert_eq!(sets.len(), 1);
            let grown = resident_bytes().saturating_sub(before);
            assert!(grown < FLOOD as u64 / 2, "{grown} bytes more");
        });
    }
}

#[test]
fn an_endless_list_of_settings_ends_the_session() {
    let serve = async |stream: &mut TcpStream| {
        honest(stream, Point::Ready).await?;
        read_response(stream).await?;
        for i in 0.. {
            stream.write_all(&status(&format!("setting{i}"), "on")).await?;
        }
        Ok(())
    };
    beside("", serve, async |connection| {
        let mut connection = connection.unwrap();
        let error = connection.simple_query("SELECT").await.unwrap_err();
        assert!(matches!(error, Error::Unexpected { expected: "reported settings", .. }), "{error:?}");
        assert!(!connection.is_open());
    });
}

#[test]
fn a_caller_can_give_up_on_endless_notices() {
    let serve = async |stream: &mut TcpStream| {
        honest(stream, Point::Ready).await?;
        flood(stream, &notice("wait")).await
    };
    beside("", serve, async |connection| {
        let mut connection = connection.unwrap();
        for _ in 0..2 {
            let query = connection.simple_query("SELECT");
            assert!(tokio::time::timeout(Duration::from_millis(200), query).await.is_err());
        }
    });
}

#[test]
fn an_absurd_length_ends_the_session() {
    for (tag, length, is_legal) in
        [(b'Z', 30_001, false), (b'C', 30_001, false), (b'D', 3, false), (b'D', 0x3fff_fffe, true)]
    {
        let serve = async |stream: &mut TcpStream| {
            honest(stream, Point::Ready).await?;
            let length: u32 = length;
            stream.write_all(&[&[tag][..], &length.to_be_bytes()].concat()).await
        };
        beside("", serve, async |connection| {
            let mut connection = connection.unwrap();
            connection.set_read_timeout(Some(Duration::from_millis(200)));
            let before = resident_bytes();
            let error = connection.simple_query("SELECT").await.unwrap_err();
            // A row may be that long. Its memory grows with the bytes that arrive, and none do.
            assert_eq!(error.is_timeout(), is_legal, "{error:?}");
            assert_eq!(matches!(error, Error::Decode(_)), !is_legal, "{error:?}");
            assert!(resident_bytes().saturating_sub(before) < 256 << 20);
            assert!(!connection.is_open());
        });
    }
}

/// Runs a query in a session for control against a server that answers with `head`, and then with `bytes` for ever.
fn control(head: &[u8], bytes: &[u8]) -> Error {
    let serve = async |stream: &mut TcpStream| {
        honest(stream, Point::Ready).await?;
        read_response(stream).await?;
        stream.write_all(head).await?;
        flood(stream, bytes).await
    };
    beside("", serve, async |connection| {
        let mut connection = connection.unwrap();
        connection.set_limits(SessionLimits::CONTROL);
        connection.set_read_timeout(Some(Duration::from_secs(1)));
        let (before, start) = (resident_bytes(), Instant::now());
        let error = connection.simple_query("SELECT").await.unwrap_err();
        assert!(resident_bytes().saturating_sub(before) < 64 << 20, "{error}");
        assert!(start.elapsed() < Duration::from_secs(20), "{error}");
        assert!(!connection.is_open());
        error
    })
}

#[test]
fn a_session_for_control_takes_a_bounded_answer_in_bounded_time() {
    // A row of one column with 1,000 bytes.
    let value = [&[0, 1, 0, 0, 3, 0xe8][..], &[b'x'; 1000]].concat();
    let row = [&b"D"[..], &u32::try_from(value.len() + 4).unwrap().to_be_bytes(), &value].concat();
    let columns = b"T\0\0\0\x1a\0\x01a\0\0\0\0\0\0\0\0\0\0\x19\xff\xff\xff\xff\xff\xff\0\0";
    let error = control(&columns[..], &row);
    assert!(matches!(error, Error::Unexpected { expected: "a short answer", .. }), "{error:?}");
    // A notice is no silence, and a message too long is refused by its length.
    let error = control(b"", &notice("wait"));
    assert!(error.is_timeout() && error.to_string().contains("1s"), "{error}");
    for tag in *b"ENTDV" {
        let error = control(&[tag, 0, 0x10, 0, 1], b"x");
        assert!(matches!(error, Error::Decode(error) if error.field == "length"), "{error:?}");
    }
}
