//! Servers that try to deceive the client: each is a few lines that imitate a PostgreSQL server and attack.
#![cfg(feature = "encrypted-key")]

mod support;

use std::fs;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};

use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, SupportedProtocolVersion};
use support::certificates::{Authority, Identity, Key, Request};
use support::{Auth, Cluster, servers};
use tapster::client::Connection;
use tapster::conninfo::{ConnInfo, Environment};
use tapster::session::HandshakeError;
use tapster::{ConnectFailure, Error, TlsErrorKind};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

const HOST: &str = "db1.example";
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];

/// The outcome of connecting to an imitated server, and the server's notes.
struct Outcome {
    result: Result<(), Error>,
    notes: Vec<&'static str>,
}

impl Outcome {
    fn failure(&self) -> &ConnectFailure {
        match &self.result {
            Err(Error::Connect(attempts)) => &attempts.last().unwrap().failure,
            other => panic!("{other:?}, {:?}", self.notes),
        }
    }

    fn tls_error(&self) -> (TlsErrorKind, String) {
        match self.failure() {
            ConnectFailure::Tls(error) => (error.kind(), error.to_string()),
            other => panic!("{other}, {:?}", self.notes),
        }
    }

    fn handshake_error(&self) -> &HandshakeError {
        match self.failure() {
            ConnectFailure::Handshake(error) => error,
            other => panic!("{other}, {:?}", self.notes),
        }
    }
}

/// Connects with `options` to a server that `serve` plays, one connection after the other. `serve` returns
/// the note about a connection.
fn attack(options: &str, home: &Path, serve: impl AsyncFn(TcpStream) -> io::Result<&'static str>) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let conninfo: ConnInfo = format!(
            "host={HOST} hostaddr=127.0.0.1 port={port} user=repl password=walrus-17 dbname=postgres \
             connect_timeout=20 {options}"
        )
        .parse()
        .unwrap();
        let environment = Environment::empty().with_user("nobody").with_home(home);
        let config = conninfo.resolve(&environment).unwrap().config().unwrap();
        let notes = Mutex::new(Vec::new());
        let serving = async {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let note = serve(stream).await.unwrap_or("broken");
                notes.lock().unwrap().push(note);
            }
        };
        let result = tokio::select! {
            result = Connection::connect(&config) => result.map(|_| ()),
            () = serving => unreachable!("it serves for ever"),
        };
        let notes = notes.into_inner().unwrap();
        Outcome { result, notes }
    })
}

fn empty_home() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

/// A home directory with that root certificate.
fn home_with_root(root: &[u8]) -> tempfile::TempDir {
    let home = empty_home();
    fs::create_dir(home.path().join(".postgresql")).unwrap();
    fs::write(home.path().join(".postgresql/root.crt"), root).unwrap();
    home
}

/// Reads the first packet, and says whether it asks for TLS.
async fn asks_for_tls(stream: &mut TcpStream) -> io::Result<bool> {
    let mut start = [0; 8];
    stream.read_exact(&mut start).await?;
    Ok(start == SSL_REQUEST)
}

/// A server that answers the request for TLS with these bytes and then waits until the client closes the
/// connection.
async fn answer(mut stream: TcpStream, bytes: &[u8]) -> io::Result<&'static str> {
    if !asks_for_tls(&mut stream).await? {
        return Ok("asked in clear");
    }
    stream.write_all(bytes).await?;
    match stream.read(&mut [0; 1]).await? {
        0 => Ok("left alone"),
        _ => Ok("got more"),
    }
}

/// Refuses a session without TLS, as a server does that requires TLS.
async fn refuse_plain(stream: &mut TcpStream) -> io::Result<&'static str> {
    let fields = b"SFATAL\0C28000\0Mno pg_hba.conf entry\0\0";
    let len = u32::try_from(fields.len() + 4).unwrap();
    stream.write_all(&[&b"E"[..], &len.to_be_bytes(), fields].concat()).await?;
    Ok("asked in clear")
}

#[derive(Debug)]
struct Shows(Arc<CertifiedKey>);

impl ResolvesServerCert for Shows {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }
}

/// A TLS server that sends one identity's certificate and signs with another's key.
fn tls_server(
    certificate: &Identity,
    key: &Identity,
    version: &'static SupportedProtocolVersion,
    alpn: &[&[u8]],
) -> TlsAcceptor {
    let chain = CertificateDer::pem_slice_iter(&certificate.certificate).map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_slice(&key.key).unwrap();
    let key = default_provider().key_provider.load_private_key(key).unwrap();
    let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[version])
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(Shows(Arc::new(CertifiedKey::new(chain, key)))));
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    TlsAcceptor::from(Arc::new(config))
}

const VERSIONS: [&SupportedProtocolVersion; 2] = [&rustls::version::TLS12, &rustls::version::TLS13];

#[test]
fn a_real_certificate_without_its_key_is_refused_at_every_mode() {
    let authority = Authority::new("right", Key::P256);
    for kind in [Key::P256, Key::Rsa] {
        let real = authority.issue(Request { key: kind, ..Request::new(HOST) });
        let thief = Identity::self_signed(HOST, kind);
        for version in VERSIONS {
            for (mode, expected) in [
                // The plain attempt comes first and is refused; the forged one ends the search.
                ("allow", &["asked in clear"][..]),
                ("prefer", &[]),
                ("require", &[]),
                ("verify-ca", &[]),
                ("verify-full", &[]),
                ("require sslnegotiation=direct", &[]),
            ] {
                let home = match mode.starts_with("verify") {
                    true => home_with_root(&authority.certificate()),
                    false => empty_home(),
                };
                let outcome = |key: &Identity| {
                    let server = tls_server(&real, key, version, &[b"postgresql"]);
                    let is_direct = mode.ends_with("direct");
                    attack(&format!("sslmode={mode}"), home.path(), async |mut stream| {
                        if !is_direct {
                            if !asks_for_tls(&mut stream).await? {
                                return refuse_plain(&mut stream).await;
                            }
                            stream.write_all(b"S").await?;
                        }
                        let mut tls = server.accept(stream).await?;
                        tls.read_exact(&mut [0; 8]).await?;
                        Ok("was told more")
                    })
                };
                let forged = outcome(&thief);
                let context = format!("{kind:?} {version:?} {mode}");
                assert_eq!(forged.tls_error().0, TlsErrorKind::Forged, "{context}");
                let notes: Vec<_> = forged.notes.iter().filter(|note| **note != "broken").copied().collect();
                assert_eq!(notes, expected, "{context}");
                assert!(forged.result.unwrap_err().is_authentication());
                // The same server with the right key gets through to the startup packet.
                assert!(outcome(&real).notes.contains(&"was told more"), "{context}");
            }
        }
    }
}

#[test]
fn bytes_before_tls_are_refused() {
    for mode in ["prefer", "require", "verify-full"] {
        let home = home_with_root(&Identity::self_signed(HOST, Key::P256).certificate);
        // AuthenticationOk, as if it had come through TLS.
        let outcome = attack(&format!("sslmode={mode}"), home.path(), async |stream| {
            answer(stream, b"SR\0\0\0\x08\0\0\0\0").await
        });
        assert_eq!(*outcome.handshake_error(), HandshakeError::BytesBeforeTls);
        assert!(!outcome.notes.contains(&"asked in clear"), "no second try in clear");
    }
}

#[test]
fn a_refusal_of_tls_is_accepted_only_where_tls_is_optional() {
    for (mode, is_refused) in [("prefer", false), ("require", true), ("verify-ca", true)] {
        let home = home_with_root(&Identity::self_signed(HOST, Key::P256).certificate);
        let outcome = attack(&format!("sslmode={mode}"), home.path(), async |mut stream| {
            assert!(asks_for_tls(&mut stream).await?);
            stream.write_all(b"N").await?;
            stream.read_exact(&mut [0; 8]).await?;
            refuse_plain(&mut stream).await
        });
        match outcome.handshake_error() {
            HandshakeError::TlsRefused => assert!(is_refused),
            HandshakeError::Server(_) => assert!(!is_refused),
            other => panic!("{other}"),
        }
    }
}

#[test]
fn an_error_text_before_tls_is_not_shown() {
    for mode in ["prefer", "require"] {
        let outcome = attack(&format!("sslmode={mode}"), empty_home().path(), async |stream| {
            answer(stream, b"E\0\0\0\x40SFATAL\0C28000\0Mlog in at attacker.example\0\0").await
        });
        assert_eq!(*outcome.handshake_error(), HandshakeError::ErrorInsteadOfTls);
        let error = outcome.result.unwrap_err();
        assert!(!format!("{error} {error:?}").contains("attacker"), "{error}");
    }
}

#[test]
fn direct_tls_requires_that_the_server_confirms_postgresql() {
    let identity = Identity::self_signed(HOST, Key::P256);
    for version in VERSIONS {
        for (alpn, is_refused) in [(&[][..], true), (&[&b"postgresql"[..]][..], false)] {
            let server = tls_server(&identity, &identity, version, alpn);
            let options = "sslmode=require sslnegotiation=direct";
            let outcome = attack(options, empty_home().path(), async |stream| {
                let mut tls = server.accept(stream).await?;
                tls.read_exact(&mut [0; 8]).await?;
                Ok("was told more")
            });
            assert_eq!(outcome.notes.contains(&"was told more"), !is_refused);
            if is_refused {
                let (_, message) = outcome.tls_error();
                assert!(message.contains("without ALPN"), "{message}");
            }
        }
    }
}

#[test]
fn negotiated_tls_works_without_alpn_but_not_with_another_protocol() {
    let identity = Identity::self_signed(HOST, Key::P256);
    for (alpn, is_refused) in [(&[][..], false), (&[&b"h2"[..]][..], true)] {
        let server = tls_server(&identity, &identity, &rustls::version::TLS13, alpn);
        let outcome = attack("sslmode=require", empty_home().path(), async |mut stream| {
            assert!(asks_for_tls(&mut stream).await?);
            stream.write_all(b"S").await?;
            let mut tls = server.accept(stream).await?;
            tls.read_exact(&mut [0; 8]).await?;
            Ok("was told more")
        });
        assert_eq!(outcome.notes.contains(&"was told more"), !is_refused);
    }
}

#[test]
fn silence_within_tls_is_bounded() {
    let outcome = attack("sslmode=require connect_timeout=1", empty_home().path(), async |mut stream| {
        stream.write_all(b"S").await?;
        core::future::pending().await
    });
    assert!(outcome.result.unwrap_err().is_timeout());
}

/// An attacker in between has TLS to both sides and passes on every message.
#[test]
fn an_attacker_in_between_cannot_pass_on_a_login_that_is_bound_to_the_channel() {
    let identity = Identity::self_signed(HOST, Key::P256);
    let cluster = Cluster::builder(&servers::packaged())
        .setting("ssl", "on")
        .file("server.crt", &identity.certificate)
        .file("server.key", &identity.key)
        .auth(Auth::Scram)
        .start();
    let between = Identity::self_signed(HOST, Key::P256);
    let server = tls_server(&between, &between, &rustls::version::TLS13, &[]);
    for (binding, is_refused) in [("require", true), ("prefer", true), ("disable", false)] {
        let options = format!("sslmode=require channel_binding={binding}");
        let outcome = attack(&options, empty_home().path(), async |mut stream| {
            assert!(asks_for_tls(&mut stream).await?);
            stream.write_all(b"S").await?;
            let mut client = server.accept(stream).await?;
            let mut upstream = connect_upstream(cluster.port()).await?;
            tokio::io::copy_bidirectional(&mut client, &mut upstream).await?;
            Ok("passed on")
        });
        match is_refused {
            true => assert!(matches!(outcome.handshake_error(), HandshakeError::Server(_))),
            false => outcome.result.unwrap(),
        }
    }
}

async fn connect_upstream(port: u16) -> io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream.write_all(&SSL_REQUEST).await?;
    assert_eq!(stream.read_u8().await?, b'S');
    let provider = Arc::new(default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Gullible(provider)))
        .with_no_client_auth();
    let name = HOST.try_into().unwrap();
    tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

/// Trusts every certificate, as an attacker may.
#[derive(Debug)]
struct Gullible(Arc<rustls::crypto::CryptoProvider>);

impl rustls::client::danger::ServerCertVerifier for Gullible {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &rustls::pki_types::ServerName<'_>,
        _: &[u8],
        _: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        self.verify_tls12_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
