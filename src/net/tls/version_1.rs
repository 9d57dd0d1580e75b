//! Server certificates of version 1.
//!
//! `openssl x509 -req` without an extension file makes them up to OpenSSL 3.1, and PostgreSQL's manual uses
//! that command, for a server below a root authority and below an intermediate one. webpki refuses such
//! certificates, but libpq's users have them. They have no extensions, so only dates, issuer and signature
//! can be checked. The issuer is a trusted certificate or an authority's certificate that a trusted one has
//! signed.

use rustls::pki_types::{CertificateDer, SubjectPublicKeyInfoDer, TrustAnchor, UnixTime};
use webpki::RawPublicKeyEntity;

use super::algorithms::Algorithms;
use super::certificate::Certificate;
use super::der::sequence;

/// Whether a chain of at most one more certificate leads from `server`, whose dates the caller has checked,
/// to an anchor.
pub(super) fn is_trusted(
    server: &Certificate<'_>,
    others: &[CertificateDer<'_>],
    anchors: &[TrustAnchor<'_>],
    now: UnixTime,
    algorithms: Algorithms,
) -> bool {
    let is_anchored = |certificate: &Certificate<'_>| {
        anchors.iter().any(|anchor| {
            // An anchor that may issue only certificates for some names is not trusted here: names are not
            // checked.
            anchor.name_constraints.is_none()
                && *anchor.subject == *certificate.issuer
                && is_signed_by(certificate, &sequence(&anchor.subject_public_key_info).into(), algorithms)
        })
    };
    is_anchored(server)
        || others.iter().filter_map(|other| Certificate::parse(other).ok()).any(|authority| {
            authority.subject == server.issuer
                && authority.is_plain_authority()
                && authority.check_validity(now).is_ok()
                && is_signed_by(server, &authority.public_key(), algorithms)
                && is_anchored(&authority)
        })
}

fn is_signed_by(
    certificate: &Certificate<'_>,
    key: &SubjectPublicKeyInfoDer<'_>,
    algorithms: Algorithms,
) -> bool {
    let Ok(key) = RawPublicKeyEntity::try_from(key) else { return false };
    algorithms
        .for_certificates()
        .iter()
        .filter(|algorithm| *algorithm.signature_alg_id() == *certificate.signature_algorithm)
        .any(|algorithm| key.verify_signature(*algorithm, certificate.signed, certificate.signature).is_ok())
}
