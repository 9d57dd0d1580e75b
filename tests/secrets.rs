//! Secrets are never shown. The tests run logins of every kind, good and bad, and search every text that
//! results for the password, the keys derived from it, the proofs made with them, and the session's own key.
#![cfg(feature = "cli")]

mod support;

use core::error::Error as _;
use core::fmt::Debug;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Mutex;

use base64ct::{Base64, Encoding as _};
use support::certificates::{Authority, Identity, Key, Request, convert};
use support::client::block_on;
use support::proxy::Proxy;
use support::{Cluster, Program, servers};
use tapster::client::{Connection, Connector};
use tapster::conninfo::{ConnInfo, Environment};
use tempfile::TempDir;

const HOST: &str = "db1.example";
const PASSWORD: &str = "Wa!rus-17-of-the-tests";
const WRONG: &str = "0ther-than-the-password";
const KEY_PASSWORD: &str = "m0ther-of-pearl";
const WRONG_KEY_PASSWORD: &str = "d0ther-of-pearl";

/// Everything that the library logs, at every level.
static LOGGED: Mutex<String> = Mutex::new(String::new());

struct Logger;

impl log::Log for Logger {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        *LOGGED.lock().unwrap() += &format!("{} {}\n", record.target(), record.args());
    }

    fn flush(&self) {}
}

/// Secrets, in every form in which a text might contain them.
#[derive(Default)]
struct Secrets {
    needles: Vec<(String, String)>,
}

impl Secrets {
    /// Adds a secret that is text.
    fn text(&mut self, name: &str, text: &str) {
        self.needles.push((name.into(), text.into()));
        self.bytes(name, text.as_bytes());
    }

    /// Adds a secret that is bytes: in hexadecimal, in base64, and as `Debug` shows it.
    fn bytes(&mut self, name: &str, bytes: &[u8]) {
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let list: Vec<_> = bytes.iter().map(u8::to_string).collect();
        let base64 = Base64::encode_string(bytes);
        for needle in [hex.to_uppercase(), hex, base64.trim_end_matches('=').into(), list.join(",")] {
            self.needles.push((name.into(), needle));
        }
    }

    /// Adds the result of PBKDF2 for the password, and the keys derived from it.
    fn derived(&mut self, password: &str, verifier: &str) {
        let (iterations, salt) = verifier
            .strip_prefix("SCRAM-SHA-256$")
            .and_then(|rest| rest.split_once('$'))
            .unwrap()
            .0
            .split_once(':')
            .unwrap();
        let (salt, iterations) = (Base64::decode_vec(salt).unwrap(), iterations.parse().unwrap());
        let mut salted = [0; 32];
        ring::pbkdf2::derive(
            ring::pbkdf2::PBKDF2_HMAC_SHA256,
            iterations,
            &salt,
            password.as_bytes(),
            &mut salted,
        );
        self.bytes("the salted password", &salted);
        let [client_key, server_key] = keys(&salted);
        self.bytes("the client key", &client_key);
        self.bytes("the server key", &server_key);
        self.bytes("the stored key", ring::digest::digest(&ring::digest::SHA256, &client_key).as_ref());
    }

    /// Adds the proofs that clients have sent.
    fn proofs(&mut self, said: &[Vec<u8>]) {
        let before = self.needles.len();
        for said in said {
            let text = String::from_utf8_lossy(said);
            if let Some((_, proof)) = text.split_once(",p=") {
                self.bytes("a proof", &Base64::decode_vec(&proof[..44]).unwrap());
            }
            if let Some(at) = text.find("(md5").map(|at| at + 1) {
                self.needles.push(("an MD5 response".into(), text[at..at + 35].into()));
            }
        }
        assert!(self.needles.len() > before, "no client has sent a proof");
    }

    #[track_caller]
    fn are_not_in(&self, what: &str, text: &str) {
        // `{:#?}` puts every byte on its own line.
        let packed: String = text.split_whitespace().collect();
        for (name, needle) in &self.needles {
            assert!(
                !text.contains(needle) && !packed.contains(needle),
                "{what} shows {name} ({needle}):\n{text}"
            );
        }
    }
}

/// `ClientKey` and `ServerKey` of RFC 5802.
fn keys(salted: &[u8]) -> [Vec<u8>; 2] {
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, salted);
    ["Client Key", "Server Key"].map(|label| ring::hmac::sign(&key, label.as_bytes()).as_ref().to_vec())
}

/// A server that asks each role for another kind of authentication.
fn cluster(authority: &Authority) -> Cluster {
    let server = authority.issue(Request::new(HOST));
    let mut builder = Cluster::builder(&servers::packaged())
        .setting("ssl", "on")
        .file("server.crt", &server.certificate)
        .file("server.key", &server.key)
        .setting("ssl_ca_file", "clients.crt")
        .file("clients.crt", &authority.certificate())
        .hba("hostssl all,replication by_cert 127.0.0.1/32 trust clientcert=verify-ca");
    for (role, method) in [("by_password", "password"), ("by_md5", "md5"), ("by_scram", "scram-sha-256")] {
        builder = builder.hba(&format!("host all,replication {role} 127.0.0.1/32 {method}"));
    }
    let cluster = builder.start();
    for (role, stored) in [
        ("by_password", "scram-sha-256"),
        ("by_md5", "md5"),
        ("by_scram", "scram-sha-256"),
        ("by_cert", "md5"),
    ] {
        let role = format!("CREATE ROLE {role} LOGIN REPLICATION PASSWORD '{PASSWORD}'");
        cluster.sql(&format!("SET password_encryption = '{stored}'; {role}")).unwrap();
    }
    cluster
}

/// The home directory of a user with a client certificate, password files and a service file.
fn home(client: &Identity, port: u16) -> TempDir {
    let home = tempfile::tempdir().unwrap();
    fs::create_dir(home.path().join(".postgresql")).unwrap();
    let encryption = ["pkcs8", "-topk8", "-passout", &format!("pass:{KEY_PASSWORD}")];
    let service = format!("[db1]\nhost=127.0.0.1\nport={port}\nuser=by_scram\npassword={PASSWORD}\n");
    for (name, contents) in [
        (".postgresql/postgresql.crt", client.certificate.clone()),
        (".postgresql/postgresql.key", convert(&client.key, &encryption)),
        ("right", format!("*:*:*:*:{PASSWORD}\n").into()),
        ("wrong", format!("*:*:*:*:{WRONG}\n").into()),
        (".pg_service.conf", service.into()),
    ] {
        let path = home.path().join(name);
        fs::write(&path, contents).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    }
    home
}

/// Connection strings, and whether each leads to a session. `clear` is the port of a proxy that records
/// everything sent in clear text.
fn logins(port: u16, clear: u16, home: &TempDir, keys: &[String; 2]) -> Vec<(String, bool)> {
    let base = |role: &str, port: u16| format!("host=127.0.0.1 port={port} user={role} dbname=postgres");
    let mut logins = Vec::new();
    for (password, is_right) in [(PASSWORD, true), (WRONG, false)] {
        for role in ["by_password", "by_md5", "by_scram"] {
            logins.push((format!("{} sslmode=disable password={password}", base(role, clear)), is_right));
            logins.push((format!("{} sslmode=prefer password={password}", base(role, port)), is_right));
        }
        let plus = format!(
            "{} channel_binding=require sslcertmode=disable password={password}",
            base("by_scram", port)
        );
        logins.push((format!("{plus} sslmode=require"), is_right));
        let file = home.path().join(if is_right { "right" } else { "wrong" });
        logins.push((
            format!("{} sslmode=disable passfile={}", base("by_scram", clear), file.display()),
            is_right,
        ));
        let uri = format!("by_scram:{password}@127.0.0.1:{clear}/postgres?sslmode=disable");
        logins.push((format!("postgresql://{uri}"), is_right));
        // Strings that cannot be parsed: with an unencoded `@` or `&`, a bad escape, or a missing quote.
        logins.push((format!("postgresql://by_scram:{password}@x@127.0.0.1:{port}/postgres"), false));
        logins.push((format!("postgresql://127.0.0.1:{port}/postgres?password=x&{password}"), false));
        logins.push((format!("postgresql://by_scram:%zz{password}@127.0.0.1:{port}/postgres"), false));
        logins.push((format!("{} password='{password}", base("by_scram", port)), false));
        // Values that are invalid.
        logins.push((format!("{} password={password} sslmode=maybe", base("by_scram", port)), false));
        logins.push((format!("{} password={password} port=x", base("by_scram", port)), false));
    }
    logins.push((format!("service=db1 dbname=postgres sslmode=disable port={clear}"), true));
    let [client_key, server_key] = keys;
    let by_keys = |client: &str, server: &str| {
        let base = base("by_scram", clear);
        format!("{base} sslmode=disable scram_client_key={client} scram_server_key={server}")
    };
    logins.push((by_keys(client_key, server_key), true));
    logins.push((by_keys(client_key, client_key), false));
    logins.push((by_keys(server_key, server_key), false));
    logins.push((by_keys(&client_key[..40], server_key), false));
    for (password, is_right) in [(KEY_PASSWORD, true), (WRONG_KEY_PASSWORD, false)] {
        logins.push((format!("{} sslmode=require sslpassword={password}", base("by_cert", port)), is_right));
    }
    logins
}

/// A value as both forms of `Debug` show it.
fn shown(value: impl Debug) -> String {
    format!("{value:?}\n{value:#?}\n")
}

/// An error and its causes, as `Display` and `Debug` show them.
fn shown_error(error: &dyn core::error::Error) -> String {
    let mut text = format!("{error}\n{error:?}\n{error:#?}\n");
    let mut source = error.source();
    while let Some(cause) = source {
        text += &format!("{cause}\n{cause:?}\n");
        source = cause.source();
    }
    text
}

/// Connects twice with the library. Returns whether both logins succeeded, and every text that resulted.
async fn log_in(conninfo: &str, environment: &Environment, secrets: &mut Secrets) -> (bool, String) {
    let conninfo: ConnInfo = match conninfo.parse() {
        Ok(conninfo) => conninfo,
        Err(error) => return (false, shown_error(&error)),
    };
    let mut text = format!("{conninfo}\n{}", shown(&conninfo));
    let resolved = conninfo.resolve(environment).unwrap();
    text += &shown(&resolved);
    for parameter in resolved.iter() {
        text += &format!("{} {}\n", parameter.shown(), parameter.source());
    }
    let config = match resolved.config() {
        Ok(config) => config,
        Err(error) => return (false, text + &shown_error(&error)),
    };
    text += &shown(&config);
    let connector = Connector::new(config);
    // The second login already has the derived keys.
    for _ in 0..2 {
        let outcome: Result<Connection, _> = connector.connect().await;
        text += &shown(&connector);
        let mut connection = match outcome {
            Ok(connection) => connection,
            Err(error) => {
                assert!(
                    error.source().is_none(),
                    "`Display` of the error already shows the causes of each attempt"
                );
                let tapster::Error::Connect(attempts) = &error else { panic!("{error:?}") };
                text += &shown_error(&error);
                for attempt in attempts {
                    text += &format!("{attempt}\n{}", shown(attempt));
                }
                return (false, text);
            }
        };
        secrets.bytes("the session's key", &connection.cancel_key().unwrap().secret_key);
        let token = connection.cancel_token().unwrap();
        token.cancel().await.unwrap();
        let error = connection.simple_query("SELECT 1/0").await.unwrap_err();
        text += &(shown_error(&error) + &shown(connection.session()) + &shown(&connection) + &shown(&token));
        connection.close().await.unwrap();
    }
    (true, text)
}

#[test]
fn no_text_of_a_login_shows_a_secret() {
    log::set_logger(&Logger).unwrap();
    log::set_max_level(log::LevelFilter::Trace);
    let authority = Authority::new("clients", Key::P256);
    let cluster = cluster(&authority);
    let proxy = Proxy::start(cluster.port(), usize::MAX);
    let home = home(&authority.issue(Request::new("by_cert")), cluster.port());

    let mut secrets = Secrets::default();
    for (name, text) in [
        ("the password", PASSWORD),
        ("a wrong password", WRONG),
        ("the key's password", KEY_PASSWORD),
        ("a wrong password of the key", WRONG_KEY_PASSWORD),
    ] {
        secrets.text(name, text);
    }
    let stored = "SELECT rolpassword FROM pg_authid WHERE rolname IN ('by_scram', 'by_password')";
    let stored = cluster.sql(stored).unwrap();
    for verifier in stored.lines() {
        secrets.derived(PASSWORD, verifier);
        secrets.derived(WRONG, verifier);
    }
    let keys = keys_of(&cluster);
    let logins = logins(cluster.port(), proxy.port(), &home, &keys);

    let environment = Environment::empty().with_user("nobody").with_home(home.path());
    let texts: Vec<_> = logins
        .iter()
        .map(|(conninfo, is_right)| {
            let (was_right, text) = block_on(log_in(conninfo, &environment, &mut secrets));
            assert_eq!(was_right, *is_right, "{conninfo}:\n{text}");
            text
        })
        .collect();
    secrets.proofs(&proxy.heard());
    for ((conninfo, _), text) in logins.iter().zip(texts) {
        secrets.are_not_in(conninfo, &text);
    }
    let logged = LOGGED.lock().unwrap();
    assert!(logged.contains("going on without encryption"), "the login is not logged:\n{logged}");
    secrets.are_not_in("the log", &logged);
}

/// The keys of the role `by_scram`, as values of the connection parameters.
fn keys_of(cluster: &Cluster) -> [String; 2] {
    let verifier = cluster.sql("SELECT rolpassword FROM pg_authid WHERE rolname = 'by_scram'").unwrap();
    let salt = verifier.split(['$', ':']).nth(2).unwrap();
    let mut salted = [0; 32];
    let iterations = 4096.try_into().unwrap();
    let salt = Base64::decode_vec(salt).unwrap();
    ring::pbkdf2::derive(
        ring::pbkdf2::PBKDF2_HMAC_SHA256,
        iterations,
        &salt,
        PASSWORD.as_bytes(),
        &mut salted,
    );
    keys(&salted).map(|key| Base64::encode_string(&key))
}

#[test]
fn no_output_of_the_program_shows_a_secret() {
    let authority = Authority::new("clients", Key::P256);
    let cluster = cluster(&authority);
    let proxy = Proxy::start(cluster.port(), usize::MAX);
    let home = home(&authority.issue(Request::new("by_cert")), cluster.port());
    let mut secrets = Secrets::default();
    for (name, text) in [
        ("the password", PASSWORD),
        ("a wrong password", WRONG),
        ("the key's password", KEY_PASSWORD),
        ("a wrong password of the key", WRONG_KEY_PASSWORD),
    ] {
        secrets.text(name, text);
    }
    let keys = keys_of(&cluster);
    for key in &keys {
        secrets.bytes("a key", &Base64::decode_vec(key).unwrap());
    }
    // The first 30 of the 32 bytes: one of the logins gives a key that is cut off there.
    secrets.needles.push(("a part of a key".into(), keys[0][..40].into()));

    let mut said = Vec::new();
    let mut run = |args: &[&str], variables: &[(&str, &str)]| {
        let program = Program::tapster().args(args).env("HOME", home.path()).env("TAPSTER_LOG", "trace");
        let program = variables.iter().fold(program, |program, (name, value)| program.env(name, value));
        let output = program.run();
        let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
        said.push((format!("{args:?} {variables:?}"), text));
        output.status.success()
    };
    for (conninfo, is_right) in logins(cluster.port(), proxy.port(), &home, &keys) {
        for format in [&[][..], &["--json"]] {
            assert_eq!(run(&[&["status", &conninfo][..], format].concat(), &[]), is_right, "{conninfo}");
            run(&[&["conninfo", &conninfo][..], format].concat(), &[]);
        }
    }
    let conninfo = |user: &str| format!("host=127.0.0.1 port={} user={user} sslmode=disable", proxy.port());
    let with_password = format!("{} password={WRONG}", conninfo("by_scram"));
    let uri = format!("postgresql://by_scram:{WRONG}@127.0.0.1:{}/postgres", proxy.port());
    let directory = home.path().to_str().unwrap();
    for command in [
        &["check", &with_password][..],
        &["show", &with_password, "--all"],
        &["slot", "ls", &with_password],
        &["receive-wal", &uri, "-D", directory, "--no-loop"],
        &["low-level-backup", &uri, "-l", "x", "--", "true"],
        &["switch-wal", "-d", &with_password],
    ] {
        for format in [&[][..], &["--json"]] {
            // Our options have to come before those of the command after `--`.
            let args = [&command[..2], format, &command[2..]].concat();
            assert!(!run(&args, &[]), "{args:?}");
        }
    }
    for (variable, value) in [("PGPASSWORD", WRONG), ("TAPSTER_DBNAME", &uri)] {
        assert!(!run(&["status", "-d", &conninfo("by_scram")], &[("PGPASSWORD", WRONG)]));
        run(&["status", "--help"], &[(variable, value)]);
        run(&["status"], &[(variable, value)]);
    }
    // An argument that the command does not expect is quoted in the error.
    for args in [
        &[uri.as_str()][..],
        &["status", "a", &uri],
        &["status", "a", &with_password],
        &["status", "host=a", &format!("password={WRONG}")],
        &["status", "-h", &uri],
        &["status", "-p", &uri],
        &["status", &format!("--host={uri}")],
        &["status", &format!("--hosts={uri}")],
        &["show", "server_version", &uri],
        &["verify", &format!("{uri}%zz"), "a"],
        &["receive-wal", "-D", directory, "-s", &uri],
    ] {
        assert!(!run(args, &[]), "{args:?}");
    }
    secrets.proofs(&proxy.heard());
    for (what, text) in &said {
        assert!(!text.is_empty(), "{what}");
        secrets.are_not_in(what, text);
    }
}
