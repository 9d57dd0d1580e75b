//! The lists `host`, `hostaddr` and `port`.

use std::format;
use std::path::{Path, PathBuf};
use std::prelude::v1::*;

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::error::{ConnInfoError, ConnInfoErrorKind};
use super::{Config, Password, numbers};

/// The longest path of a socket in bytes: the limit of Linux and libpq.
const MAX_SOCKET_PATH: usize = 107;

/// One server of the list, whose servers are tried in turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostConfig {
    /// `host` as written, or the default socket directory. Certificates are checked against it. `None` where
    /// only `hostaddr` was given.
    pub name: Option<String>,
    /// `hostaddr` as written, with which the name need not be looked up.
    pub address: Option<String>,
    /// Where to connect, or why this host has to be skipped.
    ///
    /// libpq goes on with the next host after a socket path that is too long, a `hostaddr` that is no address
    /// ([`ConnInfoErrorKind::Host`]) and a number that is no port ([`ConnInfoErrorKind::Port`]), but stops
    /// at a port that is no number ([`ConnInfoErrorKind::InvalidValue`]).
    pub endpoint: Result<Endpoint, ConnInfoError>,
    /// The password for this host: the one given for all hosts, or the password file's.
    pub password: Option<Password>,
    /// The line of the password file that `password` comes from, to be named when the server refuses the
    /// password.
    pub password_entry: Option<PasswordFileEntry>,
}

impl Config {
    /// Checks that at least one host can be tried. libpq notices only when it connects.
    ///
    /// # Errors
    /// If no host can be tried, or the search ends before it at a port that is not a number. The error has
    /// one line for each host up to that place.
    pub fn check_hosts(&self) -> Result<(), ConnInfoError> {
        let mut lines = Vec::new();
        let mut kind = ConnInfoErrorKind::Host;
        for host in &self.hosts {
            let Err(error) = &host.endpoint else { return Ok(()) };
            kind = error.kind();
            lines.push(error.to_string());
            if error.ends_search() {
                break;
            }
        }
        Err(ConnInfoError::new(kind, lines.join("\n")))
    }
}

/// A line of a password file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PasswordFileEntry {
    /// The file.
    pub path: PathBuf,
    /// The line, from 1.
    pub line: u32,
}

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The host.
    pub target: HostTarget,
    /// The port, which is also part of a socket's path: 1 to 65535.
    pub port: u16,
}

impl Endpoint {
    /// The path of the Unix socket, `<directory>/.s.PGSQL.<port>`, of at most 107 bytes. The path of an
    /// abstract socket begins with `@`, which stands for a zero byte. `None` for TCP.
    #[must_use]
    pub fn socket_path(&self) -> Option<PathBuf> {
        let directory = match &self.target {
            HostTarget::Unix(directory) => directory.display().to_string(),
            HostTarget::Abstract(name) => format!("@{name}"),
            HostTarget::Tcp { .. } | HostTarget::Address(_) => return None,
        };
        Some(PathBuf::from(format!("{directory}/.s.PGSQL.{}", self.port)))
    }
}

/// How a server is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostTarget {
    /// A name to look up; each of its addresses is tried.
    Tcp {
        /// The name, or an IPv6 address with a scope such as `fe80::1%eth0`, which the look-up understands.
        host: String,
    },
    /// An address, from `hostaddr` or written as the host.
    Address(IpAddr),
    /// A directory with a Unix socket in it.
    Unix(PathBuf),
    /// A socket in Linux's abstract namespace: the text after the `@`.
    Abstract(String),
}

/// One element of each list, not yet checked. An empty text means the default.
pub(super) struct HostEntry {
    pub(super) host: String,
    pub(super) hostaddr: String,
    pub(super) port: String,
}

/// Joins the three lists. The length of `hostaddr`, or of `host` where `hostaddr` is empty, is the number of
/// hosts.
pub(super) fn host_list(host: &str, hostaddr: &str, port: &str) -> Result<Vec<HostEntry>, ConnInfoError> {
    let split = |list: &str| -> Vec<String> { list.split(',').map(String::from).collect() };
    let (names, addresses, ports) = (split(host), split(hostaddr), split(port));
    let count = if hostaddr.is_empty() { names.len() } else { addresses.len() };
    let mismatch = |message| Err(ConnInfoError::new(ConnInfoErrorKind::HostList, message));
    if !host.is_empty() && names.len() != count {
        return mismatch(format!("could not match {} host names to {count} hostaddr values", names.len()));
    }
    if ports.len() != 1 && ports.len() != count {
        return mismatch(format!("could not match {} port numbers to {count} hosts", ports.len()));
    }
    // A single element counts for every host: a port that was given once, or the empty element of a list that
    // was not given.
    let element = |list: &[String], index| {
        let element = if list.len() == 1 { list.first() } else { list.get(index) };
        element.cloned().unwrap_or_default()
    };
    let entry = |index| HostEntry {
        host: element(&names, index),
        hostaddr: element(&addresses, index),
        port: element(&ports, index),
    };
    Ok((0..count).map(entry).collect())
}

impl HostEntry {
    /// The name of this host in the password file: `localhost` for the default socket directory.
    pub(super) fn password_file_host(&self, socket_directory: &Path) -> &str {
        match (self.host.as_str(), self.hostaddr.as_str()) {
            ("", "") => "localhost",
            ("", address) => address,
            (host, _) if Path::new(host).as_os_str() == socket_directory.as_os_str() => "localhost",
            (host, _) => host,
        }
    }

    /// The port as written, or the default.
    pub(super) fn port_text(&self) -> &str {
        if self.port.is_empty() { "5432" } else { &self.port }
    }

    pub(super) fn into_config(self, socket_directory: &Path) -> HostConfig {
        let endpoint = self.endpoint(socket_directory);
        let default = || Some(socket_directory.display().to_string()).filter(|_| self.hostaddr.is_empty());
        let name = Some(self.host).filter(|host| !host.is_empty()).or_else(default);
        let address = Some(self.hostaddr).filter(|address| !address.is_empty());
        HostConfig { name, address, endpoint, password: None, password_entry: None }
    }

    fn endpoint(&self, socket_directory: &Path) -> Result<Endpoint, ConnInfoError> {
        let text = self.port_text();
        let port = u16::try_from(numbers::integer("port", text)?).ok().filter(|&port| port != 0);
        let port = port.ok_or_else(|| {
            ConnInfoError::new(ConnInfoErrorKind::Port, format!("invalid port number: \"{text}\""))
        })?;
        let target = match (self.host.as_str(), self.hostaddr.as_str()) {
            ("", "") => HostTarget::Unix(socket_directory.into()),
            (_, address) if !address.is_empty() => numeric_target(address).ok_or_else(|| {
                ConnInfoError::new(
                    ConnInfoErrorKind::Host,
                    format!("could not parse network address \"{address}\": Name or service not known"),
                )
            })?,
            (host, _) if host.starts_with('/') => HostTarget::Unix(host.into()),
            (host, _) => match host.strip_prefix('@') {
                Some(name) => HostTarget::Abstract(name.into()),
                None => numeric_target(host).unwrap_or_else(|| HostTarget::Tcp { host: host.into() }),
            },
        };
        let endpoint = Endpoint { target, port };
        match endpoint.socket_path() {
            Some(path) if path.as_os_str().len() > MAX_SOCKET_PATH => Err(ConnInfoError::new(
                ConnInfoErrorKind::Host,
                format!(
                    "Unix-domain socket path \"{}\" is too long (maximum {MAX_SOCKET_PATH} bytes)",
                    path.display()
                ),
            )),
            _ => Ok(endpoint),
        }
    }
}

/// Parses an address in any spelling that `getaddrinfo` understands without a look-up.
fn numeric_target(text: &str) -> Option<HostTarget> {
    if let Some((address, scope)) = text.split_once('%') {
        let is_scoped = address.parse::<Ipv6Addr>().is_ok() && !scope.is_empty();
        return is_scoped.then(|| HostTarget::Tcp { host: text.into() });
    }
    let v4 = parse_ipv4(text).map(IpAddr::V4);
    v4.or_else(|| text.parse().ok()).map(HostTarget::Address)
}

/// An IPv4 address as C's `inet_aton` reads it: `127.0.0.1`, but also `127.1`, `0x7f.0.0.1` and
/// `2130706433`. Up to four numbers in decimal, octal (`0...`) or hexadecimal (`0x...`), the last of which
/// fills the bytes that remain.
///
/// libpq reads addresses this way, also when it compares them with those in a certificate.
#[must_use]
pub fn parse_ipv4(text: &str) -> Option<Ipv4Addr> {
    let mut parts = text.split('.').map(|part| {
        let (digits, radix) = match part.strip_prefix("0x").or_else(|| part.strip_prefix("0X")) {
            Some(digits) => (digits, 16),
            None if part.starts_with('0') => (part, 8),
            None => (part, 10),
        };
        // `from_str_radix` alone would accept a sign.
        let is_plain = digits.bytes().all(|byte| byte.is_ascii_alphanumeric());
        u32::from_str_radix(digits, radix).ok().filter(|_| is_plain)
    });
    let mut address = 0_u32;
    let mut free_bits = 32_u32;
    let mut part = parts.next()??;
    for next in parts {
        if part > 0xff || free_bits == 8 {
            return None;
        }
        free_bits -= 8;
        address |= part << free_bits;
        part = next?;
    }
    let fits = free_bits == 32 || part >> free_bits == 0;
    fits.then(|| Ipv4Addr::from(address | part))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conninfo::{ConnInfo, Environment};
    use std::vec;

    fn hosts(host: &str, hostaddr: &str, port: &str) -> Result<Vec<HostConfig>, String> {
        let entries = host_list(host, hostaddr, port).map_err(|error| error.to_string())?;
        Ok(entries.into_iter().map(|entry| entry.into_config(Path::new("/run/pg"))).collect())
    }

    fn endpoints(host: &str, hostaddr: &str, port: &str) -> Vec<Result<(HostTarget, u16), String>> {
        let hosts = hosts(host, hostaddr, port).unwrap();
        hosts
            .into_iter()
            .map(|host| host.endpoint.map(|e| (e.target, e.port)).map_err(|error| error.to_string()))
            .collect()
    }

    fn name(host: &str) -> HostTarget {
        HostTarget::Tcp { host: host.into() }
    }

    fn address(text: &str) -> HostTarget {
        HostTarget::Address(text.parse().unwrap())
    }

    fn unix(directory: &str) -> HostTarget {
        HostTarget::Unix(directory.into())
    }

    #[test]
    fn empty_elements_are_defaults() {
        assert_eq!(endpoints("", "", ""), [Ok((unix("/run/pg"), 5432))]);
        assert_eq!(
            endpoints("a,,/s", "", "1,,3"),
            [Ok((name("a"), 1)), Ok((unix("/run/pg"), 5432)), Ok((unix("/s"), 3))]
        );
        assert_eq!(endpoints("a,b", "", ""), [Ok((name("a"), 5432)), Ok((name("b"), 5432))]);
    }

    #[test]
    fn a_single_port_counts_for_every_host() {
        assert_eq!(endpoints("a,b", "", "7"), [Ok((name("a"), 7)), Ok((name("b"), 7))]);
    }

    #[test]
    fn lists_of_different_lengths_are_refused() {
        for (host, hostaddr, port, message) in [
            ("a", "::1,::2", "", "could not match 1 host names to 2 hostaddr values"),
            ("a,b,c", "::1", "", "could not match 3 host names to 1 hostaddr values"),
            ("a,b", "", "1,2,3", "could not match 3 port numbers to 2 hosts"),
            ("", "", "1,2", "could not match 2 port numbers to 1 hosts"),
        ] {
            assert_eq!(hosts(host, hostaddr, port), Err(message.into()));
        }
    }

    #[test]
    fn hostaddr_replaces_the_look_up_but_the_name_stays() {
        let hosts = hosts("a,/s,", "127.0.0.1,,::1", "").unwrap();
        let names: Vec<_> = hosts.iter().map(|host| host.name.as_deref()).collect();
        assert_eq!(names, [Some("a"), Some("/s"), None]);
        assert_eq!(
            endpoints("a,/s,", "127.0.0.1,,::1", ""),
            [Ok((address("127.0.0.1"), 5432)), Ok((unix("/s"), 5432)), Ok((address("::1"), 5432))]
        );
    }

    #[test]
    fn addresses_are_read_as_getaddrinfo_does() {
        assert_eq!(endpoints("", "127.1", ""), [Ok((address("127.0.0.1"), 5432))]);
        assert_eq!(endpoints("192.168.0.1", "", ""), [Ok((address("192.168.0.1"), 5432))]);
        assert_eq!(endpoints("", "fe80::1%eth0", ""), [Ok((name("fe80::1%eth0"), 5432))]);
        for text in ["x", "[::1]", " 127.0.0.1", "::1%", "x%y", "1.2.3.4.5"] {
            let message = format!("could not parse network address \"{text}\": Name or service not known");
            assert_eq!(endpoints("", text, ""), [Err(message)]);
        }
    }

    #[test]
    fn ipv4_has_one_to_four_parts_in_three_radixes() {
        for (text, expected) in [
            ("1.2.3.4", Some([1, 2, 3, 4])),
            ("192.000.002.001", Some([192, 0, 2, 1])),
            ("1.2.772", Some([1, 2, 3, 4])),
            ("1.65535", Some([1, 0, 255, 255])),
            ("4294967295", Some([255, 255, 255, 255])),
            ("0x7f.0.0.010", Some([127, 0, 0, 8])),
            ("0", Some([0, 0, 0, 0])),
            ("4294967296", None),
            ("256.1", None),
            ("1.16777216", None),
            ("1.2.65536", None),
            ("1.2.3.256", None),
            ("08.1.1.1", None),
            ("+1.2.3.4", None),
            ("1.2.3.", None),
            (".1", None),
            ("", None),
            ("0x", None),
        ] {
            assert_eq!(parse_ipv4(text), expected.map(Ipv4Addr::from), "{text}");
        }
    }

    #[test]
    fn bad_ports_are_reported_in_libpqs_words() {
        for (port, message) in [
            ("0", "invalid port number: \"0\""),
            ("-1", "invalid port number: \"-1\""),
            ("65536", "invalid port number: \"65536\""),
            ("abc", "invalid integer value \"abc\" for connection option \"port\""),
            ("5432x", "invalid integer value \"5432x\" for connection option \"port\""),
        ] {
            assert_eq!(endpoints("a", "", port), [Err(message.into())]);
        }
        assert_eq!(endpoints("a", "", " +54 "), [Ok((name("a"), 54))]);
    }

    #[test]
    fn a_list_is_usable_if_the_search_reaches_a_usable_host() {
        let check = |conninfo: &str| {
            let environment = Environment::empty().with_user("u");
            let resolved = conninfo.parse::<ConnInfo>().unwrap().resolve(&environment).unwrap();
            resolved.config().unwrap().check_hosts().map_err(|error| error.to_string())
        };
        let no_number = "invalid integer value \"x\" for connection option \"port\"";
        let no_port = "invalid port number: \"0\"";
        assert_eq!(check("host=a,b port=0,1"), Ok(()));
        assert_eq!(check("host=a,b port=1,x"), Ok(()));
        assert_eq!(check("host=a,b port=x"), Err(no_number.into()));
        assert_eq!(check("host=a,b port=x,1"), Err(no_number.into()), "libpq looks no further");
        assert_eq!(check("host=a,b port=0"), Err(format!("{no_port}\n{no_port}")));
        assert_eq!(check("host=a,b,c port=0,x,1"), Err(format!("{no_port}\n{no_number}")));
    }

    #[test]
    fn socket_paths_are_at_most_107_bytes() {
        let directory = format!("/{}", "x".repeat(106 - "/.s.PGSQL.5432".len()));
        let host = hosts(&directory, "", "").unwrap().remove(0);
        let path = host.endpoint.unwrap().socket_path().unwrap();
        assert_eq!(path, PathBuf::from(format!("{directory}/.s.PGSQL.5432")));
        assert_eq!(path.as_os_str().len(), 107);
        for directory in [format!("{directory}x"), format!("@{directory}")] {
            let message = format!(
                "Unix-domain socket path \"{directory}/.s.PGSQL.5432\" is too long (maximum 107 bytes)"
            );
            assert_eq!(endpoints(&directory, "", ""), [Err(message)]);
        }
    }

    #[test]
    fn abstract_sockets_begin_with_an_at_sign() {
        let host = hosts("@pg", "", "1").unwrap().remove(0);
        let endpoint = host.endpoint.unwrap();
        assert_eq!(endpoint.target, HostTarget::Abstract("pg".into()));
        assert_eq!(endpoint.socket_path(), Some(PathBuf::from("@pg/.s.PGSQL.1")));
    }

    #[test]
    fn the_password_file_calls_the_default_directory_localhost() {
        let key = |host, hostaddr| {
            let entry = host_list(host, hostaddr, "").unwrap().remove(0);
            String::from(entry.password_file_host(Path::new("/run/pg")))
        };
        assert_eq!(
            vec![
                key("", ""),
                key("/run/pg", ""),
                key("/run/pg/", ""),
                key("/tmp", ""),
                key("", "::1"),
                key("a", "::1")
            ],
            ["localhost", "localhost", "/run/pg/", "/tmp", "::1", "a"]
        );
    }
}
