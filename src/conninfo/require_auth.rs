use std::format;
use std::prelude::v1::*;

use super::ConnInfoError;
use super::options::choose;

/// A way in which a server may ask a client to prove who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AuthMethod {
    /// None at all: `trust`, `peer` and `cert` on the server's side.
    None,
    /// The password itself.
    Password,
    /// A salted MD5 of it.
    Md5,
    /// SCRAM-SHA-256, with or without channel binding.
    ScramSha256,
    /// GSSAPI (Kerberos), which this implementation does not have.
    Gss,
    /// SSPI of Windows, which this implementation does not have.
    Sspi,
    /// A bearer token, which this implementation does not have.
    OAuth,
}

const METHODS: [(&str, AuthMethod); 7] = [
    ("password", AuthMethod::Password),
    ("md5", AuthMethod::Md5),
    ("gss", AuthMethod::Gss),
    ("sspi", AuthMethod::Sspi),
    ("scram-sha-256", AuthMethod::ScramSha256),
    ("oauth", AuthMethod::OAuth),
    ("none", AuthMethod::None),
];

/// `require_auth`: the methods of authentication that are acceptable.
///
/// The default accepts every method, and also a server that asks for nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequireAuth {
    text: String,
    methods: Vec<AuthMethod>,
    is_negated: bool,
}

impl RequireAuth {
    /// Parses a list such as `scram-sha-256,none` or `!password,!md5`.
    pub(super) fn parse(text: &str) -> Result<Self, ConnInfoError> {
        let is_negated = text.starts_with('!');
        let mut methods = Vec::new();
        for element in text.split(',').filter(|_| !text.is_empty()) {
            let word = match (element.strip_prefix('!'), is_negated) {
                (Some(word), true) => word,
                (None, false) => element,
                (Some(_), false) => {
                    return Err(ConnInfoError::conflict(format!(
                        "negative require_auth method \"{element}\" cannot be mixed with non-negative methods"
                    )));
                }
                (None, true) => {
                    return Err(ConnInfoError::conflict(format!(
                        "require_auth method \"{element}\" cannot be mixed with negative methods"
                    )));
                }
            };
            let method = choose("require_auth", word, &METHODS)?;
            if methods.contains(&method) {
                return Err(ConnInfoError::conflict(format!(
                    "require_auth method \"{element}\" is specified more than once"
                )));
            }
            methods.push(method);
        }
        let require_auth = Self { text: text.into(), methods, is_negated };
        let possible = [AuthMethod::None, AuthMethod::Password, AuthMethod::Md5, AuthMethod::ScramSha256];
        if !possible.iter().any(|&method| require_auth.allows(method)) {
            return Err(ConnInfoError::unsupported(format!(
                "require_auth \"{text}\" allows none of the supported methods: \
                 none, password, md5, scram-sha-256"
            )));
        }
        Ok(require_auth)
    }

    /// Whether a server may ask for this; of [`AuthMethod::None`], whether it may ask for nothing.
    #[must_use]
    pub fn allows(&self, method: AuthMethod) -> bool {
        self.text.is_empty() || self.methods.contains(&method) != self.is_negated
    }

    /// The list as written, for messages.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(text: &str) -> Result<Vec<AuthMethod>, String> {
        let require_auth = RequireAuth::parse(text).map_err(|error| error.to_string())?;
        assert_eq!(require_auth.as_str(), text);
        Ok(METHODS.iter().map(|&(_, method)| method).filter(|&method| require_auth.allows(method)).collect())
    }

    #[test]
    fn a_list_allows_its_members_and_a_negated_one_the_others() {
        use AuthMethod::{Gss, Md5, None, OAuth, Password, ScramSha256, Sspi};
        assert_eq!(allowed(""), Ok([Password, Md5, Gss, Sspi, ScramSha256, OAuth, None].into()));
        assert_eq!(allowed("scram-sha-256,md5"), Ok([Md5, ScramSha256].into()));
        assert_eq!(allowed("none"), Ok([None].into()));
        assert_eq!(allowed("gss,none"), Ok([Gss, None].into()));
        assert_eq!(allowed("!password,!md5"), Ok([Gss, Sspi, ScramSha256, OAuth, None].into()));
        assert_eq!(allowed("!none"), Ok([Password, Md5, Gss, Sspi, ScramSha256, OAuth].into()));
    }

    #[test]
    fn mistakes_are_told_in_libpqs_words() {
        for (text, message) in [
            ("MD5", "invalid require_auth value: \"MD5\""),
            ("!x", "invalid require_auth value: \"x\""),
            (",", "invalid require_auth value: \"\""),
            ("md5,", "invalid require_auth value: \"\""),
            ("!", "invalid require_auth value: \"\""),
            ("md5, none", "invalid require_auth value: \" none\""),
            ("md5,md5", "require_auth method \"md5\" is specified more than once"),
            ("!none,!none", "require_auth method \"!none\" is specified more than once"),
            ("!md5,none", "require_auth method \"none\" cannot be mixed with negative methods"),
            ("md5,!x", "negative require_auth method \"!x\" cannot be mixed with non-negative methods"),
        ] {
            assert_eq!(allowed(text), Err(message.into()), "{text}");
        }
    }

    #[test]
    fn a_list_of_nothing_that_can_be_done_is_refused() {
        for text in ["gss", "sspi,oauth", "!password,!md5,!scram-sha-256,!none"] {
            let message = allowed(text).unwrap_err();
            assert!(message.contains("allows none of the supported methods"), "{text}: {message}");
        }
    }
}
