//! Whether a certificate is for a host, by libpq's rules.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::format;
use std::string::{String, ToString as _};

use super::certificate::Certificate;
use super::der::{BadDer, implicit};
use super::{TlsError, TlsErrorKind};
use crate::conninfo::parse_ipv4;

/// `dNSName` and `iPAddress` among the alternative names of a certificate.
const DNS_NAME: u8 = implicit(2);
const IP_ADDRESS: u8 = implicit(7);

/// Checks the names in a certificate against the host as the user wrote it.
///
/// The alternative names count, and the common name where none of them is of the host's kind, which is a name
/// or an address. A host that is an address may also stand in a name, digit for digit.
pub(super) fn check(certificate: &Certificate<'_>, host: &str) -> Result<(), TlsError> {
    let ip = ip_address(host);
    let host_kind = if ip.is_some() { IP_ADDRESS } else { DNS_NAME };
    let mut uses_common_name = true;
    let mut examined = Examined::default();
    for (kind, name) in certificate.alternative_names().map_err(bad_names)? {
        uses_common_name &= kind != host_kind;
        let matches = match kind {
            DNS_NAME => matches_name(name, host, ip.is_some())?,
            IP_ADDRESS => ip.is_some_and(|ip| octets(ip) == name),
            _ => continue,
        };
        if matches {
            return Ok(());
        }
        examined.add(|| if kind == DNS_NAME { text(name) } else { address_text(name) });
    }
    if uses_common_name && let Some(name) = certificate.common_name().map_err(bad_names)? {
        if matches_name(name, host, ip.is_some())? {
            return Ok(());
        }
        examined.add(|| text(name));
    }
    Err(TlsError::new(TlsErrorKind::WrongName, examined.message(host)))
}

/// The address that a host is, read as libpq reads it; `None` for a name.
pub(super) fn ip_address(host: &str) -> Option<IpAddr> {
    let v6 = || host.parse::<Ipv6Addr>().ok().map(IpAddr::V6);
    parse_ipv4(host).map(IpAddr::V4).or_else(v6)
}

/// Whether a name in the certificate covers the host. Only the first label may be a `*`, and it stands for
/// one label of a name, never for a part of an address.
fn matches_name(name: &[u8], host: &str, is_ip: bool) -> Result<bool, TlsError> {
    // `db1\0.attacker.example` would end early in C.
    if name.contains(&0) {
        let message = "SSL certificate's name contains embedded null";
        return Err(TlsError::new(TlsErrorKind::WrongName, message));
    }
    let host = host.as_bytes();
    let parent = |name: &[u8]| name.iter().position(|&byte| byte == b'.').filter(|&dot| dot > 0);
    let matches_wildcard = || match (name.strip_prefix(b"*"), parent(host)) {
        (Some(pattern), Some(dot)) if pattern.starts_with(b".") && pattern.len() > 1 => {
            host.split_at_checked(dot).is_some_and(|(_, rest)| rest.eq_ignore_ascii_case(pattern))
        }
        _ => false,
    };
    Ok(name.eq_ignore_ascii_case(host) || (!is_ip && matches_wildcard()))
}

/// The names that did not match: the first one and how many there are.
#[derive(Default)]
struct Examined {
    first: Option<String>,
    count: usize,
}

impl Examined {
    fn add(&mut self, name: impl FnOnce() -> String) {
        self.first.get_or_insert_with(name);
        self.count += 1;
    }

    fn message(&self, host: &str) -> String {
        let Some(first) = &self.first else {
            return "could not get server's host name from server certificate".into();
        };
        let others = match self.count {
            1 => String::new(),
            2 => " (and 1 other name)".into(),
            count => format!(" (and {} other names)", count - 1),
        };
        format!("server certificate for \"{first}\"{others} does not match host name \"{host}\"")
    }
}

fn octets(ip: IpAddr) -> std::vec::Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().into(),
        IpAddr::V6(ip) => ip.octets().into(),
    }
}

/// A name to be shown. A name may hold anything, also what a terminal takes as a command.
fn text(name: &[u8]) -> String {
    name.escape_ascii().to_string()
}

fn address_text(address: &[u8]) -> String {
    let v4 = <[u8; 4]>::try_from(address).map(|octets| Ipv4Addr::from(octets).to_string());
    let v6 = || <[u8; 16]>::try_from(address).map(|octets| Ipv6Addr::from(octets).to_string());
    v4.or_else(|_| v6()).unwrap_or_else(|_| text(address))
}

fn bad_names(BadDer: BadDer) -> TlsError {
    TlsError::new(TlsErrorKind::WrongName, "the names in the server certificate cannot be read")
}
