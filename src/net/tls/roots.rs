//! The certificates that are trusted.

use std::boxed::Box;
use std::format;
use std::path::Path;
use std::string::{String, ToString};
use std::vec::Vec;

use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, TrustAnchor, UnixTime};
use webpki::{
    CertRevocationList, EndEntityCert, ExpirationPolicy, KeyUsage, OwnedCertRevocationList,
    RevocationCheckDepth, RevocationOptionsBuilder, UnknownStatusPolicy,
};

use super::algorithms::Algorithms;
use super::certificate::Certificate;
use super::der::BadDer;
use super::name_constraints::NameConstraints;
use super::{TlsError, TlsErrorKind, files, version_1};
use crate::conninfo::{RootCertificates, SslMode, TlsConfig, TlsFile};

/// Trusted certificates, and lists of those that are revoked.
#[derive(Debug)]
pub(super) struct Roots {
    certificates: Vec<CertificateDer<'static>>,
    anchors: Vec<TrustAnchor<'static>>,
    /// `None` if revocation is not checked. With an empty list no certificate passes, as in libpq.
    revoked: Option<Vec<CertRevocationList<'static>>>,
}

const ADVICE: &str = "Either provide the file, use the system's trusted roots with sslrootcert=system, or \
                      change sslmode to disable server certificate verification.";

impl Roots {
    /// Reads the files that the parameters name; `None` if they do not exist and the mode does not require
    /// them.
    pub(super) fn load(config: &TlsConfig) -> Result<Option<Self>, TlsError> {
        let must_verify = config.mode >= SslMode::VerifyCa;
        let certificates = match &config.root_certificates {
            Some(RootCertificates::System) => system_certificates()?,
            Some(RootCertificates::File(TlsFile { path, .. })) => match read_certificates(path)? {
                Some(certificates) => certificates,
                None if must_verify => {
                    let path = path.display();
                    return Err(file_error(format!(
                        "root certificate file \"{path}\" does not exist\n{ADVICE}"
                    )));
                }
                None => return Ok(None),
            },
            None if must_verify => {
                return Err(file_error(format!(
                    "could not get home directory to locate root certificate file\n{ADVICE}"
                )));
            }
            None => return Ok(None),
        };
        let anchor = |certificate| webpki::anchor_from_trusted_cert(certificate).ok();
        let anchors = certificates.iter().filter_map(anchor).map(|anchor| anchor.to_owned()).collect();
        let revoked = read_revoked(config)?;
        Ok(Some(Self { certificates, anchors, revoked }))
    }

    /// Checks that a chain leads from the server's certificate to a trusted one, and that all of it is valid
    /// now. Returns the constraints on names of the chain's authorities.
    pub(super) fn verify(
        &self,
        server: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        now: UnixTime,
        algorithms: Algorithms,
    ) -> Result<NameConstraints, TlsError> {
        let certificate = Certificate::parse(server).map_err(|_| untrusted("it cannot be read"))?;
        let is_trusted_itself = self.certificates.contains(server);
        if !is_trusted_itself && certificate.version != 1 {
            return self.verify_chain(server, others, now, algorithms);
        }
        // webpki accepts neither self-signed servers nor certificates of version 1.
        certificate.check_validity(now).map_err(untrusted)?;
        if self.revoked.is_some() {
            return Err(untrusted(
                "a certificate of version 1, or one that is trusted itself, cannot be checked for revocation",
            ));
        }
        if is_trusted_itself || version_1::is_trusted(&certificate, others, &self.anchors, now, algorithms) {
            return Ok(NameConstraints::default());
        }
        Err(untrusted(describe(&webpki::Error::UnknownIssuer)))
    }

    fn verify_chain(
        &self,
        server: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        now: UnixTime,
        algorithms: Algorithms,
    ) -> Result<NameConstraints, TlsError> {
        let lists: Option<Vec<_>> = self.revoked.as_ref().map(|lists| lists.iter().collect());
        let revocation = lists.as_ref().map(|lists| RevocationOptionsBuilder::new(lists)).transpose();
        let revocation = revocation.map_err(|_| untrusted("unable to get certificate CRL"))?.map(|options| {
            options
                .with_depth(RevocationCheckDepth::Chain)
                .with_status_policy(UnknownStatusPolicy::Deny)
                .with_expiration_policy(ExpirationPolicy::Enforce)
                .build()
        });
        let server = EndEntityCert::try_from(server).map_err(|error| untrusted(describe(&error)))?;
        let algorithms = algorithms.for_certificates();
        let usage = KeyUsage::server_auth();
        let path = server
            .verify_for_usage(&algorithms, &self.anchors, others, now, usage, revocation, None)
            .map_err(|error| untrusted(describe(&error)))?;
        constraints_of(&path).map_err(|_| untrusted("the name constraints of an authority cannot be read"))
    }
}

fn constraints_of(path: &webpki::VerifiedPath<'_>) -> Result<NameConstraints, BadDer> {
    let mut found = NameConstraints::default();
    for authority in path.intermediate_certificates() {
        found.add_authority(&authority.der())?;
    }
    if let Some(constraints) = &path.anchor().name_constraints {
        found.add(constraints)?;
    }
    Ok(found)
}

/// The certificates of the operating system, from where OpenSSL takes them too (`SSL_CERT_FILE`,
/// `SSL_CERT_DIR`).
fn system_certificates() -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found = rustls_native_certs::load_native_certs();
    if found.certs.is_empty() {
        let reasons: Vec<String> = found.errors.iter().map(ToString::to_string).collect();
        let reasons = if reasons.is_empty() { "none found".into() } else { reasons.join(", ") };
        return Err(file_error(format!("could not load system root certificate paths: {reasons}")));
    }
    Ok(found.certs)
}

fn read_certificates(path: &Path) -> Result<Option<Vec<CertificateDer<'static>>>, TlsError> {
    let error = |error: Box<dyn core::error::Error>| {
        file_error(format!("could not read root certificate file \"{}\": {error}", path.display()))
    };
    let Some(bytes) = files::read(path).map_err(|e| error(e.into()))? else { return Ok(None) };
    files::certificates(&bytes).map(Some).map_err(|e| error(e.into()))
}

/// Reads the revocation lists; `None` if none are configured or the file does not exist. A missing file is no
/// error, as in libpq; a file that cannot be read is one, as its revocations would be ignored.
fn read_revoked(config: &TlsConfig) -> Result<Option<Vec<CertRevocationList<'static>>>, TlsError> {
    let mut lists = Vec::new();
    let mut is_configured = false;
    if let Some(file) = &config.revocation_list {
        is_configured = read_list(&file.path, &mut lists)?;
    }
    if let Some(directory) = &config.revocation_directory {
        is_configured = true;
        let error = |error: std::io::Error| {
            let path = directory.display();
            file_error(format!("could not read certificate revocation list directory \"{path}\": {error}"))
        };
        for entry in std::fs::read_dir(directory).map_err(error)? {
            let path = entry.map_err(error)?.path();
            // OpenSSL's `rehash` calls them <hash of the issuer>.r<number>.
            let is_list = path
                .extension()
                .and_then(|extension| extension.to_str()?.strip_prefix('r')?.parse::<u32>().ok())
                .is_some();
            if is_list {
                read_list(&path, &mut lists)?;
            }
        }
    }
    Ok(is_configured.then_some(lists))
}

/// Adds the lists of a file; false if the file does not exist.
fn read_list(path: &Path, lists: &mut Vec<CertRevocationList<'static>>) -> Result<bool, TlsError> {
    let error = |reason: String| {
        file_error(format!("could not read certificate revocation list \"{}\": {reason}", path.display()))
    };
    let Some(bytes) = files::read(path).map_err(|e| error(e.to_string()))? else { return Ok(false) };
    for der in files::pem::<CertificateRevocationListDer<'_>>(&bytes).map_err(|e| error(e.to_string()))? {
        let list = OwnedCertRevocationList::from_der(&der).map_err(|e| error(format!("{e:?}")))?;
        lists.push(list.into());
    }
    Ok(true)
}

fn file_error(message: String) -> TlsError {
    TlsError::new(TlsErrorKind::File, message)
}

fn untrusted(reason: impl AsRef<str>) -> TlsError {
    let message = format!("SSL error: certificate verify failed: {}", reason.as_ref());
    TlsError::new(TlsErrorKind::Untrusted, message)
}

/// Describes an error in OpenSSL's words where they fit, because users search for them.
fn describe(error: &webpki::Error) -> String {
    use webpki::Error;
    match error {
        Error::CertExpired { .. } => "certificate has expired".into(),
        Error::CertNotValidYet { .. } => "certificate is not yet valid".into(),
        Error::CertRevoked => "certificate revoked".into(),
        Error::UnknownIssuer => "unable to get local issuer certificate".into(),
        Error::UnknownRevocationStatus => "unable to get certificate CRL".into(),
        Error::CrlExpired { .. } => "CRL has expired".into(),
        Error::InvalidSignatureForPublicKey => "certificate signature failure".into(),
        Error::CaUsedAsEndEntity => "it is an authority's certificate, not a server's".into(),
        Error::RequiredEkuNotFoundContext(_) => "unsuitable certificate purpose".into(),
        Error::UnsupportedSignatureAlgorithmContext(_)
        | Error::UnsupportedSignatureAlgorithmForPublicKeyContext(_) => {
            "its signature algorithm is not supported".into()
        }
        Error::NameConstraintViolation => "permitted subtree violation".into(),
        other => format!("{other:?}"),
    }
}
