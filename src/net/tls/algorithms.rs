//! The supported signature algorithms: those of rustls with ring, and RSA-PSS with keys that may be used for
//! nothing else.
//!
//! Certificates with such a key (`id-RSASSA-PSS`, as `openssl genpkey -algorithm rsa-pss` makes it) are rare
//! on the web, so rustls leaves them out; companies' own authorities use them more often.

use std::vec::Vec;

use rustls::SignatureScheme;
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::{
    AlgorithmIdentifier, InvalidSignature, SignatureVerificationAlgorithm, SubjectPublicKeyInfoDer, alg_id,
};
use webpki::RawPublicKeyEntity;
use webpki::ring::{
    RSA_PSS_2048_8192_SHA256_LEGACY_KEY, RSA_PSS_2048_8192_SHA384_LEGACY_KEY,
    RSA_PSS_2048_8192_SHA512_LEGACY_KEY,
};

type Algorithm = dyn SignatureVerificationAlgorithm;

/// The algorithms of a cryptography provider, and those that this file adds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Algorithms(WebPkiSupportedAlgorithms);

impl Algorithms {
    pub(super) fn new(provider: WebPkiSupportedAlgorithms) -> Self {
        Self(provider)
    }

    /// The algorithms for the signatures of certificates.
    pub(super) fn for_certificates(&self) -> Vec<&'static Algorithm> {
        let pss = PSS_KEYS.iter().map(|(_, algorithm)| *algorithm as &Algorithm);
        self.0.all.iter().copied().chain(pss).collect()
    }

    /// The schemes for the signature of the handshake, which are sent to the server.
    pub(super) fn schemes(&self) -> Vec<SignatureScheme> {
        let mut schemes = self.0.supported_schemes();
        schemes.extend(PSS_SCHEMES);
        schemes
    }

    /// Whether the handshake was signed with this key, which is that of the server's certificate.
    pub(super) fn is_signed(
        &self,
        key: &SubjectPublicKeyInfoDer<'_>,
        scheme: SignatureScheme,
        message: &[u8],
        signature: &[u8],
        is_tls13: bool,
    ) -> bool {
        let Ok(key) = RawPublicKeyEntity::try_from(key) else { return false };
        self.for_scheme(scheme, is_tls13)
            .iter()
            .any(|algorithm| key.verify_signature(*algorithm, message, signature).is_ok())
    }

    /// The algorithms that a scheme may stand for. TLS 1.3 ties it to one curve, and has no PKCS #1.
    fn for_scheme(&self, scheme: SignatureScheme, is_tls13: bool) -> Vec<&'static Algorithm> {
        use SignatureScheme::{RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512};
        if is_tls13 && matches!(scheme, RSA_PKCS1_SHA256 | RSA_PKCS1_SHA384 | RSA_PKCS1_SHA512) {
            return Vec::new();
        }
        let usual = self.0.mapping.iter().filter(|(known, _)| *known == scheme);
        let usual = usual.flat_map(|(_, algorithms)| *algorithms).copied();
        let pss = PSS_KEYS.iter().filter(|(known, _)| *known == scheme);
        let pss = pss.map(|(_, algorithm)| *algorithm as &Algorithm);
        usual.take(if is_tls13 { 1 } else { usize::MAX }).chain(pss).collect()
    }
}

/// RSA-PSS with a key that is restricted to RSA-PSS.
#[derive(Debug)]
struct PssKey {
    key: AlgorithmIdentifier,
    /// The same algorithm with an ordinary RSA key.
    with_rsa_key: &'static Algorithm,
}

impl SignatureVerificationAlgorithm for PssKey {
    fn public_key_alg_id(&self) -> AlgorithmIdentifier {
        self.key
    }

    fn signature_alg_id(&self) -> AlgorithmIdentifier {
        self.with_rsa_key.signature_alg_id()
    }

    fn verify_signature(
        &self,
        public_key: &[u8],
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), InvalidSignature> {
        self.with_rsa_key.verify_signature(public_key, message, signature)
    }
}

/// `rsa_pss_pss_sha256`, `_sha384` and `_sha512` (RFC 8446, 4.2.3).
const PSS_SCHEMES: [SignatureScheme; 3] =
    [SignatureScheme::Unknown(0x0809), SignatureScheme::Unknown(0x080a), SignatureScheme::Unknown(0x080b)];

/// `id-RSASSA-PSS` without parameters: the key may sign with any hash function.
const ANY_HASH: AlgorithmIdentifier =
    AlgorithmIdentifier::from_slice(&[6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 10]);

/// Each hash function, with keys that allow any hash function and with keys that are bound to this one.
static PSS_KEYS: [(SignatureScheme, &PssKey); 6] = [
    (PSS_SCHEMES[0], &PssKey { key: ANY_HASH, with_rsa_key: RSA_PSS_2048_8192_SHA256_LEGACY_KEY }),
    (PSS_SCHEMES[1], &PssKey { key: ANY_HASH, with_rsa_key: RSA_PSS_2048_8192_SHA384_LEGACY_KEY }),
    (PSS_SCHEMES[2], &PssKey { key: ANY_HASH, with_rsa_key: RSA_PSS_2048_8192_SHA512_LEGACY_KEY }),
    (
        PSS_SCHEMES[0],
        &PssKey { key: alg_id::RSA_PSS_SHA256, with_rsa_key: RSA_PSS_2048_8192_SHA256_LEGACY_KEY },
    ),
    (
        PSS_SCHEMES[1],
        &PssKey { key: alg_id::RSA_PSS_SHA384, with_rsa_key: RSA_PSS_2048_8192_SHA384_LEGACY_KEY },
    ),
    (
        PSS_SCHEMES[2],
        &PssKey { key: alg_id::RSA_PSS_SHA512, with_rsa_key: RSA_PSS_2048_8192_SHA512_LEGACY_KEY },
    ),
];
