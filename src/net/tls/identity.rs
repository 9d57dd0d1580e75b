//! The client's certificate and its key.

use core::sync::atomic::{AtomicBool, Ordering};
use std::format;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::string::{String, ToString as _};
use std::sync::Arc;

use rustls::SignatureScheme;
use rustls::client::ResolvesClientCert;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::sign::CertifiedKey;
use zeroize::Zeroizing;

use super::certificate::Certificate;
use super::{TlsError, TlsErrorKind, files};
use crate::conninfo::{Password, SslCertMode, TlsConfig};

/// Reads the client's certificate and key; `None` if there is no certificate or none may be sent.
///
/// A missing certificate file is no error, even if it was named: as in libpq, the server decides whether it
/// needs a certificate.
pub(super) fn load(
    config: &TlsConfig,
    provider: &CryptoProvider,
) -> Result<Option<Arc<CertifiedKey>>, TlsError> {
    let file = config.certificate.as_ref().filter(|_| config.certificate_mode != SslCertMode::Disable);
    let Some(file) = file else { return Ok(None) };
    let path = file.path.display();
    let bytes = files::read(&file.path)
        .map_err(|error| file_error(format!("could not open certificate file \"{path}\": {error}")))?;
    let Some(bytes) = bytes else {
        if file.is_named {
            log::warn!("certificate file \"{path}\" does not exist; going on without a certificate");
        }
        return Ok(None);
    };
    let chain = files::certificates(&bytes)
        .map_err(|error| file_error(format!("could not read certificate file \"{path}\": {error}")))?;
    let Some(key_file) = &config.key else {
        return Err(file_error("certificate present, but not private key file".into()));
    };
    let key = read_key(&key_file.path, config.key_password.as_ref())?;
    let path = key_file.path.display();
    let key = provider.key_provider.load_private_key(key).map_err(|error| {
        file_error(format!("could not load private key file \"{path}\": {error}; {KEYS}"))
    })?;
    let certificate = chain.first().and_then(|certificate| Certificate::parse(certificate).ok());
    let certified = certificate.map(|certificate| certificate.public_key());
    if key.public_key().is_none_or(|key| Some(key) != certified) {
        return Err(file_error(format!("certificate does not match private key file \"{path}\"")));
    }
    Ok(Some(Arc::new(CertifiedKey::new(chain, key))))
}

/// Other keys (DSA, P-521, Ed448) are refused before anything is sent.
const KEYS: &str =
    "tapster takes RSA keys of 2048 to 8192 bits, ECDSA keys on P-256 or P-384, and Ed25519 keys";

fn read_key(path: &Path, password: Option<&Password>) -> Result<PrivateKeyDer<'static>, TlsError> {
    let shown = path.display();
    let metadata = match path.metadata() {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(file_error(format!("certificate present, but not private key file \"{shown}\"")));
        }
        Err(error) => {
            return Err(file_error(format!("could not stat private key file \"{shown}\": {error}")));
        }
    };
    check_access(&metadata, path)?;
    let bytes = std::fs::read(path).map(Zeroizing::new);
    let bytes =
        bytes.map_err(|error| file_error(format!("could not load private key file \"{shown}\": {error}")))?;
    parse_key(&bytes, password)
        .map_err(|reason| file_error(format!("could not load private key file \"{shown}\": {reason}")))
}

/// Only its owner may read a private key; if root owns it, a group may read it too.
fn check_access(metadata: &Metadata, path: &Path) -> Result<(), TlsError> {
    let path = path.display();
    if !metadata.is_file() {
        return Err(file_error(format!("private key file \"{path}\" is not a regular file")));
    }
    let forbidden = if metadata.uid() == 0 { 0o037 } else { 0o077 };
    if metadata.mode() & forbidden != 0 {
        return Err(file_error(format!(
            "private key file \"{path}\" has group or world access; file must have permissions u=rw (0600) or \
             less if owned by the current user, or permissions u=rw,g=r (0640) or less if owned by root"
        )));
    }
    Ok(())
}

/// Parses a key in PEM or else in DER, as PKCS #8, PKCS #1 or SEC 1, possibly encrypted. The error says why
/// the bytes are no key.
fn parse_key(bytes: &[u8], password: Option<&Password>) -> Result<PrivateKeyDer<'static>, String> {
    if let Some(key) = decrypt(bytes, password)? {
        return Ok(key);
    }
    match PrivateKeyDer::from_pem_slice(files::without_bom(bytes)) {
        Ok(key) => Ok(key),
        Err(pem_error) => {
            PrivateKeyDer::try_from(bytes).map(|key| key.clone_key()).map_err(|_| pem_error.to_string())
        }
    }
}

/// Decrypts the key if it is encrypted; `None` if it is not.
#[cfg(feature = "encrypted-key")]
fn decrypt(bytes: &[u8], password: Option<&Password>) -> Result<Option<PrivateKeyDer<'static>>, String> {
    use super::encrypted_key::EncryptedKey;
    let Some(key) = EncryptedKey::find(bytes) else { return Ok(None) };
    let Some(password) = password else {
        return Err("it is encrypted, and sslpassword is not set".into());
    };
    let key = key.decrypt(password.as_bytes())?;
    let key = PrivateKeyDer::try_from(&**key).map_err(|_| "bad decrypt: is sslpassword right?")?;
    Ok(Some(key.clone_key()))
}

#[cfg(not(feature = "encrypted-key"))]
fn decrypt(bytes: &[u8], _password: Option<&Password>) -> Result<Option<PrivateKeyDer<'static>>, String> {
    // "BEGIN ENCRYPTED PRIVATE KEY" of PKCS #8, "Proc-Type: 4,ENCRYPTED" of OpenSSL's older form.
    if bytes.windows(9).any(|window| window == b"ENCRYPTED") {
        return Err("it is encrypted, which needs the feature `encrypted-key` of tapster".into());
    }
    Ok(None)
}

/// Sends the certificate to the server if the server asks for one, and remembers whether it asked.
#[derive(Debug)]
pub(super) struct Resolver {
    pub(super) identity: Option<Arc<CertifiedKey>>,
    pub(super) was_asked: AtomicBool,
}

impl Resolver {
    /// Checks after the handshake what `sslcertmode=require` demands: the server asked for a certificate and
    /// got one.
    pub(super) fn check_shown(&self) -> Result<(), TlsError> {
        if !self.was_asked.load(Ordering::Relaxed) {
            return Err(TlsError::certificate_not_requested());
        }
        if self.identity.is_none() {
            let message = "server accepted connection without a valid SSL certificate";
            return Err(TlsError::new(TlsErrorKind::ClientCertificate, message));
        }
        Ok(())
    }
}

impl ResolvesClientCert for Resolver {
    fn resolve(&self, _issuers: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.was_asked.store(true, Ordering::Relaxed);
        // As in libpq, the certificate is sent whichever issuers the server names.
        self.identity.clone()
    }

    fn has_certs(&self) -> bool {
        self.identity.is_some()
    }
}

fn file_error(message: String) -> TlsError {
    TlsError::new(TlsErrorKind::File, message)
}
