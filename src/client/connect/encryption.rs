//! In which order encryptions are tried, and after what.

use crate::conninfo::{SslMode, SslNegotiation, TlsConfig};
use crate::error::ConnectFailure;
use crate::net::{TlsError, TlsErrorKind};
use crate::session::{Encryption, HandshakeError};

/// What to try at an address, and what to fall back on.
///
/// # Errors
/// If the mode insists on TLS and this build has none.
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

/// Whether a failure leads to the other encryption, as with libpq: a failure of TLS does, and so does a
/// refusal by the server, which may differ for connections with and without TLS.
///
/// Unlike with libpq the signature of somebody who only pretends to be the server does not.
pub(super) fn falls_back(tried: Encryption, in_tls: bool, failure: &ConnectFailure) -> bool {
    // A server without TLS was asked in clear already.
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
