use core::fmt;

/// Why the client gave up a SCRAM exchange. The error describes what the server did and contains no secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ScramError {
    /// A message is not what RFC 5802 says it is.
    Malformed {
        /// The message's name in the RFC, such as `server-first-message`.
        message: &'static str,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The server's nonce does not begin with ours: this answers another exchange, or is a replay.
    NonceMismatch,
    /// The server added nothing to our nonce.
    NonceNotExtended,
    /// The iteration count is 0 or above the limit: 0 proves nothing, and too many rounds waste the client's
    /// CPU.
    IterationsOutOfRange {
        /// The largest count that the client accepts.
        max: u32,
    },
    /// The server sent `m=`: an extension that must not be ignored, and this client knows none.
    MandatoryExtension,
    /// The server refused the exchange with `e=`.
    Server(ScramServerError),
    /// The server's signature is wrong: it does not know the password's keys, or a message was changed on the
    /// way.
    WrongServerSignature,
}

impl fmt::Display for ScramError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed { message, reason } => write!(f, "malformed SCRAM {message}: {reason}"),
            Self::NonceMismatch => f.write_str("the server's SCRAM nonce does not begin with ours"),
            Self::NonceNotExtended => f.write_str("the server added nothing to the SCRAM nonce"),
            Self::IterationsOutOfRange { max } => {
                write!(f, "the server's SCRAM iteration count is not between 1 and {max}")
            }
            Self::MandatoryExtension => {
                f.write_str("the server requires a SCRAM extension that is not known here")
            }
            Self::Server(error) => write!(f, "the server ended the SCRAM exchange: {error}"),
            Self::WrongServerSignature => f.write_str(
                "the server did not prove that it knows the password: its SCRAM signature is wrong",
            ),
        }
    }
}

impl core::error::Error for ScramError {}

/// Why a server refuses a SCRAM exchange: RFC 5802's `server-error-value`, which `Display` prints.
///
/// PostgreSQL's own server sends an `ErrorResponse` instead of `e=`, but poolers may not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ScramServerError {
    /// `invalid-encoding`: a message of the client is malformed.
    InvalidEncoding,
    /// `extensions-not-supported`: the client sent `m=`.
    ExtensionsNotSupported,
    /// `invalid-proof`: the password is wrong.
    InvalidProof,
    /// `channel-bindings-dont-match`: the two sides see different certificates.
    ChannelBindingsDontMatch,
    /// `server-does-support-channel-binding`: the client believed the server could not, so an attacker in
    /// between removed the offer.
    ServerDoesSupportChannelBinding,
    /// `channel-binding-not-supported`: the client asked for a binding that was not offered.
    ChannelBindingNotSupported,
    /// `unsupported-channel-binding-type`: not `tls-server-end-point`.
    UnsupportedChannelBindingType,
    /// `unknown-user`
    UnknownUser,
    /// `invalid-username-encoding`
    InvalidUsernameEncoding,
    /// `no-resources`
    NoResources,
    /// `other-error`, and every value that RFC 5802 does not list.
    OtherError,
}

impl ScramServerError {
    const ALL: [Self; 11] = [
        Self::InvalidEncoding,
        Self::ExtensionsNotSupported,
        Self::InvalidProof,
        Self::ChannelBindingsDontMatch,
        Self::ServerDoesSupportChannelBinding,
        Self::ChannelBindingNotSupported,
        Self::UnsupportedChannelBindingType,
        Self::UnknownUser,
        Self::InvalidUsernameEncoding,
        Self::NoResources,
        Self::OtherError,
    ];

    /// The value's name in RFC 5802, as it follows `e=`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::InvalidEncoding => "invalid-encoding",
            Self::ExtensionsNotSupported => "extensions-not-supported",
            Self::InvalidProof => "invalid-proof",
            Self::ChannelBindingsDontMatch => "channel-bindings-dont-match",
            Self::ServerDoesSupportChannelBinding => "server-does-support-channel-binding",
            Self::ChannelBindingNotSupported => "channel-binding-not-supported",
            Self::UnsupportedChannelBindingType => "unsupported-channel-binding-type",
            Self::UnknownUser => "unknown-user",
            Self::InvalidUsernameEncoding => "invalid-username-encoding",
            Self::NoResources => "no-resources",
            Self::OtherError => "other-error",
        }
    }

    /// The error with this name; as the RFC asks, an unknown name is `other-error`.
    pub(super) fn from_name(name: &str) -> Self {
        Self::ALL.into_iter().find(|error| error.name() == name).unwrap_or(Self::OtherError)
    }
}

impl fmt::Display for ScramServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl core::error::Error for ScramServerError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_server_error_has_its_own_name_and_unknown_names_are_other_error() {
        for error in ScramServerError::ALL {
            assert_eq!(ScramServerError::from_name(error.name()), error);
        }
        assert_eq!(ScramServerError::from_name("out-of-coffee"), ScramServerError::OtherError);
    }
}
