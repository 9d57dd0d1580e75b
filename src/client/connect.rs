use core::net::SocketAddr;
use core::time::Duration;
use std::format;
use std::string::String;
use std::vec::Vec;

use zeroize::Zeroizing;

use super::connection::Connection;
use crate::auth::{AuthMethods, AuthPolicy, ChannelBindingMode, Nonce, ScramKeys};
use crate::codec::{EncodeError, ParametersBuf, ProtocolVersion};
use crate::conninfo::{self, Config, Endpoint, HostConfig, HostTarget, LoadBalanceHosts, TargetSessionAttrs};
use crate::error::{ConnectAttempt, ConnectFailure, Error};
use crate::net::{ReadBuffer, Stream, TcpOptions};
use crate::session::{Action, Encryption, Handshake, HandshakeConfig, HandshakeError, Progress, Session};
use crate::types::SqlState;

impl Connection {
    /// Connects to the first acceptable server of the configuration's list.
    ///
    /// Hosts and the addresses of each are tried in turn, each for at most `connect_timeout` from the first
    /// packet up to `ReadyForQuery`. As with libpq, a server that refuses the session ends the search, except
    /// one that is starting up or shutting down (57P03) and one that `target_session_attrs` does not want.
    ///
    /// # Errors
    /// [`Error::Connect`] with every attempt and why it failed.
    ///
    /// # Cancel safety
    /// If the future is dropped, no connection is left behind.
    pub async fn connect(config: &Config) -> Result<Self, Error> {
        let mut search = Search { config, attempts: Vec::new() };
        let passes: &[_] = match config.target_session_attrs {
            TargetSessionAttrs::PreferStandby => &[TargetSessionAttrs::Standby, TargetSessionAttrs::Any],
            ref attrs => core::slice::from_ref(attrs),
        };
        for attrs in passes {
            for host in in_order(&config.hosts, config.load_balance_hosts) {
                match search.host(host, *attrs).await {
                    Outcome::Connected(connection) => return Ok(*connection),
                    Outcome::NextHost => {}
                    Outcome::Stop => return Err(Error::Connect(search.attempts)),
                }
            }
        }
        Err(Error::Connect(search.attempts))
    }
}

/// The way through the list of servers, with what failed so far.
struct Search<'a> {
    config: &'a Config,
    attempts: Vec<ConnectAttempt>,
}

enum Outcome {
    Connected(std::boxed::Box<Connection>),
    NextHost,
    Stop,
}

/// One address of a host.
enum Address {
    Tcp(SocketAddr),
    Socket(std::path::PathBuf),
    Abstract(String),
}

impl Search<'_> {
    async fn host(&mut self, host: &HostConfig, attrs: TargetSessionAttrs) -> Outcome {
        let endpoint = match &host.endpoint {
            Ok(endpoint) => endpoint,
            Err(error) => {
                let server = format!("server \"{}\"", host.name.as_deref().unwrap_or_default());
                self.failed(server, ConnectFailure::Host(error.clone()), None);
                return match error.kind() {
                    conninfo::ConnInfoErrorKind::InvalidValue => Outcome::Stop,
                    _ => Outcome::NextHost,
                };
            }
        };
        let addresses = match addresses(endpoint, self.config.connect_timeout).await {
            Ok(addresses) => addresses,
            Err(failure) => {
                let name = host.name.as_deref().unwrap_or_default();
                let server = format!("server at \"{name}\", port {}", endpoint.port);
                self.failed(server, failure, None);
                return Outcome::NextHost;
            }
        };
        for address in in_order(&addresses, self.config.load_balance_hosts) {
            let server = server_name(host, endpoint, address);
            let attempt = attempt(self.config, host, address, &server);
            let failure = match within(self.config.connect_timeout, attempt).await {
                Ok(mut connection) => match unwanted(&mut connection, attrs).await {
                    Ok(None) => return Outcome::Connected(connection.into()),
                    Ok(Some(reason)) => {
                        self.failed(server, ConnectFailure::SessionAttributes(reason), None);
                        return Outcome::NextHost;
                    }
                    Err(error) => {
                        self.failed(server, ConnectFailure::AttributesUnknown(error.into()), None);
                        return Outcome::NextHost;
                    }
                },
                Err(failure) => failure,
            };
            let note = password_note(host, &failure);
            let next = match &failure {
                ConnectFailure::Handshake(HandshakeError::Server(error))
                    if error.sqlstate == SqlState::CANNOT_CONNECT_NOW =>
                {
                    Some(Outcome::NextHost)
                }
                ConnectFailure::Handshake(_) | ConnectFailure::Random => Some(Outcome::Stop),
                _ => None,
            };
            self.failed(server, failure, note);
            if let Some(outcome) = next {
                return outcome;
            }
        }
        Outcome::NextHost
    }

    fn failed(&mut self, server: String, failure: ConnectFailure, note: Option<String>) {
        self.attempts.push(ConnectAttempt { server, failure, note });
    }
}

/// As libpq names a server in its messages.
fn server_name(host: &HostConfig, endpoint: &Endpoint, address: &Address) -> String {
    match address {
        Address::Tcp(address) => {
            let ip = format!("{}", address.ip());
            match host.name.as_deref() {
                Some(name) if name != ip => format!("server at \"{name}\" ({ip}), port {}", endpoint.port),
                _ => format!("server at \"{ip}\", port {}", endpoint.port),
            }
        }
        Address::Socket(path) => format!("server on socket \"{}\"", path.display()),
        Address::Abstract(name) => format!("server on socket \"@{name}\""),
    }
}

/// What helps somebody whose password was refused or missing.
fn password_note(host: &HostConfig, failure: &ConnectFailure) -> Option<String> {
    match (failure, &host.password_entry) {
        (ConnectFailure::Handshake(HandshakeError::Server(error)), Some(entry))
            if error.sqlstate == SqlState::INVALID_PASSWORD =>
        {
            Some(format!("password retrieved from file \"{}\", line {}", entry.path.display(), entry.line))
        }
        _ => None,
    }
}

/// A copy of references in the order in which they are to be tried.
fn in_order<T>(items: &[T], order: LoadBalanceHosts) -> Vec<&T> {
    let mut items: Vec<&T> = items.iter().collect();
    if order == LoadBalanceHosts::Random {
        for unplaced in (2..=items.len()).rev() {
            // Without random numbers the order stays; the handshake will say why it fails.
            let random = getrandom::u64().unwrap_or_default();
            items.swap(unplaced - 1, usize::try_from(random % unplaced as u64).unwrap_or_default());
        }
    }
    items
}

async fn addresses(endpoint: &Endpoint, timeout: Option<Duration>) -> Result<Vec<Address>, ConnectFailure> {
    Ok(match &endpoint.target {
        HostTarget::Address(ip) => [Address::Tcp(SocketAddr::new(*ip, endpoint.port))].into(),
        HostTarget::Unix(_) => endpoint.socket_path().map(Address::Socket).into_iter().collect(),
        HostTarget::Abstract(name) => {
            [Address::Abstract(format!("{name}/.s.PGSQL.{}", endpoint.port))].into()
        }
        HostTarget::Tcp { host } => {
            let lookup = async {
                let found = tokio::net::lookup_host((host.as_str(), endpoint.port)).await;
                found.map_err(ConnectFailure::NameLookup)
            };
            within(timeout, lookup).await?.map(Address::Tcp).collect()
        }
    })
}

async fn within<T>(
    timeout: Option<Duration>,
    work: impl Future<Output = Result<T, ConnectFailure>>,
) -> Result<T, ConnectFailure> {
    match timeout {
        Some(limit) => tokio::time::timeout(limit, work).await.unwrap_or(Err(ConnectFailure::Timeout(limit))),
        None => work.await,
    }
}

/// One attempt at one address, from the first packet to `ReadyForQuery`.
async fn attempt(
    config: &Config,
    host: &HostConfig,
    address: &Address,
    server: &str,
) -> Result<Connection, ConnectFailure> {
    let mut stream = match address {
        Address::Tcp(address) => Stream::connect_tcp(*address, &tcp_options(config)).await,
        Address::Socket(path) => Stream::connect_unix(path).await,
        #[cfg(target_os = "linux")]
        Address::Abstract(name) => Stream::connect_abstract(name).await,
        #[cfg(not(target_os = "linux"))]
        Address::Abstract(_) => Err(std::io::ErrorKind::Unsupported.into()),
    }
    .map_err(ConnectFailure::Io)?;
    if let Some(required) = &config.require_peer {
        check_peer(&stream, required)?;
    }
    let mut random = [0; 18];
    getrandom::fill(&mut random).map_err(|_| ConnectFailure::Random)?;
    let handshake_config = handshake_config(config, host).map_err(|e| ConnectFailure::Handshake(e.into()))?;
    let mut input = ReadBuffer::new();
    let handshake = Handshake::new(handshake_config, Nonce::from_random(random));
    let session = drive(handshake, &mut stream, &mut input).await?;
    Ok(Connection::new(stream, input, session, server.into()))
}

/// Moves the bytes of a handshake. Every decision is in [`Handshake`].
async fn drive(
    mut handshake: Handshake,
    stream: &mut Stream,
    input: &mut ReadBuffer,
) -> Result<Session, ConnectFailure> {
    use tokio::io::AsyncWriteExt as _;
    let mut out = Zeroizing::new(Vec::new());
    loop {
        let Progress { consumed, action } =
            handshake.receive(input.filled(), &mut out).map_err(ConnectFailure::Handshake)?;
        input.consume(consumed);
        stream.write_all(&out).await.map_err(ConnectFailure::Io)?;
        stream.flush().await.map_err(ConnectFailure::Io)?;
        out.clear();
        match action {
            Action::Read => input.fill(stream, 1).await.map_err(ConnectFailure::Io)?,
            Action::StartTls => return Err(ConnectFailure::Handshake(HandshakeError::TlsRefused)),
            Action::Done(session) => return Ok(*session),
        }
    }
}

fn tcp_options(config: &Config) -> TcpOptions {
    let keepalives = config.keepalives.unwrap_or_default();
    TcpOptions {
        keepalives: config.keepalives.is_some(),
        keepalives_idle: keepalives.idle,
        keepalives_interval: keepalives.interval,
        keepalives_count: keepalives.count,
        user_timeout: config.tcp_user_timeout,
    }
}

/// `requirepeer`: the server behind a Unix socket has to run as this user.
fn check_peer(stream: &Stream, required: &str) -> Result<(), ConnectFailure> {
    let Stream::Unix(unix) = stream else { return Ok(()) };
    let uid = unix.peer_cred().map_err(ConnectFailure::Io)?.uid();
    let actual = conninfo::system_user_name(uid).unwrap_or_else(|| format!("{uid}"));
    if actual == required {
        return Ok(());
    }
    Err(ConnectFailure::Peer { required: required.into(), actual })
}

fn handshake_config(config: &Config, host: &HostConfig) -> Result<HandshakeConfig, EncodeError> {
    let mut parameters = ParametersBuf::new();
    let mut add = |name: &str, value: &str| parameters.push((name.as_bytes(), value.as_bytes()));
    add("user", &config.user)?;
    add("database", &config.dbname)?;
    match config.replication {
        conninfo::Replication::None => {}
        conninfo::Replication::Physical => add("replication", "true")?,
        conninfo::Replication::Database => add("replication", "database")?,
    }
    for (name, value) in [
        ("options", &config.options),
        ("application_name", &config.application_name),
        ("client_encoding", &config.client_encoding),
    ] {
        if let Some(value) = value {
            add(name, value)?;
        }
    }
    for (name, value) in &config.session_defaults {
        add(name, value)?;
    }
    let scram_keys = match (&config.scram_client_key, &config.scram_server_key) {
        (Some(client), Some(server)) => Some(ScramKeys::new(*client.as_bytes(), *server.as_bytes())),
        _ => None,
    };
    Ok(HandshakeConfig {
        max_version: protocol_version(config.max_protocol_version),
        min_version: protocol_version(config.min_protocol_version),
        encryption: Encryption::Plain,
        policy: AuthPolicy {
            allowed: config.require_auth.as_str().parse().unwrap_or(AuthMethods::ANY),
            channel_binding: match config.channel_binding {
                conninfo::ChannelBinding::Disable => ChannelBindingMode::Disable,
                conninfo::ChannelBinding::Prefer => ChannelBindingMode::Prefer,
                conninfo::ChannelBinding::Require => ChannelBindingMode::Require,
            },
            ..AuthPolicy::default()
        },
        password: host.password.as_ref().map(|password| Zeroizing::new(password.as_bytes().to_vec())),
        scram_keys,
        ..HandshakeConfig::new(parameters)
    })
}

fn protocol_version(version: conninfo::ProtocolVersion) -> ProtocolVersion {
    match version {
        conninfo::ProtocolVersion::V3_0 => ProtocolVersion::V3_0,
        conninfo::ProtocolVersion::V3_2 => ProtocolVersion::V3_2,
    }
}

/// Why `target_session_attrs` does not want this server, in libpq's words; `None` if it is welcome.
///
/// Servers from 14 on have told in their settings; older ones are asked. A physical replication connection
/// takes no SELECT, so there a standby is known by its read-only transactions.
async fn unwanted(
    connection: &mut Connection,
    attrs: TargetSessionAttrs,
) -> Result<Option<&'static str>, Error> {
    let (wants_read_only, wants_standby) = match attrs {
        TargetSessionAttrs::Any | TargetSessionAttrs::PreferStandby => return Ok(None),
        TargetSessionAttrs::ReadWrite => (Some(false), None),
        TargetSessionAttrs::ReadOnly => (Some(true), None),
        TargetSessionAttrs::Primary => (None, Some(false)),
        TargetSessionAttrs::Standby => (None, Some(true)),
    };
    let reported = |name: &str| connection.parameters().get(name).map(|value| value == "on");
    let (is_read_only, is_standby) =
        match (reported("default_transaction_read_only"), reported("in_hot_standby")) {
            (Some(read_only), Some(standby)) => (read_only || standby, standby),
            _ => {
                let read_only = is_on(connection, "SHOW transaction_read_only").await?;
                let standby = match is_on(connection, "SELECT pg_catalog.pg_is_in_recovery()").await {
                    Err(Error::Server(error)) if error.sqlstate == SqlState::FEATURE_NOT_SUPPORTED => {
                        read_only
                    }
                    answer => answer?,
                };
                (read_only, standby)
            }
        };
    Ok(match (wants_read_only, wants_standby) {
        (Some(false), _) if is_read_only => Some("session is read-only"),
        (Some(true), _) if !is_read_only => Some("session is not read-only"),
        (_, Some(false)) if is_standby => Some("server is in hot standby mode"),
        (_, Some(true)) if !is_standby => Some("server is not in hot standby mode"),
        _ => None,
    })
}

async fn is_on(connection: &mut Connection, query: &str) -> Result<bool, Error> {
    let sets = connection.simple_query(query).await?;
    let row = sets.first().and_then(|set| set.row(0));
    let row = row.ok_or_else(|| Error::Unexpected { expected: "one row", got: "none".into() })?;
    Ok(matches!(row.text(0)?, "on" | "t"))
}
