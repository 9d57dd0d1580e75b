//! Reading the files that the parameters name.

use std::io::{self, ErrorKind};
use std::path::Path;
use std::string::{String, ToString as _};
use std::vec::Vec;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

/// Reads a whole file; `None` if it does not exist.
pub(super) fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The bytes after a UTF-8 byte order mark, which editors of Windows put first and OpenSSL skips.
pub(super) fn without_bom(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes)
}

/// The certificates in a PEM file, under each label that OpenSSL knows for them: `CERTIFICATE`, `X509 CERTIFICATE`, and
/// `TRUSTED CERTIFICATE`, where settings of OpenSSL may follow the certificate.
pub(super) fn certificates(bytes: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let mut plain = Vec::with_capacity(bytes.len());
    for line in without_bom(bytes).split_inclusive(|&byte| byte == b'\n') {
        let label = line.strip_prefix(b"-----BEGIN ").map(|label| ("-----BEGIN ", label));
        let label = label.or_else(|| line.strip_prefix(b"-----END ").map(|label| ("-----END ", label)));
        match label {
            Some((dashes, label)) => {
                plain.extend_from_slice(dashes.as_bytes());
                let other = label.strip_prefix(b"TRUSTED ").or_else(|| label.strip_prefix(b"X509 "));
                let is_certificate = |label: &&[u8]| label.starts_with(b"CERTIFICATE-----");
                plain.extend_from_slice(other.filter(is_certificate).unwrap_or(label));
            }
            None => plain.extend_from_slice(line),
        }
    }
    let found = pem::<CertificateDer<'static>>(&plain).map_err(|error| error.to_string())?;
    found.into_iter().map(without_settings).collect()
}

/// The certificate without OpenSSL's settings after it: a name, or for what it may be trusted. The latter cannot be
/// honoured here, so such a certificate is refused.
fn without_settings(certificate: CertificateDer<'static>) -> Result<CertificateDer<'static>, String> {
    let Some((own, settings)) = first_element(&certificate) else { return Ok(certificate) };
    match settings {
        [] => Ok(certificate),
        // An alias, or nothing: no list of purposes comes first.
        [0x30, _, 0x0c, ..] | [0x30, 0] => Ok(own.to_vec().into()),
        _ => Err("a TRUSTED CERTIFICATE has trust settings, which tapster does not know; write it without them, by \
                  \"openssl x509\" without -trustout"
            .into()),
    }
}

/// Splits off the first element of DER.
fn first_element(der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&[_, first], rest) = der.split_first_chunk::<2>()?;
    let of_length = usize::from(first & 0x7f);
    let (header, length) = if first < 0x80 {
        (2, usize::from(first))
    } else {
        let length = rest.get(..of_length).filter(|_| of_length <= 4)?;
        (2 + of_length, length.iter().fold(0_usize, |sum, &byte| sum << 8 | usize::from(byte)))
    };
    der.split_at_checked(header.checked_add(length)?)
}

/// All items of one kind in a PEM file; without one, an error.
pub(super) fn pem<T: PemObject>(bytes: &[u8]) -> Result<Vec<T>, rustls::pki_types::pem::Error> {
    let items = T::pem_slice_iter(without_bom(bytes)).collect::<Result<Vec<T>, _>>()?;
    if items.is_empty() { Err(rustls::pki_types::pem::Error::NoItemsFound) } else { Ok(items) }
}
