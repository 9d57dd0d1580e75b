use alloc::string::String;
use core::fmt;
use core::str::FromStr;

/// A way to authenticate, as `require_auth` names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AuthMethod {
    /// `password`: sent in clear.
    Password,
    /// `md5`: a hash of the password.
    Md5,
    /// `gss`: GSSAPI.
    Gss,
    /// `sspi`: Windows' own.
    Sspi,
    /// `scram-sha-256`, with and without channel binding.
    ScramSha256,
    /// `oauth`: OAUTHBEARER, servers since 18.
    OAuth,
    /// `none`: the server asks for nothing, as with `trust`, `peer` and `cert`.
    None,
}

impl AuthMethod {
    const ALL: [Self; 7] =
        [Self::Password, Self::Md5, Self::Gss, Self::Sspi, Self::ScramSha256, Self::OAuth, Self::None];

    /// The method's name in `require_auth`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Password => "password",
            Self::Md5 => "md5",
            Self::Gss => "gss",
            Self::Sspi => "sspi",
            Self::ScramSha256 => "scram-sha-256",
            Self::OAuth => "oauth",
            Self::None => "none",
        }
    }

    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

impl fmt::Display for AuthMethod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The value of `require_auth`: a set of methods, written as its members or, with `!`, as the methods outside
/// it.
///
/// `scram-sha-256,md5` allows these two and wants one of them completed; `!password,!md5` allows all others,
/// including no authentication at all; the empty text allows everything. `Display` gives the set in the same
/// form, in a fixed order.
///
/// ```
/// use tapster::auth::{AuthMethod, AuthMethods};
/// let methods: AuthMethods = "!password,!none".parse()?;
/// assert!(methods.contains(AuthMethod::ScramSha256) && !methods.contains(AuthMethod::Password));
/// # Ok::<(), tapster::auth::ParseAuthMethodsError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuthMethods {
    allowed: u8,
    /// Whether the set was written with `!`. Only `Display` needs to know.
    negated: bool,
}

impl AuthMethods {
    /// Every method, and also no authentication.
    pub const ANY: Self = Self { allowed: 0x7f, negated: true };

    /// Whether the method may be used; for [`AuthMethod::None`], whether authentication may be left out.
    #[must_use]
    pub const fn contains(self, method: AuthMethod) -> bool {
        self.allowed & method.bit() != 0
    }

    /// Whether every method is allowed.
    #[must_use]
    pub const fn is_any(self) -> bool {
        self.allowed == Self::ANY.allowed
    }
}

impl Default for AuthMethods {
    fn default() -> Self {
        Self::ANY
    }
}

impl fmt::Display for AuthMethods {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.negated { "!" } else { "" };
        let named = AuthMethod::ALL.into_iter().filter(|method| self.contains(*method) != self.negated);
        for (i, method) in named.enumerate() {
            let comma = if i == 0 { "" } else { "," };
            write!(f, "{comma}{sign}{method}")?;
        }
        Ok(())
    }
}

impl FromStr for AuthMethods {
    type Err = ParseAuthMethodsError;

    fn from_str(text: &str) -> Result<Self, ParseAuthMethodsError> {
        if text.is_empty() {
            return Ok(Self::ANY);
        }
        let negated = text.starts_with('!');
        let mut named = 0;
        for item in text.split(',') {
            let name = match (item.strip_prefix('!'), negated) {
                (Some(name), true) => name,
                (None, false) => item,
                (Some(_), false) => return Err(ParseAuthMethodsError::NegativeAmongOthers(item.into())),
                (None, true) => return Err(ParseAuthMethodsError::AmongNegative(item.into())),
            };
            let method = AuthMethod::ALL
                .into_iter()
                .find(|method| method.name() == name)
                .ok_or_else(|| ParseAuthMethodsError::Unknown(name.into()))?;
            if named & method.bit() != 0 {
                return Err(ParseAuthMethodsError::Duplicate(item.into()));
            }
            named |= method.bit();
        }
        let allowed = if negated { Self::ANY.allowed & !named } else { named };
        Ok(Self { allowed, negated })
    }
}

/// The text is not a list of methods. `Display` is libpq's sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ParseAuthMethodsError {
    /// No method has this name.
    Unknown(String),
    /// This method is in the list twice.
    Duplicate(String),
    /// This method has a `!`, and those before it have none.
    NegativeAmongOthers(String),
    /// This method has no `!`, and those before it have one.
    AmongNegative(String),
}

impl fmt::Display for ParseAuthMethodsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(name) => write!(f, "invalid require_auth value: \"{name}\""),
            Self::Duplicate(item) => {
                write!(f, "require_auth method \"{item}\" is specified more than once")
            }
            Self::NegativeAmongOthers(item) => {
                write!(f, "negative require_auth method \"{item}\" cannot be mixed with non-negative methods")
            }
            Self::AmongNegative(item) => {
                write!(f, "require_auth method \"{item}\" cannot be mixed with negative methods")
            }
        }
    }
}

impl core::error::Error for ParseAuthMethodsError {}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;
    use alloc::vec::Vec;

    fn members(text: &str) -> Vec<AuthMethod> {
        let methods: AuthMethods = text.parse().unwrap();
        AuthMethod::ALL.into_iter().filter(|method| methods.contains(*method)).collect()
    }

    #[test]
    fn a_positive_list_allows_exactly_its_members() {
        use AuthMethod::{Md5, None, ScramSha256};
        assert_eq!(members("scram-sha-256"), [ScramSha256]);
        assert_eq!(members("none,md5"), [Md5, None]);
        for method in AuthMethod::ALL {
            assert_eq!(members(method.name()), [method]);
        }
    }

    #[test]
    fn a_negative_list_allows_all_others() {
        use AuthMethod::{Gss, None, OAuth, ScramSha256, Sspi};
        assert_eq!(members("!password,!md5"), [Gss, Sspi, ScramSha256, OAuth, None]);
        assert_eq!(members("!none").len(), 6);
        assert!(!members("!none").contains(&None));
    }

    #[test]
    fn the_empty_list_allows_everything() {
        assert_eq!("".parse(), Ok(AuthMethods::ANY));
        assert!(AuthMethods::default().is_any());
        assert!(!"!md5".parse::<AuthMethods>().unwrap().is_any());
    }

    #[test]
    fn display_parses_again() {
        for text in ["", "password", "password,md5,gss,sspi,scram-sha-256,oauth,none", "!none", "!md5,!gss"] {
            assert_eq!(text.parse::<AuthMethods>().unwrap().to_string(), text);
        }
        assert_eq!("none,md5".parse::<AuthMethods>().unwrap().to_string(), "md5,none");
    }

    #[test]
    fn errors_are_in_the_words_of_libpq() {
        for (text, error) in [
            ("scram", "invalid require_auth value: \"scram\""),
            ("!scram", "invalid require_auth value: \"scram\""),
            ("MD5", "invalid require_auth value: \"MD5\""),
            ("md5, gss", "invalid require_auth value: \" gss\""),
            ("md5,", "invalid require_auth value: \"\""),
            (",", "invalid require_auth value: \"\""),
            ("!", "invalid require_auth value: \"\""),
            ("md5,gss,md5", "require_auth method \"md5\" is specified more than once"),
            ("!md5,!md5", "require_auth method \"!md5\" is specified more than once"),
            ("none,none", "require_auth method \"none\" is specified more than once"),
            ("gss,!md5", "negative require_auth method \"!md5\" cannot be mixed with non-negative methods"),
            ("!gss,md5", "require_auth method \"md5\" cannot be mixed with negative methods"),
        ] {
            assert_eq!(text.parse::<AuthMethods>().unwrap_err().to_string(), error, "{text:?}");
        }
    }
}
