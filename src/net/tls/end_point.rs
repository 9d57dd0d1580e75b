//! `tls-server-end-point` (RFC 5929): the hash of the server's certificate to which SCRAM-SHA-256-PLUS binds
//! the authentication.

use std::vec::Vec;

use ring::digest::{SHA384, SHA512, digest};
use sha2::{Digest as _, Sha224, Sha256};

use super::certificate::Certificate;
use super::der::{Der, OID, SEQUENCE, explicit};

/// The hash of a certificate, with the hash function of its signature; SHA-256 in place of MD5 and SHA-1.
///
/// `None` if the signature has no hash function of its own (Ed25519) or one that is not in the tables below
/// (SHA-3): then no channel binding is possible.
pub(super) fn tls_server_end_point(certificate: &[u8]) -> Option<Vec<u8>> {
    let hash = Hash::of_signature(Certificate::parse(certificate).ok()?.signature_algorithm)?;
    // SHA-384 and SHA-512 come from ring, which TLS needs anyway and which has no SHA-224.
    Some(match hash {
        Hash::Sha224 => Sha224::digest(certificate).to_vec(),
        Hash::Sha256 => Sha256::digest(certificate).to_vec(),
        Hash::Sha384 => digest(&SHA384, certificate).as_ref().to_vec(),
        Hash::Sha512 => digest(&SHA512, certificate).as_ref().to_vec(),
    })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hash {
    Sha224,
    Sha256,
    Sha384,
    Sha512,
}

impl Hash {
    /// The hash function of a signature algorithm, given the contents of its identifier.
    fn of_signature(identifier: &[u8]) -> Option<Self> {
        let mut identifier = Der::new(identifier);
        let oid = identifier.take(OID).ok()?;
        if oid == RSA_PSS {
            let mut parameters = identifier.enter(SEQUENCE).ok()?;
            return match parameters.take_if(explicit(0)).ok()? {
                Some(hash) => Self::by_oid(HASHES, Der::new(hash).enter(SEQUENCE).ok()?.take(OID).ok()?),
                // SHA-1, the default.
                None => Some(Self::Sha256),
            };
        }
        Self::by_oid(SIGNATURES, oid)
    }

    fn by_oid(known: &[(&[u8], Self)], oid: &[u8]) -> Option<Self> {
        known.iter().find(|(known, _)| *known == oid).map(|(_, hash)| *hash)
    }
}

const RSA_PSS: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 10];

/// Object identifiers of hash functions. MD5 and SHA-1 are too weak to bind to (RFC 5929, 4.1).
const HASHES: &[(&[u8], Hash)] = &[
    (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 2, 5], Hash::Sha256), // MD5
    (&[0x2b, 14, 3, 2, 26], Hash::Sha256),                       // SHA-1
    (&[0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 1], Hash::Sha256),
    (&[0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 2], Hash::Sha384),
    (&[0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 3], Hash::Sha512),
    (&[0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 4], Hash::Sha224),
];

/// Object identifiers of signature algorithms with a fixed hash function.
const SIGNATURES: &[(&[u8], Hash)] = &[
    // RSA (PKCS #1 v1.5)
    (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 4], Hash::Sha256), // MD5
    (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 5], Hash::Sha256), // SHA-1
    (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 11], Hash::Sha256),
    (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 12], Hash::Sha384),
    (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 13], Hash::Sha512),
    (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 14], Hash::Sha224),
    // ECDSA
    (&[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 1], Hash::Sha256), // SHA-1
    (&[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 1], Hash::Sha224),
    (&[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2], Hash::Sha256),
    (&[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 3], Hash::Sha384),
    (&[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 4], Hash::Sha512),
    // DSA, used by old authorities
    (&[0x2a, 0x86, 0x48, 0xce, 0x38, 4, 3], Hash::Sha256), // SHA-1
    (&[0x60, 0x86, 0x48, 1, 0x65, 3, 4, 3, 1], Hash::Sha224),
    (&[0x60, 0x86, 0x48, 1, 0x65, 3, 4, 3, 2], Hash::Sha256),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::tls::der::sequence;

    const RSA: &[u8] = &[OID, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1];
    const SHA: &[u8] = &[OID, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2];

    #[test]
    fn the_hash_function_is_that_of_the_signature_but_at_least_sha_256() {
        let rsa = |number| Hash::of_signature(&[RSA, &[number, 5, 0]].concat());
        assert_eq!((rsa(4), rsa(5)), (Some(Hash::Sha256), Some(Hash::Sha256)), "MD5 and SHA-1");
        assert_eq!((rsa(11), rsa(12)), (Some(Hash::Sha256), Some(Hash::Sha384)));
        assert_eq!((rsa(13), rsa(14)), (Some(Hash::Sha512), Some(Hash::Sha224)));
        let ecdsa = |number| Hash::of_signature(&[OID, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, number]);
        assert_eq!((ecdsa(1), ecdsa(2)), (Some(Hash::Sha224), Some(Hash::Sha256)));
        assert_eq!((ecdsa(3), ecdsa(4)), (Some(Hash::Sha384), Some(Hash::Sha512)));
        assert_eq!(Hash::of_signature(&[OID, 3, 0x2b, 0x65, 0x70]), None, "Ed25519");
        assert_eq!(Hash::of_signature(&[OID, 3, 0x2b, 0x65, 0x71]), None, "Ed448");
        assert_eq!(Hash::of_signature(&[]), None);
    }

    #[test]
    fn rsa_pss_has_its_hash_in_parameters() {
        let pss = |hash: Option<u8>| {
            let hash = hash.map_or_else(Vec::new, |number| {
                let mut field = sequence(&sequence(&[SHA, &[number]].concat()));
                field[0] = explicit(0);
                field
            });
            Hash::of_signature(&[RSA, &[10], &sequence(&hash)].concat())
        };
        assert_eq!(pss(None), Some(Hash::Sha256), "SHA-1, the default");
        assert_eq!((pss(Some(1)), pss(Some(2))), (Some(Hash::Sha256), Some(Hash::Sha384)));
        assert_eq!((pss(Some(3)), pss(Some(4))), (Some(Hash::Sha512), Some(Hash::Sha224)));
        assert_eq!(pss(Some(8)), None, "SHA3-256");
    }
}
