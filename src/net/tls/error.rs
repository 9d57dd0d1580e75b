use core::fmt;
use std::format;
use std::string::String;

use crate::conninfo::SslMode;

/// Why there is no TLS session to speak in.
///
/// `Display` is libpq's sentence where libpq has one; what the TLS library says follows `SSL error:`, as
/// OpenSSL's words do there. Nothing in it is secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsError {
    kind: TlsErrorKind,
    message: String,
}

/// What sort of failure a [`TlsError`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TlsErrorKind {
    /// TLS is required, and this build has none: the feature `tls` is off.
    NotBuilt,
    /// A file that the parameters name cannot be used, or one that is needed is missing.
    File,
    /// The server's certificate is not trusted: no chain to a trusted certificate, expired, revoked, ...
    Untrusted,
    /// The server's certificate is for another name.
    WrongName,
    /// The server showed a certificate and could not prove that it holds the key.
    Forged,
    /// The server did not take the client's certificate, or did not ask for one that has to be shown.
    ClientCertificate,
    /// The two sides could not agree, or the connection broke meanwhile.
    Protocol,
}

impl TlsError {
    pub(crate) fn new(kind: TlsErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    pub(crate) fn not_built(mode: SslMode) -> Self {
        Self::new(
            TlsErrorKind::NotBuilt,
            format!("sslmode value \"{mode}\" invalid when SSL support is not compiled in"),
        )
    }

    pub(crate) fn certificate_not_requested() -> Self {
        Self::new(TlsErrorKind::ClientCertificate, "server did not request an SSL certificate")
    }

    /// What sort of failure this is.
    #[must_use]
    pub fn kind(&self) -> TlsErrorKind {
        self.kind
    }
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl core::error::Error for TlsError {}
