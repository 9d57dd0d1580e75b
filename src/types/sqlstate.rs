use core::fmt;
use core::str::FromStr;

/// A SQLSTATE: five digits or upper-case letters that classify an error.
///
/// The constants are the codes that replication and backup meet. Any other code is a value of this type too.
/// Source: PostgreSQL's appendix "PostgreSQL Error Codes".
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SqlState([u8; 5]);

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $code:literal;)*) => {
        impl SqlState {
            $($(#[$doc])* pub const $name: Self = Self(*$code);)*
        }
    };
}

codes! {
    /// `00000`: success.
    SUCCESSFUL_COMPLETION = b"00000";
    /// `08P01`: the peer broke the protocol.
    PROTOCOL_VIOLATION = b"08P01";
    /// `0A000`: not supported, for example SQL on a physical replication connection.
    FEATURE_NOT_SUPPORTED = b"0A000";
    /// `22023`: a parameter has a value that is not allowed.
    INVALID_PARAMETER_VALUE = b"22023";
    /// `25001`: not allowed inside a transaction block.
    ACTIVE_SQL_TRANSACTION = b"25001";
    /// `28000`: no such role, or no line in pg_hba.conf.
    INVALID_AUTHORIZATION = b"28000";
    /// `28P01`: wrong password.
    INVALID_PASSWORD = b"28P01";
    /// `3D000`: no such database.
    UNDEFINED_DATABASE = b"3D000";
    /// `42501`: permission denied.
    INSUFFICIENT_PRIVILEGE = b"42501";
    /// `42601`: syntax error.
    SYNTAX_ERROR = b"42601";
    /// `42602`: not a valid name, for example of a slot.
    INVALID_NAME = b"42602";
    /// `42704`: no such object, for example a slot or a setting.
    UNDEFINED_OBJECT = b"42704";
    /// `42710`: the object exists already.
    DUPLICATE_OBJECT = b"42710";
    /// `53300`: too many connections, also `max_wal_senders` reached.
    TOO_MANY_CONNECTIONS = b"53300";
    /// `53400`: a configured limit is reached, for example `max_replication_slots`.
    CONFIGURATION_LIMIT_EXCEEDED = b"53400";
    /// `55000`: the object is not in the state that the command needs.
    OBJECT_NOT_IN_PREREQUISITE_STATE = b"55000";
    /// `55006`: the object is in use, for example a slot by another receiver.
    OBJECT_IN_USE = b"55006";
    /// `57014`: the statement was cancelled.
    QUERY_CANCELED = b"57014";
    /// `57P01`: the server shuts down or an administrator ended the session.
    ADMIN_SHUTDOWN = b"57P01";
    /// `57P02`: the server ends after a crash of another session.
    CRASH_SHUTDOWN = b"57P02";
    /// `57P03`: the server is starting up or shutting down.
    CANNOT_CONNECT_NOW = b"57P03";
    /// `58P01`: a file is missing, for example a WAL segment that was removed.
    UNDEFINED_FILE = b"58P01";
    /// `XX000`: internal error; the walsender uses it for positions it cannot serve.
    INTERNAL_ERROR = b"XX000";
    /// `XX001`: data are corrupted, for example page checksums of a base backup.
    DATA_CORRUPTED = b"XX001";
}

impl SqlState {
    /// The code with these five bytes, or `None` if they are not digits and upper-case letters.
    #[must_use]
    pub fn from_bytes(code: &[u8]) -> Option<Self> {
        let code: [u8; 5] = code.try_into().ok()?;
        let valid = code.iter().all(|b| b.is_ascii_digit() || b.is_ascii_uppercase());
        valid.then_some(Self(code))
    }

    /// The five characters.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // The bytes were checked to be ASCII when the value was made.
        core::str::from_utf8(&self.0).unwrap_or("XX000")
    }

    /// The first two characters: the class of the condition, such as `08` for connection exceptions.
    #[must_use]
    pub fn class(&self) -> &str {
        self.as_str().get(..2).unwrap_or("XX")
    }
}

impl fmt::Display for SqlState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for SqlState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SqlState({})", self.as_str())
    }
}

/// The text is not a SQLSTATE: five digits or upper-case letters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParseSqlStateError(());

impl fmt::Display for ParseSqlStateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a SQLSTATE: expected five digits or upper-case letters")
    }
}

impl core::error::Error for ParseSqlStateError {}

impl FromStr for SqlState {
    type Err = ParseSqlStateError;

    fn from_str(text: &str) -> Result<Self, ParseSqlStateError> {
        Self::from_bytes(text.as_bytes()).ok_or(ParseSqlStateError(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn only_five_digits_or_upper_case_letters_are_a_code() {
        let code: SqlState = "28P01".parse().unwrap();
        assert_eq!(
            (code, code.to_string().as_str(), code.class()),
            (SqlState::INVALID_PASSWORD, "28P01", "28")
        );
        for text in ["", "28P0", "28P011", "28p01", "28 01", "é8P1"] {
            assert_eq!(text.parse::<SqlState>(), Err(ParseSqlStateError(())), "{text:?}");
        }
    }
}
