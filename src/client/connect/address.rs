use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use core::time::Duration;
use std::format;
use std::string::ToString as _;
use std::vec::Vec;

use crate::client::error::ConnectFailure;
use crate::client::route::Address;
use crate::client::server_name::ServerName;
use crate::conninfo::{Endpoint, HostConfig, HostTarget};
use crate::deadline::within;

/// The name of the server at one address of a host.
pub(super) fn server_name(host: &HostConfig, endpoint: &Endpoint, address: &Address) -> ServerName {
    let name = match &endpoint.target {
        HostTarget::Unix(directory) => directory.display().to_string(),
        HostTarget::Abstract(name) => format!("@{name}"),
        HostTarget::Tcp { host: name } => host.name.as_ref().unwrap_or(name).clone(),
        HostTarget::Address(ip) => host.name.clone().unwrap_or_else(|| ip.to_string()),
    };
    ServerName { host: name, ip: address.ip(), port: endpoint.port }
}

/// Every address of a host. For a host name, all addresses that the look-up gives.
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
                    // Without /etc/hosts, as in an empty container, the name has the meaning of RFC 6761.
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
