//! The search through the hosts, their addresses and encryptions, with the list of failed attempts.

use core::net::IpAddr;
use std::boxed::Box;
use std::format;
use std::string::{String, ToString as _};
use std::sync::Arc;
use std::vec::Vec;

use super::address::{addresses, server_name};
use super::attempt::Attempt;
use super::encryption;
use super::keys::KeySlot;
use super::session_attrs::reason_to_reject;
use crate::client::connection::Connection;
use crate::client::error::{ConnectAttempt, ConnectFailure, Error};
use crate::client::route::{Address, Route};
use crate::client::server_name::ServerName;
use crate::conninfo::{Config, HostConfig, LoadBalanceHosts, Replication, TargetSessionAttrs};
use crate::deadline::within;
use crate::net::Tls;
use crate::random;
use crate::session::HandshakeError;
use crate::types::SqlState;

/// Connects to the first acceptable server of the list. `keys` has one slot for each host.
pub(super) async fn search(config: &Config, keys: &[KeySlot]) -> Result<Connection, Error> {
    let mut search = Search { config, tls: None, attempts: Vec::new(), client: None };
    let passes: &[_] = match config.target_session_attrs {
        TargetSessionAttrs::PreferStandby => &[TargetSessionAttrs::Standby, TargetSessionAttrs::Any],
        ref attrs => core::slice::from_ref(attrs),
    };
    for attrs in passes {
        for (host, keys) in in_order(config.hosts.iter().zip(keys), config.load_balance_hosts) {
            match search.try_host(host, keys, *attrs).await {
                Outcome::Connected(connection) => return Ok(*connection),
                Outcome::NextHost => {}
                Outcome::Stop => return Err(Error::Connect(search.attempts)),
            }
        }
    }
    Err(Error::Connect(search.attempts))
}

/// Connects once more to the address to which a route leads.
pub(super) async fn connect_again(config: &Config, route: &Route) -> Result<Connection, Error> {
    let client = route.address.ip();
    let mut search = Search { config, tls: None, attempts: Vec::new(), client };
    let keys = KeySlot::default();
    let attempt = search.try_address(&route.host, &keys, &route.address, &route.server);
    let failure = match within(config.connect_timeout, attempt).await {
        Ok(Ok(connection)) => return Ok(connection),
        Ok(Err(failure)) => failure,
        Err(after) => ConnectFailure::Timeout(after),
    };
    search.record_failure(route.server.to_string(), failure, &route.host);
    Err(Error::Connect(search.attempts))
}

/// The state of a search, with the attempts that have failed so far.
struct Search<'a> {
    config: &'a Config,
    /// The files that the TLS parameters name, read when the first server agrees to TLS.
    tls: Option<Arc<Tls>>,
    attempts: Vec<ConnectAttempt>,
    /// The address of our end in the attempt that is made.
    client: Option<IpAddr>,
}

enum Outcome {
    Connected(Box<Connection>),
    NextHost,
    Stop,
}

impl Search<'_> {
    async fn try_host(&mut self, host: &HostConfig, keys: &KeySlot, attrs: TargetSessionAttrs) -> Outcome {
        let endpoint = match &host.endpoint {
            Ok(endpoint) => endpoint,
            Err(error) => {
                let server = format!("server \"{}\"", host.name.as_deref().unwrap_or_default());
                self.record_failure(server, ConnectFailure::Host(error.clone()), host);
                return if error.ends_search() { Outcome::Stop } else { Outcome::NextHost };
            }
        };
        let addresses = match addresses(endpoint, self.config.connect_timeout).await {
            Ok(addresses) => addresses,
            Err(failure) => {
                let name = host.name.as_deref().unwrap_or_default();
                let server = format!("server at \"{name}\", port {}", endpoint.port);
                self.record_failure(server, failure, host);
                return Outcome::NextHost;
            }
        };
        for address in in_order(addresses, self.config.load_balance_hosts) {
            self.client = None;
            let server = server_name(host, endpoint, &address);
            let timeout = self.config.connect_timeout;
            let attempt = async {
                let mut connection = self.try_address(host, keys, &address, &server).await?;
                match reason_to_reject(&mut connection, self.config, attrs).await {
                    Ok(None) => Ok(connection),
                    Ok(Some(reason)) => Err(ConnectFailure::SessionAttributes(reason)),
                    Err(error) => Err(ConnectFailure::AttributesUnknown(error.into())),
                }
            };
            let failure = match within(timeout, attempt)
                .await
                .unwrap_or_else(|after| Err(ConnectFailure::Timeout(after)))
            {
                Ok(connection) => return Outcome::Connected(connection.into()),
                Err(failure) => failure,
            };
            let next = match &failure {
                ConnectFailure::SessionAttributes(_) | ConnectFailure::AttributesUnknown(_) => {
                    Some(Outcome::NextHost)
                }
                ConnectFailure::Handshake(HandshakeError::Server(error))
                    if error.sqlstate == SqlState::CANNOT_CONNECT_NOW =>
                {
                    Some(Outcome::NextHost)
                }
                ConnectFailure::Handshake(_) | ConnectFailure::Tls(_) | ConnectFailure::Random => {
                    Some(Outcome::Stop)
                }
                _ => None,
            };
            self.record_failure(server.to_string(), failure, host);
            if let Some(outcome) = next {
                return outcome;
            }
        }
        Outcome::NextHost
    }

    /// Tries an address with each encryption that the mode allows. Returns the last failure; the one before
    /// it goes into the list.
    async fn try_address(
        &mut self,
        host: &HostConfig,
        keys: &KeySlot,
        address: &Address,
        server: &ServerName,
    ) -> Result<Connection, ConnectFailure> {
        let (first, fallback) = encryption::plan(&self.config.tls, address.is_tcp())?;
        let config = self.config;
        let (encryption, in_tls, client) = (first, false, None);
        let mut attempt = Attempt { config, host, keys, address, server, encryption, in_tls, client };
        let connected = attempt.connect(&mut self.tls).await;
        self.client = attempt.client;
        let failure = match connected {
            Ok(connection) => return Ok(connection),
            Err(failure) => failure,
        };
        match fallback {
            Some(encryption) if encryption::falls_back(first, attempt.in_tls, &failure) => {
                if matches!(failure, ConnectFailure::Tls(_)) {
                    log::warn!(
                        "connection to {server}: {failure}; going on without encryption, as sslmode allows"
                    );
                } else {
                    log::info!("connection to {server} failed: {failure}; trying {encryption:?}");
                }
                self.record_failure(server.to_string(), failure, host);
                attempt = Attempt { encryption, in_tls: false, ..attempt };
                let connected = attempt.connect(&mut self.tls).await;
                self.client = attempt.client;
                match (connected, self.attempts.pop()) {
                    // The server's lack of TLS is not the reason why it refused the session in the clear.
                    (Err(ConnectFailure::Handshake(HandshakeError::TlsRefused)), Some(first)) => {
                        Err(first.failure)
                    }
                    (result, first) => {
                        self.attempts.extend(first);
                        result
                    }
                }
            }
            _ => Err(failure),
        }
    }

    fn record_failure(&mut self, server: String, failure: ConnectFailure, host: &HostConfig) {
        let note = password_note(host, &failure);
        let (client, replication) = (self.client, self.config.replication == Replication::Physical);
        self.attempts.push(ConnectAttempt { server, failure, note, client, replication });
    }
}

/// Where the password that the server refused came from.
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

/// The items in the order in which to try them.
fn in_order<T>(items: impl IntoIterator<Item = T>, order: LoadBalanceHosts) -> Vec<T> {
    let mut items: Vec<T> = items.into_iter().collect();
    if order == LoadBalanceHosts::Random {
        for unplaced in (2..=items.len()).rev() {
            // Without random numbers the order stays; the handshake will fail and report the reason.
            let random = random::number();
            items.swap(unplaced - 1, usize::try_from(random % unplaced as u64).unwrap_or_default());
        }
    }
    items
}
