//! The `ssl…` parameters.

use std::format;
use std::path::PathBuf;
use std::prelude::v1::*;

use core::fmt;

use super::options::choose;
use super::{ConnInfoError, Password, Resolved};

/// `sslmode`: whether TLS is used and how much is verified.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SslMode {
    /// No TLS.
    Disable,
    /// TLS only if the server refuses a session without it.
    Allow,
    /// TLS if the server offers it.
    #[default]
    Prefer,
    /// Always TLS; the chain is verified where a root certificate file exists.
    Require,
    /// Always TLS, with a verified chain.
    VerifyCa,
    /// Always TLS, with a verified chain and the server's name in the certificate.
    VerifyFull,
}

/// `sslnegotiation`: how TLS begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum SslNegotiation {
    /// After an `SSLRequest` of the client and the server's answer.
    #[default]
    Postgres,
    /// At once, with ALPN; servers from 17 on.
    Direct,
}

/// `sslcertmode`: whether the client sends its certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum SslCertMode {
    /// Never.
    Disable,
    /// If the server asks for one and the client has one.
    #[default]
    Allow,
    /// The server must ask for one and the client must have one.
    Require,
}

/// A version of TLS. Older versions are not supported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TlsVersion {
    /// TLS 1.2
    V1_2,
    /// TLS 1.3
    V1_3,
}

/// A file that a parameter names, or the file in `~/.postgresql` that is its default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFile {
    /// The file, which need not exist.
    pub path: PathBuf,
    /// Whether a parameter names it.
    pub is_named: bool,
}

/// `sslrootcert`: the root certificates to trust.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RootCertificates {
    /// The certificates of the operating system.
    System,
    /// The certificates in a file.
    File(TlsFile),
}

/// The `ssl…` parameters, checked. Files are not read.
///
/// A file is `None` where none is named and there is no home directory.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TlsConfig {
    /// `sslmode`. Unix sockets never use TLS, whatever the mode.
    pub mode: SslMode,
    /// `sslnegotiation`; direct only with [`SslMode::Require`] and above.
    pub negotiation: SslNegotiation,
    /// `sslrootcert`; the system's only with [`SslMode::VerifyFull`].
    pub root_certificates: Option<RootCertificates>,
    /// `sslcert`, the client's certificate.
    pub certificate: Option<TlsFile>,
    /// `sslkey`, the key of the client's certificate.
    pub key: Option<TlsFile>,
    /// `sslpassword`, the password that the key is encrypted with.
    pub key_password: Option<Password>,
    /// `sslcertmode`: whether the certificate is sent.
    pub certificate_mode: SslCertMode,
    /// `sslcrl`, a file of revoked certificates. A named directory takes the place of the default file.
    pub revocation_list: Option<TlsFile>,
    /// `sslcrldir`, a directory of revocation lists.
    pub revocation_directory: Option<PathBuf>,
    /// `sslsni`: whether the client sends the host name in clear text.
    pub sends_server_name: bool,
    /// `ssl_min_protocol_version`.
    pub min_version: TlsVersion,
    /// `ssl_max_protocol_version`; not below `min_version`.
    pub max_version: TlsVersion,
    /// `sslkeylogfile`: where to write the session's keys, for debugging.
    pub key_log_file: Option<PathBuf>,
}

impl TlsConfig {
    pub(super) fn new(resolved: &Resolved) -> Result<Self, ConnInfoError> {
        let value = |keyword| resolved.get(keyword).filter(|value| !value.is_empty());
        let mode_text = resolved.get("sslmode").unwrap_or_default();
        let mode = SslMode::parse(mode_text)?;
        let negotiation = choose(
            "sslnegotiation",
            resolved.get("sslnegotiation").unwrap_or_default(),
            &[("postgres", SslNegotiation::Postgres), ("direct", SslNegotiation::Direct)],
        )?;
        if negotiation == SslNegotiation::Direct && mode < SslMode::Require {
            return Err(ConnInfoError::conflict(format!(
                "weak sslmode \"{mode_text}\" may not be used with sslnegotiation=direct \
                 (use \"require\", \"verify-ca\", or \"verify-full\")"
            )));
        }
        let is_system = value("sslrootcert") == Some("system");
        if is_system && mode != SslMode::VerifyFull {
            return Err(ConnInfoError::conflict(format!(
                "weak sslmode \"{mode_text}\" may not be used with sslrootcert=system (use \"verify-full\")"
            )));
        }
        let (min_version, max_version) = versions(
            resolved.get("ssl_min_protocol_version").unwrap_or_default(),
            resolved.get("ssl_max_protocol_version").unwrap_or_default(),
            mode,
        )?;
        let certificate_mode = match resolved.get("sslcertmode") {
            None => SslCertMode::Allow,
            Some(word) => choose(
                "sslcertmode",
                word,
                &[
                    ("disable", SslCertMode::Disable),
                    ("allow", SslCertMode::Allow),
                    ("require", SslCertMode::Require),
                ],
            )?,
        };
        if let Some(key) = value("sslkey").filter(|key| key.contains(':') && !key.contains('/')) {
            return Err(ConnInfoError::unsupported(format!(
                "sslkey \"{key}\" names a key in an OpenSSL engine, which is not supported"
            )));
        }
        let file = |keyword, default: &str| match value(keyword) {
            Some(path) => Some(TlsFile { path: path.into(), is_named: true }),
            None => {
                let home = resolved.home.as_ref()?;
                Some(TlsFile { path: home.join(".postgresql").join(default), is_named: false })
            }
        };
        let revocation_directory = value("sslcrldir").map(PathBuf::from);
        Ok(Self {
            mode,
            negotiation,
            root_certificates: match is_system {
                true => Some(RootCertificates::System),
                false => file("sslrootcert", "root.crt").map(RootCertificates::File),
            },
            certificate: file("sslcert", "postgresql.crt"),
            key: file("sslkey", "postgresql.key"),
            key_password: value("sslpassword").map(Password::from),
            certificate_mode,
            revocation_list: file("sslcrl", "root.crl")
                .filter(|file| file.is_named || revocation_directory.is_none()),
            revocation_directory,
            sends_server_name: value("sslsni").is_some_and(|value| value.starts_with('1')),
            min_version,
            max_version,
            key_log_file: value("sslkeylogfile").map(PathBuf::from),
        })
    }
}

impl SslMode {
    const NAMES: [(&str, Self); 6] = [
        ("disable", Self::Disable),
        ("allow", Self::Allow),
        ("prefer", Self::Prefer),
        ("require", Self::Require),
        ("verify-ca", Self::VerifyCa),
        ("verify-full", Self::VerifyFull),
    ];

    fn parse(word: &str) -> Result<Self, ConnInfoError> {
        choose("sslmode", word, &Self::NAMES)
    }
}

impl fmt::Display for SslMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Self::NAMES.iter().find(|(_, mode)| mode == self).map(|(name, _)| *name);
        f.write_str(name.unwrap_or_default())
    }
}

/// The supported versions from `min` to `max`. Either text may be empty, which means no bound.
fn versions(min: &str, max: &str, mode: SslMode) -> Result<(TlsVersion, TlsVersion), ConnInfoError> {
    let minor = |keyword: &str, text: &str| match text.to_ascii_lowercase().as_str() {
        "" => Ok(None),
        "tlsv1" => Ok(Some(0)),
        "tlsv1.1" => Ok(Some(1)),
        "tlsv1.2" => Ok(Some(2)),
        "tlsv1.3" => Ok(Some(3)),
        // This one message has the keyword in quotes.
        _ => Err(ConnInfoError::invalid_value(&format!("\"{keyword}\""), text)),
    };
    let min_minor = minor("ssl_min_protocol_version", min)?;
    let max_minor = minor("ssl_max_protocol_version", max)?;
    if min_minor.zip(max_minor).is_some_and(|(min, max)| min > max) {
        return Err(ConnInfoError::conflict("invalid SSL protocol version range"));
    }
    if max_minor.is_some_and(|max| max < 2) && mode != SslMode::Disable {
        return Err(ConnInfoError::unsupported(format!(
            "ssl_max_protocol_version \"{max}\" is not supported, only TLSv1.2 and TLSv1.3 are"
        )));
    }
    let min = if min_minor == Some(3) { TlsVersion::V1_3 } else { TlsVersion::V1_2 };
    let max = if max_minor.is_none_or(|max| max == 3) { TlsVersion::V1_3 } else { TlsVersion::V1_2 };
    Ok((min, max))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conninfo::{ConnInfo, Environment};

    fn tls(conninfo: &str) -> Result<TlsConfig, String> {
        let environment = Environment::empty().with_user("u").with_home("/home/u");
        let resolved = conninfo.parse::<ConnInfo>().unwrap().resolve(&environment).unwrap();
        TlsConfig::new(&resolved).map_err(|error| error.to_string())
    }

    #[test]
    fn defaults_are_libpqs() {
        let tls = tls("").unwrap();
        let file = |path: &str| Some(TlsFile { path: path.into(), is_named: false });
        assert_eq!((tls.mode, tls.negotiation), (SslMode::Prefer, SslNegotiation::Postgres));
        assert_eq!(tls.root_certificates, file("/home/u/.postgresql/root.crt").map(RootCertificates::File));
        assert_eq!(tls.certificate, file("/home/u/.postgresql/postgresql.crt"));
        assert_eq!(tls.key, file("/home/u/.postgresql/postgresql.key"));
        assert_eq!(tls.revocation_list, file("/home/u/.postgresql/root.crl"));
        assert_eq!((tls.min_version, tls.max_version), (TlsVersion::V1_2, TlsVersion::V1_3));
        assert_eq!(tls.certificate_mode, SslCertMode::Allow);
        assert!(tls.sends_server_name);
    }

    #[test]
    fn without_a_home_directory_there_are_no_default_files() {
        let resolved = ConnInfo::new().resolve(&Environment::empty().with_user("u")).unwrap();
        let tls = TlsConfig::new(&resolved).unwrap();
        assert_eq!(
            (tls.root_certificates, tls.certificate, tls.key, tls.revocation_list),
            (None, None, None, None)
        );
    }

    #[test]
    fn a_directory_of_revocations_takes_the_place_of_the_default_file() {
        let with_directory = tls("sslcrldir=/crl").unwrap();
        assert_eq!(with_directory.revocation_list, None);
        assert_eq!(with_directory.revocation_directory, Some("/crl".into()));
        let with_both = tls("sslcrldir=/crl sslcrl=/x").unwrap();
        assert_eq!(with_both.revocation_list, Some(TlsFile { path: "/x".into(), is_named: true }));
    }

    #[test]
    fn the_systems_certificates_require_verify_full() {
        let with_system = tls("sslrootcert=system").unwrap();
        assert_eq!(with_system.mode, SslMode::VerifyFull);
        assert_eq!(with_system.root_certificates, Some(RootCertificates::System));
        for mode in ["disable", "allow", "prefer", "require", "verify-ca"] {
            let message = format!(
                "weak sslmode \"{mode}\" may not be used with sslrootcert=system (use \"verify-full\")"
            );
            assert_eq!(tls(&format!("sslrootcert=system sslmode={mode}")).unwrap_err(), message);
        }
    }

    #[test]
    fn direct_negotiation_needs_a_strong_mode() {
        assert!(tls("sslnegotiation=direct sslmode=require").is_ok());
        assert_eq!(
            tls("sslnegotiation=direct").unwrap_err(),
            "weak sslmode \"prefer\" may not be used with sslnegotiation=direct (use \"require\", \
             \"verify-ca\", or \"verify-full\")"
        );
    }

    #[test]
    fn version_names_ignore_case_and_old_versions_are_only_a_lower_bound() {
        let versions = |conninfo| tls(conninfo).map(|tls| (tls.min_version, tls.max_version));
        assert_eq!(versions("ssl_min_protocol_version=tlsV1.3"), Ok((TlsVersion::V1_3, TlsVersion::V1_3)));
        assert_eq!(versions("ssl_max_protocol_version=TLSv1.2"), Ok((TlsVersion::V1_2, TlsVersion::V1_2)));
        assert_eq!(versions("ssl_min_protocol_version=TLSv1"), Ok((TlsVersion::V1_2, TlsVersion::V1_3)));
        assert_eq!(versions("ssl_min_protocol_version=''"), Ok((TlsVersion::V1_2, TlsVersion::V1_3)));
        let old = "ssl_min_protocol_version=TLSv1 ssl_max_protocol_version=TLSv1.1";
        assert!(versions(old).unwrap_err().contains("is not supported"));
        assert!(versions(&format!("{old} sslmode=disable")).is_ok());
    }

    #[test]
    fn mistakes_are_reported_in_libpqs_words() {
        for (conninfo, message) in [
            ("sslmode=''", "invalid sslmode value: \"\""),
            ("sslmode=Require", "invalid sslmode value: \"Require\""),
            ("sslnegotiation=x", "invalid sslnegotiation value: \"x\""),
            ("sslcertmode=''", "invalid sslcertmode value: \"\""),
            ("ssl_min_protocol_version=x", "invalid \"ssl_min_protocol_version\" value: \"x\""),
            ("ssl_max_protocol_version=TLS", "invalid \"ssl_max_protocol_version\" value: \"TLS\""),
            ("ssl_max_protocol_version=TLSv1.1", "invalid SSL protocol version range"),
            (
                "sslkey=pkcs11:id",
                "sslkey \"pkcs11:id\" names a key in an OpenSSL engine, which is not supported",
            ),
        ] {
            assert_eq!(tls(conninfo).unwrap_err(), message, "{conninfo}");
        }
        assert!(tls("sslkey=/a:b").is_ok());
    }

    #[test]
    fn only_the_value_1_makes_the_client_send_the_server_name() {
        for (value, sends) in [("1", true), ("0", false), ("''", false), ("true", false)] {
            assert_eq!(tls(&format!("sslsni={value}")).unwrap().sends_server_name, sends, "{value}");
        }
    }
}
