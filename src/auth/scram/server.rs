use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::num::NonZeroU32;
use core::str::FromStr;

use base64ct::{Base64, Encoding};
use hmac::digest::CtOutput;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::keys::AuthMessage;
use super::mac::{Key, finish, xor};
use super::message::{Attributes, decode_32, is_nonce};
use super::{ChannelBinding, Mechanism, Nonce, ScramError, ScramKeys, ScramServerError};

/// What a server keeps to check a password: `pg_authid.rolpassword` of a SCRAM user.
///
/// `Display` and `FromStr` are PostgreSQL's text, `SCRAM-SHA-256$4096:salt$StoredKey:ServerKey`, which is a
/// secret: its holder can try passwords and impersonate the server. `Debug` does not show it.
#[derive(Clone)]
pub struct ScramVerifier {
    salt: Vec<u8>,
    iterations: NonZeroU32,
    stored_key: Key,
    server_key: Key,
}

impl ScramVerifier {
    /// The verifier that a server would store for this password.
    #[must_use]
    pub fn from_password(password: &[u8], salt: &[u8], iterations: NonZeroU32) -> Self {
        let keys = ScramKeys::derive(password, salt, iterations);
        Self { salt: salt.to_vec(), iterations, stored_key: keys.stored_key(), server_key: keys.server_key() }
    }

    /// The salt. PostgreSQL's has 16 bytes.
    #[must_use]
    pub fn salt(&self) -> &[u8] {
        &self.salt
    }

    /// The PBKDF2 rounds, 4096 unless the server's `scram_iterations` sets another number.
    #[must_use]
    pub const fn iterations(&self) -> NonZeroU32 {
        self.iterations
    }
}

impl fmt::Debug for ScramVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScramVerifier").field("iterations", &self.iterations).finish_non_exhaustive()
    }
}

impl fmt::Display for ScramVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let base64 = |bytes: &[u8]| Zeroizing::new(Base64::encode_string(bytes));
        write!(
            f,
            "{}${}:{}${}:{}",
            Mechanism::ScramSha256,
            self.iterations,
            *base64(&self.salt),
            *base64(self.stored_key.as_slice()),
            *base64(self.server_key.as_slice()),
        )
    }
}

/// The text is not a SCRAM-SHA-256 verifier as PostgreSQL stores it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParseScramVerifierError(());

impl fmt::Display for ParseScramVerifierError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a verifier: expected SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey")
    }
}

impl core::error::Error for ParseScramVerifierError {}

impl FromStr for ScramVerifier {
    type Err = ParseScramVerifierError;

    fn from_str(text: &str) -> Result<Self, ParseScramVerifierError> {
        let parse = || {
            let (iterations, rest) = text.strip_prefix("SCRAM-SHA-256$")?.split_once(':')?;
            let (salt, keys) = rest.split_once('$')?;
            let (stored_key, server_key) = keys.split_once(':')?;
            Some(Self {
                salt: Base64::decode_vec(salt).ok()?,
                iterations: iterations.parse().ok()?,
                stored_key: Zeroizing::new(decode_32(stored_key)?),
                server_key: Zeroizing::new(decode_32(server_key)?),
            })
        };
        parse().ok_or(ParseScramVerifierError(()))
    }
}

/// The server's side of a SCRAM exchange, before the client's first message.
///
/// It exists to test clients: the client of this crate, and others through a scripted server.
pub struct ScramServer {
    verifier: ScramVerifier,
    nonce: Nonce,
    end_point: Option<Vec<u8>>,
}

impl ScramServer {
    /// A server that appends `nonce` to the client's nonce. `end_point` is the hash of its certificate if it
    /// offers SCRAM-SHA-256-PLUS.
    #[must_use]
    pub fn new(verifier: ScramVerifier, nonce: Nonce, end_point: Option<&[u8]>) -> Self {
        Self { verifier, nonce, end_point: end_point.map(<[u8]>::to_vec) }
    }

    /// Takes `client-first-message` as sent under `mechanism` and appends `server-first-message`.
    ///
    /// # Errors
    /// If the message is malformed, or its channel binding does not fit the mechanism and what was offered.
    pub fn client_first(
        self,
        mechanism: Mechanism,
        message: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<ScramServerFinal, ScramServerError> {
        let mut attributes = Attributes::new("client-first-message", message).map_err(to_server_error)?;
        let flag = attributes.field().unwrap_or_default();
        let binding = ChannelBinding::from_flag(flag, self.end_point.as_deref())?;
        if binding.mechanism() != mechanism {
            return Err(ScramServerError::InvalidEncoding);
        }
        if binding == ChannelBinding::NotOffered && self.end_point.is_some() {
            return Err(ScramServerError::ServerDoesSupportChannelBinding);
        }
        // An authorization identity (`a=`) would stand here.
        if attributes.field() != Some("") {
            return Err(ScramServerError::InvalidEncoding);
        }
        let bare = attributes.rest().ok_or(ScramServerError::InvalidEncoding)?;
        // The user name of the start-up message counts. PostgreSQL ignores this one as well.
        attributes.value("n=", "expected a user name (n=)").map_err(to_server_error)?;
        let client_nonce = attributes.value("r=", "expected a nonce (r=)").map_err(to_server_error)?;
        if client_nonce.is_empty() || !is_nonce(client_nonce) {
            return Err(ScramServerError::InvalidEncoding);
        }
        attributes.skip_extensions().map_err(to_server_error)?;

        let nonce = format!("{client_nonce}{}", self.nonce.as_str());
        let salt = Base64::encode_string(&self.verifier.salt);
        let server_first = format!("r={nonce},s={salt},i={}", self.verifier.iterations);
        out.extend_from_slice(server_first.as_bytes());
        Ok(ScramServerFinal {
            client_first_bare: bare.into(),
            server_first,
            nonce,
            binding,
            verifier: self.verifier,
        })
    }
}

impl fmt::Debug for ScramServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ScramServer(***)")
    }
}

/// The server's side of a SCRAM exchange that waits for the client's proof.
pub struct ScramServerFinal {
    verifier: ScramVerifier,
    binding: ChannelBinding,
    client_first_bare: String,
    server_first: String,
    nonce: String,
}

impl ScramServerFinal {
    /// Takes `client-final-message` and appends `server-final-message`. On success the client has proved that
    /// it knows the password.
    ///
    /// # Errors
    /// If the message is malformed, is bound to another certificate, continues another exchange or proves
    /// another password.
    pub fn client_final(self, message: &[u8], out: &mut Vec<u8>) -> Result<(), ScramServerError> {
        const NAME: &str = "client-final-message";
        let text = Attributes::new(NAME, message).map_err(to_server_error)?.text();
        let (without_proof, proof) = text.rsplit_once(",p=").ok_or(ScramServerError::InvalidEncoding)?;

        let mut attributes = Attributes::new(NAME, without_proof.as_bytes()).map_err(to_server_error)?;
        let binding = attributes.value("c=", "expected the channel binding (c=)").map_err(to_server_error)?;
        if binding != self.binding.attribute() {
            return Err(ScramServerError::ChannelBindingsDontMatch);
        }
        let nonce = attributes.value("r=", "expected the nonce (r=)").map_err(to_server_error)?;
        if nonce != self.nonce {
            return Err(ScramServerError::OtherError);
        }
        attributes.skip_extensions().map_err(to_server_error)?;

        let auth_message = AuthMessage([&self.client_first_bare, &self.server_first, without_proof]);
        let proof = decode_32(proof).ok_or(ScramServerError::InvalidEncoding)?;
        // The proof is ClientKey under a mask that the server can compute too. ClientKey hashes to StoredKey.
        let mut client_key = finish(auth_message.mac(&self.verifier.stored_key));
        xor(&mut client_key, &proof);
        let stored_key = CtOutput::<Sha256>::new(Sha256::digest(client_key.as_slice()));
        if stored_key != CtOutput::new((*self.verifier.stored_key).into()) {
            return Err(ScramServerError::InvalidProof);
        }
        let signature = finish(auth_message.mac(&self.verifier.server_key));
        out.extend_from_slice(b"v=");
        out.extend_from_slice(Base64::encode_string(signature.as_slice()).as_bytes());
        Ok(())
    }
}

impl fmt::Debug for ScramServerFinal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ScramServerFinal(***)")
    }
}

/// The server's answer to a client whose message could not be read.
const fn to_server_error(error: ScramError) -> ScramServerError {
    match error {
        ScramError::MandatoryExtension => ScramServerError::ExtensionsNotSupported,
        _ => ScramServerError::InvalidEncoding,
    }
}
