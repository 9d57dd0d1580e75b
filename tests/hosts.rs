//! How the client reaches servers: sockets of every kind, their options, lists of hosts and time limits, and
//! which authentication it accepts.
#![cfg(feature = "client")]

mod support;

use core::time::Duration;
use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixListener;
use std::thread;
use std::time::Instant;

use support::client::{block_on, config, connect};
use support::{Auth, Cluster, servers};
use tapster::client::Connection;
use tapster::conninfo::system_user_name;
use tapster::{ConnectFailure, Error};

/// The error that connecting fails with.
fn failure(conninfo: &str) -> Error {
    block_on(async { Connection::connect(&config(conninfo)).await.expect_err("it should have failed") })
}

/// The name of the server that connecting leads to.
fn reached(conninfo: &str) -> String {
    block_on(async { connect(conninfo).await.server().to_string() })
}

#[test]
fn a_server_behind_a_socket_must_run_as_the_required_user() {
    let cluster = Cluster::builder(&servers::packaged()).start();
    let socket = cluster.socket_dir().join(format!(".s.PGSQL.{}", cluster.port()));
    let owner = system_user_name(fs::metadata(&socket).unwrap().uid()).expect("the owner has a name");
    let with = |name: &str| format!("{} requirepeer={name}", cluster.socket_conninfo("postgres"));
    assert_eq!(reached(&with(&owner)), format!("server on socket \"{}\"", socket.display()));
    let error = failure(&with("somebody-else"));
    let message =
        format!("requirepeer specifies \"somebody-else\", but actual peer user name is \"{owner}\"");
    assert!(error.to_string().ends_with(&message), "{error}");
    assert!(error.is_authentication());
    // Over TCP the server's user cannot be known, so the parameter has no effect.
    reached(&format!("{} requirepeer=somebody-else", cluster.conninfo("postgres")));
}

#[test]
fn another_service_on_the_port_is_named() {
    for (banner, name) in [
        (&b"SSH-2.0-OpenSSH_9.2p1\r\n"[..], "an SSH server: \"SSH-2.0-OpenSSH_9.2p1\""),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "an HTTP server: \"HTTP/1.1 400 Bad Request\""),
        (b"220 mail.example ESMTP\r\n", "a mail or FTP server"),
        (b"\x4e\0\0\0\x0a8.0.36\0", "a MySQL or MariaDB server"),
        (b"-ERR unknown command\r\n", "a Redis server"),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        thread::spawn(move || {
            for client in listener.incoming() {
                let mut client = client.unwrap();
                client.write_all(banner).unwrap();
                // Closed by the client: an early close would take the banner away.
                drop(std::io::copy(&mut client, &mut std::io::sink()));
            }
        });
        for mode in ["disable", "prefer", "require"] {
            let error = failure(&format!("host=127.0.0.1 port={port} user=u sslmode={mode}"));
            let text = error.to_string();
            assert!(text.contains(name) && text.contains("no PostgreSQL server"), "{mode}: {text}");
        }
        if cfg!(feature = "tls") {
            let text =
                failure(&format!("host=127.0.0.1 port={port} user=u sslmode=require sslnegotiation=direct"))
                    .to_string();
            assert!(text.contains("speaks no TLS"), "{text}");
        }
    }
}

const TOO_MANY_CLIENTS: &[u8] = b"E\0\0\0\x25SFATAL\0C53300\0Mtoo many clients\0\0";

#[cfg(target_os = "linux")]
#[test]
fn an_abstract_socket_can_be_reached() {
    use std::os::linux::net::SocketAddrExt as _;
    use std::os::unix::net::SocketAddr;

    let name = format!("tapster-test-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(format!("{name}/.s.PGSQL.77")).unwrap();
    let listener = UnixListener::bind_addr(&address).unwrap();
    thread::spawn(move || {
        for client in listener.incoming() {
            client.unwrap().write_all(TOO_MANY_CLIENTS).unwrap();
        }
    });
    let error = failure(&format!("host=@{name} port=77 user=postgres"));
    let server = format!("connection to server on socket \"@{name}/.s.PGSQL.77\" failed: ");
    assert!(error.to_string().starts_with(&server), "{error}");
    assert_eq!(error.sqlstate().map(|state| state.to_string()).as_deref(), Some("53300"), "{error}");
}

/// Such a server answers before it reads anything, and may close before the client has written its first
/// packet.
#[test]
fn too_many_clients_is_reported_whenever_the_server_closes() {
    let directory = tempfile::tempdir().unwrap();
    let unix = UnixListener::bind(directory.path().join(".s.PGSQL.77")).unwrap();
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let conninfos = [
        format!("host={} port=77 user=postgres", directory.path().display()),
        format!("host=127.0.0.1 port={} sslmode=disable user=postgres", tcp.local_addr().unwrap().port()),
    ];
    thread::spawn(move || {
        unix.incoming().for_each(|client| client.unwrap().write_all(TOO_MANY_CLIENTS).unwrap())
    });
    thread::spawn(move || {
        tcp.incoming().for_each(|client| client.unwrap().write_all(TOO_MANY_CLIENTS).unwrap())
    });
    for conninfo in conninfos {
        for _ in 0..500 {
            let error = failure(&conninfo);
            let state = error.sqlstate().map(|state| state.to_string());
            assert_eq!(state.as_deref(), Some("53300"), "{error}");
        }
    }
}

/// The kernel's timer for the client's side of a connection: its kind (2 is keep-alive), and the seconds
/// until it fires.
fn timer(conninfo: &str) -> (u8, u64) {
    block_on(async {
        let mut connection = connect(conninfo).await;
        let sets = connection.simple_query("SELECT inet_client_port()").await.unwrap();
        let port: u16 = sets[0].row(0).unwrap().parse(0).unwrap();
        let table = fs::read_to_string("/proc/net/tcp").unwrap();
        let own = format!("0100007F:{port:04X}");
        let fields = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let fields = fields.into_iter().find(|fields| fields[1] == own).expect("the connection is there");
        let (kind, when) = fields[5].split_once(':').expect("tr:tm->when");
        // In hundredths of a second.
        (kind.parse().unwrap(), u64::from_str_radix(when, 16).unwrap() / 100)
    })
}

#[test]
fn the_client_turns_keep_alive_packets_on() {
    let cluster = Cluster::builder(&servers::packaged()).start();
    let timer = |options: &str| timer(&format!("{} {options}", cluster.conninfo("postgres")));
    let (kind, seconds) = timer("keepalives_idle=1000 keepalives_interval=7 keepalives_count=3");
    assert_eq!(kind, 2);
    assert!((900..=1000).contains(&seconds), "{seconds} s");
    assert_eq!(timer("").0, 2, "they are on by default");
    assert_ne!(timer("keepalives=0 keepalives_idle=1000").0, 2);
    timer("tcp_user_timeout=30000");
}

#[test]
fn random_order_reaches_every_host() {
    let clusters = [(); 2].map(|()| Cluster::builder(&servers::packaged()).start());
    let ports = clusters.each_ref().map(Cluster::port);
    let conninfo = |order: &str| {
        let hosts = format!("host=127.0.0.1,127.0.0.1 port={},{}", ports[0], ports[1]);
        format!("{} {hosts} load_balance_hosts={order}", clusters[0].conninfo("postgres"))
    };
    let servers = |order| (0..30).map(|_| reached(&conninfo(order))).collect::<BTreeSet<_>>();
    assert_eq!(servers("disable").len(), 1);
    // One of two hosts is never first in 30 turns only once in 500 million runs.
    assert_eq!(servers("random").len(), 2);
}

#[test]
fn each_address_has_its_own_time_limit() {
    let cluster = Cluster::builder(&servers::packaged()).start();
    let silent = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    let [one, two] = silent.each_ref().map(|listener| listener.local_addr().unwrap().port());
    let conninfo = |last: u16| {
        let hosts = format!("host=127.0.0.1,127.0.0.1,127.0.0.1 port={one},{two},{last}");
        format!("{} {hosts} connect_timeout=1", cluster.conninfo("postgres"))
    };
    let start = Instant::now();
    assert!(reached(&conninfo(cluster.port())).ends_with(&cluster.port().to_string()));
    assert!(start.elapsed() >= Duration::from_secs(2), "one second for each silent server");
    let error = failure(&conninfo(two));
    let Error::Connect(attempts) = &error else { panic!("{error:?}") };
    assert_eq!(attempts.len(), 3);
    assert!(attempts.iter().all(|attempt| matches!(attempt.failure, ConnectFailure::Timeout(_))), "{error}");
    assert!(error.is_timeout());
}

#[test]
fn the_client_answers_only_the_required_authentication() {
    let with = |auth| Cluster::builder(&servers::packaged()).auth(auth).start();
    let (trust, password, scram) = (with(Auth::Trust), with(Auth::Password), with(Auth::Scram));
    for (cluster, required, reason) in [
        (&trust, "none", None),
        (&trust, "scram-sha-256,none", None),
        (&trust, "!password", None),
        (&trust, "scram-sha-256", Some("server did not complete authentication")),
        (&trust, "!none", Some("server did not complete authentication")),
        (&password, "password", None),
        (&password, "md5,scram-sha-256", Some("server requested a cleartext password")),
        (&password, "!password", Some("server requested a cleartext password")),
        (&scram, "scram-sha-256", None),
        (&scram, "!password,!md5", None),
        (&scram, "password", Some("server requested SASL authentication")),
        (&scram, "!scram-sha-256", Some("server requested SCRAM-SHA-256 authentication")),
        (&scram, "none", Some("server requested SASL authentication")),
    ] {
        let conninfo = format!("{} require_auth={required}", cluster.conninfo("repl"));
        let Some(reason) = reason else {
            reached(&conninfo);
            continue;
        };
        let error = failure(&conninfo);
        let message = format!("authentication method requirement \"{required}\" failed: {reason}");
        assert!(error.to_string().ends_with(&message), "{error}");
        assert!(error.is_authentication());
    }
}
