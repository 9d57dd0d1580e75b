use std::string::String;
use std::sync::Arc;
use std::vec::Vec;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, OtherError, SignatureScheme};

use super::algorithms::Algorithms;
use super::certificate::Certificate;
use super::name_constraints::NameConstraints;
use super::roots::Roots;
use super::{TlsError, TlsErrorKind, names};

/// The checks of a server's certificate.
///
/// The server always has to prove that it holds the certificate's key, even if no trusted certificates are
/// known: otherwise channel binding could bind to a certificate of somebody else.
#[derive(Debug)]
pub(super) struct Verifier {
    /// The trusted certificates; `None` trusts every certificate.
    pub(super) roots: Option<Arc<Roots>>,
    /// The host whose name has to be in the certificate; `None` for any.
    pub(super) host: Option<String>,
    pub(super) algorithms: Algorithms,
}

impl Verifier {
    fn check_certificate(
        &self,
        server: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), TlsError> {
        let constraints = match &self.roots {
            Some(roots) => roots.verify(server, others, now, self.algorithms)?,
            None => NameConstraints::default(),
        };
        if let Some(host) = &self.host {
            names::check(&parse(server)?, host, &constraints)?;
        }
        Ok(())
    }

    fn check_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
        is_tls13: bool,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let key = parse(certificate).map_err(to_rustls)?.public_key();
        if self.algorithms.is_signed(&key, signed.scheme, message, signed.signature(), is_tls13) {
            return Ok(HandshakeSignatureValid::assertion());
        }
        let message = "SSL error: the server could not prove that it holds the key of its certificate";
        Err(to_rustls(TlsError::new(TlsErrorKind::Forged, message)))
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        server: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        // The name for SNI; a placeholder if none is sent.
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.check_certificate(server, others, now).map_err(to_rustls)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.check_signature(message, certificate, signed, false)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.check_signature(message, certificate, signed, true)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.schemes()
    }
}

fn parse<'a>(certificate: &'a CertificateDer<'_>) -> Result<Certificate<'a>, TlsError> {
    let unreadable =
        |_| TlsError::new(TlsErrorKind::Untrusted, "SSL error: the server certificate cannot be read");
    Certificate::parse(certificate).map_err(unreadable)
}

/// Wraps our error to carry it through rustls; [`from_rustls`] takes it out again.
fn to_rustls(error: TlsError) -> rustls::Error {
    rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(error))))
}

/// The limits of rustls with ring, for users whose server has nothing in common with them.
const WHAT_WE_SPEAK: &str = "tapster speaks TLS 1.2 and 1.3, with ECDHE (X25519, P-256, P-384), with AES-GCM or \
     ChaCha20-Poly1305, and with server keys of the kinds RSA, ECDSA on P-256 or P-384, and Ed25519: let the server offer \
     some of each (ssl_ciphers, ssl_groups or ssl_ecdh_curve, ssl_min_protocol_version, ssl_cert_file)";

pub(super) fn from_rustls(error: &rustls::Error) -> TlsError {
    use rustls::AlertDescription as Alert;
    let kind = match error {
        rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(ours))) => {
            if let Some(ours) = ours.downcast_ref::<TlsError>() {
                return ours.clone();
            }
            TlsErrorKind::Untrusted
        }
        rustls::Error::InvalidCertificate(_) => TlsErrorKind::Untrusted,
        // Alerts of a server that rejects the client's certificate, or needs one.
        rustls::Error::AlertReceived(
            Alert::BadCertificate
            | Alert::UnsupportedCertificate
            | Alert::CertificateRevoked
            | Alert::CertificateExpired
            | Alert::CertificateUnknown
            | Alert::CertificateRequired
            | Alert::UnknownCA
            | Alert::AccessDenied,
        ) => TlsErrorKind::ClientCertificate,
        rustls::Error::AlertReceived(
            Alert::HandshakeFailure | Alert::ProtocolVersion | Alert::InsufficientSecurity,
        )
        | rustls::Error::PeerIncompatible(_) => {
            return TlsError::new(
                TlsErrorKind::NothingInCommon,
                std::format!("SSL error: {error}; {WHAT_WE_SPEAK}"),
            );
        }
        rustls::Error::InvalidMessage(_) => {
            let message = std::format!("SSL error: {error}; perhaps what answers there speaks no TLS");
            return TlsError::new(TlsErrorKind::Protocol, message);
        }
        _ => TlsErrorKind::Protocol,
    };
    TlsError::new(kind, std::format!("SSL error: {error}"))
}
