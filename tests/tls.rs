//! TLS with real servers: which server is trusted at which `sslmode`, client certificates, channel binding.
#![cfg(feature = "encrypted-key")]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use support::certificates::{Authority, Identity, Key, Request, convert, rehash};
use support::cluster::Builder;
use support::process::{clean_environment, run};
use support::{Auth, Cluster, Server, servers};
use tapster::client::Connection;
use tapster::conninfo::{ConnInfo, Environment};
use tapster::session::HandshakeError;
use tapster::{ConnectFailure, Error, TlsErrorKind};
use tempfile::TempDir;

/// The name of every server here; with `hostaddr` it is not looked up.
const HOST: &str = "db1.example";
const MODES: [&str; 6] = ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"];

/// The files of a user, who has nothing in `~/.postgresql` to begin with.
struct Home(TempDir);

impl Home {
    fn new() -> Self {
        let home = Self(tempfile::tempdir().unwrap());
        fs::create_dir(home.0.path().join(".postgresql")).unwrap();
        home
    }

    /// Writes a file of `~/.postgresql`.
    fn put(&self, name: &str, contents: &[u8]) -> String {
        let path = self.0.path().join(".postgresql").join(name);
        fs::write(&path, contents).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path.display().to_string()
    }

    fn put_identity(&self, identity: &Identity) {
        self.put("postgresql.crt", &identity.certificate);
        self.put("postgresql.key", &identity.key);
    }

    /// The outcome of connecting: `plain`, `tls`, or the kind of failure.
    fn outcome(&self, cluster: &Cluster, options: &str) -> String {
        self.outcome_at(cluster.port(), options)
    }

    fn outcome_at(&self, port: u16, options: &str) -> String {
        match self.connect_at(port, options, ask_for_tls) {
            Ok(true) => "tls".into(),
            Ok(false) => "plain".into(),
            Err(Error::Connect(attempts)) => match &attempts.last().unwrap().failure {
                ConnectFailure::Tls(error) => format!("{:?}", error.kind()),
                ConnectFailure::Handshake(HandshakeError::TlsRefused) => "TlsRefused".into(),
                ConnectFailure::Handshake(HandshakeError::Server(error)) => error.sqlstate.to_string(),
                other => other.to_string(),
            },
            Err(other) => other.to_string(),
        }
    }

    /// The outcome with each mode; libpq's is compared, once, with the server of its own version.
    fn outcomes(&self, cluster: &Cluster, options: &str) -> [String; 6] {
        MODES.map(|mode| {
            let options = format!("sslmode={mode} {options}");
            let outcome = self.outcome(cluster, &options);
            if cluster.major() != servers::packaged().major {
                return outcome;
            }
            let libpqs = match self.psql(cluster, &options).as_deref() {
                Ok("t") => "tls",
                Ok(_) => "plain",
                Err(_) => "a failure",
            };
            let ours = if matches!(&*outcome, "tls" | "plain") { &outcome } else { "a failure" };
            assert_eq!(ours, libpqs, "{options}");
            outcome
        })
    }

    /// Whether psql's session is encrypted, or why psql could not connect.
    fn psql(&self, cluster: &Cluster, options: &str) -> Result<String, String> {
        let mut command = Command::new(servers::packaged().bin.join("psql"));
        clean_environment(&mut command).env("HOME", self.0.path()).args(["-XAtq", "-c", IS_ENCRYPTED]);
        command.args(["-d", &conninfo(cluster.port(), options)]);
        run(command, "")
    }

    /// Connects, which has to fail, and gives the message.
    fn failure(&self, cluster: &Cluster, options: &str) -> String {
        let result = self.connect(cluster, options, async |_| Ok(()));
        result.expect_err("it should have failed").to_string()
    }

    fn connect<T>(
        &self,
        cluster: &Cluster,
        options: &str,
        then: impl AsyncFnOnce(&mut Connection) -> Result<T, Error>,
    ) -> Result<T, Error> {
        self.connect_at(cluster.port(), options, then)
    }

    fn connect_at<T>(
        &self,
        port: u16,
        options: &str,
        then: impl AsyncFnOnce(&mut Connection) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let environment = Environment::empty().with_user("nobody").with_home(self.0.path());
        let conninfo: ConnInfo = conninfo(port, options).parse()?;
        let config = conninfo.resolve(&environment)?.config()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut connection = Connection::connect(&config).await?;
            let value = then(&mut connection).await?;
            connection.close().await?;
            Ok(value)
        })
    }
}

fn conninfo(port: u16, options: &str) -> String {
    format!(
        "host={HOST} hostaddr=127.0.0.1 port={port} user=repl dbname=postgres password=walrus-17 {options}"
    )
}

const IS_ENCRYPTED: &str = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";

/// Whether the server says that the session is encrypted.
async fn ask_for_tls(connection: &mut Connection) -> Result<bool, Error> {
    let sets = connection.simple_query(IS_ENCRYPTED).await?;
    let is_encrypted = sets[0].row(0).unwrap().text(0)? == "t";
    assert_eq!(connection.is_encrypted(), is_encrypted);
    Ok(is_encrypted)
}

fn with_tls(server: &Server, identity: &Identity) -> Builder {
    Cluster::builder(server)
        .setting("ssl", "on")
        .file("server.crt", &identity.certificate)
        .file("server.key", &identity.key)
}

#[test]
fn without_tls_only_the_modes_that_require_it_fail() {
    servers::for_each(|server| {
        let cluster = Cluster::builder(server).start();
        let outcomes = Home::new().outcomes(&cluster, "");
        assert_eq!(outcomes, ["plain", "plain", "plain", "TlsRefused", "TlsRefused", "TlsRefused"]);
        let message = Home::new().failure(&cluster, "sslmode=require");
        assert!(message.ends_with("failed: server does not support SSL, but SSL was required"), "{message}");
    });
}

#[test]
fn a_self_signed_server_is_trusted_where_its_certificate_is_the_root() {
    let identity = Identity::self_signed(HOST, Key::Rsa);
    servers::for_each(|server| {
        let cluster = with_tls(server, &identity).start();
        let home = Home::new();
        let outcomes = home.outcomes(&cluster, "");
        assert_eq!(outcomes, ["plain", "plain", "tls", "tls", "File", "File"]);
        home.put("root.crt", &identity.certificate);
        assert_eq!(home.outcomes(&cluster, ""), ["plain", "plain", "tls", "tls", "tls", "tls"]);
    });
}

#[test]
fn a_server_with_nothing_in_common_is_told_what_tapster_speaks() {
    let identity = Identity::self_signed(HOST, Key::Rsa);
    let home = Home::new();
    for (name, value) in [("ssl_ecdh_curve", "secp521r1"), ("ssl_ciphers", "AES256-SHA256")] {
        let mut builder = with_tls(&servers::packaged(), &identity).setting(name, value);
        if name == "ssl_ciphers" {
            builder = builder.setting("ssl_max_protocol_version", "TLSv1.2");
        }
        let cluster = builder.start();
        assert_eq!(home.outcome(&cluster, "sslmode=require"), "NothingInCommon", "{value}");
        let message = home.failure(&cluster, "sslmode=require");
        assert!(message.contains("tapster speaks TLS 1.2 and 1.3, with ECDHE"), "{message}");
        // psql has TLS here, so this must not happen in silence.
        assert_eq!(home.outcome(&cluster, "sslmode=prefer"), "plain");
        #[cfg(feature = "cli")]
        {
            let conninfo = format!("{} sslmode=prefer", cluster.conninfo("postgres"));
            let shown = support::Program::tapster().args(&["show", "is_in_recovery", "-d", &conninfo]).run();
            let text = String::from_utf8_lossy(&shown.stderr).into_owned();
            assert!(text.contains("going on without encryption, as sslmode allows"), "{text}");
            let conninfo = format!("{} sslmode=require", cluster.conninfo("postgres"));
            let shown = support::Program::tapster().args(&["show", "is_in_recovery", "-d", &conninfo]).run();
            assert_eq!(shown.status.code(), Some(4), "{shown:?}");
        }
    }
}

#[test]
fn certificates_are_read_under_every_label_that_openssl_knows() {
    let identity = Identity::self_signed(HOST, Key::P256);
    let cluster = with_tls(&servers::packaged(), &identity).start();
    let home = Home::new();
    let text = String::from_utf8(identity.certificate.clone()).unwrap();
    let old = text.replace(" CERTIFICATE-----", " X509 CERTIFICATE-----");
    let trusted = convert(&identity.certificate, &["x509", "-trustout"]);
    let named = convert(&identity.certificate, &["x509", "-trustout", "-setalias", "mine"]);
    for contents in [
        [b"\xef\xbb\xbf", text.as_bytes()].concat(),
        text.replace('\n', "\r\n").into_bytes(),
        format!("Issuer: x\n{text}after").into_bytes(),
        old.into_bytes(),
        trusted,
        named,
    ] {
        home.put("root.crt", &contents);
        let outcome = home.outcome(&cluster, "sslmode=verify-full");
        assert_eq!(outcome, "tls", "{}", String::from_utf8_lossy(&contents));
    }
    home.put("root.crt", &convert(&identity.certificate, &["x509", "-addtrust", "clientAuth"]));
    assert_eq!(home.outcome(&cluster, "sslmode=verify-full"), "File");
    let message = home.failure(&cluster, "sslmode=verify-full");
    assert!(message.contains("has trust settings, which tapster does not know"), "{message}");
}

#[test]
fn a_chain_is_verified_where_there_is_a_root_and_else_nothing_is() {
    let authority = Authority::new("right", Key::P256);
    let identity = authority.issue(Request { alternative_names: "DNS:db1.example", ..Request::new("other") });
    let wrong = Authority::new("wrong", Key::P256).certificate();
    servers::for_each(|server| {
        let cluster = with_tls(server, &identity).start();
        let home = Home::new();
        let outcomes = home.outcomes(&cluster, "");
        assert_eq!(outcomes, ["plain", "plain", "tls", "tls", "File", "File"]);

        home.put("root.crt", &authority.certificate());
        assert_eq!(home.outcomes(&cluster, ""), ["plain", "plain", "tls", "tls", "tls", "tls"]);
        let wrong_name = home.outcomes(&cluster, "host=db2.example");
        assert_eq!(wrong_name, ["plain", "plain", "tls", "tls", "tls", "WrongName"]);
        let message = home.failure(&cluster, "host=db2.example sslmode=verify-full");
        let expected = "server certificate for \"db1.example\" does not match host name \"db2.example\"";
        assert!(message.ends_with(expected), "{message}");

        // After a failed verification, `prefer` connects in the clear, as in libpq.
        let root = home.put("wrong.crt", &wrong);
        let outcomes = home.outcomes(&cluster, &format!("sslrootcert={root}"));
        assert_eq!(outcomes, ["plain", "plain", "plain", "Untrusted", "Untrusted", "Untrusted"]);
        let message = home.failure(&cluster, &format!("sslrootcert={root} sslmode=require"));
        assert!(message.ends_with("unable to get local issuer certificate"), "{message}");
    });
}

#[test]
fn an_expired_certificate_is_refused_where_the_chain_is_verified() {
    let authority = Authority::new("right", Key::P256);
    let identity = authority.issue(Request { is_expired: true, ..Request::new(HOST) });
    let version_1 = authority.issue(Request { is_expired: true, is_version_1: true, ..Request::new(HOST) });
    servers::for_each(|server| {
        let cluster = with_tls(server, &identity).start();
        let home = Home::new();
        let root = home.put("ca.crt", &authority.certificate());
        assert_eq!(home.outcomes(&cluster, ""), ["plain", "plain", "tls", "tls", "File", "File"]);
        let outcomes = home.outcomes(&cluster, &format!("sslrootcert={root}"));
        assert_eq!(outcomes, ["plain", "plain", "plain", "Untrusted", "Untrusted", "Untrusted"]);
        let message = home.failure(&cluster, &format!("sslrootcert={root} sslmode=require"));
        assert!(message.ends_with("certificate has expired"), "{message}");
    });
    let cluster = with_tls(&servers::packaged(), &version_1).start();
    let home = Home::new();
    for trusted in [authority.certificate(), version_1.certificate] {
        home.put("root.crt", &trusted);
        let message = home.failure(&cluster, "sslmode=verify-ca");
        assert!(message.ends_with("certificate has expired"), "{message}");
    }
}

#[test]
fn a_revoked_certificate_is_refused_where_its_list_is_known() {
    let authority = Authority::new("right", Key::P256);
    let identity = authority.issue(Request::new(HOST));
    let list_before = authority.revocation_list();
    authority.revoke(&identity);
    let list = authority.revocation_list();
    let others_list = Authority::new("wrong", Key::P256).revocation_list();
    servers::for_each(|server| {
        let cluster = with_tls(server, &identity).start();
        let home = Home::new();
        home.put("root.crt", &authority.certificate());
        let all_trust = ["plain", "plain", "tls", "tls", "tls", "tls"];
        let none_trusts = ["plain", "plain", "plain", "Untrusted", "Untrusted", "Untrusted"];
        assert_eq!(home.outcomes(&cluster, ""), all_trust);
        assert_eq!(home.outcomes(&cluster, "sslcrl=/nonexistent"), all_trust);

        home.put("root.crl", &list_before);
        assert_eq!(home.outcomes(&cluster, ""), all_trust);
        home.put("root.crl", &list);
        assert_eq!(home.outcomes(&cluster, ""), none_trusts);
        let message = home.failure(&cluster, "sslmode=require");
        assert!(message.ends_with("certificate revoked"), "{message}");
        // Without the list of its own authority, a certificate cannot be checked.
        home.put("root.crl", &others_list);
        assert_eq!(home.outcomes(&cluster, ""), none_trusts);
        home.put("root.crl", b"no list");
        assert_eq!(home.outcome(&cluster, "sslmode=require"), "File");

        let directory = home.0.path().join("crls");
        fs::create_dir(&directory).unwrap();
        let options = format!("sslcrldir={}", directory.display());
        assert_eq!(home.outcomes(&cluster, &options), none_trusts, "an empty directory");
        fs::write(directory.join("README"), "no list").unwrap();
        fs::write(directory.join("right.crl"), &list_before).unwrap();
        rehash(&directory);
        assert_eq!(home.outcomes(&cluster, &options), all_trust);
        fs::write(directory.join("right.crl"), &list).unwrap();
        assert_eq!(home.outcomes(&cluster, &options), none_trusts);
    });
}

#[test]
fn certificates_of_version_1_are_verified_as_openssl_does() {
    let root = Authority::new("root", Key::Rsa);
    let between = root.subordinate("between");
    let wrong = Authority::new("root", Key::Rsa).certificate();
    let version_1 = Request { is_version_1: true, ..Request::new(HOST) };
    let server = servers::packaged();
    for identity in [root.issue(version_1), between.issue(version_1)] {
        let text = String::from_utf8(convert(&identity.certificate, &["x509", "-text"])).unwrap();
        assert!(text.contains("Version: 1 "), "{text}");
        let cluster = with_tls(&server, &identity).start();
        let home = Home::new();
        home.put("root.crt", &root.certificate());
        assert_eq!(home.outcome(&cluster, "sslmode=verify-full"), "tls");
        assert_eq!(home.outcome(&cluster, "sslmode=verify-full host=db2.example"), "WrongName");
        // An authority of the same name, with another key.
        home.put("root.crt", &wrong);
        assert_eq!(home.outcome(&cluster, "sslmode=verify-ca"), "Untrusted");
        home.put("root.crt", &root.certificate());
        home.put("root.crl", &root.revocation_list());
        assert_eq!(home.outcome(&cluster, "sslmode=verify-ca"), "Untrusted");
    }
}

#[test]
fn an_ordinary_certificate_is_no_authority() {
    let root = Authority::new("root", Key::P256);
    let no_authority = root.issue(Request::new("between"));
    for is_version_1 in [false, true] {
        let forged = Authority::with(&no_authority, Key::P256, no_authority.certificate.clone())
            .issue(Request { is_version_1, ..Request::new(HOST) });
        let cluster = with_tls(&servers::packaged(), &forged).start();
        let home = Home::new();
        home.put("root.crt", &root.certificate());
        assert_eq!(home.outcome(&cluster, "sslmode=verify-full"), "Untrusted");
    }
}

#[test]
fn an_authority_vouches_by_a_common_name_only_within_its_name_constraints() {
    let root = Authority::new("root", Key::P256);
    let elsewhere = "permitted;DNS:good.example";
    for (constraints, request, outcome) in [
        (elsewhere, Request::new(HOST), "WrongName"),
        ("permitted;DNS:example", Request::new(HOST), "tls"),
        ("excluded;DNS:example", Request::new(HOST), "WrongName"),
        ("excluded;DNS:good.example", Request::new(HOST), "tls"),
        ("permitted;IP:192.0.2.0/255.255.255.0", Request::new(HOST), "tls"),
        // The alternative names are webpki's business.
        (elsewhere, Request { alternative_names: "DNS:db1.example", ..Request::new("a") }, "Untrusted"),
        (elsewhere, Request { alternative_names: "IP:192.0.2.1", ..Request::new(HOST) }, "WrongName"),
        (elsewhere, Request::new("*.example"), "WrongName"),
    ] {
        let authority = root.constrained("between", constraints);
        let below = authority.subordinate("below");
        for (issuer, trusted) in [
            (&authority, root.certificate()),
            (&below, root.certificate()),
            (&below, authority.certificate()),
        ] {
            let cluster = with_tls(&servers::packaged(), &issuer.issue(request)).start();
            let home = Home::new();
            home.put("root.crt", &trusted);
            let found = home.outcome(&cluster, "sslmode=verify-full");
            assert_eq!(found, outcome, "{constraints} {request:?}");
            let found = home.outcome(&cluster, "sslmode=verify-ca");
            let chain = if outcome == "Untrusted" { "Untrusted" } else { "tls" };
            assert_eq!(found, chain, "{constraints} {request:?}");
        }
    }
}

#[test]
fn intermediate_certificates_come_from_the_server() {
    let root = Authority::new("root", Key::P384);
    let identity = root.subordinate("between").issue(Request::new(HOST));
    let cluster = with_tls(&servers::packaged(), &identity).start();
    let home = Home::new();
    home.put("root.crt", &root.certificate());
    assert_eq!(home.outcome(&cluster, "sslmode=verify-full"), "tls");
}

#[test]
fn allow_uses_tls_only_where_it_has_to() {
    let identity = Identity::self_signed(HOST, Key::P256);
    let cluster = with_tls(&servers::packaged(), &identity)
        .hba("hostssl all all 127.0.0.1/32 trust")
        .hba("host all all 127.0.0.1/32 reject")
        .start();
    let home = Home::new();
    assert_eq!(home.outcomes(&cluster, ""), ["28000", "tls", "tls", "tls", "File", "File"]);
}

#[test]
fn the_refusal_of_a_server_without_tls_is_reported() {
    let cluster = Cluster::builder(&servers::packaged()).auth(Auth::Scram).start();
    let home = Home::new();
    for mode in ["disable", "allow", "prefer"] {
        let options = format!("sslmode={mode} password=wrong");
        assert_eq!(home.outcome(&cluster, &options), "28P01");
        assert_eq!(home.failure(&cluster, &options).lines().count(), 1);
    }
}

#[test]
fn prefer_goes_on_in_clear_where_the_server_refuses_tls_sessions() {
    let identity = Identity::self_signed(HOST, Key::P256);
    let cluster = with_tls(&servers::packaged(), &identity)
        .hba("hostnossl all all 127.0.0.1/32 trust")
        .hba("host all all 127.0.0.1/32 reject")
        .start();
    let home = Home::new();
    assert_eq!(home.outcomes(&cluster, ""), ["plain", "plain", "plain", "28000", "File", "File"]);
    let refused_twice = home.failure(&cluster, "sslmode=prefer user=nobody dbname=nothing");
    assert_eq!(refused_twice.lines().count(), 2, "{refused_twice}");
}

#[test]
fn unix_sockets_have_no_tls_whatever_the_mode() {
    let identity = Identity::self_signed(HOST, Key::P256);
    let cluster = with_tls(&servers::packaged(), &identity).start();
    let options = format!("host={} hostaddr=''", cluster.socket_dir().display());
    assert_eq!(Home::new().outcomes(&cluster, &options), ["plain"; 6]);
}

#[test]
fn client_certificates_are_sent_to_servers_that_ask() {
    let authority = Authority::new("clients", Key::P256);
    let identity = authority.issue(Request::new(HOST));
    let (client, stranger) =
        (authority.issue(Request::new("repl")), Identity::self_signed("repl", Key::P256));
    servers::for_each(|server| {
        let verify = if server.major < 12 { "clientcert=1" } else { "clientcert=verify-ca" };
        let cluster = with_tls(server, &identity)
            .setting("ssl_ca_file", "clients.crt")
            .file("clients.crt", &authority.certificate())
            .hba(&format!("hostssl all all 127.0.0.1/32 trust {verify}"))
            .hba("host all all 127.0.0.1/32 reject")
            .start();
        let home = Home::new();
        home.put("root.crt", &authority.certificate());
        assert_eq!(home.outcomes(&cluster, ""), ["28000"; 6], "without one");
        home.put_identity(&client);
        assert_eq!(home.outcomes(&cluster, ""), ["28000", "tls", "tls", "tls", "tls", "tls"]);
        let certificate_mode = |mode| home.outcome(&cluster, &format!("sslmode=require sslcertmode={mode}"));
        assert_eq!(certificate_mode("require"), "tls");
        assert_eq!(certificate_mode("disable"), "28000");
        home.put_identity(&stranger);
        assert_eq!(home.outcome(&cluster, "sslmode=require"), "ClientCertificate");
        let tls_1_2 = "sslmode=require ssl_max_protocol_version=TLSv1.2";
        assert_eq!(home.outcome(&cluster, tls_1_2), "ClientCertificate");
    });
}

#[test]
fn a_required_client_certificate_has_to_be_requested() {
    let authority = Authority::new("clients", Key::P256);
    let (identity, client) = (authority.issue(Request::new(HOST)), authority.issue(Request::new("repl")));
    let message = |cluster: &Cluster, home: &Home| home.failure(cluster, "sslcertmode=require");

    let home = Home::new();
    home.put_identity(&client);
    for cluster in
        [Cluster::builder(&servers::packaged()).start(), with_tls(&servers::packaged(), &identity).start()]
    {
        let message = message(&cluster, &home);
        assert!(message.ends_with("server did not request an SSL certificate"), "{message}");
    }
    let asking = with_tls(&servers::packaged(), &identity)
        .setting("ssl_ca_file", "clients.crt")
        .file("clients.crt", &authority.certificate())
        .start();
    assert_eq!(home.outcome(&asking, "sslmode=require sslcertmode=require"), "tls");
    let message = Home::new().failure(&asking, "sslmode=require sslcertmode=require");
    assert!(message.ends_with("server accepted connection without a valid SSL certificate"), "{message}");
}

#[test]
fn private_keys_of_every_form_are_read() {
    let authority = Authority::new("clients", Key::P256);
    let server = authority.issue(Request::new(HOST));
    let cluster = with_tls(&servers::packaged(), &server)
        .setting("ssl_ca_file", "clients.crt")
        .file("clients.crt", &authority.certificate())
        .hba("hostssl all all 127.0.0.1/32 trust clientcert=verify-ca")
        .start();
    let home = Home::new();
    let ec = authority.issue(Request::new("repl"));
    let rsa = authority.issue(Request { key: Key::Rsa, ..Request::new("repl") });
    let ed25519 = authority.issue(Request { key: Key::Ed25519, ..Request::new("repl") });
    let version_1 = authority.issue(Request { is_version_1: true, ..Request::new("repl") });
    let connects = |identity: &Identity, key: &[u8], options: &str| {
        home.put("postgresql.crt", &identity.certificate);
        home.put("postgresql.key", key);
        home.outcome(&cluster, &format!("sslmode=require sslcertmode=require {options}"))
    };
    for identity in [&ec, &rsa, &ed25519, &version_1] {
        assert_eq!(connects(identity, &identity.key, ""), "tls");
    }
    for (identity, form) in [
        (&ec, &["ec"][..]),
        (&ec, &["ec", "-outform", "DER"]),
        (&ec, &["pkcs8", "-topk8", "-nocrypt", "-outform", "DER"]),
        (&rsa, &["rsa", "-traditional"]),
        (&rsa, &["rsa", "-traditional", "-outform", "DER"]),
        (&rsa, &["pkcs8", "-topk8", "-nocrypt", "-outform", "DER"]),
    ] {
        assert_eq!(connects(identity, &convert(&identity.key, form), ""), "tls", "{form:?}");
    }
    for (identity, form) in [
        (&ec, &["pkcs8", "-topk8", "-passout", "pass:s3cret"][..]),
        (&ec, &["pkcs8", "-topk8", "-passout", "pass:s3cret", "-outform", "DER"]),
        (&ec, &["pkcs8", "-topk8", "-passout", "pass:s3cret", "-v2", "aes-128-cbc"]),
        (
            &ec,
            &["pkcs8", "-topk8", "-passout", "pass:s3cret", "-v2", "aes-192-cbc", "-v2prf", "hmacWithSHA512"],
        ),
        (&ec, &["pkcs8", "-topk8", "-passout", "pass:s3cret", "-v2prf", "hmacWithSHA1"]),
        (&ec, &["ec", "-aes256", "-passout", "pass:s3cret"]),
        (&rsa, &["rsa", "-traditional", "-aes256", "-passout", "pass:s3cret"]),
        (&rsa, &["rsa", "-traditional", "-aes192", "-passout", "pass:s3cret"]),
        (&rsa, &["rsa", "-traditional", "-aes128", "-passout", "pass:s3cret"]),
        (&rsa, &["rsa", "-aes256", "-passout", "pass:s3cret"]),
    ] {
        let key = convert(&identity.key, form);
        assert_eq!(connects(identity, &key, "sslpassword=s3cret"), "tls", "{form:?}");
        let message = |options| home.failure(&cluster, &format!("sslmode=require {options}"));
        let without = message("");
        assert!(without.ends_with("it is encrypted, and sslpassword is not set"), "{form:?}: {without}");
        let wrong = message("sslpassword=wr0ng");
        assert!(wrong.contains("could not load private key file"), "{form:?}: {wrong}");
        assert!(!wrong.contains("wr0ng"), "{wrong}");
    }
    let old = convert(&ec.key, &["pkcs8", "-topk8", "-passout", "pass:s3cret", "-v2", "des3"]);
    assert_eq!(connects(&ec, &old, "sslpassword=s3cret"), "File");
    let message = home.failure(&cluster, "sslmode=require sslpassword=s3cret");
    assert!(message.ends_with("it is not encrypted with PBKDF2 and AES in CBC mode"), "{message}");
}

#[test]
fn key_files_are_refused_with_libpqs_messages() {
    let identity = Identity::self_signed(HOST, Key::P256);
    let cluster = with_tls(&servers::packaged(), &identity).start();
    let home = Home::new();
    let failure = |options: &str| home.failure(&cluster, &format!("sslmode=require {options}"));
    let ends = |message: String, end: &str| assert!(message.ends_with(end), "{message}");

    home.put("postgresql.crt", &identity.certificate);
    let key = home.0.path().join(".postgresql/postgresql.key");
    let shown = key.display();
    ends(failure(""), &format!("certificate present, but not private key file \"{shown}\""));
    fs::create_dir(&key).unwrap();
    ends(failure(""), &format!("private key file \"{shown}\" is not a regular file"));
    fs::remove_dir(&key).unwrap();
    home.put("postgresql.key", &identity.key);
    assert_eq!(home.outcome(&cluster, "sslmode=require"), "tls");

    let access = format!(
        "private key file \"{shown}\" has group or world access; file must have permissions u=rw (0600) or \
         less if owned by the current user, or permissions u=rw,g=r (0640) or less if owned by root"
    );
    for mode in [0o604, 0o620, 0o610, 0o601] {
        fs::set_permissions(&key, fs::Permissions::from_mode(mode)).unwrap();
        ends(failure(""), &access);
    }
    fs::set_permissions(&key, fs::Permissions::from_mode(0o640)).unwrap();
    match is_owned_by_root(&key) {
        true => assert_eq!(home.outcome(&cluster, "sslmode=require"), "tls"),
        false => ends(failure(""), &access),
    }

    home.put("postgresql.key", &Identity::self_signed(HOST, Key::P256).key);
    ends(failure(""), &format!("certificate does not match private key file \"{shown}\""));
    home.put("postgresql.key", b"no key");
    assert!(failure("").contains(&format!("could not load private key file \"{shown}\": ")));
    home.put("postgresql.crt", b"no certificate");
    assert!(failure("").contains("could not read certificate file"));
    // The client does not even open the file.
    assert_eq!(home.outcome(&cluster, "sslmode=require sslcertmode=disable"), "tls");
    assert_eq!(home.outcome(&cluster, "sslmode=require sslcert=/nonexistent"), "tls");
}

fn is_owned_by_root(path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    fs::metadata(path).unwrap().uid() == 0
}

#[test]
fn channels_are_bound_with_every_kind_of_certificate() {
    let identities = [
        Identity::self_signed(HOST, Key::Rsa),
        Identity::self_signed(HOST, Key::RsaPss),
        Identity::self_signed(HOST, Key::P256),
        Authority::new("P-384", Key::P384).issue(Request::new(HOST)),
        Authority::new("RSA-PSS", Key::RsaPss).issue(Request { key: Key::Rsa, ..Request::new(HOST) }),
        Authority::new("RSA", Key::Rsa).issue(Request { key: Key::P256, ..Request::new(HOST) }),
    ];
    servers::for_each(|server| {
        if server.major < 11 {
            return;
        }
        let cluster = with_tls(server, &identities[0]).auth(Auth::Scram).start();
        let home = Home::new();
        for identity in &identities {
            cluster.write_file("server.crt", &identity.certificate);
            cluster.write_file("server.key", &identity.key);
            cluster.restart();
            let bound = async |connection: &mut Connection| Ok(connection.session().channel_bound);
            for binding in ["require", "prefer"] {
                let options = format!("sslmode=require channel_binding={binding}");
                assert!(home.connect(&cluster, &options, bound).unwrap());
            }
            assert!(!home.connect(&cluster, "sslmode=require channel_binding=disable", bound).unwrap());
            let message = home.failure(&cluster, "sslmode=disable channel_binding=require");
            assert!(message.ends_with("channel binding required, but SSL not in use"), "{message}");
        }
    });
}

#[test]
fn a_chain_of_keys_for_rsa_pss_is_verified() {
    let authority = Authority::new("RSA-PSS", Key::RsaPss);
    let identity = authority.issue(Request { key: Key::RsaPss, ..Request::new(HOST) });
    let cluster = with_tls(&servers::packaged(), &identity).start();
    let home = Home::new();
    home.put("root.crt", &authority.certificate());
    assert_eq!(home.outcome(&cluster, "sslmode=verify-full"), "tls");
    home.put("root.crt", &Authority::new("RSA-PSS", Key::RsaPss).certificate());
    assert_eq!(home.outcome(&cluster, "sslmode=verify-full"), "Untrusted");
}

#[test]
fn a_certificate_without_a_hash_function_cannot_be_bound() {
    let identity = Identity::self_signed(HOST, Key::Ed25519);
    let cluster = with_tls(&servers::packaged(), &identity).auth(Auth::Scram).start();
    let home = Home::new();
    let message = home.failure(&cluster, "sslmode=require channel_binding=require");
    assert!(message.ends_with("signature algorithm names no hash"), "{message}");
}

#[test]
fn versions_of_tls_can_be_bounded() {
    let identity = Identity::self_signed(HOST, Key::P256);
    let cluster = with_tls(&servers::packaged(), &identity).start();
    let old =
        with_tls(&servers::packaged(), &identity).setting("ssl_max_protocol_version", "TLSv1.2").start();
    let home = Home::new();
    let version = async |connection: &mut Connection| {
        let query = "SELECT version FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
        let sets = connection.simple_query(query).await?;
        Ok(sets[0].row(0).unwrap().text(0)?.to_owned())
    };
    for (cluster, options, expected) in [
        (&cluster, "", "TLSv1.3"),
        (&cluster, "ssl_max_protocol_version=TLSv1.2", "TLSv1.2"),
        (&cluster, "ssl_min_protocol_version=TLSv1.3", "TLSv1.3"),
        (&old, "", "TLSv1.2"),
    ] {
        let got = home.connect(cluster, &format!("sslmode=require {options}"), version).unwrap();
        assert_eq!(got, expected, "{options}");
    }
    assert_eq!(home.outcome(&old, "sslmode=require ssl_min_protocol_version=TLSv1.3"), "NothingInCommon");
}

#[test]
fn direct_tls_begins_without_a_request() {
    let identity = Identity::self_signed(HOST, Key::P256);
    servers::for_each(|server| {
        let cluster = with_tls(server, &identity).auth(Auth::Scram).start();
        let home = Home::new();
        home.put("root.crt", &identity.certificate);
        let expected = if server.major < 17 { "Protocol" } else { "tls" };
        for mode in ["require", "verify-full"] {
            let options = format!("sslnegotiation=direct sslmode={mode}");
            assert_eq!(home.outcome(&cluster, &options), expected);
        }
    });
}

#[test]
fn the_keys_of_a_session_are_logged_on_request() {
    let identity = Identity::self_signed(HOST, Key::P256);
    let cluster = with_tls(&servers::packaged(), &identity).start();
    let home = Home::new();
    let file = home.0.path().join("keys");
    let options = format!("sslmode=require sslkeylogfile={}", file.display());
    assert_eq!(home.outcome(&cluster, &options), "tls");
    let text = fs::read_to_string(&file).unwrap();
    let secret = text.lines().find(|line| line.starts_with("CLIENT_TRAFFIC_SECRET_0 ")).unwrap();
    let lengths: Vec<_> = secret.split(' ').map(str::len).collect();
    assert!(lengths[1] == 64 && lengths[2] >= 64, "{secret}");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);

    // As in libpq 18, a file that cannot be written only causes a warning.
    assert_eq!(home.outcome(&cluster, "sslmode=require sslkeylogfile=/no/such/directory/keys"), "tls");
}

#[test]
fn the_systems_certificates_are_those_that_openssl_would_use() {
    // The variable is read from the environment of the process, so this test runs itself with it.
    if let Ok(port) = std::env::var("TAPSTER_TEST_PORT") {
        let home = Home::new();
        println!("outcome: {}", home.outcome_at(port.parse().unwrap(), "sslrootcert=system"));
        return;
    }
    let authority = Authority::new("system", Key::P256);
    let cluster = with_tls(&servers::packaged(), &authority.issue(Request::new(HOST))).start();
    let home = Home::new();
    let certificates = home.put("system.crt", &authority.certificate());
    for (file, outcome) in [(certificates.as_str(), "tls"), ("/dev/null", "File")] {
        let mut command = Command::new(std::env::current_exe().unwrap());
        clean_environment(&mut command)
            .args(["--exact", "the_systems_certificates_are_those_that_openssl_would_use", "--nocapture"])
            .env("TAPSTER_TEST_PORT", cluster.port().to_string())
            .env("SSL_CERT_FILE", file)
            .env("SSL_CERT_DIR", "/nonexistent");
        let said = run(command, "").unwrap();
        assert!(said.contains(&format!("outcome: {outcome}")), "{said}");
    }
}

#[test]
fn failures_of_verification_are_failures_of_authentication() {
    let identity = Identity::self_signed(HOST, Key::P256);
    let cluster = with_tls(&servers::packaged(), &identity).start();
    let home = Home::new();
    home.put("root.crt", &Authority::new("wrong", Key::P256).certificate());
    let error = home.connect(&cluster, "sslmode=verify-full", async |_| Ok(())).unwrap_err();
    assert!(error.is_authentication());
    let Error::Connect(attempts) = &error else { panic!("{error}") };
    let [attempt] = &attempts[..] else { panic!("{error}") };
    assert!(
        matches!(&attempt.failure, ConnectFailure::Tls(error) if error.kind() == TlsErrorKind::Untrusted)
    );
}
