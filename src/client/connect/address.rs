use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use core::time::Duration;
use std::format;
use std::string::String;
use std::vec::Vec;

use crate::client::error::ConnectFailure;
use crate::client::route::Address;
use crate::conninfo::{Endpoint, HostConfig, HostTarget};
use crate::deadline::within;

/// As libpq names a server in its messages.
pub(super) fn server_name(host: &HostConfig, endpoint: &Endpoint, address: &Address) -> String {
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

/// Every address of a host; of a name, all that the look-up gives.
pub(super) async fn addresses(
    endpoint: &Endpoint,
    timeout: Option<Duration>,
) -> Result<Vec<Address>, ConnectFailure> {
    Ok(match &endpoint.target {
        HostTarget::Address(ip) => [Address::Tcp(SocketAddr::new(*ip, endpoint.port))].into(),
        HostTarget::Unix(_) => endpoint.socket_path().map(Address::Socket).into_iter().collect(),
        HostTarget::Abstract(name) => {
            [Address::Abstract(format!("{name}/.s.PGSQL.{}", endpoint.port))].into()
        }
        HostTarget::Tcp { host } => {
            let lookup = async {
                match tokio::net::lookup_host((host.as_str(), endpoint.port)).await {
                    Ok(found) => Ok(found.map(Address::Tcp).collect()),
                    // Where there is no /etc/hosts, as in an empty container, the name means what RFC 6761 says.
                    Err(_) if host.eq_ignore_ascii_case("localhost") => Ok(loopback(endpoint.port).into()),
                    Err(error) => Err(ConnectFailure::NameLookup(error)),
                }
            };
            within(timeout, lookup).await.unwrap_or_else(|after| Err(ConnectFailure::Timeout(after)))?
        }
    })
}

fn loopback(port: u16) -> [Address; 2] {
    let addresses = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
    addresses.map(|ip| Address::Tcp(SocketAddr::new(ip, port)))
}
