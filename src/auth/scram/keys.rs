use alloc::borrow::Cow;
use alloc::vec::Vec;
use core::fmt;
use core::num::NonZeroU32;

use hmac::Mac as _;
use sha2::{Digest, Sha256};
use zeroize::{Zeroize, Zeroizing};

use super::mac::{HmacSha256, Key, finish, hmac, xor};
use super::message::decode_32;
use super::pbkdf2::pbkdf2;
use crate::auth::saslprep;

/// What the client proves its identity with.
#[derive(Clone)]
pub enum ScramSecret {
    /// A password, as the bytes that were given, in any encoding.
    Password(Zeroizing<Vec<u8>>),
    /// The keys themselves, as `scram_client_key` and `scram_server_key` give them.
    Keys(ScramKeys),
}

impl ScramSecret {
    /// The secret of this password.
    #[must_use]
    pub fn from_password(password: &[u8]) -> Self {
        Self::Password(Zeroizing::new(password.to_vec()))
    }
}

impl fmt::Debug for ScramSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Password(_) => "Password(***)",
            Self::Keys(_) => "Keys(***)",
        })
    }
}

/// `ClientKey` and `ServerKey` of RFC 5802. Their holder can log in without the password, on every server
/// with the same verifier.
#[derive(Clone)]
pub struct ScramKeys {
    client_key: Key,
    server_key: Key,
}

impl ScramKeys {
    /// The keys with these bytes.
    #[must_use]
    pub fn new(client_key: [u8; 32], server_key: [u8; 32]) -> Self {
        Self { client_key: Zeroizing::new(client_key), server_key: Zeroizing::new(server_key) }
    }

    /// The keys in the text form of the connection parameters: base64 of 32 bytes each.
    ///
    /// # Errors
    /// Names the first parameter whose text is not base64 of 32 bytes.
    pub fn from_base64(client_key: &str, server_key: &str) -> Result<Self, ParseScramKeyError> {
        let key = |name, text| decode_32(text).ok_or(ParseScramKeyError(name)).map(Zeroizing::new);
        Ok(Self {
            client_key: key("scram_client_key", client_key)?,
            server_key: key("scram_server_key", server_key)?,
        })
    }

    /// The keys of a password: PBKDF2 with `iterations` rounds, by far the most expensive step of an
    /// exchange.
    #[must_use]
    pub fn derive(password: &[u8], salt: &[u8], iterations: NonZeroU32) -> Self {
        let mut prepared = saslprep(password);
        let salted = pbkdf2(&prepared, salt, iterations);
        if let Cow::Owned(copy) = &mut prepared {
            copy.zeroize();
        }
        let key = |label: &[u8]| finish(hmac(salted.as_slice()).chain_update(label));
        Self { client_key: key(b"Client Key"), server_key: key(b"Server Key") }
    }

    /// `StoredKey`: with it, a server can check a proof but not make one.
    pub(super) fn stored_key(&self) -> Key {
        Zeroizing::new(Sha256::digest(self.client_key.as_slice()).into())
    }

    pub(super) fn server_key(&self) -> Key {
        self.server_key.clone()
    }

    /// `ClientProof`: `ClientKey` XOR a signature. The server, which has `StoredKey`, computes that signature and so
    /// recovers `ClientKey`.
    pub(super) fn client_proof(&self, message: AuthMessage<'_>) -> Key {
        let mut proof = finish(message.mac(&self.stored_key()));
        xor(&mut proof, &self.client_key);
        proof
    }

    /// The MAC whose tag is the server's signature.
    pub(super) fn server_signature_mac(&self, message: AuthMessage<'_>) -> HmacSha256 {
        message.mac(&self.server_key)
    }
}

impl fmt::Debug for ScramKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ScramKeys(***)")
    }
}

/// The text of `scram_client_key` or `scram_server_key` is not the base64 of 32 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParseScramKeyError(&'static str);

impl ParseScramKeyError {
    /// The connection parameter that is wrong.
    #[must_use]
    pub const fn parameter(self) -> &'static str {
        self.0
    }
}

impl fmt::Display for ParseScramKeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "invalid {}: expected 32 bytes in base64", self.0)
    }
}

impl core::error::Error for ParseScramKeyError {}

/// The keys derived in one exchange, in which the server proved that it knows them. If kept, they spare the next
/// exchange PBKDF2 as long as the server's salt and iteration count stay the same.
///
/// They are as secret as the password they were derived from: keep them beside that password, and drop both
/// together.
#[derive(Clone)]
pub struct DerivedKeys {
    salt: Vec<u8>,
    iterations: NonZeroU32,
    keys: ScramKeys,
}

impl DerivedKeys {
    pub(super) const fn new(salt: Vec<u8>, iterations: NonZeroU32, keys: ScramKeys) -> Self {
        Self { salt, iterations, keys }
    }

    /// The server's salt.
    #[must_use]
    pub fn salt(&self) -> &[u8] {
        &self.salt
    }

    /// The server's iteration count.
    #[must_use]
    pub const fn iterations(&self) -> NonZeroU32 {
        self.iterations
    }

    /// The keys.
    #[must_use]
    pub const fn keys(&self) -> &ScramKeys {
        &self.keys
    }
}

impl fmt::Debug for DerivedKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DerivedKeys").field("iterations", &self.iterations).finish_non_exhaustive()
    }
}

/// `AuthMessage`, the text that both sides sign: `client-first-message-bare`, `server-first-message` and
/// `client-final-message-without-proof`, with commas between.
#[derive(Clone, Copy)]
pub(super) struct AuthMessage<'a>(pub(super) [&'a str; 3]);

impl AuthMessage<'_> {
    pub(super) fn mac(self, key: &Key) -> HmacSha256 {
        let [client_first, server_first, client_final] = self.0;
        hmac(key.as_slice())
            .chain_update(client_first)
            .chain_update(",")
            .chain_update(server_first)
            .chain_update(",")
            .chain_update(client_final)
    }
}
