//! Whether a certificate is for a host, by libpq's rules.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::format;
use std::string::{String, ToString as _};

use super::certificate::Certificate;
use super::der::{BadDer, implicit};
use super::name_constraints::NameConstraints;
use super::{TlsError, TlsErrorKind};
use crate::conninfo::parse_ipv4;

/// `dNSName` and `iPAddress` among the alternative names of a certificate.
const DNS_NAME: u8 = implicit(2);
const IP_ADDRESS: u8 = implicit(7);

/// Checks the names in a certificate against the host as the user wrote it.
///
/// The alternative names count. The common name counts only if no alternative name is of the host's kind,
/// which is either name or address. A host that is an address may also be given as a name, digit for digit.
/// The common name also has to be within the constraints of the authorities; webpki has compared these with
/// the alternative names already.
pub(super) fn check(
    certificate: &Certificate<'_>,
    host: &str,
    constraints: &NameConstraints,
) -> Result<(), TlsError> {
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
        examined.add(|| if kind == DNS_NAME { printable(name) } else { printable_address(name) });
    }
    if uses_common_name && let Some(name) = certificate.common_name().map_err(bad_names)? {
        if matches_name(name, host, ip.is_some())? {
            if constraints.allow_common_name(host, ip.is_some()) {
                return Ok(());
            }
            let name = printable(name);
            return Err(TlsError::new(
                TlsErrorKind::WrongName,
                format!(
                    "server certificate for \"{name}\" is outside of the name constraints of its authority"
                ),
            ));
        }
        examined.add(|| printable(name));
    }
    Err(TlsError::new(TlsErrorKind::WrongName, examined.message(host)))
}

/// The host's address, if the host is one, read as libpq reads it; `None` for a name.
pub(super) fn ip_address(host: &str) -> Option<IpAddr> {
    let v6 = || host.parse::<Ipv6Addr>().ok().map(IpAddr::V6);
    parse_ipv4(host).map(IpAddr::V4).or_else(v6)
}

/// Whether a name in the certificate covers the host. Only the first label may be a `*`, and it stands for
/// one label of a name, never for a part of an address.
fn matches_name(name: &[u8], host: &str, is_ip: bool) -> Result<bool, TlsError> {
    // A C program would read `db1\0.attacker.example` as `db1`.
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

/// A name in printable form: it may hold anything, even commands for a terminal.
fn printable(name: &[u8]) -> String {
    name.escape_ascii().to_string()
}

fn printable_address(address: &[u8]) -> String {
    let v4 = <[u8; 4]>::try_from(address).map(|octets| Ipv4Addr::from(octets).to_string());
    let v6 = || <[u8; 16]>::try_from(address).map(|octets| Ipv6Addr::from(octets).to_string());
    v4.or_else(|_| v6()).unwrap_or_else(|_| printable(address))
}

fn bad_names(BadDer: BadDer) -> TlsError {
    TlsError::new(TlsErrorKind::WrongName, "the names in the server certificate cannot be read")
}

#[cfg(test)]
mod tests {
    use super::super::certificate::with_names;
    use super::*;
    use std::vec::Vec;

    /// Checks a host against a certificate with this common name (empty for none) and these alternative names
    /// with their tags.
    fn check_names(common_name: &str, names: &[(u8, &[u8])], host: &str) -> Result<(), String> {
        let common_name = Some(common_name.as_bytes()).filter(|name| !name.is_empty());
        let der = with_names(common_name, names);
        check(&Certificate::parse(&der).unwrap(), host, &NameConstraints::default())
            .map_err(|error| error.to_string())
    }

    fn dns(name: &str) -> (u8, &[u8]) {
        (DNS_NAME, name.as_bytes())
    }

    const V4: (u8, &[u8]) = (IP_ADDRESS, &[192, 0, 2, 1]);
    const V6: (u8, &[u8]) = (IP_ADDRESS, &[0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);

    #[test]
    fn a_star_stands_for_one_whole_label() {
        for (name, host, matches) in [
            ("db1.example", "db1.example", true),
            ("DB1.example", "db1.EXAMPLE", true),
            ("db1.example", "db1.example.", false),
            ("*.example", "db1.example", true),
            ("*.EXAMPLE", "db1.example", true),
            ("*.example", "a.db1.example", false),
            ("*.example", "example", false),
            ("*.example", ".example", false),
            ("*.example", "db1example", false),
            ("*", "db1", false),
            ("*.", "db1.", false),
            ("db*.example", "db1.example", false),
            ("a.*.example", "a.b.example", false),
            ("*.*.example", "a.b.example", false),
            ("example", "db1.example", false),
            ("", "db1", false),
        ] {
            assert_eq!(check_names("", &[dns(name)], host).is_ok(), matches, "{name} {host}");
        }
    }

    #[test]
    fn the_common_name_counts_where_no_alternative_name_is_of_the_hosts_kind() {
        for (common_name, names, host, matches) in [
            ("db1", &[][..], "db1", true),
            ("*.example", &[], "db1.example", true),
            ("db1", &[dns("db2")], "db1", false),
            ("db1", &[dns("db2")], "db2", true),
            ("db1", &[V4], "db1", true),
            ("192.0.2.1", &[], "192.0.2.1", true),
            ("192.0.2.1", &[dns("db1")], "192.0.2.1", true),
            ("192.0.2.1", &[(IP_ADDRESS, &[192, 0, 2, 9])], "192.0.2.1", false),
            ("", &[], "db1", false),
        ] {
            assert_eq!(
                check_names(common_name, names, host).is_ok(),
                matches,
                "{common_name} {names:?} {host}"
            );
        }
    }

    #[test]
    fn addresses_are_compared_as_addresses_and_digit_for_digit_with_names() {
        for (name, host, matches) in [
            (V4, "192.0.2.1", true),
            (V4, "192.000.002.001", true),
            (V4, "0xc0000201", true),
            (V4, "192.0.2.2", false),
            (V4, "::ffff:192.0.2.1", false),
            (V6, "2001:db8::1", true),
            (V6, "2001:DB8:0:0::1", true),
            (V6, "2001:db8::2", false),
            (dns("192.0.2.1"), "192.0.2.1", true),
            (dns("192.0.2.1"), "192.000.002.001", false),
            (dns("*.0.2.1"), "192.0.2.1", false),
            (dns("2001:db8::1"), "2001:DB8::1", true),
            ((IP_ADDRESS, b""), "192.0.2.1", false),
        ] {
            assert_eq!(check_names("", &[name], host).is_ok(), matches, "{name:?} {host}");
        }
    }

    #[test]
    fn alternative_names_of_other_kinds_are_ignored() {
        let mail = (implicit(1), &b"db1"[..]);
        assert!(check_names("db1", &[mail], "db1").is_ok());
        assert_eq!(
            check_names("", &[mail], "db1"),
            Err("could not get server's host name from server certificate".into())
        );
    }

    #[test]
    fn a_zero_byte_in_a_name_is_an_attack() {
        let message = Err("SSL certificate's name contains embedded null".into());
        assert_eq!(check_names("", &[dns("db1\0.attacker.example")], "db1"), message);
        assert_eq!(check_names("db1\0.attacker.example", &[], "db1"), message);
    }

    #[test]
    fn messages_are_libpqs() {
        for (count, others) in [(1, ""), (2, " (and 1 other name)"), (3, " (and 2 other names)")] {
            let names: Vec<_> = [dns("a\u{1b}"), V4, V6].into_iter().take(count).collect();
            assert_eq!(
                check_names("unused", &names, "db1"),
                Err(format!("server certificate for \"a\\x1b\"{others} does not match host name \"db1\""))
            );
        }
        assert_eq!(
            check_names("unused", &[V4, dns("a")], "192.0.2.9"),
            Err("server certificate for \"192.0.2.1\" (and 1 other name) does not match host name \
                 \"192.0.2.9\""
                .into())
        );
    }
}
