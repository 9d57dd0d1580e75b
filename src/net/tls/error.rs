use core::fmt;
use std::format;
use std::string::String;

use crate::conninfo::SslMode;

/// Why a TLS session could not be set up, or why it ended.
///
/// `Display` is libpq's message where libpq has one; the TLS library's message follows `SSL error:`, as
/// OpenSSL's does in libpq. An error holds no secret.
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
    /// The server sent a certificate and could not prove that it holds the certificate's key.
    Forged,
    /// The server rejected the client's certificate, or did not request one although `sslcertmode=require` is
    /// set.
    ClientCertificate,
    /// The server has no version, cipher, key exchange or kind of key in common with tapster's TLS.
    NothingInCommon,
    /// The server broke the rules of TLS, or the connection broke during the handshake.
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
