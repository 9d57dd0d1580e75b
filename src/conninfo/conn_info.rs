use std::prelude::v1::*;

use core::fmt;
use core::str::FromStr;

use zeroize::Zeroizing;

use super::keywords::{self, Keyword};
use super::{ConnInfoError, Environment, Resolved, key_value, uri};

/// Connection parameters as the user wrote them: in a connection string, a URI, or one by one.
///
/// Nothing is filled in and no value is checked; [`resolve`](Self::resolve) does that. A keyword occurs once:
/// setting it again replaces its value. Values may be empty, which for some parameters means the default.
///
/// `Display` and `Debug` show `***` for passwords and keys; [`encode`](Self::encode) shows everything.
///
/// ```
/// use tapster::conninfo::ConnInfo;
/// let mut conninfo: ConnInfo = "postgresql://barman:s3cret@db1/postgres?sslmode=require".parse()?;
/// conninfo.set("application_name", "my backup")?;
/// assert_eq!(conninfo.get("user"), Some("barman"));
/// assert_eq!(
///     conninfo.to_string(),
///     "user=barman password=*** host=db1 dbname=postgres sslmode=require application_name='my backup'"
/// );
/// # Ok::<(), tapster::conninfo::ConnInfoError>(())
/// ```
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ConnInfo {
    parameters: Vec<Parameter>,
}

#[derive(Clone, PartialEq, Eq)]
pub(super) struct Parameter {
    pub(super) keyword: &'static Keyword,
    pub(super) value: Zeroizing<String>,
    /// The command-line flag that gave the value, if one did.
    pub(super) flag: Option<&'static str>,
}

impl ConnInfo {
    /// No parameter at all: everything comes from the environment and from defaults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Parses the database argument (`-d`) of the command-line tools: a URI, a connection string (any text
    /// with a `=`), or else the bare name of a database. An empty text sets nothing.
    ///
    /// # Errors
    /// As for [`FromStr`].
    pub fn from_dbname_argument(text: &str) -> Result<Self, ConnInfoError> {
        if uri::strip_scheme(text).is_some() || text.contains('=') {
            return text.parse();
        }
        let mut conninfo = Self::new();
        if !text.is_empty() {
            conninfo.set("dbname", text)?;
        }
        Ok(conninfo)
    }

    /// The value of a parameter that was given, possibly empty.
    #[must_use]
    pub fn get(&self, keyword: &str) -> Option<&str> {
        self.parameters().find(|p| p.keyword.name == keyword).map(|p| p.value.as_str())
    }

    /// Sets a parameter, in place of an earlier value.
    ///
    /// # Errors
    /// If the keyword does not exist, or the value contains a zero byte, which the protocol cannot carry.
    pub fn set(&mut self, keyword: &str, value: impl Into<String>) -> Result<(), ConnInfoError> {
        self.insert(keyword, value.into(), None)
    }

    /// Like [`set`](Self::set), for a value that a command-line flag gave. [`Resolved::source`] then returns
    /// the flag.
    ///
    /// # Errors
    /// As for [`set`](Self::set).
    pub fn set_from_flag(
        &mut self,
        flag: &'static str,
        keyword: &str,
        value: impl Into<String>,
    ) -> Result<(), ConnInfoError> {
        self.insert(keyword, value.into(), Some(flag))
    }

    /// The command-line flag that gave the parameter, as [`set_from_flag`](Self::set_from_flag) was told.
    #[must_use]
    pub fn flag(&self, keyword: &str) -> Option<&'static str> {
        self.parameters.iter().find(|p| p.keyword.name == keyword).and_then(|p| p.flag)
    }

    /// Removes a parameter and returns whether it was present.
    pub fn remove(&mut self, keyword: &str) -> bool {
        let before = self.parameters.len();
        self.parameters.retain(|p| p.keyword.name != keyword);
        self.parameters.len() < before
    }

    /// Keywords and values in the order in which they were first given, **with passwords and keys**.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.parameters().map(|p| (p.keyword.name, p.value.as_str()))
    }

    /// The connection string, **with passwords and keys**. It parses back to the same parameters.
    #[must_use]
    pub fn encode(&self) -> String {
        let mut out = String::new();
        for parameter in self.parameters() {
            key_value::encode(parameter.keyword.name, &parameter.value, &mut out);
        }
        out
    }

    /// Fills in what was not given: from the service file, then from environment variables, then from
    /// defaults, and the password of each host from the password file.
    ///
    /// # Errors
    /// If a service cannot be read, lists of hosts and ports do not match, no user name is known, or a
    /// variable is not UTF-8. Values are checked later, by [`Resolved::config`].
    pub fn resolve(&self, environment: &Environment) -> Result<Resolved, ConnInfoError> {
        Resolved::new(self, environment)
    }

    pub(super) fn parameters(&self) -> impl Iterator<Item = &Parameter> {
        self.parameters.iter()
    }

    /// Stores a parameter of a string or URI, which may use the old spelling `requiressl`. Returns `None` if
    /// the keyword does not exist.
    pub(super) fn store(
        &mut self,
        keyword: &str,
        value: Zeroizing<String>,
    ) -> Result<Option<&'static Keyword>, ConnInfoError> {
        let (keyword, value) = match keyword {
            "requiressl" if value.starts_with('1') => ("sslmode", Zeroizing::new("require".into())),
            "requiressl" => ("sslmode", Zeroizing::new("prefer".into())),
            keyword => (keyword, value),
        };
        let Some(keyword) = keywords::find(keyword) else { return Ok(None) };
        self.replace(Parameter { keyword, value, flag: None });
        Ok(Some(keyword))
    }

    fn insert(
        &mut self,
        keyword: &str,
        value: String,
        flag: Option<&'static str>,
    ) -> Result<(), ConnInfoError> {
        let value = Zeroizing::new(value);
        let keyword = keywords::find(keyword).ok_or_else(|| ConnInfoError::unknown_option(keyword))?;
        if value.contains('\0') {
            return Err(zero_byte());
        }
        self.replace(Parameter { keyword, value, flag });
        Ok(())
    }

    fn replace(&mut self, parameter: Parameter) {
        match self.parameters.iter_mut().find(|p| p.keyword.name == parameter.keyword.name) {
            Some(earlier) => *earlier = parameter,
            None => self.parameters.push(parameter),
        }
    }
}

/// Reads a connection string or a URI as libpq 18 does.
impl FromStr for ConnInfo {
    type Err = ConnInfoError;

    fn from_str(text: &str) -> Result<Self, ConnInfoError> {
        // C would end the text at a zero byte and silently drop the rest.
        if text.contains('\0') {
            return Err(zero_byte());
        }
        let mut conninfo = Self::new();
        match uri::strip_scheme(text) {
            Some(rest) => uri::parse(text, rest, &mut conninfo)?,
            None => key_value::parse(text, &mut conninfo)?,
        }
        Ok(conninfo)
    }
}

impl fmt::Display for ConnInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = String::new();
        for parameter in self.parameters() {
            let value = if parameter.keyword.secret { "***" } else { &parameter.value };
            key_value::encode(parameter.keyword.name, value, &mut out);
        }
        f.write_str(&out)
    }
}

impl fmt::Debug for ConnInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ConnInfo({self})")
    }
}

fn zero_byte() -> ConnInfoError {
    ConnInfoError::syntax("connection parameters may not contain a zero byte")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{format, vec};

    #[test]
    fn the_database_argument_is_a_uri_a_string_or_a_name() {
        for (text, encoded) in [
            ("postgres://h/d", "host=h dbname=d"),
            ("host=h", "host=h"),
            ("a=", ""),
            ("my db", "dbname='my db'"),
            ("Postgres://h", "dbname=Postgres://h"),
            ("", ""),
        ] {
            match ConnInfo::from_dbname_argument(text) {
                Ok(conninfo) => assert_eq!(conninfo.encode(), encoded, "{text}"),
                Err(error) => {
                    assert_eq!((text, error.to_string().as_str()), ("a=", "invalid connection option \"a\""))
                }
            }
        }
    }

    #[test]
    fn set_replaces_a_value_in_place_and_remove_deletes_it() {
        let mut conninfo: ConnInfo = "host=a port=1".parse().unwrap();
        conninfo.set("host", "b").unwrap();
        assert_eq!(conninfo.iter().collect::<Vec<_>>(), vec![("host", "b"), ("port", "1")]);
        assert!(conninfo.remove("host"));
        assert!(!conninfo.remove("host"));
        assert_eq!((conninfo.get("host"), conninfo.get("port")), (None, Some("1")));
    }

    #[test]
    fn unknown_keywords_and_zero_bytes_are_refused() {
        let mut conninfo = ConnInfo::new();
        for keyword in ["hosts", "", "requiressl", "Host"] {
            let error = conninfo.set(keyword, "1").unwrap_err();
            assert_eq!(error.to_string(), format!("invalid connection option \"{keyword}\""));
        }
        assert!(conninfo.set("host", "a\0b").is_err());
        assert!("host=a\0b".parse::<ConnInfo>().is_err());
        assert_eq!(conninfo, ConnInfo::new());
    }

    #[test]
    fn secrets_are_never_shown() {
        let mut conninfo = ConnInfo::new();
        for keyword in keywords::KEYWORDS.iter().filter(|keyword| keyword.secret) {
            conninfo.set(keyword.name, "s3cret").unwrap();
        }
        assert_eq!(
            conninfo.to_string(),
            "password=*** sslpassword=*** scram_client_key=*** scram_server_key=*** oauth_client_secret=***"
        );
        assert!(!format!("{conninfo:?}").contains("s3cret"));
        assert!(conninfo.encode().contains("s3cret"));
    }
}
