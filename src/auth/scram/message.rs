use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use base64ct::{Base64, Encoding};

use super::{ScramError, ScramServerError};

/// The longest message accepted, in bytes. libpq reads no authentication request above 2000 bytes, so no
/// server that anyone can log in to sends a longer one; PostgreSQL's are near 100 bytes.
pub(super) const MAX_MESSAGE_LEN: usize = 2000;

/// What the client sends when channel binding is in use, before the two commas.
const TLS_SERVER_END_POINT: &str = "p=tls-server-end-point";

/// One side's share of the nonce: 24 printable characters. It must be fresh for every exchange.
#[derive(Clone, Debug)]
pub struct Nonce(String);

impl Nonce {
    /// The base64 text of 18 bytes from a cryptographic random source.
    #[must_use]
    pub fn from_random(bytes: [u8; 18]) -> Self {
        Self(Base64::encode_string(&bytes))
    }

    /// The text as it is sent.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A given nonce, to replay a recorded exchange.
    #[cfg(test)]
    pub(super) fn recorded(text: &str) -> Self {
        Self(text.into())
    }
}

/// The SASL mechanism of an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mechanism {
    /// Without channel binding; servers since 10.
    ScramSha256,
    /// Bound to the server's certificate; servers since 11, over TLS only.
    ScramSha256Plus,
}

impl Mechanism {
    /// The name in `AuthenticationSASL` and `SASLInitialResponse`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha256Plus => "SCRAM-SHA-256-PLUS",
        }
    }
}

impl fmt::Display for Mechanism {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What the client says about channel binding. The server's signature covers it, so an attacker in between
/// cannot remove the server's offer unnoticed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChannelBinding {
    /// `n`: the client cannot or may not bind, because TLS has nothing to bind to or the policy forbids it.
    NotSupported,
    /// `y`: the client could bind, but the server did not offer it.
    NotOffered,
    /// `p=tls-server-end-point`: the hash of the server's certificate as RFC 5929 section 4 defines it.
    TlsServerEndPoint(Vec<u8>),
}

impl ChannelBinding {
    /// The mechanism that this binding needs.
    #[must_use]
    pub const fn mechanism(&self) -> Mechanism {
        match self {
            Self::NotSupported | Self::NotOffered => Mechanism::ScramSha256,
            Self::TlsServerEndPoint(_) => Mechanism::ScramSha256Plus,
        }
    }

    /// The first field of the GS2 header.
    pub(super) const fn flag(&self) -> &'static str {
        match self {
            Self::NotSupported => "n",
            Self::NotOffered => "y",
            Self::TlsServerEndPoint(_) => TLS_SERVER_END_POINT,
        }
    }

    /// The binding that a flag of the GS2 header stands for, with `hash` where it needs one.
    pub(super) fn from_flag(flag: &str, hash: Option<&[u8]>) -> Result<Self, ScramServerError> {
        match flag {
            "n" => Ok(Self::NotSupported),
            "y" => Ok(Self::NotOffered),
            TLS_SERVER_END_POINT => {
                let hash = hash.ok_or(ScramServerError::ChannelBindingNotSupported)?;
                Ok(Self::TlsServerEndPoint(hash.into()))
            }
            other if other.starts_with("p=") => Err(ScramServerError::UnsupportedChannelBindingType),
            _ => Err(ScramServerError::InvalidEncoding),
        }
    }

    /// The value of `c=`: the GS2 header and the hash, in base64.
    pub(super) fn attribute(&self) -> String {
        let mut input = Vec::from(self.flag());
        input.extend_from_slice(b",,");
        if let Self::TlsServerEndPoint(hash) = self {
            input.extend_from_slice(hash);
        }
        Base64::encode_string(&input)
    }
}

/// The attributes of one message, in the order in which they must come.
pub(super) struct Attributes<'a> {
    message: &'static str,
    text: &'a str,
    rest: Option<&'a str>,
}

impl<'a> Attributes<'a> {
    /// Checks what holds for every message: 1 to [`MAX_MESSAGE_LEN`] bytes of UTF-8 without NUL.
    pub(super) fn new(message: &'static str, bytes: &'a [u8]) -> Result<Self, ScramError> {
        let refuse = |reason| ScramError::Malformed { message, reason };
        match bytes {
            [] => return Err(refuse("it is empty")),
            _ if bytes.len() > MAX_MESSAGE_LEN => return Err(refuse("it is longer than 2000 bytes")),
            _ if bytes.contains(&0) => return Err(refuse("it contains NUL")),
            _ => {}
        }
        let text = core::str::from_utf8(bytes).map_err(|_| refuse("it is not UTF-8"))?;
        Ok(Self { message, text, rest: Some(text) })
    }

    /// The whole message.
    pub(super) const fn text(&self) -> &'a str {
        self.text
    }

    pub(super) const fn malformed(&self, reason: &'static str) -> ScramError {
        ScramError::Malformed { message: self.message, reason }
    }

    /// The text after the last field taken, if any is left.
    pub(super) const fn rest(&self) -> Option<&'a str> {
        self.rest
    }

    /// The next field up to a comma, whatever it is.
    pub(super) fn field(&mut self) -> Option<&'a str> {
        let (field, rest) = match self.rest?.split_once(',') {
            Some((field, rest)) => (field, Some(rest)),
            None => (self.rest?, None),
        };
        self.rest = rest;
        Some(field)
    }

    /// The value of the next attribute, which must begin with `prefix`, such as `r=`.
    pub(super) fn value(&mut self, prefix: &str, missing: &'static str) -> Result<&'a str, ScramError> {
        match self.field() {
            Some(field) if field.starts_with("m=") => Err(ScramError::MandatoryExtension),
            Some(field) => field.strip_prefix(prefix).ok_or_else(|| self.malformed(missing)),
            None => Err(self.malformed(missing)),
        }
    }

    /// Skips the extensions that may end a message: a letter that RFC 5802 does not use, `=`, a value.
    /// Refuses `m=`, which must not be skipped, and everything that is not an extension.
    pub(super) fn skip_extensions(mut self) -> Result<(), ScramError> {
        while let Some(field) = self.field() {
            let Some((name, value)) = field.split_once('=') else {
                return Err(self.malformed("something other than an extension follows"));
            };
            match name.as_bytes() {
                b"m" => return Err(ScramError::MandatoryExtension),
                b"a" | b"c" | b"e" | b"i" | b"n" | b"p" | b"r" | b"s" | b"v" => {
                    return Err(self.malformed("an attribute stands in the wrong place"));
                }
                [letter] if letter.is_ascii_alphabetic() && !value.is_empty() => {}
                _ => return Err(self.malformed("something other than an extension follows")),
            }
        }
        Ok(())
    }
}

/// Whether a nonce has only the characters RFC 5802 allows: printable ASCII without comma and blank.
pub(super) fn is_nonce(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b',')
}

/// The 32 bytes of a key, proof or signature. Only their canonical base64 text is accepted.
pub(super) fn decode_32(base64: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    match Base64::decode(base64, &mut bytes) {
        Ok(decoded) if decoded.len() == 32 => Some(bytes),
        _ => None,
    }
}
