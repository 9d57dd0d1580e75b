use alloc::string::String;
use core::fmt;
use core::str::FromStr;

use super::{AuthMethod, AuthMethods, ChannelBinding, Mechanism};

/// What the user permits: which authentication requests may be answered, and when `AuthenticationOk` is
/// believed.
///
/// ```
/// use tapster::auth::{AuthPolicy, AuthRequest};
/// let policy = AuthPolicy { allowed: "scram-sha-256".parse()?, ..AuthPolicy::default() };
/// let refused = policy.check_request(AuthRequest::CleartextPassword).unwrap_err();
/// assert_eq!(
///     refused.to_string(),
///     "authentication method requirement \"scram-sha-256\" failed: server requested a cleartext password"
/// );
/// # Ok::<(), tapster::auth::ParseAuthMethodsError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuthPolicy {
    /// `require_auth`: the methods that may be used.
    pub allowed: AuthMethods,
    /// `channel_binding`: whether the login must be bound to the TLS channel.
    pub channel_binding: ChannelBindingMode,
    /// The most PBKDF2 rounds a server may ask for. libpq has no limit, so a hostile server can keep it busy
    /// for an hour with one message.
    pub max_scram_iterations: u32,
}

impl AuthPolicy {
    /// One million rounds: 244 times the server's default and above the 600,000 that OWASP advises for
    /// PBKDF2-HMAC-SHA-256, yet a fraction of a second of CPU time.
    pub const DEFAULT_MAX_SCRAM_ITERATIONS: u32 = 1_000_000;

    /// Whether a request of the server may be answered at all.
    ///
    /// # Errors
    /// If the method is not among the allowed ones, or cannot bind the channel where that is required: then
    /// even a hash of the password would go to an unproven server.
    pub const fn check_request(&self, request: AuthRequest) -> Result<(), AuthRefused> {
        let allowed = match request {
            AuthRequest::CleartextPassword => self.allowed.contains(AuthMethod::Password),
            AuthRequest::Md5Password => self.allowed.contains(AuthMethod::Md5),
            AuthRequest::Gss => self.allowed.contains(AuthMethod::Gss),
            AuthRequest::Sspi => self.allowed.contains(AuthMethod::Sspi),
            AuthRequest::Sasl => {
                self.allowed.contains(AuthMethod::ScramSha256) || self.allowed.contains(AuthMethod::OAuth)
            }
            AuthRequest::Other => self.allowed.is_any(),
        };
        if !allowed {
            return Err(AuthRefused::Method { allowed: self.allowed, reason: request.reason() });
        }
        match (self.channel_binding, request) {
            (ChannelBindingMode::Require, AuthRequest::Sasl) => Ok(()),
            (ChannelBindingMode::Require, _) => Err(AuthRefused::RequestCannotBind),
            _ => Ok(()),
        }
    }

    /// Picks a mechanism from those that `AuthenticationSASL` offers, and with it what the client says about
    /// channel binding: SCRAM-SHA-256-PLUS where both sides can, else SCRAM-SHA-256.
    ///
    /// # Errors
    /// If nothing usable or allowed is offered, channel binding is required and impossible, or the offer
    /// makes no sense: SCRAM-SHA-256-PLUS without TLS comes from a faulty server or an attacker in between.
    pub fn select_binding<'a>(
        &self,
        offered: impl IntoIterator<Item = &'a [u8]>,
        tls: TlsEndPoint<'_>,
    ) -> Result<ChannelBinding, AuthRefused> {
        let required = self.channel_binding == ChannelBindingMode::Require;
        if required && tls == TlsEndPoint::NoTls {
            return Err(AuthRefused::BindingNeedsTls);
        }
        let (mut scram, mut plus, mut oauth) = (false, false, false);
        for name in offered {
            scram |= name == Mechanism::ScramSha256.name().as_bytes();
            plus |= name == Mechanism::ScramSha256Plus.name().as_bytes();
            oauth |= name == b"OAUTHBEARER";
        }
        let binding = match (tls, self.channel_binding) {
            (TlsEndPoint::NoTls, _) if plus => return Err(AuthRefused::PlusWithoutTls),
            (TlsEndPoint::Hash(hash), ChannelBindingMode::Prefer | ChannelBindingMode::Require) if plus => {
                ChannelBinding::TlsServerEndPoint(hash.to_vec())
            }
            (TlsEndPoint::NoHash, ChannelBindingMode::Require) if plus => return Err(AuthRefused::NoHash),
            _ if required => return Err(AuthRefused::BindingNotOffered),
            (TlsEndPoint::Hash(_), ChannelBindingMode::Prefer) if scram => ChannelBinding::NotOffered,
            _ if scram => ChannelBinding::NotSupported,
            _ if oauth && !self.allowed.contains(AuthMethod::OAuth) => {
                return Err(self.refuse("server requested OAUTHBEARER authentication"));
            }
            _ => return Err(AuthRefused::NoUsableMechanism),
        };
        match binding.mechanism() {
            _ if self.allowed.contains(AuthMethod::ScramSha256) => Ok(binding),
            Mechanism::ScramSha256 => Err(self.refuse("server requested SCRAM-SHA-256 authentication")),
            Mechanism::ScramSha256Plus => {
                Err(self.refuse("server requested SCRAM-SHA-256-PLUS authentication"))
            }
        }
    }

    /// Whether `AuthenticationOk` may be believed, given what preceded it.
    ///
    /// # Errors
    /// If some authentication is required and none was completed, or the channel had to be bound and was not.
    pub const fn check_ok(&self, done: AuthDone) -> Result<(), AuthRefused> {
        match (done, self.channel_binding) {
            (AuthDone::ScramUnproven, _) => Err(AuthRefused::Unproven),
            (AuthDone::Nothing, _) if !self.allowed.contains(AuthMethod::None) => {
                Err(self.refuse("server did not complete authentication"))
            }
            (AuthDone::ScramBound, _) | (_, ChannelBindingMode::Disable | ChannelBindingMode::Prefer) => {
                Ok(())
            }
            (_, ChannelBindingMode::Require) => Err(AuthRefused::NotBound),
        }
    }

    const fn refuse(&self, reason: &'static str) -> AuthRefused {
        AuthRefused::Method { allowed: self.allowed, reason }
    }
}

impl Default for AuthPolicy {
    fn default() -> Self {
        Self {
            allowed: AuthMethods::ANY,
            channel_binding: ChannelBindingMode::Prefer,
            max_scram_iterations: Self::DEFAULT_MAX_SCRAM_ITERATIONS,
        }
    }
}

/// A request of the server, by its `Authentication...` message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthRequest {
    /// `AuthenticationCleartextPassword`
    CleartextPassword,
    /// `AuthenticationMD5Password`
    Md5Password,
    /// `AuthenticationGSS`, and `AuthenticationGSSContinue` after it
    Gss,
    /// `AuthenticationSSPI`
    Sspi,
    /// `AuthenticationSASL`, and the messages that continue it
    Sasl,
    /// Any other request
    Other,
}

impl AuthRequest {
    const fn reason(self) -> &'static str {
        match self {
            Self::CleartextPassword => "server requested a cleartext password",
            Self::Md5Password => "server requested a hashed password",
            Self::Gss => "server requested GSSAPI authentication",
            Self::Sspi => "server requested SSPI authentication",
            Self::Sasl => "server requested SASL authentication",
            Self::Other => "server requested an unknown authentication type",
        }
    }
}

/// How far authentication had come when `AuthenticationOk` arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthDone {
    /// The server asked for nothing.
    Nothing,
    /// A password or a hash of it was sent; the server has proved nothing.
    Answered,
    /// A SCRAM exchange was begun, and the server has not proved itself.
    ScramUnproven,
    /// SCRAM was completed without channel binding.
    Scram,
    /// SCRAM was completed with channel binding.
    ScramBound,
}

/// What TLS offers to bind a channel to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsEndPoint<'a> {
    /// TLS is not in use.
    NoTls,
    /// TLS is in use, but the certificate's signature algorithm names no hash (Ed25519 and Ed448).
    NoHash,
    /// `tls-server-end-point`: the hash of the server's certificate.
    Hash(&'a [u8]),
}

/// The connection parameter `channel_binding`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ChannelBindingMode {
    /// `disable`: never.
    Disable,
    /// `prefer`: where the server offers it.
    #[default]
    Prefer,
    /// `require`: a login without it is refused.
    Require,
}

impl ChannelBindingMode {
    /// The value's name in a connection string.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Disable => "disable",
            Self::Prefer => "prefer",
            Self::Require => "require",
        }
    }
}

impl fmt::Display for ChannelBindingMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for ChannelBindingMode {
    type Err = ParseChannelBindingModeError;

    fn from_str(text: &str) -> Result<Self, ParseChannelBindingModeError> {
        [Self::Disable, Self::Prefer, Self::Require]
            .into_iter()
            .find(|mode| mode.name() == text)
            .ok_or_else(|| ParseChannelBindingModeError(text.into()))
    }
}

/// The text is none of `disable`, `prefer` and `require`. `Display` is libpq's sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseChannelBindingModeError(String);

impl fmt::Display for ParseChannelBindingModeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "invalid channel_binding value: \"{}\"", self.0)
    }
}

impl core::error::Error for ParseChannelBindingModeError {}

/// Why the policy refuses a login. `Display` is libpq's sentence where libpq has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AuthRefused {
    /// `require_auth` does not allow what the server did.
    Method {
        /// The methods that are allowed.
        allowed: AuthMethods,
        /// What the server did.
        reason: &'static str,
    },
    /// The server offers no SASL mechanism that this client has.
    NoUsableMechanism,
    /// SCRAM-SHA-256-PLUS was offered on a connection without TLS.
    PlusWithoutTls,
    /// Channel binding is required, and there is no TLS.
    BindingNeedsTls,
    /// Channel binding is required, and the server has no mechanism for it.
    BindingNotOffered,
    /// Channel binding is required, and the request is one that cannot bind.
    RequestCannotBind,
    /// Channel binding is required, and the server's certificate names no hash to bind with.
    NoHash,
    /// `AuthenticationOk` came without the channel binding that is required.
    NotBound,
    /// `AuthenticationOk` came in the middle of a SCRAM exchange. libpq accepts that.
    Unproven,
}

impl fmt::Display for AuthRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Method { allowed, reason } => {
                return write!(f, "authentication method requirement \"{allowed}\" failed: {reason}");
            }
            Self::NoUsableMechanism => "none of the server's SASL authentication mechanisms are supported",
            Self::PlusWithoutTls => {
                "server offered SCRAM-SHA-256-PLUS authentication over a non-SSL connection"
            }
            Self::BindingNeedsTls => "channel binding required, but SSL not in use",
            Self::BindingNotOffered => {
                "channel binding is required, but server did not offer an authentication method that supports \
                 channel binding"
            }
            Self::RequestCannotBind => {
                "channel binding required but not supported by server's authentication request"
            }
            Self::NoHash => "channel binding required, but the server certificate's signature algorithm names no hash",
            Self::NotBound => "channel binding required, but server authenticated client without channel binding",
            Self::Unproven => "server ended the SCRAM exchange without proving that it knows the password",
        })
    }
}

impl core::error::Error for AuthRefused {}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;
    use alloc::string::ToString;

    const REQUESTS: [AuthRequest; 6] = [
        AuthRequest::CleartextPassword,
        AuthRequest::Md5Password,
        AuthRequest::Gss,
        AuthRequest::Sspi,
        AuthRequest::Sasl,
        AuthRequest::Other,
    ];
    const SCRAM: &[u8] = b"SCRAM-SHA-256";
    const PLUS: &[u8] = b"SCRAM-SHA-256-PLUS";
    const HASH: TlsEndPoint<'_> = TlsEndPoint::Hash(&[7; 32]);

    fn policy(allowed: &str, channel_binding: ChannelBindingMode) -> AuthPolicy {
        AuthPolicy { allowed: allowed.parse().unwrap(), channel_binding, ..AuthPolicy::default() }
    }

    #[test]
    fn by_default_every_request_may_be_answered() {
        for request in REQUESTS {
            assert_eq!(AuthPolicy::default().check_request(request), Ok(()));
        }
    }

    #[test]
    fn each_request_needs_its_method() {
        for (allowed, permitted) in [
            ("password", Some(AuthRequest::CleartextPassword)),
            ("md5", Some(AuthRequest::Md5Password)),
            ("gss", Some(AuthRequest::Gss)),
            ("sspi", Some(AuthRequest::Sspi)),
            ("scram-sha-256", Some(AuthRequest::Sasl)),
            ("oauth", Some(AuthRequest::Sasl)),
            ("none", None),
        ] {
            let policy = policy(allowed, ChannelBindingMode::Prefer);
            for request in REQUESTS {
                assert_eq!(policy.check_request(request).is_ok(), Some(request) == permitted, "{allowed}");
            }
        }
    }

    #[test]
    fn refusals_are_in_the_words_of_libpq() {
        let policy = policy("none", ChannelBindingMode::Prefer);
        for (request, reason) in [
            (AuthRequest::CleartextPassword, "server requested a cleartext password"),
            (AuthRequest::Md5Password, "server requested a hashed password"),
            (AuthRequest::Gss, "server requested GSSAPI authentication"),
            (AuthRequest::Sspi, "server requested SSPI authentication"),
            (AuthRequest::Sasl, "server requested SASL authentication"),
            (AuthRequest::Other, "server requested an unknown authentication type"),
        ] {
            let refused = policy.check_request(request).unwrap_err();
            let text = format!("authentication method requirement \"none\" failed: {reason}");
            assert_eq!(refused.to_string(), text);
        }
    }

    #[test]
    fn required_binding_answers_nothing_but_sasl() {
        let policy = policy("", ChannelBindingMode::Require);
        for request in REQUESTS {
            let answered = policy.check_request(request);
            match request {
                AuthRequest::Sasl => assert_eq!(answered, Ok(())),
                _ => assert_eq!(answered, Err(AuthRefused::RequestCannotBind)),
            }
        }
    }

    #[test]
    fn the_binding_follows_from_mode_tls_and_offer() {
        use ChannelBinding::{NotOffered, NotSupported};
        use ChannelBindingMode::{Disable, Prefer, Require};
        use TlsEndPoint::{NoHash, NoTls};
        let bound = ChannelBinding::TlsServerEndPoint([7; 32].into());
        let (both, plain, plus, none) = (&[PLUS, SCRAM][..], &[SCRAM][..], &[PLUS][..], &[][..]);
        for (mode, tls, offered, expected) in [
            (Prefer, HASH, both, Ok(bound.clone())),
            (Prefer, HASH, plus, Ok(bound.clone())),
            (Prefer, HASH, plain, Ok(NotOffered)),
            (Prefer, NoHash, both, Ok(NotSupported)),
            (Prefer, NoHash, plain, Ok(NotSupported)),
            (Prefer, NoTls, plain, Ok(NotSupported)),
            (Prefer, NoTls, both, Err(AuthRefused::PlusWithoutTls)),
            (Prefer, HASH, none, Err(AuthRefused::NoUsableMechanism)),
            (Prefer, HASH, &[b"PLAIN"], Err(AuthRefused::NoUsableMechanism)),
            (Prefer, HASH, &[b"OAUTHBEARER"], Err(AuthRefused::NoUsableMechanism)),
            (Disable, HASH, both, Ok(NotSupported)),
            (Disable, HASH, plain, Ok(NotSupported)),
            (Disable, HASH, plus, Err(AuthRefused::NoUsableMechanism)),
            (Disable, NoTls, plain, Ok(NotSupported)),
            (Disable, NoTls, both, Err(AuthRefused::PlusWithoutTls)),
            (Require, HASH, both, Ok(bound)),
            (Require, HASH, plain, Err(AuthRefused::BindingNotOffered)),
            (Require, HASH, none, Err(AuthRefused::BindingNotOffered)),
            (Require, NoHash, both, Err(AuthRefused::NoHash)),
            (Require, NoHash, plain, Err(AuthRefused::BindingNotOffered)),
            (Require, NoTls, plain, Err(AuthRefused::BindingNeedsTls)),
            (Require, NoTls, both, Err(AuthRefused::BindingNeedsTls)),
        ] {
            let selected = policy("", mode).select_binding(offered.iter().copied(), tls);
            assert_eq!(selected, expected, "{mode} {tls:?} {offered:?}");
        }
    }

    #[test]
    fn a_mechanism_that_is_not_allowed_is_refused() {
        let only_oauth = policy("oauth", ChannelBindingMode::Prefer);
        let only_scram = policy("scram-sha-256", ChannelBindingMode::Prefer);
        let oauth: &[u8] = b"OAUTHBEARER";
        for (policy, offered, reason) in [
            (only_oauth, SCRAM, "\"oauth\" failed: server requested SCRAM-SHA-256 authentication"),
            (only_oauth, PLUS, "\"oauth\" failed: server requested SCRAM-SHA-256-PLUS authentication"),
            (only_scram, oauth, "\"scram-sha-256\" failed: server requested OAUTHBEARER authentication"),
        ] {
            let refused = policy.select_binding([offered], HASH).unwrap_err();
            assert_eq!(refused.to_string(), format!("authentication method requirement {reason}"));
        }
    }

    #[test]
    fn ok_is_believed_only_after_what_the_policy_wants() {
        use AuthDone::{Answered, Nothing, Scram, ScramBound, ScramUnproven};
        use ChannelBindingMode::{Disable, Prefer, Require};
        let incomplete = |allowed: &str| {
            let reason = "server did not complete authentication";
            Err(AuthRefused::Method { allowed: allowed.parse().unwrap(), reason })
        };
        for (allowed, mode, done, expected) in [
            ("", Prefer, Nothing, Ok(())),
            ("none", Prefer, Nothing, Ok(())),
            ("!md5", Prefer, Nothing, Ok(())),
            ("!none", Prefer, Nothing, incomplete("!none")),
            ("scram-sha-256", Prefer, Nothing, incomplete("scram-sha-256")),
            ("md5", Prefer, Answered, Ok(())),
            ("", Disable, Scram, Ok(())),
            ("", Prefer, Scram, Ok(())),
            ("", Prefer, ScramBound, Ok(())),
            ("", Disable, ScramUnproven, Err(AuthRefused::Unproven)),
            ("none", Prefer, ScramUnproven, Err(AuthRefused::Unproven)),
            ("", Require, ScramUnproven, Err(AuthRefused::Unproven)),
            ("", Require, Nothing, Err(AuthRefused::NotBound)),
            ("!none", Require, Nothing, incomplete("!none")),
            ("", Require, Answered, Err(AuthRefused::NotBound)),
            ("", Require, Scram, Err(AuthRefused::NotBound)),
            ("", Require, ScramBound, Ok(())),
        ] {
            assert_eq!(policy(allowed, mode).check_ok(done), expected, "{allowed:?} {mode} {done:?}");
        }
    }

    #[test]
    fn channel_binding_modes_parse_by_their_names() {
        for mode in [ChannelBindingMode::Disable, ChannelBindingMode::Prefer, ChannelBindingMode::Require] {
            assert_eq!(mode.name().parse(), Ok(mode));
        }
        for text in ["", "Require", "on"] {
            let error = text.parse::<ChannelBindingMode>().unwrap_err();
            assert_eq!(error.to_string(), format!("invalid channel_binding value: \"{text}\""));
        }
    }
}
