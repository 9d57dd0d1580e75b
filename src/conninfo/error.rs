use std::format;
use std::prelude::v1::*;

use core::fmt;

/// Why connection parameters cannot be used.
///
/// The text is libpq's, word for word, wherever libpq refuses the same thing. It never shows a password or a
/// key: where libpq would quote one, the text has `***`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnInfoError {
    kind: ConnInfoErrorKind,
    message: String,
}

/// The kinds of mistake of a [`ConnInfoError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ConnInfoErrorKind {
    /// The text is not a connection string or URI.
    Syntax,
    /// A keyword that does not exist.
    UnknownOption,
    /// A value that its parameter does not have, or text where a number is expected.
    InvalidValue,
    /// A number that is not a port (1 to 65535). libpq goes on with the next host of the list.
    Port,
    /// A host that no network could reach: a socket path that is too long, or a `hostaddr` that is no
    /// address. libpq goes on with the next host of the list.
    Host,
    /// Lists of hosts, addresses and ports whose lengths do not match.
    HostList,
    /// Parameters that are each valid but exclude one another.
    Conflict,
    /// The service file, or the service's section in it.
    ServiceFile,
    /// An environment variable, or a user name that the system does not know.
    Environment,
    /// A request for something this implementation does not have.
    Unsupported,
}

impl ConnInfoError {
    pub(super) fn new(kind: ConnInfoErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    pub(super) fn syntax(message: impl Into<String>) -> Self {
        Self::new(ConnInfoErrorKind::Syntax, message)
    }

    pub(super) fn unknown_option(keyword: &str) -> Self {
        Self::new(ConnInfoErrorKind::UnknownOption, format!("invalid connection option \"{keyword}\""))
    }

    pub(super) fn invalid_value(keyword: &str, value: &str) -> Self {
        Self::new(ConnInfoErrorKind::InvalidValue, format!("invalid {keyword} value: \"{value}\""))
    }

    pub(super) fn conflict(message: impl Into<String>) -> Self {
        Self::new(ConnInfoErrorKind::Conflict, message)
    }

    pub(super) fn unsupported(message: impl Into<String>) -> Self {
        Self::new(ConnInfoErrorKind::Unsupported, message)
    }

    /// The kind of mistake.
    #[must_use]
    pub fn kind(&self) -> ConnInfoErrorKind {
        self.kind
    }

    /// Whether libpq ends its search at a host with this error, instead of trying the next host of the list.
    pub(crate) fn ends_search(&self) -> bool {
        self.kind == ConnInfoErrorKind::InvalidValue
    }
}

impl fmt::Display for ConnInfoError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl core::error::Error for ConnInfoError {}
