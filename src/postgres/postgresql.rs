use core::time::Duration;
use std::format;
use std::prelude::v1::*;
use std::sync::Arc;

use super::error::PostgresError;
use super::reconnecting::{ConnectionGuard, Reconnectable, Reconnecting};
use crate::client::Connection;
use crate::conninfo::ConnInfo;
use crate::types::{ServerVersion, WithCauses};

pub(super) mod sealed {
    use std::sync::Arc;

    use tokio::sync::Mutex;

    use super::{Reconnectable, Reconnecting};

    /// The private part of what all classes have in common.
    pub trait Object: Sync {
        /// The kind of connection.
        type Connection: Reconnectable;
        /// The type that `fetch_remote_status` returns.
        type RemoteStatus: Send + Sync;

        fn reconnecting(&self) -> &Reconnecting<Self::Connection>;
        fn remembered(&self) -> &Mutex<Option<Arc<Self::RemoteStatus>>>;
    }
}

/// What all classes have in common: at most one connection, made when it is first needed.
///
/// An object can be shared and called from several tasks at once; calls take turns on its connection. After
/// the connection was lost, the next call makes another one, unless
/// [`set_allow_reconnect`](Self::set_allow_reconnect) forbids it. No call first asks the server whether the
/// connection still works: a loss shows at the socket, and a call that only reads is repeated once on a new
/// connection.
///
/// # Cancel safety
/// If the future of a call is dropped halfway, its statement continues in the server, and the next call waits
/// for its end.
pub trait PostgreSQL: sealed::Object {
    /// The statement that [`check_connection`](Self::check_connection) sends.
    const CHECK_QUERY: &'static str;
    /// The oldest supported version, 9.6.
    const MINIMAL_VERSION: ServerVersion = ServerVersion::from_num(90_600);

    /// The connection string, as it was given or as the class has changed it. It may contain a password.
    fn conninfo(&self) -> &str {
        self.reconnecting().conninfo()
    }

    /// The parameters of [`conninfo`](Self::conninfo).
    fn conn_parameters(&self) -> &ConnInfo {
        self.reconnecting().parameters()
    }

    /// Whether a lost connection may be replaced; by default true.
    fn allow_reconnect(&self) -> bool {
        self.reconnecting().allow_reconnect()
    }

    /// Sets whether a lost connection may be replaced. Between the start and the stop of a backup it never
    /// is, because only the session that started a backup can stop it.
    fn set_allow_reconnect(&self, allow: bool) {
        self.reconnecting().set_allow_reconnect(allow);
    }

    /// How long the server may be silent while a connection is made (if the connection string has no
    /// `connect_timeout`) and while a call waits for an answer. `None`, the default, means no limit.
    /// Checkpoints and the start and stop of backups take their time: the limit does not apply to them.
    fn timeout(&self) -> Option<Duration> {
        self.reconnecting().timeout()
    }

    /// Sets how long the server may be silent, from the next call on.
    fn set_timeout(&self, timeout: Option<Duration>) {
        self.reconnecting().set_timeout(timeout);
    }

    /// Reads a connection string: key/value pairs or a URI, as libpq does.
    ///
    /// # Errors
    /// [`PostgresError::Conninfo`], without the text, which may contain a password.
    fn parse_dsn(text: &str) -> Result<ConnInfo, PostgresError>
    where
        Self: Sized,
    {
        Ok(text.parse()?)
    }

    /// The key/value string of these parameters, sorted by key, **with passwords**. It parses back to the
    /// same parameters.
    #[must_use]
    fn encode_dsn(parameters: &ConnInfo) -> String
    where
        Self: Sized,
    {
        sorted(parameters).encode()
    }

    /// A connection string for a client program: this object's, with `application_name` added if it has none,
    /// and with a safe `search_path` added if it has no `options`.
    #[must_use]
    fn get_connection_string(&self, application_name: Option<&str>) -> String {
        let mut added = ConnInfo::new();
        let name = application_name.filter(|name| !name.is_empty());
        for (keyword, value) in [("application_name", name), ("options", Some("-csearch_path="))] {
            if let Some(value) = value.filter(|_| self.conn_parameters().get(keyword).is_none()) {
                // A value with a NUL fits into no connection string.
                let _ = added.set(keyword, value);
            }
        }
        let is_uri =
            ["postgresql://", "postgres://"].iter().any(|scheme| self.conninfo().starts_with(scheme));
        let own = if is_uri { self.conn_parameters().encode() } else { self.conninfo().to_string() };
        match added.encode() {
            added if added.is_empty() => own,
            added => format!("{own} {added}"),
        }
    }

    /// The connection, made if there is none, for the caller's own statements. All other calls of this object
    /// wait until the guard is dropped.
    ///
    /// # Errors
    /// [`PostgresError::Connection`], or [`PostgresError::ReconnectForbidden`].
    fn connect(
        &self,
    ) -> impl Future<Output = Result<ConnectionGuard<'_, Self::Connection>, PostgresError>> + Send {
        self.reconnecting().connect()
    }

    /// Asks the server whether the connection works. Returns false if there was no connection, or if it
    /// turned out to be lost or the server answered with an error; the object then has no connection any
    /// more. Makes no other connection.
    ///
    /// # Errors
    /// [`PostgresError::ReconnectForbidden`] if the connection is lost and must not be replaced.
    fn check_connection(&self) -> impl Future<Output = Result<bool, PostgresError>> + Send {
        self.reconnecting().check(Self::CHECK_QUERY)
    }

    /// Whether the object has a connection, as far as it knows. No round trip.
    fn has_connection(&self) -> impl Future<Output = bool> + Send {
        self.reconnecting().has_connection()
    }

    /// Says goodbye to the server and closes the connection, if there is one. The next call makes another.
    fn close(&self) -> impl Future<Output = ()> + Send {
        self.reconnecting().close()
    }

    /// The server's version, which the server reported when the connection was made. No round trip.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    fn server_version(&self) -> impl Future<Output = Result<ServerVersion, PostgresError>> + Send {
        async {
            let mut guard = self.reconnecting().connect().await?;
            guard.connection().server_version().map_err(PostgresError::Connection)
        }
    }

    /// The server's version as text: `15.18`, `9.6.24`, `19devel`. No round trip.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    fn server_txt_version(&self) -> impl Future<Output = Result<String, PostgresError>> + Send {
        async {
            let mut guard = self.reconnecting().connect().await?;
            Ok(versions(guard.connection())?.1)
        }
    }

    /// The server's major version as text: `15`, `9.6`. No round trip.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    fn server_major_version(&self) -> impl Future<Output = Result<String, PostgresError>> + Send {
        async { Ok(major_version(&self.server_txt_version().await?)) }
    }

    /// The oldest version that is supported, as text.
    #[must_use]
    fn minimal_txt_version(&self) -> String {
        Self::MINIMAL_VERSION.to_string()
    }

    /// A version number as text: 90624 is `9.6.24`, 150018 is `15.18`.
    ///
    /// From 10 on the middle pair of digits has no meaning. If it is not 0, a warning is logged and the pair
    /// ignored.
    #[must_use]
    fn int_version_to_string_version(num: u32) -> String
    where
        Self: Sized,
    {
        let (major, middle, patch) = (num / 10_000, num / 100 % 100, num % 100);
        if major < 10 {
            return format!("{major}.{middle}.{patch}");
        }
        if middle != 0 {
            log::warn!("unexpected version number {num}");
        }
        format!("{major}.{patch}")
    }

    /// Whether the server is at least [`MINIMAL_VERSION`](Self::MINIMAL_VERSION). No round trip.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    fn is_minimal_postgres_version(&self) -> impl Future<Output = Result<bool, PostgresError>> + Send {
        async { Ok(self.server_version().await? >= Self::MINIMAL_VERSION) }
    }

    /// The status of the server, in one round trip. The call never fails: the status itself says which values
    /// are missing, and why.
    fn fetch_remote_status(&self) -> impl Future<Output = Self::RemoteStatus> + Send;

    /// The status that [`fetch_remote_status`](Self::fetch_remote_status) returned when this member was first
    /// called.
    fn get_remote_status(&self) -> impl Future<Output = Arc<Self::RemoteStatus>> + Send {
        async {
            let mut remembered = self.remembered().lock().await;
            if let Some(status) = remembered.as_ref() {
                return Arc::clone(status);
            }
            let status = Arc::new(self.fetch_remote_status().await);
            *remembered = Some(Arc::clone(&status));
            status
        }
    }

    /// Makes the next [`get_remote_status`](Self::get_remote_status) ask the server again.
    fn reset_remote_status(&self) -> impl Future<Output = ()> + Send {
        async { *self.remembered().lock().await = None }
    }
}

/// The same parameters in the order of their keywords.
pub(super) fn sorted(parameters: &ConnInfo) -> ConnInfo {
    let mut list: Vec<(&str, &str)> = parameters.iter().collect();
    list.sort_unstable();
    let mut sorted = ConnInfo::new();
    for (keyword, value) in list {
        // Cannot fail: the parameters come from a valid `ConnInfo`.
        let _ = sorted.set(keyword, value);
    }
    sorted
}

/// The server's version and its text, which the server reported when the connection was made.
pub(super) fn versions(connection: &Connection) -> Result<(ServerVersion, String), PostgresError> {
    let version = connection.server_version().map_err(PostgresError::Connection)?;
    let parameter = connection.parameters().get("server_version").unwrap_or_default();
    Ok((version, txt_version(version, parameter)))
}

/// `15.18` of the parameter `15.18 (Debian 15.18-0+deb12u1)`. EnterpriseDB's servers up to 10 add a part,
/// which is dropped.
fn txt_version(version: ServerVersion, parameter: &str) -> String {
    let word = parameter.split_whitespace().next().unwrap_or_default();
    let parts = if version.major() < 10 { 3 } else { 2 };
    word.split('.').take(parts).collect::<Vec<_>>().join(".")
}

/// `15` of `15.18`, `9.6` of `9.6.24`, `19` of `19devel`.
fn major_version(txt_version: &str) -> String {
    match txt_version.rsplit_once('.') {
        Some((major, last)) if last.bytes().all(|b| b.is_ascii_digit()) => major.into(),
        _ => {
            let end =
                txt_version.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(txt_version.len());
            txt_version.get(..end).unwrap_or_default().into()
        }
    }
}

/// The first line of an error with its causes, as a status shows it.
pub(super) fn first_line(error: &dyn core::error::Error) -> String {
    WithCauses(error).to_string().lines().next().unwrap_or_default().trim().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_shown_with_the_parts_that_barman_shows() {
        for (parameter, text, major) in [
            ("15.18 (Debian 15.18-0+deb12u1)", "15.18", "15"),
            ("10.23", "10.23", "10"),
            ("10.23.33", "10.23", "10"),
            ("9.6.24", "9.6.24", "9.6"),
            ("9.6.23.31", "9.6.23", "9.6"),
            ("19devel", "19devel", "19"),
            ("16beta2", "16beta2", "16"),
        ] {
            let version = parameter.parse().unwrap();
            assert_eq!(txt_version(version, parameter), text);
            assert_eq!(major_version(text), major, "{text}");
        }
    }

    #[test]
    fn connection_strings_are_sorted_and_parse_back() {
        let parameters: ConnInfo = "user=u host='/a b' dbname=d".parse().unwrap();
        assert_eq!(sorted(&parameters).encode(), "dbname=d host='/a b' user=u");
        type Class = crate::postgres::PostgreSQLConnection;
        let encoded = Class::encode_dsn(&parameters);
        assert_eq!(Class::parse_dsn(&encoded).unwrap(), sorted(&parameters));
        let error = Class::parse_dsn("password").unwrap_err();
        assert_eq!(error.class(), "ConninfoException");
        for (num, text) in [(90_624, "9.6.24"), (0, "0.0.0"), (100_023, "10.23"), (102_200, "10.0")] {
            assert_eq!(Class::int_version_to_string_version(num), text);
        }
        let class = Class::new("host=h").unwrap();
        assert_eq!(class.minimal_txt_version(), "9.6.0");
        assert_eq!(
            class.get_connection_string(Some("a b")),
            "host=h application_name='a b' options=-csearch_path="
        );
        let uri = Class::new("postgresql://h/d?options=-cx%3D1").unwrap();
        assert_eq!(uri.get_connection_string(None), "host=h dbname=d options=-cx=1");
    }
}
