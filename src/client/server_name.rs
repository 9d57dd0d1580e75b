use core::fmt;
use core::net::IpAddr;
use std::prelude::v1::*;

/// The name of the server that a connection leads to. `Display` names the server as libpq's messages do:
/// `server at "db1" (10.0.0.1), port 5432` or `server on socket "/run/postgresql/.s.PGSQL.5432"`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerName {
    /// The host as the connection string names it, else its address. For a Unix socket, its directory; for an
    /// abstract one, `@` and its name.
    pub host: String,
    /// The address of the connection; `None` for a Unix socket.
    pub ip: Option<IpAddr>,
    /// The port; for a Unix socket it is part of the file's name.
    pub port: u16,
}

impl fmt::Display for ServerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, ip, port } = self;
        match ip {
            None => write!(f, "server on socket \"{host}/.s.PGSQL.{port}\""),
            Some(ip) if ip.to_string() == *host => write!(f, "server at \"{host}\", port {port}"),
            Some(ip) => write!(f, "server at \"{host}\" ({ip}), port {port}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_named_as_libpq_does() {
        for (host, ip, port, text) in [
            ("db1", "10.0.0.1", 5432, "server at \"db1\" (10.0.0.1), port 5432"),
            ("10.0.0.1", "10.0.0.1", 5432, "server at \"10.0.0.1\", port 5432"),
            ("::1", "::1", 5433, "server at \"::1\", port 5433"),
            ("/run/a b", "", 5434, "server on socket \"/run/a b/.s.PGSQL.5434\""),
            ("@pg", "", 5432, "server on socket \"@pg/.s.PGSQL.5432\""),
        ] {
            let server = ServerName { host: host.into(), ip: ip.parse().ok(), port };
            assert_eq!(server.to_string(), text);
        }
    }
}
