use core::sync::atomic::AtomicBool;
use std::format;
use std::io;
use std::string::{String, ToString as _};
use std::sync::Arc;
use std::vec::Vec;

use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{IpAddr, Ipv4Addr, ServerName};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, KeyLog, SupportedProtocolVersion};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::algorithms::Algorithms;
use super::end_point::tls_server_end_point;
use super::identity::{self, Resolver};
use super::key_log::KeyLogFile;
use super::roots::Roots;
use super::verifier::{Verifier, from_rustls};
use super::{TlsError, TlsErrorKind};
use crate::conninfo::{SslCertMode, SslMode, TlsConfig, TlsVersion};
use crate::net::Stream;

pub(crate) type TlsStream = tokio_rustls::client::TlsStream<TcpStream>;

/// The name of PostgreSQL's protocol in ALPN.
const ALPN: &[u8] = b"postgresql";

/// The settings and files of the `ssl…` parameters, read once and usable for any host.
#[derive(Debug)]
pub(crate) struct Tls {
    provider: Arc<CryptoProvider>,
    versions: Vec<&'static SupportedProtocolVersion>,
    roots: Option<Arc<Roots>>,
    checks_name: bool,
    sends_server_name: bool,
    identity: Option<Arc<CertifiedKey>>,
    must_show_certificate: bool,
    key_log: Option<Arc<KeyLogFile>>,
}

impl Tls {
    /// Reads the files that the parameters name.
    pub(crate) fn new(config: &TlsConfig) -> Result<Self, TlsError> {
        let provider = rustls::crypto::ring::default_provider();
        let versions =
            [(TlsVersion::V1_2, &rustls::version::TLS12), (TlsVersion::V1_3, &rustls::version::TLS13)];
        let range = config.min_version..=config.max_version;
        let key_log = config.key_log_file.as_deref().and_then(|path| match KeyLogFile::open(path) {
            Ok(file) => Some(Arc::new(file)),
            Err(error) => {
                log::warn!("could not open SSL key logging file \"{}\": {error}", path.display());
                None
            }
        });
        Ok(Self {
            versions: versions.iter().filter(|(name, _)| range.contains(name)).map(|(_, v)| *v).collect(),
            roots: Roots::load(config)?.map(Arc::new),
            checks_name: config.mode == SslMode::VerifyFull,
            sends_server_name: config.sends_server_name,
            identity: identity::load(config, &provider)?,
            must_show_certificate: config.certificate_mode == SslCertMode::Require,
            key_log,
            provider: Arc::new(provider),
        })
    }

    fn client_config(&self, host: Option<&str>, resolver: Arc<Resolver>) -> Result<ClientConfig, TlsError> {
        let verifier = Verifier {
            roots: self.roots.clone(),
            host: host.filter(|_| self.checks_name).map(String::from),
            algorithms: Algorithms::new(self.provider.signature_verification_algorithms),
        };
        let mut config = ClientConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(&self.versions)
            .map_err(|error| from_rustls(&error))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_client_cert_resolver(resolver);
        config.alpn_protocols = [ALPN.to_vec()].into();
        // A resumed session would not send the server's certificate, to which the authentication may be
        // bound.
        config.resumption = Resumption::disabled();
        if let Some(key_log) = &self.key_log {
            config.key_log = Arc::clone(key_log) as Arc<dyn KeyLog>;
        }
        Ok(config)
    }

    /// The name that is sent in the clear (SNI), so that a proxy can find the server. As in libpq, none is
    /// sent if the host is an address.
    fn server_name(&self, host: Option<&str>) -> Option<ServerName<'static>> {
        let is_address =
            |host: &str| host.contains(':') || host.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        let host = host.filter(|host| self.sends_server_name && !is_address(host))?;
        ServerName::try_from(host.to_string()).ok()
    }
}

impl Stream {
    /// Starts TLS on a TCP connection, from which no byte of TLS may have been read. Also gives the hash of
    /// the server's certificate for channel binding.
    ///
    /// `is_direct` says that no `SSLRequest` came before, so that the server has to confirm the protocol by
    /// ALPN.
    pub(crate) async fn start_tls(
        self,
        tls: &Tls,
        host: Option<&str>,
        is_direct: bool,
    ) -> Result<(Self, Option<Vec<u8>>), TlsError> {
        let Self::Tcp(tcp) = self else {
            return Err(TlsError::new(TlsErrorKind::Protocol, "TLS is for TCP connections only"));
        };
        if tls.checks_name && host.is_none_or(str::is_empty) {
            let message = "host name must be specified for a verified SSL connection";
            return Err(TlsError::new(TlsErrorKind::WrongName, message));
        }
        let resolver =
            Arc::new(Resolver { identity: tls.identity.clone(), was_asked: AtomicBool::new(false) });
        let mut config = tls.client_config(host, Arc::clone(&resolver))?;
        let name = tls.server_name(host);
        config.enable_sni = name.is_some();
        let no_name = ServerName::IpAddress(IpAddr::V4(Ipv4Addr::from([0; 4])));
        let connector = TlsConnector::from(Arc::new(config));
        let stream = connector.connect(name.unwrap_or(no_name), tcp).await.map_err(handshake_error)?;
        let (_, session) = stream.get_ref();
        if is_direct && session.alpn_protocol() != Some(ALPN) {
            let message = "direct SSL connection was established without ALPN protocol negotiation extension";
            return Err(TlsError::new(TlsErrorKind::Protocol, message));
        }
        if tls.must_show_certificate {
            resolver.check_shown()?;
        }
        let certificate = session.peer_certificates().and_then(<[_]>::first);
        let end_point = certificate.and_then(|certificate| tls_server_end_point(certificate));
        Ok((Self::Tls(stream.into()), end_point))
    }
}

fn handshake_error(error: io::Error) -> TlsError {
    TlsError::from_io(error).unwrap_or_else(|error| {
        let message = match error.kind() {
            io::ErrorKind::UnexpectedEof => "SSL SYSCALL error: EOF detected".into(),
            _ => format!("SSL SYSCALL error: {error}"),
        };
        TlsError::new(TlsErrorKind::Protocol, message)
    })
}

impl TlsError {
    /// Takes the TLS error out of an I/O error; gives the I/O error back if it holds none.
    pub(crate) fn from_io(error: io::Error) -> Result<Self, io::Error> {
        match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            Some(inner) => Ok(from_rustls(inner)),
            None => Err(error),
        }
    }
}
