//! The replacement for TLS in a build without it.

use super::TlsError;
use crate::conninfo::TlsConfig;
use crate::net::Stream;

/// TLS settings, of which no value can exist in this build.
#[derive(Debug)]
pub(crate) enum Tls {}

impl Tls {
    pub(crate) fn new(config: &TlsConfig) -> Result<Self, TlsError> {
        Err(TlsError::not_built(config.mode))
    }
}

impl Stream {
    #[expect(clippy::unused_async, reason = "as with TLS")]
    pub(crate) async fn start_tls(
        self,
        tls: &Tls,
        _host: Option<&str>,
        _is_direct: bool,
    ) -> Result<(Self, Option<std::vec::Vec<u8>>), TlsError> {
        match *tls {}
    }
}

impl TlsError {
    /// No error is from TLS in this build.
    pub(crate) fn from_io(error: std::io::Error) -> Result<Self, std::io::Error> {
        Err(error)
    }
}
