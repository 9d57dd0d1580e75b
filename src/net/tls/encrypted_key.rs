//! Private keys that are encrypted with a password.

use core::num::NonZeroU32;
use std::string::String;
use std::vec::Vec;

use aes::cipher::{BlockCipherDecrypt, KeyInit};
use aes::{Aes128, Aes192, Aes256};
use base64ct::{Base64, Encoding as _};
use md5::{Digest as _, Md5};
use ring::pbkdf2;
use zeroize::Zeroizing;

use super::der::{BadDer, Der, INTEGER, OCTET_STRING, OID, SEQUENCE};

/// An encrypted key, and the way to derive the cipher's key from a password.
///
/// Two forms exist. PKCS #8 (`BEGIN ENCRYPTED PRIVATE KEY`, or DER) is what OpenSSL writes since 3.0; it is
/// read with PBKDF2 and AES in CBC mode, the default since OpenSSL 1.1. The older form, which has `Proc-Type:
/// 4,ENCRYPTED` as its first line, is read with AES in CBC mode.
pub(super) struct EncryptedKey {
    derivation: Derivation,
    key_len: usize,
    iv: [u8; BLOCK],
    encrypted: Vec<u8>,
}

enum Derivation {
    Pbkdf2 {
        algorithm: pbkdf2::Algorithm,
        iterations: NonZeroU32,
        salt: Vec<u8>,
    },
    /// OpenSSL's own derivation, with MD5 and the first half of the initialization vector as salt.
    BytesToKey,
    /// The key is encrypted in a way that is not supported, for this reason.
    Unsupported(&'static str),
}

const BLOCK: usize = 16;

impl EncryptedKey {
    /// Finds the encrypted key in the bytes of a file; `None` if they hold none.
    pub(super) fn find(bytes: &[u8]) -> Option<Self> {
        let Ok(text) = core::str::from_utf8(bytes) else { return Self::parse_pkcs8(bytes) };
        if let Some((_, body)) = text.split_once("-----BEGIN ENCRYPTED PRIVATE KEY-----") {
            let unreadable = || Self::unsupported("it is not a PKCS #8 file");
            return Some(
                decode_pem_body(body).and_then(|der| Self::parse_pkcs8(&der)).unwrap_or_else(unreadable),
            );
        }
        let (_, body) = text.split_once("Proc-Type: 4,ENCRYPTED")?;
        let unreadable = || Self::unsupported("its cipher is not AES in CBC mode");
        Some(Self::parse_openssl(body).unwrap_or_else(unreadable))
    }

    /// Parses the text after the line `Proc-Type`: `DEK-Info: AES-256-CBC,<hex>`, an empty line, and Base64.
    fn parse_openssl(body: &str) -> Option<Self> {
        let (_, info) = body.split_once("DEK-Info:")?;
        let (info, body) = info.split_once('\n')?;
        let (cipher, hex) = info.trim().split_once(',')?;
        let key_len = match cipher {
            "AES-128-CBC" => 16,
            "AES-192-CBC" => 24,
            "AES-256-CBC" => 32,
            _ => return None,
        };
        let iv = u128::from_str_radix(hex, 16).ok().filter(|_| hex.len() == 2 * BLOCK)?.to_be_bytes();
        Some(Self { derivation: Derivation::BytesToKey, key_len, iv, encrypted: decode_pem_body(body)? })
    }

    /// Parses `EncryptedPrivateKeyInfo` (RFC 5958) with the scheme PBES2 (RFC 8018). `None` if the bytes are
    /// something else.
    fn parse_pkcs8(der: &[u8]) -> Option<Self> {
        let mut outer = Der::new(der).enter(SEQUENCE).ok()?;
        let mut scheme = outer.enter(SEQUENCE).ok()?;
        let scheme_id = scheme.take(OID).ok()?;
        let encrypted = outer.take(OCTET_STRING).ok()?;
        if scheme_id != PBES2 {
            return Some(Self::unsupported("its encryption is older than PBES2"));
        }
        Some(Self::parse_pbes2(scheme, encrypted).unwrap_or_else(|BadDer| {
            Self::unsupported("it is not encrypted with PBKDF2 and AES in CBC mode")
        }))
    }

    fn parse_pbes2(mut scheme: Der<'_>, encrypted: &[u8]) -> Result<Self, BadDer> {
        let mut parameters = scheme.enter(SEQUENCE)?;
        let (mut derivation, mut cipher) = (parameters.enter(SEQUENCE)?, parameters.enter(SEQUENCE)?);
        if derivation.take(OID)? != PBKDF2 {
            return Err(BadDer);
        }
        let mut derivation = derivation.enter(SEQUENCE)?;
        let salt = derivation.take(OCTET_STRING)?.to_vec();
        let iterations = derivation.take(INTEGER)?;
        let iterations =
            iterations.iter().try_fold(0_u32, |n, &byte| n.checked_mul(256)?.checked_add(byte.into()));
        let iterations = iterations.and_then(NonZeroU32::new).ok_or(BadDer)?;
        derivation.take_if(INTEGER)?;
        let algorithm = match derivation.take_if(SEQUENCE)? {
            None => pbkdf2::PBKDF2_HMAC_SHA1,
            Some(function) => match Der::new(function).take(OID)? {
                // hmacWithSHA1, hmacWithSHA256, ...: 1.2.840.113549.2.x
                [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 2, 7] => pbkdf2::PBKDF2_HMAC_SHA1,
                [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 2, 9] => pbkdf2::PBKDF2_HMAC_SHA256,
                [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 2, 10] => pbkdf2::PBKDF2_HMAC_SHA384,
                [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 2, 11] => pbkdf2::PBKDF2_HMAC_SHA512,
                _ => return Err(BadDer),
            },
        };
        let key_len = match cipher.take(OID)? {
            // aes128-CBC, ...: 2.16.840.1.101.3.4.1.x
            [0x60, 0x86, 0x48, 1, 0x65, 3, 4, 1, 2] => 16,
            [0x60, 0x86, 0x48, 1, 0x65, 3, 4, 1, 22] => 24,
            [0x60, 0x86, 0x48, 1, 0x65, 3, 4, 1, 42] => 32,
            _ => return Err(BadDer),
        };
        let iv = cipher.take(OCTET_STRING)?.try_into().map_err(|_| BadDer)?;
        let derivation = Derivation::Pbkdf2 { algorithm, iterations, salt };
        Ok(Self { derivation, key_len, iv, encrypted: encrypted.to_vec() })
    }

    fn unsupported(reason: &'static str) -> Self {
        let derivation = Derivation::Unsupported(reason);
        Self { derivation, key_len: 0, iv: [0; BLOCK], encrypted: Vec::new() }
    }

    /// Decrypts the key, which is then in DER.
    pub(super) fn decrypt(&self, password: &[u8]) -> Result<Zeroizing<Vec<u8>>, String> {
        let key = self.cipher_key(password)?;
        let decrypted = match self.key_len {
            16 => Aes128::new_from_slice(&key).ok().and_then(|cipher| self.decrypt_cbc(&cipher)),
            24 => Aes192::new_from_slice(&key).ok().and_then(|cipher| self.decrypt_cbc(&cipher)),
            _ => Aes256::new_from_slice(&key).ok().and_then(|cipher| self.decrypt_cbc(&cipher)),
        };
        decrypted.ok_or_else(|| "bad decrypt: is sslpassword right?".into())
    }

    fn cipher_key(&self, password: &[u8]) -> Result<Zeroizing<Vec<u8>>, String> {
        let mut key = Zeroizing::new(Vec::with_capacity(2 * 16));
        match &self.derivation {
            Derivation::Unsupported(reason) => return Err((*reason).into()),
            Derivation::Pbkdf2 { algorithm, iterations, salt } => {
                key.resize(self.key_len, 0);
                pbkdf2::derive(*algorithm, *iterations, salt, password, &mut key);
            }
            Derivation::BytesToKey => {
                let salt = self.iv.first_chunk::<8>().copied().unwrap_or_default();
                while key.len() < self.key_len {
                    let previous = key.len().checked_sub(16).and_then(|start| key.get(start..));
                    let mut hash = Md5::new();
                    hash.update(previous.unwrap_or_default());
                    hash.update(password);
                    hash.update(salt);
                    key.extend_from_slice(&hash.finalize());
                }
                key.truncate(self.key_len);
            }
        }
        Ok(key)
    }

    /// Decrypts in CBC mode and removes the padding. `None` if the padding is malformed, which almost always
    /// means that the password is wrong.
    fn decrypt_cbc<C: BlockCipherDecrypt<BlockSize = aes::cipher::consts::U16>>(
        &self,
        cipher: &C,
    ) -> Option<Zeroizing<Vec<u8>>> {
        let mut plain = Zeroizing::new(Vec::with_capacity(self.encrypted.len()));
        let mut previous = self.iv;
        let (blocks, rest) = self.encrypted.as_chunks::<BLOCK>();
        for encrypted in blocks {
            let mut block = (*encrypted).into();
            cipher.decrypt_block(&mut block);
            plain.extend(block.iter().zip(previous).map(|(byte, mask)| byte ^ mask));
            previous = *encrypted;
        }
        let padding = *plain.last().filter(|_| rest.is_empty())?;
        let len = plain.len().checked_sub(usize::from(padding))?;
        let is_padding = plain.get(len..)?.iter().all(|&byte| byte == padding);
        plain.truncate(len);
        (is_padding && (1..=16).contains(&padding)).then_some(plain)
    }
}

/// Decodes the Base64 up to the line that ends a PEM section.
fn decode_pem_body(body: &str) -> Option<Vec<u8>> {
    let (body, _) = body.split_once("-----END")?;
    let text: String = body.split_ascii_whitespace().collect();
    Base64::decode_vec(&text).ok()
}

const PBES2: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 5, 13];
const PBKDF2: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 5, 12];
