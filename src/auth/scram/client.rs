use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::num::NonZeroU32;

use base64ct::{Base64, Encoding};
use hmac::Mac;
use zeroize::Zeroizing;

use super::keys::AuthMessage;
use super::mac::HmacSha256;
use super::message::{Attributes, decode_32, is_nonce};
use super::{
    ChannelBinding, DerivedKeys, Mechanism, Nonce, ScramError, ScramKeys, ScramSecret, ScramServerError,
};

/// The client's side of a SCRAM exchange, up to the server's first message.
///
/// ```
/// use tapster::auth::{ChannelBinding, Nonce, ScramClient, ScramSecret};
/// # use core::num::NonZeroU32;
/// # use tapster::auth::{ScramServer, ScramVerifier};
/// # let verifier = ScramVerifier::from_password(b"pencil", b"salt", NonZeroU32::new(4096).unwrap());
/// # let server = ScramServer::new(verifier, Nonce::from_random([1; 18]), None);
/// let secret = ScramSecret::from_password(b"pencil");
/// // In production the 18 bytes come from the operating system.
/// let nonce = Nonce::from_random([7; 18]);
/// let client = ScramClient::new(&secret, nonce, ChannelBinding::NotSupported, 1_000_000, None);
///
/// let mut out = Vec::new();
/// client.client_first(&mut out); // into SASLInitialResponse, with client.mechanism()
/// # let mut server_first = Vec::new();
/// # let server = server.client_first(client.mechanism(), &out, &mut server_first)?;
/// # out.clear();
/// let client = client.server_first(&server_first, &mut out)?; // from AuthenticationSASLContinue, into SASLResponse
/// # let mut server_final = Vec::new();
/// # server.client_final(&out, &mut server_final)?;
/// let keys = client.server_final(&server_final)?; // from AuthenticationSASLFinal: now the server is proven
/// # Ok::<(), Box<dyn core::error::Error>>(())
/// ```
///
/// Spec: RFC 5802, RFC 7677 and <https://www.postgresql.org/docs/current/sasl-authentication.html>
pub struct ScramClient {
    secret: ScramSecret,
    nonce: Nonce,
    binding: ChannelBinding,
    max_iterations: u32,
    cached: Option<DerivedKeys>,
}

impl ScramClient {
    /// Begins an exchange. `nonce` must be fresh. A server that asks for more than `max_iterations` rounds is
    /// refused. `cached` contains the keys that an earlier exchange with the same secret returned.
    #[must_use]
    pub fn new(
        secret: &ScramSecret,
        nonce: Nonce,
        binding: ChannelBinding,
        max_iterations: u32,
        cached: Option<DerivedKeys>,
    ) -> Self {
        Self { secret: secret.clone(), nonce, binding, max_iterations, cached }
    }

    /// The mechanism to name in `SASLInitialResponse`.
    #[must_use]
    pub const fn mechanism(&self) -> Mechanism {
        self.binding.mechanism()
    }

    /// Appends `client-first-message`. The user name in it is empty: the server uses the one in the start-up
    /// message.
    pub fn client_first(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.binding.flag().as_bytes());
        out.extend_from_slice(b",,");
        out.extend_from_slice(self.client_first_bare().as_bytes());
    }

    fn client_first_bare(&self) -> String {
        format!("n=,r={}", self.nonce.as_str())
    }

    /// Takes `server-first-message` and appends `client-final-message` with the proof.
    ///
    /// # Errors
    /// If the message is malformed, does not continue our nonce, asks for an iteration count out of range or
    /// for an extension. Nothing is appended then.
    ///
    /// # Limits
    /// At most 2000 bytes, libpq's own limit. Extensions after `i=` are ignored as RFC 5802 asks, except
    /// `m=`; the signature covers them.
    pub fn server_first(self, message: &[u8], out: &mut Vec<u8>) -> Result<ScramFinal, ScramError> {
        let ServerFirst { text, nonce, salt, iterations } =
            ServerFirst::parse(message, &self.nonce, self.max_iterations)?;
        let client_first = self.client_first_bare();
        let keys = self.keys_for(&salt, iterations);

        let without_proof = format!("c={},r={nonce}", self.binding.attribute());
        let auth_message = AuthMessage([&client_first, text, &without_proof]);
        let proof = Zeroizing::new(Base64::encode_string(keys.client_proof(auth_message).as_slice()));
        out.extend_from_slice(without_proof.as_bytes());
        out.extend_from_slice(b",p=");
        out.extend_from_slice(proof.as_bytes());
        Ok(ScramFinal {
            signature: keys.server_signature_mac(auth_message),
            derived: DerivedKeys::new(salt, iterations, keys),
        })
    }

    fn keys_for(&self, salt: &[u8], iterations: NonZeroU32) -> ScramKeys {
        match (&self.secret, &self.cached) {
            (ScramSecret::Keys(keys), _) => keys.clone(),
            (_, Some(cached)) if cached.salt() == salt && cached.iterations() == iterations => {
                cached.keys().clone()
            }
            (ScramSecret::Password(password), _) => ScramKeys::derive(password, salt, iterations),
        }
    }
}

impl fmt::Debug for ScramClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScramClient").field("mechanism", &self.mechanism()).finish_non_exhaustive()
    }
}

/// The client's side of a SCRAM exchange that has sent its proof and waits for the server's.
///
/// `AuthenticationOk` means nothing before [`server_final`](Self::server_final) has succeeded.
#[cfg_attr(test, derive(Clone))]
pub struct ScramFinal {
    signature: HmacSha256,
    derived: DerivedKeys,
}

impl ScramFinal {
    /// Takes `server-final-message`. On success the server has proved that it knows the password's keys,
    /// which are returned for the next exchange.
    ///
    /// # Errors
    /// If the server reports an error with `e=`, the message is malformed or the signature is wrong.
    ///
    /// # Limits
    /// As for [`ScramClient::server_first`]; nothing signs the extensions of this message.
    pub fn server_final(self, message: &[u8]) -> Result<DerivedKeys, ScramError> {
        let mut attributes = Attributes::new("server-final-message", message)?;
        refuse_server_error(&attributes)?;
        let verifier = attributes.value("v=", "expected the server's signature (v=)")?;
        let signature = decode_32(verifier)
            .ok_or_else(|| attributes.malformed("the signature is not 32 bytes in base64"))?;
        attributes.skip_extensions()?;
        // Compares in constant time.
        self.signature.verify_slice(&signature).map_err(|_| ScramError::WrongServerSignature)?;
        Ok(self.derived)
    }

    #[cfg(test)]
    pub(super) const fn derived(&self) -> &DerivedKeys {
        &self.derived
    }
}

impl fmt::Debug for ScramFinal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ScramFinal(***)")
    }
}

/// `server-first-message`, checked.
struct ServerFirst<'a> {
    text: &'a str,
    nonce: &'a str,
    salt: Vec<u8>,
    iterations: NonZeroU32,
}

impl<'a> ServerFirst<'a> {
    fn parse(message: &'a [u8], ours: &Nonce, max_iterations: u32) -> Result<Self, ScramError> {
        let mut attributes = Attributes::new("server-first-message", message)?;
        refuse_server_error(&attributes)?;
        let text = attributes.text();

        let nonce = attributes.value("r=", "expected a nonce (r=)")?;
        match nonce.strip_prefix(ours.as_str()) {
            None => return Err(ScramError::NonceMismatch),
            Some("") => return Err(ScramError::NonceNotExtended),
            Some(theirs) if is_nonce(theirs) => {}
            Some(_) => return Err(attributes.malformed("the nonce is not printable ASCII")),
        }

        let salt = attributes.value("s=", "expected a salt (s=)")?;
        let salt = Base64::decode_vec(salt)
            .ok()
            .filter(|salt| !salt.is_empty())
            .ok_or_else(|| attributes.malformed("the salt is not base64"))?;

        let count = attributes.value("i=", "expected an iteration count (i=)")?;
        if count.is_empty() || !count.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(attributes.malformed("the iteration count is not a decimal number"));
        }
        // A number that does not fit into 32 bits is above every limit.
        let iterations = count
            .parse()
            .ok()
            .filter(|count: &NonZeroU32| count.get() <= max_iterations)
            .ok_or(ScramError::IterationsOutOfRange { max: max_iterations })?;

        attributes.skip_extensions()?;
        Ok(Self { text, nonce, salt, iterations })
    }
}

fn refuse_server_error(attributes: &Attributes<'_>) -> Result<(), ScramError> {
    match attributes.text().strip_prefix("e=") {
        Some(error) => {
            let name = error.split(',').next().unwrap_or_default();
            Err(ScramError::Server(ScramServerError::from_name(name)))
        }
        None => Ok(()),
    }
}
