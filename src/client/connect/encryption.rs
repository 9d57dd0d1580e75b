//! Which encryption is tried first, and after which failures the other one is tried.

use crate::client::error::ConnectFailure;
use crate::conninfo::{SslMode, SslNegotiation, TlsConfig};
use crate::net::{TlsError, TlsErrorKind};
use crate::session::{Encryption, HandshakeError};

/// The encryption to try first at an address, and the one to fall back on.
///
/// # Errors
/// If the mode requires TLS and this build has none.
pub(super) fn plan(
    config: &TlsConfig,
    is_tcp: bool,
) -> Result<(Encryption, Option<Encryption>), ConnectFailure> {
    let has_tls = cfg!(feature = "tls");
    Ok(match config.mode {
        // Unix sockets never use TLS: servers do not offer it there.
        _ if !is_tcp => (Encryption::Plain, None),
        SslMode::Disable => (Encryption::Plain, None),
        SslMode::Allow | SslMode::Prefer if !has_tls => (Encryption::Plain, None),
        SslMode::Allow => (Encryption::Plain, Some(Encryption::Tls)),
        SslMode::Prefer => (Encryption::TlsIfOffered, Some(Encryption::Plain)),
        mode if !has_tls => return Err(TlsError::not_built(mode).into()),
        _ if config.negotiation == SslNegotiation::Direct => (Encryption::DirectTls, None),
        _ => (Encryption::Tls, None),
    })
}

/// Whether to try the other encryption after this failure. As in libpq, a failure of TLS and a refusal by the
/// server are reasons to try it: the server may accept the connection with the other encryption.
///
/// Unlike in libpq, a forged signature is no reason: its sender only pretends to be the server.
pub(super) fn falls_back(tried: Encryption, in_tls: bool, failure: &ConnectFailure) -> bool {
    // A server that offers no TLS was already tried in the clear.
    let was_complete = in_tls || tried != Encryption::TlsIfOffered;
    was_complete
        && match failure {
            ConnectFailure::Handshake(error) => {
                matches!(error, HandshakeError::Server(_) | HandshakeError::OldStyleServer(_))
            }
            ConnectFailure::Tls(error) => error.kind() != TlsErrorKind::Forged,
            _ => false,
        }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conninfo::{ConnInfo, Environment};

    fn plan_of(conninfo: &str, is_tcp: bool) -> Result<(Encryption, Option<Encryption>), ConnectFailure> {
        let environment = Environment::empty().with_user("u");
        let resolved = conninfo.parse::<ConnInfo>().unwrap().resolve(&environment).unwrap();
        plan(&resolved.config().unwrap().tls, is_tcp)
    }

    #[cfg(feature = "tls")]
    #[test]
    fn the_mode_decides_the_first_encryption_and_the_fallback() {
        for (conninfo, expected) in [
            ("sslmode=disable", (Encryption::Plain, None)),
            ("sslmode=allow", (Encryption::Plain, Some(Encryption::Tls))),
            ("", (Encryption::TlsIfOffered, Some(Encryption::Plain))),
            ("sslmode=require", (Encryption::Tls, None)),
            ("sslmode=verify-ca", (Encryption::Tls, None)),
            ("sslmode=verify-full", (Encryption::Tls, None)),
            ("sslmode=require sslnegotiation=direct", (Encryption::DirectTls, None)),
        ] {
            assert_eq!(plan_of(conninfo, true).unwrap(), expected, "{conninfo}");
            assert_eq!(plan_of(conninfo, false).unwrap(), (Encryption::Plain, None), "{conninfo}");
        }
    }

    #[cfg(not(feature = "tls"))]
    #[test]
    fn a_build_without_tls_refuses_modes_that_require_it() {
        for mode in ["disable", "allow", "prefer"] {
            assert_eq!(plan_of(&std::format!("sslmode={mode}"), true).unwrap(), (Encryption::Plain, None));
        }
        for mode in ["require", "verify-ca", "verify-full"] {
            let failure = plan_of(&std::format!("sslmode={mode}"), true).unwrap_err();
            let message =
                std::format!("sslmode value \"{mode}\" invalid when SSL support is not compiled in");
            assert_eq!(std::format!("{failure}"), message);
            assert!(plan_of(&std::format!("sslmode={mode}"), false).is_ok(), "Unix sockets have none");
        }
    }

    #[test]
    fn only_failures_that_the_other_encryption_may_avoid_fall_back() {
        let tls = |kind| ConnectFailure::Tls(TlsError::new(kind, ""));
        let refused = || ConnectFailure::Handshake(HandshakeError::OldStyleServer("no".into()));
        let before_tls = ConnectFailure::Handshake(HandshakeError::BytesBeforeTls);
        let if_offered = Encryption::TlsIfOffered;
        assert!(falls_back(if_offered, true, &tls(TlsErrorKind::Untrusted)));
        assert!(falls_back(if_offered, true, &tls(TlsErrorKind::Protocol)));
        assert!(!falls_back(if_offered, true, &tls(TlsErrorKind::Forged)));
        assert!(falls_back(if_offered, true, &refused()));
        assert!(!falls_back(if_offered, false, &refused()), "the server was already tried in the clear");
        assert!(falls_back(Encryption::Plain, false, &refused()));
        assert!(!falls_back(if_offered, true, &before_tls));
        assert!(!falls_back(if_offered, true, &ConnectFailure::Random));
    }
}
